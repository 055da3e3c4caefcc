//! The table in PostgreSQL: one row per revision in `alluvium.metadata (cluster, revision, body)`, primary key (cluster, revision), so that
//! several clusters share one database. The entry's JSON stands in `body` as it is.
//!
//! An append is one statement, `INSERT … ON CONFLICT DO NOTHING`, which also notifies the other brokers (`LISTEN/NOTIFY`); whoever misses a
//! notification finds the revision with its next poll. Statements are sent unnamed, so that a pooler in between does no harm.
//!
//! What an answer proves: a row that came back is `Appended`, none is `Taken`; lost connections, time-outs and most errors of the server
//! are `Unknown`. Only a server that takes writes is spoken to (`target_session_attrs=read-write`), for a standby's reads are stale;
//! `synchronous_commit` is raised to `on` where it is lower. A failover to a standby that is behind loses revisions that were
//! answered: replicate synchronously. Who knew such a revision notices, for an append and a read also look at the revision before
//! ([`super::super::history`]), and stops instead of writing another history.
//!
//! [`connection`] holds the one connection and makes a new one, with pauses that grow, when it ends; [`tls`] is `sslmode`;
//! [`schema`] makes the table or says what is missing.

mod connection;
mod schema;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_postgres::types::{ToSql, Type};

use self::connection::{Connections, Trouble};
use super::{Append, Chunk, Table, TableError};
use crate::types::Revision;
use crate::types::env::Env;
use crate::types::table_url::{PostgresUrl, TableUrl};

/// Rows of one read and of one delete.
const READ_ROWS: usize = 256;
const DELETE_ROWS: i64 = 5000;

/// One server (or its failover hosts), one database.
#[derive(Clone)]
pub struct Postgres {
    connections: Arc<Connections>,
    name: String,
}

impl Postgres {
    /// Understands the URL and reads the certificates that it names; nothing is sent yet. The password comes from the URL or from
    /// `PGPASSWORD`.
    ///
    /// # Errors
    /// What is wrong with the URL, without its password.
    pub fn new(url: &PostgresUrl, env: Env) -> Result<Postgres, String> {
        let connections = Arc::new(Connections::new(url, env)?);
        Ok(Postgres { connections, name: TableUrl::Postgres(url.clone()).address() })
    }

    /// Makes sure that the table is there. `create`: make it if it is not.
    ///
    /// # Errors
    /// What is missing, with the statements that make it.
    pub async fn prepare(&self, create: bool) -> Result<(), TableError> {
        schema::prepare(&self.connections, create).await
    }

    /// The revisions of one cluster.
    pub fn cluster(&self, cluster: &str) -> PostgresTable {
        PostgresTable {
            connections: self.connections.clone(),
            notified: self.connections.listen(cluster),
            cluster: cluster.to_owned(),
            name: self.name.clone(),
        }
    }
}

/// The revisions of one cluster in a database.
pub struct PostgresTable {
    connections: Arc<Connections>,
    /// The highest revision that anybody notified us of.
    notified: watch::Receiver<Revision>,
    cluster: String,
    name: String,
}

/// With $4, a text that the body of the revision before must hold. That revision may have been truncated, with all before it.
const APPEND: &str = "with appended as (insert into alluvium.metadata (cluster, revision, body) select $1, $2, $3 where $4 is null \
     or exists (select from alluvium.metadata where cluster = $1 and revision = $2 - 1 and strpos(body, $4) > 0) \
     or not exists (select from alluvium.metadata where cluster = $1 and revision between 1 and $2 - 1) \
     on conflict do nothing returning revision) \
     select pg_notify('alluvium_metadata', $1 || ' ' || revision) from appended";

const READ: &str = "select revision, body from alluvium.metadata where cluster = $1 and revision >= $2 \
     order by revision limit $3";

const AT_OR_AFTER: &str = "select min(revision) from alluvium.metadata where cluster = $1 and revision >= $2";

const DELETE: &str = "delete from alluvium.metadata where cluster = $1 and revision in \
     (select revision from alluvium.metadata where cluster = $1 and revision between 1 and $2 order by revision limit $3)";

/// Revisions are `bigint` there. None that is ever given comes near its end.
fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

impl PostgresTable {
    /// `before`: what the body of the revision before must hold.
    async fn append_if(&self, before: Option<&str>, revision: Revision, body: &[u8]) -> Result<Append, TableError> {
        let Ok(body) = std::str::from_utf8(body) else {
            return Err(TableError::Permanent(format!("{}: a revision that is no text", self.name)));
        };
        let revision = number(revision);
        let rows = self.connections.run(async |client| {
            let parameters: [(&(dyn ToSql + Sync), Type); 4] =
                [(&self.cluster, Type::TEXT), (&revision, Type::INT8), (&body, Type::TEXT), (&before, Type::TEXT)];
            client.query_typed(APPEND, &parameters).await
        });
        match rows.await {
            Ok(rows) if rows.len() == 1 => Ok(Append::Appended),
            Ok(_) => Ok(Append::Taken),
            Err(Trouble::Refused(reason)) => Err(TableError::Permanent(reason)),
            Err(Trouble::Unclear(reason)) => Ok(Append::Unknown { reason }),
        }
    }
}

#[async_trait]
impl Table for PostgresTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.append_if(None, revision, &body).await
    }

    fn may_lose(&self) -> bool {
        true
    }

    async fn append_after(&self, nonce: &str, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.append_if(Some(nonce), revision, &body).await
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        let limit = limit.min(READ_ROWS);
        let (first, rows) = (number(from), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.connections.run(async |client| {
            client.query_typed(READ, &[(&self.cluster, Type::TEXT), (&first, Type::INT8), (&rows, Type::INT8)]).await
        });
        let rows = rows.await?;
        let mut chunk = Chunk { end: rows.len() < limit, ..Chunk::default() };
        for (expected, row) in (first..).zip(&rows) {
            let damaged = |error: tokio_postgres::Error| TableError::Permanent(format!("{}: {error}", self.name));
            if row.try_get::<_, i64>(0).map_err(damaged)? != expected {
                return Ok(Chunk { end: true, gap: true, ..chunk });
            }
            chunk.bodies.push(Bytes::copy_from_slice(row.try_get::<_, &str>(1).map_err(damaged)?.as_bytes()));
        }
        Ok(chunk)
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        let from = number(from);
        let rows = self.connections.run(async |client| {
            client.query_typed(AT_OR_AFTER, &[(&self.cluster, Type::TEXT), (&from, Type::INT8)]).await
        });
        let lowest = rows.await?.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok().flatten());
        Ok(lowest.and_then(|revision| Revision::try_from(revision).ok()))
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        let last = number(last);
        loop {
            let deleted = self.connections.run(async |client| {
                let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&self.cluster, Type::TEXT), (&last, Type::INT8), (&DELETE_ROWS, Type::INT8)];
                client.execute_typed(DELETE, &parameters).await
            });
            if i64::try_from(deleted.await?).unwrap_or(i64::MAX) < DELETE_ROWS {
                return Ok(());
            }
        }
    }

    async fn changed(&self, known: Revision) {
        let mut notified = self.notified.clone();
        if notified.wait_for(|revision| *revision > known).await.is_err() {
            std::future::pending().await
        }
    }
}
