//! Topics and partitions that a Produce names more than once.

use std::collections::BTreeMap;

use kafka_protocol::messages::produce_request::TopicProduceData;

use crate::types::TopicId;
use crate::types::mentions::{any_twice, last_mentions};

/// Each topic and partition once, where it was named first, with the records that were named last.
pub fn each_once(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    if names_twice(&topics) { merged(topics) } else { topics }
}

/// Whether some topic or partition is named more than once.
fn names_twice(topics: &[TopicProduceData]) -> bool {
    any_twice(topics.iter().map(key))
        || topics.iter().any(|topic| any_twice(topic.partition_data.iter().map(|partition| partition.index)))
}

/// By name up to version 12, then by id.
fn key(topic: &TopicProduceData) -> (&str, TopicId) {
    (topic.name.as_str(), topic.topic_id.into())
}

fn merged(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    let (mut merged, mut places) = (Vec::<TopicProduceData>::new(), BTreeMap::new());
    for topic in topics {
        let (name, id) = key(&topic);
        let at = *places.entry((name.to_owned(), id)).or_insert(merged.len());
        match merged.get_mut(at) {
            Some(earlier) => earlier.partition_data.extend(topic.partition_data),
            None => merged.push(topic),
        }
    }
    for topic in &mut merged {
        topic.partition_data = last_mentions(std::mem::take(&mut topic.partition_data), |partition| partition.index);
    }
    merged
}
