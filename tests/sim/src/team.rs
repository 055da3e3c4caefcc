//! A consumer group as the classic protocol makes it: members join, share the partitions, commit, die without a word.
//!
//! A member commits only what is higher than what it found when it was given a partition, so what is committed never goes back. Who does
//! not know what became of a commit comes back as a new member: then nothing that it sent before counts in the next generation.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse,
};

use crate::kafka::{Conn, text, topic_name};
use crate::roles::{Ctx, TOPIC, wait_for_topic};

const TEAM: &str = "team";

const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER: i16 = 25;
const REBALANCE: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

/// Members that are silent for so long are dead.
const SESSION_MS: i32 = 700;
const REBALANCE_MS: i32 = 1500;

/// A member's life goes on, or it is to join again, perhaps somewhere else, or it has to become another one.
enum Next {
    Rejoin,
    Move,
    Die,
}

struct Member {
    id: String,
    generation: i32,
    partitions: Vec<i32>,
}

fn group() -> GroupId {
    GroupId(text(TEAM))
}

/// One member after the other, until the storm is over.
pub async fn member(ctx: Ctx) {
    wait_for_topic(&ctx).await;
    while ctx.storm() {
        let mut member = Member { id: String::new(), generation: -1, partitions: Vec::new() };
        let mut conn = ctx.connect().await;
        while ctx.storm() {
            match live(&ctx, &mut conn, &mut member).await {
                Ok(Next::Rejoin) => {}
                Ok(Next::Move) => {
                    ctx.seek_coordinator(&conn, TEAM).await;
                    conn = ctx.connect().await;
                }
                Ok(Next::Die) => break,
                Err(error) => {
                    ctx.world.note(ctx.name, format_args!("{} is gone: {error}", member.id));
                    break;
                }
            }
            ctx.pause(5, 40).await;
        }
        ctx.pause(5, 200).await;
    }
}

/// One generation.
async fn live(ctx: &Ctx, conn: &mut Conn, member: &mut Member) -> io::Result<Next> {
    if let Some(next) = join(ctx, conn, member).await? {
        return Ok(next);
    }
    ctx.world.count("group: generations of members", 1);
    let mut positions = BTreeMap::new();
    for partition in member.partitions.clone() {
        let Some(offset) = look(ctx, conn, partition).await? else { return Ok(Next::Move) };
        positions.insert(partition, offset);
    }
    loop {
        ctx.pause(5, 120).await;
        if !ctx.storm() || ctx.dice.chance(3) {
            return Ok(Next::Die);
        }
        if ctx.dice.chance(2) {
            leave(ctx, conn, member).await?;
            return Ok(Next::Die);
        }
        let beat = HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text(&member.id))
            .with_generation_id(member.generation);
        let answer: HeartbeatResponse = conn.call(ApiKey::Heartbeat, 3, &beat).await?;
        if let Some(next) = judge_code(ctx, "heartbeat", answer.error_code) {
            return Ok(next);
        }
        let Some((partition, position)) = positions.iter_mut().nth(ctx.dice.below(4) as usize) else { continue };
        *position = (*position).max(0) + ctx.dice.between(1, 5) as i64;
        let code = commit(ctx, conn, member, *partition, *position).await?;
        if let Some(next) = judge_code(ctx, "commit of a member", code) {
            // What was refused for the moment may have been stored all the same.
            return Ok(if matches!(code, REBALANCE | ILLEGAL_GENERATION) { next } else { Next::Die });
        }
    }
}

/// What a member does about an error code; `None`: all is well.
fn judge_code(ctx: &Ctx, what: &str, code: i16) -> Option<Next> {
    match code {
        0 => None,
        REBALANCE => Some(Next::Rejoin),
        ILLEGAL_GENERATION | UNKNOWN_MEMBER => Some(Next::Die),
        NOT_COORDINATOR if ctx.world.hosts.len() > 1 => Some(Next::Move),
        code => {
            ctx.check_code(what, code);
            Some(Next::Rejoin)
        }
    }
}

/// Joins and gets its partitions.
async fn join(ctx: &Ctx, conn: &mut Conn, member: &mut Member) -> io::Result<Option<Next>> {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"t"));
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(&member.id))
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined: JoinGroupResponse = conn.call(ApiKey::JoinGroup, 5, &request).await?;
    ctx.world.note(
        ctx.name,
        format_args!("joins as {:?}: code {}, generation {}", member.id, joined.error_code, joined.generation_id),
    );
    if joined.error_code == MEMBER_ID_REQUIRED {
        member.id = joined.member_id.to_string();
        return Ok(Some(Next::Rejoin));
    }
    if let Some(next) = judge_code(ctx, "join", joined.error_code) {
        return Ok(Some(next));
    }
    member.id = joined.member_id.to_string();
    member.generation = joined.generation_id;
    let mut request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(&member.id))
        .with_generation_id(member.generation);
    if joined.leader == joined.member_id {
        request.assignments = share(ctx.partitions, &joined);
    }
    let synced: SyncGroupResponse = conn.call(ApiKey::SyncGroup, 3, &request).await?;
    let partitions: Vec<i32> = synced.assignment.iter().map(|index| i32::from(*index)).collect();
    ctx.world.note(ctx.name, format_args!("{} is given {partitions:?}: code {}", member.id, synced.error_code));
    if let Some(next) = judge_code(ctx, "sync", synced.error_code) {
        return Ok(Some(next));
    }
    ctx.world.judge(|judge, _| judge.owns(&member.id, member.generation, &partitions));
    member.partitions = partitions;
    Ok(None)
}

/// Deals the partitions out; an assignment is a byte per partition.
fn share(partitions: i32, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    let count = joined.members.len();
    let part = |at: usize| (0..partitions as u8).filter(|index| usize::from(*index) % count == at).collect::<Vec<u8>>();
    let assign = |(at, member): (usize, &kafka_protocol::messages::join_group_response::JoinGroupResponseMember)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(Bytes::from(part(at)))
    };
    joined.members.iter().enumerate().map(assign).collect()
}

/// Where the team stands; `None`: nobody says.
async fn look(ctx: &Ctx, conn: &mut Conn, partition: i32) -> io::Result<Option<i64>> {
    let asked = ctx.world.now();
    let (code, offset) = conn.committed(TEAM, &ctx.place(partition)).await?;
    ctx.world.note(ctx.name, format_args!("the team stands at {offset} of {partition}: code {code}"));
    ctx.check_code("offset fetch", code);
    if code != 0 {
        return Ok(None);
    }
    ctx.world.judge(|judge, _| judge.team_shown(partition, offset, asked));
    Ok(Some(offset))
}

async fn commit(ctx: &Ctx, conn: &mut Conn, member: &Member, partition: i32, offset: i64) -> io::Result<i16> {
    let place = OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![place]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(text(&member.id))
        .with_generation_id_or_member_epoch(member.generation)
        .with_topics(vec![topic]);
    ctx.world.judge(|judge, _| judge.team_commits(partition, offset));
    let answer: OffsetCommitResponse = conn.call(ApiKey::OffsetCommit, 8, &request).await?;
    let code = answer.topics[0].partitions[0].error_code;
    ctx.world.note(ctx.name, format_args!("{} commits {offset} of {partition}: code {code}", member.id));
    if code == 0 {
        ctx.world.judge(|judge, now| judge.team_committed(partition, offset, now));
    }
    Ok(code)
}

async fn leave(ctx: &Ctx, conn: &mut Conn, member: &Member) -> io::Result<()> {
    let request = LeaveGroupRequest::default().with_group_id(group()).with_member_id(text(&member.id));
    let answer: LeaveGroupResponse = conn.call(ApiKey::LeaveGroup, 2, &request).await?;
    ctx.world.note(ctx.name, format_args!("{} leaves: code {}", member.id, answer.error_code));
    let _gone_all_the_same = judge_code(ctx, "leave", answer.error_code);
    Ok(())
}

/// In fair weather a new member gets all partitions once the dead ones are noticed, and commits to each. `false`: not yet.
pub async fn verify(ctx: &Ctx, conn: &mut Conn) -> io::Result<bool> {
    let mut member = Member { id: String::new(), generation: -1, partitions: Vec::new() };
    for _ in 0..20 {
        match join(ctx, conn, &mut member).await? {
            None if member.partitions.len() == ctx.partitions as usize => break,
            None | Some(Next::Rejoin) => ctx.pause(50, 200).await,
            Some(Next::Move) => {
                ctx.seek_coordinator(conn, TEAM).await;
                return Ok(false);
            }
            Some(Next::Die) => return Ok(false),
        }
    }
    if member.partitions.len() < ctx.partitions as usize {
        return Ok(false);
    }
    for partition in member.partitions.clone() {
        let Some(offset) = look(ctx, conn, partition).await? else { return Ok(false) };
        if commit(ctx, conn, &member, partition, offset.max(0) + 1).await? != 0 {
            return Ok(false);
        }
    }
    leave(ctx, conn, &member).await?;
    Ok(true)
}
