//! By which port a frame of a VLAN leaves: its only one, one link of a LAG, or one in the segment where
//! its station was heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use config::TrunkHash;
use net::{FlowKey, MacAddr, PortId, VlanIndex};
use vlan::segment::choose;

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
#[derive(Debug)]
pub enum Egress {
    /// One port.
    Single(PortId),
    /// One link made of several ports: flows are spread over those that are up.
    Lag(Vec<PortId>, TrunkHash),
    /// Several links of one broadcast domain: each station is behind one of them, or behind several
    /// that are in one segment.
    Segments(Segments),
}

impl Egress {
    /// For the ports of a VLAN, in attachment order; `None` if there are none.
    pub fn new(ports: &[PortId], bonded: bool, hash: TrunkHash) -> Option<Self> {
        match (ports, bonded) {
            ([], _) => None,
            ([port], _) => Some(Self::Single(*port)),
            (ports, true) => Some(Self::Lag(ports.to_vec(), hash)),
            (ports, false) => Some(Self::Segments(Segments::new(ports))),
        }
    }

    /// The port for a frame to the station `mac`, of a flow with the hash that `flow` works out;
    /// `None` if no link is up. A single port is used whatever its link says: some devices cannot tell.
    /// Of several ports in one segment, it is one by which the worker sends itself, as `own` says.
    #[inline]
    pub fn port(
        &self,
        vlan: VlanIndex,
        mac: MacAddr,
        flow: impl FnOnce() -> u64,
        own: &Own,
        (links, stations): (&Links, &Stations),
    ) -> Option<PortId> {
        match self {
            Self::Single(port) => Some(*port),
            Self::Lag(ports, hash) => {
                let hash = match hash {
                    // All frames of a LAG have one source MAC.
                    TrunkHash::DstMac | TrunkHash::SrcDstMac => mix(mac.to_u64()),
                    TrunkHash::SrcDstIpport => flow(),
                };
                let up = || ports.iter().filter(|port| links.is_up(**port));
                let count = up().count() as u64;
                let at = usize::try_from(hash.checked_rem(count)?).unwrap_or(0);
                up().nth(at).copied()
            }
            Self::Segments(segments) => {
                let at = stations
                    .port(vlan, mac)
                    .and_then(|port| segments.position(port))
                    .filter(|at| segments.is_up(*at, links))
                    .or_else(|| (0..segments.ports.len()).find(|at| segments.is_up(*at, links)));
                segments.pick(at?, own, links, flow)
            }
        }
    }

    /// The ports for a frame to everybody: a LAG is one link, separate segments all get it. Of the ports in
    /// one segment, the one that `spread` means sends it; all of them without.
    pub fn flood(&self, links: &Links, spread: Option<u64>) -> Vec<PortId> {
        match self {
            Self::Single(port) => vec![*port],
            Self::Lag(ports, _) => ports
                .iter()
                .copied()
                .filter(|port| links.is_up(*port))
                .take(1)
                .collect(),
            Self::Segments(segments) => {
                let all = segments.ports.iter().enumerate();
                all.filter(|(at, port)| {
                    links.is_up(**port)
                        && spread.is_none_or(|spread| {
                            segments.chosen(*at, spread, links) == Some(**port)
                        })
                })
                .map(|(_, port)| *port)
                .collect()
            }
        }
    }
}

/// By which ports a worker sends itself; frames for others it hands over.
#[derive(Debug, Clone, Default)]
pub struct Own(Vec<bool>);

impl Own {
    /// By port, whether it does.
    pub fn new(own: impl IntoIterator<Item = bool>) -> Self {
        Self(own.into_iter().collect())
    }

    /// Whether it does; a worker that was told nothing sends by all ports.
    #[inline]
    pub fn has(&self, port: PortId) -> bool {
        self.0.get(usize::from(port.0)).is_none_or(|own| *own)
    }
}

/// The ports of a VLAN that each speak with their own MAC address, and which of them are in one
/// segment: what the control thread finds out, workers read.
#[derive(Debug)]
pub struct Segments {
    ports: Vec<PortId>,
    /// By position, the positions in the same segment as a mask, itself among them; of a position
    /// beyond the mask nothing is known, and it is alone.
    together: Box<[AtomicU64]>,
}

impl Segments {
    fn new(ports: &[PortId]) -> Self {
        Self {
            ports: ports.to_vec(),
            together: (0..ports.len()).map(|at| AtomicU64::new(bit(at))).collect(),
        }
    }

    /// Takes what was found out; see [`vlan::segment::Segments::together`].
    pub fn set(&self, together: &[u64]) {
        for (cell, mask) in self.together.iter().zip(together) {
            cell.store(*mask, Relaxed);
        }
    }

    /// The ports of each segment, in attachment order.
    pub fn list(&self) -> Vec<Vec<PortId>> {
        let leads = (0..self.ports.len()).filter(|at| self.leader(*at) == *at);
        leads
            .map(|leader| {
                let all = self.ports.iter().enumerate();
                all.filter(|(at, _)| self.leader(*at) == leader)
                    .map(|(_, port)| *port)
                    .collect()
            })
            .collect()
    }

    #[inline]
    fn position(&self, port: PortId) -> Option<usize> {
        self.ports.iter().position(|own| *own == port)
    }

    #[inline]
    fn mask(&self, at: usize) -> u64 {
        self.together.get(at).map_or(0, |mask| mask.load(Relaxed))
    }

    /// The first position in a segment.
    #[inline]
    fn leader(&self, at: usize) -> usize {
        match self.mask(at) {
            0 => at,
            mask => lowest(mask),
        }
    }

    /// Whether the segment of a position can be sent to.
    #[inline]
    fn is_up(&self, at: usize, links: &Links) -> bool {
        self.up(at, links) != 0 || self.ports.get(at).is_some_and(|port| links.is_up(*port))
    }

    /// The positions in the segment of `at` whose links are up.
    #[inline]
    fn up(&self, at: usize, links: &Links) -> u64 {
        let mut up = 0;
        for at in positions(self.mask(at)) {
            if self.ports.get(at).is_some_and(|port| links.is_up(*port)) {
                up |= bit(at);
            }
        }
        up
    }

    /// One of the ports in the segment of `at`: one the worker sends by itself, if there is one, and of
    /// several always the same for a flow.
    #[inline]
    fn pick(
        &self,
        at: usize,
        own: &Own,
        links: &Links,
        flow: impl FnOnce() -> u64,
    ) -> Option<PortId> {
        let among = self.up(at, links);
        let mut mine = 0;
        for at in positions(among) {
            if self.ports.get(at).is_some_and(|port| own.has(*port)) {
                mine |= bit(at);
            }
        }
        let among = if mine == 0 { among } else { mine };
        let at = match among.count_ones() {
            // Not grouped.
            0 => at,
            1 => lowest(among),
            count => {
                let nth = usize::try_from(flow().checked_rem(u64::from(count))?).ok()?;
                positions(among).nth(nth)?
            }
        };
        self.ports.get(at).copied()
    }

    /// The port in the segment of position `at` that `spread` means.
    fn chosen(&self, at: usize, spread: u64, links: &Links) -> Option<PortId> {
        let among = self.up(at, links);
        let nth = choose(spread, usize::try_from(among.count_ones()).ok()?);
        let chosen = nth.and_then(|nth| positions(among).nth(nth));
        self.ports.get(chosen.unwrap_or(at)).copied()
    }

    /// The port that answers what was asked at `port`, as `spread` says.
    pub fn answerer(&self, port: PortId, spread: u64, links: &Links) -> PortId {
        let chosen = self
            .position(port)
            .and_then(|at| self.chosen(at, spread, links));
        chosen.unwrap_or(port)
    }

    /// The port by which the worker sends an answer to what came in at `port`: that one, or another in
    /// its segment if it does not send by it itself.
    pub fn back(&self, port: PortId, own: &Own, links: &Links) -> PortId {
        if own.has(port) {
            return port;
        }
        let among = self.position(port).map_or(0, |at| self.up(at, links));
        let mut near = positions(among).filter_map(|at| self.ports.get(at));
        near.find(|port| own.has(**port)).copied().unwrap_or(port)
    }

    /// Whether a frame to the MAC address of port `other` that came in at `port` is the double of one
    /// that comes in there.
    pub fn doubles(&self, port: PortId, other: PortId, links: &Links) -> bool {
        let pair = self.position(port).zip(self.position(other));
        port != other && pair.is_some_and(|(at, other)| self.up(at, links) & bit(other) != 0)
    }

    /// The port that stands for the segment of `port`: where its stations are.
    #[inline]
    pub fn place(&self, port: PortId) -> PortId {
        let at = self.position(port).map(|at| self.leader(at));
        at.and_then(|at| self.ports.get(at))
            .copied()
            .unwrap_or(port)
    }
}

#[inline]
fn bit(at: usize) -> u64 {
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    1u64.checked_shl(at).unwrap_or(0)
}

#[inline]
fn lowest(mask: u64) -> usize {
    usize::try_from(mask.trailing_zeros()).unwrap_or(0)
}

/// The positions of a mask, in order.
#[inline]
fn positions(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let at = lowest(mask);
            mask &= mask - 1;
            at
        })
    })
}

/// Sets of the station table, and slots of a set.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// Behind which port a station was last heard, learned from source MAC addresses as a switch does; of
/// the ports in one segment, the first stands for all.
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
mod tests;
