//! ApiVersions (key 18), versions 0–4: what is served, out of the one table (`wire::table`).
//!
//! A version that there is not is answered in version 0 with UNSUPPORTED_VERSION and the row of ApiVersions alone; its body is not read
//! (KIP-511). From v3 on the client's software name and version must be well-formed, else INVALID_REQUEST without rows.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::wire::table::{API_TABLE, ApiRow};

/// `metadata.version` of Kafka 4.3: tools derive "the Kafka version" from it.
const METADATA_VERSION: (&str, i16, i16) = ("metadata.version", 7, 30);

pub fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let named = |text: &StrBytes| is_software_name(text.as_str());
    if version >= 3 && !(named(&request.client_software_name) && named(&request.client_software_version)) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let (name, least, most) = METADATA_VERSION;
    let supported = SupportedFeatureKey::default()
        .with_name(StrBytes::from_static_str(name))
        .with_min_version(least)
        .with_max_version(most);
    let finalized = FinalizedFeatureKey::default()
        .with_name(StrBytes::from_static_str(name))
        .with_min_version_level(most)
        .with_max_version_level(most);
    ApiVersionsResponse::default()
        .with_api_keys(API_TABLE.iter().map(row).collect())
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized])
}

/// The answer to a version that this broker does not know, to be sent in version 0.
pub fn unknown_version() -> ApiVersionsResponse {
    let own = API_TABLE.iter().filter(|row| row.key == ApiKey::ApiVersions);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own.map(row).collect())
}

fn row(row: &ApiRow) -> ApiVersion {
    ApiVersion::default().with_api_key(row.key as i16).with_min_version(row.advertised_min).with_max_version(row.max)
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        for good in ["a", "apache-kafka-java", "librdkafka", "2.3.1", "v1.0-rc.1"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "ü", "a_b"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn produce_is_advertised_from_zero() {
        let answer = handle(0, &ApiVersionsRequest::default());
        let produce = answer.api_keys.iter().find(|row| row.api_key == ApiKey::Produce as i16).expect("served");
        assert_eq!(produce.min_version, 0);
        assert_eq!(unknown_version().api_keys.len(), 1);
    }
}
