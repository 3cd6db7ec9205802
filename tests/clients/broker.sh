# Sourced after install.sh: starts and ends the broker under test. $BROKER is our program, or the word "apache" for Apache Kafka
# 4.3.1, the oracle. Sets $bootstrap and $broker_pid; everything lies in $scratch, which end_all removes.

mkdir -p "$CLIENTS"
scratch=$(mktemp -d "$CLIENTS/run.XXXXXX")
broker_pid=
end_all() {
  if [ -n "$broker_pid" ]; then
    kill -9 "$broker_pid" 2> /dev/null || true
    wait "$broker_pid" 2> /dev/null || true
  fi
  broker_pid=
  rm -rf "$scratch"
}
trap end_all EXIT
trap 'exit 130' INT TERM

answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# A free port below the ephemeral range: a client's own socket cannot sit on it.
free_port() {
  local p
  for _ in $(seq 100); do
    p=$((20000 + RANDOM % 6000 * 2))
    if ! answers "$p" && ! answers $((p + 1)); then
      echo "$p"
      return
    fi
  done
  echo "no free port" >&2
  return 1
}
port=$(free_port)
bootstrap=127.0.0.1:$port
data=$scratch/data

# start_broker NAME=VALUE...: settings in server.properties syntax. Returns when the broker accepts.
start_broker() {
  local log=$data.log properties=$data.properties setting settings=()
  case $BROKER in
    apache)
      cat > "$properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://$bootstrap,CONTROLLER://127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$data
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
P
      for setting in "$@"; do
        case $setting in durability=*) ;; *) echo "$setting" >> "$properties" ;; esac
      done
      [ -e "$data/meta.properties" ] || kafka_tool kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw \
        -c "$properties" > "$log" 2>&1 || { cat "$log" >&2; return 1; }
      java ${HEAP:--Xms1g -Xmx1g -XX:+UseG1GC} "-Dlog4j2.configurationFile=$here/java/${KAFKA_LOG:-log4j2.xml}" \
        -cp "$CLIENTS/kafka/lib/*" kafka.Kafka "$properties" >> "$log" 2>&1 &
      broker_pid=$! ;;
    *)
      for setting in "$@"; do settings+=(--config "$setting"); done
      "$BROKER" serve --data "$data" --listen "$bootstrap" "${settings[@]}" > "$log" 2>&1 &
      broker_pid=$! ;;
  esac
  # Ours says when it is ready. A connection proves nothing: the listening socket of a killed broker can outlive it for a moment.
  for _ in $(seq 600); do
    case $BROKER in
      apache) answers "$port" && return ;;
      *) grep -qs "ready on .*:$port\b" "$log" && return ;;
    esac
    kill -0 "$broker_pid" 2> /dev/null || break
    sleep 0.1
  done
  echo "the broker does not answer on $bootstrap; the end of its output:" >&2
  tail -n 20 "$log" >&2
  return 1
}

# stop_broker TERM|KILL: ends it and waits until it has gone.
stop_broker() {
  local status=0
  if ! kill "-$1" "$broker_pid" 2> /dev/null; then
    wait "$broker_pid" 2> /dev/null || status=$?
    broker_pid=
    echo "the broker had ended by itself, status $status; the end of its output:" >&2
    tail -n 20 "$data.log" >&2
    return 1
  fi
  wait "$broker_pid" 2> /dev/null || status=$?
  broker_pid=
  case $1 in
    TERM) [ "$status" = 0 ] || [ "$BROKER" = apache ] || { echo "TERM: exit status $status" >&2; return 1; } ;;
  esac
}
