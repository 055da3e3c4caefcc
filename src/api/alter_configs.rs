//! AlterConfigs (33), v0-2: replaces all of a resource's own configs by those of the request. Deprecated, still in use.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_alter::{Alteration, Operation, Row, alter, check_shape, mentions};
use super::context::RequestContext;
use super::ports::AdminServices;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let named = request.resources.iter().map(|resource| (resource.resource_type, resource.resource_name.as_str()));
    let times = mentions(named).await;
    let asked = request.resources.iter().map(|resource| {
        let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
        let times = times.get(&(kind, name)).copied().unwrap_or(1);
        let keys: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
        let null = resource.configs.iter().filter(|config| config.value.is_none());
        let null: Vec<&str> = null.map(|config| config.name.as_str()).collect();
        check_shape(kind, name, times, &keys, &null)?;
        let values =
            resource.configs.iter().filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?)));
        let operations = values.map(|(key, value)| (key, Operation::Set(value.to_string()))).collect();
        Ok(Alteration { resource_type: kind, name: name.to_owned(), operations, replace: true })
    });
    let rows = alter(services, asked.collect(), request.validate_only).await;
    AlterConfigsResponse::default().with_responses(rows.into_iter().map(response).collect())
}

fn response(row: Row) -> AlterConfigsResourceResponse {
    let (code, message, kind, name) = row.told();
    AlterConfigsResourceResponse::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_resource_type(kind)
        .with_resource_name(name)
}
