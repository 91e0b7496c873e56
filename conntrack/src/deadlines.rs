//! When each slot is to be looked at: one word per slot, and above them the earliest of each 64.
//!
//! A word holds the tick at which its flow may be due, and what kind of flow it is. Nothing is
//! written when a packet postpones a deadline; when the tick has come the owner looks at the flow
//! itself and sets the word anew. So the word is a hint, and a packet never touches it.
//!
//! A block of 64 words has a bound that none of them is earlier than, and so have 64 blocks. Setting a
//! word lowers the bounds; raised they are when a sweep has been there. A sweep descends only where a
//! bound is due: of ten million flows that are all alive it reads 2,442 words per tick of a quarter second, and
//! what it reads beyond that is paid for by the words that were set: each brings it to its block
//! once. Timers that are linked to each other cost three times the memory and a cache miss for each
//! neighbour.
//!
//! Free slots are linked through the same words.

use std::collections::VecDeque;

use net::Timestamp;

use crate::memory::Pages;

/// One tick is 2^28 ns, about 268 ms.
const TICK_SHIFT: u32 = 28;
/// The furthest tick ahead that a word names: 1.1 years on. A later deadline is looked at then.
const HORIZON: u64 = 1 << 27;
/// Words looked at in one call for each flow that may be ended in it: 16 flows and 4,096 words are some
/// microseconds of work each.
const STRIDE: usize = 256;
/// Slots searched for one that is due, in vain, once per tick in a full table.
const SEARCH_DUE: usize = 65_536;
/// Slots searched for one that may give way, in one call: they are searched for every refused flow, so
/// whoever sends these must not get much work done for each.
const SEARCH_CLASS: usize = 2048;
/// How many of the slots entered last are remembered, and tried in one call.
const RECENT: usize = 4096;
const TRIES: usize = 16;
/// Words compared at once.
const LANES: usize = 16;
/// Words under one bound, and bounds under one of the next level.
const BLOCK: usize = 64;
/// Words under one bound of the upper level.
const REGION: usize = BLOCK * BLOCK;

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
    /// For each block, a word that none of a flow in it is earlier than; 0 where there are no flows.
    blocks: Pages<u32>,
    /// For each region, the same.
    regions: Pages<u32>,
    /// First of the slots that were in use and are free.
    free: u32,
    /// Where the sweep stands.
    at: usize,
    /// The sweep has just come to the end of a block with flows that were due.
    passed: bool,
    /// Where the search for a flow that gives way stands.
    hand: usize,
    /// Where the search for a flow that is due stands, in a full table.
    due_hand: usize,
    /// The slots entered last, oldest first: where hardly any flow may give way, it is one of these.
    recent: VecDeque<u32>,
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

/// Whether the word of a flow is before a bound, on the same circle.
#[inline]
const fn is_earlier(word: u32, bound: u32) -> bool {
    bound & CLASS == 0 || (word & !CLASS).wrapping_sub(bound & !CLASS).cast_signed() < 0
}

/// The bound of some words or bounds, as seen `from` a stamp.
fn earliest(words: &[u32], from: u32) -> u32 {
    let away = |word: &u32| match word & CLASS {
        0 => i32::MAX,
        _ => (word & !CLASS).wrapping_sub(from).cast_signed(),
    };
    // Without a branch, so that it becomes vector code.
    match words.iter().map(away).fold(i32::MAX, i32::min) {
        i32::MAX => 0,
        away => from.wrapping_add_signed(away) | CLASS,
    }
}

impl Deadlines {
    /// Octets that the words of `slots` slots take, with their bounds.
    pub(crate) const fn octets(slots: usize) -> usize {
        (slots + slots.div_ceil(BLOCK) + slots.div_ceil(REGION)) * size_of::<u32>()
    }

    /// For at most `slots` slots, below 2^30 - 1.
    pub(crate) fn new(slots: u32, hugetlb: bool) -> Self {
        Self {
            words: Pages::with_capacity(slots as usize, hugetlb),
            blocks: Pages::zeroed((slots as usize).div_ceil(BLOCK), hugetlb),
            regions: Pages::zeroed((slots as usize).div_ceil(REGION), hugetlb),
            free: NIL,
            at: 0,
            passed: false,
            hand: 0,
            due_hand: 0,
            recent: VecDeque::with_capacity(RECENT),
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
        let new = stamp(Self::due_tick(deadline, now)) | class as u32;
        *word = new;
        self.counts[class as usize] += 1;
        self.lower(slot as usize, new);
    }

    /// Lowers the bounds of a slot to its new word. What holds for a block holds for its region.
    #[inline]
    fn lower(&mut self, slot: usize, word: u32) {
        let block = &mut self.blocks[slot / BLOCK];
        if is_earlier(word, *block) {
            *block = word;
            let region = &mut self.regions[slot / REGION];
            if is_earlier(word, *region) {
                *region = word;
            }
        }
    }

    /// As [`set`](Self::set), for a slot just [taken](Self::take).
    pub(crate) fn enter(&mut self, slot: u32, class: Class, deadline: Timestamp, now: Timestamp) {
        let new = stamp(Self::due_tick(deadline, now)) | class as u32;
        self.words[slot as usize] = new;
        self.counts[class as usize] += 1;
        self.lower(slot as usize, new);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(slot);
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
            (self.sweep, self.at, self.passed) = (now, 0, false);
        }
    }

    /// Fills `into` with slots that may be due at `now`, and gives back those found; none mean that the
    /// sweep has come round, or as far as it may in one call: `left` counts down the words it may
    /// look at. Each slot that was found is to be [set](Self::set) anew or [cleared](Self::clear) before the
    /// next call.
    pub(crate) fn collect<'s>(
        &mut self,
        now: Timestamp,
        into: &'s mut [u32],
        left: &mut usize,
    ) -> &'s [u32] {
        let now = tick(now);
        if self.all {
            let found = self.collect_all(into, left);
            if found > 0 || self.all {
                return &into[..found];
            }
        }
        while *left > 0 {
            if self.passed {
                self.passed = false;
                self.raise(self.at.saturating_sub(1) / BLOCK);
            }
            if self.at >= self.words.len() {
                if self.sweep >= now {
                    break;
                }
                (self.sweep, self.at) = (now, 0);
            }
            let stamp = stamp(self.sweep);
            if self.at.is_multiple_of(BLOCK) {
                *left -= 1;
                if self.at.is_multiple_of(REGION) && !is_due(self.regions[self.at / REGION], stamp)
                {
                    self.at += REGION;
                    continue;
                }
                if !is_due(self.blocks[self.at / BLOCK], stamp) {
                    self.at += BLOCK;
                    self.raise_region(self.at - 1);
                    continue;
                }
            }
            let found = self.collect_block(stamp, into, left);
            if found > 0 {
                return &into[..found];
            }
        }
        &[]
    }

    /// The slots of the block in hand that may be due.
    #[inline]
    fn collect_block(&mut self, stamp: u32, into: &mut [u32], left: &mut usize) -> usize {
        let end = (self.at / BLOCK * BLOCK + BLOCK).min(self.words.len());
        *left = left.saturating_sub(end - self.at);
        let mut found = 0;
        while self.at < end && found < into.len() {
            let lanes = &self.words[self.at..end.min(self.at + LANES)];
            if !any_due(lanes, stamp) {
                self.at += lanes.len();
                continue;
            }
            for word in lanes {
                if found == into.len() {
                    break;
                }
                if is_due(*word, stamp) {
                    into[found] = u32::try_from(self.at).unwrap_or(NIL);
                    found += 1;
                }
                self.at += 1;
            }
        }
        // Its bound is raised when those that were found have been dealt with.
        self.passed = self.at == end;
        found
    }

    /// Raises the bound of a block that the sweep has passed to its earliest word.
    fn raise(&mut self, block: usize) {
        let from = stamp(self.sweep);
        let end = (block * BLOCK + BLOCK).min(self.words.len());
        self.blocks[block] = earliest(&self.words[block * BLOCK..end], from);
        self.raise_region(end - 1);
    }

    /// Raises the bound of the region that ends with the slot `last`, if one does.
    fn raise_region(&mut self, last: usize) {
        if !(last + 1).is_multiple_of(REGION) && last + 1 < self.words.len() {
            return;
        }
        let region = last / REGION;
        let end = ((region + 1) * BLOCK).min(self.blocks.len());
        let bounds = &self.blocks[region * BLOCK..end];
        self.regions[region] = earliest(bounds, stamp(self.sweep));
    }

    /// The next slots with a flow, due or not; whoever has gone round is through with all of them.
    fn collect_all(&mut self, into: &mut [u32], left: &mut usize) -> usize {
        let mut found = 0;
        while found < into.len() && *left > 0 {
            let Some(word) = self.words.get(self.at) else {
                // What was found is to be dealt with before it could be found again.
                self.all = found > 0;
                break;
            };
            if word & CLASS != 0 {
                into[found] = u32::try_from(self.at).unwrap_or(NIL);
                found += 1;
            }
            self.at += 1;
            *left -= 1;
        }
        found
    }

    /// When a sweep has something to look at next: at once while one is under way or due; `None` as
    /// long as there is no flow.
    pub(crate) fn next_sweep(&self, now: Timestamp) -> Option<Timestamp> {
        if self.counts == [0; 4] {
            None
        } else if self.at < self.words.len() || self.sweep < tick(now) {
            Some(now)
        } else {
            Some(Timestamp::from_nanos((self.sweep + 1) << TICK_SHIFT))
        }
    }

    /// How many words may be looked at where `budget` flows may be ended.
    pub(crate) const fn stride(budget: usize) -> usize {
        budget.saturating_mul(STRIDE)
    }

    /// A slot whose flow may be due at `now`, for a full table; going round. After a search in vain
    /// there is none before the next tick.
    pub(crate) fn find_due(&mut self, now: Timestamp) -> Option<u32> {
        let now = tick(now);
        if self.searched == now {
            return None;
        }
        let stamp = stamp(now);
        match self.search(self.due_hand, SEARCH_DUE, |word| is_due(word, stamp)) {
            Ok(slot) => {
                self.due_hand = slot as usize + 1;
                Some(slot)
            }
            Err(hand) => {
                (self.due_hand, self.searched) = (hand, now);
                None
            }
        }
    }

    /// A slot of `class`, going round: so the flow that is found has been there longest, or nearly.
    /// Gives up after a bounded number of slots, and goes on there the next time; but a transient flow
    /// among those entered last is found in any case, if slowly.
    pub(crate) fn find_class(&mut self, class: Class) -> Option<u32> {
        if self.count(class) == 0 {
            return None;
        }
        let wanted = |word: u32| word & CLASS == class as u32;
        match self.search(self.hand, SEARCH_CLASS, wanted) {
            Ok(slot) => {
                self.hand = slot as usize + 1;
                return Some(slot);
            }
            Err(hand) => self.hand = hand,
        }
        if class != Class::Transient {
            return None;
        }
        for _ in 0..TRIES {
            let slot = self.recent.pop_front()?;
            if wanted(self.words[slot as usize]) {
                return Some(slot);
            }
        }
        None
    }

    /// The next of `slots` slots from `hand` on that is wanted, or where the search gave up.
    fn search(
        &self,
        mut hand: usize,
        slots: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<u32, usize> {
        let mut left = self.words.len().min(slots);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tick: u64) -> Timestamp {
        Timestamp::from_nanos(tick << TICK_SHIFT)
    }

    /// `slots` flows of `class`, due at `due`.
    fn filled(slots: u32, class: Class, due: u64, now: u64) -> Deadlines {
        let mut deadlines = Deadlines::new(slots, false);
        for _ in 0..slots {
            let (slot, _) = deadlines.take().unwrap();
            deadlines.enter(slot, class, at(due), at(now));
        }
        deadlines
    }

    /// Slots found in `calls` calls that each may find eight, a tick apart from `now` on.
    fn sweep(deadlines: &mut Deadlines, calls: u64, now: u64) -> Vec<u32> {
        let mut found = Vec::new();
        for n in now..now + calls {
            deadlines.follow(at(n));
            found.extend_from_slice(deadlines.collect(at(n), &mut [0; 8], &mut 1000));
        }
        found
    }

    #[test]
    fn after_a_step_back_each_flow_is_looked_at_once_though_a_sweep_takes_many_ticks() {
        let mut deadlines = filled(100, Class::Kept, 5000, 1000);
        assert_eq!(sweep(&mut deadlines, 3, 1000), []);
        assert_eq!(
            sweep(&mut deadlines, 100, 500),
            (0..100).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_sweep_of_a_million_flows_that_live_reads_one_word_in_4096() {
        let slots = 1_000_000;
        let mut deadlines = filled(slots, Class::Kept, 5000, 1000);
        let _ = sweep(&mut deadlines, 1, 1000);
        for now in 1001..1011 {
            deadlines.follow(at(now));
            let mut left = usize::MAX;
            let found = deadlines.collect(at(now), &mut [0; 16], &mut left).len();
            let read = usize::MAX - left;
            assert_eq!((found, read), (0, (slots as usize).div_ceil(REGION)));
        }
        // One that is due costs its block and its region, and then raises their bounds.
        let (mut read, mut found) = ([0; 2], 0);
        deadlines.set(777_777, Class::Kept, at(1020), at(1011));
        for read in &mut read {
            deadlines.follow(at(1020));
            deadlines.sweep = 1019;
            let mut left = usize::MAX;
            loop {
                let mut room = [0; 16];
                let slots = deadlines.collect(at(1020), &mut room, &mut left);
                if slots.is_empty() {
                    break;
                }
                assert_eq!(slots, [777_777]);
                found += 1;
                deadlines.set(777_777, Class::Kept, at(5000), at(1020));
            }
            *read = usize::MAX - left;
            deadlines.at = usize::MAX;
        }
        assert_eq!(found, 1);
        assert!(read[0] < 245 + 64 + 2 * 64 + 2, "{read:?}");
        assert_eq!(read[1], 245);
    }

    #[test]
    fn ticks_that_wrap_round_are_neither_early_nor_missed() {
        const ROUND: u64 = 1 << 30;
        for now in [ROUND / 2 - 2, ROUND - 2, ROUND, 5 * ROUND - 1, 1 << 35] {
            let mut deadlines = filled(8, Class::Kept, now + 3, now);
            let _ = sweep(&mut deadlines, 1, now); // the first call may look at all
            assert_eq!(sweep(&mut deadlines, 2, now + 1), []);
            assert_eq!(sweep(&mut deadlines, 1, now + 3).len(), 8, "{now}");
        }
    }

    #[test]
    fn hints_out_of_date_are_passed_by_once_in_a_full_table() {
        let slots = 3 * u32::try_from(SEARCH_DUE).unwrap();
        let mut deadlines = filled(slots, Class::Kept, 10, 1);
        let mut found = Vec::new();
        while let Some(slot) = deadlines.find_due(at(20)) {
            // It is alive, as its owner finds out.
            deadlines.set(slot, Class::Kept, at(100), at(20));
            found.push(slot);
        }
        assert_eq!(found, (0..slots).collect::<Vec<_>>());
    }

    #[test]
    fn a_flow_entered_late_gives_way_though_it_is_one_among_many() {
        let slots = 100 * u32::try_from(SEARCH_CLASS).unwrap();
        let mut deadlines = filled(slots, Class::Kept, 1000, 1);
        for slot in [77_777, 5, 160_001] {
            deadlines.clear(slot);
            deadlines.enter(slot, Class::Transient, at(1000), at(2));
        }
        let mut evicted = Vec::new();
        for _ in 0..2 * RECENT / TRIES {
            if let Some(slot) = deadlines.find_class(Class::Transient) {
                deadlines.set(slot, Class::Kept, at(1000), at(2));
                evicted.push(slot);
            }
        }
        evicted.sort_unstable();
        assert_eq!(evicted, [5, 77_777, 160_001]);
    }
}
