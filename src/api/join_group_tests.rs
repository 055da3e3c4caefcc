use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{ApiKey, GroupId, SyncGroupRequest};

use super::*;
use crate::api::sync_group;
use crate::api::testing::{at_version, passed, request};
use crate::api::unread::Unread;
use crate::coord::log::memory::MemoryLog;
use crate::log::append::budget::Budget;
use crate::types::env::testing;

/// What a long request holds of the frames' budget.
const FRAME_BYTES: usize = 100 << 10;

fn start(log: MemoryLog) -> Groups {
    let settings = crate::config::KafkaSettings::default();
    let limits = Limits { initial_rebalance_delay_ms: 0, ..Limits::from_settings(&settings) };
    Groups::start(testing::env(1), limits, Arc::new(log))
}

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn join_as(member: &str) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(s("range")).with_metadata(Bytes::from_static(b"\0\0\0\0\0\0"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(s("g")))
        .with_member_id(s(member))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocol_type(s("consumer"))
        .with_protocols(vec![protocol])
}

fn sync_as(member: &str, generation: i32) -> SyncGroupRequest {
    let assignment =
        SyncGroupRequestAssignment::default().with_member_id(s(member)).with_assignment(Bytes::from_static(b"AB"));
    SyncGroupRequest::default()
        .with_group_id(GroupId(s("g")))
        .with_member_id(s(member))
        .with_generation_id(generation)
        .with_assignments(vec![assignment])
}

/// Goes on with it for a second, in which it does not end.
async fn still_waits<T>(work: &mut (impl Future<Output = T> + Unpin)) {
    assert!(tokio::time::timeout(Duration::from_secs(1), work).await.is_err(), "it waits for others");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_other_members_holds_no_room() {
    let groups = start(MemoryLog::new(1));
    let (unread, frames) = (Unread::new(0), Budget::new(1 << 20));
    let cx = at_version(3);
    let first = handle(&groups, &cx, join_as(""), &mut passed().await).await;
    let leader = first.member_id.as_str();
    assert_eq!((first.error_code, first.generation_id), (0, 1));
    let synced = sync_group::handle(&groups, &cx, sync_as(leader, 1), &mut passed().await).await;
    assert_eq!(synced.error_code, 0);

    let mut long = unread.pass(ApiKey::JoinGroup, request(&frames, FRAME_BYTES).await).await;
    assert_eq!(frames.used(), FRAME_BYTES);
    let mut joins = Box::pin(handle(&groups, &cx, join_as(""), &mut long));
    still_waits(&mut joins).await;
    assert_eq!(frames.used(), 0, "others can be read");
    let mut short = passed().await;
    let (second, again) = tokio::join!(&mut joins, handle(&groups, &cx, join_as(leader), &mut short));
    assert_eq!((second.error_code, again.error_code, second.generation_id), (0, 0, 2));

    let mut long = unread.pass(ApiKey::SyncGroup, request(&frames, FRAME_BYTES).await).await;
    let mut syncs = Box::pin(sync_group::handle(&groups, &cx, sync_as(second.member_id.as_str(), 2), &mut long));
    still_waits(&mut syncs).await;
    assert_eq!(frames.used(), 0, "here, too");
    let mut short = passed().await;
    let (synced, _) = tokio::join!(&mut syncs, sync_group::handle(&groups, &cx, sync_as(leader, 2), &mut short));
    assert_eq!(synced.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn what_no_group_has_taken_yet_is_counted() {
    let log = MemoryLog::new(1);
    log.fail_replays(0, 1000);
    let groups = start(log);
    let (unread, frames) = (Unread::new(0), Budget::new(1 << 20));
    let cx = at_version(3);
    let mut long = unread.pass(ApiKey::JoinGroup, request(&frames, FRAME_BYTES).await).await;
    let mut joins = Box::pin(handle(&groups, &cx, join_as(""), &mut long));
    still_waits(&mut joins).await;
    assert_eq!(frames.used(), FRAME_BYTES, "the group is being loaded");
    assert_eq!(joins.await.error_code, GroupError::LoadInProgress.code());
}
