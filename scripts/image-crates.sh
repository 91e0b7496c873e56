#!/bin/sh
# Writes what tmm and tmmctl are made of into a directory: crates.tsv with name, version and licence of every
# crate, and licenses/ with the texts that came with them, each different text once.
set -eu
cd "$(dirname "$0")/.."
out=$1
mkdir -p "$out/licenses"
cargo tree --locked -e normal --prefix none -p dataplane -p cli --format '{p}	{l}' |
    sed 's/ (proc-macro)//; s/ (\*)$//; s/ v/\t/' |
    grep -v -e '(/' -e '^$' | sort -u >"$out/crates.tsv"
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
while IFS='	' read -r name version licence; do
    for text in "$sources"/*/"$name-$version"/LICEN[SC]E* "$sources"/*/"$name-$version"/COPYING* \
        "$sources"/*/"$name-$version"/NOTICE*; do
        [ -f "$text" ] || continue
        sum=$(sha256sum <"$text" | cut -c1-16)
        [ -f "$out/licenses/$sum" ] || cp "$text" "$out/licenses/$sum"
        chmod 644 "$out/licenses/$sum"
        printf '%s\t%s\t%s\t%s\tlicenses/%s\n' "$name" "$version" "$licence" "${text##*/}" "$sum"
    done
done <"$out/crates.tsv" >"$out/licenses.tsv"
