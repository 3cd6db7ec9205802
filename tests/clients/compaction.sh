#!/bin/bash
# Kafka's cleaner and ours on the same directory: Kafka writes it and cleans nothing; of two copies Kafka cleans one and ours the other, in place; the
# same batches, records and aborted ranges remain, as `highwater dump --json` and Kafka's DumpLogSegments see them. Then Kafka writes more
# into what it has cleaned, and both clean again, twice. What may differ: when tombstones go, how segments are joined. Needs a JDK, Maven and Python 3.
#   compaction.sh BROKER
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
OURS=$1
BROKER=apache
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
skip() { echo "skipped: compaction ($1)"; echo "0 passed, 0 failed"; exit 0; }
command -v python3 > /dev/null || skip "no python3"
why=$(install_kafka_jars) || skip "$why"
HEAP=${HEAP:--Xms512m -Xmx512m -XX:+UseSerialGC}
kafka=(log.retention.ms=-1 log.cleaner.dedupe.buffer.size=16777216 transaction.state.log.replication.factor=1 transaction.state.log.min.isr=1
  transaction.state.log.num.partitions=1)
cleaning=(log.cleaner.backoff.ms=100 log.flush.offset.checkpoint.interval.ms=200)
java=(java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/java/log4j2.xml" -cp "$CLIENTS/kafka/lib/*")

# once NAME BROKER DIRECTORY SETTING... -- COMMAND...: runs a broker while a command runs
once() {
  local name=$1 settings=()
  BROKER=$2 data=$3
  shift 3
  while [ "$1" != -- ]; do settings+=("$1"); shift; done
  shift
  start_broker "${settings[@]}" || { echo "FAILED $name: no start"; exit 1; }
  "$@" || { echo "FAILED $name"; tail -n 5 "$data.log"; exit 1; }
  stop_broker TERM || { echo "FAILED $name: no clean stop"; exit 1; }
}

status=0
for round in 1 2 3; do
  once "round $round: writing" apache "$scratch/kafka" "${kafka[@]}" log.cleaner.backoff.ms=86400000 -- \
    python3 "$here/compaction.py" write "$bootstrap" "$round"
  rm -rf "$scratch/ours"
  cp -a "$scratch/kafka" "$scratch/ours"
  once "round $round: Kafka's cleaner" apache "$scratch/kafka" "${kafka[@]}" "${cleaning[@]}" -- \
    python3 "$here/compaction.py" wait "$scratch/kafka"
  once "round $round: ours" "$OURS" "$scratch/ours" log.retention.ms=-1 "${cleaning[@]}" -- \
    python3 "$here/compaction.py" wait "$scratch/ours"
  echo "round $round:"
  python3 "$here/compaction.py" compare "$OURS" "$scratch/kafka" "$scratch/ours" "${java[@]}" || status=1
done
exit "$status"
