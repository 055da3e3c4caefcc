//! DeleteGroups (42), v0-2: removes groups without members, with their offsets. Each group has its own answer.

use std::collections::BTreeSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::context::RequestContext;
use super::turns::{ELEMENTS_AT_ONCE, Turns};
use crate::coord::message::{Input, Limits, Reply};
use crate::coord::{GroupError, Groups};

pub async fn handle(groups: &Groups, _cx: &RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let (mut seen, mut names, mut turns) = (BTreeSet::new(), Vec::new(), Turns::default());
    for id in &request.groups_names {
        turns.next().await;
        if seen.insert(id.as_str()) {
            names.push(id);
        }
    }
    let mut results = Vec::with_capacity(names.len());
    // Side by side, so that they share commits.
    for some in names.chunks(ELEMENTS_AT_ONCE) {
        let delete = some.iter().map(async |id| {
            let code = delete(groups, id.as_str()).await.err().map_or(0, GroupError::code);
            DeletableGroupResult::default().with_group_id((*id).clone()).with_error_code(code)
        });
        results.extend(futures::future::join_all(delete).await);
        tokio::task::yield_now().await;
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(groups: &Groups, id: &str) -> Result<(), GroupError> {
    if id.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    match groups.call(id, Input::DeleteGroup).await? {
        Reply::Deleted(result) => result,
        _ => Err(GroupError::NotAvailable),
    }
}
