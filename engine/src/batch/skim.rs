//! The records of a compressed batch checked as a stream of which nothing is kept.

use super::stream::Window;
use super::varint::{MAX_VARINT, MAX_VARLONG, VarintError, read_varint, read_varlong};
use super::{BatchError, Decoder, RecordError, RecordFault};

/// What arrival looks at in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordFacts {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Passes over `count` records, giving `see` the facts of each, and makes sure that nothing follows the last.
pub(super) fn skim(
    decoder: Decoder<'_>,
    count: i32,
    mut see: impl FnMut(i32, RecordFacts) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let mut skimmer = Skimmer { window: Window::new(decoder), position: 0, record: 0, left: 0 };
    for number in 0..count {
        let facts = skimmer.record()?;
        see(number, facts)?;
    }
    match skimmer.window.fill(1)? {
        0 => Ok(()),
        bytes => {
            let fault = RecordFault::Trailing { bytes };
            Err(RecordError { position: skimmer.position, fault }.into())
        }
    }
}

/// The facts and the size of the record at the front of `bytes`, if it is one like nearly all. None is no verdict:
/// [`super::Record::read`] gives that.
#[inline(always)]
pub(super) fn skim_plain(bytes: &[u8]) -> Option<(RecordFacts, usize)> {
    let mut at = 0;
    let length = usize::try_from(short(bytes, &mut at)?).ok()?;
    let end = at + length;
    let body = bytes.get(..end)?;
    at += 1; // attributes
    let (timestamp_delta, used) = read_varlong(body.get(at..)?).ok()?;
    at += used;
    let offset_delta = short(body, &mut at)?;
    let key = short(body, &mut at)?;
    at += key.max(0) as usize;
    let value = short(body, &mut at)?;
    at += value.max(0) as usize;
    let headers = short(body, &mut at)?;
    (headers == 0 && at == end && key >= -1 && value >= -1)
        .then_some((RecordFacts { timestamp_delta, offset_delta, has_key: key >= 0 }, end))
}

/// A varint of at most three bytes.
#[inline(always)]
fn short(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let rest = bytes.get(*at..)?;
    let (raw, used) = match *rest {
        [a, ..] if a < 0x80 => (u32::from(a), 1),
        [a, b, ..] if b < 0x80 => (u32::from(a & 0x7f) | u32::from(b) << 7, 2),
        [a, b, c, ..] if c < 0x80 => (u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(c) << 14, 3),
        _ => return None,
    };
    *at += used;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

struct Skimmer<'a> {
    window: Window<'a>,
    /// Bytes of the stream that were passed over.
    position: usize,
    /// Where the current record begins.
    record: usize,
    /// Bytes left of the current record.
    left: usize,
}

impl Skimmer<'_> {
    fn record(&mut self) -> Result<RecordFacts, BatchError> {
        if let Some((facts, used)) = skim_plain(self.window.filled()) {
            self.window.pass(used);
            self.position += used;
            return Ok(facts);
        }
        self.record = self.position;
        self.left = usize::MAX;
        let length = self.varint()?;
        let length = usize::try_from(length)
            .map_err(|_| self.fault(RecordFault::NegativeLength { what: "record", found: length }))?;
        self.left = length;
        if self.left == 0 || self.window.byte()?.is_none() {
            return Err(self.fault(RecordFault::Truncated));
        }
        self.passed(1)?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let has_key = self.skip("key")?;
        self.skip("value")?;
        let headers = self.varint()?;
        if headers < 0 || headers as usize > self.left {
            return Err(self.fault(RecordFault::HeaderCount { found: headers }));
        }
        for _ in 0..headers {
            if !self.skip("header name")? {
                return Err(self.fault(RecordFault::NegativeLength { what: "header name", found: -1 }));
            }
            self.skip("header value")?;
        }
        if self.left != 0 {
            return Err(self.fault(RecordFault::Length { expected: length, found: length - self.left }));
        }
        Ok(RecordFacts { timestamp_delta, offset_delta, has_key })
    }

    /// Passes over a length and as many bytes; false if it is null.
    fn skip(&mut self, what: &'static str) -> Result<bool, BatchError> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(false);
        }
        let n = usize::try_from(length)
            .map_err(|_| self.fault(RecordFault::NegativeLength { what, found: length }))?;
        // The record's own length is checked first, so that a lie about a key cannot make us unpack more.
        self.passed(n)?;
        if !self.window.skip(n)? {
            return Err(self.fault(RecordFault::Truncated));
        }
        Ok(true)
    }

    fn varint(&mut self) -> Result<i32, BatchError> {
        let parsed = self.window.varint(MAX_VARINT, read_varint)?;
        self.took(parsed)
    }

    fn varlong(&mut self) -> Result<i64, BatchError> {
        let parsed = self.window.varint(MAX_VARLONG, read_varlong)?;
        self.took(parsed)
    }

    fn took<T>(&mut self, parsed: Result<(T, usize), VarintError>) -> Result<T, BatchError> {
        let (value, used) = parsed.map_err(|e| self.fault(e.into()))?;
        self.passed(used)?;
        Ok(value)
    }

    fn passed(&mut self, n: usize) -> Result<(), BatchError> {
        self.left = self.left.checked_sub(n).ok_or_else(|| self.fault(RecordFault::Truncated))?;
        self.position += n;
        Ok(())
    }

    fn fault(&self, fault: RecordFault) -> BatchError {
        RecordError { position: self.record, fault }.into()
    }
}
