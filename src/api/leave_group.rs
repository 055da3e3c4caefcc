//! LeaveGroup (13), v0-5: members go, by their own will or an administrator's.
//!
//! v0-2 one member, its error at the top · v3 several, each with its error, static ones also by instance id · v5 reason.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::{RequestContext, optional_text, text};
use crate::coord::message::{Input, Leave, Limits, MemberName, Reply};
use crate::coord::{GroupError, Groups};

type Results = Vec<(MemberName, Result<(), GroupError>)>;

pub async fn handle(groups: &Groups, cx: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    match leave(groups, cx, &request).await {
        Err(error) => response.with_error_code(error.code()),
        Ok(results) if cx.api_version < 3 => {
            let error = results.first().and_then(|(_, result)| result.err());
            response.with_error_code(error.map_or(0, GroupError::code))
        }
        Ok(results) => response.with_members(results.into_iter().map(member).collect()),
    }
}

async fn leave(groups: &Groups, cx: &RequestContext, request: &LeaveGroupRequest) -> Result<Results, GroupError> {
    let group = request.group_id.as_str();
    if group.is_empty() || group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    let members = if cx.api_version < 3 {
        vec![MemberName { member_id: text(&request.member_id), instance_id: None }]
    } else {
        let name = request.members.iter().map(|member| MemberName {
            member_id: text(&member.member_id),
            instance_id: optional_text(&member.group_instance_id),
        });
        name.collect()
    };
    match groups.call(group, |reply| Input::Leave(Leave { reply, members })).await? {
        Reply::Leave(results) => Ok(results),
        _ => Err(GroupError::NotAvailable),
    }
}

fn member((name, result): (MemberName, Result<(), GroupError>)) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(name.member_id.into())
        .with_group_instance_id(name.instance_id.map(StrBytes::from_string))
        .with_error_code(result.err().map_or(0, GroupError::code))
}
