//! Brokers that tell each other what they know, over a network in memory and on a clock that jumps: times are exact here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{BrokerError, Ports, run_with};
use alluvium::config::Settings;
use alluvium::links::{Dial, Stream};
use alluvium::meta::entry::Entry;
use alluvium::meta::image::{Image, SessionState};
use alluvium::meta::table::bucket::{self, BucketTable};
use alluvium::meta::{MetaOptions, Metadata};
use alluvium::server::Listener;
use alluvium::server::memory::Network;
use alluvium::store::fault::{Call, Fault, FaultRates, FaultStore};
use alluvium::store::measure::{MeasuredStore, StoreStats};
use alluvium::store::memory::MemoryStore;
use alluvium::store::{ReadRange, StoreError, StoreRef};
use alluvium::types::env::testing::env;
use alluvium::types::metrics::Metrics;
use alluvium::types::{Revision, SessionId};
use alluvium::wire::link::{Ask, decode_answer, encode_ask};
use async_trait::async_trait;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{batch, create_topic, produce};

pub const TTL: Duration = Duration::from_secs(10);
pub const NEVER: Duration = Duration::from_secs(3600);

/// A way to others that can be cut: nobody is reached then, and who was is no more.
#[derive(Clone)]
pub struct Links {
    pub network: Network,
    cut: watch::Sender<bool>,
}

#[async_trait]
impl Dial for Links {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        if *self.cut.borrow() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut there = self.network.connect(host, port).await?;
        let (here, mut between) = tokio::io::duplex(4096);
        let mut cut = self.cut.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut between, &mut there) => {}
                _ = cut.wait_for(|cut| *cut) => {}
            }
        });
        Ok(Box::new(here))
    }
}

pub struct Node {
    pub store: Arc<FaultStore>,
    stats: Arc<StoreStats>,
    metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), BrokerError>>,
}

impl Node {
    /// No call reaches the store any more, and none comes back.
    fn cut_off(&self) {
        for call in [Call::Create, Call::Read, Call::Other] {
            self.store.script(call, "", [Fault::Hang; 10_000]);
        }
    }
}

/// A bucket, a network, and brokers on them.
pub struct World {
    pub bucket: StoreRef,
    pub links: Links,
    poll_interval: Duration,
}

impl World {
    pub fn new(poll_interval: Duration) -> World {
        let links = Links { network: Network::default(), cut: watch::Sender::new(false) };
        World { bucket: Arc::new(MemoryStore::shared()), links, poll_interval }
    }

    pub async fn start(&self, node_id: u16) -> Node {
        self.start_on(node_id, self.bucket.clone()).await
    }

    /// A broker with a way of its own to the bucket.
    pub async fn start_on(&self, node_id: u16, bucket: StoreRef) -> Node {
        let env = env(u64::from(node_id));
        let store = FaultStore::new(bucket, env.entropy.clone(), FaultRates::default());
        let measured = MeasuredStore::new(store.clone(), env.clock.clone());
        let (stats, metrics) = (measured.stats(), Metrics::new());
        let mut settings = Settings {
            node_id: Some(i32::from(node_id)),
            session_ttl_ms: TTL.as_millis() as u64,
            ..Settings::default()
        };
        settings.kafka.group_initial_rebalance_delay_ms = 0;
        let ports = Ports {
            store: Arc::new(measured),
            env,
            listener: self.links.network.listen("broker", node_id),
            dial: Arc::new(self.links.clone()),
            advertised: ("broker".to_owned(), node_id),
            metrics: metrics.clone(),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
        };
        let (shutdown, (ready, is_ready)) = (CancellationToken::new(), oneshot::channel());
        let options = MetaOptions { poll_interval: self.poll_interval, ..MetaOptions::default() };
        let running = tokio::spawn(run_with(ports, settings, options, shutdown.clone(), |_node_id| {
            let _ = ready.send(());
        }));
        timeout(NEVER, is_ready).await.expect("in time").expect("it starts");
        Node { store, stats, metrics, shutdown, running }
    }

    pub async fn client(&self, node_id: u16) -> Client<DuplexStream> {
        Client::new(self.links.network.connect("broker", node_id).await.expect("it listens"))
    }

    /// The table as somebody sees it who is no broker.
    pub async fn observer(&self) -> Arc<Metadata> {
        let table = Arc::new(BucketTable::new(self.bucket.clone()));
        Metadata::open(self.bucket.clone(), table, env(99), MetaOptions::default()).await.expect("opens")
    }
}

/// What stands in the table at a revision, if anything does.
pub async fn entry(store: &StoreRef, revision: Revision) -> Option<Entry> {
    match store.read(&bucket::key(revision), ReadRange::Full).await {
        Ok(read) => Some(Entry::decode(revision, &read.bytes).expect("an entry")),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn states(image: &Image) -> Vec<(SessionId, SessionState)> {
    image.sessions.iter().map(|(id, session)| (*id, session.state)).collect()
}

/// Waits until something is so; tells how long that took.
pub async fn until(limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// Two brokers that know of each other and answer each other.
async fn pair(world: &World) -> [Node; 2] {
    let nodes = [world.start(1).await, world.start(2).await];
    let up = |node: &Node| node.metrics.encode().expect("text").contains("alluvium_links_up 1\n");
    until(TTL, async || nodes.iter().all(up)).await;
    nodes
}

/// Until another session is closed, as the table says.
async fn closed(world: &World, session: SessionId) -> Duration {
    let table = world.observer().await;
    until(3 * TTL, async || {
        table.catch_up().await.expect("it answers");
        table.read(|image| matches!(image.sessions[&session].state, SessionState::Fenced { .. }))
    })
    .await
}

pub async fn sessions(world: &World) -> Vec<(SessionId, SessionState)> {
    world.observer().await.read(states)
}

#[tokio::test(start_paused = true)]
async fn a_change_is_known_to_others_within_milliseconds() {
    let world = World::new(NEVER);
    let nodes = pair(&world).await;
    let revision = |node: &Node| node.metrics.metadata_revision.get();
    until(TTL, async || revision(&nodes[0]) == revision(&nodes[1])).await;
    for (from, to) in [(0, 1), (1, 0)] {
        let before = revision(&nodes[to]);
        let mut client = world.client(from as u16 + 1).await;
        assert_eq!(create_topic(&mut client, &format!("t{from}"), 3).await, 0);
        let took = until(TTL, async || revision(&nodes[to]) > before).await;
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
    // Without connections nobody knows.
    world.links.cut.send_replace(true);
    sleep(Duration::from_secs(1)).await;
    let (mut client, before) = (world.client(1).await, revision(&nodes[1]));
    assert_eq!(create_topic(&mut client, "unheard", 3).await, 0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(revision(&nodes[1]), before);
    // But who asks about it, and takes the answer for the last word, is answered by the table.
    let topic = DescribeConfigsResource::default().with_resource_type(2).with_resource_name("unheard".into());
    let request = DescribeConfigsRequest::default().with_resources(vec![topic]);
    let mut client = world.client(2).await;
    let answer: DescribeConfigsResponse = client.call(ApiKey::DescribeConfigs, 4, &request).await.expect("answers");
    assert_eq!(answer.results[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_ends_nobody() {
    let world = World::new(Duration::from_secs(2));
    let _nodes = pair(&world).await;
    let before = sessions(&world).await;
    for cut in [true, false, true] {
        world.links.cut.send_replace(cut);
        sleep(5 * TTL).await;
        assert_eq!(sessions(&world).await, before, "cut: {cut}");
        for node_id in [1, 2] {
            let mut client = world.client(node_id).await;
            create_topic(&mut client, "t", 1).await;
            produce(&mut client, "t", batch(None, &["a"])).await;
        }
    }
}

/// Its connections are fine, and it writes no more: it answers, and what it tells does not advance.
#[tokio::test(start_paused = true)]
async fn who_is_cut_off_from_the_store_only_is_closed_in_time() {
    for wait_ms in [0, 1000, 2000, 3000] {
        let world = World::new(Duration::from_secs(2));
        let nodes = pair(&world).await;
        sleep(10 * TTL + Duration::from_millis(wait_ms)).await;
        let (first, _) = sessions(&world).await[0];
        nodes[0].cut_off();
        let took = closed(&world, first).await;
        println!("cut off from the store, {wait_ms}: {took:?}");
        assert!(took <= TTL + Duration::from_secs(2), "{wait_ms}: {took:?}");
        nodes[1].shutdown.cancel();
    }
}

/// As after kill -9: its connections break, and it writes no more. Without connections it is found out by looks alone.
#[tokio::test(start_paused = true)]
async fn who_dies_is_closed_a_ttl_later() {
    for (connected, wait_ms) in [0, 1000, 2000, 3000].iter().flat_map(|wait| [(true, *wait), (false, *wait)]) {
        let world = World::new(Duration::from_secs(2));
        let nodes = pair(&world).await;
        world.links.cut.send_replace(!connected);
        sleep(10 * TTL + Duration::from_millis(wait_ms)).await;
        let (first, _) = sessions(&world).await[0];
        world.links.cut.send_replace(true);
        nodes[0].running.abort();
        nodes[0].cut_off();
        let took = closed(&world, first).await;
        println!("dead, connected: {connected}, {wait_ms}: {took:?}");
        let looked = if connected { Duration::from_millis(200) } else { TTL / 6 };
        assert!(took <= TTL + looked, "{connected}, {wait_ms}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_is_hardly_looked_at() {
    const MINUTES: u32 = 60;
    let mut reads = Vec::new();
    for cut in [true, false] {
        let world = World::new(NEVER);
        let nodes = pair(&world).await;
        world.links.cut.send_replace(cut);
        sleep(10 * TTL).await;
        let count = || nodes[1].stats.snapshot().operations[1].calls;
        let before = count();
        sleep(Duration::from_secs(60) * MINUTES).await;
        reads.push((count() - before) as f64 / f64::from(MINUTES));
    }
    println!("reads a minute: {} without connections, {} with them", reads[0], reads[1]);
    assert!(reads[0] > 36.0 && reads[1] < 4.0, "{reads:?}");
}

/// One look more is what a lie costs, and looks as ever from then on.
#[tokio::test(start_paused = true)]
async fn hints_of_what_does_not_exist_cost_little() {
    let world = World::new(Duration::from_secs(2));
    let [node, _other] = pair(&world).await;
    let mut liar = world.links.network.connect("broker", 1).await.expect("it listens");
    let count = || node.stats.snapshot().operations[1].calls;
    let mut polls = Vec::new();
    for lies in [false, true] {
        let before = count();
        for second in 0..600u64 {
            for at in 0..10 {
                if lies {
                    let revision = if second % 2 == 0 { u64::MAX } else { 1_000_000 + second * 10 + at };
                    liar.write_all(&encode_ask(7, Ask { revision })).await.expect("it reads");
                    let mut answer = [0; 4 + 54];
                    liar.read_exact(&mut answer).await.expect("it answers");
                    assert_eq!(decode_answer(&answer[4..]).expect("an answer").0, 7);
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        polls.push(count() - before);
    }
    println!("reads in ten minutes: {} without lies, {} with them", polls[0], polls[1]);
    assert!(polls[1] < polls[0] + 2 * 300, "{polls:?}");
    // Whoever tells the truth is heard, if not at once.
    let known = node.metrics.metadata_revision.get();
    let mut client = world.client(2).await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    until(TTL, async || node.metrics.metadata_revision.get() > known).await;
}

/// What comes there that is no ask ends its connection, and nothing else.
#[tokio::test(start_paused = true)]
async fn garbage_at_the_door_costs_its_connection_only() {
    let world = World::new(Duration::from_secs(2));
    let [node, _other] = pair(&world).await;
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let ask = encode_ask(7, Ask { revision: 1 })[4..].to_vec();
    let of_version = |version: i16, more: usize| {
        let mut ask = ask.clone();
        ask[2..4].copy_from_slice(&version.to_be_bytes());
        ask.resize(ask.len() + more, 7);
        framed(&ask)
    };
    let cases = [
        ("cut", framed(&ask[..ask.len() - 1])),
        ("without a body", framed(&ask[..10])),
        ("without a header", framed(&ask[..8])),
        ("longer than it may be", of_version(0, 1)),
        ("of a version below 0", of_version(-1, 0)),
        ("of a length that none has", of_version(1, 300)),
        ("of a length that nothing has", [&(100u32 << 20).to_be_bytes()[..], &ask].concat()),
    ];
    for (name, bytes) in cases {
        let mut stream = world.links.network.connect("broker", 1).await.expect("it listens");
        stream.write_all(&bytes).await.expect("it reads");
        let mut byte = [0];
        let read = timeout(Duration::from_secs(1), stream.read(&mut byte)).await.expect("an end");
        assert_eq!(read.expect("a clean end"), 0, "{name}");
    }
    let mut later = world.links.network.connect("broker", 1).await.expect("it listens");
    later.write_all(&of_version(3, 40)).await.expect("it reads");
    let mut answer = [0; 4 + 54];
    later.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(decode_answer(&answer[4..]).expect("in its own version").0, 7);
    assert!(node.metrics.encode().expect("text").contains("alluvium_links_up 1\n"));
}

/// An older broker closes the connection on the first ask; it is looked at as ever, and is not asked again and again.
#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_looked_at() {
    let world = World::new(Duration::from_secs(2));
    world.links.cut.send_replace(true);
    let (node, other) = (world.start(1).await, world.start(2).await);
    let mut old = world.links.network.listen("broker", 2);
    world.links.cut.send_replace(false);
    let asked = tokio::spawn(async move {
        let mut asked = 0;
        while let Ok(Ok((mut stream, _))) = timeout(30 * TTL, old.accept()).await {
            let mut frame = [0; 22];
            asked += u32::from(stream.read_exact(&mut frame).await.is_ok());
        }
        asked
    });
    sleep(Duration::from_secs(290)).await;
    let before = node.stats.snapshot().operations[1].calls;
    sleep(Duration::from_secs(60)).await;
    assert!(node.stats.snapshot().operations[1].calls - before > 60);
    assert_eq!(sessions(&world).await.len(), 2);
    other.shutdown.cancel();
    node.shutdown.cancel();
    let asked = asked.await.expect("no panic");
    assert!((1..=25).contains(&asked), "{asked}");
}
