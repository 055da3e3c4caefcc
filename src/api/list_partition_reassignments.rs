//! ListPartitionReassignments (46), v0: none is ever under way. `kafka-topics --describe` asks each time.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::context::RequestContext;
use super::ports::AdminServices;

pub async fn handle(
    _services: &AdminServices,
    _cx: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
