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
