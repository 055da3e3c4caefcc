//! ListGroups (16), v0-5: the groups that this broker coordinates. v4 filter by state · v5 filter by type; both ignore case.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use crate::coord::Groups;
use crate::coord::group::Group;

/// The type of all groups so far.
const CLASSIC: &str = "classic";

pub async fn handle(groups: &Groups, cx: &RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    let any_of = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(value))
    };
    if !any_of(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let view = |group: &Group| {
        let state = group.state().name();
        any_of(&request.states_filter, state).then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(group.id().to_owned().into()))
                .with_protocol_type(group.protocol_type().unwrap_or("").to_owned().into())
                .with_group_state(if cx.api_version >= 4 { StrBytes::from_static_str(state) } else { StrBytes::new() })
                .with_group_type(if cx.api_version >= 5 { StrBytes::from_static_str(CLASSIC) } else { StrBytes::new() })
        })
    };
    match groups.read_all(view).await {
        Ok(listed) => ListGroupsResponse::default().with_groups(listed),
        Err(error) => ListGroupsResponse::default().with_error_code(error.code()),
    }
}
