//! What etherparse and smoltcp think of a frame, and whether this crate thinks the same.
//!
//! What [`Layers::parse`] lets through, both others read the same way; what it refuses, etherparse
//! refuses too, but for the reasons that etherparse does not look into. Where they differ on
//! purpose is named in [`etherparse_reads_further`] and [`stricter_on_purpose`], and nowhere else.
//!
//! Fuzz targets and regressions use this file too.

use etherparse::{LenSource, NetSlice, SlicedPacket, TransportSlice};
use net::{Addr, Fragment, IpProto, Layers, Network, Packet, ParseError, RxChecksum, RxMeta};
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

pub fn parse_with(frame: &[u8], rx: RxMeta) -> Result<Layers, ParseError> {
    let mut buf = frame.to_vec();
    let len = buf.len();
    Layers::parse(&Packet::new(&mut buf, 0, len, rx))
}

/// What a device says that has checked all checksums.
pub fn checked() -> RxMeta {
    RxMeta {
        ip_checksum: RxChecksum::Good,
        l4_checksum: RxChecksum::Good,
        ..RxMeta::default()
    }
}

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
        // Options are walked, which etherparse takes as they are.
        ParseError::BadIpHeader => SlicedPacket::from_ethernet(frame).is_ok_and(|packet| {
            matches!(&packet.net, Some(NetSlice::Ipv4(ip)) if !ip.header().options().is_empty())
        }),
        ParseError::TruncatedEthernet | ParseError::TruncatedNetwork => false,
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
    for (rx, checksums) in [(RxMeta::default(), true), (checked(), false)] {
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
