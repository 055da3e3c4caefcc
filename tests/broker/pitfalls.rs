//! Bugs of other systems of this kind that only a whole broker can show, or several; `tests/PITFALLS.md` lists all, and where the others are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::config::Settings;
use alluvium::store::StoreRef;
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::types::env::Env;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiKey, CreatePartitionsRequest, CreatePartitionsResponse, DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest,
    FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceResponse,
};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::client::Client;
use crate::cluster::{Node, PARTITIONS, fetch_from, leaders, led_by, produce_to};
use crate::harness::{
    Broker, PRODUCE, batch, create_topic, create_topic_with, fetch, produce, produce_request, produced, producer_id,
    shared_memory, topic_name, values,
};

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn faulty(store: &StoreRef) -> Arc<FaultStore> {
    FaultStore::new(store.clone(), Env::system().entropy, FaultRates::default())
}

fn quick(settings: &mut Settings) {
    settings.flush_interval_ms = Some(1);
}

async fn keys(store: &StoreRef, prefix: &str) -> Vec<String> {
    store.list(prefix, None, 10_000).await.expect("lists").into_iter().map(|object| object.key).collect()
}

/// A broker stops between sealing a segment and its PUT. It is closed, merged and collected meanwhile; then its PUT goes out.
#[tokio::test(flavor = "multi_thread")]
async fn p01_a_late_put_finds_the_fence_after_all_else_was_collected() {
    let store = shared_memory();
    let slow = faulty(&store);
    let ttl = Duration::from_secs(3);
    let eager = |settings: &mut Settings| (settings.merge_window_ms, settings.collect_grace_ms) = (50, 100);
    let one = Node::start(slow.clone(), 1, ttl).await;
    let session = keys(&store, "segments/").await.remove(0).rsplit_once('/').expect("session/number").0.to_owned();
    let two = Node::start_with(store.clone(), 2, ttl, eager).await;
    let mut clients = BTreeMap::from([(1, one.broker.client().await), (2, two.broker.client().await)]);
    let client = clients.get_mut(&1).expect("there");
    assert_eq!(create_topic(client, "t", PARTITIONS).await, 0);
    let producer = producer_id(client).await;
    let led = led_by(&two, "t", &[1, 2]).await;
    for (partition, (node, _)) in &led {
        let client = clients.get_mut(node).expect("one of the two");
        assert_eq!(produce_to(client, *partition, 0, producer).await, (0, 0));
    }
    let (partition, _) = led.iter().find(|(_, (node, _))| *node == 1).expect("it leads some");

    slow.script(Call::Create, &session, [Fault::DelayBefore(Duration::from_millis(500)); 16]);
    let late = produce_request("t", *partition, batch(Some((producer, 0, 1)), &["late"]), -1);
    let client = clients.get_mut(&1).expect("there");
    let asked = client.send(ApiKey::Produce, PRODUCE, &late).await.expect("sends");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(slow.injected().delays > 0, "the PUT is on its way");
    // Its only thread stands still until the test lets it go on.
    let (go_on, stopped) = std::sync::mpsc::channel::<()>();
    one.runtime.spawn(async move { stopped.recv().is_ok() });

    led_by(&two, "t", &[2]).await;
    let mut other = two.broker.client().await;
    assert_eq!(produce_to(&mut other, *partition, 1, producer).await, (0, 1), "the retry goes to the successor");
    let begun = Instant::now();
    while keys(&store, &session).await.len() > 1 {
        assert!(begun.elapsed() < PATIENCE, "not collected: {:?}", keys(&store, &session).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    go_on.send(()).expect("it waits");
    let answer = tokio::time::timeout(PATIENCE, client.receive::<ProduceResponse>(asked, PRODUCE)).await;
    let code = answer.expect("an end").ok().map(|answer| produced(&answer).0);
    assert_ne!(code, Some(0), "who was closed acknowledges nothing");
    let expected = vec![(0, format!("{partition}:0")), (1, format!("{partition}:1"))];
    assert_eq!(fetch_from(&mut other, *partition).await, (0, expected));
    one.kill();
    two.kill();
}

/// The first batch of a producer waits: for its partition, which recovers, and for its compression. Those behind it do not pass it.
#[tokio::test(flavor = "multi_thread")]
async fn p02_who_waits_is_not_passed_by_his_successors() {
    let store = shared_memory();
    let slow = faulty(&store);
    let broker = Broker::start(store.clone(), quick).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic_with(&mut client, "t", 1, &[("compression.type", "gzip")]).await, 0);
    for at in 0..8 {
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, at));
    }
    broker.kill().await;
    let first = keys(&store, "segments/").await.remove(0);
    let session = first.rsplit_once('/').expect("session/number").0;
    slow.script(Call::Read, session, [Fault::DelayBefore(Duration::from_millis(300)); 8]);
    let broker = Broker::start(slow.clone(), quick).await;
    for round in 0..8 {
        let mut client = broker.client().await;
        let producer = producer_id(&mut client).await;
        let mut asked = Vec::new();
        for sequence in 0..5 {
            // Ever shorter, so ever quicker to compress.
            let values = vec!["y"; 20_000 >> (sequence * 3)];
            let count = (0..sequence).map(|before| 20_000 >> (before * 3)).sum::<i32>();
            let request = produce_request("t", 0, batch(Some((producer, 0, count)), &values), -1);
            asked.push((client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends"), i64::from(count)));
        }
        let mut base = None;
        for (id, count) in asked {
            let answer: ProduceResponse = client.receive(id, PRODUCE).await.expect("answers");
            let (code, offset) = produced(&answer);
            assert_eq!((code, offset - count), (0, *base.get_or_insert(offset)), "round {round}");
        }
    }
    assert!(slow.injected().delays > 0);
}

/// Leases move under producers that have five requests in flight each: nobody hears that a sequence is missing, for none is.
#[tokio::test(flavor = "multi_thread")]
async fn p04_a_hand_over_overtakes_nothing_in_flight() {
    const COUNT: i32 = 120;
    let store = shared_memory();
    let ttl = Duration::from_secs(3);
    let slow = faulty(&store);
    let one = Node::start(slow.clone(), 1, ttl).await;
    let mut client = one.broker.client().await;
    assert_eq!(create_topic(&mut client, "t", PARTITIONS).await, 0);
    // There is always something on its way.
    slow.set_rates(FaultRates { delay: 700, max_delay: Duration::from_millis(60), ..FaultRates::default() });
    let address = one.broker.address;
    let writers: Vec<_> = (0..PARTITIONS).map(|partition| tokio::spawn(write(address, partition, COUNT))).collect();
    let two = Node::start(store, 2, ttl).await;
    let led = led_by(&two, "t", &[1, 2]).await;
    for writer in writers {
        writer.await.expect("no error that a producer can't repair");
    }
    let moved = led.iter().filter(|(_, (node, _))| *node == 2).count();
    assert!(moved > 0, "{led:?}");
    for (partition, (node, _)) in leaders(&mut client, "t").await {
        let mut client = if node == 1 { one.broker.client().await } else { two.broker.client().await };
        let (code, found) = fetch_from(&mut client, partition).await;
        let expected: Vec<_> = (0..COUNT).map(|at| (i64::from(at), format!("{partition}:{at}"))).collect();
        assert_eq!((code, found), (0, expected), "partition {partition}");
    }
    one.kill();
    two.kill();
}

/// An idempotent producer that pipelines, and begins again with what is not acknowledged when the leader is another.
async fn write(bootstrap: std::net::SocketAddr, partition: i32, count: i32) {
    const WINDOW: i32 = 5;
    let connect = async |address| Client::new(TcpStream::connect(address).await.expect("connects"));
    let mut client = connect(bootstrap).await;
    let producer = producer_id(&mut client).await;
    let mut done = 0;
    let begun = Instant::now();
    while done < count {
        let mut asked = Vec::new();
        for sequence in done..count.min(done + WINDOW) {
            let value = format!("{partition}:{sequence}");
            let request = produce_request("t", partition, batch(Some((producer, 0, sequence)), &[&value]), -1);
            asked.push((sequence, client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends")));
        }
        let mut moved = false;
        for (sequence, id) in asked {
            let answer: ProduceResponse = client.receive(id, PRODUCE).await.expect("answers");
            match produced(&answer) {
                (0, offset) if !moved => {
                    assert_eq!(offset, i64::from(sequence));
                    done = sequence + 1;
                }
                (0, _) => panic!("{partition}: {sequence} was taken, and one before it was not"),
                (6, _) => moved = true,
                other => panic!("{partition}: {other:?} for {sequence}"),
            }
        }
        if moved {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client = connect(leader(&mut connect(bootstrap).await, partition).await).await;
        }
        assert!(begun.elapsed() < PATIENCE, "{partition}: {done} of {count}");
    }
}

async fn leader(client: &mut Client<TcpStream>, partition: i32) -> std::net::SocketAddr {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let answer: MetadataResponse = client.call(ApiKey::Metadata, 9, &request).await.expect("answers");
    let led = answer.topics[0].partitions.iter().find(|found| found.partition_index == partition).expect("there");
    let node = answer.brokers.iter().find(|node| node.node_id == led.leader_id).expect("its leader");
    format!("{}:{}", &*node.host, node.port).parse().expect("an address")
}

/// Whatever offset is asked for, the batch that holds it comes first: from memory, from segments, from runs.
#[tokio::test(flavor = "multi_thread")]
async fn p11_an_offset_within_a_batch_gets_the_batch() {
    let store = shared_memory();
    let of_three = |at: i64| (3 * at..3 * at + 3).map(|offset| format!("v{offset}")).collect::<Vec<_>>();
    let cold = |settings: &mut Settings| {
        quick(settings);
        settings.tail_cache_bytes = 0;
    };
    let merging = |settings: &mut Settings| {
        cold(settings);
        (settings.merge_window_ms, settings.collect_grace_ms) = (10, 0);
    };
    let broker = Broker::start(store.clone(), quick).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..10 {
        let values = of_three(at);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(produce(&mut client, "t", batch(None, &values)).await, (0, 3 * at));
    }
    every_offset(&mut client, "memory").await;
    broker.kill().await;
    let broker = Broker::start(store.clone(), cold).await;
    every_offset(&mut broker.client().await, "segments").await;
    broker.kill().await;
    let broker = Broker::start(store.clone(), merging).await;
    let begun = Instant::now();
    while keys(&store, "segments/").await.iter().filter(|key| key.ends_with("5")).count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", keys(&store, "segments/").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    every_offset(&mut broker.client().await, "runs").await;
}

async fn every_offset(client: &mut Client<TcpStream>, what: &str) {
    for offset in 0..30 {
        let request = fetch_of("t", &[(0, offset)], 1 << 20);
        let answer: FetchResponse = client.call(ApiKey::Fetch, 12, &request).await.expect("answers");
        let partition = &answer.responses[0].partitions[0];
        let records = values(&partition.records.clone().expect("records"));
        assert_eq!(partition.error_code, 0);
        let base = offset - offset % 3;
        assert_eq!(records[0], (base, format!("v{base}")), "{offset} from {what}");
        assert!(records.contains(&(offset, format!("v{offset}"))), "{offset} from {what}: {records:?}");
    }
}

/// (partition, offset)
fn fetch_of(topic: &str, wanted: &[(i32, i64)], max_bytes: i32) -> FetchRequest {
    let partition = |(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
            .with_current_leader_epoch(-1)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(wanted.iter().map(partition).collect::<Vec<_>>());
    let topics = if wanted.is_empty() { Vec::new() } else { vec![topic] };
    FetchRequest::default().with_max_bytes(max_bytes).with_session_epoch(-1).with_topics(topics)
}

/// Answers of versions without topic ids carry none, those with ids no name; epochs and offsets are the same wherever they are told.
#[tokio::test(flavor = "multi_thread")]
async fn p14_answers_name_topics_as_they_were_asked_and_tell_true_epochs() {
    let store = shared_memory();
    for life in 0..3 {
        let broker = Broker::start(store.clone(), quick).await;
        let mut client = broker.client().await;
        if life == 0 {
            assert_eq!(create_topic(&mut client, "t", 1).await, 0);
        }
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, life));
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let answer: MetadataResponse = client.call(ApiKey::Metadata, 12, &request).await.expect("answers");
        let (id, epoch) = (answer.topics[0].topic_id, answer.topics[0].partitions[0].leader_epoch);
        assert!(!id.is_nil() && epoch >= 0);
        for version in 4..=17 {
            let mut request = fetch_of("t", &[(0, 0)], 1 << 20);
            if version >= 13 {
                (request.topics[0].topic, request.topics[0].topic_id) = (topic_name(""), id);
            }
            let answer: FetchResponse = client.call(ApiKey::Fetch, version, &request).await.expect("answers");
            let topic = &answer.responses[0];
            let named = if version >= 13 { (String::new(), id) } else { ("t".to_owned(), Uuid::nil()) };
            assert_eq!((topic.topic.to_string(), topic.topic_id), named, "version {version}");
            assert_eq!((topic.partitions[0].error_code, topic.partitions[0].high_watermark), (0, life + 1));
        }
        let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let answer: ListOffsetsResponse = client.call(ApiKey::ListOffsets, 7, &request).await.expect("answers");
        let end = &answer.topics[0].partitions[0];
        assert_eq!((end.error_code, end.offset, end.leader_epoch), (0, life + 1, epoch));
        let partition = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer: OffsetForLeaderEpochResponse =
            client.call(ApiKey::OffsetForLeaderEpoch, 4, &request).await.expect("answers");
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, epoch, life + 1));
        broker.kill().await;
    }
}

/// Eight backlogs, read by one session whose answers hold two batches: none waits for another to be drained.
#[tokio::test(flavor = "multi_thread")]
async fn p15_backlogs_drain_together() {
    const BACKLOGS: usize = 8;
    const BATCHES: i64 = 8;
    let broker = Broker::start(shared_memory(), quick).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", BACKLOGS as i32).await, 0);
    let value = "x".repeat(2000);
    for partition in 0..BACKLOGS as i32 {
        for _ in 0..BATCHES {
            let request = produce_request("t", partition, batch(None, &[&value]), -1);
            let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
            assert_eq!(produced(&answer).0, 0);
        }
    }
    let mut next = [0i64; BACKLOGS];
    let (mut session, mut epoch) = (0, 0);
    let mut changed: Vec<(i32, i64)> = (0..BACKLOGS as i32).map(|partition| (partition, 0)).collect();
    let mut answers = 0;
    while next.iter().any(|offset| *offset < BATCHES) {
        let request =
            fetch_of("t", &changed, 2 * 2100).with_session_id(session).with_session_epoch(epoch).with_min_bytes(1);
        let answer: FetchResponse = client.call(ApiKey::Fetch, 12, &request).await.expect("answers");
        (session, epoch) = (answer.session_id, epoch + 1);
        changed.clear();
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let records = values(&partition.records.clone().unwrap_or_default());
            let at = &mut next[partition.partition_index as usize];
            if let Some((last, _)) = records.last() {
                *at = last + 1;
                changed.push((partition.partition_index, *at));
            }
        }
        answers += 1;
        assert!(!changed.is_empty() && answers <= 64, "{next:?} after {answers} answers");
        let (least, most) = (next.iter().min().expect("eight"), next.iter().max().expect("eight"));
        assert!(most - least <= 2, "{next:?} after {answers} answers");
    }
}

/// One request, one revision: whatever becomes of the answer, a topic is there with all its partitions or not at all, and a second
/// try tells which.
#[tokio::test(flavor = "multi_thread")]
async fn p19_a_change_is_made_whole_or_not_at_all() {
    let late = Fault::LandsLate { answer: Answer::Maybe, after: Duration::from_millis(200) };
    for fault in [Fault::LostAnswer(Answer::Maybe), Fault::Refused(Answer::Maybe), late, Fault::Hang, Fault::HangAfter]
    {
        let store = shared_memory();
        let slow = faulty(&store);
        let start = || Broker::start(slow.clone(), quick);
        let mut broker = start().await;
        let mut client = broker.client().await;
        assert_eq!(create_topic(&mut client, "before", 1).await, 0);
        for step in ["create", "grow", "delete", "create again"] {
            slow.script(Call::Create, "meta/log/", [fault]);
            // Where the table hangs, the broker dies before it knows what became of it.
            let hangs = matches!(fault, Fault::Hang | Fault::HangAfter);
            let patience = if hangs { Duration::from_millis(300) } else { PATIENCE };
            let answer = tokio::time::timeout(patience, change(&mut client, step)).await;
            assert_eq!(answer.ok(), (!hangs).then_some(0), "{fault:?}, {step}");
            broker.kill().await;
            broker = start().await;
            client = broker.client().await;
            if hangs {
                let (code, done_already) = (change(&mut client, step).await, done_already(step));
                assert!(code == 0 || code == done_already, "{fault:?}, {step}: {code}");
            }
            assert_eq!(change(&mut client, step).await, done_already(step), "{fault:?}, {step}: it is done");
            let partitions = match step {
                "delete" => 0,
                "grow" => 5,
                _ => 3,
            };
            for partition in 0..6 {
                let request = produce_request("t", partition, batch(None, &["x"]), -1);
                let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
                let expected = if partition < partitions { 0 } else { 3 };
                assert_eq!(produced(&answer).0, expected, "{fault:?}, {step}: partition {partition}");
            }
        }
        assert_eq!(fetch(&mut client, "t", 0).await.2.len(), 1, "{fault:?}: nothing of the topic before it");
        broker.kill().await;
    }
}

fn done_already(step: &str) -> i16 {
    match step {
        "grow" => 37,
        "delete" => 3,
        _ => 36,
    }
}

async fn change(client: &mut Client<TcpStream>, step: &str) -> i16 {
    match step {
        "grow" => {
            let topic =
                CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(5).with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
            let answer = client.call::<_, CreatePartitionsResponse>(ApiKey::CreatePartitions, 3, &request).await;
            answer.map_or(-1, |answer| answer.results[0].error_code)
        }
        "delete" => {
            let request =
                DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]).with_timeout_ms(10_000);
            let answer = client.call::<_, DeleteTopicsResponse>(ApiKey::DeleteTopics, 4, &request).await;
            answer.map_or(-1, |answer| answer.responses[0].error_code)
        }
        _ => create_topic(client, "t", 3).await,
    }
}
