//! DescribeDelegationToken (41), v1-3: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, see CreateDelegationToken.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::DescribeDelegationTokenResponse;

pub fn handle() -> DescribeDelegationTokenResponse {
    DescribeDelegationTokenResponse::default().with_error_code(ResponseError::DelegationTokenRequestNotAllowed.code())
}
