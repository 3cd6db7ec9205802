//! Time is an argument. Only `highwater-runtime`'s thread reads a clock.

use std::time::Duration;

/// A monotonic instant, in nanoseconds from an arbitrary start. Deadlines and lags are measured with it.
///
/// ```
/// use std::time::Duration;
/// use highwater_base::Mono;
/// let t = Mono::from_nanos(5);
/// assert_eq!(t.plus(Duration::from_nanos(2)).since(t), Duration::from_nanos(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(u64);

impl Mono {
    /// The start.
    pub const ZERO: Mono = Mono(0);
    /// Never.
    pub const MAX: Mono = Mono(u64::MAX);

    /// This many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Mono {
        Mono(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// `by` later, saturating.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Mono {
        let nanos = by.as_nanos();
        if nanos > u64::MAX as u128 { Mono::MAX } else { Mono(self.0.saturating_add(nanos as u64)) }
    }

    /// Time since `earlier`; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A wall-clock time in milliseconds since 1970, as in record timestamps; -1 is Kafka's "none".
///
/// ```
/// assert_eq!(highwater_base::WallMs::new(7).get(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WallMs(i64);

impl WallMs {
    /// "None": -1.
    pub const NONE: WallMs = WallMs(-1);

    /// This many milliseconds since 1970.
    pub const fn new(ms: i64) -> WallMs {
        WallMs(ms)
    }

    /// Milliseconds since 1970.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// Both clocks, read once per turn and passed down.
///
/// ```
/// use highwater_base::{Mono, Now, WallMs};
/// let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) };
/// assert!(now.wall > WallMs::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For deadlines, lags and rates.
    pub mono: Mono,
    /// For timestamps that people and files see; it may step.
    pub wall: WallMs,
}
