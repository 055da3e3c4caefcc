//! Topics as the data path needs them: by name and by id, with the rules for produced batches.
//!
//! A view is made anew when the metadata changes and shared until then, so that a request takes no lock on the image.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::config_view::Layers;
use super::context::TopicLookup;
use crate::meta::Metadata;
use crate::meta::image::{Configs, Image, Topic};
use crate::types::topic_config::{self, TopicCompression, TopicConfig};
use crate::types::{LeaseEpoch, NodeId, PartitionId, Revision, TopicId};
use crate::wire::codec::Codec;
use crate::wire::validate::{CompressionRule, ProduceRules, TimestampType};

pub struct TopicView {
    pub id: TopicId,
    pub name: String,
    pub internal: bool,
    /// One per partition.
    pub rules: Vec<ProduceRules>,
    pub epochs: Vec<LeaseEpoch>,
}

impl TopicView {
    fn count(&self) -> i32 {
        i32::try_from(self.rules.len()).unwrap_or(i32::MAX)
    }

    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        let known = usize::try_from(index).is_ok_and(|index| index < self.rules.len());
        known.then_some(PartitionId { topic: self.id, index })
    }
}

#[derive(Default)]
pub struct TopicsView {
    revision: Revision,
    by_name: HashMap<String, Arc<TopicView>>,
    by_id: HashMap<TopicId, Arc<TopicView>>,
}

impl TopicsView {
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicView>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicView>> {
        self.by_id.get(&id)
    }
}

impl TopicLookup for TopicsView {
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
        self.by_name.get(name).map(|topic| (topic.id, topic.count()))
    }

    fn by_id(&self, id: TopicId) -> Option<(String, i32)> {
        self.by_id.get(&id).map(|topic| (topic.name.clone(), topic.count()))
    }
}

/// The newest view.
pub struct Topics {
    meta: Arc<Metadata>,
    /// Broker configs given at start.
    at_start: Configs,
    node_id: NodeId,
    view: RwLock<Arc<TopicsView>>,
}

impl Topics {
    pub fn new(meta: Arc<Metadata>, at_start: Configs, node_id: NodeId) -> Topics {
        Topics { meta, at_start, node_id, view: RwLock::default() }
    }

    pub fn view(&self) -> Arc<TopicsView> {
        let view = self.view.read().clone();
        if view.revision == *self.meta.subscribe().borrow() { view } else { self.refresh() }
    }

    /// Makes a view of the image as it is now; requests that come meanwhile wait for it instead of making their own.
    fn refresh(&self) -> Arc<TopicsView> {
        let mut newest = self.view.write();
        if newest.revision < *self.meta.subscribe().borrow() {
            *newest = Arc::new(self.meta.read(|image| make(image, &self.at_start, self.node_id)));
        }
        newest.clone()
    }
}

fn make(image: &Image, at_start: &Configs, node_id: NodeId) -> TopicsView {
    let broker = Layers::of(image, at_start, node_id).effective();
    let mut view = TopicsView { revision: image.revision, ..TopicsView::default() };
    for (id, topic) in &image.topics {
        let made = Arc::new(view_of(*id, topic, &broker));
        view.by_name.insert(topic.name.clone(), made.clone());
        view.by_id.insert(*id, made);
    }
    view
}

fn view_of(id: TopicId, topic: &Topic, broker: &Configs) -> TopicView {
    let config = TopicConfig::from(&topic.configs, broker);
    let rules = (0..topic.partitions.len()).map(|index| produce_rules(&config, format!("{}-{index}", topic.name)));
    TopicView {
        id,
        name: topic.name.clone(),
        internal: topic.internal,
        rules: rules.collect(),
        epochs: topic.partitions.iter().map(|partition| partition.epoch).collect(),
    }
}

/// What a topic's config asks of produced batches.
fn produce_rules(config: &TopicConfig, partition: String) -> ProduceRules {
    let mut rules = ProduceRules::new(partition);
    rules.max_message_bytes = usize::try_from(config.max_message_bytes).unwrap_or(0);
    rules.segment_bytes = usize::try_from(config.segment_bytes).unwrap_or(0);
    rules.timestamp_type = match config.timestamp_type {
        topic_config::TimestampType::CreateTime => TimestampType::CreateTime,
        topic_config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
    };
    rules.timestamp_before_max_ms = config.timestamp_before_max_ms;
    rules.timestamp_after_max_ms = config.timestamp_after_max_ms;
    rules.compacted = config.cleanup_compact;
    rules.compression = match config.compression {
        TopicCompression::Producer => CompressionRule::Producer,
        TopicCompression::Uncompressed => CompressionRule::Codec(Codec::None, None),
        TopicCompression::Gzip(level) => CompressionRule::Codec(Codec::Gzip, Some(level)),
        TopicCompression::Snappy => CompressionRule::Codec(Codec::Snappy, None),
        TopicCompression::Lz4(level) => CompressionRule::Codec(Codec::Lz4, Some(level)),
        TopicCompression::Zstd(level) => CompressionRule::Codec(Codec::Zstd, Some(level)),
    };
    rules
}
