//! What each change does to the image, and that a change whose rule does not hold does nothing.

use std::collections::BTreeMap;

use alluvium::meta::apply::UnknownEntry;
use alluvium::meta::entry::{Change, ConfigResource, Entry, TransferredPartitions};
use alluvium::meta::hash;
use alluvium::meta::image::{Image, SessionState, Tenure};
use alluvium::types::{PartitionId, TopicId};

use crate::world::{open_session, session, topic, ttl};

pub fn apply(image: &mut Image, changes: Vec<Change>) {
    image.apply(&Entry::new(image.revision + 1, 0, changes)).expect("a known entry");
}

/// Sessions 1 (node 1) and 2 (node 2) are ready, session 3 (node 3) is open.
pub fn cluster() -> Image {
    let mut image = Image::default();
    for node in 1..=3 {
        apply(&mut image, vec![open_session(node, 7)]);
    }
    apply(&mut image, vec![Change::Ready { session: session(1, 7) }, Change::Ready { session: session(2, 7) }]);
    image
}

fn holders(image: &Image, topic: TopicId) -> Vec<Option<u64>> {
    image.topics[&topic].partitions.iter().map(|partition| partition.holder.map(|holder| holder.revision)).collect()
}

#[test]
fn a_topic_is_spread_over_ready_sessions() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 8)]);
    let id = TopicId(5);
    let candidates = [(session(1, 7), 1), (session(2, 7), 2)];
    for (index, partition) in (0..).zip(&image.topics[&id].partitions) {
        let expected = hash::choose(id, index, &candidates).unwrap();
        assert_eq!((partition.holder, partition.epoch, partition.log_start), (Some(expected), 0, 0));
        assert_eq!(partition.tenures, [Tenure { session: expected, epoch: 0, end: None }]);
    }
    let owners = holders(&image, id);
    assert!(owners.contains(&Some(1)) && owners.contains(&Some(2)), "{owners:?}");
    assert_eq!(image.topic_named("a").unwrap().0, id);
    assert_eq!(image.held_by(session(1, 7)).count() + image.held_by(session(2, 7)).count(), 8);
    assert_eq!(image.holder(PartitionId { topic: id, index: 8 }), None);
    assert_eq!(image.holder(PartitionId { topic: id, index: -1 }), None);

    apply(&mut image, vec![Change::CreatePartitions { id, count: 10 }]);
    assert_eq!(image.topics[&id].partitions.len(), 10);
    assert_eq!(holders(&image, id)[..8], owners[..]);
    apply(&mut image, vec![Change::DeleteTopic { id }]);
    assert!(image.topics.is_empty() && image.names.is_empty());
}

#[test]
fn a_fence_ends_tenures_and_grants_the_next() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 8)]);
    let before = image.clone();
    let fenced = session(1, 7);
    apply(&mut image, vec![Change::FenceSession { session: fenced, end: 9, ready: vec![session(2, 7)] }]);
    assert_eq!(image.sessions[&fenced].state, SessionState::Fenced { end: 9 });
    for (partition, old) in image.topics[&TopicId(5)].partitions.iter().zip(&before.topics[&TopicId(5)].partitions) {
        assert_eq!(partition.holder, Some(session(2, 7)));
        if old.holder == Some(fenced) {
            assert_eq!(partition.epoch, 1);
            let expected = [
                Tenure { session: fenced, epoch: 0, end: Some(9) },
                Tenure { session: session(2, 7), epoch: 1, end: None },
            ];
            assert_eq!(partition.tenures, expected);
        } else {
            assert_eq!(partition, old);
        }
    }
    let after = image.clone();
    apply(&mut image, vec![Change::FenceSession { session: fenced, end: 11, ready: vec![session(2, 7)] }]);
    assert_eq!(image, Image { revision: image.revision, ..after }, "a second fence changes nothing");
}

fn transfer(from: u64, to: u64, through: u64, indexes: &[i32]) -> Change {
    let partitions = vec![TransferredPartitions { topic: TopicId(5), indexes: indexes.to_vec() }];
    Change::TransferLease { session: session(from, 7), to: session(to, 7), through, partitions }
}

#[test]
fn a_lease_that_is_handed_over_ends_behind_its_last_segment_or_where_the_session_ends() {
    let id = |index| PartitionId { topic: TopicId(5), index };
    // (`through`, end of the session, end of the tenure)
    for (through, end, expected) in [(8, 20, 9), (8, 9, 9), (8, 8, 8), (8, 3, 3)] {
        let mut image = cluster();
        apply(&mut image, vec![topic(5, "a", 40)]);
        let held = |image: &Image, revision| -> Vec<i32> {
            image.held_by(session(revision, 7)).map(|(id, _)| id.index).collect()
        };
        let (mine, theirs) = (held(&image, 1), held(&image, 2));
        assert!(mine.len() > 3 && theirs.len() > 3);
        // Those of others and those that do not exist are left out; one named twice moves once.
        let named = [mine[0], mine[1], mine[1], theirs[0], -1, 40];
        apply(&mut image, vec![transfer(1, 2, through, &named)]);
        assert_eq!(held(&image, 1), mine[2..], "through {through}");
        for index in &mine[..2] {
            let partition = image.partition(id(*index)).expect("it is there");
            let tenure = |revision, epoch, end| Tenure { session: session(revision, 7), epoch, end };
            assert_eq!((partition.epoch, partition.holder), (1, Some(session(2, 7))));
            assert_eq!(partition.tenures, [tenure(1, 0, Some(through + 1)), tenure(2, 1, None)]);
        }
        assert_eq!(image.holder(id(theirs[0])), Some((session(2, 7), 0)));
        apply(&mut image, vec![Change::FenceSession { session: session(1, 7), end, ready: vec![session(2, 7)] }]);
        let tenures = &image.partition(id(mine[0])).expect("it is there").tenures;
        assert_eq!(tenures[0].end, Some(expected), "through {through}, end {end}");
        assert_eq!(image.partition(id(mine[2])).expect("it is there").tenures[0].end, Some(end));
    }
}

#[test]
fn vacant_partitions_keep_their_epoch_until_somebody_takes_them() {
    let mut image = Image::default();
    apply(&mut image, vec![topic(5, "early", 1)]);
    assert_eq!(
        (image.topics[&TopicId(5)].partitions[0].holder, image.topics[&TopicId(5)].partitions[0].epoch),
        (None, -1)
    );
    apply(&mut image, vec![open_session(1, 7)]);
    let first = session(2, 7);
    apply(&mut image, vec![Change::GrantVacant { ready: vec![first] }]);
    assert_eq!(image.topics[&TopicId(5)].partitions[0].holder, None, "not ready");
    apply(&mut image, vec![Change::Ready { session: first }, Change::GrantVacant { ready: vec![first] }]);
    assert_eq!(image.holder(PartitionId { topic: TopicId(5), index: 0 }), Some((first, 0)));
    apply(&mut image, vec![Change::FenceSession { session: first, end: 1, ready: vec![] }]);
    let partition = image.topics[&TopicId(5)].partitions[0].clone();
    assert_eq!((partition.holder, partition.epoch, partition.tenures.len()), (None, 0, 1));
    apply(&mut image, vec![open_session(1, 8)]);
    let second = session(image.revision, 8);
    apply(&mut image, vec![Change::Ready { session: second }, Change::GrantVacant { ready: vec![second, second] }]);
    assert_eq!(image.holder(PartitionId { topic: TopicId(5), index: 0 }), Some((second, 1)));
}

#[test]
fn an_open_session_is_just_closed() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 4)]);
    let topics = image.topics.clone();
    apply(&mut image, vec![Change::FenceSession { session: session(3, 7), end: 0, ready: vec![session(1, 7)] }]);
    assert_eq!(image.sessions[&session(3, 7)].state, SessionState::Fenced { end: 0 });
    assert_eq!(image.topics, topics);
}

#[test]
fn configs_log_starts_and_producer_ids() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 2), ttl(9000)]);
    let set = |pairs: &[(&str, Option<&str>)]| -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    };
    let on = |resource, pairs: &[(&str, Option<&str>)]| Change::AlterConfigs { resource, set: set(pairs) };
    let topic_five = ConfigResource::Topic(TopicId(5));
    apply(&mut image, vec![on(topic_five.clone(), &[("a", Some("1")), ("b", Some("2"))])]);
    apply(&mut image, vec![on(topic_five, &[("a", None)]), on(ConfigResource::Brokers, &[("x", Some("1"))])]);
    assert_eq!(image.topics[&TopicId(5)].configs, BTreeMap::from([("b".to_owned(), "2".to_owned())]));
    assert_eq!(image.configs.len(), 1);
    apply(&mut image, vec![on(ConfigResource::Brokers, &[("x", None)])]);
    assert!(image.configs.is_empty(), "nothing stays of the last removal");

    let advance = |offsets: &[(i32, i64)]| Change::AdvanceLogStart {
        topic: TopicId(5),
        offsets: offsets.iter().copied().collect(),
    };
    apply(&mut image, vec![advance(&[(0, 10), (1, 5)]), advance(&[(0, 7), (1, 6), (2, 1), (-1, 1)])]);
    let starts: Vec<_> = image.topics[&TopicId(5)].partitions.iter().map(|partition| partition.log_start).collect();
    assert_eq!(starts, [10, 6], "never down");

    apply(&mut image, vec![Change::AllocateProducerIds { session: session(1, 7), count: 1000 }]);
    assert_eq!((image.next_producer_id, image.session_ttl_ms), (1000, 9000));
}

#[test]
fn what_no_proposer_appends_changes_nothing() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 2)]);
    apply(&mut image, vec![Change::FenceSession { session: session(3, 7), end: 0, ready: vec![] }]);
    let nobody = session(77, 7);
    let set = BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]);
    let mut bad_random = open_session(9, 1);
    if let Change::OpenSession { random, .. } = &mut bad_random {
        *random = "+00000000000000a".to_owned();
    }
    let cases = vec![
        Change::Nop {},
        topic(5, "other", 1),
        topic(6, "a", 1),
        topic(6, "none", 0),
        Change::DeleteTopic { id: TopicId(6) },
        Change::CreatePartitions { id: TopicId(5), count: 1 },
        Change::CreatePartitions { id: TopicId(6), count: 9 },
        Change::Ready { session: nobody },
        Change::Ready { session: session(3, 7) },
        Change::FenceSession { session: nobody, end: 3, ready: vec![] },
        Change::GrantVacant { ready: vec![session(1, 7)] },
        Change::AlterConfigs { resource: ConfigResource::Topic(TopicId(6)), set },
        Change::AdvanceLogStart { topic: TopicId(6), offsets: BTreeMap::from([(0, 4)]) },
        Change::AllocateProducerIds { session: session(3, 7), count: 5 },
        Change::AllocateProducerIds { session: nobody, count: 5 },
        bad_random,
        transfer(1, 1, 5, &[0, 1]),
        transfer(1, 3, 5, &[0, 1]),
        transfer(1, 77, 5, &[0, 1]),
        transfer(3, 1, 5, &[0, 1]),
        transfer(1, 2, u64::MAX, &[0, 1]),
        transfer(1, 2, 5, &[2, i32::MIN, i32::MAX]),
    ];
    for change in cases {
        let mut after = image.clone();
        apply(&mut after, vec![change.clone()]);
        assert_eq!(after, Image { revision: after.revision, level: after.level, ..image.clone() }, "{change:?}");
    }
}

#[test]
fn refuses_unknown_versions_and_gaps_and_keeps_the_image() {
    let mut image = cluster();
    let before = image.clone();
    let next = image.revision + 1;
    let foreign = Entry { version: 3, ..Entry::new(next, 0, vec![ttl(1)]) };
    assert_eq!(image.apply(&foreign), Err(UnknownEntry::Version(3)));
    for revision in [next - 1, next + 1] {
        let error = UnknownEntry::NotNext { image: next - 1, found: revision };
        assert_eq!(image.apply(&Entry::new(revision, 0, vec![ttl(1)])), Err(error));
    }
    assert_eq!(image, before);
}

/// What no proposer appends and damage could bring: nothing overflows, and no entry of a few bytes fills the memory.
#[test]
fn numbers_at_their_ends_change_nothing() {
    let mut image = cluster();
    let id = TopicId(5);
    apply(&mut image, vec![topic(5, "a", 2)]);
    let before = image.clone();
    apply(&mut image, vec![topic(6, "b", i32::MAX), Change::CreatePartitions { id, count: i32::MAX }]);
    assert_eq!(image, Image { revision: image.revision, ..before });

    for partition in &mut image.topics.get_mut(&id).unwrap().partitions {
        (partition.holder, partition.epoch) = (None, i32::MAX);
    }
    apply(&mut image, vec![Change::GrantVacant { ready: vec![session(1, 7)] }]);
    assert_eq!(holders(&image, id), [None, None], "there is no epoch left");
    for partition in &mut image.topics.get_mut(&id).unwrap().partitions {
        partition.holder = Some(session(1, 7));
    }
    apply(&mut image, vec![transfer(1, 2, 5, &[0, 1])]);
    assert_eq!(holders(&image, id), [Some(1); 2], "there is no epoch left");

    image.revision = u64::MAX;
    let next = image.apply(&Entry::new(0, 0, vec![]));
    assert_eq!(next, Err(UnknownEntry::NotNext { image: u64::MAX, found: 0 }));
}
