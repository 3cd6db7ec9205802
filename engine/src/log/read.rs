//! Reading: from memory at once, from the disk through a [`Reader`].

use highwater_base::{FilePos, Mutant, Now, Offset};
use highwater_io::Io;

use super::close::Stage::Draining;
use super::cold::{Job, Reader, Taken};
use super::{Fetched, Log, LogEvent, Read, ReadId, State};
use crate::ReadError;
use crate::batch::{Batch, HEADER_BYTES, Header, MAGIC_PREFIX};
use crate::recovery::Damage;
use crate::segment::{BatchFacts, judge};
use crate::tail::Place;

/// What one look at the place of a reader gave.
pub(super) enum Look {
    /// A batch that is what it must be.
    Batch(BatchFacts),
    /// Bytes are missing that a read will bring.
    Wait,
    /// A batch that a fetch has no room for any more: only its size was looked at.
    Full,
    /// No batch begins here: the segment ends.
    End,
    /// Bytes that are not what they must be.
    Bad,
}

impl Log {
    /// Reads whole batches from the one that holds `from`, none of which reaches `upto` (exclusive): at least one if
    /// there is one, no more than `max_bytes` otherwise. What is in memory is answered at once and without a
    /// system call.
    pub fn read(
        &mut self,
        now: Now,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        let _ = now;
        self.ready_to_read()?;
        let (log_start, log_end) = (self.log_start, self.log_end);
        if from < log_start || from > log_end {
            return Err(ReadError::OutOfRange { asked: from, log_start, log_end });
        }
        let upto = upto.min(log_end);
        if from >= upto {
            return Ok(Read::Ready(Fetched::empty(from)));
        }
        if let Some(fetched) = self.read_tail(from, upto, max_bytes) {
            return Ok(Read::Ready(fetched));
        }
        if let Some(damage) = self.quarantine.holding(from) {
            return Err(damage.error(self.log_path(damage.segment)));
        }
        self.readers.last_id += 1;
        let id = ReadId(self.readers.last_id);
        let job = Job::Fetch { id, from, upto, max_bytes, taken: None };
        if let Some(reader) = self.readers.slots.iter_mut().flatten().find(|reader| {
            reader.job.is_none() && !reader.dead && reader.error.is_none() && reader.expected == Some(from)
        }) {
            // It goes on where it left off: it reads further ahead from now on.
            Log::raise_ahead(reader);
            reader.job = Some(job);
            self.readers.clock += 1;
            reader.used = self.readers.clock;
            self.due = true;
            return Ok(Read::Pending(id));
        }
        let segment = self.segments[self.segment_holding(from)].base;
        self.add_reader(Reader::new(segment, job))?;
        Ok(Read::Pending(id))
    }

    pub(super) fn ready_to_read(&self) -> Result<(), ReadError> {
        if let Some(failure) = self.failure() {
            return Err(ReadError::Failed(failure.clone()));
        }
        match (self.state, self.busy()) {
            // During a cut, reads of what stays are answered from memory, or wait.
            (State::Open | State::Cutting | State::Switching(_) | State::Closing(Draining), _) => Ok(()),
            (_, busy) => busy.map_or(Ok(()), |busy| Err(ReadError::Busy(busy))),
        }
    }

    /// The segment whose range `offset` falls in, as an index.
    pub(super) fn segment_holding(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }

    /// From the tail, if the batch that holds `from` is wholly there.
    fn read_tail(&self, from: Offset, upto: Offset, max_bytes: usize) -> Option<Fetched> {
        let mark = self.tail.find(from)?;
        let end = self.tail.segment_end(mark.segment);
        let mut at = mark.at;
        // Walk to the batch that holds `from`.
        let first = loop {
            if at >= end {
                // A hole between segments, or at the end of what a compacted leader sent: go on behind it.
                let behind = self.tail.find_after(mark)?;
                return self.read_tail(behind.first.max(from.plus(1)), upto, max_bytes);
            }
            let (size, last) = self.tail_batch(at)?;
            if last >= from {
                if last >= upto {
                    return Some(Fetched::empty(from));
                }
                break (at, size, last.plus(1));
            }
            at = at.plus(size);
        };
        let (start, mut next) = (first.0, first.2);
        let mut stop = first.0.plus(first.1);
        let limit = start.plus(max_bytes as u64);
        // Marks lead over most headers: one whose batch begins within the limits ends the batch before it there too.
        let ahead = self.tail.skip(mark, limit, upto);
        if ahead.at > stop {
            (stop, next) = (ahead.at, ahead.first);
        }
        while stop < end {
            let (size, last) = self.tail_batch(stop)?;
            if last >= upto || stop.plus(size) > limit {
                break;
            }
            stop = stop.plus(size);
            next = last.plus(1);
        }
        Some(Fetched { data: self.tail.slices(start, stop), ..Fetched::empty(next) })
    }

    /// Size and last offset of the batch at `at`, which is in memory.
    fn tail_batch(&self, at: Place) -> Option<(u64, Offset)> {
        let mut header = [0; HEADER_BYTES];
        if !self.tail.peek(at, &mut header) {
            return None;
        }
        let header = Header::decode(&header)?;
        Some((header.size()? as u64, header.last_offset()))
    }

    /// Takes every waiting reader as far as the bytes in memory allow.
    pub(super) fn drive_readers(&mut self, now: Now, io: &mut dyn Io) {
        if !self.is_awake() {
            return;
        }
        let flushing = io.is_flushing();
        self.readers.pace.note(now, self.tail.end(), flushing);
        for slot in 0..self.readers.slots.len() {
            self.drive_reader(slot, now, io);
        }
        self.sweep_readers();
    }

    fn drive_reader(&mut self, slot: usize, now: Now, io: &mut dyn Io) {
        // Each round uses up a batch, moves to another segment, or ends.
        loop {
            let Some(reader) = self.readers.slots.get_mut(slot).and_then(Option::as_mut) else { return };
            if reader.job.is_none() || reader.dead {
                return;
            }
            if let Some(error) = reader.error.take() {
                reader.dead = true;
                let job = reader.job.take().expect("checked above");
                if matches!(job, Job::Rebuild { .. }) {
                    return self.fail("truncate", error);
                }
                return self.answer(job, Err(ReadError::Io(error)));
            }
            let rebuilds = matches!(reader.job, Some(Job::Rebuild { .. }));
            if (self.state == State::Cutting && !rebuilds) || self.is_renaming() {
                // Waits until the log is whole again.
                return;
            }
            if self.refuse_late_reader(slot) || !self.place_reader(slot) {
                return;
            }
            match self.look(slot) {
                Look::Wait => {
                    if !self.read_ahead(slot, now, io) {
                        let base = self.readers.slots[slot].as_ref().expect("a reader with a job").segment;
                        // The file of a live segment is on its way.
                        if self.segment_index(base).is_some_and(|i| self.segments[i].live().is_none()) {
                            self.open_sealed(base);
                        }
                    }
                    return;
                }
                look => {
                    if self.take(slot, look, now) {
                        // Done: what is likely to be wanted next is fetched at once.
                        self.read_ahead(slot, now, io);
                        return;
                    }
                }
            }
        }
    }

    /// A fetch whose segment went before anything was taken from it is out of range, not to be led to other records.
    fn refuse_late_reader(&mut self, slot: usize) -> bool {
        let (log_start, log_end) = (self.log_start, self.log_end);
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let Some(Job::Fetch { from, taken: None, .. }) = reader.job else { return false };
        let gone = from < log_start && self.segment_index(reader.segment).is_none();
        if !gone || self.settings.mutant == Mutant::LateReadsGoOn {
            return false;
        }
        let reader = self.readers.slots[slot].as_mut().expect("checked above");
        reader.dead = true;
        let job = reader.job.take().expect("checked above");
        self.answer(job, Err(ReadError::OutOfRange { asked: from, log_start, log_end }));
        true
    }

    /// Looks up where a reader begins. False if its segment's index is not in memory yet.
    fn place_reader(&mut self, slot: usize) -> bool {
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        if reader.position.is_some() {
            return true;
        }
        let base = reader.segment;
        let Some(index) = self.segment_index(base) else {
            if matches!(reader.job, Some(Job::Check { .. })) {
                self.checked(slot, 0, base);
                return false;
            }
            // Its segment went: begin again from where the log starts now.
            let from = self.log_start;
            let segment = self.segments[self.segment_holding(from)].base;
            let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
            reader.seek(segment, None, None);
            return self.place_reader(slot);
        };
        let segment = &self.segments[index];
        if segment.file().is_none() && segment.live().is_none() {
            self.open_sealed(base);
            return false;
        }
        let Some(offsets) = segment.offsets() else {
            self.open_sealed(base);
            return false;
        };
        let target = match reader.job.as_ref().expect("a reader with a job") {
            Job::Check { range, .. } => offsets.last_upto(FilePos::new(range.start)),
            Job::Fetch { from, .. } | Job::Rebuild { from, .. } => *from,
            Job::Time { at, from, .. } => {
                let times = segment.times().expect("loaded together");
                times.lookup(*at).offset.max(*from)
            }
        };
        // A damaged index may point anywhere; what it says is checked against the batch that is found.
        let entry = offsets.floor(target).filter(|entry| entry.position.get() < segment.size);
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        match entry {
            Some(entry) => {
                reader.seek(base, Some(entry.position.get()), None);
                reader.promised = (self.settings.mutant != Mutant::IndexTrusted).then_some(entry.offset);
            }
            None => reader.seek(base, Some(0), Some(base)),
        }
        true
    }

    /// Looks at the bytes at a reader's place.
    fn look(&mut self, slot: usize) -> Look {
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let position = reader.position.expect("placed before it looks");
        let Some(index) = self.segment_index(reader.segment) else { return Look::End };
        let segment = &self.segments[index];
        let size = segment.size;
        if position >= size {
            return Look::End;
        }
        if self.quarantine.at(segment.base, FilePos::new(position)).is_some() && reader.damaged.is_none() {
            return Look::Bad;
        }
        let left = size - position;
        let mut need = MAGIC_PREFIX as u64;
        let look = 'look: {
            if left < need {
                break 'look Look::Bad;
            }
            let Some(prefix) = self.bytes_of(slot, index, position, MAGIC_PREFIX) else {
                break 'look Look::Wait;
            };
            let prefix: [u8; MAGIC_PREFIX] = prefix[..].try_into().expect("as many as asked for");
            let Ok(len) = Batch::size_from_prefix(&prefix, 0) else { break 'look Look::Bad };
            if len as u64 > left {
                break 'look Look::Bad;
            }
            let full = match &reader.job {
                Some(Job::Fetch { taken: Some(taken), max_bytes, .. }) => {
                    position + len as u64 - taken.start > *max_bytes as u64
                }
                _ => false,
            };
            if full {
                break 'look Look::Full;
            }
            need = len as u64;
            let Some(bytes) = self.bytes_of(slot, index, position, len) else { break 'look Look::Wait };
            let Ok(Some(batch)) = Batch::at(&bytes, 0) else { break 'look Look::Bad };
            let epochs = Some(&self.epochs);
            let Ok(facts) = judge(batch, segment.base, reader.expected, epochs, self.settings.mutant) else {
                break 'look Look::Bad;
            };
            if facts.last >= segment.end || reader.promised.is_some_and(|last| last != facts.last) {
                break 'look Look::Bad;
            }
            // A gap in the offsets is either real or a flipped bit in the base offset; then the next batch, which
            // must follow this one, does not.
            let gap = reader.expected.is_some_and(|expected| facts.first > expected);
            if gap && left > need + MAGIC_PREFIX as u64 {
                need += HEADER_BYTES.min((left - need) as usize) as u64;
                let Some(both) = self.bytes_of(slot, index, position, need as usize) else {
                    break 'look Look::Wait;
                };
                let next =
                    Offset::new(i64::from_be_bytes(both[len..len + 8].try_into().expect("eight bytes")));
                if next <= facts.last {
                    break 'look Look::Bad;
                }
            }
            Look::Batch(facts)
        };
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        reader.need = need;
        look
    }

    /// Bytes of a segment: from the reader's pieces, or from the tail where the file is not readable yet.
    pub(super) fn bytes_of(
        &self,
        slot: usize,
        index: usize,
        at: u64,
        len: usize,
    ) -> Option<std::borrow::Cow<'_, [u8]>> {
        let reader = self.readers.slots[slot].as_ref()?;
        let Some(live) = self.segments[index].live() else { return reader.bytes(at, len) };
        let Some(start) = self.tail.start() else { return reader.bytes(at, len) };
        let (from, to) = (live.place.plus(at), live.place.plus(at + len as u64));
        if to <= start {
            return reader.bytes(at, len);
        }
        let mut out = vec![0; len];
        let on_disk = if from < start { start.since(from) as usize } else { 0 };
        if on_disk > 0 {
            out[..on_disk].copy_from_slice(&reader.bytes(at, on_disk)?);
        }
        // What the tail gave up meanwhile is on disk.
        if self.tail.peek(from.plus(on_disk as u64), &mut out[on_disk..]) { Some(out.into()) } else { None }
    }

    /// Moves a reader over what it saw; true if its job is done.
    fn take(&mut self, slot: usize, look: Look, now: Now) -> bool {
        match look {
            Look::Wait => unreachable!("handled before"),
            Look::Full => self.finish_fetch(slot),
            Look::Bad => self.take_bad(slot),
            Look::End => self.take_end(slot, now),
            Look::Batch(facts) => self.take_batch(slot, facts),
        }
    }

    fn take_batch(&mut self, slot: usize, facts: BatchFacts) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let position = reader.position.expect("placed");
        reader.promised = None;
        if let Some((began, expected)) = reader.damaged.take() {
            let damage = Damage {
                segment: reader.segment,
                position: FilePos::new(began),
                position_end: FilePos::new(position),
                from: expected,
                until: facts.first.max(expected.plus(1)),
            };
            self.found_damage(damage);
            return self.reread_after_damage(slot, expected);
        }
        let after = (position + facts.size, facts.last.plus(1));
        let step_over = |reader: &mut Reader| {
            reader.position = Some(after.0);
            reader.expected = Some(after.1);
            reader.forget_before();
        };
        match reader.job.as_mut().expect("a reader with a job") {
            Job::Fetch { from, upto, max_bytes, taken, .. } => {
                if facts.last < *from {
                    step_over(reader);
                    return false;
                }
                let start = taken.map_or(position, |taken| taken.start);
                if facts.last >= *upto {
                    return self.finish_fetch(slot);
                }
                *taken = Some(Taken { start, end: after.0, next: after.1 });
                reader.position = Some(after.0);
                reader.expected = Some(after.1);
                if after.0 - start >= *max_bytes as u64 { self.finish_fetch(slot) } else { false }
            }
            Job::Time { .. } => {
                let done = self.look_for_time(slot, position, &facts);
                if !done && let Some(reader) = self.readers.slots[slot].as_mut() {
                    step_over(reader);
                }
                done
            }
            Job::Check { .. } => self.check_sees(slot, position, &facts),
            Job::Rebuild { to, .. } => {
                if facts.last >= *to {
                    return self.rebuild_ends(slot, position);
                }
                self.rebuild_sees(slot, position, &facts);
                if let Some(reader) = self.readers.slots[slot].as_mut() {
                    step_over(reader);
                }
                false
            }
        }
    }

    fn take_end(&mut self, slot: usize, now: Now) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let base = reader.segment;
        if let Some((began, expected)) = reader.damaged.take() {
            let Some(index) = self.segment_index(base) else { return true };
            let (end, until) = (self.segments[index].size, self.segments[index].end);
            self.found_damage(Damage {
                segment: base,
                position: FilePos::new(began),
                position_end: FilePos::new(end),
                from: expected,
                until: until.max(expected.plus(1)),
            });
            return self.reread_after_damage(slot, expected);
        }
        if matches!(reader.job, Some(Job::Fetch { taken: Some(_), .. })) {
            return self.finish_fetch(slot);
        }
        if matches!(reader.job, Some(Job::Check { .. })) {
            return self.check_ends(slot, base);
        }
        // The one after it, even if it has gone itself since a read came to rest at its end.
        let next = self.segments.partition_point(|segment| segment.base <= base);
        match self.segments.get(next).map(|segment| segment.base) {
            Some(next) if self.refuse_hole(slot, next) => true,
            Some(next) => {
                let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
                let position = if matches!(reader.job, Some(Job::Time { .. })) { None } else { Some(0) };
                reader.seek(next, position, position.map(|_| next));
                self.skip_segments_for_time(slot);
                false
            }
            None => match self.readers.slots[slot].as_mut().and_then(|reader| reader.job.take()) {
                Some(Job::Fetch { id, from, .. }) => {
                    self.events.push_back(LogEvent::ReadDone { id, result: Ok(Fetched::empty(from)) });
                    true
                }
                Some(job @ Job::Time { .. }) => self.time_not_found(slot, job, now),
                Some(Job::Check { .. }) => unreachable!("it ends with its segment"),
                Some(job @ Job::Rebuild { .. }) => {
                    let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
                    let position = reader.position.unwrap_or(0);
                    reader.job = Some(job);
                    self.rebuild_ends(slot, position)
                }
                None => true,
            },
        }
    }
}
