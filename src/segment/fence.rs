//! The fence: a small object that takes a session's next segment number, so that its writer can't. FORMAT.md "Fence".

use bytes::Bytes;

use super::read::{Kind, trailer};
use super::varint::{Cursor, put, put_signed};
use super::{Damage, TRAILER_BYTES};
use crate::types::{SegmentNumber, SessionId, TimestampMs};

/// Who fenced which number of which session, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The session that is fenced.
    pub session: SessionId,
    /// The number that the fence takes.
    pub number: SegmentNumber,
    /// The fencer's random bits, by which it knows its own fence.
    pub nonce: u64,
    pub created_ms: TimestampMs,
    /// The session that fences; `None` for one that has no name yet. The same as `session` when a session ends itself.
    pub fencer: Option<SessionId>,
}

impl Fence {
    /// The bytes of the object.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64 + TRAILER_BYTES);
        put_session(&mut bytes, self.session);
        put(&mut bytes, self.number);
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        put_signed(&mut bytes, self.created_ms);
        bytes.push(u8::from(self.fencer.is_some()));
        if let Some(fencer) = self.fencer {
            put_session(&mut bytes, fencer);
        }
        let trailer = trailer(Kind::Fence, &bytes, 0, self.nonce).expect("the content of a fence is short");
        bytes.extend_from_slice(&trailer);
        Bytes::from(bytes)
    }
}

fn put_session(bytes: &mut Vec<u8>, session: SessionId) {
    put(bytes, session.revision);
    bytes.extend_from_slice(&session.random.to_be_bytes());
}

fn session(cursor: &mut Cursor<'_>) -> Result<SessionId, Damage> {
    let revision = cursor.unsigned("session revision")?;
    Ok(SessionId { revision, random: u64::from_be_bytes(cursor.array("session random bits")?) })
}

/// Reads the content of a fence, which is everything before its trailer.
pub(super) fn decode(bytes: &[u8]) -> Result<Fence, Damage> {
    let mut cursor = Cursor::new(bytes);
    let fenced = session(&mut cursor)?;
    let number = cursor.unsigned("number")?;
    let nonce = u64::from_be_bytes(cursor.array("nonce")?);
    let created_ms = cursor.signed("creation time")?;
    let fencer = match cursor.array::<1>("fencer")? {
        [0] => None,
        [1] => Some(session(&mut cursor)?),
        [other] => return Err(Damage::content(format!("fencer: {other} is neither absent (0) nor present (1)"))),
    };
    cursor.end("fence")?;
    Ok(Fence { session: fenced, number, nonce, created_ms, fencer })
}
