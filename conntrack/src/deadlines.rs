//! When each slot is to be looked at: one word per slot, swept once a tick.
//!
//! A word holds the tick at which its flow may be due, and what kind of flow it is. Nothing is
//! written when a packet postpones a deadline; when the tick has come the owner looks at the flow
//! itself and sets the word anew. So the word is a hint, and a packet never touches it. A sweep reads
//! four octets per slot in order, sixteen at a time: ten million flows are 40 MB per tick of a
//! quarter second, which costs a hundredth of a core, while timers that are linked to each other cost
//! three times the memory and a cache miss for each neighbour.
//!
//! Free slots are linked through the same words.

use net::Timestamp;

use crate::memory::Pages;

/// One tick is 2^28 ns, about 268 ms.
const TICK_SHIFT: u32 = 28;
/// The furthest tick ahead that a word names: 1.1 years on. A later deadline is looked at then.
const HORIZON: u64 = 1 << 27;
/// Slots looked at in one call for each flow that may be ended in it: 64 flows and 16,384 slots are
/// a few microseconds of work each.
const STRIDE: usize = 256;
/// Slots searched for one that may give way, in one call.
const SEARCH: usize = 65_536;
/// Words compared at once.
const LANES: usize = 16;

/// What kind of flow a slot holds. The discriminant is the lowest two bits of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Opening, unanswered or over: gives way first.
    Transient = 1,
    /// Half-closed: gives way if nothing else does.
    HalfClosed = 2,
    /// Established: never gives way.
    Kept = 3,
}

/// No slot.
const NIL: u32 = u32::MAX >> 2;
const CLASS: u32 = 3;

/// The words of all slots.
#[derive(Debug)]
pub(crate) struct Deadlines {
    words: Pages<u32>,
    /// First of the slots that were in use and are free.
    free: u32,
    /// Where the sweep stands.
    at: usize,
    /// Where the search for a flow that gives way stands.
    hand: usize,
    /// Flows per class, by discriminant.
    counts: [u32; 4],
    /// The tick of the sweep under way, or of the last one.
    sweep: u64,
    /// The sweep under way looks at every flow: the clock went back.
    all: bool,
    /// The tick in which a full table was last searched for flows that are due.
    searched: u64,
}

const fn tick(now: Timestamp) -> u64 {
    now.as_nanos() >> TICK_SHIFT
}

/// A tick as it stands in a word: above the class, modulo 2^30.
#[expect(clippy::cast_possible_truncation, reason = "modulo is meant")]
const fn stamp(tick: u64) -> u32 {
    (tick << 2) as u32
}

/// Whether the word of a flow is due at `now`, a stamp: ticks are compared on a circle.
#[inline]
const fn is_due(word: u32, now: u32) -> bool {
    word & CLASS != 0 && now.wrapping_sub(word & !CLASS).cast_signed() >= 0
}

impl Deadlines {
    /// For at most `slots` slots, below 2^30 - 1.
    pub(crate) fn new(slots: u32, hugetlb: bool) -> Self {
        Self {
            words: Pages::with_capacity(slots as usize, hugetlb),
            free: NIL,
            at: 0,
            hand: 0,
            counts: [0; 4],
            sweep: 0,
            all: false,
            searched: u64::MAX,
        }
    }

    /// A free slot, and whether it was in use before; `None` if there is none.
    pub(crate) fn take(&mut self) -> Option<(u32, bool)> {
        if self.free == NIL {
            let slot = u32::try_from(self.words.len()).ok()?;
            return self.words.push(0).then_some((slot, false));
        }
        let slot = self.free;
        self.free = self.words[slot as usize] >> 2;
        self.words[slot as usize] = 0;
        Some((slot, true))
    }

    /// Gives back a slot without a flow.
    pub(crate) fn give_back(&mut self, slot: u32) {
        debug_assert_eq!(self.words[slot as usize] & CLASS, 0);
        self.words[slot as usize] = self.free << 2;
        self.free = slot;
    }

    /// Whether the slot holds a flow.
    pub(crate) fn is_used(&self, slot: usize) -> bool {
        self.words.get(slot).is_some_and(|word| word & CLASS != 0)
    }

    /// Flows of a class.
    pub(crate) fn count(&self, class: Class) -> u32 {
        self.counts[class as usize]
    }

    /// The first tick not before `deadline`, as far as words reach.
    fn due_tick(deadline: Timestamp, now: Timestamp) -> u64 {
        let up = deadline.as_nanos().div_ceil(1 << TICK_SHIFT);
        up.clamp(tick(now), tick(now) + HORIZON)
    }

    /// Sets a slot's class and deadline.
    pub(crate) fn set(&mut self, slot: u32, class: Class, deadline: Timestamp, now: Timestamp) {
        let word = &mut self.words[slot as usize];
        self.counts[(*word & CLASS) as usize] -= u32::from(*word & CLASS != 0);
        *word = stamp(Self::due_tick(deadline, now)) | class as u32;
        self.counts[class as usize] += 1;
    }

    /// As [`set`](Self::set), but keeps an earlier deadline: a hint that is looked at too early does no
    /// harm, and a far away one need not be moved for every packet.
    pub(crate) fn advance(&mut self, slot: u32, class: Class, deadline: Timestamp, now: Timestamp) {
        let word = self.words[slot as usize] & !CLASS;
        let new = stamp(Self::due_tick(deadline, now));
        let later = new.wrapping_sub(word).cast_signed() >= 0;
        self.set(slot, class, deadline, now);
        if later {
            self.words[slot as usize] = word | class as u32;
        }
    }

    /// Takes a slot's flow off.
    pub(crate) fn clear(&mut self, slot: u32) {
        let word = &mut self.words[slot as usize];
        self.counts[(*word & CLASS) as usize] -= u32::from(*word & CLASS != 0);
        *word = 0;
    }

    /// Notes the time, before a sweep goes on. Every flow is looked at once after the clock went back.
    pub(crate) fn follow(&mut self, now: Timestamp) {
        let now = tick(now);
        // A clock that trembles by a tick does no harm.
        if now + 1 < self.sweep || now > self.sweep + HORIZON {
            self.all |= self.counts != [0; 4];
            (self.sweep, self.at) = (now, 0);
        }
    }

    /// Fills `into` with slots that may be due at `now`, and gives back those found; none mean that the
    /// sweep has come round, or as far as it may in one call: `left` counts down the slots it may
    /// look at.
    pub(crate) fn collect<'s>(
        &mut self,
        now: Timestamp,
        into: &'s mut [u32],
        left: &mut usize,
    ) -> &'s [u32] {
        let now = tick(now);
        let mut found = 0;
        while found < into.len() && *left > 0 {
            if self.at >= self.words.len() {
                // What was found is to be dealt with before it could be found again.
                if found > 0 {
                    break;
                }
                if self.sweep >= now {
                    self.all = false;
                    break;
                }
                (self.sweep, self.at) = (now, 0);
            }
            let stamp = stamp(self.sweep);
            let to = (self.at + (*left).min(LANES)).min(self.words.len());
            let lanes = &self.words[self.at..to];
            if !any_due(lanes, stamp) && !self.all {
                *left -= to - self.at;
                self.at = to;
                continue;
            }
            for word in lanes {
                if found == into.len() {
                    break;
                }
                if is_due(*word, stamp) || (self.all && word & CLASS != 0) {
                    into[found] = u32::try_from(self.at).unwrap_or(NIL);
                    found += 1;
                }
                self.at += 1;
                *left = left.saturating_sub(1);
            }
        }
        &into[..found]
    }

    /// How many slots may be looked at where `budget` flows may be ended.
    pub(crate) const fn stride(budget: usize) -> usize {
        budget.saturating_mul(STRIDE)
    }

    /// A slot whose flow may be due at `now`, for a full table. Searched for once per tick at most
    /// unless something was found.
    pub(crate) fn find_due(&mut self, now: Timestamp) -> Option<u32> {
        let now = tick(now);
        if self.searched == now {
            return None;
        }
        let stamp = stamp(now);
        let found = self.search(self.at, |word| is_due(word, stamp)).ok();
        if found.is_none() {
            self.searched = now;
        }
        found
    }

    /// A slot of `class`, going round: so the flow that is found has been there longest, or nearly.
    /// Gives up after a bounded number of slots, and goes on there the next time.
    pub(crate) fn find_class(&mut self, class: Class) -> Option<u32> {
        if self.count(class) == 0 {
            return None;
        }
        match self.search(self.hand, |word| word & CLASS == class as u32) {
            Ok(slot) => {
                self.hand = slot as usize + 1;
                Some(slot)
            }
            Err(hand) => {
                self.hand = hand;
                None
            }
        }
    }

    /// The next slot from `hand` on that is wanted, or where the search gave up.
    fn search(&self, mut hand: usize, wanted: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mut left = self.words.len().min(SEARCH);
        while left > 0 {
            if hand >= self.words.len() {
                hand = 0;
            }
            let to = (hand + left.min(LANES)).min(self.words.len());
            let lanes = &self.words[hand..to];
            left -= lanes.len();
            // All of them without a branch, so that it becomes vector code.
            if lanes.iter().fold(false, |any, word| any | wanted(*word)) {
                let at = hand + lanes.iter().position(|word| wanted(*word)).unwrap_or(0);
                return u32::try_from(at).map_err(|_| hand);
            }
            hand = to;
        }
        Err(hand)
    }
}

#[inline]
fn any_due(lanes: &[u32], now: u32) -> bool {
    lanes
        .iter()
        .fold(false, |any, word| any | is_due(*word, now))
}
