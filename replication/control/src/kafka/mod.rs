//! Apache Kafka's own metadata, from the values of the records in its metadata log (`__cluster_metadata-0`).
//!
//! Pure: who reads the files hands in the values, first those of a snapshot, if there is one, then those of the log from
//! its end on.

mod cursor;
mod error;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{BrokerEpoch, BrokerId, ProducerId, Uuid};

pub use error::MetadataError;
use record::{PartitionChange, PartitionRecord, Record};

use crate::{Broker, BrokerState, Configs, Image, LeaderRecovery, PartitionState, Topic, check_topic_name};

/// Producer ids given out while the metadata are Kafka's begin here: Kafka counts from 0 and never comes so far, so
/// neither gives out an id of the other's.
pub(crate) const FIRST_BORROWED_PRODUCER_ID: i64 = 1 << 62;

/// The metadata of a Kafka cluster.
///
/// ```
/// use highwater_control::KafkaMetadata;
/// let mut kafka = KafkaMetadata::new();
/// // FEATURE_LEVEL_RECORD version 0: metadata.version is 30.
/// kafka.apply(b"\x01\x0c\x00\x11metadata.version\x00\x1e\x00")?;
/// assert_eq!(kafka.features().collect::<Vec<_>>(), [("metadata.version", 30)]);
/// # Ok::<(), highwater_control::MetadataError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KafkaMetadata {
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<Uuid, KafkaTopic>,
    topic_configs: BTreeMap<String, Configs>,
    broker_configs: BTreeMap<BrokerId, Configs>,
    features: BTreeMap<String, i16>,
    next_producer_id: i64,
    passed_over: BTreeMap<&'static str, u64>,
    /// Values of a metadata transaction that has begun: they count once it has ended.
    pending: Option<Vec<Vec<u8>>>,
}

#[derive(Clone, PartialEq, Debug)]
struct KafkaTopic {
    name: Arc<str>,
    partitions: BTreeMap<i32, PartitionState>,
}

impl KafkaMetadata {
    /// Of an empty log.
    pub fn new() -> KafkaMetadata {
        KafkaMetadata::default()
    }

    /// Takes the value of the next record. Control records have none to take.
    pub fn apply(&mut self, value: &[u8]) -> Result<(), MetadataError> {
        let record = Record::decode(value)?;
        match (&record, &mut self.pending) {
            (Record::Begin, pending) => *pending = Some(Vec::new()),
            (Record::Abort, pending) => *pending = None,
            (Record::End, pending) => {
                for value in pending.take().unwrap_or_default() {
                    self.take(Record::decode(&value)?)?;
                }
            }
            (_, Some(pending)) => pending.push(value.to_vec()),
            (_, None) => self.take(record)?,
        }
        Ok(())
    }

    /// Names and levels of the features that the cluster has agreed on.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// What an image has nothing of, and how many records speak of it.
    pub fn passed_over(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.passed_over.iter().map(|(what, count)| (*what, *count))
    }

    /// The first producer id that Kafka gave nobody.
    pub fn next_producer_id(&self) -> ProducerId {
        ProducerId::new(self.next_producer_id)
    }

    fn take(&mut self, record: Record<'_>) -> Result<(), MetadataError> {
        match record {
            Record::RegisterBroker(new) => {
                let directories = if new.directories.is_empty() { vec![Uuid::ZERO] } else { new.directories };
                let broker = Broker {
                    id: new.id,
                    epoch: new.epoch,
                    host: new.host.to_owned(),
                    port: new.port,
                    rack: new.rack.map(str::to_owned),
                    directories,
                    state: state(new.fenced),
                };
                self.brokers.insert(new.id, broker);
            }
            Record::UnregisterBroker { broker } => _ = self.brokers.remove(&broker),
            Record::ChangeBroker { broker, fenced, directories } => {
                let known = self.brokers.get_mut(&broker);
                let known = known.ok_or_else(|| unknown(format!("broker {broker}")))?;
                if fenced != 0 {
                    known.state = state(fenced > 0);
                }
                if let Some(directories) = directories.filter(|list| !list.is_empty()) {
                    known.directories = directories;
                }
            }
            Record::Topic { name, id } => {
                check_topic_name(name).map_err(|error| impossible(error.to_string()))?;
                self.topics.insert(id, KafkaTopic { name: name.into(), partitions: BTreeMap::new() });
            }
            Record::RemoveTopic { id } => {
                let removed = self.topics.remove(&id).ok_or_else(|| unknown(format!("topic {id}")))?;
                self.topic_configs.remove(&*removed.name);
            }
            Record::Partition(new) => self.partition(new)?,
            Record::ChangePartition(change) => self.change_partition(change)?,
            Record::Config { resource, name, key, value } => self.config(resource, name, key, value),
            Record::Feature { name, level: 0 } => _ = self.features.remove(name),
            Record::Feature { name, level } => _ = self.features.insert(name.to_owned(), level),
            Record::ProducerIds { next } => self.next_producer_id = next.get(),
            Record::ClearElr { topic } => {
                let named = |known: &&mut KafkaTopic| topic.is_empty() || *known.name == *topic;
                for topic in self.topics.values_mut().filter(named) {
                    topic.partitions.values_mut().for_each(|partition| partition.elr.clear());
                }
            }
            Record::PassedOver(what) => *self.passed_over.entry(what).or_default() += 1,
            Record::Begin | Record::End | Record::Abort => unreachable!("they are dealt with before"),
        }
        Ok(())
    }

    fn config(&mut self, resource: i8, name: &str, key: &str, value: Option<&str>) {
        let configs = match resource {
            2 => self.topic_configs.entry(name.to_owned()).or_default(),
            // The empty name stands for all brokers.
            4 => match if name.is_empty() { Ok(BrokerId::NONE.get()) } else { name.parse() } {
                Ok(id) => self.broker_configs.entry(BrokerId::new(id)).or_default(),
                Err(_) => return *self.passed_over.entry("settings of no broker").or_default() += 1,
            },
            16 => return *self.passed_over.entry("client metrics settings").or_default() += 1,
            32 => return *self.passed_over.entry("consumer group settings").or_default() += 1,
            _ => return *self.passed_over.entry("settings of other kinds").or_default() += 1,
        };
        match value {
            Some(value) => _ = configs.insert(key.to_owned(), value.to_owned()),
            None => _ = configs.remove(key),
        }
    }

    fn partition(&mut self, new: PartitionRecord) -> Result<(), MetadataError> {
        let topic = self.topics.get_mut(&new.topic);
        let topic = topic.ok_or_else(|| unknown(format!("topic {}", new.topic)))?;
        let state = PartitionState {
            directories: places(new.directories, new.replicas.len()),
            replicas: new.replicas,
            elr: new.elr.into_iter().filter(|id| !new.isr.contains(id)).collect(),
            isr: new.isr,
            last_known_leader: new.leader,
            leader: new.leader,
            leader_epoch: new.leader_epoch,
            partition_epoch: new.partition_epoch,
            recovery: recovery(new.recovering),
        };
        state
            .check()
            .map_err(|broken| impossible(format!("partition {}-{}: {broken}", topic.name, new.index)))?;
        topic.partitions.insert(new.index, state);
        Ok(())
    }

    fn change_partition(&mut self, change: PartitionChange) -> Result<(), MetadataError> {
        let name = || unknown(format!("partition {} of topic {}", change.index, change.topic));
        let topic = self.topics.get_mut(&change.topic).ok_or_else(name)?;
        let partition = topic.partitions.get_mut(&change.index).ok_or_else(name)?;
        if let Some(replicas) = change.replicas {
            partition.replicas = replicas;
        }
        let directories = change.directories.unwrap_or_else(|| std::mem::take(&mut partition.directories));
        partition.directories = places(directories, partition.replicas.len());
        if let Some(isr) = change.isr {
            partition.isr = isr;
        }
        if let Some(elr) = change.elr {
            partition.elr = elr;
        }
        if let Some(leader) = change.leader {
            // KAFKA: a record that names the leader raises its epoch, also if it names the same one.
            partition.leader = leader;
            partition.leader_epoch = partition.leader_epoch.next();
            if leader.is_some() {
                partition.last_known_leader = leader;
            }
        }
        if let Some(recovering) = change.recovering {
            partition.recovery = recovery(recovering);
        }
        partition.partition_epoch = partition.partition_epoch.next();
        let broken = partition.check();
        broken.map_err(|broken| impossible(format!("partition {}-{}: {broken}", topic.name, change.index)))
    }

    /// The image of this metadata, exactly as Kafka has it. `end` is the offset behind the metadata log's last record;
    /// it becomes the image's version.
    pub fn image(&self, cluster_id: &str, end: u64) -> Result<Image, MetadataError> {
        let mut image = Image::new(cluster_id);
        let (mut topics, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (id, topic) in &self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (at, (index, partition)) in topic.partitions.iter().enumerate() {
                if usize::try_from(*index) != Ok(at) {
                    return Err(impossible(format!("topic {} has no partition {at}", topic.name)));
                }
                partitions.push(partition.clone());
            }
            let configs = self.topic_configs.get(&*topic.name).cloned().unwrap_or_default();
            names.insert(*id, Arc::clone(&topic.name));
            let topic = Topic { name: Arc::clone(&topic.name), id: *id, partitions, configs };
            if topics.insert(Arc::clone(&topic.name), Arc::new(topic)).is_some() {
                return Err(impossible(format!("two topics have the id {id} or its name")));
            }
        }
        image.brokers = Arc::new(self.brokers.clone());
        image.broker_configs = Arc::new(self.broker_configs.clone());
        image.topics = Arc::new(topics);
        image.names = Arc::new(names);
        image.next_producer_id = ProducerId::new(self.next_producer_id);
        let newest_epoch =
            self.brokers.values().map(|broker| broker.epoch).max().unwrap_or(BrokerEpoch::NONE);
        image.version = end.max(u64::try_from(newest_epoch.get()).unwrap_or(0));
        image.check().map_err(impossible)?;
        Ok(image)
    }
}

/// A directory for each replica; reserved ids (unknown, lost, being moved) are none.
fn places(mut directories: Vec<Uuid>, replicas: usize) -> Vec<Uuid> {
    directories.resize(replicas, Uuid::ZERO);
    for id in &mut directories {
        // KAFKA: the first hundred ids are reserved.
        if *id < Uuid::from_halves(0, 100) {
            *id = Uuid::ZERO;
        }
    }
    directories
}

fn state(fenced: bool) -> BrokerState {
    if fenced { BrokerState::Fenced } else { BrokerState::Active }
}

fn recovery(recovering: bool) -> LeaderRecovery {
    if recovering { LeaderRecovery::Recovering } else { LeaderRecovery::Recovered }
}

fn unknown(what: String) -> MetadataError {
    MetadataError::Unknown { what }
}

fn impossible(broken: String) -> MetadataError {
    MetadataError::Impossible { broken }
}
