//! Snapshots of the image in the bucket, whatever the table's backend: `meta/snapshots/<revision, 20 digits>`.
//!
//! A snapshot is two lines of text: a head in JSON (format, version, revision, length and CRC-32C of the rest) and the image in JSON.
//! The image at a revision is the same on every broker, so whoever writes the name first is right, and a snapshot that lands late,
//! even after it was deleted, says nothing wrong: the newest one counts.
//!
//! A snapshot that can't be read stops the broker with the name of the object; an older one is not taken in its place, since
//! the entries between the two may be gone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{ENTRY_VERSION, newer};
use super::error::MetaError;
use super::image::Image;
use super::retry::Objects;
use super::sealed::crc32c;
use crate::types::Revision;

pub const PREFIX: &str = "meta/snapshots/";
/// The newest version that is read. The version is the feature level of the cluster ([`super::level`]); version 2 has the state of merges.
pub const SNAPSHOT_VERSION: u16 = ENTRY_VERSION;

/// Snapshots that stay when a newer one is written, the newer one included.
const KEPT: usize = 2;

const FORMAT: &str = "alluvium metadata snapshot";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u16,
    revision: Revision,
    bytes: usize,
    crc32c: String,
}

#[derive(Deserialize)]
struct HeadVersion {
    version: u64,
}

pub fn key(revision: Revision) -> String {
    format!("{PREFIX}{revision:020}")
}

fn parse_key(key: &str) -> Option<Revision> {
    let digits = key.strip_prefix(PREFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Room for a head in front of the image, which is written first: the head says its length and checksum.
const HEAD_ROOM: usize = 256;

pub fn encode(image: &Image) -> Bytes {
    let mut bytes = vec![0; HEAD_ROOM];
    serde_json::to_writer(&mut bytes, image).expect("an image has only string keys and finite numbers");
    let body = &bytes[HEAD_ROOM..];
    let head = Head {
        format: FORMAT.to_owned(),
        version: version_of(image),
        revision: image.revision,
        bytes: body.len(),
        crc32c: crc32c(body),
    };
    let mut head = serde_json::to_vec(&head).expect("a head is plain");
    head.push(b'\n');
    let begin = HEAD_ROOM.checked_sub(head.len()).expect("numbers of a head have limits");
    bytes[begin..HEAD_ROOM].copy_from_slice(&head);
    Bytes::from(bytes).slice(begin..)
}

fn version_of(image: &Image) -> u16 {
    if image.merges.is_empty() { image.level } else { image.level.max(2) }
}

/// The image that the snapshot of `revision` holds.
pub fn decode(revision: Revision, bytes: &[u8]) -> Result<Image, MetaError> {
    let unreadable = |reason: String| MetaError::unreadable(key(revision), reason);
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| unreadable("it has no head".to_owned()))?;
    let (head, body) = (&bytes[..line], &bytes[line + 1..]);
    let bad_head = |error: serde_json::Error| unreadable(format!("its head is damaged: {error}"));
    let version = serde_json::from_slice::<HeadVersion>(head).map_err(bad_head)?.version;
    if !(1..=u64::from(SNAPSHOT_VERSION)).contains(&version) {
        return Err(unreadable(newer("snapshot", version, SNAPSHOT_VERSION)));
    }
    let head: Head = serde_json::from_slice(head).map_err(bad_head)?;
    if head.format != FORMAT || head.revision != revision {
        return Err(unreadable(format!("it says that it is {:?} of revision {}", head.format, head.revision)));
    }
    if head.bytes != body.len() || head.crc32c != crc32c(body) {
        let found = crc32c(body);
        return Err(unreadable(format!(
            "{} bytes with CRC {found} are not the {} with CRC {} of its head",
            body.len(),
            head.bytes,
            head.crc32c
        )));
    }
    let mut image: Image = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    image.level = head.version;
    if version_of(&image) > head.version {
        return Err(unreadable(format!("version {version} knows no merges")));
    }
    if image.revision != revision {
        return Err(unreadable(format!("its image is of revision {}", image.revision)));
    }
    Ok(image)
}

/// Revisions of the snapshots in the bucket, in order.
pub(super) async fn revisions(objects: Objects<'_>) -> Result<Vec<Revision>, MetaError> {
    Ok(objects.keys(PREFIX).await?.iter().filter_map(|key| parse_key(key)).collect())
}

/// The newest snapshot's image; `None` if there is none. A snapshot that goes away between list and read has newer ones by then.
pub(super) async fn newest(objects: Objects<'_>) -> Result<Option<Image>, MetaError> {
    const ROUNDS: usize = 5;
    for _ in 0..ROUNDS {
        let Some(revision) = revisions(objects).await?.last().copied() else { return Ok(None) };
        if let Some(image) = objects.read_as(&key(revision), |bytes| decode(revision, bytes)).await? {
            return Ok(Some(image));
        }
    }
    Err(MetaError::Unavailable(format!("{PREFIX}: snapshots go away faster than they can be read")))
}

/// Writes a snapshot and reads it back: after `Ok`, whoever loads the newest one gets this one or a later one.
pub(super) async fn write(objects: Objects<'_>, revision: Revision, bytes: &Bytes) -> Result<(), MetaError> {
    let key = key(revision);
    objects.ensure(&key, bytes).await?;
    match objects.read_as(&key, |stored| decode(revision, stored)).await? {
        Some(_) => Ok(()),
        None => Err(MetaError::Unavailable(format!("{key}: written, and not there afterwards"))),
    }
}

/// Deletes all but the newest two up to `verified`, which was read back. Snapshots above it are another broker's care.
pub(super) async fn prune(objects: Objects<'_>, verified: Revision) -> Result<(), MetaError> {
    let mut older = revisions(objects).await?;
    older.retain(|revision| *revision <= verified);
    older.truncate(older.len().saturating_sub(KEPT));
    for revision in older {
        objects.delete(&key(revision)).await?;
    }
    Ok(())
}
