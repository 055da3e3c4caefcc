//! Counts requests and how long they take, around [`dispatch::begin`].

use std::sync::Arc;

use kafka_protocol::messages::ApiKey;

use super::Services;
use super::dispatch::{self, Answer, Request};
use crate::wire::table;

/// Does what [`dispatch::begin`] does, and counts it.
pub async fn begin(services: &Arc<Services>, request: Request) -> Answer {
    let metrics = services.metrics.clone();
    metrics.received_bytes.inc_by(request.frame.len() as u64);
    let key = request.frame.first_chunk().map(|bytes| i16::from_be_bytes(*bytes));
    let Some(row) = key.and_then(table::find) else { return dispatch::begin(services, request).await };
    metrics.request(row.name);
    let key = row.key;
    if !matches!(key, ApiKey::Produce | ApiKey::Fetch) {
        return dispatch::begin(services, request).await;
    }
    let clock = services.env.clock.clone();
    let begun = clock.boot();
    let answer = dispatch::begin(services, request).await;
    Box::pin(async move {
        let reply = answer.await;
        let latency = if key == ApiKey::Produce { &metrics.produce_latency } else { &metrics.fetch_latency };
        latency.observe(clock.boot().saturating_sub(begun).as_secs_f64());
        reply
    })
}
