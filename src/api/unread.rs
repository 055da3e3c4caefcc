//! Room for what is made of requests: large requests while they are worked on, and answers from before they are made until the client
//! has read them.
//!
//! A request of 4 MiB may cost a hundred times its bytes while it is answered, and a request of twenty bytes may be answered with
//! megabytes that nobody reads. So large requests go through a gate that is as wide as the longest of them, and what may have a large
//! answer waits until there is room for one. The budgets are fair: who waits first is served first, and so few answers are made beyond
//! a budget as are in the making when it is used up. Small requests and answers are not counted; connections bound them.
//!
//! Who only waits, for records or for the other members of a group, does so for minutes, and must not hold what others need to be read
//! and answered. So before the wait the frame's charge and the gate go, and what is kept is charged to a budget for those who wait.

use std::sync::Arc;

use kafka_protocol::messages::ApiKey;
use tokio_util::sync::CancellationToken;

use super::dispatch::{Reply, Request};
use crate::log::append::budget::{Budget, Charge};

/// A request up to this costs little, whatever it asks.
const SMALL_REQUEST_BYTES: usize = 16 << 10;

/// An answer up to this finds its place in the sockets' buffers.
pub const SMALL_ANSWER_BYTES: usize = 64 << 10;

/// An answer about many things of which each may be told at length: when it is about this long, what is asked behind gets an error.
pub const LONG_ANSWER_BYTES: usize = 32 << 20;

/// As long as the longest request that carries no records.
const GATE_BYTES: usize = 4 << 20;

/// Whoever keeps no more than this while it only waits is not counted.
const SMALL_WAIT_BYTES: usize = 4 << 10;

/// The part of the buffers' budget that answers may take, of records and of all else, and what requests keep that only wait.
const FETCHED_PART: usize = 2;
const ANSWERS_PART: usize = 8;
const WAITING_PART: usize = 4;

/// However small the buffers are.
const LEAST_FETCHED_BYTES: usize = 16 << 20;
const LEAST_ANSWERS_BYTES: usize = 8 << 20;
const LEAST_WAITING_BYTES: usize = 4 << 20;

/// One fetch may take so much of what is left, and always so much of all.
const FETCH_PART_OF_FREE: usize = 4;
const FETCH_PART_OF_ALL: usize = 128;

pub struct Unread {
    /// Records that were fetched.
    pub fetched: Budget,
    /// All other answers.
    answers: Budget,
    /// Large requests that are being answered: those that are answered from memory, fetches, and all that wait for the store.
    questions: Budget,
    fetches: Budget,
    others: Budget,
    /// What requests keep that only wait.
    waiting: Budget,
}

/// Held while a request is being answered.
pub struct Passed {
    gate: Charge,
    answer: Charge,
    /// For the bytes of its frame; `None` from the moment when it only waits.
    frame: Option<Arc<Charge>>,
    /// For what it keeps from then on, of this budget.
    kept: Charge,
    waiting: Budget,
    /// Cancelled when the client has ended its connection.
    pub gone: CancellationToken,
}

impl Passed {
    /// The request is about to wait, and keeps no more than so many bytes from here on: charges these until it is answered, in place of
    /// its frame and its work. `false`: too much is kept already by those who wait, and it holds what it held.
    pub fn waits(&mut self, kept_bytes: usize) -> bool {
        if self.frame.is_none() {
            return true;
        }
        if kept_bytes > SMALL_WAIT_BYTES {
            let Some(kept) = self.waiting.try_charge(kept_bytes) else { return false };
            self.kept.add(kept);
        }
        (self.frame, self.gate) = (None, Charge::none());
        true
    }
}

impl Unread {
    /// `buffer_bytes`: the setting.
    pub fn new(buffer_bytes: usize) -> Unread {
        Unread {
            fetched: Budget::new((buffer_bytes / FETCHED_PART).max(LEAST_FETCHED_BYTES)),
            answers: Budget::new((buffer_bytes / ANSWERS_PART).max(LEAST_ANSWERS_BYTES)),
            questions: Budget::new(GATE_BYTES),
            fetches: Budget::new(GATE_BYTES),
            others: Budget::new(GATE_BYTES),
            waiting: Budget::new((buffer_bytes / WAITING_PART).max(LEAST_WAITING_BYTES)),
        }
    }

    /// Whether clients that do not read keep others waiting, or soon will.
    pub fn under_pressure(&self) -> bool {
        self.fetched.under_pressure() || self.answers.under_pressure()
    }

    /// Waits until a request may be worked on, and until there is some room for its answer. Its body is in other hands.
    pub async fn pass(&self, key: ApiKey, request: Request) -> Passed {
        let Request { frame, charge, gone, .. } = request;
        let request_bytes = frame.len();
        drop(frame);
        let mut passed = Passed {
            gate: Charge::none(),
            answer: Charge::none(),
            frame: Some(charge),
            kept: Charge::none(),
            waiting: self.waiting.clone(),
            gone,
        };
        if may_be_large(key) {
            passed.answer = self.answers.charge(SMALL_ANSWER_BYTES).await;
        }
        if request_bytes > SMALL_REQUEST_BYTES {
            match key {
                // They wait for other members, and the coordinator bounds what they bring.
                ApiKey::JoinGroup | ApiKey::SyncGroup => {}
                ApiKey::Fetch => passed.gate = self.fetches.charge(request_bytes).await,
                _ if may_be_large(key) => passed.gate = self.questions.charge(request_bytes).await,
                _ => passed.gate = self.others.charge(request_bytes).await,
            }
        }
        passed
    }

    /// Charges what an answer is longer than was expected; the next one of its kind is not made before.
    pub async fn answered(&self, passed: Passed, reply: Reply) -> Reply {
        let Reply::Send(chunks, charge) = reply else { return reply };
        if charge.bytes() > 0 {
            return Reply::Send(chunks, charge);
        }
        let bytes: usize = chunks.iter().map(bytes::Bytes::len).sum();
        if bytes <= SMALL_ANSWER_BYTES {
            return Reply::Send(chunks, charge);
        }
        let mut held = passed.answer;
        held.add(self.answers.charge(bytes.min(self.answers.total()).saturating_sub(held.bytes())).await);
        drop(passed.gate);
        Reply::Send(chunks, held)
    }

    /// How much one fetch may bring now.
    pub fn fetch_share(&self) -> usize {
        share(self.fetched.total(), self.fetched.total() - self.fetched.used())
    }
}

/// The first of many gets much, and the last of them something.
fn share(total: usize, free: usize) -> usize {
    (free / FETCH_PART_OF_FREE).max(total / FETCH_PART_OF_ALL).max(SMALL_ANSWER_BYTES)
}

/// Whether answers of this API may be much longer than its requests; it gives them from memory. (What Fetch brings is charged when it is planned; what JoinGroup
/// tells a leader is bounded by the coordinator.)
fn may_be_large(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::Metadata
            | ApiKey::OffsetFetch
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers
            | ApiKey::DescribeTopicPartitions
            | ApiKey::ListConfigResources
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::request;
    use bytes::Bytes;

    #[test]
    fn the_first_fetch_gets_much_and_the_last_something() {
        const MIB: usize = 1 << 20;
        for (free, expected) in [(128 * MIB, 32 * MIB), (64 * MIB, 16 * MIB), (4 * MIB, MIB), (0, MIB)] {
            assert_eq!(share(128 * MIB, free), expected, "{free}");
        }
        assert_eq!(share(1000, 0), SMALL_ANSWER_BYTES);
    }

    #[tokio::test]
    async fn answers_hold_their_room_until_they_are_read() {
        let unread = Unread::new(64 << 20);
        let frames = Budget::new(64 << 20);
        let pass = async |key: ApiKey, bytes: usize| unread.pass(key, request(&frames, bytes).await).await;
        let answer = |bytes: usize| Reply::Send(vec![Bytes::from(vec![0; bytes])], Charge::none());
        let passed = pass(ApiKey::Metadata, 100).await;
        assert_eq!(unread.answers.used(), SMALL_ANSWER_BYTES);
        drop(unread.answered(passed, answer(10)).await);
        assert_eq!(unread.answers.used(), 0);
        let passed = pass(ApiKey::Metadata, 100).await;
        let large = unread.answered(passed, answer(5 << 20)).await;
        assert!(unread.under_pressure() && unread.answers.used() == 5 << 20);
        let longest = pass(ApiKey::DescribeConfigs, GATE_BYTES).await;
        assert_eq!(unread.questions.used(), GATE_BYTES);
        assert_eq!(pass(ApiKey::OffsetCommit, GATE_BYTES).await.gate.bytes(), GATE_BYTES, "a gate of its own");
        assert_eq!(pass(ApiKey::Heartbeat, 100).await.gate.bytes(), 0, "small ones pass");
        assert_eq!(pass(ApiKey::Fetch, GATE_BYTES).await.gate.bytes(), GATE_BYTES, "a gate of its own");
        drop((large, longest));
        assert_eq!((unread.answers.used(), unread.questions.used()), (0, 0));
        assert_eq!(frames.used(), 0);
    }

    #[tokio::test]
    async fn who_only_waits_leaves_its_room_to_others() {
        let unread = Unread::new(64 << 20);
        let frames = Budget::new(GATE_BYTES);
        let held = || (frames.used(), unread.fetches.used(), unread.waiting.used());
        let mut first = unread.pass(ApiKey::Fetch, request(&frames, GATE_BYTES).await).await;
        assert_eq!(held(), (GATE_BYTES, GATE_BYTES, 0), "nobody else passes");
        assert!(first.waits(SMALL_WAIT_BYTES + 1) && first.waits(usize::MAX), "once is enough");
        assert_eq!(held(), (0, 0, SMALL_WAIT_BYTES + 1));
        // A hundred and twenty consumers of a thousand partitions each.
        let mut consumers = Vec::new();
        for _ in 0..120 {
            let mut passed = unread.pass(ApiKey::Fetch, request(&frames, 40_000).await).await;
            assert!(passed.waits(100_000));
            consumers.push(passed);
        }
        assert_eq!(held(), (0, 0, SMALL_WAIT_BYTES + 1 + 120 * 100_000));
        let mut late = unread.pass(ApiKey::Fetch, request(&frames, 40_000).await).await;
        assert!(!late.waits(unread.waiting.total()), "what all keep is bounded");
        assert_eq!((frames.used(), unread.fetches.used()), (40_000, 40_000), "it goes on with what it holds");
        assert!(late.waits(SMALL_WAIT_BYTES), "who keeps little waits always");
        drop((first, consumers, late));
        assert_eq!(held(), (0, 0, 0));
    }
}
