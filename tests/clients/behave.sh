#!/bin/bash
# How the broker answers what no client library asks, compared with what Apache Kafka 4.3.1 answered (behave/answers.txt), and what it does to
# its host (behave/host.py). Python 3 only.
#   behave.sh BROKER            all of it
#   behave.sh BROKER answers    only the answers; BROKER may be "apache", the oracle: `behave.sh apache record` writes answers.txt anew
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
BROKER=$1 what=${2:-all}
. "$(dirname "$0")/install.sh"
. "$here/broker.sh"
command -v python3 > /dev/null || { echo "skipped: behave (no python3)"; echo "0 passed, 0 failed"; exit 0; }
if [ "$BROKER" = apache ]; then why=$(install_kafka_jars) || { echo "Apache Kafka cannot run here: $why" >&2; exit 2; }; fi
start_broker num.partitions=3 || exit 1
if [ "$what" = record ]; then
  python3 "$here/behave/answers.py" "$bootstrap" > "$here/behave/answers.txt"
  exit
fi
python3 "$here/behave/answers.py" "$bootstrap" > "$scratch/answers.txt"
differ=$(diff "$here/behave/answers.txt" "$scratch/answers.txt" | grep '^[<>]')
same=$(comm -12 <(sort "$here/behave/answers.txt") <(sort "$scratch/answers.txt") | wc -l)
status=0
if [ -n "$differ" ]; then
  echo "answers that differ (<: Apache Kafka's, >: ours):"
  echo "$differ"
  status=1
fi
echo "figure: answers_like_apache_kafka same=$same of=$(wc -l < "$here/behave/answers.txt")"
stop_broker TERM || status=1
if [ "$what" = all ] && [ "$BROKER" != apache ]; then
  python3 "$here/behave/host.py" "$BROKER" "$scratch/host" || status=1
fi
exit "$status"
