//! FindCoordinator (10), v0-6: which broker coordinates a group.
//!
//! v1 key types · v4 several keys, each with its answer · v6 share groups. Only groups have coordinators here, the rest is refused with a
//! message: transactions with the code that InitProducerId explains (librdkafka asks on for ever after INVALID_REQUEST), others with
//! INVALID_REQUEST. `__consumer_offsets` is created on the way, so that a client's first question already has an answer.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::{CoordinatorLocator, RequestContext};
use super::turns::Turns;
use crate::coord::Groups;

const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const INVALID_REQUEST: i16 = 42;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub async fn handle(
    groups: &Groups,
    locator: &dyn CoordinatorLocator,
    cx: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let ready = if request.key_type == GROUP { groups.ensure_topic().await.is_ok() } else { false };
    let find = |key: &StrBytes| find(locator, (request.key_type, cx.api_version), ready, key);
    if cx.api_version >= 4 {
        let (mut coordinators, mut turns) = (Vec::with_capacity(request.coordinator_keys.len()), Turns::default());
        for key in &request.coordinator_keys {
            turns.next().await;
            coordinators.push(find(key));
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&request.key);
    // Kafka writes the name of "no error" here.
    let message = if found.error_code == 0 { Some(StrBytes::from_static_str("NONE")) } else { found.error_message };
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(message.filter(|_| cx.api_version >= 1))
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(locator: &dyn CoordinatorLocator, (key_type, version): (i8, i16), ready: bool, key: &StrBytes) -> Coordinator {
    let nobody = |code: i16, why: &'static str| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code)
            .with_error_message(Some(StrBytes::from_static_str(why)))
    };
    if let Some((code, why)) = unserved(key_type, version) {
        return nobody(code, why);
    }
    match locator.locate(key.as_str()).filter(|_| ready) {
        None => nobody(COORDINATOR_NOT_AVAILABLE, "The coordinator is not available."),
        Some((node, host, port)) => Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(node))
            .with_host(host.into())
            .with_port(i32::from(port)),
    }
}

/// The refusal of a kind of key that has no coordinator here.
fn unserved(key_type: i8, version: i16) -> Option<(i16, &'static str)> {
    match key_type {
        GROUP => None,
        TRANSACTION => Some((TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Transactions are not served by this broker.")),
        // Below v6 Kafka does not serve them either.
        SHARE if version < 4 => Some((INVALID_REQUEST, super::refusal::INVALID_REQUEST)),
        SHARE if version < 6 => Some((INVALID_REQUEST, "")),
        SHARE => Some((INVALID_REQUEST, "Share groups are not served by this broker.")),
        _ => Some((INVALID_REQUEST, super::refusal::INVALID_REQUEST)),
    }
}
