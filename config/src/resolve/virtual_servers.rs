//! Virtual servers: members by Service and `EndpointSlice`, VLANs by name and category.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use net::{IpPrefix, L4Port};

use super::{ObjectState, ReasonCode, Reasons, oldest_first, snat_pools};
use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::resource::{
    EgressSpec, EndpointSlice, Family, Ingress, PortProtocol, Resource, Service, ServicePort,
    ServicePortRef, VlanSelector,
};
use crate::store::Store;
use crate::types::{
    Egress, ListenScope, Pool, PoolKey, PoolMember, Protocol, SnatPool, VirtualServer, Vlan,
};

mod egresses;

/// The kinds that make virtual servers.
const KINDS: [Kind; 5] = [
    Kind::IngressTcp,
    Kind::IngressUdp,
    Kind::IngressNgap,
    Kind::IngressDiameter,
    Kind::Egress,
];

pub(super) fn resolve<'s>(
    store: &'s Store,
    vlans: &'s [Vlan],
    snat_pools: &[SnatPool],
    states: &mut Vec<ObjectState>,
) -> (Vec<VirtualServer>, Vec<Egress>) {
    let mut pools = Pools::new(store);
    let mut scopes = Scopes::new(vlans);
    let mut claims: Claims<'_> = HashMap::new();
    let mut servers = Vec::new();
    let mut egresses = Vec::new();
    for (key, stored) in oldest_first(store, &KINDS) {
        if let Resource::Egress(spec) = &stored.object.resource {
            let found = scopes.egress(spec, vlans);
            let (egress, state) =
                egresses::resolve(key, stored, spec, found, snat_pools, &mut claims);
            egresses.extend(egress);
            states.push(state);
            continue;
        }
        let ingresses = stored.object.resource.ingresses();
        // The same for all of them.
        let Some(first) = ingresses.first() else {
            continue;
        };
        let (listen, mut reasons) = scopes.resolve(first.vlans.as_ref());
        let mut everywhere = ingresses.iter().flat_map(|ingress| &ingress.destinations);
        let v4 = everywhere.clone().any(|to| to.addr().is_ipv4());
        let v6 = everywhere.any(|to| to.addr().is_ipv6());
        snat_pools::check(
            snat_pools,
            (first.snat, first.snat_pool.as_deref()),
            "spec.snatpool",
            (v4, v6),
            &mut reasons,
        );
        let name: String = key.path();
        let places = ingresses
            .iter()
            .flat_map(|ingress| ingress.destinations.iter().map(move |to| (ingress, *to)));
        for (ingress, destination) in places {
            let members = pools.members(key, ingress, destination, &mut reasons);
            let claim = claims
                .entry((ingress.protocol, destination, ingress.port))
                .or_default();
            if let Some((by, vlan)) = claim.conflict(&listen) {
                let place = vlan.map_or_else(String::new, |vlan| format!(" on VLAN \"{vlan}\""));
                reasons.add(
                    ReasonCode::Conflict,
                    format!(
                        "{} {destination} port {}{place} is taken by {by}",
                        ingress.protocol, ingress.port
                    ),
                );
                continue;
            }
            claim.take(key, &listen);
            servers.push(VirtualServer {
                name: name.clone(),
                object: key.clone(),
                protocol: ingress.protocol,
                destination,
                port: ingress.port,
                pool: Pool {
                    key: PoolKey {
                        namespace: key.namespace.clone(),
                        service: ingress.service.clone(),
                        port: ingress.service_port.to_string(),
                        protocol: ingress.protocol,
                    },
                    members,
                },
                method: ingress.method,
                snat: ingress.snat,
                snat_pool: ingress.snat_pool.clone(),
                listen: listen.clone(),
                profile: ingress.profile.clone(),
                monitors: Arc::clone(&ingress.monitors),
            });
        }
        states.push(reasons.into_state(key, stored));
    }
    servers.sort_by(|a, b| {
        let family = |server: &VirtualServer| server.destination.addr().is_ipv6();
        a.object
            .cmp(&b.object)
            .then(a.protocol.cmp(&b.protocol))
            .then(family(a).cmp(&family(b)))
    });
    egresses.sort_by(|a, b| a.object.cmp(&b.object));
    (servers, egresses)
}

/// Who listens where, by protocol, destination and port.
type Claims<'s> = HashMap<(Protocol, IpPrefix, L4Port), Claim<'s>>;

/// Who listens on one destination, port and protocol, and where. No two holders share a VLAN,
/// so one that listens everywhere is alone.
#[derive(Default)]
struct Claim<'s> {
    holders: Vec<(&'s ObjectKey, ListenScope)>,
    /// The holders by VLAN, from the second holder on: most destinations have just one.
    by_vlan: HashMap<String, &'s ObjectKey>,
}

impl<'s> Claim<'s> {
    /// Who already listens somewhere in the scope, and on which VLAN if it is a certain one.
    fn conflict<'l>(&self, scope: &'l ListenScope) -> Option<(&'s ObjectKey, Option<&'l str>)> {
        let ListenScope::Vlans(names) = scope else {
            return self.holders.first().map(|(by, _)| (*by, None));
        };
        let holder = |name: &str| match &self.holders[..] {
            [(by, held)] => held.contains(name).then_some(*by),
            _ => self.by_vlan.get(name).copied(),
        };
        names
            .iter()
            .find_map(|name| Some((holder(name)?, Some(name.as_str()))))
    }

    fn take(&mut self, key: &'s ObjectKey, scope: &ListenScope) {
        if matches!(scope, ListenScope::Vlans(names) if names.is_empty()) {
            return;
        }
        self.holders.push((key, scope.clone()));
        let index = match self.holders.len() {
            1 => return,
            2 => &self.holders[..],
            _ => self
                .holders
                .last()
                .map(std::slice::from_ref)
                .unwrap_or_default(),
        };
        for (by, held) in index {
            if let ListenScope::Vlans(names) = held {
                let names = names.iter().cloned();
                self.by_vlan.extend(names.map(|name| (name, *by)));
            }
        }
    }
}

/// VLANs as selectors see them.
struct Scopes<'c> {
    names: BTreeSet<&'c str>,
    categories: HashMap<&'c str, Vec<&'c str>>,
    /// Scopes by selector: virtual servers tend to share a few.
    known: HashMap<&'c VlanSelector, (ListenScope, Reasons)>,
}

impl<'c> Scopes<'c> {
    fn new(vlans: &'c [Vlan]) -> Self {
        let mut categories: HashMap<&str, Vec<&str>> = HashMap::new();
        for vlan in vlans {
            if let Some(category) = &vlan.category {
                categories.entry(category).or_default().push(&vlan.name);
            }
        }
        Self {
            names: vlans.iter().map(|vlan| vlan.name.as_str()).collect(),
            categories,
            known: HashMap::new(),
        }
    }

    /// Where a selector listens, and what it names that is not there.
    fn resolve(&mut self, selector: Option<&'c VlanSelector>) -> (ListenScope, Reasons) {
        let Some(selector) = selector else {
            return (ListenScope::AllVlans, Reasons::default());
        };
        if let Some(known) = self.known.get(selector) {
            return known.clone();
        }
        let mut reasons = Reasons::default();
        let scope = self.select(selector, &mut reasons);
        self.known
            .insert(selector, (scope.clone(), reasons.clone()));
        (scope, reasons)
    }

    /// Where an egress listens: on every internal VLAN where nothing is said.
    fn egress(&mut self, spec: &'c EgressSpec, vlans: &[Vlan]) -> (ListenScope, Reasons) {
        if spec.vlans.is_some() {
            return self.resolve(spec.vlans.as_ref());
        }
        let mut reasons = Reasons::default();
        let internal = vlans.iter().filter(|vlan| vlan.internal);
        let names: Arc<[String]> = internal.map(|vlan| vlan.name.clone()).collect();
        if names.is_empty() {
            let message = "there is no VLAN with internal: true, and spec.vlans names none";
            reasons.add(ReasonCode::VlanNotFound, message.to_owned());
        }
        (ListenScope::Vlans(names), reasons)
    }

    fn select(&self, selector: &VlanSelector, reasons: &mut Reasons) -> ListenScope {
        let mut listed: BTreeSet<&str> = BTreeSet::new();
        for name in &selector.list {
            if let Some(name) = self.names.get(name.as_str()) {
                listed.insert(name);
            } else {
                reasons.add(
                    ReasonCode::VlanNotFound,
                    format!("VLAN \"{name}\" named in spec.vlans.vlanList not found"),
                );
            }
        }
        if let Some(category) = &selector.category {
            match self.categories.get(category.as_str()) {
                Some(names) => listed.extend(names),
                None => reasons.add(
                    ReasonCode::VlanNotFound,
                    format!("no VLAN of the category \"{category}\" in spec.vlans.category found"),
                ),
            }
        }
        let names: Arc<[String]> = if selector.disable_listed {
            let rest = self.names.difference(&listed);
            rest.map(|name| (*name).to_owned()).collect()
        } else {
            listed.into_iter().map(str::to_owned).collect()
        };
        ListenScope::Vlans(names)
    }
}

/// Names a resolved list of members.
type MembersKey<'s> = (&'s str, &'s str, &'s ServicePortRef, Protocol, Family);

/// Members by Service port, resolved once and shared.
struct Pools<'s> {
    services: HashMap<(&'s str, &'s str), &'s Service>,
    slices: HashMap<(&'s str, &'s str), Vec<&'s EndpointSlice>>,
    members: HashMap<MembersKey<'s>, Arc<[PoolMember]>>,
}

impl<'s> Pools<'s> {
    fn new(store: &'s Store) -> Self {
        let mut services = HashMap::new();
        for (key, stored) in store.of_kind(Kind::Service) {
            if let Resource::Service(service) = &stored.object.resource {
                services.insert((key.namespace.as_str(), key.name.as_str()), service);
            }
        }
        let mut slices: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for (key, stored) in store.of_kind(Kind::EndpointSlice) {
            if let Resource::EndpointSlice(slice) = &stored.object.resource
                && let Some(service) = &slice.service
            {
                let service = (key.namespace.as_str(), service.as_str());
                slices.entry(service).or_default().push(slice);
            }
        }
        Self {
            services,
            slices,
            members: HashMap::new(),
        }
    }

    /// The members behind one destination; what is missing goes to the reasons.
    fn members(
        &mut self,
        key: &'s ObjectKey,
        ingress: &'s Ingress,
        destination: IpPrefix,
        reasons: &mut Reasons,
    ) -> Arc<[PoolMember]> {
        let namespace = key.namespace.as_str();
        let name = ingress.service.as_str();
        let Some(service) = self.services.get(&(namespace, name)) else {
            let message = format!("Service \"{namespace}/{name}\" not found");
            reasons.add(ReasonCode::ServiceNotFound, message);
            return Arc::default();
        };
        let Some(port) = find_port(service, ingress) else {
            let message = format!(
                "Service \"{namespace}/{name}\" has no {} port {}{}",
                ingress.protocol,
                ingress.service_port,
                ports_of(service)
            );
            reasons.add(ReasonCode::ServicePortNotFound, message);
            return Arc::default();
        };
        let family = if destination.addr().is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let slices = self.slices.get(&(namespace, name)).map_or(&[][..], |v| v);
        let members = self
            .members
            .entry((
                namespace,
                name,
                &ingress.service_port,
                ingress.protocol,
                family,
            ))
            .or_insert_with(|| collect(slices, port, family));
        if !members.iter().any(|member| member.ready) {
            let other = slices
                .iter()
                .any(|slice| slice.family != family && slice.endpoints.iter().any(|e| e.ready));
            let which = match (other, family) {
                (false, _) => "",
                (true, Family::V4) => "IPv4 ",
                (true, Family::V6) => "IPv6 ",
            };
            let message = format!("Service \"{namespace}/{name}\" has no ready {which}endpoint");
            reasons.add(ReasonCode::NoReadyEndpoint, message);
        }
        Arc::clone(members)
    }
}

fn matches(port: PortProtocol, protocol: Protocol) -> bool {
    matches!(
        (port, protocol),
        (PortProtocol::Tcp, Protocol::Tcp)
            | (PortProtocol::Udp, Protocol::Udp)
            | (PortProtocol::Sctp, Protocol::Sctp)
    )
}

fn find_port<'s>(service: &'s Service, ingress: &Ingress) -> Option<&'s ServicePort> {
    service.ports.iter().find(|port| {
        matches(port.protocol, ingress.protocol)
            && match &ingress.service_port {
                ServicePortRef::Number(number) => port.port == *number,
                ServicePortRef::Name(name) => port.name == *name,
            }
    })
}

/// What ports a Service does have, for an error line.
fn ports_of(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .take(8)
        .map(|port| match port.name.as_str() {
            "" => format!("{}/{}", port.port, port.protocol),
            name => format!("{}/{} \"{name}\"", port.port, port.protocol),
        })
        .collect();
    if ports.is_empty() {
        return String::new();
    }
    let more = if service.ports.len() > ports.len() {
        ", …"
    } else {
        ""
    };
    format!(" (it has {}{more})", ports.join(", "))
}

/// All slices of a Service merged: sorted, without duplicates. An endpoint that several slices
/// list is ready, or draining, if one of them says so.
fn collect(slices: &[&EndpointSlice], port: &ServicePort, family: Family) -> Arc<[PoolMember]> {
    let mut members: HashMap<(IpAddr, u16), PoolMember> = HashMap::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        let serving = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in serving.map(|p| p.port) {
            for endpoint in &slice.endpoints {
                let member = members
                    .entry((endpoint.addr, number))
                    .or_insert(PoolMember {
                        addr: endpoint.addr,
                        port: L4Port(number),
                        ready: false,
                        draining: false,
                    });
                member.ready |= endpoint.ready;
                member.draining |= endpoint.serving && endpoint.terminating;
            }
        }
    }
    let mut members: Vec<PoolMember> = members.into_values().collect();
    for member in &mut members {
        member.draining &= !member.ready;
    }
    members.sort_unstable();
    members.into()
}
