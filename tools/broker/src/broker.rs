//! A running broker, seen from the thread that starts and stops it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use highwater_base::{BrokerEpoch, Full, Limits, Prng, ProducerId};
use highwater_control::Image;
use highwater_engine::checkpoint_file::encode_clean_shutdown;
use highwater_engine::layout::CLEAN_SHUTDOWN;
use highwater_engine::{Manifest, StoppedLog};
use highwater_io::{IoError, Op, OpenHow, Outcome, Park, allowed_cores, blocking, production};
use highwater_runtime::{Clock, Exit, Mailbox, Spec, Thread, mailbox, spawn};

use crate::config::Settings;
use crate::ctx::NodeFacts;
use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::{Message, Registration, Report, ShardId};
use crate::shard::{BrokerShard, DirFacts, Parts};
use crate::storage::{CheckpointFiles, PartitionOffsets, Replace, Storage, StorageError};

/// Why a broker does not start.
///
/// ```
/// let error = highwater_broker::StartError::Shard("shard-0: no space".into());
/// assert_eq!(error.to_string(), "shard-0: no space");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A data directory cannot be served.
    Storage(StorageError),
    /// The address cannot be listened on.
    Listen(SocketAddr, IoError),
    /// A shard could not open its partitions.
    Shard(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Storage(error) => error.fmt(f),
            StartError::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}; give another address with --listen HOST:PORT")
            }
            StartError::Shard(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> StartError {
        StartError::Storage(error)
    }
}

/// Why a stop was not clean. Everything acknowledged is recovered at the next start.
///
/// ```
/// assert!(highwater_broker::StopError("shard-1: a sync failed".into()).to_string().contains("shard-1"));
/// ```
#[derive(Debug)]
pub struct StopError(pub String);

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stop was not clean: {}; the next start recovers what was acknowledged", self.0)
    }
}

impl std::error::Error for StopError {}

/// Stops a broker, from any thread.
///
/// See the crate's example.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<(ShardId, Report)>);

impl Stopper {
    /// Asks for a clean stop; [`Broker::wait`] returns when it is done.
    pub fn stop(&self) {
        let _already_gone = self.0.send((0, Report::StopAsked));
    }
}

/// A broker that accepts connections.
///
/// See the crate's example.
pub struct Broker {
    address: SocketAddr,
    epoch: BrokerEpoch,
    shards: Shards,
    storage: Storage,
    io: Box<dyn Park>,
    log: Log,
    clock: Clock,
}

impl Broker {
    /// Starts a broker and waits until it accepts connections on `listen` (whose port may be 0). Clients are told to
    /// connect to `advertised.listeners`, or else to `host` and the port it listens on.
    ///
    /// # Errors
    /// The data directories cannot be served, the address cannot be listened on, or a partition cannot be opened.
    pub fn start(settings: Settings, listen: SocketAddr, host: &str) -> Result<Broker, StartError> {
        let clock = Clock::start();
        let mut log = Log::new("broker");
        let (mut io, warning) = production(settings.io(), 64).map_err(StorageError::Io)?;
        if let Some(line) = warning {
            log.line(clock.now(), Level::Warn, line);
        }
        let without_effect = settings.without_effect();
        if !without_effect.is_empty() {
            let names = without_effect.join(", ");
            log.line(clock.now(), Level::Warn, format_args!("settings without effect here: {names}"));
        }
        let mut prng = Prng::new(seed(&mut *io, clock));
        let given_node = settings.node_id_is_given().then(|| settings.node_id());
        let dirs: Vec<PathBuf> = settings.data_dirs().into_iter().map(absolute).collect();
        let mut storage = Storage::claim(&mut *io, &dirs, given_node, settings.node_id(), &mut prng)?;
        for note in &storage.notes {
            log.line(clock.now(), Level::Warn, note);
        }
        storage.begin_loading(&mut *io)?;
        let image =
            Arc::new(storage.image.clone().unwrap_or_else(|| Image::new(storage.cluster_id.as_str())));
        let settings = Arc::new(settings);
        let node = NodeFacts {
            id: storage.node_id,
            host: settings.advertise().map_or(host, |at| &at.host).to_owned(),
            port: settings.advertise().map_or(listen.port(), |at| at.port),
            cluster_id: storage.cluster_id.clone(),
            rack: settings.rack().map(str::to_owned),
        };
        let manifests = storage.dirs.iter_mut().map(|dir| std::mem::take(&mut dir.manifest)).collect();
        let shards = Shards::spawn(&settings, &node, &image, (&storage, manifests), clock, &mut prng);
        let mut broker =
            Broker { address: listen, epoch: BrokerEpoch::NONE, shards, storage, io, log, clock };
        match broker.begin(&settings, node, listen) {
            Ok(()) => Ok(broker),
            Err(error) => {
                broker.shards.abandon();
                broker.storage.release();
                Err(error)
            }
        }
    }

    /// Waits for the logs, listens, enters the metadata, accepts.
    fn begin(
        &mut self,
        settings: &Settings,
        mut node: NodeFacts,
        listen: SocketAddr,
    ) -> Result<(), StartError> {
        let mut largest_producer = ProducerId::NONE;
        self.shards.each(|_, report| match report {
            Report::Opened { largest_producer: found } => {
                largest_producer = largest_producer.max(found);
                Ok(())
            }
            other => Err(unexpected(other)),
        })?;
        if let Err(error) = self.storage.opened(&mut *self.io) {
            // As at every start on a full disk: what is stored is served. The next start recovers more.
            self.log.line(
                self.clock.now(),
                Level::Warn,
                format_args!("the metadata was not stored: {error}"),
            );
        }
        let mut address = listen;
        for shard in 0..self.shards.len() {
            self.shards.send(shard, Message::Listen { address, probe: shard == 0 });
            match self.shards.next_report()? {
                (_, Report::Listening(Ok(found))) => address = found,
                (_, Report::Listening(Err(error))) => return Err(StartError::Listen(address, error)),
                (_, other) => return Err(unexpected(other)),
            }
        }
        if settings.advertise().is_none_or(|at| at.port == 0) {
            node.port = address.port();
        }
        let clean: Vec<Option<BrokerEpoch>> = self.storage.dirs.iter().map(|dir| dir.clean_stop).collect();
        let same = clean.windows(2).all(|pair| pair[0] == pair[1]);
        let broker = highwater_control::Registration {
            id: node.id,
            host: node.host.clone(),
            port: node.port,
            rack: node.rack.clone(),
            directories: self.storage.dirs.iter().map(|dir| dir.id).collect(),
            previous_epoch: clean[0].filter(|_| same).unwrap_or(BrokerEpoch::NONE),
        };
        self.shards.send(0, Message::Register(Box::new(Registration { broker, largest_producer })));
        match self.shards.next_report()? {
            (_, Report::Registered(Ok(epoch))) => self.epoch = epoch,
            (_, Report::Registered(Err(why))) => return Err(StartError::Shard(why)),
            (_, other) => return Err(unexpected(other)),
        }
        let node = Arc::new(node);
        for shard in 0..self.shards.len() {
            self.shards.send(shard, Message::Accept(Arc::clone(&node)));
        }
        self.address = address;
        Ok(())
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data directories.
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        self.storage.dirs.iter().map(|dir| dir.path.clone()).collect()
    }

    /// What stops it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shards.reporter.clone())
    }

    /// Waits until it was stopped.
    ///
    /// # Errors
    /// Some partition could not be closed as it should; the directories are not marked as cleanly stopped.
    pub fn wait(mut self) -> Result<(), StopError> {
        let (mut offsets, mut logs) = (Vec::new(), Vec::new());
        let stopped = self.shards.stop(self.storage.dirs.len(), &mut offsets, &mut logs);
        let stopped = stopped.and_then(|()| self.mark_clean(&offsets, logs));
        let now = self.clock.now();
        match &stopped {
            Ok(()) => self.log.line(now, Level::Info, "stopped cleanly"),
            Err(error) => self.log.line(now, Level::Error, error),
        }
        self.storage.release();
        stopped
    }

    /// The last files of a clean stop; the marker comes after all else.
    fn mark_clean(
        &mut self,
        offsets: &[PartitionOffsets],
        mut logs: Vec<(usize, StoppedLog)>,
    ) -> Result<(), StopError> {
        let failed = |error: IoError| StopError(error.to_string());
        let given_back = self.storage.give_back(&mut *self.io, &self.shards.offline);
        given_back.map_err(|error| StopError(error.to_string()))?;
        for (at, dir) in self.storage.dirs.iter().enumerate() {
            if self.shards.offline.contains(&at) {
                continue;
            }
            let here = logs.extract_if(.., |(dir, _)| *dir == at).map(|(_, log)| log).collect();
            // Apache Kafka's directories are given back without anything of ours.
            if !self.storage.is_borrowed()
                && let Err(error) = Manifest::write(&mut *self.io, &dir.path, here)
            {
                let line = format_args!("{error}; the next start opens each log by itself");
                self.log.line(self.clock.now(), Level::Warn, line);
            }
            let files = CheckpointFiles::of(at, offsets, &self.storage.others(dir));
            for (path, bytes) in files.encode(&dir.path) {
                Replace::run(&mut *self.io, &path, bytes).map_err(failed)?;
            }
            let marker = encode_clean_shutdown(self.epoch.get()).into_bytes();
            Replace::run(&mut *self.io, &dir.path.join(CLEAN_SHUTDOWN), marker).map_err(failed)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("address", &self.address)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// The shards' threads and the lines to and from them.
struct Shards {
    threads: Vec<Thread<String>>,
    senders: Vec<highwater_runtime::Sender<Message>>,
    reports: Receiver<(ShardId, Report)>,
    reporter: Sender<(ShardId, Report)>,
    /// Data directories that have gone offline.
    offline: BTreeSet<usize>,
}

impl Shards {
    fn spawn(
        settings: &Arc<Settings>,
        node: &NodeFacts,
        image: &Arc<Image>,
        (storage, manifests): (&Storage, Vec<Manifest>),
        clock: Clock,
        prng: &mut Prng,
    ) -> Shards {
        let limits = Limits::PRODUCTION;
        let cores = allowed_cores();
        let count = match settings.shards() {
            // One core is left to the kernel's network, the disk's workers and whoever else is on the machine: on two cores
            // one shard produces and consumes as fast as two, with a lower latency, as no request crosses cores.
            0 => cores.len().saturating_sub(1).max(1),
            given => given,
        };
        let dirs = Arc::new(storage.dirs.iter().map(|dir| DirFacts::of(storage, dir)).collect::<Vec<_>>());
        let (broken, manifests) = (Arc::new(storage.broken.clone()), Arc::new(manifests));
        let (reporter, reports) = unbounded();
        let (senders, inboxes): (Vec<_>, Vec<Mailbox<Message>>) =
            (0..count).map(|_| mailbox(limits.mailbox)).unzip();
        let mut threads = Vec::with_capacity(count);
        for (at, inbox) in inboxes.into_iter().enumerate() {
            let id = at as ShardId;
            let parts = Parts {
                id,
                settings: Arc::clone(settings),
                node: node.clone(),
                image: Arc::clone(image),
                dirs: Arc::clone(&dirs),
                manifests: Arc::clone(&manifests),
                broken: Arc::clone(&broken),
                mail: Mail::new(id, senders.clone()),
                reports: reporter.clone(),
                seed: prng.next_u64(),
                limits,
            };
            let mut spec = Spec::new(format!("shard-{id}"));
            // More shards than cores: the system places them.
            if let Some(core) = cores.get(at).filter(|_| count <= cores.len()) {
                spec = spec.on_core(*core);
            }
            let reporter = reporter.clone();
            let choice = settings.io();
            threads.push(spawn(spec, clock, inbox, move |now| {
                let made = production(choice, limits.ring_entries)
                    .map_err(|error| error.to_string())
                    .and_then(|(mut io, _warned_already)| {
                        let shard = BrokerShard::open(parts, &mut *io, now)?;
                        Ok((io, shard))
                    });
                if let Err(why) = &made {
                    let _main_thread_gone = reporter.send((id, Report::Failed(format!("shard-{id}: {why}"))));
                }
                made
            }));
        }
        Shards { threads, senders, reports, reporter, offline: BTreeSet::new() }
    }

    fn len(&self) -> usize {
        self.senders.len()
    }

    /// Sends a message; waits while the mailbox is full.
    fn send(&self, shard: usize, message: Message) {
        let mut message = message;
        while let Err(Full(back)) = self.senders[shard].send(message) {
            message = back;
            let _waited = crossbeam_channel::after(Duration::from_millis(1)).recv();
        }
    }

    fn next_report(&mut self) -> Result<(ShardId, Report), StartError> {
        match self.reports.recv() {
            Ok((_, Report::Offline(dir))) => {
                self.offline.insert(dir);
                self.next_report()
            }
            Ok((_, Report::Failed(why))) => Err(StartError::Shard(why)),
            Ok((_, Report::StopAsked)) => Err(StartError::Shard("it was stopped while it started".into())),
            Ok(report) => Ok(report),
            Err(_) => Err(StartError::Shard("the shards are gone".into())),
        }
    }

    /// One report of each shard.
    fn each(
        &mut self,
        mut take: impl FnMut(ShardId, Report) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        for _ in 0..self.len() {
            let (shard, report) = self.next_report()?;
            take(shard, report)?;
        }
        Ok(())
    }

    /// Waits for somebody to ask for a stop, or for the last of the data directories to go offline, and stops.
    fn stop(
        &mut self,
        dirs: usize,
        offsets: &mut Vec<PartitionOffsets>,
        logs: &mut Vec<(usize, StoppedLog)>,
    ) -> Result<(), StopError> {
        let gone = |_| StopError("the shards are gone".into());
        while self.offline.len() < dirs {
            match self.reports.recv().map_err(gone)?.1 {
                Report::StopAsked => break,
                Report::Offline(dir) => _ = self.offline.insert(dir),
                _ => {}
            }
        }
        for shard in 0..self.len() {
            self.send(shard, Message::Stop);
        }
        let mut drained = 0;
        while drained < self.len() {
            match self.reports.recv().map_err(gone)?.1 {
                Report::Drained => drained += 1,
                Report::Offline(dir) => _ = self.offline.insert(dir),
                _ => {}
            }
        }
        for shard in 0..self.len() {
            self.send(shard, Message::CloseLogs);
        }
        let (mut stopped, mut unclean) = (0, Vec::new());
        while stopped < self.len() {
            if let (shard, Report::Stopped { offsets: mut found, logs: mut of_shard, clean }) =
                self.reports.recv().map_err(gone)?
            {
                stopped += 1;
                offsets.append(&mut found);
                logs.append(&mut of_shard);
                if !clean {
                    unclean.push(format!("shard-{shard} has partitions that failed"));
                }
            }
        }
        for thread in self.threads.drain(..) {
            match thread.join() {
                Exit::Stopped => {}
                Exit::Failed(why) | Exit::Panicked(why) => unclean.push(why),
            }
        }
        if self.offline.len() == dirs {
            unclean.push("no data directory is left".into());
        }
        if unclean.is_empty() { Ok(()) } else { Err(StopError(unclean.join("; "))) }
    }

    /// Ends the shards of a start that failed.
    fn abandon(&mut self) {
        for (shard, thread) in self.threads.iter().enumerate() {
            if !thread.is_finished() {
                self.send(shard, Message::Stop);
                self.send(shard, Message::CloseLogs);
            }
        }
        for thread in self.threads.drain(..) {
            let _reported_already = thread.join();
        }
    }
}

fn unexpected(report: Report) -> StartError {
    StartError::Shard(format!("a shard reported out of turn: {report:?}"))
}

/// The directory by its full name, as clients are told of it and name it (Kafka does so too). Without a current directory
/// it stays as it is, and using it says why.
fn absolute(dir: PathBuf) -> PathBuf {
    std::path::absolute(&dir).unwrap_or(dir)
}

/// A seed that no other start has: the system's, or else the time.
fn seed(io: &mut dyn Park, clock: Clock) -> u64 {
    let fallback = clock.now().wall.get() as u64;
    let open = Op::Open { path: "/dev/urandom".into(), how: OpenHow::Read, direct: false };
    let Ok(Outcome::Opened { file, .. }) = blocking::run(io, open) else { return fallback };
    let read = Op::Read { file, at: highwater_base::FilePos::ZERO, buffer: highwater_io::Buffer::new(4096) };
    let seed = match blocking::run(io, read) {
        Ok(Outcome::Read { buffer }) => {
            buffer.filled().first_chunk().map_or(fallback, |eight| u64::from_le_bytes(*eight))
        }
        _ => fallback,
    };
    let _closed_or_leaked_once = blocking::run(io, Op::Close { file });
    seed
}
