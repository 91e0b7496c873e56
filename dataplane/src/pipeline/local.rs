//! Frames for ourselves: ARP, neighbour discovery, echo, and services of self IPs.

use net::header::tcp_flags;
use net::{IpProto, Layers, Packet};
use vlan::answer::{self, Ignored, Outcome};

use super::{Arrival, State};
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, Verdict};

impl State {
    pub(super) fn arp(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let outcome =
            answer::handle_arp(packet, layers, arrival.vlan, arrival.ours(), &tables.owned);
        self.told(
            arrival,
            outcome,
            Answer::Arp,
            DropReason::BadArp,
            DropReason::ArpIgnored,
        )
    }

    pub(super) fn neighbor_discovery(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let outcome =
            answer::handle_icmpv6_nd(packet, layers, arrival.vlan, arrival.ours(), &tables.owned);
        self.told(
            arrival,
            outcome,
            Answer::NeighborAdvertisement,
            DropReason::BadNeighborDiscovery,
            DropReason::NeighborDiscoveryIgnored,
        )
    }

    fn told(
        &self,
        arrival: &Arrival<'_>,
        outcome: Outcome,
        answer: Answer,
        malformed: DropReason,
        ignored: DropReason,
    ) -> Verdict {
        match outcome {
            Outcome::Reply => Verdict::Reply(arrival.port, answer),
            Outcome::ReplyAndEvent(event) => {
                self.tell(event);
                Verdict::Reply(arrival.port, answer)
            }
            Outcome::Event(event) => {
                self.tell(event);
                Verdict::Consumed
            }
            Outcome::Ignore(Ignored::Malformed | Ignored::OffLink | Ignored::UnknownArp) => {
                Verdict::Drop(malformed)
            }
            Outcome::Ignore(Ignored::NoRoom) => Verdict::Drop(DropReason::NoRoom),
            Outcome::Ignore(_) => Verdict::Drop(ignored),
        }
    }

    /// Answers an echo request to an owned address.
    pub(super) fn echo(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let outcome =
            answer::handle_echo(packet, layers, arrival.vlan, arrival.ours(), &tables.owned);
        self.told(
            arrival,
            outcome,
            Answer::Echo,
            DropReason::IcmpIgnored,
            DropReason::IcmpIgnored,
        )
    }

    /// A packet to an address of ours that no virtual server listens on: port lockdown decides
    /// whether its sender learns that nothing is there.
    pub(super) fn to_self_ip(
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        if !arrival.vlan.allows(layers.key.proto, layers.key.dport()) {
            return Verdict::Drop(DropReason::PortLockdown);
        }
        if layers.key.proto == IpProto::TCP {
            return reset(arrival, packet, layers, Answer::ResetNoListener);
        }
        Verdict::Drop(DropReason::NoListener)
    }
}

/// Answers a TCP segment with a reset; a reset itself is dropped.
pub(super) fn reset(
    arrival: &Arrival<'_>,
    packet: &mut Packet<'_>,
    layers: &Layers,
    answer: Answer,
) -> Verdict {
    if layers.tcp_flags & tcp_flags::RST != 0 {
        return Verdict::Drop(DropReason::ResetWithoutFlow);
    }
    if net::emit::reset_in_place(packet, layers).is_err() {
        return Verdict::Drop(DropReason::NoRoom);
    }
    send_back(arrival, packet, layers, answer)
}

/// Sends an answer to the station its question came from: it knows the way.
fn send_back(
    arrival: &Arrival<'_>,
    packet: &mut Packet<'_>,
    layers: &Layers,
    answer: Answer,
) -> Verdict {
    let kind = net::emit::ethertype_of(layers.network);
    let vlan = arrival.vlan;
    match packet.set_ethernet(
        layers.l3,
        arrival.source_mac,
        arrival.ours(),
        vlan.encap,
        kind,
        false,
    ) {
        Ok(_) => Verdict::Reply(arrival.port, answer),
        Err(_) => Verdict::Drop(DropReason::NoRoom),
    }
}
