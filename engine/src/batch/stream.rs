//! The records of a batch of any codec, one at a time.

use std::borrow::Cow;

use super::varint::{VarintError, read_varint};
use super::{BatchError, Decoder, Header, Record, RecordError, RecordFault};

/// Bytes asked of the decoder at once.
const PIECE: usize = 16 << 10;

/// Reads the records of one magic 2 batch in order. Holds one record of a compressed batch at a time; grows
/// only as bytes arrive from the decoder.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Codec, RecordStream};
/// let bytes = BatchBuilder::new().codec(Codec::Gzip).record(1, Some(b"k"), Some(b"v")).build();
/// let mut records = RecordStream::new(&bytes, 1 << 20).unwrap();
/// assert_eq!(records.next().unwrap().unwrap().key, Some(&b"k"[..]));
/// assert!(records.next().unwrap().is_none());
/// ```
#[derive(Debug)]
pub struct RecordStream<'a> {
    source: Source<'a>,
    /// Where the next record begins in the unpacked stream.
    position: usize,
    left: i32,
}

/// Behind some records of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamPlace {
    position: usize,
    left: i32,
}

#[derive(Debug)]
enum Source<'a> {
    Plain(&'a [u8]),
    Packed(Window<'a>),
}

/// The part of an unpacked stream that is not read yet.
#[derive(Debug)]
pub(super) struct Window<'a> {
    decoder: Decoder<'a>,
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<'a> RecordStream<'a> {
    /// The records of `batch`, a whole magic 2 batch, unpacked to at most `limit` bytes.
    pub fn new(batch: &'a [u8], limit: u64) -> Result<RecordStream<'a>, BatchError> {
        let header = Header::decode(batch).ok_or(BatchError::Partial { found: batch.len() })?;
        let attributes = header.attributes();
        let codec = attributes.codec().ok_or(BatchError::Codec { found: (attributes.bits() & 7) as u8 })?;
        let stream = &batch[super::HEADER_BYTES..];
        let source = match codec {
            super::Codec::None => Source::Plain(stream),
            _ => Source::Packed(Window::new(Decoder::new(codec, stream, limit))),
        };
        Ok(RecordStream { source, position: 0, left: header.record_count() })
    }

    /// Where it is, if it can be gone on with from there: not in a compressed batch.
    pub(crate) fn place(&self) -> Option<StreamPlace> {
        let place = StreamPlace { position: self.position, left: self.left };
        matches!(self.source, Source::Plain(_)).then_some(place)
    }

    /// Goes on with the same `batch` from there.
    pub(crate) fn go_on(&mut self, place: StreamPlace) {
        if let Source::Plain(bytes) = &mut self.source {
            *bytes = &bytes[place.position - self.position..];
            (self.position, self.left) = (place.position, place.left);
        }
    }

    /// The next record; none after the last, once it is sure that nothing follows it. After an error, or the
    /// end, do not call it again.
    #[allow(clippy::should_implement_trait)] // It lends from itself, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<Record<'_>>, BatchError> {
        let position = self.position;
        let fail = |fault| BatchError::from(RecordError { position, fault });
        if self.left <= 0 {
            if self.left < 0 {
                return Err(fail(RecordFault::NegativeCount { found: self.left }));
            }
            let behind = match &mut self.source {
                Source::Plain(bytes) => bytes.len(),
                Source::Packed(window) => window.fill(1)?,
            };
            return if behind == 0 { Ok(None) } else { Err(fail(RecordFault::Trailing { bytes: behind })) };
        }
        self.left -= 1;
        match &mut self.source {
            Source::Plain(bytes) => {
                let (record, used) = Record::read(bytes, position)?;
                *bytes = &bytes[used..];
                self.position += used;
                Ok(Some(record))
            }
            Source::Packed(window) => {
                window.fill(super::varint::MAX_VARINT)?;
                let (length, prefix) = read_varint(window.filled()).map_err(|e| fail(e.into()))?;
                let length = usize::try_from(length)
                    .map_err(|_| fail(RecordFault::NegativeLength { what: "record", found: length }))?;
                window.fill(prefix + length)?;
                let used = (prefix + length).min(window.filled().len());
                let start = window.start;
                window.start += used;
                self.position += used;
                let (record, _) = Record::read(&window.bytes[start..start + used], position)?;
                Ok(Some(record))
            }
        }
    }
}

impl<'a> Window<'a> {
    pub(super) fn new(decoder: Decoder<'a>) -> Window<'a> {
        Window { decoder, bytes: Vec::new(), start: 0, ended: false }
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Passes over `n` of the filled bytes. Panics if there are fewer.
    pub(super) fn pass(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.start, "Window::pass: {n} bytes");
        self.start += n;
    }

    /// Tries to have `want` unread bytes, and says how many there are: fewer only at the end.
    #[inline]
    pub(super) fn fill(&mut self, want: usize) -> Result<usize, BatchError> {
        if self.bytes.len() - self.start < want && !self.ended {
            self.read(want)?;
        }
        Ok(self.bytes.len() - self.start)
    }

    fn read(&mut self, want: usize) -> Result<(), BatchError> {
        self.bytes.drain(..self.start);
        self.start = 0;
        while self.bytes.len() < want && !self.ended {
            let len = self.bytes.len();
            self.bytes.resize(len + PIECE, 0);
            let read = self.decoder.read(&mut self.bytes[len..]);
            self.bytes.truncate(len + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
        }
        Ok(())
    }

    /// Passes over `n` unread bytes without keeping them; false if there are fewer.
    #[inline]
    pub(super) fn skip(&mut self, mut n: usize) -> Result<bool, BatchError> {
        loop {
            let have = self.bytes.len() - self.start;
            if n <= have {
                self.start += n;
                return Ok(true);
            }
            n -= have;
            self.start = self.bytes.len();
            if self.fill(1)? == 0 {
                return Ok(false);
            }
        }
    }

    /// Reads one byte, if there is one.
    #[inline]
    pub(super) fn byte(&mut self) -> Result<Option<u8>, BatchError> {
        if self.fill(1)? == 0 {
            return Ok(None);
        }
        self.start += 1;
        Ok(Some(self.bytes[self.start - 1]))
    }

    /// Reads what `parse` parses from at most `most` bytes, and says how many it took.
    #[inline]
    pub(super) fn varint<T>(
        &mut self,
        most: usize,
        parse: impl FnOnce(&[u8]) -> Result<(T, usize), VarintError>,
    ) -> Result<Result<(T, usize), VarintError>, BatchError> {
        self.fill(most)?;
        let parsed = parse(self.filled());
        if let Ok((_, used)) = &parsed {
            self.start += used;
        }
        Ok(parsed)
    }
}

/// All records' bytes of a batch, unpacked, at most `limit` of them. Borrowed if the batch is not compressed.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, unpacked_records};
/// let bytes = BatchBuilder::new().record(1, None, Some(b"v")).build();
/// assert_eq!(unpacked_records(&bytes, 100).unwrap().len(), bytes.len() - 61);
/// ```
pub fn unpacked_records(batch: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, BatchError> {
    let header = Header::decode(batch).ok_or(BatchError::Partial { found: batch.len() })?;
    let attributes = header.attributes();
    let codec = attributes.codec().ok_or(BatchError::Codec { found: (attributes.bits() & 7) as u8 })?;
    let stream = &batch[super::HEADER_BYTES..];
    if codec == super::Codec::None {
        return Ok(Cow::Borrowed(stream));
    }
    let mut out = Vec::new();
    Decoder::new(codec, stream, limit).read_to_end(&mut out)?;
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Codec};
    use super::*;

    #[test]
    fn records_larger_than_the_window_are_read_whole() {
        let big: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
        for codec in Codec::ALL {
            let bytes = BatchBuilder::new()
                .codec(codec)
                .record(1, None, Some(&big))
                .record(2, Some(b"k"), None)
                .build();
            let mut records = RecordStream::new(&bytes, 1 << 20).unwrap();
            assert_eq!(records.next().unwrap().unwrap().value, Some(&big[..]));
            assert_eq!(records.next().unwrap().unwrap().key, Some(&b"k"[..]));
            assert_eq!(records.next().unwrap(), None);
        }
    }
}
