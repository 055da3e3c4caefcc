//! Rolling upgrades with real processes: programs of two earlier commits and this one on one store, one after the other and side by side.
//!
//! `tests/run upgrade` builds the old programs (tests/lib/suites.sh says which commits they are, and why) and starts MinIO.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[allow(dead_code, reason = "the broker's own tests send raw bytes, too")]
#[path = "broker/client.rs"]
mod client;
#[allow(dead_code, reason = "only its requests are used here")]
#[path = "broker/harness.rs"]
mod harness;
#[path = "upgrade/process.rs"]
mod process;
#[path = "upgrade/records.rs"]
mod records;

use std::time::Duration;

use process::{End, PATIENCE, Place, Version};
use records::{Records, nodes};

/// Windows of a moment, so that there are runs soon where there may be any.
const MERGE_SOON: &str = "--merge-window-ms=200";
const HELD: &[&str] = &["--feature-level=1", MERGE_SOON, "--feature-level-settle-ms=0"];
const FREE: &[&str] = &[MERGE_SOON, "--feature-level-settle-ms=1000"];

/// Longer than a level and a window need.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Old and new take turns on a store; the level is held back, then it rises.
async fn there_and_back(place: &Place, old: Version, end: End) {
    let broker = place.broker(old, 1, &[]);
    let mut records = Records::create(&broker).await;
    records.write(&broker).await;
    broker.end(end);

    for _ in 0..2 {
        let broker = place.broker(Version::New, 1, HELD);
        records.read(&broker).await;
        records.write(&broker).await;
        tokio::time::sleep(LONG_ENOUGH / 2).await;
        assert_eq!(broker.level(), Some(1));
        broker.end(end);
    }
    assert!(place.entry_versions().iter().all(|version| *version == 1));
    assert!(!place.objects().await.keys().any(|key| key.starts_with("runs/")), "runs are not known at level 1");
    assert_eq!(place.verified_level().split(',').next(), Some("1"));

    let broker = place.broker(old, 1, &[]);
    records.read(&broker).await;
    records.write(&broker).await;
    records.read(&broker).await;
    broker.end(end);

    let broker = place.broker(Version::New, 1, FREE);
    records.read(&broker).await;
    broker.comes_to_level(2).await;
    records.write(&broker).await;
    let merged = async {
        while !place.objects().await.keys().any(|key| key.ends_with("/manifest")) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, merged).await.unwrap_or_else(|_| panic!("nothing is merged\n{}", broker.log()));
    records.read(&broker).await;
    broker.end(end);

    let before = place.objects().await;
    let error = place.refuses(old, 1);
    assert!(error.contains("version 2 is unknown") && error.contains("a newer Alluvium wrote it"), "{error}");
    assert_eq!(place.objects().await, before, "who can't read it changes nothing");

    let broker = place.broker(Version::New, 1, HELD);
    records.read(&broker).await;
    records.write(&broker).await;
    assert_eq!(broker.level(), Some(2), "it never falls");
    broker.end(End::Stop);
    assert_eq!(place.verified_level().split(',').next(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_goes_there_and_back_on_a_directory() {
    there_and_back(&Place::local(), Version::One, End::Stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_goes_there_and_back_on_a_bucket_and_dies_each_time() {
    there_and_back(&Place::minio("one"), Version::One, End::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_neighbours_goes_there_and_back() {
    there_and_back(&Place::minio("neighbours"), Version::Neighbours, End::Stop).await;
}

/// An old and a new broker serve one bucket, either of them goes and comes back, and only when the old one is gone the level rises.
async fn side_by_side(place: &Place, old: Version) {
    let first = place.broker(old, 1, &[]);
    let second = place.broker(Version::New, 2, FREE);
    let mut records = Records::create(&first).await;
    assert_eq!(nodes(&first).await, [1, 2].into(), "both lead");
    records.write(&first).await;
    records.write(&second).await;
    records.read(&first).await;
    records.read(&second).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(second.level(), Some(1), "an older one is open");

    // The new one goes; by its last entry the old one has everything.
    second.end(End::Stop);
    records.read(&first).await;
    records.write(&first).await;
    assert_eq!(nodes(&first).await, [1].into());

    // It comes back. What the old one leads it goes on leading, for it knows no hand-over.
    let second = place.broker(Version::New, 2, FREE);
    records.write(&second).await;
    records.read(&second).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(second.level(), Some(1), "an older one is open still");
    assert!(place.entry_versions().iter().all(|version| *version == 1));

    // The old one dies and is closed; then the level rises, and there is no way back.
    first.end(End::Kill);
    records.read(&second).await;
    records.write(&second).await;
    assert_eq!(nodes(&second).await, [2].into());
    second.comes_to_level(2).await;
    let error = place.refuses(old, 1);
    assert!(error.contains("version 2 is unknown"), "{error}");

    // Its successor is a new one, and gets its share by a hand-over, while clients write on.
    let first = place.broker(Version::New, 1, FREE);
    let shared = async {
        while nodes(&second).await != [1, 2].into() {
            records.write(&second).await;
        }
    };
    tokio::time::timeout(PATIENCE, shared).await.unwrap_or_else(|_| panic!("no share\n{}", second.log()));
    records.read(&first).await;
    records.write(&first).await;
    records.read(&second).await;
    first.end(End::Stop);
    second.end(End::Stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_and_a_new_one_serve_a_bucket() {
    side_by_side(&Place::minio("beside-one"), Version::One).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_neighbours_and_a_new_one_serve_a_bucket() {
    side_by_side(&Place::minio("beside-neighbours"), Version::Neighbours).await;
}
