//! Many logs by name, in one or several directories, usable from any thread.

mod config;
mod directory;
mod error;
mod gate;
mod handle;
mod shard;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater_runtime::{Clock, Exit, Sender, Spec, Thread, mailbox, spawn};
use parking_lot::Mutex;

pub use config::EngineConfig;
pub use error::EngineError;
pub use handle::{LogFacts, LogHandle};

use self::directory::Directories;
use self::gate::Gate;
use self::shard::{EngineShard, Found, Message, OpenPlan};
use crate::{LogSettings, Ticket};

/// Durable logs by name, each a Kafka-format partition directory `<name>-0`. Handles may be cloned and used from
/// any thread; each log belongs to one shard, a thread of its own with a ring of its own.
///
/// ```
/// use highwater_engine::batch::BatchBuilder;
/// use highwater_engine::{Engine, EngineConfig};
/// use highwater_base::Offset;
/// # use highwater_io::MemoryDisk;
///
/// let config = EngineConfig::at("data"); // made if missing
/// # let config = config.in_memory(MemoryDisk::new());
/// let engine = Engine::open(config)?;
/// let orders = engine.log("orders")?;
/// let batch = BatchBuilder::new().record(1_700_000_000_000, Some(b"id-7"), Some(b"paid")).build();
/// let appended = orders.append(batch)?; // on stable storage, by default, when this returns
/// let read = orders.read(appended.first, 1 << 20)?;
/// assert_eq!(read.next, appended.end);
/// assert_eq!(orders.facts()?.end, Offset::new(1));
/// engine.close()?;
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    shards: Vec<ShardThread>,
    directories: Mutex<Directories>,
    names: Mutex<BTreeMap<String, LogHandle>>,
    settings: LogSettings,
    gate: Arc<Gate>,
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
        let clock = Clock::start();
        let (directories, found) = Directories::open(&config)?;
        let gate = Arc::new(Gate::new(config.settings.limits.mailbox / 2));
        let mut plans: Vec<OpenPlan> = (0..config.shards).map(|_| OpenPlan::default()).collect();
        for log in found {
            plans[shard_of(&log.name, config.shards)].logs.push(log);
        }
        let (mut shards, mut opening) = (Vec::new(), Vec::new());
        for (index, plan) in plans.into_iter().enumerate() {
            let (sender, inbox) = mailbox(config.settings.limits.mailbox);
            let (promise, opened) = Ticket::pair();
            let (settings, storage) = (config.settings, config.storage.clone());
            let thread = spawn(Spec::new(format!("highwater-{index}")), clock, inbox, move |now| {
                let mut io = storage.io(settings.limits.ring_entries)?;
                let (shard, found) = EngineShard::open(&mut *io, now, settings, plan)?;
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
            settings: config.settings,
            gate,
        };
        for (index, opened) in opening.into_iter().enumerate() {
            let Some(found) = opened.wait() else { return Err(engine.opening_failed()) };
            for Found { name, owner } in found {
                let handle = engine.handle(&name, index, owner);
                engine.names.get_mut().insert(name, handle);
            }
        }
        Ok(engine)
    }

    /// The log of this name, made if there is none, with the engine's settings. Names are Kafka's topic names:
    /// up to 249 characters of `a-z A-Z 0-9 . _ -`.
    pub fn log(&self, name: &str) -> Result<LogHandle, EngineError> {
        self.log_with(name, self.settings)
    }

    /// The log of this name, made if there is none, with settings of its own from now on. They are not stored:
    /// give them again after the next [`Engine::open`].
    pub fn log_with(&self, name: &str, settings: LogSettings) -> Result<LogHandle, EngineError> {
        settings.check().map_err(EngineError::Setting)?;
        let known = self.names.lock().get(name).cloned();
        if let Some(handle) = known {
            if settings != self.settings {
                handle.update_settings(settings)?;
            }
            return Ok(handle);
        }
        let dir = self.directories.lock().place(name)?;
        let shard = shard_of(name, self.shards.len());
        let (promise, created) = Ticket::pair();
        let message =
            Message::Create { name: name.to_owned(), dir, settings: Box::new(settings), reply: promise };
        self.shards[shard].sender.send(message).map_err(|_| EngineError::Overloaded)?;
        let owner = created.wait().ok_or(EngineError::Stopped)??;
        let handle = self.handle(name, shard, owner);
        Ok(self.names.lock().entry(name.to_owned()).or_insert(handle).clone())
    }

    /// The names of all logs, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.lock().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Deletes a log. Its name is free when this returns; its files go bit by bit afterwards.
    pub fn delete(&self, name: &str) -> Result<(), EngineError> {
        let Some(handle) = self.names.lock().remove(name) else {
            return Err(EngineError::NoSuchLog { name: name.to_owned() });
        };
        handle.delete()
    }

    /// Makes everything durable, leaves the directories as Apache Kafka expects them, and ends the threads.
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
        self.directories.get_mut().stopped_cleanly(&ends)
    }

    /// The directories that hold the logs.
    pub fn directories(&self) -> Vec<std::path::PathBuf> {
        self.directories.lock().paths().map(Path::to_path_buf).collect()
    }

    fn handle(&self, name: &str, shard: usize, owner: u32) -> LogHandle {
        LogHandle::new(name, owner, self.shards[shard].sender.clone(), Arc::clone(&self.gate))
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
