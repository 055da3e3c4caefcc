//! Rebalances: who is waited for, who is left behind, and that nobody is forgotten when many happen at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn dynamic_members_that_do_not_come_back_are_out_static_ones_stay() {
    let mut bench = Bench::new(limits());
    bench.join(Join { session_timeout_ms: 600_000, ..dynamic("a") });
    bench.join(Join { session_timeout_ms: 600_000, ..dynamic("b") });
    bench.join(Join { session_timeout_ms: 600_000, ..rejoin("a") });
    bench.join(Join { session_timeout_ms: 600_000, ..static_member("i", "s") });
    bench.join(Join { session_timeout_ms: 600_000, ..rejoin("a") });
    bench.join(Join { session_timeout_ms: 600_000, ..rejoin("b") });
    let generation = bench.generation();
    for id in ["a", "b", "s"] {
        bench.sync(id, generation, &[]);
    }
    assert_eq!(bench.state(), State::Stable);
    let news = bench.join(Join { session_timeout_ms: 600_000, ..with_protocols(rejoin("b"), &["range", "x"]) });
    bench.pass(59_999);
    assert!(!bench.replies.contains_key(&news));
    bench.pass(1);
    let joined = bench.joined(news);
    assert_eq!(joined.leader, "b", "the old leader did not come");
    let ids: Vec<&str> = joined.members.iter().map(|member| member.member_id.as_str()).collect();
    assert_eq!(ids, ["b", "s"]);
}

#[test]
fn a_generation_does_not_begin_without_anybody() {
    let mut bench = Bench::new(limits());
    bench.join(Join { session_timeout_ms: 200_000, ..static_member("i", "s") });
    bench.join(Join { session_timeout_ms: 200_000, ..dynamic("b") });
    bench.join(Join { session_timeout_ms: 200_000, ..rejoin("s") });
    let generation = bench.generation();
    bench.sync("s", generation, &[]);
    bench.sync("b", generation, &[]);
    assert_eq!(bench.leave("b", None), Ok(()));
    bench.pass(130_000);
    assert_eq!((bench.state(), bench.generation()), (State::PreparingRebalance, generation), "still waiting for s");
    bench.pass(70_000);
    assert_eq!((bench.state(), bench.generation()), (State::Empty, generation + 1), "its session is over");
}

#[test]
fn members_that_do_not_sync_are_out() {
    let mut bench = Bench::new(limits());
    bench.join(dynamic("a"));
    bench.join(dynamic("b"));
    bench.join(rejoin("a"));
    let generation = bench.generation();
    let a = bench.sync("a", generation, &[("a", "A"), ("b", "B")]);
    assert_eq!(bench.assigned(a), b"A");
    for _ in 0..6 {
        bench.pass(9_000);
        assert_eq!(bench.heartbeat("a", generation), Ok(()));
        assert_eq!(bench.heartbeat("b", generation), Ok(()));
    }
    bench.pass(6_000);
    assert_eq!(bench.state(), State::PreparingRebalance);
    assert_eq!(bench.heartbeat("b", generation), Err(GroupError::UnknownMember));
}

#[test]
fn waiting_for_an_answer_keeps_the_session() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a", "b"]);
    let generation = bench.generation();
    let waits = bench.join(rejoin("a"));
    for _ in 0..5 {
        bench.pass(9_000);
        assert_eq!(bench.heartbeat("b", generation), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(bench.group().members().count(), 2, "a waits longer than its session");
    bench.join(rejoin("b"));
    assert_eq!(bench.joined(waits).error, None);
    bench.pass(9_999);
    assert_eq!(bench.group().members().count(), 2, "the answer began a new session");
}

#[test]
fn a_session_that_ends_starts_a_rebalance() {
    let mut bench = Bench::new(limits());
    let generation = bench.stable(&["a", "b"]);
    bench.pass(9_000);
    assert_eq!(bench.heartbeat("a", generation), Ok(()));
    bench.pass(1_000);
    assert_eq!(bench.heartbeat("a", generation), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.heartbeat("b", generation), Err(GroupError::UnknownMember));
    let a = bench.join(rejoin("a"));
    assert_eq!(bench.joined(a).members.len(), 1);
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let mut bench = Bench::new(limits());
    let generation = bench.stable(&["a"]);
    for offset in 0..5 {
        bench.pass(9_000);
        assert_eq!(bench.commit("a", generation, offset), Ok(()));
    }
    assert_eq!(bench.state(), State::Stable);
}

#[test]
fn the_last_member_leaves_an_empty_generation_behind() {
    let mut bench = Bench::new(limits());
    let generation = bench.stable(&["a"]);
    assert_eq!(bench.leave("a", None), Ok(()));
    assert_eq!((bench.state(), bench.generation()), (State::Empty, generation + 1));
    let replayed = bench.replayed();
    let group = replayed.group(GROUP).expect("it stays, empty");
    assert_eq!((group.state(), group.generation()), (State::Empty, generation + 1));
    assert_eq!(group.protocol_type(), Some("consumer"));
    let next = bench.join(dynamic("b"));
    assert_eq!(bench.joined(next).generation, generation + 2, "generations never come again");
}

#[test]
fn a_generation_that_is_too_large_is_refused_and_not_stored() {
    let mut bench = Bench::new(Limits { max_record_bytes: 2_000, ..limits() });
    bench.join(dynamic("a"));
    let generation = bench.generation();
    let huge = "x".repeat(3_000);
    let sync = bench.sync("a", generation, &[("a", &huge)]);
    assert_eq!(bench.synced(sync), &Err(GroupError::TooLarge));
    assert_eq!(bench.state(), State::PreparingRebalance);
    assert!(bench.records.is_empty());
}

/// A group whose leader assigns more than there is room for is refused like one that is too large, and gets on when there is room.
#[test]
fn assignments_need_room() {
    let small = Limits { max_metadata_bytes: 100_000, ..limits() };
    let ids = ["a", "b", "c"];
    let all_join = |bench: &mut Bench| {
        for id in ids {
            bench.join(rejoin(id));
        }
        bench.generation()
    };
    // What others hold, what each member is assigned beside the 18 bytes that it brings, whether there is room; in bytes.
    for (others, parts, fits) in [
        (0, [50_000, 0, 0], true),
        (100_000, [5_102; 3], true),
        (100_000, [5_103, 0, 0], false),
        (200_000, [1_006; 3], true),
        (200_000, [0, 0, 1_007], false),
    ] {
        let all = Arc::new(AtomicUsize::new(0));
        let held = || all.load(Ordering::Relaxed);
        let mut bench = Bench::new(limits());
        bench.partition = Partition::beside(small.clone(), all.clone());
        bench.stable(&ids);
        all.fetch_add(others, Ordering::Relaxed);
        let records = bench.records.len();
        let generation = all_join(&mut bench);
        let texts = parts.map(|bytes| "x".repeat(bytes));
        let assignments: Vec<(&str, &str)> = ids.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let follows = bench.sync("b", generation, &[]);
        let leads = bench.sync("a", generation, &assignments);
        if fits {
            assert_eq!(bench.assigned(leads).len(), parts[0], "{parts:?} beside {others}");
            let counted = parts.iter().map(|bytes| (18 + bytes).max(1_024)).sum::<usize>();
            assert_eq!(held(), others + counted);
            // Who loads it counts it as well, however much there is.
            let elsewhere = Arc::new(AtomicUsize::new(300_000));
            let mut later = Partition::beside(small.clone(), elsewhere.clone());
            bench.records.iter().for_each(|record| later.replay(&record.encode()).expect("readable"));
            later.loaded(bench.now);
            assert_eq!(elsewhere.load(Ordering::Relaxed), 300_000 + counted);
            assert_eq!(later.group(GROUP).map(Group::state), Some(State::Stable));
            continue;
        }
        for refused in [follows, leads] {
            assert_eq!(bench.synced(refused), &Err(GroupError::NotAvailable), "{parts:?} beside {others}");
        }
        assert_eq!((bench.state(), bench.records.len()), (State::PreparingRebalance, records));
        assert_eq!(held(), others + 3 * 1_024);
        all.fetch_sub(others, Ordering::Relaxed);
        let generation = all_join(&mut bench);
        let leads = bench.sync("a", generation, &assignments);
        assert_eq!(bench.assigned(leads).len(), parts[0]);
    }
}

/// However little room there is: who takes over from a member that left gets what it had.
#[test]
fn what_a_group_had_needs_no_room() {
    let all = Arc::new(AtomicUsize::new(0));
    let mut bench = Bench::new(limits());
    bench.partition = Partition::beside(Limits { max_metadata_bytes: 100_000, ..limits() }, all.clone());
    bench.stable(&["a", "b", "c"]);
    let (text, more) = ("x".repeat(50_000), "x".repeat(60_000));
    for id in ["a", "b", "c"] {
        bench.join(rejoin(id));
    }
    let generation = bench.generation();
    let leads = bench.sync("a", generation, &[("c", &text)]);
    assert!(bench.synced(leads).is_ok());
    let counted = all.fetch_add(200_000, Ordering::Relaxed);
    assert_eq!(bench.leave("c", None), Ok(()));
    assert_eq!(all.load(Ordering::Relaxed), 200_000 + counted, "it is kept for the group");
    for id in ["a", "b"] {
        bench.join(rejoin(id));
    }
    let generation = bench.generation();
    let leads = bench.sync("a", generation, &[("b", &text)]);
    assert!(bench.synced(leads).is_ok());
    assert_eq!(all.load(Ordering::Relaxed), 200_000 + counted - 1_024);
    for id in ["a", "b"] {
        bench.join(rejoin(id));
    }
    let generation = bench.generation();
    let leads = bench.sync("a", generation, &[("b", &more)]);
    assert_eq!(bench.synced(leads), &Err(GroupError::NotAvailable), "more than it had");
}

#[test]
fn strangers_in_an_assignment_are_ignored() {
    let mut bench = Bench::new(limits());
    bench.join(dynamic("a"));
    let generation = bench.generation();
    let sync = bench.sync("a", generation, &[("stranger", "S")]);
    assert_eq!(bench.assigned(sync), b"", "left out: nothing");
    assert_eq!(bench.replayed().group(GROUP).expect("stored").members().count(), 1);
}

/// Rebalances upon rebalances must not make the coordinator forget a member that does as it is told.
#[test]
fn p18_concurrent_rebalances_forget_nobody() {
    for seed in 0..200u64 {
        let mut random = fastrand(seed);
        let mut bench = Bench::new(limits());
        let ids = ["a", "b", "c", "d"];
        // What each member last heard: its generation, once it has one, and the request it waits for.
        let mut generations: BTreeMap<&str, i32> = BTreeMap::new();
        let mut waits: BTreeMap<&str, ReplyTo> = BTreeMap::new();
        for id in ids {
            let to = bench.join(dynamic(id));
            waits.insert(id, to);
        }
        for round in 0..300 {
            let id = ids[random() as usize % ids.len()];
            if let Some(to) = waits.get(id).copied() {
                match bench.replies.get(&to) {
                    None => {}
                    Some(Reply::Join(joined)) => {
                        assert_eq!(joined.error, None, "seed {seed}, round {round}: {id}");
                        generations.insert(id, joined.generation);
                        let to = bench.sync(id, generations[id], &[]);
                        waits.insert(id, to);
                    }
                    Some(Reply::Sync(Ok(_))) => {
                        waits.remove(id);
                    }
                    Some(Reply::Sync(Err(error))) => {
                        let told_to_join = [GroupError::RebalanceInProgress, GroupError::IllegalGeneration];
                        assert!(told_to_join.contains(error), "seed {seed}, round {round}: {id} {error}");
                        let to = bench.join(rejoin(id));
                        waits.insert(id, to);
                    }
                    Some(other) => panic!("{other:?}"),
                }
            } else if bench.heartbeat(id, generations[id]).is_err() || random().is_multiple_of(3) {
                // Told to, or with news of its own.
                let to = bench.join(with_protocols(rejoin(id), &["range", &format!("news-{round}")]));
                waits.insert(id, to);
            } else {
                assert_eq!(bench.commit(id, generations[id], round), Ok(()), "seed {seed}");
            }
            bench.pass(20);
        }
        assert_eq!(bench.group().members().count(), ids.len(), "seed {seed}");
    }
}

/// xorshift; the sequence of a seed never changes.
pub fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    }
}

#[test]
fn whoever_is_in_another_generation_is_told_so() {
    let mut bench = Bench::new(limits());
    bench.stable(&["a", "b"]);
    bench.join(with_protocols(rejoin("b"), &["range", "x"]));
    bench.join(rejoin("a"));
    let generation = bench.generation();
    // In both states in which an assignment may be asked for.
    for state in [State::CompletingRebalance, State::Stable] {
        for (other, expected) in [
            (generation - 1, Err(GroupError::IllegalGeneration)),
            (generation + 1, Err(GroupError::IllegalGeneration)),
            (generation, Ok(())),
        ] {
            assert_eq!(bench.state(), state);
            assert_eq!(bench.heartbeat("b", other), expected, "{state:?}, {other} in {generation}");
            if expected.is_err() {
                let refused = bench.sync("b", other, &[("b", "late")]);
                assert_eq!(bench.synced(refused), &Err(GroupError::IllegalGeneration), "{state:?}, {other}");
                assert_eq!(bench.commit("b", other, 5), expected, "{state:?}, {other} in {generation}");
            }
        }
        let leader = bench.group().leader().expect("one leads").to_owned();
        bench.sync(&leader, generation, &[]);
    }
    assert_eq!(bench.group().offsets.len(), 0);
    assert_eq!(bench.commit("b", generation, 5), Ok(()));
}

#[test]
fn generations_go_on_at_one_after_the_last() {
    for (before, after) in [(0, 1), (41, 42), (i32::MAX - 1, i32::MAX), (i32::MAX, 1)] {
        let now = Now { wall_ms: 0, steady_ms: 0 };
        let mut group = Group::new(GROUP, now);
        group.generation = before;
        group.step(&limits(), 0, Input::Join(dynamic("a")), now);
        assert_eq!((group.state(), group.generation()), (State::CompletingRebalance, after));
    }
}
