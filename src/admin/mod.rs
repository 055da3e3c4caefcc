//! HTTP for operators: health, readiness, metrics.
//!
//! - `/healthz`: 200 while the process answers at all; restart it when it does not.
//! - `/readyz`: 200 when clients are served, else 503 with the reason; send no clients here until then.
//! - `/metrics`: OpenMetrics text for Prometheus.

mod sources;

pub use sources::{CacheSeries, StoreSeries};

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::types::metrics::{CONTENT_TYPE, Metrics};

/// A request in progress gets so much time when the broker stops.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// Whether clients can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// And why not, for a person: `recovering 12 partitions`.
    NotReady(String),
}

/// What the pages are made of.
#[derive(Clone)]
pub struct AdminState {
    pub metrics: Arc<Metrics>,
    pub readiness: watch::Receiver<Readiness>,
}

/// Answers until `shutdown` is cancelled; half a second later at the latest it is over.
///
/// # Errors
/// When the listener is of no use any more.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: CancellationToken) -> std::io::Result<()> {
    let stop = shutdown.clone();
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(async move { stop.cancelled().await });
    let limit = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        biased;
        result = std::future::IntoFuture::into_future(server) => result,
        () = limit => Ok(()),
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn ready(State(state): State<AdminState>) -> (StatusCode, String) {
    match &*state.readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(state): State<AdminState>) -> Result<impl IntoResponse, StatusCode> {
    let text = state.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::MemoryBlockCache;
    use crate::store::Store;
    use crate::store::measure::MeasuredStore;
    use crate::store::retry::ReadPolicy;
    use crate::types::env::testing::env;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_answer_and_end_with_the_broker() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, readiness) = watch::channel(Readiness::NotReady("recovering".to_owned()));
        let shutdown = CancellationToken::new();
        let memory = std::sync::Arc::new(crate::store::memory::MemoryStore::new());
        let store = Arc::new(MeasuredStore::new(memory, env(1).clock));
        store.create("a", bytes::Bytes::from_static(b"123")).await.unwrap();
        store.create("a", bytes::Bytes::new()).await.unwrap_err();
        let blocks = MemoryBlockCache::new(store.clone(), env(1), 1 << 20, ReadPolicy::default());
        let metrics = Metrics::new();
        metrics.show("store", Arc::new(StoreSeries(store.stats())));
        metrics.show("cache", Arc::new(CacheSeries(Arc::new(blocks))));
        let state = AdminState { metrics, readiness };
        let server = tokio::spawn(serve(listener, state, shutdown.clone()));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("recovering\n"), "{answer}");
        sender.send(Readiness::Ready).unwrap();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/metrics").await;
        for part in [
            CONTENT_TYPE,
            "alluvium_connections_open 0",
            "alluvium_store_operations_total{operation=\"create\",outcome=\"ok\"} 1",
            "alluvium_store_operations_total{operation=\"create\",outcome=\"taken\"} 1",
            "alluvium_store_latency_seconds_bucket{le=\"+Inf\",operation=\"create\"} 2",
            "alluvium_store_latency_seconds_count{operation=\"create\"} 2",
            "alluvium_store_created_bytes_total 3",
            "alluvium_cache_hits_total 0",
            "alluvium_cache_bytes 0",
            "# EOF",
        ] {
            assert!(answer.contains(part), "{part} in\n{answer}");
        }
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /healthz HT").await.unwrap();
        shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), server).await;
        assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
    }
}
