//! Images whose topics are Apache Kafka's: a directory that Kafka wrote is served as it is, until it is kept.
//!
//! Kafka's metadata log stays the authority. So nothing that Kafka would not know of may change: no topic, no setting, no
//! leader epoch, no broker epoch. Only producer ids are given out, from a range that Kafka never reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{BrokerId, PartitionIndex, ProducerId, Uuid};

use crate::kafka::FIRST_BORROWED_PRODUCER_ID;
use crate::{Broker, BrokerState, ControlError, Image, PartitionState, Topic};

impl Image {
    /// Where the metadata log ended that Apache Kafka keeps and this image was read from; `None` if the metadata are ours.
    pub fn borrowed(&self) -> Option<u64> {
        self.borrowed
    }

    /// This image, which is Kafka's, as this broker serves it alone: it leads what it has a replica of, in the leader epochs
    /// and with the broker epoch that Kafka has given it. Partitions elsewhere have no leader.
    ///
    /// `before` is the image of the last time, if there is one: its producer ids are not given out again.
    ///
    /// # Errors
    /// Kafka's metadata do not know this broker.
    ///
    /// ```
    /// use highwater_base::BrokerId;
    /// use highwater_control::{ControlError, Image};
    /// let error = Image::new("c").borrow(BrokerId::new(1), 7, None).unwrap_err();
    /// assert_eq!(error, ControlError::BrokerNotRegistered { broker: BrokerId::new(1) });
    /// ```
    pub fn borrow(&self, me: BrokerId, end: u64, before: Option<&Image>) -> Result<Image, ControlError> {
        let known = self.broker(me).ok_or(ControlError::BrokerNotRegistered { broker: me })?;
        let known = Broker { state: BrokerState::Active, ..known.clone() };
        let mut image = self.clone();
        image.brokers = Arc::new(BTreeMap::from([(me, known)]));
        for topic in Arc::make_mut(&mut image.topics).values_mut() {
            let topic: &mut Topic = Arc::make_mut(topic);
            topic.partitions.iter_mut().for_each(|partition| alone(partition, me));
        }
        image.next_producer_id =
            before.map_or(ProducerId::new(FIRST_BORROWED_PRODUCER_ID), Image::next_producer_id);
        image.version = before.map_or(self.version, |before| before.version.max(self.version));
        image.borrowed = Some(end);
        Ok(image)
    }

    /// This borrowed image as our own from now on. `kafka` is the image it was borrowed from.
    #[must_use]
    pub fn keep(&self, kafka: &Image) -> Image {
        let mut image = self.clone();
        if image.next_producer_id.get() == FIRST_BORROWED_PRODUCER_ID {
            // None of that range was given out.
            image.next_producer_id = kafka.next_producer_id;
        }
        image.borrowed = None;
        image.version += 1;
        image
    }

    /// Partitions of which this broker is not the only replica: by topic name and number.
    pub fn shared_partitions(&self, me: BrokerId) -> impl Iterator<Item = (&str, PartitionIndex)> {
        let shared = move |partition: &PartitionState| {
            partition.replicas.contains(&me) && partition.replicas.iter().any(|id| *id != me)
        };
        self.topics().flat_map(move |topic| {
            let numbered = topic.partitions.iter().enumerate();
            numbered
                .filter(move |(_, partition)| shared(partition))
                .map(|(at, _)| (&*topic.name, PartitionIndex::new(at as i32)))
        })
    }
}

/// A partition's record with this broker as its only replica, or without a leader. Its epochs stay.
fn alone(partition: &mut PartitionState, me: BrokerId) {
    if !partition.replicas.contains(&me) {
        partition.leader = BrokerId::NONE;
        return;
    }
    let directory = partition.directory_of(me).unwrap_or(Uuid::ZERO);
    *partition = PartitionState {
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        ..PartitionState::new(vec![me], vec![directory])
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Applied, Command, ConfigOp, KafkaMetadata, NewTopic, Registration, TopicRef, apply, decode_catalog,
        encode_catalog,
    };
    use highwater_base::{BrokerEpoch, LeaderEpoch};

    const ME: BrokerId = BrokerId::new(1);

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    /// Records that Apache Kafka 4.3.1 wrote (without the features in the broker's): a broker, a topic, its partition, a
    /// clean stop.
    fn kafka() -> KafkaMetadata {
        let mut kafka = KafkaMetadata::new();
        for record in [
            "01 00 04 00000001 00 e947528b42b440dea9b25f252af816aa 000000000000000b 02 0a504c41494e54455854 \
             0a3132372e302e302e31 73a2 0000 00 01 00 00 00 02 00 11 02 7dd15343f1db3e61c3259395a9ddea16 01 01 01",
            "01 02 00 0b706c61696e2d6e6f6e65 e40b400cb2e74c73ae5f982d79e41efb 00",
            "01 03 02 00000000 e40b400cb2e74c73ae5f982d79e41efb 02 00000001 02 00000001 01 01 00000001 00000000 00000000 \
             02 7dd15343f1db3e61c3259395a9ddea16 00",
            "01 0f 00 00000001 000000000000000b 00000000000007d0 00",
            "01 05 02 00000000 e40b400cb2e74c73ae5f982d79e41efb 04 00 01 01 01 04 ffffffff 06 05 02 00000001 07 05 02 00000001",
        ] {
            kafka.apply(&hex(record)).unwrap_or_else(|error| panic!("{record}: {error}"));
        }
        kafka
    }

    fn borrowed() -> Image {
        kafka().image("c", 30).unwrap().borrow(ME, 30, None).unwrap()
    }

    #[test]
    fn kafka_s_records_are_understood() {
        let image = kafka().image("c", 30).unwrap();
        let topic = image.topic("plain-none").unwrap();
        assert_eq!(topic.id.to_string(), "5AtADLLnTHOuX5gteeQe-w");
        let partition = &topic.partitions[0];
        assert_eq!((partition.leader, partition.leader_epoch), (BrokerId::NONE, LeaderEpoch::new(1)));
        assert_eq!((partition.isr.len(), partition.elr.clone()), (0, vec![ME]));
        assert_eq!((image.version(), image.next_producer_id().get()), (30, 2000));
        let broker = image.broker(ME).unwrap();
        assert_eq!(
            (broker.host.as_str(), broker.port, broker.epoch),
            ("127.0.0.1", 29602, BrokerEpoch::new(11))
        );
        assert_eq!(broker.directories[0].to_string(), "fdFTQ_HbPmHDJZOVqd3qFg");
    }

    #[test]
    fn what_kafka_would_not_know_of_is_refused_and_says_how_to_keep() {
        let image = borrowed();
        let topic = "plain-none".to_owned();
        for command in [
            Command::RaiseLeaderEpochs { broker: ME },
            Command::CreateTopic(NewTopic::named("new", Uuid::from_halves(1, 1))),
            Command::DeleteTopic(TopicRef::Name(topic.clone())),
            Command::CreatePartitions { topic: topic.clone(), total: 2, assignments: None },
            Command::AlterTopicConfig { topic, ops: vec![ConfigOp::Set("retention.ms".into(), "1".into())] },
            Command::AlterBrokerConfig { broker: ME, ops: Vec::new() },
        ] {
            let error = apply(&image, &command).unwrap_err();
            assert!(matches!(error, ControlError::Borrowed { .. }), "{command:?}: {error}");
            assert!(error.to_string().contains("adopt DIR --keep"), "{error}");
        }
    }

    #[test]
    fn a_start_takes_kafka_s_place_and_raises_no_epoch() {
        let image = borrowed();
        let registered = Command::RegisterBroker(Registration::new(ME, "here", 9));
        let (image, applied) = apply(&image, &registered).unwrap();
        let epoch = BrokerEpoch::new(11);
        assert_eq!(applied, Applied::BrokerRegistered { epoch, unclean: Vec::new() });
        let (image, _) = apply(&image, &Command::UnfenceBroker { broker: ME, epoch }).unwrap();
        let partition = &image.topic("plain-none").unwrap().partitions[0];
        assert_eq!((partition.leader, partition.leader_epoch), (ME, LeaderEpoch::new(1)));
        assert_eq!((image.broker(ME).unwrap().host.as_str(), image.broker(ME).unwrap().port), ("here", 9));
        let (again, _) = apply(&image, &registered).unwrap();
        assert!(again.version() > image.version(), "a start at the same place is a change too");
    }

    #[test]
    fn producer_ids_are_none_that_kafka_gives_out_and_none_twice() {
        let (first, applied) = apply(&borrowed(), &Command::AllocateProducerIds).unwrap();
        let expected = ProducerId::new(FIRST_BORROWED_PRODUCER_ID);
        assert_eq!(applied, Applied::ProducerIds { first: expected, count: 1000 });
        let kafka = kafka().image("c", 90).unwrap();
        let next = kafka.borrow(ME, 90, Some(&first)).unwrap();
        assert_eq!(next.next_producer_id(), first.next_producer_id());
        assert!(next.version() >= first.version());
        assert_eq!(next.keep(&kafka).next_producer_id(), first.next_producer_id());
        assert_eq!(borrowed().keep(&kafka).next_producer_id().get(), 2000);
    }

    #[test]
    fn a_kept_image_changes_as_any_other_and_both_survive_their_file() {
        let kafka = kafka().image("c", 30).unwrap();
        let image = borrowed();
        assert_eq!(decode_catalog(&encode_catalog(&image)), Ok(image.clone()));
        let kept = image.keep(&kafka);
        assert_eq!((image.borrowed(), kept.borrowed()), (Some(30), None));
        assert_eq!(decode_catalog(&encode_catalog(&kept)), Ok(kept.clone()));
        let (raised, _) = apply(&kept, &Command::RaiseLeaderEpochs { broker: ME }).unwrap();
        assert_eq!(raised.topic("plain-none").unwrap().partitions[0].leader_epoch, LeaderEpoch::new(2));
    }

    #[test]
    fn replicas_elsewhere_are_named_and_given_up() {
        let mut kafka = kafka();
        let other = hex(
            "01 03 02 00000001 e40b400cb2e74c73ae5f982d79e41efb 03 00000001 00000002 02 00000002 01 01 00000002 00000005 \
             00000007 03 7dd15343f1db3e61c3259395a9ddea16 0ddd5343f1db3e61c3259395a9ddea16 00",
        );
        kafka.apply(&other).unwrap();
        let kafka = kafka.image("c", 30).unwrap();
        let shared: Vec<_> = kafka.shared_partitions(ME).collect();
        assert_eq!(shared, [("plain-none", PartitionIndex::new(1))]);
        let image = kafka.borrow(ME, 30, None).unwrap();
        let partition = &image.topic("plain-none").unwrap().partitions[1];
        assert_eq!(
            (partition.replicas.clone(), partition.leader, partition.leader_epoch.get()),
            (vec![ME], ME, 5)
        );
        let elsewhere = kafka.borrow(BrokerId::new(2), 30, None).unwrap_err();
        assert_eq!(elsewhere, ControlError::BrokerNotRegistered { broker: BrokerId::new(2) });
    }
}
