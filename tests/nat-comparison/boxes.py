"""Boxes that translate, each between an inside and an outside made of raw sockets."""

import ctypes
import json
import logging
import os
import select
import socket
import subprocess
import threading
import time

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether  # noqa: E402

INSIDE, OUTSIDE = "10.0.0.1", "192.0.2.1"
INSIDE6, OUTSIDE6 = "fd00:a::1", "2001:db8:2::1"
POOL, POOL6 = "192.0.2.50", "2001:db8:2::50"
VIRTUAL, VIRTUAL6 = "203.0.113.10", "2001:db8:ffff::10"
# What the virtual address listens on, and its server.
VIRTUAL_PORT, MEMBER_PORT = 8053, 53
INSIDE_MTU, OUTSIDE_MTU = 1500, 1400
C1, C2, C1_6, C2_6 = "10.0.0.2", "10.0.0.3", "fd00:a::2", "fd00:a::3"
S1, S2, S1_6, S2_6 = "192.0.2.10", "192.0.2.11", "2001:db8:2::10", "2001:db8:2::11"
# A router outside, from which errors come.
ROUTER, ROUTER6 = "198.51.100.99", "2001:db8:99::99"
CLIENTS = {address: f"02:00:00:00:01:{address[-1]:0>2}" for address in (C1, C2, C1_6, C2_6)}
SERVERS = {address: f"02:00:00:00:02:{address[-2:]}" for address in (S1, S2, S1_6, S2_6)}
LIBC = ctypes.CDLL(None, use_errno=True)
WAIT = 0.3
# What is left should this be killed, the next end-to-end test takes away: it goes by these names.
OURS = f"tmm-e2e-{os.getpid()}-nat"
# Set when the run shall end.
STOP = threading.Event()


class Stopped(Exception):
    """Somebody has asked for the end of it."""


def run(*args, check=True, **more):
    return subprocess.run(args, check=check, capture_output=True, text=True, timeout=30, **more)


def in_namespace(name, make):
    """What `make` gives while this thread is in a namespace: a socket stays there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if LIBC.setns(other, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        LIBC.setns(own, 0x40000000)
        os.close(own)
        os.close(other)


def network(packet):
    """The IP packet in a frame or packet, of either family."""
    return packet[IP] if IP in packet else packet[IPv6] if IPv6 in packet else None


class Side:
    """The hosts on one side: a raw socket that answers ARP and neighbour discovery for them."""

    def __init__(self, namespace, device, hosts, box_mac):
        def make():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind((device, 0))
            return raw

        self.raw, self.hosts, self.box_mac = in_namespace(namespace, make), hosts, box_mac
        self.seen = []

    def send(self, packet, mac=None):
        source = mac or self.hosts.get(packet.src, next(iter(self.hosts.values())))
        self.raw.send(bytes(Ether(src=source, dst=self.box_mac) / packet))

    def take(self):
        data, address = self.raw.recvfrom(65535)
        if address[2] == socket.PACKET_OUTGOING:
            return
        frame = Ether(data)
        if ARP in frame:
            if frame[ARP].op == 1 and frame[ARP].pdst in self.hosts:
                mac = self.hosts[frame[ARP].pdst]
                answer = ARP(op=2, hwsrc=mac, psrc=frame[ARP].pdst, hwdst=frame[ARP].hwsrc, pdst=frame[ARP].psrc)
                self.raw.send(bytes(Ether(src=mac, dst=frame.src) / answer))
        elif ICMPv6ND_NS in frame:
            target = frame[ICMPv6ND_NS].tgt
            if target in self.hosts and frame[IPv6].src != "::":
                mac = self.hosts[target]
                answer = IPv6(src=target, dst=frame[IPv6].src, hlim=255) / ICMPv6ND_NA(tgt=target, R=0, S=1, O=1)
                self.raw.send(bytes(Ether(src=mac, dst=frame.src) / answer / ICMPv6NDOptDstLLAddr(lladdr=mac)))
        elif IP in frame and frame[IP].proto != 2:
            self.seen.append(frame[IP])
        elif IPv6 in frame and not chatter(frame[IPv6]):
            self.seen.append(frame[IPv6])


def chatter(packet):
    """Neighbour and listener discovery, which are no part of what is compared."""
    kind = bytes(packet)[40] if packet.nh == 58 else None
    return packet.nh == 0 or kind in (130, 131, 132, 133, 134, 135, 136, 137, 143)


class Box:
    """A NAT box between two sides."""

    # What its clients look like from outside.
    nat = {4: OUTSIDE, 6: OUTSIDE6}
    # Namespaces, and (namespace, device) of the hosts inside and outside.
    roles, ends = (), ()

    def __init__(self, name, directory):
        self.name, self.directory, self.process = name, directory, None
        base = f"{OURS}-{name}"
        self.spaces = {role: f"{base}-{role}" for role in self.roles}

    def start(self):
        raise NotImplementedError

    def mac(self, device):
        links = json.loads(run("ip", "-n", self.spaces["box"], "-j", "link", "show", device).stdout)
        return links[0]["address"]

    def address(self, packet):
        """Its address outside, in the family of a packet or an address."""
        text = packet if isinstance(packet, str) else packet.src
        return self.nat[6 if ":" in text else 4]

    def open(self):
        for space in self.spaces.values():
            run("ip", "netns", "add", space)
        self.start()
        (near, c0), (far, s0) = self.ends
        self.inside = Side(self.spaces[near], c0, CLIENTS, self.mac("n0"))
        self.outside = Side(self.spaces[far], s0, SERVERS, self.mac("n1"))
        self.settle()

    def settle(self):
        """Until each neighbour is known."""
        deadline = time.monotonic() + 30
        pairs = [(c, s) for c in CLIENTS for s in SERVERS if (":" in c) == (":" in s)]
        reached = set()
        while time.monotonic() < deadline:
            for number, (client, server) in enumerate(pairs):
                if (client, server) in reached:
                    continue
                six = ":" in client
                ask = ICMPv6EchoRequest(id=9000 + number) if six else ICMP(id=9000 + number)
                self.inside.send((IPv6 if six else IP)(src=client, dst=server) / ask)
                for packet in self.hear(0.15)[1]:
                    if ICMPv6EchoRequest in packet:
                        answer = ICMPv6EchoReply(id=packet[ICMPv6EchoRequest].id)
                    elif ICMP in packet and packet[ICMP].type == 8:
                        answer = ICMP(type=0, id=packet[ICMP].id)
                    else:
                        continue
                    self.outside.send(type(packet)(src=packet.dst, dst=packet.src) / answer)
                if any(p.dst == client for p in self.hear(0.15)[0]):
                    reached.add((client, server))
            if len(reached) == len(pairs):
                return
        raise RuntimeError(f"{self.name} does not pass on {sorted(set(pairs) - reached)}")

    def hear(self, seconds=WAIT):
        """What reaches the inside and the outside within some time."""
        self.inside.seen, self.outside.seen = [], []
        end = time.monotonic() + seconds
        sides = {side.raw: side for side in (self.inside, self.outside)}
        while (left := end - time.monotonic()) > 0:
            if STOP.is_set():
                raise Stopped
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
                self.process.wait()
        for space in self.spaces.values():
            run("ip", "netns", "del", space, check=False)


class Nftables(Box):
    roles = ("in", "box", "out")
    ends = (("in", "c0"), ("out", "s0"))
    RULES = f"""
table inet nat {{
    chain pre {{
        type nat hook prerouting priority -100;
        ip daddr {VIRTUAL} udp dport {VIRTUAL_PORT} dnat ip to {C1}:{MEMBER_PORT}
        ip6 daddr {VIRTUAL6} udp dport {VIRTUAL_PORT} dnat ip6 to [{C1_6}]:{MEMBER_PORT}
    }}
    chain post {{
        type nat hook postrouting priority 100;
        oifname "n1" masquerade
        ct status dnat masquerade
    }}
}}
table inet filter {{
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "n0" accept
        ct state established,related accept
        ct status dnat accept
    }}
}}
"""

    def start(self):
        box = self.spaces["box"]
        for role, device, other in (("in", "c0", "n0"), ("out", "s0", "n1")):
            space = self.spaces[role]
            run("ip", "-n", space, "link", "add", device, "type", "veth", "peer", "name", other, "netns", box)
            quiet = f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6"
            run("ip", "netns", "exec", space, "sh", "-c", quiet)
            for place, link in ((space, device), (box, other)):
                run("ip", "netns", "exec", place, "ethtool", "-K", link, "tx", "off", "rx", "off", check=False)
                run("ip", "-n", place, "link", "set", link, "up")
        run("ip", "-n", box, "link", "set", "n1", "mtu", str(OUTSIDE_MTU))
        for address, link in ((f"{INSIDE}/24", "n0"), (f"{OUTSIDE}/24", "n1")):
            run("ip", "-n", box, "addr", "add", address, "dev", link)
        for address, link in ((f"{INSIDE6}/64", "n0"), (f"{OUTSIDE6}/64", "n1")):
            run("ip", "-n", box, "addr", "add", address, "dev", link, "nodad")
        run("ip", "-n", box, "route", "add", "default", "via", S1)
        run("ip", "-n", box, "-6", "route", "add", "default", "via", S1_6)
        run("ip", "-n", box, "link", "set", "lo", "up")
        run("ip", "netns", "exec", box, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("ip", "netns", "exec", box, "nft", "-f", "-", input=self.RULES)


class Tmm(Box):
    """With automap. Its TAP devices have nothing of the kernel's network between them and the hosts."""

    roles = ("box",)
    ends = (("box", "n0"), ("box", "n1"))
    programs = None
    egress = {"snatType": "SRC_TRANS_AUTOMAP"}

    def start(self):
        box = self.spaces["box"]
        # The devices are tmm's; the kernel must not speak on them.
        run("ip", "netns", "exec", box, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        socket_path = os.path.join(self.directory, f"{self.name}.sock")
        log_path = os.path.join(self.directory, f"{self.name}.log")
        with open(log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", box, os.path.join(self.programs, "tmm"), "run",
                 "--config-socket", socket_path, f"--port-mtu={INSIDE_MTU}", f"--default-mtu={OUTSIDE_MTU}",
                 "--port=1.1=tap:n0", "--port=1.2=tap:n1"],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        text = "\n---\n".join(json.dumps(item) for item in self.objects())
        control = [os.path.join(self.programs, "tmmctl"), "--socket", socket_path, "apply", "-f", "-"]
        told = None
        for _ in range(100):
            told = run(*control, input=text, check=False)
            if told.returncode == 0:
                return
            if self.process.poll() is not None or STOP.wait(0.2):
                break
        with open(log_path, encoding="utf-8") as log:
            raise RuntimeError(f"tmm does not take its configuration: {told.stdout}{told.stderr}\n{log.read()[-2000:]}")

    def objects(self):
        def vlan(name, port, own, own6, internal, **more):
            return {
                "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": name},
                "spec": {"name": name, "interfaces": [port], "selfip_v4s": [own], "prefixlen_v4": 24,
                         "selfip_v6s": [own6], "prefixlen_v6": 64, "internal": internal, **more}}  # fmt: skip

        yield vlan("internal", "1.1", INSIDE, INSIDE6, True, mtu=INSIDE_MTU)
        yield vlan("external", "1.2", OUTSIDE, OUTSIDE6, False)
        yield {
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKSnatpool", "metadata": {"name": "out"},
            "spec": {"name": "out", "addressList": [[POOL, POOL6]]}}  # fmt: skip
        yield {
            "apiVersion": "k8s.f5net.com/v3", "kind": "F5SPKEgress", "metadata": {"name": "egress"},
            "spec": {"dualStackEnabled": True, **self.egress}}  # fmt: skip
        for name, family, gateway in (("out4", 4, S1), ("out6", 6, S1_6)):
            yield {
                "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKStaticRoute", "metadata": {"name": name},
                "spec": {"destination": "0.0.0.0" if family == 4 else "::", "prefixLen": 0, "type": "gateway",
                         "gateway": gateway}}  # fmt: skip
        yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"},
               "spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}}  # fmt: skip
        for family, member in (("IPv4", C1), ("IPv6", C1_6)):
            yield {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": f"dns-{family.lower()}", "labels": {"kubernetes.io/service-name": "dns"}},
                "addressType": family, "ports": [{"name": "dns", "port": MEMBER_PORT, "protocol": "UDP"}],
                "endpoints": [{"addresses": [member], "conditions": {"ready": True}}]}  # fmt: skip
        yield {
            "apiVersion": "ingressudp.k8s.f5net.com/v1", "kind": "F5SPKIngressUDP", "metadata": {"name": "dns"},
            "service": {"name": "dns", "port": 53},
            "spec": {"destinationAddress": VIRTUAL, "ipv6destinationAddress": VIRTUAL6,
                     "destinationPort": VIRTUAL_PORT, "snat": "SRC_TRANS_AUTOMAP"}}  # fmt: skip


class Mapped(Tmm):
    """With a pool, and mappings that are as open as can be."""

    nat = {4: POOL, 6: POOL6}
    egress = {
        "snatType": "SRC_TRANS_SNATPOOL",
        "egressSnatpool": "out",
        "natMapping": "ENDPOINT_INDEPENDENT",
        "natFiltering": "ENDPOINT_INDEPENDENT",
    }
