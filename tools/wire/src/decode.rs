//! Requests, from the bytes of a frame.

use std::fmt;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, RequestKind};

use crate::api::Api;
use crate::bounds::{BoundsError, check_bounds};
use crate::header::{HeaderError, RequestHeader};

/// A request, decoded. Record bytes (and every text) share the memory of the frame.
///
/// ```
/// use bytes::Bytes;
/// use highwater_wire::{Api, Request};
/// use kafka_protocol::messages::RequestKind;
/// // Metadata 1, all topics: kafka.md 10.6.
/// let frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x07\0\x02cl\xff\xff\xff\xff");
/// let request = Request::decode(frame).unwrap();
/// assert_eq!(request.header.api, Api::Metadata);
/// let RequestKind::Metadata(body) = request.body else { unreachable!() };
/// assert_eq!(body.topics, None);
/// ```
#[derive(Debug)]
pub struct Request {
    /// Its header.
    pub header: RequestHeader,
    /// Its body; of an ApiVersions in a version that is not served, an empty one.
    pub body: RequestKind,
}

/// Why a frame is no request that is served. The connection is closed without an answer, as Kafka does.
///
/// ```
/// use bytes::Bytes;
/// use highwater_wire::Request;
/// let error = Request::decode(Bytes::from_static(b"\0\x03\0\x01\0\0\0\x07\0\x02cl\0\0\0\x09")).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "Metadata 1: expected at least 18 bytes for topics at byte 4 of the request, found 0"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// Its header cannot be used.
    Header(HeaderError),
    /// Its body claims what is not there.
    Bounds {
        /// Which API.
        api: Api,
        /// Which version.
        version: i16,
        /// What is wrong.
        error: BoundsError,
    },
    /// Its body is within bounds, and yet not what the codec understands: texts that are not UTF-8.
    Codec {
        /// Which API.
        api: Api,
        /// Which version.
        version: i16,
        /// What the codec says.
        reason: String,
    },
}

impl Request {
    /// Decodes a frame's body: header, bounds, then the request itself.
    ///
    /// # Errors
    /// It is not a request that is served. Nothing beyond the frame was allocated then.
    pub fn decode(mut frame: Bytes) -> Result<Request, DecodeError> {
        let header = RequestHeader::take(&mut frame).map_err(DecodeError::Header)?;
        if !header.is_served() {
            return Ok(Request { header, body: RequestKind::ApiVersions(ApiVersionsRequest::default()) });
        }
        let (api, version) = (header.api, header.version);
        check_bounds(api, version, &frame).map_err(|error| DecodeError::Bounds { api, version, error })?;
        let body = RequestKind::decode(api.codec_key(), &mut frame, api.codec_version(version))
            .map_err(|error| DecodeError::Codec { api, version, reason: error.root_cause().to_string() })?;
        Ok(Request { header, body })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Header(error) => error.fmt(f),
            DecodeError::Bounds { api, version, error } => write!(f, "{} {version}: {error}", api.name()),
            DecodeError::Codec { api, version, reason } => {
                write!(f, "{} {version}: expected a well-formed request, found: {reason}", api.name())
            }
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DecodeError::Header(error) => Some(error),
            DecodeError::Bounds { error, .. } => Some(error),
            DecodeError::Codec { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_share_the_memory_of_the_frame() {
        // Produce 3 and 9 of kafka.md 10.6.
        let old = b"\0\0\0\x03\0\0\0\x07\0\x02cl\xff\xff\xff\xff\0\0\x75\x30\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\x03\x01\x02\x03";
        let new = b"\0\0\0\x09\0\0\0\x07\0\x02cl\0\0\xff\xff\0\0\x75\x30\x02\x02t\x02\0\0\0\0\x04\x01\x02\x03\0\0\0";
        for frame in [Bytes::copy_from_slice(old), Bytes::copy_from_slice(new)] {
            let memory = frame.as_ptr_range();
            let RequestKind::Produce(body) = Request::decode(frame.clone()).unwrap().body else {
                unreachable!()
            };
            assert_eq!(body.acks, -1);
            let records = body.topic_data[0].partition_data[0].records.clone().unwrap();
            assert_eq!(&records[..], [1, 2, 3]);
            assert!(memory.contains(&records.as_ptr()));
        }
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused() {
        let frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x07\0\x02cl\0\0\0\x01\0\x01\xff");
        assert!(matches!(Request::decode(frame), Err(DecodeError::Codec { .. })));
    }
}
