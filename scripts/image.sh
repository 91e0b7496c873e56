#!/usr/bin/env bash
# Builds the container image f5-tmm with podman or docker, whichever there is; installs podman on Debian if
# there is neither.
#
#   scripts/image.sh build             from the sources, in the container                 (make image)
#   scripts/image.sh prebuilt [DIR]    with tmm and tmmctl from DIR, built on this machine (make test-image)
#
# The environment may say otherwise:
#   IMAGE               name and tag of the image                       (f5-tmm:VERSION, and f5-tmm:latest)
#   IMAGE_TOOL          podman or docker
#   BASE                image of the build stages                       (docker.io/library/debian:bookworm-slim)
#   IMAGE_BUILD_ARGS    more arguments for the build, such as --volume=$HOME/.cargo:/root/.cargo
#
# Where the base image cannot be pulled, it is made with debootstrap from the Debian mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/image-lib.sh
. scripts/image-lib.sh

how=${1:-build}
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision+=-modified
image=${IMAGE:-f5-tmm:$version}
choose_tool

prepare_prebuilt() {
    local from=$1 file debian
    debian=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    [ "$debian" = "$DEBIAN" ] || die "binaries of this machine (${debian:-no Debian}) do not fit an image of Debian $DEBIAN;" \
        "build it from the sources: make image"
    mkdir -p target/image
    for file in tmm tmmctl; do
        [ -x "$from/$file" ] || die "$from/$file is missing: build it first (make build)"
        strip --strip-debug -o "target/image/$file" "$from/$file"
    done
    sh scripts/image-crates.sh target/image
    say "with the binaries in $from"
}

case $how in
    build) say "from the sources, in the container; this takes some minutes" ;;
    prebuilt) prepare_prebuilt "$(realpath "${2:-${CARGO_TARGET_DIR:-target}/release}")" ;;
    *) die "unknown \"$how\": build or prebuilt" ;;
esac
find_base

args=(--build-arg "BASE=$base" --build-arg "BINARIES=$how" --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
    --target tmm --tag "$image" --file deploy/Dockerfile)
[ -n "${IMAGE:-}" ] || args+=(--tag f5-tmm:latest)
if [ "$tool" = podman ]; then
    # Docker's format: OCI's has no HEALTHCHECK. The other two work inside containers and virtual machines, too.
    args+=(--format docker --isolation chroot --network host)
fi
read -ra more <<<"${IMAGE_BUILD_ARGS:-}"
"$tool" build "${args[@]}" ${more[@]+"${more[@]}"} .

size=$("$tool" image inspect --format '{{.Size}}' "$image")
say "built $image with $tool: $((size / 1000000)) MB"
