//! Joining: ids, static members, lost answers, full groups, the initial delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn knock(new_id: &str) -> Join {
    Join { requires_known_member_id: true, ..dynamic(new_id) }
}

#[test]
fn the_first_member_leads_and_sees_everybody() {
    let mut bench = Bench::new(Limits { initial_rebalance_delay_ms: 3000, ..limits() });
    let a = bench.join(dynamic("a"));
    let b = bench.join(dynamic("b"));
    assert!(bench.replies.is_empty(), "both wait for more to come");
    bench.pass(5999);
    assert!(bench.replies.is_empty(), "the second one prolonged the wait");
    bench.pass(1);
    let members: Vec<&str> = bench.joined(a).members.iter().map(|member| member.member_id.as_str()).collect();
    assert_eq!(members, ["a", "b"]);
    assert_eq!((bench.joined(a).leader.as_str(), bench.joined(b).leader.as_str()), ("a", "a"));
    assert!(bench.joined(b).members.is_empty());
    assert_eq!(bench.joined(b).protocol_name.as_deref(), Some("range"));
    assert_eq!(bench.joined(b).generation, 1);
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut bench = Bench::new(Limits { initial_rebalance_delay_ms: 3000, ..limits() });
    let first = bench.join(Join { rebalance_timeout_ms: 7000, ..dynamic("a") });
    for number in 0..6 {
        bench.pass(1500);
        bench.join(Join { rebalance_timeout_ms: 7000, ..dynamic(&format!("m{number}")) });
        if bench.replies.contains_key(&first) {
            break;
        }
    }
    assert_eq!(bench.now.steady_ms, 1000 + 7500, "3000 + 3000 + 1000 ms, seen at the next join");
    assert_eq!(bench.joined(first).members.len(), 5);
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let mut bench = Bench::new(limits());
    bench.join(knock("a"));
    bench.pass(9_999);
    assert_eq!(bench.partition.groups().count(), 1);
    bench.pass(1);
    assert_eq!(bench.partition.groups().count(), 0, "nothing is left of it");
    assert!(bench.records.is_empty());
    let late = bench.join(rejoin("a"));
    assert_eq!(bench.joined(late).error, Some(GroupError::UnknownMember));
}

#[test]
fn a_rebalance_waits_for_ids_that_were_given_out() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a"]);
    bench.join(knock("b"));
    let a = bench.join(rejoin("a"));
    assert!(!bench.replies.contains_key(&a), "b is on its way");
    let b = bench.join(rejoin("b"));
    assert_eq!(bench.joined(a).members.len(), 2);
    assert_eq!(bench.joined(b).generation, bench.joined(a).generation);
}

#[test]
fn ids_that_are_given_out_are_bounded() {
    let mut bench = Bench::new(Limits { max_pending_members: 2, ..limits() });
    for id in ["a", "b", "c"] {
        bench.join(knock(id));
    }
    let forgotten = bench.join(rejoin("a"));
    assert_eq!(bench.joined(forgotten).error, Some(GroupError::UnknownMember));
    let kept = bench.join(rejoin("c"));
    assert_eq!(bench.replies.get(&kept).map(|_| bench.joined(kept).error), Some(None));
}

#[test]
fn what_members_bring_along_is_bounded() {
    let heavy = |join: Join| {
        let mut join = with_protocols(join, &["range"]);
        join.protocols[0].1 = Bytes::from(vec![0; 5_000]);
        join
    };
    let mut bench = Bench::new(Limits { max_metadata_bytes: 8_000, ..limits() });
    bench.join(heavy(dynamic("a")));
    bench.join(heavy(dynamic("b")));
    let third = bench.join(heavy(dynamic("c")));
    assert_eq!(bench.joined(third).error, Some(GroupError::NotAvailable));
    let known = bench.join(heavy(rejoin("a")));
    assert_eq!(bench.joined(known).error, None, "who is in may go on");
    assert_eq!(bench.leave("b", None), Ok(()));
    let again = bench.join(heavy(dynamic("c")));
    assert!(!bench.replies.contains_key(&again), "there is room again: it waits for a");
}

/// Who is in finds room for what it brings more than before as a new member does, and else changes nothing.
#[test]
fn what_known_members_bring_more_is_bounded() {
    let small = Limits { max_metadata_bytes: 100_000, ..limits() };
    let brings = |bytes: usize, join: Join| {
        let protocols = vec![("range".to_owned(), Bytes::from(vec![0; bytes - "range".len()]))];
        Join { protocols, ..join }
    };
    let no_room = Some(GroupError::NotAvailable);
    // What it brought, what others hold, what it brings now, the answer; in bytes.
    for (first, others, then, error) in [
        (10, 0, 50_000, None),
        (10, 100_000, 5_120, None),
        (10, 100_000, 5_121, no_room),
        (10, 200_000, 1_024, None),
        (10, 200_000, 1_025, no_room),
        (50_000, 300_000, 50_000, None),
        (50_000, 300_000, 9, None),
        (50_000, 300_000, 50_001, no_room),
    ] {
        for (comes, again) in [(dynamic("a"), rejoin("a")), (static_member("i", "a"), static_member("i", "b"))] {
            let all = Arc::new(AtomicUsize::new(0));
            let mut bench = Bench::new(limits());
            bench.partition = Partition::beside(small.clone(), all.clone());
            bench.join(brings(first, comes));
            all.fetch_add(others, Ordering::Relaxed);
            let before = bench.group().clone();
            let to = bench.join(brings(then, again));
            assert_eq!(bench.joined(to).error, error, "{first}, then {then} beside {others}");
            let kept = if error.is_some() { first } else { then };
            assert_eq!(all.load(Ordering::Relaxed), others + kept.max(1_024));
            if error.is_some() {
                assert_eq!(bench.group(), &before, "{first}, then {then} beside {others}");
            }
        }
    }
}

#[test]
fn a_lost_join_answer_is_given_again() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a", "b"]);
    let generation = bench.generation();
    // The rebalance waits; "b" asks twice, as after a reconnection.
    bench.join(rejoin("a"));
    let joining = bench.join(with_protocols(rejoin("b"), &["range", "x"]));
    assert_eq!(bench.joined(joining).generation, generation + 1);
    let again = bench.join(with_protocols(rejoin("b"), &["range", "x"]));
    assert_eq!(bench.joined(again).generation, generation + 1, "the same generation, no new rebalance");
    let leader_again = bench.join(rejoin("a"));
    assert_eq!(bench.joined(leader_again).members.len(), 2);
    assert_eq!(bench.state(), State::CompletingRebalance);
    // The leader's sync got lost on its way back.
    bench.sync("a", generation + 1, &[("a", "A"), ("b", "B")]);
    let lost = bench.sync("a", generation + 1, &[("a", "ignored")]);
    assert_eq!(bench.assigned(lost), b"A");
    let records = bench.records.len();
    bench.sync("b", generation + 1, &[]);
    assert_eq!(bench.records.len(), records, "an assignment is stored once");
}

#[test]
fn a_member_that_asks_twice_while_it_waits_gets_one_answer_each() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a", "b"]);
    let first = bench.join(rejoin("a"));
    let second = bench.join(rejoin("a"));
    assert_eq!(bench.joined(first).error, Some(GroupError::RebalanceInProgress));
    bench.join(rejoin("b"));
    assert_eq!(bench.joined(second).error, None);
}

#[test]
fn a_new_member_that_vanishes_while_it_waits_leaves() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a"]);
    bench.join(Join { rebalance_timeout_ms: 1_000_000, ..dynamic("b") });
    for _ in 0..((Limits::NEW_MEMBER_TIMEOUT_MS - 1) / 5_000) {
        bench.pass(5_000);
        let generation = bench.generation();
        assert_eq!(bench.heartbeat("a", generation), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(bench.group().members().count(), 2);
    bench.pass(5_001);
    assert_eq!(bench.group().members().count(), 1, "only a is left");
}

#[test]
fn a_full_group_takes_nobody_new_and_sheds_the_last() {
    let mut bench = Bench::new(Limits { group_max_size: 2, ..limits() });
    bench.stable(&["a", "b"]);
    let third = bench.join(dynamic("c"));
    assert_eq!(bench.joined(third).error, Some(GroupError::MaxSizeReached));
    assert_eq!(bench.joined(third).member_id, "");
    assert_eq!(bench.state(), State::Stable);

    let mut small = Partition::new(Limits { group_max_size: 1, ..limits() });
    bench.records.iter().for_each(|record| small.replay(&record.encode()).expect("readable"));
    let outputs = small.loaded(bench.now);
    assert_eq!(outputs.len(), 1);
    bench.partition = small;
    assert_eq!(bench.state(), State::PreparingRebalance, "the group has to shrink");
    let stays = bench.join(rejoin("b"));
    let goes = bench.join(rejoin("a"));
    assert_eq!(bench.joined(goes).error, Some(GroupError::MaxSizeReached));
    assert_eq!(bench.joined(stays).error, None);
    assert_eq!(bench.group().members().count(), 1);
}

#[test]
fn a_static_follower_comes_back_without_a_rebalance() {
    let mut bench = Bench::new(limits());
    bench.join(dynamic("a"));
    bench.join(static_member("i", "b1"));
    bench.join(rejoin("a"));
    let generation = bench.generation();
    bench.sync("a", generation, &[("a", "A"), ("b1", "B")]);
    bench.sync("b1", generation, &[]);

    let back = bench.join(static_member("i", "b2"));
    assert_eq!(bench.state(), State::Stable);
    let joined = bench.joined(back);
    assert_eq!((joined.error, joined.member_id.as_str(), joined.skip_assignment), (None, "b2", false));
    assert_eq!((joined.generation, joined.members.len(), joined.leader.as_str()), (generation, 0, "a"));
    let sync = bench.sync("b2", generation, &[]);
    assert_eq!(bench.assigned(sync), b"B", "it keeps what it had");
    assert_eq!(bench.heartbeat_of("b1", Some("i"), generation), Err(GroupError::FencedInstance));
    assert_eq!(bench.commit("b1", generation, 1), Err(GroupError::UnknownMember));
    let replayed = bench.replayed();
    let ids: Vec<&str> = replayed.group(GROUP).expect("stored").members().map(|member| member.id.as_str()).collect();
    assert_eq!(ids, ["a", "b2"], "the new id is in the log");
    assert_eq!(bench.leave("", Some("i")), Ok(()));
}

#[test]
fn a_static_leader_comes_back() {
    for (supports_skip, leader, members, skip) in [(true, "a2", 1, true), (false, "a1", 0, false)] {
        let mut bench = Bench::new(limits());
        bench.join(static_member("i", "a1"));
        let generation = bench.generation();
        bench.sync("a1", generation, &[("a1", "A")]);
        let join = Join { supports_skip_assignment: supports_skip, ..static_member("i", "a2") };
        let back = bench.join(join);
        let joined = bench.joined(back);
        assert_eq!((joined.leader.as_str(), joined.members.len(), joined.skip_assignment), (leader, members, skip));
        assert_eq!(bench.group().leader(), Some("a2"));
        let sync = bench.sync("a2", generation, &[]);
        assert_eq!(bench.assigned(sync), b"A");
    }
}

#[test]
fn a_static_member_with_another_choice_of_protocols_starts_a_rebalance() {
    let mut bench = Bench::new(limits());
    bench.join(with_protocols(static_member("i", "a1"), &["range", "sticky"]));
    let generation = bench.generation();
    bench.sync("a1", generation, &[]);
    let back = bench.join(with_protocols(static_member("i", "a2"), &["sticky"]));
    assert_eq!(bench.joined(back).generation, generation + 1);
    assert_eq!(bench.joined(back).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn a_static_member_fences_the_one_that_waits() {
    // In PreparingRebalance: the old one waits in its join.
    let mut bench = Bench::new(limits());
    bench.stable(&["a"]);
    let old = bench.join(static_member("i", "b1"));
    let new = bench.join(static_member("i", "b2"));
    assert_eq!(bench.joined(old).error, Some(GroupError::FencedInstance));
    bench.join(rejoin("a"));
    assert_eq!(bench.joined(new).error, None);

    // In CompletingRebalance: the old one waits in its sync; the leader may know it by the old id, so all join again.
    let generation = bench.generation();
    let old = bench.sync("b2", generation, &[]);
    let new = bench.join(static_member("i", "b3"));
    assert_eq!(bench.synced(old), &Err(GroupError::FencedInstance));
    assert_eq!(bench.state(), State::PreparingRebalance);
    bench.join(rejoin("a"));
    assert_eq!(bench.joined(new).generation, generation + 1);
}

#[test]
fn votes_decide_the_protocol() {
    let mut bench = Bench::new(Limits { initial_rebalance_delay_ms: 10, ..limits() });
    bench.join(with_protocols(dynamic("a"), &["one", "two", "own"]));
    bench.join(with_protocols(dynamic("b"), &["two", "one"]));
    let c = bench.join(with_protocols(dynamic("c"), &["two", "one"]));
    bench.pass(30);
    assert_eq!(bench.joined(c).protocol_name.as_deref(), Some("two"));

    let mut bench = Bench::new(Limits { initial_rebalance_delay_ms: 10, ..limits() });
    bench.join(with_protocols(dynamic("b"), &["one", "two"]));
    let a = bench.join(with_protocols(dynamic("a"), &["two", "one"]));
    bench.pass(30);
    assert_eq!(bench.joined(a).protocol_name.as_deref(), Some("one"), "the leader breaks a tie");
}
