//! The control side of neighbours: asks for them, retries, ages and forgets them, and announces
//! the addresses that are ours.
//!
//! A pure state machine. Workers' [`Event`]s go in by [`Resolver::on_event`], frames come out of
//! [`Resolver::poll`], and [`Resolver::next_deadline`] says when to poll again. It holds the one
//! write side of the [`Neighbors`] that it hands out.
//!
//! ```text
//!              Needed             answer               not used           not used
//!  (unknown) ─────────▶ Pending ──────────▶ Reachable ──────────▶ Stale ──────────▶ forgotten
//!                       asks ×3              ▲    │ used            │ used
//!                          │ no answer       │    ▼                 │
//!                          ▼          answer │  Probing ◀───────────┘
//!                        Failed ◀────────────┴─ asks the station ×3, then everybody ×3
//!                          │       no answer
//!                          └─ hold-down over ─▶ forgotten
//! ```
//!
//! While a neighbour is checked, packets keep going to the MAC address it had (RFC 7048).

mod announce;
mod conflict;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use net::{Addr, Encap, MacAddr, Timestamp, VlanIndex};

use crate::event::Event;
use crate::frame::Body;
pub use crate::frame::Frame;
use crate::neighbor::Neighbors;
use crate::owned::{Owned, Owner};
use crate::table::{Table, Vlan};

use announce::Announcements;
pub use conflict::Conflict;
use conflict::Conflicts;
use entry::Entries;

/// How neighbours are resolved and kept. The times are those of RFC 4861 section 10, for IPv4 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolverConfig {
    /// The most neighbours known at once, on all VLANs together.
    pub max_neighbors: usize,
    /// The most of them without a MAC address: a scan of a prefix must not push out those that
    /// answer (RFC 6583 section 7.1).
    pub max_unresolved: usize,
    /// How often a question is asked before it fails.
    pub attempts: u8,
    /// Time between two attempts.
    pub retry: Duration,
    /// How long an answer is good for; a neighbour's own time is 0.5 to 1.5 of it, so that not
    /// all are checked at once.
    pub reachable: Duration,
    /// How often a neighbour past that time is looked at for use.
    pub delay: Duration,
    /// How long a neighbour that failed is not asked for again.
    pub hold_down: Duration,
    /// How long a neighbour that nobody sends to is remembered.
    pub forget: Duration,
    /// How long a MAC address just learned holds out against unsolicited ones.
    pub settle: Duration,
    /// How often a newly owned address is announced.
    pub announcements: u8,
    /// Time between two announcements (RFC 5227 section 1.1: 2 s at most).
    pub announce_interval: Duration,
    /// The most announcements and listener reports per second, on all VLANs together; 0 is taken
    /// for 1. What is due beyond that follows, in order.
    pub announce_rate: u32,
    /// How many of them may be sent at once after a time without; 0 is taken for 1.
    pub announce_burst: u32,
    /// The shortest time between two defences of an address (RFC 5227 section 2.4).
    pub defend_interval: Duration,
    /// Keys the table's hash; random per start.
    pub seed: u64,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            max_neighbors: 16_384,
            max_unresolved: 4_096,
            attempts: 3,
            retry: Duration::from_secs(1),
            reachable: Duration::from_secs(30),
            delay: Duration::from_secs(5),
            hold_down: Duration::from_secs(5),
            forget: Duration::from_mins(1),
            settle: Duration::from_secs(1),
            announcements: 3,
            announce_interval: Duration::from_secs(1),
            announce_rate: 1000,
            announce_burst: 250,
            defend_interval: Duration::from_secs(10),
            seed: 0,
        }
    }
}

/// A frame to send by a VLAN's ports, each with its own MAC address in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    /// The VLAN it belongs to.
    pub vlan: VlanIndex,
    /// Of ports in one segment, which of them sends it, as a number for
    /// [`choose`](crate::segment::choose); `None`: all of them send it.
    pub spread: Option<u64>,
    encap: Encap,
    to: MacAddr,
    body: Body,
}

impl Emit {
    pub(crate) fn new(vlan: &Vlan, body: Body, to: MacAddr, spread: Option<u64>) -> Self {
        Self {
            vlan: vlan.index,
            spread,
            encap: vlan.encap,
            to,
            body,
        }
    }

    /// The frame as the port with the MAC address `ours` sends it: with its tags in it, at least 60
    /// octets. There is room for every frame of ours, so it is never `None`.
    pub fn frame(&self, ours: MacAddr) -> Option<Frame> {
        self.body.frame(self.to, ours, self.encap)
    }
}

/// Where a neighbour stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NeighborState {
    /// Asked for, never answered yet.
    Pending,
    /// Answered a short while ago.
    Reachable,
    /// Known, but not lately confirmed; nobody sends to it.
    Stale,
    /// Known and in use; being asked whether it is still there.
    Probing,
    /// Does not answer.
    Failed,
}

impl NeighborState {
    /// The state's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probing => "probing",
            Self::Failed => "failed",
        }
    }
}

/// One neighbour, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborInfo {
    /// Where it is.
    pub vlan: VlanIndex,
    /// Its address.
    pub addr: Addr,
    /// Its MAC address, if it is known.
    pub mac: Option<MacAddr>,
    /// Where it stands.
    pub state: NeighborState,
    /// Since when.
    pub since: Timestamp,
    /// When it was last known to receive what we send.
    pub confirmed: Option<Timestamp>,
}

/// What the resolver did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// ARP requests and neighbour solicitations sent.
    pub solicitations: u64,
    /// Announcements sent, defences included.
    pub announcements: u64,
    /// Multicast listener reports sent.
    pub reports: u64,
    /// Neighbours whose MAC address became known.
    pub resolved: u64,
    /// Neighbours that did not answer.
    pub failed: u64,
    /// Neighbours that changed their MAC address.
    pub moved: u64,
    /// Conflicts over an address of ours seen.
    pub conflicts: u64,
    /// Neighbours pushed out to make room.
    pub evicted: u64,
    /// Neighbours there was no room for.
    pub no_room: u64,
    /// Events that were refused: off-link, ours, unasked for, or on an unknown VLAN.
    pub refused: u64,
}

/// What the parts of the resolver share.
#[derive(Debug)]
struct Shared {
    config: ResolverConfig,
    vlans: BTreeMap<VlanIndex, Vlan>,
    owned: Owned,
    counters: Counters,
}

/// The state machine. One per process, on the control thread.
#[derive(Debug)]
pub struct Resolver {
    shared: Shared,
    entries: Entries,
    announcements: Announcements,
    conflicts: Conflicts,
    /// Announces our addresses when others use them too.
    defends: bool,
}

impl Resolver {
    /// Knows no VLAN and no neighbour.
    pub fn new(mut config: ResolverConfig) -> Self {
        // With no time between two looks at a neighbour, one poll would look for ever.
        config.delay = config.delay.max(Duration::from_millis(1));
        Self {
            entries: Entries::new(&config),
            shared: Shared {
                config,
                vlans: BTreeMap::new(),
                owned: Owned::new(),
                counters: Counters::default(),
            },
            announcements: Announcements::new(&config),
            conflicts: Conflicts::default(),
            defends: true,
        }
    }

    /// The table for workers to read.
    pub fn neighbors(&self) -> &Arc<Neighbors> {
        self.entries.table()
    }

    /// Takes a configuration. What is newly owned, or owned by another MAC address, at other ports or
    /// behind other tags than before, is announced; what is no longer owned is forgotten, and so are neighbours
    /// that are no longer on-link.
    ///
    /// A virtual address is announced on the VLANs where it is on-link: elsewhere it is reached by
    /// a route, and nobody has it in a neighbour table. It is answered for on all of its VLANs.
    pub fn set_vlans(&mut self, table: &Table, owned: &Owned, now: Timestamp) {
        let before = std::mem::take(&mut self.shared.vlans);
        self.shared.vlans = table
            .iter()
            .map(|vlan| (vlan.index, vlan.clone()))
            .collect();
        let owned_before = std::mem::replace(&mut self.shared.owned, owned.clone());
        // The same station on the same broadcast domain: what was known and said still holds.
        let same = |index: VlanIndex, old: &BTreeMap<VlanIndex, Vlan>, new: &BTreeMap<_, Vlan>| {
            old.get(&index).zip(new.get(&index)).is_some_and(|(a, b)| {
                (&a.name, a.encap, a.mac) == (&b.name, b.encap, b.mac)
                    && a.ports.first() == b.ports.first()
            })
        };
        // And it says so by the same ports, with the same MAC addresses.
        let said = |index: VlanIndex, old: &BTreeMap<VlanIndex, Vlan>, new: &BTreeMap<_, Vlan>| {
            old.get(&index)
                .zip(new.get(&index))
                .is_some_and(|(a, b)| (&a.ports, &a.macs) == (&b.ports, &b.macs))
        };
        self.entries.retain(|vlan, addr| {
            same(vlan, &before, &self.shared.vlans)
                && owned.get(vlan, &addr).is_none()
                && self
                    .shared
                    .vlans
                    .get(&vlan)
                    .is_some_and(|v| v.can_be_neighbor(addr.ip()))
        });
        self.conflicts
            .retain(|vlan, addr| owned.get(vlan, &addr).is_some());
        self.announcements.retain(owned);
        for (vlan, addr, owner) in owned.iter() {
            if !is_announced(&self.shared.vlans, vlan, addr, owner) {
                continue;
            }
            let known = owned_before
                .get(vlan, &addr)
                .is_some_and(|owner| is_announced(&before, vlan, addr, owner))
                && same(vlan, &before, &self.shared.vlans)
                && said(vlan, &before, &self.shared.vlans);
            if !known {
                self.announcements.add(&self.shared, vlan, addr, now);
            }
        }
    }

    /// Announces all addresses on a VLAN again: its link came up, or moved to another switch.
    pub fn announce(&mut self, vlan: VlanIndex, now: Timestamp) {
        for (addr, owner) in self.shared.owned.addresses(vlan) {
            if is_announced(&self.shared.vlans, vlan, addr, owner) {
                self.announcements.add(&self.shared, vlan, addr, now);
            }
        }
    }

    /// Leaves our addresses to whoever else announces them, from now on.
    pub fn stop_defending(&mut self) {
        self.defends = false;
    }

    /// Takes a worker's finding. Never sends by itself: poll afterwards. Gives a conflict that the
    /// operator should hear of: when it is seen first, and each time the address is defended.
    pub fn on_event(&mut self, event: Event, now: Timestamp) -> Option<Conflict> {
        match event {
            Event::Needed { vlan, addr } => self.entries.needed(&mut self.shared, vlan, addr, now),
            Event::Learned {
                vlan,
                addr,
                mac,
                how,
            } => self
                .entries
                .learned(&mut self.shared, vlan, addr, mac, how, now),
            Event::Confirmed { vlan, addr } => {
                self.entries.confirmed(&mut self.shared, vlan, addr, now);
            }
            Event::Queried { vlan, group } => {
                self.announcements.queried(&self.shared, vlan, group, now);
            }
            // Of our own ports, not of neighbours.
            Event::Probed { .. } => {}
            Event::Conflict { vlan, addr, mac } => {
                let conflict = self.conflicts.seen(&mut self.shared, vlan, addr, mac, now);
                if conflict.is_some() && self.defends {
                    self.announcements.defend(vlan, addr, now);
                }
                return conflict;
            }
        }
        None
    }

    /// Does what is due, up to the next frame to send; `None` when nothing is due any more. The
    /// caller bounds how many frames it takes in one go.
    pub fn poll(&mut self, now: Timestamp) -> Option<Emit> {
        self.conflicts.expire(now);
        self.entries
            .poll(&mut self.shared, now)
            .or_else(|| self.announcements.poll(&mut self.shared, now))
    }

    /// When [`poll`](Self::poll) has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.entries.next_deadline(),
            self.announcements.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// All neighbours, by VLAN and address.
    pub fn snapshot(&self) -> Vec<NeighborInfo> {
        self.entries.snapshot()
    }

    /// Conflicts over addresses of ours, by VLAN and address; those that were heard of within the
    /// last ten minutes.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.conflicts.snapshot()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }
}

/// Whether anybody on the VLAN can have this address of ours in a neighbour table.
fn is_announced(
    vlans: &BTreeMap<VlanIndex, Vlan>,
    vlan: VlanIndex,
    addr: Addr,
    owner: Owner,
) -> bool {
    owner == Owner::SelfIp || vlans.get(&vlan).is_some_and(|vlan| vlan.on_link(addr.ip()))
}
