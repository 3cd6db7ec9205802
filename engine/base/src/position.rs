//! Places and lengths in files.

use std::fmt;

/// The unit of direct I/O, in bytes: every direct position, length and address is a multiple of it.
///
/// A device may tear a write at 512 bytes; alignment to 4 KiB is what every file system accepts.
pub const BLOCK: u64 = 4096;

/// A byte position in a file.
///
/// ```
/// use highwater_base::{ByteLen, FilePos};
/// let at = FilePos::new(5000);
/// assert_eq!(at.block_floor(), FilePos::new(4096));
/// assert_eq!(at.plus(ByteLen::new(10)).since(at), ByteLen::new(10));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FilePos(u64);

impl FilePos {
    /// The start of a file.
    pub const ZERO: FilePos = FilePos(0);

    /// The position with this number.
    pub const fn new(value: u64) -> FilePos {
        FilePos(value)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// `len` bytes further on.
    #[must_use]
    pub const fn plus(self, len: ByteLen) -> FilePos {
        FilePos(self.0 + len.0)
    }

    /// The bytes in `earlier..self`. Panics if `earlier` is the later one.
    pub const fn since(self, earlier: FilePos) -> ByteLen {
        assert!(self.0 >= earlier.0, "FilePos::since: the earlier position is the later one");
        ByteLen(self.0 - earlier.0)
    }

    /// The largest multiple of [`BLOCK`] at or before this position.
    #[must_use]
    pub const fn block_floor(self) -> FilePos {
        FilePos(self.0 / BLOCK * BLOCK)
    }

    /// The smallest multiple of [`BLOCK`] at or after this position.
    #[must_use]
    pub const fn block_ceil(self) -> FilePos {
        FilePos(self.0.div_ceil(BLOCK) * BLOCK)
    }
}

impl fmt::Debug for FilePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Display for FilePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number of bytes.
///
/// ```
/// use highwater_base::ByteLen;
/// assert_eq!(ByteLen::new(3).plus(ByteLen::new(4)).get(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteLen(u64);

impl ByteLen {
    /// Nothing.
    pub const ZERO: ByteLen = ByteLen(0);

    /// This many bytes.
    pub const fn new(value: u64) -> ByteLen {
        ByteLen(value)
    }

    /// The length of a slice.
    pub const fn of(bytes: &[u8]) -> ByteLen {
        ByteLen(bytes.len() as u64)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: ByteLen) -> ByteLen {
        ByteLen(self.0 + other.0)
    }
}

impl fmt::Debug for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
