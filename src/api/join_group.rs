//! JoinGroup (11), v0-9: a member asks for a place in the next generation. The answer may take a whole rebalance.
//!
//! v1 own rebalance timeout · v4 MEMBER_ID_REQUIRED (KIP-394) · v5 static members (KIP-345) · v7 protocol type, null protocol
//! name on errors · v8 reason · v9 SkipAssignment (KIP-814).

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::context::{RequestContext, optional_text, text};
use super::unread::Passed;
use crate::coord::message::{Input, Join, Joined, Limits, Reply, ReplyTo};
use crate::coord::{GroupError, Groups};

pub async fn handle(
    groups: &Groups,
    cx: &RequestContext,
    request: JoinGroupRequest,
    passed: &mut Passed,
) -> JoinGroupResponse {
    let (group, member_id) = (text(&request.group_id), text(&request.member_id));
    let joined = match check(groups.limits(), &request) {
        Err(error) => Joined::refused(member_id, error),
        Ok(()) => {
            let join = join(groups, cx, &request);
            // All of it was copied, and it would keep its frame.
            drop(request);
            let kept_bytes = group.len() + member_id.len() + client_id_bytes(cx);
            let input = |reply| Input::Join(Join { reply, ..join });
            match hand_over(groups, &group, kept_bytes, passed, input).await {
                Ok(Reply::Join(joined)) => joined,
                Ok(_) => Joined::refused(member_id, GroupError::NotAvailable),
                Err(error) => Joined::refused(member_id, error),
            }
        }
    };
    response(cx.api_version, joined)
}

/// Gives a request that may wait for the other members to its group, and waits for the reply. When the group has it, it is the
/// coordinator that bounds what it brought; the handler keeps no more than `kept_bytes`.
pub(super) async fn hand_over(
    groups: &Groups,
    group: &str,
    kept_bytes: usize,
    passed: &mut Passed,
    input: impl FnOnce(ReplyTo) -> Input,
) -> Result<Reply, GroupError> {
    loaded(groups, group).await?;
    // Where those who wait keep too much already, it goes on to hold what its frame holds.
    let _room = passed.waits(kept_bytes);
    groups.call(group, input).await
}

/// Waits until the group's coordinator is loaded here: then it takes an input at once. Before that a request is still in the handler's
/// hands, and thousands may be.
async fn loaded(groups: &Groups, group: &str) -> Result<(), GroupError> {
    let (looking, looked) = oneshot::channel::<()>();
    tokio::select! {
        biased;
        // After the look it waits for commits, on which nothing depends here.
        read = groups.read(group, move |_| drop(looking)) => read,
        _ = looked => Ok(()),
    }
}

/// What a handler keeps of the context.
pub(super) fn client_id_bytes(cx: &RequestContext) -> usize {
    cx.client_id.as_ref().map_or(0, String::len)
}

fn check(limits: &Limits, request: &JoinGroupRequest) -> Result<(), GroupError> {
    let group = request.group_id.as_str();
    if group.is_empty() || group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    let timeouts = limits.min_session_timeout_ms..=limits.max_session_timeout_ms;
    if !timeouts.contains(&request.session_timeout_ms) {
        return Err(GroupError::InvalidSessionTimeout);
    }
    let instance_id = request.group_instance_id.as_ref().map_or("", |id| id.as_str());
    if instance_id.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::UnknownMember);
    }
    let sizes = request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
    let too_long = request.protocols.iter().any(|protocol| protocol.name.len() > Limits::MAX_NAME_BYTES)
        || request.protocol_type.len() > Limits::MAX_NAME_BYTES;
    if too_long
        || request.protocols.len() > Limits::MAX_PROTOCOLS
        || sizes.sum::<usize>() > Limits::MAX_MEMBER_METADATA_BYTES
    {
        return Err(GroupError::InconsistentProtocol);
    }
    Ok(())
}

fn join(groups: &Groups, cx: &RequestContext, request: &JoinGroupRequest) -> Join {
    let mut client_id = cx.client_id.clone().unwrap_or_default();
    client_id.truncate(client_id.floor_char_boundary(Limits::MAX_NAME_BYTES));
    let instance_id = optional_text(&request.group_instance_id);
    let protocols = request.protocols.iter();
    Join {
        reply: ReplyTo(0),
        member_id: text(&request.member_id),
        new_member_id: groups.new_member_id(instance_id.as_ref().unwrap_or(&client_id)),
        instance_id,
        client_id,
        client_host: cx.kafka_host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match cx.api_version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: text(&request.protocol_type),
        protocols: protocols
            .map(|protocol| (text(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        requires_known_member_id: cx.api_version >= 4,
        supports_skip_assignment: cx.api_version >= 9,
    }
}

fn response(version: i16, joined: Joined) -> JoinGroupResponse {
    let name = joined.protocol_name.map(StrBytes::from_string);
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(member.member_id.into())
            .with_group_instance_id(member.instance_id.filter(|_| version >= 5).map(StrBytes::from_string))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, GroupError::code))
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.filter(|_| version >= 7).map(StrBytes::from_string))
        .with_protocol_name(if version >= 7 { name } else { Some(name.unwrap_or_default()) })
        .with_leader(joined.leader.into())
        .with_skip_assignment(version >= 9 && joined.skip_assignment)
        .with_member_id(joined.member_id.into())
        .with_members(members.collect())
}

#[cfg(test)]
#[path = "join_group_tests.rs"]
mod tests;
