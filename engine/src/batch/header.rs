//! The 61-byte header of a magic 2 record batch, seen in place.

use highwater_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};

use super::crc32c;

// Where each field lies: every constant is the end of the field before it, so that none can be moved alone.
pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const LENGTH: usize = BASE_OFFSET + 8;
pub(crate) const LEADER_EPOCH: usize = LENGTH + 4;
pub(crate) const MAGIC: usize = LEADER_EPOCH + 4;
pub(crate) const CRC: usize = MAGIC + 1;
pub(crate) const ATTRIBUTES: usize = CRC + 4;
pub(crate) const LAST_OFFSET_DELTA: usize = ATTRIBUTES + 2;
pub(crate) const BASE_TIMESTAMP: usize = LAST_OFFSET_DELTA + 4;
pub(crate) const MAX_TIMESTAMP: usize = BASE_TIMESTAMP + 8;
pub(crate) const PRODUCER_ID: usize = MAX_TIMESTAMP + 8;
pub(crate) const PRODUCER_EPOCH: usize = PRODUCER_ID + 8;
pub(crate) const BASE_SEQUENCE: usize = PRODUCER_EPOCH + 2;
pub(crate) const RECORD_COUNT: usize = BASE_SEQUENCE + 4;

/// Length of a magic 2 header; the records follow.
pub const HEADER_BYTES: usize = RECORD_COUNT + 4;
/// The base offset and the length, which the length does not count.
pub const LOG_OVERHEAD: usize = LEADER_EPOCH;
/// Bytes from which a batch's size and magic can be told.
pub const MAGIC_PREFIX: usize = MAGIC + 1;

const _: () = assert!(HEADER_BYTES == 61 && LOG_OVERHEAD == 12 && MAGIC_PREFIX == 17);

/// How a batch's records are compressed.
///
/// ```
/// use highwater_engine::batch::Codec;
/// assert_eq!(Codec::from_bits(4), Some(Codec::Zstd));
/// assert_eq!(Codec::from_bits(5), None);
/// assert_eq!(Codec::named("lz4"), Some(Codec::Lz4));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Xerial's stream of snappy blocks, or one raw block.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard frames; magic 2 only.
    Zstd,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this id (attribute bits 0 to 2); 5 to 7 are none.
    pub const fn from_bits(bits: u8) -> Option<Codec> {
        match bits {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Its id.
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// Its name, as Kafka's settings write it.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Whether this program can pack and unpack it: `none` always, the others by the feature of their name.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Codec::None => true,
            Codec::Gzip => cfg!(feature = "gzip"),
            Codec::Snappy => cfg!(feature = "snappy"),
            Codec::Lz4 => cfg!(feature = "lz4"),
            Codec::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// The codec with this name; `uncompressed` is none.
    pub fn named(name: &str) -> Option<Codec> {
        if name == "uncompressed" {
            return Some(Codec::None);
        }
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// What a batch's timestamps mean.
///
/// ```
/// assert_eq!(highwater_engine::batch::TimestampType::LogAppend.name(), "LogAppendTime");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampType {
    /// Given by the producer, record by record.
    #[default]
    Create,
    /// Given by the broker on arrival, one for the batch.
    LogAppend,
}

impl TimestampType {
    /// Kafka's name, as in `message.timestamp.type`.
    pub const fn name(self) -> &'static str {
        match self {
            TimestampType::Create => "CreateTime",
            TimestampType::LogAppend => "LogAppendTime",
        }
    }
}

/// The attribute bits of a batch (magic 2: 16 bits, before: 8).
///
/// ```
/// use highwater_engine::batch::{Attributes, Codec};
/// let a = Attributes::new(0x0031);
/// assert!(a.is_control() && a.is_transactional());
/// assert_eq!(a.codec(), Some(Codec::Gzip));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes(i16);

impl Attributes {
    pub(crate) const CODEC: i16 = 0x07;
    pub(crate) const LOG_APPEND: i16 = 0x08;
    pub(crate) const TRANSACTIONAL: i16 = 0x10;
    pub(crate) const CONTROL: i16 = 0x20;
    pub(crate) const DELETE_HORIZON: i16 = 0x40;

    /// These bits.
    pub const fn new(bits: i16) -> Attributes {
        Attributes(bits)
    }

    /// The bits as stored, unused ones too.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// The codec, unless its id is an illegal one (5 to 7).
    pub const fn codec(self) -> Option<Codec> {
        Codec::from_bits((self.0 & Self::CODEC) as u8)
    }

    /// What the timestamps mean.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether its record is a marker, not data.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp holds a delete horizon (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// A magic 2 header in place, unchecked: every accessor says what is stored, not that it is right.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Header};
/// let bytes = BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).build();
/// let header = Header::decode(&bytes).unwrap();
/// assert_eq!(header.record_count(), 1);
/// assert_eq!(header.size(), Some(bytes.len()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_BYTES]);

impl<'a> Header<'a> {
    /// The header at the front of `bytes`; none if they are fewer than 61 or their magic is not 2.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Option<Header<'a>> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        (header[MAGIC] == 2).then_some(Header(header))
    }

    /// The offset from which the records' deltas count.
    #[inline]
    pub fn base_offset(self) -> Offset {
        Offset::new(i64::from_be_bytes(self.field(BASE_OFFSET)))
    }

    /// The bytes after the length field.
    #[inline]
    pub fn length(self) -> i32 {
        i32::from_be_bytes(self.field(LENGTH))
    }

    /// The batch's whole size, if its length is one that a magic 2 batch can have.
    #[inline]
    pub fn size(self) -> Option<usize> {
        let size = usize::try_from(self.length()).ok()? + LOG_OVERHEAD;
        (size >= HEADER_BYTES).then_some(size)
    }

    /// The epoch of the leader that accepted it.
    #[inline]
    pub fn leader_epoch(self) -> LeaderEpoch {
        LeaderEpoch::new(i32::from_be_bytes(self.field(LEADER_EPOCH)))
    }

    /// CRC-32C over everything from the attributes on, as stored.
    #[inline]
    pub fn crc(self) -> u32 {
        u32::from_be_bytes(self.field(CRC))
    }

    /// Codec, timestamp type and so on.
    #[inline]
    pub fn attributes(self) -> Attributes {
        Attributes(i16::from_be_bytes(self.field(ATTRIBUTES)))
    }

    /// The last offset, counted from the base offset.
    #[inline]
    pub fn last_offset_delta(self) -> i32 {
        i32::from_be_bytes(self.field(LAST_OFFSET_DELTA))
    }

    /// The last offset (inclusive).
    #[inline]
    pub fn last_offset(self) -> Offset {
        self.base_offset().plus(i64::from(self.last_offset_delta()))
    }

    /// The time from which the records' deltas count; with the delete-horizon bit, the horizon.
    #[inline]
    pub fn base_timestamp(self) -> WallMs {
        WallMs::new(i64::from_be_bytes(self.field(BASE_TIMESTAMP)))
    }

    /// The largest record timestamp, or the append time.
    #[inline]
    pub fn max_timestamp(self) -> WallMs {
        WallMs::new(i64::from_be_bytes(self.field(MAX_TIMESTAMP)))
    }

    /// The idempotent producer, or none.
    #[inline]
    pub fn producer_id(self) -> ProducerId {
        ProducerId::new(i64::from_be_bytes(self.field(PRODUCER_ID)))
    }

    /// The producer's epoch; means something only with a producer id.
    #[inline]
    pub fn producer_epoch(self) -> ProducerEpoch {
        ProducerEpoch::new(i16::from_be_bytes(self.field(PRODUCER_EPOCH)))
    }

    /// The first record's sequence number, or -1.
    #[inline]
    pub fn base_sequence(self) -> i32 {
        i32::from_be_bytes(self.field(BASE_SEQUENCE))
    }

    /// The last record's sequence number, or -1; after 2^31 - 1 comes 0.
    pub fn last_sequence(self) -> i32 {
        match self.base_sequence() {
            -1 => -1,
            base => add_sequence(base, self.last_offset_delta()),
        }
    }

    /// How many records are present.
    #[inline]
    pub fn record_count(self) -> i32 {
        i32::from_be_bytes(self.field(RECORD_COUNT))
    }

    /// The delete horizon, if there is one.
    pub fn delete_horizon(self) -> Option<WallMs> {
        self.attributes().has_delete_horizon().then(|| self.base_timestamp())
    }

    #[inline]
    fn field<const N: usize>(self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("constants lie inside the header")
    }
}

/// The CRC-32C that a magic 2 batch should have. `batch` is the whole batch.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Header, computed_crc};
/// let bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// assert_eq!(computed_crc(&bytes), Header::decode(&bytes).unwrap().crc());
/// ```
#[inline]
pub fn computed_crc(batch: &[u8]) -> u32 {
    crc32c(batch.get(ATTRIBUTES..).unwrap_or_default())
}

/// Writes the base offset, which the CRC does not cover. Panics on fewer than 61 bytes.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::batch::{BatchBuilder, Header, set_base_offset};
/// let mut bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// set_base_offset(&mut bytes, Offset::new(9));
/// assert_eq!(Header::decode(&bytes).unwrap().last_offset(), Offset::new(9));
/// ```
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    batch[BASE_OFFSET..LENGTH].copy_from_slice(&offset.get().to_be_bytes());
}

/// Writes the leader epoch, which the CRC does not cover. Panics on fewer than 61 bytes.
///
/// ```
/// use highwater_base::LeaderEpoch;
/// use highwater_engine::batch::{BatchBuilder, Header, set_leader_epoch};
/// let mut bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// set_leader_epoch(&mut bytes, LeaderEpoch::new(3));
/// assert_eq!(Header::decode(&bytes).unwrap().leader_epoch().get(), 3);
/// ```
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    batch[LEADER_EPOCH..MAGIC].copy_from_slice(&epoch.get().to_be_bytes());
}

/// Writes attributes and largest timestamp, and the CRC anew if either changed; says whether it did.
pub(crate) fn set_times(batch: &mut [u8], attributes: Attributes, max_timestamp: WallMs) -> bool {
    let attributes = attributes.bits().to_be_bytes();
    let max = max_timestamp.get().to_be_bytes();
    if batch[ATTRIBUTES..LAST_OFFSET_DELTA] == attributes && batch[MAX_TIMESTAMP..PRODUCER_ID] == max {
        return false;
    }
    batch[ATTRIBUTES..LAST_OFFSET_DELTA].copy_from_slice(&attributes);
    batch[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&max);
    reseal(batch);
    true
}

/// Writes the CRC that the bytes have now.
pub(crate) fn reseal(batch: &mut [u8]) {
    let crc = computed_crc(batch);
    batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

/// `sequence + by`, where after 2^31 - 1 comes 0.
///
/// ```
/// use highwater_engine::batch::add_sequence;
/// assert_eq!(add_sequence(i32::MAX, 1), 0);
/// assert_eq!(add_sequence(5, 3), 8);
/// ```
pub const fn add_sequence(sequence: i32, by: i32) -> i32 {
    if sequence > i32::MAX.saturating_sub(by) {
        // Wrapping, because the fields come from a peer and may be anything.
        by.wrapping_sub(i32::MAX.wrapping_sub(sequence)).wrapping_sub(1)
    } else {
        sequence.wrapping_add(by)
    }
}

/// `sequence - by`, where before 0 comes 2^31 - 1.
///
/// ```
/// use highwater_engine::batch::subtract_sequence;
/// assert_eq!(subtract_sequence(0, 1), i32::MAX);
/// ```
pub const fn subtract_sequence(sequence: i32, by: i32) -> i32 {
    if sequence < by {
        i32::MAX.wrapping_sub(by.wrapping_sub(sequence)).wrapping_add(1)
    } else {
        sequence.wrapping_sub(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_both_ways() {
        for (sequence, by) in [(0, 0), (i32::MAX, 1), (i32::MAX - 1, 5), (7, 100), (0, i32::MAX)] {
            assert_eq!(subtract_sequence(add_sequence(sequence, by), by), sequence);
        }
        assert_eq!(add_sequence(i32::MAX - 1, 5), 3);
    }

    #[test]
    fn arithmetic_on_hostile_fields_does_not_panic() {
        for sequence in [i32::MIN, -1, 0, i32::MAX] {
            for by in [i32::MIN, -1, 0, i32::MAX] {
                let _ = (add_sequence(sequence, by), subtract_sequence(sequence, by));
            }
        }
    }
}
