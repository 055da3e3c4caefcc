//! `meta/cluster`: which cluster the bucket holds. Written once by the first broker, never changed, never deleted.
//!
//! It names the cluster id, the version of the whole layout and the one table, so that two brokers can't keep two tables for
//! one set of segments: a broker told of another table refuses to start.

use serde::{Deserialize, Serialize};

use super::error::MetaError;
use super::retry::Objects;
use super::sealed;
use crate::types::env::Env;

pub const KEY: &str = "meta/cluster";
pub const CLUSTER_VERSION: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub version: u64,
    /// 128 random bits as Kafka writes them: 22 characters of base64url.
    pub cluster_id: String,
    /// The backend of the metadata table, as its settings name it.
    pub table: String,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

/// Reads the cluster's object, after creating it if this is the bucket's first broker.
pub(super) async fn join(objects: Objects<'_>, env: &Env, table: &str) -> Result<Cluster, MetaError> {
    let cluster = match objects.read_as(KEY, decode).await? {
        Some(cluster) => cluster,
        None => {
            let fresh = Cluster { version: CLUSTER_VERSION, cluster_id: new_cluster_id(env), table: table.to_owned() };
            objects.ensure(KEY, &sealed::encode(&fresh)).await?;
            let read_back = objects.read_as(KEY, decode).await?;
            read_back.ok_or_else(|| MetaError::Unavailable(format!("{KEY}: written, and not there afterwards")))?
        }
    };
    if cluster.table != table {
        return Err(MetaError::WrongCluster(format!(
            "{KEY}: cluster {} keeps its metadata table in {:?}, this broker is told {table:?}; all brokers of a bucket use the same table",
            cluster.cluster_id, cluster.table
        )));
    }
    Ok(cluster)
}

pub fn decode(bytes: &[u8]) -> Result<Cluster, MetaError> {
    let head: Head = serde_json::from_slice(bytes).map_err(|error| MetaError::unreadable(KEY, error))?;
    let version = head.version;
    if version != CLUSTER_VERSION {
        let reason = format!("the bucket has layout version {version}, this program knows {CLUSTER_VERSION}");
        return Err(MetaError::unreadable(KEY, reason));
    }
    sealed::decode(bytes).map_err(|error| MetaError::unreadable(KEY, error))
}

/// As Kafka's `Uuid.randomUuid`: none that begins with a dash, which tools take for an option.
fn new_cluster_id(env: &Env) -> String {
    loop {
        let id = base64url(env.entropy.next_u128());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// 128 bits as 22 characters of base64url without padding.
pub fn base64url(bits: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |value: u128| char::from(ALPHABET[(value & 63) as usize]);
    let mut text: String = (0..21).map(|place| digit(bits >> (122 - 6 * place))).collect();
    text.push(digit(bits << 4));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_kafkas() {
        for (bits, text) in [
            (0, "AAAAAAAAAAAAAAAAAAAAAA"),
            (1, "AAAAAAAAAAAAAAAAAAAAAQ"),
            (u128::MAX, "_____________________w"),
            (0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "ASNFZ4mrze8BI0VniavN7w"),
        ] {
            assert_eq!(base64url(bits), text);
        }
    }
}
