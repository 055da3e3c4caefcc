//! Raises the cluster's feature level when all open sessions have supported a higher one for long enough ([`crate::meta::level`]).
//!
//! Any broker may, and they need not agree on how long: the rule is checked on the image of the entry. A broker that starts anew counts
//! anew. Failure: it is tried again a second later. Cancellation: at any point; a proposal that is on its way counts or does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::api::Services;
use crate::meta::image::Image;
use crate::meta::level::{self, Settling};
use crate::types::FEATURE_LEVEL;

const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
pub async fn run(services: Arc<Services>) {
    let settings = &services.settings;
    let allowed = settings.feature_level.unwrap_or(FEATURE_LEVEL).min(services.meta.supports());
    let mut settling = Settling::new(allowed, Duration::from_millis(settings.feature_level_settle_ms));
    let mut told = false;
    loop {
        let level = services.meta.read(|image| image.level);
        services.metrics.feature_level.set(i64::from(level));
        if level > allowed && !told {
            tracing::warn!(level, allowed, "the cluster's feature level is above the setting: it never falls");
            told = true;
        }
        let now = services.env.clock.boot();
        if let Some(level) = services.meta.read(|image| settling.look(image, now)) {
            raise(&services, level).await;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn raise(services: &Services, wanted: u16) {
    let raise = move |image: &Image| Ok::<_, Infallible>(level::raise(image, wanted));
    match services.meta.propose(raise).await {
        Ok(_) => {
            let level = services.meta.read(|image| image.level);
            tracing::info!(
                level,
                "the cluster's feature level was raised: programs that do not support it can't come back"
            );
        }
        Err(error) => {
            tracing::warn!(%error, level = wanted, "the cluster's feature level could not be raised; trying on")
        }
    }
}
