//! Frames for ourselves: ARP, neighbour discovery, echo, and services of self IPs.

use net::header::tcp_flags;
use net::{IpProto, Layers, Network, Packet, PortId};
use vlan::answer::{self, Ignored, Outcome};
use vlan::segment;

use super::{Arrival, State, hairpin};
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
        let Some(port) = Self::speaker(tables, arrival, packet, layers) else {
            return Verdict::Consumed;
        };
        let ours = arrival.vlan.mac_of(port);
        let outcome = answer::handle_arp(packet, layers, arrival.vlan, ours, &tables.owned);
        self.told(
            port,
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
        let Some(port) = Self::speaker(tables, arrival, packet, layers) else {
            return Verdict::Consumed;
        };
        let ours = arrival.vlan.mac_of(port);
        let outcome = answer::handle_icmpv6_nd(packet, layers, arrival.vlan, ours, &tables.owned);
        self.told(
            port,
            outcome,
            Answer::NeighborAdvertisement,
            DropReason::BadNeighborDiscovery,
            DropReason::NeighborDiscoveryIgnored,
        )
    }

    /// The port that answers what came in, should it be a question for us: of several in one segment the
    /// one that asker and target mean. `None`: it hears the question itself.
    fn speaker(
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        layers: &Layers,
    ) -> Option<PortId> {
        let here = Some(arrival.port);
        let Some(segments) = tables.segments(arrival.vlan.index) else {
            return here;
        };
        let Some((asker, target)) = segment::question(packet, layers) else {
            return here;
        };
        if tables.owned.get(arrival.vlan.index, &target).is_none() {
            return here;
        }
        let spread = segment::spread(&asker, &target);
        let chosen = segments.answerer(arrival.port, spread, &tables.links);
        let (_, destination) = net::emit::macs(packet.data());
        // What was sent to one of our stations came to none but that.
        (chosen == arrival.port || !destination.is_group()).then_some(chosen)
    }

    /// A frame of a kind that is nothing to us, unless it is a probe of one of our own ports.
    #[cold]
    pub(super) fn probe_of_ours(
        &self,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        match segment::hear(packet, layers, arrival.vlan, arrival.port) {
            Some(event) => {
                self.tell(event);
                Verdict::Consumed
            }
            None => Verdict::Drop(DropReason::UnknownEthertype),
        }
    }

    fn told(
        &self,
        port: PortId,
        outcome: Outcome,
        answer: Answer,
        malformed: DropReason,
        ignored: DropReason,
    ) -> Verdict {
        match outcome {
            Outcome::Reply => Verdict::Reply(port, answer),
            Outcome::ReplyAndEvent(event) => {
                self.tell(event);
                Verdict::Reply(port, answer)
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
        let port = self.back(tables, arrival);
        let ours = arrival.vlan.mac_of(port);
        let outcome = answer::handle_echo(packet, layers, arrival.vlan, ours, &tables.owned);
        self.told(
            port,
            outcome,
            Answer::Echo,
            DropReason::IcmpIgnored,
            DropReason::IcmpIgnored,
        )
    }

    /// Answers a fragment of an echo request to an owned address.
    pub(super) fn echo_fragment(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let port = self.back(tables, arrival);
        let ours = arrival.vlan.mac_of(port);
        let outcome =
            answer::handle_echo_fragment(packet, layers, arrival.vlan, ours, &tables.owned);
        self.told(
            port,
            outcome,
            Answer::Echo,
            DropReason::IcmpIgnored,
            DropReason::IcmpIgnored,
        )
    }

    /// A packet to an address of ours that no virtual server listens on: port lockdown decides
    /// whether its sender learns that nothing is there.
    pub(super) fn for_self_ip(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        if !arrival.vlan.allows(layers.key.proto, layers.key.dport()) {
            return Verdict::Drop(DropReason::PortLockdown);
        }
        if layers.key.proto == IpProto::TCP {
            return self.reset(tables, arrival, packet, layers, Answer::ResetNoListener);
        }
        if layers.key.proto == IpProto::SCTP {
            return self.abort(tables, arrival, packet, layers, Answer::AbortNoListener);
        }
        self.refuse(tables, arrival, packet, layers, DropReason::NoListener)
    }

    /// Answers a TCP segment with a reset; a reset itself is dropped.
    pub(super) fn reset(
        &self,
        tables: &Tables,
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
        self.answer_back(tables, arrival, packet, layers, answer)
    }

    /// Sends what a packet was turned into to the station that it came from: that knows the way.
    pub(super) fn answer_back(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        answer: Answer,
    ) -> Verdict {
        let at = (layers.network, layers.l3);
        self.address_back(tables, arrival, packet, at, answer)
    }

    /// Addresses an IP packet that begins at an offset to the station that another came from.
    pub(super) fn address_back(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        (network, l3): (Network, usize),
        answer: Answer,
    ) -> Verdict {
        let kind = net::emit::ethertype_of(network);
        if arrival.round {
            return hairpin::back(arrival, packet, (kind, l3));
        }
        let (vlan, port) = (arrival.vlan, self.back(tables, arrival));
        let (to, ours) = (arrival.source_mac, vlan.mac_of(port));
        match packet.set_ethernet(l3, to, ours, vlan.encap, kind, false) {
            Ok(_) => Verdict::Reply(port, answer),
            Err(_) => Verdict::Drop(DropReason::NoRoom),
        }
    }

    /// The port that an answer leaves by: where the question came in, or next to it if this worker does
    /// not send there itself.
    pub(super) fn back(&self, tables: &Tables, arrival: &Arrival<'_>) -> PortId {
        let port = arrival.port;
        let segments = tables.segments(arrival.vlan.index);
        segments.map_or(port, |s| s.back(port, &self.own, &tables.links))
    }
}
