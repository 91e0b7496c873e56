use net::header::ethertype;
use net::{Addr, MacAddr};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use super::{give, sent, tagged};
use crate::answer::{Ignored, Outcome, handle_arp};
use crate::event::{Event, How};
use crate::testing::{EXTERNAL, OURS, PEER};

fn arp(op: ArpOperation, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: op,
        source_hardware_addr: EthernetAddress(sender.0.0),
        source_protocol_addr: sender.1.parse().unwrap(),
        target_hardware_addr: EthernetAddress(target.0.0),
        target_protocol_addr: target.1.parse().unwrap(),
    };
    let mut l3 = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut l3));
    l3
}

fn request(sender: (MacAddr, &str), target: &str) -> Vec<u8> {
    let l3 = arp(ArpOperation::Request, sender, (MacAddr::ZERO, target));
    tagged(MacAddr::BROADCAST, PEER, ethertype::ARP, &l3)
}

fn reply(dst: MacAddr, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let l3 = arp(ArpOperation::Reply, sender, target);
    tagged(dst, PEER, ethertype::ARP, &l3)
}

/// What a neighbour asks.
pub(super) fn request_for(target: &str) -> Vec<u8> {
    request((PEER, "192.0.2.99"), target)
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn learned(text: &str, how: How) -> Event {
    Event::Learned {
        vlan: EXTERNAL,
        addr: addr(text),
        mac: PEER,
        how,
    }
}

fn conflict(text: &str) -> Outcome {
    Outcome::Event(Event::Conflict {
        vlan: EXTERNAL,
        addr: addr(text),
        mac: PEER,
    })
}

fn is_reply(frame: &[u8], ours: &str, to: &str) {
    let l3 = sent(frame, PEER);
    assert!(l3[28..].iter().all(|&b| b == 0), "padding is zero");
    let parsed = ArpRepr::parse(&ArpPacket::new_checked(l3).unwrap()).unwrap();
    let expected = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(OURS.0),
        source_protocol_addr: ours.parse().unwrap(),
        target_hardware_addr: EthernetAddress(PEER.0),
        target_protocol_addr: to.parse().unwrap(),
    };
    assert_eq!(parsed, expected);
}

#[test]
fn a_request_for_a_self_ip_is_answered_and_learned_from() {
    let (outcome, frame) = give(handle_arp, &request_for("192.0.2.1"));
    assert_eq!(
        outcome,
        Outcome::ReplyAndEvent(learned("192.0.2.99", How::ArpRequest))
    );
    is_reply(&frame, "192.0.2.1", "192.0.2.99");
}

#[test]
fn padding_of_a_request_is_not_sent_back() {
    let mut frame = request_for("192.0.2.1");
    frame.extend_from_slice(b"left over in the sender's buffer");
    let (_, reply) = give(handle_arp, &frame);
    assert_eq!(reply.len(), 60);
    is_reply(&reply, "192.0.2.1", "192.0.2.99");
}

#[test]
fn a_request_from_another_subnet_for_a_virtual_address_is_answered_only() {
    let (outcome, frame) = give(handle_arp, &request((PEER, "203.0.113.1"), "203.0.113.10"));
    assert_eq!(outcome, Outcome::Reply);
    is_reply(&frame, "203.0.113.10", "203.0.113.1");
}

#[test]
fn a_probe_for_our_address_is_answered_so_that_nobody_takes_it() {
    let (outcome, frame) = give(handle_arp, &request((PEER, "0.0.0.0"), "192.0.2.1"));
    assert_eq!(outcome, Outcome::Reply);
    is_reply(&frame, "192.0.2.1", "0.0.0.0");
}

// case VPPI-001: a request for others, or from another subnet, is not answered.
#[test]
fn a_request_for_others_is_not_answered() {
    for (sender, expected) in [
        (
            "192.0.2.99",
            Outcome::Event(learned("192.0.2.99", How::ArpUnsolicited)),
        ),
        ("198.51.100.1", Outcome::Ignore(Ignored::NotOurs)),
        ("0.0.0.0", Outcome::Ignore(Ignored::NotOurs)),
    ] {
        let frame = request((PEER, sender), "192.0.2.77");
        let (outcome, after) = give(handle_arp, &frame);
        assert_eq!(outcome, expected, "from {sender}");
        assert_eq!(after, frame, "untouched");
    }
}

#[test]
fn only_a_reply_addressed_to_us_counts_as_one() {
    let to_us = (OURS, "192.0.2.1");
    for (dst, target, how) in [
        (OURS, to_us, How::ArpReply),
        (MacAddr::BROADCAST, to_us, How::ArpUnsolicited),
        (OURS, (OURS, "192.0.2.77"), How::ArpUnsolicited),
        (
            MacAddr::BROADCAST,
            (PEER, "192.0.2.99"),
            How::ArpUnsolicited,
        ),
    ] {
        let (outcome, _) = give(handle_arp, &reply(dst, (PEER, "192.0.2.99"), target));
        assert_eq!(outcome, Outcome::Event(learned("192.0.2.99", how)));
    }
}

#[test]
fn another_station_with_an_address_of_ours_is_a_conflict() {
    for ours in ["192.0.2.1", "203.0.113.10"] {
        // An announcement in both forms, a reply to us, and a request from our own address.
        for frame in [
            request((PEER, ours), ours),
            reply(MacAddr::BROADCAST, (PEER, ours), (PEER, ours)),
            reply(OURS, (PEER, ours), (OURS, "192.0.2.1")),
            request((PEER, ours), "192.0.2.1"),
        ] {
            let (outcome, after) = give(handle_arp, &frame);
            assert_eq!(outcome, conflict(ours));
            assert_eq!(after, frame, "untouched");
        }
    }
}

#[test]
fn our_own_frame_come_back_is_no_conflict() {
    let frame = request((OURS, "192.0.2.1"), "192.0.2.1");
    assert_eq!(give(handle_arp, &frame).0, Outcome::Ignore(Ignored::Own));
}

// case VPPI-001: nor is one from a group, or cut off.
#[test]
fn arp_that_makes_no_sense_is_ignored() {
    let good = request_for("192.0.2.1");
    let l3 = 18;
    for (at, value, expected) in [
        (l3 + 1, 6, Ignored::UnknownArp),   // hardware type
        (l3 + 3, 1, Ignored::UnknownArp),   // protocol type
        (l3 + 4, 8, Ignored::UnknownArp),   // hardware address length
        (l3 + 5, 16, Ignored::UnknownArp),  // protocol address length
        (l3 + 7, 3, Ignored::UnknownArp),   // operation: RARP request
        (l3 + 7, 0, Ignored::UnknownArp),   // no operation
        (l3 + 8, 0x03, Ignored::Malformed), // sender's MAC is a group
        (l3 + 14, 224, Ignored::Malformed), // sender's address is a group
        (l3 + 14, 127, Ignored::Malformed), // … or loopback
    ] {
        let mut frame = good.clone();
        frame[at] = value;
        let (outcome, after) = give(handle_arp, &frame);
        assert_eq!(outcome, Outcome::Ignore(expected), "octet {at} = {value}");
        assert_eq!(after, frame, "untouched");
    }
    for cut in 1..28 {
        let (outcome, _) = give(handle_arp, &good[..good.len() - cut]);
        assert_eq!(outcome, Outcome::Ignore(Ignored::Malformed));
    }
    let zero = reply(OURS, (PEER, "0.0.0.0"), (OURS, "192.0.2.1"));
    assert_eq!(
        give(handle_arp, &zero).0,
        Outcome::Ignore(Ignored::Malformed)
    );
}

#[test]
fn other_packets_are_not_taken_for_arp() {
    let frame = super::echo::request_to("192.0.2.1");
    assert_eq!(
        give(handle_arp, &frame).0,
        Outcome::Ignore(Ignored::OtherKind)
    );
}
