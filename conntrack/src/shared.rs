//! The addresses that IPv6 flows share.
//!
//! A flow has four addresses: the client's, the virtual server's, the member's and the one the member is
//! spoken to from. An IPv6 flow keeps the client's; the other three, which come from the configuration
//! in most cases, are the same for many flows and are kept here once for all of them. Where they are not
//! (every destination of a wildcard makes a set of its own), a set of addresses costs a cache line, as it would
//! in the flow.
//!
//! A set is found again by a small index. When that is full, further sets are kept as often as they
//! come: they cost memory, which is there for as many as there may be flows, and nothing else.

use zerocopy::FromZeros;

use crate::flow::Direction;
use crate::hash::Hasher;
use crate::index::{Index, Place};
use crate::memory::Pages;

/// The most sets: flows have 24 bits to name theirs.
const MAX_SETS: usize = 1 << 24;
/// Slots per set that can be found again, beyond the first of them.
const SLOTS_PER_SHARED: usize = 64;
/// Sets that can be found again in any table that has as many slots.
const LEAST_SHARED: usize = 4096;

/// No set.
const NIL: u32 = u32::MAX;

/// Three addresses in wire order, and how many flows have them.
#[derive(Debug, Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub(crate) struct Shared {
    /// Where the client's packets go to; then where they come from that come back, and where those go to,
    /// unless that is the client.
    addrs: [[u64; 2]; 3],
    /// All ones if those go to the client's own address: what is then taken of it.
    client: u64,
    /// Flows with this set; of a free one, which is free next.
    users: u32,
    /// Whether the index leads here.
    indexed: u8,
}

/// No address: of a flow that goes to its client untranslated.
const NOWHERE: [u64; 2] = [0; 2];

impl Shared {
    pub(crate) const NONE: Self = Self {
        addrs: [NOWHERE; 3],
        client: 0,
        users: 0,
        indexed: 0,
    };

    /// What of both tuples is not the client's address.
    fn addrs_of(original: &[u64; 4], reply: &[u64; 4]) -> [[u64; 2]; 3] {
        let [client_a, client_b, to_a, to_b] = *original;
        let [from_a, from_b, back_a, back_b] = *reply;
        let untranslated = [back_a, back_b] == [client_a, client_b];
        let back = if untranslated {
            NOWHERE
        } else {
            [back_a, back_b]
        };
        [[to_a, to_b], [from_a, from_b], back]
    }

    /// The addresses of packets of `client`'s flow in `direction`, in wire order.
    #[inline]
    pub(crate) const fn tuple(&self, client: [u64; 2], direction: Direction) -> [u64; 4] {
        let [to, from, back] = self.addrs;
        match direction {
            Direction::Original => [client[0], client[1], to[0], to[1]],
            Direction::Reply => {
                let mask = self.client;
                let back = [back[0] | client[0] & mask, back[1] | client[1] & mask];
                [from[0], from[1], back[0], back[1]]
            }
        }
    }
}

/// All sets of a table.
pub(crate) struct Shares {
    sets: Pages<Shared>,
    index: Index,
    /// Sets that the index leads to, and how many it may lead to.
    indexed: usize,
    limit: usize,
    /// First of the free ones.
    free: u32,
    /// Sets in use.
    used: usize,
}

impl Shares {
    /// For at most `slots` flows.
    pub(crate) fn new(slots: usize) -> Self {
        Self::with_limit(slots, Self::limit(slots))
    }

    /// As [`new`](Self::new), with so many sets that can be found again.
    fn with_limit(slots: usize, limit: usize) -> Self {
        Self {
            // Huge pages of the pool are taken whole at once, and it may never be needed.
            sets: Pages::beginning_small(slots.min(MAX_SETS)),
            index: Index::new(limit, false),
            indexed: 0,
            limit,
            free: NIL,
            used: 0,
        }
    }

    fn limit(slots: usize) -> usize {
        let least = slots.min(LEAST_SHARED);
        slots.div_ceil(SLOTS_PER_SHARED).max(least)
    }

    /// Octets that the index takes where there may be `slots` flows.
    pub(crate) fn index_octets(slots: usize) -> usize {
        Index::octets(Self::limit(slots))
    }

    /// Sets in use.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    #[inline]
    pub(crate) fn get(&self, set: u32) -> &Shared {
        self.sets.get(set as usize).unwrap_or(&Shared::NONE)
    }

    fn hash(hasher: &Hasher, addrs: &[[u64; 2]; 3]) -> u64 {
        hasher.three(addrs)
    }

    /// The set of a flow with these tuples, for one flow more; `None` if there is no room.
    pub(crate) fn enter(
        &mut self,
        hasher: &Hasher,
        original: &[u64; 4],
        reply: &[u64; 4],
    ) -> Option<u32> {
        let addrs = Shared::addrs_of(original, reply);
        let hash = Self::hash(hasher, &addrs);
        let sets = &self.sets;
        let found = self
            .index
            .find(hash, |place| sets[place.slot() as usize].addrs == addrs);
        if let Some(place) = found {
            self.sets[place.slot() as usize].users += 1;
            return Some(place.slot());
        }
        let indexed = self.indexed < self.limit;
        let set = Shared {
            addrs,
            client: if addrs[2] == NOWHERE { u64::MAX } else { 0 },
            users: 1,
            indexed: u8::from(indexed),
        };
        let at = if self.free == NIL {
            let at = u32::try_from(self.sets.len()).ok()?;
            if !self.sets.push(set) {
                return None;
            }
            at
        } else {
            let at = self.free;
            self.free = self.sets[at as usize].users;
            self.sets[at as usize] = set;
            at
        };
        if indexed {
            self.index.insert(hash, Place::new(at, Direction::Original));
            self.indexed += 1;
        }
        self.used += 1;
        Some(at)
    }

    /// One flow fewer has the set.
    pub(crate) fn leave(&mut self, hasher: &Hasher, at: u32) {
        let Some(set) = self.sets.get_mut(at as usize) else {
            return;
        };
        set.users -= 1;
        if set.users > 0 {
            return;
        }
        if set.indexed != 0 {
            let hash = Self::hash(hasher, &set.addrs);
            let there = self.index.remove(hash, Place::new(at, Direction::Original));
            debug_assert!(there, "a set that is indexed is in the index");
            self.indexed -= 1;
        }
        set.users = self.free;
        self.free = at;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_sets_are_kept_once_as_long_as_the_index_has_room_for_different_ones() {
        let (hasher, mut shares) = (Hasher::new(1), Shares::with_limit(160, 10));
        let mut enter = |n: u64| shares.enter(&hasher, &[1, n, 2, n], &[3, n, 4, n]).unwrap();
        for n in 0..12 {
            let first = enter(n);
            assert_eq!(enter(n) == first, n < 10, "{n}");
        }
        assert_eq!(shares.used(), 10 + 2 * 2);
    }

    #[test]
    fn a_set_of_addresses_is_a_cache_line() {
        assert_eq!(size_of::<Shared>(), 64);
    }

    proptest! {
        /// Flows of few addresses come and go, with room in the index and without: each keeps its own tuples,
        /// and at the end nothing is left.
        #[test]
        fn flows_get_back_the_addresses_they_came_with(
            acts in prop::collection::vec((0..5_u64, 0..4_u64, 0..3_u64, 0..3_u64, any::<bool>()), 1..300),
            slots in prop_oneof![Just(16_usize), Just(300)],
        ) {
            let hasher = Hasher::new(1);
            let mut shares = Shares::with_limit(slots, slots.div_ceil(16));
            let mut flows: Vec<([u64; 4], [u64; 4], u32)> = Vec::new();
            for (client, to, from, back, leaves) in acts {
                let client = [1 << 60, client + 1];
                let back = if back == 0 { client } else { [3, back] };
                let original = [client[0], client[1], 2, to];
                let reply = [4, from, back[0], back[1]];
                if leaves && !flows.is_empty() {
                    let at = usize::try_from(to).unwrap() % flows.len();
                    let (_, _, set) = flows.swap_remove(at);
                    shares.leave(&hasher, set);
                } else if let Some(set) = shares.enter(&hasher, &original, &reply) {
                    flows.push((original, reply, set));
                } else {
                    prop_assert!(flows.len() >= slots);
                }
                for (original, reply, set) in &flows {
                    let client = [original[0], original[1]];
                    prop_assert_eq!(&shares.get(*set).tuple(client, Direction::Original), original);
                    prop_assert_eq!(&shares.get(*set).tuple(client, Direction::Reply), reply);
                }
                let different: std::collections::HashSet<u32> = flows.iter().map(|flow| flow.2).collect();
                prop_assert_eq!(shares.used(), different.len());
            }
            for (_, _, set) in flows.drain(..) {
                shares.leave(&hasher, set);
            }
            prop_assert_eq!((shares.used(), shares.indexed), (0, 0));
        }
    }
}
