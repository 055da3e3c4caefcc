//! Producer ids: a session takes blocks of them from the metadata table and hands them out from memory.
//!
//! An id is never given twice: a block belongs to whoever's entry took it, and what is left of it when the process ends, or when the
//! answer to the proposal is lost, is never used. One task at a time asks for a block; the others wait for it.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;

use crate::meta::entry::Change;
use crate::meta::{Metadata, ProposeError};
use crate::types::SessionId;

/// Ids of one block, as in Kafka (`ProducerIdsBlock`).
pub const BLOCK: u32 = 1000;

pub struct ProducerIds {
    meta: Arc<Metadata>,
    session: SessionId,
    left: Mutex<Range<i64>>,
}

/// The table did not give a block; nothing was handed out. Trying again is safe.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no producer ids: {0}")]
pub struct NoProducerIds(String);

impl ProducerIds {
    pub fn new(meta: Arc<Metadata>, session: SessionId) -> ProducerIds {
        ProducerIds { meta, session, left: Mutex::new(0..0) }
    }

    /// An id that nobody else gets.
    pub async fn next(&self) -> Result<i64, NoProducerIds> {
        let mut left = self.left.lock().await;
        if let Some(id) = left.next() {
            return Ok(id);
        }
        let first = self.take_block().await.map_err(|error| NoProducerIds(error.to_string()))?;
        *left = first + 1..first + i64::from(BLOCK);
        Ok(first)
    }

    async fn take_block(&self) -> Result<i64, ProposeError<Infallible>> {
        // The last image that the proposal was built on is the one that its entry was applied to.
        let seen = Arc::new(SyncMutex::new(0));
        let (first, session) = (seen.clone(), self.session);
        self.meta
            .propose(move |image| {
                *first.lock() = image.next_producer_id;
                Ok::<_, Infallible>(vec![Change::AllocateProducerIds { session, count: BLOCK }])
            })
            .await?;
        let first = *seen.lock();
        Ok(first)
    }
}
