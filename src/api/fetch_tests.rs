use super::*;

#[test]
fn who_errs_about_the_leader_is_told() {
    for (error, expected) in [
        (ResponseError::NotLeaderOrFollower, true),
        (ResponseError::FencedLeaderEpoch, true),
        (ResponseError::UnknownLeaderEpoch, false),
        (ResponseError::OffsetOutOfRange, false),
        (ResponseError::UnknownTopicOrPartition, false),
        (ResponseError::KafkaStorageError, false),
    ] {
        for version in [12, 13, 16, 18] {
            assert_eq!(names_leader(version, error.code()), expected, "{error:?}, version {version}");
        }
        assert!(!names_leader(11, error.code()), "there is no field for it");
    }
    assert!(!names_leader(18, 0));
}

#[test]
fn a_poll_ends_with_what_is_wanted_or_may_be_brought() {
    for (planned, min, share, expected) in [
        (0, 0, 100, true),
        (0, 1, 100, false),
        (1, 1, 100, true),
        (9, 10, 100, false),
        (10, 10, 100, true),
        (99, 1000, 100, false),
        (100, 1000, 100, true),
    ] {
        assert_eq!(is_enough(planned, min, share), expected, "{planned} of {min}, share {share}");
    }
}

#[test]
fn a_wait_keeps_partitions_and_names() {
    let ask = Ask { offset: 0, max_bytes: 1, leader_epoch: -1 };
    let asks = |name: &str, count: i32| {
        let name: Arc<str> = Arc::from(name);
        (0..count).map(move |index| (Key { name: name.clone(), id: TopicId::ZERO, index }, ask))
    };
    let both: Vec<_> = asks("abc", 2).chain(asks("de", 1)).collect();
    assert_eq!(kept_bytes(&both), 3 * KEPT_PER_PARTITION + 5);
    assert_eq!(kept_bytes(&[]), 0);
    let known = size_of::<(Key, Ask)>() + size_of::<Target>() + size_of::<Arc<PartitionSlot>>();
    assert!(known <= KEPT_PER_PARTITION, "{known} bytes");
}
