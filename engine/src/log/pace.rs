//! How fast readers of the disk read: at full speed, or so that appends do not wait behind them.

use std::time::Duration;

use highwater_base::{Mono, Now};

use crate::tail::Place;

/// While appends come: bytes of a read at most, and reads of a reader in flight. A device answers in order, so that a write
/// waits for what was read ahead before it.
const BESIDE_APPENDS: (u64, u32) = (128 << 10, 2);
/// Appends are taken to come for so long after the last one.
const GO_ON: Duration = Duration::from_secs(1);

/// Whether appends come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Where the log ended when that was last looked at.
    end: Option<Place>,
    /// Until when appends are taken to come.
    until: Mono,
    slow: bool,
}

impl Pace {
    /// The log ends at `end` now; `flushing`: somebody waits for a flush on the same ring.
    pub(super) fn note(&mut self, now: Now, end: Place, flushing: bool) {
        if self.end.replace(end).is_some_and(|before| before != end) {
            self.until = now.mono.plus(GO_ON);
        }
        self.slow = now.mono < self.until || flushing;
    }

    /// Bytes of a read, `most` of them, and how many of a reader may be in flight.
    pub(super) fn reads(&self, most: u64) -> (u64, u32) {
        if self.slow { (most.min(BESIDE_APPENDS.0), BESIDE_APPENDS.1) } else { (most, u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::WallMs;

    use super::*;

    #[test]
    fn readers_are_slow_while_appends_come_and_for_a_second_after() {
        let at = |ms| Now { mono: Mono::ZERO.plus(Duration::from_millis(ms)), wall: WallMs::new(0) };
        let (mut pace, full) = (Pace::default(), (1 << 20, u32::MAX));
        // What was there before is no append.
        pace.note(at(0), Place::ZERO.plus(5000), false);
        assert_eq!(pace.reads(1 << 20), full);
        pace.note(at(1), Place::ZERO.plus(6000), false);
        assert_eq!(pace.reads(1 << 20), BESIDE_APPENDS);
        assert_eq!(pace.reads(8192), (8192, BESIDE_APPENDS.1));
        pace.note(at(1000), Place::ZERO.plus(6000), false);
        assert_eq!(pace.reads(1 << 20), BESIDE_APPENDS);
        pace.note(at(1001), Place::ZERO.plus(6000), false);
        assert_eq!(pace.reads(1 << 20), full);
        pace.note(at(1002), Place::ZERO.plus(6000), true);
        assert_eq!(pace.reads(1 << 20), BESIDE_APPENDS);
    }
}
