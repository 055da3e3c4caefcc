//! The judge's own tests: a history without fault, and for each anomaly one that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::judge::{Judge, Order, Place, Sent};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn place() -> Place {
    ("t".to_owned(), 0)
}

fn judge() -> Judge {
    Judge::new(Duration::ZERO, Duration::ZERO)
}

/// Values of one producer, `name/index`, sent in order.
fn send(judge: &mut Judge, producer: &str, order: Order, count: u64) -> Vec<String> {
    let values: Vec<String> = (0..count).map(|index| format!("{producer}/{index}@{}", index * 1000)).collect();
    for (index, value) in (0..).zip(&values) {
        let epoch = (order == Order::Whole).then_some((7, 0));
        judge.sent(value, Sent { place: place(), order, producer: producer.to_owned(), index, epoch });
    }
    values
}

/// Three records, sent and acknowledged one after the other at 1, 2 and 3 seconds.
fn three(judge: &mut Judge) -> Vec<String> {
    let values = send(judge, "p", Order::Whole, 3);
    for (offset, value) in (0..).zip(&values) {
        let end = judge.end(&place(), at(offset));
        judge.acked(&place(), offset as i64, std::slice::from_ref(value), end, at(offset + 1));
    }
    values
}

fn shown(values: &[String]) -> Vec<(i64, String)> {
    (0..).zip(values.iter().cloned()).collect()
}

#[test]
fn a_history_without_fault_is_let_pass() {
    let mut judge = judge();
    let values = three(&mut judge);
    let log = shown(&values);
    judge.shown_end(&place(), 3, at(4), at(5));
    judge.shown_stable(&place(), 3, 3);
    judge.shown(&place(), 0, 3, &log);
    judge.shown(&place(), 1, 3, &log[1..]);
    judge.acked_again(&place(), 1, 1, &values[1..2]);
    judge.acked_again(&place(), -1, 1, &values[1..2]);
    let epoch = 1_700_000_000_000;
    judge.shown_by_time(&place(), epoch + 500, (1, epoch + 1000), 3);
    judge.shown_by_time(&place(), epoch + 5000, (-1, -1), 3);
    judge.delete_asked(&place(), 1);
    judge.delete_acked(&place(), 1, at(6));
    judge.shown_start(&place(), 1, judge.deleted(&place(), at(7)));
    judge.out_of_range(&place(), 0, at(7));
    judge.out_of_range(&place(), 4, at(7));
    judge.commits("g", &place(), 2);
    judge.committed("g", &place(), 2, at(6));
    judge.shown_committed("g", &place(), 2, at(7));
    judge.owns("m", 1, &[0, 1]);
    judge.owns("n", 2, &[0]);
    judge.owns("m", 2, &[1]);
    judge.team_commits(0, 4);
    judge.team_committed(0, 4, at(6));
    judge.team_shown(0, 4, at(7));
    judge.topic_created("t");
    judge.shown_topics(&BTreeSet::from(["t".to_owned(), "other".to_owned()]));
    judge.deletes_topic("id");
    judge.topic_is_there("id", at(7));
    judge.topic_deleted("id", at(8));
    judge.topic_is_gone("id");
    judge.producer_id(1);
    judge.producer_id(2);
    judge.final_log(&place(), 1, 3, &log[1..]);
    assert_eq!(judge.violations(), [] as [String; 0]);
}

type History = fn(&mut Judge);

/// The anomaly (as PITFALLS of logs of this kind name it, or in our own words), the rule that must find it, a history that has it.
const BAD: &[(&str, &str, History)] = &[
    ("lost write: acknowledged, not there in the end", "lost-acknowledged-record", |judge| {
        let values = three(judge);
        let log = shown(&values);
        judge.final_log(&place(), 0, 3, &[log[0].clone(), log[2].clone()]);
    }),
    ("lost write: acknowledged, the log ends before it", "end-went-back", |judge| {
        let values = three(judge);
        judge.shown_end(&place(), 2, at(4), at(5));
        judge.final_log(&place(), 0, 2, &shown(&values)[..2]);
    }),
    ("unseen: shown once, not there in the end", "lost-record-that-was-shown", |judge| {
        let values = send(judge, "p", Order::Whole, 2);
        judge.shown(&place(), 0, 2, &shown(&values));
        judge.final_log(&place(), 0, 2, &shown(&values)[..1]);
    }),
    ("lost without an answer: acks=0 before something acknowledged", "lost-without-a-word", |judge| {
        let values = send(judge, "p", Order::Rising, 2);
        judge.acked(&place(), 0, &values[1..], 0, at(1));
        judge.promise(&place(), values[..1].to_vec());
        judge.final_log(&place(), 0, 1, &[(0, values[1].clone())]);
    }),
    ("duplicate: one value at two offsets", "duplicate", |judge| {
        let values = three(judge);
        judge.shown(&place(), 3, 4, &[(3, values[1].clone())]);
    }),
    ("inconsistent offsets: two values at one offset", "two-records-at-one-offset", |judge| {
        three(judge);
        let other = send(judge, "q", Order::Any, 1);
        judge.shown(&place(), 1, 3, &[(1, other[0].clone())]);
    }),
    ("inconsistent offsets: an offset is acknowledged twice", "two-records-at-one-offset", |judge| {
        three(judge);
        let other = send(judge, "q", Order::Any, 1);
        judge.acked(&place(), 2, &other, 0, at(9));
    }),
    ("inconsistent offsets: reused after the log was cut", "two-records-at-one-offset", |judge| {
        three(judge);
        judge.delete_asked(&place(), 3);
        judge.delete_acked(&place(), 3, at(4));
        let other = send(judge, "q", Order::Any, 1);
        judge.acked(&place(), 0, &other, 0, at(9));
    }),
    ("poll skip: a poll leaves records out", "gap", |judge| {
        let log = shown(&three(judge));
        judge.shown(&place(), 0, 3, &[log[0].clone(), log[2].clone()]);
    }),
    ("poll skip: a poll begins behind its place", "gap", |judge| {
        let log = shown(&three(judge));
        judge.shown(&place(), 0, 3, &log[1..]);
    }),
    ("non-monotonic poll: records of a poll go back", "gap", |judge| {
        let log = shown(&three(judge));
        judge.shown(&place(), 0, 3, &[log[1].clone(), log[0].clone()]);
    }),
    ("non-monotonic poll: a poll goes back before its place", "gap", |judge| {
        let log = shown(&three(judge));
        judge.shown(&place(), 2, 3, &log);
    }),
    ("non-monotonic send: an idempotent producer's records change places", "order", |judge| {
        let values = send(judge, "p", Order::Whole, 2);
        let log = [(0, values[1].clone()), (1, values[0].clone())];
        judge.shown(&place(), 0, 2, &log);
        judge.final_log(&place(), 0, 2, &log);
    }),
    ("send skip: an idempotent producer's record is missing between others", "order", |judge| {
        let values = send(judge, "p", Order::Whole, 3);
        let log = [(0, values[0].clone()), (1, values[2].clone())];
        judge.shown(&place(), 0, 2, &log);
        judge.final_log(&place(), 0, 2, &log);
    }),
    ("non-monotonic send: without idempotence, over one connection", "order", |judge| {
        let values = send(judge, "p", Order::Rising, 2);
        let log = [(0, values[1].clone()), (1, values[0].clone())];
        judge.shown(&place(), 0, 2, &log);
        judge.final_log(&place(), 0, 2, &log);
    }),
    ("phantom: a record that nobody sent", "phantom", |judge| {
        judge.shown(&place(), 0, 1, &[(0, "x".to_owned())]);
    }),
    ("phantom: a record of another partition", "phantom", |judge| {
        let values = three(judge);
        judge.shown(&("t".to_owned(), 1), 0, 1, &[(0, values[0].clone())]);
    }),
    ("impossible offset: an acknowledgement without one", "impossible-offset", |judge| {
        let values = send(judge, "p", Order::Whole, 1);
        judge.acked(&place(), -1, &values, 0, at(1));
    }),
    ("real time: acknowledged before what was known when it was sent", "ack-in-the-past", |judge| {
        three(judge);
        let late = send(judge, "q", Order::Any, 1);
        let end = judge.end(&place(), at(9));
        judge.acked(&place(), 2, &late, end, at(10));
    }),
    ("high watermark goes back", "end-went-back", |judge| {
        three(judge);
        judge.shown_end(&place(), 2, at(9), at(10));
    }),
    ("read after acknowledgement at another broker", "end-went-back", |judge| {
        three(judge);
        judge.shown_end(&place(), 0, at(9), at(10));
    }),
    ("read beyond what is durable: shown, gone later", "end-went-back", |judge| {
        three(judge);
        judge.shown_end(&place(), 5, at(9), at(10));
        judge.shown_end(&place(), 3, at(11), at(12));
    }),
    ("a record beyond the high watermark", "beyond-the-end", |judge| {
        let log = shown(&three(judge));
        judge.shown(&place(), 0, 2, &log);
    }),
    ("last stable offset beyond the high watermark", "stable-offset", |judge| {
        three(judge);
        judge.shown_stable(&place(), 3, 4);
    }),
    ("last stable offset stuck, no transaction is open", "stable-offset", |judge| {
        three(judge);
        judge.shown_stable(&place(), 3, 2);
    }),
    ("earliest offset: the log starts where nobody cut it", "log-start-without-cause", |judge| {
        three(judge);
        judge.shown_start(&place(), 1, 0);
    }),
    ("earliest offset: what was deleted is back", "delete-undone", |judge| {
        three(judge);
        judge.delete_asked(&place(), 2);
        judge.delete_acked(&place(), 2, at(5));
        let known = judge.deleted(&place(), at(6));
        judge.shown_start(&place(), 1, known);
    }),
    ("offset by time: an earlier record fits", "wrong-by-time", |judge| {
        three(judge);
        judge.shown_by_time(&place(), 1_700_000_000_500, (2, 1_700_000_002_000), 3);
    }),
    ("offset by time: there is none, and there is", "wrong-by-time", |judge| {
        three(judge);
        judge.shown_by_time(&place(), 1_700_000_000_500, (-1, -1), 3);
    }),
    ("offset by time: the record is older", "wrong-by-time", |judge| {
        three(judge);
        judge.shown_by_time(&place(), 1_700_000_001_500, (1, 1_700_000_001_500), 3);
    }),
    ("group offset lost", "group-offset-lost", |judge| {
        judge.commits("g", &place(), 5);
        judge.committed("g", &place(), 5, at(1));
        judge.shown_committed("g", &place(), -1, at(2));
    }),
    ("group offset goes back", "group-offset-lost", |judge| {
        for (second, offset) in [(1, 5), (2, 8)] {
            judge.commits("g", &place(), offset);
            judge.committed("g", &place(), offset, at(second));
        }
        judge.shown_committed("g", &place(), 5, at(3));
    }),
    ("group offset goes back under its members", "commit-went-back", |judge| {
        for (second, offset) in [(1, 5), (2, 8)] {
            judge.team_commits(0, offset);
            judge.team_committed(0, offset, at(second));
        }
        judge.team_shown(0, 5, at(3));
    }),
    ("group offset that nobody committed", "commit-of-nobody", |judge| {
        judge.team_commits(0, 5);
        judge.team_shown(0, 6, at(3));
    }),
    ("two members have one partition in a generation", "owned-twice", |judge| {
        judge.owns("m", 3, &[0, 1]);
        judge.owns("n", 3, &[1]);
    }),
    ("idempotent retry answers another offset", "retry-elsewhere", |judge| {
        let values = three(judge);
        judge.acked_again(&place(), 2, 1, &values[1..2]);
    }),
    ("idempotent producer is refused for good, with nothing missing", "sequence-lost", |judge| {
        let values = three(judge);
        judge.refused_for_good(&place(), &values[..1]);
    }),
    ("a fenced epoch writes on", "stale-epoch-accepted", |judge| {
        for (index, (value, epoch)) in [("new", 1), ("old", 0)].into_iter().enumerate() {
            let producer = format!("p{epoch}");
            let sent = Sent { place: place(), order: Order::Any, producer, index: 0, epoch: Some((7, epoch)) };
            judge.sent(value, sent);
            judge.acked(&place(), index as i64, &[value.to_owned()], 0, at(1));
        }
        judge.final_log(&place(), 0, 2, &[(0, "new".to_owned()), (1, "old".to_owned())]);
    }),
    ("a producer id is given twice", "producer-id-given-twice", |judge| {
        judge.producer_id(4);
        judge.producer_id(4);
    }),
    ("a topic is lost", "lost-topic", |judge| {
        judge.topic_created("t");
        judge.shown_topics(&BTreeSet::new());
    }),
    ("a topic is gone that nobody deleted", "topic-gone-without-cause", |judge| judge.topic_is_gone("id")),
    ("where a reader had come to is out of range", "lost-its-place", |judge| {
        three(judge);
        judge.out_of_range(&place(), 3, at(4));
    }),
    ("a deleted topic answers again", "deleted-topic-is-back", |judge| {
        judge.deletes_topic("id");
        judge.topic_deleted("id", at(1));
        judge.topic_is_there("id", at(2));
    }),
];

#[test]
fn each_anomaly_is_found() {
    for (anomaly, rule, history) in BAD {
        let mut judge = judge();
        history(&mut judge);
        let first = judge.violations().first().map_or("nothing", |text| text.split(':').next().expect("a rule"));
        assert_eq!(first, *rule, "{anomaly}: {:?}", judge.violations());
    }
}

/// Records of which nobody saw some, and which were deleted since, may be whole all the same; what was seen may not be out of order.
#[test]
fn what_nobody_saw_is_not_missing() {
    for (indexes, objections) in [([0, 4], 0), ([4, 0], 1)] {
        let mut judge = judge();
        let values = send(&mut judge, "p", Order::Whole, 5);
        for (offset, index) in [0, 4].into_iter().zip(indexes) {
            judge.shown(&place(), offset, 5, &[(offset, values[index].clone())]);
        }
        judge.final_log(&place(), 5, 5, &[]);
        assert_eq!(judge.violations().len(), objections, "{:?}", judge.violations());
    }
}

/// What a broker that was replaced may still show for a while, and no longer.
#[test]
fn staleness_is_allowed_for_its_time() {
    for (asked, objections) in [(4, 0), (5, 1)] {
        let mut judge = Judge::new(at(2), at(2));
        three(&mut judge);
        judge.shown_end(&place(), 2, at(asked), at(asked));
        assert_eq!(judge.violations().len(), objections, "asked after {asked} s");
    }
}

/// Every rule of the judge has a history that breaks it.
#[test]
fn every_rule_has_its_anomaly() {
    let source = include_str!("judge.rs");
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for part in source.split("object(").skip(1) {
        let text = part.trim_start();
        if let Some(rule) = text.strip_prefix('"').and_then(|text| text.split('"').next()) {
            *rules.entry(rule).or_default() += 1;
        }
    }
    rules.insert("lost-acknowledged-record", 1);
    rules.insert("lost-record-that-was-shown", 1);
    assert!(rules.len() > 20, "{rules:?}");
    for rule in rules.keys() {
        assert!(BAD.iter().any(|(_, known, _)| known == rule), "no history breaks {rule}");
    }
}
