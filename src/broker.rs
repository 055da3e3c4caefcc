//! Composition root: everything is put together here, for the program, the tests and the simulator alike.
//!
//! A broker is a loop over sessions. A session that ends by request ends the broker; one that the store refused (full disk, denied
//! bucket) is fenced and followed by a new one that starts from recovery; one that somebody else fenced ends the process: another
//! broker has this node id now.

mod levels;
mod series;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminState, Readiness, StoreSeries};
use crate::config::Settings;
use crate::links::{Dial, TcpDial};
use crate::log::append::SessionEnd;
use crate::log::session::OpenError;
use crate::meta::backends::{self, TableSettings};
use crate::meta::image::Session;
use crate::meta::{MetaError, MetaOptions, Metadata};
use crate::server::{Listener, descriptors, places};
use crate::store::StoreRef;
use crate::store::measure::MeasuredStore;
use crate::store::open;
use crate::store::probe::{self, ProbeError};
use crate::types::env::Env;
use crate::types::metrics::{Metrics, SessionPhase};
use crate::types::{NodeId, SessionId};

/// Pauses between sessions after the store refused one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{0}")]
    Start(String),
    #[error("the store {store}: {error}")]
    Probe { store: String, error: ProbeError },
    #[error(transparent)]
    Metadata(#[from] MetaError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "another broker with node id {node_id} took over (it put a fence at segment {number} of session {session}); \
         give each broker of a cluster its own --node-id, or none and an address of its own (--advertise)"
    )]
    Fenced { node_id: i32, session: String, number: u64 },
    #[error("stopped, to be looked at by a person: {0}")]
    Broken(String),
}

/// Where a broker that has started really listens (ports that were given as 0 are known by then), and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
    pub node_id: NodeId,
}

/// The world that a broker runs in.
pub struct Ports<L> {
    pub store: StoreRef,
    pub env: Env,
    pub listener: L,
    /// The way to other brokers.
    pub dial: Arc<dyn Dial>,
    /// Where clients are told to connect.
    pub advertised: (String, u16),
    pub metrics: Arc<Metrics>,
    pub readiness: watch::Sender<Readiness>,
}

/// Runs a broker until `shutdown` is cancelled and everything is flushed, or until it can't go on.
pub async fn run(
    mut settings: Settings,
    shutdown: CancellationToken,
    started: oneshot::Sender<Started>,
) -> Result<(), BrokerError> {
    let affordable = places::affordable(settings.max_connections, descriptors::raise());
    if affordable < settings.max_connections {
        tracing::info!(max_connections = affordable, "the limit of descriptors (ulimit -n) allows fewer connections");
        settings.max_connections = affordable;
    }
    let store = open_store(&settings).await?;
    let cannot_listen = |what: &str, address: SocketAddr, error| {
        BrokerError::Start(format!("{what} can't listen on {address}: {error}"))
    };
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| cannot_listen("the broker", settings.listen, error))?;
    limit_unread(&listener, settings.kafka.socket_send_buffer_bytes);
    let pages =
        TcpListener::bind(settings.admin).await.map_err(|error| cannot_listen("admin", settings.admin, error))?;
    let local = |listener: &TcpListener| listener.local_addr().map_err(|error| BrokerError::Start(error.to_string()));
    let (kafka, admin) = (local(&listener)?, local(&pages)?);
    let env = Env::system();
    let measured = MeasuredStore::new(store, env.clock.clone());
    let metrics = Metrics::new();
    metrics.show("store", Arc::new(StoreSeries(measured.stats())));
    let readiness = watch::Sender::new(Readiness::NotReady("starting".to_owned()));
    let state = AdminState { metrics: metrics.clone(), readiness: readiness.subscribe() };
    let admin_stop = CancellationToken::new();
    let pages = tokio::spawn(admin::serve(pages, state, admin_stop.clone()));
    let ports = Ports {
        store: Arc::new(measured),
        env,
        listener,
        dial: Arc::new(TcpDial),
        advertised: advertised(&settings, kafka)?,
        metrics,
        readiness,
    };
    let result = run_on(ports, settings, shutdown, |node_id| {
        let _ = started.send(Started { kafka, admin, node_id });
    });
    let result = result.await;
    admin_stop.cancel();
    let _ = pages.await;
    result
}

/// Of what a client does not read, the kernel keeps this: left to itself it takes 4 MiB of each connection, and the time to copy them
/// while others wait. Connections inherit it. -1: the kernel's choice.
fn limit_unread(listener: &TcpListener, bytes: i32) {
    let Ok(bytes) = usize::try_from(bytes) else { return };
    if let Err(error) = SockRef::from(listener).set_send_buffer_size(bytes) {
        tracing::warn!(bytes, %error, "socket.send.buffer.bytes is not applied");
    }
}

/// Runs a broker on the ports given. `ready` is called once, with its node id, when clients are first served.
pub async fn run_on<L: Listener>(
    ports: Ports<L>,
    settings: Settings,
    shutdown: CancellationToken,
    ready: impl FnOnce(NodeId) + Send,
) -> Result<(), BrokerError> {
    run_with(ports, settings, MetaOptions::default(), shutdown, ready).await
}

/// As [`run_on`], with constants of the metadata that only the simulator changes.
pub async fn run_with<L: Listener>(
    mut ports: Ports<L>,
    settings: Settings,
    options: MetaOptions,
    shutdown: CancellationToken,
    ready: impl FnOnce(NodeId) + Send,
) -> Result<(), BrokerError> {
    if ports.store.is_shared() {
        match probe::probe(&ports.store, &ports.env, shutdown.cancelled()).await {
            Ok(passed) => tracing::debug!(?passed, "the store creates names once only"),
            Err(ProbeError::Stopped) => return Ok(()),
            Err(error) => return Err(BrokerError::Probe { store: ports.store.describe(), error }),
        }
    }
    let poll_interval = options.poll_interval;
    // Who stops a start stops it on the spot: what it leaves is what a crash leaves.
    let meta = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        meta = open_metadata(&ports, &settings, options) => meta?,
    };
    let _poller = ports.store.is_shared().then(|| Aborting(meta.spawn_poller(poll_interval)));
    let settings = Arc::new(settings);
    let mut ready = Some(ready);
    let mut pause = FIRST_PAUSE;
    loop {
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            opened = session::open(&ports, &meta, &settings) => opened,
        };
        let end = match opened {
            Ok(session) => {
                // Before anybody is told where it listens: who connects now is served.
                ports.readiness.send_replace(Readiness::Ready);
                ports.metrics.set_session_phase(SessionPhase::ready);
                let (id, node_id) = (session.id(), session.node_id());
                if let Some(ready) = ready.take() {
                    ready(node_id);
                }
                let begun = ports.env.clock.boot();
                let end = session::run(session, &mut ports, &meta, &shutdown).await?;
                if ports.env.clock.boot() - begun > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                ports.readiness.send_replace(Readiness::NotReady("its session is over".to_owned()));
                let own =
                    Own { session: id, node_id, may_change: settings.node_id.is_none() && ports.store.is_shared() };
                match after(end, &meta, own, &shutdown).await? {
                    Some(reason) => reason,
                    None => return Ok(()),
                }
            }
            // A start that fails is the operator's to see; later failures pass.
            Err(error) if ready.is_some() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        let seconds = pause.as_secs();
        tracing::error!(reason = end, seconds, "the session is over: trying to open another one");
        ports.readiness.send_replace(Readiness::NotReady(end));
        ports.metrics.set_session_phase(SessionPhase::starting);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            // A table that this program can't read will not become one that it can.
            error = meta.stopped() => return Err(BrokerError::Metadata(error)),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Why another session is to follow the one that ended so; `None`: the broker was to stop.
async fn after(
    end: SessionEnd,
    meta: &Metadata,
    own: Own,
    shutdown: &CancellationToken,
) -> Result<Option<String>, BrokerError> {
    match end {
        SessionEnd::Drained => Ok(None),
        SessionEnd::Fenced { number } => {
            let replaced = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                replaced = is_replaced(meta, own) => replaced?,
            };
            if replaced {
                return Err(BrokerError::Fenced { node_id: own.node_id, session: own.session.to_string(), number });
            }
            Ok(Some(format!("it was silent for so long that another broker closed it at segment {number}")))
        }
        SessionEnd::Broken { reason } => Err(BrokerError::Broken(reason)),
        SessionEnd::Refused { number, reason } => {
            Ok(Some(format!("the store refuses writes, free space or mend access: segment {number}: {reason}")))
        }
    }
}

/// The session that ended.
#[derive(Clone, Copy)]
struct Own {
    session: SessionId,
    node_id: NodeId,
    /// The node id was found, not given: who has it now, at another address, only found it free.
    may_change: bool,
}

/// Whether a newer session of this node id is open or has been. Otherwise it was one of the other brokers that closed ours.
async fn is_replaced(meta: &Metadata, own: Own) -> Result<bool, MetaError> {
    while let Err(error) = meta.catch_up().await {
        if matches!(error, MetaError::Stopped(_)) {
            return Err(error);
        }
        tracing::warn!(%error, "nobody says whether another broker with this node id took over: asking again");
        tokio::time::sleep(FIRST_PAUSE).await;
    }
    Ok(meta.read(|image| {
        let at = |session: &Session| session.endpoints.first().cloned();
        let own_at = image.sessions.get(&own.session).and_then(at);
        let newer = image.sessions.iter().filter(|(id, _)| id.revision > own.session.revision);
        newer.filter(|(_, other)| other.node_id == own.node_id).any(|(_, other)| !own.may_change || at(other) == own_at)
    }))
}

async fn open_metadata<L>(
    ports: &Ports<L>,
    settings: &Settings,
    options: MetaOptions,
) -> Result<Arc<Metadata>, MetaError> {
    let table = backends::open(&ports.store, &ports.env, &table_settings(settings)).await?;
    Metadata::open(ports.store.clone(), table, ports.env.clone(), options).await
}

/// Which metadata table the settings name.
pub fn table_settings(settings: &Settings) -> TableSettings {
    TableSettings {
        url: settings.metadata.clone(),
        dynamodb_endpoint: settings.dynamodb_endpoint.clone(),
        region: settings.s3_region.clone(),
    }
}

/// Opens the store that the settings name.
pub async fn open_store(settings: &Settings) -> Result<StoreRef, BrokerError> {
    let fatal = Arc::new(|reason: &str| {
        tracing::error!(reason, "the folder of the log can no longer keep its promise: exiting");
        std::process::exit(1);
    });
    let options = settings.open_options(fatal);
    let url = settings.store.clone();
    let opened = tokio::task::spawn_blocking(move || open::open(&url, &options)).await;
    opened
        .map_err(|error| BrokerError::Start(error.to_string()))?
        .map_err(|error| BrokerError::Start(error.to_string()))
}

fn advertised(settings: &Settings, listening: SocketAddr) -> Result<(String, u16), BrokerError> {
    match settings.advertise {
        Some(_) => settings.advertised().map_err(|reason| BrokerError::Start(format!("advertise: {reason}"))),
        None => Ok((listening.ip().to_string(), listening.port())),
    }
}

/// A task that ends with its owner.
struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
