//! Log offsets.

use std::fmt;

/// A position in a log, counted in records. Non-negative, except for [`Offset::NONE`] (Kafka's -1).
///
/// By convention `last` is inclusive and `end` exclusive.
///
/// ```
/// use highwater_base::Offset;
/// let last = Offset::new(41);
/// assert_eq!(last.plus(1), Offset::new(42));
/// assert_eq!(Offset::new(42).since(Offset::new(40)), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first offset of a new log.
    pub const ZERO: Offset = Offset(0);
    /// "No offset": -1, as Kafka writes it.
    pub const NONE: Offset = Offset(-1);
    /// The largest offset; usable as "no upper limit".
    pub const MAX: Offset = Offset(i64::MAX);

    /// The offset with this number.
    pub const fn new(value: i64) -> Offset {
        Offset(value)
    }

    /// The bare number, for the wire and for files.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `n` records further on, saturating at [`Offset::MAX`].
    #[must_use]
    pub const fn plus(self, n: i64) -> Offset {
        Offset(self.0.saturating_add(n))
    }

    /// How many records lie in `earlier..self`; negative if `earlier` is the later one.
    pub const fn since(self, earlier: Offset) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether this is a real offset, not [`Offset::NONE`].
    pub const fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
