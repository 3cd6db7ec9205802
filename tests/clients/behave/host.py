"""What the broker does to its host, and under it: `host.py BROKER SCRATCH`. One line a check; the exit status says whether all held.

Locks, foreign directories, announced memory, kills under load, a full disk. Only our program; no client library.
"""

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from wire import Closed, Connection, NO_ID, batch, framed, header

BROKER, SCRATCH = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
KAFKA_STORAGE_ERROR, REQUEST_TIMED_OUT, NOT_LEADER = 56, 7, 6
failed = passed = 0


def check(what, holds, found=""):
    global failed, passed
    if holds:
        passed += 1
    else:
        failed += 1
    print(f"{'ok' if holds else 'FAILED'} {what}{'' if holds else f': found {found!r}'}", flush=True)


class Served:
    """A running broker on a directory."""

    def __init__(self, data, *settings):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            # Below the ephemeral range, where no client's socket sits.
            port = 26000 + s.getsockname()[1] % 6000
        self.address = f"127.0.0.1:{port}"
        data = [data] if isinstance(data, str) else data
        # Not on the disk under test: a full one must not take the broker's words.
        self.log_path = os.path.join(SCRATCH, os.path.basename(data[0]) + ".log")
        self.log = open(self.log_path, "ab")
        words = [x for d in data for x in ("--data", d)] + [x for s in settings for x in ("--config", s)]
        self.process = subprocess.Popen([BROKER, "serve", "--listen", self.address, *words], stdout=subprocess.PIPE,
                                        stderr=self.log)
        self.ready = self.process.stdout.readline().decode()
        if f":{port}" not in self.ready:
            self.process.kill()
            self.process.wait()
            raise SystemExit(f"FAILED the broker did not say that it is ready on {port}: {self.ready!r}\n" + self.said())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)
        self.process.stdout.close()
        self.log.close()

    def end(self, how):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def said(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode(errors="replace")

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) * 1024

    def connect(self):
        return Connection(self.address)


def create(c, name, count=1, configs=()):
    return c.ask(19, 5, [[name, count, 1, [], configs]], 30000, False)["Topics"][0]["Error"]


def produce(c, name, records):
    part = c.ask(0, 9, None, -1, 10000, [[name, [[0, records]]]])["Topics"][0]["Parts"][0]
    return part["Error"], part["Base"], part["Message"]


def fetch(c, name, offset, most=1 << 20):
    part = c.ask(1, 11, -1, 500, 1, 50 << 20, 0, 0, -1, [[name, [[0, -1, offset, -1, most]]]], [], "")["Topics"][0]["Parts"][0]
    return part["Error"], part["HighWatermark"], part["Records"] or b""


def unmount(mount):
    """The kernel closes the files of a ring some time after its process has ended: until then the mount is busy."""
    end = time.monotonic() + 20
    while subprocess.run(["umount", mount], capture_output=True).returncode:
        if time.monotonic() > end:
            subprocess.run(["umount", "-l", mount], check=True)
            return
        time.sleep(0.1)


def refused(data):
    """What a second serve on `data` says as it gives up: (status, text)."""
    done = subprocess.run([BROKER, "serve", "--data", data, "--listen", "127.0.0.1:0"], capture_output=True, timeout=30, text=True)
    return done.returncode, done.stdout + done.stderr


def tree(path):
    out = {}
    for folder, _, files in os.walk(path):
        for name in files:
            full = os.path.join(folder, name)
            with open(full, "rb") as f:
                out[os.path.relpath(full, path)] = (f.read(), os.stat(full).st_mtime_ns)
    return out


def locks():
    data = os.path.join(SCRATCH, "locks")
    with Served(data) as b:
        status, text = refused(data)
        check("a second serve is refused", status != 0, status)
        check("it names the first one's process id", str(b.process.pid) in text, text)
        with open(os.path.join(data, ".lock"), "r+") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                check("our lock stops Apache Kafka (fcntl on .lock)", False, "the lock was free")
            except OSError:
                check("our lock stops Apache Kafka (fcntl on .lock)", True)
        with b.connect() as c:
            check("the first one still answers", c.ask(18, 0)["Error"] == 0)
        check("TERM stops it cleanly", b.end(signal.SIGTERM) == 0, b.process.returncode)
        check("a clean stop leaves Kafka's marker", os.path.exists(os.path.join(data, ".kafka_cleanshutdown")))
    before = tree(data)
    with open(os.path.join(data, ".lock"), "r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status, text = refused(data)
        check("a directory that Apache Kafka holds is refused", status != 0, text)
    after = tree(data)
    check("and left as it was", {k: v[0] for k, v in before.items() if k != ".lock"} == {k: v[0] for k, v in after.items() if k != ".lock"},
          sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)))


def foreign():
    data = os.path.join(SCRATCH, "foreign")
    os.makedirs(os.path.join(data, "photos"))
    for name in ("notes.txt", "photos/cat.jpg"):
        with open(os.path.join(data, name), "w") as f:
            f.write("mine")
    before = tree(data)
    status, text = refused(data)
    check("a directory of somebody else's is refused", status != 0, text)
    check("and left untouched", tree(data) == before and sorted(os.listdir(data)) == ["notes.txt", "photos"], os.listdir(data))


def announced():
    """200 connections that each announce 100 MiB and send 8 bytes cost nothing."""
    with Served(os.path.join(SCRATCH, "announced")) as b:
        with b.connect() as c:
            create(c, "t")
            produce(c, "t", batch([b"x" * 1000]))
        before = b.memory()
        many = [b.connect() for _ in range(200)]
        for c in many:
            c.send(struct.pack(">i", 100 << 20) + b"\0\0\0\x09\0\0\0\1")
        with b.connect() as c:
            check("it answers beside 200 announced frames", c.ask(18, 0)["Error"] == 0)
        grown = b.memory() - before
        print(f"figure: announced_frames connections=200 announced_mib=20000 grown_mib={grown / 1048576:.1f}")
        check("200 frames of 100 MiB announced take less than 64 MiB", grown < 64 << 20, f"{grown >> 20} MiB")
        for c in many:
            c.socket.close()
        # The same inside a frame that is whole: counts and lengths that nothing backs.
        for key, version, body in ((3, 1, struct.pack(">i", 2_000_000_000)), (3, 12, b"\xff\xff\xff\xff\x07"), (2, 1, struct.pack(">ii", -1, 500_000_000)),
                                   (19, 2, struct.pack(">i", 400_000_000)), (32, 1, struct.pack(">i", 400_000_000)), (22, 0, struct.pack(">h", 32000))):
            with b.connect() as c:
                try:
                    c.send(framed(header(key, version, 1, version > 11) + body))
                    c.frame()
                    check(f"a count nothing backs, API {key}, closes the connection", False, "it answered")
                except Closed:
                    check(f"a count nothing backs, API {key}, closes the connection", True)
        grown = b.memory() - before
        check("and takes no memory", grown < 64 << 20, f"{grown >> 20} MiB")
        with b.connect() as c:
            part = c.ask(37, 1, [["t", 3, None]], 9000, False), c.ask(37, 1, [["t", 2, None]], 9000, False)["Results"][0]
            check("a shrink names both numbers", part[1]["Error"] == 37 and "3" in part[1]["Message"] and "2" in part[1]["Message"], part[1])
        said = b.said()
        check("malformed frames leave a line each, not more", 6 <= len(said.splitlines()) < 60, len(said.splitlines()))


def kills(rounds=8):
    """What was acknowledged is there after each kill -9, in its place; a batch that was not may be there or not, whole."""
    data, acknowledged, sent, number_of = os.path.join(SCRATCH, "kills"), {}, {}, {}
    number = 0
    for i in range(rounds):
        with Served(data) as b, b.connect() as c:
            create(c, "k")
            killed_after = time.monotonic() + 0.3 + 0.1 * i
            flight = []
            try:
                while True:
                    while len(flight) < 5:
                        number += 1
                        records = batch([b"%d:%d" % (number, j) * 50 for j in range(3)], time=1_600_000_000_000 + number)
                        # Both without their first 16 bytes: offset, length and epoch are the leader's to write, the epoch lies outside the checksum.
                        sent[number] = records[16:]
                        number_of[records[16:]] = number
                        c.request(0, 9, None, -1, 10000, [["k", [[0, records]]]])
                        flight.append(number)
                    part = c.answer(0, 9)[1]["Topics"][0]["Parts"][0]
                    if part["Error"] != 0:
                        check(f"produce before kill {i}", False, part)
                        return
                    acknowledged[part["Base"]] = flight.pop(0)
                    if time.monotonic() > killed_after and b.process.poll() is None:
                        b.process.kill()
            except (Closed, OSError):
                pass
        with Served(data) as b, b.connect() as c:
            found, at, order = {}, 0, []
            while True:
                error, high, records = fetch(c, "k", at)
                if error or not records:
                    break
                p = 0
                while p + 61 <= len(records):
                    base, length = struct.unpack_from(">qi", records, p)
                    if p + 12 + length > len(records):
                        break
                    found[base] = records[p + 16 : p + 12 + length]
                    order.append(base)
                    at = base + struct.unpack_from(">i", records, p + 23)[0] + 1
                    p += 12 + length
            lost = [n for base, n in acknowledged.items() if found.get(base) != sent[n]]
            alien = [base for base, data_ in found.items() if data_ not in number_of]
            gaps = order != list(range(0, 3 * len(order), 3)) or at != high
            if lost or alien or gaps:
                check(f"after kill {i}", False, dict(lost=len(lost), alien=len(alien), gaps=gaps, high=high, error=error))
                return
            for base, data_ in found.items():  # What was stored without an answer is there for good from now on.
                acknowledged.setdefault(base, number_of[data_])
    print(f"figure: kills_under_load kills={rounds} batches={len(sent)} acknowledged={len(acknowledged)} lost=0 changed=0")
    check(f"nothing acknowledged is lost in {rounds} kills under load", len(acknowledged) > rounds, len(acknowledged))


def full_disk():
    image, mount = os.path.join(SCRATCH, "disk.img"), os.path.join(SCRATCH, "disk")
    os.makedirs(mount)
    with open(image, "wb") as f:
        f.truncate(192 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode:
        print("skipped: full disk (no right to mount a file system)")
        return
    try:
        data = os.path.join(mount, "data")
        filler = os.path.join(mount, "filler")
        with open(filler, "wb") as f:
            f.write(bytes(40 << 20))
        with Served(data, "log.segment.bytes=16777216") as b, b.connect() as c:
            create(c, "f")
            records, stored, answer = batch([b"y" * 500_000]), 0, (0, 0, "")
            while answer[0] == 0 and stored < 1000:
                answer = produce(c, "f", records)
                stored += answer[0] == 0
            # What was in flight when the disk filled up may run into its time limit, and may be stored all the same; from then on it is plain.
            check("a full disk fails appends", answer[0] in (KAFKA_STORAGE_ERROR, REQUEST_TIMED_OUT), answer)
            answer = produce(c, "f", records)
            check("a full disk refuses appends", answer[0] == KAFKA_STORAGE_ERROR, answer)
            check("with a message that says so", "space" in (answer[2] or "").lower() or "full" in (answer[2] or "").lower(), answer[2])
            check("it held some before", stored > 10, stored)
            error, high, got = fetch(c, "f", 0)
            check("it keeps serving reads", error == 0 and high >= stored and len(got) > 500_000, (error, high, len(got)))
            error, high, got = fetch(c, "f", stored - 1)
            check("of the last record too", error == 0 and len(got) > 500_000, (error, high, len(got)))
            check("and goes on refusing", produce(c, "f", records)[0] == KAFKA_STORAGE_ERROR)
            check("metadata is served", c.ask(3, 1, None)["Topics"][0]["Name"] == "f")
            os.remove(filler)
            end = time.monotonic() + 30
            answer = produce(c, "f", records)
            while answer[0] != 0 and time.monotonic() < end:
                time.sleep(0.5)
                answer = produce(c, "f", records)
            check("it resumes when space returns, without a restart", answer[0] == 0 and answer[1] >= stored, answer)
            stored = answer[1] + 1
            # Once more, and killed while full.
            while answer[0] == 0:
                answer = produce(c, "f", records)
                stored += answer[0] == 0
            b.end(signal.SIGKILL)
        with Served(data, "log.segment.bytes=16777216") as b, b.connect() as c:
            end = time.monotonic() + 10
            error, high, got = fetch(c, "f", stored - 1)
            while error == NOT_LEADER and time.monotonic() < end:  # The log is still being opened.
                time.sleep(0.2)
                error, high, got = fetch(c, "f", stored - 1)
            check("a broker killed on a full disk starts on it and serves everything", error == 0 and high >= stored and got, (error, high, stored, b.said()[-600:]))
            # Without a byte of space the indexes cannot be written: it stops all the same, and says that it was not clean.
            status = b.end(signal.SIGTERM)
            check("and stops, cleanly or saying that not", status == 0 or "the stop was not clean" in b.said(), (status, b.said()[-600:]))
    finally:
        unmount(mount)
        os.remove(image)


def places(c):
    """{directory: (its error, {topic: bytes}, whether it tells its space)}."""
    out = {}
    for d in c.ask(35, 4, None)["Results"]:
        out[d["Dir"]] = d["Error"], {t["Name"]: sum(p["Size"] for p in t["Parts"]) for t in d["Topics"]}, 0 < d["Usable"] < d["Total"]
    return out


def eventually(question):
    """Asks until the answer is true or ten seconds have passed."""
    end = time.monotonic() + 10
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.1)
    return answer


def directories():
    """Of two data directories one fails: it goes offline alone, at run time and at a start, and is whole when it is back."""
    image, mount = os.path.join(SCRATCH, "dirs.img"), os.path.join(SCRATCH, "dirs")
    good, bad = os.path.join(SCRATCH, "good"), os.path.join(mount, "bad")
    os.makedirs(mount)
    with open(image, "wb") as f:
        f.truncate(192 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode:
        print("skipped: directories (no right to mount a file system)")
        return
    records, topics = batch([b"d" * 1000]), ("d0", "d1", "d2", "d3")
    try:
        with Served([good, bad]) as b, b.connect() as c:
            for name in topics:
                check(f"{name} is made and written", create(c, name) == 0 and produce(c, name, records)[0] == 0)
            found = places(c)
            of = {name: d for d, (_, sizes, _) in found.items() for name in sizes}
            check("new partitions go to the emptiest directory", sorted(of) == list(topics) and len(set(of.values())) == 2
                  and sorted(len(sizes) for _, sizes, _ in found.values()) == [2, 2], found)
            check("each tells its sizes and its space", all(e == 0 and told and set(s.values()) == {1070} for e, s, told in found.values()), found)
            on_good, on_bad = ([n for n in topics if of[n] == d] for d in (good, bad))
            fd = os.open(mount, os.O_RDONLY)
            fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))  # EXT4_IOC_SHUTDOWN: from now on everything there fails.
            os.close(fd)
            answer = produce(c, on_bad[0], records)
            check("a partition on it answers KAFKA_STORAGE_ERROR", answer[0] == KAFKA_STORAGE_ERROR, answer)
            check("and soon every one there does, to readers too",
                  eventually(lambda: all(produce(c, n, records)[0] == KAFKA_STORAGE_ERROR == fetch(c, n, 0)[0] for n in on_bad)))
            check("the others are served", all(produce(c, n, records)[:2] == (0, 1) and fetch(c, n, 0)[1] == 2 for n in on_good))
            found = places(c)
            check("DescribeLogDirs shows it", found[bad][:2] == (KAFKA_STORAGE_ERROR, {}) and found[good][0] == 0, found)
            check("new partitions go elsewhere", all(create(c, n) == 0 and produce(c, n, records)[0] == 0 for n in ("e0", "e1"))
                  and {"e0", "e1"} <= set(places(c)[good][1]))
            said = [line for line in b.said().splitlines() if "ERROR" in line]
            check("one line says so", len(said) == 1 and f"data directory {bad} is offline" in said[0], said)
            check("it stops cleanly without it", b.end(signal.SIGTERM) == 0, b.said()[-600:])
        unmount(mount)
        with open(bad, "w") as f:
            f.write("no directory")
        with Served([good, bad]) as b, b.connect() as c:
            check("it starts although one is broken", places(c)[bad][0] == KAFKA_STORAGE_ERROR, places(c))
            check("and serves the others", all(fetch(c, n, 0)[:2] == (0, 2) for n in on_good))
            check("what lies on it is not made anew", all(produce(c, n, records)[0] == KAFKA_STORAGE_ERROR for n in on_bad))
            b.end(signal.SIGKILL)
        os.remove(bad)
        status, text = refused("/dev/null/none")
        check("without any it does not start", status != 0 and "/dev/null" in text, text)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True)
        with Served([good, bad]) as b, b.connect() as c:
            check("back again, it is whole", all(fetch(c, n, 0)[0] == 0 and fetch(c, n, 0)[1] >= 1 and produce(c, n, records)[0] == 0 for n in topics),
                  (places(c), b.said()[-600:]))
    finally:
        if os.path.ismount(mount):
            unmount(mount)
        os.remove(image)


def ids():
    """Producer ids are never given twice, across a clean stop and a kill; topics keep their ids."""
    data, seen, topic = os.path.join(SCRATCH, "ids"), [], None
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        with Served(data) as b, b.connect() as c:
            seen += [c.ask(22, 4, None, 60000, -1, -1)["Producer"] for _ in range(5)]
            create(c, "i", 2, [["retention.ms", "12345"]])
            answer = c.ask(3, 12, [[NO_ID, "i"]], False, False)["Topics"][0]
            now = answer["Id"], len(answer["Parts"]), c.ask(32, 1, [[2, "i", ["retention.ms"]]], False)["Results"][0]["Configs"][0]["Value"]
            topic = topic or now
            if now != topic:
                check("a topic keeps its id, partitions and settings", False, (topic, now))
            b.end(how)
    check("a topic keeps its id, partitions and settings over stops and kills", now == topic)
    check("no producer id is given twice", len(set(seen)) == len(seen) and seen == sorted(seen), seen)


if __name__ == "__main__":
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.makedirs(SCRATCH)
    checks = dict(locks=locks, foreign=foreign, announced=announced, ids=ids, kills=kills, full_disk=full_disk, directories=directories)
    for name in sys.argv[3:] or checks:
        try:
            checks[name]()
        except (Closed, OSError, ValueError, IndexError, KeyError, TypeError, subprocess.SubprocessError, SystemExit) as e:
            check(name, False, f"{type(e).__name__}: {e}")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
