//! Virtual servers, their options and their pools.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{IpPrefix, L4Port};
use serde::Serialize;

use super::egress::Snat;
use super::{ListenScope, seconds};
use crate::meta::ObjectKey;

/// The protocol of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// One virtual server: an Ingress object, and one protocol and address family of its destinations.
///
/// It is listed as soon as its object is valid, so that it can be shown as down; it is to answer
/// only while [`VirtualServer::is_live`] and while it listens on a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServer {
    /// `namespace/name` of its object. All virtual servers of one object share it.
    pub name: String,
    /// The object it comes from.
    pub object: ObjectKey,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The address or prefix it listens on; `/0` for a wildcard.
    pub destination: IpPrefix,
    /// The port it listens on; 0 means all.
    pub port: L4Port,
    /// The members, of the destination's family.
    pub pool: Pool,
    /// How a member is selected.
    pub method: LbMethod,
    /// How the client's address is translated.
    pub snat: Snat,
    /// The name of the SNAT pool, where [`Snat::Snatpool`] says so; it may not be one of
    /// [`super::Config::snat_pools`] (yet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snat_pool: Option<Arc<str>>,
    /// Where it listens.
    pub listen: ListenScope,
    /// How its flows are treated.
    #[serde(flatten)]
    pub profile: Profile,
    /// Health checks, as given. They are kept here and not run by this crate.
    pub monitors: Arc<[Monitor]>,
}

impl VirtualServer {
    /// Whether a ready member exists: only then is the address answered for and traffic taken.
    pub fn is_live(&self) -> bool {
        self.pool.members.iter().any(|member| member.ready)
    }
}

/// How the flows of a virtual server are treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// After how much silence a flow is forgotten; at least one second.
    #[serde(serialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// What happens to flows of a member that went down.
    pub service_down_action: ServiceDownAction,
    /// The most connections at a time; 0 is any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub connection_limit: u32,
    /// The most connections of one client at a time; 0 is any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_connection_limit: u32,
    /// New TCP connections per second beyond which clients must prove their address; 0 is never.
    #[serde(skip_serializing_if = "is_zero")]
    pub syn_protection_threshold: u32,
    /// What concerns TCP alone; `None` of a virtual server of another protocol.
    #[serde(flatten)]
    pub tcp: Option<TcpProfile>,
    /// What concerns UDP alone; `None` of a virtual server of another protocol.
    #[serde(flatten)]
    pub udp: Option<UdpProfile>,
    /// What concerns SCTP alone; `None` of a virtual server of another protocol.
    #[serde(flatten)]
    pub sctp: Option<SctpProfile>,
}

/// How the TCP connections of a virtual server are treated. Each time is at least one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpProfile {
    /// How long a handshake may take.
    #[serde(rename = "tcpHandshakeTimeout", serialize_with = "seconds")]
    pub handshake_timeout: Duration,
    /// How long a connection may be silent that both sides are closing.
    #[serde(rename = "tcpCloseTimeout", serialize_with = "seconds")]
    pub close_timeout: Duration,
    /// How long a connection may be silent that one side has closed.
    #[serde(rename = "tcpHalfCloseTimeout", serialize_with = "seconds")]
    pub half_close_timeout: Duration,
    /// How long a connection is remembered that both sides have closed.
    #[serde(rename = "tcpTimeWaitTimeout", serialize_with = "seconds")]
    pub time_wait_timeout: Duration,
    /// Whether both ends are told by a reset when a connection was silent for too long.
    pub reset_on_timeout: bool,
    /// Whether connections are taken on in their middle.
    pub loose_initialization: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde has it")]
const fn is_zero(limit: &u32) -> bool {
    *limit == 0
}

/// How the datagrams of a virtual server are treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UdpProfile {
    /// After how much silence a flow is forgotten that was never replied to; at least one second.
    #[serde(serialize_with = "seconds")]
    pub unreplied_timeout: Duration,
    /// Whether a member is chosen for each datagram by itself.
    pub datagram_load_balancing: bool,
}

/// How the associations of a virtual server are treated. Each time is at least one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpProfile {
    /// How long an association may be silent that is being opened.
    #[serde(rename = "sctpHandshakeTimeout", serialize_with = "seconds")]
    pub handshake_timeout: Duration,
    /// How long an association may be silent that is being shut down.
    #[serde(rename = "sctpShutdownTimeout", serialize_with = "seconds")]
    pub shutdown_timeout: Duration,
}

/// The members behind a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// The Service port they come from. Virtual servers with an equal key and family have equal
    /// members, so they can share one pool.
    pub key: PoolKey,
    /// Sorted by address and port, without duplicates, all of one family.
    pub members: Arc<[PoolMember]>,
}

/// Names a pool: a port of a Service, for one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PoolKey {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// The Service port, number or name as the resource gave it.
    pub port: String,
    /// The protocol of that port.
    pub protocol: Protocol,
}

impl std::fmt::Display for PoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

/// One endpoint of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PoolMember {
    /// Its address.
    pub addr: IpAddr,
    /// Its port, never 0.
    pub port: L4Port,
    /// It takes new flows.
    pub ready: bool,
    /// It takes no new flows and keeps the ones it has (serving and terminating). A member that
    /// is neither ready nor draining is down.
    pub draining: bool,
}

/// How a pool member is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LbMethod {
    /// In turn.
    #[default]
    RoundRobin,
    /// In turn by ratio; the resources carry no ratios, so all are equal.
    RatioMember,
    /// The member with the fewest flows.
    LeastConnMember,
    /// The member with the fewest flows in proportion to its ratio (all equal).
    RatioLeastConnMember,
    /// By a consistent hash of the client's address (Maglev).
    SourceAddrHash,
}

/// What happens to flows of a member that went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceDownAction {
    /// They are left alone.
    #[default]
    None,
    /// They are reset (TCP RST, ICMP unreachable).
    Reject,
    /// They are forgotten silently.
    Drop,
    /// They move to another member.
    Reselect,
}

/// What a monitor speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitorKind {
    /// A TCP connection is opened and closed.
    Tcp,
    /// An ICMP echo.
    Icmp,
    /// An HTTP request.
    Http,
    /// A UDP datagram.
    Udp,
}

/// A health check, validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitor {
    /// What it speaks.
    pub kind: MonitorKind,
    /// Time between two checks, in whole seconds, 1–86,400.
    #[serde(serialize_with = "seconds")]
    pub interval: Duration,
    /// Time without a good answer after which the member is down, at least `interval`.
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    /// What is sent (http).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// What the answer must contain (http).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<String>,
    /// The port, where it is not the member's (http).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<L4Port>,
}
