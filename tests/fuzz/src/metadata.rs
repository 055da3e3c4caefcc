//! Entries, snapshots and the cluster's object of the metadata table: `[what] bytes`, sealed with a right CRC on demand. What is
//! read is written and read back the same; what the rules allow has its effect, and nothing that may only grow gets less.

use std::sync::OnceLock;

use alluvium::meta::entry::{Change, ENTRY_VERSION, Entry};
use alluvium::meta::image::{Image, SessionState};
use alluvium::meta::{cluster, rules, snapshot};
use alluvium::types::PartitionId;
use serde_json::Value;

use crate::memory;

/// An image has a few hundred bytes per partition, and a topic of one change up to `rules::PARTITIONS_MAX` of them.
const IMAGE: usize = 64 << 20;
/// Partitions that one input may ask for and get.
const PARTITIONS: i64 = 20_000;

pub fn run(data: &[u8]) {
    let Some((what, content)) = data.split_first() else { return };
    memory::within(IMAGE + 256 * data.len(), || match what % 6 {
        0 => entry(content),
        1 => entry(&seal(content)),
        2 => snapshot(content),
        3 => snapshot(&head(content)),
        4 => drop(cluster::decode(content)),
        _ => drop(cluster::decode(&seal(content))),
    });
}

/// `content` is JSON without its last brace.
pub fn seal(content: &[u8]) -> Vec<u8> {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content);
    [content, format!(",\"crc32c\":\"{crc:08x}\"}}").as_bytes()].concat()
}

/// Puts the right head before the image of a snapshot.
fn head(image: &[u8]) -> Vec<u8> {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, image);
    let (revision, bytes) = (revision(image), image.len());
    let head = format!(
        "{{\"format\":\"alluvium metadata snapshot\",\"version\":1,\"revision\":{revision},\"bytes\":{bytes},\"crc32c\":\"{crc:08x}\"}}\n"
    );
    [head.as_bytes(), image].concat()
}

fn revision(json: &[u8]) -> u64 {
    let first = serde_json::Deserializer::from_slice(json).into_iter::<Value>().next();
    first.and_then(Result::ok).and_then(|value| value["revision"].as_u64()).unwrap_or(0)
}

fn entry(bytes: &[u8]) {
    let revision = revision(bytes);
    let Ok(entry) = Entry::decode(revision, bytes) else { return };
    assert_eq!(Entry::decode(revision, &entry.encode()).as_ref(), Ok(&entry));
    if partitions(&entry) > PARTITIONS {
        return;
    }
    let mut image = Image { revision: revision.saturating_sub(1), ..furnished().clone() };
    apply(&mut image, &entry);
    let mut image = furnished().clone();
    for change in &entry.changes {
        one_by_one(&mut image, change);
    }
}

/// What the rules allow has its effect; what they do not does no harm.
fn one_by_one(image: &mut Image, change: &Change) {
    let allowed = rules::check(image, change).is_ok();
    let before = image.clone();
    let entry = Entry::new(before.revision + 1, 7, vec![change.clone()]);
    if entry.version > ENTRY_VERSION {
        assert!(!allowed && image.apply(&entry).is_err() && *image == before, "nobody could read {change:?}");
        return;
    }
    image.apply(&entry).expect("it follows");
    assert!(!allowed || has_effect(&before, image, change), "allowed, and without effect: {change:?}");
    assert!(image.next_producer_id >= before.next_producer_id);
    for (id, topic) in &before.topics {
        let Some(now) = image.topics.get(id) else { continue };
        assert!(now.partitions.len() >= topic.partitions.len());
        for (was, now) in topic.partitions.iter().zip(&now.partitions) {
            assert!(now.log_start >= was.log_start && now.epoch >= was.epoch && now.tenures.len() >= was.tenures.len());
            assert!(
                now.epoch > was.epoch || now.holder.is_none() || now.holder == was.holder,
                "two holders of an epoch"
            );
        }
    }
}

fn has_effect(before: &Image, after: &Image, change: &Change) -> bool {
    let partitions =
        |id, count: i32| after.topics.get(id).is_some_and(|topic| topic.partitions.len() as i64 == i64::from(count));
    let state = |session| after.sessions.get(session).map(|session| session.state);
    match change {
        Change::SetCluster { session_ttl_ms } => after.session_ttl_ms == *session_ttl_ms,
        Change::OpenSession { .. } => after.sessions.len() == before.sessions.len() + 1,
        Change::Ready { session } => state(session) == Some(SessionState::Ready),
        Change::FenceSession { session, end, .. } => {
            state(session) == Some(SessionState::Fenced { end: *end }) && after.held_by(*session).next().is_none()
        }
        Change::CreateTopic { id, name, partitions: count, .. } => {
            partitions(id, *count) && after.names.get(name) == Some(id)
        }
        Change::DeleteTopic { id } => !after.topics.contains_key(id) && !after.names.values().any(|named| named == id),
        Change::CreatePartitions { id, count } => partitions(id, *count),
        Change::AdvanceLogStart { topic, offsets } => offsets.iter().all(|(index, offset)| {
            let partitions = &after.topics[topic].partitions;
            usize::try_from(*index).is_ok_and(|index| partitions[index].log_start >= *offset)
        }),
        Change::AllocateProducerIds { count, .. } => {
            after.next_producer_id == before.next_producer_id + i64::from(*count)
        }
        Change::ClaimMerge { session, .. } => after.merges.claim_on(*session).is_some(),
        Change::CommitRun { claim, empty } => {
            let through = before.merges.claims[claim].to;
            after.merges.merged(before.merges.claims[claim].session) == through && after.merges.names(*claim) != *empty
        }
        Change::EndClaim { claim } => !after.merges.claims.contains_key(claim),
        Change::TransferLease { to, partitions, .. } => partitions.iter().all(|moved| {
            let id = |index: &i32| PartitionId { topic: moved.topic, index: *index };
            moved.indexes.iter().all(|index| after.holder(id(index)).is_some_and(|(holder, _)| holder == *to))
        }),
        Change::RaiseLevel { level } => after.level == *level,
        Change::Nop {} | Change::MoveTable { .. } | Change::GrantVacant { .. } | Change::AlterConfigs { .. } => true,
    }
}

/// Partitions that an entry asks for and gets: none where it asks for more than a topic may have.
fn partitions(entry: &Entry) -> i64 {
    let asked = |change: &Change| match change {
        Change::CreateTopic { partitions: count, .. } | Change::CreatePartitions { count, .. } => {
            if *count > rules::PARTITIONS_MAX { 0 } else { i64::from(*count) }
        }
        _ => 0,
    };
    entry.changes.iter().map(asked).map(|count| count.max(0)).sum()
}

fn apply(image: &mut Image, entry: &Entry) {
    let before = image.clone();
    match image.apply(entry) {
        Ok(()) => same_when_read_back(image),
        Err(_) => assert_eq!(*image, before),
    }
}

fn snapshot(bytes: &[u8]) {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(mut image) = snapshot::decode(revision(line), bytes) else { return };
    same_when_read_back(&image);
    let revision = image.revision.saturating_add(1);
    let every = image.topics.keys().map(|id| Change::CreatePartitions { id: *id, count: 9 });
    let sessions: Vec<_> = image.sessions.keys().copied().collect();
    let ready = sessions.iter().map(|session| Change::Ready { session: *session });
    let fence =
        sessions.iter().map(|session| Change::FenceSession { session: *session, end: 1, ready: sessions.clone() });
    let ids = sessions.iter().map(|session| Change::AllocateProducerIds { session: *session, count: u32::MAX });
    let grant = Change::GrantVacant { ready: sessions.clone() };
    let changes: Vec<_> = every.chain(ready).chain([grant]).chain(ids).chain(fence).take(64).collect();
    apply(&mut image, &Entry::new(revision, 7, changes));
    for id in image.sessions.keys() {
        image.held_by(*id).for_each(|(partition, epoch)| assert_eq!(image.holder(partition), Some((*id, epoch))));
    }
}

fn same_when_read_back(image: &Image) {
    let read = snapshot::decode(image.revision, &snapshot::encode(image));
    assert_eq!(read.as_ref().ok(), Some(image));
}

/// An image in which there is something to change: a ready session, one that is open, two topics.
pub fn furnished() -> &'static Image {
    static FURNISHED: OnceLock<Image> = OnceLock::new();
    FURNISHED.get_or_init(|| {
        let bytes = include_bytes!("../../golden/meta/snapshot-11.json");
        snapshot::decode(11, bytes).expect("the golden snapshot is good")
    })
}
