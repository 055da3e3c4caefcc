//! Topics as the data path needs them: by name and by id, with the rules for produced batches.
//!
//! A view is made anew when the metadata changes and shared until then, so that a request takes no lock on the image.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::KafkaSettings;
use crate::meta::Metadata;
use crate::meta::image::{Image, Topic};
use crate::types::topic_config::TopicConfig;
use crate::types::{LeaseEpoch, PartitionId, Revision, TopicId};
use crate::wire::validate::ProduceRules;

pub struct TopicView {
    pub id: TopicId,
    pub name: String,
    pub internal: bool,
    /// One per partition.
    pub rules: Vec<ProduceRules>,
    pub epochs: Vec<LeaseEpoch>,
}

impl TopicView {
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

/// The newest view.
pub struct Topics {
    meta: Arc<Metadata>,
    kafka: KafkaSettings,
    view: RwLock<Arc<TopicsView>>,
}

impl Topics {
    pub fn new(meta: Arc<Metadata>, kafka: KafkaSettings) -> Topics {
        Topics { meta, kafka, view: RwLock::default() }
    }

    pub fn view(&self) -> Arc<TopicsView> {
        let view = self.view.read().clone();
        if view.revision == *self.meta.subscribe().borrow() { view } else { self.refresh(&view) }
    }

    /// Makes a view of the image as it is now, keeping the parts that did not change.
    fn refresh(&self, old: &TopicsView) -> Arc<TopicsView> {
        let view = Arc::new(self.meta.read(|image| make(image, old, &self.kafka)));
        let mut newest = self.view.write();
        if newest.revision < view.revision {
            *newest = view.clone();
        }
        view
    }
}

fn make(image: &Image, _old: &TopicsView, kafka: &KafkaSettings) -> TopicsView {
    let mut view = TopicsView { revision: image.revision, ..TopicsView::default() };
    for (id, topic) in &image.topics {
        let made = Arc::new(view_of(*id, topic, image, kafka));
        view.by_name.insert(topic.name.clone(), made.clone());
        view.by_id.insert(*id, made);
    }
    view
}

fn view_of(id: TopicId, topic: &Topic, image: &Image, kafka: &KafkaSettings) -> TopicView {
    let config = TopicConfig::effective(&topic.configs, image, kafka);
    let rules = (0..topic.partitions.len()).map(|index| config.produce_rules(&format!("{}-{index}", topic.name)));
    TopicView {
        id,
        name: topic.name.clone(),
        internal: topic.internal,
        rules: rules.collect(),
        epochs: topic.partitions.iter().map(|partition| partition.epoch).collect(),
    }
}
