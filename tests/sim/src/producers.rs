//! Clients that write: idempotent producers that retry, and plain ones that do not.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::judge::{Order, Place, Sent};
use crate::kafka::{Conn, batch, dated};
use crate::roles::{Ctx, wait_for_topic};

const NOT_LEADER: i16 = 6;
const OUT_OF_ORDER: i16 = 45;
const DUPLICATE: i16 = 46;
const STALE_EPOCH: i16 = 47;

/// A batch that is not acknowledged yet.
struct Unacked {
    index: u64,
    sequence: i32,
    values: Vec<String>,
    /// The end that the judge knew when it was first sent.
    end_before: i64,
    sent: bool,
}

/// A batch that was settled before, and is sent once more: by a network that repeats, or by somebody who should be gone.
struct Echo {
    place: Place,
    epoch: i16,
    sequence: i32,
    values: Vec<String>,
    /// Where it was acknowledged; `None`: its producer has a newer epoch, and it must be refused.
    base: Option<i64>,
}

/// What an answer is awaited for.
enum Flight {
    Batch(Place, u64),
    Echo(Echo),
}

/// Who a producer is: a new epoch begins its sequences anew.
#[derive(Clone, Copy)]
struct Identity {
    id: i64,
    epoch: i16,
}

/// An idempotent producer: up to five batches in flight per partition, retried in order with their sequences, as Java's does.
pub async fn idempotent(ctx: Ctx, pace_ms: (u64, u64)) {
    // Some send before there is a topic: they are refused until it is made.
    if ctx.dice.chance(70) {
        wait_for_topic(&ctx).await;
    }
    let (mut generation, mut producer) = (0, None);
    loop {
        let mut conn = ctx.connect().await;
        if producer.is_none() {
            let identity = new_identity(&ctx, &mut conn).await;
            producer = identity.map(|identity| Producer::new(&ctx, identity, generation));
        }
        if let Some(producer) = &mut producer {
            match producer.drive(&mut conn, pace_ms).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => ctx.world.note(ctx.name, format_args!("reconnects: {error}")),
            }
            producer.lanes.values_mut().flatten().for_each(|batch| batch.sent = false);
        }
        // Sometimes the whole client dies and another one takes its place, with a new producer id or with the next epoch of this one.
        if ctx.storm() && ctx.dice.chance(30) {
            generation += 1;
            producer = producer.take().filter(|_| ctx.dice.chance(40)).map(|old| old.successor(generation));
        }
        ctx.pause(5, 60).await;
    }
}

async fn new_identity(ctx: &Ctx, conn: &mut Conn) -> Option<Identity> {
    match conn.producer_id().await {
        Ok((0, id)) => {
            ctx.world.judge(|judge, _| judge.producer_id(id));
            Some(Identity { id, epoch: 0 })
        }
        Ok((code, _)) => {
            ctx.check_code("init producer id", code);
            None
        }
        Err(_) => None,
    }
}

struct Producer<'a> {
    ctx: &'a Ctx,
    identity: Identity,
    generation: u32,
    lanes: BTreeMap<Place, VecDeque<Unacked>>,
    next: BTreeMap<Place, (u64, i32)>,
    /// To be sent once more, each in its time.
    echoes: Vec<Echo>,
    /// Batches of the epoch before, by partition, until this epoch has written there.
    zombies: BTreeMap<Place, Echo>,
}

impl<'a> Producer<'a> {
    fn new(ctx: &'a Ctx, identity: Identity, generation: u32) -> Producer<'a> {
        let lanes = ctx.places().into_iter().map(|place| (place, VecDeque::new())).collect();
        let (echoes, zombies) = (Vec::new(), BTreeMap::new());
        Producer { ctx, identity, generation, lanes, next: BTreeMap::new(), echoes, zombies }
    }

    /// The same producer with the next epoch: what is not acknowledged of this one may be in the log or not, and may not come later.
    fn successor(self, generation: u32) -> Producer<'a> {
        let Identity { id, epoch } = self.identity;
        let mut next = Producer::new(self.ctx, Identity { id, epoch: epoch + 1 }, generation);
        for (place, lane) in self.lanes {
            if let Some(batch) = lane.into_iter().next() {
                let Unacked { sequence, values, .. } = batch;
                next.zombies.insert(place.clone(), Echo { place, epoch, sequence, values, base: None });
            }
        }
        next
    }

    fn make(&mut self, place: &Place) {
        let world = &self.ctx.world;
        let (index, sequence) = self.next.get(place).copied().unwrap_or_default();
        let count = self.ctx.dice.between(1, 4);
        let name = format!("{}.{}/{}", self.ctx.name, self.generation, place.1);
        let now = world.now();
        let values: Vec<String> =
            (index..index + count).map(|at| dated(&self.ctx.dice, now, format!("{name}/{at}"))).collect();
        let epoch = Some((self.identity.id, self.identity.epoch));
        let end_before = world.judge(|judge, now| {
            for (at, value) in (index..).zip(&values) {
                let sent = Sent { place: place.clone(), order: Order::Whole, producer: name.clone(), index: at, epoch };
                judge.sent(value, sent);
            }
            judge.end(place, now)
        });
        self.next.insert(place.clone(), (index + count, sequence + count as i32));
        let unacked = Unacked { index, sequence, values, end_before, sent: false };
        self.lanes.get_mut(place).expect("all places have lanes").push_back(unacked);
    }

    /// Uses one connection as long as it is good. `true`: everything is acknowledged and the storm is over.
    async fn drive(&mut self, conn: &mut Conn, pace_ms: (u64, u64)) -> io::Result<bool> {
        let mut flying: VecDeque<(i32, Flight)> = VecDeque::new();
        let mut refused = false;
        // Where somebody else leads.
        let mut lost = None;
        loop {
            let storm = self.ctx.storm();
            if storm && !refused && flying.is_empty() {
                self.ctx.pause(pace_ms.0, pace_ms.1).await;
                for place in self.ctx.places() {
                    while self.lanes[&place].len() < 5 && self.ctx.dice.chance(70) {
                        self.make(&place);
                    }
                }
            }
            // After a refusal the answers to everything in flight come first, then all is sent again, in order.
            if !refused {
                self.send(conn, &mut flying).await?;
            }
            let Some((id, flight)) = flying.pop_front() else {
                let done = self.lanes.values().all(VecDeque::is_empty);
                if done && !storm {
                    return Ok(true);
                }
                if let Some(place) = lost.take() {
                    self.ctx.seek(conn, &place).await;
                }
                if refused {
                    refused = false;
                    self.ctx.pause(10, 80).await;
                    if self.ctx.dice.chance(50) {
                        return Ok(false);
                    }
                }
                continue;
            };
            let (code, base) = conn.receive_ack(id).await?;
            match flight {
                Flight::Batch(place, index) => {
                    refused |= self.take(&place, index, code, base);
                    if code == NOT_LEADER {
                        lost = Some(place);
                    }
                }
                Flight::Echo(echo) => self.take_echo(&echo, code, base),
            }
        }
    }

    async fn send(&mut self, conn: &mut Conn, flying: &mut VecDeque<(i32, Flight)>) -> io::Result<()> {
        let Identity { id: producer, epoch } = self.identity;
        for (place, lane) in &mut self.lanes {
            for unacked in lane.iter_mut().filter(|unacked| !unacked.sent) {
                let bytes = batch(Some((producer, epoch, unacked.sequence)), &unacked.values);
                let id = conn.send_batch(place, bytes).await?;
                unacked.sent = true;
                self.ctx.world.note(self.ctx.name, format_args!("sends {:?} to {place:?}", unacked.values));
                flying.push_back((id, Flight::Batch(place.clone(), unacked.index)));
            }
        }
        for echo in std::mem::take(&mut self.echoes) {
            let bytes = batch(Some((producer, echo.epoch, echo.sequence)), &echo.values);
            let id = conn.send_batch(&echo.place, bytes).await?;
            self.ctx.world.note(self.ctx.name, format_args!("sends {:?} once more to {:?}", echo.values, echo.place));
            flying.push_back((id, Flight::Echo(echo)));
        }
        Ok(())
    }

    fn take_echo(&self, echo: &Echo, code: i16, base: i64) {
        let world = &self.ctx.world;
        let Echo { place, values, .. } = echo;
        world.note(self.ctx.name, format_args!("{values:?} once more: code {code}, offset {base}"));
        world.count("producer: batch sent once more", 1);
        match (code, echo.base) {
            (0, Some(known)) => world.judge(|judge, _| judge.acked_again(place, base, known, values)),
            (0, None) => {
                world.judge(|judge, _| judge.object("stale-epoch-accepted", format_args!("{place:?}: {values:?}")))
            }
            (OUT_OF_ORDER, Some(_)) => world.judge(|judge, _| judge.refused_for_good(place, values)),
            (DUPLICATE, Some(_)) | (STALE_EPOCH, None) => {}
            (code, _) => self.ctx.check_code("produce once more", code),
        }
    }

    /// Takes an answer; tells whether it is a refusal.
    fn take(&mut self, place: &Place, index: u64, code: i16, base: i64) -> bool {
        let world = &self.ctx.world;
        world.note(self.ctx.name, format_args!("batch {index} of {place:?}: code {code}, offset {base}"));
        let lane = self.lanes.get_mut(place).expect("all places have lanes");
        let Some(at) = lane.iter().position(|unacked| unacked.index == index) else { return false };
        if code == DUPLICATE {
            // It was written, and five others after it: that is a success to clients. Where, nobody remembers.
            let unacked = lane.remove(at).expect("it is there");
            world.judge(|judge, _| judge.promise(place, unacked.values));
            return false;
        }
        if code != 0 {
            lane.iter_mut().skip(at).for_each(|unacked| unacked.sent = false);
            let fatal = code == OUT_OF_ORDER && at == 0;
            if fatal {
                let first = &lane[0].values;
                world.judge(|judge, _| judge.refused_for_good(place, first));
            } else if code != OUT_OF_ORDER {
                self.ctx.check_code("produce", code);
            }
            return true;
        }
        let unacked = lane.remove(at).expect("it is there");
        world.judge(|judge, now| judge.acked(place, base, &unacked.values, unacked.end_before, now));
        if let Some(zombie) = self.zombies.remove(place) {
            self.echoes.push(zombie);
        }
        if self.ctx.dice.chance(4) {
            let Unacked { sequence, values, .. } = unacked;
            let epoch = self.identity.epoch;
            self.echoes.push(Echo { place: place.clone(), epoch, sequence, values, base: Some(base) });
        }
        // Elders that were refused may be in the log all the same, by an earlier attempt: the judge looks at the order at the end.
        false
    }
}

/// A producer without idempotence: what is not acknowledged is never sent again, and so may be there or not.
pub async fn plain(ctx: Ctx) {
    wait_for_topic(&ctx).await;
    let mut index = 0;
    let mut connections = 0;
    while ctx.storm() {
        let mut conn = ctx.connect().await;
        connections += 1;
        while ctx.storm() {
            ctx.pause(5, 60).await;
            let mut flying = VecDeque::new();
            for _ in 0..ctx.dice.between(1, 5) {
                let place = ctx.place(ctx.dice.below(ctx.partitions as u64) as i32);
                let values = vec![dated(&ctx.dice, ctx.world.now(), format!("{}/{index}", ctx.name))];
                let end = ctx.world.judge(|judge, now| {
                    let producer = format!("{}.{connections}", ctx.name);
                    judge.sent(
                        &values[0],
                        Sent { place: place.clone(), order: Order::Rising, producer, index, epoch: None },
                    );
                    judge.end(&place, now)
                });
                index += 1;
                let Ok(id) = conn.send_batch(&place, batch(None, &values)).await else { break };
                flying.push_back((id, place, values, end));
            }
            let mut lost = flying.is_empty();
            for (id, place, values, end) in flying {
                match conn.receive_ack(id).await {
                    Ok((0, base)) => {
                        ctx.world.note(ctx.name, format_args!("{values:?} at {place:?} {base}"));
                        ctx.world.judge(|judge, now| judge.acked(&place, base, &values, end, now));
                    }
                    Ok((code, _)) => {
                        ctx.check_code("plain produce", code);
                        if code == NOT_LEADER && !lost {
                            ctx.seek(&conn, &place).await;
                        }
                        lost = true;
                    }
                    Err(_) => lost = true,
                }
                if lost {
                    break;
                }
            }
            if lost {
                break;
            }
        }
    }
}

/// A producer that asks for no answers (acks=0). Now and then it sends something that is answered: once that is acknowledged, all that
/// went before it on the connection has to be there, for an error would have closed it.
pub async fn silent(ctx: Ctx) {
    wait_for_topic(&ctx).await;
    let mut index = 0;
    let mut connections = 0;
    while ctx.storm() {
        let mut conn = ctx.connect().await;
        connections += 1;
        let mut unsure: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        while ctx.storm() {
            ctx.pause(1, 40).await;
            let place = ctx.place(ctx.dice.below(ctx.partitions as u64) as i32);
            let answered = ctx.dice.chance(20);
            let values = vec![dated(&ctx.dice, ctx.world.now(), format!("{}/{index}", ctx.name))];
            let end = ctx.world.judge(|judge, now| {
                let producer = format!("{}.{connections}", ctx.name);
                judge.sent(
                    &values[0],
                    Sent { place: place.clone(), order: Order::Rising, producer, index, epoch: None },
                );
                judge.end(&place, now)
            });
            index += 1;
            let acks = if answered { -1 } else { 0 };
            let Ok(id) = conn.send_with_acks(&place, batch(None, &values), acks).await else { break };
            if !answered {
                unsure.entry(place).or_default().extend(values);
                continue;
            }
            match conn.receive_ack(id).await {
                Ok((0, base)) => ctx.world.judge(|judge, now| {
                    judge.acked(&place, base, &values, end, now);
                    std::mem::take(&mut unsure).into_iter().for_each(|(place, values)| judge.promise(&place, values));
                }),
                Ok((code, _)) => {
                    ctx.check_code("produce after silent ones", code);
                    ctx.seek(&conn, &place).await;
                    break;
                }
                Err(_) => break,
            }
        }
    }
}
