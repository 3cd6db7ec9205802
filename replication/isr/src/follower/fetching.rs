//! A follower's fetches: when the next one goes, what becomes of its answer.

use crate::env::Env;
use crate::{Effect, FetchAnswer, FetchRequest, Weakened};
use highwater_base::{LeaderEpoch, Offset};

use super::{Follower, LeaderFacts, State};

impl Follower {
    /// The log moved: an append is done, or what a fetch acknowledges is counted now.
    pub(crate) fn log_moved(&mut self, env: &mut Env<'_>) {
        if let State::Appending { leader } = self.state {
            self.taken(leader, env);
        }
        self.maybe_fetch(env);
    }

    /// A fetch was answered. An answer of another epoch, or to another fetch, is dropped (KAFKA-18991, 7786).
    pub(crate) fn answered(
        &mut self,
        epoch: LeaderEpoch,
        request: u64,
        answer: FetchAnswer,
        env: &mut Env<'_>,
    ) {
        let offset = match self.state {
            State::Fetching { offset } if request == self.request && epoch == self.epoch => offset,
            _ if env.weakened(Weakened::AnyEpochAnswered) && !matches!(self.state, State::Cutting { .. }) => {
                env.log.log_end()
            }
            _ => return,
        };
        match answer {
            FetchAnswer::Records { high_watermark, log_start, log_end, any } => {
                let leader = LeaderFacts { high_watermark, log_start, log_end };
                self.aligned = true;
                if any && offset == env.log.log_end() {
                    self.state = State::Appending { leader };
                    env.say(Effect::Append { leader_epoch: epoch });
                } else {
                    self.taken(leader, env);
                }
            }
            FetchAnswer::Diverging(end) => self.diverging(end, env),
            FetchAnswer::OutOfRange { log_start, log_end } => self.out_of_range(log_start, log_end, env),
            FetchAnswer::Fenced => self.state = State::Fenced,
            FetchAnswer::UnknownEpoch | FetchAnswer::NotLeader | FetchAnswer::Failed => {
                let at = env.now.plus(env.settings.fetch_backoff);
                self.state = State::AfterSync { needs: Offset::ZERO, at };
            }
        }
        self.maybe_fetch(env);
    }

    /// The log did not take an answer's records.
    pub(crate) fn append_refused(&mut self, env: &mut Env<'_>) {
        if let State::Appending { .. } = self.state {
            let at = env.now.plus(env.settings.fetch_backoff);
            self.state = State::AfterSync { needs: Offset::ZERO, at };
            self.maybe_fetch(env);
        }
    }

    /// An answer's records are in the log (or there were none).
    fn taken(&mut self, leader: LeaderFacts, env: &mut Env<'_>) {
        let end = env.log.log_end();
        env.raise_high_watermark(leader.high_watermark.min(end));
        let start = leader.log_start.min(*env.high_watermark);
        if start > env.log.log_start() {
            env.say(Effect::Trim { to: start });
        }
        // Behind, the next fetch goes at once, and says what is synced by then. At the leader's end it would wait
        // there for records while the leader waits for our sync: so it goes after the sync.
        let behind = end < leader.log_end && env.settings.leader_reads_synced_end;
        let needs = if behind { Offset::ZERO } else { end };
        self.state = State::AfterSync { needs, at: env.now };
    }

    /// Fetches, if it is time to.
    pub(super) fn maybe_fetch(&mut self, env: &mut Env<'_>) {
        let State::AfterSync { needs, at } = self.state else { return };
        let all = if env.settings.leader_reads_synced_end { Offset::ZERO } else { env.log.log_end() };
        if env.log.counted_end() < needs.max(all) {
            return;
        }
        self.request += 1;
        let offset = env.log.log_end();
        self.state = State::Fetching { offset };
        env.say(Effect::Fetch {
            fetch: FetchRequest {
                leader: self.leader,
                leader_epoch: self.epoch,
                offset,
                last_epoch: env.log.latest_epoch(),
                log_start: env.log.log_start(),
                synced_end: env.log.counted_end(),
                high_watermark: *env.high_watermark,
                request: self.request,
            },
            at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Rig, id};
    use crate::{EpochEnd, Event};

    fn fetch_in(effects: &[Effect]) -> Option<FetchRequest> {
        effects.iter().find_map(|effect| match effect {
            Effect::Fetch { fetch, .. } => Some(*fetch),
            _ => None,
        })
    }

    fn records(high: i64, end: i64) -> FetchAnswer {
        FetchAnswer::Records {
            high_watermark: Offset::new(high),
            log_start: Offset::ZERO,
            log_end: Offset::new(end),
            any: true,
        }
    }

    #[test]
    fn a_follower_fetches_appends_and_follows_the_high_watermark_no_further_than_its_log() {
        let mut rig = Rig::new(3, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        assert_eq!(
            (fetch.leader, fetch.offset, fetch.last_epoch),
            (id(2), Offset::new(3), LeaderEpoch::ZERO)
        );
        let effects = rig.answered(fetch.request, records(9, 9));
        assert_eq!(effects, [Effect::Append { leader_epoch: LeaderEpoch::new(1) }]);
        let effects = rig.append(2);
        assert_eq!(rig.high(), 5);
        assert_eq!(fetch_in(&effects).unwrap().offset, Offset::new(5));
    }

    #[test]
    fn at_the_leader_s_end_the_next_fetch_waits_for_the_sync_it_tells_of() {
        let mut rig = Rig::new(0, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        rig.answered(fetch.request, records(0, 2));
        rig.log.end = 2;
        assert_eq!(fetch_in(&rig.tell(Event::LogMoved)), None);
        rig.log.counted = 2;
        assert_eq!(fetch_in(&rig.tell(Event::LogMoved)).unwrap().synced_end, Offset::new(2));
    }

    #[test]
    fn answers_of_other_epochs_and_other_fetches_are_dropped() {
        // R07, R08.
        let mut rig = Rig::new(3, 1);
        let old = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        let new = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        assert!(new.request > old.request, "the leader is the same, the epoch is not (R05)");
        let cut = FetchAnswer::Diverging(EpochEnd { epoch: LeaderEpoch::ZERO, end: Offset::ZERO });
        assert_eq!(rig.answered(old.request, cut), []);
        let leader_epoch = old.leader_epoch;
        assert_eq!(rig.tell(Event::FetchAnswered { leader_epoch, request: new.request, answer: cut }), []);
        assert_eq!(rig.log.end, 3);
        assert!(!rig.answered(new.request, records(3, 9)).is_empty(), "and it goes on");
    }

    #[test]
    fn no_high_watermark_is_believed_before_the_logs_were_compared() {
        // R14, for pushed ones too.
        let mut rig = Rig::new(6, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        let leader_epoch = fetch.leader_epoch;
        let push = Event::HighWatermarkPushed { leader_epoch, high_watermark: Offset::new(4) };
        rig.tell(push.clone());
        assert_eq!(rig.high(), 0);
        rig.answered(
            fetch.request,
            FetchAnswer::Diverging(EpochEnd { epoch: LeaderEpoch::ZERO, end: Offset::new(2) }),
        );
        rig.tell(push.clone());
        assert_eq!(rig.high(), 0);
        let fetch = fetch_in(&rig.tell(Event::LogCut)).unwrap();
        rig.answered(
            fetch.request,
            FetchAnswer::Records {
                high_watermark: Offset::ZERO,
                log_start: Offset::ZERO,
                log_end: Offset::new(2),
                any: false,
            },
        );
        rig.tell(push);
        assert_eq!(rig.high(), 2);
    }

    #[test]
    fn a_fenced_follower_waits_for_its_next_assignment() {
        let mut rig = Rig::new(3, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        assert_eq!(rig.answered(fetch.request, FetchAnswer::Fenced), []);
        assert_eq!(rig.tell(Event::LogMoved), []);
        assert!(fetch_in(&rig.lead(3, &[1, 3])).is_some());
    }

    #[test]
    fn a_log_that_refuses_records_has_them_fetched_again_after_a_pause() {
        let mut rig = Rig::new(3, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        rig.answered(fetch.request, records(9, 9));
        let effects = rig.tell(Event::AppendRefused);
        assert!(matches!(effects[..], [Effect::Fetch { at, .. }] if at > rig.now));
    }

    #[test]
    fn the_log_start_follows_the_leader_s_but_not_beyond_the_high_watermark() {
        let mut rig = Rig::new(5, 1);
        let fetch = fetch_in(&rig.lead(2, &[1, 2])).unwrap();
        rig.answered(
            fetch.request,
            FetchAnswer::Records {
                high_watermark: Offset::new(3),
                log_start: Offset::new(4),
                log_end: Offset::new(5),
                any: false,
            },
        );
        assert_eq!((rig.log.start, rig.high()), (3, 3));
    }
}
