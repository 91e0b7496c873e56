//! `F5SPKSnatpool`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::ingress::pool_name;
use crate::reader::{Node, quote};

/// What an `F5SPKSnatpool` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnatpoolSpec {
    /// The pool's name.
    pub name: Arc<str>,
    /// Whose addresses there are.
    pub addresses: PoolAddresses,
}

/// The addresses of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolAddresses {
    /// These, whichever replica asks.
    Common(Arc<[IpAddr]>),
    /// By replica index.
    ByReplica(Vec<Arc<[IpAddr]>>),
}

/// Most addresses of one replica: all of them are looked at for each new flow.
const MAX_ADDRESSES: usize = 256;
/// Most replicas.
const MAX_REPLICAS: usize = 256;

impl SnatpoolSpec {
    /// The addresses of replica number `replica`; none where the list has no place for it.
    pub fn addresses(&self, replica: usize) -> Arc<[IpAddr]> {
        match &self.addresses {
            PoolAddresses::Common(all) => Arc::clone(all),
            PoolAddresses::ByReplica(lists) => lists.get(replica).cloned().unwrap_or_default(),
        }
    }

    /// How many replicas it has addresses for; `None`: for any.
    pub fn replicas(&self) -> Option<usize> {
        match &self.addresses {
            PoolAddresses::Common(_) => None,
            PoolAddresses::ByReplica(lists) => Some(lists.len()),
        }
    }
}

pub(super) fn read(node: &Node<'_>) -> Option<SnatpoolSpec> {
    let f = node.object()?;
    let name = f.require("name", pool_name);
    let addresses = f.require("addressList", read_addresses);
    f.take("sharedSnatAddressEnabled", |node| {
        node.only_off(
            "is not supported: a reply to an address that several replicas share could come to any of \
             them, and only one has the flow; give each replica a list of its own in addressList",
        )
    });
    f.deny_unknown();
    Some(SnatpoolSpec {
        name: name?,
        addresses: addresses?,
    })
}

/// One list for every replica, or a list of lists by replica. An API server cannot be told "either", so all
/// that is wrong within the list is found here.
fn read_addresses(node: &Node<'_>) -> Option<PoolAddresses> {
    let schema = || {
        json!({
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_REPLICAS,
            "x-kubernetes-list-type": "atomic",
            "items": {"x-kubernetes-preserve-unknown-fields": true},
        })
    };
    let Value::Array(items) = node.value_as(schema)? else {
        return node.wrong_type("a list");
    };
    if items.len() > MAX_REPLICAS {
        return node.error(format!(
            "{} items are more than {MAX_REPLICAS}",
            items.len()
        ));
    }
    let mut seen = HashSet::new();
    if items.iter().all(Value::is_string) {
        if items.is_empty() {
            return node.error("names no address");
        }
        return addresses(node, items, "", &mut seen).map(PoolAddresses::Common);
    }
    let mut lists = Vec::with_capacity(items.len());
    for (replica, item) in items.iter().enumerate() {
        let Value::Array(own) = item else {
            return node.error(format!(
                "item {replica} is no SNAT pool address list: write one list of addresses for all \
                 replicas, or a list of lists, one for each replica"
            ));
        };
        if own.len() > MAX_ADDRESSES {
            return node.error(format!(
                "item {replica} is no SNAT pool address list: {} addresses are more than \
                 {MAX_ADDRESSES}",
                own.len()
            ));
        }
        lists.push(addresses(
            node,
            own,
            &format!("item {replica}: "),
            &mut seen,
        )?);
    }
    Some(PoolAddresses::ByReplica(lists))
}

fn addresses(
    node: &Node<'_>,
    items: &[Value],
    place: &str,
    seen: &mut HashSet<IpAddr>,
) -> Option<Arc<[IpAddr]>> {
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().unwrap_or_default();
        let addr = text.parse::<IpAddr>().ok().filter(|addr| is_usable(*addr));
        let Some(addr) = addr else {
            let shown = if item.is_string() {
                quote(text)
            } else {
                quote(&item.to_string())
            };
            return node.error(format!(
                "{place}{shown} is no SNAT pool address: an IPv4 or IPv6 address of one host"
            ));
        };
        if !seen.insert(addr) {
            return node.error(format!("{place}{addr} is listed twice"));
        }
        all.push(addr);
    }
    Some(all.into())
}

/// Whether packets may come from an address.
fn is_usable(addr: IpAddr) -> bool {
    if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
        return false;
    }
    match addr {
        IpAddr::V4(v4) => v4.octets()[0] < 240 && v4.octets()[0] != 0,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
    }
}
