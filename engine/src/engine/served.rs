//! One log of a shard, and who waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mono, Now, Offset};
use highwater_io::Io;

use super::moving::Moves;
use super::notice::Listener;
use super::shard::{LogEnd, Reply, Request, Wanted, Writer};
use super::{EngineError, LogFacts, LogMetrics, Notice};
use crate::ticket::Promise;
use crate::{
    AppendError, Appended, Busy, CleanerSettings, Fetched, Isolation, Log, LogEvent, LogFailure, Lookup,
    Origin, Read, ReadError, ReadId, TimestampOffset,
};

/// One log and who waits for it.
#[derive(Debug)]
pub(super) struct Served {
    name: String,
    log: Log,
    creating: Option<Promise<Result<u32, EngineError>>>,
    /// Appends that found too much staged, in order.
    held: VecDeque<Held>,
    /// Appends that wait for their acknowledgement, in the order of their ends.
    unacknowledged: VecDeque<Unacknowledged>,
    syncing: VecDeque<(Offset, Reply<Offset>)>,
    reads: BTreeMap<ReadId, (Wanted, Reply<Fetched>)>,
    lookups: BTreeMap<ReadId, Reply<Option<TimestampOffset>>>,
    /// Readers at the tail, by how far they see and the offset that they wait for; at most
    /// [`Limits::parked`](highwater_base::Limits).
    followers: BTreeMap<(Isolation, Offset), Vec<Following>>,
    waiting_readers: usize,
    cutting: VecDeque<Reply<Offset>>,
    compacting: Vec<Reply<Offset>>,
    pub(super) moves: Moves,
    /// Trims whose new start is not durable yet, in order.
    trimming: VecDeque<(Offset, Reply<Offset>)>,
    /// The log's start after a power cut.
    durable_start: Offset,
    deleting: Option<Reply<()>>,
    closed: bool,
    listener: Listener,
    /// The acknowledged end that the listener was last told.
    told: Offset,
    no_space: bool,
    metrics: LogMetrics,
}

/// A reader at the tail.
#[derive(Debug)]
struct Following {
    wanted: Wanted,
    reply: Reply<Fetched>,
}

/// An append that found too much staged.
#[derive(Debug)]
struct Held {
    batch: Vec<u8>,
    from: Writer,
    reply: Reply<Appended>,
}

/// An append that waits for its acknowledgement.
#[derive(Debug)]
struct Unacknowledged {
    appended: Appended,
    bytes: usize,
    reply: Reply<Appended>,
}

impl Served {
    /// A log that is open.
    pub(super) fn opened(name: String, mut log: Log, listener: Listener) -> Served {
        // All that is there was acknowledged, or is no different from it.
        log.set_high_watermark(log.acknowledged_end());
        Served {
            told: log.acknowledged_end(),
            durable_start: log.log_start(),
            name,
            log,
            creating: None,
            held: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            syncing: VecDeque::new(),
            reads: BTreeMap::new(),
            lookups: BTreeMap::new(),
            followers: BTreeMap::new(),
            waiting_readers: 0,
            cutting: VecDeque::new(),
            compacting: Vec::new(),
            moves: Moves::default(),
            trimming: VecDeque::new(),
            deleting: None,
            closed: false,
            listener,
            no_space: false,
            metrics: LogMetrics::default(),
        }
    }

    /// A log that is being made; `reply` is answered with its owner number when it is there.
    pub(super) fn created(
        name: String,
        log: Log,
        listener: Listener,
        reply: Promise<Result<u32, EngineError>>,
    ) -> Served {
        Served { creating: Some(reply), ..Served::opened(name, log, listener) }
    }

    /// Not something that is only there to be removed.
    pub(super) fn is_a_log(&self) -> bool {
        !self.name.is_empty()
    }

    pub(super) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn metrics(&self) -> LogMetrics {
        let scrub = self.log.scrub_facts();
        LogMetrics {
            refused_times: self.log.refused_times(),
            scrubbed_bytes: scrub.bytes,
            scrub_rounds: scrub.rounds,
            rotten_slices: scrub.rotten,
            segments_recycled: self.log.segments_recycled(),
            waiting_appends: self.held.len() + self.unacknowledged.len(),
            waiting_readers: self.waiting_readers,
            ..self.metrics
        }
    }

    pub(super) fn end(&self) -> Result<LogEnd, EngineError> {
        if let Some(failure) = self.log.failure() {
            return Err(EngineError::Append(AppendError::Failed(failure.clone())));
        }
        Ok(LogEnd {
            name: self.name.clone(),
            dir: self.log.dir().to_path_buf(),
            log_start: self.log.log_start(),
            log_end: self.log.log_end(),
            cleaned_to: self.log.cleaned_to(),
            stopped: self.log.stopped(),
        })
    }

    /// Begins a pass of compaction, unless one is under way or there is nothing to do.
    fn compact(&mut self, now: Now, settings: &CleanerSettings, reply: Reply<Offset>) {
        let (memory, rate) = (settings.memory_bytes, settings.bytes_per_second);
        if self.log.is_compacting() || self.log.compact(now, memory, rate) {
            self.compacting.push(reply);
        } else {
            reply.answer(Ok(self.log.cleaned_to().max(self.log.log_start())));
        }
    }

    pub(super) fn log_is_gone(&self) -> bool {
        self.closed && self.deleting.is_none() && self.name.is_empty()
    }

    pub(super) fn take_request(&mut self, now: Now, request: Request, cleaner: &CleanerSettings) {
        match request {
            Request::Append { batch, from, reply } => self.append(now, Held { batch, from, reply }),
            Request::Read { wanted, reply } => self.read(now, wanted, reply),
            Request::Follow { wanted, reply } => self.follow(now, wanted, reply),
            Request::FindTime { at, reply } => match self.log.lookup_time(now, at) {
                Ok(Lookup::Ready(found)) => reply.answer(Ok(found)),
                Ok(Lookup::Pending(id)) => {
                    self.lookups.insert(id, reply);
                }
                Err(error) => reply.answer(Err(error.into())),
            },
            Request::Sync { reply } => {
                let upto = self.log.log_end();
                self.log.want_synced(upto);
                self.syncing.push_back((upto, reply));
            }
            Request::Truncate { to, reply } => {
                self.log.truncate(to);
                self.cutting.push_back(reply);
            }
            Request::Trim { to, reply } => {
                self.trimming.push_back((to, reply));
                self.trim();
            }
            Request::Compact { reply } => self.compact(now, cleaner, reply),
            Request::Facts { reply } => reply.answer(Ok(self.facts())),
            Request::Directory { reply } => reply.answer(Ok(self.log.dir().to_path_buf())),
            Request::Metrics { reply } => reply.answer(Ok(self.metrics())),
            Request::Settings { settings, reply } => {
                self.log.update_settings(*settings);
                reply.answer(Ok(()));
            }
            Request::Move { directory, bytes_per_second, reply } => {
                self.moves.begin(&mut self.log, &directory, bytes_per_second, reply);
            }
            Request::Delete { reply } => {
                self.moves.over(Err(EngineError::NoSuchLog { name: self.name.clone() }));
                self.log.delete();
                self.deleting = Some(reply);
            }
        }
    }

    /// Raises the log's start for those who asked, as far as the log's state allows, and answers whose is durable.
    fn trim(&mut self) {
        for (to, reply) in std::mem::take(&mut self.trimming) {
            let to = to.min(self.log.acknowledged_end());
            self.log.trim(to);
            if to <= self.durable_start {
                reply.answer(Ok(self.log.log_start()));
            } else {
                self.trimming.push_back((to, reply));
            }
        }
    }

    fn facts(&self) -> LogFacts {
        LogFacts {
            start: self.log.log_start(),
            end: self.log.acknowledged_end(),
            synced_end: self.log.synced_end(),
            log_end: self.log.log_end(),
            size_bytes: self.log.size_bytes(),
            segments: self.log.segment_count(),
            no_space: self.no_space,
        }
    }

    fn append(&mut self, now: Now, append: Held) {
        let held = match self.held.is_empty() {
            true => self.try_append(now, append),
            false => Some(append),
        };
        self.held.extend(held);
    }

    /// Appends, or gives the batch back if too much waits for the disk or the log is being made or cut.
    fn try_append(&mut self, now: Now, append: Held) -> Option<Held> {
        let leader_epoch = LeaderEpoch::ZERO;
        let origin = match append.from {
            Writer::Client => Origin::Client { leader_epoch },
            Writer::Coordinator => Origin::Coordinator { leader_epoch },
        };
        match self.log.append(now, &append.batch, origin) {
            Ok(appended) => {
                let (bytes, reply) = (append.batch.len(), append.reply);
                self.unacknowledged.push_back(Unacknowledged { appended, bytes, reply });
            }
            Err(
                AppendError::Backpressure { .. }
                | AppendError::Busy(Busy::Creating | Busy::Waking | Busy::Truncating | Busy::Moving),
            ) => {
                return Some(append);
            }
            Err(error) => {
                self.metrics.refused_batches += 1;
                append.reply.answer(Err(error.into()));
            }
        }
        None
    }

    /// Reads, or waits at the tail without keeping a place in the mailbox: readers that sleep must not keep
    /// others out.
    fn follow(&mut self, now: Now, wanted: Wanted, reply: Reply<Fetched>) {
        let nothing_yet = wanted.from >= self.bound(wanted.isolation) && wanted.from <= self.log.log_end();
        if !nothing_yet || self.log.failure().is_some() {
            return self.read(now, wanted, reply);
        }
        if self.waiting_readers >= self.log.settings().limits.parked {
            self.forget_unwanted();
        }
        if self.waiting_readers >= self.log.settings().limits.parked {
            return reply.answer(Err(EngineError::Overloaded));
        }
        self.waiting_readers += 1;
        let place = (wanted.isolation, wanted.from);
        self.followers.entry(place).or_default().push(Following { wanted, reply: reply.leaving() });
    }

    /// Drops the readers whose tickets were dropped.
    fn forget_unwanted(&mut self) {
        self.followers.retain(|_, waiting| {
            waiting.retain(|following| following.reply.is_wanted());
            !waiting.is_empty()
        });
        self.waiting_readers = self.followers.values().map(Vec::len).sum();
    }

    /// How far readers see.
    fn bound(&self, isolation: Isolation) -> Offset {
        let acknowledged = self.log.acknowledged_end();
        match isolation {
            Isolation::ReadUncommitted => acknowledged,
            Isolation::ReadCommitted => self.log.last_stable_offset().min(acknowledged),
        }
    }

    fn read(&mut self, now: Now, wanted: Wanted, reply: Reply<Fetched>) {
        match self.log.read(now, wanted.from, self.bound(wanted.isolation), wanted.max_bytes) {
            Ok(Read::Ready(fetched)) => self.answer_read(wanted, reply, Ok(fetched)),
            Ok(Read::Pending(id)) => {
                self.reads.insert(id, (wanted, reply));
            }
            Err(error) => self.answer_read(wanted, reply, Err(error)),
        }
    }

    fn answer_read(&mut self, wanted: Wanted, reply: Reply<Fetched>, mut result: Result<Fetched, ReadError>) {
        self.metrics.reads += 1;
        if let Ok(fetched) = &mut result {
            self.metrics.read_bytes += fetched.len() as u64;
            if wanted.isolation == Isolation::ReadCommitted {
                fetched.aborted = self.log.aborted_in(wanted.from, fetched.next);
            }
        }
        reply.answer(result.map_err(EngineError::from));
    }

    /// Alternates stepping and listening until the log has nothing more to say.
    pub(super) fn settle(&mut self, now: Now, owner: u32, io: &mut dyn Io) -> Option<Mono> {
        loop {
            let deadline = self.log.step(now, io);
            let mut anything = false;
            while let Some(event) = self.log.poll_event() {
                anything = true;
                self.take_event(now, owner, event);
            }
            // Also without an event: a duplicate, or a sync of what is synced, has nothing to wait for.
            if !self.ends_moved(now) && !anything {
                // A held append is tried again when something was written; the deadline is only a net.
                let net = (!self.held.is_empty()).then(|| now.mono.plus(Duration::from_millis(10)));
                return deadline.into_iter().chain(net).min();
            }
        }
    }

    fn take_event(&mut self, now: Now, owner: u32, event: LogEvent) {
        match event {
            LogEvent::Ready => {
                if let Some(reply) = self.creating.take() {
                    reply.fulfil(Ok(owner));
                }
            }
            LogEvent::ReadDone { id, result } => {
                if let Some((wanted, reply)) = self.reads.remove(&id) {
                    self.answer_read(wanted, reply, result);
                }
            }
            LogEvent::LookupDone { id, result } => {
                if let Some(reply) = self.lookups.remove(&id) {
                    reply.answer(result.map_err(EngineError::from));
                }
            }
            LogEvent::Truncated { log_end } => {
                self.told = self.told.min(log_end);
                self.durable_start = self.durable_start.min(log_end);
                self.trim();
                self.listener.tell(&self.name, &Notice::Truncated { end: log_end });
                for reply in self.cutting.drain(..) {
                    reply.answer(Ok(log_end));
                }
                let beyond = self.followers.extract_if(.., |(_, from), _| *from > log_end);
                let beyond = beyond.flat_map(|(_, waiting)| waiting).collect();
                self.wake(now, beyond);
            }
            // `ends_moved` looks at the ends themselves, after all events.
            LogEvent::Written(_) | LogEvent::Synced(_) => {}
            LogEvent::Compacted { cleaned_to } => {
                let cleaned_to = cleaned_to.max(self.log.log_start());
                self.compacting.drain(..).for_each(|reply| reply.answer(Ok(cleaned_to)));
            }
            LogEvent::Trimmed { log_start } => {
                self.durable_start = log_start;
                self.trim();
                self.listener.tell(&self.name, &Notice::Trimmed { start: log_start });
            }
            LogEvent::NoSpace | LogEvent::LowSpace { .. } => {
                self.no_space = true;
                self.listener.tell(&self.name, &Notice::NoSpace);
            }
            LogEvent::SpaceReturned => {
                self.no_space = false;
                self.listener.tell(&self.name, &Notice::SpaceReturned);
            }
            LogEvent::Damaged(error) => self.listener.tell(&self.name, &Notice::Damaged(error)),
            LogEvent::MoveCaughtUp
            | LogEvent::Moved { .. }
            | LogEvent::MoveFailed(_)
            | LogEvent::Discarded { .. } => self.moves.heard(&mut self.log, event),
            LogEvent::Closed => {
                self.closed = true;
                self.moves.over(Err(EngineError::Stopped));
            }
            LogEvent::Deleted => {
                if let Some(reply) = self.deleting.take() {
                    reply.answer(Ok(()));
                }
            }
            LogEvent::Removed => {
                self.name.clear();
                self.closed = true;
            }
            LogEvent::Failed(failure) => self.failed(failure),
        }
    }

    /// The log has failed for good: everyone who waits is told.
    fn failed(&mut self, failure: LogFailure) {
        let append = || EngineError::Append(AppendError::Failed(failure.clone()));
        self.listener.tell(&self.name, &Notice::Failed(failure.clone()));
        if let Some(reply) = self.creating.take() {
            reply.fulfil(Err(append()));
        }
        let held = self.held.drain(..).map(|held| held.reply);
        for reply in self.unacknowledged.drain(..).map(|waiting| waiting.reply).chain(held) {
            reply.answer(Err(append()));
        }
        self.moves.over(Err(append()));
        let syncing = self.syncing.drain(..).chain(self.trimming.drain(..)).map(|(_, reply)| reply);
        for reply in syncing.chain(self.cutting.drain(..)).chain(self.compacting.drain(..)) {
            reply.answer(Err(append()));
        }
        for waiting in std::mem::take(&mut self.followers).into_values().flatten() {
            waiting.reply.answer(Err(EngineError::Read(ReadError::Failed(failure.clone()))));
        }
        self.waiting_readers = 0;
        self.closed = true;
    }

    /// Answers who waited for what is now written or synced. Says whether that gave the log something to do.
    fn ends_moved(&mut self, now: Now) -> bool {
        let acknowledged = self.log.acknowledged_end();
        self.log.set_high_watermark(acknowledged);
        if acknowledged > self.told {
            self.told = acknowledged;
            self.listener.tell(&self.name, &Notice::Acknowledged { end: acknowledged });
        }
        while let Some(waiting) = self.unacknowledged.pop_front_if(|w| w.appended.end <= acknowledged) {
            let Unacknowledged { appended, bytes, reply } = waiting;
            if !appended.duplicate {
                self.metrics.appended_batches += 1;
                self.metrics.appended_records += appended.last.plus(1).since(appended.first) as u64;
                self.metrics.appended_bytes += bytes as u64;
            }
            reply.answer(Ok(appended));
        }
        let synced = self.log.synced_end();
        while let Some((upto, _)) = self.syncing.front()
            && *upto <= synced
        {
            if let Some((_, reply)) = self.syncing.pop_front() {
                reply.answer(Ok(synced));
            }
        }
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            let reached = (isolation, Offset::ZERO)..(isolation, self.bound(isolation));
            if reached.start < reached.end {
                let ready = self.followers.extract_if(reached, |_, _| true);
                let ready = ready.flat_map(|(_, waiting)| waiting).collect();
                self.wake(now, ready);
            }
        }
        self.retry_held(now) || self.log.needs_step()
    }

    /// Reads for those who waited at the tail.
    fn wake(&mut self, now: Now, ready: Vec<Following>) {
        self.waiting_readers -= ready.len();
        for Following { wanted, reply } in ready {
            self.read(now, wanted, reply);
        }
    }

    /// Appends what was held back, as far as it goes now; says whether that was anything.
    fn retry_held(&mut self, now: Now) -> bool {
        let held = self.held.len();
        while let Some(held) = self.held.pop_front() {
            if let Some(back) = self.try_append(now, held) {
                self.held.push_front(back);
                break;
            }
        }
        self.held.len() < held
    }
}
