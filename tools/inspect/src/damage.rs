//! What is wrong, and where.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use highwater_base::Offset;
use highwater_control::CatalogError;
use highwater_engine::Verdict;
use highwater_engine::batch::{BatchError, FrameError, LegacyError};
use highwater_engine::checkpoint_file::TextError;
use highwater_engine::epochs::EpochError;
use highwater_engine::index::IndexError;
use highwater_engine::producers::SnapshotError;
use highwater_engine::seal::SealError;
use highwater_io::IoError;

/// A damaged place.
///
/// ```
/// use highwater_inspect::{Damage, Finding};
/// let finding = Finding {
///     path: "orders-0/00000000000000000000.log".into(),
///     position: Some(97),
///     damage: Damage::Torn { bytes: 20, resumes: None },
///     verdict: None,
/// };
/// assert_eq!(
///     finding.to_string(),
///     "orders-0/00000000000000000000.log at byte 97: the last batch is cut off after 20 bytes"
/// );
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The byte at which the damage begins, where that is known.
    pub position: Option<u64>,
    /// What is wrong.
    pub damage: Damage,
    /// What the verdict table makes of it, if it lies in a segment. See `docs/RECOVERY.md`.
    pub verdict: Option<Verdict>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        write!(f, ": {}", self.damage)?;
        match self.verdict {
            None => Ok(()),
            Some(Verdict::Clean) => f.write_str(" (clean: space prepared and not used)"),
            Some(Verdict::Torn) => f.write_str(" (torn: a start cuts the log before these bytes)"),
            Some(Verdict::Ambiguous) => f.write_str(
                " (ambiguous: valid batches follow; a start cuts the log before these bytes and keeps them aside)",
            ),
            Some(Verdict::Rot) => {
                f.write_str(" (rot: synced bytes have changed; never cut, repair it from a replica)")
            }
        }
    }
}

/// What is wrong with a file.
///
/// ```
/// use highwater_inspect::Damage;
/// assert!(Damage::Zeros { bytes: 512 }.to_string().contains("512 zero bytes"));
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// The system could not read it.
    Unreadable {
        /// Which bytes; empty if the whole file.
        bytes: Range<u64>,
        /// What the system said.
        error: IoError,
    },
    /// The file ends inside a batch, or the batch's length says so.
    Torn {
        /// How many bytes there are from its beginning to the end of the file.
        bytes: u64,
        /// The next valid batch, if one follows: then the length is wrong.
        resumes: Option<u64>,
    },
    /// No batch begins here.
    Frame {
        /// What is there instead.
        error: FrameError,
        /// The next valid batch, if one follows.
        resumes: Option<u64>,
    },
    /// Zeros behind the last batch of a file that was closed in order.
    Zeros {
        /// How many.
        bytes: u64,
    },
    /// A batch's checksum differs.
    Checksum {
        /// As stored.
        expected: u32,
        /// As the bytes have it.
        found: u32,
    },
    /// A batch's header or records cannot be decoded.
    Batch(BatchError),
    /// A legacy message set cannot be decoded.
    Legacy(LegacyError),
    /// A batch's offsets lie outside the segment, or not above those before.
    Offsets {
        /// The batch's base offset.
        found: Offset,
        /// The least it may be.
        expected: Offset,
    },
    /// A batch's last offset lies in the next segment, or before its own base.
    LastOffset {
        /// The batch's last offset.
        found: Offset,
        /// The range it must lie in.
        expected: Range<i64>,
    },
    /// An index's form is wrong.
    Index(IndexError),
    /// Unwritten index slots in a directory that was closed in order.
    UnusedSlots {
        /// How many.
        slots: usize,
    },
    /// An index entry points at no batch that it could mean.
    Entry {
        /// Which entry, from 0.
        entry: usize,
        /// What it says.
        found: String,
        /// What the segment says.
        expected: String,
    },
    /// The segments of these offsets are missing behind this one, by its seal.
    Missing {
        /// The first offset that is missing.
        from: Offset,
        /// Where the next segment begins.
        until: Offset,
    },
    /// A file says something else than the batches (only `verify_deep` looks for it).
    Contradicts {
        /// What the batches say.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A producer snapshot.
    Snapshot(SnapshotError),
    /// A seal.
    Seal(SealError),
    /// Bytes of a sealed segment have changed since it was sealed.
    Sealed {
        /// Which, in pieces of 64 KiB.
        bytes: Range<u64>,
    },
    /// A text file.
    Text(TextError),
    /// `leader-epoch-checkpoint`.
    Epochs(EpochError),
    /// `highwater.checkpoint`: neither slot is valid.
    Checkpoint,
    /// `highwater.catalog`.
    Catalog(CatalogError),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Unreadable { bytes, error } if bytes.is_empty() => write!(f, "cannot be read: {error}"),
            Damage::Unreadable { bytes, error } => {
                write!(f, "bytes {} to {} cannot be read: {error}", bytes.start, bytes.end)
            }
            Damage::Torn { bytes, resumes: None } => {
                write!(f, "the last batch is cut off after {bytes} bytes")
            }
            Damage::Torn { bytes, resumes: Some(next) } => write!(
                f,
                "a batch that by its length ends behind the file, {bytes} bytes are left; the next valid one is at \
                 byte {next}"
            ),
            Damage::Frame { error, resumes: None } => {
                write!(f, "no batch begins here ({error}), and none follows")
            }
            Damage::Frame { error, resumes: Some(next) } => {
                write!(f, "no batch begins here ({error}); the next valid one is at byte {next}")
            }
            Damage::Zeros { bytes } => {
                write!(f, "{bytes} zero bytes behind the last batch of a directory that was stopped in order")
            }
            Damage::Checksum { expected, found } => {
                write!(f, "the batch says checksum {expected:08x}, its bytes have {found:08x}")
            }
            Damage::Batch(error) => error.fmt(f),
            Damage::Legacy(error) => error.fmt(f),
            Damage::Offsets { found, expected } => {
                write!(f, "base offset {found}, expected {expected} or above")
            }
            Damage::LastOffset { found, expected } => {
                write!(f, "last offset {found}, expected {} to {}", expected.start, expected.end - 1)
            }
            Damage::Index(error) => error.fmt(f),
            Damage::UnusedSlots { slots } => {
                write!(f, "{slots} unwritten slots in a directory that was stopped in order")
            }
            Damage::Entry { entry, found, expected } => {
                write!(f, "entry {entry} says {found}, expected {expected}")
            }
            Damage::Missing { from, until } => {
                write!(f, "the segments of offsets {from} to {until} (exclusive) are missing behind it")
            }
            Damage::Contradicts { expected, found } => {
                write!(f, "says {found}, expected by the batches {expected}")
            }
            Damage::Snapshot(error) => error.fmt(f),
            Damage::Seal(error) => error.fmt(f),
            Damage::Sealed { bytes } => {
                write!(f, "bytes {} to {} are not those that were sealed", bytes.start, bytes.end)
            }
            Damage::Text(error) => error.fmt(f),
            Damage::Epochs(error) => error.fmt(f),
            Damage::Catalog(error) => error.fmt(f),
            Damage::Checkpoint => f.write_str("neither of its two slots is valid"),
        }
    }
}

/// Why nothing could be looked at.
///
/// ```
/// use highwater_inspect::{DumpOptions, dump};
/// let error = dump(&mut Vec::new(), &DumpOptions::default(), "/missing".as_ref()).unwrap_err();
/// assert!(error.to_string().contains("/missing"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum InspectError {
    /// The path cannot be read.
    Io(IoError),
    /// The output cannot be written.
    Output(std::io::Error),
    /// The path is nothing that is known here.
    Unknown {
        /// The path.
        path: PathBuf,
    },
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::Io(error) => error.fmt(f),
            InspectError::Output(error) => write!(f, "cannot write the output: {error}"),
            InspectError::Unknown { path } => write!(
                f,
                "{}: expected a segment, an index, a snapshot, a checkpoint, a seal, a partition's directory or a \
                 log directory, found another name",
                path.display()
            ),
        }
    }
}

impl std::error::Error for InspectError {}

impl From<IoError> for InspectError {
    fn from(error: IoError) -> InspectError {
        InspectError::Io(error)
    }
}

impl From<std::io::Error> for InspectError {
    fn from(error: std::io::Error) -> InspectError {
        InspectError::Output(error)
    }
}

/// Where a line (from 1) of a text begins.
pub(crate) fn line_start(text: &str, line: usize) -> u64 {
    text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>() as u64
}

/// Bytes that should be text, and the position of the first that is none.
pub(crate) fn not_utf8(error: &std::string::FromUtf8Error) -> (u64, Damage) {
    let position = error.utf8_error().valid_up_to();
    let line = error.as_bytes()[..position].iter().filter(|&&byte| byte == b'\n').count() + 1;
    let found = String::from_utf8_lossy(error.as_bytes()).chars().take(80).collect();
    (position as u64, Damage::Text(TextError { line, expected: "UTF-8 text".into(), found }))
}
