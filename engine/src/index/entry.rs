//! Entries of the offset and time index, and what can be wrong with an index.

use std::fmt;

use highwater_base::{FilePos, Offset, WallMs};

/// "The batch whose last offset is `offset` begins at `position`."
///
/// ```
/// use highwater_base::{FilePos, Offset};
/// use highwater_engine::index::OffsetEntry;
/// let entry = OffsetEntry { offset: Offset::new(5), position: FilePos::new(176) };
/// assert_eq!(entry.offset.get(), 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    /// The last offset of a batch.
    pub offset: Offset,
    /// Where that batch begins.
    pub position: FilePos,
}

/// "Up to and with `offset` the largest timestamp is `timestamp`."
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// use highwater_engine::index::TimeEntry;
/// let entry = TimeEntry { timestamp: WallMs::new(7), offset: Offset::new(5) };
/// assert_eq!(entry.timestamp.get(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    /// The largest timestamp so far.
    pub timestamp: WallMs,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

/// What is wrong with an index file, and in which entry (counted from 0).
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::index::OffsetIndex;
/// assert!(OffsetIndex::new(&[0, 0, 0, 5, 0, 0], Offset::ZERO).check().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexError {
    /// The length is no multiple of an entry.
    Length {
        /// The length.
        found: usize,
        /// An entry's size.
        entry: usize,
    },
    /// An offset that is not above the one before it, or below the segment's base.
    Offset {
        /// Which entry.
        entry: usize,
        /// Its offset.
        found: i64,
        /// The least it may be.
        expected: i64,
    },
    /// A position that is not above the one before it.
    Position {
        /// Which entry.
        entry: usize,
        /// Its position.
        found: i64,
        /// The least it may be.
        expected: i64,
    },
    /// A timestamp that is not above the one before it.
    Timestamp {
        /// Which entry.
        entry: usize,
        /// Its timestamp.
        found: i64,
        /// The least it may be.
        expected: i64,
    },
    /// A version that is not known.
    Version {
        /// Which entry.
        entry: usize,
        /// The version; 0 was expected.
        found: i16,
    },
    /// An entry after unused ones.
    Gap {
        /// The first used entry behind them.
        entry: usize,
    },
}

impl IndexError {
    /// The entry it is about, if it is about one.
    pub const fn entry(self) -> Option<usize> {
        match self {
            IndexError::Length { .. } => None,
            IndexError::Offset { entry, .. }
            | IndexError::Position { entry, .. }
            | IndexError::Timestamp { entry, .. }
            | IndexError::Version { entry, .. }
            | IndexError::Gap { entry } => Some(entry),
        }
    }

    /// The byte of the file where it begins, with entries of `entry_bytes`; of a bad length the piece at the end.
    pub const fn position(self, entry_bytes: usize) -> u64 {
        match (self, self.entry()) {
            (_, Some(entry)) => (entry * entry_bytes) as u64,
            (IndexError::Length { found, entry }, None) => (found / entry * entry) as u64,
            (_, None) => 0,
        }
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Length { found, entry } => {
                write!(f, "{found} bytes, expected a multiple of {entry}")
            }
            IndexError::Offset { entry, found, expected } => {
                write!(f, "entry {entry}: offset {found}, expected {expected} or more")
            }
            IndexError::Position { entry, found, expected } => {
                write!(f, "entry {entry}: position {found}, expected {expected} or more")
            }
            IndexError::Timestamp { entry, found, expected } => {
                write!(f, "entry {entry}: timestamp {found}, expected {expected} or more")
            }
            IndexError::Version { entry, found } => write!(f, "entry {entry}: version {found}, expected 0"),
            IndexError::Gap { entry } => write!(f, "entry {entry} is used, those before it are not"),
        }
    }
}

impl std::error::Error for IndexError {}
