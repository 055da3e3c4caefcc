//! A client that sends anything to a whole broker: pieces, each `[how] [API] [version] body`, written to one connection as requests
//! with right headers, as frames with a right length only, or as they are.
//!
//! The broker is the one that ships, started for each input on a store in memory, on one thread whose clock jumps when nothing can run.
//! Answers come in the order of the requests and are what the protocol says of their version; afterwards another connection is
//! served, and a stop is clean; if the input says so, a second broker starts from what the first one left.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{BrokerError, Ports, run_on};
use alluvium::config::Settings;
use alluvium::server::Listener;
use alluvium::server::memory::Network;
use alluvium::store::StoreRef;
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::testing::env;
use alluvium::types::metrics::Metrics;
use bytes::{BufMut, Bytes};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ResponseHeader, ResponseKind, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{memory, pieces, requests, samples};

/// What the broker may hold because of one input: two records sections of 128 MiB for a topic that compresses anew, and its caches.
const HELD: usize = 384 << 20;
/// Requests of one input.
const REQUESTS: usize = 64;
/// Waiting for what comes only if something happens that never will. On the jumping clock it costs nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// The broker's own promises are shorter than this; longer is a hang.
const HANG: Duration = Duration::from_secs(300);
const SEED: u64 = 7;
/// What is answered when something happens that may take longer: records come, members come.
const MAY_WAIT: [ApiKey; 3] = [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup];

/// Bit of the first byte: a second broker starts from the store.
const RESTART: u8 = 0x80;
/// How a piece is sent, by the lowest bits of its first byte; every other value sends a request.
pub const FRAMED: u8 = 6;
const RAW: u8 = 7;

pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime starts");
    memory::within(HELD, || runtime.block_on(case(data)));
    memory::within(HELD, || drop(runtime));
}

async fn case(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let store: StoreRef = Arc::new(MemoryStore::new());
    let broker = Broker::start(store.clone(), SEED).await;
    converse(&broker, data).await;
    is_well(&broker).await;
    if first & RESTART == 0 {
        return broker.stop().await;
    }
    // What was sent with acks=0 is on its way for some milliseconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = bounds(&broker).await;
    broker.stop().await;
    let broker = Broker::start(store, SEED + 1).await;
    is_well(&broker).await;
    assert_eq!(bounds(&broker).await, left, "a restart changes no partition");
    broker.stop().await;
}

/// A request whose answer must be its version's.
#[derive(Clone, Copy, Debug)]
struct Sent {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// Sends all pieces while the answers are read; gives the peer up when nothing comes any more.
async fn converse(broker: &Broker, data: &[u8]) {
    let (input, mut output) = tokio::io::split(broker.connect().await);
    let (frames, mut sent) = frames(data);
    let write = async {
        for frame in &frames {
            // The broker closes when it has read enough.
            if output.write_all(frame).await.is_err() {
                return;
            }
        }
        let _ = output.shutdown().await;
    };
    let read = async {
        if timeout(PATIENCE, answers(input, &mut sent)).await.is_err() {
            let blocking = sent.iter().find(|request| request.key != ApiKey::Produce);
            assert!(blocking.is_none_or(|request| MAY_WAIT.contains(&request.key)), "no answer to {blocking:?}");
        }
    };
    let _ = timeout(HANG, async { tokio::join!(write, read) }).await;
}

fn frames(data: &[u8]) -> (Vec<Vec<u8>>, VecDeque<Sent>) {
    let (mut frames, mut sent) = (Vec::new(), VecDeque::new());
    for (index, piece) in pieces::split(data).into_iter().take(REQUESTS).enumerate() {
        let Some((how, body)) = piece.split_first() else { continue };
        match (how & 7, body.split_first_chunk()) {
            (RAW, _) => frames.push(body.to_vec()),
            (FRAMED, _) => frames.push(framed(body)),
            (_, Some(([row, version], body))) => {
                let (row, version) = requests::chosen(*row, *version);
                let correlation_id = i32::try_from(index).unwrap_or(0);
                sent.push_back(Sent { key: row.key, version, correlation_id });
                frames.push(framed(&request(
                    row.key,
                    version,
                    correlation_id,
                    row.request_header_version(version),
                    body,
                )));
            }
            (_, None) => {}
        }
    }
    // What bytes that are no requests of ours are answered with can't be told.
    let known = frames.len() == sent.len();
    (frames, if known { sent } else { VecDeque::new() })
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes(), body].concat()
}

pub fn request(key: ApiKey, version: i16, correlation_id: i32, header_version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(16 + body.len());
    frame.put_i16(key as i16);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_slice(&[0, 4]);
    frame.put_slice(b"fuzz");
    if header_version >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame
}

/// Reads answers to the end of the connection. Requests without an answer (acks=0) are passed over.
async fn answers(mut input: impl AsyncRead + Unpin, sent: &mut VecDeque<Sent>) {
    let checked = !sent.is_empty();
    while let Some(mut answer) = answer(&mut input).await {
        if !checked {
            continue;
        }
        let correlation_id = i32::from_be_bytes(answer[..4].try_into().expect("four bytes"));
        let of = loop {
            let next = sent.pop_front().expect("an answer to a request that is unknown or was answered");
            if next.correlation_id == correlation_id {
                break next;
            }
            assert_eq!(next.key, ApiKey::Produce, "{:?} was not answered in its turn", next.key);
        };
        decode(of, &mut answer);
    }
}

fn decode(of: Sent, answer: &mut Bytes) {
    let Sent { key, version, .. } = of;
    let header = ResponseHeader::decode(answer, key.response_header_version(version));
    assert!(header.is_ok(), "{key:?} v{version}: {header:?}");
    let readable = known(of, answer);
    let body = ResponseKind::decode(key, answer, readable);
    assert!(body.is_ok(), "{key:?} v{version}: {:?}", body.err());
    assert!(answer.is_empty(), "{key:?} v{version}: {} bytes behind the answer", answer.len());
}

/// The version that kafka-protocol reads the body as, which becomes one of that version.
fn known(of: Sent, body: &mut Bytes) -> i16 {
    if of.key == ApiKey::DescribeLogDirs && of.version == 5 {
        // The broker has one directory: what it says of it last, that it is not cordoned, stands before two empty tag sections.
        assert!(body.ends_with(&[0; 3]), "{of:?}: {body:?}");
        body.truncate(body.len() - 1);
    }
    of.version.min(of.key.valid_versions().max)
}

/// The next answer without its length; `None` at the end.
async fn answer(input: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let length = input.read_i32().await.ok()?;
    let mut answer = vec![0; usize::try_from(length).expect("lengths are positive")];
    assert!(answer.len() >= 4, "an answer without a header");
    input.read_exact(&mut answer).await.ok()?;
    Some(Bytes::from(answer))
}

/// A new connection is answered.
async fn is_well(broker: &Broker) {
    let answer = call(broker, ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
    assert_eq!(answer[..2], [0, 0], "an ApiVersions answer without error");
}

/// Error, first and next offset of the partitions that inputs write to.
async fn bounds(broker: &Broker) -> Vec<(i16, i64)> {
    let partition = |index, time| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(time);
    let topic = |name: &'static str| {
        ListOffsetsTopic::default().with_name(TopicName(StrBytes::from_static_str(name))).with_partitions(vec![
            partition(0, -2),
            partition(0, -1),
            partition(1, -1),
        ])
    };
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1));
    let request = request.with_topics(["t", "z", "auto"].map(topic).to_vec());
    let mut answer = call(broker, ApiKey::ListOffsets, 2, &request).await;
    let answer = ListOffsetsResponse::decode(&mut answer, 2).expect("an answer of its version");
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.error_code, partition.offset)).collect()
}

/// The body of the answer to a request of a version without tagged fields, on a connection of its own.
async fn call<T: Encodable>(broker: &Broker, key: ApiKey, version: i16, body: &T) -> Bytes {
    let mut stream = broker.connect().await;
    let mut bytes = Vec::new();
    body.encode(&mut bytes, version).expect("it fits its version");
    stream.write_all(&framed(&request(key, version, 77, 1, &bytes))).await.expect("the broker reads");
    let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("in time").expect("an answer");
    assert_eq!(answer[..4], [0, 0, 0, 77]);
    answer.slice(4..)
}

/// Ids of the topics that `samples::create_topics` makes when it is the first request: the same in every run.
pub fn topic_ids() -> Vec<Uuid> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime starts").block_on(async {
        let broker = Broker::start(Arc::new(MemoryStore::new()), SEED).await;
        let mut stream = broker.connect().await;
        let (create, _) = frames(&samples::create_topics());
        let all = MetadataRequest::default().with_topics(None);
        let (ask, _) = frames(&samples::piece(ApiKey::Metadata, 12, &all));
        stream.write_all(&[&create[0][..], &ask[0]].concat()).await.expect("the broker reads");
        answer(&mut stream).await.expect("topics are made");
        let mut answer = answer(&mut stream).await.expect("they are shown");
        ResponseHeader::decode(&mut answer, 1).expect("a header");
        let shown = MetadataResponse::decode(&mut answer, 12).expect("a body");
        shown.topics.iter().map(|topic| topic.topic_id).collect()
    })
}

pub struct Broker {
    connections: mpsc::Sender<DuplexStream>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), BrokerError>>,
}

impl Broker {
    pub async fn start(store: StoreRef, seed: u64) -> Broker {
        let (connections, accepted) = mpsc::channel(4);
        let ports = Ports {
            store,
            env: env(seed),
            listener: Accepted(accepted),
            dial: Arc::new(Network::default()),
            advertised: ("fuzz".to_owned(), 9092),
            metrics: Metrics::new(),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
        };
        let shutdown = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            let ready = |_node_id| {
                let _ = ready.send(());
            };
            run_on(ports, settings(), stop, ready).await
        });
        timeout(HANG, is_ready).await.expect("the broker starts in time").expect("the broker starts");
        Broker { connections, shutdown, running }
    }

    pub async fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        self.connections.send(far).await.expect("the broker accepts");
        near
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        let ended = timeout(HANG, self.running).await.expect("the broker stops in time").expect("no panic");
        ended.expect("a clean end");
    }
}

/// Small, so that a start costs little.
fn settings() -> Settings {
    let mut settings = Settings {
        buffer_bytes: 16 << 20,
        tail_cache_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        ..Settings::default()
    };
    settings.kafka.group_initial_rebalance_delay_ms = 0;
    settings.kafka.offsets_topic_num_partitions = 1;
    settings
}

struct Accepted(mpsc::Receiver<DuplexStream>);

impl Listener for Accepted {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)))),
            None => std::future::pending().await,
        }
    }
}
