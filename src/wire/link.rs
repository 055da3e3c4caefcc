//! What brokers say to each other over a connection to the Kafka listener: frames as Kafka's, with an API key of our own.
//!
//! ```text
//! ask     length i32 · key i16 = "Al" · version i16 · correlation id i32 · no client id, i16 = −1 · newest revision known u64
//! answer  length i32 · correlation id i32 · version i16 · session: revision u64, random u64 · segments committed u64
//!         · nonce of the newest u64 · its age in ms u64 · newest revision known u64
//! ```
//!
//! Being Kafka's, the frames come through the same door as everybody's: its limits now, its TLS and SASL later. The key is far from
//! Kafka's, and ApiVersions does not tell of it. A broker that does not know it closes the connection, as on any unknown key.
//!
//! A version appends fields to those of the one before. Who is asked in a version that it does not know reads the fields that it knows
//! and answers in its own newest one; version 0 has no others.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::RequestHead;
use crate::types::{Revision, SegmentNumber, SessionId};

/// "Al"; Kafka's keys are below 100.
pub const LINK_KEY: i16 = 0x416c;

/// The newest version that this program knows.
pub const VERSION: i16 = 0;

/// Neither an ask nor an answer, of whatever version, is longer; without the length.
pub const FRAME_MAX_BYTES: usize = 256;

/// The fields of an ask of version 0, and an answer of version 0 without the length.
pub const ASK_BYTES: usize = 8;
pub const ANSWER_BYTES: usize = 4 + 2 + 6 * 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The newest revision of the metadata table that the asking broker knows.
    pub revision: Revision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub session: SessionId,
    /// Segments 0..committed of the session are committed; the newest of them has this nonce and was sent so long ago.
    pub committed: SegmentNumber,
    pub nonce: u64,
    pub age_ms: u64,
    /// The newest revision of the metadata table that the session knows.
    pub revision: Revision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not what brokers say to each other")]
pub struct LinkError(&'static str);

/// Whether a frame of this API key (without its length) is an ask.
pub fn is_ask(frame: &[u8]) -> bool {
    frame.first_chunk().is_some_and(|key| i16::from_be_bytes(*key) == LINK_KEY)
}

/// With the length.
pub fn encode_ask(correlation_id: i32, ask: Ask) -> Bytes {
    let mut body = BytesMut::with_capacity(32);
    body.put_i16(LINK_KEY);
    body.put_i16(VERSION);
    body.put_i32(correlation_id);
    body.put_i16(-1);
    body.put_u64(ask.revision);
    framed(&body)
}

/// Without the length. Gives the correlation id, too.
pub fn decode_ask(frame: &[u8]) -> Result<(i32, Ask), LinkError> {
    if frame.len() > FRAME_MAX_BYTES || !is_ask(frame) {
        return Err(LinkError("an ask that is too long or of another key"));
    }
    let head = RequestHead::parse(frame).map_err(|_| LinkError("an ask without a header"))?;
    let body = &frame[head.body_start..];
    if !fits(head.api_version, body.len(), ASK_BYTES) {
        return Err(LinkError("an ask of this length"));
    }
    Ok((head.correlation_id, Ask { revision: u64_at(body, 0) }))
}

/// With the length.
pub fn encode_answer(correlation_id: i32, answer: &Answer) -> Bytes {
    let mut body = BytesMut::with_capacity(ANSWER_BYTES);
    body.put_i32(correlation_id);
    body.put_i16(VERSION);
    let Answer { session, committed, nonce, age_ms, revision } = *answer;
    for number in [session.revision, session.random, committed, nonce, age_ms, revision] {
        body.put_u64(number);
    }
    framed(&body)
}

/// Without the length. Gives the correlation id, too.
pub fn decode_answer(frame: &[u8]) -> Result<(i32, Answer), LinkError> {
    let (head, body) = frame.split_first_chunk::<6>().ok_or(LinkError("an answer without a header"))?;
    let version = i16::from_be_bytes([head[4], head[5]]);
    if frame.len() > FRAME_MAX_BYTES || !fits(version, frame.len(), ANSWER_BYTES) {
        return Err(LinkError("an answer of this length"));
    }
    let number = |at| u64_at(body, at);
    let session = SessionId { revision: number(0), random: number(1) };
    let answer = Answer { session, committed: number(2), nonce: number(3), age_ms: number(4), revision: number(5) };
    Ok((i32::from_be_bytes([head[0], head[1], head[2], head[3]]), answer))
}

/// Whether so many bytes can be a version that begins with the `known` ones of version 0.
fn fits(version: i16, bytes: usize, known: usize) -> bool {
    if version == 0 { bytes == known } else { version > 0 && bytes >= known }
}

/// The number at a place that is there.
fn u64_at(body: &[u8], at: usize) -> u64 {
    body[at * 8..(at + 1) * 8].iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_i32(i32::try_from(body.len()).expect("frames of links are short"));
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Answer = Answer {
        session: SessionId { revision: 3, random: 0x0102_0304_0506_0708 },
        committed: 5,
        nonce: u64::MAX,
        age_ms: 1000,
        revision: 70_000,
    };

    #[test]
    fn the_bytes_of_version_0_stay() {
        let ask = encode_ask(9, Ask { revision: 258 });
        assert_eq!(ask[..], [0, 0, 0, 18, b'A', b'l', 0, 0, 0, 0, 0, 9, 255, 255, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode_ask(&ask[4..]), Ok((9, Ask { revision: 258 })));
        let answer = encode_answer(-2, &ANSWER);
        let expected = [
            &[0, 0, 0, 54, 255, 255, 255, 254, 0, 0][..],
            &[0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 0, 0, 0, 0, 0, 0, 5, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 0, 0, 1, 17, 112],
        ];
        assert_eq!(answer[..], expected.concat()[..]);
        assert_eq!(decode_answer(&answer[4..]), Ok((-2, ANSWER)));
    }

    #[test]
    fn a_later_version_may_have_more() {
        let longer = |frame: &[u8], version_at: usize, version: i16, more: usize| {
            let mut frame = frame.to_vec();
            frame[version_at..version_at + 2].copy_from_slice(&version.to_be_bytes());
            frame.resize(frame.len() + more, 7);
            frame
        };
        let (ask, answer) = (&encode_ask(1, Ask { revision: 2 })[4..], &encode_answer(1, &ANSWER)[4..]);
        for (version, more, good) in
            [(0, 0, true), (0, 1, false), (1, 0, true), (7, 9, true), (-1, 0, false), (1, 300, false)]
        {
            assert_eq!(decode_ask(&longer(ask, 2, version, more)).is_ok(), good, "{version} {more}");
            assert_eq!(decode_answer(&longer(answer, 4, version, more)).is_ok(), good, "{version} {more}");
        }
    }

    #[test]
    fn what_is_cut_or_of_others_is_refused() {
        let (ask, answer) = (&encode_ask(1, Ask { revision: 2 })[4..], &encode_answer(1, &ANSWER)[4..]);
        (0..ask.len()).for_each(|cut| assert!(decode_ask(&ask[..cut]).is_err(), "{cut}"));
        (0..answer.len()).for_each(|cut| assert!(decode_answer(&answer[..cut]).is_err(), "{cut}"));
        let mut metadata = ask.to_vec();
        metadata[..2].copy_from_slice(&3i16.to_be_bytes());
        assert!(decode_ask(&metadata).is_err());
        let mut client = ask.to_vec();
        client[8..10].copy_from_slice(&i16::MAX.to_be_bytes());
        assert!(decode_ask(&client).is_err());
    }
}
