//! Incremental fetch sessions (KIP-227; Kafka's `FetchSession`, `FetchManager`). Pure.
//!
//! A session remembers the partitions of a consumer and what it was told last, so that a request names only changes and an answer
//! holds only partitions with news. Sessions live in memory: a consumer whose session is gone gets an error and starts anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

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
    used_ms: i64,
    partitions: VecDeque<Cached>,
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
    sessions: BTreeMap<i32, Session>,
}

impl FetchSessions {
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions { slots, sessions: BTreeMap::new() }
    }

    /// `new_id`: random bits for a session that may be made.
    pub fn begin(&mut self, request: Request, new_id: u64, now: i64) -> Context {
        if matches!(request.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.sessions.remove(&request.session_id);
            let session_id = if request.epoch == INITIAL_EPOCH { self.make(&request, new_id, now) } else { 0 };
            return Context::Full { session_id, asks: request.asks };
        }
        let Some(session) = self.sessions.get_mut(&request.session_id) else {
            return Context::Error(FETCH_SESSION_ID_NOT_FOUND);
        };
        if session.uses_ids != request.uses_ids {
            return Context::Error(FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if session.next_epoch != request.epoch {
            return Context::Error(INVALID_FETCH_SESSION_EPOCH);
        }
        session.next_epoch = if request.epoch == i32::MAX { 1 } else { request.epoch + 1 };
        session.used_ms = now;
        session.update(request.asks, &request.forgotten);
        if session.partitions.is_empty() {
            self.sessions.remove(&request.session_id);
            return Context::Full { session_id: 0, asks: Vec::new() };
        }
        let asks = session.partitions.iter().map(|cached| (cached.key.clone(), cached.ask)).collect();
        Context::Incremental { session_id: request.session_id, asks }
    }

    /// Notes what was answered: of an incremental fetch the indices (into its asks) that are news come back, and partitions that
    /// gave records go to the end of the order, for fairness.
    pub fn answered(&mut self, session_id: i32, asks: &[(Key, Ask)], replies: &[PartitionReply]) -> Vec<usize> {
        let Some(session) = self.sessions.get_mut(&session_id) else { return (0..replies.len()).collect() };
        // Another request may have changed the session meanwhile: then everything is news.
        let same = session.partitions.len() == asks.len()
            && session.partitions.iter().zip(asks).all(|(cached, (key, _))| cached.key == *key);
        if !same {
            return (0..replies.len()).collect();
        }
        let tell = |(at, cached): (usize, &mut Cached)| cached.tell(&replies[at]).then_some(at);
        let news = session.partitions.iter_mut().enumerate().filter_map(tell).collect();
        let (with, mut without): (Vec<_>, Vec<_>) =
            session.partitions.drain(..).enumerate().partition(|(at, _)| !replies[*at].records.is_empty());
        without.extend(with);
        session.partitions.extend(without.into_iter().map(|(_, cached)| cached));
        news
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn make(&mut self, request: &Request, new_id: u64, now: i64) -> i32 {
        let held: usize = self.sessions.values().map(|session| session.partitions.len()).sum();
        if self.slots == 0 || held + request.asks.len() > PARTITIONS_MAX {
            return 0;
        }
        if self.sessions.len() >= self.slots {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_ms);
            match oldest.filter(|(_, session)| now - session.used_ms >= EVICT_AFTER_MS).map(|(id, _)| *id) {
                Some(id) => self.sessions.remove(&id),
                None => return 0,
            };
        }
        let id = i32::try_from(new_id % (i32::MAX as u64 - 1)).unwrap_or(0) + 1;
        if self.sessions.contains_key(&id) {
            return 0;
        }
        let mut session =
            Session { uses_ids: request.uses_ids, next_epoch: 1, used_ms: now, partitions: VecDeque::new() };
        session.update(request.asks.clone(), &[]);
        self.sessions.insert(id, session);
        id
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
    fn update(&mut self, asks: Vec<(Key, Ask)>, forgotten: &[Key]) {
        let mut places: BTreeMap<Key, usize> =
            self.partitions.iter().enumerate().map(|(at, cached)| (cached.key.clone(), at)).collect();
        for (key, ask) in asks {
            match places.get(&key) {
                Some(at) => self.partitions[*at].ask = ask,
                None => {
                    places.insert(key.clone(), self.partitions.len());
                    self.partitions.push_back(Cached { key, ask, high_watermark: -1, log_start: -1 });
                }
            }
        }
        if !forgotten.is_empty() {
            let forgotten: std::collections::BTreeSet<_> = forgotten.iter().collect();
            self.partitions.retain(|cached| !forgotten.contains(&cached.key));
        }
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
        let mut sessions = FetchSessions::new(2);
        let Context::Full { session_id, .. } = sessions.begin(request(0, 0, &[0, 1, 2], &[]), 41, 0) else { panic!() };
        assert_eq!(session_id, 42);
        let asks: Vec<_> = request(0, 0, &[0, 1, 2], &[]).asks;
        sessions.answered(42, &asks, &[reply(0, 1, b"x"), reply(1, 1, b""), reply(2, 1, b"")]);
        let next = sessions.begin(request(42, 1, &[], &[]), 0, 0);
        assert_eq!(indices(&next), [1, 2, 0], "what gave records waits");
        let Context::Incremental { asks, .. } = next else { panic!() };
        let news = sessions.answered(42, &asks, &[reply(1, 1, b""), reply(2, 5, b""), reply(0, 1, b"")]);
        assert_eq!(news, [1], "only a changed high watermark is news");
        let forgot = sessions.begin(request(42, 2, &[7], &[1]), 0, 0);
        assert_eq!(indices(&forgot), [2, 0, 7]);
        assert_eq!(sessions.begin(request(42, 2, &[], &[]), 0, 0), Context::Error(71));
        assert_eq!(sessions.begin(request(9, 1, &[], &[]), 0, 0), Context::Error(70));
        assert_eq!(sessions.begin(request(0, -7, &[0], &[]), 0, 0), Context::Error(70), "no epoch of a full fetch");
        assert_eq!(sessions.begin(request(42, i32::MIN, &[], &[]), 0, 0), Context::Error(71));
        let mut by_id = request(42, 3, &[], &[]);
        by_id.uses_ids = true;
        assert_eq!(sessions.begin(by_id, 0, 0), Context::Error(106));
        let closed = sessions.begin(request(42, -1, &[3], &[]), 0, 0);
        assert!(matches!(closed, Context::Full { session_id: 0, .. }));
        assert!(sessions.is_empty());
    }

    #[test]
    fn slots_are_limited() {
        let mut sessions = FetchSessions::new(1);
        assert!(matches!(sessions.begin(request(0, 0, &[0], &[]), 1, 0), Context::Full { session_id: 2, .. }));
        assert!(matches!(sessions.begin(request(0, 0, &[0], &[]), 2, 100), Context::Full { session_id: 0, .. }));
        let later = sessions.begin(request(0, 0, &[0], &[]), 3, EVICT_AFTER_MS);
        assert!(matches!(later, Context::Full { session_id: 4, .. }), "{later:?}");
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn an_empty_session_ends() {
        let mut sessions = FetchSessions::new(1);
        sessions.begin(request(0, 0, &[0], &[]), 1, 0);
        let ended = sessions.begin(request(2, 1, &[], &[0]), 1, 0);
        assert_eq!(ended, Context::Full { session_id: 0, asks: vec![] });
        assert!(sessions.is_empty());
    }
}
