//! What a peer does with who answers well, late, wrong, or not at all.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::*;
use crate::links::{Dial, Links};
use crate::meta::entry::Change;
use crate::meta::table::TableRef;
use crate::meta::table::memory::MemoryTable;
use crate::meta::{MetaOptions, Metadata};
use crate::store::memory::MemoryStore;
use crate::types::env::testing::env;
use crate::wire::link::{decode_ask, encode_answer};

const TTL: Duration = Duration::from_secs(12);
const SESSION: SessionId = SessionId { revision: 7, random: 7 };

/// Hands the other ends of connections to the test.
struct Switchboard(mpsc::Sender<DuplexStream>);

#[async_trait]
impl Dial for Switchboard {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        assert_eq!((host, port), ("other", 9092));
        let (near, far) = tokio::io::duplex(4096);
        self.0.send(far).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(near))
    }
}

struct World {
    means: Means,
    calls: mpsc::Receiver<DuplexStream>,
}

impl World {
    async fn new() -> World {
        let (calls_to, calls) = mpsc::channel(1);
        let table: TableRef = Arc::new(MemoryTable::new());
        let env = env(1);
        let store = Arc::new(MemoryStore::shared());
        let meta = Metadata::open(store, table, env.clone(), MetaOptions::default()).await.expect("opens");
        let links = Arc::new(Links::default());
        let means = Means { links, meta, dial: Arc::new(Switchboard(calls_to)), env, ttl: TTL };
        let peer = Peer { session: SESSION, host: "other".to_owned(), port: 9092 };
        tokio::spawn(run(means.clone(), peer));
        World { means, calls }
    }

    async fn called(&mut self) -> DuplexStream {
        self.calls.recv().await.expect("it dials")
    }

    fn is_up(&self) -> bool {
        self.means.links.up_count() == 1
    }
}

/// Reads an ask; `None`: the connection was closed.
async fn asked(stream: &mut DuplexStream) -> Option<(i32, Ask)> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut frame).await.ok()?;
    Some(decode_ask(&frame).expect("an ask"))
}

fn answer(session: SessionId, revision: u64) -> Answer {
    Answer { session, committed: 3, nonce: 5, age_ms: 0, revision }
}

/// Answers the next ask; gives its revision.
async fn answers(stream: &mut DuplexStream, answer: Answer) -> u64 {
    let (id, ask) = asked(stream).await.expect("it asks");
    stream.write_all(&encode_answer(id, &answer)).await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(1)).await;
    ask.revision
}

#[tokio::test(start_paused = true)]
async fn who_closes_is_down_at_once_and_called_again() {
    let mut world = World::new().await;
    for _ in 0..3 {
        let mut stream = world.called().await;
        assert!(!world.is_up());
        for _ in 0..5 {
            answers(&mut stream, answer(SESSION, 0)).await;
            assert!(world.is_up());
        }
        let begun = Instant::now();
        drop(stream);
        let mut turns = world.means.links.turns();
        turns.changed().await.expect("open");
        assert!(!world.is_up() && begun.elapsed() < Duration::from_millis(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn asks_go_out_a_twelfth_of_a_ttl_apart_and_with_each_new_revision() {
    let mut world = World::new().await;
    let mut stream = world.called().await;
    answers(&mut stream, answer(SESSION, 0)).await;
    for _ in 0..5 {
        let begun = Instant::now();
        answers(&mut stream, answer(SESSION, 0)).await;
        assert!((990..=1010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for revision in 1..=3 {
        let change = move |_: &_| Ok::<_, Infallible>(vec![Change::SetCluster { session_ttl_ms: 1000 + revision }]);
        world.means.meta.propose(change).await.expect("changes");
        let begun = Instant::now();
        assert_eq!(answers(&mut stream, answer(SESSION, 0)).await, revision);
        let pause = NUDGE_PAUSE + Duration::from_millis(2);
        assert!(begun.elapsed() < pause, "{:?}", begun.elapsed());
        // Who did not read it yet is not told again and again.
        let begun = Instant::now();
        answers(&mut stream, answer(SESSION, revision - 1)).await;
        assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_or_strange_is_down() {
    let table: [(&str, Option<Vec<u8>>, u64, u64); 8] = [
        // (what, what is sent instead of the fourth answer, then down after so long, called again after so long)
        ("silence", Some(vec![]), 1000, 1101),
        ("half an answer", Some(vec![0, 0, 0, 54, 0]), 1000, 1101),
        ("too long", Some(vec![0, 0, 1, 1]), 1, 30_001),
        ("a negative length", Some(vec![255; 4]), 1, 30_001),
        ("an empty frame", Some(vec![0; 4]), 1, 30_001),
        (
            "another session",
            Some(encode_answer(3, &answer(SessionId { revision: 8, random: 8 }, 0)).to_vec()),
            1,
            30_001,
        ),
        ("the answer to another ask", Some(encode_answer(9, &answer(SESSION, 0)).to_vec()), 1, 30_001),
        ("an end", None, 1, 101),
    ];
    for (name, instead, down, again) in table {
        let mut world = World::new().await;
        let mut stream = world.called().await;
        for _ in 0..3 {
            answers(&mut stream, answer(SESSION, 0)).await;
        }
        asked(&mut stream).await.expect("it asks");
        let (begun, mut turns) = (Instant::now(), world.means.links.turns());
        match &instead {
            Some(bytes) => stream.write_all(bytes).await.expect("it reads"),
            None => stream.shutdown().await.expect("it reads"),
        }
        turns.changed().await.expect("open");
        assert!(begun.elapsed() <= Duration::from_millis(down), "{name}: {:?}", begun.elapsed());
        world.called().await;
        let took = begun.elapsed().as_millis();
        assert!(took <= u128::from(again) && took >= u128::from(again / 2), "{name}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_asks_is_asked_seldom() {
    let mut world = World::new().await;
    let begun = Instant::now();
    for _ in 0..10 {
        let mut stream = world.called().await;
        asked(&mut stream).await.expect("it asks");
    }
    assert!(begun.elapsed() >= DEAF_PAUSE * 9 && !world.is_up(), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_comes_unasked_ends_the_connection() {
    let mut world = World::new().await;
    let mut stream = world.called().await;
    answers(&mut stream, answer(SESSION, 0)).await;
    stream.write_all(&[0]).await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!world.is_up() && asked(&mut stream).await.is_none());
}
