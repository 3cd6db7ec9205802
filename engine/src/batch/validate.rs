//! What is checked when a batch arrives (Kafka's order of checks, `LogValidator` and `UnifiedLog`), and what is
//! then changed in it in place.

use highwater_base::{LeaderEpoch, Mutant, Offset, ProducerEpoch, ProducerId, WallMs};

use super::error::Faults;
use super::header::{self, HEADER_BYTES};
use super::skim::{RecordFacts, skim, skim_plain};
use super::{
    Attributes, Batch, BatchError, Codec, Decoder, Header, Record, RecordError, RecordFault, TimestampType,
};

/// Who wrote the batch, which decides what is checked.
///
/// ```
/// use highwater_engine::batch::Writer;
/// assert_ne!(Writer::Client, Writer::Replica);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writer {
    /// A producer: everything is checked.
    Client,
    /// A coordinator of ours (markers, group offsets): control batches are allowed.
    Coordinator,
    /// A leader, through replication: framing and checksum only; offsets are assigned already.
    Replica,
}

/// A topic's rules for what arrives.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Rules, arrival};
/// use highwater_base::WallMs;
/// let batch = BatchBuilder::new().record(1_000, None, Some(b"v")).build();
/// let facts = arrival(&batch, &Rules::default(), WallMs::new(2_000)).unwrap();
/// assert_eq!(facts.record_count, 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Who wrote it.
    pub writer: Writer,
    /// `max.message.bytes`: the whole batch. Default 1,048,588.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch must fit. Default 1 GiB.
    pub segment_bytes: usize,
    /// `message.timestamp.type`. Default CreateTime.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`. Default unlimited.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`. Default one hour.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`: every record needs a key. Default no.
    pub compacted: bool,
    /// Exactly one batch is expected, as in a produce request. Default yes.
    pub one_batch: bool,
    /// Bytes that compressed records may unpack to. Default 1 GiB.
    pub decompressed_bytes: u64,
    /// Look at every record. Without it the header's largest timestamp is believed. Default yes.
    pub check_records: bool,
    /// A rule weakened by a test.
    pub mutant: Mutant,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            writer: Writer::Client,
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::Create,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            one_batch: true,
            decompressed_bytes: 1 << 30,
            check_records: true,
            mutant: Mutant::None,
        }
    }
}

/// What is known of a batch that was accepted.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Codec, Rules, arrival};
/// use highwater_base::WallMs;
/// let batch = BatchBuilder::new().codec(Codec::Gzip).record(5, None, Some(b"v")).build();
/// let facts = arrival(&batch, &Rules::default(), WallMs::new(6)).unwrap();
/// assert_eq!((facts.size, facts.codec, facts.max_timestamp), (batch.len(), Codec::Gzip, WallMs::new(5)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Size of the batch at the front of the bytes; others may follow unless `one_batch` was asked.
    pub size: usize,
    /// The base offset as it arrived: 0 from a client, assigned from a replica.
    pub base_offset: Offset,
    /// The last offset, counted from the base offset.
    pub last_offset_delta: i32,
    /// The leader epoch as it arrived.
    pub leader_epoch: LeaderEpoch,
    /// How many records.
    pub record_count: i32,
    /// How they are packed.
    pub codec: Codec,
    /// The attribute bits as they arrived.
    pub attributes: Attributes,
    /// The true largest timestamp of the records if they were looked at, else the header's. Of a LogAppendTime
    /// topic it is the append time.
    pub max_timestamp: WallMs,
    /// The header's base timestamp.
    pub base_timestamp: WallMs,
    /// The producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence, or -1.
    pub base_sequence: i32,
    /// The last record's sequence, or -1.
    pub last_sequence: i32,
    /// The offset deltas are 0, 1, 2…, or the records were not looked at. If not, a compressed batch must be
    /// packed anew ([`super::recompress`]), as Kafka does.
    pub consecutive: bool,
}

/// Checks the batch at the front of `bytes` by `rules`. Changes and keeps nothing; allocates only to unpack.
///
/// Beyond Kafka's checks, a record whose offset delta lies outside the batch is refused: it would be served under
/// an offset that belongs to another batch.
pub fn arrival(bytes: &[u8], rules: &Rules, now: WallMs) -> Result<Arrival, BatchError> {
    let (batch, header) = framed(bytes, rules)?;
    check_crc(batch.bytes(), header, rules.mutant)?;
    examined(batch, header, rules, now)
}

/// Like [`arrival`], but the checksum of a batch that is accepted is still to be compared. One that is refused has the
/// right one, or that is why.
pub(crate) fn arrival_unsummed(bytes: &[u8], rules: &Rules, now: WallMs) -> Result<Arrival, BatchError> {
    let (batch, header) = framed(bytes, rules)?;
    examined(batch, header, rules, now).or_else(|refused| {
        check_crc(batch.bytes(), header, rules.mutant)?;
        Err(refused)
    })
}

/// The batch at the front of `bytes`, if it is one that may come.
fn framed<'a>(bytes: &'a [u8], rules: &Rules) -> Result<(Batch<'a>, Header<'a>), BatchError> {
    let batch = Batch::at(bytes, 0)?.ok_or(BatchError::Partial { found: bytes.len() })?;
    let Some(header) = batch.header() else { return Err(BatchError::Magic { found: batch.magic() }) };
    let client = rules.writer == Writer::Client;
    if rules.one_batch && batch.size() != bytes.len() {
        return Err(BatchError::Several { first: batch.size(), total: bytes.len() });
    }
    if client && header.base_offset() != Offset::ZERO {
        return Err(BatchError::BaseOffset { found: header.base_offset().get() });
    }
    if rules.writer != Writer::Replica || rules.mutant == Mutant::ReplicaSizeLimited {
        if batch.size() > rules.max_message_bytes {
            return Err(BatchError::TooLarge { found: batch.size(), limit: rules.max_message_bytes });
        }
        if batch.size() > rules.segment_bytes {
            return Err(BatchError::LargerThanSegment { found: batch.size(), limit: rules.segment_bytes });
        }
    }
    Ok((batch, header))
}

/// What the checksum covers.
fn examined(batch: Batch<'_>, header: Header<'_>, rules: &Rules, now: WallMs) -> Result<Arrival, BatchError> {
    let attributes = header.attributes();
    let codec = attributes.codec().ok_or(BatchError::Codec { found: (attributes.bits() & 7) as u8 })?;
    if rules.writer != Writer::Replica {
        check_header(header, rules)?;
    }
    let mut facts = Arrival {
        size: batch.size(),
        base_offset: header.base_offset(),
        last_offset_delta: header.last_offset_delta(),
        leader_epoch: header.leader_epoch(),
        record_count: header.record_count(),
        codec,
        attributes,
        max_timestamp: header.max_timestamp(),
        base_timestamp: header.base_timestamp(),
        producer_id: header.producer_id(),
        producer_epoch: header.producer_epoch(),
        base_sequence: header.base_sequence(),
        last_sequence: header.last_sequence(),
        consecutive: true,
    };
    if rules.writer != Writer::Replica {
        if rules.check_records {
            let (max_timestamp, consecutive) = check_records(batch, header, codec, rules, now)?;
            facts.max_timestamp = max_timestamp;
            facts.consecutive = consecutive;
        }
        if rules.timestamp_type == TimestampType::LogAppend {
            facts.max_timestamp = now;
        }
    }
    Ok(facts)
}

/// Writes what the leader decides into an accepted batch: base offset, leader epoch, timestamp type and largest
/// timestamp. The CRC is made anew only if the last two change. Says whether it was.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset, WallMs};
/// use highwater_engine::batch::{BatchBuilder, Batches, Rules, arrival, stamp};
/// let mut batch = BatchBuilder::new().record(5, None, Some(b"v")).build();
/// let rules = Rules::default();
/// let facts = arrival(&batch, &rules, WallMs::new(6)).unwrap();
/// assert!(!stamp(&mut batch, &facts, Offset::new(70), LeaderEpoch::new(2), rules.timestamp_type));
/// let batch = Batches::in_memory(&batch).next().unwrap().unwrap();
/// assert!(batch.crc_matches());
/// assert_eq!(batch.last_offset(), Offset::new(70));
/// ```
pub fn stamp(
    batch: &mut [u8],
    facts: &Arrival,
    base_offset: Offset,
    epoch: LeaderEpoch,
    timestamp_type: TimestampType,
) -> bool {
    header::set_base_offset(batch, base_offset);
    header::set_leader_epoch(batch, epoch);
    let bits = match timestamp_type {
        TimestampType::Create => facts.attributes.bits() & !Attributes::LOG_APPEND,
        TimestampType::LogAppend => facts.attributes.bits() | Attributes::LOG_APPEND,
    };
    header::set_times(batch, Attributes::new(bits), facts.max_timestamp)
}

/// Compares a magic 2 batch's checksum, as every path that takes batches from outside must.
///
/// ```
/// use highwater_base::Mutant;
/// use highwater_engine::batch::{BatchBuilder, Header, check_crc};
/// let mut bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// let last = bytes.len() - 1;
/// bytes[last] ^= 1;
/// let header = Header::decode(&bytes).unwrap();
/// assert!(check_crc(&bytes, header, Mutant::None).is_err());
/// ```
#[inline]
pub fn check_crc(batch: &[u8], header: Header<'_>, mutant: Mutant) -> Result<(), BatchError> {
    if mutant == Mutant::NoCrc {
        return Ok(());
    }
    let found = header::computed_crc(batch);
    if found == header.crc() { Ok(()) } else { Err(BatchError::Checksum { expected: header.crc(), found }) }
}

fn check_header(header: Header<'_>, rules: &Rules) -> Result<(), BatchError> {
    let span = i64::from(header.last_offset_delta()) + 1;
    let count = header.record_count();
    if span <= 0 || count <= 0 || span != i64::from(count) {
        return Err(BatchError::Count { expected: span, found: count });
    }
    if rules.writer != Writer::Client {
        return Ok(());
    }
    let attributes = header.attributes();
    if attributes.is_control() {
        return Err(BatchError::Control);
    }
    // kafkajs sends producer id -1 with epoch 0 and sequence 0: only a real id needs a sequence.
    if header.producer_id().is_some() && header.base_sequence() < 0 {
        return Err(BatchError::Sequence {
            producer: header.producer_id().get(),
            found: header.base_sequence(),
        });
    }
    if attributes.timestamp_type() == TimestampType::LogAppend {
        // Kafka accepts the mark on a CreateTime topic, unless the records have no time of their own.
        let refused =
            rules.timestamp_type == TimestampType::LogAppend || header.max_timestamp() == WallMs::NONE;
        if refused {
            return Err(BatchError::TimestampType { topic: rules.timestamp_type });
        }
    }
    Ok(())
}

/// The largest timestamp, and whether the offset deltas are 0, 1, 2….
fn check_records(
    batch: Batch<'_>,
    header: Header<'_>,
    codec: Codec,
    rules: &Rules,
    now: WallMs,
) -> Result<(WallMs, bool), BatchError> {
    let mut check = RecordCheck::new(header, rules, now);
    let count = header.record_count();
    if codec == Codec::None {
        let stream = &batch.bytes()[HEADER_BYTES..];
        let mut position = 0;
        for number in 0..count {
            let rest = &stream[position..];
            let (facts, used) = match skim_plain(rest) {
                Some(skimmed) => skimmed,
                None => {
                    let (record, used) = Record::read(rest, position)?;
                    let Record { timestamp_delta, offset_delta, key, .. } = record;
                    (RecordFacts { timestamp_delta, offset_delta, has_key: key.is_some() }, used)
                }
            };
            position += used;
            check.see(number, facts)?;
        }
        if position != stream.len() {
            let fault = RecordFault::Trailing { bytes: stream.len() - position };
            return Err(RecordError { position, fault }.into());
        }
    } else {
        let decoder = Decoder::new(codec, batch.records_bytes(), rules.decompressed_bytes);
        skim(decoder, count, |number, facts| check.see(number, facts))?;
    }
    check.finish()
}

/// Gathers what the records say, fault by fault.
struct RecordCheck {
    /// A timestamp that all records have, whatever their deltas say.
    fixed_timestamp: Option<i64>,
    base_timestamp: i64,
    last_offset_delta: i32,
    earliest: i64,
    latest: i64,
    check_time: bool,
    check_key: bool,
    max_timestamp: i64,
    consecutive: bool,
    bad_times: Faults,
    missing_keys: Faults,
    rules: (i64, i64, i64),
}

impl RecordCheck {
    fn new(header: Header<'_>, rules: &Rules, now: WallMs) -> RecordCheck {
        let appended = header.attributes().timestamp_type() == TimestampType::LogAppend;
        RecordCheck {
            fixed_timestamp: appended.then(|| header.max_timestamp().get()),
            base_timestamp: header.base_timestamp().get(),
            last_offset_delta: header.last_offset_delta(),
            earliest: now.get().saturating_sub(rules.timestamp_before_max_ms),
            latest: match rules.mutant {
                Mutant::FutureAccepted => i64::MAX,
                _ => now.get().saturating_add(rules.timestamp_after_max_ms),
            },
            check_time: rules.timestamp_type == TimestampType::Create && rules.writer == Writer::Client,
            check_key: rules.compacted && !header.attributes().is_control(),
            max_timestamp: WallMs::NONE.get(),
            consecutive: true,
            bad_times: Faults::default(),
            missing_keys: Faults::default(),
            rules: (rules.timestamp_before_max_ms, rules.timestamp_after_max_ms, now.get()),
        }
    }

    #[inline]
    fn see(&mut self, number: i32, record: RecordFacts) -> Result<(), BatchError> {
        let timestamp =
            self.fixed_timestamp.unwrap_or_else(|| self.base_timestamp.wrapping_add(record.timestamp_delta));
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if record.offset_delta != number {
            self.consecutive = false;
            if record.offset_delta < 0 || record.offset_delta > self.last_offset_delta {
                let (found, last) = (record.offset_delta, self.last_offset_delta);
                return Err(BatchError::OffsetDelta { record: number, found, last });
            }
        }
        if self.check_time && timestamp != -1 && (timestamp < self.earliest || timestamp > self.latest) {
            self.bad_times.add(number, timestamp);
        }
        if self.check_key && !record.has_key {
            self.missing_keys.add(number, timestamp);
        }
        Ok(())
    }

    fn finish(self) -> Result<(WallMs, bool), BatchError> {
        let (before_max_ms, after_max_ms, now_ms) = self.rules;
        if self.bad_times.total() > 0 {
            return Err(BatchError::Timestamp {
                before_max_ms,
                after_max_ms,
                now_ms,
                faults: self.bad_times,
            });
        }
        if self.missing_keys.total() > 0 {
            return Err(BatchError::MissingKey(self.missing_keys));
        }
        Ok((WallMs::new(self.max_timestamp), self.consecutive))
    }
}
