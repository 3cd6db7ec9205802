"""What compaction.sh writes, waits for and compares. Standard library only.

    compaction.py write BOOTSTRAP ROUND            writes round 1, 2 or 3 to compacted topics; makes them where they are missing
    compaction.py wait DIRECTORY                   until everything before the active segment of each of those topics is cleaned
    compaction.py compare BROKER KAFKA OURS JAVA...   compares the partitions that either broker has cleaned
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from differential import CODECS, difference, dumped, packed, tool  # noqa: E402
from wire import Connection, batch, record  # noqa: E402

STEP = 100  # milliseconds of event time from one batch to the next
CONFIGS = [["cleanup.policy", "compact"], ["min.cleanable.dirty.ratio", "0.01"], ["segment.ms", str(20 * STEP)]]
CODEC_TOPICS = [f"compact-{codec}" for codec in CODECS]
TOPICS = {topic: CONFIGS for topic in [*CODEC_TOPICS, "compact-idempotent", "compact-transactions"]}
# Here tombstones and markers are gone at the pass after the one that dated them: in round 3.
TOPICS["compact-gone"] = [*CONFIGS, ["delete.retention.ms", "1"]]
RETRIABLE = (3, 5, 6, 14, 15, 16, 51)
TRANSACTIONAL = 0x10


def until(ask, error):
    """The first answer without one of the errors that pass."""
    for _ in range(300):
        answer = ask()
        if error(answer) not in RETRIABLE:
            assert error(answer) == 0, answer
            return answer
        time.sleep(0.1)
    raise SystemExit(f"gave up: {answer}")


def produce(c, topic, data, txn=None):
    until(lambda: c.ask(0, 9, txn, -1, 9000, [[topic, [[0, data]]]])["Topics"][0]["Parts"][0], lambda part: part["Error"])


def keyed(i, n, keys):
    """Records of batch i: keys that come again, tombstones and headers among them."""
    for j in range(n):
        value = None if (i + j) % 11 == 0 else b"%d-%d" % (i, j) * 9
        yield record(j, value, j, b"key-%d" % ((i * 7 + j * 3) % keys), [(b"h", b"%d" % i)] if j % 4 == 0 else ())


def write(c, number):
    # Markers are of now. Data are of event times that go on from round to round, so that each rolls by time, up to an hour
    # ahead, which is as far as Kafka allows.
    begin = int(time.time() * 1000) + 60_000 * (35 * number - 85)
    at = lambda i: begin + STEP * i
    there = {topic["Name"] for topic in c.ask(3, 9, None, False, False, False)["Topics"]}
    for topic, configs in TOPICS.items():
        if topic not in there:
            made = c.ask(19, 5, [[topic, 1, 1, [], configs]], 30000, False)["Topics"][0]
            assert made["Error"] == 0, made
    for topic, codec in zip(CODEC_TOPICS, CODECS):
        for i in range(120):
            produce(c, topic, packed(codec, list(keyed(i, 5, 41)), time=at(i)))
    for i in range(100):
        # The last producer falls silent early: its batch loses every record and stays, empty, for its sequence number.
        for producer in range(3 if i >= 10 else 4):
            data = batch([b""] * 3, records=b"".join(keyed(i + producer, 3, 17)), time=at(i), producer=8000 + producer,
                         epoch=number, sequence=3 * i)
            produce(c, "compact-idempotent", data)
    for topic in ("compact-transactions", "compact-gone"):
        transactions(c, topic, at)
    # The next segment: nothing that counts is in the active one.
    for topic in TOPICS:
        produce(c, topic, packed("none", [record(0, b"active", 0, b"active")], time=begin + 60_000 * 32))


def transactions(c, topic, at):
    """Two producers, interleaved, every third transaction aborted; some without a record that stays; plain batches between."""
    ids = [f"{topic}-{n}" for n in range(2)]
    for txn in ids:
        until(lambda: c.ask(10, 2, txn, 1), lambda answer: answer["Error"])
    given = [until(lambda: c.ask(22, 2, txn, 60000), lambda answer: answer["Error"]) for txn in ids]
    sequences = [0, 0]
    for i in range(45):
        for n, txn in enumerate(ids):
            who = (txn, given[n]["Producer"], given[n]["Epoch"])
            until(lambda: c.ask(24, 2, *who, [[topic, [0]]])["Topics"][0]["Parts"][0], lambda part: part["Error"])
            for _ in range(2):
                data = batch([b""] * 3, records=b"".join(keyed(i + n, 3, 13)), time=at(i), attributes=TRANSACTIONAL, producer=who[1],
                             epoch=who[2], sequence=sequences[n])
                produce(c, topic, data, txn)
                sequences[n] += 3
        produce(c, topic, packed("none", list(keyed(i, 2, 13)), time=at(i)))
        for n, txn in enumerate(ids):
            until(lambda: c.ask(26, 2, txn, given[n]["Producer"], given[n]["Epoch"], (i + n) % 3 != 0),
                  lambda answer: answer["Error"])


def segments(path):
    return sorted(int(name[:20]) for name in os.listdir(path) if re.fullmatch(r"\d{20}\.log", name))


def wait(directory):
    missing = None
    for _ in range(600):
        try:
            with open(os.path.join(directory, "cleaner-offset-checkpoint"), encoding="utf-8") as file:
                cleaned = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in file.read().splitlines()[2:]}
        except FileNotFoundError:
            cleaned = {}
        wanted = {f"{topic} 0": segments(os.path.join(directory, f"{topic}-0"))[-1] for topic in TOPICS}
        missing = {topic: (cleaned.get(topic), offset) for topic, offset in wanted.items() if cleaned.get(topic) != offset}
        if not missing:
            return
        time.sleep(0.1)
    sys.exit(f"not cleaned: {missing}")


def contents(files, ending):
    """The lines of all files of a kind, without what depends on when, and into which files, they were written."""
    lines = []
    for file in sorted(name for name in files if name.endswith(ending)):
        for line in files[file]:
            line.pop("position", None)
            if line["type"] == "batch":
                if line["compression"] != "none":  # two libraries need not pack alike
                    line["size_in_bytes"] = line["crc"] = None
                if line["delete_horizon_ms"] is not None:
                    line["base_timestamp"] = line["crc"] = None
                    line["delete_horizon_ms"] = "some time"
            if line["type"] in ("batch", "record"):
                lines.append(line)
            elif line["type"] == "txn_index":
                lines.extend(line["entries"])
    return lines


def compare(broker, kafka, ours, *java):
    passed = failed = batches = records = 0

    def check(what, found):
        nonlocal passed, failed
        passed, failed = passed + (not found), failed + bool(found)
        print(f"FAILED {what}: {found}" if found else f"ok {what}")

    for topic in TOPICS:
        sides = [os.path.join(side, f"{topic}-0") for side in (kafka, ours)]
        theirs, seen = (dumped(broker, side) for side in sides)
        a, b = contents(theirs, ".log"), contents(seen, ".log")
        kinds = [line["type"] for line in a]
        batches, records = batches + kinds.count("batch"), records + kinds.count("record")
        check(f"{topic}: the same {kinds.count('batch')} batches and {kinds.count('record')} records remain", difference(a, b))
        a, b = contents(theirs, ".txnindex"), contents(seen, ".txnindex")
        check(f"{topic}: the same {len(a)} aborted ranges remain", difference(a, b))
        shown = [tool(java, side, [f"{base:020}.log" for base in segments(side)]) for side in sides]
        a, b = ([line for line in lines if line.startswith("| offset")] for lines in shown)
        check(f"{topic}: as DumpLogSegments sees it", difference(a, b))
        bad = [line for line in shown[1] if re.search("isvalid: false|Mismatches in|indexed offsets are not found", line)]
        check(f"{topic}: DumpLogSegments finds nothing wrong", bad[:3])
    print(f"figure: differential_compaction batches={batches} records={records} differing={failed}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "write":
        with Connection(sys.argv[2], 60) as connection:
            write(connection, int(sys.argv[3]))
    elif sys.argv[1] == "wait":
        wait(sys.argv[2])
    else:
        sys.exit(compare(*sys.argv[2:]))
