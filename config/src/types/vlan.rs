//! VLANs and the addresses tmm owns on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::{IpPrefix, L4Port, VlanId};
use serde::Serialize;

use crate::meta::ObjectKey;

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
