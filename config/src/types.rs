//! The validated whole: what the dataplane compiles into its tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use net::{IpPrefix, L4Port, VlanId};
use serde::{Serialize, Serializer};

use crate::meta::ObjectKey;

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

/// How frames of a VLAN are tagged on its interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Encap {
    /// No tag (IEEE 802.3).
    Untagged,
    /// One 802.1Q tag (TPID 0x8100).
    Tagged(VlanId),
    /// An 802.1ad S-tag (TPID 0x88a8) around an 802.1Q C-tag.
    Double {
        /// The S-tag's VLAN identifier.
        outer: VlanId,
        /// The C-tag's VLAN identifier.
        inner: VlanId,
    },
}

impl std::fmt::Display for Encap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged => f.write_str("untagged"),
            Self::Tagged(tag) => write!(f, "tag {tag}"),
            Self::Double { outer, inner } => write!(f, "tag {outer}.{inner}"),
        }
    }
}

/// A VLAN with its self IPs (`F5SPKVlan`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// The VLAN's name in tmm: `spec.name`, unique, 1–63 characters.
    pub name: String,
    /// The object it comes from.
    pub object: ObjectKey,
    /// How its frames are tagged.
    pub encap: Encap,
    /// Ports by name (`"1.1"`), in attachment order, at least one, none twice.
    pub interfaces: Vec<String>,
    /// The interfaces form one link aggregation group.
    pub bonded: bool,
    /// The node-facing VLAN: the egress gateway towards the cluster.
    pub internal: bool,
    /// IPv4 self IPs of all replicas; position = replica index.
    pub self_ips_v4: Vec<Ipv4Addr>,
    /// Prefix length of every IPv4 self IP, 0–32; 0 when there are none.
    pub prefix_len_v4: u8,
    /// IPv6 self IPs of all replicas; position = replica index.
    pub self_ips_v6: Vec<Ipv6Addr>,
    /// Prefix length of every IPv6 self IP, 0–128; 0 when there are none.
    pub prefix_len_v6: u8,
    /// Largest IP packet in bytes, 1500–9000; `None` means the process's default.
    pub mtu: Option<u16>,
    /// What the self IPs accept besides ARP, NDP and ICMP; `None` means that nothing was said.
    pub allowed_services: Option<Vec<AllowedService>>,
    /// How flows are spread over the links of a LAG.
    pub trunk_hash: TrunkHash,
    /// How flows are spread over workers.
    pub cmp_hash: SpreadHash,
    /// How flows are spread over replicas that share the VLAN.
    pub pod_hash: SpreadHash,
    /// Whether replies go to the MAC address the request came from.
    pub auto_lasthop: AutoLasthop,
    /// The MSS that connections over this VLAN announce is lowered to what its MTU holds.
    pub mss_clamp: bool,
    /// A label other resources may select by.
    pub category: Option<String>,
}

impl Vlan {
    /// The addresses replica number `replica` (from 0) owns on this VLAN: at most one per family,
    /// and none for a replica the lists have no position for.
    pub fn self_ips(&self, replica: usize) -> impl Iterator<Item = SelfIp> + '_ {
        let v4 = self.self_ips_v4.get(replica).map(|&addr| SelfIp {
            addr: addr.into(),
            prefix_len: self.prefix_len_v4,
        });
        let v6 = self.self_ips_v6.get(replica).map(|&addr| SelfIp {
            addr: addr.into(),
            prefix_len: self.prefix_len_v6,
        });
        v4.into_iter().chain(v6)
    }

    /// The on-link prefixes, which are the same for every replica: those of all self IPs.
    pub fn subnets(&self) -> impl Iterator<Item = IpPrefix> + '_ {
        let v4 = self
            .self_ips_v4
            .iter()
            .map(|&addr| (IpAddr::V4(addr), self.prefix_len_v4));
        let v6 = self
            .self_ips_v6
            .iter()
            .map(|&addr| (IpAddr::V6(addr), self.prefix_len_v6));
        v4.chain(v6)
            .filter_map(|(addr, len)| IpPrefix::new(addr, len).ok())
    }
}

/// An address tmm owns, with the length of its on-link prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfIp {
    /// The address, host bits included.
    pub addr: IpAddr,
    /// 0–32 for IPv4, 0–128 for IPv6.
    pub prefix_len: u8,
}

impl SelfIp {
    /// The on-link prefix the address lies in.
    pub fn subnet(&self) -> IpPrefix {
        IpPrefix::new(self.addr, self.prefix_len).unwrap_or(IpPrefix::host(self.addr))
    }
}

/// One line of a VLAN's port lockdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AllowedService {
    /// The protocol.
    pub protocol: AllowedProtocol,
    /// The destination port; 0 means all.
    pub port: L4Port,
}

/// A protocol that port lockdown knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AllowedProtocol {
    /// Every protocol.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP and `ICMPv6`.
    Icmp,
}

/// How flows are spread over the links of a LAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrunkHash {
    /// By destination MAC address.
    DstMac,
    /// By both MAC addresses.
    SrcDstMac,
    /// By addresses and ports (the default).
    #[default]
    SrcDstIpport,
}

/// What of a flow decides which worker (or replica) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SpreadHash {
    /// Addresses and ports.
    #[default]
    Default,
    /// The source address alone.
    SrcAddr,
    /// The destination address alone.
    DstAddr,
}

/// Whether replies go to the MAC address the request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AutoLasthop {
    /// As the process decides (it is on).
    #[default]
    Default,
    /// On.
    Enabled,
    /// Off: replies are routed.
    Disabled,
}

impl AutoLasthop {
    /// Whether last hop is on, the default being on.
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Disabled)
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
    /// As [`VirtualServer::snat_pool`].
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
    /// [`Config::snat_pools`] (yet).
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

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
