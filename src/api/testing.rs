//! A cluster of one broker on a table in memory, for the tests of the handlers.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio_util::sync::CancellationToken;

use super::context::RequestContext;
use super::dispatch::Request;
use super::ports::{AdminServices, LogView, NodeInfo, ProducerRow};
use super::unread::{Passed, Unread};
use crate::config::KafkaSettings;
use crate::log::append::budget::Budget;
use crate::meta::entry::{Change, Endpoint};
use crate::meta::image::Image;
use crate::meta::table::memory::MemoryTable;
use crate::meta::{MetaOptions, Metadata, ProposeError};
use crate::store::StoreRef;
use crate::store::memory::MemoryStore;
use crate::types::env::testing;
use crate::types::{Offset, PartitionId, SessionId};

/// Every partition ends at 10 and has one producer.
struct FixedLog;

impl LogView for FixedLog {
    fn log_start(&self, _partition: PartitionId) -> Option<Offset> {
        Some(0)
    }

    fn high_watermark(&self, _partition: PartitionId) -> Option<Offset> {
        Some(10)
    }

    fn size_bytes(&self, partition: PartitionId) -> u64 {
        100 + u64::from(partition.index.unsigned_abs())
    }

    fn advance_log_start(&self, _partition: PartitionId, _log_start: Offset) {}

    fn producers(&self, _partition: PartitionId) -> Option<Vec<ProducerRow>> {
        Some(vec![ProducerRow {
            producer_id: 7,
            epoch: 1,
            last_sequence: 4,
            last_timestamp: 1_000,
            coordinator_epoch: -1,
            current_txn_start_offset: -1,
        }])
    }
}

pub struct Cluster {
    pub store: StoreRef,
    pub table: Arc<MemoryTable>,
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster { store: Arc::new(MemoryStore::new()), table: Arc::new(MemoryTable::new()) }
    }

    /// Starts broker 1 anew, with a ready session.
    pub async fn broker(&self, random: u64, kafka: KafkaSettings) -> AdminServices {
        let env = testing::env(random);
        let options = MetaOptions::default();
        let meta = Metadata::open(self.store.clone(), self.table.clone(), env.clone(), options).await.unwrap();
        let endpoint = Endpoint { listener: "PLAINTEXT".to_owned(), host: "broker-1".to_owned(), port: 9092 };
        let open = Change::OpenSession {
            node_id: 1,
            random: format!("{random:016x}"),
            endpoints: vec![endpoint.clone()],
            rack: Some("rack-a".to_owned()),
        };
        let revision = propose(&meta, vec![open]).await;
        let session = SessionId { revision, random };
        propose(&meta, vec![Change::Ready { session }]).await;
        let node =
            NodeInfo { node_id: 1, session, endpoint, rack: Some("rack-a".to_owned()), store: "memory:".to_owned() };
        AdminServices::new(meta, Arc::new(FixedLog), node, kafka, env)
    }
}

async fn propose(meta: &Metadata, changes: Vec<Change>) -> u64 {
    let result: Result<u64, ProposeError<()>> = meta.propose(move |_: &Image| Ok(changes.clone())).await;
    result.unwrap()
}

pub async fn one_broker() -> AdminServices {
    Cluster::new().broker(1, KafkaSettings::default()).await
}

pub fn at_version(api_version: i16) -> RequestContext {
    RequestContext { api_version, client_id: None, client_host: "127.0.0.1".to_owned() }
}

/// A frame of so many bytes, which are charged to `frames`.
pub async fn request(frames: &Budget, bytes: usize) -> Request {
    Request {
        frame: Bytes::from(vec![0; bytes]),
        charge: Arc::new(frames.charge(bytes).await),
        client_host: Arc::from("127.0.0.1"),
        gone: CancellationToken::new(),
    }
}

/// What a request holds that is small.
pub async fn passed() -> Passed {
    Unread::new(0).pass(ApiKey::JoinGroup, request(&Budget::new(1), 1).await).await
}
