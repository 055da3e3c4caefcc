//! Objects in an S3 bucket, by way of `object_store`.
//!
//! One call is one HTTP request with one time limit: the client's inner retries are off, since a retried conditional PUT meets
//! its own write and calls it somebody else's. No redirect is followed ([`client`]). The status of the answer, which the client
//! hides, is noted on its way through [`http`], and [`verdict`] says what it proves.
//!
//! Payloads are not signed (hashing costs more CPU than everything else together) but carry a CRC-64 that the store checks.

mod blocks;
mod client;
mod credentials;
mod http;
pub mod profile;
mod verdict;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, PutMode, PutOptions, PutPayload, RetryConfig,
};

use self::blocks::BlockBuffers;
use self::client::bucket_client;
pub use self::credentials::AwsAccess;
use self::http::{NotingConnector, noted, root_cause};
use self::profile::Keys;
use self::verdict::{Intent, verdict};
use super::key::check_key;
use super::{ListedObject, ReadBlocks, ReadBytes, ReadRange, Store, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const DEFAULT_REGION: &str = "us-east-1";
/// S3 gives so many names a page.
const PAGE_NAMES: usize = 1000;

/// Where the bucket is and how to get in. [`S3Config::from_env`] reads the usual AWS variables and files.
#[derive(Clone, Default)]
pub struct S3Config {
    pub bucket: String,
    /// Put before every key; "" or without slashes at its ends.
    pub prefix: String,
    /// `http://host:port` of another server than Amazon's; then the bucket is named in the path.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Whether the bucket is named in the path rather than in the host; `None`: with an endpoint it is.
    pub path_style: Option<bool>,
    /// For servers that refuse the CRC-64 header.
    pub without_checksum: bool,
    /// Otherwise the environment's.
    pub credentials: Option<Keys>,
    /// An attempt may take this long, and a second more for each MiB it moves; default 10 s.
    pub attempt_timeout: Option<Duration>,
}

impl S3Config {
    /// Endpoint and region from `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`, then from the
    /// profile; keys from the profile where no variable says where they are.
    ///
    /// # Errors
    /// What is wrong with the profile, if the keys must come from there.
    pub fn from_env(bucket: &str, prefix: &str) -> Result<S3Config, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_set = |name: &str| variable(name).is_some();
        let in_container =
            is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let elsewhere = is_set("AWS_ACCESS_KEY_ID")
            || is_set("AWS_WEB_IDENTITY_TOKEN_FILE")
            || in_container && !is_set("AWS_PROFILE");
        let profile = profile::load(&variable, !elsewhere).map_err(|error| error.to_string())?;
        Ok(S3Config {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")).or(profile.endpoint),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).or(profile.region),
            credentials: profile.keys.filter(|_| !elsewhere),
            ..S3Config::default()
        })
    }
}

/// What the AWS variables say of credentials and encryption. Empty ones count as unset, as compose files leave them; those that would
/// change what the adapter relies on (signatures, conditions, endpoint) are not taken from here.
fn credentials_from_env(explicit: bool) -> AmazonS3Builder {
    use object_store::aws::AmazonS3ConfigKey as Key;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if !name.starts_with("AWS_") || value.is_empty() {
            continue;
        }
        let Ok(key) = name.to_ascii_lowercase().parse::<Key>() else { continue };
        let wanted = match key {
            Key::AccessKeyId
            | Key::SecretAccessKey
            | Key::Token
            | Key::WebIdentityTokenFile
            | Key::RoleArn
            | Key::RoleSessionName
            | Key::StsEndpoint
            | Key::ContainerCredentialsRelativeUri
            | Key::ContainerCredentialsFullUri
            | Key::ContainerAuthorizationTokenFile
            | Key::MetadataEndpoint
            | Key::ImdsV1Fallback => !explicit,
            Key::Encryption(_) | Key::RequestPayer => true,
            _ => false,
        };
        if wanted {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

pub struct S3Store {
    client: AmazonS3,
    config: S3Config,
}

impl S3Store {
    /// Makes the client; nothing is sent yet. Credentials come from the config (which has them from the AWS files), the AWS
    /// variables, a web identity, the container or the instance, in this order. Fails with what is wrong in the configuration.
    pub fn open(config: S3Config) -> Result<S3Store, String> {
        if !config.prefix.is_empty() {
            check_key(&config.prefix).map_err(|error| error.to_string())?;
        }
        let bucket = bucket_client(CONNECT_TIMEOUT, POOL_IDLE_TIMEOUT)
            .map_err(|error| format!("no HTTP client: {}", root_cause(&error)))?;
        // Of the client that asks for credentials.
        let options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .with_allow_http(true);
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::from_secs(1) };
        let mut builder = credentials_from_env(config.credentials.is_some())
            .with_client_options(options)
            .with_bucket_name(&config.bucket)
            .with_region(config.region.as_deref().unwrap_or(DEFAULT_REGION))
            // A dot in the bucket's name does not fit the certificate of `*.s3.amazonaws.com`.
            .with_virtual_hosted_style_request(
                !config.path_style.unwrap_or(config.endpoint.is_some() || config.bucket.contains('.')),
            )
            .with_unsigned_payload(true)
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(NotingConnector::new(bucket));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(keys) = &config.credentials {
            builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
            if let Some(token) = &keys.token {
                builder = builder.with_token(token);
            }
        }
        if !config.without_checksum {
            builder = builder.with_checksum_algorithm(Checksum::CRC64NVME);
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(S3Store { client, config })
    }

    fn name(&self, key: &str) -> String {
        if self.config.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.config.prefix) }
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        check_key(key)?;
        Path::parse(self.name(key)).map_err(|error| StoreError::permanent(key, error))
    }

    /// Runs one request within its time limit and judges how it ended.
    async fn attempt<T>(
        &self,
        key: &str,
        intent: Intent,
        moved_bytes: usize,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, StoreError> {
        let limit =
            self.config.attempt_timeout.unwrap_or(ATTEMPT_TIMEOUT) + Duration::from_secs((moved_bytes >> 20) as u64);
        let (result, note) = noted(tokio::time::timeout(limit, request)).await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(verdict(key, intent, &note, &error.to_string())),
            Err(_) => Err(StoreError::maybe(key, format!("no answer within {limit:?}"))),
        }
    }

    /// The bytes are copied once, from where the connection left them to where they are kept.
    async fn blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        let path = self.path(key)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let request = async {
            let result = self.client.get_opts(&path, options).await?;
            let object_size = result.meta.size;
            let mut blocks = BlockBuffers::new(length);
            let mut stream = result.into_stream();
            while let Some(bytes) = stream.next().await {
                blocks.put(&bytes?);
            }
            Ok(ReadBlocks { blocks: blocks.finish(), object_size })
        };
        self.attempt(key, Intent::Read, length, request).await
    }

    async fn read_range(&self, key: &str, range: &ReadRange) -> Result<ReadBytes, StoreError> {
        let path = self.path(key)?;
        let (get_range, bytes) = match range {
            ReadRange::Full => (None, 64 << 20),
            ReadRange::Range(range) => (Some(GetRange::Bounded(range.clone())), range.end.saturating_sub(range.start)),
            ReadRange::Suffix(length) => (Some(GetRange::Suffix(*length)), *length),
        };
        let options = GetOptions { range: get_range, ..GetOptions::default() };
        let request = async {
            let result = self.client.get_opts(&path, options).await?;
            let (start, object_size) = (result.range.start, result.meta.size);
            let bytes = result.bytes().await?;
            Ok(ReadBytes { bytes, start, object_size })
        };
        self.attempt(key, Intent::Read, usize::try_from(bytes).unwrap_or(usize::MAX), request).await
    }

    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        delimiter: Option<&'static str>,
        max_keys: usize,
        page_token: Option<String>,
    ) -> Result<PaginatedListResult, StoreError> {
        let options = PaginatedListOptions {
            offset: after.filter(|_| page_token.is_none()).map(|after| self.name(after)),
            delimiter: delimiter.map(Into::into),
            max_keys: Some(max_keys),
            page_token,
            ..PaginatedListOptions::default()
        };
        let name = self.name(prefix);
        let request = self.client.list_paginated(Some(&name), options);
        self.attempt(prefix, Intent::List, 0, request).await
    }

    fn without_prefix<'a>(&self, path: &'a Path) -> &'a str {
        let name: &str = path.as_ref();
        if self.config.prefix.is_empty() { name } else { name.get(self.config.prefix.len() + 1..).unwrap_or("") }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let moved_bytes = body.len();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let request = self.client.put_opts(&path, PutPayload::from_bytes(body), options);
        self.attempt(key, Intent::Create, moved_bytes, request).await.map(drop)
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        match self.read_range(key, &range).await {
            // The suffix of an empty object is "not satisfiable" for some servers.
            Err(StoreError::Permanent { .. }) if matches!(range, ReadRange::Suffix(length) if length > 0) => {
                self.read_range(key, &ReadRange::Full).await
            }
            result => result,
        }
    }

    async fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        self.blocks(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let request = async {
            let paths = futures::stream::once(async { Ok(path) }).boxed();
            let mut deleted = self.client.delete_stream(paths);
            while let Some(result) = deleted.next().await {
                result?;
            }
            Ok(())
        };
        match self.attempt(key, Intent::Delete, 0, request).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        let mut objects = Vec::new();
        let mut page_token = None;
        while objects.len() < limit {
            let wanted = (limit - objects.len()).min(PAGE_NAMES);
            let page = self.page(prefix, after, None, wanted, page_token).await?;
            objects.extend(page.result.objects.iter().map(|object| ListedObject {
                key: self.without_prefix(&object.location).to_owned(),
                size: object.size,
            }));
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        // A page may hold more than was asked for on some servers, and out of order on others.
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        objects.retain(|object| after.is_none_or(|after| object.key.as_str() > after));
        objects.truncate(limit);
        Ok(objects)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut folders = Vec::new();
        let mut page_token = None;
        loop {
            let page = self.page(prefix, None, Some("/"), PAGE_NAMES, page_token).await?;
            folders.extend(page.result.common_prefixes.iter().map(|path| {
                let name = self.without_prefix(path);
                name.get(prefix.len()..).unwrap_or(name).to_owned()
            }));
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    fn describe(&self) -> String {
        format!("s3://{}", [self.config.bucket.as_str(), &self.config.prefix].join("/").trim_end_matches('/'))
    }

    fn endpoint(&self) -> String {
        let S3Config { endpoint, region, bucket, prefix, .. } = &self.config;
        let server = match (endpoint, region) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/').to_owned(),
            (None, region) => format!("s3.{}.amazonaws.com", region.as_deref().unwrap_or(DEFAULT_REGION)),
        };
        [server.as_str(), bucket, prefix].join("/").trim_end_matches('/').to_owned()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
