//! Makes magic 2 batches: for embedders, coordinators and tests. Clients' batches arrive ready-made.

use highwater_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};

use super::header::{self, HEADER_BYTES, LOG_OVERHEAD};
use super::record::{Headers, Record, encode_header};
use super::{Attributes, Codec, CompressionError, CompressionFault, TimestampType, compress};

/// Collects records and makes them one batch.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::batch::{BatchBuilder, Codec, Header};
/// let bytes = BatchBuilder::new()
///     .codec(Codec::Lz4)
///     .record(1_700_000_000_000, Some(b"key"), Some(b"value"))
///     .record_with_headers(1_700_000_000_001, None, Some(b"value"), &[("trace", Some(b"7"))])
///     .build();
/// assert_eq!(Header::decode(&bytes).unwrap().last_offset(), Offset::new(1));
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    attributes: i16,
    codec: Codec,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    /// The first record's timestamp, once there is one.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    count: i32,
    records: Vec<u8>,
    /// Room for one record's headers.
    scratch: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// No record yet, base offset 0, no leader epoch, no producer, not compressed, CreateTime.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            attributes: 0,
            codec: Codec::None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            base_timestamp: None,
            max_timestamp: WallMs::NONE.get(),
            count: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The first record's offset.
    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> BatchBuilder {
        self.base_offset = offset;
        self
    }

    /// The leader's epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> BatchBuilder {
        self.leader_epoch = epoch;
        self
    }

    /// How the records are packed.
    ///
    /// # Panics
    ///
    /// If this program was built without the codec; see [`Codec::is_compiled_in`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> BatchBuilder {
        assert!(
            codec.is_compiled_in(),
            "{}",
            CompressionError { codec, fault: CompressionFault::NotCompiledIn }
        );
        self.codec = codec;
        self
    }

    /// An idempotent producer, its epoch and the first record's sequence number.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> BatchBuilder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The batch belongs to a transaction.
    #[must_use]
    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= Attributes::TRANSACTIONAL;
        self
    }

    /// Its record is a marker. Clients may not write such batches.
    #[must_use]
    pub fn control(mut self) -> BatchBuilder {
        self.attributes |= Attributes::CONTROL;
        self
    }

    /// What the timestamps mean.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> BatchBuilder {
        match timestamp_type {
            TimestampType::Create => self.attributes &= !Attributes::LOG_APPEND,
            TimestampType::LogAppend => self.attributes |= Attributes::LOG_APPEND,
        }
        self
    }

    /// Adds a record without headers.
    #[must_use]
    pub fn record(mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> BatchBuilder {
        self.push(timestamp, key, value, &[]);
        self
    }

    /// Adds a record with headers.
    #[must_use]
    pub fn record_with_headers(
        mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> BatchBuilder {
        self.push(timestamp, key, value, headers);
        self
    }

    /// Adds a record, to a builder that is kept.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.scratch.clear();
        for (name, value) in headers {
            encode_header(&mut self.scratch, name.as_bytes(), *value);
        }
        let record = Record {
            timestamp_delta: timestamp.wrapping_sub(base),
            offset_delta: self.count,
            key,
            value,
            headers: Headers::encoded(headers.len() as u32, &self.scratch),
        };
        record.write(&mut self.records);
        self.count += 1;
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, before packing.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch. Without a record it is the bare header that compaction keeps of an active producer.
    pub fn build(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        if self.codec == Codec::None || self.count == 0 {
            out.extend_from_slice(&self.records);
        } else {
            out.extend_from_slice(&compress(self.codec, &self.records).expect("checked when it was named"));
        }
        let codec = if self.count == 0 { Codec::None } else { self.codec };
        let length = (out.len() - LOG_OVERHEAD) as i32;
        let attributes = self.attributes | i16::from(codec.bits());
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(header::BASE_OFFSET, &self.base_offset.get().to_be_bytes());
        put(header::LENGTH, &length.to_be_bytes());
        put(header::LEADER_EPOCH, &self.leader_epoch.get().to_be_bytes());
        put(header::MAGIC, &[2]);
        put(header::ATTRIBUTES, &attributes.to_be_bytes());
        put(header::LAST_OFFSET_DELTA, &(self.count - 1).max(0).to_be_bytes());
        put(header::BASE_TIMESTAMP, &self.base_timestamp.unwrap_or(-1).to_be_bytes());
        put(header::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(header::PRODUCER_ID, &self.producer_id.get().to_be_bytes());
        put(header::PRODUCER_EPOCH, &self.producer_epoch.get().to_be_bytes());
        put(header::BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(header::RECORD_COUNT, &self.count.to_be_bytes());
        header::reseal(&mut out);
        out
    }
}

/// How a transaction ended.
///
/// ```
/// use highwater_engine::batch::Marker;
/// assert_eq!(Marker::from_type(1), Some(Marker::Commit));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// Its records count as never written.
    Abort,
    /// Its records count.
    Commit,
}

impl Marker {
    /// The marker with this control type, if it is one of a transaction.
    pub const fn from_type(control_type: i16) -> Option<Marker> {
        match control_type {
            0 => Some(Marker::Abort),
            1 => Some(Marker::Commit),
            _ => None,
        }
    }

    const fn control_type(self) -> i16 {
        match self {
            Marker::Abort => 0,
            Marker::Commit => 1,
        }
    }
}

/// The control batch that ends a transaction: 78 bytes, to be given a base offset and a leader epoch.
///
/// ```
/// use highwater_base::{ProducerEpoch, ProducerId, WallMs};
/// use highwater_engine::batch::{Marker, marker_batch};
/// let bytes = marker_batch(Marker::Commit, ProducerId::new(7), ProducerEpoch::new(0), 3, WallMs::new(9));
/// assert_eq!(bytes.len(), 78);
/// ```
pub fn marker_batch(
    marker: Marker,
    producer: ProducerId,
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    now: WallMs,
) -> Vec<u8> {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&marker.control_type().to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    BatchBuilder::new()
        .transactional()
        .control()
        .producer(producer, epoch, -1)
        .record(now.get(), Some(&key), Some(&value))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn kafka_s_checksum_constant_comes_out() {
        let bytes = BatchBuilder::new()
            .record(283_843, Some(b"key1"), Some(b"value1"))
            .record(1234, Some(b"key2"), Some(b"value2"))
            .build();
        assert_eq!(
            hex(&bytes),
            "000000000000000000000055ffffffff02e58cf1ff000000000001000000000004\
             54c300000000000454c3ffffffffffffffffffffffffffff0000000220000000086b6579310c76616c7565310024\
             00e1bf2202086b6579320c76616c75653200"
        );
    }

    #[test]
    fn kafka_s_lz4_constant_comes_out() {
        let bytes = BatchBuilder::new()
            .codec(Codec::Lz4)
            .record(283_843, Some(b"key1"), Some(b"value1"))
            .record(1234, Some(b"key2"), Some(b"value2"))
            .build();
        assert_eq!(bytes.len(), 112);
        assert_eq!(header::Header::decode(&bytes).unwrap().crc(), 2_745_969_314);
    }

    #[test]
    fn kafka_s_abort_marker_comes_out() {
        let mut bytes = marker_batch(
            Marker::Abort,
            ProducerId::new(2000),
            ProducerEpoch::new(4),
            11,
            WallMs::new(0x19b_76da_b3b8),
        );
        header::set_base_offset(&mut bytes, Offset::new(7));
        header::set_leader_epoch(&mut bytes, LeaderEpoch::new(7));
        assert_eq!(
            hex(&bytes),
            "0000000000000007000000420000000702066e357d0030000000000000019b76dab3b80000019b76dab3b8\
             00000000000007d00004ffffffff00000001200000000800000000\
             0c00000000000b00"
        );
    }
}
