//! SaslHandshake (17), v0-1, on a listener without SASL: ILLEGAL_SASL_STATE, as Kafka's plain listeners answer
//! (`KafkaApis.handleSaslHandshakeRequest`). A client that is told to authenticate learns so that it need not; the connection goes on.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::SaslHandshakeResponse;

pub fn handle() -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(ResponseError::IllegalSaslState.code())
}
