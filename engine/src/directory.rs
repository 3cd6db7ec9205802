//! A data directory: its partition directories, Kafka's checkpoint files and the marker of a clean stop. Blocking:
//! for starts and stops, and for threads of their own.

use std::path::{Path, PathBuf};

use highwater_base::{FilePos, Offset, TopicPartition};
use highwater_io::{Buffer, EntryKind, ErrorKind, IoError, Op, OpenHow, Outcome, Park, Slice, blocking};

use crate::OpenHint;
use crate::checkpoint_file::{OffsetCheckpoint, encode_clean_shutdown, text_of};
use crate::layout::{self, PartitionDir, PartitionRole};

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
}

/// A checkpoint file larger than this is not read: a million partitions fit.
const CHECKPOINT_BYTES: usize = 300 << 20;

impl DataDirectory {
    /// Makes the directory if it is missing, reads what it holds, and **removes the marker of a clean stop**, durably,
    /// so that a crash from here on counts as one (KAFKA-10471). An unreadable checkpoint counts as empty, which costs
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
        };
        directory.log_starts = directory.read(io, layout::LOG_STARTS)?;
        directory.recovery_points = directory.read(io, layout::RECOVERY_POINTS)?;
        directory.high_watermarks = directory.read(io, layout::HIGH_WATERMARKS)?;
        directory.cleaner_offsets = directory.read(io, layout::CLEANER_OFFSETS)?;
        if clean {
            blocking::run(io, Op::Unlink { path: path.join(layout::CLEAN_SHUTDOWN) })?;
            blocking::run(io, Op::SyncDir { path: path.to_path_buf() })?;
        }
        Ok(directory)
    }

    fn read(&self, io: &mut dyn Park, name: &str) -> Result<OffsetCheckpoint, IoError> {
        let text = read_file(io, &self.path.join(name), CHECKPOINT_BYTES)?;
        let text = text.as_deref().map(text_of);
        Ok(text.and_then(|text| OffsetCheckpoint::decode(text).ok()).unwrap_or_default())
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

/// A whole file, or `None` if it is not there. A file above `limit` bytes is an error, and is not read.
///
/// ```
/// use highwater_io::MemoryIo;
/// assert_eq!(highwater_engine::read_file(&mut MemoryIo::new(), "/missing".as_ref(), 100)?, None);
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn read_file(io: &mut dyn Park, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, IoError> {
    let open = Op::Open { path: path.to_path_buf(), how: OpenHow::Read, direct: false };
    let (file, len) = match blocking::run(io, open) {
        Ok(Outcome::Opened { file, len, .. }) => (file, len),
        Ok(_) => return Ok(None),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let result = if len > limit as u64 {
        Err(IoError::of(ErrorKind::Other, "read (larger than it can be)", path.display().to_string()))
    } else {
        loop {
            let at = FilePos::new(bytes.len() as u64);
            match blocking::run(io, Op::Read { file, at, buffer: Buffer::new(64 << 10) }) {
                Ok(Outcome::Read { buffer }) if !buffer.is_empty() => {
                    bytes.extend_from_slice(buffer.filled())
                }
                Ok(_) => break Ok(Some(bytes)),
                Err(error) => break Err(error),
            }
        }
    };
    blocking::run(io, Op::Close { file })?;
    result
}

/// Replaces a whole file by `.tmp`, sync, rename and a sync of the directory: after a crash it is old or new.
///
/// ```
/// use highwater_io::MemoryIo;
/// let mut io = MemoryIo::new();
/// highwater_engine::replace_file(&mut io, "/a".as_ref(), b"new".to_vec())?;
/// assert_eq!(highwater_engine::read_file(&mut io, "/a".as_ref(), 100)?.unwrap(), b"new");
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn replace_file(io: &mut dyn Park, path: &Path, bytes: Vec<u8>) -> Result<(), IoError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(layout::TMP);
    let temporary = PathBuf::from(temporary);
    let open = Op::Open { path: temporary.clone(), how: OpenHow::CreateOrEmpty, direct: false };
    let Outcome::Opened { file, .. } = blocking::run(io, open)? else {
        return Err(IoError::of(ErrorKind::Other, "open", temporary.display().to_string()));
    };
    let data = Slice::from(bytes);
    let mut done = 0;
    let written = loop {
        if done == data.len() {
            break blocking::run(io, Op::Sync { file, data_only: false, urgent: false }).map(|_| ());
        }
        let rest = data.range(done..data.len());
        match blocking::run(io, Op::Write { file, at: FilePos::new(done as u64), data: rest, durable: false })
        {
            Ok(Outcome::Wrote { len }) => done += len,
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    blocking::run(io, Op::Close { file })?;
    written?;
    blocking::run(io, Op::Rename { from: temporary, to: path.to_path_buf() })?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    blocking::run(io, Op::SyncDir { path: parent.to_path_buf() })?;
    Ok(())
}
