//! InitProducerId (22), v0-5, for idempotent producers: a new id with epoch 0, whatever id the producer had before.
//!
//! Transactions are not served yet. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: of the codes that all
//! clients know it is the one that makes each of them (Java, librdkafka, franz-go, sarama) stop at once with an error that speaks of
//! transactional ids. Codes like INVALID_REQUEST or COORDINATOR_NOT_AVAILABLE leave some of them trying until a time-out.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::context::RequestContext;
use super::ports::AdminServices;

const NONE: i64 = -1;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Err(error) = check(&request) {
        return refused(error);
    }
    match services.producer_ids.next().await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "a producer got no id");
            refused(ResponseError::CoordinatorLoadInProgress)
        }
    }
}

fn refused(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(NONE))
        .with_producer_epoch(-1)
}

fn check(request: &InitProducerIdRequest) -> Result<(), ResponseError> {
    if (request.producer_id.0 == NONE) != (request.producer_epoch == -1) {
        return Err(ResponseError::InvalidRequest);
    }
    match &request.transactional_id {
        None => Ok(()),
        Some(id) if id.is_empty() => Err(ResponseError::InvalidRequest),
        Some(_) => Err(ResponseError::TransactionalIdAuthorizationFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::TransactionalId;

    #[test]
    fn requests_are_judged_as_in_kafka() {
        let transactional = |id: &'static str| Some(TransactionalId(id.into()));
        for (id, epoch, transactional_id, answer) in [
            (-1, -1, None, Ok(())),
            (5, 0, None, Ok(())),
            (5, -1, None, Err(ResponseError::InvalidRequest)),
            (-1, 0, None, Err(ResponseError::InvalidRequest)),
            (-1, -1, transactional(""), Err(ResponseError::InvalidRequest)),
            (-1, -1, transactional("t"), Err(ResponseError::TransactionalIdAuthorizationFailed)),
        ] {
            let request = InitProducerIdRequest::default()
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
                .with_transactional_id(transactional_id);
            assert_eq!(check(&request), answer);
        }
    }
}
