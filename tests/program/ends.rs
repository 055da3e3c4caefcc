//! How the program ends while clients write: by one signal in order, by two at once, and what is there afterwards.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, ProduceResponse};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bucket::{Bucket, Mode};
use crate::client::Client;
use crate::harness::{PRODUCE, batch, create_topic, fetch, produce_request, produced};
use crate::{Broker, alluvium, on_bucket};

const WRITERS: usize = 3;
/// Requests that each has on the way.
const WINDOW: usize = 5;

/// What one writer was told.
struct Told {
    topic: String,
    /// Offset and value of each record that was acknowledged.
    acknowledged: Vec<(i64, String)>,
}

fn address(broker: &Broker) -> SocketAddr {
    broker.word("Kafka clients").parse().unwrap()
}

async fn connect(address: SocketAddr) -> Client<TcpStream> {
    Client::new(TcpStream::connect(address).await.unwrap())
}

/// Starts writers; `count` is what they were told so far, all together.
async fn writers(address: SocketAddr, count: &Arc<AtomicUsize>) -> JoinSet<Told> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = connect(address).await;
        let topic = format!("t{writer}");
        assert_eq!(create_topic(&mut client, &topic, 1).await, 0);
        writers.spawn(write(client, topic, count.clone()));
    }
    writers
}

/// Writes until the connection ends.
async fn write(mut client: Client<TcpStream>, topic: String, count: Arc<AtomicUsize>) -> Told {
    let mut told = Told { topic, acknowledged: Vec::new() };
    let mut sent = VecDeque::new();
    for number in 0.. {
        let value = number.to_string();
        let request = produce_request(&told.topic, 0, batch(None, &[&value]), -1);
        let Ok(id) = client.send(ApiKey::Produce, PRODUCE, &request).await else { break };
        sent.push_back((id, value));
        if sent.len() < WINDOW {
            continue;
        }
        let (id, value) = sent.pop_front().unwrap();
        let Ok(answer) = client.receive::<ProduceResponse>(id, PRODUCE).await else { break };
        if let (0, offset) = produced(&answer) {
            told.acknowledged.push((offset, value));
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
    // What could still be sent may be answered, too.
    for (id, value) in sent {
        let Ok(answer) = client.receive::<ProduceResponse>(id, PRODUCE).await else { break };
        if let (0, offset) = produced(&answer) {
            told.acknowledged.push((offset, value));
        }
    }
    told
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every record that was acknowledged is there, at its offset, once.
async fn check(address: SocketAddr, writers: JoinSet<Told>) {
    let mut client = connect(address).await;
    for told in writers.join_all().await {
        assert!(!told.acknowledged.is_empty(), "{} was never told anything", told.topic);
        let mut records = Vec::new();
        loop {
            let (error, high_watermark, more) = fetch(&mut client, &told.topic, records.len() as i64).await;
            assert_eq!(error, 0, "{}", told.topic);
            records.extend(more);
            if records.len() as i64 >= high_watermark {
                break;
            }
        }
        for (at, (offset, value)) in records.iter().enumerate() {
            assert_eq!((*offset, value), (at as i64, &at.to_string()), "in order, without gaps or repetitions");
        }
        for acknowledged in &told.acknowledged {
            assert_eq!(records.get(acknowledged.0 as usize), Some(acknowledged), "{} lost it", told.topic);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_exits_at_once_and_loses_nothing_acknowledged() {
    let hang = (Mode::Hangs, Signal::TERM, Signal::TERM);
    let slow = (Mode::Slow(Duration::from_secs(3)), Signal::INT, Signal::TERM);
    for (mode, first, second) in [hang, slow] {
        let bucket = Bucket::start(Mode::Works);
        let broker = Broker::spawn(on_bucket(&bucket, &["--flush-interval-ms", "2", "--node-id", "1"]));
        let count = Arc::new(AtomicUsize::new(0));
        let writers = writers(address(&broker), &count).await;
        until("acknowledgements", || count.load(Ordering::SeqCst) > 100).await;
        bucket.set(mode);
        broker.signal(first);
        // The drain waits for the segments on the way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.signal(second);
        let (code, error) = broker.ended(Duration::from_millis(500));
        assert_eq!(code, Some(130), "{mode:?}: {error}");
        assert!(error.contains("second signal: exiting at once"), "{error}");
        // What was on its way to the store lands late, or never, beside the next broker's start.
        bucket.set(Mode::Works);
        let broker = Broker::spawn(on_bucket(&bucket, &["--node-id", "1"]));
        check(address(&broker), writers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_ends_in_time_under_load_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}/data", folder.path().display());
    let bucket = Bucket::start(Mode::Slow(Duration::from_millis(60)));
    let local = || alluvium(&["--store", &store, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let remote = || on_bucket(&bucket, &["--flush-interval-ms", "10"]);
    let starts: [(&dyn Fn() -> Command, Signal); 2] = [(&local, Signal::TERM), (&remote, Signal::INT)];
    for (start, signal) in starts {
        let broker = Broker::spawn(start());
        let count = Arc::new(AtomicUsize::new(0));
        let writers = writers(address(&broker), &count).await;
        until("acknowledgements", || count.load(Ordering::SeqCst) > 100).await;
        broker.signal(signal);
        let (code, error) = broker.ended(Duration::from_secs(2));
        assert_eq!(code, Some(0), "{error}");
        // The next one listens elsewhere, so on a bucket it is another broker, and serves what the first one gave up all the same.
        let broker = Broker::spawn(start());
        check(address(&broker), writers).await;
    }
}

/// One record is on its way to the store and another behind it when the signal comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_is_acknowledged_before_the_end() {
    let bucket = Bucket::start(Mode::Works);
    let broker = Broker::spawn(on_bucket(&bucket, &["--flush-interval-ms", "300"]));
    let mut client = connect(address(&broker)).await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    bucket.set(Mode::Slow(Duration::from_millis(400)));
    let mut ids = Vec::new();
    for value in ["0", "1"] {
        let request = produce_request("t", 0, batch(None, &[value]), -1);
        ids.push(client.send(ApiKey::Produce, PRODUCE, &request).await.unwrap());
        until("an upload", || bucket.waiting() > 0).await;
    }
    until("both to be read", || broker.page("/metrics").contains("alluvium_produce_requests_total 2\n")).await;
    broker.signal(Signal::TERM);
    for (at, id) in ids.into_iter().enumerate() {
        let answer: ProduceResponse = client.receive(id, PRODUCE).await.unwrap();
        assert_eq!(produced(&answer), (0, at as i64));
    }
    let (code, error) = broker.ended(Duration::from_secs(2));
    assert_eq!(code, Some(0), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_start_that_waits_for_the_store() {
    let bucket = Bucket::start(Mode::Silent);
    let child = on_bucket(&bucket, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let broker = Broker { child, banner: String::new() };
    until("a request", || bucket.waiting() > 0).await;
    broker.signal(Signal::TERM);
    let (code, error) = broker.ended(Duration::from_secs(2));
    assert_eq!(code, Some(0), "{error}");
}
