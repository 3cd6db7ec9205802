//! Everything the cluster agrees on: brokers, topics, partitions, settings, the next producer id.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, Uuid};

/// Settings that were made, by name. Absent means "as the level above says".
pub type Configs = BTreeMap<String, String>;

/// What a broker may do now.
///
/// ```
/// use highwater_control::BrokerState;
/// assert!(BrokerState::Active.may_lead() && !BrokerState::Fenced.may_lead());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerState {
    /// Registered, but not (or no longer) heard: in no ISR that it shares, leads nothing.
    Fenced,
    /// Serving.
    Active,
    /// Serving until its leaderships have moved.
    ShuttingDown,
}

impl BrokerState {
    /// Whether it may be made leader, or join an ISR.
    pub const fn may_lead(self) -> bool {
        matches!(self, BrokerState::Active)
    }
}

/// One registered broker.
///
/// ```
/// use highwater_base::*;
/// use highwater_control::{Command, Image, Registration, apply};
/// let me = Registration::new(BrokerId::new(1), "localhost", 9092);
/// let (image, _) = apply(&Image::new("c"), &Command::RegisterBroker(me)).unwrap();
/// assert_eq!(image.broker(BrokerId::new(1)).unwrap().port, 9092);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Broker {
    /// Its id, unique in the cluster.
    pub id: BrokerId,
    /// Its incarnation: grows with every registration.
    pub epoch: BrokerEpoch,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
    /// The ids of its data directories, in the order it lists them; never empty.
    pub directories: Vec<Uuid>,
    /// What it may do.
    pub state: BrokerState,
}

/// Whether a leader was chosen although it may lack committed records (KIP-704).
///
/// ```
/// assert_ne!(highwater_control::LeaderRecovery::Recovered, highwater_control::LeaderRecovery::Recovering);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaderRecovery {
    /// The leader was in sync, or has recovered since.
    Recovered,
    /// Chosen uncleanly, and not done with what follows from that.
    Recovering,
}

/// One partition's record at the authority.
///
/// ```
/// use highwater_control::PartitionState;
/// use highwater_base::{BrokerId, Uuid};
/// let p = PartitionState::new(vec![BrokerId::new(1)], vec![Uuid::ZERO]);
/// assert_eq!(p.leader, BrokerId::new(1));
/// assert_eq!(p.isr, p.replicas);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct PartitionState {
    /// All assigned replicas (AR), preferred leader first. No broker twice; never empty.
    pub replicas: Vec<BrokerId>,
    /// The data directory of each replica, in the order of `replicas`; [`Uuid::ZERO`] while it is unknown.
    pub directories: Vec<Uuid>,
    /// The committed ISR, a subset of `replicas`; empty only with the leader gone and an ELR in its place.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that still hold everything committed (KIP-966).
    pub elr: Vec<BrokerId>,
    /// The last leader, kept while there is none; a candidate of last resort.
    pub last_known_leader: BrokerId,
    /// The leader, or [`BrokerId::NONE`]. If there is one, it is in the ISR.
    pub leader: BrokerId,
    /// Counts leaderships; never falls.
    pub leader_epoch: LeaderEpoch,
    /// Grows by one with every change of this record; never falls.
    pub partition_epoch: PartitionEpoch,
    /// Whether the leader was elected uncleanly.
    pub recovery: LeaderRecovery,
}

impl PartitionState {
    /// A new partition: all replicas in sync, the first one leads, both epochs 0. Panics without replicas.
    pub fn new(replicas: Vec<BrokerId>, directories: Vec<Uuid>) -> PartitionState {
        assert!(!replicas.is_empty(), "PartitionState::new: a partition has at least one replica");
        assert_eq!(replicas.len(), directories.len(), "PartitionState::new: one directory for each replica");
        PartitionState {
            leader: replicas[0],
            last_known_leader: replicas[0],
            isr: replicas.clone(),
            replicas,
            directories,
            elr: Vec::new(),
            leader_epoch: LeaderEpoch::ZERO,
            partition_epoch: PartitionEpoch::ZERO,
            recovery: LeaderRecovery::Recovered,
        }
    }

    /// The directory that holds this broker's replica, if it has one and its directory is known.
    pub fn directory_of(&self, broker: BrokerId) -> Option<Uuid> {
        let at = self.replicas.iter().position(|replica| *replica == broker)?;
        Some(self.directories[at]).filter(|id| *id != Uuid::ZERO)
    }

    /// Which rule of this record is broken.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        rule(!self.replicas.is_empty(), "it has no replicas")?;
        rule(self.replicas.len() == self.directories.len(), "its directories do not match its replicas")?;
        for (at, replica) in self.replicas.iter().enumerate() {
            rule(!self.replicas[..at].contains(replica), "a replica is listed twice")?;
        }
        for member in self.isr.iter().chain(&self.elr) {
            rule(self.replicas.contains(member), "a member of its ISR or ELR is no replica")?;
        }
        rule(
            !self.elr.iter().any(|member| self.isr.contains(member)),
            "a member of its ISR is also in its ELR",
        )?;
        rule(!self.leader.is_some() || self.isr.contains(&self.leader), "its leader is outside its ISR")?;
        rule(self.leader_epoch.is_some() && self.partition_epoch.is_some(), "an epoch is negative")
    }
}

/// One topic.
///
/// ```
/// use highwater_control::{PartitionState, Topic};
/// use highwater_base::*;
/// let state = PartitionState::new(vec![BrokerId::new(1)], vec![Uuid::ZERO]);
/// let topic = Topic { name: "t".into(), id: Uuid::from_halves(0, 9), partitions: vec![state], configs: Default::default() };
/// assert!(topic.partition(PartitionIndex::new(1)).is_none());
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Topic {
    /// Its name; legal by [`crate::check_topic_name`].
    pub name: Arc<str>,
    /// Its id: another one for every topic ever made, also of the same name. Never zero.
    pub id: Uuid,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionState>,
    /// What was set on it.
    pub configs: Configs,
}

impl Topic {
    /// The partition of this number.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionState> {
        usize::try_from(index.get()).ok().and_then(|at| self.partitions.get(at))
    }

    /// How many replicas its partitions have (of the first one, should they differ).
    pub fn replication_factor(&self) -> i16 {
        self.partitions.first().map_or(0, |p| i16::try_from(p.replicas.len()).unwrap_or(i16::MAX))
    }
}

/// The whole of the cluster's metadata: a value. Cloning copies a few counted pointers; [`crate::apply`] makes
/// the next one.
///
/// ```
/// use highwater_control::Image;
/// let image = Image::new("MkU3OEVBNTcwNTJENDM2Qk");
/// assert_eq!(image.version(), 0);
/// assert_eq!(image.topics().count(), 0);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Image {
    /// The cluster's id, as in `meta.properties`; fixed.
    pub(crate) cluster_id: Arc<str>,
    /// How many commands made this image; grows by one with each, and is the source of broker epochs.
    pub(crate) version: u64,
    /// The first producer id that nobody was given; never falls.
    pub(crate) next_producer_id: ProducerId,
    pub(crate) brokers: Arc<BTreeMap<BrokerId, Broker>>,
    pub(crate) topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// `topics` by id; always the same set.
    pub(crate) names: Arc<BTreeMap<Uuid, Arc<str>>>,
    /// Dynamic broker settings; [`BrokerId::NONE`] holds those of all brokers.
    pub(crate) broker_configs: Arc<BTreeMap<BrokerId, Configs>>,
    /// See [`Image::borrowed`].
    pub(crate) borrowed: Option<u64>,
}

impl Image {
    /// An empty cluster. Its first producer id is 0.
    pub fn new(cluster_id: impl Into<Arc<str>>) -> Image {
        Image {
            cluster_id: cluster_id.into(),
            version: 0,
            next_producer_id: ProducerId::new(0),
            brokers: Arc::default(),
            topics: Arc::default(),
            names: Arc::default(),
            broker_configs: Arc::default(),
            borrowed: None,
        }
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// How many commands made this image.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The first producer id that nobody was given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The broker of this id.
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// The settings made while running on this broker, or on all of them ([`BrokerId::NONE`]).
    pub fn broker_configs(&self, id: BrokerId) -> Option<&Configs> {
        self.broker_configs.get(&id)
    }

    /// Every broker with settings made while running, with those settings.
    pub fn all_broker_configs(&self) -> impl Iterator<Item = (BrokerId, &Configs)> {
        self.broker_configs.iter().map(|(id, configs)| (*id, configs))
    }

    /// Panics if a rule of the image is broken. Run after every applied command.
    pub fn invariants(&self) {
        if let Err(broken) = self.check() {
            panic!("image of version {}: {broken}", self.version);
        }
    }

    /// Which rule of the image is broken.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.topics.len() != self.names.len() {
            return Err("names and ids of topics differ in number".to_owned());
        }
        if !self.next_producer_id.is_some() {
            return Err("the next producer id is negative".to_owned());
        }
        for (name, topic) in self.topics.iter() {
            if *name != topic.name || self.names.get(&topic.id) != Some(name) || topic.id == Uuid::ZERO {
                return Err(format!("topic {name} is not found by its name and its id"));
            }
            if topic.partitions.is_empty() {
                return Err(format!("topic {name} has no partitions"));
            }
            for (index, partition) in topic.partitions.iter().enumerate() {
                partition.check().map_err(|broken| format!("partition {name}-{index}: {broken}"))?;
            }
        }
        for (id, broker) in self.brokers.iter() {
            if *id != broker.id || broker.directories.is_empty() {
                return Err(format!("broker {id} has no directory or another's id"));
            }
        }
        Ok(())
    }
}
