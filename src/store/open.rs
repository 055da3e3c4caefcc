//! From a store's URL to a store.

use std::path::PathBuf;
use std::sync::Arc;

use super::StoreRef;
use super::local::{Fatal, LocalError, LocalStore};
use super::memory::MemoryStore;
use super::s3::{S3Config, S3Store};

/// What adapters need besides the URL.
#[derive(Clone)]
pub struct OpenOptions {
    /// Called when a local folder can no longer keep its promise; must end the process.
    pub fatal: Fatal,
    /// Overrides `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` and the profile.
    pub s3_endpoint: Option<String>,
    /// Overrides `AWS_REGION`, `AWS_DEFAULT_REGION` and the profile.
    pub s3_region: Option<String>,
    /// Bucket in the path (true) or in the host name; `None`: in the path when there is an endpoint.
    pub s3_path_style: Option<bool>,
    /// Sends no CRC-64, for servers that refuse it.
    pub s3_without_checksum: bool,
}

impl OpenOptions {
    pub fn new(fatal: Fatal) -> OpenOptions {
        OpenOptions { fatal, s3_endpoint: None, s3_region: None, s3_path_style: None, s3_without_checksum: false }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store {url:?} is none of file:///dir, file://./dir, s3://bucket/prefix, memory:")]
    BadUrl { url: String },
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("the store {url}: {reason}")]
    S3 { url: String, reason: String },
}

/// A store's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Memory,
    Local(PathBuf),
    S3 { bucket: String, prefix: String },
}

impl StoreUrl {
    pub fn parse(url: &str) -> Result<StoreUrl, OpenError> {
        let bad = || OpenError::BadUrl { url: url.to_owned() };
        if matches!(url, "memory:" | "memory://") {
            return Ok(StoreUrl::Memory);
        }
        if let Some(folder) = url.strip_prefix("file://") {
            // `file://name` would be a host in a URL; a folder is absolute or begins with a dot.
            let named = folder.starts_with('/') || folder.starts_with("./") || folder.starts_with("../");
            return if named { Ok(StoreUrl::Local(PathBuf::from(folder))) } else { Err(bad()) };
        }
        let (bucket, prefix) = match url.strip_prefix("s3://").ok_or_else(bad)? {
            rest if rest.contains('/') => rest.split_once('/').ok_or_else(bad)?,
            rest => (rest, ""),
        };
        if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) {
            return Err(bad());
        }
        Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

/// Opens the store. A local folder is locked, swept and synced here, which blocks; S3 is not spoken to yet.
pub fn open(url: &str, options: &OpenOptions) -> Result<StoreRef, OpenError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreUrl::Local(folder) => Ok(Arc::new(LocalStore::open(&folder, Arc::clone(&options.fatal))?)),
        StoreUrl::S3 { bucket, prefix } => {
            let wrong = |reason| OpenError::S3 { url: url.to_owned(), reason };
            let mut config = S3Config::from_env(&bucket, &prefix).map_err(wrong)?;
            config.endpoint = options.s3_endpoint.clone().or(config.endpoint);
            config.region = options.s3_region.clone().or(config.region);
            config.path_style = options.s3_path_style;
            config.without_checksum = options.s3_without_checksum;
            let store = S3Store::open(config).map_err(wrong)?;
            Ok(Arc::new(store))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        for (url, expected) in [
            ("memory:", StoreUrl::Memory),
            ("file:///var/lib/alluvium", StoreUrl::Local("/var/lib/alluvium".into())),
            ("file://./alluvium-data", StoreUrl::Local("./alluvium-data".into())),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://bucket/a/b/", s3("bucket", "a/b")),
        ] {
            assert_eq!(StoreUrl::parse(url).expect(url), expected);
        }
        for bad in ["", "/dir", "file://", "file://dir", "s3://", "s3:///x", "s3://user@host/x", "gs://bucket"] {
            assert!(matches!(StoreUrl::parse(bad), Err(OpenError::BadUrl { .. })), "{bad}");
        }
    }
}
