//! `F5SPKVlan`.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::{IpPrefix, L4Port, VlanId};

use crate::reader::{Fields, Node, quote};
use crate::sketch::Text;
use crate::types::{AllowedProtocol, AllowedService, AutoLasthop, Encap, SpreadHash, TrunkHash};

/// What an `F5SPKVlan` says; the fields are those of [`crate::Vlan`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VlanSpec {
    pub name: String,
    pub encap: Encap,
    pub interfaces: Vec<String>,
    pub bonded: bool,
    pub internal: bool,
    pub self_ips_v4: Vec<Ipv4Addr>,
    pub prefix_len_v4: u8,
    pub self_ips_v6: Vec<Ipv6Addr>,
    pub prefix_len_v6: u8,
    pub mtu: Option<u16>,
    pub allowed_services: Option<Vec<AllowedService>>,
    pub trunk_hash: TrunkHash,
    pub cmp_hash: SpreadHash,
    pub pod_hash: SpreadHash,
    pub auto_lasthop: AutoLasthop,
    pub mss_clamp: bool,
    pub category: Option<String>,
}

/// Most self IPs of a family, one per replica, and most services.
const MAX_LIST: usize = 4096;

/// Most interfaces: there are no more names.
const MAX_INTERFACES: usize = 255;

/// Longest VLAN name in bytes.
const MAX_NAME: usize = 63;

const SPREAD: [(&str, SpreadHash); 3] = [
    ("DEFAULT", SpreadHash::Default),
    ("SRC_ADDR", SpreadHash::SrcAddr),
    ("DST_ADDR", SpreadHash::DstAddr),
];

pub(super) fn read(node: &Node<'_>) -> Option<VlanSpec> {
    let f = node.object()?;
    let name = f.require("name", vlan_name);
    let encap = read_encap(&f);
    let interfaces = f.require("interfaces", read_interfaces);
    let bonded = f.take("bonded", Node::boolean).unwrap_or(false);
    let internal = f.take("internal", Node::boolean).unwrap_or(false);
    let (self_ips_v4, prefix_len_v4) =
        read_self_ips::<Ipv4Addr>(&f, "selfip_v4s", "prefixlen_v4", 32, Text::Ipv4Host);
    let (self_ips_v6, prefix_len_v6) =
        read_self_ips::<Ipv6Addr>(&f, "selfip_v6s", "prefixlen_v6", 128, Text::Ipv6Host);
    let mtu = f.take("mtu", |node| node.integer(1500..=9000));
    let allowed_services = f.take("allowed_services", |node| {
        node.list(MAX_LIST, |item| allowed(&item))
    });
    let trunk_hash = f.take("trunk_hash", |node| {
        node.one_of(&[
            ("DST_MAC", TrunkHash::DstMac),
            ("SRC_DST_MAC", TrunkHash::SrcDstMac),
            ("SRC_DST_IPPORT", TrunkHash::SrcDstIpport),
        ])
    });
    let cmp_hash = f.take("cmp_hash", |node| node.one_of(&SPREAD));
    let pod_hash = f.take("pod_hash", |node| node.one_of(&SPREAD));
    let auto_lasthop = f.take("auto_lasthop", |node| {
        node.one_of(&[
            ("AUTO_LASTHOP_DEFAULT", AutoLasthop::Default),
            ("AUTO_LASTHOP_ENABLED", AutoLasthop::Enabled),
            ("AUTO_LASTHOP_DISABLED", AutoLasthop::Disabled),
        ])
    });
    let mss_clamp = f.take("mss_clamp", Node::boolean).unwrap_or(false);
    let category = f.take("category", |node| node.name().map(str::to_owned));
    f.deny_unknown();
    Some(VlanSpec {
        name: name?,
        encap: encap?,
        interfaces: interfaces?,
        bonded,
        internal,
        self_ips_v4,
        prefix_len_v4,
        self_ips_v6,
        prefix_len_v6,
        mtu,
        allowed_services,
        trunk_hash: trunk_hash.unwrap_or_default(),
        cmp_hash: cmp_hash.unwrap_or_default(),
        pod_hash: pod_hash.unwrap_or_default(),
        auto_lasthop: auto_lasthop.unwrap_or_default(),
        mss_clamp,
        category,
    })
}

fn vlan_name(node: &Node<'_>) -> Option<String> {
    let name = node.text(Text::VlanName)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() {
        return node.error("must not be empty");
    }
    if name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return node.error(format!(
            "{} is not a VLAN name (1-{MAX_NAME} letters, digits, \"-\", \"_\" or \".\")",
            quote(name)
        ));
    }
    Some(name.to_owned())
}

fn read_encap(f: &Fields<'_>) -> Option<Encap> {
    let tag = |node: &Node<'_>| node.integer(1..=4094u16).and_then(VlanId::new);
    let inner = f.take("tag", tag);
    let outer = f.take("outerTag", tag);
    if f.has("outerTag") && !f.has("tag") {
        f.error_at(
            "outerTag",
            "needs spec.tag, the 802.1Q tag inside the 802.1ad one",
        );
        return None;
    }
    match (inner, outer) {
        (None, _) if f.has("tag") => None,
        (_, None) if f.has("outerTag") => None,
        (Some(inner), Some(outer)) => Some(Encap::Double { outer, inner }),
        (Some(tag), None) => Some(Encap::Tagged(tag)),
        (None, _) => Some(Encap::Untagged),
    }
}

fn read_interfaces(node: &Node<'_>) -> Option<Vec<String>> {
    let mut seen: Vec<&str> = Vec::new();
    node.list_of_some(MAX_INTERFACES, "interface", |item| {
        let text = item.text(Text::Interface)?;
        let number = text.strip_prefix("1.").unwrap_or_default();
        let valid = !number.starts_with('0')
            && number.bytes().all(|b| b.is_ascii_digit())
            && number.parse::<u8>().is_ok();
        if !valid {
            return item.error(format!(
                "{} is not an interface (expected \"1.1\", \"1.2\"…)",
                quote(text)
            ));
        }
        if seen.contains(&text) {
            return item.error(format!("interface {text} is listed twice"));
        }
        seen.push(text);
        Some(text.to_owned())
    })
}

/// A list of addresses and the prefix length they share.
fn read_self_ips<T>(
    f: &Fields<'_>,
    list: &'static str,
    len: &'static str,
    max: u8,
    form: Text,
) -> (Vec<T>, u8)
where
    T: std::str::FromStr + Into<IpAddr> + Copy + Eq + Hash + std::fmt::Display,
{
    let prefix_len = f.take(len, |node| node.integer(1..=max));
    let mut addrs: Vec<T> = Vec::new();
    let mut seen: HashSet<T> = HashSet::new();
    f.take(list, |node| {
        node.list(MAX_LIST, |item| {
            if let Some((addr, _)) = item.value().as_str().and_then(|t| t.split_once('/'))
                && addr.parse::<T>().is_ok()
            {
                return item.error::<()>(format!(
                    "give the bare address \"{addr}\"; the prefix length goes into spec.{len}"
                ));
            }
            let addr: T = item.host_address(form)?;
            if !seen.insert(addr) {
                return item.error(format!("{addr} is listed twice"));
            }
            if let (Some(len), IpAddr::V4(v4)) = (prefix_len, addr.into())
                && is_subnet_edge(v4, len)
            {
                return item.error(format!(
                    "{addr} is the network or broadcast address of its /{len}"
                ));
            }
            addrs.push(addr);
            Some(())
        })
    });
    if !addrs.is_empty() && !f.has(len) {
        f.error_at(len, format!("is required beside spec.{list}"));
    }
    let listed = f.has(list) && !addrs.is_empty();
    if f.has(len) && !f.has(list) {
        f.error_at(len, format!("has no meaning without spec.{list}"));
    }
    let len = if listed { prefix_len.unwrap_or(0) } else { 0 };
    (addrs, len)
}

/// The first or last address of an IPv4 subnet that has such addresses (RFC 3021: not a /31).
fn is_subnet_edge(addr: Ipv4Addr, len: u8) -> bool {
    if !(1..31).contains(&len) {
        return false;
    }
    let host_bits = u32::MAX >> len;
    IpPrefix::new(addr.into(), len).is_ok_and(|net| net.addr() == addr)
        || addr.to_bits() & host_bits == host_bits
}

fn allowed(item: &Node<'_>) -> Option<AllowedService> {
    let f = item.object()?;
    let protocol = f.require("protocol", |node| {
        let text = node.text(Text::LockdownProtocol)?;
        match text.to_ascii_lowercase().as_str() {
            "any" | "all" => Some(AllowedProtocol::Any),
            "tcp" => Some(AllowedProtocol::Tcp),
            "udp" => Some(AllowedProtocol::Udp),
            "sctp" => Some(AllowedProtocol::Sctp),
            "icmp" => Some(AllowedProtocol::Icmp),
            _ => node.error(format!(
                "{} is not one of tcp, udp, sctp, icmp, any",
                quote(text)
            )),
        }
    });
    let port = f.take("port", |node| node.integer(0..=u16::MAX));
    let port_ok = port.is_some() || !f.has("port");
    f.deny_unknown();
    let port = port_ok.then_some(L4Port(port.unwrap_or(0)))?;
    Some(AllowedService {
        protocol: protocol?,
        port,
    })
}
