//! Topics that nobody created: those that a client asks for, and the topic of the groups' offsets.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use tokio::task::yield_now;

use super::create_topics::{MAX_PARTITIONS_PER_REQUEST, new_topic_id};
use super::ports::AdminServices;
use super::refusal::{Refusal, decide, json_bytes, runs};
use super::topic_view::topic_named;
use super::turns::{ELEMENTS_AT_ONCE, let_go};
use crate::coord::durable::offsets_topic;
use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::types::topic_name::{Collisions, OFFSETS_TOPIC, collide, is_internal, validate};
use crate::types::{TopicId, topic_name};

/// Most topics that one request creates by asking for them.
const MAX_TOPICS_PER_REQUEST: usize = 1000;

/// Creates those of the names that do not exist and may be created. Failures are left to the answer, which then does not find the
/// topic; clients ask again.
pub async fn create_missing(services: &AdminServices, asked: BTreeSet<String>) {
    let missing = missing_of(services, asked).await;
    let (internal, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| is_internal(name));
    if internal.iter().any(|name| name == OFFSETS_TOPIC)
        && let Err(refusal) = ensure_offsets_topic(services).await
    {
        tracing::warn!(topic = OFFSETS_TOPIC, error = ?refusal, "a topic could not be created");
    }
    let partitions = services.kafka.num_partitions;
    if partitions < 1 || missing.is_empty() || usize::try_from(partitions).unwrap_or(0) > MAX_PARTITIONS_PER_REQUEST {
        return;
    }
    let named = missing.into_iter().filter(|name| name != topic_name::METADATA_TOPIC);
    let drafts = named.map(|name| Draft {
        id: new_topic_id(&services.env),
        name,
        partitions,
        replication_factor: services.kafka.default_replication_factor,
    });
    for run in runs(drafts.collect(), |draft: &Draft| json_bytes(&draft.name) + 256) {
        let result = decide(&services.meta, move |image| (changes(image, &run), ())).await;
        if let Err(refusal) = result {
            tracing::warn!(error = ?refusal, "topics could not be created on demand");
        }
    }
}

/// The first of them that do not exist and may be created.
async fn missing_of(services: &AdminServices, asked: BTreeSet<String>) -> Vec<String> {
    let (mut missing, mut asked) = (Vec::new(), asked.into_iter());
    loop {
        let some: Vec<String> = asked.by_ref().take(ELEMENTS_AT_ONCE).collect();
        if some.is_empty() || missing.len() >= MAX_TOPICS_PER_REQUEST {
            // A quarter of a million may be left.
            let_go(asked.len(), asked);
            missing.truncate(MAX_TOPICS_PER_REQUEST);
            return missing;
        }
        missing.extend(services.meta.read(|image| {
            let absent = some.into_iter().filter(|name| !image.names.contains_key(name));
            absent.filter(|name| validate(name).is_ok()).collect::<Vec<_>>()
        }));
        yield_now().await;
    }
}

struct Draft {
    id: TopicId,
    name: String,
    partitions: i32,
    replication_factor: i16,
}

fn changes(image: &Image, drafts: &[Draft]) -> Vec<Change> {
    let collisions = Collisions::new(image.names.keys().map(String::as_str), drafts.len());
    let mut taken: Vec<&str> = Vec::new();
    let mut changes = Vec::new();
    for draft in drafts {
        let among_them = || taken.iter().any(|name| collide(name, &draft.name));
        if image.names.contains_key(&draft.name) || collisions.with(&draft.name).is_some() || among_them() {
            continue;
        }
        taken.push(&draft.name);
        changes.push(Change::CreateTopic {
            id: draft.id,
            name: draft.name.clone(),
            partitions: draft.partitions,
            replication_factor: draft.replication_factor,
            configs: BTreeMap::new(),
            internal: false,
        });
    }
    changes
}

/// The topic in which groups keep their offsets; creates it when it is not there.
pub async fn ensure_offsets_topic(services: &AdminServices) -> Result<TopicId, Refusal> {
    let known = services.meta.read(|image| topic_named(image, OFFSETS_TOPIC).map(|(id, _)| id));
    if let Some(id) = known {
        return Ok(id);
    }
    let new = new_topic_id(&services.env);
    let partitions = services.kafka.offsets_topic_num_partitions;
    if partitions < 1 {
        return Err(Refusal::new(ResponseError::InvalidPartitions, "offsets.topic.num.partitions is below 1"));
    }
    decide(&services.meta, move |image| match topic_named(image, OFFSETS_TOPIC) {
        Some((id, _)) => (Vec::new(), id),
        None => (vec![offsets_topic(new, partitions)], new),
    })
    .await
}
