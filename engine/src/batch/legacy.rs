//! Message sets of magic 0 and 1: read, never written.

use std::borrow::Cow;
use std::fmt;

use highwater_base::{Offset, WallMs};

use super::header::{LOG_OVERHEAD, MAGIC, MAGIC_PREFIX};
use super::{Batch, Codec, CompressionError, Decoder, TimestampType};

// Both magics: offset 8, size 4, crc 4, magic 1, attributes 1; magic 1 then has a timestamp of 8.
const CRC: usize = LOG_OVERHEAD;
pub(super) const ATTRIBUTES: usize = MAGIC_PREFIX;
const TIMESTAMP: usize = ATTRIBUTES + 1;
const BODY_V0: usize = TIMESTAMP;
const BODY_V1: usize = TIMESTAMP + 8;

/// Bytes of an entry of magic 0 with null key and value, after offset and size.
pub(super) const OVERHEAD_V0: usize = BODY_V0 + 8 - LOG_OVERHEAD;
/// Bytes of an entry of magic 1 with null key and value, after offset and size.
pub(super) const OVERHEAD_V1: usize = BODY_V1 + 8 - LOG_OVERHEAD;

const _: () = assert!(OVERHEAD_V0 == 14 && OVERHEAD_V1 == 22 && CRC + 4 == MAGIC);

/// One record of a legacy message set.
///
/// ```
/// use highwater_engine::batch::LegacyEntry;
/// use highwater_base::{Offset, WallMs};
/// let entry = LegacyEntry { offset: Offset::ZERO, timestamp: WallMs::NONE, key: None, value: Some(b"v") };
/// assert!(entry.key.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LegacyEntry<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp; none in magic 0.
    pub timestamp: WallMs,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

/// Why a legacy entry cannot be read.
///
/// ```
/// use highwater_engine::batch::LegacyError;
/// assert!(LegacyError::Nested.to_string().contains("compressed"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LegacyError {
    /// A length that is negative or reaches beyond the entry.
    Length {
        /// Where, in the (unpacked) set.
        position: usize,
        /// The length.
        found: i32,
    },
    /// Bytes behind the value.
    Trailing {
        /// Where, in the (unpacked) set.
        position: usize,
    },
    /// An inner entry of another magic than its wrapper.
    Magic {
        /// The wrapper's.
        expected: i8,
        /// The inner one's.
        found: i8,
    },
    /// An inner entry that is compressed again.
    Nested,
    /// A wrapper around nothing.
    Empty,
    /// An inner offset that does not lie below the wrapper's.
    Offset {
        /// The wrapper's.
        wrapper: i64,
        /// The last inner one.
        inner: i64,
    },
    /// A codec that magic 0 and 1 do not have.
    Codec {
        /// Its id.
        found: u8,
    },
    /// The inner set cannot be unpacked.
    Compression(CompressionError),
}

impl fmt::Display for LegacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LegacyError::Length { position, found } => {
                write!(f, "message set at {position}: length {found} does not fit")
            }
            LegacyError::Trailing { position } => {
                write!(f, "message set at {position}: bytes behind the value")
            }
            LegacyError::Magic { expected, found } => {
                write!(f, "an inner message of magic {found}, expected {expected}")
            }
            LegacyError::Nested => f.write_str("an inner message is compressed again"),
            LegacyError::Empty => f.write_str("a compressed message set without messages"),
            LegacyError::Offset { wrapper, inner } => {
                write!(f, "inner offset {inner} does not lie below the wrapper's {wrapper}")
            }
            LegacyError::Codec { found } => write!(f, "codec {found}, expected 0 to 3"),
            LegacyError::Compression(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LegacyError {}

/// Gives `see` each record of a legacy batch in order; an inner set is unpacked to at most `limit` bytes.
///
/// ```
/// use highwater_engine::batch::{Batches, legacy_entries};
/// let bytes = [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 1, b'v'];
/// let batch = Batches::in_memory(&bytes).next().unwrap().unwrap();
/// let mut offsets = Vec::new();
/// legacy_entries(batch, 100, |entry| offsets.push(entry.offset.get())).unwrap();
/// assert_eq!(offsets, [5]);
/// ```
pub fn legacy_entries(
    batch: Batch<'_>,
    limit: u64,
    mut see: impl FnMut(LegacyEntry<'_>),
) -> Result<(), LegacyError> {
    let (wrapper, bits) = entry(batch)?;
    let set = match codec(bits, batch.magic())? {
        Codec::None => {
            see(wrapper);
            return Ok(());
        }
        codec => unpack(batch.magic(), codec, wrapper.value.unwrap_or_default(), limit)?,
    };
    let appended = batch.attributes().timestamp_type() == TimestampType::LogAppend && batch.magic() == 1;
    let base = base_of(batch, &set)?;
    for inner in inner_batches(batch.magic(), &set) {
        let (mut entry, bits) = entry(inner?)?;
        if bits & 7 != 0 {
            return Err(LegacyError::Nested);
        }
        entry.offset = entry.offset.plus(base);
        if appended {
            entry.timestamp = wrapper.timestamp;
        }
        see(entry);
    }
    Ok(())
}

/// The first offset of a legacy batch (which stores its last), unpacking it if need be, and how many records it has.
///
/// ```
/// use highwater_engine::batch::{Batches, legacy_base_offset};
/// let bytes = [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 1, b'v'];
/// let batch = Batches::in_memory(&bytes).next().unwrap().unwrap();
/// assert_eq!(legacy_base_offset(batch, 100).unwrap(), (highwater_base::Offset::new(5), 1));
/// ```
pub fn legacy_base_offset(batch: Batch<'_>, limit: u64) -> Result<(Offset, i32), LegacyError> {
    let mut first = None;
    let mut count = 0;
    legacy_entries(batch, limit, |entry| {
        first.get_or_insert(entry.offset);
        count += 1;
    })?;
    Ok((first.ok_or(LegacyError::Empty)?, count))
}

pub(super) fn timestamp(batch: &[u8]) -> WallMs {
    match batch[MAGIC] {
        1 => WallMs::new(i64::from_be_bytes(word(batch, TIMESTAMP))),
        _ => WallMs::NONE,
    }
}

pub(super) fn stored_crc(batch: &[u8]) -> u32 {
    u32::from_be_bytes(word(batch, CRC))
}

pub(super) fn computed_crc(batch: &[u8]) -> u32 {
    crc32fast::hash(&batch[MAGIC..])
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("framing gives entries that hold their fixed fields")
}

/// The entry itself (a wrapper's value is its inner set) and its attribute bits.
fn entry(batch: Batch<'_>) -> Result<(LegacyEntry<'_>, u8), LegacyError> {
    let bytes = batch.bytes();
    let mut at = if batch.magic() == 0 { BODY_V0 } else { BODY_V1 };
    let mut field = || {
        let position = batch.position() + at;
        let length = i32::from_be_bytes(
            bytes
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .ok_or(LegacyError::Length { position, found: 4 })?,
        );
        at += 4;
        if length == -1 {
            return Ok(None);
        }
        let end = usize::try_from(length).ok().map(|n| at + n);
        let field = end.and_then(|end| bytes.get(at..end));
        at = end.unwrap_or(at);
        field.map(Some).ok_or(LegacyError::Length { position, found: length })
    };
    let (key, value) = (field()?, field()?);
    if at != bytes.len() {
        return Err(LegacyError::Trailing { position: batch.position() + at });
    }
    let entry = LegacyEntry { offset: batch.stored_offset(), timestamp: timestamp(bytes), key, value };
    Ok((entry, bytes[ATTRIBUTES]))
}

fn codec(bits: u8, magic: i8) -> Result<Codec, LegacyError> {
    match Codec::from_bits(bits & 7) {
        Some(codec) if codec != Codec::Zstd && magic < 2 => Ok(codec),
        _ => Err(LegacyError::Codec { found: bits & 7 }),
    }
}

fn unpack(magic: i8, codec: Codec, packed: &[u8], limit: u64) -> Result<Cow<'static, [u8]>, LegacyError> {
    let mut out = Vec::new();
    let mut decoder = match magic {
        0 => Decoder::for_magic_0(codec, packed, limit),
        _ => Decoder::new(codec, packed, limit),
    };
    decoder.read_to_end(&mut out).map_err(LegacyError::Compression)?;
    Ok(Cow::Owned(out))
}

/// What to add to inner offsets: magic 0 has absolute ones, magic 1 relative ones below the wrapper's last.
fn base_of(wrapper: Batch<'_>, set: &[u8]) -> Result<i64, LegacyError> {
    let mut last = None;
    for inner in inner_batches(wrapper.magic(), set) {
        last = Some(inner?.stored_offset().get());
    }
    let last = last.ok_or(LegacyError::Empty)?;
    let stored = wrapper.stored_offset().get();
    match (wrapper.magic(), stored) {
        // Wrapper offset 0 comes from old clients: their inner offsets count from 0.
        (0, _) | (_, 0) => Ok(0),
        // Both are what the bytes claim: their difference need not fit.
        _ => stored
            .checked_sub(last)
            .filter(|base| *base >= 0)
            .ok_or(LegacyError::Offset { wrapper: stored, inner: last }),
    }
}

fn inner_batches(magic: i8, set: &[u8]) -> impl Iterator<Item = Result<Batch<'_>, LegacyError>> {
    super::Batches::in_memory(set).map(move |inner| match inner {
        Ok(inner) if inner.magic() == magic => Ok(inner),
        Ok(inner) => Err(LegacyError::Magic { expected: magic, found: inner.magic() }),
        Err(super::FrameError::Magic { found, .. }) => Err(LegacyError::Magic { expected: magic, found }),
        Err(error) => Err(LegacyError::Length { position: error.position(), found: 0 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batches, compress};

    fn message(magic: u8, offset: i64, attributes: u8, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![magic, attributes];
        if magic == 1 {
            body.extend(1000i64.wrapping_add(offset).to_be_bytes());
        }
        for field in [key, value] {
            body.extend(field.map_or(-1, |f| f.len() as i32).to_be_bytes());
            body.extend(field.unwrap_or_default());
        }
        let mut out = offset.to_be_bytes().to_vec();
        out.extend((body.len() as i32 + 4).to_be_bytes());
        out.extend(crc32fast::hash(&body).to_be_bytes());
        out.extend(body);
        out
    }

    fn offsets(bytes: &[u8]) -> Result<Vec<i64>, LegacyError> {
        let batch = Batches::in_memory(bytes).next().unwrap().unwrap();
        assert!(batch.crc_matches());
        let mut seen = Vec::new();
        legacy_entries(batch, 1 << 20, |entry| seen.push(entry.offset.get())).map(|()| seen)
    }

    #[test]
    fn kafka_s_checksum_constants_come_out() {
        for (magic, crc) in [(0u8, 1_978_725_405), (1, 109_425_508)] {
            let mut body = vec![magic, 0];
            if magic == 1 {
                body.extend(283_843i64.to_be_bytes());
            }
            body.extend(b"\0\0\0\x04key1\0\0\0\x06value1");
            assert_eq!(crc32fast::hash(&body), crc);
        }
    }

    #[test]
    fn inner_offsets_are_absolute_in_magic_0_and_relative_in_magic_1() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4] {
            let inner = |magic, offsets: [i64; 3]| {
                let set: Vec<u8> =
                    offsets.iter().flat_map(|&o| message(magic, o, 0, None, Some(b"value"))).collect();
                compress(codec, &set).unwrap()
            };
            let v0 = message(0, 12, codec.bits(), None, Some(&inner(0, [10, 11, 12])));
            assert_eq!(offsets(&v0), Ok(vec![10, 11, 12]));
            let v1 = message(1, 12, codec.bits(), None, Some(&inner(1, [0, 1, 2])));
            assert_eq!(offsets(&v1), Ok(vec![10, 11, 12]));
            let old = message(1, 0, codec.bits(), None, Some(&inner(1, [0, 1, 2])));
            assert_eq!(offsets(&old), Ok(vec![0, 1, 2]));
        }
    }

    #[test]
    fn inner_offsets_that_do_not_lie_below_the_wrapper_s_are_refused() {
        for (wrapper, last) in [(5, 6), (i64::MAX, i64::MIN), (i64::MIN, 1), (i64::MAX - 1, -2)] {
            let set = compress(Codec::Gzip, &message(1, last, 0, None, Some(b"value"))).unwrap();
            let refused = offsets(&message(1, wrapper, 1, None, Some(&set)));
            assert_eq!(refused, Err(LegacyError::Offset { wrapper, inner: last }));
        }
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        let inner = message(1, 0, 1, None, Some(&compress(Codec::Gzip, b"").unwrap()));
        let nested = message(1, 5, 1, None, Some(&compress(Codec::Gzip, &inner).unwrap()));
        assert_eq!(offsets(&nested), Err(LegacyError::Nested));
        assert_eq!(
            offsets(&message(1, 5, 1, None, Some(&compress(Codec::Gzip, b"").unwrap()))),
            Err(LegacyError::Empty)
        );
        assert_eq!(offsets(&message(1, 5, 4, None, None)), Err(LegacyError::Codec { found: 4 }));
        let mixed =
            message(1, 5, 1, None, Some(&compress(Codec::Gzip, &message(0, 0, 0, None, None)).unwrap()));
        assert_eq!(offsets(&mixed), Err(LegacyError::Magic { expected: 1, found: 0 }));
    }
}
