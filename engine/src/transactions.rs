//! Which transactions are open, and how far `read_committed` may read.

use std::collections::BTreeMap;

use highwater_base::{Offset, ProducerId};

/// Open transactions of one log, and ended ones whose marker the high watermark has not passed.
///
/// ```
/// use highwater_base::{Offset, ProducerId};
/// use highwater_engine::transactions::Transactions;
/// let mut transactions = Transactions::new();
/// transactions.begin(Offset::new(5), ProducerId::new(1));
/// assert_eq!(transactions.last_stable(Offset::new(9)), Offset::new(5));
/// transactions.end(Offset::new(5), Offset::new(8));
/// transactions.advance(Offset::new(9));
/// assert_eq!(transactions.last_stable(Offset::new(9)), Offset::new(9));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transactions {
    /// By first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// First offset to marker's offset, of those that ended and are not replicated yet.
    ended: BTreeMap<Offset, Offset>,
}

impl Transactions {
    /// None.
    pub const fn new() -> Transactions {
        Transactions { open: BTreeMap::new(), ended: BTreeMap::new() }
    }

    /// A producer's transaction begins at `first`.
    pub fn begin(&mut self, first: Offset, producer: ProducerId) {
        self.open.insert(first, producer);
    }

    /// The transaction that began at `first` ends with a marker at `last`. Gives the last stable offset as it will be
    /// once the high watermark has passed the marker.
    pub fn end(&mut self, first: Offset, last: Offset) -> Offset {
        self.open.remove(&first);
        self.ended.insert(first, last);
        self.open.first_key_value().map_or(last.plus(1), |(first, _)| *first)
    }

    /// The high watermark is `offset`: ended transactions whose marker lies below it no longer hold readers back.
    pub fn advance(&mut self, offset: Offset) {
        while let Some(entry) = self.ended.first_entry()
            && *entry.get() < offset
        {
            entry.remove();
        }
    }

    /// The first offset that may still be aborted, or whose end is not replicated.
    pub fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.first_key_value().map(|(first, _)| *first);
        open.into_iter().chain(ended).min()
    }

    /// The last stable offset: how far `read_committed` may read, given the high watermark.
    pub fn last_stable(&self, high_watermark: Offset) -> Offset {
        self.first_unstable().map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// Open transactions: where each began and whose it is.
    pub fn open(&self) -> impl Iterator<Item = (Offset, ProducerId)> + '_ {
        self.open.iter().map(|(first, producer)| (*first, *producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_transaction_holds_readers_until_its_marker_is_replicated() {
        let mut transactions = Transactions::new();
        transactions.begin(Offset::new(5), ProducerId::new(1));
        transactions.begin(Offset::new(6), ProducerId::new(2));
        assert_eq!(transactions.end(Offset::new(5), Offset::new(7)), Offset::new(6));
        assert_eq!(transactions.first_unstable(), Some(Offset::new(5)));
        transactions.advance(Offset::new(7));
        assert_eq!(transactions.first_unstable(), Some(Offset::new(5)));
        transactions.advance(Offset::new(8));
        assert_eq!(transactions.first_unstable(), Some(Offset::new(6)));
        assert_eq!(transactions.end(Offset::new(6), Offset::new(9)), Offset::new(10));
    }

    #[test]
    fn a_later_marker_does_not_wait_behind_an_earlier_start() {
        let mut transactions = Transactions::new();
        transactions.begin(Offset::new(1), ProducerId::new(1));
        transactions.begin(Offset::new(2), ProducerId::new(2));
        transactions.end(Offset::new(2), Offset::new(3));
        transactions.end(Offset::new(1), Offset::new(9));
        transactions.advance(Offset::new(5));
        // The transaction at 2 has passed; the one at 1 has not, and it is the one that counts.
        assert_eq!(transactions.last_stable(Offset::new(5)), Offset::new(1));
    }
}
