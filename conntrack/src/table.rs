//! The flow table of one worker.

mod ending;
mod lookup;

pub use lookup::{Hashed, Hit, Probe};

use std::collections::VecDeque;

use net::{FlowKey, Timestamp, Tuple};
use thiserror::Error;

use crate::deadlines::{Class, Deadlines};
use crate::event::EndReason;
use crate::flow::{Cold, Direction, Flow, FlowId, FlowRef};
use crate::hash::Hasher;
use crate::index::{Index, MAX_SLOTS, Place};
use crate::memory::Pages;
use crate::shared::{Shared, Shares};
use crate::state::{Invalid, Observed, Segment, State};
use crate::stats::Stats;
use crate::tcp::TcpSegment;
use crate::timeouts::{Classes, Timeouts, TimeoutsId};

/// Flows that may end inside [`Table::insert`] between two calls of [`Table::expire`].
const RESERVE: u32 = 4096;

/// The most flows one table holds: 2^26 less those that may wait to be reported.
pub const MAX_CAPACITY: u32 = MAX_SLOTS - RESERVE;

/// How to make a table.
#[derive(Debug, Clone, Copy)]
pub struct TableConfig {
    /// Flows it holds, 1 to [`MAX_CAPACITY`]; values outside are brought inside.
    pub capacity: usize,
    /// Keys the hash: draw it at random at every start, so that nobody can choose tuples that
    /// collide.
    pub seed: u64,
    /// Whether to take memory from the kernel's pool of huge pages where it suffices. Otherwise the
    /// kernel is asked for transparent huge pages.
    pub hugetlb: bool,
}

/// A flow to be entered.
#[derive(Debug, Clone, Copy)]
pub struct NewFlow<D> {
    /// The key of packets in the original direction, as they arrive.
    pub original: FlowKey,
    /// The key of packets that come back, as they arrive. Without translation it is
    /// `original.inverted()`. Of the same family.
    pub reply: FlowKey,
    /// How long it may stay silent.
    pub timeouts: Timeouts,
    /// The caller's data.
    pub data: D,
}

/// Why a flow was not entered. Nothing was changed, except that flows may have been evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum InsertError {
    /// No room, and no flow that may be evicted (or too many were since the last
    /// [`Table::expire`]).
    #[error("the flow table is full")]
    Full,
    /// One of the tuples is taken, or the two are the same, or of two families.
    #[error("a flow with one of the tuples exists")]
    Collision,
}

/// Where a dump goes on, see [`Table::iter_from`]. The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(u32);

/// The flow table of one worker, with `D` as the caller's data in each flow.
///
/// Every operation costs the same whatever the number of flows. Address space is reserved by
/// [`new`](Self::new), and memory is taken as flows come: per flow 128 octets (with at most 32 of
/// data), 15 of index, 12 of what is seldom needed and 4 of timer, 160 in all. IPv6 flows share the
/// addresses that are not the client's: each different set of these (virtual server, member, and the
/// address the member is spoken to from) takes 64 more.
///
/// # A burst
///
/// Memory is slow to answer, but answers many questions at once. So a burst of packets is looked up
/// in passes: [`hash_v4`](Self::hash_v4) and [`prefetch`](Self::prefetch) for all, then
/// [`probe`](Self::probe) for all, then [`confirm_v4`](Self::confirm_v4) and
/// [`Flow::passes`] for each.
///
/// # When it is full
///
/// An insertion then first ends a flow that is due. If none is found, one gives way that is not
/// established: one that is opening, unreplied, in time-wait or reset; if there is none, a
/// half-closed one. The table is searched in turn, so it is the one that has been there longest, or
/// nearly. Each insertion searches a part only: where very few of many flows may give way, those
/// entered last go first, or the insertion is refused and the next goes on searching. Established and
/// replied flows never give way, and with only these the insertion is refused. So a flood of SYNs displaces only its like. Flows that ended this way are reported by
/// the next calls of [`expire`](Self::expire), 256 by each; up to 4096 may wait for that, then insertions are
/// refused until it is called.
pub struct Table<D> {
    hasher: Hasher,
    index: Index,
    /// Grow up to their reserved size as slots are used for the first time.
    flows: Pages<Flow<D>>,
    cold: Pages<Cold>,
    /// Addresses of IPv6 flows.
    shares: Shares,
    deadlines: Deadlines,
    timeouts: Classes,
    /// Ended, but not yet reported; in neither the index nor the deadlines.
    ended: VecDeque<(u32, EndReason)>,
    capacity: u32,
    len: u32,
    stats: Stats,
}

impl Class {
    const fn of(state: State) -> Self {
        match state {
            State::Established | State::Replied => Self::Kept,
            State::FinWait
            | State::CloseWait
            | State::LastAck
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent => Self::HalfClosed,
            State::SynSent
            | State::SynReceived
            | State::TimeWait
            | State::Closed
            | State::Unreplied
            | State::Datagrams
            | State::CookieWait
            | State::CookieEchoed
            | State::ShutdownComplete => Self::Transient,
        }
    }
}

impl<D: Copy> Table<D> {
    /// An empty table; reserves all the address space it will ever use.
    pub fn new(config: TableConfig) -> Self {
        let capacity = clamp(config.capacity);
        let slots = capacity + RESERVE;
        Self {
            hasher: Hasher::new(config.seed),
            index: Index::new(capacity as usize * 2, config.hugetlb),
            flows: Pages::with_capacity(slots as usize, config.hugetlb),
            cold: Pages::with_capacity(slots as usize, config.hugetlb),
            shares: Shares::new(slots as usize),
            deadlines: Deadlines::new(slots, config.hugetlb),
            timeouts: Classes::new(),
            ended: VecDeque::with_capacity(RESERVE as usize),
            capacity,
            len: 0,
            stats: Stats::default(),
        }
    }

    /// The memory a table takes that is full of flows, octets; and where `v6` is set, what it takes if all are
    /// IPv6 flows of which no two have an address in common but the client's.
    pub fn octets(capacity: usize, v6: bool) -> usize {
        let flows = clamp(capacity) as usize;
        let each = size_of::<Flow<D>>() + size_of::<Cold>();
        let apart = if v6 { size_of::<Shared>() } else { 0 };
        flows * (each + apart)
            + Deadlines::octets(flows)
            + Index::octets(flows * 2)
            + Shares::index_octets(flows)
    }

    /// Different sets of addresses that IPv6 flows have besides the client's; each takes 64 octets.
    pub const fn address_sets(&self) -> usize {
        self.shares.used()
    }

    /// Flows in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Flows that are not over: neither in TIME_WAIT, CLOSED nor SHUTDOWN_COMPLETE, where they only wait for packets that are
    /// late.
    pub fn open(&self) -> u64 {
        let over = |state| u64::from(self.stats().in_state(state));
        let all = self.len() as u64;
        all.saturating_sub(
            over(State::TimeWait) + over(State::Closed) + over(State::ShutdownComplete),
        )
    }

    /// Whether there are no flows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Flows it holds at most.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// The counters.
    #[inline]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The name of timeouts, for [`enter`](Self::enter). Those that are new take memory, so this is for the
    /// moment in which a configuration is taken up. A table keeps 65,536 different ones; beyond these, the ones
    /// with the next longer idle time serve.
    pub fn timeouts_id(&mut self, timeouts: &Timeouts) -> TimeoutsId {
        self.timeouts.id(timeouts)
    }

    /// Enters a flow, in the state SYN_SENT or UNREPLIED; its first packet is yet to be
    /// [observed](Self::observe). What happens when the table is full is said [above](Self). Timeouts that the
    /// table does not know yet take memory, see [`timeouts_id`](Self::timeouts_id).
    pub fn insert(&mut self, new: NewFlow<D>, now: Timestamp) -> Result<FlowId, InsertError> {
        let original = self.hashed(Tuple::from(&new.original));
        let reply = self.hashed(Tuple::from(&new.reply));
        if !(self.is_free(&original) && self.is_free(&reply)) {
            self.stats.collisions += 1;
            return Err(InsertError::Collision);
        }
        let timeouts = self.timeouts_id(&new.timeouts);
        self.enter(original, reply, timeouts, new.data, now)
    }

    /// As [`insert`](Self::insert), with tuples that have been found to [be free](Self::is_free) since
    /// the table was changed last.
    pub fn enter(
        &mut self,
        original: Hashed,
        reply: Hashed,
        timeouts: TimeoutsId,
        data: D,
        now: Timestamp,
    ) -> Result<FlowId, InsertError> {
        debug_assert!(self.is_free(&original) && self.is_free(&reply));
        if original.tuple == reply.tuple || !original.tuple.is_of_family(&reply.tuple) {
            self.stats.collisions += 1;
            return Err(InsertError::Collision);
        }
        if self.len == self.capacity && !self.make_room(now) {
            self.stats.refused += 1;
            return Err(InsertError::Full);
        }
        let shared = match (&original.tuple, &reply.tuple) {
            (Tuple::V6 { addrs: a, .. }, Tuple::V6 { addrs: b, .. }) => {
                let shared = self.shares.enter(&self.hasher, a, b);
                let Some(shared) = shared else {
                    self.stats.refused += 1;
                    return Err(InsertError::Full);
                };
                shared
            }
            _ => 0,
        };
        // There is one: `len` is below the capacity, and few wait to be reported.
        let (slot, used) = self.deadlines.take().ok_or(InsertError::Full)?;
        let at = slot as usize;
        let generation = if used { self.flows[at].generation } else { 0 };
        let (original_tuple, reply_tuple) = (&original.tuple, &reply.tuple);
        let flow = Flow::new(original_tuple, reply_tuple, shared, data, generation, now);
        let cold = Cold::new(now, timeouts);
        if used {
            self.flows[at] = flow;
            self.cold[at] = cold;
        } else if !(self.flows.push(flow) && self.cold.push(cold)) {
            return Err(InsertError::Full);
        }
        for (hashed, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
            self.index.insert(hashed.hash, Place::new(slot, direction));
        }
        let state = flow.state();
        let deadline = now + self.timeouts.get(timeouts).of(state);
        self.deadlines.enter(slot, Class::of(state), deadline, now);
        self.stats.inserts += 1;
        self.stats.states[state as usize] += 1;
        self.len += 1;
        Ok(FlowId { slot, generation })
    }

    /// As [`enter`](Self::enter), beside other flows with the same original tuple: packets from the client are
    /// not found to belong to it, for the caller decides anew about each. Their replies are. `original`
    /// comes of [`hashed_beside`](Self::hashed_beside), with the same `salt`. Such a flow stays in the
    /// state DATAGRAMS, lasts as long as an idle one, and gives way in a full table.
    pub fn enter_beside(
        &mut self,
        original: Hashed,
        salt: u32,
        reply: Hashed,
        timeouts: TimeoutsId,
        data: D,
        now: Timestamp,
    ) -> Result<FlowId, InsertError> {
        let id = self.enter(original, reply, timeouts, data, now)?;
        let at = id.slot as usize;
        let old = self.flows[at].state();
        self.flows[at].set_beside();
        self.cold[at].renewed = salt;
        self.changed(id.slot, old, State::Datagrams, now);
        Ok(id)
    }

    /// The flow that `id` names, if it lives.
    #[inline]
    pub fn get(&self, id: FlowId) -> Option<FlowRef<'_, D>> {
        let lives = self
            .flows
            .get(id.slot as usize)
            .is_some_and(|flow| flow.generation == id.generation);
        lives.then(|| self.flow(id.slot))
    }

    /// The tuple that packets in `direction` leave with, of the flow that `id` names.
    #[inline]
    pub fn translated(&self, id: FlowId, direction: Direction) -> Option<Tuple> {
        let flow = self.flows.get(id.slot as usize);
        let flow = flow.filter(|flow| flow.generation == id.generation)?;
        let tuple = flow.tuple(direction.opposite(), self.shared_of(flow));
        Some(tuple.inverted())
    }

    /// The flow that `id` names, if it lives, to change its data.
    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<D>> {
        self.flows
            .get_mut(id.slot as usize)
            .filter(|flow| flow.generation == id.generation)
    }

    #[inline]
    fn shared_of(&self, flow: &Flow<D>) -> &Shared {
        if flow.is_v6() {
            self.shares.get(flow.shared())
        } else {
            &Shared::NONE
        }
    }

    /// Gives back the slot of a flow that has ended and was reported.
    fn give_back(&mut self, slot: u32) {
        let flow = &self.flows[slot as usize];
        if flow.is_v6() {
            self.shares.leave(&self.hasher, flow.shared());
        }
        self.deadlines.give_back(slot);
    }

    /// When the flow in a slot ends if it stays silent.
    #[inline]
    fn deadline(&self, slot: u32) -> Timestamp {
        let (flow, cold) = (&self.flows[slot as usize], &self.cold[slot as usize]);
        flow.last_seen() + self.timeouts.get(cold.timeouts).of(flow.state())
    }

    #[inline]
    fn flow(&self, slot: u32) -> FlowRef<'_, D> {
        let at = slot as usize;
        let cold = &self.cold[at];
        FlowRef {
            flow: &self.flows[at],
            shared: self.shared_of(&self.flows[at]),
            cold,
            timeouts: self.timeouts.get(cold.timeouts),
        }
    }

    /// Counts a packet of a flow and follows its state.
    #[inline]
    pub fn observe(
        &mut self,
        id: FlowId,
        direction: Direction,
        segment: &Segment,
        now: Timestamp,
    ) -> Observed {
        let at = id.slot as usize;
        let flow = self.flows.get_mut(at);
        let Some((flow, cold)) = flow
            .filter(|flow| flow.generation == id.generation)
            .zip(self.cold.get_mut(at))
        else {
            self.stats.invalid += 1;
            return Observed::Invalid(Invalid::NoFlow);
        };
        let old = flow.state();
        let observed = flow.observe(direction, segment, now, &mut cold.renewed);
        match observed {
            Observed::Accept {
                new_state: Some(new),
            } => self.changed(id.slot, old, new, now),
            Observed::Invalid(_) => self.stats.invalid += 1,
            Observed::Accept { new_state: None } | Observed::Reopen => {}
        }
        observed
    }

    /// Says that the flow, just entered, is a TCP connection that was there before: `segment` is the first
    /// that was seen of it, and yet to be [observed](Self::observe). It stays in SYN_SENT until the other
    /// side is heard to go on with it, so whoever makes up segments gets nothing that lasts.
    pub fn pick_up(&mut self, id: FlowId, segment: &TcpSegment) {
        if let Some(flow) = self.get_mut(id) {
            flow.pick_up(segment);
        }
    }

    /// A flow went from one state to another.
    fn changed(&mut self, slot: u32, old: State, new: State, now: Timestamp) {
        self.stats.states[old as usize] -= 1;
        self.stats.states[new as usize] += 1;
        let deadline = self.deadline(slot);
        self.deadlines.advance(slot, Class::of(new), deadline, now);
    }

    /// Removes a flow, for `reason`, and hands its data back.
    pub fn remove(&mut self, id: FlowId, reason: EndReason) -> Option<D> {
        let data = *self.get(id)?.data();
        self.end(id.slot, reason);
        self.give_back(id.slot);
        Some(data)
    }

    /// A piece of a dump: the flows among `slots` slots from `cursor` on, and where to go on, or
    /// `None` at the end. Flows that live through the whole dump come once; others once or never.
    pub fn iter_from(
        &self,
        cursor: Cursor,
        slots: usize,
    ) -> (
        impl Iterator<Item = (FlowId, FlowRef<'_, D>)>,
        Option<Cursor>,
    ) {
        let from = (cursor.0 as usize).min(self.flows.len());
        let to = from.saturating_add(slots.max(1)).min(self.flows.len());
        let end = u32::try_from(to).unwrap_or(u32::MAX);
        let flows = (cursor.0..end)
            .filter(|slot| self.deadlines.is_used(*slot as usize))
            .map(|slot| {
                let flow = self.flow(slot);
                let generation = flow.generation;
                (FlowId { slot, generation }, flow)
            });
        (flows, (to < self.flows.len()).then_some(Cursor(end)))
    }
}

fn clamp(capacity: usize) -> u32 {
    u32::try_from(capacity)
        .unwrap_or(MAX_CAPACITY)
        .clamp(1, MAX_CAPACITY)
}

#[cfg(test)]
mod tests;
