# Sourced: installs what each client needs below $CLIENTS, with the machine's ordinary package clients.
# install_CLIENT prints nothing and succeeds, or prints in one line why the client cannot run here and fails.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
CLIENTS=${CLIENTS:-$repository/.clients}
mkdir -p "$CLIENTS"

# Runs a command with its output in a file; says the last line of it when it fails.
quietly() {
  local what=$1 log
  shift
  log=$CLIENTS/install-${what// /-}.log
  "$@" > "$log" 2>&1 || { echo "$what failed: $(tail -n 1 "$log")"; return 1; }
}

install_kcat() {
  command -v kcat > /dev/null && return
  command -v apt-get > /dev/null || { echo "no kcat, and no apt-get"; return 1; }
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2> /dev/null || { echo "no kcat, and no right to install it"; return 1; }
    sudo=(sudo -n)
  fi
  quietly "apt-get install kcat" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    sh -c '(apt-get install -y kcat || (apt-get update && apt-get install -y kcat))' || return 1
}

install_python() {
  command -v python3 > /dev/null || { echo "no python3"; return 1; }
  "$CLIENTS/python/bin/python" -c 'import confluent_kafka' 2> /dev/null && return
  quietly "python venv" python3 -m venv --clear "$CLIENTS/python" || return 1
  quietly "pip install" "$CLIENTS/python/bin/pip" install -r "$here/python/requirements.txt" || return 1
}

install_sarama() {
  command -v go > /dev/null || { echo "no go"; return 1; }
  (cd "$here/sarama" && quietly "go build" go build -o "$CLIENTS/sarama" .) || return 1
}
install_sarama-sync() { install_sarama; }
install_sarama-async() { install_sarama; }

# Kafka's jars: its clients, its broker and its tools.
install_kafka_jars() {
  command -v java > /dev/null || { echo "no java"; return 1; }
  [ -e "$CLIENTS/kafka/lib/kafka-tools-4.3.1.jar" ] && return
  command -v mvn > /dev/null || { echo "no mvn"; return 1; }
  mkdir -p "$CLIENTS/kafka"
  quietly "mvn" mvn -q -f "$here/java/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$CLIENTS/kafka/lib" || return 1
}

install_java() {
  command -v javac > /dev/null || { echo "no javac"; return 1; }
  install_kafka_jars || return 1
  quietly "javac" javac -cp "$CLIENTS/kafka/lib/*" -d "$CLIENTS/java" "$here/java/RoundTrip.java" || return 1
}

# cargo with a build directory of its own, whatever the caller's variables say.
rskafka_cargo() { CARGO_TARGET_DIR=$CLIENTS/rskafka/target CARGO_PROFILE_DEV_DEBUG=0 cargo "$@"; }

# The sources of rskafka, which carry its tests, built. The rsasl that it locks does not compile any more.
install_rskafka() {
  local of=$CLIENTS/rskafka
  if [ ! -e "$of/rskafka-0.6.0/built" ]; then
    rm -rf "$of/rskafka-0.6.0" "$of/fetched"
    mkdir -p "$of/fetched/src"
    printf '[package]\nname = "fetched"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\nrskafka = "=0.6.0"\n[workspace]\n' > "$of/fetched/Cargo.toml"
    echo 'fn main() {}' > "$of/fetched/src/main.rs"
    quietly "cargo fetch" cargo fetch --manifest-path "$of/fetched/Cargo.toml" || return 1
    cp -r "$(cargo metadata --format-version 1 --manifest-path "$of/fetched/Cargo.toml" |
      sed -n 's/.*"manifest_path":"\([^"]*rskafka-0\.6\.0\)\/Cargo\.toml".*/\1/p')" "$of/" || { echo "no sources of rskafka"; return 1; }
    chmod -R u+w "$of/rskafka-0.6.0"
    # Any toolchain will do.
    rm -f "$of/rskafka-0.6.0/rust-toolchain.toml"
    # It is no member of the project's workspace, in whose directory it may lie.
    grep -q '^\[workspace\]' "$of/rskafka-0.6.0/Cargo.toml" || printf '\n[workspace]\n' >> "$of/rskafka-0.6.0/Cargo.toml"
    (cd "$of/rskafka-0.6.0" && quietly "cargo update" cargo update -p rsasl) || return 1
  fi
  (cd "$of/rskafka-0.6.0" && quietly "cargo test" rskafka_cargo test --lib --tests --no-run && touch built) || return 1
}

# client NAME produce|consume BOOTSTRAP TOPIC CODEC N; ended after five minutes
client() {
  local name=$1 limit=300
  shift
  case $name in
    kcat) timeout "$limit" bash "$here/kcat/client.sh" "$@" ;;
    python) timeout "$limit" "$CLIENTS/python/bin/python" "$here/python/client.py" "$@" ;;
    sarama-sync) timeout "$limit" "$CLIENTS/sarama" sync "$@" ;;
    sarama-async) timeout "$limit" "$CLIENTS/sarama" async "$@" ;;
    java) timeout "$limit" java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$here/java/log4j2.xml" \
      -cp "$CLIENTS/java:$CLIENTS/kafka/lib/*" RoundTrip "$@" ;;
    *) echo "unknown client $name" >&2; return 2 ;;
  esac
}

# kafka_tool CLASS ARGS...: one of Apache Kafka's own tools.
kafka_tool() {
  java -Xms64m -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/java/log4j2.xml" -cp "$CLIENTS/kafka/lib/*" "$@"
}
