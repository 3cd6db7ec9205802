//! A follower whose log parts from its leader's: where it is cut.

use highwater_base::Offset;

use crate::env::Env;
use crate::{Effect, EpochEnd, Weakened, divergence_point};

use super::{Follower, State};

impl Follower {
    /// The leader's answer about our last epoch does not reach our end.
    pub(super) fn diverging(&mut self, leader: EpochEnd, env: &mut Env<'_>) {
        let to = if env.weakened(Weakened::CutsAtHighWatermark) {
            *env.high_watermark
        } else {
            let own = env.log.epoch_end(leader.epoch);
            divergence_point(leader, own, *env.high_watermark, env.log.log_end())
        };
        self.cut(to.max(env.log.log_start()), env);
    }

    /// The leader does not have what we asked for.
    pub(super) fn out_of_range(&mut self, leader_start: Offset, leader_end: Offset, env: &mut Env<'_>) {
        let end = env.log.log_end();
        if leader_end < end {
            if leader_end < env.log.log_start() {
                self.restart(leader_end, env);
            } else {
                self.cut(leader_end, env); // after an unclean election
            }
        } else if leader_start > end {
            self.restart(leader_start, env);
        } else {
            let at = env.now.plus(env.settings.fetch_backoff);
            self.state = State::AfterSync { needs: Offset::ZERO, at };
        }
    }

    /// The cut that was asked for is done.
    pub(crate) fn log_cut(&mut self, env: &mut Env<'_>) {
        if let State::Cutting { restart, at } = self.state {
            if let Some(start) = restart {
                *env.high_watermark = start;
                env.say(Effect::SetHighWatermark(start));
            }
            self.state = State::AfterSync { needs: Offset::ZERO, at };
        }
        self.maybe_fetch(env);
    }

    fn cut(&mut self, to: Offset, env: &mut Env<'_>) {
        let before = *env.high_watermark;
        let committed_lost = (to < before).then_some(before);
        if committed_lost.is_some() {
            *env.high_watermark = to;
        }
        // A cut at the end takes no bytes, and at most an epoch without records; should it take nothing, the next
        // fetch gets the same answer, so it is not hurried.
        let at = if to < env.log.log_end() { env.now } else { env.now.plus(env.settings.fetch_backoff) };
        self.state = State::Cutting { restart: None, at };
        env.say(Effect::Truncate { to, committed_lost });
    }

    fn restart(&mut self, at: Offset, env: &mut Env<'_>) {
        self.state = State::Cutting { restart: Some(at), at: env.now };
        env.say(Effect::RestartAt(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;
    use crate::{Event, FetchAnswer};
    use highwater_base::LeaderEpoch;

    fn following(records: i64, high: i64) -> Rig {
        let mut rig = Rig::new(records, 1);
        rig.lead(2, &[1, 2]);
        rig.answered(
            1,
            FetchAnswer::Records {
                high_watermark: Offset::new(high),
                log_start: Offset::ZERO,
                log_end: Offset::new(records),
                any: false,
            },
        );
        rig
    }

    fn end(epoch: i32, end: i64) -> EpochEnd {
        EpochEnd { epoch: LeaderEpoch::new(epoch), end: Offset::new(end) }
    }

    #[test]
    fn a_diverging_follower_is_cut_where_the_logs_part_and_keeps_its_high_watermark() {
        let mut rig = following(6, 2);
        let effects = rig.answered(2, FetchAnswer::Diverging(end(0, 4)));
        assert_eq!(effects, [Effect::Truncate { to: Offset::new(4), committed_lost: None }]);
        let effects = rig.tell(Event::LogCut);
        assert!(
            matches!(effects[..], [Effect::Fetch { fetch, at }] if fetch.offset == Offset::new(4) && at == rig.now)
        );
        assert_eq!(rig.high(), 2);
    }

    #[test]
    fn a_cut_below_the_high_watermark_is_counted_and_told() {
        // Rule 9.
        let mut rig = following(6, 5);
        let effects = rig.answered(2, FetchAnswer::Diverging(end(0, 3)));
        assert_eq!(effects, [Effect::Truncate { to: Offset::new(3), committed_lost: Some(Offset::new(5)) }]);
        assert_eq!((rig.high(), rig.replica.committed_losses()), (3, 1));
    }

    #[test]
    fn a_cut_that_takes_nothing_is_not_hurried() {
        let mut rig = following(6, 2);
        rig.answered(2, FetchAnswer::Diverging(end(0, 6)));
        let effects = rig.tell(Event::LogCut);
        assert!(matches!(effects[..], [Effect::Fetch { at, .. }] if at > rig.now));
    }

    #[test]
    fn a_leader_that_knows_nothing_of_our_epochs_sends_us_back_to_the_high_watermark() {
        let mut rig = following(6, 2);
        rig.answered(2, FetchAnswer::Diverging(EpochEnd::UNDEFINED));
        assert_eq!(rig.log.end, 2);
    }

    #[test]
    fn a_follower_below_the_leader_s_start_begins_anew_there() {
        // R28: start <= high watermark <= end, always.
        let mut rig = following(6, 2);
        let range =
            |start, end| FetchAnswer::OutOfRange { log_start: Offset::new(start), log_end: Offset::new(end) };
        assert_eq!(rig.answered(2, range(20, 30)), [Effect::RestartAt(Offset::new(20))]);
        let effects = rig.tell(Event::LogCut);
        assert!(effects.contains(&Effect::SetHighWatermark(Offset::new(20))));
        assert_eq!((rig.log.start, rig.high(), rig.log.end), (20, 20, 20));
    }

    #[test]
    fn a_follower_beyond_an_uncleanly_elected_leader_is_cut_to_its_end() {
        let mut rig = following(6, 5);
        let range = FetchAnswer::OutOfRange { log_start: Offset::ZERO, log_end: Offset::new(4) };
        let effects = rig.answered(2, range);
        assert_eq!(effects, [Effect::Truncate { to: Offset::new(4), committed_lost: Some(Offset::new(5)) }]);
    }
}
