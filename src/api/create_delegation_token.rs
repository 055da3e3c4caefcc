//! CreateDelegationToken (38), v1-3: tokens stand for an authenticated user, and on plain connections nobody is one, so
//! DELEGATION_TOKEN_REQUEST_NOT_ALLOWED as on Kafka's plain listeners. v3 names owner and requester.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};
use kafka_protocol::protocol::StrBytes;

/// Type and name of whoever has not authenticated (`KafkaPrincipal.ANONYMOUS`).
const ANONYMOUS: (StrBytes, StrBytes) = (StrBytes::from_static_str("User"), StrBytes::from_static_str("ANONYMOUS"));

pub fn handle(version: i16, request: CreateDelegationTokenRequest) -> CreateDelegationTokenResponse {
    let owner = request.owner_principal_name.filter(|name| !name.is_empty());
    let (owner_kind, owner) = match owner {
        Some(owner) => (request.owner_principal_type.unwrap_or_default(), owner),
        None => ANONYMOUS,
    };
    let response = CreateDelegationTokenResponse::default()
        .with_error_code(ResponseError::DelegationTokenRequestNotAllowed.code())
        .with_principal_type(owner_kind)
        .with_principal_name(owner)
        .with_issue_timestamp_ms(-1)
        .with_expiry_timestamp_ms(-1)
        .with_max_timestamp_ms(-1);
    if version < 3 {
        return response;
    }
    let (kind, name) = ANONYMOUS;
    response.with_token_requester_principal_type(kind).with_token_requester_principal_name(name)
}
