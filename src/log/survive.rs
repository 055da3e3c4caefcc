//! Watches the sessions of other brokers in the bucket, and closes those that are dead, so that what they held is served again.
//!
//! A look gallops from the end that was seen last to the first number that holds no segment. What follows from looks is decided by
//! [`Suspicion`]. A dead session is fenced, which any number of brokers may do at once, and closed in the metadata table at the end
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

use super::Log;
use super::fence::fence;
use super::recover::{FooterReader, RecoveryError};
use super::session::{close, grant_vacant};
use super::suspicion::Suspicion;
use crate::meta::image::{Image, SessionState};
use crate::segment::{Tail, segment_key};
use crate::store::create::CreatePolicy;
use crate::types::{SegmentNumber, SessionId};

/// Looks of one ttl: a ttl is seen to pass with a sixth of it to spare.
const LOOKS_PER_TTL: u32 = 6;

/// Sessions that are looked at side by side.
const PARALLEL: usize = 8;

/// Watches and closes until it is dropped, and says who lives. `ttl`: of all sessions, as the image says.
pub async fn run(log: Arc<Log>, ttl: Duration, living: watch::Sender<BTreeSet<SessionId>>) {
    let mut suspicion = Suspicion::new(ttl);
    loop {
        tokio::time::sleep(ttl / LOOKS_PER_TTL).await;
        let own = log.session;
        let mut open: Vec<SessionId> = log.meta.read(|image| image.open_sessions().map(|(id, _)| id).collect());
        if !open.contains(&own) {
            // Others closed this one: what it says of them would leave their partitions to nobody.
            return;
        }
        open.retain(|id| *id != own);
        if let Err(error) = grant_vacant(&log.meta).await {
            tracing::warn!(%error, "partitions that nobody holds could not be granted");
        }
        suspicion.follow(&open);
        suspicion.committed(log.proof.sent_at(), log.env.clock.boot());
        look_at_all(&log, ttl, &open, &mut suspicion).await;
        living.send_replace(suspicion.alive(log.env.clock.boot()).collect());
        for session in suspicion.dead(log.proof.sent_at(), log.env.clock.boot()) {
            take_over(&log, ttl, session, &mut suspicion).await;
        }
    }
}

async fn look_at_all(log: &Log, ttl: Duration, open: &[SessionId], suspicion: &mut Suspicion) {
    // What was merged is no longer there to be seen.
    let merged = |id: SessionId| log.meta.read(|image| image.merges.merged(id));
    let looks: Vec<_> = open.iter().map(|id| look(log, ttl, *id, suspicion.end_seen(*id).max(merged(*id)))).collect();
    let mut looks = stream::iter(looks).buffer_unordered(PARALLEL);
    while let Some((session, found)) = looks.next().await {
        if let Some((end, began)) = found {
            suspicion.looked(session, end, began, log.env.clock.boot());
        }
    }
}

/// The end of a session and when the look began; `None`: the store did not answer in time.
async fn look(
    log: &Log,
    ttl: Duration,
    session: SessionId,
    from: SegmentNumber,
) -> (SessionId, Option<(u64, Duration)>) {
    let began = log.env.clock.boot();
    match tokio::time::timeout(ttl / 3, end(&log.footers, session, from)).await {
        Ok(Ok(end)) => (session, Some((end, began))),
        Ok(Err(error)) => {
            tracing::debug!(%session, %error, "a look at another broker's session failed");
            (session, None)
        }
        Err(_) => (session, None),
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
    suspicion.looked(session, end, began, now);
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

fn is_open(image: &Image, session: SessionId) -> bool {
    image.sessions.get(&session).is_some_and(|found| !matches!(found.state, SessionState::Fenced { .. }))
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
}
