//! Partitions that go from one broker to another while both live, on a clock that jumps: for how long nobody can write to them is counted in
//! round trips to the store, and whatever timer is waited for shows.

use std::collections::BTreeMap;
use std::time::Duration;

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
use crate::links::{NEVER, Node, World};

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
async fn leaders(client: &mut Client<DuplexStream>) -> BTreeMap<i32, i32> {
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
