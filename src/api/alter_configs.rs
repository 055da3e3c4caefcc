//! AlterConfigs (33), v0-2: replaces all of a resource's own configs by those of the request. Deprecated, still in use.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_alter::{Alteration, Operation, Row, alter, check_shape};
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::string;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, resource.resource_name.as_str())).or_default() += 1;
    }
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
    AlterConfigsResourceResponse::default()
        .with_error_code(row.refusal.as_ref().map_or(0, |refusal| refusal.code()))
        .with_error_message(row.refusal.and_then(|refusal| refusal.text()))
        .with_resource_type(row.resource_type)
        .with_resource_name(string(&row.name))
}
