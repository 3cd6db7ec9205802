//! The copy takes the log's place.

use std::path::PathBuf;

use highwater_base::{BLOCK, Mutant, Offset};
use highwater_io::Io;

use super::copy::Doing;
use super::{Log, LogEvent, State};
use crate::checkpoint_file::encode_moved;
use crate::layout::{FileKind, FileName, LEADER_EPOCHS, MOVED, PartitionRole};
use crate::log::cold::Job;
use crate::log::flight::Purpose;
use crate::log::retain::SEGMENT_FILES;
use crate::log::script::{Script, Step, write_file};
use crate::segment::Phase;

/// How far it has come. Appends wait from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// What is staged is written and synced, rolled segments are sealed, everything else comes to rest.
    Draining,
    /// The rest of the bytes is copied.
    Copying,
    /// The active segment's file is settled; the files beside it are written, then the mark that the copy is complete.
    Completing,
    /// The directories are renamed: from here on there is no way back.
    Renaming,
}

impl Log {
    /// Appends wait from now on.
    pub(super) fn begin_switch(&mut self) {
        self.state = State::Switching(Stage::Draining);
        self.forget_captured();
        self.due = true;
    }

    /// Whether readers must wait: files have no certain name.
    pub(in crate::log) fn is_renaming(&self) -> bool {
        self.state == State::Switching(Stage::Renaming)
    }

    /// Whether the epochs' file may be written: not once it is copied.
    pub(in crate::log) fn may_write_epochs(&self) -> bool {
        !matches!(
            self.state,
            State::Creating | State::Switching(Stage::Copying | Stage::Completing | Stage::Renaming)
        )
    }

    pub(super) fn is_drained_for_switch(&self) -> bool {
        self.synced_end == self.log_end
            && self.is_quiet()
            && self.compaction_is_quiet()
            && !self.epochs_dirty
            && self.live_count() == 1
    }

    /// All bytes are copied: the active segment's file is settled, and stays open.
    pub(super) fn switch_on(&mut self) {
        if self.state != State::Switching(Stage::Copying) {
            return;
        }
        let active = self.active();
        let (base, size) = (active.base, active.size);
        let mut steps =
            vec![Step::Truncate { len: size }, Step::Truncate { len: size.next_multiple_of(BLOCK) }];
        steps.extend((self.settings.mutant != Mutant::MoveUnsynced).then_some(Step::Sync));
        if self.snapshots.binary_search(&base).is_ok() {
            steps.push(Step::Load { path: self.path(FileKind::Snapshot, base), len: i32::MAX as usize });
        }
        let output = self.moving.running.as_ref().and_then(|running| running.output);
        self.submit_move(Doing::Finish, output, steps);
    }

    /// A step of the switch before the renames is done.
    pub(super) fn went_on_switching(&mut self, script: &Script) {
        match self.state {
            State::Switching(Stage::Copying) => {
                self.state = State::Switching(Stage::Completing);
                let steps = self.completing_steps(script.loaded(0).map(<[u8]>::to_vec));
                self.submit_move(Doing::Finish, None, steps);
            }
            State::Switching(Stage::Completing) if self.moving.given_up.is_none() => self.rename_both(),
            _ => {}
        }
    }

    /// What lies beside the active segment, and the log's own files, as a clean stop would leave them; what is no longer
    /// part of the log goes; everything is durable; then the mark.
    fn completing_steps(&mut self, snapshot_at_base: Option<Vec<u8>>) -> Vec<Step> {
        let Some(running) = self.moving.running.as_mut() else { return Vec::new() };
        running.finishing = true;
        let (future, from) = (running.future.clone(), running.target.from);
        let segments = &self.segments;
        let made = std::mem::take(&mut running.made);
        let gone: Vec<Offset> = made
            .into_iter()
            .filter(|base| segments.binary_search_by_key(base, |segment| segment.base).is_err())
            .collect();
        let active = self.active();
        let (base, end) = (active.base, self.log_end);
        let live = active.live().expect("the last segment is live");
        let (offsets, times) = (live.index.offset_bytes().to_vec(), live.index.time_bytes().to_vec());
        let at = |kind, offset| future.join(FileName::live(kind, offset).to_string());
        let mut files = vec![
            (at(FileKind::OffsetIndex, base), offsets),
            (at(FileKind::TimeIndex, base), times),
            (future.join(LEADER_EPOCHS), self.epochs.encode().into_bytes()),
        ];
        files.extend(active.aborted_bytes().map(|bytes| (at(FileKind::TxnIndex, base), bytes)));
        let mut snapshots = vec![(base, snapshot_at_base), (end, self.producer_snapshot())];
        snapshots.retain(|(_, bytes)| bytes.is_some());
        let mut steps = Vec::new();
        for (offset, bytes) in snapshots {
            files.extend(bytes.map(|bytes| (at(FileKind::Snapshot, offset), bytes)));
            if let Some(running) = self.moving.running.as_mut() {
                running.snapshots.push(offset);
            }
        }
        for base in gone {
            steps.extend(SEGMENT_FILES.map(|kind| Step::Remove { path: at(kind, base) }));
        }
        steps.extend(files.into_iter().flat_map(|(path, bytes)| write_file(path, bytes)));
        // The checkpoint is of the copy.
        let here = std::mem::replace(&mut self.dir, future.clone());
        steps.extend(self.last_checkpoint_steps());
        self.dir = here;
        steps.push(Step::SyncDir { path: future.clone() });
        steps.extend(write_file(future.join(MOVED), encode_moved(from)));
        steps.push(Step::SyncDir { path: future });
        steps
    }

    /// The old directory goes out of the way, durably, then the copy gets its name, durably.
    fn rename_both(&mut self) {
        let Some(running) = &self.moving.running else { return };
        let Some(name) = self.dir.file_name() else { return };
        let arrived = running.target.directory.join(name);
        let left = self.dir.with_file_name(self.role_name(PartitionRole::Delete));
        let parent = self.dir.parent().map(PathBuf::from).unwrap_or_default();
        let leave =
            [Step::Rename { from: self.dir.clone(), to: left.clone() }, Step::SyncDir { path: parent }];
        let enter = [
            Step::Rename { from: running.future.clone(), to: arrived.clone() },
            Step::SyncDir { path: running.target.directory.clone() },
        ];
        let order = match self.settings.mutant {
            Mutant::MoveEntersFirst => [enter, leave],
            _ => [leave, enter],
        };
        self.moving.renamed = Some(Box::new((left, arrived)));
        self.state = State::Switching(Stage::Renaming);
        self.run(Purpose::MoveSwitch, order.into_iter().flatten());
    }

    /// The copy is the log.
    pub(in crate::log) fn arrived(&mut self, io: &mut dyn Io) {
        let (Some(running), Some(renamed)) = (self.moving.running.take(), self.moving.renamed.take()) else {
            return;
        };
        let (left, arrived) = *renamed;
        self.dir = arrived.clone();
        let (old_files, aborted) = (self.old_files(running.output), self.active().aborted.len());
        old_files.into_iter().chain(running.source).for_each(|file| self.close_file(file, io));
        let active = self.segments.back_mut().expect("a log that serves has a segment");
        let size = active.size;
        let live = active.live_mut().expect("the last segment is live");
        live.prepared = size.next_multiple_of(BLOCK);
        live.opened_size = size;
        // Of the copy's blocks nothing is known: what is written to them is made durable with their file's metadata.
        live.settled = crate::segment::Settled::default();
        live.indexed_on_disk = [
            live.index.offset_bytes().len(),
            live.index.time_bytes().len(),
            aborted * crate::index::TXN_ENTRY_BYTES,
        ];
        self.snapshots = running.snapshots;
        self.snapshots.retain(|snapshot| {
            *snapshot == self.log_end
                || self.segments.binary_search_by_key(snapshot, |segment| segment.base).is_ok()
        });
        self.snapshots.sort_unstable();
        self.snapshots.dedup();
        for (base, (_, modified_ms)) in running.copied {
            if let Some(index) = self.segment_index(base) {
                self.segments[index].modified_ms = modified_ms;
            }
        }
        self.settle_checkpoint();
        self.look_again();
        self.room = crate::log::space::Room::default();
        self.moving.forget();
        self.moving.finish = false;
        self.state = State::Open;
        self.events.push_back(LogEvent::Moved { dir: arrived });
        self.events.push_back(LogEvent::Discarded { dir: left });
        let marker = self.dir.join(MOVED);
        self.run(Purpose::MoveEnd, [Step::Unlink { path: marker }, Step::SyncDir { path: self.dir.clone() }]);
        self.begin_late_cut();
    }

    /// Every file of the old directory that is open; the active segment's is `output` from now on.
    fn old_files(&mut self, output: Option<highwater_io::FileId>) -> Vec<highwater_io::FileId> {
        let mut files: Vec<_> = self.next.take().map(|next| next.file).into_iter().collect();
        files.extend(self.take_recycled().0);
        files.extend(self.retention.take_waiting().into_iter().filter_map(|(file, _)| file));
        for segment in &mut self.segments {
            segment.readers = 0;
            match &mut segment.phase {
                Phase::Sealed(sealed) => files.extend(std::mem::take(sealed).file),
                Phase::Live(live) => files.extend(std::mem::replace(&mut live.file, output)),
            }
        }
        files
    }

    /// Readers look their place up again; reads in flight come back from the old files and are not looked at.
    fn look_again(&mut self) {
        for slot in 0..self.readers.slots.len() {
            let Some(reader) = &mut self.readers.slots[slot] else { continue };
            reader.leave_file();
            reader.dead |= reader.job.is_none();
            if let Some(Job::Fetch { from, taken, .. }) = &mut reader.job {
                *taken = None;
                let from = *from;
                let segment = self.segments[self.segment_holding(from)].base;
                self.readers.slots[slot].as_mut().expect("looked at above").segment = segment;
            }
        }
        self.sweep_readers();
    }

    /// A truncation that came meanwhile is done now.
    pub(super) fn begin_late_cut(&mut self) {
        let late = self.moving.changed().and_then(|moving| moving.cut_later.take());
        if let Some((to, restart)) = late {
            if restart { self.restart_at(to) } else { self.truncate(to) }
        }
    }
}
