//! One client connection: frames in, responses out in the order of the requests.
//!
//! A reader half turns bytes into requests and begins them in order; a writer half makes the answers one after the other and writes
//! each with one vectored write. Between them is a queue of at most [`UNANSWERED_MAX`] requests: a client that does not read its
//! answers is not read from. Bytes are charged to a budget as they arrive, those of Produce to one and all others to another; when it
//! is used up, the socket is not read.
//!
//! Ends: the client closes, a frame is malformed or stalls, an answer asks to close, the session is over. Either half ends the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Stops;
use crate::api::{self, Reply, Request, Services};
use crate::log::append::budget::{Budget, Charge};
use crate::types::metrics::Metrics;
use crate::wire::table;

/// Requests of one connection that wait for their answers.
const UNANSWERED_MAX: usize = 64;

/// A frame that has begun must make progress within this; so must an answer that is being written.
const STALL_LIMIT: Duration = Duration::from_secs(10);
const WRITE_STALL_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a frame are read in steps of this at most, and charged as they have arrived: whoever declares much and sends nothing
/// holds nothing.
const READ_STEP: usize = 256 << 10;

/// Memory for a frame is reserved at once up to this (pages that are not written cost nothing), and when so much of it has arrived,
/// for all of it.
const CAPACITY_AT_ONCE: usize = 2 << 20;

/// A connection that holds more than its share under pressure looks again after this.
const PRESSURE_PAUSE: Duration = Duration::from_millis(5);

/// Key, version, correlation id: what every request begins with.
const HEAD_BYTES: usize = 8;

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client closed the connection")]
    ByClient,
    #[error("i/o: {0}")]
    Io(#[from] std::io::Error),
    #[error("idle for too long")]
    Idle,
    #[error("a frame made no progress for {} s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("a frame of {0} bytes is too short or too long")]
    Length(i64),
    #[error("{0}")]
    Refused(String),
    #[error("the broker is stopping")]
    Stopping,
}

/// A request whose answer is due.
struct Pending {
    answer: futures::future::BoxFuture<'static, Reply>,
    held: Held,
}

/// Bytes that this connection holds of the budget.
struct Held {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Runs a connection to its end.
pub async fn run<S>(stream: S, peer: SocketAddr, services: Arc<Services>, stops: Stops)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (input, output) = tokio::io::split(stream);
    let (queue, pending) = mpsc::channel(UNANSWERED_MAX);
    let reader = Reader {
        input,
        host: Arc::from(peer.ip().to_string()),
        held: Arc::new(AtomicUsize::new(0)),
        services: services.clone(),
    };
    let ended = tokio::select! {
        biased;
        () = stops.connections.cancelled() => Ended::Stopping,
        // The writer ends when the reader has ended and everything was answered, or with an error.
        ((), ended) = async { tokio::join!(reader.run(queue, &stops), write(output, pending, &services.metrics)) } => ended,
    };
    match ended {
        Ended::ByClient | Ended::Io(_) | Ended::Idle | Ended::Stopping => {
            tracing::debug!(%peer, reason = %ended, "connection closed");
        }
        Ended::Stalled | Ended::Length(_) | Ended::Refused(_) => {
            services.metrics.connections_refused.inc();
            tracing::info!(%peer, reason = %ended, "connection closed: bad input");
        }
    }
}

struct Reader<R> {
    input: R,
    host: Arc<str>,
    held: Arc<AtomicUsize>,
    services: Arc<Services>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads requests until the end; the reason goes through the queue, behind the requests before it.
    async fn run(mut self, queue: mpsc::Sender<Result<Pending, Ended>>, stops: &Stops) {
        loop {
            let begun = tokio::select! {
                biased;
                () = stops.accepting.cancelled() => Err(Ended::Stopping),
                () = queue.closed() => return,
                begun = self.next() => begun,
            };
            let over = begun.is_err();
            if queue.send(begun).await.is_err() || over {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Pending, Ended> {
        let (frame, charge) = self.frame().await?;
        let held = Held { bytes: frame.len(), all: self.held.clone() };
        held.all.fetch_add(held.bytes, Ordering::Relaxed);
        let request = Request { frame, charge: Arc::new(charge), client_host: self.host.clone() };
        Ok(Pending { answer: api::begin(&self.services, request).await, held })
    }

    /// Reads one frame, without its length.
    async fn frame(&mut self) -> Result<(Bytes, Charge), Ended> {
        let idle = Duration::from_millis(
            u64::try_from(self.services.settings.kafka.connections_max_idle_ms).unwrap_or(u64::MAX),
        );
        let mut prefix = [0u8; 4];
        let first = match timeout(idle, self.input.read(&mut prefix)).await {
            Err(_) => return Err(Ended::Idle),
            Ok(Ok(0)) => return Err(Ended::ByClient),
            Ok(read) => read?,
        };
        self.exact(&mut prefix[first..]).await?;
        let length = i32::from_be_bytes(prefix);
        let most = self.services.settings.kafka.socket_request_max_bytes;
        if length < HEAD_BYTES as i32 || length > most {
            return Err(Ended::Length(i64::from(length)));
        }
        let length = length as usize;
        let mut frame = Vec::with_capacity(length.min(CAPACITY_AT_ONCE));
        let mut charge = Charge::none();
        while frame.len() < length {
            // The first step only shows which API it is, and so how long it may be.
            let goal = if frame.len() < HEAD_BYTES { HEAD_BYTES } else { length };
            if frame.len() == frame.capacity() {
                // Of just its length: a frame may be held for long.
                frame.reserve_exact(length - frame.len());
            }
            self.step(&mut frame, goal).await?;
            if frame.len() == HEAD_BYTES {
                check_cap(&frame, length)?;
            }
            if frame.len() < HEAD_BYTES {
                continue;
            }
            let log = &self.services.log;
            let budget = if carries_records(&frame) { &log.budget } else { &log.control_budget };
            let room = room(budget, &self.held, frame.len(), charge.bytes());
            // Who waits with half a frame may be what the others wait for.
            charge.add(match frame.len() < length {
                true => timeout(STALL_LIMIT, room).await.map_err(|_| Ended::Stalled)?,
                false => room.await,
            });
        }
        Ok((Bytes::from(frame), charge))
    }

    /// Reads some bytes, up to `goal` in all.
    async fn step(&mut self, frame: &mut Vec<u8>, goal: usize) -> Result<(), Ended> {
        let step = (goal - frame.len()).min(READ_STEP);
        let mut limited = (&mut self.input).take(step as u64);
        match timeout(STALL_LIMIT, limited.read_buf(frame)).await {
            Err(_) => Err(Ended::Stalled),
            Ok(Ok(0)) => Err(Ended::ByClient),
            Ok(read) => read.map(|_| ()).map_err(Ended::from),
        }
    }

    async fn exact(&mut self, bytes: &mut [u8]) -> Result<(), Ended> {
        match timeout(STALL_LIMIT, self.input.read_exact(bytes)).await {
            Err(_) => Err(Ended::Stalled),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Ended::ByClient),
            Ok(read) => read.map(|_| ()).map_err(Ended::from),
        }
    }
}

/// Waits for room for the bytes of a frame that have arrived; nothing more is read meanwhile.
async fn room(budget: &Budget, held: &AtomicUsize, arrived: usize, charged: usize) -> Charge {
    while budget.under_pressure() && held.load(Ordering::Relaxed) + arrived > budget.total() / 16 {
        tokio::time::sleep(PRESSURE_PAUSE).await;
    }
    // A frame larger than the whole budget has to do with the whole budget.
    budget.charge(arrived.min(budget.total()).saturating_sub(charged)).await
}

/// What is asked of a broker that can take no more records is still answered: it has a budget of its own.
fn carries_records(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce as i16)
}

/// Each API has its own limit; only Produce carries data.
fn check_cap(head: &[u8], length: usize) -> Result<(), Ended> {
    let key = i16::from_be_bytes([head[0], head[1]]);
    match table::find(key) {
        Some(row) if length <= row.frame_cap => Ok(()),
        Some(row) => Err(Ended::Refused(format!("{}: a request of {length} bytes is too long", row.name))),
        None => Err(Ended::Refused(format!("API key {key} is not served"))),
    }
}

/// Makes and writes the answers in order.
async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut queue: mpsc::Receiver<Result<Pending, Ended>>,
    metrics: &Metrics,
) -> Ended {
    while let Some(pending) = queue.recv().await {
        let Pending { answer, held } = match pending {
            Ok(pending) => pending,
            Err(ended) => return ended,
        };
        match answer.await {
            Reply::Send(chunks) => {
                metrics.sent_bytes.inc_by(chunks.iter().map(|chunk| chunk.len() as u64).sum());
                if let Err(ended) = send(&mut output, chunks).await {
                    return ended;
                }
            }
            Reply::Nothing => {}
            Reply::Close(reason) => return Ended::Refused(reason),
        }
        drop(held);
    }
    Ended::ByClient
}

async fn send<W: AsyncWrite + Unpin>(output: &mut W, chunks: Vec<Bytes>) -> Result<(), Ended> {
    let mut chunks = std::collections::VecDeque::from(chunks);
    while !chunks.is_empty() {
        let slices: Vec<_> = chunks.iter().take(64).map(|chunk| std::io::IoSlice::new(chunk)).collect();
        let mut written = match timeout(WRITE_STALL_LIMIT, output.write_vectored(&slices)).await {
            Err(_) => return Err(Ended::Stalled),
            Ok(Ok(0)) => return Err(Ended::ByClient),
            Ok(written) => written?,
        };
        while let Some(first) = chunks.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            chunks.pop_front();
        }
    }
    Ok(())
}
