//! The runtime over the log in memory, on paused time: what is released when, and that a failed append never leaves memory
//! ahead of the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::rebalances::fastrand;
use super::*;
use crate::coord::log::memory::MemoryLog;
use crate::coord::log::{CoordRecord, OffsetsLog};
use crate::coord::{Groups, partition_for};
use crate::types::env::testing;

pub fn start(limits: Limits) -> (Arc<Groups>, Arc<MemoryLog>) {
    let log = Arc::new(MemoryLog::new(2));
    let port: Arc<dyn OffsetsLog> = log.clone();
    (Arc::new(Groups::start(testing::env(1), limits, port)), log)
}

pub fn home() -> i32 {
    partition_for(GROUP, 2)
}

fn commit_input(reply: ReplyTo, partition: i32, offset: i64) -> Input {
    Input::Commit(Commit {
        reply,
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        retention_ms: None,
        knows_group_not_found: true,
        partitions: vec![commit_of("t", partition, offset)],
    })
}

pub async fn commit(groups: &Groups, partition: i32, offset: i64) -> Result<(), GroupError> {
    match groups.call(GROUP, |reply| commit_input(reply, partition, offset)).await? {
        Reply::Partitions(results) => results?[0],
        other => panic!("{other:?}"),
    }
}

async fn join(groups: &Groups, join: Join) -> Result<Joined, GroupError> {
    match groups.call(GROUP, |reply| Input::Join(Join { reply, ..join })).await? {
        Reply::Join(joined) => Ok(joined),
        other => panic!("{other:?}"),
    }
}

async fn sync(groups: &Groups, member: &str, generation: i32, assignment: &str) -> Result<Synced, GroupError> {
    let assignments = vec![(member.to_owned(), Bytes::copy_from_slice(assignment.as_bytes()))];
    let input = |reply| {
        Input::Sync(Sync {
            reply,
            generation,
            member_id: member.to_owned(),
            instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments,
        })
    };
    match groups.call(GROUP, input).await? {
        Reply::Sync(synced) => synced,
        other => panic!("{other:?}"),
    }
}

async fn heartbeat(groups: &Groups, member: &str, generation: i32) -> Result<(), GroupError> {
    let input =
        |reply| Input::Heartbeat(Heartbeat { reply, generation, member_id: member.to_owned(), instance_id: None });
    match groups.call(GROUP, input).await? {
        Reply::Heartbeat(result) => result,
        other => panic!("{other:?}"),
    }
}

pub async fn stored(groups: &Groups, partition: i32) -> Result<Option<i64>, GroupError> {
    let offset = |group: Option<&Group>| group.and_then(|group| group.offsets.get("t", partition).map(|at| at.offset));
    groups.read(GROUP, offset).await
}

pub fn replayed(log: &MemoryLog) -> Partition {
    let mut partition = Partition::new(limits());
    log.records(home()).iter().for_each(|record| partition.replay(record).expect("readable"));
    partition
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_commit() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_delay(Duration::from_millis(100));
    let begun = Instant::now();
    commit(&groups, 0, 2).await.expect("stored");
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    // A reader must not see what may still be lost: it waits for the commit in flight.
    let writer = tokio::spawn({
        let groups = groups.clone();
        async move { commit(&groups, 0, 3).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    assert_eq!(stored(&groups, 0).await, Ok(Some(3)));
    assert_eq!(begun.elapsed(), Duration::from_millis(90));
    assert_eq!(writer.await.expect("no panic"), Ok(()));
    // Another group does not wait for it.
    let slow = tokio::spawn({
        let groups = groups.clone();
        async move { commit(&groups, 0, 4).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    let other = (0..9).map(|n| format!("o{n}")).find(|id| partition_for(id, 2) == home()).expect("one of nine");
    assert!(groups.read(&other, |group| group.is_none()).await.expect("read"));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    slow.await.expect("no panic").expect("stored");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_wait_for_generations_and_not_for_offsets() {
    let (groups, log) = start(limits());
    let joined = join(&groups, dynamic("a")).await.expect("joined");
    log.set_delay(Duration::from_millis(100));
    let beats = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        assert_eq!(heartbeat(&groups, "a", joined.generation).await, Ok(()));
        begun.elapsed()
    };
    let (synced, waited) = tokio::join!(sync(&groups, "a", joined.generation, "A"), beats);
    assert!(synced.is_ok());
    assert_eq!(waited, Duration::from_millis(90), "that it is still a member rests on the record in flight");
    let committing = groups.call(GROUP, |reply| match commit_input(reply, 0, 1) {
        Input::Commit(commit) => {
            Input::Commit(Commit { generation: joined.generation, member_id: "a".to_owned(), ..commit })
        }
        other => other,
    });
    let beats = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        assert_eq!(heartbeat(&groups, "a", joined.generation).await, Ok(()));
        begun.elapsed()
    };
    let (committed, waited) = tokio::join!(committing, beats);
    assert_eq!(committed, Ok(Reply::Partitions(Ok(vec![Ok(())]))));
    assert_eq!(waited, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_takes_the_state_back_to_the_log() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_delay(Duration::from_millis(50));
    log.fail_appends(home(), 1);
    let lost = commit(&groups, 0, 2);
    let behind = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        (stored(&groups, 0).await, commit(&groups, 1, 7).await)
    };
    let (lost, (read, later)) = tokio::join!(lost, behind);
    assert_eq!(lost, Err(GroupError::NotCoordinator));
    assert_eq!(read, Err(GroupError::NotCoordinator), "a reader that saw the lost offset is told nothing");
    assert_eq!(later, Ok(()));
    assert_eq!(stored(&groups, 0).await, Ok(Some(1)));
    assert_eq!(stored(&groups, 1).await, Ok(Some(7)));
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_appends_in_flight() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_delay(Duration::from_millis(300));
    log.fail_appends(home(), 1);
    let first = commit(&groups, 0, 2);
    let second = commit(&groups, 1, 9);
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first, second), (Err(GroupError::NotCoordinator), Err(GroupError::NotCoordinator)));
    // The second append still lands, 300 ms later; whoever reads now must find it.
    assert_eq!(stored(&groups, 1).await, Ok(Some(9)));
    assert_eq!(stored(&groups, 0).await, Ok(Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_sync_leaves_the_last_stored_generation() {
    let (groups, log) = start(limits());
    let joined = join(&groups, dynamic("a")).await.expect("joined");
    log.fail_appends(home(), 1);
    assert_eq!(sync(&groups, "a", joined.generation, "A").await, Err(GroupError::NotCoordinator));
    assert_eq!(heartbeat(&groups, "a", joined.generation).await, Err(GroupError::UnknownMember));
    let joined = join(&groups, dynamic("a2")).await.expect("joined");
    assert_eq!(joined.generation, 1, "nobody was ever told of the lost one's assignment");
    let synced = sync(&groups, "a2", 1, "A").await.expect("synced");
    assert_eq!(&synced.assignment[..], b"A");
    // The next coordinator knows it.
    log.set_lease(home(), Some(1));
    assert_eq!(heartbeat(&groups, "a2", 1).await, Ok(()));
    let synced = sync(&groups, "a2", 1, "ignored").await.expect("synced");
    assert_eq!(&synced.assignment[..], b"A");
}

#[tokio::test(start_paused = true)]
async fn sessions_end_by_time() {
    let (groups, log) = start(limits());
    let joined = join(&groups, dynamic("a")).await.expect("joined");
    sync(&groups, "a", joined.generation, "A").await.expect("synced");
    tokio::time::sleep(Duration::from_millis(9_990)).await;
    assert_eq!(heartbeat(&groups, "a", joined.generation).await, Ok(()));
    tokio::time::sleep(Duration::from_millis(10_010)).await;
    // Nobody asked: the timer itself stored the empty generation.
    let log_says = replayed(&log);
    let group = log_says.group(GROUP).expect("stored");
    assert_eq!((group.state(), group.generation()), (State::Empty, 2));
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_runs_by_itself() {
    let (groups, _log) = start(Limits { initial_rebalance_delay_ms: 3000, ..limits() });
    let begun = Instant::now();
    let (a, b) = tokio::join!(join(&groups, dynamic("a")), join(&groups, dynamic("b")));
    assert_eq!(begun.elapsed(), Duration::from_secs(6));
    assert_eq!(a.expect("joined").members.len() + b.expect("joined").members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_lease_nothing_is_said() {
    let (groups, log) = start(limits());
    log.set_lease(home(), None);
    assert_eq!(commit(&groups, 0, 1).await, Err(GroupError::NotCoordinator));
    log.set_lease(home(), Some(4));
    commit(&groups, 0, 1).await.expect("stored");
    // The lease goes while an answer waits.
    log.set_delay(Duration::from_millis(50));
    let moves = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log.set_lease(home(), None);
    };
    let (answer, ()) = tokio::join!(commit(&groups, 0, 2), moves);
    assert_eq!(answer, Err(GroupError::NotCoordinator));
    log.set_lease(home(), Some(5));
    assert_eq!(stored(&groups, 0).await, Ok(Some(1)));
    // A member that waits for a rebalance hears of it as well.
    join(&groups, dynamic("a")).await.expect("joined");
    let waits = tokio::spawn({
        let groups = groups.clone();
        async move { join(&groups, dynamic("b")).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    log.set_lease(home(), None);
    assert_eq!(waits.await.expect("no panic"), Err(GroupError::NotCoordinator));
}

#[tokio::test(start_paused = true)]
async fn without_proof_nothing_is_shown_and_nothing_is_lost() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_delay(Duration::from_millis(50));
    let lapses = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log.set_proof(home(), false);
    };
    let (answer, ()) = tokio::join!(commit(&groups, 0, 2), lapses);
    assert_eq!(answer, Err(GroupError::NotCoordinator));
    // The lease is still the same when the proof is back; an append of before is still on its way.
    log.set_proof(home(), true);
    log.set_delay(Duration::from_millis(400));
    let lapses = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log.set_proof(home(), false);
        assert_eq!(stored(&groups, 0).await, Err(GroupError::NotCoordinator));
        log.set_proof(home(), true);
        stored(&groups, 0).await
    };
    let (_, seen) = tokio::join!(commit(&groups, 0, 3), lapses);
    assert_eq!(seen, Ok(Some(3)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_to_hold_a_lease_looks_first() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_lease(home(), None);
    assert_eq!(stored(&groups, 0).await, Err(GroupError::NotCoordinator));
    log.set_unheard(home(), 3);
    assert_eq!(stored(&groups, 0).await, Ok(Some(1)));
    log.set_lease(home(), None);
    log.set_unheard(home(), 5);
    assert_eq!(groups.read_all(|group| Some(group.id().to_owned())).await, Ok(vec![GROUP.to_owned()]));
}

/// Nobody asks for the groups meanwhile: who asks then is answered at once, and what timers have to do is done.
#[tokio::test(start_paused = true)]
async fn what_comes_is_loaded_by_itself() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    let moment = || tokio::time::sleep(Duration::from_millis(1));
    for epoch in 1..4 {
        log.set_lease(home(), None);
        moment().await;
        let before = log.replays(home());
        log.set_lease(home(), Some(epoch));
        moment().await;
        assert_eq!(log.replays(home()), before + 1, "when the lease has come");
    }
    // The lease becomes another one while the last appends are awaited, and while it is loaded.
    log.set_delay(Duration::from_millis(100));
    let (lost, ()) = tokio::join!(commit(&groups, 0, 2), async {
        moment().await;
        log.set_lease(home(), Some(5));
    });
    assert_eq!(lost, Err(GroupError::NotCoordinator));
    let before = log.replays(home());
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_eq!(log.replays(home()), before + 1, "when nothing is in flight any more");
    log.fail_replays(home(), 1);
    log.set_lease(home(), Some(6));
    moment().await;
    log.set_lease(home(), Some(7));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(log.replays(home()), before + 3, "one that failed, and one under the new epoch");
    // Nothing says that the proof is back.
    log.set_proof(home(), false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    log.set_proof(home(), true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(log.replays(home()), before + 4);
}

#[tokio::test(start_paused = true)]
async fn loading_that_fails_is_repeated_and_said() {
    let (groups, log) = start(limits());
    log.seed(home(), vec![record(5)]);
    log.fail_replays(home(), 3);
    let begun = Instant::now();
    assert_eq!(stored(&groups, 0).await, Ok(Some(5)), "requests wait for a load that takes a moment");
    assert_eq!(begun.elapsed(), Duration::from_millis(100 + 200 + 400));
    log.fail_replays(home(), 30);
    log.set_lease(home(), Some(1));
    assert_eq!(stored(&groups, 0).await, Err(GroupError::LoadInProgress));
    let damaged = CoordRecord { key: record(1).key, value: Some(Bytes::from_static(&[0, 77])) };
    log.fail_replays(home(), 0);
    log.seed(home(), vec![damaged]);
    assert_eq!(stored(&groups, 0).await, Err(GroupError::LoadInProgress), "guessing would lose somebody's place");
}

fn record(offset: i64) -> CoordRecord {
    let mut bench = Bench::new(limits());
    bench.commit("", -1, offset).expect("stored");
    bench.records.remove(0).encode()
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_harms_nobody() {
    let (groups, log) = start(limits());
    join(&groups, dynamic("a")).await.expect("joined");
    let gone = tokio::time::timeout(Duration::from_millis(5), join(&groups, dynamic("b"))).await;
    assert!(gone.is_err());
    let a = tokio::time::timeout(Duration::from_secs(61), join(&groups, rejoin("a"))).await;
    assert_eq!(a.expect("in time").expect("joined").members.len(), 2, "b may come back and ask again");
    assert!(log.records(home()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_runtime_that_is_dropped() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    log.set_delay(Duration::from_millis(50));
    let lost = tokio::time::timeout(Duration::from_millis(1), commit(&groups, 0, 2)).await;
    assert!(lost.is_err());
    drop(groups);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Arc::strong_count(&log), 1, "no task holds on to the log");
    assert_eq!(log.records(home()).len(), 2, "what was sent landed all the same");
}

#[tokio::test(start_paused = true)]
async fn a_large_commit_goes_out_in_pieces() {
    let (groups, log) = start(limits());
    let partitions = (0..300).map(|partition| CommitPartition {
        metadata: "x".repeat(4000),
        ..commit_of("t", partition, i64::from(partition))
    });
    let partitions: Vec<CommitPartition> = partitions.collect();
    log.set_delay(Duration::from_millis(10));
    let begun = Instant::now();
    let input = |reply| match commit_input(reply, 0, 0) {
        Input::Commit(commit) => Input::Commit(Commit { partitions, ..commit }),
        other => other,
    };
    let reply = groups.call(GROUP, input).await.expect("stored");
    assert_eq!(reply, Reply::Partitions(Ok(vec![Ok(()); 300])));
    assert_eq!(begun.elapsed(), Duration::from_millis(30), "1.2 MB are three batches, the answer waits for the last");
    assert_eq!(replayed(&log).group(GROUP).expect("stored").offsets.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_refuses_commits_before_they_are_decided() {
    let (groups, log) = start(limits());
    let joined = join(&groups, dynamic("a")).await.expect("joined");
    sync(&groups, "a", joined.generation, "A").await.expect("synced");
    log.set_full(home(), true);
    assert_eq!(commit(&groups, 0, 1).await, Err(GroupError::NotAvailable));
    assert_eq!(heartbeat(&groups, "a", joined.generation).await, Ok(()), "the group lives on");
    assert_eq!(log.records(home()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn deleted_topics_are_forgotten_by_all_groups() {
    let (groups, log) = start(limits());
    commit(&groups, 0, 1).await.expect("stored");
    groups.topics_deleted(vec![("t".to_owned(), TopicId(7))]);
    assert_eq!(stored(&groups, 0).await, Ok(None));
    assert_eq!(replayed(&log).groups().count(), 0);
    assert_eq!(groups.read_all(|group| Some(group.id().to_owned())).await, Ok(Vec::new()));
}

/// Members, commits, failures, lost leases and moments, at random; in the end memory and log agree, and nothing that was
/// acknowledged is lost.
#[tokio::test(start_paused = true)]
async fn random_failures_lose_nothing_acknowledged() {
    for seed in 0..60 {
        let (groups, log) = start(limits());
        let mut acknowledged = [None; 3];
        let mut random = fastrand(seed);
        let mut epoch = 0;
        for step in 0..60i64 {
            log.set_delay(Duration::from_millis(random() % 40));
            match random() % 8 {
                0 => log.fail_appends(home(), 1 + (random() % 2) as usize),
                1 => {
                    epoch += 1;
                    log.set_lease(home(), Some(epoch));
                }
                2 => {
                    let id = format!("m{step}");
                    let join = tokio::time::timeout(Duration::from_millis(200), join(&groups, dynamic(&id))).await;
                    if let Ok(Ok(joined)) = join
                        && joined.error.is_none()
                    {
                        let _ = sync(&groups, &id, joined.generation, "A").await;
                    }
                }
                3 => tokio::time::sleep(Duration::from_millis(random() % 30_000)).await,
                _ => commit_three(&groups, step, &mut acknowledged).await,
            }
        }
        log.fail_appends(home(), 0);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let memory = groups.read(GROUP, |group| group.cloned()).await.expect("served again");
        let partition = replayed(&log);
        let expected = partition.group(GROUP);
        assert_eq!(memory.as_ref().map(|group| &group.offsets), expected.map(|group| &group.offsets), "seed {seed}");
        assert_eq!(memory.as_ref().map(Group::generation), expected.map(Group::generation), "seed {seed}");
        for (partition, step) in acknowledged.iter().enumerate() {
            let found = memory.as_ref().and_then(|group| group.offsets.get("t", partition as i32)).map(|at| at.offset);
            assert!(found >= *step, "seed {seed}: {found:?} where {step:?} was acknowledged");
        }
    }
}

async fn commit_three(groups: &Groups, step: i64, acknowledged: &mut [Option<i64>; 3]) {
    let commits = futures::future::join_all((0..3).map(|partition| commit(groups, partition, step))).await;
    for (acknowledged, result) in acknowledged.iter_mut().zip(commits) {
        if result.is_ok() {
            *acknowledged = Some(step);
        }
    }
}
