//! Packets without a flow: virtual server, member, route, translation; the flow is inserted last,
//! when every step agreed, so a refusal leaves nothing behind.

use conntrack::{Direction, EndReason, Hashed, InsertError};
use lb::{MemberId, VirtualServer};
use net::header::tcp_flags;
use net::{Addr, Deltas, FlowKey, IpProto, Layers, Packet, Tuple};
use vlan::Owner;

use super::lease::Way;
use super::{
    Arrival, FlowData, Flows, Leg, NextHop, State, count_in_both, hairpin, mapped, options, sctp,
    tcp_segment,
};
use crate::journal::Kind;
use crate::steer::Question;
use crate::tables::{MemberWay, Tables};
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
        if !arrival.round && tables.self_ips.contains(&key.src) {
            return Verdict::Drop(DropReason::MartianAddress);
        }
        let owner = tables.owned.get(arrival.vlan.index, &key.dst);
        if owner.is_some()
            && let Some(unknown) = options::unknown(packet, layers)
        {
            return self.unknown_option(tables, arrival, packet, layers, unknown);
        }
        let is_echo = matches!(
            (key.proto, layers.icmp_type),
            (IpProto::ICMP, 8) | (IpProto::ICMPV6, 128)
        );
        if is_echo && owner.is_some() {
            return self.echo(tables, arrival, packet, layers);
        }
        let is_icmp = matches!(key.proto, IpProto::ICMP | IpProto::ICMPV6);
        // An ICMP packet opens no flow that asks for nothing.
        let listening =
            Self::listening(tables, arrival, key, owner).filter(|_| is_echo || !is_icmp);
        if (!is_icmp || layers.is_echo())
            && let Some(worker) = self.elsewhere(tables, arrival, key, owner, listening)
        {
            return Verdict::Handoff(worker);
        }
        if let Some(virtual_server) = listening {
            return self.for_virtual_server(tables, arrival, packet, layers, virtual_server);
        }
        if let Some(verdict) = self.admit(tables, arrival, packet, layers) {
            return verdict;
        }
        match (owner, key.proto) {
            // What came round is for nobody but those whose port it is.
            _ if arrival.round || tables.snat.addresses.contains(&key.dst) => {
                Verdict::Drop(DropReason::SnatUnsolicited)
            }
            (_, IpProto::ICMP | IpProto::ICMPV6) => Verdict::Drop(DropReason::IcmpIgnored),
            (Some(Owner::SelfIp), _) => self.for_self_ip(tables, arrival, packet, layers),
            _ => Verdict::Drop(DropReason::NoVirtualServer),
        }
    }

    /// The virtual server that listens where a packet goes to.
    #[inline]
    pub(super) fn listening<'t>(
        tables: &'t Tables,
        arrival: &Arrival<'_>,
        key: &FlowKey,
        owner: Option<Owner>,
    ) -> Option<&'t VirtualServer> {
        if arrival.round {
            return None;
        }
        tables
            .virtual_servers
            .lookup(key.proto, &key.dst, key.dport(), arrival.vlan.index)
            // A wildcard does not take what is meant for ourselves, by whichever VLAN it comes; unless it may be
            // meant for another client that is translated to that address.
            .filter(|vs| {
                vs.destination.is_host()
                    || !tables.self_ips.contains(&key.dst)
                    || hairpin::may_be_for_a_client(tables, vs, key, owner)
            })
    }

    /// The worker that has or gets the packet's flow, unless it is this one.
    #[inline]
    pub(super) fn elsewhere(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        key: &FlowKey,
        owner: Option<Owner>,
        listening: Option<&VirtualServer>,
    ) -> Option<u16> {
        if self.steering.workers() == 1 {
            return None;
        }
        self.elsewhere_among(tables, arrival, key, owner, listening)
    }

    fn elsewhere_among(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        key: &FlowKey,
        owner: Option<Owner>,
        listening: Option<&VirtualServer>,
    ) -> Option<u16> {
        // One that has no ready member listens nowhere, and keeps its flows.
        let silent = || {
            let servers = &tables.virtual_servers;
            servers.lookup_silent(key.proto, &key.dst, key.dport())
        };
        let to_self_ip = owner == Some(Owner::SelfIp) || tables.self_ips.contains(&key.dst);
        let silent = || silent().filter(|vs| vs.destination.is_host() || !to_self_ip);
        let server = listening.or_else(silent).filter(|_| !arrival.round);
        let question = Question {
            key,
            cmp_hash: tables.spread.of_vlan(arrival.vlan.index),
            server,
            to_self_ip,
        };
        let me = u16::try_from(self.worker).unwrap_or(0);
        // What came round is most often for the one whose mapping it is.
        let owner = self.steering.of_port(key.dport());
        if arrival.round && tables.spread.mapped && owner != me && !self.asked.has(owner) {
            return Some(owner);
        }
        self.steering
            .elsewhere(&tables.spread, &question, me, self.asked)
    }

    /// The leg towards a member. It is found once, and [again](Self::relearn) when a packet finds that its
    /// neighbour is not what it was.
    #[inline]
    pub(super) fn leg_to(&mut self, member: MemberId, way: &MemberWay) -> Leg {
        match self.legs.get(member.index()) {
            Some(leg) if matches!(leg.next(), NextHop::Neighbor(_)) => *leg,
            _ => self.find_leg(member, way),
        }
    }

    /// Takes note of the leg towards a member that was found for one of its flows.
    pub(super) fn relearn(&mut self, member: MemberId, leg: Leg) {
        if let Some(known) = self.legs.get_mut(member.index()) {
            *known = leg;
        }
    }

    #[cold]
    fn find_leg(&mut self, member: MemberId, way: &MemberWay) -> Leg {
        let neighbor = self.neighbors.lookup(way.vlan, &way.next_hop);
        let next = neighbor.map_or(NextHop::Unresolved, NextHop::Neighbor);
        let leg = Leg::new(way.vlan, next);
        self.relearn(member, leg);
        leg
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
        // sender starts anew instead of waiting, unless such connections are to be taken on.
        let picks_up = virtual_server.profile.tcp.loose_initialization && goes_on(layers);
        if layers.key.proto == IpProto::TCP && !opens_connection(layers) && !picks_up {
            if let Some(verdict) = self.proof(tables, arrival, packet, layers, virtual_server) {
                return verdict;
            }
            return self.reset(tables, arrival, packet, layers, Answer::ResetNoFlow);
        }
        if layers.key.proto == IpProto::SCTP && !sctp::opens(packet, layers) {
            return self.abort(tables, arrival, packet, layers, Answer::AbortNoAssociation);
        }
        if layers.ttl <= 1 {
            return self.out_of_hops(tables, arrival, packet, layers);
        }
        if let Some(verdict) = self.challenge(tables, arrival, packet, layers, virtual_server) {
            return verdict;
        }
        self.open_within_limits(tables, arrival, packet, layers, virtual_server)
    }

    pub(super) fn open(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Result<Verdict, DropReason> {
        let original = layers.key;
        let (member_id, towards, way) = if virtual_server.profile.routed {
            Self::routed(tables, &original)?
        } else {
            self.balanced(tables, &original, virtual_server)?
        };
        let beside = self.beside(&original, virtual_server, member_id);
        if let Some(id) = beside
            .as_ref()
            .and_then(|beside| self.flows.lookup_beside(beside))
        {
            return Ok(self.forward(tables, arrival, packet, layers, id, Direction::Original));
        }
        if tables.draining {
            return Err(DropReason::Draining);
        }
        if self.counted.concerns(virtual_server, arrival.now) {
            self.count_in(tables, virtual_server, &original.src, arrival.now)?;
        }
        let (reply, reply_hashed) = self.reply_tuple(tables, &original, &way, virtual_server)?;

        let reply_leg = Self::way_back(tables, arrival, &original)?;
        let is_mapped = mapped::is_mapped(virtual_server, original.proto);
        let member_id = if is_mapped {
            MemberId::MAPPED
        } else {
            member_id
        };
        let data = FlowData {
            virtual_server: virtual_server.id,
            member: member_id,
            stamp: FlowData::stamp_of(tables, towards, reply_leg),
            original: towards,
            reply: reply_leg,
            deltas: Deltas::between(&original, &reply.inverted()),
        };
        let lasts = self.lasting.of(&tables.timeouts, virtual_server.id);
        let now = arrival.now;
        let entered = if let Some(beside) = beside {
            let salt = salt(member_id);
            let flows = &mut self.flows;
            flows.enter_beside(beside, salt, reply_hashed, lasts, data, now)
        } else {
            let original_hashed = Flows::with_hash(Tuple::from(&original), arrival.hash);
            self.flows
                .enter(original_hashed, reply_hashed, lasts, data, now)
        };
        let id = match entered {
            Ok(id) => id,
            Err(InsertError::Full) => return Err(DropReason::TableFull),
            Err(InsertError::Collision) => return Err(DropReason::TupleInUse),
        };
        self.selector.opened(member_id);
        if is_mapped {
            self.keep_mapping(&original, &reply, &data);
        }
        count_in_both(tables, self.worker, &data, |cell| {
            cell.connections.add(1);
            cell.connections_total.add(1);
        });
        self.counters.flows_opened_total.add(1);
        self.counters.flows.set(self.flows.len() as u64);
        if goes_on(layers)
            && let Some(segment) = tcp_segment(packet, layers)
        {
            self.flows.pick_up(id, &segment);
        }
        self.note(id, Kind::Opened);
        let verdict = self.translate(tables, arrival, packet, layers, id, FlowStep::Opened);
        // What could not be sent on has opened nothing: the next attempt chooses anew.
        if matches!(verdict, Verdict::Drop(_) | Verdict::Reply(..)) {
            self.end_flow(tables, id, EndReason::Removed);
        }
        Ok(verdict)
    }

    /// The member for a new flow, and the way to it.
    #[inline]
    fn balanced(
        &mut self,
        tables: &Tables,
        original: &FlowKey,
        virtual_server: &VirtualServer,
    ) -> Result<(MemberId, Leg, Way), DropReason> {
        let pool = tables
            .pools
            .get(virtual_server.pool)
            .ok_or(DropReason::NoMember)?;
        let member = self
            .selector
            .select(pool, virtual_server.method, &original.src)
            .ok_or(DropReason::NoMember)?;
        let way = tables
            .member_ways
            .get(member.id.index())
            .and_then(Option::as_ref)
            .ok_or(DropReason::NoRoute)?;
        let to = Way {
            addr: Addr::from(member.addr),
            port: member.port,
            vlan: way.vlan,
            self_ip: way.source,
        };
        Ok((member.id, self.leg_to(member.id, way), to))
    }

    /// The way to a packet's own destination.
    fn routed(tables: &Tables, original: &FlowKey) -> Result<(MemberId, Leg, Way), DropReason> {
        let way = MemberWay::find(original.dst.ip(), &tables.routes, &tables.vlans)
            .ok_or(DropReason::NoRoute)?;
        // An address of ours where the packet would leave: nobody else is there, unless clients are translated
        // to it.
        let next = match tables.owned.get(way.vlan, &original.dst) {
            None => NextHop::Unresolved,
            Some(_) if tables.self_ips.contains(&original.dst) => NextHop::Round,
            Some(_) => return Err(DropReason::NoVirtualServer),
        };
        let to = Way {
            addr: original.dst,
            port: original.dport(),
            vlan: way.vlan,
            self_ip: way.source,
        };
        Ok((MemberId::ROUTED, Leg::new(way.vlan, next), to))
    }
}

impl State {
    /// What a flow to `member` is found by where each datagram is balanced by itself, so that a client has
    /// one for each member; see [`conntrack::Table::enter_beside`].
    #[inline]
    fn beside(
        &self,
        original: &FlowKey,
        virtual_server: &VirtualServer,
        member: MemberId,
    ) -> Option<Hashed> {
        let each = virtual_server.profile.udp.datagram_balancing;
        each.then(|| {
            self.flows
                .hashed_beside(Tuple::from(original), salt(member))
        })
    }
}

/// Tells the flows of one client to different members apart.
fn salt(member: MemberId) -> u32 {
    u32::try_from(member.index()).unwrap_or(u32::MAX)
}

/// Whether a TCP segment asks for a new connection.
pub(super) fn opens_connection(layers: &Layers) -> bool {
    let interesting = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
    layers.tcp_flags & interesting == tcp_flags::SYN
}

/// Whether a TCP segment is one of an open connection.
fn goes_on(layers: &Layers) -> bool {
    let interesting = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
    layers.tcp_flags & interesting == tcp_flags::ACK
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
