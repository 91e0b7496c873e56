//! Mappings that do not depend on the flow (RFC 4787 section 4.1: endpoint-independent).
//!
//! A mapping says that a client's address and port are, towards everybody, one external address and
//! port. It is made by the first flow that a client opens from there and lives as long as one such flow
//! does: flows are refreshed by their packets, mappings by nothing but their flows (REQ-6: what comes in from
//! strangers keeps no mapping alive). The external port is not given to another as long as any flow uses
//! it, those included that others have opened towards the client.
//!
//! All memory is taken at the start; the table is one worker's own.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use net::{Addr, IpProto, L4Port};

/// A client's end of flows, or the end that servers see instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port, or the identifier of echoes.
    pub port: L4Port,
    /// The protocol.
    pub proto: IpProto,
}

/// Names a mapping as long as it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappingId(u32);

/// One mapping.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<D> {
    /// The client's end.
    pub internal: Endpoint,
    /// What servers see.
    pub external: Endpoint,
    /// What the caller keeps.
    pub data: D,
    client: u32,
    /// Flows that the client has opened.
    outbound: u32,
    /// Flows that others have opened.
    inbound: u32,
}

/// Why there is no mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The client has as many as it may.
    Client,
    /// The table is full.
    Full,
}

/// A client, and how many mappings it has.
#[derive(Clone, Copy, Debug)]
struct Client {
    addr: Addr,
    mappings: u32,
}

/// A server's address that a mapping's client has sent to.
#[derive(Clone, Copy, Debug)]
struct Peer {
    mapping: u32,
    addr: Addr,
    flows: u32,
}

/// The mappings of one worker.
#[derive(Debug)]
pub struct Mappings<D> {
    hasher: FixedState,
    all: Slots<Mapping<D>>,
    clients: Slots<Client>,
    peers: Slots<Peer>,
    by_internal: Index,
    by_external: Index,
    by_client: Index,
    by_peer: Index,
}

impl<D: Copy> Mappings<D> {
    /// Room for `capacity` mappings. `seed` is random.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(1, 1 << 24);
        Self {
            hasher: FixedState::with_seed(seed),
            all: Slots::new(capacity),
            clients: Slots::new(capacity),
            peers: Slots::new(capacity * PEERS),
            by_internal: Index::new(capacity),
            by_external: Index::new(capacity),
            by_client: Index::new(capacity),
            by_peer: Index::new(capacity * PEERS),
        }
    }

    /// The memory that a full table takes, octets.
    pub const fn octets(capacity: usize) -> usize {
        let each = size_of::<Mapping<D>>() + size_of::<Client>() + PEERS * size_of::<Peer>();
        // Free lists, and four words of index for each entry.
        capacity * (each + (2 + PEERS) * 4 + (3 + PEERS) * 16)
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.all.len == 0
    }

    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.all.len
    }

    /// The mapping of a client's end to an external one that `fits`, if it lives. A client has several where it is
    /// translated differently by the way that it goes.
    pub fn of_internal(
        &self,
        end: &Endpoint,
        fits: impl Fn(&Endpoint) -> bool,
    ) -> Option<MappingId> {
        let hash = self.hasher.hash_one(end);
        let same = |at| {
            let mapping = self.all.get(at);
            mapping.is_some_and(|m| m.internal == *end && m.outbound > 0 && fits(&m.external))
        };
        self.by_internal.find(hash, same).map(MappingId)
    }

    /// The mapping that has an external end, whether or not it still takes new flows.
    fn holder(&self, end: &Endpoint) -> Option<u32> {
        let hash = self.hasher.hash_one(end);
        let same = |at| self.all.get(at).is_some_and(|m| m.external == *end);
        self.by_external.find(hash, same)
    }

    /// The mapping of an external end, if it lives.
    pub fn of_external(&self, end: &Endpoint) -> Option<MappingId> {
        let at = self.holder(end)?;
        let lives = self.all.get(at).is_some_and(|m| m.outbound > 0);
        lives.then_some(MappingId(at))
    }

    /// Whether no mapping has an external end.
    #[inline]
    pub fn is_free(&self, end: &Endpoint) -> bool {
        self.is_empty() || self.holder(end).is_none()
    }

    /// What is known of a mapping.
    pub fn get(&self, id: MappingId) -> Option<&Mapping<D>> {
        self.all.get(id.0)
    }

    /// How many mappings a client has.
    pub fn of_client(&self, addr: &Addr) -> u32 {
        let found = self.client(addr).and_then(|at| self.clients.get(at));
        found.map_or(0, |client| client.mappings)
    }

    fn client(&self, addr: &Addr) -> Option<u32> {
        let same = |at| self.clients.get(at).is_some_and(|c| c.addr == *addr);
        self.by_client.find(self.hasher.hash_one(addr), same)
    }

    /// Whether a client may have another mapping where each may have `per_client`.
    pub fn may_insert(&self, internal: &Endpoint, per_client: u32) -> Result<(), Refused> {
        if self.of_client(&internal.addr) >= per_client {
            return Err(Refused::Client);
        }
        if self.all.is_full() {
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Makes a mapping; it has to be [opened](Self::open) at once. The external end may have none; what is asked of
    /// [`may_insert`](Self::may_insert) must hold.
    pub fn insert(&mut self, internal: Endpoint, external: Endpoint, data: D) -> Option<MappingId> {
        // A client's end that no longer lives but whose port is in use by what others opened: it is
        // forgotten by that name, and its external end stays taken.
        let hash = self.hasher.hash_one(internal);
        let mappings = &self.all;
        self.by_internal.remove(
            hash,
            |at| {
                let mapping = mappings.get(at);
                mapping.is_some_and(|m| m.internal == internal && m.outbound == 0)
            },
            |at| {
                mappings
                    .get(at)
                    .map_or(0, |m| self.hasher.hash_one(m.internal))
            },
        );
        let client = if let Some(at) = self.client(&internal.addr) {
            at
        } else {
            let addr = internal.addr;
            let at = self.clients.take(Client { addr, mappings: 0 })?;
            self.by_client.insert(self.hasher.hash_one(addr), at);
            at
        };
        let mapping = Mapping {
            internal,
            external,
            data,
            client,
            outbound: 0,
            inbound: 0,
        };
        let at = self.all.take(mapping)?;
        if let Some(client) = self.clients.get_mut(client) {
            client.mappings += 1;
        }
        self.by_internal.insert(hash, at);
        self.by_external.insert(self.hasher.hash_one(external), at);
        Some(MappingId(at))
    }

    /// A flow of the mapping's client to `peer` begins.
    pub fn open(&mut self, id: MappingId, peer: &Addr, data: D) {
        if let Some(mapping) = self.all.get_mut(id.0) {
            mapping.outbound += 1;
            mapping.data = data;
        }
        let hash = self.hasher.hash_one((id.0, peer));
        if let Some(at) = self.peer(id, peer, hash) {
            if let Some(peer) = self.peers.get_mut(at) {
                peer.flows += 1;
            }
            return;
        }
        // Where there is no room, nobody is let in that should not be: the peer's other ports stay out.
        let addr = *peer;
        let peer = Peer {
            mapping: id.0,
            addr,
            flows: 1,
        };
        if let Some(at) = self.peers.take(peer) {
            self.by_peer.insert(hash, at);
        }
    }

    /// A flow of somebody else to the mapping's client begins.
    pub fn admit(&mut self, id: MappingId) {
        if let Some(mapping) = self.all.get_mut(id.0) {
            mapping.inbound += 1;
        }
    }

    fn peer(&self, id: MappingId, addr: &Addr, hash: u64) -> Option<u32> {
        let same = |at| {
            let peer = self.peers.get(at);
            peer.is_some_and(|peer| peer.mapping == id.0 && peer.addr == *addr)
        };
        self.by_peer.find(hash, same)
    }

    /// Whether a flow of the mapping's client to the address `peer` lives.
    pub fn knows(&self, id: MappingId, peer: &Addr) -> bool {
        let hash = self.hasher.hash_one((id.0, peer));
        self.peer(id, peer, hash).is_some()
    }

    /// A flow of the mapping's client to `peer` has ended.
    pub fn close(&mut self, external: &Endpoint, peer: &Addr) {
        let Some(at) = self.holder(external) else {
            return;
        };
        let id = MappingId(at);
        let hash = self.hasher.hash_one((id.0, peer));
        if let Some(place) = self.peer(id, peer, hash) {
            let left = self.peers.get_mut(place).map_or(0, |peer| {
                peer.flows = peer.flows.saturating_sub(1);
                peer.flows
            });
            if left == 0 {
                let (peers, hasher) = (&self.peers, &self.hasher);
                self.by_peer.remove(
                    hash,
                    |at| at == place,
                    |at| {
                        peers
                            .get(at)
                            .map_or(0, |p| hasher.hash_one((p.mapping, &p.addr)))
                    },
                );
                self.peers.give_back(place);
            }
        }
        if let Some(mapping) = self.all.get_mut(at) {
            mapping.outbound = mapping.outbound.saturating_sub(1);
        }
        self.forget_unused(at);
    }

    /// A flow that somebody else had opened to the external end has ended.
    pub fn dismiss(&mut self, external: &Endpoint) {
        let Some(at) = self.holder(external) else {
            return;
        };
        if let Some(mapping) = self.all.get_mut(at) {
            mapping.inbound = mapping.inbound.saturating_sub(1);
        }
        self.forget_unused(at);
    }

    fn forget_unused(&mut self, at: u32) {
        let Some(mapping) = self.all.get(at).copied() else {
            return;
        };
        if mapping.outbound > 0 || mapping.inbound > 0 {
            return;
        }
        let (mappings, hasher) = (&self.all, &self.hasher);
        let same = |place| place == at;
        self.by_internal
            .remove(hasher.hash_one(mapping.internal), same, |at| {
                mappings.get(at).map_or(0, |m| hasher.hash_one(m.internal))
            });
        self.by_external
            .remove(hasher.hash_one(mapping.external), same, |at| {
                mappings.get(at).map_or(0, |m| hasher.hash_one(m.external))
            });
        self.all.give_back(at);
        let left = self.clients.get_mut(mapping.client).map_or(1, |client| {
            client.mappings = client.mappings.saturating_sub(1);
            client.mappings
        });
        if left == 0 {
            let (clients, hasher) = (&self.clients, &self.hasher);
            let hash = hasher.hash_one(mapping.internal.addr);
            self.by_client.remove(
                hash,
                |place| place == mapping.client,
                |at| clients.get(at).map_or(0, |c| hasher.hash_one(c.addr)),
            );
            self.clients.give_back(mapping.client);
        }
    }
}

/// Peers there is room for, for each mapping.
const PEERS: usize = 2;

/// Values in numbered places.
#[derive(Debug)]
struct Slots<T> {
    values: Vec<T>,
    free: Vec<u32>,
    capacity: usize,
    len: usize,
}

impl<T> Slots<T> {
    fn new(capacity: usize) -> Self {
        Self {
            values: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            len: 0,
        }
    }

    const fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    #[inline]
    fn get(&self, at: u32) -> Option<&T> {
        self.values.get(at as usize)
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.values.get_mut(at as usize)
    }

    fn take(&mut self, value: T) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            *self.values.get_mut(at as usize)? = value;
            self.len += 1;
            return Some(at);
        }
        if self.is_full() {
            return None;
        }
        let at = u32::try_from(self.values.len()).ok()?;
        self.values.push(value);
        self.len += 1;
        Some(at)
    }

    fn give_back(&mut self, at: u32) {
        self.free.push(at);
        self.len -= 1;
    }
}

/// Finds places by hash: linear probing in at most half full memory, without tombstones.
#[derive(Debug)]
struct Index {
    places: Box<[u32]>,
    mask: usize,
}

/// No place.
const NOTHING: u32 = u32::MAX;

impl Index {
    fn new(capacity: usize) -> Self {
        let size = (capacity * 2).next_power_of_two();
        Self {
            places: vec![NOTHING; size].into_boxed_slice(),
            mask: size - 1,
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any of its bits will do")]
    const fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    fn at(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            match self.places.get(at) {
                None | Some(&NOTHING) => return None,
                Some(place) if same(*place) => return Some(at),
                Some(_) => at = (at + 1) & self.mask,
            }
        }
    }

    #[inline]
    fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.places.get(self.at(hash, same)?).copied()
    }

    fn insert(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        while self.places.get(at).is_some_and(|place| *place != NOTHING) {
            at = (at + 1) & self.mask;
        }
        if let Some(slot) = self.places.get_mut(at) {
            *slot = place;
        }
    }

    /// Takes a place out, and moves those behind it up that would not be found over the gap. `hash_of` is
    /// the hash of what is at a place.
    fn remove(&mut self, hash: u64, same: impl Fn(u32) -> bool, hash_of: impl Fn(u32) -> u64) {
        let Some(mut gap) = self.at(hash, same) else {
            return;
        };
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let Some(&place) = self.places.get(at).filter(|place| **place != NOTHING) else {
                break;
            };
            // It may move to the gap if its home is not behind it.
            let home = self.home(hash_of(place));
            let from_home = at.wrapping_sub(home) & self.mask;
            let from_gap = at.wrapping_sub(gap) & self.mask;
            if from_home >= from_gap {
                if let Some(slot) = self.places.get_mut(gap) {
                    *slot = place;
                }
                gap = at;
            }
        }
        if let Some(slot) = self.places.get_mut(gap) {
            *slot = NOTHING;
        }
    }
}
