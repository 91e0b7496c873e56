//! Frames built octet by octet, by other code than the crate's own, for tests to read back.

use net::{Addr, Encap, FlowKey, IpProto, L4Port, Layers, ParseError, RxMeta};
use proptest::prelude::*;

pub use crate::opinions::{checked, parse_with};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// The textbook checksum (RFC 1071), word by word.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let data = pieces.concat();
    let mut sum = 0u32;
    for pair in data.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The textbook CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for octet in data {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Everything that can vary in a well-formed TCP, UDP, ICMP echo or SCTP packet.
#[derive(Debug, Clone)]
pub struct Spec {
    /// (TPID, TCI), outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Whether the device took a service tag, a tag, or both out of the frame.
    pub strip: bool,
    pub key: FlowKey,
    pub ttl: u8,
    /// A multiple of four octets of IPv4 options.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers, each whole but for its next-header octet: (number, octets).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// A multiple of four octets of TCP options.
    pub tcp_options: Vec<u8>,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// A UDP datagram without a checksum (IPv4 only).
    pub no_checksum: bool,
    pub payload: Vec<u8>,
    /// Octets of padding behind the packet.
    pub padding: usize,
}

impl Spec {
    /// A plain packet of this key.
    pub fn new(key: FlowKey, payload: &[u8]) -> Self {
        Self {
            tags: Vec::new(),
            strip: false,
            key,
            ttl: 64,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            tcp_options: Vec::new(),
            flags: ACK,
            seq: 1000,
            ack: 2000,
            no_checksum: false,
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    pub fn is_v4(&self) -> bool {
        self.key.src.is_v4()
    }

    /// The pseudo-header for `len` octets of transport.
    pub fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_v4() {
            out.extend(self.key.src.v4_octets());
            out.extend(self.key.dst.v4_octets());
        } else {
            out.extend(self.key.src.octets());
            out.extend(self.key.dst.octets());
        }
        out.extend((len as u32).to_be_bytes());
        out.extend([0, 0, 0, self.key.proto.0]);
        out
    }

    /// The payload as a chunk of SCTP (DATA, as far as anybody on the way looks), padded.
    pub fn chunk(&self) -> Vec<u8> {
        let mut out = vec![0, 3];
        out.extend((4 + self.payload.len() as u16).to_be_bytes());
        out.extend(&self.payload);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn segment(&self) -> Vec<u8> {
        let (sport, dport) = (
            self.key.sport().0.to_be_bytes(),
            self.key.dport().0.to_be_bytes(),
        );
        let mut out = [sport, dport].concat();
        let checksum_at = match self.key.proto {
            IpProto::TCP => {
                out.extend(self.seq.to_be_bytes());
                out.extend(self.ack.to_be_bytes());
                let words = 5 + self.tcp_options.len() / 4;
                out.extend([(words << 4) as u8, self.flags, 0x20, 0x00, 0, 0, 0, 0]);
                out.extend(&self.tcp_options);
                out.extend(&self.payload);
                16
            }
            IpProto::UDP => {
                out.extend((8 + self.payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                out.extend(&self.payload);
                6
            }
            IpProto::SCTP => {
                out.extend([0, 0, 0, 1, 0, 0, 0, 0]);
                out.extend(self.chunk());
                let sum = crc32c(&out);
                out[8..12].copy_from_slice(&sum.to_le_bytes());
                return out;
            }
            _ => {
                let kind = if self.is_v4() { 8 } else { 128 };
                out = vec![kind, 0, 0, 0];
                out.extend(self.key.sport().0.to_be_bytes());
                out.extend([0, 1]);
                out.extend(&self.payload);
                2
            }
        };
        let pseudo = if self.key.proto == IpProto::ICMP {
            Vec::new()
        } else {
            self.pseudo_header(out.len())
        };
        let mut sum = checksum(&[&pseudo, &out]);
        if self.key.proto == IpProto::UDP {
            sum = match sum {
                _ if self.no_checksum => 0,
                0 => 0xffff,
                sum => sum,
            };
        }
        out[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut out;
        if self.is_v4() {
            let header_len = 20 + self.ip_options.len();
            out = vec![0x40 | (header_len / 4) as u8, 0];
            out.extend(((header_len + segment.len()) as u16).to_be_bytes());
            out.extend([0x12, 0x34, 0x40, 0, self.ttl, self.key.proto.0, 0, 0]);
            out.extend(self.key.src.v4_octets());
            out.extend(self.key.dst.v4_octets());
            out.extend(&self.ip_options);
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let mut chain = Vec::new();
            let mut numbers: Vec<u8> = self.extensions.iter().map(|(n, _)| *n).collect();
            numbers.push(self.key.proto.0);
            for ((_, octets), next) in self.extensions.iter().zip(&numbers[1..]) {
                chain.push(*next);
                chain.extend(octets);
            }
            out = vec![0x60, 0x0a, 0xbc, 0xde];
            out.extend(((chain.len() + segment.len()) as u16).to_be_bytes());
            out.extend([numbers[0], self.ttl]);
            out.extend(self.key.src.octets());
            out.extend(self.key.dst.octets());
            out.extend(chain);
        }
        out.extend(segment);
        out
    }

    /// The frame with all of its tags in it.
    pub fn whole_frame(&self) -> Vec<u8> {
        self.frame_with(&self.tags)
    }

    /// The frame as the device hands it over, and what it says besides.
    pub fn received(&self) -> (Vec<u8>, RxMeta) {
        let mut rx = RxMeta::default();
        let mut tags = &self.tags[..];
        if let (true, Some(((0x88a8, tci), rest))) = (self.strip, tags.split_first()) {
            rx.stripped_service_tci = Some(*tci);
            tags = rest;
        }
        if let (true, Some(((0x8100, tci), rest))) = (self.strip, tags.split_first()) {
            rx.stripped_tci = Some(*tci);
            tags = rest;
        }
        (self.frame_with(tags), rx)
    }

    fn frame_with(&self, tags: &[(u16, u16)]) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (tpid, tci) in tags {
            out.extend(tpid.to_be_bytes());
            out.extend(tci.to_be_bytes());
        }
        out.extend(if self.is_v4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        });
        out.extend(self.packet());
        out.resize(out.len() + self.padding, 0);
        out
    }

    /// (VID of the service tag, VID of the tag), 0 for none.
    pub fn vids(&self) -> (u16, u16) {
        let vid = |(_, tci): &(u16, u16)| tci & 0x0fff;
        match &self.tags[..] {
            [] => (0, 0),
            [tag @ (0x88a8, _)] => (vid(tag), 0),
            [tag] => (0, vid(tag)),
            [outer, inner] if vid(inner) == 0 && outer.0 == 0x8100 => (0, vid(outer)),
            [outer, inner, ..] => (vid(outer), vid(inner)),
        }
    }
}

/// Parses a frame as a device without offloads hands it over.
pub fn parse(frame: &[u8]) -> Result<Layers, ParseError> {
    parse_with(frame, RxMeta::default())
}

pub fn encap(vids: (u16, u16)) -> Encap {
    Encap::from_ids(net::VlanId::new(vids.0), net::VlanId::new(vids.1))
}

pub fn key4(proto: IpProto) -> FlowKey {
    FlowKey::new(
        Addr::from_v4([198, 51, 100, 7]),
        Addr::from_v4([192, 0, 2, 10]),
        L4Port(40_000),
        L4Port(80),
        proto,
    )
}

pub fn key6(proto: IpProto) -> FlowKey {
    let addr = |last| Addr::from_v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    FlowKey::new(addr(7), addr(10), L4Port(40_000), L4Port(80), proto)
}

/// A unicast address that may be on the wire.
pub fn addr(v4: bool) -> BoxedStrategy<Addr> {
    if v4 {
        (1u8..224, any::<[u8; 3]>())
            .prop_filter("loopback", |(first, _)| *first != 127)
            .prop_map(|(a, [b, c, d])| Addr::from_v4([a, b, c, d]))
            .boxed()
    } else {
        any::<[u8; 16]>()
            .prop_map(|mut o| {
                o[0] = 0x20 | (o[0] & 0x0f);
                Addr::from_v6(o)
            })
            .boxed()
    }
}

pub fn key(v4: bool, proto: IpProto) -> impl Strategy<Value = FlowKey> {
    (addr(v4), addr(v4), any::<(u16, u16)>()).prop_map(move |(src, dst, (sport, dport))| {
        let echo = matches!(proto, IpProto::ICMP | IpProto::ICMPV6);
        let dport = if echo { sport } else { dport };
        FlowKey::new(src, dst, L4Port(sport), L4Port(dport), proto)
    })
}

/// A family and a protocol of it.
pub fn kind() -> impl Strategy<Value = (bool, IpProto)> {
    (any::<bool>(), 0usize..4).prop_map(|(v4, which)| {
        let icmp = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
        let protos = [IpProto::TCP, IpProto::UDP, icmp, IpProto::SCTP];
        (v4, protos[which])
    })
}

pub fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let tpid = prop::sample::select(vec![0x8100u16, 0x88a8]);
    prop::collection::vec((tpid, any::<u16>()), 0..=2)
}

fn extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let sized = |unit: usize, first: u8, units: u8| {
        let mut octets = vec![units];
        octets.resize(unit * usize::from(units) + usize::from(first) - 1, 0);
        octets
    };
    prop_oneof![
        // Destination options, routing, mobility: eight octets and so many times eight more.
        (prop::sample::select(vec![60u8, 43]), 0u8..3)
            .prop_map(move |(n, units)| { (n, sized(8, 8, units)) }),
        // Authentication: eight octets and so many words more, at least one.
        (1u8..6).prop_map(move |units| (51, sized(4, 8, units))),
    ]
}

/// At most one hop-by-hop header, in front; at most one (atomic) fragment header.
fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let hop = prop::option::of(Just((0u8, vec![0, 1, 4, 0, 0, 0, 0])));
    let atomic =
        prop::option::of(any::<[u8; 4]>().prop_map(|id| (44u8, [&[0, 0, 0], &id[..]].concat())));
    let rest = prop::collection::vec(extension(), 0..3);
    (hop, rest, atomic, prop::option::of(extension())).prop_map(|(hop, rest, atomic, last)| {
        hop.into_iter()
            .chain(rest)
            .chain(atomic)
            .chain(last)
            .collect()
    })
}

fn words(most: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..=most).prop_map(|n| vec![1; n * 4])
}

/// IPv4 options, padded to whole words: router alert, record route, timestamp, no-operation, and
/// one that nobody knows.
fn ip_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop::sample::select(vec![
        &[148u8, 4, 0, 0][..],
        &[7, 7, 4, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[1],
        &[0x5e, 2],
    ]);
    prop::collection::vec(option, 0..4).prop_map(|options| {
        let mut octets = options.concat();
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    })
}

/// Any well-formed packet with a given key.
pub fn spec_of(key: FlowKey) -> impl Strategy<Value = Spec> {
    let v4 = key.src.is_v4();
    let udp = key.proto == IpProto::UDP;
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(any::<u8>(), 1000..1100),
    ];
    (
        (tags(), any::<bool>(), 0usize..8),
        (1u8.., ip_options(), extensions()),
        (words(10), any::<u8>(), any::<(u32, u32)>()),
        (any::<bool>(), payload),
    )
        .prop_map(move |(frame, ip, tcp, (no_checksum, payload))| {
            let (tags, strip, padding) = frame;
            let (ttl, ip_options, extensions) = ip;
            let (tcp_options, flags, (seq, ack)) = tcp;
            Spec {
                tags,
                strip,
                key,
                ttl,
                ip_options,
                extensions,
                tcp_options,
                flags,
                seq,
                ack,
                no_checksum: no_checksum && v4 && udp,
                payload,
                padding,
            }
        })
}

/// Any well-formed packet.
pub fn spec() -> impl Strategy<Value = Spec> {
    kind()
        .prop_flat_map(|(v4, proto)| key(v4, proto))
        .prop_flat_map(spec_of)
}
