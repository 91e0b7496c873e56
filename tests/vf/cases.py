"""What is shown on virtual functions, in this order: each case finds tmm as the one before left it."""

import hashlib
import json
import re
import subprocess
import time

import objects
from lab import CLIENTS, Failure, eventually

# More than a window of TCP, and more than all descriptors hold.
TRANSFER = 3 << 20


def ensure(condition, why):
    if not condition:
        raise Failure(why)


def url(address, path):
    return f"http://[{address}]{path}" if ":" in address else f"http://{address}{path}"


def curl(lab, *arguments, seconds=60, role="client", **more):
    return lab.inside(
        role, "curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", seconds,
        "--connect-timeout", seconds, *arguments, timeout=seconds + 10, **more,
    ).stdout


def answers(lab, address):
    """Whether the server answers through tmm."""
    return curl(lab, url(address, "/"), seconds=3, check=False).strip() == "server"


def flows(lab, address=objects.VIP["automap"][0], seconds=60):
    begin = time.monotonic()
    eventually(f"traffic through {address}", seconds, lambda: answers(lab, address))
    return time.monotonic() - begin


def datagrams(lab, address):
    at = f"[{address}]:7" if ":" in address else f"{address}:7"
    report = json.loads(lab.inside(
        "client", lab.programs / "lab-client", "udp", at, "--count", "5", "--size", "1200",
        "--timeout-ms", "3000", check=False, timeout=120,
    ).stdout or "{}")
    ensure(report.get("answered") == 5, f"UDP to {address}: {report}")


def pings(lab, address, within=30, answered=True):
    """That the address begins to answer, or stops to."""
    eventually(
        f"{address} {'answers' if answered else 'falls silent'}", within,
        lambda: (lab.inside("client", "ping", "-n", "-c", "1", "-W", "1", address, check=False).returncode == 0)
        == answered,
    )


def both_families_and_translations(lab):
    lab.start_tmm()
    lab.apply(*objects.everything())
    for snat, addresses in objects.VIP.items():
        for address in addresses:
            flows(lab, address)
            seen = json.loads(curl(lab, url(address, "/whoami")))
            peer = json.dumps(seen)
            own = "198.51.100.1" if ":" not in address else "2001:db8:200::1"
            client = "192.0.2.10" if ":" not in address else "2001:db8:100::10"
            wanted = client if snat == "none" else own
            ensure(f"{wanted}]" in peer or f"{wanted}:" in peer or f'{wanted}"' in peer,
                   f"snat {snat} to {address}: the server saw {peer}, not {wanted}")
            datagrams(lab, address)
    transfer(lab)


def transfer(lab):
    path = f"/bytes/{TRANSFER}"
    for address in (objects.VIP["automap"][0], objects.VIP["none"][1]):
        expected = curl(lab, url(address, f"{path}/sha256")).split()[0]
        target = lab.directory / "received"
        curl(lab, "-o", target, url(address, path), seconds=120)
        received = hashlib.sha256(target.read_bytes()).hexdigest()
        ensure(received == expected, f"{path} from {address}: SHA-256 {received} and not {expected}")
        uploaded = curl(lab, "-T", target, url(address, "/upload"), seconds=120).split()[0]
        ensure(uploaded.strip('"') == expected, f"upload to {address}: the server got {uploaded}")


def kill_and_restart(lab):
    before = lab.show("ports")
    ensure(len(before) == 2, "two ports")
    lab.sh("kill -9 $(cat /tmp/tmm.pid); while kill -0 $(cat /tmp/tmm.pid) 2>/dev/null; do sleep 0.05; done")
    lab.start_tmm()
    lab.apply(*objects.everything())
    flows(lab)
    datagrams(lab, objects.VIP["none"][0])


def drip(lab, lines, interval_ms):
    """A connection that says a line now and then, so that one can see whether it lives."""
    address = objects.VIP["automap"][0]
    process = lab.start(
        "client", "curl", "--silent", "--show-error", "--fail", "--no-buffer", "--max-time", "120",
        url(address, f"/drip/{lines}/{interval_ms}"),
    )
    eventually("the connection is open", 20, lambda: process.log.stat().st_size > 0)
    return process


def survives(lab, harm, name):
    """Does harm to a physical function and waits until tmm has seen to it."""
    before = lab.port("1.1")["resets"]
    pid = lab.sh("cat /tmp/tmm.pid").strip()
    # Long enough to be under way when the port comes back.
    connection = drip(lab, 60, 250)
    begin = time.monotonic()
    lab.sh(harm, 60)
    lab.await_carrier()
    eventually("tmm restarts the port", 60, lambda: lab.port("1.1")["resets"] > before)
    flows(lab)
    back = time.monotonic() - begin
    ensure(pid == lab.sh("cat /tmp/tmm.pid").strip() and lab.tmm_runs(), "tmm was restarted, which was not the point")
    try:
        status = connection.wait(90)
    except subprocess.TimeoutExpired:
        raise Failure("the connection from before does not end") from None
    lines = len(connection.log.read_text().splitlines())
    ensure(status == 0 and lines == 60, f"the connection from before ended with {status} after {lines} of 60 lines")
    datagrams(lab, objects.VIP["automap"][1])
    resets = lab.port("1.1")["resets"] - before
    return f"{name}: traffic again {back:.1f} s after, restarts {resets}, the open connection went on"


def carrier_lost(lab):
    return survives(
        lab,
        "ip link set eth0 down; while ip -br link show eth0 | grep -q LOWER_UP; do sleep 0.05; done; "
        "sleep 1; ip link set eth0 up",
        "down and up",
    )


def mtu_changed(lab):
    return survives(lab, "ip link set eth0 mtu 4000", "MTU 4000")


def tags(lab):
    offloads = lab.port("1.1")["offloads"]
    ensure("vlan-strip" in offloads and "vlan-filter" in offloads, f"offloads are {offloads}")
    seen = {}
    for tap, tag in zip(lab.taps, (100, 200)):
        mac = "02:00:00:00:00:10" if tag == 100 else "02:00:00:00:01:10"
        capture = lab.start(
            "wire", "tcpdump", "-l", "-e", "-n", "-c", "40", "-i", tap, "ether", "src", mac,
        )
        eventually("tcpdump listens", 10, lambda: "listening on" in capture.log.read_text())
        seen[tag] = capture
    curl(lab, url(objects.VIP["automap"][0], "/bytes/200000"), "-o", "/dev/null")
    for tag, capture in seen.items():
        # Acknowledgements alone are fewer than what was asked for: end it when enough is there.
        eventually(
            f"frames of VLAN {tag}", 30,
            lambda: len(re.findall(r"ethertype", capture.log.read_text())) >= 10,
        )
        capture.terminate()
        capture.wait()
        lines = [line for line in capture.log.read_text().splitlines() if "ethertype" in line]
        wrong = [line for line in lines if f"vlan {tag}," not in line]
        ensure(not wrong, f"sent without tag {tag}: {wrong[:2]}")
        double = [line for line in lines if line.count(" vlan ") + line.count("802.1Q") > 2]
        ensure(not double, f"sent with two tags: {double[:2]}")


def filters_follow(lab):
    third = objects.THIRD_VLAN
    address = third["spec"]["selfip_v4s"][0]
    pings(lab, address, answered=False)
    lab.apply(third)
    pings(lab, address)
    lab.delete(third)
    pings(lab, address, answered=False)
    lab.apply(third)
    pings(lab, address)
    # The others have not suffered.
    flows(lab)
    pings(lab, "192.0.2.1")


def clean_stop(lab):
    lab.sh("kill -TERM $(cat /tmp/tmm.pid)")
    eventually("tmm ends", 30, lambda: not lab.tmm_runs())
    status = lab.sh("wait $(cat /tmp/tmm.pid); echo $?").strip()
    ensure(status == "0", f"exit status {status}")
    last = lab.tmm_log().splitlines()[-3:]
    ensure(any("every buffer is back in its pool" in line for line in last), f"its last words: {last}")
    # Nobody holds the groups of the functions any more.
    holders = lab.sh("for fd in /proc/[0-9]*/fd/*; do readlink $fd; done 2>/dev/null | grep -c '^/dev/vfio/' ; true").strip()
    ensure(holders == "0", f"{holders} descriptors of /dev/vfio are still open")


def two_workers(lab):
    # Functions have one queue, and ports are dealt out in turn: each worker has one in each VLAN.
    lab.start_tmm("1.1=0,0", "1.2=0,1", "1.3=1,0", "1.4=1,1", more="--workers 2")
    lab.apply(*objects.everything(external=("1.1", "1.2"), internal=("1.3", "1.4")))
    for address in objects.VIP["automap"] + objects.VIP["none"]:
        flows(lab, address)
        datagrams(lab, address)
    transfer(lab)
    # Each neighbour keeps to one of the functions in its VLAN, and there are enough for both.
    for role in CLIENTS:
        for address in objects.VIP["automap"]:
            curl(lab, url(address, "/bytes/30000"), "-o", "/dev/null", role=role)
    workers = lab.show("workers")
    ensure(
        [worker["queues"] for worker in workers] == ["1.1:0,1.3:0", "1.2:0,1.4:0"], f"workers: {workers}"
    )
    ports = lab.show("ports")
    resets = [port["resets"] for port in ports]
    ensure(not any(resets), f"ports were restarted for no reason: {resets}")
    macs = {port["mac"] for port in ports}
    ensure(len(macs) == 4, f"MAC addresses are {macs}")
    ensure(all(port["txPackets"] for port in ports), f"a port sends nothing: {ports}")
    few = [port["port"] for port in ports[:2] if port["rxPackets"] < 20]
    ensure(not few, f"next to nothing comes in by {few}: {ports}")
    return "frames received by port: " + ", ".join(f"{port['port']} {port['rxPackets']}" for port in ports)


def pulled_out(lab):
    """The physical function takes its virtual ones back: tmm lets go and lives on."""
    lab.sh("echo 0 >/sys/class/net/eth1/device/sriov_numvfs", 60)
    for port in ("1.3", "1.4"):
        eventually(f"port {port} is out", 30, lambda: lab.port(port).get("link") == "removed")
    pings(lab, "192.0.2.1")
    ensure("goes on without this port" in lab.tmm_log(), "tmm does not say so")


CASES = [
    ("TCP and UDP, IPv4 and IPv6, SNAT automap and none", both_families_and_translations),
    ("kill -9, and again on the same functions", kill_and_restart),
    ("the physical function goes down and up", carrier_lost),
    ("the physical function's MTU changes", mtu_changed),
    ("tags that the device strips are right on the wire", tags),
    ("filters follow the VLANs as they come and go", filters_follow),
    ("a clean stop", clean_stop),
    ("two workers on two functions in each VLAN", two_workers),
    ("functions that are taken away", pulled_out),
    ("a clean stop without them", clean_stop),
]
