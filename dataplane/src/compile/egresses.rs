//! Ways out of the cluster: wildcard virtual servers without a pool, one for each protocol.

use std::time::Duration;

use config::{Config, Egress, NatFiltering, NatMapping, Snat as ConfigSnat};
use lb::{
    ANY_PROTO, DownAction, Filtering, Mapping, Method, Nat, Pool, Profile, Snat, TcpProfile,
    VirtualServer, VlanSet,
};
use net::{IpPrefix, IpProto, L4Port};

use super::{Names, services, snat};

/// How long a TCP connection may be silent that is being opened or closed (RFC 5382 REQ-5).
const TRANSITORY: Duration = Duration::from_mins(4);

/// Adds the virtual servers of every egress, and the empty pools that stand behind them.
pub(super) fn compile(
    config: &Config,
    vlans: &vlan::Table,
    standby: &VlanSet,
    names: &mut Names,
    servers: &mut Vec<VirtualServer>,
    pools: &mut Vec<Pool>,
) {
    for egress in &config.egresses {
        let path = egress.object.path();
        let pool = names.pool(&format!("egress {path}"));
        pools.push(Pool::new(pool, format!("egress {path}"), Vec::new()));
        let listen = services::listen(&egress.listen, vlans, standby);
        let families = [("IPv4", "0.0.0.0/0"), ("IPv6", "::/0")];
        for (family, any) in families
            .into_iter()
            .take(1 + usize::from(egress.dual_stack))
        {
            let Ok(destination) = any.parse::<IpPrefix>() else {
                continue;
            };
            for (proto, what, idle_timeout) in protocols(egress, family == "IPv4") {
                servers.push(VirtualServer {
                    id: names.virtual_server(&format!("egress {path} {what} {family}")),
                    name: format!("{} {family}", egress.name),
                    proto,
                    destination,
                    port: L4Port(0),
                    listen: listen.clone(),
                    pool,
                    method: Method::default(),
                    snat: match egress.snat {
                        ConfigSnat::None => Snat::None,
                        ConfigSnat::Automap => Snat::Automap,
                        ConfigSnat::Snatpool => snat::pool(config, egress.snat_pool.as_deref()),
                    },
                    profile: Profile {
                        idle_timeout,
                        down_action: DownAction::None,
                        routed: true,
                        nat: nat(egress),
                        tcp: TcpProfile {
                            handshake_timeout: TRANSITORY,
                            close_timeout: TRANSITORY,
                            ..TcpProfile::default()
                        },
                        ..Profile::default()
                    },
                });
            }
        }
    }
}

/// The protocols, and how long their flows may be silent.
fn protocols(egress: &Egress, v4: bool) -> [(IpProto, &'static str, Duration); 5] {
    let icmp = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
    let timeouts = &egress.timeouts;
    [
        (IpProto::TCP, "TCP", timeouts.tcp),
        (IpProto::UDP, "UDP", timeouts.udp),
        (IpProto::SCTP, "SCTP", timeouts.tcp),
        (icmp, "ICMP", timeouts.icmp),
        (ANY_PROTO, "any", timeouts.other),
    ]
}

fn nat(egress: &Egress) -> Nat {
    Nat {
        mapping: match egress.nat.mapping {
            NatMapping::AddressAndPortDependent => Mapping::AddressAndPortDependent,
            NatMapping::EndpointIndependent => Mapping::EndpointIndependent,
        },
        filtering: match egress.nat.filtering {
            NatFiltering::AddressAndPortDependent => Filtering::AddressAndPortDependent,
            NatFiltering::AddressDependent => Filtering::AddressDependent,
            NatFiltering::EndpointIndependent => Filtering::EndpointIndependent,
        },
        per_client: egress.nat.max_mappings_per_client,
    }
}
