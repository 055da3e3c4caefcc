//! Opens a session: a name in the metadata table, segment 0 in the bucket, then the right to leases.
//!
//! `OpenSession` → segment 0 → `Ready` → fence the predecessors of the same node id, which grants their partitions to us, → grant what
//! nobody holds. A crash anywhere leaves a session that the next life of this node id fences like any other.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::fence::{FenceError, fence};
use super::proof::Newest;
use super::recover::FooterReader;
use crate::meta::entry::{Change, Endpoint};
use crate::meta::image::{Image, Session, SessionState};
use crate::meta::{Metadata, ProposeError, level};
use crate::segment::{IDENTITY_BYTES, SegmentDraft, SegmentError, build, segment_key};
use crate::store::create::{CreateError, CreateOnce, CreatePolicy, Created, create_once};
use crate::types::mutant::{self, Mutant};
use crate::types::{NodeId, SegmentNumber, SessionId};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the metadata table: {0}")]
    Metadata(String),
    #[error("segment 0: {0}")]
    Create(#[from] CreateError),
    #[error("segment 0: {0}")]
    Segment(#[from] SegmentError),
    #[error("{0}: somebody else's object has the name of our first segment")]
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
    pub footer_zero: Bytes,
    /// Segment 0.
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
    let (footer_zero, newest) = create_segment_zero(reader, policy, id).await?;
    propose(meta, move |_| vec![Change::Ready { session: id }]).await?;
    for predecessor in meta.read(|image| predecessors(image, id, node_id)) {
        let end = end(meta, reader, policy, predecessor, id).await?;
        tracing::info!(session = %predecessor, end, "closed an earlier session of this node");
    }
    grant_vacant(meta).await?;
    let ttl = Duration::from_millis(meta.read(|image| image.session_ttl_ms));
    Ok(OpenedSession { id, node_id, footer_zero, newest, ttl })
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

/// Fences a session and closes it in the table. What is merged meanwhile by its own broker, which may still live, moves the number
/// where the walk has to begin: names below it are free again.
async fn end(
    meta: &Metadata,
    reader: &FooterReader,
    policy: &CreatePolicy,
    session: SessionId,
    fencer: SessionId,
) -> Result<SegmentNumber, OpenError> {
    loop {
        let merged = meta.read(|image| image.merges.merged(session));
        let merged = if mutant::on(Mutant::FenceBelowMerged) { 0 } else { merged };
        let end = fence(reader, policy, session, fencer, merged)
            .await
            .map_err(|error| OpenError::Fence { session, error })?;
        let closed = meta.propose(move |image| match image.merges.merged(session) {
            merged if merged > end && !mutant::on(Mutant::FenceBelowMerged) => Err(MergedMeanwhile),
            _ => Ok(close(image, session, end)),
        });
        match closed.await {
            Ok(_) => return Ok(end),
            Err(ProposeError::Refused(MergedMeanwhile)) => {}
            Err(error) => return Err(OpenError::Metadata(error.to_string())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("its segments were merged meanwhile")]
struct MergedMeanwhile;

/// Closes a session in the table at the end that fencing found, unless that is done already.
pub fn close(image: &Image, session: SessionId, end: u64) -> Vec<Change> {
    let Some(state) = image.sessions.get(&session).map(|session| session.state) else { return Vec::new() };
    if matches!(state, SessionState::Fenced { .. }) {
        return Vec::new();
    }
    let ready = image.ready_sessions().map(|(id, _)| id).filter(|id| *id != session);
    vec![Change::FenceSession { session, end, ready: ready.collect() }]
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

async fn create_segment_zero(
    reader: &FooterReader,
    policy: &CreatePolicy,
    session: SessionId,
) -> Result<(Bytes, Newest), OpenError> {
    let nonce = reader.env.entropy.next_u64();
    let sealed = build(SegmentDraft {
        session,
        number: 0,
        nonce,
        created_ms: reader.env.clock.wall_ms(),
        committed: 0,
        extents: Vec::new(),
        repeated: Vec::new(),
    })?;
    let key = segment_key(session, 0);
    let sent_at = reader.env.clock.boot();
    let request = CreateOnce { key: key.clone(), body: sealed.bytes, identity_bytes: IDENTITY_BYTES };
    match create_once(reader.store.as_ref(), &reader.env, request, policy).await? {
        Created::Ours => Ok((sealed.footer_bytes, Newest { number: 0, nonce, sent_at })),
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
}
