//! VLANs, and which of them a frame belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::{Addr, Encap, IpPrefix, IpProto, L4Port, MacAddr, PortId, VlanIndex};
use thiserror::Error;

/// VLAN ids and the absence of one (0): the number of values a 12-bit field has.
const VIDS: usize = 4096;
/// Nothing here: neither a VLAN position nor a page is ever this large.
const NONE: u16 = u16::MAX;

/// The most VLANs there can be: an index has 15 bits.
pub const MAX_VLANS: usize = 1 << 15;

/// An address of ours on a VLAN, and the prefix that is on-link there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SelfIp {
    /// The address.
    pub addr: IpAddr,
    /// The on-link prefix; contains the address.
    pub prefix: IpPrefix,
}

/// What a self IP accepts: one line of a port lockdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AllowedService {
    /// The protocol; `None` is any.
    pub proto: Option<IpProto>,
    /// The destination port; `None` is any.
    pub port: Option<L4Port>,
}

/// One VLAN: a broadcast domain that we are a station of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// Names the VLAN in tables. A VLAN keeps its index for as long as it exists: neighbours and
    /// flows refer to it across configurations.
    pub index: VlanIndex,
    /// The operator's name for it.
    pub name: String,
    /// Its tags.
    pub encap: Encap,
    /// Its ports in attachment order.
    pub ports: Vec<PortId>,
    /// Our MAC address on it, that of its first port: the only one where it has one port or its
    /// ports are one link; else the one that its link-local address is made of.
    pub mac: MacAddr,
    /// The MAC addresses of its ports, in their order, where each speaks with its own; else empty.
    pub macs: Vec<MacAddr>,
    /// Largest IP packet, octets.
    pub mtu: u16,
    /// Our addresses on it.
    pub self_ips: Vec<SelfIp>,
    /// Whether it faces the cluster's nodes.
    pub internal: bool,
    /// Whether replies go to the MAC address that the request came from.
    pub auto_lasthop: bool,
    /// Whether the MSS of connections that pass it is lowered to what its MTU holds.
    pub mss_clamp: bool,
    /// Port lockdown of the self IPs: what they accept; `None`: everything.
    pub allowed_services: Option<Vec<AllowedService>>,
}

impl Vlan {
    /// The address to speak to `remote` from: of its family, best the self IP whose prefix holds
    /// it (the longest such prefix), else the first of a scope that reaches it. A link-local remote
    /// is spoken to from a link-local address only, and a global one never (RFC 6724 section 5,
    /// rule 2); the VLAN's own [`link_local`](Self::link_local) serves where no self IP does.
    pub fn self_ip_for(&self, remote: IpAddr) -> Option<IpAddr> {
        let local = is_link_local(remote);
        let candidates = || {
            self.self_ips
                .iter()
                .filter(|ip| ip.addr.is_ipv4() == remote.is_ipv4())
                .filter(|ip| ip.addr.is_ipv4() || is_link_local(ip.addr) == local)
        };
        candidates()
            .filter(|ip| ip.prefix.contains(remote))
            // The first of equally long prefixes, not the last.
            .min_by_key(|ip| u8::MAX - ip.prefix.prefix_len())
            .or_else(|| candidates().find(|ip| is_link_local(ip.addr) == local))
            .map(|ip| ip.addr)
            .or_else(|| (local && remote.is_ipv6()).then(|| self.link_local().into()))
    }

    /// Whether `addr` is reached without a gateway: it lies in the prefix of a self IP, or is an
    /// IPv6 link-local address.
    pub fn on_link(&self, addr: IpAddr) -> bool {
        (addr.is_ipv6() && is_link_local(addr))
            || self.self_ips.iter().any(|ip| ip.prefix.contains(addr))
    }

    /// Whether `addr` can be one station on this link: on-link, unicast, and neither the network
    /// nor the broadcast address of an IPv4 prefix (RFC 1122 section 3.2.1.3; a /31 has neither,
    /// RFC 3021).
    pub fn can_be_neighbor(&self, addr: IpAddr) -> bool {
        if !is_unicast(addr) {
            return false;
        }
        match addr {
            IpAddr::V6(_) => self.on_link(addr),
            IpAddr::V4(a) => {
                let mut on_link = false;
                for ip in self.self_ips.iter().filter(|ip| ip.prefix.contains(addr)) {
                    on_link = true;
                    let len = u32::from(ip.prefix.prefix_len());
                    let host_bits = u32::MAX.checked_shr(len).unwrap_or(0);
                    let host = a.to_bits() & host_bits;
                    if len < 31 && (host == 0 || host == host_bits) {
                        return false;
                    }
                }
                on_link
            }
        }
    }

    /// Whether the self IPs accept this protocol and destination port. ARP, neighbour discovery
    /// and echo requests are not services: they are always answered.
    pub fn allows(&self, proto: IpProto, port: L4Port) -> bool {
        self.allowed_services.as_ref().is_none_or(|services| {
            services.iter().any(|service| {
                service.proto.is_none_or(|p| p == proto) && service.port.is_none_or(|p| p == port)
            })
        })
    }

    /// Our MAC address on one of its ports: all that leaves there is sent from it.
    #[inline]
    pub fn mac_of(&self, port: PortId) -> MacAddr {
        if self.macs.is_empty() {
            return self.mac;
        }
        let mut pairs = self.ports.iter().zip(&self.macs);
        let own = pairs.find(|(own, _)| **own == port);
        own.map_or(self.mac, |(_, mac)| *mac)
    }

    /// The port with this MAC address, where each has its own.
    pub fn port_of(&self, mac: MacAddr) -> Option<PortId> {
        let mut pairs = self.ports.iter().zip(&self.macs);
        pairs.find(|(_, own)| **own == mac).map(|(port, _)| *port)
    }

    /// Whether it is a MAC address of ours, on whichever of its ports.
    #[inline]
    pub fn is_ours(&self, mac: MacAddr) -> bool {
        mac == self.mac || self.macs.contains(&mac)
    }

    /// Whether a frame to this MAC address is for us: to one of our own, broadcast or multicast.
    #[inline]
    pub fn receives(&self, dst: MacAddr) -> bool {
        dst.is_group() || self.is_ours(dst)
    }

    /// The link-local address made of the MAC address (RFC 4291 appendix A, RFC 4862 section 5.3).
    pub fn link_local(&self) -> Ipv6Addr {
        let m = self.mac.0;
        let interface = [m[0] ^ 0x02, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]];
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&interface);
        octets.into()
    }
}

/// Whether `addr` is fe80::/10 or 169.254.0.0/16.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// Whether `addr` can be the address of one station: not multicast, unspecified, loopback, "this
/// network" or reserved (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5).
pub(crate) fn is_unicast(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => is_unicast_v4(a),
        IpAddr::V6(a) => !(a.is_multicast() || a.is_unspecified() || a.is_loopback()),
    }
}

fn is_unicast_v4(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// Why VLANs do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    /// Two VLANs with the same tags on one port: a frame could belong to either.
    #[error("VLANs \"{first}\" and \"{second}\" both take {encap} frames on port {port}")]
    SameTags {
        /// The VLAN that came first.
        first: String,
        /// The one refused.
        second: String,
        /// The port they share.
        port: PortId,
        /// The tags they share.
        encap: Encap,
    },
    /// Two VLANs with one index.
    #[error("VLANs \"{first}\" and \"{second}\" have the same index")]
    SameIndex {
        /// The VLAN that came first.
        first: String,
        /// The one refused.
        second: String,
    },
    /// A self IP outside of its own prefix.
    #[error("VLAN \"{vlan}\": self IP {addr} is not in its prefix {prefix}")]
    ForeignPrefix {
        /// The VLAN.
        vlan: String,
        /// The self IP.
        addr: IpAddr,
        /// The prefix that does not contain it.
        prefix: IpPrefix,
    },
    /// A self IP that no station can have.
    #[error("VLAN \"{vlan}\": {addr} cannot be a self IP")]
    NotUnicast {
        /// The VLAN.
        vlan: String,
        /// The address: multicast, unspecified, loopback or reserved.
        addr: IpAddr,
    },
    /// A MAC address that no station can have.
    #[error("VLAN \"{vlan}\": {mac} cannot be its MAC address")]
    BadMac {
        /// The VLAN.
        vlan: String,
        /// The address: multicast, or zero.
        mac: MacAddr,
    },
    /// More VLANs than positions.
    #[error("more than 32,768 VLANs")]
    TooMany,
}

/// VLAN position by inner VID.
type Page = Box<[u16]>;

/// Where frames of one port belong. Page 0 is for frames without a service tag; others exist for
/// service tags in use only.
#[derive(Debug, Clone)]
struct PortMap {
    /// Page by service VID.
    services: Page,
    pages: Vec<Page>,
}

fn empty_page() -> Page {
    vec![NONE; VIDS].into_boxed_slice()
}

impl PortMap {
    fn new() -> Self {
        let mut services = empty_page();
        if let Some(first) = services.first_mut() {
            *first = 0;
        }
        Self {
            services,
            pages: vec![empty_page()],
        }
    }

    #[inline]
    fn get(&self, encap: Encap) -> Option<u16> {
        let service = usize::from(encap.service_vid());
        let page = if service == 0 {
            0
        } else {
            *self.services.get(service)?
        };
        let page = self.pages.get(usize::from(page))?;
        page.get(usize::from(encap.vid()))
            .copied()
            .filter(|&position| position != NONE)
    }

    /// The cell of `encap`; there is none for tags beyond twelve bits.
    fn cell(&mut self, encap: Encap) -> Option<&mut u16> {
        let page = self.services.get_mut(usize::from(encap.service_vid()))?;
        if *page == NONE {
            *page = u16::try_from(self.pages.len()).ok()?;
            self.pages.push(empty_page());
        }
        let page = self.pages.get_mut(usize::from(*page))?;
        page.get_mut(usize::from(encap.vid()))
    }
}

/// All VLANs of one configuration. Immutable; takes 8 KiB per port and per service tag on it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    vlans: Vec<Vlan>,
    /// Position by index.
    by_index: Vec<u16>,
    ports: Vec<Option<PortMap>>,
}

impl Table {
    /// A table of `vlans`, refused whole if two of them contradict each other.
    pub fn new(vlans: Vec<Vlan>) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (position, vlan) in vlans.iter().enumerate() {
            check(vlan)?;
            let name = |position: u16| {
                vlans
                    .get(usize::from(position))
                    .map_or_else(String::new, |v| v.name.clone())
            };
            let position = u16::try_from(position)
                .ok()
                .filter(|&p| p != NONE)
                .ok_or(TableError::TooMany)?;
            let index = usize::from(vlan.index.0);
            if index >= MAX_VLANS {
                return Err(TableError::TooMany);
            }
            if table.by_index.len() <= index {
                table.by_index.resize(index + 1, NONE);
            }
            match table.by_index.get_mut(index) {
                Some(cell) if *cell == NONE => *cell = position,
                taken => {
                    return Err(TableError::SameIndex {
                        first: name(taken.map_or(NONE, |t| *t)),
                        second: vlan.name.clone(),
                    });
                }
            }
            for &port in &vlan.ports {
                let at = usize::from(port.0);
                if table.ports.len() <= at {
                    table.ports.resize_with(at + 1, || None);
                }
                let Some(map) = table.ports.get_mut(at) else {
                    continue;
                };
                let map = map.get_or_insert_with(PortMap::new);
                let Some(cell) = map.cell(vlan.encap) else {
                    continue;
                };
                // A VLAN may list a port twice.
                if *cell != NONE && *cell != position {
                    return Err(TableError::SameTags {
                        first: name(*cell),
                        second: vlan.name.clone(),
                        port,
                        encap: vlan.encap,
                    });
                }
                *cell = position;
            }
        }
        table.vlans = vlans;
        Ok(table)
    }

    /// The VLAN of a frame that came in by `port` with the tags `encap`. Two array loads; three
    /// with a service tag.
    #[inline]
    pub fn demux(&self, port: PortId, encap: Encap) -> Option<&Vlan> {
        let map = self.ports.get(usize::from(port.0))?.as_ref()?;
        self.vlans.get(usize::from(map.get(encap)?))
    }

    /// The VLAN with this index.
    #[inline]
    pub fn get(&self, index: VlanIndex) -> Option<&Vlan> {
        let position = *self.by_index.get(usize::from(index.0))?;
        self.vlans.get(usize::from(position))
    }

    /// All VLANs, in the order they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, Vlan> {
        self.vlans.iter()
    }

    /// The number of VLANs.
    pub fn len(&self) -> usize {
        self.vlans.len()
    }

    /// Whether there is no VLAN.
    pub fn is_empty(&self) -> bool {
        self.vlans.is_empty()
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a Vlan;
    type IntoIter = std::slice::Iter<'a, Vlan>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What must hold for a VLAN by itself.
fn check(vlan: &Vlan) -> Result<(), TableError> {
    let macs = std::iter::once(&vlan.mac).chain(&vlan.macs);
    if let Some(mac) = macs.into_iter().find(|mac| !mac.is_station()) {
        return Err(TableError::BadMac {
            vlan: vlan.name.clone(),
            mac: *mac,
        });
    }
    for ip in &vlan.self_ips {
        // An IPv4-mapped address is IPv4 in disguise and never on the wire.
        if !is_unicast(ip.addr) || (ip.addr.is_ipv6() && Addr::from(ip.addr).is_v4()) {
            return Err(TableError::NotUnicast {
                vlan: vlan.name.clone(),
                addr: ip.addr,
            });
        }
        if !ip.prefix.contains(ip.addr) {
            return Err(TableError::ForeignPrefix {
                vlan: vlan.name.clone(),
                addr: ip.addr,
                prefix: ip.prefix,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
