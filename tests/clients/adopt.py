"""What adopt.sh asks of a broker, Apache Kafka or ours. Standard library only.

    adopt.py ends BOOTSTRAP          each partition: log start, end, leader epoch, a digest of all its batches
    adopt.py append BOOTSTRAP NAME   appends to a plain, an idempotent and a compacted topic; makes them where they are missing
    adopt.py refused BOOTSTRAP       fails unless topics can be neither made, grown, deleted nor changed, with an answer that says why
    adopt.py raised OLD NEW          fails unless each partition's epoch in file NEW (as of ends) is higher than in OLD
"""

import hashlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "behave"))
sys.dont_write_bytecode = True
from wire import Connection, batch, record  # noqa: E402

TOPICS = {"appended-plain": [], "appended-idempotent": [], "appended-compacted": [["cleanup.policy", "compact"]]}
POLICY_VIOLATION, LOADING = 44, 14


def partitions(c):
    for topic in c.ask(3, 9, None, False, False, False)["Topics"]:
        assert topic["Error"] == 0, topic
        for part in topic["Parts"]:
            assert part["Error"] == 0, part
            yield topic["Name"], part["Index"], part["LeaderEpoch"]


def offset(c, topic, index, time):
    part = c.ask(2, 5, -1, 0, [[topic, [[index, -1, time]]]])["Topics"][0]["Parts"][0]
    assert part["Error"] == 0, part
    return part["Offset"]


def digest(c, topic, index, at, end):
    """Over base offset, length, checksum and content of each batch; not over the leader epoch, which stands before the checksum."""
    seen = hashlib.sha256()
    while at < end:
        part = c.ask(1, 11, -1, 500, 1, 50 << 20, 0, 0, -1, [[topic, [[index, -1, at, -1, 8 << 20]]]], [], "")["Topics"][0]["Parts"][0]
        assert part["Error"] == 0, part
        data, position = part["Records"], 0
        before = at
        while position + 61 <= len(data):
            size = 12 + int.from_bytes(data[position + 8:position + 12], "big")
            if position + size > len(data):
                break
            one = data[position:position + size]
            base = int.from_bytes(one[:8], "big")
            if base >= at:
                seen.update(one[:12] + one[16:])
            at = base + int.from_bytes(one[23:27], "big") + 1
            position += size
        assert at > before, f"{topic}-{index}: nothing behind {at}"
    return seen.hexdigest()[:16]


def ends(c):
    for topic, index, epoch in sorted(partitions(c)):
        start, end = offset(c, topic, index, -2), offset(c, topic, index, -1)
        print(f"{topic}-{index} start {start} end {end} epoch {epoch} digest {digest(c, topic, index, start, end)}")


def produce(c, topic, data):
    part = c.ask(0, 9, None, -1, 9000, [[topic, [[0, data]]]])["Topics"][0]["Parts"][0]
    assert part["Error"] == 0, (topic, part)
    return part["Base"]


def append(c, name):
    there = {topic for topic, _, _ in partitions(c)}
    for topic, configs in TOPICS.items():
        if topic not in there:
            made = c.ask(19, 5, [[topic, 1, 1, [], configs]], 30000, False)["Topics"][0]
            assert made["Error"] == 0, made
    for _ in range(100):  # Kafka has a block of ids a moment after its start
        given = c.ask(22, 2, None, 60000)
        if given["Error"] != LOADING:
            break
        time.sleep(0.1)
    assert given["Error"] == 0, given
    for i in range(40):
        value = f"{name}-{i}".encode()
        produce(c, "appended-plain", batch([value, b"x" * 900, None]))
        produce(c, "appended-idempotent", batch([value, value], producer=given["Producer"], epoch=given["Epoch"], sequence=2 * i))
        produce(c, "appended-compacted", batch([value], records=record(0, value, key=b"%d" % (i % 7))))


def refused(c):
    for what, key, version, values, answers in [
        ("make", 19, 5, [[["not-made", 1, 1, [], []]], 9000, False], "Topics"),
        ("delete", 20, 5, [["appended-plain"], 9000], "Topics"),
        ("grow", 37, 2, [[["appended-plain", 9, None]], 9000, False], "Results"),
        ("change", 44, 1, [[[2, "appended-plain", [["retention.ms", 0, "1"]]]], False], "Responses"),
    ]:
        answer = c.ask(key, version, *values)[answers][0]
        assert answer["Error"] == POLICY_VIOLATION and "adopt DIR --keep" in answer["Message"], (what, answer)


def epochs(path):
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r"^(\S+) .* epoch (\d+) ", file.read(), re.M))


def raised(old, new):
    old, new = epochs(old), epochs(new)
    low = [f"{part}: {old[part]}, then {new.get(part)}" for part in old if int(new.get(part, -1)) <= int(old[part])]
    if low:
        sys.exit("\n".join(low))


def main():
    what, where, *rest = sys.argv[1:]
    if what == "raised":
        return raised(where, *rest)
    with Connection(where, 60) as c:
        {"ends": ends, "append": append, "refused": refused}[what](c, *rest)


main()
