//! What `inspect` prints of runs.

use serde_json::{Value, json};

use super::render::{table, time};
use crate::segment::{FORMAT_VERSION, Manifest, PartitionCheckpoint, RunExtent, RunFooter};

fn rows(head: Vec<(&str, String)>) -> Vec<Vec<String>> {
    head.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn extent_row(object: u64, extent: &RunExtent) -> Vec<String> {
    vec![
        object.to_string(),
        extent.partition.topic.to_string(),
        extent.partition.index.to_string(),
        extent.epoch.to_string(),
        format!("{}..{}", extent.base_offset, extent.next_offset),
        extent.position.to_string(),
        extent.length.to_string(),
        time(extent.max_timestamp),
    ]
}

const EXTENT_COLUMNS: &[&str] =
    &["object", "topic", "partition", "epoch", "offsets", "position", "bytes", "max timestamp"];

/// An object of a run, which has so many batches.
pub fn object(label: &str, batches: usize, footer: &RunFooter) -> String {
    let head = rows(vec![
        ("object", label.to_owned()),
        ("kind", format!("object of a run, format {FORMAT_VERSION}")),
        ("run", footer.run.to_string()),
        ("number", footer.number.to_string()),
        ("nonce", format!("{:016x}", footer.nonce)),
        ("created", time(footer.created_ms)),
        ("body", format!("{} bytes in {batches} batches", footer.body_length())),
    ]);
    let mut extents = vec![heading(EXTENT_COLUMNS)];
    extents.extend(footer.extents.iter().map(|extent| extent_row(footer.number, extent)));
    format!("{}\n{}", table(&head), table(&extents))
}

/// A manifest: its objects' extents and its checkpoint.
pub fn manifest(label: &str, manifest: &Manifest) -> String {
    let bytes: u64 = manifest.objects.iter().map(RunFooter::body_length).sum();
    let of = if manifest.whole { "all partitions of the session" } else { "those with records in the window" };
    let head = rows(vec![
        ("object", label.to_owned()),
        ("kind", format!("manifest, format {FORMAT_VERSION}")),
        ("run", manifest.run.to_string()),
        ("nonce", format!("{:016x}", manifest.nonce)),
        ("created", time(manifest.created_ms)),
        ("session", manifest.session.to_string()),
        ("window", format!("segments {} to {}", manifest.from, manifest.to - 1)),
        ("holds", format!("{bytes} bytes of batches in {} objects", manifest.objects.len())),
        ("checkpoint", format!("{} partitions: {of}", manifest.checkpoint.len())),
    ]);
    let mut extents = vec![heading(EXTENT_COLUMNS)];
    extents.extend(manifest.extents().map(|(number, _, extent)| extent_row(number, extent)));
    let mut states = vec![heading(&["topic", "partition", "next offset", "log start", "producers", "epochs"])];
    let mut producers =
        vec![heading(&["topic", "partition", "producer", "epoch", "last batch", "sequences", "offsets"])];
    for state in &manifest.checkpoint {
        states.push(state_row(state));
        producers.extend(producer_rows(state));
    }
    let mut text = format!("{}\n{}\n{}", table(&head), table(&extents), table(&states));
    if producers.len() > 1 {
        text = format!("{text}\n{}", table(&producers));
    }
    text
}

fn state_row(state: &PartitionCheckpoint) -> Vec<String> {
    let epochs: Vec<String> = state.epochs.iter().map(|(epoch, start)| format!("{epoch} from {start}")).collect();
    vec![
        state.partition.topic.to_string(),
        state.partition.index.to_string(),
        state.next_offset.to_string(),
        state.log_start.to_string(),
        state.producers.len().to_string(),
        // The last column: only the last one is not padded to the longest.
        if epochs.is_empty() { "-".to_owned() } else { epochs.join(", ") },
    ]
}

fn producer_rows(state: &PartitionCheckpoint) -> impl Iterator<Item = Vec<String>> {
    state.producers.iter().map(|producer| {
        let of = |pick: fn(&crate::segment::BatchCheckpoint) -> String| {
            producer.batches.iter().map(pick).collect::<Vec<String>>().join(" ")
        };
        vec![
            state.partition.topic.to_string(),
            state.partition.index.to_string(),
            producer.id.to_string(),
            producer.epoch.to_string(),
            time(producer.last_written_ms),
            of(|batch| format!("{}..={}", batch.first_sequence, batch.last_sequence)),
            of(|batch| format!("{}..={}", batch.base_offset, batch.last_offset)),
        ]
    })
}

fn extent_json(extent: &RunExtent) -> Value {
    json!({
        "topic": extent.partition.topic,
        "partition": extent.partition.index,
        "epoch": extent.epoch,
        "base_offset": extent.base_offset,
        "next_offset": extent.next_offset,
        "position": extent.position,
        "length": extent.length,
        "max_timestamp": extent.max_timestamp,
    })
}

fn footer_json(footer: &RunFooter) -> Value {
    json!({
        "number": footer.number,
        "nonce": format!("{:016x}", footer.nonce),
        "created_ms": footer.created_ms,
        "body_length": footer.body_length(),
        "extents": footer.extents.iter().map(extent_json).collect::<Vec<_>>(),
    })
}

/// As [`object`], as JSON.
pub fn object_json(label: &str, footer: &RunFooter) -> String {
    let mut value = footer_json(footer);
    value["object"] = json!(label);
    value["kind"] = json!("run");
    value["format"] = json!(FORMAT_VERSION);
    value["run"] = json!(footer.run);
    format!("{value:#}\n")
}

/// As [`manifest`], as JSON.
pub fn manifest_json(label: &str, manifest: &Manifest) -> String {
    let batch = |batch: &crate::segment::BatchCheckpoint| {
        json!({
            "first_sequence": batch.first_sequence,
            "last_sequence": batch.last_sequence,
            "base_offset": batch.base_offset,
            "last_offset": batch.last_offset,
            "max_timestamp": batch.max_timestamp,
        })
    };
    let producer = |producer: &crate::segment::ProducerCheckpoint| {
        json!({
            "id": producer.id,
            "epoch": producer.epoch,
            "last_written_ms": producer.last_written_ms,
            "batches": producer.batches.iter().map(batch).collect::<Vec<_>>(),
        })
    };
    let state = |state: &PartitionCheckpoint| {
        json!({
            "topic": state.partition.topic,
            "partition": state.partition.index,
            "next_offset": state.next_offset,
            "log_start": state.log_start,
            "epochs": state.epochs,
            "producers": state.producers.iter().map(producer).collect::<Vec<_>>(),
        })
    };
    let value = json!({
        "object": label,
        "kind": "manifest",
        "format": FORMAT_VERSION,
        "run": manifest.run,
        "nonce": format!("{:016x}", manifest.nonce),
        "created_ms": manifest.created_ms,
        "session": manifest.session,
        "from": manifest.from,
        "to": manifest.to,
        "whole": manifest.whole,
        "objects": manifest.objects.iter().map(footer_json).collect::<Vec<_>>(),
        "checkpoint": manifest.checkpoint.iter().map(state).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}
