//! By which port a frame of a VLAN leaves: its only one, one link of a LAG, or the one behind which
//! its station was heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use config::TrunkHash;
use net::{FlowKey, MacAddr, PortId, VlanIndex};

/// Whether the link of each port is up: written by the control thread, read by workers.
#[derive(Debug, Clone)]
pub struct Links(Arc<[AtomicBool]>);

impl Links {
    /// `ports` links, all up until something else is heard.
    pub fn new(ports: usize) -> Self {
        Self((0..ports).map(|_| AtomicBool::new(true)).collect())
    }

    /// Whether the port's link is up.
    #[inline]
    pub fn is_up(&self, port: PortId) -> bool {
        self.0
            .get(usize::from(port.0))
            .is_some_and(|link| link.load(Relaxed))
    }

    /// Says that the port's link went up or down.
    pub fn set(&self, port: PortId, up: bool) {
        if let Some(link) = self.0.get(usize::from(port.0)) {
            link.store(up, Relaxed);
        }
    }
}

/// How the ports of a VLAN belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Egress {
    /// One port.
    Single(PortId),
    /// One link made of several ports: flows are spread over those that are up.
    Lag(Vec<PortId>, TrunkHash),
    /// Several links of one broadcast domain: each station is behind one of them.
    Segments(Vec<PortId>),
}

impl Egress {
    /// For the ports of a VLAN, in attachment order; `None` if there are none.
    pub fn new(ports: &[PortId], bonded: bool, hash: TrunkHash) -> Option<Self> {
        match (ports, bonded) {
            ([], _) => None,
            ([port], _) => Some(Self::Single(*port)),
            (ports, true) => Some(Self::Lag(ports.to_vec(), hash)),
            (ports, false) => Some(Self::Segments(ports.to_vec())),
        }
    }

    /// The port for a frame to the station `mac`, of a flow with the hash that `flow` works out;
    /// `None` if no link is up. A single port is used whatever its link says: some devices cannot tell.
    #[inline]
    pub fn port(
        &self,
        vlan: VlanIndex,
        mac: MacAddr,
        flow: impl FnOnce() -> u64,
        links: &Links,
        stations: &Stations,
    ) -> Option<PortId> {
        match self {
            Self::Single(port) => Some(*port),
            Self::Lag(ports, hash) => {
                let hash = match hash {
                    // All frames of a VLAN have one source MAC.
                    TrunkHash::DstMac | TrunkHash::SrcDstMac => mix(mac.to_u64()),
                    TrunkHash::SrcDstIpport => flow(),
                };
                let up = || ports.iter().filter(|port| links.is_up(**port));
                let count = up().count() as u64;
                let at = usize::try_from(hash.checked_rem(count)?).unwrap_or(0);
                up().nth(at).copied()
            }
            Self::Segments(ports) => stations
                .port(vlan, mac)
                .filter(|port| ports.contains(port) && links.is_up(*port))
                .or_else(|| ports.iter().copied().find(|port| links.is_up(*port))),
        }
    }

    /// The ports for a frame to everybody: a LAG is one link, separate links all get it.
    pub fn flood(&self, links: &Links) -> Vec<PortId> {
        match self {
            Self::Single(port) => vec![*port],
            Self::Lag(ports, _) => ports
                .iter()
                .copied()
                .filter(|port| links.is_up(*port))
                .take(1)
                .collect(),
            Self::Segments(ports) => ports
                .iter()
                .copied()
                .filter(|port| links.is_up(*port))
                .collect(),
        }
    }
}

/// Sets of the station table, and slots of a set.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// Behind which port a station was last heard, learned from source MAC addresses as a switch does.
/// Only VLANs with several links use it. Workers write it, and only when something is new; a
/// station that fell out of its set is sent to by the first link until it is heard again.
#[derive(Debug, Clone)]
pub struct Stations(Arc<[AtomicU64]>);

impl Default for Stations {
    fn default() -> Self {
        Self((0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Stations {
    /// A frame of `vlan` came from `mac` by `port`.
    #[inline]
    pub fn heard(&self, vlan: VlanIndex, mac: MacAddr, port: PortId) {
        let (set, name) = self.set(vlan, mac);
        let entry = name | (u64::from(port.0) + 1);
        let mut free = None;
        for slot in set {
            let word = slot.load(Relaxed);
            if word == entry {
                return;
            }
            if word & !0xff == name {
                slot.store(entry, Relaxed);
                return;
            }
            if word == 0 {
                free = free.or(Some(slot));
            }
        }
        // A full set gives up one of its stations, chosen by the newcomer's address.
        let victim = usize::from(mac.0[5]) % WAYS;
        if let Some(slot) = free.or_else(|| set.get(victim)) {
            slot.store(entry, Relaxed);
        }
    }

    /// The port behind which the station was last heard.
    #[inline]
    pub fn port(&self, vlan: VlanIndex, mac: MacAddr) -> Option<PortId> {
        let (set, name) = self.set(vlan, mac);
        let word = set
            .iter()
            .map(|slot| slot.load(Relaxed))
            .find(|word| word & !0xff == name)?;
        Some(PortId(u8::try_from(word & 0xff).ok()?.checked_sub(1)?))
    }

    /// The set of a station, and its name in the upper 56 bits of an entry: the MAC address, and
    /// what is left of the VLAN.
    fn set(&self, vlan: VlanIndex, mac: MacAddr) -> (&[AtomicU64], u64) {
        let name = mac.to_u64() << 16 | u64::from(vlan.0 & 0xff) << 8;
        let hash = mix(mac.to_u64() << 16 | u64::from(vlan.0));
        let at = usize::try_from(hash % SETS as u64).unwrap_or(0) * WAYS;
        (self.0.get(at..at + WAYS).unwrap_or(&[]), name)
    }
}

/// A hash of the addresses and ports of a flow, to spread flows over links.
#[inline]
pub fn flow_hash(key: &FlowKey) -> u64 {
    let fold = |addr: &net::Addr| {
        let octets = addr.octets().as_chunks::<8>().0;
        octets.iter().fold(0, |sum: u64, half| {
            sum.rotate_left(7) ^ u64::from_ne_bytes(*half)
        })
    };
    let ports = u64::from(key.sport().0) << 16 | u64::from(key.dport().0);
    mix(fold(&key.src).rotate_left(32) ^ fold(&key.dst) ^ ports)
}

/// Spreads a number over all bits (the finaliser of SplitMix64).
const fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn a_station_is_sent_to_by_the_link_it_was_heard_on() {
        let (links, stations) = (Links::new(2), Stations::default());
        let (vlan, ports) = (VlanIndex(3), [PortId(0), PortId(1)]);
        let egress = Egress::new(&ports, false, TrunkHash::default()).unwrap();
        let to = |n| egress.port(vlan, mac(n), || 0, &links, &stations);
        assert_eq!(to(1), Some(PortId(0)), "unknown: the first link");
        stations.heard(vlan, mac(1), PortId(1));
        assert_eq!(to(1), Some(PortId(1)));
        stations.heard(VlanIndex(4), mac(1), PortId(0));
        assert_eq!(to(1), Some(PortId(1)), "another VLAN is another station");
        stations.heard(vlan, mac(1), PortId(0));
        assert_eq!(to(1), Some(PortId(0)), "it moved");
        links.set(PortId(0), false);
        assert_eq!(to(1), Some(PortId(1)), "its link is down");
        assert_eq!(egress.flood(&links), [PortId(1)]);
        links.set(PortId(1), false);
        assert_eq!(to(1), None);
    }

    #[test]
    fn a_lag_spreads_flows_over_the_links_that_are_up() {
        let (links, stations) = (Links::new(3), Stations::default());
        let ports = [PortId(0), PortId(1), PortId(2)];
        let egress = Egress::new(&ports, true, TrunkHash::SrcDstIpport).unwrap();
        let to = |hash| {
            egress
                .port(VlanIndex(0), mac(1), || hash, &links, &stations)
                .unwrap()
        };
        let mut seen: Vec<PortId> = (0..30).map(to).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ports);
        assert_eq!(to(7), to(7), "a flow stays on its link");
        assert_eq!(egress.flood(&links).len(), 1, "a LAG is one link");
        links.set(PortId(1), false);
        assert!((0..30).map(to).all(|port| port != PortId(1)));
    }

    #[test]
    fn by_mac_address_all_flows_to_a_station_share_a_link() {
        let (links, stations) = (Links::new(2), Stations::default());
        let egress = Egress::new(&[PortId(0), PortId(1)], true, TrunkHash::DstMac).unwrap();
        let to = |n, hash| {
            egress
                .port(VlanIndex(0), mac(n), || hash, &links, &stations)
                .unwrap()
        };
        assert!((0..20).all(|hash| to(1, hash) == to(1, 0)));
        assert!((0..20).any(|n| to(n, 0) != to(1, 0)));
    }

    #[test]
    fn more_stations_than_slots_are_forgotten_and_never_mixed_up() {
        let stations = Stations::default();
        let station = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            (MacAddr([2, 1, a, b, c, d]), PortId(d & 1))
        };
        for n in 0..20_000 {
            let (mac, port) = station(n);
            stations.heard(VlanIndex(0), mac, port);
        }
        let known = (0..20_000)
            .map(station)
            .filter(|(mac, port)| match stations.port(VlanIndex(0), *mac) {
                Some(found) => {
                    assert_eq!(found, *port);
                    true
                }
                None => false,
            })
            .count();
        assert!(known > 3_000, "{known}");
    }
}
