//! Truncation: whoever was away while a generation was closed must not believe what it sees there. The names of the cases follow the
//! mutants of the explored model.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::meta::entry::Entry;
use alluvium::meta::table::bucket;
use alluvium::meta::{MetaError, MetaOptions, Metadata, ProposeError, snapshot, truncate};
use alluvium::store::Store;
use alluvium::store::fault::{Answer, Call, Fault, FaultRates};
use alluvium::types::TopicId;

use crate::world::{World, create, eventually, fill, topic};

const HOUR: Duration = Duration::from_secs(3600);

/// Generations of 10; callers and appends wait for hours.
fn patient() -> World {
    let world = World::small();
    let options = MetaOptions { propose_timeout: 5 * HOUR, append_timeout: 4 * HOUR, ..world.options.clone() };
    World { options, ..world }
}

/// Waits until generations 0 and 1 are gone from the table.
async fn until_truncated(world: &World) {
    eventually("generations 0 and 1 deleted", async || {
        world.keys(bucket::PREFIX).await.first().is_none_or(|first| first.as_str() > "00000000000000000020")
    })
    .await;
}

fn spawn_create(
    broker: &Arc<Metadata>,
    id: u128,
    name: &'static str,
) -> tokio::task::JoinHandle<Result<u64, ProposeError<crate::world::Exists>>> {
    let broker = broker.clone();
    tokio::spawn(async move { broker.propose(create(id, name)).await })
}

#[tokio::test(start_paused = true)]
async fn old_generations_go_and_markers_and_two_snapshots_stay() {
    let world = World::small();
    let a = world.broker(1).await;
    fill(&a, 45).await;
    eventually("four generations closed", async || world.keys(truncate::CLOSED_PREFIX).await.len() == 4).await;
    eventually("deleted", async || world.keys(bucket::PREFIX).await.len() == 5).await;
    eventually("pruned", async || world.keys(snapshot::PREFIX).await.len() == 2).await;
    assert_eq!(world.keys(snapshot::PREFIX).await, ["00000000000000000030", "00000000000000000040"]);
    let fresh = world.broker(2).await;
    assert_eq!(fresh.read(Clone::clone), a.read(Clone::clone));
    assert_eq!(fresh.propose(create(1, "a")).await.unwrap(), 46);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_was_on_its_way_for_an_hour_does_not_count() {
    let world = patient();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&b, 5).await;
    a.catch_up().await.unwrap();
    world.store.script(Call::Create, &bucket::key(6), [Fault::DelayBefore(HOUR)]);
    let paused = spawn_create(&a, 1, "ghost");
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&b, 20).await;
    until_truncated(&world).await;
    let outcome = paused.await.unwrap();
    assert_eq!(world.keys(bucket::PREFIX).await[0], "00000000000000000006", "it landed where the name was free again");
    assert!(matches!(outcome, Err(ProposeError::Meta(MetaError::OutcomeUnknown(_)))), "{outcome:?}");
    assert!(!a.read(|image| image.names.contains_key("ghost")));
    b.catch_up().await.unwrap();
    assert_eq!(a.read(Clone::clone), b.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn an_append_whose_answer_came_after_an_hour_is_found_in_the_snapshot() {
    let world = patient();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&b, 5).await;
    a.catch_up().await.unwrap();
    world.store.script(Call::Create, &bucket::key(6), [Fault::DelayAfter(HOUR)]);
    let paused = spawn_create(&a, 1, "real");
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&b, 20).await;
    until_truncated(&world).await;
    let outcome = paused.await.unwrap();
    assert!(matches!(outcome, Err(ProposeError::Meta(MetaError::OutcomeUnknown(_)))), "{outcome:?}");
    assert!(a.read(|image| image.names.contains_key("real")));
}

#[tokio::test(start_paused = true)]
async fn an_append_that_counted_is_not_taken_for_lost_when_its_name_was_given_again() {
    let world = patient();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&b, 5).await;
    a.catch_up().await.unwrap();
    world.store.script(Call::Create, &bucket::key(6), [Fault::HangAfter]);
    let paused = spawn_create(&a, 1, "real");
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&b, 20).await;
    until_truncated(&world).await;
    let ghost = Entry::new(6, 1, vec![topic(6, "ghost", 1)]);
    world.memory.create(&bucket::key(6), ghost.encode()).await.unwrap();
    let outcome = paused.await.unwrap();
    assert!(matches!(outcome, Err(ProposeError::Meta(MetaError::OutcomeUnknown(_)))), "{outcome:?}");
    assert_eq!(a.read(|image| image.names.keys().cloned().collect::<Vec<_>>()), ["real"]);
}

/// t4 of the model: an applier that reads an entry of a closed generation.
#[tokio::test(start_paused = true)]
async fn a_reader_does_not_apply_what_landed_in_a_closed_generation() {
    let world = World::small();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&b, 5).await;
    a.catch_up().await.unwrap();
    fill(&b, 20).await;
    until_truncated(&world).await;
    for revision in 6..=8 {
        let ghost = Entry::new(revision, 1, vec![topic(u128::from(revision), &format!("ghost{revision}"), 1)]);
        world.memory.create(&bucket::key(revision), ghost.encode()).await.unwrap();
    }
    assert_eq!(a.catch_up().await.unwrap(), 25);
    assert_eq!(a.read(Clone::clone), b.read(Clone::clone));
    // The ghosts go with the next truncation, and hurt no fresh broker before.
    assert_eq!(world.broker(3).await.read(Clone::clone), b.read(Clone::clone));
    fill(&b, 5).await;
    eventually("ghosts deleted", async || world.keys(bucket::PREFIX).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_proposer_that_slept_through_truncation_reloads_first() {
    let world = World::small();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&b, 25).await;
    until_truncated(&world).await;
    let outcome = a.propose(create(1, "a")).await;
    assert!(matches!(outcome, Err(ProposeError::Meta(MetaError::OutcomeUnknown(_)))), "{outcome:?}");
    assert_eq!(a.read(|image| (image.revision, image.topics.len())), (25, 0));
    assert_eq!(a.propose(create(1, "a")).await.unwrap(), 26);
}

#[tokio::test(start_paused = true)]
async fn an_idle_poller_notices_within_thirty_polls() {
    let world = World::small();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    assert_eq!(a.catch_up().await.unwrap(), 0);
    fill(&b, 25).await;
    until_truncated(&world).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.catch_up_hint().await.unwrap(), 0, "nothing is at revision 1");
    let _poller = a.spawn_poller(Duration::from_secs(1));
    let mut revisions = a.subscribe();
    tokio::time::timeout(Duration::from_secs(31), revisions.wait_for(|revision| *revision == 25))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(a.read(Clone::clone), b.read(Clone::clone));
}

/// t5 of the model: deletion may not begin before the marker is durable, nor the marker before the snapshot is.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_before_snapshot_and_marker_are_there() {
    let world = World::small();
    let a = world.broker(1).await;
    world.store.script(Call::Create, truncate::CLOSED_PREFIX, [Fault::Refused(Answer::Denied)]);
    fill(&a, 12).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.keys(snapshot::PREFIX).await, ["00000000000000000010"]);
    assert_eq!(world.keys(bucket::PREFIX).await.len(), 12);

    world.store.script(Call::Read, &snapshot::key(20), [Fault::Corrupt; 3]);
    fill(&a, 10).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.keys(truncate::CLOSED_PREFIX).await.len(), 0, "the snapshot could not be read back");
    assert_eq!(world.keys(bucket::PREFIX).await.len(), 22);

    fill(&a, 10).await;
    eventually("the next one does all", async || world.keys(bucket::PREFIX).await.len() == 2).await;
    assert_eq!(world.keys(truncate::CLOSED_PREFIX).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_deletion_is_made_up_for() {
    let world = World::small();
    let a = world.broker(1).await;
    world.store.script(Call::Other, &bucket::key(4), vec![Fault::Refused(Answer::Denied); 1]);
    fill(&a, 10).await;
    eventually("closed", async || world.keys(truncate::CLOSED_PREFIX).await.len() == 1).await;
    tokio::time::sleep(HOUR).await;
    assert!(!world.keys(bucket::PREFIX).await.is_empty());
    fill(&a, 10).await;
    eventually("all deleted", async || world.keys(bucket::PREFIX).await.is_empty()).await;
    assert_eq!(world.keys(truncate::CLOSED_PREFIX).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_generation_without_a_snapshot_is_an_error_that_names_it() {
    let world = World::small();
    world.memory.create(&truncate::closed_key(0), "{}".into()).await.unwrap();
    let error = world.open(1, Arc::new(bucket::BucketTable::new(world.store.clone()))).await.err().unwrap();
    assert!(matches!(&error, MetaError::Unreadable { object, .. } if *object == truncate::closed_key(0)), "{error}");
}

/// Three brokers, small generations, a store that loses, delays and repeats, callers that give up, and a broker that is killed half-way:
/// every broker ends with one history, and what was answered with yes is in it. `ALLUVIUM_TEST_SEEDS` sets the number of schedules.
#[tokio::test(start_paused = true)]
async fn many_schedules_one_history() {
    let seeds = std::env::var("ALLUVIUM_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        schedule(seed).await;
    }
}

async fn schedule(seed: u64) {
    let options = MetaOptions { propose_timeout: HOUR, ..World::small().options };
    let world = World { options, ..World::small() };
    let mut brokers = Vec::new();
    for n in 0..3 {
        brokers.push(world.broker(seed * 10 + n).await);
    }
    world.store.set_rates(FaultRates {
        refused: 40,
        lost_answer: 60,
        lands_late: 60,
        delay: 100,
        hang: 3,
        truncated: 10,
        corrupt: 10,
        max_delay: Duration::from_secs(5 + seed % 3 * 60),
    });
    let made = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (index, broker) in (0u64..).zip(&brokers) {
        for lane in 0..3 {
            tasks.push(tokio::spawn(propose_topics(broker.clone(), seed, 1000 * index + 100 * lane, made.clone())));
        }
    }
    let kill_after = Duration::from_millis(200 + seed * 37 % 5000);
    tokio::time::sleep(kill_after).await;
    for task in tasks.drain(6..) {
        task.abort();
        let _cancelled = task.await;
    }
    drop(brokers.pop());
    for task in tasks {
        task.await.unwrap();
    }
    world.store.set_rates(FaultRates::default());
    tokio::time::sleep(HOUR).await;
    brokers.push(world.broker(seed * 10 + 9).await);
    for broker in &brokers {
        for _ in 0..31 {
            broker.catch_up().await.unwrap();
        }
    }
    let newest = brokers[2].read(Clone::clone);
    let made = made.lock().expect("no test thread panicked").clone();
    for broker in &brokers {
        broker.read(|image| assert!(*image == newest, "seed {seed}: {} and {}", image.revision, newest.revision));
    }
    assert!(made.iter().all(|id| newest.topics.contains_key(id)), "seed {seed}: an acknowledged topic is missing");
    assert!(made.len() > 40, "seed {seed}: only {} made", made.len());
}

/// Creates twelve topics one after the other and notes those that were answered with yes. Some callers wait for an instant only.
async fn propose_topics(broker: Arc<Metadata>, seed: u64, base: u64, made: Arc<Mutex<Vec<TopicId>>>) {
    for n in 1..=12 {
        let id = u128::from(base + n);
        let wait = if (seed + base / 100 + n).is_multiple_of(5) { Duration::from_millis(n * 10) } else { HOUR };
        match tokio::time::timeout(wait, broker.propose(create(id, &format!("t{id}")))).await {
            Ok(Ok(_)) => made.lock().expect("no test thread panicked").push(TopicId(id)),
            Err(_) | Ok(Err(ProposeError::Meta(MetaError::OutcomeUnknown(_) | MetaError::Unavailable(_)))) => {}
            Ok(Err(error)) => panic!("seed {seed}: {error}"),
        }
    }
}
