//! How many connections each client has to each virtual server that limits them.
//!
//! A word for each client that has any: 40 bits of a keyed hash that stand for it, and the count. A client has two
//! buckets of sixteen words to be in. A word whose count is zero is free. There are more words
//! than there may be flows, so a bucket is full only if the table nearly is; then a new client is refused rather than
//! not counted, for counts must stay right.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zerocopy::FromZeros;

const WAYS: usize = 16;
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// Clients there is room for at least.
const LEAST: usize = 1 << 12;

/// Whether a connection may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is counted.
    Counted,
    /// The client has as many as it may have.
    OverLimit,
    /// There is no room to count another client.
    Full,
}

#[derive(Debug)]
pub(super) struct Clients {
    words: Box<[AtomicU64]>,
}

impl Clients {
    /// For as many clients as there may be flows.
    pub(super) fn new(flows: usize) -> Self {
        let words = Self::words(flows);
        // Zero pages, none of which is there before it is touched.
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(words);
        Self {
            words: words.unwrap_or_default(),
        }
    }

    const fn words(flows: usize) -> usize {
        let flows = if flows < LEAST { LEAST } else { flows };
        flows.saturating_add(flows / 2).next_multiple_of(WAYS)
    }

    pub(super) const fn octets(flows: usize) -> usize {
        Self::words(flows) * size_of::<AtomicU64>()
    }

    /// The two buckets that a client may be in.
    fn buckets(&self, hash: u64) -> [&[AtomicU64]; 2] {
        let buckets = (self.words.len() / WAYS) as u64;
        [hash, hash << 32].map(|hash| {
            let at = usize::try_from(((hash >> 32) * buckets) >> 32).unwrap_or(0) * WAYS;
            self.words.get(at..at + WAYS).unwrap_or(&[])
        })
    }

    /// The words in them.
    fn places(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> + Clone {
        let [first, second] = self.buckets(hash);
        first.iter().chain(second)
    }

    /// A free word for a new client: of the bucket that has more of them, so that both fill up alike.
    fn vacant(&self, hash: u64) -> Option<(&AtomicU64, u64)> {
        let [first, second] = self.buckets(hash).map(|bucket| {
            let words = bucket.iter().map(|word| (word, word.load(Relaxed)));
            let free = words.filter(|(_, seen)| seen & COUNT == 0);
            (free.clone().count(), { free }.next())
        });
        if second.0 > first.0 {
            second.1
        } else {
            first.1
        }
    }

    const fn tag(hash: u64) -> u64 {
        hash << COUNT_BITS
    }

    /// The word of a client that has connections.
    fn find<'w>(
        mut places: impl Iterator<Item = &'w AtomicU64>,
        tag: u64,
    ) -> Option<(&'w AtomicU64, u64)> {
        places
            .by_ref()
            .map(|word| (word, word.load(Relaxed)))
            .find(|(_, seen)| seen & !COUNT == tag && seen & COUNT != 0)
    }

    pub(super) fn enter(&self, hash: u64, limit: u32) -> Entered {
        let (places, tag) = (self.places(hash), Self::tag(hash));
        let limit = u64::from(limit).min(COUNT);
        loop {
            let (word, seen, new) = if let Some((word, seen)) = Self::find(places.clone(), tag) {
                if seen & COUNT >= limit {
                    return Entered::OverLimit;
                }
                (word, seen, seen + 1)
            } else {
                if limit == 0 {
                    return Entered::OverLimit;
                }
                let Some((word, seen)) = self.vacant(hash) else {
                    return Entered::Full;
                };
                (word, seen, tag | 1)
            };
            // Another worker may have been faster.
            if word.compare_exchange(seen, new, Relaxed, Relaxed).is_ok() {
                return Entered::Counted;
            }
        }
    }

    pub(super) fn leave(&self, hash: u64) {
        let (places, tag) = (self.places(hash), Self::tag(hash));
        while let Some((word, seen)) = Self::find(places.clone(), tag) {
            if word
                .compare_exchange(seen, seen - 1, Relaxed, Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }

    pub(super) fn of(&self, hash: u64) -> u32 {
        let found = Self::find(self.places(hash), Self::tag(hash));
        found.map_or(0, |(_, seen)| {
            u32::try_from(seen & COUNT).unwrap_or(u32::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Spreads small numbers over all bits (SplitMix64's last step).
    fn mixed(n: u64) -> u64 {
        let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(acts in prop::collection::vec((0..40_u64, any::<bool>()), 0..2000)) {
            const LIMIT: u32 = 5;
            let clients = Clients::new(0);
            let mut model = HashMap::<u64, u32>::new();
            for (client, enters) in acts {
                let (hash, count) = (mixed(client + 1), model.entry(client).or_default());
                if enters {
                    let entered = clients.enter(hash, LIMIT);
                    prop_assert_eq!(entered == Entered::Counted, *count < LIMIT);
                    *count += u32::from(*count < LIMIT);
                } else if *count > 0 {
                    clients.leave(hash);
                    *count -= 1;
                }
                prop_assert_eq!(clients.of(hash), *count);
            }
            for (client, count) in model {
                for _ in 0..count {
                    clients.leave(mixed(client + 1));
                }
            }
            prop_assert!(clients.words.iter().all(|word| word.load(Relaxed) & COUNT == 0));
        }
    }

    #[test]
    fn as_many_clients_as_there_may_be_flows_are_counted() {
        let flows = 200_000;
        let clients = Clients::new(flows);
        let all = (0..flows as u64).map(mixed);
        let refused = all
            .clone()
            .filter(|hash| clients.enter(*hash, 1) != Entered::Counted)
            .count();
        // Two thirds full.
        assert!(refused < flows / 10_000, "{refused}");
        assert!(
            all.clone()
                .all(|hash| clients.enter(hash, 1) != Entered::Counted)
        );
        assert!(Clients::octets(flows) <= flows * 12 + 128);
    }

    #[test]
    fn workers_that_count_at_once_lose_nothing_and_hold_the_limit() {
        let clients = Arc::new(Clients::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let clients = Arc::clone(&clients);
                std::thread::spawn(move || {
                    let mut counted = 0;
                    for n in 0..20_000_u64 {
                        let hash = mixed(n % 3 + 1);
                        if clients.enter(hash, 1000) == Entered::Counted {
                            counted += 1;
                            if n % 2 == 0 {
                                clients.leave(hash);
                                counted -= 1;
                            }
                        }
                    }
                    counted
                })
            })
            .collect();
        let counted: u32 = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        let held: u32 = (0..3).map(|n| clients.of(mixed(n + 1))).sum();
        assert_eq!((counted, held), (3000, 3000));
    }
}
