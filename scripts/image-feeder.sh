#!/bin/sh
# Inside the build of the feeder's image: kubectl, tmmctl, and what they load.
#
#   image-feeder.sh packages             installs the Debian package with kubectl
#   image-feeder.sh assemble OUT ROOTFS  copies tmmctl from OUT, kubectl, and all they load, to ROOTFS
set -eu

# The user that tmm runs as, whose socket it is.
TMM_UID=10001

packages() {
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends kubernetes-client
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
}

# The libraries that a program needs, by their real places.
needed() {
    if ldd "$1" 2>/dev/null | grep 'not found' >&2; then
        echo "image: $1 needs what is not there" >&2
        exit 1
    fi
    # A program that is linked statically needs none.
    { ldd "$1" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'
}

assemble() {
    out=$1
    root=$2
    mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/dev" "$root/proc" "$root/sys" \
        "$root/var/lib/dpkg/status.d" "$root/usr/share/doc"
    ln -s usr/bin "$root/bin"
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    install -d -m 1777 "$root/tmp"
    install -d -m 0755 "$root/run"
    install -d -m 0770 -o $TMM_UID -g 0 "$root/run/tmm"
    install -m 0755 "$out/tmmctl" "$root/usr/bin/tmmctl"
    kubectl=$(realpath "$(command -v kubectl)")
    install -m 0755 "$kubectl" "$root/usr/bin/kubectl"
    files=$(needed "$root/usr/bin/tmmctl"; needed "$kubectl")
    for file in $files; do
        place=$(realpath "$(dirname "$file")")/$(basename "$file")
        mkdir -p "$root$(dirname "$place")"
        cp -L "$file" "$root$place"
    done
    cp -L /etc/os-release "$root/etc/os-release"
    printf 'root:x:0:0:root:/:/usr/sbin/nologin\ntmm:x:%s:%s:tmm:/run/tmm:/usr/sbin/nologin\n' $TMM_UID $TMM_UID \
        >"$root/etc/passwd"
    printf 'root:x:0:\ntmm:x:%s:\n' $TMM_UID >"$root/etc/group"
    # Whose files these are: their licences, and what scanners want to know of them.
    for file in "$kubectl" $files; do
        real=$(realpath "$file")
        # dpkg knows some files by the place they had before /usr was merged.
        dpkg -S "$real" 2>/dev/null || dpkg -S "${real#/usr}" 2>/dev/null || {
            echo "image: no package has $real" >&2
            exit 1
        }
    done | sed 's/[:,].*//' | sort -u | while read -r package; do
        mkdir -p "$root/usr/share/doc/$package"
        cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
        dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    done
    mkdir -p "$root/usr/share/common-licenses"
    cp -a /usr/share/common-licenses/. "$root/usr/share/common-licenses/"
}

case ${1:-} in
    packages) packages ;;
    assemble) assemble "$2" "$3" ;;
    *)
        sed -n '2,6p' "$0" >&2
        exit 2
        ;;
esac
