//! Static routes: one per destination, each leaving by a known VLAN.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use net::IpPrefix;

use super::{ObjectState, ReasonCode, Reasons, oldest_first};
use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::resource::{Resource, StaticRouteSpec};
use crate::store::Store;
use crate::types::{StaticRoute, Vlan};

pub(super) fn resolve(
    store: &Store,
    vlans: &[Vlan],
    states: &mut Vec<ObjectState>,
) -> Vec<StaticRoute> {
    let links = Links::new(vlans);
    let mut taken: HashMap<IpPrefix, &ObjectKey> = HashMap::new();
    let mut routes = Vec::new();
    for (key, stored) in oldest_first(store, &[Kind::StaticRoute]) {
        let Resource::StaticRoute(spec) = &stored.object.resource else {
            continue;
        };
        let mut reasons = Reasons::default();
        if let Some(vlan) = links.leave_by(spec, &mut reasons) {
            if let Some(by) = taken.get(&spec.destination) {
                reasons.add(
                    ReasonCode::Conflict,
                    format!("destination {} is taken by {by}", spec.destination),
                );
            } else {
                taken.insert(spec.destination, key);
                routes.push(StaticRoute {
                    object: key.clone(),
                    destination: spec.destination,
                    gateway: spec.gateway,
                    vlan: vlan.to_owned(),
                });
            }
        }
        states.push(reasons.into_state(key, stored));
    }
    routes.sort_by_key(|route| route.destination);
    routes
}

/// Where gateways can be.
struct Links<'c> {
    names: HashSet<&'c str>,
    /// Subnets and their VLANs; of VLANs that share one, the first by name.
    subnets: HashMap<IpPrefix, &'c str>,
    /// Every VLAN and each of its subnets.
    on_vlans: HashSet<(&'c str, IpPrefix)>,
    /// The prefix lengths that occur, longest first.
    lens: Vec<u8>,
    own: HashMap<IpAddr, &'c str>,
}

impl<'c> Links<'c> {
    fn new(vlans: &'c [Vlan]) -> Self {
        let mut subnets = HashMap::new();
        let mut own = HashMap::new();
        let mut on_vlans = HashSet::new();
        for vlan in vlans {
            for subnet in vlan.subnets() {
                subnets.entry(subnet).or_insert(vlan.name.as_str());
                on_vlans.insert((vlan.name.as_str(), subnet));
            }
            let v4 = vlan.self_ips_v4.iter().map(|addr| IpAddr::V4(*addr));
            let v6 = vlan.self_ips_v6.iter().map(|addr| IpAddr::V6(*addr));
            own.extend(v4.chain(v6).map(|addr| (addr, vlan.name.as_str())));
        }
        let mut lens: Vec<u8> = subnets.keys().map(IpPrefix::prefix_len).collect();
        lens.sort_unstable_by(|a, b| b.cmp(a));
        lens.dedup();
        Self {
            names: vlans.iter().map(|vlan| vlan.name.as_str()).collect(),
            subnets,
            on_vlans,
            lens,
            own,
        }
    }

    fn on_link(&self, vlan: &str, addr: IpAddr) -> bool {
        self.lens.iter().any(|len| {
            let subnet = IpPrefix::new(addr, *len).ok();
            subnet.is_some_and(|subnet| self.on_vlans.contains(&(vlan, subnet)))
        })
    }

    fn leave_by<'r>(&'r self, spec: &'r StaticRouteSpec, reasons: &mut Reasons) -> Option<&'r str> {
        let gateway = spec.gateway;
        if let Some(vlan) = self.own.get(&gateway) {
            let message = format!("gateway {gateway} is a self IP of VLAN \"{vlan}\"");
            reasons.add(ReasonCode::Conflict, message);
            return None;
        }
        if let Some(name) = &spec.interface {
            if !self.names.contains(name.as_str()) {
                let message = format!("VLAN \"{name}\" named in spec.interface not found");
                reasons.add(ReasonCode::VlanNotFound, message);
                return None;
            }
            // A link-local gateway is on every link; another must be on this one.
            let link_local = match gateway {
                IpAddr::V4(addr) => addr.is_link_local(),
                IpAddr::V6(addr) => addr.is_unicast_link_local(),
            };
            if !link_local && !self.on_link(name, gateway) {
                let message = format!("gateway {gateway} is on no subnet of VLAN \"{name}\"");
                reasons.add(ReasonCode::GatewayUnreachable, message);
                return None;
            }
            return Some(name);
        }
        let found = self.lens.iter().find_map(|len| {
            let subnet = IpPrefix::new(gateway, *len).ok()?;
            self.subnets.get(&subnet).copied()
        });
        if found.is_none() {
            let message = format!("gateway {gateway} is on no VLAN's subnet");
            reasons.add(ReasonCode::GatewayUnreachable, message);
        }
        found
    }
}
