//! `EndpointSlice`: part of the endpoints of a Service. Unknown fields are tolerated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::meta::Metadata;
use crate::reader::{Fields, Node};
use crate::sketch::Text;

use super::service::{PROTOCOLS, PortProtocol};

/// The label that names the Service a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The API server's own limits on a slice.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 100;
const MAX_ADDRESSES: usize = 100;

/// What is read of an `EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service it belongs to, in the slice's namespace; none for a slice without the label.
    pub service: Option<String>,
    /// The family of all its addresses.
    pub family: Family,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The ports every endpoint has; ports without a number are left out.
    pub ports: Vec<EndpointPort>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An endpoint: interchangeable addresses of one pod, and its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address; of several the first, as the API says they are interchangeable.
    pub addr: IpAddr,
    /// It takes new flows; true where nothing is said.
    pub ready: bool,
    /// It answers; as `ready` where nothing is said.
    pub serving: bool,
    /// It is being stopped; false where nothing is said.
    pub terminating: bool,
}

/// A port of the endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service port it serves.
    pub name: String,
    /// The number, 1–65535.
    pub port: u16,
    /// The protocol.
    pub protocol: PortProtocol,
}

pub(super) fn read(object: &Fields<'_>, meta: Option<&Metadata>) -> Option<EndpointSlice> {
    let family = object.require("addressType", |node| match node.value().as_str() {
        Some("FQDN") => node.error("FQDN is not supported; expected IPv4 or IPv6"),
        _ => node.one_of(&[("IPv4", Family::V4), ("IPv6", Family::V6)]),
    });
    let endpoints = object.take("endpoints", |node| {
        node.list(MAX_ENDPOINTS, |item| read_endpoint(&item, family))
    });
    let ports = object.take("ports", |node| {
        node.list(MAX_PORTS, |item| read_port(&item))
    });
    Some(EndpointSlice {
        service: meta.and_then(|meta| meta.labels.get(SERVICE_LABEL).cloned()),
        family: family?,
        endpoints: endpoints.unwrap_or_default(),
        ports: ports.unwrap_or_default(),
    })
}

fn read_endpoint(item: &Node<'_>, family: Option<Family>) -> Option<Endpoint> {
    let f = item.object()?;
    let addrs = f.require("addresses", |node| {
        node.list_of_some(MAX_ADDRESSES, "address", |item| match family {
            Some(Family::V4) => item
                .host_address::<Ipv4Addr>(Text::Ipv4Host)
                .map(IpAddr::V4),
            Some(Family::V6) => item
                .host_address::<Ipv6Addr>(Text::Ipv6Host)
                .map(IpAddr::V6),
            None => None,
        })
    });
    let conditions = f.take("conditions", |node| {
        let f = node.object()?;
        let ready = f.take("ready", Node::boolean).unwrap_or(true);
        let serving = f.take("serving", Node::boolean).unwrap_or(ready);
        let terminating = f.take("terminating", Node::boolean).unwrap_or(false);
        Some((ready, serving, terminating))
    });
    let (ready, serving, terminating) = conditions.unwrap_or((true, true, false));
    Some(Endpoint {
        addr: addrs?.first().copied()?,
        ready,
        serving,
        terminating,
    })
}

/// Nothing, and no error, for a port without a number: it stands for "not restricted".
fn read_port(item: &Node<'_>) -> Option<EndpointPort> {
    let f = item.object()?;
    let name = f.take("name", |node| node.string().map(str::to_owned));
    let port = f.take("port", |node| node.integer(1..=u16::MAX));
    let protocol = f.take("protocol", |node| node.one_of(&PROTOCOLS));
    Some(EndpointPort {
        name: name.unwrap_or_default(),
        port: port?,
        protocol: protocol.unwrap_or_default(),
    })
}
