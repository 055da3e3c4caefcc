//! DeleteAcls (31), v1-3: SECURITY_DISABLED for each filter, as a Kafka without an authorizer answers (`AclApis`).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::create_acls::NO_AUTHORIZER;
use super::describe_acls::UNKNOWN;

/// `None`: a field has the code of "unknown", at which Kafka closes the connection.
pub fn handle(request: &DeleteAclsRequest) -> Option<DeleteAclsResponse> {
    let unknown = |filter: &DeleteAclsFilter| {
        [filter.resource_type_filter, filter.pattern_type_filter, filter.operation, filter.permission_type]
            .contains(&UNKNOWN)
    };
    if request.filters.iter().any(unknown) {
        return None;
    }
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(NO_AUTHORIZER));
    Some(DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()]))
}
