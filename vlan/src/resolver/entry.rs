//! Neighbours, one by one: what is known, what is being asked, and what is due when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{Addr, MacAddr, Timestamp, VlanIndex};

use super::{Emit, NeighborInfo, NeighborState, ResolverConfig, Shared};
use crate::event::How;
use crate::frame::{
    ARP_REQUEST, ArpFields, Body, NdFields, SOLICITATION, SOURCE_LINK_LAYER, solicited_node,
};
use crate::neighbor::{Cell, Neighbors, Writer};
use crate::segment::spread;
use crate::table::Vlan;

/// How many neighbours in line for eviction are looked at for one that is not in use.
const EVICTION_TRIES: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Entry {
    vlan: VlanIndex,
    addr: Addr,
    mac: Option<MacAddr>,
    state: NeighborState,
    /// Questions sent in this state.
    asked: u8,
    since: Timestamp,
    due: Timestamp,
    /// When the MAC address was learned.
    learned: Timestamp,
    confirmed: Option<Timestamp>,
    used: Timestamp,
}

impl Entry {
    /// Whether an answer to a question of ours may still come.
    fn awaits_answer(&self) -> bool {
        use NeighborState::{Failed, Pending, Probing};
        matches!(self.state, Pending | Failed | Probing)
    }

    fn is_unresolved(&self) -> bool {
        matches!(self.state, NeighborState::Pending | NeighborState::Failed)
    }

    /// Which neighbours are pushed out first; `None`: never.
    fn eviction_class(&self) -> Option<u8> {
        match self.state {
            NeighborState::Failed => Some(0),
            NeighborState::Stale => Some(1),
            _ => None,
        }
    }

    fn cell(&self) -> Cell {
        match (self.state, self.mac) {
            (NeighborState::Failed, _) => Cell::Failed,
            (NeighborState::Pending, _) | (_, None) => Cell::Pending,
            (_, Some(mac)) => Cell::Known(mac),
        }
    }
}

/// All neighbours, by their slot in the shared table.
#[derive(Debug)]
pub(super) struct Entries {
    writer: Writer,
    by_slot: BTreeMap<u32, Entry>,
    timers: BTreeSet<(Timestamp, u32)>,
    /// Those that may be pushed out: worst class first, then the longest in its state.
    evictable: BTreeSet<(u8, Timestamp, u32)>,
    unresolved: usize,
}

impl Entries {
    pub(super) fn new(config: &ResolverConfig) -> Self {
        Self {
            writer: Writer::new(config.max_neighbors, config.seed),
            by_slot: BTreeMap::new(),
            timers: BTreeSet::new(),
            evictable: BTreeSet::new(),
            unresolved: 0,
        }
    }

    pub(super) fn table(&self) -> &Arc<Neighbors> {
        self.writer.table()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|&(due, _)| due)
    }

    pub(super) fn snapshot(&self) -> Vec<NeighborInfo> {
        let mut all: Vec<_> = self
            .by_slot
            .values()
            .map(|e| NeighborInfo {
                vlan: e.vlan,
                addr: e.addr,
                mac: e.mac,
                state: e.state,
                since: e.since,
                confirmed: e.confirmed,
            })
            .collect();
        all.sort_unstable_by_key(|info| (info.vlan, info.addr));
        all
    }

    /// Forgets the neighbours that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(VlanIndex, Addr) -> bool) {
        let gone: Vec<u32> = self
            .by_slot
            .iter()
            .filter(|(_, e)| !keep(e.vlan, e.addr))
            .map(|(&slot, _)| slot)
            .collect();
        for slot in gone {
            self.remove(slot);
        }
    }

    /// A packet waits for this neighbour.
    pub(super) fn needed(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        now: Timestamp,
    ) {
        if let Some((slot, entry)) = self.find(vlan, addr) {
            // Other states are being asked already, need no asking, or must not be asked again yet.
            if entry.state == NeighborState::Stale {
                self.enter(slot, NeighborState::Probing, now, now);
            }
            return;
        }
        if !may_be(shared, vlan, addr) {
            shared.counters.refused += 1;
            return;
        }
        self.add(shared, vlan, addr, None, now, now);
    }

    /// A frame says that `addr` is at `mac`.
    pub(super) fn learned(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        mac: MacAddr,
        how: How,
        now: Timestamp,
    ) {
        let ours = shared.vlans.get(&vlan).is_none_or(|v| v.is_ours(mac));
        if ours || !mac.is_station() || !may_be(shared, vlan, addr) {
            shared.counters.refused += 1;
            return;
        }
        let later = now + shared.config.delay;
        let Some((slot, entry)) = self.find(vlan, addr) else {
            // Only who asks for us gets an entry unasked: it will be answered, and soon be sent to.
            if matches!(how, How::ArpRequest | How::Solicitation) {
                self.add(shared, vlan, addr, Some(mac), later, now);
            } else {
                shared.counters.refused += 1;
            }
            return;
        };
        let (solicited, overrides) = match how {
            How::ArpReply => (true, true),
            How::ArpRequest | How::ArpUnsolicited | How::Solicitation => (false, true),
            How::Advertisement {
                solicited,
                overrides,
            } => (solicited, overrides),
        };
        // Anybody can claim to answer a question that was not asked.
        let solicited = solicited && entry.awaits_answer();
        match entry.mac {
            Some(known) if known == mac => {
                if solicited {
                    self.reached(shared, slot, now);
                }
                return;
            }
            Some(_) if !overrides => {
                // RFC 4861 section 7.2.5: contradicted, so no longer sure.
                if entry.state == NeighborState::Reachable {
                    self.enter(slot, NeighborState::Stale, later, now);
                }
                return;
            }
            Some(_) if !solicited && now.since(entry.learned) < shared.config.settle => {
                shared.counters.refused += 1;
                return;
            }
            Some(_) => shared.counters.moved += 1,
            None => shared.counters.resolved += 1,
        }
        if let Some(entry) = self.by_slot.get_mut(&slot) {
            entry.mac = Some(mac);
            entry.learned = now;
        }
        if solicited {
            self.reached(shared, slot, now);
        } else if entry.state == NeighborState::Probing {
            // In use, and the question went to the old station: ask the new one.
            self.enter(slot, NeighborState::Probing, now, now);
        } else {
            self.enter(slot, NeighborState::Stale, later, now);
        }
    }

    /// The neighbour receives what we send.
    pub(super) fn confirmed(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        now: Timestamp,
    ) {
        match self.find(vlan, addr) {
            Some((slot, entry)) if !entry.is_unresolved() => self.reached(shared, slot, now),
            _ => shared.counters.refused += 1,
        }
    }

    /// Does what is due, up to the next question to send.
    pub(super) fn poll(&mut self, shared: &mut Shared, now: Timestamp) -> Option<Emit> {
        use NeighborState::{Failed, Pending, Probing, Reachable, Stale};
        while let Some(&(due, slot)) = self.timers.first() {
            if due > now {
                break;
            }
            let Some(&entry) = self.by_slot.get(&slot) else {
                self.timers.remove(&(due, slot));
                continue;
            };
            let config = shared.config;
            let later = now + config.delay;
            match entry.state {
                Failed => self.remove(slot),
                Reachable | Stale if self.take_used(slot, now) => {
                    self.enter(slot, Probing, now, now);
                }
                Reachable => self.enter(slot, Stale, later, now),
                Stale if now.since(entry.used) >= config.forget => self.remove(slot),
                Stale => self.set_timer(slot, later),
                Pending | Probing => {
                    let to_station = if entry.state == Probing {
                        config.attempts
                    } else {
                        0
                    };
                    if entry.asked >= to_station.saturating_add(config.attempts) {
                        shared.counters.failed += 1;
                        self.enter(slot, Failed, now + config.hold_down, now);
                        continue;
                    }
                    if let Some(entry) = self.by_slot.get_mut(&slot) {
                        entry.asked += 1;
                    }
                    self.set_timer(slot, now + config.retry);
                    let station = entry.mac.filter(|_| entry.asked < to_station);
                    let emit = shared
                        .vlans
                        .get(&entry.vlan)
                        .and_then(|vlan| question(vlan, entry.addr, station));
                    if emit.is_some() {
                        shared.counters.solicitations += 1;
                        return emit;
                    }
                }
            }
        }
        None
    }

    fn find(&self, vlan: VlanIndex, addr: Addr) -> Option<(u32, Entry)> {
        let slot = self.writer.find(vlan, &addr)?;
        Some((slot, *self.by_slot.get(&slot)?))
    }

    /// Puts a neighbour in, if there is room or room can be made.
    fn add(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        mac: Option<MacAddr>,
        due: Timestamp,
        now: Timestamp,
    ) {
        let config = &shared.config;
        let mut room = true;
        if mac.is_none() && self.unresolved >= config.max_unresolved {
            room = self.evict(0);
            shared.counters.evicted += u64::from(room);
        }
        if room && self.by_slot.len() >= config.max_neighbors {
            room = self.evict(1);
            shared.counters.evicted += u64::from(room);
        }
        let state = if mac.is_some() {
            NeighborState::Stale
        } else {
            NeighborState::Pending
        };
        let entry = Entry {
            vlan,
            addr,
            mac,
            state,
            asked: 0,
            since: now,
            due,
            learned: now,
            confirmed: None,
            used: now,
        };
        let slot = room
            .then(|| self.writer.insert(vlan, &addr, entry.cell()))
            .flatten();
        let Some(slot) = slot else {
            shared.counters.no_room += 1;
            return;
        };
        if mac.is_some() {
            shared.counters.resolved += 1;
        }
        self.by_slot.insert(slot, entry);
        self.timers.insert((due, slot));
        self.index(slot, &entry);
    }

    /// Pushes out one neighbour of a class up to `worst`; says whether there was one.
    fn evict(&mut self, worst: u8) -> bool {
        let victim = self
            .evictable
            .iter()
            .take_while(|&&(class, ..)| class <= worst)
            .take(EVICTION_TRIES)
            .find(|&&(class, _, slot)| class == 0 || !self.writer.is_used(slot))
            .map(|&(_, _, slot)| slot);
        if let Some(slot) = victim {
            self.remove(slot);
        }
        victim.is_some()
    }

    /// The neighbour answered.
    fn reached(&mut self, shared: &Shared, slot: u32, now: Timestamp) {
        if let Some(entry) = self.by_slot.get_mut(&slot) {
            entry.confirmed = Some(now);
        }
        self.take_used(slot, now);
        let due = now + reachable_time(&shared.config, slot);
        self.enter(slot, NeighborState::Reachable, due, now);
    }

    fn take_used(&mut self, slot: u32, now: Timestamp) -> bool {
        let used = self.writer.take_used(slot);
        if used && let Some(entry) = self.by_slot.get_mut(&slot) {
            entry.used = now;
        }
        used
    }

    /// Moves a neighbour into a state, and publishes it.
    fn enter(&mut self, slot: u32, state: NeighborState, due: Timestamp, now: Timestamp) {
        let Some(old) = self.by_slot.get(&slot).copied() else {
            return;
        };
        let mut entry = old;
        if state == NeighborState::Failed {
            entry.mac = None;
        }
        if entry.state != state {
            entry.since = now;
        }
        entry.state = state;
        entry.asked = 0;
        entry.due = due;
        self.unindex(slot, &old);
        self.by_slot.insert(slot, entry);
        self.index(slot, &entry);
        self.timers.remove(&(old.due, slot));
        self.timers.insert((due, slot));
        self.writer.set(slot, entry.cell());
    }

    fn set_timer(&mut self, slot: u32, due: Timestamp) {
        if let Some(entry) = self.by_slot.get_mut(&slot) {
            self.timers.remove(&(entry.due, slot));
            self.timers.insert((due, slot));
            entry.due = due;
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(entry) = self.by_slot.remove(&slot) {
            self.timers.remove(&(entry.due, slot));
            self.unindex(slot, &entry);
            self.writer.remove(slot);
        }
    }

    fn index(&mut self, slot: u32, entry: &Entry) {
        self.unresolved += usize::from(entry.is_unresolved());
        if let Some(class) = entry.eviction_class() {
            self.evictable.insert((class, entry.since, slot));
        }
    }

    fn unindex(&mut self, slot: u32, entry: &Entry) {
        self.unresolved -= usize::from(entry.is_unresolved());
        if let Some(class) = entry.eviction_class() {
            self.evictable.remove(&(class, entry.since, slot));
        }
    }
}

/// Whether `addr` can be a neighbour of ours on this VLAN.
fn may_be(shared: &Shared, vlan: VlanIndex, addr: Addr) -> bool {
    shared.owned.get(vlan, &addr).is_none()
        && shared
            .vlans
            .get(&vlan)
            .is_some_and(|v| v.can_be_neighbor(addr.ip()))
}

/// How long an answer is good for: 0.5 to 1.5 of what is configured, spread over the slots (RFC
/// 4861 section 6.3.2).
fn reachable_time(config: &ResolverConfig, slot: u32) -> Duration {
    let spread = slot.wrapping_mul(0x9e37_79b9) >> 22;
    config.reachable / 2 + config.reachable * spread / 1024
}

/// The frame that asks who has `addr`: everybody, or a station that had it. It leaves by the port whose
/// MAC address that neighbour is told when it asks for us.
fn question(vlan: &Vlan, addr: Addr, station: Option<MacAddr>) -> Option<Emit> {
    let speaker = vlan.self_ip_for(addr.ip())?;
    let (body, to) = match (addr.ip(), speaker) {
        (IpAddr::V4(target), IpAddr::V4(src)) => (
            Body::Arp(ArpFields {
                oper: ARP_REQUEST,
                sender: src,
                target: (MacAddr::ZERO, target),
            }),
            station.unwrap_or(MacAddr::BROADCAST),
        ),
        (IpAddr::V6(target), IpAddr::V6(src)) => {
            let group = solicited_node(target);
            let (dst, to) =
                station.map_or((group, MacAddr::ipv6_multicast(group)), |mac| (target, mac));
            let body = Body::Nd(NdFields {
                kind: SOLICITATION,
                flags: 0,
                src,
                dst,
                target,
                option: SOURCE_LINK_LAYER,
            });
            (body, to)
        }
        _ => return None,
    };
    let spread = spread(&addr, &Addr::from(speaker));
    Some(Emit::new(vlan, body, to, Some(spread)))
}
