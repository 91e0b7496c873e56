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
struct Entry {
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
