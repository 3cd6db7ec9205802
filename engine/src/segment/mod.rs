//! Segments: the active one, those rolled and not yet sealed, and the sealed ones.

mod live;
mod prepared;
mod scan;
mod settled;

pub(crate) use live::{BatchFacts, Live, Name};
pub(crate) use prepared::{Ahead, first_step, next_step, wants_zeros};
pub(crate) use scan::{facts_of, judge};
pub(crate) use settled::Settled;

use crate::index::{AbortedTxn, OffsetIndex, TimeIndex};

use highwater_base::{Offset, WallMs};
use highwater_io::FileId;

/// The largest timestamp seen so far and the last offset of the first batch that carried it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Largest {
    pub(crate) timestamp: WallMs,
    pub(crate) offset: Offset,
}

impl Largest {
    pub(crate) const NONE: Largest = Largest { timestamp: WallMs::NONE, offset: Offset::NONE };

    /// Takes another batch's largest timestamp in; ties keep the earlier batch.
    pub(crate) fn see(&mut self, timestamp: WallMs, last: Offset) {
        if timestamp > self.timestamp {
            *self = Largest { timestamp, offset: last };
        }
    }
}

/// One segment of a log. Segments of a log are in order of their bases and do not overlap.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The first offset that it could hold; its files' name.
    pub(crate) base: Offset,
    /// The offset after its last batch; the base if it is empty. Not beyond the next segment's base.
    pub(crate) end: Offset,
    /// Bytes of batches, staged ones too. The file may be longer while it is live.
    pub(crate) size: u64,
    /// The largest timestamp of its batches.
    pub(crate) largest: Largest,
    /// The largest timestamp of its first batch, if that is known.
    pub(crate) oldest: Option<WallMs>,
    /// Last modification, in milliseconds since 1970, for retention when no batch carries a time.
    pub(crate) modified_ms: i64,
    /// Transactions whose abort marker it holds, in order.
    pub(crate) aborted: Vec<AbortedTxn>,
    /// Reads of its file that are under way; it is not removed meanwhile.
    pub(crate) readers: u32,
    pub(crate) phase: Phase,
}

/// What may be done with a segment.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It is written to, or rolled and not sealed yet.
    Live(Box<Live>),
    /// Never written again.
    Sealed(Sealed),
}

/// An offset index and a time index, in file format.
pub(crate) type LoadedIndexes = (Box<[u8]>, Box<[u8]>);

/// A sealed segment.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Open for reading, if it is.
    pub(crate) file: Option<FileId>,
    /// Its offset and time index in file format, if they are in memory.
    pub(crate) indexes: Option<LoadedIndexes>,
    /// When it was read last, as a count of reads of this log; the oldest is closed first.
    pub(crate) used: u64,
}

impl Segment {
    /// The live part, if it is live.
    pub(crate) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            Phase::Sealed(_) => None,
        }
    }

    /// The live part, if it is live.
    pub(crate) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) => Some(live),
            Phase::Sealed(_) => None,
        }
    }

    /// An empty one.
    pub(crate) fn new(base: Offset, modified_ms: i64, phase: Phase) -> Segment {
        Segment {
            base,
            end: base,
            size: 0,
            largest: Largest::NONE,
            oldest: None,
            modified_ms,
            aborted: Vec::new(),
            readers: 0,
            phase,
        }
    }

    /// Its offset index, if it is in memory.
    pub(crate) fn offsets(&self) -> Option<OffsetIndex<'_>> {
        match &self.phase {
            Phase::Live(live) => Some(live.index.offsets()),
            Phase::Sealed(sealed) => sealed.indexes.as_ref().map(|i| OffsetIndex::new(&i.0, self.base)),
        }
    }

    /// Its time index, if it is in memory.
    pub(crate) fn times(&self) -> Option<TimeIndex<'_>> {
        match &self.phase {
            Phase::Live(live) => Some(live.index.times()),
            Phase::Sealed(sealed) => sealed.indexes.as_ref().map(|i| TimeIndex::new(&i.1, self.base)),
        }
    }

    /// Its transaction index in file format; none if it has no entry.
    pub(crate) fn aborted_bytes(&self) -> Option<Vec<u8>> {
        (!self.aborted.is_empty()).then(|| self.aborted.iter().flat_map(AbortedTxn::encode).collect())
    }

    /// The file open for reading it, if one is.
    pub(crate) fn file(&self) -> Option<FileId> {
        match &self.phase {
            Phase::Live(live) => live.file,
            Phase::Sealed(sealed) => sealed.file,
        }
    }

    /// Takes a batch in at the end: size, range, times, and the live index.
    pub(crate) fn push(&mut self, facts: &BatchFacts, batch: &[u8]) {
        let position = self.size;
        if position == 0 {
            self.oldest = Some(facts.max_timestamp);
        }
        self.size += facts.size;
        self.end = facts.last.plus(1);
        self.largest.see(facts.max_timestamp, facts.last);
        if let Phase::Live(live) = &mut self.phase {
            live.push(facts, position, batch);
        }
    }
}
