//! A place in a request that cannot leave it.

use std::ops::Range;

use super::{BoundsError, MAX_UNKNOWN_TAGS};

/// Reads lengths and passes over what they cover; every step is checked against what is left.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Unknown tagged fields that were passed over.
    unknown_tags: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0, unknown_tags: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Fails unless `needed` more bytes are there.
    pub(crate) fn expect(&self, field: &'static str, needed: u64) -> Result<(), BoundsError> {
        if self.left() as u64 >= needed {
            return Ok(());
        }
        Err(BoundsError::Short { field, at: self.at, needed, left: self.left() })
    }

    pub(crate) fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], BoundsError> {
        self.expect(field, len as u64)?;
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn checked(&self, field: &'static str, nullable: bool, found: i64) -> Result<Option<usize>, BoundsError> {
        match usize::try_from(found) {
            Ok(len) => Ok(Some(len)),
            Err(_) if found == -1 && nullable => Ok(None),
            Err(_) => Err(BoundsError::Length { field, at: self.at, found }),
        }
    }

    /// A length in two bytes, of a text; `None` is null.
    pub(crate) fn short_length(
        &mut self,
        field: &'static str,
        nullable: bool,
    ) -> Result<Option<usize>, BoundsError> {
        let bytes: [u8; 2] = self.take(field, 2)?.try_into().expect("2 bytes");
        self.checked(field, nullable, i16::from_be_bytes(bytes).into())
    }

    /// A length or count in four bytes; `None` is null.
    pub(crate) fn long_length(
        &mut self,
        field: &'static str,
        nullable: bool,
    ) -> Result<Option<usize>, BoundsError> {
        let bytes: [u8; 4] = self.take(field, 4)?.try_into().expect("4 bytes");
        self.checked(field, nullable, i32::from_be_bytes(bytes).into())
    }

    /// A length or count as a varint that is one more; `None` is null.
    pub(crate) fn compact_length(
        &mut self,
        field: &'static str,
        nullable: bool,
    ) -> Result<Option<usize>, BoundsError> {
        let found = i64::from(self.varint(field)?) - 1;
        self.checked(field, nullable, found)
    }

    /// An unsigned varint of 32 bits, in as few bytes as it needs. (The codec crate would cut a longer one
    /// silently, and so read another number than this check did.)
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, BoundsError> {
        let start = self.at;
        let mut value = 0u32;
        for i in 0..5 {
            let byte = self.take(field, 1)?[0];
            let cut = i == 4 && byte > 0x0f;
            let padded = i > 0 && byte == 0;
            if cut || padded {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BoundsError::Varint { at: start })
    }

    /// A nullable text with a length in two bytes: where it lies.
    pub(crate) fn short_text(&mut self, field: &'static str) -> Result<Option<Range<usize>>, BoundsError> {
        let Some(len) = self.short_length(field, true)? else { return Ok(None) };
        self.take(field, len)?;
        Ok(Some(self.at - len..self.at))
    }

    /// A tag, which must be above the `previous` one of its struct.
    pub(crate) fn next_tag(
        &mut self,
        field: &'static str,
        previous: &mut Option<u32>,
    ) -> Result<u32, BoundsError> {
        let at = self.at;
        let tag = self.varint(field)?;
        if previous.is_some_and(|previous| previous >= tag) {
            return Err(BoundsError::Tag { field, at, tag });
        }
        *previous = Some(tag);
        Ok(tag)
    }

    /// Passes over the value of a tagged field that is not known.
    pub(crate) fn skip_unknown(&mut self, field: &'static str, size: usize) -> Result<(), BoundsError> {
        self.unknown_tags += 1;
        if self.unknown_tags > MAX_UNKNOWN_TAGS {
            return Err(BoundsError::TooMany { what: "unknown tagged fields", limit: MAX_UNKNOWN_TAGS });
        }
        self.take(field, size).map(drop)
    }

    /// Passes over a section of tagged fields of which none is known.
    pub(crate) fn skip_tags(&mut self, field: &'static str) -> Result<(), BoundsError> {
        let mut previous = None;
        for _ in 0..self.varint(field)? {
            self.next_tag(field, &mut previous)?;
            let size = self.varint(field)?;
            self.skip_unknown(field, size as usize)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u32, BoundsError> {
        Cursor::new(bytes).varint("x")
    }

    #[test]
    fn varints_are_read_to_32_bits_and_no_further() {
        assert_eq!(varint(&[0]), Ok(0));
        assert_eq!(varint(&[0x7f]), Ok(127));
        assert_eq!(varint(&[0x80, 1]), Ok(128));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        let longer: [&[u8]; 4] = [
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            &[0xff, 0xff, 0xff, 0xff, 0x8f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x80, 0],
        ];
        for bytes in longer {
            assert_eq!(varint(bytes), Err(BoundsError::Varint { at: 0 }), "{bytes:x?}");
        }
        assert!(matches!(varint(&[0x80]), Err(BoundsError::Short { .. })));
    }

    #[test]
    fn lengths_below_null_are_refused() {
        assert_eq!(Cursor::new(&[0xff, 0xff]).short_length("x", true), Ok(None));
        assert!(Cursor::new(&[0xff, 0xff]).short_length("x", false).is_err());
        assert!(Cursor::new(&[0xff, 0xfe]).short_length("x", true).is_err());
        assert!(Cursor::new(&[0x80, 0, 0, 0]).long_length("x", true).is_err());
        assert_eq!(Cursor::new(&[0]).compact_length("x", true), Ok(None));
        assert!(Cursor::new(&[0]).compact_length("x", false).is_err());
        assert_eq!(Cursor::new(&[1]).compact_length("x", false), Ok(Some(0)));
    }
}
