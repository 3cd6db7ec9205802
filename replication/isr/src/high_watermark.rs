//! The only code that computes a leader's high watermark.

use highwater_base::Offset;

/// What a high watermark is computed from.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_isr::{Committed, advance};
/// let facts = Committed {
///     high_watermark: Offset::new(3), leader_end: Offset::new(9), in_sync: 2, needed: 2,
///     others: &[Some(Offset::new(5))],
/// };
/// assert_eq!(advance(&facts), Offset::new(5));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed<'a> {
    /// The high watermark now.
    pub high_watermark: Offset,
    /// The end that the leader itself counts with.
    pub leader_end: Offset,
    /// How many members the *committed* ISR has.
    pub in_sync: usize,
    /// `min.insync.replicas`, no more than there are replicas.
    pub needed: usize,
    /// The end that each other replica counts with which must hold what is committed: all of the *maximal* ISR, and
    /// those about to join it. None: it has not fetched in this epoch.
    pub others: &'a [Option<Offset>],
}

/// The high watermark after these facts; never less than before. It does not move while the committed ISR is
/// smaller than `min.insync.replicas` (KIP-966), nor while one that counts has not been heard in this epoch.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_isr::{Committed, advance};
/// let alone = Committed {
///     high_watermark: Offset::ZERO, leader_end: Offset::new(9), in_sync: 1, needed: 2, others: &[],
/// };
/// assert_eq!(advance(&alone), Offset::ZERO);
/// assert_eq!(advance(&Committed { needed: 1, ..alone }), Offset::new(9));
/// ```
pub fn advance(facts: &Committed<'_>) -> Offset {
    if facts.in_sync < facts.needed {
        return facts.high_watermark;
    }
    let mut candidate = facts.leader_end;
    for end in facts.others {
        match end {
            Some(end) => candidate = candidate.min(*end),
            None => return facts.high_watermark,
        }
    }
    candidate.max(facts.high_watermark)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of small facts, against the rule said another way.
    #[test]
    fn the_high_watermark_is_the_smallest_end_that_counts_and_never_falls() {
        let offsets = [None, Some(0), Some(1), Some(2), Some(3)];
        for (high, leader, in_sync, needed) in (0..4).flat_map(|h| {
            (0..4).flat_map(move |l| (1..4).flat_map(move |i| (1..4).map(move |n| (h, l, i, n))))
        }) {
            for a in offsets {
                for b in offsets {
                    let others = [a.map(Offset::new), b.map(Offset::new)];
                    let facts = Committed {
                        high_watermark: Offset::new(high),
                        leader_end: Offset::new(leader),
                        in_sync,
                        needed,
                        others: &others,
                    };
                    let next = advance(&facts).get();
                    assert!(next >= high);
                    match (a, b) {
                        (Some(a), Some(b)) if in_sync >= needed => {
                            assert_eq!(next, high.max(leader.min(a).min(b)));
                        }
                        _ => assert_eq!(next, high),
                    }
                }
            }
        }
    }
}
