//! ARP (RFC 826) with the probes, announcements and conflicts of RFC 5227.

use std::net::Ipv4Addr;

use net::header::{Arp, Ethernet, ethertype, view};
use net::{Addr, Layers, MacAddr, Network, Packet};

use super::{Ignored, Outcome};
use crate::event::{Event, How};
use crate::frame::{ARP_REPLY, ARP_REQUEST, ArpFields, Body};
use crate::owned::Owned;
use crate::table::Vlan;

/// Answers an ARP request for an address we own, probes included (RFC 5227 section 2.1.1), and
/// learns from what others send. `ours` is the MAC address of the port that the answer leaves by.
pub fn handle_arp(
    packet: &mut Packet<'_>,
    layers: &Layers,
    vlan: &Vlan,
    ours: MacAddr,
    owned: &Owned,
) -> Outcome {
    if layers.network != Network::Arp {
        return Outcome::Ignore(Ignored::OtherKind);
    }
    let frame = packet.data();
    let (Some(eth), Some(arp)) = (view::<Ethernet>(frame, 0), view::<Arp>(frame, layers.l3)) else {
        return Outcome::Ignore(Ignored::Malformed);
    };
    let oper = arp.oper.get();
    let ethernet = arp.htype.get() == 1 && arp.hlen == 6;
    let ipv4 = arp.ptype.get() == ethertype::IPV4 && arp.plen == 4;
    if !ethernet || !ipv4 || !matches!(oper, ARP_REQUEST | ARP_REPLY) {
        return Outcome::Ignore(Ignored::UnknownArp);
    }
    let mac = MacAddr(arp.sha);
    if vlan.is_ours(mac) || vlan.is_ours(MacAddr(eth.src)) {
        return Outcome::Ignore(Ignored::Own);
    }
    let (sender, target) = (Ipv4Addr::from(arp.spa), Ipv4Addr::from(arp.tpa));
    let probe = sender.is_unspecified();
    if !mac.is_station() || !(probe || crate::table::is_unicast(sender.into())) {
        return Outcome::Ignore(Ignored::Malformed);
    }
    if probe && oper == ARP_REPLY {
        return Outcome::Ignore(Ignored::Malformed);
    }
    let index = vlan.index;
    let addr = Addr::from_v4(arp.spa);
    if owned.get(index, &addr).is_some() {
        return Outcome::Event(Event::Conflict {
            vlan: index,
            addr,
            mac,
        });
    }
    let for_us = owned.get(index, &Addr::from_v4(arp.tpa)).is_some();
    let unicast = vlan.is_ours(MacAddr(eth.dst));
    let learned = |how| {
        vlan.can_be_neighbor(sender.into())
            .then_some(Event::Learned {
                vlan: index,
                addr,
                mac,
                how,
            })
    };
    if oper == ARP_REQUEST && for_us {
        let reply = Body::Arp(ArpFields {
            oper: ARP_REPLY,
            sender: target,
            target: (mac, sender),
        });
        return match reply.replace(packet, layers.l3, mac, ours, vlan.encap) {
            None => Outcome::Ignore(Ignored::NoRoom),
            Some(()) => learned(How::ArpRequest).map_or(Outcome::Reply, Outcome::ReplyAndEvent),
        };
    }
    // A reply that others can hear is an announcement, whoever it names as its target.
    let how = if oper == ARP_REPLY && for_us && unicast {
        How::ArpReply
    } else {
        How::ArpUnsolicited
    };
    learned(how).map_or(Outcome::Ignore(Ignored::NotOurs), Outcome::Event)
}
