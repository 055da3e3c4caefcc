//! Connections between the brokers of a cluster: cheap ones, over which nothing goes that must be true.
//!
//! ```text
//! each session ─► each other open session, at the address that it advertises to clients:
//!   ask    {newest revision that I know}           every ttl/12, and at once when there is a newer one
//!   answer {session, segments committed, nonce of the newest, its age, newest revision}
//! ```
//!
//! Two things come of it. **Nudges**: who hears of a revision that he does not know reads the table's tail ([`Metadata::hint`]), so that all
//! know of a change within milliseconds; while all others answer, the table is polled less often. **Less looking**: who tells of a new
//! segment again and again need not be looked at in the bucket ([`crate::log::suspicion`]). A lie, or silence, costs a read that finds
//! nothing, or looks that would not have been needed; it makes nobody a leader and ends nobody's session.
//!
//! [`run`] keeps one task a peer ([`peer`]) and is the only one that begins or ends them. Its mailbox is the newest revision, a number;
//! what it heard last stands in [`Links`].
//!
//! Failure: a connection that breaks, that is silent for ttl/12, or where another session answers is *down*, at once, which wakes those
//! who watch; it is tried again after a pause. An older broker closes on the first ask: it is asked again much later, and looked at
//! in the bucket meanwhile. Cancellation: at any point, with all its peers; nothing is owed to anybody.

mod peer;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::peer::Peer;
use crate::meta::Metadata;
use crate::meta::entry::Endpoint;
use crate::types::env::Env;
use crate::types::{SegmentNumber, SessionId};
use crate::wire::link::Answer;

/// A connection to another broker.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The port to other brokers' doors; simulation has its own.
#[async_trait]
pub trait Dial: Send + Sync {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>>;
}

/// The network of the machine.
pub struct TcpDial;

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// What a session told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It answers over its connection.
    pub up: bool,
    /// Segments 0..committed are committed, and the newest of them has this nonce.
    pub committed: SegmentNumber,
    pub nonce: u64,
    /// When this was told first, on the boot clock, and how old the newest segment was then.
    pub since: Duration,
    pub age: Duration,
    /// When more was told than before.
    pub grew_at: Option<Duration>,
}

impl Heard {
    fn next(before: Option<Heard>, answer: &Answer, now: Duration) -> Heard {
        let told = |heard: &Heard| (heard.committed, heard.nonce) == (answer.committed, answer.nonce);
        if let Some(same) = before.filter(told) {
            return Heard { up: true, ..same };
        }
        let grew = before.is_some_and(|before| answer.committed > before.committed);
        Heard {
            up: true,
            committed: answer.committed,
            nonce: answer.nonce,
            since: now,
            age: Duration::from_millis(answer.age_ms),
            grew_at: if grew { Some(now) } else { before.and_then(|before| before.grew_at) },
        }
    }

    /// How old the newest segment is by now, as far as was told.
    pub fn age_at(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since) + self.age
    }
}

/// What the other sessions tell, for those who watch them.
pub struct Links {
    heard: Mutex<BTreeMap<SessionId, Heard>>,
    /// Counts when a connection came up or went down, and when a session told for the first time that it wrote.
    turns: watch::Sender<u64>,
}

impl Default for Links {
    fn default() -> Links {
        Links { heard: Mutex::default(), turns: watch::Sender::new(0) }
    }
}

impl Links {
    /// What was heard last of each session, also of those that do not answer any more.
    pub fn heard(&self) -> BTreeMap<SessionId, Heard> {
        self.heard.lock().clone()
    }

    /// Tells whenever a connection comes up or goes down, and when a session tells for the first time that it wrote.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// Sessions that answer.
    pub fn up_count(&self) -> usize {
        self.heard.lock().values().filter(|heard| heard.up).count()
    }

    fn all_up<'a>(&self, mut peers: impl Iterator<Item = &'a SessionId>) -> bool {
        let heard = self.heard.lock();
        peers.all(|id| heard.get(id).is_some_and(|heard| heard.up))
    }

    fn hear(&self, session: SessionId, answer: &Answer, now: Duration) {
        let mut heard = self.heard.lock();
        let before = heard.get(&session).copied();
        let next = Heard::next(before, answer, now);
        heard.insert(session, next);
        drop(heard);
        if before.is_none_or(|before| !before.up || before.grew_at.is_none() && next.grew_at.is_some()) {
            self.turns.send_modify(|turns| *turns += 1);
        }
    }

    fn lose(&self, session: SessionId) {
        let lost = self.heard.lock().get_mut(&session).is_some_and(|heard| std::mem::take(&mut heard.up));
        if lost {
            self.turns.send_modify(|turns| *turns += 1);
        }
    }

    fn follow(&self, open: &BTreeMap<SessionId, Endpoint>) {
        self.heard.lock().retain(|id, _| open.contains_key(id));
    }
}

/// What [`run`] works with.
#[derive(Clone)]
pub struct Means {
    pub links: Arc<Links>,
    pub meta: Arc<Metadata>,
    pub dial: Arc<dyn Dial>,
    pub env: Env,
    pub ttl: Duration,
}

/// Keeps a connection to each other open session, until it is dropped. `own`: the session that asks.
pub async fn run(means: Means, own: SessionId) {
    let Means { links, meta, .. } = &means;
    let (mut revisions, mut turns) = (meta.subscribe(), links.turns());
    let mut peers: BTreeMap<SessionId, Ended> = BTreeMap::new();
    let _quiet = Quiet(meta);
    loop {
        revisions.borrow_and_update();
        turns.borrow_and_update();
        let open = others(meta, own);
        peers.retain(|id, _| open.contains_key(id));
        links.follow(&open);
        for (session, endpoint) in &open {
            let begin = || Ended(tokio::spawn(peer::run(means.clone(), Peer::new(*session, endpoint))));
            peers.entry(*session).or_insert_with(begin);
        }
        meta.told_by_all(links.all_up(open.keys()));
        tokio::select! {
            biased;
            changed = revisions.changed() => if changed.is_err() { return },
            // The sender is ours.
            _ = turns.changed() => {}
        }
    }
}

/// Where the other open sessions say that they are. One that does not say is not heard of, and so never up.
fn others(meta: &Metadata, own: SessionId) -> BTreeMap<SessionId, Endpoint> {
    meta.read(|image| {
        let others = image.open_sessions().filter(|(id, _)| *id != own);
        let nowhere = || Endpoint { listener: String::new(), host: String::new(), port: 0 };
        others.map(|(id, session)| (id, session.endpoints.first().cloned().unwrap_or_else(nowhere))).collect()
    })
}

/// While nobody listens to the others, the table is polled as often as ever.
struct Quiet<'a>(&'a Metadata);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.told_by_all(false);
    }
}

/// A task that ends with its owner.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(committed: SegmentNumber, nonce: u64, age_ms: u64) -> Answer {
        Answer { session: SessionId { revision: 1, random: 1 }, committed, nonce, age_ms, revision: 9 }
    }

    #[test]
    fn what_is_told_again_is_as_old_as_it_was() {
        let at = Duration::from_secs;
        // (answer, when; since, age by then, when it grew)
        let table = [
            (answer(5, 1, 2000), 10, 10, 2, None),
            (answer(5, 1, 5000), 13, 10, 5, None),
            (answer(6, 2, 0), 14, 14, 0, Some(14)),
            (answer(6, 2, 1000), 20, 14, 6, Some(14)),
            (answer(6, 3, 1000), 21, 21, 1, Some(14)),
            (answer(4, 4, 0), 22, 22, 0, Some(14)),
            (answer(9, 5, 0), 23, 23, 0, Some(23)),
        ];
        let mut heard = None;
        for (answer, now, since, age, grew) in table {
            let next = Heard::next(heard, &answer, at(now));
            assert_eq!((next.since, next.age_at(at(now)), next.grew_at), (at(since), at(age), grew.map(at)), "{now}");
            heard = Some(Heard { up: false, ..next });
        }
    }

    #[test]
    fn who_watches_is_told_of_each_turn_once() {
        let links = Links::default();
        let mut turns = links.turns();
        let mut turned = || {
            let turned = turns.has_changed().expect("its sender lives");
            turns.borrow_and_update();
            turned
        };
        let peers = [SessionId { revision: 1, random: 1 }, SessionId { revision: 2, random: 2 }];
        assert!(links.all_up([].iter()) && !links.all_up(peers.iter()));
        links.hear(peers[0], &answer(5, 1, 0), Duration::ZERO);
        assert!(turned() && !links.all_up(peers.iter()));
        links.hear(peers[0], &answer(5, 1, 0), Duration::ZERO);
        assert!(!turned());
        links.hear(peers[0], &answer(6, 2, 0), Duration::ZERO);
        assert!(turned(), "the first one that it wrote");
        links.hear(peers[0], &answer(7, 3, 0), Duration::ZERO);
        assert!(!turned());
        links.hear(peers[1], &answer(6, 2, 0), Duration::ZERO);
        assert!(turned() && links.all_up(peers.iter()) && links.up_count() == 2);
        links.lose(peers[0]);
        assert!(turned() && !links.all_up(peers.iter()) && links.heard()[&peers[0]].committed == 7);
        links.lose(peers[0]);
        links.lose(SessionId { revision: 3, random: 3 });
        assert!(!turned());
    }
}
