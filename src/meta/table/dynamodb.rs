//! The table in DynamoDB: one item per revision, partition key `cluster` (the cluster's id), sort key `revision`, and the entry's
//! JSON as the string `body`, so that a person can read it in the console. Several clusters may share one DynamoDB table.
//!
//! An append is one PutItem under `attribute_not_exists`; the SDK's own retries are off, since a repeated conditional put meets
//! itself and calls it somebody else's. A read is one strongly consistent Query from a revision on, of at most a page (1 MiB).
//! No item ever expires by itself: a time to live would let names come free again behind the markers' back.
//!
//! What an answer proves: only DynamoDB's plain yes is `Appended`, only a failed condition is `Taken`. Throttling, time-outs,
//! resets and 5xx are `Unknown`; denied access and a missing table are refusals.
//!
//! An idle broker makes one Query every two seconds, one read unit each: see `tests/meta/requests.rs` for what that costs.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use bytes::Bytes;

use super::{Append, Chunk, Table, TableError};
use crate::store::s3::AwsAccess;
use crate::types::Revision;

mod setup;

const CLUSTER: &str = "cluster";
const REVISION: &str = "revision";
const BODY: &str = "body";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Deletes in one BatchWriteItem, and how often what it left over is sent again.
const DELETES_AT_ONCE: usize = 25;
const LEFTOVER_ROUNDS: usize = 5;
const LEFTOVER_PAUSE: Duration = Duration::from_millis(100);

/// How to reach DynamoDB.
#[derive(Clone, Debug, Default)]
pub struct DynamodbOptions {
    pub table: String,
    /// Otherwise `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL`, then AWS itself.
    pub endpoint: Option<String>,
    /// Otherwise the environment's, as for S3.
    pub region: Option<String>,
}

/// A client and the name of the table in it.
#[derive(Clone, Debug)]
pub struct Dynamodb {
    client: Client,
    table: String,
    region: String,
}

impl Dynamodb {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with the AWS profile, if the keys must come from there.
    pub fn new(options: DynamodbOptions) -> Result<Dynamodb, String> {
        let access = AwsAccess::from_env(options.region.as_deref())?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint =
            options.endpoint.or_else(|| variable("AWS_ENDPOINT_URL_DYNAMODB")).or_else(|| variable("AWS_ENDPOINT_URL"));
        let region = access.region.clone();
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(ATTEMPT_TIMEOUT).build();
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(Keys(access))
            // The provider remembers its keys itself, and renews them in time.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Dynamodb { client: Client::from_conf(config.build()), table: options.table, region })
    }

    /// The revisions of one cluster.
    pub fn cluster(&self, cluster: &str) -> DynamodbTable {
        DynamodbTable { server: self.clone(), cluster: cluster.to_owned(), name: format!("dynamodb://{}", self.table) }
    }

    fn refusal<E>(&self, error: &SdkError<E>) -> TableError
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match judge(error) {
            Answer::Refused(reason) => TableError::Permanent(format!("DynamoDB table {}: {reason}", self.table)),
            Answer::ConditionFailed => TableError::Unavailable("a condition failed".to_owned()),
            Answer::Unclear(reason) => TableError::Unavailable(format!("DynamoDB table {}: {reason}", self.table)),
        }
    }
}

/// Gives the SDK the keys that the S3 adapter would use.
#[derive(Debug)]
struct Keys(AwsAccess);

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let keys = self.0.keys().await.map_err(CredentialsError::provider_error)?;
            Ok(Credentials::new(keys.id, keys.secret, keys.token, None, "alluvium"))
        })
    }
}

/// What a failed request proves.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    ConditionFailed,
    /// Said no for good; it did not happen.
    Refused(String),
    /// It may have happened, or was put off.
    Unclear(String),
}

fn judge<E>(error: &SdkError<E>) -> Answer
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let said = context.err();
            judge_code(said.code().unwrap_or_default(), said.message().unwrap_or_default())
        }
        SdkError::TimeoutError(_) => Answer::Unclear(format!("no answer within {ATTEMPT_TIMEOUT:?}")),
        other => Answer::Unclear(root_cause(other)),
    }
}

/// By DynamoDB's name of the error. What is not in the table may have happened.
fn judge_code(code: &str, message: &str) -> Answer {
    let said = if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") };
    let advised = |advice: &str| Answer::Refused(format!("{said}; {advice}"));
    match code {
        "ConditionalCheckFailedException" => Answer::ConditionFailed,
        "ResourceNotFoundException" => advised("the table is not there, or not in this region or account"),
        "AccessDeniedException" => advised(
            "the credentials need dynamodb:DescribeTable, PutItem, Query and BatchWriteItem on it (and CreateTable to make it)",
        ),
        "ExpiredTokenException" | "ExpiredToken" => advised("the credentials have expired: renew them"),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId" => advised("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"),
        "ValidationException" | "SerializationException" => {
            advised("the table needs a partition key `cluster` (S) and a sort key `revision` (N)")
        }
        _ => Answer::Unclear(said),
    }
}

/// The innermost error, which says what is wrong ("connection refused"); those around it do not repeat it.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The revisions of one cluster in a DynamoDB table.
pub struct DynamodbTable {
    server: Dynamodb,
    cluster: String,
    name: String,
}

type Item = HashMap<String, AttributeValue>;

impl DynamodbTable {
    fn key(&self, revision: Revision) -> Item {
        HashMap::from([
            (CLUSTER.to_owned(), AttributeValue::S(self.cluster.clone())),
            (REVISION.to_owned(), AttributeValue::N(revision.to_string())),
        ])
    }

    /// One page of items `from..=to` in order, and whether more may follow within the range.
    async fn page(
        &self,
        from: Revision,
        to: Revision,
        limit: usize,
        keys_only: bool,
    ) -> Result<(Vec<Item>, bool), TableError> {
        let Dynamodb { client, table, .. } = &self.server;
        let mut query = client
            .query()
            .table_name(table)
            .consistent_read(true)
            .key_condition_expression("#c = :c and #r between :from and :to")
            .expression_attribute_names("#c", CLUSTER)
            .expression_attribute_names("#r", REVISION)
            .expression_attribute_values(":c", AttributeValue::S(self.cluster.clone()))
            .expression_attribute_values(":from", AttributeValue::N(from.to_string()))
            .expression_attribute_values(":to", AttributeValue::N(to.to_string()))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        if keys_only {
            query = query.projection_expression("#r");
        }
        let page = query.send().await.map_err(|error| self.server.refusal(&error))?;
        let more = page.last_evaluated_key.is_some_and(|key| !key.is_empty());
        Ok((page.items.unwrap_or_default(), more))
    }

    async fn delete(&self, revisions: &[Revision]) -> Result<(), TableError> {
        let Dynamodb { client, table, .. } = &self.server;
        let delete = |revision: &Revision| {
            let request = DeleteRequest::builder().set_key(Some(self.key(*revision))).build();
            request.map(|request| WriteRequest::builder().delete_request(request).build())
        };
        let requests: Result<Vec<WriteRequest>, _> = revisions.iter().map(delete).collect();
        let mut left = requests.map_err(|error| TableError::Permanent(error.to_string()))?;
        for _ in 0..LEFTOVER_ROUNDS {
            let batch = client.batch_write_item().request_items(table, left);
            let answer = batch.send().await.map_err(|error| self.server.refusal(&error))?;
            left = answer.unprocessed_items.unwrap_or_default().remove(table).unwrap_or_default();
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LEFTOVER_PAUSE).await;
        }
        Err(TableError::Unavailable(format!("DynamoDB table {table}: {} deletes were put off", left.len())))
    }
}

fn revision_of(item: &Item) -> Option<Revision> {
    item.get(REVISION)?.as_n().ok()?.parse().ok()
}

fn body_of(item: &Item) -> Option<Bytes> {
    match item.get(BODY)? {
        AttributeValue::S(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        AttributeValue::B(blob) => Some(Bytes::copy_from_slice(blob.as_ref())),
        _ => None,
    }
}

#[async_trait]
impl Table for DynamodbTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        let Dynamodb { client, table, .. } = &self.server;
        let body = match std::str::from_utf8(&body) {
            Ok(text) => AttributeValue::S(text.to_owned()),
            Err(_) => AttributeValue::B(Blob::new(body)),
        };
        let put = client
            .put_item()
            .table_name(table)
            .set_item(Some(self.key(revision)))
            .item(BODY, body)
            .condition_expression("attribute_not_exists(#r)")
            .expression_attribute_names("#r", REVISION);
        match put.send().await {
            Ok(_) => Ok(Append::Appended),
            Err(error) => match judge(&error) {
                Answer::ConditionFailed => Ok(Append::Taken),
                Answer::Refused(reason) => Err(TableError::Permanent(format!("DynamoDB table {table}: {reason}"))),
                Answer::Unclear(reason) => Ok(Append::Unknown { reason }),
            },
        }
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        let (items, more) = self.page(from, Revision::MAX, limit, false).await?;
        let mut chunk = Chunk::default();
        for (expected, item) in (from..).zip(&items) {
            if revision_of(item) != Some(expected) {
                return Ok(Chunk { end: true, gap: true, ..chunk });
            }
            let damaged = || TableError::Permanent(format!("{}: revision {expected} has no `{BODY}`", self.name));
            chunk.bodies.push(body_of(item).ok_or_else(damaged)?);
        }
        Ok(Chunk { end: !more, ..chunk })
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        let (items, _) = self.page(from, Revision::MAX, 1, true).await?;
        Ok(items.first().and_then(revision_of))
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        loop {
            let (items, more) = self.page(1, last, 1000, true).await?;
            let doomed: Vec<Revision> = items.iter().filter_map(revision_of).collect();
            for batch in doomed.chunks(DELETES_AT_ONCE) {
                self.delete(batch).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_proves_what_it_should() {
        assert_eq!(judge_code("ConditionalCheckFailedException", "x"), Answer::ConditionFailed);
        for code in ["ResourceNotFoundException", "AccessDeniedException", "UnrecognizedClientException"] {
            assert!(matches!(judge_code(code, ""), Answer::Refused(_)), "{code}");
        }
        for code in [
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "RequestLimitExceeded",
            "InternalServerError",
            "TransactionConflictException",
            "",
        ] {
            assert!(matches!(judge_code(code, ""), Answer::Unclear(_)), "{code}");
        }
    }
}
