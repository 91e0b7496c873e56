//! What a worker reads: one immutable snapshot of the configuration, compiled for look-up.

mod publish;

use std::net::IpAddr;
use std::sync::Arc;

use lb::VirtualServerId;
use net::header::ethertype;
use net::{Addr, Encap, EthernetHeader, MacAddr, PortId, VlanIndex};
use vlan::Vlan;

use crate::addresses::Addresses;
use crate::counters::{ServiceStats, SnatStats};
use crate::defences::Defences;
use crate::egress::{Egress, Links, Own, Segments, Stations};
use crate::lasting::Lasting;
use crate::routes::Routes;
use crate::steer::Spread;

/// What a publisher is made of. Its own test puts a model checker's here.
mod shared {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, PoisonError};
}

/// What the tables must know of a port.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PortInfo {
    /// Position in attachment order.
    pub id: PortId,
    /// The port's own address. A VLAN speaks with it on this port; as a LAG, with that of its first one.
    pub mac: MacAddr,
    /// Largest IP packet the port can send, octets.
    pub mtu: u16,
    /// The device inserts an 802.1Q tag when asked to.
    pub inserts_tag: bool,
}

/// One generation of the configuration.
#[derive(Debug)]
pub struct Tables {
    /// Counts up with every publication; stamped into flows.
    pub generation: u64,
    /// By [`PortId`].
    pub ports: Arc<[PortInfo]>,
    /// Whose links are up; the same in every generation.
    pub links: Links,
    /// Where stations were heard; the same in every generation.
    pub stations: Stations,
    /// What holds off too many connections; the same in every generation.
    pub defences: Arc<Defences>,
    /// Which virtual servers want it.
    pub limits: Limits,
    /// How the ports of each VLAN belong together, by [`VlanIndex`].
    pub egress: Vec<Option<Egress>>,
    /// What frames leaving by each VLAN have in common, by [`VlanIndex`].
    pub exits: Vec<Option<Exit>>,
    /// VLANs and their self IPs.
    pub vlans: vlan::Table,
    /// Addresses that are answered for.
    pub owned: vlan::Owned,
    /// Our self IPs, and the addresses of SNAT pools, on any VLAN.
    pub self_ips: Addresses,
    /// Addresses that clients' addresses are translated to.
    pub snat: SnatTables,
    /// What decides which worker a packet belongs to.
    pub spread: Spread,
    /// The way to members, clients and gateways.
    pub routes: Routes,
    /// The way to each member, by its id: what `routes` say, worked out once.
    pub member_ways: Vec<Option<MemberWay>>,
    /// How long flows may be silent.
    pub timeouts: Lasting,
    /// Some VLAN lowers the MSS of connections.
    pub clamps_mss: bool,
    /// What listens.
    pub virtual_servers: lb::VirtualServers,
    /// Where it goes.
    pub pools: lb::Pools,
    /// By virtual server id.
    pub virtual_server_stats: Vec<Arc<ServiceStats>>,
    /// By member id.
    pub member_stats: Vec<Arc<ServiceStats>>,
    /// No new flows are taken: tmm is about to stop.
    pub draining: bool,
}

/// SNAT pools and what is counted of them.
#[derive(Debug)]
pub struct SnatTables {
    /// By [`SnatPoolIndex`](lb::SnatPoolIndex), with their counters.
    pub pools: Vec<(lb::SnatPool, Arc<SnatStats>)>,
    /// The counters of automap.
    pub automap: Arc<SnatStats>,
    /// Addresses that both mappings and flows with ports of their own are translated to.
    pub shared: Addresses,
    /// All addresses of pools that are ours.
    pub addresses: Addresses,
}

impl SnatTables {
    /// The pool with this index.
    #[inline]
    pub fn pool(&self, index: lb::SnatPoolIndex) -> Option<&lb::SnatPool> {
        self.pools.get(usize::from(index.0)).map(|(pool, _)| pool)
    }

    /// Where is counted what happens to flows translated like this.
    pub fn stats(&self, snat: lb::Snat) -> Option<&Arc<SnatStats>> {
        match snat {
            lb::Snat::None => None,
            lb::Snat::Automap => Some(&self.automap),
            lb::Snat::Pool(index) => self.pools.get(usize::from(index.0)).map(|(_, stats)| stats),
        }
    }
}

/// The virtual servers that hold off too many connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Those that limit the connections of a client.
    pub clients: Vec<VirtualServerId>,
    /// Those that ask clients to prove their address.
    pub syn: Vec<VirtualServerId>,
}

impl Limits {
    /// Those of `servers`; what they need is there from now on.
    pub fn of(servers: &lb::VirtualServers, defences: &Defences) -> Self {
        let those = |wants: fn(&lb::Profile) -> bool| -> Vec<VirtualServerId> {
            let servers = servers.iter().filter(|server| wants(&server.profile));
            servers.map(|server| server.id).collect()
        };
        let limits = Self {
            clients: those(|profile| profile.client_limit > 0),
            syn: those(|profile| profile.syn_threshold > 0),
        };
        if !limits.clients.is_empty() {
            defences.count_clients();
        }
        if !limits.syn.is_empty() {
            defences.ask_for_proofs();
        }
        limits
    }
}

/// The way to a pool member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberWay {
    /// The VLAN it is reached by.
    pub vlan: VlanIndex,
    /// The station: the member itself or a gateway.
    pub next_hop: Addr,
    /// The self IP to speak to it from (automap), if there is one of its family.
    pub source: Option<Addr>,
}

impl MemberWay {
    /// The way to a member with the address `member`; `None` if no route leads there.
    pub fn find(member: IpAddr, routes: &Routes, vlans: &vlan::Table) -> Option<Self> {
        let route = routes.lookup(member)?;
        let vlan = vlans.get(route.vlan)?;
        let next_hop = route.next_hop(Addr::from(member));
        let source = vlan.self_ip_for(next_hop.ip()).map(Addr::from);
        Some(Self {
            vlan: route.vlan,
            next_hop,
            source,
        })
    }
}

/// What all frames that leave by a VLAN have in common.
#[derive(Debug, Clone)]
pub struct Exit {
    /// The port, if the VLAN has but one.
    pub single: Option<PortId>,
    /// Largest IP packet, octets.
    pub mtu: usize,
    /// With the MAC address of the VLAN.
    pub headers: Headers,
    /// With the ports' own, where each speaks with its own.
    by_port: Box<[(PortId, Headers)]>,
}

/// Ethernet headers of one station: without and with the tag left to the device, for IPv4 and IPv6.
#[derive(Debug, Clone, Copy)]
pub struct Headers([[EthernetHeader; 2]; 2]);

impl Headers {
    fn new(ours: MacAddr, encap: Encap) -> Self {
        let header = |kind, insert| EthernetHeader::new(ours, encap, kind, insert);
        let kinds = [ethertype::IPV4, ethertype::IPV6];
        Self([false, true].map(|insert| kinds.map(|kind| header(kind, insert))))
    }

    /// That of a packet which leaves by a port that inserts tags or does not.
    #[inline]
    pub const fn get(&self, v6: bool, insert: bool) -> &EthernetHeader {
        &self.0[insert as usize][v6 as usize]
    }
}

impl Exit {
    /// For a VLAN whose ports belong together as `egress` says.
    pub fn new(vlan: &Vlan, egress: Option<&Egress>) -> Self {
        let by_port = vlan.ports.iter().zip(&vlan.macs);
        Self {
            single: match egress {
                Some(Egress::Single(port)) => Some(*port),
                _ => None,
            },
            mtu: usize::from(vlan.mtu),
            headers: Headers::new(vlan.mac, vlan.encap),
            by_port: by_port
                .map(|(port, mac)| (*port, Headers::new(*mac, vlan.encap)))
                .collect(),
        }
    }

    /// The headers of frames that leave by one of several ports.
    #[inline]
    pub fn headers_of(&self, port: PortId) -> &Headers {
        let own = self.by_port.iter().find(|(own, _)| *own == port);
        own.map_or(&self.headers, |(_, headers)| headers)
    }
}

impl Tables {
    /// The bits of a generation that flows remember.
    pub const STAMP_BITS: u32 = u32::MAX >> 1;

    /// What flows remember of the generation: its low 31 bits, which repeat after two billion.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn stamp(&self) -> u32 {
        self.generation as u32 & Self::STAMP_BITS
    }

    /// What frames that leave by a VLAN have in common.
    #[inline]
    pub fn exit(&self, vlan: VlanIndex) -> Option<&Exit> {
        self.exits.get(usize::from(vlan.0))?.as_ref()
    }

    /// The port for a frame of a VLAN to the station `mac`, of a flow with the hash that `flow`
    /// works out (it is asked for only where flows are spread over links), from a worker that sends by
    /// its `own` ports.
    #[inline]
    pub fn egress_port(
        &self,
        vlan: VlanIndex,
        mac: MacAddr,
        own: &Own,
        flow: impl FnOnce() -> u64,
    ) -> Option<PortId> {
        let egress = self.egress.get(usize::from(vlan.0))?.as_ref()?;
        egress.port(vlan, mac, flow, own, (&self.links, &self.stations))
    }

    /// The ports for a frame of a VLAN to everybody; of those in one segment, the one that `spread` means,
    /// or all.
    pub fn flood_ports(&self, vlan: VlanIndex, spread: Option<u64>) -> Vec<PortId> {
        let egress = self
            .egress
            .get(usize::from(vlan.0))
            .and_then(Option::as_ref);
        egress.map_or_else(Vec::new, |egress| egress.flood(&self.links, spread))
    }

    /// The ports of a VLAN, where each speaks with its own MAC address.
    #[inline]
    pub fn segments(&self, vlan: VlanIndex) -> Option<&Segments> {
        match self.egress.get(usize::from(vlan.0)) {
            Some(Some(Egress::Segments(segments))) => Some(segments),
            _ => None,
        }
    }

    /// Whether the device behind a port inserts an 802.1Q tag when asked to.
    #[inline]
    pub fn inserts_tag(&self, port: PortId) -> bool {
        self.ports
            .get(usize::from(port.0))
            .is_some_and(|port| port.inserts_tag)
    }
}

/// Hands the newest tables from the control thread to the workers.
pub type Publisher = publish::Publisher<Tables>;

impl publish::Generation for Tables {
    #[inline]
    fn generation(&self) -> u64 {
        self.generation
    }
}
