//! CreateAcls (30), v1-3: SECURITY_DISABLED for each rule, as a Kafka without an authorizer answers (`AclApis`).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_acls::UNKNOWN;

/// What CreateAcls and DeleteAcls say; DescribeAcls has another sentence.
pub(super) const NO_AUTHORIZER: StrBytes = StrBytes::from_static_str("No Authorizer is configured.");

/// `None`: a field has the code of "unknown", at which Kafka closes the connection.
pub fn handle(request: &CreateAclsRequest) -> Option<CreateAclsResponse> {
    let unknown = |rule: &AclCreation| {
        [rule.resource_type, rule.resource_pattern_type, rule.operation, rule.permission_type].contains(&UNKNOWN)
    };
    if request.creations.iter().any(unknown) {
        return None;
    }
    let refused = AclCreationResult::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(NO_AUTHORIZER));
    Some(CreateAclsResponse::default().with_results(vec![refused; request.creations.len()]))
}
