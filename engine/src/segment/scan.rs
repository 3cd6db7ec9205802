//! A batch found on disk: is it what it must be? The only place where bytes from a disk are believed.

use highwater_base::{LeaderEpoch, Mutant, Offset};

use super::BatchFacts;
use crate::batch::{Batch, legacy_base_offset};
use crate::epochs::EpochCache;

/// What is wrong with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Its checksum differs.
    Checksum,
    /// Its offsets do not fit: they run backwards, or lie outside the segment.
    Offsets,
    /// Its leader epoch is not the one that was in force.
    Epoch,
}

/// Bytes that a compressed set of an older format may unpack to while its first offset is found.
const LEGACY_BYTES: u64 = 64 << 20;

/// Judges a whole batch. `expected` is the offset after the batch before it, if that one is known; `base` the
/// segment's base. Offsets and epoch are outside the checksum, so they are held against what is known otherwise.
pub(crate) fn judge(
    batch: Batch<'_>,
    base: Offset,
    expected: Option<Offset>,
    epochs: Option<&EpochCache>,
    mutant: Mutant,
) -> Result<BatchFacts, Fault> {
    if mutant != Mutant::NoCrc && !batch.crc_matches() {
        return Err(Fault::Checksum);
    }
    let facts = facts_of(batch);
    let least = expected.unwrap_or(base).max(base);
    let relative = facts.last.since(base);
    if facts.first < least || facts.last < facts.first || relative > i64::from(i32::MAX) {
        return Err(Fault::Offsets);
    }
    if let Some(epochs) = epochs {
        let in_force = epochs.epoch_at(facts.first);
        // Batches of older formats carry none, and none may be known from before an upgrade. Any other negative one is
        // damage.
        if facts.leader_epoch != LeaderEpoch::NONE && in_force.is_some() && facts.leader_epoch != in_force {
            return Err(Fault::Epoch);
        }
    }
    Ok(facts)
}

/// What a segment needs to know of a batch.
pub(crate) fn facts_of(batch: Batch<'_>) -> BatchFacts {
    let (first, leader_epoch) = match batch.header() {
        Some(header) => (header.base_offset(), header.leader_epoch()),
        None => (first_of_legacy(batch), LeaderEpoch::NONE),
    };
    BatchFacts {
        size: batch.size() as u64,
        first,
        last: batch.last_offset(),
        max_timestamp: batch.max_timestamp(),
        leader_epoch,
    }
}

fn first_of_legacy(batch: Batch<'_>) -> Offset {
    // What a broken wrapper holds cannot be told; its last offset can.
    legacy_base_offset(batch, LEGACY_BYTES).map_or_else(|_| batch.last_offset(), |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Batches};

    fn bytes() -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(Offset::new(10)).leader_epoch(LeaderEpoch::new(3));
        for value in 0..3u8 {
            builder = builder.record(5, None, Some(&[value]));
        }
        builder.build()
    }

    fn judged(bytes: &[u8], expected: Option<i64>) -> Result<BatchFacts, Fault> {
        let mut epochs = EpochCache::default();
        epochs.assign(LeaderEpoch::new(3), Offset::ZERO);
        let batch = Batches::in_memory(bytes).next().unwrap().unwrap();
        judge(batch, Offset::new(10), expected.map(Offset::new), Some(&epochs), Mutant::None)
    }

    #[test]
    fn what_the_checksum_leaves_out_is_held_against_what_is_known() {
        let good = bytes();
        assert_eq!(judged(&good, Some(10)).unwrap().last, Offset::new(12));
        assert_eq!(judged(&good, Some(11)), Err(Fault::Offsets));
        let mut other = good.clone();
        other[15] ^= 1; // leader epoch
        assert_eq!(judged(&other, Some(10)), Err(Fault::Epoch));
        other[12] ^= 0x80; // and a negative one
        assert_eq!(judged(&other, Some(10)), Err(Fault::Epoch));
        other = good.clone();
        other[0] ^= 0x40; // base offset
        assert_eq!(judged(&other, Some(10)), Err(Fault::Offsets));
        other = good;
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(judged(&other, Some(10)), Err(Fault::Checksum));
    }
}
