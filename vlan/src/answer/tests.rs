//! Requests are built, and replies read, by smoltcp.

mod arp;
mod echo;
mod nd;

use net::{Encap, Layers, MacAddr, RxMeta, VlanId, emit};
use proptest::prelude::*;

use super::*;
use crate::owned::{Owned, Owner};
use crate::table::{Table, Vlan};
use crate::testing::{EXTERNAL, OURS, PEER, ROOM, vlan, with_packet};

/// The tags of the tests' VLAN.
fn encap() -> Encap {
    Encap::from_ids(None, VlanId::new(100))
}

/// The tests' VLAN, its addresses, and two live virtual addresses.
fn link() -> (Vlan, Owned) {
    let vlan = vlan(EXTERNAL.0, 100);
    let table = Table::new(vec![vlan.clone()]).unwrap();
    let mut owned = Owned::of_table(&table);
    for addr in ["203.0.113.10", "2001:db8:f::10"] {
        owned.insert(
            EXTERNAL,
            addr.parse::<std::net::IpAddr>().unwrap(),
            Owner::Virtual,
        );
    }
    (vlan, owned)
}

type Handler = fn(&mut net::Packet<'_>, &Layers, &Vlan, MacAddr, &Owned) -> Outcome;

/// Gives a frame to a handler, as the pipeline would; the frame afterwards is what would be sent.
fn give(handler: Handler, frame: &[u8]) -> (Outcome, Vec<u8>) {
    let (vlan, owned) = link();
    with_packet(frame, |packet| {
        let layers = Layers::parse(packet).expect("the parser takes the frame");
        handler(packet, &layers, &vlan, OURS, &owned)
    })
}

fn tagged(dst: MacAddr, src: MacAddr, kind: u16, l3: &[u8]) -> Vec<u8> {
    emit::ethernet(dst, src, encap(), kind, l3)
}

/// Checks what every answer must be, and gives its network layer.
fn sent(frame: &[u8], to: MacAddr) -> &[u8] {
    assert!(frame.len() >= 60, "padded");
    assert_eq!(emit::macs(frame), (OURS, to));
    let mut buf = frame.to_vec();
    let len = buf.len();
    let packet = net::Packet::new(&mut buf, 0, len, RxMeta::default());
    let layers = Layers::parse(&packet).expect("our own parser takes the answer");
    assert_eq!(layers.encap, encap());
    &frame[layers.l3..]
}

#[test]
fn reasons_are_listed_once_each() {
    let unique: std::collections::HashSet<_> = Ignored::ALL.into_iter().collect();
    assert_eq!(unique.len(), Ignored::ALL.len());
}

/// Runs all handlers on a frame with `room` octets around it.
fn give_all(frame: &[u8], room: usize) -> Vec<(Outcome, Vec<u8>)> {
    let (vlan, owned) = link();
    let handlers: [Handler; 3] = [handle_arp, handle_icmpv6_nd, handle_echo];
    handlers
        .into_iter()
        .filter_map(|handler| {
            let mut buf = vec![0; room + frame.len() + room];
            buf[room..room + frame.len()].copy_from_slice(frame);
            let mut packet = net::Packet::new(&mut buf, room, frame.len(), RxMeta::default());
            let layers = Layers::parse(&packet).ok()?;
            let outcome = handler(&mut packet, &layers, &vlan, OURS, &owned);
            Some((outcome, packet.data().to_vec()))
        })
        .collect()
}

/// An answer is a frame that our own parser takes: from us, on our VLAN, to one who may be answered.
fn check_answer(outcome: Outcome, frame: &[u8]) {
    if let Outcome::Reply | Outcome::ReplyAndEvent(_) = outcome {
        let mut buf = frame.to_vec();
        let len = buf.len();
        let packet = net::Packet::new(&mut buf, 0, len, RxMeta::default());
        let layers = Layers::parse(&packet).expect("a reply is well formed");
        assert_eq!(layers.encap, encap());
        let (src, dst) = emit::macs(frame);
        assert_eq!(src, OURS);
        assert!(dst != OURS && dst != MacAddr::ZERO && dst != MacAddr::BROADCAST);
    }
}

/// A frame of each kind that is answered.
fn good_frames() -> Vec<Vec<u8>> {
    vec![
        arp::request_for("192.0.2.1"),
        nd::solicitation_for("2001:db8::1"),
        nd::duplicate_detection_for("2001:db8::1"),
        nd::advertisement_of("2001:db8::99"),
        echo::request_to("192.0.2.1"),
        echo::request_to("2001:db8::1"),
    ]
}

proptest! {
    #[test]
    fn random_bytes_are_survived(
        kind in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd]),
        l3 in proptest::collection::vec(any::<u8>(), 0..120),
        room in prop::sample::select(vec![0, 4, ROOM]),
    ) {
        for (outcome, frame) in give_all(&tagged(OURS, PEER, kind, &l3), room) {
            check_answer(outcome, &frame);
        }
    }

    #[test]
    fn damaged_frames_are_survived_and_answers_stay_well_formed(
        which in 0usize..6,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 0usize..12,
        room in prop::sample::select(vec![0, 4, ROOM]),
    ) {
        let mut frame = good_frames().swap_remove(which);
        frame.truncate(frame.len() - cut);
        for (at, value) in damage {
            // Behind the Ethernet header and its tag: what is left is for our station.
            let at = 16 + at.index(frame.len() - 16);
            frame[at] = value;
        }
        echo::fix_checksums(&mut frame);
        for (outcome, frame) in give_all(&frame, room) {
            check_answer(outcome, &frame);
        }
    }
}

#[test]
fn a_buffer_without_room_is_an_ignored_packet_not_a_panic() {
    for (i, frame) in good_frames().iter().enumerate() {
        for (outcome, sent) in give_all(frame, 0) {
            check_answer(outcome, &sent);
        }
        // Duplicate detection has no option; the answer needs eight octets more.
        if i == 2 {
            assert_eq!(give_all(frame, 0)[1].0, Outcome::Ignore(Ignored::NoRoom));
            assert_eq!(give_all(frame, 8)[1].0, Outcome::Reply);
        }
    }
}

#[test]
fn a_tag_that_the_device_took_out_is_in_the_answer() {
    let (vlan, owned) = link();
    let mut frame = arp::request_for("192.0.2.1");
    frame.drain(12..16);
    let ((), sent_frame) = with_packet(&frame, |packet| {
        packet.rx.stripped_tci = Some(0x6064); // priority 3, VLAN 100
        let layers = Layers::parse(packet).unwrap();
        let outcome = handle_arp(packet, &layers, &vlan, OURS, &owned);
        assert!(matches!(outcome, Outcome::ReplyAndEvent(_)), "{outcome:?}");
        assert_eq!(packet.shape().insert_tci, None);
    });
    sent(&sent_frame, PEER);
}
