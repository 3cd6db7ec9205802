//! A data directory: its partition directories, Kafka's checkpoint files and the marker of a clean stop. Blocking:
//! for starts and stops, and for threads of their own.

use std::path::{Path, PathBuf};

use highwater_base::{Offset, TopicPartition};
use highwater_io::{EntryKind, ErrorKind, IoError, Op, Outcome, Park, blocking};

use crate::checkpoint_file::{OffsetCheckpoint, encode_clean_shutdown, text_of};
use crate::layout::{self, PartitionDir, PartitionRole};
use crate::whole_file::{read_file, replace_file};
use crate::{ListedLog, Manifest, OpenHint, StoppedLog};

/// What a data directory held when it was opened. Its lock is the caller's: see [`highwater_io`].
///
/// ```
/// use highwater_engine::DataDirectory;
/// use highwater_io::MemoryIo;
/// let mut io = MemoryIo::new();
/// let directory = DataDirectory::open(&mut io, "/data".as_ref())?;
/// assert!(!directory.was_stopped_cleanly() && directory.partitions().is_empty());
/// directory.stopped_cleanly(&mut io, -1)?;
/// assert!(DataDirectory::open(&mut io, "/data".as_ref())?.was_stopped_cleanly());
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DataDirectory {
    path: PathBuf,
    clean: bool,
    log_starts: OffsetCheckpoint,
    recovery_points: OffsetCheckpoint,
    high_watermarks: OffsetCheckpoint,
    cleaner_offsets: OffsetCheckpoint,
    partitions: Vec<PartitionDir>,
    others: Vec<std::ffi::OsString>,
    manifest: Manifest,
    notes: Vec<String>,
}

/// A checkpoint file larger than this is not read: a million partitions fit.
const CHECKPOINT_BYTES: usize = 300 << 20;

impl DataDirectory {
    /// Makes the directory if it is missing, reads what it holds, and **removes the marker of a clean stop** and the
    /// manifest, durably, so that a crash from here on counts as one (KAFKA-10471). An unreadable checkpoint counts as empty, which costs
    /// a longer recovery, as in Kafka.
    pub fn open(io: &mut dyn Park, path: &Path) -> Result<DataDirectory, IoError> {
        make(io, path)?;
        let Outcome::Entries { entries } = blocking::run(io, Op::ReadDir { path: path.to_path_buf() })?
        else {
            return Err(IoError::of(ErrorKind::Other, "list", path.display().to_string()));
        };
        let (mut partitions, mut others) = (Vec::new(), Vec::new());
        for entry in entries {
            let parsed = entry
                .name
                .to_str()
                .filter(|_| entry.kind == EntryKind::Directory)
                .and_then(PartitionDir::parse);
            match parsed {
                Some(dir) if entry.name != layout::CLUSTER_METADATA => partitions.push(dir),
                _ => others.push(entry.name),
            }
        }
        partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        let clean = others.iter().any(|name| name == layout::CLEAN_SHUTDOWN);
        let mut directory = DataDirectory {
            path: path.to_path_buf(),
            clean,
            log_starts: OffsetCheckpoint::default(),
            recovery_points: OffsetCheckpoint::default(),
            high_watermarks: OffsetCheckpoint::default(),
            cleaner_offsets: OffsetCheckpoint::default(),
            partitions,
            others,
            manifest: Manifest::default(),
            notes: Vec::new(),
        };
        directory.log_starts = directory.read(io, layout::LOG_STARTS)?;
        directory.recovery_points = directory.read(io, layout::RECOVERY_POINTS)?;
        directory.high_watermarks = directory.read(io, layout::HIGH_WATERMARKS)?;
        directory.cleaner_offsets = directory.read(io, layout::CLEANER_OFFSETS)?;
        let listed = directory.others.iter().any(|name| name == layout::MANIFEST);
        if listed {
            let (manifest, ignored) = Manifest::load(io, path)?;
            directory.manifest = manifest;
            directory.notes.extend(ignored);
        }
        // Both are gone for good before anything that they speak of may change.
        for (there, name) in [(listed, layout::MANIFEST), (clean, layout::CLEAN_SHUTDOWN)] {
            if there {
                blocking::run(io, Op::Unlink { path: path.join(name) })?;
            }
        }
        if listed || clean {
            blocking::run(io, Op::SyncDir { path: path.to_path_buf() })?;
        }
        Ok(directory)
    }

    fn read(&self, io: &mut dyn Park, name: &str) -> Result<OffsetCheckpoint, IoError> {
        let text = read_file(io, &self.path.join(name), CHECKPOINT_BYTES)?;
        let text = text.as_deref().map(text_of);
        Ok(text.and_then(|text| OffsetCheckpoint::decode(text).ok()).unwrap_or_default())
    }

    /// What the manifest says of a partition's log, for [`crate::Log::open_listed`].
    pub fn listed(&self, partition: &TopicPartition) -> Option<ListedLog> {
        self.manifest.log(&partition.to_string())
    }

    /// Gives back the memory for what was found of its logs: they are open, and nothing more is asked about them.
    pub fn forget_logs(&mut self) {
        self.manifest = Manifest::default();
        (self.partitions, self.others) = (Vec::new(), Vec::new());
        self.log_starts = OffsetCheckpoint::default();
        self.recovery_points = OffsetCheckpoint::default();
        self.high_watermarks = OffsetCheckpoint::default();
        self.cleaner_offsets = OffsetCheckpoint::default();
    }

    /// What an operator should know of the directory: why its manifest was ignored, if it was.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last process to use it stopped cleanly.
    pub fn was_stopped_cleanly(&self) -> bool {
        self.clean
    }

    /// Its partition directories of every role, sorted by partition.
    pub fn partitions(&self) -> &[PartitionDir] {
        &self.partitions
    }

    /// Everything else in it, by name.
    pub fn others(&self) -> &[std::ffi::OsString] {
        &self.others
    }

    /// The high watermark that was last checkpointed for a partition.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.high_watermarks.offsets.get(partition).copied()
    }

    /// Where a partition's log is.
    pub fn log_dir(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(PartitionDir::current(partition.clone()).to_string())
    }

    /// What is known about a partition's log before it is opened. The topic's id is the caller's to add.
    pub fn hint(&self, partition: &TopicPartition) -> OpenHint {
        OpenHint {
            clean_stop: self.clean,
            log_start: self.log_starts.offsets.get(partition).copied(),
            recovery_point: self.recovery_points.offsets.get(partition).copied(),
            cleaned_to: self.cleaner_offsets.offsets.get(partition).copied(),
            topic_id: None,
            stale: false,
        }
    }

    /// The partitions in use, without those on their way out or in.
    pub fn current(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.iter().filter(|dir| dir.role == PartitionRole::Current).map(|dir| &dir.partition)
    }

    /// Replaces one of Kafka's checkpoint files ([`layout::LOG_STARTS`] and its sisters).
    pub fn write_checkpoint(
        &self,
        io: &mut dyn Park,
        name: &str,
        checkpoint: &OffsetCheckpoint,
    ) -> Result<(), IoError> {
        replace_file(io, &self.path.join(name), checkpoint.encode().into_bytes())
    }

    /// Writes the manifest of the logs that were stopped: before the marker. Without one the next start takes longer.
    pub fn write_manifest(&self, io: &mut dyn Park, logs: Vec<StoppedLog>) -> Result<(), IoError> {
        Manifest::write(io, &self.path, logs)
    }

    /// Leaves the marker of a clean stop: the last thing a process does here.
    pub fn stopped_cleanly(&self, io: &mut dyn Park, broker_epoch: i64) -> Result<(), IoError> {
        let text = encode_clean_shutdown(broker_epoch);
        replace_file(io, &self.path.join(layout::CLEAN_SHUTDOWN), text.into_bytes())
    }
}

/// Makes a directory and those above it that are missing, each durable in its parent.
pub(crate) fn make(io: &mut dyn Park, path: &Path) -> Result<(), IoError> {
    match blocking::run(io, Op::Stat { path: path.to_path_buf() }) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make(io, parent)?;
    }
    blocking::run(io, Op::CreateDir { path: path.to_path_buf() })?;
    blocking::run(io, Op::SyncDir { path: parent.unwrap_or(Path::new(".")).to_path_buf() })?;
    Ok(())
}
