//! What a handler knows besides the request's body, and what it may ask the rest of the broker.

use kafka_protocol::protocol::StrBytes;

use crate::types::TopicId;

/// The request's frame and connection.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    pub api_version: i16,
    pub client_id: Option<String>,
    /// The peer's address as text, without the port.
    pub client_host: String,
}

impl RequestContext {
    /// Kafka shows addresses as Java prints them, with a slash in front.
    pub fn kafka_host(&self) -> String {
        if self.client_host.starts_with('/') { self.client_host.clone() } else { format!("/{}", self.client_host) }
    }
}

/// Which topics there are.
pub trait TopicLookup: Send + Sync {
    /// Id and number of partitions.
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)>;

    /// Name and number of partitions.
    fn by_id(&self, id: TopicId) -> Option<(String, i32)>;
}

/// Which broker coordinates a group.
pub trait CoordinatorLocator: Send + Sync {
    /// Node id, host and port; `None` while nobody holds the group's partition.
    fn locate(&self, group: &str) -> Option<(i32, String, u16)>;
}

/// A copy of a request's string: slices would keep the whole frame in memory.
pub(super) fn text(string: &StrBytes) -> String {
    string.as_str().to_owned()
}

pub(super) fn optional_text(string: &Option<StrBytes>) -> Option<String> {
    string.as_ref().map(text)
}
