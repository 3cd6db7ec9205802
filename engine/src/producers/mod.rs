//! What a log remembers of its idempotent and transactional producers.
//!
//! [`Producers::check`] decides whether a batch may be appended (duplicate, in sequence, fenced); it changes nothing.
//! [`Producers::apply`] takes note of a batch that was appended, or found in a segment while recovering.
//! [`Snapshot`] is Kafka's file of it.

mod admission;
mod entry;
mod snapshot;

use std::collections::BTreeMap;

use highwater_base::{Mutant, Offset, ProducerId, WallMs};

use crate::index::AbortedTxn;
use crate::transactions::Transactions;

pub use admission::{Admission, ProducerError};
pub use entry::{BatchMeta, MarkerFacts, ProducerBatch, ProducerEntry, REMEMBERED_BATCHES};
pub use snapshot::{SNAPSHOT_ENTRY_BYTES, SNAPSHOT_HEADER_BYTES, Snapshot, SnapshotEntry, SnapshotError};

/// The producers of one log.
///
/// ```
/// use highwater_base::{Offset, ProducerEpoch, ProducerId};
/// use highwater_engine::batch::{BatchBuilder, Batches, Writer};
/// use highwater_engine::producers::{Admission, ProducerBatch, Producers};
/// let bytes = BatchBuilder::new()
///     .producer(ProducerId::new(7), ProducerEpoch::new(0), 0)
///     .record(1, None, Some(b"v"))
///     .build();
/// let batch = Batches::in_memory(&bytes).next().unwrap().unwrap();
/// let batch = ProducerBatch::of(batch).unwrap();
/// let mut producers = Producers::new(1000);
/// assert_eq!(producers.check(&batch, Writer::Client), Ok(Admission::Append));
/// producers.apply(&batch);
/// // The same once more: the client did not see our answer.
/// assert!(matches!(producers.check(&batch, Writer::Client), Ok(Admission::Duplicate { .. })));
/// ```
#[derive(Clone, Debug)]
pub struct Producers {
    entries: BTreeMap<ProducerId, ProducerEntry>,
    transactions: Transactions,
    limit: usize,
    mutant: Mutant,
}

impl Producers {
    /// None yet; at most `limit` are remembered (the longest idle ones are forgotten first).
    pub const fn new(limit: usize) -> Producers {
        Producers { entries: BTreeMap::new(), transactions: Transactions::new(), limit, mutant: Mutant::None }
    }

    /// With a rule weakened by a test.
    pub(crate) const fn weakened(mut self, mutant: Mutant) -> Producers {
        self.mutant = mutant;
        self
    }

    /// As Kafka once did after retention: only a mutant asks for it.
    pub(crate) fn forget_before(&mut self, start: Offset) {
        self.entries.retain(|_, entry| entry.batches().last().is_none_or(|last| last.last_offset >= start));
    }

    /// What is known of one producer.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.entries.get(&id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The largest id known, or none: new ids must lie above it.
    pub fn largest_id(&self) -> ProducerId {
        self.entries.last_key_value().map_or(ProducerId::NONE, |(id, _)| *id)
    }

    /// Open transactions, and those whose end is not below the high watermark yet.
    pub const fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Takes note that the high watermark is `offset`.
    pub fn advance_high_watermark(&mut self, offset: Offset) {
        self.transactions.advance(offset);
    }

    /// Takes note of an appended batch, without judging it. An abort marker that ends an open transaction gives the
    /// entry that its segment's transaction index must get.
    pub fn apply(&mut self, batch: &ProducerBatch) -> Option<AbortedTxn> {
        if !self.entries.contains_key(&batch.producer_id) {
            self.make_room();
        }
        let entry = self.entries.entry(batch.producer_id).or_insert_with(ProducerEntry::unknown);
        let Some(marker) = batch.marker else {
            if let Some(first) = entry.append(batch) {
                self.transactions.begin(first, batch.producer_id);
            }
            return None;
        };
        let first_offset = entry.end(batch, marker.coordinator_epoch)?;
        let last_stable_offset = self.transactions.end(first_offset, batch.last_offset);
        (!marker.committed).then_some(AbortedTxn {
            producer_id: batch.producer_id,
            first_offset,
            last_offset: batch.last_offset,
            last_stable_offset,
        })
    }

    /// Forgets producers without an open transaction that were idle for longer than `expiration_ms`; says how many.
    pub fn expire(&mut self, now: WallMs, expiration_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| !entry.is_idle(now, expiration_ms));
        before - self.entries.len()
    }

    /// The state as Kafka's snapshot file holds it; of each producer only the last batch.
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(self.entries.iter().map(|(id, entry)| entry.snapshot_entry(*id)), self.entries.len())
    }

    /// Adds what a snapshot holds, without producers idle for longer than `expiration_ms`. Says how many were added.
    pub fn load(
        &mut self,
        snapshot: Snapshot<'_>,
        now: WallMs,
        expiration_ms: i64,
    ) -> Result<usize, SnapshotError> {
        snapshot.check()?;
        let before = self.entries.len();
        for loaded in snapshot.entries() {
            let entry = ProducerEntry::from_snapshot(&loaded);
            if entry.is_idle(now, expiration_ms) {
                continue;
            }
            if let Some(first) = entry.open_transaction() {
                self.transactions.begin(first, loaded.producer_id);
            }
            if self.entries.len() >= self.limit {
                self.make_room();
            }
            self.entries.insert(loaded.producer_id, entry);
        }
        Ok(self.entries.len() - before)
    }

    /// Forgets everything: before a rebuild, or after the log was cut.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.transactions = Transactions::new();
    }

    /// At the limit, forgets the sixteenth that was idle longest, so that a scan pays for many new ones.
    fn make_room(&mut self) {
        if self.entries.len() < self.limit {
            return;
        }
        let mut times: Vec<i64> = self
            .entries
            .values()
            .filter(|entry| entry.open_transaction().is_none())
            .map(|entry| entry.last_timestamp().get())
            .collect();
        if times.is_empty() {
            return; // Each holds an open transaction, which must not be forgotten.
        }
        let cut = (self.entries.len() / 16).min(times.len() - 1);
        let (_, &mut oldest_kept, _) = times.select_nth_unstable(cut);
        let mut to_drop = self.entries.len() + 1 - self.limit + cut;
        self.entries.retain(|_, entry| {
            let drop = to_drop > 0
                && entry.open_transaction().is_none()
                && entry.last_timestamp().get() <= oldest_kept;
            to_drop -= usize::from(drop);
            !drop
        });
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::ProducerEpoch;

    use super::*;
    use crate::batch::Writer;

    fn data(id: i64, epoch: i16, sequence: i32, count: i32, first: i64) -> ProducerBatch {
        ProducerBatch {
            producer_id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: sequence,
            last_sequence: crate::batch::add_sequence(sequence, count - 1),
            first_offset: Offset::new(first),
            last_offset: Offset::new(first + i64::from(count) - 1),
            timestamp: WallMs::new(first),
            transactional: false,
            marker: None,
        }
    }

    fn transactional(mut batch: ProducerBatch) -> ProducerBatch {
        batch.transactional = true;
        batch
    }

    fn marker(id: i64, epoch: i16, offset: i64, committed: bool) -> ProducerBatch {
        let mut batch = data(id, epoch, -1, 1, offset);
        batch.marker = Some(MarkerFacts { committed, coordinator_epoch: 11 });
        batch
    }

    fn check(producers: &Producers, batch: &ProducerBatch) -> Result<Admission, i16> {
        producers.check(batch, Writer::Client).map_err(|e| e.kafka_code())
    }

    #[test]
    fn the_last_five_batches_are_known_again_and_the_sixth_is_out_of_order() {
        let mut producers = Producers::new(10);
        for i in 0..6 {
            let batch = data(1, 0, i * 10, 10, i64::from(i) * 10);
            assert_eq!(check(&producers, &batch), Ok(Admission::Append));
            producers.apply(&batch);
        }
        for i in 1..6 {
            let again = data(1, 0, i * 10, 10, 999);
            assert_eq!(
                check(&producers, &again),
                Ok(Admission::Duplicate {
                    first_offset: Offset::new(i64::from(i) * 10),
                    last_offset: Offset::new(i64::from(i) * 10 + 9),
                    timestamp: WallMs::new(i64::from(i) * 10),
                })
            );
        }
        assert_eq!(check(&producers, &data(1, 0, 0, 10, 999)), Err(45));
        assert_eq!(check(&producers, &data(1, 0, 50, 9, 999)), Err(45));
    }

    #[test]
    fn sequences_follow_each_other_and_wrap() {
        let mut producers = Producers::new(10);
        producers.apply(&data(1, 0, i32::MAX - 1, 2, 0));
        assert_eq!(check(&producers, &data(1, 0, 1, 1, 2)), Err(45));
        assert_eq!(check(&producers, &data(1, 0, 0, 1, 2)), Ok(Admission::Append));
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere_and_a_new_epoch_at_zero() {
        let mut producers = Producers::new(10);
        assert_eq!(check(&producers, &data(1, 4, 123, 1, 0)), Ok(Admission::Append));
        producers.apply(&data(1, 4, 123, 1, 0));
        assert_eq!(check(&producers, &data(1, 3, 124, 1, 1)), Err(47));
        assert_eq!(check(&producers, &data(1, 5, 124, 1, 1)), Err(45));
        assert_eq!(check(&producers, &data(1, 5, 0, 1, 1)), Ok(Admission::Append));
        // Coordinators give no sequences.
        assert_eq!(producers.check(&data(1, 4, -1, 1, 1), Writer::Coordinator), Ok(Admission::Append));
    }

    #[test]
    fn after_a_marker_with_a_new_epoch_sequences_begin_at_zero() {
        let mut producers = Producers::new(10);
        producers.apply(&transactional(data(1, 4, 7, 3, 0)));
        producers.apply(&marker(1, 5, 3, true));
        assert_eq!(check(&producers, &data(1, 5, 10, 1, 4)), Err(45));
        assert_eq!(check(&producers, &data(1, 5, 0, 1, 4)), Ok(Admission::Append));
    }

    #[test]
    fn plain_records_inside_an_open_transaction_are_refused() {
        let mut producers = Producers::new(10);
        producers.apply(&transactional(data(1, 4, 0, 1, 0)));
        assert_eq!(check(&producers, &data(1, 4, 1, 1, 1)), Err(48));
        assert_eq!(check(&producers, &transactional(data(1, 4, 1, 1, 1))), Ok(Admission::Append));
    }

    #[test]
    fn kafka_s_transactions_give_kafka_s_snapshot_and_index() {
        let mut producers = Producers::new(10);
        let stamped = |mut batch: ProducerBatch, timestamp: i64| {
            batch.timestamp = WallMs::new(timestamp);
            batch
        };
        producers.apply(&data(1000, 0, 0, 2, 3));
        producers.apply(&transactional(data(2000, 3, 0, 1, 5)));
        producers.apply(&transactional(data(2001, 5, 0, 1, 6)));
        assert_eq!(producers.transactions().first_unstable(), Some(Offset::new(5)));
        let aborted = producers.apply(&stamped(marker(2000, 4, 7, false), 0x19b_76da_b3b8)).unwrap();
        assert_eq!((aborted.first_offset.get(), aborted.last_stable_offset.get()), (5, 6));
        assert_eq!(producers.apply(&stamped(marker(2001, 6, 8, true), 0x19b_76da_b3b8)), None);
        producers.apply(&stamped(data(1000, 0, 2, 1, 9), 0x19b_76da_b7a0));
        let hex: String = producers.snapshot()[6..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "00000003\
             00000000000003e8000000000002000000000000000900000000\
             0000019b76dab7a0ffffffffffffffffffffffff\
             00000000000007d00004ffffffffffffffffffffffff00000000\
             0000019b76dab3b80000000bffffffffffffffff\
             00000000000007d10006ffffffffffffffffffffffff00000000\
             0000019b76dab3b80000000bffffffffffffffff"
        );
        // Both transactions ended, but the high watermark has not passed the markers.
        assert_eq!(producers.transactions().last_stable(Offset::new(20)), Offset::new(5));
        producers.advance_high_watermark(Offset::new(9));
        assert_eq!(producers.transactions().last_stable(Offset::new(20)), Offset::new(20));
    }

    #[test]
    fn a_snapshot_brings_back_the_last_batch_and_open_transactions() {
        let mut producers = Producers::new(10);
        producers.apply(&data(1, 0, 0, 5, 0));
        producers.apply(&data(1, 0, 5, 5, 5));
        producers.apply(&transactional(data(2, 7, 0, 1, 10)));
        let bytes = producers.snapshot();
        let mut again = Producers::new(10);
        assert_eq!(again.load(Snapshot::new(&bytes), WallMs::new(100), 1_000), Ok(2));
        assert_eq!(again.snapshot(), bytes);
        assert_eq!(again.transactions().first_unstable(), Some(Offset::new(10)));
        assert!(matches!(check(&again, &data(1, 0, 5, 5, 99)), Ok(Admission::Duplicate { .. })));
        assert_eq!(check(&again, &data(1, 0, 0, 5, 99)), Err(45));
    }

    #[test]
    fn idle_producers_are_forgotten_unless_a_transaction_is_open() {
        let mut producers = Producers::new(10);
        producers.apply(&data(1, 0, 0, 1, 100));
        producers.apply(&transactional(data(2, 0, 0, 1, 50)));
        assert_eq!(producers.expire(WallMs::new(200), 100), 0);
        assert_eq!(producers.expire(WallMs::new(201), 100), 1);
        assert!(producers.get(ProducerId::new(2)).is_some());
    }

    /// KAFKA-6003: a follower that forgot a producer gets sequence 57; its leader has judged (`docs/FAULTS.md`, R74).
    #[test]
    fn r74_a_replicated_batch_is_never_refused() {
        for (mutant, taken) in [(Mutant::None, true), (Mutant::ReplicaSequences, false)] {
            let mut producers = Producers::new(10).weakened(mutant);
            producers.apply(&data(1, 0, 0, 1, 0));
            let judged = producers.check(&data(1, 0, 57, 1, 1), Writer::Replica);
            assert_eq!(judged == Ok(Admission::Append), taken, "{mutant:?}");
        }
    }

    #[test]
    fn at_the_limit_the_longest_idle_go_first() {
        let mut producers = Producers::new(100);
        for i in 0..1000 {
            producers.apply(&data(i, 0, 0, 1, i));
            assert!(producers.len() <= 100);
        }
        assert!(producers.get(ProducerId::new(999)).is_some());
        assert!(producers.get(ProducerId::new(950)).is_some());
        assert_eq!(producers.largest_id(), ProducerId::new(999));
    }
}
