//! Batches one after another, of any magic, by Kafka's framing rules.

use std::fmt;

use highwater_base::{Offset, WallMs};

use super::header::{self, HEADER_BYTES, Header, LOG_OVERHEAD, MAGIC_PREFIX};
use super::{Attributes, legacy};

/// The smallest length field that a batch of any magic may have.
pub const MIN_LENGTH: i32 = 14;

/// Why no batch begins at a position. Recovery and the tools judge what it means.
///
/// ```
/// use highwater_engine::batch::{Batches, FrameError};
/// let error = Batches::in_file(&[0; 100]).next().unwrap().unwrap_err();
/// assert_eq!(error, FrameError::Length { position: 0, found: 0 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length field is below the smallest that any batch has; zeros read as length 0.
    Length {
        /// Where the batch would begin.
        position: usize,
        /// The length field.
        found: i32,
    },
    /// The magic is none of 0, 1 and 2.
    Magic {
        /// Where the batch would begin.
        position: usize,
        /// The magic.
        found: i8,
    },
    /// The length is too small for the header of this magic.
    Header {
        /// Where the batch would begin.
        position: usize,
        /// The whole size by its length field.
        found: usize,
        /// The smallest size with this magic.
        expected: usize,
    },
}

impl FrameError {
    /// Where the batch would begin.
    pub const fn position(self) -> usize {
        match self {
            FrameError::Length { position, .. }
            | FrameError::Magic { position, .. }
            | FrameError::Header { position, .. } => position,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Length { position, found } => {
                write!(f, "at {position}: batch length {found}, expected at least {MIN_LENGTH}")
            }
            FrameError::Magic { position, found } => {
                write!(f, "at {position}: magic {found}, expected 0, 1 or 2")
            }
            FrameError::Header { position, found, expected } => {
                write!(f, "at {position}: a batch of {found} bytes, its magic needs {expected} or more")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// One whole batch (or one legacy entry) of any magic, in place.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Batches};
/// let bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// let batch = Batches::in_memory(&bytes).next().unwrap().unwrap();
/// assert_eq!((batch.position(), batch.magic(), batch.last_offset().get()), (0, 2, 0));
/// assert!(batch.crc_matches());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Batch<'a> {
    /// The batch at `position` of `bytes`: `Ok(None)` if `bytes` end before it does.
    ///
    /// `bytes[position..]` is read as Kafka reads memory: fewer than 12 bytes left are a partial batch.
    #[inline]
    pub fn at(bytes: &'a [u8], position: usize) -> Result<Option<Batch<'a>>, FrameError> {
        let left = bytes.get(position..).unwrap_or_default();
        let Some(overhead) = left.first_chunk::<LOG_OVERHEAD>() else { return Ok(None) };
        let length = i32::from_be_bytes([overhead[8], overhead[9], overhead[10], overhead[11]]);
        if length < MIN_LENGTH {
            return Err(FrameError::Length { position, found: length });
        }
        let size = length as usize + LOG_OVERHEAD;
        if let Some(&magic) = left.get(header::MAGIC) {
            check_magic(position, magic as i8, size)?;
        }
        Ok(left.get(..size).map(|bytes| Batch { bytes, position }))
    }

    /// The whole size of the batch whose first 17 bytes these are, or what is wrong with them.
    pub fn size_from_prefix(prefix: &[u8; MAGIC_PREFIX], position: usize) -> Result<usize, FrameError> {
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if length < MIN_LENGTH {
            return Err(FrameError::Length { position, found: length });
        }
        let size = length as usize + LOG_OVERHEAD;
        check_magic(position, prefix[header::MAGIC] as i8, size)?;
        Ok(size)
    }

    /// All its bytes, base offset and length included.
    #[inline]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Where it begins in what was iterated.
    #[inline]
    pub const fn position(self) -> usize {
        self.position
    }

    /// The first position behind it.
    #[inline]
    pub const fn end(self) -> usize {
        self.position + self.bytes.len()
    }

    /// The whole size in bytes.
    #[inline]
    pub const fn size(self) -> usize {
        self.bytes.len()
    }

    /// Its format: 0, 1 or 2.
    #[inline]
    pub const fn magic(self) -> i8 {
        self.bytes[header::MAGIC] as i8
    }

    /// Its header, if the magic is 2.
    #[inline]
    pub fn header(self) -> Option<Header<'a>> {
        Header::decode(self.bytes)
    }

    /// The bytes behind the header, if the magic is 2.
    #[inline]
    pub fn records_bytes(self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The offset field: of magic 2 the base offset, before it the *last* offset.
    #[inline]
    pub fn stored_offset(self) -> Offset {
        Offset::new(i64::from_be_bytes(self.bytes[..8].try_into().expect("a batch has 26 bytes or more")))
    }

    /// The last offset (inclusive).
    #[inline]
    pub fn last_offset(self) -> Offset {
        match self.header() {
            Some(header) => header.last_offset(),
            None => self.stored_offset(),
        }
    }

    /// The attribute bits (of magic 0 and 1 the low eight).
    #[inline]
    pub fn attributes(self) -> Attributes {
        match self.header() {
            Some(header) => header.attributes(),
            None => Attributes::new(i16::from(self.bytes[legacy::ATTRIBUTES] as i8)),
        }
    }

    /// The largest timestamp as stored; none in magic 0.
    #[inline]
    pub fn max_timestamp(self) -> WallMs {
        match self.header() {
            Some(header) => header.max_timestamp(),
            None => legacy::timestamp(self.bytes),
        }
    }

    /// The checksum as stored.
    #[inline]
    pub fn crc(self) -> u32 {
        match self.header() {
            Some(header) => header.crc(),
            None => legacy::stored_crc(self.bytes),
        }
    }

    /// The checksum that the bytes have: CRC-32C of magic 2, CRC-32 before.
    #[inline]
    pub fn computed_crc(self) -> u32 {
        if self.magic() == 2 { header::computed_crc(self.bytes) } else { legacy::computed_crc(self.bytes) }
    }

    /// Whether stored and computed checksum agree.
    #[inline]
    pub fn crc_matches(self) -> bool {
        self.crc() == self.computed_crc()
    }
}

/// Iterates the batches of `bytes`. After an error, or where a batch is cut off, it ends; [`Batches::position`]
/// then says how far it came.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Batches};
/// let mut bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// let whole = bytes.len();
/// bytes.extend_from_slice(&[0, 0, 0]); // a batch that has only begun
/// let mut batches = Batches::in_memory(&bytes);
/// assert_eq!(batches.by_ref().count(), 1);
/// assert_eq!(batches.position(), whole);
/// ```
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    stopped: bool,
    in_file: bool,
}

impl<'a> Batches<'a> {
    /// As Kafka reads a request's or response's records: a partial batch at the end is no error.
    pub const fn in_memory(bytes: &'a [u8]) -> Batches<'a> {
        Batches { bytes, position: 0, stopped: false, in_file: false }
    }

    /// As Kafka reads a file: 17 bytes or fewer at the end are not looked at.
    pub const fn in_file(bytes: &'a [u8]) -> Batches<'a> {
        Batches { bytes, position: 0, stopped: false, in_file: true }
    }

    /// The end of the last batch that was given.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What lies behind the last batch that was given.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.bytes.len() - self.position;
        if self.stopped || self.in_file && left <= MAGIC_PREFIX {
            return None;
        }
        match Batch::at(self.bytes, self.position) {
            Ok(Some(batch)) => {
                self.position = batch.end();
                Some(Ok(batch))
            }
            Ok(None) => {
                self.stopped = true;
                None
            }
            Err(error) => {
                self.stopped = true;
                Some(Err(error))
            }
        }
    }
}

#[inline]
fn check_magic(position: usize, magic: i8, size: usize) -> Result<(), FrameError> {
    let expected = match magic {
        0 => LOG_OVERHEAD + legacy::OVERHEAD_V0,
        1 => LOG_OVERHEAD + legacy::OVERHEAD_V1,
        2 => HEADER_BYTES,
        found => return Err(FrameError::Magic { position, found }),
    };
    if size < expected {
        return Err(FrameError::Header { position, found: size, expected });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::BatchBuilder;
    use super::*;

    fn one() -> Vec<u8> {
        BatchBuilder::new().record(5, Some(b"k"), Some(b"v")).build()
    }

    #[test]
    fn a_batch_cut_anywhere_is_partial_and_no_error() {
        let whole = one();
        for cut in 0..whole.len() {
            assert_eq!(Batches::in_memory(&whole[..cut]).next(), None, "cut at {cut}");
            assert_eq!(Batches::in_file(&whole[..cut]).next(), None, "cut at {cut}");
        }
    }

    #[test]
    fn positions_add_up_over_many_batches() {
        let bytes = [one(), one(), one()].concat();
        let ends: Vec<usize> = Batches::in_file(&bytes).map(|b| b.unwrap().end()).collect();
        assert_eq!(ends, [bytes.len() / 3, bytes.len() / 3 * 2, bytes.len()]);
    }

    #[test]
    fn bad_length_and_magic_are_told_apart() {
        let mut bytes = one();
        bytes[header::MAGIC] = 3;
        assert_eq!(Batches::in_memory(&bytes).next(), Some(Err(FrameError::Magic { position: 0, found: 3 })));
        bytes = one();
        bytes[header::LENGTH..header::LEADER_EPOCH].copy_from_slice(&20i32.to_be_bytes());
        assert_eq!(
            Batches::in_memory(&bytes).next(),
            Some(Err(FrameError::Header { position: 0, found: 32, expected: 61 }))
        );
        bytes[header::LENGTH..header::LEADER_EPOCH].copy_from_slice(&(-5i32).to_be_bytes());
        assert_eq!(
            Batches::in_memory(&bytes).next(),
            Some(Err(FrameError::Length { position: 0, found: -5 }))
        );
    }
}
