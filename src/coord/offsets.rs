//! The committed offsets of one group: where it stands, until when that is kept.

use std::collections::BTreeMap;

use super::message::Now;
use super::records::{CommittedOffset, Record};
use crate::types::{TimestampMs, TopicId};

/// Offsets of one group by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, CommittedOffset>>,
}

/// From when the retention of a group's offsets counts (KIP-211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionBase {
    /// Each offset's commit.
    Commit,
    /// The moment the group lost its last member; each offset's commit where that is not known.
    EmptySince(Option<TimestampMs>),
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    /// By topic name, then partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }

    pub fn set(&mut self, topic: &str, partition: i32, offset: CommittedOffset) {
        match self.topics.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, offset);
            }
            None => {
                self.topics.insert(topic.to_owned(), BTreeMap::from([(partition, offset)]));
            }
        }
    }

    pub fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let removed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        removed
    }

    /// Removes the offsets that `goes` picks and appends their tombstones.
    pub fn remove_where(
        &mut self,
        group: &str,
        records: &mut Vec<Record>,
        goes: impl Fn(&str, i32, &CommittedOffset) -> bool,
    ) {
        self.topics.retain(|topic, partitions| {
            partitions.retain(|partition, offset| {
                let gone = goes(topic, *partition, offset);
                if gone {
                    records.push(tombstone(group, topic, *partition));
                }
                !gone
            });
            !partitions.is_empty()
        });
    }

    /// Whether an offset of a deleted topic is meant: another topic may bear the name today.
    pub fn belongs_to(offset: &CommittedOffset, topic_id: TopicId) -> bool {
        offset.topic_id.is_zero() || topic_id.is_zero() || offset.topic_id == topic_id
    }
}

pub fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record::Offset { group: group.to_owned(), topic: topic.to_owned(), partition, value: None }
}

/// Whether the retention of an offset is over. An expiry of its own, given at the commit, stands above the broker's retention.
pub fn is_expired(offset: &CommittedOffset, base: RetentionBase, now: Now, retention_ms: i64) -> bool {
    if let Some(expire_ms) = offset.expire_ms {
        return now.wall_ms >= expire_ms;
    }
    let base_ms = match base {
        RetentionBase::Commit => offset.commit_ms,
        RetentionBase::EmptySince(since) => since.unwrap_or(offset.commit_ms),
    };
    now.wall_ms.saturating_sub(base_ms) >= retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_ends_to_the_millisecond() {
        // (expiry of its own, base, retention, the first moment at which it is over); committed at 1000.
        let table = [
            (None, RetentionBase::Commit, 500, 1500),
            (None, RetentionBase::Commit, 0, 1000),
            (None, RetentionBase::EmptySince(Some(4000)), 500, 4500),
            (None, RetentionBase::EmptySince(None), 500, 1500),
            (Some(1200), RetentionBase::Commit, 500, 1200),
            (Some(9000), RetentionBase::EmptySince(Some(4000)), 500, 9000),
        ];
        for (expire_ms, base, retention_ms, over_ms) in table {
            let offset = CommittedOffset {
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
                commit_ms: 1000,
                expire_ms,
                topic_id: TopicId(0),
            };
            let at = |wall_ms| is_expired(&offset, base, Now { wall_ms, steady_ms: 0 }, retention_ms);
            assert_eq!([at(over_ms - 1), at(over_ms), at(i64::MAX)], [false, true, true], "{expire_ms:?}, {base:?}");
        }
    }
}
