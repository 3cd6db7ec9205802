//! Responses, to bytes that can be sent.

use std::fmt;

use kafka_protocol::messages::{DescribeLogDirsResponse, ResponseKind};
use kafka_protocol::protocol::Encodable;

use crate::api::Api;
use crate::header::RequestHeader;

/// Why a response cannot be encoded: it holds what its version has no place for. Ours to fix, never the client's.
///
/// ```
/// # use bytes::Bytes;
/// use highwater_wire::{RequestHeader, encode_response};
/// use kafka_protocol::messages::{MetadataResponse, ResponseKind};
/// # let header = RequestHeader::take(&mut Bytes::from_static(b"\0\x12\0\0\0\0\0\x07\xff\xff")).unwrap();
/// let error = encode_response(&header, &ResponseKind::Metadata(MetadataResponse::default())).unwrap_err();
/// assert!(error.to_string().starts_with("ApiVersions 0: expected a response that its version can hold"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodeError {
    /// What was to be answered.
    pub request: RequestHeader,
    /// What the codec says.
    pub reason: String,
}

/// Encodes the response to a request as a whole frame: size, header, body. The body is in the request's version,
/// or in version 0 where ApiVersions refuses its version.
///
/// ```
/// # use bytes::Bytes;
/// use highwater_wire::{RequestHeader, encode_response};
/// use kafka_protocol::messages::{ApiVersionsResponse, ResponseKind};
/// # let header = RequestHeader::take(&mut Bytes::from_static(b"\0\x12\0\0\0\0\0\x07\xff\xff")).unwrap();
/// let frame = encode_response(&header, &ResponseKind::ApiVersions(ApiVersionsResponse::default())).unwrap();
/// assert_eq!(frame, [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
/// ```
///
/// # Errors
/// The body answers another API, or holds what the version cannot say.
pub fn encode_response(request: &RequestHeader, body: &ResponseKind) -> Result<Vec<u8>, EncodeError> {
    let fail = |reason: String| EncodeError { request: request.clone(), reason };
    let version = request.api.codec_version(request.response_version());
    let mut frame = Vec::with_capacity(256);
    frame.extend_from_slice(&[0; 4]);
    request.put_response(&mut frame);
    if let (Api::DescribeLogDirs, 5.., ResponseKind::DescribeLogDirs(body)) =
        (request.api, request.version, body)
    {
        log_dirs_with_cordons(&mut frame, body).map_err(fail)?;
        put_size(&mut frame, 0).map_err(fail)?;
        return Ok(frame);
    }
    let written = match (request.api, body) {
        (Api::Produce, ResponseKind::Produce(body)) => body.encode(&mut frame, version),
        (Api::Fetch, ResponseKind::Fetch(body)) => body.encode(&mut frame, version),
        (Api::ListOffsets, ResponseKind::ListOffsets(body)) => body.encode(&mut frame, version),
        (Api::Metadata, ResponseKind::Metadata(body)) => body.encode(&mut frame, version),
        (Api::ApiVersions, ResponseKind::ApiVersions(body)) => body.encode(&mut frame, version),
        (Api::CreateTopics, ResponseKind::CreateTopics(body)) => body.encode(&mut frame, version),
        (Api::DeleteTopics, ResponseKind::DeleteTopics(body)) => body.encode(&mut frame, version),
        (Api::DeleteRecords, ResponseKind::DeleteRecords(body)) => body.encode(&mut frame, version),
        (Api::InitProducerId, ResponseKind::InitProducerId(body)) => body.encode(&mut frame, version),
        (Api::OffsetForLeaderEpoch, ResponseKind::OffsetForLeaderEpoch(body)) => {
            body.encode(&mut frame, version)
        }
        (Api::DescribeConfigs, ResponseKind::DescribeConfigs(body)) => body.encode(&mut frame, version),
        (Api::AlterReplicaLogDirs, ResponseKind::AlterReplicaLogDirs(body)) => {
            body.encode(&mut frame, version)
        }
        (Api::DescribeLogDirs, ResponseKind::DescribeLogDirs(body)) => body.encode(&mut frame, version),
        (Api::CreatePartitions, ResponseKind::CreatePartitions(body)) => body.encode(&mut frame, version),
        (Api::IncrementalAlterConfigs, ResponseKind::IncrementalAlterConfigs(body)) => {
            body.encode(&mut frame, version)
        }
        (Api::DescribeCluster, ResponseKind::DescribeCluster(body)) => body.encode(&mut frame, version),
        (api, _) => return Err(fail(format!("the body of another API than {}", api.name()))),
    };
    written.map_err(|error| fail(error.root_cause().to_string()))?;
    put_size(&mut frame, 0).map_err(fail)?;
    Ok(frame)
}

/// A DescribeLogDirs answer of version 5, which the codec crate does not know: that of version 4, and each directory says
/// whether it is cordoned, which ours never are.
fn log_dirs_with_cordons(frame: &mut Vec<u8>, body: &DescribeLogDirsResponse) -> Result<(), String> {
    frame.extend_from_slice(&body.throttle_time_ms.to_be_bytes());
    frame.extend_from_slice(&body.error_code.to_be_bytes());
    put_varint(frame, body.results.len() + 1);
    for directory in &body.results {
        directory.encode(frame, 4).map_err(|error| error.root_cause().to_string())?;
        let tags = frame.pop().expect("a struct ends with the number of its tagged fields");
        frame.extend_from_slice(&[0, tags]);
    }
    frame.push(0);
    Ok(())
}

/// A length, as flexible versions write it.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut value = u32::try_from(value).unwrap_or(u32::MAX);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Fills in the size of a frame whose first bytes are in `frame`, and of which `elsewhere` bytes are sent from
/// where they lie.
pub(crate) fn put_size(frame: &mut [u8], elsewhere: usize) -> Result<(), String> {
    let size = frame.len() - 4 + elsewhere;
    let size = i32::try_from(size)
        .map_err(|_| format!("a response of {size} bytes: a frame has at most 2147483647"))?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (api, version) = (self.request.api.name(), self.request.response_version());
        write!(f, "{api} {version}: expected a response that its version can hold, found: {}", self.reason)
    }
}

impl std::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiVersionsResponse;
    use kafka_protocol::messages::api_versions_response::ApiVersion;

    #[test]
    fn a_refused_api_versions_is_answered_in_version_0() {
        // kafka.md 10.6: "ApiVersions v0 body, err 35".
        let request = RequestHeader { api: Api::ApiVersions, version: 5, correlation_id: 7, client_id: None };
        let range = ApiVersion::default().with_api_key(18).with_max_version(4);
        let body = ApiVersionsResponse::default().with_error_code(35).with_api_keys(vec![range]);
        let frame = encode_response(&request, &ResponseKind::ApiVersions(body)).unwrap();
        assert_eq!(frame, b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04");
    }

    #[test]
    fn each_directory_of_a_description_says_from_version_5_on_that_it_is_not_cordoned() {
        use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
        let at = |version| {
            let request =
                RequestHeader { api: Api::DescribeLogDirs, version, correlation_id: 7, client_id: None };
            let one = DescribeLogDirsResult::default()
                .with_log_dir("/a".into())
                .with_total_bytes(1)
                .with_usable_bytes(2);
            let body = DescribeLogDirsResponse::default().with_results(vec![one.clone(), one]);
            encode_response(&request, &ResponseKind::DescribeLogDirs(body)).unwrap()[4..].to_vec()
        };
        let one = b"\0\0\x03/a\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02";
        let head = b"\0\0\0\x07\0\0\0\0\0\0\0\x03";
        assert_eq!(at(4), [head, &one[..], b"\0", one, b"\0", b"\0"].concat());
        assert_eq!(at(5), [head, &one[..], b"\0\0", one, b"\0\0", b"\0"].concat());
    }

    #[test]
    fn only_other_apis_have_tagged_fields_in_the_response_header() {
        for (api, version, tagged) in
            [(Api::ApiVersions, 3, false), (Api::Metadata, 8, false), (Api::Metadata, 9, true)]
        {
            let mut out = Vec::new();
            RequestHeader { api, version, correlation_id: 7, client_id: None }.put_response(&mut out);
            assert_eq!(out.len(), 4 + usize::from(tagged), "{api:?} {version}");
        }
    }
}
