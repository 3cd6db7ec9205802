//! What a request claims, held against the bytes that are there, before anything is decoded.
//!
//! The codec crate reserves memory for as many elements as an array's count claims, and keeps every tagged field
//! that it does not know. So a frame of a hundred bytes could make it reserve gigabytes. This check walks the body
//! by a small table of the API's layout and lets pass only what is wholly there, with a bounded number of elements
//! and tags. It allocates nothing.

mod cursor;
mod requests;
mod schema;

use std::fmt;

pub(crate) use cursor::Cursor;
use schema::{Kind, Struct};

use crate::api::Api;

/// Array elements of one request, over all its arrays, at most. An element of a few bytes on the wire becomes one
/// of about a hundred in memory; this bounds it to some tens of MiB for a request.
pub(crate) const MAX_ELEMENTS: usize = 1 << 18;

/// Tagged fields of one request that we do not know, over all its structs, at most. The codec crate keeps them.
pub(crate) const MAX_UNKNOWN_TAGS: usize = 64;

/// Why a request's body cannot be what its sender says. The connection is closed.
///
/// ```
/// use bytes::Bytes;
/// use highwater_wire::{Api, BoundsError, check_bounds};
/// // Metadata 1 that claims 2^31-1 topics.
/// let error = check_bounds(Api::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff]).unwrap_err();
/// assert!(matches!(error, BoundsError::Short { field: "topics", .. }));
/// assert_eq!(error.to_string(), "expected at least 4294967294 bytes for topics at byte 4 of the request, found 0");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BoundsError {
    /// A field claims more bytes than are left.
    Short {
        /// Which field.
        field: &'static str,
        /// Where, from the start of the request's body (of the frame, in its header).
        at: usize,
        /// The bytes that it needs at least.
        needed: u64,
        /// The bytes that are left.
        left: usize,
    },
    /// A length below -1, or null where the field has no null.
    Length {
        /// Which field.
        field: &'static str,
        /// Where.
        at: usize,
        /// What was found.
        found: i64,
    },
    /// A varint that is longer than its value needs, or than 32 bits.
    Varint {
        /// Where.
        at: usize,
    },
    /// Tagged fields that are not in ascending order, or one whose size is not that of its value.
    Tag {
        /// The struct or field.
        field: &'static str,
        /// Where.
        at: usize,
        /// The tag.
        tag: u32,
    },
    /// More elements, or more unknown tagged fields, than a request may have.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A text that is none.
    NotUtf8 {
        /// Which field.
        field: &'static str,
    },
}

/// Checks a request's body, in a version that is served, before it is decoded.
///
/// Passing means: every length and count is covered by bytes that are there, null stands only where it may, there
/// are at most 262,144 array elements and 64 unknown tagged fields. Bytes after the last field are ignored, as in
/// Kafka.
///
/// ```
/// use highwater_wire::{Api, check_bounds};
/// assert!(check_bounds(Api::Metadata, 1, &[0xff; 4]).is_ok()); // null: all topics
/// assert!(check_bounds(Api::Metadata, 0, &[0xff; 4]).is_err()); // version 0 has no null
/// ```
///
/// # Errors
/// The first thing that is not so.
pub fn check_bounds(api: Api, version: i16, body: &[u8]) -> Result<(), BoundsError> {
    debug_assert!(api.serves(version), "{api:?} {version}");
    let mut walk =
        Walk { cursor: Cursor::new(body), version, flexible: api.is_flexible(version), elements: 0 };
    walk.structure(requests::schema(api), api.name())
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    /// Array elements seen so far.
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, of: &'static Struct, name: &'static str) -> Result<(), BoundsError> {
        for field in of.fields {
            if field.is_in(self.version) {
                self.value(&field.kind, field.name)?;
            }
        }
        if self.flexible { self.tags(of, name) } else { Ok(()) }
    }

    fn value(&mut self, kind: &'static Kind, name: &'static str) -> Result<(), BoundsError> {
        match kind {
            Kind::Fixed(len) => self.cursor.take(name, *len).map(drop),
            Kind::Text { null_from } => {
                let nullable = self.version >= *null_from;
                let len = if self.flexible {
                    self.cursor.compact_length(name, nullable)?
                } else {
                    self.cursor.short_length(name, nullable)?
                };
                self.cursor.take(name, len.unwrap_or(0)).map(drop)
            }
            Kind::Bytes => {
                let len = self.length(name, true)?;
                self.cursor.take(name, len.unwrap_or(0)).map(drop)
            }
            Kind::Array { of, null_from } => {
                let count =
                    self.count(name, self.version >= *null_from, of.min_len(self.version, self.flexible))?;
                (0..count).try_for_each(|_| self.structure(of, name))
            }
            Kind::Values { of, null_from } => {
                let count =
                    self.count(name, self.version >= *null_from, of.min_len(self.version, self.flexible))?;
                match of {
                    Kind::Fixed(len) => self.cursor.take(name, count * len).map(drop),
                    other => (0..count).try_for_each(|_| self.value(other, name)),
                }
            }
            Kind::Struct(of) => self.structure(of, name),
        }
    }

    fn length(&mut self, name: &'static str, nullable: bool) -> Result<Option<usize>, BoundsError> {
        if self.flexible {
            self.cursor.compact_length(name, nullable)
        } else {
            self.cursor.long_length(name, nullable)
        }
    }

    /// An array's count, after the check that so many elements of at least `min_len` bytes can be there.
    fn count(&mut self, name: &'static str, nullable: bool, min_len: usize) -> Result<usize, BoundsError> {
        let count = self.length(name, nullable)?.unwrap_or(0);
        self.cursor.expect(name, count as u64 * min_len as u64)?;
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS {
            return Err(BoundsError::TooMany { what: "array elements", limit: MAX_ELEMENTS });
        }
        Ok(count)
    }

    fn tags(&mut self, of: &'static Struct, name: &'static str) -> Result<(), BoundsError> {
        let mut previous = None;
        for _ in 0..self.cursor.varint(name)? {
            let tag = self.cursor.next_tag(name, &mut previous)?;
            let size = self.cursor.varint(name)? as usize;
            self.cursor.expect(name, size as u64)?;
            match of.tags.iter().find(|known| known.tag == tag && known.field.is_in(self.version)) {
                Some(known) => {
                    let at = self.cursor.position();
                    self.value(&known.field.kind, known.field.name)?;
                    // The codec crate reads the value and passes over the size.
                    if self.cursor.position() != at + size {
                        return Err(BoundsError::Tag { field: known.field.name, at, tag });
                    }
                }
                None => self.cursor.skip_unknown(name, size)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BoundsError::Short { field, at, needed, left } => {
                write!(
                    f,
                    "expected at least {needed} bytes for {field} at byte {at} of the request, found {left}"
                )
            }
            BoundsError::Length { field, at, found } => {
                write!(f, "expected a length for {field} at byte {at} of the request, found {found}")
            }
            BoundsError::Varint { at } => {
                write!(
                    f,
                    "expected an unsigned varint of 32 bits at byte {at} of the request, found a longer one"
                )
            }
            BoundsError::Tag { field, at, tag } => write!(
                f,
                "expected tagged fields of {field} in ascending order and of their own size at byte {at} of the request, found tag {tag}"
            ),
            BoundsError::TooMany { what, limit } => {
                write!(f, "expected at most {limit} {what} in one request, found more")
            }
            BoundsError::NotUtf8 { field } => write!(f, "expected UTF-8 in {field}, found other bytes"),
        }
    }
}

impl std::error::Error for BoundsError {}
