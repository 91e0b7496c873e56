//! SNAT pools: names and addresses, each used once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{ObjectState, ReasonCode, Reasons, oldest_first};
use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::resource::Resource;
use crate::store::Store;
use crate::types::{Snat, SnatPool, Vlan};

/// The pools as replica number `replica` has them, by name.
pub(super) fn resolve(
    store: &Store,
    replica: usize,
    vlans: &[Vlan],
    states: &mut Vec<ObjectState>,
) -> Vec<SnatPool> {
    let self_ips: HashMap<IpAddr, &str> = vlans
        .iter()
        .flat_map(|vlan| {
            let v4 = vlan.self_ips_v4.iter().map(|addr| IpAddr::V4(*addr));
            let v6 = vlan.self_ips_v6.iter().map(|addr| IpAddr::V6(*addr));
            v4.chain(v6).map(|addr| (addr, vlan.name.as_str()))
        })
        .collect();
    let mut names: HashMap<&str, &ObjectKey> = HashMap::new();
    let mut taken: HashMap<IpAddr, &ObjectKey> = HashMap::new();
    let mut pools: Vec<SnatPool> = Vec::new();
    for (key, stored) in oldest_first(store, &[Kind::Snatpool]) {
        let Resource::Snatpool(spec) = &stored.object.resource else {
            continue;
        };
        let mut reasons = Reasons::default();
        if let Some(by) = names.get(&*spec.name) {
            let message = format!("the pool name \"{}\" is taken by {by}", spec.name);
            reasons.add(ReasonCode::Conflict, message);
            states.push(reasons.into_state(key, stored));
            continue;
        }
        names.insert(&spec.name, key);
        let listed = spec.addresses(replica);
        let mut addresses = Vec::with_capacity(listed.len());
        for addr in listed.iter() {
            if let Some(vlan) = self_ips.get(addr) {
                let message = format!(
                    "{addr} is a self IP of VLAN \"{vlan}\"; automap translates to self IPs"
                );
                reasons.add(ReasonCode::Conflict, message);
            } else if let Some(by) = taken.get(addr) {
                reasons.add(ReasonCode::Conflict, format!("{addr} is taken by {by}"));
            } else {
                taken.insert(*addr, key);
                addresses.push(*addr);
            }
        }
        if let Some(replicas) = spec.replicas()
            && listed.is_empty()
        {
            let message = format!(
                "no SNAT address for replica {replica}: spec.addressList has lists for {replicas} \
                 replicas"
            );
            reasons.add(ReasonCode::NoSnatAddress, message);
        }
        pools.push(SnatPool {
            name: Arc::clone(&spec.name),
            object: key.clone(),
            addresses: addresses.into(),
        });
        states.push(reasons.into_state(key, stored));
    }
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// What is missing for a reference to a pool, from `field`, that is to translate IPv4, IPv6 or both.
pub(super) fn check(
    pools: &[SnatPool],
    (snat, name): (Snat, Option<&str>),
    field: &str,
    (v4, v6): (bool, bool),
    reasons: &mut Reasons,
) {
    let (Snat::Snatpool, Some(name)) = (snat, name) else {
        return;
    };
    let found = pools.binary_search_by(|pool| (*pool.name).cmp(name));
    let Some(pool) = found.ok().and_then(|at| pools.get(at)) else {
        let message = format!("SNAT pool \"{name}\" named in {field} not found");
        reasons.add(ReasonCode::SnatPoolNotFound, message);
        return;
    };
    for (wanted, family, is) in [
        (v4, "IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        (v6, "IPv6", IpAddr::is_ipv6),
    ] {
        if wanted && !pool.addresses.iter().any(is) {
            let message =
                format!("SNAT pool \"{name}\" named in {field} has no {family} address here");
            reasons.add(ReasonCode::NoSnatAddress, message);
        }
    }
}
