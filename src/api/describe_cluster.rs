//! DescribeCluster (60), v0-2. v1 endpoint type · v2 fenced brokers (there are none to show: a fenced session is over).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::string;
use super::topic_view::{CLUSTER_OPERATIONS, NO_OPERATIONS, live_brokers};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let endpoint_type = if cx.api_version == 0 { BROKERS } else { request.endpoint_type };
    let refusal = match endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ResponseError::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        )),
        other => Some((ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    };
    if let Some((error, message)) = refusal {
        return DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message)));
    }
    let brokers = services.meta.read(|image| live_brokers(image, &services.node));
    let brokers = brokers.into_iter().map(|(id, view)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(string(&view.host))
            .with_port(view.port)
            .with_rack(view.rack.as_deref().map(string))
    });
    let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NO_OPERATIONS };
    DescribeClusterResponse::default()
        .with_error_message(None)
        .with_endpoint_type(BROKERS)
        .with_cluster_id(string(services.meta.cluster_id()))
        .with_controller_id(BrokerId(services.node.node_id))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}
