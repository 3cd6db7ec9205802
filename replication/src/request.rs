//! What a partition is asked, and what it answers.

use std::path::PathBuf;

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset, PartitionIndex, Uuid, WallMs};
use highwater_engine::{AbortedTransaction, Isolation, ReadError};
use highwater_io::{IoError, Slice};
use highwater_isr::{EpochEnd, FetchRequest, FollowerAnswer, IsrProposal};

use crate::PartitionError;

/// A partition's name among all that there ever were: its topic's id and its number.
pub type PartitionKey = (Uuid, PartitionIndex);

/// When a produced batch is acknowledged.
///
/// ```
/// use highwater_replication::Acks;
/// assert_eq!(Acks::from_kafka(-1), Some(Acks::All));
/// assert_eq!(Acks::from_kafka(2), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// 0: at once, and nobody hears of it.
    None,
    /// 1: when it is on the leader, as its durability means that.
    Leader,
    /// -1: when it is committed.
    All,
}

impl Acks {
    /// From the protocol's number.
    pub const fn from_kafka(acks: i16) -> Option<Acks> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

/// An answer that is here, or will come through [`crate::Partition::poll_answer`].
///
/// ```
/// use highwater_replication::Outcome;
/// let now: Outcome<u8> = Outcome::Now(Ok(1));
/// assert!(!matches!(now, Outcome::Parked));
/// ```
#[derive(Debug)]
pub enum Outcome<T> {
    /// Here it is.
    Now(Result<T, PartitionError>),
    /// It comes later, under the key that was given; also if it is an error, and also if the time runs out.
    Parked,
}

/// A batch is stored as its acks asked.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// let done = highwater_replication::ProduceDone {
///     first: Offset::new(4), last: Offset::new(6), append_time: WallMs::NONE, log_start: Offset::ZERO, duplicate: false,
/// };
/// assert!(done.first <= done.last);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceDone {
    /// Offset of its first record; of the original, for a duplicate.
    pub first: Offset,
    /// Offset of its last record, inclusive.
    pub last: Offset,
    /// The time its records were given, with LogAppendTime; else [`WallMs::NONE`]. Of a duplicate, the largest timestamp of the
    /// original.
    pub append_time: WallMs,
    /// The log start.
    pub log_start: Offset,
    /// It was there already, and is not there twice.
    pub duplicate: bool,
}

/// What is to be read.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset};
/// use highwater_replication::{Isolation, ReadRequest};
/// let r = ReadRequest::new(Offset::new(5), Isolation::ReadUncommitted, 1 << 20);
/// assert_eq!(r.current_epoch, LeaderEpoch::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The first offset wanted.
    pub from: Offset,
    /// How far.
    pub isolation: Isolation,
    /// Whole batches up to this many bytes, but at least one; 0 for none, and only the offsets are told.
    pub max_bytes: usize,
    /// The leadership that the reader believes in, or [`LeaderEpoch::NONE`].
    pub current_epoch: LeaderEpoch,
    /// The epoch of the last record that the reader has, to see whether it diverges; or [`LeaderEpoch::NONE`].
    pub last_fetched_epoch: LeaderEpoch,
}

impl ReadRequest {
    /// From a reader that knows no epochs.
    pub fn new(from: Offset, isolation: Isolation, max_bytes: usize) -> ReadRequest {
        let none = LeaderEpoch::NONE;
        ReadRequest { from, isolation, max_bytes, current_epoch: none, last_fetched_epoch: none }
    }
}

/// What was read. The three offsets and the limit of the data are of one moment.
///
/// ```
/// fn bytes(done: &highwater_replication::ReadDone) -> usize { done.data.iter().map(|slice| slice.len()).sum() }
/// ```
#[derive(Clone, Debug)]
pub struct ReadDone {
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// The log start.
    pub log_start: Offset,
    /// Whole batches; the first holds the offset asked for, or is the first after it.
    pub data: Vec<Slice>,
    /// The offset after `data`; the one asked for if there is none.
    pub next: Offset,
    /// Aborted transactions that overlap `data`, for a reader of committed records only.
    pub aborted: Vec<AbortedTransaction>,
    /// The reader's log parts from ours: what we know of its last epoch. Then there is no data.
    pub diverging: Option<EpochEnd>,
}

/// What ListOffsets looks for.
///
/// ```
/// use highwater_replication::OffsetTarget;
/// assert_eq!(OffsetTarget::from_kafka(-1), Some(OffsetTarget::Latest));
/// assert_eq!(OffsetTarget::from_kafka(-9), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetTarget {
    /// -1: the bound of the isolation level.
    Latest,
    /// -2: the log start.
    Earliest,
    /// -3: the first record with the largest timestamp.
    MaxTimestamp,
    /// -4: the log start on this broker, which is the log start.
    EarliestLocal,
    /// -5: the last record in tiered storage, of which there is none.
    LatestTiered,
    /// 0 and later: the first record with this timestamp or a later one.
    Time(WallMs),
}

impl OffsetTarget {
    /// From the protocol's timestamp.
    pub const fn from_kafka(timestamp: i64) -> Option<OffsetTarget> {
        match timestamp {
            -1 => Some(OffsetTarget::Latest),
            -2 => Some(OffsetTarget::Earliest),
            -3 => Some(OffsetTarget::MaxTimestamp),
            -4 => Some(OffsetTarget::EarliestLocal),
            -5 => Some(OffsetTarget::LatestTiered),
            0.. => Some(OffsetTarget::Time(WallMs::new(timestamp))),
            _ => None,
        }
    }
}

/// A found offset; all fields NONE if there is no such record.
///
/// ```
/// assert!(!highwater_replication::ListedOffset::NOTHING.offset.is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp; NONE for latest and earliest.
    pub timestamp: WallMs,
    /// The epoch of the record at the offset, or NONE.
    pub epoch: LeaderEpoch,
}

impl ListedOffset {
    /// No such record.
    pub const NOTHING: ListedOffset =
        ListedOffset { offset: Offset::NONE, timestamp: WallMs::NONE, epoch: LeaderEpoch::NONE };
}

/// A late answer.
///
/// ```
/// use highwater_replication::{Answer, Reply};
/// let answer = Answer { key: 3, reply: Ok(Reply::Readable) };
/// assert_eq!(answer.key, 3);
/// ```
#[derive(Debug)]
pub struct Answer {
    /// The key that the request was given.
    pub key: u64,
    /// The answer.
    pub reply: Result<Reply, PartitionError>,
}

/// What a late answer says.
///
/// ```
/// assert!(matches!(highwater_replication::Reply::Readable, highwater_replication::Reply::Readable));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// To [`crate::Partition::produce`].
    Produced(ProduceDone),
    /// To [`crate::Partition::read`].
    Read(ReadDone),
    /// To [`crate::Partition::await_readable`]: read again. There is more, or an error, or the time is up.
    Readable,
    /// To [`crate::Partition::list_offset`].
    Offset(ListedOffset),
    /// To [`crate::Partition::delete_records`].
    Deleted {
        /// Records below this offset are gone on every live replica.
        low_watermark: Offset,
    },
}

/// What a partition wants from other brokers, or has to tell people.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_replication::Outgoing;
/// let lost = Outgoing::CommittedLost { from: Offset::new(3), until: Offset::new(9) };
/// assert!(matches!(lost, Outgoing::CommittedLost { .. }));
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Outgoing {
    /// Fetch from the leader, not before `at`.
    Fetch {
        /// What.
        fetch: FetchRequest,
        /// When.
        at: Mono,
    },
    /// Ask the authority for another ISR.
    ProposeIsr(IsrProposal),
    /// Answer a follower's fetch.
    AnswerFollower {
        /// Whose.
        to: BrokerId,
        /// The number its fetch had.
        request: u64,
        /// What. Records are read with [`crate::Partition::read_for_follower`].
        answer: FollowerAnswer,
    },
    /// Records that were committed are cut: to be counted, logged, and shown.
    CommittedLost {
        /// The first.
        from: Offset,
        /// The old high watermark.
        until: Offset,
    },
    /// The device is full.
    NoSpace,
    /// Its low-water mark is reached.
    LowSpace {
        /// Bytes free.
        free: u64,
        /// The mark.
        mark: u64,
    },
    /// Damage was found on this disk: the range is refused, the rest served.
    Damaged(ReadError),
    /// There is space again.
    SpaceReturned,
    /// A move of the log to another data directory has copied all but a little: once it is known where the log will be,
    /// [`crate::Partition::finish_move`] ends it.
    MoveCaughtUp,
    /// The log lies in the other directory now.
    Moved,
    /// The move was given up, for this reason.
    MoveFailed(IoError),
    /// A directory is to be removed, with [`highwater_engine::Log::remove`].
    Discarded {
        /// Which.
        dir: PathBuf,
    },
    /// The log has failed for good: [`crate::Partition::failure`] says why.
    Failed,
}
