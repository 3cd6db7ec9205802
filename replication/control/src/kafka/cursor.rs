//! Reading the flexible messages of Kafka's protocol: unsigned varints, compact texts and lists, tagged fields.

use highwater_base::{BrokerId, Uuid};

use super::MetadataError;

/// A record's bytes from some place on. Nothing is reserved that the bytes do not hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn malformed(&self, expected: &'static str) -> MetadataError {
        MetadataError::Malformed { at: self.at, expected }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], MetadataError> {
        let taken = self.bytes[self.at..].get(..len).ok_or_else(|| self.malformed(expected))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], MetadataError> {
        Ok(*self.take(N, expected)?.first_chunk().expect("a slice of N bytes"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, MetadataError> {
        Ok(self.array::<1>("a byte")?[0])
    }

    pub(super) fn i8(&mut self) -> Result<i8, MetadataError> {
        Ok(i8::from_be_bytes(self.array("a byte")?))
    }

    pub(super) fn bool(&mut self) -> Result<bool, MetadataError> {
        Ok(self.u8()? != 0)
    }

    pub(super) fn i16(&mut self) -> Result<i16, MetadataError> {
        Ok(i16::from_be_bytes(self.array("two bytes")?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, MetadataError> {
        Ok(u16::from_be_bytes(self.array("two bytes")?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, MetadataError> {
        Ok(i32::from_be_bytes(self.array("four bytes")?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, MetadataError> {
        Ok(i64::from_be_bytes(self.array("eight bytes")?))
    }

    pub(super) fn id(&mut self) -> Result<Uuid, MetadataError> {
        Ok(Uuid::from_bytes(self.array("an id of 16 bytes")?))
    }

    pub(super) fn varint(&mut self) -> Result<u32, MetadataError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.malformed("a varint of 32 bits just before"));
            }
        }
        Err(self.malformed("a varint of at most five bytes just before"))
    }

    /// A text, or null.
    pub(super) fn nullable_text(&mut self) -> Result<Option<&'a str>, MetadataError> {
        let Some(len) = self.varint()?.checked_sub(1) else { return Ok(None) };
        let bytes = self.take(len as usize, "a text as long as it claims")?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| self.malformed("UTF-8 just before"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, MetadataError> {
        self.nullable_text()?.ok_or_else(|| self.malformed("a text just before, found null"))
    }

    /// A list, or null. An item takes at least `least` bytes, which bounds what a count can claim.
    pub(super) fn list<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Cursor<'a>) -> Result<T, MetadataError>,
    ) -> Result<Option<Vec<T>>, MetadataError> {
        let Some(count) = self.varint()?.checked_sub(1) else { return Ok(None) };
        if count as usize > self.left() / least {
            return Err(self.malformed("a list no longer than the bytes that follow"));
        }
        let mut items = Vec::with_capacity(count as usize);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    pub(super) fn brokers(&mut self) -> Result<Option<Vec<BrokerId>>, MetadataError> {
        self.list(4, |cursor| Ok(BrokerId::new(cursor.i32()?)))
    }

    pub(super) fn ids(&mut self) -> Result<Option<Vec<Uuid>>, MetadataError> {
        self.list(16, Cursor::id)
    }

    /// The tagged fields that end a structure; unknown ones are passed over, as Kafka does.
    pub(super) fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Cursor<'a>) -> Result<(), MetadataError>,
    ) -> Result<(), MetadataError> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let len = self.varint()? as usize;
            let start = self.at;
            let bytes = self.take(len, "a tagged field as long as it claims")?;
            let mut inner = Cursor { bytes: &self.bytes[..start + bytes.len()], at: start };
            field(tag, &mut inner)?;
        }
        Ok(())
    }

    pub(super) fn no_tags(&mut self) -> Result<(), MetadataError> {
        self.tags(|_, _| Ok(()))
    }

    pub(super) fn end(&self) -> Result<(), MetadataError> {
        if self.left() == 0 { Ok(()) } else { Err(self.malformed("the record's end")) }
    }
}
