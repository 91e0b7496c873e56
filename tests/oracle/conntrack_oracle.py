#!/usr/bin/env python3
"""TCP sessions through Linux nf_conntrack and through `tmm replay`, frame by frame.

usage: conntrack_oracle.py --tmm TMM [--captures DIR] [--doc FILE] [--work DIR]

The page FILE is written anew only if there are captures, since it tells of theirs, too.

Every session is given a client address of its own and sent, frame by frame, through a router in a network
namespace whose nf_conntrack drops what it calls invalid; after each frame the state of the connection is read.
The same frames go through `tmm replay --explain`. Where the two differ - one drops what the other passes, or
the states are not the same - the difference must match a line of differences.tsv, which says why; if one does
not, the exit code is 1. Sessions come from sessions.txt beside this file and, if there are any, from captures
(classic pcap, Ethernet). Needs root, iproute2, nftables, conntrack. Bounded: at most MOST frames.
"""

import argparse
import collections
import ctypes
import ipaddress
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
# What is left should this be killed, the next end-to-end test takes away: it goes by these names.
OURS = f"tmm-e2e-{os.getpid()}-oracle"
ENDS, ROUTER = f"{OURS}-ends", f"{OURS}-router"
SERVER, MEMBER = "203.0.113.10", "198.51.100.11"
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16}
MOST, MOST_OF_ONE, SECONDS = 30_000, 300, 420

Segment = collections.namedtuple("Segment", "client flags seq ack window options length")
Session = collections.namedtuple("Session", "name segments")


# --- sessions -------------------------------------------------------------------------------------------


def written():
    """Sessions of sessions.txt: `# NAME`, then `c FLAGS seq [ack] [len=N] [win=N] [opt=HEX]`, s for the server."""
    sessions = []
    for line in (HERE / "sessions.txt").read_text().splitlines():
        if line.startswith("# "):
            sessions.append(Session(line[2:], []))
        elif line.strip():
            words = line.split()
            fields = dict(word.split("=") for word in words if "=" in word)
            numbers = [int(word) & 0xFFFFFFFF for word in words[2:] if "=" not in word] + [0]
            sessions[-1].segments.append(
                Segment(
                    words[0] == "c",
                    sum(FLAGS[letter] for letter in words[1] if letter != "-"),
                    numbers[0],
                    numbers[1] if len(numbers) > 2 else 0,
                    int(fields.get("win", 1000)),
                    bytes.fromhex(fields.get("opt", "")),
                    int(fields.get("len", 0)),
                )
            )
    return sessions


def frames(path):
    data = path.read_bytes()
    if data[:4] != b"\xd4\xc3\xb2\xa1" or struct.unpack_from("<I", data, 20)[0] & 0xFFFF != 1:
        return
    at = 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def tcp_of(frame):
    """Source, destination and segment of a whole TCP packet over IPv4 or IPv6 without extensions."""
    at, kind = 12, struct.unpack_from(">H", frame, 12)[0] if len(frame) > 14 else 0
    while kind in (0x8100, 0x88A8) and len(frame) > at + 6:
        at += 4
        kind = struct.unpack_from(">H", frame, at)[0]
    ip = frame[at + 2 :]
    if kind == 0x0800 and len(ip) >= 20 and ip[0] >> 4 == 4 and ip[9] == 6:
        if struct.unpack_from(">H", ip, 6)[0] & 0x3FFF:
            return None
        header, total = (ip[0] & 15) * 4, struct.unpack_from(">H", ip, 2)[0]
        source, destination = ip[12:16], ip[16:20]
    elif kind == 0x86DD and len(ip) >= 40 and ip[6] == 6:
        header, total = 40, 40 + struct.unpack_from(">H", ip, 4)[0]
        source, destination = ip[8:24], ip[24:40]
    else:
        return None
    tcp = ip[header:]
    if len(tcp) < 20 or (tcp[12] >> 4) < 5:
        return None
    own = (tcp[12] >> 4) * 4
    if len(tcp) < own or total - header - own < 0 or total > 8000:
        return None
    sport, dport, seq, ack = struct.unpack_from(">HHII", tcp)
    return (
        (source, sport),
        (destination, dport),
        (tcp[13] & 0x1F, seq, ack, struct.unpack_from(">H", tcp, 14)[0], tcp[20:own], total - header - own),
    )


def captured(folder):
    """Connections of captures that are there from their first SYN on."""
    sessions = []
    for path in sorted(pathlib.Path(folder).rglob("*.pcap")):
        found = {}
        for frame in frames(path):
            parsed = tcp_of(frame)
            if parsed is None or parsed[0] == parsed[1]:
                continue
            source, destination, (flags, seq, ack, window, options, length) = parsed
            pair = tuple(sorted((source, destination)))
            if pair not in found:
                first = source if flags & 0x17 == 2 else None
                found[pair] = (first, [])
            client, segments = found[pair]
            if client is not None and len(segments) < MOST_OF_ONE:
                segments.append(Segment(source == client, flags, seq, ack, window, options, length))
        kept = [segments for client, segments in found.values() if client is not None and len(segments) > 2]
        for number, segments in enumerate(kept[:40], 1):
            sessions.append(Session(f"{path.stem} {number}", segments))
    return sessions


# --- frames ---------------------------------------------------------------------------------------------


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, destination, protocol, payload):
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0, source, destination
    )
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def packet(segment, client, server, port):
    """The IP packet of a segment between a client (port 40000) and a server."""
    ends = [(client, 40_000), (server, port)]
    (source, sport), (destination, dport) = ends if segment.client else reversed(ends)
    source, destination = (ipaddress.ip_address(a).packed for a in (source, destination))
    options = segment.options + b"\0" * (-len(segment.options) % 4)
    header = struct.pack(
        ">HHIIBBHHH",
        sport,
        dport,
        segment.seq,
        segment.ack,
        (20 + len(options)) // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    tcp = header + options + bytes(segment.length)
    pseudo = source + destination + struct.pack(">HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    return ipv4(source, destination, 6, tcp)


def client_of(number):
    return str(ipaddress.ip_address("10.0.0.1") + number)


# --- Linux ----------------------------------------------------------------------------------------------


def run(*command):
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


class Linux:
    """A router between two links, whose ends are ours."""

    sleeper = None

    def __enter__(self):
        try:
            return self.made()
        except BaseException:
            self.__exit__()
            raise

    def made(self):
        for name in (ENDS, ROUTER):
            run("ip", "netns", "add", name)
        for end, inner, net, far in (
            ("c0", "r0", "192.168.10", "10.0.0.0/8"),
            ("s0", "r1", "192.168.11", "203.0.113.0/24"),
        ):
            run("ip", "link", "add", end, "mtu", "9000", "netns", ENDS, "type", "veth",
                "peer", "name", inner, "mtu", "9000", "netns", ROUTER)  # fmt: skip
            run("ip", "-n", ENDS, "link", "set", end, "up")
            run("ip", "-n", ROUTER, "addr", "add", f"{net}.1/24", "dev", inner)
            run("ip", "-n", ROUTER, "link", "set", inner, "up")
            run("ip", "-n", ROUTER, "neigh", "add", f"{net}.2", "lladdr", "02:00:00:00:00:99",
                "nud", "permanent", "dev", inner)  # fmt: skip
            run("ip", "-n", ROUTER, "route", "add", far, "via", f"{net}.2", "dev", inner)
        inside = ("ip", "netns", "exec", ROUTER)
        run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.r0.rp_filter=0", "net.ipv4.conf.r1.rp_filter=0")  # fmt: skip
        run(*inside, "nft", "table ip t { chain f { type filter hook forward priority 0; "
            "meta l4proto tcp ct state invalid drop; }; }")  # fmt: skip
        # As tmm has it by default: nothing is picked up in its middle.
        run(*inside, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
        self.sleeper = subprocess.Popen([*inside, "sleep", str(SECONDS + 60)])
        self.table = f"/proc/{self.sleeper.pid}/net/nf_conntrack"
        self.sockets = in_namespace(ENDS, lambda: [link(name) for name in ("c0", "s0")])
        self.macs = [self.mac("r0"), self.mac("r1")]
        self.marks = 0
        return self

    def __exit__(self, *_):
        if self.sleeper:
            self.sleeper.kill()
            self.sleeper.wait()
        for name in (ENDS, ROUTER):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    def mac(self, name):
        shown = subprocess.check_output(["ip", "-n", ROUTER, "-j", "link", "show", name])
        return bytes.fromhex(json.loads(shown)[0]["address"].replace(":", ""))

    def forget(self):
        run("ip", "netns", "exec", ROUTER, "conntrack", "-F")

    def pass_on(self, segment, client):
        """Sends a segment; whether it comes out, and the state of the connection then."""
        way = 0 if segment.client else 1
        sender, receiver = self.sockets[way], self.sockets[1 - way]
        head = self.macs[way] + b"\x02\0\0\0\0\x99\x08\0"
        sent = packet(segment, client, SERVER, 80)
        # What is not forwarded is known by a datagram behind it that is.
        self.marks += 1
        mark = struct.pack(">HHHHQ", 9, 9, 16, 0, self.marks)
        ends = [ipaddress.ip_address(a).packed for a in ("10.255.255.1", "203.0.113.99")]
        behind = ipv4(ends[way], ends[1 - way], 17, mark)
        sender.send(head + sent)
        sender.send(head + behind)
        passed, until = False, time.monotonic() + 10
        while time.monotonic() < until:
            got = receiver.recv(65_536)
            if got[23:24] == b"\x06" and got[26:34] == sent[12:20] and got[34:46] == sent[20:32]:
                passed = True
            elif got[23:24] == b"\x11" and got[42:50] == mark[8:]:
                return passed, self.state(client)
        raise TimeoutError("the router does not forward")

    def state(self, client):
        with open(self.table, encoding="ascii") as table:
            for line in table:
                words = line.split()
                if words[2] == "tcp" and f"src={client}" in words:
                    return words[5].replace("CLOSE", "CLOSED") if words[5] == "CLOSE" else words[5]
        return "none"


def link(name):
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    opened.bind((name, 0x0800))
    opened.settimeout(10)
    return opened


def in_namespace(name, work):
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
    if libc.setns(there, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    try:
        return work()
    finally:
        libc.setns(home, 0x40000000)


def told(text):
    """How far it is, for who watches."""
    print(text, file=sys.stderr, flush=True)


def linux(sessions):
    seen = []
    with Linux() as router:
        for number, session in enumerate(sessions):
            if number % 50 == 0:
                router.forget()
                told(f"through Linux: session {number} of {len(sessions)}")
            client = client_of(number)
            seen.append([router.pass_on(segment, client) for segment in session.segments])
    return seen


# --- tmm ------------------------------------------------------------------------------------------------

RESOURCES = f"""
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {{name: external}}
spec: {{name: external, interfaces: ["1.1"], selfip_v4s: ["192.168.10.1"], prefixlen_v4: 24, mtu: 9000}}
---
apiVersion: k8s.f5net.com/v1
kind: F5SPKVlan
metadata: {{name: internal}}
spec: {{name: internal, interfaces: ["1.2"], internal: true, selfip_v4s: ["198.51.100.1"], prefixlen_v4: 24, mtu: 9000}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{ports: [{{name: p, port: 80, protocol: TCP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: p, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: ["{MEMBER}"], conditions: {{ready: true}}}}]
---
apiVersion: ingresstcp.k8s.f5net.com/v1
kind: F5SPKIngressTCP
metadata: {{name: web}}
service: {{name: web, port: 80}}
spec: {{destinationAddress: {SERVER}, destinationPort: 80, idleTimeout: 100000, tcpHandshakeTimeout: 60000,
  tcpCloseTimeout: 60000, tcpTimeWaitTimeout: 60000}}
"""


def tmm(program, sessions, work):
    work.mkdir(parents=True, exist_ok=True)
    (work / "resources.yaml").write_text(RESOURCES)
    head = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    with open(work / "client.pcap", "wb") as client, open(work / "server.pcap", "wb") as server:
        for file in (client, server):
            file.write(head)
        ticks = 0
        for number, session in enumerate(sessions):
            for segment in session.segments:
                end = (SERVER, 80) if segment.client else (MEMBER, 8080)
                ethernet = b"\x02\0\0\0\0\x77\x02\0\0\0\0" + (b"\x01" if segment.client else b"\x02") + b"\x08\0"
                frame = ethernet + packet(segment, client_of(number), *end)
                stamp = divmod(ticks * 20, 1_000_000)
                ticks += 1
                file = client if segment.client else server
                file.write(struct.pack("<IIII", 1_700_000_000 + stamp[0], stamp[1], len(frame), len(frame)) + frame)
    shown = subprocess.run(
        [program, "replay", "--config", work / "resources.yaml", "--port", f"1.1={work / 'client.pcap'}",
         "--port", f"1.2={work / 'server.pcap'}", "--out", work / "out", "--rewrite-mac", "--explain",
         "--json", "--settle", "0"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    steps = [json.loads(line) for line in shown.stdout.splitlines()]
    steps = iter([step for step in steps if step.get("frame") is not None])
    seen = []
    for session in sessions:
        seen.append([])
        for _ in session.segments:
            step = next(steps)
            passed = step["decision"] in ("opened", "original", "reply")
            seen[-1].append((passed, step.get("state") or "none"))
    return seen


# --- comparison -----------------------------------------------------------------------------------------


def letters(flags):
    return "".join(letter for letter, bit in zip("SFRP.", (2, 1, 4, 8, 16)) if flags & bit and letter != "P") or "-"


def differences(sessions, theirs, ours):
    """Each place where the two part, or part anew: what came, what either made of it."""
    found = collections.OrderedDict()
    same = 0
    for session, linux_saw, tmm_saw in zip(sessions, theirs, ours):
        before, told = ("none", "none"), None
        for segment, (passed_l, state_l), (passed_t, state_t) in zip(session.segments, linux_saw, tmm_saw):
            pair = (state_t, state_l)
            differs = passed_t != passed_l or (state_t != state_l and pair != told)
            same += not differs
            if differs:
                kind = "{} {}: tmm {} {}>{}, Linux {} {}>{}".format(
                    "client" if segment.client else "server",
                    letters(segment.flags),
                    "passes" if passed_t else "drops",
                    before[0],
                    state_t,
                    "passes" if passed_l else "drops",
                    before[1],
                    state_l,
                )
                found.setdefault(kind, []).append(session.name)
            told = pair if state_t != state_l else None
            before = pair
    return found, same


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tmm", required=True)
    parser.add_argument("--captures")
    parser.add_argument("--doc", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, help="where the captures made for tmm stay; else they are removed")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("it makes network namespaces: run it as root")
    # Namespaces are taken away, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    own = written()
    foreign = captured(options.captures) if options.captures and os.path.isdir(options.captures) else []
    sessions, total = [], 0
    for session in own + foreign:
        if total + len(session.segments) <= MOST:
            sessions.append(session)
            total += len(session.segments)
    start = time.monotonic()
    told(f"{len(sessions)} sessions, {total} segments: through tmm")
    with tempfile.TemporaryDirectory(prefix=f"{OURS}-") as made:
        ours = tmm(options.tmm, sessions, options.work or pathlib.Path(made))
    theirs = linux(sessions)
    found, same = differences(sessions, theirs, ours)
    rules = []
    for line in (HERE / "differences.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, why = line.split("\t")
            rules.append((re.compile(pattern), why))
    rows, unargued, used = [], [], set()
    for kind, where in found.items():
        rule = next((at for at, (pattern, _) in enumerate(rules) if pattern.fullmatch(kind)), None)
        if rule is None:
            unargued.append(f"{kind}  ({len(where)} times, first in: {where[0]})")
        else:
            used.add(rule)
            rows.append((rule, kind, len(where), where[0]))
    differing = sum(len(where) for where in found.values())
    counted = (
        f"{len(own)} sessions of tests/oracle/sessions.txt and {len(sessions) - len(own)} connections of captures, "
        f"{total} segments: {same} alike, {differing} differences of {len(found)} kinds, "
        f"{len(unargued)} of them not argued"
    )
    print(f"{counted}; {time.monotonic() - start:.0f} s")
    for line in unargued:
        print(f"not argued: {line}")
    if unargued:
        print("say why in tests/oracle/differences.tsv, or mend it")
    elif options.doc and foreign:
        write(options.doc, counted, rules, rows)
        print(f"written: {options.doc}")
    elif options.doc:
        print(f"no captures in {options.captures}: {options.doc}, which tells of some, is left as it is")
    return 1 if unargued else 0


def write(doc, counted, rules, rows):
    text = doc.read_text()
    begin, end = "<!-- generated from here -->\n", "<!-- to here -->"
    table = [f"{counted} (Linux {os.uname().release.split('-')[0]}).\n"]
    for at, (_, why) in enumerate(rules):
        kinds = [row for row in rows if row[0] == at]
        if kinds:
            table.append(f"\n{why}\n\n| Segment, and what either makes of it | Times | First in |\n|---|---|---|\n")
            table += [f"| {kind} | {times} | {name} |\n" for _, kind, times, name in kinds]
    head, tail = text.split(begin)[0], text.split(end)[1]
    doc.write_text(head + begin + "\n" + "".join(table) + "\n" + end + tail)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
