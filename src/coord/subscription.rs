//! The topics that a member of a consumer group subscribed to, read from its opaque metadata.
//!
//! Only version 0 of `ConsumerProtocolSubscription` is read: every later version begins with it.

use std::collections::BTreeSet;

use super::codec::{DecodeError, Reader};

/// The protocol type of consumers; other types' metadata is opaque.
pub const CONSUMER: &str = "consumer";

/// Topic names in a subscription.
pub fn topics(metadata: &[u8]) -> Result<BTreeSet<String>, DecodeError> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16()?;
    if version < 0 {
        return Err(DecodeError::Version(version));
    }
    let count = reader.array_length(false, 2)?;
    (0..count).map(|_| reader.string(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_topics_of_any_version() {
        let mut metadata = vec![0, 3, 0, 0, 0, 2, 0, 1, b'b', 0, 1, b'a'];
        metadata.extend_from_slice(&[0, 0, 0, 0, 9, 9]);
        assert_eq!(topics(&metadata), Ok(BTreeSet::from(["a".to_owned(), "b".to_owned()])));
        assert_eq!(topics(&[]), Err(DecodeError::Short));
        assert_eq!(topics(&[0, 0, 0x7f, 0, 0, 0]), Err(DecodeError::Length));
        assert_eq!(topics(&[0xff, 0xff, 0, 0, 0, 0]), Err(DecodeError::Version(-1)));
    }
}
