"""librdkafka by confluent-kafka: records, offsets, groups, administration, errors."""

import time

from confluent_kafka import (
    OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Consumer, ConsumerGroupTopicPartitions,
    IsolationLevel, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

from harness import BOOTSTRAP, FULL, check, equal, fresh, run, wait

BASE = {"bootstrap.servers": BOOTSTRAP, "log_level": 0}
# Consumers that lost their partitions by force. To close one that still has to hear of it has been seen to wait for ever, on Apache
# Kafka, and with Python's lock held, so that no other check went on. They end with the process.
LEFT_OPEN = []
admin = AdminClient(BASE)


def topic(partitions=1, **config) -> str:
    name = fresh("topic")
    admin.create_topics([NewTopic(name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})])[name].result(20)
    wait(lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == partitions, "the new topic in Metadata")
    return name


def producer(**config) -> Producer:
    return Producer({**BASE, "linger.ms": 5, **{k.replace("_", "."): v for k, v in config.items()}})


def consumer(group=None, **config) -> Consumer:
    return Consumer({
        **BASE, "group.id": group or fresh("group"), "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, **{k.replace("_", "."): v for k, v in config.items()},
    })


def put(records, **config):
    """Produce (topic, partition, key, value, headers, timestamp) tuples; returns their offsets in order."""
    p = producer(**config)
    done = {}

    def delivered(index):
        def callback(error, message):
            done[index] = error or message.offset()
        return callback

    for index, (name, partition, key, value, headers, timestamp) in enumerate(records):
        p.produce(name, value, key, partition, on_delivery=delivered(index), timestamp=timestamp, headers=headers)
        if index % 1000 == 0:
            p.poll(0)
    equal(p.flush(30), 0, "unsent after flush")
    for outcome in done.values():
        if isinstance(outcome, KafkaError):
            raise KafkaException(outcome)
    return [done[i] for i in range(len(records))]


def plain(name, count, partition=0, start=0, timestamp=0):
    return [(name, partition, f"k{i}", f"v{i}", None, timestamp and timestamp + i) for i in range(start, start + count)]


def take(c, count, limit_s=120):
    """Poll until so many records came."""
    got = []

    deadline = time.monotonic() + limit_s
    while len(got) < count:
        for message in c.consume(count - len(got), 0.2):
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(got)} of {count} records in {limit_s} s")
    return got


def read(name, count, partition=0, offset=OFFSET_BEGINNING, **config):
    c = consumer(**config)
    c.assign([TopicPartition(name, partition, offset)])
    try:
        return take(c, count)
    finally:
        c.close()


def codec(kind):
    def body():
        name = topic()
        headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("none", None)]
        want = [(f"key{i}".encode() if i % 3 else None, None if i % 5 == 0 else (b"" if i % 5 == 1 else b"x" * i)) for i in range(300)]
        offsets = put([(name, 0, key, value, headers, 1_700_000_000_000 + i) for i, (key, value) in enumerate(want)], compression_type=kind)
        equal(offsets, list(range(300)), "offsets")
        got = read(name, 300)
        equal([(m.key(), m.value()) for m in got], want, "records")
        equal([m.offset() for m in got], list(range(300)), "read offsets")
        equal(got[7].headers(), headers, "headers")
        equal(got[7].timestamp(), (TIMESTAMP_CREATE_TIME, 1_700_000_000_007), "timestamp")
    body.__name__ = f"codec_{kind}"
    return body


for kind in ("none", "gzip", "snappy", "lz4", "zstd"):
    check(codec(kind))


def broker_compression(kind):
    """The topic's compression.type differs from the producer's, so the broker must recompress."""
    def body():
        name = topic(compression_type=kind)
        put(plain(name, 500), compression_type="lz4")
        equal([m.value() for m in read(name, 500)], [f"v{i}".encode() for i in range(500)], "values")
    body.__name__ = f"broker_recompresses_to_{kind}"
    return body


for kind in ("uncompressed", "gzip", "snappy", "zstd"):
    check(broker_compression(kind))


def acks(level):
    def body():
        name = topic()
        offsets = put(plain(name, 200), acks=level)
        if level != "0":
            equal(offsets, list(range(200)), "offsets")
        equal([m.value() for m in read(name, 200)], [f"v{i}".encode() for i in range(200)], "values")
    body.__name__ = f"acks_{level}"
    return body


for level in ("0", "1", "all"):
    check(acks(level))


@check
def idempotent_pipeline():
    name = topic(3)
    count = 20_000
    records = [(name, i % 3, None, str(i), None, 0) for i in range(count)]
    offsets = put(records, enable_idempotence=True, batch_num_messages=50, max_in_flight_requests_per_connection=5, linger_ms=0)
    for partition in range(3):
        equal(offsets[partition::3], list(range(len(offsets[partition::3]))), "acknowledged offsets")
        got = [int(m.value()) for m in read(name, len(range(partition, count, 3)), partition)]
        equal(got, list(range(partition, count, 3)), f"order in partition {partition}")


@check
def large_batches_and_values():
    name = topic()
    values = [bytes([65 + i]) * 900_000 for i in range(6)] + [b"s" * 1000] * 900
    put([(name, 0, None, value, None, 0) for value in values], message_max_bytes=1_000_000, batch_size=1_000_000, linger_ms=50)
    got = read(name, len(values), fetch_max_bytes=1_000_000, message_max_bytes=1_000_000)
    equal([(len(m.value()), m.value()[:1]) for m in got], [(len(v), v[:1]) for v in values], "values")
    small = read(name, 6, max_partition_fetch_bytes=1000)  # a batch larger than the limit is sent all the same
    equal([len(m.value()) for m in small], [900_000] * 6, "values with a small fetch size")


@check
def message_too_large():
    name = topic(max_message_bytes="10000")
    try:
        put([(name, 0, None, b"x" * 20_000, None, 0)], message_max_bytes=5_000_000)
        raise AssertionError("20,000 bytes were accepted")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.MSG_SIZE_TOO_LARGE, "error")
    equal(put(plain(name, 1)), [0], "the next record's offset")


@check
def unknown_topic():
    missing = fresh("missing")
    c = consumer(allow_auto_create_topics=False)
    c.subscribe([missing])
    message = wait(lambda: c.poll(0.2), "an error")
    equal(message.error().code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "consumer's error")
    c.close()
    future = admin.delete_topics([missing])[missing]
    equal(failure(future), KafkaError.UNKNOWN_TOPIC_OR_PART, "DeleteTopics")
    future = admin.create_partitions([NewPartitions(missing, 2)])[missing]
    equal(failure(future), KafkaError.UNKNOWN_TOPIC_OR_PART, "CreatePartitions")
    future = admin.describe_topics(TopicCollection([missing]))[missing]
    equal(failure(future), KafkaError.UNKNOWN_TOPIC_OR_PART, "describe")


def failure(future):
    """The code of a future's error; an answer is an error of the test."""
    try:
        value = future.result(20)
    except KafkaException as error:
        return error.args[0].code()
    raise AssertionError(f"succeeded: {value}")


@check
def auto_created_topic():
    name = fresh("auto")
    put(plain(name, 5))
    equal(len(read(name, 5)), 5, "records")


@check
def watermarks_and_end():
    name = topic()
    c = consumer(enable_partition_eof=True)
    equal(c.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (0, 0), "empty")
    put(plain(name, 10))
    equal(c.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (0, 10), "after ten")
    c.assign([TopicPartition(name, 0, OFFSET_END)])
    end = wait(lambda: c.poll(0.2), "end of partition")
    equal((end.error().code(), end.offset()), (KafkaError._PARTITION_EOF, 10), "end of partition")
    put(plain(name, 1, start=10))
    equal(take(c, 1)[0].offset(), 10, "the first after the end")
    c.close()


@check
def seek_by_offset():
    name = topic()
    put(plain(name, 100))
    c = consumer()
    c.assign([TopicPartition(name, 0, 40)])
    equal(take(c, 1)[0].offset(), 40, "assigned")
    for offset in (0, 99, 7):
        c.seek(TopicPartition(name, 0, offset))
        equal(take(c, 1)[0].offset(), offset, "sought")
    c.close()


@check
def offsets_and_seek_by_time():
    name = topic()
    base = 1_700_000_000_000
    put([(name, 0, None, str(i), None, base + i * 1000) for i in range(50)])
    c = consumer()

    def at(timestamp):
        found = c.offsets_for_times([TopicPartition(name, 0, timestamp)], timeout=10)[0]
        return found.offset

    equal([at(base - 5), at(base), at(base + 1), at(base + 20_000), at(base + 48_999)], [0, 0, 1, 20, 49], "offsets by time")
    equal(at(base + 49_001), OFFSET_END, "after the last")
    c.assign([TopicPartition(name, 0, at(base + 30_000))])
    equal(take(c, 1)[0].value(), b"30", "record at the time")
    c.close()


@check
def offset_out_of_range_resets():
    name = topic()
    put(plain(name, 10))
    c = consumer(auto_offset_reset="error")
    c.assign([TopicPartition(name, 0, 500)])
    message = wait(lambda: c.poll(0.2), "an error")
    equal(message.error().code(), KafkaError._AUTO_OFFSET_RESET, "error")
    c.close()
    equal(read(name, 1, offset=500)[0].offset(), 0, "reset to the earliest")


@check
def log_append_time():
    name = topic(message_timestamp_type="LogAppendTime")
    put([(name, 0, None, b"x", None, 1_000)])
    kind, timestamp = read(name, 1)[0].timestamp()
    equal(kind, TIMESTAMP_LOG_APPEND_TIME, "type")
    if abs(timestamp / 1000 - time.time()) > 60:
        raise AssertionError(f"append time {timestamp}")


@check
def list_offsets():
    name = topic()
    base = 1_700_000_000_000
    put([(name, 0, None, b"x", None, base + t) for t in (5, 9, 7)])

    def at(spec):
        result = list(admin.list_offsets({TopicPartition(name, 0): spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED).values())[0].result(20)
        return result.offset, result.timestamp

    equal(at(OffsetSpec.earliest())[0], 0, "earliest")
    equal(at(OffsetSpec.latest())[0], 3, "latest")
    equal(at(OffsetSpec.max_timestamp()), (1, base + 9), "max timestamp")
    equal(at(OffsetSpec.for_timestamp(base + 6)), (1, base + 9), "first at or after")


@check
def commits():
    name, group = topic(2), fresh("group")
    put(plain(name, 20) + plain(name, 20, partition=1))
    c = consumer(group)
    both = [TopicPartition(name, 0), TopicPartition(name, 1)]
    equal([p.offset for p in c.committed(both, timeout=20)], [OFFSET_INVALID] * 2, "before any commit")
    c.subscribe([name])
    take(c, 40)
    with_metadata = TopicPartition(name, 0, 7, "a note")
    equal([(p.offset, p.error) for p in c.commit(offsets=[with_metadata], asynchronous=False)], [(7, None)], "commit")
    c.commit(offsets=[TopicPartition(name, 1, 20)], asynchronous=False)
    got = c.committed(both, timeout=20)
    equal([(p.offset, p.metadata) for p in got], [(7, "a note"), (20, None)], "committed")
    c.close()
    c = consumer(group)
    c.subscribe([name])
    got = take(c, 13)
    equal([(m.partition(), m.offset()) for m in got], [(0, o) for o in range(7, 20)], "resumed")
    c.close()


class Member:
    """A consumer with its partitions, driven by polling it by hand."""

    def __init__(self, name, group, **config):
        self.partitions, self.lost, self.got = set(), 0, []
        self.incremental = config.get("partition_assignment_strategy") == "cooperative-sticky"
        self.consumer = consumer(group, **config)
        self.consumer.subscribe([name], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.was_lost)

    def assigned(self, _, partitions):
        new = {p.partition for p in partitions}
        self.partitions = self.partitions | new if self.incremental else new

    def revoked(self, _, partitions):
        self.partitions -= {p.partition for p in partitions}

    def was_lost(self, consumer_, partitions):
        self.lost += 1
        self.revoked(consumer_, partitions)

    def poll(self):
        message = self.consumer.poll(0.02)
        if message is not None and not message.error():
            self.got.append((message.partition(), message.offset()))


def settle(members, sizes, what):
    """Poll all members until they hold disjoint shares of these sizes for a while."""
    calm = 0

    def calm_enough():
        nonlocal calm
        for member in members:
            member.poll()
        shares = [member.partitions for member in members]
        disjoint = len(set().union(*shares)) == sum(len(s) for s in shares)
        calm = calm + 1 if disjoint and sorted(len(s) for s in shares) == sorted(sizes) else 0
        return calm > 10

    wait(calm_enough, f"{what}: shares {sizes}", 40)


def rebalances(strategy):
    def body():
        name, group = topic(6), fresh("group")
        options = {"partition_assignment_strategy": strategy}
        a = Member(name, group, **options)
        settle([a], [6], "one member")
        b, c = Member(name, group, **options), Member(name, group, **options)
        settle([a, b, c], [2, 2, 2], "three members")
        b.consumer.close()
        settle([a, c], [3, 3], "after a leave")
        put([record for p in range(6) for record in plain(name, 10, partition=p)])
        wait(lambda: [m.poll() for m in (a, c)] and len(a.got) + len(c.got) >= 60, "all records")
        equal(sorted(a.got + c.got), [(p, o) for p in range(6) for o in range(10)], "each record once")
        a.consumer.close()
        c.consumer.close()
    body.__name__ = f"rebalance_{strategy.replace('-', '_')}"
    return body


for strategy in ("range", "roundrobin", "cooperative-sticky"):
    check(rebalances(strategy))


@check
def member_that_stops_polling_is_replaced():
    """max.poll.interval.ms passes: the member leaves, and another takes its partitions."""
    name, group = topic(2), fresh("group")
    a = Member(name, group, max_poll_interval_ms=6000)
    settle([a], [2], "one member")
    b = Member(name, group)
    wait(lambda: (b.poll(), len(b.partitions) == 2)[1], "the other holds everything", 40)
    LEFT_OPEN.append(a.consumer)
    b.consumer.close()


@check
def silent_member_expires():
    """A member that never says goodbye (a static one does not) loses its share after the session timeout."""
    name, group = topic(4), fresh("group")
    a, b = Member(name, group), Member(name, group, group_instance_id="silent")
    settle([a, b], [2, 2], "two members")
    b.consumer.close()
    began = time.monotonic()
    settle([a], [4], "the share of the silent one")
    if time.monotonic() - began < 3:
        raise AssertionError("its session ended at once")
    a.consumer.close()


@check
def static_members_keep_their_partitions():
    name, group = topic(4), fresh("group")
    a = Member(name, group, group_instance_id="one", session_timeout_ms=20_000)
    b = Member(name, group, group_instance_id="two", session_timeout_ms=20_000)
    settle([a, b], [2, 2], "two static members")
    kept, other = set(b.partitions), set(a.partitions)
    b.consumer.close()  # a static member does not leave
    for _ in range(50):
        a.poll()
    equal(a.partitions, other, "the other's share while one is away")
    b = Member(name, group, group_instance_id="two", session_timeout_ms=20_000)
    settle([a, b], [2, 2], "back again")
    equal(b.partitions, kept, "its old share")
    fenced = Member(name, group, group_instance_id="two", session_timeout_ms=20_000)
    deadline = time.monotonic() + 60
    error = None
    while error is None and time.monotonic() < deadline:
        fenced.poll()
        message = b.consumer.poll(0.05)
        if message is not None and message.error():
            error = message.error().code()
        a.poll()
    equal(error, KafkaError._FATAL, "the old holder of the instance id is fenced")
    LEFT_OPEN.append(b.consumer)
    for member in (a, fenced):
        member.consumer.close()


@check
def topics():
    name = topic(3, retention_ms="123456")
    described = admin.describe_topics(TopicCollection([name]))[name].result(20)
    equal((described.name, [p.id for p in described.partitions], described.is_internal), (name, [0, 1, 2], False), "describe")
    equal([len(p.replicas) for p in described.partitions], [1, 1, 1], "replicas")
    if name not in admin.list_topics(timeout=20).topics:
        raise AssertionError("not listed")
    equal(failure(admin.create_topics([NewTopic(name, 1, 1)])[name]), KafkaError.TOPIC_ALREADY_EXISTS, "again")
    bad = fresh("bad")
    equal(failure(admin.create_topics([NewTopic(bad, 0, 1)])[bad]), KafkaError.INVALID_PARTITIONS, "no partitions")
    equal(failure(admin.create_topics([NewTopic(bad, 1, 1, config={"retention.ms": "soon"})])[bad]), KafkaError.INVALID_CONFIG, "bad config")
    equal(failure(admin.create_topics([NewTopic("bad/name", 1, 1)])["bad/name"]), KafkaError.TOPIC_EXCEPTION, "bad name")
    dry = fresh("dry")
    admin.create_topics([NewTopic(dry, 1, 1)], validate_only=True)[dry].result(20)
    if dry in admin.list_topics(timeout=20).topics:
        raise AssertionError("validate_only created the topic")
    admin.delete_topics([name])[name].result(20)
    wait(lambda: name not in admin.list_topics(timeout=20).topics, "deletion")


@check
def delete_and_create_again():
    name = topic()
    put(plain(name, 5))
    admin.delete_topics([name])[name].result(20)

    def create():
        try:
            admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
            return True
        except KafkaException as error:
            equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "while the old one goes")
            return False

    wait(create, "creation under the same name")

    def empty():  # Kafka takes a moment
        c = consumer()
        try:
            return c.get_watermark_offsets(TopicPartition(name, 0), timeout=10) == (0, 0)
        except KafkaException as error:
            equal(error.args[0].code(), KafkaError._UNKNOWN_PARTITION, "while the new one comes")
            return False
        finally:
            c.close()

    wait(empty, "the new, empty topic")
    equal(put(plain(name, 1)), [0], "offset in the new topic")


@check
def partitions_grow():
    name = topic(1)
    admin.create_partitions([NewPartitions(name, 4)])[name].result(20)
    wait(lambda: len(admin.list_topics(name, timeout=20).topics[name].partitions) == 4, "four partitions")
    equal(put(plain(name, 3, partition=3)), [0, 1, 2], "offsets in a new partition")
    equal(failure(admin.create_partitions([NewPartitions(name, 2)])[name]), KafkaError.INVALID_PARTITIONS, "fewer")


@check
def configs():
    name = topic()
    resource = ConfigResource(ResourceType.TOPIC, name)

    def entry(key):
        return admin.describe_configs([resource])[resource].result(20)[key]

    def becomes(key, value, source):
        wait(lambda: (entry(key).value, entry(key).source) == (value, source.value), f"{key}={value} by {source}")  # Kafka takes a moment

    equal((entry("retention.ms").value, entry("retention.ms").source), ("604800000", ConfigSource.DEFAULT_CONFIG.value), "default")
    equal(entry("cleanup.policy").value, "delete", "default")

    def alter(key, value, operation):
        changed = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[ConfigEntry(key, value, incremental_operation=operation)])
        return admin.incremental_alter_configs([changed])[changed]

    alter("retention.ms", "86400000", AlterConfigOpType.SET).result(20)
    becomes("retention.ms", "86400000", ConfigSource.DYNAMIC_TOPIC_CONFIG)
    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND).result(20)
    becomes("cleanup.policy", "delete,compact", ConfigSource.DYNAMIC_TOPIC_CONFIG)
    alter("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT).result(20)
    becomes("cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG)
    alter("retention.ms", None, AlterConfigOpType.DELETE).result(20)
    becomes("retention.ms", "604800000", ConfigSource.DEFAULT_CONFIG)
    equal(failure(alter("retention.ms", "x", AlterConfigOpType.SET)), KafkaError.INVALID_CONFIG, "bad value")
    equal(failure(alter("no.such.setting", "1", AlterConfigOpType.SET)), KafkaError.INVALID_CONFIG, "unknown setting")
    broker = ConfigResource(ResourceType.BROKER, str(list(admin.list_topics(timeout=20).brokers)[0]))
    if "message.max.bytes" not in admin.describe_configs([broker])[broker].result(20):
        raise AssertionError("the broker's configs lack message.max.bytes")


@check
def compacted_topic_needs_keys():
    name = topic(cleanup_policy="compact")
    try:
        put([(name, 0, None, b"x", None, 0)])
        raise AssertionError("a record without key was accepted")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_RECORD, "error")
    equal(put(plain(name, 1)), [0], "a record with a key")


@check
def delete_records():
    name = topic()
    put(plain(name, 50))
    place = TopicPartition(name, 0, 30)
    equal(admin.delete_records([place])[place].result(20).low_watermark, 30, "low watermark")
    c = consumer()
    equal(c.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (30, 50), "watermarks")
    c.close()
    equal(read(name, 1)[0].offset(), 30, "earliest")
    equal(read(name, 1, offset=5)[0].offset(), 30, "below the start")
    beyond = TopicPartition(name, 0, 500)
    equal(failure(admin.delete_records([beyond])[beyond]), KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end")
    everything = TopicPartition(name, 0, OFFSET_END)
    equal(admin.delete_records([everything])[everything].result(20).low_watermark, 50, "to the end")


@check
def groups():
    name, group = topic(2), fresh("group")
    put(plain(name, 10))
    a = Member(name, group)
    settle([a], [2], "one member")
    a.consumer.commit(offsets=[TopicPartition(name, 0, 4)], asynchronous=False)
    listed = {g.group_id: g.state.name for g in admin.list_consumer_groups().result(20).valid}
    equal(listed.get(group), "STABLE", "listed state")
    described = admin.describe_consumer_groups([group])[group].result(20)
    equal((described.state.name, described.partition_assignor, len(described.members)), ("STABLE", "range", 1), "described")
    equal(sorted(p.partition for p in described.members[0].assignment.topic_partitions), [0, 1], "assignment")
    equal(failure(admin.delete_consumer_groups([group])[group]), KafkaError.NON_EMPTY_GROUP, "delete while in use")
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    equal([(p.partition, p.offset) for p in offsets.topic_partitions], [(0, 4)], "offsets")
    a.consumer.close()
    wait(lambda: admin.describe_consumer_groups([group])[group].result(20).state.name == "EMPTY", "empty")
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 2)])
    admin.alter_consumer_group_offsets([change])[group].result(20)
    c = consumer(group)
    c.subscribe([name])
    equal(take(c, 1)[0].offset(), 2, "after the offsets were set back")
    c.close()
    wait(lambda: admin.describe_consumer_groups([group])[group].result(20).state.name == "EMPTY", "empty")
    admin.delete_consumer_groups([group])[group].result(20)
    if group in {g.group_id for g in admin.list_consumer_groups().result(20).valid}:
        raise AssertionError("still listed after deletion")
    equal(failure(admin.delete_consumer_groups([group])[group]), KafkaError.GROUP_ID_NOT_FOUND, "delete again")


@check
def auto_commit():
    name, group = topic(), fresh("group")
    put(plain(name, 30))
    c = consumer(group, enable_auto_commit=True, auto_commit_interval_ms=200)
    c.subscribe([name])
    take(c, 30)
    c.close()
    c = consumer(group)
    equal(c.committed([TopicPartition(name, 0)], timeout=20)[0].offset, 30, "committed")
    c.close()


@check
def cluster():
    described = admin.describe_cluster().result(20)
    if not described.cluster_id or len(described.nodes) != 1 or described.controller is None:
        raise AssertionError(f"cluster {described.cluster_id}, {described.nodes}, {described.controller}")
    equal(described.cluster_id, admin.list_topics(timeout=20).cluster_id, "cluster id in Metadata")


SMOKE = {"codec_zstd", "idempotent_pipeline", "seek_by_offset", "commits", "rebalance_range", "topics"}

if not FULL:
    import harness
    harness.CHECKS[:] = [c for c in harness.CHECKS if c.__name__ in SMOKE]
run("librdkafka")
