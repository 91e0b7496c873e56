//! SNAT pools.

use config::Config;
use lb::{Snat, SnatPool, SnatPoolIndex, VlanSet};
use net::Addr;
use vlan::{Owned, Owner, Vlan};

use super::Names;
use crate::tables::{Addresses, SnatTables};

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
        addresses,
    }
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
