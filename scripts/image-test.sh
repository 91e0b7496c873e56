#!/usr/bin/env bash
# Runs the image as it is meant to be run (not as root, on a read-only root file system, with the capabilities
# that docs/container.md lists and no others) between a client and three backends in network namespaces,
# and passes traffic through it.
#
#   scripts/image-test.sh [IMAGE]      as root, with podman; make test-image builds the image ($IMAGE) first
#
# Everything lives in namespaces named tmm-image-*; the machine's own network is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/image-lib.sh
. scripts/image-lib.sh

IMAGE=${1:-${IMAGE:-f5-tmm:latest}}
BIN=$(realpath "${TMM_BIN_DIR:-${CARGO_TARGET_DIR:-target}/debug}")
MOST_MB=120
NS=tmm-image
VIP4=203.0.113.10
VIP6=2001:db8:ffff::10

[ "$(id -u)" = 0 ] || die "the test makes network namespaces: run it as root"
have podman || die "the test runs the image with podman: scripts/setup.sh image"
# crun wants a pure cgroup v2, and knows no container without one. Where the machine has the older kind, show it
# a view of its own.
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] && [ -z "${TMM_IMAGE_TEST_VIEW:-}" ]; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec env TMM_IMAGE_TEST_VIEW=1 unshare --mount --propagation slave \
        sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@"' "$0" "$@"
fi

checks=0
ok() { checks=$((checks + 1)); printf 'ok %2d  %s\n' "$checks" "$*"; }
fail() {
    printf 'image: FAILED: %s\n' "$*" >&2
    exit 1
}
within() { local ns=$1; shift; ip netns exec "$NS-$ns" "$@"; }
# behind LOG NAMESPACE COMMAND…: in the background, as a process that can be stopped by its number.
behind() {
    local log=$1 ns=$2
    shift 2
    ip netns exec "$NS-$ns" "$@" >"$log" 2>&1 &
    started+=($!)
}

# Waits up to $1 seconds for a command to succeed.
await() {
    local deadline=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# Removes what a test makes: its own at the end, and at the start what one that was killed has left.
sweep() {
    local container ns
    for container in $(podman ps -aq --filter "name=^$NS-"); do podman rm -f -t 1 "$container" >/dev/null 2>&1 || true; done
    for ns in client tmm wire backend1 backend2 backend3; do
        ip netns pids "$NS-$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$NS-$ns" 2>/dev/null || true
    done
}

work=$(mktemp -d)
started=()
finish() {
    local status=$? container pid
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        for container in $(podman ps -aq --filter "name=^$NS-"); do
            echo "--- the last lines of container $container:" >&2
            podman logs --tail 30 "$container" >&2 || true
        done
        tail -n 5 "$work"/*.log >&2 || true
    fi
    for pid in ${started[@]+"${started[@]}"}; do kill "$pid" 2>/dev/null || true; done
    sweep
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM
sweep

network() {
    local ns i
    for ns in client tmm wire backend1 backend2 backend3; do
        ip netns add "$NS-$ns"
        ip -n "$NS-$ns" link set lo up
        within "$ns" sh -c 'cd /proc/sys/net/ipv6/conf/default && echo 0 >accept_dad && echo 0 >accept_ra'
    done
    for ns in tmm wire; do
        within $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
    done
    for i in 1 2; do
        ip link add "trunk$i" netns $NS-tmm mtu 3000 type veth peer name "wire$i" netns $NS-wire mtu 3000
        ip -n $NS-tmm link set "trunk$i" up promisc on
        ip -n $NS-wire link set "wire$i" up
    done
    local ports=(
        --trunk "dev=wire1,vlans=100" --trunk "dev=wire2,vlans=200"
        --access "netns=$NS-client,dev=eth0,vlan=100,mac=02:00:00:00:01:10"
    )
    for i in 1 2 3; do
        ports+=(--access "netns=$NS-backend$i,dev=eth0,vlan=200,mac=02:00:00:00:02:1$i")
    done
    behind "$work/switch.log" wire "$BIN/vlan-switch" "${ports[@]}"
    await 10 grep -q READY "$work/switch.log" || fail "the switch did not start"
    ip -n $NS-client addr add 192.0.2.10/24 dev eth0
    ip -n $NS-client addr add 2001:db8:100::10/64 dev eth0
    ip -n $NS-client route add 203.0.113.0/24 via 192.0.2.1
    ip -n $NS-client route add 2001:db8:ffff::/64 via 2001:db8:100::1
    for i in 1 2 3; do
        ip -n "$NS-backend$i" addr add "198.51.100.1$i/24" dev eth0
        ip -n "$NS-backend$i" addr add "2001:db8:200::1$i/64" dev eth0
        ip -n "$NS-backend$i" route add default via 198.51.100.1
        ip -n "$NS-backend$i" route add default via 2001:db8:200::1
        behind "$work/backend-$i.log" "backend$i" \
            "$BIN/lab-server" --name "backend-$i" --http '[::]:8080' --udp '[::]:7007'
        await 10 grep -q READY "$work/backend-$i.log" || fail "backend $i did not start"
    done
}

# Runs podman run with what every container of the test has: no privileges but those that follow. Limits are
# within what this machine allows; the cgroups of the machine are left alone. As in Kubernetes, /tmp and the like
# are read-only, too.
contain() {
    podman run --no-healthcheck --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 \
        --read-only --read-only-tmpfs=false --tmpfs /run/tmm --user 10001:10001 --cap-drop all --security-opt no-new-privileges "$@"
}

# start NAME SECONDS: a container named $NS-NAME on both trunks that drains for SECONDS.
start() {
    contain --detach --name "$NS-$1" --network "ns:/run/netns/$NS-tmm" --cap-add net_admin --cap-add net_raw \
        --env "TMM_PORTS=1.1=af_packet:trunk1;1.2=af_packet:trunk2" --env "TMM_DRAIN=$2" "$IMAGE" >/dev/null
}
ctl() { local name=$1; shift; podman exec -i "$NS-$name" tmmctl "$@"; }
# health NAME PROBE CODE WORD: what the probe says has this exit code and contains this word.
health() {
    local said code=0
    said=$(ctl "$1" health "$2" 2>&1) || code=$?
    [ "$code" = "$3" ] && grep -q "$4" <<<"$said" && return 0
    printf '%s\nexit code %s\n' "$said" "$code" >"$work/health.log"
    return 1
}
# configure NAME: gives it the resources of the demonstration.
configure() {
    for file in demo/*.yaml; do printf -- '---\n'; cat "$file"; done >"$work/config.yaml"
    ctl "$1" apply -f - <"$work/config.yaml" >"$work/apply.log" || fail "the configuration was refused"
}
get() { within client curl -gsS --max-time 5 "$1"; }
# Not through a pipe: grep does not read to the end, and whoever writes would fail.
log_has() { grep -q "$2" <<<"$(podman logs "$NS-$1" 2>&1)"; }
is_running() { [ "$(podman inspect --format '{{.State.Running}}' "$NS-$1")" = true ]; }

# ---- the image itself ----
size=$(($(podman image inspect --format '{{.Size}}' "$IMAGE") / 1000000))
[ "$size" -le $MOST_MB ] || fail "the image has $size MB, more than $MOST_MB"
ok "the image has $size MB, of $MOST_MB that it may have"
for shell in /bin/sh /bin/bash /bin/dash /usr/bin/busybox; do
    ! contain --rm --network none --entrypoint $shell "$IMAGE" -c true >/dev/null 2>&1 || fail "$shell is in the image"
done
ok "there is no shell in it"
files=$(podman image mount "$IMAGE")
packages=$(find "$files/var/lib/dpkg/status.d" -type f | wc -l)
[ "$packages" -gt 20 ] || fail "only $packages packages are listed"
while IFS= read -r package; do
    [ -s "$files/usr/share/doc/$package/copyright" ] || fail "no licence of $package"
done < <(cut -f1 "$files/usr/share/doc/tmm/packages.tsv")
[ "$(wc -l <"$files/usr/share/doc/tmm/crates.tsv")" -gt 50 ] || fail "the list of crates is too short"
[ -z "$(find "$files" -xdev -perm /6000)" ] || fail "there are set-user-ID files"
# Podman hands capabilities on to any program; Kubernetes leaves that to the file.
want=cap_net_admin,cap_net_raw,cap_ipc_lock,cap_sys_rawio,cap_sys_admin,cap_bpf=p
[ "$(getcap "$files/usr/bin/tmm" | cut -d' ' -f2)" = "$want" ] || fail "tmm does not permit $want: $(getcap "$files/usr/bin/tmm")"
podman image umount "$IMAGE" >/dev/null
ok "$packages Debian packages are listed for scanners, each with its licence; crates too"
[ "$(contain --rm --network none "$IMAGE" --version)" = "tmm $(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)" ] \
    || fail "tmm --version does not say this version"
ok "tmm runs without any capability: --version"

# ---- a replica's life ----
network
start drains 60
await 20 log_has drains "tmm is ready" || fail "tmm did not start"
pid=$(podman inspect --format '{{.State.Pid}}' $NS-drains)
[ "$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "/proc/$pid/status")" = "10001 10001 10001 10001" ] || fail "tmm is not user 10001"
# Bits 12 and 13: NET_ADMIN and NET_RAW.
for set in CapPrm CapEff CapBnd; do
    [ "$(awk "/^$set:/ { print \$2 }" "/proc/$pid/status")" = 0000000000003000 ] || fail "$set is not NET_ADMIN and NET_RAW"
done
[ "$(awk '/^NoNewPrivs:/ { print $2 }' "/proc/$pid/status")" = 1 ] || fail "no_new_privs is not set"
ok "tmm runs as user 10001, without new privileges, with NET_ADMIN and NET_RAW and nothing else"
health drains live 0 Turning || fail "it is not live"
health drains ready 1 NoConfiguration || fail "it is ready without configuration"
ok "live, but not ready: no configuration"
configure drains
await 15 health drains ready 0 Serving || fail "it does not become ready"
ok "ready once it is configured"
for url in "http://$VIP4/" "http://[$VIP6]/"; do
    await 10 get "$url" || fail "no answer from $url"
    for _ in 1 2 3; do get "$url" >>"$work/answers.log"; done
done
[ "$(sort -u "$work/answers.log" | wc -l)" = 3 ] || fail "not all three backends answered: $(sort "$work/answers.log" | uniq -c)"
ok "curl gets pages from all three backends by IPv4 and IPv6"
want=$(get "http://[$VIP6]/bytes/20000000/sha256")
[ "$(get "http://[$VIP6]/bytes/20000000" | sha256sum | cut -d' ' -f1)" = "$want" ] || fail "20 MB arrived damaged"
ok "20 MB arrive intact"
ip -n $NS-wire link set wire1 down
await 10 health drains ready 1 LinkDown || fail "a link that is down does not matter to readiness"
health drains live 0 Turning || fail "a link that is down matters to liveness"
ip -n $NS-wire link set wire1 up
await 10 health drains ready 0 Serving || fail "it does not become ready again"
ok "not ready while a link is down, ready again once it is up, live all the time"

# ---- its end ----
behind "$work/drip" client curl -gsSN --max-time 60 "http://$VIP4/drip/100/100"
drip=$!
await 10 test -s "$work/drip" || fail "the transfer did not begin"
podman kill --signal TERM $NS-drains >/dev/null
await 5 health drains ready 1 Draining || fail "it is ready though it drains"
health drains live 0 Turning || fail "it is not live while it drains"
! within client curl -gsS --connect-timeout 1 "http://$VIP4/" >/dev/null 2>&1 || fail "a new connection got in"
[ "$(ctl drains show drops --json --filter reason=draining | grep -c '"packets":[1-9]')" = 1 ] || fail "the drop is not counted"
ok "SIGTERM: not ready at once, live, and a new connection does not get in"
wait $drip || fail "the transfer was cut by the drain"
[ "$(wc -l <"$work/drip")" -ge 100 ] || fail "$(wc -l <"$work/drip") of 100 lines of the transfer arrived"
[ "$(timeout 40 podman wait $NS-drains)" = 0 ] || fail "it did not end with 0"
! log_has drains " ERROR " || fail "its log has errors: $(podman logs $NS-drains 2>&1 | grep " ERROR ")"
log_has drains "drained: no flow is left" || fail "it does not say that it has drained"
log_has drains "every buffer is back in its pool" || fail "buffers are missing"
ok "the transfer that had begun ends well, then tmm, with exit code 0"
podman rm $NS-drains >/dev/null

start again 0
await 20 log_has again "tmm is ready" || fail "tmm did not start again"
configure again
# The successor has the addresses: the client asks for nothing new.
await 10 get "http://$VIP4/" || fail "the successor does not answer"
udp=$(within client "$BIN/lab-client" udp "$VIP4:7" --count 30)
grep -q backend- <<<"$udp" || fail "no answers by UDP: $udp"
ok "its successor is found by its announcements, and answers datagrams too"
begun=$SECONDS
podman kill --signal TERM $NS-again >/dev/null
[ "$(timeout 20 podman wait $NS-again)" = 0 ] || fail "it did not end with 0"
[ $((SECONDS - begun)) -le 5 ] || fail "it took $((SECONDS - begun)) s to stop"
ok "without a drain, SIGTERM ends it at once, with exit code 0"

# Whether a container has started or ended.
settled() { log_has "$1" "tmm is ready" || ! is_running "$1"; }

# ---- which capabilities a port needs: these, and not one less ----
# needs WHAT "CAPABILITIES" "ARGUMENTS OF TMM" OPTIONS OF PODMAN…
needs() {
    local what=$1 set=$2 without cap kept caps run=$3
    shift 3
    for without in none $set; do
        kept=()
        for cap in $set; do [ "$cap" = "$without" ] || kept+=(--cap-add "$cap"); done
        podman rm -f -t 1 $NS-caps >/dev/null 2>&1 || true
        # shellcheck disable=SC2086 # several words
        contain --detach --name $NS-caps --network "ns:/run/netns/$NS-tmm" ${kept[@]+"${kept[@]}"} "$@" \
            "$IMAGE" run $run >/dev/null
        caps=started
        await 20 settled caps || true
        log_has caps "tmm is ready" || caps=refused
        if [ "$without" = none ]; then
            [ $caps = started ] || fail "$what does not start with ${set:-no capability}"
        elif [ $caps = started ]; then
            fail "$what starts without $without: docs/container.md need not ask for it"
        fi
    done
    podman rm -f -t 1 $NS-caps >/dev/null
    ok "$what needs ${set:-no capability}"
}
needs af_packet "net_admin net_raw" --port=1.1=af_packet:trunk1
needs "taking interfaces" "net_admin net_raw" "" --env TMM_MAPRES_ADDL_VETHS_ON_DP=TRUE
needs tap "net_admin" --port=1.1=tap:tmm-tap --device /dev/net/tun
needs memif "" --port=1.1=memif:/run/tmm/memif.sock,role=server
if grep -q '^XDP' /proc/net/protocols; then
    # And room for locked memory, which is the machine's to give, or IPC_LOCK.
    needs af_xdp "net_admin net_raw sys_admin" --port=1.1=af_xdp:trunk1 --cap-add ipc_lock
else
    echo "not tested: this kernel gives no AF_XDP sockets"
fi
echo "image: $checks checks passed"
