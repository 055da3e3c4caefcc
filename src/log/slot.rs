//! One partition behind its lock, and who waits for it.
//!
//! A slot exists while this session holds (or is taking over) the partition's lease. Its lock is held for decisions only, never
//! across an await. Waiting fetches register a [`Waiter`] and are woken when records of the partition are committed. Whoever serves
//! something out of certain partitions follows the [`News`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, watch};

use super::partition::Partition;
use super::refusals::{Refusals, RefusedBatch};
use crate::types::mutant::{self, Mutant};
use crate::types::{PartitionId, TimestampMs};

/// What the slot's partition is doing.
pub enum SlotState {
    /// Its records are being found; requests are parked.
    Recovering,
    Serving(Box<Partition>),
    /// Its lease is about to go to another session: requests are parked until that is known. What is in flight is still committed.
    HandingOver(Box<Partition>),
    /// Recovery met something impossible: closed until an object is mended, or turns out to be whole.
    Damaged(String),
    /// The lease is gone or the topic deleted.
    Closed,
}

pub struct SlotInner {
    pub state: SlotState,
    /// Sequences refused before there was a partition to remember them.
    refused_early: Refusals,
    waiters: BTreeMap<u64, Arc<Notify>>,
}

pub struct PartitionSlot {
    pub id: PartitionId,
    inner: Mutex<SlotInner>,
    /// `false` while requests are parked. Changes under the lock.
    settled: watch::Sender<bool>,
    news: Arc<News>,
}

/// Which partitions came to serve, or ceased to for good. For one reader.
#[derive(Default)]
pub struct News {
    changed: Mutex<BTreeSet<PartitionId>>,
    wake: Notify,
}

impl News {
    fn note(&self, id: PartitionId) {
        self.changed.lock().insert(id);
        self.wake.notify_one();
    }

    /// Waits until there are any since the last call. Cancellation safe.
    pub async fn next(&self) -> BTreeSet<PartitionId> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.wake.notified().await;
        }
    }
}

/// Why a slot can't answer now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("recovering or being handed over")]
    Parked,
    #[error("not held here")]
    NotHeld,
    #[error("damaged: {0}")]
    Damaged(String),
}

impl PartitionSlot {
    pub fn recovering(id: PartitionId) -> Arc<PartitionSlot> {
        PartitionSlot::beside(id, Arc::default())
    }

    fn beside(id: PartitionId, news: Arc<News>) -> Arc<PartitionSlot> {
        Arc::new(PartitionSlot {
            id,
            news,
            inner: Mutex::new(SlotInner {
                state: SlotState::Recovering,
                refused_early: Refusals::default(),
                waiters: BTreeMap::new(),
            }),
            settled: watch::Sender::new(false),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, SlotInner> {
        self.inner.lock()
    }

    /// Leaves the present state and wakes everybody.
    pub fn settle(&self, mut state: SlotState) {
        let mut inner = self.inner.lock();
        if let SlotState::Serving(partition) = &mut state {
            partition.recall(std::mem::take(&mut inner.refused_early));
        }
        inner.state = state;
        inner.wake();
        self.settled.send_replace(true);
        self.news.note(self.id);
    }

    /// Parks requests from now on; `false`: the slot does not serve.
    pub fn begin_handover(&self) -> bool {
        let mut inner = self.inner.lock();
        match std::mem::replace(&mut inner.state, SlotState::Closed) {
            SlotState::Serving(partition) if mutant::on(Mutant::HandOverUnparked) => {
                inner.state = SlotState::Serving(partition);
            }
            SlotState::Serving(partition) => {
                inner.state = SlotState::HandingOver(partition);
                self.settled.send_replace(false);
            }
            other => {
                inner.state = other;
                return false;
            }
        }
        true
    }

    /// Serves again what was not handed over.
    pub fn end_handover(&self) {
        let mut inner = self.inner.lock();
        match std::mem::replace(&mut inner.state, SlotState::Closed) {
            SlotState::HandingOver(partition) => {
                inner.state = SlotState::Serving(partition);
                inner.wake();
                self.settled.send_replace(true);
                self.news.note(self.id);
            }
            other => inner.state = other,
        }
    }

    pub fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until the slot parks no requests. Cancellation safe.
    pub async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        // The sender lives in `self`, so this can't fail.
        let _ = settled.wait_for(|settled| *settled).await;
    }
}

impl SlotInner {
    pub fn partition(&mut self) -> Result<&mut Partition, Unavailable> {
        match &mut self.state {
            SlotState::Serving(partition) => Ok(partition),
            SlotState::Recovering | SlotState::HandingOver(_) => Err(Unavailable::Parked),
            SlotState::Damaged(reason) => Err(Unavailable::Damaged(reason.clone())),
            SlotState::Closed => Err(Unavailable::NotHeld),
        }
    }

    /// The partition, if it is known here, also while it is handed over.
    pub fn held(&mut self) -> Option<&mut Partition> {
        match &mut self.state {
            SlotState::Serving(partition) | SlotState::HandingOver(partition) => Some(partition),
            SlotState::Recovering | SlotState::Damaged(_) | SlotState::Closed => None,
        }
    }

    /// Remembers a batch that was refused with a retriable error, see [`Refusals`]. `false`: this slot is closed, another one may
    /// follow it, and somebody else must remember.
    pub fn refuse(&mut self, batch: RefusedBatch, now: TimestampMs) -> bool {
        match &mut self.state {
            SlotState::Serving(partition) | SlotState::HandingOver(partition) => partition.refuse(batch, now),
            SlotState::Recovering | SlotState::Damaged(_) => self.refused_early.remember(batch, now),
            SlotState::Closed => return false,
        }
        true
    }

    /// Takes over what `refusals` has of this partition, unless this slot is closed.
    pub fn recall(&mut self, refusals: impl FnOnce() -> Option<Refusals>) {
        match &mut self.state {
            SlotState::Serving(partition) | SlotState::HandingOver(partition) => {
                if let Some(refusals) = refusals() {
                    partition.recall(refusals);
                }
            }
            SlotState::Recovering | SlotState::Damaged(_) => {
                if let Some(refusals) = refusals() {
                    self.refused_early.absorb(refusals);
                }
            }
            SlotState::Closed => {}
        }
    }

    /// Wakes all that wait for new records.
    pub fn wake(&mut self) {
        for waiter in self.waiters.values() {
            waiter.notify_one();
        }
    }
}

/// Somebody who waits for any of some partitions. Registrations end with it.
pub struct Waiter {
    id: u64,
    notify: Arc<Notify>,
    slots: Vec<Arc<PartitionSlot>>,
}

static NEXT_WAITER: AtomicU64 = AtomicU64::new(0);

impl Waiter {
    pub fn new(slots: Vec<Arc<PartitionSlot>>) -> Waiter {
        let waiter = Waiter { id: NEXT_WAITER.fetch_add(1, Ordering::Relaxed), notify: Arc::new(Notify::new()), slots };
        for slot in &waiter.slots {
            slot.inner.lock().waiters.insert(waiter.id, waiter.notify.clone());
        }
        waiter
    }

    /// Returns after something was committed since the last call (or since the waiter was made).
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.inner.lock().waiters.remove(&self.id);
        }
    }
}

/// All slots of a session.
#[derive(Default)]
pub struct Slots {
    by_id: RwLock<HashMap<PartitionId, Arc<PartitionSlot>>>,
    news: Arc<News>,
}

impl Slots {
    pub fn get(&self, id: PartitionId) -> Option<Arc<PartitionSlot>> {
        self.by_id.read().get(&id).cloned()
    }

    /// Adds a recovering slot unless there is one; tells whether it is new.
    pub fn insert(&self, id: PartitionId) -> (Arc<PartitionSlot>, bool) {
        let mut map = self.by_id.write();
        let mut new = false;
        let slot = map.entry(id).or_insert_with(|| {
            new = true;
            PartitionSlot::beside(id, self.news.clone())
        });
        (slot.clone(), new)
    }

    /// Takes a slot away and closes it.
    pub fn close(&self, id: PartitionId) {
        let slot = self.by_id.write().remove(&id);
        if let Some(slot) = slot {
            slot.settle(SlotState::Closed);
        }
    }

    pub fn news(&self) -> &News {
        &self.news
    }

    pub fn ids(&self) -> Vec<PartitionId> {
        let mut ids: Vec<_> = self.by_id.read().keys().copied().collect();
        ids.sort();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::producers::{Claim, Verdict};
    use crate::types::TopicId;

    const ID: PartitionId = PartitionId { topic: TopicId(1), index: 0 };

    fn serving() -> SlotState {
        SlotState::Serving(Box::new(Partition::new(ID, 0, 0)))
    }

    #[test]
    fn what_is_refused_in_any_state_bars_its_successors() {
        let refused = |producer_id| RefusedBatch { producer_id, epoch: 0, first_sequence: 3 };
        let of_elsewhere = || {
            let mut refusals = Refusals::default();
            refusals.remember(refused(3), 50);
            Some(refusals)
        };
        let damaged = || SlotState::Damaged("a segment".to_owned());
        for (case, before, after) in [
            ("recovering", None, Some(serving())),
            ("serving", Some(serving()), None),
            ("damaged", Some(damaged()), Some(serving())),
        ] {
            let slot = PartitionSlot::recovering(ID);
            if let Some(state) = before {
                slot.settle(state);
            }
            assert!(slot.lock().refuse(refused(2), 50));
            slot.lock().recall(of_elsewhere);
            if let Some(state) = after {
                slot.settle(state);
            }
            let mut inner = slot.lock();
            let partition = inner.partition().expect("it serves");
            let verdict = |producer_id, first_sequence| {
                let claim = Claim { producer_id, epoch: 0, first_sequence, last_sequence: first_sequence };
                partition.producers().judge(claim, 60)
            };
            for (producer_id, first_sequence, expected) in
                [(2, 4, Verdict::TooEarly), (2, 3, Verdict::New), (3, 4, Verdict::TooEarly), (4, 4, Verdict::New)]
            {
                assert_eq!(verdict(producer_id, first_sequence), expected, "{case}, producer {producer_id}");
            }
        }
        let slot = PartitionSlot::recovering(ID);
        slot.settle(SlotState::Closed);
        assert!(!slot.lock().refuse(refused(2), 50), "somebody else must remember");
        slot.lock().recall(|| panic!("a closed slot takes nothing"));
    }
}
