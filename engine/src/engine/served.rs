//! One log of a shard, and who waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mono, Now, Offset};
use highwater_io::Io;

use super::notice::Listener;
use super::shard::{LogEnd, Reply, Request, Wanted, Writer};
use super::waiting::{Following, Held, Unacknowledged, Waiting};
use super::{EngineError, LogFacts, LogMetrics, Notice};
use crate::rare::Rare;
use crate::ticket::Promise;
use crate::{
    AppendError, Busy, CleanerSettings, Fetched, Isolation, Log, LogEvent, LogFailure, Lookup, Origin, Read,
    ReadError,
};

/// One log and who waits for it.
#[derive(Debug)]
pub(super) struct Served {
    name: Arc<str>,
    log: Log,
    waiting: Rare<Waiting>,
    /// The log's start after a power cut.
    durable_start: Offset,
    closed: bool,
    listener: Listener,
    /// The acknowledged end that the listener was last told.
    told: Offset,
    no_space: bool,
    counts: Counts,
}

/// What went through a log.
#[derive(Debug, Default)]
struct Counts {
    appended_batches: u64,
    appended_records: u64,
    appended_bytes: u64,
    refused_batches: u64,
    reads: u64,
    read_bytes: u64,
}

impl Served {
    /// A log that is open.
    pub(super) fn opened(name: Arc<str>, mut log: Log, listener: Listener) -> Served {
        // All that is there was acknowledged, or is no different from it.
        log.set_high_watermark(log.acknowledged_end());
        Served {
            told: log.acknowledged_end(),
            durable_start: log.log_start(),
            name,
            log,
            waiting: Rare::new(),
            closed: false,
            listener,
            no_space: false,
            counts: Counts::default(),
        }
    }

    /// A log that is being made; `reply` is answered with its owner number when it is there.
    pub(super) fn created(
        name: Arc<str>,
        log: Log,
        listener: Listener,
        reply: Promise<Result<u32, EngineError>>,
    ) -> Served {
        let mut served = Served::opened(name, log, listener);
        served.waiting.creating = Some(reply);
        served
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
        let Counts { appended_batches, appended_records, appended_bytes, refused_batches, reads, read_bytes } =
            self.counts;
        LogMetrics {
            appended_batches,
            appended_records,
            appended_bytes,
            refused_batches,
            refused_times: self.log.refused_times(),
            reads,
            read_bytes,
            scrubbed_bytes: scrub.bytes,
            scrub_rounds: scrub.rounds,
            rotten_slices: scrub.rotten,
            segments_recycled: self.log.segments_recycled(),
            waiting_appends: self.waiting.held.len() + self.waiting.unacknowledged.len(),
            waiting_readers: self.waiting.readers,
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
            self.waiting.compacting.push(reply);
        } else {
            reply.answer(Ok(self.log.cleaned_to().max(self.log.log_start())));
        }
    }

    /// The next directory that a move has left, to be removed.
    pub(super) fn poll_discarded(&mut self) -> Option<PathBuf> {
        self.waiting.changed()?.moves.poll_discarded()
    }

    pub(super) fn log_is_gone(&self) -> bool {
        self.closed && self.waiting.deleting.is_none() && self.name.is_empty()
    }

    pub(super) fn take_request(&mut self, now: Now, request: Request, cleaner: &CleanerSettings) {
        match request {
            Request::Append { batch, from, reply } => self.append(now, Held { batch, from, reply }),
            Request::Read { wanted, reply } => self.read(now, wanted, reply),
            Request::Follow { wanted, reply } => self.follow(now, wanted, reply),
            Request::FindTime { at, reply } => match self.log.lookup_time(now, at) {
                Ok(Lookup::Ready(found)) => reply.answer(Ok(found)),
                Ok(Lookup::Pending(id)) => {
                    self.waiting.lookups.insert(id, reply);
                }
                Err(error) => reply.answer(Err(error.into())),
            },
            Request::Sync { reply } => {
                let upto = self.log.log_end();
                self.log.want_synced(upto);
                self.waiting.syncing.push_back((upto, reply));
            }
            Request::Truncate { to, reply } => {
                self.log.truncate(to);
                self.waiting.cutting.push_back(reply);
            }
            Request::Trim { to, reply } => {
                self.waiting.trimming.push_back((to, reply));
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
                self.waiting.moves.begin(&mut self.log, &directory, bytes_per_second, reply);
            }
            Request::Delete { reply } => {
                self.waiting.moves.over(Err(EngineError::NoSuchLog { name: self.name.to_string() }));
                self.log.delete();
                self.waiting.deleting = Some(reply);
            }
        }
    }

    /// Raises the log's start for those who asked, as far as the log's state allows, and answers whose is durable.
    fn trim(&mut self) {
        if self.waiting.trimming.is_empty() {
            return;
        }
        for (to, reply) in std::mem::take(&mut self.waiting.trimming) {
            let to = to.min(self.log.acknowledged_end());
            self.log.trim(to);
            if to <= self.durable_start {
                reply.answer(Ok(self.log.log_start()));
            } else {
                self.waiting.trimming.push_back((to, reply));
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
        let held = match self.waiting.held.is_empty() {
            true => self.try_append(now, append),
            false => Some(append),
        };
        self.waiting.held.extend(held);
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
                self.waiting.unacknowledged.push_back(Unacknowledged { appended, bytes, reply });
            }
            Err(
                AppendError::Backpressure { .. }
                | AppendError::Busy(Busy::Creating | Busy::Waking | Busy::Truncating | Busy::Moving),
            ) => {
                return Some(append);
            }
            Err(error) => {
                self.counts.refused_batches += 1;
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
        if self.waiting.readers >= self.log.settings().limits.parked {
            self.forget_unwanted();
        }
        if self.waiting.readers >= self.log.settings().limits.parked {
            return reply.answer(Err(EngineError::Overloaded));
        }
        self.waiting.readers += 1;
        let place = (wanted.isolation, wanted.from);
        self.waiting.followers.entry(place).or_default().push(Following { wanted, reply: reply.leaving() });
    }

    /// Drops the readers whose tickets were dropped.
    fn forget_unwanted(&mut self) {
        self.waiting.followers.retain(|_, waiting| {
            waiting.retain(|following| following.reply.is_wanted());
            !waiting.is_empty()
        });
        self.waiting.readers = self.waiting.followers.values().map(Vec::len).sum();
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
                self.waiting.reads.insert(id, (wanted, reply));
            }
            Err(error) => self.answer_read(wanted, reply, Err(error)),
        }
    }

    fn answer_read(&mut self, wanted: Wanted, reply: Reply<Fetched>, mut result: Result<Fetched, ReadError>) {
        self.counts.reads += 1;
        if let Ok(fetched) = &mut result {
            self.counts.read_bytes += fetched.len() as u64;
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
                if self.log.is_resting() {
                    self.waiting.rest(Waiting::is_nobody);
                }
                let net = (!self.waiting.held.is_empty()).then(|| now.mono.plus(Duration::from_millis(10)));
                return deadline.into_iter().chain(net).min();
            }
        }
    }

    fn take_event(&mut self, now: Now, owner: u32, event: LogEvent) {
        match event {
            LogEvent::Ready => {
                if let Some(reply) = self.waiting.creating.take() {
                    reply.fulfil(Ok(owner));
                }
            }
            LogEvent::ReadDone { id, result } => {
                if let Some((wanted, reply)) = self.waiting.reads.remove(&id) {
                    self.answer_read(wanted, reply, result);
                }
            }
            LogEvent::LookupDone { id, result } => {
                if let Some(reply) = self.waiting.lookups.remove(&id) {
                    reply.answer(result.map_err(EngineError::from));
                }
            }
            LogEvent::Truncated { log_end } => {
                self.told = self.told.min(log_end);
                self.durable_start = self.durable_start.min(log_end);
                self.trim();
                self.listener.tell(&self.name, &Notice::Truncated { end: log_end });
                for reply in self.waiting.cutting.drain(..) {
                    reply.answer(Ok(log_end));
                }
                let beyond = self.waiting.followers.extract_if(.., |(_, from), _| *from > log_end);
                let beyond = beyond.flat_map(|(_, waiting)| waiting).collect();
                self.wake(now, beyond);
            }
            // `ends_moved` looks at the ends themselves, after all events.
            LogEvent::Written(_) | LogEvent::Synced(_) => {}
            LogEvent::Compacted { cleaned_to } => {
                let cleaned_to = cleaned_to.max(self.log.log_start());
                self.waiting.compacting.drain(..).for_each(|reply| reply.answer(Ok(cleaned_to)));
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
            | LogEvent::Discarded { .. } => self.waiting.moves.heard(&mut self.log, event),
            LogEvent::Closed => {
                self.closed = true;
                if let Some(waiting) = self.waiting.changed() {
                    waiting.moves.over(Err(EngineError::Stopped));
                }
            }
            LogEvent::Deleted => {
                if let Some(reply) = self.waiting.deleting.take() {
                    reply.answer(Ok(()));
                }
            }
            LogEvent::Removed => {
                self.name = Arc::default();
                self.closed = true;
            }
            LogEvent::Failed(failure) => self.failed(failure),
        }
    }

    /// The log has failed for good: everyone who waits is told.
    fn failed(&mut self, failure: LogFailure) {
        let append = || EngineError::Append(AppendError::Failed(failure.clone()));
        self.listener.tell(&self.name, &Notice::Failed(failure.clone()));
        let waiting = &mut *self.waiting;
        if let Some(reply) = waiting.creating.take() {
            reply.fulfil(Err(append()));
        }
        let held = waiting.held.drain(..).map(|held| held.reply);
        for reply in waiting.unacknowledged.drain(..).map(|waiting| waiting.reply).chain(held) {
            reply.answer(Err(append()));
        }
        waiting.moves.over(Err(append()));
        let syncing = waiting.syncing.drain(..).chain(waiting.trimming.drain(..)).map(|(_, reply)| reply);
        for reply in syncing.chain(waiting.cutting.drain(..)).chain(waiting.compacting.drain(..)) {
            reply.answer(Err(append()));
        }
        for following in std::mem::take(&mut waiting.followers).into_values().flatten() {
            following.reply.answer(Err(EngineError::Read(ReadError::Failed(failure.clone()))));
        }
        waiting.readers = 0;
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
        if self.waiting.changed().is_none() {
            return self.log.needs_step();
        }
        while let Some(waiting) = self.waiting.unacknowledged.pop_front_if(|w| w.appended.end <= acknowledged)
        {
            let Unacknowledged { appended, bytes, reply } = waiting;
            if !appended.duplicate {
                self.counts.appended_batches += 1;
                self.counts.appended_records += appended.last.plus(1).since(appended.first) as u64;
                self.counts.appended_bytes += bytes as u64;
            }
            reply.answer(Ok(appended));
        }
        let synced = self.log.synced_end();
        while let Some((upto, _)) = self.waiting.syncing.front()
            && *upto <= synced
        {
            if let Some((_, reply)) = self.waiting.syncing.pop_front() {
                reply.answer(Ok(synced));
            }
        }
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            let reached = (isolation, Offset::ZERO)..(isolation, self.bound(isolation));
            if reached.start < reached.end {
                let ready = self.waiting.followers.extract_if(reached, |_, _| true);
                let ready = ready.flat_map(|(_, waiting)| waiting).collect();
                self.wake(now, ready);
            }
        }
        self.retry_held(now) || self.log.needs_step()
    }

    /// Reads for those who waited at the tail.
    fn wake(&mut self, now: Now, ready: Vec<Following>) {
        self.waiting.readers -= ready.len();
        for Following { wanted, reply } in ready {
            self.read(now, wanted, reply);
        }
    }

    /// Appends what was held back, as far as it goes now; says whether that was anything.
    fn retry_held(&mut self, now: Now) -> bool {
        let held = self.waiting.held.len();
        while let Some(held) = self.waiting.held.pop_front() {
            if let Some(back) = self.try_append(now, held) {
                self.waiting.held.push_front(back);
                break;
            }
        }
        self.waiting.held.len() < held
    }
}
