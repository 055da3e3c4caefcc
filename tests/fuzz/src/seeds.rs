//! Writes the first files of the corpus, out of golden files and valid messages: `cargo run --bin seeds -- FOLDER`. What fuzzing finds
//! beyond them is kept by `./run --keep`.

use std::path::{Path, PathBuf};

use alluvium::segment::{BatchMeta, ControlMeta, ExtentDraft, SegmentDraft, TRAILER_BYTES, build};
use alluvium::types::{PartitionId, SessionId, TopicId};
use alluvium::wire::batch::HEADER_BYTES;
use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::codec::{Codec, compress};
use alluvium::wire::link::{Answer, Ask, encode_answer, encode_ask};
use alluvium::wire::table::{API_TABLE, ApiRow};
use alluvium_fuzz::connection::FRAMED;
use alluvium_fuzz::messages::{Gen, random_body};
use alluvium_fuzz::samples::{NOW_MS, batch, create_topics, head, piece};
use alluvium_fuzz::{inspect, mutate, pieces};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

// Not a target: the instrumented crates want libFuzzer at linking, and libFuzzer wants one.
libfuzzer_sys::fuzz_target!(|_data: &[u8]| {});

struct Out(PathBuf);

impl Out {
    fn put(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), bytes).expect("a file");
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder to write into");
    let out = Out(PathBuf::from(folder));
    requests(&out);
    connections(&out);
    batches(&out);
    codecs(&out);
    segments(&out);
    runs(&out);
    extremes(&out);
    metadata(&out);
    extreme_entries(&out);
    settings(&out);
    offsets(&out);
    links(&out);
}

/// Also to a whole broker, as a frame.
fn links(out: &Out) {
    let session = SessionId { revision: 3, random: 4 };
    for (name, number) in [("small", 1), ("large", u64::MAX)] {
        let ask = encode_ask(7, Ask { revision: number });
        let (committed, nonce, age_ms, revision) = (number, number, number, number);
        let answer = encode_answer(7, &Answer { session, committed, nonce, age_ms, revision });
        out.put("links", &format!("ask-{name}"), &ask[4..]);
        out.put("links", &format!("answer-{name}"), &answer[4..]);
        out.put("connection", &format!("ask-{name}"), [&[0, FRAMED], &ask[4..]].concat());
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn random(row: &ApiRow, version: i16, seed: u64) -> Vec<u8> {
    let body = random_body(row.key, &mut Gen::new(seed, version, row.is_flexible(version)));
    [&head(row.key, version)[..], &body].concat()
}

fn requests(out: &Out) {
    for row in API_TABLE {
        for version in row.min..=row.max {
            for seed in 0..2 {
                out.put("requests", &format!("{}-{version}-{seed}", row.name), random(row, version, seed));
            }
        }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn connections(out: &Out) {
    for row in API_TABLE {
        for version in [row.min, row.max] {
            let pieces = [
                [vec![0], random(row, version, 3)].concat(),
                piece(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()),
            ];
            out.put("connection", &format!("{}-{version}", row.name), [&[0x80], &pieces::join(&pieces)[..]].concat());
        }
    }
    let create = create_topics();
    let stored = piece(ApiKey::Produce, 11, &produce("t", batch(Codec::Lz4, (0, 0, 0))));
    for row in API_TABLE {
        for version in row.min..=row.max {
            let familiar = (0..4).map(|seed| mutate::familiar(row, version, seed));
            let all: Vec<_> = [create.clone(), stored.clone()].into_iter().chain(familiar).collect();
            out.put(
                "connection",
                &format!("{}-{version}-familiar", row.name),
                [&[0x80], &pieces::join(&all)[..]].concat(),
            );
        }
    }
    let init = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let init = piece(ApiKey::InitProducerId, 4, &init);
    for (at, codec) in Codec::ALL.into_iter().enumerate() {
        let plain = batch(codec, (-1, -1, -1));
        let idempotent = batch(codec, (0, 0, 0));
        let mut all = vec![create.clone(), init.clone()];
        for topic in ["t", "z", "auto"] {
            all.push(piece(ApiKey::Produce, 11, &produce(topic, plain.clone())));
            all.push(piece(ApiKey::Produce, 9, &produce(topic, idempotent.clone())));
            all.push(piece(ApiKey::ListOffsets, 8, &list_offsets(topic)));
            all.push(piece(ApiKey::Fetch, 12, &fetch(topic)));
        }
        all.push(piece(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(None)));
        out.put("connection", &format!("records-{at}"), [&[0x80], &pieces::join(&all)[..]].concat());
    }
    out.put("connection", "group", [&[0x80], &pieces::join(&group(create))[..]].concat());
    let frame = [&[6u8][..], &[0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 1]].concat();
    let raw = [7, 0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0, 0, 0xee].to_vec();
    out.put("connection", "framed", [&[0], &pieces::join(&[raw.clone(), frame, raw])[..]].concat());
}

fn produce(topic: &str, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn fetch(topic: &str) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_max_wait_ms(100).with_min_bytes(1).with_max_bytes(1 << 20).with_topics(vec![topic])
}

fn list_offsets(topic: &str) -> ListOffsetsRequest {
    let at = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![at(-3), at(NOW_MS)]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn group(create: Vec<u8>) -> Vec<Vec<u8>> {
    let id = || GroupId(text("g"));
    let subscription = Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 0]);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription);
    let join = JoinGroupRequest::default()
        .with_group_id(id())
        .with_session_timeout_ms(6000)
        .with_rebalance_timeout_ms(6000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let fixed = join.clone().with_group_instance_id(Some(text("i")));
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(5).with_committed_metadata(Some(text("m")));
    let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(id())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let fetch_offsets = OffsetFetchRequest::default().with_group_id(id()).with_topics(None);
    vec![
        create,
        piece(ApiKey::FindCoordinator, 3, &FindCoordinatorRequest::default().with_key(text("g"))),
        piece(ApiKey::OffsetCommit, 8, &commit),
        piece(ApiKey::JoinGroup, 3, &join),
        piece(ApiKey::JoinGroup, 9, &fixed),
        piece(ApiKey::OffsetFetch, 7, &fetch_offsets),
        piece(ApiKey::DescribeGroups, 5, &DescribeGroupsRequest::default().with_groups(vec![id()])),
        piece(ApiKey::ListGroups, 4, &ListGroupsRequest::default()),
        piece(ApiKey::DeleteGroups, 2, &DeleteGroupsRequest::default().with_groups_names(vec![id()])),
        piece(
            ApiKey::Metadata,
            9,
            &MetadataRequest::default()
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name("auto")))])),
        ),
    ]
}

fn batches(out: &Out) {
    for codec in Codec::ALL {
        for (more, target) in [(7, "as-sent"), (0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")] {
            let batch = batch(codec, (7, 1, 5));
            out.put("batches", &format!("{}-to-{target}", codec.name()), [&[0, more, 0x73], &batch[..]].concat());
        }
        for rules in [2, 4, 8, 16] {
            let batch = batch(codec, (-1, -1, -1));
            out.put("batches", &format!("{}-rules-{rules}", codec.name()), [&[rules, 7, 0x73], &batch[..]].concat());
        }
        let twice = [&batch(codec, (-1, -1, -1))[..], &batch(codec, (-1, -1, -1))[..]].concat();
        out.put("batches", &format!("{}-twice", codec.name()), [&[0, 7, 0x70], &twice[..]].concat());
        out.put("batches", &format!("{}-bomb", codec.name()), [&[0, 7, 0x73], &bomb(codec)[..]].concat());
    }
}

/// Records of 4 MiB of zeros.
fn bomb(codec: Codec) -> Bytes {
    let value = vec![0; if codec == Codec::None { 64 } else { 4 << 20 }];
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    builder.push(NewRecord { value: Some(&value), timestamp: NOW_MS, ..NewRecord::default() }).expect("fits");
    let batch = builder.build().expect("builds");
    // Snappy makes it 22 times smaller at best.
    if batch.len() < 16 << 10 { batch } else { batch.slice(..16 << 10) }
}

fn codecs(out: &Out) {
    for (id, codec) in (0u8..).zip(Codec::ALL) {
        let plain = batch(Codec::None, (-1, -1, -1));
        let section = compress(codec, None, &plain[HEADER_BYTES..]).expect("compresses");
        out.put("codecs", codec.name(), [&[id, 0], &section[..]].concat());
        let twice = [&section[..], &section[..]].concat();
        out.put("codecs", &format!("{}-twice", codec.name()), [&[id, 3], &twice[..]].concat());
        let zeros = compress(codec, Some(1), &[0; 200_000]).expect("compresses");
        if zeros.len() < 16 << 10 {
            out.put("codecs", &format!("{}-zeros", codec.name()), [&[id, 9], &zeros[..]].concat());
        }
    }
    let raw_snappy = [4, 12, b'a', b'b', b'c', b'd'];
    out.put("codecs", "snappy-raw", [&[2, 0], &raw_snappy[..]].concat());
}

fn segments(out: &Out) {
    for name in ["v1-empty", "v1-fence", "v1-segment"] {
        let object = golden(&format!("segment/{name}.bin"));
        let (body, footer, repeated) = parts(&object);
        let kind = u8::from(object.ends_with(b"ALVM-FNC"));
        let mended = [&[kind], &pieces::join(&[footer, repeated])[..]].concat();
        out.put("segments", name, [&body.to_be_bytes()[..], &mended].concat());
        out.put("segments", &format!("{name}-whole"), [&[0; 4][..], &object].concat());
        out.put("inspect", name, [&[0], &object[..]].concat());
        out.put("inspect", &format!("{name}-json"), [&[4], &object[..]].concat());
        out.put("inspect", &format!("{name}-named"), [&[1], &object[..]].concat());
        if body == 0 {
            out.put("inspect", &format!("{name}-mended"), [&[8], &mended[..]].concat());
        }
    }
}

/// Size of the body, footer and repeated footers of an object.
fn parts(object: &[u8]) -> (u32, &[u8], &[u8]) {
    let (described, trailer) = object.split_at(object.len() - TRAILER_BYTES);
    let length = |at: usize| u32::from_be_bytes(trailer[at..at + 4].try_into().expect("four bytes")) as usize;
    let (footer, repeated) = (length(0), length(4));
    let body = described.len() - footer - repeated;
    let (footer, repeated) = described[body..].split_at(footer);
    (u32::try_from(body).expect("small"), footer, repeated)
}

fn runs(out: &Out) {
    // With the place of its name among those of `inspect`.
    for (name, key) in [("v1-run-0", 1), ("v1-run-1", 2), ("v1-manifest", 3)] {
        let object = golden(&format!("segment/{name}.bin"));
        let (body, footer, _) = parts(&object);
        let mended = [&[u8::from(object.ends_with(b"ALVM-MAN"))], footer].concat();
        out.put("runs", name, [&body.to_be_bytes()[..], &mended].concat());
        out.put("runs", &format!("{name}-whole"), [&[0; 4][..], &object].concat());
        let size = u32::try_from(object.len()).expect("small").to_be_bytes();
        out.put("runs", &format!("{name}-named"), [&size[..], &object].concat());
        // Without its name, under it, as JSON, and under a trailer that is made right.
        for how in [0, key, 4, 8] {
            let content = if how == 8 { &mended } else { &object };
            out.put("inspect", &format!("{name}-{how}"), [&[inspect::OF_RUNS | how], &content[..]].concat());
        }
    }
}

/// Footers whose offsets, sequences and lengths stand at their ends.
fn extremes(out: &Out) {
    let meta = BatchMeta {
        base_offset: 0,
        last_offset_delta: i32::MAX - 1,
        length: 61,
        record_count: i32::MAX,
        max_timestamp: i64::MIN,
        producer_id: i64::MAX,
        producer_epoch: i16::MAX,
        base_sequence: i32::MAX,
        transactional: true,
        log_append_time: true,
        control: Some(ControlMeta { marker_type: i16::MAX, coordinator_epoch: i32::MAX }),
    };
    for (at, base_offset) in [0, i64::MAX - i64::from(i32::MAX)].into_iter().enumerate() {
        let batches = vec![(Bytes::from(vec![0; 61]), BatchMeta { base_offset, ..meta })];
        let partition = PartitionId { topic: TopicId(u128::MAX), index: i32::MAX };
        let draft = SegmentDraft {
            session: SessionId { revision: u64::MAX, random: u64::MAX },
            number: u64::MAX,
            nonce: u64::MAX,
            created_ms: i64::MAX,
            committed: u64::MAX,
            extents: vec![ExtentDraft { partition, epoch: i32::MAX, batches }],
            repeated: Vec::new(),
        };
        let sealed = build(draft).expect("a segment");
        let mended = [&[0], &pieces::join(&[&sealed.footer_bytes[..], &[]])[..]].concat();
        out.put("segments", &format!("extreme-{at}"), [&61u32.to_be_bytes()[..], &mended].concat());
        out.put("inspect", &format!("extreme-{at}"), [&[4], &sealed.bytes[..]].concat());
    }
}

/// The golden entries with every number at an end.
fn extreme_entries(out: &Out) {
    for revision in 1..=11 {
        let entry = golden(&format!("meta/entry-{revision:02}.json"));
        let entry: serde_json::Value = serde_json::from_slice(&entry).expect("JSON");
        for number in ["2147483647", "-2147483648", "9223372036854775807", "18446744073709551615"] {
            let mut changed = entry.clone();
            replace_numbers(&mut changed["changes"], &number.parse().expect("a number"));
            let Some(fields) = changed.as_object_mut() else { continue };
            fields.remove("crc32c");
            let text = changed.to_string();
            out.put(
                "metadata",
                &format!("entry-{revision}-{number}"),
                [&[1], &text.as_bytes()[..text.len() - 1]].concat(),
            );
        }
    }
}

fn replace_numbers(value: &mut serde_json::Value, number: &serde_json::Number) {
    match value {
        serde_json::Value::Number(old) => *old = number.clone(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| replace_numbers(value, number)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| replace_numbers(value, number)),
        _ => {}
    }
}

fn metadata(out: &Out) {
    let seal_length = r#","crc32c":"00000000"}"#.len();
    for revision in 1..=11 {
        let entry = golden(&format!("meta/entry-{revision:02}.json"));
        out.put("metadata", &format!("entry-{revision}"), [&[0], &entry[..]].concat());
        out.put("metadata", &format!("entry-{revision}-open"), [&[1], &entry[..entry.len() - seal_length]].concat());
        out.put("inspect", &format!("entry-{revision}"), [&[0], &entry[..]].concat());
    }
    let snapshot = golden("meta/snapshot-11.json");
    let line = snapshot.iter().position(|byte| *byte == b'\n').expect("two lines");
    out.put("metadata", "snapshot", [&[2], &snapshot[..]].concat());
    out.put("metadata", "snapshot-open", [&[3], &snapshot[line + 1..]].concat());
    out.put("inspect", "snapshot", [&[3], &snapshot[..]].concat());
    let cluster = golden("meta/cluster.json");
    out.put("metadata", "cluster", [&[4], &cluster[..]].concat());
    out.put("metadata", "cluster-open", [&[5], &cluster[..cluster.len() - seal_length]].concat());
}

fn settings(out: &Out) {
    let file = "Fstore = \"s3://bucket/prefix\"\nlisten = \"0.0.0.0:9092\"\nadvertise = \"[::1]:9092\"\nflush_bytes = \"1MiB\"\n\
                log_format = \"json\"\ns3-path-style = true\n[kafka]\nnum.partitions = 3\n\"group.max.size\" = 9\n";
    let variables = ["VALLUVIUM_FLUSH_INTERVAL_MS=5s", "VALLUVIUM_KAFKA_MESSAGE_MAX_BYTES=1MB", "VALLUVIUM_LOG=debug"];
    let flags =
        ["Onode-id=7", "Orack=a", "Os3-endpoint=http://h:1", "Sbuffer-bytes=64MiB", "Soffsets.retention.minutes=7d"];
    let wrong = ["Onode-di=7", "Snum.partitions=0", "Fa = [1]", "Fx.y.z = 1.5", "Ostore=x"];
    let configs = [
        "cleanup.policy= compact , delete",
        "retention.ms=-1",
        "min.cleanable.dirty.ratio=0x1p-1",
        "min.cleanable.dirty.ratio=1e-1d",
        "compression.type=gzip",
        "compression.gzip.level=9",
        "log.retention.hours=168",
        "leader.replication.throttled.replicas=0:1,1:2",
        "share.auto.offset.reset=by_duration:P1DT2H3.5S",
        "consumer.session.timeout.ms=45000",
        "message.timestamp.type=LogAppendTime",
    ];
    let join = |pieces: &[&str]| pieces.join("\u{1e}");
    out.put("settings", "file", file);
    out.put("settings", "all", join(&[&[file][..], &variables, &flags].concat()));
    out.put("settings", "configs", join(&configs.map(|config| format!("C{config}")).each_ref().map(String::as_str)));
    for (at, one) in wrong.iter().chain(&variables).chain(&flags).enumerate() {
        out.put("settings", &format!("one-{at}"), one);
    }
    for (at, one) in configs.iter().enumerate() {
        out.put("settings", &format!("config-{at}"), format!("C{one}"));
    }
}

fn offsets(out: &Out) {
    // Written by Kafka 4.3.1: see src/coord/records.rs.
    let unhex = |digits: &str| -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits")).collect()
    };
    let (offset, group) = (unhex("000100066772c3b6757000066f726465727300000007"), unhex("000200066772c3b67570"));
    let values = [
        ("000000000000fcde41b200056dc3a974610000018bcfe5687b", true),
        ("000100000000fcde41b200056dc3a974610000018bcfe5687b0000018bcfe6ee9f", true),
        ("000300000000fcde41b20000000500056dc3a974610000018bcfe5687b", true),
        ("000400000000fcde41b200000005066dc3a974610000018bcfe5687b0100100102030405060708090a0b0c0d0e0f10", true),
        ("00040000000000000001ffffffff01000000000000000200", true),
        (
            "00000008636f6e73756d657200000003000572616e676500036d2d310000000200036d2d31000163000a2f3132372e302e302e310000afc8\
             00000003010203000000010900036d2d32000163000a2f3132372e302e302e31000017700000000000000000",
            false,
        ),
        (
            "00030008636f6e73756d657200000003000572616e676500036d2d310000018bcfe569c80000000200036d2d310004696e737400016300\
             0a2f3132372e302e302e31000493e00000afc800000003010203000000010900036d2d32ffff000163000a2f3132372e302e302e310000\
             ea60000017700000000000000000",
            false,
        ),
        (
            "000409636f6e73756d6572000000030672616e6765046d2d310000018bcfe569c803046d2d3105696e737402630b2f3132372e302e302e\
             31000493e00000afc804010203020900046d2d320002630b2f3132372e302e302e310000ea600000177001010000",
            false,
        ),
        ("0003000000000000ffffffff000000000000000500000000", false),
    ];
    for (at, (value, is_offset)) in values.iter().enumerate() {
        let key = if *is_offset { &offset } else { &group };
        out.put("offsets", &format!("value-{at}"), pieces::join(&[key, &unhex(value)]));
    }
    out.put("offsets", "tombstone", &offset);
    out.put("offsets", "subscription", [0, 3, 0, 0, 0, 2, 0, 1, b'b', 0, 1, b'a', 0, 0, 0, 0, 9, 9]);
}
