#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::emit;
use crate::flow::FlowKey;
use crate::{Deltas, Encap, L4Port, MacAddr, Rewrite, RxMeta};

const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn addr(v4: bool, last: u8) -> Addr {
    if v4 {
        Addr::from_v4([192, 0, 2, last])
    } else {
        let mut octets = [0; 16];
        (octets[0], octets[1], octets[15]) = (0x20, 0x01, last);
        Addr::from_v6(octets)
    }
}

fn key(v4: bool, from: (u8, u16), to: (u8, u16), proto: IpProto) -> FlowKey {
    let (src, dst) = (addr(v4, from.0), addr(v4, to.0));
    FlowKey::new(src, dst, L4Port(from.1), L4Port(to.1), proto)
}

/// A buffer with the frame of `l3` behind 128 octets of room.
fn buffer(l3: &[u8]) -> Vec<u8> {
    let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let frame = emit::ethernet(OURS, STATION, Encap::UNTAGGED, kind, l3);
    [vec![0; 128], frame].concat()
}

fn packet(buf: &mut [u8]) -> Packet<'_> {
    let len = buf.len() - 128;
    Packet::new(buf, 128, len, RxMeta::default())
}

/// What `packet` is, with an Ethernet header put in front of it.
fn sent(packet: &mut Packet<'_>, v4: bool) -> (Layers, Vec<u8>) {
    let kind = if v4 { 0x0800 } else { 0x86dd };
    let l3 = packet.set_ethernet(0, STATION, OURS, Encap::UNTAGGED, kind, false);
    assert_eq!(l3, Ok(14));
    (Layers::parse(packet).unwrap(), packet.data().to_vec())
}

const ALL: [(Error, [u8; 6], [u8; 6]); 7] = [
    (Error::TimeExceeded, [11, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
    (
        Error::TooBig { mtu: 1400 },
        [3, 4, 0, 0, 5, 120],
        [2, 0, 0, 0, 5, 120],
    ),
    (Error::NoRoute, [3, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
    (
        Error::HostUnreachable,
        [3, 1, 0, 0, 0, 0],
        [1, 3, 0, 0, 0, 0],
    ),
    (
        Error::PortUnreachable,
        [3, 3, 0, 0, 0, 0],
        [1, 4, 0, 0, 0, 0],
    ),
    (
        Error::ProtocolUnreachable,
        [3, 2, 0, 0, 0, 0],
        [4, 1, 0, 0, 0, 6],
    ),
    (
        Error::UnknownOption { pointer: 42 },
        [12, 0, 42, 0, 0, 0],
        [4, 2, 0, 0, 0, 42],
    ),
];

#[test]
fn an_error_quotes_the_packet_as_it_came_and_is_well_formed() {
    for v4 in [true, false] {
        for (error, in_v4, in_v6) in ALL {
            for len in [0, 1, 7, 400, 501, 1172, 1173, 1400] {
                let question = key(v4, (7, 5000), (10, 53), IpProto::UDP);
                let l3 = emit::udp(&question, &vec![0xa5; len]);
                let mut buf = buffer(&l3);
                let mut packet = packet(&mut buf);
                let layers = Layers::parse(&packet).unwrap();
                assert!(may_be_told_of(&packet, &layers));
                error_in_place(&mut packet, &layers, error, &addr(v4, 1)).unwrap();
                let (layers, frame) = sent(&mut packet, v4);
                assert_eq!((layers.key.src, layers.key.dst), (addr(v4, 1), addr(v4, 7)));
                let fields = if v4 { in_v4 } else { in_v6 };
                assert_eq!(frame[layers.l4..layers.l4 + 2], fields[..2]);
                assert_eq!(frame[layers.l4 + 4..layers.l4 + 8], fields[2..]);
                let quoted = &frame[layers.l4 + 8..layers.end];
                let longest = if v4 { 548 } else { 1232 };
                assert_eq!(quoted, &l3[..l3.len().min(longest)], "{error:?} {len}");
                assert!(is_error(&layers));
            }
        }
    }
}

#[test]
fn the_octet_that_names_an_unknown_protocol_is_found_behind_extension_headers() {
    let question = key(false, (7, 0), (1, 0), IpProto(60));
    // Destination options of 8 octets, then protocol 253.
    let l3 = emit::ip(&question, 64, &[253, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4]);
    let mut buf = buffer(&l3);
    let mut packet = packet(&mut buf);
    let layers = Layers::parse(&packet).unwrap();
    let source = addr(false, 1);
    error_in_place(&mut packet, &layers, Error::ProtocolUnreachable, &source).unwrap();
    let (layers, frame) = sent(&mut packet, false);
    assert_eq!(frame[layers.l4 + 4..layers.l4 + 8], [0, 0, 0, 40]);
}

#[test]
fn nothing_is_said_about_errors_groups_or_later_fragments() {
    let udp = key(true, (7, 5000), (10, 53), IpProto::UDP);
    let told = |l3: &[u8], change: fn(&mut [u8])| {
        let mut buf = buffer(l3);
        change(&mut buf[128..]);
        let packet = packet(&mut buf);
        let layers = Layers::parse(&packet).unwrap();
        may_be_told_of(&packet, &layers)
    };
    let l3 = emit::udp(&udp, &[]);
    assert!(told(&l3, |_| ()));
    assert!(!told(&l3, |frame| frame[..6].fill(0xff)));
    let group = FlowKey::new(
        udp.src,
        Addr::from_v4([224, 0, 0, 9]),
        udp.sport(),
        udp.dport(),
        udp.proto,
    );
    assert!(!told(&emit::udp(&group, &[]), |_| ()));
    for v4 in [true, false] {
        let proto = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
        let key = key(v4, (7, 0), (10, 0), proto);
        for kind in 0..=255 {
            let query = if v4 {
                [0, 8, 9, 10, 13, 14, 15, 16, 17, 18].contains(&kind)
            } else {
                kind >= 128 && kind != 137
            };
            let l3 = emit::icmp(&key, 64, kind, 0, [0; 4], &[]);
            assert_eq!(told(&l3, |_| ()), query, "{v4} {kind}");
        }
    }
}

/// The four kinds of packets that have a flow, with the length of their headers.
fn question(v4: bool, proto: IpProto, key: &FlowKey) -> Vec<u8> {
    let payload = [0x5a; 40];
    match proto {
        IpProto::TCP => {
            let fields = emit::TcpFields {
                seq: 77,
                ..Default::default()
            };
            emit::tcp(key, fields, &payload)
        }
        IpProto::UDP => emit::udp(key, &payload),
        _ => {
            let [a, b] = key.sport().0.to_be_bytes();
            let kind = if v4 { 8 } else { 128 };
            emit::icmp(key, 64, kind, 0, [a, b, 0, 1], &payload)
        }
    }
}

#[test]
fn a_quoted_packet_is_translated_to_what_it_would_have_been() {
    for v4 in [true, false] {
        let echo = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
        for proto in [IpProto::TCP, IpProto::UDP, echo] {
            let (ports, others) = if proto == echo {
                ((9, 9), (4, 4))
            } else {
                ((1025, 8080), (5000, 80))
            };
            let was = key(v4, (1, ports.0), (11, ports.1), proto);
            let is = key(v4, (7, others.0), (10, others.1), proto);
            let (before, after) = (question(v4, proto, &was), question(v4, proto, &is));
            let least = if v4 { 28 } else { 48 };
            for quoted in [least, least + 8, least + 10, before.len()] {
                let icmp = key(v4, (99, 0), (1, 0), echo);
                let kind = if v4 { 3 } else { 1 };
                let l3 = emit::icmp(&icmp, 33, kind, 4, [0; 4], &before[..quoted]);
                let mut buf = buffer(&l3);
                let mut packet = packet(&mut buf);
                let layers = Layers::parse(&packet).unwrap();
                let quote = Quote::find(&packet, &layers).unwrap();
                assert_eq!(quote.key, was);
                assert_eq!(quote.sequence, (proto == IpProto::TCP).then_some(77));
                let outer = (addr(v4, 99), addr(v4, 7));
                quote
                    .translate(&mut packet, &layers, &is, (&outer.0, &outer.1))
                    .unwrap();
                let layers = Layers::parse(&packet).unwrap();
                assert_eq!((layers.key.src, layers.key.dst), outer);
                assert_eq!(layers.ttl, 32);
                let now = &packet.data()[layers.l4 + 8..layers.end];
                assert_eq!(now, &after[..quoted], "{v4} {proto} {quoted}");
            }
        }
    }
}

#[test]
fn what_names_no_flow_is_refused_with_the_reason() {
    let udp = key(true, (1, 1025), (11, 53), IpProto::UDP);
    let icmp = key(true, (11, 0), (1, 0), IpProto::ICMP);
    let whole = emit::udp(&udp, &[1, 2, 3]);
    let found = |quoted: &[u8]| {
        let l3 = emit::icmp(&icmp, 64, 3, 3, [0; 4], quoted);
        let mut buf = buffer(&l3);
        let packet = packet(&mut buf);
        let layers = Layers::parse(&packet).unwrap();
        Quote::find(&packet, &layers).map(|quote| quote.key)
    };
    assert_eq!(found(&whole[..28]), Ok(udp));
    for len in 0..28 {
        assert_eq!(found(&whole[..len]), Err(QuoteError::Malformed), "{len}");
    }
    let mut version = whole.clone();
    version[0] = 0x65;
    assert_eq!(found(&version), Err(QuoteError::Malformed));
    let mut short = whole.clone();
    short[3] = 27;
    assert_eq!(found(&short), Err(QuoteError::Malformed));
    let mut later = whole.clone();
    later[7] = 1;
    assert_eq!(found(&later), Err(QuoteError::Fragment));
    let mut first = whole;
    first[6] = 0x20;
    assert_eq!(found(&first), Ok(udp));
    let error = emit::icmp(&icmp, 64, 3, 3, [0; 4], &[0; 28]);
    assert_eq!(found(&error), Err(QuoteError::Icmp));
}

#[test]
fn a_rewrite_that_is_undone_leaves_the_packet_as_it_came() {
    for v4 in [true, false] {
        let echo = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
        for proto in [IpProto::TCP, IpProto::UDP, echo] {
            let from = key(v4, (7, 9), (10, 9), proto);
            let to = key(v4, (1, 4), (11, 4), proto);
            let mut buf = buffer(&question(v4, proto, &from));
            let before = buf.clone();
            let mut packet = packet(&mut buf);
            let layers = Layers::parse(&packet).unwrap();
            let rewrite = Rewrite::with_deltas(to, Deltas::between(&from, &to));
            rewrite.apply(&mut packet, &layers).unwrap();
            let translated = Layers::parse(&packet).unwrap();
            assert_eq!(translated.key, to, "{proto}");
            rewrite.undo(&mut packet, &layers).unwrap();
            assert_eq!(packet.data(), &before[128..], "{proto}");
            rewrite.undo(&mut packet, &layers).unwrap();
            assert_eq!(packet.data(), &before[128..], "{proto}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_an_error_quotes_it_leaves_well_formed(
        v4: bool,
        quoted in proptest::collection::vec(any::<u8>(), 0..200),
        likely in any::<[bool; 4]>(),
        kind in 1u8..=12,
        length: u8,
    ) {
        let mut quoted = quoted;
        // Else hardly any would name a flow.
        for (set, (at, value)) in likely.into_iter().zip(if v4 {
            [(0, 0x45), (2, 0), (6, 0), (9, 6)]
        } else {
            [(0, 0x60), (4, 0), (6, 17), (7, 64)]
        }) {
            if let (true, Some(octet)) = (set, quoted.get_mut(at)) {
                *octet = value;
            }
        }
        let proto = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
        let outer = key(v4, (99, 0), (1, 0), proto);
        let l3 = emit::icmp(&outer, 64, kind, 0, [length, length, 0, 0], &quoted);
        let mut buf = buffer(&l3);
        let mut packet = packet(&mut buf);
        let layers = Layers::parse(&packet).unwrap();
        if let Ok(quote) = Quote::find(&packet, &layers) {
            let len = packet.len();
            let to = FlowKey::new(addr(v4, 7), addr(v4, 10), L4Port(5), L4Port(6), quote.key.proto);
            let (source, destination) = (addr(v4, 98), addr(v4, 7));
            let done = quote.translate(&mut packet, &layers, &to, (&source, &destination));
            prop_assert_eq!(done, Ok(()));
            prop_assert_eq!(packet.len(), len);
            let after = Layers::parse(&packet);
            prop_assert!(after.is_ok(), "{:?}", after);
            let again = Quote::find(&packet, &layers).unwrap();
            prop_assert_eq!((again.key.src, again.key.dst), (to.src, to.dst));
        }
    }
}
