//! The tables that the contract suite runs on: memory, the bucket on every store, DynamoDB Local, PostgreSQL.
//!
//! `ALLUVIUM_TEST_DYNAMODB` (`http://127.0.0.1:PORT`) and `ALLUVIUM_TEST_POSTGRES` (`postgres://user:password@host/database`) name servers that run;
//! `ALLUVIUM_TEST_SERVE` is tests/lib/serve, by which a test starts servers of its own. `tests/run stores` sets them all. Without them these tests
//! say so and pass, but fail where `CI=true`.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::meta::backends::{self, TableSettings};
use alluvium::meta::table::TableRef;
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::table::memory::MemoryTable;
use alluvium::meta::{MetaError, MetaOptions, Metadata};
use alluvium::store::StoreRef;
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::Env;
use alluvium::types::table_url::TableUrl;

use crate::backends as stores;

/// A table with nothing in it, the store beside it, and what must live as long.
pub struct Place {
    pub name: &'static str,
    pub store: StoreRef,
    pub table: TableRef,
    pub settings: TableSettings,
    _keep: Option<stores::Backend>,
}

impl Place {
    pub async fn broker(&self, options: &MetaOptions) -> Arc<Metadata> {
        self.broker_on(self.table.clone(), options).await.expect("opens")
    }

    pub async fn broker_on(&self, table: TableRef, options: &MetaOptions) -> Result<Arc<Metadata>, MetaError> {
        Metadata::open(self.store.clone(), table, Env::system(), options.clone()).await
    }
}

/// A server that a variable names.
pub fn server(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} must be set when CI=true");
        eprintln!("NOT RUN: {variable} is not set; `tests/run stores` installs and starts what it names");
    }
    value
}

pub fn dynamodb_settings(endpoint: &str) -> TableSettings {
    let url = TableUrl::parse("dynamodb://alluvium-test").expect("a table");
    TableSettings { url, dynamodb_endpoint: Some(endpoint.to_owned()), region: Some("us-east-1".to_owned()) }
}

pub fn postgres_settings(url: &str) -> TableSettings {
    TableSettings { url: TableUrl::parse(url).expect("a URL"), ..TableSettings::default() }
}

/// Founds a cluster on a fresh store in memory whose table is there.
pub async fn founded(name: &'static str, settings: TableSettings) -> Place {
    let store: StoreRef = Arc::new(MemoryStore::shared());
    let table = backends::open(&store, &Env::system(), &settings).await.expect("the server answers");
    Place { name, store, table, settings, _keep: None }
}

pub async fn dynamodb() -> Option<Place> {
    Some(founded("DynamoDB", dynamodb_settings(&server("ALLUVIUM_TEST_DYNAMODB")?)).await)
}

pub async fn postgres() -> Option<Place> {
    Some(founded("PostgreSQL", postgres_settings(&server("ALLUVIUM_TEST_POSTGRES")?)).await)
}

fn memory() -> Place {
    let (store, table) = (Arc::new(MemoryStore::shared()), Arc::new(MemoryTable::new()));
    Place { name: "memory", store, table, settings: TableSettings::default(), _keep: None }
}

pub fn bucket() -> Place {
    let store: StoreRef = Arc::new(MemoryStore::shared());
    let table = Arc::new(BucketTable::new(store.clone()));
    Place { name: "bucket", store, table, settings: TableSettings::default(), _keep: None }
}

/// All of them, one of each.
pub async fn places() -> Vec<Place> {
    let mut places = vec![memory()];
    for backend in [stores::memory(), stores::local(), stores::minio(), stores::localstack()].into_iter().flatten() {
        places.push(Place {
            name: backend.name,
            store: backend.store.clone(),
            table: Arc::new(BucketTable::new(backend.store.clone())),
            settings: TableSettings::default(),
            _keep: Some(backend),
        });
    }
    places.extend(dynamodb().await);
    places.extend(postgres().await);
    for place in &places {
        eprintln!("on {}", place.name);
    }
    places
}

/// A server of the test's own, that it may end and start again.
pub struct Server {
    kind: &'static str,
    port: u16,
    folder: tempfile::TempDir,
    script: String,
    child: Option<Child>,
}

impl Server {
    /// `kind`: as `tests/lib/serve` calls it.
    pub fn start(kind: &'static str) -> Option<Server> {
        let script = server("ALLUVIUM_TEST_SERVE")?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let folder = tempfile::Builder::new().prefix("alluvium-test").tempdir_in("/tmp").expect("a folder");
        let mut server = Server { kind, port, folder, script, child: None };
        server.run();
        Some(server)
    }

    pub fn run(&mut self) {
        let child = Command::new(&self.script)
            .args([self.kind, &self.port.to_string()])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("the server starts"));
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} does not listen", self.kind);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a crash does: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        // PostgreSQL's children would outlive a SIGKILL for a while; SIGQUIT ends all of them at once, without a checkpoint.
        let signal =
            if self.kind == "postgres" { rustix::process::Signal::QUIT } else { rustix::process::Signal::KILL };
        rustix::process::kill_process(pid, signal).expect("it runs");
        child.wait().expect("it ends");
    }

    pub fn settings(&self) -> TableSettings {
        match self.kind {
            "postgres" => {
                let secret = std::env::var("TEST_SECRET_KEY").expect("set with ALLUVIUM_TEST_SERVE");
                let user = std::env::var("TEST_ACCESS_KEY").expect("set with ALLUVIUM_TEST_SERVE");
                postgres_settings(&format!("postgres://{user}:{secret}@127.0.0.1:{}/postgres", self.port))
            }
            _ => dynamodb_settings(&format!("http://127.0.0.1:{}", self.port)),
        }
    }

    /// A file that the server keeps beside its data.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
