//! ExpireDelegationToken (40), v1-2: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, see CreateDelegationToken.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ExpireDelegationTokenResponse;

pub fn handle() -> ExpireDelegationTokenResponse {
    ExpireDelegationTokenResponse::default()
        .with_error_code(ResponseError::DelegationTokenRequestNotAllowed.code())
        .with_expiry_timestamp_ms(-1)
}
