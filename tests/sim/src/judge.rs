//! Judges what clients saw, while they see it. Every rule has a name; a run fails on the first objection.
//!
//! The judge knows what was sent, acknowledged and shown, and nothing of the broker. Its model of a partition is what must be true for
//! ever: which value an offset holds, once that was acknowledged or shown to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Topic and partition index.
pub type Place = (String, i32);

/// One record that a client sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub place: Place,
    pub order: Order,
    /// Who sent it; where the order counts, over which connection.
    pub producer: String,
    pub index: u64,
    /// Id and epoch of an idempotent producer.
    pub epoch: Option<(i64, i16)>,
}

/// In which order the records of one producer have to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Any,
    /// Sent once, in order of their indexes: none is overtaken, some may be missing.
    Rising,
    /// Sent again until acknowledged: in order of their indexes, none missing.
    Whole,
}

#[derive(Default)]
struct Log {
    values: BTreeMap<i64, String>,
    offsets: BTreeMap<String, i64>,
    /// (when it was known, end offset): strictly rising in both.
    ends: Vec<(Duration, i64)>,
    /// Highest log start that a DeleteRecords asked for, and that one was told.
    delete_asked: i64,
    delete_acked: Vec<(Duration, i64)>,
    acked: BTreeSet<i64>,
    /// Values that have to be there, wherever.
    promised: BTreeSet<String>,
}

impl Log {
    /// The end that everybody has to know who asks after `moment`.
    fn end_at(&self, moment: Duration) -> i64 {
        let after = self.ends.partition_point(|(at, _)| *at <= moment);
        if after == 0 { 0 } else { self.ends[after - 1].1 }
    }
}

#[derive(Default)]
struct GroupPlace {
    /// Newest acknowledged commit: (when, offset), rising.
    acked: Vec<(Duration, i64)>,
    /// Commits whose answer never came: they may take effect at any later time.
    unknown: BTreeSet<i64>,
}

/// A group whose members commit only what is higher than what they found.
#[derive(Default)]
struct Team {
    /// (generation, partition) → member.
    owners: BTreeMap<(i32, i32), String>,
    /// Acknowledged commits by partition: (when, highest offset).
    acked: BTreeMap<i32, Vec<(Duration, i64)>>,
    /// Highest offset that anybody tried to commit.
    asked: BTreeMap<i32, i64>,
}

pub struct Judge {
    logs: BTreeMap<Place, Log>,
    sent: BTreeMap<String, Sent>,
    groups: BTreeMap<(String, Place), GroupPlace>,
    team: Team,
    /// Topics by id that somebody tried to delete, and when that was acknowledged.
    deleted_topics: BTreeMap<String, Option<Duration>>,
    topics: BTreeSet<String>,
    producer_ids: BTreeSet<i64>,
    /// A broker that lost its partitions to a second one of its node id may show its old state for so long.
    staleness: Duration,
    /// A broker may not have heard for so long that another one made or deleted a topic.
    hearsay: Duration,
    violations: Vec<String>,
}

impl Judge {
    pub fn new(staleness: Duration, hearsay: Duration) -> Judge {
        Judge {
            logs: BTreeMap::new(),
            sent: BTreeMap::new(),
            groups: BTreeMap::new(),
            team: Team::default(),
            deleted_topics: BTreeMap::new(),
            topics: BTreeSet::new(),
            producer_ids: BTreeSet::new(),
            staleness,
            hearsay,
            violations: Vec::new(),
        }
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub fn object(&mut self, rule: &str, what: impl std::fmt::Display) {
        self.violations.push(format!("{rule}: {what}"));
    }

    pub fn sent(&mut self, value: &str, sent: Sent) {
        self.sent.insert(value.to_owned(), sent);
    }

    /// The end offset that an answer to a request sent now has to reach.
    pub fn end(&self, place: &Place, now: Duration) -> i64 {
        self.logs.get(place).map_or(0, |log| log.end_at(now.saturating_sub(self.staleness)))
    }

    /// An acknowledged batch. `end_before`: [`Judge::end`] when it was first sent.
    pub fn acked(&mut self, place: &Place, base: i64, values: &[String], end_before: i64, now: Duration) {
        if base < 0 {
            self.object("impossible-offset", format_args!("{place:?}: {values:?} at {base}"));
            return;
        }
        if base < end_before {
            self.object("ack-in-the-past", format_args!("{place:?}: {values:?} at {base}, the end was {end_before}"));
        }
        for (at, value) in values.iter().enumerate() {
            let offset = base + at as i64;
            self.place_value(place, offset, value, "acknowledged");
            self.log(place).acked.insert(offset);
        }
        self.raise_end(place, base + values.len() as i64, now);
    }

    /// A batch that was acknowledged at `known` was sent once more and acknowledged again.
    pub fn acked_again(&mut self, place: &Place, base: i64, known: i64, values: &[String]) {
        // Who remembers that it was written, and not where, says so by -1.
        if base != known && base != -1 {
            self.object("retry-elsewhere", format_args!("{place:?}: {values:?} at {base}, it was at {known}"));
        }
    }

    /// The oldest unacknowledged batch of an idempotent producer was refused as out of order. Only a broker that was replaced
    /// and does not know it yet may say so.
    pub fn refused_for_good(&mut self, place: &Place, values: &[String]) {
        if self.staleness.is_zero() {
            self.object(
                "sequence-lost",
                format_args!("{place:?}: {values:?} is out of order, all before it were acknowledged"),
            );
        }
    }

    fn log(&mut self, place: &Place) -> &mut Log {
        self.logs.entry(place.clone()).or_default()
    }

    fn raise_end(&mut self, place: &Place, end: i64, now: Duration) {
        let log = self.log(place);
        if log.ends.last().is_none_or(|(_, last)| *last < end) {
            log.ends.push((now, end));
        }
    }

    fn place_value(&mut self, place: &Place, offset: i64, value: &str, how: &str) {
        match self.sent.get(value) {
            Some(sent) if sent.place == *place => {}
            _ => self.object("phantom", format_args!("{place:?} offset {offset}: {value:?} was never sent there")),
        }
        let log = self.logs.entry(place.clone()).or_default();
        let other_value = log.values.get(&offset).filter(|known| *known != value).cloned();
        let other_offset = log.offsets.get(value).copied().filter(|known| *known != offset);
        if let Some(known) = other_value {
            self.object(
                "two-records-at-one-offset",
                format_args!("{place:?} offset {offset}: {how} {value}, was {known}"),
            );
        } else if let Some(known) = other_offset {
            self.object("duplicate", format_args!("{place:?}: {value} {how} at {offset} and at {known}"));
        } else {
            log.values.insert(offset, value.to_owned());
            log.offsets.insert(value.to_owned(), offset);
        }
    }

    /// An end offset that was shown, by Fetch or ListOffsets. `asked` is when the request was sent.
    pub fn shown_end(&mut self, place: &Place, end: i64, asked: Duration, now: Duration) {
        let least = self.end(place, asked);
        if end < least {
            self.object("end-went-back", format_args!("{place:?}: {end} was shown, {least} was known before"));
        }
        self.raise_end(place, end, now);
    }

    /// Nobody writes transactions: all is stable.
    pub fn shown_stable(&mut self, place: &Place, end: i64, stable: i64) {
        if stable != end {
            self.object("stable-offset", format_args!("{place:?}: stable up to {stable}, the end is {end}"));
        }
    }

    /// The first record from the moment `wanted` on is at this offset, with this timestamp; -1: there is none. `known`: the end that the
    /// judge knew when the question was sent.
    pub fn shown_by_time(&mut self, place: &Place, wanted: i64, (offset, timestamp): (i64, i64), known: i64) {
        let log = self.log(place);
        let at = |value: &String| crate::kafka::timestamp_of(value);
        let start = log.delete_asked;
        let end = if offset < 0 { known } else { offset.min(known) };
        let earlier = log.values.range(start..end.max(start)).find(|(_, value)| at(value) >= Some(wanted));
        let earlier = earlier.map(|(offset, value)| format!("{value} at {offset} is earlier"));
        let other = log.values.get(&offset).filter(|value| at(value).is_some_and(|at| at != timestamp || at < wanted));
        let other = other.map(|value| format!("that is {value}"));
        let told = format!("{place:?} from {wanted} on: offset {offset}, timestamp {timestamp}");
        if let Some(wrong) = earlier.or(other) {
            self.object("wrong-by-time", format_args!("{told}: {wrong}"));
        }
    }

    pub fn shown_start(&mut self, place: &Place, start: i64, asked_after: i64) {
        let most = self.log(place).delete_asked;
        if start > most {
            self.object(
                "log-start-without-cause",
                format_args!("{place:?}: {start}, nobody asked for more than {most}"),
            );
        }
        if start < asked_after {
            self.object("delete-undone", format_args!("{place:?}: starts at {start}, {asked_after} was acknowledged"));
        }
    }

    /// A fetch sent at `asked` was told that `from`, where its reader had come to, is out of range.
    pub fn out_of_range(&mut self, place: &Place, from: i64, asked: Duration) {
        let end = self.end(place, asked);
        let deleted = self.log(place).delete_asked;
        if (deleted..=end).contains(&from) {
            self.object("lost-its-place", format_args!("{place:?}: {from} is out of range, the end was {end}"));
        }
    }

    /// Records from `from` on, as one fetch gave them.
    pub fn shown(&mut self, place: &Place, from: i64, end: i64, records: &[(i64, String)]) {
        let mut expected = from;
        for (offset, value) in records {
            if *offset != expected {
                self.object("gap", format_args!("{place:?}: offset {offset} where {expected} must follow"));
            }
            if *offset >= end {
                self.object("beyond-the-end", format_args!("{place:?}: offset {offset}, the end is {end}"));
            }
            expected = offset + 1;
            self.place_value(place, *offset, value, "shown");
        }
    }

    pub fn delete_asked(&mut self, place: &Place, offset: i64) {
        let log = self.log(place);
        log.delete_asked = log.delete_asked.max(offset);
    }

    pub fn delete_acked(&mut self, place: &Place, low: i64, now: Duration) {
        let log = self.log(place);
        if log.delete_acked.last().is_none_or(|(_, last)| *last < low) {
            log.delete_acked.push((now, low));
        }
    }

    /// The log start that whoever is asked from now on must know.
    pub fn deleted(&self, place: &Place, now: Duration) -> i64 {
        let moment = now.saturating_sub(self.staleness);
        let acked = self.logs.get(place).map_or(&[][..], |log| &log.delete_acked);
        acked.iter().rev().find(|(at, _)| *at <= moment).map_or(0, |(_, low)| *low)
    }

    /// What was sent without acknowledgement before something on the same connection that was acknowledged: it has to be there.
    pub fn promise(&mut self, place: &Place, values: Vec<String>) {
        self.log(place).promised.extend(values);
    }

    /// A member was given partitions in a generation.
    pub fn owns(&mut self, member: &str, generation: i32, partitions: &[i32]) {
        for partition in partitions {
            let owner = self.team.owners.entry((generation, *partition)).or_insert_with(|| member.to_owned()).clone();
            if owner != member {
                let what = format!("generation {generation}, partition {partition}: {owner} and {member}");
                self.object("owned-twice", what);
            }
        }
    }

    pub fn team_commits(&mut self, partition: i32, offset: i64) {
        let asked = self.team.asked.entry(partition).or_insert(offset);
        *asked = offset.max(*asked);
    }

    pub fn team_committed(&mut self, partition: i32, offset: i64, now: Duration) {
        let acked = self.team.acked.entry(partition).or_default();
        if acked.last().is_none_or(|(_, last)| *last < offset) {
            acked.push((now, offset));
        }
    }

    /// Where the team stands, as an answer to a question sent at `asked` says.
    pub fn team_shown(&mut self, partition: i32, offset: i64, asked: Duration) {
        let moment = asked.saturating_sub(self.staleness);
        let acked = self.team.acked.get(&partition).map_or(&[][..], |acked| acked);
        let least = acked.iter().rev().find(|(at, _)| *at <= moment).map_or(-1, |(_, offset)| *offset);
        let most = self.team.asked.get(&partition).copied().unwrap_or(-1);
        if offset < least {
            self.object("commit-went-back", format_args!("partition {partition}: {offset}, was {least}"));
        }
        if offset > most {
            self.object("commit-of-nobody", format_args!("partition {partition}: {offset}, most was {most}"));
        }
    }

    pub fn deletes_topic(&mut self, id: &str) {
        self.deleted_topics.entry(id.to_owned()).or_default();
    }

    pub fn topic_deleted(&mut self, id: &str, now: Duration) {
        self.deleted_topics.entry(id.to_owned()).or_default().get_or_insert(now);
    }

    /// An answer said that there is no topic of this id. Only a broker that has not heard of it may say so.
    pub fn topic_is_gone(&mut self, id: &str) {
        if self.hearsay.is_zero() && !self.deleted_topics.contains_key(id) {
            self.object("topic-gone-without-cause", id);
        }
    }

    /// A question sent at `asked` was answered as if the topic were there.
    pub fn topic_is_there(&mut self, id: &str, asked: Duration) {
        let moment = asked.saturating_sub(self.hearsay);
        if self.deleted_topics.get(id).is_some_and(|at| at.is_some_and(|at| at < moment)) {
            self.object("deleted-topic-is-back", id);
        }
    }

    pub fn topic_created(&mut self, name: &str) {
        self.topics.insert(name.to_owned());
    }

    /// Whether a Metadata answer named all topics.
    pub fn knows_topics(&self, names: &BTreeSet<String>) -> bool {
        self.topics.is_subset(names)
    }

    /// All topics that a Metadata answer named.
    pub fn shown_topics(&mut self, names: &BTreeSet<String>) {
        let lost: Vec<String> = self.topics.difference(names).cloned().collect();
        for name in lost {
            self.object("lost-topic", name);
        }
    }

    pub fn producer_id(&mut self, id: i64) {
        if !self.producer_ids.insert(id) {
            self.object("producer-id-given-twice", id);
        }
    }

    /// A commit is about to be sent: from now on it may take effect.
    pub fn commits(&mut self, group: &str, place: &Place, offset: i64) {
        self.groups.entry((group.to_owned(), place.clone())).or_default().unknown.insert(offset);
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, group: &str, place: &Place, offset: i64, now: Duration) {
        let group = self.groups.entry((group.to_owned(), place.clone())).or_default();
        group.unknown.remove(&offset);
        group.acked.push((now, offset));
    }

    pub fn shown_committed(&mut self, group: &str, place: &Place, offset: i64, asked: Duration) {
        let moment = asked.saturating_sub(self.staleness);
        let entry = self.groups.entry((group.to_owned(), place.clone())).or_default();
        // In force when the question was asked, or since then.
        let first = entry.acked.partition_point(|(at, _)| *at <= moment).saturating_sub(1);
        let in_force = entry.acked[first..].iter().any(|(_, acked)| *acked == offset);
        let none_yet = offset == -1 && entry.acked.first().is_none_or(|(at, _)| *at > moment);
        if !in_force && !none_yet && !entry.unknown.contains(&offset) {
            let newest = entry.acked.last().copied();
            self.object("group-offset-lost", format_args!("{group} {place:?}: {offset}, but the newest is {newest:?}"));
        }
    }

    /// The whole log of a partition, read at the end in fair weather from `start` up to `end`.
    pub fn final_log(&mut self, place: &Place, start: i64, end: i64, records: &[(i64, String)]) {
        let shown: BTreeMap<i64, &String> = records.iter().map(|(offset, value)| (*offset, value)).collect();
        let log = self.log(place);
        let missing: Vec<(i64, String, bool)> = log
            .values
            .range(start..end.max(start))
            .filter(|(offset, _)| !shown.contains_key(*offset))
            .map(|(offset, value)| (*offset, value.clone(), log.acked.contains(offset)))
            .collect();
        for (offset, value, acked) in missing {
            let rule = if acked { "lost-acknowledged-record" } else { "lost-record-that-was-shown" };
            self.object(rule, format_args!("{place:?} offset {offset}: {value}"));
        }
        let log = self.log(place);
        let broken: Vec<String> =
            log.promised.iter().filter(|value| start == 0 && !log.offsets.contains_key(*value)).cloned().collect();
        for value in broken {
            self.object("lost-without-a-word", format_args!("{place:?}: {value}"));
        }
        self.order(place, start);
        self.epochs(place);
    }

    /// Nothing of an older epoch of a producer stands behind something of a newer one.
    fn epochs(&mut self, place: &Place) {
        let mut newest: BTreeMap<i64, i16> = BTreeMap::new();
        let mut faults = Vec::new();
        for (offset, value) in &self.logs[place].values {
            let Some((id, epoch)) = self.sent.get(value).and_then(|sent| sent.epoch) else { continue };
            let known = newest.entry(id).or_insert(epoch);
            if epoch < *known {
                faults.push(format!("{place:?} offset {offset}: {value} of epoch {epoch} after epoch {known}"));
            }
            *known = epoch.max(*known);
        }
        faults.into_iter().for_each(|fault| self.object("stale-epoch-accepted", fault));
    }

    /// Records of one producer stand in the order that it was promised.
    fn order(&mut self, place: &Place, start: i64) {
        let log = &self.logs[place];
        let mut last: BTreeMap<&str, (i64, u64)> = BTreeMap::new();
        let mut faults = Vec::new();
        // What lies before the log's start was perhaps seen in part only: the last offset that follows one that nobody saw.
        let (mut next, mut unseen_before) = (0, 0);
        for (offset, value) in &log.values {
            if *offset != next {
                unseen_before = *offset;
            }
            next = offset + 1;
            let Some(sent) = self.sent.get(value).filter(|sent| sent.order != Order::Any) else { continue };
            let before = last.insert(&sent.producer, (*offset, sent.index));
            let all_seen = before.map_or(0, |(offset, _)| offset + 1) > unseen_before || unseen_before == 0;
            let before = before.map(|(_, index)| index);
            let follows = match (before, sent.order) {
                (Some(before), Order::Whole) if all_seen => sent.index == before + 1,
                (None, Order::Whole) => sent.index == 0 || start > 0,
                (before, _) => before.is_none_or(|before| before < sent.index),
            };
            if !follows {
                faults.push(format!("{place:?} offset {offset}: {value} after index {before:?} of its producer"));
            }
        }
        faults.into_iter().for_each(|fault| self.object("order", fault));
    }
}
