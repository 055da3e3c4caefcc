//! Partitions that go from one broker to another while both live, on a clock that jumps: for how long nobody can write to them is counted in
//! round trips to the store, and whatever timer is waited for shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::meta::entry::{Change, Entry};
use alluvium::meta::hash;
use alluvium::meta::image::Image;
use alluvium::server::memory::Network;
use alluvium::store::fault::{Call, Fault};
use alluvium::wire::codec::Codec;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, ProduceResponse};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{PRODUCE, create_topic, produce_request, timed_batch, topic_name};
use crate::links::{NEVER, Node, TTL, World, entry, until};

const PARTITIONS: i32 = 12;
const NODES: [u16; 3] = [1, 2, 3];

/// Every call of the store takes so long.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Where the clock of these brokers begins.
const NOW_MS: i64 = 1_700_000_000_000;

const NOT_LEADER: i16 = 6;

/// A transfer is an append and a look whether it counts; the successor reads it, and looks, reads footers and writes: six round trips, which most
/// moves take. A few take 200 ms, probably the pause between hints or looks (50 ms) and a read more; nobody has followed them up yet. The
/// pause of a flush (100 ms), of a poll or a back-off is not in it.
const LIMIT: Duration = Duration::from_millis(210);

/// Writes one small record after another into a partition, and goes where refusals send it.
struct Writer {
    network: Network,
    partition: i32,
    clients: BTreeMap<i32, Client<DuplexStream>>,
    leader: i32,
}

/// How often the leader was another one than that of the record before, and the longest time from the first try of such a record to its
/// acknowledgement.
#[derive(Debug, Default)]
struct Seen {
    moves: usize,
    longest: Duration,
}

impl Writer {
    fn start(world: &World, partition: i32, stop: CancellationToken) -> JoinHandle<Seen> {
        let network = world.links.network.clone();
        let mut writer = Writer { network, partition, clients: BTreeMap::new(), leader: i32::from(NODES[0]) };
        tokio::spawn(async move {
            let (mut seen, mut last) = (Seen::default(), None);
            while !stop.is_cancelled() {
                let begun = Instant::now();
                while !writer.write().await {
                    assert!(begun.elapsed() < Duration::from_secs(10), "partition {partition} can't be written to");
                }
                if last.is_some_and(|last| last != writer.leader) {
                    seen.moves += 1;
                    seen.longest = seen.longest.max(begun.elapsed());
                }
                last = Some(writer.leader);
                sleep(Duration::from_millis(7)).await;
            }
            seen
        })
    }

    /// One try. `false`: the record was refused, for somebody else leads, or the connection ended.
    async fn write(&mut self) -> bool {
        let request = produce_request("t", self.partition, timed_batch(Codec::None, &[NOW_MS]), -1);
        let told = match self.client().await {
            Some(client) => client.call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request).await.ok(),
            None => None,
        };
        let Some(answer) = told else {
            self.clients.remove(&self.leader);
            self.look().await;
            return false;
        };
        let told = &answer.responses[0].partition_responses[0];
        if told.error_code == 0 {
            return true;
        }
        assert_eq!(told.error_code, NOT_LEADER, "{told:?}");
        match told.current_leader.leader_id.0 {
            named if named >= 0 && named != self.leader => self.leader = named,
            _ => self.look().await,
        }
        false
    }

    async fn client(&mut self) -> Option<&mut Client<DuplexStream>> {
        if !self.clients.contains_key(&self.leader) {
            let port = u16::try_from(self.leader).ok()?;
            let stream = self.network.connect("broker", port).await.ok()?;
            self.clients.insert(self.leader, Client::new(stream));
        }
        self.clients.get_mut(&self.leader)
    }

    /// Asks any broker who leads.
    async fn look(&mut self) {
        sleep(Duration::from_millis(1)).await;
        for node in NODES {
            let Ok(stream) = self.network.connect("broker", node).await else { continue };
            if let Some(leader) = leaders(&mut Client::new(stream)).await.get(&self.partition) {
                self.leader = *leader;
                return;
            }
        }
    }
}

/// Who leads what, as this broker tells.
pub async fn leaders(client: &mut Client<DuplexStream>) -> BTreeMap<i32, i32> {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
    let Ok(answer) = client.call::<_, MetadataResponse>(ApiKey::Metadata, 9, &request).await else {
        return BTreeMap::new();
    };
    let led = answer.topics[0].partitions.iter().filter(|partition| partition.error_code == 0);
    led.map(|partition| (partition.partition_index, partition.leader_id.0)).collect()
}

/// Waits until all brokers say that each of them leads something.
async fn shared(world: &World) {
    let begun = Instant::now();
    loop {
        let mut told = Vec::new();
        for node in NODES {
            let leaders = leaders(&mut world.client(node).await).await;
            let all_lead = NODES.iter().all(|node| leaders.values().any(|leader| *leader == i32::from(*node)));
            told.push((leaders.len(), all_lead));
        }
        if told.iter().all(|told| *told == (PARTITIONS as usize, true)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn slow_down(node: &Node) {
    for call in [Call::Create, Call::Read, Call::Other] {
        node.store.script(call, "", vec![Fault::DelayBefore(ROUND_TRIP); 100_000]);
    }
}

/// A rolling restart.
#[tokio::test(start_paused = true)]
async fn a_move_waits_for_no_poll_and_no_flush() {
    let world = World::new(NEVER);
    let mut nodes = Vec::new();
    for node in NODES {
        nodes.push(world.start(node).await);
    }
    assert_eq!(create_topic(&mut world.client(1).await, "t", PARTITIONS).await, 0);
    shared(&world).await;
    nodes.iter().for_each(slow_down);
    let stop = CancellationToken::new();
    let writers: Vec<_> = (0..PARTITIONS).map(|partition| Writer::start(&world, partition, stop.clone())).collect();
    sleep(Duration::from_secs(3)).await;
    for node in NODES {
        let old = nodes.remove(0);
        old.shutdown.cancel();
        old.running.await.expect("no panic").expect("a clean end");
        nodes.push(world.start(node).await);
        slow_down(nodes.last().expect("just started"));
        shared(&world).await;
        sleep(Duration::from_secs(1)).await;
    }
    stop.cancel();
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.await.expect("no panic"));
    }
    let moves: usize = all.iter().map(|seen| seen.moves).sum();
    assert!(moves >= PARTITIONS as usize, "each broker gave away what it led, and got it back: {all:?}");
    let longest = all.iter().map(|seen| seen.longest).max().expect("some");
    let by_partition: Vec<_> = all.iter().map(|seen| seen.longest).collect();
    println!("{moves} moves; the longest without a write, by partition: {by_partition:?}");
    assert!(longest <= LIMIT, "{longest:?}");
}

/// So many leases go to a broker that came in one entry, with so long between two of them: `STEP` and `STEP_PAUSE` in `src/log/handover.rs`.
const STEP: usize = 50;
const STEP_PAUSE: Duration = Duration::from_millis(250);

const MANY: i32 = 1_000;

/// The table is looked at so often.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Indexes whose leases went in one entry, and when it was seen.
type Move = (Instant, Vec<i32>);

/// Notes each entry that moves leases, when it comes.
fn watch_moves(world: &World) -> Arc<Mutex<Vec<Move>>> {
    let moves: Arc<Mutex<Vec<Move>>> = Arc::default();
    let (noted, bucket) = (moves.clone(), world.bucket.clone());
    tokio::spawn(async move {
        let mut revision = 1;
        loop {
            let Some(entry) = entry(&bucket, revision).await else {
                sleep(LOOK_PAUSE).await;
                continue;
            };
            let indexes = moved_by(&entry);
            if !indexes.is_empty() {
                noted.lock().expect("no panic").push((Instant::now(), indexes));
            }
            revision += 1;
        }
    });
    moves
}

fn moved_by(entry: &Entry) -> Vec<i32> {
    let transfers = entry.changes.iter().filter_map(|change| match change {
        Change::TransferLease { partitions, .. } => Some(partitions),
        _ => None,
    });
    transfers.flatten().flat_map(|moved| moved.indexes.iter().copied()).collect()
}

/// Which partitions of the topic a node has the highest hash of.
fn share_of(image: &Image, node: i32) -> BTreeSet<i32> {
    let (topic, state) = image.topic_named("t").expect("it was made");
    let ready: Vec<_> = image.ready_sessions().map(|(id, session)| (id, session.node_id)).collect();
    let count = i32::try_from(state.partitions.len()).expect("they are few");
    let of_node = |index: &i32| {
        let best = hash::choose(topic, *index, &ready).expect("somebody is ready");
        image.sessions[&best].node_id == node
    };
    (0..count).filter(of_node).collect()
}

/// Whose lease moves is not served for a moment. So that this is a moment for a few at a time, they move a few at a time; and each only once.
#[tokio::test(start_paused = true)]
async fn who_comes_gets_its_share_a_step_at_a_time() {
    let world = World::new(NEVER);
    let seen = watch_moves(&world);
    let _one = world.start(1).await;
    assert_eq!(create_topic(&mut world.client(1).await, "t", MANY).await, 0);
    let _two = world.start(2).await;
    let share = world.observer().await.read(|image| share_of(image, 2));
    assert!((400..=600).contains(&share.len()), "about half: {}", share.len());
    let count = || seen.lock().expect("no panic").iter().map(|(_, indexes)| indexes.len()).sum::<usize>();
    until(10 * TTL, async || count() >= share.len()).await;
    // Nor does anything move later.
    sleep(6 * TTL).await;
    let moves = seen.lock().expect("no panic").clone();
    let sizes: Vec<usize> = moves.iter().map(|(_, indexes)| indexes.len()).collect();
    let pauses: Vec<Duration> = moves.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    println!("{} of {MANY} leases moved, {sizes:?} at a time, with pauses of {pauses:?}", share.len());
    assert!(sizes.iter().all(|size| *size <= STEP), "{sizes:?}");
    assert!(pauses.iter().all(|pause| *pause >= STEP_PAUSE - 2 * LOOK_PAUSE), "{pauses:?}");
    let mut moved: Vec<i32> = moves.into_iter().flat_map(|(_, indexes)| indexes).collect();
    moved.sort_unstable();
    assert!(moved.iter().eq(&share), "its share, each once, and nothing else: {moved:?}");
    for node in [1, 2] {
        let leaders = leaders(&mut world.client(node).await).await;
        let led = leaders.iter().filter(|(_, leader)| **leader == 2).map(|(index, _)| index);
        assert!(led.eq(&share), "as broker {node} tells: {leaders:?}");
    }
}
