//! The runtime: proposals under races, lost answers and callers that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use alluvium::meta::entry::{Change, Entry};
use alluvium::meta::rules::RuleError;
use alluvium::meta::table::Table;
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::table::faults::AppendFault;
use alluvium::meta::{MetaError, Metadata, ProposeError};
use alluvium::store::distant::DistantStore;
use alluvium::types::TopicId;
use alluvium::types::env::Entropy;
use alluvium::types::env::testing::{SeededEntropy, env};
use tokio::time::Instant;

use crate::world::{Exists, World, always, create, eventually, fill, open_session, session, topic, ttl};

/// The changes of every revision in the table.
async fn table(world: &World) -> Vec<Vec<Change>> {
    let bodies = world.table.read(1, 10_000).await.expect("reads").bodies;
    (1..).zip(bodies).map(|(revision, body)| Entry::decode(revision, &body).expect("an entry").changes).collect()
}

#[tokio::test(start_paused = true)]
async fn what_one_proposes_the_other_reads() {
    let world = World::new();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    assert_eq!(a.cluster_id(), b.cluster_id());
    assert_eq!(a.cluster_id().len(), 22);
    let mut seen = b.subscribe();
    assert_eq!(a.propose(create(1, "a")).await.unwrap(), 1);
    assert!(a.read(|image| image.names.contains_key("a")));
    assert_eq!(b.catch_up().await.unwrap(), 1);
    assert_eq!(*seen.borrow_and_update(), 1);
    assert_eq!(a.read(Clone::clone), b.read(Clone::clone));
    assert_eq!(a.propose(always(vec![])).await.unwrap(), 1, "nothing to do");
    let late = world.broker(3).await;
    assert_eq!(late.read(Clone::clone), a.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn races_are_lost_and_tried_again() {
    let world = World::new();
    let brokers = [world.broker(1).await, world.broker(2).await, world.broker(3).await];
    let mut tasks = Vec::new();
    for n in 0..30u128 {
        let broker = brokers[n as usize % 3].clone();
        let name = if n < 27 { format!("t{n}") } else { "same".to_owned() };
        tasks.push(tokio::spawn(async move { broker.propose(create(n + 1, &name)).await }));
    }
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => {}
            Err(ProposeError::Refused(Exists)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 2);
    for broker in &brokers {
        broker.catch_up().await.unwrap();
        assert_eq!(broker.read(Clone::clone), brokers[0].read(Clone::clone));
    }
    assert_eq!(brokers[0].read(|image| image.topics.len()), 28);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_the_change_once() {
    use AppendFault::{Delay, Duplicate, LoseAnswer, LoseRequest};
    for faults in
        [vec![LoseAnswer], vec![LoseRequest; 3], vec![Duplicate], vec![Delay], vec![Delay, LoseRequest, LoseAnswer]]
    {
        let world = World::new();
        let a = world.faulty_broker(1).await;
        world.table.script(faults.clone());
        assert_eq!(a.propose(create(1, "a")).await.unwrap(), 1, "{faults:?}");
        world.table.land().await;
        assert_eq!(a.propose(create(2, "b")).await.unwrap(), 2, "{faults:?}");
        assert_eq!(table(&world).await, [vec![topic(1, "a", 1)], vec![topic(2, "b", 1)]], "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_append_that_lost_is_built_again() {
    let world = World::new();
    let (a, b) = (world.faulty_broker(1).await, world.broker(2).await);
    world.table.script([AppendFault::Delay]);
    let pending = tokio::spawn({
        let a = a.clone();
        async move { a.propose(create(1, "a")).await }
    });
    eventually("on the way", async || world.table.on_the_way() == 1).await;
    // The answer is lost, the entry not yet there: b is first.
    b.propose(create(2, "b")).await.unwrap();
    assert_eq!(pending.await.unwrap().unwrap(), 2);
    world.table.land().await;
    assert_eq!(table(&world).await, [vec![topic(2, "b", 1)], vec![topic(1, "a", 1)]]);
}

#[tokio::test(start_paused = true)]
async fn while_the_outcome_is_unknown_nobody_acts() {
    let world = World::new();
    let a = world.faulty_broker(1).await;
    world.table.otherwise(AppendFault::LoseRequest);
    world.table.script([AppendFault::Delay]);
    let outcome = a.propose(create(1, "a")).await;
    assert!(matches!(outcome, Err(ProposeError::Meta(MetaError::OutcomeUnknown(_)))), "{outcome:?}");
    assert_eq!(a.read(|image| (image.revision, image.topics.len())), (0, 0));
    world.table.land().await;
    eventually("its own entry is found", async || a.read(|image| image.names.contains_key("a"))).await;
    world.table.otherwise(AppendFault::None);
    assert_eq!(a.propose(create(2, "b")).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_append_nobody_waits_for_is_resolved_by_a_no_op() {
    let world = World::new();
    let a = world.faulty_broker(1).await;
    world.table.script([AppendFault::Delay]);
    let dropped = tokio::time::timeout(Duration::from_millis(1), a.propose(create(1, "a"))).await;
    assert!(dropped.is_err());
    // The next proposal comes after the first is resolved, on either outcome.
    assert_eq!(a.propose(create(2, "a")).await.unwrap(), 2);
    world.table.land().await;
    assert_eq!(table(&world).await, [vec![Change::Nop {}], vec![topic(2, "a", 1)]]);

    world.table.script([AppendFault::LoseAnswer]);
    let dropped = tokio::time::timeout(Duration::from_millis(1), a.propose(create(3, "c"))).await;
    assert!(dropped.is_err());
    assert!(matches!(a.propose(create(4, "c")).await, Err(ProposeError::Refused(Exists))), "it had happened");
}

#[tokio::test(start_paused = true)]
async fn a_plain_no_is_an_answer() {
    let world = World::new();
    let a = world.faulty_broker(1).await;
    world.table.script([AppendFault::Deny]);
    assert!(matches!(a.propose(create(1, "a")).await, Err(ProposeError::Meta(MetaError::Unavailable(_)))));
    // After an attempt of unknown outcome it is none.
    world.table.script([AppendFault::LoseRequest, AppendFault::Deny]);
    assert_eq!(a.propose(create(1, "a")).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn proposals_that_wait_together_become_one_entry() {
    let world = World::new();
    let a = world.broker(1).await;
    let proposals = (0..100u128).map(|n| {
        let a = a.clone();
        async move { a.propose(create(n + 1, &format!("t{}", n % 60))).await }
    });
    let results = futures::future::join_all(proposals).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 60);
    assert_eq!(results.iter().filter(|result| matches!(result, Err(ProposeError::Refused(Exists)))).count(), 40);
    let entries = table(&world).await;
    assert!(entries.len() <= 2, "{}", entries.len());
    assert_eq!(a.read(|image| image.topics.len()), 60);
    let fresh = world.broker(2).await;
    assert_eq!(fresh.read(Clone::clone), a.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_due_to_a_change_that_was_lost_is_taken_back() {
    let world = World::new();
    let (a, b) = (world.faulty_broker(1).await, world.broker(2).await);
    world.table.script([AppendFault::LoseRequest]);
    let unless_blocked = |image: &alluvium::meta::image::Image| {
        if image.names.contains_key("block") { Err(Exists) } else { Ok(vec![topic(1, "x", 1)]) }
    };
    let pair = tokio::spawn({
        let a = a.clone();
        // Both are in one entry; the second is refused because of the first.
        async move { tokio::join!(a.propose(unless_blocked), a.propose(create(2, "x"))) }
    });
    eventually("sent", async || world.table.sent() == 1).await;
    b.propose(create(3, "block")).await.unwrap();
    let (first, second) = pair.await.unwrap();
    assert!(matches!(first, Err(ProposeError::Refused(Exists))), "{first:?}");
    assert_eq!(second.unwrap(), 2);
    assert_eq!(a.read(|image| image.names["x"]), TopicId(2));
}

#[tokio::test(start_paused = true)]
async fn no_is_said_only_on_the_newest_image() {
    let world = World::new();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    a.propose(create(1, "a")).await.unwrap();
    b.catch_up().await.unwrap();
    a.propose(always(vec![Change::DeleteTopic { id: TopicId(1) }])).await.unwrap();
    assert_eq!(b.propose(create(2, "a")).await.unwrap(), 3, "b had not yet heard of the deletion");
}

#[tokio::test(start_paused = true)]
async fn rules_and_sizes_are_checked() {
    let world = World::new();
    let a = world.broker(1).await;
    let outcome = a.propose(always(vec![topic(1, "a", 1), topic(2, "a", 1)])).await;
    assert!(matches!(outcome, Err(ProposeError::Rule(RuleError::TopicExists { .. }))), "{outcome:?}");
    assert_eq!(a.read(|image| image.topics.len()), 0, "all or none");
    let two = always(vec![open_session(1, 1), open_session(1, 2)]);
    assert!(matches!(a.propose(two).await, Err(ProposeError::Rule(_))));
    let many = (0..3000).map(|n| topic(n + 1, &format!("{n:0100}"), 1)).collect();
    assert!(matches!(a.propose(always(many)).await, Err(ProposeError::TooLarge { .. })));
    assert!(table(&world).await.is_empty());

    // Big ones and session openers that wait together take entries of their own.
    let half: Vec<Change> = (0..800).map(|n| topic(n + 1, &format!("{n:0100}"), 1)).collect();
    let other: Vec<Change> = (800..1600).map(|n| topic(n + 1, &format!("{n:0100}"), 1)).collect();
    let both = tokio::join!(a.propose(always(half)), a.propose(always(other)));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (1, 2));
    let both = tokio::join!(a.propose(always(vec![open_session(1, 7)])), a.propose(always(vec![open_session(2, 7)])));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (3, 4));
    assert!(a.read(|image| image.sessions.contains_key(&session(3, 7)) && image.sessions.contains_key(&session(4, 7))));
}

#[tokio::test(start_paused = true)]
async fn build_sees_the_producer_ids_it_takes() {
    let world = World::new();
    let brokers = [world.broker(1).await, world.broker(2).await];
    brokers[0].propose(always(vec![open_session(1, 7)])).await.unwrap();
    brokers[1].catch_up().await.unwrap();
    let mut blocks = Vec::new();
    for round in 0..10 {
        let allocate = |broker: Arc<alluvium::meta::Metadata>| async move {
            let first = Arc::new(AtomicI64::new(-1));
            let seen = first.clone();
            let build = move |image: &alluvium::meta::image::Image| {
                seen.store(image.next_producer_id, Ordering::Relaxed);
                Ok::<_, Exists>(vec![Change::AllocateProducerIds { session: session(1, 7), count: 1000 }])
            };
            broker.propose(build).await.expect("allocates");
            first.load(Ordering::Relaxed)
        };
        let one = brokers[0].clone();
        let (a, b, c) = tokio::join!(allocate(one.clone()), allocate(brokers[1].clone()), allocate(one));
        blocks.extend([a, b, c]);
        assert_eq!(blocks.len(), 3 * (round + 1));
    }
    blocks.sort_unstable();
    assert_eq!(blocks, (0..30).map(|n| n * 1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn hints_are_cheap_and_polls_follow() {
    let world = World::new();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    a.propose(create(1, "a")).await.unwrap();
    assert_eq!(b.catch_up_hint().await.unwrap(), 0, "read a moment ago");
    tokio::time::sleep(Duration::from_millis(51)).await;
    assert_eq!(b.catch_up_hint().await.unwrap(), 1);
    let poller = b.spawn_poller(Duration::from_millis(500));
    a.propose(create(2, "b")).await.unwrap();
    let mut revisions = b.subscribe();
    tokio::time::timeout(Duration::from_secs(1), revisions.wait_for(|revision| *revision == 2)).await.unwrap().unwrap();
    drop(b);
    tokio::time::timeout(Duration::from_secs(1), poller).await.expect("ends with the metadata").unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_are_tried_again_and_give_up_in_time() {
    let world = World::new();
    let a = world.faulty_broker(1).await;
    world.table.fail_reads(3);
    assert_eq!(a.catch_up().await.unwrap(), 0);
    world.table.fail_reads(usize::MAX);
    assert!(matches!(a.catch_up().await, Err(MetaError::Unavailable(_))));
    world.table.fail_reads(0);
    assert_eq!(a.propose(always(vec![ttl(1)])).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_build_is_the_end_and_is_seen() {
    let world = World::new();
    let a = world.broker(1).await;
    let outcome = a.propose(|_| -> Result<Vec<Change>, Exists> { panic!("a bug") }).await;
    assert!(outcome.is_err());
    assert!(matches!(a.stopped().await, MetaError::Stopped(reason) if reason.contains("panicked")));
    assert!(matches!(a.catch_up().await, Err(MetaError::Stopped(_))));
}

/// A broker that is far from the bucket changes the table while others, who are near, change it all the time: it loses often, so each loss must
/// be short, from the read that sees the newest revision to the append behind it above all.
#[tokio::test(start_paused = true)]
async fn who_is_far_away_gets_its_turn_among_the_busy() {
    const TRIP: Duration = Duration::from_millis(350);
    const PROPOSALS: u32 = 40;
    let world = World::new();
    let near = world.broker(1).await;
    let distant = Arc::new(DistantStore::new(world.memory.clone(), TRIP));
    let table = Arc::new(BucketTable::new(distant.clone()));
    let far = Metadata::open(distant, table, env(2), world.options.clone()).await.expect("opens");
    let entropy = SeededEntropy::new(3);
    let busy = tokio::spawn(async move {
        loop {
            // Two changes in three seconds.
            tokio::time::sleep(Duration::from_millis(entropy.next_u64() % 3000)).await;
            fill(&near, 1).await;
        }
    });
    let begun = Instant::now();
    for number in 0..PROPOSALS {
        far.propose(create(u128::from(number) + 1, &format!("t{number}"))).await.expect("changes");
    }
    busy.abort();
    let mean = begun.elapsed() / PROPOSALS;
    println!("a change takes {mean:?}");
    assert!(mean < TRIP * 6, "a change takes {mean:?} of a table that is {TRIP:?} away");
}
