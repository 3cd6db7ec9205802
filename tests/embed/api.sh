#!/bin/bash
# The public API of the library crates is what docs/api/ records. `tests/embed/api.sh` compares, `tests/embed/api.sh --update` records it anew:
# a change of the API is then a change of a file that reviewers see. Needs a nightly toolchain (for rustdoc's JSON) and cargo-public-api,
# which it installs below the target directory if it is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.52.0
crates=(highwater-base highwater-io highwater-runtime highwater-engine highwater-isr highwater-control highwater-replication)
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
export PATH=$tools/bin:$PATH

if ! rustup run nightly rustdoc --version > /dev/null 2>&1; then
  echo "skipped: no nightly toolchain, from which cargo-public-api takes rustdoc's JSON"
  exit 0
fi
if ! cargo public-api --version 2> /dev/null | grep -q " $version$"; then
  if ! cargo install --quiet --locked --debug --root "$tools" cargo-public-api --version "$version"; then
    echo "skipped: no cargo-public-api $version"
    exit 0
  fi
fi

different=0 lines=0
for crate in "${crates[@]}"; do
  features=()
  [ "$crate" != highwater-engine ] || features=(--features codecs,map)
  recorded=docs/api/$crate.txt
  now=$(mktemp)
  # Without the implementations that the compiler derives or gives to every type.
  cargo public-api --color never -sss -p "$crate" "${features[@]}" > "$now" 2> "$now.errors" || { cat "$now.errors"; exit 1; }
  if [ "${1:-}" = --update ]; then
    cp "$now" "$recorded"
  elif ! diff -u "$recorded" "$now"; then
    different=$((different + 1))
  fi
  lines=$((lines + $(wc -l < "$now")))
  rm -f "$now" "$now.errors"
done
echo "figure: public_api crates=${#crates[@]} items=$lines different=$different"
[ "$different" = 0 ] || { echo "the public API differs from docs/api/: if that is meant, run tests/embed/api.sh --update and say so in docs/CHANGELOG.md"; exit 1; }
