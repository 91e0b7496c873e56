#!/usr/bin/python3
"""The same packets through Linux nftables NAT and through tmm, in network namespaces.

Writes docs/comparison.md; with --check it fails if it would be another. Each case sends frames by raw
sockets from hosts that have no IP stack of their own, so nothing but the box in the middle answers, and
notes in a few words what came out of it. Where the two differ, EXPLAINED says why; a difference without a
reason fails the run. Needs root, nft, ip, scapy, and tmm and tmmctl in the directory --bin. Ends by itself.
"""

import argparse
import ctypes
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import time

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.l2 import ARP, GRE, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

PAGE = os.path.join(os.path.dirname(__file__), "../../docs/comparison.md")
INSIDE, OUTSIDE = "10.0.0.1", "192.0.2.1"
CLIENTS = {"10.0.0.2": "02:00:00:00:01:02", "10.0.0.3": "02:00:00:00:01:03"}
SERVERS = {"192.0.2.10": "02:00:00:00:02:10", "192.0.2.11": "02:00:00:00:02:11"}
C1, C2 = CLIENTS
S1, S2 = SERVERS
LIBC = ctypes.CDLL(None, use_errno=True)
WAIT = 0.35


def run(*args, check=True, **more):
    return subprocess.run(args, check=check, capture_output=True, text=True, timeout=30, **more)


def in_namespace(name, make):
    """What `make` gives while this thread is in a namespace: a socket stays there."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if LIBC.setns(other, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        LIBC.setns(own, 0x40000000)
        os.close(own)
        os.close(other)


class Side:
    """The hosts on one side: a raw socket that answers ARP for them."""

    def __init__(self, namespace, device, hosts, box_mac):
        def make():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind((device, 0))
            return raw

        self.raw, self.hosts, self.box_mac = in_namespace(namespace, make), hosts, box_mac
        self.seen = []

    def send(self, packet, mac=None):
        source = mac or self.hosts.get(packet[IP].src, next(iter(self.hosts.values())))
        self.raw.send(bytes(Ether(src=source, dst=self.box_mac) / packet))

    def take(self):
        data, address = self.raw.recvfrom(65535)
        if address[2] == socket.PACKET_OUTGOING:
            return
        frame = Ether(data)
        if ARP in frame and frame[ARP].op == 1 and frame[ARP].pdst in self.hosts:
            mac = self.hosts[frame[ARP].pdst]
            answer = ARP(op=2, hwsrc=mac, psrc=frame[ARP].pdst, hwdst=frame[ARP].hwsrc, pdst=frame[ARP].psrc)
            self.raw.send(bytes(Ether(src=mac, dst=frame.src) / answer))
        elif IP in frame and frame[IP].proto != 2:
            self.seen.append(frame[IP])


class Box:
    """A NAT box between two sides."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory
        base = f"tmm-cmp-{os.getpid()}-{name}"
        self.spaces = {role: f"{base}-{role}" for role in ("in", "box", "out")}
        self.process = None
        for space in self.spaces.values():
            run("ip", "netns", "add", space)
        for role, device in (("in", "c0"), ("out", "s0")):
            near, far = self.spaces[role], self.spaces["box"]
            other = "n0" if role == "in" else "n1"
            run("ip", "-n", near, "link", "add", device, "type", "veth", "peer", "name", other, "netns", far)
            for space, link in ((near, device), (far, other)):
                conf = f"echo 1 > /proc/sys/net/ipv6/conf/{link}/disable_ipv6"
                run("ip", "netns", "exec", space, "sh", "-c", conf, check=False)
                run("ip", "netns", "exec", space, "ethtool", "-K", link, "tx", "off", "rx", "off", check=False)
                run("ip", "-n", space, "link", "set", link, "up")

    def mac(self, device):
        links = json.loads(run("ip", "-n", self.spaces["box"], "-j", "link", "show", device).stdout)
        return links[0]["address"]

    def start(self):
        raise NotImplementedError

    def open(self):
        self.start()
        self.inside = Side(self.spaces["in"], "c0", CLIENTS, self.mac("n0"))
        self.outside = Side(self.spaces["out"], "s0", SERVERS, self.mac("n1"))
        # Until each neighbour is known.
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reached = set()
            for client in CLIENTS:
                for server in SERVERS:
                    self.inside.send(IP(src=client, dst=server) / ICMP(id=9000 + len(reached)))
                    out = self.hear(0.2)[1]
                    for packet in out:
                        self.outside.send(IP(src=packet.dst, dst=packet.src) / ICMP(type=0, id=packet[ICMP].id))
                    if any(p.dst == client for p in self.hear(0.2)[0]):
                        reached.add((client, server))
            if len(reached) == len(CLIENTS) * len(SERVERS):
                return
        raise RuntimeError(f"{self.name} passes nothing on")

    def hear(self, seconds=WAIT):
        """What reaches the inside and the outside within some time."""
        self.inside.seen, self.outside.seen = [], []
        end = time.monotonic() + seconds
        sides = {side.raw: side for side in (self.inside, self.outside)}
        while (left := end - time.monotonic()) > 0:
            for ready in select.select(list(sides), [], [], left)[0]:
                sides[ready].take()
        return self.inside.seen, self.outside.seen

    def out(self, *packets):
        for packet in packets:
            self.inside.send(packet)
        return self.hear()

    def back(self, *packets):
        for packet in packets:
            self.outside.send(packet)
        return self.hear()

    def close(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for space in self.spaces.values():
            run("ip", "netns", "del", space, check=False)


class Nftables(Box):
    def start(self):
        box = self.spaces["box"]
        run("ip", "-n", box, "addr", "add", f"{INSIDE}/24", "dev", "n0")
        run("ip", "-n", box, "addr", "add", f"{OUTSIDE}/24", "dev", "n1")
        run("ip", "-n", box, "link", "set", "lo", "up")
        run("ip", "netns", "exec", box, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = """
table ip nat {
    chain post {
        type nat hook postrouting priority 100;
        oifname "n1" masquerade
    }
}
table ip filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname "n0" accept
        ct state established,related accept
    }
}
"""
        run("ip", "netns", "exec", box, "nft", "-f", "-", input=rules)


class Tmm(Box):
    def start(self):
        socket_path = os.path.join(self.directory, "config.sock")
        self.log = open(os.path.join(self.directory, "tmm.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.spaces["box"], os.path.join(self.directory_of_programs, "tmm"), "run",
             "--config-socket", socket_path, "--port=1.1=af_packet:n0", "--port=1.2=af_packet:n1"],
            stdout=self.log, stderr=subprocess.STDOUT)
        vlan = lambda name, port, own, internal: {
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": name},
            "spec": {"name": name, "interfaces": [port], "selfip_v4s": [own], "prefixlen_v4": 24, "internal": internal}}
        objects = [
            vlan("internal", "1.1", INSIDE, True),
            vlan("external", "1.2", OUTSIDE, False),
            {"apiVersion": "k8s.f5net.com/v3", "kind": "F5SPKEgress", "metadata": {"name": "egress"},
             "spec": {"snatType": "SRC_TRANS_AUTOMAP"}},
        ]
        text = "\n---\n".join(json.dumps(item) for item in objects)
        control = [os.path.join(self.directory_of_programs, "tmmctl"), "--socket", socket_path, "apply", "-f", "-"]
        for _ in range(100):
            if run(*control, input=text, check=False).returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        with open(self.log.name, encoding="utf-8") as log:
            raise RuntimeError(f"tmm does not take its configuration: {log.read()[-2000:]}")


def udp(src, sport, dst, dport, payload=b"x" * 20, **ip):
    return IP(src=src, dst=dst, **ip) / UDP(sport=sport, dport=dport) / Raw(payload)


def tcp(src, sport, dst, dport, flags, **more):
    return IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags, **more)


def fresh(packet):
    """As it leaves a host: lengths and checksums worked out."""
    return IP(bytes(packet))


def opened(box, src, sport, dst, dport):
    """The source that a UDP packet has outside, or None."""
    for packet in box.out(udp(src, sport, dst, dport))[1]:
        if UDP in packet and packet.dst == dst:
            return packet.src, packet[UDP].sport
    return None


def connected(box, sport, dport, isn=1000, other=9000):
    """A TCP connection through the box; the source port that it has outside."""
    syn = [p for p in box.out(tcp(C1, sport, S1, dport, "S", seq=isn, window=1000))[1] if TCP in p]
    if not syn:
        return None
    port = syn[0][TCP].sport
    box.back(tcp(S1, dport, OUTSIDE, port, "SA", seq=other, ack=isn + 1, window=1000))
    box.out(tcp(C1, sport, S1, dport, "A", seq=isn + 1, ack=other + 1, window=1000))
    return port


def verdict(packets, name="passed on"):
    return name if packets else "dropped"


CASES = []


def case(title):
    def keep(test):
        CASES.append((title, test))
        return test

    return keep


@case("UDP from a high port: the port is kept")
def _(box):
    seen = opened(box, C1, 40000, S1, 53)
    return "kept" if seen == (OUTSIDE, 40000) else f"{seen}"


@case("UDP from port 500")
def _(box):
    seen = opened(box, C1, 500, S1, 53)
    return "kept" if seen[1] == 500 else "below 1024" if seen[1] < 1024 else "a port from 1024 on"


@case("Two clients with one port to one server")
def _(box):
    a, b = opened(box, C1, 40001, S1, 53), opened(box, C2, 40001, S1, 53)
    return "different ports" if a[1] != b[1] else "the same port"


@case("Two clients with one port to two servers")
def _(box):
    a, b = opened(box, C1, 40002, S1, 53), opened(box, C2, 40002, S2, 53)
    return "different ports" if a[1] != b[1] else "the same port"


@case("The reply reaches the client")
def _(box):
    port = opened(box, C1, 40003, S1, 53)[1]
    back = box.back(udp(S1, 53, OUTSIDE, port))[0]
    good = [p for p in back if UDP in p and p.dst == C1 and p[UDP].dport == 40003 and p.src == S1]
    return verdict(good, "restored")


@case("From another port of the server")
def _(box):
    port = opened(box, C1, 40004, S1, 53)[1]
    return verdict([p for p in box.back(udp(S1, 54, OUTSIDE, port))[0] if UDP in p])


@case("From another server")
def _(box):
    port = opened(box, C1, 40005, S1, 53)[1]
    return verdict([p for p in box.back(udp(S2, 53, OUTSIDE, port))[0] if UDP in p])


@case("One port below 1024 to three servers")
def _(box):
    ports = {opened(box, C1, 600, server, port)[1] for server, port in ((S1, 53), (S2, 53), (S1, 54))}
    return "the same port for all" if len(ports) == 1 else "a port for each"


@case("Echo: two clients with one identifier")
def _(box):
    seen = []
    for client in CLIENTS:
        out = box.out(IP(src=client, dst=S1) / ICMP(id=5000, seq=1) / Raw(b"abcd"))[1]
        seen.append(out[0][ICMP].id)
    reached = []
    for client, number in zip(CLIENTS, seen):
        back = box.back(IP(src=S1, dst=OUTSIDE) / ICMP(type=0, id=number, seq=1) / Raw(b"abcd"))[0]
        reached.append([p for p in back if ICMP in p and p.dst == client and p[ICMP].id == 5000])
    good = seen[0] != seen[1] and all(reached)
    return "different identifiers, both answered" if good else f"{seen} {[len(r) for r in reached]}"


@case("An echo reply that nobody asked for")
def _(box):
    return verdict(box.back(IP(src=S1, dst=OUTSIDE) / ICMP(type=0, id=5999, seq=1))[0])


@case("Port unreachable about a flow")
def _(box):
    out = [p for p in box.out(udp(C1, 40006, S1, 53))[1] if UDP in p][0]
    error = IP(src=S1, dst=OUTSIDE) / ICMP(type=3, code=3) / bytes(fresh(out))[:28]
    for packet in box.back(error)[0]:
        if ICMP in packet and packet.dst == C1:
            quoted = IP(bytes(packet[ICMP].payload))
            inner = quoted.src == C1 and quoted.dst == S1 and quoted[UDP].sport == 40006
            return "translated without and within" if inner else "translated without"
    return "dropped"


@case("Port unreachable about no flow")
def _(box):
    quoted = bytes(fresh(udp(OUTSIDE, 40999, S1, 53)))[:28]
    error = IP(src=S1, dst=OUTSIDE) / ICMP(type=3, code=3) / quoted
    return verdict([p for p in box.back(error)[0] if p.dst != OUTSIDE])


@case("TTL 1")
def _(box):
    back, out = box.out(udp(C1, 40007, S1, 53, ttl=1))
    told = [p for p in back if ICMP in p and p[ICMP].type == 11 and p.src == INSIDE]
    return ("passed on" if out else "dropped") + (", time exceeded from the self IP" if told else "")


@case("UDP without checksum")
def _(box):
    packet = udp(C1, 40008, S1, 53)
    packet[UDP].chksum = 0
    out = [p for p in box.out(packet)[1] if UDP in p]
    return "dropped" if not out else "still without" if out[0][UDP].chksum == 0 else "given one"


@case("UDP with a wrong checksum")
def _(box):
    packet = udp(C1, 40009, S1, 53)
    packet[UDP].chksum = 0x1234
    return verdict([p for p in box.out(packet)[1] if UDP in p])


@case("TCP: SYN, SYN-ACK, ACK")
def _(box):
    return "opened" if connected(box, 41000, 80) == 41000 else "not opened"


@case("TCP: data without a connection, from inside")
def _(box):
    back, out = box.out(tcp(C1, 41001, S1, 80, "A", seq=5, ack=5))
    reset = [p for p in back if TCP in p and p[TCP].flags & 4]
    return "reset" if reset else verdict([p for p in out if TCP in p])


@case("TCP: SYN from outside to a translated port")
def _(box):
    port = connected(box, 41002, 80)
    return verdict([p for p in box.back(tcp(S2, 4000, OUTSIDE, port, "S", seq=1))[0] if p.dst == C1])


@case("TCP: RST far outside the window")
def _(box):
    port = connected(box, 41003, 80)
    first = box.back(tcp(S1, 80, OUTSIDE, port, "R", seq=9_000_000))[0]
    later = box.out(tcp(C1, 41003, S1, 80, "PA", seq=1001, ack=9001) / Raw(b"on"))[1]
    alive = "the connection goes on" if [p for p in later if TCP in p] else "the connection is dead"
    return f"{verdict([p for p in first if p.dst == C1])}, {alive}"


@case("TCP: RST at the right place")
def _(box):
    port = connected(box, 41004, 80)
    first = box.back(tcp(S1, 80, OUTSIDE, port, "R", seq=9001))[0]
    return verdict([p for p in first if p.dst == C1])


@case("TCP: SYN with FIN")
def _(box):
    return verdict([p for p in box.out(tcp(C1, 41005, S1, 80, "SF", seq=1))[1] if TCP in p])


@case("TCP: no flags at all")
def _(box):
    return verdict([p for p in box.out(tcp(C1, 41006, S1, 80, 0, seq=1))[1] if TCP in p])


@case("TCP: options of a SYN")
def _(box):
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    syn = box.out(tcp(C1, 41007, S1, 80, "S", seq=1, options=options))[1]
    return "dropped" if not syn else "untouched" if syn[0][TCP].options == options else "changed"


@case("GRE from two clients to one server")
def _(box):
    a = [p for p in box.out(IP(src=C1, dst=S1) / GRE() / Raw(b"a" * 20))[1] if p.proto == 47]
    b = [p for p in box.out(IP(src=C2, dst=S1) / GRE() / Raw(b"b" * 20))[1] if p.proto == 47]
    return f"first {verdict(a)}, second {verdict(b)}"


@case("Fragments in order")
def _(box):
    parts = fragment(udp(C1, 42000, S1, 53, b"f" * 3000, id=77), 1400)
    out = [p for p in box.out(*parts)[1] if p.src == OUTSIDE]
    return f"{'all' if sum(len(p.payload) for p in out) >= 3008 else len(out)} passed on"


@case("Fragments in reverse order")
def _(box):
    parts = fragment(udp(C1, 42001, S1, 53, b"f" * 3000, id=78), 1400)
    out = [p for p in box.out(*reversed(parts))[1] if p.src == OUTSIDE]
    return f"{'all' if sum(len(p.payload) for p in out) >= 3008 else len(out)} passed on"


@case("Fragments that overlap")
def _(box):
    parts = [IP(bytes(p)) for p in fragment(udp(C1, 42002, S1, 53, b"f" * 3000, id=79), 1400)]
    again = parts[1].copy()
    again.frag -= 1
    del again.chksum
    out = [p for p in box.out(parts[0], parts[1], again, parts[2])[1] if p.src == OUTSIDE]
    return "all passed on" if sum(len(p.payload) for p in out) >= 3008 else "not the whole datagram"


@case("To a translated port from inside (hairpin), mapping of another server")
def _(box):
    port = opened(box, C1, 43000, S1, 53)[1]
    back, _ = box.out(udp(C2, 43001, OUTSIDE, port))
    return verdict([p for p in back if UDP in p and p.dst == C1])


@case("Source and destination the same (LAND)")
def _(box):
    back, out = box.out(udp(C1, 43002, C1, 43002))
    return verdict([p for p in back + out if UDP in p])


@case("Source address of the box itself")
def _(box):
    packet = udp(INSIDE, 43003, S1, 53)
    box.inside.send(packet, CLIENTS[C1])
    return verdict([p for p in box.hear()[1] if UDP in p])


@case("To the limited broadcast address")
def _(box):
    return verdict([p for p in box.out(udp(C1, 43004, "255.255.255.255", 53))[1] if UDP in p])


AF_PACKET = (
    "The `af_packet` driver, by which tmm is reached here, has the kernel put IPv4 datagrams together: what comes is larger "
    "than the MTU. Devices that hand fragments over as they are: docs/fragments.md."
)

EXPLAINED = {
    "Fragments in order": AF_PACKET,
    "Fragments in reverse order": AF_PACKET,
    "UDP from port 500": "The services of self IPs are below 1024, so automap keeps away from there (docs/nat.md).",
    "One port below 1024 to three servers": "A port that is not kept is drawn for each flow, unless "
    "`natMapping: ENDPOINT_INDEPENDENT` asks for one port; the kernel keeps ports where it can.",
    "UDP with a wrong checksum": "tmm verifies transport checksums before it opens a flow, so that a corrupt packet "
    "changes no state; the kernel does not track such a packet, and the forward chain takes it from inside.",
    "TCP: data without a connection, from inside": "The kernel picks up connections in the middle "
    "(`nf_conntrack_tcp_loose`); tmm refuses, so that the client starts anew instead of waiting.",
    "TCP: SYN with FIN": "The forward chain takes whatever comes from inside; tmm opens a connection by a SYN alone and "
    "answers anything else that has none with a reset.",
    "TCP: no flags at all": "As above.",
    "GRE from two clients to one server": "Without keys nothing tells the second from the first; the kernel's "
    "helper is off, too. tmm refuses what it could not bring back.",
    "Fragments that overlap": AF_PACKET,
    "Source address of the box itself": "The kernel calls it a martian. tmm translates any source by what the "
    "egress says; nothing comes back to the box.",
    "TCP: RST far outside the window": "tmm drops what lies outside the window; the kernel marks it invalid, and "
    "drops it only where a rule says so.",
}


def table(results):
    lines = [
        "# tmm and the kernel's NAT, case by case",
        "",
        "Made by `make nat-comparison`: the same packets through Linux nftables (masquerade, a forward chain that takes",
        "what comes from inside and what is established or related) and through tmm (an `F5SPKEgress` with automap), in",
        "network namespaces. Hosts are raw sockets, so nothing answers but the box. A difference without a reason fails.",
        "",
        "| Case | nftables | tmm | |",
        "|---|---|---|---|",
    ]
    unexplained = []
    for title, _ in CASES:
        theirs, ours = results["nft"][title], results["tmm"][title]
        why = ""
        if theirs != ours:
            why = EXPLAINED.get(title, "")
            if not why:
                unexplained.append(f"{title}: nftables {theirs}, tmm {ours}")
        lines.append(f"| {title} | {theirs} | {ours} | {why or 'the same'} |")
    return "\n".join(lines) + "\n", unexplained


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="where tmm and tmmctl are")
    parser.add_argument("--check", action="store_true", help="compare with the page instead of writing it")
    parser.add_argument("--only", help="just the cases with this in their title, printed")
    options = parser.parse_args()
    Tmm.directory_of_programs = options.bin
    results = {}
    with tempfile.TemporaryDirectory(prefix="tmm-cmp-") as directory:
        for name, kind in (("nft", Nftables), ("tmm", Tmm)):
            box = kind(name, directory)
            try:
                box.open()
                results[name] = {}
                for title, test in CASES:
                    if options.only and options.only not in title:
                        continue
                    try:
                        results[name][title] = test(box)
                    except (IndexError, TypeError):
                        results[name][title] = "nothing came"
                    print(f"{name}: {title}: {results[name][title]}", file=sys.stderr, flush=True)
            finally:
                box.close()
    if options.only:
        return
    page, unexplained = table(results)
    if unexplained:
        sys.exit("differences without a reason:\n  " + "\n  ".join(unexplained))
    if options.check:
        with open(PAGE, encoding="utf-8") as committed:
            if committed.read() != page:
                sys.exit("docs/comparison.md is not what was found: make nat-comparison, and look at the difference")
    else:
        with open(PAGE, "w", encoding="utf-8") as out:
            out.write(page)


if __name__ == "__main__":
    main()
