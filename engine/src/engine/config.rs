//! How an engine is opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_io::{IoChoice, MemoryDisk, MemoryIo, Park, production};

use super::EngineError;
use super::notice::{Listener, Notice};
use crate::{CleanerSettings, LogSettings};

/// Directories, shards, and the settings that logs get unless they bring their own.
///
/// ```
/// use highwater_engine::{Durability, EngineConfig, LogSettings};
/// let config = EngineConfig::at("data")
///     .shards(2)
///     .settings(LogSettings { durability: Durability::Os, ..LogSettings::default() });
/// assert!(format!("{config:?}").contains("data"));
/// ```
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub(super) directories: Vec<PathBuf>,
    pub(super) shards: usize,
    pub(super) settings: LogSettings,
    /// Settings of single logs, by name.
    pub(super) own_settings: BTreeMap<String, LogSettings>,
    pub(super) cleaner: CleanerSettings,
    pub(super) listener: Listener,
    pub(super) storage: Storage,
}

/// What lies below the I/O seam.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    /// Files of this machine.
    Files(IoChoice),
    /// Memory, for an embedder's own tests.
    Memory(MemoryDisk),
}

impl EngineConfig {
    /// One directory, made if missing; one shard; default settings.
    pub fn at(directory: impl AsRef<Path>) -> EngineConfig {
        EngineConfig {
            directories: vec![directory.as_ref().to_path_buf()],
            shards: 1,
            settings: LogSettings::default(),
            own_settings: BTreeMap::new(),
            cleaner: CleanerSettings::default(),
            listener: Listener::default(),
            storage: Storage::Files(IoChoice::Auto),
        }
    }

    /// One more directory; a new log goes to the one with the fewest.
    #[must_use]
    pub fn also_at(mut self, directory: impl AsRef<Path>) -> EngineConfig {
        self.directories.push(directory.as_ref().to_path_buf());
        self
    }

    /// So many shards, 1 to 1,024, each a thread. Default 1.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> EngineConfig {
        self.shards = shards;
        self
    }

    /// The settings of logs that bring none. Default [`LogSettings::default`].
    #[must_use]
    pub fn settings(mut self, settings: LogSettings) -> EngineConfig {
        self.settings = settings;
        self
    }

    /// The settings of the log of this name, from its opening or making on. Settings are not stored: who gives a
    /// log its own only later, with [`Engine::log_with`](crate::Engine::log_with), has it opened, and perhaps its old
    /// segments dropped, by the engine's.
    #[must_use]
    pub fn log_settings(mut self, name: impl Into<String>, settings: LogSettings) -> EngineConfig {
        self.own_settings.insert(name.into(), settings);
        self
    }

    /// What compaction may take, of all shards together: memory for keys and bytes a second are shared out evenly. Logs
    /// whose settings ask for it are compacted one at a time a shard. Default [`CleanerSettings::default`].
    #[must_use]
    pub fn cleaner(mut self, cleaner: CleanerSettings) -> EngineConfig {
        self.cleaner = cleaner;
        self
    }

    /// Who is told what happens to the logs: their names, and the [`Notice`]s of each in order. An append's notice comes
    /// before its answer. The listener is called on the engine's threads: it must neither block nor panic, nor wait
    /// for an answer of this engine. Default nobody.
    #[must_use]
    pub fn listener(mut self, told: impl Fn(&str, &Notice) + Send + Sync + 'static) -> EngineConfig {
        self.listener = Listener::new(told);
        self
    }

    /// io_uring, plain calls, or (the default) whichever works here.
    #[must_use]
    pub fn io(mut self, choice: IoChoice) -> EngineConfig {
        self.storage = Storage::Files(choice);
        self
    }

    /// Everything in memory: for tests. Two engines on clones of one disk see the same files.
    #[must_use]
    pub fn in_memory(mut self, disk: MemoryDisk) -> EngineConfig {
        self.storage = Storage::Memory(disk);
        self
    }

    /// What compaction may take of one shard.
    pub(super) fn cleaner_of_shard(&self) -> CleanerSettings {
        let CleanerSettings { memory_bytes, bytes_per_second, .. } = self.cleaner;
        CleanerSettings {
            memory_bytes: memory_bytes / self.shards,
            bytes_per_second: match bytes_per_second {
                u64::MAX => u64::MAX,
                rate => (rate / self.shards as u64).max(1),
            },
            ..self.cleaner
        }
    }

    /// The settings of the log of this name.
    pub(super) fn settings_of(&self, name: &str) -> LogSettings {
        self.own_settings.get(name).copied().unwrap_or(self.settings)
    }

    pub(super) fn check(&self) -> Result<(), EngineError> {
        for settings in self.own_settings.values().chain([&self.settings]) {
            settings.check().map_err(EngineError::Setting)?;
        }
        if !(1..=1024).contains(&self.shards) {
            let error =
                crate::SettingError { setting: "shards", found: self.shards as u64, min: 1, max: 1024 };
            return Err(EngineError::Setting(error));
        }
        Ok(())
    }
}

impl Storage {
    /// An `Io` for one thread.
    pub(super) fn io(&self, ring_entries: u32) -> Result<Box<dyn Park>, EngineError> {
        match self {
            Storage::Files(choice) => {
                let (io, _slower_but_right) = production(*choice, ring_entries)?;
                Ok(io)
            }
            Storage::Memory(disk) => Ok(Box::new(MemoryIo::on(disk.clone()))),
        }
    }
}
