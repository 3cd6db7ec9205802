//! A leader proposes another ISR: compare-and-set on the partition epoch, in Kafka's order of checks.

use highwater_base::{BrokerEpoch, BrokerId};

use crate::election::with_isr;
use crate::{Applied, BrokerState, ControlError, Image, IsrChange, LeaderRecovery};

impl Image {
    pub(super) fn change_isr(&mut self, change: &IsrChange) -> Result<Applied, ControlError> {
        self.check_broker(change.leader, change.leader_broker_epoch)?;
        let (name, partition) = self.find(change.topic, change.index)?;
        if change.leader_epoch > partition.leader_epoch || change.partition_epoch > partition.partition_epoch
        {
            return Err(ControlError::NotController {
                reason: format!(
                    "the leader knows of epochs {} and {}, here they are {} and {}",
                    change.leader_epoch,
                    change.partition_epoch,
                    partition.leader_epoch,
                    partition.partition_epoch
                ),
            });
        }
        let invalid = |reason: String| Err(ControlError::InvalidRequest { reason });
        if change.leader != partition.leader {
            return invalid(format!("Broker {} does not lead {name}-{}.", change.leader, change.index));
        }
        if change.leader_epoch < partition.leader_epoch {
            return Err(ControlError::FencedLeaderEpoch {
                expected: partition.leader_epoch,
                found: change.leader_epoch,
            });
        }
        let proposed: Vec<BrokerId> = change.isr.iter().map(|(id, _)| *id).collect();
        if change.partition_epoch < partition.partition_epoch {
            // A proposal whose answer was lost is asked again: what is so already is done (KAFKA-14144).
            if same_members(&proposed, &partition.isr) && change.recovery == partition.recovery {
                return Ok(Applied::IsrChanged {
                    isr: partition.isr.clone(),
                    partition_epoch: partition.partition_epoch,
                });
            }
            return Err(ControlError::StalePartitionEpoch {
                expected: partition.partition_epoch,
                found: change.partition_epoch,
            });
        }
        for (at, id) in proposed.iter().enumerate() {
            if !partition.replicas.contains(id) || proposed[..at].contains(id) {
                return invalid(format!(
                    "The ISR {proposed:?} must be a set of replicas {:?}.",
                    partition.replicas
                ));
            }
        }
        if !proposed.contains(&change.leader) {
            return invalid(format!("The ISR {proposed:?} lacks the leader {}.", change.leader));
        }
        match (partition.recovery, change.recovery) {
            (_, LeaderRecovery::Recovering) if proposed.len() > 1 => {
                return invalid("A leader that recovers is alone in its ISR.".to_owned());
            }
            (LeaderRecovery::Recovered, LeaderRecovery::Recovering) => {
                return invalid("A leader that has recovered does not go back.".to_owned());
            }
            _ => {}
        }
        for (id, epoch) in &change.isr {
            self.check_member(*id, *epoch)?;
        }
        let isr: Vec<_> = partition.replicas.iter().copied().filter(|id| proposed.contains(id)).collect();
        let acceptable = |id: BrokerId| id == change.leader || self.acceptable(id);
        let topic = self.topic(&name).expect("it was just found");
        let mut before = partition.clone();
        before.recovery = change.recovery;
        let next = match with_isr(&before, isr, None, &self.voters(topic, &acceptable, &acceptable)) {
            Some((next, _)) => next,
            None if before == *partition => {
                return Ok(Applied::IsrChanged {
                    isr: partition.isr.clone(),
                    partition_epoch: partition.partition_epoch,
                });
            }
            None => {
                before.partition_epoch = before.partition_epoch.next();
                before
            }
        };
        let applied = Applied::IsrChanged { isr: next.isr.clone(), partition_epoch: next.partition_epoch };
        self.change_partition(&name, change.index, |partition| *partition = next);
        Ok(applied)
    }

    /// Whether a broker may be in an ISR, in the incarnation whose fetches were counted (KIP-841, KIP-903).
    fn check_member(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<(), ControlError> {
        let reason = match self.broker(id) {
            None => "it is not registered",
            Some(broker) if broker.state == BrokerState::Fenced => "it is fenced",
            Some(broker) if broker.state == BrokerState::ShuttingDown => "it is shutting down",
            Some(broker) if epoch.is_some() && broker.epoch != epoch => {
                "it has started anew since it caught up"
            }
            Some(_) => return Ok(()),
        };
        Err(ControlError::IneligibleReplica { broker: id, reason })
    }
}

fn same_members(a: &[BrokerId], b: &[BrokerId]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::apply::topics::tests::{brokers, create};
    use crate::{Command, NewTopic};
    use highwater_base::{LeaderEpoch, PartitionEpoch, PartitionIndex, Uuid};

    fn image() -> Image {
        let mut new = NewTopic::named("t", Uuid::from_halves(1, 1));
        new.assignments = vec![(PartitionIndex::new(0), [1, 2, 3].map(BrokerId::new).to_vec())];
        create(&brokers(3), new).unwrap()
    }

    fn proposal(image: &Image, isr: &[i32]) -> IsrChange {
        let p = &image.topic("t").unwrap().partitions[0];
        let epoch = |id: BrokerId| image.broker(id).map_or(BrokerEpoch::NONE, |b| b.epoch);
        IsrChange {
            topic: Uuid::from_halves(1, 1),
            index: PartitionIndex::new(0),
            leader: p.leader,
            leader_broker_epoch: epoch(p.leader),
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            isr: isr.iter().map(|id| (BrokerId::new(*id), epoch(BrokerId::new(*id)))).collect(),
            recovery: p.recovery,
        }
    }

    fn code(image: &Image, change: IsrChange) -> i16 {
        apply(image, &Command::ChangeIsr(change)).map_or_else(|error| error.kafka_code(), |_| 0)
    }

    #[test]
    fn a_shrink_and_an_expansion_are_committed_with_a_new_partition_epoch() {
        let image = image();
        let (image, applied) = apply(&image, &Command::ChangeIsr(proposal(&image, &[1, 3]))).unwrap();
        let expected = Applied::IsrChanged {
            isr: [1, 3].map(BrokerId::new).to_vec(),
            partition_epoch: PartitionEpoch::new(1),
        };
        assert_eq!(applied, expected);
        let (image, _) = apply(&image, &Command::ChangeIsr(proposal(&image, &[3, 2, 1]))).unwrap();
        let p = &image.topic("t").unwrap().partitions[0];
        assert_eq!((p.isr.len(), p.leader_epoch, p.partition_epoch.get()), (3, LeaderEpoch::ZERO, 2));
    }

    #[test]
    fn a_retry_whose_answer_was_lost_is_told_that_it_is_done() {
        // R36.
        let before = image();
        let change = proposal(&before, &[1, 3]);
        let (after, first) = apply(&before, &Command::ChangeIsr(change.clone())).unwrap();
        let (same, second) = apply(&after, &Command::ChangeIsr(change)).unwrap();
        assert_eq!((same, second), (after, first));
    }

    #[test]
    fn stale_and_impossible_proposals_get_kafkas_errors_in_kafkas_order() {
        let image = image();
        let good = || proposal(&image, &[1, 2]);
        assert_eq!(code(&image, IsrChange { topic: Uuid::from_halves(9, 9), ..good() }), 100);
        assert_eq!(code(&image, IsrChange { index: PartitionIndex::new(1), ..good() }), 3);
        assert_eq!(code(&image, IsrChange { leader_epoch: LeaderEpoch::new(1), ..good() }), 41);
        assert_eq!(code(&image, IsrChange { partition_epoch: PartitionEpoch::new(1), ..good() }), 41);
        let other = image.broker(BrokerId::new(2)).unwrap();
        let from_other = IsrChange { leader: other.id, leader_broker_epoch: other.epoch, ..good() };
        assert_eq!(code(&image, from_other), 42);
        assert_eq!(code(&image, IsrChange { leader_epoch: LeaderEpoch::NONE, ..good() }), 74);
        assert_eq!(code(&image, IsrChange { partition_epoch: PartitionEpoch::NONE, ..good() }), 95);
        assert_eq!(code(&image, proposal(&image, &[2, 3])), 42, "without its leader");
        assert_eq!(code(&image, proposal(&image, &[])), 42, "empty (R39)");
        assert_eq!(code(&image, proposal(&image, &[1, 1])), 42);
        assert_eq!(code(&image, proposal(&image, &[1, 9])), 42, "outside the replicas (R49)");
        assert_eq!(code(&image, good()), 0);
    }

    #[test]
    fn a_member_that_started_anew_or_is_fenced_is_ineligible() {
        // R41 and R40.
        let before = image();
        let shrunk = apply(&before, &Command::ChangeIsr(proposal(&before, &[1, 2]))).unwrap().0;
        let delayed = proposal(&shrunk, &[1, 2, 3]);
        let again = crate::Registration::new(BrokerId::new(3), "h", 9092);
        let (fenced, _) = apply(&shrunk, &Command::RegisterBroker(again)).unwrap();
        assert_eq!(code(&fenced, delayed.clone()), 107);
        let epoch = fenced.broker(BrokerId::new(3)).unwrap().epoch;
        let (back, _) = apply(&fenced, &Command::UnfenceBroker { broker: BrokerId::new(3), epoch }).unwrap();
        assert_eq!(code(&back, delayed), 107);
        assert_eq!(code(&back, proposal(&back, &[1, 2, 3])), 0);
    }
}
