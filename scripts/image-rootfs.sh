#!/bin/sh
# Inside the build of the image: gathers its files.
#
#   image-rootfs.sh packages               installs the Debian packages whose files are taken
#   image-rootfs.sh assemble OUT ROOTFS    copies tmm and tmmctl from OUT, and all they load, to ROOTFS
set -eu

# DPDK drivers, by the names of their Debian packages (librte-net-…): kernel interfaces, shared memory and
# files; the network cards and their virtual functions; what hypervisors and clouds offer.
DRIVERS="af-packet af-xdp tap memif pcap null ring
    iavf ixgbe i40e ice e1000 igc mlx4 mlx5 bnxt
    virtio vmxnet3 ena gve"
BUSES="pci vdev auxiliary vmbus"

# The user that tmm runs as.
TMM_UID=10001

packages() {
    apt-get update -q
    set -- binutils libcap2-bin libibverbs1 ibverbs-providers libxdp1
    # The number behind the name is DPDK's ABI, which differs from release to release.
    for name in $(for d in $DRIVERS; do echo "net-$d"; done) $(for b in $BUSES; do echo "bus-$b"; done) mempool-ring; do
        package=$(apt-cache pkgnames "librte-$name" | grep -E "^librte-$name-?[0-9.]+$" | sort -V | tail -n 1)
        [ -n "$package" ] || { echo "image: Debian has no package librte-$name" >&2; exit 1; }
        set -- "$@" "$package"
    done
    echo "image: installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
}

# Copies a file or link to the same place below the root file system, with whatever a link leads to.
take() {
    # Directories may be links (/lib to /usr/lib): the real place is taken.
    place=$(realpath "$(dirname "$1")")/$(basename "$1")
    if [ -e "$root$place" ] || [ -h "$root$place" ]; then
        return 0
    fi
    mkdir -p "$root$(dirname "$place")"
    cp -a "$place" "$root$place"
    echo "$place" >>"$taken"
    [ -h "$place" ] || return 0
    case $(readlink "$place") in
        /*) take "$(readlink "$place")" ;;
        *) take "$(dirname "$place")/$(readlink "$place")" ;;
    esac
}

# Takes the libraries that a program or library needs; ldd lists those of its libraries too.
take_needed() {
    LD_LIBRARY_PATH='' ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p' |
        while read -r library; do take "$library"; done
    if ldd "$1" | grep 'not found'; then
        echo "image: $1 needs what is not there" >&2
        exit 1
    fi
}

assemble() {
    out=$1
    root=$2
    taken=$(mktemp)
    # As Debian has it: /lib and the like are links into /usr.
    mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/var/lib/dpkg/status.d" \
        "$root/dev" "$root/proc" "$root/sys" "$root/usr/share/doc/tmm"
    ln -s usr/bin "$root/bin"
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    install -d -m 1777 "$root/tmp"
    install -d -m 0755 "$root/run"
    ln -s ../run "$root/var/run"
    # Group 0, for platforms that choose the user (OpenShift) and leave it in that group.
    install -d -m 0770 -o $TMM_UID -g 0 "$root/run/tmm"

    for program in tmm tmmctl; do
        install -m 0755 "$out/$program" "$root/usr/bin/$program"
        take_needed "$root/usr/bin/$program"
    done
    for driver in $(for d in $DRIVERS; do echo "net_$d"; done) $(for b in $BUSES; do echo "bus_$b"; done) mempool_ring; do
        name=librte_$(echo "$driver" | tr - _).so
        found=
        for file in /usr/lib/*/dpdk/pmds-*/"$name".*; do
            [ -e "$file" ] || continue
            found=yes
            take "$file"
            take_needed "$file"
        done
        [ -n "$found" ] || { echo "image: no driver $name" >&2; exit 1; }
    done
    # Drivers that drivers need (net_ice needs common_iavf, …) are loaded from the drivers' folder as well.
    for file in /usr/lib/*/dpdk/pmds-*; do
        for library in "$root"/usr/lib/*/librte_common_*.so.*; do
            [ -e "$library" ] || continue
            twin=$file/$(basename "$library")
            [ ! -e "$twin" ] || take "$twin"
        done
    done
    # What libraries open by name: Mellanox' half of RDMA, and the XDP programs of AF_XDP.
    for file in /etc/libibverbs.d/mlx[45].driver /usr/lib/*/libibverbs/libmlx[45]-*.so \
        /usr/lib/*/bpf/xdp-dispatcher.o /usr/lib/*/bpf/xsk_def_xdp_prog*.o; do
        [ -e "$file" ] || { echo "image: $file is missing" >&2; exit 1; }
        take "$file"
    done

    take /usr/lib/os-release
    take /etc/os-release
    take /etc/debian_version
    printf 'root:x:0:0:root:/:/usr/sbin/nologin\ntmm:x:%s:%s:tmm:/run/tmm:/usr/sbin/nologin\n' $TMM_UID $TMM_UID \
        >"$root/etc/passwd"
    printf 'root:x:0:\ntmm:x:%s:\n' $TMM_UID >"$root/etc/group"

    cp -a "$out/crates.tsv" "$out/licenses.tsv" "$out/licenses" "$root/usr/share/doc/tmm/"
    inventory
    setcap cap_net_admin,cap_net_raw,cap_ipc_lock,cap_bpf,cap_sys_admin,cap_sys_rawio=p "$root/usr/bin/tmm"
    rm "$taken"
}

# Which packages the files are from: their licences, and what scanners want to know of them.
inventory() {
    packages=$(mktemp)
    while read -r file; do
        # dpkg knows some files by the place they had before /usr was merged.
        dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}" 2>/dev/null || {
            echo "image: no package has $file" >&2
            exit 1
        }
    done <"$taken" | sed -n 's/^\([^ ,]*\):[^:]*: .*\|^\([^ ,:]*\): .*/\1\2/p' | sort -u >"$packages"
    while read -r package; do
        mkdir -p "$root/usr/share/doc/$package"
        # A folder or file of documentation may be a link to another package's.
        cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
        dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
        dpkg-query -W -f '${Package}\t${Version}\t${source:Package}\t${source:Version}\n' "$package"
    done <"$packages" >"$root/usr/share/doc/tmm/packages.tsv"
    mkdir -p "$root/usr/share/common-licenses"
    cp -a /usr/share/common-licenses/. "$root/usr/share/common-licenses/"
    echo "image: $(wc -l <"$packages") packages have files in the image"
    rm "$packages"
}

case ${1:-} in
    packages) packages ;;
    assemble) assemble "$2" "$3" ;;
    *) echo "image-rootfs.sh packages | assemble OUT ROOTFS" >&2; exit 2 ;;
esac
