//! The schema `alluvium` and its one table: found, made, or named as what is missing.

use super::connection::{Connections, Trouble};
use crate::meta::table::TableError;

const FIND: &str = "select to_regclass('alluvium.metadata') is not null, current_setting('server_encoding')";

/// `body` is text: `json` would refuse what a damaged entry holds, and `jsonb` would not keep the bytes that the CRC covers.
const CREATE: &[&str] = &[
    "create schema if not exists alluvium",
    "create table if not exists alluvium.metadata (cluster text collate \"C\" not null, revision bigint not null, \
     body text not null, primary key (cluster, revision))",
];

/// Two brokers that make the same thing at once may hear that it is there (or half there); who comes second tries again.
const ROUNDS: usize = 5;

pub async fn prepare(connections: &Connections, create: bool) -> Result<(), TableError> {
    let mut last = None;
    for _ in 0..ROUNDS {
        match try_prepare(connections, create).await {
            Ok(()) => return Ok(()),
            Err(TableError::Permanent(reason)) => return Err(TableError::Permanent(reason)),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Err(last.unwrap_or_else(|| TableError::Unavailable(connections.place().to_owned())))
}

async fn try_prepare(connections: &Connections, create: bool) -> Result<(), TableError> {
    let rows = connections.run(async |client| client.query_typed(FIND, &[]).await).await?;
    let row = rows.first().ok_or_else(|| TableError::Unavailable("an empty answer".to_owned()))?;
    let damaged = |error: tokio_postgres::Error| TableError::Permanent(error.to_string());
    let encoding: &str = row.try_get(1).map_err(damaged)?;
    if encoding != "UTF8" {
        return Err(TableError::Permanent(format!(
            "PostgreSQL, {}: its encoding is {encoding}; the database must be UTF-8",
            connections.place()
        )));
    }
    if row.try_get::<_, bool>(0).map_err(damaged)? {
        return Ok(());
    }
    if !create {
        return Err(TableError::Permanent(format!(
            "PostgreSQL, {}: the table alluvium.metadata is not there, and the cluster's metadata is in it: look for another server or database",
            connections.place()
        )));
    }
    for statement in CREATE {
        match connections.run(async |client| client.batch_execute(statement).await).await {
            Ok(()) => {}
            Err(Trouble::Refused(reason)) => return Err(missing(connections, &reason)),
            Err(trouble) => return Err(trouble.into()),
        }
    }
    tracing::info!(place = connections.place(), "created the table of the metadata");
    Ok(())
}

fn missing(connections: &Connections, what: &str) -> TableError {
    let statements = CREATE.join("; ");
    TableError::Permanent(format!(
        "PostgreSQL, {}: {what}. Make it as its owner: {statements}; grant usage on schema alluvium to {user:?}; \
         grant select, insert, delete on alluvium.metadata to {user:?}",
        connections.place(),
        user = connections.user(),
    ))
}
