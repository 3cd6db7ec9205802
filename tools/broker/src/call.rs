//! What a handler asks a partition for, and what the partition's shard replies.

use bytes::Bytes;
use highwater_base::{LeaderEpoch, Mono, Offset, ProducerId, WallMs};
use highwater_io::Slice;

use crate::errors::Refusal;

/// Asked of one partition, on the shard that owns it. `current` is the leader epoch that the client believes in
/// (`LeaderEpoch::NONE`: it does not say); the shard compares it: an older one is FENCED_LEADER_EPOCH, a newer one
/// UNKNOWN_LEADER_EPOCH.
#[derive(Debug)]
pub(crate) enum PartitionCall {
    /// Append one record batch; the reply is `Produced`.
    Produce {
        /// The batch, sharing the memory of the receive buffer.
        records: Bytes,
        /// 0 and 1: reply after the leader's append (and, with durability `each`, its sync); -1: once the high
        /// watermark has passed it.
        acks: i16,
        /// When acks=-1 gives up with REQUEST_TIMED_OUT.
        deadline: Mono,
    },
    /// Read; the reply is `Read`, at once or after a disk read, never after a wait for data.
    Read {
        /// First offset wanted.
        from: Offset,
        /// How far it may be read.
        isolation: Isolation,
        /// Whole batches up to this many bytes, but at least one batch. 0: no data, only the offsets.
        max_bytes: u32,
        /// The client's leader epoch.
        current: LeaderEpoch,
        /// Epoch of the last record the client has, to detect divergence (Fetch 12 and later); or NONE.
        last_fetched: LeaderEpoch,
    },
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
    /// Forget records below an offset; the reply is `Trimmed`, when every live replica has done so.
    DeleteRecords {
        /// The new log start; `Offset::NONE` means the high watermark.
        to: Offset,
        /// When it gives up with REQUEST_TIMED_OUT.
        deadline: Mono,
    },
}

/// How far a reader may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// What ListOffsets looks for (kafka.md 7.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OffsetTarget {
    /// -1: the bound of the isolation level.
    Latest,
    /// -2: the log start.
    Earliest,
    /// -3: the first record with the largest timestamp.
    MaxTimestamp,
    /// -4: the log start on this broker.
    EarliestLocal,
    /// 0 and later: the first record with this timestamp or a later one.
    Time(WallMs),
}

/// A partition's reply.
#[derive(Debug)]
pub(crate) enum PartitionReply {
    /// To any call: it was not done.
    Refused(Refusal),
    /// The batch is stored as the acks asked.
    Produced {
        /// Offset of its first record (of the original, if it was a duplicate).
        base: Offset,
        /// The append time, of a topic with LogAppendTime; else NONE.
        append_time: WallMs,
        /// The log start.
        log_start: Offset,
    },
    /// Some records, or none.
    Read(ReadReply),
    /// There may be more to read.
    Readable,
    /// A found offset; `Offset::NONE` and `WallMs::NONE` if there is no such record.
    Offset {
        /// The offset.
        offset: Offset,
        /// The record's timestamp; NONE for the special targets.
        timestamp: WallMs,
        /// The epoch of the record at the offset, or NONE.
        epoch: LeaderEpoch,
    },
    /// The largest epoch not above the one asked about, and its end offset; NONE and NONE if unknown.
    EpochEnd {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where it ends, exclusive.
        end: Offset,
    },
    /// Records below this offset are gone.
    Trimmed {
        /// The low watermark.
        low_watermark: Offset,
    },
}

/// What a read found.
#[derive(Debug)]
pub(crate) struct ReadReply {
    /// The high watermark.
    pub(crate) high_watermark: Offset,
    /// The last stable offset.
    pub(crate) last_stable: Offset,
    /// The log start.
    pub(crate) log_start: Offset,
    /// Whole batches; the first contains, or is the first after, the offset asked for.
    pub(crate) data: Vec<Slice>,
    /// First offset after `data`, or the offset asked for if it is empty.
    pub(crate) next: Offset,
    /// For read-committed: aborted transactions that overlap `data`, by producer and first offset.
    pub(crate) aborted: Vec<(ProducerId, Offset)>,
    /// The client's log diverges from ours: the epoch and end offset to truncate to. Then `data` is empty.
    pub(crate) diverging: Option<(LeaderEpoch, Offset)>,
}
