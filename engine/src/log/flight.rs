//! What this log has submitted and not yet got back.

use super::script::Script;
use crate::tail::Place;
use highwater_base::{Mono, Offset};
use highwater_io::{IoError, Slice, Token};

/// What an operation in flight is for. Its index in [`Flights`] is its token's tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flight {
    /// A write of the tail.
    Write,
    /// A sync of the live segment at this place.
    Sync(Place),
    /// Space for the live segment at this place.
    Prepare(Place),
    /// A step of this script.
    Script(u32),
    /// A read for this stream.
    Stream(u32),
    /// The log's turn to write.
    Turn,
    /// How much room there is.
    Space,
    /// A file being closed; nobody waits.
    Close,
}

/// Operations in flight, by tag. Tags are reused once their operation has completed.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl Flights {
    /// A token for an operation about to be submitted.
    pub(crate) fn begin(&mut self, owner: u32, flight: Flight) -> Token {
        let tag = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[tag as usize] = Some(flight);
        Token { owner, tag }
    }

    /// What a completed operation was for. Panics if nothing with this tag is in flight.
    pub(crate) fn end(&mut self, tag: u32) -> Flight {
        let flight = self.slots.get_mut(tag as usize).and_then(Option::take);
        self.free.push(tag);
        flight.expect("a completion belongs to an operation in flight")
    }

    /// How many operations are in flight.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// A write in flight, or failed for lack of space and waiting to be submitted again.
#[derive(Debug)]
pub(crate) struct InWrite {
    /// The tag it was last submitted with.
    pub(crate) tag: u32,
    /// Where the segment begins.
    pub(crate) segment: Place,
    /// What it writes; begins at a block.
    pub(crate) from: Place,
    /// The end of the staged bytes in it; padding may follow.
    pub(crate) to: Place,
    /// The bytes, padded to whole blocks.
    pub(crate) data: Slice,
    /// Bytes of `data` on disk already, after a short write; whole blocks.
    pub(crate) done: usize,
    /// Durable on completion.
    pub(crate) durable: bool,
    pub(crate) state: WriteState,
}

/// See [`InWrite`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteState {
    InFlight,
    /// To be submitted again once there is space.
    Waiting,
    Done,
}

/// Why a script runs: what happens when it is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The log's directory and first segment are made.
    Create,
    /// `next.prepared` is made.
    Next,
    /// A deleted segment is wiped, part by part.
    Recycle,
    /// A wiped segment becomes `next.prepared`.
    Reuse,
    /// `next.prepared` gets the name of the segment at this place.
    Name(Place),
    /// The segment at this place is made without a prepared file.
    Fresh(Place),
    /// The names in the directory become durable, the segment's at this place among them.
    SyncNames(Place),
    /// The segment with this base is cut to its length before its seal is written.
    Settle(Offset),
    /// The segment with this base gets its seal.
    Seal(Offset),
    /// The epoch checkpoint is written.
    Epochs,
    /// What a checkpoint relies on is made durable, then the checkpoint.
    Checkpoint,
    /// The first half of a truncation: the snapshot to start from is read.
    LoadSnapshot,
    /// A truncation or a restart acts on disk.
    Cut,
    /// The active segment's file is opened, its last block read.
    Wake,
    /// A sealed segment is opened for a reader.
    Open(Offset),
    /// A slice of this sealed segment is compared with its seal.
    Scrub {
        /// The segment's base.
        segment: Offset,
        /// Where the slice begins.
        from: u64,
    },
    /// Files of segments that go are renamed.
    Rename,
    /// Renamed files are removed.
    Remove,
    /// A slice of a pass of compaction.
    Compact,
    /// A compacted segment takes the place of others.
    CompactSwap,
    /// What a pass leaves behind is removed.
    CompactEnd,
    /// A slice of a move to another data directory.
    Move,
    /// The copy gets the log's name.
    MoveSwitch,
    /// What a move leaves behind is tidied up.
    MoveEnd,
    /// The log is closed.
    Close,
    /// The log's directory is renamed.
    DeleteRename,
    /// The renamed directory is removed.
    DeleteRemove,
}

/// A script under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) purpose: Purpose,
    pub(crate) script: Script,
    /// A step is in flight.
    pub(crate) submitted: bool,
    /// After a lack of space: when the step is tried again.
    pub(crate) retry_at: Option<Mono>,
    pub(crate) retries: u32,
}

/// The device is full.
#[derive(Debug)]
pub(crate) struct NoSpace {
    pub(crate) error: IoError,
    pub(crate) retry_at: Mono,
    pub(crate) retries: u32,
}
