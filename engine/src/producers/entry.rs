//! One producer as a log remembers it, and what a batch says about its producer.

use highwater_base::{Offset, ProducerEpoch, ProducerId, WallMs};

use super::SnapshotEntry;
use crate::batch::{Batch, RecordStream, add_sequence, subtract_sequence};

/// Batches remembered of one producer: the largest `max.in.flight` of an idempotent client.
pub const REMEMBERED_BATCHES: usize = 5;

/// What a batch says about its producer.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Batches};
/// use highwater_engine::producers::ProducerBatch;
/// let bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// assert_eq!(ProducerBatch::of(Batches::in_memory(&bytes).next().unwrap().unwrap()), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerBatch {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The first record's sequence, or -1.
    pub base_sequence: i32,
    /// The last record's sequence, or -1.
    pub last_sequence: i32,
    /// The first offset.
    pub first_offset: Offset,
    /// The last offset (inclusive).
    pub last_offset: Offset,
    /// The batch's largest timestamp.
    pub timestamp: WallMs,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Set if it ends one.
    pub marker: Option<MarkerFacts>,
}

/// What a transaction marker says.
///
/// ```
/// use highwater_engine::producers::MarkerFacts;
/// let marker = MarkerFacts { committed: true, coordinator_epoch: 3 };
/// assert!(marker.committed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkerFacts {
    /// Committed or aborted.
    pub committed: bool,
    /// The epoch of the coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl ProducerBatch {
    /// From a whole batch; none if it has no producer, or is a control batch that is no transaction marker (one that
    /// the cleaner emptied, one of KRaft).
    pub fn of(batch: Batch<'_>) -> Option<ProducerBatch> {
        let header = batch.header()?;
        if !header.producer_id().is_some() {
            return None;
        }
        let control = header.attributes().is_control();
        let marker = if control { Some(MarkerFacts::of(batch)?) } else { None };
        Some(ProducerBatch {
            producer_id: header.producer_id(),
            epoch: header.producer_epoch(),
            base_sequence: header.base_sequence(),
            last_sequence: header.last_sequence(),
            first_offset: header.base_offset(),
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp(),
            transactional: header.attributes().is_transactional(),
            marker,
        })
    }
}

impl MarkerFacts {
    /// From a control batch; none if it holds no transaction marker.
    pub fn of(batch: Batch<'_>) -> Option<MarkerFacts> {
        // A marker's key and value are ten bytes; it is never compressed, but the limit holds if one is.
        let mut records = RecordStream::new(batch.bytes(), 1 << 10).ok()?;
        let record = records.next().ok()??;
        let key = record.key?.first_chunk::<4>()?;
        let committed = match i16::from_be_bytes([key[2], key[3]]) {
            0 => false,
            1 => true,
            _ => return None,
        };
        let value = record.value?.get(2..6)?;
        Some(MarkerFacts { committed, coordinator_epoch: i32::from_be_bytes(value.try_into().ok()?) })
    }
}

/// A batch as it is remembered, to know it again.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// use highwater_engine::producers::BatchMeta;
/// let meta = BatchMeta { last_sequence: 4, last_offset: Offset::new(14), offset_delta: 4, timestamp: WallMs::NONE };
/// assert_eq!((meta.first_sequence(), meta.first_offset()), (0, Offset::new(10)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchMeta {
    /// Its last record's sequence.
    pub last_sequence: i32,
    /// Its last offset.
    pub last_offset: Offset,
    /// Last offset minus first.
    pub offset_delta: i32,
    /// Its largest timestamp.
    pub timestamp: WallMs,
}

impl BatchMeta {
    /// Its first record's sequence.
    pub const fn first_sequence(&self) -> i32 {
        subtract_sequence(self.last_sequence, self.offset_delta)
    }

    /// Its first offset.
    pub const fn first_offset(&self) -> Offset {
        self.last_offset.plus(-(self.offset_delta as i64))
    }

    const EMPTY: BatchMeta =
        BatchMeta { last_sequence: -1, last_offset: Offset::NONE, offset_delta: 0, timestamp: WallMs::NONE };
}

/// One producer.
///
/// ```
/// use highwater_engine::producers::Producers;
/// assert!(Producers::new(1).iter().next().is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerEntry {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: WallMs,
    /// Where its open transaction began here.
    open: Option<Offset>,
    /// The last `count` batches of this epoch, oldest first.
    batches: [BatchMeta; REMEMBERED_BATCHES],
    count: u8,
}

impl ProducerEntry {
    pub(super) const fn unknown() -> ProducerEntry {
        ProducerEntry {
            epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: WallMs::NONE,
            open: None,
            batches: [BatchMeta::EMPTY; REMEMBERED_BATCHES],
            count: 0,
        }
    }

    /// Its current epoch.
    pub const fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The epoch of the coordinator that wrote its last marker, or -1.
    pub const fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    /// The largest timestamp of its last batch.
    pub const fn last_timestamp(&self) -> WallMs {
        self.last_timestamp
    }

    /// Where its open transaction began, if one is open.
    pub const fn open_transaction(&self) -> Option<Offset> {
        self.open
    }

    /// The last batches of its epoch, oldest first, five at most.
    pub fn batches(&self) -> &[BatchMeta] {
        &self.batches[..usize::from(self.count)]
    }

    /// The last sequence of its epoch, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(-1, |batch| batch.last_sequence)
    }

    /// Whether this sequence comes next; after 2^31 - 1 comes 0.
    pub(super) fn is_next(&self, sequence: i32) -> bool {
        match self.last_sequence() {
            -1 => sequence == 0,
            last => sequence == add_sequence(last, 1),
        }
    }

    pub(super) const fn is_idle(&self, now: WallMs, expiration_ms: i64) -> bool {
        self.open.is_none() && now.get().saturating_sub(self.last_timestamp.get()) > expiration_ms
    }

    /// A data batch; gives the first offset of a transaction that it opens.
    pub(super) fn append(&mut self, batch: &ProducerBatch) -> Option<Offset> {
        self.set_epoch(batch.epoch);
        if usize::from(self.count) == REMEMBERED_BATCHES {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = BatchMeta {
            last_sequence: batch.last_sequence,
            last_offset: batch.last_offset,
            offset_delta: i32::try_from(batch.last_offset.since(batch.first_offset)).unwrap_or(i32::MAX),
            timestamp: batch.timestamp,
        };
        self.count += 1;
        self.last_timestamp = batch.timestamp;
        let opens = batch.transactional && self.open.is_none();
        if opens {
            self.open = Some(batch.first_offset);
        }
        self.open.filter(|_| opens)
    }

    /// A marker; gives the first offset of the transaction that it ends, if one was open.
    pub(super) fn end(&mut self, batch: &ProducerBatch, coordinator_epoch: i32) -> Option<Offset> {
        self.set_epoch(batch.epoch);
        self.coordinator_epoch = coordinator_epoch;
        self.last_timestamp = batch.timestamp;
        self.open.take()
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.count = 0;
        }
    }

    pub(super) fn snapshot_entry(&self, producer_id: ProducerId) -> SnapshotEntry {
        let last = self.batches().last().copied().unwrap_or(BatchMeta::EMPTY);
        SnapshotEntry {
            producer_id,
            epoch: self.epoch,
            last_sequence: last.last_sequence,
            last_offset: last.last_offset,
            offset_delta: last.offset_delta,
            timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            open_transaction: self.open.unwrap_or(Offset::NONE),
        }
    }

    pub(super) fn from_snapshot(entry: &SnapshotEntry) -> ProducerEntry {
        let mut known = ProducerEntry::unknown();
        known.epoch = entry.epoch;
        known.coordinator_epoch = entry.coordinator_epoch;
        known.last_timestamp = entry.timestamp;
        known.open = Some(entry.open_transaction).filter(|offset| offset.is_some());
        if entry.last_offset.is_some() {
            known.count = 1;
            known.batches[0] = BatchMeta {
                last_sequence: entry.last_sequence,
                last_offset: entry.last_offset,
                offset_delta: entry.offset_delta,
                timestamp: entry.timestamp,
            };
        }
        known
    }
}
