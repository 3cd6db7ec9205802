//! Who names leaders and commits ISR changes: the rules of `replication/control`, in small.

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, PartitionEpoch};
use highwater_isr::{Assignment, Event, IsrRefusal, Peer};

use super::{Cluster, NODES};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Authority {
    pub(super) leader: usize,
    pub(super) leader_epoch: i32,
    pub(super) partition_epoch: i32,
    pub(super) isr: Vec<usize>,
    pub(super) elr: Vec<usize>,
}

impl Cluster {
    pub(super) fn learn(&mut self, at: usize) {
        self.nodes[at].learned = self.authority.partition_epoch;
        let ids = |list: &[usize]| list.iter().map(|id| BrokerId::new(*id as i32)).collect::<Vec<_>>();
        let peer = |at: usize| Peer {
            id: BrokerId::new(at as i32),
            broker_epoch: BrokerEpoch::new(self.nodes[at].broker_epoch),
            eligible: true,
        };
        let assignment = Assignment {
            leader: BrokerId::new(self.authority.leader as i32),
            leader_epoch: LeaderEpoch::new(self.authority.leader_epoch),
            partition_epoch: PartitionEpoch::new(self.authority.partition_epoch),
            replicas: ids(&[0, 1, 2]),
            isr: ids(&self.authority.isr),
            peers: (0..NODES).map(peer).collect(),
        };
        self.tell(at, Event::Assigned(assignment), Mono::ZERO, &[]);
    }

    pub(super) fn decide(&mut self, at: usize) {
        let Some(proposal) = self.nodes[at].proposal.take() else { return };
        let (leader_epoch, partition_epoch) = (proposal.leader_epoch, proposal.partition_epoch);
        let authority = &self.authority;
        let current = authority.leader == at
            && authority.leader_epoch == leader_epoch.get()
            && authority.partition_epoch == partition_epoch.get();
        let same_incarnation = proposal
            .isr
            .iter()
            .all(|(id, epoch)| !epoch.is_some() || self.nodes[id.get() as usize].broker_epoch == epoch.get());
        let refused = |refusal| Event::IsrRefused { leader_epoch, partition_epoch, refusal };
        self.nodes[at].decision = Some(if !current {
            refused(IsrRefusal::Outdated)
        } else if !same_incarnation {
            refused(IsrRefusal::Rejected)
        } else {
            let isr: Vec<usize> = proposal.isr.iter().map(|(id, _)| id.get() as usize).collect();
            self.change_isr(isr, None);
            let partition_epoch = PartitionEpoch::new(self.authority.partition_epoch);
            let isr = proposal.isr.iter().map(|(id, _)| *id).collect();
            Event::IsrCommitted { leader_epoch, partition_epoch, isr }
        });
    }

    /// Another ISR, and the ELR that follows (KIP-966).
    fn change_isr(&mut self, isr: Vec<usize>, lost: Option<usize>) {
        let before = &self.authority;
        let was = |id: &usize| before.isr.contains(id) || before.elr.contains(id);
        let elr = if isr.len() >= self.min_insync {
            Vec::new()
        } else {
            (0..NODES).filter(|id| was(id) && !isr.contains(id) && lost != Some(*id)).collect()
        };
        (self.authority.isr, self.authority.elr) = (isr, elr);
        self.authority.partition_epoch += 1;
    }

    /// Who would lead without `without`.
    pub(super) fn successor(&self, without: usize) -> Option<usize> {
        let mut in_sync = self.authority.isr.iter().filter(|id| **id != without);
        let mut eligible = self.authority.elr.iter().filter(|id| **id != without);
        in_sync.next().or_else(|| eligible.next()).copied()
    }

    /// A node leaves the ISR; if it leads, another one does now. With nobody else it stays.
    pub(super) fn put_out(&mut self, at: usize, lost: bool) {
        let successor = self.successor(at);
        let leads = self.authority.leader == at;
        if successor.is_none() && leads {
            self.authority.partition_epoch += 1;
            self.authority.leader_epoch += 1;
            return;
        }
        let mut isr: Vec<usize> = self.authority.isr.iter().copied().filter(|id| *id != at).collect();
        if leads && isr.is_empty() {
            isr = successor.into_iter().collect();
        }
        self.change_isr(isr, lost.then_some(at));
        if let (true, Some(successor)) = (leads, successor) {
            self.authority.leader = successor;
            self.authority.leader_epoch += 1;
        }
    }
}
