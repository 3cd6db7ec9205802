//! From the tail to the disk: few, large, block-aligned writes.

use highwater_base::{BLOCK, FilePos, Mutant, Now};
use highwater_io::{Buffer, ErrorKind, Io, IoError, Op, Outcome, Prepared, Slice};

use super::flight::{Flight, InWrite, WriteState};
use super::{Log, State};
use crate::segment::{Ahead, Name, Phase, next_step};
use crate::tail::Place;
use crate::{Preallocate, TailSpace};

/// Largest write that goes out from a private copy, so that its partial last block goes with it in one operation.
/// The copy costs a few microseconds, a second operation more.
const PRIVATE_BYTES: u64 = 128 << 10;

/// How many bytes must be staged before another write joins those in flight. The device likes large writes (at 64
/// KiB below depth 4 it gives a half of what it gives at 1 MiB), so while it is busy bytes gather; an idle one gets
/// whatever there is at once.
fn patience(in_flight: usize, flushing: bool, write_bytes: u64) -> u64 {
    match in_flight + usize::from(flushing) {
        0 => 0,
        1 => write_bytes / 4,
        2 => write_bytes / 2,
        _ => write_bytes,
    }
}

/// Where a log stands among all that would write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Not in the line.
    None,
    /// It waits.
    Asked,
    /// It may write, once.
    Come,
}

/// One write, decided and not yet made.
#[derive(Clone, Copy, Debug)]
struct Plan {
    segment: Place,
    from: Place,
    to: Place,
    /// From a private, padded copy.
    private: bool,
    durable: bool,
}

impl Log {
    /// What this log's tail counts in: the logs of a shard share one. Without it a log heeds no limit but its own.
    pub fn share_tail_space(&mut self, space: &TailSpace) {
        self.tail.share(space);
    }

    /// Submits writes while there is something to write and a slot free.
    pub(super) fn drive_writes(&mut self, now: Now, io: &mut dyn Io) {
        self.retry_writes(now, io);
        while self.writes.len() < self.settings.limits.writes_in_flight {
            let Some(plan) = self.plan_write(io.is_flushing()) else { break };
            if self.waits_for_turn(plan, io) {
                return;
            }
            self.submit_write(plan, io);
        }
        if self.turn == Turn::Come {
            self.turn = Turn::None;
        }
    }

    /// Whether a write waits for its turn: nobody waits for it, and it may grow meanwhile, or could not start.
    fn waits_for_turn(&mut self, plan: Plan, io: &mut dyn Io) -> bool {
        let grows = plan.to >= self.tail.end().block_floor()
            && plan.to.since(plan.from) < self.settings.limits.write_bytes as u64;
        let can_wait = !self.is_eager() && (grows || io.is_crowded());
        match self.turn {
            Turn::Come => {
                self.turn = Turn::None;
                false
            }
            Turn::Asked => can_wait,
            Turn::None if can_wait => {
                self.turn = Turn::Asked;
                io.submit(Op::Turn, self.flights.begin(self.owner, Flight::Turn));
                true
            }
            Turn::None => false,
        }
    }

    /// Whether what was just appended can do without a step of its own: the log waits for its turn to write, and takes all there
    /// is with it when that comes.
    pub(super) fn may_gather(&self) -> bool {
        self.turn == Turn::Asked && !self.is_eager() && self.tail.has_room()
    }

    /// Whether somebody waits for durability of what is not durable yet.
    pub(super) fn is_eager(&self) -> bool {
        self.wanted_sync > self.synced_end
            || self.settings.durability == crate::Durability::Each
            || matches!(self.state, State::Closing(_) | State::Cutting | State::Switching(_))
    }

    /// The next write, if one is due. While the device is `busy` with others' flushes, a write to settled blocks is left to
    /// a flush that they share.
    fn plan_write(&mut self, busy: bool) -> Option<Plan> {
        let limits = &self.settings.limits;
        let (index, end) = loop {
            let index = self.segment_at(self.submitted)?;
            let segment = &self.segments[index];
            let live = segment.live()?;
            let end = live.place.plus(segment.size);
            if self.submitted < end {
                break (index, end);
            }
            if !live.rolled {
                return None;
            }
            // The rest of this segment's last block is padding.
            self.submitted = self.segments[index + 1].live()?.place;
        };
        let segment_size = self.segments[index].size;
        let live = self.segments[index].live()?;
        live.file?;
        let from = self.submitted.block_floor();
        if from < self.submitted && self.writes.iter().any(|write| write.from <= from && from < write.to) {
            // An earlier write of this block is in flight; two of them could land in either order.
            return None;
        }
        let eager = self.is_eager();
        let flushing = live.syncing.is_some();
        let staged = end.since(from);
        let idle = self.writes.is_empty();
        if !live.rolled && staged < patience(self.writes.len(), flushing && eager, limits.write_bytes as u64)
        {
            return None;
        }
        // Under `each` what is written and not synced is bounded: recovery tells a torn tail from rot by it.
        let room = self.unsynced_room(from).min(live.place.plus(live.prepared).since(from));
        let whole = end.block_floor();
        let partial = !end.is_aligned();
        // Everything before is durable, so this write alone can make everything durable.
        let alone = eager
            && idle
            && !flushing
            && live.synced == self.submitted
            && live.name == Name::Durable
            && self.synced == self.submitted
            && !(busy && live.settled.covers(segment_size));
        let plan = |to: Place, private: bool| Plan {
            segment: live.place,
            from,
            to,
            private,
            durable: alone && to == end && self.settings.mutant != Mutant::NoSync,
        };
        let padded = end.block_ceil().since(from);
        let most = PRIVATE_BYTES.min(limits.write_bytes as u64);
        if partial
            && (idle || live.rolled)
            && (self.turn != Turn::Come || whole <= from)
            && padded <= most
            && padded <= room
            && (eager || padded <= most / 2)
        {
            return Some(plan(end, true));
        }
        if whole > from {
            let to = whole.min(from.plus((limits.write_bytes as u64).min(room / BLOCK * BLOCK)));
            let slice = self.tail.slice(from, to)?;
            let to = from.plus(slice.len() as u64).block_floor();
            return (to > from).then(|| plan(to, false));
        }
        (partial && room >= BLOCK && (idle || eager || live.rolled)).then(|| plan(end, true))
    }

    /// Bytes that may be submitted from `from` on without exceeding what may be written and not synced.
    fn unsynced_room(&self, from: Place) -> u64 {
        match self.unsynced_limit() {
            Some(limit) => (limit + self.synced.block_floor().get()).saturating_sub(from.get()),
            None => u64::MAX,
        }
    }

    fn submit_write(&mut self, plan: Plan, io: &mut dyn Io) {
        let Plan { segment, from, to, private, durable } = plan;
        let data = if private {
            self.padded_copy(from, to, io)
        } else {
            self.tail.slice(from, to).expect("planned from what is staged")
        };
        debug_assert_eq!(data.len() as u64 % BLOCK, 0);
        let tag = self.flights.begin(self.owner, Flight::Write).tag;
        let write = InWrite { tag, segment, from, to, data, done: 0, durable, state: WriteState::InFlight };
        self.submit_bytes(&write, io);
        self.writes.push_back(write);
        self.submitted = to;
    }

    fn submit_bytes(&self, write: &InWrite, io: &mut dyn Io) {
        let index = self.segment_at(write.segment).expect("a segment lives while it is written");
        let file = self.segments[index].live().and_then(|live| live.file).expect("open before it is written");
        let at = FilePos::new(write.from.since(write.segment) + write.done as u64);
        let data = write.data.range(write.done..write.data.len());
        let token = highwater_io::Token { owner: self.owner, tag: write.tag };
        io.submit(Op::Write { file, at, data, durable: write.durable }, token);
    }

    fn padded_copy(&self, from: Place, to: Place, io: &mut dyn Io) -> Slice {
        let len = to.block_ceil().since(from) as usize;
        let mut buffer: Buffer = io.buffer(len);
        let staged = to.since(from) as usize;
        let spare = &mut buffer.spare_mut()[..len];
        assert!(self.tail.peek(from, &mut spare[..staged]), "what is to be written is staged");
        spare[staged..].fill(0);
        buffer.set_len(len);
        buffer.freeze()
    }

    /// Takes the completion of a write.
    pub(super) fn write_done(
        &mut self,
        now: Now,
        tag: u32,
        result: Result<Outcome, IoError>,
        io: &mut dyn Io,
    ) {
        // Tags are used again: one that is done and waits for those before it may have the same.
        let mine = |write: &InWrite| write.tag == tag && write.state == WriteState::InFlight;
        let position = self.writes.iter().position(mine).expect("a write in flight");
        match result {
            Ok(Outcome::Wrote { len }) => {
                let owner = self.owner;
                let write = &mut self.writes[position];
                let done = write.done + len;
                if done < write.data.len() {
                    // A short write: go on from the last whole block.
                    write.done = done / BLOCK as usize * BLOCK as usize;
                    write.tag = self.flights.begin(owner, Flight::Write).tag;
                    let write = self.writes.remove(position).expect("found above");
                    self.submit_bytes(&write, io);
                    self.writes.insert(position, write);
                    return;
                }
                write.state = WriteState::Done;
                self.advance_written(now);
            }
            Ok(_) => unreachable!("a write answers with what it wrote"),
            Err(error) if is_passing(&error) && self.settings.mutant != Mutant::NoSpaceIsFinal => {
                self.writes[position].state = WriteState::Waiting;
                self.out_of_space(now, error);
            }
            Err(error) => self.fail("write", error),
        }
    }

    fn retry_writes(&mut self, now: Now, io: &mut dyn Io) {
        if self.no_space.as_ref().is_some_and(|lack| lack.retry_at > now.mono) {
            return;
        }
        for i in 0..self.writes.len() {
            if self.writes[i].state == WriteState::Waiting {
                self.writes[i].tag = self.flights.begin(self.owner, Flight::Write).tag;
                self.writes[i].state = WriteState::InFlight;
                self.submit_bytes(&self.writes[i], io);
            }
        }
    }

    /// Moves `written` over the writes that are done, in order, and what follows from it.
    fn advance_written(&mut self, now: Now) {
        let mut moved = false;
        while let Some(front) = self.writes.front().filter(|write| write.state == WriteState::Done) {
            let (segment, from, to, durable) = (front.segment, front.from, front.to, front.durable);
            self.writes.pop_front();
            debug_assert!(from <= self.written || from.is_aligned());
            self.written = self.written.max(to);
            moved = true;
            if durable && let Some(index) = self.segment_at(segment) {
                let end = self.end_at(to);
                if let Some(live) = self.segments[index].live_mut() {
                    live.settled.synced(to.since(segment));
                    live.synced = to;
                    live.synced_end = end;
                }
            }
        }
        if moved {
            self.space_returned(now);
            self.move_ends();
        }
    }

    /// The end offset of the batches that lie wholly before `place`, which must not lie before `written_end`.
    pub(super) fn end_at(&self, place: Place) -> highwater_base::Offset {
        let after = self.ends.partition_point(|end| end.0 <= place);
        after.checked_sub(1).map_or(self.raw_written_end, |index| self.ends[index].1)
    }

    /// Recomputes `written_end` and `synced_end` from places, names and syncs. The only code that moves them.
    pub(super) fn move_ends(&mut self) {
        if self.failure.is_some() {
            // What is on disk is no longer certain: nothing more is promised.
            return;
        }
        self.raw_written_end = self.end_at(self.written);
        let done = self.ends.partition_point(|end| end.0 <= self.written);
        self.ends.drain(..done);
        let mut written = self.raw_written_end;
        let mut synced = (self.synced, self.synced_end);
        let mut proven = true;
        for segment in self.segments.range(self.first_live()..) {
            let Phase::Live(live) = &segment.phase else { continue };
            if live.name == Name::Absent {
                written = written.min(segment.base);
                break;
            }
            proven &= live.name == Name::Durable;
            if proven {
                synced = (live.synced, live.synced_end);
                proven = live.synced >= live.place.plus(segment.size);
            }
        }
        // A name still missing holds the end back; it never moves it back.
        if written > self.written_end {
            self.written_end = written;
            self.events.push_back(super::LogEvent::Written(written));
        }
        self.synced = self.synced.max(synced.0);
        let synced_end = synced.1.min(self.written_end);
        if synced_end > self.synced_end {
            self.synced_end = synced_end;
            self.events.push_back(super::LogEvent::Synced(synced_end));
        }
        self.tail.evict(self.written, self.settings.limits.tail_bytes);
    }

    /// Prepares space ahead of the write position.
    pub(super) fn drive_prepare(&mut self, now: Now, io: &mut dyn Io) {
        let serves = match self.state {
            State::Open | State::Closing(super::close::Stage::Draining) => true,
            State::Switching(stage) => stage == super::moving::Stage::Draining,
            State::Cutting => self.is_draining_for_cut(),
            _ => false,
        };
        if !serves {
            return;
        }
        if self.no_space.as_ref().is_some_and(|lack| lack.retry_at > now.mono) {
            return;
        }
        for index in 0..self.segments.len() {
            // Live segments are the last few.
            let index = self.segments.len() - 1 - index;
            let settings = *self.settings;
            let lacking = self.no_space.is_some() || self.room.low().is_some();
            let segment = &mut self.segments[index];
            let staged = segment.size;
            let Some(live) = segment.live_mut() else { break };
            let Some(file) = live.file else { continue };
            let untouched = live.opened_size > 0 && staged <= live.opened_size;
            if untouched || live.preparing || (live.rolled && staged <= live.prepared) || live.sealing {
                continue;
            }
            let ahead = Ahead {
                staged,
                prepared: live.prepared,
                // Out of space: ask for the least.
                step: if lacking { 0 } else { live.step },
                segment_bytes: settings.segment_bytes,
                durability: settings.durability,
                preallocate: if live.short { Preallocate::Ahead } else { settings.preallocate },
            };
            let Some((len, how)) = next_step(ahead, &settings.limits) else { continue };
            live.preparing = true;
            live.asked = (len, how);
            let at = FilePos::new(live.prepared);
            let token = self.flights.begin(self.owner, Flight::Prepare(live.place));
            io.submit(Op::Prepare { file, at, len, how }, token);
        }
        if self.no_space.is_some() && !self.waits_for_space() {
            // Nothing that is there needs space: whether there is some shows at the next append.
            self.space_returned(now);
        }
    }

    /// Whether something that needs space is under way or is to be tried again.
    fn waits_for_space(&self) -> bool {
        self.segments.iter().rev().map_while(|segment| segment.live()).any(|live| live.preparing)
            || self.writes.iter().any(|write| write.state != WriteState::Done)
            || self.scripts.iter().flatten().any(|running| running.retries > 0)
    }

    /// Takes the completion of a preparation.
    pub(super) fn prepare_done(&mut self, now: Now, place: Place, result: Result<Outcome, IoError>) {
        let index = self.segment_at(place).expect("a segment lives while it is prepared");
        let live = self.segments[index].live_mut().expect("only live segments are prepared");
        live.preparing = false;
        live.short = result.is_err();
        match result {
            Ok(_) => {
                let (len, how) = live.asked;
                if how == Prepared::Zeroed {
                    live.settled.zeroed(live.prepared, len);
                }
                live.prepared += len;
                live.step = len;
                self.space_returned(now);
            }
            Err(error) if is_passing(&error) => {
                // Next time the least is asked for, and only once it is needed: what was staged may fit in what was
                // prepared before, and then nobody has to be refused.
                live.step = 0;
                let (prepared, size) = (live.prepared, self.segments[index].size);
                if size > prepared {
                    self.out_of_space(now, error);
                }
            }
            Err(error) => self.fail("prepare", error),
        }
    }
}

/// Whether it may work later.
pub(super) fn is_passing(error: &IoError) -> bool {
    matches!(error.kind, ErrorKind::NoSpace | ErrorKind::Exhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_device_gets_everything_at_once_and_a_busy_one_large_writes() {
        assert_eq!(patience(0, false, 1 << 20), 0);
        let waits: Vec<u64> = (0..5).map(|n| patience(n, false, 1 << 20)).collect();
        assert!(waits.is_sorted());
        assert_eq!(patience(0, true, 1 << 20), 256 << 10);
        assert_eq!(patience(3, false, 1 << 20), 1 << 20);
    }
}
