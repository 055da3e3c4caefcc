//! Which changes a proposer may append.

use std::collections::BTreeMap;

use alluvium::meta::entry::{Change, ConfigResource, TransferredPartitions};
use alluvium::meta::image::Image;
use alluvium::meta::rules::{self, RuleError};
use alluvium::types::{FEATURE_LEVEL, PartitionId, RunId, TopicId};

use crate::machine::{apply, cluster};
use crate::world::{open_session, session, topic, ttl};

/// Checks on a cluster with topic 5 "a" of two partitions; sessions 1 and 2 are ready, 3 open, 4 fenced; its level is the highest.
fn check(change: &Change) -> Result<(), RuleError> {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 2)]);
    image.level = FEATURE_LEVEL;
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

/// Who holds partition 0 of topic 5, and the other one that is ready.
fn holder_and_other() -> (u64, u64) {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 2)]);
    let (holder, _) = image.holder(PartitionId { topic: TopicId(5), index: 0 }).expect("it was granted");
    (holder.revision, 3 - holder.revision)
}

fn transfer(from: u64, to: u64, topic: u128, index: i32) -> Change {
    let partitions = vec![TransferredPartitions { topic: TopicId(topic), indexes: vec![index] }];
    Change::TransferLease { session: session(from, 7), to: session(to, 7), through: 4, partitions }
}

fn advance(topic: u128, partition: i32, offset: i64) -> Change {
    Change::AdvanceLogStart { topic: TopicId(topic), offsets: BTreeMap::from([(partition, offset)]) }
}

fn configs(resource: ConfigResource) -> Change {
    Change::AlterConfigs { resource, set: BTreeMap::from([("a".to_owned(), None)]) }
}

#[test]
fn allowed() {
    let (holder, other) = holder_and_other();
    for change in [
        Change::Nop {},
        ttl(1),
        open_session(0, 1),
        Change::Ready { session: session(3, 7) },
        fence(1, 1, &[2]),
        fence(3, 0, &[]),
        transfer(holder, other, 5, 0),
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
    let (holder, other) = holder_and_other();
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
        (transfer(1, 1, 5, 0), |e| matches!(e, E::InvalidSession { .. })),
        (transfer(1, 3, 5, 0), |e| matches!(e, E::InvalidSession { .. })),
        (transfer(3, 1, 5, 0), |e| matches!(e, E::InvalidSession { .. })),
        (transfer(1, 6, 5, 0), |e| matches!(e, E::SessionFenced { .. })),
        (transfer(6, 1, 5, 0), |e| matches!(e, E::SessionFenced { .. })),
        (transfer(1, 2, 6, 0), |e| matches!(e, E::UnknownTopic { .. })),
        (transfer(1, 2, 5, 2), |e| matches!(e, E::InvalidPartition { .. })),
        (transfer(other, holder, 5, 0), |e| matches!(e, E::InvalidPartition { .. })),
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

fn claim(session_revision: u64, from: u64, to: u64, by: u64) -> Change {
    let (session, by) = (session(session_revision, 7), session(by, 7));
    Change::ClaimMerge { session, from, to, by, random: format!("{:016x}", 9) }
}

fn run(revision: u64) -> RunId {
    RunId { revision, random: 9 }
}

/// Sessions 1 and 2 are ready, 3 is open, 4 is fenced at 10; of 4 segments 0 to 3 are merged and 4 to 5 claimed, in revision 9.
fn merging() -> Image {
    let mut image = Image::default();
    for node in 1..=4 {
        apply(&mut image, vec![open_session(node, 7)]);
    }
    let ready = |revision| Change::Ready { session: session(revision, 7) };
    apply(&mut image, vec![ready(1), ready(2), ready(4)]);
    apply(&mut image, vec![fence(4, 10, &[])]);
    apply(&mut image, vec![claim(4, 0, 4, 1)]);
    apply(&mut image, vec![Change::CommitRun { claim: run(7), empty: false }]);
    apply(&mut image, vec![claim(4, 4, 6, 1)]);
    image
}

#[test]
fn merges_are_claimed_and_committed_by_the_rules() {
    use RuleError as E;
    let merge = |e: &RuleError| matches!(e, E::InvalidMerge { .. });
    let gone = |e: &RuleError| matches!(e, E::UnknownClaim { .. });
    type Expected<'a> = Option<&'a dyn Fn(&RuleError) -> bool>;
    let bad_random =
        Change::ClaimMerge { session: session(1, 7), from: 0, to: 1, by: session(1, 7), random: "x".to_owned() };
    let cases: Vec<(Change, Expected<'_>)> = vec![
        (claim(1, 0, 5, 1), None),
        (claim(3, 0, 1, 3), None),
        (claim(1, 0, 5, 2), Some(&merge)),
        (claim(1, 1, 5, 1), Some(&merge)),
        (claim(1, 0, 0, 1), Some(&merge)),
        (claim(1, 0, 5, 4), Some(&|e| matches!(e, E::SessionFenced { .. }))),
        (claim(1, 0, 5, 77), Some(&|e| matches!(e, E::UnknownSession { .. }))),
        (claim(77, 0, 5, 1), Some(&|e| matches!(e, E::UnknownSession { .. }))),
        (claim(4, 4, 6, 2), Some(&merge)),
        (bad_random, Some(&|e| matches!(e, E::InvalidValue(_)))),
        (Change::CommitRun { claim: run(9), empty: false }, None),
        (Change::CommitRun { claim: run(7), empty: false }, Some(&gone)),
        (Change::CommitRun { claim: run(77), empty: true }, Some(&gone)),
        (Change::EndClaim { claim: run(9) }, None),
        (Change::EndClaim { claim: run(7) }, Some(&gone)),
    ];
    let image = merging();
    for (change, expected) in cases {
        match (rules::check(&image, &change), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(expected)) => assert!(expected(&error), "{change:?}: {error:?}"),
            (found, _) => panic!("{change:?}: {found:?}"),
        }
    }
    // Without the claim: how far a window of a fenced session may go, and where it begins.
    let mut image = image;
    apply(&mut image, vec![Change::EndClaim { claim: run(9) }]);
    for (from, to, allowed) in [(4, 10, true), (4, 11, false), (4, 5, true), (3, 5, false), (5, 6, false)] {
        assert_eq!(rules::check(&image, &claim(4, from, to, 2)).is_ok(), allowed, "{from}..{to}");
    }
}

#[test]
fn a_session_does_not_end_below_what_was_merged() {
    let mut image = merging();
    apply(&mut image, vec![claim(1, 0, 5, 1)]);
    apply(&mut image, vec![Change::CommitRun { claim: run(10), empty: true }]);
    for (end, allowed) in [(4, false), (5, true), (6, true)] {
        assert_eq!(rules::check(&image, &fence(1, end, &[2])).is_ok(), allowed, "end {end}");
    }
}

#[test]
fn claims_and_runs_stand_in_the_image() {
    let mut image = merging();
    let fenced = session(4, 7);
    assert_eq!((image.merges.merged(fenced), image.merges.runs(fenced).len()), (4, 1));
    assert_eq!(image.merges.claim_on(fenced).map(|(id, claim)| (id, claim.from, claim.to)), Some((run(9), 4, 6)));
    assert!(image.merges.names(run(7)) && image.merges.names(run(9)) && !image.merges.names(run(8)));
    let before = image.clone();
    // No effect: claims that the rules forbid, ends and commits of claims that are not there.
    let nothing = [claim(4, 4, 8, 2), claim(1, 1, 2, 1), claim(1, 0, 0, 1), claim(77, 0, 1, 1)];
    let gone = [Change::CommitRun { claim: run(7), empty: false }, Change::EndClaim { claim: run(8) }];
    for change in nothing.into_iter().chain(gone) {
        apply(&mut image, vec![change.clone()]);
        assert_eq!(image, Image { revision: image.revision, ..before.clone() }, "{change:?}");
    }
    apply(&mut image, vec![Change::CommitRun { claim: run(9), empty: true }]);
    assert_eq!((image.merges.merged(fenced), image.merges.runs(fenced).len()), (6, 1), "nothing was in it");
    assert!(!image.merges.names(run(9)) && image.merges.claims.is_empty());
}

#[test]
fn only_offsets_that_move_up_are_worth_an_entry() {
    let mut image = cluster();
    apply(&mut image, vec![topic(5, "a", 3), advance(5, 0, 10)]);
    let offsets = BTreeMap::from([(0, 10), (1, 1), (2, 0), (7, 7)]);
    assert_eq!(rules::advancing(&image, TopicId(5), &offsets), BTreeMap::from([(1, 1)]));
    assert!(rules::advancing(&image, TopicId(6), &offsets).is_empty());
}
