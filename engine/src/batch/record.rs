//! Records inside a magic 2 batch.

use std::fmt;

use highwater_base::{Offset, WallMs};

use super::varint::{VarintError, read_varint, read_varlong, varlong_len, write_varint, write_varlong};
use super::{Header, TimestampType};

/// What is wrong with a record, and where (a byte position in the uncompressed record stream).
///
/// ```
/// use highwater_engine::batch::{RecordError, RecordFault, Record};
/// let error = Record::read(&[0x80], 0).unwrap_err();
/// assert_eq!(error, RecordError { position: 0, fault: RecordFault::Truncated });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordError {
    /// Where in the uncompressed record stream.
    pub position: usize,
    /// What.
    pub fault: RecordFault,
}

/// What can be wrong with a record.
///
/// ```
/// use highwater_engine::batch::RecordFault;
/// assert!(RecordFault::Trailing { bytes: 3 }.to_string().contains('3'));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordFault {
    /// The stream or the record ends inside it.
    Truncated,
    /// A varint of more than 5 (or 10) bytes.
    Varint,
    /// A length below 0 (or -1 where null is allowed).
    NegativeLength {
        /// Which length.
        what: &'static str,
        /// The length.
        found: i32,
    },
    /// More headers than bytes left.
    HeaderCount {
        /// The count.
        found: i32,
    },
    /// Its fields end before or behind the record.
    Length {
        /// The record's length.
        expected: usize,
        /// Where its fields end.
        found: usize,
    },
    /// Bytes behind the last record.
    Trailing {
        /// How many, at least.
        bytes: usize,
    },
    /// The batch's count of records is negative.
    NegativeCount {
        /// The count.
        found: i32,
    },
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::Truncated => f.write_str("ends too early"),
            RecordFault::Varint => f.write_str("a varint does not end"),
            RecordFault::NegativeLength { what, found } => write!(f, "{what} length {found} is negative"),
            RecordFault::HeaderCount { found } => write!(f, "{found} headers do not fit into the record"),
            RecordFault::Length { expected, found } => {
                write!(f, "length {expected}, but its fields take {found} bytes")
            }
            RecordFault::Trailing { bytes } => write!(f, "{bytes} or more bytes behind the last record"),
            RecordFault::NegativeCount { found } => write!(f, "a count of {found} records"),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record at {} of the record stream: {}", self.position, self.fault)
    }
}

impl std::error::Error for RecordError {}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> RecordFault {
        match error {
            VarintError::Short => RecordFault::Truncated,
            VarintError::Long => RecordFault::Varint,
        }
    }
}

/// One record, in place.
///
/// ```
/// use highwater_engine::batch::Record;
/// let bytes = [0x20, 0, 0, 0, 8, b'k', b'e', b'y', b'1', 12, b'v', b'a', b'l', b'u', b'e', b'1', 0];
/// let (record, used) = Record::read(&bytes, 0).unwrap();
/// assert_eq!((record.key, record.value, used), (Some(&b"key1"[..]), Some(&b"value1"[..]), 17));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Counted from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Counted from the batch's base offset.
    pub offset_delta: i32,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The record at the front of `bytes`, and its size with the length field. `position` is where `bytes` begin
    /// in the stream, for the error.
    #[inline]
    pub fn read(bytes: &'a [u8], position: usize) -> Result<(Record<'a>, usize), RecordError> {
        Self::read_inner(bytes).map_err(|fault| RecordError { position, fault })
    }

    #[inline]
    fn read_inner(bytes: &'a [u8]) -> Result<(Record<'a>, usize), RecordFault> {
        let (length, prefix) = read_varint(bytes)?;
        let length = usize::try_from(length)
            .map_err(|_| RecordFault::NegativeLength { what: "record", found: length })?;
        let body = bytes.get(prefix..prefix + length).ok_or(RecordFault::Truncated)?;
        // One byte of attributes, which nobody uses.
        let mut rest = body.get(1..).ok_or(RecordFault::Truncated)?;
        let timestamp_delta = take_varlong(&mut rest)?;
        let offset_delta = take_varint(&mut rest)?;
        let key = take_bytes(&mut rest, "key")?;
        let value = take_bytes(&mut rest, "value")?;
        let count = take_varint(&mut rest)?;
        if count < 0 || count as usize > rest.len() {
            return Err(RecordFault::HeaderCount { found: count });
        }
        let headers = Headers { count: count as u32, bytes: rest };
        for _ in 0..count {
            take_header(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(RecordFault::Length { expected: length, found: length - rest.len() });
        }
        Ok((Record { timestamp_delta, offset_delta, key, value, headers }, prefix + length))
    }

    /// Its offset in this batch.
    pub fn offset(&self, batch: Header<'_>) -> Offset {
        batch.base_offset().plus(i64::from(self.offset_delta))
    }

    /// Its timestamp in this batch: with LogAppendTime the batch's, whatever the delta says.
    #[inline]
    pub fn timestamp(&self, batch: Header<'_>) -> WallMs {
        match batch.attributes().timestamp_type() {
            TimestampType::LogAppend => batch.max_timestamp(),
            TimestampType::Create => {
                WallMs::new(batch.base_timestamp().get().wrapping_add(self.timestamp_delta))
            }
        }
    }

    /// Appends its encoding. The headers are copied as they are.
    pub fn write(&self, out: &mut Vec<u8>) {
        let part = |part: Option<&[u8]>| match part {
            None => 1,
            Some(bytes) => varlong_len(bytes.len() as i64) + bytes.len(),
        };
        let length = 1
            + varlong_len(self.timestamp_delta)
            + varlong_len(i64::from(self.offset_delta))
            + part(self.key)
            + part(self.value)
            + varlong_len(i64::from(self.headers.count))
            + self.headers.bytes.len();
        write_varint(out, length as i32);
        out.push(0);
        write_varlong(out, self.timestamp_delta);
        write_varint(out, self.offset_delta);
        write_bytes(out, self.key);
        write_bytes(out, self.value);
        write_varint(out, self.headers.count as i32);
        out.extend_from_slice(self.headers.bytes);
    }
}

/// A record's headers: names (UTF-8 by convention, not checked) and values, in order, names may repeat.
///
/// ```
/// use highwater_engine::batch::Record;
/// let bytes = [0x14, 0, 0, 0, 1, 1, 2, 2, b'h', 2, b'x'];
/// let (record, _) = Record::read(&bytes, 0).unwrap();
/// assert_eq!(record.headers.collect::<Vec<_>>(), [(&b"h"[..], Some(&b"x"[..]))]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    /// Checked by `Record::read`: exactly `count` headers.
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Headers from their encoding without the count, as [`encode_header`] made it.
    pub(crate) const fn encoded(count: u32, bytes: &'a [u8]) -> Headers<'a> {
        Headers { count, bytes }
    }

    /// How many are left.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none is left.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        take_header(&mut self.bytes).ok()
    }
}

/// Appends one header.
pub(crate) fn encode_header(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    write_bytes(out, Some(name));
    write_bytes(out, value);
}

/// Iterates the records of an uncompressed stream. The stream must hold exactly `count`: fewer, more or bytes
/// left over are an error, after which it ends.
///
/// ```
/// use highwater_engine::batch::Records;
/// let one = [0x0c, 0, 0, 0, 1, 1, 0];
/// assert!(Records::new(&one, 1).all(|r| r.is_ok()));
/// assert!(Records::new(&one, 2).any(|r| r.is_err()));
/// ```
#[derive(Clone, Debug)]
pub struct Records<'a> {
    stream: &'a [u8],
    position: usize,
    left: i32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// The `count` records of `stream`.
    pub const fn new(stream: &'a [u8], count: i32) -> Records<'a> {
        Records { stream, position: 0, left: count, failed: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let fail = |position, fault| Some(Err(RecordError { position, fault }));
        if self.left <= 0 {
            self.failed = true;
            return match (self.left, self.stream.len() - self.position) {
                (0, 0) => None,
                (0, bytes) => fail(self.position, RecordFault::Trailing { bytes }),
                (found, _) => fail(self.position, RecordFault::NegativeCount { found }),
            };
        }
        match Record::read(&self.stream[self.position..], self.position) {
            Ok((record, used)) => {
                self.position += used;
                self.left -= 1;
                Some(Ok(record))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

#[inline]
fn take_varint(rest: &mut &[u8]) -> Result<i32, RecordFault> {
    let (value, used) = read_varint(rest)?;
    *rest = &rest[used..];
    Ok(value)
}

#[inline]
fn take_varlong(rest: &mut &[u8]) -> Result<i64, RecordFault> {
    let (value, used) = read_varlong(rest)?;
    *rest = &rest[used..];
    Ok(value)
}

#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = take_varint(rest)?;
    if length < 0 {
        // Kafka takes any negative length of a key or value for null; only -1 is ever written.
        return if length == -1 {
            Ok(None)
        } else {
            Err(RecordFault::NegativeLength { what, found: length })
        };
    }
    let Some((bytes, after)) = rest.split_at_checked(length as usize) else {
        return Err(RecordFault::Truncated);
    };
    *rest = after;
    Ok(Some(bytes))
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), RecordFault> {
    let name = take_bytes(rest, "header name")?
        .ok_or(RecordFault::NegativeLength { what: "header name", found: -1 })?;
    Ok((name, take_bytes(rest, "header value")?))
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.write(&mut out);
        out
    }

    fn sample<'a>(headers: &'a [u8], count: u32) -> Record<'a> {
        Record {
            timestamp_delta: -3,
            offset_delta: 70,
            key: Some(b"key"),
            value: None,
            headers: Headers::encoded(count, headers),
        }
    }

    #[test]
    fn a_record_survives_its_encoding() {
        let mut headers = Vec::new();
        encode_header(&mut headers, b"", None);
        encode_header(&mut headers, "größe".as_bytes(), Some(b""));
        let record = sample(&headers, 2);
        let bytes = encoded(&record);
        assert_eq!(Record::read(&bytes, 0), Ok((record, bytes.len())));
    }

    #[test]
    fn every_cut_of_a_record_is_an_error() {
        let mut headers = Vec::new();
        encode_header(&mut headers, b"h", Some(b"x"));
        let bytes = encoded(&sample(&headers, 1));
        for cut in 0..bytes.len() {
            assert!(Record::read(&bytes[..cut], 0).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn hostile_lengths_are_named() {
        let read = |bytes: &[u8]| Record::read(bytes, 0).unwrap_err().fault;
        assert_eq!(read(&[0x01]), RecordFault::NegativeLength { what: "record", found: -1 });
        // A key of length -2.
        assert_eq!(read(&[0x0c, 0, 0, 0, 3, 1, 0]), RecordFault::NegativeLength { what: "key", found: -2 });
        // 2^31 - 1 headers.
        assert_eq!(
            read(&[0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
            RecordFault::HeaderCount { found: i32::MAX }
        );
        // A null header name.
        assert_eq!(
            read(&[0x10, 0, 0, 0, 1, 1, 2, 1, 1]),
            RecordFault::NegativeLength { what: "header name", found: -1 }
        );
        // One byte more than its fields.
        assert_eq!(read(&[0x0e, 0, 0, 0, 1, 1, 0, 9]), RecordFault::Length { expected: 7, found: 6 });
    }

    #[test]
    fn the_count_must_fit_the_stream() {
        let bytes = encoded(&sample(&[], 0));
        let faults = |count| Records::new(&bytes, count).find_map(Result::err).map(|e| e.fault);
        assert_eq!(faults(1), None);
        assert_eq!(faults(0), Some(RecordFault::Trailing { bytes: bytes.len() }));
        assert_eq!(faults(2), Some(RecordFault::Truncated));
        assert_eq!(faults(-1), Some(RecordFault::NegativeCount { found: -1 }));
    }
}
