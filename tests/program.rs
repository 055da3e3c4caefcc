//! The program as a user starts it: exit codes, messages, where it listens, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[path = "program/bucket.rs"]
mod bucket;
#[allow(dead_code, reason = "the broker's own tests send raw bytes, too")]
#[path = "broker/client.rs"]
mod client;
#[path = "program/ends.rs"]
mod ends;
#[allow(dead_code, reason = "only its requests are used here")]
#[path = "broker/harness.rs"]
mod harness;
#[path = "program/metadata.rs"]
mod metadata;
#[path = "program/stores.rs"]
mod stores;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program with no setting from outside.
fn alluvium(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALLUVIUM_"));
    ours.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = alluvium(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A broker on free ports and on a bucket of the test's own.
fn on_bucket(bucket: &bucket::Bucket, more: &[&str]) -> Command {
    let endpoint = format!("http://{}", bucket.address);
    let mut command = on_s3(&[&["--s3-endpoint", &endpoint], more].concat());
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

/// A broker on S3, with nothing of AWS in its environment and home.
fn on_s3(more: &[&str]) -> Command {
    let mut arguments = vec!["--store", "s3://bucket/prefix", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    arguments.extend(more);
    let mut command = alluvium(&arguments);
    let aws = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"));
    aws.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("HOME", "/nonexistent");
    command
}

/// A broker on free ports, killed when it is dropped.
struct Broker {
    child: Child,
    /// What the banner says.
    banner: String,
}

impl Broker {
    fn start(store: &str, more: &[&str]) -> Broker {
        let mut arguments = vec!["--store", store, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        arguments.extend(more);
        Broker::spawn(alluvium(&arguments))
    }

    /// Waits for the banner.
    fn spawn(mut command: Command) -> Broker {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        while !banner.contains("Ctrl-C") {
            let Some(line) = lines.next() else {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("the broker did not start:\n{banner}{error}");
            };
            banner = banner + &line.unwrap() + "\n";
        }
        Broker { child, banner }
    }

    /// The word behind `before` in the banner.
    fn word(&self, before: &str) -> &str {
        self.banner.split_once(before).unwrap().1.split_whitespace().next().unwrap()
    }

    fn page(&self, path: &str) -> String {
        let admin = self.word("metrics http://").trim_end_matches("/metrics");
        let mut connection = TcpStream::connect(admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Exit code and stderr, once it has ended by itself.
    fn ended(mut self, limit: Duration) -> (Option<i32>, String) {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running after {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status.code(), error)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wrong_settings_are_usage_errors_that_name_the_nearest() {
    for (arguments, message) in [
        (vec!["--flsh-bytes", "1"], "--flush-bytes"),
        (vec!["--set", "num.partition=3"], "the nearest is \"num.partitions\""),
        (vec!["--flush-inflight", "65"], "flush-inflight = \"65\": must be from 1 to 64"),
        (vec!["--store", "/data"], "a directory: file:///data"),
        (vec!["--listen", "0.0.0.0:9092"], "--advertise"),
        (vec!["--config", "/nowhere.toml"], "file /nowhere.toml"),
        (vec!["--log-level", "loud=louder"], "log-level"),
        (vec!["serv"], "serve"),
    ] {
        let (code, _, error) = run(&arguments);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    let output = alluvium(&["config"]).env("ALLUVIUM_FLUSH_BYTE", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ALLUVIUM_FLUSH_BYTES"));
}

#[test]
fn config_says_where_each_setting_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alluvium.toml");
    std::fs::write(&file, "flush_bytes = \"4MiB\"\nnode_id = 3\n[kafka]\nnum.partitions = 6\n").unwrap();
    let mut command = alluvium(&["config", "--json", "--node-id", "5"]);
    let output = command.env("ALLUVIUM_CONFIG", &file).env("ALLUVIUM_RACK", "a").output().unwrap();
    assert!(output.status.success());
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    let file = format!("file {}", file.display());
    for (name, value, source) in [
        ("flush-bytes", "4194304", file.as_str()),
        ("num.partitions", "6", file.as_str()),
        ("node-id", "5", "flag --node-id"),
        ("rack", "a", "variable ALLUVIUM_RACK"),
        ("group.max.size", "2147483647", "default"),
    ] {
        assert_eq!((row(name)["value"].as_str(), row(name)["source"].as_str()), (Some(value), Some(source)), "{name}");
    }
    assert_eq!(row("flush-bytes")["default"], "8388608");
    assert_eq!(row("flush-bytes")["unit"], "bytes");
    let (code, table, _) = run(&["config"]);
    assert!(code == 0 && table.contains("num.partitions") && table.contains("default"), "{table}");
}

#[test]
fn serves_says_where_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = format!("file://{}", data.display());
    let started = Instant::now();
    let broker = Broker::start(&store, &[]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "started in {took:?}");
    assert!(TcpStream::connect(broker.word("Kafka clients")).is_ok());
    assert_eq!(broker.banner.matches("--bootstrap-server").count(), 3, "{}", broker.banner);
    assert_eq!(Path::new(broker.word("data  ")).canonicalize().unwrap(), data.canonicalize().unwrap());
    assert!(broker.page("/healthz").starts_with("HTTP/1.1 200"));
    assert!(broker.page("/readyz").starts_with("HTTP/1.1 200"));
    assert!(broker.page("/metrics").contains("alluvium_session_phase{phase=\"ready\"} 1"));

    let pid = broker.child.id().to_string();
    let (code, _, error) = run(&["--store", &store, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(code == 1 && error.contains("in use") && error.contains(&pid), "{code}: {error}");

    let (code, entry, error) = run(&["inspect", "--store", &store, "1"]);
    assert!(code == 0 && entry.contains("\"open_session\""), "{code}: {error}");

    broker.signal(rustix::process::Signal::TERM);
    let (code, error) = broker.ended(Duration::from_secs(2));
    assert_eq!(code, Some(0), "{error}");
}

#[test]
fn a_killed_broker_leaves_what_the_next_one_starts_from() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}/data", folder.path().display());
    let broker = Broker::start(&store, &[]);
    broker.signal(rustix::process::Signal::KILL);
    assert_eq!(broker.ended(Duration::from_secs(2)).0, None);
    let broker = Broker::start(&store, &["--log-level", "info"]);
    broker.signal(rustix::process::Signal::INT);
    assert_eq!(broker.ended(Duration::from_secs(2)).0, Some(0));
}

#[test]
fn inspect_prints_objects_and_refuses_damaged_ones() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment/v1-segment.bin");
    let (code, table, _) = run(&["inspect", golden]);
    assert!(code == 0 && table.contains("number     130"), "{table}");
    let (code, json, _) = run(&["inspect", "--json", golden]);
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["number"], 130);
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged");
    let mut bytes = std::fs::read(golden).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    let (code, _, error) = run(&["inspect", damaged.to_str().unwrap()]);
    assert!(code == 1 && error.contains("damaged: checksum mismatch"), "{code}: {error}");
    let (code, _, error) = run(&["inspect", "nothing"]);
    assert!(code == 1 && error.contains("nothing: no such file"), "{code}: {error}");
}
