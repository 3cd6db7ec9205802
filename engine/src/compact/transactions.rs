//! Transactions as compaction meets them: whose data goes, and when a marker is needed no more.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{Offset, ProducerId};

use crate::index::AbortedTxn;
use crate::producers::ProducerBatch;

/// Follows the transactions of a log from its start, batch by batch (Kafka's `CleanedTransactionMetadata`).
#[derive(Clone, Debug, Default)]
pub(super) struct CleanedTransactions {
    /// Aborted ones that the walk has not come to, by first offset.
    ahead: BTreeMap<Offset, AbortedTxn>,
    /// Aborted ones that it is in, and whether a batch of theirs was met.
    aborted: BTreeMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers of whose committed, or still open, transaction a batch was met.
    committed: BTreeSet<ProducerId>,
}

/// What a batch is to its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// It has none, or counts.
    Data,
    /// It was aborted: nobody may see it.
    AbortedData,
    /// A marker before which data of its transaction stood; of an aborted one, its entry in the index.
    NeededMarker(Option<AbortedTxn>),
    /// A marker of which no data is left, or one that was emptied. It needs no entry in the index: there is nothing to hide, and
    /// an index that is made anew from the segment has none either.
    IdleMarker,
    /// A control batch that is no transaction's.
    OtherControl,
}

impl CleanedTransactions {
    /// `aborted`: every aborted transaction that the log knows.
    pub(super) fn new(aborted: impl Iterator<Item = AbortedTxn>) -> CleanedTransactions {
        let ahead = aborted.map(|aborted| (aborted.first_offset, aborted)).collect();
        CleanedTransactions { ahead, ..CleanedTransactions::default() }
    }

    /// A data batch of `producer` with these first and last offsets.
    pub(super) fn data(
        &mut self,
        producer: ProducerId,
        transactional: bool,
        first: Offset,
        last: Offset,
    ) -> Part {
        self.reach(last);
        if !transactional {
            return Part::Data;
        }
        match self.aborted.get_mut(&producer) {
            Some((aborted, met)) if first <= aborted.last_offset => {
                *met = true;
                Part::AbortedData
            }
            _ => {
                self.committed.insert(producer);
                Part::Data
            }
        }
    }

    /// A control batch: its marker, if it has one; `empty` if it has no record.
    pub(super) fn control(&mut self, marker: Option<&ProducerBatch>, empty: bool, last: Offset) -> Part {
        self.reach(last);
        let Some((batch, marker)) = marker.and_then(|batch| Some((batch, batch.marker?))) else {
            return if empty { Part::IdleMarker } else { Part::OtherControl };
        };
        if marker.committed {
            let met = self.committed.remove(&batch.producer_id);
            return if met { Part::NeededMarker(None) } else { Part::IdleMarker };
        }
        match self.aborted.remove(&batch.producer_id) {
            Some((aborted, true)) => Part::NeededMarker(Some(aborted)),
            _ => Part::IdleMarker,
        }
    }

    /// The walk has come to `offset`: aborted transactions that began by then are met, those that ended are over.
    fn reach(&mut self, offset: Offset) {
        while let Some(next) = self.ahead.first_entry()
            && *next.key() <= offset
        {
            let aborted = next.remove();
            match self.aborted.get(&aborted.producer_id) {
                // Still in it: its marker has not come.
                Some((earlier, _)) if earlier.last_offset >= aborted.first_offset => {}
                _ => {
                    self.aborted.insert(aborted.producer_id, (aborted, false));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producers::MarkerFacts;
    use highwater_base::{ProducerEpoch, WallMs};

    const PRODUCER: ProducerId = ProducerId::new(7);

    fn aborted(first: i64, last: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: PRODUCER,
            first_offset: Offset::new(first),
            last_offset: Offset::new(last),
            last_stable_offset: Offset::new(last + 1),
        }
    }

    fn marker(at: i64, committed: bool) -> ProducerBatch {
        ProducerBatch {
            producer_id: PRODUCER,
            epoch: ProducerEpoch::new(0),
            base_sequence: -1,
            last_sequence: -1,
            first_offset: Offset::new(at),
            last_offset: Offset::new(at),
            timestamp: WallMs::new(0),
            transactional: true,
            marker: Some(MarkerFacts { committed, coordinator_epoch: 0 }),
        }
    }

    #[test]
    fn aborted_data_goes_and_its_marker_stays_until_a_walk_meets_no_data() {
        let mut walk = CleanedTransactions::new([aborted(3, 6)].into_iter());
        let at = Offset::new;
        assert_eq!(walk.data(PRODUCER, true, at(0), at(1)), Part::Data);
        assert_eq!(walk.control(Some(&marker(2, true)), false, at(2)), Part::NeededMarker(None));
        assert_eq!(walk.data(PRODUCER, true, at(3), at(4)), Part::AbortedData);
        assert_eq!(walk.data(ProducerId::new(8), false, at(5), at(5)), Part::Data);
        assert_eq!(
            walk.control(Some(&marker(6, false)), false, at(6)),
            Part::NeededMarker(Some(aborted(3, 6)))
        );
        let mut next = CleanedTransactions::new([aborted(3, 6)].into_iter());
        assert_eq!(next.control(Some(&marker(2, true)), false, at(2)), Part::IdleMarker);
        assert_eq!(next.control(Some(&marker(6, false)), false, at(6)), Part::IdleMarker);
        assert_eq!(next.control(None, true, at(7)), Part::IdleMarker);
        assert_eq!(next.control(None, false, at(8)), Part::OtherControl);
    }

    #[test]
    fn an_abort_whose_marker_went_does_not_reach_what_came_later() {
        let mut walk = CleanedTransactions::new([aborted(3, 6)].into_iter());
        assert_eq!(walk.data(PRODUCER, true, Offset::new(3), Offset::new(4)), Part::AbortedData);
        assert_eq!(walk.data(PRODUCER, true, Offset::new(9), Offset::new(9)), Part::Data);
    }
}
