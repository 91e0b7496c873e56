#!/usr/bin/env bash
# Fuzzes with the stable toolchain and nothing installed besides:
#
#   fuzz/run.sh TARGET [libFuzzer options]    e.g. fuzz/run.sh frames -max_total_time=60
#   fuzz/run.sh all                           each for FUZZ_SECONDS (60 if unset): make fuzz
#   fuzz/run.sh list
#
# (cargo fuzz works as well, where it and a nightly toolchain are installed; it adds the sanitizers.)
# The corpus is kept in fuzz/corpus/TARGET; findings go to fuzz/artifacts/TARGET. Give a finding a name
# that says what it is and move it to tests/regressions/TARGET, where every test run replays it.
set -euo pipefail
cd "$(dirname "$0")"

if [[ ${1:-} == list ]]; then
    for file in fuzz_targets/*.rs; do basename "$file" .rs; done
    exit
fi
if [[ ${1:-} == all ]]; then
    for target in $(./run.sh list); do
        echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
        ./run.sh "$target" -max_total_time="${FUZZ_SECONDS:-60}" -verbosity=0 2>&1 \
            | sed -u '/^###### Recommended dictionary/,/^###### End of recommended/d'
    done
    exit
fi
[[ -f fuzz_targets/${1:-}.rs ]] || { echo "usage: $0 TARGET|all|list [libFuzzer options]" >&2; exit 2; }
target=$1
shift

host=$(rustc -vV | sed -n 's/^host: //p')
# Coverage counters and compared values for libFuzzer: what cargo fuzz passes, less the sanitizers,
# which only nightly has.
llvm=(level=4 inline-8bit-counters pc-table trace-compares)
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 ${llvm[*]/#/-Cllvm-args=-sanitizer-coverage-}"
export RUSTFLAGS
# With --target, the flags leave build scripts and macros alone.
cargo build --quiet --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" \
    -artifact_prefix="artifacts/$target/" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    "$@" "corpus/$target" "../tests/regressions/$target"
