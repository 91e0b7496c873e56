//! From the hash of a tuple to the slot of its flow.
//!
//! Open addressing with linear probing, at most two thirds full. Deleting moves the entries behind
//! the hole up instead of leaving a tombstone, so the index never has to be cleaned or rehashed
//! however many flows come and go: no operation ever costs more than the run of entries it is in.
//! An entry holds 32 bits of its hash, so a probe touches a flow only if it is almost surely the
//! right one, and a whole run is one cache line as a rule.

use net::FlowKey;
use zerocopy::IntoBytes;

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::flow::Direction;

/// What the table needs of an index; behind it the layout is free to change.
pub(crate) trait FlowIndex {
    /// An index for `entries` tuples.
    fn with_capacity(entries: usize, seed: u64) -> Self;

    /// The keyed hash of a tuple.
    fn hash(&self, key: &FlowKey) -> u64;

    /// The entry of `hash` that `is_match` accepts.
    fn find(&self, hash: u64, is_match: impl FnMut(Place) -> bool) -> Option<Place>;

    /// Enters `place`. The caller never enters more than the capacity.
    fn insert(&mut self, hash: u64, place: Place);

    /// Takes out the entry of `hash` that is `place`; whether it was there.
    fn remove(&mut self, hash: u64, place: Place) -> bool;
}

/// A slot, and which of its two tuples led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// Slots are below 2^31 - 1.
    pub(crate) const fn new(slot: u32, direction: Direction) -> Self {
        Self(slot << 1 | direction as u32)
    }

    pub(crate) const fn slot(self) -> u32 {
        self.0 >> 1
    }

    pub(crate) const fn direction(self) -> Direction {
        if self.0 & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The low half of the hash.
    tag: u32,
    /// `VACANT`, or a [`Place`].
    place: u32,
}

const VACANT: u32 = u32::MAX;
const EMPTY: Entry = Entry {
    tag: 0,
    place: VACANT,
};

/// The present index.
pub(crate) struct ProbingIndex {
    entries: Box<[Entry]>,
    mask: usize,
    seed: u64,
    /// Expanded from the seed. Foldhash's published constants would let a sender choose IPv6
    /// addresses that multiply to zero and collide at will.
    shared: SharedSeed,
}

/// The low half of a hash.
const fn tag(hash: u64) -> u32 {
    (hash & 0xffff_ffff) as u32
}

impl ProbingIndex {
    const fn home(&self, tag: u32) -> usize {
        tag as usize & self.mask
    }

    /// Where `accept` finds its entry in the run of `tag`.
    fn position(&self, tag: u32, mut accept: impl FnMut(Place) -> bool) -> Option<usize> {
        let mut at = self.home(tag);
        loop {
            let entry = self.entries[at];
            if entry.place == VACANT {
                return None;
            }
            if entry.tag == tag && accept(Place(entry.place)) {
                return Some(at);
            }
            at = (at + 1) & self.mask;
        }
    }
}

impl FlowIndex for ProbingIndex {
    fn with_capacity(entries: usize, seed: u64) -> Self {
        let len = (entries + entries / 2 + 1).next_power_of_two();
        Self {
            entries: vec![EMPTY; len].into_boxed_slice(),
            mask: len - 1,
            seed: seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15,
            shared: SharedSeed::from_u64(seed),
        }
    }

    #[inline]
    fn hash(&self, key: &FlowKey) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    #[inline]
    fn find(&self, hash: u64, is_match: impl FnMut(Place) -> bool) -> Option<Place> {
        self.position(tag(hash), is_match)
            .map(|at| Place(self.entries[at].place))
    }

    fn insert(&mut self, hash: u64, place: Place) {
        let tag = tag(hash);
        let mut at = self.home(tag);
        while self.entries[at].place != VACANT {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Entry {
            tag,
            place: place.0,
        };
    }

    fn remove(&mut self, hash: u64, place: Place) -> bool {
        let Some(mut hole) = self.position(tag(hash), |p| p == place) else {
            return false;
        };
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry.place == VACANT {
                break;
            }
            // An entry may move up to the hole unless that is before its home.
            let from_home = at.wrapping_sub(self.home(entry.tag)) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use net::{Addr, IpProto, L4Port};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that runs are long, overlap and wrap round the end.
        #[test]
        fn every_entry_is_found_and_none_that_left(
            acts in prop::collection::vec((any::<bool>(), 0..40_u32, 0..24_u64), 0..400),
        ) {
            const CAPACITY: usize = 20;
            let mut index = ProbingIndex::with_capacity(CAPACITY, 0);
            let mut model = HashSet::new();
            for (enter, place, hash) in acts {
                let (place, hash) = (Place(place), hash.wrapping_mul(5) | 16);
                if enter && model.len() < CAPACITY && model.insert((hash, place.0)) {
                    index.insert(hash, place);
                } else if !enter {
                    prop_assert_eq!(index.remove(hash, place), model.remove(&(hash, place.0)));
                }
                for hash in (0..24_u64).map(|h| h.wrapping_mul(5) | 16) {
                    for place in (0..40).map(Place) {
                        let there = model.contains(&(hash, place.0));
                        prop_assert_eq!(index.find(hash, |p| p == place).is_some(), there);
                    }
                }
                let used = index.entries.iter().filter(|e| e.place != VACANT).count();
                prop_assert_eq!(used, model.len());
            }
        }
    }

    fn key(n: u32) -> FlowKey {
        FlowKey::new(
            Addr::from_v4(n.to_be_bytes()),
            Addr::from_v4([203, 0, 113, 10]),
            L4Port(40_000),
            L4Port(80),
            IpProto::TCP,
        )
    }

    /// The steps of a lookup that finds nothing.
    fn probes(index: &ProbingIndex, hash: u64) -> usize {
        let home = index.home(tag(hash));
        (0..index.entries.len())
            .take_while(|i| index.entries[(home + i) & index.mask].place != VACANT)
            .count()
    }

    #[test]
    fn runs_stay_short_when_full_and_after_any_number_of_changes() {
        // 2^16 * 2 / 3 entries: the fullest it gets.
        let entries = 43_690_u32;
        let mut index = ProbingIndex::with_capacity(entries as usize, 42);
        assert_eq!(index.entries.len(), 1 << 16);
        for n in 0..entries * 20 {
            let hash = index.hash(&key(n));
            index.insert(hash, Place(n % entries));
            if let Some(old) = n.checked_sub(entries - 1) {
                let hash = index.hash(&key(old));
                assert!(index.remove(hash, Place(old % entries)));
            }
        }
        let (sum, longest) = (0..10_000)
            .map(|n| probes(&index, index.hash(&key(n))))
            .fold((0, 0), |(sum, max), n| (sum + n, max.max(n)));
        assert!(sum < 10_000 * 7, "{sum} steps in 10000 lookups");
        assert!(longest < 400, "{longest} steps in one lookup");
    }

    #[test]
    fn the_seed_decides_which_tuples_collide() {
        let hashes = |seed| {
            let index = ProbingIndex::with_capacity(1, seed);
            (0..1000).map(|n| index.hash(&key(n))).collect::<Vec<_>>()
        };
        assert_eq!(hashes(1), hashes(1));
        assert!(hashes(1).iter().zip(&hashes(2)).all(|(a, b)| a != b));
    }

    #[test]
    fn addresses_made_of_published_constants_do_not_collide() {
        // Foldhash with fixed constants maps these to few values: a factor becomes zero.
        let index = ProbingIndex::with_capacity(1, 7);
        let constants = [
            0x243f_6a88_85a3_08d3_u64,
            0x1319_8a2e_0370_7344,
            0xa409_3822_299f_31d0,
            0x082e_fa98_ec4e_6c89,
            0x4528_21e6_38d0_1377,
            0xbe54_66cf_34e9_0c6c,
            0xc0ac_29b7_c97c_50dd,
            0x3f84_d5b5_b547_0917,
            0x9216_d5d9_8979_fb1b,
        ];
        for low in constants {
            for low in [low.to_be_bytes(), low.to_le_bytes()] {
                let hashes: HashSet<_> = (0..10_000_u64)
                    .map(|high| {
                        let mut src = [0; 16];
                        src[..8].copy_from_slice(&high.to_be_bytes());
                        src[8..].copy_from_slice(&low);
                        let mut key = key(1);
                        key.src = Addr::from_v6(src);
                        tag(index.hash(&key))
                    })
                    .collect();
                assert!(hashes.len() > 9_990);
            }
        }
    }
}
