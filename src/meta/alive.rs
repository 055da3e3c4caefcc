//! Whether anybody still works on a cluster, as far as the bucket shows it: a live session writes a segment every third of its ttl.

use std::time::Duration;

use super::error::MetaError;
use super::image::Image;
use super::retry::Objects;
use crate::segment::{Tail, parse_tail, session_prefix};
use crate::store::{ReadRange, StoreError};
use crate::types::SessionId;

/// Enough of an object's end to tell a fence, which is smaller, from a segment.
const TAIL_BYTES: u64 = 4096;

/// A ttl for clusters that never said one.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// Open sessions that wrote while we watched, for a little longer than a ttl. Those whose newest object is a fence are over, and if all are,
/// nothing is waited for. A local folder is locked by its process, so nobody else lives there.
pub(super) async fn living(objects: Objects<'_>, image: &Image) -> Result<Vec<SessionId>, MetaError> {
    if !objects.store.is_shared() {
        return Ok(Vec::new());
    }
    let mut doubtful = Vec::new();
    for (session, _) in image.open_sessions() {
        let newest = newest(objects, session, None).await?;
        match &newest {
            Some(key) if is_fence(objects, key).await? => {}
            _ => doubtful.push((session, newest)),
        }
    }
    if doubtful.is_empty() {
        return Ok(Vec::new());
    }
    let ttl = Some(image.session_ttl_ms).filter(|ttl| *ttl > 0).map_or(DEFAULT_TTL, Duration::from_millis);
    tracing::info!(sessions = doubtful.len(), ?ttl, "sessions without a fence: watching whether they still write");
    tokio::time::sleep(ttl + ttl / 4).await;
    let mut living = Vec::new();
    for (session, before) in doubtful {
        if newest(objects, session, before.as_deref()).await? != before {
            living.push(session);
        }
    }
    Ok(living)
}

/// The highest name of the session, behind `after` if there is any.
async fn newest(objects: Objects<'_>, session: SessionId, after: Option<&str>) -> Result<Option<String>, MetaError> {
    const PAGE: usize = 1000;
    let prefix = session_prefix(session);
    let mut newest = after.map(str::to_owned);
    loop {
        let page = objects.store.list(&prefix, newest.as_deref(), PAGE).await?;
        let complete = page.len() < PAGE;
        newest = page.into_iter().next_back().map(|object| object.key).or(newest);
        if complete {
            return Ok(newest);
        }
    }
}

async fn is_fence(objects: Objects<'_>, key: &str) -> Result<bool, MetaError> {
    match objects.store.read(key, ReadRange::Suffix(TAIL_BYTES)).await {
        Ok(read) => Ok(matches!(parse_tail(key, read.object_size, &read.bytes), Ok(Tail::Fence(_)))),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
