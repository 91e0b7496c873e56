//! What is written is read back the same.

use net::emit::{self, TcpFields};
use net::{Fragment, IpProto, L4Port, Layers, MacAddr, Network, Packet, RxMeta};
use proptest::prelude::*;

use crate::build::{self, Spec, encap, key4, parse, parse_with, spec};

const HERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// The emitted packet in a frame with these tags, where `strip` says so the outer one taken out.
fn framed(l3: &[u8], vids: (u16, u16), strip: bool) -> (Vec<u8>, RxMeta) {
    let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let mut rx = RxMeta::default();
    let (service, vid) = vids;
    let mut tags = encap(vids);
    if strip && service == 0 && vid != 0 {
        rx.stripped_tci = Some(vid | 0x6000);
        tags = encap((0, 0));
    }
    (emit::ethernet(THERE, HERE, tags, kind, l3), rx)
}

fn check_network(layers: &Layers, spec: &Spec) {
    let v4 = spec.is_v4();
    assert_eq!(
        layers.network,
        if v4 { Network::Ipv4 } else { Network::Ipv6 }
    );
    assert_eq!(layers.fragment, Fragment::Whole);
    assert!(layers.is_ip());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_emitted_is_parsed_back(
        (v4, tcp) in any::<(bool, bool)>(),
        seed in build::key(true, IpProto::TCP),
        seed6 in build::key(false, IpProto::TCP),
        fields in any::<(u32, u32, u8, u16)>(),
        vids in (0u16..4095, 0u16..4095),
        strip: bool,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let proto = if tcp { IpProto::TCP } else { IpProto::UDP };
        let k = if v4 { seed } else { seed6 };
        let key = net::FlowKey::new(k.src, k.dst, k.sport(), k.dport(), proto);
        let (seq, ack, flags, window) = fields;
        let l3 = if tcp {
            emit::tcp(&key, TcpFields { seq, ack, flags, window }, &payload)
        } else {
            emit::udp(&key, &payload)
        };
        let (frame, rx) = framed(&l3, vids, strip);
        let layers = parse_with(&frame, rx).unwrap();
        prop_assert_eq!(layers.encap, encap(vids));
        prop_assert_eq!(layers.key, key);
        prop_assert_eq!(layers.ttl, emit::DEFAULT_TTL);
        prop_assert_eq!(layers.tcp_flags, if tcp { flags } else { 0 });
        prop_assert_eq!(&frame[layers.payload..layers.end], &payload[..]);
        prop_assert_eq!(layers.payload_len(), payload.len());
        prop_assert_eq!(&frame[layers.l3..layers.end], &l3[..]);
        prop_assert_eq!(emit::macs(&frame), (HERE, THERE));
        prop_assert_eq!(emit::ethertype_of(layers.network), if v4 { 0x0800 } else { 0x86dd });
    }

    #[test]
    fn an_emitted_echo_is_parsed_back(
        v4: bool,
        a in build::key(true, IpProto::ICMP),
        b in build::key(false, IpProto::ICMPV6),
        rest: [u8; 4],
        ttl in 1u8..,
        request: bool,
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let key = if v4 { a } else { b };
        let kind = match (v4, request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        let l3 = emit::icmp(&key, ttl, kind, 0, rest, &body);
        let (frame, rx) = framed(&l3, (0, 0), false);
        let layers = parse_with(&frame, rx).unwrap();
        let ident = L4Port(u16::from_be_bytes([rest[0], rest[1]]));
        prop_assert_eq!((layers.icmp_type, layers.ttl), (kind, ttl));
        prop_assert_eq!((layers.key.sport(), layers.key.dport()), (ident, ident));
        prop_assert_eq!((layers.key.src, layers.key.dst), (key.src, key.dst));
        prop_assert_eq!(&frame[layers.payload..layers.end], &body[..]);
    }

    #[test]
    fn every_header_of_a_well_formed_frame_is_found(spec in spec()) {
        let (frame, rx) = spec.received();
        let layers = parse_with(&frame, rx).unwrap();
        check_network(&layers, &spec);
        let vids = (layers.encap.service_vid(), layers.encap.vid());
        prop_assert_eq!(vids, spec.vids());
        prop_assert_eq!(layers.key, spec.key);
        prop_assert_eq!(layers.ttl, spec.ttl);
        prop_assert_eq!(layers.end, frame.len() - spec.padding);
        let chunk = (spec.key.proto == IpProto::SCTP).then(|| spec.chunk());
        let payload = chunk.unwrap_or_else(|| spec.payload.clone());
        prop_assert_eq!(&frame[layers.payload..layers.end], &payload[..]);
        let tcp = spec.key.proto == IpProto::TCP;
        prop_assert_eq!(layers.tcp_flags, if tcp { spec.flags } else { 0 });
        let fixed = if spec.is_v4() { 20 + spec.ip_options.len() } else {
            40 + spec.extensions.iter().map(|(_, octets)| octets.len() + 1).sum::<usize>()
        };
        prop_assert_eq!(layers.l4 - layers.l3, fixed);
    }

    #[test]
    fn where_a_frame_lies_in_its_buffer_makes_no_difference(spec in spec(), before in 0usize..130) {
        let (frame, rx) = spec.received();
        let at_start = parse_with(&frame, rx).unwrap();
        // Octets around the frame that would be headers.
        let mut buf = vec![0x45; before + frame.len() + 70];
        buf[before..before + frame.len()].copy_from_slice(&frame);
        let packet = Packet::new(&mut buf, before, frame.len(), rx);
        prop_assert_eq!(packet.headroom(), before);
        prop_assert_eq!(packet.tailroom(), 70);
        let layers = Layers::parse(&packet).unwrap();
        prop_assert_eq!(format!("{layers:?}"), format!("{at_start:?}"));
    }

    #[test]
    fn a_changed_octet_under_a_checksum_is_noticed(
        spec in spec(),
        at in any::<prop::sample::Index>(),
        xor in 1u8..,
    ) {
        prop_assume!(!spec.no_checksum);
        let (mut frame, rx) = spec.received();
        let layers = parse_with(&frame, rx).unwrap();
        let at = layers.l4 + at.index(layers.end - layers.l4);
        frame[at] ^= xor;
        if spec.key.proto == IpProto::UDP && frame[layers.l4 + 6..layers.l4 + 8] == [0, 0] && spec.is_v4() {
            return Ok(());
        }
        prop_assert!(parse_with(&frame, rx).is_err());
    }

    #[test]
    fn an_outer_tag_is_set_and_read_back(spec in spec(), vids in (0u16..4095, 1u16..4095), insert: bool) {
        let (frame, rx) = spec.received();
        let mut buf = vec![0; 64];
        buf.extend(&frame);
        let mut packet = Packet::new(&mut buf, 64, frame.len(), rx);
        let before = Layers::parse(&packet).unwrap();
        let kind = emit::ethertype_of(before.network);
        let l3 = packet.set_ethernet(before.l3, THERE, HERE, encap(vids), kind, insert).unwrap();
        if let Some(tci) = packet.shape().insert_tci {
            // What a device inserts, the next device strips.
            prop_assert!(insert && vids.0 == 0);
            packet.rx.stripped_tci = Some(tci);
        }
        let after = Layers::parse(&packet).unwrap();
        prop_assert_eq!(after.encap, encap(vids));
        prop_assert_eq!(after.l3, l3);
        prop_assert_eq!(after.key, before.key);
        prop_assert_eq!(&packet.data()[after.l3..after.end], &frame[before.l3..before.end]);
    }
}

#[test]
fn a_packet_that_is_too_long_is_cut() {
    let l3 = emit::ip(&key4(IpProto(99)), 64, &vec![7; 70_000]);
    assert_eq!(l3.len(), 65_535);
    assert!(parse(&emit::ethernet(THERE, HERE, encap((0, 0)), 0x0800, &l3)).is_ok());
    let l3 = emit::ip(&build::key6(IpProto(99)), 64, &vec![7; 70_000]);
    assert_eq!(l3.len(), 65_575);
    assert!(parse(&emit::ethernet(THERE, HERE, encap((0, 0)), 0x86dd, &l3)).is_ok());
}

#[test]
fn a_priority_tag_counts_as_no_tag() {
    let mut spec = Spec::new(key4(IpProto::UDP), b"x");
    for (tags, vids) in [
        (vec![(0x8100, 0xe000)], (0, 0)),
        (vec![(0x8100, 0xa000), (0x8100, 0x0005)], (0, 5)),
        (vec![(0x8100, 0x0005), (0x8100, 0xe000)], (0, 5)),
        (vec![(0x88a8, 0x0005), (0x8100, 0xe000)], (5, 0)),
        (vec![(0x88a8, 0x0005)], (5, 0)),
        (vec![(0x8100, 0x0007), (0x8100, 0x0005)], (7, 5)),
    ] {
        spec.tags = tags;
        for strip in [false, true] {
            spec.strip = strip;
            let (frame, rx) = spec.received();
            let layers = parse_with(&frame, rx).unwrap();
            let got = (layers.encap.service_vid(), layers.encap.vid());
            assert_eq!(got, vids, "{spec:?}");
        }
    }
}

#[test]
fn fragments_are_told_apart() {
    let spec = Spec::new(key4(IpProto::UDP), &[1; 64]);
    let whole = spec.whole_frame();
    // (flags and offset, what it is, whether ports are seen)
    for (field, fragment, ports) in [
        (0x4000u16, Fragment::Whole, true),
        (0x0000, Fragment::Whole, true),
        (0x2000, Fragment::First, true),
        (0x2001, Fragment::Later, false),
        (0x0001, Fragment::Later, false),
    ] {
        let mut frame = whole.clone();
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[24..26].fill(0);
        let sum = build::checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        // The datagram announces more than its first fragment holds.
        frame[38] = 4;
        let result = parse(&frame);
        if fragment == Fragment::Whole {
            assert!(result.is_err(), "a whole datagram must be whole");
            continue;
        }
        let layers = result.unwrap();
        assert_eq!(layers.fragment, fragment);
        assert_eq!(layers.key.dport().0, if ports { 80 } else { 0 });
        assert_eq!(layers.key.proto, IpProto::UDP);
    }
}

#[test]
fn icmp_of_the_other_family_is_opaque() {
    for key in [key4(IpProto::ICMPV6), build::key6(IpProto::ICMP)] {
        let kind = if key.proto == IpProto::ICMP { 8 } else { 128 };
        let l3 = emit::icmp(&key, 64, kind, 0, [1, 2, 3, 4], b"");
        let (frame, rx) = framed(&l3, (0, 0), false);
        let layers = parse_with(&frame, rx).unwrap();
        assert_eq!(layers.icmp_type, 0);
        assert_eq!(layers.key.sport(), L4Port(0));
        assert_eq!(layers.payload_len(), 0);
    }
}
