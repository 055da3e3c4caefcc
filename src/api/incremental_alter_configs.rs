//! IncrementalAlterConfigs (44), v0-1: sets, deletes, appends to and subtracts from single configs (KIP-339).

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::config_alter::{Alteration, Asked, Operation, Row, alter, check_shape};
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{Refusal, string};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, resource.resource_name.as_str())).or_default() += 1;
    }
    let asked = request.resources.iter().map(|resource| {
        let times = times.get(&(resource.resource_type, resource.resource_name.as_str())).copied();
        asked(resource, times.unwrap_or(1))
    });
    let rows = alter(services, asked.collect(), request.validate_only).await;
    IncrementalAlterConfigsResponse::default().with_responses(rows.into_iter().map(response).collect())
}

fn asked(resource: &AlterConfigsResource, times: usize) -> Asked {
    let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
    let keys: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    let null = resource.configs.iter().filter(|config| config.value.is_none() && config.config_operation != DELETE);
    let null: Vec<&str> = null.map(|config| config.name.as_str()).collect();
    check_shape(kind, name, times, &keys, &null)?;
    let operations: Result<Vec<_>, Refusal> = resource.configs.iter().map(operation).collect();
    let operations = operations.map_err(|refusal| (kind, name.to_owned(), refusal))?;
    Ok(Alteration { resource_type: kind, name: name.to_owned(), operations, replace: false })
}

fn operation(config: &AlterableConfig) -> Result<(String, Operation), Refusal> {
    let value = || config.value.as_ref().map(|value| value.to_string()).unwrap_or_default();
    let operation = match config.config_operation {
        SET => Operation::Set(value()),
        DELETE => Operation::Delete,
        APPEND => Operation::Append(value()),
        SUBTRACT => Operation::Subtract(value()),
        other => return Err(Refusal::new(ResponseError::InvalidRequest, format!("Unknown operation type {other}"))),
    };
    Ok((config.name.to_string(), operation))
}

fn response(row: Row) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_error_code(row.refusal.as_ref().map_or(0, |refusal| refusal.code()))
        .with_error_message(row.refusal.and_then(|refusal| refusal.text()))
        .with_resource_type(row.resource_type)
        .with_resource_name(string(&row.name))
}
