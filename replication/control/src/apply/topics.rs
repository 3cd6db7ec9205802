//! Topics and partitions come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{BrokerId, PartitionIndex};

use crate::command::MAX_PARTITIONS_PER_COMMAND;
use crate::placement::{Placed, directories_for, place};
use crate::topic_name::collision_key;
use crate::{Applied, ControlError, Image, NewTopic, PartitionState, Topic, TopicRef, check_topic_name};

impl Image {
    pub(super) fn create_topic(&mut self, new: &NewTopic) -> Result<Applied, ControlError> {
        check_topic_name(&new.name)?;
        if self.topic(&new.name).is_some() {
            return Err(ControlError::TopicExists { name: new.name.clone() });
        }
        if let Some(existing) = self.colliding(&new.name) {
            return Err(ControlError::TopicCollision { name: new.name.clone(), existing });
        }
        if new.id == highwater_base::Uuid::ZERO || self.names.contains_key(&new.id) {
            return Err(ControlError::InvalidRequest {
                reason: format!("Topic id {} is taken or zero.", new.id),
            });
        }
        super::configs::check_new(&new.configs)?;
        let placed = if new.assignments.is_empty() { self.place_new(new)? } else { self.assigned_new(new)? };
        let topic = Arc::new(Topic {
            name: new.name.as_str().into(),
            id: new.id,
            partitions: placed.into_iter().map(|placed| self.new_partition(placed)).collect(),
            configs: new.configs.clone(),
        });
        Arc::make_mut(&mut self.names).insert(topic.id, Arc::clone(&topic.name));
        Arc::make_mut(&mut self.topics).insert(Arc::clone(&topic.name), Arc::clone(&topic));
        Ok(Applied::TopicCreated(topic))
    }

    pub(super) fn delete_topic(&mut self, topic: &TopicRef) -> Result<Applied, ControlError> {
        let found = match topic {
            TopicRef::Name(name) => {
                self.topic(name).ok_or_else(|| ControlError::UnknownTopic { name: name.clone() })?
            }
            TopicRef::Id(id) => self.topic_by_id(*id).ok_or(ControlError::UnknownTopicId { id: *id })?,
        };
        let topic = Arc::clone(found);
        Arc::make_mut(&mut self.names).remove(&topic.id);
        Arc::make_mut(&mut self.topics).remove(&topic.name);
        Ok(Applied::TopicDeleted(topic))
    }

    pub(super) fn create_partitions(
        &mut self,
        name: &str,
        total: i32,
        assignments: Option<&[Vec<BrokerId>]>,
    ) -> Result<Applied, ControlError> {
        let topic = self.topic(name).ok_or_else(|| ControlError::UnknownTopic { name: name.to_owned() })?;
        let current = topic.partitions.len() as i32;
        if total <= current {
            return Err(ControlError::NotAnIncrease { topic: name.to_owned(), current, requested: total });
        }
        let added = total - current;
        if added > MAX_PARTITIONS_PER_COMMAND {
            return Err(ControlError::TooManyPartitions {
                found: i64::from(added),
                limit: MAX_PARTITIONS_PER_COMMAND,
            });
        }
        let factor = topic.partitions[0].replicas.len();
        let placed = match assignments {
            None => place(self, added as usize, factor, seed(topic.id).wrapping_add(current as u64))?,
            Some(assignments) => {
                if assignments.len() != added as usize {
                    return Err(ControlError::InvalidAssignment {
                        reason: format!(
                            "Attempted to add {added} additional partition(s), but only {} assignment(s) were \
                             specified.",
                            assignments.len()
                        ),
                    });
                }
                for replicas in assignments {
                    self.check_assignment(replicas, Some(factor))?;
                }
                directories_for(self, assignments)
            }
        };
        let new: Vec<_> = placed.into_iter().map(|placed| self.new_partition(placed)).collect();
        let topic = self.topic_mut(name);
        topic.partitions.extend(new);
        let topic = Arc::clone(self.topic(name).expect("it was just changed"));
        Ok(Applied::PartitionsCreated { topic, first: PartitionIndex::new(current) })
    }

    /// The topic whose name differs from this one only in `.` and `_`.
    fn colliding(&self, name: &str) -> Option<String> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let key = collision_key(name);
        self.topics().find(|topic| collision_key(&topic.name) == key).map(|topic| topic.name.to_string())
    }

    fn place_new(&self, new: &NewTopic) -> Result<Vec<Placed>, ControlError> {
        let factor = if new.replication_factor == -1 {
            new.default_replication_factor
        } else {
            new.replication_factor
        };
        if factor <= 0 {
            return Err(ControlError::InvalidReplicationFactor { found: factor });
        }
        let partitions = if new.partitions == -1 { new.default_partitions } else { new.partitions };
        if partitions <= 0 {
            return Err(ControlError::InvalidPartitionCount { found: partitions });
        }
        if partitions > MAX_PARTITIONS_PER_COMMAND {
            return Err(ControlError::TooManyPartitions {
                found: i64::from(partitions),
                limit: MAX_PARTITIONS_PER_COMMAND,
            });
        }
        place(self, partitions as usize, factor as usize, seed(new.id))
    }

    fn assigned_new(&self, new: &NewTopic) -> Result<Vec<Placed>, ControlError> {
        let both = |what: &str| ControlError::InvalidRequest {
            reason: format!("A manual partition assignment was specified, but {what} was not set to -1."),
        };
        if new.replication_factor != -1 {
            return Err(both("replication factor"));
        }
        if new.partitions != -1 {
            return Err(both("numPartitions"));
        }
        if new.assignments.len() > MAX_PARTITIONS_PER_COMMAND as usize {
            return Err(ControlError::TooManyPartitions {
                found: new.assignments.len() as i64,
                limit: MAX_PARTITIONS_PER_COMMAND,
            });
        }
        let mut by_index = BTreeMap::new();
        let mut factor = None;
        for (index, replicas) in &new.assignments {
            if by_index.insert(index.get(), replicas.clone()).is_some() {
                return Err(ControlError::InvalidAssignment {
                    reason: format!("Found multiple manual partition assignments for partition {index}"),
                });
            }
            self.check_assignment(replicas, factor)?;
            factor = Some(replicas.len());
        }
        if !by_index.keys().copied().eq(0..by_index.len() as i32) {
            return Err(ControlError::InvalidAssignment {
                reason: "partitions should be a consecutive 0-based integer sequence".to_owned(),
            });
        }
        let lists: Vec<_> = by_index.into_values().collect();
        Ok(directories_for(self, &lists))
    }

    /// Checks replicas that were chosen by hand.
    fn check_assignment(&self, replicas: &[BrokerId], factor: Option<usize>) -> Result<(), ControlError> {
        let wrong = |reason: String| Err(ControlError::InvalidAssignment { reason });
        if replicas.is_empty() {
            return wrong("The manual partition assignment includes an empty replica list.".to_owned());
        }
        for (at, id) in replicas.iter().enumerate() {
            if self.broker(*id).is_none() {
                return wrong(format!(
                    "The manual partition assignment includes broker {id}, but no such broker is registered."
                ));
            }
            if replicas[..at].contains(id) {
                return wrong(format!(
                    "The manual partition assignment includes the broker {id} more than once."
                ));
            }
        }
        if !replicas.iter().any(|id| self.acceptable(*id)) {
            return wrong(format!(
                "All brokers specified in the manual partition assignment {replicas:?} are fenced."
            ));
        }
        match factor {
            Some(factor) if factor != replicas.len() => wrong(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not \
                 consistent with previous partitions, which have {factor} replica(s).",
                replicas.len()
            )),
            _ => Ok(()),
        }
    }

    /// A new partition's record: its ISR are those of its replicas that serve now, the first of them leads.
    fn new_partition(&self, (replicas, directories): Placed) -> PartitionState {
        let mut partition = PartitionState::new(replicas, directories);
        partition.isr.retain(|id| self.acceptable(*id));
        partition.leader = partition.isr[0];
        partition.last_known_leader = partition.leader;
        partition
    }
}

/// Decides among equally loaded brokers; differs between topics.
fn seed(id: highwater_base::Uuid) -> u64 {
    let bytes = id.bytes();
    bytes
        .chunks(8)
        .fold(0, |seed, half| seed ^ u64::from_be_bytes(half.try_into().expect("two halves of eight")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::{Command, Registration};
    use highwater_base::{BrokerEpoch, Uuid};

    pub(crate) fn brokers(count: i32) -> Image {
        let mut image = Image::new("c");
        for id in 1..=count {
            let broker = BrokerId::new(id);
            image = apply(&image, &Command::RegisterBroker(Registration::new(broker, "h", 9092))).unwrap().0;
            let epoch = BrokerEpoch::new(image.version() as i64);
            image = apply(&image, &Command::UnfenceBroker { broker, epoch }).unwrap().0;
        }
        image
    }

    pub(crate) fn one_broker_and_topic() -> Image {
        create(&brokers(1), NewTopic { partitions: 2, ..NewTopic::named("t", Uuid::from_halves(1, 1)) })
            .unwrap()
    }

    pub(crate) fn create(image: &Image, new: NewTopic) -> Result<Image, ControlError> {
        apply(image, &Command::CreateTopic(new)).map(|(image, _)| image)
    }

    fn grow(
        image: &Image,
        total: i32,
        assignments: Option<Vec<Vec<BrokerId>>>,
    ) -> Result<Image, ControlError> {
        apply(image, &Command::CreatePartitions { topic: "t".into(), total, assignments })
            .map(|(image, _)| image)
    }

    fn new(name: &str) -> NewTopic {
        NewTopic::named(name, Uuid::from_halves(2, name.len() as u64 + 2))
    }

    #[test]
    fn a_topic_is_found_by_name_and_by_id_until_it_is_deleted() {
        let image = one_broker_and_topic();
        let id = image.topic("t").unwrap().id;
        assert_eq!(image.topic_by_id(id), image.topic("t"));
        let (image, applied) = apply(&image, &Command::DeleteTopic(TopicRef::Id(id))).unwrap();
        assert!(matches!(applied, Applied::TopicDeleted(topic) if &*topic.name == "t"));
        assert!(image.topic_by_id(id).is_none() && image.topic("t").is_none());
        let error = apply(&image, &Command::DeleteTopic(TopicRef::Id(id))).unwrap_err();
        assert_eq!(error.kafka_code(), 100);
    }

    #[test]
    fn a_name_that_exists_or_collides_or_is_illegal_is_refused() {
        let image = create(&brokers(1), new("a.b")).unwrap();
        assert_eq!(create(&image, new("a.b")).unwrap_err().kafka_code(), 36);
        let error = create(&image, new("a_b")).unwrap_err();
        assert_eq!(
            (error.kafka_code(), error.to_string()),
            (17, "Topic 'a_b' collides with existing topic: a.b".into())
        );
        assert_eq!(create(&image, new("a b")).unwrap_err().kafka_code(), 17);
        assert!(create(&image, NewTopic::named("ab", Uuid::from_halves(7, 7))).is_ok());
    }

    #[test]
    fn counts_of_zero_and_below_are_refused_and_minus_one_is_the_default() {
        let image = brokers(1);
        assert_eq!(create(&image, NewTopic { partitions: 0, ..new("x") }).unwrap_err().kafka_code(), 37);
        assert_eq!(create(&image, NewTopic { partitions: -2, ..new("x") }).unwrap_err().kafka_code(), 37);
        assert_eq!(
            create(&image, NewTopic { replication_factor: 0, ..new("x") }).unwrap_err().kafka_code(),
            38
        );
        assert_eq!(
            create(&image, NewTopic { partitions: i32::MAX, ..new("x") }).unwrap_err().kafka_code(),
            44
        );
        let made = create(&image, NewTopic { default_partitions: 4, ..new("x") }).unwrap();
        assert_eq!(made.topic("x").unwrap().partitions.len(), 4);
    }

    #[test]
    fn more_replicas_than_brokers_are_refused_with_both_numbers() {
        let error = create(&brokers(2), NewTopic { replication_factor: 3, ..new("x") }).unwrap_err();
        assert_eq!(error.kafka_code(), 38);
        assert!(error.to_string().contains("factor of 3"), "{error}");
        assert!(error.to_string().contains("only 2 broker"), "{error}");
    }

    #[test]
    fn partitions_only_grow_and_a_refusal_names_both_numbers() {
        let image = one_broker_and_topic();
        assert_eq!(grow(&image, 5, None).unwrap().topic("t").unwrap().partitions.len(), 5);
        for total in [2, 1, 0, -1] {
            let error = grow(&image, total, None).unwrap_err();
            assert_eq!(error.kafka_code(), 37);
            let text = error.to_string();
            assert!(text.contains("2 partition") && text.contains(&total.to_string()), "{text}");
        }
        assert_eq!(grow(&image, i32::MAX, None).unwrap_err().kafka_code(), 44);
        let by_hand = Some(vec![vec![BrokerId::new(1)]]);
        assert!(grow(&image, 3, by_hand.clone()).is_ok());
        assert_eq!(grow(&image, 4, by_hand).unwrap_err().kafka_code(), 39);
    }

    #[test]
    fn growing_leaves_old_partitions_alone() {
        let image = one_broker_and_topic();
        let grown = grow(&image, 3, None).unwrap();
        assert_eq!(grown.topic("t").unwrap().partitions[..2], image.topic("t").unwrap().partitions[..]);
    }

    #[test]
    fn assignments_by_hand_are_checked() {
        let image = brokers(3);
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId::new).collect::<Vec<_>>();
        let with = |lists: &[(i32, &[i32])]| NewTopic {
            assignments: lists.iter().map(|(at, list)| (PartitionIndex::new(*at), ids(list))).collect(),
            ..new("x")
        };
        let made = create(&image, with(&[(1, &[3, 1]), (0, &[2, 3])])).unwrap();
        assert_eq!(made.topic("x").unwrap().partitions[1].replicas, ids(&[3, 1]));
        assert_eq!(made.topic("x").unwrap().partitions[0].leader, BrokerId::new(2));
        for (lists, words) in [
            (&[(0, &[][..])][..], "empty replica list"),
            (&[(0, &[9])], "no such broker"),
            (&[(0, &[1, 1])], "more than once"),
            (&[(0, &[1]), (0, &[2])], "multiple manual"),
            (&[(0, &[1]), (2, &[2])], "consecutive"),
            (&[(0, &[1]), (1, &[2, 3])], "not consistent"),
        ] {
            let error = create(&image, with(lists)).unwrap_err();
            assert_eq!(error.kafka_code(), 39, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let both = NewTopic { partitions: 1, ..with(&[(0, &[1])]) };
        assert_eq!(create(&image, both).unwrap_err().kafka_code(), 42);
    }

    #[test]
    fn a_bad_setting_refuses_the_topic() {
        let mut bad = new("x");
        bad.configs.insert("retention.ms".into(), "-2".into());
        assert_eq!(create(&brokers(1), bad).unwrap_err().kafka_code(), 40);
    }
}
