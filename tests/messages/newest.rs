//! Writes the requests of versions that kafka-protocol does not write.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::{Encodable, Message};

/// Nothing has changed since the last version that the crate knows.
pub fn as_before<T: Encodable + Message>(message: &T, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out, version.min(T::VERSIONS.max)).expect("a generated message fits its version");
    out
}

pub fn offset_commit(request: &OffsetCommitRequest, version: i16) -> Vec<u8> {
    if version < 10 {
        return as_before(request, version);
    }
    let mut out = Vec::new();
    text(&mut out, Some(&request.group_id));
    out.extend(request.generation_id_or_member_epoch.to_be_bytes());
    text(&mut out, Some(&request.member_id));
    text(&mut out, request.group_instance_id.as_deref());
    array(&mut out, Some(&request.topics), |out, topic: &OffsetCommitRequestTopic| {
        out.extend(topic.topic_id.as_bytes());
        array(out, Some(&topic.partitions), |out, partition| {
            partition.encode(out, 9).expect("a generated message fits its version");
        });
        tags(out, &topic.unknown_tagged_fields);
    });
    tags(&mut out, &request.unknown_tagged_fields);
    out
}

pub fn offset_fetch(request: &OffsetFetchRequest, version: i16) -> Vec<u8> {
    if version < 10 {
        return as_before(request, version);
    }
    let mut out = Vec::new();
    array(&mut out, Some(&request.groups), |out, group: &OffsetFetchRequestGroup| {
        text(out, Some(&group.group_id));
        text(out, group.member_id.as_deref());
        out.extend(group.member_epoch.to_be_bytes());
        array(out, group.topics.as_ref(), |out, topic| {
            out.extend(topic.topic_id.as_bytes());
            array(out, Some(&topic.partition_indexes), |out, index| out.extend(index.to_be_bytes()));
            tags(out, &topic.unknown_tagged_fields);
        });
        tags(out, &group.unknown_tagged_fields);
    });
    out.push(u8::from(request.require_stable));
    tags(&mut out, &request.unknown_tagged_fields);
    out
}

fn text(out: &mut Vec<u8>, text: Option<&str>) {
    varint(out, text.map_or(0, |text| text.len() + 1));
    out.extend(text.unwrap_or_default().bytes());
}

fn array<T>(out: &mut Vec<u8>, values: Option<&Vec<T>>, mut element: impl FnMut(&mut Vec<u8>, &T)) {
    varint(out, values.map_or(0, |values| values.len() + 1));
    values.into_iter().flatten().for_each(|value| element(out, value));
}

fn tags(out: &mut Vec<u8>, tags: &BTreeMap<i32, Bytes>) {
    varint(out, tags.len());
    for (tag, value) in tags {
        varint(out, usize::try_from(*tag).expect("generated tags are positive"));
        varint(out, value.len());
        out.extend(value);
    }
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
