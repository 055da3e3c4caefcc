//! Opens a session: a name in the metadata table, segment 0 in the bucket, then the right to leases.
//!
//! ```text
//! OpenSession ─► segment 0, and another one every third of the ttl while this takes longer
//!             └► fences behind the predecessors of our node ─► Ready, and in the same entry: the predecessors are closed, which grants
//!                                                              their partitions to us, and what nobody holds is granted
//! ```
//!
//! Only the fences wait for nothing but `OpenSession`: from then on it is certain that the predecessors are to end. That they are closed
//! stands behind `Ready` in its entry, for only who is ready is granted anything. A crash anywhere leaves a session that the next life of
//! this node id fences like any other, and fences that whoever closes their session finds.
//!
//! A start is a chain of round trips to a store and a table that may be slow and that others write to meanwhile: each entry costs as many
//! as others come first. So there are two, unless thousands of starts failed before this one. And the others watch: they would close a
//! session that is silent for a ttl, also one that is still being opened.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join;
use futures::stream::{StreamExt, TryStreamExt, iter};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::fence::{FenceError, fence, seen_end};
use super::proof::Newest;
use super::recover::FooterReader;
use crate::meta::entry::{Change, Endpoint};
use crate::meta::image::{Image, Session, SessionState};
use crate::meta::{Metadata, ProposeError, level};
use crate::segment::{IDENTITY_BYTES, RepeatedFooter, SegmentDraft, SegmentError, build, segment_key};
use crate::store::create::{CreateError, CreateOnce, CreatePolicy, Created, create_once};
use crate::types::mutant::{self, Mutant};
use crate::types::{NodeId, SegmentNumber, SessionId};

/// Sessions that are fenced side by side.
const PARALLEL: usize = 4;

/// Predecessors that are closed in one entry, whose length is limited.
const CLOSED_AT_ONCE: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the metadata table: {0}")]
    Metadata(String),
    #[error("the first segments: {0}")]
    Create(#[from] CreateError),
    #[error("the first segments: {0}")]
    Segment(#[from] SegmentError),
    #[error(
        "{0}: somebody else's object has the name of our segment, perhaps the fence of a broker that took us for dead before we served"
    )]
    NameTaken(String),
    #[error("fencing session {session}: {error}")]
    Fence { session: SessionId, error: FenceError },
}

/// Who opens.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `None`: one is chosen, see [`free_node_id`].
    pub node_id: Option<NodeId>,
    /// There is no other broker: the store has one owner at a time.
    pub alone: bool,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// Written into the table by the first broker.
    pub session_ttl_ms: u64,
    /// The first broker founds the cluster at this feature level.
    pub feature_level: u16,
}

pub struct OpenedSession {
    pub id: SessionId,
    pub node_id: NodeId,
    /// Of segment 0 and those behind it.
    pub footers: Vec<RepeatedFooter>,
    /// The last of these.
    pub newest: Newest,
    pub ttl: Duration,
}

/// Opens a session and takes over what earlier sessions of this node id held.
pub async fn open(
    meta: &Metadata,
    reader: &FooterReader,
    policy: &CreatePolicy,
    identity: &Identity,
) -> Result<OpenedSession, OpenError> {
    let random = reader.env.entropy.next_u64();
    let (own, supports) = (identity.clone(), meta.supports());
    let opened = propose(meta, move |image| {
        let mut changes = Vec::new();
        if image.session_ttl_ms == 0 {
            changes.push(Change::SetCluster { session_ttl_ms: own.session_ttl_ms });
            changes.extend(level::raise(image, own.feature_level));
        }
        changes.push(Change::OpenSession {
            node_id: own.node_id.unwrap_or_else(|| free_node_id(image, &own)),
            random: format!("{random:016x}"),
            endpoints: own.endpoints.iter().cloned().chain([level::endpoint(supports)]).collect(),
            rack: own.rack.clone(),
        });
        changes
    });
    let id = SessionId { revision: opened.await?, random };
    let node_id = meta.read(|image| Some(image.sessions.get(&id)?.node_id));
    let node_id = node_id.ok_or_else(|| OpenError::Metadata(format!("session {id} was opened and is not there")))?;
    let ttl = Duration::from_millis(meta.read(|image| image.session_ttl_ms));
    let (begun, done) = (watch::Sender::new(false), CancellationToken::new());
    let settle = async {
        let ends = fence_all(meta, reader, policy, meta.read(|image| predecessors(image, id, node_id)), id).await?;
        let mut stands = begun.subscribe();
        // Its sender lives as long as this.
        let _ = stands.wait_for(|begun| *begun).await;
        become_ready(meta, reader, policy, id, ends.clone()).await?;
        if mutant::on(Mutant::GrantBeforeFence) {
            for (session, end) in ends {
                let _too_late = fence(reader, policy, session, id, end).await;
            }
        }
        done.cancel();
        Ok::<_, OpenError>(())
    };
    let ((footers, newest), ()) = try_join(beat(reader, policy, id, ttl / 3, &begun, &done), settle).await?;
    Ok(OpenedSession { id, node_id, footers, newest, ttl })
}

/// Writes segment 0, says that it has `begun`, and another empty one after each `pause`, until the rest is `done`. A segment that is under way
/// then is waited for: its number is used.
async fn beat(
    reader: &FooterReader,
    policy: &CreatePolicy,
    session: SessionId,
    pause: Duration,
    begun: &watch::Sender<bool>,
    done: &CancellationToken,
) -> Result<(Vec<RepeatedFooter>, Newest), OpenError> {
    let (mut footers, mut number) = (Vec::new(), 0);
    loop {
        let next = Instant::now() + pause;
        let (footer_bytes, newest) = create_empty(reader, policy, session, number).await?;
        footers.push(RepeatedFooter { number, footer_bytes });
        begun.send_replace(true);
        tokio::select! {
            biased;
            () = done.cancelled() => return Ok((footers, newest)),
            () = sleep_until(next) => number += 1,
        }
    }
}

/// The node id that a broker had before, if nobody else has it now: it is known by where clients reach it, or, where there is only one
/// broker at a time, is the last one's. Otherwise the smallest from 1 on that no open session has.
fn free_node_id(image: &Image, who: &Identity) -> NodeId {
    let same = |session: &Session| who.alone || session.endpoints.first() == who.endpoints.first();
    let taken: BTreeSet<NodeId> =
        image.open_sessions().filter(|(_, session)| !same(session)).map(|(_, session)| session.node_id).collect();
    let before = image.sessions.values().rfind(|session| same(session)).map(|session| session.node_id);
    before.filter(|id| !taken.contains(id)).unwrap_or_else(|| (1..).find(|id| !taken.contains(id)).unwrap_or(1))
}

/// Where sessions end, as their fences say.
type Ends = Vec<(SessionId, SegmentNumber)>;

/// Fences sessions side by side.
async fn fence_all(
    meta: &Metadata,
    reader: &FooterReader,
    policy: &CreatePolicy,
    sessions: Vec<SessionId>,
    fencer: SessionId,
) -> Result<Ends, OpenError> {
    let fences = sessions.into_iter().map(|session| async move {
        let merged = meta.read(|image| image.merges.merged(session));
        let merged = if mutant::on(Mutant::FenceBelowMerged) { 0 } else { merged };
        let end = if mutant::on(Mutant::GrantBeforeFence) {
            seen_end(reader, session, merged).await
        } else {
            fence(reader, policy, session, fencer, merged).await
        };
        end.map(|end| (session, end)).map_err(|error| OpenError::Fence { session, error })
    });
    iter(fences).buffered(PARALLEL).try_collect().await
}

/// Says that segment 0 stands, and closes sessions that were fenced. What is merged of those meanwhile by their own broker, which may still
/// live, moves the number where the walk has to begin, for names below it are free again: they are fenced anew.
async fn become_ready(
    meta: &Metadata,
    reader: &FooterReader,
    policy: &CreatePolicy,
    own: SessionId,
    mut ends: Ends,
) -> Result<(), OpenError> {
    let takes_vacant = meta.supports() >= level::TAKE_VACANT;
    loop {
        while meta.read(|image| !surplus(image, &ends).is_empty()) {
            let closing = ends.clone();
            propose(meta, move |image| surplus(image, &closing)).await?;
        }
        let closing = ends.clone();
        match meta.propose(move |image| ready(image, own, &closing, takes_vacant)).await {
            Ok(_) => break,
            Err(ProposeError::Refused(MergedMeanwhile)) => {}
            Err(error) => return Err(OpenError::Metadata(error.to_string())),
        }
        let sessions = ends.into_iter().map(|(session, _)| session).collect();
        ends = fence_all(meta, reader, policy, sessions, own).await?;
    }
    for (session, end) in ends {
        tracing::info!(%session, end, "closed an earlier session of this node");
    }
    Ok(())
}

/// Of more sessions than one entry can close the next that were never ready, to be closed before: each start that fails leaves one. They
/// hold nothing, and nothing of them is merged.
fn surplus(image: &Image, ends: &[(SessionId, SegmentNumber)]) -> Vec<Change> {
    let never_ready = ends.iter().filter(|(session, _)| is_in(image, *session, SessionState::Open));
    let closed = |(session, end): &(SessionId, SegmentNumber)| Change::FenceSession {
        session: *session,
        end: *end,
        ready: Vec::new(),
    };
    never_ready.skip(CLOSED_AT_ONCE).take(CLOSED_AT_ONCE).map(closed).collect()
}

/// Makes a session ready, closes others at their ends, and grants what nobody holds if it `takes_vacant`.
fn ready(
    image: &Image,
    own: SessionId,
    ends: &[(SessionId, SegmentNumber)],
    takes_vacant: bool,
) -> Result<Vec<Change>, MergedMeanwhile> {
    let merged_past = |(session, end): &(SessionId, SegmentNumber)| image.merges.merged(*session) > *end;
    if ends.iter().any(merged_past) && !mutant::on(Mutant::FenceBelowMerged) {
        return Err(MergedMeanwhile);
    }
    let closed: BTreeSet<SessionId> = ends.iter().map(|(session, _)| *session).collect();
    let others = image.ready_sessions().map(|(id, _)| id).filter(|id| *id != own && !closed.contains(id));
    let ready: Vec<SessionId> = others.chain([own]).collect();
    let mut changes = vec![Change::Ready { session: own }];
    for (session, end) in ends.iter().filter(|(session, _)| is_open(image, *session)) {
        // Who never was ready has nothing to grant, and a list of all brokers is long.
        let ready = if is_in(image, *session, SessionState::Open) { Vec::new() } else { ready.clone() };
        changes.push(Change::FenceSession { session: *session, end: *end, ready });
    }
    if takes_vacant && has_vacant(image) {
        changes.push(Change::GrantVacant { ready });
    }
    Ok(changes)
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its segments were merged meanwhile")]
struct MergedMeanwhile;

/// Closes a session in the table at the end that fencing found, unless that is done already.
pub fn close(image: &Image, session: SessionId, end: u64) -> Vec<Change> {
    if !is_open(image, session) {
        return Vec::new();
    }
    let ready = image.ready_sessions().map(|(id, _)| id).filter(|id| *id != session);
    vec![Change::FenceSession { session, end, ready: ready.collect() }]
}

pub(super) fn is_open(image: &Image, session: SessionId) -> bool {
    image.sessions.get(&session).is_some_and(|found| !matches!(found.state, SessionState::Fenced { .. }))
}

fn is_in(image: &Image, session: SessionId, state: SessionState) -> bool {
    image.sessions.get(&session).is_some_and(|found| found.state == state)
}

/// Grants what nobody holds to those that are ready: a session may be closed when nobody else is. Older programs do not.
pub async fn grant_vacant(meta: &Metadata) -> Result<(), OpenError> {
    if meta.supports() >= level::TAKE_VACANT && meta.read(has_vacant) {
        propose(meta, grants_of_vacant).await?;
    }
    Ok(())
}

fn has_vacant(image: &Image) -> bool {
    image.topics.values().flat_map(|topic| &topic.partitions).any(|partition| partition.holder.is_none())
}

fn grants_of_vacant(image: &Image) -> Vec<Change> {
    let ready: Vec<_> = image.ready_sessions().map(|(id, _)| id).collect();
    if ready.is_empty() || !has_vacant(image) { Vec::new() } else { vec![Change::GrantVacant { ready }] }
}

/// Sessions of the same node id that are not closed and older than ours.
fn predecessors(image: &Image, own: SessionId, node_id: NodeId) -> Vec<SessionId> {
    let open = |state: SessionState| !matches!(state, SessionState::Fenced { .. });
    let sessions = image.sessions.iter().filter(|(id, session)| {
        let same = session.node_id == node_id || mutant::on(Mutant::CloseOthersAtStart);
        **id != own && id.revision < own.revision && same && open(session.state)
    });
    sessions.map(|(id, _)| *id).collect()
}

async fn create_empty(
    reader: &FooterReader,
    policy: &CreatePolicy,
    session: SessionId,
    number: SegmentNumber,
) -> Result<(Bytes, Newest), OpenError> {
    let nonce = reader.env.entropy.next_u64();
    let sealed = build(SegmentDraft {
        session,
        number,
        nonce,
        created_ms: reader.env.clock.wall_ms(),
        committed: number,
        extents: Vec::new(),
        repeated: Vec::new(),
    })?;
    let key = segment_key(session, number);
    let sent_at = reader.env.clock.boot();
    let request = CreateOnce { key: key.clone(), body: sealed.bytes, identity_bytes: IDENTITY_BYTES };
    match create_once(reader.store.as_ref(), &reader.env, request, policy).await? {
        Created::Ours => Ok((sealed.footer_bytes, Newest { number, nonce, sent_at })),
        Created::Theirs { .. } => Err(OpenError::NameTaken(key)),
    }
}

async fn propose(
    meta: &Metadata,
    mut build: impl FnMut(&Image) -> Vec<Change> + Send + 'static,
) -> Result<u64, OpenError> {
    let proposed = meta.propose(move |image| Ok::<_, std::convert::Infallible>(build(image))).await;
    proposed.map_err(|error: ProposeError<_>| OpenError::Metadata(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::entry::Entry;
    use crate::types::RunId;

    fn identity(port: u16, alone: bool) -> Identity {
        let endpoint = Endpoint { listener: "PLAINTEXT".to_owned(), host: "broker".to_owned(), port };
        let endpoints = vec![endpoint, level::endpoint(port)];
        Identity { node_id: None, alone, endpoints, rack: None, session_ttl_ms: 1, feature_level: 1 }
    }

    #[test]
    fn a_node_id_is_small_and_stays() {
        // (sessions before: node id, port, whether it is over; own port, whether it is the only broker; node id)
        type Before<'a> = &'a [(NodeId, u16, bool)];
        let table: [(Before, u16, bool, NodeId); 9] = [
            (&[], 1, false, 1),
            (&[(1, 1, false)], 1, false, 1),
            (&[(1, 1, false)], 2, false, 2),
            (&[(1, 1, true)], 2, false, 1),
            (&[(1, 1, false), (2, 2, false), (4, 4, false)], 3, false, 3),
            (&[(1, 1, true), (2, 2, false)], 2, false, 2),
            (&[(2, 2, true), (2, 3, false)], 2, false, 1),
            (&[(5, 2, true), (7, 2, true), (1, 1, false)], 2, false, 7),
            (&[(5, 2, true), (7, 3, false)], 2, true, 7),
        ];
        for (before, port, alone, expected) in table {
            let mut image = Image::default();
            for (node_id, port, over) in before {
                let revision = image.revision + 1;
                let random = format!("{revision:016x}");
                let endpoints = identity(*port, false).endpoints;
                let open = Change::OpenSession { node_id: *node_id, random, endpoints, rack: None };
                image.apply(&Entry::new(revision, 1, vec![open])).expect("the next one");
                let session = SessionId { revision, random: revision };
                let fence = Change::FenceSession { session, end: 0, ready: Vec::new() };
                let changes = if *over { vec![fence] } else { Vec::new() };
                image.apply(&Entry::new(revision + 1, 1, changes)).expect("the next one");
            }
            assert_eq!(free_node_id(&image, &identity(port, alone)), expected, "{before:?}, {port}, {alone}");
        }
    }

    #[test]
    fn who_becomes_ready_closes_what_it_fenced_unless_more_was_merged() {
        const OWN: SessionId = SessionId { revision: 4, random: 4 };
        const OTHER: SessionId = SessionId { revision: 3, random: 3 };
        let old = |number| SessionId { revision: number, random: number };
        let mut image = Image::default();
        let mut apply = |changes| {
            let entry = Entry::new(image.revision + 1, 1, changes);
            image.apply(&entry).expect("the next one");
        };
        for number in 1..=4u64 {
            let (random, endpoints) = (format!("{number:016x}"), identity(1, false).endpoints);
            let node_id = if number == 3 { 7 } else { 1 };
            apply(vec![Change::OpenSession { node_id, random, endpoints, rack: None }]);
        }
        apply(vec![
            Change::Ready { session: old(1) },
            Change::Ready { session: old(2) },
            Change::Ready { session: OTHER },
        ]);
        let claim = |from, to, random: u64| Change::ClaimMerge {
            session: old(1),
            from,
            to,
            by: old(1),
            random: format!("{random:016x}"),
        };
        apply(vec![claim(0, 5, 1)]);
        apply(vec![Change::CommitRun { claim: RunId { revision: 6, random: 1 }, empty: true }]);
        assert_eq!(image.merges.merged(old(1)), 5);
        let fenced = |session, end| Change::FenceSession { session, end, ready: vec![OTHER, OWN] };
        let ready = |ends: &[(SessionId, u64)]| ready(&image, OWN, ends, true);
        let become_ready = Change::Ready { session: OWN };
        assert_eq!(ready(&[]), Ok(vec![become_ready.clone()]));
        assert_eq!(ready(&[(old(2), 9)]).expect("nothing was merged of it").len(), 2);
        // Neither is granted what the other held.
        let both = [become_ready, fenced(old(1), 5), fenced(old(2), 9)];
        assert_eq!(ready(&[(old(1), 5), (old(2), 9)]), Ok(both.to_vec()));
        assert_eq!(ready(&[(old(1), 4), (old(2), 9)]), Err(MergedMeanwhile));
    }

    #[test]
    fn more_sessions_than_fit_are_closed_before() {
        const OWN: SessionId = SessionId { revision: u64::MAX, random: 0 };
        let session = |number| SessionId { revision: number, random: 0 };
        // (predecessors of which the last was ready; how many are closed in each entry before that with Ready, how many in that)
        let table: [(u64, &[usize], usize); 5] =
            [(0, &[], 0), (1, &[], 1), (501, &[], 501), (502, &[1], 501), (1702, &[500, 500, 201], 501)];
        for (count, before, at_last) in table {
            let state = |number| if number == count { SessionState::Ready } else { SessionState::Open };
            let found = |state| Session { node_id: 1, endpoints: Vec::new(), rack: None, state };
            let mut image = Image::default();
            image.sessions.extend((1..=count).map(|number| (session(number), found(state(number)))));
            image.sessions.insert(OWN, found(SessionState::Open));
            let ends: Ends = (1..=count).map(|number| (session(number), 1)).collect();
            for expected in before {
                let closed = surplus(&image, &ends);
                assert_eq!(closed.len(), *expected, "of {count}");
                image.apply(&Entry::new(image.revision + 1, 1, closed)).expect("the next one");
            }
            assert_eq!(surplus(&image, &ends), [], "of {count}");
            let changes = ready(&image, OWN, &ends, true).expect("nothing was merged");
            assert_eq!(changes.len(), 1 + at_last, "of {count}");
            for change in &changes {
                let Change::FenceSession { session: closed, ready, .. } = change else { continue };
                let named: &[SessionId] = if *closed == session(count) { &[OWN] } else { &[] };
                assert_eq!(ready, named, "who was never ready has nothing to grant");
            }
        }
    }
}
