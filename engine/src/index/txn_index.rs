//! The transaction index: 34-byte entries, one for each aborted transaction whose marker lies in the segment.

use highwater_base::{Offset, ProducerId};

use super::IndexError;

/// Bytes of one entry.
pub const TXN_ENTRY_BYTES: usize = LAST_STABLE + 8;

const VERSION: usize = 0;
const PRODUCER: usize = VERSION + 2;
const FIRST: usize = PRODUCER + 8;
const LAST: usize = FIRST + 8;
const LAST_STABLE: usize = LAST + 8;

const _: () = assert!(TXN_ENTRY_BYTES == 34);

/// An aborted transaction.
///
/// ```
/// use highwater_base::{Offset, ProducerId};
/// use highwater_engine::index::AbortedTxn;
/// let aborted = AbortedTxn {
///     producer_id: ProducerId::new(2000),
///     first_offset: Offset::new(5),
///     last_offset: Offset::new(7),
///     last_stable_offset: Offset::new(6),
/// };
/// assert_eq!(aborted.encode().len(), 34);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTxn {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its first record in this partition.
    pub first_offset: Offset,
    /// Its abort marker.
    pub last_offset: Offset,
    /// The last stable offset just after the abort took effect.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    /// The entry's bytes, version 0.
    pub fn encode(&self) -> [u8; TXN_ENTRY_BYTES] {
        let mut out = [0; TXN_ENTRY_BYTES];
        out[PRODUCER..FIRST].copy_from_slice(&self.producer_id.get().to_be_bytes());
        out[FIRST..LAST].copy_from_slice(&self.first_offset.get().to_be_bytes());
        out[LAST..LAST_STABLE].copy_from_slice(&self.last_offset.get().to_be_bytes());
        out[LAST_STABLE..].copy_from_slice(&self.last_stable_offset.get().to_be_bytes());
        out
    }
}

/// The bytes of a segment's transaction index.
///
/// ```
/// use highwater_base::{Offset, ProducerId};
/// use highwater_engine::index::{AbortedTxn, TxnIndex};
/// let aborted = AbortedTxn {
///     producer_id: ProducerId::new(2000),
///     first_offset: Offset::new(5),
///     last_offset: Offset::new(7),
///     last_stable_offset: Offset::new(6),
/// };
/// let bytes = aborted.encode();
/// assert_eq!(TxnIndex::new(&bytes).entries().collect::<Vec<_>>(), [(0, aborted)]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TxnIndex<'a> {
    bytes: &'a [u8],
}

impl<'a> TxnIndex<'a> {
    /// These bytes.
    pub const fn new(bytes: &'a [u8]) -> TxnIndex<'a> {
        TxnIndex { bytes }
    }

    /// How many entries.
    pub const fn len(self) -> usize {
        self.bytes.len() / TXN_ENTRY_BYTES
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.bytes.len() < TXN_ENTRY_BYTES
    }

    /// All entries, each with its version, of which only 0 is known.
    pub fn entries(self) -> impl Iterator<Item = (i16, AbortedTxn)> + 'a {
        self.bytes.chunks_exact(TXN_ENTRY_BYTES).map(|entry| {
            let word = |at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
            let aborted = AbortedTxn {
                producer_id: ProducerId::new(word(PRODUCER)),
                first_offset: Offset::new(word(FIRST)),
                last_offset: Offset::new(word(LAST)),
                last_stable_offset: Offset::new(word(LAST_STABLE)),
            };
            (i16::from_be_bytes([entry[VERSION], entry[VERSION + 1]]), aborted)
        })
    }

    /// Adds to `out` the transactions that matter to a read of `from..end`; says whether no later segment can add
    /// any.
    pub fn collect(self, from: Offset, end: Offset, out: &mut Vec<AbortedTxn>) -> bool {
        for (_, aborted) in self.entries() {
            if aborted.last_offset >= from && aborted.first_offset < end {
                out.push(aborted);
            }
            if aborted.last_stable_offset >= end {
                return true;
            }
        }
        false
    }

    /// How many leading entries have their marker below `end`: what a truncation to `end` keeps.
    pub fn len_below(self, end: Offset) -> usize {
        self.entries().take_while(|(_, aborted)| aborted.last_offset < end).count()
    }

    /// Whether length, versions, order and base are as they must be.
    pub fn check(self, base: Offset) -> Result<(), IndexError> {
        if !self.bytes.len().is_multiple_of(TXN_ENTRY_BYTES) {
            return Err(IndexError::Length { found: self.bytes.len(), entry: TXN_ENTRY_BYTES });
        }
        let mut least = base;
        for (entry, (version, aborted)) in self.entries().enumerate() {
            if version != 0 {
                return Err(IndexError::Version { entry, found: version });
            }
            for (found, expected) in
                [(aborted.last_offset, least), (aborted.last_offset, aborted.first_offset)]
            {
                if found < expected {
                    let (found, expected) = (found.get(), expected.get());
                    return Err(IndexError::Offset { entry, found, expected });
                }
            }
            least = aborted.last_offset.plus(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId::new(producer),
            first_offset: Offset::new(first),
            last_offset: Offset::new(last),
            last_stable_offset: Offset::new(stable),
        }
    }

    #[test]
    fn kafka_s_bytes_come_out() {
        let mut expected = [0; TXN_ENTRY_BYTES];
        expected[8..10].copy_from_slice(&[7, 0xd0]);
        (expected[17], expected[25], expected[33]) = (5, 7, 6);
        assert_eq!(aborted(2000, 5, 7, 6).encode(), expected);
    }

    #[test]
    fn a_query_takes_what_overlaps_and_stops_at_the_stable_offset() {
        let all = [aborted(1, 0, 4, 2), aborted(2, 2, 9, 5), aborted(3, 20, 30, 25), aborted(4, 31, 40, 41)];
        let bytes: Vec<u8> = all.iter().flat_map(AbortedTxn::encode).collect();
        let query = |from, end| {
            let mut out = Vec::new();
            let complete = TxnIndex::new(&bytes).collect(Offset::new(from), Offset::new(end), &mut out);
            (out.iter().map(|a| a.producer_id.get()).collect::<Vec<_>>(), complete)
        };
        assert_eq!(query(5, 10), (vec![2], true));
        assert_eq!(query(0, 3), (vec![1, 2], true));
        assert_eq!(query(10, 50), (vec![3, 4], false));
    }

    #[test]
    fn disorder_is_named_by_entry() {
        let bytes: Vec<u8> =
            [aborted(1, 0, 4, 2), aborted(2, 2, 4, 5)].iter().flat_map(AbortedTxn::encode).collect();
        assert_eq!(
            TxnIndex::new(&bytes).check(Offset::ZERO),
            Err(IndexError::Offset { entry: 1, found: 4, expected: 5 })
        );
        assert_eq!(
            TxnIndex::new(&bytes[..40]).check(Offset::ZERO),
            Err(IndexError::Length { found: 40, entry: 34 })
        );
    }
}
