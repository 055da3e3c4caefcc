//! Request headers in, response frames out.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Encodable;

use super::table;

/// Longest response, without records. Clients do not read longer ones: librdkafka's `receive.message.max.bytes` is this, franz-go's
/// `BrokerMaxReadBytes` about the same.
pub const RESPONSE_MAX_BYTES: usize = 100_000_000;

/// The header of a request. `client_id` is a slice of the frame: copy it before it is kept, else it keeps the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
    /// Where the body starts in the frame.
    pub body_start: usize,
}

/// Why a frame is refused; the connection is closed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the request ends inside its header")]
    Truncated,
    #[error("the client id is not UTF-8")]
    ClientId,
    #[error("the header's tagged fields have an impossible length")]
    Tags,
}

/// A response that could not be written: a field is set that its version does not have, or it is longer than 2 GiB.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response to {api} version {version} can't be encoded: {reason}")]
pub struct EncodeError {
    pub api: &'static str,
    pub version: i16,
    pub reason: String,
}

impl<'a> RequestHead<'a> {
    /// Reads the header of a frame (without its length prefix). Works for every key and version: what is not served has no
    /// known header, so its body is said to start after the client id, and must not be read. Source: RequestHeader.java.
    pub fn parse(frame: &'a [u8]) -> Result<RequestHead<'a>, FrameError> {
        let (fixed, rest) = frame.split_first_chunk::<8>().ok_or(FrameError::Truncated)?;
        let api_key = i16::from_be_bytes([fixed[0], fixed[1]]);
        let api_version = i16::from_be_bytes([fixed[2], fixed[3]]);
        let correlation_id = i32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(FrameError::Truncated)?;
        let (client_id, mut rest) = match i16::from_be_bytes(*length) {
            // Kafka reads every negative length as null.
            ..0 => (None, rest),
            length => {
                let length = usize::from(length.unsigned_abs());
                let (text, rest) = rest.split_at_checked(length).ok_or(FrameError::Truncated)?;
                (Some(std::str::from_utf8(text).map_err(|_| FrameError::ClientId)?), rest)
            }
        };
        let row = table::find(api_key).filter(|row| row.serves(api_version));
        if row.is_some_and(|row| row.request_header_version(api_version) >= 2) {
            rest = skip_tags(rest)?;
        }
        Ok(RequestHead { api_key, api_version, correlation_id, client_id, body_start: frame.len() - rest.len() })
    }
}

fn skip_tags(mut rest: &[u8]) -> Result<&[u8], FrameError> {
    for _ in 0..varint(&mut rest)? {
        varint(&mut rest)?;
        let size = usize::try_from(varint(&mut rest)?).map_err(|_| FrameError::Tags)?;
        rest = rest.get(size..).ok_or(FrameError::Truncated)?;
    }
    Ok(rest)
}

fn varint(rest: &mut &[u8]) -> Result<u32, FrameError> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, tail) = rest.split_first().ok_or(FrameError::Truncated)?;
        *rest = tail;
        if shift == 28 && *byte > 0x0f {
            break;
        }
        value |= u32::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err(FrameError::Tags)
}

/// A whole response frame: length prefix, header, body, in one buffer of exactly that size.
pub fn encode_response<T: Encodable>(
    correlation_id: i32,
    api_key: ApiKey,
    version: i16,
    body: &T,
) -> Result<Bytes, EncodeError> {
    encode_response_with_tail(correlation_id, api_key, version, body, 0)
}

/// Like [`encode_response`], for a response whose last `tail` bytes the caller sends after the returned buffer: they are
/// counted in the length prefix only.
pub fn encode_response_with_tail<T: Encodable>(
    correlation_id: i32,
    api_key: ApiKey,
    version: i16,
    body: &T,
    tail: usize,
) -> Result<Bytes, EncodeError> {
    let row = table::find(api_key as i16);
    let error = |reason: String| EncodeError { api: row.map_or("an unknown API", |row| row.name), version, reason };
    let tagged = row.is_some_and(|row| row.response_header_version(version) >= 1);
    let size = 4 + usize::from(tagged) + body.compute_size(version).map_err(|reason| error(reason.to_string()))?;
    if size > RESPONSE_MAX_BYTES {
        return Err(error(format!("{size} bytes, more than clients read ({RESPONSE_MAX_BYTES})")));
    }
    let prefix = i32::try_from(size + tail).map_err(|_| error(format!("{} bytes", size + tail)))?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(prefix);
    frame.put_i32(correlation_id);
    if tagged {
        frame.put_u8(0);
    }
    body.encode(&mut frame, version).map_err(|reason| error(reason.to_string()))?;
    if frame.len() != 4 + size {
        return Err(error(format!("{} bytes instead of {}", frame.len(), 4 + size)));
    }
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse, RequestHeader, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    #[test]
    fn parses_headers() {
        let v1 = [0, 3, 0, 4, 0, 0, 0, 9, 0, 2, b'm', b'e', 0xee];
        let head = RequestHead { api_key: 3, api_version: 4, correlation_id: 9, client_id: Some("me"), body_start: 12 };
        assert_eq!(RequestHead::parse(&v1), Ok(head));
        let v2 = [0, 3, 0, 9, 0, 0, 0, 9, 255, 255, 1, 5, 2, 7, 7, 0xee];
        let head = RequestHead { api_key: 3, api_version: 9, correlation_id: 9, client_id: None, body_start: 15 };
        assert_eq!(RequestHead::parse(&v2), Ok(head));
        let negative = [0, 3, 0, 4, 0, 0, 0, 9, 0x80, 0, 0xee];
        let head = RequestHead { api_key: 3, api_version: 4, correlation_id: 9, client_id: None, body_start: 10 };
        assert_eq!(RequestHead::parse(&negative), Ok(head));
        let too_new = [0, 18, 0, 99, 0, 0, 0, 9, 0, 0, 0x80, 0x80];
        let head = RequestHead { api_key: 18, api_version: 99, correlation_id: 9, client_id: Some(""), body_start: 10 };
        assert_eq!(RequestHead::parse(&too_new), Ok(head));
    }

    #[test]
    fn reads_the_crates_headers_of_every_version() {
        for row in table::API_TABLE {
            for version in row.min..=row.max {
                let client_id = StrBytes::from_static_str("a client");
                let mut header = RequestHeader::default()
                    .with_request_api_key(row.key as i16)
                    .with_request_api_version(version)
                    .with_correlation_id(-7)
                    .with_client_id(Some(client_id));
                if row.is_flexible(version) {
                    header = header.with_unknown_tagged_field(1000, Bytes::from(vec![7; 200]));
                }
                let mut frame = BytesMut::new();
                header.encode(&mut frame, row.request_header_version(version)).expect("encodes");
                let body_start = frame.len();
                frame.extend_from_slice(b"body");
                let head = RequestHead::parse(&frame).expect("parses");
                assert_eq!((head.api_key, head.api_version, head.correlation_id), (row.key as i16, version, -7));
                assert_eq!((head.client_id, head.body_start), (Some("a client"), body_start), "{}", row.name);
            }
        }
    }

    #[test]
    fn refuses_broken_headers() {
        let v2 = [0, 3, 0, 9, 0, 0, 0, 9, 0, 1, b'x', 1, 5, 2, 7, 7];
        for cut in 0..v2.len() {
            assert_eq!(RequestHead::parse(&v2[..cut]), Err(FrameError::Truncated), "{cut}");
        }
        let bad_text = [0, 3, 0, 9, 0, 0, 0, 9, 0, 1, 0xff, 0];
        assert_eq!(RequestHead::parse(&bad_text), Err(FrameError::ClientId));
        let bad_tags = [0, 3, 0, 9, 0, 0, 0, 9, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(RequestHead::parse(&bad_tags), Err(FrameError::Tags));
    }

    #[test]
    fn frames_responses() {
        for version in 4..=17 {
            let frame = encode_response(7, ApiKey::Fetch, version, &FetchResponse::default()).expect("encodes");
            let mut rest = frame.slice(4..);
            assert_eq!(frame[..4], u32::try_from(rest.len()).expect("short").to_be_bytes());
            let header = ResponseHeader::decode(&mut rest, i16::from(version >= 12)).expect("header");
            assert_eq!(header.correlation_id, 7);
            assert_eq!(FetchResponse::decode(&mut rest, version).expect("body"), FetchResponse::default());
            assert!(rest.is_empty());
        }
        let frame = encode_response(7, ApiKey::ApiVersions, 3, &ApiVersionsResponse::default()).expect("encodes");
        assert_eq!(frame[..], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
