//! One client connection: frames in, responses out in the order of the requests.
//!
//! A reader half turns bytes into requests ([`super::frames`]) and begins them in order; a writer half makes the answers one after the
//! other and writes each ([`super::answers`]). Between them is a queue of at most [`UNANSWERED_MAX`] requests: a client that does not
//! read its answers is not read from, and little is read behind a request that may wait for minutes.
//!
//! Ends: the client closes, a frame is malformed or stalls, an answer is not read or asks to close, the place is needed, the session is
//! over. Either half ends the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Stops;
use super::answers;
use super::closings::Closings;
use super::frames::{Frames, Unfinished};
use super::places::{Guest, Place};
use crate::api::{self, Reply, Request, Services};
use crate::types::mutant::{self, Mutant};

/// Requests of one connection that wait for their answers.
const UNANSWERED_MAX: usize = 64;

/// A frame that has begun must make progress within this.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client closed the connection")]
    ByClient,
    #[error("i/o: {0}")]
    Io(#[from] std::io::Error),
    #[error("idle for too long")]
    Idle,
    #[error("idle for longest, and the broker has as many connections as it may have")]
    Displaced,
    #[error("a frame made no progress for {} s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("a frame came too slowly, and others need its room")]
    Slow,
    #[error("an answer was not read for too long")]
    Unread,
    #[error("a frame of {0} bytes is too short or too long")]
    Length(i64),
    #[error("{0}")]
    Refused(String),
    #[error("the broker is stopping")]
    Stopping,
}

impl Ended {
    /// Whether the client did what none should do.
    fn is_abuse(&self) -> bool {
        match self {
            Ended::ByClient | Ended::Io(_) | Ended::Idle | Ended::Displaced | Ended::Stopping => false,
            Ended::Stalled | Ended::Slow | Ended::Unread | Ended::Length(_) | Ended::Refused(_) => true,
        }
    }
}

/// A request whose answer is due.
struct Pending {
    answer: futures::future::BoxFuture<'static, Reply>,
    held: Held,
    /// Of a request that may wait for minutes: see [`Frames::waits`].
    waits: Option<OwnedSemaphorePermit>,
}

/// Bytes of a request that was not answered yet.
struct Held {
    bytes: usize,
    guest: Arc<Guest>,
}

impl Held {
    fn new(bytes: usize, guest: &Arc<Guest>) -> Held {
        guest.unanswered.fetch_add(bytes, Ordering::Relaxed);
        Held { bytes, guest: guest.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guest.unanswered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Runs a connection to its end.
pub(super) async fn run<S>(
    stream: S,
    peer: SocketAddr,
    services: Arc<Services>,
    stops: Stops,
    place: &Place,
    (unfinished, closings): (Unfinished, Arc<Closings>),
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (input, output) = tokio::io::split(stream);
    let (queue, pending) = mpsc::channel(UNANSWERED_MAX);
    let guest = place.guest.clone();
    let frames = Frames { input, unfinished, guest: guest.clone(), waits: Arc::new(Semaphore::new(1)) };
    let mut reader = Reader {
        frames,
        host: Arc::from(peer.ip().to_string()),
        guest: guest.clone(),
        services: services.clone(),
        gone: CancellationToken::new(),
    };
    let mut writer = Writer { output, guest: guest.clone(), services: services.clone() };
    let ended = tokio::select! {
        biased;
        () = stops.connections.cancelled() => Ended::Stopping,
        () = guest.leave.cancelled() => Ended::Displaced,
        // The writer ends when the reader has ended and everything was answered, or with an error.
        ((), ended) = async { tokio::join!(reader.run(queue, &stops), writer.run(pending)) } => ended,
    };
    if ended.is_abuse() {
        services.metrics.connections_refused.inc();
        if let Some(more) = services.complaints.pass(services.env.clock.boot()) {
            tracing::info!(%peer, reason = %ended, more, "connection closed: bad input");
        }
    } else {
        tracing::debug!(%peer, reason = %ended, "connection closed");
    }
    let turn = closings.turn().await;
    drop((reader, writer));
    drop(turn);
}

struct Reader<R> {
    frames: Frames<R>,
    host: Arc<str>,
    guest: Arc<Guest>,
    services: Arc<Services>,
    /// Cancelled when nothing more comes from the client.
    gone: CancellationToken,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads requests until the end; the reason goes through the queue, behind the requests before it.
    async fn run(&mut self, queue: mpsc::Sender<Result<Pending, Ended>>, stops: &Stops) {
        loop {
            let begun = tokio::select! {
                biased;
                () = stops.accepting.cancelled(), if !mutant::on(Mutant::LeaveProven) => Err(Ended::Stopping),
                () = queue.closed() => return,
                begun = self.next() => begun,
            };
            let over = begun.is_err();
            if over && !stops.accepting.is_cancelled() {
                self.gone.cancel();
            }
            if queue.send(begun).await.is_err() || over {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Pending, Ended> {
        let (frame, charge) = self.frames.next(&self.services.settings.kafka).await?;
        let held = Held::new(frame.len(), &self.guest);
        self.guest.used(self.services.env.clock.boot());
        // It is free: the frame was not read before it was.
        let waits = may_wait(&frame).then(|| self.frames.waits.clone().try_acquire_owned().ok()).flatten();
        let request =
            Request { frame, charge: Arc::new(charge), client_host: self.host.clone(), gone: self.gone.clone() };
        if mutant::on(Mutant::ParkedIsOvertaken) {
            let services = self.services.clone();
            #[expect(clippy::async_yields_async, reason = "the first step and the rest are awaited apart")]
            let mut begun = Box::pin(async move { api::begin(&services, request).await });
            let answer = (&mut begun).now_or_never().unwrap_or_else(|| Box::pin(async { begun.await.await }));
            return Ok(Pending { answer, held, waits });
        }
        Ok(Pending { answer: api::begin(&self.services, request).await, held, waits })
    }
}

/// Whether the answer may be minutes in coming: for want of records, or of other members of a group.
fn may_wait(frame: &[u8]) -> bool {
    let key = frame.first_chunk().map(|key| i16::from_be_bytes(*key));
    [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup].iter().any(|waits| key == Some(*waits as i16))
}

struct Writer<W> {
    output: W,
    guest: Arc<Guest>,
    services: Arc<Services>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Makes and writes the answers in order.
    async fn run(&mut self, mut queue: mpsc::Receiver<Result<Pending, Ended>>) -> Ended {
        let services = &self.services;
        while let Some(pending) = queue.recv().await {
            let Pending { answer, held, waits } = match pending {
                Ok(pending) => pending,
                Err(ended) => return ended,
            };
            let reply = answer.await;
            drop(waits);
            match reply {
                Reply::Send(chunks, charge) => {
                    services.metrics.sent_bytes.inc_by(chunks.iter().map(|chunk| chunk.len() as u64).sum());
                    if let Err(ended) = answers::send(&mut self.output, chunks, &charge, &services.unread).await {
                        return ended;
                    }
                }
                Reply::Nothing => {}
                Reply::Close(reason) => return Ended::Refused(reason),
            }
            drop(held);
            self.guest.used(services.env.clock.boot());
        }
        Ended::ByClient
    }
}
