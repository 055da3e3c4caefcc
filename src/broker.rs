//! Composition root.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{0}")]
    Start(String),
}

/// Where a broker that has started really listens (ports that were given as 0 are known by then).
#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
}

/// Runs a broker until `shutdown` is cancelled and everything is flushed, or until it can't go on.
pub async fn run(
    _settings: Settings,
    _shutdown: CancellationToken,
    _started: tokio::sync::oneshot::Sender<Started>,
) -> Result<(), BrokerError> {
    Err(BrokerError::Start("this build has no broker".to_owned()))
}
