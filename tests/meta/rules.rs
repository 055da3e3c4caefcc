//! Which changes a proposer may append.

use std::collections::BTreeMap;

use alluvium::meta::entry::{Change, ConfigResource};
use alluvium::meta::rules::{self, RuleError};
use alluvium::types::TopicId;

use crate::machine::{apply, cluster};
use crate::world::{open_session, session, topic, ttl};

/// Checks on a cluster with topic 5 "a" of two partitions; sessions 1 and 2 are ready, 3 open, 4 fenced.
fn check(change: &Change) -> Result<(), RuleError> {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 2)]);
    apply(&mut image, vec![open_session(4, 7)]);
    let fenced = session(image.revision, 7);
    assert_eq!(fenced.revision, 6);
    apply(&mut image, vec![Change::FenceSession { session: fenced, end: 0, ready: vec![] }]);
    rules::check(&image, change)
}

fn fence(revision: u64, end: u64, ready: &[u64]) -> Change {
    let ready = ready.iter().map(|revision| session(*revision, 7)).collect();
    Change::FenceSession { session: session(revision, 7), end, ready }
}

fn advance(topic: u128, partition: i32, offset: i64) -> Change {
    Change::AdvanceLogStart { topic: TopicId(topic), offsets: BTreeMap::from([(partition, offset)]) }
}

fn configs(resource: ConfigResource) -> Change {
    Change::AlterConfigs { resource, set: BTreeMap::from([("a".to_owned(), None)]) }
}

#[test]
fn allowed() {
    for change in [
        Change::Nop {},
        ttl(1),
        open_session(0, 1),
        Change::Ready { session: session(3, 7) },
        fence(1, 1, &[2]),
        fence(3, 0, &[]),
        Change::GrantVacant { ready: vec![session(1, 7), session(2, 7)] },
        topic(6, "b", 1),
        Change::DeleteTopic { id: TopicId(5) },
        Change::CreatePartitions { id: TopicId(5), count: 3 },
        configs(ConfigResource::Topic(TopicId(5))),
        configs(ConfigResource::Broker(9)),
        advance(5, 1, 10),
        Change::AllocateProducerIds { session: session(3, 7), count: 1 },
    ] {
        assert_eq!(check(&change), Ok(()), "{change:?}");
    }
}

#[test]
fn refused() {
    use RuleError as E;
    let fenced = session(6, 7);
    let nobody = session(77, 7);
    type Expected = fn(&RuleError) -> bool;
    let cases: Vec<(Change, Expected)> = vec![
        (ttl(0), |e| matches!(e, E::InvalidValue(_))),
        (open_session(-1, 1), |e| matches!(e, E::InvalidValue(_))),
        (Change::Ready { session: session(1, 7) }, |e| matches!(e, E::InvalidSession { .. })),
        (Change::Ready { session: fenced }, |e| matches!(e, E::SessionFenced { .. })),
        (Change::Ready { session: nobody }, |e| matches!(e, E::UnknownSession { .. })),
        (fence(1, 0, &[2]), |e| matches!(e, E::InvalidSession { .. })),
        (fence(6, 5, &[2]), |e| matches!(e, E::SessionFenced { .. })),
        (fence(77, 5, &[2]), |e| matches!(e, E::UnknownSession { .. })),
        (fence(1, 5, &[1]), |e| matches!(e, E::InvalidSession { .. })),
        (fence(1, 5, &[3]), |e| matches!(e, E::InvalidSession { .. })),
        (fence(1, 5, &[2, 6]), |e| matches!(e, E::SessionFenced { .. })),
        (fence(1, 5, &[2, 2]), |e| matches!(e, E::InvalidValue(_))),
        (Change::GrantVacant { ready: vec![] }, |e| matches!(e, E::InvalidValue(_))),
        (topic(6, "a", 1), |e| matches!(e, E::TopicExists { .. })),
        (topic(5, "b", 1), |e| matches!(e, E::TopicIdUsed { .. })),
        (topic(0, "b", 1), |e| matches!(e, E::InvalidTopic { .. })),
        (topic(6, "", 1), |e| matches!(e, E::InvalidTopic { .. })),
        (topic(6, "b", 0), |e| matches!(e, E::InvalidTopic { .. })),
        (topic(6, &"x".repeat(250), 1), |e| matches!(e, E::InvalidTopic { .. })),
        (topic(6, "b", i32::MAX), |e| matches!(e, E::InvalidValue(_))),
        (Change::DeleteTopic { id: TopicId(6) }, |e| matches!(e, E::UnknownTopic { .. })),
        (Change::CreatePartitions { id: TopicId(5), count: 2 }, |e| matches!(e, E::NotMorePartitions { .. })),
        (Change::CreatePartitions { id: TopicId(5), count: -2 }, |e| matches!(e, E::NotMorePartitions { .. })),
        (Change::CreatePartitions { id: TopicId(6), count: 2 }, |e| matches!(e, E::UnknownTopic { .. })),
        (configs(ConfigResource::Topic(TopicId(6))), |e| matches!(e, E::UnknownTopic { .. })),
        (advance(6, 0, 1), |e| matches!(e, E::UnknownTopic { .. })),
        (advance(5, 2, 1), |e| matches!(e, E::InvalidPartition { .. })),
        (advance(5, 0, -1), |e| matches!(e, E::InvalidPartition { .. })),
        (Change::AllocateProducerIds { session: fenced, count: 1 }, |e| matches!(e, E::SessionFenced { .. })),
        (Change::AllocateProducerIds { session: session(1, 7), count: 0 }, |e| matches!(e, E::InvalidValue(_))),
    ];
    for (change, expected) in cases {
        let error = check(&change).expect_err(&format!("{change:?}"));
        assert!(expected(&error), "{change:?}: {error:?}");
    }
}

#[test]
fn only_offsets_that_move_up_are_worth_an_entry() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 3), advance(5, 0, 10)]);
    let offsets = BTreeMap::from([(0, 10), (1, 1), (2, 0), (7, 7)]);
    assert_eq!(rules::advancing(&image, TopicId(5), &offsets), BTreeMap::from([(1, 1)]));
    assert!(rules::advancing(&image, TopicId(6), &offsets).is_empty());
}
