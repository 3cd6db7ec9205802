//! The verdict on bad bytes in a log: torn by a crash, or rotten. What was proven to be synced decides, not the first
//! bad batch.
//!
//! [`diagnose`] is the table of `docs/RECOVERY.md`, [`reach`] and [`behind`] say how near valid batches are; all are
//! pure, so the inspection tool can call them. The act is called by one place only: the opening of a log.

use super::Finding;
use crate::batch::MAGIC_PREFIX;

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

/// How far behind the beginning of bad bytes a valid batch may begin so that one crash can explain both: `unsynced`
/// bytes (what may be in flight at once), counted from the end of the bad batch by its own header, because any byte of
/// it may be the first that was not synced. `bad` is that batch's size (0: its header says none), `left` what the file
/// holds from the bad bytes on.
///
/// ```
/// use highwater_engine::recovery::reach;
/// assert_eq!(reach(1000, 300, 5000), 1300);
/// assert_eq!(reach(1000, 0, 5000), 1017); // not even a header: at least its 17 bytes
/// assert_eq!(reach(1000, 300, 100), 1100);
/// ```
pub const fn reach(unsynced: u64, bad: u64, left: u64) -> u64 {
    let bad = if bad < MAGIC_PREFIX as u64 { MAGIC_PREFIX as u64 } else { bad };
    unsynced + if bad < left { bad } else { left }
}

/// What a valid batch that begins `distance` bytes behind the first bad one means.
///
/// ```
/// use highwater_engine::recovery::{Behind, behind};
/// assert_eq!((behind(1300, 1300), behind(1301, 1300)), (Behind::Near, Behind::Far));
/// ```
pub const fn behind(distance: u64, reach: u64) -> Behind {
    if distance > reach { Behind::Far } else { Behind::Near }
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

    /// Every input there is.
    fn all() -> impl Iterator<Item = Evidence> {
        let rests = [Rest::Zeros, Rest::Bytes];
        let places = [Place::Proven, Place::Unproven];
        let behinds = [Behind::Nothing, Behind::Near, Behind::Far];
        rests.into_iter().flat_map(move |rest| {
            places.into_iter().flat_map(move |place| {
                behinds.into_iter().flat_map(move |behind| {
                    [false, true].map(|bounded| Evidence { rest, place, behind, bounded })
                })
            })
        })
    }

    #[test]
    fn every_input_has_its_row() {
        // One line an input: rest, what is behind, bounded; first the proven ones, then the others.
        let mut verdicts = std::collections::BTreeMap::new();
        for evidence in all() {
            assert_eq!(verdicts.insert(evidence, diagnose(evidence)), None, "{evidence:?} twice");
        }
        assert_eq!(verdicts.len(), 2 * 2 * 3 * 2);
        for (Evidence { rest, place, behind, bounded }, verdict) in verdicts {
            let expected = match (place, behind) {
                (Place::Proven, _) => Verdict::Rot,
                (_, Behind::Nothing) if rest == Rest::Bytes => Verdict::Torn,
                (_, Behind::Nothing) => Verdict::Clean,
                (_, Behind::Far) if bounded => Verdict::Rot,
                (_, Behind::Near | Behind::Far) => Verdict::Ambiguous,
            };
            assert_eq!(verdict, expected, "{rest:?} {place:?} {behind:?} {bounded}");
        }
    }

    #[test]
    fn each_verdict_has_its_act_and_nothing_proven_is_ever_cut() {
        for evidence in all() {
            let verdict = diagnose(evidence);
            let expected = match verdict {
                Verdict::Clean => Act::None,
                Verdict::Torn => Act::Cut,
                Verdict::Ambiguous => Act::KeepAndCut,
                Verdict::Rot => Act::Quarantine,
            };
            assert_eq!(act(verdict), expected);
            if evidence.place == Place::Proven {
                assert!(!matches!(act(verdict), Act::Cut | Act::KeepAndCut), "{evidence:?}");
            }
            // Whatever follows, a valid batch is never cut away without being kept aside.
            if evidence.behind != Behind::Nothing {
                assert_ne!(act(verdict), Act::Cut, "{evidence:?}");
            }
        }
    }
}
