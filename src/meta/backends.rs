//! From what the settings say to the cluster's table.
//!
//! Outside the bucket a table holds the revisions of many clusters, under their ids; so the id must be known first. It comes from `meta/cluster`.
//! At revision 0, which no entry has, stands the mark of the cluster, put there before `meta/cluster` is written: a table without it is not
//! the one that the cluster began or came to, whatever its address is (deleted and made again, another region, account or server), and
//! a broker refuses it rather than begin a second history.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::{self, Cluster, Place};
use super::error::MetaError;
use super::retry::{Objects, Pauses};
use super::sealed;
use super::table::bucket::BucketTable;
use super::table::dynamodb::{Dynamodb, DynamodbOptions};
use super::table::postgres::Postgres;
use super::table::{Append, TableError, TableRef};
use crate::store::StoreRef;
use crate::types::env::Env;
use crate::types::table_url::TableUrl;

/// A step of opening a table is tried for so long.
const LIMIT: Duration = Duration::from_secs(10);

const MARK_VERSION: u64 = 1;

/// Which table, and how to reach it.
#[derive(Clone, Debug, Default)]
pub struct TableSettings {
    pub url: TableUrl,
    /// Overrides `AWS_ENDPOINT_URL_DYNAMODB` and `AWS_ENDPOINT_URL`.
    pub dynamodb_endpoint: Option<String>,
    /// Of DynamoDB; overrides the environment's.
    pub region: Option<String>,
}

/// A place for tables.
pub enum Backend {
    Bucket,
    Dynamodb(Dynamodb),
    Postgres(Postgres),
}

impl Backend {
    /// Understands the settings; nothing is sent yet.
    pub fn new(settings: &TableSettings, env: &Env) -> Result<Backend, MetaError> {
        let backend = match &settings.url {
            TableUrl::Bucket => Ok(Backend::Bucket),
            TableUrl::Dynamodb { table } => {
                let (endpoint, region) = (settings.dynamodb_endpoint.clone(), settings.region.clone());
                Dynamodb::new(DynamodbOptions { table: table.clone(), endpoint, region }).map(Backend::Dynamodb)
            }
            TableUrl::Postgres(url) => Postgres::new(url, env.clone()).map(Backend::Postgres),
        };
        backend.map_err(|reason| MetaError::Refused(format!("{}: {reason}", settings.url)))
    }

    /// Makes sure that tables can be kept there. `create`: with what has to be made first.
    pub async fn prepare(&self, env: &Env, create: bool) -> Result<(), MetaError> {
        patiently(env, || async {
            match self {
                Backend::Bucket => Ok(()),
                Backend::Dynamodb(server) => server.prepare(create).await,
                Backend::Postgres(server) => server.prepare(create).await,
            }
        })
        .await
    }

    /// The table of one cluster.
    pub fn table(&self, store: &StoreRef, cluster_id: &str) -> TableRef {
        match self {
            Backend::Bucket => std::sync::Arc::new(BucketTable::new(store.clone())),
            Backend::Dynamodb(server) => std::sync::Arc::new(server.cluster(cluster_id)),
            Backend::Postgres(server) => std::sync::Arc::new(server.cluster(cluster_id)),
        }
    }

    fn keeps_marks(&self) -> bool {
        !matches!(self, Backend::Bucket)
    }
}

/// Opens the table that the settings name for a broker, and founds the cluster if the bucket has none.
pub async fn open(store: &StoreRef, env: &Env, settings: &TableSettings) -> Result<TableRef, MetaError> {
    let backend = Backend::new(settings, env)?;
    if !backend.keeps_marks() {
        return Ok(backend.table(store, ""));
    }
    let objects = Objects { store: &**store, env, limit: LIMIT };
    let address = settings.url.address();
    let (cluster, place) = match cluster::find(objects).await? {
        Some((cluster, place)) => {
            cluster::check(&cluster, &place, &address)?;
            backend.prepare(env, false).await?;
            (cluster, place)
        }
        None => {
            backend.prepare(env, true).await?;
            let cluster_id = cluster::new_cluster_id(env);
            put_mark(env, &backend.table(store, &cluster_id), &cluster_id).await?;
            cluster::found(objects, cluster_id, &address).await?
        }
    };
    cluster::check(&cluster, &place, &address)?;
    let table = backend.table(store, &cluster.cluster_id);
    check_mark(env, &table, &cluster.cluster_id).await?;
    Ok(table)
}

/// The cluster that there is, and its table if the settings name it: for people who look.
pub async fn find(
    store: &StoreRef,
    env: &Env,
    settings: &TableSettings,
) -> Result<(Cluster, Place, TableRef), MetaError> {
    let objects = Objects { store: &**store, env, limit: LIMIT };
    let nothing = || MetaError::WrongCluster(format!("{}: no cluster there", cluster::KEY));
    let (cluster, place) = cluster::find(objects).await?.ok_or_else(nothing)?;
    cluster::check(&cluster, &place, &settings.url.address())?;
    let backend = Backend::new(settings, env)?;
    backend.prepare(env, false).await?;
    let table = backend.table(store, &cluster.cluster_id);
    if backend.keeps_marks() {
        check_mark(env, &table, &cluster.cluster_id).await?;
    }
    Ok((cluster, place, table))
}

/// The table of the cluster at a place where it is to move to, marked.
pub(super) async fn target(
    store: &StoreRef,
    env: &Env,
    settings: &TableSettings,
    cluster_id: &str,
) -> Result<TableRef, MetaError> {
    let backend = Backend::new(settings, env)?;
    backend.prepare(env, true).await?;
    let table = backend.table(store, cluster_id);
    if backend.keeps_marks() {
        put_mark(env, &table, cluster_id).await?;
        check_mark(env, &table, cluster_id).await?;
    }
    Ok(table)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    version: u64,
    cluster_id: String,
}

async fn put_mark(env: &Env, table: &TableRef, cluster_id: &str) -> Result<(), MetaError> {
    let mark = sealed::encode(&Mark { version: MARK_VERSION, cluster_id: cluster_id.to_owned() });
    patiently(env, || async {
        match table.append(0, mark.clone()).await? {
            Append::Appended | Append::Taken => Ok(()),
            Append::Unknown { reason } => Err(TableError::Unavailable(reason)),
        }
    })
    .await
}

async fn check_mark(env: &Env, table: &TableRef, cluster_id: &str) -> Result<(), MetaError> {
    let mut pauses = Pauses::new(env);
    let mut left = super::retry::READS_BEFORE_BELIEF;
    loop {
        let chunk = patiently(env, || table.read(0, 1)).await?;
        let mark = chunk.bodies.first().map(|body| sealed::decode::<Mark>(body));
        left -= 1;
        return match mark {
            Some(Ok(mark)) if mark.version == MARK_VERSION && mark.cluster_id == cluster_id => Ok(()),
            Some(_) if left > 0 => {
                pauses.pause().await;
                continue;
            }
            Some(_) => {
                Err(MetaError::unreadable(format!("{}, revision 0", table.name()), "it is not the cluster's mark"))
            }
            None => Err(MetaError::WrongCluster(format!(
                "{}: it holds nothing of cluster {cluster_id}: it was deleted or emptied, or this is another server, region or account \
                 than the brokers used before",
                table.name()
            ))),
        };
    }
}

/// Repeats what gets no answer, for [`LIMIT`]. How long one attempt takes is the backend's to say.
async fn patiently<T, F: Future<Output = Result<T, TableError>>>(
    env: &Env,
    mut attempt: impl FnMut() -> F,
) -> Result<T, MetaError> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut pauses = Pauses::new(env);
    loop {
        match attempt().await {
            Err(TableError::Unavailable(_)) if tokio::time::Instant::now() < deadline => pauses.pause().await,
            Err(TableError::Unavailable(reason)) => return Err(MetaError::Unavailable(reason)),
            Err(TableError::Permanent(reason)) => return Err(MetaError::Refused(reason)),
            Ok(value) => return Ok(value),
        }
    }
}
