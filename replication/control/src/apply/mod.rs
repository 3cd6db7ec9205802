//! `apply`: the only way from one image to the next. Pure; one file for each group of commands.

mod brokers;
mod configs;
mod isr_change;
mod topics;

use std::sync::Arc;

use highwater_base::{BrokerId, PartitionIndex, ProducerId, Uuid};

use crate::command::PRODUCER_ID_BLOCK;
use crate::{Applied, Command, ControlError, Image, PartitionState, Topic};

/// The image after `command`, and what it did; or why not. The given image is not changed, so a request that is
/// only to be validated is applied and its image thrown away.
///
/// ```
/// use highwater_base::Uuid;
/// use highwater_control::{Command, Image, TopicRef, apply};
/// let error = apply(&Image::new("c"), &Command::DeleteTopic(TopicRef::Name("x".into()))).unwrap_err();
/// assert_eq!(error.kafka_code(), 3);
/// ```
pub fn apply(image: &Image, command: &Command) -> Result<(Image, Applied), ControlError> {
    let mut next = image.clone();
    if image.borrowed.is_some() {
        refuse_for_kafka(command)?;
    }
    let applied = match command {
        Command::RegisterBroker(registration) => next.register_broker(registration)?,
        Command::UnfenceBroker { broker, epoch } => next.unfence_broker(*broker, *epoch)?,
        Command::FenceBroker { broker, epoch } => next.fence_broker(*broker, *epoch)?,
        Command::ShutDownBroker { broker, epoch } => next.shut_down_broker(*broker, *epoch)?,
        Command::RaiseLeaderEpochs { broker } => next.raise_leader_epochs(*broker),
        Command::CreateTopic(new) => next.create_topic(new)?,
        Command::DeleteTopic(topic) => next.delete_topic(topic)?,
        Command::CreatePartitions { topic, total, assignments } => {
            next.create_partitions(topic, *total, assignments.as_deref())?
        }
        Command::AlterTopicConfig { topic, ops } => next.alter_topic_config(topic, ops)?,
        Command::AlterBrokerConfig { broker, ops } => next.alter_broker_config(*broker, ops)?,
        Command::AllocateProducerIds => next.allocate_producer_ids()?,
        Command::ReserveProducerIds { up_to } => next.reserve_producer_ids(*up_to)?,
        Command::SetDirectories { broker, directories } => next.set_directories(*broker, directories)?,
        Command::ChangeIsr(change) => next.change_isr(change)?,
        Command::AssignDirectory { topic, index, broker, directory } => {
            next.assign_directory(*topic, *index, *broker, *directory)?
        }
    };
    if applied == Applied::Unchanged || next == *image {
        return Ok((image.clone(), applied));
    }
    next.version += 1;
    next.invariants();
    Ok((next, applied))
}

/// What Kafka would not know of may not happen while the metadata are Kafka's.
fn refuse_for_kafka(command: &Command) -> Result<(), ControlError> {
    let refused = match command {
        Command::RegisterBroker(_)
        | Command::UnfenceBroker { .. }
        | Command::AllocateProducerIds
        | Command::ReserveProducerIds { .. } => return Ok(()),
        Command::FenceBroker { .. } | Command::ShutDownBroker { .. } => "A change of a broker's state",
        Command::RaiseLeaderEpochs { .. } => "A higher leader epoch",
        Command::CreateTopic(_) => "A new topic",
        Command::DeleteTopic(_) => "The deletion of a topic",
        Command::CreatePartitions { .. } => "More partitions of a topic",
        Command::AlterTopicConfig { .. } | Command::AlterBrokerConfig { .. } => "A change of settings",
        Command::ChangeIsr(_) => "Another ISR",
        Command::AssignDirectory { .. } => "Another directory of a replica",
        Command::SetDirectories { .. } => "Another list of directories",
    };
    Err(ControlError::Borrowed { refused })
}

impl Image {
    /// The epoch that a broker which registers by the present command gets.
    pub(crate) fn next_version(&self) -> i64 {
        i64::try_from(self.version + 1).unwrap_or(i64::MAX)
    }

    fn allocate_producer_ids(&mut self) -> Result<Applied, ControlError> {
        let first = self.next_producer_id;
        let end = first.get().checked_add(PRODUCER_ID_BLOCK).ok_or(ControlError::ProducerIdsExhausted)?;
        self.next_producer_id = ProducerId::new(end);
        Ok(Applied::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }

    fn reserve_producer_ids(&mut self, up_to: ProducerId) -> Result<Applied, ControlError> {
        if up_to < self.next_producer_id {
            return Ok(Applied::Unchanged);
        }
        // Rounded up to a block, so that blocks stay recognisable.
        let blocks = up_to.get() / PRODUCER_ID_BLOCK + 1;
        let next = blocks.checked_mul(PRODUCER_ID_BLOCK).ok_or(ControlError::ProducerIdsExhausted)?;
        self.next_producer_id = ProducerId::new(next);
        Ok(Applied::Done)
    }

    fn assign_directory(
        &mut self,
        topic: Uuid,
        index: PartitionIndex,
        broker: BrokerId,
        directory: Uuid,
    ) -> Result<Applied, ControlError> {
        let (name, partition) = self.find(topic, index)?;
        let Some(at) = partition.replicas.iter().position(|id| *id == broker) else {
            return Err(ControlError::InvalidRequest {
                reason: format!("Broker {broker} holds no replica of {name}-{index}."),
            });
        };
        if partition.directories[at] == directory {
            return Ok(Applied::Unchanged);
        }
        self.change_partition(&name, index, |partition| {
            partition.directories[at] = directory;
            partition.partition_epoch = partition.partition_epoch.next();
        });
        Ok(Applied::Done)
    }

    /// A partition by its topic's id.
    fn find(&self, topic: Uuid, index: PartitionIndex) -> Result<(Arc<str>, &PartitionState), ControlError> {
        let found = self.topic_by_id(topic).ok_or(ControlError::UnknownTopicId { id: topic })?;
        let unknown = || ControlError::UnknownPartition { topic: found.name.to_string(), index };
        Ok((Arc::clone(&found.name), found.partition(index).ok_or_else(unknown)?))
    }

    /// Changes one partition, which must exist.
    fn change_partition(
        &mut self,
        topic: &str,
        index: PartitionIndex,
        change: impl FnOnce(&mut PartitionState),
    ) {
        let topic = self.topic_mut(topic);
        change(&mut topic.partitions[index.get() as usize]);
    }

    /// A topic to change, which must exist.
    fn topic_mut(&mut self, name: &str) -> &mut Topic {
        let topics = Arc::make_mut(&mut self.topics);
        Arc::make_mut(topics.get_mut(name).expect("the caller has looked the topic up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producer_ids_come_in_blocks_that_never_overlap_what_was_found_in_logs() {
        let image = Image::new("c");
        let (image, _) = apply(&image, &Command::AllocateProducerIds).unwrap();
        let (image, _) =
            apply(&image, &Command::ReserveProducerIds { up_to: ProducerId::new(2000) }).unwrap();
        let (image, applied) = apply(&image, &Command::AllocateProducerIds).unwrap();
        assert_eq!(applied, Applied::ProducerIds { first: ProducerId::new(3000), count: 1000 });
        let again = Command::ReserveProducerIds { up_to: ProducerId::new(3999) };
        assert_eq!(apply(&image, &again).unwrap(), (image.clone(), Applied::Unchanged));
    }

    #[test]
    fn the_last_producer_ids_are_an_error_not_an_overflow() {
        let image = Image::new("c");
        let all = Command::ReserveProducerIds { up_to: ProducerId::new(i64::MAX) };
        assert_eq!(apply(&image, &all).unwrap_err(), ControlError::ProducerIdsExhausted);
        let nearly = Command::ReserveProducerIds { up_to: ProducerId::new(i64::MAX - 2000) };
        let (image, _) = apply(&image, &nearly).unwrap();
        let (image, _) = apply(&image, &Command::AllocateProducerIds).unwrap();
        assert_eq!(
            apply(&image, &Command::AllocateProducerIds).unwrap_err(),
            ControlError::ProducerIdsExhausted
        );
    }
}
