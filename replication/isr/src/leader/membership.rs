//! Who is put into the ISR and who is put out. One change at a time; the authority decides.

use std::time::Duration;

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch};

use crate::env::Env;
use crate::{Assignment, Effect, Isr, IsrProposal, IsrRefusal, Weakened};

use super::Leader;

/// The pause before a proposal that got no answer is made again.
const PROPOSE_AGAIN: Duration = Duration::from_secs(1);

impl Leader {
    /// The record was told again within this leadership: another ISR, other replicas, other facts about brokers.
    pub(crate) fn assigned_again(&mut self, assignment: &Assignment, env: &mut Env<'_>) {
        if assignment.partition_epoch > self.partition_epoch {
            self.partition_epoch = assignment.partition_epoch;
            self.isr.become_stable(assignment.isr.clone());
            self.propose_again_at = None;
        }
        self.set_replicas(assignment, env);
        self.move_high_watermark(env);
    }

    /// A follower has fetched: may it join? It must hold everything committed, which may be more than this
    /// leader's high watermark says until the epoch's start is committed (KAFKA-7128).
    pub(super) fn maybe_expand(&mut self, id: BrokerId, env: &mut Env<'_>) {
        if self.isr.is_pending() || self.isr.committed().contains(&id) {
            return;
        }
        let Some(progress) = self.followers.get(&id) else { return };
        let from = if env.weakened(Weakened::JoinsBeforeEpochStart) {
            *env.high_watermark
        } else {
            (*env.high_watermark).max(self.epoch_start)
        };
        if progress.eligible() && progress.counted_end().is_some_and(|end| end >= from) {
            let committed = self.isr.committed().to_vec();
            self.isr = Isr::PendingExpand { committed, adding: id };
            self.propose(env);
        }
    }

    /// Time has passed: members that lag are put out, unanswered proposals made again.
    pub(crate) fn timer(&mut self, env: &mut Env<'_>) {
        if self.propose_again_at.is_some_and(|at| env.now >= at) {
            self.propose_again_at = None;
            self.propose(env);
        }
        if env.now >= self.check_at {
            self.check_at = env.now.plus(env.settings.lag_time_max / 2);
            self.maybe_shrink(env);
        }
        // Somebody outside the ISR who was waited for may have fallen too far behind.
        self.move_high_watermark(env);
    }

    fn maybe_shrink(&mut self, env: &mut Env<'_>) {
        if self.isr.is_pending() {
            return;
        }
        let (end, lag) = (env.log.log_end(), env.settings.lag_time_max);
        let behind = |id: &BrokerId| self.followers.get(id).is_none_or(|p| !p.caught_up(end, lag, env.now));
        let committed = self.isr.committed().to_vec();
        let removing: Vec<_> = committed.iter().copied().filter(|id| *id != env.me && behind(id)).collect();
        if !removing.is_empty() {
            self.isr = Isr::PendingShrink { committed, removing };
            self.propose(env);
        }
    }

    /// The authority committed a proposal.
    pub(crate) fn isr_committed(
        &mut self,
        epochs: (LeaderEpoch, PartitionEpoch),
        isr: Vec<BrokerId>,
        env: &mut Env<'_>,
    ) {
        let (leader_epoch, partition_epoch) = epochs;
        if leader_epoch != self.epoch || partition_epoch < self.partition_epoch {
            return; // of another leadership, or overtaken by the record itself
        }
        if partition_epoch == self.partition_epoch {
            // The record was told before this answer came, or nothing had to change.
            let proposed = self.isr.proposed();
            let same = proposed.len() == isr.len() && proposed.iter().all(|id| isr.contains(id));
            if !same {
                return;
            }
        }
        self.partition_epoch = partition_epoch;
        self.isr.become_stable(isr);
        self.propose_again_at = None;
        self.move_high_watermark(env);
    }

    /// The authority did not commit a proposal.
    pub(crate) fn isr_refused(
        &mut self,
        epochs: (LeaderEpoch, PartitionEpoch),
        why: IsrRefusal,
        env: &mut Env<'_>,
    ) {
        if epochs != (self.epoch, self.partition_epoch) || !self.isr.is_pending() {
            return;
        }
        match why {
            IsrRefusal::Rejected => {
                let committed = self.isr.committed().to_vec();
                self.isr.become_stable(committed);
                self.move_high_watermark(env);
            }
            IsrRefusal::Outdated => {}
            IsrRefusal::Unavailable => self.propose_again_at = Some(env.now.plus(PROPOSE_AGAIN)),
        }
    }

    fn propose(&self, env: &mut Env<'_>) {
        let with_epoch = |id: BrokerId| {
            (id, self.followers.get(&id).map_or(BrokerEpoch::NONE, |progress| progress.fetched_epoch()))
        };
        env.say(Effect::ProposeIsr(IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: self.isr.proposed().into_iter().map(with_epoch).collect(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;
    use crate::rig::{Rig, ids};

    fn leader_of_three() -> Rig {
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1, 2, 3]);
        rig.fetched(2, 0);
        rig.fetched(3, 0);
        rig.append(10);
        rig.fetched(2, 10);
        rig
    }

    fn lag(rig: &mut Rig) -> Vec<Effect> {
        rig.now = rig.now.plus(Duration::from_secs(31));
        rig.fetched(2, 10);
        rig.tell(Event::Timer)
    }

    fn committed(rig: &mut Rig, isr: &[i32]) -> Vec<Effect> {
        let (leader_epoch, partition_epoch) = rig.epochs();
        rig.tell(Event::IsrCommitted { leader_epoch, partition_epoch: partition_epoch.next(), isr: ids(isr) })
    }

    #[test]
    fn a_member_that_lags_is_put_out_and_counts_until_it_is() {
        // R35 and R31.
        let mut rig = leader_of_three();
        let effects = lag(&mut rig);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::ProposeIsr(p) if p.isr.len() == 2)));
        assert_eq!(rig.high(), 0);
        committed(&mut rig, &[1, 2]);
        assert_eq!(rig.high(), 10, "evaluated at once, not with the next fetch");
    }

    #[test]
    fn one_change_is_in_flight_at_a_time() {
        let mut rig = leader_of_three();
        lag(&mut rig);
        rig.now = rig.now.plus(Duration::from_secs(100));
        let effects = rig.tell(Event::Timer);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::ProposeIsr(_))));
    }

    #[test]
    fn a_refused_change_falls_back_to_the_committed_set() {
        let mut rig = leader_of_three();
        lag(&mut rig);
        let (leader_epoch, partition_epoch) = rig.epochs();
        rig.tell(Event::IsrRefused { leader_epoch, partition_epoch, refusal: IsrRefusal::Rejected });
        assert_eq!(rig.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2, 3]) }));
        assert_eq!(rig.high(), 0);
    }

    #[test]
    fn a_proposal_without_an_answer_is_made_again_the_same() {
        let mut rig = leader_of_three();
        let first = lag(&mut rig);
        let (leader_epoch, partition_epoch) = rig.epochs();
        rig.tell(Event::IsrRefused { leader_epoch, partition_epoch, refusal: IsrRefusal::Unavailable });
        rig.now = rig.now.plus(PROPOSE_AGAIN);
        assert!(rig.replica.poll_timeout().is_some_and(|at| at <= rig.now));
        let second = rig.tell(Event::Timer);
        let proposal = |effects: &[Effect]| {
            effects.iter().find(|effect| matches!(effect, Effect::ProposeIsr(_))).cloned()
        };
        assert!(proposal(&first).is_some() && proposal(&first) == proposal(&second));
    }

    #[test]
    fn the_answer_and_the_record_may_come_in_any_order() {
        // R38.
        let mut a = leader_of_three();
        lag(&mut a);
        let answer = |rig: &Rig| {
            let (leader_epoch, partition_epoch) = rig.epochs();
            Event::IsrCommitted { leader_epoch, partition_epoch, isr: ids(&[1, 2]) }
        };
        let mut b = leader_of_three();
        lag(&mut b);
        committed(&mut a, &[1, 2]);
        a.retell(1, &[1, 2], |_| ());
        b.retell(1, &[1, 2], |_| ());
        let late = answer(&b);
        b.tell(late);
        assert_eq!(a.replica, b.replica);
        assert_eq!(a.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2]) }));
    }

    #[test]
    fn an_answer_of_another_leadership_is_dropped() {
        let mut rig = leader_of_three();
        lag(&mut rig);
        let (leader_epoch, partition_epoch) = rig.epochs();
        rig.lead(1, &[1, 2, 3]);
        rig.tell(Event::IsrCommitted {
            leader_epoch,
            partition_epoch: partition_epoch.next(),
            isr: ids(&[1]),
        });
        assert_eq!(rig.replica.isr(), Some(&Isr::Stable { committed: ids(&[1, 2, 3]) }));
    }
}
