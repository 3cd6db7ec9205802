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
