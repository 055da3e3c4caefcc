//! One other session: connect, ask, listen, ask again; pauses that grow while it can't be reached.
//!
//! Between asks the connection is read from, though nothing may come: a peer that dies is noticed when its kernel says so, not when the
//! next answer is missing.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Means, Stream};
use crate::meta::entry::Endpoint;
use crate::store::retry::Backoff;
use crate::types::SessionId;
use crate::wire::link::{self, Answer, Ask, FRAME_MAX_BYTES};

/// Asks of one ttl; an answer has as long as the next ask.
const ASKS_PER_TTL: u32 = 12;

/// A connection may take so much of a ttl to come about.
const CONNECTS_PER_TTL: u32 = 6;

/// However many revisions come, asks are so far apart.
const NUDGE_PAUSE: Duration = Duration::from_millis(50);

/// Pauses between connections, and the one after an end that will be the same the next time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const DEAF_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Peer {
    session: SessionId,
    host: String,
    port: u16,
}

/// Why a connection is down.
#[derive(Debug, thiserror::Error)]
enum Down {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Silent,
    #[error("it sends what it was not asked for")]
    Strange,
    /// An older broker, or none of ours.
    #[error("it closed the connection instead of an answer")]
    Deaf,
    #[error("session {0} answers there")]
    Another(SessionId),
}

impl Peer {
    pub fn new(session: SessionId, endpoint: &Endpoint) -> Peer {
        Peer { session, host: endpoint.host.clone(), port: endpoint.port }
    }
}

/// Listens to the peer until it is dropped.
pub(super) async fn run(means: Means, peer: Peer) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let Err(down) = talk(&means, &peer, &mut backoff).await;
        means.links.lose(peer.session);
        let pause = match &down {
            Down::Deaf | Down::Another(_) | Down::Strange => DEAF_PAUSE,
            Down::Io(_) | Down::Silent => backoff.next(means.env.entropy.as_ref()),
        };
        tracing::debug!(session = %peer.session, host = peer.host, port = peer.port, reason = %down, ?pause, "no connection to another broker");
        sleep(pause).await;
    }
}

/// One connection, to its end.
async fn talk(means: &Means, peer: &Peer, backoff: &mut Backoff) -> Result<Infallible, Down> {
    let pause = means.ttl / ASKS_PER_TTL;
    let dialed = timeout(means.ttl / CONNECTS_PER_TTL, means.dial.dial(&peer.host, peer.port)).await;
    let mut stream = dialed.map_err(|_| Down::Silent)??;
    let mut revisions = means.meta.subscribe();
    let (mut correlation_id, mut answered_before) = (0i32, false);
    loop {
        let asked = Instant::now();
        let ask = Ask { revision: *revisions.borrow_and_update() };
        let answered =
            timeout(pause, exchange(stream.as_mut(), correlation_id, ask)).await.map_err(|_| Down::Silent)?;
        let answer = answered.map_err(|down| if answered_before { down } else { deaf(down) })?;
        if answer.session != peer.session {
            return Err(Down::Another(answer.session));
        }
        means.links.hear(peer.session, &answer, means.env.clock.boot());
        means.meta.hint(answer.revision);
        *backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        (correlation_id, answered_before) = (correlation_id.wrapping_add(1), true);
        let mut nothing = [0; 1];
        let next = async {
            sleep_until(asked + NUDGE_PAUSE).await;
            // It knows what it told; and the sender lives as long as the metadata.
            let newer = revisions.wait_for(|revision| *revision > answer.revision.max(ask.revision));
            let _sooner = timeout(pause.saturating_sub(asked.elapsed()), newer).await;
        };
        tokio::select! {
            biased;
            read = stream.read(&mut nothing) => return Err(ended(read?)),
            () = next => {}
        }
    }
}

/// What it means that so many bytes came while none were asked for.
fn ended(bytes: usize) -> Down {
    if bytes == 0 { Down::Io(io::ErrorKind::UnexpectedEof.into()) } else { Down::Strange }
}

/// A connection that ends before the first answer.
fn deaf(down: Down) -> Down {
    match down {
        Down::Io(_) => Down::Deaf,
        down => down,
    }
}

async fn exchange(stream: &mut dyn Stream, correlation_id: i32, ask: Ask) -> Result<Answer, Down> {
    stream.write_all(&link::encode_ask(correlation_id, ask)).await?;
    stream.flush().await?;
    let length = usize::try_from(stream.read_i32().await?).map_err(|_| Down::Strange)?;
    if length > FRAME_MAX_BYTES {
        return Err(Down::Strange);
    }
    let mut frame = [0; FRAME_MAX_BYTES];
    let frame = &mut frame[..length];
    stream.read_exact(frame).await?;
    match link::decode_answer(frame) {
        Ok((id, answer)) if id == correlation_id => Ok(answer),
        _ => Err(Down::Strange),
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
