//! Brokers come, go silent, return and leave; leaderships follow.

use std::sync::Arc;

use highwater_base::{BrokerEpoch, BrokerId, PartitionIndex, Uuid};

use crate::election::{Voters, with_isr};
use crate::topic_config::Held;
use crate::{Applied, Broker, BrokerState, ControlError, Image, PartitionState, Registration, Topic};

/// Partitions by topic id and number.
type Partitions = Vec<(Uuid, PartitionIndex)>;

impl Image {
    pub(super) fn register_broker(&mut self, new: &Registration) -> Result<Applied, ControlError> {
        if !new.id.is_some() || new.directories.is_empty() {
            return Err(ControlError::InvalidRequest {
                reason: format!("Broker {} must have an id of at least 0 and a directory.", new.id),
            });
        }
        let known = self.broker(new.id).map(|broker| broker.epoch);
        if self.borrowed.is_some() {
            return self.register_in_kafka_s_place(new);
        }
        let clean = known.is_none_or(|epoch| epoch == new.previous_epoch);
        let epoch = BrokerEpoch::new(self.next_version());
        let broker = Broker {
            id: new.id,
            epoch,
            host: new.host.clone(),
            port: new.port,
            rack: new.rack.clone(),
            directories: new.directories.clone(),
            state: BrokerState::Fenced,
        };
        Arc::make_mut(&mut self.brokers).insert(new.id, broker);
        let lost = (!clean).then_some(new.id);
        let unclean = self.re_elect(|partition| {
            // The only copy there is stays a candidate: there is nothing that it could be compared with.
            let others = partition.isr.iter().chain(&partition.elr).any(|id| *id != new.id);
            let lost = lost.filter(|_| others);
            (without(&partition.isr, new.id), lost)
        });
        Ok(Applied::BrokerRegistered { epoch, unclean })
    }

    pub(super) fn set_directories(
        &mut self,
        id: BrokerId,
        directories: &[Uuid],
    ) -> Result<Applied, ControlError> {
        if directories.is_empty() {
            return Err(ControlError::InvalidRequest {
                reason: format!("Broker {id} must have a directory."),
            });
        }
        let brokers = Arc::make_mut(&mut self.brokers);
        let broker = brokers.get_mut(&id).ok_or(ControlError::BrokerNotRegistered { broker: id })?;
        broker.directories = directories.to_vec();
        Ok(Applied::Done)
    }

    /// The broker serves in the incarnation, and leads in the epochs, that Kafka has given it.
    fn register_in_kafka_s_place(&mut self, new: &Registration) -> Result<Applied, ControlError> {
        let brokers = Arc::make_mut(&mut self.brokers);
        let known = brokers.get_mut(&new.id).ok_or(ControlError::BrokerNotRegistered { broker: new.id })?;
        (known.host, known.port) = (new.host.clone(), new.port);
        let epoch = known.epoch;
        // A start is a change, also where Kafka listened at the same place: partitions take their roles from a new image.
        self.version += 1;
        Ok(Applied::BrokerRegistered { epoch, unclean: Vec::new() })
    }

    pub(super) fn unfence_broker(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, ControlError> {
        self.set_state(id, epoch, BrokerState::Active)?;
        if self.borrowed.is_some() {
            // It leads what it can lead already; an election would raise epochs.
            return Ok(Applied::BrokerStateChanged { unclean: Vec::new() });
        }
        let unclean = self.re_elect(|partition| (partition.isr.clone(), None));
        Ok(Applied::BrokerStateChanged { unclean })
    }

    pub(super) fn fence_broker(&mut self, id: BrokerId, epoch: BrokerEpoch) -> Result<Applied, ControlError> {
        self.set_state(id, epoch, BrokerState::Fenced)?;
        let unclean = self.re_elect(|partition| (without(&partition.isr, id), None));
        Ok(Applied::BrokerStateChanged { unclean })
    }

    pub(super) fn shut_down_broker(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, ControlError> {
        self.set_state(id, epoch, BrokerState::ShuttingDown)?;
        let image = self.clone();
        let unclean = self.re_elect(|partition| {
            let others = without(&partition.isr, id);
            // A partition that nobody else can lead is served to the end.
            let movable = others.iter().any(|id| image.acceptable(*id));
            (if movable { others } else { partition.isr.clone() }, None)
        });
        Ok(Applied::BrokerStateChanged { unclean })
    }

    pub(super) fn raise_leader_epochs(&mut self, id: BrokerId) -> Applied {
        let mut any = false;
        self.change_partitions(|_, partition| {
            if partition.leader != id {
                return None;
            }
            any = true;
            let mut next = partition.clone();
            next.leader_epoch = next.leader_epoch.next();
            next.partition_epoch = next.partition_epoch.next();
            Some(next)
        });
        if any { Applied::Done } else { Applied::Unchanged }
    }

    /// Whether a broker may lead and be in sync.
    pub(super) fn acceptable(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|broker| broker.state.may_lead())
    }

    /// Whether a broker serves, though perhaps not for long.
    fn serving(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|broker| broker.state != BrokerState::Fenced)
    }

    /// Checks that a broker is registered with this epoch.
    pub(super) fn check_broker(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<(), ControlError> {
        let broker = self.broker(id).ok_or(ControlError::BrokerNotRegistered { broker: id })?;
        if broker.epoch != epoch {
            return Err(ControlError::StaleBrokerEpoch { broker: id, expected: broker.epoch, found: epoch });
        }
        Ok(())
    }

    fn set_state(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
        state: BrokerState,
    ) -> Result<(), ControlError> {
        self.check_broker(id, epoch)?;
        Arc::make_mut(&mut self.brokers).get_mut(&id).expect("checked").state = state;
        Ok(())
    }

    /// Gives each partition the ISR that `isr` says, with the replica that may have lost records, and elects.
    /// Returns those with a leader that was elected uncleanly.
    fn re_elect(&mut self, isr: impl Fn(&PartitionState) -> (Vec<BrokerId>, Option<BrokerId>)) -> Partitions {
        let before = self.clone();
        let acceptable = |id: BrokerId| before.acceptable(id);
        let serving = |id: BrokerId| before.serving(id);
        let mut unclean = Vec::new();
        self.change_partitions(|(topic, index), partition| {
            let voters = before.voters(topic, &acceptable, &serving);
            let (isr, lost) = isr(partition);
            let (next, by_force) = with_isr(partition, isr, lost, &voters)?;
            if by_force {
                unclean.push((topic.id, index));
            }
            Some(next)
        });
        unclean
    }

    /// What an election on this topic goes by. Only the topic's and the cluster's settings count: with
    /// `min.insync.replicas` differing from broker to broker, the ELR would mean nothing (KIP-966).
    pub(super) fn voters<'a>(
        &self,
        topic: &Topic,
        acceptable: &'a dyn Fn(BrokerId) -> bool,
        serving: &'a dyn Fn(BrokerId) -> bool,
    ) -> Voters<'a> {
        let nobody = crate::NodeDefaults::none(BrokerId::NONE);
        let held = Held { image: self, node: &nobody, topic: Some(&topic.name) };
        Voters {
            acceptable,
            serving,
            unclean_allowed: held.unclean_leader_election(),
            min_insync: held.min_insync_replicas(),
        }
    }

    /// Runs over all partitions; replaces those for which `change` gives another record.
    fn change_partitions(
        &mut self,
        mut change: impl FnMut((&Topic, PartitionIndex), &PartitionState) -> Option<PartitionState>,
    ) {
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            let changed: Vec<_> = topic
                .partitions
                .iter()
                .enumerate()
                .filter_map(|(at, partition)| {
                    Some((at, change((topic, PartitionIndex::new(at as i32)), partition)?))
                })
                .collect();
            if !changed.is_empty() {
                let topic = Arc::make_mut(topic);
                for (at, partition) in changed {
                    topic.partitions[at] = partition;
                }
            }
        }
    }
}

fn without(list: &[BrokerId], id: BrokerId) -> Vec<BrokerId> {
    list.iter().copied().filter(|member| *member != id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::apply::topics::tests::{brokers, create, one_broker_and_topic};
    use crate::{Command, NewTopic};

    fn epoch_of(image: &Image, id: i32) -> BrokerEpoch {
        image.broker(BrokerId::new(id)).unwrap().epoch
    }

    fn restart(image: &Image, id: i32, previous_epoch: BrokerEpoch) -> Image {
        let broker = BrokerId::new(id);
        let registration = Registration { previous_epoch, ..Registration::new(broker, "h", 9092) };
        let image = apply(image, &Command::RegisterBroker(registration)).unwrap().0;
        let epoch = epoch_of(&image, id);
        apply(&image, &Command::UnfenceBroker { broker, epoch }).unwrap().0
    }

    fn replicated(min_insync: &str) -> Image {
        let mut new = NewTopic::named("t", Uuid::from_halves(1, 1));
        new.assignments = vec![(PartitionIndex::new(0), [1, 2, 3].map(BrokerId::new).to_vec())];
        new.configs.insert("min.insync.replicas".into(), min_insync.into());
        create(&brokers(3), new).unwrap()
    }

    fn fence(image: &Image, id: i32) -> Image {
        let command = Command::FenceBroker { broker: BrokerId::new(id), epoch: epoch_of(image, id) };
        apply(image, &command).unwrap().0
    }

    fn partition(image: &Image) -> &PartitionState {
        &image.topic("t").unwrap().partitions[0]
    }

    #[test]
    fn a_directory_that_a_broker_has_lost_gets_no_new_replicas_and_keeps_its_own() {
        let broker = BrokerId::new(1);
        let (first, second) = (Uuid::from_halves(8, 1), Uuid::from_halves(8, 2));
        let registration =
            Registration { directories: vec![first, second], ..Registration::new(broker, "h", 9092) };
        let image = apply(&Image::new("c"), &Command::RegisterBroker(registration)).unwrap().0;
        let epoch = epoch_of(&image, 1);
        let image = apply(&image, &Command::UnfenceBroker { broker, epoch }).unwrap().0;
        let named = |name: &str, low| {
            let id = Uuid::from_halves(1, low);
            NewTopic { partitions: 2, replication_factor: 1, ..NewTopic::named(name, id) }
        };
        let image = create(&image, named("before", 1)).unwrap();
        let lost = Command::SetDirectories { broker, directories: vec![second] };
        let image = apply(&image, &lost).unwrap().0;
        let image = create(&image, named("after", 2)).unwrap();
        let of = |name: &str| -> Vec<_> {
            let topic = image.topic(name).unwrap();
            topic.partitions.iter().filter_map(|partition| partition.directory_of(broker)).collect()
        };
        assert_eq!((of("before"), of("after")), (vec![first, second], vec![second, second]));
        let unknown = Command::SetDirectories { broker: BrokerId::new(9), directories: vec![first] };
        assert!(matches!(apply(&image, &unknown), Err(ControlError::BrokerNotRegistered { .. })));
        assert!(apply(&image, &Command::SetDirectories { broker, directories: vec![] }).is_err());
    }

    #[test]
    fn every_start_raises_the_leader_epoch_clean_or_not_and_keeps_the_only_replica() {
        let mut image = one_broker_and_topic();
        for clean in [true, false, true] {
            let before = partition(&image).leader_epoch;
            let epoch = if clean { epoch_of(&image, 1) } else { BrokerEpoch::NONE };
            image = restart(&image, 1, epoch);
            let after = partition(&image);
            assert!(after.leader_epoch > before);
            assert_eq!((after.leader, after.isr.len()), (BrokerId::new(1), 1));
            assert_eq!(after.recovery, crate::LeaderRecovery::Recovered);
        }
        let before = partition(&image).leader_epoch;
        let (image, _) = apply(&image, &Command::RaiseLeaderEpochs { broker: BrokerId::new(1) }).unwrap();
        assert_eq!(partition(&image).leader_epoch, before.next());
    }

    #[test]
    fn a_broker_s_epoch_grows_with_every_registration() {
        let first = brokers(1);
        let second = restart(&first, 1, epoch_of(&first, 1));
        assert!(epoch_of(&second, 1) > epoch_of(&first, 1));
        let stale = Command::FenceBroker { broker: BrokerId::new(1), epoch: epoch_of(&first, 1) };
        assert_eq!(apply(&second, &stale).unwrap_err().kafka_code(), 77);
    }

    #[test]
    fn a_fenced_leader_is_followed_by_the_next_in_sync() {
        let image = fence(&replicated("1"), 1);
        let p = partition(&image);
        assert_eq!((p.leader, p.isr.clone()), (BrokerId::new(2), [2, 3].map(BrokerId::new).to_vec()));
        assert_eq!(p.leader_epoch.get(), 1);
    }

    #[test]
    fn the_last_one_fenced_is_eligible_and_leads_again_when_it_returns_clean() {
        let image = fence(&fence(&fence(&replicated("2"), 3), 2), 1);
        let p = partition(&image);
        assert_eq!((p.leader, p.isr.len(), p.elr.len()), (BrokerId::NONE, 0, 2));
        let back = restart(&image, 1, epoch_of(&image, 1));
        assert_eq!(partition(&back).leader, BrokerId::new(1));
    }

    #[test]
    fn after_an_unclean_stop_a_replica_waits_for_one_that_lost_nothing() {
        let image = fence(&fence(&fence(&replicated("2"), 3), 2), 1);
        let back = restart(&image, 1, BrokerEpoch::NONE);
        assert_eq!(partition(&back).leader, BrokerId::NONE, "2 is eligible and did not lose its tail");
        let back = restart(&back, 2, epoch_of(&back, 2));
        assert_eq!(partition(&back).leader, BrokerId::new(2));
    }

    #[test]
    fn shutting_down_moves_leaderships_and_keeps_what_nobody_else_can_serve() {
        let image = replicated("1");
        let stop = |image: &Image, id: i32| {
            let command = Command::ShutDownBroker { broker: BrokerId::new(id), epoch: epoch_of(image, id) };
            apply(image, &command).unwrap().0
        };
        let image = stop(&image, 1);
        assert_eq!(partition(&image).leader, BrokerId::new(2));
        let image = stop(&stop(&image, 3), 2);
        assert_eq!(partition(&image).leader, BrokerId::new(2));
    }
}
