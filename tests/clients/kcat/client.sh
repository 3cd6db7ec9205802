#!/bin/bash
# produce|consume BOOTSTRAP TOPIC CODEC N, with kcat. ../README.md describes the records.
set -euo pipefail
verb=$1 bootstrap=$2 topic=$3 codec=$4 n=$5

# Shared by both verbs: value(i) as every client has it.
read -r -d '' RECORDS <<'AWK' || true
function fill_pool(    i, x, part) {
  x = 1
  for (i = 0; i < 4096; i++) {
    x = (x * 48271) % 2147483647
    part = substr("0123456789abcdef", x % 16 + 1, 1)
    part = part part part part
    pool = pool part part part part
  }
}
function value(i,    prefix) {
  prefix = codec ":" i ":"
  return prefix substr(pool, (i * 7919) % 64512 + 1, 1024 - length(prefix))
}
AWK

case $verb in
produce)
  for p in 0 1 2; do
    awk -v codec="$codec" -v n="$n" -v p="$p" "$RECORDS"'
      BEGIN { fill_pool(); for (i = p; i < n; i += 3) print i "\t" value(i) }' |
    kcat -P -b "$bootstrap" -t "$topic" -p "$p" -z "$codec" -K '\t' -H "codec=$codec" \
      -X acks=all -X linger.ms=5 -X topic.metadata.refresh.interval.ms=1000 &
    pids[p]=$!
  done
  for p in 0 1 2; do wait "${pids[p]}"; done ;;
consume)
  for p in 0 1 2; do
    kcat -C -b "$bootstrap" -t "$topic" -p "$p" -o beginning -e -q -f '%p %o %k %h %s\n'
  done |
  awk -v codec="$codec" -v n="$n" "$RECORDS"'
    BEGIN { fill_pool(); next_index[0] = 0; next_index[1] = 1; next_index[2] = 2 }
    {
      records++
      right = $3 ~ /^[0-9]+$/ && $3 % 3 == $1 && $3 < n && $4 == "codec=" codec && $5 == value($3) && NF == 5
      if (!right) { changed++; next }
      if ($3 in seen) { duplicated++; next }
      seen[$3] = 1; distinct++
      if ($3 < next_index[$1] || $2 != next_offset[$1] + 0) changed++
      next_index[$1] = $3 + 3; next_offset[$1] = $2 + 1
    }
    END {
      printf "records=%d lost=%d duplicated=%d changed=%d\n", records, n - distinct, duplicated, changed
      exit !(records == n && distinct == n && !duplicated && !changed)
    }' ;;
*) echo "unknown verb $verb" >&2; exit 2 ;;
esac
