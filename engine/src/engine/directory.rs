//! The directories of an engine: held by one process, placed in evenly, left clean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::{Offset, PartitionIndex, TopicPartition};
use highwater_io::{FileLock, LockError, Park};

use super::config::Storage;
use super::shard::{LogEnd, PlannedLog};
use super::{EngineConfig, EngineError};
use crate::checkpoint_file::OffsetCheckpoint;
use crate::layout::{self, PartitionDir, PartitionRole};
use crate::{DataDirectory, relocation};

/// The engine's directories and who may be in them.
#[derive(Debug)]
pub(super) struct Directories {
    all: Vec<Held>,
    storage: Storage,
}

#[derive(Debug)]
struct Held {
    directory: DataDirectory,
    /// How many logs it holds, for placement.
    logs: usize,
    /// Held for its drop.
    _lock: Option<FileLock>,
}

impl Directories {
    /// Locks each directory, reads what it holds, and lists the logs in all of them, and the directories that are to be
    /// removed.
    pub(super) fn open(
        config: &EngineConfig,
    ) -> Result<(Directories, Vec<PlannedLog>, Vec<PathBuf>), EngineError> {
        let mut io = config.storage.io(16)?;
        let mut all = Vec::new();
        for path in &config.directories {
            let lock = lock(&config.storage, &mut *io, path)?;
            let directory = DataDirectory::open(&mut *io, path)?;
            all.push(Held { directory, logs: 0, _lock: lock });
        }
        let settled = settle_moves(&mut *io, &all)?;
        let mut found: Vec<PlannedLog> = Vec::new();
        for (at, held) in all.iter_mut().enumerate() {
            let directory = &held.directory;
            let path: Arc<Path> = directory.path().into();
            let arrived = settled.arrived.iter().filter(|(to, _)| *to == at).map(|(_, partition)| partition);
            for partition in directory.current().chain(arrived).filter(|p| is_a_log(p)) {
                held.logs += 1;
                found.push(PlannedLog {
                    name: Arc::clone(&partition.topic),
                    directory: Arc::clone(&path),
                    hint: directory.hint(partition),
                    listed: directory.listed(partition),
                });
            }
            held.directory.forget_logs();
        }
        // Of two with one name, that in the first directory.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|later, first| later.name == first.name);
        Ok((Directories { all, storage: config.storage.clone() }, found, settled.discarded))
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.all.iter().map(|held| held.directory.path())
    }

    /// Where a new log goes: into the directory with the fewest.
    pub(super) fn place(&mut self, name: &str) -> Result<PathBuf, EngineError> {
        if !layout::is_topic_name(name) {
            return Err(EngineError::Name { found: name.to_owned() });
        }
        let held = self.all.iter_mut().min_by_key(|held| held.logs).ok_or(EngineError::Stopped)?;
        held.logs += 1;
        Ok(held.directory.path().join(directory_name(name)))
    }

    /// What an operator should know of them.
    pub(super) fn notes(&self) -> Vec<String> {
        self.all.iter().flat_map(|held| held.directory.notes().iter().cloned()).collect()
    }

    /// Writes the manifest, Kafka's checkpoints and the marker of a clean stop into each directory.
    pub(super) fn stopped_cleanly(&mut self, mut ends: Vec<LogEnd>) -> Result<(), EngineError> {
        let mut io = self.storage.io(16)?;
        for held in &self.all {
            let directory = &held.directory;
            let stopped = ends.iter_mut().filter(|end| end.dir.parent() == Some(directory.path()));
            let stopped = stopped.filter_map(|end| end.stopped.take()).collect();
            // Without one the next opening takes longer, and that is all.
            let _slower = directory.write_manifest(&mut *io, stopped);
            let ours = || ends.iter().filter(|end| end.dir.parent() == Some(directory.path()));
            let of = |offset: fn(&LogEnd) -> Offset| OffsetCheckpoint {
                offsets: ours().map(|end| (partition(&end.name), offset(end))).collect(),
            };
            directory.write_checkpoint(&mut *io, layout::LOG_STARTS, &of(|end| end.log_start))?;
            directory.write_checkpoint(&mut *io, layout::RECOVERY_POINTS, &of(|end| end.log_end))?;
            directory.write_checkpoint(&mut *io, layout::HIGH_WATERMARKS, &of(|end| end.log_end))?;
            let mut cleaned = of(|end| end.cleaned_to);
            cleaned.offsets.retain(|_, offset| offset.is_some());
            directory.write_checkpoint(&mut *io, layout::CLEANER_OFFSETS, &cleaned)?;
            directory.stopped_cleanly(&mut *io, -1)?;
        }
        Ok(())
    }
}

/// What became of moves that were cut short.
#[derive(Default)]
struct Settled {
    /// Logs that have arrived, each with the number of its directory.
    arrived: Vec<(usize, TopicPartition)>,
    /// Directories that are to be removed.
    discarded: Vec<PathBuf>,
}

/// Ends the moves that the end of the process cut short: all directories are here, so a complete copy without its log is
/// the log.
fn settle_moves(io: &mut dyn Park, all: &[Held]) -> Result<Settled, EngineError> {
    let mut settled = Settled::default();
    for (at, held) in all.iter().enumerate() {
        for found in held.directory.partitions().iter().filter(|found| is_a_log(&found.partition)) {
            let path = held.directory.path().join(found.to_string());
            match found.role {
                PartitionRole::Delete => settled.discarded.push(path),
                PartitionRole::Future
                    if all.iter().any(|held| held.directory.current().any(|p| *p == found.partition)) =>
                {
                    settled.discarded.push(relocation::discard(io, &path)?);
                }
                PartitionRole::Future if relocation::completed_move(io, &path)?.is_some() => {
                    relocation::finish_move(io, &path, all.iter().map(|held| held.directory.path()))?;
                    settled.arrived.push((at, found.partition.clone()));
                }
                PartitionRole::Future | PartitionRole::Current | PartitionRole::Stray => {}
            }
        }
    }
    Ok(settled)
}

/// Whether a partition is a log of an engine.
fn is_a_log(partition: &TopicPartition) -> bool {
    partition.partition == PartitionIndex::new(0)
}

/// The name of the directory of the log of this name.
pub(super) fn directory_name(name: &str) -> String {
    PartitionDir::current(partition(name)).to_string()
}

/// The partition that a log of this name is.
fn partition(name: &str) -> TopicPartition {
    TopicPartition::new(name, PartitionIndex::new(0))
}

/// Takes the directory for this process, as Apache Kafka does, so that neither opens what the other has.
fn lock(storage: &Storage, io: &mut dyn Park, path: &Path) -> Result<Option<FileLock>, EngineError> {
    if matches!(storage, Storage::Memory(_)) {
        return Ok(None);
    }
    crate::directory::make(io, path)?;
    match FileLock::acquire(&path.join(layout::LOCK)) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { pid }) => {
            Err(EngineError::Held { directory: path.to_path_buf(), process: pid })
        }
        Err(LockError::Io(error)) => Err(error.into()),
    }
}
