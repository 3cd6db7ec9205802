//! What reads and lookups give.

use highwater_base::{LeaderEpoch, Offset, ProducerId, WallMs};
use highwater_io::Slice;

/// Names a read or a lookup that waits for the disk.
///
/// ```
/// assert_ne!(highwater_engine::ReadId(1), highwater_engine::ReadId(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Whole record batches, in order.
///
/// ```
/// let nothing = highwater_engine::Fetched::empty(highwater_base::Offset::new(7));
/// assert_eq!(nothing.len(), 0);
/// assert!(nothing.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The batches' bytes, one after the other. A batch may straddle two slices. The first batch holds the
    /// offset asked for, so it may begin before it.
    pub data: Vec<Slice>,
    /// The offset after the last batch: where to read on.
    pub next: Offset,
    /// Aborted transactions that may have records here, for [`Fetched::records`] to leave out: filled by reads of a
    /// [`LogHandle`](crate::LogHandle) under [`Isolation::ReadCommitted`], empty otherwise.
    pub aborted: Vec<AbortedTransaction>,
}

impl Fetched {
    /// Nothing; read on at `next`.
    pub fn empty(next: Offset) -> Fetched {
        Fetched { data: Vec::new(), next, aborted: Vec::new() }
    }

    /// How many bytes in all.
    pub fn len(&self) -> usize {
        self.data.iter().map(Slice::len).sum()
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// All bytes in one piece, copied. For tools, tests and embedders in no hurry.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        for slice in &self.data {
            all.extend_from_slice(slice);
        }
        all
    }
}

/// A read's first answer.
///
/// ```
/// use highwater_engine::{Read, ReadId};
/// assert!(matches!(Read::Pending(ReadId(1)), Read::Pending(_)));
/// ```
#[derive(Clone, Debug)]
pub enum Read {
    /// At once, from memory.
    Ready(Fetched),
    /// From the disk: [`crate::LogEvent::ReadDone`] follows.
    Pending(ReadId),
}

/// A record found by its time.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset, WallMs};
/// let found = highwater_engine::TimestampOffset {
///     timestamp: WallMs::new(5), offset: Offset::ZERO, leader_epoch: LeaderEpoch::NONE,
/// };
/// assert!(found.offset.is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampOffset {
    /// The record's timestamp.
    pub timestamp: WallMs,
    /// The record's offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// A lookup's first answer.
///
/// ```
/// assert!(matches!(highwater_engine::Lookup::Ready(None), highwater_engine::Lookup::Ready(None)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// At once; `None`: no such record.
    Ready(Option<TimestampOffset>),
    /// From the disk: [`crate::LogEvent::LookupDone`] follows.
    Pending(ReadId),
}

/// How far a reader sees, and what. Kafka's `isolation.level`.
///
/// ```
/// assert_eq!(highwater_engine::Isolation::default(), highwater_engine::Isolation::ReadCommitted);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Isolation {
    /// Everything that was acknowledged, aborted or not, up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset: no record of an open transaction, and the aborted ones are named, or left out.
    #[default]
    ReadCommitted,
}

/// An aborted transaction, as consumers with `read_committed` are told.
///
/// ```
/// use highwater_base::{Offset, ProducerId};
/// let a = highwater_engine::AbortedTransaction { producer: ProducerId::new(7), first: Offset::new(3) };
/// assert!(a.producer.is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer: ProducerId,
    /// Offset of its first record in this log.
    pub first: Offset,
}
