"""produce|consume BOOTSTRAP TOPIC CODEC N, with confluent-kafka. ../README.md describes the records."""

import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 3


def make_pool():
    x, out = 1, bytearray()
    for _ in range(4096):
        x = x * 48271 % 2147483647
        out += b"0123456789abcdef"[x % 16 : x % 16 + 1] * 16
    return bytes(out)


POOL = make_pool()


def value(codec, i):
    prefix = f"{codec}:{i}:".encode()
    start = i * 7919 % 64512
    return prefix + POOL[start : start + 1024 - len(prefix)]


def create(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    try:
        made[topic].result(30)
    except KafkaException as e:
        if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def produce(bootstrap, topic, codec, n):
    create(bootstrap, topic)
    failed = []

    def delivered(error, message):
        if error:
            failed.append(error)

    producer = Producer({
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": codec,
        "linger.ms": 5,
    })
    headers = [("codec", codec.encode())]
    for i in range(n):
        while True:
            try:
                producer.produce(topic, value(codec, i), str(i), i % PARTITIONS, delivered, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        if i % 1000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    if failed or left:
        sys.exit(f"{len(failed)} of {n} records failed, {left} not answered; first: {failed[:1]}")


def consume(bootstrap, topic, codec, n):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "unused",  # the library wants a name; partitions are assigned by hand and nothing is committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    })
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    seen, ended = set(), set()
    records = duplicated = changed = 0
    next_index, next_offset = list(range(PARTITIONS)), [0] * PARTITIONS
    while len(ended) < PARTITIONS:
        message = consumer.poll(60)
        if message is None:
            sys.exit("no message and no end of partition within 60 seconds")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(f"consumer: {message.error()}")
            ended.add(message.partition())
            continue
        records += 1
        key, p = message.key(), message.partition()
        i = int(key) if key and key.isdigit() else -1
        if not (0 <= i < n and i % PARTITIONS == p and message.value() == value(codec, i)
                and message.headers() == [("codec", codec.encode())]):
            changed += 1
            continue
        if i in seen:
            duplicated += 1
            continue
        seen.add(i)
        if i < next_index[p] or message.offset() != next_offset[p]:
            changed += 1
        next_index[p], next_offset[p] = i + PARTITIONS, message.offset() + 1
    consumer.close()
    lost = n - len(seen)
    print(f"records={records} lost={lost} duplicated={duplicated} changed={changed}")
    sys.exit(bool(lost or duplicated or changed or records != n))


if __name__ == "__main__":
    verb, bootstrap, topic, codec, n = sys.argv[1:6]
    {"produce": produce, "consume": consume}[verb](bootstrap, topic, codec, int(n))
