//! The straight way: a plain packet of a flow that is established, whose answer is up to date and
//! whose next hop is known. Nearly every packet goes it, so it asks only what must be asked, and
//! changes nothing before the last question is answered. Whoever does not fit gets `None` and goes
//! the long way (`forward`, `open`), where the same questions are asked one by one.

use conntrack::{Direction, Hit, Probe, TcpSegment};
use net::plain::Addrs;
use net::{FlowKey, MacAddr, Packet, Plain, PortId, Timestamp, Tuple, VlanIndex};
use vlan::Vlan;
use vlan::neighbor::Resolution;

use super::{Leg, NextHop, State};
use crate::egress::flow_hash;
use crate::tables::Tables;
use crate::verdict::{FlowStep, Verdict};

/// A plain packet and where its flow probably is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) plain: Plain,
    pub(super) hash: u64,
    pub(super) probe: Probe,
}

/// What the frames of a burst with one tag have in common.
#[derive(Clone, Copy)]
pub(super) struct Ingress<'t> {
    vid: u16,
    vlan: &'t Vlan,
    mac: u64,
    /// Where stations are heard matters.
    learns: bool,
}

impl<'t> Ingress<'t> {
    /// The VLAN of a plain frame; that of the frame before, most of the time.
    #[inline]
    fn of(
        last: &mut Option<Self>,
        tables: &'t Tables,
        port: PortId,
        plain: &Plain,
    ) -> Option<Self> {
        if let Some(last) = last
            && last.vid == plain.vid()
        {
            return Some(*last);
        }
        let vlan = tables.vlans.demux(port, plain.encap())?;
        *last = Some(Self {
            vid: plain.vid(),
            vlan,
            mac: vlan.mac.to_u64(),
            learns: tables.learns(vlan.index),
        });
        *last
    }
}

/// A way out that was found for a packet.
#[derive(Clone, Copy)]
struct Way {
    vlan: VlanIndex,
    mac: MacAddr,
}

impl State {
    /// The hash of a plain packet's tuple.
    #[inline]
    pub(super) fn hash_plain(&self, plain: &Plain, frame: &[u8]) -> u64 {
        let (ports, proto) = (plain.ports(frame), plain.proto().0);
        match plain.addrs(frame) {
            Addrs::V4(addrs) => self.flows.hash_v4(addrs, ports, proto),
            Addrs::V6(addrs) => self.flows.hash_v6(&addrs, ports, proto),
        }
    }

    /// Forwards a packet that goes the straight way. `None`: it does not, and nothing has happened.
    #[inline]
    pub(super) fn straight<'t>(
        &mut self,
        tables: &'t Tables,
        now: Timestamp,
        port: PortId,
        packet: &mut Packet<'_>,
        look: &Look,
        last: &mut Option<Ingress<'t>>,
    ) -> Option<Verdict> {
        let plain = &look.plain;
        let ingress = Ingress::of(last, tables, port, plain)?;
        let frame = packet.data();
        let (source_mac, destination_mac) = macs(frame)?;
        if destination_mac != ingress.mac {
            return None;
        }
        let (addrs, ports, proto) = (plain.addrs(frame), plain.ports(frame), plain.proto().0);
        let hit = match &addrs {
            Addrs::V4(addrs) => self.flows.confirm_v4(look.probe, *addrs, ports, proto),
            Addrs::V6(addrs) => self.flows.confirm_v6(look.probe, addrs, ports, proto),
        }?;
        let direction = hit.direction();
        let original = direction == Direction::Original;
        let data = *self.flows.hit(hit)?.data();
        if data.stamp != tables.stamp() {
            return None;
        }
        // A last hop that has moved is followed on the long way.
        if original && ingress.vlan.auto_lasthop {
            let here = Leg::last_hop(ingress.vlan.index, source_mac);
            if data.reply != here && matches!(data.reply.next(), NextHop::LastHop(_)) {
                return None;
            }
        }
        let leg = if original { data.original } else { data.reply };
        let way = self.way(leg)?;
        let exit = tables.exits.get(usize::from(way.vlan.0))?.as_ref()?;
        if plain.end() - plain.l3() > exit.mtu {
            return None;
        }
        let out = exit.single.map_or_else(
            || {
                let flow = || flow_hash(&key(plain, &addrs, ports));
                tables.egress_port(way.vlan, way.mac, flow)
            },
            Some,
        )?;
        let header = exit.header(plain.is_v6(), tables.inserts_tag(out));
        if header.len() > plain.l3() + packet.headroom() {
            return None;
        }
        let tcp = plain.tcp(frame).map(|tcp| TcpSegment {
            seq: tcp.seq,
            ack: tcp.ack,
            payload_len: u32::from(plain.payload_len()),
            window: tcp.window,
            flags: tcp.flags,
        });
        let len = packet.len();
        let bytes = u32::try_from(len).ok()?;
        let flow = self.flows.hit(hit)?;
        if !flow.passes(direction, tcp.as_ref(), bytes, now) {
            return None;
        }
        // From here on it goes.
        let (addrs, ports) = self.translated(hit, &addrs, direction);
        if ingress.learns {
            tables.heard(ingress.vlan.index, MacAddr::from_u64(source_mac), port);
        }
        let deltas = if original {
            data.deltas
        } else {
            data.deltas.inverted()
        };
        plain.rewrite(packet.data_mut(), addrs, ports, deltas);
        packet.cut(plain.end());
        // There is room for it: that was asked.
        let _ = packet.set_header(plain.l3(), way.mac, header);
        packet.pad();
        for cell in self.service_counters(tables, &data) {
            let traffic = if original {
                &cell.original
            } else {
                &cell.reply
            };
            traffic.count(len);
        }
        let step = if original {
            FlowStep::Original
        } else {
            FlowStep::Reply
        };
        Some(Verdict::Transmit(out, step))
    }

    /// The station that `leg` leads to, if it is known.
    #[inline]
    fn way(&self, leg: Leg) -> Option<Way> {
        let mac = match leg.next() {
            NextHop::LastHop(mac) => mac,
            NextHop::Neighbor(neighbor) => match self.neighbors.mac(neighbor) {
                Resolution::Reachable(mac) => mac,
                _ => return None,
            },
            NextHop::Unresolved => return None,
        };
        let vlan = leg.vlan();
        Some(Way { vlan, mac })
    }

    /// The addresses and ports that the packet of a hit leaves with.
    #[inline]
    fn translated(&mut self, hit: Hit, addrs: &Addrs, direction: Direction) -> (Addrs, u32) {
        match addrs {
            Addrs::V4(old) => {
                let new = self
                    .flows
                    .hit(hit)
                    .map(|flow| flow.translated_v4(direction));
                let (addrs, ports) = new.unwrap_or((*old, 0));
                (Addrs::V4(addrs), ports)
            }
            Addrs::V6(old) => {
                let addrs = self.flows.translated_v6(hit).unwrap_or(*old);
                let flow = self.flows.hit(hit);
                let ports = flow.map_or(0, |flow| flow.translated_ports(direction));
                (Addrs::V6(addrs), ports)
            }
        }
    }
}

/// Source and destination MAC address as numbers.
#[inline]
fn macs(frame: &[u8]) -> Option<(u64, u64)> {
    let destination = u64::from_be_bytes(*frame.first_chunk()?) >> 16;
    let source = u64::from_be_bytes(*frame.get(6..)?.first_chunk()?) >> 16;
    Some((source, destination))
}

/// The key of a plain packet.
fn key(plain: &Plain, addrs: &Addrs, ports: u32) -> FlowKey {
    let proto = plain.proto();
    FlowKey::from(match *addrs {
        Addrs::V4(addrs) => Tuple::V4 {
            addrs,
            ports,
            proto,
        },
        Addrs::V6(addrs) => Tuple::V6 {
            addrs,
            ports,
            proto,
        },
    })
}
