#!/bin/bash
# A stopped data directory of ours as Apache Kafka sees it: its loader (LoadLogs.java) accepts it, clean and unclean, and its DumpLogSegments reads
# in it what `highwater dump` reads. Needs a JDK, Maven and Python 3.
#   dump_agrees.sh BROKER [LOG_DIRECTORY]     without a directory: makes one, with every codec, idempotent producers, several segments,
#                                             deleted records, a killed and a stopped broker
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
BROKER=$1 directory=${2:-}
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
skip() { echo "skipped: dump_agrees ($1)"; echo "0 passed, 0 failed"; exit 0; }
command -v python3 > /dev/null || skip "no python3"
why=$(install_java) || skip "$why"
quietly "javac LoadLogs" javac -cp "$CLIENTS/kafka/lib/*" -d "$CLIENTS/java" "$here/java/LoadLogs.java" || exit 1

load_logs() {
  java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/java/log4j2.xml" -cp "$CLIENTS/java:$CLIENTS/kafka/lib/*" LoadLogs "$@"
}
status=0
if [ -z "$directory" ]; then
  n=${RECORDS:-20000}
  small=(num.partitions=3 log.segment.bytes=1048576)
  start_broker "${small[@]}" || exit 1
  for codec in none gzip snappy lz4 zstd; do client java produce "$bootstrap" "agrees-$codec" "$codec" "$n" || exit 1; done
  stop_broker KILL
  start_broker "${small[@]}" || exit 1
  # A second epoch of the same logs, records deleted within a segment and up to the end, and a topic never written.
  python3 - "$here/behave" "$bootstrap" << 'P' || exit 1
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from wire import Connection, batch
c = Connection(sys.argv[2])
for name in ("cut", "emptied", "never-written"):
    assert c.ask(19, 5, [[name, 1, 1, [], []]], 30000, False)["Topics"][0]["Error"] == 0
for i in range(400):
    for name in ("cut", "emptied"):
        part = c.ask(0, 9, None, -1, 9000, [[name, [[0, batch([b"%d" % i * 3000] * 3, time=1_600_000_000_000 + i)]]]])["Topics"][0]["Parts"][0]
        assert part["Error"] == 0, part
for name, offset in (("cut", 1000), ("emptied", -1)):
    part = c.ask(21, 2, [[name, [[0, offset]]]], 9000)["Topics"][0]["Parts"][0]
    assert part["Error"] == 0, part
part = c.ask(0, 9, None, -1, 9000, [["agrees-none", [[0, batch([b"again"])]]]])["Topics"][0]["Parts"][0]
assert part["Error"] == 0, part
P
  answer=$(load_logs "$data" lock < /dev/null)
  if [ "$answer" = "held by another" ]; then
    echo "ok our lock stops Apache Kafka"
  else
    echo "FAILED our lock does not stop Apache Kafka: $answer"
    status=1
  fi
  stop_broker TERM || exit 1
  coproc holder { load_logs "$data" lock; }
  # shellcheck disable=SC2154
  read -r answer <&"${holder[0]}"
  said=$(timeout 20 "$BROKER" serve --data "$data" --listen 127.0.0.1:0 2>&1) && answer="not refused"
  if [ "$answer" = locked ] && grep -q process <<< "$said"; then
    echo "ok Apache Kafka's lock stops ours: $said"
  else
    echo "FAILED Apache Kafka's lock does not stop ours: $answer, $said"
    status=1
  fi
  exec {holder[1]}>&-
  wait "$holder_PID" 2> /dev/null
  directory=$data
fi

if ! "$BROKER" verify "$directory" > "$scratch/verify.txt" 2>&1; then
  echo "FAILED highwater verify:"
  tail -n 5 "$scratch/verify.txt"
  status=1
fi
load() { # clean|unclean: on a copy, as the loader may write
  rm -rf "$scratch/copy"
  cp -r "$directory" "$scratch/copy"
  rm -rf "$scratch/copy/__cluster_metadata-0"
  [ "$1" = clean ] || rm -f "$scratch/copy/.kafka_cleanshutdown"
  if load_logs "$scratch/copy" "$1" > "$scratch/loaded-$1.txt" 2> "$scratch/loaded-$1.err"; then
    echo "ok Apache Kafka's loader accepts it ($1 stop): $(grep -c '^loaded' "$scratch/loaded-$1.txt") partitions"
  else
    echo "FAILED Apache Kafka's loader ($1 stop):"
    grep '^wrong' "$scratch/loaded-$1.txt"
    tail -n 3 "$scratch/loaded-$1.err"
    status=1
  fi
}
load clean
load unclean
if ! diff <(grep '^loaded' "$scratch/loaded-clean.txt") <(grep '^loaded' "$scratch/loaded-unclean.txt") > "$scratch/diff.txt"; then
  echo "FAILED the loader finds other contents after an unclean stop:"
  head -n 6 "$scratch/diff.txt"
  status=1
fi
python3 "$here/dump_agrees.py" "$BROKER" "$directory" "$scratch/loaded-clean.txt" \
  java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/java/log4j2.xml" -cp "$CLIENTS/kafka/lib/*" || status=1
exit "$status"
