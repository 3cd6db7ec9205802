#!/bin/bash
# The same produce requests, prepared beforehand and sent one at a time, to Apache Kafka and to ours: the answers, the records, the offsets and the
# indexes are equal, as `highwater dump --json` and Kafka's DumpLogSegments see them. What may differ: topic ids, times that a broker gives, when segments go. Needs a JDK,
# Maven and Python 3.
#   differential.sh BROKER
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
OURS=$1
BROKER=apache
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
skip() { echo "skipped: differential ($1)"; echo "0 passed, 0 failed"; exit 0; }
command -v python3 > /dev/null || skip "no python3"
why=$(install_kafka_jars) || skip "$why"
HEAP=${HEAP:--Xms512m -Xmx512m -XX:+UseSerialGC}
settings=(log.segment.bytes=1048576 log.index.interval.bytes=3000 log.retention.ms=-1)
for BROKER in apache "$OURS"; do
  name=ours
  [ "$BROKER" != apache ] || name=kafka
  data=$scratch/$name
  start_broker "${settings[@]}" || exit 1
  python3 "$here/differential.py" send "$bootstrap" > "$scratch/$name.answers" || { echo "FAILED $name: the requests were not answered"; exit 1; }
  stop_broker TERM || exit 1
done
python3 "$here/differential.py" compare "$OURS" "$scratch/kafka" "$scratch/ours" \
  java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/java/log4j2.xml" -cp "$CLIENTS/kafka/lib/*"
