//! `alluvium serve`: starts the runtime and the broker, prints where it is, and turns signals into an orderly end.
//!
//! The first SIGTERM or SIGINT cancels the token: the broker stops accepting, flushes, acknowledges, closes its session and returns. The
//! second ends the process on the spot; what is not yet in the store was not yet acknowledged, so nothing acknowledged is lost.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::broker::{self, Started};
use crate::config::{LogFormat, Settings};

/// Exit code of a process that a second signal ended: as of one that SIGINT killed.
const INTERRUPTED: i32 = 130;

pub fn serve(settings: Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("the runtime does not start: {error}")))?;
    let result = runtime.block_on(run(settings));
    // What still runs in the background has nothing left to say to anybody.
    runtime.shutdown_background();
    result
}

async fn run(settings: Settings) -> Result<(), Failure> {
    let no_signals = |error| Failure::Run(format!("signals can't be caught: {error}"));
    let terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let shutdown = CancellationToken::new();
    let watcher = tokio::spawn(watch_signals(terminate, interrupt, shutdown.clone()));
    let (sender, started) = oneshot::channel();
    let greeter = tokio::spawn(greet(settings.clone(), started));
    let result = broker::run(settings, shutdown, sender).await;
    watcher.abort();
    greeter.abort();
    result.map_err(|error| Failure::Run(error.to_string()))
}

async fn greet(settings: Settings, started: oneshot::Receiver<Started>) {
    let Ok(started) = started.await else { return };
    match settings.log_format {
        LogFormat::Text => super::print(&super::banner(&settings, started)),
        LogFormat::Json => {
            tracing::info!(kafka = %started.kafka, admin = %started.admin, store = settings.store, "started");
        }
    }
}

async fn watch_signals(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    let name = any(&mut terminate, &mut interrupt).await;
    tracing::info!(
        signal = name,
        "stopping: what was received is flushed and acknowledged; a second signal exits at once"
    );
    shutdown.cancel();
    let name = any(&mut terminate, &mut interrupt).await;
    tracing::warn!(signal = name, "second signal: exiting at once");
    std::process::exit(INTERRUPTED);
}

async fn any(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
