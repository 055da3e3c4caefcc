//! `create_once` through a store that fails: it says Ours exactly when our bytes are the object, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use alluvium::store::create::{CreateError, CreateOnce, CreatePolicy, Created, create_once};
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::hedge::HedgeTracker;
use alluvium::store::memory::MemoryStore;
use alluvium::store::{ReadRange, Store, StoreRef};
use alluvium::types::env::Env;
use alluvium::types::env::testing::{SeededEntropy, env};
use bytes::Bytes;

use crate::backends::Backend;

crate::on_every_store!(racers_agree_through_faults);

const KEY: &str = "segments/s/0";
const SECOND: Duration = Duration::from_secs(1);

/// A body that ends in the writer's own bytes and begins like everybody's.
fn body(writer: u8) -> Bytes {
    let mut body = vec![7; 100];
    body.extend([writer; 16]);
    Bytes::from(body)
}

fn request(writer: u8) -> CreateOnce {
    CreateOnce { key: KEY.to_owned(), body: body(writer), identity_bytes: 16 }
}

fn patient() -> CreatePolicy {
    CreatePolicy { attempt_timeout: SECOND, deadline: Some(600 * SECOND), ..CreatePolicy::default() }
}

fn theirs(writer: u8) -> Created {
    Created::Theirs { tail: Bytes::from(vec![writer; 16]), object_size: 116 }
}

fn faulty(rates: FaultRates, seed: u64) -> (Arc<MemoryStore>, Arc<FaultStore>) {
    let memory = Arc::new(MemoryStore::new());
    let inner: StoreRef = memory.clone();
    (memory, FaultStore::new(inner, Arc::new(SeededEntropy::new(seed)), rates))
}

/// Everything that can happen to a create and is no refusal for good.
fn create_faults() -> Vec<Fault> {
    let mut faults = vec![Fault::Hang, Fault::HangAfter, Fault::DelayBefore(SECOND / 2), Fault::DelayAfter(3 * SECOND)];
    for answer in [Answer::Taken, Answer::Busy, Answer::Maybe] {
        faults.extend([Fault::Refused(answer), Fault::LostAnswer(answer)]);
        for after in [Duration::ZERO, SECOND / 50, 30 * SECOND] {
            faults.push(Fault::LandsLate { answer, after });
        }
    }
    faults.push(Fault::LostAnswer(Answer::Denied));
    faults
}

fn read_faults() -> Vec<Fault> {
    vec![
        Fault::Refused(Answer::Maybe),
        Fault::Refused(Answer::Busy),
        Fault::Refused(Answer::Denied),
        Fault::LostAnswer(Answer::Maybe),
        Fault::Hang,
        Fault::DelayAfter(SECOND / 2),
        Fault::Truncated,
        Fault::Corrupt,
    ]
}

/// Each fault of a create, followed by each of a read, on a free and on a taken name.
#[tokio::test(start_paused = true)]
async fn one_fault_of_each_kind() {
    for create_fault in create_faults() {
        for read_fault in read_faults() {
            for owner in [None, Some(9)] {
                let (memory, store) = faulty(FaultRates::default(), 1);
                if let Some(owner) = owner {
                    memory.create(KEY, body(owner)).await.expect("free");
                }
                // A denial is an answer; only one that hides a success is a fault to get over.
                let denied = create_fault == Fault::LostAnswer(Answer::Denied);
                let mut faults = vec![create_fault];
                if denied {
                    faults.insert(0, Fault::Refused(Answer::Maybe));
                }
                store.script(Call::Create, KEY, faults);
                store.script(Call::Read, KEY, [read_fault]);
                let result = create_once(store.as_ref(), &env(2), request(1), &patient()).await.expect("an outcome");
                let expected = owner.map_or(Created::Ours, theirs);
                assert_eq!(result, expected, "{create_fault:?} {read_fault:?} {owner:?}");
                tokio::time::sleep(60 * SECOND).await;
                let read = memory.read(KEY, ReadRange::Full).await.expect("there");
                assert_eq!(read.bytes, body(owner.unwrap_or(1)), "{create_fault:?} {read_fault:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_refusal_ends_it_at_once() {
    let (memory, store) = faulty(FaultRates::default(), 1);
    store.set_denied(true);
    let result = create_once(store.as_ref(), &env(2), request(1), &CreatePolicy::default()).await;
    assert!(matches!(result, Err(CreateError::Permanent { .. })), "{result:?}");
    assert_eq!((store.injected().refused, memory.usage().0), (1, 0));
}

/// The trap: an unclear attempt, then denials, then the attempt lands. "Denied" would let the caller use the name again.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_unclear_attempt_does_not_end_it() {
    let (memory, store) = faulty(FaultRates::default(), 1);
    store.script(Call::Create, KEY, [Fault::LandsLate { answer: Answer::Maybe, after: 5 * SECOND }]);
    store.script(Call::Create, KEY, [Fault::Refused(Answer::Denied); 100]);
    let result = create_once(store.as_ref(), &env(2), request(1), &CreatePolicy::default()).await;
    assert_eq!(result.expect("it lands"), Created::Ours);
    assert_eq!(memory.usage().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_the_outcome_open() {
    let (_, store) = faulty(FaultRates { refused: 1000, ..FaultRates::default() }, 1);
    let policy = CreatePolicy { deadline: Some(10 * SECOND), ..CreatePolicy::default() };
    let started = tokio::time::Instant::now();
    let result = create_once(store.as_ref(), &env(2), request(1), &policy).await;
    assert!(matches!(result, Err(CreateError::Deadline { .. })), "{result:?}");
    assert!(started.elapsed() >= 10 * SECOND && started.elapsed() < 12 * SECOND);
}

/// Somebody else's object of another size whose tail is like ours is not ours; nor is an empty one.
#[tokio::test(start_paused = true)]
async fn only_the_whole_identity_is_ours() {
    for other in [Bytes::from(vec![1; 16]), Bytes::from(vec![1; 5]), Bytes::new()] {
        let memory = MemoryStore::new();
        memory.create(KEY, other.clone()).await.expect("free");
        let result = create_once(&memory, &env(2), request(1), &patient()).await.expect("an outcome");
        let expected = Created::Theirs { object_size: other.len() as u64, tail: other };
        assert_eq!(result, expected);
    }
}

/// Seeded storms: three writers of one name, each behind a failing connection of its own.
#[tokio::test(start_paused = true)]
async fn racers_agree_through_storms() {
    let mut injected_total = 0;
    for seed in 0..600 {
        let memory = Arc::new(MemoryStore::new());
        let rates = FaultRates {
            refused: 100,
            lost_answer: 150,
            lands_late: 200,
            delay: 200,
            hang: 50,
            truncated: 100,
            // Two reads with the same wrong bit are believed; a store that flips many is broken, not stormy.
            corrupt: 20,
            max_delay: 20 * SECOND,
        };
        let hedge = Arc::new(HedgeTracker::new());
        for _ in 0..2000 {
            hedge.request();
        }
        (0..100).for_each(|_| hedge.record(SECOND / 10));
        let writers: Vec<_> = (1..=3u8)
            .map(|writer| {
                let entropy = Arc::new(SeededEntropy::new(seed * 10 + u64::from(writer)));
                let store = FaultStore::new(memory.clone(), entropy, rates.clone());
                let policy = CreatePolicy { hedge: Some(hedge.clone()), ..patient() };
                let environment = env(seed);
                let task = async move {
                    let result = create_once(store.as_ref(), &environment, request(writer), &policy).await;
                    let injected = store.injected();
                    (result, injected.lost_answers + injected.late_landings + injected.corrupt)
                };
                tokio::spawn(task)
            })
            .collect();
        let mut results = Vec::new();
        for writer in writers {
            let (result, injected) = writer.await.expect("ends");
            results.push(result.expect("an outcome"));
            injected_total += injected;
        }
        tokio::time::sleep(60 * SECOND).await;
        check_agreement(memory.as_ref(), &results, seed).await;
    }
    assert!(injected_total > 600, "the storms blew: {injected_total}");
}

/// One writer has it, all others name that one, and its bytes are the object.
async fn check_agreement(store: &dyn Store, results: &[Created], seed: u64) {
    let owners: Vec<u8> =
        (1u8..).zip(results).filter(|(_, result)| **result == Created::Ours).map(|(i, _)| i).collect();
    assert_eq!(owners.len(), 1, "seed {seed}: {results:?}");
    for (writer, result) in (1u8..).zip(results) {
        let expected = if writer == owners[0] { Created::Ours } else { theirs(owners[0]) };
        assert_eq!(*result, expected, "seed {seed}, writer {writer}");
    }
    let read = store.read(KEY, ReadRange::Full).await.expect("there");
    assert_eq!(read.bytes, body(owners[0]), "seed {seed}");
}

/// On the real stores, in real time, so with short delays and one name only.
async fn racers_agree_through_faults(backend: &Backend) {
    let rates = FaultRates {
        refused: 100,
        lost_answer: 250,
        lands_late: 200,
        delay: 100,
        truncated: 100,
        corrupt: 20,
        max_delay: SECOND / 10,
        ..FaultRates::default()
    };
    let environment = Env::system();
    let seed = environment.entropy.next_u64();
    let writers: Vec<_> = (1..=4u8)
        .map(|writer| {
            let entropy = Arc::new(SeededEntropy::new(seed.wrapping_add(u64::from(writer))));
            let store = FaultStore::new(backend.store.clone(), entropy, rates.clone());
            let environment = environment.clone();
            tokio::spawn(async move { create_once(store.as_ref(), &environment, request(writer), &patient()).await })
        })
        .collect();
    let mut results = Vec::new();
    for writer in writers {
        results.push(writer.await.expect("ends").expect("an outcome"));
    }
    tokio::time::sleep(SECOND / 5).await;
    check_agreement(backend.store.as_ref(), &results, seed).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_is_sent_a_second_time() {
    let (_, store) = faulty(FaultRates::default(), 1);
    let hedge = Arc::new(HedgeTracker::new());
    let policy = CreatePolicy { hedge: Some(hedge.clone()), ..CreatePolicy::default() };
    let environment = env(3);
    let create = |number: u32| {
        let (store, environment, policy) = (store.clone(), environment.clone(), policy.clone());
        async move {
            let request = CreateOnce { key: format!("s/{number}"), ..request(1) };
            create_once(store.as_ref(), &environment, request, &policy).await.expect("an outcome")
        }
    };
    for number in 0..100 {
        assert_eq!(create(number).await, Created::Ours);
    }
    assert_eq!(hedge.hedges_sent(), 0);
    store.script(Call::Create, "s/100", [Fault::Hang]);
    let started = tokio::time::Instant::now();
    assert_eq!(create(100).await, Created::Ours);
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!(hedge.hedges_sent(), 1);

    // The slow one lands first, the second is told "taken": a look settles it.
    store.script(Call::Create, "s/101", [Fault::DelayAfter(5 * SECOND)]);
    assert_eq!(create(101).await, Created::Ours);
    assert_eq!(hedge.hedges_sent(), 2);

    // A refusal of one proves nothing while the other is under way.
    store.script(Call::Create, "s/105", [Fault::DelayBefore(5 * SECOND), Fault::Refused(Answer::Denied)]);
    for number in 110..150 {
        assert_eq!(create(number).await, Created::Ours);
    }
    assert_eq!(create(105).await, Created::Ours);
    assert_eq!(hedge.hedges_sent(), 3);

    // Within the quiet time after "slow down" nothing is sent twice.
    store.script(Call::Create, "s/102", [Fault::Refused(Answer::Busy), Fault::DelayAfter(2 * SECOND)]);
    assert_eq!(create(102).await, Created::Ours);
    assert_eq!(hedge.hedges_sent(), 3);
}
