//! DynamoDB and PostgreSQL behind networks that break, servers that refuse, and servers that crash and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::meta::backends::{self, TableSettings};
use alluvium::meta::entry::{Change, Entry};
use alluvium::meta::table::{Append, TableError};
use alluvium::meta::{MetaError, MetaOptions, cluster};
use alluvium::store::memory::MemoryStore;
use alluvium::store::{ReadRange, StoreRef};
use alluvium::types::env::Env;
use alluvium::types::table_url::TableUrl;
use bytes::Bytes;
use tokio_postgres::NoTls;

use crate::proxy::{Answer, HttpProxy, Link, TcpProxy};
use crate::tables::{Server, dynamodb_settings, founded, postgres_settings, server};
use crate::world::{always, create, eventually, fill, ttl};

/// For what goes on by itself after some time-outs of 3 s.
const PATIENCE: Duration = Duration::from_secs(20);

fn body(n: u64) -> Bytes {
    Bytes::from(format!("{{\"n\":{n}}}"))
}

async fn refused(settings: &TableSettings) -> String {
    let store: StoreRef = Arc::new(MemoryStore::shared());
    match backends::open(&store, &Env::system(), settings).await {
        Err(error @ (MetaError::Refused(_) | MetaError::Unavailable(_))) => {
            let found = store.read(cluster::KEY, ReadRange::Full).await;
            assert!(found.is_err(), "no cluster is founded on a table that can't be used");
            error.to_string()
        }
        other => panic!("{other:?}", other = other.map(|_| "opened")),
    }
}

/// A PostgreSQL user of this test's own.
struct Login {
    /// `127.0.0.1:port`
    host: String,
    admin: tokio_postgres::Client,
}

impl Login {
    async fn open() -> Option<Login> {
        let url = server("ALLUVIUM_TEST_POSTGRES")?;
        let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connects");
        tokio::spawn(connection);
        let host = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
        Some(Login { host, admin })
    }

    async fn run(&self, statement: &str) {
        self.admin.batch_execute(statement).await.expect(statement);
    }
}

fn random_name() -> String {
    format!("test_{:016x}", Env::system().entropy.next_u64())
}

#[tokio::test]
async fn postgres_says_what_is_wrong_and_never_the_password() {
    let Some(login) = Login::open().await else { return };
    let (user, host) = (random_name(), &login.host);
    login.run(&format!("create role {user} login password 's3cret'")).await;
    login.run(&format!("create database {user}")).await;
    login.run(&format!("revoke create on database {user} from public")).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in [
        (format!("postgres://{user}:wr0ng-s3cret@{host}/{user}"), vec!["password", "is wrong", &user]),
        (format!("postgres://nobody:s3cret@{host}/{user}"), vec!["password", "nobody"]),
        (format!("postgres://{user}:s3cret@{host}/absent"), vec!["\"absent\"", "create the database first"]),
        (
            format!("postgres://{user}:s3cret@{host}/{user}"),
            vec!["permission denied", "create schema if not exists alluvium", "grant select, insert, delete"],
        ),
        (format!("postgres://{user}:s3cret@{dead}/{user}"), vec!["refused", &user]),
        (format!("postgres://{user}:s3cret@{host}/{user}?sslmode=sometimes"), vec!["sslmode=sometimes"]),
        (format!("postgres://{user}:s3cret@{host}/{user}?flavour=plum"), vec!["flavour"]),
        (format!("postgres://{user}:s3cret@{host}/{user}?sslmode=verify-full"), vec!["certificate"]),
    ] {
        let error = refused(&postgres_settings(&url)).await;
        assert!(expected.iter().all(|part| error.contains(part)), "{url}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    // Enough rights, and no more than the error asked for.
    login.run(&format!("grant create on database {user} to {user}")).await;
    let settings = postgres_settings(&format!("postgres://{user}:s3cret@{host}/{user}"));
    let place = founded("own database", settings).await;
    assert_eq!(place.table.append(1, body(1)).await, Ok(Append::Appended));
    // A role that became read-only: what it says is no "nothing there".
    login.run(&format!("alter role {user} set default_transaction_read_only = on")).await;
    login.run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'")).await;
    eventually("the connection ends", async || place.table.read(1, 1).await.is_err()).await;
    let read = place.table.read(1, 1).await;
    assert!(matches!(read, Err(TableError::Unavailable(_) | TableError::Permanent(_))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_as_strict_as_sslmode_says() {
    let Some(own) = Server::start("postgres") else { return };
    let TableUrl::Postgres(url) = own.settings().url else { panic!("not postgres") };
    let text = url.secret_text(&[]);
    let certificate = own.file("server.crt").display().to_string();
    let by_name = text.replace("127.0.0.1", "localhost");
    for (url, works) in [
        (format!("{text}?sslmode=disable"), true),
        (format!("{text}?sslmode=require"), true),
        (format!("{text}?sslmode=require&sslrootcert={certificate}"), true),
        (format!("{text}?sslmode=verify-ca"), false),
        (format!("{text}?sslmode=verify-ca&sslrootcert={certificate}"), true),
        (format!("{text}?sslmode=verify-full&sslrootcert={certificate}"), false),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={certificate}"), true),
    ] {
        let store: StoreRef = Arc::new(MemoryStore::shared());
        let opened = backends::open(&store, &Env::system(), &postgres_settings(&url)).await;
        assert_eq!(opened.is_ok(), works, "{url}: {:?}", opened.err());
    }
}

/// A broker whose link loses answers, goes silent and is cut: every change is there once, and the table is in use again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_costs_time_only() {
    let Some(url) = server("ALLUVIUM_TEST_POSTGRES") else { return };
    let host = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
    let proxy = TcpProxy::to(host.parse().expect("an address")).await;
    let place = founded("PostgreSQL", postgres_settings(&url.replace(&host, &proxy.address.to_string()))).await;
    let options = MetaOptions::default();
    let broker = place.broker(&options).await;
    for (round, link) in (0u128..).zip([Link::LosesAnswers, Link::Silent, Link::Cut, Link::LosesAnswers]) {
        fill(&broker, 1).await;
        proxy.set(link);
        let name = format!("t{round}");
        let proposal = tokio::spawn({
            let (broker, name) = (broker.clone(), name.clone());
            async move { broker.propose(create(round + 1, &name)).await }
        });
        tokio::time::sleep(Duration::from_millis(400)).await;
        proxy.set(Link::Works);
        let revision = proposal.await.unwrap().unwrap_or_else(|error| panic!("{link:?}: {error}"));
        assert!(broker.read(|image| image.names.contains_key(&name)), "{link:?} {revision}");
    }
    let entries = place.table.read(1, 1000).await.unwrap().bodies;
    let times = |name: &str| entries.iter().filter(|body| String::from_utf8_lossy(body).contains(name)).count();
    assert_eq!([times("\"t0\""), times("\"t1\""), times("\"t2\""), times("\"t3\"")], [1; 4]);
}

/// A connection that is silent for ever, as one is that a firewall has forgotten, is waited for no longer than a request may take. Then
/// there is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_a_connection_that_is_silent_for_ever_holds_up_nobody() {
    let Some(url) = server("ALLUVIUM_TEST_POSTGRES") else { return };
    let host = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
    let proxy = TcpProxy::to(host.parse().expect("an address")).await;
    let place = founded("PostgreSQL", postgres_settings(&url.replace(&host, &proxy.address.to_string()))).await;
    let broker = place.broker(&MetaOptions::default()).await;
    for round in 0..2u128 {
        fill(&broker, 1).await;
        proxy.set(Link::Forgets);
        let begun = Instant::now();
        let proposal = broker.propose(create(round + 1, &format!("t{round}")));
        tokio::time::timeout(PATIENCE, proposal).await.expect("in time").expect("creates");
        assert!(begun.elapsed() > Duration::from_secs(1), "the connection was not silent");
    }
    let entries = place.table.read(1, 1000).await.unwrap().bodies;
    let times = |name: &str| entries.iter().filter(|body| String::from_utf8_lossy(body).contains(name)).count();
    assert_eq!([times("\"t0\""), times("\"t1\"")], [1; 2]);
}

/// Hosts that take connections and say nothing, as a frozen primary does, cost time only: the server behind them is found.
#[tokio::test]
async fn silent_hosts_hide_no_server() {
    let Some(url) = server("ALLUVIUM_TEST_POSTGRES") else { return };
    let host = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
    let frozen = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = frozen.each_ref().map(|listener| listener.local_addr().unwrap());
    let hosts = format!("{first},{second},{host}");
    let place = founded("PostgreSQL", postgres_settings(&url.replace(&host, &hosts))).await;
    assert_eq!(place.table.append(1, body(1)).await, Ok(Append::Appended));
}

/// A failover to a server that was behind: a revision that was answered is gone, with another in its place or none. Who knew it appends
/// nothing behind that, reads nothing behind it, and says why.
#[tokio::test]
async fn postgres_goes_on_only_where_the_last_known_revision_stands() {
    let Some(login) = Login::open().await else { return };
    for anew in [false, true] {
        let place = founded("PostgreSQL", postgres_settings(&server("ALLUVIUM_TEST_POSTGRES").expect("set"))).await;
        let options = MetaOptions::default();
        let [writer, reader] = [place.broker(&options).await, place.broker(&options).await];
        fill(&writer, 3).await;
        assert_eq!(reader.catch_up().await.expect("reads"), 3);
        login
            .run(&format!("delete from alluvium.metadata where cluster = '{}' and revision = 3", writer.cluster_id()))
            .await;
        if anew {
            let other = place.broker(&options).await;
            assert_eq!(other.propose(create(1, "other")).await.expect("appends"), 3);
        }
        let expected = if anew { "holds another entry than it did" } else { "was there, and is missing" };
        let error = writer.propose(create(2, "t")).await.expect_err("stops").to_string();
        assert!(error.contains(expected) && error.contains("revision 3"), "{error}");
        assert!(writer.propose(create(3, "u")).await.is_err(), "and stays so");
        let error = reader.catch_up().await.expect_err("stops").to_string();
        assert!(error.contains(expected), "{error}");
        let there = place.table.read(1, 9).await.unwrap().bodies.len();
        assert_eq!(there, if anew { 3 } else { 2 }, "nothing was written behind it");
    }
}

/// The last known revision may be truncated, and then nothing speaks against what follows.
#[tokio::test]
async fn postgres_goes_on_behind_a_truncated_revision() {
    let Some(url) = server("ALLUVIUM_TEST_POSTGRES") else { return };
    let place = founded("PostgreSQL", postgres_settings(&url)).await;
    let options = MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() };
    let [writer, reader] = [place.broker(&options).await, place.broker(&options).await];
    for end in [10, 20] {
        fill(&writer, end - writer.catch_up().await.expect("reads")).await;
        assert_eq!(reader.catch_up().await.expect("reads"), end);
        eventually("it is truncated", async || place.table.first().await == Ok(None)).await;
        // What was on its way all the time lands now, in the place of what is known, and below.
        for late in [end, end - 5] {
            let ghost = Entry::new(late, 1, vec![Change::Nop {}]).encode();
            assert_eq!(place.table.append(late, ghost).await, Ok(Append::Appended));
        }
        assert_eq!(reader.catch_up().await.expect("reads"), end, "nothing follows");
        assert_eq!(writer.propose(create(end.into(), &format!("t{end}"))).await.expect("appends"), end + 1);
        assert_eq!(reader.catch_up().await.expect("reads"), end + 1);
        assert_eq!(reader.propose(create(u128::from(end) + 100, &format!("u{end}"))).await.expect("appends"), end + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_throttles_loses_and_repeats() {
    let Some(endpoint) = server("ALLUVIUM_TEST_DYNAMODB") else { return };
    let proxy = HttpProxy::to(&endpoint).await;
    let place = founded("DynamoDB", dynamodb_settings(&proxy.url())).await;
    for (revision, answer) in (1..).zip([
        Answer::Error(400, "ProvisionedThroughputExceededException"),
        Answer::Error(400, "ThrottlingException"),
        Answer::Error(400, "RequestLimitExceeded"),
        Answer::Error(500, "InternalServerError"),
        Answer::Error(503, "ServiceUnavailable"),
        Answer::Lost,
        Answer::RequestLost,
    ]) {
        proxy.script("PutItem", [answer.clone()]);
        let append = place.table.append(revision, body(revision)).await;
        assert!(matches!(append, Ok(Append::Unknown { .. })), "{answer:?}: {append:?}");
        assert!(proxy.is_done(), "one attempt, no retry of its own: {answer:?}");
        let landed = !place.table.read(revision, 1).await.unwrap().bodies.is_empty();
        assert_eq!(landed, answer == Answer::Lost, "{answer:?}");
    }
    proxy.script("PutItem", [Answer::Twice]);
    assert_eq!(place.table.append(20, body(1)).await, Ok(Append::Taken), "its own, and it can't know");
    proxy.script("PutItem", [Answer::Error(400, "AccessDeniedException")]);
    assert!(matches!(place.table.append(21, body(1)).await, Err(TableError::Permanent(_))));
    proxy.script("Query", [Answer::Error(400, "ThrottlingException")]);
    assert!(matches!(place.table.read(1, 1).await, Err(TableError::Unavailable(_))), "never 'nothing there'");
    let stale: Vec<_> = proxy
        .seen()
        .into_iter()
        .filter(|(operation, body)| operation == "Query" && !body.contains("\"ConsistentRead\":true"))
        .collect();
    assert_eq!(stale, []);
}

/// The same under a broker: every change is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_broker_goes_on() {
    let Some(endpoint) = server("ALLUVIUM_TEST_DYNAMODB") else { return };
    let proxy = HttpProxy::to(&endpoint).await;
    let place = founded("DynamoDB", dynamodb_settings(&proxy.url())).await;
    let broker = place.broker(&MetaOptions::default()).await;
    let throttled = || Answer::Error(400, "ThrottlingException");
    proxy.script("PutItem", [throttled(), throttled(), Answer::Lost, Answer::RequestLost, Answer::Twice, throttled()]);
    proxy.script("Query", [throttled(), Answer::Lost]);
    for n in 0..6u128 {
        broker.propose(create(n + 1, &format!("t{n}"))).await.expect("creates");
    }
    assert!(proxy.is_done());
    let image = broker.read(Clone::clone);
    assert_eq!((image.topics.len(), image.revision), (6, 6));
    assert_eq!(place.broker(&MetaOptions::default()).await.read(Clone::clone), image);
}

/// An answer that never comes is waited for no longer than a request may take; what became of an append is not known then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_an_answer_that_never_comes_holds_up_nobody() {
    let Some(endpoint) = server("ALLUVIUM_TEST_DYNAMODB") else { return };
    let proxy = HttpProxy::to(&endpoint).await;
    let place = founded("DynamoDB", dynamodb_settings(&proxy.url())).await;
    for (revision, answer) in (1..).zip([Answer::Hang, Answer::HangAfter]) {
        proxy.script("PutItem", [answer.clone()]);
        let append = tokio::time::timeout(PATIENCE, place.table.append(revision, body(revision))).await;
        assert!(matches!(append, Ok(Ok(Append::Unknown { .. }))), "{answer:?}: {append:?}");
        assert!(proxy.is_done(), "one attempt, no retry of its own: {answer:?}");
        let landed = !place.table.read(revision, 1).await.unwrap().bodies.is_empty();
        assert_eq!(landed, answer == Answer::HangAfter, "{answer:?}");
    }
    let place = founded("DynamoDB", dynamodb_settings(&proxy.url())).await;
    let broker = place.broker(&MetaOptions::default()).await;
    proxy.script("PutItem", [Answer::Hang, Answer::HangAfter]);
    proxy.script("Query", [Answer::Hang]);
    let proposal = tokio::time::timeout(PATIENCE, broker.propose(create(1, "t"))).await;
    assert_eq!(proposal.expect("in time").expect("creates"), 1);
    assert!(proxy.is_done());
    assert_eq!(broker.propose(create(2, "u")).await.expect("creates"), 2, "it is there once");
}

#[tokio::test]
async fn dynamodb_says_what_is_missing() {
    let Some(endpoint) = server("ALLUVIUM_TEST_DYNAMODB") else { return };
    let proxy = HttpProxy::to(&endpoint).await;
    let settings = |table: &str| TableSettings {
        url: TableUrl::parse(&format!("dynamodb://{table}")).unwrap(),
        ..dynamodb_settings(&proxy.url())
    };
    let absent = random_name();
    proxy.script("CreateTable", [Answer::Error(400, "AccessDeniedException")]);
    let error = refused(&settings(&absent)).await;
    for part in ["dynamodb:CreateTable", "aws dynamodb create-table", &absent, "us-east-1"] {
        assert!(error.contains(part), "{error}");
    }
    proxy.script("DescribeTable", [Answer::Error(400, "AccessDeniedException")]);
    let error = refused(&settings(&absent)).await;
    assert!(error.contains("the credentials need dynamodb:DescribeTable"), "{error}");
    proxy.script("DescribeTable", [Answer::Error(400, "UnrecognizedClientException")]);
    let error = refused(&settings(&absent)).await;
    assert!(error.contains("check AWS_ACCESS_KEY_ID"), "{error}");
    let place = founded("DynamoDB", settings(&absent)).await;
    assert_eq!(place.table.append(1, body(1)).await, Ok(Append::Appended), "made on demand");
    let made = proxy.seen().into_iter().rfind(|(operation, _)| operation == "CreateTable").unwrap().1;
    assert!(made.contains("PAY_PER_REQUEST"), "{made}");
}

/// A table that was emptied or is another one under the same address: the cluster is not begun anew.
#[tokio::test]
async fn a_table_without_the_clusters_mark_is_refused() {
    let (Some(dynamodb), Some(postgres)) = (server("ALLUVIUM_TEST_DYNAMODB"), server("ALLUVIUM_TEST_POSTGRES")) else {
        return;
    };
    for (settings, address) in [
        (dynamodb_settings(&dynamodb), "dynamodb://alluvium-test".to_owned()),
        (postgres_settings(&postgres), postgres_settings(&postgres).url.address()),
    ] {
        let place = founded("x", settings).await;
        let stored = place.store.read(cluster::KEY, ReadRange::Full).await.unwrap().bytes;
        let found = cluster::decode(&stored).unwrap();
        assert_eq!(found.table, address, "no secret in it");
        // The same cluster object over a table that never saw the cluster.
        let other = founded("y", place.settings.clone()).await;
        let stranger = Arc::new(MemoryStore::shared());
        let text = String::from_utf8(stored.to_vec()).unwrap();
        let changed = text.replace(&found.cluster_id, "AAAAAAAAAAAAAAAAAAAAAA");
        let content = changed.rsplit_once(",\"crc32c\"").unwrap().0;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content.as_bytes());
        stranger.overwrite(cluster::KEY, Bytes::from(format!("{content},\"crc32c\":\"{crc:08x}\"}}")));
        let store: StoreRef = stranger;
        let error = backends::open(&store, &Env::system(), &place.settings).await.err().expect("refuses").to_string();
        assert!(error.contains("it holds nothing of cluster AAAA"), "{error}");
        // Two clusters in one database do not see each other.
        assert_eq!(place.table.append(1, body(1)).await, Ok(Append::Appended));
        assert_eq!(other.table.append(1, body(2)).await, Ok(Append::Appended));
        assert_eq!(place.table.read(1, 9).await.unwrap().bodies, [body(1)]);
        // A broker told another table refuses.
        let told = TableSettings { url: TableUrl::parse("dynamodb://elsewhere").unwrap(), ..place.settings.clone() };
        let error = backends::open(&place.store, &Env::system(), &told).await.err().expect("refuses").to_string();
        assert!(error.contains("keeps its metadata table in") && error.contains("elsewhere"), "{error}");
        let bucket =
            backends::open(&place.store, &Env::system(), &TableSettings::default()).await.expect("no look yet");
        let error = place.broker_on(bucket, &MetaOptions::default()).await.err().expect("refuses");
        assert!(matches!(error, MetaError::WrongCluster(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_wakes_the_other_brokers() {
    let Some(url) = server("ALLUVIUM_TEST_POSTGRES") else { return };
    let place = founded("PostgreSQL", postgres_settings(&url)).await;
    let writer = place.broker(&MetaOptions::default()).await;
    let table = backends::open(&place.store, &Env::system(), &place.settings).await.expect("opens");
    let reader = place.broker_on(table, &MetaOptions::default()).await.expect("opens");
    let _poller = reader.spawn_poller(Duration::from_secs(3600));
    for n in 0..3 {
        let revision = writer.propose(always(vec![ttl(1000 + n)])).await.expect("appends");
        let told = Instant::now();
        let mut seen = reader.subscribe();
        let arrived = tokio::time::timeout(Duration::from_secs(10), seen.wait_for(|known| *known >= revision)).await;
        assert!(arrived.is_ok(), "not told of revision {revision} within {:?}", told.elapsed());
    }
}

/// The server crashes in the middle of changes and comes back: nothing that was answered is lost, nothing happens twice.
async fn survives_crashes(kind: &'static str) {
    let Some(mut own) = Server::start(kind) else { return };
    let place = founded(kind, own.settings()).await;
    let options = MetaOptions { generation: 20, snapshot_every: 20, ..MetaOptions::default() };
    let broker = place.broker(&options).await;
    for round in 0..2u128 {
        let proposals = (0..12u128).map(|n| {
            let broker = broker.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n as u64 * 10)).await;
                broker.propose(create(round * 100 + n + 1, &format!("t{round}-{n}"))).await
            })
        });
        let proposals: Vec<_> = proposals.collect();
        tokio::time::sleep(Duration::from_millis(60)).await;
        tokio::task::block_in_place(|| {
            own.kill();
            own.run();
        });
        for proposal in proposals {
            proposal.await.unwrap().unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        fill(&broker, 15).await;
    }
    let image = broker.read(Clone::clone);
    assert_eq!(image.topics.len(), 24);
    drop(broker);
    let table = backends::open(&place.store, &Env::system(), &place.settings).await.expect("opens again");
    assert_eq!(place.broker_on(table, &options).await.expect("opens").read(Clone::clone), image, "{kind}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_crashes_comes_back() {
    survives_crashes("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dynamodb_that_crashes_comes_back() {
    survives_crashes("dynamodb").await;
}
