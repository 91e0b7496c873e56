//! Which flows there are: a number stands for a client address and port and a virtual server, and can be
//! found again from either.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use net::Addr;

use super::addresses::AddressRange;

/// The transport protocol of the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Proto {
    /// Its number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// Octets of its header, without options.
    pub const fn header_len(self) -> usize {
        match self {
            Self::Udp => 8,
            Self::Tcp => 20,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// Addresses and ports of a flow as its client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The client's address.
    pub client: Addr,
    /// The virtual server's address.
    pub server: Addr,
    /// The client's port.
    pub client_port: u16,
    /// The virtual server's port.
    pub server_port: u16,
    /// Whether both addresses are of IPv4.
    pub v4: bool,
}

/// The flows of one address family.
#[derive(Debug, Clone)]
struct Family {
    clients: AddressRange,
    servers: Vec<(Addr, u16)>,
}

/// All flows: their number `n` runs over the families first, then over client addresses, then over
/// ports.
#[derive(Debug, Clone)]
pub struct Flows {
    families: Vec<Family>,
    first_port: u16,
    count: u32,
}

/// Flows that there cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowsError {
    /// A virtual server without a client of its family.
    #[error("there is no client address of the family of the virtual server {0}")]
    NoClient(SocketAddr),
    /// Nothing to send to.
    #[error("there is no virtual server")]
    NoServer,
    /// More flows than clients times ports.
    #[error("{asked} flows, but only {have} combinations of client addresses and ports")]
    TooMany {
        /// How many were asked for.
        asked: u32,
        /// How many there can be.
        have: u64,
    },
    /// No flow, or no port.
    #[error("there must be at least one flow and one client port")]
    None,
}

impl Flows {
    /// `count` flows from `clients` (the first range of each family counts) and the `ports` to
    /// `servers`.
    ///
    /// Errors: see [`FlowsError`].
    pub fn new(
        clients: &[AddressRange],
        ports: std::ops::RangeInclusive<u16>,
        servers: &[SocketAddr],
        count: u32,
    ) -> Result<Self, FlowsError> {
        if count == 0 || ports.is_empty() {
            return Err(FlowsError::None);
        }
        let mut families = Vec::new();
        for v4 in [true, false] {
            let of_family: Vec<&SocketAddr> =
                servers.iter().filter(|s| s.is_ipv4() == v4).collect();
            let Some(first) = of_family.first() else {
                continue;
            };
            let clients = clients.iter().find(|range| range.is_v4() == v4);
            families.push(Family {
                clients: *clients.ok_or(FlowsError::NoClient(**first))?,
                servers: of_family
                    .iter()
                    .map(|s| (s.ip().into(), s.port()))
                    .collect(),
            });
        }
        let least = families
            .iter()
            .map(|family| family.clients.count())
            .min()
            .ok_or(FlowsError::NoServer)?;
        let have = u64::from(least) * ports.len() as u64 * families.len() as u64;
        if u64::from(count) > have {
            return Err(FlowsError::TooMany { asked: count, have });
        }
        Ok(Self {
            families,
            first_port: *ports.start(),
            count,
        })
    }

    /// How many there are.
    #[inline]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether one of the families is that of IPv4 (or IPv6).
    pub fn has_family(&self, v4: bool) -> bool {
        self.families.iter().any(|f| f.clients.is_v4() == v4)
    }

    /// The addresses and ports of a flow; that of the flow `flow` modulo [`count`](Self::count).
    #[inline]
    pub fn tuple(&self, flow: u32) -> Tuple {
        let families = u32::try_from(self.families.len()).unwrap_or(1);
        let (family, rest) = if families == 1 {
            (&self.families[0], flow)
        } else {
            (&self.families[(flow % families) as usize], flow / families)
        };
        let clients = family.clients.count();
        let client = family.clients.nth(rest % clients);
        let port = u16::try_from(rest / clients).unwrap_or(u16::MAX);
        let (server, server_port) = match family.servers.as_slice() {
            [one] => *one,
            many => many[rest as usize % many.len()],
        };
        Tuple {
            client: client.into(),
            server,
            client_port: self.first_port.wrapping_add(port),
            server_port,
            v4: client.is_ipv4(),
        }
    }

    /// The flow of a client's address and port.
    #[inline]
    pub fn find(&self, client: &Addr, port: u16) -> Option<u32> {
        let families = u32::try_from(self.families.len()).ok()?;
        let ip = client.ip();
        let index = self
            .families
            .iter()
            .position(|f| f.clients.is_v4() == ip.is_ipv4())?;
        let family = &self.families[index];
        let position = family.clients.position(ip)?;
        let port = u32::from(port.checked_sub(self.first_port)?);
        let rest = port
            .checked_mul(family.clients.count())?
            .checked_add(position)?;
        let flow = rest
            .checked_mul(families)?
            .checked_add(u32::try_from(index).ok()?)?;
        (flow < self.count).then_some(flow)
    }

    /// Whether `addr` is one of the clients'.
    pub fn is_client(&self, addr: IpAddr) -> bool {
        self.families
            .iter()
            .any(|f| f.clients.position(addr).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flows(count: u32) -> Flows {
        let clients = [
            "10.0.0.0/29".parse().unwrap(),
            "2001:db8::/124".parse().unwrap(),
        ];
        let servers = [
            "203.0.113.10:80".parse().unwrap(),
            "203.0.113.11:81".parse().unwrap(),
            "[2001:db8:ffff::10]:80".parse().unwrap(),
        ];
        Flows::new(&clients, 1024..=65535, &servers, count).unwrap()
    }

    proptest! {
        #[test]
        fn a_flow_is_found_again_by_its_client(flow in 0u32..700_000) {
            let flows = flows(700_000);
            let tuple = flows.tuple(flow);
            prop_assert_eq!(flows.find(&tuple.client, tuple.client_port), Some(flow));
            prop_assert!(flows.is_client(tuple.client.ip()));
            prop_assert_eq!(tuple.v4, tuple.server.is_v4());
        }
    }

    #[test]
    fn no_two_flows_share_a_client_port() {
        let flows = flows(10_000);
        let mut seen = std::collections::HashSet::new();
        for flow in 0..10_000 {
            let tuple = flows.tuple(flow);
            assert!(seen.insert((tuple.client, tuple.client_port)), "{flow}");
        }
        assert_eq!(flows.find(&Addr::from_v4([10, 0, 0, 9]), 1024), None);
        assert_eq!(flows.find(&Addr::from_v4([10, 0, 0, 1]), 1023), None);
        assert_eq!(flows.find(&Addr::from_v4([10, 0, 0, 1]), 65535), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let clients: [AddressRange; 1] = ["10.0.0.1".parse().unwrap()];
        let v4: SocketAddr = "203.0.113.10:80".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let refused = |servers: &[SocketAddr], count| {
            Flows::new(&clients, 1000..=1009, servers, count).unwrap_err()
        };
        assert_eq!(refused(&[], 1), FlowsError::NoServer);
        assert_eq!(refused(&[v6], 1), FlowsError::NoClient(v6));
        assert_eq!(refused(&[v4], 0), FlowsError::None);
        assert_eq!(
            refused(&[v4], 11),
            FlowsError::TooMany {
                asked: 11,
                have: 10
            }
        );
    }
}
