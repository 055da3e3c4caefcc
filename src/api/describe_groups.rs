//! DescribeGroups (15), v0-6: state and members of classic groups.
//!
//! v3 authorized operations · v4 instance ids · v6 unknown groups are GROUP_ID_NOT_FOUND; before, a group "Dead" without error.
//! What members subscribed to and were assigned is shown only in a stable group, as in Kafka.
//! Groups behind a very long answer are INVALID_REQUEST: Kafka makes answers of any length.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::unread::LONG_ANSWER_BYTES;
use crate::coord::group::{Group, Member, State};
use crate::coord::message::Limits;
use crate::coord::{GroupError, Groups};

/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS: everything that there is to do with a group.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub async fn handle(groups: &Groups, cx: &RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut answer = Vec::with_capacity(request.groups.len());
    let mut bytes = 0;
    for ids in request.groups.chunks(GROUPS_AT_ONCE) {
        if bytes > LONG_ANSWER_BYTES {
            let error = ResponseError::InvalidRequest.code();
            let refused = |id: &GroupId| DescribedGroup::default().with_group_id(id.clone()).with_error_code(error);
            answer.extend(ids.iter().map(refused));
            continue;
        }
        let described = ids.iter().map(async |id| {
            let described = describe(groups, cx.api_version, id.as_str()).await.with_group_id(id.clone());
            match request.include_authorized_operations && described.error_code == 0 {
                true => described.with_authorized_operations(ALL_OPERATIONS),
                false => described,
            }
        });
        let described = futures::future::join_all(described).await;
        bytes += described.iter().flat_map(|group| &group.members).map(size).sum::<usize>();
        answer.extend(described);
        tokio::task::yield_now().await;
    }
    DescribeGroupsResponse::default().with_groups(answer)
}

/// Groups that are looked at side by side.
const GROUPS_AT_ONCE: usize = 32;

/// About the bytes of a member in the answer.
fn size(member: &DescribedGroupMember) -> usize {
    const NAMES: usize = 128;
    NAMES + member.member_metadata.len() + member.member_assignment.len()
}

async fn describe(groups: &Groups, version: i16, id: &str) -> DescribedGroup {
    if id.len() > Limits::MAX_NAME_BYTES {
        return DescribedGroup::default().with_error_code(GroupError::InvalidGroupId.code());
    }
    let dead = || DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    match groups.read(id, |group| group.map(view)).await {
        Ok(Some(described)) => described,
        Ok(None) if version >= 6 => dead()
            .with_error_code(GroupError::GroupNotFound.code())
            .with_error_message(Some(format!("Group {id} not found.").into())),
        Ok(None) => dead(),
        Err(error) => DescribedGroup::default().with_error_code(error.code()),
    }
}

fn view(group: &Group) -> DescribedGroup {
    let protocol = group.protocol_name().filter(|_| group.state() == State::Stable);
    let member = |member: &Member| {
        let metadata = protocol.map_or_else(Bytes::new, |protocol| member.metadata(protocol));
        DescribedGroupMember::default()
            .with_member_id(member.id.clone().into())
            .with_group_instance_id(member.instance_id.clone().map(StrBytes::from_string))
            .with_client_id(member.client_id.clone().into())
            .with_client_host(member.client_host.clone().into())
            .with_member_metadata(metadata)
            .with_member_assignment(member.assignment.clone())
    };
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state().name()))
        .with_protocol_type(group.protocol_type().unwrap_or("").to_owned().into())
        .with_protocol_data(protocol.unwrap_or("").to_owned().into())
        .with_members(group.members().map(member).collect())
}
