# What scripts/image.sh and scripts/image-test.sh share. Sourced, not run.
# shellcheck shell=bash

# The Debian release of the image.
DEBIAN=bookworm

say() { printf 'image: %s\n' "$*"; }
die() { printf 'image: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Sets $tool. A docker client without a daemon is of no use.
choose_tool() {
    tool=${IMAGE_TOOL:-}
    if [ -z "$tool" ]; then
        if have podman; then
            tool=podman
        elif have docker && timeout 10 docker info >/dev/null 2>&1; then
            tool=docker
        else
            say "there is neither podman nor a docker that has a daemon"
            scripts/setup.sh image
            tool=podman
        fi
    fi
    have "$tool" || die "$tool is not installed"
}

# Sets $base to an image of the Debian release, pulled or made here.
find_base() {
    base=${BASE:-docker.io/library/debian:$DEBIAN-slim}
    "$tool" image inspect "$base" >/dev/null 2>&1 && return 0
    # A registry that is not there shall not be waited for.
    if timeout 120 "$tool" pull -q "$base" >/dev/null 2>&1; then
        say "pulled $base"
        return 0
    fi
    [ -z "${BASE:-}" ] || die "cannot pull $BASE"
    local own=localhost/debian-$DEBIAN:debootstrap
    say "cannot pull $base: making $own with debootstrap"
    base=$own
    "$tool" image inspect "$base" >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] || die "debootstrap needs root"
    have debootstrap || scripts/setup.sh image
    local tree
    tree=$(mktemp -d)
    # An interrupted debootstrap leaves /proc mounted in there.
    # shellcheck disable=SC2064 # its name is the one of now
    trap "umount -q '$tree/proc' '$tree/sys' || true; rm -rf --one-file-system '$tree' '$tree.log'" EXIT
    trap 'exit 130' INT TERM
    debootstrap --variant=minbase "$DEBIAN" "$tree" http://deb.debian.org/debian >"$tree.log" 2>&1 \
        || { tail -n 5 "$tree.log" >&2; die "debootstrap failed: is the Debian mirror within reach?"; }
    # As in Debian's own images: with security updates.
    cat >"$tree/etc/apt/sources.list" <<SOURCES
deb http://deb.debian.org/debian $DEBIAN main
deb http://deb.debian.org/debian $DEBIAN-updates main
deb http://deb.debian.org/debian-security $DEBIAN-security main
SOURCES
    tar -C "$tree" -c . | "$tool" import - "$base" >/dev/null
    rm -rf "$tree" "$tree.log"
    trap - EXIT INT TERM
}
