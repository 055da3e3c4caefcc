//! The flusher of a session: seals the open segment, uploads side by side, commits in order.
//!
//! Pacing, not lingering: an idle broker seals at once, a busy one at most once per interval or whenever enough bytes are buffered. A
//! sealed segment's number and bytes never change. On a shared store an empty segment every third of the ttl is the heartbeat.
//! What was parked while its partition went from one broker to another has waited enough: it goes out a moment after what went out last.
//! A create on the local directory costs no money, so there the interval is only for when the disk is behind: see [`Quick`].
//!
//! Crash: what is not committed was not acknowledged. Cancellation: dropping the task loses nothing but answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::tracker::Tracker;
use super::unmerged::{SegmentNote, Unmerged};
use super::{Appender, Open, OpenState, SessionEnd};
use crate::cache::TailCache;
use crate::log::index::ObjectRef;
use crate::log::proof::{Newest, Proof};
use crate::log::recover::FooterReader;
use crate::log::slot::Slots;
use crate::segment::{self, Footer, IDENTITY_BYTES, RepeatedFooter, SegmentDraft, Tail};
use crate::store::create::{CreateOnce, CreatePolicy, Created, create_once};
use crate::store::{StoreError, StoreRef};
use crate::types::env::Env;
use crate::types::metrics::Metrics;
use crate::types::mutant::{self, Mutant};
use crate::types::{SegmentNumber, SessionId};

/// Every so many segments one repeats the footers before it, so that recovery reads few objects.
const REPEAT_EVERY: SegmentNumber = 64;

/// Where too many segments are unmerged the interval grows from this, if it is shorter.
const SLOW_FROM: Duration = Duration::from_millis(20);

/// So long after the last seal a segment goes out that holds what was parked during a handover: all that was parked is in it by then, mostly.
const AWAITED_PACE: Duration = Duration::from_millis(10);

/// Pause between looks at an object that has the name of our segment.
const STRANGER_PAUSE: Duration = Duration::from_secs(1);

/// A shorter interval while the store keeps up: with fewer uploads under way than this a segment that is sealed now does not
/// stand behind others, and waiting for company would only make its records late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick {
    pub uploads: usize,
    pub interval: Duration,
}

/// When segments are sealed.
#[derive(Clone)]
pub struct FlushPolicy {
    pub interval: Duration,
    pub quick: Option<Quick>,
    /// Uploads side by side.
    pub inflight: usize,
    /// Longest time without a new segment; `None`: no heartbeat needed.
    pub heartbeat: Option<Duration>,
    pub create: CreatePolicy,
}

impl FlushPolicy {
    /// At least so long lies between two seals with so many uploads under way.
    fn pace(&self, uploads: usize) -> Duration {
        match self.quick {
            Some(quick) if uploads < quick.uploads => quick.interval.min(self.interval),
            _ => self.interval,
        }
    }
}

/// What the flusher works with; it owns none of it.
#[derive(Clone)]
pub struct FlushContext {
    pub session: SessionId,
    pub appender: Arc<Appender>,
    pub slots: Arc<Slots>,
    pub store: StoreRef,
    pub tail: Arc<TailCache>,
    pub proof: Arc<Proof>,
    pub unmerged: Arc<Unmerged>,
    pub env: Env,
    pub metrics: Arc<Metrics>,
}

pub struct Flusher {
    context: FlushContext,
    policy: FlushPolicy,
    tracker: Tracker<Uploaded>,
    uploads: JoinSet<Result<Uploaded, SessionEnd>>,
    /// Footers committed since the last segment that repeated some.
    unrepeated: VecDeque<RepeatedFooter>,
    last_seal: Instant,
    draining: bool,
}

/// A segment that is in the bucket.
struct Uploaded {
    number: SegmentNumber,
    footer: Footer,
    footer_bytes: Bytes,
    /// Boot clock when its first attempt was sent.
    sent_at: Duration,
    /// Held until the commit.
    _held: Open,
}

impl Flusher {
    /// `footers`: of the segments that opened the session, from 0 on. The last of them may have been sealed a while ago: the time to the
    /// first heartbeat counts from there.
    pub fn new(context: FlushContext, policy: FlushPolicy, footers: Vec<RepeatedFooter>) -> Flusher {
        let age = context.env.clock.boot().saturating_sub(context.proof.sent_at()).max(policy.interval);
        Flusher {
            tracker: Tracker::new(context.appender.committed_count()),
            context,
            last_seal: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            policy,
            uploads: JoinSet::new(),
            unrepeated: VecDeque::from(footers),
            draining: false,
        }
    }

    /// Runs until the session ends; `drain` asks for a clean end. Every waiter of the appender has its answer when this returns.
    pub async fn run(mut self, drain: CancellationToken) -> SessionEnd {
        let end = self.work(&drain).await;
        self.uploads.abort_all();
        self.context.appender.close(end.clone());
        end
    }

    async fn work(&mut self, drain: &CancellationToken) -> SessionEnd {
        loop {
            let state = self.context.appender.state();
            if self.draining && state.empty && self.uploads.is_empty() {
                return SessionEnd::Drained;
            }
            let due = self.due(&state);
            tokio::select! {
                biased;
                Some(done) = self.uploads.join_next() => match done {
                    Ok(Ok(uploaded)) => self.commit(uploaded),
                    Ok(Err(end)) => return end,
                    Err(error) => return SessionEnd::Broken { reason: format!("an upload task failed: {error}") },
                },
                () = drain.cancelled(), if !self.draining => self.draining = true,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.seal(),
                () = self.context.appender.wake.notified() => {}
            }
        }
    }

    /// When to seal next, if nothing changes.
    fn due(&self, state: &OpenState) -> Option<Instant> {
        let uploads = self.uploads.len();
        if uploads >= self.policy.inflight {
            return None;
        }
        if state.empty {
            return self.policy.heartbeat.filter(|_| !self.draining).map(|heartbeat| self.last_seal + heartbeat);
        }
        let pace = self.policy.pace(uploads);
        let due = match self.context.unmerged.slowness() {
            _ if self.draining || state.urgent => Instant::now(),
            1 if state.full => Instant::now(),
            1 if state.awaited => self.last_seal + pace.min(AWAITED_PACE),
            1 => self.last_seal + pace,
            // Too much waits to be merged: fewer and larger segments.
            slowness => self.last_seal + pace.max(SLOW_FROM) * slowness,
        };
        // However slow, others must see that this session lives.
        Some(self.policy.heartbeat.map_or(due, |heartbeat| due.min(self.last_seal + heartbeat)))
    }

    fn seal(&mut self) {
        self.last_seal = Instant::now();
        let mut open = self.context.appender.seal();
        let number = open.number;
        let repeated =
            if number.is_multiple_of(REPEAT_EVERY) { self.unrepeated.drain(..).collect() } else { Vec::new() };
        let draft = SegmentDraft {
            session: self.context.session,
            number,
            nonce: self.context.env.entropy.next_u64(),
            created_ms: self.context.env.clock.wall_ms(),
            committed: self.tracker.committed(),
            extents: std::mem::take(&mut open.extents).into_values().collect(),
            repeated,
        };
        if mutant::on(Mutant::AckBeforePut) {
            self.context.appender.advance(number + 1);
        }
        self.context.metrics.uploads_in_flight.inc();
        self.uploads.spawn(upload(self.context.clone(), self.policy.create.clone(), draft, open));
    }

    /// Takes a finished upload; shows and acknowledges what is committed by it.
    fn commit(&mut self, uploaded: Uploaded) {
        self.context.metrics.uploads_in_flight.dec();
        let newly = self.tracker.finish(uploaded.number, uploaded);
        let mut newest = None;
        for (number, uploaded) in newly {
            let body_length = uploaded.footer.body_length();
            let object = ObjectRef::segment(self.context.session, number, body_length);
            for extent in &uploaded.footer.extents {
                let Some(slot) = self.context.slots.get(extent.partition) else { continue };
                let mut inner = slot.lock();
                if let Some(partition) = inner.held() {
                    partition.commit(object, extent);
                    inner.wake();
                }
            }
            self.context.unmerged.note(SegmentNote {
                number,
                bytes: body_length,
                batches: uploaded.footer.extents.iter().map(|extent| extent.batches.len() as u64).sum(),
                at: self.context.env.clock.boot(),
            });
            newest = Some(Newest { number, nonce: uploaded.footer.nonce, sent_at: uploaded.sent_at });
            self.unrepeated.push_back(RepeatedFooter { number, footer_bytes: uploaded.footer_bytes });
            self.context.metrics.segments_committed.inc();
        }
        if let Some(newest) = newest {
            self.context.proof.renew(newest);
            self.context.appender.advance(self.tracker.committed());
        }
    }
}

/// Builds a segment and puts it into the bucket, whatever it takes.
async fn upload(
    context: FlushContext,
    policy: CreatePolicy,
    draft: SegmentDraft,
    held: Open,
) -> Result<Uploaded, SessionEnd> {
    let number = draft.number;
    let key = segment::segment_key(draft.session, number);
    let other = mutant::on(Mutant::RetryTakesOther).then(|| draft.clone());
    let sealed = segment::build(draft).map_err(|error| SessionEnd::Broken { reason: error.to_string() })?;
    context.metrics.segment_bytes.inc_by(sealed.bytes.len() as u64);
    context.tail.insert(Arc::from(key.as_str()), sealed.bytes.clone());
    let sent_at = context.env.clock.boot();
    let body = match other {
        Some(other) => other_if_unclear(&context, &policy, sealed.bytes, other).await,
        None => sealed.bytes,
    };
    let request = CreateOnce { key: key.clone(), body, identity_bytes: IDENTITY_BYTES };
    match create_once(context.store.as_ref(), &context.env, request, &policy).await {
        Ok(Created::Ours) => {
            context.metrics.flush_latency.observe((context.env.clock.boot() - sent_at).as_secs_f64());
            Ok(Uploaded { number, footer: sealed.footer, footer_bytes: sealed.footer_bytes, sent_at, _held: held })
        }
        Ok(Created::Theirs { .. }) if mutant::on(Mutant::IgnoreFence) || mutant::on(Mutant::RetryTakesOther) => {
            Ok(Uploaded { number, footer: sealed.footer, footer_bytes: sealed.footer_bytes, sent_at, _held: held })
        }
        Ok(Created::Theirs { .. }) => Err(judge_stranger(&context, &key, number).await),
        Err(error) => Err(SessionEnd::Refused { number, reason: error.to_string() }),
    }
}

/// For the mutant of that name: what to send again when the answer to these bytes is unclear.
async fn other_if_unclear(
    context: &FlushContext,
    policy: &CreatePolicy,
    bytes: Bytes,
    mut draft: SegmentDraft,
) -> Bytes {
    let key = segment::segment_key(draft.session, draft.number);
    let attempt = context.store.create(&key, bytes.clone());
    if let Ok(Ok(()) | Err(StoreError::Taken { .. } | StoreError::Permanent { .. })) =
        tokio::time::timeout(policy.attempt_timeout, attempt).await
    {
        return bytes;
    }
    draft.extents.pop();
    segment::build(draft).map_or(bytes, |other| other.bytes)
}

/// Somebody else's object has the name of our segment: a fence, or something that must not be.
async fn judge_stranger(context: &FlushContext, key: &str, number: SegmentNumber) -> SessionEnd {
    let reader = FooterReader { store: context.store.clone(), env: context.env.clone() };
    loop {
        return match reader.tail(key).await {
            Ok(Some(Tail::Fence(_))) => SessionEnd::Fenced { number },
            // What had the name is collected: it was a fence, and one with a lower number will be met or was.
            Ok(None) => SessionEnd::Fenced { number },
            Ok(_) => SessionEnd::Broken { reason: format!("{key}: holds something that this session did not write") },
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "somebody's object has the name of our segment, and can't be read yet");
                tokio::time::sleep(STRANGER_PAUSE).await;
                continue;
            }
            Err(error) => SessionEnd::Broken { reason: error.to_string() },
        };
    }
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
