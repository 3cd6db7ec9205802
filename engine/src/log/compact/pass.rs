//! A pass under way: what the next slice is, and what came of the last one.

use std::ops::Range;
use std::time::Duration;

use highwater_base::{BLOCK, FilePos, Mono, Mutant, Now, Offset, WallMs};
use highwater_io::{Io, OpenHow, Prepared};

use super::output::{Finish, Output};
use crate::batch::Batch;
use crate::compact::{Mapped, Pass, Rewrite, Slice, Source, groups};
use crate::layout::{FileKind, FileState};
use crate::log::Log;
use crate::log::flight::Purpose;
use crate::log::script::{Script, Step, write_file};
use crate::producers::Producers;
use crate::segment::judge;

/// See the module.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pass: Pass,
    /// Every segment below the pass's end, in order.
    pub(super) sources: Vec<Source>,
    /// What becomes of them; empty while keys are mapped.
    groups: Vec<Range<usize>>,
    /// The group being rewritten; none while keys are mapped.
    group: Option<usize>,
    cursor: Cursor,
    pub(super) output: Option<Output>,
    doing: Doing,
    bytes_per_second: u64,
    /// When the next slice may begin.
    pub(super) next_slice: Mono,
    /// Segments of older formats modified before lose their tombstones.
    legacy_horizon: WallMs,
}

/// Where the pass reads.
#[derive(Debug)]
struct Cursor {
    /// Index of the source.
    source: usize,
    /// The next read; a block.
    at: u64,
    /// Bytes read and not used: they begin inside a batch, or with one.
    carry: Vec<u8>,
    /// How many of these bytes are used up.
    used: usize,
    /// There are whole batches among the others, which the next slice takes.
    more: bool,
    /// The offset after the last batch.
    expected: Offset,
}

impl Cursor {
    fn at(source: usize, sources: &[Source]) -> Cursor {
        let expected = sources.get(source).map_or(Offset::ZERO, |source| source.base);
        Cursor { source, at: 0, carry: Vec::new(), used: 0, more: false, expected }
    }
}

/// What the slice in flight is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    OpenSource,
    Read,
    Take,
    OpenOutput,
    Write,
    Settle,
    Files,
    Dissolve,
}

/// What came of the batches that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TakenBatches {
    /// No whole one is left.
    All,
    /// As many as are taken at once.
    Some,
    /// As many as the map has room for.
    Full,
}

/// Given back of the map's memory at once.
const DISSOLVED_AT_ONCE: usize = 256 << 10;

impl Running {
    pub(super) fn new(
        now: Now,
        pass: Pass,
        sources: Vec<Source>,
        bytes_per_second: u64,
        legacy_horizon: WallMs,
    ) -> Running {
        let from = pass.rules().first_dirty;
        let first = sources.partition_point(|source| source.end <= from);
        Running {
            pass,
            cursor: Cursor::at(first, &sources),
            sources,
            groups: Vec::new(),
            group: None,
            output: None,
            doing: Doing::Nothing,
            bytes_per_second,
            next_slice: now.mono,
            legacy_horizon,
        }
    }

    /// The sources of the group being rewritten.
    pub(super) fn group_sources(&self) -> &[Source] {
        let group = self.group.and_then(|group| self.groups.get(group));
        group.map_or(&[], |group| &self.sources[group.clone()])
    }

    /// So many bytes were read or written: the next slice waits until the rate allows it.
    fn pay(&mut self, now: Now, bytes: u64) {
        if self.bytes_per_second < u64::MAX {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
            let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.next_slice = self.next_slice.max(now.mono).plus(wait);
        }
    }

    /// Mapping has come to its end: the groups are known.
    fn begin_rewriting(&mut self, segment_bytes: u64, index_bytes: u64) {
        self.groups = groups(&self.sources, self.pass.end(), segment_bytes, index_bytes);
        self.begin_group(0);
    }

    /// The next group, if there is one.
    pub(super) fn begin_group(&mut self, group: usize) {
        self.group = Some(group);
        self.output = None;
        let first = self.groups.get(group).map_or(self.sources.len(), |group| group.start);
        self.cursor = Cursor::at(first, &self.sources);
    }

    pub(super) fn next_group(&mut self) {
        self.begin_group(self.group.map_or(0, |group| group + 1));
    }

    /// The end of what is read now, as an index of sources.
    fn sources_end(&self) -> usize {
        match self.group {
            Some(group) => self.groups.get(group).map_or(0, |group| group.end),
            None => self.sources.len(),
        }
    }
}

impl Log {
    /// Submits what comes next, or ends the pass.
    pub(super) fn next_slice(&mut self, now: Now, io: &mut dyn Io) {
        let (segment_bytes, index_bytes) = (self.settings.segment_bytes, self.settings.index_bytes);
        // Appends wait behind a write.
        let write_bytes = self.settings.limits.write_bytes.min(self.slice_bytes() as usize);
        let waits = self.append_waits();
        let Some(running) = self.compaction.running.as_mut() else { return };
        // Segments that cannot be read are passed over while keys are mapped.
        while running.group.is_none()
            && running.sources.get(running.cursor.source).is_some_and(|source| source.damaged)
        {
            running.pass.mapped_to(running.sources[running.cursor.source].end);
            running.cursor = Cursor::at(running.cursor.source + 1, &running.sources);
        }
        if running.group.is_none() && running.cursor.source >= running.sources_end() {
            running.begin_rewriting(segment_bytes, index_bytes);
        }
        let read_all = running.cursor.source >= running.sources_end();
        if running.cursor.more {
            return self.submit(Doing::Take, None, [Step::Idle]);
        }
        if let Some(group) = running.group {
            if group >= running.groups.len() {
                self.compaction.cleaned_to = running.pass.end();
                if running.pass.dissolve(DISSOLVED_AT_ONCE) {
                    return self.submit(Doing::Dissolve, None, [Step::Idle]);
                }
                return self.end_compaction(io);
            }
            let Some(output) = &mut running.output else { return self.open_output() };
            let writes = output.waiting() >= write_bytes || (read_all && output.waiting() > 0);
            if writes && !self.readers.pace.starts(now, waits, write_bytes as u64) {
                return;
            }
            if writes && let Some((at, data)) = output.next_write(write_bytes, read_all) {
                running.pay(now, data.len() as u64);
                return self.submit(Doing::Write, self.compaction.output, [Step::Write { at, data }]);
            }
            if read_all {
                return self.finish_group(now, io);
            }
        }
        let source = running.cursor.source;
        if !self
            .compaction
            .running
            .as_ref()
            .is_some_and(|running| self.is_as_planned(std::slice::from_ref(&running.sources[source])))
        {
            self.compaction.given_up = true;
            self.due = true;
            return;
        }
        self.read_slice(now, source);
    }

    fn submit(
        &mut self,
        doing: Doing,
        file: Option<highwater_io::FileId>,
        steps: impl IntoIterator<Item = Step>,
    ) {
        if let Some(running) = self.compaction.running.as_mut() {
            running.doing = doing;
        }
        let adopt = file.map(Step::Adopt);
        self.run(Purpose::Compact, adopt.into_iter().chain(steps));
    }

    fn read_slice(&mut self, now: Now, source: usize) {
        let (slice, waits) = (self.slice_bytes(), self.append_waits());
        let Some(running) = self.compaction.running.as_mut() else { return };
        let facts = running.sources[source];
        if self.compaction.source.is_none() && facts.bytes > 0 {
            let path = self.path(FileKind::Log, facts.base);
            let direct = self.settings.direct;
            return self.submit(Doing::OpenSource, None, [Step::Open { path, how: OpenHow::Read, direct }]);
        }
        if !self.readers.pace.starts(now, waits, slice) {
            return;
        }
        running.cursor.carry.drain(..std::mem::take(&mut running.cursor.used));
        // A batch that is larger than a slice is read at once.
        let need = match running.cursor.carry.first_chunk() {
            Some(prefix) => Batch::size_from_prefix(prefix, 0).unwrap_or(0),
            None => 0,
        };
        let missing = (need as u64).saturating_sub(running.cursor.carry.len() as u64);
        let len = slice.max(missing).min(facts.bytes - running.cursor.at.min(facts.bytes));
        let len = len.next_multiple_of(BLOCK);
        running.pay(now, len);
        let at = FilePos::new(running.cursor.at);
        if len == 0 {
            // An empty segment.
            return self.submit(Doing::Read, None, []);
        }
        self.submit(Doing::Read, self.compaction.source, [Step::Read { at, len: len as usize }]);
    }

    fn open_output(&mut self) {
        let interval = self.settings.index_interval_bytes;
        let Some(running) = self.compaction.running.as_mut() else { return };
        let sources = running.group_sources();
        let base = sources.first().map_or(Offset::ZERO, |source| source.base);
        let space: u64 = sources.iter().map(|source| source.bytes).sum();
        let most = match self.settings.mutant {
            Mutant::CompactionMustShrink => space,
            _ => i32::MAX as u64,
        };
        running.output = Some(Output::new(base, interval, space, most));
        self.compaction.cleaned = Some(base);
        let path = self.path_as(FileKind::Log, base, FileState::Cleaned);
        let direct = self.settings.direct;
        let mut steps = vec![Step::Open { path, how: OpenHow::CreateOrEmpty, direct }];
        if space > 0 {
            // A device without the space says so before anything is written.
            let len = space.next_multiple_of(BLOCK);
            steps.push(Step::Prepare { at: FilePos::ZERO, len, how: Prepared::Allocated });
        }
        self.submit(Doing::OpenOutput, None, steps);
    }

    /// Everything of a group is written: the file is settled, then those beside it, then they take their place.
    fn finish_group(&mut self, now: Now, io: &mut dyn Io) {
        let Some(running) = self.compaction.running.as_mut() else { return };
        let alone = running.group_sources().len() == 1;
        let next = running.group_sources().last().map_or(Offset::NONE, |source| source.end);
        let Some(output) = &mut running.output else { return };
        let base = output.base;
        if !output.changed && alone {
            // Nothing of it went: it stays as it is.
            running.next_group();
            if let Some(file) = self.compaction.output.take() {
                self.close_file(file, io);
            }
            self.due = true;
            return self.remove_cleaned();
        }
        match output.finish {
            Finish::Open => {
                let steps = [
                    Step::Truncate { len: output.size },
                    Step::Sync,
                    Step::Close,
                    Step::Stat { path: self.path_as(FileKind::Log, base, FileState::Cleaned) },
                ];
                let file = self.compaction.output.take();
                self.submit(Doing::Settle, file, steps);
            }
            Finish::Settled(modified) => {
                output.index.finish();
                let aborted: Vec<u8> = output.aborted.iter().flat_map(|aborted| aborted.encode()).collect();
                let seal = output.seal.clone().followed_by(next).beside(&aborted);
                let files = [
                    (FileKind::OffsetIndex, Some(output.index.offset_bytes().to_vec())),
                    (FileKind::TimeIndex, Some(output.index.time_bytes().to_vec())),
                    (FileKind::TxnIndex, (!aborted.is_empty()).then_some(aborted)),
                    (FileKind::Seal, Some(seal.finish(modified).encode())),
                ];
                let mut steps = Vec::new();
                for (kind, bytes) in files {
                    let path = self.path_as(kind, base, FileState::Cleaned);
                    steps.extend(bytes.into_iter().flat_map(|bytes| write_file(path.clone(), bytes)));
                }
                self.submit(Doing::Files, None, steps);
            }
            Finish::Complete => self.swap_group(now),
        }
    }

    /// Takes what a slice brought.
    pub(super) fn take_slice(&mut self, script: &Script, io: &mut dyn Io) {
        let Some(running) = self.compaction.running.as_mut() else { return };
        match std::mem::replace(&mut running.doing, Doing::Nothing) {
            Doing::Nothing | Doing::Write | Doing::Dissolve => {}
            Doing::Take => self.take_carried(io),
            Doing::OpenSource => self.compaction.source = script.file(),
            Doing::OpenOutput => self.compaction.output = script.file(),
            Doing::Settle => {
                if let Some(output) = &mut running.output {
                    output.finish = Finish::Settled(WallMs::new(script.modified_ms()));
                }
            }
            Doing::Files => {
                if let Some(output) = &mut running.output {
                    output.finish = Finish::Complete;
                }
            }
            Doing::Read => self.take_read(script.data()),
        }
    }

    fn take_read(&mut self, data: &[u8]) {
        let Some(running) = self.compaction.running.as_mut() else { return };
        let source = running.sources[running.cursor.source];
        let left = source.bytes.saturating_sub(running.cursor.at);
        let data = &data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        if data.is_empty() && left > 0 {
            // Shorter than it was.
            return self.compaction_is_stuck();
        }
        let mut whole = data.len() as u64;
        if whole < left {
            // A short read goes on from its last whole block.
            whole = whole / BLOCK * BLOCK;
        }
        running.cursor.carry.extend_from_slice(&data[..whole as usize]);
        running.cursor.at += whole;
        running.cursor.more = true;
        self.due = true;
    }

    /// Takes a part of the batches that were read, so that a shard is not held up by all of them; behind the last of a
    /// source goes on to the next.
    fn take_carried(&mut self, io: &mut dyn Io) {
        let Some(running) = self.compaction.running.as_mut() else { return };
        let source = running.sources[running.cursor.source];
        let Some(taken) = self.take_batches(source) else { return self.compaction_is_stuck() };
        let Some(running) = self.compaction.running.as_mut() else { return };
        running.cursor.more = taken == TakenBatches::Some;
        let ended = running.cursor.at >= source.bytes && taken == TakenBatches::All;
        if ended && running.cursor.used < running.cursor.carry.len() {
            return self.compaction_is_stuck();
        }
        if ended || taken == TakenBatches::Full {
            let next = running.cursor.source + 1;
            if running.group.is_none() && self.settings.mutant != Mutant::GapsStayDirty {
                running.pass.mapped_to(source.end);
            }
            // A full map ends the mapping.
            let next = if ended { next } else { running.sources.len() };
            running.cursor = Cursor::at(next, &running.sources);
            if let Some(file) = self.compaction.source.take() {
                self.close_file(file, io);
            }
        }
        self.due = true;
    }

    /// Maps or rewrites some of the whole batches that were read. None if one is not what it must be.
    fn take_batches(&mut self, source: Source) -> Option<TakenBatches> {
        let mutant = self.settings.mutant;
        let modified = self.segment_index(source.base).map_or(0, |index| self.segments[index].modified_ms);
        let running = self.compaction.running.as_mut()?;
        let carry = std::mem::take(&mut running.cursor.carry);
        let keep_legacy = modified > running.legacy_horizon.get();
        let nobody = Producers::new(0);
        let producers = match mutant {
            Mutant::CleanerForgetsProducers => &nobody,
            _ => &self.producers,
        };
        let mut used = running.cursor.used;
        let mut slice = Slice::new();
        let mut taken = TakenBatches::All;
        while let Some(batch) = Batch::at(&carry, used).ok()? {
            if slice.is_over() {
                taken = TakenBatches::Some;
                break;
            }
            if !running.pass.is_within() {
                let expected = Some(running.cursor.expected);
                let facts = judge(batch, source.base, expected, Some(&self.epochs), mutant).ok()?;
                if facts.last >= source.end {
                    return None;
                }
                running.cursor.expected = facts.last.plus(1);
                slice.spend_bytes(batch.size());
            }
            if running.group.is_none() {
                match running.pass.map_some(batch, &mut slice).ok()? {
                    Mapped::Wholly => used += batch.size(),
                    Mapped::Partly => taken = TakenBatches::Some,
                    Mapped::Full => taken = TakenBatches::Full,
                }
                if taken == TakenBatches::All {
                    continue;
                }
                break;
            }
            let Some(rewritten) =
                running.pass.rewrite_some(batch, producers, keep_legacy, &mut slice).ok()?
            else {
                taken = TakenBatches::Some;
                break;
            };
            used += batch.size();
            slice.spend_bytes(batch.size());
            let output = running.output.as_mut()?;
            output.comes_by(batch);
            match rewritten {
                Rewrite::Drop => output.changed = true,
                Rewrite::Keep => output.push(batch),
                Rewrite::Replace(bytes) => {
                    let replaced = Batch::at(&bytes, 0).ok()??;
                    let fits = output.has_room_for(replaced);
                    if !fits && mutant == Mutant::CompactionMustShrink {
                        return None;
                    }
                    output.changed |= fits;
                    // What has grown too much, packed anew, stays as it is: that always fits.
                    output.push(if fits { replaced } else { batch });
                }
            }
            output.aborted.extend(running.pass.take_aborted());
        }
        running.cursor.carry = carry;
        running.cursor.used = used;
        Some(taken)
    }
}
