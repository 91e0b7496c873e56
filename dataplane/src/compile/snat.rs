//! SNAT pools.

use config::Config;
use lb::{Pool, Pools, Snat, SnatPool, SnatPoolIndex, VirtualServers, VlanSet};
use net::Addr;
use vlan::{Owned, Owner, Vlan};

use super::Names;
use crate::addresses::Addresses;
use crate::pipeline;
use crate::tables::{MemberWay, SnatTables};

/// Takes the addresses of pools, each on the VLANs whose prefix it lies in. One that lies in none is
/// reached by a route to us, from whichever VLAN but the cluster's own.
pub(super) fn own(config: &Config, vlans: &vlan::Table, standby: &VlanSet, owned: &mut Owned) {
    for pool in &config.snat_pools {
        for addr in pool.addresses.iter() {
            let on_link = |vlan: &&Vlan| vlan.on_link(*addr);
            let near = vlans.iter().any(|vlan| on_link(&vlan));
            let all_internal = vlans.iter().all(|vlan| vlan.internal);
            let serves = |vlan: &&Vlan| {
                if near {
                    on_link(vlan)
                } else {
                    all_internal || !vlan.internal
                }
            };
            for vlan in vlans.iter().filter(serves) {
                if !standby.contains(vlan.index) {
                    owned.insert(vlan.index, *addr, Owner::SnatPool);
                }
            }
        }
    }
}

/// The pools with the addresses that are ours.
pub(super) fn compile(config: &Config, owned: &Owned, names: &mut Names) -> SnatTables {
    let ours: Addresses = owned.iter().map(|(_, addr, _)| addr).collect();
    let (automap, stats) = names.snat_stats(&config.snat_pools);
    let pools = config.snat_pools.iter().zip(stats).map(|(pool, stats)| {
        let addresses = pool.addresses.iter().map(|addr| Addr::from(*addr));
        let addresses = addresses.filter(|addr| ours.contains(addr));
        (SnatPool::new(&*pool.name, addresses), stats)
    });
    let pools: Vec<_> = pools.collect();
    let addresses = pools.iter().flat_map(|(pool, _)| pool.addresses());
    let addresses = addresses.copied().collect();
    SnatTables {
        pools,
        automap,
        shared: Addresses::default(),
        addresses,
    }
}

/// The addresses that some virtual servers translate to by mappings, and others flow by flow.
pub(super) fn shared(
    servers: &VirtualServers,
    (pools, ways): (&Pools, &[Option<MemberWay>]),
    vlans: &vlan::Table,
    snat: &SnatTables,
) -> Addresses {
    let (mut mapped, mut others) = (Addresses::default(), Addresses::default());
    for server in servers {
        if !pipeline::may_be_mapped(server.proto) {
            continue;
        }
        let known = if pipeline::is_mapped(server, server.proto) {
            &mut mapped
        } else {
            &mut others
        };
        let v4 = server.destination.addr().is_ipv4();
        let mut add = |addr: Addr| {
            if addr.is_v4() == v4 {
                known.insert(addr);
            }
        };
        match server.snat {
            Snat::None => {}
            Snat::Pool(index) => {
                let pool = snat.pool(index).into_iter();
                pool.flat_map(SnatPool::addresses).copied().for_each(add);
            }
            // It leaves by any VLAN.
            Snat::Automap if server.profile.routed => {
                let own = vlans.iter().flat_map(|vlan| &vlan.self_ips);
                own.for_each(|ip| add(Addr::from(ip.addr)));
            }
            Snat::Automap => {
                let members = pools.get(server.pool).into_iter().flat_map(Pool::members);
                let ways = members.filter_map(|member| ways.get(member.id.index())?.as_ref());
                ways.filter_map(|way| way.source).for_each(add);
            }
        }
    }
    mapped.retain(|addr| others.contains(addr));
    mapped
}

/// The pool of that name. One that is not there has an index that no pool has, so that nothing leaves
/// untranslated.
pub(super) fn pool(config: &Config, name: Option<&str>) -> Snat {
    let place = config
        .snat_pools
        .iter()
        .position(|pool| Some(&*pool.name) == name);
    let index = place.and_then(|at| u16::try_from(at).ok());
    Snat::Pool(SnatPoolIndex(index.unwrap_or(u16::MAX)))
}
