//! The flow table of one worker.

mod ending;

use std::collections::VecDeque;

use net::tuple::swap_v6;
use net::{FlowKey, Timestamp, Tuple};
use thiserror::Error;

use crate::deadlines::{Class, Deadlines};
use crate::event::EndReason;
use crate::flow::{Cold, Direction, Flow, FlowId, FlowRef};
use crate::hash::Hasher;
use crate::index::{Index, MAX_SLOTS, Place};
use crate::machine::prefetch;
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

/// A tuple and its hash, made by [`Table::hashed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    tuple: Tuple,
    hash: u64,
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

/// Where a flow may be: what [`Table::probe`] found without reading the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe(Option<Place>);

impl Probe {
    /// Nowhere.
    pub const NONE: Self = Self(None);
}

/// A flow that a packet was found to belong to, until the table is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit(Place);

impl Hit {
    /// Which way the packet goes.
    #[inline]
    pub const fn direction(self) -> Direction {
        self.0.direction()
    }
}

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

    /// The hash of the key, for [`lookup_hashed`](Self::lookup_hashed).
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.tuple(&Tuple::from(key))
    }

    /// The hash of an IPv4 tuple in wire order, see [`Tuple`].
    #[inline]
    pub fn hash_v4(&self, addrs: u64, ports: u32, proto: u8) -> u64 {
        self.hasher.v4(addrs, ports, proto)
    }

    /// The hash of an IPv6 tuple in wire order, see [`Tuple`].
    #[inline]
    pub fn hash_v6(&self, addrs: &[u64; 4], ports: u32, proto: u8) -> u64 {
        self.hasher.v6(addrs, ports, proto)
    }

    /// Asks for the memory that [`probe`](Self::probe) of the same hash will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Finds where the flow with this hash probably is, and asks for the memory that
    /// [`confirm_v4`](Self::confirm_v4) or [`confirm_v6`](Self::confirm_v6) will read.
    #[inline]
    pub fn probe(&self, hash: u64) -> Probe {
        let place = self.index.probe(hash);
        if let Some(place) = place {
            let slot = place.slot() as usize;
            if let Some(flow) = self.flows.get(slot) {
                prefetch(flow);
                prefetch(flow.second_line());
            }
        }
        Probe(place)
    }

    /// The flow that packets with this IPv4 tuple belong to, if it is where it was probed. A miss is
    /// not the last word: ask [`lookup_hashed`](Self::lookup_hashed).
    #[inline]
    pub fn confirm_v4(&self, probe: Probe, addrs: u64, ports: u32, proto: u8) -> Option<Hit> {
        let place = probe.0?;
        let flow = self.flows.get(place.slot() as usize)?;
        flow.is_v4(place.direction(), addrs, ports, proto)
            .then_some(Hit(place))
    }

    /// As [`confirm_v4`](Self::confirm_v4), for IPv6.
    #[inline]
    pub fn confirm_v6(&self, probe: Probe, addrs: &[u64; 4], ports: u32, proto: u8) -> Option<Hit> {
        let place = probe.0?;
        let flow = self.flows.get(place.slot() as usize)?;
        let direction = place.direction();
        let shared = self.shares.get(flow.shared());
        let [a, b, c, d] = flow.addrs_v6(direction, shared);
        let differ = (a ^ addrs[0]) | (b ^ addrs[1]) | (c ^ addrs[2]) | (d ^ addrs[3]);
        let found = differ == 0 && flow.may_be_v6(direction, ports, proto);
        found.then_some(Hit(place))
    }

    /// The flow of a hit.
    #[inline]
    pub fn hit(&mut self, hit: Hit) -> Option<&mut Flow<D>> {
        self.flows.get_mut(hit.0.slot() as usize)
    }

    /// The name of the flow of a hit.
    pub fn id(&self, hit: Hit) -> Option<FlowId> {
        let slot = hit.0.slot();
        let generation = self.flows.get(slot as usize)?.generation;
        Some(FlowId { slot, generation })
    }

    /// IPv4 addresses that packets of the flow of a hit leave with in `direction`, in wire order.
    #[inline]
    pub fn translated_v4(&self, hit: Hit, direction: Direction) -> Option<u64> {
        let flow = self.flows.get(hit.0.slot() as usize)?;
        Some(flow.translated_v4(direction))
    }

    /// IPv6 addresses that packets of the flow of a hit leave with in `direction`, in wire order.
    #[inline]
    pub fn translated_v6(&self, hit: Hit, direction: Direction) -> Option<[u64; 4]> {
        let flow = self.flows.get(hit.0.slot() as usize)?;
        let shared = self.shares.get(flow.shared());
        Some(swap_v6(flow.addrs_v6(direction.opposite(), shared)))
    }

    /// The flow that packets with `key` belong to, and which way they go.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<(FlowId, Direction)> {
        self.lookup_among(self.hash(key), key)
    }

    /// As [`lookup`](Self::lookup), with the hash of `key` at hand, of packets that may well have no flow.
    #[inline]
    pub fn lookup_hashed(&self, hash: u64, key: &FlowKey) -> Option<(FlowId, Direction)> {
        if self.index.lacks(hash) {
            return None;
        }
        self.lookup_among(hash, key)
    }

    fn lookup_among(&self, hash: u64, key: &FlowKey) -> Option<(FlowId, Direction)> {
        let place = self.find(hash, &Tuple::from(key))?;
        let slot = place.slot();
        let generation = self.flows[slot as usize].generation;
        Some((FlowId { slot, generation }, place.direction()))
    }

    #[inline]
    fn find(&self, hash: u64, tuple: &Tuple) -> Option<Place> {
        self.index.find(hash, |place| {
            let hit = Probe(Some(place));
            match tuple {
                Tuple::V4 {
                    addrs,
                    ports,
                    proto,
                } => self.confirm_v4(hit, *addrs, *ports, proto.0),
                Tuple::V6 {
                    addrs,
                    ports,
                    proto,
                } => self.confirm_v6(hit, addrs, *ports, proto.0),
            }
            .is_some()
        })
    }

    /// Whether packets with `key` belong to a flow. A translated port is leased exactly while the
    /// reply tuple it makes is in the table.
    #[inline]
    pub fn contains(&self, key: &FlowKey) -> bool {
        self.lookup(key).is_some()
    }

    /// The name of timeouts, for [`enter`](Self::enter). Those that are new take memory, so this is for the
    /// moment in which a configuration is taken up. A table keeps 65,536 different ones; beyond these, the ones
    /// with the next longer idle time serve.
    pub fn timeouts_id(&mut self, timeouts: &Timeouts) -> TimeoutsId {
        self.timeouts.id(timeouts)
    }

    /// Hashes a tuple, and asks for the memory that [`is_free`](Self::is_free) will read: look at several
    /// candidates together, and the memory accesses overlap.
    #[inline]
    pub fn hashed(&self, tuple: Tuple) -> Hashed {
        let hash = self.hash_ahead(&tuple);
        Hashed { tuple, hash }
    }

    /// As [`hashed`](Self::hashed), the hash alone.
    #[inline]
    pub fn hash_ahead(&self, tuple: &Tuple) -> u64 {
        let hash = self.hasher.tuple(tuple);
        self.index.prefetch(hash);
        hash
    }

    /// As [`hashed`](Self::hashed), with the hash at hand.
    #[inline]
    pub const fn with_hash(tuple: Tuple, hash: u64) -> Hashed {
        Hashed { tuple, hash }
    }

    /// Whether no flow has the tuple. A translated port is leased exactly while the reply tuple it
    /// makes is in the table.
    #[inline]
    pub fn is_free(&self, hashed: &Hashed) -> bool {
        self.index.lacks(hashed.hash) || self.find(hashed.hash, &hashed.tuple).is_none()
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

    /// As [`hashed`](Self::hashed), of a tuple that several flows share which `salt` tells apart.
    pub fn hashed_beside(&self, tuple: Tuple, salt: u32) -> Hashed {
        let hash = beside(self.hasher.tuple(&tuple), salt);
        self.index.prefetch(hash);
        Hashed { tuple, hash }
    }

    /// The flow that has been [entered](Self::enter_beside) with this original tuple.
    pub fn lookup_beside(&self, original: &Hashed) -> Option<FlowId> {
        let place = self.find(original.hash, &original.tuple)?;
        let (slot, flow) = (place.slot(), &self.flows[place.slot() as usize]);
        let found = place.direction() == Direction::Original && flow.state() == State::Datagrams;
        found.then_some(FlowId {
            slot,
            generation: flow.generation,
        })
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

/// The hash of a tuple that several flows have.
pub(super) const fn beside(hash: u64, salt: u32) -> u64 {
    hash ^ (salt as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn clamp(capacity: usize) -> u32 {
    u32::try_from(capacity)
        .unwrap_or(MAX_CAPACITY)
        .clamp(1, MAX_CAPACITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With as much data as fits into two cache lines.
    type Usual = Table<[u32; 8]>;

    #[test]
    fn a_flow_takes_at_most_160_octets_all_told() {
        for flows in [1_000_000, 10_000_000] {
            let (all, apart) = (Usual::octets(flows, false), Usual::octets(flows, true));
            assert!(all <= flows * 160, "{}", all / flows);
            assert!(apart <= flows * 224, "{}", apart / flows);
        }
        assert!(Usual::octets(10_000_000, false) <= 2 << 30);
    }

    /// An IPv6 flow of client `n`, by one of 64 ways.
    fn v6_flow(n: u32) -> (Tuple, Tuple) {
        let (client, way) = ([1, u64::from(n >> 12)], u64::from(n % 64));
        let (ports, proto) = (n, net::IpProto::TCP);
        let original = Tuple::V6 {
            addrs: [client[0], client[1], 2, way],
            ports,
            proto,
        };
        let reply = Tuple::V6 {
            addrs: [3, way, 4, 4],
            ports,
            proto,
        };
        (original, reply)
    }

    #[test]
    fn ipv6_flows_share_what_is_not_the_clients_and_cost_no_more_than_ipv4_flows() {
        let flows = 50_000_u32;
        let mut table = Usual::new(TableConfig {
            capacity: flows as usize,
            seed: 1,
            hugetlb: false,
        });
        let now = Timestamp::ZERO;
        for n in 0..flows {
            let (original, reply) = v6_flow(n);
            let (original, reply) = (table.hashed(original), table.hashed(reply));
            let entered = table.enter(original, reply, TimeoutsId::TCP, [n; 8], now);
            assert!(entered.is_ok(), "{n}");
        }
        assert_eq!(table.address_sets(), 64);
        for n in 0..flows {
            let (original, reply) = v6_flow(n);
            for (tuple, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
                let key = FlowKey::from(tuple);
                let (id, found) = table.lookup(&key).unwrap();
                assert_eq!((found, table.get(id).unwrap().data()[0]), (direction, n));
                assert_eq!(table.get(id).unwrap().key(direction), key);
            }
        }
        // All told, half of them IPv4: the 64 sets are 4 KiB.
        let all = Usual::octets(10_000_000, false) + 64 * size_of::<Shared>();
        assert!(all <= 160 * 10_000_000);
        let mut ended = 0;
        table.expire(
            now + std::time::Duration::from_hours(1),
            1 << 20,
            &mut |_, _| ended += 1,
        );
        assert_eq!((ended, table.address_sets()), (flows, 0));
    }
}
