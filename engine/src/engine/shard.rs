//! One engine thread's logs: requests in, answers out.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mono, Now, Offset, Uuid, WallMs};
use highwater_io::{Io, Park};
use highwater_runtime::{Next, Shard, Timers, Turn};

use super::gate::Place;
use super::{EngineError, LogFacts};
use crate::ticket::Promise;
use crate::{
    AppendError, Appended, Busy, Fetched, Log, LogEvent, LogSettings, Lookup, OpenHint, Origin, Read,
    ReadError, ReadId, TimestampOffset,
};

/// What a shard is to open before it serves.
#[derive(Debug, Default)]
pub(super) struct OpenPlan {
    pub(super) logs: Vec<PlannedLog>,
}

/// One log found on disk.
#[derive(Debug)]
pub(super) struct PlannedLog {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) hint: OpenHint,
}

/// A log that a shard has opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) owner: u32,
}

/// A log's end at a clean stop, for the checkpoint files.
#[derive(Debug)]
pub(super) struct LogEnd {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
}

/// Where an answer goes, and the place that it frees.
#[derive(Debug)]
pub(super) struct Reply<T> {
    promise: Promise<Result<T, EngineError>>,
    _place: Place,
}

impl<T> Reply<T> {
    pub(super) fn new(promise: Promise<Result<T, EngineError>>, place: Place) -> Reply<T> {
        Reply { promise, _place: place }
    }

    fn answer(self, answer: Result<T, EngineError>) {
        self.promise.fulfil(answer);
    }
}

/// What outside threads send.
#[derive(Debug)]
pub(super) enum Message {
    Create {
        name: String,
        dir: PathBuf,
        settings: Box<LogSettings>,
        reply: Promise<Result<u32, EngineError>>,
    },
    Request {
        owner: u32,
        request: Request,
    },
    Stop {
        reply: Promise<Result<Vec<LogEnd>, EngineError>>,
    },
    Abandon {
        reply: Promise<()>,
    },
}

/// What is asked of one log.
#[derive(Debug)]
pub(super) enum Request {
    Append { batch: Vec<u8>, reply: Reply<Appended> },
    Read { from: Offset, max_bytes: usize, reply: Reply<Fetched> },
    Follow { from: Offset, max_bytes: usize, reply: Reply<Fetched> },
    FindTime { at: WallMs, reply: Reply<Option<TimestampOffset>> },
    Sync { reply: Reply<Offset> },
    Truncate { to: Offset, reply: Reply<Offset> },
    Trim { to: Offset, reply: Reply<Offset> },
    Facts { reply: Reply<LogFacts> },
    Settings { settings: Box<LogSettings>, reply: Reply<()> },
    Delete { reply: Reply<()> },
}

/// The logs of one thread.
#[derive(Debug)]
pub(super) struct EngineShard {
    /// Owner number `i + 1` is `logs[i]`. A deleted log's slot stays empty.
    logs: Vec<Option<Served>>,
    timers: Timers,
    /// Owners with something to do this turn.
    stirred: Vec<u32>,
    stopping: Option<Promise<Result<Vec<LogEnd>, EngineError>>>,
    abandoned: bool,
}

/// One log and who waits for it.
#[derive(Debug)]
struct Served {
    name: String,
    log: Log,
    creating: Option<Promise<Result<u32, EngineError>>>,
    /// Appends that found too much staged, in order.
    held: VecDeque<(Vec<u8>, Reply<Appended>)>,
    /// Appends that wait for their acknowledgement, in the order of their ends.
    unacknowledged: VecDeque<(Appended, Reply<Appended>)>,
    syncing: VecDeque<(Offset, Reply<Offset>)>,
    reads: BTreeMap<ReadId, Reply<Fetched>>,
    lookups: BTreeMap<ReadId, Reply<Option<TimestampOffset>>>,
    /// Readers at the tail, by the offset that they wait for.
    followers: BTreeMap<Offset, Vec<(usize, Reply<Fetched>)>>,
    cutting: VecDeque<Reply<Offset>>,
    deleting: Option<Reply<()>>,
    closed: bool,
}

impl EngineShard {
    /// Opens the planned logs, one after the other.
    pub(super) fn open(
        io: &mut dyn Park,
        now: Now,
        settings: LogSettings,
        plan: OpenPlan,
    ) -> Result<(EngineShard, Vec<Found>), EngineError> {
        let mut shard = EngineShard {
            logs: Vec::new(),
            timers: Timers::new(),
            stirred: Vec::new(),
            stopping: None,
            abandoned: false,
        };
        let mut found = Vec::new();
        for planned in plan.logs {
            let owner = shard.next_owner();
            let (log, _report) = Log::open(io, now, &planned.dir, owner, settings, planned.hint)?;
            shard.logs.push(Some(Served::new(planned.name.clone(), log)));
            shard.stirred.push(owner);
            found.push(Found { name: planned.name, owner });
        }
        Ok((shard, found))
    }

    fn next_owner(&self) -> u32 {
        self.logs.len() as u32 + 1
    }

    fn served(&mut self, owner: u32) -> Option<&mut Served> {
        self.logs.get_mut((owner as usize).checked_sub(1)?)?.as_mut()
    }

    fn take_message(&mut self, now: Now, message: Message) {
        match message {
            Message::Create { name, dir, settings, reply } => {
                let owner = self.next_owner();
                let log = Log::create(now, &dir, owner, *settings, Uuid::ZERO);
                self.logs.push(Some(Served { creating: Some(reply), ..Served::new(name, log) }));
                self.stirred.push(owner);
            }
            Message::Request { owner, request } => {
                if let Some(served) = self.served(owner) {
                    served.take_request(now, request);
                    self.stirred.push(owner);
                }
                // A deleted log's requests are dropped, which answers them with `Stopped`.
            }
            Message::Stop { reply } => {
                self.stopping = Some(reply);
                for served in self.logs.iter_mut().flatten() {
                    served.log.close();
                }
                self.stirred.extend(1..self.next_owner());
            }
            Message::Abandon { reply } => {
                self.abandoned = true;
                drop(reply);
            }
        }
    }

    /// Steps one log, takes its events, and notes when it next needs a turn.
    fn settle(&mut self, now: Now, owner: u32, io: &mut dyn Io) {
        let Some(served) = self.served(owner) else { return };
        let deadline = served.settle(now, owner, io);
        let gone = served.log_is_gone();
        match deadline {
            Some(at) => self.timers.set(u64::from(owner), at),
            None => {
                self.timers.cancel(u64::from(owner));
            }
        }
        if gone {
            self.timers.cancel(u64::from(owner));
            self.logs[owner as usize - 1] = None;
        }
    }

    fn all_closed(&self) -> bool {
        self.logs.iter().flatten().all(|served| served.closed)
    }
}

impl Shard for EngineShard {
    type Message = Message;

    fn turn(&mut self, turn: &mut Turn<'_, Message>) -> Next {
        for completion in turn.completions.drain(..) {
            let owner = completion.token.owner;
            if let Some(served) = self.served(owner) {
                served.log.complete(turn.now, completion, turn.io);
                self.stirred.push(owner);
            }
        }
        for message in turn.messages.drain(..) {
            self.take_message(turn.now, message);
        }
        while let Some(owner) = self.timers.pop_due(turn.now.mono) {
            self.stirred.push(owner as u32);
        }
        let mut stirred = std::mem::take(&mut self.stirred);
        stirred.sort_unstable();
        stirred.dedup();
        for owner in stirred.drain(..) {
            self.settle(turn.now, owner, turn.io);
        }
        stirred.append(&mut self.stirred);
        self.stirred = stirred;
        if self.abandoned {
            return Next::Stop;
        }
        if self.stopping.is_some() && self.all_closed() {
            let ends = self.logs.iter().flatten().map(Served::end).collect();
            if let Some(reply) = self.stopping.take() {
                reply.fulfil(Ok(ends));
            }
            return Next::Stop;
        }
        match (self.stirred.is_empty(), self.timers.next_deadline()) {
            (false, _) => Next::Now,
            (true, Some(at)) => Next::At(at),
            (true, None) => Next::Idle,
        }
    }
}

impl Served {
    fn new(name: String, log: Log) -> Served {
        Served {
            name,
            log,
            creating: None,
            held: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            syncing: VecDeque::new(),
            reads: BTreeMap::new(),
            lookups: BTreeMap::new(),
            followers: BTreeMap::new(),
            cutting: VecDeque::new(),
            deleting: None,
            closed: false,
        }
    }

    fn end(&self) -> LogEnd {
        LogEnd {
            name: self.name.clone(),
            dir: self.log.dir().to_path_buf(),
            log_start: self.log.log_start(),
            log_end: self.log.log_end(),
        }
    }

    fn log_is_gone(&self) -> bool {
        self.closed && self.deleting.is_none() && self.name.is_empty()
    }

    fn take_request(&mut self, now: Now, request: Request) {
        match request {
            Request::Append { batch, reply } => self.append(now, batch, reply),
            Request::Read { from, max_bytes, reply } => self.read(now, from, max_bytes, reply),
            Request::Follow { from, max_bytes, reply } => {
                if from == self.log.acknowledged_end() && self.log.failure().is_none() {
                    self.followers.entry(from).or_default().push((max_bytes, reply));
                } else {
                    self.read(now, from, max_bytes, reply);
                }
            }
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
                self.log.trim(to.min(self.log.acknowledged_end()));
                reply.answer(Ok(self.log.log_start()));
            }
            Request::Facts { reply } => reply.answer(Ok(LogFacts {
                start: self.log.log_start(),
                end: self.log.acknowledged_end(),
                size_bytes: self.log.size_bytes(),
                segments: self.log.segment_count(),
            })),
            Request::Settings { settings, reply } => {
                self.log.update_settings(*settings);
                reply.answer(Ok(()));
            }
            Request::Delete { reply } => {
                self.log.delete();
                self.deleting = Some(reply);
            }
        }
    }

    fn append(&mut self, now: Now, batch: Vec<u8>, reply: Reply<Appended>) {
        if !self.held.is_empty() {
            self.held.push_back((batch, reply));
            return;
        }
        if let Some((batch, reply)) = self.try_append(now, batch, reply) {
            self.held.push_back((batch, reply));
        }
    }

    /// Appends, or gives the batch back if too much waits for the disk or the log is being made or cut.
    fn try_append(
        &mut self,
        now: Now,
        batch: Vec<u8>,
        reply: Reply<Appended>,
    ) -> Option<(Vec<u8>, Reply<Appended>)> {
        match self.log.append(now, &batch, Origin::Client { leader_epoch: LeaderEpoch::ZERO }) {
            Ok(appended) => self.unacknowledged.push_back((appended, reply)),
            Err(AppendError::Backpressure { .. } | AppendError::Busy(Busy::Creating | Busy::Truncating)) => {
                return Some((batch, reply));
            }
            Err(error) => reply.answer(Err(error.into())),
        }
        None
    }

    fn read(&mut self, now: Now, from: Offset, max_bytes: usize, reply: Reply<Fetched>) {
        match self.log.read(now, from, self.log.acknowledged_end(), max_bytes) {
            Ok(Read::Ready(fetched)) => reply.answer(Ok(fetched)),
            Ok(Read::Pending(id)) => {
                self.reads.insert(id, reply);
            }
            Err(error) => reply.answer(Err(error.into())),
        }
    }

    /// Alternates stepping and listening until the log has nothing more to say.
    fn settle(&mut self, now: Now, owner: u32, io: &mut dyn Io) -> Option<Mono> {
        loop {
            let deadline = self.log.step(now, io);
            let mut anything = false;
            while let Some(event) = self.log.poll_event() {
                anything = true;
                self.take_event(owner, event);
            }
            // Also without an event: a duplicate, or a sync of what is synced, has nothing to wait for.
            if !self.ends_moved(now) && !anything {
                // A held append is tried again when something was written; the deadline is only a net.
                let net = (!self.held.is_empty()).then(|| now.mono.plus(Duration::from_millis(10)));
                return deadline.into_iter().chain(net).min();
            }
        }
    }

    fn take_event(&mut self, owner: u32, event: LogEvent) {
        match event {
            LogEvent::Ready => {
                if let Some(reply) = self.creating.take() {
                    reply.fulfil(Ok(owner));
                }
            }
            LogEvent::ReadDone { id, result } => {
                if let Some(reply) = self.reads.remove(&id) {
                    reply.answer(result.map_err(EngineError::from));
                }
            }
            LogEvent::LookupDone { id, result } => {
                if let Some(reply) = self.lookups.remove(&id) {
                    reply.answer(result.map_err(EngineError::from));
                }
            }
            LogEvent::Truncated { log_end } => {
                for reply in self.cutting.drain(..) {
                    reply.answer(Ok(log_end));
                }
            }
            // `ends_moved` looks at the ends themselves, after all events.
            LogEvent::Written(_)
            | LogEvent::Synced(_)
            | LogEvent::SpaceReturned
            | LogEvent::Trimmed { .. }
            | LogEvent::NoSpace => {}
            LogEvent::Closed => self.closed = true,
            LogEvent::Deleted => {
                if let Some(reply) = self.deleting.take() {
                    reply.answer(Ok(()));
                }
            }
            LogEvent::Removed => {
                self.name.clear();
                self.closed = true;
            }
            LogEvent::Failed(failure) => {
                if let Some(reply) = self.creating.take() {
                    reply.fulfil(Err(EngineError::Append(AppendError::Failed(failure.clone()))));
                }
                for (_, reply) in self.unacknowledged.drain(..) {
                    reply.answer(Err(EngineError::Append(AppendError::Failed(failure.clone()))));
                }
                for (_, reply) in self.held.drain(..) {
                    reply.answer(Err(EngineError::Append(AppendError::Failed(failure.clone()))));
                }
                for reply in self.syncing.drain(..).map(|(_, reply)| reply).chain(self.cutting.drain(..)) {
                    reply.answer(Err(EngineError::Append(AppendError::Failed(failure.clone()))));
                }
                for (_, reply) in std::mem::take(&mut self.followers).into_values().flatten() {
                    reply.answer(Err(EngineError::Read(ReadError::Failed(failure.clone()))));
                }
                self.closed = true;
            }
        }
    }

    /// Answers who waited for what is now written or synced. Says whether that gave the log something to do.
    fn ends_moved(&mut self, now: Now) -> bool {
        let acknowledged = self.log.acknowledged_end();
        self.log.set_high_watermark(acknowledged);
        while let Some((appended, _)) = self.unacknowledged.front()
            && appended.end <= acknowledged
        {
            if let Some((appended, reply)) = self.unacknowledged.pop_front() {
                reply.answer(Ok(appended));
            }
        }
        let synced = self.log.synced_end();
        while let Some((upto, _)) = self.syncing.front()
            && *upto <= synced
        {
            if let Some((_, reply)) = self.syncing.pop_front() {
                reply.answer(Ok(synced));
            }
        }
        let still_waiting = self.followers.split_off(&acknowledged);
        for (from, waiting) in std::mem::replace(&mut self.followers, still_waiting) {
            for (max_bytes, reply) in waiting {
                self.read(now, from, max_bytes, reply);
            }
        }
        self.retry_held(now) || self.log.needs_step()
    }

    /// Appends what was held back, as far as it goes now; says whether that was anything.
    fn retry_held(&mut self, now: Now) -> bool {
        let held = self.held.len();
        while let Some((batch, reply)) = self.held.pop_front() {
            if let Some(back) = self.try_append(now, batch, reply) {
                self.held.push_front(back);
                break;
            }
        }
        self.held.len() < held
    }
}
