//! The straight way: a plain packet of a flow that is established, whose answer is up to date and
//! whose next hop is known. Nearly every packet goes it, so it asks only what must be asked, and
//! changes nothing before the last question is answered. Whoever does not fit gets `None` and goes
//! the long way (`forward`, `open`), where the same questions are asked one by one.

use arrayvec::ArrayVec;
use conntrack::{Direction, Hit, Probe, TcpSegment};
use net::{Deltas, FlowKey, MacAddr, Packet, Plain, PortId, Timestamp};
use vlan::Vlan;
use vlan::neighbor::Resolution;

use super::{Flows, Leg, NextHop, State, count_service};
use crate::egress::flow_hash;
use crate::port::BURST;
use crate::tables::Tables;
use crate::verdict::FlowStep;

/// A plain packet and where its flow probably is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) plain: Plain,
    ports: u32,
    pub(super) hash: u64,
    pub(super) probe: Probe,
}

/// What differs between IPv4 and IPv6 on the straight way.
trait Family {
    /// Both addresses of a packet.
    type Addrs: Copy;
    const V6: bool;

    fn addrs(plain: &Plain, frame: &[u8]) -> Self::Addrs;
    fn hash(flows: &Flows, addrs: &Self::Addrs, ports: u32, proto: u8) -> u64;
    fn confirm(flows: &Flows, look: &Look, addrs: &Self::Addrs) -> Option<Hit>;
    /// The addresses it leaves with.
    fn translated(flows: &Flows, hit: Hit, direction: Direction) -> Option<Self::Addrs>;
    fn rewrite(plain: &Plain, frame: &mut [u8], addrs: Self::Addrs, ports: u32, deltas: Deltas);
}

struct V4;
struct V6;

impl Family for V4 {
    type Addrs = u64;
    const V6: bool = false;

    #[inline]
    fn addrs(plain: &Plain, frame: &[u8]) -> u64 {
        plain.addrs_v4(frame)
    }

    #[inline]
    fn hash(flows: &Flows, addrs: &u64, ports: u32, proto: u8) -> u64 {
        flows.hash_v4(*addrs, ports, proto)
    }

    #[inline]
    fn confirm(flows: &Flows, look: &Look, addrs: &u64) -> Option<Hit> {
        flows.confirm_v4(look.probe, *addrs, look.ports, look.plain.proto().0)
    }

    #[inline]
    fn translated(flows: &Flows, hit: Hit, direction: Direction) -> Option<u64> {
        flows.translated_v4(hit, direction)
    }

    #[inline(always)]
    fn rewrite(plain: &Plain, frame: &mut [u8], addrs: u64, ports: u32, deltas: Deltas) {
        plain.rewrite_v4(frame, addrs, ports, deltas);
    }
}

impl Family for V6 {
    type Addrs = [u64; 4];
    const V6: bool = true;

    #[inline]
    fn addrs(plain: &Plain, frame: &[u8]) -> [u64; 4] {
        plain.addrs_v6(frame)
    }

    #[inline]
    fn hash(flows: &Flows, addrs: &[u64; 4], ports: u32, proto: u8) -> u64 {
        flows.hash_v6(addrs, ports, proto)
    }

    #[inline]
    fn confirm(flows: &Flows, look: &Look, addrs: &[u64; 4]) -> Option<Hit> {
        flows.confirm_v6(look.probe, addrs, look.ports, look.plain.proto().0)
    }

    #[inline]
    fn translated(flows: &Flows, hit: Hit, direction: Direction) -> Option<[u64; 4]> {
        flows.translated_v6(hit, direction)
    }

    #[inline(always)]
    fn rewrite(plain: &Plain, frame: &mut [u8], addrs: [u64; 4], ports: u32, deltas: Deltas) {
        plain.rewrite_v6(frame, addrs, ports, deltas);
    }
}

/// What the frames of a burst with one tag have in common.
pub(super) struct Ingress<'t> {
    vid: u16,
    vlan: &'t Vlan,
    mac: u64,
    /// Where stations are that are heard, if it matters.
    place: Option<PortId>,
}

impl<'t> Ingress<'t> {
    /// The VLAN of a plain frame; one of the last two, most of the time.
    #[inline]
    fn of<'l>(
        last: &'l mut [Option<Self>; 2],
        tables: &'t Tables,
        port: PortId,
        plain: &Plain,
    ) -> Option<&'l Self> {
        let known = |at: usize| {
            last[at]
                .as_ref()
                .is_some_and(|last| last.vid == plain.vid())
        };
        let at = if known(0) {
            0
        } else if known(1) {
            1
        } else {
            last.swap(0, 1);
            last[0] = Self::find(tables, port, plain);
            0
        };
        last[at].as_ref()
    }

    #[cold]
    fn find(tables: &'t Tables, port: PortId, plain: &Plain) -> Option<Self> {
        let vlan = tables.vlans.demux(port, plain.encap())?;
        Some(Self {
            vid: plain.vid(),
            vlan,
            mac: vlan.mac_of(port).to_u64(),
            place: tables.segments(vlan.index).map(|s| s.place(port)),
        })
    }
}

impl State {
    /// The first pass: finds out which packets are plain, and asks for the memory where their flows are
    /// looked up.
    #[inline(never)]
    pub(super) fn look(&self, packets: &[Packet<'_>], looks: &mut ArrayVec<Option<Look>, BURST>) {
        for packet in packets.iter().take(BURST) {
            let look = Plain::parse(packet).map(|plain| {
                let frame = packet.data();
                let (ports, proto) = (plain.ports(frame), plain.proto().0);
                let flows = &self.flows;
                let hash = if plain.is_v6() {
                    V6::hash(flows, &V6::addrs(&plain, frame), ports, proto)
                } else {
                    V4::hash(flows, &V4::addrs(&plain, frame), ports, proto)
                };
                flows.prefetch(hash);
                Look {
                    plain,
                    ports,
                    hash,
                    probe: Probe::NONE,
                }
            });
            // There is room for each of a burst.
            let _ = looks.try_push(look);
        }
    }

    /// The second pass: finds out where their flows probably are, and asks for the memory of those.
    #[inline(never)]
    pub(super) fn probe(&self, looks: &mut [Option<Look>]) {
        for look in looks.iter_mut().flatten() {
            look.probe = self.flows.probe(look.hash);
        }
    }

    /// Forwards a packet that goes the straight way, and says by which port it leaves. `None`: it does
    /// not, and nothing has happened that would not happen on the long way (but that a neighbour may
    /// count as used though the packet is dropped there).
    #[inline]
    pub(super) fn straight<'t>(
        &mut self,
        tables: &'t Tables,
        now: Timestamp,
        port: PortId,
        packet: &mut Packet<'_>,
        look: &Look,
        last: &mut [Option<Ingress<'t>>; 2],
    ) -> Option<(PortId, FlowStep)> {
        let ingress = Ingress::of(last, tables, port, &look.plain)?;
        if look.plain.is_v6() {
            self.straight_as::<V6>(tables, now, packet, look, ingress)
        } else {
            self.straight_as::<V4>(tables, now, packet, look, ingress)
        }
    }

    #[inline(never)]
    fn straight_as<F: Family>(
        &mut self,
        tables: &Tables,
        now: Timestamp,
        packet: &mut Packet<'_>,
        look: &Look,
        ingress: &Ingress<'_>,
    ) -> Option<(PortId, FlowStep)> {
        let plain = &look.plain;
        let (len, headroom) = (packet.len(), packet.headroom());
        let frame = packet.data_mut();
        let (source_mac, destination_mac) = macs(frame)?;
        if destination_mac != ingress.mac {
            return None;
        }
        let hit = F::confirm(&self.flows, look, &F::addrs(plain, frame))?;
        // Before anything is sent, for it may go back to the same station. The long way does so too.
        if let Some(place) = ingress.place {
            let (vlan, mac) = (ingress.vlan.index, MacAddr::from_u64(source_mac));
            tables.stations.heard(vlan, mac, place);
        }
        let direction = hit.direction();
        // That of a hairpin never is.
        if self.flows.hit(hit)?.data().stamp != tables.stamp() {
            self.bring_up_to_date(tables, hit)?;
        }
        let tcp = plain.tcp(frame).map(|tcp| TcpSegment {
            seq: tcp.seq,
            ack: tcp.ack,
            payload_len: u32::from(plain.payload_len()),
            window: tcp.window,
            flags: tcp.flags,
            scale: None,
            cut: false,
        });
        let addrs = F::translated(&self.flows, hit, direction)?;
        let flow = self.flows.hit(hit)?;
        // Before the neighbour is asked for: who sends what is dropped must not keep it fresh.
        if !flow.passes(direction, tcp.as_ref()) {
            return None;
        }
        let data = flow.data();
        let (leg, deltas, step) = match direction {
            Direction::Original => {
                // A last hop that has moved is followed on the long way.
                let here = Leg::last_hop(ingress.vlan.index, source_mac);
                if data.reply != here && data.reply.is_last_hop() && ingress.vlan.auto_lasthop {
                    return None;
                }
                (data.original, data.deltas, FlowStep::Original)
            }
            Direction::Reply => (data.reply, data.deltas.inverted(), FlowStep::Reply),
        };
        let mac = match leg.next() {
            NextHop::LastHop(mac) => mac,
            NextHop::Neighbor(neighbor) => match self.neighbors.mac(neighbor) {
                Resolution::Reachable(mac) => mac,
                _ => return None,
            },
            NextHop::Unresolved | NextHop::Round => return None,
        };
        let vlan = leg.vlan();
        let exit = tables.exit(vlan)?;
        let octets = plain.end() - plain.l3();
        if octets > exit.mtu {
            return None;
        }
        let (out, headers) = if let Some(port) = exit.single {
            (port, &exit.headers)
        } else {
            let flow = || flow_hash(&FlowKey::from(plain.tuple(frame)));
            let port = tables.egress_port(vlan, mac, &self.own, flow)?;
            (port, exit.headers_of(port))
        };
        let header = headers.get(F::V6, tables.inserts_tag(out));
        if header.len() > plain.l3() + headroom {
            return None;
        }
        let ports = flow.translated_ports(direction);
        flow.pass(direction, tcp.as_ref(), u32::try_from(octets).ok()?, now);
        count_service(tables, self.worker, flow.data(), direction, len);
        // From here on it goes.
        F::rewrite(plain, frame, addrs, ports, deltas);
        packet.cut(plain.end());
        // There is room for it: that was asked.
        let _ = packet.set_header(plain.l3(), mac, header);
        packet.pad();
        Some((out, step))
    }
}

/// Source and destination MAC address as numbers.
#[inline]
fn macs(frame: &[u8]) -> Option<(u64, u64)> {
    let destination = u64::from_be_bytes(*frame.first_chunk()?) >> 16;
    let source = u64::from_be_bytes(*frame.get(6..)?.first_chunk()?) >> 16;
    Some((source, destination))
}
