//! Heartbeat (12), v0-4: a member is alive; the answer tells it when to join again. v3 static members.
//!
//! While the group is being loaded the answer is "all is well", as in Kafka: the session can't end before that.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::context::{RequestContext, optional_text, text};
use crate::coord::message::{Heartbeat, Input, Limits, Reply};
use crate::coord::{GroupError, Groups};

pub async fn handle(groups: &Groups, _cx: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let code = match heartbeat(groups, &request).await {
        Ok(()) | Err(GroupError::LoadInProgress) => 0,
        Err(error) => error.code(),
    };
    HeartbeatResponse::default().with_error_code(code)
}

async fn heartbeat(groups: &Groups, request: &HeartbeatRequest) -> Result<(), GroupError> {
    let group = request.group_id.as_str();
    if group.is_empty() || group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    let input = |reply| {
        Input::Heartbeat(Heartbeat {
            reply,
            generation: request.generation_id,
            member_id: text(&request.member_id),
            instance_id: optional_text(&request.group_instance_id),
        })
    };
    match groups.call(group, input).await? {
        Reply::Heartbeat(result) => result,
        _ => Err(GroupError::NotAvailable),
    }
}
