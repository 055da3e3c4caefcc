//! Object names that every adapter takes: short, plain, and never a way out of the folder they stand in.

use super::StoreError;

/// Longest name, in bytes; S3 takes 1024 including the prefix.
pub const KEY_MAX_BYTES: usize = 512;

/// Refuses names that some adapter could read in another way: absolute ones, empty or dotted parts, bytes outside
/// `A-Z a-z 0-9 - _ . /`. A part may not begin with a dot, since the local directory keeps its own files under such names.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    let reason = if key.is_empty() || key.len() > KEY_MAX_BYTES {
        "a name has 1 to 512 bytes"
    } else if !key.bytes().all(plain) {
        "a name is made of A-Z a-z 0-9 - _ . /"
    } else if key.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        "a part of a name is not empty and does not begin with a dot"
    } else {
        return Ok(());
    };
    Err(StoreError::permanent(key, reason))
}

/// Refuses prefixes of listings that lead out of the store. "" is everything; a part may be cut off anywhere.
pub fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    if prefix.starts_with('/') || prefix.split('/').any(|part| part.starts_with('.')) {
        return Err(StoreError::permanent(prefix, "a prefix is the beginning of a name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_ways_out() {
        for good in ["a", "meta/log/00000000000000000001", "segments/1-a/2", "a.b"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", ".lock", "a/.tmp", "a b", "ä", "a\0", "a\\b"] {
            assert!(matches!(check_key(bad), Err(StoreError::Permanent { .. })), "{bad}");
        }
        assert!(check_key(&"x".repeat(513)).is_err());
        assert!(check_prefix("").is_ok() && check_prefix("meta/lo").is_ok() && check_prefix("meta/").is_ok());
        assert!(check_prefix("../").is_err() && check_prefix("/etc").is_err() && check_prefix("a/../../b").is_err());
    }
}
