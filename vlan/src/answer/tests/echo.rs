use std::net::IpAddr;

use net::header::ethertype;
use net::{FlowKey, IpProto, L4Port, Layers, MacAddr, RxMeta, checksum, emit};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv4Packet, Ipv6Packet};

use super::{give, sent, tagged};
use crate::answer::{Ignored, Outcome, handle_echo};
use crate::testing::{OURS, PEER};

const BODY: &[u8] = b"are you there, and is this long enough?";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An echo request with `BODY`, identifier 7, sequence number 9.
fn request(dst_mac: MacAddr, src: &str, dst: &str) -> Vec<u8> {
    let (src, dst) = (ip(src), ip(dst));
    let (proto, kind, ethertype) = if dst.is_ipv4() {
        (IpProto::ICMP, 8, ethertype::IPV4)
    } else {
        (IpProto::ICMPV6, 128, ethertype::IPV6)
    };
    let key = FlowKey::new(src.into(), dst.into(), L4Port(7), L4Port(7), proto);
    let l3 = emit::icmp(&key, 3, kind, 0, [0, 7, 0, 9], BODY);
    tagged(dst_mac, PEER, ethertype, &l3)
}

fn peer_of(dst: &str) -> &'static str {
    if ip(dst).is_ipv4() {
        "198.51.100.99"
    } else {
        "2001:db8:99::99"
    }
}

pub(super) fn request_to(dst: &str) -> Vec<u8> {
    request(OURS, peer_of(dst), dst)
}

/// Makes the checksums of a damaged frame right again, so that the damage gets past the parser.
pub(super) fn fix_checksums(frame: &mut [u8]) {
    let l3 = 18;
    let kind = frame.get(16..18).map(|k| u16::from_be_bytes([k[0], k[1]]));
    if kind == Some(ethertype::IPV4) && frame.len() >= l3 + 28 {
        let header = (usize::from(frame[l3] & 0x0f) * 4).clamp(20, frame.len() - l3 - 4);
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = checksum::of(&frame[l3..l3 + header]);
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        let total = usize::from(u16::from_be_bytes([frame[l3 + 2], frame[l3 + 3]]));
        let end = (l3 + total).clamp(l3 + header + 4, frame.len());
        frame[l3 + header + 2..l3 + header + 4].fill(0);
        let sum = checksum::of(&frame[l3 + header..end]);
        frame[l3 + header + 2..l3 + header + 4].copy_from_slice(&sum.to_be_bytes());
    } else if kind == Some(ethertype::IPV6) && frame.len() >= l3 + 44 {
        let payload = usize::from(u16::from_be_bytes([frame[l3 + 4], frame[l3 + 5]]));
        let end = (l3 + 40 + payload).clamp(l3 + 44, frame.len());
        frame[l3 + 42..l3 + 44].fill(0);
        let len = u16::try_from(end - l3 - 40).unwrap();
        let sum = checksum::Sum::ZERO
            .add(&frame[l3 + 8..l3 + 40])
            .add_u16(58)
            .add_u16(len)
            .add(&frame[l3 + 40..end])
            .checksum();
        frame[l3 + 42..l3 + 44].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Checks that smoltcp takes the frame for the reply to `request`.
fn is_reply(frame: &[u8], src: &str, dst: &str) {
    let l3 = sent(frame, PEER);
    let caps = ChecksumCapabilities::default();
    let echo = (7, 9, BODY);
    if ip(src).is_ipv4() {
        let packet = Ipv4Packet::new_checked(l3).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(packet.hop_limit(), 64);
        assert_eq!(packet.header_len(), 20);
        assert_eq!(IpAddr::from(packet.src_addr()), ip(src));
        assert_eq!(IpAddr::from(packet.dst_addr()), ip(dst));
        let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        match Icmpv4Repr::parse(&icmp, &caps).unwrap() {
            Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data,
            } => {
                assert_eq!((ident, seq_no, data), echo);
            }
            other => panic!("{other:?}"),
        }
    } else {
        let packet = Ipv6Packet::new_checked(l3).unwrap();
        assert_eq!(packet.hop_limit(), 64);
        assert_eq!(IpAddr::from(packet.src_addr()), ip(src));
        assert_eq!(IpAddr::from(packet.dst_addr()), ip(dst));
        let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        match Icmpv6Repr::parse(&from, &to, &icmp, &caps).unwrap() {
            Icmpv6Repr::EchoReply {
                ident,
                seq_no,
                data,
            } => {
                assert_eq!((ident, seq_no, data), echo);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_echo_request_to_an_owned_address_is_answered_to_its_sender() {
    for dst in ["192.0.2.1", "203.0.113.10", "2001:db8::1", "2001:db8:f::10"] {
        let (outcome, frame) = give(handle_echo, &request_to(dst));
        assert_eq!(outcome, Outcome::Reply, "{dst}");
        is_reply(&frame, dst, peer_of(dst));
    }
}

#[test]
fn options_of_a_request_are_not_sent_back() {
    // Record route, padded to eight octets.
    let mut frame = request_to("192.0.2.1");
    frame.splice(38..38, [7, 7, 4, 0, 0, 0, 0, 0]);
    frame[18] = 0x47;
    frame[18 + 3] += 8;
    fix_checksums(&mut frame);
    let (outcome, frame) = give(handle_echo, &frame);
    assert_eq!(outcome, Outcome::Reply);
    is_reply(&frame, "192.0.2.1", "198.51.100.99");

    // Hop-by-hop and destination options of padding only.
    let mut frame = request_to("2001:db8::1");
    frame.splice(58..58, [60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]);
    frame[18 + 6] = 0;
    frame[18 + 5] += 16;
    let (outcome, frame) = give(handle_echo, &frame);
    assert_eq!(outcome, Outcome::Reply);
    is_reply(&frame, "2001:db8::1", "2001:db8:99::99");
}

#[test]
fn a_routing_header_with_hops_left_is_not_answered() {
    for (left, expected) in [
        (0, Outcome::Reply),
        (1, Outcome::Ignore(Ignored::Malformed)),
    ] {
        let mut frame = request_to("2001:db8::1");
        frame.splice(58..58, [58, 0, 0, left, 0, 0, 0, 0]);
        frame[18 + 6] = 43;
        frame[18 + 5] += 8;
        assert_eq!(give(handle_echo, &frame).0, expected);
    }
}

#[test]
fn trailing_octets_of_the_frame_are_not_sent_back() {
    let mut frame = request_to("192.0.2.1");
    let len = frame.len();
    frame.extend_from_slice(b"left over in the sender's buffer");
    let (outcome, reply) = give(handle_echo, &frame);
    assert_eq!((outcome, reply.len()), (Outcome::Reply, len));
}

#[test]
fn requests_that_must_not_be_answered_are_ignored() {
    let group = MacAddr([0x01, 0x00, 0x5e, 0, 0, 1]);
    for (frame, expected) in [
        (request_to("192.0.2.2"), Ignored::NotOurs),
        (request_to("192.0.2.255"), Ignored::NotOurs),
        (request_to("2001:db8::2"), Ignored::NotOurs),
        (request_to("ff02::1"), Ignored::NotOurs),
        (
            request(MacAddr::BROADCAST, "192.0.2.9", "192.0.2.1"),
            Ignored::BadSource,
        ),
        (request(group, "192.0.2.9", "192.0.2.1"), Ignored::BadSource),
        (request(OURS, "::", "2001:db8::1"), Ignored::BadSource),
        (request(OURS, "0.1.2.3", "192.0.2.1"), Ignored::BadSource),
        (request(OURS, "192.0.2.1", "192.0.2.1"), Ignored::Own),
        (request(OURS, "203.0.113.10", "192.0.2.1"), Ignored::Own),
    ] {
        let (outcome, after) = give(handle_echo, &frame);
        assert_eq!(outcome, Outcome::Ignore(expected));
        assert_eq!(after, frame, "untouched");
    }
    let mut code = request_to("192.0.2.1");
    code[18 + 21] = 1;
    fix_checksums(&mut code);
    assert_eq!(
        give(handle_echo, &code).0,
        Outcome::Ignore(Ignored::Malformed)
    );
    let mut fragment = request_to("192.0.2.1");
    fragment[18 + 6] = 0x20;
    fix_checksums(&mut fragment);
    assert_eq!(
        give(handle_echo, &fragment).0,
        Outcome::Ignore(Ignored::Fragment)
    );
}

#[test]
fn a_reply_is_not_answered() {
    let (_, mut reply) = give(handle_echo, &request_to("192.0.2.1"));
    // Sent back to us by a mirror.
    reply[..6].copy_from_slice(&OURS.0);
    reply[6..12].copy_from_slice(&PEER.0);
    let len = reply.len();
    let packet = net::Packet::new(&mut reply, 0, len, RxMeta::default());
    assert_eq!(Layers::parse(&packet).unwrap().icmp_type, 0);
    assert_eq!(
        give(handle_echo, &reply).0,
        Outcome::Ignore(Ignored::OtherKind)
    );
}
