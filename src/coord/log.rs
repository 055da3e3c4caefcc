//! The port to the partitions of `__consumer_offsets`, and a twin in memory whose appends a test can delay and fail.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::types::{LeaseEpoch, Offset, TopicId};

/// One record of `__consumer_offsets`; a missing value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl CoordRecord {
    /// Bytes that the record takes in a batch, rounded up.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + 32
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// This broker does not hold the partition (any more): another one may answer.
    #[error("not the holder of the partition")]
    Retriable,
    /// The log can't be written or read now; the reason is for operators.
    #[error("{0}")]
    Failed(String),
}

/// What is known of a partition's lease after some patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Held here, and what was read under it may be shown.
    Held(LeaseEpoch),
    /// Held here, but the partition is still being recovered, or nothing shows that the session lives: nothing may be said.
    Unproven,
    /// Not held here, or damaged.
    Elsewhere,
}

/// The partitions of `__consumer_offsets` as the coordinator sees them.
///
/// `holds`, `admits`, `deleted` and `append` are called while the coordinator decides: they must return at once and not call back into it.
/// Once `holds` names a new epoch, nothing that was appended under an older one may commit any more.
#[async_trait]
pub trait OffsetsLog: Send + Sync {
    /// Number of partitions of `__consumer_offsets`; creates the topic when it does not exist yet.
    async fn ensure_topic(&self) -> Result<i32, LogError>;

    /// Number of partitions, `None` while the topic does not exist.
    fn partition_count(&self) -> Option<i32>;

    /// The epoch of the partition's lease if this broker holds it now and may answer reads from it (holds a proof).
    fn holds(&self, partition: i32) -> Option<LeaseEpoch>;

    /// As [`OffsetsLog::holds`], after a wait until `until` at most for the recovery and the proof.
    async fn awaited(&self, partition: i32, until: Instant) -> Lease;

    /// Finds out whether what this broker knows of leases is still so, before it says that it does not hold one.
    async fn look(&self) {}

    /// Waits until there are partitions that came to be held here, are held anew, or are no more, since the last call: each such
    /// moment is told of at least once, those that are held from the beginning too. Cancellation safe.
    async fn changed(&self) -> Vec<i32>;

    /// Whether appends are taken now. Where not, the coordinator refuses commits and deletions of offsets with a retriable error
    /// before it decides on them: an append that fails afterwards costs a reload of all groups of the partition.
    fn admits(&self, _partition: i32) -> bool {
        true
    }

    /// Those that are ids of deleted topics. All must come from records of partitions that are held here: any other one may be of a topic
    /// that is not known here yet.
    fn deleted(&self, ids: BTreeSet<TopicId>) -> BTreeSet<TopicId>;

    /// Appends the records as one batch. The order of calls is the order in the log: it is fixed before this returns. The future
    /// resolves with the batch's base offset once the batch is committed. An error means that the batch is not in the log and
    /// never will be, or that the lease is over.
    fn append(&self, partition: i32, records: Vec<CoordRecord>) -> BoxFuture<'static, Result<Offset, LogError>>;

    /// Hands all committed records to `sink` in order, from the log start up to the end at the time of the call or later.
    async fn replay(&self, partition: i32, sink: &mut (dyn FnMut(CoordRecord) + Send)) -> Result<(), LogError>;
}

/// `__consumer_offsets` in memory, for tests and simulation.
pub mod memory {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use futures::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::{Notify, watch};
    use tokio::time::Instant;

    use super::{BoxFuture, CoordRecord, Lease, LeaseEpoch, LogError, Offset, OffsetsLog, TopicId, async_trait};

    /// The proof is looked at so often by who waits for it.
    const LOOK: Duration = Duration::from_millis(10);

    #[derive(Default)]
    struct Partition {
        /// `None`: not held.
        epoch: Option<LeaseEpoch>,
        /// Of a lease that is known only after a look.
        unheard: Option<LeaseEpoch>,
        /// The lease is there, but reads may not be answered.
        without_proof: bool,
        records: Vec<CoordRecord>,
        fail_appends: usize,
        replay_failures: usize,
        replays: usize,
        full: bool,
        batches: usize,
        /// How many batches were appended, failed ones included, before this one's turn: keeps commits in order.
        turn: Option<watch::Sender<usize>>,
    }

    struct State {
        topic_exists: bool,
        partitions: BTreeMap<i32, Partition>,
        /// Whose leases changed, as nobody was told yet.
        changed: BTreeSet<i32>,
        delay: Duration,
        deleted: BTreeSet<TopicId>,
    }

    /// All partitions are held with epoch 0 until told otherwise.
    pub struct MemoryLog {
        count: i32,
        state: Arc<Mutex<State>>,
        news: Notify,
    }

    impl MemoryLog {
        pub fn new(count: i32) -> Self {
            let partitions =
                (0..count).map(|index| (index, Partition { epoch: Some(0), ..Partition::default() })).collect();
            let state = State {
                topic_exists: false,
                partitions,
                changed: (0..count).collect(),
                delay: Duration::ZERO,
                deleted: BTreeSet::new(),
            };
            MemoryLog { count, state: Arc::new(Mutex::new(state)), news: Notify::new() }
        }

        /// Appends commit so long after the one before.
        pub fn set_delay(&self, delay: Duration) {
            self.state.lock().delay = delay;
        }

        /// The next `count` appends of the partition fail.
        pub fn fail_appends(&self, partition: i32, count: usize) {
            self.with(partition, |partition| partition.fail_appends = count);
        }

        /// The next `count` replays of the partition fail.
        pub fn fail_replays(&self, partition: i32, count: usize) {
            self.with(partition, |partition| partition.replay_failures = count);
        }

        /// Whether appends are to be asked for.
        pub fn set_full(&self, partition: i32, full: bool) {
            self.with(partition, |partition| partition.full = full);
        }

        pub fn set_lease(&self, partition: i32, epoch: Option<LeaseEpoch>) {
            self.with(partition, |partition| partition.epoch = epoch);
            self.state.lock().changed.insert(partition);
            self.news.notify_one();
        }

        /// The lease came, and nobody here has heard of it.
        pub fn set_unheard(&self, partition: i32, epoch: LeaseEpoch) {
            self.with(partition, |partition| partition.unheard = Some(epoch));
        }

        /// How often the partition was read.
        pub fn replays(&self, partition: i32) -> usize {
            self.with(partition, |partition| partition.replays)
        }

        /// The topic is gone; nobody is told.
        pub fn delete_topic(&self, id: TopicId) {
            self.state.lock().deleted.insert(id);
        }

        /// Whether reads may be answered under the lease; appends commit all the same.
        pub fn set_proof(&self, partition: i32, proof: bool) {
            self.with(partition, |partition| partition.without_proof = !proof);
        }

        /// Everything committed so far.
        pub fn records(&self, partition: i32) -> Vec<CoordRecord> {
            self.with(partition, |partition| partition.records.clone())
        }

        /// Puts records into the log as if an earlier broker had written them.
        pub fn seed(&self, partition: i32, records: Vec<CoordRecord>) {
            self.state.lock().topic_exists = true;
            self.with(partition, |partition| partition.records.extend(records));
        }

        fn with<T>(&self, partition: i32, change: impl FnOnce(&mut Partition) -> T) -> T {
            change(self.state.lock().partitions.entry(partition).or_default())
        }
    }

    #[async_trait]
    impl OffsetsLog for MemoryLog {
        async fn ensure_topic(&self) -> Result<i32, LogError> {
            self.state.lock().topic_exists = true;
            Ok(self.count)
        }

        fn partition_count(&self) -> Option<i32> {
            self.state.lock().topic_exists.then_some(self.count)
        }

        fn holds(&self, partition: i32) -> Option<LeaseEpoch> {
            let state = self.state.lock();
            state.partitions.get(&partition).filter(|partition| !partition.without_proof)?.epoch
        }

        async fn awaited(&self, index: i32, until: Instant) -> Lease {
            loop {
                match self.with(index, |partition| (partition.epoch, partition.without_proof)) {
                    (None, _) => return Lease::Elsewhere,
                    (Some(epoch), false) => return Lease::Held(epoch),
                    (Some(_), true) if Instant::now() >= until => return Lease::Unproven,
                    (Some(_), true) => tokio::time::sleep(LOOK).await,
                }
            }
        }

        async fn look(&self) {
            let mut state = self.state.lock();
            let State { partitions, changed, .. } = &mut *state;
            for (index, partition) in partitions.iter_mut() {
                if let Some(epoch) = partition.unheard.take() {
                    partition.epoch = Some(epoch);
                    changed.insert(*index);
                }
            }
            self.news.notify_one();
        }

        async fn changed(&self) -> Vec<i32> {
            loop {
                let changed = std::mem::take(&mut self.state.lock().changed);
                if !changed.is_empty() {
                    return changed.into_iter().collect();
                }
                self.news.notified().await;
            }
        }

        fn admits(&self, partition: i32) -> bool {
            self.with(partition, |partition| !partition.full)
        }

        fn deleted(&self, mut ids: BTreeSet<TopicId>) -> BTreeSet<TopicId> {
            let state = self.state.lock();
            ids.retain(|id| state.deleted.contains(id));
            ids
        }

        fn append(&self, index: i32, records: Vec<CoordRecord>) -> BoxFuture<'static, Result<Offset, LogError>> {
            let mut state = self.state.lock();
            let delay = state.delay;
            let partition = state.partitions.entry(index).or_default();
            let turn = partition.turn.get_or_insert_with(|| watch::channel(0).0).subscribe();
            let number = partition.batches;
            partition.batches += 1;
            let epoch = partition.epoch;
            let fail = partition.fail_appends > 0;
            partition.fail_appends = partition.fail_appends.saturating_sub(1);
            drop(state);
            let state = self.state.clone();
            // A task of its own: a batch lands whether or not somebody waits for it.
            let commit = tokio::spawn(commit(state, index, Batch { number, epoch, fail, delay, records }, turn));
            commit.map(|done| done.unwrap_or(Err(LogError::Failed("the append's task ended".to_owned())))).boxed()
        }

        async fn replay(&self, index: i32, sink: &mut (dyn FnMut(CoordRecord) + Send)) -> Result<(), LogError> {
            tokio::task::yield_now().await;
            let records = self.with(index, |partition| {
                partition.replays += 1;
                if partition.replay_failures > 0 {
                    partition.replay_failures -= 1;
                    return Err(LogError::Failed("asked to fail".to_owned()));
                }
                Ok(partition.records.clone())
            })?;
            records.into_iter().for_each(sink);
            Ok(())
        }
    }

    struct Batch {
        number: usize,
        epoch: Option<LeaseEpoch>,
        fail: bool,
        delay: Duration,
        records: Vec<CoordRecord>,
    }

    async fn commit(
        state: Arc<Mutex<State>>,
        index: i32,
        batch: Batch,
        mut turn: watch::Receiver<usize>,
    ) -> Result<Offset, LogError> {
        // An error means that the log is gone with its runtime.
        if turn.wait_for(|done| *done == batch.number).await.is_err() {
            return Err(LogError::Retriable);
        }
        tokio::time::sleep(batch.delay).await;
        let mut state = state.lock();
        let partition = state.partitions.entry(index).or_default();
        if let Some(turn) = &partition.turn {
            turn.send_replace(batch.number + 1);
        }
        if batch.epoch.is_none() || partition.epoch != batch.epoch {
            return Err(LogError::Retriable);
        }
        if batch.fail {
            return Err(LogError::Failed("asked to fail".to_owned()));
        }
        let base = partition.records.len() as Offset;
        partition.records.extend(batch.records);
        Ok(base)
    }
}
