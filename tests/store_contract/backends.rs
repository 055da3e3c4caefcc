//! The stores that the suite runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium::store::StoreRef;
use alluvium::store::local::{Fatal, LocalStore};
use alluvium::store::memory::MemoryStore;
use alluvium::store::s3::{S3Config, S3Store};
use alluvium::types::env::Env;

/// A store with nothing in it, and what must live as long.
pub struct Backend {
    pub name: &'static str,
    pub store: StoreRef,
    _folder: Option<tempfile::TempDir>,
}

pub fn fatal() -> Fatal {
    Arc::new(|reason: &str| panic!("the folder failed: {reason}"))
}

pub fn memory() -> Option<Backend> {
    Some(Backend { name: "memory", store: Arc::new(MemoryStore::new()), _folder: None })
}

pub fn local() -> Option<Backend> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalStore::open(folder.path(), fatal()).expect("the folder opens");
    Some(Backend { name: "local", store: Arc::new(store), _folder: Some(folder) })
}

pub fn minio() -> Option<Backend> {
    s3("MinIO", "ALLUVIUM_TEST_S3_MINIO")
}

pub fn localstack() -> Option<Backend> {
    s3("LocalStack", "ALLUVIUM_TEST_S3_LOCALSTACK")
}

/// Each test gets a prefix of its own.
fn s3(name: &'static str, variable: &str) -> Option<Backend> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(endpoint) = std::env::var(variable).ok().filter(|value| !value.is_empty()) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} must name a {name} when CI=true");
        eprintln!("NOT RUN on {name}: set {variable}=http://127.0.0.1:PORT to run it");
        return None;
    };
    let random = Env::system().entropy.next_u64();
    let prefix = format!("test-{random:016x}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut config = S3Config::from_env("alluvium-test", &prefix).expect("the AWS variables fit");
    config.endpoint = Some(endpoint);
    let store = S3Store::open(config).expect("the S3 client starts");
    Some(Backend { name, store: Arc::new(store), _folder: None })
}

/// One test function for each store. `#[on_every_store]` without a macro crate.
#[macro_export]
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        $crate::on_every_store!(@on memory; $($test),*);
        $crate::on_every_store!(@on local; $($test),*);
        $crate::on_every_store!(@on minio; $($test),*);
        $crate::on_every_store!(@on localstack; $($test),*);
    };
    (@on $backend:ident; $($test:ident),*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(backend) = $crate::backends::$backend() {
                        super::$test(&backend).await;
                    }
                }
            )*
        }
    };
}
