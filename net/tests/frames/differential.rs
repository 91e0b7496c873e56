//! The parser against etherparse and smoltcp, on random and on mutated frames.
//!
//! What [`Layers::parse`] lets through, both others read the same way; what it refuses, etherparse
//! refuses too, but for the reasons that etherparse does not look into. Where they differ on
//! purpose is named in [`etherparse_reads_further`] and [`stricter_on_purpose`], and nowhere else.

use etherparse::{LenSource, NetSlice, SlicedPacket, TransportSlice};
use net::{Addr, Fragment, IpProto, Layers, Network, ParseError};
use proptest::prelude::*;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::build::{Spec, checked, parse, parse_with, spec};

/// Where `part`, a piece of `whole`, begins in it.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Whether etherparse looks into something that is opaque here, and may find fault with it.
fn etherparse_reads_further(frame: &[u8], layers: &Layers) -> bool {
    match layers.network {
        // Fields of ARP are the resolver's business.
        Network::Arp => true,
        // Neither TPID 0x9100 (pre-standard QinQ) nor MACsec is known here.
        Network::Other(kind) => matches!(kind, 0x9100 | 0x88e5),
        // An authentication header is followed in IPv6 only.
        Network::Ipv4 if layers.key.proto == IpProto(51) => true,
        // IGMP, and ICMP of the other family, are opaque.
        Network::Ipv4 | Network::Ipv6 => {
            layers.key.proto == IpProto(2)
                || layers.key.proto == IpProto::ICMP && layers.network == Network::Ipv6
                || layers.key.proto == IpProto::ICMPV6 && layers.network == Network::Ipv4
                // Length 0 of IPv6 is read as "to the end of the frame".
                || layers.network == Network::Ipv6 && frame[layers.l3 + 4..layers.l3 + 6] == [0, 0]
                // What follows the fragment header of a later fragment is data, which etherparse
                // takes for more extension headers.
                || layers.network == Network::Ipv6 && layers.fragment == Fragment::Later
                // Mobility, HIP and shim6 headers end etherparse's chain; here they are skipped.
                || skips_a_header_unknown_to_etherparse(frame, layers)
        }
    }
}

fn skips_a_header_unknown_to_etherparse(frame: &[u8], layers: &Layers) -> bool {
    if layers.network != Network::Ipv6 {
        return false;
    }
    let (mut at, mut next) = (layers.l3 + 40, frame[layers.l3 + 6]);
    while at < layers.l4 {
        if matches!(next, 135 | 139 | 140) {
            return true;
        }
        let units = usize::from(frame[at + 1]);
        let len = match next {
            44 => 8,
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = frame[at];
        at += len;
    }
    false
}

/// Whether a frame is refused for what etherparse does not look into.
fn stricter_on_purpose(frame: &[u8], reason: ParseError) -> bool {
    match reason {
        // Policy and checksums, not structure.
        ParseError::BadSourceMac
        | ParseError::TooManyTags
        | ParseError::MartianAddress
        | ParseError::BadIpChecksum
        | ParseError::BadTransportChecksum
        // A limit on their number, repeated fragment headers, headers that etherparse does not
        // know, headers behind a fragment header.
        | ParseError::BadExtensionHeader => true,
        ParseError::TruncatedTransport | ParseError::BadTransportHeader => {
            let ip = SlicedPacket::from_ethernet(frame).unwrap().net.unwrap();
            let payload = ip.ip_payload_ref().unwrap();
            match payload.ip_number.0 {
                // SCTP, and what follows mobility, HIP and shim6 headers, etherparse leaves alone.
                132 | 135 | 139 | 140 => true,
                // UDP of length 0 is read as "to the end of the packet".
                17 if payload.payload.get(4..6) == Some(&[0, 0]) => true,
                // The transport header of a first fragment is not looked at; length 0 of IPv6 is
                // read as "to the end of the frame".
                _ => payload.fragmented || payload.len_source == LenSource::Slice,
            }
        }
        ParseError::BadIpHeader | ParseError::TruncatedEthernet | ParseError::TruncatedNetwork => {
            false
        }
    }
}

fn agrees_with_etherparse(frame: &[u8], layers: &Layers) {
    if etherparse_reads_further(frame, layers) {
        return;
    }
    let theirs = SlicedPacket::from_ethernet(frame).expect("etherparse refuses what we accept");
    let vids: Vec<u16> = theirs.vlan_ids().iter().map(|v| v.value()).collect();
    assert_eq!(layers.l3, 14 + 4 * vids.len());
    let (ip, src, dst, number) = match &theirs.net {
        None => {
            assert!(matches!(layers.network, Network::Other(_)));
            return;
        }
        Some(NetSlice::Arp(_)) => {
            assert_eq!(layers.network, Network::Arp);
            return;
        }
        Some(NetSlice::Ipv4(ip)) => {
            assert_eq!(layers.network, Network::Ipv4);
            let h = ip.header();
            assert_eq!(layers.ttl, h.ttl());
            assert_eq!(layers.l3, offset(frame, h.slice()));
            let (src, dst) = (Addr::from_v4(h.source()), Addr::from_v4(h.destination()));
            (ip.payload().clone(), src, dst, h.protocol())
        }
        Some(NetSlice::Ipv6(ip)) => {
            assert_eq!(layers.network, Network::Ipv6);
            let h = ip.header();
            assert_eq!(layers.ttl, h.hop_limit());
            assert_eq!(layers.l3, offset(frame, h.slice()));
            let (src, dst) = (Addr::from_v6(h.source()), Addr::from_v6(h.destination()));
            (ip.payload().clone(), src, dst, ip.payload().ip_number)
        }
    };
    assert_eq!((layers.key.src, layers.key.dst), (src, dst));
    assert_eq!(layers.fragment != Fragment::Whole, ip.fragmented);
    assert_eq!(layers.key.proto.0, number.0);
    assert_eq!(layers.l4, offset(frame, ip.payload));
    assert_eq!(layers.end, layers.l4 + ip.payload.len());
    let ports = (layers.key.sport().0, layers.key.dport().0);
    match &theirs.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(ports, (tcp.source_port(), tcp.destination_port()));
            assert_eq!(layers.payload, offset(frame, tcp.payload()));
            assert_eq!(layers.tcp_flags, tcp.slice()[13]);
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(ports, (udp.source_port(), udp.destination_port()));
            assert_eq!(layers.payload, offset(frame, udp.payload()));
        }
        Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(layers.icmp_type, icmp.type_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => assert_eq!(layers.icmp_type, icmp.type_u8()),
        Some(TransportSlice::Igmp(_)) => unreachable!("named above"),
        None => {
            let unknown = !matches!(
                layers.key.proto,
                IpProto::TCP | IpProto::UDP | IpProto::ICMP | IpProto::ICMPV6
            );
            assert!(unknown || layers.fragment != Fragment::Whole);
        }
    }
}

fn agrees_with_smoltcp(frame: &[u8], layers: &Layers, checksums: bool) {
    let l3 = &frame[layers.l3..];
    let (src, dst): (IpAddress, IpAddress);
    match layers.network {
        Network::Ipv4 => {
            let ip = Ipv4Packet::new_checked(l3).expect("smoltcp refuses what we accept");
            assert_eq!(ip.version(), 4);
            assert!(!checksums || ip.verify_checksum());
            (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
            assert_eq!(layers.l4, layers.l3 + usize::from(ip.header_len()));
            assert_eq!(layers.end, layers.l3 + usize::from(ip.total_len()));
            assert_eq!(layers.ttl, ip.hop_limit());
            assert_eq!(layers.key.proto.0, u8::from(ip.next_header()));
            let fragment = match (ip.frag_offset(), ip.more_frags()) {
                (0, false) => Fragment::Whole,
                (0, true) => Fragment::First,
                _ => Fragment::Later,
            };
            assert_eq!(layers.fragment, fragment);
        }
        Network::Ipv6 => {
            let ip = Ipv6Packet::new_checked(l3).expect("smoltcp refuses what we accept");
            assert_eq!(ip.version(), 6);
            (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
            assert_eq!(layers.end, layers.l3 + ip.total_len());
            assert_eq!(layers.ttl, ip.hop_limit());
        }
        Network::Arp | Network::Other(_) => return,
    }
    assert_eq!(IpAddress::from(layers.key.src.ip()), src);
    assert_eq!(IpAddress::from(layers.key.dst.ip()), dst);
    if layers.fragment != Fragment::Whole {
        return;
    }
    let segment = &frame[layers.l4..layers.end];
    let ports = (layers.key.sport().0, layers.key.dport().0);
    match layers.key.proto {
        IpProto::TCP => {
            let tcp = TcpPacket::new_checked(segment).expect("smoltcp refuses what we accept");
            assert!(!checksums || tcp.verify_checksum(&src, &dst));
            assert_eq!(ports, (tcp.src_port(), tcp.dst_port()));
            let payload = &frame[layers.payload..layers.end];
            assert_eq!(payload, &segment[usize::from(tcp.header_len())..]);
        }
        IpProto::UDP => {
            let udp = UdpPacket::new_checked(segment).expect("smoltcp refuses what we accept");
            assert!(!checksums || udp.verify_checksum(&src, &dst));
            assert_eq!(ports, (udp.src_port(), udp.dst_port()));
        }
        IpProto::ICMP if layers.network == Network::Ipv4 => {
            let icmp = Icmpv4Packet::new_checked(segment).expect("smoltcp refuses what we accept");
            assert!(icmp.verify_checksum());
            assert_eq!(u8::from(icmp.msg_type()), layers.icmp_type);
        }
        IpProto::ICMPV6 if layers.network == Network::Ipv6 => {
            let (IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) = (src, dst) else {
                unreachable!()
            };
            let icmp = Icmpv6Packet::new_unchecked(segment);
            assert!(icmp.verify_checksum(&src, &dst));
            assert_eq!(u8::from(icmp.msg_type()), layers.icmp_type);
        }
        _ => {}
    }
}

/// All opinions on one frame.
pub fn compare(frame: &[u8]) {
    // Once as received, once with checksums vouched for, so that changed frames get further.
    for (rx, checksums) in [(net::RxMeta::default(), true), (checked(), false)] {
        match parse_with(frame, rx) {
            Ok(layers) => {
                assert!(layers.l3 <= layers.l4 && layers.l4 <= layers.payload);
                assert!(layers.payload <= layers.end && layers.end <= frame.len());
                agrees_with_etherparse(frame, &layers);
                agrees_with_smoltcp(frame, &layers, checksums);
            }
            Err(reason) => {
                let theirs = SlicedPacket::from_ethernet(frame);
                assert!(
                    theirs.is_err() || stricter_on_purpose(frame, reason),
                    "{reason:?}, but etherparse has {theirs:?}"
                );
            }
        }
    }
}

/// One change to a frame.
#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Extend(Vec<u8>),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Mutation {
    fn apply(&self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        // Mostly in the headers: payload is dull.
        let len = frame.len().min(100);
        match self {
            Self::Set(at, value) => frame[at.index(len)] = *value,
            Self::Flip(at, bit) => frame[at.index(len)] ^= 1 << (bit & 7),
            Self::Cut(at) => frame.truncate(at.index(frame.len())),
            Self::Extend(octets) => frame.extend(octets),
            Self::Remove(at, count) => {
                let at = at.index(len);
                let end = (at + count).min(frame.len());
                frame.drain(at..end);
            }
            Self::Insert(at, octets) => {
                let at = at.index(len);
                frame.splice(at..at, octets.iter().copied());
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    // Values that mean something somewhere: protocols, versions, lengths, TPIDs.
    let value = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0, 1, 2, 4, 5, 6, 8, 17, 20, 41, 43, 44, 50, 51, 58, 59, 60, 0x45, 0x60, 0x81, 0x86,
            0x88, 0xa8, 0xdd, 132, 135, 139, 255,
        ]),
    ];
    let octets = prop::collection::vec(any::<u8>(), 1..16);
    prop_oneof![
        6 => (at(), value).prop_map(|(at, v)| Mutation::Set(at, v)),
        3 => (at(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => at().prop_map(Mutation::Cut),
        1 => octets.clone().prop_map(Mutation::Extend),
        1 => (at(), 1usize..9).prop_map(|(at, n)| Mutation::Remove(at, n)),
        1 => (at(), octets).prop_map(|(at, o)| Mutation::Insert(at, o)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn mutated_frames_are_read_as_the_others_read_them(
        spec in spec(),
        mutations in prop::collection::vec(mutation(), 0..6),
    ) {
        let mut frame = spec.whole_frame();
        for mutation in &mutations {
            mutation.apply(&mut frame);
        }
        compare(&frame);
    }

    #[test]
    fn random_octets_behind_an_ethernet_header_are_read_as_the_others_read_them(
        kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88a8]),
        mut octets in prop::collection::vec(any::<u8>(), 0..120),
        plausible: bool,
    ) {
        if let (true, Some(first)) = (plausible, octets.first_mut()) {
            *first = if kind == 0x86dd { 0x60 } else { 0x45 };
        }
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        frame.extend(kind.to_be_bytes());
        frame.extend(octets);
        compare(&frame);
    }

    #[test]
    fn random_octets_never_panic(
        mut octets in prop::collection::vec(any::<u8>(), 0..200),
        start in 0usize..220,
        len in 0usize..220,
        tci in prop::option::of(any::<u16>()),
    ) {
        let rx = net::RxMeta { stripped_tci: tci, ..checked() };
        let packet = net::Packet::new(&mut octets, start, len, rx);
        let _ = Layers::parse(&packet);
    }
}

#[test]
fn well_formed_frames_with_every_encapsulation_agree() {
    for key in [
        crate::build::key4(IpProto::TCP),
        crate::build::key6(IpProto::UDP),
    ] {
        for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 7), (0x8100, 5)]] {
            let spec = Spec {
                tags,
                ..Spec::new(key, b"payload")
            };
            let frame = spec.whole_frame();
            assert!(parse(&frame).is_ok());
            compare(&frame);
        }
    }
}
