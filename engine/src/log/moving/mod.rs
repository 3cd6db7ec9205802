//! A log that moves to another data directory, in slices, between which everything else goes on.
//!
//! The copy grows under Kafka's name for it, `<topic>-<partition>.<uuid>-future`: sealed segments as bytes, with what lies
//! beside them, then what the active one has of whole blocks. When little is missing the owner is told, and says when the
//! copy may take the log's place. Then appends wait: the rest is copied, synced, and marked complete; the old directory is
//! renamed to `-delete`, durably; the copy gets the log's name, durably. A crash before the first rename leaves the old
//! directory as the log, one behind it the copy, which the next start gives its name ([`crate::relocation`]).
//!
//! Whatever fails before the first rename ends the move and nothing else; the renames end the log until the next start.

mod copy;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{FilePos, Mono, Now, Offset, TraceHash, Uuid};
use highwater_io::{FileId, Io, IoError};

use super::flight::Purpose;
use super::script::{Step, write_file};
use super::{Log, LogEvent, State};
use crate::checkpoint_file::encode_partition_metadata;
use crate::layout::{PARTITION_METADATA, PartitionRole};
use crate::rare::AtFirst;
use copy::{Copying, Doing};
pub(crate) use switch::Stage;

/// How far a move has come.
///
/// ```
/// use highwater_base::*;
/// use highwater_engine::{Log, LogSettings};
/// let now = Now { mono: Mono::ZERO, wall: WallMs::new(0) };
/// let mut log = Log::create(now, "/a/orders-0".as_ref(), 1, LogSettings::default(), Uuid::ZERO);
/// assert_eq!(log.moving(), None);
/// log.move_to("/b".as_ref(), Uuid::ZERO, u64::MAX);
/// assert_eq!(log.moving().unwrap().directory, std::path::Path::new("/b"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveFacts {
    /// The data directory that the log moves to.
    pub directory: PathBuf,
    /// Bytes of batches copied so far.
    pub bytes: u64,
    /// Batches below this offset are copied; counted in whole segments, until the active one is being followed.
    pub copied_to: Offset,
    /// So little is missing that [`Log::finish_move`] will make the copy the log at once.
    pub caught_up: bool,
}

/// Where a log is to go.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Target {
    directory: PathBuf,
    from: Uuid,
}

/// What a log knows of its move.
#[derive(Debug)]
pub(crate) struct Moving {
    wanted: Option<Box<Target>>,
    running: Option<Box<Running>>,
    /// Bytes a second; 0: waits.
    rate: u64,
    /// The owner has said that the copy may take the log's place.
    finish: bool,
    /// The copy is not what it must be, or cannot be made: why, if somebody is to be told.
    given_up: Option<Box<IoError>>,
    /// A copy that nobody wants, on its way to this name.
    discarding: Option<PathBuf>,
    /// Makes names unique: two moves of one log need not differ in anything else.
    serial: u64,
    /// What the directories that are being renamed will be: the one that was left, and the log's.
    renamed: Option<Box<(PathBuf, PathBuf)>>,
    /// A truncation, or a restart, that came during the switch: where to, and which of the two.
    pub(super) cut_later: Option<(Offset, bool)>,
}

impl AtFirst for Moving {
    const NEW: Moving = Moving {
        wanted: None,
        running: None,
        rate: 0,
        finish: false,
        given_up: None,
        discarding: None,
        serial: 0,
        renamed: None,
        cut_later: None,
    };
    const SEEN: &'static Moving = &Moving::NEW;
}

/// A move under way.
#[derive(Debug)]
struct Running {
    target: Target,
    /// The copy's directory.
    future: PathBuf,
    doing: Doing,
    /// The segments that are copied whole, with what lies beside them: bytes, and when the copy was modified.
    copied: BTreeMap<Offset, (u64, i64)>,
    /// Every base under which files may lie in the copy.
    made: BTreeSet<Offset>,
    /// Snapshots in the copy.
    snapshots: Vec<Offset>,
    copy: Option<Copying>,
    /// Open: what is read and what is written.
    source: Option<FileId>,
    output: Option<FileId>,
    next_slice: Mono,
    /// The owner was told that little is missing.
    told: bool,
    /// The files of the log's end are being written.
    finishing: bool,
}

impl Moving {
    /// Files that a move has open; they are the caller's to close.
    pub(super) fn take_files(&mut self) -> Vec<FileId> {
        let running = self.running.as_mut();
        running.map_or_else(Vec::new, |running| {
            running.source.take().into_iter().chain(running.output.take()).collect()
        })
    }

    /// What tells this move's names from those of others.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Nothing more is done.
    pub(super) fn forget(&mut self) {
        (self.wanted, self.running) = (None, None);
    }

    /// These segments have another content now: they are copied again.
    pub(super) fn replaced(&mut self, segments: &[Offset]) {
        let Some(running) = &mut self.running else { return };
        for base in segments {
            running.copied.remove(base);
            if let Some(copy) = running.copy.as_mut().filter(|copy| copy.base == *base) {
                copy.stale = true;
            }
        }
    }
}

impl Log {
    /// Begins to move the log to another data directory, where it will have the name that it has now: at most so many
    /// bytes are copied a second (`u64::MAX`: no limit; 0: none yet, see [`Log::pace_move`]). [`LogEvent::MoveCaughtUp`]
    /// asks for [`Log::finish_move`], [`LogEvent::Moved`] or [`LogEvent::MoveFailed`] tells the end; until then the log
    /// serves where it is. `from` is what the owner calls the directory that it leaves: should a crash leave the copy
    /// complete and nameless, [`crate::relocation::completed_move`] tells it.
    ///
    /// A move to another directory than one under way takes its place; one to the directory where the log is ends it.
    pub fn move_to(&mut self, directory: &Path, from: Uuid, bytes_per_second: u64) {
        if self.dir.parent() == Some(directory) {
            return self.cancel_move();
        }
        let moves = matches!(self.state, State::Creating | State::Open | State::Cutting);
        if !moves || self.moving.wanted.as_ref().is_some_and(|target| target.directory == directory) {
            return;
        }
        self.moving.wanted = Some(Box::new(Target { directory: directory.to_path_buf(), from }));
        self.moving.rate = bytes_per_second;
        self.moving.finish = false;
        self.due = true;
    }

    /// The move goes on at another rate; 0: it waits.
    pub fn pace_move(&mut self, bytes_per_second: u64) {
        self.moving.rate = bytes_per_second;
        self.due = true;
    }

    /// The copy may take the log's place: whoever must know where the log is knows it. Asked for by
    /// [`LogEvent::MoveCaughtUp`]; what has come since is copied first.
    pub fn finish_move(&mut self) {
        self.moving.finish = true;
        self.due = true;
    }

    /// Gives the move up, unless the copy is taking the log's place at this moment. What was copied is handed out by
    /// [`LogEvent::Discarded`].
    pub fn cancel_move(&mut self) {
        if let Some(moving) = self.moving.changed()
            && !matches!(self.state, State::Switching(_))
        {
            moving.wanted = None;
            self.due = true;
        }
    }

    /// How far the move has come, if there is one.
    pub fn moving(&self) -> Option<MoveFacts> {
        let target = self.moving.wanted.as_ref()?;
        let mut facts = MoveFacts {
            directory: target.directory.clone(),
            bytes: 0,
            copied_to: self.log_start,
            caught_up: false,
        };
        let Some(running) = self.moving.running.as_ref().filter(|running| running.target == **target) else {
            return Some(facts);
        };
        facts.bytes = running.copied.values().map(|(bytes, _)| bytes).sum();
        facts.caught_up = running.told && self.is_nearly_copied();
        let missing = self.segments.iter().position(|segment| !running.copied.contains_key(&segment.base));
        if let Some(segment) = missing.map(|index| &self.segments[index]) {
            let at = running.copy.as_ref().filter(|copy| copy.base == segment.base).map_or(0, |copy| copy.at);
            facts.bytes += at;
            let indexed = segment.live().map(|live| live.index.offsets().last_upto(FilePos::new(at)));
            facts.copied_to = indexed.unwrap_or(segment.base).max(self.log_start);
        }
        Some(facts)
    }

    pub(super) fn move_deadline(&self) -> Option<Mono> {
        let running = self.moving.running.as_ref()?;
        (self.state == State::Open && self.moving.rate > 0).then_some(running.next_slice)
    }

    /// Whether part of a move is in flight.
    fn move_is_in_slice(&self) -> bool {
        [Purpose::Move, Purpose::MoveSwitch, Purpose::MoveEnd].iter().any(|of| self.is_running(of))
    }

    /// Whether a move has left nothing behind that a stop or a removal must wait for.
    pub(super) fn move_is_over(&self) -> bool {
        self.moving.running.is_none() && !self.move_is_in_slice()
    }

    /// Begins the next slice, or the end.
    pub(super) fn drive_move(&mut self, now: Now, io: &mut dyn Io) {
        if self.move_is_in_slice() {
            return;
        }
        let Some(running) = &self.moving.running else {
            if self.state == State::Open && !self.delete_wanted && !self.close_wanted {
                self.begin_move(now);
            }
            return;
        };
        let replaced = self.moving.wanted.as_deref() != Some(&running.target);
        match self.state {
            // The copy stays, and is begun anew by whoever opens the log and finds it.
            State::Closing(_) => self.leave_move(io),
            State::Cutting => self.begin_copying_again(io),
            State::Open if self.close_wanted => self.leave_move(io),
            State::Open | State::Switching(_)
                if self.moving.given_up.is_some() || replaced || self.delete_wanted =>
            {
                self.end_move(io);
            }
            State::Open | State::Switching(_) => self.next_move_slice(now, io),
            State::Creating | State::Closed | State::Deleting(_) | State::Removed | State::Failed => {}
        }
    }

    /// Makes the copy's directory.
    fn begin_move(&mut self, now: Now) {
        let Some(target) = self.moving.wanted.clone() else { return };
        if !self.is_awake_or_wakes() {
            return;
        }
        let mut serial = TraceHash::default();
        serial.word(self.moving.serial);
        serial.word(now.wall.get() as u64);
        serial.word(now.mono.nanos());
        self.moving.serial = serial.value();
        let future = target.directory.join(self.role_name(PartitionRole::Future));
        self.moving.given_up = None;
        self.moving.running = Some(Box::new(Running {
            future: future.clone(),
            doing: Doing::Begin,
            copied: BTreeMap::new(),
            made: BTreeSet::new(),
            snapshots: Vec::new(),
            copy: None,
            source: None,
            output: None,
            next_slice: now.mono,
            told: false,
            finishing: false,
            target: *target.clone(),
        }));
        let mut steps = vec![Step::CreateDir { path: future.clone() }];
        // Whoever finds it knows whose it is.
        steps.extend(self.topic_id.into_iter().flat_map(|id| {
            write_file(future.join(PARTITION_METADATA), encode_partition_metadata(id).into_bytes())
        }));
        steps.extend([Step::SyncDir { path: future }, Step::SyncDir { path: target.directory }]);
        self.run(Purpose::Move, steps);
    }

    /// Whether a copy in another directory has begun.
    pub(super) fn has_copy(&self) -> bool {
        self.moving.running.is_some()
    }

    /// What was copied may be of what is being cut: nothing of it counts.
    fn begin_copying_again(&mut self, io: &mut dyn Io) {
        self.close_copied_files(io);
        if let Some(running) = self.moving.running.as_mut() {
            running.copied.clear();
            running.snapshots.clear();
            running.copy = None;
            running.told = false;
        }
    }

    fn close_copied_files(&mut self, io: &mut dyn Io) {
        let files = self.moving.changed().map_or_else(Vec::new, Moving::take_files);
        for file in files {
            self.close_file(file, io);
        }
    }

    /// The process stops: the move does, too, and its copy stays where it is.
    fn leave_move(&mut self, io: &mut dyn Io) {
        self.close_copied_files(io);
        if let Some(moving) = self.moving.changed() {
            moving.forget();
        }
        self.due = true;
    }

    /// The move is over, and its copy of no use: it gets the name of something to be removed.
    fn end_move(&mut self, io: &mut dyn Io) {
        self.close_copied_files(io);
        let Some(running) = self.moving.running.take() else { return };
        if running.finishing {
            self.put_off_checkpoint();
        }
        if matches!(self.state, State::Switching(_)) {
            self.state = State::Open;
            self.begin_late_cut();
        }
        if self.moving.wanted.as_deref() == Some(&running.target) {
            self.moving.wanted = None;
        }
        self.moving.finish = false;
        if let Some(error) = self.moving.given_up.take() {
            self.events.push_back(LogEvent::MoveFailed(*error));
        }
        let discarded = running.target.directory.join(self.role_name(PartitionRole::Delete));
        let steps = [
            Step::RenameIfThere { from: running.future.clone(), to: discarded.clone() },
            Step::SyncDir { path: running.target.directory.clone() },
        ];
        self.moving.discarding = Some(discarded);
        self.run(Purpose::MoveEnd, steps);
        // A removal or a stop may be waiting for it.
        self.due = true;
    }

    /// A copy that nobody wants has its other name, or the directory that it lies in does not answer.
    pub(super) fn move_ended(&mut self, renamed: bool) {
        if let Some(dir) = self.moving.discarding.take().filter(|_| renamed) {
            self.events.push_back(LogEvent::Discarded { dir });
        }
        self.due = true;
    }

    /// A slice failed, without harm to the log.
    pub(super) fn move_slice_failed(&mut self, file: Option<FileId>, error: IoError, io: &mut dyn Io) {
        let running = self.moving.running.as_ref();
        let kept = running.map_or([None; 2], |running| [running.source, running.output]);
        if let Some(file) = file.filter(|file| !kept.contains(&Some(*file))) {
            self.close_file(file, io);
        }
        self.move_failed(error);
    }

    /// The move is given up.
    fn move_failed(&mut self, error: IoError) {
        if self.moving.running.is_some() {
            self.moving.given_up = Some(Box::new(error));
        }
        self.due = true;
    }
}

/// How many bytes may be missing for the copy to take the log's place: what is staged and not synced must be waited for
/// anyhow.
fn nearly(log: &Log) -> u64 {
    log.settings.limits.unsynced_bytes as u64
}

/// How long `bytes` take at a rate.
fn pause(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
