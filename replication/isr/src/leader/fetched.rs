//! A follower fetches: it is answered, its progress is counted, it may join.

use crate::env::Env;
use crate::{Effect, Fence, FollowerAnswer, FollowerFetch, Weakened};

use super::Leader;

impl Leader {
    pub(crate) fn follower_fetched(&mut self, fetch: &FollowerFetch, env: &mut Env<'_>) {
        let answer = self.judge(fetch, env);
        let counts = matches!(answer, FollowerAnswer::Read { .. })
            || (env.weakened(Weakened::DivergingCounted) && matches!(answer, FollowerAnswer::Diverging(_)));
        if counts {
            let leader_end = env.log.log_end();
            if let Some(progress) = self.followers.get_mut(&fetch.from) {
                progress.fetched(fetch, leader_end, env.now);
            }
            self.move_high_watermark(env);
            self.maybe_expand(fetch.from, env);
        }
        env.say(Effect::Answer { to: fetch.from, request: fetch.request, answer });
    }

    /// What to answer. Only a fetch that gets records counts: a follower that diverges, or asks for what is not
    /// there, holds nothing of ours yet (KAFKA-13141).
    fn judge(&self, fetch: &FollowerFetch, env: &Env<'_>) -> FollowerAnswer {
        if !env.weakened(Weakened::AnyEpochCounted) {
            // A follower's fetch must carry the epoch: one that does not say could be of any.
            if fetch.leader_epoch < self.epoch {
                return FollowerAnswer::Fenced;
            }
            if Fence::check(self.epoch, fetch.leader_epoch) == Fence::Unknown {
                return FollowerAnswer::UnknownEpoch;
            }
        }
        match self.followers.get(&fetch.from) {
            Some(progress) if !progress.is_stale(fetch) => {}
            _ => return FollowerAnswer::NotLeader,
        }
        // Below the log start first: what diverges there is gone anyway (KAFKA-12996).
        if fetch.offset < env.log.log_start() {
            return FollowerAnswer::OutOfRange;
        }
        if fetch.last_epoch.is_some() && !env.weakened(Weakened::NeverCompares) {
            let known = env.log.epoch_end(fetch.last_epoch);
            if !known.is_defined() {
                return FollowerAnswer::OutOfRange;
            }
            if known.epoch < fetch.last_epoch || known.end < fetch.offset {
                return FollowerAnswer::Diverging(known);
            }
        }
        if fetch.offset > env.log.log_end() {
            return FollowerAnswer::OutOfRange;
        }
        FollowerAnswer::Read { from: fetch.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Rig, id, ids};
    use crate::{EpochEnd, Event, Isr};
    use highwater_base::{BrokerEpoch, LeaderEpoch, Offset};

    fn answer_of(effects: &[Effect]) -> FollowerAnswer {
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Answer { answer, .. } => Some(*answer),
            _ => None,
        });
        answer.expect("every fetch is answered")
    }

    #[test]
    fn the_high_watermark_is_the_smallest_end_of_the_isr() {
        let mut rig = Rig::new(0, 2);
        rig.lead(1, &[1, 2, 3]);
        rig.append(10);
        assert_eq!(rig.high(), 0);
        rig.fetched(2, 7);
        assert_eq!(rig.high(), 0, "3 has not been heard in this epoch");
        rig.fetched(3, 4);
        assert_eq!(rig.high(), 4);
        rig.fetched(3, 10);
        assert_eq!(rig.high(), 7);
    }

    #[test]
    fn a_follower_counts_with_what_it_has_synced() {
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1, 2]);
        rig.append(10);
        let fetch = FollowerFetch { synced_end: Some(Offset::new(6)), ..rig.fetch_of(2, 10) };
        rig.tell(Event::FollowerFetched(fetch));
        assert_eq!(rig.high(), 6);
    }

    #[test]
    fn the_leader_counts_with_what_it_has_synced() {
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1, 2]);
        rig.log.end = 10;
        rig.log.counted = 3;
        rig.tell(Event::LogMoved);
        rig.fetched(2, 10);
        assert_eq!(rig.high(), 3);
    }

    #[test]
    fn only_fetches_of_this_epoch_count() {
        // R04, R06.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        let of = |epoch| LeaderEpoch::new(epoch);
        let stale = FollowerFetch { leader_epoch: of(0), ..rig.fetch_of(2, 5) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(stale))), FollowerAnswer::Fenced);
        let unsaid = FollowerFetch { leader_epoch: LeaderEpoch::NONE, ..rig.fetch_of(2, 5) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(unsaid))), FollowerAnswer::Fenced);
        let later = FollowerFetch { leader_epoch: of(2), ..rig.fetch_of(2, 5) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(later))), FollowerAnswer::UnknownEpoch);
        assert_eq!(rig.high(), 0);
        rig.fetched(2, 5);
        assert_eq!(rig.high(), 5);
    }

    #[test]
    fn only_the_present_incarnation_of_a_follower_counts() {
        // R41.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        let old = FollowerFetch { broker_epoch: BrokerEpoch::new(9), ..rig.fetch_of(2, 5) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(old))), FollowerAnswer::NotLeader);
        let newer = FollowerFetch { broker_epoch: BrokerEpoch::new(11), ..rig.fetch_of(2, 5) };
        rig.tell(Event::FollowerFetched(newer));
        assert_eq!(rig.high(), 0, "the metadata does not know that incarnation yet");
    }

    #[test]
    fn a_diverging_fetch_is_told_where_and_does_not_count() {
        // R15.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        rig.append(1);
        let fetch = FollowerFetch { last_epoch: LeaderEpoch::ZERO, ..rig.fetch_of(2, 6) };
        let answer = answer_of(&rig.tell(Event::FollowerFetched(fetch)));
        let known = EpochEnd { epoch: LeaderEpoch::ZERO, end: Offset::new(5) };
        assert_eq!((answer, rig.high()), (FollowerAnswer::Diverging(known), 0));
    }

    #[test]
    fn what_the_leader_does_not_have_is_out_of_range_before_it_diverges() {
        // R13.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1]);
        assert_eq!(rig.high(), 5);
        rig.log.start = 3;
        let below = FollowerFetch { last_epoch: LeaderEpoch::ZERO, ..rig.fetch_of(2, 2) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(below))), FollowerAnswer::OutOfRange);
        assert_eq!(answer_of(&rig.fetched(2, 6)), FollowerAnswer::OutOfRange);
        let strange = FollowerFetch { last_epoch: LeaderEpoch::new(7), ..rig.fetch_of(2, 5) };
        assert_eq!(answer_of(&rig.tell(Event::FollowerFetched(strange))), FollowerAnswer::OutOfRange);
    }

    #[test]
    fn below_min_isr_the_high_watermark_stands_still() {
        // R30.
        let mut rig = Rig::new(0, 2);
        rig.lead(1, &[1]);
        rig.append(4);
        assert_eq!(rig.high(), 0);
        rig.tell(Event::MinInsyncChanged(1));
        assert_eq!(rig.high(), 4);
    }

    #[test]
    fn a_caught_up_follower_joins_and_counts_from_the_proposal_on() {
        // R34.
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1, 2]);
        let effects = rig.fetched(3, 0);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::ProposeIsr(p) if p.isr.len() == 3)));
        rig.append(10);
        rig.fetched(2, 10);
        assert_eq!(rig.high(), 0, "3 may be in already");
        let (leader_epoch, partition_epoch) = rig.epochs();
        rig.tell(Event::IsrCommitted {
            leader_epoch,
            partition_epoch: partition_epoch.next(),
            isr: ids(&[1, 2, 3]),
        });
        rig.fetched(3, 10);
        assert_eq!(rig.high(), 10);
    }

    #[test]
    fn nobody_joins_below_the_epoch_s_start() {
        // R24: the leader's high watermark is 5, its epoch began at 10, 3 is at 6.
        let mut rig = Rig::new(10, 1);
        rig.replica = crate::Replica::new(id(1), crate::ReplicaSettings::default(), Offset::new(5), &rig.log);
        rig.lead(1, &[1, 2]);
        assert_eq!(rig.high(), 5);
        assert!(!rig.replica.is_settled());
        rig.fetched(3, 6);
        assert_eq!(rig.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2]) }));
        rig.fetched(3, 10);
        assert!(rig.replica.isr().is_some_and(Isr::is_pending));
    }

    #[test]
    fn an_ineligible_follower_does_not_join() {
        // R40.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        rig.retell(1, &[1, 2], |assignment| assignment.peers[2].eligible = false);
        rig.fetched(3, 5);
        assert_eq!(rig.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2]) }));
    }

    #[test]
    fn a_new_incarnation_begins_with_nothing_known() {
        // R42.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        rig.fetched(3, 2);
        rig.retell(1, &[1, 2], |assignment| assignment.peers[2].broker_epoch = BrokerEpoch::new(11));
        let fetch = FollowerFetch { broker_epoch: BrokerEpoch::new(11), ..rig.fetch_of(3, 0) };
        rig.tell(Event::FollowerFetched(fetch));
        assert_eq!(rig.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2]) }));
    }
}
