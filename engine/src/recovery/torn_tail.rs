//! The verdict on bad bytes in a log: torn by a crash, or rotten. What was proven to be synced decides, not the first
//! bad batch.
//!
//! [`diagnose`] is the table of `docs/RECOVERY.md`; it is pure, so the inspection tool can call it. The act, [`cut`],
//! is called by one place only: the opening of a log.

use super::Finding;

/// What bad bytes in a log are.
///
/// ```
/// assert_ne!(highwater_engine::Verdict::Torn, highwater_engine::Verdict::Rot);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Nothing but zeros after the last batch: space prepared and not used.
    Clean,
    /// A write that a crash cut short: beyond what was proven synced, nothing valid after it.
    Torn,
    /// Beyond what was proven synced, but valid batches follow within reach of one crash.
    Ambiguous,
    /// Bytes that had been synced have changed. Never cut.
    Rot,
}

/// What lies from the first bad byte to the end of the log.
///
/// ```
/// use highwater_engine::recovery::Rest;
/// assert_ne!(Rest::Zeros, Rest::Bytes);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rest {
    /// Nothing, or zeros only.
    Zeros,
    /// Something.
    Bytes,
}

/// Where the first bad byte lies.
///
/// ```
/// use highwater_engine::recovery::Place;
/// assert_ne!(Place::Proven, Place::Unproven);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// Before the proven synced end, or inside a sealed segment.
    Proven,
    /// Beyond it.
    Unproven,
}

/// Valid batches behind the bad bytes.
///
/// ```
/// use highwater_engine::recovery::Behind;
/// assert_ne!(Behind::Nothing, Behind::Far);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Behind {
    /// None.
    Nothing,
    /// All of them within reach of what can have been in flight at once.
    Near,
    /// One further than that.
    Far,
}

/// All that the verdict depends on.
///
/// ```
/// use highwater_engine::Verdict;
/// use highwater_engine::recovery::{Behind, Evidence, Place, Rest, diagnose};
/// let torn = Evidence { rest: Rest::Bytes, place: Place::Unproven, behind: Behind::Nothing, bounded: true };
/// assert_eq!(diagnose(torn), Verdict::Torn);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Evidence {
    /// What lies from the first bad byte on.
    pub rest: Rest,
    /// Where that byte lies.
    pub place: Place,
    /// What valid batches follow.
    pub behind: Behind,
    /// The log was written under a limit of what may be written and not synced (durability `each`).
    pub bounded: bool,
}

/// The verdict. One row for each kind of evidence; the labels are those of `docs/RECOVERY.md`.
pub fn diagnose(evidence: Evidence) -> Verdict {
    use Behind::{Far, Near, Nothing};
    use Place::{Proven, Unproven};
    match (evidence.place, evidence.rest, evidence.behind, evidence.bounded) {
        // P1: what was proven synced is gone, whatever is there instead. Even zeros are no end of the log.
        (Proven, _, _, _) => Verdict::Rot,
        // U1: space that was prepared and not used.
        (Unproven, Rest::Zeros, Nothing, _) => Verdict::Clean,
        // U2: one write did not arrive whole.
        (Unproven, Rest::Bytes, Nothing, _) => Verdict::Torn,
        // U3: several writes were in flight and a later one arrived first (zeros are a write that did not arrive).
        (Unproven, _, Near, _) => Verdict::Ambiguous,
        // U4: so much cannot have been in flight at once, so the bad bytes had been synced.
        (Unproven, _, Far, true) => Verdict::Rot,
        // U5: any amount can have been in flight.
        (Unproven, _, Far, false) => Verdict::Ambiguous,
    }
}

/// What to do about a finding. Made here and carried out by the opening of a log alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// Nothing.
    None,
    /// Cut the log at the first bad byte.
    Cut,
    /// Keep the bytes aside, then cut.
    KeepAndCut,
    /// Refuse the range to readers, touch nothing.
    Quarantine,
}

/// The act that a verdict asks for.
pub(crate) fn act(verdict: Verdict) -> Act {
    match verdict {
        Verdict::Clean => Act::None,
        Verdict::Torn => Act::Cut,
        Verdict::Ambiguous => Act::KeepAndCut,
        Verdict::Rot => Act::Quarantine,
    }
}

impl Finding {
    /// Whether bytes were, or must be, cut.
    pub fn is_cut(&self) -> bool {
        matches!(act(self.verdict), Act::Cut | Act::KeepAndCut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Rest, Place, Behind, bool); 24] = {
        let mut all = [(Rest::Zeros, Place::Proven, Behind::Nothing, false); 24];
        let mut i = 0;
        while i < 24 {
            all[i] = (
                if i % 2 == 0 { Rest::Zeros } else { Rest::Bytes },
                if i / 2 % 2 == 0 { Place::Proven } else { Place::Unproven },
                match i / 4 % 3 {
                    0 => Behind::Nothing,
                    1 => Behind::Near,
                    _ => Behind::Far,
                },
                i / 12 == 1,
            );
            i += 1;
        }
        all
    };

    #[test]
    fn every_input_has_its_row() {
        let mut seen = std::collections::BTreeSet::new();
        for (rest, place, behind, bounded) in ALL {
            let evidence = Evidence { rest, place, behind, bounded };
            assert!(seen.insert(evidence), "{evidence:?} twice");
            let expected = if place == Place::Proven {
                Verdict::Rot
            } else if behind == Behind::Nothing {
                if rest == Rest::Zeros { Verdict::Clean } else { Verdict::Torn }
            } else if behind == Behind::Far && bounded {
                Verdict::Rot
            } else {
                Verdict::Ambiguous
            };
            assert_eq!(diagnose(evidence), expected, "{evidence:?}");
        }
        assert_eq!(seen.len(), 24);
    }

    #[test]
    fn nothing_that_was_proven_synced_is_ever_cut() {
        for (rest, place, behind, bounded) in ALL {
            if place == Place::Proven {
                let verdict = diagnose(Evidence { rest, place, behind, bounded });
                assert!(!matches!(act(verdict), Act::Cut | Act::KeepAndCut));
            }
        }
    }
}
