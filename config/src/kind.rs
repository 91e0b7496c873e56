//! The kinds of objects: which are programmed, which are only known by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind that is programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A VLAN with its self IPs.
    #[serde(rename = "F5SPKVlan")]
    Vlan,
    /// A static route.
    #[serde(rename = "F5SPKStaticRoute")]
    StaticRoute,
    /// A TCP virtual server.
    #[serde(rename = "F5SPKIngressTCP")]
    IngressTcp,
    /// A UDP virtual server.
    #[serde(rename = "F5SPKIngressUDP")]
    IngressUdp,
    /// An SCTP virtual server for NGAP.
    #[serde(rename = "F5SPKIngressNGAP")]
    IngressNgap,
    /// Virtual servers for Diameter, over TCP and SCTP.
    #[serde(rename = "F5SPKIngressDiameter")]
    IngressDiameter,
    /// Addresses to translate clients' addresses to.
    #[serde(rename = "F5SPKSnatpool")]
    Snatpool,
    /// The way out of the cluster.
    #[serde(rename = "F5SPKEgress")]
    Egress,
    /// The core Service: names the ports of a pool.
    Service,
    /// Part of the members of a Service.
    EndpointSlice,
}

impl Kind {
    /// Every programmed kind.
    pub const ALL: [Self; 10] = [
        Self::Vlan,
        Self::StaticRoute,
        Self::IngressTcp,
        Self::IngressUdp,
        Self::IngressNgap,
        Self::IngressDiameter,
        Self::Snatpool,
        Self::Egress,
        Self::Service,
        Self::EndpointSlice,
    ];

    /// The name manifests use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vlan => "F5SPKVlan",
            Self::StaticRoute => "F5SPKStaticRoute",
            Self::IngressTcp => "F5SPKIngressTCP",
            Self::IngressUdp => "F5SPKIngressUDP",
            Self::IngressNgap => "F5SPKIngressNGAP",
            Self::IngressDiameter => "F5SPKIngressDiameter",
            Self::Snatpool => "F5SPKSnatpool",
            Self::Egress => "F5SPKEgress",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// The apiVersion manifests use; of several, the newest, which a cluster stores.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Vlan
            | Self::StaticRoute
            | Self::Snatpool
            | Self::IngressNgap
            | Self::IngressDiameter => "k8s.f5net.com/v1",
            Self::Egress => "k8s.f5net.com/v3",
            Self::IngressTcp => "ingresstcp.k8s.f5net.com/v1",
            Self::IngressUdp => "ingressudp.k8s.f5net.com/v1",
            Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// Older versions of the kind that manifests may name as well; they mean the same.
    pub const fn older_versions(self) -> &'static [&'static str] {
        match self {
            Self::Egress => &["k8s.f5net.com/v1", "k8s.f5net.com/v2"],
            _ => &[],
        }
    }

    /// Whether manifests of this kind may name this apiVersion.
    pub fn accepts(self, api_version: &str) -> bool {
        api_version == self.api_version() || self.older_versions().contains(&api_version)
    }

    /// The name of its resource in a path of the API, which is the plural of its names.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Vlan => "f5-spk-vlans",
            Self::StaticRoute => "f5-spk-staticroutes",
            Self::IngressTcp => "f5-spk-ingresstcps",
            Self::IngressUdp => "f5-spk-ingressudps",
            Self::IngressNgap => "f5-spk-ingressngaps",
            Self::IngressDiameter => "f5-spk-ingressdiameters",
            Self::Snatpool => "f5-spk-snatpools",
            Self::Egress => "f5-spk-egresses",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
        }
    }

    /// Whether it is a custom resource, which has a definition and a status that is ours to write.
    pub const fn is_custom(self) -> bool {
        !matches!(self, Self::Service | Self::EndpointSlice)
    }

    /// The kind of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kinds of the same family that are recognised and refused.
pub const UNSUPPORTED: [&str; 5] = [
    "F5SPKPortList",
    "F5SPKAddressList",
    "F5SPKDnscache",
    "F5BigFwPolicy",
    "F5BigFwRulelist",
];

/// The sentence for a kind that is not programmed.
pub fn refusal(name: &str) -> String {
    if UNSUPPORTED.contains(&name) {
        return format!("kind {name} is not supported yet");
    }
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let hint = crate::reader::closest(name, known.iter().copied())
        .map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
    format!(
        "unknown kind {}{hint} (accepted: {})",
        crate::reader::quote(name),
        known.join(", ")
    )
}
