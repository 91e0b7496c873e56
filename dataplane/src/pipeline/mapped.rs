//! Flows of mappings that do not depend on the flow: the client's port is the same towards everybody, and
//! others may send to it as the virtual server's filtering says. See [`lb::mapping`].

use conntrack::{EndReason, Hashed, InsertError};
use lb::mapping::Refused;
use lb::{Endpoint, Filtering, Mapping, MemberId, Snat, VirtualServer, VirtualServerId};
use net::{Addr, Deltas, FlowKey, IpProto, L4Port, Layers, Packet, Tuple};
use vlan::Owner;

use super::lease::Way;
use super::open::opens_connection;
use super::{Arrival, FlowData, Leg, NextHop, State, service_counters};
use crate::journal::Kind;
use crate::tables::Tables;
use crate::verdict::{DropReason, FlowStep, Verdict};

/// What is kept of a mapping beside its ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Whose mapping it is.
    virtual_server: VirtualServerId,
    /// The way to the client.
    leg: Leg,
}

/// Whether flows of a virtual server share mappings.
#[inline]
pub(crate) fn is_mapped(virtual_server: &VirtualServer, proto: IpProto) -> bool {
    virtual_server.profile.nat.mapping == Mapping::EndpointIndependent
        && virtual_server.profile.routed
        && has_ports(proto)
}

/// Whether a port of an address that mappings share with flows which have ports of their own is for those: then
/// neither takes what the other needs, whichever comes first. It is the range of RFC 6335 section 6 for passing use.
#[inline]
pub(super) const fn is_for_flows(port: L4Port) -> bool {
    port.0 >= 49_152
}

/// Whether the protocol is one that mappings are made for.
pub(crate) fn has_ports(proto: IpProto) -> bool {
    let all = [IpProto::TCP, IpProto::UDP, IpProto::ICMP, IpProto::ICMPV6];
    all.contains(&proto)
}

const fn inside(original: &FlowKey) -> Endpoint {
    Endpoint {
        addr: original.src,
        port: original.sport(),
        proto: original.proto,
    }
}

/// The end that servers see: where replies go.
const fn outside(key: &FlowKey) -> Endpoint {
    Endpoint {
        addr: key.dst,
        port: key.dport(),
        proto: key.proto,
    }
}

/// What replies to a mapping's external port look like.
fn reply_to(way: &Way, source: Addr, port: L4Port, proto: IpProto) -> FlowKey {
    let sport = match proto {
        IpProto::ICMP | IpProto::ICMPV6 => port,
        _ => way.port,
    };
    FlowKey::new(way.addr, source, sport, port, proto)
}

impl State {
    /// The reply tuple of a flow whose client's port is translated to the same one towards everybody: that
    /// of its mapping, or of one that is to be made.
    pub(super) fn mapped_tuple(
        &mut self,
        tables: &Tables,
        original: &FlowKey,
        way: &Way,
        virtual_server: &VirtualServer,
        source: Addr,
    ) -> Result<(FlowKey, Hashed), DropReason> {
        // Not one by which the client goes another way; nor one whose address is gone: its flows end by themselves.
        let fits = |end: &Endpoint| match virtual_server.snat {
            Snat::Pool(pool) => tables
                .snat
                .pool(pool)
                .is_some_and(|pool| pool.has(&end.addr)),
            _ => tables.owned.get(way.vlan, &end.addr) == Some(Owner::SelfIp),
        };
        let known = self.mappings.of_internal(&inside(original), fits);
        let known = known.and_then(|id| self.mappings.get(id));
        if let Some(end) = known.map(|mapping| mapping.external) {
            return self.free_tuple(reply_to(way, end.addr, end.port, original.proto));
        }
        let per_client = virtual_server.profile.nat.per_client;
        let room = self.mappings.may_insert(&inside(original), per_client);
        if let Err(Refused::Client | Refused::Full) = room {
            self.count_snat(tables, virtual_server.snat, |c| {
                c.mappings_refused_total.add(1);
            });
            return Err(DropReason::NatMappings);
        }
        let start = self.random.next();
        let me = u16::try_from(self.worker).unwrap_or(0);
        let workers = self.steering.workers();
        let shared = tables.snat.shared.contains(&source);
        let ours = |port: &L4Port| port.0 % workers == me && !(shared && is_for_flows(*port));
        for port in self.stripe.candidates_that(original.sport(), start, ours) {
            let reply = reply_to(way, source, port, original.proto);
            if self.mappings.is_free(&outside(&reply))
                && let Ok(found) = self.free_tuple(reply)
            {
                return Ok(found);
            }
        }
        self.count_snat(tables, virtual_server.snat, |c| c.exhausted_total.add(1));
        Err(DropReason::SnatExhausted)
    }

    /// A flow of a mapping has been entered: the mapping is made if it is the first.
    pub(super) fn keep_mapping(&mut self, original: &FlowKey, reply: &FlowKey, data: &FlowData) {
        let kept = Kept {
            virtual_server: data.virtual_server,
            leg: data.reply,
        };
        let external = outside(reply);
        let same = |end: &Endpoint| *end == external;
        let known = self.mappings.of_internal(&inside(original), same);
        let id = known.or_else(|| self.mappings.insert(inside(original), external, kept));
        if let Some(id) = id {
            self.mappings.open(id, &reply.src, kept);
        }
        self.counters.nat_mappings.set(self.mappings.len() as u64);
    }

    /// A packet to an external port whose mapping lets its sender in. `None`: there is no such mapping, or
    /// it does not.
    pub(super) fn admit(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Option<Verdict> {
        let key = layers.key;
        if self.mappings.is_empty() || !matches!(key.proto, IpProto::TCP | IpProto::UDP) {
            return None;
        }
        // A client may not by itself: the other one would see an address from within (RFC 4787 REQ-9), and its
        // answers would pass us by. It is translated first, and what it sends comes round.
        let from_within = || {
            tables
                .virtual_servers
                .lookup(key.proto, &key.dst, key.dport(), arrival.vlan.index)
                .is_some_and(|vs| vs.profile.routed)
        };
        if !arrival.round && from_within() {
            return None;
        }
        let id = self.mappings.of_external(&outside(&key))?;
        let mapping = *self.mappings.get(id)?;
        let virtual_server = tables.virtual_servers.get(mapping.data.virtual_server)?;
        let nat = &virtual_server.profile.nat;
        let may = match nat.filtering {
            Filtering::AddressAndPortDependent => false,
            Filtering::AddressDependent => self.mappings.knows(id, &key.src),
            Filtering::EndpointIndependent => true,
        };
        if !may || nat.mapping != Mapping::EndpointIndependent {
            return None;
        }
        if key.proto == IpProto::TCP && !opens_connection(layers) {
            return None;
        }
        if layers.ttl <= 1 {
            return Some(self.out_of_hops(tables, arrival, packet, layers));
        }
        if tables.draining {
            return Some(Verdict::Drop(DropReason::Draining));
        }
        let client = mapping.internal;
        let reply = FlowKey::new(client.addr, key.src, client.port, key.sport(), key.proto);
        let Ok((reply, reply_hashed)) = self.free_tuple(reply) else {
            return Some(Verdict::Drop(DropReason::TupleInUse));
        };
        let Ok(leg) = Self::way_back(tables, arrival, &key) else {
            return Some(Verdict::Drop(DropReason::NoRoute));
        };
        let data = FlowData {
            virtual_server: virtual_server.id,
            member: MemberId::ADMITTED,
            stamp: FlowData::stamp_of(tables, mapping.data.leg, leg),
            original: mapping.data.leg,
            reply: leg,
            deltas: Deltas::between(&key, &reply.inverted()),
        };
        let hashed = self.flows.hashed(Tuple::from(&key));
        let lasts = self.lasting.of(&tables.timeouts, virtual_server.id);
        let entered = self
            .flows
            .enter(hashed, reply_hashed, lasts, data, arrival.now);
        let flow = match entered {
            Ok(flow) => flow,
            Err(InsertError::Full) => return Some(Verdict::Drop(DropReason::TableFull)),
            Err(InsertError::Collision) => return Some(Verdict::Drop(DropReason::TupleInUse)),
        };
        self.mappings.admit(id);
        self.note(flow, Kind::Opened);
        for cell in service_counters(tables, self.worker, &data) {
            cell.connections.add(1);
            cell.connections_total.add(1);
        }
        self.counters.flows_opened_total.add(1);
        self.counters.flows.set(self.flows.len() as u64);
        let step = FlowStep::Opened;
        let verdict = self.translate(tables, arrival, packet, layers, flow, step);
        let is_answer = matches!(verdict, Verdict::Hairpin(_, FlowStep::Related));
        if is_answer || matches!(verdict, Verdict::Drop(_) | Verdict::Reply(..)) {
            self.end_flow(tables, flow, EndReason::Removed);
        }
        Some(verdict)
    }

    fn free_tuple(&self, reply: FlowKey) -> Result<(FlowKey, Hashed), DropReason> {
        let hashed = self.flows.hashed(Tuple::from(&reply));
        if self.flows.is_free(&hashed) {
            Ok((reply, hashed))
        } else {
            Err(DropReason::TupleInUse)
        }
    }

    /// The way to a packet's sender: the station it came from, or as routes say.
    pub(super) fn way_back(
        tables: &Tables,
        arrival: &Arrival<'_>,
        original: &FlowKey,
    ) -> Result<Leg, DropReason> {
        if arrival.round {
            return Ok(Leg::new(arrival.vlan.index, NextHop::Round));
        }
        if arrival.vlan.auto_lasthop {
            let next = NextHop::LastHop(arrival.source_mac);
            return Ok(Leg::new(arrival.vlan.index, next));
        }
        let route = tables.routes.lookup(original.src.ip());
        let route = route.ok_or(DropReason::NoRoute)?;
        Ok(Leg::new(route.vlan, NextHop::Unresolved))
    }
}

/// A flow has ended: its mapping has one less.
#[cold]
pub(super) fn release(
    mappings: &mut lb::Mappings<Kept>,
    member: MemberId,
    original: &FlowKey,
    reply: &FlowKey,
) {
    if member == MemberId::MAPPED {
        mappings.close(&outside(reply), &reply.src);
    } else {
        mappings.dismiss(&outside(original));
    }
}

/// Whether a flow's end is to be told to its mapping.
#[inline]
pub(super) fn has_mapping(member: MemberId) -> bool {
    member == MemberId::MAPPED || member == MemberId::ADMITTED
}
