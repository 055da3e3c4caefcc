//! Sockets: accepts connections and runs them. Knows frames, not requests.
//!
//! [`places`] decides who may connect, [`frames`] reads requests under budgets, [`answers`] writes what comes back, [`connection`]
//! puts them together, [`closings`] lets them end one after the other. [`memory`] is a network for tests.

mod answers;
mod closings;
pub mod connection;
pub mod descriptors;
mod frames;
pub mod memory;
pub mod places;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::closings::Closings;
use self::frames::Unfinished;
use self::places::{Place, Places};
use crate::api::Services;
use crate::types::env::Env;
use crate::types::pace::Pace;

/// An accept that failed for want of something is tried again after this, one that failed otherwise at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After so many connections that were accepted in a row, whatever else is ready has its turn.
const ACCEPTED_IN_A_ROW: u32 = 8;

/// While all places are taken, those who are idle by then are asked to leave so often.
const CLEAR_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from; simulation has its own.
pub trait Listener: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Fails for a client that is gone already, which its connection will notice.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// Two stops: no new connections and requests, then no connections at all.
#[derive(Clone)]
pub struct Stops {
    pub accepting: CancellationToken,
    pub connections: CancellationToken,
}

/// Accepts until told to stop; returns when all connections are closed.
pub async fn serve<L: Listener>(listener: &mut L, services: Arc<Services>, stops: Stops) {
    let per_address = usize::try_from(services.settings.kafka.max_connections_per_ip).unwrap_or(0);
    let places = Places::new(services.settings.max_connections, per_address);
    let unfinished = Unfinished::new(&services.log);
    let closings = Arc::new(Closings::new());
    let connections = TaskTracker::new();
    let mut in_a_row = 0;
    let complaints = Pace::new(Duration::from_secs(1));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stops.accepting.cancelled() => break,
            accepted = accept(listener, &places, &services.env) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(more) = complaints.pass(services.env.clock.boot()) {
                    tracing::warn!(%error, more, "a connection could not be accepted");
                }
                pause_after(&error).await;
                continue;
            }
        };
        in_a_row += 1;
        if in_a_row % ACCEPTED_IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
        services.metrics.connections_accepted.inc();
        let Some(place) = place else {
            services.metrics.connections_refused.inc();
            if let Some(more) = complaints.pass(services.env.clock.boot()) {
                tracing::info!(%peer, more, "connection closed: its address has max.connections.per.ip already");
            }
            continue;
        };
        let (services, stops) = (services.clone(), stops.clone());
        let shared = (unfinished.clone(), closings.clone());
        connections.spawn(async move {
            services.metrics.connections_open.inc();
            connection::run(stream, peer, services.clone(), stops, &place, shared).await;
            services.metrics.connections_open.dec();
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

/// Waits for a free place first, so that a storm of connections stays in the kernel's queue. No place: the address has enough.
async fn accept<L: Listener>(
    listener: &mut L,
    places: &Arc<Places>,
    env: &Env,
) -> io::Result<(L::Stream, SocketAddr, Option<Place>)> {
    while places.is_full() {
        places.clear_some(env.clock.boot());
        tokio::select! {
            biased;
            () = places.left() => {}
            () = tokio::time::sleep(CLEAR_PAUSE) => {}
        }
    }
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, places.take(peer.ip(), env.clock.boot())))
}

/// A client that was gone before it was accepted is its own fault: a storm of such must not hold the others up. What else goes wrong
/// would go wrong again at once: out of descriptors, out of memory.
async fn pause_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _ => tokio::time::sleep(ACCEPT_PAUSE).await,
    }
}
