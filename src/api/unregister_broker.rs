//! UnregisterBroker (64), v0: takes the registration of a broker that is gone for good. Here a session that ends takes its
//! registration with it, so there is none to take: BROKER_ID_NOT_REGISTERED. A broker that runs stays: INVALID_REQUEST (Kafka takes its
//! registration, which it gives itself again).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::ports::AdminServices;
use super::refusal::Refusal;
use super::topic_view::live_brokers;

pub fn handle(services: &AdminServices, request: &UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let id = request.broker_id.0;
    let runs = services.meta.read(|image| live_brokers(image, &services.node).contains_key(&id));
    let refusal = if runs {
        Refusal::new(ResponseError::InvalidRequest, format!("Broker ID {id} is running; stop it, and it is gone."))
    } else {
        Refusal::new(ResponseError::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
    };
    UnregisterBrokerResponse::default().with_error_code(refusal.code()).with_error_message(refusal.text())
}
