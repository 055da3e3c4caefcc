//! DescribeClientQuotas (48), v0-1: no client has a quota. The filter is judged as in Kafka (`ClientQuotasImage.describe`), what it
//! selects is nothing.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use super::refusal::Refusal;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub fn handle(request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    match check(&request.components) {
        Ok(()) => response.with_error_message(Some(StrBytes::new())).with_entries(Some(Vec::new())),
        Err(refusal) => response.with_error_code(refusal.code()).with_error_message(refusal.text()).with_entries(None),
    }
}

fn check(components: &[ComponentData]) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidRequest, message));
    let mut seen = BTreeSet::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if seen.contains(kind) {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if ![IP, USER, CLIENT_ID].contains(&kind) {
            return Err(Refusal::new(ResponseError::UnsupportedVersion, format!("Unsupported entity type {kind}")));
        }
        match (component.match_type, &component._match) {
            (EXACT, Some(_)) | (DEFAULT | SPECIFIED, None) => {}
            (EXACT, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned());
            }
            (DEFAULT, Some(_)) => {
                return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".to_owned());
            }
            (SPECIFIED, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".to_owned(),
                );
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        }
        seen.insert(kind);
    }
    if seen.contains(IP) && seen.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId \
             filter component."
                .to_owned(),
        );
    }
    Ok(())
}
