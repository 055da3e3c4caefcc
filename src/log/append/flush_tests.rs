//! When segments are sealed, how many go out side by side, and what they repeat.

use super::*;
use crate::log::partition::Partition;
use crate::log::slot::{PartitionSlot, SlotState};
use crate::segment::{BatchMeta, build};
use crate::store::fault::{Call, Fault, FaultRates, FaultStore};
use crate::store::memory::MemoryStore;
use crate::types::env::testing::{SeededEntropy, env};
use crate::types::{PartitionId, TopicId};

const SESSION: SessionId = SessionId { revision: 1, random: 1 };
const INTERVAL: Duration = Duration::from_millis(100);
const FLUSH_BYTES: usize = 300;

struct World {
    context: FlushContext,
    store: Arc<FaultStore>,
    slot: Arc<PartitionSlot>,
    drain: CancellationToken,
    flusher: tokio::task::JoinHandle<SessionEnd>,
    started: Instant,
}

impl World {
    fn new(inflight: usize, heartbeat: Option<Duration>) -> World {
        let memory = Arc::new(MemoryStore::shared());
        let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
        let env = env(1);
        let slots = Arc::new(Slots::default());
        let id = PartitionId { topic: TopicId(1), index: 0 };
        let (slot, _) = slots.insert(id);
        slot.settle(SlotState::Serving(Box::new(Partition::new(id, 0, 0))));
        let context = FlushContext {
            session: SESSION,
            appender: Arc::new(Appender::new(1, FLUSH_BYTES)),
            slots,
            store: store.clone(),
            tail: Arc::new(TailCache::new(1 << 20)),
            proof: Arc::new(Proof::new(env.clone(), None, Newest { number: 0, nonce: 1, sent_at: Duration::ZERO })),
            unmerged: Arc::new(crate::log::append::unmerged::Unmerged::new(600, 1, Duration::ZERO)),
            env,
            metrics: Metrics::new(),
        };
        let (extents, repeated) = (Vec::new(), Vec::new());
        let zero =
            SegmentDraft { session: SESSION, number: 0, nonce: 1, created_ms: 0, committed: 0, extents, repeated };
        let footer_zero = build(zero).expect("a segment").footer_bytes;
        let policy =
            FlushPolicy { interval: INTERVAL, quick: None, inflight, heartbeat, create: CreatePolicy::default() };
        let footers = vec![RepeatedFooter { number: 0, footer_bytes: footer_zero }];
        let flusher = Flusher::new(context.clone(), policy, footers);
        let drain = CancellationToken::new();
        let flusher = tokio::spawn(flusher.run(drain.clone()));
        World { context, store, slot, drain, flusher, started: Instant::now() }
    }

    /// One batch of a hundred bytes; gives its segment.
    fn append(&self) -> SegmentNumber {
        let meta = BatchMeta {
            base_offset: 0,
            last_offset_delta: 0,
            length: 100,
            record_count: 1,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            log_append_time: false,
            control: None,
        };
        let appended = self.context.appender.gather().append(&self.slot, Bytes::from_static(&[0; 100]), meta, &[], 0);
        appended.expect("it serves").admitted.segment.expect("a segment")
    }

    /// Waits for the commit of a segment and tells when that was.
    async fn committed(&self, number: SegmentNumber) -> Duration {
        self.context.appender.committed(number).await.expect("the session goes on");
        self.started.elapsed()
    }

    async fn objects(&self) -> usize {
        crate::store::Store::list(&*self.store, "", None, 1000).await.expect("lists").len()
    }

    async fn end(self) -> SessionEnd {
        self.drain.cancel();
        self.flusher.await.expect("ends")
    }
}

/// Timers count in whole milliseconds and may end one late.
fn near(found: Duration, expected: Duration) -> bool {
    found >= expected && found <= expected + Duration::from_millis(2)
}

#[tokio::test(start_paused = true)]
async fn an_idle_flusher_seals_at_once_a_busy_one_by_interval_or_bytes() {
    let world = World::new(4, None);
    tokio::time::sleep(INTERVAL * 5).await;
    let begin = world.started.elapsed();
    // (batches, the last one's segment, committed so much later than the first)
    for (batches, segment, after) in
        [(1, 1, Duration::ZERO), (1, 2, INTERVAL), (2, 3, INTERVAL * 2), (3, 4, INTERVAL * 2)]
    {
        let last = (0..batches).fold(0, |_, _| world.append());
        assert_eq!(last, segment);
        let at = world.committed(segment).await - begin;
        assert!(near(at, after), "segment {segment}: {at:?}, not {after:?}");
    }
    // What another broker waits for goes out before its time.
    let (last, asked) = (world.append(), world.started.elapsed());
    assert_eq!(world.context.appender.last_of_what_is_in(), last);
    assert!(near(world.committed(last).await, asked), "{last}");
    assert_eq!(world.context.appender.last_of_what_is_in(), last, "nothing is in");
    // So does what was parked while another broker led, a moment after what went out last: with what was parked beside it.
    world.slot.lock().partition().expect("it serves").taken_over(0);
    let (last, asked) = (world.append(), world.started.elapsed());
    assert_eq!(world.append(), last);
    assert!(near(world.committed(last).await - asked, AWAITED_PACE), "{last}");
    // What is left goes out at once on a clean end.
    let last = world.append();
    let asked = Instant::now();
    let appender = world.context.appender.clone();
    assert_eq!(world.end().await, SessionEnd::Drained);
    assert!(asked.elapsed() < INTERVAL / 2 && appender.committed_count() == last + 1 && appender.is_over());
}

#[tokio::test(start_paused = true)]
async fn no_more_uploads_go_out_side_by_side_than_allowed() {
    for inflight in [1, 3] {
        let world = World::new(inflight, None);
        let slow = Duration::from_secs(5);
        world.store.script(Call::Create, "", vec![Fault::DelayBefore(slow); 6]);
        let mut last = 0;
        for _ in 0..6 {
            last = world.append();
            tokio::time::sleep(INTERVAL * 2).await;
        }
        assert_eq!(world.context.metrics.uploads_in_flight.get(), inflight as i64);
        world.committed(last).await;
        assert_eq!((world.context.metrics.uploads_in_flight.get(), world.end().await), (0, SessionEnd::Drained));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_hears_of_an_idle_session() {
    let second = Duration::from_secs(1);
    for (heartbeat, objects) in [(None, 0), (Some(second * 3), 3)] {
        let world = World::new(2, heartbeat);
        tokio::time::sleep(second * 10).await;
        assert_eq!(world.objects().await, objects);
        assert_eq!(world.context.appender.committed_count(), 1 + objects as u64);
        assert_eq!(world.end().await, SessionEnd::Drained);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_heartbeat_counts_from_the_last_segment_of_the_start() {
    let ms = Duration::from_millis;
    // (age of that segment when the flusher begins, so long until the next one)
    for (age, wait) in [(0, 2900), (50, 2900), (1000, 2000), (2999, 1), (5000, 0)] {
        let world = World::new(2, None);
        tokio::time::sleep(ms(age)).await;
        let (interval, heartbeat) = (INTERVAL, Some(ms(3000)));
        let policy = FlushPolicy { interval, quick: None, inflight: 2, heartbeat, create: CreatePolicy::default() };
        let flusher = Flusher::new(world.context.clone(), policy, Vec::new());
        let due = flusher.due(&world.context.appender.state()).expect("an idle session writes");
        assert_eq!(due.saturating_duration_since(Instant::now()), ms(wait), "{age} ms");
    }
}

/// Neighbours close a session whose segments stay away, whatever it waits for.
#[tokio::test(start_paused = true)]
async fn no_pace_is_slower_than_the_heartbeat() {
    let ms = Duration::from_millis;
    // (pause between flushes, segments that are not merged, so long until the next one)
    for (interval, unmerged, wait) in [(100, 1, 100), (100, 1050, 1600), (1000, 1050, 3000), (60_000, 1, 3000)] {
        let world = World::new(2, None);
        let (interval, heartbeat) = (ms(interval), Some(ms(3000)));
        let policy = FlushPolicy { interval, quick: None, inflight: 2, heartbeat, create: CreatePolicy::default() };
        let flusher = Flusher::new(world.context.clone(), policy, Vec::new());
        world.context.unmerged.are_merged();
        for number in 2..2 + unmerged {
            let (bytes, batches, at) = (1, 1, Duration::ZERO);
            world.context.unmerged.note(SegmentNote { number, bytes, batches, at });
        }
        let state = OpenState { empty: false, full: false, urgent: false, awaited: false };
        let due = flusher.due(&state).expect("something waits");
        assert_eq!(due.saturating_duration_since(flusher.last_seal), ms(wait), "{interval:?}, {unmerged} unmerged");
    }
}

#[tokio::test(start_paused = true)]
async fn each_footer_is_repeated_once() {
    let world = World::new(2, None);
    let mut last = 0;
    while last < 2 * REPEAT_EVERY {
        last = world.append();
        world.committed(last).await;
    }
    let reader = FooterReader { store: world.store.clone(), env: world.context.env.clone() };
    for (number, repeated) in [(1, 0..0), (63, 0..0), (64, 0..64), (65, 0..0), (128, 64..128)] {
        let segment = reader.segment(SESSION, number).await.expect("it is there");
        assert_eq!(segment.footer.committed, number, "all before it, one after the other");
        let found: Vec<_> = segment.repeated.iter().map(|footer| footer.number).collect();
        assert_eq!(found, repeated.collect::<Vec<_>>(), "segment {number}");
    }
    assert_eq!(world.end().await, SessionEnd::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_fence_or_a_stranger_ends_the_session() {
    let key = segment::segment_key(SESSION, 1);
    let fence = segment::Fence { nonce: 1, created_ms: 0, session: SESSION, number: 1, fencer: None }.encode();
    for (object, fenced) in [(fence, true), (Bytes::from_static(&[7; 100]), false)] {
        let world = World::new(2, None);
        crate::store::Store::create(&*world.store, &key, object).await.expect("free");
        let number = world.append();
        let appender = world.context.appender.clone();
        appender.committed(number).await.expect_err("it was not committed");
        match world.end().await {
            SessionEnd::Fenced { number: 1 } => assert!(fenced),
            SessionEnd::Broken { reason } => assert!(!fenced && reason.contains(&key), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_interval_is_short_while_the_store_keeps_up() {
    let ms = Duration::from_millis;
    let quick = Some(Quick { uploads: 2, interval: ms(1) });
    let policy =
        |quick| FlushPolicy { interval: ms(5), quick, inflight: 8, heartbeat: None, create: CreatePolicy::default() };
    // (quick, uploads under way, pace)
    let table = [(None, 0, 5), (quick, 0, 1), (quick, 1, 1), (quick, 2, 5), (quick, 7, 5)];
    for (quick, uploads, pace) in table {
        assert_eq!(policy(quick).pace(uploads), ms(pace), "{quick:?} {uploads}");
    }
    let longer = Quick { uploads: 2, interval: ms(9) };
    assert_eq!(policy(Some(longer)).pace(0), ms(5), "never longer than the interval");
}
