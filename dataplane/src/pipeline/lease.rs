//! Source addresses and ports of translated flows.
//!
//! A port is leased exactly while the reply tuple that it is part of is in the flow table of the one
//! worker that such replies come to; see [`lb::snat`].

use arrayvec::ArrayVec;
use conntrack::Hashed;
use lb::{Endpoint, Snat, VirtualServer};
use net::{Addr, FlowKey, IpProto, L4Port, Tuple, VlanIndex};

use super::{Flows, State, mapped};
use crate::counters::SnatCounters;
use crate::steer::Question;
use crate::tables::Tables;
use crate::verdict::DropReason;

/// Source ports that are tried together, where the first is taken.
const TOGETHER: usize = 4;

/// Where a flow leads, and where from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The server.
    pub(super) addr: Addr,
    /// Its port.
    pub(super) port: L4Port,
    /// The VLAN towards it.
    pub(super) vlan: VlanIndex,
    /// The self IP to speak to it from.
    pub(super) self_ip: Option<Addr>,
}

impl State {
    /// The reply tuple of a new flow: with the client's own source or a translated one.
    #[inline]
    pub(super) fn reply_tuple(
        &mut self,
        tables: &Tables,
        original: &FlowKey,
        way: &Way,
        virtual_server: &VirtualServer,
    ) -> Result<(FlowKey, Hashed), DropReason> {
        let source = match virtual_server.snat {
            Snat::None => {
                let (sport, proto) = (original.sport(), original.proto);
                let reply = FlowKey::new(way.addr, original.src, way.port, sport, proto);
                return self.untranslated(reply);
            }
            Snat::Automap => way.self_ip.ok_or(DropReason::NoSelfIp)?,
            Snat::Pool(pool) => {
                let pool = tables.snat.pool(pool);
                let address = pool.and_then(|pool| pool.address_for(&original.src));
                address.ok_or(DropReason::NoSnatAddress)?
            }
        };
        if mapped::is_mapped(virtual_server, original.proto) {
            return self.mapped_tuple(tables, original, way, virtual_server, source);
        }
        let reply = FlowKey::new(way.addr, source, way.port, L4Port(0), original.proto);
        let preferred = original.sport();
        let leased = match original.proto {
            IpProto::TCP | IpProto::UDP | IpProto::SCTP => {
                self.lease(tables, &reply, preferred, way.vlan)
            }
            IpProto::ICMP | IpProto::ICMPV6 => self.lease_identifier(tables, &reply, preferred),
            // Of other protocols only the address is translated.
            _ => {
                let (sport, dport) = (way.port, original.sport());
                return self.untranslated(FlowKey::new(
                    reply.src,
                    reply.dst,
                    sport,
                    dport,
                    reply.proto,
                ));
            }
        };
        leased.ok_or_else(|| {
            self.count_snat(tables, virtual_server.snat, |c| c.exhausted_total.add(1));
            DropReason::SnatExhausted
        })
    }

    #[inline]
    fn untranslated(&self, reply: FlowKey) -> Result<(FlowKey, Hashed), DropReason> {
        let hashed = self.flows.hashed(Tuple::from(&reply));
        if self.flows.is_free(&hashed) {
            Ok((reply, hashed))
        } else {
            Err(DropReason::TupleInUse)
        }
    }

    /// A source port for a flow whose replies are `reply` but for it.
    fn lease(
        &mut self,
        tables: &Tables,
        reply: &FlowKey,
        preferred: L4Port,
        vlan: VlanIndex,
    ) -> Option<(FlowKey, Hashed)> {
        let start = self.random.next();
        let me = u16::try_from(self.worker).unwrap_or(0);
        let comes_back = self.steering.ports_to(me, reply);
        let unmapped = self.unmapped(tables, reply);
        let ours = |port: &L4Port| comes_back(port) && unmapped(*port);
        let mut ports = self.stripe.candidates_that(preferred, start, ours);
        let tuple = Tuple::from(reply);
        let free = |port: L4Port, hash: u64| {
            let hashed = Flows::with_hash(tuple.with_dport(port), hash);
            if !self.flows.is_free(&hashed) {
                return None;
            }
            let reply = FlowKey::new(reply.src, reply.dst, reply.sport(), port, reply.proto);
            let comes_back = self.comes_back(tables, &reply, vlan);
            comes_back.then_some((reply, hashed))
        };
        // The first is free, as a rule.
        let first = ports.next()?;
        let hash = self.flows.hash_ahead(&tuple.with_dport(first));
        if let Some(found) = free(first, hash) {
            return Some(found);
        }
        // Where many are taken, several are looked at together, so that their memory is waited for once.
        loop {
            let mut some: ArrayVec<(L4Port, u64), TOGETHER> = ArrayVec::new();
            for port in ports.by_ref().take(TOGETHER) {
                let _ = some.try_push((port, self.flows.hash_ahead(&tuple.with_dport(port))));
            }
            if some.is_empty() {
                return None;
            }
            if let Some(found) = some.iter().find_map(|(port, hash)| free(*port, *hash)) {
                return Some(found);
            }
        }
    }

    /// An echo identifier for a flow whose replies are `reply` but for it: as a port, in both places.
    fn lease_identifier(
        &mut self,
        tables: &Tables,
        reply: &FlowKey,
        preferred: L4Port,
    ) -> Option<(FlowKey, Hashed)> {
        let start = self.random.next();
        let me = u16::try_from(self.worker).unwrap_or(0);
        let with = |id| FlowKey::new(reply.src, reply.dst, id, id, reply.proto);
        let steering = &self.steering;
        let unmapped = self.unmapped(tables, reply);
        let ours = |id: &L4Port| {
            (steering.workers() == 1 || steering.of_tuple(&with(*id)) == me) && unmapped(*id)
        };
        for id in self.stripe.candidates_that(preferred, start, ours) {
            let hashed = self.flows.hashed(Tuple::from(&with(id)));
            if self.flows.is_free(&hashed) {
                return Some((with(id), hashed));
            }
        }
        None
    }

    /// Whether a port is nobody's towards everybody. Only the worker that deals such a port out knows.
    #[inline]
    fn unmapped(&self, tables: &Tables, reply: &FlowKey) -> impl Fn(L4Port) -> bool + '_ {
        let (addr, proto) = (reply.dst, reply.proto);
        let mapped = tables.spread.mapped && mapped::has_ports(proto);
        let shared = mapped && tables.snat.shared.contains(&addr);
        move |port| {
            if !mapped {
                return true;
            }
            let deals_out = usize::from(self.steering.of_port(port)) == self.worker;
            let is_free = || self.mappings.is_free(&Endpoint { addr, port, proto });
            if shared {
                // A mapping may be older than the sharing.
                return mapped::is_for_flows(port) && (!deals_out || is_free());
            }
            deals_out && is_free()
        }
    }

    /// Whether the reply tuple's packets come back to this worker, should a virtual server listen on
    /// the self IP that they go to.
    #[inline]
    fn comes_back(&self, tables: &Tables, reply: &FlowKey, vlan: VlanIndex) -> bool {
        self.steering.workers() == 1 || self.comes_back_among(tables, reply, vlan)
    }

    fn comes_back_among(&self, tables: &Tables, reply: &FlowKey, vlan: VlanIndex) -> bool {
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
        };
        let way = self.steering.itinerary(&tables.spread, &question);
        way.last().map(|worker| usize::from(*worker)) == Some(self.worker)
    }

    /// Counts something of a SNAT pool, or of automap.
    #[cold]
    pub(super) fn count_snat(&self, tables: &Tables, snat: Snat, count: impl Fn(&SnatCounters)) {
        let stats = tables.snat.stats(snat);
        if let Some(cell) = stats.and_then(|stats| stats.worker(self.worker)) {
            count(cell);
        }
    }
}
