"""The cases: what is sent, and in a few words what came of it; and why boxes differ."""

import typing

from boxes import (
    C1,
    C1_6,
    C2,
    CLIENTS,
    INSIDE,
    INSIDE6,
    MEMBER_PORT,
    OUTSIDE_MTU,
    ROUTER,
    ROUTER6,
    S1,
    S1_6,
    S2,
    VIRTUAL,
    VIRTUAL_PORT,
)
from frames import (
    arrives,
    connected,
    cut,
    echo,
    echo_id,
    echo_reply,
    forwarded,
    fresh,
    ip,
    moved,
    of,
    opened,
    served,
    sound,
    tcp,
    udp,
    verdict,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import GRE
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw


class Case(typing.NamedTuple):
    group: str
    title: str
    ids: str
    test: typing.Callable


CASES: list[Case] = []
PORTS, TCP_, ICMP_, FRAGMENTS, REST = "Ports", "TCP", "ICMP", "Fragments", "Virtual addresses, hairpin, and the rest"


def case(group, title, ids=""):
    def keep(test):
        CASES.append(Case(group, title, ids, test))
        return test

    return keep


# --- ports ------------------------------------------------------------------------------------------------


@case(PORTS, "UDP from a high port", "OVS-034")
def _(box):
    seen = opened(box, C1, 40000, S1, 53)
    return "port kept" if seen == (box.address(C1), 40000) else f"{seen}"


@case(PORTS, "UDP from port 500", "VPPN-011")
def _(box):
    seen = opened(box, C1, 500, S1, 53)
    return "port kept" if seen[1] == 500 else "below 1024" if seen[1] < 1024 else "a port from 1024 on"


@case(PORTS, "Two clients with one port to one server", "OVS-036 LNX-013")
def _(box):
    a, b = opened(box, C1, 40001, S1, 53), opened(box, C2, 40001, S1, 53)
    return "different ports" if a[1] != b[1] else "the same port"


@case(PORTS, "Two clients with one port to two servers", "RFC-002")
def _(box):
    a, b = opened(box, C1, 40002, S1, 53), opened(box, C2, 40002, S2, 53)
    return "different ports" if a[1] != b[1] else "the same port"


@case(PORTS, "One port below 1024 to three servers", "RFC-001")
def _(box):
    ports = {opened(box, C1, 600, server, port)[1] for server, port in ((S1, 53), (S2, 53), (S1, 54))}
    return "the same port for all" if len(ports) == 1 else "a port for each"


@case(PORTS, "The reply reaches the client", "OVS-006")
def _(box):
    port = opened(box, C1, 40003, S1, 53)[1]
    back = of(box.back(udp(S1, 53, box.address(C1), port))[0], UDP, src=S1, dst=C1, dport=40003)
    return verdict([p for p in back if sound(p)], "restored")


@case(PORTS, "From another port of the server to the client's", "RFC-001")
def _(box):
    port = opened(box, C1, 40004, S1, 53)[1]
    return verdict(of(box.back(udp(S1, 54, box.address(C1), port))[0], UDP, dst=C1))


@case(PORTS, "From another server to the client's port", "RFC-001")
def _(box):
    port = opened(box, C1, 40005, S1, 53)[1]
    return verdict(of(box.back(udp(S2, 53, box.address(C1), port))[0], UDP, dst=C1))


@case(PORTS, "From a server to a port that nobody has", "OVS-006")
def _(box):
    return verdict(of(box.back(udp(S2, 53, box.address(C1), 39999))[0], UDP))


@case(PORTS, "IPv6: there and back", "OVS-034")
def _(box):
    seen = opened(box, C1_6, 40010, S1_6, 53)
    back = of(box.back(udp(S1_6, 53, seen[0], seen[1]))[0], UDP, src=S1_6, dst=C1_6, dport=40010)
    return "translated and restored" if seen[0] == box.address(C1_6) and back and sound(back[0]) else f"{seen}"


@case(PORTS, "UDP without checksum", "JOOL-002")
def _(box):
    packet = udp(C1, 40008, S1, 53)
    packet[UDP].chksum = 0
    out = of(box.out(packet)[1], UDP)
    return "dropped" if not out else "still without" if out[0][UDP].chksum == 0 else "given one"


@case(PORTS, "IPv6: UDP without checksum", "JOOL-002")
def _(box):
    packet = udp(C1_6, 40011, S1_6, 53)
    packet[UDP].chksum = 0
    return forwarded(of(box.out(packet)[1], UDP))


@case(PORTS, "UDP with a wrong checksum", "RFC-002")
def _(box):
    packet = udp(C1, 40009, S1, 53)
    packet[UDP].chksum = 0x1234
    return forwarded(of(box.out(packet)[1], UDP))


@case(PORTS, "SCTP: INIT of two clients with one port", "OVS-031")
def _(box):
    seen = []
    for client in (C1, C2):
        init = ip(client, S1) / SCTP(sport=40012, dport=3868, tag=0)
        init = init / SCTPChunkInit(init_tag=7, a_rwnd=65535, n_out_streams=1, n_in_streams=1, init_tsn=1)
        out = of(box.out(init)[1], SCTP)
        if not out:
            return "dropped"
        right = out[0].copy()
        del right[SCTP].chksum
        good = IP(bytes(right))[SCTP].chksum == out[0][SCTP].chksum
        seen.append((out[0][SCTP].sport, good))
    ports = "different ports" if seen[0][0] != seen[1][0] else "one port"
    return f"{ports}, checksums {'right' if all(good for _, good in seen) else 'wrong'}"


@case(PORTS, "GRE from two clients to one server", "OVS-015 VPPN-016")
def _(box):
    a, b = (
        [p for p in box.out(ip(client, S1) / GRE() / Raw(client.encode() * 3))[1] if p.proto == 47]
        for client in (C1, C2)
    )
    return f"first {verdict(a)}, second {verdict(b)}"


# --- TCP --------------------------------------------------------------------------------------------------


@case(TCP_, "SYN, SYN-ACK, ACK", "OVS-014")
def _(box):
    return "opened" if connected(box, 41000, 80) == 41000 else "not opened"


@case(TCP_, "Data without a connection, from inside", "OVS-014")
def _(box):
    back, out = box.out(tcp(C1, 41001, S1, 80, "A", seq=5, ack=5))
    return "reset" if [p for p in of(back, TCP) if p[TCP].flags & 4] else forwarded(of(out, TCP))


@case(TCP_, "SYN-ACK without a SYN, from outside", "OVS-011")
def _(box):
    back, out = box.back(tcp(S1, 80, box.address(C1), 41020, "SA", seq=5, ack=5))
    return "reset" if [p for p in of(out, TCP) if p[TCP].flags & 4] else verdict(of(back, TCP))


@case(TCP_, "SYN from outside to a translated port", "RFC-002")
def _(box):
    port = connected(box, 41002, 80)
    return verdict(of(box.back(tcp(S2, 4000, box.address(C1), port, "S", seq=1))[0], TCP, dst=C1))


@case(TCP_, "Both open at once", "RFC-002")
def _(box):
    syn = of(box.out(tcp(C1, 41008, S1, 80, "S", seq=1000, window=1000))[1], TCP)
    port = syn[0][TCP].sport
    other = of(box.back(tcp(S1, 80, box.address(C1), port, "S", seq=9000, window=1000))[0], TCP, dst=C1)
    box.out(tcp(C1, 41008, S1, 80, "SA", seq=1000, ack=9001, window=1000))
    box.back(tcp(S1, 80, box.address(C1), port, "SA", seq=9000, ack=1001, window=1000))
    box.out(tcp(C1, 41008, S1, 80, "A", seq=1001, ack=9001, window=1000))
    data = tcp(S1, 80, box.address(C1), port, "PA", seq=9001, ack=1001, window=1000) / Raw(b"data")
    last = of(box.back(data)[0], TCP, dst=C1)
    return f"SYN {verdict(other)}, data {verdict(last)}"


@case(TCP_, "RST far outside the window", "LNX-003")
def _(box):
    port = connected(box, 41003, 80)
    first = of(box.back(tcp(S1, 80, box.address(C1), port, "R", seq=9_000_000))[0], TCP, dst=C1)
    later = of(box.out(tcp(C1, 41003, S1, 80, "PA", seq=1001, ack=9001) / Raw(b"on"))[1], TCP)
    return f"{verdict(first)}, the connection {'goes on' if later else 'is dead'}"


@case(TCP_, "RST at the right place", "LNX-003")
def _(box):
    port = connected(box, 41004, 80)
    return verdict(of(box.back(tcp(S1, 80, box.address(C1), port, "R", seq=9001))[0], TCP, dst=C1))


@case(TCP_, "Data far beyond the window, from outside", "GVI-004")
def _(box):
    port = connected(box, 41009, 80)
    data = tcp(S1, 80, box.address(C1), port, "PA", seq=500_000, ack=1001) / Raw(b"forged")
    return verdict(of(box.back(data)[0], TCP, dst=C1))


@case(TCP_, "The client closes, the server goes on sending", "CIL-005")
def _(box):
    port = connected(box, 41010, 80)
    box.out(tcp(C1, 41010, S1, 80, "FA", seq=1001, ack=9001, window=1000))
    box.back(tcp(S1, 80, box.address(C1), port, "A", seq=9001, ack=1002, window=1000))
    data = tcp(S1, 80, box.address(C1), port, "PA", seq=9001, ack=1002, window=1000) / Raw(b"more")
    return verdict(of(box.back(data)[0], TCP, dst=C1))


@case(TCP_, "The same ports again right after both have closed", "VPPN-019")
def _(box):
    port = connected(box, 41011, 80)
    box.out(tcp(C1, 41011, S1, 80, "FA", seq=1001, ack=9001, window=1000))
    box.back(tcp(S1, 80, box.address(C1), port, "FA", seq=9001, ack=1002, window=1000))
    box.out(tcp(C1, 41011, S1, 80, "A", seq=1002, ack=9002, window=1000))
    return "opened" if connected(box, 41011, 80, isn=200_000, other=700_000) else "not opened"


@case(TCP_, "SYN with FIN", "BSD-001")
def _(box):
    return forwarded(of(box.out(tcp(C1, 41005, S1, 80, "SF", seq=1))[1], TCP))


@case(TCP_, "No flags at all", "BSD-001")
def _(box):
    return forwarded(of(box.out(tcp(C1, 41006, S1, 80, 0, seq=1))[1], TCP))


@case(TCP_, "Options of a SYN", "PKD-001")
def _(box):
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    syn = of(box.out(tcp(C1, 41007, S1, 80, "S", seq=1, options=options))[1], TCP)
    return "dropped" if not syn else "untouched" if syn[0][TCP].options == options else "changed"


# --- ICMP -------------------------------------------------------------------------------------------------


@case(ICMP_, "Echo: two clients with one identifier", "OVS-013")
def _(box):
    seen = [echo_id(box.out(echo(client, S1, 5000))[1][0]) for client in (C1, C2)]
    reached = []
    for client, number in zip((C1, C2), seen):
        back = box.back(echo_reply(S1, box.address(C1), number))[0]
        reached.append([p for p in of(back, ICMP, dst=client, id=5000) if sound(p)])
    good = seen[0] != seen[1] and all(reached)
    return "different identifiers, both answered" if good else f"{seen} {[len(r) for r in reached]}"


@case(ICMP_, "IPv6: echo, there and back", "OVS-009")
def _(box):
    number = echo_id(box.out(echo(C1_6, S1_6, 5001))[1][0])
    back = box.back(echo_reply(S1_6, box.address(C1_6), number))[0]
    return verdict([p for p in back if p.dst == C1_6 and echo_id(p) == 5001 and sound(p)], "answered")


@case(ICMP_, "An echo reply that nobody asked for", "OVS-009")
def _(box):
    return verdict(of(box.back(echo_reply(S1, box.address(C1), 5999))[0], ICMP))


def quoting(box, sport, error, src):
    """An error from outside about a datagram of the client's; what reaches the client."""
    out = of(box.out(udp(C1, sport, S1, 53))[1], UDP)[0]
    return of(box.back(ip(src, box.address(C1)) / error / bytes(fresh(out))[:28])[0], ICMP, dst=C1)


def translated(packets, sport, src):
    for packet in packets:
        quoted = IP(bytes(packet[ICMP].payload))
        within = quoted.src == C1 and quoted.dst == S1 and quoted[UDP].sport == sport
        without = packet.src == src and sound(packet)
        return f"translated without and within, from {'the same' if without else packet.src}" if within else "translated without"
    return "dropped"


@case(ICMP_, "Port unreachable about a flow", "OVS-016 VPPN-001")
def _(box):
    return translated(quoting(box, 40006, ICMP(type=3, code=3), S1), 40006, S1)


@case(ICMP_, "Time exceeded from a router on the way", "OVS-039 LNX-018")
def _(box):
    return translated(quoting(box, 40020, ICMP(type=11, code=0), ROUTER), 40020, ROUTER)


@case(ICMP_, "Fragmentation needed from a router on the way", "LNX-007")
def _(box):
    found = quoting(box, 40021, ICMP(type=3, code=4, nexthopmtu=1280), ROUTER)
    mtu = ", its MTU untouched" if found and found[0][ICMP].nexthopmtu == 1280 else ""
    return translated(found, 40021, ROUTER) + mtu


@case(ICMP_, "IPv6: packet too big from a router on the way", "LNX-007")
def _(box):
    out = of(box.out(udp(C1_6, 40022, S1_6, 53))[1], UDP)[0]
    error = ip(ROUTER6, box.address(C1_6)) / ICMPv6PacketTooBig(mtu=1300) / bytes(fresh(out))
    for packet in of(box.back(error)[0], ICMPv6PacketTooBig, dst=C1_6, mtu=1300):
        quoted = IPv6(bytes(packet[ICMPv6PacketTooBig].payload))
        if quoted.src == C1_6 and quoted[UDP].sport == 40022 and sound(packet) and sound(quoted):
            return "translated without and within"
        return "translated wrongly"
    return "dropped"


@case(ICMP_, "Redirect about a flow", "LNX-007")
def _(box):
    return verdict(quoting(box, 40023, ICMP(type=5, code=1, gw=S2), S1))


@case(ICMP_, "Port unreachable about no flow", "OVS-018")
def _(box):
    quoted = bytes(fresh(udp(box.address(C1), 40999, S1, 53)))[:28]
    error = ip(S1, box.address(C1)) / ICMP(type=3, code=3) / quoted
    return verdict([p for p in of(box.back(error)[0], ICMP) if p.dst in CLIENTS])


@case(ICMP_, "Port unreachable from the client about a reply", "OVS-017")
def _(box):
    port = opened(box, C1, 40024, S1, 53)[1]
    reply = of(box.back(udp(S1, 53, box.address(C1), port))[0], UDP)[0]
    out = of(box.out(ip(C1, S1) / ICMP(type=3, code=3) / bytes(fresh(reply))[:28])[1], ICMP)
    if not out:
        return "dropped"
    quoted = IP(bytes(out[0][ICMP].payload))
    good = out[0].src == quoted.dst == box.address(C1) and quoted[UDP].dport == port and sound(out[0])
    return "translated without and within" if good else "translated wrongly"


@case(ICMP_, "TTL 1", "VPPN-022")
def _(box):
    back, out = box.out(udp(C1, 40007, S1, 53, ttl=1))
    told = of(back, ICMP, type=11, src=INSIDE)
    return verdict(out) + (", time exceeded from the self IP" if told else "")


@case(ICMP_, "IPv6: hop limit 1", "VPPN-022")
def _(box):
    back, out = box.out(udp(C1_6, 40025, S1_6, 53, ttl=1))
    told = of(back, ICMPv6TimeExceeded, src=INSIDE6)
    return verdict(out) + (", time exceeded from the self IP" if told else "")


@case(ICMP_, f"Too long for the way out (MTU {OUTSIDE_MTU}), DF", "VPPI-009")
def _(box):
    back, out = box.out(udp(C1, 40026, S1, 53, b"x" * 1440, flags="DF"))
    told = of(back, ICMP, type=3, code=4, src=INSIDE)
    mtu = f", told of {told[0][ICMP].nexthopmtu} by the self IP" if told else ""
    return verdict(out) + mtu


@case(ICMP_, "IPv6: too long for the way out", "VPPI-009")
def _(box):
    back, out = box.out(udp(C1_6, 40027, S1_6, 53, b"x" * 1440))
    told = of(back, ICMPv6PacketTooBig, src=INSIDE6)
    mtu = f", told of {told[0][ICMPv6PacketTooBig].mtu} by the self IP" if told else ""
    return verdict(out) + mtu


# --- fragments --------------------------------------------------------------------------------------------


PAYLOAD = bytes(range(256)) * 12


def sent_in_parts(box, sport, order, src=C1, dst=S1, size=1200):
    """What the server makes of a datagram that comes in parts, in the order that a function gives them."""
    parts = cut(udp(src, sport, dst, 53, PAYLOAD), size, sport)
    out = box.out(*order(parts))[1]
    return arrives(out, PAYLOAD, src=box.address(src), dst=dst)


@case(FRAGMENTS, "Too long for the way out, no DF", "VPPI-009")
def _(box):
    out = box.out(udp(C1, 42000, S1, 53, PAYLOAD[:1440]))[1]
    return f"{arrives(out, PAYLOAD[:1440], dst=S1)}, in {len(out)} fragments"


@case(FRAGMENTS, "In order", "OVS-024 OVS-027")
def _(box):
    return sent_in_parts(box, 42001, list)


@case(FRAGMENTS, "In reverse order", "OVS-024 VPPI-011")
def _(box):
    return sent_in_parts(box, 42002, lambda parts: parts[::-1])


@case(FRAGMENTS, "The reply, in reverse order", "OVS-027")
def _(box):
    port = opened(box, C1, 42003, S1, 53)[1]
    parts = cut(udp(S1, 53, box.address(C1), port, PAYLOAD), 1200, 42003)
    return arrives(box.back(*parts[::-1])[0], PAYLOAD, src=S1, dst=C1)


@case(FRAGMENTS, "IPv6: in order", "OVS-029")
def _(box):
    return sent_in_parts(box, 42004, list, C1_6, S1_6)


@case(FRAGMENTS, "IPv6: in reverse order", "OVS-029")
def _(box):
    return sent_in_parts(box, 42005, lambda parts: parts[::-1], C1_6, S1_6)


@case(FRAGMENTS, "One of them twice", "LNX-017 VPPI-011")
def _(box):
    return sent_in_parts(box, 42006, lambda parts: [parts[0], parts[1], parts[1], *parts[2:]])


@case(FRAGMENTS, "Two overlap by eight octets", "OVS-025")
def _(box):
    return sent_in_parts(box, 42007, lambda parts: [parts[0], moved(parts[1], -1), *parts[1:]])


@case(FRAGMENTS, "IPv6: two overlap by eight octets", "OVS-025 LNX-017")
def _(box):
    return sent_in_parts(box, 42008, lambda parts: [parts[0], moved(parts[1], -1), *parts[1:]], C1_6, S1_6)


@case(FRAGMENTS, "Without the last", "OVS-023")
def _(box):
    return sent_in_parts(box, 42009, lambda parts: parts[:-1])


@case(FRAGMENTS, "Without the first", "OVS-021")
def _(box):
    return sent_in_parts(box, 42010, lambda parts: parts[1:])


@case(FRAGMENTS, "The first has half of the TCP header", "VPPI-012")
def _(box):
    parts = cut(tcp(C1, 42011, S1, 80, "S", seq=1, options=[("MSS", 1460)]) / Raw(PAYLOAD[:40]), 16, 42011)
    out = [p for p in box.out(*parts)[1] if p.proto == 6]
    return arrives(out, PAYLOAD[:40], dst=S1)


@case(FRAGMENTS, "Two clients, one identification at the same time", "GVI-003")
def _(box):
    parts = [cut(udp(client, 42012, S1, 53, PAYLOAD), 1200, 4711) for client in (C1, C2)]
    mixed = [part for pair in zip(*parts) for part in pair]
    out = [p for p in box.out(*mixed)[1] if p.src == box.address(C1)]
    numbers = {p.id for p in out}
    whole = [arrives([p for p in out if p.id == number], PAYLOAD) == "the whole datagram" for number in numbers]
    if len(whole) == 2 and all(whole):
        return "both whole, by different identifications"
    return "mixed up under one identification" if len(numbers) == 1 else "not all of both"


# --- virtual addresses, hairpin, and the rest ---------------------------------------------------------------


@case(REST, "Virtual address: there and back", "OVS-037 VPPL-004")
def _(box):
    found = served(box, S2, 43010)
    if not found:
        return "dropped"
    seen = found[0]
    answer = udp(seen.dst, MEMBER_PORT, seen.src, seen[UDP].sport)
    back = of(box.out(answer)[1], UDP, src=VIRTUAL, dst=S2, sport=VIRTUAL_PORT, dport=43010)
    whose = "the box's address" if seen.src == INSIDE else "the client's address"
    good = seen.dst == C1 and seen[UDP].dport == MEMBER_PORT and sound(seen)
    return f"to the server from {whose}, " + ("restored" if good and back and sound(back[0]) else "not restored")


@case(REST, "Virtual address: port unreachable from the server", "VPPL-004")
def _(box):
    seen = served(box, S2, 43011)[0]
    error = ip(C1, seen.src) / ICMP(type=3, code=3) / bytes(fresh(seen))[:28]
    for packet in of(box.out(error)[1], ICMP, dst=S2):
        quoted = IP(bytes(packet[ICMP].payload))
        within = (quoted.src, quoted.dst, quoted[UDP].sport, quoted[UDP].dport) == (S2, VIRTUAL, 43011, VIRTUAL_PORT)
        return f"from {'the virtual address' if packet.src == VIRTUAL else packet.src}, {'restored' if within else 'not restored'} within"
    return "dropped"


@case(REST, "Virtual address: its own server asks (hairpin)", "VPPN-006 OVS-041")
def _(box):
    found = of(box.out(udp(C1, 43012, VIRTUAL, VIRTUAL_PORT))[0], UDP, dst=C1)
    if not found:
        return "dropped"
    seen = found[0]
    answer = udp(C1, MEMBER_PORT, seen.src, seen[UDP].sport)
    back = of(box.out(answer)[0], UDP, src=VIRTUAL, dst=C1, dport=43012)
    return verdict(back, "served")


@case(REST, "Virtual address: a port that nobody listens on", "KAT-001")
def _(box):
    back, out = box.back(udp(S2, 43013, VIRTUAL, 9999))
    return verdict(of(back, UDP))


@case(REST, "To another client's translated port, from inside (hairpin)", "VPPN-023 RFC-002")
def _(box):
    port = opened(box, C1, 43000, S1, 53)[1]
    found = of(box.out(udp(C2, 43001, box.address(C1), port))[0], UDP, dst=C1)
    if not found:
        return "dropped"
    whose = "the translated address" if found[0].src == box.address(C1) else f"{found[0].src}"
    answer = udp(C1, 43000, found[0].src, found[0][UDP].sport)
    back = of(box.out(answer)[0], UDP, src=box.address(C1), dst=C2, sport=port, dport=43001)
    return f"from {whose}, {'answered' if back and sound(back[0]) else 'not answered'}"


@case(REST, "Two clients to each other's translated ports, both from inside (hairpin)", "RFC-002")
def _(box):
    ports = [opened(box, client, port, S1, 53)[1] for client, port in ((C1, 43020), (C2, 43021))]
    outer = box.address(C1)
    there = udp(C1, 43020, outer, ports[1])
    back = udp(C2, 43021, outer, ports[0])
    box.out(there)
    first = of(box.out(back)[0], UDP, src=outer, dst=C1, sport=ports[1], dport=43020)
    second = of(box.out(there)[0], UDP, src=outer, dst=C2, sport=ports[0], dport=43021)
    return verdict(first and second, "both reached, from translated addresses")


@case(REST, "To its own translated port", "VPPN-023")
def _(box):
    port = opened(box, C1, 43005, S1, 53)[1]
    found = of(box.out(udp(C1, 43005, box.address(C1), port))[0], UDP, dst=C1)
    return "dropped" if not found else f"comes back {'once' if len(found) == 1 else f'{len(found)} times'}"


@case(REST, "Source and destination the same (LAND)", "VPPI-006")
def _(box):
    back, out = box.out(udp(C1, 43002, C1, 43002))
    return verdict(of(back + out, UDP))


@case(REST, "Source address of the box itself", "VPPI-006")
def _(box):
    box.inside.send(udp(INSIDE, 43003, S1, 53), CLIENTS[C1])
    return verdict(of(box.hear()[1], UDP))


@case(REST, "To the limited broadcast address", "VPPI-008")
def _(box):
    return verdict(of(box.out(udp(C1, 43004, "255.255.255.255", 53))[1], UDP))


OPEN = "Endpoint-independent filtering lets anybody send to the port, as was asked for; the default is that of the other columns."

EXPLAINED: dict[str, str] = {
    "UDP from port 500": "The services of self IPs are below 1024, so translated ports keep away from there "
    "([nat.md](nat.md#ports)).",
    "Two clients with one port to two servers": "A mapping's port is its client's towards everybody, so no other client has it; "
    "without mappings one port serves many servers.",
    "One port below 1024 to three servers": "A port that is not kept is drawn for each flow, unless a mapping gives the client one "
    "port; the kernel keeps ports where it can.",
    "From another port of the server to the client's": OPEN,
    "From another server to the client's port": OPEN,
    "IPv6: UDP without checksum": "RFC 8200 section 8.1: not without a checksum over IPv6, but for tunnels that have agreed to it; "
    "the kernel translates it all the same ([udp.md](udp.md#checksums)).",
    "UDP with a wrong checksum": "tmm verifies transport checksums before it opens a flow, so that a corrupt packet "
    "changes no state. The kernel does not track such a packet, and the forward chain takes it from inside, so it leaves untranslated.",
    "Data without a connection, from inside": "The kernel picks up connections in the middle (`nf_conntrack_tcp_loose`). tmm refuses, "
    "so that the client begins anew instead of waiting; virtual servers have the option ([connections.md](connections.md#options)).",
    "SYN-ACK without a SYN, from outside": "The address is the box's own with masquerade and automap, and it answers for it as a host does. "
    "An address of a pool is a translator's: what nobody asked for is dropped without a word.",
    "SYN from outside to a translated port": OPEN,
    "SYN with FIN": "Not tracked, so the forward chain lets it out untranslated; tmm drops flags that no host sends (`tcp_invalid`).",
    "No flags at all": "As above.",
    "Two overlap by eight octets": "Neither lets the receiver make a datagram of them. The kernel puts datagrams together before it passes "
    "them on; tmm passes on what came before the overlap, and nothing after it ([fragments.md](fragments.md)).",
    "IPv6: two overlap by eight octets": "As above.",
    "Without the last": "As above: the receiver gives up what never becomes whole.",
    "The first has half of the TCP header": "RFC 1858, RFC 3128: no host cuts there, but who wants to get past a filter does. The kernel looks at the "
    "datagram when it is whole; tmm never is in that position and drops it (`truncated_transport`).",
    "Two clients, one identification at the same time": "The kernel masquerades addresses and leaves identifications as they are, so at the "
    "receiver fragments of two datagrams meet under one (RFC 4963). tmm gives fragments that it translates new ones.",
    "To another client's translated port, from inside (hairpin)": "A mapping with open filtering takes it from clients within as from anybody "
    "(RFC 4787 REQ-9, [nat.md](nat.md#hairpin)), and both see translated addresses only. Else the port is for the server that the client has sent "
    "to; the kernel's masquerade knows no hairpin at all.",
    "Two clients to each other's translated ports, both from inside (hairpin)": "With the default filtering both have to send first, as with two "
    "translators between them ([nat.md](nat.md#hairpin)).",
    "To its own translated port": "As through any other hairpin: once, by the translated address.",
}
