#!/usr/bin/env bash
# Fetches what the guest needs and unpacks it under the cache directory; nothing is installed.
#
#   tests/vf/fetch.sh CACHE
#
# CACHE/tools   QEMU of Debian 13 with all it needs, started with its own loader; a static busybox
# CACHE/kernel  vmlinuz and modules of Debian 12's kernel
#
# Older QEMU aborts now and then while a guest maps the registers of its devices; 10.0.4 mended it.
set -euo pipefail
cache=$1
mkdir -p "$cache"
# Two tests at once fetch once.
exec 9>"$cache/.lock"
flock 9

mirror() {
    local found
    # shellcheck disable=SC2016 # for apt-get to expand
    found=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null \
        | awk '$1 == "Debian" && $2 == "main" { print $3; exit }')
    echo "${found:-http://deb.debian.org/debian}"
}

# apt_state SUITE DIRECTORY: makes of `apt` an apt-get with a state of its own, for one suite of Debian
apt_state() {
    local suite=$1 state=$2
    mkdir -p "$state"/{lists/partial,archives/partial,parts}
    : >"$state/status"
    cat >"$state/parts/debian.sources" <<END
Types: deb
URIs: $(mirror)
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    apt=(apt-get -qq -o APT::Sandbox::User=root -o "Dir::State=$state" -o "Dir::State::Lists=$state/lists"
        -o "Dir::State::status=$state/status" -o "Dir::Cache=$state" -o "Dir::Cache::archives=$state/archives"
        -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$state/parts"
        -o Dir::Etc::preferencesparts=/dev/null -o APT::Install-Recommends=false
        -o APT::Keep-Downloaded-Packages=true -o Binary::apt-get::APT::Keep-Downloaded-Packages=true
        -o Acquire::Retries=3 -o Acquire::Languages=none)
    # Hooks of the machine's own apt, such as those that delete archives, have no business here.
    printf '#clear DPkg::Post-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n' \
        >"$state/apt.conf"
    export APT_CONFIG="$state/apt.conf"
    "${apt[@]}" update
}

unpack() { dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink; }

work=$(mktemp -d "$cache/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ ! -e "$cache/tools/complete" ]; then
    echo "fetching QEMU (once, about 40 MB)"
    apt_state trixie "$work/trixie"
    "${apt[@]}" -y install --download-only base-files qemu-system-x86 busybox-static >/dev/null
    tree=$work/tools
    # Before the rest, or the packages make real directories of these.
    mkdir -p "$tree"/usr/{bin,sbin,lib,lib64}
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$tree/$link"; done
    for package in "$work"/trixie/archives/*.deb; do unpack "$package" "$tree"; done
    rm -rf "$tree"/usr/share/{doc,man,locale,icons,bug,lintian}
    touch "$tree/complete"
    rm -rf "$cache/tools"
    mv "$tree" "$cache/tools"
fi

if [ ! -e "$cache/kernel/complete" ]; then
    echo "fetching a kernel (once, about 70 MB)"
    apt_state bookworm "$work/bookworm"
    package=$("${apt[@]}" -o Dir::State="$work/bookworm" -s install linux-image-amd64 \
        | sed -n 's/^Inst \(linux-image-[0-9][^ ]*\) .*/\1/p' | head -n 1)
    [ -n "$package" ] || { echo "no linux-image-* in the archive of bookworm" >&2; exit 1; }
    (cd "$work" && "${apt[@]}" download "$package")
    mkdir "$work/kernel"
    unpack "$work/$package"_*.deb "$work/kernel"
    # Of 4000 modules a handful is needed; these places have them and all they depend on.
    find "$work/kernel" -type f ! -path '*/boot/vmlinuz-*' ! -path '*/drivers/vfio/*' ! -path '*/virt/lib/*' \
        ! -path '*/net/ethernet/intel/igb/*' ! -path '*/drivers/dca/*' ! -path '*/i2c/algos/*' \
        ! -path '*/drivers/ptp/*' ! -path '*/drivers/pps/*' -delete
    find "$work/kernel" -depth -type d -empty -delete
    touch "$work/kernel/complete"
    rm -rf "$cache/kernel"
    mv "$work/kernel" "$cache/kernel"
fi
