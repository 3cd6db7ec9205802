//! What reads and lookups give.

use highwater_base::{LeaderEpoch, Mutant, Offset, ProducerId, WallMs};
use highwater_io::Slice;

use super::cold::{Job, Taken};
use super::{Log, LogEvent};

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

impl Log {
    /// Answers a fetch with what it has taken; the reader rests behind it.
    pub(super) fn finish_fetch(&mut self, slot: usize) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let base = reader.segment;
        let Some(Job::Fetch { id, from, taken, upto, max_bytes }) = reader.job.take() else { return true };
        let Some(mut taken) = taken else {
            self.events.push_back(LogEvent::ReadDone { id, result: Ok(Fetched::empty(from)) });
            return true;
        };
        if self.settings.mutant == Mutant::ReadsEndEarly {
            let size = self.segment_index(base).map_or(0, |index| self.segments[index].size);
            taken.end = taken.end.min(size.saturating_sub(taken.start)).max(taken.start);
            let data = self.readers.slots[slot].as_ref().and_then(|r| r.slices(taken.start, taken.end));
            let result = Ok(Fetched { data: data.unwrap_or_default(), ..Fetched::empty(taken.next) });
            self.events.push_back(LogEvent::ReadDone { id, result });
            return true;
        }
        // Some of it may lie in the tail only.
        let data = reader.slices(taken.start, taken.end).or_else(|| self.slices_of_both(slot, base, taken));
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let Some(data) = data else {
            // The bytes went from memory meanwhile: read them again.
            reader.seek(base, None, None);
            reader.job = Some(Job::Fetch { id, from, upto, max_bytes, taken: None });
            return false;
        };
        reader.position = Some(taken.end);
        reader.expected = Some(taken.next);
        reader.need = 0;
        reader.forget_before();
        self.events
            .push_back(LogEvent::ReadDone { id, result: Ok(Fetched { data, ..Fetched::empty(taken.next) }) });
        true
    }

    fn slices_of_both(&self, slot: usize, base: Offset, taken: Taken) -> Option<Vec<Slice>> {
        let len = (taken.end - taken.start) as usize;
        let index = self.segment_index(base)?;
        let bytes = self.bytes_of(slot, index, taken.start, len)?.into_owned();
        Some(vec![Slice::from(bytes)])
    }
}
