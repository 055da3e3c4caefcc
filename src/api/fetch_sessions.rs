//! Incremental fetch sessions (KIP-227; Kafka's `FetchSession`, `FetchManager`). Knows no clock.
//!
//! A session remembers the partitions of a consumer and what it was told last, so that a request names only changes and an answer
//! holds only partitions with news. Sessions live in memory: a consumer whose session is gone gets an error and starts anew.
//!
//! Under the lock of all sessions one is found, made or taken out. What takes as long as a session has partitions is done under its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::types::{LeaseEpoch, Offset, TopicId};
use crate::wire::fetch::PartitionReply;

/// A session may be thrown out for a new one when it was not used for so long (`min.incremental.fetch.session.eviction.ms`).
const EVICT_AFTER_MS: i64 = 120_000;

/// All sessions together may hold so many partitions.
const PARTITIONS_MAX: usize = 1_000_000;

/// A full fetch that may begin a session, and one that ends it. Any other epoch goes on with one.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

/// A partition as the request names it: by name up to v12, by id from v13.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub name: Arc<str>,
    pub id: TopicId,
    pub index: i32,
}

/// What is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub offset: Offset,
    pub max_bytes: i32,
    pub leader_epoch: LeaseEpoch,
}

#[derive(Clone, Debug)]
struct Cached {
    key: Key,
    ask: Ask,
    /// Told last; -1 makes the next answer name the partition in any case.
    high_watermark: Offset,
    log_start: Offset,
}

struct Session {
    uses_ids: bool,
    next_epoch: i32,
    /// In the order in which they are answered.
    partitions: BTreeMap<u64, Cached>,
    /// Where in it each stands.
    places: BTreeMap<Key, u64>,
    next_place: u64,
    share: Share,
}

struct Entry {
    used_ms: AtomicI64,
    session: Mutex<Session>,
}

/// How many partitions all sessions hold together.
struct Held {
    partitions: AtomicUsize,
    most: usize,
}

/// A session's part of that, given back on drop.
struct Share {
    held: Arc<Held>,
    mine: usize,
}

/// What a fetch request says of sessions.
pub struct Request {
    pub session_id: i32,
    pub epoch: i32,
    pub uses_ids: bool,
    pub asks: Vec<(Key, Ask)>,
    pub forgotten: Vec<Key>,
}

/// How to answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Context {
    /// Answer all of these; the session id to name (0: none).
    Full { session_id: i32, asks: Vec<(Key, Ask)> },
    /// Answer news of these only.
    Incremental { session_id: i32, asks: Vec<(Key, Ask)> },
    /// Top-level error.
    Error(i16),
}

pub struct FetchSessions {
    slots: usize,
    held: Arc<Held>,
    sessions: BTreeMap<i32, Arc<Entry>>,
}

impl FetchSessions {
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions::limited(slots, PARTITIONS_MAX)
    }

    /// All sessions together hold `most` partitions at most.
    fn limited(slots: usize, most: usize) -> FetchSessions {
        let held = Arc::new(Held { partitions: AtomicUsize::new(0), most });
        FetchSessions { slots, held, sessions: BTreeMap::new() }
    }

    /// `new_id`: random bits for a session that may be made.
    pub fn begin(all: &Mutex<FetchSessions>, request: Request, new_id: u64, now: i64) -> Context {
        if matches!(request.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            let ended = all.lock().sessions.remove(&request.session_id);
            // Behind the lock: it may be large.
            drop(ended);
            let session_id = if request.epoch == INITIAL_EPOCH { make(all, &request, new_id, now) } else { 0 };
            return Context::Full { session_id, asks: request.asks };
        }
        let found = all.lock().sessions.get(&request.session_id).cloned();
        let Some(entry) = found else { return Context::Error(FETCH_SESSION_ID_NOT_FOUND) };
        let mut session = entry.session.lock();
        if session.uses_ids != request.uses_ids {
            return Context::Error(FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if session.next_epoch != request.epoch {
            return Context::Error(INVALID_FETCH_SESSION_EPOCH);
        }
        session.next_epoch = if request.epoch == i32::MAX { 1 } else { request.epoch + 1 };
        entry.used_ms.store(now, Ordering::Relaxed);
        let has_room = session.update(request.asks, &request.forgotten);
        if has_room && !session.partitions.is_empty() {
            let asks = session.partitions.values().map(|cached| (cached.key.clone(), cached.ask)).collect();
            return Context::Incremental { session_id: request.session_id, asks };
        }
        drop(session);
        end(all, request.session_id, &entry);
        if has_room {
            return Context::Full { session_id: 0, asks: Vec::new() };
        }
        // It is gone, as when others need its place: the client starts anew with all it wants.
        Context::Error(FETCH_SESSION_ID_NOT_FOUND)
    }

    /// Notes what was answered: of an incremental fetch the indices (into its asks) that are news come back, and partitions that
    /// gave records go to the end of the order, for fairness.
    pub fn answered(
        all: &Mutex<FetchSessions>,
        session_id: i32,
        asks: &[(Key, Ask)],
        replies: &[PartitionReply],
    ) -> Vec<usize> {
        let found = all.lock().sessions.get(&session_id).cloned();
        let Some(entry) = found else { return (0..replies.len()).collect() };
        let mut session = entry.session.lock();
        // Another request may have changed the session meanwhile: then everything is news.
        let same = session.partitions.len() == asks.len()
            && session.partitions.values().zip(asks).all(|(cached, (key, _))| cached.key == *key);
        if !same {
            return (0..replies.len()).collect();
        }
        let (mut news, mut served) = (Vec::new(), Vec::new());
        for (at, ((place, cached), reply)) in session.partitions.iter_mut().zip(replies).enumerate() {
            if cached.tell(reply) {
                news.push(at);
            }
            if !reply.records.is_empty() {
                served.push(*place);
            }
        }
        served.into_iter().for_each(|place| session.move_behind(place));
        news
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// When all places are taken: takes out the session that was not used for longest, if that is long enough.
    fn evict(&mut self, now: i64) -> Option<Arc<Entry>> {
        if self.sessions.len() < self.slots {
            return None;
        }
        let used_ms = self.sessions.iter().map(|(id, entry)| (entry.used_ms.load(Ordering::Relaxed), *id));
        let (oldest_ms, id) = used_ms.min()?;
        if now - oldest_ms >= EVICT_AFTER_MS { self.sessions.remove(&id) } else { None }
    }

    /// Whether a session of so many partitions may be made under this id.
    fn has_place(&self, id: i32, partitions: usize) -> bool {
        let held = self.held.partitions.load(Ordering::Relaxed);
        self.sessions.len() < self.slots
            && held.saturating_add(partitions) <= self.held.most
            && !self.sessions.contains_key(&id)
    }
}

/// The id of a new session with what is asked for; 0: there is no room for it.
fn make(all: &Mutex<FetchSessions>, request: &Request, new_id: u64, now: i64) -> i32 {
    let id = i32::try_from(new_id % (i32::MAX as u64 - 1)).unwrap_or(0) + 1;
    let mut sessions = all.lock();
    let evicted = sessions.evict(now);
    let session = Session::new(request.uses_ids, sessions.held.clone());
    let entry = Arc::new(Entry { used_ms: AtomicI64::new(now), session: Mutex::new(session) });
    let has_place = sessions.has_place(id, request.asks.len());
    if has_place {
        sessions.sessions.insert(id, entry.clone());
    }
    drop(sessions);
    drop(evicted);
    // Nobody knows its id before the answer.
    if has_place && entry.session.lock().update(request.asks.clone(), &[]) {
        return id;
    }
    end(all, id, &entry);
    0
}

/// Takes a session out, unless its id is another's by now.
fn end(all: &Mutex<FetchSessions>, id: i32, entry: &Arc<Entry>) {
    let mut all = all.lock();
    if all.sessions.get(&id).is_some_and(|there| Arc::ptr_eq(there, entry)) {
        all.sessions.remove(&id);
    }
}

impl Cached {
    /// Remembers an answer as told; whether it is news.
    fn tell(&mut self, reply: &PartitionReply) -> bool {
        let news = !reply.records.is_empty()
            || reply.error != 0
            || self.high_watermark != reply.high_watermark
            || self.log_start != reply.log_start
            || reply.preferred_read_replica >= 0;
        self.high_watermark = if reply.error == 0 { reply.high_watermark } else { -1 };
        self.log_start = reply.log_start;
        news
    }
}

impl Session {
    fn new(uses_ids: bool, held: Arc<Held>) -> Session {
        Session {
            uses_ids,
            next_epoch: 1,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            share: Share { held, mine: 0 },
        }
    }

    /// Takes over what a request changes. `false`: all sessions together would hold too much; this one is of no use any more.
    fn update(&mut self, asks: Vec<(Key, Ask)>, forgotten: &[Key]) -> bool {
        for (key, ask) in asks {
            if let Some(place) = self.places.get(&key) {
                if let Some(cached) = self.partitions.get_mut(place) {
                    cached.ask = ask;
                }
            } else if self.share.grow() {
                self.add(Cached { key, ask, high_watermark: -1, log_start: -1 });
            } else {
                return false;
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
                self.share.shrink();
            }
        }
        true
    }

    /// Behind all others.
    fn add(&mut self, cached: Cached) {
        self.places.insert(cached.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn move_behind(&mut self, place: u64) {
        if let Some(cached) = self.partitions.remove(&place) {
            self.add(cached);
        }
    }
}

impl Share {
    /// By one partition; `false`: there are as many as there may be.
    fn grow(&mut self) -> bool {
        self.mine += 1;
        let has_room = self.held.partitions.fetch_add(1, Ordering::Relaxed) < self.held.most;
        if !has_room {
            self.shrink();
        }
        has_room
    }

    fn shrink(&mut self) {
        self.mine -= 1;
        self.held.partitions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.partitions.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: i32) -> Key {
        Key { name: "t".into(), id: TopicId::ZERO, index }
    }

    fn request(session_id: i32, epoch: i32, partitions: &[i32], forgotten: &[i32]) -> Request {
        let ask = Ask { offset: 0, max_bytes: 1, leader_epoch: -1 };
        Request {
            session_id,
            epoch,
            uses_ids: false,
            asks: partitions.iter().map(|index| (key(*index), ask)).collect(),
            forgotten: forgotten.iter().map(|index| key(*index)).collect(),
        }
    }

    fn sessions(slots: usize, most: usize) -> Mutex<FetchSessions> {
        Mutex::new(FetchSessions::limited(slots, most))
    }

    fn begin(all: &Mutex<FetchSessions>, request: Request, new_id: u64, now: i64) -> Context {
        FetchSessions::begin(all, request, new_id, now)
    }

    fn indices(context: &Context) -> Vec<i32> {
        match context {
            Context::Full { asks, .. } | Context::Incremental { asks, .. } => {
                asks.iter().map(|(key, _)| key.index).collect()
            }
            Context::Error(_) => Vec::new(),
        }
    }

    fn reply(index: i32, high_watermark: Offset, records: &'static [u8]) -> PartitionReply {
        let records = if records.is_empty() { Vec::new() } else { vec![bytes::Bytes::from_static(records)] };
        PartitionReply { high_watermark, log_start: 0, records, ..PartitionReply::error(index, 0) }
    }

    #[test]
    fn a_session_lives_through_its_requests() {
        let sessions = sessions(2, 100);
        let full = begin(&sessions, request(0, 0, &[0, 1, 2], &[]), 41, 0);
        let Context::Full { session_id, .. } = full else { panic!() };
        assert_eq!(session_id, 42);
        let asks: Vec<_> = request(0, 0, &[0, 1, 2], &[]).asks;
        FetchSessions::answered(&sessions, 42, &asks, &[reply(0, 1, b"x"), reply(1, 1, b""), reply(2, 1, b"")]);
        let next = begin(&sessions, request(42, 1, &[], &[]), 0, 0);
        assert_eq!(indices(&next), [1, 2, 0], "what gave records waits");
        let Context::Incremental { asks, .. } = next else { panic!() };
        let replies = [reply(1, 1, b""), reply(2, 5, b""), reply(0, 1, b"")];
        let news = FetchSessions::answered(&sessions, 42, &asks, &replies);
        assert_eq!(news, [1], "only a changed high watermark is news");
        let forgot = begin(&sessions, request(42, 2, &[7], &[1]), 0, 0);
        assert_eq!(indices(&forgot), [2, 0, 7]);
        assert_eq!(begin(&sessions, request(42, 2, &[], &[]), 0, 0), Context::Error(71));
        assert_eq!(begin(&sessions, request(9, 1, &[], &[]), 0, 0), Context::Error(70));
        assert_eq!(begin(&sessions, request(0, -7, &[0], &[]), 0, 0), Context::Error(70), "no epoch of a full fetch");
        assert_eq!(begin(&sessions, request(42, i32::MIN, &[], &[]), 0, 0), Context::Error(71));
        let mut by_id = request(42, 3, &[], &[]);
        by_id.uses_ids = true;
        assert_eq!(begin(&sessions, by_id, 0, 0), Context::Error(106));
        let closed = begin(&sessions, request(42, -1, &[3], &[]), 0, 0);
        assert!(matches!(closed, Context::Full { session_id: 0, .. }));
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn slots_are_limited() {
        let sessions = sessions(1, 100);
        assert!(matches!(begin(&sessions, request(0, 0, &[0], &[]), 1, 0), Context::Full { session_id: 2, .. }));
        assert!(matches!(begin(&sessions, request(0, 0, &[0], &[]), 2, 100), Context::Full { session_id: 0, .. }));
        let later = begin(&sessions, request(0, 0, &[0], &[]), 3, EVICT_AFTER_MS);
        assert!(matches!(later, Context::Full { session_id: 4, .. }), "{later:?}");
        assert_eq!(sessions.lock().len(), 1);
    }

    #[test]
    fn an_empty_session_ends() {
        let sessions = sessions(1, 100);
        begin(&sessions, request(0, 0, &[0], &[]), 1, 0);
        let ended = begin(&sessions, request(2, 1, &[], &[0]), 1, 0);
        assert_eq!(ended, Context::Full { session_id: 0, asks: vec![] });
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn what_all_sessions_hold_is_bounded() {
        let sessions = sessions(4, 4);
        let held = || sessions.lock().held.partitions.load(Ordering::Relaxed);
        begin(&sessions, request(0, 0, &[0, 1], &[]), 1, 0);
        begin(&sessions, request(0, 0, &[0], &[]), 2, 0);
        assert_eq!(indices(&begin(&sessions, request(2, 1, &[2], &[]), 0, 0)), [0, 1, 2], "a session grows");
        assert_eq!(held(), 4);
        let full = begin(&sessions, request(0, 0, &[0], &[]), 3, 0);
        assert!(matches!(full, Context::Full { session_id: 0, .. }), "no room for another");
        assert_eq!(indices(&begin(&sessions, request(2, 2, &[1], &[]), 0, 0)), [0, 1, 2], "what it has is no more");
        assert_eq!(begin(&sessions, request(3, 1, &[5], &[]), 0, 0), Context::Error(70), "it would be too much");
        assert_eq!(begin(&sessions, request(3, 2, &[], &[]), 0, 0), Context::Error(70), "it starts anew");
        assert_eq!(held(), 3);
        assert_eq!(sessions.lock().len(), 1);
        assert_eq!(indices(&begin(&sessions, request(2, 3, &[], &[0, 1, 1, 9]), 0, 0)), [2]);
        let again = begin(&sessions, request(0, 0, &[0, 1, 2], &[]), 4, 0);
        assert!(matches!(again, Context::Full { session_id: 5, .. }), "what was forgotten makes room: {again:?}");
        begin(&sessions, request(5, -1, &[], &[]), 0, 0);
        assert_eq!(held(), 1);
    }

    #[test]
    fn changes_find_their_partitions_wherever_they_stand() {
        let sessions = sessions(1, 100);
        let asks = request(0, 0, &[0, 1, 2], &[]).asks;
        begin(&sessions, request(0, 0, &[0, 1, 2], &[]), 1, 0);
        FetchSessions::answered(&sessions, 2, &asks, &[reply(0, 1, b"x"), reply(1, 1, b""), reply(2, 1, b"x")]);
        let mut change = request(2, 1, &[0, 7], &[1]);
        change.asks[0].1.offset = 5;
        let Context::Incremental { asks, .. } = begin(&sessions, change, 0, 0) else { panic!() };
        let found: Vec<_> = asks.iter().map(|(key, ask)| (key.index, ask.offset)).collect();
        assert_eq!(found, [(0, 5), (2, 0), (7, 0)]);
    }

    #[test]
    fn who_works_on_a_session_keeps_no_other_waiting() {
        let sessions = sessions(2, 100);
        begin(&sessions, request(0, 0, &[0], &[]), 1, 0);
        begin(&sessions, request(0, 0, &[0], &[]), 2, 0);
        let busy = sessions.lock().sessions[&2].clone();
        let _long_work = busy.session.lock();
        assert_eq!(indices(&begin(&sessions, request(3, 1, &[], &[]), 0, 0)), [0]);
        assert!(matches!(begin(&sessions, request(2, -1, &[], &[]), 0, 0), Context::Full { session_id: 0, .. }));
    }
}
