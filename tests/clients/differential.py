"""The requests of differential.sh, and the comparison of what they leave. Standard library only.

    differential.py send BOOTSTRAP                       sends them one at a time; prints each answer
    differential.py compare BROKER KAFKA OURS JAVA...    compares answers (KAFKA.answers, OURS.answers) and directories of both
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "behave"))
sys.dont_write_bytecode = True
from wire import Connection, batch, record, uvarint  # noqa: E402

TIME = 1_700_000_000_000
KINDS = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")


def snappy(data):
    """snappy-java's framing around blocks of literals."""
    out = b"\x82SNAPPY\0" + (1).to_bytes(4, "big") * 2
    for at in range(0, len(data), 32768):
        piece = data[at:at + 32768]
        block = uvarint(len(piece)) + b"\xf4" + (len(piece) - 1).to_bytes(2, "little") + piece
        out += len(block).to_bytes(4, "big") + block
    return out


def lz4(data):
    """A frame of stored blocks."""
    out = b"\x04\x22\x4d\x18\x60\x40\x82"
    for at in range(0, len(data), 65536):
        piece = data[at:at + 65536]
        out += (len(piece) | 0x80000000).to_bytes(4, "little") + piece
    return out + bytes(4)


def zstd(data):
    """A frame of raw blocks."""
    out, pieces = b"\x28\xb5\x2f\xfd\x00\x58", [data[at:at + 65536] for at in range(0, len(data), 65536)]
    for i, piece in enumerate(pieces):
        out += (len(piece) << 3 | (i + 1 == len(pieces))).to_bytes(3, "little") + piece
    return out


CODECS = {"none": (0, lambda data: data), "gzip": (1, lambda data: gzip.compress(data, mtime=0)), "snappy": (2, snappy),
          "lz4": (3, lz4), "zstd": (4, zstd)}


def packed(codec, records, **how):
    number, pack = CODECS[codec]
    joined = b"".join(records)
    return batch([b""] * len(records), records=pack(joined), attributes=number, **how)


def requests():
    """(topic, batch) or (topic, offset to delete to); always the same."""
    for codec in CODECS:
        topic = f"records-{codec}"
        odd = [record(0, b"value", 0, b"key"), record(1, None, 5, b"only a key"), record(2, b"only a value", -7),
               record(3, None, 3),
               record(4, b"", 4, b"", [(b"", b""), (b"h", b"x"), (b"h", b"again"), ("\u00e4".encode(), b"\xff\0")])]
        yield topic, packed(codec, odd, time=TIME)
        for i in range(60):
            values = [bytes([(i * 7 + j + k) % 251 for k in range(199)]) * (1 + j % 5) for j in range(40)]
            yield topic, packed(codec, [record(j, v, j, b"%d" % j) for j, v in enumerate(values)], time=TIME + 1000 * ((i * 13) % 60))
    for i in range(9):
        for producer in (7001, 7002):
            yield "idempotent", batch([b"%d" % i] * 3, time=TIME + i, producer=producer, epoch=0, sequence=3 * i)
    yield "idempotent", batch([b"8"] * 3, time=TIME + 8, producer=7001, epoch=0, sequence=24)  # once more: known
    yield "idempotent", batch([b"4"] * 3, time=TIME + 4, producer=7001, epoch=0, sequence=12)  # older, and known too
    yield "idempotent", batch([b"gap"], time=TIME, producer=7002, epoch=0, sequence=99)
    yield "idempotent", batch([b"next epoch"], time=TIME + 9, producer=7001, epoch=1, sequence=0)
    yield "idempotent", batch([b"fenced"], time=TIME, producer=7001, epoch=0, sequence=27)
    yield "idempotent", batch([b"bad"], time=TIME, damage=True)
    yield "idempotent", batch([b"a marker"], time=TIME, attributes=0x20, producer=7001, epoch=1)
    yield "idempotent", batch([b"no sequence"], time=TIME, producer=7001, epoch=1, sequence=-1)
    yield "idempotent", batch([b"of the future"] * 3, time=TIME + (1 << 40))
    yield "idempotent", batch([b"large" * 300_000], time=TIME)
    for topic, offsets in (("deleted", (10, 333, 5, 10_000)), ("emptied", (600, -1))):
        for i in range(300):
            yield topic, batch([b"%d" % i * 2000] * 2, time=TIME + i)
        for offset in offsets:
            yield topic, offset
        yield topic, batch([b"behind"], time=TIME + 999)


def send(c):
    made = set()
    for topic, what in requests():
        if topic not in made:
            answer = c.ask(19, 5, [[topic, 1, 1, [], []]], 30000, False)["Topics"][0]
            assert answer["Error"] == 0, answer
            made.add(topic)
        for _ in range(100):  # Kafka tells of a topic before it leads it
            if isinstance(what, int):
                part = c.ask(21, 2, [[topic, [[0, what]]]], 9000)["Topics"][0]["Parts"][0]
                answer = f"delete to {what}: error {part['Error']} low watermark {part['LowWatermark']}"
            else:
                part = c.ask(0, 9, None, -1, 9000, [[topic, [[0, what]]]])["Topics"][0]["Parts"][0]
                answer = (f"error {part['Error']} base {part['Base']} time {part['AppendTime']} start {part['LogStart']} "
                          f"records {[record['Batch'] for record in part['RecordErrors']]}")
            if part["Error"] not in (3, 6):
                break
            time.sleep(0.1)
        print(topic, answer)


def dumped(broker, path):
    """What `highwater dump --json --records` prints of a partition, by file."""
    done = subprocess.run([broker, "dump", "--json", "--records", path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (path, done.stderr[-500:])
    files, file = {}, None
    for line in map(json.loads, done.stdout.splitlines()):
        file = line.pop("file", file if line["type"] == "record" else None)  # a record is of the batch before it
        if file and file.endswith(KINDS):
            if line["type"] == "producer_snapshot":
                if not line["entries"]:  # Kafka writes one at each roll also where there is nobody to remember
                    continue
                line["entries"].sort(key=lambda entry: entry["producer_id"])  # Kafka's order is that of a hash map
                line.pop("crc")
            files.setdefault(file, []).append(line)
    return files


def tool(java, path, names):
    """What DumpLogSegments prints of a partition's segments and indexes, without where they lie."""
    done = subprocess.run([*java, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--print-data-log", "--files",
                           ",".join(os.path.join(path, name) for name in names)],
                          capture_output=True, text=True, errors="replace", timeout=600)
    assert done.returncode == 0, (path, done.stderr[-500:])
    return done.stdout.replace(path, "").splitlines()


def difference(kafka, ours):
    for i in range(max(len(kafka), len(ours))):
        a, b = (side[i] if i < len(side) else None for side in (kafka, ours))
        if a != b:
            return f"entry {i}: Kafka {str(a)[:300]}, ours {str(b)[:300]}"
    return None


def compare(broker, kafka, ours, *java):
    passed = failed = batches = 0

    def check(what, found):
        nonlocal passed, failed
        passed, failed = passed + (not found), failed + bool(found)
        print(f"FAILED {what}: {found}" if found else f"ok {what}")

    with open(f"{kafka}.answers", encoding="utf-8") as a, open(f"{ours}.answers", encoding="utf-8") as b:
        answers = a.read().splitlines()
        check(f"{len(answers)} answers", difference(answers, b.read().splitlines()))
    mine = lambda path: {d for d in os.listdir(path) if re.fullmatch(r"(records|idempotent|deleted|emptied).*-0", d)}
    check("partitions", mine(kafka) ^ mine(ours))
    for partition in sorted(mine(kafka) & mine(ours)):
        sides = [os.path.join(side, partition) for side in (kafka, ours)]
        theirs, seen = (dumped(broker, side) for side in sides)
        if partition == "emptied-0":
            # When segments below the log start go is housekeeping; where everything did, ours begins a new one.
            theirs, seen = ({"records": [line for file in sorted(side) for line in side[file]
                                         if line["type"] == "record" and line["offset"] >= 600]} for side in (theirs, seen))
            assert len(theirs["records"]) == 1, theirs
        else:
            first = min(seen)
            theirs = {file: lines for file, lines in theirs.items() if file >= first[:20]}
            # Kafka's loader removes the snapshot at the log's start, ours keeps none there.
            for side in (theirs, seen):
                side.pop(first[:20] + ".snapshot", None)
        check(f"{partition}: {len(theirs)} files", ", ".join(sorted(theirs.keys() ^ seen.keys())))
        both = sorted(theirs.keys() & seen.keys())
        for file in both:
            batches += sum(line["type"] == "batch" for line in theirs[file])
        check(f"{partition}: as highwater dump sees it", "; ".join(
            f"{file}: {found}" for file in both if (found := difference(theirs[file], seen[file]))))
        both = [file for file in both if file.endswith(KINDS[:3])]
        if both:
            check(f"{partition}: segments and indexes, byte for byte", ", ".join(
                file for file in both if len({open(os.path.join(side, file), "rb").read() for side in sides}) > 1))
            check(f"{partition}: as DumpLogSegments sees it", difference(*(tool(java, side, both) for side in sides)))
    print(f"figure: differential answers={len(answers)} batches={batches} differing={failed}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "send":
        with Connection(sys.argv[2], 60) as connection:
            send(connection)
    else:
        sys.exit(compare(*sys.argv[2:]))
