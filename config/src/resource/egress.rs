//! `F5SPKEgress`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::VlanSelector;
use super::ingress::{SNAT, read_vlans};
use crate::reader::{Fields, Node};
use crate::types::{EgressTimeouts, Nat, NatFiltering, NatMapping, Snat};

/// What an `F5SPKEgress` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressSpec {
    /// IPv6 too, not only IPv4.
    pub dual_stack: bool,
    /// How the client's address is translated.
    pub snat: Snat,
    /// To an address of the SNAT pool with this name, where [`Snat::Snatpool`] says so.
    pub snat_pool: Option<Arc<str>>,
    /// Where it listens; `None` is on every internal VLAN.
    pub vlans: Option<VlanSelector>,
    /// How clients' ports are translated, and who may send to them.
    pub nat: Nat,
    /// How long flows may be silent.
    pub timeouts: EgressTimeouts,
}

const MAPPINGS: [(&str, NatMapping); 2] = [
    (
        "ADDRESS_AND_PORT_DEPENDENT",
        NatMapping::AddressAndPortDependent,
    ),
    ("ENDPOINT_INDEPENDENT", NatMapping::EndpointIndependent),
];

const FILTERINGS: [(&str, NatFiltering); 3] = [
    (
        "ADDRESS_AND_PORT_DEPENDENT",
        NatFiltering::AddressAndPortDependent,
    ),
    ("ADDRESS_DEPENDENT", NatFiltering::AddressDependent),
    ("ENDPOINT_INDEPENDENT", NatFiltering::EndpointIndependent),
];

/// What one client may have of mappings where nothing is said.
const MAPPINGS_PER_CLIENT: u32 = 2048;

pub(super) fn read(node: &Node<'_>) -> Option<EgressSpec> {
    let f = node.object()?;
    let kind = f.take("snatType", |node| node.one_of(&SNAT));
    let pool = f.take("egressSnatpool", Node::string);
    let pool = pool.filter(|name| !name.is_empty());
    let snat = kind.unwrap_or(if pool.is_some() {
        Snat::Snatpool
    } else {
        Snat::Automap
    });
    match (kind, pool.is_some()) {
        (Some(Snat::Snatpool), false) => f.error_at(
            "egressSnatpool",
            "is required beside snatType: SRC_TRANS_SNATPOOL: the spec.name of an F5SPKSnatpool",
        ),
        (Some(Snat::None | Snat::Automap), true) => f.error_at(
            "egressSnatpool",
            "has no meaning beside this snatType: leave it out, or set snatType: SRC_TRANS_SNATPOOL",
        ),
        _ => {}
    }
    let dual_stack = f.take("dualStackEnabled", Node::boolean);
    let vlans = f.take("vlans", read_vlans);
    let nat = read_nat(&f, snat);
    let timeouts = read_timeouts(&f);
    not_carried_out(&f);
    f.deny_unknown();
    Some(EgressSpec {
        dual_stack: dual_stack.unwrap_or(false),
        snat,
        snat_pool: pool.map(Arc::from),
        vlans: vlans.filter(|vlans| !vlans.list.is_empty() || vlans.category.is_some()),
        nat,
        timeouts,
    })
}

fn read_nat(f: &Fields<'_>, snat: Snat) -> Nat {
    let mapping = f.take("natMapping", |node| node.one_of(&MAPPINGS));
    let filtering = f.take("natFiltering", |node| node.one_of(&FILTERINGS));
    let most = f.take("maxMappingsPerClient", |node| node.integer(1..=65_535u32));
    let nat = Nat {
        mapping: mapping.unwrap_or_default(),
        filtering: filtering.unwrap_or_default(),
        max_mappings_per_client: most.unwrap_or(MAPPINGS_PER_CLIENT),
    };
    let independent = nat.mapping == NatMapping::EndpointIndependent;
    if independent && snat == Snat::None {
        f.error_at(
            "natMapping",
            "has no meaning with snatType: SRC_TRANS_NONE: nothing is translated",
        );
    }
    // Where a port belongs to one flow, only that flow's server can be told from others.
    if !independent && nat.filtering != NatFiltering::AddressAndPortDependent {
        f.error_at("natFiltering", "needs natMapping: ENDPOINT_INDEPENDENT");
    }
    if !independent && most.is_some() {
        f.error_at(
            "maxMappingsPerClient",
            "needs natMapping: ENDPOINT_INDEPENDENT",
        );
    }
    nat
}

fn read_timeouts(f: &Fields<'_>) -> EgressTimeouts {
    let default = EgressTimeouts::default();
    let read = |name, default| {
        let seconds = f.take(name, |node| node.integer(1..=u32::MAX));
        seconds.map_or(default, |s| Duration::from_secs(s.into()))
    };
    EgressTimeouts {
        tcp: read("tcpIdleTimeout", default.tcp),
        udp: read("udpIdleTimeout", default.udp),
        icmp: read("icmpIdleTimeout", default.icmp),
        other: read("otherIdleTimeout", default.other),
    }
}

/// What manifests carry of features that tmm does not have. Switched off or empty, they are taken; what would
/// only adjust such a feature is taken as it is.
fn not_carried_out(f: &Fields<'_>) {
    f.take("dnsNat46Enabled", |node| {
        node.only_off("is not supported: tmm does not translate between IPv4 and IPv6")
    });
    f.take("dnsNat46Ipv4Subnet", Node::string);
    f.take("dnsNat46PoolIps", |node| {
        let schema = || json!({"type": "array", "maxItems": 0, "items": {"type": "string"}});
        match node.value_as(schema)? {
            Value::Array(items) if items.is_empty() => Some(()),
            Value::Array(_) => {
                node.error("is not supported: tmm does not translate between IPv4 and IPv6")
            }
            _ => node.wrong_type("a list"),
        }
    });
    f.take("maxTmmReplicas", |node| node.integer(0..=i32::MAX));
    f.take("maxReservedStaticIps", |node| node.integer(0..=i32::MAX));
    f.take("nat64Enabled", |node| {
        node.only_off("is not supported: tmm does not translate between IPv6 and IPv4")
    });
    f.take("nat64Ipv6Subnet", Node::string);
    f.take("dnsCacheName", |node| {
        node.only_empty("is not supported: tmm has no DNS cache; leave it empty")
    });
    f.take("firewallEnforcedPolicy", |node| {
        node.only_empty(
            "is not supported: tmm has no firewall policies, and traffic that one should stop must not \
             pass; leave it empty",
        )
    });
}
