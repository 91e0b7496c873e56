//! Where a packet to an address goes next: on-link prefixes and static routes, longest first.

use std::net::IpAddr;

use net::{Addr, IpPrefix, VlanIndex};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The VLAN to leave by.
    pub vlan: VlanIndex,
    /// The station to send to; `None` means the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// The station a packet to `destination` is sent to.
    #[inline]
    pub fn next_hop(&self, destination: Addr) -> Addr {
        self.gateway.map_or(destination, Addr::from)
    }
}

/// All routes of one configuration. Read on the slow path only: the answer is kept in the flow.
#[derive(Debug, Default)]
pub struct Routes {
    by_prefix: HashMap<IpPrefix, Route, RandomState>,
    /// The prefix lengths in use, longest first, so that a look-up probes no others.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route. The first one to a prefix stays: on-link prefixes are added before static
    /// routes and win over them.
    pub fn insert(&mut self, prefix: IpPrefix, route: Route) {
        self.by_prefix.entry(prefix).or_insert(route);
        let lengths = if prefix.addr().is_ipv4() {
            &mut self.lengths_v4
        } else {
            &mut self.lengths_v6
        };
        if let Err(at) = lengths.binary_search_by(|len| prefix.prefix_len().cmp(len)) {
            lengths.insert(at, prefix.prefix_len());
        }
    }

    /// The route of the longest prefix that holds `addr`.
    pub fn lookup(&self, addr: IpAddr) -> Option<&Route> {
        let lengths = if addr.is_ipv4() {
            &self.lengths_v4
        } else {
            &self.lengths_v6
        };
        lengths
            .iter()
            .find_map(|&len| self.by_prefix.get(&IpPrefix::new(addr, len).ok()?))
    }

    /// Every route, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&IpPrefix, &Route)> {
        self.by_prefix.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_on_link_wins_over_a_static_route() {
        let mut routes = Routes::new();
        let on = |vlan| Route {
            vlan: VlanIndex(vlan),
            gateway: None,
        };
        let via = |vlan, gw: &str| Route {
            vlan: VlanIndex(vlan),
            gateway: Some(gw.parse().unwrap()),
        };
        routes.insert("10.0.0.0/24".parse().unwrap(), on(1));
        routes.insert("10.0.0.0/24".parse().unwrap(), via(2, "10.9.9.9"));
        routes.insert("0.0.0.0/0".parse().unwrap(), via(3, "10.0.0.254"));
        routes.insert("2001:db8::/64".parse().unwrap(), on(4));
        assert_eq!(routes.lookup("10.0.0.7".parse().unwrap()), Some(&on(1)));
        let default = routes.lookup("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(
            default.next_hop(Addr::from_v4([192, 0, 2, 1])).to_string(),
            "10.0.0.254"
        );
        assert_eq!(routes.lookup("2001:db8::9".parse().unwrap()), Some(&on(4)));
        assert_eq!(routes.lookup("2001:db9::9".parse().unwrap()), None);
    }
}
