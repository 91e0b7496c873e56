//! How flows end: in time, or to make room.

use net::Timestamp;

use super::lookup::beside;
use super::{RESERVE, Table};
use crate::deadlines::{Class, Deadlines};
use crate::event::EndReason;
use crate::flow::{Direction, FlowRef};
use crate::index::Place;
use crate::machine::prefetch;
use crate::state::State;

/// Flows that ended in insertions and are reported in one call, at most: more than a turn enters, but for
/// floods that several workers hand over at once. 30 µs.
const REPORTED: usize = 256;

/// Flows that are ended together, so that what they touch is fetched together.
const BATCH: usize = 16;

impl<D: Copy> Table<D> {
    /// Ends the flows whose time has come by `now`, and hands each to `ended`, once, together with
    /// those that ended in insertions before, at most 256 of them. Returns how many were handed over.
    ///
    /// At most `budget` flows are looked at, and 256 times as many timers; the rest waits for the next
    /// call, and so the work per call stays bounded when very many flows are due at once. No flow
    /// ends early, nor more than one tick (268 ms) late if this is called often enough to get round in
    /// that time and the budget suffices.
    ///
    /// The clock may jump. After a jump back, silence is counted from the jump on.
    pub fn expire(
        &mut self,
        now: Timestamp,
        budget: usize,
        ended: &mut impl FnMut(FlowRef<'_, D>, EndReason),
    ) -> usize {
        let mut count = 0;
        while count < REPORTED
            && let Some((slot, reason)) = self.ended.pop_front()
        {
            ended(self.flow(slot), reason);
            self.give_back(slot);
            count += 1;
        }
        self.deadlines.follow(now);
        let (mut budget, mut slots) = (budget, Deadlines::stride(budget));
        let mut room = [0; BATCH];
        while budget > 0 {
            let room = &mut room[..BATCH.min(budget)];
            let batch = self.deadlines.collect(now, room, &mut slots);
            if batch.is_empty() {
                break;
            }
            budget -= batch.len();
            count += self.expire_batch(now, batch, ended);
        }
        count
    }

    /// When [`expire`](Self::expire) has something to look at next: `now` if it has not come round yet;
    /// `None` as long as there is no flow. Who calls it then, and goes on while this says `now`, misses
    /// no deadline.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        if self.ended.is_empty() {
            self.deadlines.next_sweep(now)
        } else {
            Some(now)
        }
    }

    /// Looks at some flows that may be due, in passes, so that the memory they need comes together.
    fn expire_batch(
        &mut self,
        now: Timestamp,
        batch: &[u32],
        ended: &mut impl FnMut(FlowRef<'_, D>, EndReason),
    ) -> usize {
        for slot in batch {
            let at = *slot as usize;
            prefetch(&self.flows[at]);
            prefetch(self.flows[at].second_line());
            prefetch(&self.cold[at]);
        }
        let mut due = [(0, EndReason::Idle, [0; 2]); BATCH];
        let mut count = 0;
        for slot in batch {
            if let Some(reason) = self.due(*slot, now) {
                let hashes = self.hashes(*slot);
                for hash in hashes {
                    self.index.prefetch(hash);
                }
                due[count] = (*slot, reason, hashes);
                count += 1;
            }
        }
        for &(slot, reason, hashes) in &due[..count] {
            self.end_hashed(slot, reason, hashes);
            ended(self.flow(slot), reason);
            self.give_back(slot);
        }
        count
    }

    /// Whether the flow whose timer came up is due; if not, its timer is set anew.
    fn due(&mut self, slot: u32, now: Timestamp) -> Option<EndReason> {
        self.flows[slot as usize].rebase(now);
        let (state, deadline) = (self.flows[slot as usize].state(), self.deadline(slot));
        if deadline <= now {
            return Some(state.expiry());
        }
        self.deadlines.set(slot, Class::of(state), deadline, now);
        None
    }

    /// Makes room for one flow in a full table, if that may be.
    pub(super) fn make_room(&mut self, now: Timestamp) -> bool {
        if self.ended.len() >= RESERVE as usize {
            return false;
        }
        // Most timers that came up may be those of flows that live.
        for _ in 0..BATCH {
            let Some(slot) = self.deadlines.find_due(now) else {
                break;
            };
            if let Some(reason) = self.due(slot, now) {
                self.end(slot, reason);
                self.ended.push_back((slot, reason));
                return true;
            }
        }
        let evicted = self.deadlines.find_class(Class::Transient).or_else(|| {
            match self.deadlines.count(Class::Transient) {
                0 => self.deadlines.find_class(Class::HalfClosed),
                _ => None,
            }
        });
        let Some(slot) = evicted else {
            return false;
        };
        self.end(slot, EndReason::Evicted);
        self.ended.push_back((slot, EndReason::Evicted));
        true
    }

    /// The hashes of both tuples of a flow.
    #[inline(always)]
    fn hashes(&self, slot: u32) -> [u64; 2] {
        let flow = &self.flows[slot as usize];
        let shared = self.shared_of(flow);
        let hash = |direction| self.hasher.tuple(&flow.tuple(direction, shared));
        let (original, reply) = (hash(Direction::Original), hash(Direction::Reply));
        if flow.state() == State::Datagrams {
            return [beside(original, self.cold[slot as usize].renewed), reply];
        }
        [original, reply]
    }

    /// Takes a flow out of everything; its slot is not free yet.
    pub(super) fn end(&mut self, slot: u32, reason: EndReason) {
        self.end_hashed(slot, reason, self.hashes(slot));
    }

    fn end_hashed(&mut self, slot: u32, reason: EndReason, hashes: [u64; 2]) {
        for (hash, direction) in hashes
            .into_iter()
            .zip([Direction::Original, Direction::Reply])
        {
            let there = self.index.remove(hash, Place::new(slot, direction));
            debug_assert!(there, "both tuples of a flow are in the index");
        }
        let flow = &mut self.flows[slot as usize];
        flow.end();
        self.stats.states[flow.state() as usize] -= 1;
        self.deadlines.clear(slot);
        self.stats.ended[reason as usize] += 1;
        self.len -= 1;
    }
}
