//! From the validated configuration to the tables of the workers.
//!
//! One function, [`compile`]: the same configuration, ports and names give the same tables. Names
//! outlive generations, so that a VLAN, virtual server or member that is still there keeps its
//! index, and with it its live flows and counters.

use std::sync::Arc;

use config::{AllowedProtocol, Config, Encap as ConfigEncap, LbMethod, ListenScope, Protocol};
use config::{ServiceDownAction, Snat as ConfigSnat, TrunkHash};
use lb::{
    DownAction, Listen, Member, MemberState, Method, Pool, Pools, Registry, Snat, VirtualServer,
    VirtualServers, VlanSet,
};
use net::{Addr, Encap, IpPrefix, IpProto, PortId, VlanIndex};
use std::collections::HashMap;
use vlan::{AllowedService, Owned, Owner, SelfIp, Vlan};

use crate::counters::ServiceStats;
use crate::egress::{Egress, Links, Stations};
use crate::routes::{Route, Routes};
use crate::tables::{PortInfo, Tables};

/// What one generation hands to the next: the index of everything that has a name.
#[derive(Debug)]
pub struct Names {
    workers: usize,
    generation: u64,
    vlans: HashMap<String, VlanIndex>,
    registry: Registry,
    virtual_server_stats: Vec<Arc<ServiceStats>>,
    member_stats: Vec<Arc<ServiceStats>>,
}

impl Names {
    /// No names yet, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            generation: 0,
            vlans: HashMap::new(),
            registry: Registry::new(),
            virtual_server_stats: Vec::new(),
            member_stats: Vec::new(),
        }
    }

    /// Gives back the identities that `tables` do not name and no flow uses. To be called only while
    /// every worker uses `tables`: then no flow to them can be opened any more.
    pub fn forget_unused(&mut self, tables: &Tables) {
        let (virtual_servers, members) = (&mut self.virtual_server_stats, &mut self.member_stats);
        let workers = self.workers;
        // A number that is given back may be given to another name: its counters start anew.
        let keep = |used: bool, stats: &mut Vec<Arc<ServiceStats>>, index: usize| {
            let keep = used
                || stats
                    .get(index)
                    .is_some_and(|s| s.totals().connections != 0);
            if !keep && let Some(slot) = stats.get_mut(index) {
                *slot = Arc::new(ServiceStats::new(workers));
            }
            keep
        };
        // A pool lives as long as one of its members serves a flow.
        self.registry.retain(
            |id| {
                keep(
                    tables.virtual_servers.get(id).is_some(),
                    virtual_servers,
                    id.index(),
                )
            },
            |_| true,
            |id| keep(tables.pools.member(id).is_some(), members, id.index()),
        );
    }

    fn vlan(&mut self, name: &str) -> Option<VlanIndex> {
        if let Some(index) = self.vlans.get(name) {
            return Some(*index);
        }
        let index = VlanIndex(u16::try_from(self.vlans.len()).ok()?);
        self.vlans.insert(name.to_owned(), index);
        Some(index)
    }
}

/// What `compile` has to know besides the configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The ports, in attachment order.
    pub ports: Arc<[PortInfo]>,
    /// MTU of VLANs that name none, octets.
    pub default_mtu: u16,
    /// Whose links are up.
    pub links: Links,
    /// Where stations were heard.
    pub stations: Stations,
}

/// Why a part of a valid configuration cannot be programmed here. The rest is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The VLAN names an interface that this process was not given.
    #[error("VLAN \"{vlan}\": there is no interface {interface} (tmm has {have})")]
    NoSuchInterface {
        /// The VLAN.
        vlan: String,
        /// What it names.
        interface: String,
        /// What there is.
        have: String,
    },
    /// The VLAN's MTU is larger than that of one of its ports.
    #[error(
        "VLAN \"{vlan}\": MTU {mtu} is more than port {port}'s {limit}, which is used instead; start \
         tmm with --port-mtu {mtu}"
    )]
    MtuTooLarge {
        /// The VLAN.
        vlan: String,
        /// What it asks for, octets.
        mtu: u16,
        /// The port.
        port: PortId,
        /// What that port can do, octets.
        limit: u16,
    },
    /// The VLAN does not go together with the others on these ports.
    #[error("{reason}")]
    Vlan {
        /// The VLAN.
        vlan: String,
        /// Why not.
        reason: String,
    },
}

/// Compiles tables, and says what of the configuration does not fit this process.
pub fn compile(
    config: &Config,
    surroundings: &Surroundings,
    names: &mut Names,
) -> (Tables, Vec<CompileError>) {
    let mut errors = Vec::new();
    names.generation += 1;
    let vlans = compile_vlans(config, surroundings, names, &mut errors);
    let mut owned = Owned::of_table(&vlans);
    let routes = compile_routes(config, &vlans);
    let (virtual_servers, pools) = compile_services(config, &vlans, names);
    for server in &virtual_servers {
        if server.destination.is_host() {
            for vlan in vlans.iter().filter(|vlan| server.listen.hears(vlan.index)) {
                owned.insert(vlan.index, server.destination.addr(), Owner::Virtual);
            }
        }
    }
    let tables = Tables {
        generation: names.generation,
        ports: Arc::clone(&surroundings.ports),
        links: surroundings.links.clone(),
        stations: surroundings.stations.clone(),
        egress: compile_egress(config, &vlans),
        vlans,
        owned,
        routes,
        virtual_servers,
        pools,
        virtual_server_stats: names.virtual_server_stats.clone(),
        member_stats: names.member_stats.clone(),
    };
    (tables, errors)
}

fn compile_vlans(
    config: &Config,
    surroundings: &Surroundings,
    names: &mut Names,
    errors: &mut Vec<CompileError>,
) -> vlan::Table {
    let mut vlans: Vec<Vlan> = Vec::new();
    for wanted in &config.vlans {
        let Some(index) = names.vlan(&wanted.name) else {
            errors.push(CompileError::Vlan {
                vlan: wanted.name.clone(),
                reason: "too many VLAN names".to_owned(),
            });
            continue;
        };
        let mut ports = Vec::new();
        for interface in &wanted.interfaces {
            match port_named(interface, &surroundings.ports) {
                Some(port) => ports.push(port.id),
                None => errors.push(CompileError::NoSuchInterface {
                    vlan: wanted.name.clone(),
                    interface: interface.clone(),
                    have: port_names(&surroundings.ports),
                }),
            }
        }
        let Some(first) = ports
            .first()
            .and_then(|port| surroundings.ports.get(usize::from(port.0)))
        else {
            continue;
        };
        let mut mtu = wanted.mtu.unwrap_or(surroundings.default_mtu);
        let tightest = ports
            .iter()
            .filter_map(|port| surroundings.ports.get(usize::from(port.0)))
            .min_by_key(|port| port.mtu);
        if let Some(port) = tightest.filter(|port| port.mtu < mtu) {
            errors.push(CompileError::MtuTooLarge {
                vlan: wanted.name.clone(),
                mtu,
                port: port.id,
                limit: port.mtu,
            });
            mtu = port.mtu;
        }
        vlans.push(Vlan {
            index,
            name: wanted.name.clone(),
            encap: match wanted.encap {
                ConfigEncap::Untagged => Encap::UNTAGGED,
                ConfigEncap::Tagged(vid) => Encap::tagged(vid),
                ConfigEncap::Double { outer, inner } => Encap::stacked(outer, inner),
            },
            ports,
            mac: first.mac,
            mtu,
            self_ips: wanted
                .self_ips(config.replica)
                .map(|own| SelfIp {
                    addr: own.addr,
                    prefix: own.subnet(),
                })
                .collect(),
            internal: wanted.internal,
            auto_lasthop: wanted.auto_lasthop.is_on(),
            allowed_services: wanted
                .allowed_services
                .iter()
                .flatten()
                .flat_map(|service| allowed(service.protocol, service.port))
                .collect(),
        });
    }
    if let Ok(table) = vlan::Table::new(vlans.clone()) {
        return table;
    }
    // Resolution has settled conflicts between resources; what is left comes from ports that are
    // missing here. Each VLAN that goes together with those before it still works.
    let mut accepted: Vec<Vlan> = Vec::new();
    for vlan in vlans {
        let name = vlan.name.clone();
        accepted.push(vlan);
        if let Err(error) = vlan::Table::new(accepted.clone()) {
            accepted.pop();
            errors.push(CompileError::Vlan {
                vlan: name,
                reason: error.to_string(),
            });
        }
    }
    vlan::Table::new(accepted).unwrap_or_default()
}

fn compile_egress(config: &Config, vlans: &vlan::Table) -> Vec<Option<Egress>> {
    let mut egress = Vec::new();
    for vlan in vlans {
        let at = usize::from(vlan.index.0);
        if egress.len() <= at {
            egress.resize_with(at + 1, || None);
        }
        let wanted = config.vlan(&vlan.name);
        let (bonded, hash) = wanted.map_or((false, TrunkHash::default()), |wanted| {
            (wanted.bonded, wanted.trunk_hash)
        });
        if let Some(slot) = egress.get_mut(at) {
            *slot = Egress::new(&vlan.ports, bonded, hash);
        }
    }
    egress
}

/// The port that an interface name means.
fn port_named<'p>(name: &str, ports: &'p [PortInfo]) -> Option<&'p PortInfo> {
    ports.iter().find(|port| port.id.to_string() == name)
}

fn port_names(ports: &[PortInfo]) -> String {
    let names: Vec<String> = ports.iter().map(|port| port.id.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn allowed(protocol: AllowedProtocol, port: net::L4Port) -> Vec<AllowedService> {
    let port = (port.0 != 0).then_some(port);
    let with = |proto| AllowedService { proto, port };
    match protocol {
        AllowedProtocol::Any => vec![with(None)],
        AllowedProtocol::Tcp => vec![with(Some(IpProto::TCP))],
        AllowedProtocol::Udp => vec![with(Some(IpProto::UDP))],
        AllowedProtocol::Sctp => vec![with(Some(IpProto::SCTP))],
        AllowedProtocol::Icmp => vec![with(Some(IpProto::ICMP)), with(Some(IpProto::ICMPV6))],
    }
}

fn compile_routes(config: &Config, vlans: &vlan::Table) -> Routes {
    let mut routes = Routes::new();
    for vlan in vlans {
        for own in &vlan.self_ips {
            routes.insert(
                own.prefix,
                Route {
                    vlan: vlan.index,
                    gateway: None,
                },
            );
        }
    }
    for wanted in &config.routes {
        if let Some(vlan) = vlans.iter().find(|vlan| vlan.name == wanted.vlan) {
            let route = Route {
                vlan: vlan.index,
                gateway: Some(wanted.gateway),
            };
            routes.insert(wanted.destination, route);
        }
    }
    routes
}

fn compile_services(
    config: &Config,
    vlans: &vlan::Table,
    names: &mut Names,
) -> (VirtualServers, Pools) {
    let mut servers = Vec::with_capacity(config.virtual_servers.len());
    let mut pools: HashMap<String, Pool> = HashMap::new();
    for wanted in &config.virtual_servers {
        let family = family_of(&wanted.destination);
        let method = match wanted.method {
            LbMethod::RoundRobin | LbMethod::RatioMember => Method::RoundRobin,
            LbMethod::LeastConnMember | LbMethod::RatioLeastConnMember => Method::LeastConnections,
            LbMethod::SourceAddrHash => Method::SourceAddressHash,
        };
        let pool_name = format!("{} {} {family}", wanted.pool.key, wanted.pool.key.protocol);
        let pool_id = names.registry.pool(&pool_name);
        let pool = pools.entry(pool_name).or_insert_with_key(|name| {
            let members = wanted.pool.members.iter().map(|member| Member {
                id: names.registry.member(pool_id, member.addr, member.port),
                addr: member.addr,
                port: member.port,
                state: match (member.ready, member.draining) {
                    (true, _) => MemberState::Up,
                    (false, true) => MemberState::Draining,
                    (false, false) => MemberState::Down,
                },
            });
            Pool::new(pool_id, name.as_str(), members.collect())
        });
        if method == Method::SourceAddressHash {
            *pool = pool.clone().with_maglev();
        }
        for member in pool.members() {
            grow(&mut names.member_stats, member.id.index(), names.workers);
        }
        let name = format!("{} {family}", wanted.name);
        let key = format!("{} {} {family}", wanted.object.path(), wanted.protocol);
        let id = names.registry.virtual_server(&key);
        grow(&mut names.virtual_server_stats, id.index(), names.workers);
        servers.push(VirtualServer {
            id,
            name,
            proto: match wanted.protocol {
                Protocol::Tcp => IpProto::TCP,
                Protocol::Udp => IpProto::UDP,
            },
            destination: wanted.destination,
            port: wanted.port,
            // Without a ready endpoint it listens nowhere, but flows it has still find it.
            listen: if wanted.is_live() {
                listen(&wanted.listen, vlans)
            } else {
                Listen::Only(VlanSet::new())
            },
            pool: pool_id,
            method,
            snat: match wanted.snat {
                ConfigSnat::None => Snat::None,
                ConfigSnat::Automap => Snat::Automap,
            },
            idle_timeout: wanted.idle_timeout,
            down_action: match wanted.service_down_action {
                ServiceDownAction::None => DownAction::None,
                ServiceDownAction::Reject => DownAction::Reject,
                ServiceDownAction::Drop => DownAction::Drop,
                ServiceDownAction::Reselect => DownAction::Reselect,
            },
        });
    }
    let mut pools: Vec<Pool> = pools.into_values().collect();
    pools.sort_by_key(Pool::id);
    (VirtualServers::new(servers), Pools::new(pools))
}

fn grow(stats: &mut Vec<Arc<ServiceStats>>, index: usize, workers: usize) {
    while stats.len() <= index {
        stats.push(Arc::new(ServiceStats::new(workers)));
    }
}

fn listen(scope: &ListenScope, vlans: &vlan::Table) -> Listen {
    match scope {
        ListenScope::AllVlans => Listen::All,
        ListenScope::Vlans(_) => {
            let mut set = VlanSet::new();
            for vlan in vlans.iter().filter(|vlan| scope.contains(&vlan.name)) {
                set.insert(vlan.index);
            }
            Listen::Only(set)
        }
    }
}

fn family_of(prefix: &IpPrefix) -> &'static str {
    if Addr::from(prefix.addr()).is_v4() {
        "IPv4"
    } else {
        "IPv6"
    }
}

/// The port that a name such as `1.1` means, whether or not it exists.
pub fn parse_interface(name: &str) -> Option<PortId> {
    let number: u8 = name.strip_prefix("1.")?.parse().ok()?;
    Some(PortId(number.checked_sub(1)?))
}
