//! One partition of `__consumer_offsets` at run time: the pure core, what it has in flight, and who waits for what.
//!
//! ```text
//!   Idle ──► Loading ──► Loaded ──► Draining ──► Idle
//! ```
//!
//! A loaded partition ends when an append fails, when the lease is gone or when it has another epoch. Then everybody who
//! waits is told NOT_COORDINATOR, and the next load starts only after the fate of all appends in flight is known: so a load
//! never misses a record that commits later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::log::{CoordRecord, LogError, OffsetsLog};
use super::message::{Outputs, Reply, ReplyTo};
use super::partition::Partition;
use super::records::Record;
use crate::types::{LeaseEpoch, Offset, TopicId};

/// Records of one decision go out in batches of at most about so many bytes.
const BATCH_BYTES: usize = 512 * 1024;

pub struct Shard {
    pub index: i32,
    pub state: Mutex<ShardState>,
    /// The state became another.
    pub changed: Notify,
}

pub enum ShardState {
    Idle,
    Loading,
    Loaded(Box<Loaded>),
    /// Waits for the appends of this life.
    Draining {
        life: u64,
    },
}

/// An append whose outcome is awaited, in the order of the log.
pub struct Append {
    pub number: u64,
    pub done: BoxFuture<'static, Result<Offset, LogError>>,
}

pub struct Loaded {
    pub epoch: LeaseEpoch,
    /// Tells this load from earlier and later ones.
    pub life: u64,
    pub partition: Partition,
    /// Ids of topics in what was loaded, until it is known which of them are deleted.
    pub loaded_ids: BTreeSet<TopicId>,
    log: Arc<dyn OffsetsLog>,
    index: i32,
    /// Number of the newest append.
    appended: u64,
    /// Appends in flight and the groups they belong to, oldest first.
    in_flight: VecDeque<(u64, String)>,
    /// Newest append in flight of each group that has one.
    newest: BTreeMap<String, u64>,
    /// The same for appends with a generation of the group.
    newest_generation: BTreeMap<String, u64>,
    /// Replies that are decided and wait for an append.
    gated: BTreeMap<u64, Vec<(oneshot::Sender<Reply>, Reply)>>,
    /// Requests that the core has not answered yet. Bounded by the requests that connections may have unanswered.
    waiting: BTreeMap<ReplyTo, oneshot::Sender<Reply>>,
    /// To the task that awaits the appends. Each belongs to a request or a timer that fired; the log bounds their bytes.
    appends: mpsc::UnboundedSender<Append>,
}

impl Loaded {
    pub fn new(
        shard: &Shard,
        log: Arc<dyn OffsetsLog>,
        (epoch, life): (LeaseEpoch, u64),
        partition: Partition,
    ) -> (Box<Loaded>, mpsc::UnboundedReceiver<Append>) {
        let (appends, receiver) = mpsc::unbounded_channel();
        let loaded = Loaded {
            epoch,
            life,
            partition,
            loaded_ids: BTreeSet::new(),
            log,
            index: shard.index,
            appended: 0,
            in_flight: VecDeque::new(),
            newest: BTreeMap::new(),
            newest_generation: BTreeMap::new(),
            gated: BTreeMap::new(),
            waiting: BTreeMap::new(),
            appends,
        };
        (Box::new(loaded), receiver)
    }

    /// Somebody waits for the reply to this request.
    pub fn expect(&mut self, to: ReplyTo) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(to, sender);
        receiver
    }

    /// Appends what the core decided, and releases or gates its replies.
    pub fn apply(&mut self, group: &str, outputs: Outputs) {
        let decides_generation = outputs.records.iter().any(|record| matches!(record, Record::Group { .. }));
        for batch in batches(outputs.records) {
            self.appended += 1;
            let number = self.appended;
            let done = self.log.append(self.index, batch);
            self.in_flight.push_back((number, group.to_owned()));
            self.newest.insert(group.to_owned(), number);
            // The receiver lives as long as this sender.
            let _ = self.appends.send(Append { number, done });
        }
        if decides_generation {
            self.newest_generation.insert(group.to_owned(), self.appended);
        }
        for (to, reply) in outputs.replies {
            if let Some(sender) = self.waiting.remove(&to) {
                self.release(group, sender, reply);
            }
        }
    }

    pub fn apply_all(&mut self, outputs: Vec<(String, Outputs)>) {
        for (group, outputs) in outputs {
            self.apply(&group, outputs);
        }
    }

    /// Sends a reply, or keeps it until everything in flight that it may depend on is committed.
    pub fn release(&mut self, group: &str, sender: oneshot::Sender<Reply>, reply: Reply) {
        let newest = if reply.tells_generation_only() { &self.newest_generation } else { &self.newest };
        match newest.get(group) {
            Some(number) => self.gated.entry(*number).or_default().push((sender, reply)),
            // Nobody may be listening any more.
            None => drop(sender.send(reply)),
        }
    }

    /// Like [`Loaded::release`], for an answer that depends on all groups.
    pub fn release_after_all(&mut self, sender: oneshot::Sender<Reply>, reply: Reply) {
        match self.in_flight.back() {
            Some((number, _)) => self.gated.entry(*number).or_default().push((sender, reply)),
            None => drop(sender.send(reply)),
        }
    }

    /// All appends up to this one are committed.
    pub fn committed(&mut self, number: u64) {
        while self.in_flight.front().is_some_and(|(first, _)| *first <= number) {
            let Some((first, group)) = self.in_flight.pop_front() else { break };
            for newest in [&mut self.newest, &mut self.newest_generation] {
                if newest.get(&group) == Some(&first) {
                    newest.remove(&group);
                }
            }
        }
        let later = self.gated.split_off(&(number + 1));
        for (sender, reply) in std::mem::replace(&mut self.gated, later).into_values().flatten() {
            drop(sender.send(reply));
        }
    }
}

impl Shard {
    pub fn new(index: i32) -> Shard {
        Shard { index, state: Mutex::new(ShardState::Idle), changed: Notify::new() }
    }

    /// Ends the loaded state, if that is what it is: all who wait learn that this is not the coordinator.
    pub fn unload(&self, state: &mut ShardState) {
        if let ShardState::Loaded(loaded) = state {
            let life = loaded.life;
            *state = ShardState::Draining { life };
            self.changed.notify_waiters();
        }
    }

    fn unload_life(&self, life: u64) {
        let mut state = self.state.lock();
        if matches!(&*state, ShardState::Loaded(loaded) if loaded.life == life) {
            self.unload(&mut state);
        }
    }

    /// Awaits the appends of one life in order, releases what waits for them, and ends the life at the first failure. Runs until
    /// the life is over and nothing is in flight.
    pub async fn follow(self: Arc<Shard>, life: u64, mut appends: mpsc::UnboundedReceiver<Append>) {
        while let Some(append) = appends.recv().await {
            match append.done.await {
                Ok(_) => {
                    if let ShardState::Loaded(loaded) = &mut *self.state.lock()
                        && loaded.life == life
                    {
                        loaded.committed(append.number);
                    }
                }
                Err(error) => {
                    tracing::warn!(partition = self.index, %error, "group records were not stored; groups reload from the log");
                    self.unload_life(life);
                }
            }
        }
        let mut state = self.state.lock();
        if matches!(*state, ShardState::Draining { life: draining } if draining == life) {
            *state = ShardState::Idle;
            self.changed.notify_waiters();
        }
    }
}

fn batches(records: Vec<Record>) -> Vec<Vec<CoordRecord>> {
    let mut batches: Vec<Vec<CoordRecord>> = Vec::new();
    let mut size = 0;
    for record in records {
        let record = record.encode();
        size += record.size();
        match batches.last_mut() {
            Some(batch) if size <= BATCH_BYTES => batch.push(record),
            _ => {
                size = record.size();
                batches.push(vec![record]);
            }
        }
    }
    batches
}
