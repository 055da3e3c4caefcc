//! The metadata table alone is away for a while, on a clock that jumps. Who holds leases goes on: his segments in the bucket are his
//! heartbeat, and nothing that he acknowledges needs the table. What needs it is refused in time and can be asked for again, nobody is closed
//! for it, then or later, and the table is not overrun by those who wait for it.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::meta::entry::Change;
use alluvium::server::memory::Network;
use alluvium::store::{ListedObject, ReadBytes, ReadRange, Store, StoreError, StoreRef};
use alluvium::wire::codec::Codec;
use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ProduceResponse};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::handovers::leaders;
use crate::harness::{PRODUCE, create_topic, produce_request, produced, timed_batch};
use crate::links::{TTL, World, entry, sessions, until};

const NODES: [u16; 2] = [1, 2];
const PARTITIONS: i32 = 12;
const OUTAGE: Duration = Duration::from_secs(600);

/// As brokers poll where nobody tells them of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Where the clock of these brokers begins.
const NOW_MS: i64 = 1_700_000_000_000;

/// A record is written so often, and is acknowledged in time: it waits for a segment, which is sealed within a tenth of a second.
const WRITE_PAUSE: Duration = Duration::from_secs(2);
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// One task of a broker asks the table, one thing after the other, with pauses from 20 ms to 1 s, of which chance takes up to a half: two calls a
/// second while it waits, and half a dozen more where it begins anew, all 10 s. So these are twice and three times what is to be expected.
const CALLS_A_SECOND: usize = 5;
const CALLS_IN_ANY_SECOND: usize = 20;

/// When the table is back, an attempt that hangs ends within 10 s, and a pause within one.
const BACK_WITHIN: Duration = Duration::from_secs(60);

const REQUEST_TIMED_OUT: i16 = 7;
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// How the table is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// No answer comes.
    Hangs,
    /// "Later."
    Busy,
    /// "No."
    Denied,
}

/// A broker's way to the bucket, on which the metadata table can be away, and nothing else. Notes when the table was asked for.
struct Door {
    bucket: StoreRef,
    away: Mutex<Option<Away>>,
    asked: Mutex<Vec<Instant>>,
}

impl Door {
    fn new(bucket: StoreRef) -> Arc<Door> {
        Arc::new(Door { bucket, away: Mutex::default(), asked: Mutex::default() })
    }

    fn set_away(&self, away: Option<Away>) {
        *self.away.lock().expect("no panic") = away;
    }

    /// When the table was asked for since the last call.
    fn asked(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }

    async fn passes(&self, key: &str) -> Result<(), StoreError> {
        if !key.contains("meta/") {
            return Ok(());
        }
        self.asked.lock().expect("no panic").push(Instant::now());
        let away = *self.away.lock().expect("no panic");
        match away {
            None => Ok(()),
            Some(Away::Hangs) => pending().await,
            Some(Away::Busy) => Err(StoreError::busy(key, "the table is away")),
            Some(Away::Denied) => Err(StoreError::permanent(key, "the table is away")),
        }
    }
}

#[async_trait]
impl Store for Door {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.passes(key).await?;
        self.bucket.create(key, body).await
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        self.passes(key).await?;
        self.bucket.read(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.passes(key).await?;
        self.bucket.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.passes(prefix).await?;
        self.bucket.list(prefix, after, limit).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.passes(prefix).await?;
        self.bucket.list_folders(prefix).await
    }

    fn describe(&self) -> String {
        self.bucket.describe()
    }

    fn endpoint(&self) -> String {
        self.bucket.endpoint()
    }

    fn is_shared(&self) -> bool {
        self.bucket.is_shared()
    }
}

/// Writes one small record after another where a broker leads, and never hears anything but yes. Gives how many, and the longest time that one
/// took.
async fn write_on(network: Network, node: u16, partition: i32, stop: CancellationToken) -> (u32, Duration) {
    let mut client = Client::new(network.connect("broker", node).await.expect("it listens"));
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stop.is_cancelled() {
        let request = produce_request("t", partition, timed_batch(Codec::None, &[NOW_MS]), -1);
        let sent = Instant::now();
        let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
        assert_eq!(produced(&answer).0, 0, "broker {node}, record {count}, in a partition that it leads");
        (count, longest) = (count + 1, longest.max(sent.elapsed()));
        sleep(WRITE_PAUSE).await;
    }
    (count, longest)
}

/// Creates a topic as a client does that asks again after a time-out: the first try may have come to be. Tells how long that took.
async fn created_at_last(world: &World, node: u16, name: &str) -> Duration {
    until(BACK_WITHIN, async || match create_topic(&mut world.client(node).await, name, 1).await {
        0 | TOPIC_ALREADY_EXISTS => true,
        code => {
            assert_eq!(code, REQUEST_TIMED_OUT, "{name}");
            false
        }
    })
    .await
}

/// How often the table was asked within a second at the most.
fn busiest_second(asked: &[Instant]) -> usize {
    let within = |from: usize| {
        let end = asked[from] + Duration::from_secs(1);
        asked[from..].iter().take_while(|at| **at < end).count()
    };
    (0..asked.len()).map(within).max().unwrap_or(0)
}

/// Sessions that were ever closed.
async fn fenced(world: &World) -> usize {
    let mut count = 0;
    for revision in 1.. {
        let Some(entry) = entry(&world.bucket, revision).await else { break };
        count += entry.changes.iter().filter(|change| matches!(change, Change::FenceSession { .. })).count();
    }
    count
}

async fn ten_minutes_without_the_table(away: Away) {
    let world = World::new(POLL_INTERVAL);
    let doors = NODES.map(|_| Door::new(world.bucket.clone()));
    for (node, door) in NODES.into_iter().zip(&doors) {
        world.start_on(node, door.clone()).await;
    }
    assert_eq!(create_topic(&mut world.client(1).await, "t", PARTITIONS).await, 0);
    sleep(10 * TTL).await;
    let (before, led) = (sessions(&world).await, leaders(&mut world.client(2).await).await);
    let stop = CancellationToken::new();
    let writers = NODES.map(|node| {
        let (partition, _) = led.iter().find(|(_, leader)| **leader == i32::from(node)).expect("it leads some");
        tokio::spawn(write_on(world.links.network.clone(), node, *partition, stop.clone()))
    });
    let begun = Instant::now();
    for door in &doors {
        door.set_away(Some(away));
        door.asked();
    }
    sleep(OUTAGE / 10).await;
    for node in NODES {
        let code = create_topic(&mut world.client(node).await, &format!("meanwhile-{node}"), 1).await;
        assert_eq!(code, REQUEST_TIMED_OUT, "broker {node}: one that can be asked for again");
    }
    sleep_until(begun + OUTAGE).await;
    for (node, door) in NODES.into_iter().zip(&doors) {
        let asked = door.asked();
        let (count, busiest) = (asked.len(), busiest_second(&asked));
        println!("{away:?}: broker {node} asked {count} times in {OUTAGE:?}, {busiest} times in one second");
        assert!((1..=CALLS_A_SECOND * OUTAGE.as_secs() as usize).contains(&count), "broker {node}: {count}");
        assert!(busiest <= CALLS_IN_ANY_SECOND, "broker {node}: {busiest}");
        door.set_away(None);
    }
    for node in NODES {
        for name in ["afterwards", "meanwhile"] {
            let took = created_at_last(&world, node, &format!("{name}-{node}")).await;
            println!("{away:?}: broker {node} created {name}-{node} {took:?} later");
        }
    }
    sleep(3 * TTL).await;
    stop.cancel();
    for writer in writers {
        let (count, longest) = writer.await.expect("it was acknowledged all the time");
        println!("{away:?}: {count} records, within {longest:?}");
        assert!(longest <= ACKNOWLEDGED_WITHIN, "{longest:?}");
        assert!(count >= 200, "{count}");
    }
    assert_eq!(sessions(&world).await, before);
    assert_eq!(fenced(&world).await, 0, "nobody was closed, and nobody had to come back");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_hangs_ends_nobody() {
    ten_minutes_without_the_table(Away::Hangs).await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_busy_ends_nobody() {
    ten_minutes_without_the_table(Away::Busy).await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_refuses_ends_nobody() {
    ten_minutes_without_the_table(Away::Denied).await;
}
