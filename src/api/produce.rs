//! Produce (key 0), versions 3–13.
//!
//! Two steps. [`admit`] runs in the order in which requests arrive on the connection: it checks every batch and gives it offsets.
//! What it returns waits for the commit of the segments that carry the batches (or, for duplicates, their originals) and answers.
//! Acks not in {-1, 0, 1}: INVALID_REQUIRED_ACKS, for partitions that exist and are sent one batch. Order of checks: `ReplicaManager.appendRecords`,
//! `LogValidator`. Of a partition that is named twice the last mention counts (`KafkaApis.handleProduceRequest`); one before it is not
//! even looked at, while Kafka stores it if the last one is not a batch at all. acks=1 waits like acks=all, at most for
//! the request's time-out (REQUEST_TIMED_OUT). acks=0 gets no answer and waits for nothing, an error closes the connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::Services;
use super::errors;
use super::named_twice::each_once;
use super::topics::{TopicView, TopicsView};
use crate::log::PARK_LIMIT;
use crate::log::append::budget::Charge;
use crate::log::append::{AppendError, Appended, Gather};
use crate::log::refusals::{RefusedBatch, TopicKey};
use crate::log::slot::PartitionSlot;
use crate::segment::BatchMeta;
use crate::types::aside::{aside, aside_in_turn};
use crate::types::mutant::{self, Mutant};
use crate::types::topic_name::is_internal;
use crate::types::{PartitionId, SegmentNumber, TopicId};
use crate::wire::batch::BatchHeader;
use crate::wire::codec::Codec;
use crate::wire::validate::{
    CompressionRule, ProduceRules, Refusal, ValidBatch, single_batch, validate, validate_at_once,
};

/// OUT_OF_ORDER_SEQUENCE_NUMBER.
const OUT_OF_ORDER: i16 = 45;

const INTERNAL_WRITER: &str = "__admin_client";

/// Bounds of a request's `timeout_ms`. Many clients' shortest ones are meant for a disk beside the broker.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_PATIENCE: Duration = Duration::from_secs(300);

/// After a batch of so many bytes other tasks have their turn.
const LONG_BATCH: usize = 64 << 10;

/// Records that one answer gives a reason for; beyond that only their batches have one.
const RECORD_ERRORS_MAX: usize = 1000;

/// Answers that wait for a commit.
pub struct Admitted {
    version: i16,
    acks: i16,
    topics: Vec<TopicProduceResponse>,
    /// The newest segment that any answer depends on.
    wait_for: Option<SegmentNumber>,
    /// (topic, partition) → the segment that its success depends on.
    pending: BTreeMap<(usize, usize), SegmentNumber>,
    /// Until then the answer waits for the commit.
    until: Instant,
}

/// Judges and appends the batches of a request.
pub async fn admit(
    services: &Services,
    version: i16,
    client_id: Option<&str>,
    request: ProduceRequest,
    charge: &Arc<Charge>,
) -> Admitted {
    let now = Instant::now();
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut admitted = Admitted {
        version,
        acks: request.acks,
        topics: Vec::with_capacity(request.topic_data.len()),
        wait_for: None,
        pending: BTreeMap::new(),
        until: now + patience.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE),
    };
    let (gather, parked) = (services.log.appender.gather(), now + PARK_LIMIT);
    let (acks, transactional) = (request.acks, request.transactional_id.is_some());
    let call = Call { services, version, client_id, acks, transactional, charge, parked, gather };
    let mut view = services.topics.view();
    let mut looked_again = false;
    let mut record_errors = RECORD_ERRORS_MAX;
    let topics = each_once(request.topic_data);
    // Kafka answers partitions: a topic without any is not in the answer.
    let topics = topics.into_iter().filter(|data| !data.partition_data.is_empty());
    for (at, mut data) in topics.enumerate() {
        let mut topic = call.topic(&view, &data);
        let mut response = TopicProduceResponse::default().with_name(data.name.clone()).with_topic_id(data.topic_id);
        for (place, partition) in std::mem::take(&mut data.partition_data).into_iter().enumerate() {
            let index = partition.index;
            let mut outcome = loop {
                match call.target(topic.as_ref(), index) {
                    Ok(target) => break call.partition(target, partition.records).await,
                    Err(_) if !looked_again => looked_again = true,
                    Err(code) => break Err(call.without_slot(&response, index, partition.records.as_ref(), code)),
                }
                call.gather.release();
                let is_here = || call.target(call.topic(&services.topics.view(), &data).as_ref(), index).is_ok();
                services.log.look_before_refusal(is_here).await;
                view = services.topics.view();
                topic = call.topic(&view, &data);
            };
            if let Ok(Appended { admitted: batch, .. }) = &outcome
                && let Some(segment) = batch.segment
                && !(batch.duplicate && mutant::on(Mutant::DuplicateAnsweredEarly))
            {
                admitted.wait_for = admitted.wait_for.max(Some(segment));
                admitted.pending.insert((at, place), segment);
            }
            if let Err(refused) = &mut outcome {
                refused.records.truncate(record_errors);
                record_errors -= refused.records.len();
            }
            response.partition_responses.push(call.answer(index, topic.as_ref().ok(), outcome));
        }
        admitted.topics.push(response);
    }
    services.metrics.produce_requests.inc();
    admitted
}

impl Admitted {
    /// Waits for the commit and gives the answer; `None` for acks=0 without an error, an error for acks=0 with one.
    pub async fn answer(mut self, services: &Services) -> Result<Option<ProduceResponse>, ResponseError> {
        if self.acks != 0 {
            self.wait(services).await;
            self.prove(services).await;
            let mut response = ProduceResponse::default().with_responses(self.topics);
            if self.version >= 10 && response.responses.iter().any(names_leader) {
                response.node_endpoints = services.node_endpoints().into_iter().map(endpoint).collect();
            }
            return Ok(Some(response));
        }
        let partitions = self.topics.iter().flat_map(|topic| &topic.partition_responses);
        match partitions.map(|partition| partition.error_code).find(|code| *code != errors::NONE) {
            Some(code) => Err(ResponseError::try_from_code(code).unwrap_or(ResponseError::UnknownServerError)),
            None => Ok(None),
        }
    }

    /// Waits for the commit. A session that ends and a store that is too slow leave it open whether the records are in the log:
    /// the client must ask again (Kafka's answers: `DelayedProduce`).
    async fn wait(&mut self, services: &Services) {
        let Some(newest) = self.wait_for else { return };
        let appender = &services.log.appender;
        match tokio::time::timeout_at(self.until, appender.committed(newest)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if mutant::on(Mutant::AckAtSessionEnd) => {}
            Ok(Err(_)) => self.fail_uncommitted(appender.committed_count(), ResponseError::NotLeaderOrFollower),
            Err(_) => self.fail_uncommitted(appender.committed_count(), ResponseError::RequestTimedOut),
        }
    }

    /// That a sequence is out of order is told under proof only: a broker that stood still does not know what its successor has taken,
    /// and producers give up at this error.
    async fn prove(&mut self, services: &Services) {
        let is_refused = |partition: &PartitionProduceResponse| partition.error_code == OUT_OF_ORDER;
        let any = self.topics.iter().any(|topic| topic.partition_responses.iter().any(is_refused));
        if !any || services.log.proof.awaited(PARK_LIMIT).await {
            return;
        }
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            if is_refused(partition) {
                partition.error_code = ResponseError::NotLeaderOrFollower.code();
            }
        }
    }

    fn fail_uncommitted(&mut self, committed: SegmentNumber, code: ResponseError) {
        for ((topic, partition), segment) in &self.pending {
            if *segment >= committed {
                let response = &mut self.topics[*topic].partition_responses[*partition];
                *response = PartitionProduceResponse::default()
                    .with_index(response.index)
                    .with_error_code(code.code())
                    .with_base_offset(-1)
                    .with_log_append_time_ms(-1);
            }
        }
    }
}

fn endpoint(node: crate::wire::fetch::NodeEndpoint) -> NodeEndpoint {
    NodeEndpoint::default()
        .with_node_id(node.node_id.into())
        .with_host(StrBytes::from_string(node.host))
        .with_port(node.port)
        .with_rack(node.rack.map(StrBytes::from_string))
}

fn names_leader(topic: &TopicProduceResponse) -> bool {
    topic.partition_responses.iter().any(|partition| partition.current_leader.leader_id.0 >= 0)
}

/// Why a partition's batch is not stored.
struct Refused {
    code: ResponseError,
    message: Option<String>,
    records: Vec<BatchIndexAndErrorMessage>,
    /// The log's start, where the log itself refused the batch.
    log_start: i64,
}

impl From<ResponseError> for Refused {
    fn from(code: ResponseError) -> Refused {
        Refused { code, message: None, records: Vec::new(), log_start: -1 }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let record = |error: crate::wire::validate::RecordError| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(error.batch_index)
                .with_batch_index_error_message(Some(StrBytes::from_string(error.message)))
        };
        Refused {
            code: refusal.code,
            message: refusal.error_message,
            records: refusal.record_errors.into_iter().map(record).collect(),
            log_start: -1,
        }
    }
}

/// Whether a producer sends a batch again that was refused so. Out of order: what is missing comes first, by itself.
fn will_be_retried(code: ResponseError) -> bool {
    code.is_retriable() && code != ResponseError::OutOfOrderSequenceNumber
}

fn refused_batch(header: &BatchHeader) -> RefusedBatch {
    RefusedBatch { producer_id: header.producer_id, epoch: header.producer_epoch, first_sequence: header.base_sequence }
}

/// A partition that has a slot.
struct Target<'a> {
    topic: &'a TopicView,
    rules: &'a ProduceRules,
    id: PartitionId,
    slot: Arc<PartitionSlot>,
}

struct Call<'a> {
    services: &'a Services,
    version: i16,
    client_id: Option<&'a str>,
    acks: i16,
    /// The request has a transactional id.
    transactional: bool,
    charge: &'a Arc<Charge>,
    /// Until then the request's partitions may recover.
    parked: Instant,
    /// Takes the batches of the request.
    gather: Gather<'a>,
}

impl Call<'_> {
    fn topic(&self, view: &TopicsView, data: &TopicProduceData) -> Result<Arc<TopicView>, ResponseError> {
        let topic = if self.version >= 13 {
            view.by_id(TopicId::from(data.topic_id)).ok_or(ResponseError::UnknownTopicId)?
        } else {
            let unknown = if is_internal(data.name.as_str()) && self.client_id != Some(INTERNAL_WRITER) {
                ResponseError::InvalidTopicException
            } else {
                ResponseError::UnknownTopicOrPartition
            };
            view.by_name(data.name.as_str()).ok_or(unknown)?
        };
        if topic.internal && self.client_id != Some(INTERNAL_WRITER) {
            return Err(ResponseError::InvalidTopicException);
        }
        Ok(topic.clone())
    }

    /// Where a batch is to be written.
    fn target<'a>(
        &self,
        topic: Result<&'a Arc<TopicView>, &ResponseError>,
        index: i32,
    ) -> Result<Target<'a>, ResponseError> {
        let topic = topic.map_err(|code| *code)?;
        let id = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let slot = self.services.log.slot(id).map_err(|error| errors::of_unavailable(&error))?;
        Ok(Target { topic, rules: &topic.rules[usize::try_from(index).unwrap_or_default()], id, slot })
    }

    /// Refuses a batch for a partition that has no slot. Its successors may find one.
    fn without_slot(
        &self,
        topic: &TopicProduceResponse,
        index: i32,
        records: Option<&Bytes>,
        code: ResponseError,
    ) -> Refused {
        if will_be_retried(code)
            && let Some(header) = records.and_then(|records| BatchHeader::parse(records).ok())
        {
            let by_id = self.version >= 13;
            let key = if by_id { TopicKey::Id(topic.topic_id.into()) } else { TopicKey::Name(topic.name.to_string()) };
            let now = self.services.env.clock.wall_ms();
            self.services.log.refused.remember(key, index, refused_batch(&header), now);
        }
        code.into()
    }

    async fn partition(&self, target: Target<'_>, records: Option<Bytes>) -> Result<Appended, Refused> {
        let Target { topic, rules, id, slot } = target;
        if !slot.is_settled() {
            self.gather.release();
            self.services.log.settled(&slot, self.parked).await;
        }
        let now = self.services.env.clock.wall_ms();
        slot.lock().recall(|| self.services.log.refused.take(id, &topic.name, now));
        let received = records.as_ref().map_or(0, Bytes::len);
        let (batch, header) = self.valid(rules, records, now);
        let mut outcome = match batch {
            Err(refusal) => Err(Refused::from(refusal)),
            Ok(batch) if batch.header.is_transactional() && !self.transactional => {
                Err(Refused::from(ResponseError::TransactionalIdAuthorizationFailed))
            }
            // No transaction can be open here: stored, the batch would be shown as committed for ever.
            Ok(batch) if batch.header.is_transactional() => Err(Refused::from(ResponseError::InvalidTxnState)),
            Ok(batch) => match self.charge_growth(batch.bytes.len().saturating_sub(received)).await {
                None => Err(Refused::from(ResponseError::NotEnoughReplicas)),
                Some(growth) => {
                    self.append(id, &slot, batch, growth, now).map_err(|error| Refused::from(errors::of_append(&error)))
                }
            },
        };
        if let (Err(refused), Some(_)) = (&mut outcome, &header)
            && tells_log_start(refused.code)
        {
            refused.log_start = slot.lock().partition().map_or(-1, |partition| partition.log_start());
        }
        // What a compressed one held is not known from its length.
        if received > LONG_BATCH || header.as_ref().is_some_and(|header| header.compression() != Ok(Codec::None)) {
            tokio::task::yield_now().await;
        }
        if let (Err(refused), Some(header)) = (&outcome, header)
            && will_be_retried(refused.code)
        {
            let batch = refused_batch(&header);
            // The slot may be closed, and another one may follow.
            if !slot.lock().refuse(batch, now) {
                self.services.log.refused.remember(TopicKey::Id(id.topic), id.index, batch, now);
            }
        }
        outcome
    }

    /// Another codec than the producer's may make a batch a thousand times as long: what it grew by is charged as well. `None`:
    /// there is no room for it now. It is not waited for long, since this request's own bytes may be what others wait for.
    async fn charge_growth(&self, bytes: usize) -> Option<Charge> {
        match bytes {
            0 => Some(Charge::none()),
            _ => {
                // What is in may be what others wait for, too.
                self.gather.release();
                tokio::time::timeout_at(self.parked, self.services.log.budget.charge(bytes)).await.ok()
            }
        }
    }

    /// Checks a batch; the header comes back whatever the outcome, if there was one.
    fn valid(
        &self,
        rules: &ProduceRules,
        records: Option<Bytes>,
        now: i64,
    ) -> (Result<ValidBatch, Refusal>, Option<BatchHeader>) {
        match single_batch(records, self.version) {
            Ok(_) if !(-1..=1).contains(&self.acks) => (Err(Refusal::bare(ResponseError::InvalidRequiredAcks)), None),
            Ok(batch) => {
                let header = BatchHeader::parse(&batch).ok();
                // To compress again takes far more memory than the batch has.
                let long = || match rules.compression {
                    CompressionRule::Codec(..) => aside_in_turn(|| validate(batch.clone(), rules, now)),
                    CompressionRule::Producer => aside(|| validate(batch.clone(), rules, now)),
                };
                (validate_at_once(&batch, rules, now).unwrap_or_else(long), header)
            }
            Err(refusal) => (Err(refusal), None),
        }
    }

    fn append(
        &self,
        id: PartitionId,
        slot: &PartitionSlot,
        batch: ValidBatch,
        growth: Charge,
        now: i64,
    ) -> Result<Appended, AppendError> {
        let meta = meta_of(&batch.header);
        let metrics = &self.services.metrics;
        metrics.produce_batches.inc();
        metrics.produce_records.inc_by(u64::try_from(batch.header.record_count).unwrap_or(0));
        metrics.produce_bytes.inc_by(batch.bytes.len() as u64);
        debug_assert_eq!(slot.id, id);
        let mut charges = vec![self.charge.clone()];
        if growth.bytes() > 0 {
            charges.push(Arc::new(growth));
        }
        self.gather.append(slot, batch.bytes, meta, &charges, now)
    }

    fn answer(
        &self,
        index: i32,
        topic: Option<&Arc<TopicView>>,
        outcome: Result<Appended, Refused>,
    ) -> PartitionProduceResponse {
        let response = PartitionProduceResponse::default().with_index(index);
        match outcome {
            // To clients it is a success without an offset.
            Ok(appended) if appended.admitted.base_offset < 0 => response
                .with_error_code(ResponseError::DuplicateSequenceNumber.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(appended.log_start),
            Ok(appended) => response
                .with_base_offset(appended.admitted.base_offset)
                .with_log_append_time_ms(appended.admitted.log_append_time)
                .with_log_start_offset(appended.log_start),
            Err(refused) => {
                self.services.metrics.produce_error(&refused.code);
                let mut response = response
                    .with_error_code(refused.code.code())
                    .with_base_offset(-1)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(refused.log_start)
                    .with_error_message(refused.message.map(StrBytes::from_string))
                    .with_record_errors(refused.records);
                if refused.code == ResponseError::NotLeaderOrFollower
                    && let Some((leader, epoch)) = topic.and_then(|topic| self.services.leader(topic.id, index))
                {
                    response.current_leader =
                        LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
                }
                response
            }
        }
    }
}

/// Kafka names the log's start with every refusal but those that `ReplicaManager.appendRecords` knows by name.
fn tells_log_start(code: ResponseError) -> bool {
    !matches!(
        code,
        ResponseError::CorruptMessage
            | ResponseError::MessageTooLarge
            | ResponseError::RecordListTooLarge
            | ResponseError::NotLeaderOrFollower
            | ResponseError::KafkaStorageError
            | ResponseError::NotEnoughReplicas
            | ResponseError::TransactionalIdAuthorizationFailed
    )
}

/// What the log keeps of a batch's header.
pub fn meta_of(header: &BatchHeader) -> BatchMeta {
    BatchMeta {
        base_offset: header.base_offset,
        last_offset_delta: header.last_offset_delta,
        length: u32::try_from(header.size()).unwrap_or(u32::MAX),
        record_count: header.record_count,
        max_timestamp: header.max_timestamp,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        log_append_time: header.is_log_append_time(),
        control: None,
    }
}
