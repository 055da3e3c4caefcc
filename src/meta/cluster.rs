//! `meta/cluster`: which cluster the bucket holds. Written once by the first broker, never changed, never deleted.
//!
//! It names the cluster id, the version of the whole layout and the one table, so that two brokers can't keep two tables for
//! one set of segments: a broker told of another table refuses to start.
//!
//! A stopped cluster may move to another table ([`super::copy`]). Names are create-only, so a move is an object of its own,
//! `meta/moved/<number, 20 digits>`, and the one with the highest number says where the table is. Creating it is the whole move: before it the
//! old table is the valid one, after it the new one, and of two that want to move, or of one that moves and a broker that starts and
//! wants to stay, exactly one gets the number.
//!
//! The copy's last entry in the old table, [`Change::MoveTable`](super::entry::Change::MoveTable), stops whoever still runs on it. A broker that
//! starts and finds that entry without the object takes the number itself, for the old table: the copy was given up.

use serde::{Deserialize, Serialize};

use super::error::MetaError;
use super::retry::Objects;
use super::sealed;
use crate::types::Revision;
use crate::types::env::Env;

pub const KEY: &str = "meta/cluster";
pub const CLUSTER_VERSION: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub version: u64,
    /// 128 random bits as Kafka writes them: 22 characters of base64url.
    pub cluster_id: String,
    /// The first metadata table: backend and address, without secrets.
    pub table: String,
}

/// Where moves of the table are written down.
pub const MOVED_PREFIX: &str = "meta/moved/";
const MOVED_VERSION: u64 = 1;

/// One move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moved {
    version: u64,
    table: String,
    revision: Revision,
}

/// Where the metadata table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Moves so far, those included that were given up.
    pub moves: u64,
    /// Backend and address.
    pub table: String,
    /// Marks of moves up to this revision of the table are history.
    pub revision: Revision,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

fn moved_key(number: u64) -> String {
    format!("{MOVED_PREFIX}{number:020}")
}

/// Which cluster the bucket holds, and where its table is; `None`: no cluster yet. Moves are listed beside the read of the cluster: its object
/// never changes, and a move that comes after the list is met as [`super::entry::Change::MoveTable`] in the table.
pub(super) async fn find(objects: Objects<'_>) -> Result<Option<(Cluster, Place)>, MetaError> {
    let (cluster, moves) = tokio::join!(objects.read_as(KEY, decode), objects.keys(MOVED_PREFIX));
    let Some(cluster) = cluster? else { return Ok(None) };
    let numbers = moves?;
    let newest = numbers.iter().filter_map(|key| key.strip_prefix(MOVED_PREFIX)?.parse::<u64>().ok()).max();
    let place = match newest {
        None => Place { moves: 0, table: cluster.table.clone(), revision: 0 },
        Some(number) => read_move(objects, number).await?,
    };
    Ok(Some((cluster, place)))
}

async fn read_move(objects: Objects<'_>, number: u64) -> Result<Place, MetaError> {
    let key = moved_key(number);
    let decode = |bytes: &[u8]| {
        let moved: Moved = sealed::decode(bytes).map_err(|error| MetaError::unreadable(&key, error))?;
        match moved.version {
            MOVED_VERSION => Ok(Place { moves: number, table: moved.table, revision: moved.revision }),
            other => Err(MetaError::unreadable(&key, format!("version {other} is unknown to this program"))),
        }
    };
    let place = objects.read_as(&key, decode).await?;
    place.ok_or_else(|| MetaError::Unavailable(format!("{key}: listed, and not there")))
}

/// Says where the table is from now on, as move `number`. Returns what that move is, which may be another's.
pub(super) async fn settle(
    objects: Objects<'_>,
    number: u64,
    table: &str,
    revision: Revision,
) -> Result<Place, MetaError> {
    let moved = Moved { version: MOVED_VERSION, table: table.to_owned(), revision };
    objects.ensure(&moved_key(number), &sealed::encode(&moved)).await?;
    read_move(objects, number).await
}

/// Founds the cluster with this id and table, unless somebody was first. Returns the cluster that there is.
pub(super) async fn found(
    objects: Objects<'_>,
    cluster_id: String,
    table: &str,
) -> Result<(Cluster, Place), MetaError> {
    let fresh = Cluster { version: CLUSTER_VERSION, cluster_id, table: table.to_owned() };
    objects.ensure(KEY, &sealed::encode(&fresh)).await?;
    let found = find(objects).await?;
    found.ok_or_else(|| MetaError::Unavailable(format!("{KEY}: written, and not there afterwards")))
}

/// Reads the cluster's object, after creating it if this is the bucket's first broker. The table must be the cluster's.
pub(super) async fn join(objects: Objects<'_>, env: &Env, table: &str) -> Result<(Cluster, Place), MetaError> {
    let (cluster, place) = match find(objects).await? {
        Some(found) => found,
        None => found(objects, new_cluster_id(env), table).await?,
    };
    check(&cluster, &place, table)?;
    Ok((cluster, place))
}

/// Whether this is the cluster's table.
pub(super) fn check(cluster: &Cluster, place: &Place, table: &str) -> Result<(), MetaError> {
    if place.table == table {
        return Ok(());
    }
    Err(MetaError::WrongCluster(format!(
        "{KEY}: cluster {} keeps its metadata table in {:?}, this broker is told {table:?}; all brokers of a bucket use the same table \
         (--metadata; `alluvium metadata copy` moves it)",
        cluster.cluster_id, place.table
    )))
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
pub(super) fn new_cluster_id(env: &Env) -> String {
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
