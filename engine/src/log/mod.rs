//! One log: a state machine over [`Io`], owned by one shard.

mod append;
mod appended;
mod checkpoint;
mod close;
mod cold;
mod compact;
mod completion;
mod create;
mod damage;
mod delete;
mod event;
mod fetched;
mod flight;
mod flush;
mod invariants;
mod judge;
mod keep;
mod listed;
mod lookup;
mod missing;
mod moving;
mod open;
mod pace;
mod read;
mod rebuild;
mod recover;
mod recycle;
mod retain;
mod roll;
mod script;
mod scrub;
mod seal;
mod space;
mod split;
mod step;
mod truncate;
mod write;

pub use appended::{Appended, Origin};
pub use event::LogEvent;
pub use fetched::{AbortedTransaction, Fetched, Isolation, Lookup, Read, ReadId, TimestampOffset};
pub use moving::MoveFacts;
pub use open::OpenHint;
pub use recycle::RecycleSpace;
pub use scrub::ScrubFacts;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::{LeaderEpoch, Mono, Mutant, Now, Offset, ProducerId, Uuid};

use crate::epochs::EpochCache;
use crate::producers::{ProducerBatch, Producers};
use crate::rare::Rare;
use crate::recovery::Quarantine;
use crate::segment::Segment;
use crate::tail::{Place, Tail};
use crate::{Busy, Durability, LogFailure, LogSettings};
use checkpoint::CheckpointState;
use cold::Readers;
use flight::{Flights, InWrite, NoSpace, Running};
use listed::Sleep;
use truncate::Cut;

/// Where a log is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Its directory and first segment are being made.
    Creating,
    /// It serves.
    Open,
    /// It is being cut or restarted; see [`Log::cut`].
    Cutting,
    /// A copy of it takes its place.
    Switching(moving::Stage),
    /// It is being closed.
    Closing(close::Stage),
    /// It is closed.
    Closed,
    /// It is being deleted.
    Deleting(delete::Stage),
    /// It is deleted.
    Removed,
    /// It has failed for good; see [`Log::failure`].
    Failed,
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
///
/// ```
/// use highwater_base::{LeaderEpoch, Mono, Now, Offset, Uuid, WallMs};
/// use highwater_engine::{Log, LogEvent, LogSettings, Origin, batch::BatchBuilder};
/// use highwater_io::{Io, MemoryIo};
///
/// let (mut io, now) = (MemoryIo::new(), Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) });
/// let mut log = Log::create(now, "/orders-0".as_ref(), 1, LogSettings::default(), Uuid::ZERO);
/// let mut run = |log: &mut Log, until: fn(&LogEvent) -> bool| loop {
///     log.step(now, &mut io);
///     let mut done = Vec::new();
///     io.reap(&mut done);
///     for completion in done {
///         log.complete(now, completion, &mut io);
///     }
///     if std::iter::from_fn(|| log.poll_event()).any(|event| until(&event)) {
///         break;
///     }
/// };
/// run(&mut log, |event| matches!(event, LogEvent::Ready));
/// let batch = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"hello")).build();
/// let appended = log.append(now, &batch, Origin::Client { leader_epoch: LeaderEpoch::ZERO })?;
/// assert_eq!(appended.end, Offset::new(1));
/// run(&mut log, |event| matches!(event, LogEvent::Synced(end) if *end == Offset::new(1)));
/// assert_eq!(log.synced_end(), log.log_end());
/// # Ok::<(), highwater_engine::AppendError>(())
/// ```
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    owner: u32,
    settings: Arc<LogSettings>,
    state: State,
    failure: Option<Box<LogFailure>>,
    topic_id: Option<Uuid>,
    /// Something happened since the last step.
    due: bool,
    /// When the next step is due if nothing happens before; [`Mono::MAX`]: never.
    deadline: Mono,

    /// The first offset that may be read. Never falls, but for a restart. At most `log_end`.
    log_start: Offset,
    /// The next offset to be assigned. Falls only by a truncation.
    log_end: Offset,
    /// Everything below is with the operating system, under a name that is there. At most `log_end`.
    written_end: Offset,
    /// Everything below is durable. At most `written_end`.
    synced_end: Offset,
    /// As told by replication.
    high_watermark: Offset,
    /// Somebody waits for everything below to be durable.
    wanted_sync: Offset,
    /// When the oldest append that is not synced came, under [`Durability::Interval`].
    unsynced_since: Option<Mono>,

    tail: Tail,
    /// Ends of batches that are not written: place and offset. At most one in a block that no write has taken.
    ends: VecDeque<(Place, Offset)>,
    /// Everything before is taken by a write. At least `written`.
    submitted: Place,
    /// Everything before is written. At least `synced`.
    written: Place,
    /// Everything before is durable.
    synced: Place,
    /// The end offset of the batches wholly before `written`, whatever their segment's name.
    raw_written_end: Offset,
    /// In flight, in the order of their places.
    writes: VecDeque<InWrite>,
    turn: write::Turn,
    /// Appends are refused until space returns.
    no_space: Option<Box<NoSpace>>,
    /// Appends are refused before there is none.
    room: space::Room,

    /// In order; the last is the active one; the live ones are the last few. Empty only while creating.
    segments: VecDeque<Segment>,
    /// `next.prepared`: open, bypasses the cache, its length.
    next: Option<Box<roll::NextFile>>,
    /// Snapshots on disk, ascending.
    snapshots: Vec<Offset>,
    epochs: EpochCache,
    /// The epochs on disk are older than those here.
    epochs_dirty: bool,
    producers: Producers,
    /// What the batch that is being appended says of its producer.
    admitted: Option<ProducerBatch>,
    checkpoint: CheckpointState,
    quarantine: Quarantine,
    readers: Readers,
    scrub: scrub::Scrub,
    retention: retain::Retention,
    recycling: recycle::Recycling,
    compaction: compact::CompactionState,
    moving: Rare<moving::Moving>,
    /// Batches refused because of a record's time.
    refused_times: u64,
    cut: Option<Cut>,
    /// [`Log::close`] was called and waits for its turn.
    close_wanted: bool,
    /// [`Log::delete`] was called and waits for its turn.
    delete_wanted: bool,
    /// The log start offset that was last told.
    announced_start: Offset,
    /// Idle, and its memory given back.
    resting: bool,
    sleep: Sleep,
    /// Bytes that were unsynced when the limit of them came into force.
    unsynced_allowance: u64,

    flights: Flights,
    /// Scripts under way, by number; finished ones leave a hole.
    scripts: Vec<Option<Running>>,
    events: VecDeque<LogEvent>,
}

impl Log {
    /// A new, empty log in a directory that does not exist yet. Nothing is done before [`Log::step`], which
    /// makes the directory and its files; [`LogEvent::Ready`] follows. Without a topic id ([`Uuid::ZERO`]) no
    /// `partition.metadata` is written.
    pub fn create(now: Now, dir: &Path, owner: u32, settings: LogSettings, topic_id: Uuid) -> Log {
        let topic_id = (topic_id != Uuid::ZERO).then_some(topic_id);
        Log::blank(now, dir, owner, settings, topic_id, Offset::ZERO)
    }

    /// A log without a segment that begins at `start`.
    fn blank(
        now: Now,
        dir: &Path,
        owner: u32,
        settings: LogSettings,
        topic_id: Option<Uuid>,
        start: Offset,
    ) -> Log {
        Log {
            dir: dir.to_path_buf(),
            owner,
            settings: Arc::new(settings),
            state: State::Creating,
            failure: None,
            topic_id,
            due: true,
            deadline: Mono::MAX,
            log_start: start,
            log_end: start,
            written_end: start,
            synced_end: start,
            high_watermark: start,
            wanted_sync: start,
            unsynced_since: None,
            tail: Tail::new(Place::ZERO, Place::ZERO, &[], &settings.limits),
            ends: VecDeque::new(),
            submitted: Place::ZERO,
            written: Place::ZERO,
            synced: Place::ZERO,
            raw_written_end: start,
            writes: VecDeque::new(),
            turn: write::Turn::None,
            no_space: None,
            room: space::Room::default(),
            segments: VecDeque::new(),
            next: None,
            snapshots: Vec::new(),
            epochs: EpochCache::default(),
            epochs_dirty: false,
            producers: Producers::new(settings.limits.producers).weakened(settings.mutant),
            admitted: None,
            checkpoint: CheckpointState::default(),
            quarantine: Quarantine::default(),
            readers: Readers::default(),
            scrub: scrub::Scrub::new(now, owner, settings.scrub_bytes_a_day),
            retention: retain::Retention::new(now, &settings),
            recycling: recycle::Recycling::default(),
            compaction: compact::CompactionState::default(),
            moving: Rare::new(),
            refused_times: 0,
            cut: None,
            close_wanted: false,
            delete_wanted: false,
            announced_start: start,
            resting: false,
            sleep: Sleep::Awake,
            unsynced_allowance: 0,
            flights: Flights::default(),
            scripts: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether [`Log::step`] has something to do before its deadline; the cheap way to pass over idle logs.
    pub fn needs_step(&self) -> bool {
        self.due
    }

    /// Whether it is idle, and has given its memory back.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting
    }

    /// The next event, in order.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Somebody waits for everything below `upto` to be durable: sync as soon as possible, whatever the
    /// durability setting. [`LogEvent::Synced`] tells.
    pub fn want_synced(&mut self, upto: Offset) {
        let upto = upto.min(self.log_end);
        if upto > self.wanted_sync {
            self.wanted_sync = upto;
            self.due |= upto > self.synced_end;
        }
    }

    /// The largest epoch at or before `epoch` that this log knows and the offset at which it ended, by the rules of
    /// `OffsetForLeaderEpoch`; ([`LeaderEpoch::NONE`], [`Offset::NONE`]) if there is none.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs.end_offset_for(epoch, self.log_end)
    }

    /// A new leader epoch begins at the log's end (as a leader does before its first append). Older epochs than
    /// the latest are passed over.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch) {
        self.begin_epoch(epoch, self.log_end);
    }

    fn begin_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch > self.epochs.latest() && self.epochs.assign(epoch, start) {
            self.epochs_dirty = true;
            self.due = true;
        }
    }

    /// Told by replication: everything below `to` is committed. Retention and the last stable offset go by it.
    pub fn set_high_watermark(&mut self, to: Offset) {
        self.high_watermark = to.min(self.log_end);
        self.producers.advance_high_watermark(self.high_watermark);
    }

    /// New settings, from the next append on. [`LogSettings::limits`] and [`LogSettings::direct`] stay as they were.
    pub fn update_settings(&mut self, settings: LogSettings) {
        if self.settings.mutant == Mutant::SettingsLostInCreation && self.state == State::Creating {
            return;
        }
        let (limits, direct) = (self.settings.limits, self.settings.direct);
        self.unsynced_allowance = self.submitted.block_ceil().get() - self.synced.block_floor().get();
        self.settings = Arc::new(LogSettings { limits, direct, ..settings });
        self.due = true;
    }

    /// Takes the settings that another log left here, if they are the same, or leaves its own: many logs, one copy.
    pub(crate) fn share_settings(&mut self, shared: &mut Option<Arc<LogSettings>>) {
        match shared {
            Some(same) if **same == *self.settings => self.settings = Arc::clone(same),
            other => *other = Some(Arc::clone(&self.settings)),
        }
    }

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
            Durability::Each => self.synced_end,
            Durability::Interval { .. } | Durability::Os => self.written_end,
        }
    }

    /// Whether somebody waits for an acknowledgement.
    fn append_waits(&self) -> bool {
        self.acknowledged_end() < self.log_end
    }

    /// The high watermark as last told.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The latest leader epoch, or [`LeaderEpoch::NONE`].
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest()
    }

    /// The leader epochs and where each began, ascending.
    pub fn epochs(&self) -> &[(LeaderEpoch, Offset)] {
        self.epochs.entries()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// How many segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The end of what a `read_committed` consumer may see: the high watermark, or the first offset of a
    /// transaction that is open or whose marker is not committed yet.
    pub fn last_stable_offset(&self) -> Offset {
        self.producers.transactions().last_stable(self.high_watermark)
    }

    /// The idempotent producers that this log knows.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The largest producer id that this log knows, or [`ProducerId::NONE`].
    pub fn largest_producer_id(&self) -> ProducerId {
        self.producers.largest_id()
    }

    /// Whether the log is durably there: open, not being made or taken down.
    pub fn is_ready(&self) -> bool {
        self.state == State::Open
    }

    /// The topic's id, if the directory says one.
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// Why the log has failed for good, if it has.
    pub fn failure(&self) -> Option<&LogFailure> {
        self.failure.as_deref()
    }

    /// The segment that holds `place`, as an index.
    fn segment_at(&self, place: Place) -> Option<usize> {
        let index = self.segments.iter().rposition(|s| s.live().is_some_and(|live| live.place <= place))?;
        Some(index)
    }

    /// The first live segment, as an index; the live ones are the last few.
    fn first_live(&self) -> usize {
        self.segments.partition_point(|segment| segment.live().is_none())
    }

    /// How many segments are live.
    fn live_count(&self) -> usize {
        self.segments.len() - self.first_live()
    }

    /// The segment with this base.
    fn segment_index(&self, base: Offset) -> Option<usize> {
        self.segments.binary_search_by_key(&base, |segment| segment.base).ok()
    }

    fn active(&self) -> &Segment {
        self.segments.back().expect("a log that serves has a segment")
    }

    fn busy(&self) -> Option<Busy> {
        match self.state {
            State::Creating => Some(Busy::Creating),
            State::Open | State::Failed => None,
            State::Cutting => Some(Busy::Truncating),
            State::Switching(_) => Some(Busy::Moving),
            State::Closing(_) | State::Closed => Some(Busy::Closing),
            State::Deleting(_) | State::Removed => Some(Busy::Deleting),
        }
    }
}
