//! A topic that is deleted and made again under its name, while others write to it and read it, by id.
//!
//! Each life of the topic is a place of its own for the judge, named by its id: a record of an earlier life that is shown in a later
//! one was never sent there. An id whose deletion was acknowledged never answers again.

use std::io;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest,
    FetchResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};
use uuid::Uuid;

use crate::judge::{Order, Place, Sent};
use crate::kafka::{Conn, DAMAGED, batch, topic_name, values};
use crate::roles::{Ctx, until};

const NAME: &str = "churned";

const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const ALREADY_THERE: i16 = 36;
const UNKNOWN_ID: i16 = 100;

fn place(id: Uuid) -> Place {
    (id.to_string(), 0)
}

/// A code that says that the topic is gone, or any other.
fn check(ctx: &Ctx, what: &str, id: Uuid, code: i16) {
    match code {
        UNKNOWN_TOPIC | UNKNOWN_ID => ctx.world.judge(|judge, _| judge.topic_is_gone(&id.to_string())),
        code => ctx.check_code(what, code),
    }
}

/// Makes, writes, reads, deletes.
pub async fn churn(ctx: Ctx) {
    let mut made = 0;
    while ctx.storm() {
        let mut conn = ctx.connect().await;
        while ctx.storm() {
            ctx.pause(5, 60).await;
            if step(&ctx, &mut conn, &mut made).await.is_err() {
                break;
            }
        }
    }
}

async fn step(ctx: &Ctx, conn: &mut Conn, made: &mut u64) -> io::Result<()> {
    let Some(id) = find(ctx, conn).await? else {
        return create(ctx, conn).await;
    };
    // Several steps in one life, also behind the back of who deletes it.
    for _ in 0..ctx.dice.between(1, 6) {
        match ctx.dice.below(10) {
            0 => delete(ctx, conn, id).await?,
            1..4 => drop(read(ctx, conn, id, 0).await?),
            _ => {
                *made += 1;
                write(ctx, conn, id, format!("{}/{made}", ctx.name)).await?;
            }
        }
        ctx.pause(1, 30).await;
    }
    Ok(())
}

async fn find(ctx: &Ctx, conn: &mut Conn) -> io::Result<Option<Uuid>> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(NAME)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    let asked = ctx.world.now();
    let answer: MetadataResponse = conn.call(ApiKey::Metadata, 12, &request).await?;
    let topic = &answer.topics[0];
    ctx.world.note(ctx.name, format_args!("{NAME} is {}: code {}", topic.topic_id, topic.error_code));
    if topic.error_code != 0 {
        ctx.check_code("metadata", topic.error_code);
        return Ok(None);
    }
    ctx.world.judge(|judge, _| judge.topic_is_there(&topic.topic_id.to_string(), asked));
    Ok(Some(topic.topic_id))
}

async fn create(ctx: &Ctx, conn: &mut Conn) -> io::Result<()> {
    let topic = CreatableTopic::default().with_name(topic_name(NAME)).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer: CreateTopicsResponse = conn.call(ApiKey::CreateTopics, 7, &request).await?;
    let code = answer.topics[0].error_code;
    ctx.world.note(ctx.name, format_args!("makes {NAME}: code {code}, {}", answer.topics[0].topic_id));
    if code != ALREADY_THERE {
        ctx.check_code("create topic", code);
    }
    Ok(())
}

async fn delete(ctx: &Ctx, conn: &mut Conn, id: Uuid) -> io::Result<()> {
    let topic = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    ctx.world.judge(|judge, _| judge.deletes_topic(&id.to_string()));
    let answer: DeleteTopicsResponse = conn.call(ApiKey::DeleteTopics, 6, &request).await?;
    let code = answer.responses[0].error_code;
    ctx.world.note(ctx.name, format_args!("deletes {id}: code {code}"));
    if code == 0 {
        ctx.world.count("topic: deleted", 1);
        ctx.world.judge(|judge, now| judge.topic_deleted(&id.to_string(), now));
    } else {
        check(ctx, "delete topic", id, code);
    }
    Ok(())
}

/// Tells whether it was acknowledged.
async fn write(ctx: &Ctx, conn: &mut Conn, id: Uuid, value: String) -> io::Result<bool> {
    let place = place(id);
    let values = vec![value];
    let asked = ctx.world.now();
    let end = ctx.world.judge(|judge, now| {
        let producer = ctx.name.to_owned();
        judge.sent(&values[0], Sent { place: place.clone(), order: Order::Any, producer, index: 0, epoch: None });
        judge.end(&place, now)
    });
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch(None, &values)));
    let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let answer: ProduceResponse = conn.call(ApiKey::Produce, 13, &request).await?;
    let partition = &answer.responses[0].partition_responses[0];
    let (code, base) = (partition.error_code, partition.base_offset);
    ctx.world.note(ctx.name, format_args!("writes {values:?} to {id}: code {code}, {base}"));
    if code == 0 {
        ctx.world.judge(|judge, now| {
            judge.topic_is_there(&id.to_string(), asked);
            judge.acked(&place, base, &values, end, now);
        });
    } else {
        check(ctx, "produce by id", id, code);
        if code == NOT_LEADER && ctx.world.hosts.len() > 1 {
            ctx.seek(conn, &(NAME.to_owned(), 0)).await;
            return Err(io::Error::other("refused"));
        }
    }
    Ok(code == 0)
}

/// Reads once; `None`: the topic is gone, or can't be read now.
async fn read(ctx: &Ctx, conn: &mut Conn, id: Uuid, from: i64) -> io::Result<Option<(i64, Vec<(i64, String)>)>> {
    let place = place(id);
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    let request =
        FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_max_bytes(8 << 20).with_topics(vec![topic]);
    let asked = ctx.world.now();
    let answer: FetchResponse = conn.call(ApiKey::Fetch, 13, &request).await?;
    let partition = &answer.responses[0].partitions[0];
    let end = partition.high_watermark;
    ctx.world.note(ctx.name, format_args!("reads {id} from {from}: code {}, end {end}", partition.error_code));
    if partition.error_code != 0 {
        check(ctx, "fetch by id", id, partition.error_code);
        return Ok(None);
    }
    let Some(records) = values(&partition.records.clone().unwrap_or_default(), from) else {
        ctx.check_code("fetch by id", DAMAGED);
        return Ok(None);
    };
    ctx.world.judge(|judge, now| {
        judge.topic_is_there(&id.to_string(), asked);
        judge.shown_end(&place, end, asked, now);
        judge.shown(&place, from, end, &records);
    });
    Ok(Some((end, records)))
}

/// In fair weather the topic can be made, written and read whole.
pub async fn verify(ctx: &Ctx, round: u64) {
    let mut attempt = 0;
    until(ctx, async |conn| {
        let Some(id) = find(ctx, conn).await? else {
            create(ctx, conn).await?;
            return Ok(false);
        };
        attempt += 1;
        if !write(ctx, conn, id, format!("verifier/{NAME}/{round}/{attempt}")).await? {
            return Ok(false);
        }
        let mut all = Vec::new();
        loop {
            let next = all.last().map_or(0, |(offset, _)| offset + 1);
            let Some((end, records)) = read(ctx, conn, id, next).await? else { return Ok(false) };
            let stuck = records.is_empty() && next < end;
            all.extend(records);
            let next = all.last().map_or(0, |(offset, _)| offset + 1);
            if next >= end {
                ctx.world.judge(|judge, _| judge.final_log(&place(id), 0, next, &all));
                return Ok(true);
            }
            if stuck {
                return Ok(false);
            }
        }
    })
    .await;
}
