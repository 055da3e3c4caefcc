//! Several brokers on one bucket: who dies, who leaves, who is silent for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium::config::Settings;
use alluvium::meta::entry::{Change, Endpoint, TransferredPartitions};
use alluvium::meta::image::Image;
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::{MetaOptions, Metadata, level};
use alluvium::segment::session_prefix;
use alluvium::store::StoreRef;
use alluvium::store::fault::{Call, Fault, FaultRates, FaultStore};
use alluvium::types::env::Env;
use alluvium::types::{FEATURE_LEVEL, SessionId};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceResponse,
};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{
    Broker, FETCH, PRODUCE, batch, create_topic, produce_request, produced, producer_id, shared_memory, topic_name,
    try_create_topic, values,
};

pub const PARTITIONS: i32 = 12;

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker on threads of its own, so that it can die like a process.
pub struct Node {
    pub broker: Broker,
    pub runtime: Runtime,
}

impl Node {
    pub async fn start(store: StoreRef, node_id: i32, ttl: Duration) -> Node {
        Node::start_with(store, node_id, ttl, |_| {}).await
    }

    pub async fn start_with(
        store: StoreRef,
        node_id: i32,
        ttl: Duration,
        change: impl FnOnce(&mut Settings) + Send + 'static,
    ) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let ttl_ms = ttl.as_millis() as u64;
        let starting = runtime.spawn(Broker::start(store, move |settings| {
            (settings.node_id, settings.session_ttl_ms) = (Some(node_id), ttl_ms);
            settings.flush_interval_ms = Some(1);
            change(settings);
        }));
        Node { broker: starting.await.expect("starts"), runtime }
    }

    pub fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Leader and leader epoch of each partition, as this broker tells; without those that nobody leads.
pub async fn leaders(client: &mut Client<TcpStream>, topic: &str) -> BTreeMap<i32, (i32, i32)> {
    try_leaders(client, topic).await.expect("answers")
}

/// An error: the connection was closed.
async fn try_leaders(client: &mut Client<TcpStream>, topic: &str) -> std::io::Result<BTreeMap<i32, (i32, i32)>> {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
    let answer: MetadataResponse = client.call(ApiKey::Metadata, 9, &request).await?;
    let led = answer.topics[0].partitions.iter().filter(|partition| partition.error_code == 0);
    Ok(led.map(|partition| (partition.partition_index, (partition.leader_id.0, partition.leader_epoch))).collect())
}

pub async fn led_by(node: &Node, topic: &str, expected: &[i32]) -> BTreeMap<i32, (i32, i32)> {
    let begun = Instant::now();
    loop {
        let mut client = node.broker.client().await;
        let leaders = leaders(&mut client, topic).await;
        let nodes: BTreeSet<i32> = leaders.values().map(|(node, _)| *node).collect();
        if leaders.len() == PARTITIONS as usize && nodes == expected.iter().copied().collect() {
            return leaders;
        }
        assert!(begun.elapsed() < PATIENCE, "{leaders:?}, and {expected:?} should lead");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn produce_to(client: &mut Client<TcpStream>, partition: i32, sequence: i32, producer: i64) -> (i16, i64) {
    let value = format!("{partition}:{sequence}");
    let request = produce_request("t", partition, batch(Some((producer, 0, sequence)), &[&value]), -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
    produced(&answer)
}

/// The error code; `None`: the connection was closed.
async fn produce_to_old(client: &mut Client<TcpStream>, partition: i32, producer: i64) -> Option<i16> {
    let request = produce_request("t", partition, batch(Some((producer, 0, 2)), &["late"]), -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.ok()?;
    Some(produced(&answer).0)
}

pub async fn fetch_from(client: &mut Client<TcpStream>, partition: i32) -> (i16, Vec<(i64, String)>) {
    let asked = FetchPartition::default().with_partition(partition).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
    let request = FetchRequest::default().with_max_wait_ms(200).with_max_bytes(8 << 20).with_topics(vec![topic]);
    let answer: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.expect("answers");
    let partition = &answer.responses[0].partitions[0];
    (partition.error_code, values(&partition.records.clone().unwrap_or_default()))
}

/// Two brokers, a topic on both, and in each partition a record of one producer.
async fn two(store: StoreRef, first: StoreRef, ttl: Duration) -> (Node, Node, i64) {
    let (one, two) = (Node::start(first, 1, ttl).await, Node::start(store, 2, ttl).await);
    let mut clients = BTreeMap::from([(1, one.broker.client().await), (2, two.broker.client().await)]);
    let client = clients.get_mut(&1).expect("there");
    assert_eq!(create_topic(client, "t", PARTITIONS).await, 0);
    let producer = producer_id(client).await;
    for (partition, (node, _)) in led_by(&two, "t", &[1, 2]).await {
        let client = clients.get_mut(&node).expect("one of the two");
        assert_eq!(produce_to(client, partition, 0, producer).await, (0, 0));
        let other = clients.get_mut(&(3 - node)).expect("one of the two");
        assert_eq!(produce_to(other, partition, 1, producer).await.0, 6, "only the leader takes records");
        assert_eq!(fetch_from(other, partition).await.0, 6, "and gives them");
    }
    (one, two, producer)
}

/// Node 2 has taken everything over: records, offsets, the producer's place.
async fn goes_on(two: &Node, producer: i64) {
    let mut client = two.broker.client().await;
    for (partition, (_, epoch)) in led_by(two, "t", &[2]).await {
        assert!(epoch <= 1, "one grant, and one more to those that were the other's");
        assert_eq!(produce_to(&mut client, partition, 0, producer).await, (0, 0), "a retry is answered as before");
        // Where 1 was refused a moment ago, because another broker led, it is expected to come first.
        let gap = produce_to(&mut client, partition, 2, producer).await.0;
        assert!([45, 6].contains(&gap), "a gap is none: {gap}");
        assert_eq!(produce_to(&mut client, partition, 1, producer).await, (0, 1));
        let expected = vec![(0, format!("{partition}:0")), (1, format!("{partition}:1"))];
        assert_eq!(fetch_from(&mut client, partition).await, (0, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_node_id_gets_one_of_its_own() {
    let store = shared_memory();
    let start = || Broker::start(store.clone(), |settings| settings.node_id = None);
    let (one, two) = (start().await, start().await);
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let expected = [(1, i32::from(one.address.port())), (2, i32::from(two.address.port()))];
    let begun = Instant::now();
    loop {
        let answer: MetadataResponse = one.client().await.call(ApiKey::Metadata, 9, &request).await.expect("answers");
        let mut brokers: Vec<_> = answer.brokers.iter().map(|broker| (broker.node_id.0, broker.port)).collect();
        brokers.sort_unstable();
        if brokers == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{brokers:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A producer's first batch is on its way to the broker that dies, its second one comes to the broker that took over: taken before the first, it
/// would put that one out of order for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_with_a_broker_is_not_overtaken_by_what_follows_it() {
    let store = shared_memory();
    let (one, two, _) = two(store.clone(), store, Duration::from_secs(1)).await;
    let mut client = two.broker.client().await;
    let before = leaders(&mut client, "t").await;
    let producer = producer_id(&mut client).await;
    one.kill();
    led_by(&two, "t", &[2]).await;
    for (partition, _) in before.into_iter().filter(|(_, (leader, _))| *leader == 1) {
        assert_eq!(produce_to(&mut client, partition, 1, producer).await.0, 6, "what comes before it may still come");
        assert_eq!(produce_to(&mut client, partition, 0, producer).await, (0, 1));
        assert_eq!(produce_to(&mut client, partition, 1, producer).await, (0, 2));
    }
    two.kill();
}

/// Records, offsets, places of producers go with the leases, and only those move that the newcomer should have.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_gets_its_share() {
    let store = shared_memory();
    let one = Node::start(store.clone(), 1, Duration::from_secs(3)).await;
    let mut first = one.broker.client().await;
    assert_eq!(create_topic(&mut first, "t", PARTITIONS).await, 0);
    let producer = producer_id(&mut first).await;
    for partition in 0..PARTITIONS {
        assert_eq!(produce_to(&mut first, partition, 0, producer).await, (0, 0));
    }
    let two = Node::start(store, 2, Duration::from_secs(3)).await;
    let leaders = led_by(&two, "t", &[1, 2]).await;
    let epochs = |node| leaders.values().filter(move |(led_by, _)| *led_by == node).map(|(_, epoch)| *epoch);
    assert!(epochs(1).all(|epoch| epoch == 0), "{leaders:?}");
    assert!(epochs(2).all(|epoch| epoch == 1), "{leaders:?}");
    let mut second = two.broker.client().await;
    for (partition, (node, _)) in leaders {
        let (leader, other) = if node == 1 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        assert_eq!(produce_to(leader, partition, 0, producer).await, (0, 0), "a retry is answered as before");
        assert_eq!(produce_to(leader, partition, 2, producer).await.0, 45, "a gap is one");
        assert_eq!(produce_to(leader, partition, 1, producer).await, (0, 1));
        let expected = vec![(0, format!("{partition}:0")), (1, format!("{partition}:1"))];
        assert_eq!(fetch_from(leader, partition).await, (0, expected));
        assert_eq!(produce_to(other, partition, 2, producer).await.0, 6, "who handed it over takes no more");
        assert_eq!(fetch_from(other, partition).await.0, 6);
    }
    one.kill();
    two.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_broker_held_is_served_by_the_others() {
    let store = shared_memory();
    let (one, two, producer) = two(store.clone(), store, Duration::from_secs(3)).await;
    one.kill();
    goes_on(&two, producer).await;
    two.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_hands_over_at_once() {
    let store = shared_memory();
    // Nobody waits for this ttl.
    let (one, two, producer) = two(store.clone(), store, Duration::from_secs(3600)).await;
    one.broker.shutdown.cancel();
    one.broker.running.await.expect("no panic").expect("a clean end");
    goes_on(&two, producer).await;
    one.runtime.shutdown_background();
    two.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_silent_for_too_long_comes_back_with_a_new_session() {
    let store = shared_memory();
    let slow = FaultStore::new(store.clone(), Env::system().entropy, FaultRates::default());
    let (one, two, producer) = two(store.clone(), slow.clone(), Duration::from_secs(3)).await;
    let first = store.list("segments/", None, 1).await.expect("answers").remove(0).key;
    let (session, _) = first.rsplit_once('/').expect("a session and a number");
    // What it writes from now on arrives long after its time.
    slow.script(Call::Create, session, [Fault::DelayBefore(Duration::from_secs(8)); 64]);
    let mut old = one.broker.client().await;
    let led = led_by(&one, "t", &[1, 2]).await;
    let (partition, _) = led.iter().find(|(_, (node, _))| *node == 1).expect("it leads some");
    goes_on(&two, producer).await;
    // To the old leader this sequence leaves a gap. It does not know what came in between, and must not say so.
    let late = tokio::time::timeout(PATIENCE, produce_to_old(&mut old, *partition, producer)).await.expect("an end");
    assert!(matches!(late, None | Some(6)), "{late:?}");
    let begun = Instant::now();
    loop {
        // The first to come may find the old session, or the end of it.
        let mut client = one.broker.client().await;
        let name = format!("again-{}", begun.elapsed().as_millis());
        let leads = async {
            let made = try_create_topic(&mut client, &name, PARTITIONS, &[]).await?;
            let leaders = try_leaders(&mut client, &name).await?;
            std::io::Result::Ok(made == 0 && leaders.values().any(|(node, _)| *node == 1))
        };
        if matches!(tokio::time::timeout(Duration::from_secs(5), leads).await, Ok(Ok(true))) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    one.kill();
    two.kill();
}

/// The lease of the topic's partition 0 goes from its holder to another session and back, in one entry: nobody sees it elsewhere.
fn there_and_back(image: &Image, topic: &str, through: u64) -> Vec<Change> {
    let (id, topic) = image.topic_named(topic).expect("it was made");
    let holder = topic.partitions[0].holder.expect("somebody leads");
    let (other, _) = image.ready_sessions().find(|(id, _)| *id != holder).expect("there are two");
    let moves = |session, to, through| Change::TransferLease {
        session,
        to,
        through,
        partitions: vec![TransferredPartitions { topic: id, indexes: vec![0] }],
    };
    vec![moves(holder, other, through), moves(other, holder, 0)]
}

async fn table_of(store: &StoreRef) -> Arc<Metadata> {
    let table = Arc::new(BucketTable::new(store.clone()));
    Metadata::open(store.clone(), table, Env::system(), MetaOptions::default()).await.expect("opens")
}

/// A broker that is started again has two sessions that are ready, until it has closed the old one. Clients make a map of the brokers that
/// an answer names, and some end at one that is named twice.
#[tokio::test(flavor = "multi_thread")]
async fn each_broker_is_named_once() {
    const RANDOM: u64 = 77;
    let store = shared_memory();
    let (one, two, producer) = two(store.clone(), store.clone(), Duration::from_secs(3600)).await;
    let meta = table_of(&store).await;
    let open = Change::OpenSession {
        node_id: 2,
        random: format!("{RANDOM:016x}"),
        endpoints: vec![
            Endpoint { listener: "PLAINTEXT".to_owned(), host: "elsewhere".to_owned(), port: 7 },
            level::endpoint(FEATURE_LEVEL),
        ],
        rack: None,
    };
    let propose = async |change: Change| {
        meta.propose(move |_: &Image| Ok::<_, std::convert::Infallible>(vec![change.clone()])).await.expect("appended")
    };
    let session = SessionId { revision: propose(open).await, random: RANDOM };
    propose(Change::Ready { session }).await;
    let led = led_by(&one, "t", &[1, 2]).await;
    let (partition, _) = led.iter().find(|(_, (node, _))| *node == 2).expect("it leads some");
    let mut client = one.broker.client().await;
    let request = produce_request("t", *partition, batch(Some((producer, 0, 1)), &["a"]), -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
    assert_eq!(produced(&answer).0, 6, "it tells who leads");
    let named: Vec<_> = answer.node_endpoints.iter().map(|node| (node.node_id.0, node.host.as_str())).collect();
    assert_eq!(named, [(1, "127.0.0.1"), (2, "elsewhere")], "of two lives of a broker the newer one counts");
    one.kill();
    two.kill();
}

/// What was another's meanwhile is read anew, also by one who sees its lease come back at once: what is in memory need not be what is in
/// the log, and the next records belong to the new epoch.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_comes_back_is_another_one() {
    let store = shared_memory();
    let (one, two, producer) = two(store.clone(), store.clone(), Duration::from_secs(3600)).await;
    let (node, epoch) = led_by(&one, "t", &[1, 2]).await[&0];
    let leader = if node == 1 { &one } else { &two };
    let mut client = leader.broker.client().await;
    let meta = table_of(&store).await;
    let holder = meta.read(|image| image.topic_named("t").expect("it was made").1.partitions[0].holder);
    let prefix = session_prefix(holder.expect("somebody leads"));
    let through = store.list(&prefix, None, 1000).await.expect("answers").len() as u64 - 1;
    let moved = move |image: &Image| Ok::<_, std::convert::Infallible>(there_and_back(image, "t", through));
    meta.propose(moved).await.expect("it is there, and the other one, too");
    let mut read = async || {
        let asked = FetchPartition::default().with_current_leader_epoch(epoch + 2).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
        let request = FetchRequest::default().with_max_wait_ms(200).with_max_bytes(8 << 20).with_topics(vec![topic]);
        let answer: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.expect("answers");
        answer.responses[0].partitions[0].clone()
    };
    // The partition itself has to know: what it takes before belongs to the epoch before, and its holder did not hand it over.
    let begun = Instant::now();
    while read().await.error_code != 0 {
        assert!(begun.elapsed() < PATIENCE, "the epoch of the new lease is not the partition's");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut client = leader.broker.client().await;
    assert_eq!(leaders(&mut client, "t").await.get(&0), Some(&(node, epoch + 2)), "clients are told of it");
    assert_eq!(produce_to(&mut client, 0, 1, producer).await, (0, 1));
    let records = read().await.records.unwrap_or_default();
    let epochs: Vec<i32> =
        alluvium::wire::batch::batches(&records).map(|batch| batch.expect("whole").0.partition_leader_epoch).collect();
    assert_eq!(epochs, [epoch, epoch + 2], "of the batches");
    one.kill();
    two.kill();
}

/// Writes one record after the other into a partition, wherever it is led, until told to stop. Gives the longest time from one
/// acknowledgement to the next, and the errors that it was told.
async fn write_on(
    seeds: Arc<Mutex<Vec<SocketAddr>>>,
    partition: i32,
    stop: CancellationToken,
) -> (Duration, BTreeSet<i16>) {
    let (mut longest, mut errors, mut last) = (Duration::ZERO, BTreeSet::new(), Instant::now());
    let mut leader = None;
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let Some(client) = &mut leader else {
            leader = leader_of(&seeds, partition).await;
            continue;
        };
        let request = produce_request("t", partition, batch(None, &[&format!("{partition}:{number}")]), -1);
        let answer = client.call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request).await;
        match answer.map(|answer| produced(&answer).0) {
            Ok(0) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            refused => {
                errors.extend(refused);
                leader = None;
            }
        }
    }
    (longest.max(last.elapsed()), errors)
}

/// A connection to the partition's leader, as one of the brokers tells; `None`: ask again.
async fn leader_of(seeds: &Mutex<Vec<SocketAddr>>, partition: i32) -> Option<Client<TcpStream>> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    let seeds = seeds.lock().expect("no panic").clone();
    for seed in seeds {
        let Ok(stream) = TcpStream::connect(seed).await else { continue };
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let mut client = Client::new(stream);
        let Ok(answer) = client.call::<_, MetadataResponse>(ApiKey::Metadata, 9, &request).await else { continue };
        let leader = answer.topics[0].partitions.iter().find(|found| found.partition_index == partition)?.leader_id;
        let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
        return Some(Client::new(TcpStream::connect(("127.0.0.1", broker.port as u16)).await.ok()?));
    }
    None
}

/// Three brokers, one after the other ended and started again at once, while every partition is written to: writers are told to look
/// elsewhere, and nothing else, and find it soon. The times are printed; the limit is one for machines that do much besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_hardly_noticed() {
    let (store, ttl) = (shared_memory(), Duration::from_secs(3));
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(store.clone(), id, ttl).await);
    }
    assert_eq!(create_topic(&mut nodes[0].broker.client().await, "t", PARTITIONS).await, 0);
    for node in &nodes {
        // Each has heard of the topic, whoever leads.
        let begun = Instant::now();
        while leaders(&mut node.broker.client().await, "t").await.len() < PARTITIONS as usize {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let addresses = |nodes: &[Node]| nodes.iter().map(|node| node.broker.address).collect::<Vec<_>>();
    let seeds = Arc::new(Mutex::new(addresses(&nodes)));
    let stop = CancellationToken::new();
    let writers: Vec<_> =
        (0..PARTITIONS).map(|partition| tokio::spawn(write_on(seeds.clone(), partition, stop.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    for id in 1..=3 {
        let old = nodes.remove(0);
        *seeds.lock().expect("no panic") = addresses(&nodes);
        old.broker.shutdown.cancel();
        old.broker.running.await.expect("no panic").expect("a clean end");
        old.runtime.shutdown_background();
        nodes.push(Node::start(store.clone(), id, ttl).await);
        *seeds.lock().expect("no panic") = addresses(&nodes);
    }
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.cancel();
    let (mut gaps, mut errors) = (Vec::new(), BTreeSet::new());
    for writer in writers {
        let (longest, told) = writer.await.expect("no panic");
        gaps.push(longest);
        errors.extend(told);
    }
    gaps.sort_unstable();
    println!(
        "rolling restart of 3 brokers in {took:?}: the longest time without an acknowledgement, by partition: {gaps:?}"
    );
    assert!(errors.iter().all(|error| *error == 6), "{errors:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(5)), "{gaps:?}");
    nodes.into_iter().for_each(Node::kill);
}
