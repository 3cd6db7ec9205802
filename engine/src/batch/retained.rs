//! What compaction leaves of a batch: the records that stay, or a bare header. Kafka's bytes (kafka.md 3.9).

use highwater_base::{LeaderEpoch, Offset, WallMs};

use super::header::{self, HEADER_BYTES, Header, LOG_OVERHEAD};
use super::{Attributes, BatchError, Codec, Record, RecordStream, TimestampType, compress};

/// The batch with the records that `keep` keeps, in order: it is told the number of each, counted from 0. `horizon` is
/// the time after which tombstones and markers may go, if there is one. Base offset, last offset, producer, leader
/// epoch, codec and meaning of the timestamps stay; a record keeps its offset, its time and everything in it.
///
/// At least one record must be kept. It may unpack to at most `limit` bytes.
pub(crate) fn retained_batch(
    batch: &[u8],
    horizon: Option<WallMs>,
    limit: u64,
    mut keep: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, BatchError> {
    let header = Header::decode(batch).ok_or(BatchError::Partial { found: batch.len() })?;
    let codec = header.attributes().codec().unwrap_or(Codec::None);
    let mut stream = RecordStream::new(batch, limit)?;
    let mut plain = Vec::new();
    let (mut number, mut count) = (0, 0);
    let mut base = horizon;
    let mut max = WallMs::NONE;
    while let Some(mut record) = stream.next()? {
        if keep(number) {
            let timestamp = record.timestamp(header);
            let base = *base.get_or_insert(timestamp);
            max = max.max(timestamp);
            record.timestamp_delta = timestamp.get().wrapping_sub(base.get());
            record.write(&mut plain);
            count += 1;
        }
        number += 1;
    }
    if header.attributes().timestamp_type() == TimestampType::LogAppend {
        max = header.max_timestamp();
    }
    let mut attributes = header.attributes().bits() & !Attributes::DELETE_HORIZON;
    if horizon.is_some() {
        attributes |= Attributes::DELETE_HORIZON;
    }
    let facts = Facts { attributes, base: base.unwrap_or(WallMs::NONE), max, count };
    finish(batch, &compress(codec, &plain)?, facts)
}

/// The batch without any record: its offsets, its producer and its sequence stay.
pub(crate) fn emptied_batch(header: Header<'_>, batch: &[u8]) -> Vec<u8> {
    let kept = Attributes::LOG_APPEND | Attributes::TRANSACTIONAL | Attributes::CONTROL;
    let attributes = header.attributes().bits() & kept;
    let facts = Facts { attributes, base: WallMs::NONE, max: header.max_timestamp(), count: 0 };
    finish(batch, &[], facts).expect("a header alone is short")
}

/// What compaction changes in a header.
struct Facts {
    attributes: i16,
    base: WallMs,
    max: WallMs,
    count: i32,
}

/// The header of `batch` with these facts, in front of `records`.
fn finish(batch: &[u8], records: &[u8], facts: Facts) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(HEADER_BYTES + records.len());
    out.extend_from_slice(&batch[..HEADER_BYTES]);
    out.extend_from_slice(records);
    let length = i32::try_from(out.len() - LOG_OVERHEAD)
        .map_err(|_| BatchError::TooLarge { found: out.len(), limit: i32::MAX as usize })?;
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(header::LENGTH, &length.to_be_bytes());
    put(header::ATTRIBUTES, &facts.attributes.to_be_bytes());
    put(header::BASE_TIMESTAMP, &facts.base.get().to_be_bytes());
    put(header::MAX_TIMESTAMP, &facts.max.get().to_be_bytes());
    put(header::RECORD_COUNT, &facts.count.to_be_bytes());
    header::reseal(&mut out);
    Ok(out)
}

/// Collects the records that stay of a batch of an older format, and makes them a batch of magic 2: base offset the
/// first record's, no leader epoch, no producer.
pub(crate) struct Converted {
    codec: Codec,
    timestamps: TimestampType,
    max: WallMs,
    /// Offset and timestamp of the first, once there is one.
    first: Option<(Offset, WallMs)>,
    last: Offset,
    count: i32,
    plain: Vec<u8>,
}

impl Converted {
    /// None yet, to be packed by `codec`; of LogAppendTime batches `max` is every record's time.
    pub(crate) fn new(codec: Codec, timestamps: TimestampType) -> Converted {
        Converted {
            codec,
            timestamps,
            max: WallMs::NONE,
            first: None,
            last: Offset::ZERO,
            count: 0,
            plain: Vec::new(),
        }
    }

    /// One more.
    pub(crate) fn push(
        &mut self,
        offset: Offset,
        timestamp: WallMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let (base, base_timestamp) = *self.first.get_or_insert((offset, timestamp));
        self.max = self.max.max(timestamp);
        let record = Record {
            timestamp_delta: timestamp.get().wrapping_sub(base_timestamp.get()),
            offset_delta: offset.since(base) as i32,
            key,
            value,
            headers: super::Headers::default(),
        };
        record.write(&mut self.plain);
        self.last = offset;
        self.count += 1;
    }

    /// The batch; none if no record stays.
    pub(crate) fn finish(self) -> Option<Result<Vec<u8>, BatchError>> {
        let (base, base_timestamp) = self.first?;
        let mut empty = super::BatchBuilder::new()
            .base_offset(base)
            .leader_epoch(LeaderEpoch::NONE)
            .timestamp_type(self.timestamps)
            .build();
        let delta = self.last.since(base) as i32;
        empty[header::LAST_OFFSET_DELTA..header::BASE_TIMESTAMP].copy_from_slice(&delta.to_be_bytes());
        let bits = Header::decode(&empty).map_or(0, |header| header.attributes().bits());
        let attributes = bits | i16::from(self.codec.bits());
        let facts = Facts { attributes, base: base_timestamp, max: self.max, count: self.count };
        let packed = compress(self.codec, &self.plain).map_err(BatchError::from);
        Some(packed.and_then(|packed| finish(&empty, &packed, facts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use highwater_base::{ProducerEpoch, ProducerId};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn kafka_s_tombstones_with_a_horizon_come_out() {
        // Two tombstones of a batch of which nothing else was there: offsets 4 and 5, times base+1 and base+2.
        let base = 0x19b_76da_a800;
        let batch = BatchBuilder::new()
            .base_offset(Offset::new(4))
            .leader_epoch(LeaderEpoch::new(1))
            .record(base + 1, Some(b"b"), None)
            .record(base + 2, Some(b"c"), Some(b"9"))
            .build();
        let horizon = Some(WallMs::new(0x19b_7c01_07e8));
        assert_eq!(
            hex(&retained_batch(&batch, horizon, 1000, |_| true).unwrap()),
            "00000000000000040000004800000001022d3255f30040000000010000019b7c0107e80000019b76daa802\
             ffffffffffffffffffffffffffff000000021400cdffb25200026201001600cbffb252020263023900"
        );
    }

    #[test]
    fn kafka_s_empty_batch_comes_out() {
        let batch = BatchBuilder::new()
            .base_offset(Offset::new(3))
            .leader_epoch(LeaderEpoch::new(1))
            .producer(ProducerId::new(1000), ProducerEpoch::new(0), 0)
            .codec(Codec::Gzip)
            .record(0x19b_76da_a800, Some(b"k"), Some(b"v"))
            .build();
        assert_eq!(
            hex(&emptied_batch(Header::decode(&batch).unwrap(), &batch)),
            "00000000000000030000003100000001024be47add000000000000ffffffffffffffff0000019b76daa800\
             00000000000003e800000000000000000000"
        );
    }
}
