//! What a log has to say, in the order in which it happened.

use highwater_base::Offset;

use super::{Fetched, ReadId, TimestampOffset};
use crate::{LogFailure, ReadError};

/// Something happened to a log; taken with [`crate::Log::poll_event`].
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::LogEvent;
/// assert!(matches!(LogEvent::Synced(Offset::new(3)), LogEvent::Synced(end) if end.get() == 3));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogEvent {
    /// A created log is durably there and takes appends.
    Ready,
    /// Everything below this offset survives the end of this process.
    Written(Offset),
    /// Everything below this offset survives a power cut.
    Synced(Offset),
    /// A pending read is done.
    ReadDone {
        /// Which.
        id: ReadId,
        /// What it gave.
        result: Result<Fetched, ReadError>,
    },
    /// A pending lookup is done.
    LookupDone {
        /// Which.
        id: ReadId,
        /// What it gave.
        result: Result<Option<TimestampOffset>, ReadError>,
    },
    /// The log start offset has moved, by retention or by [`crate::Log::trim`].
    Trimmed {
        /// The log start offset now.
        log_start: Offset,
    },
    /// A truncation or a restart is durably done; the log takes appends again.
    Truncated {
        /// The log end offset now.
        log_end: Offset,
    },
    /// A pass of compaction is over, done or given up.
    Compacted {
        /// Everything below was compacted; [`Offset::NONE`] if nothing is known.
        cleaned_to: Offset,
    },
    /// A move to another data directory has copied all but a little: the owner is asked for [`crate::Log::finish_move`],
    /// or for [`crate::Log::cancel_move`].
    MoveCaughtUp,
    /// The log lies in another data directory now, and goes on there.
    Moved {
        /// The log's directory.
        dir: std::path::PathBuf,
    },
    /// A move was given up, for this reason; the log goes on where it is. What was copied is [`LogEvent::Discarded`].
    MoveFailed(highwater_io::IoError),
    /// A directory has the name of something to be removed, and is the owner's to remove: [`crate::Log::remove`].
    Discarded {
        /// Which.
        dir: std::path::PathBuf,
    },
    /// The device is full: what was appended and is not written waits, and appends are refused, until
    /// [`LogEvent::SpaceReturned`].
    NoSpace,
    /// The file system is at its low-water mark ([`crate::LogSettings::min_free_bytes`]): what was appended is written,
    /// and appends are refused until [`LogEvent::SpaceReturned`].
    LowSpace {
        /// Bytes free.
        free: u64,
        /// The mark.
        mark: u64,
    },
    /// Appends are taken again.
    SpaceReturned,
    /// A reader or the scrubber has come upon damage: [`ReadError::Damaged`] names the range, which is refused from now
    /// on while the rest is served; [`ReadError::Io`] is what the system said of bytes that the scrubber could not read.
    Damaged(ReadError),
    /// The log is closed: everything is durable and its files are as Apache Kafka expects them.
    Closed,
    /// The log's directory is renamed away and about to be removed; its name is free again.
    Deleted,
    /// The log's directory is gone.
    Removed,
    /// The log has failed for good.
    Failed(LogFailure),
}
