//! From the validated configuration to the tables of the workers.
//!
//! One function, [`compile`]: the same configuration, ports and names give the same tables. Names
//! outlive generations, so that a VLAN, virtual server or member that is still there keeps its
//! index, and with it its live flows and counters.

mod egresses;
mod names;
mod services;
mod snat;
mod timeouts;

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{AllowedProtocol, Config, Encap as ConfigEncap, ObjectKey, SpreadHash, TrunkHash};
use lb::VlanSet;
use net::{Addr, Encap, IpPrefix, IpProto, PortId, VlanIndex};
use vlan::{AllowedService, Owned, Owner, SelfIp, Vlan};

pub use names::Names;

use crate::addresses::Addresses;
use crate::defences::Defences;
use crate::egress::{Egress, Links, Stations};
use crate::routes::{Route, Routes};
use crate::steer::Spread;
use crate::tables::{Exit, Limits, MemberWay, PortInfo, Tables};

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
    /// What holds off too many connections.
    pub defences: Arc<Defences>,
    /// No new flows are taken.
    pub draining: bool,
    /// Addresses that another station has taken over: not answered for.
    pub ceded: BTreeSet<(VlanIndex, Addr)>,
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
         tmm with --port-mtu {mtu} (for a kernel interface, `ip link set … mtu {mtu}` first)"
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
    /// An object names a VLAN that could not be programmed.
    #[error("VLAN \"{vlan}\" is not programmed here")]
    VlanMissing {
        /// The object.
        object: ObjectKey,
        /// What it names.
        vlan: String,
    },
    /// A static route to a prefix that is on the link of a VLAN.
    #[error("{destination} is on the link of VLAN \"{vlan}\", which goes before a static route")]
    OnLink {
        /// The route.
        object: ObjectKey,
        /// Where it leads.
        destination: IpPrefix,
        /// The VLAN whose self IP's prefix it is.
        vlan: String,
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
    let generation = names.next_generation();
    let vlans = compile_vlans(config, surroundings, names, &mut errors);
    let mut owned = Owned::of_table(&vlans);
    let mut self_ips: Addresses = owned
        .iter()
        .filter(|(_, _, owner)| *owner == Owner::SelfIp)
        .map(|(_, addr, _)| addr)
        .collect();
    let routes = compile_routes(config, &vlans, &mut errors);
    let standby = standby(config, &vlans);
    let (virtual_servers, pools) = services::compile(config, &vlans, &standby, names, &mut errors);
    for server in &virtual_servers {
        if server.destination.is_host() {
            for vlan in vlans.iter().filter(|vlan| server.listen.hears(vlan.index)) {
                owned.insert(vlan.index, server.destination.addr(), Owner::Virtual);
            }
        }
    }
    snat::own(config, &vlans, &standby, &mut owned);
    for (vlan, addr) in &surroundings.ceded {
        owned.remove(*vlan, addr);
    }
    let mut snat = snat::compile(config, &owned, names);
    self_ips.extend(&snat.addresses);
    let limits = Limits::of(&virtual_servers, &surroundings.defences);
    let spread = compile_spread(config, &vlans, &virtual_servers, names);
    let (virtual_server_stats, member_stats) = names.stats();
    let timeouts = timeouts::compile(&virtual_servers);
    let clamps_mss = vlans.iter().any(|vlan| vlan.mss_clamp);
    let member_ways = compile_member_ways(&pools, &routes, &vlans);
    snat.shared = snat::shared(&virtual_servers, (&pools, &member_ways), &vlans, &snat);
    let egress = compile_egress(config, &vlans);
    let exits = compile_exits(&vlans, &egress);
    let tables = Tables {
        generation,
        ports: Arc::clone(&surroundings.ports),
        links: surroundings.links.clone(),
        stations: surroundings.stations.clone(),
        defences: Arc::clone(&surroundings.defences),
        limits,
        egress,
        exits,
        vlans,
        owned,
        self_ips,
        snat,
        spread,
        routes,
        member_ways,
        timeouts,
        clamps_mss,
        virtual_servers,
        pools,
        virtual_server_stats,
        member_stats,
        draining: surroundings.draining,
    };
    (tables, errors)
}

/// The VLANs on which this replica has no self IP though others have: it stays standby there, or it
/// would claim the addresses of the replicas that serve them.
fn standby(config: &Config, vlans: &vlan::Table) -> VlanSet {
    let mut standby = VlanSet::new();
    for vlan in vlans.iter().filter(|vlan| vlan.self_ips.is_empty()) {
        if config
            .vlan(&vlan.name)
            .is_some_and(|wanted| wanted.subnets().next().is_some())
        {
            standby.insert(vlan.index);
        }
    }
    standby
}

/// The way to each member, by its id.
fn compile_member_ways(
    pools: &lb::Pools,
    routes: &Routes,
    vlans: &vlan::Table,
) -> Vec<Option<MemberWay>> {
    let mut ways = Vec::new();
    for member in pools.iter().flat_map(lb::Pool::members) {
        let at = member.id.index();
        if at >= ways.len() {
            ways.resize(at + 1, None);
        }
        if let Some(way) = ways.get_mut(at) {
            *way = MemberWay::find(member.addr, routes, vlans);
        }
    }
    ways
}

/// What frames leaving by each VLAN have in common.
fn compile_exits(vlans: &vlan::Table, egress: &[Option<Egress>]) -> Vec<Option<Exit>> {
    let mut exits = vec![None; egress.len()];
    for vlan in vlans {
        let at = usize::from(vlan.index.0);
        let egress = egress.get(at).and_then(Option::as_ref);
        if let Some(exit) = exits.get_mut(at) {
            *exit = Some(Exit::new(vlan, egress));
        }
    }
    exits
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
        // A LAG is one station, separate links are several.
        let infos = ports.iter().map(|port| usize::from(port.0));
        let macs = infos.filter_map(|at| surroundings.ports.get(at).map(|port| port.mac));
        vlans.push(Vlan {
            index,
            name: wanted.name.clone(),
            encap: match wanted.encap {
                ConfigEncap::Untagged => Encap::UNTAGGED,
                ConfigEncap::Tagged(vid) => Encap::tagged(vid),
                ConfigEncap::Double { outer, inner } => Encap::stacked(outer, inner),
            },
            macs: if wanted.bonded || ports.len() == 1 {
                Vec::new()
            } else {
                macs.collect()
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
            mss_clamp: wanted.mss_clamp,
            // An empty list allows nothing, no list everything.
            allowed_services: wanted.allowed_services.as_ref().map(|services| {
                services
                    .iter()
                    .flat_map(|s| allowed(s.protocol, s.port))
                    .collect()
            }),
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

fn compile_spread(
    config: &Config,
    vlans: &vlan::Table,
    virtual_servers: &lb::VirtualServers,
    names: &mut Names,
) -> Spread {
    let mut spread = Spread::default();
    for vlan in vlans {
        let at = usize::from(vlan.index.0);
        if spread.by_vlan.len() <= at {
            spread.by_vlan.resize(at + 1, SpreadHash::default());
        }
        if let (Some(slot), Some(wanted)) = (spread.by_vlan.get_mut(at), config.vlan(&vlan.name)) {
            *slot = wanted.cmp_hash;
            names.ever_hashed.insert(wanted.cmp_hash);
        }
    }
    for server in virtual_servers {
        match server.snat {
            lb::Snat::None => names.ever_untranslated = true,
            lb::Snat::Automap | lb::Snat::Pool(_) => names.ever_translated = true,
        }
        names.ever_mapped |= server.profile.nat.mapping == lb::Mapping::EndpointIndependent;
    }
    spread.untranslated = names.ever_untranslated;
    spread.translated = names.ever_translated;
    spread.mapped = names.ever_mapped;
    spread.hashes = names.ever_hashed;
    spread
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

fn compile_routes(config: &Config, vlans: &vlan::Table, errors: &mut Vec<CompileError>) -> Routes {
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
        let Some(vlan) = vlans.iter().find(|vlan| vlan.name == wanted.vlan) else {
            errors.push(CompileError::VlanMissing {
                object: wanted.object.clone(),
                vlan: wanted.vlan.clone(),
            });
            continue;
        };
        let on_link = |vlan: &&Vlan| {
            vlan.self_ips
                .iter()
                .any(|own| own.prefix == wanted.destination)
        };
        if let Some(vlan) = vlans.iter().find(on_link) {
            errors.push(CompileError::OnLink {
                object: wanted.object.clone(),
                destination: wanted.destination,
                vlan: vlan.name.clone(),
            });
            continue;
        }
        let route = Route {
            vlan: vlan.index,
            gateway: Some(wanted.gateway),
        };
        routes.insert(wanted.destination, route);
    }
    routes
}

/// The port that a name such as `1.1` means, whether or not it exists.
pub fn parse_interface(name: &str) -> Option<PortId> {
    let number: u8 = name.strip_prefix("1.")?.parse().ok()?;
    Some(PortId(number.checked_sub(1)?))
}
