//! Kafka's wire protocol: frames, versions, bounds.
//!
//! This crate sees bytes and nothing else: no socket, no storage, no clock. Its order of work is that of a request:
//! [`Frame`] finds one in what was received, [`Request::decode`] reads its header, checks that its body claims
//! nothing that is not there, and decodes it with the `kafka-protocol` crate; [`encode_response`] and
//! [`encode_fetch`] write the answer. Which APIs are served in which versions is the table [`APIS`].
//!
//! ```
//! use bytes::Bytes;
//! use highwater_base::ByteLen;
//! use highwater_wire::{Frame, Request, encode_response};
//! use kafka_protocol::messages::{ApiVersionsResponse, ResponseKind};
//!
//! let received = Bytes::from_static(b"\0\0\0\x0c\0\x12\0\0\0\0\0\x07\0\x02cl");
//! let Frame::Complete { body } = Frame::next(&received, ByteLen::new(100 << 20)).unwrap() else { unreachable!() };
//! let request = Request::decode(received.slice(body)).unwrap();
//! let answer = ResponseKind::ApiVersions(ApiVersionsResponse::default());
//! let frame = encode_response(&request.header, &answer).unwrap();
//! assert_eq!(frame[4..8], [0, 0, 0, 7]);
//! ```
#![forbid(unsafe_code)]

mod api;
mod bounds;
mod decode;
mod encode;
mod error_code;
mod fetch;
mod frame;
mod header;
mod markdown;

pub use api::{APIS, Api, ApiRow};
pub use bounds::{BoundsError, check_bounds};
pub use decode::{DecodeError, Request};
pub use encode::{EncodeError, encode_response};
pub use error_code::ErrorCode;
pub use fetch::{FetchAnswer, FetchPartition, FetchTopic, NodeEndpoint, Piece, encode_fetch};
pub use frame::{Frame, FrameError};
pub use header::{HeaderError, RequestHeader};
pub use markdown::protocol_markdown;
