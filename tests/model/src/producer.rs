//! An idempotent producer whose partition moves: by transfers, which leave connections open, and by fences, which drop what was in flight.
//!
//! The producer sends batches 0, 1, 2, several at a time, to the broker that it takes for the leader. As Java's client and librdkafka do,
//! it sends a batch again only when none behind it is in flight. It turns to another leader when nothing is in flight: one that turns
//! earlier, while it is new to the partition, may have its second batch taken before its first, here as in Kafka. Brokers handle what comes on a connection in order; what they can not
//! take now waits at its head (parked), or is refused with an error that the producer retries. A broker knows of the producer what the log
//! told when it recovered, and what it appended itself since. The log must come out as 0, 1, 2, each once, whatever is moved, lost or merged.
//!
//! Segments are seen from here as the order of their batches: what is in flight is committed in order, and a fence cuts it anywhere.

use crate::Run;
use crate::explore::{Spec, bits};

const BATCHES: usize = 3;
const BROKERS: usize = 2;
const LOG: usize = 5;

#[derive(Clone, Copy)]
struct Bounds {
    /// Times that the lease moves.
    moves: u8,
    /// Times that connections break.
    breaks: u8,
}

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// What was refused is not remembered: an unknown producer may start anywhere, as in Kafka.
    RefusalForgotten,
    /// A session that ends keeps its clients' connections, and what waits on them.
    ConnectionsStay,
    /// A new holder knows nothing of producers.
    ProducersForgotten,
    /// A duplicate is answered though the original is still in flight.
    DuplicateAnsweredAtOnce,
    /// A merge's checkpoint says nothing of producers.
    CheckpointWithoutProducers,
    /// A merge's checkpoint says what its broker knows, which counts what is in flight.
    CheckpointAhead,
    /// A transfer hands over what its broker knows, instead of leaving it to the log.
    TransferFromMemory,
    /// A successor knows what the log holds when the lease is granted, and does not wait for what is in flight.
    SuccessorDoesNotWait,
    /// A broker says that a sequence is out of order without proof that it still holds the partition.
    OutOfOrderWithoutProof,
    /// What is parked lets those behind it pass.
    ParkedOvertaken,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Batch {
    ToSend,
    /// On the connection to this broker.
    Sent(u8),
    /// Appended, or found to be a duplicate: this broker answers when it is committed.
    Waits(u8),
    Acknowledged,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Lease {
    None,
    Recovering,
    Serving,
    HandingOver,
    /// Fenced, and has not met its fence.
    Zombie,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Broker {
    lease: Lease,
    /// Requests on the connection, the next one first.
    queue: [Option<u8>; BATCHES],
    /// The last batch of the producer that it knows.
    last: Option<u8>,
    /// The lowest batch that it refused.
    refused: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    batches: [Batch; BATCHES],
    leader: u8,
    brokers: [Broker; BROKERS],
    /// All that was written, in order, and how much of it is committed, merged.
    log: [Option<u8>; LOG],
    committed: u8,
    merged: u8,
    /// Of the newest checkpoint.
    checkpoint: Option<u8>,
    moves: u8,
    breaks: u8,
    broken: Option<&'static str>,
}

impl State {
    fn written(&self) -> u8 {
        self.log.iter().flatten().count() as u8
    }

    fn remove(&mut self, at: usize, from_queue: usize) {
        let queue = &mut self.brokers[at].queue;
        queue[from_queue..].rotate_left(1);
        queue[BATCHES - 1] = None;
    }

    /// The connection to a broker breaks: what was not answered is sent again.
    fn disconnect(&mut self, at: usize) {
        self.brokers[at].queue = [None; BATCHES];
        for batch in &mut self.batches {
            if *batch == Batch::Sent(at as u8) || *batch == Batch::Waits(at as u8) {
                *batch = Batch::ToSend;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
enum Step {
    Send { batch: u8 },
    Take { broker: usize, batch: u8 },
    Refuse { broker: usize, batch: u8 },
    OutOfOrder { broker: usize, batch: u8 },
    Commit,
    Answer { batch: usize },
    Merge { below: u8 },
    LookForLeader,
    Disconnect { broker: usize },
    StartTransfer,
    TransferLease,
    FenceSession { keeps: u8, to: usize },
    MeetFence { broker: usize },
    Recover { broker: usize },
}

const TWICE: &str = "a batch is in the log twice";
const OVERTAKEN: &str = "a batch is in the log before the one that was sent before it";
const LOST: &str = "a batch that was acknowledged is not in the log";
const REFUSED_FOR_GOOD: &str = "the first batch that is not acknowledged is out of order: the producer can not go on";

struct Producer {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

const SMALL: Bounds = Bounds { moves: 2, breaks: 1 };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("moves", SMALL, None),
    ("more_moves", Bounds { moves: 4, breaks: 1 }, None),
    ("refusal_forgotten", SMALL, Some(Mutant::RefusalForgotten)),
    ("connections_stay", Bounds { moves: 3, ..SMALL }, Some(Mutant::ConnectionsStay)),
    ("producers_forgotten", SMALL, Some(Mutant::ProducersForgotten)),
    ("duplicate_answered_at_once", SMALL, Some(Mutant::DuplicateAnsweredAtOnce)),
    ("checkpoint_without_producers", SMALL, Some(Mutant::CheckpointWithoutProducers)),
    ("checkpoint_ahead", SMALL, Some(Mutant::CheckpointAhead)),
    ("transfer_from_memory", SMALL, Some(Mutant::TransferFromMemory)),
    ("successor_knows_too_early", SMALL, Some(Mutant::SuccessorDoesNotWait)),
    ("out_of_order_without_proof", SMALL, Some(Mutant::OutOfOrderWithoutProof)),
    ("parked_overtaken", SMALL, Some(Mutant::ParkedOvertaken)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("producer", name, mutant.is_some(), Producer { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}

impl Spec for Producer {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let broker = Broker { lease: Lease::None, queue: [None; BATCHES], last: None, refused: None };
        State {
            batches: [Batch::ToSend; BATCHES],
            leader: 0,
            brokers: [Broker { lease: Lease::Serving, ..broker }, broker],
            log: [None; LOG],
            committed: 0,
            merged: 0,
            checkpoint: None,
            moves: 0,
            breaks: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        self.client_steps(state, take);
        for at in 0..BROKERS {
            for place in 0..BATCHES {
                let Some(batch) = state.brokers[at].queue[place] else { continue };
                if place == 0 || self.has(Mutant::ParkedOvertaken) {
                    self.handle(state, at, place, batch, take);
                }
            }
            self.lease_steps(state, at, take);
        }
        self.log_steps(state, take);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "all batches were acknowledged",
            "a fence cut what was in flight",
            "a duplicate was found",
            "a batch was barred by one that had been refused",
            "a successor waited for what was in flight",
            "a zombie took a batch",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let in_log = |batch: u8| state.log.iter().flatten().filter(|written| **written == batch).count();
        bits(&[
            state.batches == [Batch::Acknowledged; BATCHES],
            matches!(step, Step::FenceSession { .. })
                && state.batches.iter().any(|batch| matches!(batch, Batch::Waits(_))),
            matches!(step, Step::Take { batch, .. } if in_log(batch) == 1 && state.log[usize::from(state.written() - 1)] != Some(batch)),
            matches!(step, Step::OutOfOrder { .. }),
            state.brokers.iter().any(|broker| broker.lease == Lease::Recovering) && state.committed < state.written(),
            matches!(step, Step::Take { broker, .. } if state.brokers[broker].lease == Lease::Zombie),
        ])
    }
}

impl Producer {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn client_steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let to_send = state.batches.iter().position(|batch| *batch == Batch::ToSend);
        if let Some(batch) = to_send {
            let later = &state.batches[batch + 1..];
            let in_flight = |batch: &Batch| matches!(batch, Batch::Sent(_) | Batch::Waits(_));
            let mut after = *state;
            let queue = &mut after.brokers[usize::from(state.leader)].queue;
            if let (false, Some(place)) = (later.iter().any(in_flight), queue.iter().position(Option::is_none)) {
                queue[place] = Some(batch as u8);
                after.batches[batch] = Batch::Sent(state.leader);
                take(Step::Send { batch: batch as u8 }, after);
            }
            if !state.batches.iter().any(in_flight) {
                take(Step::LookForLeader, State { leader: 1 - state.leader, ..*state });
            }
        }
        for broker in (0..BROKERS).filter(|_| state.breaks < self.bounds.breaks) {
            let mut after = *state;
            after.disconnect(broker);
            after.breaks += 1;
            take(Step::Disconnect { broker }, after);
        }
    }

    /// A request that is next on its connection.
    fn handle(&self, state: &State, at: usize, place: usize, batch: u8, take: &mut dyn FnMut(Step, State)) {
        let broker = &state.brokers[at];
        let mut after = *state;
        after.remove(at, place);
        let serves = match broker.lease {
            Lease::Serving | Lease::Zombie => true,
            Lease::None | Lease::Recovering | Lease::HandingOver => false,
        };
        if !serves {
            // Parked until the time is over, or not held here.
            let own = &mut after.brokers[at];
            if !self.has(Mutant::RefusalForgotten) {
                own.refused = Some(own.refused.map_or(batch, |refused| refused.min(batch)));
            }
            after.batches[usize::from(batch)] = Batch::ToSend;
            return take(Step::Refuse { broker: at, batch }, after);
        }
        let in_order = match broker.last {
            Some(last) => batch <= last + 1,
            None => broker.refused.is_none_or(|refused| batch <= refused),
        };
        if !in_order {
            // It is told under proof only, which a fenced session no longer has when its successor serves.
            let succeeded = matches!(state.brokers[1 - at].lease, Lease::Serving | Lease::HandingOver);
            if broker.lease == Lease::Zombie && succeeded && !self.has(Mutant::OutOfOrderWithoutProof) {
                return;
            }
            after.batches[usize::from(batch)] = Batch::ToSend;
            if state.batches[..usize::from(batch)].iter().all(|earlier| *earlier == Batch::Acknowledged) {
                after.broken = Some(REFUSED_FOR_GOOD);
            }
            return take(Step::OutOfOrder { broker: at, batch }, after);
        }
        after.batches[usize::from(batch)] = Batch::Waits(at as u8);
        if broker.last.is_some_and(|last| batch <= last) {
            if self.has(Mutant::DuplicateAnsweredAtOnce) {
                after.batches[usize::from(batch)] = Batch::Acknowledged;
            }
        } else if broker.lease == Lease::Zombie {
            after.brokers[at].last = Some(batch);
        } else {
            self.append(&mut after, at, batch);
        }
        take(Step::Take { broker: at, batch }, after);
    }

    fn append(&self, state: &mut State, at: usize, batch: u8) {
        let end = usize::from(state.written());
        if state.log.contains(&Some(batch)) {
            state.broken = Some(TWICE);
        } else if usize::from(batch) != end {
            state.broken = Some(OVERTAKEN);
        }
        if let Some(place) = state.log.get_mut(end) {
            *place = Some(batch);
        }
        state.brokers[at].last = Some(batch);
    }

    fn lease_steps(&self, state: &State, at: usize, take: &mut dyn FnMut(Step, State)) {
        let with = |lease: Lease| {
            let mut after = *state;
            after.brokers[at].lease = lease;
            after
        };
        let other = 1 - at;
        let may_move = state.moves < self.bounds.moves;
        let other_is_free = state.brokers[other].lease == Lease::None;
        match state.brokers[at].lease {
            Lease::None => return,
            Lease::Serving if may_move && other_is_free => take(Step::StartTransfer, with(Lease::HandingOver)),
            Lease::HandingOver if may_move && other_is_free => {
                let mut after = with(Lease::None);
                after.moves += 1;
                after.brokers[other].lease = Lease::Recovering;
                if self.has(Mutant::TransferFromMemory) {
                    after.brokers[other].last = state.brokers[at].last;
                }
                if self.has(Mutant::SuccessorDoesNotWait) {
                    after.brokers[other].last = self.known(state);
                }
                take(Step::TransferLease, after);
            }
            Lease::Zombie => {
                let mut after = with(Lease::None);
                after.brokers[at] = Broker { last: None, refused: None, ..after.brokers[at] };
                if self.has(Mutant::ConnectionsStay) {
                    // What it appended is answered with an error.
                    for batch in after.batches.iter_mut().filter(|batch| **batch == Batch::Waits(at as u8)) {
                        *batch = Batch::ToSend;
                    }
                } else {
                    after.disconnect(at);
                }
                take(Step::MeetFence { broker: at }, after);
            }
            // All that is in flight is committed, or was cut by a fence.
            Lease::Recovering => {
                let settled = state.committed == state.written();
                if settled {
                    let mut after = with(Lease::Serving);
                    let early = self.has(Mutant::TransferFromMemory) || self.has(Mutant::SuccessorDoesNotWait);
                    if !early || state.brokers[at].last.is_none() {
                        after.brokers[at].last = self.known(state);
                    }
                    take(Step::Recover { broker: at }, after);
                }
            }
            Lease::Serving | Lease::HandingOver => {}
        }
        if may_move {
            self.fence(state, at, take);
        }
    }

    /// What the log says of the producer: the newest checkpoint, and the batches behind it.
    fn known(&self, state: &State) -> Option<u8> {
        if self.has(Mutant::ProducersForgotten) {
            return None;
        }
        let behind = state.log[usize::from(state.merged)..usize::from(state.committed)].iter().flatten().max();
        behind.copied().max(state.checkpoint)
    }

    /// Who holds the partition is fenced, or who handed it over while his last batches are on their way: some of what is in flight is
    /// committed, the rest never.
    fn fence(&self, state: &State, at: usize, take: &mut dyn FnMut(Step, State)) {
        let (lease, other) = (state.brokers[at].lease, 1 - at);
        let (victim, to) = match lease {
            Lease::Serving | Lease::HandingOver => (at, other),
            Lease::Recovering if state.committed < state.written() => (other, at),
            _ => return,
        };
        if state.brokers[to].lease == Lease::Zombie {
            return;
        }
        for keeps in state.committed..=state.written() {
            let mut after = *state;
            after.moves += 1;
            after.committed = keeps;
            for cut in &mut after.log[usize::from(keeps)..] {
                let acknowledged = cut.is_some_and(|batch| state.batches[usize::from(batch)] == Batch::Acknowledged);
                if acknowledged {
                    after.broken = Some(LOST);
                }
                *cut = None;
            }
            after.brokers[victim].lease = Lease::Zombie;
            after.brokers[to].lease = Lease::Recovering;
            take(Step::FenceSession { keeps, to }, after);
        }
    }

    fn log_steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        if state.committed < state.written() {
            take(Step::Commit, State { committed: state.committed + 1, ..*state });
        }
        let committed = &state.log[..usize::from(state.committed)];
        for (batch, client) in state.batches.iter().enumerate() {
            if matches!(client, Batch::Waits(_)) && committed.contains(&Some(batch as u8)) {
                let mut after = *state;
                after.batches[batch] = Batch::Acknowledged;
                take(Step::Answer { batch }, after);
            }
        }
        if state.merged < state.committed {
            let mut after = *state;
            after.merged = state.committed;
            let serving = state.brokers.iter().find(|broker| broker.lease == Lease::Serving);
            after.checkpoint = match self.mutant {
                Some(Mutant::CheckpointWithoutProducers) => None,
                Some(Mutant::CheckpointAhead) => serving.and_then(|broker| broker.last).max(self.known(state)),
                _ => self.known(state),
            };
            take(Step::Merge { below: state.committed }, after);
        }
    }
}
