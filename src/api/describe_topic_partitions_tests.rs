use std::collections::BTreeMap;

use super::*;
use crate::meta::image::PartitionState;

fn image() -> Image {
    let mut image = Image::default();
    for (id, name, count) in [(1, "a", 3), (2, "b", 1), (3, "c", 2)] {
        let state = PartitionState { epoch: 0, holder: None, tenures: Vec::new(), log_start: 0 };
        let topic = Topic {
            name: name.to_owned(),
            replication_factor: 1,
            internal: false,
            configs: BTreeMap::new(),
            partitions: vec![state; count],
        };
        image.topics.insert(TopicId(id), topic);
        image.names.insert(name.to_owned(), TopicId(id));
    }
    image
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn pages_hold_every_partition_once() {
    for asked in [names(&[]), names(&["c", "a", "b"])] {
        for limit in 1..8 {
            let (mut seen, mut start) = (Vec::new(), None);
            loop {
                let page = page(&image(), &BTreeMap::new(), asked.clone(), start, limit);
                let rows = page.topics.iter().flat_map(|topic| {
                    let name = topic.name.as_ref().unwrap().to_string();
                    topic.partitions.iter().map(move |partition| (name.clone(), partition.partition_index))
                });
                let rows: Vec<_> = rows.collect();
                assert!(rows.len() <= limit);
                seen.extend(rows);
                let Some(next) = page.next_cursor else { break };
                start = Some((next.topic_name.to_string(), next.partition_index));
            }
            let all = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1)]
                .map(|(name, index)| (name.to_owned(), index));
            assert_eq!(seen, all, "limit {limit}");
        }
    }
}

#[test]
fn strange_requests_are_answered() {
    let code = |asked: &[&str], start: Option<(&str, i32)>| {
        let start = start.map(|(name, index)| (name.to_owned(), index));
        let page = page(&image(), &BTreeMap::new(), names(asked), start, 10);
        page.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
    };
    let (invalid, unknown) = (ResponseError::InvalidRequest.code(), ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(code(&["a"], Some(("b", 0))), [invalid]);
    assert_eq!(code(&["a"], Some(("a", -1))), [invalid]);
    assert_eq!(code(&["a", "none"], None), [0, unknown]);
    assert_eq!(code(&["bad name"], None), [ResponseError::InvalidTopicException.code()]);
    assert_eq!(code(&[], Some(("bb", 0))), [0], "a topic that has gone is skipped");
}
