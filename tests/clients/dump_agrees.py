"""Compares what Apache Kafka's DumpLogSegments and `highwater dump --json` read in a stopped log directory.

    dump_agrees.py BROKER LOG_DIRECTORY LOADED JAVA...

LOADED is what LoadLogs printed of it; JAVA... starts DumpLogSegments. One line a partition; the exit status says whether all agreed.
"""

import json
import os
import re
import subprocess
import sys

# What the tool says when something is wrong; its exit status is not enough.
COMPLAINTS = ("isvalid: false", "Mismatches in", "timestamp mismatch", "Out of order", "are not found", "xception")
NONE = -1


def theirs(java, partition, files):
    """{(file, kind): [entries]} and what it complained of, by DumpLogSegments."""
    paths = ",".join(os.path.join(partition, f) for f in files)
    done = subprocess.run([*java, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", paths],
                          capture_output=True, text=True, errors="replace", timeout=600)
    out, file, complaints = {}, None, []
    if done.returncode:
        complaints.append(f"DumpLogSegments: exit status {done.returncode}")
    for line in (done.stdout + done.stderr).splitlines():
        # It takes a segment's start for a gap: "-1 is followed by 72" is none.
        gap = re.fullmatch(r"\s*(-?\d+) is followed by (\d+)", line)
        if gap and gap[1] != "-1" or any(c in line for c in COMPLAINTS):
            complaints.append(line.strip())
        if line.startswith("Dumping "):
            file = os.path.basename(line[8:].strip())
            out[file] = []
            continue
        fields = dict(re.findall(r"(\w+): (\S+)", line))
        if line.startswith("baseOffset:"):
            out[file].append(dict(
                base_offset=int(fields["baseOffset"]), last_offset=int(fields["lastOffset"]), record_count=int(fields["count"]),
                base_sequence=int(fields["baseSequence"]), last_sequence=int(fields["lastSequence"]), producer_id=int(fields["producerId"]),
                producer_epoch=int(fields["producerEpoch"]), partition_leader_epoch=int(fields["partitionLeaderEpoch"]),
                is_transactional=fields["isTransactional"] == "true", is_control=fields["isControl"] == "true", position=int(fields["position"]),
                size_in_bytes=int(fields["size"]), magic=int(fields["magic"]), compression=fields["compresscodec"], crc=int(fields["crc"]),
                is_valid=fields["isvalid"] == "true", max_timestamp=int(fields.get("CreateTime", fields.get("LogAppendTime", NONE)))))
        elif file.endswith(".index") and line.startswith("offset:"):
            out[file].append([int(fields["offset"]), int(fields["position"])])
        elif file.endswith(".timeindex") and line.startswith("timestamp:"):
            out[file].append([int(fields["timestamp"]), int(fields["offset"])])
        elif file.endswith(".snapshot") and line.startswith("producerId:"):
            out[file].append([int(fields[k]) if k in fields else NONE for k in
                              ("producerId", "producerEpoch", "coordinatorEpoch", "lastTimestamp", "firstSequence", "lastSequence", "lastOffset", "offsetDelta")])
    return out, complaints


def ours(broker, partition):
    """The same by `highwater dump --json`, and the segments' own lines."""
    done = subprocess.run([broker, "dump", "--json", partition], capture_output=True, text=True, timeout=600)
    if done.returncode:
        return {}, [], [f"highwater dump: exit status {done.returncode} {done.stderr[-300:]}"]
    out, segments = {}, []
    for line in done.stdout.splitlines():
        d = json.loads(line)
        kind = d["type"]
        if kind == "segment":
            segments.append(d)
            out.setdefault(d["file"], [])
        elif kind == "batch":
            out.setdefault(d["file"], []).append(d)
        elif kind in ("offset_index", "time_index"):
            out[d["file"]] = d["entries"]
        elif kind == "producer_snapshot":
            out[d["file"]] = [[e.get(k, NONE) for k in ("producer_id", "producer_epoch", "coordinator_epoch", "last_timestamp", "first_sequence",
                                                        "last_sequence", "last_offset", "offset_delta")] for e in d["entries"]]
    return out, segments, []


def first_difference(a, b):
    if len(a) != len(b):
        return f"{len(a)} entries by Apache Kafka, {len(b)} by ours"
    for i, (x, y) in enumerate(zip(a, b)):
        if isinstance(x, dict):
            y = {k: y[k] for k in x}
        if x != y:
            return f"entry {i}: Apache Kafka {x}, ours {y}"
    return None


def main():
    broker, directory, loaded, java = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    with open(loaded) as f:
        ends = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"^loaded (\S+) start=(\d+) end=(\d+)", f.read(), re.M)}
    failed = partitions = batches = entries = 0
    for name in sorted(os.listdir(directory)):
        partition = os.path.join(directory, name)
        if not os.path.isdir(partition) or name.startswith("__cluster_metadata"):
            continue
        partitions += 1
        files = sorted(f for f in os.listdir(partition) if re.fullmatch(r"\d{20}\.(log|index|timeindex|snapshot)", f))
        them, complaints = theirs(java, partition, files)
        us, segments, wrong = ours(broker, partition)
        wrong += complaints
        for file in files:
            what = first_difference(them.get(file, []), us.get(file, [])) if file in them else "not dumped by Apache Kafka"
            # The tool prints one entry of zeros for an index without entries.
            if what and file.endswith("index") and not us.get(file) and them[file] in ([[0, 0]], [[-1, 0]], [[NONE, NONE]]):
                what = None
            if what:
                wrong.append(f"{file}: {what}")
            batches += len(us.get(file, [])) if file.endswith(".log") else 0
            entries += len(us.get(file, [])) if file.endswith("index") else 0
        for s in segments:
            if s["stopped_by"] is not None or s["valid_bytes"] != s["size"]:
                wrong.append(f"{s['file']}: stopped by {s['stopped_by']} at {s['valid_bytes']} of {s['size']}")
        last = max((s["next_offset"] for s in segments), default=NONE)
        if name not in ends:
            wrong.append("not loaded by Apache Kafka")
        elif last != NONE and ends[name][1] != last:
            wrong.append(f"Apache Kafka's loader ends at {ends[name][1]}, ours at {last}")
        print(f"{'FAILED' if wrong else 'ok'} {name}: {len(files)} files")
        for line in wrong[:10]:
            print("  " + line)
        failed += bool(wrong)
    print(f"figure: dump_agrees partitions={partitions} batches={batches} index_entries={entries} differing_partitions={failed}")
    sys.exit(failed > 0 or partitions == 0)


if __name__ == "__main__":
    main()
