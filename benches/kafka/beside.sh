#!/bin/bash
# Highwater beside Apache Kafka 4.3.1: one machine, one client, interleaved runs, medians of ratios.
#   beside.sh BROKER      BROKER: our program (release build), or "none" to try the harness on Apache Kafka alone
# Settings: PAIRS (5), RECORDS a run (2000000, of 1 KiB), OPEN_SECONDS (20), RATE (2000 a second), ONLY (throughput or latency).
# Needs a C compiler, cargo (to fetch librdkafka's source out of the rdkafka-sys crate), a JDK and Maven. Writes below .clients.
# Both brokers stay up; the one that is not measured is stopped by SIGSTOP, so that neither its threads nor its cleaning up is in the
# other's way. Topics are deleted after each run, and the disk has settled before the next one starts.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
ours=$1
PAIRS=${PAIRS:-5} RECORDS=${RECORDS:-2000000} OPEN_SECONDS=${OPEN_SECONDS:-20} RATE=${RATE:-2000} ONLY=${ONLY:-throughput latency}
BROKER=apache
. "$(dirname "$0")/../../tests/clients/install.sh"
. "$here/broker.sh"
bench=$repository/benches/kafka
why=$(install_kafka_jars) || { echo "Apache Kafka cannot run here: $why" >&2; exit 2; }
[ "$ours" = none ] || [ -x "$ours" ] || { echo "$ours is not a program" >&2; exit 2; }

# The client: librdkafka's own rdkafka_performance, and openloop.c linked with the same library.
rd=$CLIENTS/librdkafka
if [ ! -x "$rd/examples/rdkafka_performance" ]; then
  command -v cc > /dev/null || { echo "no C compiler" >&2; exit 2; }
  fetch=$scratch/fetch
  mkdir -p "$fetch/src" && : > "$fetch/src/lib.rs"
  printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nrdkafka-sys = "=4.10.0"\n[workspace]\n' > "$fetch/Cargo.toml"
  (cd "$fetch" && cargo fetch -q)
  rm -rf "$rd"
  cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/rdkafka-sys-4.10.0+2.12.1/librdkafka "$rd"
  chmod -R u+w "$rd"
  (cd "$rd" && ./configure --disable-sasl --disable-ssl --disable-curl && make -j"$(nproc)" -C src &&
    make -C examples rdkafka_performance) > "$CLIENTS/install-librdkafka.log" 2>&1 ||
    { echo "librdkafka does not build: $(tail -n 1 "$CLIENTS/install-librdkafka.log")" >&2; exit 2; }
fi
libraries=$(sed -n 's/^LIBS+=//p' "$rd/Makefile.config")
# shellcheck disable=SC2086
cc -O2 -Wall -o "$CLIENTS/openloop" "$bench/openloop.c" -I"$rd/src" "$rd/src/librdkafka-static.a" $libraries -lm -lpthread
tool() { timeout 300 "$CLIENTS/openloop" "$@"; }
performance() { timeout 600 "$rd/examples/rdkafka_performance" "$@"; }

declare -A at=() pid=() dir=() paused=()
end_both() {
  local p
  for p in "${pid[@]}"; do
    kill -9 "$p" 2> /dev/null || true
    wait "$p" 2> /dev/null || true
  done
  rm -rf "$scratch"
}
trap end_both EXIT
start_system() { # NAME BROKER NAME=VALUE...
  local name=$1
  BROKER=$2
  shift 2
  port=$(free_port)
  bootstrap=127.0.0.1:$port
  data=$scratch/$name
  start_broker "$@"
  at[$name]=$bootstrap pid[$name]=$broker_pid dir[$name]=$data
}
# Deleted files go within a second, and a broker that was stopped by SIGSTOP is not fenced for its silence.
start_system kafka apache log.segment.delete.delay.ms=1000 broker.session.timeout.ms=36000000 num.partitions=4
systems=(kafka)
if [ "$ours" != none ]; then
  start_system ours "$ours" log.segment.delete.delay.ms=1000 num.partitions=4
  systems=(ours kafka)
fi

only() { # runs NAME alone
  local s
  for s in "${systems[@]}"; do
    [ "$s" = "$1" ] || { kill -STOP "${pid[$s]}"; paused[$s]=1; }
  done
  if [ -n "${paused[$1]:-}" ]; then
    kill -CONT "${pid[$1]}"
    unset "paused[$1]"
    sleep 1
  fi
}
# Waits until the deleted topics' files have gone and what is dirty has been written.
settle() {
  for _ in $(seq 60); do
    [ "$(du -sm "${dir[$1]}" | cut -f1)" -lt 300 ] && break
    sleep 0.5
  done
  sync -f "$scratch"
  sleep 1
}
cpu() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/${pid[$1]}/stat"; } # ticks of all threads
ticks=$(getconf CLK_TCK)
results=$scratch/results
record() { echo "$*" >> "$results"; } # METRIC SYSTEM PAIR VALUE

# throughput NAME PAIR TOPIC-SETTINGS...: produces RECORDS, then consumes them.
throughput() {
  local name=$1 pair=$2 topic=t$RANDOM$2 before after out rate
  shift 2
  only "$name"
  tool create "${at[$name]}" "$topic" 4 "$@"
  before=$(cpu "$name")
  out=$(performance -P -t "$topic" -s 1024 -a -1 -c "$RECORDS" -b "${at[$name]}" -X linger.ms=5 -X batch.size=1048576 \
    -X queue.buffering.max.messages=500000 -X queue.buffering.max.kbytes=1048576 2>&1)
  after=$(cpu "$name")
  rate=$(rate_of "$out")
  record produce_mb_s "$name" "$pair" "$rate"
  record produce_cpu_s_gb "$name" "$pair" "$(per_gb "$before" "$after")"
  before=$(cpu "$name")
  out=$(performance -C -t "$topic" -p 0 -p 1 -p 2 -p 3 -o beginning -c "$RECORDS" -b "${at[$name]}" 2>&1)
  after=$(cpu "$name")
  rate=$(rate_of "$out")
  record consume_mb_s "$name" "$pair" "$rate"
  record consume_cpu_s_gb "$name" "$pair" "$(per_gb "$before" "$after")"
  tool delete "${at[$name]}" "$topic"
  settle "$name"
}
# The rate in rdkafka_performance's last line, after checking that it counts every record.
rate_of() {
  local line
  line=$(grep -a 'MB/s' <<< "$1" | tail -n 1)
  case $line in
    "% $RECORDS messages ("*consumed* | "% $RECORDS messages produced"*" $RECORDS delivered"*) ;;
    *) echo "not all records: $(tail -n 3 <<< "$1")" >&2; return 1 ;;
  esac
  sed 's/.*[ (]\([0-9.]*\) MB\/s.*/\1/' <<< "$line"
}
per_gb() { awk -v t="$(($2 - $1))" -v hz="$ticks" -v n="$RECORDS" 'BEGIN { printf "%.3f", t / hz / (n * 1024 / 1e9) }'; }

# control PAIR: what the disk alone does at the same rate, with both brokers idle.
control() {
  local out field
  out=$(tool disk "$scratch/raw" "$RATE" "$OPEN_SECONDS")
  for field in p50 p99 p999; do
    record "$field" raw "$1" "$(sed "s/.*\b$field=\([0-9]*\).*/\1/" <<< "$out")"
  done
  echo "  open loop raw write and fdatasync: $out"
}

# latency NAME LABEL PAIR SECONDS TOPIC-SETTINGS...
latency() {
  local name=$1 label=$2 pair=$3 seconds=$4 topic=l$RANDOM$3 out field
  shift 4
  only "$name"
  tool create "${at[$name]}" "$topic" 4 "$@"
  out=$(tool latency "${at[$name]}" "$topic" 4 "$RATE" "$seconds")
  tool delete "${at[$name]}" "$topic"
  settle "$name"
  [ "$pair" != 0 ] || return 0
  case $out in *failed=0*) ;; *) echo "$label: $out" >&2; return 1 ;; esac
  for field in p50 p99 p999; do
    record "$field" "$label" "$pair" "$(sed "s/.*\b$field=\([0-9]*\).*/\1/" <<< "$out")"
  done
  echo "  open loop $label: $out"
}

echo "machine: $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r), load $(cut -d' ' -f1 /proc/loadavg)"
echo "client: librdkafka 2.12.1, linger 5 ms and batch 1 MiB (throughput), linger 0 (open loop); 1 KiB records, acks=all, 4 partitions, one node"
echo "durability: ours syncs before each acknowledgement unless the row says os; Kafka does not unless the row says flush.messages=1"
echo "note: on loopback Kafka's sendfile is handicapped, see the broker's CPU beside the rate"

for what in $ONLY; do
  case $what in
    throughput)
      echo "warm-up"
      for _ in 1 2 3; do
        for s in "${systems[@]}"; do
          throughput "$s" 0
        done
      done
      sed -i '/ 0 /d' "$results"
      for pair in $(seq "$PAIRS"); do
        for s in "${systems[@]}"; do throughput "$s" "$pair"; done
        echo "pair $pair:" $(awk -v p="$pair" '$3 == p { printf "%s %s %s; ", $2, $1, $4 }' "$results")
      done ;;
    latency)
      for s in "${systems[@]}"; do latency "$s" "$s" 0 10; done
      for pair in $(seq "$PAIRS"); do
        control "$pair"
        if [ "$ours" != none ]; then latency ours ours-os "$pair" "$OPEN_SECONDS" durability=os; fi
        latency kafka kafka-default "$pair" "$OPEN_SECONDS"
        if [ "$ours" != none ]; then latency ours ours-each "$pair" "$OPEN_SECONDS" durability=each; fi
        latency kafka kafka-flush "$pair" "$OPEN_SECONDS" flush.messages=1
      done ;;
  esac
done

# Medians, and medians of the pairs' ratios, against what must hold.
awk '
  function median(list, n,    i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
  }
  function middle(metric, who,    n, list, p) {
    for (p = 1; p <= pairs; p++) if ((metric, who, p) in value) list[++n] = value[metric, who, p]
    return n ? median(list, n) : -1
  }
  function row(title, metric, a, b, op, bound,    n, list, p, ratio, met) {
    if (middle(metric, b) < 0) return
    if (middle(metric, a) < 0) { printf "%-58s %12s %12.6g\n", title, "-", middle(metric, b); return }
    for (p = 1; p <= pairs; p++) if ((metric, a, p) in value && value[metric, b, p] > 0) list[++n] = value[metric, a, p] / value[metric, b, p]
    ratio = median(list, n)
    met = op == ">=" ? ratio >= bound : op == "<=" ? ratio <= bound : 1
    printf "%-58s %12.6g %12.6g %8.2f   %s\n", title, middle(metric, a), middle(metric, b), ratio, op == "" ? "" : "must be " op " " bound (met ? "" : "  NOT MET")
    figures = figures sprintf("figure: beside row=%s_%s ours=%.6g other=%.6g ratio=%.3f pairs=%d met=%s\n", metric, a == "ours" ? "each" : a "_to_" b, middle(metric, a), middle(metric, b), ratio, n, op == "" ? "-" : met ? "yes" : "no")
    if (!met) failed++
  }
  { value[$1, $2, $3] = $4; if ($3 > pairs) pairs = $3 }
  END {
    printf "\n%-58s %12s %12s %8s\n", "median of " pairs " interleaved pairs", "ours", "other", "ratio"
    row("produce MB/s (ours each, Kafka no sync)", "produce_mb_s", "ours", "kafka", ">=", 1)
    row("broker CPU-s per GB produced (ours each, Kafka no sync)", "produce_cpu_s_gb", "ours", "kafka", "<=", 0.5)
    row("broker CPU-s per GB consumed", "consume_cpu_s_gb", "ours", "kafka", "<=", 1)
    row("consume MB/s", "consume_mb_s", "ours", "kafka", "", 0)
    row("open loop p50 us (ours os, Kafka no sync)", "p50", "ours-os", "kafka-default", "<=", 1)
    row("open loop p99 us (ours os, Kafka no sync)", "p99", "ours-os", "kafka-default", "", 0)
    row("open loop p99 us (ours each, Kafka no sync)", "p99", "ours-each", "kafka-default", "<=", 1)
    row("open loop p50 us (ours each, Kafka flush.messages=1)", "p50", "ours-each", "kafka-flush", "<=", 0.6)
    row("open loop p99 us (ours each, Kafka flush.messages=1)", "p99", "ours-each", "kafka-flush", "", 0)
    row("open loop p999 us (ours each, Kafka flush.messages=1)", "p999", "ours-each", "kafka-flush", "", 0)
    row("open loop p50 us (ours each, raw write and fdatasync)", "p50", "ours-each", "raw", "", 0)
    row("open loop p99 us (ours each, raw write and fdatasync)", "p99", "ours-each", "raw", "", 0)
    printf "%s", figures
    exit failed > 0
  }' "$results"
