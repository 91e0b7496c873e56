//! VLANs: unique names, links and self IPs.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{ObjectState, ReasonCode, Reasons, oldest_first};
use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::resource::{Resource, VlanSpec};
use crate::store::Store;
use crate::types::{Encap, Vlan};

/// What accepted VLANs have claimed, and which object has.
#[derive(Default)]
struct Claims<'s> {
    names: HashMap<&'s str, &'s ObjectKey>,
    links: HashMap<(&'s str, Encap), &'s ObjectKey>,
    addrs: HashMap<IpAddr, &'s ObjectKey>,
}

impl<'s> Claims<'s> {
    fn conflicts(&self, spec: &VlanSpec, reasons: &mut Reasons) {
        let mut conflict = |message| reasons.add(ReasonCode::Conflict, message);
        if let Some(by) = self.names.get(spec.name.as_str()) {
            conflict(format!("VLAN name \"{}\" is taken by {by}", spec.name));
        }
        for interface in &spec.interfaces {
            if let Some(by) = self.links.get(&(interface.as_str(), spec.encap)) {
                conflict(format!(
                    "{} on interface {interface} is taken by {by}",
                    spec.encap
                ));
            }
        }
        for addr in addrs(spec) {
            if let Some(by) = self.addrs.get(&addr) {
                conflict(format!("self IP {addr} is taken by {by}"));
            }
        }
    }

    fn claim(&mut self, key: &'s ObjectKey, spec: &'s VlanSpec) {
        self.names.insert(&spec.name, key);
        for interface in &spec.interfaces {
            self.links.insert((interface, spec.encap), key);
        }
        self.addrs.extend(addrs(spec).map(|addr| (addr, key)));
    }
}

fn addrs(spec: &VlanSpec) -> impl Iterator<Item = IpAddr> + '_ {
    let v4 = spec.self_ips_v4.iter().copied().map(IpAddr::V4);
    v4.chain(spec.self_ips_v6.iter().copied().map(IpAddr::V6))
}

pub(super) fn resolve(store: &Store, replica: usize, states: &mut Vec<ObjectState>) -> Vec<Vlan> {
    let mut claims = Claims::default();
    let mut vlans = Vec::new();
    for (key, stored) in oldest_first(store, &[Kind::Vlan]) {
        let Resource::Vlan(spec) = &stored.object.resource else {
            continue;
        };
        let mut reasons = Reasons::default();
        claims.conflicts(spec, &mut reasons);
        if reasons.is_empty() {
            claims.claim(key, spec);
            vlans.push(build(key, spec));
            standby(spec, replica, &mut reasons);
        }
        states.push(reasons.into_state(key, stored));
    }
    vlans.sort_by(|a, b| a.name.cmp(&b.name));
    vlans
}

/// Says so when the lists of self IPs end before this replica's position.
fn standby(spec: &VlanSpec, replica: usize, reasons: &mut Reasons) {
    let lists = [
        ("IPv4", "selfip_v4s", spec.self_ips_v4.len()),
        ("IPv6", "selfip_v6s", spec.self_ips_v6.len()),
    ];
    for (family, field, len) in lists {
        if (1..=replica).contains(&len) {
            reasons.add(
                ReasonCode::NoSelfIp,
                format!(
                    "no {family} self IP for replica {replica}: spec.{field} lists {len}, \
                     for replicas 0-{}",
                    len - 1
                ),
            );
        }
    }
}

fn build(key: &ObjectKey, spec: &VlanSpec) -> Vlan {
    let spec = spec.clone();
    Vlan {
        object: key.clone(),
        name: spec.name,
        encap: spec.encap,
        interfaces: spec.interfaces,
        bonded: spec.bonded,
        internal: spec.internal,
        self_ips_v4: spec.self_ips_v4,
        prefix_len_v4: spec.prefix_len_v4,
        self_ips_v6: spec.self_ips_v6,
        prefix_len_v6: spec.prefix_len_v6,
        mtu: spec.mtu,
        allowed_services: spec.allowed_services,
        trunk_hash: spec.trunk_hash,
        cmp_hash: spec.cmp_hash,
        pod_hash: spec.pod_hash,
        auto_lasthop: spec.auto_lasthop,
        mss_clamp: spec.mss_clamp,
        category: spec.category,
    }
}
