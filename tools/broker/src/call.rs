//! What a handler asks a partition for, and what the partition's shard replies.

use std::path::PathBuf;

use bytes::Bytes;
use highwater_base::{LeaderEpoch, Mono, Offset};
use highwater_replication::{
    Acks, Isolation, ListedOffset, OffsetTarget, ProduceDone, ReadDone, ReadRequest,
};

use crate::errors::Refusal;

/// Asked of one partition, on the shard that owns it. `current` is the leader epoch that the client believes in
/// (`LeaderEpoch::NONE`: it does not say); the partition compares it: an older one is FENCED_LEADER_EPOCH, a newer
/// one UNKNOWN_LEADER_EPOCH.
#[derive(Debug)]
pub(crate) enum PartitionCall {
    /// Append one record batch; the reply is `Produced`.
    Produce {
        /// The batch, sharing the memory of the receive buffer.
        records: Bytes,
        /// When the reply is due.
        acks: Acks,
        /// When `Acks::All` gives up with REQUEST_TIMED_OUT.
        deadline: Mono,
    },
    /// Read; the reply is `Read`, at once or after a disk read, never after a wait for data.
    Read(ReadRequest),
    /// Wait until more can be read; the reply is `Readable`, also when the deadline has passed.
    AwaitReadable {
        /// Reply once the bound of `isolation` lies beyond this offset.
        beyond: Offset,
        /// Which bound.
        isolation: Isolation,
        /// When to give up.
        deadline: Mono,
    },
    /// Find an offset by time; the reply is `Offset`.
    ListOffset {
        /// What is looked for.
        target: OffsetTarget,
        /// Which bound `Latest` means.
        isolation: Isolation,
        /// The client's leader epoch.
        current: LeaderEpoch,
    },
    /// The end of a leader epoch; the reply is `EpochEnd`.
    EpochEnd {
        /// The epoch asked about.
        epoch: LeaderEpoch,
        /// The client's leader epoch.
        current: LeaderEpoch,
    },
    /// Say where it lies and how large it is; the reply is `Described`.
    Describe,
    /// Move it into another data directory; the reply is `Moving`, when that was taken on.
    MoveTo {
        /// The directory's path, as it was given to the broker.
        directory: PathBuf,
    },
    /// Forget records below an offset; the reply is `Trimmed`, when every live replica has done so.
    DeleteRecords {
        /// The new log start; `Offset::NONE` means the high watermark.
        to: Offset,
        /// When it gives up with REQUEST_TIMED_OUT.
        deadline: Mono,
    },
}

/// Where a partition's log lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Described {
    /// The number of its data directory.
    pub(crate) dir: usize,
    /// Bytes of all its segments.
    pub(crate) size: u64,
    /// Its copy, if it moves.
    pub(crate) copied: Option<Copied>,
}

/// The copy of a partition's log that moves to another directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Copied {
    /// The number of that directory.
    pub(crate) dir: usize,
    /// Bytes copied.
    pub(crate) size: u64,
    /// Offsets between the copy's end and the log's.
    pub(crate) lag: i64,
}

/// A partition's reply.
#[derive(Debug)]
pub(crate) enum PartitionReply {
    /// To any call: it was not done.
    Refused(Refusal),
    /// The batch is stored as the acks asked.
    Produced(ProduceDone),
    /// Some records, or none.
    Read(ReadDone),
    /// There may be more to read.
    Readable,
    /// A found offset.
    Offset(ListedOffset),
    /// The largest epoch not above the one asked about, and its end offset; NONE and NONE if unknown.
    EpochEnd {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where it ends, exclusive.
        end: Offset,
    },
    /// Where it lies.
    Described(Described),
    /// It moves, or lies there already.
    Moving,
    /// Records below this offset are gone.
    Trimmed {
        /// The low watermark.
        low_watermark: Offset,
    },
}
