//! From a frame to its handler and back. Nothing is decoded before the length guard has walked it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::{self as m};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio_util::sync::CancellationToken;

use super::context::{CoordinatorLocator, RequestContext};
use super::ports::AdminServices;
use super::turns::{after_step, uncut};
use super::unread::Passed;
use super::{
    Chunks, Services, alter_configs, alter_partition_reassignments, alter_replica_log_dirs, api_versions, create_acls,
    create_delegation_token, create_partitions, create_topics, delete_acls, delete_groups, delete_records,
    delete_topics, describe_acls, describe_client_quotas, describe_cluster, describe_configs,
    describe_delegation_token, describe_groups, describe_log_dirs, describe_producers, describe_topic_partitions,
    describe_user_scram_credentials, elect_leaders, expire_delegation_token, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, link, list_config_resources, list_groups,
    list_offsets, list_partition_reassignments, metadata, offset_commit, offset_delete, offset_fetch,
    offset_for_leader_epoch, produce, renew_delegation_token, sasl_authenticate, sasl_handshake, sync_group,
    unregister_broker,
};
use crate::log::PARK_LIMIT;
use crate::log::append::budget::Charge;
use crate::wire::frame::{RequestHead, encode_response};
use crate::wire::link::is_ask;
use crate::wire::newest::Newest;
use crate::wire::{guard, table};

/// A whole frame without its length prefix, and where it came from.
pub struct Request {
    pub frame: Bytes,
    pub charge: Arc<Charge>,
    pub client_host: Arc<str>,
    /// Cancelled when the client has ended the connection: nobody waits for records any more.
    pub gone: CancellationToken,
}

/// What goes back to the client.
pub enum Reply {
    /// With what it holds of a budget until the client has read it.
    Send(Chunks, Charge),
    /// acks=0.
    Nothing,
    /// Close the connection, for this reason.
    Close(String),
}

/// The answer in the making.
pub type Answer = BoxFuture<'static, Reply>;

/// Where a response goes.
#[derive(Clone, Copy)]
struct To {
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    /// Of the request, records left out.
    bytes: usize,
}

/// Reads a frame; runs what must run in the order of arrival.
pub async fn begin(services: &Arc<Services>, request: Request) -> Answer {
    if is_ask(&request.frame) {
        return ready(link::answer(services, &request.frame));
    }
    let (to, context, body) = match open(&request) {
        Ok(opened) => opened,
        Err(Refused::Close(reason)) => return ready(Reply::Close(reason)),
        Err(Refused::Unknown(correlation_id)) => {
            let to = To { correlation_id, key: ApiKey::ApiVersions, version: 0, bytes: 0 };
            return ready(send(to, api_versions::unknown_version()));
        }
    };
    let services = services.clone();
    if to.key == ApiKey::Produce {
        return match decode_now::<m::ProduceRequest>(body, to.version) {
            Ok(body) => {
                let client_id = context.client_id.as_deref();
                let admitted = produce::admit(&services, to.version, client_id, body, &request.charge).await;
                Box::pin(async move { answer_produce(&services, to, admitted).await })
            }
            Err(reason) => ready(Reply::Close(reason)),
        };
    }
    Box::pin(async move {
        let frame_bytes = request.frame.len();
        if needs_the_newest(to.key) {
            services.log.look_again().await;
        }
        // The frame's bytes are counted until it is answered, or only waits.
        let mut passed = services.unread.pass(to.key, request).await;
        after_step(frame_bytes).await;
        let reply = answer(&services, to, &context, body, &mut passed).await.unwrap_or_else(Reply::Close);
        services.unread.answered(passed, reply).await
    })
}

/// Clients go by these answers until the next error, or take "unknown topic" for the last word: they are given from the newest metadata.
fn needs_the_newest(key: ApiKey) -> bool {
    use ApiKey as A;
    let tells_who_leads =
        matches!(key, A::Metadata | A::FindCoordinator | A::DescribeTopicPartitions | A::DescribeCluster);
    let asks_once = matches!(key, A::DescribeConfigs | A::DeleteRecords | A::DescribeProducers | A::OffsetDelete);
    tells_who_leads || asks_once || matches!(key, A::ElectLeaders | A::AlterPartitionReassignments)
}

fn ready(reply: Reply) -> Answer {
    Box::pin(std::future::ready(reply))
}

enum Refused {
    Close(String),
    /// A version of ApiVersions that nobody knows: the answer says which there are.
    Unknown(i32),
}

fn open(request: &Request) -> Result<(To, RequestContext, Bytes), Refused> {
    let head = RequestHead::parse(&request.frame).map_err(|error| Refused::Close(error.to_string()))?;
    let row =
        table::find(head.api_key).ok_or_else(|| Refused::Close(format!("API key {} is not served", head.api_key)))?;
    if !row.serves(head.api_version) {
        if row.key == ApiKey::ApiVersions {
            return Err(Refused::Unknown(head.correlation_id));
        }
        return Err(Refused::Close(format!("{} version {} is not served", row.name, head.api_version)));
    }
    let body = request.frame.slice(head.body_start..);
    // Records are passed over, however long they are.
    let bytes = if row.key == ApiKey::Produce { 0 } else { body.len() };
    uncut(bytes, || guard::check(head.api_key, head.api_version, &body))
        .map_err(|error| Refused::Close(format!("{} version {}: {error}", row.name, head.api_version)))?;
    // A Fetch does not ask who it is, and may keep what it has for long.
    let client_id = head.client_id.filter(|_| row.key != ApiKey::Fetch);
    let context = RequestContext {
        api_version: head.api_version,
        client_id: client_id.map(str::to_owned),
        client_host: request.client_host.to_string(),
    };
    let to = To { correlation_id: head.correlation_id, key: row.key, version: head.api_version, bytes };
    Ok((to, context, body))
}

async fn answer_produce(services: &Services, to: To, admitted: produce::Admitted) -> Reply {
    match admitted.answer(services).await {
        Ok(Some(response)) => send(to, response),
        Ok(None) => Reply::Nothing,
        Err(error) => Reply::Close(format!("a Produce with acks=0 failed: {error}")),
    }
}

fn decode_now<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, String> {
    T::decode(&mut body, version).map_err(|error| format!("malformed request: {error}"))
}

fn decode<T: Decodable>(body: Bytes, version: i16) -> Result<T, String> {
    uncut(body.len(), || decode_now(body, version))
}

/// As [`decode`]; other tasks have their turn before a long request is worked on.
async fn read<T: Decodable>(body: Bytes, version: i16) -> Result<T, String> {
    let bytes = body.len();
    let request = decode(body, version)?;
    after_step(bytes).await;
    Ok(request)
}

/// Writes an answer and lets go of what it was made from.
fn send<T: Encodable>(to: To, response: T) -> Reply {
    let write = move || {
        let frame = encode_response(to.correlation_id, to.key, to.version, &response);
        drop(response);
        frame
    };
    match uncut(to.bytes, write) {
        Ok(frame) => Reply::Send(vec![frame], Charge::none()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            Reply::Close(error.to_string())
        }
    }
}

/// `None`: the request has codes that mean nothing.
fn send_known<T: Encodable>(to: To, response: Option<T>) -> Reply {
    response.map_or_else(|| Reply::Close("the request has unknown elements".to_owned()), |response| send(to, response))
}

async fn answer(
    services: &Arc<Services>,
    to: To,
    cx: &RequestContext,
    body: Bytes,
    passed: &mut Passed,
) -> Result<Reply, String> {
    let version = to.version;
    Ok(match to.key {
        ApiKey::ApiVersions => send(to, api_versions::handle(version, &read(body, version).await?)),
        ApiKey::Fetch => {
            let request = read(body, version).await?;
            let (chunks, charge) = fetch::handle(services, to.correlation_id, version, request, passed).await;
            Reply::Send(chunks, charge)
        }
        ApiKey::ListOffsets => {
            let Newest(request) = read(body, version).await?;
            send(to, Newest(list_offsets::handle(services, version, request).await))
        }
        ApiKey::OffsetForLeaderEpoch => {
            send(to, offset_for_leader_epoch::handle(services, read(body, version).await?).await)
        }
        _ => return answer_group(services, to, cx, body, passed).await,
    })
}

/// What a group coordinator answers is state, which [`crate::coord::Groups`] shows only under proof, else it says NOT_COORDINATOR.
async fn answer_group(
    services: &Services,
    to: To,
    cx: &RequestContext,
    body: Bytes,
    passed: &mut Passed,
) -> Result<Reply, String> {
    let groups = &services.groups;
    let version = to.version;
    // Asked for where it is needed: who waits for a rebalance would keep an old one.
    let topics = || services.topics.view();
    Ok(match to.key {
        ApiKey::FindCoordinator => {
            let proven = services.log.proof.awaited(PARK_LIMIT).await;
            let locator: &dyn CoordinatorLocator = if proven { services } else { &Nobody };
            send(to, find_coordinator::handle(groups, locator, cx, read(body, version).await?).await)
        }
        ApiKey::JoinGroup => send(to, join_group::handle(groups, cx, read(body, version).await?, passed).await),
        ApiKey::SyncGroup => send(to, sync_group::handle(groups, cx, read(body, version).await?, passed).await),
        ApiKey::Heartbeat => send(to, heartbeat::handle(groups, cx, read(body, version).await?).await),
        ApiKey::LeaveGroup => send(to, leave_group::handle(groups, cx, read(body, version).await?).await),
        ApiKey::OffsetCommit => {
            let Newest(request) = read(body, version).await?;
            // Clients take "unknown topic" for the last word.
            let all_known = || offset_commit::knows_all(&*topics(), version, &request);
            if !all_known() {
                services.log.look_before_refusal(all_known).await;
            }
            send(to, offset_commit::handle(groups, &*topics(), cx, request).await)
        }
        ApiKey::OffsetFetch => {
            let Newest(request) = read(body, version).await?;
            send(to, offset_fetch::handle(groups, &*topics(), cx, request).await)
        }
        ApiKey::OffsetDelete => {
            send(to, offset_delete::handle(groups, &*topics(), cx, read(body, version).await?).await)
        }
        ApiKey::DescribeGroups => send(to, describe_groups::handle(groups, cx, read(body, version).await?).await),
        ApiKey::ListGroups => send(to, list_groups::handle(groups, cx, read(body, version).await?).await),
        ApiKey::DeleteGroups => send(to, delete_groups::handle(groups, cx, read(body, version).await?).await),
        _ => return answer_admin(&services.admin, to, cx, body).await,
    })
}

/// Where coordinators are, as a session says that can't show that it lives: COORDINATOR_NOT_AVAILABLE.
struct Nobody;

impl CoordinatorLocator for Nobody {
    fn locate(&self, _group: &str) -> Option<(i32, String, u16)> {
        None
    }
}

async fn answer_admin(services: &AdminServices, to: To, cx: &RequestContext, body: Bytes) -> Result<Reply, String> {
    let version = to.version;
    Ok(match to.key {
        ApiKey::Metadata => send(to, metadata::handle(services, cx, read(body, version).await?).await),
        ApiKey::CreateTopics => send(to, create_topics::handle(services, cx, read(body, version).await?).await),
        ApiKey::DeleteTopics => send(to, delete_topics::handle(services, cx, read(body, version).await?).await),
        ApiKey::CreatePartitions => send(to, create_partitions::handle(services, cx, read(body, version).await?).await),
        ApiKey::DeleteRecords => send(to, delete_records::handle(services, cx, read(body, version).await?).await),
        ApiKey::DescribeConfigs => send(to, describe_configs::handle(services, cx, read(body, version).await?).await),
        ApiKey::AlterConfigs => send(to, alter_configs::handle(services, cx, read(body, version).await?).await),
        ApiKey::IncrementalAlterConfigs => {
            send(to, incremental_alter_configs::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::ListConfigResources => {
            send(to, list_config_resources::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::DescribeCluster => send(to, describe_cluster::handle(services, cx, read(body, version).await?).await),
        ApiKey::DescribeTopicPartitions => {
            send(to, describe_topic_partitions::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::DescribeLogDirs => {
            let Newest(request) = read(body, version).await?;
            send(to, Newest(describe_log_dirs::handle(services, cx, request).await))
        }
        ApiKey::ElectLeaders => send(to, elect_leaders::handle(services, cx, read(body, version).await?).await),
        ApiKey::AlterPartitionReassignments => {
            send(to, alter_partition_reassignments::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::ListPartitionReassignments => {
            send(to, list_partition_reassignments::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::DescribeProducers => {
            send(to, describe_producers::handle(services, cx, read(body, version).await?).await)
        }
        ApiKey::InitProducerId => send(to, init_producer_id::handle(services, cx, read(body, version).await?).await),
        ApiKey::AlterReplicaLogDirs => send(to, alter_replica_log_dirs::handle(services, &read(body, version).await?)),
        ApiKey::UnregisterBroker => send(to, unregister_broker::handle(services, &read(body, version).await?)),
        _ => return answer_security(to, body),
    })
}

/// What a broker without security says of it.
fn answer_security(to: To, body: Bytes) -> Result<Reply, String> {
    let version = to.version;
    Ok(match to.key {
        ApiKey::SaslHandshake => {
            let _: m::SaslHandshakeRequest = decode(body, version)?;
            send(to, sasl_handshake::handle())
        }
        ApiKey::SaslAuthenticate => {
            let _: m::SaslAuthenticateRequest = decode(body, version)?;
            send(to, sasl_authenticate::handle())
        }
        ApiKey::DescribeAcls => send_known(to, describe_acls::handle(&decode(body, version)?)),
        ApiKey::CreateAcls => send_known(to, create_acls::handle(&decode(body, version)?)),
        ApiKey::DeleteAcls => send_known(to, delete_acls::handle(&decode(body, version)?)),
        ApiKey::CreateDelegationToken => send(to, create_delegation_token::handle(version, decode(body, version)?)),
        ApiKey::RenewDelegationToken => {
            let _: m::RenewDelegationTokenRequest = decode(body, version)?;
            send(to, renew_delegation_token::handle())
        }
        ApiKey::ExpireDelegationToken => {
            let _: m::ExpireDelegationTokenRequest = decode(body, version)?;
            send(to, expire_delegation_token::handle())
        }
        ApiKey::DescribeDelegationToken => {
            let _: m::DescribeDelegationTokenRequest = decode(body, version)?;
            send(to, describe_delegation_token::handle())
        }
        ApiKey::DescribeClientQuotas => send(to, describe_client_quotas::handle(&decode(body, version)?)),
        ApiKey::DescribeUserScramCredentials => {
            send(to, describe_user_scram_credentials::handle(decode(body, version)?))
        }
        other => return Err(format!("{other:?} has no handler")),
    })
}
