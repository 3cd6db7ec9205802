//! A group's new segment takes the place of the old ones.

use std::time::Duration;

use highwater_base::{Mutant, Now, Offset};

use crate::layout::{FileKind, FileState};
use crate::log::Log;
use crate::log::cold::Job;
use crate::log::flight::Purpose;
use crate::log::retain::SEGMENT_FILES;
use crate::log::script::Step;
use crate::segment::{Phase, Sealed, Segment};

/// Files that a compacted segment has beside its batches.
const BESIDE: [FileKind; 4] =
    [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex, FileKind::Seal];

impl Log {
    /// Renames: from here on there is no way back.
    pub(super) fn swap_group(&mut self, now: Now) {
        let Some(running) = self.compaction.running.as_ref() else { return };
        let sources: Vec<Offset> = running.group_sources().iter().map(|source| source.base).collect();
        if !self.is_as_planned(running.group_sources()) {
            self.compaction.given_up = true;
            self.due = true;
            return;
        }
        let Some(base) = sources.first().copied() else { return };
        if self.scrub_is_running() {
            // It compares two files of a segment, which must be of one: its end is waited for.
            return;
        }
        let synced = self.settings.mutant != Mutant::SwapUnsynced;
        let sync = || synced.then(|| Step::SyncDir { path: self.dir.clone() });
        let mut steps = Vec::new();
        for kind in BESIDE.into_iter().chain([FileKind::Log]) {
            let from = self.path_as(kind, base, FileState::Cleaned);
            steps.push(Step::RenameIfThere { from, to: self.path_as(kind, base, FileState::Swap) });
        }
        steps.extend(sync());
        // The newest first, so that a crash leaves old segments without a hole between them.
        let remove_at = now.mono.plus(Duration::from_millis(self.settings.file_delete_delay_ms));
        let mut going = Vec::new();
        // Batches first: what is beside them is then nobody's.
        for &source in sources.iter().rev() {
            let to = self.deleted_path(FileKind::Log, source);
            steps.push(Step::RenameIfThere { from: self.path(FileKind::Log, source), to: to.clone() });
            steps.extend(sync());
            going.push((source, FileKind::Log, to));
        }
        for &source in &sources {
            for kind in SEGMENT_FILES {
                if kind == FileKind::Log {
                    continue;
                }
                if kind == FileKind::Snapshot && (source == base || !self.snapshots.contains(&source)) {
                    continue;
                }
                let to = self.deleted_path(kind, source);
                steps.push(Step::RenameIfThere { from: self.path(kind, source), to: to.clone() });
                going.push((source, kind, to));
            }
        }
        steps.extend(sync());
        // Batches first: an index beside batches that are still `.swap` could be the old one.
        for kinds in [&[FileKind::Log][..], &BESIDE] {
            for &kind in kinds {
                let from = self.path_as(kind, base, FileState::Swap);
                steps.push(Step::RenameIfThere { from, to: self.path(kind, base) });
            }
            steps.extend(sync());
        }
        for (source, kind, path) in going {
            let index = self.segment_index(source).expect("as planned");
            let file = self.segments[index].file().filter(|_| kind == FileKind::Log);
            self.retention.replaces(source, path, file, remove_at);
        }
        self.run(Purpose::CompactSwap, steps);
    }

    /// The new segment is durably in its place.
    pub(in crate::log) fn swapped(&mut self) {
        self.retention.replaced();
        self.compaction.cleaned = None;
        let Some(running) = self.compaction.running.as_mut() else { return };
        let sources: Vec<Offset> = running.group_sources().iter().map(|source| source.base).collect();
        let Some(output) = running.output.take() else { return };
        running.next_group();
        let first = self.segment_index(output.base).expect("no segment goes during a swap");
        let last = first + sources.len() - 1;
        let (end, modified_ms) = (self.segments[last].end, self.segments[last].modified_ms);
        let mut segment = Segment::new(output.base, modified_ms, Phase::Sealed(Sealed::default()));
        segment.end = end;
        segment.size = output.size;
        segment.largest = output.largest;
        segment.oldest = output.oldest;
        segment.aborted = output.aborted;
        self.segments.drain(first + 1..=last);
        self.segments[first] = segment;
        self.snapshots.retain(|snapshot| !sources[1..].contains(snapshot));
        self.turn_readers_away(&sources);
        self.scrub_leaves(&sources);
        if let Some(moving) = self.moving.changed() {
            moving.replaced(&sources);
        }
        self.due = true;
    }

    /// Readers of what was replaced look up their place again. What they were given stays theirs, and reads in flight
    /// come back from the old file, which waits for them.
    fn turn_readers_away(&mut self, replaced: &[Offset]) {
        for slot in 0..self.readers.slots.len() {
            let Some(reader) = &mut self.readers.slots[slot] else { continue };
            if !replaced.contains(&reader.segment) {
                continue;
            }
            reader.leave_file();
            match &mut reader.job {
                Some(Job::Fetch { from, taken, .. }) => {
                    *taken = None;
                    let from = *from;
                    let segment = self.segments[self.segment_holding(from)].base;
                    self.readers.slots[slot].as_mut().expect("looked at above").segment = segment;
                }
                Some(Job::Time { .. } | Job::Rebuild { .. } | Job::Check { .. }) => {
                    reader.segment = replaced[0]
                }
                None => reader.dead = true,
            }
        }
        self.sweep_readers();
    }
}
