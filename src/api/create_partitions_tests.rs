use super::*;
use crate::meta::image::{PartitionState, Topic};
use crate::types::TopicId;

#[test]
fn requests_are_judged_as_in_kafka() {
    use ResponseError::{InvalidPartitions, InvalidReplicaAssignment, PolicyViolation, UnknownTopicOrPartition};
    let state = PartitionState { epoch: 0, holder: None, tenures: Vec::new(), log_start: 0 };
    let mut image = Image::default();
    let topic = Topic {
        name: "t1".to_owned(),
        replication_factor: 3,
        internal: false,
        configs: BTreeMap::new(),
        partitions: vec![state; 2],
    };
    image.topics.insert(TopicId(1), topic);
    image.names.insert("t1".to_owned(), TopicId(1));
    let live = BTreeSet::from([1, 2]);
    let assigned = |brokers: &[&[i32]]| Some(brokers.iter().map(|brokers| brokers.to_vec()).collect::<Vec<_>>());
    for (name, count, assignments, answer) in [
        ("t1", 3, None, Ok(3)),
        ("t1", 4, assigned(&[&[1, 2], &[2, 1]]), Ok(4)),
        ("none", 3, None, Err((UnknownTopicOrPartition, ""))),
        ("t1", 2, None, Err((InvalidPartitions, "Topic already has 2 partition(s)."))),
        (
            "t1",
            1,
            None,
            Err((InvalidPartitions, "The topic t1 currently has 2 partition(s); 1 would not be an increase.")),
        ),
        (
            "t1",
            -1,
            None,
            Err((InvalidPartitions, "The topic t1 currently has 2 partition(s); -1 would not be an increase.")),
        ),
        ("t1", 20_000, None, Err((PolicyViolation, "Excessively large number of partitions per request."))),
        (
            "t1",
            4,
            assigned(&[]),
            Err((
                InvalidReplicaAssignment,
                "Attempted to add 2 additional partition(s), but only 0 assignment(s) were specified.",
            )),
        ),
        (
            "t1",
            3,
            assigned(&[&[1], &[1]]),
            Err((
                InvalidReplicaAssignment,
                "Attempted to add 1 additional partition(s), but only 2 assignment(s) were specified.",
            )),
        ),
        (
            "t1",
            3,
            assigned(&[&[]]),
            Err((InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")),
        ),
        (
            "t1",
            3,
            assigned(&[&[5]]),
            Err((
                InvalidReplicaAssignment,
                "The manual partition assignment includes broker 5, but no such broker is registered.",
            )),
        ),
        (
            "t1",
            3,
            assigned(&[&[1, 1]]),
            Err((InvalidReplicaAssignment, "The manual partition assignment includes the broker 1 more than once.")),
        ),
        (
            "t1",
            3,
            assigned(&[&[1]]),
            Err((
                InvalidReplicaAssignment,
                "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with previous \
             partitions, which have 2 replica(s).",
            )),
        ),
    ] {
        let asked = Asked { name: name.to_owned(), count, assignments };
        let result = create_one(&image, &live, &asked, &mut 0);
        let expected = answer.map(|count| Change::CreatePartitions { id: TopicId(1), count });
        let result = result.map_err(|refusal| (refusal.error, refusal.message.unwrap_or_default()));
        assert_eq!(result, expected.map_err(|(error, message)| (error, message.to_owned())), "{asked:?}");
    }
}
