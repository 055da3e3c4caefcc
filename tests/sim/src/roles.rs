//! The clients of a run. Each is written like the real ones behave, and tells the judge what it sees.
//!
//! They go on until the quiet phase, finish what is open, and end. Which broker they ask is their own choice: when one does not answer
//! or says that it is not the leader, they try the next.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::judge::{Order, Place, Sent};
use crate::kafka::{Conn, DAMAGED, Fetched, batch, dated, time_of};
use crate::plan::HOSTS;
use crate::world::{self, Dice, Phase, World};
use crate::{churn, team};

pub const TOPIC: &str = "t";

/// Error codes that say "ask again, or somebody else".
const RETRIABLE: &[i16] = &[3, 5, 6, 7, 14, 15, 16, 56, 74, 75, 78];
const OUT_OF_RANGE: i16 = 1;

/// At night pauses are so many times as long.
const NIGHT: u32 = 30;

/// In quiet phases everybody waits so long at least.
const LONG_PATIENCE: Duration = Duration::from_millis(2500);

/// What all clients know.
#[derive(Clone)]
pub struct Ctx {
    pub name: &'static str,
    pub world: Arc<World>,
    pub dice: Dice,
    pub partitions: i32,
    /// Errors of storage are expected: something was damaged on purpose.
    pub damage: bool,
    pub patience: Duration,
    /// The broker that it keeps to, mostly.
    pub home: Option<&'static str>,
    /// Which broker to ask next.
    pub aim: Arc<Mutex<Option<&'static str>>>,
}

impl Ctx {
    pub fn place(&self, index: i32) -> Place {
        (TOPIC.to_owned(), index)
    }

    pub fn places(&self) -> Vec<Place> {
        (0..self.partitions).map(|index| self.place(index)).collect()
    }

    pub fn storm(&self) -> bool {
        self.world.phase() == Phase::Storm
    }

    pub async fn pause(&self, low: u64, high: u64) {
        let pause = self.dice.ms(low, high) * self.world.scale;
        tokio::time::sleep(pause).await;
        for _ in 0..NIGHT {
            if !self.world.night.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn open(&self, host: &'static str, patience: Duration) -> io::Result<Conn> {
        Conn::open(&self.world.net, self.name, host, patience).await
    }

    /// A connection to some broker; in quiet phases to one that is meant to be alive.
    pub async fn connect(&self) -> Conn {
        loop {
            let up = self.world.up();
            let any = || up.get(self.dice.below(up.len() as u64) as usize).copied();
            let aim = self.aim.lock().take().filter(|host| up.contains(host));
            let home = self.home.filter(|_| self.storm() && self.dice.chance(85));
            let Some(host) = home.or(aim).or_else(any) else {
                self.pause(20, 120).await;
                continue;
            };
            match self.open(host, Duration::from_millis(500)).await {
                Ok(mut conn) => {
                    // A join waits for the members that died.
                    conn.patience = if self.storm() { self.patience } else { self.patience.max(LONG_PATIENCE) };
                    self.world.note(self.name, format_args!("connected to {host}"));
                    return conn;
                }
                Err(_) => self.pause(20, 120).await,
            }
        }
    }

    /// After a refusal: most clients look who leads the partition, and go there. On a connection of its own: answers may be due on this.
    pub async fn seek(&self, conn: &Conn, place: &Place) {
        if self.world.hosts.len() > 1 && self.dice.chance(70) {
            let leader = match self.open(conn.host, self.patience).await {
                Ok(mut fresh) => fresh.leader(place).await.unwrap_or_default(),
                Err(_) => None,
            };
            self.aim_at(leader);
        }
    }

    /// The same for the coordinator of a group.
    pub async fn seek_coordinator(&self, conn: &Conn, group: &str) {
        if self.world.hosts.len() > 1 && self.dice.chance(70) {
            let found = match self.open(conn.host, self.patience).await {
                Ok(mut fresh) => fresh.coordinator(group).await.unwrap_or_default(),
                Err(_) => None,
            };
            self.aim_at(found);
        }
    }

    fn aim_at(&self, name: Option<String>) {
        *self.aim.lock() = name.and_then(|name| HOSTS.into_iter().find(|host| *host == name));
    }

    /// Objects to error codes that no fault explains.
    pub fn check_code(&self, what: &str, code: i16) {
        let damaged = code == DAMAGED || code == 56;
        if code != 0 && !RETRIABLE.contains(&code) && !(damaged && self.damage) {
            self.world.judge(|judge, _| judge.object("unexpected-error", format_args!("{what}: code {code}")));
        }
    }
}

/// Makes the topic that everybody uses.
pub async fn make_topic(ctx: &Ctx) {
    loop {
        let mut conn = ctx.connect().await;
        match conn.create_topic(TOPIC, ctx.partitions).await {
            Ok(0 | 36) => {
                ctx.world.judge(|judge, _| judge.topic_created(TOPIC));
                return;
            }
            Ok(code) => ctx.check_code("create topic", code),
            Err(_) => {}
        }
        ctx.pause(20, 100).await;
    }
}

pub async fn wait_for_topic(ctx: &Ctx) {
    loop {
        let mut conn = ctx.connect().await;
        if conn.topics().await.is_ok_and(|topics| topics.contains(TOPIC)) {
            return;
        }
        ctx.pause(20, 100).await;
    }
}

/// Reads all partitions from the beginning, again and again, and commits how far it came.
pub async fn consumer(ctx: Ctx, group: &'static str) {
    wait_for_topic(&ctx).await;
    let mut at: BTreeMap<Place, i64> = ctx.places().into_iter().map(|place| (place, 0)).collect();
    while ctx.storm() {
        let mut conn = ctx.connect().await;
        while ctx.storm() {
            if ctx.dice.chance(5) {
                at.values_mut().for_each(|offset| *offset = 0);
            }
            if read_once(&ctx, &mut conn, &mut at).await.is_err() {
                break;
            }
            if ctx.dice.chance(30) && commit_once(&ctx, &mut conn, group, &at).await.is_err() {
                break;
            }
            ctx.pause(5, 80).await;
        }
    }
}

async fn read_once(ctx: &Ctx, conn: &mut Conn, at: &mut BTreeMap<Place, i64>) -> io::Result<()> {
    let asks: Vec<(Place, i64)> = at.iter().map(|(place, offset)| (place.clone(), *offset)).collect();
    let asked = ctx.world.now();
    let deleted: BTreeMap<Place, i64> = ctx
        .world
        .judge(|judge, now| asks.iter().map(|(place, _)| (place.clone(), judge.deleted(place, now))).collect());
    let max_bytes = if ctx.dice.chance(30) { 200 } else { 1 << 20 };
    let mut refused = None;
    for fetched in conn.fetch(&asks, 100, max_bytes).await? {
        let from = at[&fetched.place];
        let Fetched { place, error, end, stable, start, records } = fetched;
        ctx.world.note(
            ctx.name,
            format_args!("read {place:?} from {from}: code {error}, end {end}, {} records", records.len()),
        );
        match error {
            0 => {
                ctx.world.judge(|judge, now| {
                    judge.shown_end(&place, end, asked, now);
                    judge.shown_stable(&place, end, stable);
                    judge.shown_start(&place, start, deleted[&place]);
                    judge.shown(&place, from, end, &records);
                });
                at.insert(place, records.last().map_or(from, |(offset, _)| offset + 1));
            }
            OUT_OF_RANGE => {
                ctx.world.judge(|judge, _| judge.out_of_range(&place, from, asked));
                let (code, start) = conn.list_offset(&place, -2).await?;
                if code != 0 {
                    ctx.check_code("list offsets", code);
                    return Err(io::Error::other("refused"));
                }
                ctx.world.judge(|judge, _| {
                    judge.shown_start(&place, start, deleted[&place]);
                    if start <= from {
                        judge
                            .object("lost-its-place", format_args!("{place:?}: {from} is out of range, start {start}"));
                    }
                });
                at.insert(place, start);
            }
            code => {
                ctx.check_code("fetch", code);
                refused = Some(place);
            }
        }
    }
    match refused {
        Some(place) => {
            ctx.seek(conn, &place).await;
            Err(io::Error::other("refused"))
        }
        None => Ok(()),
    }
}

async fn commit_once(ctx: &Ctx, conn: &mut Conn, group: &str, at: &BTreeMap<Place, i64>) -> io::Result<()> {
    let (place, offset) = at.iter().nth(ctx.dice.below(at.len() as u64) as usize).expect("there are partitions");
    ctx.world.judge(|judge, _| judge.commits(group, place, *offset));
    let result = conn.commit(group, place, *offset).await;
    ctx.world.note(ctx.name, format_args!("commits {offset} of {place:?}: {result:?}"));
    match result? {
        0 => ctx.world.judge(|judge, now| judge.committed(group, place, *offset, now)),
        code => {
            ctx.check_code("commit", code);
            ctx.seek_coordinator(conn, group).await;
            return Err(io::Error::other("refused"));
        }
    }
    look_at_commit(ctx, conn, group, place).await.map(|_| ())
}

/// Tells whether the broker gave an answer.
async fn look_at_commit(ctx: &Ctx, conn: &mut Conn, group: &str, place: &Place) -> io::Result<bool> {
    let asked = ctx.world.now();
    let (code, offset) = conn.committed(group, place).await?;
    ctx.world.note(ctx.name, format_args!("{group} stands at {offset} of {place:?}: code {code}"));
    ctx.check_code("offset fetch", code);
    if code == 0 {
        ctx.world.judge(|judge, _| judge.shown_committed(group, place, offset, asked));
    }
    Ok(code == 0)
}

/// Asks one broker for ends and records, as quickly as it answers, and stays with it whatever it says.
pub async fn asker(ctx: Ctx) {
    wait_for_topic(&ctx).await;
    let home = ctx.home.expect("askers have one");
    while ctx.storm() {
        let Ok(mut conn) = ctx.open(home, Duration::from_millis(500)).await else {
            ctx.pause(20, 120).await;
            continue;
        };
        conn.patience = ctx.patience;
        while ctx.storm() {
            ctx.pause(2, 15).await;
            let place = ctx.place(ctx.dice.below(ctx.partitions as u64) as i32);
            let asked = ctx.world.now();
            let Ok((code, end)) = conn.list_offset(&place, -1).await else { break };
            ctx.world.note(ctx.name, format_args!("end of {place:?} at {home}: code {code}, {end}"));
            ctx.check_code("list offsets", code);
            if code == 0 {
                ctx.world.judge(|judge, now| judge.shown_end(&place, end, asked, now));
            }
            // Sometimes from where a reader has come to that read at another broker before.
            let (known, deleted) = ctx.world.judge(|judge, now| (judge.end(&place, now), judge.deleted(&place, now)));
            let elsewhere = ctx.dice.chance(30);
            if code != 0 && !elsewhere {
                continue;
            }
            let from = if elsewhere { known } else { end - 3 }.max(deleted);
            let asked = ctx.world.now();
            let Ok(fetched) = conn.fetch(&[(place.clone(), from)], 0, 1 << 20).await else { break };
            let fetched = &fetched[0];
            if fetched.error == 0 {
                ctx.world.judge(|judge, now| {
                    judge.shown_end(&place, fetched.end, asked, now);
                    judge.shown(&place, from, fetched.end, &fetched.records);
                });
            } else if fetched.error == OUT_OF_RANGE {
                // What is asked for may have been deleted meanwhile; the judge knows.
                ctx.world.judge(|judge, _| judge.out_of_range(&place, from, asked));
            } else {
                ctx.check_code("fetch", fetched.error);
            }
        }
    }
}

/// Asks for ends and starts, makes topics, cuts logs.
pub async fn admin(ctx: Ctx, pace_ms: (u64, u64), deletes: bool) {
    wait_for_topic(&ctx).await;
    let mut made = 0;
    while ctx.storm() {
        let mut conn = ctx.connect().await;
        while ctx.storm() {
            ctx.pause(pace_ms.0, pace_ms.1).await;
            let place = ctx.place(ctx.dice.below(ctx.partitions as u64) as i32);
            let result = match ctx.dice.below(10) {
                0..3 => ask_end(&ctx, &mut conn, &place).await,
                3 if deletes => cut(&ctx, &mut conn, &place).await,
                4..7 => {
                    made += 1;
                    make_another(&ctx, &mut conn, &format!("{}-{made}", ctx.name)).await
                }
                7 => conn.producer_id().await.map(|(code, id)| {
                    ctx.world.note(ctx.name, format_args!("producer id {id}, code {code}"));
                    ctx.check_code("init producer id", code);
                    if code == 0 {
                        ctx.world.judge(|judge, _| judge.producer_id(id));
                    }
                }),
                8 => ask_by_time(&ctx, &mut conn, &place).await,
                _ => ask_end(&ctx, &mut conn, &place).await,
            };
            if result.is_err() {
                break;
            }
        }
    }
}

async fn ask_end(ctx: &Ctx, conn: &mut Conn, place: &Place) -> io::Result<()> {
    let asked = ctx.world.now();
    let (code, end) = conn.list_offset(place, -1).await?;
    ctx.world.note(ctx.name, format_args!("end of {place:?}: code {code}, {end}"));
    ctx.check_code("list offsets", code);
    if code != 0 {
        ctx.seek(conn, place).await;
        return Err(io::Error::other("refused"));
    }
    ctx.world.judge(|judge, now| judge.shown_end(place, end, asked, now));
    Ok(())
}

/// Asks for the first record from some moment on.
async fn ask_by_time(ctx: &Ctx, conn: &mut Conn, place: &Place) -> io::Result<()> {
    let now = ctx.world.now();
    let wanted = time_of(now.mul_f64(ctx.dice.below(1000) as f64 / 1000.0));
    let known = ctx.world.judge(|judge, now| judge.end(place, now));
    let (code, offset, timestamp) = conn.list_by_time(place, wanted).await?;
    ctx.world.note(ctx.name, format_args!("{place:?} from {wanted} on: code {code}, {offset} at {timestamp}"));
    ctx.check_code("list offsets", code);
    if code != 0 {
        ctx.seek(conn, place).await;
        return Err(io::Error::other("refused"));
    }
    ctx.world.judge(|judge, _| judge.shown_by_time(place, wanted, (offset, timestamp), known));
    Ok(())
}

async fn cut(ctx: &Ctx, conn: &mut Conn, place: &Place) -> io::Result<()> {
    let (known, low) = ctx.world.judge(|judge, now| (judge.end(place, now), judge.deleted(place, now)));
    // Sometimes all of it, so that nothing but the log start says what the next offset is.
    let offset = if ctx.dice.chance(30) { known } else { low + (known - low).max(0) / 3 };
    ctx.world.judge(|judge, _| judge.delete_asked(place, offset));
    let (code, low) = conn.delete_records(place, offset).await?;
    ctx.world.note(ctx.name, format_args!("deletes {place:?} up to {offset}: code {code}, starts at {low}"));
    if code == 0 {
        ctx.world.judge(|judge, now| judge.delete_acked(place, low, now));
    } else if code != OUT_OF_RANGE {
        ctx.check_code("delete records", code);
    }
    Ok(())
}

async fn make_another(ctx: &Ctx, conn: &mut Conn, name: &str) -> io::Result<()> {
    let code = conn.create_topic(name, 1).await?;
    ctx.world.note(ctx.name, format_args!("creates {name}: code {code}"));
    match code {
        0 => ctx.world.judge(|judge, _| judge.topic_created(name)),
        36 => {}
        code => ctx.check_code("create topic", code),
    }
    Ok(())
}

/// What a run has besides producers and consumers.
#[derive(Clone, Copy, Debug)]
pub struct Besides {
    pub team: bool,
    pub churn: bool,
}

/// Comes when the storm is over: writes to every partition and reads all of them, before and after one more restart.
pub async fn verifier(ctx: Ctx, groups: BTreeSet<&'static str>, besides: Besides) {
    for (phase, round) in [(Phase::Quiet, 0), (Phase::Reborn, 1)] {
        world::until(&ctx.world.phase, |now| *now >= phase).await;
        for place in ctx.places() {
            write_one(&ctx, &place, round).await;
        }
        for place in ctx.places() {
            read_all(&ctx, &place).await;
            for group in &groups {
                until(&ctx, async |conn| {
                    let answered = look_at_commit(&ctx, conn, group, &place).await?;
                    if !answered {
                        ctx.seek_coordinator(conn, group).await;
                    }
                    Ok(answered)
                })
                .await;
            }
        }
        if besides.team {
            until(&ctx, async |conn| team::verify(&ctx, conn).await).await;
        }
        if besides.churn {
            churn::verify(&ctx, round).await;
        }
        until(&ctx, async |conn| {
            let topics = conn.topics().await?;
            // A broker may learn of another one's changes a little later; one that has just started knows all.
            if round == 0 {
                return Ok(true);
            }
            if ctx.world.up().len() > 1 {
                return Ok(ctx.world.judge(|judge, _| judge.knows_topics(&topics)));
            }
            ctx.world.judge(|judge, _| judge.shown_topics(&topics));
            Ok(true)
        })
        .await;
        ctx.world.note(ctx.name, format_args!("everything was read in round {round}"));
        if round == 0 {
            ctx.world.phase.send_replace(Phase::Reborn);
        }
    }
    ctx.world.phase.send_replace(Phase::Done);
}

/// Tries until it is done, with a new connection after each fault.
pub async fn until(ctx: &Ctx, mut step: impl AsyncFnMut(&mut Conn) -> io::Result<bool>) {
    loop {
        let mut conn = ctx.connect().await;
        if matches!(step(&mut conn).await, Ok(true)) {
            return;
        }
        ctx.pause(20, 100).await;
    }
}

async fn write_one(ctx: &Ctx, place: &Place, round: u64) {
    let mut attempt = 0;
    until(ctx, async |conn| {
        let values = vec![dated(&ctx.dice, ctx.world.now(), format!("verifier/{}/{round}/{attempt}", place.1))];
        attempt += 1;
        let end = ctx.world.judge(|judge, now| {
            let producer = ctx.name.to_owned();
            judge.sent(&values[0], Sent { place: place.clone(), order: Order::Any, producer, index: 0, epoch: None });
            judge.end(place, now)
        });
        let id = conn.send_batch(place, batch(None, &values)).await?;
        let (code, base) = conn.receive_ack(id).await?;
        ctx.world.note(ctx.name, format_args!("writes {place:?}: code {code}, {base}"));
        ctx.check_code("last produce", code);
        if code != 0 {
            ctx.seek(conn, place).await;
        }
        if code == 0 {
            ctx.world.judge(|judge, now| judge.acked(place, base, &values, end, now));
        }
        Ok(code == 0)
    })
    .await;
}

async fn read_all(ctx: &Ctx, place: &Place) {
    let mut start = None;
    let mut next = 0;
    let mut out_of_range = None;
    let mut records: Vec<(i64, String)> = Vec::new();
    until(ctx, async |conn| {
        loop {
            if start.is_none() {
                // A DeleteRecords of the storm may be acknowledged while this is answered.
                let deleted = ctx.world.judge(|judge, now| judge.deleted(place, now));
                let (code, low) = conn.list_offset(place, -2).await?;
                ctx.check_code("list offsets", code);
                if code != 0 {
                    ctx.seek(conn, place).await;
                    return Ok(false);
                }
                ctx.world.judge(|judge, _| {
                    judge.shown_start(place, low, deleted);
                    if let Some(from) = out_of_range.take().filter(|from| low <= *from) {
                        judge.object("lost-its-place", format_args!("{place:?}: {from} is out of range, start {low}"));
                    }
                });
                (start, next) = (Some(low), low);
                records.clear();
            }
            let asked = ctx.world.now();
            let fetched = conn.fetch(&[(place.clone(), next)], 0, 1 << 20).await?.remove(0);
            if fetched.error != 0 {
                ctx.world.note(ctx.name, format_args!("read {place:?} from {next}: code {}", fetched.error));
                // A DeleteRecords of the storm may still be at work: whoever asked is known to the judge, who looks at the new start.
                if fetched.error == OUT_OF_RANGE {
                    (start, out_of_range) = (None, Some(next));
                    return Ok(false);
                }
                ctx.check_code("last fetch", fetched.error);
                ctx.seek(conn, place).await;
                return Ok(false);
            }
            ctx.world.judge(|judge, now| {
                judge.shown_end(place, fetched.end, asked, now);
                judge.shown(place, next, fetched.end, &fetched.records);
            });
            let stuck = fetched.records.is_empty() && next < fetched.end;
            records.extend(fetched.records);
            next = records.last().map_or(next, |(offset, _)| offset + 1);
            if next >= fetched.end {
                return Ok(true);
            }
            if stuck {
                return Ok(false);
            }
        }
    })
    .await;
    ctx.world.note(ctx.name, format_args!("{place:?} holds {start:?}..{next}"));
    ctx.world.judge(|judge, _| {
        judge.final_log(place, start.unwrap_or(0), next, &records);
    });
}
