//! What holds after every call. Numbered as in `docs/INVARIANTS.md`.

use super::{Log, State};
use crate::segment::Phase;

impl Log {
    /// Checks everything that can be checked, in debug builds.
    pub(super) fn debug_invariants(&self) {
        // The ladder is cheap enough to hold always.
        assert!(
            self.synced_end <= self.written_end && self.written_end <= self.log_end,
            "L1: synced_end {} <= written_end {} <= log_end {}",
            self.synced_end,
            self.written_end,
            self.log_end
        );
        if cfg!(debug_assertions) {
            self.invariants();
        }
    }

    /// Every invariant of a log, checked. Panics if one is broken: then what is in memory cannot be trusted, and nothing
    /// more must be acknowledged.
    pub fn invariants(&self) {
        let serving = matches!(self.state, State::Open | State::Closing(_));
        assert!(self.synced_end <= self.written_end && self.written_end <= self.log_end, "L1: the ladder");
        if serving {
            assert!(self.log_start <= self.log_end, "L2: log start beyond log end");
            assert!(self.high_watermark <= self.log_end, "L3: high watermark beyond log end");
            // The padding behind a rolled segment's end counts as synced once the next one's name is durable.
            assert!(self.synced <= self.written.block_ceil(), "L4: synced beyond written");
            assert!(self.written <= self.submitted, "L5: written beyond submitted");
            assert!(
                self.submitted <= self.tail.end().max(self.submitted_floor()),
                "L6: submitted beyond staged"
            );
            assert!(!self.segments.is_empty(), "L7: no segment");
        }
        let mut live = false;
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            assert!(segment.base < next.base, "L8: segments out of order");
            assert!(segment.end <= next.base, "L9: a segment reaches into the next");
        }
        for segment in &self.segments {
            match &segment.phase {
                Phase::Sealed(_) => assert!(!live, "L10: a sealed segment behind a live one"),
                Phase::Live(_) => live = true,
            }
        }
        if serving && let Some(active) = self.segments.back() {
            assert_eq!(
                active.end.max(active.base),
                self.log_end,
                "L11: the active segment ends at the log's end"
            );
        }
        for (earlier, later) in self.writes.iter().zip(self.writes.iter().skip(1)) {
            assert!(earlier.from <= later.from, "L12: writes out of order");
            let overlap = earlier.to > later.from && earlier.state != super::flight::WriteState::Done;
            assert!(
                !overlap || earlier.to.block_floor() < later.from,
                "L13: two writes of one block in flight"
            );
        }
        if let Some(limit) = self.unsynced_limit()
            && serving
        {
            let unsynced = self.submitted.block_ceil().get() - self.synced.block_floor().get();
            assert!(
                unsynced <= limit.max(self.unsynced_at_open()),
                "L14: {unsynced} bytes written and not synced"
            );
        }
    }

    fn submitted_floor(&self) -> crate::tail::Place {
        self.submitted.block_ceil()
    }

    /// What was unsynced before the limit applied: a change of settings does not sync.
    fn unsynced_at_open(&self) -> u64 {
        self.unsynced_allowance
    }
}
