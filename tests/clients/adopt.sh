#!/bin/bash
# A directory of Apache Kafka's served by ours and given back: Kafka writes it and is stopped, or killed; ours serves it, a client reads everything and
# appends; ours is stopped; Kafka starts on it without recovering anything, and everything is there. In the end it is kept. Needs a JDK, Maven, Python 3.
#   adopt.sh BROKER
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
OURS=$1
BROKER=apache
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
skip() { echo "skipped: adopt ($1)"; echo "0 passed, 0 failed"; exit 0; }
command -v python3 > /dev/null || skip "no python3"
why=$(install_java) || skip "$why"
HEAP=${HEAP:--Xms512m -Xmx512m -XX:+UseSerialGC}
passed=0 failed=0
check() { # WHAT STATUS [DETAIL]
  if [ "$2" = 0 ]; then
    passed=$((passed + 1))
    echo "ok $1"
  else
    failed=$((failed + 1))
    echo "FAILED $1 ${3:-}"
  fi
}
KAFKA_LOG=log4j2-starts.xml
kafka=(num.partitions=3 log.segment.bytes=1048576 log.index.interval.bytes=512 log.retention.ms=-1)
start() { # apache|ours
  case $1 in
    apache) BROKER=apache start_broker "${kafka[@]}" ;;
    ours) BROKER=$OURS start_broker log.retention.ms=-1 ;;
  esac
}
stop() { # apache|ours TERM|KILL
  case $1 in
    apache) BROKER=apache stop_broker "$2" ;;
    ours) BROKER=$OURS stop_broker "$2" ;;
  esac
}
n=${RECORDS:-3000}
produce() { # CODEC NAME: what the Java client counts of it
  client java produce "$bootstrap" "$2" "$1" "$n"
}
consume() { # CODEC NAME
  client java consume "$bootstrap" "$2" "$1" "$n" 2> "$scratch/client.err" | tail -n 1
}
whole="records=$n lost=0 duplicated=0 changed=0"
# What must stay: the ends of all partitions and every batch in them.
ends() { python3 "$here/adopt.py" ends "$bootstrap"; }
same() { diff <(sed 's/ epoch [0-9]*//' <<< "$1") <(sed 's/ epoch [0-9]*//' <<< "$2"); }
append() { python3 "$here/adopt.py" append "$bootstrap" "$1"; }
codecs=(none gzip snappy lz4 zstd)

round() { # clean|killed
  local how=$1 codec before after
  for codec in "${codecs[@]}"; do
    produce "$codec" "$how-$codec" > "$scratch/produced" 2>&1 || { check "$how: Kafka takes $codec" 1 "$(tail -n 2 "$scratch/produced")"; return; }
  done
  append by-kafka > /dev/null || { check "$how: Kafka takes what is appended" 1; return; }
  before=$(ends)
  case $how in clean) stop apache TERM ;; killed) stop apache KILL ;; esac
  "$OURS" adopt "$data" --check > "$scratch/check.txt"
  check "$how: adopt --check finds nothing in the way" $? "$(grep '^cannot' "$scratch/check.txt")"
  start ours || { check "$how: ours serves it" 1; return; }
  for codec in "${codecs[@]}"; do
    after=$(consume "$codec" "$how-$codec")
    [ "$after" = "$whole" ]
    check "$how: ours serves every record, $codec" $? "$after $(tail -n 2 "$scratch/client.err" 2> /dev/null)"
  done
  after=$(ends)
  same "$before" "$after" > "$scratch/differ.txt"
  check "$how: log starts, ends and batches are Kafka's" $? "$(head -n 6 "$scratch/differ.txt")"
  python3 "$here/adopt.py" refused "$bootstrap" > "$scratch/refused.txt" 2>&1
  check "$how: topics are not made, grown, deleted or changed, and the answer says how to keep" $? "$(tail -n 3 "$scratch/refused.txt")"
  append by-ours > /dev/null
  check "$how: ours appends" $?
  before=$(ends)
  stop ours TERM
  check "$how: ours stops cleanly" $?
  "$OURS" verify "$data" > "$scratch/verify.txt" 2>&1
  check "$how: highwater verify" $? "$(tail -n 3 "$scratch/verify.txt")"
  : > "$data.log"
  start apache || { check "$how: Kafka starts on it again" 1; return; }
  after=$(ends)
  same "$before" "$after" > "$scratch/differ.txt"
  check "$how: Kafka finds the same log starts, ends and batches" $? "$(head -n 6 "$scratch/differ.txt")"
  echo "$before" > "$scratch/old.txt"
  echo "$after" > "$scratch/new.txt"
  python3 "$here/adopt.py" raised "$scratch/old.txt" "$scratch/new.txt" 2> "$scratch/raised.txt"
  check "$how: Kafka's next leader epochs are above those that ours wrote" $? "$(head -n 3 "$scratch/raised.txt")"
  for codec in "${codecs[@]}"; do
    after=$(consume "$codec" "$how-$codec")
    [ "$after" = "$whole" ]
    check "$how: Kafka serves every record, $codec" $? "$after"
  done
  # The metadata log is always read anew; of the others none may be. (Kafka speaks of "rebuilding producer state" also where a snapshot has it all.)
  grep -E 'Recovering unflushed|no clean shutdown|attempting recovery|Could not find|invalid messages|orphaned|orrupt|stray|Truncating|ERROR' "$data.log" |
    grep -v '__cluster_metadata' > "$scratch/recovered.txt"
  check "$how: Kafka recovers nothing" "$(wc -l < "$scratch/recovered.txt")" "$(head -n 4 "$scratch/recovered.txt")"
  grep -q 'Skipping recovery' "$data.log"
  check "$how: Kafka takes the stop for a clean one" $? "$(grep -i 'loading' "$data.log" | head -n 3)"
  append by-kafka-again > /dev/null
  check "$how: Kafka appends" $?
}

start apache || exit 1
round clean
[ "$failed" = 0 ] && round killed
if [ "$failed" != 0 ]; then
  echo "$passed passed, $failed failed"
  exit 1
fi
# For good.
before=$(ends)
stop apache TERM
"$OURS" adopt "$data" --keep > "$scratch/keep.txt" 2>&1 < /dev/null
check "kept: adopt --keep" $? "$(tail -n 2 "$scratch/keep.txt")"
grep -q 'one way' "$scratch/keep.txt"
check "kept: it says that this is one way" $?
if start ours; then
  after=$(ends)
  same "$before" "$after" > "$scratch/differ.txt"
  check "kept: nothing is lost" $? "$(head -n 6 "$scratch/differ.txt")"
  "$OURS" topics create --bootstrap "$bootstrap" made-after > "$scratch/made.txt" 2>&1
  check "kept: topics can be made" $? "$(cat "$scratch/made.txt")"
  append by-ours-for-good > /dev/null
  check "kept: ours appends" $?
  stop ours TERM
  check "kept: ours stops cleanly" $?
else
  check "kept: ours serves it" 1
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
