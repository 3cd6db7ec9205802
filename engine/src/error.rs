//! One error type per operation, divided by whose fault it is.

use std::fmt;
use std::path::PathBuf;

use highwater_base::{FilePos, LeaderEpoch, Offset, Uuid};
use highwater_io::IoError;

use crate::batch::BatchError;
use crate::producers::ProducerError;

/// Why a log is of no more use until it is opened again. Final: nothing is retried.
///
/// ```
/// use highwater_engine::LogFailure;
/// use highwater_io::IoError;
/// let failure = LogFailure { dir: "/data/a-0".into(), doing: "sync", error: IoError::from_errno(5, "sync", "x.log") };
/// assert!(failure.to_string().contains("/data/a-0"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFailure {
    /// The log's directory.
    pub dir: PathBuf,
    /// What the log was doing.
    pub doing: &'static str,
    /// What the system said.
    pub error: IoError,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log {} failed for good during {}: {}; what is on disk is no longer certain, so nothing more is \
             acknowledged; check the device and start again",
            self.dir.display(),
            self.doing,
            self.error
        )
    }
}

impl std::error::Error for LogFailure {}

/// Why a log takes no appends just now.
///
/// ```
/// assert_eq!(highwater_engine::Busy::Truncating.to_string(), "the log is being truncated");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Busy {
    /// Its directory and first segment are being made.
    Creating,
    /// It was opened without being read and is used for the first time: its last block is on its way.
    Waking,
    /// It is being cut or restarted.
    Truncating,
    /// Its copy in another data directory takes its place, which is soon over.
    Moving,
    /// It is closed or about to be.
    Closing,
    /// It is deleted or about to be.
    Deleting,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Busy::Creating => "the log is being created",
            Busy::Waking => "the log is being read for the first time",
            Busy::Truncating => "the log is being truncated",
            Busy::Moving => "the log goes over to another data directory",
            Busy::Closing => "the log is closed",
            Busy::Deleting => "the log is deleted",
        })
    }
}

/// Why nothing was appended. An append is all or nothing.
///
/// ```
/// use highwater_engine::AppendError;
/// let e = AppendError::Backpressure { staged: 70, limit: 64 };
/// assert!(e.to_string().contains("64"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AppendError {
    /// The peer's: the batch is not what it must be.
    Batch(BatchError),
    /// The peer's: its producer may not append it.
    Producer(ProducerError),
    /// The peer's: replicated batches do not follow this log's end.
    UnexpectedOffset {
        /// The log end offset.
        expected: Offset,
        /// The first offset that was offered.
        found: Offset,
    },
    /// The peer's: a batch carries an older leader epoch than the log's latest.
    StaleEpoch {
        /// The log's latest leader epoch.
        latest: LeaderEpoch,
        /// The batch's.
        found: LeaderEpoch,
    },
    /// The caller's: too much is staged and not yet written. Append again after [`crate::LogEvent::Written`].
    Backpressure {
        /// Bytes staged by this log, or by all of its shard.
        staged: usize,
        /// The limit, [`highwater_base::Limits::staged_bytes`] or [`highwater_base::Limits::shard_tail_bytes`].
        limit: usize,
    },
    /// The caller's: not in this state.
    Busy(Busy),
    /// The operator's: the device is full. Reads go on, and appends resume by themselves when space returns.
    NoSpace {
        /// The log's directory.
        dir: PathBuf,
        /// What the system said.
        error: IoError,
    },
    /// Ours or the device's: the log has failed for good.
    Failed(LogFailure),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Batch(error) => error.fmt(f),
            AppendError::Producer(error) => error.fmt(f),
            AppendError::UnexpectedOffset { expected, found } => {
                write!(f, "batches offered at offset {found}, expected {expected}, the log's end")
            }
            AppendError::StaleEpoch { latest, found } => {
                write!(f, "a batch of leader epoch {found} was offered after one of epoch {latest}")
            }
            AppendError::Backpressure { staged, limit } => {
                write!(
                    f,
                    "{staged} bytes wait for the disk, the limit is {limit}; append again when some are written"
                )
            }
            AppendError::Busy(busy) => write!(f, "no append: {busy}"),
            AppendError::NoSpace { dir, error } => {
                write!(
                    f,
                    "no space for log {}: {error}; free some, appends then resume by themselves",
                    dir.display()
                )
            }
            AppendError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}

impl From<BatchError> for AppendError {
    fn from(error: BatchError) -> AppendError {
        AppendError::Batch(error)
    }
}

impl From<ProducerError> for AppendError {
    fn from(error: ProducerError) -> AppendError {
        AppendError::Producer(error)
    }
}

/// Why nothing was read.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::ReadError;
/// let e = ReadError::OutOfRange { asked: Offset::new(9), log_start: Offset::ZERO, log_end: Offset::new(5) };
/// assert!(e.to_string().contains("0 to 5"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The caller's: no such offset (any more).
    OutOfRange {
        /// What was asked for.
        asked: Offset,
        /// The log start offset.
        log_start: Offset,
        /// The log end offset.
        log_end: Offset,
    },
    /// The caller's: more reads in flight than a log allows. Read again when one is done.
    Backpressure,
    /// The caller's: not in this state.
    Busy(Busy),
    /// The device's: these offsets are damaged on this disk. Others are served; a replica can repair it.
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        position: FilePos,
        /// The first damaged offset.
        from: Offset,
        /// The offset after the last damaged one.
        until: Offset,
    },
    /// The device's: a read failed.
    Io(IoError),
    /// Ours or the device's: the log has failed for good.
    Failed(LogFailure),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OutOfRange { asked, log_start, log_end } => {
                write!(
                    f,
                    "offset {asked} is out of range, the log holds {log_start} to {log_end} (exclusive)"
                )
            }
            ReadError::Backpressure => {
                f.write_str("too many reads of this log are in flight; read again when one is done")
            }
            ReadError::Busy(busy) => write!(f, "no read: {busy}"),
            ReadError::Damaged { file, position, from, until } => write!(
                f,
                "offsets {from} to {until} (exclusive) are damaged at byte {position} of {}; the rest is served; restore \
                 them from a replica",
                file.display()
            ),
            ReadError::Io(error) => error.fmt(f),
            ReadError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Why a log cannot be opened.
///
/// ```
/// use highwater_engine::OpenError;
/// let e = OpenError::Io(highwater_io::IoError::from_errno(2, "open", "/data/a-0"));
/// assert!(e.to_string().contains("/data/a-0"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The operator's: the system refused something.
    Io(IoError),
    /// The operator's: the directory belongs to another topic.
    TopicId {
        /// The directory.
        dir: PathBuf,
        /// The id the catalog gives this log.
        expected: Uuid,
        /// The id in its `partition.metadata`.
        found: Uuid,
    },
    /// The operator's: a file that we cannot do without is not what its name says.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The caller's: a setting outside its bounds.
    Setting(crate::SettingError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => error.fmt(f),
            OpenError::TopicId { dir, expected, found } => write!(
                f,
                "{} holds topic id {found}, expected {expected}: it belongs to another topic of this name; move it away",
                dir.display()
            ),
            OpenError::Unreadable { file, why } => {
                write!(f, "{}: {why}; restore it or move it away", file.display())
            }
            OpenError::Setting(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<IoError> for OpenError {
    fn from(error: IoError) -> OpenError {
        OpenError::Io(error)
    }
}
