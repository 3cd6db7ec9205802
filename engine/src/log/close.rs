//! A clean stop: everything durable, files as Apache Kafka expects them.

use highwater_base::Now;
use highwater_io::{Io, OpenHow};

use super::flight::Purpose;
use super::listed::Sleep;
use super::script::{Step, write_file};
use super::{Log, State};
use crate::layout::{FileKind, FileName, FileState, LEADER_EPOCHS, PREPARED};

/// How far closing has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// What is staged is written and synced, rolled segments are sealed, readers are answered.
    Draining,
    /// The files are cut to size.
    Finishing,
}

impl Log {
    /// Makes everything durable and leaves the directory as Apache Kafka expects it: the active segment cut to its
    /// true length, indexes and a producer snapshot written. [`super::LogEvent::Closed`] follows. Appends are refused
    /// from now on.
    pub fn close(&mut self) {
        match self.state {
            State::Open | State::Creating | State::Cutting | State::Switching(_) => {
                self.close_wanted = true;
                self.due = true;
            }
            State::Closing(_) | State::Closed | State::Deleting(_) | State::Removed | State::Failed => {}
        }
    }

    /// What the state of the log's life asks for.
    pub(super) fn drive_life(&mut self, now: Now, io: &mut dyn Io) {
        if self.state == State::Creating {
            self.drive_create(now);
        }
        if self.state == State::Cutting {
            self.drive_cut(now, io);
        }
        if self.state == State::Open && self.delete_wanted && self.move_is_over() {
            self.begin_delete();
        }
        if self.state == State::Open && self.close_wanted {
            self.state = State::Closing(Stage::Draining);
        }
        match self.state {
            State::Closing(Stage::Draining) if self.is_drained() => self.finish_close(),
            State::Deleting(_) => self.drive_delete(),
            _ => {}
        }
    }

    /// Whether everything staged is durable and nothing is in flight.
    fn is_drained(&self) -> bool {
        self.synced_end == self.log_end
            && self.is_quiet()
            && self.compaction_is_quiet()
            && self.move_is_over()
            && self.readers.is_quiet()
            && !self.epochs_dirty
            && self.live_count() == 1
    }

    fn finish_close(&mut self) {
        let pristine = self.sleep == Sleep::Asleep { pristine: true };
        self.state = State::Closing(Stage::Finishing);
        let mut steps = Vec::new();
        for segment in &mut self.segments {
            // The active one's comes below.
            if let crate::segment::Phase::Sealed(sealed) = &mut segment.phase
                && let Some(file) = sealed.file.take()
            {
                steps.extend([Step::Adopt(file), Step::Close]);
            }
        }
        if pristine {
            // Everything is as the stop before had left it.
            return self.run(Purpose::Close, steps);
        }
        if let Some(next) = self.next.take() {
            steps.extend([Step::Adopt(next.file), Step::Close]);
        }
        steps.push(Step::Remove { path: self.dir.join(PREPARED) });
        let (file, path) = self.take_recycled();
        steps.extend(file.into_iter().flat_map(|file| [Step::Adopt(file), Step::Close]));
        steps.extend(path.map(|path| Step::Remove { path }));
        for (file, path) in self.retention.take_waiting() {
            if let Some(file) = file {
                steps.extend([Step::Adopt(file), Step::Close]);
            }
            steps.push(Step::Remove { path });
        }
        let (log, direct) = (self.path(FileKind::Log, self.active().base), self.settings.direct);
        let active = self.segments.back_mut().expect("a log that serves has a segment");
        let (base, size) = (active.base, active.size);
        let live = active.live_mut().expect("the last segment is live");
        live.index.finish();
        steps.push(match live.file.take() {
            Some(file) => Step::Adopt(file),
            // It was never used.
            None => Step::Open { path: log, how: OpenHow::Write, direct },
        });
        steps.extend([Step::Truncate { len: size }, Step::Sync, Step::Close]);
        let (offsets, times) = (live.index.offset_bytes().to_vec(), live.index.time_bytes().to_vec());
        steps.extend(write_file(self.path(FileKind::OffsetIndex, base), offsets));
        steps.extend(write_file(self.path(FileKind::TimeIndex, base), times));
        if let Some(aborted) = self.active().aborted_bytes() {
            // A checkpoint may count on what is there: old or new, never torn.
            steps.extend(super::script::replace_file(self.path(FileKind::TxnIndex, base), aborted));
        }
        // Kafka looks for a snapshot at the end; without one it reads the log again.
        let end = self.log_end;
        let snapshot = self.producers.snapshot();
        steps.extend(super::script::replace_file(self.path(FileKind::Snapshot, end), snapshot));
        for stale in self.stale_snapshots(end) {
            steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, stale) });
        }
        steps.push(Step::SyncDir { path: self.dir.clone() });
        steps.extend(self.last_checkpoint_steps());
        if self.take_trimmed_epochs() {
            let text = self.epochs.encode().into_bytes();
            steps.extend(super::script::replace_file(self.dir.join(LEADER_EPOCHS), text));
            steps.push(Step::SyncDir { path: self.dir.clone() });
        }
        self.run(Purpose::Close, steps);
    }

    /// Snapshots that belong to no segment's base and are not at `end`.
    pub(super) fn stale_snapshots(&mut self, end: highwater_base::Offset) -> Vec<highwater_base::Offset> {
        let bases: Vec<_> = self.segments.iter().map(|segment| segment.base).collect();
        let stale: Vec<_> = self
            .snapshots
            .iter()
            .copied()
            .filter(|offset| *offset != end && bases.binary_search(offset).is_err())
            .collect();
        self.snapshots.retain(|offset| !stale.contains(offset));
        if let Err(at) = self.snapshots.binary_search(&end) {
            self.snapshots.insert(at, end);
        }
        stale
    }

    /// The path of a file that waits to be removed.
    pub(super) fn deleted_path(&self, kind: FileKind, offset: highwater_base::Offset) -> std::path::PathBuf {
        self.dir.join(FileName::live(kind, offset).with_state(FileState::Deleted).to_string())
    }
}
