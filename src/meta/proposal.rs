//! Proposals waiting for the owner task, and how several become one entry.
//!
//! Folding works on a scratch image: each proposal's `build` sees what the ones before it in the entry would leave. A refusal that
//! was decided on top of such changes is given only after they counted, for it may be due to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::entry::{Change, ENTRY_MAX_BYTES};
use super::error::{MetaError, ProposeError};
use super::image::Image;
use super::rules::{self, RuleError};
use crate::types::Revision;

/// Proposals in one entry.
const FOLD_MAX: usize = 256;

/// What an entry needs besides its changes (version, revision, nonce, punctuation), generously.
const ENVELOPE_BYTES: usize = 256;

pub(super) enum Built {
    Changes(Vec<Change>),
    /// `build` refused; the proposal keeps the error.
    Refused,
}

/// How a proposal ends.
#[derive(Clone)]
pub(super) enum End {
    Done(Revision),
    Refused,
    Rule(RuleError),
    TooLarge(usize),
    Failed(MetaError),
}

pub(super) trait Proposal: Send {
    fn build(&mut self, image: &Image) -> Built;
    fn finish(self: Box<Self>, end: End);
    /// Set when the caller no longer waits.
    fn gone(&self) -> &Arc<AtomicBool>;
}

pub(super) type BoxedProposal = Box<dyn Proposal>;

pub(super) struct Typed<E, F> {
    pub build: F,
    pub refused: Option<E>,
    pub reply: oneshot::Sender<Result<Revision, ProposeError<E>>>,
    pub gone: Arc<AtomicBool>,
}

impl<E: Send, F: FnMut(&Image) -> Result<Vec<Change>, E> + Send> Proposal for Typed<E, F> {
    fn build(&mut self, image: &Image) -> Built {
        match (self.build)(image) {
            Ok(changes) => Built::Changes(changes),
            Err(error) => {
                self.refused = Some(error);
                Built::Refused
            }
        }
    }

    fn finish(self: Box<Self>, end: End) {
        let result = match (end, self.refused) {
            (End::Done(revision), _) => Ok(revision),
            (End::Refused, Some(error)) => Err(ProposeError::Refused(error)),
            (End::Refused, None) => return,
            (End::Rule(error), _) => Err(ProposeError::Rule(error)),
            (End::TooLarge(bytes), _) => Err(ProposeError::TooLarge { bytes }),
            (End::Failed(error), _) => Err(ProposeError::Meta(error)),
        };
        let _caller_may_be_gone = self.reply.send(result);
    }

    fn gone(&self) -> &Arc<AtomicBool> {
        &self.gone
    }
}

/// The next entry and who is in it.
#[derive(Default)]
pub(super) struct Plan {
    pub changes: Vec<Change>,
    /// Whose changes these are.
    pub members: Vec<BoxedProposal>,
    /// Those that change nothing, with what they will hear.
    pub decided: Vec<(BoxedProposal, Verdict)>,
    bytes: usize,
}

/// The end of a proposal that changes nothing.
pub(super) enum Verdict {
    Nothing,
    Refused,
    Rule(RuleError),
    TooLarge(usize),
}

impl Verdict {
    pub fn end(self, revision: Revision) -> End {
        match self {
            Verdict::Nothing => End::Done(revision),
            Verdict::Refused => End::Refused,
            Verdict::Rule(error) => End::Rule(error),
            Verdict::TooLarge(bytes) => End::TooLarge(bytes),
        }
    }
}

impl Plan {
    /// Every proposal in the plan, in about the order in which they came, to be planned again.
    pub fn into_queue(self) -> VecDeque<BoxedProposal> {
        self.members.into_iter().chain(self.decided.into_iter().map(|(proposal, _)| proposal)).collect()
    }

    fn opens_session(&self) -> bool {
        self.changes.iter().any(is_open_session)
    }
}

fn is_open_session(change: &Change) -> bool {
    matches!(change, Change::OpenSession { .. })
}

/// Takes from the front of `queue` what fits into the entry after `image`. `scratch` equals `image` before, and afterwards the image
/// with the plan's changes, but for its revision.
pub(super) fn fold(image: &Image, scratch: &mut Image, queue: &mut VecDeque<BoxedProposal>) -> Plan {
    let mut plan = Plan::default();
    while plan.members.len() < FOLD_MAX
        && let Some(mut proposal) = queue.pop_front()
    {
        if proposal.gone().load(Ordering::Acquire) {
            continue;
        }
        let changes = match proposal.build(scratch) {
            Built::Changes(changes) => changes,
            Built::Refused => {
                plan.decided.push((proposal, Verdict::Refused));
                continue;
            }
        };
        if changes.is_empty() {
            plan.decided.push((proposal, Verdict::Nothing));
            continue;
        }
        let bytes = encoded_len(&changes);
        if ENVELOPE_BYTES + bytes > ENTRY_MAX_BYTES {
            plan.decided.push((proposal, Verdict::TooLarge(bytes)));
            continue;
        }
        let full = ENVELOPE_BYTES + plan.bytes + bytes > ENTRY_MAX_BYTES;
        if full || (plan.opens_session() && changes.iter().any(is_open_session)) {
            queue.push_front(proposal);
            break;
        }
        match apply_checked(scratch, image.revision + 1, &changes) {
            Ok(()) => {
                plan.bytes += bytes;
                plan.changes.extend(changes);
                plan.members.push(proposal);
            }
            Err(error) => {
                plan.decided.push((proposal, Verdict::Rule(error)));
                scratch.clone_from(image);
                plan.changes.iter().for_each(|change| scratch.apply_change(image.revision + 1, change));
            }
        }
    }
    plan
}

/// Checks and applies one change after the other; on an error some are applied.
fn apply_checked(scratch: &mut Image, revision: Revision, changes: &[Change]) -> Result<(), RuleError> {
    if changes.iter().filter(|change| is_open_session(change)).count() > 1 {
        return Err(RuleError::InvalidValue("an entry opens at most one session"));
    }
    for change in changes {
        rules::check(scratch, change)?;
        scratch.apply_change(revision, change);
    }
    Ok(())
}

/// Bytes of the changes in the entry, a comma each included.
fn encoded_len(changes: &[Change]) -> usize {
    serde_json::to_vec(changes).map_or(usize::MAX / 2, |bytes| bytes.len())
}
