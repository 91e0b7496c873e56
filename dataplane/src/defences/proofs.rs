//! Addresses whose owners have answered a question: 65,536 of them, for some minutes.
//!
//! A word for each: 40 bits of a keyed hash that stand for the address, and when it answered. In a bucket of
//! eight, whoever answered longest ago gives way. Only who receives what is sent to an address gets it in here,
//! so a flood of forged addresses displaces nobody.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use net::Timestamp;
use zerocopy::FromZeros;

const WORDS: usize = 1 << 16;
const WAYS: usize = 8;
/// Seconds (of 2^30 ns) are kept modulo 2^24, which is 208 days.
const TIME: u64 = (1 << 24) - 1;
/// How long an answer is good for: five minutes and a bit.
const GOOD_FOR: u64 = 300;

#[derive(Debug)]
pub(super) struct Proofs {
    words: Box<[AtomicU64]>,
}

const fn time(now: Timestamp) -> u64 {
    // Zero would be a free word's.
    (now.as_nanos() >> 30 & TIME) | 1
}

impl Proofs {
    pub(super) fn new() -> Self {
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(WORDS);
        Self {
            words: words.unwrap_or_default(),
        }
    }

    fn bucket(&self, hash: u64) -> &[AtomicU64] {
        let buckets = (self.words.len() / WAYS) as u64;
        let at = usize::try_from(((hash >> 32) * buckets) >> 32).unwrap_or(0) * WAYS;
        self.words.get(at..at + WAYS).unwrap_or(&[])
    }

    /// How long ago a word was written.
    const fn age(word: u64, now: u64) -> u64 {
        if word == 0 {
            return u64::MAX;
        }
        now.wrapping_sub(word & TIME) & TIME
    }

    pub(super) fn knows(&self, hash: u64, now: Timestamp) -> bool {
        let (tag, now) = (hash << 24, time(now));
        self.bucket(hash).iter().any(|word| {
            let word = word.load(Relaxed);
            word & !TIME == tag && Self::age(word, now) <= GOOD_FOR
        })
    }

    pub(super) fn remember(&self, hash: u64, now: Timestamp) {
        let (tag, now) = (hash << 24, time(now));
        let bucket = self.bucket(hash);
        let known = bucket.iter().find(|word| word.load(Relaxed) & !TIME == tag);
        let oldest = || {
            bucket
                .iter()
                .max_by_key(|word| Self::age(word.load(Relaxed), now))
        };
        // Should two workers choose the same word, one of the two is asked again.
        if let Some(word) = known.or_else(oldest) {
            word.store(tag | now, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds << 30)
    }

    #[test]
    fn an_answer_is_good_for_five_minutes_and_may_be_given_again() {
        for epoch in [0, 12_345, TIME - 5, 1 << 33] {
            let proofs = Proofs::new();
            assert!(!proofs.knows(7, at(epoch)));
            proofs.remember(7, at(epoch));
            assert!(proofs.knows(7, at(epoch)) && proofs.knows(7, at(epoch + 299)));
            assert!(!proofs.knows(7, at(epoch + 302)) && !proofs.knows(8, at(epoch)));
            proofs.remember(7, at(epoch + 400));
            assert!(proofs.knows(7, at(epoch + 500)));
        }
    }

    #[test]
    fn whoever_answered_longest_ago_gives_way() {
        let proofs = Proofs::new();
        for n in 0..10 {
            proofs.remember(n, at(2 * n));
        }
        let known: Vec<u64> = (0..10).filter(|n| proofs.knows(*n, at(20))).collect();
        assert_eq!(known, (2..10).collect::<Vec<_>>());
    }
}
