//! Runs the group coordinators of this broker: finds a group's partition, loads it from the log, lets the core decide, appends,
//! waits for the commit, drives the timers.
//!
//! Every partition has one [`Shard`] whose mutex is held only for synchronous decisions, never across an await. A reply leaves
//! when (1) all records that it may depend on are committed and (2) the lease under which it was decided is still held, under
//! proof, looked up after the commit. Without proof requests wait a little and are then told NOT_COORDINATOR. A handler that is dropped while it waits loses its reply and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::GroupError;
use super::group::Group;
use super::log::{Lease, LogError, OffsetsLog};
use super::message::{Input, Limits, Now, Reply, ReplyTo};
use super::partition::Partition;
use super::partition_for;
use super::shard::{Append, Loaded, Shard, ShardState};
use crate::types::aside::aside;
use crate::types::env::Env;
use crate::types::{LeaseEpoch, TopicId};

/// Requests wait so long for a partition that is being loaded, and for the session's proof, before they are told to come back.
const PARK: Duration = Duration::from_secs(2);
/// First and longest pause after a load that failed.
const RELOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Leases are looked at so often when nothing else happens.
const SWEEP: Duration = Duration::from_secs(5);

/// A step with more offsets takes milliseconds: it goes on beside the other tasks. (Not in turn: others wait for its lock.)
const LONG_STEP_OFFSETS: usize = 4096;

/// The group coordinators of this broker. When it is dropped its tasks end, those that await appends after the last of them.
pub struct Groups {
    inner: Arc<Inner>,
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.inner.cancel.cancel();
        for shard in self.inner.all_shards() {
            shard.unload(&mut shard.state.lock());
        }
    }
}

struct Inner {
    env: Env,
    limits: Limits,
    /// Of all members of all partitions.
    metadata_bytes: Arc<AtomicUsize>,
    log: Arc<dyn OffsetsLog>,
    shards: Mutex<BTreeMap<i32, Arc<Shard>>>,
    next_reply: AtomicU64,
    next_life: AtomicU64,
    /// What the timer task sleeps for; a nearer deadline wakes it.
    armed_ms: AtomicI64,
    wake: Notify,
    cancel: CancellationToken,
}

impl Groups {
    /// Must be called inside a tokio runtime.
    pub fn start(env: Env, limits: Limits, log: Arc<dyn OffsetsLog>) -> Groups {
        let inner = Arc::new(Inner {
            env,
            limits,
            metadata_bytes: Arc::default(),
            log,
            shards: Mutex::new(BTreeMap::new()),
            next_reply: AtomicU64::new(1),
            next_life: AtomicU64::new(1),
            armed_ms: AtomicI64::new(i64::MAX),
            wake: Notify::new(),
            cancel: CancellationToken::new(),
        });
        tokio::spawn(run_timers(inner.clone()));
        tokio::spawn(follow_leases(inner.clone()));
        Groups { inner }
    }

    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// A member id as Kafka makes it: the prefix and a random UUID.
    pub fn new_member_id(&self, prefix: &str) -> String {
        let random = uuid::Builder::from_random_bytes(self.inner.env.entropy.next_u128().to_be_bytes()).into_uuid();
        format!("{prefix}-{random}")
    }

    /// Gives an input to a group and waits for the reply, which may take as long as a rebalance.
    pub async fn call(&self, group: &str, input: impl FnOnce(ReplyTo) -> Input) -> Result<Reply, GroupError> {
        let index = self.partition(group).await?;
        let to = ReplyTo(self.inner.next_reply.fetch_add(1, Ordering::Relaxed));
        let input = input(to);
        if input.writes_offsets() && !self.inner.log.admits(index) {
            return Err(GroupError::NotAvailable);
        }
        let long = input.offsets() > LONG_STEP_OFFSETS;
        let act = |loaded: &mut Loaded, now: Now| {
            let receiver = loaded.expect(to);
            let step = || {
                let outputs = loaded.partition.step(group, input, now);
                loaded.apply(group, outputs);
            };
            if long {
                aside(step)
            } else {
                step()
            }
            receiver
        };
        let (receiver, epoch) = self.inner.act(index, act).await?;
        self.inner.receive(index, receiver, epoch).await
    }

    /// Looks at a group (`None`: there is no such group) once all that it shows is committed.
    pub async fn read<T>(&self, group: &str, look: impl FnOnce(Option<&Group>) -> T) -> Result<T, GroupError> {
        let index = self.partition(group).await?;
        let act = |loaded: &mut Loaded, _: Now| {
            let seen = look(loaded.partition.group(group));
            let (sender, receiver) = oneshot::channel();
            loaded.release(group, sender, Reply::Seen);
            (seen, receiver)
        };
        let ((seen, receiver), epoch) = self.inner.act(index, act).await?;
        self.inner.receive(index, receiver, epoch).await?;
        Ok(seen)
    }

    /// Looks at all groups of this broker, by partition and id.
    pub async fn read_all<T>(&self, look: impl FnMut(&Group) -> Option<T>) -> Result<Vec<T>, GroupError> {
        // Kafka's clients ask again for COORDINATOR_NOT_AVAILABLE; who lists groups asks no particular coordinator.
        let list = self.list(look).await;
        list.map_err(|error| if error == GroupError::NotCoordinator { GroupError::NotAvailable } else { error })
    }

    /// Looks at all groups that are loaded as they stand, committed or not: enough to count them.
    pub fn survey(&self, mut look: impl FnMut(&Group)) {
        for shard in self.inner.all_shards() {
            if let ShardState::Loaded(loaded) = &*shard.state.lock() {
                loaded.partition.groups().for_each(&mut look);
            }
        }
    }

    async fn list<T>(&self, mut look: impl FnMut(&Group) -> Option<T>) -> Result<Vec<T>, GroupError> {
        let mut all = Vec::new();
        let mut receivers = Vec::new();
        let deadline = Instant::now() + PARK;
        self.inner.log.look().await;
        for index in 0..self.inner.log.partition_count().unwrap_or(0) {
            match self.inner.log.awaited(index, deadline).await {
                Lease::Held(_) => {}
                Lease::Elsewhere => continue,
                // A list that leaves groups out would say that they are gone.
                Lease::Unproven => return Err(GroupError::NotCoordinator),
            }
            let act = |loaded: &mut Loaded, _: Now| {
                let seen: Vec<T> = loaded.partition.groups().filter_map(&mut look).collect();
                let (sender, receiver) = oneshot::channel();
                loaded.release_after_all(sender, Reply::Seen);
                (seen, receiver)
            };
            let ((seen, receiver), epoch) = self.inner.act(index, act).await?;
            receivers.push((index, receiver, epoch));
            all.extend(seen);
        }
        // All partitions were looked at before the first wait, so one flush is enough for them all.
        for (index, receiver, epoch) in receivers {
            self.inner.receive(index, receiver, epoch).await?;
        }
        Ok(all)
    }

    /// Makes sure that `__consumer_offsets` exists, so that groups can be given coordinators.
    pub async fn ensure_topic(&self) -> Result<(), GroupError> {
        self.partition("").await.map(|_| ())
    }

    /// Topics are gone: removes their committed offsets from the groups that are loaded. Elsewhere they stay until their partition is
    /// loaded; no later topic of that name inherits them, for they bear the topic's id.
    pub fn topics_deleted(&self, topics: Vec<(String, TopicId)>) {
        let input = Input::TopicsDeleted(topics.into());
        for shard in self.inner.all_shards() {
            let mut state = shard.state.lock();
            self.inner.keep_or_unload(&shard, &mut state);
            if let ShardState::Loaded(loaded) = &mut *state {
                let outputs = loaded.partition.step_all(&input, self.inner.now());
                loaded.apply_all(outputs);
            }
        }
    }

    async fn partition(&self, group: &str) -> Result<i32, GroupError> {
        let count = match self.inner.log.partition_count() {
            Some(count) => count,
            None => self.inner.log.ensure_topic().await.map_err(|error| {
                tracing::warn!(%error, "the topic of committed offsets can't be created");
                GroupError::NotAvailable
            })?,
        };
        Ok(partition_for(group, count))
    }
}

impl Inner {
    fn now(&self) -> Now {
        let steady_ms = i64::try_from(self.env.clock.boot().as_millis()).unwrap_or(i64::MAX);
        Now { wall_ms: self.env.clock.wall_ms(), steady_ms }
    }

    fn shard(&self, index: i32) -> Arc<Shard> {
        self.shards.lock().entry(index).or_insert_with(|| Arc::new(Shard::new(index))).clone()
    }

    fn all_shards(&self) -> Vec<Arc<Shard>> {
        self.shards.lock().values().cloned().collect()
    }

    /// Runs `act` on the partition as soon as it is loaded under the lease that is held now.
    async fn act<T>(
        self: &Arc<Self>,
        index: i32,
        act: impl FnOnce(&mut Loaded, Now) -> T,
    ) -> Result<(T, LeaseEpoch), GroupError> {
        let deadline = Instant::now() + PARK;
        let shard = self.shard(index);
        let mut looked = false;
        loop {
            let changed = shard.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let epoch = match self.log.awaited(index, deadline).await {
                Lease::Held(epoch) => epoch,
                Lease::Elsewhere if !looked => {
                    self.log.look().await;
                    looked = true;
                    continue;
                }
                Lease::Elsewhere | Lease::Unproven => return Err(GroupError::NotCoordinator),
            };
            {
                let mut state = shard.state.lock();
                self.keep_or_unload(&shard, &mut state);
                match &mut *state {
                    ShardState::Loaded(loaded) => {
                        let result = act(loaded, self.now());
                        self.arm(loaded.partition.next_deadline());
                        return Ok((result, loaded.epoch));
                    }
                    ShardState::Idle => self.start_load(&shard, &mut state, epoch),
                    ShardState::Loading | ShardState::Draining { .. } => {}
                }
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(GroupError::LoadInProgress);
            }
        }
    }

    /// Waits for a reply; it counts only if the lease is still the one under which it was decided.
    async fn receive(
        &self,
        index: i32,
        receiver: oneshot::Receiver<Reply>,
        epoch: LeaseEpoch,
    ) -> Result<Reply, GroupError> {
        let reply = receiver.await.map_err(|_| GroupError::NotCoordinator)?;
        match self.log.awaited(index, Instant::now() + PARK).await {
            Lease::Held(now) if now == epoch => Ok(reply),
            _ => Err(GroupError::NotCoordinator),
        }
    }

    fn keep_or_unload(&self, shard: &Shard, state: &mut ShardState) {
        if matches!(&*state, ShardState::Loaded(loaded) if self.log.holds(shard.index) != Some(loaded.epoch)) {
            tracing::info!(partition = shard.index, "the lease of a group partition ended");
            shard.unload(state);
        }
    }

    /// Lets go of what is not held any more, and starts to load what is and is not loaded.
    fn look_at(self: &Arc<Self>, shard: &Arc<Shard>, state: &mut ShardState) {
        self.keep_or_unload(shard, state);
        if let (ShardState::Idle, Some(epoch)) = (&*state, self.log.holds(shard.index))
            && !self.cancel.is_cancelled()
        {
            self.start_load(shard, state, epoch);
        }
    }

    fn start_load(self: &Arc<Self>, shard: &Arc<Shard>, state: &mut ShardState, epoch: LeaseEpoch) {
        *state = ShardState::Loading;
        tokio::spawn(load(self.clone(), shard.clone(), epoch));
    }

    /// The timer task must wake by then.
    fn arm(&self, deadline_ms: i64) {
        if deadline_ms < self.armed_ms.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Each deletion of a topic is told once, to the partitions that are loaded then: offsets of those that were deleted before go now. None
    /// is forgotten between: whoever is told has it in its image already, and waits for the shard's lock, under which the
    /// image is looked at here. A full log is spared until a later tick: an append that fails would cost another load.
    fn forget_deleted(&self, index: i32, loaded: &mut Loaded) {
        if loaded.loaded_ids.is_empty() || !self.log.admits(index) {
            return;
        }
        let ids = self.log.deleted(std::mem::take(&mut loaded.loaded_ids));
        if !ids.is_empty() {
            let outputs = loaded.partition.step_all(&Input::TopicIdsDeleted(Arc::new(ids)), self.now());
            loaded.apply_all(outputs);
        }
    }

    fn tick(self: &Arc<Self>) {
        for shard in self.all_shards() {
            let mut state = shard.state.lock();
            self.look_at(&shard, &mut state);
            if let ShardState::Loaded(loaded) = &mut *state {
                self.forget_deleted(shard.index, loaded);
                let outputs = loaded.partition.tick(self.now());
                loaded.apply_all(outputs);
            }
        }
    }

    fn next_deadline(&self) -> i64 {
        let deadline = |shard: Arc<Shard>| match &*shard.state.lock() {
            ShardState::Loaded(loaded) => loaded.partition.next_deadline(),
            _ => i64::MAX,
        };
        self.all_shards().into_iter().map(deadline).min().unwrap_or(i64::MAX)
    }
}

async fn run_timers(inner: Arc<Inner>) {
    loop {
        // Armed before looking, so that a deadline set meanwhile wakes us; `notify_one` is remembered.
        inner.armed_ms.store(i64::MAX, Ordering::SeqCst);
        let deadline_ms = inner.next_deadline();
        inner.armed_ms.fetch_min(deadline_ms, Ordering::SeqCst);
        let wait_ms = u64::try_from(deadline_ms.saturating_sub(inner.now().steady_ms)).unwrap_or(0);
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms).min(SWEEP)) => inner.tick(),
        }
    }
}

/// Loads what came, lets go of what went, as soon as it does.
async fn follow_leases(inner: Arc<Inner>) {
    loop {
        let changed = tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            changed = inner.log.changed() => changed,
        };
        for shard in changed.into_iter().map(|index| inner.shard(index)) {
            inner.look_at(&shard, &mut shard.state.lock());
        }
    }
}

async fn load(inner: Arc<Inner>, shard: Arc<Shard>, epoch: LeaseEpoch) {
    let mut pause = RELOAD_PAUSE.0;
    let partition = loop {
        if inner.cancel.is_cancelled() || inner.log.holds(shard.index) != Some(epoch) {
            break None;
        }
        match replay(&inner, shard.index).await {
            Ok(partition) => break Some(partition),
            Err(LogError::Retriable) => break None,
            Err(LogError::Failed(reason)) => {
                tracing::error!(partition = shard.index, reason, "groups can't be loaded; will try again");
                tokio::select! {
                    biased;
                    () = inner.cancel.cancelled() => break None,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(RELOAD_PAUSE.1);
            }
        }
    };
    // Before the lock: it looks at all offsets.
    let loaded_ids = partition.as_ref().map(Partition::topic_ids).unwrap_or_default();
    let mut state = shard.state.lock();
    *state = ShardState::Idle;
    if let Some(mut partition) = partition
        && inner.log.holds(shard.index) == Some(epoch)
        && !inner.cancel.is_cancelled()
    {
        let outputs = partition.loaded(inner.now());
        let life = inner.next_life.fetch_add(1, Ordering::Relaxed);
        let (mut loaded, appends) = Loaded::new(&shard, inner.log.clone(), (epoch, life), partition);
        loaded.apply_all(outputs);
        loaded.loaded_ids = loaded_ids;
        inner.forget_deleted(shard.index, &mut loaded);
        tokio::spawn(follow_appends(inner.clone(), shard.clone(), life, appends));
        inner.arm(loaded.partition.next_deadline());
        *state = ShardState::Loaded(loaded);
    }
    // The lease may have become another meanwhile.
    inner.look_at(&shard, &mut state);
    shard.changed.notify_waiters();
}

async fn follow_appends(inner: Arc<Inner>, shard: Arc<Shard>, life: u64, appends: mpsc::UnboundedReceiver<Append>) {
    shard.clone().follow(life, appends).await;
    inner.look_at(&shard, &mut shard.state.lock());
}

async fn replay(inner: &Inner, index: i32) -> Result<Partition, LogError> {
    let mut partition = Partition::beside(inner.limits.clone(), inner.metadata_bytes.clone());
    let mut damaged = None;
    let mut read = 0u64;
    inner
        .log
        .replay(index, &mut |record| {
            if damaged.is_none() {
                damaged = partition.replay(&record).err().map(|error| (read, error));
            }
            read += 1;
        })
        .await?;
    if let Some((number, error)) = damaged {
        return Err(LogError::Failed(format!("record {number} of the partition can't be read: {error}")));
    }
    if partition.unknown_records() > 0 {
        let unknown = partition.unknown_records();
        tracing::warn!(partition = index, unknown, "records of unknown group types stay in the log untouched");
    }
    Ok(partition)
}
