//! Why a command was refused, and the Kafka error each refusal is.

use std::fmt;

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, Uuid};

/// A refused command. The image is unchanged.
///
/// ```
/// use highwater_control::{ControlError, check_topic_name};
/// let error = check_topic_name("").unwrap_err();
/// assert_eq!(error.kafka_code(), 17);
/// assert_eq!(error.to_string(), "Topic name is invalid: the empty string is not allowed");
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// The name breaks a rule of [`crate::check_topic_name`].
    InvalidTopicName {
        /// Which.
        reason: String,
    },
    /// The name differs from an existing one only in `.` and `_`.
    TopicCollision {
        /// The name asked for.
        name: String,
        /// The topic that is there.
        existing: String,
    },
    /// There is such a topic already.
    TopicExists {
        /// Its name.
        name: String,
    },
    /// There is no topic of this name.
    UnknownTopic {
        /// The name asked for.
        name: String,
    },
    /// There is no topic of this id.
    UnknownTopicId {
        /// The id asked for.
        id: Uuid,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The number asked for.
        index: PartitionIndex,
    },
    /// A number of partitions that is not positive.
    InvalidPartitionCount {
        /// What was asked for.
        found: i32,
    },
    /// More partitions at once than one command may make.
    TooManyPartitions {
        /// What was asked for.
        found: i64,
        /// The largest number.
        limit: i32,
    },
    /// Partitions are only added: the number asked for is not larger than the present one.
    NotAnIncrease {
        /// The topic.
        topic: String,
        /// How many partitions it has.
        current: i32,
        /// How many were asked for.
        requested: i32,
    },
    /// A replication factor that is neither positive nor -1.
    InvalidReplicationFactor {
        /// What was asked for.
        found: i16,
    },
    /// More replicas than brokers.
    TooFewBrokers {
        /// The replication factor asked for.
        requested: usize,
        /// How many brokers are registered.
        registered: usize,
    },
    /// Every registered broker is fenced, so nobody could lead.
    AllBrokersFenced,
    /// A manual assignment that cannot be.
    InvalidAssignment {
        /// What is wrong with it.
        reason: String,
    },
    /// A request that contradicts itself.
    InvalidRequest {
        /// How.
        reason: String,
    },
    /// A setting that cannot be.
    InvalidConfig(crate::ConfigError),
    /// No broker of this id is registered.
    BrokerNotRegistered {
        /// The id.
        broker: BrokerId,
    },
    /// Another incarnation of the broker has registered since.
    StaleBrokerEpoch {
        /// The broker.
        broker: BrokerId,
        /// Its present epoch.
        expected: BrokerEpoch,
        /// The epoch in the command.
        found: BrokerEpoch,
    },
    /// The leader that asks was deposed.
    FencedLeaderEpoch {
        /// The present epoch.
        expected: LeaderEpoch,
        /// The epoch in the command.
        found: LeaderEpoch,
    },
    /// The partition has changed since the proposal was made.
    StalePartitionEpoch {
        /// The present epoch.
        expected: PartitionEpoch,
        /// The epoch in the command.
        found: PartitionEpoch,
    },
    /// The asking leader knows more than this authority, which is therefore not the current one.
    NotController {
        /// What it knows.
        reason: String,
    },
    /// A proposed member of the ISR may not be one now.
    IneligibleReplica {
        /// Which.
        broker: BrokerId,
        /// Why not.
        reason: &'static str,
    },
    /// The producer ids are used up.
    ProducerIdsExhausted,
    /// The metadata are Apache Kafka's, and Kafka would not know of the change.
    Borrowed {
        /// What was asked for.
        refused: &'static str,
    },
    /// The changed metadata could not be stored, so the change did not happen.
    NotStored {
        /// What the system said.
        reason: String,
    },
}

impl ControlError {
    /// The code of this error in Kafka's protocol. The only place where this crate assigns one.
    pub fn kafka_code(&self) -> i16 {
        match self {
            ControlError::InvalidTopicName { .. } | ControlError::TopicCollision { .. } => 17,
            ControlError::TopicExists { .. } => 36,
            ControlError::UnknownTopic { .. } | ControlError::UnknownPartition { .. } => 3,
            ControlError::UnknownTopicId { .. } => 100,
            ControlError::InvalidPartitionCount { .. } | ControlError::NotAnIncrease { .. } => 37,
            ControlError::TooManyPartitions { .. } | ControlError::Borrowed { .. } => 44,
            ControlError::InvalidReplicationFactor { .. }
            | ControlError::TooFewBrokers { .. }
            | ControlError::AllBrokersFenced => 38,
            ControlError::InvalidAssignment { .. } => 39,
            ControlError::InvalidRequest { .. } => 42,
            ControlError::InvalidConfig(_) => 40,
            ControlError::BrokerNotRegistered { .. } => 102,
            ControlError::StaleBrokerEpoch { .. } => 77,
            ControlError::FencedLeaderEpoch { .. } => 74,
            ControlError::StalePartitionEpoch { .. } => 95,
            ControlError::NotController { .. } => 41,
            ControlError::IneligibleReplica { .. } => 107,
            ControlError::ProducerIdsExhausted => -1,
            ControlError::NotStored { .. } => 56,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::InvalidTopicName { reason } => write!(f, "Topic name is invalid: {reason}"),
            ControlError::TopicCollision { name, existing } => {
                write!(f, "Topic '{name}' collides with existing topic: {existing}")
            }
            ControlError::TopicExists { name } => write!(f, "Topic '{name}' already exists."),
            ControlError::UnknownTopic { name } => {
                write!(f, "This server does not host this topic-partition: there is no topic '{name}'.")
            }
            ControlError::UnknownTopicId { id } => {
                write!(f, "This server does not host this topic ID: {id}.")
            }
            ControlError::UnknownPartition { topic, index } => {
                write!(
                    f,
                    "This server does not host this topic-partition: topic '{topic}' has no partition {index}."
                )
            }
            ControlError::InvalidPartitionCount { found } => write!(
                f,
                "Number of partitions was set to an invalid non-positive value: {found}; use at least 1, \
                 or -1 for the broker's default."
            ),
            ControlError::TooManyPartitions { found, limit } => write!(
                f,
                "Excessively large number of partitions per request: {found}; at most {limit} are made at once."
            ),
            ControlError::NotAnIncrease { topic, current, requested } if current == requested => {
                write!(f, "Topic '{topic}' already has {current} partition(s), and {requested} were asked for.")
            }
            ControlError::NotAnIncrease { topic, current, requested } => write!(
                f,
                "The topic {topic} currently has {current} partition(s); {requested} would not be an increase. \
                 Partitions are only ever added."
            ),
            ControlError::InvalidReplicationFactor { found } => write!(
                f,
                "Replication factor must be larger than 0, or -1 to use the default value; found {found}."
            ),
            ControlError::TooFewBrokers { requested, registered } => write!(
                f,
                "Unable to replicate the partition {requested} time(s): The target replication factor of \
                 {requested} cannot be reached because only {registered} broker(s) are registered."
            ),
            ControlError::AllBrokersFenced => f.write_str(
                "Unable to place the partition: All brokers are currently fenced. Retry once one has started.",
            ),
            ControlError::InvalidAssignment { reason } | ControlError::InvalidRequest { reason } => {
                f.write_str(reason)
            }
            ControlError::InvalidConfig(error) => write!(f, "{error}"),
            ControlError::BrokerNotRegistered { broker } => {
                write!(f, "No broker with id {broker} is registered.")
            }
            ControlError::StaleBrokerEpoch { broker, expected, found } => write!(
                f,
                "Broker {broker} is registered with epoch {expected}, the request carries epoch {found}."
            ),
            ControlError::FencedLeaderEpoch { expected, found } => {
                write!(f, "The leader epoch is {expected} by now, the request carries {found}.")
            }
            ControlError::StalePartitionEpoch { expected, found } => {
                write!(f, "The partition epoch is {expected} by now, the request carries {found}.")
            }
            ControlError::NotController { reason } => {
                write!(f, "This is not the correct controller for this cluster: {reason}.")
            }
            ControlError::IneligibleReplica { broker, reason } => {
                write!(f, "Broker {broker} may not join the ISR: {reason}.")
            }
            ControlError::ProducerIdsExhausted => f.write_str("All 2^63 producer ids were given out."),
            ControlError::Borrowed { refused } => write!(
                f,
                "{refused} is refused: the data directory is Apache Kafka's, which would not know of it; to keep the \
                 directory for good, stop the broker and run `highwater adopt DIR --keep`."
            ),
            ControlError::NotStored { reason } => {
                write!(f, "The cluster's metadata could not be stored, nothing was changed: {reason}")
            }
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ControlError::InvalidConfig(error) => Some(error),
            _ => None,
        }
    }
}

impl From<crate::ConfigError> for ControlError {
    fn from(error: crate::ConfigError) -> ControlError {
        ControlError::InvalidConfig(error)
    }
}
