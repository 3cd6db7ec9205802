//! ApiVersions: what is served. Answered in any version, before anything else is known of the client (KIP-511).

use highwater_wire::{APIS, Api, ApiRow, ErrorCode, RequestHeader};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::gather::answer;
use crate::pending::Handled;

pub(super) fn handle(header: &RequestHeader, request: &ApiVersionsRequest) -> Handled {
    let range = |row: &ApiRow| {
        let range = ApiVersion::default().with_api_key(row.key);
        range.with_min_version(row.advertised_min).with_max_version(row.max)
    };
    let response = ApiVersionsResponse::default();
    if !header.is_served() {
        // With our range of ApiVersions, a client can ask again in a version that we have.
        let own = vec![range(Api::ApiVersions.row())];
        return answer(response.with_error_code(ErrorCode::UnsupportedVersion.code()).with_api_keys(own));
    }
    if header.version >= 3
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return answer(response.with_error_code(ErrorCode::InvalidRequest.code()));
    }
    answer(response.with_api_keys(APIS.iter().map(range).collect()))
}

/// Kafka's `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    ends(bytes.first()) && ends(bytes.last()) && inner
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use kafka_protocol::messages::ResponseKind;

    fn ask(version: i16, name: &'static str) -> ApiVersionsResponse {
        let request = ApiVersionsRequest::default();
        let request =
            request.with_client_software_name(name.into()).with_client_software_version("1.0".into());
        let handled = Fake::new().handle(&header(Api::ApiVersions, version), request.into());
        let ResponseKind::ApiVersions(response) = body(handled) else { panic!("another response") };
        response
    }

    #[test]
    fn produce_is_listed_from_0_and_groups_not_at_all() {
        for version in 0..=4 {
            let response = ask(version, "abc");
            assert_eq!((response.error_code, response.api_keys.len()), (0, APIS.len()));
            let produce = &response.api_keys[0];
            assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
            assert!(response.api_keys.iter().all(|range| range.api_key != 10));
        }
    }

    #[test]
    fn a_version_that_is_not_served_is_told_which_ones_are() {
        for version in [5, -1, i16::MAX] {
            let response = ask(version, "abc");
            assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
            let own = &response.api_keys[0];
            assert_eq!((own.api_key, own.min_version, own.max_version), (18, 0, 4));
        }
    }

    #[test]
    fn software_names_are_checked_from_version_3_on() {
        for name in ["", "-a", "a.", "a b", "ä"] {
            assert_eq!(ask(3, name).error_code, 42, "{name:?}");
            assert_eq!(ask(2, name).error_code, 0, "{name:?}");
        }
        for name in ["a", "kafka-python", "librdkafka-2.15.0"] {
            assert_eq!(ask(4, name).error_code, 0, "{name:?}");
        }
    }
}
