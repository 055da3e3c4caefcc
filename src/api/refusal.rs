//! A Kafka error with its sentence, and changes of the metadata that end in one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;

use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::meta::{MetaError, Metadata, ProposeError};

/// One proposal of a long request takes about this many bytes of JSON at most; an entry may have twice as many.
pub const PROPOSAL_BYTES: usize = 128 * 1024;

/// Kafka's sentence for INVALID_REQUEST.
pub const INVALID_REQUEST: &str = "This most likely occurs because of a request being malformed by the client library or the \
     message was sent to an incompatible broker. See the broker logs for more details.";

/// What a client is told instead of success.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub error: ResponseError,
    /// `None`: the client prints its own sentence for the error.
    pub message: Option<String>,
}

impl Refusal {
    pub fn new(error: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal { error, message: Some(message.into()) }
    }

    pub fn plain(error: ResponseError) -> Refusal {
        Refusal { error, message: None }
    }

    /// With the sentence that Kafka itself sends along with a bare error (`Errors.message`), where clients print it.
    pub fn standard(error: ResponseError) -> Refusal {
        let message = match error {
            ResponseError::UnknownTopicOrPartition => "This server does not host this topic-partition.",
            ResponseError::UnknownTopicId => "This server does not host this topic ID.",
            ResponseError::ElectionNotNeeded => "Leader election not needed for topic partition.",
            ResponseError::InvalidRequest => INVALID_REQUEST,
            _ => return Refusal::plain(error),
        };
        Refusal::new(error, message)
    }

    pub fn code(&self) -> i16 {
        self.error.code()
    }

    pub fn text(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }
}

impl From<ProposeError<Infallible>> for Refusal {
    fn from(error: ProposeError<Infallible>) -> Self {
        let kind = match &error {
            ProposeError::Refused(never) => match *never {},
            // The decision has checked the same rules in Kafka's words before.
            ProposeError::Rule(_) => ResponseError::UnknownServerError,
            ProposeError::TooLarge { .. } => ResponseError::PolicyViolation,
            // Retriable; a client that asks again finds what has become of its change.
            ProposeError::Meta(_) => ResponseError::RequestTimedOut,
        };
        Refusal::new(kind, error.to_string())
    }
}

/// Lets `decide` make changes and an answer of the newest image, until the changes are in the table. Returns the answer that belongs
/// to them.
pub async fn decide<T, F>(meta: &Metadata, mut decide: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnMut(&Image) -> (Vec<Change>, T) + Send + 'static,
{
    let answer = Arc::new(Mutex::new(None));
    let last = answer.clone();
    meta.propose(move |image| {
        let (changes, answer) = decide(image);
        *last.lock() = Some(answer);
        Ok::<_, Infallible>(changes)
    })
    .await?;
    let answer = answer.lock().take();
    answer.ok_or_else(|| ProposeError::Meta(MetaError::OutcomeUnknown("no decision was made".to_owned())).into())
}

/// As [`decide`], but no longer than a request's `timeout_ms` (0 and below: the table's own limit).
pub async fn decide_within<T, F>(meta: &Metadata, timeout_ms: i32, decision: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnMut(&Image) -> (Vec<Change>, T) + Send + 'static,
{
    let Some(limit) = u64::try_from(timeout_ms).ok().filter(|limit| *limit > 0) else {
        return decide(meta, decision).await;
    };
    match tokio::time::timeout(Duration::from_millis(limit), decide(meta, decision)).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::plain(ResponseError::RequestTimedOut)),
    }
}

/// Bytes that a text takes in an entry, quoted and escaped.
pub fn json_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 4
}

/// Cuts a long request into runs of items whose sizes together stay below [`PROPOSAL_BYTES`]; an item above it stands alone.
pub fn runs<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut filled = PROPOSAL_BYTES;
    for item in items {
        let bytes = size(&item);
        if filled + bytes > PROPOSAL_BYTES {
            runs.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(run) = runs.last_mut() {
            run.push(item);
        }
    }
    runs
}

pub fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(string(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_are_cut() {
        let sizes = vec![PROPOSAL_BYTES, 1, PROPOSAL_BYTES - 1, 1, PROPOSAL_BYTES * 2, 5];
        let cut = runs(sizes, |size| *size);
        assert_eq!(
            cut,
            [vec![PROPOSAL_BYTES], vec![1, PROPOSAL_BYTES - 1], vec![1], vec![PROPOSAL_BYTES * 2], vec![5]]
        );
        assert_eq!(runs(Vec::<usize>::new(), |size| *size), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn sizes_are_no_less_than_json() {
        for text in ["", "plain", "quo\"te\\", "\u{1}\n", "äöü"] {
            assert!(json_bytes(text) >= serde_json::to_string(text).expect("a string is JSON").len(), "{text}");
        }
    }
}
