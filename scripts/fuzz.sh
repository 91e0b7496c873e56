#!/usr/bin/env bash
# Runs every fuzz target for a bounded time (FUZZ_SECONDS each, 60 if unset); stops at the first finding.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

for target in $(cargo +nightly fuzz list); do
    echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
    cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048
done
