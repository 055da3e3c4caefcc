//! Small JSON objects with a CRC of their own: the last field is `crc32c`, 8 hexadecimal digits, the CRC-32C of all bytes before the
//! comma in front of it. A person reads them as any JSON; a wrong bit on the way is seen.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const SEAL_BYTES: usize = r#","crc32c":"00000000"}"#.len();

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("its CRC is wrong, or not its last field")]
    Crc,
    #[error("{0}")]
    Json(String),
}

pub(super) fn crc32c(content: &[u8]) -> String {
    format!("{:08x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content))
}

fn seal_of(content: &[u8]) -> String {
    format!(r#","crc32c":"{}"}}"#, crc32c(content))
}

/// `value` must be a struct with at least one field, none of them `crc32c`.
pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("formats have only string keys and finite numbers");
    bytes.pop();
    let seal = seal_of(&bytes);
    bytes.extend_from_slice(seal.as_bytes());
    Bytes::from(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SealError> {
    let (content, seal) = bytes.split_at(bytes.len().saturating_sub(SEAL_BYTES));
    if seal != seal_of(content).as_bytes() {
        return Err(SealError::Crc);
    }
    serde_json::from_slice(&[content, b"}"].concat()).map_err(|error| SealError::Json(error.to_string()))
}
