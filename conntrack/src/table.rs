//! The flow table of one worker.

use net::{FlowKey, Timestamp};
use thiserror::Error;

use crate::event::EndReason;
use crate::flow::{Direction, Flow, FlowId};
use crate::index::{FlowIndex, Place, ProbingIndex};
use crate::list::{Links, List};
use crate::state::{Invalid, Observed, Segment, State};
use crate::stats::Stats;
use crate::timeouts::Timeouts;
use crate::wheel::Wheel;

/// The most flows one table holds: 2^26.
pub const MAX_CAPACITY: u32 = 1 << 26;

/// Flows that may end inside [`Table::insert`] between two calls of [`Table::expire`].
const RESERVE: u32 = 4096;

/// Timers looked at by an insertion that finds the table full.
const INSERT_BUDGET: usize = 16;

/// How to make a table.
#[derive(Debug, Clone, Copy)]
pub struct TableConfig {
    /// Flows it holds, 1 to [`MAX_CAPACITY`]; values outside are brought inside.
    pub capacity: usize,
    /// Keys the hash: draw it at random at every start, so that nobody can choose tuples that
    /// collide.
    pub seed: u64,
}

/// A flow to be entered.
#[derive(Debug, Clone, Copy)]
pub struct NewFlow<D> {
    /// The key of packets in the original direction, as they arrive.
    pub original: FlowKey,
    /// The key of packets that come back, as they arrive. Without translation it is
    /// `original.inverted()`.
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
    /// One of the tuples is taken, or the two are the same.
    #[error("a flow with one of the tuples exists")]
    Collision,
}

/// Where a dump goes on, see [`Table::iter_from`]. The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(u32);

/// The flow table of one worker, with `D` as the caller's data in each flow.
///
/// Every operation costs the same whatever the number of flows. Memory is reserved by
/// [`new`](Self::new) and never more.
///
/// # When it is full
///
/// An insertion then first ends flows that are due. If none is, the flow that gives way is the one
/// that has been longest among those not established: opening, unreplied, in time-wait or reset;
/// if there is none, among those half-closed. Established and replied flows never give way, and
/// with only these the insertion is refused. So a flood of SYNs displaces only its like. Flows
/// that ended this way are reported by the next [`expire`](Self::expire); up to 4096 may wait for
/// that, then insertions are refused until it is called.
pub struct Table<D> {
    index: ProbingIndex,
    /// Grows up to its reserved size as slots are used for the first time.
    flows: Vec<Flow<D>>,
    wheel: Wheel,
    links: Links,
    /// Slots used before and free now.
    free: List,
    /// Ended, but not yet reported; neither in the index nor on the wheel.
    ended: List,
    /// Flows that may be evicted, by [`Queue`], longest first.
    queues: [List; 2],
    capacity: u32,
    len: u32,
    stats: Stats,
}

/// Which flows give way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Transient,
    HalfClosed,
}

impl Queue {
    const fn of(state: State) -> Option<Self> {
        match state {
            State::Established | State::Replied => None,
            State::FinWait | State::CloseWait | State::LastAck => Some(Self::HalfClosed),
            State::SynSent
            | State::SynReceived
            | State::TimeWait
            | State::Closed
            | State::Unreplied => Some(Self::Transient),
        }
    }
}

impl<D: Copy> Table<D> {
    /// An empty table; reserves all the memory it will ever use.
    pub fn new(config: TableConfig) -> Self {
        let capacity = u32::try_from(config.capacity)
            .unwrap_or(MAX_CAPACITY)
            .clamp(1, MAX_CAPACITY);
        let slots = capacity + RESERVE;
        Self {
            index: ProbingIndex::with_capacity(capacity as usize * 2, config.seed),
            flows: Vec::with_capacity(slots as usize),
            wheel: Wheel::new(slots),
            links: Links::new(slots),
            free: List::EMPTY,
            ended: List::EMPTY,
            queues: [List::EMPTY; 2],
            capacity,
            len: 0,
            stats: Stats::default(),
        }
    }

    /// Flows in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
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

    /// The hash of `key` for [`lookup_hashed`](Self::lookup_hashed): hash a burst first, then look
    /// it up, and the memory accesses overlap.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.index.hash(key)
    }

    /// The flow that packets with `key` belong to, and which way they go.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<(FlowId, Direction)> {
        self.lookup_hashed(self.hash(key), key)
    }

    /// As [`lookup`](Self::lookup), with the hash of `key` at hand.
    #[inline]
    pub fn lookup_hashed(&self, hash: u64, key: &FlowKey) -> Option<(FlowId, Direction)> {
        let place = self.index.find(hash, |place| {
            self.flows[place.slot() as usize].key(place.direction()) == key
        })?;
        let slot = place.slot();
        let generation = self.flows[slot as usize].generation;
        Some((FlowId { slot, generation }, place.direction()))
    }

    /// Whether packets with `key` belong to a flow. A translated port is leased exactly while the
    /// reply tuple it makes is in the table.
    #[inline]
    pub fn contains(&self, key: &FlowKey) -> bool {
        self.lookup(key).is_some()
    }

    /// Enters a flow, in the state SYN_SENT or UNREPLIED; its first packet is yet to be
    /// [observed](Self::observe). What happens when the table is full is said [above](Self).
    pub fn insert(&mut self, new: NewFlow<D>, now: Timestamp) -> Result<FlowId, InsertError> {
        let original = self.hash(&new.original);
        let reply = self.hash(&new.reply);
        if new.original == new.reply
            || self.lookup_hashed(original, &new.original).is_some()
            || self.lookup_hashed(reply, &new.reply).is_some()
        {
            self.stats.collisions += 1;
            return Err(InsertError::Collision);
        }
        if self.len == self.capacity && !self.make_room(now) {
            self.stats.refused += 1;
            return Err(InsertError::Full);
        }
        let generation = |slot: &Flow<D>| slot.generation;
        let fresh = |generation| {
            Flow::new(
                new.original,
                new.reply,
                new.timeouts,
                new.data,
                generation,
                now,
            )
        };
        let slot = if let Some(slot) = self.links.pop_front(&mut self.free) {
            let flow = &mut self.flows[slot as usize];
            *flow = fresh(generation(flow));
            slot
        } else {
            let slot = u32::try_from(self.flows.len()).map_err(|_| InsertError::Full)?;
            self.flows.push(fresh(0));
            slot
        };
        self.index
            .insert(original, Place::new(slot, Direction::Original));
        self.index.insert(reply, Place::new(slot, Direction::Reply));
        let flow = &self.flows[slot as usize];
        self.wheel.follow(now);
        self.wheel.arm(slot, flow.deadline());
        self.stats.inserts += 1;
        self.stats.states[flow.state() as usize] += 1;
        self.len += 1;
        let id = FlowId {
            slot,
            generation: flow.generation,
        };
        self.enqueue(slot, None, Queue::of(flow.state()));
        Ok(id)
    }

    /// The flow that `id` names, if it lives.
    #[inline]
    pub fn get(&self, id: FlowId) -> Option<&Flow<D>> {
        self.flows
            .get(id.slot as usize)
            .filter(|flow| flow.generation == id.generation)
    }

    /// The flow that `id` names, if it lives, to change its data.
    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<D>> {
        self.flows
            .get_mut(id.slot as usize)
            .filter(|flow| flow.generation == id.generation)
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
        let Some(flow) = self.get_mut(id) else {
            self.stats.invalid += 1;
            return Observed::Invalid(Invalid::NoFlow);
        };
        let old = flow.state();
        let observed = flow.observe(direction, segment, now);
        match observed {
            Observed::Accept {
                new_state: Some(new),
            } => self.changed(id.slot, old, new, now),
            Observed::Invalid(_) => self.stats.invalid += 1,
            Observed::Accept { new_state: None } | Observed::Reopen => {}
        }
        observed
    }

    /// A flow went from one state to another.
    fn changed(&mut self, slot: u32, old: State, new: State, now: Timestamp) {
        self.stats.states[old as usize] -= 1;
        self.stats.states[new as usize] += 1;
        self.enqueue(slot, Queue::of(old), Queue::of(new));
        self.wheel.follow(now);
        self.wheel
            .advance(slot, self.flows[slot as usize].deadline());
    }

    fn enqueue(&mut self, slot: u32, old: Option<Queue>, new: Option<Queue>) {
        if old == new {
            return;
        }
        if let Some(queue) = old {
            self.links.unlink(&mut self.queues[queue as usize], slot);
        }
        if let Some(queue) = new {
            self.links.push_back(&mut self.queues[queue as usize], slot);
        }
    }

    /// Removes a flow, for `reason`, and hands it back.
    pub fn remove(&mut self, id: FlowId, reason: EndReason) -> Option<Flow<D>> {
        self.get(id)?;
        self.end(id.slot, reason);
        self.links.push_back(&mut self.free, id.slot);
        Some(self.flows[id.slot as usize])
    }

    /// Ends the flows whose time has come by `now`, and hands each to `ended`, once, together with
    /// those that ended in insertions since the last call. Returns how many were handed over.
    ///
    /// At most `budget` timers are looked at; the rest waits for the next call, and so the work
    /// per call stays bounded when very many flows are due at once. No flow ends early, nor
    /// more than one tick (134 ms) late if this is called that often and the budget suffices.
    ///
    /// The clock may jump. After a jump back, silence is counted from the jump on for the flows
    /// whose timer comes up, which is within 9 minutes.
    pub fn expire(
        &mut self,
        now: Timestamp,
        budget: usize,
        ended: &mut impl FnMut(&Flow<D>, EndReason),
    ) -> usize {
        let mut count = 0;
        while let Some(slot) = self.links.pop_front(&mut self.ended) {
            let flow = &self.flows[slot as usize];
            ended(flow, flow.ended.unwrap_or(EndReason::Evicted));
            self.links.push_back(&mut self.free, slot);
            count += 1;
        }
        self.wheel.follow(now);
        for _ in 0..budget {
            let Some(slot) = self.wheel.pop(now) else {
                break;
            };
            if let Some(reason) = self.due(slot, now) {
                self.end(slot, reason);
                ended(&self.flows[slot as usize], reason);
                self.links.push_back(&mut self.free, slot);
                count += 1;
            }
        }
        count
    }

    /// Whether the flow whose timer came up is due; if not, its timer is set anew.
    fn due(&mut self, slot: u32, now: Timestamp) -> Option<EndReason> {
        let flow = &mut self.flows[slot as usize];
        flow.rebase(now);
        let deadline = flow.deadline();
        if deadline <= now {
            return Some(flow.state().expiry());
        }
        self.wheel.arm(slot, deadline);
        None
    }

    /// Makes room for one flow in a full table, if that may be.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if self.ended.len() == RESERVE {
            return false;
        }
        self.wheel.follow(now);
        for _ in 0..INSERT_BUDGET {
            let Some(slot) = self.wheel.pop(now) else {
                break;
            };
            if let Some(reason) = self.due(slot, now) {
                self.end(slot, reason);
                self.links.push_back(&mut self.ended, slot);
                return true;
            }
        }
        let Some(slot) = self.queues.iter().find_map(List::front) else {
            return false;
        };
        self.end(slot, EndReason::Evicted);
        self.links.push_back(&mut self.ended, slot);
        true
    }

    /// Takes a flow out of everything; its slot is on no list then.
    fn end(&mut self, slot: u32, reason: EndReason) {
        let flow = &mut self.flows[slot as usize];
        flow.generation = flow.generation.wrapping_add(1);
        flow.ended = Some(reason);
        let state = flow.state();
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.index.hash(flow.key(direction));
            let there = self.index.remove(hash, Place::new(slot, direction));
            debug_assert!(there, "both tuples of a flow are in the index");
        }
        self.wheel.disarm(slot);
        self.enqueue(slot, Queue::of(state), None);
        self.stats.states[state as usize] -= 1;
        self.stats.ended[reason as usize] += 1;
        self.len -= 1;
    }

    /// A piece of a dump: the flows among `slots` slots from `cursor` on, and where to go on, or
    /// `None` at the end. Flows that live through the whole dump come once; others once or never.
    pub fn iter_from(
        &self,
        cursor: Cursor,
        slots: usize,
    ) -> (impl Iterator<Item = (FlowId, &Flow<D>)>, Option<Cursor>) {
        let from = (cursor.0 as usize).min(self.flows.len());
        let to = from.saturating_add(slots.max(1)).min(self.flows.len());
        let flows = (cursor.0..)
            .zip(&self.flows[from..to])
            .filter(|(_, flow)| flow.ended.is_none())
            .map(|(slot, flow)| {
                let generation = flow.generation;
                (FlowId { slot, generation }, flow)
            });
        let next = u32::try_from(to).ok().filter(|_| to < self.flows.len());
        (flows, next.map(Cursor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Entry;
    use crate::wheel::Link;

    #[test]
    fn a_flow_takes_a_bounded_number_of_octets() {
        let flow = size_of::<Flow<[u64; 6]>>();
        let bare = size_of::<Flow<()>>();
        // Two tuples, at least a third of the index in use, timer and queue links.
        let around = 3 * size_of::<Entry>()..=6 * size_of::<Entry>();
        let links = size_of::<Link>() + 8;
        println!("flow {flow} (bare {bare}), index {around:?}, links {links}");
        assert!(flow <= 256 && bare <= 192 && links <= 20);
    }
}
