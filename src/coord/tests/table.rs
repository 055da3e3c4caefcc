//! Every state against every input, as Kafka's coordinator answers it (KAFKA_API.md §2.11, §2.12).

use super::super::message::DeleteOffsets;
use super::*;
use GroupError::{
    FencedInstance, GroupNotFound, IllegalGeneration, NonEmpty, RebalanceInProgress, Subscribed, UnknownMember,
};

/// Two members: "a" leads and is dynamic, "b" is the static instance "i".
fn bench_in(state: State) -> (Bench, i32) {
    let mut bench = Bench::new(limits());
    if state == State::Empty {
        bench.commit("", -1, 5).expect("a simple group");
        return (bench, 0);
    }
    bench.join(dynamic("a"));
    bench.join(static_member("i", "b"));
    bench.join(rejoin("a"));
    assert_eq!(bench.state(), State::CompletingRebalance);
    let generation = bench.generation();
    if state == State::CompletingRebalance {
        return (bench, generation);
    }
    bench.sync("a", generation, &[("a", "A"), ("b", "B")]);
    bench.sync("b", generation, &[]);
    if state == State::PreparingRebalance {
        bench.join(rejoin("a"));
    }
    assert_eq!(bench.state(), state);
    (bench, generation)
}

const STATES: [State; 4] = [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];

#[test]
fn heartbeat() {
    for state in STATES {
        let expected: [Result<(), GroupError>; 5] = match state {
            State::Empty => [Err(UnknownMember); 5],
            State::PreparingRebalance => [
                Err(RebalanceInProgress),
                Err(IllegalGeneration),
                Err(UnknownMember),
                Err(FencedInstance),
                Err(UnknownMember),
            ],
            State::CompletingRebalance | State::Stable => {
                [Ok(()), Err(IllegalGeneration), Err(UnknownMember), Err(FencedInstance), Err(UnknownMember)]
            }
        };
        let (mut bench, generation) = bench_in(state);
        let got = [
            bench.heartbeat("b", generation),
            bench.heartbeat("b", generation + 1),
            bench.heartbeat("nobody", generation),
            bench.heartbeat_of("a", Some("i"), generation),
            bench.heartbeat_of("b", Some("other"), generation),
        ];
        assert_eq!(got, expected, "{state:?}");
        assert_eq!(bench.state(), state);
    }
}

#[test]
fn sync() {
    for state in STATES {
        let (mut bench, generation) = bench_in(state);
        let wrong = bench.sync("b", generation + 1, &[]);
        let unknown = bench.sync("nobody", generation, &[]);
        let other_protocol = bench.send(|reply| {
            Input::Sync(Sync {
                reply,
                generation,
                member_id: "b".to_owned(),
                instance_id: Some("i".to_owned()),
                protocol_type: Some("connect".to_owned()),
                protocol_name: None,
                assignments: Vec::new(),
            })
        });
        let right = bench.sync("b", generation, &[]);
        if state == State::Empty {
            assert_eq!(bench.synced(right), &Err(UnknownMember));
            continue;
        }
        assert_eq!(bench.synced(wrong), &Err(IllegalGeneration), "{state:?}");
        assert_eq!(bench.synced(unknown), &Err(UnknownMember), "{state:?}");
        assert_eq!(bench.synced(other_protocol), &Err(GroupError::InconsistentProtocol), "{state:?}");
        match state {
            State::PreparingRebalance => assert_eq!(bench.synced(right), &Err(RebalanceInProgress)),
            State::CompletingRebalance => {
                assert!(!bench.replies.contains_key(&right), "it waits for the leader");
                bench.sync("a", generation, &[("b", "B")]);
                assert_eq!(bench.assigned(right), b"B");
            }
            State::Stable | State::Empty => assert_eq!(bench.assigned(right), b"B"),
        }
    }
}

#[test]
fn join_of_known_members() {
    let generation_plus = |state: State, joins: fn() -> Join| {
        let (mut bench, generation) = bench_in(state);
        let to = bench.join(joins());
        let answer = bench.replies.get(&to).map(|_| bench.joined(to).generation - generation);
        (answer, bench.state())
    };
    let changed = || with_protocols(rejoin("b"), &["range", "other"]);
    let same = || rejoin("b");
    let leader = || rejoin("a");
    // "a" already waits in PreparingRebalance, so "b" completes the generation.
    assert_eq!(generation_plus(State::PreparingRebalance, same), (Some(1), State::CompletingRebalance));
    assert_eq!(generation_plus(State::PreparingRebalance, changed), (Some(1), State::CompletingRebalance));
    assert_eq!(generation_plus(State::PreparingRebalance, leader), (None, State::PreparingRebalance));
    assert_eq!(generation_plus(State::CompletingRebalance, same), (Some(0), State::CompletingRebalance));
    assert_eq!(generation_plus(State::CompletingRebalance, leader), (Some(0), State::CompletingRebalance));
    assert_eq!(generation_plus(State::CompletingRebalance, changed), (None, State::PreparingRebalance));
    assert_eq!(generation_plus(State::Stable, same), (Some(0), State::Stable));
    assert_eq!(generation_plus(State::Stable, changed), (None, State::PreparingRebalance));
    assert_eq!(generation_plus(State::Stable, leader), (None, State::PreparingRebalance));
    for state in STATES {
        let (mut bench, _) = bench_in(state);
        let unknown = bench.join(rejoin("nobody"));
        let fenced = bench.join(Join { instance_id: Some("i".to_owned()), ..rejoin("old") });
        let expected = if state == State::Empty { UnknownMember } else { FencedInstance };
        assert_eq!(bench.joined(unknown).error, Some(UnknownMember), "{state:?}");
        assert_eq!(bench.joined(fenced).error, Some(expected), "{state:?}");
        assert_eq!(bench.joined(fenced).member_id, "old");
        assert_eq!(bench.state(), state);
    }
}

#[test]
fn join_of_new_members() {
    for state in STATES {
        let (mut bench, _) = bench_in(state);
        let other_type = bench.join(Join { protocol_type: "connect".to_owned(), ..dynamic("c") });
        let nothing_common = bench.join(with_protocols(dynamic("c"), &["sticky"]));
        let nothing_at_all = bench.join(with_protocols(dynamic("c"), &[]));
        if state != State::Empty {
            for refused in [other_type, nothing_common] {
                assert_eq!(bench.joined(refused).error, Some(GroupError::InconsistentProtocol), "{state:?}");
            }
            assert_eq!(bench.state(), state);
        }
        assert_eq!(bench.joined(nothing_at_all).error, Some(GroupError::InconsistentProtocol), "{state:?}");
        let (mut bench, _) = bench_in(state);
        let knocks = bench.join(Join { requires_known_member_id: true, ..dynamic("c") });
        assert_eq!(bench.joined(knocks).error, Some(GroupError::MemberIdRequired));
        assert_eq!(bench.joined(knocks).member_id, "c");
        assert_eq!(bench.state(), state, "an id alone changes nothing");
        bench.join(rejoin("c"));
        let expected = if state == State::Empty { State::CompletingRebalance } else { State::PreparingRebalance };
        assert_eq!(bench.state(), expected, "{state:?}");
    }
}

#[test]
fn leave() {
    for state in STATES {
        let (mut bench, _) = bench_in(state);
        assert_eq!(bench.leave("nobody", None), Err(UnknownMember), "{state:?}");
        assert_eq!(bench.leave("", Some("nobody")), Err(UnknownMember), "{state:?}");
        assert_eq!(bench.state(), state);
        if state == State::Empty {
            continue;
        }
        assert_eq!(bench.leave("a", Some("i")), Err(FencedInstance), "{state:?}");
        assert_eq!(bench.leave("", Some("i")), Ok(()), "{state:?}");
        assert_eq!(bench.group().members().count(), 1);
        // Where "a" already waits, it goes on alone; elsewhere it has to join again.
        let expected =
            if state == State::PreparingRebalance { State::CompletingRebalance } else { State::PreparingRebalance };
        assert_eq!(bench.state(), expected, "{state:?}");
        assert_eq!(bench.leave("a", None), Ok(()));
        assert_eq!(bench.state(), State::Empty);
    }
}

#[test]
fn commit() {
    for state in STATES {
        let (mut bench, generation) = bench_in(state);
        let got = [
            bench.commit("b", generation, 1),
            bench.commit("b", generation + 1, 1),
            bench.commit("nobody", generation, 1),
            bench.commit("", -1, 1),
        ];
        let expected = match state {
            State::Empty => [Err(UnknownMember), Err(UnknownMember), Err(UnknownMember), Ok(())],
            State::CompletingRebalance => {
                [Err(RebalanceInProgress), Err(IllegalGeneration), Err(UnknownMember), Err(UnknownMember)]
            }
            // Cooperative consumers commit while the others still join.
            State::PreparingRebalance | State::Stable => {
                [Ok(()), Err(IllegalGeneration), Err(UnknownMember), Err(UnknownMember)]
            }
        };
        assert_eq!(got, expected, "{state:?}");
    }
}

#[test]
fn delete() {
    for state in STATES {
        let (mut bench, _) = bench_in(state);
        let to = bench.send(|reply| {
            Input::DeleteOffsets(DeleteOffsets { reply, partitions: vec![("t".to_owned(), 0), ("u".to_owned(), 0)] })
        });
        let expected = if state == State::Empty { vec![Ok(()), Ok(())] } else { vec![Err(Subscribed), Ok(())] };
        assert_eq!(bench.replies[&to], Reply::Partitions(Ok(expected)), "{state:?}");

        let (mut bench, _) = bench_in(state);
        let to = bench.send(Input::DeleteGroup);
        if state == State::Empty {
            assert_eq!(bench.done(to), Ok(()));
            assert!(bench.partition.group(GROUP).is_none());
            assert_eq!(bench.replayed().groups().count(), 0);
        } else {
            assert_eq!(bench.done(to), Err(NonEmpty), "{state:?}");
        }
    }
}

#[test]
fn a_group_that_does_not_exist() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.heartbeat("a", 1), Err(UnknownMember));
    assert_eq!(bench.leave("a", None), Err(UnknownMember));
    assert_eq!(bench.commit("a", 1, 1), Err(GroupNotFound));
    let sync = bench.sync("a", 1, &[]);
    assert_eq!(bench.synced(sync), &Err(UnknownMember));
    let join = bench.join(rejoin("a"));
    assert_eq!(bench.joined(join).error, Some(UnknownMember));
    let delete = bench.send(Input::DeleteGroup);
    assert_eq!(bench.done(delete), Err(GroupNotFound));
    let offsets = bench.send(|reply| Input::DeleteOffsets(DeleteOffsets { reply, partitions: Vec::new() }));
    assert_eq!(bench.replies[&offsets], Reply::Partitions(Err(GroupNotFound)));
    assert_eq!(bench.partition.groups().count(), 0);
    assert!(bench.records.is_empty());
}

#[test]
fn groups_fall_where_kafka_puts_them() {
    // Computed in Java; the hash of the last one is the smallest int.
    let of_50 = [("", 0), ("a", 47), ("connect", 30), ("grüppe-😀", 14), ("my-group", 12), ("polygenelubricants", 0)];
    for (group, partition) in of_50 {
        assert_eq!(crate::coord::partition_for(group, 50), partition, "{group}");
    }
}
