//! Which segments may go (kafka.md 3.2). Pure.

use highwater_base::{Offset, WallMs};

/// A segment, as retention sees it.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// let oldest = highwater_engine::retention::Candidate {
///     base: Offset::ZERO, end: Offset::new(10), bytes: 1000, newest: WallMs::new(5),
/// };
/// assert!(oldest.end > oldest.base);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its base offset.
    pub base: Offset,
    /// The next segment's base, or the log end.
    pub end: Offset,
    /// Its size.
    pub bytes: u64,
    /// Its largest timestamp, or its last modification if no batch carries one.
    pub newest: WallMs,
}

/// What may go, by which rule.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// use highwater_engine::retention::{Candidate, Rules};
/// let rules = Rules {
///     log_start: Offset::ZERO, committed: Offset::new(20), retention_bytes: Some(1000), retention_ms: None,
///     now: WallMs::new(0),
/// };
/// let segment = |base: i64| Candidate {
///     base: Offset::new(base), end: Offset::new(base + 10), bytes: 1000, newest: WallMs::new(0),
/// };
/// assert_eq!(rules.expired(&[segment(0), segment(10)]), 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Nothing below is read any more.
    pub log_start: Offset,
    /// Nothing at or beyond goes: the high watermark, and what is durable.
    pub committed: Offset,
    /// The log may shrink to no less than this; `None`: size is no reason.
    pub retention_bytes: Option<u64>,
    /// Segments whose newest record is older than this may go; `None`: age is no reason.
    pub retention_ms: Option<u64>,
    /// The time now.
    pub now: WallMs,
}

impl Rules {
    /// How many of the oldest segments may go. The last one is among them only if it holds something.
    ///
    /// One call is a fixpoint: the same rules give nothing more of what is left.
    pub fn expired(&self, segments: &[Candidate]) -> usize {
        let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut excess = self.retention_bytes.map_or(0, |keep| total.saturating_sub(keep));
        let mut gone = 0;
        for segment in segments {
            let empty = segment.end == segment.base;
            if segment.end > self.committed || (empty && gone + 1 == segments.len()) {
                break;
            }
            let before_start = segment.end <= self.log_start;
            let too_much = self.retention_bytes.is_some() && excess >= segment.bytes && excess > 0;
            let age = i128::from(self.now.get()) - i128::from(segment.newest.get());
            let too_old = self.retention_ms.is_some_and(|keep| age > i128::from(keep));
            if !(before_start || too_much || too_old) {
                break;
            }
            // Whatever the reason, what goes no longer counts.
            excess = excess.saturating_sub(segment.bytes);
            gone += 1;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        log_start: Offset::ZERO,
        committed: Offset::MAX,
        retention_bytes: None,
        retention_ms: None,
        now: WallMs::new(1000),
    };

    fn segments() -> Vec<Candidate> {
        let one = |i: i64| Candidate {
            base: Offset::new(i * 10),
            end: Offset::new(i * 10 + 10),
            bytes: 100,
            newest: WallMs::new(i * 100),
        };
        (0..5).map(one).collect()
    }

    #[test]
    fn without_a_reason_nothing_goes() {
        assert_eq!(RULES.expired(&segments()), 0);
        assert_eq!(RULES.expired(&[]), 0);
    }

    #[test]
    fn size_never_cuts_below_what_is_to_be_kept() {
        for keep in 0..600 {
            let gone = Rules { retention_bytes: Some(keep), ..RULES }.expired(&segments());
            assert!((500 - gone as u64 * 100) >= keep || gone == 0);
            assert!(
                gone == 5 || 500 - (gone as u64 + 1) * 100 < keep || keep > 500,
                "keep {keep} gone {gone}"
            );
        }
    }

    #[test]
    fn age_counts_strictly_and_a_future_time_holds_all_later_ones() {
        let aged = Rules { retention_ms: Some(800), ..RULES };
        assert_eq!(aged.expired(&segments()), 2);
        let mut future = segments();
        future[1].newest = WallMs::new(9999);
        assert_eq!(aged.expired(&future), 1);
    }

    #[test]
    fn nothing_uncommitted_goes_and_an_empty_active_segment_stays() {
        let all = Rules { retention_ms: Some(0), ..RULES };
        assert_eq!(Rules { committed: Offset::new(25), ..all }.expired(&segments()), 2);
        let mut last_empty = segments();
        last_empty[4].end = last_empty[4].base;
        assert_eq!(all.expired(&last_empty), 4);
        assert_eq!(all.expired(&segments()), 5);
    }

    #[test]
    fn one_call_is_a_fixpoint() {
        for (bytes, ms, start) in [(Some(250), None, 0), (None, Some(750), 0), (Some(150), Some(900), 25)] {
            let rules =
                Rules { retention_bytes: bytes, retention_ms: ms, log_start: Offset::new(start), ..RULES };
            let all = segments();
            let gone = rules.expired(&all);
            assert_eq!(rules.expired(&all[gone..]), 0);
        }
    }
}
