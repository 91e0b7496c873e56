//! Ways out of the cluster, and how clients' addresses are translated.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{ListenScope, seconds};
use crate::meta::ObjectKey;

/// Addresses to translate clients' addresses to (`F5SPKSnatpool`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnatPool {
    /// Its name: `spec.name`, unique.
    pub name: Arc<str>,
    /// The object it comes from.
    pub object: ObjectKey,
    /// The addresses of this replica, of either family, in the operator's order.
    pub addresses: Arc<[IpAddr]>,
}

/// A way out of the cluster (`F5SPKEgress`): what comes in by its VLANs for anywhere is routed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// `namespace/name` of its object.
    pub name: String,
    /// The object it comes from.
    pub object: ObjectKey,
    /// IPv6 too, not only IPv4.
    pub dual_stack: bool,
    /// How the client's address is translated.
    pub snat: Snat,
    /// As [`super::VirtualServer::snat_pool`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snat_pool: Option<Arc<str>>,
    /// Where it listens.
    pub listen: ListenScope,
    /// How clients' ports are translated, and who may send to what they are translated to.
    #[serde(flatten)]
    pub nat: Nat,
    /// How long flows may be silent.
    #[serde(flatten)]
    pub timeouts: EgressTimeouts,
}

/// How the flows of an egress are translated (RFC 4787 sections 4 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nat {
    /// What of a flow a translated port belongs to.
    #[serde(rename = "natMapping")]
    pub mapping: NatMapping,
    /// Who may send to a translated port.
    #[serde(rename = "natFiltering")]
    pub filtering: NatFiltering,
    /// The most mappings that one client may have.
    pub max_mappings_per_client: u32,
}

/// What of a flow a translated port belongs to (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NatMapping {
    /// The flow alone: towards another server the same client may get another one.
    #[default]
    AddressAndPortDependent,
    /// The client's address and port: towards all servers it is the same.
    EndpointIndependent,
}

/// Who may send to a translated port (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NatFiltering {
    /// The address and port that the client has sent to.
    #[default]
    AddressAndPortDependent,
    /// The address that the client has sent to, from any port.
    AddressDependent,
    /// Anybody, as long as the mapping lives.
    EndpointIndependent,
}

/// How long flows of an egress may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressTimeouts {
    /// TCP connections.
    #[serde(rename = "tcpIdleTimeout", serialize_with = "seconds")]
    pub tcp: Duration,
    /// UDP flows, and mappings.
    #[serde(rename = "udpIdleTimeout", serialize_with = "seconds")]
    pub udp: Duration,
    /// ICMP echoes.
    #[serde(rename = "icmpIdleTimeout", serialize_with = "seconds")]
    pub icmp: Duration,
    /// Other protocols.
    #[serde(rename = "otherIdleTimeout", serialize_with = "seconds")]
    pub other: Duration,
}

impl Default for EgressTimeouts {
    /// What RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-2 ask for or recommend.
    fn default() -> Self {
        Self {
            tcp: Duration::from_mins(124),
            udp: Duration::from_mins(5),
            icmp: Duration::from_mins(1),
            other: Duration::from_mins(10),
        }
    }
}

/// How the client's address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Snat {
    /// Not at all: the member sees the client.
    #[default]
    None,
    /// To the self IP of the VLAN the packet leaves by.
    Automap,
    /// To an address of a SNAT pool.
    Snatpool,
}
