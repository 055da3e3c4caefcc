//! What happens to segments after their commit: they are merged into runs, and deleted.
//!
//! ```text
//! plan (which window) ─► merge: claim ─► copy, sorted by partition ─► read back ─► manifest ─► commit ─► readers turn to the run
//! collect: what nothing names any more ─► known for the grace period ─► deleted
//! ```
//!
//! One task of a session does it all, a step at a time, so that it takes little from those who serve; it owns nothing that is not
//! in the table or the bucket. Policies are pure: [`plan`], [`layout`], [`collect::Ledger`].
//!
//! Failure: a merge that can't go on ends its claim, and is tried again under a new name. Crash: the claim of a session that is over is
//! ended by whoever sees it; what lies in its folder is garbage. Cancellation: as a crash. Nothing here is ever in a client's way,
//! but a session with too many unmerged segments becomes slower (`log::append::unmerged`). At a feature level that knows no
//! runs ([`crate::meta::level`]) nothing is merged; what gathers meanwhile is merged, window by window, when the level rises.

mod checkpoint;
pub mod collect;
mod copy;
pub mod layout;
mod merge;
pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use self::collect::Collector;
use self::merge::Merger;
use self::plan::Limits;
use crate::cache::TailCache;
use crate::log::Log;
use crate::log::append::unmerged::Unmerged;
use crate::types::metrics::Metrics;

/// Pauses after something failed.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the room works with.
#[derive(Clone)]
pub struct Maintenance {
    pub log: Arc<Log>,
    pub tail: Arc<TailCache>,
    pub unmerged: Arc<Unmerged>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub grace: Duration,
}

impl Maintenance {
    /// Merges and collects until it is cancelled, which it may be at any moment.
    pub async fn run(self) {
        let merging = Merger::new(self.clone()).run();
        let collecting = Collector::new(self).run();
        tokio::join!(merging, collecting);
    }
}
