//! Group coordinators that move again and again: brokers come, leave, die, are cut off from the bucket. What a group has committed never goes
//! back, and when the cluster has come to rest every group is served. Members keep their places.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium::store::StoreRef;
use alluvium::store::fault::{FaultRates, FaultStore};
use alluvium::types::env::Env;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{Broker, create_topic, shared_memory, topic_name};

const TTL: Duration = Duration::from_millis(1200);
const NODES: i32 = 4;

/// They fall on most of the 50 partitions.
const GROUPS: usize = 60;

/// A round of a group ends after so long.
const NO_ANSWER: Duration = Duration::from_secs(10);

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody waits for this ttl, and no member for the end of its session.
const NEVER: Duration = Duration::from_secs(3600);
const SESSION_TIMEOUT_MS: i32 = 300_000;

const MEMBER_ID_REQUIRED: i16 = 79;

/// The coordinator is loading, nobody, or elsewhere: ask again, or somebody else. Nobody joins again for these.
const ASK_AGAIN: [i16; 3] = [14, 15, 16];

/// A broker on threads of its own, and its way to the bucket.
struct Node {
    id: i32,
    ttl: Duration,
    store: Arc<FaultStore>,
    up: Option<(Broker, Runtime)>,
}

impl Node {
    fn new(id: i32, store: StoreRef) -> Node {
        let store = FaultStore::new(store, Env::system().entropy, FaultRates::default());
        Node { id, ttl: TTL, store, up: None }
    }

    async fn start(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (id, ttl, store): (i32, Duration, StoreRef) = (self.id, self.ttl, self.store.clone());
        let starting = runtime.spawn(Broker::start(store, move |settings| {
            (settings.node_id, settings.session_ttl_ms) = (Some(id), ttl.as_millis() as u64);
            (settings.flush_interval_ms, settings.merge_window_ms) = (Some(5), 500);
        }));
        self.up = Some((starting.await.expect("starts"), runtime));
    }

    fn kill(&mut self) {
        if let Some((_, runtime)) = self.up.take() {
            runtime.shutdown_background();
        }
    }

    async fn leave(&mut self) {
        if let Some((broker, runtime)) = self.up.take() {
            broker.shutdown.cancel();
            broker.running.await.expect("no panic").expect("a clean end");
            runtime.shutdown_background();
        }
    }
}

/// Where brokers listen.
type Places = Arc<Mutex<Vec<SocketAddr>>>;

fn listening(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().filter_map(|node| Some(node.up.as_ref()?.0.address)).collect()
}

fn group(number: usize) -> GroupId {
    GroupId(StrBytes::from(format!("group-{number}")))
}

/// A connection to the group's coordinator, as some broker tells.
async fn coordinator(places: &Places, number: usize) -> Result<Client<TcpStream>, String> {
    coordinator_of(places, number).await.map(|(_, client)| client)
}

/// The same, and its node id.
async fn coordinator_of(places: &Places, number: usize) -> Result<(i32, Client<TcpStream>), String> {
    let places = places.lock().expect("no panic").clone();
    let mut said = "nobody is there".to_owned();
    for at in 0..places.len() {
        let Ok(stream) = TcpStream::connect(places[(at + number) % places.len()]).await else { continue };
        let request = FindCoordinatorRequest::default().with_key(group(number).0);
        let answer = Client::new(stream).call::<_, FindCoordinatorResponse>(ApiKey::FindCoordinator, 3, &request).await;
        match answer {
            Ok(answer) if answer.error_code == 0 => {
                let stream = TcpStream::connect(("127.0.0.1", answer.port as u16)).await;
                let of_node = |stream| (answer.node_id.0, Client::new(stream));
                return stream.map(of_node).map_err(|error| error.to_string());
            }
            Ok(answer) => said = format!("error {} instead of a coordinator", answer.error_code),
            Err(error) => said = error.to_string(),
        }
    }
    Err(said)
}

/// Of nobody in particular.
fn commit_request(number: usize, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(number))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

async fn commit(client: &mut Client<TcpStream>, number: usize, offset: i64) -> Result<(), String> {
    let request = commit_request(number, offset);
    let answer = client.call::<_, OffsetCommitResponse>(ApiKey::OffsetCommit, 8, &request).await;
    match answer.map(|answer| answer.topics[0].partitions[0].error_code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(format!("error {code} to a commit")),
        Err(error) => Err(error.to_string()),
    }
}

async fn committed(client: &mut Client<TcpStream>, number: usize) -> Result<i64, String> {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group(number)).with_topics(Some(vec![topic]));
    let answer = client.call::<_, OffsetFetchResponse>(ApiKey::OffsetFetch, 7, &request).await;
    match answer.map(|answer| (answer.error_code, answer)) {
        Ok((0, answer)) => Ok(answer.topics[0].partitions[0].committed_offset),
        Ok((code, _)) => Err(format!("error {code} to a question")),
        Err(error) => Err(error.to_string()),
    }
}

/// The same of whoever coordinates, asked until somebody says it.
async fn committed_at_last(places: &Places, number: usize) -> i64 {
    let begun = Instant::now();
    loop {
        let asked = async { committed(&mut coordinator(places, number).await?, number).await };
        match asked.await {
            Ok(found) => return found,
            Err(told) => assert!(begun.elapsed() < PATIENCE, "group {number}: {told}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a group knows of itself.
#[derive(Default)]
struct Place {
    /// The highest offset that was acknowledged.
    acknowledged: i64,
    /// The last offset that was sent.
    sent: i64,
    served_at: Option<Instant>,
    told: String,
}

/// Commits ever higher offsets and looks at them, until it is told to stop.
async fn commit_on(number: usize, places: Places, all: Arc<Mutex<BTreeMap<usize, Place>>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let round = async {
            let mut client = coordinator(&places, number).await?;
            loop {
                let offset = {
                    let mut all = all.lock().expect("no panic");
                    let place = all.entry(number).or_default();
                    place.sent += 1;
                    place.sent
                };
                commit(&mut client, number, offset).await?;
                all.lock().expect("no panic").entry(number).or_default().acknowledged = offset;
                let found = committed(&mut client, number).await?;
                assert_eq!(found, offset, "group {number}: another offset than was acknowledged a moment ago");
                all.lock().expect("no panic").entry(number).or_default().served_at = Some(Instant::now());
                tokio::time::sleep(Duration::from_millis(100)).await;
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
        };
        let ended = tokio::time::timeout(NO_ANSWER, round).await;
        let (told, pause) = match ended {
            Ok(Ok(())) => return,
            Ok(Err(told)) => (told, Duration::from_millis(20)),
            // A commit may be parked. It must not come after the next one.
            Err(_) => ("no answer".to_owned(), Duration::from_secs(5)),
        };
        all.lock().expect("no panic").entry(number).or_default().told = told;
        tokio::time::sleep(pause).await;
    }
}

/// One harm and its healing. `dice`: what is done, to whom, for how long.
async fn strike(nodes: &mut [Node], places: &Places, dice: u64) {
    let at = (dice >> 8) as usize % nodes.len();
    let up = nodes.iter().filter(|node| node.up.is_some()).count();
    let moment = Duration::from_millis((dice >> 16) % (2 * TTL.as_millis() as u64));
    let node = &mut nodes[at];
    match dice % 6 {
        _ if node.up.is_none() => node.start().await,
        0 | 1 if up > 1 => node.leave().await,
        2 if up > 1 => node.kill(),
        3 => {
            node.leave().await;
            node.start().await;
        }
        4 => {
            node.kill();
            tokio::time::sleep(moment / 4).await;
            node.start().await;
        }
        _ => {
            node.store.set_rates(FaultRates { delay: 1000, max_delay: 2 * moment, ..FaultRates::default() });
            tokio::time::sleep(moment).await;
            node.store.set_rates(FaultRates::default());
        }
    }
    *places.lock().expect("no panic") = listening(nodes);
    tokio::time::sleep(moment / 3).await;
}

/// Every group is served, a moment after the last harm.
async fn comes_to_rest(all: &Mutex<BTreeMap<usize, Place>>) {
    let begun = Instant::now();
    loop {
        let waiting: Vec<String> = {
            let all = all.lock().expect("no panic");
            let left = all.iter().filter(|(_, place)| place.served_at.is_none_or(|at| at < begun));
            left.map(|(number, place)| format!("group {number}: {}", place.told)).collect()
        };
        if waiting.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} groups are not served: {waiting:?}", waiting.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_through_moves_of_their_coordinators() {
    let rounds = std::env::var("COORDINATOR_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    let (store, entropy) = (shared_memory(), Env::system().entropy);
    let mut nodes: Vec<Node> = (1..=NODES).map(|id| Node::new(id, store.clone())).collect();
    nodes[0].start().await;
    let address = |node: &Node| node.up.as_ref().expect("it was started").0.address;
    let places: Places = Arc::new(Mutex::new(vec![address(&nodes[0])]));
    let mut client = Client::new(TcpStream::connect(address(&nodes[0])).await.expect("connects"));
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let (all, stop) = (Arc::new(Mutex::new(BTreeMap::new())), CancellationToken::new());
    let groups: Vec<_> =
        (0..GROUPS).map(|number| tokio::spawn(commit_on(number, places.clone(), all.clone(), stop.clone()))).collect();
    for round in 0..rounds {
        for _ in 0..6 {
            strike(&mut nodes, &places, entropy.next_u64()).await;
        }
        let begun = Instant::now();
        comes_to_rest(&all).await;
        println!("round {round}: at rest after {:?}", begun.elapsed());
    }
    stop.cancel();
    for group in groups {
        group.await.expect("it saw what it had committed");
    }
    // The last word of each group: what was acknowledged, or something newer of which no answer came.
    for number in 0..GROUPS {
        let found = committed_at_last(&places, number).await;
        let all = all.lock().expect("no panic");
        assert!((all[&number].acknowledged..=all[&number].sent).contains(&found), "group {number}: {found}");
    }
    nodes.iter_mut().for_each(Node::kill);
}

/// What a member of a classic group knows of its place.
struct Member {
    group: usize,
    id: StrBytes,
    generation: i32,
}

impl Member {
    /// Joins a group that has no other member, and gives itself an assignment.
    async fn join(places: &Places, number: usize) -> Result<Member, String> {
        let mut client = coordinator(places, number).await?;
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(b"subscription"));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group(number))
            .with_session_timeout_ms(SESSION_TIMEOUT_MS)
            .with_rebalance_timeout_ms(SESSION_TIMEOUT_MS)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let joined = loop {
            let answer = client.call::<_, JoinGroupResponse>(ApiKey::JoinGroup, 5, &request).await;
            match answer.map(|answer| (answer.error_code, answer)) {
                Ok((0, answer)) => break answer,
                Ok((MEMBER_ID_REQUIRED, answer)) => request.member_id = answer.member_id,
                Ok((code, _)) => return Err(format!("error {code} to a join")),
                Err(error) => return Err(error.to_string()),
            }
        };
        let member = Member { group: number, id: joined.member_id, generation: joined.generation_id };
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(member.id.clone())
            .with_assignment(Bytes::from_static(b"everything"));
        let request = SyncGroupRequest::default()
            .with_group_id(group(number))
            .with_generation_id(member.generation)
            .with_member_id(member.id.clone())
            .with_assignments(vec![assignment]);
        let answer = client.call::<_, SyncGroupResponse>(ApiKey::SyncGroup, 3, &request).await;
        match answer.map(|answer| answer.error_code) {
            Ok(0) => Ok(member),
            Ok(code) => Err(format!("error {code} to a sync")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn heartbeat(&self, client: &mut Client<TcpStream>) -> std::io::Result<i16> {
        let request = HeartbeatRequest::default()
            .with_group_id(group(self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer: HeartbeatResponse = client.call(ApiKey::Heartbeat, 3, &request).await?;
        Ok(answer.error_code)
    }

    async fn commit(&self, client: &mut Client<TcpStream>, offset: i64) -> std::io::Result<i16> {
        let request = commit_request(self.group, offset)
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone());
        let answer: OffsetCommitResponse = client.call(ApiKey::OffsetCommit, 8, &request).await?;
        Ok(answer.topics[0].partitions[0].error_code)
    }

    /// A heartbeat, a commit and a heartbeat at the coordinator, wherever it is; gives its node id. (While a group is being loaded a heartbeat
    /// is answered 0, so it is the commit that shows that the place is known.) Never is the member told that it has no place.
    async fn goes_on(&self, places: &Places, offset: i64) -> i32 {
        let begun = Instant::now();
        loop {
            let round = async {
                let (node, mut client) = coordinator_of(places, self.group).await?;
                let told = |error: std::io::Error| error.to_string();
                let before = self.heartbeat(&mut client).await.map_err(told)?;
                let committed = self.commit(&mut client, offset).await.map_err(told)?;
                let after = self.heartbeat(&mut client).await.map_err(told)?;
                Ok::<_, String>((node, [before, committed, after]))
            };
            let told = tokio::time::timeout(NO_ANSWER, round).await;
            match &told {
                Ok(Ok((node, [0, 0, 0]))) => return *node,
                Ok(Ok((_, codes))) => {
                    let passing = |code: &i16| *code == 0 || ASK_AGAIN.contains(code);
                    assert!(codes.iter().all(passing), "heartbeat, commit, heartbeat: {codes:?}");
                }
                Ok(Err(_)) => {}
                // A commit may be parked. It must not come after the next one.
                Err(_) => tokio::time::sleep(Duration::from_secs(5)).await,
            }
            assert!(begun.elapsed() < PATIENCE, "{told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes on and on, and tells where, until nobody listens any more. Gives the last offset that was acknowledged.
    async fn stay(self, places: Places, served_by: watch::Sender<i32>) -> i64 {
        let mut offset = 0;
        loop {
            offset += 1;
            let node = self.goes_on(&places, offset).await;
            if served_by.send(node).is_err() {
                return offset;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A coordinator that is stopped leaves the group to the next one with its generation and its member, who notices nothing but that it
/// has to ask elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_keeps_its_place_when_its_coordinator_leaves() {
    let store = shared_memory();
    let mut nodes: Vec<Node> = (1..=2).map(|id| Node { ttl: NEVER, ..Node::new(id, store.clone()) }).collect();
    for node in &mut nodes {
        node.start().await;
    }
    let places: Places = Arc::new(Mutex::new(listening(&nodes)));
    let address = nodes[0].up.as_ref().expect("it was started").0.address;
    let mut client = Client::new(TcpStream::connect(address).await.expect("connects"));
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let begun = Instant::now();
    let member = loop {
        match Member::join(&places, 0).await {
            Ok(member) => break member,
            Err(told) => assert!(begun.elapsed() < PATIENCE, "{told}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut at = member.goes_on(&places, 0).await;
    let (served_by, mut seen) = watch::channel(at);
    let staying = tokio::spawn(member.stay(places.clone(), served_by));
    // There, back, and there again.
    for _ in 0..3 {
        let leaving = nodes.iter().position(|node| node.id == at).expect("one of them");
        nodes[leaving].leave().await;
        *places.lock().expect("no panic") = listening(&nodes);
        let elsewhere = tokio::time::timeout(PATIENCE, seen.wait_for(|node| *node != at)).await;
        at = *elsewhere.expect("in time").expect("it is never told that it has no place");
        nodes[leaving].start().await;
        *places.lock().expect("no panic") = listening(&nodes);
    }
    drop(seen);
    let acknowledged = staying.await.expect("no panic");
    assert_eq!(committed_at_last(&places, 0).await, acknowledged);
    nodes.iter_mut().for_each(Node::kill);
}
