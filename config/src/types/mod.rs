//! The validated whole: what the dataplane compiles into its tables.

mod egress;
mod server;
mod vlan;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::IpPrefix;
use serde::{Serialize, Serializer};

use crate::meta::ObjectKey;

pub use egress::{Egress, EgressTimeouts, Nat, NatFiltering, NatMapping, Snat, SnatPool};
pub use server::{
    LbMethod, Monitor, MonitorKind, Pool, PoolKey, PoolMember, Profile, Protocol, SctpProfile,
    ServiceDownAction, TcpProfile, UdpProfile, VirtualServer,
};
pub use vlan::{
    AllowedProtocol, AllowedService, AutoLasthop, Encap, SelfIp, SpreadHash, TrunkHash, Vlan,
};

/// Everything that is to be programmed, resolved and free of conflicts.
///
/// All lists are in a fixed order (VLANs by name, routes by destination, virtual servers by
/// object and family), so the same set of objects gives an equal `Config` whatever the order in
/// which they arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The replica index this configuration was resolved for.
    pub replica: usize,
    /// VLANs by name; no two share a name, a (port, encapsulation) pair or a self IP.
    pub vlans: Vec<Vlan>,
    /// Static routes; no two share a destination, and each names a VLAN of `vlans`.
    pub routes: Vec<StaticRoute>,
    /// SNAT pools by name; no two share a name or an address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snat_pools: Vec<SnatPool>,
    /// Ways out of the cluster, by object; no two of a family share a VLAN.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egresses: Vec<Egress>,
    /// Virtual servers; no two with the same destination, port and protocol share a VLAN.
    pub virtual_servers: Vec<VirtualServer>,
}

impl Config {
    /// The VLAN of that name.
    pub fn vlan(&self, name: &str) -> Option<&Vlan> {
        self.vlans
            .binary_search_by(|vlan| vlan.name.as_str().cmp(name))
            .ok()
            .and_then(|at| self.vlans.get(at))
    }
}

/// A static route (`F5SPKStaticRoute`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticRoute {
    /// The object it comes from.
    pub object: ObjectKey,
    /// Where it leads; `/0` for the default route.
    pub destination: IpPrefix,
    /// The next hop, of the destination's family.
    pub gateway: IpAddr,
    /// Name of the VLAN the gateway is on: as given, else the VLAN whose subnet holds the gateway.
    pub vlan: String,
}

/// Where a virtual server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenScope {
    /// On every VLAN.
    AllVlans,
    /// On these VLANs, sorted by name, each one of [`Config::vlans`]; empty means nowhere.
    Vlans(Arc<[String]>),
}

impl ListenScope {
    /// Whether the VLAN of that name is in scope.
    pub fn contains(&self, vlan: &str) -> bool {
        match self {
            Self::AllVlans => true,
            Self::Vlans(names) => names
                .binary_search_by(|name| name.as_str().cmp(vlan))
                .is_ok(),
        }
    }

    /// Whether some VLAN is in both scopes.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AllVlans, Self::AllVlans) => true,
            (Self::AllVlans, Self::Vlans(names)) | (Self::Vlans(names), Self::AllVlans) => {
                !names.is_empty()
            }
            (Self::Vlans(names), other @ Self::Vlans(_)) => {
                names.iter().any(|name| other.contains(name))
            }
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
