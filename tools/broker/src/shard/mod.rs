//! One shard of the broker: connections and partitions of one core.

mod checkpoints;
mod connections;
mod controller;
mod desk;
mod directories;
mod partitions;
mod requests;
mod stop;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use highwater_base::{Limits, Mono, Now, Prng};
use highwater_control::{BrokerState, Command, ControlError, Image};
use highwater_engine::Manifest;
use highwater_io::{Completion, Io, Park};
use highwater_runtime::{Housekeeping, Next, Shard, TaskId, Turn};

use crate::config::Settings;
use crate::ctx::NodeFacts;
use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::{Message, Registration, ReplyTo, Report, RequestKey, ShardId};
use crate::pending::Reply;
use crate::storage::CheckpointFiles;
use checkpoints::Checkpoints;
use connections::{CONNECTION_OWNERS, Front, FrontEvent};
use controller::Controller;
use desk::Desk;
use directories::{Directories, Verdict};
pub(crate) use partitions::DirFacts;
use partitions::Partitions;
use stop::Stopping;

/// Owners of completions.
const FRONT: u32 = 0;
const CONTROLLER: u32 = 1;
const CHECKPOINTS: u32 = 2;
const DIRECTORIES: u32 = 3;
/// The logs' begin here.
const FIRST_LOG: u32 = 16;

/// The request under which shard 0 changes the metadata for reasons of its own; no slot has this key.
const OWN_CHANGE: RequestKey = u64::MAX - 2;

/// The request under which a shard says where partitions that move will be; no slot has this key.
const MOVES: RequestKey = u64::MAX - 3;

/// The request under which shard 0 enters the broker into the metadata; no slot has this key.
const REGISTRATION: RequestKey = u64::MAX - 1;

/// What a shard is made of.
pub(crate) struct Parts {
    pub(crate) id: ShardId,
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: NodeFacts,
    pub(crate) image: Arc<Image>,
    pub(crate) dirs: Arc<Vec<DirFacts>>,
    /// What a clean stop knew of the logs in each of them, in their order.
    pub(crate) manifests: Arc<Vec<Manifest>>,
    /// Directories that were broken at the start.
    pub(crate) broken: Arc<Vec<PathBuf>>,
    pub(crate) mail: Mail,
    pub(crate) reports: Sender<(ShardId, Report)>,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
}

/// A shard.
pub(crate) struct BrokerShard {
    front: Front,
    desk: Desk,
    partitions: Partitions,
    controller: Option<Controller>,
    checkpoints: Option<Checkpoints>,
    directories: Option<Directories>,
    dirs: Arc<Vec<DirFacts>>,
    keeping: Housekeeping,
    checkpoint_task: TaskId,
    reports: Sender<(ShardId, Report)>,
    log: Log,
    /// The version of the image that was last reported as caught up with.
    caught: u64,
    registering: Option<Registering>,
    probing: Option<std::net::SocketAddr>,
    stopping: Stopping,
}

/// Commands of the registration that are not answered yet, and the incarnation once it is known.
struct Registering {
    commands: std::collections::VecDeque<Command>,
    broker: highwater_base::BrokerId,
    epoch: highwater_base::BrokerEpoch,
}

impl BrokerShard {
    /// Opens the shard's logs, waiting for the disk.
    pub(crate) fn open(parts: Parts, io: &mut dyn Park, now: Now) -> Result<BrokerShard, String> {
        let mut log = Log::new(format!("shard-{}", parts.id));
        let shards = parts.mail.shards().count();
        let partitions = Partitions::open(&parts, io, now, &mut log)?;
        let first = parts.id == 0;
        let paths: Vec<PathBuf> = parts.dirs.iter().map(|dir| dir.path.clone()).collect();
        let dirs: Vec<(PathBuf, CheckpointFiles)> =
            parts.dirs.iter().map(|dir| (dir.path.clone(), dir.others.clone())).collect();
        let mut keeping = Housekeeping::new();
        let every = parts.settings.high_watermark_checkpoint().min(parts.settings.offset_checkpoint());
        let checkpoint_task = keeping.every(every.max(Duration::from_millis(100)), now.mono);
        let opened = Report::Opened { largest_producer: partitions.largest_producer() };
        let _main_thread_gone = parts.reports.send((parts.id, opened));
        Ok(BrokerShard {
            front: Front::new(FRONT, &parts.settings, shards, &parts.limits),
            controller: first
                .then(|| Controller::new(CONTROLLER, &paths, Image::clone(&parts.image), shards)),
            directories: first.then(|| Directories::new(DIRECTORIES, paths, parts.broken)),
            checkpoints: first.then(|| Checkpoints::new(CHECKPOINTS, dirs)),
            dirs: parts.dirs,
            caught: parts.image.version(),
            desk: Desk::new(
                parts.settings,
                parts.node,
                parts.image,
                parts.mail,
                Prng::new(parts.seed),
                &parts.limits,
            ),
            partitions,
            keeping,
            checkpoint_task,
            reports: parts.reports,
            log,
            registering: None,
            probing: None,
            stopping: Stopping::No,
        })
    }

    fn me(&self) -> ShardId {
        self.desk.mail.me()
    }

    fn report(&self, report: Report) {
        let _main_thread_gone = self.reports.send((self.me(), report));
    }

    fn complete(&mut self, completion: Completion, now: Now, io: &mut dyn Io) {
        match completion.token.owner {
            owner if owner >= CONNECTION_OWNERS => {
                self.front.complete_connection(completion, now, &mut self.log, io);
            }
            FRONT => match self.front.complete(completion, now, &mut self.log, io) {
                FrontEvent::None => self.probed(io),
                FrontEvent::Listening(result) => self.listening(result, io),
            },
            CONTROLLER => {
                let controller = self.controller.as_mut().expect("only shard 0 stores the catalog");
                controller.complete(completion, now, &mut self.log, &mut self.desk.mail, io);
            }
            DIRECTORIES => {
                let directories = self.directories.as_mut().expect("only shard 0 probes directories");
                if let Some(verdict) = directories.complete(completion, &mut self.desk.mail, io) {
                    self.judge(verdict, now);
                }
            }
            CHECKPOINTS => {
                let checkpoints = self.checkpoints.as_mut().expect("only shard 0 writes checkpoints");
                checkpoints.complete(completion, now, &mut self.log, &mut self.desk.mail, io);
            }
            _ => self.partitions.complete(completion, now, io),
        }
    }

    fn listening(&mut self, result: Result<std::net::SocketAddr, highwater_io::IoError>, io: &mut dyn Io) {
        match (result, self.probing) {
            (Ok(address), Some(_)) => {
                // Nobody else listens here: give the address back, and take it in the way that shards share.
                self.probing = Some(address);
                self.front.close_listener(io);
            }
            (result, _) => {
                self.probing = None;
                self.report(Report::Listening(result));
            }
        }
    }

    /// The listener of the probe is closed.
    fn probed(&mut self, io: &mut dyn Io) {
        if let Some(address) = self.probing.filter(|_| !self.front.has_listener()) {
            self.probing = None;
            self.front.listen(address, true, io);
        }
    }

    fn deliver(&mut self, message: Message, now: Now, io: &mut dyn Io) {
        match message {
            Message::Call { to, partition, call } => self.partitions.call(to, partition, call, now),
            Message::Forget { call, partition } => self.partitions.forget(call, partition),
            Message::Reply { to, reply } => self.reply(to.request, to.index, Reply::Partition(reply), now),
            Message::Control { to, command } => {
                let controller = self.controller.as_mut().expect("commands are sent to shard 0");
                controller.command(to, *command);
            }
            Message::ControlReply { to, result } => {
                if to.request == OWN_CHANGE {
                    // One that was not stored is tried again by the next start.
                } else if to.request == MOVES {
                    let result = result.map(|_| ()).map_err(|error| error.to_string());
                    self.partitions.told_metadata(to.index, result, now, &mut self.log);
                } else if self.registering.is_some() && to.request == REGISTRATION {
                    self.registered(*result, now);
                } else if !self.desk.take_producer_ids(to, &result) {
                    self.reply(to.request, to.index, Reply::Control(*result), now);
                }
            }
            Message::Image(image) => {
                self.partitions.follow(&image, &self.desk.mail, now);
                self.desk.image = image;
            }
            Message::Caught { shard, version } => {
                let controller = self.controller.as_mut().expect("shards report to shard 0");
                controller.caught(shard, version);
            }
            Message::TellOffsets => {
                self.partitions.tell_failures(now, &mut self.log);
                let told = Message::Offsets(self.partitions.offsets());
                self.desk.mail.send(0, told);
            }
            Message::Offsets(offsets) => {
                let checkpoints = self.checkpoints.as_mut().expect("offsets are sent to shard 0");
                checkpoints.told(offsets, io);
            }
            Message::DescribeDirectories { to } => {
                let directories = self.directories.as_mut().expect("asked of shard 0");
                directories.describe(to, &mut self.desk.mail, io);
            }
            Message::Directories { to, dirs } => {
                self.reply(to.request, to.index, Reply::Directories(dirs), now);
            }
            Message::Suspect { dir } => {
                self.directories.as_mut().expect("told to shard 0").suspect(dir, io);
            }
            Message::Judged { dir, sound } => self.partitions.judged(dir, sound),
            Message::Listen { address, probe } => {
                self.probing = probe.then_some(address);
                self.front.listen(address, !probe, io);
            }
            Message::Register(registration) => self.register(*registration),
            Message::Accept(node) => {
                self.desk.node = node;
                self.front.open(io);
            }
            Message::Stop => self.stop(now, io),
            Message::CloseLogs => self.close_logs(now),
        }
    }

    /// Enters the broker into the metadata: each command once the one before is answered.
    fn register(&mut self, registration: Registration) {
        let broker = registration.broker.id;
        let mut commands = std::collections::VecDeque::from([Command::RegisterBroker(registration.broker)]);
        if registration.largest_producer.is_some() {
            commands.push_back(Command::ReserveProducerIds { up_to: registration.largest_producer });
        }
        if self.desk.image.borrowed().is_none() {
            commands.push_back(Command::RaiseLeaderEpochs { broker });
        }
        self.registering = Some(Registering { commands, broker, epoch: highwater_base::BrokerEpoch::NONE });
        self.next_of_registration();
    }

    fn next_of_registration(&mut self) {
        let Some(registering) = &mut self.registering else { return };
        match registering.commands.pop_front() {
            Some(command) => {
                let to = ReplyTo { shard: 0, request: REGISTRATION, index: 0 };
                self.desk.mail.send(0, Message::Control { to, command: Box::new(command) });
            }
            None => {
                let epoch = registering.epoch;
                self.registering = None;
                self.report(Report::Registered(Ok(epoch)));
            }
        }
    }

    fn registered(&mut self, result: Result<highwater_control::Applied, ControlError>, now: Now) {
        let Some(registering) = &mut self.registering else { return };
        match result {
            Ok(highwater_control::Applied::BrokerRegistered { epoch, .. }) => {
                registering.epoch = epoch;
                let broker = registering.broker;
                registering.commands.push_front(Command::UnfenceBroker { broker, epoch });
                self.next_of_registration();
            }
            Ok(_) => self.next_of_registration(),
            Err(error) => {
                let known = self.desk.image.broker(registering.broker);
                let result = match (&error, known) {
                    // A full disk must not keep what it holds from being read: the broker goes on as it was entered
                    // before, in the leader epochs that it had. It is the only one that appends to these logs.
                    (ControlError::NotStored { .. }, Some(known)) if known.state == BrokerState::Active => {
                        self.log.line(
                            now,
                            Level::Warn,
                            format_args!("{error}; serving with what was stored before"),
                        );
                        // No stored image follows: this one is what every shard's partitions are told.
                        for shard in self.desk.mail.shards() {
                            self.desk.mail.send(shard, Message::Image(Arc::clone(&self.desk.image)));
                        }
                        Ok(known.epoch)
                    }
                    _ => Err(error.to_string()),
                };
                self.registering = None;
                self.report(Report::Registered(result));
            }
        }
    }

    /// A probe of a data directory has ended.
    fn judge(&mut self, verdict: Verdict, now: Now) {
        let (dir, sound) = match verdict {
            Verdict::Sound(dir) => (dir, true),
            Verdict::Offline(dir, error) => {
                let line = format_args!(
                    "data directory {} is offline: {error}; its partitions answer KAFKA_STORAGE_ERROR, the others are \
                     served; repair it and start again",
                    self.dirs[dir].path.display()
                );
                self.log.line(now, Level::Error, line);
                self.report(Report::Offline(dir));
                let online = self.directories.iter().flat_map(Directories::online);
                let directories: Vec<_> = online.map(|at| self.dirs[at].id).collect();
                if let Some(controller) = &mut self.controller {
                    controller.give_up(dir);
                }
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.give_up(dir);
                }
                if !directories.is_empty() {
                    // New partitions go elsewhere.
                    let command =
                        Box::new(Command::SetDirectories { broker: self.desk.node.id, directories });
                    let to = ReplyTo { shard: 0, request: OWN_CHANGE, index: 0 };
                    self.desk.mail.send(0, Message::Control { to, command });
                }
                (dir, false)
            }
        };
        for shard in self.desk.mail.shards() {
            self.desk.mail.send(shard, Message::Judged { dir, sound });
        }
    }

    /// Everything that follows from what came, until nothing more does.
    fn settle_all(&mut self, now: Now, io: &mut dyn Io) {
        // Each round may send this shard messages, and messages make work for a round; a request causes a few of
        // both, so this ends soon. The bound is against a defect that would keep the turn from ending.
        for _ in 0..MAX_ROUNDS {
            while let Some(message) = self.desk.mail.next_own() {
                self.deliver(message, now, io);
            }
            for (request, index, reply) in std::mem::take(&mut self.desk.replies) {
                self.reply(request, index, reply, now);
            }
            self.partitions.step(now, io, &mut self.log);
            while let Some(dir) = self.partitions.poll_suspect() {
                self.desk.mail.send(0, Message::Suspect { dir });
            }
            while let Some((index, command)) = self.partitions.poll_move_command() {
                let to = ReplyTo { shard: self.me(), request: MOVES, index };
                self.desk.mail.send(0, Message::Control { to, command: Box::new(command) });
            }
            while let Some((to, reply)) = self.partitions.poll_reply() {
                if to.shard == self.me() {
                    self.reply(to.request, to.index, Reply::Partition(reply), now);
                } else {
                    self.desk.mail.send(to.shard, Message::Reply { to, reply });
                }
            }
            if let Some(version) = self.partitions.caught_up().filter(|version| *version > self.caught) {
                self.caught = version;
                let caught = Message::Caught { shard: self.me(), version };
                self.desk.mail.send(0, caught);
            }
            if let Some(controller) = &mut self.controller {
                controller.step(&mut self.desk.mail, io);
            }
            self.serve_connections(now, io);
            if !self.desk.mail.has_own() && self.desk.replies.is_empty() {
                return;
            }
        }
    }

    fn serve_connections(&mut self, now: Now, io: &mut dyn Io) {
        let short = self.front.is_short();
        self.drop_requests_of_ended();
        // Answers make their connection dirty again; stepping it a second time costs little.
        while self.front.has_dirty() {
            for key in self.front.take_dirty() {
                self.take_requests(key, now);
                self.front.step(key, io);
            }
        }
        self.front.resume(short);
    }

    fn keep_house(&mut self, now: Now) {
        if self.keeping.next_slice(now.mono) == Some(self.checkpoint_task)
            && self.stopping == Stopping::No
            && let Some(checkpoints) = &mut self.checkpoints
        {
            checkpoints.begin(&mut self.desk.mail);
        }
    }

    fn next(&mut self) -> Next {
        if self.desk.mail.flush() || self.desk.mail.has_own() || self.front.has_dirty() {
            return Next::Now;
        }
        let deadlines: [Option<Mono>; 6] = [
            self.partitions.next_deadline(),
            self.partitions.cleaner_deadline(),
            self.desk.deadlines.next_deadline(),
            self.front.next_deadline(),
            self.keeping.next_deadline(),
            self.stopping.deadline(),
        ];
        deadlines.into_iter().flatten().fold(Next::Idle, Next::sooner)
    }
}

const MAX_ROUNDS: usize = 64;

impl Shard for BrokerShard {
    type Message = Message;

    fn turn(&mut self, turn: &mut Turn<'_, Message>) -> Next {
        let now = turn.now;
        for completion in turn.completions.drain(..) {
            self.complete(completion, now, turn.io);
        }
        for message in turn.messages.drain(..) {
            self.deliver(message, now, turn.io);
        }
        self.front.expire(now, turn.io);
        self.expire_requests(now);
        self.keep_house(now);
        self.partitions.clean(now);
        self.settle_all(now, turn.io);
        if self.go_on_stopping(now, turn.io) {
            return Next::Stop;
        }
        self.next()
    }
}
