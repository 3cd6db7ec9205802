#!/bin/bash
# Round trips: every client and codec, before and after kill -9. README.md beside this file says what and how.
#   run.sh BROKER [CLIENT...]     BROKER: our program, or "apache". RECORDS (100000) and CODECS may be set.
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,3p' "$0" >&2; exit 2; }
BROKER=$1
shift
all=(kcat python sarama-sync sarama-async java)
[ $# -gt 0 ] || set -- "${all[@]}"
read -ra codecs <<< "${CODECS:-none gzip snappy lz4 zstd}"
n=${RECORDS:-100000}
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
if [ "$BROKER" = apache ]; then
  why=$(install_kafka_jars) || { echo "Apache Kafka cannot run here: $why" >&2; exit 2; }
elif [ ! -x "$BROKER" ]; then
  echo "$BROKER is not a program" >&2
  exit 2
fi

passed=0 failed=0 ran=() skipped=()
result() { # ok|FAILED what
  case $1 in ok) passed=$((passed + 1)) ;; *) failed=$((failed + 1)) ;; esac
  echo "$1 $2"
}

# verb CLIENT VERB CODEC -> $answer (last line), $took; the program's status
verb() {
  local from=$EPOCHREALTIME status=0
  answer=$(client "$1" "$2" "$bootstrap" "round-trip-$1-$3" "$3" "$n" 2> "$scratch/client.err") || status=$?
  took=$(awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  if [ "$status" != 0 ]; then
    echo "  $1 $2 $3: status $status $(tail -n 3 "$scratch/client.err" | tr '\n' ' ')"
  fi
  answer=$(tail -n 1 <<< "$answer")
  return "$status"
}

round_trips() {
  local name=$1 codec writer found
  declare -A times=() good=()
  start_broker num.partitions=3 || return 1
  for codec in "${codecs[@]}"; do
    good[$codec]=ok
    verb "$name" produce "$codec" || good[$codec]=FAILED
    times[$codec]="produce $took s"
  done
  for codec in "${codecs[@]}"; do
    verb "$name" consume "$codec" || good[$codec]=FAILED
    times[$codec]+=", consume $took s"
    echo "figure: round_trip client=$name codec=$codec $answer"
  done
  # The kill meets a broker that is writing; what that writer sent is nobody's concern, what was acknowledged before it is.
  (client "$name" produce "$bootstrap" busy none 100000 > /dev/null 2>&1) &
  writer=$!
  sleep 1
  stop_broker KILL
  start_broker num.partitions=3 || { end_writer "$writer"; return 1; }
  end_writer "$writer"
  for codec in "${codecs[@]}"; do
    verb "$name" consume "$codec" || good[$codec]=FAILED
    echo "figure: round_trip_after_kill client=$name codec=$codec $answer"
    result "${good[$codec]}" "$name $codec: ${times[$codec]}, after kill -9 and restart $took s"
  done
  stop_broker TERM || result FAILED "$name: clean stop"
  # A client that thinks little of our versions sends its batches uncompressed, and nobody notices.
  if [ "$BROKER" != apache ]; then
    for codec in "${codecs[@]}"; do
      found=$("$BROKER" dump --json "$data/round-trip-$name-$codec-0" | grep -o '"compression": *"[a-z0-9]*"' | sort -u | tr -d '"' | cut -d: -f2)
      case $name-$codec-${found// /} in
        *-"$codec-$codec") ;;
        kcat-lz4-none | python-lz4-none)
          echo "note: $name lz4: stored uncompressed, as librdkafka takes LZ4 for unknown to a broker that does not list FindCoordinator" ;;
        *) result FAILED "$name $codec: stored as ${found:-nothing}" ;;
      esac
    done
  fi
  [ -z "${KEEP_DATA:-}" ] || { rm -rf "$KEEP_DATA/$name" && mkdir -p "$KEEP_DATA" && cp -r "$data" "$KEEP_DATA/$name"; }
  rm -rf "$data"
}
# A writer's whole process tree: kcat runs three below a shell.
end_writer() {
  local child
  for child in $(ps -o pid= --ppid "$1" 2> /dev/null); do end_writer "$child"; done
  kill "$1" 2> /dev/null
  wait "$1" 2> /dev/null
}

for name in "$@"; do
  if ! why=$("install_$name"); then
    skipped+=("$name ($why)")
    continue
  fi
  ran+=("$name")
  if ! round_trips "$name"; then
    result FAILED "$name: the broker did not start"
    break
  fi
done
echo "ran: ${ran[*]:-nothing} against $BROKER, $n records of 1 KiB a codec"
for why in "${skipped[@]}"; do echo "skipped: $why"; done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
