use std::net::Ipv6Addr;

use net::header::ethertype;
use net::{Addr, MacAddr};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, MldRepr,
    NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use super::{give, sent, tagged};
use crate::answer::{Ignored, Outcome, handle_icmpv6_nd};
use crate::event::{Event, How};
use crate::frame::solicited_node;
use crate::testing::{EXTERNAL, OURS, PEER, vlan};

const NEIGHBOR: &str = "2001:db8::99";

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn raw(mac: MacAddr) -> RawHardwareAddress {
    RawHardwareAddress::from(EthernetAddress(mac.0))
}

/// A frame with this message, of any hop limit.
fn nd(dst_mac: MacAddr, src: &str, dst: Ipv6Addr, hop_limit: u8, repr: NdiscRepr<'_>) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(repr);
    let header = Ipv6Repr {
        src_addr: ip(src),
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit,
    };
    let mut l3 = vec![0; 40 + message.buffer_len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut l3[..]));
    message.emit(
        &header.src_addr,
        &header.dst_addr,
        &mut Icmpv6Packet::new_unchecked(&mut l3[40..]),
        &ChecksumCapabilities::default(),
    );
    tagged(dst_mac, PEER, ethertype::IPV6, &l3)
}

fn solicit(src: &str, target: &str, lladdr: Option<MacAddr>) -> Vec<u8> {
    let group = solicited_node(ip(target));
    let repr = NdiscRepr::NeighborSolicit {
        target_addr: ip(target),
        lladdr: lladdr.map(raw),
    };
    nd(MacAddr::ipv6_multicast(group), src, group, 255, repr)
}

fn advertise(dst: &str, target: &str, flags: NdiscNeighborFlags, mac: Option<MacAddr>) -> Vec<u8> {
    let repr = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: ip(target),
        lladdr: mac.map(raw),
    };
    nd(OURS, target, ip(dst), 255, repr)
}

pub(super) fn solicitation_for(target: &str) -> Vec<u8> {
    solicit(NEIGHBOR, target, Some(PEER))
}

pub(super) fn duplicate_detection_for(target: &str) -> Vec<u8> {
    solicit("::", target, None)
}

pub(super) fn advertisement_of(target: &str) -> Vec<u8> {
    let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    advertise("2001:db8::1", target, flags, Some(PEER))
}

fn addr(text: &str) -> Addr {
    Addr::from_v6(ip(text).octets())
}

/// Checks an advertisement of ours and gives its IPv6 source and destination.
fn is_advertisement(frame: &[u8], to: MacAddr, target: &str, dst: &str, solicited: bool) {
    let l3 = sent(frame, to);
    let packet = Ipv6Packet::new_checked(l3).unwrap();
    let header = Ipv6Repr::parse(&packet).unwrap();
    assert_eq!((header.src_addr, header.dst_addr), (ip(target), ip(dst)));
    assert_eq!(header.hop_limit, 255);
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let caps = ChecksumCapabilities::default();
    let parsed = Icmpv6Repr::parse(&header.src_addr, &header.dst_addr, &message, &caps).unwrap();
    let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, solicited);
    let expected = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: ip(target),
        lladdr: Some(raw(OURS)),
    };
    assert_eq!(parsed, Icmpv6Repr::Ndisc(expected));
}

#[test]
fn a_solicitation_for_an_owned_address_is_answered_and_learned_from() {
    let link_local = vlan(1, 100).link_local().to_string();
    for target in ["2001:db8::1", "2001:db8:f::10", link_local.as_str()] {
        let (outcome, frame) = give(handle_icmpv6_nd, &solicitation_for(target));
        let learned = Event::Learned {
            vlan: EXTERNAL,
            addr: addr(NEIGHBOR),
            mac: PEER,
            how: How::Solicitation,
        };
        assert_eq!(outcome, Outcome::ReplyAndEvent(learned), "{target}");
        is_advertisement(&frame, PEER, target, NEIGHBOR, true);
    }
}

#[test]
fn a_unicast_solicitation_without_option_is_answered_only() {
    let repr = NdiscRepr::NeighborSolicit {
        target_addr: ip("2001:db8::1"),
        lladdr: None,
    };
    let frame = nd(OURS, NEIGHBOR, ip("2001:db8::1"), 255, repr);
    let (outcome, frame) = give(handle_icmpv6_nd, &frame);
    assert_eq!(outcome, Outcome::Reply);
    is_advertisement(&frame, PEER, "2001:db8::1", NEIGHBOR, true);
}

#[test]
fn a_solicitation_from_another_prefix_is_answered_but_not_learned_from() {
    let frame = solicit("2001:db8:f::1", "2001:db8:f::10", Some(PEER));
    let (outcome, frame) = give(handle_icmpv6_nd, &frame);
    assert_eq!(outcome, Outcome::Reply);
    is_advertisement(&frame, PEER, "2001:db8:f::10", "2001:db8:f::1", true);
}

#[test]
fn duplicate_detection_of_our_address_is_answered_to_everybody() {
    let (outcome, frame) = give(handle_icmpv6_nd, &duplicate_detection_for("2001:db8::1"));
    assert_eq!(outcome, Outcome::Reply);
    let all = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    is_advertisement(&frame, all, "2001:db8::1", "ff02::1", false);
}

#[test]
fn a_solicitation_for_others_is_ignored() {
    for frame in [
        solicitation_for("2001:db8::77"),
        duplicate_detection_for("2001:db8::77"),
    ] {
        let (outcome, after) = give(handle_icmpv6_nd, &frame);
        assert_eq!(outcome, Outcome::Ignore(Ignored::NotOurs));
        assert_eq!(after, frame, "untouched");
    }
}

#[test]
fn an_advertisement_is_learned_from_with_its_flags() {
    for (flags, solicited, overrides) in [
        (NdiscNeighborFlags::SOLICITED, true, false),
        (NdiscNeighborFlags::OVERRIDE, false, true),
        (NdiscNeighborFlags::ROUTER, false, false),
    ] {
        let frame = advertise("2001:db8::1", NEIGHBOR, flags, Some(PEER));
        let learned = Event::Learned {
            vlan: EXTERNAL,
            addr: addr(NEIGHBOR),
            mac: PEER,
            how: How::Advertisement {
                solicited,
                overrides,
            },
        };
        assert_eq!(give(handle_icmpv6_nd, &frame).0, Outcome::Event(learned));
    }
    let solicited = NdiscNeighborFlags::SOLICITED;
    let bare = advertise("2001:db8::1", NEIGHBOR, solicited, None);
    let confirmed = Event::Confirmed {
        vlan: EXTERNAL,
        addr: addr(NEIGHBOR),
    };
    assert_eq!(give(handle_icmpv6_nd, &bare).0, Outcome::Event(confirmed));
    let nothing = advertise("ff02::1", NEIGHBOR, NdiscNeighborFlags::empty(), None);
    assert_eq!(
        give(handle_icmpv6_nd, &nothing).0,
        Outcome::Ignore(Ignored::NothingNew)
    );
    let elsewhere = advertise(
        "ff02::1",
        "2001:db8:9::1",
        NdiscNeighborFlags::OVERRIDE,
        Some(PEER),
    );
    assert_eq!(
        give(handle_icmpv6_nd, &elsewhere).0,
        Outcome::Ignore(Ignored::NotOurs)
    );
}

#[test]
fn another_station_with_an_address_of_ours_is_a_conflict() {
    let claim = |text| {
        Outcome::Event(Event::Conflict {
            vlan: EXTERNAL,
            addr: addr(text),
            mac: PEER,
        })
    };
    let over = NdiscNeighborFlags::OVERRIDE;
    for ours in ["2001:db8::1", "2001:db8:f::10"] {
        for mac in [Some(PEER), None] {
            let frame = advertise("ff02::1", ours, over, mac);
            assert_eq!(give(handle_icmpv6_nd, &frame).0, claim(ours));
        }
        let frame = solicit(ours, "2001:db8::77", Some(PEER));
        assert_eq!(give(handle_icmpv6_nd, &frame).0, claim(ours));
    }
}

#[test]
fn our_own_advertisement_come_back_is_no_conflict() {
    let over = NdiscNeighborFlags::OVERRIDE;
    let mut frame = advertise("ff02::1", "2001:db8::1", over, Some(OURS));
    assert_eq!(
        give(handle_icmpv6_nd, &frame).0,
        Outcome::Ignore(Ignored::Own)
    );
    frame[6..12].copy_from_slice(&OURS.0);
    assert_eq!(
        give(handle_icmpv6_nd, &frame).0,
        Outcome::Ignore(Ignored::Own)
    );
}

// case VPPI-004: solicitations and advertisements with a wrong hop limit, source or target are nothing.
#[test]
fn what_may_have_crossed_a_router_is_ignored() {
    for hop_limit in [0, 1, 64, 254] {
        let repr = NdiscRepr::NeighborSolicit {
            target_addr: ip("2001:db8::1"),
            lladdr: Some(raw(PEER)),
        };
        let frame = nd(OURS, NEIGHBOR, ip("2001:db8::1"), hop_limit, repr);
        assert_eq!(
            give(handle_icmpv6_nd, &frame).0,
            Outcome::Ignore(Ignored::OffLink)
        );
    }
    // An atomic fragment (RFC 6980).
    let mut frame = solicitation_for("2001:db8::1");
    frame.splice(58..58, [58, 0, 0, 0, 0, 0, 0, 1]);
    frame[18 + 6] = 44;
    frame[18 + 5] += 8;
    assert_eq!(
        give(handle_icmpv6_nd, &frame).0,
        Outcome::Ignore(Ignored::OffLink)
    );
}

#[test]
fn router_discovery_is_left_alone() {
    let repr = NdiscRepr::RouterSolicit {
        lladdr: Some(raw(PEER)),
    };
    let frame = nd(OURS, "fe80::99", ip("ff02::2"), 255, repr);
    assert_eq!(
        give(handle_icmpv6_nd, &frame).0,
        Outcome::Ignore(Ignored::RouterDiscovery)
    );
}

// case OVS-044: an option that is cut off, or says it has no length, is never read past its end.
#[test]
fn malformed_discovery_is_ignored() {
    let malformed = |mut frame: Vec<u8>, change: &dyn Fn(&mut Vec<u8>)| {
        change(&mut frame);
        super::echo::fix_checksums(&mut frame);
        let (outcome, after) = give(handle_icmpv6_nd, &frame);
        assert_eq!(outcome, Outcome::Ignore(Ignored::Malformed));
        assert_eq!(after, frame, "untouched");
    };
    let ns = || solicitation_for("2001:db8::1");
    let icmp = 18 + 40;
    malformed(ns(), &|f| f[icmp + 1] = 1); // code
    malformed(ns(), &|f| f[icmp + 8] = 0xff); // target is a group
    malformed(ns(), &|f| f[icmp + 25] = 0); // option of length zero
    malformed(ns(), &|f| f[icmp + 25] = 2); // option beyond the end
    malformed(ns(), &|f| f[icmp + 26] |= 1); // MAC is a group
    malformed(ns(), &|f| {
        f.truncate(f.len() - 1); // half an option
        f[18 + 5] -= 1;
    });
    malformed(ns(), &|f| {
        f.truncate(icmp + 20); // no whole target
        f[18 + 5] = 20;
    });
    malformed(duplicate_detection_for("2001:db8::1"), &|f| {
        // To our unicast address instead of the group.
        f[18 + 24..18 + 40].copy_from_slice(&ip("2001:db8::1").octets());
    });
    let option = solicit("::", "2001:db8::1", Some(PEER));
    malformed(option, &|_| {});
    let to_group = NdiscNeighborFlags::SOLICITED;
    malformed(
        advertise("ff02::1", NEIGHBOR, to_group, Some(PEER)),
        &|_| {},
    );
}

/// A query as a router sends it: hop-by-hop options with a router alert, hop limit 1.
fn listener_query(src: &str, hop_limit: u8, group: &str) -> Vec<u8> {
    let mut l3 = vec![0; 40 + 8 + 28];
    Ipv6Repr {
        src_addr: ip(src),
        dst_addr: ip("ff02::1"),
        next_header: IpProtocol::HopByHop,
        payload_len: 36,
        hop_limit,
    }
    .emit(&mut Ipv6Packet::new_unchecked(&mut l3[..]));
    l3[40..48].copy_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
    let query = Icmpv6Repr::Mld(MldRepr::Query {
        max_resp_code: 1000,
        mcast_addr: ip(group),
        s_flag: false,
        qrv: 2,
        qqic: 125,
        num_srcs: 0,
        data: &[],
    });
    query.emit(
        &ip(src),
        &ip("ff02::1"),
        &mut Icmpv6Packet::new_unchecked(&mut l3[48..]),
        &ChecksumCapabilities::default(),
    );
    let all = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    tagged(all, PEER, ethertype::IPV6, &l3)
}

#[test]
fn a_listener_query_of_a_router_on_the_link_is_passed_on() {
    for (group, expected) in [("::", None), ("ff02::1:ff00:1", Some("ff02::1:ff00:1"))] {
        let queried = Event::Queried {
            vlan: EXTERNAL,
            group: expected.map(addr),
        };
        let frame = listener_query("fe80::1", 1, group);
        assert_eq!(give(handle_icmpv6_nd, &frame).0, Outcome::Event(queried));
    }
    for (src, hop_limit, group, ignored) in [
        ("fe80::1", 2, "::", Ignored::OffLink),
        ("2001:db8::9", 1, "::", Ignored::OffLink),
        ("::", 1, "::", Ignored::OffLink),
        ("fe80::1", 1, "2001:db8::1", Ignored::Malformed),
    ] {
        let frame = listener_query(src, hop_limit, group);
        assert_eq!(give(handle_icmpv6_nd, &frame).0, Outcome::Ignore(ignored));
    }
}
