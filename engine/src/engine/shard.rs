//! One engine thread's logs: requests in, answers out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::{Now, Offset, Uuid, WallMs};
use highwater_io::{Io, Park};
use highwater_runtime::{Next, Shard, Timers, Turn};

use super::directory::directory_name;
use super::gate::Place;
use super::notice::Listener;
use super::served::Served;
use super::{EngineConfig, EngineError, EngineMetrics, LogFacts, LogMetrics};
use crate::ticket::Promise;
use crate::{
    Appended, Cleaner, Fetched, Isolation, ListedLog, Log, LogSettings, OpenHint, RecoveryReport,
    RecycleSpace, StoppedLog, TailSpace, TimestampOffset,
};

/// What a shard is to open before it serves.
#[derive(Debug, Default)]
pub(super) struct OpenPlan {
    pub(super) logs: Vec<PlannedLog>,
    /// Directories that are to be removed.
    pub(super) discarded: Vec<PathBuf>,
    /// Shared by all logs of the engine.
    pub(super) recycle_space: RecycleSpace,
    /// What the tails of all logs of this shard may hold.
    pub(super) tail_bytes: u64,
}

/// One log found on disk.
#[derive(Debug)]
pub(super) struct PlannedLog {
    pub(super) name: Arc<str>,
    /// The data directory that it is in.
    pub(super) directory: Arc<Path>,
    pub(super) hint: OpenHint,
    /// What the directory's manifest says of it.
    pub(super) listed: Option<ListedLog>,
}

/// A log that a shard has opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) owner: u32,
    /// None if it was not read.
    pub(super) report: Option<Box<RecoveryReport>>,
}

/// A log's end at a clean stop, for the checkpoint files.
#[derive(Debug)]
pub(super) struct LogEnd {
    pub(super) name: Arc<str>,
    pub(super) dir: PathBuf,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) cleaned_to: Offset,
    /// For the manifest.
    pub(super) stopped: Option<StoppedLog>,
}

/// Where an answer goes, and the place that it frees.
#[derive(Debug)]
pub(super) struct Reply<T> {
    promise: Promise<Result<T, EngineError>>,
    place: Option<Place>,
}

impl<T> Reply<T> {
    pub(super) fn new(promise: Promise<Result<T, EngineError>>, place: Place) -> Reply<T> {
        Reply { promise, place: Some(place) }
    }

    /// Gives the place back at once, to wait for long.
    pub(super) fn leaving(self) -> Reply<T> {
        Reply { promise: self.promise, place: None }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.promise.is_wanted()
    }

    pub(super) fn answer(self, answer: Result<T, EngineError>) {
        // First, so that whoever has the answer finds the place free.
        drop(self.place);
        self.promise.fulfil(answer);
    }
}

/// What outside threads send.
#[derive(Debug)]
pub(super) enum Message {
    Create {
        name: Arc<str>,
        dir: PathBuf,
        settings: Box<LogSettings>,
        reply: Promise<Result<u32, EngineError>>,
    },
    Request {
        owner: u32,
        request: Request,
    },
    Metrics {
        reply: Promise<EngineMetrics>,
    },
    Stop {
        reply: Promise<Result<Vec<LogEnd>, EngineError>>,
    },
    Abandon {
        reply: Promise<()>,
    },
}

/// Whose batch it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Writer {
    Client,
    /// It ends transactions.
    Coordinator,
}

/// What is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) from: Offset,
    pub(super) max_bytes: usize,
    pub(super) isolation: Isolation,
}

/// What is asked of one log.
#[derive(Debug)]
pub(super) enum Request {
    Append { batch: Vec<u8>, from: Writer, reply: Reply<Appended> },
    Read { wanted: Wanted, reply: Reply<Fetched> },
    Follow { wanted: Wanted, reply: Reply<Fetched> },
    FindTime { at: WallMs, reply: Reply<Option<TimestampOffset>> },
    Sync { reply: Reply<Offset> },
    Truncate { to: Offset, reply: Reply<Offset> },
    Trim { to: Offset, reply: Reply<Offset> },
    Compact { reply: Reply<Offset> },
    Move { directory: PathBuf, bytes_per_second: u64, reply: Reply<()> },
    Facts { reply: Reply<LogFacts> },
    Directory { reply: Reply<PathBuf> },
    Metrics { reply: Reply<LogMetrics> },
    Settings { settings: Box<LogSettings>, reply: Reply<()> },
    Delete { reply: Reply<()> },
}

/// The logs of one thread.
#[derive(Debug)]
pub(super) struct EngineShard {
    /// Owner number `i + 1` is `logs[i]`. A deleted log's slot stays empty.
    logs: Vec<Option<Served>>,
    timers: Timers,
    listener: Listener,
    cleaner: Cleaner,
    recycle_space: RecycleSpace,
    tail_space: TailSpace,
    /// Owners with something to do this turn.
    stirred: Vec<u32>,
    stopping: Option<Promise<Result<Vec<LogEnd>, EngineError>>>,
    abandoned: bool,
}

impl EngineShard {
    /// Opens the planned logs, one after the other.
    pub(super) fn open(
        io: &mut dyn Park,
        now: Now,
        config: &EngineConfig,
        plan: OpenPlan,
    ) -> Result<(EngineShard, Vec<Found>), EngineError> {
        let mut shard = EngineShard {
            logs: Vec::new(),
            timers: Timers::new(),
            listener: config.listener.clone(),
            cleaner: Cleaner::new(now, config.cleaner_of_shard()),
            recycle_space: plan.recycle_space,
            tail_space: TailSpace::new(plan.tail_bytes),
            stirred: Vec::new(),
            stopping: None,
            abandoned: false,
        };
        let (mut found, mut shared) = (Vec::with_capacity(plan.logs.len()), None);
        shard.logs.reserve_exact(plan.logs.len());
        for planned in plan.logs {
            let owner = shard.next_owner();
            let PlannedLog { name, directory, hint, listed } = planned;
            let (dir, settings) = (directory.join(directory_name(&name)), config.settings_of(&name));
            let asleep =
                listed.and_then(|listed| Log::open_listed(now, &dir, owner, settings, hint, &listed));
            let (mut log, report) = match asleep {
                Some((log, _)) => (log, None),
                None => {
                    let (log, report) = Log::open(io, now, &dir, owner, settings, hint)?;
                    (log, Some(Box::new(report)))
                }
            };
            log.share_settings(&mut shared);
            log.share_recycle_space(&shard.recycle_space);
            log.share_tail_space(&shard.tail_space);
            shard.logs.push(Some(Served::opened(Arc::clone(&name), log, shard.listener.clone())));
            shard.stirred.push(owner);
            found.push(Found { name, owner, report });
        }
        for dir in plan.discarded {
            shard.remove(now, &dir);
        }
        Ok((shard, found))
    }

    /// Removes a directory bit by bit: what a deletion or a move left.
    fn remove(&mut self, now: Now, dir: &Path) {
        let owner = self.next_owner();
        let log = Log::remove(now, dir, owner, LogSettings::default());
        self.logs.push(Some(Served::opened(Arc::default(), log, self.listener.clone())));
        self.stirred.push(owner);
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
                let mut log = Log::create(now, &dir, owner, *settings, Uuid::ZERO);
                log.share_recycle_space(&self.recycle_space);
                log.share_tail_space(&self.tail_space);
                self.logs.push(Some(Served::created(name, log, self.listener.clone(), reply)));
                self.stirred.push(owner);
            }
            Message::Request { owner, request } => {
                let cleaner = *self.cleaner.settings();
                if let Some(served) = self.served(owner) {
                    served.take_request(now, request, &cleaner);
                    self.stirred.push(owner);
                }
                // A deleted log's requests are dropped, which answers them with `Stopped`.
            }
            Message::Metrics { reply } => {
                let mut metrics = EngineMetrics::default();
                for served in self.logs.iter().flatten() {
                    metrics.logs += 1;
                    metrics.total.add(&served.metrics());
                }
                reply.fulfil(metrics);
            }
            Message::Stop { reply } => {
                self.stopping = Some(reply);
                for served in self.logs.iter_mut().flatten() {
                    served.log().close();
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
        let discarded: Vec<PathBuf> = std::iter::from_fn(|| served.poll_discarded()).collect();
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
        for dir in discarded {
            self.remove(now, &dir);
        }
    }

    fn all_closed(&self) -> bool {
        self.logs.iter().flatten().all(Served::is_closed)
    }
}

impl Shard for EngineShard {
    type Message = Message;

    fn turn(&mut self, turn: &mut Turn<'_, Message>) -> Next {
        for completion in turn.completions.drain(..) {
            let owner = completion.token.owner;
            if let Some(served) = self.served(owner) {
                served.log().complete(turn.now, completion, turn.io);
                self.stirred.push(owner);
            }
        }
        for message in turn.messages.drain(..) {
            self.take_message(turn.now, message);
        }
        while let Some(owner) = self.timers.pop_due(turn.now.mono) {
            self.stirred.push(owner as u32);
        }
        let cleaned = self.cleaner.drive(turn.now, &mut self.logs.iter_mut().flatten().map(Served::log));
        self.stirred.extend(cleaned);
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
            // One that failed may hold what was never synced: then nothing is marked as stopped in order.
            let logs = self.logs.iter().flatten().filter(|served| served.is_a_log());
            let ends = logs.map(Served::end).collect::<Result<_, _>>();
            if let Some(reply) = self.stopping.take() {
                reply.fulfil(ends);
            }
            return Next::Stop;
        }
        let deadlines = [self.timers.next_deadline(), self.cleaner.deadline()];
        match (self.stirred.is_empty(), deadlines.into_iter().flatten().min()) {
            (false, _) => Next::Now,
            (true, Some(at)) => Next::At(at),
            (true, None) => Next::Idle,
        }
    }
}
