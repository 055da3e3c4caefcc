//! What can go wrong with the metadata, named for what the caller does next.

use std::sync::Arc;

use super::rules::RuleError;
use crate::store::StoreError;
use crate::types::Revision;

#[derive(Debug, Clone, thiserror::Error)]
pub enum MetaError {
    /// Nothing was changed by this call. Try again later.
    #[error("the metadata table does not answer: {0}")]
    Unavailable(String),
    /// It may have been changed by this call, or may be in a moment. Look at the image before trying again.
    #[error("the outcome of a change of the metadata is unknown: {0}")]
    OutcomeUnknown(String),
    /// The object is not what its name says, or a newer program wrote it. Nothing is skipped: the broker stops.
    #[error("{object}: {reason}")]
    Unreadable { object: String, reason: String },
    /// The cluster in the bucket is another one than the broker is told. It refuses to start.
    #[error("{0}")]
    WrongCluster(String),
    /// The table's server says no for good: what is missing, and how to mend it.
    #[error("the metadata table can't be used: {0}")]
    Refused(String),
    /// The table goes on elsewhere, or was about to: nothing may be appended to this one any more.
    #[error("the metadata table was moved to {to} at revision {revision}: start with --metadata for that table")]
    Moved { revision: Revision, to: String },
    /// This broker's view of the metadata is over, for the reason given; the process has to end.
    #[error("the metadata stopped: {0}")]
    Stopped(Arc<str>),
}

impl MetaError {
    pub(super) fn unreadable(object: impl Into<String>, reason: impl ToString) -> Self {
        MetaError::Unreadable { object: object.into(), reason: reason.to_string() }
    }

    pub(super) fn is_fatal(&self) -> bool {
        matches!(
            self,
            MetaError::Unreadable { .. } | MetaError::WrongCluster(_) | MetaError::Moved { .. } | MetaError::Stopped(_)
        )
    }
}

/// For reads, and for writes whose outcome does not matter.
impl From<StoreError> for MetaError {
    fn from(error: StoreError) -> Self {
        MetaError::Unavailable(error.to_string())
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError<E> {
    /// `build` said no on the newest image.
    #[error("{0}")]
    Refused(E),
    /// `build` gave a change that the newest image does not allow.
    #[error("{0}")]
    Rule(RuleError),
    #[error("the change takes {bytes} bytes, more than fit into one revision")]
    TooLarge { bytes: usize },
    #[error(transparent)]
    Meta(#[from] MetaError),
}
