//! The one connection to the server, and the next one when it ends.
//!
//! Requests share it and are pipelined by the driver. One that gets no answer in time takes the connection with it, so that a link that died
//! in silence is not waited for again; whoever asks next connects anew, one at a time. After a failure nobody tries for a pause that grows
//! up to [`LONGEST_PAUSE`]: meanwhile callers hear the last reason at once, and a server that comes back meets no crowd.
//!
//! Cancellation: a caller may drop its future anywhere; the statement may run on, which is what `Unknown` means.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use crate::meta::table::TableError;
use crate::store::retry::Backoff;
use crate::types::Revision;
use crate::types::env::Env;
use crate::types::table_url::PostgresUrl;

/// For one host, and for all of it: shorter than the patience of a read's attempt, which would cut it off without a trace.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
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

impl From<Trouble> for TableError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(reason) => TableError::Permanent(reason),
            Trouble::Unclear(reason) => TableError::Unavailable(reason),
        }
    }
}

pub struct Connections {
    config: Config,
    tls: MakeRustlsConnect,
    /// For people: `database "d" on host`.
    place: String,
    user: String,
    env: Env,
    state: tokio::sync::Mutex<State>,
    listeners: Arc<Mutex<BTreeMap<String, watch::Sender<Revision>>>>,
}

struct State {
    client: Option<Arc<Client>>,
    backoff: Backoff,
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
        let state = State { client: None, backoff: fresh_backoff(), closed_until: None };
        Ok(Connections {
            config,
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
                Err(self.judge(&error))
            }
            Err(_) => {
                self.forget(&client).await;
                Err(self.unclear(format!("no answer within {REQUEST_TIMEOUT:?}")))
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
        let connected = tokio::time::timeout(CONNECT_LIMIT, self.connect()).await;
        let connected =
            connected.unwrap_or_else(|_| Err(self.unclear(format!("no connection within {CONNECT_LIMIT:?}"))));
        match connected {
            Ok(client) => {
                let client = Arc::new(client);
                *state = State { client: Some(client.clone()), backoff: fresh_backoff(), closed_until: None };
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

    async fn connect(&self) -> Result<Client, Trouble> {
        let (client, mut connection) =
            self.config.connect(self.tls.clone()).await.map_err(|error| self.judge(&error))?;
        let listeners = self.listeners.clone();
        // Ends with the client, or with the connection.
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    tell(&listeners, notification.payload());
                }
            }
        });
        client.batch_execute(PREPARE).await.map_err(|error| self.judge(&error))?;
        Ok(client)
    }

    fn unclear(&self, reason: impl std::fmt::Display) -> Trouble {
        Trouble::Unclear(format!("PostgreSQL, {}: {reason}", self.place))
    }

    /// What an error proves. Passwords are in none of the driver's errors.
    fn judge(&self, error: &tokio_postgres::Error) -> Trouble {
        let Some(said) = error.as_db_error() else { return self.unclear(described(error)) };
        let text = format!("PostgreSQL, {}: {} ({})", self.place, said.message(), said.code().code());
        match refusal(said, &self.user) {
            Some(advice) => Trouble::Refused(format!("{text}; {advice}")),
            None => Trouble::Unclear(text),
        }
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
mod tests {
    use super::*;

    #[test]
    fn notifications_only_go_up() {
        let listeners = Mutex::new(BTreeMap::from([("a".to_owned(), watch::Sender::new(0))]));
        let revision = || *listeners.lock()["a"].borrow();
        for (payload, expected) in [("a 5", 5), ("a 3", 5), ("b 9", 5), ("a x", 5), ("", 5), ("a 6", 6)] {
            tell(&listeners, payload);
            assert_eq!(revision(), expected, "{payload}");
        }
    }
}
