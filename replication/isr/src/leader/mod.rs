//! A leader: who follows it, what is committed, what it may acknowledge.

mod fetched;
mod membership;

use std::collections::BTreeMap;

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset, PartitionEpoch};

use crate::env::Env;
use crate::high_watermark::{Committed, advance};
use crate::progress::Progress;
use crate::{Assignment, Effect, Isr, Weakened};

/// One leadership.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    pub(crate) epoch: LeaderEpoch,
    /// The log end when this leadership began; fixed.
    pub(crate) epoch_start: Offset,
    /// The version of the record that `isr` is about; never falls.
    partition_epoch: PartitionEpoch,
    /// How many replicas the partition has, this one included.
    replicas: usize,
    pub(crate) isr: Isr,
    /// All replicas but this one.
    followers: BTreeMap<BrokerId, Progress>,
    /// What was last said to be acknowledged; never falls.
    acknowledged: Offset,
    /// When members are next checked for their lag.
    check_at: Mono,
    /// When a proposal that got no answer is made again.
    propose_again_at: Option<Mono>,
    /// Until when the authority vouches for this leadership; none as long as it never has.
    lease: Option<Mono>,
}

impl Leader {
    pub(crate) fn begin(assignment: &Assignment, env: &mut Env<'_>) -> Leader {
        if env.log.latest_epoch() < assignment.leader_epoch {
            env.say(Effect::AssignEpoch(assignment.leader_epoch));
        }
        let mut leader = Leader {
            epoch: assignment.leader_epoch,
            epoch_start: env.log.log_end(),
            partition_epoch: assignment.partition_epoch,
            replicas: assignment.replicas.len(),
            isr: Isr::Stable { committed: assignment.isr.clone() },
            followers: BTreeMap::new(),
            acknowledged: env.log.counted_end(),
            check_at: env.now.plus(env.settings.lag_time_max / 2),
            propose_again_at: None,
            lease: None,
        };
        leader.set_replicas(assignment, env);
        leader.move_high_watermark(env);
        leader
    }

    /// The log moved: more may be acknowledged, more may be committed.
    pub(crate) fn log_moved(&mut self, env: &mut Env<'_>) {
        if self.lease_ran_out(env.now) {
            return;
        }
        let counted = env.log.counted_end();
        if counted > self.acknowledged {
            self.acknowledged = counted;
            env.say(Effect::Acknowledge { up_to: counted });
        }
        self.move_high_watermark(env);
    }

    pub(crate) fn lease_extended(&mut self, until: Mono, env: &mut Env<'_>) {
        self.lease = self.lease.max(Some(until));
        self.log_moved(env);
    }

    /// When something is due that no event announces.
    pub(crate) fn timeout(&self) -> Option<Mono> {
        if self.followers.is_empty() {
            return None;
        }
        Some(self.propose_again_at.map_or(self.check_at, |at| at.min(self.check_at)))
    }

    /// How many members acks=all asks for: `min.insync.replicas`, but no more than there are replicas.
    pub(crate) fn needed(&self, min_insync: usize) -> usize {
        min_insync.min(self.replicas)
    }

    /// Evaluates the high watermark; called whenever anything that it depends on has changed.
    pub(super) fn move_high_watermark(&mut self, env: &mut Env<'_>) {
        if self.lease_ran_out(env.now) {
            return;
        }
        let leader_end = if env.weakened(Weakened::LeaderCountsUnsynced) {
            env.log.log_end()
        } else {
            env.log.counted_end()
        };
        let others: Vec<Option<Offset>> = self
            .followers
            .iter()
            .filter(|(id, progress)| self.counts(**id, progress, env))
            .map(|(_, progress)| progress.counted_end())
            .collect();
        let facts = Committed {
            high_watermark: *env.high_watermark,
            leader_end,
            in_sync: self.isr.committed().len(),
            needed: if env.weakened(Weakened::HighWatermarkBelowMinIsr) {
                1
            } else {
                self.needed(env.settings.min_insync)
            },
            others: &others,
        };
        let to = advance(&facts);
        env.raise_high_watermark(to);
    }

    /// Whether what is committed must be on this follower: it may be in the ISR; or it is about to join, and with a
    /// high watermark that does not wait for it, it never would (kafka.md 5.4).
    fn counts(&self, id: BrokerId, progress: &Progress, env: &Env<'_>) -> bool {
        if env.weakened(Weakened::RemovedMemberUncounted)
            && self.isr.is_pending()
            && !self.isr.proposed().contains(&id)
        {
            return false;
        }
        let member = if env.weakened(Weakened::PendingMemberUncounted) {
            self.isr.committed().contains(&id)
        } else {
            self.isr.may_hold(id)
        };
        let about_to_join = || {
            progress.counted_end().is_some()
                && progress.eligible()
                && progress.caught_up(env.log.log_end(), env.settings.lag_time_max, env.now)
        };
        member || (!env.weakened(Weakened::PendingMemberUncounted) && about_to_join())
    }

    fn lease_ran_out(&self, now: Mono) -> bool {
        self.lease.is_some_and(|until| now >= until)
    }

    /// Takes over the replicas of a record: those that are new begin with nothing known.
    fn set_replicas(&mut self, assignment: &Assignment, env: &Env<'_>) {
        self.replicas = assignment.replicas.len();
        self.followers.retain(|id, _| assignment.replicas.contains(id));
        for id in assignment.replicas.iter().filter(|id| **id != env.me) {
            let peer = assignment.peers.iter().find(|peer| peer.id == *id);
            match self.followers.get_mut(id) {
                Some(progress) => progress.update(peer),
                None => {
                    let progress = Progress::new(peer, assignment.isr.contains(id), env.now);
                    self.followers.insert(*id, progress);
                }
            }
        }
    }
}
