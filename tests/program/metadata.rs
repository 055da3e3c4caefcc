//! `alluvium metadata` on a folder, beside a broker and after it, and `--metadata` where no server is.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{Broker, run};

#[test]
fn the_table_of_a_folder_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().display());
    let (code, _, error) = run(&["metadata", "dump", "--store", &store]);
    assert!(code == 1 && error.contains("no cluster there"), "{error}");
    let broker = Broker::start(&store, &[]);
    let (code, text, error) = run(&["metadata", "dump", "--store", &store]);
    assert_eq!((code, error.as_str()), (0, ""), "beside a broker that runs");
    let entries: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.len() >= 2, "{text}");
    assert!((1..).zip(&entries).all(|(revision, entry)| entry["revision"] == revision), "{text}");
    let (code, rest, _) = run(&["metadata", "dump", "--from", "2", "--store", &store]);
    assert_eq!((code, rest.lines().count()), (0, entries.len() - 1));
    let (code, text, _) = run(&["--store", &store, "metadata", "verify"]);
    assert!(code == 0 && text.contains("table        bucket, moved 0 times"), "{text}");
    let (code, _, error) =
        run(&["metadata", "copy", "--to", "postgres://al:s3cret@127.0.0.1:1/log", "--store", &store]);
    assert!(code == 1 && error.contains("is in use by"), "{error}");
    broker.signal(Signal::TERM);
    assert_eq!(broker.ended(Duration::from_secs(20)).0, Some(0));

    std::fs::remove_file(folder.path().join("meta/log/00000000000000000001")).unwrap();
    let (code, text, _) = run(&["metadata", "verify", "--json", "--store", &store]);
    let audit: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(code == 1 && audit["faults"][0] == "revisions 1 to 1 are not there, 2 is", "{text}");
    let (code, _, error) = run(&["metadata", "copy", "--store", &store]);
    assert!(code == 2 && error.contains("--to"), "{error}");
    let (code, _, error) = run(&["metadata", "copy", "--to", "postgres://al:s3cret@/log", "--store", &store]);
    assert!(code == 2 && error.contains("say the host") && !error.contains("s3cret"), "{error}");
}

#[test]
fn a_table_that_nobody_serves_ends_the_start_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().display());
    let begun = Instant::now();
    let (code, text, error) = run(&[
        "--store",
        &store,
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--log-level=trace",
        "--metadata",
        "postgres://al:s3cret@127.0.0.1:1/log",
    ]);
    assert!(code == 1 && error.contains("database \"log\" on 127.0.0.1:1") && error.contains("refused"), "{error}");
    assert!(!error.contains("s3cret") && !text.contains("s3cret"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(!folder.path().join("meta/cluster").exists(), "nothing is founded");
    let (code, text, _) = run(&["config", "--metadata", "postgres://al:s3cret@127.0.0.1:1/log"]);
    assert!(code == 0 && text.contains("postgres://al:***@127.0.0.1:1/log"), "{text}");
    assert!(!text.contains("s3cret"));
}
