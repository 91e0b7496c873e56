//! How many connections each client has to each virtual server that limits them.
//!
//! A word for each client that has any: 40 bits of a keyed hash that stand for it, and the count. A client has two
//! buckets of sixteen words to be in. A word whose count is zero is free. There are more words
//! than there may be flows, so a bucket is full only if the table nearly is; then a new client is refused rather than
//! not counted, for counts must stay right.

use super::shared::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use super::shared::{AtomicU64, LEAST, TRIES, WAYS, fence, zeroes};

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

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
        Self {
            words: zeroes(Self::words(flows)),
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
            let words = bucket.iter().map(|word| (word, word.load(Acquire)));
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
            .map(|word| (word, word.load(Acquire)))
            .find(|(_, seen)| seen & !COUNT == tag && seen & COUNT != 0)
    }

    /// Counts one connection more, if that is within `limit`.
    ///
    /// Two workers that meet a new client at the same instant may each take a word for it. So whoever has
    /// counted looks at all words of the client once more, and takes back what is one too many: of those that
    /// are at it at once, the later sees what the earlier has counted.
    pub(super) fn enter(&self, hash: u64, limit: u32) -> Entered {
        let limit = u64::from(limit).min(COUNT);
        // Two that see each other take back both, and try again; they hardly meet twice.
        for _ in 0..TRIES {
            match self.count_up(hash, limit) {
                Some(Entered::Counted) if self.sum(hash) > limit => self.leave(hash),
                Some(entered) => return entered,
                None => {}
            }
        }
        Entered::OverLimit
    }

    /// Adds one to the count, unless it is `limit` by then; `None` if another worker was faster.
    fn count_up(&self, hash: u64, limit: u64) -> Option<Entered> {
        let tag = Self::tag(hash);
        if self.sum(hash) >= limit {
            return Some(Entered::OverLimit);
        }
        let (word, seen, new) = if let Some((word, seen)) = Self::find(self.places(hash), tag) {
            (word, seen, seen + 1)
        } else {
            let Some((word, seen)) = self.vacant(hash) else {
                return Some(Entered::Full);
            };
            (word, seen, tag | 1)
        };
        let counted = word.compare_exchange(seen, new, AcqRel, Relaxed).is_ok();
        // What is counted is seen by whoever counts later, and looks behind this fence.
        fence(SeqCst);
        counted.then_some(Entered::Counted)
    }

    /// What all words of a client hold.
    fn sum(&self, hash: u64) -> u64 {
        let tag = Self::tag(hash);
        self.places(hash)
            .map(|word| word.load(Acquire))
            .filter(|word| word & !COUNT == tag)
            .map(|word| word & COUNT)
            .sum()
    }

    /// Counts one connection fewer of a client that had one counted.
    pub(super) fn leave(&self, hash: u64) {
        let tag = Self::tag(hash);
        // Where there are two words, others may take from the one meanwhile and add to the other, which was
        // looked at before: but somewhere there is one.
        let mut missed = 0;
        while missed < TRIES {
            let Some((word, seen)) = Self::find(self.places(hash), tag) else {
                missed += 1;
                continue;
            };
            if word
                .compare_exchange(seen, seen - 1, AcqRel, Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }

    pub(super) fn of(&self, hash: u64) -> u32 {
        u32::try_from(self.sum(hash)).unwrap_or(u32::MAX)
    }
}
