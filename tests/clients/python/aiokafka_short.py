"""aiokafka: records, seeking, a group, administration."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError

from harness import BOOTSTRAP, FULL, check, equal, fresh, run


def in_loop(coroutine):
    """Run a check in an event loop of its own, with a deadline."""
    def body():
        asyncio.run(asyncio.wait_for(coroutine(), 40))
    body.__name__ = coroutine.__name__
    return check(body)


async def topic(partitions=1, **config) -> str:
    name = fresh("topic")
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(name=name, num_partitions=partitions, replication_factor=1, topic_configs=config)])
    while name not in await admin.list_topics():
        await asyncio.sleep(0.02)
    await admin.close()
    return name


async def started(client):
    await client.start()
    return client


async def take(c, count):
    return [await asyncio.wait_for(c.getone(), 30) for _ in range(count)]


def records(codec):
    async def body():
        name = await topic()
        p = await started(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=codec, acks="all"))
        sent = [await p.send(name, b"v%d" % i, key=b"k%d" % i, partition=0, headers=[("h", b"x")], timestamp_ms=1_700_000_000_000 + i) for i in range(200)]
        equal([(await f).offset for f in sent], list(range(200)), "offsets")
        await p.stop()
        c = await started(AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest"))
        place = TopicPartition(name, 0)
        c.assign([place])
        got = await take(c, 200)
        equal([(r.key, r.value, r.headers, r.timestamp) for r in got], [(b"k%d" % i, b"v%d" % i, (("h", b"x"),), 1_700_000_000_000 + i) for i in range(200)], "records")
        c.seek(place, 123)
        equal((await take(c, 1))[0].offset, 123, "sought")
        equal((await c.offsets_for_times({place: 1_700_000_000_050}))[place].offset, 50, "offset by time")
        equal((await c.beginning_offsets([place]), await c.end_offsets([place])), ({place: 0}, {place: 200}), "ends")
        await c.stop()
    body.__name__ = f"records_{codec or 'none'}"
    return body


for codec in (None, "gzip", "snappy", "lz4", "zstd"):
    in_loop(records(codec))


@in_loop
async def idempotent_producer():
    name = await topic()
    p = await started(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True, max_batch_size=1000))
    sent = [await p.send(name, b"%d" % i, partition=0) for i in range(3000)]
    equal([(await f).offset for f in sent], list(range(3000)), "offsets")
    await p.stop()


@in_loop
async def group_commits_and_resumes():
    name, group = await topic(2), fresh("group")
    p = await started(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP))
    for i in range(40):
        await p.send_and_wait(name, b"%d" % i, partition=i % 2)
    options = {"bootstrap_servers": BOOTSTRAP, "group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 500}
    a = await started(AIOKafkaConsumer(name, **options))
    await take(a, 40)
    await a.commit()
    equal([await a.committed(TopicPartition(name, i)) for i in range(2)], [20, 20], "committed")
    b = await started(AIOKafkaConsumer(name, **options))
    for _ in range(150):
        if len(a.assignment()) == len(b.assignment()) == 1:
            break
        await asyncio.sleep(0.1)
    equal((len(a.assignment()), len(b.assignment())), (1, 1), "shares")
    await b.stop()
    await a.stop()
    for i in range(4):
        await p.send_and_wait(name, b"more%d" % i, partition=i % 2)
    await p.stop()
    c = await started(AIOKafkaConsumer(name, **options))
    equal(sorted(r.value for r in await take(c, 4)), [b"more%d" % i for i in range(4)], "only what came after the commit")
    await c.stop()


@in_loop
async def too_large():
    name = await topic(**{"max.message.bytes": "5000"})
    p = await started(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP))
    try:
        await p.send_and_wait(name, b"x" * 20_000)
        raise AssertionError("20,000 bytes were accepted")
    except MessageSizeTooLargeError:
        pass
    finally:
        await p.stop()


if not FULL:
    import harness
    harness.CHECKS[:] = harness.CHECKS[:1]
run("aiokafka")
