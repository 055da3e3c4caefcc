//! IncrementalAlterConfigs (44), v0-1: sets, deletes, appends to and subtracts from single configs (KIP-339).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::config_alter::{Alteration, Asked, Operation, Row, alter, check_shape, mentions};
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::Refusal;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let times = mentions(request.resources.iter().map(named)).await;
    let asked = request.resources.iter().map(|resource| asked(resource, times[&named(resource)]));
    let rows = alter(services, asked.collect(), request.validate_only).await;
    IncrementalAlterConfigsResponse::default().with_responses(rows.into_iter().map(response).collect())
}

fn named(resource: &AlterConfigsResource) -> (i8, &str) {
    (resource.resource_type, resource.resource_name.as_str())
}

fn asked(resource: &AlterConfigsResource, times: usize) -> Asked {
    let (kind, name) = named(resource);
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
    let (code, message, kind, name) = row.told();
    AlterConfigsResourceResponse::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_resource_type(kind)
        .with_resource_name(name)
}
