//! Committed offsets: what is kept, for how long, and what deletion takes along.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::message::DeleteOffsets;
use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[test]
fn a_commit_is_stored_as_it_came() {
    let mut bench = Bench::new(limits());
    let mut partition = commit_of("t", 4, 99);
    partition.metadata = String::new();
    assert_eq!(bench.commit_with("", -1, partition, None), Ok(()));
    for partition in [bench.replayed(), bench.partition.clone()] {
        let group = partition.group(GROUP).expect("a simple group");
        let offset = group.offsets.get("t", 4).expect("committed");
        assert_eq!((offset.offset, offset.leader_epoch, offset.metadata.as_str()), (99, 3, ""));
        assert_eq!((offset.topic_id, offset.commit_ms, offset.expire_ms), (TopicId(7), bench.now.wall_ms, None));
        assert_eq!((group.state(), group.protocol_type()), (State::Empty, None));
    }
}

#[test]
fn metadata_has_a_limit_per_partition() {
    let mut bench = Bench::new(limits());
    let mut long = commit_of("t", 0, 1);
    long.metadata = "ü".repeat(4096);
    assert_eq!(bench.commit_with("", -1, long.clone(), None), Ok(()), "Kafka counts characters");
    long.metadata.push('x');
    assert_eq!(bench.commit_with("", -1, long, None), Err(GroupError::OffsetMetadataTooLarge));
    assert_eq!(bench.records.len(), 1);
}

/// Of several mentions the last one that is good counts, and is all that is written; each has its result.
#[test]
fn a_partition_that_is_named_again_is_stored_once() {
    let mut bench = Bench::new(limits());
    let mut too_large = commit_of("t", 1, 9);
    too_large.metadata = "x".repeat(4097);
    let mentions = [("t", 1, 1), ("t", 0, 2), ("t", 1, 3), ("u", 1, 4), ("t", 1, 5)];
    let mut partitions: Vec<_> = mentions.iter().map(|(topic, at, offset)| commit_of(topic, *at, *offset)).collect();
    partitions.push(too_large);
    let to = bench.send(|reply| {
        let (generation, member_id, instance_id) = (-1, String::new(), None);
        let knows_group_not_found = true;
        Input::Commit(Commit {
            reply,
            generation,
            member_id,
            instance_id,
            retention_ms: None,
            knows_group_not_found,
            partitions,
        })
    });
    let mut results = vec![Ok(()); 5];
    results.push(Err(GroupError::OffsetMetadataTooLarge));
    assert_eq!(bench.replies[&to], Reply::Partitions(Ok(results)));
    assert_eq!(bench.records.len(), 3);
    for partition in [bench.replayed(), bench.partition.clone()] {
        let group = partition.group(GROUP).expect("a simple group");
        let offset = |topic, at| group.offsets.get(topic, at).map(|offset| offset.offset);
        assert_eq!([offset("t", 0), offset("t", 1), offset("u", 1)], [Some(2), Some(5), Some(4)]);
    }
}

#[test]
fn offsets_of_a_simple_group_expire_one_by_one() {
    let mut bench = Bench::new(limits());
    bench.partition.loaded(bench.now);
    assert_eq!(bench.commit_with("", -1, commit_of("t", 0, 1), None), Ok(()));
    bench.pass(3 * DAY_MS);
    assert_eq!(bench.commit_with("", -1, commit_of("t", 1, 1), None), Ok(()));
    bench.pass(4 * DAY_MS + 600_000);
    assert!(bench.group().offsets.get("t", 0).is_none());
    assert!(bench.group().offsets.get("t", 1).is_some());
    bench.pass(3 * DAY_MS);
    assert!(bench.partition.group(GROUP).is_none(), "nothing is left of the group");
    assert_eq!(bench.replayed().groups().count(), 0);
}

#[test]
fn a_commit_may_bring_its_own_retention() {
    let mut bench = Bench::new(limits());
    bench.partition.loaded(bench.now);
    assert_eq!(bench.commit_with("", -1, commit_of("t", 0, 1), Some(60_000)), Ok(()));
    assert_eq!(bench.commit_with("", -1, commit_of("t", 1, 1), Some(30 * DAY_MS)), Ok(()));
    bench.pass(600_000);
    assert!(bench.group().offsets.get("t", 0).is_none());
    bench.pass(8 * DAY_MS);
    assert!(bench.group().offsets.get("t", 1).is_some());
}

#[test]
fn offsets_of_a_living_group_expire_only_for_topics_it_left() {
    let mut bench = Bench::new(limits());
    bench.partition.loaded(bench.now);
    let generation = bench.stable(&["a"]);
    assert_eq!(bench.commit_with("a", generation, commit_of("t", 0, 1), None), Ok(()));
    assert_eq!(bench.commit_with("a", generation, commit_of("left", 0, 1), None), Ok(()));
    for _ in 0..(7 * DAY_MS / 9_000 + 100) {
        bench.pass(9_000);
        assert_eq!(bench.heartbeat("a", generation), Ok(()));
    }
    assert!(bench.group().offsets.get("t", 0).is_some());
    assert!(bench.group().offsets.get("left", 0).is_none());
    // Nobody is left: the retention runs from then on, whatever the age of the commits.
    assert_eq!(bench.leave("a", None), Ok(()));
    bench.pass(6 * DAY_MS);
    assert!(bench.group().offsets.get("t", 0).is_some());
    bench.pass(DAY_MS + 600_000);
    assert!(bench.partition.group(GROUP).is_none());
    assert_eq!(bench.replayed().groups().count(), 0);
}

#[test]
fn deletion_of_offsets_spares_what_is_in_use() {
    let mut bench = Bench::new(limits());
    let connect = Join { protocol_type: "connect".to_owned(), ..dynamic("a") };
    bench.join(connect);
    let to = bench.send(|reply| Input::DeleteOffsets(DeleteOffsets { reply, partitions: vec![("t".to_owned(), 0)] }));
    assert_eq!(bench.replies[&to], Reply::Partitions(Err(GroupError::NonEmpty)), "its topics are not known");
}

#[test]
fn a_deleted_topic_takes_its_offsets_along_but_not_its_successors() {
    let mut bench = Bench::new(limits());
    for (topic, id) in [("t", 7), ("u", 7), ("old", 0)] {
        let mut partition = commit_of(topic, 0, 1);
        partition.topic_id = TopicId(id);
        assert_eq!(bench.commit_with("", -1, partition, None), Ok(()));
    }
    let gone = |names: &[(&str, u128)]| {
        Input::TopicsDeleted(names.iter().map(|(name, id)| ((*name).to_owned(), TopicId(*id))).collect())
    };
    for (input, left) in [
        (gone(&[("t", 8)]), vec!["old", "t", "u"]),
        (gone(&[("t", 7)]), vec!["old", "u"]),
        (gone(&[("old", 5)]), vec!["u"]),
    ] {
        for (_, outputs) in bench.partition.step_all(&input, bench.now) {
            bench.records.extend(outputs.records);
        }
        for partition in [bench.replayed(), bench.partition.clone()] {
            let group = partition.group(GROUP).expect("u is left");
            assert_eq!(group.offsets.iter().map(|(topic, ..)| topic).collect::<Vec<_>>(), left);
        }
    }
}

/// An offset without an id may be of any topic of the name.
#[test]
fn ids_of_deleted_topics_take_along_what_bears_them() {
    let mut bench = Bench::new(limits());
    for (topic, id) in [("t", 7), ("u", 8), ("old", 0)] {
        let mut partition = commit_of(topic, 0, 1);
        partition.topic_id = TopicId(id);
        assert_eq!(bench.commit_with("", -1, partition, None), Ok(()));
    }
    let ids = |ids: &[u128]| ids.iter().copied().map(TopicId).collect::<BTreeSet<_>>();
    for (gone, left, ids_left) in
        [(9, vec!["old", "t", "u"], ids(&[7, 8])), (7, vec!["old", "u"], ids(&[8])), (8, vec!["old"], ids(&[]))]
    {
        let input = Input::TopicIdsDeleted(Arc::new(ids(&[gone])));
        for (_, outputs) in bench.partition.step_all(&input, bench.now) {
            bench.records.extend(outputs.records);
        }
        for partition in [bench.replayed(), bench.partition.clone()] {
            let group = partition.group(GROUP).expect("old is left");
            assert_eq!(group.offsets.iter().map(|(topic, ..)| topic).collect::<Vec<_>>(), left);
            assert_eq!(partition.topic_ids(), ids_left);
        }
    }
}

#[test]
fn records_that_can_not_be_read_stop_the_replay_and_newer_types_do_not() {
    use crate::coord::log::CoordRecord;
    let mut partition = Partition::new(limits());
    let newer = CoordRecord { key: Bytes::from_static(&[0, 3, 0, 1, b'g']), value: Some(Bytes::from_static(&[0, 0])) };
    assert_eq!(partition.replay(&newer), Ok(()));
    assert_eq!(partition.unknown_records(), 1);
    let mut damaged = Record::Group { group: GROUP.to_owned(), value: None }.encode();
    damaged.value = Some(Bytes::from_static(&[0, 9]));
    assert!(partition.replay(&damaged).is_err());
}
