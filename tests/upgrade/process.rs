//! Programs of several versions, brokers that they run, and the stores between them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::store::StoreRef;
use alluvium::store::open::{OpenOptions, open};
use rustix::process::{Pid, Signal, kill_process};

/// However busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The last commit of one broker.
    One,
    /// The last landed commit before transfers and merging.
    Neighbours,
    /// This one.
    New,
}

impl Version {
    fn program(self) -> PathBuf {
        let variable = match self {
            Version::One => "ALLUVIUM_TEST_OLD_ONE",
            Version::Neighbours => "ALLUVIUM_TEST_OLD_NEIGHBOURS",
            Version::New => return env!("CARGO_BIN_EXE_alluvium").into(),
        };
        let path = std::env::var_os(variable);
        path.unwrap_or_else(|| panic!("{variable} names no program: `tests/run upgrade` builds the old ones")).into()
    }
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stop,
    Kill,
}

/// A store of the test's own.
pub struct Place {
    pub store: String,
    endpoint: Option<String>,
    folder: tempfile::TempDir,
}

impl Place {
    pub fn local() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { store: format!("file://{}/data", folder.path().display()), endpoint: None, folder }
    }

    /// A part of the bucket of MinIO.
    pub fn minio(name: &str) -> Place {
        let endpoint = std::env::var("ALLUVIUM_TEST_S3_MINIO").expect("ALLUVIUM_TEST_S3_MINIO: where MinIO listens");
        let store = format!("s3://alluvium-test/upgrade-{name}-{}", std::process::id());
        Place { store, endpoint: Some(endpoint), folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, version: Version, arguments: &[&str]) -> Command {
        let mut command = Command::new(version.program());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALLUVIUM_")) {
            command.env_remove(name);
        }
        command.args(["--store", &self.store]).args(arguments).stdin(Stdio::null());
        if let Some(endpoint) = &self.endpoint {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        command
    }

    /// Exit code and what was printed.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(Version::New, arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    }

    pub fn broker(&self, version: Version, node_id: i32, more: &[&str]) -> Broker {
        Broker::start(self, version, node_id, more)
    }

    fn serve(&self, version: Version, node_id: i32, more: &[&str]) -> (Child, PathBuf) {
        let errors = self.folder.path().join(format!("{version:?}-{node_id}.log"));
        let node_id = node_id.to_string();
        let mut arguments = vec!["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--node-id", &node_id];
        arguments.extend(["--session-ttl-ms=3000", "--set", "offsets.topic.num.partitions=4"]);
        arguments.extend(more);
        let log = std::fs::File::create(&errors).unwrap();
        let child = self.command(version, &arguments).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        (child, errors)
    }

    /// The broker does not start: what it says, after it has ended by itself with an error.
    pub fn refuses(&self, version: Version, node_id: i32) -> String {
        let (mut child, errors) = self.serve(version, node_id, &[]);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = (child.kill(), child.wait());
                panic!("{version:?} runs: {}", std::fs::read_to_string(&errors).unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(1));
        std::fs::read_to_string(&errors).unwrap()
    }

    /// All objects with their bytes; without what probes leave.
    pub async fn objects(&self) -> BTreeMap<String, u64> {
        let Some(endpoint) = &self.endpoint else {
            let root = PathBuf::from(self.store.strip_prefix("file://").unwrap());
            let mut files = BTreeMap::new();
            for folder in ["meta", "segments", "runs"] {
                walk(&root, &root.join(folder), &mut files);
            }
            return files;
        };
        let fatal = Arc::new(|reason: &str| panic!("{reason}"));
        let options = OpenOptions { s3_endpoint: Some(endpoint.clone()), ..OpenOptions::new(fatal) };
        let store: StoreRef = open(&self.store, &options).unwrap();
        let mut objects = BTreeMap::new();
        loop {
            let after = objects.last_key_value().map(|(key, _): (&String, &u64)| key.clone());
            let page = store.list("", after.as_deref(), 1000).await.unwrap();
            if page.is_empty() {
                break;
            }
            objects.extend(page.into_iter().map(|object| (object.key, object.size)));
        }
        objects.retain(|key, _| !key.starts_with("meta/probe/"));
        objects
    }

    /// Versions of all entries in the table.
    pub fn entry_versions(&self) -> Vec<u64> {
        let (code, text) = self.run(&["metadata", "dump"]);
        assert_eq!(code, 0, "{text}");
        let entry = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| entry(line)["version"].as_u64().unwrap()).collect()
    }

    /// What `metadata verify` says of the level; the table is sound.
    pub fn verified_level(&self) -> String {
        let (code, text) = self.run(&["metadata", "verify"]);
        assert_eq!(code, 0, "{text}");
        text.lines().find_map(|line| line.strip_prefix("level ")).expect("a level").trim().to_owned()
    }
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, u64>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            walk(root, &entry.path(), files);
        } else {
            let key = entry.path().strip_prefix(root).unwrap().display().to_string();
            files.insert(key, entry.metadata().unwrap().len());
        }
    }
}

/// A broker on free ports, killed when it is dropped.
pub struct Broker {
    child: Child,
    errors: PathBuf,
    pub version: Version,
    pub address: SocketAddr,
    admin: String,
}

impl Broker {
    fn start(place: &Place, version: Version, node_id: i32, more: &[&str]) -> Broker {
        let (mut child, errors) = place.serve(version, node_id, more);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        while !banner.contains("Ctrl-C") {
            let Some(line) = lines.next() else {
                panic!("{version:?} did not start:\n{banner}{}", std::fs::read_to_string(&errors).unwrap());
            };
            banner = banner + &line.unwrap() + "\n";
        }
        let word = |before: &str| banner.split_once(before).unwrap().1.split_whitespace().next().unwrap().to_owned();
        let admin = word("metrics http://").trim_end_matches("/metrics").to_owned();
        Broker { child, errors, version, address: word("Kafka clients").parse().unwrap(), admin }
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let mut connection = TcpStream::connect(&self.admin).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The cluster's feature level, as its metric says.
    pub fn level(&self) -> Option<u64> {
        self.metric("alluvium_feature_level")
    }

    pub async fn comes_to_level(&self, level: u64) {
        let begun = Instant::now();
        while self.level() != Some(level) {
            assert!(begun.elapsed() < PATIENCE, "level {:?}, not {level}\n{}", self.level(), self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    pub fn end(mut self, how: End) {
        let signal = if how == End::Stop { Signal::TERM } else { Signal::KILL };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = self.child.wait().unwrap().code();
        assert_eq!(code, (how == End::Stop).then_some(0), "{}", self.log());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
