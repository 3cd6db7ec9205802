//! Compaction of a log: a pass in slices, between which everything else goes on (kafka.md 3.7 to 3.9).
//!
//! A pass reads sealed segments, first to map keys, then to write what stays into `.cleaned` files, group by group. A
//! group that is written and synced takes its segments' place as in Kafka: `.cleaned` becomes `.swap`, durably; the old
//! files become `.deleted`, durably; `.swap` is dropped, durably. A crash before the first of these leaves the old
//! segments, one behind it the new ones: opening the directory finishes or undoes what was begun.

mod output;
mod pass;
mod swap;

use std::time::Duration;

use highwater_base::{Mono, Mutant, Now, Offset, WallMs};
use highwater_io::{FileId, Io};

use super::flight::Purpose;
use super::script::{Script, Step};
use super::{Log, LogEvent, State};
use crate::compact::{Bounds, Dirty, Source, dirty};
use crate::layout::{FileKind, FileName, FileState};
use crate::segment::Segment;
use pass::Running;

/// How long a log is left alone after a pass that failed for a reason that may go away.
const HOLD: Duration = Duration::from_secs(60);

/// A log's compaction.
#[derive(Debug)]
pub(crate) struct CompactionState {
    /// Everything below was compacted; [`Offset::NONE`]: nothing is known.
    pub(super) cleaned_to: Offset,
    running: Option<Box<Running>>,
    /// Open for the pass: what it reads and what it writes.
    source: Option<FileId>,
    output: Option<FileId>,
    /// The segment whose `.cleaned` files may be there.
    cleaned: Option<Offset>,
    /// The pass is to be given up.
    given_up: bool,
    /// No pass begins before.
    hold_until: Mono,
    /// A batch that should be there cannot be read: no pass begins before the next start.
    stuck: bool,
}

impl Default for CompactionState {
    fn default() -> CompactionState {
        CompactionState {
            cleaned_to: Offset::NONE,
            running: None,
            source: None,
            output: None,
            cleaned: None,
            given_up: false,
            hold_until: Mono::ZERO,
            stuck: false,
        }
    }
}

impl CompactionState {
    /// Files that a pass has open; they are the caller's to close.
    pub(super) fn take_files(&mut self) -> Vec<FileId> {
        self.source.take().into_iter().chain(self.output.take()).collect()
    }

    /// The log was cut: what is beyond was never compacted.
    pub(super) fn truncate(&mut self, end: Offset) {
        self.cleaned_to = self.cleaned_to.min(end);
    }

    /// Whether no file of a pass is left on disk.
    pub(super) fn left_nothing(&self) -> bool {
        self.running.is_none() && self.cleaned.is_none()
    }

    /// Nothing more is done; the map's memory goes.
    pub(super) fn forget(&mut self) {
        self.running = None;
    }
}

impl Log {
    /// What there is to compact; `None` if the settings do not ask for it, or if a pass cannot begin now: the log is
    /// not open, one is under way, or one has just failed. Costs a look at each segment.
    pub fn dirty(&self, now: Now) -> Option<Dirty> {
        let settings = self.settings.compaction?;
        let state = &self.compaction;
        let able = self.state == State::Open
            && state.running.is_none()
            && !state.stuck
            && now.mono >= state.hold_until
            && self.no_space.is_none();
        able.then(|| dirty(&self.compactable(), self.bounds(), &settings, now.wall))
    }

    /// Begins a pass over what [`Log::dirty`] says, whatever its ratio. At most `memory` bytes are taken for keys: if
    /// there are more, the pass ends early and another one goes on. It reads and writes at most `bytes_per_second`
    /// (`u64::MAX`: no limit). [`LogEvent::Compacted`] tells the end. False if there is nothing to do.
    pub fn compact(&mut self, now: Now, memory: usize, bytes_per_second: u64) -> bool {
        let Some(dirty) = self.dirty(now).filter(|dirty| dirty.dirty_bytes > 0) else { return false };
        let mut sources = self.compactable();
        sources.retain(|source| source.end <= dirty.upto);
        let clean = self.segments.iter().rev().find(|segment| segment.end <= dirty.from);
        let legacy_horizon = clean.map_or(i64::MIN, |segment| {
            let keep = self.settings.compaction.map_or(0, |settings| settings.delete_retention_ms);
            segment.modified_ms.saturating_sub_unsigned(keep)
        });
        let known = match self.settings.mutant {
            Mutant::AbortsUnknownToCleaner => 0,
            _ => usize::MAX,
        };
        let aborted = self.segments.iter().flat_map(|segment| segment.aborted.iter().copied()).take(known);
        let key = self.hash_key(now);
        let rules = crate::compact::PassRules {
            first_dirty: dirty.from,
            upto: match self.settings.mutant {
                Mutant::LastBatchMayGo => Offset::NONE,
                _ => dirty.upto,
            },
            now: now.wall,
            delete_retention_ms: match self.settings.mutant {
                Mutant::TombstonesGoAtOnce => 0,
                _ => self.settings.compaction.map_or(0, |settings| settings.delete_retention_ms),
            },
            keep_deletes: sources.iter().any(|source| source.damaged),
        };
        // A key takes 27 bytes of the map, a record at least seven of the log.
        let memory = memory.min((dirty.dirty_bytes as usize).saturating_mul(4).max(LEAST_MAP_BYTES));
        let pass = crate::compact::Pass::new(rules, crate::compact::KeyMap::new(memory, key), aborted);
        let running = Running::new(now, pass, sources, bytes_per_second, WallMs::new(legacy_horizon));
        self.compaction.running = Some(Box::new(running));
        self.due = true;
        true
    }

    /// Whether a pass is under way.
    pub fn is_compacting(&self) -> bool {
        self.compaction.running.is_some()
    }

    /// Everything below was compacted: what Kafka's `cleaner-offset-checkpoint` says of this log; [`Offset::NONE`] if
    /// nothing is known.
    pub fn cleaned_to(&self) -> Offset {
        self.compaction.cleaned_to
    }

    /// A key for the hash of keys that nobody who writes records can know.
    fn hash_key(&self, now: Now) -> [u64; 2] {
        let id = self.topic_id.unwrap_or_default().bytes();
        let half = |from: usize| u64::from_be_bytes(id[from..from + 8].try_into().expect("eight bytes"));
        [half(0) ^ now.mono.nanos(), half(8) ^ now.wall.get() as u64]
    }

    fn bounds(&self) -> Bounds {
        let stable = match self.settings.mutant {
            Mutant::CompactsUncommitted => self.synced_end,
            _ => self.last_stable_offset().min(self.synced_end),
        };
        Bounds { first_dirty: self.compaction.cleaned_to, stable }
    }

    /// The segments that may be compacted: sealed, and before the one that the checkpoint is of, since recovery goes by
    /// that one.
    fn compactable(&self) -> Vec<Source> {
        let Some(proven) = self.checkpoint.last.map(|last| last.segment) else { return Vec::new() };
        let sealed = self.first_live();
        let before = self.segments.partition_point(|segment| segment.base < proven).min(sealed);
        (0..before).map(|index| self.as_source(index)).collect()
    }

    fn as_source(&self, index: usize) -> Source {
        let segment = &self.segments[index];
        let modified = WallMs::new(segment.modified_ms);
        let or_modified = |time: WallMs| if time.get() >= 0 { time } else { modified };
        let newest = or_modified(segment.largest.timestamp);
        let entries = segment.size / self.settings.index_interval_bytes.max(1) + 1;
        Source {
            base: segment.base,
            end: self.segments.get(index + 1).map_or(self.log_end, |next| next.base),
            bytes: segment.size,
            offset_index_bytes: entries * crate::index::OFFSET_ENTRY_BYTES as u64,
            time_index_bytes: entries * crate::index::TIME_ENTRY_BYTES as u64,
            oldest: segment.oldest.map_or(newest, or_modified),
            newest,
            damaged: self.quarantine.touches(segment.base, &(0..u64::MAX)),
        }
    }

    pub(super) fn compaction_deadline(&self) -> Option<Mono> {
        self.compaction.running.as_ref().map(|running| running.next_slice)
    }

    /// Whether part of a pass is in flight, or its files are still there.
    fn is_in_slice(&self) -> bool {
        [Purpose::Compact, Purpose::CompactSwap, Purpose::CompactEnd].iter().any(|of| self.is_running(of))
    }

    /// Whether compaction has left nothing behind that somebody must wait for.
    pub(super) fn compaction_is_quiet(&self) -> bool {
        self.compaction.running.is_none() && !self.is_in_slice()
    }

    /// Begins the next slice, or ends the pass.
    pub(super) fn drive_compaction(&mut self, now: Now, io: &mut dyn Io) {
        if self.is_in_slice() {
            return;
        }
        let Some(running) = &self.compaction.running else { return };
        if self.state != State::Open || self.compaction.given_up || self.settings.compaction.is_none() {
            return self.end_compaction(io);
        }
        if now.mono >= running.next_slice {
            self.next_slice(now, io);
        }
    }

    /// The pass ends, done or not: its files are closed, and those that nobody will use go.
    fn end_compaction(&mut self, io: &mut dyn Io) {
        self.compaction.running = None;
        self.compaction.given_up = false;
        // A cut or a stop may be waiting for it.
        self.due = true;
        for file in self.compaction.take_files() {
            self.close_file(file, io);
        }
        self.remove_cleaned();
        let cleaned_to = self.compaction.cleaned_to;
        self.events.push_back(LogEvent::Compacted { cleaned_to });
    }

    /// Removes the `.cleaned` files of a group that will not be used.
    fn remove_cleaned(&mut self) {
        let Some(base) = self.compaction.cleaned.take() else { return };
        let steps: Vec<Step> = super::retain::SEGMENT_FILES
            .into_iter()
            .map(|kind| Step::Remove { path: self.path_as(kind, base, FileState::Cleaned) })
            .collect();
        self.run(Purpose::CompactEnd, steps);
    }

    /// A slice came to its end.
    pub(super) fn pass_slice_done(&mut self, script: &Script, io: &mut dyn Io) {
        if self.compaction.running.is_none() {
            // The pass was dropped meanwhile: by a failure, which ends everything.
            if let Some(file) = script.file().filter(|file| !self.has_open(*file)) {
                self.close_file(file, io);
            }
            return;
        }
        self.take_slice(script, io);
    }

    fn has_open(&self, file: FileId) -> bool {
        self.compaction.source == Some(file) || self.compaction.output == Some(file)
    }

    /// A slice failed, without harm to the log: the pass is given up, and another one begins later.
    pub(super) fn pass_slice_failed(&mut self, now: Now, file: Option<FileId>) {
        if let Some(file) = file.filter(|file| !self.has_open(*file)) {
            self.compaction.output.get_or_insert(file);
        }
        self.compaction.given_up = true;
        self.compaction.hold_until = now.mono.plus(HOLD);
        self.due = true;
    }

    /// A batch that should be there cannot be read. The pass is given up, and no other begins before the next start:
    /// the same batch would end it.
    fn compaction_is_stuck(&mut self) {
        self.compaction.given_up = true;
        self.compaction.stuck = true;
        self.due = true;
    }

    /// The path of a segment's file in another state.
    pub(super) fn path_as(&self, kind: FileKind, base: Offset, state: FileState) -> std::path::PathBuf {
        self.dir.join(FileName::live(kind, base).with_state(state).to_string())
    }

    /// Bytes read or written at once by a pass, or by a move.
    pub(super) fn slice_bytes(&self) -> u64 {
        self.readers.pace.slice(self.settings.limits.read_bytes as u64)
    }

    /// Whether the segments of a group are those that the pass began with.
    fn is_as_planned(&self, sources: &[Source]) -> bool {
        sources.iter().all(|source| {
            let segment = self.segment_index(source.base).map(|index| &self.segments[index]);
            segment.is_some_and(|segment: &Segment| segment.size == source.bytes && segment.live().is_none())
        })
    }
}

/// The smallest map of keys.
const LEAST_MAP_BYTES: usize = 64 << 10;
