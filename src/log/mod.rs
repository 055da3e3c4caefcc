//! The engine of the log: what happens to a record between the socket and the bucket, and back.
//!
//! - [`partition`] is one partition as its lease holder sees it: offsets, producers, epochs, index. Pure.
//! - [`append`] turns admitted batches into committed segments: admit → open segment → seal → upload → commit in order → acknowledge.
//! - [`fetch`] reads committed batches back, out of the tail, the block cache or the bucket.
//! - [`recover`] rebuilds partitions from checkpoints, runs, and the footers of the segments of all their tenures.
//! - [`suspicion`] tells which sessions of other brokers are dead (pure), [`survive`] watches them and closes those.
//! - [`handover`] gives leases to other brokers while both live.
//! - [`runs`] turns readers from segments to the runs that stand for them.
//!
//! Ownership: a [`slot::PartitionSlot`] guards one partition by a mutex that is never held across an await. The open segment has its
//! own. Locks are taken in that order.

pub mod append;
pub mod fence;
pub mod fetch;
pub mod handover;
pub mod index;
pub mod merged;
pub mod partition;
pub mod producers;
pub mod proof;
pub mod recover;
pub mod refusals;
pub mod runs;
pub mod session;
pub mod slot;
pub mod survive;
pub mod suspicion;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::append::Appender;
use self::append::budget::Budget;
use self::fetch::Reader;
use self::partition::Partition;
use self::proof::Proof;
use self::recover::{FooterReader, RecoveryError};
use self::refusals::WithoutSlot;
use self::runs::{RunBook, Switched};
use self::slot::{PartitionSlot, SlotState, Slots, Unavailable};
use crate::meta::Metadata;
use crate::meta::image::{Merges, PartitionState};
use crate::store::retry::Backoff;
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};
use crate::types::{PartitionId, SessionId};

/// Pauses between looks at a partition that seemed damaged.
const FIRST_DAMAGED_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_DAMAGED_PAUSE: Duration = Duration::from_secs(600);

/// Requests for a partition that is being recovered are parked for so long, not refused.
pub const PARK_LIMIT: Duration = Duration::from_secs(2);

/// The metadata table gets so long to say whether there is something new.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);

/// Pauses between tries of a recovery that the store does not serve.
const FIRST_RECOVERY_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_RECOVERY_PAUSE: Duration = Duration::from_secs(10);

/// The same where another broker's last segments are awaited, or what was merged meanwhile is looked for.
const FIRST_SHORT_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_SHORT_PAUSE: Duration = Duration::from_secs(2);

/// The log as one session of this broker serves it.
pub struct Log {
    pub session: SessionId,
    pub env: Env,
    pub meta: Arc<Metadata>,
    pub slots: Arc<Slots>,
    pub appender: Arc<Appender>,
    pub reader: Reader,
    pub proof: Arc<Proof>,
    /// For clients' bytes.
    pub budget: Budget,
    /// For internal topics: an eighth besides, so that offsets are committed while producers wait.
    pub internal_budget: Budget,
    /// For requests that carry no records: they are read and answered while producers wait.
    pub control_budget: Budget,
    /// For what other brokers ask.
    pub link_budget: Budget,
    pub footers: FooterReader,
    /// Batches refused for partitions that have no slot.
    pub refused: WithoutSlot,
    /// Held by [`Log::reconcile`] from its look at the image to the last slot.
    pub reconciling: Mutex<()>,
    /// Which runs readers go to.
    pub runs: RunBook,
}

impl Log {
    /// Brings the slots in line with the image: takes over what this session was granted, drops what is gone, moves log starts.
    ///
    /// One at a time: who looked at the image before a topic was made would close the slot that another made for it since, and
    /// the next one would begin its partitions at offset 0 again.
    pub fn reconcile(self: &Arc<Self>) {
        let _one_at_a_time = self.reconciling.lock();
        let mut held = self.held();
        for id in self.slots.ids() {
            let Some(slot) = self.slots.get(id) else { continue };
            match held.remove(&id) {
                // It was another's meanwhile: what is in memory is not what is in the log.
                Some(state) if is_old(&slot, &state) => {
                    tracing::info!(partition = %id, "its lease was another broker's meanwhile: it is recovered anew");
                    self.slots.close(id);
                    held.insert(id, state);
                }
                Some(state) => follow(&slot, &state),
                None => self.slots.close(id),
            }
        }
        let mut to_recover = Vec::new();
        for (id, state) in held {
            let (slot, new) = self.slots.insert(id);
            if !new {
                continue;
            }
            if state.tenures.iter().all(|tenure| tenure.session == self.session) {
                let mut partition = Partition::new(id, state.epoch, state.log_start);
                match partition.finish_replay() {
                    Ok(()) => slot.settle(SlotState::Serving(Box::new(partition))),
                    Err(error) => slot.settle(SlotState::Damaged(error.to_string())),
                }
            } else {
                to_recover.push(id);
            }
        }
        if !to_recover.is_empty() {
            tokio::spawn(recover_all(self.clone(), to_recover));
        }
    }

    /// Partitions that the image grants to this session.
    fn held(&self) -> BTreeMap<PartitionId, PartitionState> {
        self.meta.read(|image| {
            let mut held = BTreeMap::new();
            for (topic, state) in &image.topics {
                for (index, partition) in state.partitions.iter().enumerate() {
                    if partition.holder == Some(self.session) {
                        let index = i32::try_from(index).expect("partitions are counted in i32");
                        held.insert(PartitionId { topic: *topic, index }, partition.clone());
                    }
                }
            }
            held
        })
    }

    /// The slot of a partition that this session holds, also when the grant was not followed up yet.
    pub fn slot(self: &Arc<Self>, id: PartitionId) -> Result<Arc<PartitionSlot>, Unavailable> {
        if let Some(slot) = self.slots.get(id) {
            return Ok(slot);
        }
        let index = usize::try_from(id.index).map_err(|_| Unavailable::NotHeld)?;
        let holder = self.meta.read(|image| image.topics.get(&id.topic)?.partitions.get(index)?.holder);
        if holder == Some(self.session) {
            self.reconcile();
        }
        self.slots.get(id).ok_or(Unavailable::NotHeld)
    }

    /// Reads the metadata table's tail, where other brokers may have changed it: before somebody is told what may be old. Not more often
    /// than every 50 ms, and not for long: a table that does not answer must not hold everything up.
    pub async fn look_again(&self) {
        if self.footers.store.is_shared() {
            let _in_time = tokio::time::timeout(LOOK_PATIENCE, self.meta.catch_up_hint()).await;
        }
    }

    /// The same before somebody is sent elsewhere, by a read that begins after the call: where the request comes from, a lease may have
    /// come here a moment ago. Who is refused makes a pause that is longer than the wait. Returns as soon as there is nothing to refuse,
    /// whoever read of it first.
    pub async fn look_before_refusal(&self, is_here: impl Fn() -> bool) {
        if !self.footers.store.is_shared() {
            return;
        }
        let mut revisions = self.meta.subscribe();
        let comes = async { while revisions.changed().await.is_ok() && !is_here() {} };
        tokio::select! {
            biased;
            () = comes => {}
            _in_time = tokio::time::timeout(LOOK_PATIENCE, self.meta.catch_up_soon()) => {}
        }
    }

    /// Partitions as the image has them now, what was merged of their sessions, and which of these live. Partitions that are gone are left out.
    fn to_recover(&self, wanted: &[PartitionId]) -> (Vec<(PartitionId, PartitionState)>, Merges, BTreeSet<SessionId>) {
        self.meta.read(|image| {
            let state = |id: &PartitionId| Some((*id, image.partition(*id)?.clone()));
            let states: Vec<_> = wanted.iter().filter_map(state).collect();
            let sessions: BTreeSet<SessionId> =
                states.iter().flat_map(|(_, state)| &state.tenures).map(|tenure| tenure.session).collect();
            let merged = |session: SessionId| Some((session, image.merges.sessions.get(&session)?.clone()));
            let merges =
                Merges { claims: BTreeMap::new(), sessions: sessions.iter().copied().filter_map(merged).collect() };
            let living = image.open_sessions().map(|(id, _)| id).filter(|id| sessions.contains(id)).collect();
            (states, merges, living)
        })
    }

    /// Whether more was merged of the partition's sessions than `known`, or readers of other partitions were turned to more.
    fn merged_since(&self, state: &PartitionState, known: &Merges, switched: &Switched) -> bool {
        let ended = state.tenures.iter().filter(|tenure| tenure.end.is_some());
        self.meta.read(|image| {
            ended.map(|tenure| tenure.session).any(|session| {
                let runs = known.runs(session).len();
                image.merges.merged(session) > known.merged(session) || switched.of(session) > runs
            })
        })
    }

    /// Whether the image says otherwise by now where the partition's tenures end: one that handed it over was closed meanwhile.
    fn tenures_changed(&self, id: PartitionId, state: &PartitionState) -> bool {
        self.meta.read(|image| image.partition(id).is_some_and(|now| now.tenures != state.tenures))
    }

    /// Waits until a slot parks no requests, up to `until`: [`PARK_LIMIT`] from the beginning of the request, however many
    /// partitions it names.
    pub async fn settled(&self, slot: &PartitionSlot, until: Instant) {
        let _ = tokio::time::timeout_at(until, slot.settled()).await;
    }

    /// Forgets idle producers now and then (`producer.id.expiration.ms`).
    pub async fn expire_producers(self: Arc<Self>, expiration_ms: i64) {
        loop {
            tokio::time::sleep(Duration::from_secs(600)).await;
            let now = self.env.clock.wall_ms();
            self.refused.expire(now);
            for slot in self.slots.ids().into_iter().filter_map(|id| self.slots.get(id)) {
                if let Some(partition) = slot.lock().held() {
                    partition.expire_producers(now, expiration_ms);
                }
            }
        }
    }
}

fn is_old(slot: &PartitionSlot, state: &PartitionState) -> bool {
    let other_epoch = slot.lock().held().is_some_and(|partition| partition.epoch() != state.epoch);
    other_epoch && !mutant::on(Mutant::RegainFromMemory)
}

fn follow(slot: &PartitionSlot, state: &PartitionState) {
    if let Some(partition) = slot.lock().held() {
        partition.advance_log_start(state.log_start);
    }
}

/// Whether one of the sessions that had the partition lived when the try began: what it handed over may have been uploading, or was cut off by a
/// fence of which the table knows by now. The next try takes that into account.
fn is_awaited(state: &PartitionState, living: &BTreeSet<SessionId>) -> bool {
    state.tenures.iter().any(|tenure| tenure.end.is_some() && living.contains(&tenure.session))
}

/// What a try left to do.
struct Left {
    partitions: Vec<PartitionId>,
    /// Those that stay closed.
    damaged: Vec<PartitionId>,
    /// The store or the table does not answer.
    refused: bool,
}

/// One try at each partition; those that the store could not give now come back, and go on recovering. So do those of which
/// something was merged meanwhile: they may have looked for what is deleted by now, or know the segments and not the run. And those
/// that were handed over while the holder's last segments were uploading.
async fn recover_once(log: &Arc<Log>, mut wanted: Vec<PartitionId>) -> Left {
    let (states, merges, living) = log.to_recover(&wanted);
    let mut again = BTreeSet::new();
    let mut damaged = Vec::new();
    let mut reason = None;
    // Beside it, so that most of what must be done again is known then; what is whole does not wait for a later image.
    let recovering = recover::recover(&log.footers, &states, &merges, &living);
    let (recovered, read) = tokio::join!(recovering, log.meta.catch_up_hint());
    // What is missing was merged and deleted, perhaps: only the newest image can tell.
    let stopped = recovered.iter().any(|(_, found)| found.as_ref().is_err_and(|error| !error.is_passing()));
    let newest = if stopped { log.meta.catch_up().await } else { read };
    for ((id, recovered), (_, state)) in recovered.into_iter().zip(&states) {
        let Some(slot) = log.slots.get(id) else { continue };
        // Under this lock nothing is switched: what is switched later finds the slot open.
        let switched = log.runs.switched();
        if log.merged_since(state, &merges, &switched) || log.tenures_changed(id, state) {
            again.insert(id);
            continue;
        }
        match recovered {
            Ok(mut partition) => {
                if slot.is_settled() {
                    tracing::info!(partition = %id, "what seemed damaged is whole: the partition is open");
                }
                partition.taken_over(log.env.clock.wall_ms());
                slot.settle(SlotState::Serving(Box::new(partition)));
            }
            Err(error) if error.is_passing() || newest.is_err() => {
                again.insert(id);
                reason = Some(error);
            }
            Err(RecoveryError::Missing { object }) if is_awaited(state, &living) => {
                tracing::debug!(partition = %id, object, "waits for the last segments of the broker that had it");
                again.insert(id);
            }
            Err(error) => {
                if !slot.is_settled() {
                    tracing::error!(partition = %id, %error, "recovery stopped: the partition is closed, nothing was skipped");
                }
                slot.settle(SlotState::Damaged(error.to_string()));
                damaged.push(id);
            }
        }
    }
    if let Some(error) = &reason {
        tracing::warn!(partitions = again.len(), %error, "the store or the table does not give what recovery needs: trying again");
    }
    wanted.retain(|id| again.contains(id));
    Left { partitions: wanted, damaged, refused: reason.is_some() }
}

/// Recovers partitions side by side and opens those that came back whole.
async fn recover_all(log: Arc<Log>, mut wanted: Vec<PartitionId>) {
    let count = wanted.len();
    let begun = log.env.clock.boot();
    let mut backoff = Backoff::new(FIRST_RECOVERY_PAUSE, LONGEST_RECOVERY_PAUSE);
    let mut short = Backoff::new(FIRST_SHORT_PAUSE, LONGEST_SHORT_PAUSE);
    let mut tries = 0u32;
    while !wanted.is_empty() {
        let left = recover_once(&log, wanted).await;
        wanted = left.partitions;
        if !left.damaged.is_empty() {
            tokio::spawn(look_again(log.clone(), left.damaged));
        }
        if wanted.is_empty() || log.appender.is_over() {
            break;
        }
        tries += 1;
        if tries >= 16 && tries.is_power_of_two() {
            tracing::warn!(
                partitions = wanted.len(),
                tries,
                "partitions still wait for what another broker wrote last"
            );
        }
        let pause = if left.refused { &mut backoff } else { &mut short };
        tokio::time::sleep(pause.next(log.env.entropy.as_ref())).await;
    }
    log.reconcile();
    let seconds = (log.env.clock.boot() - begun).as_secs_f64();
    tracing::info!(partitions = count, seconds, "recovered partitions");
}

/// Tries partitions that seemed damaged again for as long as the session lives: they may have been so on the way only, or somebody puts back
/// what was lost.
async fn look_again(log: Arc<Log>, mut damaged: Vec<PartitionId>) {
    let mut pause = Backoff::new(FIRST_DAMAGED_PAUSE, LONGEST_DAMAGED_PAUSE);
    while !damaged.is_empty() {
        tokio::select! {
            () = log.appender.ended() => return,
            () = tokio::time::sleep(pause.next(log.env.entropy.as_ref())) => {}
        }
        let left = recover_once(&log, damaged).await;
        damaged = left.partitions;
        damaged.extend(left.damaged);
    }
}
