//! Packets of a flow: check its answer against the configuration, follow its state, rewrite, send.

use conntrack::{Direction, EndReason, FlowId, FlowRef, Hit, Invalid, Observed, Segment};
use lb::{DownAction, MemberId, MemberState};
use net::{Addr, FlowKey, IpProto, Layers, MacAddr, Network, Packet, Rewrite, RewriteError, Tuple};
use vlan::Event;
use vlan::Owner;
use vlan::Vlan;
use vlan::neighbor::Resolution;

use super::fragments::cut;
use super::mapped::has_mapping;
use super::{Arrival, FlowData, Leg, NextHop, State, sctp, tcp_segment};
use crate::egress::flow_hash;
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, FlowStep, Held, Verdict, Whose};

/// Whether the next attempt to open the flow may go to another member: a client that is told of the first
/// gives up.
pub(super) fn may_choose_another(step: FlowStep, data: &FlowData) -> bool {
    step == FlowStep::Opened && data.member != MemberId::ROUTED && !has_mapping(data.member)
}

/// What a new configuration means for a flow of the old one.
pub(super) enum Fate {
    /// Nothing: it goes on as before.
    Keep,
    /// Its end is told to whoever sends on it.
    Reset,
    /// It is forgotten silently.
    Forget,
    /// It is forgotten, and the packet is treated as the first of a new one.
    Reselect,
}

impl State {
    pub(super) fn forward(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        id: FlowId,
        direction: Direction,
    ) -> Verdict {
        // A packet that may not be forwarded must not change the state either.
        if layers.ttl <= 1 {
            return self.out_of_hops(tables, arrival, packet, layers);
        }
        let Some(flow) = self.flows.get(id) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        let data = flow.data();
        // Nobody else on the wire has an address of ours.
        if data.is_hairpin() && !arrival.round && tables.self_ips.contains(&layers.key.src) {
            return Verdict::Drop(DropReason::MartianAddress);
        }
        if !data.is_current(tables) {
            match fate(tables, flow) {
                Fate::Keep => self.renew(tables, id),
                Fate::Reset => {
                    self.end_flow(tables, id, EndReason::Removed);
                    if layers.key.proto == IpProto::TCP {
                        return self.reset(tables, arrival, packet, layers, Answer::ResetFlowGone);
                    }
                    if layers.key.proto == IpProto::SCTP {
                        return self.abort(tables, arrival, packet, layers, Answer::AbortFlowGone);
                    }
                    return self.refuse(tables, arrival, packet, layers, DropReason::FlowGone);
                }
                Fate::Forget => {
                    self.end_flow(tables, id, EndReason::Removed);
                    return Verdict::Drop(DropReason::FlowGone);
                }
                // A last answer of the member that is gone still reaches its client; the client's next
                // packet goes to another.
                Fate::Reselect if direction == Direction::Reply => {}
                Fate::Reselect => {
                    self.end_flow(tables, id, EndReason::Removed);
                    return self.without_flow(tables, arrival, packet, layers);
                }
            }
        }
        let step = match direction {
            Direction::Original => FlowStep::Original,
            Direction::Reply => FlowStep::Reply,
        };
        self.translate(tables, arrival, packet, layers, id, step)
    }

    /// Whether the configuration leaves a flow as it is; if so, its answer is up to date then.
    pub(super) fn still_stands(&mut self, tables: &Tables, id: FlowId) -> bool {
        let Some(flow) = self.flows.get(id) else {
            return false;
        };
        if flow.data().is_current(tables) {
            return true;
        }
        let keep = matches!(fate(tables, flow), Fate::Keep);
        if keep {
            self.renew(tables, id);
        }
        keep
    }

    /// Brings the answer of a flow up to date that the new configuration leaves as it is; `None` if it does not,
    /// and the long way knows what to do.
    #[cold]
    pub(super) fn bring_up_to_date(&mut self, tables: &Tables, hit: Hit) -> Option<()> {
        let id = self.flows.id(hit)?;
        let flow = self.flows.get(id)?;
        if flow.data().is_hairpin() || !matches!(fate(tables, flow), Fate::Keep) {
            return None;
        }
        self.renew(tables, id);
        Some(())
    }

    /// Stamps a flow with the new configuration. Routed next hops are looked up anew; a last hop stays
    /// as long as its VLAN is there and wants it, for it does not come from the configuration.
    pub(super) fn renew(&mut self, tables: &Tables, id: FlowId) {
        let member = self.flows.get(id).map(|flow| flow.data().member);
        let way = member.and_then(|member| tables.member_ways.get(member.index()));
        // A member that is gone may keep its flows.
        let towards = member
            .zip(way.and_then(Option::as_ref))
            .map(|(member, way)| self.leg_to(member, way));
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let data = flow.data_mut();
        let original = data.original.vlan();
        // Towards the client of a mapping it is the station that the client was heard from.
        if !data.original.is_last_hop() {
            data.original = towards.unwrap_or(Leg::new(original, NextHop::Unresolved));
        }
        let reply = data.reply.vlan();
        let wants = |vlan: &Vlan| vlan.auto_lasthop;
        if !(data.reply.is_last_hop() && tables.vlans.get(reply).is_some_and(wants)) {
            data.reply = Leg::new(reply, NextHop::Unresolved);
        }
        data.stamp_with(tables);
    }

    /// Follows the state of the flow, rewrites the packet and sends it on its way.
    pub(super) fn translate(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        id: FlowId,
        step: FlowStep,
    ) -> Verdict {
        let direction = if step == FlowStep::Reply {
            Direction::Reply
        } else {
            Direction::Original
        };
        let segment = Segment {
            tcp: tcp_segment(packet, layers),
            sctp: sctp::chunks(packet, layers),
            // The IP packet: neither Ethernet's header nor its padding.
            bytes: u32::try_from(layers.end - layers.l3).unwrap_or(u32::MAX),
        };
        match self.flows.observe(id, direction, &segment, arrival.now) {
            Observed::Accept { .. } => {}
            Observed::Reopen => {
                // A new connection with the tuple of one that is over.
                self.end_flow(tables, id, EndReason::Reopened);
                return self.without_flow(tables, arrival, packet, layers);
            }
            Observed::Invalid(_) if layers.key.proto == IpProto::SCTP => {
                return Verdict::Drop(DropReason::SctpInvalid);
            }
            Observed::Invalid(Invalid::OutOfWindow) => {
                return Verdict::Drop(DropReason::TcpOutOfWindow);
            }
            Observed::Invalid(_) => return Verdict::Drop(DropReason::TcpInvalid),
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        if direction == Direction::Original {
            follow_last_hop(flow.data_mut(), arrival);
        }
        let data = *flow.data();
        let (leg, deltas) = match direction {
            Direction::Original => (data.original, data.deltas),
            Direction::Reply => (data.reply, data.deltas.inverted()),
        };
        let Some(to) = self.flows.translated(id, direction) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        let len = packet.len();
        let rewrite = Rewrite::with_deltas(to, deltas);
        if let Err(error) = rewrite.apply(packet, layers) {
            return Verdict::Drop(match error {
                RewriteError::TtlExceeded => DropReason::TtlExceeded,
                RewriteError::Fragment => DropReason::Fragment,
                RewriteError::Mismatch => DropReason::FlowGone,
            });
        }
        super::mss::clamp(tables, [arrival.vlan.index, leg.vlan()], packet, layers);
        let (mut verdict, found) = self.send(tables, packet, layers, leg, &to, step);
        if found != leg
            && let Some(flow) = self.flows.get_mut(id)
        {
            let data = flow.data_mut();
            match direction {
                Direction::Original => {
                    data.original = found;
                    data.stamp_with(tables);
                    let member = data.member;
                    self.relearn(member, found);
                }
                Direction::Reply => {
                    data.reply = found;
                    data.stamp_with(tables);
                }
            }
        }
        if let Verdict::Hold(held, _) = &mut verdict {
            held.whose = Some(Whose {
                flow: (id, direction),
                came: (arrival.vlan.index, arrival.port),
                from: arrival.source_mac,
            });
        }
        if let Verdict::Drop(reason) = verdict {
            let may_choose = may_choose_another(step, &data);
            let sent = (&rewrite, found, may_choose);
            return self.undelivered(tables, arrival, packet, layers, sent, reason);
        }
        self.count_service(tables, &data, direction, len);
        self.went = Some((id, direction));
        verdict
    }

    /// Writes the Ethernet header towards `leg`. Gives back the leg with what was found out about
    /// its next hop, for the flow to keep.
    pub(super) fn send(
        &mut self,
        tables: &Tables,
        packet: &mut Packet<'_>,
        layers: &Layers,
        leg: Leg,
        to: &Tuple,
        step: FlowStep,
    ) -> (Verdict, Leg) {
        let (leg, way) = match self.resolve(tables, leg, layers, to) {
            Ok(resolved) => resolved,
            Err(reason) => return (Verdict::Drop(reason), leg),
        };
        // How long it may be, and what is in front of it, is asked where it leaves in the end.
        let Some(way) = way else {
            return (Verdict::Hairpin(leg.vlan(), step), leg);
        };
        let Some(exit) = tables.exit(leg.vlan()) else {
            return (Verdict::Drop(DropReason::NoRoute), leg);
        };
        let too_long = layers.end - layers.l3 > exit.mtu;
        if too_long && !self.prepare_cut(packet, layers, &FlowKey::from(*to)) {
            return (Verdict::Drop(DropReason::MtuExceeded), leg);
        }
        // What lies behind the IP packet is padding and stays here.
        packet.cut(layers.end);
        let v6 = layers.network == Network::Ipv6;
        let mac = match way {
            Way::Known(mac) => mac,
            Way::Wait(mut held) => {
                // Without destination for now; written anew when the neighbour is known.
                let header = exit.headers.get(v6, false);
                let Ok(l3) = packet.set_header(layers.l3, MacAddr::ZERO, header) else {
                    return (Verdict::Drop(DropReason::NoRoom), leg);
                };
                held.l3 = u16::try_from(l3).unwrap_or(u16::MAX);
                return (Verdict::Hold(held, step), leg);
            }
        };
        let way = match exit.single {
            Some(port) => Some((port, &exit.headers)),
            None => tables
                .egress_port(leg.vlan(), mac, &self.own, || flow_hash(&layers.key))
                .map(|port| (port, exit.headers_of(port))),
        };
        let Some((port, headers)) = way else {
            return (Verdict::Drop(DropReason::PortDown), leg);
        };
        let header = headers.get(v6, tables.inserts_tag(port));
        let Ok(l3) = packet.set_header(layers.l3, mac, header) else {
            return (Verdict::Drop(DropReason::NoRoom), leg);
        };
        if too_long {
            return (Verdict::Cut(port, step, cut(packet, l3, exit.mtu)), leg);
        }
        packet.pad();
        (Verdict::Transmit(port, step), leg)
    }

    /// Finds the station that `leg` leads to; none if that is we.
    #[inline]
    fn resolve(
        &mut self,
        tables: &Tables,
        leg: Leg,
        layers: &Layers,
        to: &Tuple,
    ) -> Result<(Leg, Option<Way>), DropReason> {
        let resolution = match leg.next() {
            NextHop::LastHop(mac) => return Ok((leg, Some(Way::Known(mac)))),
            NextHop::Neighbor(neighbor) => self.neighbors.mac(neighbor),
            NextHop::Round => return Ok((leg, None)),
            NextHop::Unresolved => Resolution::Stale,
        };
        if let Resolution::Reachable(mac) = resolution {
            return Ok((leg, Some(Way::Known(mac))));
        }
        self.resolve_anew(tables, layers, &FlowKey::from(*to).dst, resolution)
    }

    /// Finds the station that packets to `destination` are sent to.
    #[cold]
    fn resolve_anew(
        &mut self,
        tables: &Tables,
        layers: &Layers,
        destination: &Addr,
        mut resolution: Resolution,
    ) -> Result<(Leg, Option<Way>), DropReason> {
        let route = tables
            .routes
            .lookup(destination.ip())
            .ok_or(DropReason::NoRoute)?;
        if tables.self_ips.contains(destination) {
            return Ok((Leg::new(route.vlan, NextHop::Round), None));
        }
        let next_hop = route.next_hop(*destination);
        let neighbor = self.neighbors.lookup(route.vlan, &next_hop);
        if let Some(found) = neighbor {
            resolution = self.neighbors.mac(found);
        }
        let next = neighbor.map_or(NextHop::Unresolved, NextHop::Neighbor);
        let leg = Leg::new(route.vlan, next);
        match resolution {
            Resolution::Reachable(mac) => Ok((leg, Some(Way::Known(mac)))),
            // The resolver forgets it when its hold-down is over; then it is asked for again.
            Resolution::Failed => Err(DropReason::NeighborUnreachable),
            Resolution::Pending | Resolution::Stale => {
                self.tell(Event::Needed {
                    vlan: route.vlan,
                    addr: next_hop,
                });
                Ok((
                    leg,
                    Some(Way::Wait(Held {
                        vlan: route.vlan,
                        neighbor,
                        next_hop,
                        flow_hash: flow_hash(&layers.key),
                        l3: 0,
                        ethertype: net::emit::ethertype_of(layers.network),
                        whose: None,
                    })),
                ))
            }
        }
    }
}

/// What is known of the way to a next hop.
enum Way {
    /// Its MAC address.
    Known(MacAddr),
    /// Nothing yet.
    Wait(Held),
}

pub(super) fn fate(tables: &Tables, flow: FlowRef<'_, FlowData>) -> Fate {
    let data = flow.data();
    let Some(virtual_server) = tables.virtual_servers.get(data.virtual_server) else {
        return Fate::Reset;
    };
    // Replies to a translated source that is no longer ours would not come back to us; nor may we
    // speak as whoever has the address now.
    let source = flow.reply().dst;
    if source != flow.original().src
        && tables.owned.get(data.original.vlan(), &source) != Some(Owner::SelfIp)
        && !tables.snat.addresses.contains(&source)
    {
        return Fate::Reset;
    }
    if virtual_server.profile.routed {
        let admitted = data.member == MemberId::ADMITTED;
        if admitted && !tables.self_ips.contains(&flow.original().dst) {
            return Fate::Reset;
        }
        return Fate::Keep;
    }
    let member = tables
        .pools
        .member(data.member)
        .filter(|(pool, _)| pool.id() == virtual_server.pool)
        .map(|(_, member)| member.state);
    match (member, virtual_server.profile.down_action) {
        // A datagram flow does not notice that its server is gone, and its address may soon be
        // another pod's.
        (None, DownAction::None) if flow.proto() == IpProto::UDP => Fate::Reselect,
        (Some(MemberState::Up | MemberState::Draining), _) | (_, DownAction::None) => Fate::Keep,
        (_, DownAction::Reject) => Fate::Reset,
        (_, DownAction::Drop) => Fate::Forget,
        (_, DownAction::Reselect) => Fate::Reselect,
    }
}

/// The client's last hop has another MAC address now, or its packets come by another VLAN: replies
/// follow (the other router of a pair took over).
fn follow_last_hop(data: &mut FlowData, arrival: &Arrival<'_>) {
    if matches!(data.reply.next(), NextHop::LastHop(_)) && arrival.vlan.auto_lasthop {
        data.reply = Leg::new(arrival.vlan.index, NextHop::LastHop(arrival.source_mac));
    }
}
