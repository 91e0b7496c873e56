//! Virtual servers and pools.

use std::collections::HashMap;

use config::{Config, LbMethod, ListenScope, Protocol, ServiceDownAction, Snat as ConfigSnat};
use lb::{
    DownAction, Listen, Member, MemberState, Method, Pool, Pools, Profile, SctpProfile, Snat,
    TcpProfile, UdpProfile, VirtualServer, VirtualServers, VlanSet,
};
use net::{IpPrefix, IpProto};

use super::{CompileError, Names, egresses, snat};

/// Compiles virtual servers and pools. Nothing listens on the VLANs of `standby`.
pub(super) fn compile(
    config: &Config,
    vlans: &vlan::Table,
    standby: &VlanSet,
    names: &mut Names,
    errors: &mut Vec<CompileError>,
) -> (VirtualServers, Pools) {
    let mut servers = Vec::with_capacity(config.virtual_servers.len());
    let mut pools: HashMap<String, Pool> = HashMap::new();
    for wanted in &config.virtual_servers {
        if let ListenScope::Vlans(named) = &wanted.listen {
            for name in named
                .iter()
                .filter(|name| !vlans.iter().any(|vlan| vlan.name == **name))
            {
                errors.push(CompileError::VlanMissing {
                    object: wanted.object.clone(),
                    vlan: name.clone(),
                });
            }
        }
        let family = family_of(&wanted.destination);
        let method = match wanted.method {
            LbMethod::RoundRobin | LbMethod::RatioMember => Method::RoundRobin,
            LbMethod::LeastConnMember | LbMethod::RatioLeastConnMember => Method::LeastConnections,
            LbMethod::SourceAddrHash => Method::SourceAddressHash,
        };
        let pool_name = format!("{} {} {family}", wanted.pool.key, wanted.pool.key.protocol);
        let pool_id = names.pool(&pool_name);
        let pool = pools.entry(pool_name).or_insert_with_key(|name| {
            let members = wanted.pool.members.iter().map(|member| Member {
                id: names.member(pool_id, member.addr, member.port),
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
        let name = format!("{} {family}", wanted.name);
        let key = format!("{} {} {family}", wanted.object, wanted.protocol);
        let id = names.virtual_server(&key);
        servers.push(VirtualServer {
            id,
            name,
            proto: match wanted.protocol {
                Protocol::Tcp => IpProto::TCP,
                Protocol::Udp => IpProto::UDP,
                Protocol::Sctp => IpProto::SCTP,
            },
            destination: wanted.destination,
            port: wanted.port,
            // Without a ready endpoint it listens nowhere, but flows it has still find it.
            listen: if wanted.is_live() {
                listen(&wanted.listen, vlans, standby)
            } else {
                Listen::Only(VlanSet::new())
            },
            pool: pool_id,
            method,
            snat: match wanted.snat {
                ConfigSnat::None => Snat::None,
                ConfigSnat::Automap => Snat::Automap,
                ConfigSnat::Snatpool => snat::pool(config, wanted.snat_pool.as_deref()),
            },
            profile: profile(&wanted.profile),
        });
    }
    let mut pools: Vec<Pool> = pools.into_values().collect();
    egresses::compile(config, vlans, standby, names, &mut servers, &mut pools);
    pools.sort_by_key(Pool::id);
    (VirtualServers::new(servers), Pools::new(pools))
}

pub(super) fn listen(scope: &ListenScope, vlans: &vlan::Table, standby: &VlanSet) -> Listen {
    match scope {
        ListenScope::AllVlans if standby.is_empty() => Listen::All,
        ListenScope::AllVlans => Listen::Except(standby.clone()),
        ListenScope::Vlans(_) => {
            let mut set = VlanSet::new();
            for vlan in vlans {
                if scope.contains(&vlan.name) && !standby.contains(vlan.index) {
                    set.insert(vlan.index);
                }
            }
            Listen::Only(set)
        }
    }
}

fn profile(wanted: &config::Profile) -> Profile {
    Profile {
        idle_timeout: wanted.idle_timeout,
        down_action: match wanted.service_down_action {
            ServiceDownAction::None => DownAction::None,
            ServiceDownAction::Reject => DownAction::Reject,
            ServiceDownAction::Drop => DownAction::Drop,
            ServiceDownAction::Reselect => DownAction::Reselect,
        },
        connection_limit: wanted.connection_limit,
        client_limit: wanted.client_connection_limit,
        syn_threshold: wanted.syn_protection_threshold,
        tcp: wanted
            .tcp
            .as_ref()
            .map_or_else(TcpProfile::default, tcp_profile),
        udp: wanted
            .udp
            .as_ref()
            .map_or_else(UdpProfile::default, |udp| UdpProfile {
                unreplied_timeout: Some(udp.unreplied_timeout),
                datagram_balancing: udp.datagram_load_balancing,
            }),
        sctp: wanted
            .sctp
            .as_ref()
            .map_or_else(SctpProfile::default, |sctp| SctpProfile {
                handshake_timeout: sctp.handshake_timeout,
                shutdown_timeout: sctp.shutdown_timeout,
            }),
        ..Profile::default()
    }
}

fn tcp_profile(wanted: &config::TcpProfile) -> TcpProfile {
    TcpProfile {
        handshake_timeout: wanted.handshake_timeout,
        close_timeout: wanted.close_timeout,
        half_close_timeout: Some(wanted.half_close_timeout),
        time_wait_timeout: wanted.time_wait_timeout,
        reset_on_timeout: wanted.reset_on_timeout,
        loose_initialization: wanted.loose_initialization,
    }
}

fn family_of(prefix: &IpPrefix) -> &'static str {
    if prefix.addr().is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    }
}
