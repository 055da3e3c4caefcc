//! DescribeAcls (29), v1-3: there are no access rules and nothing that would enforce them, so SECURITY_DISABLED with the sentence of a
//! Kafka without an authorizer (`AclApis`). Tools and MirrorMaker know that answer and go on.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kafka_protocol::protocol::StrBytes;

/// Kafka's code for a type, operation or permission that a client does not know.
pub(super) const UNKNOWN: i8 = 0;

/// `None`: a field has the code of "unknown", at which Kafka closes the connection.
pub fn handle(request: &DescribeAclsRequest) -> Option<DescribeAclsResponse> {
    let codes = [request.resource_type_filter, request.pattern_type_filter, request.operation, request.permission_type];
    let response = DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(StrBytes::from_static_str("No Authorizer is configured on the broker")));
    (!codes.contains(&UNKNOWN)).then_some(response)
}
