//! The long way, step by step: form, VLAN, whether the frame is for us, and who decides about it.

use conntrack::{Direction, TcpSegment};
use net::header::{Tcp, tcp_flags, view};
use net::{Fragment, IpProto, Layers, Network, Packet, PortId, Timestamp};

use super::plain::Look;
use super::{Arrival, State, options};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};

impl State {
    /// All that is not straightforward.
    #[cold]
    pub(super) fn long_way(
        &mut self,
        tables: &Tables,
        now: Timestamp,
        port: PortId,
        packet: &mut Packet<'_>,
        look: Option<&Look>,
    ) -> Verdict {
        let layers = match look {
            Some(look) => look.plain.layers(packet.data()),
            None => Layers::parse(packet),
        };
        match layers {
            Ok(layers) => {
                let hash = match look {
                    Some(look) => look.hash,
                    None if layers.is_ip() => self.flows.hash(&layers.key),
                    None => 0,
                };
                self.decide(tables, now, port, packet, &layers, hash)
            }
            Err(error) => Verdict::Drop(error.into()),
        }
    }

    pub(super) fn decide(
        &mut self,
        tables: &Tables,
        now: Timestamp,
        port: PortId,
        packet: &mut Packet<'_>,
        layers: &Layers,
        hash: u64,
    ) -> Verdict {
        if let Some(round) = self.round {
            return self.come_round(tables, (now, port), round, packet, layers, hash);
        }
        let Some(vlan) = tables.vlans.demux(port, layers.encap) else {
            return Verdict::Drop(DropReason::UnknownVlan);
        };
        let (source_mac, destination_mac) = net::emit::macs(packet.data());
        if !vlan.receives(destination_mac) {
            return Verdict::Drop(DropReason::NotForUs);
        }
        if let Some(segments) = tables.segments(vlan.index) {
            let other = vlan.port_of(destination_mac);
            if other.is_some_and(|other| segments.doubles(port, other, &tables.links)) {
                return Verdict::Drop(DropReason::NotForUs);
            }
            if !vlan.is_ours(source_mac) {
                let place = segments.place(port);
                tables.stations.heard(vlan.index, source_mac, place);
            }
        }
        let arrival = Arrival {
            now,
            port,
            vlan,
            source_mac,
            hash,
            round: false,
        };
        match layers.network {
            Network::Arp => return self.arp(tables, &arrival, packet, layers),
            Network::Other(_) => return self.probe_of_ours(&arrival, packet, layers),
            Network::Ipv4 | Network::Ipv6 => {}
        }
        if layers.key.proto == IpProto::ICMPV6 && matches!(layers.icmp_type, 130 | 133..=137) {
            return self.neighbor_discovery(tables, &arrival, packet, layers);
        }
        if destination_mac.is_group() {
            return Verdict::Drop(DropReason::Multicast);
        }
        if !options::sound(packet, layers) {
            return Verdict::Drop(DropReason::BadIpHeader);
        }
        self.decide_ip(tables, &arrival, packet, layers, hash)
    }

    /// Decides about an IP packet for us, or for others by way of us.
    #[inline]
    pub(super) fn decide_ip(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        hash: u64,
    ) -> Verdict {
        if layers.fragment != Fragment::Whole {
            return self.fragment(tables, arrival, packet, layers, hash);
        }
        if net::icmp::concerns_a_flow(layers) {
            return self.related(tables, arrival, packet, layers);
        }
        if let Some((id, direction)) = self.flows.lookup_hashed(hash, &layers.key)
            && goes(layers, direction)
        {
            return self.forward(tables, arrival, packet, layers, id, direction);
        }
        self.without_flow(tables, arrival, packet, layers)
    }
}

/// Whether a packet goes the way that its key says: an echo request and its reply have the same key but
/// for their order, and other ICMP has none.
#[inline]
pub(super) fn goes(layers: &Layers, direction: Direction) -> bool {
    match layers.key.proto {
        IpProto::ICMP | IpProto::ICMPV6 => {
            layers.is_echo() && layers.is_echo_request() == (direction == Direction::Original)
        }
        _ => true,
    }
}

/// What connection tracking wants to know of a TCP segment.
pub(super) fn tcp_segment(packet: &Packet<'_>, layers: &Layers) -> Option<TcpSegment> {
    if layers.key.proto != IpProto::TCP {
        return None;
    }
    let frame = packet.data();
    let tcp: &Tcp = view(frame, layers.l4)?;
    Some(TcpSegment {
        flags: tcp.flags,
        seq: tcp.seq.get(),
        ack: tcp.ack.get(),
        window: tcp.window.get(),
        payload_len: u32::try_from(layers.payload_len()).unwrap_or(0),
        cut: layers.fragment == Fragment::First,
        scale: match tcp.flags & tcp_flags::SYN {
            0 => None,
            _ => frame
                .get(layers.l4..layers.end)
                .and_then(net::tcp_options::window_scale),
        },
    })
}
