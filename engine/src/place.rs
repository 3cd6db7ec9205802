//! Where a byte is in the life of an open log.

use std::fmt;

use highwater_base::BLOCK;

/// A byte's place in the life of an open log. Within a segment places follow file positions; where a segment
/// begins, they are rounded up to a block. So one number orders everything that was ever staged, and a place is
/// aligned exactly where its file position is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Place(u64);

impl Place {
    pub(crate) const ZERO: Place = Place(0);

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn plus(self, len: u64) -> Place {
        Place(self.0 + len)
    }

    /// The bytes in `earlier..self`. Panics if `earlier` is the later one.
    pub(crate) const fn since(self, earlier: Place) -> u64 {
        assert!(self.0 >= earlier.0, "Place::since: the earlier place is the later one");
        self.0 - earlier.0
    }

    pub(crate) const fn block_floor(self) -> Place {
        Place(self.0 / BLOCK * BLOCK)
    }

    pub(crate) const fn block_ceil(self) -> Place {
        Place(self.0.div_ceil(BLOCK) * BLOCK)
    }

    pub(crate) const fn is_aligned(self) -> bool {
        self.0.is_multiple_of(BLOCK)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{}", self.0)
    }
}
