"""Packets that hosts send, and what is to be seen of those that come out."""

import struct

from boxes import C1, CLIENTS, S1, VIRTUAL, VIRTUAL6, VIRTUAL_PORT, network
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    in6_chksum,
)
from scapy.packet import Raw
from scapy.utils import checksum


def ip(src, dst, **more):
    if ":" in src:
        if "ttl" in more:
            more["hlim"] = more.pop("ttl")
        return IPv6(src=src, dst=dst, **more)
    return IP(src=src, dst=dst, **more)


def udp(src, sport, dst, dport, payload=b"x" * 20, **more):
    return ip(src, dst, **more) / UDP(sport=sport, dport=dport) / Raw(payload)


def tcp(src, sport, dst, dport, flags, **more):
    return ip(src, dst) / TCP(sport=sport, dport=dport, flags=flags, **more)


def echo(src, dst, number, payload=b"abcd"):
    kind = ICMPv6EchoRequest if ":" in src else ICMP
    return ip(src, dst) / kind(id=number, seq=1) / Raw(payload)


def echo_reply(src, dst, number, payload=b"abcd"):
    kind = ICMPv6EchoReply(id=number, seq=1) if ":" in src else ICMP(type=0, id=number, seq=1)
    return ip(src, dst) / kind / Raw(payload)


def echo_id(packet):
    for kind in (ICMPv6EchoRequest, ICMPv6EchoReply, ICMP):
        if kind in packet:
            return packet[kind].id
    return None


def fresh(packet):
    """As it leaves a host: lengths and checksums worked out."""
    return type(network(packet))(bytes(packet))


def of(packets, layer, **fields):
    """Those of a layer whose fields are as given; `src` and `dst` are the addresses'."""
    found = []
    for packet in packets:
        if layer not in packet:
            continue
        part = packet[layer]
        named = {"src": packet.src, "dst": packet.dst}
        if all((named[k] if k in named else getattr(part, k)) == v for k, v in fields.items()):
            found.append(packet)
    return found


def sound(packet):
    """Whether all checksums of a whole packet are right."""
    data = bytes(packet)
    if IP in packet:
        head = (data[0] & 15) * 4
        if checksum(data[:head]) != 0:
            return False
        proto, body = packet.proto, data[head : packet.len]
        around = packet.src, packet.dst
    else:
        proto, body = packet.nh, data[40 : 40 + packet.plen]
        around = packet.src, packet.dst
    return transport_sound(proto, around, body)


def transport_sound(proto, around, body):
    six = ":" in around[0]
    if proto == 1:
        return checksum(body) == 0
    if proto not in (6, 17, 58):
        return True
    if proto == 17 and body[6:8] == b"\0\0":
        return not six
    if six:
        return in6_chksum(proto, IPv6(src=around[0], dst=around[1]), body) in (0, 0xFFFF)
    ends = b"".join(bytes(map(int, a.split("."))) for a in around)
    return checksum(ends + struct.pack(">BBH", 0, proto, len(body)) + body) in (0, 0xFFFF)


def cut(packet, size, number):
    """A packet in fragments of `size` octets of payload, identified by a number."""
    if IPv6 not in packet:
        packet[IP].id = number
        return [IP(bytes(part)) for part in fragment(packet, size)]
    whole = fresh(packet)
    body, size = bytes(whole)[40:], size // 8 * 8
    parts = []
    for at in range(0, len(body), size):
        more = int(at + size < len(body))
        head = IPv6(src=whole.src, dst=whole.dst, hlim=64)
        head = head / IPv6ExtHdrFragment(nh=whole.nh, offset=at // 8, m=more, id=number)
        parts.append(IPv6(bytes(head / Raw(body[at : at + size]))))
    return parts


def moved(part, units):
    """A copy of a fragment that begins some units of eight octets later."""
    again = part.copy()
    if IPv6 in again:
        again[IPv6ExtHdrFragment].offset += units
    else:
        again.frag += units
        del again.chksum
    return type(network(again))(bytes(again))


def piece(packet):
    """Where a packet's payload lies in its datagram: number, offset, whether more follows, octets, protocol."""
    data = bytes(packet)
    if IP in packet:
        head = (data[0] & 15) * 4
        return packet.id, packet.frag * 8, bool(packet.flags.MF), data[head : packet.len], packet.proto
    if packet.nh == 44:
        field, number = struct.unpack(">HI", data[42:48])
        return number, field & 0xFFF8, bool(field & 1), data[48 : 40 + packet.plen], data[40]
    return 0, 0, False, data[40 : 40 + packet.plen], packet.nh


def arrives(packets, payload, **ends):
    """What a receiver makes of the packets of one datagram: its octets end in `payload`."""
    packets = [p for p in packets if all(getattr(p, k) == v for k, v in ends.items())]
    if not packets:
        return "nothing"
    parts = sorted((piece(p) for p in packets), key=lambda part: part[1])
    body = b""
    for _, offset, _, octets, _ in parts:
        if offset != len(body):
            return "not all of it"
        body += octets
    one = len({part[0] for part in parts}) == 1
    last = [part for part in parts if not part[2]]
    good = one and len(last) == 1 and body.endswith(payload)
    if good and transport_sound(parts[0][4], (packets[0].src, packets[0].dst), body):
        return "the whole datagram"
    return "not all of it"


def opened(box, src, sport, dst, dport):
    """The source that a UDP packet has outside, or None."""
    for packet in of(box.out(udp(src, sport, dst, dport))[1], UDP, dst=dst):
        return packet.src, packet[UDP].sport
    return None


def connected(box, sport, dport, isn=1000, other=9000):
    """A TCP connection through the box; the source port that it has outside."""
    syn = of(box.out(tcp(C1, sport, S1, dport, "S", seq=isn, window=1000))[1], TCP)
    if not syn:
        return None
    port = syn[0][TCP].sport
    box.back(tcp(S1, dport, box.address(C1), port, "SA", seq=other, ack=isn + 1, window=1000))
    box.out(tcp(C1, sport, S1, dport, "A", seq=isn + 1, ack=other + 1, window=1000))
    return port


def served(box, client, sport):
    """A datagram from outside to the virtual address; what reaches inside of it."""
    virtual = VIRTUAL6 if ":" in client else VIRTUAL
    return of(box.back(udp(client, sport, virtual, VIRTUAL_PORT))[0], UDP)


def verdict(packets, name="passed on"):
    return name if packets else "dropped"


def forwarded(packets):
    """Whether packets of the clients came out, and with whose address."""
    inner = any(p.src in CLIENTS for p in packets)
    return "dropped" if not packets else "passed on with the inner address" if inner else "passed on"
