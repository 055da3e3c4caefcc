//! Text for people: tables, times, a segment, a fence.

use serde_json::{Value, json};

use crate::segment::{BatchMeta, ExtentMeta, Fence, SegmentTail};
use crate::types::TimestampMs;

/// Columns as wide as they must be; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `2026-11-21T09:30:00.123Z`; what is no time of the years 0 to 9999 stays a number.
pub fn time(at: TimestampMs) -> String {
    let (days, in_day) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
    // Days from civil, backwards: years begin in March, so that the leap day is the last (Howard Hinnant's date algorithms).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) || at == -1 {
        return at.to_string();
    }
    let (hours, minutes) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (seconds, ms) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Names of the compression codecs, by the lowest three bits of a batch's attributes.
fn codec(object: &[u8], position: u64) -> &'static str {
    const ATTRIBUTES_LOW_AT: usize = 22;
    let at = usize::try_from(position).unwrap_or(usize::MAX).saturating_add(ATTRIBUTES_LOW_AT);
    match object.get(at).map(|attributes| attributes & 7) {
        Some(0) => "none",
        Some(1) => "gzip",
        Some(2) => "snappy",
        Some(3) => "lz4",
        Some(4) => "zstd",
        _ => "?",
    }
}

fn flags(batch: &BatchMeta) -> String {
    let mut flags = Vec::new();
    if batch.transactional {
        flags.push("transactional".to_owned());
    }
    if batch.log_append_time {
        flags.push("log-append-time".to_owned());
    }
    if let Some(marker) = batch.control {
        let name = match marker.marker_type {
            0 => "abort".to_owned(),
            1 => "commit".to_owned(),
            other => format!("control {other}"),
        };
        flags.push(format!("{name} by coordinator epoch {}", marker.coordinator_epoch));
    }
    flags.join(", ")
}

fn with_positions(extent: &ExtentMeta) -> impl Iterator<Item = (u64, &BatchMeta)> {
    extent.batches.iter().scan(extent.position, |at, batch| {
        let position = *at;
        *at += u64::from(batch.length);
        Some((position, batch))
    })
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A segment whose whole bytes are `object`, as tables.
pub fn segment(label: &str, object: &[u8], tail: &SegmentTail) -> String {
    let footer = &tail.footer;
    let repeated = match (tail.repeated.first(), tail.repeated.last()) {
        (Some(first), Some(last)) => format!("{} footers, of {} to {}", tail.repeated.len(), first.number, last.number),
        _ => "no footers".to_owned(),
    };
    let head = [
        ("object", label.to_owned()),
        ("kind", format!("segment, format {}", crate::segment::FORMAT_VERSION)),
        ("session", footer.session.to_string()),
        ("number", footer.number.to_string()),
        ("nonce", format!("{:016x}", footer.nonce)),
        ("created", time(footer.created_ms)),
        ("committed", format!("segments below {}", footer.committed)),
        ("size", format!("{} bytes, of which {} are batches", object.len(), footer.body_length())),
        ("repeats", repeated),
    ];
    let head: Vec<Vec<String>> = head.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let mut extents =
        vec![heading(&["extent", "topic", "partition", "epoch", "offsets", "position", "bytes", "batches"])];
    let mut batches = vec![heading(&[
        "extent",
        "offsets",
        "records",
        "position",
        "bytes",
        "codec",
        "max timestamp",
        "producer",
        "epoch",
        "sequence",
        "flags",
    ])];
    for (index, extent) in footer.extents.iter().enumerate() {
        extents.push(vec![
            index.to_string(),
            extent.partition.topic.to_string(),
            extent.partition.index.to_string(),
            extent.epoch.to_string(),
            format!("{}..{}", extent.base_offset, extent.next_offset),
            extent.position.to_string(),
            extent.length.to_string(),
            extent.batches.len().to_string(),
        ]);
        for (position, batch) in with_positions(extent) {
            let next = batch.base_offset + i64::from(batch.last_offset_delta) + 1;
            let producer = |value: String| if batch.producer_id < 0 { "-".to_owned() } else { value };
            batches.push(vec![
                index.to_string(),
                format!("{}..{next}", batch.base_offset),
                batch.record_count.to_string(),
                position.to_string(),
                batch.length.to_string(),
                codec(object, position).to_owned(),
                time(batch.max_timestamp),
                producer(batch.producer_id.to_string()),
                producer(batch.producer_epoch.to_string()),
                producer(batch.base_sequence.to_string()),
                flags(batch),
            ]);
        }
    }
    let mut text = table(&head);
    if !footer.extents.is_empty() {
        text = format!("{text}\n{}\n{}", table(&extents), table(&batches));
    }
    text
}

/// The same as JSON.
pub fn segment_json(label: &str, object: &[u8], tail: &SegmentTail) -> Value {
    let footer = &tail.footer;
    let batch = |(position, batch): (u64, &BatchMeta)| {
        json!({
            "base_offset": batch.base_offset,
            "last_offset_delta": batch.last_offset_delta,
            "record_count": batch.record_count,
            "position": position,
            "length": batch.length,
            "codec": codec(object, position),
            "max_timestamp": batch.max_timestamp,
            "producer_id": batch.producer_id,
            "producer_epoch": batch.producer_epoch,
            "base_sequence": batch.base_sequence,
            "transactional": batch.transactional,
            "log_append_time": batch.log_append_time,
            "control": batch.control.map(|marker| json!({
                "marker_type": marker.marker_type,
                "coordinator_epoch": marker.coordinator_epoch,
            })),
        })
    };
    let extents: Vec<Value> = footer
        .extents
        .iter()
        .map(|extent| {
            json!({
                "topic": extent.partition.topic,
                "partition": extent.partition.index,
                "epoch": extent.epoch,
                "base_offset": extent.base_offset,
                "next_offset": extent.next_offset,
                "position": extent.position,
                "length": extent.length,
                "max_timestamp": extent.max_timestamp,
                "batches": with_positions(extent).map(batch).collect::<Vec<Value>>(),
            })
        })
        .collect();
    json!({
        "object": label,
        "kind": "segment",
        "format": crate::segment::FORMAT_VERSION,
        "session": footer.session,
        "number": footer.number,
        "nonce": format!("{:016x}", footer.nonce),
        "created_ms": footer.created_ms,
        "committed": footer.committed,
        "size": object.len(),
        "body_length": footer.body_length(),
        "repeated": tail.repeated.iter().map(|footer| footer.number).collect::<Vec<u64>>(),
        "extents": extents,
    })
}

/// A fence.
pub fn fence(label: &str, fence: &Fence) -> String {
    let rows = [
        ("object", label.to_owned()),
        ("kind", format!("fence, format {}", crate::segment::FORMAT_VERSION)),
        ("session", fence.session.to_string()),
        ("number", format!("{}, which the session can't use any more", fence.number)),
        ("nonce", format!("{:016x}", fence.nonce)),
        ("created", time(fence.created_ms)),
        ("fenced by", fence.fencer.map_or_else(|| "unnamed".to_owned(), |fencer| fencer.to_string())),
    ];
    table(&rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>())
}

pub fn fence_json(label: &str, fence: &Fence) -> Value {
    json!({
        "object": label,
        "kind": "fence",
        "format": crate::segment::FORMAT_VERSION,
        "session": fence.session,
        "number": fence.number,
        "nonce": format!("{:016x}", fence.nonce),
        "created_ms": fence.created_ms,
        "fencer": fence.fencer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_790_000_000_123, "2026-09-21T14:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (-2, "1969-12-31T23:59:59.998Z"),
            (-1, "-1"),
            (i64::MAX, "9223372036854775807"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            assert_eq!(time(at), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a    bb\nccc\n");
    }
}
