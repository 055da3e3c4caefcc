//! Sockets: accepts connections and runs them. Knows frames, not requests.

pub mod connection;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Services;

/// Where connections come from; simulation has its own.
pub trait Listener: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn accept(&mut self) -> impl Future<Output = std::io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> std::io::Result<(TcpStream, SocketAddr)> {
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
    let places = Arc::new(Semaphore::new(services.settings.max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stops.accepting.cancelled() => break,
            accepted = accept(listener, &places) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: the next attempt would fail at once, too.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let services = services.clone();
        let stops = stops.clone();
        connections.spawn(async move {
            services.metrics.connections_open.inc();
            services.metrics.connections_accepted.inc();
            connection::run(stream, peer, services.clone(), stops).await;
            services.metrics.connections_open.dec();
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

/// Waits for a free place first, so that a storm of connections stays in the kernel's queue.
async fn accept<L: Listener>(
    listener: &mut L,
    places: &Arc<Semaphore>,
) -> std::io::Result<(L::Stream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}
