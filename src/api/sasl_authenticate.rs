//! SaslAuthenticate (36), v0-2, on a listener without SASL: ILLEGAL_SASL_STATE with Kafka's sentence
//! (`KafkaApis.handleSaslAuthenticateRequest`).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::SaslAuthenticateResponse;
use kafka_protocol::protocol::StrBytes;

pub fn handle() -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_error_code(ResponseError::IllegalSaslState.code()).with_error_message(
        Some(StrBytes::from_static_str("SaslAuthenticate request received after successful authentication")),
    )
}
