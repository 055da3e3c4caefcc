//! ListConfigResources (74), v0-1: names of the things that have configs. v0 client metrics subscriptions only · v1 by type (KIP-1142).

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource as Listed;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::config_resource::Kind;
use super::context::RequestContext;
use super::ports::{AdminServices, NodeInfo};
use super::refusal::string;
use super::topic_view::live_brokers;
use crate::meta::entry::ConfigResource;
use crate::meta::image::Image;

const ALL: [Kind; 5] = [Kind::Topic, Kind::Broker, Kind::BrokerLogger, Kind::ClientMetrics, Kind::Group];

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let wanted: Option<BTreeSet<Kind>> = if cx.api_version == 0 {
        Some([Kind::ClientMetrics].into())
    } else if request.resource_types.is_empty() {
        Some(ALL.into())
    } else {
        request.resource_types.iter().map(|number| Kind::of(*number)).collect()
    };
    let Some(wanted) = wanted else {
        return ListConfigResourcesResponse::default().with_error_code(ResponseError::UnsupportedVersion.code());
    };
    let listed =
        services.meta.read(|image| wanted.iter().flat_map(|kind| list(image, &services.node, *kind)).collect());
    ListConfigResourcesResponse::default().with_config_resources(listed)
}

fn list(image: &Image, node: &NodeInfo, kind: Kind) -> Vec<Listed> {
    let set = |name: fn(&ConfigResource) -> Option<&String>| image.configs.keys().filter_map(name).cloned().collect();
    let names: Vec<String> = match kind {
        Kind::Topic => image.names.keys().cloned().collect(),
        Kind::Broker | Kind::BrokerLogger => live_brokers(image, node).keys().map(ToString::to_string).collect(),
        Kind::ClientMetrics => set(|resource| match resource {
            ConfigResource::ClientMetrics(name) => Some(name),
            _ => None,
        }),
        Kind::Group => set(|resource| match resource {
            ConfigResource::Group(name) => Some(name),
            _ => None,
        }),
    };
    let listed = |name: String| Listed::default().with_resource_name(string(&name)).with_resource_type(kind.number());
    names.into_iter().map(listed).collect()
}
