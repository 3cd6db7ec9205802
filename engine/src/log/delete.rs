//! The end of a log: its directory is renamed at once, its files go bit by bit.

use std::path::Path;

use highwater_base::{Now, Offset, TraceHash, Uuid};
use highwater_io::FileId;

use super::flight::Purpose;
use super::script::Step;
use super::{Log, LogEvent, State};
use crate::LogSettings;
use crate::layout::{PartitionDir, PartitionRole};
use crate::segment::Phase;
use crate::tail::{Place, Tail};

/// How far deleting has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// What is in flight comes back; nothing new is submitted.
    Draining,
    /// The directory is renamed.
    Renaming,
    /// The renamed directory's files go.
    Removing,
}

impl Log {
    /// Removes the log: its directory is renamed at once, its files go bit by bit. [`LogEvent::Deleted`] tells that
    /// the name is free, [`LogEvent::Removed`] that all is gone.
    pub fn delete(&mut self) {
        match self.state {
            State::Creating | State::Cutting | State::Switching(_) => self.delete_wanted = true,
            State::Open if !self.move_is_over() => self.delete_wanted = true,
            State::Open | State::Closing(_) | State::Closed | State::Failed => self.begin_delete(),
            State::Deleting(_) | State::Removed => {}
        }
        self.due = true;
    }

    /// Removes a directory that a deletion left behind when the process ended: `dir` is a `-delete` directory.
    /// [`LogEvent::Removed`] tells when it is gone.
    pub fn remove(now: Now, dir: &Path, owner: u32, settings: LogSettings) -> Log {
        let mut log = Log::blank(now, dir, owner, settings, None, Offset::ZERO);
        log.state = State::Deleting(Stage::Removing);
        log.run(Purpose::DeleteRemove, remove_steps(dir));
        log
    }

    pub(super) fn begin_delete(&mut self) {
        self.failure = None;
        self.delete_wanted = false;
        self.fail_readers();
        self.state = State::Deleting(Stage::Draining);
    }

    pub(super) fn drive_delete(&mut self) {
        if self.state != State::Deleting(Stage::Draining) || self.flights.len() > 0 {
            return;
        }
        // Scripts between two steps are given up: what they would have made goes too.
        let waking = self.scripts.iter().flatten().filter(|running| running.purpose == Purpose::Wake);
        let mut files: Vec<FileId> = waking.filter_map(|running| running.script.file()).collect();
        self.scripts.clear();
        self.writes.clear();
        self.compaction.forget();
        files.extend(self.compaction.take_files());
        if let Some(moving) = self.moving.changed() {
            files.extend(moving.take_files());
            moving.forget();
        }
        let mut steps: Vec<Step> =
            files.into_iter().flat_map(|file| [Step::Adopt(file), Step::Close]).collect();
        for segment in &mut self.segments {
            let file = match &mut segment.phase {
                Phase::Live(live) => live.file.take(),
                Phase::Sealed(sealed) => sealed.file.take(),
            };
            if let Some(file) = file {
                steps.extend([Step::Adopt(file), Step::Close]);
            }
        }
        if let Some(next) = self.next.take() {
            steps.extend([Step::Adopt(next.file), Step::Close]);
        }
        if let (Some(file), _) = self.take_recycled() {
            steps.extend([Step::Adopt(file), Step::Close]);
        }
        let to = self.dir.with_file_name(self.role_name(PartitionRole::Delete));
        steps.push(Step::RenameIfThere { from: self.dir.clone(), to: to.clone() });
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            steps.push(Step::SyncDir { path: parent.to_path_buf() });
        }
        self.dir = to;
        self.segments.clear();
        self.ends.clear();
        self.tail.replace(Tail::new(Place::ZERO, Place::ZERO, &[], &self.settings.limits));
        self.state = State::Deleting(Stage::Renaming);
        self.run(Purpose::DeleteRename, steps);
    }

    pub(super) fn delete_renamed(&mut self) {
        self.events.push_back(LogEvent::Deleted);
        self.state = State::Deleting(Stage::Removing);
        self.run(Purpose::DeleteRemove, remove_steps(&self.dir.clone()));
    }

    /// The name of the log's directory in another role. What makes it unique need not be random: it tells the log by its
    /// topic id, two lives of one partition by where they ended, and two moves by when they began.
    pub(super) fn role_name(&self, role: PartitionRole) -> String {
        let name = self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut hash = TraceHash::default();
        hash.bytes(&self.topic_id.unwrap_or(Uuid::ZERO).bytes());
        hash.bytes(name.as_bytes());
        hash.word(self.log_end.get() as u64);
        hash.word(self.moving.serial());
        let low = hash.value();
        hash.word(u64::from(self.owner));
        let unique = Uuid::from_halves(hash.value(), low);
        match PartitionDir::parse(&name) {
            Some(dir) => dir.with_role(role, unique).to_string(),
            // An embedder's own name.
            None => format!("{name}.{low:016x}-{}", role.suffix().unwrap_or_default()),
        }
    }
}

fn remove_steps(dir: &Path) -> Vec<Step> {
    let mut steps = vec![Step::RemoveTree { path: dir.to_path_buf() }];
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        steps.push(Step::SyncDir { path: parent.to_path_buf() });
    }
    steps
}
