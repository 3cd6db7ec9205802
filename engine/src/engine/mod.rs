//! Many logs by name, in one or several directories, usable from any thread.

mod config;
mod directory;
mod error;
mod follower;
mod gate;
mod handle;
mod metrics;
mod moving;
mod notice;
mod records;
mod served;
mod shard;
mod waiting;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater_runtime::{Clock, Exit, Sender, Spec, Thread, mailbox, spawn};
use parking_lot::Mutex;

pub use config::EngineConfig;
pub use error::EngineError;
pub use follower::Follower;
pub use handle::LogHandle;
pub use metrics::{EngineMetrics, LogFacts, LogMetrics};
pub use notice::Notice;
pub use records::{NewRecord, StoredRecord};

use self::directory::Directories;
use self::handle::Ways;
use self::shard::{EngineShard, Found, Message, OpenPlan};
use crate::{LogSettings, RecoveryReport, Ticket};

/// Durable logs by name, each a Kafka-format partition directory `<name>-0`. Handles may be cloned and used from
/// any thread; each log belongs to one shard, a thread of its own with a ring of its own.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, NewRecord, Offset};
/// # use highwater_engine::MemoryDisk;
///
/// let config = EngineConfig::at("data"); // made if missing
/// # let config = config.in_memory(MemoryDisk::new());
/// let engine = Engine::open(config)?;
/// let orders = engine.log("orders")?;
/// // On stable storage, by default, when this returns.
/// let appended = orders.append_records([NewRecord::new().key("id-7").value("paid")])?;
/// assert_eq!(orders.records(appended.first, 1 << 20)?[0].value(), b"paid");
/// assert_eq!(orders.facts()?.end, Offset::new(1));
/// engine.close()?;
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    shards: Vec<ShardThread>,
    directories: Mutex<Directories>,
    names: Mutex<BTreeMap<Arc<str>, Owner>>,
    config: Arc<EngineConfig>,
    ways: Arc<Ways>,
    recovered: BTreeMap<String, RecoveryReport>,
}

/// Which log it is: its shard, and its number there.
#[derive(Clone, Copy, Debug)]
struct Owner {
    shard: u32,
    number: u32,
}

#[derive(Debug)]
struct ShardThread {
    sender: Sender<Message>,
    thread: Thread<EngineError>,
}

impl Engine {
    /// Opens every log in the configured directories, recovering what a crash left behind. Blocks until all
    /// logs are whole. A directory that another process holds is refused, with that process's id.
    pub fn open(config: EngineConfig) -> Result<Engine, EngineError> {
        config.check()?;
        let config = Arc::new(config);
        let clock = Clock::start();
        let (directories, found, discarded) = Directories::open(&config)?;
        let recycle_space = crate::RecycleSpace::default();
        let mut plans: Vec<OpenPlan> = (0..config.shards)
            .map(|_| OpenPlan {
                recycle_space: recycle_space.clone(),
                tail_bytes: config.settings.limits.shard_tail_bytes,
                ..OpenPlan::default()
            })
            .collect();
        for log in found {
            plans[shard_of(&log.name, config.shards)].logs.push(log);
        }
        plans[0].discarded = discarded;
        let (mut shards, mut opening) = (Vec::new(), Vec::new());
        for (index, plan) in plans.into_iter().enumerate() {
            let (sender, inbox) = mailbox(config.settings.limits.mailbox);
            let (promise, opened) = Ticket::pair();
            let config = Arc::clone(&config);
            let thread = spawn(Spec::new(format!("highwater-{index}")), clock, inbox, move |now| {
                let mut io = config.storage.io(config.settings.limits.ring_entries)?;
                let (shard, found) = EngineShard::open(&mut *io, now, &config, plan)?;
                promise.fulfil(found);
                Ok((io, shard))
            });
            shards.push(ShardThread { sender, thread });
            opening.push(opened);
        }
        let mut engine = Engine {
            shards,
            directories: Mutex::new(directories),
            names: Mutex::new(BTreeMap::new()),
            ways: Arc::new(Ways::new(&config.settings.limits, clock)),
            config,
            recovered: BTreeMap::new(),
        };
        for (shard, opened) in opening.into_iter().enumerate() {
            let Some(found) = opened.wait() else { return Err(engine.opening_failed()) };
            let shard = shard as u32;
            // Sorted, and put in at once, so that the map takes no more room than it needs.
            let names = found.into_iter().map(|Found { name, owner, report }| {
                engine.recovered.extend(report.map(|report| (name.to_string(), *report)));
                (name, Owner { shard, number: owner })
            });
            engine.names.get_mut().append(&mut names.collect());
        }
        // What was read to find them.
        highwater_io::give_back_free_memory();
        Ok(engine)
    }

    /// The log of this name, made if there is none, with its settings of [`EngineConfig::log_settings`] or else the
    /// engine's. Names are Kafka's topic names: up to 249 characters of `a-z A-Z 0-9 . _ -`.
    pub fn log(&self, name: &str) -> Result<LogHandle, EngineError> {
        match self.known(name) {
            Some(handle) => Ok(handle),
            None => self.create(name, self.config.settings_of(name)),
        }
    }

    /// The log of this name, made if there is none, with settings of its own from now on ([`LogSettings::limits`] and
    /// [`LogSettings::direct`] only if it is made). They are not stored: name them in [`EngineConfig::log_settings`]
    /// at the next [`Engine::open`].
    pub fn log_with(&self, name: &str, settings: LogSettings) -> Result<LogHandle, EngineError> {
        settings.check().map_err(EngineError::Setting)?;
        let handle = match self.known(name) {
            Some(handle) => handle,
            None => self.create(name, settings)?,
        };
        handle.update_settings(settings)?;
        Ok(handle)
    }

    fn known(&self, name: &str) -> Option<LogHandle> {
        let names = self.names.lock();
        names.get_key_value(name).map(|(name, owner)| self.handle(name, *owner))
    }

    /// Makes a log, unless another thread was quicker.
    fn create(&self, name: &str, settings: LogSettings) -> Result<LogHandle, EngineError> {
        // Held until the log is there: logs are made one at a time, so no directory is ever made twice.
        let mut directories = self.directories.lock();
        if let Some(handle) = self.known(name) {
            return Ok(handle);
        }
        let dir = directories.place(name)?;
        let shard = shard_of(name, self.shards.len());
        let (promise, created) = Ticket::pair();
        let name: Arc<str> = name.into();
        let settings = Box::new(settings);
        let message = Message::Create { name: Arc::clone(&name), dir, settings, reply: promise };
        self.shards[shard].sender.send(message).map_err(|_| EngineError::Overloaded)?;
        let number = created.wait().ok_or(EngineError::Stopped)??;
        let owner = Owner { shard: shard as u32, number };
        let handle = self.handle(&name, owner);
        self.names.lock().insert(name, owner);
        Ok(handle)
    }

    /// What opening each log found and did, by name; nothing of logs that were made since, or were opened by the manifest
    /// of a clean stop, of which nothing is read.
    pub fn recovered(&self) -> &BTreeMap<String, RecoveryReport> {
        &self.recovered
    }

    /// What an operator should know of the data directories since they were opened: a line for each manifest that is
    /// damaged and was ignored, which only made the opening slower.
    pub fn notes(&self) -> Vec<String> {
        self.directories.lock().notes()
    }

    /// The engine's figures, all logs together.
    pub fn metrics(&self) -> Result<EngineMetrics, EngineError> {
        let mut asked = Vec::new();
        for shard in &self.shards {
            let (promise, answer) = Ticket::pair();
            let message = Message::Metrics { reply: promise };
            shard.sender.send(message).map_err(|_| EngineError::Overloaded)?;
            asked.push(answer);
        }
        let mut metrics = EngineMetrics::default();
        for answer in asked {
            let of_shard = answer.wait().ok_or(EngineError::Stopped)?;
            metrics.logs += of_shard.logs;
            metrics.total.add(&of_shard.total);
        }
        self.ways.measure(&mut metrics);
        Ok(metrics)
    }

    /// The names of all logs, sorted.
    pub fn names(&self) -> Vec<String> {
        self.names.lock().keys().map(|name| name.to_string()).collect()
    }

    /// Deletes a log. Its name is free when this returns; its files go bit by bit afterwards.
    pub fn delete(&self, name: &str) -> Result<(), EngineError> {
        // Held until the name is free, so that nobody makes it anew before.
        let _no_log_is_made = self.directories.lock();
        let Some((name, owner)) = self.names.lock().remove_entry(name) else {
            return Err(EngineError::NoSuchLog { name: name.to_owned() });
        };
        self.handle(&name, owner).delete()
    }

    /// Moves a log to another of the engine's directories while it serves: its segments are copied, at most so many bytes a
    /// second (`u64::MAX`: no limit), and when little is missing appends wait for a moment and the copy takes its place.
    /// The ticket is answered then, or with the reason why the log stays where it is. Whatever ends the process, exactly
    /// one of the two is the log at the next [`Engine::open`] of these directories, with everything acknowledged in it.
    /// What was copied for a move that was not over is removed then; ask again.
    ///
    /// Another move of the same log takes the place of one under way; one to where the log is ends it.
    ///
    /// ```
    /// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord};
    /// let config = EngineConfig::at("/disk-1").also_at("/disk-2").in_memory(MemoryDisk::new());
    /// let engine = Engine::open(config)?;
    /// let orders = engine.log("orders")?;
    /// orders.append_records([NewRecord::new().value("paid")])?;
    /// engine.move_log("orders", "/disk-2", 32 << 20)?.result()?;
    /// assert_eq!(orders.directory()?, std::path::Path::new("/disk-2/orders-0"));
    /// # Ok::<(), highwater_engine::EngineError>(())
    /// ```
    pub fn move_log(
        &self,
        name: &str,
        directory: impl AsRef<Path>,
        bytes_per_second: u64,
    ) -> Result<Ticket<Result<(), EngineError>>, EngineError> {
        let handle = self.known(name).ok_or_else(|| EngineError::NoSuchLog { name: name.to_owned() })?;
        let directory = directory.as_ref();
        if self.directories.lock().paths().all(|path| path != directory) {
            return Err(EngineError::NoSuchDirectory { directory: directory.to_path_buf() });
        }
        Ok(handle.move_to(directory.to_path_buf(), bytes_per_second))
    }

    /// Makes everything durable, leaves the directories as Apache Kafka expects them, and ends the threads. Fails if a log
    /// has failed: nothing is marked as stopped in order then, and the next opening looks at more.
    /// Dropping an engine without this is like a crash: nothing acknowledged is lost, the next open has more to do.
    pub fn close(mut self) -> Result<(), EngineError> {
        let mut stopping = Vec::new();
        for shard in &self.shards {
            let (promise, stopped) = Ticket::pair();
            shard.sender.send(Message::Stop { reply: promise }).map_err(|_| EngineError::Overloaded)?;
            stopping.push(stopped);
        }
        let mut ends = Vec::new();
        for stopped in stopping {
            ends.extend(stopped.wait().ok_or(EngineError::Stopped)??);
        }
        for shard in std::mem::take(&mut self.shards) {
            finished(shard.thread.join())?;
        }
        self.directories.get_mut().stopped_cleanly(ends)
    }

    /// The directories that hold the logs.
    pub fn directories(&self) -> Vec<std::path::PathBuf> {
        self.directories.lock().paths().map(Path::to_path_buf).collect()
    }

    fn handle(&self, name: &Arc<str>, owner: Owner) -> LogHandle {
        let shard = self.shards[owner.shard as usize].sender.clone();
        LogHandle::new(Arc::clone(name), owner.number, shard, Arc::clone(&self.ways))
    }

    /// One shard could not open its logs: end the others and find out why.
    fn opening_failed(&mut self) -> EngineError {
        let mut why = EngineError::Stopped;
        for shard in std::mem::take(&mut self.shards) {
            let (promise, _stopped) = Ticket::pair();
            let _full_only_if_dead = shard.sender.send(Message::Abandon { reply: promise });
            if let Err(error) = finished(shard.thread.join()) {
                why = error;
            }
        }
        why
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for shard in std::mem::take(&mut self.shards) {
            let (promise, _stopped) = Ticket::pair();
            if shard.sender.send(Message::Abandon { reply: promise }).is_ok() {
                let _reported_by_close_only = shard.thread.join();
            }
        }
    }
}

fn finished(exit: Exit<EngineError>) -> Result<(), EngineError> {
    match exit {
        Exit::Stopped => Ok(()),
        Exit::Failed(error) => Err(error),
        Exit::Panicked(_) => Err(EngineError::Stopped),
    }
}

/// Which shard a log belongs to: stable for a given number of shards (FNV-1a of its name).
fn shard_of(name: &str, shards: usize) -> usize {
    let mut hash = highwater_base::TraceHash::default();
    hash.bytes(name.as_bytes());
    (hash.value() % shards as u64) as usize
}
