//! One replica of one partition on its shard: a log, the machine that decides for it, and the requests that wait.

mod append;
mod deletion;
mod effects;
mod held;
mod log_events;
mod looking;
mod moving;
mod offsets;
mod read;
mod role;
mod view;

pub use role::assignment_of;

use std::collections::{BTreeMap, VecDeque};

use highwater_base::{BrokerId, LeaderEpoch, Mono, Now, Offset};
use highwater_engine::{Log, LogFailure, LogSettings, ReadId};
use highwater_io::{Completion, Io, Slice};
use highwater_isr::{Event, ReplicaSettings, Standalone};

use crate::parking::{ParkedFetches, ParkedProduces, Parking};
use crate::{Answer, InSync, Outgoing, PartitionError, Replicator, Reply};
use held::Held;
use looking::Looking;
use view::View;

/// What a partition is told besides its log's settings.
///
/// ```
/// let settings = highwater_replication::PartitionSettings::default();
/// assert!(settings.deletable);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionSettings {
    /// Of the machine: `min.insync.replicas`, lag, back-off.
    pub replica: ReplicaSettings,
    /// `cleanup.policy` contains `delete`, so DeleteRecords is allowed. Default true.
    pub deletable: bool,
    /// Most requests that wait at once. Default that of [`highwater_base::Limits::PRODUCTION`].
    pub parked: usize,
}

impl Default for PartitionSettings {
    fn default() -> PartitionSettings {
        PartitionSettings {
            replica: ReplicaSettings::default(),
            deletable: true,
            parked: highwater_base::Limits::PRODUCTION.parked,
        }
    }
}

/// One replica of one partition.
///
/// Four kinds of method, for the one shard that owns it:
///
/// * **getters** (`&self`);
/// * **inputs**: [`Partition::complete`] for each completion with its log's owner number, [`Partition::step`] at least
///   once after any other input or command, and when the deadline that it returned has come; [`Partition::assign`];
/// * **commands**: [`Partition::produce`], [`Partition::read`] and the others. Each is answered exactly once: at once,
///   or under its key through [`Partition::poll_answer`]. Nobody waits for ever: not past a deadline, not for a log
///   that has failed, not for a leader that is none any more;
/// * **outputs**: [`Partition::poll_answer`] and [`Partition::poll_outgoing`], until they give none.
///
/// Time is an argument and never goes back. `log_start <= high watermark <= log_end`; no consumer reads beyond
/// the high watermark.
///
/// ```
/// use highwater_base::*;
/// use highwater_engine::{Log, LogSettings, batch::BatchBuilder};
/// use highwater_io::{Io, MemoryIo};
/// use highwater_isr::Assignment;
/// use highwater_replication::{Acks, Outcome, Partition, PartitionSettings, Reply};
///
/// let (mut io, now) = (MemoryIo::new(), Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) });
/// let me = BrokerId::new(1);
/// let log = Log::create(now, "/orders-0".as_ref(), 1, LogSettings::default(), Uuid::ZERO);
/// let mut partition = Partition::new(me, log, PartitionSettings::default(), Offset::ZERO);
/// partition.assign(now, Assignment::standalone(me, LeaderEpoch::ZERO, PartitionEpoch::ZERO));
///
/// let batch = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"hello")).build();
/// assert!(matches!(partition.produce(now, batch, Acks::All, Mono::MAX, 7), Outcome::Parked));
/// let answer = loop {
///     partition.step(now, &mut io);
///     let mut done = Vec::new();
///     io.reap(&mut done);
///     for completion in done {
///         partition.complete(now, completion, &mut io);
///     }
///     if let Some(answer) = partition.poll_answer() {
///         break answer;
///     }
/// };
/// assert!(matches!(answer.reply, Ok(Reply::Produced(done)) if done.first == Offset::ZERO));
/// assert_eq!(partition.high_watermark(), Offset::new(1));
/// ```
pub struct Partition {
    me: BrokerId,
    log: Log,
    replicator: Box<dyn Replicator>,
    /// The replicator is the one for a partition with one replica.
    alone: bool,
    settings: PartitionSettings,
    /// The leader has acknowledged everything below to acks=1; never falls while it leads.
    acknowledged: Offset,
    /// Appended, and waiting for their acknowledgement.
    produces: ParkedProduces,
    /// Not appended yet, in the order of their coming.
    held: VecDeque<Held>,
    /// Consumers that wait for more.
    fetches: ParkedFetches,
    /// Deletions that wait for the log start.
    trims: Parking<u64>,
    /// Reads and lookups that wait for the disk.
    looking: BTreeMap<ReadId, Looking>,
    /// Those that the log is too busy for, in the order of their coming.
    looking_later: VecDeque<Looking>,
    answers: VecDeque<Answer>,
    outgoing: VecDeque<Outgoing>,
    /// The records of the leader's answer that is being handled.
    incoming: Vec<Slice>,
    life: Life,
}

/// Where a partition is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Serving,
    Closing,
    Closed,
    Deleting,
    /// Its directory's name is free.
    Deleted,
    /// All its files are gone.
    Removed,
}

impl Partition {
    /// A replica over an open or newly created log. `high_watermark` is the last one known, from the checkpoint file;
    /// one beyond the log's end is cut to it. It leads or follows nobody before [`Partition::assign`].
    pub fn new(me: BrokerId, log: Log, settings: PartitionSettings, high_watermark: Offset) -> Partition {
        let replicator = Standalone::new(me, high_watermark, &View(&log));
        let mut log = log;
        log.set_high_watermark(replicator.high_watermark());
        Partition {
            me,
            log,
            replicator: Box::new(replicator),
            alone: true,
            settings,
            acknowledged: Offset::ZERO,
            produces: ParkedProduces::default(),
            held: VecDeque::new(),
            fetches: ParkedFetches::default(),
            trims: Parking::default(),
            looking: BTreeMap::new(),
            looking_later: VecDeque::new(),
            answers: VecDeque::new(),
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            life: Life::Serving,
        }
    }

    /// Submits what the log has to do, takes what it says, answers whose time is up. Says when to call again if
    /// nothing else happens before.
    pub fn step(&mut self, now: Now, io: &mut dyn Io) -> Option<Mono> {
        let mut log_deadline = self.log.step(now, io);
        self.pump(now);
        // What the log said may have given it more to do: a held batch was appended, a cut was asked for.
        if self.log.needs_step() {
            log_deadline = self.log.step(now, io);
            self.pump(now);
        }
        if self.replicator.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.run(now, Event::Timer);
        }
        self.expire(now);
        [
            log_deadline,
            self.replicator.poll_timeout(),
            self.produces.next_deadline(),
            self.fetches.next_deadline(),
            self.trims.next_deadline(),
            self.held.iter().map(|held| held.deadline).min().filter(|at| *at < Mono::MAX),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether [`Partition::step`] has something to do before its deadline.
    pub fn needs_step(&self) -> bool {
        self.log.needs_step()
    }

    /// Takes a completion of an operation that this partition's log submitted.
    pub fn complete(&mut self, now: Now, completion: Completion, io: &mut dyn Io) {
        self.log.complete(now, completion, io);
        self.pump(now);
    }

    /// The next late answer.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The next thing for others.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// New settings, of the topic or the broker.
    pub fn update_settings(&mut self, now: Now, log: LogSettings, settings: PartitionSettings) {
        self.log.update_settings(log);
        let min_insync = settings.replica.min_insync;
        let changed = min_insync != self.settings.replica.min_insync;
        self.settings = settings;
        if changed {
            self.run(now, Event::MinInsyncChanged(min_insync));
        }
        // Another durability counts with another end.
        self.run(now, Event::LogMoved);
    }

    /// Makes everything durable and leaves the directory as Apache Kafka expects it. What waits is answered as far as
    /// that makes it good, and refused then. [`Partition::is_closed`] tells.
    pub fn close(&mut self, now: Now) {
        if self.life == Life::Serving {
            self.life = Life::Closing;
            self.refuse_held(&self.not_leader());
            self.log.close();
            self.pump(now);
        }
    }

    /// Removes the partition's log; what waits is refused. [`Partition::is_deleted`] tells when the directory's name is
    /// free, [`Partition::is_removed`] when all is gone.
    pub fn delete(&mut self, now: Now) {
        if matches!(self.life, Life::Serving | Life::Closed) {
            self.life = Life::Deleting;
            self.refuse_all(&self.not_leader());
            self.log.delete();
            self.pump(now);
        }
    }

    /// Gives up a request that may wait for more to read or for a deletion; its answer may still come. A produced
    /// batch is not given up.
    pub fn forget(&mut self, key: u64) {
        self.fetches.forget(key);
        self.trims.remove(|parked| *parked == key);
    }

    /// The log, to look at.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The space that the log's recycled segment counts in from now on; see [`Log::share_recycle_space`].
    pub fn share_recycle_space(&mut self, space: &highwater_engine::RecycleSpace) {
        self.log.share_recycle_space(space);
    }

    /// The log, to be compacted.
    pub(crate) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Everything below is committed. This is what `replication-offset-checkpoint` is to say.
    pub fn high_watermark(&self) -> Offset {
        self.replicator.high_watermark()
    }

    /// The end of what a reader of committed records may see.
    pub fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset()
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        self.replicator.is_leader()
    }

    /// The leader, or [`BrokerId::NONE`].
    pub fn leader(&self) -> BrokerId {
        self.replicator.leader()
    }

    /// The latest leadership known of.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.replicator.leader_epoch()
    }

    /// How many replicas are in sync, on a leader.
    pub fn in_sync(&self) -> InSync {
        self.replicator.in_sync()
    }

    /// Why the log has failed for good, if it has.
    pub fn failure(&self) -> Option<&LogFailure> {
        self.log.failure()
    }

    /// Whether closing is done.
    pub fn is_closed(&self) -> bool {
        self.life == Life::Closed
    }

    /// Whether the directory's name is free.
    pub fn is_deleted(&self) -> bool {
        matches!(self.life, Life::Deleted | Life::Removed)
    }

    /// Whether all files are gone.
    pub fn is_removed(&self) -> bool {
        self.life == Life::Removed
    }

    /// How many requests wait here.
    pub fn parked(&self) -> usize {
        let looking = self.looking.len() + self.looking_later.len();
        self.produces.len() + self.held.len() + self.fetches.len() + self.trims.len() + looking
    }

    /// Tells the machine, and does what it says.
    fn run(&mut self, now: Now, event: Event) {
        self.replicator.handle(now.mono, event, &View(&self.log));
        while let Some(effect) = self.replicator.poll_effect() {
            self.act(now, effect);
        }
    }

    fn answer(&mut self, key: u64, reply: Result<Reply, PartitionError>) {
        self.answers.push_back(Answer { key, reply });
    }

    fn not_leader(&self) -> PartitionError {
        PartitionError::NotLeader { leader: self.leader(), epoch: self.leader_epoch() }
    }

    /// Why this replica does not answer clients at all, if it does not.
    fn check_serving(&self) -> Result<(), PartitionError> {
        if let Some(failure) = self.log.failure() {
            return Err(PartitionError::Storage(failure.clone()));
        }
        if self.life != Life::Serving || !self.is_leader() {
            return Err(self.not_leader());
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), PartitionError> {
        let limit = self.settings.parked;
        if self.parked() >= limit { Err(PartitionError::TooManyParked { limit }) } else { Ok(()) }
    }

    /// Answers everything whose time is up.
    fn expire(&mut self, now: Now) {
        while let Some(parked) = self.produces.expire(now.mono) {
            self.answer(parked.key, Err(PartitionError::TimedOut));
        }
        while let Some(key) = self.fetches.expire(now.mono) {
            self.answer(key, Ok(Reply::Readable));
        }
        while let Some(key) = self.trims.pop_expired(now.mono) {
            self.answer(key, Err(PartitionError::TimedOut));
        }
        self.expire_held(now.mono);
    }

    /// Answers everything that waits: with `error`, or, who waits for something to read, to look again and find it.
    fn refuse_all(&mut self, error: &PartitionError) {
        self.refuse_held(error);
        while let Some(parked) = self.produces.give_up() {
            self.answer(parked.key, Err(error.clone()));
        }
        while let Some(key) = self.fetches.give_up() {
            self.answer(key, Ok(Reply::Readable));
        }
        while let Some(key) = self.trims.pop_first() {
            self.answer(key, Err(error.clone()));
        }
        self.refuse_looking(error);
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition")
            .field("dir", &self.log.dir())
            .field("leads", &self.is_leader())
            .field("leader_epoch", &self.leader_epoch())
            .field("high_watermark", &self.high_watermark())
            .field("log_end", &self.log.log_end())
            .field("parked", &self.parked())
            .finish_non_exhaustive()
    }
}
