//! `F5SPKStaticRoute`.

use std::net::IpAddr;

use net::IpPrefix;

use crate::reader::{Node, quote};
use crate::sketch::Text;

/// What an `F5SPKStaticRoute` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRouteSpec {
    /// Where it leads, host bits clear.
    pub destination: IpPrefix,
    /// The next hop, of the same family.
    pub gateway: IpAddr,
    /// The VLAN to leave by, where it is given.
    pub interface: Option<String>,
}

pub(super) fn read(node: &Node<'_>) -> Option<StaticRouteSpec> {
    let f = node.object()?;
    let destination = f.require("destination", |node| {
        if let Some((addr, _)) = node.value().as_str().and_then(|text| text.split_once('/'))
            && addr.parse::<IpAddr>().is_ok()
        {
            return node.error(format!(
                "give the bare address \"{addr}\"; the prefix length goes into spec.prefixLen"
            ));
        }
        node.parsed::<IpAddr>(Text::Ip)
    });
    let max = if destination.is_none_or(|addr| addr.is_ipv6()) {
        128u8
    } else {
        32
    };
    let prefix_len = f.require("prefixLen", |node| node.integer(0..=max));
    let kind = f.require("type", |node| node.one_of(&[("gateway", ())]));
    let gateway = f.require("gateway", |node| {
        let gateway: IpAddr = node.host_address(Text::IpHost)?;
        match destination {
            Some(to) if to.is_ipv4() != gateway.is_ipv4() => node.error(format!(
                "{gateway} is not of the address family of spec.destination {to}"
            )),
            _ => Some(gateway),
        }
    });
    let interface = f.take("interface", |node| node.name().map(str::to_owned));
    if interface.is_none()
        && let Some(IpAddr::V6(v6)) = gateway
        && v6.is_unicast_link_local()
    {
        f.error_at(
            "interface",
            format!("is required beside the link-local gateway {v6}"),
        );
    }
    let destination = match (destination, prefix_len) {
        (Some(addr), Some(len)) => {
            let prefix = IpPrefix::new(addr, len).ok()?;
            if prefix.addr() == addr {
                Some(prefix)
            } else {
                f.error_at(
                    "destination",
                    format!(
                        "{} has bits set beyond its /{len}; the prefix is {prefix}",
                        quote(&addr.to_string())
                    ),
                );
                None
            }
        }
        _ => None,
    };
    f.deny_unknown();
    kind?;
    Some(StaticRouteSpec {
        destination: destination?,
        gateway: gateway?,
        interface,
    })
}
