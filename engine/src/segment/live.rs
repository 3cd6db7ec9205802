//! The part of a segment that exists only while it is written to.

use highwater_base::{FilePos, LeaderEpoch, Offset, WallMs};
use highwater_io::{FileId, Prepared};

use crate::index::IndexBuilder;
use crate::seal::SealBuilder;
use crate::segment::Settled;
use crate::tail::Place;

/// What a segment and its indexes need to know of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchFacts {
    /// Bytes.
    pub(crate) size: u64,
    /// First offset.
    pub(crate) first: Offset,
    /// Last offset, inclusive.
    pub(crate) last: Offset,
    /// Largest timestamp.
    pub(crate) max_timestamp: WallMs,
    /// Leader epoch.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// How durable a segment's name is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Name {
    /// Not there yet: after a crash the segment is missing.
    Absent,
    /// There, but a power cut may take it away.
    Visible,
    /// There for good.
    Durable,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    /// Where it begins in the log's life.
    pub(crate) place: Place,
    /// Open for writing, once it is.
    pub(crate) file: Option<FileId>,
    /// How durable the name is.
    pub(crate) name: Name,
    /// The file's length: bytes of space that may be written without extending it. At least what is written.
    pub(crate) prepared: u64,
    /// Which of its blocks need no more than a flush of the device.
    pub(crate) settled: Settled,
    /// Length of the last step of preparation, 0 before the first.
    pub(crate) step: u64,
    /// Bytes that were there when it was opened: no space is prepared before more come.
    pub(crate) opened_size: u64,
    /// A preparation is in flight.
    pub(crate) preparing: bool,
    /// The last one failed for want of space: the next is of what is needed, and once it is.
    pub(crate) short: bool,
    /// Its length and kind.
    pub(crate) asked: (u64, Prepared),
    /// Everything before is durable in the file. Never falls.
    pub(crate) synced: Place,
    /// The end offset of the batches that lie wholly before `synced`.
    pub(crate) synced_end: Offset,
    /// A sync in flight: what `synced` and `synced_end` will be.
    pub(crate) syncing: Option<(Place, Offset)>,
    /// A successor exists: nothing more is staged here.
    pub(crate) rolled: bool,
    /// The producer snapshot to be written at the end, taken at the roll.
    pub(crate) snapshot: Option<Vec<u8>>,
    /// The sealing script runs.
    pub(crate) sealing: bool,
    /// Largest timestamp of the first batch, for rolling by time.
    pub(crate) first_timestamp: Option<WallMs>,
    /// When it was begun, for rolling by time where batches carry none.
    pub(crate) created: WallMs,
    /// Its offset and time index.
    pub(crate) index: IndexBuilder,
    /// The seal in the making; none if not every byte passed through here, after a restart.
    pub(crate) seal: Option<Box<SealBuilder>>,
    /// Bytes of the offset, the time and the transaction index that are durable in their files already.
    pub(crate) indexed_on_disk: [usize; 3],
}

impl Live {
    /// A segment in which nothing is staged yet.
    pub(crate) fn new(place: Place, base: Offset, index_interval: u64, created: WallMs) -> Live {
        Live {
            place,
            file: None,
            name: Name::Absent,
            prepared: 0,
            settled: Settled::default(),
            step: 0,
            opened_size: 0,
            preparing: false,
            short: false,
            asked: (0, Prepared::Allocated),
            synced: place,
            synced_end: base,
            syncing: None,
            rolled: false,
            snapshot: None,
            sealing: false,
            first_timestamp: None,
            created,
            index: IndexBuilder::new(base, index_interval),
            seal: Some(Box::default()),
            indexed_on_disk: [0; 3],
        }
    }

    /// Takes a batch in that begins at `position`, and with these bytes: its header at least.
    pub(crate) fn push(&mut self, facts: &BatchFacts, position: u64, batch: &[u8]) {
        self.index.push(facts.last, FilePos::new(position), facts.size, facts.max_timestamp);
        self.first_timestamp.get_or_insert(facts.max_timestamp);
        if let Some(seal) = &mut self.seal {
            seal.batch(batch, facts.size, facts.first, facts.last, facts.leader_epoch, facts.max_timestamp);
        }
    }
}
