//! SyncGroup (14), v0-5: the leader hands in the assignment, everybody gets its part.
//!
//! v3 static members · v5 protocol type and name, checked against the group's (KIP-559).

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::{RequestContext, optional_text, text};
use super::join_group::{client_id_bytes, hand_over};
use super::unread::Passed;
use crate::coord::message::{Input, Limits, Reply, ReplyTo, Sync, Synced};
use crate::coord::{GroupError, Groups};

pub async fn handle(
    groups: &Groups,
    cx: &RequestContext,
    request: SyncGroupRequest,
    passed: &mut Passed,
) -> SyncGroupResponse {
    let result = sync(groups, cx, request, passed).await;
    response(cx.api_version, result)
}

async fn sync(
    groups: &Groups,
    cx: &RequestContext,
    request: SyncGroupRequest,
    passed: &mut Passed,
) -> Result<Synced, GroupError> {
    let group = text(&request.group_id);
    if group.is_empty() || group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    if cx.api_version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(GroupError::InconsistentProtocol);
    }
    let assignments = request.assignments.iter();
    let assignments = assignments
        .map(|assignment| (text(&assignment.member_id), Bytes::copy_from_slice(&assignment.assignment)))
        .collect();
    let sync = Sync {
        reply: ReplyTo(0),
        generation: request.generation_id,
        member_id: text(&request.member_id),
        instance_id: optional_text(&request.group_instance_id),
        protocol_type: optional_text(&request.protocol_type),
        protocol_name: optional_text(&request.protocol_name),
        assignments,
    };
    // All of it was copied, and it would keep its frame.
    drop(request);
    let kept_bytes = group.len() + client_id_bytes(cx);
    match hand_over(groups, &group, kept_bytes, passed, |reply| Input::Sync(Sync { reply, ..sync })).await? {
        Reply::Sync(result) => result,
        _ => Err(GroupError::NotAvailable),
    }
}

fn response(version: i16, result: Result<Synced, GroupError>) -> SyncGroupResponse {
    match result {
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
        Ok(synced) => {
            let shown = |name: Option<String>| name.filter(|_| version >= 5).map(StrBytes::from_string);
            SyncGroupResponse::default()
                .with_protocol_type(shown(synced.protocol_type))
                .with_protocol_name(shown(synced.protocol_name))
                .with_assignment(synced.assignment)
        }
    }
}
