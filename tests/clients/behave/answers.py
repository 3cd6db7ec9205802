"""Asks a broker what client libraries do not ask and prints one line an answer: `answers.py BOOTSTRAP`.

answers.txt holds the lines that Apache Kafka 4.3.1 gave; ours must give the same. What legitimately differs (ids, ports, times, the
wording of messages) is not printed. A broker with `num.partitions=3` on a fresh directory is expected.
"""

import struct
import sys
import time

from wire import APIS, Closed, Connection, NO_ID, batch, framed, header, parse, record, uvarint

SERVED = (0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 32, 35, 37, 44, 60)
lines = []


def say(name, *what):
    line = f"{name}: " + " ".join(str(w) for w in what)
    lines.append(line)
    print(line, flush=True)


def patiently(question):
    """Asks until the answer is true or ten seconds have passed: for what the oracle does in the background."""
    for _ in range(100):
        answer = question()
        if answer:
            return answer
        time.sleep(0.1)
    return answer


class Broker:
    """One connection, and shorthands that return what matters of an answer."""

    def __init__(self, address):
        self.address, self.c = address, Connection(address)

    def create(self, name, count=1, factor=1, configs=(), check=False, version=5):
        error = self.c.ask(19, version, [[name, count, factor, [], configs]], 30000, check)["Topics"][0]["Error"]
        if error == 0 and not check:
            # Apache Kafka leads a partition only some time after the topic was created.
            patiently(lambda: all(self.offset(name, -1, i)[0] == 0 for i in range(max(count, 1))))
        return error

    def produce(self, topic, records, index=0, acks=-1, version=9, txn=None):
        self.c.request(0, version, txn, acks, 10000, [[topic, [[index, records]]]])
        if acks == 0:
            return None
        part = self.c.answer(0, version)[1]["Topics"][0]["Parts"][0]
        return part["Error"], part["Base"]

    def offset(self, topic, timestamp, index=0, version=7, epoch=-1):
        part = self.c.ask(2, version, -1, 0, [[topic, [[index, epoch, timestamp]]]], *([1000] if version >= 10 else []))
        part = part["Topics"][0]["Parts"][0]
        return part["Error"], part["Timestamp"], part["Offset"]

    def fetch(self, topic, offset, index=0, version=11, wait=200, least=1, most=1 << 20, epoch=-1, session=0, session_epoch=-1,
              isolation=0):
        part = [index, epoch, offset, -1, most] if version < 12 else [index, epoch, offset, -1, -1, most]
        head = [-1] if version <= 14 else []
        answer = self.c.ask(1, version, *head, wait, least, 50 << 20, isolation, session, session_epoch, [[topic, [part]]], [], "")
        if not answer["Topics"]:
            return answer["Error"], None, None, b""
        part = answer["Topics"][0]["Parts"][0]
        return part["Error"] or answer["Error"], part["HighWatermark"], part["LogStart"], part["Records"] or b""

    def metadata(self, topics, auto=False, version=12):
        return self.c.ask(3, version, topics, auto, *([False] if version in (8, 9, 10) else []), *([False] if version >= 8 else []))

    def topic_id(self, name):
        return self.metadata([[NO_ID, name]])["Topics"][0]["Id"]

    def configs(self, kind, name, keys):
        result = self.c.ask(32, 4, [[kind, name, keys]], False, False)["Results"][0]
        return result["Error"], sorted((c["Name"], c["Value"], c["Source"]) for c in result["Configs"])

    def alter(self, kind, name, configs, check=False):
        return self.c.ask(44, 1, [[kind, name, configs]], check)["Responses"][0]["Error"]


def bases(records):
    """(base offset, records) of each whole batch in fetched bytes."""
    out, at = [], 0
    while at + 61 <= len(records):
        base, length = struct.unpack_from(">qi", records, at)
        if at + 12 + length > len(records):
            break
        out.append((base, struct.unpack_from(">i", records, at + 57)[0]))
        at += 12 + length
    return out


def api_versions(b):
    for version in range(0, 5):
        answer = b.c.ask(18, version, *(["behave", "1.0"] if version >= 3 else []))
        ranges = {k["Key"]: (k["Min"], k["Max"]) for k in answer["Keys"]}
        say(f"ApiVersions {version}", answer["Error"], *(f"{k}={ranges.get(k)}" for k in SERVED))
    with Connection(b.address) as c:
        c.send(framed(header(18, 99, 7, True) + b"\x07behave\x041.0\0"))
        say("ApiVersions 99", c.frame().hex())
        say("ApiVersions on the same connection", c.ask(18, 3, "behave", "1.0")["Error"])
    for name in ("", "-x", "a b", "x-"):
        say(f"ApiVersions by software {name!r}", b.c.ask(18, 3, name, "1.0")["Error"])


def topics(b):
    say("CreateTopics", b.create("a", 3))
    say("CreateTopics again", b.create("a", 3))
    for title, arguments in {
        "0 partitions": dict(name="b", count=0), "-2 partitions": dict(name="b", count=-2), "factor 0": dict(name="b", factor=0),
        "factor 2 of one broker": dict(name="b", factor=2), "slash": dict(name="b/c"), "dots": dict(name=".."), "empty": dict(name=""),
        "250 characters": dict(name="x" * 250), "unknown config": dict(name="b", configs=[["no.such", "1"]]),
        "bad value": dict(name="b", configs=[["retention.ms", "soon"]]), "below bounds": dict(name="b", configs=[["segment.bytes", "10"]]),
        "null value": dict(name="b", configs=[["retention.ms", None]]), "check only": dict(name="b", check=True),
    }.items():
        say(f"CreateTopics {title}", b.create(**arguments))
    say("was it created", b.metadata([[NO_ID, "b"]])["Topics"][0]["Error"])
    say("CreateTopics twice in one request", *(t["Error"] for t in b.c.ask(19, 5, [["b", 1, 1, [], []], ["b", 1, 1, [], []]], 9000, False)["Topics"]))
    say("CreateTopics with defaults", b.create("defaults", -1, -1),
        len(b.metadata([[NO_ID, "defaults"]])["Topics"][0]["Parts"]))
    say("CreateTopics assigned", b.c.ask(19, 5, [["assigned", -1, -1, [[0, [99]]], []]], 9000, False)["Topics"][0]["Error"])
    answer = b.c.ask(19, 7, [["with", 2, 1, [], [["retention.ms", "5000"]]]], 9000, False)["Topics"][0]
    say("CreateTopics 7", answer["Error"], answer["Count"], answer["Factor"], answer["Id"] != NO_ID,
        [(c["Name"], c["Value"], c["Source"]) for c in answer["Configs"] if c["Name"] == "retention.ms"])
    for title, name, count in (("grow", "a", 5), ("same", "a", 5), ("shrink", "a", 2), ("zero", "a", 0), ("unknown", "nosuch", 5)):
        say(f"CreatePartitions {title}", b.c.ask(37, 3, [[name, count, None]], 9000, False)["Results"][0]["Error"])
    say("CreatePartitions check only", b.c.ask(37, 1, [["a", 9, None]], 9000, True)["Results"][0]["Error"],
        len(b.metadata([[NO_ID, "a"]])["Topics"][0]["Parts"]))
    say("Metadata unknown", b.metadata([[NO_ID, "nosuch"]])["Topics"][0]["Error"])
    say("Metadata bad name", b.metadata([[NO_ID, "a/b"]], True)["Topics"][0]["Error"])
    say("Metadata unknown id", b.metadata([[b"\1" * 16, None]])["Topics"][0]["Error"])
    say("Metadata by id", b.metadata([[b.topic_id("a"), None]])["Topics"][0]["Name"])
    say("Metadata none", len(b.metadata([])["Topics"]))
    say("Metadata 1 none and all", len(b.c.ask(3, 1, [])["Topics"]),
        sorted(t["Name"] for t in b.c.ask(3, 1, None)["Topics"]))
    answer = b.metadata(None)
    say("Metadata all", [(t["Name"], t["Error"], [(p["Index"], len(p["Isr"]), p["Offline"]) for p in sorted(t["Parts"], key=lambda p: p["Index"])])
                         for t in sorted(answer["Topics"], key=lambda t: t["Name"])], answer["Controller"] in [x["Id"] for x in answer["Brokers"]])
    cluster = b.c.ask(60, 1, False, 1)
    say("DescribeCluster", cluster["Error"], len(cluster["Brokers"]), cluster["Controller"] in [x["Id"] for x in cluster["Brokers"]],
        cluster["Cluster"] == answer["Cluster"])
    say("DeleteTopics unknown", b.c.ask(20, 3, ["nosuch"], 9000)["Topics"][0]["Error"])
    say("DeleteTopics unknown id", b.c.ask(20, 6, [[None, b"\1" * 16]], 9000)["Topics"][0]["Error"])
    answer = b.c.ask(20, 6, [[None, b.topic_id("with")]], 9000)["Topics"][0]
    say("DeleteTopics by id", answer["Name"], answer["Error"])
    say("DeleteTopics by name", sorted(t["Error"] for t in b.c.ask(20, 5, ["assigned", "defaults"], 9000)["Topics"]))
    say("it has gone", patiently(lambda: b.metadata([[NO_ID, "defaults"]])["Topics"][0]["Error"]))


def produce(b):
    b.create("p", 2)
    one = batch([b"one"])
    say("Produce", b.produce("p", one), b.produce("p", batch([b"x"] * 3)), b.produce("p", one))
    for version in (3, 5, 7, 8, 9, 10, 11, 12):
        say(f"Produce {version}", b.produce("p", one, version=version))
    say("Produce 13", b.produce(b.topic_id("p"), one, version=13), b.produce(b"\1" * 16, one, version=13))
    say("Produce unknown topic", b.produce("nosuch", one), "partition", b.produce("p", one, 99))
    for acks in (1, 2, -2):
        say(f"Produce acks={acks}", b.produce("p", one, acks=acks))
    b.produce("p", one, acks=0)
    say("Produce acks=0, end after it", b.offset("p", -1))
    for title, records in {
        "corrupt": batch([b"x"], damage=True), "two batches": one + one, "no record": batch([], last_delta=0), "count 2 of 1": batch([b"x"], count=2),
        "negative count": batch([b"x"], count=-1), "last delta -1": batch([b"x"], last_delta=-1), "range 3, count 1": batch([b"x"], last_delta=2),
        "base offset 5": batch([b"x"], base=5), "control": batch([b"x"], attributes=0x20), "magic 1": batch([b"x"], magic=1),
        "empty records": b"", "60 bytes": one[:60], "one byte short": one[:-1],
        "trailing byte": one + b"\0", "too large": batch([b"x" * 1100000]), "an hour and more ahead": batch([b"x"], time=4_000_000_000_000),
        "no timestamp": batch([b"x"], time=-1), "trailing bytes in the batch": batch([b"x"], records=record(0, b"x") + b"junk"),
        "record length 2^31": batch([b"x"], records=uvarint(0xFFFFFFFF) + b"x"), "length -1": one[:8] + b"\xff" * 4 + one[12:],
        "length 3": one[:8] + struct.pack(">i", 3) + one[12:], "length 1 GiB": one[:8] + struct.pack(">i", 1 << 30) + one[12:],
        "producer without sequence": batch([b"x"], producer=5, epoch=0, sequence=-1),
    }.items():
        error, _ = b.produce("p", records, 1)
        say(f"Produce {title}", error)
    say("stored of these", b.offset("p", -1, 1), bases(b.fetch("p", 0, 1)[3]))
    say("Produce one good, one corrupt", sorted((p["Index"], p["Error"]) for p in b.c.ask(
        0, 9, None, -1, 9000, [["p", [[0, one], [1, batch([b"x"], damage=True)]]]])["Topics"][0]["Parts"]))
    say("Produce zstd by version 6", b.produce("p", batch([b"x"], attributes=4), version=6)[0])
    # Refused; Apache Kafka answers UNKNOWN_SERVER_ERROR, and CORRUPT_MESSAGE to the magic.
    say("Produce corrupt gzip", b.produce("p", batch([b"x"], attributes=1), 1)[0] != 0)
    say("Produce codec 7", b.produce("p", batch([b"x"], attributes=7), 1)[0] != 0)
    say("Produce magic 3", b.produce("p", batch([b"x"], magic=3), 1)[0] != 0)
    say("Produce bad varint", b.produce("p", batch([b"x"], records=b"\xff" * 12), 1)[0] != 0)
    say("Produce append time flag", b.produce("p", batch([b"x"], attributes=8), 1)[0])


def idempotence(b):
    b.create("i")
    made = {}
    patiently(lambda: made.update(b.c.ask(22, 4, None, 60000, -1, -1)) or made["Error"] == 0)
    again = b.c.ask(22, 4, None, 60000, -1, -1)
    producer = made["Producer"]
    say("InitProducerId", made["Error"], made["Epoch"], again["Producer"] > producer)
    for title, values, epoch, sequence in (
        ("0", 2, 0, 0), ("2", 1, 0, 2), ("again 0", 2, 0, 0), ("again 2", 1, 0, 2), ("gap", 1, 0, 7), ("3", 1, 0, 3), ("4", 1, 0, 4),
        ("5", 1, 0, 5), ("6", 1, 0, 6), ("again 2, still remembered", 1, 0, 2), ("7", 1, 0, 7), ("again 0, forgotten", 2, 0, 0),
        ("new epoch, 0", 1, 1, 0), ("old epoch", 1, 0, 8), ("new epoch from 5", 1, 2, 5), ("new epoch, 1", 1, 1, 1),
    ):
        say(f"idempotent {title}", b.produce("i", batch([b"v"] * values, producer=producer, epoch=epoch, sequence=sequence)))
    say("idempotent from 9, unknown producer", b.produce("i", batch([b"v"], producer=again["Producer"], epoch=0, sequence=9)))
    say("end", b.offset("i", -1))


def reading(b):
    b.create("r")
    for i in range(10):
        b.produce("r", batch([b"%d" % i] * 2, time=1_600_000_000_000 + i * 1000))
    for timestamp in (-1, -2, -3, -4, 0, 1_600_000_000_000, 1_600_000_000_001, 1_600_000_000_002, 1_600_000_004_500, 1_600_000_009_001, 1_600_000_009_002):
        say(f"ListOffsets {timestamp}", b.offset("r", timestamp, version=8))
    for version in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11):
        head = [-1] + ([0] if version >= 2 else [])
        part = [0] + ([-1] if version >= 4 else []) + [-1]
        answer = b.c.ask(2, version, *head, [["r", [part]]], *([1000] if version >= 10 else []))["Topics"][0]["Parts"][0]
        say(f"ListOffsets {version}", answer["Error"], answer["Offset"])
    say("ListOffsets unknown partition", b.offset("r", -1, 9), "topic", b.offset("nosuch", -1))
    say("ListOffsets newer epoch", b.offset("r", -1, epoch=9))
    say("ListOffsets -9", b.offset("r", -9, version=11)[0])
    for version in (4, 5, 6):
        part = [0, 5, -1, 1 << 20] if version >= 5 else [0, 5, 1 << 20]
        answer = b.c.ask(1, version, -1, 200, 1, 1 << 20, 0, [["r", [part]]])["Topics"][0]["Parts"][0]
        say(f"Fetch {version} at 5", answer["Error"], answer["HighWatermark"], bases(answer["Records"])[:2])
    for version in (7, 8, 9, 10, 11, 12):
        part = [0] + ([-1] if version >= 9 else []) + [5] + ([-1] if version >= 12 else []) + [-1, 1 << 20]
        answer = b.c.ask(1, version, -1, 200, 1, 1 << 20, 0, 0, -1, [["r", [part]]], [], *([""] if version >= 11 else []))
        part = answer["Topics"][0]["Parts"][0]
        say(f"Fetch {version} at 5", answer["Error"], answer["Session"], part["Error"], part["HighWatermark"], bases(part["Records"])[:2])
    for version in (13, 15, 16, 17, 18):
        error, high, start, records = b.fetch(b.topic_id("r"), 5, version=version)
        say(f"Fetch {version} at 5", error, high, start, bases(records)[:2])
    say("Fetch unknown id", b.fetch(b"\1" * 16, 0, version=13)[0])
    for offset in (0, 19, 20, 21, -1, 1 << 40):
        error, high, start, records = b.fetch("r", offset)
        say(f"Fetch at {offset}", error, high, start, bases(records)[:1])
    say("Fetch a byte at most", bases(b.fetch("r", 3, most=1)[3]))
    say("Fetch read_committed", bases(b.fetch("r", 18, isolation=1)[3]))
    say("Fetch unknown topic", b.fetch("nosuch", 0)[0], "partition", b.fetch("r", 0, 9)[0])
    say("Fetch newer epoch", b.fetch("r", 0, epoch=9)[0])
    say("Fetch unknown session", b.fetch("r", 0, session=123456, session_epoch=5)[0])
    for title, current, epoch, index in (("0", -1, 0, 0), ("9", -1, 9, 0), ("current 9", 9, 0, 0), ("partition 9", -1, 0, 9)):
        answer = b.c.ask(23, 4, -1, [["r", [[index, current, epoch]]]])["Topics"][0]["Parts"][0]
        say(f"OffsetForLeaderEpoch {title}", answer["Error"], answer["Epoch"], answer["End"])
    for title, offset, index in (("5", 5, 0), ("3, below the start", 3, 0), ("21", 21, 0), ("-5", -5, 0), ("partition 9", 0, 9)):
        answer = b.c.ask(21, 2, [["r", [[index, offset]]]], 9000)["Topics"][0]["Parts"][0]
        say(f"DeleteRecords {title}", answer["Error"], answer["LowWatermark"])
    say("start", b.offset("r", -2), "Fetch below it", b.fetch("r", 2)[0], "within a batch", bases(b.fetch("r", 5)[3])[:1])
    answer = b.c.ask(21, 1, [["r", [[0, -1]]]], 9000)["Topics"][0]["Parts"][0]
    say("DeleteRecords all", answer["Error"], answer["LowWatermark"], b.offset("r", -2), b.fetch("r", 20)[:3])
    say("Produce after it", b.produce("r", batch([b"x"])), b.offset("r", -3, version=8)[0])


def sessions(b):
    """Fetch sessions: what opens, continues and closes one, what it leaves out, and in which order its partitions come."""
    for name in ("f", "g"):
        b.create(name, 3)
    one = batch([b"x"])
    f = b.topic_id("f")
    ids = {}

    def ask(title, session, epoch, parts=(), forgotten=(), version=12, least=0, most=50 << 20, each=1 << 20):
        """`parts`: (topic, partition, offset). Session ids are told as the first one seen, the second one seen, and so on."""
        head = [-1] if version <= 14 else []
        topics = [[topic, [[index, -1, offset, -1, -1, each]]] for topic, index, offset in parts]
        answer = b.c.ask(1, version, *head, 500, least, most, 0, session, epoch, topics, [[topic, [index]] for topic, index in forgotten], "")
        got = answer["Session"]
        told = [(t.get("Name", "id"), p["Index"], p["Error"], p["HighWatermark"], p["LogStart"], len(bases(p["Records"] or b"")))
                for t in answer["Topics"] for p in t["Parts"]]
        say(f"session: {title}", answer["Error"], ids.setdefault(got, len(ids)), *told)
        return got

    ids[0] = 0
    all_of_it = [("f", 0, 0), ("f", 1, 0), ("g", 0, 0)]
    ask("none wanted", 0, -1, all_of_it)
    s = ask("opened", 0, 0, all_of_it)
    ask("nothing new", s, 1)
    b.produce("f", one, 1)
    ask("new records", s, 2)
    ask("the same records again", s, 3)
    ask("read on", s, 4, [("f", 1, 1)])
    ask("nothing new again", s, 5, [("f", 1, 1)])
    ask("partition added", s, 6, [("g", 1, 0), ("f", 2, 0)])
    ask("unknown partition added", s, 7, [("g", 9, 0)])
    ask("an error is told again", s, 8)
    ask("forgotten", s, 9, [], [("g", 9)])
    b.c.ask(21, 2, [["f", [[1, 1]]]], 9000)
    ask("log start moved", s, 10)
    ask("out of range", s, 11, [("f", 1, 77)])
    ask("and back", s, 12, [("f", 1, 1)])
    ask("epoch again", s, 12)
    ask("epoch ahead", s, 20)
    ask("epoch -5", s, -5)
    ask("unknown session", s ^ 1, 13)
    ask("no session, epoch 3", 0, 3)
    ask("by topic id", s, 13, [(f, 0, 0)], version=13)
    ask("after these errors", s, 13)
    ask("added and forgotten at once", s, 14, [("g", 2, 0)], [("g", 2)])
    for index in (0, 1, 2):
        b.produce("f", one * 1, index)
    for epoch in range(15, 19):
        ask(f"one batch at most, {epoch}", s, epoch, [("f", 1, 1)] if epoch == 15 else [], most=1, each=1)
    ask("full fetch of it", s, -1, [("f", 0, 0)])
    ask("after it", s, 19)
    s = ask("opened again", 0, 0, [("f", 0, 0)])
    ask("all forgotten", s, 1, [], [("f", 0)])
    ask("after that", s, 2)
    s = ask("opened anew", 0, 0, [("f", 0, 0)])
    t = ask("replaced", s, 0, [("f", 1, 1)])
    ask("the old one", s, 1)
    ask("the new one", t, 1)
    e = ask("opened with nothing", 0, 0)
    if e:
        ask("nothing of nothing", e, 1)
    u = ask("opened with unknown topic", 0, 0, [("nosuch", 0, 0), ("f", 0, 1)])
    ask("still unknown", u, 1)
    i = ask("opened by id", 0, 0, [(f, 0, 0), (b"\1" * 16, 0, 0)], version=13)
    ask("continued by id", i, 1, [(f, 0, 1)], version=13)
    ask("by name", i, 2, [("g", 0, 0)])
    ask("continued in version 17", i, 2, version=17)
    b.c.ask(20, 5, ["g"], 9000)
    patiently(lambda: b.metadata([[NO_ID, "g"]])["Topics"][0]["Error"] != 0)
    d = ask("topic deleted", 0, 0, [("g", 0, 0), ("f", 0, 1)])
    ask("still deleted", d, 1)
    for version in (4, 7, 9, 11):
        part = [0] + ([-1] if version >= 9 else []) + [0] + ([-1] if version >= 5 else []) + [1 << 20]
        more = [0, 0] if version >= 7 else []
        answer = b.c.ask(1, version, -1, 500, 0, 1 << 20, 0, *more, [["f", [part]]], *([[]] if version >= 7 else []), *([""] if version >= 11 else []))
        say(f"session: opened in version {version}", answer.get("Error"), bool(answer.get("Session")))


def directories(b):
    """What the data directories hold."""
    b.create("h", 2)
    b.produce("h", batch([b"x" * 1000]), 1)

    def described(topics, version):
        """Without `__consumer_offsets` and the like, which only Apache Kafka has."""
        answer = b.c.ask(35, version, topics)
        return answer.get("Error"), [
            (d["Error"], [(t["Name"], sorted((p["Index"], p["Size"], p["Lag"], p["Future"]) for p in t["Parts"]))
                          for t in sorted(d["Topics"], key=lambda t: t["Name"])],
             *((d["Total"] > d["Usable"] > 0,) if version >= 4 else ()), *((d["Cordoned"],) if version >= 5 else ()))
            for d in answer["Results"]]

    for version in range(1, 6):
        say(f"DescribeLogDirs {version}", *described([["h", [0, 1]]], version))
    for title, topics in {"unknown": [["nosuch", [0]], ["h", [9]]], "none": [], "one": [["h", [1]]], "one twice": [["h", [1, 1]], ["h", [1]]]}.items():
        say(f"DescribeLogDirs {title}", *described(topics, 4))
    error, found = described(None, 4)
    # Where records were deleted, the sizes differ: when a whole segment goes is a broker's own affair.
    say("DescribeLogDirs all", error, {"f", "h", "r"} <= {t[0] for t in found[0][1]}, [t for t in found[0][1] if t[0] == "h"])


def settings(b):
    b.create("s", configs=[["retention.ms", "60000"]])
    keys = ["retention.ms", "max.message.bytes", "flush.messages", "message.timestamp.type", "cleanup.policy", "no.such"]
    say("DescribeConfigs", b.configs(2, "s", keys))
    say("DescribeConfigs unknown topic", b.configs(2, "nosuch", keys)[0])
    say("DescribeConfigs bad type", b.configs(77, "s", keys)[0])
    say("IncrementalAlterConfigs", b.alter(2, "s", [["max.message.bytes", 0, "500"], ["retention.ms", 1, None]]))
    say("after it", b.configs(2, "s", keys))
    say("Produce beyond the new bound", b.produce("s", batch([b"x" * 600]))[0], b.produce("s", batch([b"x" * 60]))[0])
    for title, change in {
        "unknown": ["no.such", 0, "1"], "bad value": ["retention.ms", 0, "soon"], "append to a number": ["retention.ms", 2, "1"], "null": ["retention.ms", 0, None],
    }.items():
        say(f"IncrementalAlterConfigs {title}", b.alter(2, "s", [change]))
    say("IncrementalAlterConfigs bad operation", b.alter(2, "s", [["retention.ms", 9, "1"]]) != 0)
    say("IncrementalAlterConfigs twice", b.alter(2, "s", [["retention.ms", 0, "1"], ["retention.ms", 0, "2"]]))
    say("IncrementalAlterConfigs unknown topic", b.alter(2, "nosuch", [["retention.ms", 0, "1"]]))
    say("IncrementalAlterConfigs check only", b.alter(2, "s", [["retention.ms", 0, "7"]], True), b.configs(2, "s", ["retention.ms"]))
    b.create("times", configs=[["message.timestamp.type", "LogAppendTime"]])
    b.produce("times", batch([b"x"], time=5))
    say("LogAppendTime", b.offset("times", -3, version=8)[1] > 1_700_000_000_000, b.fetch("times", 0)[3][22] & 8)


def bad_frames(b):
    good = header(3, 1, 1, False) + struct.pack(">i", -1)
    for title, data in {
        "negative size": struct.pack(">i", -1) + good, "size 0": struct.pack(">i", 0), "size 2^31-1": b"\x7f\xff\xff\xff" + good,
        "100 MiB and a byte": struct.pack(">i", 104857601) + good, "unknown key": framed(header(999, 0, 1, False)),
        "key -1": framed(header(-1, 0, 1, False)), "Metadata 99": framed(header(3, 99, 1, True)), "Metadata -1": framed(header(3, -1, 1, False)),
        "Produce 2": framed(header(0, 2, 1, False) + bytes(10)), "Fetch 3": framed(header(1, 3, 1, False) + bytes(30)), "empty body": framed(header(2, 1, 1, False)),
        "two billion topics": framed(header(3, 1, 1, False) + struct.pack(">i", 2_000_000_000)),
        "two billion partitions": framed(header(2, 1, 1, False) + struct.pack(">iih", -1, 1, 1) + b"t" + struct.pack(">i", 2_000_000_000)),
        "flexible count of 2^60": framed(header(3, 12, 1, True) + b"\xff\xff\xff\xff\xff\xff\xff\xff\x0f"),
        "string longer than the frame": framed(header(19, 2, 1, False) + struct.pack(">ih", 1, 30000) + b"t"),
        "records longer than the frame": framed(header(0, 3, 1, False) + struct.pack(">hhiih", -1, -1, 1000, 1, 1) + b"p" + struct.pack(">iii", 1, 0, 1 << 30)),
        "client id longer than the frame": framed(struct.pack(">hhih", 3, 1, 1, 3000)), "7 bytes": framed(b"\0\3\0\1\0\0\0"), "HTTP": b"GET / HTTP/1.1\r\n\r\n",
        "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(155), "0xff": b"\xff" * 64, "heap of tags": framed(header(3, 12, 1, False) + b"\xff\xff\xff\xff\x0f"),
    }.items():
        with Connection(b.address, 5) as c:
            try:
                c.send(data)
                c.frame()
                say(f"frame: {title}", "answered")
            except Closed:
                say(f"frame: {title}", "closed")
            except TimeoutError:
                say(f"frame: {title}", "open and silent")
    say("other connections", b.c.ask(18, 0)["Error"])
    with Connection(b.address) as c:
        sent = [c.request(18, v % 3) for v in range(20)]
        say("pipelined", [c.answer(18, v % 3)[0] for v in range(20)] == sent)
    with Connection(b.address) as c:
        data = framed(good)
        for at in range(len(data)):
            c.send(data[at : at + 1])
        reader = c.frame()
        say("a byte at a time", reader[:4].hex())


if __name__ == "__main__":
    broker = Broker(sys.argv[1])
    for part in (api_versions, topics, produce, idempotence, reading, sessions, directories, settings, bad_frames):
        try:
            part(broker)
        except (Closed, TimeoutError, ValueError, IndexError, KeyError, TypeError, struct.error) as e:
            say(part.__name__, f"stopped: {type(e).__name__} {e}")
            if "-v" in sys.argv:
                raise
            try:
                broker = Broker(sys.argv[1])
            except OSError as gone:
                sys.exit(f"the broker has gone: {gone}")
