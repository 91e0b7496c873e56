//! The packets of a history: what its octets make of them.

use net::emit::{self, TcpFields};
use net::{Addr, FlowKey, IpProto, L4Port, crc32c};

/// The input, read from the front; zeros once it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn octet(&mut self) -> u8 {
        self.octets(1).first().copied().unwrap_or(0)
    }

    pub fn index(&mut self, n: usize) -> usize {
        usize::from(self.octet()) % n
    }

    pub fn octets(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A packet of a client to a virtual server.
pub fn client_packet(input: &mut Input<'_>) -> Vec<u8> {
    let (shape, client, flags) = (input.octet(), input.octet(), input.octet());
    let v6 = shape & 1 != 0;
    let (src, dst) = if v6 {
        let mut src = [0; 16];
        src[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 1]);
        src[15] = 0x70 | (client & 7);
        let mut dst = [0; 16];
        dst[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0x0f]);
        dst[15] = 0x10;
        (Addr::from_v6(src), Addr::from_v6(dst))
    } else {
        (
            Addr::from_v4([192, 0, 2, 70 + (client & 7)]),
            Addr::from_v4([203, 0, 113, 10]),
        )
    };
    let sport = L4Port(40_000 + u16::from(client >> 3));
    let payload = [0xa5; 40];
    let payload = &payload[..usize::from(shape >> 3)];
    let number = u32::from(flags) << 8;
    match shape >> 1 & 3 {
        0 | 1 => emit::tcp(
            &FlowKey::new(src, dst, sport, L4Port(80), IpProto::TCP),
            TcpFields {
                seq: number,
                ack: number,
                flags: flags & 0x3f,
                window: 1000,
            },
            payload,
        ),
        2 => emit::udp(
            &FlowKey::new(src, dst, sport, L4Port(53), IpProto::UDP),
            payload,
        ),
        _ => {
            let (proto, kind) = if v6 {
                (IpProto::ICMPV6, 128)
            } else {
                (IpProto::ICMP, 8)
            };
            let key = FlowKey::new(src, dst, sport, sport, proto);
            emit::icmp(&key, 64, kind, 0, [0, client, 0, flags], payload)
        }
    }
}

/// Makes a packet a fragment with some of its octets: `at` in eights, at most `len` octets; of `mark`, a bit
/// says whether more follow, others are the identification.
pub fn fragment(l3: &mut Vec<u8>, at: usize, len: usize, mark: u8) {
    let v4 = l3.first().is_some_and(|octet| octet >> 4 == 4);
    let header = if v4 { 20 } else { 40 };
    let (at, more) = (at % 16, mark & 1);
    let rest = l3.split_off(header);
    let from = (at * 8).min(rest.len());
    let to = (from + len).min(rest.len());
    let id = mark >> 1 & 3;
    let at = u16::try_from(at).unwrap_or(0);
    if v4 {
        let field = at | u16::from(more) << 13;
        let total = u16::try_from(header + to - from).unwrap_or(0);
        l3[2..4].copy_from_slice(&total.to_be_bytes());
        l3[4..6].copy_from_slice(&[0, id]);
        l3[6..8].copy_from_slice(&field.to_be_bytes());
        l3[10..12].fill(0);
        let sum = net::checksum::of(&l3[..20]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let field = (at << 3 | u16::from(more)).to_be_bytes();
        l3.extend([l3[6], 0, field[0], field[1], 0, 0, 0, id]);
        l3[6] = 44;
        let payload = u16::try_from(8 + to - from).unwrap_or(0);
        l3[4..6].copy_from_slice(&payload.to_be_bytes());
    }
    l3.extend(&rest[from..to]);
}

/// A TCP SYN with options, as they come.
pub fn with_options(input: &mut Input<'_>) -> Vec<u8> {
    let (client, len) = (input.octet(), input.octet());
    let key = FlowKey::new(
        Addr::from_v4([192, 0, 2, 70 + (client & 7)]),
        Addr::from_v4([203, 0, 113, 10]),
        L4Port(40_000 + u16::from(client >> 3)),
        L4Port(80),
        IpProto::TCP,
    );
    let fields = TcpFields {
        seq: 1,
        ack: 0,
        flags: 2,
        window: 1000,
    };
    let mut segment = emit::tcp(&key, fields, &[]).split_off(20);
    let words = len % 11;
    let mut options = input.octets(usize::from(words) * 4).to_vec();
    options.resize(usize::from(words) * 4, 0);
    segment.extend(options);
    segment[12] += words << 4;
    segment[16..18].fill(0);
    let sum = emit::transport_checksum(&key, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    emit::ip(&key, emit::DEFAULT_TTL, &segment)
}

/// A packet of a member's to somebody outside, of any protocol; or, over TCP and UDP, to an address that members are
/// translated to.
pub fn outward(input: &mut Input<'_>) -> Vec<u8> {
    let (shape, ends, flags) = (input.octet(), input.octet(), input.octet());
    let (src, dst) = if shape & 1 == 0 {
        (
            Addr::from_v4([198, 51, 100, 11 + (ends & 1)]),
            Addr::from_v4([192, 0, 2, 200 + (ends >> 1 & 3)]),
        )
    } else {
        let addr = |net: u8, host: u8| {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, net]);
            octets[15] = host;
            Addr::from_v6(octets)
        };
        (addr(2, 0x11 + (ends & 1)), addr(1, 0xc0 + (ends >> 1 & 3)))
    };
    let port = L4Port(40_000 + u16::from(ends >> 3 & 7));
    let payload = [0x5a; 24];
    let payload = &payload[..usize::from(shape >> 4)];
    let round = flags >> 6 == 3 && shape >> 1 & 7 < 4;
    let dst = match (round, src.is_v4()) {
        (false, _) => dst,
        (true, true) => Addr::from_v4([192, 0, 2, if ends & 2 == 0 { 50 } else { 1 }]),
        (true, false) => {
            let mut pool = [0; 16];
            pool[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 1]);
            pool[15] = 0x50;
            Addr::from_v6(pool)
        }
    };
    let key = |proto, dport| {
        let dport = if round {
            40_000 + u16::from(flags & 7)
        } else {
            dport
        };
        FlowKey::new(src, dst, port, L4Port(dport), proto)
    };
    match shape >> 1 & 7 {
        0 | 1 => {
            let fields = TcpFields {
                seq: u32::from(flags) << 8,
                ack: u32::from(flags) << 8,
                flags: flags & 0x3f,
                window: 1000,
            };
            emit::tcp(&key(IpProto::TCP, 443), fields, payload)
        }
        2 | 3 => emit::udp(&key(IpProto::UDP, 53 + u16::from(ends >> 6)), payload),
        4 => {
            let (proto, kind) = if src.is_v4() {
                (IpProto::ICMP, 8)
            } else {
                (IpProto::ICMPV6, 128)
            };
            emit::icmp(
                &key(proto, port.0),
                64,
                kind,
                0,
                [0, ends, 0, flags],
                payload,
            )
        }
        5 => sctp(&key(IpProto::SCTP, 3868), input),
        // UDP-Lite, GRE, ESP, IP in IP.
        _ => {
            let proto = [136, 47, 50, 4][usize::from(flags & 3)];
            emit::ip(&key(IpProto(proto), 0), 64, payload)
        }
    }
}

/// A packet of somebody outside, who was perhaps never asked, to an address that sources are translated to.
pub fn inward(input: &mut Input<'_>) -> Vec<u8> {
    let (ends, flags) = (input.octet(), input.octet());
    let key = |proto| {
        FlowKey::new(
            Addr::from_v4([192, 0, 2, 200 + (ends & 3)]),
            Addr::from_v4([192, 0, 2, if ends & 4 == 0 { 50 } else { 1 }]),
            L4Port(53 + u16::from(ends >> 6)),
            L4Port(40_000 + u16::from(ends >> 3 & 7)),
            proto,
        )
    };
    let fields = TcpFields {
        seq: 1,
        ack: 1,
        flags: flags & 0x3f,
        window: 1000,
    };
    match flags >> 6 {
        0 => emit::tcp(&key(IpProto::TCP), fields, &[]),
        1 => sctp(&key(IpProto::SCTP), input),
        _ => emit::udp(&key(IpProto::UDP), b"unasked"),
    }
}

/// A packet of a client to the virtual server for associations.
pub fn association(input: &mut Input<'_>) -> Vec<u8> {
    let client = input.octet();
    let v4 = client & 0x80 == 0;
    let (src, dst) = if v4 {
        (
            Addr::from_v4([192, 0, 2, 70 + (client & 3)]),
            Addr::from_v4([203, 0, 113, 20]),
        )
    } else {
        let addr = |net: u8, host: u8| {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, net]);
            octets[15] = host;
            Addr::from_v6(octets)
        };
        (addr(1, 0x70 | (client & 3)), addr(0x0f, 0x20))
    };
    let sport = L4Port(40_000 + u16::from(client >> 2 & 7));
    sctp(
        &FlowKey::new(src, dst, sport, L4Port(38_412), IpProto::SCTP),
        input,
    )
}

/// An SCTP packet: its tag and chunks are of the input. Few tags, so that they meet.
pub fn sctp(key: &FlowKey, input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.octet();
    let mut segment = key.sport().0.to_be_bytes().to_vec();
    segment.extend(key.dport().0.to_be_bytes());
    segment.extend(u32::from(shape & 3).to_be_bytes());
    segment.extend([0; 4]);
    for _ in 0..=shape >> 2 & 3 {
        let (kind, what) = (input.octet(), input.octet());
        // Mostly those that there are.
        let kind = if kind < 0xf0 { kind % 16 } else { kind };
        let mut body = Vec::new();
        if matches!(kind, 1 | 2) {
            body.extend(u32::from(what & 3).to_be_bytes());
            body.extend([0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
        } else {
            body.extend(input.octets(usize::from(what >> 4)));
        }
        // Some lengths lie.
        let lie = if what & 0x0c == 0x0c { shape >> 4 } else { 0 };
        let len = u16::try_from(4 + body.len() + usize::from(lie)).unwrap_or(u16::MAX);
        let len = if shape & 0xf0 == 0xf0 {
            u16::from(what & 7)
        } else {
            len
        };
        segment.extend([kind, what & 1]);
        segment.extend(len.to_be_bytes());
        segment.extend(body);
        segment.resize(segment.len().next_multiple_of(4), 0);
    }
    if let Some(sum) = crc32c::of(&segment) {
        segment[8..12].copy_from_slice(&sum);
    }
    emit::ip(key, emit::DEFAULT_TTL, &segment)
}

/// An ICMP error from `src` to `dst` about a packet, of which it quotes as much as the dice say, an octet perhaps changed.
pub fn error(src: Addr, dst: Addr, about: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let (kind, code, len) = (input.octet(), input.octet(), input.octet());
    let (proto, kinds): (_, &[u8]) = if src.is_v4() {
        (IpProto::ICMP, &[3, 11, 12, 4, 5, 3, 3, 0])
    } else {
        (IpProto::ICMPV6, &[1, 2, 3, 4, 5, 137, 1, 2])
    };
    let rest = [code >> 4, len, code, kind >> 3];
    let mut quoted = about[..about.len().min(usize::from(len))].to_vec();
    if code & 0x80 != 0 && !quoted.is_empty() {
        let at = usize::from(input.octet()) % quoted.len();
        quoted[at] ^= input.octet();
    }
    let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), proto);
    let kind = kinds[usize::from(kind & 7)];
    emit::icmp(&key, 64, kind, code & 0x0f, rest, &quoted)
}

/// Puts extension headers, some of which are no good, behind an IPv6 header.
pub fn extend(l3: &mut Vec<u8>, input: &mut Input<'_>) {
    let shape = input.octet();
    if l3.first().is_none_or(|octet| octet >> 4 != 6) {
        // Options of IPv4 instead.
        let words = shape & 7;
        let mut options = input.octets(usize::from(words) * 4).to_vec();
        options.resize(usize::from(words) * 4, 1);
        l3.splice(20..20, options);
        l3[0] += words;
        let total = u16::try_from(l3.len()).unwrap_or(u16::MAX);
        l3[2..4].copy_from_slice(&total.to_be_bytes());
        l3[10..12].fill(0);
        let sum = net::checksum::of(&l3[..20 + usize::from(words) * 4]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
        return;
    }
    for _ in 0..shape & 3 {
        let (kind, fill) = (input.octet(), input.octet());
        let kind = [0, 60, 43, 44, 51, 135, 59, kind][usize::from(kind & 7)];
        let units = fill & 1;
        let mut header = vec![l3[6], units];
        header.extend(input.octets(6 + usize::from(units) * 8));
        header.resize(8 + usize::from(units) * 8, 0);
        if kind == 51 {
            // Its length is in words, less two.
            header[1] = if units == 0 { 0 } else { 2 };
        }
        if kind == 44 {
            header.truncate(8);
            header[1] = 0;
        }
        l3[6] = kind;
        l3.splice(40..40, header);
    }
    let payload = u16::try_from(l3.len() - 40).unwrap_or(u16::MAX);
    l3[4..6].copy_from_slice(&payload.to_be_bytes());
}
