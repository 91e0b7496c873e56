//! Packets without a flow: virtual server, member, route, translation; the flow is inserted last,
//! when every step agreed, so a refusal leaves nothing behind.

use conntrack::{EndReason, InsertError, NewFlow, Timeouts};
use lb::{Snat, VirtualServer};
use net::header::tcp_flags;
use net::{Addr, Deltas, FlowKey, IpProto, L4Port, Layers, Packet, VlanIndex};
use vlan::Owner;

use super::local::reset;
use super::{Arrival, FlowData, Leg, NextHop, State, service_counters};
use crate::steer::Question;
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, FlowStep, Verdict};

impl State {
    pub(super) fn without_flow(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let key = &layers.key;
        if let Some(reason) = unanswerable(&key.dst) {
            return Verdict::Drop(reason);
        }
        let owner = tables.owned.get(arrival.vlan.index, &key.dst);
        let is_echo = matches!(
            (key.proto, layers.icmp_type),
            (IpProto::ICMP, 8) | (IpProto::ICMPV6, 128)
        );
        if is_echo && owner.is_some() {
            return self.echo(tables, arrival, packet, layers);
        }
        let listening = tables
            .virtual_servers
            .lookup(key.proto, &key.dst, key.dport(), arrival.vlan.index)
            // A wildcard does not take what is meant for ourselves, by whichever VLAN it comes.
            .filter(|vs| vs.destination.is_host() || !tables.self_ips.contains(&key.dst));
        if let Some(worker) = self.elsewhere(tables, arrival, layers, owner, listening) {
            return Verdict::Handoff(worker);
        }
        if let Some(virtual_server) = listening {
            return self.for_virtual_server(tables, arrival, packet, layers, virtual_server);
        }
        match (owner, key.proto) {
            (_, IpProto::ICMP | IpProto::ICMPV6) => Verdict::Drop(DropReason::IcmpIgnored),
            (Some(Owner::SelfIp), _) => Self::to_self_ip(arrival, packet, layers),
            _ => Verdict::Drop(DropReason::NoVirtualServer),
        }
    }

    /// The worker that has or gets the packet's flow, unless it is this one.
    fn elsewhere(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        layers: &Layers,
        owner: Option<Owner>,
        listening: Option<&VirtualServer>,
    ) -> Option<u16> {
        let key = &layers.key;
        if self.steering.workers() == 1 || !matches!(key.proto, IpProto::TCP | IpProto::UDP) {
            return None;
        }
        // One that has no ready member listens nowhere, and keeps its flows.
        let silent = || {
            let servers = &tables.virtual_servers;
            servers.lookup_silent(key.proto, &key.dst, key.dport())
        };
        let to_self_ip = owner == Some(Owner::SelfIp) || tables.self_ips.contains(&key.dst);
        let server = listening
            .or_else(silent)
            .filter(|vs| vs.destination.is_host() || !to_self_ip);
        let question = Question {
            key,
            cmp_hash: tables.spread.of_vlan(arrival.vlan.index),
            server,
            to_self_ip,
            opens: key.proto != IpProto::TCP || opens_connection(layers),
        };
        let me = u16::try_from(self.worker).unwrap_or(0);
        self.steering
            .elsewhere(&tables.spread, &question, me, self.asked)
    }

    /// Whether the reply tuple's packets come back to this worker, should a virtual server listen on
    /// the self IP that they go to.
    fn comes_back(&self, tables: &Tables, reply: &FlowKey, vlan: VlanIndex) -> bool {
        if self.steering.workers() == 1 {
            return true;
        }
        let servers = &tables.virtual_servers;
        let server = servers
            .lookup(reply.proto, &reply.dst, reply.dport(), vlan)
            .or_else(|| servers.lookup_silent(reply.proto, &reply.dst, reply.dport()))
            .filter(|vs| vs.destination.is_host());
        if server.is_none() {
            return true;
        }
        let question = Question {
            key: reply,
            cmp_hash: tables.spread.of_vlan(vlan),
            server,
            to_self_ip: true,
            opens: true,
        };
        let way = self.steering.itinerary(&tables.spread, &question);
        way.last().map(|worker| usize::from(*worker)) == Some(self.worker)
    }

    fn for_virtual_server(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Verdict {
        // Only a SYN opens a connection; the rest of one that we do not know is refused, so that its
        // sender starts anew instead of waiting.
        if layers.key.proto == IpProto::TCP && !opens_connection(layers) {
            return reset(arrival, packet, layers, Answer::ResetNoFlow);
        }
        if layers.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        match self.open(tables, arrival, packet, layers, virtual_server) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn open(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Result<Verdict, DropReason> {
        let original = layers.key;
        let pool = tables
            .pools
            .get(virtual_server.pool)
            .ok_or(DropReason::NoMember)?;
        let member = self
            .selector
            .select(pool, virtual_server.method, &original.src)
            .ok_or(DropReason::NoMember)?;
        let (member_id, member_port) = (member.id, member.port);
        let member_addr = Addr::from(member.addr);
        let route = *tables
            .routes
            .lookup(member.addr)
            .ok_or(DropReason::NoRoute)?;

        let source = match virtual_server.snat {
            Snat::None => original.src,
            Snat::Automap => {
                let egress = tables.vlans.get(route.vlan).ok_or(DropReason::NoRoute)?;
                let next_hop = route.next_hop(member_addr).ip();
                Addr::from(egress.self_ip_for(next_hop).ok_or(DropReason::NoSelfIp)?)
            }
        };
        let towards = |sport| FlowKey::new(source, member_addr, sport, member_port, original.proto);
        let outgoing = match virtual_server.snat {
            Snat::None => {
                let outgoing = towards(original.sport());
                if self.flows.contains(&outgoing.inverted()) {
                    return Err(DropReason::TupleInUse);
                }
                outgoing
            }
            // A port is leased exactly while its reply tuple is in the table of the one worker that
            // such replies come to.
            Snat::Automap => {
                let start = self.random.next();
                let me = u16::try_from(self.worker).unwrap_or(0);
                let ours = self.steering.ports_to(me, &towards(L4Port(0)).inverted());
                self.stripe
                    .candidates_that(original.sport(), start, ours)
                    .map(|port| (towards(port), towards(port).inverted()))
                    .find(|(_, reply)| {
                        !self.flows.contains(reply) && self.comes_back(tables, reply, route.vlan)
                    })
                    .ok_or(DropReason::SnatExhausted)?
                    .0
            }
        };

        let reply_leg = if arrival.vlan.auto_lasthop {
            Leg::new(arrival.vlan.index, NextHop::LastHop(arrival.source_mac))
        } else {
            let back = tables
                .routes
                .lookup(original.src.ip())
                .ok_or(DropReason::NoRoute)?;
            Leg::new(back.vlan, NextHop::Unresolved)
        };
        let data = FlowData {
            virtual_server: virtual_server.id,
            member: member_id,
            stamp: tables.stamp(),
            original: Leg::new(route.vlan, NextHop::Unresolved),
            reply: reply_leg,
            deltas: Deltas::between(&original, &outgoing),
        };
        let flow = NewFlow {
            original,
            reply: outgoing.inverted(),
            timeouts: timeouts(virtual_server),
            data,
        };
        let id = match self.flows.insert(flow, arrival.now) {
            Ok(id) => id,
            Err(InsertError::Full) => return Err(DropReason::TableFull),
            Err(InsertError::Collision) => return Err(DropReason::TupleInUse),
        };
        self.selector.opened(member_id);
        for cell in service_counters(tables, self.worker, &data) {
            cell.connections.add(1);
            cell.connections_total.add(1);
        }
        self.counters.flows_opened_total.add(1);
        self.counters.flows.set(self.flows.len() as u64);
        let verdict = self.translate(tables, arrival, packet, layers, id, FlowStep::Opened);
        // What could not be sent on has opened nothing: the next attempt chooses anew.
        if matches!(verdict, Verdict::Drop(_)) {
            self.end_flow(tables, id, EndReason::Removed);
        }
        Ok(verdict)
    }
}

/// Whether a TCP segment asks for a new connection.
fn opens_connection(layers: &Layers) -> bool {
    let interesting = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
    layers.tcp_flags & interesting == tcp_flags::SYN
}

/// Why nothing may be said to or on behalf of a destination that is no station's, even if the frame
/// was sent to our MAC address (RFC 1122 section 3.2.1.3, RFC 9293 section 3.10.7.4).
fn unanswerable(addr: &Addr) -> Option<DropReason> {
    let group = if addr.is_v4() {
        match addr.v4_octets() {
            [255, 255, 255, 255] => true,
            [240..=255, ..] => return Some(DropReason::MartianAddress),
            [first, ..] => first >= 224,
        }
    } else {
        addr.octets()[0] == 0xff
    };
    group.then_some(DropReason::Multicast)
}

/// How long flows of a virtual server may be silent.
fn timeouts(virtual_server: &VirtualServer) -> Timeouts {
    let base = if virtual_server.proto == IpProto::TCP {
        Timeouts::tcp()
    } else {
        Timeouts::udp()
    };
    let base = base.with_idle(virtual_server.idle_timeout);
    // Traffic that is never answered, such as syslog, is traffic all the same.
    if virtual_server.proto == IpProto::UDP {
        base.with_opening(virtual_server.idle_timeout)
    } else {
        base
    }
}
