#!/bin/sh
# Inside the build of the image: puts tmm and tmmctl, stripped of debugging information, and the list of the
# crates they are made of into a directory.
#
#   image-binaries.sh build OUT       compiles them; installs what that needs
#   image-binaries.sh prebuilt OUT    takes them from target/image, where scripts/image.sh has put them
set -eu
cd "$(dirname "$0")/.."
how=$1
out=$2
mkdir -p "$out"

case $how in
    prebuilt)
        for file in tmm tmmctl; do
            [ -x "target/image/$file" ] || {
                echo "image: target/image/$file is missing: scripts/image.sh puts it there" >&2
                exit 1
            }
        done
        cp -a target/image/. "$out/"
        ;;
    build)
        # setup.sh speaks bash, and says what it installs; a toolchain that is mounted is used.
        bash scripts/setup.sh build
        PATH="${CARGO_HOME:-/root/.cargo}/bin:$PATH"
        export PATH CARGO_TARGET_DIR=/tmp/target
        cargo build --release --locked -p dataplane -p cli --bins
        sh scripts/image-crates.sh "$out"
        for file in tmm tmmctl; do
            # Symbols stay: a backtrace has names.
            strip --strip-debug -o "$out/$file" "$CARGO_TARGET_DIR/release/$file"
        done
        rm -rf "$CARGO_TARGET_DIR"
        ;;
    *)
        echo "image: BINARIES is \"$how\", not build or prebuilt" >&2
        exit 1
        ;;
esac
