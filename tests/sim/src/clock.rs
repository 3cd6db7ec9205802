//! Virtual time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{Mono, Now, WallMs};

/// A clock that only moves when it is told to. Clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use highwater_sim::SimClock;
/// let clock = SimClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now().mono.since(before.mono), Duration::from_millis(5));
/// assert_eq!(clock.now().wall.get() - before.wall.get(), 5);
/// ```
#[derive(Clone)]
pub struct SimClock {
    mono: Rc<Cell<u64>>,
    /// What this view's wall clock adds, in milliseconds: each node has its own.
    wall_ms: Rc<Cell<i64>>,
}

impl SimClock {
    /// Midnight, 1 January 2026, in milliseconds since 1970.
    const START_MS: i64 = 1_767_225_600_000;

    /// A clock at the start of simulated time.
    pub fn new() -> SimClock {
        SimClock { mono: Rc::new(Cell::new(0)), wall_ms: Rc::new(Cell::new(SimClock::START_MS)) }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let mono = self.mono.get();
        let wall = self.wall_ms.get() + i64::try_from(mono / 1_000_000).unwrap_or(i64::MAX);
        Now { mono: Mono::from_nanos(mono), wall: WallMs::new(wall) }
    }

    /// Moves time on.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now().mono.plus(by));
    }

    /// Moves time on to `to`; never back.
    pub fn advance_to(&self, to: Mono) {
        self.mono.set(self.mono.get().max(to.nanos()));
    }

    /// A view for another node: the same monotonic time, a wall clock of its own.
    #[must_use]
    pub fn for_another_node(&self) -> SimClock {
        SimClock { mono: Rc::clone(&self.mono), wall_ms: Rc::new(Cell::new(self.wall_ms.get())) }
    }

    /// Steps this view's wall clock, forwards or backwards.
    pub fn step_wall(&self, by_ms: i64) {
        self.wall_ms.set(self.wall_ms.get() + by_ms);
    }
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock::new()
    }
}

impl std::fmt::Debug for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimClock({:?})", self.now())
    }
}
