//! Looking flows up, one by one or in passes over a burst.

use net::tuple::swap_v6;
use net::{FlowKey, Tuple};

use super::Table;
use crate::flow::{Direction, Flow, FlowId};
use crate::index::Place;
use crate::machine::prefetch;
use crate::state::State;

/// A tuple and its hash, made by [`Table::hashed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    pub(super) tuple: Tuple,
    pub(super) hash: u64,
}

/// Where a flow may be: what [`Table::probe`] found without reading the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe(Option<Place>);

impl Probe {
    /// Nowhere.
    pub const NONE: Self = Self(None);
}

/// A flow that a packet was found to belong to, until the table is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit(Place);

impl Hit {
    /// Which way the packet goes.
    #[inline]
    pub const fn direction(self) -> Direction {
        self.0.direction()
    }
}

impl<D: Copy> Table<D> {
    /// The hash of the key, for [`lookup_hashed`](Self::lookup_hashed).
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.tuple(&Tuple::from(key))
    }

    /// The hash of an IPv4 tuple in wire order, see [`Tuple`].
    #[inline]
    pub fn hash_v4(&self, addrs: u64, ports: u32, proto: u8) -> u64 {
        self.hasher.v4(addrs, ports, proto)
    }

    /// The hash of an IPv6 tuple in wire order, see [`Tuple`].
    #[inline]
    pub fn hash_v6(&self, addrs: &[u64; 4], ports: u32, proto: u8) -> u64 {
        self.hasher.v6(addrs, ports, proto)
    }

    /// Asks for the memory that [`probe`](Self::probe) of the same hash will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Finds where the flow with this hash probably is, and asks for the memory that
    /// [`confirm_v4`](Self::confirm_v4) or [`confirm_v6`](Self::confirm_v6) will read.
    #[inline]
    pub fn probe(&self, hash: u64) -> Probe {
        let place = self.index.probe(hash);
        if let Some(place) = place {
            let slot = place.slot() as usize;
            if let Some(flow) = self.flows.get(slot) {
                prefetch(flow);
                prefetch(flow.second_line());
            }
        }
        Probe(place)
    }

    /// The flow that packets with this IPv4 tuple belong to, if it is where it was probed. A miss is
    /// not the last word: ask [`lookup_hashed`](Self::lookup_hashed).
    #[inline]
    pub fn confirm_v4(&self, probe: Probe, addrs: u64, ports: u32, proto: u8) -> Option<Hit> {
        let place = probe.0?;
        let flow = self.flows.get(place.slot() as usize)?;
        flow.is_v4(place.direction(), addrs, ports, proto)
            .then_some(Hit(place))
    }

    /// As [`confirm_v4`](Self::confirm_v4), for IPv6.
    #[inline]
    pub fn confirm_v6(&self, probe: Probe, addrs: &[u64; 4], ports: u32, proto: u8) -> Option<Hit> {
        let place = probe.0?;
        let flow = self.flows.get(place.slot() as usize)?;
        let direction = place.direction();
        let shared = self.shares.get(flow.shared());
        let [a, b, c, d] = flow.addrs_v6(direction, shared);
        let differ = (a ^ addrs[0]) | (b ^ addrs[1]) | (c ^ addrs[2]) | (d ^ addrs[3]);
        let found = differ == 0 && flow.may_be_v6(direction, ports, proto);
        found.then_some(Hit(place))
    }

    /// The flow of a hit.
    #[inline]
    pub fn hit(&mut self, hit: Hit) -> Option<&mut Flow<D>> {
        self.flows.get_mut(hit.0.slot() as usize)
    }

    /// The name of the flow of a hit.
    pub fn id(&self, hit: Hit) -> Option<FlowId> {
        let slot = hit.0.slot();
        let generation = self.flows.get(slot as usize)?.generation;
        Some(FlowId { slot, generation })
    }

    /// IPv4 addresses that packets of the flow of a hit leave with in `direction`, in wire order.
    #[inline]
    pub fn translated_v4(&self, hit: Hit, direction: Direction) -> Option<u64> {
        let flow = self.flows.get(hit.0.slot() as usize)?;
        Some(flow.translated_v4(direction))
    }

    /// IPv6 addresses that packets of the flow of a hit leave with in `direction`, in wire order.
    #[inline]
    pub fn translated_v6(&self, hit: Hit, direction: Direction) -> Option<[u64; 4]> {
        let flow = self.flows.get(hit.0.slot() as usize)?;
        let shared = self.shares.get(flow.shared());
        Some(swap_v6(flow.addrs_v6(direction.opposite(), shared)))
    }

    /// The flow that packets with `key` belong to, and which way they go.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<(FlowId, Direction)> {
        self.lookup_among(self.hash(key), key)
    }

    /// As [`lookup`](Self::lookup), with the hash of `key` at hand, of packets that may well have no flow.
    #[inline]
    pub fn lookup_hashed(&self, hash: u64, key: &FlowKey) -> Option<(FlowId, Direction)> {
        if self.index.lacks(hash) {
            return None;
        }
        self.lookup_among(hash, key)
    }

    fn lookup_among(&self, hash: u64, key: &FlowKey) -> Option<(FlowId, Direction)> {
        let place = self.find(hash, &Tuple::from(key))?;
        let slot = place.slot();
        let generation = self.flows[slot as usize].generation;
        Some((FlowId { slot, generation }, place.direction()))
    }

    #[inline]
    fn find(&self, hash: u64, tuple: &Tuple) -> Option<Place> {
        self.index.find(hash, |place| {
            let hit = Probe(Some(place));
            match tuple {
                Tuple::V4 {
                    addrs,
                    ports,
                    proto,
                } => self.confirm_v4(hit, *addrs, *ports, proto.0),
                Tuple::V6 {
                    addrs,
                    ports,
                    proto,
                } => self.confirm_v6(hit, addrs, *ports, proto.0),
            }
            .is_some()
        })
    }

    /// Whether packets with `key` belong to a flow. A translated port is leased exactly while the
    /// reply tuple it makes is in the table.
    #[inline]
    pub fn contains(&self, key: &FlowKey) -> bool {
        self.lookup(key).is_some()
    }

    /// Hashes a tuple, and asks for the memory that [`is_free`](Self::is_free) will read: look at several
    /// candidates together, and the memory accesses overlap.
    #[inline]
    pub fn hashed(&self, tuple: Tuple) -> Hashed {
        let hash = self.hash_ahead(&tuple);
        Hashed { tuple, hash }
    }

    /// As [`hashed`](Self::hashed), the hash alone.
    #[inline]
    pub fn hash_ahead(&self, tuple: &Tuple) -> u64 {
        let hash = self.hasher.tuple(tuple);
        self.index.prefetch(hash);
        hash
    }

    /// As [`hashed`](Self::hashed), with the hash at hand.
    #[inline]
    pub const fn with_hash(tuple: Tuple, hash: u64) -> Hashed {
        Hashed { tuple, hash }
    }

    /// Whether no flow has the tuple. A translated port is leased exactly while the reply tuple it
    /// makes is in the table.
    #[inline]
    pub fn is_free(&self, hashed: &Hashed) -> bool {
        self.index.lacks(hashed.hash) || self.find(hashed.hash, &hashed.tuple).is_none()
    }

    /// As [`hashed`](Self::hashed), of a tuple that several flows share which `salt` tells apart.
    pub fn hashed_beside(&self, tuple: Tuple, salt: u32) -> Hashed {
        let hash = beside(self.hasher.tuple(&tuple), salt);
        self.index.prefetch(hash);
        Hashed { tuple, hash }
    }

    /// The flow that has been [entered](Self::enter_beside) with this original tuple.
    pub fn lookup_beside(&self, original: &Hashed) -> Option<FlowId> {
        let place = self.find(original.hash, &original.tuple)?;
        let (slot, flow) = (place.slot(), &self.flows[place.slot() as usize]);
        let found = place.direction() == Direction::Original && flow.state() == State::Datagrams;
        found.then_some(FlowId {
            slot,
            generation: flow.generation,
        })
    }
}

/// The hash of a tuple that several flows have.
pub(super) const fn beside(hash: u64, salt: u32) -> u64 {
    hash ^ (salt as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
