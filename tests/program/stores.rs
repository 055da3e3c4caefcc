//! Stores that refuse: what the program says when it starts on one, and how it goes on when one refuses for a while.

#[path = "../store_contract/small_disk.rs"]
mod small_disk;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, ProduceResponse};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::small_disk::SmallDisk;
use crate::bucket::{Bucket, Mode};
use crate::client::Client;
use crate::harness::{PRODUCE, batch, create_topic, fetch, produce_request, produced};
use crate::{Broker, on_bucket, on_s3};

const REFUSALS: [(Mode, &str); 4] = [
    (Mode::Denied, "the credentials may not do this to the bucket: check its policy"),
    (Mode::ReadOnly, "the credentials may not do this to the bucket: check its policy"),
    (Mode::Missing, "create the bucket, or check its name"),
    (Mode::Full, "the store is full"),
];

/// NOT_LEADER_OR_FOLLOWER: clients ask again.
const RETRIABLE: i16 = 6;

#[test]
fn a_start_on_a_store_that_refuses_says_what_to_do() {
    for (mode, advice) in REFUSALS {
        let bucket = Bucket::start(mode);
        let begun = Instant::now();
        let output = on_bucket(&bucket, &[]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{mode:?}: {error}");
        assert!(
            error.contains("alluvium: the store s3://bucket/prefix: ") && error.contains(advice),
            "{mode:?}: {error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{mode:?}: {:?}", begun.elapsed());
        assert_eq!(bucket.keys(), [""; 0], "{mode:?}");
    }
}

/// One record; `Err` when the connection ends instead, as it does with a session.
async fn produce(address: SocketAddr, value: &str) -> std::io::Result<(i16, i64)> {
    let mut client = Client::new(TcpStream::connect(address).await?);
    let request = produce_request("t", 0, batch(None, &[value]), -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await?;
    Ok(produced(&answer))
}

/// A client asks again: by the code, or because the session ended and its connections with it.
fn is_retriable(answer: &std::io::Result<(i16, i64)>) -> bool {
    matches!(answer, Ok((RETRIABLE, -1)) | Err(_))
}

/// Tries as clients do, until the record is acknowledged.
async fn produce_retrying(address: SocketAddr, value: &str) -> i64 {
    let begun = Instant::now();
    loop {
        match produce(address, value).await {
            Ok((0, offset)) => return offset,
            other => assert!(is_retriable(&other), "{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn refuses_for_a_while(mode: Mode, advice: &str) {
    let bucket = Bucket::start(Mode::Works);
    let broker = Broker::spawn(on_bucket(&bucket, &[]));
    let address = broker.word("Kafka clients").parse().unwrap();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(address, "a").await.unwrap(), (0, 0));
    bucket.set(mode);
    let refused = produce(address, "refused").await;
    assert!(is_retriable(&refused), "{mode:?}: {refused:?}");
    bucket.set(Mode::Works);
    assert_eq!(produce_retrying(address, "b").await, 1, "{mode:?}");
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let values: Vec<_> = fetch(&mut client, "t", 0).await.2.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["a", "b"], "{mode:?}");
    broker.signal(Signal::TERM);
    let (code, error) = broker.ended(Duration::from_secs(2));
    assert_eq!(code, Some(0), "{mode:?}: {error}");
    assert!(error.contains("the store refuses writes") && error.contains(advice), "{mode:?}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_for_a_while_costs_retriable_errors_only() {
    let mut runs: JoinSet<()> = REFUSALS.into_iter().map(|(mode, advice)| refuses_for_a_while(mode, advice)).collect();
    while let Some(done) = runs.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_retriable_errors_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let filler = disk.path().join("filler");
    let store = format!("file://{}/data", disk.path().display());
    let broker = Broker::start(&store, &[]);
    std::fs::File::create(&filler).unwrap().write_all(&vec![0; 20 << 20]).unwrap();
    let address = broker.word("Kafka clients").parse().unwrap();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let value = "x".repeat(900_000);
    let mut stored = 0;
    loop {
        match produce(address, &value).await {
            Ok((0, offset)) => assert_eq!(offset, stored),
            refused => break assert!(is_retriable(&refused), "{refused:?}"),
        }
        stored += 1;
        assert!(stored < 64, "the disk is small");
    }
    assert!(stored > 5, "there was room at first: {stored}");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(produce_retrying(address, "after").await, stored, "the refused records left no gap");
    broker.signal(Signal::TERM);
    let (code, error) = broker.ended(Duration::from_secs(2));
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("no space left") && error.contains("free some"), "{error}");
    let broker = Broker::start(&store, &[]);
    let mut client = Client::new(TcpStream::connect(broker.word("Kafka clients")).await.unwrap());
    for offset in 0..=stored {
        let (error, high_watermark, values) = fetch(&mut client, "t", offset).await;
        assert_eq!((error, high_watermark, values[0].0), (0, stored + 1, offset));
    }
}

#[test]
fn keys_region_and_endpoint_come_from_the_aws_profile() {
    let bucket = Bucket::start(Mode::Works);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let credentials = "[work]\naws_access_key_id = WORKKEY\naws_secret_access_key = s\naws_session_token = worktoken\n";
    let config = format!(
        "[profile work]\nregion = eu-central-1\nendpoint_url = http://{}\n[profile login]\nsso_session = x\n",
        bucket.address
    );
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();

    let mut command = on_s3(&[]);
    command.env("HOME", home.path()).env("AWS_PROFILE", "work");
    let broker = Broker::spawn(command);
    let signed_by = bucket.header("authorization").unwrap();
    assert!(signed_by.contains("Credential=WORKKEY/") && signed_by.contains("/eu-central-1/s3/"), "{signed_by}");
    assert_eq!(bucket.header("x-amz-security-token").as_deref(), Some("worktoken"));
    drop(broker);

    // Keys of the environment come first; the profile still says where.
    let mut command = on_s3(&[]);
    command.env("HOME", home.path()).env("AWS_PROFILE", "work");
    command.env("AWS_ACCESS_KEY_ID", "ENVKEY").env("AWS_SECRET_ACCESS_KEY", "s");
    let broker = Broker::spawn(command);
    let signed_by = bucket.header("authorization").unwrap();
    assert!(signed_by.contains("Credential=ENVKEY/") && signed_by.contains("/eu-central-1/s3/"), "{signed_by}");
    assert_eq!(bucket.header("x-amz-security-token"), None);
    drop(broker);

    for (profile, words) in [("login", "asks for an SSO login"), ("nobody", "has such a profile")] {
        let output = on_s3(&[]).env("HOME", home.path()).env("AWS_PROFILE", profile).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(words) && error.contains(profile), "{error}");
    }
}
