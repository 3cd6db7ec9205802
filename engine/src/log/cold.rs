//! Readers of what is not in memory: each has its place in a file and a window of aligned reads ahead of it.

use std::collections::VecDeque;
use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos, Mono, Now, Offset, WallMs};
use highwater_io::{Io, IoError, Op, OpenHow, Outcome, Slice};

use super::flight::{Flight, Purpose};
use super::pace::Pace;
use super::script::{Script, Step};
use super::{Log, LogEvent, ReadId};
use crate::ReadError;
use crate::layout::FileKind;
use crate::segment::Phase;

/// Readers of one log with something to do; more are refused.
pub(super) const READERS: usize = 64;
/// Readers kept at their place for the next read that goes on there.
const RESTING: usize = 8;
/// Reads in flight for a reader that has proven to be sequential.
const MOST_AHEAD: usize = 8;

/// All readers of a log.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    pub(super) slots: Vec<Option<Reader>>,
    /// Ids given so far.
    pub(super) last_id: u64,
    /// Reads so far, as a clock for what was used last.
    pub(super) clock: u64,
    /// When the log was last used, if it has been idle since.
    pub(super) idle_from: Option<Mono>,
    pub(super) pace: Pace,
}

impl Readers {
    /// Whether nobody waits and nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.slots.iter().flatten().all(|reader| reader.job.is_none() && reader.pending == 0)
    }
}

/// What a reader is to find.
#[derive(Debug)]
pub(super) enum Job {
    /// Whole batches from the one that holds `from`, none reaching `upto`.
    Fetch { id: ReadId, from: Offset, upto: Offset, max_bytes: usize, taken: Option<Taken> },
    /// The first record of this time or later.
    Time { id: ReadId, at: WallMs, from: Offset, exact: bool },
    /// The batches that touch a range of bytes; `inside`: position and first offset of the first good one. `differs`: the
    /// range is known not to be what was sealed.
    Check { range: std::ops::Range<u64>, differs: bool, inside: Option<(u64, Offset)> },
    /// Producers and the place of the batch that holds `to`, for a truncation.
    Rebuild { from: Offset, to: Offset },
}

/// Batches that a fetch has taken so far, all of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) next: Offset,
}

/// A piece of the file in memory or on its way.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) data: Option<Slice>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    /// The segment's base.
    pub(super) segment: Offset,
    /// Where the next batch begins in it; none until it is looked up.
    pub(super) position: Option<u64>,
    /// The offset of the next batch, if it is known from the one before.
    pub(super) expected: Option<Offset>,
    /// The last offset that an index entry promises of the batch at `position`.
    pub(super) promised: Option<Offset>,
    /// Contiguous from a block at or before `position`.
    pub(super) pieces: VecDeque<Piece>,
    /// How many reads may be under way or waiting to be used.
    pub(super) ahead: usize,
    /// Bytes that the batch at `position` needs, if more than one read.
    pub(super) need: u64,
    /// Reads in flight.
    pub(super) pending: u32,
    /// Which they are: tag, segment and position.
    orders: Vec<(u32, Offset, u64)>,
    /// Damage being measured: where it began and the offset expected there.
    pub(super) damaged: Option<(u64, Offset)>,
    pub(super) job: Option<Job>,
    /// Its last use, on [`Readers::clock`].
    pub(super) used: u64,
    /// Dropped as soon as nothing is in flight.
    pub(super) dead: bool,
    /// Why its last read failed.
    pub(super) error: Option<IoError>,
    /// Length of its segment, if nothing more is written to it.
    pub(super) end_of_file: Option<u64>,
}

impl Reader {
    pub(super) fn new(segment: Offset, job: Job) -> Reader {
        Reader {
            segment,
            position: None,
            expected: None,
            promised: None,
            pieces: VecDeque::new(),
            ahead: 1,
            need: 0,
            pending: 0,
            orders: Vec::new(),
            damaged: None,
            job: Some(job),
            used: 0,
            dead: false,
            error: None,
            end_of_file: None,
        }
    }

    /// Goes to a place of a segment. Pieces in memory are kept if the place lies in them.
    pub(super) fn seek(&mut self, segment: Offset, position: Option<u64>, expected: Option<Offset>) {
        let keep = segment == self.segment
            && position.is_some_and(|at| self.pieces.front().is_some_and(|piece| piece.at <= at));
        if !keep {
            self.pieces.clear();
        }
        self.segment = segment;
        self.position = position;
        self.expected = expected;
        self.promised = None;
        self.need = 0;
        self.forget_before();
    }

    /// Whether a read of this segment's file is in flight.
    pub(super) fn reads(&self, segment: Offset) -> bool {
        self.orders.iter().any(|order| order.1 == segment)
    }

    /// The segment's file is another one from now on: what was read of the old one is not looked at again.
    pub(super) fn leave_file(&mut self) {
        self.pieces.clear();
        self.position = None;
        self.expected = None;
        self.promised = None;
        self.need = 0;
        self.damaged = None;
        self.error = None;
        self.end_of_file = None;
        for order in &mut self.orders {
            order.2 = OF_OLD_FILE;
        }
    }

    /// Drops pieces that lie wholly before the position.
    pub(super) fn forget_before(&mut self) {
        let Some(position) = self.position else { return };
        while self
            .pieces
            .front()
            .is_some_and(|piece| piece.at + piece.len <= position && piece.data.is_some())
        {
            self.pieces.pop_front();
        }
        if self.pieces.front().is_some_and(|piece| piece.at > position) {
            self.pieces.clear();
        }
    }

    /// What was read at `at`. After a short read the reading goes on from its last whole block.
    fn filled(&mut self, at: u64, slice: Slice) {
        let Some(index) = self.pieces.iter().position(|piece| piece.at == at && piece.data.is_none()) else {
            return;
        };
        let piece = &mut self.pieces[index];
        let mut len = (piece.len as usize).min(slice.len());
        let end_of_file = self.end_of_file.is_some_and(|end| at + len as u64 >= end);
        if (len as u64) < piece.len && !end_of_file {
            len = len / BLOCK as usize * BLOCK as usize;
            piece.len = len as u64;
            self.pieces.truncate(index + usize::from(len > 0));
            if len == 0 {
                let file = format!("segment {} at byte {at}, which its log had written", self.segment);
                self.error = Some(IoError::of(highwater_io::ErrorKind::Other, "read", file));
                return;
            }
        }
        self.pieces[index].data = Some(slice.range(0..len));
    }

    /// The bytes `at..at + len` if they are in memory: in place if they lie in one piece, else copied together.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Option<std::borrow::Cow<'_, [u8]>> {
        let first = self.pieces.iter().find(|piece| piece.at <= at && at < piece.at + piece.len)?;
        let data = first.data.as_ref()?;
        let start = (at - first.at) as usize;
        if start + len <= data.len() {
            return Some(std::borrow::Cow::Borrowed(&data[start..start + len]));
        }
        let mut all = Vec::with_capacity(len);
        for slice in self.slices(at, at + len as u64)? {
            all.extend_from_slice(&slice);
        }
        Some(std::borrow::Cow::Owned(all))
    }

    /// Views of `from..to`, if all of it is in memory.
    pub(super) fn slices(&self, from: u64, to: u64) -> Option<Vec<Slice>> {
        let mut slices = Vec::with_capacity(2);
        let mut at = from;
        for piece in &self.pieces {
            if at >= to || piece.at + piece.len <= at {
                continue;
            }
            let data = piece.data.as_ref()?;
            let start = at.checked_sub(piece.at)? as usize;
            let end = data.len().min((to - piece.at) as usize);
            if start >= end {
                return None;
            }
            slices.push(data.range(start..end));
            at = piece.at + end as u64;
        }
        (at >= to).then_some(slices)
    }
}

impl Log {
    /// A slot for a new reader; the one that rested longest gives way.
    pub(super) fn add_reader(&mut self, mut reader: Reader) -> Result<usize, ReadError> {
        self.is_awake_or_wakes();
        let busy = self.readers.slots.iter().flatten().filter(|reader| reader.job.is_some()).count();
        if busy >= READERS {
            return Err(ReadError::Backpressure);
        }
        self.readers.clock += 1;
        reader.used = self.readers.clock;
        let resting =
            self.readers.slots.iter().flatten().filter(|reader| reader.job.is_none() && !reader.dead);
        if resting.clone().count() >= RESTING {
            let oldest = resting.map(|reader| reader.used).min();
            for reader in self.readers.slots.iter_mut().flatten() {
                reader.dead |= reader.job.is_none() && Some(reader.used) == oldest;
            }
            self.sweep_readers();
        }
        let slot = self.readers.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.readers.slots.push(None);
            self.readers.slots.len() - 1
        });
        self.readers.slots[slot] = Some(reader);
        self.due = true;
        Ok(slot)
    }

    /// Frees the slots of dead readers with nothing in flight.
    pub(super) fn sweep_readers(&mut self) {
        for slot in &mut self.readers.slots {
            if slot.as_ref().is_some_and(|reader| reader.dead && reader.pending == 0) {
                *slot = None;
            }
        }
        while self.readers.slots.last().is_some_and(Option::is_none) {
            self.readers.slots.pop();
        }
    }

    /// Every waiting read ends with this log's failure; resting readers go.
    pub(super) fn fail_readers(&mut self) {
        let error = match (self.failure(), self.busy()) {
            (Some(failure), _) => ReadError::Failed(failure.clone()),
            (None, busy) => ReadError::Busy(busy.unwrap_or(crate::Busy::Deleting)),
        };
        for slot in 0..self.readers.slots.len() {
            let Some(reader) = &mut self.readers.slots[slot] else { continue };
            reader.dead = true;
            if let Some(job) = reader.job.take() {
                self.answer(job, Err(error.clone()));
            }
        }
        self.sweep_readers();
    }

    /// A job ends with an error.
    pub(super) fn answer(&mut self, job: Job, result: Result<std::convert::Infallible, ReadError>) {
        let Err(error) = result;
        match job {
            Job::Fetch { id, .. } => self.events.push_back(LogEvent::ReadDone { id, result: Err(error) }),
            Job::Time { id, .. } => self.events.push_back(LogEvent::LookupDone { id, result: Err(error) }),
            Job::Check { .. } => self.events.push_back(LogEvent::Damaged(error)),
            Job::Rebuild { .. } => {}
        }
    }

    /// Bytes of a segment that may be read from its file: whole blocks that will not be written again.
    pub(super) fn readable(&self, index: usize) -> u64 {
        let segment = &self.segments[index];
        match &segment.phase {
            Phase::Sealed(_) => segment.size,
            Phase::Live(live) => {
                let end = live.place.plus(segment.size);
                if live.rolled && self.written >= end {
                    return segment.size;
                }
                self.written.max(live.place).block_floor().since(live.place)
            }
        }
    }

    /// Submits the reads that a reader is missing. False if its file is not open yet.
    pub(super) fn read_ahead(&mut self, slot: usize, now: Now, io: &mut dyn Io) -> bool {
        let Some(reader) = &self.readers.slots[slot] else { return true };
        let (base, Some(position)) = (reader.segment, reader.position) else { return true };
        if reader.job.is_none() && reader.ahead == 1 {
            // Nothing says that it will go on here.
            return true;
        }
        let Some(index) = self.segment_index(base) else { return true };
        let readable = self.readable(index);
        let Some(file) = self.segments[index].file() else { return false };
        let size = self.segments[index].size;
        let (unit, most) = self.readers.pace.reads(self.settings.limits.read_bytes as u64);
        let waits = self.append_waits();
        let reader = self.readers.slots[slot].as_mut().expect("checked above");
        reader.end_of_file = (readable == size).then_some(size);
        let mut next = reader.pieces.back().map_or(position / BLOCK * BLOCK, |piece| piece.at + piece.len);
        let wanted = (position + reader.need).max(position + 1);
        let has_room =
            |reader: &Reader| reader.ahead > 1 && reader.pieces.len() < reader.ahead && reader.pending < most;
        // A first read may be all that is wanted, and a truncation waits for its reads.
        let paced = reader.ahead > 1 && !matches!(reader.job, Some(Job::Rebuild { .. }));
        while next < readable && (next < wanted || has_room(reader)) {
            if paced && !self.readers.pace.starts(now, waits, unit) {
                break;
            }
            let len = match &reader.job {
                // The first read of a small fetch is a small read.
                Some(Job::Fetch { max_bytes, .. }) if reader.ahead == 1 => {
                    let slack = self.settings.index_interval_bytes.min(unit) + 2 * BLOCK;
                    (*max_bytes as u64 + slack).next_multiple_of(BLOCK).min(unit)
                }
                _ => unit,
            };
            let len = len.min((readable - next).next_multiple_of(BLOCK));
            let token = self.flights.begin(self.owner, Flight::Stream(slot as u32));
            let buffer = io.buffer(len as usize);
            // A pooled buffer may be larger; what it reads beyond is not looked at.
            let len = (buffer.capacity() as u64).min((readable - next).next_multiple_of(BLOCK));
            io.submit(Op::Read { file, at: FilePos::new(next), buffer }, token);
            reader.pieces.push_back(Piece { at: next, len, data: None });
            reader.pending += 1;
            self.segments[index].readers += 1;
            reader.orders.push((token.tag, base, next));
            next += len;
        }
        true
    }

    /// Takes the completion of a read.
    pub(super) fn stream_read_done(&mut self, slot: u32, tag: u32, result: Result<Outcome, IoError>) {
        let reader =
            self.readers.slots[slot as usize].as_mut().expect("a reader lives while a read is in flight");
        reader.pending -= 1;
        let order = reader.orders.iter().position(|order| order.0 == tag).expect("a read in flight");
        let (_, base, at) = reader.orders.swap_remove(order);
        if at == OF_OLD_FILE {
            return self.sweep_readers();
        }
        match result {
            Ok(Outcome::Read { buffer }) => {
                if base == reader.segment {
                    reader.filled(at, buffer.freeze());
                }
            }
            Ok(_) => unreachable!("a read answers with its buffer"),
            Err(error) => {
                if base == reader.segment {
                    reader.error = Some(error);
                }
            }
        }
        if let Some(index) = self.segment_index(base) {
            self.segments[index].readers -= 1;
        }
        self.sweep_readers();
    }

    /// Opens a sealed segment for reading and loads its indexes.
    pub(super) fn open_sealed(&mut self, base: Offset) {
        let purpose = Purpose::Open(base);
        if self.is_running(&purpose) {
            return;
        }
        let most = self.settings.index_bytes.min(i32::MAX as u64) as usize;
        let steps = [
            Step::Load { path: self.path(FileKind::OffsetIndex, base), len: most },
            Step::Load { path: self.path(FileKind::TimeIndex, base), len: most },
            Step::Open {
                path: self.path(FileKind::Log, base),
                how: OpenHow::Read,
                direct: self.settings.direct,
            },
        ];
        self.run(purpose, steps);
    }

    pub(super) fn opened(&mut self, base: Offset, script: &Script, io: &mut dyn Io) {
        let file = script.file().expect("the script leaves it open");
        let index = self.segment_index(base);
        let Some(Phase::Sealed(sealed)) = index.map(|index| &mut self.segments[index].phase) else {
            // It went meanwhile.
            self.close_file(file, io);
            return;
        };
        let load = |number| script.loaded(number).unwrap_or_default().into();
        sealed.indexes = Some((load(0), load(1)));
        sealed.file = Some(file);
        self.readers.clock += 1;
        sealed.used = self.readers.clock;
        self.close_unused(base, io);
    }

    pub(super) fn open_failed(&mut self, base: Offset, error: IoError) {
        for reader in self.readers.slots.iter_mut().flatten() {
            if reader.segment == base {
                reader.error = Some(error.clone());
            }
        }
    }

    /// Keeps few sealed segments open and their indexes within bounds; `keep` is in use.
    fn close_unused(&mut self, keep: Offset, io: &mut dyn Io) {
        let most = self.settings.limits.index_cache_bytes;
        loop {
            let open = self.segments.iter().filter_map(|segment| match &segment.phase {
                Phase::Sealed(sealed) if sealed.file.is_some() => Some((segment, sealed)),
                _ => None,
            });
            let held: usize =
                open.clone().map(|(_, s)| s.indexes.as_ref().map_or(0, |i| i.0.len() + i.1.len())).sum();
            if open.clone().count() <= OPEN_SEALED && held <= most {
                return;
            }
            let in_use =
                |base| self.readers.slots.iter().flatten().any(|r| r.segment == base && r.job.is_some());
            let oldest = open
                .filter(|(segment, _)| segment.base != keep && segment.readers == 0 && !in_use(segment.base))
                .min_by_key(|(_, sealed)| sealed.used)
                .map(|(segment, _)| segment.base);
            let Some(index) = oldest.and_then(|base| self.segment_index(base)) else { return };
            if let Phase::Sealed(sealed) = &mut self.segments[index].phase {
                sealed.indexes = None;
                if let Some(file) = sealed.file.take() {
                    self.close_file(file, io);
                }
            }
        }
    }

    pub(super) fn close_file(&mut self, file: highwater_io::FileId, io: &mut dyn Io) {
        let token = self.flights.begin(self.owner, Flight::Close);
        io.submit(Op::Close { file }, token);
    }

    /// The path of a segment's file, for errors.
    pub(super) fn log_path(&self, base: Offset) -> PathBuf {
        self.path(FileKind::Log, base)
    }

    /// A reader that went on where it had left off reads further ahead next time.
    pub(super) fn raise_ahead(reader: &mut Reader) {
        reader.ahead = (reader.ahead * 2).min(MOST_AHEAD);
    }
}

/// The position of a read whose segment has another file by now.
const OF_OLD_FILE: u64 = u64::MAX;
/// Sealed segments of one log open at once.
const OPEN_SEALED: usize = 8;
