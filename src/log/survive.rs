//! Watches the sessions of other brokers in the bucket, and closes those that are dead, so that what they held is served again.
//!
//! Who tells over its connection that it writes is hardly looked at; when the connection goes down it is looked at once. A look finds out
//! whether the segment that was told of stands, and gallops from there, or from the end that was seen last, to the first number that holds
//! no segment. Whom to look at, and what follows, is decided by [`Suspicion`]. A dead session is fenced, which any number of brokers may do at once, and closed in the metadata table at the end
//! that the fence found; whoever comes first grants its partitions to those that are ready. Did the fence find more segments than
//! were seen, then the session lived a moment ago and what it shows is proven for a while: it is closed a ttl after that was seen.
//!
//! Failure: a store or a table that does not answer costs time, and looks that failed are no evidence. Cancellation: at any point;
//! what was begun is done anew by the next broker.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Log;
use super::fence::fence;
use super::recover::{FooterReader, RecoveryError};
use super::session::{close, grant_vacant, is_open};
use super::suspicion::{LOOKS_PER_TTL, Suspicion, Told};
use crate::links::{Heard, Links};
use crate::meta::image::Image;
use crate::segment::{Tail, segment_key};
use crate::store::create::CreatePolicy;
use crate::types::{SegmentNumber, SessionId};

/// Sessions that are looked at side by side.
const PARALLEL: usize = 8;

/// Watches and closes until it is dropped, and says who lives. `ttl`: of all sessions, as the image says.
pub async fn run(log: Arc<Log>, links: Arc<Links>, ttl: Duration, living: watch::Sender<BTreeSet<SessionId>>) {
    let mut suspicion = Suspicion::new(ttl);
    let mut turns = links.turns();
    let mut open = Vec::new();
    loop {
        let tick = Instant::now() + ttl / LOOKS_PER_TTL;
        loop {
            let pause = suspicion.pause(&open, log.env.clock.boot());
            tokio::select! {
                biased;
                () = sleep_until(tick.min(Instant::now() + pause)) => break,
                // The sender outlives this task.
                _ = turns.changed() => {
                    suspicion.follow(&open, links.heard());
                    let alive = suspicion.alive(log.env.clock.boot()).collect();
                    living.send_if_modified(|living| std::mem::replace(living, alive) != *living);
                }
            }
        }
        let own = log.session;
        open = log.meta.read(|image| image.open_sessions().map(|(id, _)| id).collect());
        if !open.contains(&own) {
            // Others closed this one: what it says of them would leave their partitions to nobody.
            return;
        }
        open.retain(|id| *id != own);
        if let Err(error) = grant_vacant(&log.meta).await {
            tracing::warn!(%error, "partitions that nobody holds could not be granted");
        }
        suspicion.follow(&open, links.heard());
        suspicion.committed(log.proof.sent_at(), log.env.clock.boot());
        look_at_all(&log, ttl, &open, &mut suspicion).await;
        // Also when nobody came: there may be more to hand over.
        living.send_replace(suspicion.alive(log.env.clock.boot()).collect());
        for session in suspicion.dead(log.proof.sent_at(), log.env.clock.boot()) {
            take_over(&log, ttl, session, &mut suspicion).await;
        }
    }
}

async fn look_at_all(log: &Log, ttl: Duration, open: &[SessionId], suspicion: &mut Suspicion) {
    let mut looks = Vec::new();
    for session in suspicion.due(open, log.env.clock.boot()) {
        let (seen, heard) = suspicion.looks(session, log.env.clock.boot());
        looks.push(look(log, ttl, session, seen, heard));
    }
    let mut looks = stream::iter(looks).buffer_unordered(PARALLEL);
    while let Some((session, found)) = looks.next().await {
        if let Some(Found { end, told, began }) = found {
            suspicion.looked(session, end, told, began, log.env.clock.boot());
        }
    }
}

/// What a look found, and when it began.
struct Found {
    end: SegmentNumber,
    told: Told,
    began: Duration,
}

/// Looks for the end of a session; `None`: the store did not answer in time.
async fn look(
    log: &Log,
    ttl: Duration,
    session: SessionId,
    seen: SegmentNumber,
    heard: Option<Heard>,
) -> (SessionId, Option<Found>) {
    let began = log.env.clock.boot();
    // What was merged is no longer there to be seen.
    let merged = log.meta.read(|image| image.merges.merged(session));
    let found = async {
        let (from, told) = whether_told(&log.footers, session, heard, seen.max(merged), merged).await?;
        Ok::<_, RecoveryError>((end(&log.footers, session, from).await?, told))
    };
    match tokio::time::timeout(ttl / 3, found).await {
        Ok(Ok((end, told))) => (session, Some(Found { end, told, began })),
        Ok(Err(error)) => {
            tracing::debug!(%session, %error, "a look at another broker's session failed");
            (session, None)
        }
        Err(_) => (session, None),
    }
}

/// Whether the newest segment that was told of stands, and where the look goes on.
async fn whether_told(
    reader: &FooterReader,
    session: SessionId,
    heard: Option<Heard>,
    from: SegmentNumber,
    merged: SegmentNumber,
) -> Result<(SegmentNumber, Told), RecoveryError> {
    let Some(heard) = heard.filter(|heard| heard.committed > merged) else { return Ok((from, Told::Nothing)) };
    match reader.tail(&segment_key(session, heard.committed - 1)).await? {
        Some(Tail::Segment(segment)) if segment.footer.nonce == heard.nonce => {
            Ok((from.max(heard.committed), Told::True(heard)))
        }
        _ => Ok((from, Told::False)),
    }
}

/// The first number from `from` on that holds no segment, if none is missing between.
async fn end(reader: &FooterReader, session: SessionId, from: SegmentNumber) -> Result<SegmentNumber, RecoveryError> {
    let is_there = async |number| {
        let tail = reader.tail(&segment_key(session, number)).await?;
        Ok::<_, RecoveryError>(matches!(tail, Some(Tail::Segment(_))))
    };
    let (mut low, mut step) = (from, 1);
    while is_there(low + step - 1).await? {
        (low, step) = (low + step, step * 2);
    }
    // Something is missing at `low + step - 1`.
    let mut above = low + step - 1;
    while low < above {
        let middle = low + (above - low) / 2;
        if is_there(middle).await? {
            low = middle + 1;
        } else {
            above = middle;
        }
    }
    Ok(low)
}

/// Fences a dead session and closes it.
async fn take_over(log: &Log, ttl: Duration, session: SessionId, suspicion: &mut Suspicion) {
    let began = log.env.clock.boot();
    let policy = CreatePolicy { deadline: Some(ttl), ..CreatePolicy::default() };
    let merged = log.meta.read(|image| image.merges.merged(session));
    let end = match fence(&log.footers, &policy, session, log.session, merged).await {
        Ok(end) => end,
        Err(error) => {
            tracing::warn!(%session, %error, "a session that looks dead could not be fenced");
            return;
        }
    };
    let now = log.env.clock.boot();
    suspicion.looked(session, end, Told::Nothing, began, now);
    if !suspicion.is_dead(session, log.proof.sent_at(), now) {
        tracing::info!(%session, end, "a session that looked dead had written more: it is closed when its proof is over");
        return;
    }
    let own = log.session;
    let changes = move |image: &Image| if is_open(image, own) { close(image, session, end) } else { Vec::new() };
    let closed = log.meta.propose(move |image| Ok::<_, Infallible>(changes(image))).await;
    match closed {
        Ok(_) => {
            tracing::warn!(%session, end, "another broker's session is dead: its partitions go to those that are ready")
        }
        Err(error) => tracing::warn!(%session, %error, "a dead session could not be closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{SegmentDraft, build};
    use crate::store::Store;
    use crate::store::memory::MemoryStore;
    use crate::types::env::testing::env;

    #[tokio::test(start_paused = true)]
    async fn a_look_finds_the_end_from_wherever_it_begins() {
        const SESSION: SessionId = SessionId { revision: 1, random: 1 };
        let store = Arc::new(MemoryStore::shared());
        let reader = FooterReader { store: store.clone(), env: env(1) };
        for count in 0..40 {
            for from in 0..=count {
                assert_eq!(end(&reader, SESSION, from).await.expect("it answers"), count, "from {from}");
            }
            let (extents, repeated) = (Vec::new(), Vec::new());
            let draft = SegmentDraft {
                session: SESSION,
                number: count,
                nonce: 1,
                created_ms: 0,
                committed: count,
                extents,
                repeated,
            };
            let bytes = build(draft).expect("a segment").bytes;
            store.create(&segment_key(SESSION, count), bytes).await.expect("free");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_tells_whether_what_was_told_stands() {
        const SESSION: SessionId = SessionId { revision: 1, random: 1 };
        let store = Arc::new(MemoryStore::shared());
        let reader = FooterReader { store: store.clone(), env: env(1) };
        for number in 0..3 {
            let (extents, repeated) = (Vec::new(), Vec::new());
            let (nonce, committed) = (number + 100, number);
            let draft = SegmentDraft { session: SESSION, number, nonce, created_ms: 0, committed, extents, repeated };
            store.create(&segment_key(SESSION, number), build(draft).expect("a segment").bytes).await.expect("free");
        }
        let heard = |committed, nonce| {
            let (since, age) = (Duration::ZERO, Duration::ZERO);
            Heard { up: true, committed, nonce, since, age, grew_at: None }
        };
        // (what was told, merged, from where the look was to begin; from where it goes on, what was told is true)
        let table = [
            (None, 0, 1, 1, None),
            (Some(heard(3, 102)), 0, 1, 3, Some(true)),
            (Some(heard(2, 101)), 0, 3, 3, Some(true)),
            (Some(heard(3, 101)), 0, 1, 1, Some(false)),
            (Some(heard(4, 103)), 0, 1, 1, Some(false)),
            (Some(heard(3, 102)), 3, 3, 3, None),
            (Some(heard(0, 102)), 0, 1, 1, None),
            (Some(heard(u64::MAX, 102)), 0, 1, 1, Some(false)),
        ];
        for (told, merged, from, goes_on, truth) in table {
            let found = whether_told(&reader, SESSION, told, from, merged).await.expect("it answers");
            let expected = match truth {
                None => Told::Nothing,
                Some(true) => Told::True(told.expect("told")),
                Some(false) => Told::False,
            };
            assert_eq!(found, (goes_on, expected), "{told:?}");
        }
    }
}
