//! The bucket as the hosts see it: a store in memory, faults before it, and the way there.
//!
//! ```text
//! broker ─► Path (pause, latency, trace) ─► FaultStore (one per host) ─► Bottom (trace of what landed) ─► MemoryStore
//! ```
//!
//! Writes that land late run on a host of their own, which never crashes: a request on its way outlives the process that sent it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alluvium::store::fault::{FaultRates, FaultStore, Injected, Spawn};
use alluvium::store::memory::MemoryStore;
use alluvium::store::{ListedObject, ReadBytes, ReadRange, Store, StoreError, StoreRef};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::plan::Way;
use crate::states::reached;
use crate::truth::Truth;
use crate::world::{Dice, World, until};

/// Every adapter has a time limit for one attempt: a call that hangs ends with an unclear answer.
const ADAPTER_LIMIT: Duration = Duration::from_secs(20);

/// Who asks something that is lost on the way hears so within this.
const CUT_LIMIT_MS: u64 = 1500;

/// A write on its way.
pub type Late = BoxFuture<'static, ()>;

pub struct Bucket {
    pub memory: Arc<MemoryStore>,
    world: Arc<World>,
    late: mpsc::UnboundedSender<Late>,
    pub truth: Arc<Mutex<Truth>>,
}

/// One host's way to the bucket.
#[derive(Clone)]
pub struct HostStore {
    pub faults: Arc<FaultStore>,
    pub store: StoreRef,
}

impl Bucket {
    /// `grace`: what is garbage is kept so long.
    pub fn new(world: Arc<World>, grace: Duration) -> (Bucket, mpsc::UnboundedReceiver<Late>) {
        let (late, landing) = mpsc::unbounded_channel();
        let truth = Arc::new(Mutex::new(Truth::new(grace)));
        (Bucket { memory: Arc::new(MemoryStore::shared()), world, late, truth }, landing)
    }

    pub fn for_host(&self, host: &'static str, latency_ms: (u64, u64)) -> HostStore {
        let bottom =
            Arc::new(Bottom { inner: self.memory.clone(), world: self.world.clone(), truth: self.truth.clone(), host });
        let late = self.late.clone();
        let spawn: Spawn = Arc::new(move |task| {
            let _the_run_is_over = late.send(task);
        });
        let entropy = self.world.entropy(host, 77);
        let faults = FaultStore::with_spawn(bottom, entropy, FaultRates::default(), spawn);
        let dice = Dice::new(self.world.entropy(host, 78));
        let under_way = Mutex::default();
        let path = Path { inner: faults.clone(), world: self.world.clone(), host, dice, latency_ms, under_way };
        HostStore { faults, store: Arc::new(path) }
    }
}

/// Runs late writes to their ends.
pub async fn land(mut late: mpsc::UnboundedReceiver<Late>) {
    while let Some(task) = late.recv().await {
        tokio::spawn(task);
    }
}

pub fn sum(all: impl Iterator<Item = Injected>) -> Vec<(&'static str, u64)> {
    let mut total = Injected::default();
    for one in all {
        total.refused += one.refused;
        total.lost_answers += one.lost_answers;
        total.late_landings += one.late_landings;
        total.delays += one.delays;
        total.hangs += one.hangs;
        total.truncated += one.truncated;
        total.corrupt += one.corrupt;
        total.said_busy += one.said_busy;
        total.said_taken += one.said_taken;
    }
    vec![
        ("store: refused", total.refused),
        ("store: answer lost", total.lost_answers),
        ("store: landed late", total.late_landings),
        ("store: slow", total.delays),
        ("store: hung", total.hangs),
        ("store: truncated read", total.truncated),
        ("store: corrupt read", total.corrupt),
        ("store: said 409, 429 or 503", total.said_busy),
        ("store: said 412, and it was not so", total.said_taken),
    ]
}

struct Bottom {
    inner: Arc<MemoryStore>,
    world: Arc<World>,
    truth: Arc<Mutex<Truth>>,
    host: &'static str,
}

impl Bottom {
    /// What has the name.
    fn now(&self, key: &str) -> Option<Bytes> {
        let read = self.inner.read(key, ReadRange::Full).now_or_never().expect("memory does not wait");
        read.ok().map(|read| read.bytes)
    }
}

#[async_trait]
impl Store for Bottom {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let length = body.len();
        let result = self.inner.create(key, body.clone()).await;
        let mut words = None;
        if result.is_ok() {
            let there = |key: &str| self.now(key).is_some();
            let landed = self.truth.lock().landed((self.host, key, &body), there, self.world.now());
            landed.states.into_iter().for_each(reached);
            self.world.hosts[self.host].handed_to.lock().extend(landed.handed_to);
            self.world.hosts[self.host].closed_itself.fetch_or(landed.closed_itself, Ordering::Relaxed);
            if let Some((rule, what)) = landed.wrong {
                self.world.judge(|judge, _| judge.object(rule, what));
            }
            words = landed.words;
        } else if self.now(key).is_some_and(|object| self.truth.lock().met_fence(self.host, key, &object)) {
            reached("fence: in the way of a session that writes");
        }
        let how = if result.is_ok() { "landed" } else { "met its name taken" };
        self.world.note("bucket", format_args!("{key} of {} {how}, {length} B", self.host));
        if let Some(words) = words {
            self.world.note("table", words);
        }
        result
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        self.inner.read(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.world.note("bucket", format_args!("{key} deleted by {}", self.host));
        if let Err(what) = self.truth.lock().check(key, self.world.now()) {
            self.world.judge(|judge, _| judge.object("deleted-too-early", format_args!("{key}: {what}")));
        }
        self.truth.lock().gone(key);
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list_folders(prefix).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// Does something when it is dropped: a call may be given up at any moment.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

struct Path {
    inner: Arc<FaultStore>,
    world: Arc<World>,
    host: &'static str,
    dice: Dice,
    latency_ms: (u64, u64),
    /// Names that are being created.
    under_way: Mutex<Vec<String>>,
}

impl Path {
    async fn open(&self) {
        until(&self.world.hosts[self.host].paused, |paused| !paused).await;
    }

    /// The caller hears that something was lost on the way, sooner or later.
    async fn lost<T>(&self, key: &str, what: &'static str) -> Result<T, StoreError> {
        self.world.count(what, 1);
        tokio::time::sleep(self.dice.ms(1, CUT_LIMIT_MS) * self.world.scale).await;
        Err(StoreError::maybe(key, "cut off"))
    }

    fn is_cut(&self, key: &str, open: Way) -> bool {
        let cut = self.world.hosts[self.host].cut.lock();
        cut.is_some_and(|(objects, way)| objects.hold(key) && way != open)
    }

    async fn travel<T>(
        &self,
        what: &str,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (low, high) = self.latency_ms;
        self.open().await;
        tokio::time::sleep(Duration::from_micros(self.dice.between(low * 500, high * 500 + 1))).await;
        self.open().await;
        let result = if self.is_cut(key, Way::Back) {
            self.lost(key, "store: request cut off").await
        } else {
            let late = |_| Err(StoreError::maybe(key, "no answer in time"));
            let result = tokio::time::timeout(ADAPTER_LIMIT, call).await.unwrap_or_else(late);
            self.late(what, key).await;
            tokio::time::sleep(Duration::from_micros(self.dice.between(low * 500, high * 500 + 1))).await;
            self.open().await;
            if self.is_cut(key, Way::There) { self.lost(key, "store: answer cut off").await } else { result }
        };
        match &result {
            Ok(_) => self.world.note(self.host, format_args!("{what} {key}: ok")),
            Err(error) => self.world.note(self.host, format_args!("{what} {key}: {error}")),
        }
        result
    }

    /// What was read of the metadata table is old when it arrives.
    async fn late(&self, what: &str, key: &str) {
        let most = self.world.hosts[self.host].late_reads_ms.load(Ordering::Relaxed);
        if most > 0 && what == "read" && key.starts_with("meta/") && self.dice.chance(60) {
            self.world.count("metadata: read came late", 1);
            tokio::time::sleep(self.dice.ms(0, most)).await;
        }
    }

    /// Notes that a name is created once more while an attempt is under way.
    fn begin(&self, key: &str) {
        let mut under_way = self.under_way.lock();
        if key.starts_with("segments/") && under_way.iter().any(|known| known == key) {
            reached("write: hedged");
        }
        under_way.push(key.to_owned());
    }

    fn end(&self, key: &str) {
        let mut under_way = self.under_way.lock();
        if let Some(at) = under_way.iter().position(|known| known == key) {
            under_way.swap_remove(at);
        }
    }
}

#[async_trait]
impl Store for Path {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.begin(key);
        let ended = AtEnd(|| self.end(key));
        let result = self.travel("create", key, self.inner.create(key, body)).await;
        drop(ended);
        result
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        self.travel("read", key, self.inner.read(key, range)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.travel("delete", key, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.travel("list", prefix, self.inner.list(prefix, after, limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.travel("list", prefix, self.inner.list_folders(prefix)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
