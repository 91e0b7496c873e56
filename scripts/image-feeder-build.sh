#!/usr/bin/env bash
# Builds the image f5-tmm-feeder with podman or docker, out of the tmmctl of the image f5-tmm (make image) and
# Debian's kubectl.
#
# The environment may say otherwise:
#   TMM_IMAGE           the image with tmmctl                           (f5-tmm:VERSION)
#   IMAGE               name and tag of the image                       (f5-tmm-feeder:VERSION, and :latest)
#   IMAGE_TOOL          podman or docker
#   BASE                image of the build stage                        (docker.io/library/debian:trixie-slim)
#   IMAGE_BUILD_ARGS    more arguments for the build
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/image-lib.sh
. scripts/image-lib.sh
# The first Debian whose kubectl is of these years.
# shellcheck disable=SC2034 # read by find_base
DEBIAN=trixie

version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
image=${IMAGE:-f5-tmm-feeder:$version}
choose_tool
source=${TMM_IMAGE:-f5-tmm:$version}
"$tool" image inspect "$source" >/dev/null 2>&1 || die "there is no image $source to take tmmctl from: make image"
find_base

# shellcheck disable=SC2154 # set by choose_tool and find_base
args=(--build-arg "TMM_IMAGE=$source" --build-arg "BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
    --tag "$image" --file deploy/feeder.Dockerfile)
[ -n "${IMAGE:-}" ] || args+=(--tag f5-tmm-feeder:latest)
# These work inside containers and virtual machines, too.
[ "$tool" != podman ] || args+=(--isolation chroot --network host)
read -ra more <<<"${IMAGE_BUILD_ARGS:-}"
"$tool" build "${args[@]}" ${more[@]+"${more[@]}"} .

size=$("$tool" image inspect --format '{{.Size}}' "$image")
say "built $image with $tool: $((size / 1000000)) MB"
