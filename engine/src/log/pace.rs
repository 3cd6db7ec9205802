//! How fast readers of the disk read, and compaction reads and writes: at full speed, or so that appends do not wait behind them.

use std::time::Duration;

use highwater_base::{BLOCK, Mono, Now};

use crate::tail::Place;

/// While appends come: bytes of a read at most, and reads of a reader in flight. A device answers in order, so that a write
/// waits for what was read ahead before it.
const BESIDE_APPENDS: (u64, u32) = (64 << 10, 1);
/// Of a cold read, what housekeeping reads or writes at once: while appends come, and else.
const PARTS: (u64, u64) = (16, 4);
/// While an append waits for the device, nothing else is given to it, but one operation each so often.
const HOLD: Duration = Duration::from_millis(1);
/// Whoever waits, so many bytes are read or written for each that is appended: a reader gets closer to the end of a log
/// however fast that grows. Of what was not used up to so much is kept.
const FOR_EACH: (u64, u64) = (2, 4 << 20);
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
    /// When something last went to the device beside the appends, and whether something has been held back since.
    last: Mono,
    held: bool,
    /// Bytes that may go whoever waits.
    owed: u64,
}

impl Pace {
    /// The log ends at `end` now; `flushing`: somebody waits for a flush on the same ring.
    pub(super) fn note(&mut self, now: Now, end: Place, flushing: bool) {
        if let Some(before) = self.end.replace(end).filter(|before| *before != end) {
            self.until = now.mono.plus(GO_ON);
            // A log that was cut ends further in front.
            let grown = if end > before { end.since(before) } else { 0 };
            self.owed = (self.owed + FOR_EACH.0 * grown).min(FOR_EACH.1);
        }
        self.slow = now.mono < self.until || flushing;
    }

    /// Bytes of a read, `most` of them, and how many of a reader may be in flight.
    pub(super) fn reads(&self, most: u64) -> (u64, u32) {
        if !self.slow {
            return (most, u32::MAX);
        }
        // Small ones would not get through what is owed to those who read behind fast appends.
        let larger = self.owed / 16 / BLOCK * BLOCK;
        (most.min(BESIDE_APPENDS.0.max(larger)), BESIDE_APPENDS.1)
    }

    /// Bytes of one read or write of housekeeping, where a cold read is `most`.
    pub(super) fn slice(&self, most: u64) -> u64 {
        (most / if self.slow { PARTS.0 } else { PARTS.1 }).next_multiple_of(BLOCK)
    }

    /// Whether a read or write of so many `bytes` beside the appends may go to the device now; `waits`: an append does, whose
    /// completion will give the log a step.
    pub(super) fn starts(&mut self, now: Now, waits: bool, bytes: u64) -> bool {
        self.held = self.slow && waits && now.mono < self.last.plus(HOLD) && self.owed < bytes;
        if !self.held {
            self.last = now.mono;
            self.owed = self.owed.saturating_sub(bytes);
        }
        !self.held
    }

    /// When what was held back may go in any case.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.held.then(|| self.last.plus(HOLD))
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

    #[test]
    fn while_an_append_waits_one_operation_goes_each_so_often() {
        let at = |us| Now { mono: Mono::ZERO.plus(Duration::from_micros(us)), wall: WallMs::new(0) };
        let mut pace = Pace::default();
        // Nobody appends: nothing is held back, and pieces are large.
        assert!(pace.starts(at(0), true, BLOCK) && pace.starts(at(1), true, BLOCK));
        assert_eq!((pace.slice(1 << 20), pace.deadline()), (256 << 10, None));
        pace.note(at(1), Place::ZERO, false);
        pace.note(at(2), Place::ZERO.plus(1), false);
        assert_eq!((pace.slice(1 << 20), pace.slice(8192)), (64 << 10, 4096));
        assert!(pace.starts(at(2), false, BLOCK) && pace.starts(at(3), false, BLOCK));
        assert!(!pace.starts(at(4), true, BLOCK));
        assert_eq!(pace.deadline(), Some(at(1003).mono));
        assert!(pace.starts(at(1003), true, BLOCK) && !pace.starts(at(1004), true, BLOCK));
        assert!(pace.starts(at(1005), false, BLOCK));
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn whoever_waits_a_reader_reads_more_than_is_appended() {
        let at = |us| Now { mono: Mono::ZERO.plus(Duration::from_micros(us)), wall: WallMs::new(0) };
        let (mut pace, most) = (Pace::default(), 1 << 20);
        let (mut end, mut read) = (Place::ZERO, 0);
        pace.note(at(0), end, false);
        // A gigabyte a second, and an append always waits.
        for us in (0..1_000_000).step_by(100) {
            end = end.plus(100_000);
            pace.note(at(us), end, false);
            let (bytes, _) = pace.reads(most);
            if pace.starts(at(us), true, bytes) {
                read += bytes;
            }
        }
        assert!(read > end.since(Place::ZERO) * 19 / 10, "{read} bytes");
        // A log that is cut owes nothing, and what was not read is not saved for ever.
        pace.note(at(1_000_001), Place::ZERO, false);
        pace.note(at(1_000_002), Place::ZERO.plus(1 << 40), false);
        assert_eq!(pace.owed, FOR_EACH.1);
    }
}
