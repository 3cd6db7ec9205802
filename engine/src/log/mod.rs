//! One log: a state machine over [`Io`], owned by one shard.

mod appended;
mod event;
mod fetched;

pub use appended::{Appended, Origin};
pub use event::LogEvent;
pub use fetched::{AbortedTransaction, Fetched, Lookup, Read, ReadId, TimestampOffset};

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use highwater_base::{LeaderEpoch, Mono, Now, Offset, ProducerId, Uuid, WallMs};
use highwater_io::{Completion, Io, Park};

use crate::{AppendError, Busy, LogFailure, LogSettings, OpenError, ReadError, RecoveryReport};

/// What is known about a log before it is opened.
///
/// ```
/// let hint = highwater_engine::OpenHint::default();
/// assert!(!hint.clean_stop && hint.log_start.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenHint {
    /// The directory was stopped cleanly: nothing needs scanning but the last batches.
    pub clean_stop: bool,
    /// The log start offset, from the checkpoint file; `None`: the first segment's base.
    pub log_start: Option<Offset>,
    /// Up to where Apache Kafka's checkpoint file says that data was flushed. Ours is in the log's directory.
    pub recovery_point: Option<Offset>,
    /// The topic's id; a directory with another one is refused.
    pub topic_id: Option<Uuid>,
}

/// A segmented log of record batches.
///
/// Four kinds of method, to be called by the one shard that owns it:
///
/// * **getters** (`&self`);
/// * **inputs**: [`Log::complete`] for each completion with this log's owner number, [`Log::step`] at least
///   once after any other input and when the deadline that it returned has come;
/// * **commands**: [`Log::append`], [`Log::read`], [`Log::truncate`] and the others. None does I/O or waits;
///   what they need done is submitted by the next [`Log::step`];
/// * **outputs**: [`Log::poll_event`], until it gives `None`.
///
/// Time is an argument, and never goes back. `synced_end <= written_end <= log_end` holds after each call.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    owner: u32,
    settings: LogSettings,
    log_start: Offset,
    log_end: Offset,
    written_end: Offset,
    synced_end: Offset,
    high_watermark: Offset,
    events: VecDeque<LogEvent>,
}

impl Log {
    /// Opens a log's directory and makes it whole, waiting for the disk. Before serving only: nothing else may
    /// be in flight on `io`.
    pub fn open(
        io: &mut dyn Park,
        now: Now,
        dir: &Path,
        owner: u32,
        settings: LogSettings,
        hint: OpenHint,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        settings.check().map_err(OpenError::Setting)?;
        let _ = (io, hint);
        Ok((Log::create(now, dir, owner, settings, Uuid::ZERO), RecoveryReport::default()))
    }

    /// A new, empty log in a directory that does not exist yet. Nothing is done before [`Log::step`], which
    /// makes the directory and its files; [`LogEvent::Ready`] follows. Without a topic id ([`Uuid::ZERO`]) no
    /// `partition.metadata` is written.
    pub fn create(now: Now, dir: &Path, owner: u32, settings: LogSettings, topic_id: Uuid) -> Log {
        let _ = (now, topic_id);
        Log {
            dir: dir.to_path_buf(),
            owner,
            settings,
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            written_end: Offset::ZERO,
            synced_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            events: VecDeque::new(),
        }
    }

    /// Submits what is due: writes, syncs, roll, seal, checkpoint, retention. Says when to call again if
    /// nothing else happens before.
    pub fn step(&mut self, now: Now, io: &mut dyn Io) -> Option<Mono> {
        let _ = (now, io);
        None
    }

    /// Whether [`Log::step`] would submit something now; the cheap way to pass over idle logs.
    pub fn needs_step(&self) -> bool {
        false
    }

    /// Takes a completion of an operation that this log submitted.
    pub fn complete(&mut self, now: Now, completion: Completion, io: &mut dyn Io) {
        let _ = (now, completion, io);
    }

    /// The next event, in order.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Appends whole batches, all or nothing, with one copy into memory and no I/O.
    pub fn append(&mut self, now: Now, batches: &[u8], origin: Origin) -> Result<Appended, AppendError> {
        let _ = (now, batches, origin);
        Err(AppendError::Busy(Busy::Creating))
    }

    /// Somebody waits for everything below `upto` to be durable: sync as soon as possible, whatever the
    /// durability setting. [`LogEvent::Synced`] tells.
    pub fn want_synced(&mut self, upto: Offset) {
        let _ = upto;
    }

    /// Reads whole batches from the one that holds `from`, none of which reaches `upto` (exclusive), at least
    /// one if there is one, no more than `max_bytes` otherwise.
    pub fn read(
        &mut self,
        now: Now,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        let _ = (now, upto, max_bytes);
        Ok(Read::Ready(Fetched::empty(from)))
    }

    /// The first record, at or after the log start, whose timestamp is at least `at`.
    pub fn lookup_time(&mut self, now: Now, at: WallMs) -> Result<Lookup, ReadError> {
        let _ = (now, at);
        Ok(Lookup::Ready(None))
    }

    /// The first record with the largest timestamp of the log (KIP-734).
    pub fn lookup_max_timestamp(&mut self, now: Now) -> Result<Lookup, ReadError> {
        let _ = now;
        Ok(Lookup::Ready(None))
    }

    /// The largest epoch at or before `epoch` that this log knows and the offset at which it ended, by the rules of
    /// `OffsetForLeaderEpoch`; ([`LeaderEpoch::NONE`], [`Offset::NONE`]) if there is none.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let _ = epoch;
        (LeaderEpoch::NONE, Offset::NONE)
    }

    /// A new leader epoch begins at the log's end (as a leader does before its first append).
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch) {
        let _ = epoch;
    }

    /// Cuts everything from the batch that holds `to` onwards. Until [`LogEvent::Truncated`] the log takes no appends.
    pub fn truncate(&mut self, to: Offset) {
        let _ = to;
    }

    /// Raises the log start offset (DeleteRecords). Whole segments below it go later. [`LogEvent::Trimmed`] tells.
    pub fn trim(&mut self, to: Offset) {
        let _ = to;
    }

    /// Drops everything and goes on at `at`. Until [`LogEvent::Truncated`] the log takes no appends.
    pub fn restart_at(&mut self, at: Offset) {
        let _ = at;
    }

    /// Told by replication: everything below `to` is committed. Retention and the last stable offset go by it.
    pub fn set_high_watermark(&mut self, to: Offset) {
        self.high_watermark = to;
    }

    /// New settings, from the next append on.
    pub fn update_settings(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// Makes everything durable and leaves the directory as Apache Kafka expects it. [`LogEvent::Closed`] follows.
    pub fn close(&mut self) {}

    /// Removes the log: its directory is renamed at once, its files go bit by bit. [`LogEvent::Deleted`] tells that
    /// the name is free, [`LogEvent::Removed`] that all is gone.
    pub fn delete(&mut self) {}

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The number by which its completions are routed.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The settings in force.
    pub fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The next offset to be assigned.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Everything below survives the end of this process.
    pub fn written_end(&self) -> Offset {
        self.written_end
    }

    /// Everything below survives a power cut.
    pub fn synced_end(&self) -> Offset {
        self.synced_end
    }

    /// What an acknowledgement counts: `synced_end` under [`crate::Durability::Each`], else `written_end`.
    pub fn acknowledged_end(&self) -> Offset {
        match self.settings.durability {
            crate::Durability::Each => self.synced_end,
            crate::Durability::Interval { .. } | crate::Durability::Os => self.written_end,
        }
    }

    /// The high watermark as last told.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The end of what a `read_committed` consumer may see: the high watermark, or the first offset of a
    /// transaction that is open or whose marker is not committed yet.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark
    }

    /// The transactions aborted in `from..to`, for a fetch of these offsets.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        let _ = (from, to);
        Vec::new()
    }

    /// The latest leader epoch, or [`LeaderEpoch::NONE`].
    pub fn latest_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::NONE
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        0
    }

    /// How many segments.
    pub fn segment_count(&self) -> usize {
        0
    }

    /// The largest producer id that this log has seen and still knows, or [`ProducerId::NONE`].
    pub fn largest_producer_id(&self) -> ProducerId {
        ProducerId::NONE
    }

    /// The topic's id, if the directory says one.
    pub fn topic_id(&self) -> Option<Uuid> {
        None
    }

    /// Why the log has failed for good, if it has.
    pub fn failure(&self) -> Option<&LogFailure> {
        None
    }
}
