//! Cutting a log's end off, and beginning it anew elsewhere. Appends wait until it is durably done.

use highwater_base::{BLOCK, FilePos, Mono, Mutant, Now, Offset};
use highwater_io::{Io, OpenHow};

use super::cold::{Job, Reader};
use super::flight::Purpose;
use super::script::{Script, Step, replace_file, write_file};
use super::{Log, LogEvent, State};
use crate::batch::Batch;
use crate::index::IndexBuilder;
use crate::layout::{CHECKPOINT, FileKind};
use crate::producers::{ProducerBatch, Snapshot};
use crate::segment::{BatchFacts, Largest, Live, Name, Phase, Segment};
use crate::tail::{Place, Tail};

/// A truncation under way.
#[derive(Debug)]
pub(crate) struct Cut {
    to: Offset,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What is staged goes to disk, what is rolled is sealed, so that there is one kind of state to start from.
    Draining { restart: bool },
    /// The snapshot of producers to begin from, and the target's indexes, are read.
    Loading { target: Offset },
    /// Batches from there to the cut are walked over: producers are rebuilt, the place of the cut is found.
    Walking(Box<Walk>),
    /// The files are cut.
    Acting { place: u64, end: Offset },
    /// Everything goes; an empty segment is made.
    Restarting { at: Offset },
}

#[derive(Debug)]
struct Walk {
    /// The base of the segment that will be the last.
    target: Offset,
    index: IndexBuilder,
    /// Producers are rebuilt from this offset on.
    producers_from: Offset,
    largest: Largest,
    first_timestamp: Option<highwater_base::WallMs>,
}

impl Log {
    /// Cuts everything from the batch that holds `to` onwards. Until [`LogEvent::Truncated`] the log takes no appends.
    /// Beyond the log's end only leader epochs that began there go.
    pub fn truncate(&mut self, to: Offset) {
        if matches!(self.state, State::Switching(_)) {
            self.moving.cut_later = Some((to, false));
        }
        if self.state != State::Open {
            return;
        }
        if to >= self.log_end {
            // Epochs without a record are cut too (KAFKA-10706).
            self.epochs_dirty |= self.epochs.truncate_to(to);
            self.due = true;
            self.events.push_back(LogEvent::Truncated { log_end: self.log_end });
            return;
        }
        let restart = to < self.segments[0].base;
        self.begin_cut(to, restart);
    }

    /// Drops everything and goes on at `at`. Until [`LogEvent::Truncated`] the log takes no appends.
    pub fn restart_at(&mut self, at: Offset) {
        match self.state {
            State::Open => self.begin_cut(at, true),
            State::Switching(_) => self.moving.cut_later = Some((at, true)),
            _ => {}
        }
    }

    fn begin_cut(&mut self, to: Offset, restart: bool) {
        self.cut = Some(Cut { to, stage: Stage::Draining { restart } });
        self.state = State::Cutting;
        self.forget_captured();
        self.due = true;
    }

    /// Whether a cut waits for what is staged to be durable.
    pub(super) fn is_draining_for_cut(&self) -> bool {
        matches!(self.cut, Some(Cut { stage: Stage::Draining { .. }, .. }))
    }

    pub(super) fn drive_cut(&mut self, now: Now, _io: &mut dyn Io) {
        let Some(Cut { to, stage: Stage::Draining { restart } }) = &self.cut else { return };
        let (to, restart) = (*to, *restart);
        let live = self.live_count();
        let idle = self.readers.slots.iter().flatten().all(|reader| reader.pending == 0);
        let drained = self.synced_end == self.log_end && !self.epochs_dirty && live == 1;
        if !self.is_awake_or_wakes() || !drained || !self.is_quiet() || !self.compaction_is_quiet() || !idle {
            return;
        }
        // Readers begin again from what is left.
        for reader in self.readers.slots.iter_mut().flatten() {
            reader.dead |= reader.job.is_none();
            reader.pieces.clear();
            reader.position = None;
            if let Some(Job::Fetch { taken, .. }) = &mut reader.job {
                *taken = None;
            }
        }
        self.sweep_readers();
        if restart {
            return self.restart(now, to);
        }
        let target = self.segments[self.segment_holding(to)].base;
        let most = self.settings.index_bytes as usize;
        let mut steps = vec![
            Step::Load { path: self.path(FileKind::OffsetIndex, target), len: most },
            Step::Load { path: self.path(FileKind::TimeIndex, target), len: most },
        ];
        if let Some(snapshot) = self.snapshot_before(to) {
            steps.push(Step::Load { path: self.path(FileKind::Snapshot, snapshot), len: i32::MAX as usize });
        }
        self.cut = Some(Cut { to, stage: Stage::Loading { target } });
        self.run(Purpose::LoadSnapshot, steps);
    }

    fn snapshot_before(&self, to: Offset) -> Option<Offset> {
        let after = self.snapshots.partition_point(|snapshot| *snapshot <= to);
        after.checked_sub(1).map(|index| self.snapshots[index])
    }

    pub(super) fn snapshot_loaded(&mut self, script: &Script) {
        let Some(Cut { to, stage: Stage::Loading { target } }) = &self.cut else { return };
        let (to, target) = (*to, *target);
        let interval = self.settings.index_interval_bytes;
        let at = self.segment_index(target).expect("no segment goes during a cut");
        let mut index = match self.segments[at].live() {
            Some(live) => live.index.clone(),
            None => {
                let load = |number| script.loaded(number).unwrap_or_default();
                let loaded = IndexBuilder::resume(target, interval, load(0), load(1));
                let sound = loaded.offsets().check().is_ok() && loaded.times().check().is_ok();
                if sound { loaded } else { IndexBuilder::new(target, interval) }
            }
        };
        let first_timestamp = self.segments[at].live().and_then(|live| live.first_timestamp);
        if self.settings.mutant != Mutant::IndexStaysFull {
            index.truncate(to);
        }
        // The walk begins at the last index entry that stays, or earlier, where the producers' snapshot ends.
        let indexed = index.offsets().floor(to).map_or(target, |entry| entry.offset);
        let mut from = indexed;
        let mut producers_from = Offset::MAX;
        if !self.producers.is_empty() {
            let known = self.snapshot_before(to);
            self.producers.clear();
            let bytes = script.loaded(2);
            producers_from = match (known, bytes) {
                (Some(snapshot), Some(bytes))
                    if self
                        .producers
                        .load(Snapshot::new(bytes), highwater_base::WallMs::new(0), i64::MAX)
                        .is_ok() =>
                {
                    snapshot
                }
                _ => {
                    self.producers.clear();
                    self.segments[0].base
                }
            };
            from = from.min(producers_from);
        }
        let largest = Largest { timestamp: index.max_timestamp(), offset: index.max_timestamp_offset() };
        let walk = Walk { target, index, producers_from, largest, first_timestamp };
        self.cut = Some(Cut { to, stage: Stage::Walking(Box::new(walk)) });
        let segment = self.segments[self.segment_holding(from)].base;
        let reader = Reader::new(segment, Job::Rebuild { from, to });
        if self.add_reader(reader).is_err() {
            // All readers are waiting for this cut: one more does no harm.
            let reader = Reader::new(segment, Job::Rebuild { from, to });
            self.readers.slots.push(Some(reader));
        }
    }

    /// A batch below the cut.
    pub(super) fn rebuild_sees(&mut self, slot: usize, position: u64, facts: &BatchFacts) {
        let Some(Cut { stage: Stage::Walking(walk), .. }) = &self.cut else { return };
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let in_target = reader.segment == walk.target;
        let mut applied = None;
        if facts.last >= walk.producers_from {
            let index = self.segment_index(reader.segment).expect("it was looked at");
            let bytes = self.bytes_of(slot, index, position, facts.size as usize);
            let bytes = bytes.expect("it was looked at just now");
            applied = Batch::at(&bytes, 0).ok().flatten().and_then(ProducerBatch::of);
        }
        if let Some(batch) = applied {
            self.producers.apply(&batch);
        }
        if in_target && let Some(Cut { stage: Stage::Walking(walk), .. }) = &mut self.cut {
            walk.largest.see(facts.max_timestamp, facts.last);
            walk.index.raise_max_timestamp(facts.max_timestamp, facts.last);
            if position == 0 {
                walk.first_timestamp = Some(facts.max_timestamp);
            }
        }
    }

    /// The walk has come to the cut; true, since the reader is done.
    pub(super) fn rebuild_ends(&mut self, slot: usize, position: u64) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let (segment, expected) = (reader.segment, reader.expected);
        reader.job = None;
        reader.dead = true;
        let Some(Cut { to, stage: Stage::Walking(walk) }) = self.cut.take() else { return true };
        let at = self.segment_index(walk.target).expect("no segment goes during a cut");
        let (place, end) = if segment == walk.target {
            (position, expected.unwrap_or(if position == 0 { walk.target } else { to }).min(to))
        } else {
            (self.segments[at].size, self.segments[at].end.min(to))
        };
        self.act_on_cut(at, *walk, place, end);
        true
    }

    /// What is left is known: memory first, then the files, in an order that a crash may cut anywhere.
    fn act_on_cut(&mut self, at: usize, walk: Walk, place: u64, end: Offset) {
        let base = walk.target;
        let later: Vec<Segment> = self.segments.drain(at + 1..).collect();
        let target = &mut self.segments[at];
        let created = highwater_base::WallMs::new(target.modified_ms);
        let old_file = target.file();
        let was_sealed = target.live().is_none();
        let mut live = Live::new(Place::ZERO, base, self.settings.index_interval_bytes, created);
        live.name = Name::Durable;
        live.first_timestamp = walk.first_timestamp.filter(|_| place > 0);
        live.seal = if place == 0 { Some(Default::default()) } else { None };
        live.index = walk.index;
        let (offsets, times) = (live.index.offset_bytes().to_vec(), live.index.time_bytes().to_vec());
        target.size = place;
        target.end = end;
        target.largest = if place == 0 { Largest::NONE } else { walk.largest };
        let all_aborted = target.aborted_bytes().filter(|_| !was_sealed);
        target.aborted.retain(|aborted| aborted.last_offset < end);
        let aborted = target.aborted_bytes();
        live.indexed_on_disk = [offsets.len(), times.len(), aborted.as_ref().map_or(0, Vec::len)];
        target.phase = Phase::Live(Box::new(live));
        self.epochs_dirty |= self.epochs.truncate_to(end);
        self.quarantine.truncate(end);
        if self.settings.mutant != Mutant::CleanedMarkStays {
            self.compaction.truncate(end);
        }
        let stale: Vec<Offset> = self.snapshots.iter().copied().filter(|snapshot| *snapshot > end).collect();
        self.snapshots.retain(|snapshot| *snapshot <= end);
        self.log_end = end;
        self.written_end = end;
        self.synced_end = end;
        self.log_start = self.log_start.min(end);

        // First the proof: what was proven beyond the cut is proven no more. Then the bytes.
        let mut steps = Vec::new();
        if !self.producers.is_empty() {
            steps.extend(replace_file(self.path(FileKind::Snapshot, end), self.producers.snapshot()));
            if let Err(index) = self.snapshots.binary_search(&end) {
                self.snapshots.insert(index, end);
            }
        }
        // The checkpoint counts on the transaction index up to the cut; more does no harm.
        if let Some(bytes) = all_aborted {
            steps.extend(replace_file(self.path(FileKind::TxnIndex, base), bytes));
        }
        steps.push(Step::Unlink { path: self.path(FileKind::Seal, base) });
        steps.push(Step::SyncDir { path: self.dir.clone() });
        steps.extend(self.last_checkpoint_steps());
        steps.extend(self.rename_steps(later, Mono::ZERO, end));
        // The indexes are hints: those of before the cut would be checked against the batches found.
        steps.extend(write_file(self.path(FileKind::OffsetIndex, base), offsets));
        steps.extend(write_file(self.path(FileKind::TimeIndex, base), times));
        match aborted {
            Some(bytes) => steps.extend(replace_file(self.path(FileKind::TxnIndex, base), bytes)),
            None => steps.push(Step::Unlink { path: self.path(FileKind::TxnIndex, base) }),
        }
        for snapshot in stale {
            steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, snapshot) });
        }
        steps.push(Step::SyncDir { path: self.dir.clone() });
        // The segment's file comes last, so that it is the one that the script leaves open.
        let path = self.path(FileKind::Log, base);
        match old_file {
            Some(file) if !was_sealed => steps.push(Step::Adopt(file)),
            Some(file) => {
                steps.extend([Step::Adopt(file), Step::Close]);
                steps.push(Step::Open { path, how: OpenHow::Write, direct: self.settings.direct });
            }
            None => steps.push(Step::Open { path, how: OpenHow::Write, direct: self.settings.direct }),
        }
        let floor = place / BLOCK * BLOCK;
        if place > floor {
            steps.push(Step::Read { at: FilePos::new(floor), len: (place - floor) as usize });
        }
        // Cut to the byte, so that nothing of what was there comes back, then up to the block that is written next.
        steps.push(Step::Truncate { len: place });
        steps.push(Step::Truncate { len: place.next_multiple_of(BLOCK) });
        steps.push(Step::Sync);
        self.cut = Some(Cut { to: end, stage: Stage::Acting { place, end } });
        self.run(Purpose::Cut, steps);
    }

    fn restart(&mut self, now: Now, at: Offset) {
        let going: Vec<Segment> = self.segments.drain(..).collect();
        let mut steps =
            vec![Step::Unlink { path: self.dir.join(CHECKPOINT) }, Step::SyncDir { path: self.dir.clone() }];
        self.checkpoint = super::checkpoint::CheckpointState::default();
        let stale = std::mem::take(&mut self.snapshots);
        let sealed_files = self.rename_steps(going, Mono::ZERO, Offset::NONE);
        steps.extend(sealed_files);
        for snapshot in stale {
            steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, snapshot) });
        }
        self.epochs.clear();
        self.epochs_dirty = true;
        self.producers.clear();
        self.quarantine = Default::default();
        self.compaction.cleaned_to = Offset::NONE;
        self.begin_at(now, at, None, 0);
        self.log_start = at;
        self.high_watermark = at;
        steps.extend(self.first_checkpoint_steps());
        let path = self.path(FileKind::Log, at);
        steps.push(Step::Open { path, how: OpenHow::CreateOrEmpty, direct: self.settings.direct });
        steps.push(Step::SyncDir { path: self.dir.clone() });
        self.cut = Some(Cut { to: at, stage: Stage::Restarting { at } });
        self.run(Purpose::Cut, steps);
    }

    pub(super) fn cut_done(&mut self, script: &Script) {
        let Some(cut) = self.cut.take() else { return };
        let (place, end, prepared) = match cut.stage {
            Stage::Acting { place, end } => (place, end, place.next_multiple_of(BLOCK)),
            Stage::Restarting { at } => (0, at, 0),
            Stage::Draining { .. } | Stage::Loading { .. } | Stage::Walking(_) => {
                unreachable!("not acting yet")
            }
        };
        let limits = self.settings.limits;
        let at = Place::ZERO.plus(place);
        self.tail.replace(Tail::new(Place::ZERO, at, script.data(), &limits));
        self.reset_places(at, end);
        let segment = self.segments.back_mut().expect("what was cut to");
        let live = segment.live_mut().expect("it is written to again");
        live.file = script.file();
        live.prepared = prepared;
        live.opened_size = place;
        live.synced = at;
        live.synced_end = end;
        live.name = Name::Durable;
        self.settle_checkpoint();
        self.renamed();
        self.state = State::Open;
        self.events.push_back(LogEvent::Truncated { log_end: end });
    }
}
