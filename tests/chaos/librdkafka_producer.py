"""One idempotent librdkafka producer of a chaos run: prints its history as JSON lines, stops at the end of its input.

Arguments: bootstrap, client name, seed, topic/partition,…, and how many times slower than it could be.  The record format is `pattern` in workload/workload.go.
"""

import json
import random
import sys
import threading
import time

from confluent_kafka import KafkaError, Producer

bootstrap, client, seed, places, pace = sys.argv[1:6]
places = [(topic, int(index)) for topic, index in (place.rsplit("/", 1) for place in places.split(","))]
rng = random.Random(f"{seed}-{client}")
stop = threading.Event()
sequence = 0


def emit(**event):
    """Record one event; the time is read here, so call it before sending and after an answer."""
    sys.stdout.write(json.dumps({"t": time.monotonic_ns(), "c": client, **event}) + "\n")


def pattern(name: str, size: int) -> bytes:
    value = f"{name}|" + name * (size // len(name) + 1)
    return value[: max(size, len(name) + 1)].encode()


def outcome(name, topic, index):
    def delivered(error, message):
        if error is None:
            # None: the answer was lost, and a later one stood for it.
            offset = message.offset()
            emit(k="ack", tp=topic, p=index, o=-2 if offset is None else offset, v=name)
        elif error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD):
            emit(k="fail", tp=topic, p=index, o=0, v=name, err=str(error))
        else:
            emit(k="unknown", tp=topic, p=index, o=0, v=name, err=str(error))
            emit(k="trouble", tp=topic, p=index, o=0, err=f"{name}: {error}")

    return delivered


def fatal(error):
    if error.fatal():
        emit(k="trouble", p=0, o=0, err=f"fatal: {error}")


def produce(topic, index):
    global sequence
    sequence += 1
    name = f"{client}:{sequence}"
    emit(k="send", tp=topic, p=index, o=0, v=name, seq=sequence)
    producer.produce(
        topic, pattern(name, rng.randrange(20, 1500)), name, partition=index, headers=[("id", name.encode())],
        on_delivery=outcome(name, topic, index),
    )


producer = Producer(
    {
        "bootstrap.servers": bootstrap, "client.id": client, "enable.idempotence": True, "acks": "all",
        "max.in.flight.requests.per.connection": 5, "message.timeout.ms": 0, "linger.ms": 2,
        "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 300, "retry.backoff.ms": 50,
        "compression.type": rng.choice(["none", "gzip", "lz4", "zstd", "snappy"]), "error_cb": fatal,
        # To standard error: when and why it began a new epoch.
        "log_level": 7, "debug": "eos",
    }
)
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
while not stop.is_set():
    if len(producer) < 500:
        for _ in range(rng.randrange(1, 12)):
            produce(*rng.choice(places))
    producer.poll(rng.random() * 0.04 * int(pace))
for place in places:
    produce(*place)
producer.flush(25)
sys.stdout.flush()
