//! Runs one seed: hosts, clients and the plan, on one thread, to a verdict.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{BrokerError, Ports, run_with};
use alluvium::config::Settings;
use alluvium::links::{Dial, Stream};
use alluvium::meta::MetaOptions;
use alluvium::meta::image::SessionState;
use alluvium::segment::{Tail, parse_run_key, parse_segment_key, parse_tail};
use alluvium::server::Listener;
use alluvium::store::fault::FaultRates;
use alluvium::store::{ReadRange, Store, StoreError};
use alluvium::types::metrics::Metrics;
use alluvium::types::mutant::{self, Mutant};
use alluvium::types::{SegmentNumber, SessionId};
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bucket::{self, Bucket, HostStore};
use crate::hosts::Hosts;
use crate::judge::Judge;
use crate::net::{self, Listening, Net};
use crate::plan::{A, Action, AtHandover, HOSTS, Kind, Objects, Plan, Program, Way, ms};
use crate::roles::{self, Besides, Ctx};
use crate::states::reached;
use crate::world::{Dice, Exit, Phase, World, until};
use crate::{churn, producers, states, team};

const TICK: Duration = Duration::from_millis(1);

/// A neighbour looks for what is new in the metadata table within this, whatever its clock says.
const HEARSAY: Duration = Duration::from_secs(12);

/// A process that ended by itself is started again after this.
const RESTART_AFTER: Duration = Duration::from_millis(300);

/// In an installation no generation of revisions is filled within [`MetaOptions::image_max_age`]; here that is so much for each revision.
const REVISION_MS: u64 = 10;

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub mutant: Option<Mutant>,
    pub keep_trace: bool,
    pub kind: Option<Kind>,
    /// Parts of the plan that are left out.
    pub without: Vec<usize>,
}

/// What became of a seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub seed: u64,
    pub kind: String,
    pub violations: Vec<String>,
    /// What the plan is made of, by number.
    pub parts: Vec<String>,
    /// Hash and number of all events.
    pub fingerprint: (u64, u64),
    pub timeline: Vec<String>,
    pub simulated: Duration,
    pub counters: BTreeMap<String, u64>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The plan of a seed, whole.
pub fn plan(seed: u64, options: &Options) -> Plan {
    let dice = Dice::new(Arc::new(alluvium::types::env::testing::SeededEntropy::new(seed ^ 0x51_5eed)));
    Plan::new(seed, &dice, options.kind)
}

pub fn run(seed: u64, options: &Options) -> Outcome {
    let whole = plan(seed, options);
    let parts = whole.parts.iter().map(ToString::to_string).collect();
    let plan = whole.without(&options.without);
    // Who closes a neighbour waits until nothing that it shows is proven any more; who has its node id does not wait.
    let hurried = plan.hosts.len() > 1 && !plan.neighbours;
    let staleness = if hurried { Duration::from_millis(plan.ttl_ms) } else { Duration::ZERO };
    let hearsay = if plan.neighbours { HEARSAY + plan.longest_silence() } else { staleness };
    let world = World::new(seed, Judge::new(staleness, hearsay), &plan, options.keep_trace);
    mutant::plant(options.mutant);
    // After a panic nothing of it may run any more; the process ends with the run.
    let simulated = catch_unwind(AssertUnwindSafe(|| ManuallyDrop::new(Run::new(&world, &plan)).drive()));
    mutant::plant(None);
    let simulated = simulated.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.judge(|judge, _| judge.object("panic", text.unwrap_or_default()));
        world.now()
    });
    for (what, count) in states::take() {
        world.counters.lock().insert(what, count);
    }
    Outcome {
        seed,
        kind: format!("{:?}", plan.kind),
        violations: world.judge.lock().violations().to_vec(),
        parts,
        fingerprint: world.fingerprint(),
        timeline: world.timeline(),
        simulated,
        counters: world.counters.lock().iter().map(|(what, count)| ((*what).to_owned(), *count)).collect(),
    }
}

struct Run<'a> {
    world: Arc<World>,
    plan: &'a Plan,
    sim: Hosts,
    stores: BTreeMap<&'static str, HostStore>,
    bucket: Bucket,
    /// Asks the present life of a host to end cleanly.
    stops: Rc<RefCell<BTreeMap<&'static str, CancellationToken>>>,
    restarts: Vec<(Duration, &'static str)>,
    /// What is to happen besides the plan.
    later: Vec<(Duration, Action)>,
    dice: Dice,
}

impl<'a> Run<'a> {
    fn new(world: &Arc<World>, plan: &'a Plan) -> Run<'a> {
        let tick = TICK * u32::try_from(plan.scale).expect("small");
        let mut sim = Hosts::new(world.net.clone(), Dice::new(world.entropy("hosts", 5)), tick);
        let (bucket, landing) = Bucket::new(world.clone(), Duration::from_millis(plan.merging().grace_ms));
        sim.besides(bucket::land(landing));
        let stops = Rc::new(RefCell::new(BTreeMap::new()));
        let mut stores = BTreeMap::new();
        for host in plan.hosts.iter().copied() {
            let store = bucket.for_host(host, plan.latency_ms);
            stores.insert(host, store.clone());
            let (world, settings, options, stops) =
                (world.clone(), settings(plan, host), meta_options(plan), stops.clone());
            sim.broker(host, move || {
                let stop = CancellationToken::new();
                stops.borrow_mut().insert(host, stop.clone());
                Box::pin(live(world.clone(), host, store.clone(), settings.clone(), options.clone(), stop))
            });
        }
        let dice = Dice::new(world.entropy("run", 3));
        let (restarts, later) = (Vec::new(), Vec::new());
        let mut run = Run { world: world.clone(), plan, sim, stores, bucket, stops, restarts, later, dice };
        run.clients();
        run
    }

    fn clients(&mut self) {
        let plan = self.plan;
        let ctx = |name: &'static str| Ctx {
            name,
            world: self.world.clone(),
            dice: Dice::new(self.world.entropy(name, 9)),
            partitions: plan.partitions,
            damage: matches!(plan.kind, Kind::Damage | Kind::Corrupt),
            patience: plan.patience,
            home: plan.homes.get(name).copied(),
            aim: Arc::default(),
        };
        let clients = plan.clients();
        let contexts: Vec<Ctx> = clients.iter().map(|name| ctx(name)).collect();
        let (maker, verifier) = (ctx("maker"), ctx("verifier"));
        let groups = clients.iter().filter_map(|name| group_of(name)).collect();
        let has = |what: &str| clients.iter().any(|name| name.starts_with(what));
        let besides = Besides { team: has("member"), churn: has("churn") };
        self.sim.client(async move { roles::make_topic(&maker).await });
        self.sim.client(roles::verifier(verifier, groups, besides));
        let (producer_pace, admin_pace, deletes) = (plan.producer_pace_ms, plan.admin_pace_ms, plan.deletes);
        for ctx in contexts {
            self.sim.client(async move {
                match (ctx.name.split('-').next(), group_of(ctx.name)) {
                    (Some("idem"), _) => producers::idempotent(ctx, producer_pace).await,
                    (Some("plain"), _) => producers::plain(ctx).await,
                    (Some("silent"), _) => producers::silent(ctx).await,
                    (Some("member"), _) => team::member(ctx).await,
                    (Some("churn"), _) => churn::churn(ctx).await,
                    (Some("asker"), _) => roles::asker(ctx).await,
                    (_, Some(group)) => roles::consumer(ctx, group).await,
                    _ => roles::admin(ctx, admin_pace, deletes).await,
                }
            });
        }
    }

    fn drive(&mut self) -> Duration {
        let mut actions = std::collections::VecDeque::from(self.plan.actions());
        let mut quiet_since = None;
        let mut reborn = false;
        loop {
            let now = self.sim.elapsed();
            self.world.set_now(now);
            while actions.front().is_some_and(|(at, _)| *at <= now) {
                let (_, action) = actions.pop_front().expect("just seen");
                self.act(action);
            }
            self.revive(now);
            self.look_for_handovers();
            if quiet_since.is_none() && self.world.phase() != Phase::Storm {
                quiet_since = Some(now);
            }
            if !reborn && self.world.phase() == Phase::Reborn {
                reborn = true;
                let alive = self.world.alive.lock().clone();
                let all = self.dice.chance(50);
                let one = alive[self.dice.below(alive.len() as u64) as usize];
                alive.into_iter().filter(|host| all || *host == one).for_each(|host| self.bounce(host));
            }
            let late = quiet_since.is_some_and(|since| now > since + self.plan.limit);
            if late && self.plan.kind != Kind::Damage {
                let limit = self.plan.limit;
                self.world.judge(|judge, _| {
                    judge.object("liveness", format_args!("not everything works again {limit:?} after the storm"));
                });
            }
            if late || !self.world.judge.lock().violations().is_empty() {
                break;
            }
            if self.sim.step() {
                break;
            }
        }
        let left = at_once(self.bucket.memory.list("", None, 1_000_000));
        let keys = left.iter().map(|object| object.key.as_str());
        self.world.count("garbage: left at the end", self.bucket.truth.lock().orphans(keys, self.world.now()) as u64);
        for (what, count) in bucket::sum(self.stores.values().map(|store| store.faults.injected())) {
            self.world.count(what, count);
        }
        self.sim.elapsed()
    }

    /// Whoever just handed leases over, with segments that may still be uploading, dies or stands still, or does not hear of it; or it
    /// closed its session and does not hear of that.
    fn look_for_handovers(&mut self) {
        let (now, plan) = (self.world.now(), self.plan);
        if let Some(deaf_ms) = plan.at_close() {
            for host in plan.hosts.iter().copied() {
                let closed = self.world.hosts[host].closed_itself.swap(false, Ordering::Relaxed);
                if closed && self.world.phase() == Phase::Storm {
                    self.act(Action::CutStore(host, Objects::Metadata, Way::Back));
                    self.later.push((now + Duration::from_millis(deaf_ms), Action::MendStore(host)));
                }
            }
        }
        for host in plan.hosts.iter().copied() {
            let handed_to = std::mem::take(&mut *self.world.hosts[host].handed_to.lock());
            if handed_to.is_empty() || self.world.phase() != Phase::Storm || self.dice.chance(50) {
                continue;
            }
            match plan.at_handover() {
                AtHandover::Nothing => {}
                AtHandover::Crash => self.act(Action::Crash(host)),
                AtHandover::StandStill(pause) => {
                    let action = if pause % 2 == 0 { Action::Freeze } else { Action::PauseStore };
                    self.act(action(host, true));
                    self.later.push((now + Duration::from_millis(pause), action(host, false)));
                }
                AtHandover::Regain { deaf_ms, leaves_after_ms } => {
                    self.act(Action::CutStore(host, Objects::Metadata, Way::Back));
                    self.later.push((now + Duration::from_millis(deaf_ms), Action::MendStore(host)));
                    let target = HOSTS.into_iter().find(|other| handed_to.iter().any(|to| to == other));
                    let leave = target.map(|to| (now + Duration::from_millis(leaves_after_ms), Action::Restart(to)));
                    self.later.extend(leave);
                }
            }
        }
        let (due, later) = self.later.drain(..).partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Duration, Action)> = due;
        due.into_iter().for_each(|(_, action)| self.act(action));
    }

    /// Starts processes again that ended by themselves, as a supervisor does; one that was replaced stays down.
    fn revive(&mut self, now: Duration) {
        for host in &self.plan.hosts {
            let Some(exit) = self.world.hosts[host].exited.lock().take() else { continue };
            self.sim.crash(host);
            let survivor = self.world.phase() != Phase::Storm && self.world.alive.lock().contains(host);
            if exit == Exit::Other || survivor {
                self.restarts.push((now + RESTART_AFTER, host));
            }
        }
        let due: Vec<&'static str> = self.restarts.iter().filter(|(at, _)| *at <= now).map(|(_, host)| *host).collect();
        self.restarts.retain(|(at, _)| *at > now);
        for host in due {
            self.bounce(host);
        }
    }

    fn bounce(&mut self, host: &'static str) {
        self.world.note("PLAN", format_args!("starts {host}"));
        self.sim.bounce(host);
    }

    fn act(&mut self, action: Action) {
        self.world.note("PLAN", format_args!("{action:?}"));
        match action {
            Action::Start(host) => {
                self.world.count("broker: started beside another", u64::from(host != A));
                self.world.hosts[host].allowed.send_replace(true);
            }
            Action::Crash(host) => self.crash(host),
            Action::Die(host) => {
                self.world.hosts[host].allowed.send_replace(false);
                self.crash(host);
            }
            Action::Restart(host) => self.tell_to_stop(host),
            Action::Exchange(host, program) => *self.world.hosts[host].program.lock() = program,
            Action::Leave(host) => {
                self.world.hosts[host].allowed.send_replace(false);
                self.tell_to_stop(host);
            }
            Action::Cut(one, other, way) => {
                if self.is_there(one) && self.is_there(other) {
                    self.world.count("network: cut", 1);
                    if way != Way::Back {
                        self.world.net.cut(one, other);
                    }
                    if way != Way::There {
                        self.world.net.cut(other, one);
                    }
                }
            }
            Action::Mend(one, other) => {
                if self.is_there(one) && self.is_there(other) {
                    self.world.net.open(one, other);
                }
            }
            Action::Hold(one, other) => {
                if self.is_there(one) && self.is_there(other) {
                    self.world.count("network: held", 1);
                    self.world.net.hold(one, other);
                }
            }
            Action::Release(one, other) => {
                if self.is_there(one) && self.is_there(other) {
                    self.world.net.open(one, other);
                }
            }
            Action::Rates(host, rates) => self.stores[host].faults.set_rates(rates),
            Action::Deny(host, denied) => {
                self.world.count("store: denied period", u64::from(denied));
                self.stores[host].faults.set_denied(denied);
            }
            Action::Freeze(host, frozen) => {
                self.world.count("broker: stopped, its timers too", u64::from(frozen));
                self.sim.freeze(host, frozen);
            }
            Action::PauseStore(host, paused) => {
                self.world.count("broker: stood still", u64::from(paused));
                self.world.hosts[host].paused.send_replace(paused);
            }
            Action::WallClock(host, ms) => {
                self.world.count("clock: jumped", 1);
                *self.world.hosts[host].wall_skew_ms.lock() = ms;
            }
            Action::CutStore(host, objects, way) => {
                self.world.count("broker: cut off from the store or the table", 1);
                *self.world.hosts[host].cut.lock() = Some((objects, way));
            }
            Action::MendStore(host) => *self.world.hosts[host].cut.lock() = None,
            Action::LateReads(host, ms) => self.world.hosts[host].late_reads_ms.store(ms, Ordering::Relaxed),
            Action::Night(night) => self.world.night.store(night, Ordering::Relaxed),
            Action::Damage => self.damage(),
            Action::Quiet(alive) => self.quiet(alive),
        }
    }

    fn crash(&mut self, host: &'static str) {
        self.world.count("broker: crashed", 1);
        self.sim.crash(host);
        let pause = self.dice.ms(0, 300);
        self.restarts.push((self.world.now() + pause, host));
    }

    fn tell_to_stop(&mut self, host: &'static str) {
        self.world.count("broker: told to stop", 1);
        if let Some(stop) = self.stops.borrow().get(host) {
            stop.cancel();
        }
    }

    /// Whether the plan has this client or broker still.
    fn is_there(&self, name: &str) -> bool {
        self.plan.hosts.contains(&name) || self.plan.clients().contains(&name)
    }

    fn quiet(&mut self, alive: Vec<&'static str>) {
        let plan = self.plan;
        self.later.clear();
        self.world.night.store(false, Ordering::Relaxed);
        let mut others: Vec<&'static str> = plan.clients();
        others.extend(["maker", "verifier"]);
        for (at, host) in plan.hosts.iter().copied().enumerate() {
            self.stores[host].faults.set_rates(FaultRates::default());
            self.stores[host].faults.set_denied(false);
            let switches = &self.world.hosts[host];
            self.sim.freeze(host, false);
            switches.paused.send_replace(false);
            *switches.cut.lock() = None;
            switches.late_reads_ms.store(0, Ordering::Relaxed);
            *switches.program.lock() = Program::Newest;
            for other in others.iter().chain(&plan.hosts[at + 1..]) {
                self.world.net.open(other, host);
            }
            switches.allowed.send_replace(alive.contains(&host));
            if !alive.contains(&host) {
                self.sim.crash(host);
            }
        }
        self.restarts.retain(|(_, host)| alive.contains(host));
        for host in &alive {
            let coming = self.restarts.iter().any(|(_, other)| other == host);
            if !coming && !self.sim.is_running(host) {
                self.bounce(host);
            }
        }
        *self.world.alive.lock() = alive;
        self.world.phase.send_replace(Phase::Quiet);
    }

    /// Damages one object of the log, by losing it or by a wrong bit in its footer.
    fn damage(&mut self) {
        let memory = self.bucket.memory.clone();
        let listed = at_once(memory.list("segments/", None, 10_000));
        if self.dice.chance(30) && self.damage_run() {
            return;
        }
        // A segment lost from the tail of a session that nobody has fenced yet looks like one that was never written; what is lost
        // here lies below an end that is known, or is counted by a later segment.
        let mut counted: BTreeMap<SessionId, SegmentNumber> = BTreeMap::new();
        for object in &listed {
            let read = at_once(memory.read(&object.key, ReadRange::Full));
            if let Ok(Tail::Segment(segment)) = parse_tail(&object.key, read.object_size, &read.bytes) {
                let Ok((session, _)) = parse_segment_key(&object.key) else { continue };
                let most = counted.entry(session).or_default();
                *most = segment.footer.committed.max(*most);
            }
        }
        let is_closed = |session| {
            let truth = self.bucket.truth.lock();
            let state = truth.image().sessions.get(&session).map(|session| session.state);
            state.is_none_or(|state| matches!(state, SessionState::Fenced { .. }))
        };
        let stands = |key: &str| {
            parse_segment_key(key).is_ok_and(|(session, number)| {
                is_closed(session) || counted.get(&session).is_some_and(|counted| number < *counted)
            })
        };
        let data: Vec<_> = listed.into_iter().filter(|object| object.size > 400).collect();
        let closed: Vec<_> = data.iter().filter(|object| stands(&object.key)).collect();
        let lose = !closed.is_empty() && self.dice.chance(60);
        let candidates = if lose { closed } else { data.iter().collect() };
        if candidates.is_empty() {
            return;
        }
        let victim = candidates[self.dice.below(candidates.len() as u64) as usize];
        self.world.count("object: damaged for good", 1);
        if lose {
            self.world.note("PLAN", format_args!("loses {}", victim.key));
            at_once(memory.delete(&victim.key));
        } else {
            self.world.note("PLAN", format_args!("spoils {}", victim.key));
            let read = at_once(memory.read(&victim.key, ReadRange::Full));
            let mut bytes = read.bytes.to_vec();
            let at = bytes.len() - 1 - self.dice.below(60) as usize;
            bytes[at] ^= 1;
            memory.overwrite(&victim.key, Bytes::from(bytes));
        }
    }
}

impl Run<'_> {
    /// The same with a part of a run that counts; `false`: there is none.
    fn damage_run(&mut self) -> bool {
        let memory = self.bucket.memory.clone();
        let named = |key: &str| {
            parse_run_key(key).is_ok_and(|(run, _)| {
                let truth = self.bucket.truth.lock();
                let merges = &truth.image().merges;
                merges.names(run) && !merges.claims.contains_key(&run)
            })
        };
        let parts = at_once(memory.list("runs/", None, 10_000));
        let parts: Vec<_> = parts.into_iter().map(|object| object.key).filter(|key| named(key)).collect();
        if parts.is_empty() {
            return false;
        }
        let victim = &parts[self.dice.below(parts.len() as u64) as usize];
        self.world.count("run: damaged for good", 1);
        self.world.note("PLAN", format_args!("loses {victim}"));
        at_once(memory.delete(victim));
        true
    }
}

/// The store in memory never waits.
fn at_once<T>(call: impl Future<Output = Result<T, StoreError>>) -> T {
    call.now_or_never().expect("memory does not wait").expect("memory does not fail")
}

fn group_of(name: &str) -> Option<&'static str> {
    match name {
        "reader-1" => Some("group-1"),
        "reader-2" => Some("group-2"),
        _ => None,
    }
}

fn node_id(host: &str) -> i32 {
    HOSTS.iter().position(|known| *known == host).and_then(|at| i32::try_from(at + 1).ok()).expect("one of the hosts")
}

fn settings(plan: &Plan, host: &str) -> Settings {
    let merging = plan.merging();
    let mut settings = Settings {
        node_id: Some(if plan.neighbours { node_id(host) } else { 1 }),
        session_ttl_ms: plan.ttl_ms,
        flush_interval_ms: Some(plan.flush_interval_ms),
        merge_window_ms: merging.window_ms,
        merge_window_bytes: merging.window_bytes,
        merge_unmerged_max: Some(merging.unmerged_max),
        collect_grace_ms: merging.grace_ms,
        tail_cache_bytes: merging.tail_bytes,
        feature_level_settle_ms: plan.settle_ms,
        ..Settings::default()
    };
    settings.kafka.offsets_topic_num_partitions = 2;
    settings.kafka.group_initial_rebalance_delay_ms = 0;
    settings.kafka.group_min_session_timeout_ms = 100;
    // Wall clocks jump by a year, and offsets that have expired by then are no loss.
    settings.kafka.offsets_retention_minutes = 10 * 366 * 24 * 60;
    settings
}

fn meta_options(plan: &Plan) -> MetaOptions {
    MetaOptions {
        generation: plan.meta_generation,
        snapshot_every: plan.meta_generation,
        propose_timeout: Duration::from_secs(6),
        read_timeout: Duration::from_secs(3),
        append_timeout: Duration::from_secs(3),
        image_max_age: ms(plan.meta_generation * plan.scale * REVISION_MS),
        ..MetaOptions::default()
    }
}

struct SimListener(Listening);

impl Listener for SimListener {
    type Stream = net::Stream;

    async fn accept(&mut self) -> std::io::Result<(net::Stream, SocketAddr)> {
        self.0.accept().await
    }
}

struct SimDial {
    net: Arc<Net>,
    host: &'static str,
}

#[async_trait::async_trait]
impl Dial for SimDial {
    async fn dial(&self, host: &str, _: u16) -> std::io::Result<Box<dyn Stream>> {
        let host = HOSTS.into_iter().find(|known| *known == host).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(self.net.connect(self.host, host).await?))
    }
}

/// One life of a broker's process. It says why it ended and then does nothing more: its host is crashed, as a process is gone.
async fn live(
    world: Arc<World>,
    host: &'static str,
    store: HostStore,
    mut settings: Settings,
    mut options: MetaOptions,
    stop: CancellationToken,
) {
    let switches = &world.hosts[host];
    until(&switches.allowed, |allowed| *allowed).await;
    let life = switches.lives.fetch_add(1, Ordering::Relaxed);
    let program = *switches.program.lock();
    match program {
        Program::Older => options.supports = 1,
        Program::Held => settings.feature_level = Some(1),
        Program::Newest => {}
    }
    let ports = Ports {
        store: store.store.clone(),
        env: world.env(host, life),
        listener: SimListener(world.net.listen(host)),
        dial: Arc::new(SimDial { net: world.net.clone(), host }),
        advertised: (host.to_owned(), 9092),
        metrics: Metrics::new(),
        readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
    };
    let ready = |_node_id| {
        world.note(host, format_args!("life {life} serves ({program:?})"));
    };
    let end = run_with(ports, settings, options, stop.clone(), ready).await;
    let exit = match &end {
        Err(BrokerError::Fenced { .. }) => Exit::Fenced,
        _ => Exit::Other,
    };
    match &end {
        Ok(()) => world.note(host, format_args!("life {life} ended as asked")),
        Err(error) => world.note(host, format_args!("life {life} ended: {error}")),
    }
    if let Err(BrokerError::Metadata(error)) = &end
        && program == Program::Older
        && error.to_string().contains("is unknown to this program")
    {
        reached("level: an older program ended at what it does not know");
    }
    // Who is told to stop and finds no store ends without it, and says so.
    let without_store = |reason: &str| stop.is_cancelled() && reason.contains("did not take the last segments");
    if let Err(BrokerError::Broken(reason)) = &end
        && !without_store(reason)
    {
        world.judge(|judge, _| judge.object("broken", reason));
    }
    *switches.exited.lock() = Some(exit);
    std::future::pending().await
}
