//! Request headers read, response headers written.

use std::fmt;

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use crate::api::Api;
use crate::bounds::{BoundsError, Cursor};

/// The header of a request (version 1; 2 with tagged fields, for flexible versions of an API).
///
/// ```
/// use bytes::Bytes;
/// use highwater_wire::{Api, RequestHeader};
/// // ApiVersions 0, correlation id 7, client id "cl": kafka.md 10.6.
/// let mut frame = Bytes::from_static(&[0, 18, 0, 0, 0, 0, 0, 7, 0, 2, b'c', b'l']);
/// let header = RequestHeader::take(&mut frame).unwrap();
/// assert_eq!((header.api, header.version, header.correlation_id), (Api::ApiVersions, 0, 7));
/// assert_eq!(header.client_id.as_deref(), Some("cl"));
/// assert!(frame.is_empty());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Which API.
    pub api: Api,
    /// Which version of it. One that is served, but for ApiVersions, where it may be any: see
    /// [`RequestHeader::is_served`].
    pub version: i16,
    /// Given back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

/// Why a request's header cannot be used. The connection is closed without an answer, as Kafka does.
///
/// ```
/// use bytes::Bytes;
/// use highwater_wire::RequestHeader;
/// let error = RequestHeader::take(&mut Bytes::from_static(&[0, 0, 0, 2, 0, 0, 0, 1])).unwrap_err();
/// assert_eq!(error.to_string(), "expected Produce in version 3 to 13, found version 2");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HeaderError {
    /// No API that is served has this key.
    UnknownApi {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// The API is served, but not in this version.
    UnsupportedVersion {
        /// Which API.
        api: Api,
        /// The version that was asked for.
        version: i16,
    },
    /// The bytes are no header.
    Malformed(BoundsError),
}

impl RequestHeader {
    /// Takes the header from the front of a frame's body; the request's body is left.
    ///
    /// # Errors
    /// The API or its version is not served, or the bytes are no header. ApiVersions never fails for its version,
    /// because it must be answered in a way that any client understands (KIP-511).
    pub fn take(frame: &mut Bytes) -> Result<RequestHeader, HeaderError> {
        let mut cursor = Cursor::new(frame);
        let fixed: [u8; 8] = cursor.take("the request header", 8)?.try_into().expect("8 bytes");
        let key = i16::from_be_bytes([fixed[0], fixed[1]]);
        let version = i16::from_be_bytes([fixed[2], fixed[3]]);
        let correlation_id = i32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let api = Api::from_key(key).ok_or(HeaderError::UnknownApi { key, version })?;
        if !api.serves(version) {
            return match api {
                // The rest may have a layout of its own: nothing of it is needed.
                Api::ApiVersions => {
                    frame.clear();
                    Ok(RequestHeader { api, version, correlation_id, client_id: None })
                }
                _ => Err(HeaderError::UnsupportedVersion { api, version }),
            };
        }
        let name = cursor.short_text("client_id")?;
        if api.is_flexible(version) {
            cursor.skip_tags("the request header")?;
        }
        let consumed = cursor.position();
        let client_id = name.map(|range| StrBytes::from_utf8(frame.slice(range)));
        let client_id = client_id.transpose().map_err(|_| BoundsError::NotUtf8 { field: "client_id" })?;
        frame.advance(consumed);
        Ok(RequestHeader { api, version, correlation_id, client_id })
    }

    /// Whether this version is served: false only for an ApiVersions of a version that is not.
    pub fn is_served(&self) -> bool {
        self.api.serves(self.version)
    }

    /// The version in which the response body is written: the request's, or 0 where ApiVersions refuses it.
    pub fn response_version(&self) -> i16 {
        if self.is_served() { self.version } else { 0 }
    }

    /// Appends the response header: version 1 with no tagged fields, or version 0 for a version that is not flexible
    /// and always for ApiVersions, which a client sends before it knows what the broker understands.
    pub(crate) fn put_response(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.correlation_id.to_be_bytes());
        if self.api != Api::ApiVersions && self.api.is_flexible(self.version) {
            out.push(0);
        }
    }
}

impl From<BoundsError> for HeaderError {
    fn from(error: BoundsError) -> HeaderError {
        HeaderError::Malformed(error)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::UnknownApi { key, version } => {
                write!(f, "expected an API that ApiVersions lists, found key {key} in version {version}")
            }
            HeaderError::UnsupportedVersion { api, version } => {
                let row = api.row();
                let (min, max) = (row.served_min, row.max);
                write!(f, "expected {} in version {min} to {max}, found version {version}", row.name)
            }
            HeaderError::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &'static [u8]) -> Result<RequestHeader, HeaderError> {
        RequestHeader::take(&mut Bytes::from_static(bytes))
    }

    #[test]
    fn a_flexible_header_leaves_the_body() {
        // ApiVersions 3 of kafka.md 10.6.
        let mut frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x07\0\x02cl\0\x04abc\x041.0\0");
        let header = RequestHeader::take(&mut frame).unwrap();
        assert_eq!((header.version, header.client_id.as_deref()), (3, Some("cl")));
        assert_eq!(&frame[..], b"\x04abc\x041.0\0");
    }

    #[test]
    fn unknown_tags_of_a_header_are_skipped() {
        let mut frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x07\xff\xff\x01\x05\x02zz\x01");
        let header = RequestHeader::take(&mut frame).unwrap();
        assert_eq!(header.client_id, None);
        assert_eq!(&frame[..], b"\x01");
    }

    #[test]
    fn every_other_key_and_version_closes_the_connection_but_api_versions_is_answered() {
        assert_eq!(take(b"\0\x0a\0\0\0\0\0\x07"), Err(HeaderError::UnknownApi { key: 10, version: 0 }));
        assert_eq!(take(b"\xff\xff\0\0\0\0\0\x07"), Err(HeaderError::UnknownApi { key: -1, version: 0 }));
        for version in [2, 14] {
            let bytes = [0, 0, 0, version, 0, 0, 0, 7];
            let error = RequestHeader::take(&mut Bytes::copy_from_slice(&bytes)).unwrap_err();
            assert_eq!(error, HeaderError::UnsupportedVersion { api: Api::Produce, version: version.into() });
        }
        for version in [[0, 5], [0xff, 0xff], [0x7f, 0xff]] {
            let bytes = [0, 18, version[0], version[1], 0, 0, 0, 7, 99];
            let mut frame = Bytes::copy_from_slice(&bytes);
            let header = RequestHeader::take(&mut frame).unwrap();
            assert!(!header.is_served() && header.response_version() == 0 && frame.is_empty());
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_refused() {
        let whole = b"\0\x12\0\x03\0\0\0\x07\0\x02cl\x01\x05\x02zz";
        for len in 0..whole.len() {
            let error = RequestHeader::take(&mut Bytes::copy_from_slice(&whole[..len])).unwrap_err();
            assert!(matches!(error, HeaderError::Malformed(_)), "{len}: {error}");
        }
        for length in [b"\xff\xfe", b"\x80\x00", b"\x7f\xff"] {
            let bytes = [&b"\0\x12\0\x00\0\0\0\x07"[..], length, b"cl"].concat();
            assert!(matches!(RequestHeader::take(&mut bytes.into()), Err(HeaderError::Malformed(_))));
        }
        assert!(matches!(take(b"\0\x12\0\x00\0\0\0\x07\0\x01\xff"), Err(HeaderError::Malformed(_))));
    }
}
