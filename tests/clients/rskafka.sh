#!/bin/bash
# The tests that the crate rskafka 0.6 carries, against our broker: two clients, rskafka and librdkafka, write and read across each codec, long-poll,
# delete records. Those that read with librdkafka need a group coordinator, which is not offered yet: they are left out, and that is said. The sources
# and the build lie below $CLIENTS. Needs cargo, its registry, and a C compiler and make (for librdkafka).
#   rskafka.sh BROKER
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
BROKER=$1
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
skip() { echo "skipped: rskafka ($1)"; echo "0 passed, 0 failed"; exit 0; }
command -v cargo > /dev/null || skip "no cargo"
command -v cc > /dev/null || skip "no cc"
command -v make > /dev/null || skip "no make"
why=$(install_rskafka) || skip "$why"
# One of the tests asserts that a topic which nobody made never appears.
start_broker auto.create.topics.enable=false || exit 1
log=$scratch/rskafka.log
cd "$CLIENTS/rskafka/rskafka-0.6.0" || exit 1
TEST_INTEGRATION=1 TEST_BROKER_IMPL=kafka KAFKA_CONNECT=$bootstrap rskafka_cargo test --lib --tests --no-fail-fast -- --test-threads=2 \
  --skip consume_rdkafka > "$log" 2>&1
status=$?
stop_broker TERM || status=1
grep -E '^     Running|^test result|^test .* FAILED|panicked at' "$log"
sum() { sed -nE "s/^test result: .* ([0-9]+) $1;.*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$(sum passed) failed=$(sum failed)
# Without the variables above the tests that need a broker return at once: these have met one.
grep -q 'skipping Kafka integration tests' "$log" && { echo "FAILED: tests were passed over"; status=1; }
[ "$status" = 0 ] && [ "$passed" -gt 0 ] || { tail -n 40 "$log"; failed=$((failed > 0 ? failed : 1)); }
echo "skipped: rskafka's consume_rdkafka tests (no group coordinator: librdkafka asks one for committed offsets)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
