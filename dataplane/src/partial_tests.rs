use net::emit::{self, TcpFields};
use net::header::ethertype;
use net::{Addr, Encap, FlowKey, L4Port, MacAddr, RxMeta, VlanId};
use proptest::prelude::*;

use super::*;

fn key(v6: bool, proto: IpProto) -> FlowKey {
    let addr = |last: u8| {
        let text = if v6 {
            format!("2001:db8::{last}")
        } else {
            format!("192.0.2.{last}")
        };
        Addr::from(text.parse::<std::net::IpAddr>().unwrap())
    };
    FlowKey::new(addr(1), addr(2), L4Port(40_000), L4Port(80), proto)
}

fn frame(key: &FlowKey, encap: Encap, payload: &[u8]) -> Vec<u8> {
    let packet = match key.proto {
        IpProto::TCP => emit::tcp(key, TcpFields::default(), payload),
        IpProto::UDP => emit::udp(key, payload),
        _ => emit::icmp(
            key,
            64,
            if key.src.is_v4() { 8 } else { 128 },
            0,
            [0; 4],
            payload,
        ),
    };
    let kind = if key.src.is_v4() {
        ethertype::IPV4
    } else {
        ethertype::IPV6
    };
    let mut frame = emit::ethernet(
        MacAddr([2, 0, 0, 0, 0, 1]),
        MacAddr([2, 0, 0, 0, 0, 2]),
        encap,
        kind,
        &packet,
    );
    // Padding is not part of the packet.
    frame.resize(frame.len().max(60), 0xaa);
    frame
}

/// Where the IP and transport headers and the checksum field of the latter are.
fn places(frame: &mut [u8], proto: IpProto) -> (usize, usize, usize) {
    let len = frame.len();
    let layers = Layers::parse(&Packet::new(frame, 0, len, RxMeta::default())).unwrap();
    let at = if proto == IpProto::TCP { 16 } else { 6 };
    (layers.l3, layers.l4, layers.l4 + at)
}

fn completed(frame: &mut [u8], ip: bool, l4: bool) -> RxMeta {
    let len = frame.len();
    let mut packet = Packet::new(frame, 0, len, RxMeta::default());
    complete(&mut packet, ip, l4);
    packet.rx
}

const GOOD: RxChecksum = RxChecksum::Good;
const UNKNOWN: RxChecksum = RxChecksum::Unknown;

proptest! {
    #[test]
    fn a_partial_checksum_becomes_the_whole_one(
        v6: bool,
        udp: bool,
        tag in 0u16..4095,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        ip: bool,
    ) {
        let key = key(v6, if udp { IpProto::UDP } else { IpProto::TCP });
        let encap = VlanId::new(tag).map_or(Encap::UNTAGGED, Encap::tagged);
        let right = frame(&key, encap, &payload);
        let mut partial = right.clone();
        let (l3, l4, field) = places(&mut partial, key.proto);
        // What a sender leaves there: the sum of the pseudo-header.
        let len = u16::try_from(payload.len() + if udp { 8 } else { 20 }).unwrap();
        let pseudo = net::checksum::pseudo_header(key.src.ip(), key.dst.ip(), key.proto.0, len);
        partial[field..field + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        if ip && !v6 {
            partial[l3 + 10..l3 + 12].fill(0);
        }
        prop_assert!(l4 > l3);
        let rx = completed(&mut partial, ip, true);
        prop_assert_eq!(partial, right);
        prop_assert_eq!(rx.l4_checksum, GOOD);
        prop_assert_eq!(rx.ip_checksum, if ip { GOOD } else { UNKNOWN });
    }

    #[test]
    fn no_frame_is_too_short_or_too_strange(
        mut octets in proptest::collection::vec(any::<u8>(), 0..120),
        at in 0usize..40,
        cut in 0usize..100,
    ) {
        completed(&mut octets, true, true);
        let mut frame = frame(&key(at % 2 == 0, IpProto::UDP), Encap::UNTAGGED, b"hello");
        frame[14 + at % 20] ^= 0x55;
        frame.truncate(cut);
        completed(&mut frame, true, true);
    }
}

#[test]
fn a_datagram_without_checksum_keeps_none() {
    let mut frame = frame(&key(false, IpProto::UDP), Encap::UNTAGGED, b"hello");
    let (_, _, field) = places(&mut frame, IpProto::UDP);
    frame[field..field + 2].fill(0);
    let before = frame.clone();
    assert_eq!(completed(&mut frame, false, true).l4_checksum, GOOD);
    assert_eq!(frame, before);
}

#[test]
fn what_no_device_leaves_out_is_checked_by_software() {
    let mut frame = frame(&key(false, IpProto::ICMP), Encap::UNTAGGED, b"hello");
    let before = frame.clone();
    assert_eq!(completed(&mut frame, false, true), RxMeta::default());
    assert_eq!(frame, before);
}
