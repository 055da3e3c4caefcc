//! Reads requests, frame by frame, within bounds whatever the client declares and however slowly it sends.
//!
//! The first twelve bytes tell which API it is and so how long the frame may be; memory follows the bytes that arrive. They are charged
//! as they arrive, those of Produce to one budget, those of other brokers to one of theirs and all others to a third; when it is used up, the socket is not read. A frame that
//! comes in one piece is charged when it is there. Those that come in several have three quarters of each budget together, the small,
//! the middling and the long ones each a share of their own, so that nobody waits behind frames longer than his; and of each share those
//! that take their time have a third: clients who begin frames and do not end them leave room to those who do.
//!
//! A long frame is charged step by step and holds what it has while it waits for more. One that is not long is charged whole when its
//! first bytes have arrived: what it then needs is its client's to send, it never waits for another frame that waits. A slow frame
//! for which nothing is left, and one that is too slow while a good part of its share is taken, ends its connection.
//!
//! Of what comes behind a request that may wait for minutes only the head is read, unless it carries records, until that is answered: it
//! would hold its room for as long. (Kafka reads nothing at all behind a request that is not answered.)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::connection::{Ended, STALL_LIMIT};
use super::places::Guest;
use crate::config::KafkaSettings;
use crate::log::Log;
use crate::log::append::budget::{Budget, Charge};
use crate::wire::link::{self, is_ask};
use crate::wire::table;

/// Bytes of a frame are read in steps of this at most, and charged as they have arrived: whoever declares much and sends nothing
/// holds nothing.
const READ_STEP: usize = 256 << 10;

/// Under pressure: each connection holds so much more than its charge.
const PRESSED_STEP: usize = 64 << 10;

/// Memory for the first bytes of a frame; one that is no longer is small.
const FIRST_CAPACITY: usize = 64 << 10;

/// A frame up to this is charged whole, as soon as it is seen to come in several pieces.
const WHOLE: usize = 1 << 20;

/// When they have arrived, memory is reserved up to this at once (pages that are not written cost little), and when so much has arrived,
/// for all of the frame.
const CAPACITY_AT_ONCE: usize = 2 << 20;

/// A connection that holds more than its share under pressure looks again after this.
const PRESSURE_PAUSE: Duration = Duration::from_millis(5);

/// A frame that takes longer is a slow one.
const PROMPT: Duration = Duration::from_secs(1);

/// Under pressure a frame may take so long, and longer by what it takes to arrive at this pace.
const SLOW_GRACE: Duration = Duration::from_secs(1);
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;

/// A frame of which nothing comes is looked at so often.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

const LENGTH_BYTES: usize = 4;

/// Key, version, correlation id: what every request begins with.
const HEAD_BYTES: usize = 8;

/// Room for the frames of all connections that are not complete.
#[derive(Clone)]
pub struct Unfinished {
    records: Classes,
    control: Classes,
    /// Asks of other brokers are few and short: they are answered whatever clients do.
    links: Classes,
}

/// What of a budget frames that are not complete may hold, by their length: no frame waits for room behind much longer ones.
#[derive(Clone)]
struct Classes {
    /// What all frames are charged to, complete or not.
    budget: Budget,
    small: Shares,
    middling: Shares,
    long: Shares,
}

/// What frames of one class may hold: so many bytes in all, and so many the slow ones of them.
#[derive(Clone)]
struct Shares {
    all: Budget,
    slow: Budget,
}

impl Unfinished {
    pub fn new(log: &Log) -> Unfinished {
        Unfinished {
            records: Classes::new(&log.budget),
            control: Classes::new(&log.control_budget),
            links: Classes::new(&log.link_budget),
        }
    }

    fn of(&self, head: &[u8]) -> &Classes {
        match head {
            _ if is_ask(head) => &self.links,
            _ if carries_records(head) => &self.records,
            _ => &self.control,
        }
    }
}

impl Classes {
    fn new(budget: &Budget) -> Classes {
        let shares = |eighths: usize| {
            let bytes = budget.total() / 8 * eighths;
            Shares { all: Budget::new(bytes), slow: Budget::new(bytes / 3) }
        };
        Classes { budget: budget.clone(), small: shares(1), middling: shares(2), long: shares(3) }
    }

    fn of(&self, length: usize) -> &Shares {
        match length {
            _ if length <= FIRST_CAPACITY => &self.small,
            _ if length <= WHOLE => &self.middling,
            _ => &self.long,
        }
    }
}

/// Where the frames of one connection come from, and what they are charged to.
pub(super) struct Frames<R> {
    pub input: R,
    pub unfinished: Unfinished,
    pub guest: Arc<Guest>,
    /// Its one permit is taken by a request that may wait for minutes, until that is answered.
    pub waits: Arc<Semaphore>,
}

/// A frame that is arriving.
struct Arriving {
    frame: Vec<u8>,
    length: usize,
    begun: Instant,
    /// How long it was not read for want of room: that is not the client's fault.
    waited: Duration,
    /// For how long nothing came.
    silent: Duration,
    /// What it holds of the budget, and of the shares of frames that are not complete.
    charge: Charge,
    unfinished: Charge,
    slow: Charge,
}

impl Arriving {
    fn new(head: &[u8], length: usize) -> Arriving {
        let mut frame = Vec::with_capacity(length.min(FIRST_CAPACITY));
        frame.extend_from_slice(head);
        Arriving {
            frame,
            length,
            begun: Instant::now(),
            waited: Duration::ZERO,
            silent: Duration::ZERO,
            charge: Charge::none(),
            unfinished: Charge::none(),
            slow: Charge::none(),
        }
    }

    /// Charges a frame that is not complete, or what has arrived of it, or refuses it.
    async fn admit(&mut self, guest: &Guest, budget: &Budget, shares: &Shares) -> Result<(), Ended> {
        let (arrived, due) = (self.frame.len(), due(self.length, self.frame.len()));
        let missing = |share: &Budget, held: &Charge| due.min(share.total()).saturating_sub(held.bytes());
        let begun = Instant::now();
        let (unfinished, charged) = (missing(&shares.all, &self.unfinished), self.charge.bytes());
        let both = async { (shares.all.charge(unfinished).await, room(budget, guest, due, charged).await) };
        // Who waits with half a frame may be what the others wait for.
        let (unfinished, charge) = timeout(STALL_LIMIT, both).await.map_err(|_| Ended::Stalled)?;
        self.unfinished.add(unfinished);
        self.charge.add(charge);
        self.waited += begun.elapsed();
        let taken = self.begun.elapsed().saturating_sub(self.waited);
        if taken > PROMPT {
            let more = missing(&shares.slow, &self.slow);
            self.slow.add(shares.slow.try_charge(more).ok_or(Ended::Slow)?);
        }
        if too_slow(taken, arrived, shares.slow.under_pressure()) { Err(Ended::Slow) } else { Ok(()) }
    }
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads one frame, without its length.
    pub async fn next(&mut self, settings: &KafkaSettings) -> Result<(Bytes, Charge), Ended> {
        let idle = Duration::from_millis(u64::try_from(settings.connections_max_idle_ms).unwrap_or(u64::MAX));
        let mut start = [0u8; LENGTH_BYTES + HEAD_BYTES];
        let mut arrived = match timeout(idle, self.input.read(&mut start)).await {
            Err(_) => return Err(Ended::Idle),
            Ok(Ok(0)) => return Err(Ended::ByClient),
            Ok(read) => read?,
        };
        while arrived < start.len() {
            if arrived >= LENGTH_BYTES {
                check_length(&start, settings.socket_request_max_bytes)?;
            }
            arrived += match timeout(STALL_LIMIT, self.input.read(&mut start[arrived..])).await {
                Err(_) => return Err(Ended::Stalled),
                Ok(Ok(0)) => return Err(Ended::ByClient),
                Ok(read) => read?,
            };
        }
        let length = check_length(&start, settings.socket_request_max_bytes)?;
        let head = &start[LENGTH_BYTES..];
        check_cap(head, length)?;
        if !carries_records(head) {
            // Given back at once; it is never closed.
            drop(self.waits.acquire().await);
        }
        let arriving = Arriving::new(head, length);
        let classes = self.unfinished.of(head);
        let (budget, shares) = (classes.budget.clone(), classes.of(length).clone());
        self.rest(arriving, budget, shares).await
    }

    /// Reads what follows the head.
    async fn rest(&mut self, mut arriving: Arriving, budget: Budget, shares: Shares) -> Result<(Bytes, Charge), Ended> {
        loop {
            let arrived = arriving.frame.len();
            if arrived == arriving.length {
                let Arriving { frame, mut charge, unfinished, slow, .. } = arriving;
                drop((unfinished, slow));
                charge.add(room(&budget, &self.guest, arrived, charge.bytes()).await);
                return Ok((Bytes::from(frame), charge));
            }
            // The head alone holds next to nothing.
            if arrived > HEAD_BYTES {
                arriving.admit(&self.guest, &budget, &shares).await?;
            }
            let charged = arriving.charge.bytes() >= arriving.length;
            let pressure = !charged && (budget.under_pressure() || shares.all.under_pressure());
            self.step(&mut arriving, if pressure { PRESSED_STEP } else { READ_STEP }).await?;
        }
    }

    /// Reads some bytes, or none for a while.
    async fn step(&mut self, arriving: &mut Arriving, most: usize) -> Result<(), Ended> {
        let frame = &mut arriving.frame;
        if frame.len() == frame.capacity() {
            // Of just its length: a frame may be held for long.
            frame.reserve_exact(capacity(arriving.length, frame.len()) - frame.len());
        }
        let step = (arriving.length - frame.len()).min(most);
        let mut limited = (&mut self.input).take(step as u64);
        match timeout(LOOK_PAUSE, limited.read_buf(frame)).await {
            Ok(Ok(0)) => return Err(Ended::ByClient),
            Ok(Ok(_)) => arriving.silent = Duration::ZERO,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => arriving.silent += LOOK_PAUSE,
        }
        if arriving.silent >= STALL_LIMIT { Err(Ended::Stalled) } else { Ok(()) }
    }
}

/// Memory for a frame of this length of which so much has arrived.
fn capacity(length: usize, arrived: usize) -> usize {
    match arrived {
        ..FIRST_CAPACITY => length.min(FIRST_CAPACITY),
        FIRST_CAPACITY..CAPACITY_AT_ONCE => length.min(CAPACITY_AT_ONCE),
        _ => length,
    }
}

/// What a frame of this length that is not complete is charged when so much of it has arrived.
fn due(length: usize, arrived: usize) -> usize {
    if length <= WHOLE { length } else { arrived }
}

/// Whether a frame of which so much arrived in so much time has to go, when others need its room.
fn too_slow(taken: Duration, arrived: usize, pressure: bool) -> bool {
    let allowed = SLOW_GRACE + Duration::from_secs(1).mul_f64(arrived as f64 / SLOWEST_BYTES_PER_SECOND as f64);
    pressure && taken > allowed
}

/// Waits for room for the bytes of a frame that have arrived; nothing more is read meanwhile.
async fn room(budget: &Budget, guest: &Guest, arrived: usize, charged: usize) -> Charge {
    let others = || guest.unanswered.load(Ordering::Relaxed);
    while !budget.is_fair(others() + arrived) {
        tokio::time::sleep(PRESSURE_PAUSE).await;
    }
    // A frame larger than the whole budget has to do with the whole budget.
    budget.charge(arrived.min(budget.total()).saturating_sub(charged)).await
}

/// What is asked of a broker that can take no more records is still answered: it has a budget of its own.
fn carries_records(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce as i16)
}

/// The length that a frame begins with.
fn check_length(start: &[u8; LENGTH_BYTES + HEAD_BYTES], most: i32) -> Result<usize, Ended> {
    let length = i32::from_be_bytes([start[0], start[1], start[2], start[3]]);
    match usize::try_from(length) {
        Ok(bytes) if bytes >= HEAD_BYTES && length <= most => Ok(bytes),
        _ => Err(Ended::Length(i64::from(length))),
    }
}

/// Each API has its own limit; only Produce carries data.
fn check_cap(head: &[u8], length: usize) -> Result<(), Ended> {
    let key = i16::from_be_bytes([head[0], head[1]]);
    match table::find(key) {
        Some(row) if length <= row.frame_cap => Ok(()),
        Some(row) => Err(Ended::Refused(format!("{}: a request of {length} bytes is too long", row.name))),
        None if is_ask(head) && length <= link::FRAME_MAX_BYTES => Ok(()),
        None => Err(Ended::Refused(format!("API key {key} is not served"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    #[test]
    fn memory_follows_what_arrives() {
        const MIB: usize = 1 << 20;
        for (length, arrived, expected) in [
            (100, 8, 100),
            (100 * MIB, 8, 64 << 10),
            (100 * MIB, 64 << 10, 2 * MIB),
            (MIB, 64 << 10, MIB),
            (100 * MIB, 2 * MIB, 100 * MIB),
        ] {
            assert_eq!(capacity(length, arrived), expected, "{arrived} of {length}");
        }
    }

    /// A Produce of so many bytes of which so many are sent.
    async fn begun(unfinished: &Unfinished, length: usize, sent: usize) -> (DuplexStream, Frames<DuplexStream>) {
        let (mut client, input) = tokio::io::duplex(4 << 20);
        let mut start = u32::try_from(length).expect("a length").to_be_bytes().to_vec();
        start.resize(LENGTH_BYTES + sent, 0);
        client.write_all(&start).await.expect("has room");
        (client, frames_of(input, unfinished))
    }

    fn frames_of(input: DuplexStream, unfinished: &Unfinished) -> Frames<DuplexStream> {
        let (guest, waits) = (Arc::new(Guest::default()), Arc::new(Semaphore::new(1)));
        Frames { input, unfinished: unfinished.clone(), guest, waits }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_longer_frames() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(8 * MIB);
        let small = Classes::new(&Budget::new(MIB));
        let unfinished = Unfinished { records: Classes::new(&budget), control: small.clone(), links: small };
        let settings = KafkaSettings::default();
        let mut long = Vec::new();
        let mut reading = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (client, mut frames) = begun(&unfinished, 100 * MIB, MIB).await;
            let settings = settings.clone();
            reading.spawn(async move { frames.next(&settings).await.map(|_| ()) });
            long.push(client);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(unfinished.records.long.all.used(), 3 * MIB, "the share of long frames is used up");
        let at = Instant::now();
        for length in [MIB, 60 << 10] {
            let (mut client, mut frames) = begun(&unfinished, length, length / 2).await;
            let rest = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                client.write_all(&vec![0; length - length / 2]).await.expect("has room");
            };
            let (read, ()) = tokio::join!(frames.next(&settings), rest);
            let (frame, charge) = read.expect("a frame");
            assert_eq!((frame.len(), charge.bytes()), (length, length));
        }
        assert!(at.elapsed() < Duration::from_millis(100), "{:?}", at.elapsed());
        let mut ended = 0;
        while tokio::time::timeout(Duration::from_secs(30), reading.join_next()).await.expect("in time").is_some() {
            ended += 1;
        }
        assert_eq!((ended, budget.used()), (6, 0), "slow and stalled frames go, and hold nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_long_is_charged_whole() {
        let budget = Budget::new(8 << 20);
        let classes = Classes::new(&budget);
        let unfinished = Unfinished { records: classes.clone(), control: classes.clone(), links: classes };
        let settings = KafkaSettings::default();
        for (length, sent, expected) in [(1 << 20, 100, 1 << 20), (2 << 20, 100, 100), (2 << 20, 8, 0), (100, 8, 0)] {
            let (_client, mut frames) = begun(&unfinished, length, sent).await;
            let read = tokio::time::timeout(Duration::from_millis(100), async {
                tokio::join!(frames.next(&settings), async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    assert_eq!(budget.used(), expected, "{sent} of {length}");
                })
            });
            assert!(read.await.is_err(), "it is not complete");
            drop(frames);
            assert_eq!(budget.used(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_behind_one_that_waits_holds_no_room() {
        const LENGTH: usize = 100 << 10;
        let budget = Budget::new(8 << 20);
        let classes = Classes::new(&budget);
        let unfinished = Unfinished { records: classes.clone(), control: classes.clone(), links: classes };
        let settings = KafkaSettings::default();
        for (key, held) in [(ApiKey::Metadata, 0), (ApiKey::Produce, LENGTH)] {
            let (mut client, input) = tokio::io::duplex(1 << 20);
            let mut frame = u32::try_from(LENGTH).expect("a length").to_be_bytes().to_vec();
            frame.extend_from_slice(&(key as i16).to_be_bytes());
            frame.resize(LENGTH_BYTES + LENGTH, 0);
            client.write_all(&frame).await.expect("has room");
            let mut frames = frames_of(input, &unfinished);
            let answered = frames.waits.clone().try_acquire_owned().expect("nobody waits");
            let mut next = Box::pin(frames.next(&settings));
            let early = tokio::time::timeout(Duration::from_secs(60), &mut next).await;
            assert_eq!((early.is_ok(), budget.used()), (held > 0, held), "{key:?}");
            drop(answered);
            let (frame, charge) = match early {
                Ok(read) => read.expect("a frame"),
                Err(_) => next.await.expect("a frame"),
            };
            assert_eq!((frame.len(), charge.bytes()), (LENGTH, LENGTH), "{key:?}");
        }
    }

    #[test]
    fn slow_frames_go_under_pressure_only() {
        let at = Duration::from_secs;
        for (seconds, arrived, pressure, expected) in [
            (2, 100, true, true),
            (2, 100, false, false),
            (1, 100, true, false),
            (2, 1 << 20, true, false),
            (3, 1 << 20, true, true),
            (3600, 100, false, false),
        ] {
            assert_eq!(too_slow(at(seconds), arrived, pressure), expected, "{seconds} s, {arrived}, {pressure}");
        }
    }

    #[test]
    fn lengths_have_bounds() {
        let start = |length: i32| {
            let mut start = [0; 12];
            start[..4].copy_from_slice(&length.to_be_bytes());
            check_length(&start, 1000).ok()
        };
        assert_eq!((start(8), start(1000)), (Some(8), Some(1000)));
        assert_eq!([7, 0, -1, 1001, i32::MAX, i32::MIN].map(start), [None; 6]);
    }
}
