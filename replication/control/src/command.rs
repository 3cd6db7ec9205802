//! What may change the image.

use std::sync::Arc;

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, Uuid};

use crate::{Configs, LeaderRecovery, Topic};

/// Producer ids come in blocks of this many.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Most partitions that one command makes.
pub const MAX_PARTITIONS_PER_COMMAND: i32 = 10_000;

/// A broker that starts.
///
/// ```
/// use highwater_base::BrokerId;
/// let r = highwater_control::Registration::new(BrokerId::new(0), "127.0.0.1", 9092);
/// assert_eq!(r.directories.len(), 1);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Registration {
    /// Its id.
    pub id: BrokerId,
    /// The host that clients are to be told.
    pub host: String,
    /// The port that clients are to be told.
    pub port: u16,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
    /// The ids of its data directories; at least one.
    pub directories: Vec<Uuid>,
    /// The epoch that its clean-stop marker names: [`BrokerEpoch::NONE`] after an unclean stop. Any other than
    /// its last one counts as unclean: it leaves ISR and ELR wherever another member remains.
    pub previous_epoch: BrokerEpoch,
}

impl Registration {
    /// With one directory of unknown id, no rack, and no clean stop before.
    pub fn new(id: BrokerId, host: impl Into<String>, port: u16) -> Registration {
        Registration {
            id,
            host: host.into(),
            port,
            rack: None,
            directories: vec![Uuid::ZERO],
            previous_epoch: BrokerEpoch::NONE,
        }
    }
}

/// A topic to be made.
///
/// ```
/// use highwater_base::Uuid;
/// let new = highwater_control::NewTopic::named("orders", Uuid::from_halves(1, 1));
/// assert_eq!(new.partitions, -1);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id: fresh, random; a topic's id is chosen by who asks so that applying stays pure.
    pub id: Uuid,
    /// How many partitions; -1 for `default_partitions`, or with `assignments`.
    pub partitions: i32,
    /// How many replicas; -1 for `default_replication_factor`, or with `assignments`.
    pub replication_factor: i16,
    /// Replicas by partition, chosen by hand; empty to have them placed.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// Its settings.
    pub configs: Configs,
    /// `num.partitions` of the broker that was asked.
    pub default_partitions: i32,
    /// `default.replication.factor` of the broker that was asked.
    pub default_replication_factor: i16,
}

impl NewTopic {
    /// With one partition and one replica by default, and no settings.
    pub fn named(name: impl Into<String>, id: Uuid) -> NewTopic {
        NewTopic {
            name: name.into(),
            id,
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Configs::new(),
            default_partitions: 1,
            default_replication_factor: 1,
        }
    }
}

/// A topic, by what the request names it with.
///
/// ```
/// use highwater_control::TopicRef;
/// assert_ne!(TopicRef::Name("a".into()), TopicRef::Id(highwater_base::Uuid::ZERO));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// One change of one setting (Kafka's incremental operations 0 to 3).
///
/// ```
/// use highwater_control::ConfigOp;
/// assert_eq!(ConfigOp::from_kafka(1, "retention.ms", None), Some(ConfigOp::Delete("retention.ms".into())));
/// assert_eq!(ConfigOp::from_kafka(9, "retention.ms", None), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigOp {
    /// Set it.
    Set(String, String),
    /// Back to the level above.
    Delete(String),
    /// Add these items to a list.
    Append(String, String),
    /// Take these items from a list.
    Subtract(String, String),
}

impl ConfigOp {
    /// From the protocol's operation number; none for an unknown number or a missing value.
    pub fn from_kafka(operation: i8, name: &str, value: Option<&str>) -> Option<ConfigOp> {
        let name = name.to_owned();
        match (operation, value) {
            (0, Some(value)) => Some(ConfigOp::Set(name, value.to_owned())),
            (1, _) => Some(ConfigOp::Delete(name)),
            (2, Some(value)) => Some(ConfigOp::Append(name, value.to_owned())),
            (3, Some(value)) => Some(ConfigOp::Subtract(name, value.to_owned())),
            _ => None,
        }
    }

    /// The setting it changes.
    pub fn name(&self) -> &str {
        match self {
            ConfigOp::Set(name, _)
            | ConfigOp::Delete(name)
            | ConfigOp::Append(name, _)
            | ConfigOp::Subtract(name, _) => name,
        }
    }
}

/// A leader's proposal of another ISR; compare-and-set on the partition epoch.
///
/// ```
/// use highwater_base::*;
/// use highwater_control::{IsrChange, LeaderRecovery};
/// let change = IsrChange {
///     topic: Uuid::from_halves(0, 1), index: PartitionIndex::new(0),
///     leader: BrokerId::new(1), leader_broker_epoch: BrokerEpoch::new(4),
///     leader_epoch: LeaderEpoch::new(2), partition_epoch: PartitionEpoch::new(7),
///     isr: vec![(BrokerId::new(1), BrokerEpoch::new(4))], recovery: LeaderRecovery::Recovered,
/// };
/// assert_eq!(change.isr.len(), 1);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct IsrChange {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub index: PartitionIndex,
    /// Who proposes.
    pub leader: BrokerId,
    /// Its incarnation.
    pub leader_broker_epoch: BrokerEpoch,
    /// The epoch it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The record it wants to change.
    pub partition_epoch: PartitionEpoch,
    /// The members, each with the incarnation whose fetches were counted ([`BrokerEpoch::NONE`]: not known).
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// What it says of its recovery.
    pub recovery: LeaderRecovery,
}

/// A change to the image.
///
/// ```
/// use highwater_control::{Applied, Command, Image, apply};
/// use highwater_base::{BrokerId, ProducerId};
/// let (image, applied) = apply(&Image::new("c"), &Command::AllocateProducerIds).unwrap();
/// assert_eq!(applied, Applied::ProducerIds { first: ProducerId::new(0), count: 1000 });
/// assert_eq!(image.next_producer_id(), ProducerId::new(1000));
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// A broker starts; it is fenced until [`Command::UnfenceBroker`]: [`Applied::BrokerRegistered`].
    RegisterBroker(Registration),
    /// A broker is ready to serve.
    UnfenceBroker {
        /// Which.
        broker: BrokerId,
        /// Its incarnation.
        epoch: BrokerEpoch,
    },
    /// A broker is not heard any more: it leaves the ISRs it shares, its leaderships move.
    FenceBroker {
        /// Which.
        broker: BrokerId,
        /// Its incarnation.
        epoch: BrokerEpoch,
    },
    /// A broker wants to stop: its leaderships move where another member is in sync.
    ShutDownBroker {
        /// Which.
        broker: BrokerId,
        /// Its incarnation.
        epoch: BrokerEpoch,
    },
    /// Raise the leader epoch of every partition that this broker leads; each start does so before it serves,
    /// so that bytes of an earlier life can always be told from new ones.
    RaiseLeaderEpochs {
        /// Whose.
        broker: BrokerId,
    },
    /// Make a topic: [`Applied::TopicCreated`].
    CreateTopic(NewTopic),
    /// Remove a topic: [`Applied::TopicDeleted`].
    DeleteTopic(TopicRef),
    /// Add partitions to a topic: [`Applied::PartitionsCreated`].
    CreatePartitions {
        /// The topic.
        topic: String,
        /// How many it shall have in all.
        total: i32,
        /// Replicas of each new one, chosen by hand.
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    /// Change a topic's settings.
    AlterTopicConfig {
        /// The topic.
        topic: String,
        /// All of them, or none.
        ops: Vec<ConfigOp>,
    },
    /// Change a broker's dynamic settings, those of all brokers with [`BrokerId::NONE`].
    AlterBrokerConfig {
        /// The broker.
        broker: BrokerId,
        /// All of them, or none.
        ops: Vec<ConfigOp>,
    },
    /// Give out a block of producer ids: [`Applied::ProducerIds`]. Use none before the image is stored.
    AllocateProducerIds,
    /// Never give out a producer id at or below this one, which was found in a log or a snapshot.
    ReserveProducerIds {
        /// The largest id found.
        up_to: ProducerId,
    },
    /// A broker takes new replicas only in these of its directories from now on; at least one. What lies in the others is
    /// assigned to them all the same.
    SetDirectories {
        /// Which broker.
        broker: BrokerId,
        /// The ids of its directories that work.
        directories: Vec<Uuid>,
    },
    /// A leader proposes another ISR: [`Applied::IsrChanged`].
    ChangeIsr(IsrChange),
    /// A replica moved, or reports, its data directory.
    AssignDirectory {
        /// The topic.
        topic: Uuid,
        /// The partition.
        index: PartitionIndex,
        /// Whose replica.
        broker: BrokerId,
        /// Where it is.
        directory: Uuid,
    },
}

/// What a command did.
///
/// ```
/// assert_ne!(highwater_control::Applied::Done, highwater_control::Applied::Unchanged);
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Applied {
    /// It changed the image as it says.
    Done,
    /// Everything was so already; the image is the same, version included.
    Unchanged,
    /// A broker was registered.
    BrokerRegistered {
        /// Its incarnation from now on.
        epoch: BrokerEpoch,
        /// Partitions whose new leader may lack committed records, by an unclean election.
        unclean: Vec<(Uuid, PartitionIndex)>,
    },
    /// A broker's state changed.
    BrokerStateChanged {
        /// Partitions whose new leader may lack committed records, by an unclean election.
        unclean: Vec<(Uuid, PartitionIndex)>,
    },
    /// A topic was made.
    TopicCreated(Arc<Topic>),
    /// A topic was removed.
    TopicDeleted(Arc<Topic>),
    /// Partitions were added.
    PartitionsCreated {
        /// The topic as it is now.
        topic: Arc<Topic>,
        /// The first new one.
        first: PartitionIndex,
    },
    /// A block of producer ids.
    ProducerIds {
        /// The first id.
        first: ProducerId,
        /// How many, from the first on.
        count: i64,
    },
    /// The ISR is as proposed (or was so already, for a proposal whose answer was lost).
    IsrChanged {
        /// The members.
        isr: Vec<BrokerId>,
        /// The record's epoch.
        partition_epoch: PartitionEpoch,
    },
}
