#!/bin/bash
# An embedder's day: a fresh project outside this workspace, with nothing but the engine crate, built for the first time, with exactly the code
# that README.md shows. `tests/embed/day.sh` fails if it does not build, does not do what it says, takes a minute or more of two cores to
# build, or needs more than 24 crates besides ours, or one that docs/ARCHITECTURE.md gives no reason for.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
most_crates=24 most_seconds=60
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
unset CARGO_TARGET_DIR

mkdir -p "$project/src/bin"
cat > "$project/Cargo.toml" << TOML
[package]
name = "embedders-day"
version = "0.1.0"
edition = "2024"

[dependencies]
highwater-engine = { path = "$root/engine" }

[workspace]
TOML
# The versions that this repository is tested with.
cp Cargo.lock "$project"
{
  echo 'fn main() -> Result<(), Box<dyn std::error::Error>> {'
  sed -n '/^```rust$/,/^```$/p' README.md | sed -e '/^```$/q' | sed -e '/^```/d'
  echo 'Ok(()) }'
} > "$project/src/main.rs"
cp tests/embed/codec.rs "$project/src/bin/codec.rs"
cd "$project"
grep -q 'Engine::open' src/main.rs || { echo "README.md shows no code"; exit 1; }

cargo fetch --quiet
TIMEFORMAT='%R %U %S'
times=$({ time cargo build --quiet --jobs 2 --bin embedders-day 1>&2; } 2>&1) || { echo "$times"; exit 1; }
read -r wall user system <<< "$(tail -n 1 <<< "$times")"
./target/debug/embedders-day > out
sed 's/^/  /' out
cargo run --quiet --bin codec

# In use at build time or at run time, on this platform.
tree=$(cargo tree --edges normal,build --prefix none --no-dedupe | awk '{ print $1 }' | sort -u | grep -v -e '^highwater-' -e '^embedders-day$')
crates=$(wc -l <<< "$tree")
unexplained=0
for crate in $tree; do
  if ! sed -n '/^## Dependencies/,/^## /p' "$root/docs/ARCHITECTURE.md" | grep -q "^|.*\`$crate\`.*|.*|.*[a-z].*|$"; then
    echo "$crate has no reason in docs/ARCHITECTURE.md"
    unexplained=$((unexplained + 1))
  fi
done
# Elsewhere someone else may keep the cores busy: then the processor time says it, which two idle cores at most take one after the other.
quick=$(awk -v wall="$wall" -v cpu="$user $system" -v most="$most_seconds" 'BEGIN { split(cpu, c, " "); print (wall < most || c[1] + c[2] < most) ? "yes" : "no" }')
echo "figure: embedders_day build_seconds=$wall cpu_seconds=$(awk "BEGIN { print $user + $system }") crates=$crates unexplained=$unexplained"
[ "$quick" = yes ] || { echo "the first build takes too long"; exit 1; }
[ "$crates" -le "$most_crates" ] || { echo "more than $most_crates crates:" $tree; exit 1; }
[ "$unexplained" = 0 ]
