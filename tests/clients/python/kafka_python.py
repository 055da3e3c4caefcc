"""kafka-python: records, seeking, a group, administration."""

from concurrent.futures import ThreadPoolExecutor

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import MessageSizeTooLargeError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from harness import BOOTSTRAP, FULL, check, equal, fresh, run, wait

BASE = {"bootstrap_servers": BOOTSTRAP}
POLL_MS = 1000


def topic(partitions=1, **config) -> str:
    name = fresh("topic")
    admin = KafkaAdminClient(**BASE)
    admin.create_topics([NewTopic(name=name, num_partitions=partitions, replication_factor=1, topic_configs=config)])
    wait(lambda: name in admin.list_topics(), "the new topic in Metadata")
    admin.close()
    return name


def consumer(*topics, **config) -> KafkaConsumer:
    return KafkaConsumer(*topics, **{**BASE, "auto_offset_reset": "earliest", "enable_auto_commit": False, **config})


def member(name, **config) -> KafkaConsumer:
    """A group member that knows its topic's partitions before its first poll, so before it joins.

    kafka-python 3.0.12 loses a join that its poll does not live to see, against any broker. A leader whose metadata came too late assigns
    nothing and joins again; if its poll ends during that second join, the next one takes it for done (`need_rejoin` compares snapshots,
    which agree by then, and does not ask for the pending join), never applies the assignment and sends no heartbeat ever again. And in
    any rebalance, a poll that finds the join finished since the last poll joins anew, which, done by the leader, moves the whole group.
    So members know their partitions first, and polls last longer than joins (`POLL_MS`).
    """
    c = consumer(name, **config)
    wait(lambda: c.partitions_for_topic(name), "the topic's partitions at the member")
    return c


def take(c, count):
    got = []
    wait(lambda: [got.extend(r) for r in c.poll(POLL_MS).values()] is not None and len(got) >= count, f"{count} records")
    return got


def records(codec):
    def body():
        name = topic()
        p = KafkaProducer(**BASE, compression_type=codec, acks="all", linger_ms=5)
        sent = [p.send(name, key=b"k%d" % i, value=None if i % 7 == 0 else b"v%d" % i, headers=[("h", b"x")], partition=0, timestamp_ms=1_700_000_000_000 + i) for i in range(200)]
        p.flush(20)
        equal([f.get(20).offset for f in sent], list(range(200)), "offsets")
        p.close()
        c = consumer()
        c.assign([TopicPartition(name, 0)])
        got = take(c, 200)
        equal([(r.key, r.value, list(r.headers), r.timestamp) for r in got],
              [(b"k%d" % i, None if i % 7 == 0 else b"v%d" % i, [("h", b"x")], 1_700_000_000_000 + i) for i in range(200)], "records")
        c.seek(TopicPartition(name, 0), 123)
        equal(take(c, 1)[0].offset, 123, "sought")
        place = TopicPartition(name, 0)
        found = c.offsets_for_times({place: 1_700_000_000_050})[place]
        equal((found.offset, found.timestamp), (50, 1_700_000_000_050), "offset by time")
        equal((c.beginning_offsets([place])[place], c.end_offsets([place])[place]), (0, 200), "ends")
        c.close()
    body.__name__ = f"records_{codec or 'none'}"
    return body


for codec in (None, "gzip", "snappy", "lz4", "zstd"):
    check(records(codec))


@check
def idempotent_producer():
    name = topic()
    p = KafkaProducer(**BASE, enable_idempotence=True, max_in_flight_requests_per_connection=5, batch_size=500, linger_ms=0)
    sent = [p.send(name, value=b"%d" % i, partition=0) for i in range(3000)]
    p.flush(30)
    equal([f.get(20).offset for f in sent], list(range(3000)), "offsets")
    p.close()
    c = consumer()
    c.assign([TopicPartition(name, 0)])
    equal([int(r.value) for r in take(c, 3000)], list(range(3000)), "order")
    c.close()


@check
def group_commits_and_resumes():
    name, group = topic(2), fresh("group")
    p = KafkaProducer(**BASE)
    for i in range(40):
        p.send(name, value=b"%d" % i, partition=i % 2)
    p.flush(20)
    a = member(name, group_id=group, session_timeout_ms=10_000, heartbeat_interval_ms=500)
    take(a, 40)
    a.commit()
    equal([a.committed(TopicPartition(name, i)) for i in range(2)], [20, 20], "committed")
    b = member(name, group_id=group, session_timeout_ms=10_000, heartbeat_interval_ms=500)

    def shared(pool):
        list(pool.map(lambda c: c.poll(POLL_MS), (a, b)))  # side by side, for each waits for the other to join
        return len(a.assignment()) == 1 and len(b.assignment()) == 1

    with ThreadPoolExecutor(max_workers=2) as pool:
        wait(lambda: shared(pool), "one partition each")
    b.close()
    wait(lambda: a.poll(POLL_MS) is not None and len(a.assignment()) == 2, "both partitions after the leave")
    a.close()
    for i in range(4):
        p.send(name, value=b"more%d" % i, partition=i % 2)
    p.flush(20)
    p.close()
    c = member(name, group_id=group)
    equal(sorted(r.value for r in take(c, 4)), [b"more%d" % i for i in range(4)], "only what came after the commit")
    c.close()


@check
def administration_and_errors():
    name = topic(2)
    admin = KafkaAdminClient(**BASE)
    if name not in admin.list_topics():
        raise AssertionError("not listed")
    for action, error in (
        (lambda: admin.create_topics([NewTopic(name=name, num_partitions=1, replication_factor=1)]), TopicAlreadyExistsError),
        (lambda: admin.delete_topics([fresh("missing")]), UnknownTopicOrPartitionError),
    ):
        try:
            action()
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")
    admin.delete_topics([name])
    wait(lambda: name not in admin.list_topics(), "deletion")
    admin.close()
    small = topic(**{"max.message.bytes": "5000"})
    p = KafkaProducer(**BASE)
    try:
        p.send(small, value=b"x" * 20_000).get(20)
        raise AssertionError("20,000 bytes were accepted")
    except MessageSizeTooLargeError:
        pass
    p.close()


if not FULL:
    import harness
    harness.CHECKS[:] = harness.CHECKS[:1]
run("kafka-python")
