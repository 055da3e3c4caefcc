//! The one connection to the server, and the next one when it ends.
//!
//! Requests share it and are pipelined by the driver. One that gets no answer in time takes the connection with it, so that a link that died
//! in silence is not waited for again; whoever asks next connects anew, one at a time. After a failure nobody tries for a pause that grows
//! up to [`LONGEST_PAUSE`]: meanwhile callers hear the last reason at once, and a server that comes back meets no crowd.
//!
//! Several hosts are tried here, one at a time, and not by the driver: its limit covers TCP only, so that a host that takes connections and
//! says nothing (a frozen primary) would hide all that stand behind it. An attempt begins with the host after the one that failed last.
//!
//! Cancellation: a caller may drop its future anywhere; the statement may run on, which is what `Unknown` means.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use crate::meta::table::TableError;
use crate::store::retry::Backoff;
use crate::types::Revision;
use crate::types::env::Env;
use crate::types::table_url::PostgresUrl;

/// For TCP to one address of a host; for one host of several, to the end of [`PREPARE`]; and for all of it: shorter than the patience of a
/// read's attempt, which would cut it off without a trace.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
const HOST_LIMIT: Duration = Duration::from_secs(2);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A peer that is silent for so long is gone: the kernel closes the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const USER_TIMEOUT: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Sent once per connection. Brokers die and leave statements behind; the server must not wait for them.
const PREPARE: &str = "set statement_timeout = '30s'; set lock_timeout = '10s'; set idle_in_transaction_session_timeout = '10s'; \
     select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local'); \
     listen alluvium_metadata";

/// Why there is no result.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The server said no for good; it did not happen.
    Refused(String),
    /// It may have happened.
    Unclear(String),
}

impl Trouble {
    /// The same, with words before its reason.
    fn behind(self, words: &str) -> Trouble {
        match self {
            Trouble::Refused(reason) => Trouble::Refused(format!("{words}{reason}")),
            Trouble::Unclear(reason) => Trouble::Unclear(format!("{words}{reason}")),
        }
    }
}

impl From<Trouble> for TableError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(reason) => TableError::Permanent(reason),
            Trouble::Unclear(reason) => TableError::Unavailable(reason),
        }
    }
}

pub struct Connections {
    /// At least one.
    servers: Vec<Server>,
    tls: MakeRustlsConnect,
    /// For people: `database "d" on host`.
    place: String,
    user: String,
    env: Env,
    state: tokio::sync::Mutex<State>,
    listeners: Arc<Mutex<BTreeMap<String, watch::Sender<Revision>>>>,
}

/// One host of the URL.
struct Server {
    /// Stands before its troubles, if there are other hosts: `host:port: `.
    label: String,
    /// With this host only.
    config: Config,
}

struct State {
    client: Option<Arc<Client>>,
    backoff: Backoff,
    /// The host with which the next attempt begins.
    next: usize,
    /// Not before this moment is the next connection tried; and why not.
    closed_until: Option<(Instant, Trouble)>,
}

fn fresh_backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}

impl Connections {
    pub fn new(url: &PostgresUrl, env: Env) -> Result<Connections, String> {
        let text = url.secret_text(&["sslmode", "sslrootcert"]);
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| described(&error))?;
        let (mode, tls) = tls::connector(url.parameter("sslmode"), url.parameter("sslrootcert"))?;
        config
            .ssl_mode(mode)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(3)
            .tcp_user_timeout(USER_TIMEOUT)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if url.parameter("application_name").is_none() {
            config.application_name("alluvium");
        }
        if let Some(password) = std::env::var("PGPASSWORD").ok().filter(|_| !url.has_password()) {
            config.password(password);
        }
        let servers = one_by_one(&config)?;
        let next = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => env.entropy.next_u64() as usize % servers.len(),
            _ => 0,
        };
        let state = State { client: None, backoff: fresh_backoff(), next, closed_until: None };
        Ok(Connections {
            servers,
            tls,
            place: format!("database {:?} on {}", url.database(), url.hosts()),
            user: url.user().to_owned(),
            env,
            state: tokio::sync::Mutex::new(state),
            listeners: Arc::default(),
        })
    }

    /// The highest revision of the cluster that the server told of.
    pub fn listen(&self, cluster: &str) -> watch::Receiver<Revision> {
        self.listeners.lock().entry(cluster.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// Runs one request on the connection, which is made if there is none.
    pub async fn run<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Trouble> {
        let client = self.client().await?;
        match tokio::time::timeout(REQUEST_TIMEOUT, request(&client)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if error.as_db_error().is_none() {
                    self.forget(&client).await;
                }
                Err(self.told(judged(&error, &self.user)))
            }
            Err(_) => {
                self.forget(&client).await;
                Err(self.told(Trouble::Unclear(format!("no answer within {REQUEST_TIMEOUT:?}"))))
            }
        }
    }

    async fn client(&self) -> Result<Arc<Client>, Trouble> {
        let mut state = self.state.lock().await;
        if let Some(client) = state.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        state.client = None;
        if let Some((_, why)) = state.closed_until.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(why.clone());
        }
        let connected = in_turn(&self.servers, &mut state.next, |at| self.connect(&self.servers[at])).await;
        match connected.map_err(|trouble| self.told(trouble)) {
            Ok(client) => {
                let client = Arc::new(client);
                state.client = Some(client.clone());
                state.backoff = fresh_backoff();
                state.closed_until = None;
                Ok(client)
            }
            Err(trouble) => {
                let pause = state.backoff.next(&*self.env.entropy);
                state.closed_until = Some((Instant::now() + pause, trouble.clone()));
                Err(trouble)
            }
        }
    }

    /// The connection is of no use any more, unless another one took its place.
    async fn forget(&self, broken: &Arc<Client>) {
        let mut state = self.state.lock().await;
        if state.client.as_ref().is_some_and(|client| Arc::ptr_eq(client, broken)) {
            state.client = None;
        }
    }

    async fn connect(&self, server: &Server) -> Result<Client, Trouble> {
        let proof = |error: tokio_postgres::Error| judged(&error, &self.user);
        let (client, mut connection) = server.config.connect(self.tls.clone()).await.map_err(proof)?;
        let listeners = self.listeners.clone();
        // Ends with the client, or with the connection.
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    tell(&listeners, notification.payload());
                }
            }
        });
        client.batch_execute(PREPARE).await.map_err(proof)?;
        Ok(client)
    }

    /// As callers hear it: with the place.
    fn told(&self, trouble: Trouble) -> Trouble {
        trouble.behind(&format!("PostgreSQL, {}: ", self.place))
    }
}

/// Each host by itself, with its port, its `hostaddr` and all else that the URL and we say.
///
/// # Errors
/// The addresses or ports are not as many as the hosts.
fn one_by_one(config: &Config) -> Result<Vec<Server>, String> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let fits = |given: usize, least: usize| given <= least || given == hosts.len();
    if hosts.is_empty() || !fits(addresses.len(), 0) || !fits(ports.len(), 1) {
        let (hosts, addresses, ports) = (hosts.len(), addresses.len(), ports.len());
        return Err(format!("{hosts} hosts do not go with {addresses} hostaddr and {ports} ports"));
    }
    let bare = without_hosts(config);
    let server = |(at, host): (usize, &Host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let mut config = bare.clone();
        config.port(port);
        let name = match host {
            Host::Tcp(name) => {
                config.host(name);
                name.clone()
            }
            Host::Unix(folder) => {
                config.host_path(folder);
                folder.display().to_string()
            }
        };
        if let Some(address) = addresses.get(at) {
            config.hostaddr(*address);
        }
        let label = if hosts.len() > 1 { format!("{name}:{port}: ") } else { String::new() };
        Server { label, config }
    };
    Ok(hosts.iter().enumerate().map(server).collect())
}

/// The driver has no way to take a host out of its settings.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    bare.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .load_balance_hosts(config.get_load_balance_hosts())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        bare.user(user);
    }
    if let Some(password) = config.get_password() {
        bare.password(password);
    }
    if let Some(database) = config.get_dbname() {
        bare.dbname(database);
    }
    if let Some(options) = config.get_options() {
        bare.options(options);
    }
    if let Some(name) = config.get_application_name() {
        bare.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        bare.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        bare.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        bare.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        bare.keepalives_retries(retries);
    }
    bare
}

/// Tries the hosts one at a time, `next` first, for [`HOST_LIMIT`] each and [`CONNECT_LIMIT`] in all. `next` becomes the host that is
/// connected, or else the one behind the last that failed or hung for its whole time; one that had less, for those before it took long,
/// is first the next time. That holds also when the caller goes away in the middle.
///
/// # Errors
/// What every host that was tried said: a refusal if all hosts refuse.
async fn in_turn<T, F: Future<Output = Result<T, Trouble>>>(
    servers: &[Server],
    next: &mut usize,
    attempt: impl Fn(usize) -> F,
) -> Result<T, Trouble> {
    let limit = if servers.len() > 1 { HOST_LIMIT } else { CONNECT_LIMIT };
    let (begun, first) = (Instant::now(), *next);
    let mut troubles = Vec::new();
    for at in (0..servers.len()).map(|turn| (first + turn) % servers.len()) {
        let after = (at + 1) % servers.len();
        let time = limit.min(CONNECT_LIMIT.saturating_sub(begun.elapsed()));
        *next = if time < limit { at } else { after };
        let outcome = tokio::time::timeout(time, attempt(at)).await;
        let in_time = outcome.is_ok();
        match outcome.unwrap_or_else(|_| Err(Trouble::Unclear(format!("no connection within {time:.1?}")))) {
            Ok(connected) => {
                *next = at;
                return Ok(connected);
            }
            Err(trouble) => troubles.push(trouble.behind(&servers[at].label)),
        }
        if in_time {
            *next = after;
        } else if time < limit {
            break;
        }
    }
    Err(together(troubles))
}

fn together(troubles: Vec<Trouble>) -> Trouble {
    let all_refuse = troubles.iter().all(|trouble| matches!(trouble, Trouble::Refused(_)));
    let reasons = troubles.into_iter().map(|trouble| match trouble {
        Trouble::Refused(reason) | Trouble::Unclear(reason) => reason,
    });
    let reason = reasons.collect::<Vec<String>>().join("; ");
    if all_refuse { Trouble::Refused(reason) } else { Trouble::Unclear(reason) }
}

/// What an error proves. Passwords are in none of the driver's errors.
fn judged(error: &tokio_postgres::Error, user: &str) -> Trouble {
    let Some(said) = error.as_db_error() else { return Trouble::Unclear(described(error)) };
    let text = format!("{} ({})", said.message(), said.code().code());
    match refusal(said, user) {
        Some(advice) => Trouble::Refused(format!("{text}; {advice}")),
        None => Trouble::Unclear(text),
    }
}

/// The advice that goes with a plain no; `None` if the statement may have happened, or may yet.
fn refusal(said: &DbError, user: &str) -> Option<String> {
    let code = said.code();
    Some(match code.code() {
        "28P01" => format!("the password of {user:?} is wrong: put it in the URL or in PGPASSWORD"),
        "28000" => format!("{user:?} may not log in like this: look at its role and at pg_hba.conf"),
        "3D000" => "create the database first".to_owned(),
        "42501" => format!(
            "{user:?} needs usage on schema alluvium and select, insert and delete on alluvium.metadata, \
             or create on the database to make them"
        ),
        "42P01" | "3F000" => "the table alluvium.metadata is not there".to_owned(),
        "42703" | "42804" => "the table alluvium.metadata has other columns than Alluvium's".to_owned(),
        "25006" => "the server or the role is read-only".to_owned(),
        _ if *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE || *code == SqlState::UNTRANSLATABLE_CHARACTER => {
            "the database must be UTF-8".to_owned()
        }
        _ => return None,
    })
}

/// The error with its causes, which the driver does not repeat.
fn described(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

/// `payload`: the cluster and the revision.
fn tell(listeners: &Mutex<BTreeMap<String, watch::Sender<Revision>>>, payload: &str) {
    let Some((cluster, revision)) = payload.rsplit_once(' ') else { return };
    let Ok(revision) = revision.parse::<Revision>() else { return };
    if let Some(sender) = listeners.lock().get(cluster) {
        sender.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
    }
}

#[cfg(test)]
mod tests;
