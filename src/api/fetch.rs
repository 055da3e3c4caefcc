//! Fetch (key 1), versions 4–18.
//!
//! Kafka's semantics: partitions in the order of the request (or of the session), whole batches, the first batch of the first
//! non-empty partition whatever the limits say, a long poll until `min_bytes` are there. Errors per partition: OFFSET_OUT_OF_RANGE,
//! FENCED/UNKNOWN_LEADER_EPOCH, UNKNOWN_TOPIC_OR_PARTITION or _ID, NOT_LEADER_OR_FOLLOWER, INCONSISTENT_TOPIC_ID; those of FENCED and
//! NOT_LEADER come with the leader, and from v16 on with where it is.
//! A partition that is named twice is answered once, where it was named first, as it was named last. Sessions: see
//! [`super::fetch_sessions`]. Without transactions the last stable offset is the high watermark.
//!
//! A long poll keeps what is asked and where it is found, and no more: whether there is enough is reckoned from the plans, and what was
//! planned is read at the end of the wait. A poll ends early, with what there is then, when its client is gone, and does not begin where
//! those who wait keep too much already.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;

use super::Services;
use super::errors;
use super::fetch_sessions::{Ask, Context, FetchSessions, Key, Request};
use super::topics::TopicsView;
use super::unread::{Passed, SMALL_ANSWER_BYTES};
use crate::log::PARK_LIMIT;
use crate::log::append::budget::Charge;
use crate::log::fetch::plan::Plan;
use crate::log::fetch::{Ahead, Batches, ReadError};
use crate::log::slot::{PartitionSlot, Waiter};
use crate::types::mentions::{any_twice, last_mentions};
use crate::types::mutant::{self, Mutant};
use crate::types::{PartitionId, TopicId};
use crate::wire::fetch::{FetchReply, PartitionReply, TopicReply, encode};

/// A long poll lasts no longer than this, whatever the client asks.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// A request that waited so long for the store and got an error reads nothing more.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// A first batch is reckoned with so much: about `message.max.bytes`.
const FIRST_BATCH_BYTES: usize = 1 << 20;

/// A fetch waits so long for room that others hold, and then answers with nothing.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// A fetch that finds no room to wait in is answered after so long, with what there is.
const CROWDED_WAIT: Duration = Duration::from_millis(500);

/// What a waiting request keeps of each partition, in bytes: ask, target and its place among those who wait for the partition, and when it
/// is answered, plan and reply.
const KEPT_PER_PARTITION: usize = 256;

/// Partitions of one request that are read side by side.
const PARTITIONS_AT_ONCE: usize = 16;

/// The answer, and what its records hold of their budget. Before it waits it lets go of what `passed` holds, for what it keeps.
pub async fn handle(
    services: &Services,
    correlation_id: i32,
    version: i16,
    request: FetchRequest,
    passed: &mut Passed,
) -> (Vec<Bytes>, Charge) {
    services.metrics.fetch_requests.inc();
    let limits = Limits::of(services, &request);
    let read_committed = request.isolation_level == 1;
    let (session, incremental, asks) = match begin(services, version, request) {
        Context::Full { session_id, asks } => (session_id, false, asks),
        Context::Incremental { session_id, asks } => (session_id, true, asks),
        Context::Error(error) => {
            let reply = FetchReply { error, ..FetchReply::default() };
            return (encode(correlation_id, version, &reply), Charge::none());
        }
    };
    let mut targets = resolve(services, &services.topics.view(), version, &asks);
    if targets.iter().any(|target| target.slot.is_err()) {
        let resolved = || resolve(services, &services.topics.view(), version, &asks);
        services.log.look_before_refusal(|| resolved().iter().all(|target| target.slot.is_ok())).await;
        targets = resolved();
    }
    let (mut replies, charge) = poll(services, &targets, &limits, kept_bytes(&asks), passed).await;
    // Without proof nothing is shown, least of all "out of range": it would make a consumer lose its place.
    let out_of_range = |reply: &PartitionReply| reply.error == ResponseError::OffsetOutOfRange.code();
    let told = mutant::on(Mutant::OutOfRangeUnproven) && replies.iter().any(out_of_range);
    if !told && !services.log.proof.awaited(PARK_LIMIT).await {
        replies.iter_mut().for_each(|reply| {
            *reply = PartitionReply::error(reply.index, ResponseError::NotLeaderOrFollower.code());
        });
    }
    // Kafka's null is for what was read without looking for aborted transactions.
    let unknown = [ResponseError::UnknownTopicOrPartition.code(), ResponseError::UnknownTopicId.code()];
    for reply in &mut replies {
        if (read_committed && reply.error == 0) || unknown.contains(&reply.error) {
            reply.aborted = Some(Vec::new());
        }
    }
    let told = match session {
        0 => (0..replies.len()).collect(),
        id => FetchSessions::answered(&services.fetch_sessions, id, &asks, &replies),
    };
    let kept: Vec<usize> = if incremental { told } else { (0..replies.len()).collect() };
    let reply = assemble(services, version, session, &asks, replies, &kept);
    (encode(correlation_id, version, &reply), charge)
}

/// The request as the sessions see it.
fn begin(services: &Services, version: i16, request: FetchRequest) -> Context {
    // One copy of a name for all its partitions: a request may hold long names and a hundred thousand partitions.
    let name = |name: &str| -> Arc<str> { Arc::from(if version >= 13 { "" } else { name }) };
    let key = |name: &Arc<str>, id: TopicId, index| Key { name: name.clone(), id, index };
    let count = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut asks = Vec::with_capacity(count);
    for topic in &request.topics {
        let name = name(topic.topic.as_str());
        for partition in &topic.partitions {
            let ask = Ask {
                offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                leader_epoch: partition.current_leader_epoch,
            };
            asks.push((key(&name, topic.topic_id.into(), partition.partition), ask));
        }
    }
    if any_twice(asks.iter().map(|(key, _)| key)) {
        asks = last_mentions(asks, |(key, _)| key.clone());
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let name = name(topic.topic.as_str());
        topic.partitions.iter().map(move |index| key(&name, topic.topic_id.into(), *index))
    });
    let (session_id, epoch) = if version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
    let request = Request { session_id, epoch, uses_ids: version >= 13, forgotten: forgotten.collect(), asks };
    let new_id = services.env.entropy.next_u64();
    FetchSessions::begin(&services.fetch_sessions, request, new_id, services.env.clock.wall_ms())
}

/// What a request for these keeps while it waits.
fn kept_bytes(asks: &[(Key, Ask)]) -> usize {
    let topics = asks.chunk_by(|(one, _), (next, _)| Arc::ptr_eq(&one.name, &next.name));
    asks.len() * KEPT_PER_PARTITION + topics.map(|topic| topic[0].0.name.len()).sum::<usize>()
}

struct Limits {
    min_bytes: usize,
    max_bytes: usize,
    until: Instant,
}

impl Limits {
    fn of(services: &Services, request: &FetchRequest) -> Limits {
        let cap = usize::try_from(services.settings.kafka.fetch_max_bytes).unwrap_or(0);
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(cap);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
        Limits {
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            until: Instant::now() + wait,
        }
    }
}

/// One partition to read.
struct Target {
    index: i32,
    ask: Ask,
    slot: Result<Arc<PartitionSlot>, ResponseError>,
}

fn resolve(services: &Services, view: &TopicsView, version: i16, asks: &[(Key, Ask)]) -> Vec<Target> {
    let find = |key: &Key| -> Result<PartitionId, ResponseError> {
        let topic = if version >= 13 {
            view.by_id(key.id).ok_or(ResponseError::UnknownTopicId)?
        } else {
            view.by_name(&key.name).ok_or(ResponseError::UnknownTopicOrPartition)?
        };
        topic.partition(key.index).ok_or(ResponseError::UnknownTopicOrPartition)
    };
    let slot = |key: &Key| services.log.slot(find(key)?).map_err(|error| errors::of_unavailable(&error));
    asks.iter().map(|(key, ask)| Target { index: key.index, ask: *ask, slot: slot(key) }).collect()
}

/// What partitions answer, and what the records hold of their budget.
type Found = (Vec<PartitionReply>, Charge);

/// What is planned of each partition, or its error.
type Plans = Vec<Result<Planned, PartitionReply>>;

/// Waits until there is enough, or the time is up, or some partition has an error; then reads.
async fn poll(
    services: &Services,
    targets: &[Target],
    limits: &Limits,
    kept_bytes: usize,
    passed: &mut Passed,
) -> Found {
    let mut waiter = None;
    let parked = Instant::now() + PARK_LIMIT;
    loop {
        let planned = plan_all(services, targets, limits.max_bytes, parked).await;
        let over = Instant::now() >= limits.until || passed.gone.is_cancelled() || services.log.appender.is_over();
        let is_told = targets.is_empty() || planned.iter().any(Result::is_err);
        let done = over || is_told || is_enough(bytes_of(&planned), limits.min_bytes, services.unread.fetch_share());
        // Both more records and those that the store has may be long in coming.
        let waits = !done || planned.iter().flatten().any(Planned::is_read);
        let may_wait = !waits || passed.waits(kept_bytes);
        if done || !may_wait {
            if !done {
                // No room to wait in: not for long, then, so that those who ask again at once do not keep everybody busy.
                let pause = tokio::time::sleep_until(limits.until.min(Instant::now() + CROWDED_WAIT));
                tokio::select! {
                    () = pause => {}
                    () = services.log.appender.ended() => {}
                    () = passed.gone.cancelled() => {}
                }
            }
            let (replies, charge) = read_all(services, targets, limits, planned, parked).await;
            let bytes: usize = replies.iter().map(PartitionReply::record_bytes).sum();
            services.metrics.fetch_bytes.inc_by(bytes as u64);
            return (replies, charge);
        }
        drop(planned);
        match &waiter {
            // What is committed from here on wakes us; what came in between shows in the next plans.
            None => {
                let slots = targets.iter().filter_map(|target| target.slot.as_ref().ok().cloned()).collect();
                waiter = Some(Waiter::new(slots));
            }
            Some(waiter) => {
                tokio::select! {
                    biased;
                    () = waiter.woken() => {}
                    () = tokio::time::sleep_until(limits.until) => {}
                    () = services.log.appender.ended() => {}
                    () = passed.gone.cancelled() => {}
                }
            }
        }
    }
}

/// Whether what is planned is as much as the client waits for, or as much as one fetch may bring now.
fn is_enough(planned_bytes: usize, min_bytes: usize, share: usize) -> bool {
    planned_bytes >= min_bytes.min(share)
}

/// Makes room for what was planned, or for as much of it as one fetch may bring, and reads several partitions at once.
async fn read_all(
    services: &Services,
    targets: &[Target],
    limits: &Limits,
    mut planned: Plans,
    parked: Instant,
) -> Found {
    let share = services.unread.fetch_share();
    if bytes_of(&planned) > share {
        planned = plan_all(services, targets, limits.max_bytes.min(share), parked).await;
    }
    let bytes = bytes_of(&planned);
    if bytes <= SMALL_ANSWER_BYTES {
        return (read_planned(services, targets, &planned).await, Charge::none());
    }
    // Clients that do not read hold the room; they are sent away soon. Until then there is nothing, and the client asks again.
    match tokio::time::timeout(ROOM_PATIENCE, services.unread.fetched.charge(bytes)).await {
        Ok(charge) => (read_planned(services, targets, &planned).await, charge),
        Err(_) => {
            (targets.iter().zip(&planned).map(|(target, planned)| nothing(target, planned)).collect(), Charge::none())
        }
    }
}

/// A partition may have what the plans before it leave of the limit; the first that has records comes with a whole batch at least.
async fn plan_all(services: &Services, targets: &[Target], max_bytes: usize, parked: Instant) -> Plans {
    let mut room = max_bytes;
    let mut first = true;
    let mut planned = Vec::with_capacity(targets.len());
    for target in targets {
        let plan = plan_one(services, target, room, first, parked).await;
        if let Ok(planned) = &plan {
            first &= planned.plan.pieces.is_empty();
            room = room.saturating_sub(planned.bytes());
        }
        planned.push(plan);
    }
    planned
}

fn bytes_of(planned: &[Result<Planned, PartitionReply>]) -> usize {
    planned.iter().flatten().map(Planned::held).sum()
}

/// Reads what was planned.
///
/// Once the store failed after a long wait, the partitions that follow are not read: each would cost as much patience again.
async fn read_planned(
    services: &Services,
    targets: &[Target],
    planned: &[Result<Planned, PartitionReply>],
) -> Vec<PartitionReply> {
    let begun = Instant::now();
    let ahead = Ahead::default();
    let mut replies: Vec<_> = targets.iter().zip(planned).map(|(target, planned)| nothing(target, planned)).collect();
    let all = targets.iter().zip(planned).enumerate();
    // A request may hold a hundred thousand partitions that have nothing to read.
    let readable = all.filter(|(_, (_, planned))| planned.as_ref().is_ok_and(Planned::is_read));
    let reads: Vec<_> = readable
        .map(|(at, (target, planned))| {
            let ahead = &ahead;
            async move { (at, read_one(services, target, planned, ahead).await) }
        })
        .collect();
    let mut reads = stream::iter(reads).buffered(PARTITIONS_AT_ONCE);
    while let Some((at, reply)) = reads.next().await {
        let failed = reply.error == ResponseError::KafkaStorageError.code() && begun.elapsed() > STORE_PATIENCE;
        replies[at] = reply;
        if failed {
            break;
        }
    }
    drop(reads);
    services.log.reader.read_ahead(ahead);
    replies
}

/// The answer of a partition that is not read.
fn nothing(target: &Target, planned: &Result<Planned, PartitionReply>) -> PartitionReply {
    match planned {
        Ok(planned) => found(target.index, Batches::none(&planned.plan)),
        Err(reply) => reply.clone(),
    }
}

/// What is to be read of a partition.
struct Planned {
    plan: Plan,
    wanted: usize,
    first: bool,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.plan.bytes().min(self.wanted)
    }

    /// What it may hold in memory: the first batch comes whole, however little was asked for.
    fn held(&self) -> usize {
        let least = if self.first { FIRST_BATCH_BYTES } else { 0 };
        self.plan.bytes().min(self.wanted.max(least))
    }

    fn is_read(&self) -> bool {
        !self.plan.pieces.is_empty() && (self.wanted > 0 || self.first)
    }
}

async fn plan_one(
    services: &Services,
    target: &Target,
    room: usize,
    first: bool,
    parked: Instant,
) -> Result<Planned, PartitionReply> {
    let error = |code: ResponseError| PartitionReply::error(target.index, code.code());
    let slot = target.slot.as_ref().map_err(|code| error(*code))?;
    services.log.settled(slot, parked).await;
    let wanted = usize::try_from(target.ask.max_bytes).unwrap_or(0).min(room);
    let mut inner = slot.lock();
    let partition = inner.partition().map_err(|unavailable| error(errors::of_unavailable(&unavailable)))?;
    errors::check_leader_epoch(target.ask.leader_epoch, partition.epoch()).map_err(error)?;
    match Plan::make(partition, target.ask.offset, wanted) {
        Ok(plan) => Ok(Planned { plan, wanted, first }),
        // Kafka says nothing of the log's bounds here: clients ask ListOffsets.
        Err(bounds) => Err(error(errors::of_read(&ReadError::OutOfRange(bounds)))),
    }
}

async fn read_one(
    services: &Services,
    target: &Target,
    planned: &Result<Planned, PartitionReply>,
    ahead: &Ahead,
) -> PartitionReply {
    let Planned { plan, wanted, first } = match planned {
        Ok(planned) => planned,
        Err(reply) => return reply.clone(),
    };
    let slot = match &target.slot {
        Ok(slot) => slot,
        Err(code) => return PartitionReply::error(target.index, code.code()),
    };
    let log = &services.log;
    let read = match log.reader.run(slot, plan, target.ask.offset, *wanted, *first, ahead).await {
        Err(error) if error.is_missing() => log.run_again(slot, target.ask.offset, *wanted, *first, ahead).await,
        read => read,
    };
    match read {
        Ok(batches) => found(target.index, batches),
        Err(error) => {
            if let Some(more) = services.complaints.pass(services.env.clock.boot()) {
                let (partition, offset) = (slot.id, target.ask.offset);
                tracing::error!(%partition, offset, %error, more, "a fetch could not read the log");
            }
            PartitionReply::error(target.index, errors::of_read(&error).code())
        }
    }
}

fn found(index: i32, batches: Batches) -> PartitionReply {
    PartitionReply {
        high_watermark: batches.high_watermark,
        last_stable_offset: batches.high_watermark,
        log_start: batches.log_start,
        records: batches.slices,
        ..PartitionReply::error(index, 0)
    }
}

/// Whether a partition's answer says who leads it: what the client believes of that is wrong.
fn names_leader(version: i16, error: i16) -> bool {
    let errors = [ResponseError::NotLeaderOrFollower, ResponseError::FencedLeaderEpoch];
    version >= 12 && errors.iter().any(|wrong| wrong.code() == error)
}

/// Groups what is to be told by topic; topics stand in the order of their first partitions.
fn assemble(
    services: &Services,
    version: i16,
    session_id: i32,
    asks: &[(Key, Ask)],
    replies: Vec<PartitionReply>,
    kept: &[usize],
) -> FetchReply {
    let view = services.topics.view();
    let mut reply = FetchReply { session_id, ..FetchReply::default() };
    let mut replies: Vec<_> = replies.into_iter().map(Some).collect();
    for at in kept {
        let (key, _) = &asks[*at];
        let Some(mut partition) = replies[*at].take() else { continue };
        if names_leader(version, partition.error) {
            let id = if version >= 13 { Some(key.id) } else { view.by_name(&key.name).map(|topic| topic.id) };
            partition.current_leader = id.and_then(|id| services.leader(id, key.index));
            if reply.endpoints.is_empty() && version >= 16 {
                reply.endpoints = services.node_endpoints();
            }
        }
        // As in Kafka the order counts: a topic comes again when another one stands between its partitions.
        match reply.topics.last_mut() {
            Some(topic) if topic.name == key.name && topic.id == key.id => topic.partitions.push(partition),
            _ => {
                let partitions = vec![partition];
                reply.topics.push(TopicReply { name: key.name.clone(), id: key.id, partitions });
            }
        }
    }
    reply
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
