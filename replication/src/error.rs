//! Why a partition did not do what it was asked, and the Kafka error each reason is.

use std::fmt;

use highwater_base::{BrokerId, LeaderEpoch, Offset};
use highwater_engine::{AppendError, Busy, LogFailure, ReadError};

/// A request to a partition was not done.
///
/// ```
/// use highwater_base::{BrokerId, LeaderEpoch};
/// use highwater_replication::PartitionError;
/// let e = PartitionError::NotLeader { leader: BrokerId::new(2), epoch: LeaderEpoch::new(7) };
/// assert_eq!(e.kafka_code(), 6);
/// assert!(e.to_string().contains("broker 2"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PartitionError {
    /// The caller's: this replica does not lead; another may.
    NotLeader {
        /// The leader, or [`BrokerId::NONE`].
        leader: BrokerId,
        /// The latest leadership known of.
        epoch: LeaderEpoch,
    },
    /// The caller's: it believes in an earlier leadership.
    FencedLeaderEpoch {
        /// The present leadership.
        expected: LeaderEpoch,
        /// The caller's.
        found: LeaderEpoch,
    },
    /// The caller knows of a later leadership than this replica.
    UnknownLeaderEpoch {
        /// The leadership known here.
        expected: LeaderEpoch,
        /// The caller's.
        found: LeaderEpoch,
    },
    /// Too few replicas are in sync; nothing was appended.
    NotEnoughReplicas {
        /// How many there are.
        in_sync: usize,
        /// How many there must be.
        needed: usize,
    },
    /// Too few replicas are in sync by now; the batch is appended, but may be lost with the leader.
    NotEnoughReplicasAfterAppend {
        /// How many there are.
        in_sync: usize,
        /// How many there must be.
        needed: usize,
    },
    /// The deadline passed first. A produced batch may be appended all the same.
    TimedOut,
    /// The caller's: an offset outside what there is.
    OffsetOutOfRange {
        /// What was asked for.
        asked: Offset,
        /// The log start.
        log_start: Offset,
        /// The end of what may be asked for.
        end: Offset,
    },
    /// The leader has just begun, and its high watermark may lie below what an earlier one showed. Passes.
    OffsetNotAvailable {
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The caller's: records of a topic that is only compacted are not deleted by offset.
    NotDeletable,
    /// Too much waits on this partition already. Passes.
    TooManyParked {
        /// The limit, [`highwater_base::Limits::parked`].
        limit: usize,
    },
    /// The log did not append.
    Append(AppendError),
    /// The log did not read.
    Read(ReadError),
    /// The device is full: the batch is in the log and not on the disk. It will be, when space returns.
    NotWritten {
        /// The log's directory.
        dir: std::path::PathBuf,
    },
    /// The log has failed for good.
    Storage(LogFailure),
}

impl PartitionError {
    /// The code of this error in Kafka's protocol.
    pub fn kafka_code(&self) -> i16 {
        match self {
            PartitionError::NotLeader { .. } => 6,
            PartitionError::FencedLeaderEpoch { .. } => 74,
            PartitionError::UnknownLeaderEpoch { .. } => 75,
            PartitionError::NotEnoughReplicas { .. } => 19,
            PartitionError::NotEnoughReplicasAfterAppend { .. } => 20,
            PartitionError::TimedOut | PartitionError::TooManyParked { .. } => 7,
            PartitionError::OffsetOutOfRange { .. } => 1,
            PartitionError::OffsetNotAvailable { .. } => 78,
            PartitionError::NotDeletable => 44,
            PartitionError::NotWritten { .. } | PartitionError::Storage(_) => 56,
            PartitionError::Append(error) => append_code(error),
            PartitionError::Read(error) => match error {
                ReadError::OutOfRange { .. } => 1,
                // Retried by the client, after it has refreshed its metadata.
                ReadError::Busy(busy) => busy_code(*busy),
                _ => 56,
            },
        }
    }
}

fn append_code(error: &AppendError) -> i16 {
    match error {
        AppendError::Batch(error) => error.kafka_code(),
        AppendError::Producer(error) => error.kafka_code(),
        AppendError::Busy(busy) => busy_code(*busy),
        AppendError::StaleEpoch { .. } => 6,
        AppendError::Backpressure { .. } => 7,
        _ => 56,
    }
}

fn busy_code(busy: Busy) -> i16 {
    match busy {
        Busy::Creating | Busy::Waking | Busy::Truncating | Busy::Closing | Busy::Deleting => 6,
        _ => 6,
    }
}

impl fmt::Display for PartitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionError::NotLeader { leader, epoch } if leader.is_some() => {
                write!(
                    f,
                    "This broker does not lead the partition; broker {leader} does, in leader epoch {epoch}."
                )
            }
            PartitionError::NotLeader { epoch, .. } => {
                write!(f, "The partition has no leader at present (leader epoch {epoch}).")
            }
            PartitionError::FencedLeaderEpoch { expected, found } => {
                write!(f, "The leader epoch is {expected} by now, the request carries {found}.")
            }
            PartitionError::UnknownLeaderEpoch { expected, found } => {
                write!(f, "The request carries leader epoch {found}, this broker knows only {expected} yet.")
            }
            PartitionError::NotEnoughReplicas { in_sync, needed } => write!(
                f,
                "The size of the current ISR, {in_sync}, is insufficient to satisfy the min.isr requirement of {needed}; \
                 nothing was appended."
            ),
            PartitionError::NotEnoughReplicasAfterAppend { in_sync, needed } => write!(
                f,
                "The ISR shrank to {in_sync} of {needed} while the batch was being replicated; it is appended, but not \
                 acknowledged."
            ),
            PartitionError::TimedOut => {
                f.write_str("The request's time is up; what it asked for may happen all the same.")
            }
            PartitionError::OffsetOutOfRange { asked, log_start, end } => {
                write!(f, "Offset {asked} is outside the range {log_start} to {end}.")
            }
            PartitionError::OffsetNotAvailable { high_watermark } => write!(
                f,
                "The leader has just begun and its high watermark, {high_watermark}, has not caught up; retry."
            ),
            PartitionError::NotDeletable => f.write_str(
                "Records of a topic without the cleanup policy \"delete\" are not deleted by offset.",
            ),
            PartitionError::TooManyParked { limit } => {
                write!(f, "{limit} requests wait on this partition already; retry later.")
            }
            PartitionError::Append(error) => error.fmt(f),
            PartitionError::Read(error) => error.fmt(f),
            PartitionError::NotWritten { dir } => write!(
                f,
                "The device of {} is full; the batch is taken, but is not on the disk before there is space. Free some.",
                dir.display()
            ),
            PartitionError::Storage(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for PartitionError {}

impl From<AppendError> for PartitionError {
    fn from(error: AppendError) -> PartitionError {
        match error {
            AppendError::Failed(failure) => PartitionError::Storage(failure),
            other => PartitionError::Append(other),
        }
    }
}

impl From<ReadError> for PartitionError {
    fn from(error: ReadError) -> PartitionError {
        match error {
            ReadError::OutOfRange { asked, log_start, log_end } => {
                PartitionError::OffsetOutOfRange { asked, log_start, end: log_end }
            }
            ReadError::Failed(failure) => PartitionError::Storage(failure),
            other => PartitionError::Read(other),
        }
    }
}
