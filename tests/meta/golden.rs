//! Golden files: what version 1 of each format looks like, for ever. `UPDATE_GOLDEN=1` writes files that are missing, and no others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alluvium::meta::entry::{Change, ConfigResource, Endpoint, Entry, TransferredPartitions};
use alluvium::meta::image::Image;
use alluvium::meta::{cluster, hash, snapshot};
use alluvium::types::{RunId, TopicId};

use crate::world::session;

pub fn golden(name: &str, actual: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/meta").join(name);
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("writes");
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every change there is, in an order in which each has an effect.
fn entries() -> Vec<Entry> {
    let endpoint = Endpoint { listener: "PLAINTEXT".to_owned(), host: "broker-1.example".to_owned(), port: 9092 };
    let random = "0000000000000abc".to_owned();
    let open = |node_id, rack: Option<&str>| Change::OpenSession {
        node_id,
        random: random.clone(),
        endpoints: vec![endpoint.clone()],
        rack: rack.map(str::to_owned),
    };
    let topic = |id, name: &str, internal| Change::CreateTopic {
        id: TopicId(id),
        name: name.to_owned(),
        partitions: 3,
        replication_factor: 1,
        configs: BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
        internal,
    };
    let alter = |resource| Change::AlterConfigs {
        resource,
        set: BTreeMap::from([("cleanup.policy".to_owned(), None), ("x.y".to_owned(), Some("ü \"1\"".to_owned()))]),
    };
    let (one, two) = (session(1, 0xabc), session(2, 0xabc));
    let big = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
    let changes = vec![
        vec![Change::SetCluster { session_ttl_ms: 10_000 }, open(1, Some("zone-a"))],
        vec![open(2, None)],
        vec![Change::Ready { session: one }, topic(big, "orders", false), topic(7, "__consumer_offsets", true)],
        vec![Change::Ready { session: two }, Change::CreatePartitions { id: TopicId(big), count: 5 }],
        vec![Change::Nop {}],
        vec![
            alter(ConfigResource::Topic(TopicId(big))),
            alter(ConfigResource::Broker(1)),
            alter(ConfigResource::Brokers),
            alter(ConfigResource::Group("readers".to_owned())),
            alter(ConfigResource::ClientMetrics("all".to_owned())),
        ],
        vec![
            Change::AdvanceLogStart { topic: TopicId(big), offsets: BTreeMap::from([(0, 42), (4, 1 << 40)]) },
            Change::AllocateProducerIds { session: one, count: 1000 },
        ],
        vec![Change::FenceSession { session: one, end: 12, ready: vec![two] }],
        vec![Change::FenceSession { session: two, end: 3, ready: vec![] }, Change::DeleteTopic { id: TopicId(7) }],
        vec![open(1, None)],
        vec![Change::Ready { session: session(10, 0xabc) }, Change::GrantVacant { ready: vec![session(10, 0xabc)] }],
    ];
    (1..)
        .zip(changes)
        .map(|(revision, changes)| Entry::new(revision, u128::from(revision) << 64 | 5, changes))
        .collect()
}

#[test]
fn entries_are_written_and_read_as_ever() {
    for entry in entries() {
        let file = golden(&format!("entry-{:02}.json", entry.revision), &entry.encode());
        assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&entry.encode()), "{entry:?}");
        assert_eq!(Entry::decode(entry.revision, &file).unwrap(), entry);
    }
}

#[test]
fn a_move_is_written_and_read_as_ever() {
    let change = Change::MoveTable { to: "postgres://db.example:5432/log".to_owned() };
    let entry = Entry::new(12, 5, vec![change]);
    let file = golden("entry-move.json", &entry.encode());
    assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&entry.encode()));
    assert_eq!(Entry::decode(12, &file).unwrap(), entry);
}

#[test]
fn a_transfer_is_written_and_read_as_ever() {
    let partitions = vec![TransferredPartitions { topic: TopicId(0xabc << 64), indexes: vec![0, 3] }];
    let change = Change::TransferLease { session: session(1, 0xabc), to: session(2, 0xabc), through: 7, partitions };
    let entry = Entry::new(12, 5, vec![change]);
    assert_eq!(entry.version, 2);
    let file = golden("entry-transfer.json", &entry.encode());
    assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&entry.encode()));
    assert_eq!(Entry::decode(12, &file).unwrap(), entry);
}

#[test]
fn entries_lead_to_the_same_image_as_ever() {
    let mut image = Image::default();
    for entry in entries() {
        image.apply(&entry).unwrap();
    }
    let file = golden("snapshot-11.json", &snapshot::encode(&image));
    assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&snapshot::encode(&image)));
    assert_eq!(snapshot::decode(11, &file).unwrap(), image);
}

/// What version 2 brought, after [`entries`].
fn merging() -> Vec<Entry> {
    let (one, ten) = (session(1, 0xabc), session(10, 0xabc));
    let claim =
        |session, from, to| Change::ClaimMerge { session, from, to, by: ten, random: format!("{:016x}", 0xdef) };
    let run = |revision| RunId { revision, random: 0xdef };
    let changes = vec![
        vec![claim(one, 0, 8)],
        vec![Change::CommitRun { claim: run(12), empty: false }, claim(ten, 0, 3)],
        vec![claim(one, 8, 12), Change::Nop {}],
        vec![Change::CommitRun { claim: run(14), empty: true }],
        vec![Change::EndClaim { claim: run(13) }],
        vec![claim(ten, 0, 5)],
    ];
    let entry = |(revision, changes)| Entry::new(revision, u128::from(revision) << 64 | 5, changes);
    (12..).zip(changes).map(entry).collect()
}

#[test]
fn entries_of_version_2_are_written_and_read_as_ever() {
    let mut image = Image::default();
    for entry in entries() {
        assert_eq!(entry.version, 1);
        image.apply(&entry).unwrap();
    }
    for entry in merging() {
        assert_eq!(entry.version, 2);
        let file = golden(&format!("entry-{:02}.json", entry.revision), &entry.encode());
        assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&entry.encode()), "{entry:?}");
        assert_eq!(Entry::decode(entry.revision, &file).unwrap(), entry);
        let older = Entry { version: 1, ..entry.clone() };
        assert!(Entry::decode(entry.revision, &older.encode()).is_err(), "version 1 has no such change");
        image.apply(&entry).unwrap();
    }
    let file = golden("snapshot-17.json", &snapshot::encode(&image));
    assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&snapshot::encode(&image)));
    assert_eq!(snapshot::decode(17, &file).unwrap(), image);
    let text = String::from_utf8(file).unwrap().replacen("\"version\":2", "\"version\":1", 1);
    assert!(snapshot::decode(17, text.as_bytes()).is_err(), "version 1 has no merges");
}

#[test]
fn the_cluster_object_is_read_as_ever() {
    let body = r#"{"version":1,"cluster_id":"ASNFZ4mrze8BI0VniavN7w","table":"bucket""#;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body.as_bytes());
    let file = golden("cluster.json", format!("{body},\"crc32c\":\"{crc:08x}\"}}").as_bytes());
    let cluster = cluster::decode(&file).unwrap();
    assert_eq!((cluster.cluster_id.as_str(), cluster.table.as_str()), ("ASNFZ4mrze8BI0VniavN7w", "bucket"));
}

#[test]
fn grants_go_to_the_same_node_as_ever() {
    for (topic, partition, node, score) in [
        (0u128, 0, 0, 0x33fe_8bd4_f9c5_7863),
        (0, 0, 1, 0x2aea_2ec8_299d_f491),
        (1, 0, 1, 0x5306_8436_cf22_5838),
        (1 << 64, 0, 1, 0x2c51_bc45_19c0_7f4f),
        (u128::MAX, i32::MAX, i32::MAX, 0x5f3d_1c59_d038_0cf9),
        (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, 5, 7, 0xedf4_00e4_f7af_7a02),
        (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, 7, 5, 0x386b_7dbe_adaf_a53f),
    ] {
        assert_eq!(hash::score(TopicId(topic), partition, node), score, "{topic} {partition} {node}");
    }
}
