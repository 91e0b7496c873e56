//! The core `Service`: the ports a pool is named by. Everything else in it is tolerated.

use std::collections::HashSet;

use crate::reader::Node;

/// What is read of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its ports; empty for an external name.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the only port has none. Slices refer to it.
    pub name: String,
    /// Its number, 1–65535.
    pub port: u16,
    /// Its protocol.
    pub protocol: PortProtocol,
}

/// Protocol of a Service or endpoint port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PortProtocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Most ports of a Service.
const MAX_PORTS: usize = 1024;

pub(super) const PROTOCOLS: [(&str, PortProtocol); 3] = [
    ("TCP", PortProtocol::Tcp),
    ("UDP", PortProtocol::Udp),
    ("SCTP", PortProtocol::Sctp),
];

pub(super) fn read(node: &Node<'_>) -> Option<Service> {
    let f = node.object()?;
    let mut seen = HashSet::new();
    let ports = f.take("ports", |node| {
        node.list(MAX_PORTS, |item| {
            let f = item.object()?;
            let name = f.take("name", |node| node.string().map(str::to_owned));
            let port = f.require("port", |node| node.integer(1..=u16::MAX));
            let protocol = f.take("protocol", |node| node.one_of(&PROTOCOLS));
            let (port, protocol) = (port?, protocol.unwrap_or_default());
            if !seen.insert((port, protocol)) {
                return item.error(format!("port {port} {protocol} is listed twice"));
            }
            Some(ServicePort {
                name: name.unwrap_or_default(),
                port,
                protocol,
            })
        })
    });
    Some(Service {
        ports: ports.unwrap_or_default(),
    })
}
