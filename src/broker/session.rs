//! One session of a broker, from opening to end.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BrokerError, Ports};
use super::{levels, series};
use crate::admin::{CacheSeries, Readiness};
use crate::api::fetch_sessions::FetchSessions;
use crate::api::ports::{AdminServices, NodeInfo};
use crate::api::topics::Topics;
use crate::api::unread::Unread;
use crate::api::{Services, produce};
use crate::cache::{BlockCache, MemoryBlockCache, TailCache};
use crate::config::{self, Settings};
use crate::coord::durable::DurableOffsets;
use crate::coord::{Groups, Limits};
use crate::links::{self, Links};
use crate::log::Log;
use crate::log::append::budget::Budget;
use crate::log::append::flush::{FlushContext, FlushPolicy, Flusher, Quick};
use crate::log::append::unmerged::Unmerged;
use crate::log::append::{Appender, SessionEnd};
use crate::log::fence::fence_own;
use crate::log::fetch::Reader;
use crate::log::handover;
use crate::log::proof::Proof;
use crate::log::recover::FooterReader;
use crate::log::refusals::WithoutSlot;
use crate::log::runs::RunBook;
use crate::log::session::{self, Identity, OpenError, OpenedSession};
use crate::log::slot::Slots;
use crate::log::survive;
use crate::maintain::{Maintenance, plan as merge_plan};
use crate::meta::entry::Endpoint;
use crate::meta::image::Image;
use crate::meta::{Metadata, level};
use crate::server::{self, Listener, Stops};
use crate::store::create::CreatePolicy;
use crate::store::hedge::HedgeTracker;
use crate::store::retry::ReadPolicy;
use crate::types::aside::aside;
use crate::types::pace::Pace;
use crate::types::{FEATURE_LEVEL, NodeId, SessionId, TopicId};

/// Answers get so much time to leave when the broker stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// A fetch tries to read for so long: with its last attempt less than the 30 s after which clients give up.
const FETCH_PATIENCE: Duration = Duration::from_secs(15);

/// Handing leases over may take so long when the broker stops.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// After that clients have so long to be told where they go on: what they send next is refused with the new leader's name. Were their
/// connections closed at once, requests would be lost that are on their way, and clients make long pauses after that.
const TURNING_AWAY: Duration = Duration::from_millis(500);

/// The last segments get so much time when the broker stops; with the fence it is less than the 30 s that supervisors give.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Fencing ourselves may take so long; the next session does it otherwise.
const SELF_FENCE_LIMIT: Duration = Duration::from_secs(5);

/// Pacing where no interval is set: stores that are reached over a network, and the local directory.
const SHARED_INTERVAL: Duration = Duration::from_millis(100);
const LOCAL_INTERVAL: Duration = Duration::from_millis(5);

/// Of the local directory, unless somebody asks for an interval.
const LOCAL_QUICK: Quick = Quick { uploads: 2, interval: Duration::from_millis(1) };

/// Objects of a run become so large; one at a time is in memory, charged to the buffers. With small buffers they are a part of those.
const RUN_OBJECT_BYTES: u64 = 64 << 20;
const LEAST_RUN_OBJECT_BYTES: u64 = 8 << 20;
const RUN_OBJECT_PART: usize = 4;

/// What other brokers ask takes no more: thousands of asks.
const LINK_BUDGET_BYTES: usize = 1 << 20;

/// Segments that may wait to be merged: a minute's at the pace of each kind of store.
const SHARED_UNMERGED: usize = 600;
const LOCAL_UNMERGED: usize = 20_000;

/// The name of the one listener, as Kafka names it.
const LISTENER: &str = "PLAINTEXT";

/// A session that serves.
pub struct Session {
    services: Arc<Services>,
    flusher: Flusher,
    maintenance: Maintenance,
    producer_expiration_ms: i64,
}

impl Session {
    pub fn id(&self) -> SessionId {
        self.services.log.session
    }

    pub fn node_id(&self) -> NodeId {
        self.services.admin.node.node_id
    }
}

/// Opens a session in the table and the bucket and builds what serves it.
pub async fn open<L>(ports: &Ports<L>, meta: &Arc<Metadata>, settings: &Arc<Settings>) -> Result<Session, OpenError> {
    let footers = FooterReader { store: ports.store.clone(), env: ports.env.clone() };
    let (host, port) = ports.advertised.clone();
    let identity = Identity {
        node_id: settings.node_id,
        alone: !ports.store.is_shared(),
        endpoints: vec![Endpoint { listener: LISTENER.to_owned(), host, port }],
        rack: settings.rack.clone(),
        session_ttl_ms: settings.session_ttl_ms,
        feature_level: settings.feature_level.unwrap_or(FEATURE_LEVEL).min(meta.supports()),
    };
    let patient = CreatePolicy { deadline: Some(Duration::from_secs(60)), ..CreatePolicy::default() };
    let opened = session::open(meta, &footers, &patient, &identity).await?;
    tracing::info!(session = %opened.id, "opened a session");
    Ok(build(ports, meta, settings, footers, opened))
}

fn build<L>(
    ports: &Ports<L>,
    meta: &Arc<Metadata>,
    settings: &Arc<Settings>,
    footers: FooterReader,
    opened: OpenedSession,
) -> Session {
    let ttl = ports.store.is_shared().then_some(opened.ttl);
    let env = ports.env.clone();
    let limits = merge_limits(settings, ttl.is_some());
    let committed = opened.newest.number + 1;
    let context = FlushContext {
        session: opened.id,
        appender: Arc::new(Appender::new(committed, settings.flush_bytes)),
        slots: Arc::new(Slots::default()),
        store: ports.store.clone(),
        tail: Arc::new(TailCache::new(settings.tail_cache_bytes)),
        proof: Arc::new(Proof::new(env.clone(), ttl, opened.newest)),
        unmerged: Arc::new(Unmerged::new(limits.unmerged_max, committed, env.clock.boot())),
        env: env.clone(),
        metrics: ports.metrics.clone(),
    };
    let log = Arc::new(Log {
        session: opened.id,
        env,
        meta: meta.clone(),
        slots: context.slots.clone(),
        appender: context.appender.clone(),
        reader: Reader::new(context.tail.clone(), block_cache(ports, settings), settings.block_cache_bytes),
        proof: context.proof.clone(),
        budget: Budget::new(settings.buffer_bytes),
        internal_budget: Budget::new(settings.buffer_bytes / 8),
        control_budget: Budget::new(settings.buffer_bytes / 8),
        link_budget: Budget::new(LINK_BUDGET_BYTES),
        footers,
        refused: WithoutSlot::default(),
        reconciling: Mutex::new(()),
        runs: meta.read(RunBook::new),
    });
    let maintenance = Maintenance {
        log: log.clone(),
        tail: context.tail.clone(),
        unmerged: context.unmerged.clone(),
        metrics: ports.metrics.clone(),
        limits,
        grace: Duration::from_millis(settings.collect_grace_ms),
    };
    Session {
        maintenance,
        services: services(ports, settings, log, opened.node_id),
        flusher: Flusher::new(context, flush_policy(settings, ttl), opened.footers),
        producer_expiration_ms: settings.kafka.producer_id_expiration_ms,
    }
}

fn block_cache<L>(ports: &Ports<L>, settings: &Settings) -> Arc<dyn BlockCache> {
    let bytes = settings.block_cache_bytes;
    let policy = ReadPolicy { deadline: FETCH_PATIENCE, ..ReadPolicy::default() };
    let blocks = MemoryBlockCache::new(ports.store.clone(), ports.env.clone(), bytes, policy);
    let blocks: Arc<dyn BlockCache> = Arc::new(blocks);
    ports.metrics.show("cache", Arc::new(CacheSeries(blocks.clone())));
    blocks
}

fn merge_limits(settings: &Settings, shared: bool) -> merge_plan::Limits {
    merge_plan::Limits {
        window: Duration::from_millis(settings.merge_window_ms),
        window_bytes: settings.merge_window_bytes,
        unmerged_max: settings.merge_unmerged_max.unwrap_or(if shared { SHARED_UNMERGED } else { LOCAL_UNMERGED }),
        object_bytes: run_object_bytes(settings.buffer_bytes).min(settings.merge_window_bytes),
    }
}

fn run_object_bytes(buffer_bytes: usize) -> u64 {
    let part = u64::try_from(buffer_bytes / RUN_OBJECT_PART).unwrap_or(u64::MAX);
    part.clamp(LEAST_RUN_OBJECT_BYTES, RUN_OBJECT_BYTES)
}

/// `ttl`: the session's, on a shared store.
fn flush_policy(settings: &Settings, ttl: Option<Duration>) -> FlushPolicy {
    let default_interval = if ttl.is_some() { SHARED_INTERVAL } else { LOCAL_INTERVAL };
    FlushPolicy {
        interval: settings.flush_interval_ms.map_or(default_interval, Duration::from_millis),
        quick: (ttl.is_none() && settings.flush_interval_ms.is_none()).then_some(LOCAL_QUICK),
        inflight: settings.flush_inflight,
        heartbeat: ttl.map(|ttl| ttl / 3),
        create: CreatePolicy { hedge: ttl.map(|_| Arc::new(HedgeTracker::new())), ..CreatePolicy::default() },
    }
}

fn services<L>(ports: &Ports<L>, settings: &Arc<Settings>, log: Arc<Log>, node_id: NodeId) -> Arc<Services> {
    let kafka = &settings.kafka;
    let meta = log.meta.clone();
    let env = ports.env.clone();
    let offsets =
        DurableOffsets { log: log.clone(), partitions: kafka.offsets_topic_num_partitions, meta_of: produce::meta_of };
    let (host, port) = ports.advertised.clone();
    let node = NodeInfo {
        node_id,
        session: log.session,
        endpoint: Endpoint { listener: LISTENER.to_owned(), host, port },
        rack: settings.rack.clone(),
        store: ports.store.describe(),
    };
    let slots = usize::try_from(kafka.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    Arc::new(Services {
        settings: settings.clone(),
        metrics: ports.metrics.clone(),
        groups: Arc::new(Groups::start(env.clone(), Limits::from_settings(kafka), Arc::new(offsets))),
        admin: AdminServices::new(meta.clone(), log.clone(), node, kafka.clone(), env.clone()),
        topics: Topics::new(meta.clone(), config::kafka_configs(kafka), node_id),
        fetch_sessions: Mutex::new(FetchSessions::new(slots)),
        unread: Unread::new(settings.buffer_bytes),
        complaints: Pace::new(Duration::from_secs(1)),
        env,
        meta,
        log,
    })
}

/// Serves until the session ends. Errors are of the metadata table only.
pub async fn run<L: Listener>(
    session: Session,
    ports: &mut Ports<L>,
    meta: &Arc<Metadata>,
    shutdown: &CancellationToken,
) -> Result<SessionEnd, BrokerError> {
    let Session { services, flusher, maintenance, producer_expiration_ms } = session;
    let log = services.log.clone();
    let stops = Stops { accepting: CancellationToken::new(), connections: CancellationToken::new() };
    let drain = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut flushing = tokio::spawn(flusher.run(drain.clone()));
    log.reconcile();
    tasks.spawn(follow(services.clone()));
    tasks.spawn(log.clone().expire_producers(producer_expiration_ms));
    let (living, alive) = watch::channel(BTreeSet::new());
    if ports.store.is_shared() {
        watch_others(&mut tasks, ports, &log, living);
        tasks.spawn(handover::run(log.clone(), alive.clone()));
    }
    tasks.spawn(maintenance.run());
    spawn_looks(&mut tasks, &services);
    let readiness = ports.readiness.clone();
    let serving = server::serve(&mut ports.listener, services.clone(), stops.clone());
    let watch = async {
        let stopped = tokio::select! {
            biased;
            end = &mut flushing => Some(Ok(ended(end))),
            error = meta.stopped() => Some(Err(BrokerError::Metadata(error))),
            () = shutdown.cancelled() => {
                readiness.send_replace(Readiness::NotReady("it is stopping".to_owned()));
                leave(&log, &alive).await;
                None
            }
        };
        stops.accepting.cancel();
        drain.cancel();
        let end = match stopped {
            Some(end) => end,
            None => Ok(drained(&mut flushing).await),
        };
        part(&log, &stops, matches!(end, Ok(SessionEnd::Drained))).await;
        end
    };
    let mut serving = std::pin::pin!(serving);
    let mut watch = std::pin::pin!(watch);
    let mut served = false;
    let end = loop {
        tokio::select! {
            biased;
            () = &mut serving, if !served => {
                served = true;
                if stops.accepting.is_cancelled() {
                    stops.connections.cancel();
                }
            }
            end = &mut watch => break end,
        }
    };
    if !served {
        serving.await;
    }
    tasks.shutdown().await;
    if !matches!(end, Ok(SessionEnd::Fenced { .. } | SessionEnd::Drained)) {
        fence_self(&log, false).await;
    }
    end
}

/// Listens to the other brokers and closes those that are dead.
fn watch_others<L>(
    tasks: &mut JoinSet<()>,
    ports: &Ports<L>,
    log: &Arc<Log>,
    living: watch::Sender<BTreeSet<SessionId>>,
) {
    let ttl = Duration::from_millis(log.meta.read(|image| image.session_ttl_ms));
    let links = Arc::new(Links::default());
    let (meta, dial, env) = (log.meta.clone(), ports.dial.clone(), ports.env.clone());
    let means = links::Means { links: links.clone(), meta, dial, env, ttl };
    tasks.spawn(links::run(means, log.session));
    let answering = links.clone();
    let count = move || i64::try_from(answering.up_count()).unwrap_or(i64::MAX);
    ports.metrics.show_gauge("links_up", "Other brokers that answer over their connections", count);
    tasks.spawn(survive::run(log.clone(), links, ttl, living));
}

/// What is done now and then beside the work.
fn spawn_looks(tasks: &mut JoinSet<()>, services: &Arc<Services>) {
    tasks.spawn(levels::run(services.clone()));
    tasks.spawn(series::count_groups(services.clone()));
    series::show(services);
}

/// The last answers get a moment to leave. A session of which everything is committed is closed meanwhile: others take over at once.
async fn part(log: &Log, stops: &Stops, drained: bool) {
    let farewell = async {
        let limit = if drained { FAREWELL } else { FAREWELL / 10 };
        let _ = tokio::time::timeout(limit, stops.connections.cancelled()).await;
        stops.connections.cancel();
    };
    let close = async {
        if drained {
            fence_self(log, true).await;
        }
    };
    tokio::join!(farewell, close);
}

/// What is left after this goes to others when the session is closed.
async fn leave(log: &Arc<Log>, alive: &watch::Receiver<BTreeSet<SessionId>>) {
    let others = alive.borrow().clone();
    let leaving = async {
        if handover::leave(log, &others).await {
            tokio::time::sleep(TURNING_AWAY).await;
            // New topics may have come meanwhile.
            handover::leave(log, &others).await;
        }
    };
    let _in_time = tokio::time::timeout(LEAVE_LIMIT, leaving).await;
}

fn ended(end: Result<SessionEnd, tokio::task::JoinError>) -> SessionEnd {
    end.unwrap_or_else(|error| SessionEnd::Broken { reason: format!("the flusher failed: {error}") })
}

/// Waits for the last segments. What a store that hangs does not take was never acknowledged, so leaving it is safe.
async fn drained(flushing: &mut tokio::task::JoinHandle<SessionEnd>) -> SessionEnd {
    match tokio::time::timeout(DRAIN_LIMIT, &mut *flushing).await {
        Ok(end) => ended(end),
        Err(_) => {
            flushing.abort();
            let seconds = DRAIN_LIMIT.as_secs();
            let reason =
                format!("the store did not take the last segments within {seconds} s; they were not acknowledged");
            SessionEnd::Broken { reason }
        }
    }
}

/// Keeps partitions in line with the metadata, and takes offsets of topics that are gone out of the groups.
async fn follow(services: Arc<Services>) {
    let mut revisions = services.meta.subscribe();
    let mut known = BTreeMap::new();
    loop {
        // Before the look: what is applied during it wakes us once more.
        services.metrics.metadata_revision.set(i64::try_from(*revisions.borrow_and_update()).unwrap_or(i64::MAX));
        // Each is a look at all partitions: with a hundred thousand of them, tens of milliseconds.
        let gone = aside(|| {
            services.log.reconcile();
            services.meta.read(|image| gone_topics(&mut known, image))
        });
        if !gone.is_empty() {
            services.groups.topics_deleted(gone);
        }
        if revisions.changed().await.is_err() {
            return;
        }
    }
}

/// Brings what is `known` up to date, and gives what is gone.
fn gone_topics(known: &mut BTreeMap<TopicId, String>, image: &Image) -> Vec<(String, TopicId)> {
    if known.keys().eq(image.topics.keys()) {
        return Vec::new();
    }
    let topics = image.topics.iter().map(|(id, topic)| (*id, topic.name.clone())).collect();
    let before = std::mem::replace(known, topics);
    before.into_iter().filter(|(id, _)| !known.contains_key(id)).map(|(id, name)| (name, id)).collect()
}

/// Puts a fence behind the last segment, so that whoever comes next finds the end at once. A broker that `leaves` gives up what it still
/// holds, to the others or to whoever comes, under whatever node id; otherwise the next life of this node takes it over. So it does where
/// nobody else is there and an older program may come, which does not take what nobody holds.
async fn fence_self(log: &Log, leaves: bool) {
    let policy = CreatePolicy { deadline: Some(SELF_FENCE_LIMIT), ..CreatePolicy::default() };
    let session = log.session;
    let fenced = fence_own(&log.footers, &policy, session, log.appender.committed_count());
    let end = match tokio::time::timeout(SELF_FENCE_LIMIT, fenced).await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => return tracing::warn!(%session, %error, "the session is left for the next one to close"),
        Err(_) => return tracing::warn!(%session, "the store is slow: the session is left for the next one to close"),
    };
    tracing::info!(%session, segments = end, "closed the session");
    if !leaves {
        return;
    }
    // Whoever takes over may write at once.
    log.proof.revoke();
    let is_taken = move |image: &Image| {
        image.level >= level::TAKE_VACANT || image.ready_sessions().any(|(other, _)| other != session)
    };
    let close = move |image: &Image| {
        Ok::<_, Infallible>(if is_taken(image) { session::close(image, session, end) } else { Vec::new() })
    };
    match tokio::time::timeout(SELF_FENCE_LIMIT, log.meta.propose(close)).await {
        Ok(Ok(_)) => tracing::debug!(%session, "gave up what it held"),
        Ok(Err(error)) => tracing::warn!(%session, %error, "others have to find out themselves"),
        Err(_) => tracing::warn!(%session, "the metadata table is slow: others have to find out themselves"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::image::Topic;

    #[test]
    fn topics_that_are_gone_are_told_once() {
        let mut known = BTreeMap::new();
        let names = |text: &'static str| {
            text.split_whitespace()
                .zip(text.split_whitespace().skip(1))
                .step_by(2)
                .map(|(name, id)| (name.to_owned(), TopicId(id.parse().expect("a number"))))
        };
        for (there, gone) in [("a 1 b 2", ""), ("a 1 b 2", ""), ("b 2 a 3", "a 1"), ("a 3 c 4", "b 2"), ("", "a 3 c 4")]
        {
            let topic = |name: String| Topic {
                name,
                replication_factor: 1,
                internal: false,
                configs: BTreeMap::new(),
                partitions: Vec::new(),
            };
            let topics = names(there).map(|(name, id)| (id, topic(name))).collect();
            let told = gone_topics(&mut known, &Image { topics, ..Image::default() });
            assert_eq!(told, names(gone).collect::<Vec<_>>(), "{there}");
        }
    }

    #[test]
    fn objects_of_runs_are_a_part_of_the_buffers() {
        for (buffers_mib, expected) in [(1024, 64), (256, 64), (128, 32), (8, 8)] {
            assert_eq!(run_object_bytes(buffers_mib << 20), expected << 20, "{buffers_mib}");
        }
    }
}
