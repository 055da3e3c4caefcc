//! DeleteTopics (20), v1-6. v5 error message · v6 by name or id.
//!
//! Kafka's checks (`ControllerApis.deleteTopics`). Internal topics are refused: the coordinators live in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{Refusal, decide_within, runs, topic_name};
use super::turns::Turns;
use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::types::TopicId;

/// A topic of the request.
#[derive(Clone, Debug, PartialEq, Default)]
struct Asked {
    name: Option<String>,
    id: TopicId,
}

/// A row of the response: what is known of the topic, and what became of it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: Option<String>,
    id: TopicId,
    refusal: Option<Refusal>,
}

/// About the bytes of one deletion in an entry.
const CHANGE_BYTES: usize = 100;

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked = asked(cx.api_version, &request).await;
    if !services.kafka.delete_topic_enable {
        // v1 and v2 do not know the error.
        let error =
            if cx.api_version < 3 { ResponseError::InvalidRequest } else { ResponseError::TopicDeletionDisabled };
        let rows = asked.into_iter().map(|asked| refused(asked, Refusal::plain(error)));
        return response(cx.api_version, rows.collect()).await;
    }
    let duplicates = Arc::new(duplicates(&asked).await);
    let asked = once(asked).await;
    let mut rows = Vec::with_capacity(asked.len());
    for run in runs(asked, |_| CHANGE_BYTES) {
        let (copy, duplicates) = (run.clone(), duplicates.clone());
        match decide_within(&services.meta, request.timeout_ms, move |image| delete(image, &run, &duplicates)).await {
            Ok(decided) => rows.extend(decided),
            Err(refusal) => rows.extend(copy.into_iter().map(|asked| refused(asked, refusal.clone()))),
        }
    }
    response(cx.api_version, rows).await
}

async fn asked(version: i16, request: &DeleteTopicsRequest) -> Vec<Asked> {
    let (mut asked, mut turns) =
        (Vec::with_capacity(request.topic_names.len() + request.topics.len()), Turns::default());
    for name in request.topic_names.iter().filter(|_| version < 6) {
        turns.next().await;
        asked.push(Asked { name: Some(name.to_string()), id: TopicId::ZERO });
    }
    for topic in request.topics.iter().filter(|_| version >= 6) {
        turns.next().await;
        let name = topic.name.as_ref().map(|name| name.to_string());
        asked.push(Asked { name, id: topic.topic_id.into() });
    }
    asked
}

/// Names and ids that the request holds more than once.
#[derive(Default)]
struct Counts {
    names: BTreeMap<String, usize>,
    ids: BTreeMap<TopicId, usize>,
}

/// What stands in the request several times is answered once.
async fn once(asked: Vec<Asked>) -> Vec<Asked> {
    let (mut seen, mut turns) = (BTreeSet::new(), Turns::default());
    let mut first = Vec::with_capacity(asked.len());
    for asked in asked {
        turns.next().await;
        if seen.insert((asked.name.clone(), asked.id)) {
            first.push(asked);
        }
    }
    first
}

async fn duplicates(asked: &[Asked]) -> Counts {
    let (mut counts, mut turns) = (Counts::default(), Turns::default());
    for asked in asked {
        turns.next().await;
        match &asked.name {
            Some(_) if !asked.id.is_zero() => {}
            Some(name) => *counts.names.entry(name.clone()).or_default() += 1,
            None => *counts.ids.entry(asked.id).or_default() += 1,
        }
    }
    counts
}

fn delete(image: &Image, run: &[Asked], counts: &Counts) -> (Vec<Change>, Vec<Row>) {
    let mut changes = Vec::new();
    let mut rows = Vec::with_capacity(run.len());
    for asked in run.iter().filter(|asked| !is_named_too(image, asked, counts)) {
        rows.push(match delete_one(image, asked, counts) {
            Ok(row) if row.refusal.is_none() => {
                changes.push(Change::DeleteTopic { id: row.id });
                row
            }
            Ok(row) => row,
            Err(refusal) => refused(asked.clone(), refusal),
        });
    }
    (changes, rows)
}

/// A topic that the request also holds by its name has one row, the one of its name.
fn is_named_too(image: &Image, asked: &Asked, counts: &Counts) -> bool {
    let once = |count: Option<&usize>| count == Some(&1);
    asked.name.is_none()
        && once(counts.ids.get(&asked.id))
        && image.topics.get(&asked.id).is_some_and(|topic| once(counts.names.get(&topic.name)))
}

fn delete_one(image: &Image, asked: &Asked, counts: &Counts) -> Result<Row, Refusal> {
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidRequest, message);
    let id = match &asked.name {
        Some(_) if !asked.id.is_zero() => return Err(invalid("You may not specify both topic name and topic id.")),
        Some(name) if counts.names.get(name).is_some_and(|count| *count > 1) => {
            return Err(invalid("Duplicate topic name."));
        }
        Some(name) => *image.names.get(name).ok_or(Refusal::standard(ResponseError::UnknownTopicOrPartition))?,
        None if asked.id.is_zero() => return Err(invalid("Neither topic name nor id were specified.")),
        None if counts.ids.get(&asked.id).is_some_and(|count| *count > 1) => {
            return Err(invalid("Duplicate topic id."));
        }
        None => asked.id,
    };
    if asked.name.is_some() && counts.ids.contains_key(&id) {
        let refusal = invalid("The provided topic name maps to an ID that was already supplied.");
        return Ok(Row { name: asked.name.clone(), id, refusal: Some(refusal) });
    }
    let topic = image.topics.get(&id).ok_or(Refusal::standard(ResponseError::UnknownTopicId))?;
    if topic.internal {
        return Err(invalid(&format!("Topic {} is an internal topic and can't be deleted.", topic.name)));
    }
    Ok(Row { name: Some(topic.name.clone()), id, refusal: None })
}

fn refused(asked: Asked, refusal: Refusal) -> Row {
    Row { name: asked.name, id: asked.id, refusal: Some(refusal) }
}

async fn response(version: i16, rows: Vec<Row>) -> DeleteTopicsResponse {
    let (mut results, mut turns) = (Vec::with_capacity(rows.len()), Turns::default());
    for row in rows {
        turns.next().await;
        let name = row.name.as_deref().map(topic_name);
        // Only v6 can say "no name".
        let name = if version < 6 { Some(name.unwrap_or_default()) } else { name };
        let result = DeletableTopicResult::default().with_name(name).with_topic_id(row.id.into());
        results.push(match row.refusal {
            None => result.with_error_message(None),
            Some(refusal) => result.with_error_code(refusal.code()).with_error_message(refusal.text()),
        });
    }
    DeleteTopicsResponse::default().with_responses(results)
}

#[cfg(test)]
#[path = "delete_topics_tests.rs"]
mod tests;
