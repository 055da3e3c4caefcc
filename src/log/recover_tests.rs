//! What recovery finds of tenures, footers that repeat, damage, and what is under way.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::meta::image::Tenure;
use crate::segment::{BatchMeta, ExtentDraft, SegmentDraft, build};
use crate::store::Store;
use crate::store::fault::{Call, Fault, FaultRates, FaultStore};
use crate::store::measure::MeasuredStore;
use crate::store::memory::MemoryStore;
use crate::types::TopicId;
use crate::types::env::testing::{SeededEntropy, env};

const A: SessionId = SessionId { revision: 1, random: 1 };
const B: SessionId = SessionId { revision: 2, random: 2 };

fn id(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index }
}

/// (partition, epoch, base offset, batches of one record)
type Written = (i32, i32, i64, i64);

fn extent((index, epoch, base, count): &Written) -> ExtentDraft {
    let batch = |base_offset| BatchMeta {
        base_offset,
        last_offset_delta: 0,
        length: 61,
        record_count: 1,
        max_timestamp: 0,
        producer_id: 9,
        producer_epoch: 0,
        base_sequence: i32::try_from(base_offset).expect("few records"),
        transactional: false,
        log_append_time: false,
        control: None,
    };
    let batches = (*base..base + count).map(|base| (Bytes::from_static(&[0; 61]), batch(base))).collect();
    ExtentDraft { partition: id(*index), epoch: *epoch, batches }
}

async fn write(store: &dyn Store, session: SessionId, segments: &[&[Written]]) {
    for (number, extents) in (0..).zip(segments) {
        let extents = extents.iter().map(extent).collect();
        let draft =
            SegmentDraft { session, number, nonce: 1, created_ms: 0, committed: number, extents, repeated: Vec::new() };
        let sealed = build(draft).expect("a segment");
        let _there_already = store.create(&segment_key(session, number), sealed.bytes).await;
    }
}

fn reader(store: StoreRef) -> FooterReader {
    FooterReader { store, env: env(1) }
}

fn state(tenures: &[(SessionId, i32, Option<u64>)], log_start: i64) -> PartitionState {
    let tenure =
        |(session, epoch, end): &(SessionId, i32, Option<u64>)| Tenure { session: *session, epoch: *epoch, end: *end };
    let epoch = tenures.last().map_or(0, |(_, epoch, _)| *epoch);
    PartitionState { epoch, holder: None, tenures: tenures.iter().map(tenure).collect(), log_start }
}

#[tokio::test(start_paused = true)]
async fn each_tenure_gives_what_it_committed() {
    let store = Arc::new(MemoryStore::shared());
    write(&*store, A, &[&[], &[(0, 0, 0, 2)], &[(0, 0, 2, 1), (1, 0, 0, 3)], &[(0, 0, 3, 1), (0, 2, 4, 1)]]).await;
    write(&*store, B, &[&[], &[(0, 1, 3, 1)], &[(1, 1, 3, 1), (2, 0, 1, 1)]]).await;
    let a_b = [(A, 0, Some(3)), (B, 1, Some(3))];
    // (partition, tenures, log start, next offset or the object and offset of the error)
    let table: &[(i32, &[_], i64, Result<i64, &str>)] = &[
        (0, &[], 0, Ok(0)),
        (0, &[], 7, Ok(7)),
        (0, &a_b[..1], 0, Ok(3)),
        (0, &a_b, 0, Ok(4)),
        (0, &a_b, 2, Ok(4)),
        (0, &a_b, 9, Ok(9)),
        (1, &a_b, 0, Ok(4)),
        (0, &[(A, 0, Some(2))], 0, Ok(2)),
        (0, &[(A, 0, None)], 0, Ok(0)),
        (0, &[(A, 0, Some(3)), (B, 1, Some(3)), (A, 2, Some(4))], 0, Ok(5)),
        (0, &[(A, 0, Some(2)), (B, 1, Some(3))], 0, Err("expected offset 2, found an extent from 3")),
        (0, &[(B, 1, Some(3)), (A, 0, Some(3))], 0, Err("expected offset 0, found an extent from 3")),
        (2, &a_b, 0, Ok(0)),
        (2, &[(B, 0, Some(3))], 0, Err("expected offset 0, found an extent from 1")),
        (0, &[(A, 0, Some(5))], 0, Err("00000000000000000004: a committed segment is missing")),
    ];
    for (index, tenures, log_start, expected) in table {
        let wanted = [(id(*index), state(tenures, *log_start))];
        let (_, found) = recover(&reader(store.clone()), &wanted, &Merges::default(), &BTreeSet::new()).await.remove(0);
        match (found, expected) {
            (Ok(partition), Ok(next)) => {
                let ends = (partition.next_offset(), partition.high_watermark(), partition.log_start());
                assert_eq!(ends, (*next, *next, *log_start), "{wanted:?}");
                assert_eq!(
                    partition.producers().len(),
                    usize::from(partition.index().iter().count() > 0 || *log_start == 9)
                );
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{wanted:?}: {error}"),
            (found, expected) => panic!("{wanted:?}: {found:?}, not {expected:?}"),
        }
    }
    // Side by side each has its own end, and the failure of one is not the other's.
    let both = [(id(0), state(&[(A, 0, Some(2))], 0)), (id(1), state(&a_b, 0)), (id(2), state(&[(B, 0, Some(3))], 0))];
    let next: Vec<_> = recover(&reader(store), &both, &Merges::default(), &BTreeSet::new())
        .await
        .into_iter()
        .map(|(_, p)| p.ok().map(|p| p.next_offset()))
        .collect();
    assert_eq!(next, [Some(2), Some(4), None]);
}

/// The end may fall on a segment that would repeat footers: it need not be there.
#[tokio::test(start_paused = true)]
async fn nothing_is_read_behind_the_end() {
    let store = Arc::new(MemoryStore::shared());
    let extents: Vec<[Written; 1]> = (0..130).map(|at| [(0, 0, at, 1)]).collect();
    let segments: Vec<&[Written]> = extents.iter().map(|extent| &extent[..]).collect();
    write(&*store, A, &segments[..128]).await;
    for end in [1, 63, 64, 65, 127, 128] {
        let footers = reader(store.clone()).footers(A, 0, end).await.expect("all are there");
        assert_eq!(footers.iter().map(|footer| footer.number).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
    }
    let missing = reader(store).footers(A, 0, 129).await.expect_err("one is missing").to_string();
    assert!(missing.contains(&segment_key(A, 128)), "{missing}");
}

/// The last segments are read beside those that repeat the others: what a partition's successor waits for is one round trip.
#[tokio::test(start_paused = true)]
async fn footers_are_one_round_trip() {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let memory = Arc::new(MemoryStore::shared());
    let extents: Vec<[Written; 1]> = (0..90).map(|at| [(0, 0, at, 1)]).collect();
    let mut footers = Vec::new();
    for (number, extents) in (0..).zip(&extents) {
        let extents = extents.iter().map(extent).collect();
        let repeated = if number == REPEAT_EVERY { footers.clone() } else { Vec::new() };
        let draft = SegmentDraft { session: A, number, nonce: 1, created_ms: 0, committed: number, extents, repeated };
        let sealed = build(draft).expect("a segment");
        memory.create(&segment_key(A, number), sealed.bytes).await.expect("free");
        footers.push(crate::segment::RepeatedFooter { number, footer_bytes: sealed.footer_bytes });
    }
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    store.script(Call::Read, "", vec![Fault::DelayBefore(ROUND_TRIP); 1000]);
    // (from, end, round trips)
    let table = [(0, 1, 1), (0, 30, 1), (0, 65, 1), (0, 66, 1), (0, 90, 1), (40, 90, 1), (64, 90, 1), (65, 90, 1)];
    for (from, end, trips) in table {
        let begun = Instant::now();
        let found = reader(store.clone()).footers(A, from, end).await.expect("all are there");
        let numbers: Vec<_> = found.iter().map(|footer| footer.number).collect();
        assert_eq!(numbers, (from..end).collect::<Vec<_>>());
        let took = begun.elapsed();
        assert!(took < ROUND_TRIP * trips + ROUND_TRIP / 2, "{from}..{end}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_footer_is_read_again_when_it_is_long_or_damaged() {
    let memory = Arc::new(MemoryStore::shared());
    write(&*memory, A, &[&[]]).await;
    write(&*memory, B, &[&[(0, 0, 0, 20_000)]]).await;
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    let long = reader(store.clone()).segment(B, 0).await.expect("it is there");
    assert_eq!(long.footer.extents[0].next_offset, 20_000);
    for (looks, good) in [(0, true), (1, true), (DAMAGED_LOOKS, true), (DAMAGED_LOOKS + 1, false)] {
        store.script(Call::Read, "", vec![Fault::Corrupt; looks]);
        let read = reader(store.clone()).segment(A, 0).await;
        assert_eq!(read.is_ok(), good, "damaged {looks} times: {read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_waited_for_and_nothing_is_read_twice_meanwhile() {
    const LATE: Duration = Duration::from_millis(300);
    let memory = Arc::new(MemoryStore::shared());
    let segments: [&[Written]; 4] = [&[], &[(0, 0, 0, 2)], &[(0, 0, 2, 1)], &[(0, 0, 3, 1)]];
    write(&*memory, A, &segments[..3]).await;
    let measured = Arc::new(MeasuredStore::new(memory.clone(), env(1).clock));
    let (reads, reader) = (measured.stats(), reader(measured));
    let wanted = [(id(0), state(&[(A, 0, Some(4))], 0))];
    let find = async |living: &[SessionId]| {
        let living = living.iter().copied().collect();
        let (_, found) = recover(&reader, &wanted, &Merges::default(), &living).await.remove(0);
        found.map(|partition| partition.next_offset())
    };
    assert!(matches!(find(&[B]).await, Err(RecoveryError::Missing { .. })), "its session is over");
    let before = reads.snapshot().operations[1].calls;
    let begun = Instant::now();
    let late = async {
        tokio::time::sleep(LATE).await;
        write(&*memory, A, &segments).await;
    };
    let (found, ()) = tokio::join!(find(&[A]), late);
    assert_eq!(found.expect("all are there"), 4);
    assert!(begun.elapsed() <= LATE + LONGEST_AWAITED_PAUSE * 2, "{:?}", begun.elapsed());
    let reads = reads.snapshot().operations[1].calls - before;
    assert!((5..=15).contains(&reads), "{reads} reads: each segment once, and the late one now and then");
}
