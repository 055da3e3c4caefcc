//! Valid pieces that seeds and mutations are made of.

use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::codec::Codec;
use alluvium::wire::table::API_TABLE;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

/// When the records were made; the broker of the targets begins at the same time.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// API and version as the targets choose them.
pub fn head(key: ApiKey, version: i16) -> [u8; 2] {
    let row = API_TABLE.iter().position(|row| row.key == key).expect("it is served");
    let version = version - API_TABLE[row].min;
    [u8::try_from(row).expect("few APIs"), u8::try_from(version).expect("few versions")]
}

/// A piece of the `connection` target.
pub fn piece<T: Encodable>(key: ApiKey, version: i16, request: &T) -> Vec<u8> {
    let mut out = vec![0];
    out.extend(head(key, version));
    request.encode(&mut out, version).expect("it fits its version");
    out
}

/// The piece that makes topic `t`, and `z` that compresses anew.
pub fn create_topics() -> Vec<u8> {
    let name = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
    let topic = CreatableTopic::default().with_name(name("t")).with_num_partitions(2).with_replication_factor(1);
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("compression.type"))
        .with_value(Some(StrBytes::from_static_str("zstd")));
    let recompressing = topic.clone().with_name(name("z")).with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic, recompressing]).with_timeout_ms(1000);
    piece(ApiKey::CreateTopics, 7, &request)
}

/// Three records, of a producer or of none (-1, -1, -1).
pub fn batch(codec: Codec, (producer_id, producer_epoch, base_sequence): (i64, i16, i32)) -> Bytes {
    let options = BatchOptions { codec, producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for at in 0..3 {
        let record = NewRecord {
            offset_delta: at,
            timestamp: NOW_MS + i64::from(at),
            key: (at != 1).then_some(b"key"),
            value: (at != 2).then_some(b"value value value"),
            headers: &[(b"h", Some(b"1")), (b"", None)],
        };
        builder.push(record).expect("fits");
    }
    builder.build().expect("builds")
}
