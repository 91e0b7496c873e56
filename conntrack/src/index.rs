//! From the hash of a tuple to its place: buckets of one cache line.
//!
//! A bucket holds twelve entries: an octet of the hash for each, compared all at once, and 32 bits
//! that are the place and five more bits of the hash. A lookup that finds its entry in the home
//! bucket reads one cache line; a wrong entry is looked at once in 680 lookups. An entry whose home
//! is full goes to the other bucket of the pair, which lies next to it and which memory delivers
//! along with it, then on to the next pairs; each bucket passed on the way counts it, and a
//! lookup goes on behind a bucket only if that count is not zero. Taking an entry out gives the
//! counts back, so there is nothing to sweep up later, no rehash and no growth, whatever comes and
//! goes.

use zerocopy::FromZeros;

use crate::flow::Direction;
use crate::machine::{equal_octets, prefetch};
use crate::memory::Pages;

/// Entries of a bucket.
const WAYS: usize = 12;
/// Entries per two buckets when the table is full. Then, after any amount of coming and going, one in
/// thirty is in neither bucket of its home pair.
const FILL: usize = 17;

/// Bits of a place; the rest of its word is part of the tag.
const PLACE_BITS: u32 = 27;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

/// The most slots that fit into a place, along with a direction.
pub(crate) const MAX_SLOTS: u32 = 1 << (PLACE_BITS - 1);

/// A slot, and which of its two tuples led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// `slot` is below [`MAX_SLOTS`].
    #[inline]
    pub(crate) const fn new(slot: u32, direction: Direction) -> Self {
        Self(slot << 1 | direction as u32)
    }

    #[inline]
    pub(crate) const fn slot(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) const fn direction(self) -> Direction {
        if self.0 & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }
}

#[derive(Debug, Clone, Copy, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// One octet of each entry's hash, where 0 is vacant; then how many entries passed by here.
    head: [u8; WAYS + 4],
    /// Place, and more of the hash above it.
    places: [u32; WAYS],
}

/// What is compared of a hash, besides the home bucket.
#[derive(Clone, Copy)]
struct Tag {
    octet: u8,
    /// In the position it has in a bucket's word.
    rest: u32,
}

impl Tag {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
    const fn of(hash: u64) -> Self {
        let octet = hash as u8;
        Self {
            octet: if octet == 0 { 1 } else { octet },
            rest: (hash >> 8) as u32 & !PLACE_MASK,
        }
    }
}

impl Bucket {
    /// The entries with this octet, one bit each.
    #[inline]
    fn matches(&self, octet: u8) -> u32 {
        equal_octets(&self.head, octet) & ((1 << WAYS) - 1)
    }

    /// Entries that passed by here, to a later bucket.
    #[inline]
    const fn passed(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_ne_bytes([a, b, c, d])
    }

    fn set_passed(&mut self, passed: u32) {
        self.head[WAYS..].copy_from_slice(&passed.to_ne_bytes());
    }

    /// The entries with this tag, in order.
    #[inline]
    fn candidates(&self, tag: Tag) -> impl Iterator<Item = (usize, Place)> {
        let mut left = self.matches(tag.octet);
        std::iter::from_fn(move || {
            while left != 0 {
                let at = (left.trailing_zeros() as usize).min(WAYS - 1);
                left &= left - 1;
                let word = self.places[at];
                if word & !PLACE_MASK == tag.rest {
                    return Some((at, Place(word & PLACE_MASK)));
                }
            }
            None
        })
    }
}

impl Bucket {
    /// Where `place` is, entered with this tag.
    #[inline]
    fn way_of(&self, tag: Tag, place: Place) -> Option<usize> {
        let (word, mut left) = (tag.rest | place.0, self.matches(tag.octet));
        while left != 0 {
            let at = (left.trailing_zeros() as usize).min(WAYS - 1);
            if self.places[at] == word {
                return Some(at);
            }
            left &= left - 1;
        }
        None
    }
}

/// The index of one table.
pub(crate) struct Index {
    buckets: Pages<Bucket>,
}

impl Index {
    /// An index for `entries` tuples.
    pub(crate) fn new(entries: usize, hugetlb: bool) -> Self {
        Self {
            buckets: Pages::zeroed(buckets(entries), hugetlb),
        }
    }

    /// Octets that an index for `entries` tuples takes.
    pub(crate) fn octets(entries: usize) -> usize {
        buckets(entries) * size_of::<Bucket>()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        // The upper half times the number of buckets, scaled down: no division (Lemire 2019).
        let scaled = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// The bucket after `at` on the way from `home`: both of a pair, then those of the next.
    #[inline]
    fn next(&self, home: usize, at: usize) -> usize {
        if at & 1 == home & 1 {
            return at ^ 1;
        }
        let next = (at ^ 1) + 2;
        if next < self.buckets.len() {
            next
        } else {
            next & 1
        }
    }

    /// Asks for the home bucket of `hash` without waiting for it.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The first entry of the home pair that may be the one of `hash`.
    #[inline]
    pub(crate) fn probe(&self, hash: u64) -> Option<Place> {
        let (home, tag) = (self.home(hash), Tag::of(hash));
        let bucket = &self.buckets[home];
        let found = bucket.candidates(tag).next();
        let found = if found.is_none() && bucket.passed() != 0 {
            self.buckets[home ^ 1].candidates(tag).next()
        } else {
            found
        };
        found.map(|(_, place)| place)
    }

    /// Whether a look at the home bucket of `hash` shows that there is no entry of it, as it does for nearly all
    /// that have none.
    #[inline]
    pub(crate) fn lacks(&self, hash: u64) -> bool {
        let bucket = &self.buckets[self.home(hash)];
        bucket.matches(Tag::of(hash).octet) | bucket.passed() == 0
    }

    /// The entry of `hash` that `is_match` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_match: impl FnMut(Place) -> bool) -> Option<Place> {
        let (home, tag) = (self.home(hash), Tag::of(hash));
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            for (_, place) in bucket.candidates(tag) {
                if is_match(place) {
                    return Some(place);
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.next(home, at);
            // In a small index, entries may have passed by every bucket.
            if at == home {
                return None;
            }
        }
    }

    /// Enters `place`. The caller never enters more than the index was made for.
    pub(crate) fn insert(&mut self, hash: u64, place: Place) {
        let (home, tag) = (self.home(hash), Tag::of(hash));
        let mut at = home;
        loop {
            let next = self.next(home, at);
            let bucket = &mut self.buckets[at];
            let vacant = bucket.matches(0);
            if vacant != 0 {
                let way = (vacant.trailing_zeros() as usize).min(WAYS - 1);
                bucket.head[way] = tag.octet;
                bucket.places[way] = tag.rest | place.0;
                return;
            }
            bucket.set_passed(bucket.passed() + 1);
            at = next;
        }
    }

    /// Takes out the entry of `hash` that is `place`; whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, place: Place) -> bool {
        let (home, tag) = (self.home(hash), Tag::of(hash));
        let mut at = home;
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.way_of(tag, place) {
                bucket.head[way] = 0;
                break;
            }
            if bucket.passed() == 0 {
                return false;
            }
            at = self.next(home, at);
            if at == home {
                return false;
            }
        }
        // It was counted where it passed.
        let mut passed = home;
        while passed != at {
            let bucket = &mut self.buckets[passed];
            bucket.set_passed(bucket.passed() - 1);
            passed = self.next(home, passed);
        }
        true
    }
}

const fn buckets(entries: usize) -> usize {
    (entries * 2 / FILL + 1).next_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn used(index: &Index) -> (usize, u32) {
        let tags = index
            .buckets
            .iter()
            .flat_map(|bucket| bucket.head.into_iter().take(WAYS));
        let passed = index.buckets.iter().map(Bucket::passed).sum();
        (tags.filter(|tag| *tag != 0).count(), passed)
    }

    proptest! {
        /// Few hashes, so that buckets overflow, often, into each other and round the end.
        #[test]
        fn every_entry_is_found_and_none_that_left(
            acts in prop::collection::vec((any::<bool>(), 0..80_u32, 0..24_u64), 0..600),
        ) {
            const CAPACITY: usize = 44;
            let mut index = Index::new(CAPACITY, false);
            let hash = |n: u64| ((n % 6) << 61) | (n % 2);
            let mut model = HashSet::new();
            for (enter, place, n) in acts {
                // A place has one hash at a time.
                let (place, hash) = (Place(place * 24 + u32::try_from(n).unwrap()), hash(n));
                if enter && model.len() < CAPACITY && model.insert((hash, place.0)) {
                    index.insert(hash, place);
                } else if !enter {
                    prop_assert_eq!(index.remove(hash, place), model.remove(&(hash, place.0)));
                }
                prop_assert_eq!(used(&index).0, model.len());
            }
            for n in 0..24 {
                let hash = hash(n);
                for place in (0..80).map(|place| Place(place * 24 + u32::try_from(n).unwrap())) {
                    let there = model.contains(&(hash, place.0));
                    prop_assert_eq!(index.find(hash, |p| p == place).is_some(), there);
                }
            }
            for (hash, place) in model {
                prop_assert!(index.remove(hash, Place(place)));
            }
            prop_assert_eq!(used(&index), (0, 0));
        }
    }

    #[test]
    fn what_is_not_there_is_not_sought_for_ever_when_every_bucket_was_passed() {
        let mut index = Index::new(16, false);
        assert_eq!(index.buckets.len(), 2);
        let hash = |home: u64, n: u32| home << 63 | u64::from(n % 3 + 1);
        let enter = |index: &mut Index, home, range: std::ops::Range<u32>| {
            for n in range {
                index.insert(hash(home, n), Place(n));
            }
        };
        enter(&mut index, 0, 0..16); // the last four lie in the other bucket
        for n in 0..12 {
            assert!(index.remove(hash(0, n), Place(n)));
        }
        enter(&mut index, 1, 16..28); // and so do the last four of these
        assert_eq!(used(&index), (16, 8));
        for home in [0, 1] {
            assert_eq!(index.find(hash(home, 0), |_| false), None);
            assert!(!index.remove(hash(home, 99), Place(99)));
        }
        for n in 12..28 {
            assert!(index.remove(hash(u64::from(n >= 16), n), Place(n)), "{n}");
        }
        assert_eq!(used(&index), (0, 0));
    }

    #[test]
    fn few_entries_of_a_full_index_are_away_from_home_and_churn_changes_nothing() {
        let entries = 100_000_u32;
        let mut index = Index::new(entries as usize, false);
        let mut state = 1u64;
        let mut hash = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            state ^ state >> 29
        };
        let mut live: std::collections::VecDeque<_> = (0..entries)
            .map(|n| {
                let hash = hash();
                index.insert(hash, Place(n));
                (hash, n)
            })
            .collect();
        let away = |index: &Index| f64::from(used(index).1) / f64::from(entries);
        let unprobed = |index: &Index, live: &std::collections::VecDeque<(u64, u32)>| {
            let missed = live
                .iter()
                .filter(|(hash, n)| index.probe(*hash) != Some(Place(*n)));
            f64::from(u32::try_from(missed.count()).unwrap()) / f64::from(entries)
        };
        let before = away(&index);
        for _ in 0..entries * 10 {
            let (old, n) = live.pop_front().unwrap();
            assert!(index.remove(old, Place(n)));
            let new = hash();
            index.insert(new, Place(n));
            live.push_back((new, n));
        }
        assert_eq!(used(&index).0, entries as usize);
        assert!(before < 0.05, "{before}");
        let missed = unprobed(&index, &live);
        assert!(missed < 0.05, "{missed}");
        // Half full, nearly all are at home.
        for (hash, n) in live.drain(..entries as usize / 2) {
            assert!(index.remove(hash, Place(n)));
        }
        let missed = unprobed(&index, &live);
        assert!(missed < 0.02, "{missed}");
    }
}
