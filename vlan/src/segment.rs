//! Several ports of a VLAN in one segment: how it is found out, and which of them speaks to whom.
//!
//! Two virtual functions of one card are two stations of the same segment, each with its own MAC address.
//! A question that everybody hears comes in at both, and its asker must get one answer, always the
//! same one. So the pair of addresses, asker and target, names the port: neighbours are spread over the
//! ports, and so are the addresses that one router asks for.
//!
//! Which ports are in one segment is learned: each sends a probe now and then, and where it is heard by
//! another, the two are together, until it is no longer heard or a link changes. A probe carries a
//! number that holds for one VLAN and about a minute, and that nobody can know who does not hear it: a
//! station cannot make us believe that its segment is another's, too, unless it has ears there.

mod probe;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use net::{Addr, MacAddr, PortId, Timestamp, VlanIndex};

use crate::resolver::Emit;
use crate::table::{Table, Vlan};

pub(crate) use probe::nonce;
pub use probe::{PROBE_ETHERTYPE, hear, question};

/// Time between two probes of a port.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same at first, and how many are sent so: a bridge may take a while before it forwards.
const AT_FIRST: Duration = Duration::from_secs(1);
const FIRST: u8 = 3;
/// How long a probe holds: three may be lost.
const HOLDS: Duration = Duration::from_secs(35);
/// The most ports of a VLAN that are grouped; those beyond are each alone.
pub const MAX_TOGETHER: usize = 64;

/// Names one of several ports for what `asker` and `target` have to say to each other; see [`choose`].
pub fn spread(asker: &Addr, target: &Addr) -> u64 {
    FixedState::default().hash_one((asker, target))
}

/// Which of `count` ports in one segment a [`spread`] means; `None` if there is none.
pub fn choose(spread: u64, count: usize) -> Option<usize> {
    // The upper half: the lower bits are those that tables use.
    let at = (spread >> 32).checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(at).ok()
}

/// A VLAN whose ports may be together.
#[derive(Debug)]
struct Group {
    vlan: Vlan,
    /// When the port at one position was last heard at another.
    heard: BTreeMap<(usize, usize), Timestamp>,
    /// When the next probe is due, and how many are due soon.
    due: Timestamp,
    soon: u8,
}

impl Group {
    fn position(&self, port: PortId) -> Option<usize> {
        self.vlan.ports.iter().position(|own| *own == port)
    }

    /// By position, the positions in the same segment as a mask, itself among them.
    fn together(&self) -> Vec<u64> {
        let ports = self.vlan.ports.len();
        let alone = |at: usize| {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            1u64.checked_shl(at).unwrap_or(0)
        };
        let mut masks: Vec<u64> = (0..ports).map(alone).collect();
        let pairs = || self.heard.keys().filter(|(a, b)| a.max(b) < &MAX_TOGETHER);
        // What is together with the same is together: at most as often as there are ports.
        for _ in 0..ports {
            let mut changed = false;
            for (a, b) in pairs() {
                let both = masks.get(*a).zip(masks.get(*b)).map(|(a, b)| a | b);
                for at in [*a, *b] {
                    if let Some((mask, both)) = masks.get_mut(at).zip(both)
                        && *mask != both
                    {
                        *mask = both;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        masks
    }

    fn probe_soon(&mut self, now: Timestamp) {
        self.due = now;
        self.soon = FIRST;
    }
}

/// Finds out which ports are in one segment. On the control thread.
#[derive(Debug)]
pub struct Segments {
    /// Keys the probes' numbers; random per start.
    seed: u64,
    groups: BTreeMap<VlanIndex, Group>,
    /// When the oldest finding may be over.
    look: Option<Timestamp>,
}

impl Segments {
    /// Knows no VLAN.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            groups: BTreeMap::new(),
            look: None,
        }
    }

    /// Takes the VLANs of a configuration. What is known of one stays as long as its ports and tags do.
    pub fn set_vlans(&mut self, table: &Table, now: Timestamp) {
        let mut before = std::mem::take(&mut self.groups);
        for vlan in table.iter().filter(|vlan| vlan.macs.len() > 1) {
            let same = |group: &Group| {
                let old = &group.vlan;
                (&old.ports, &old.macs, old.encap) == (&vlan.ports, &vlan.macs, vlan.encap)
            };
            let group = match before.remove(&vlan.index).filter(same) {
                Some(mut group) => {
                    group.vlan = vlan.clone();
                    group
                }
                None => Group {
                    vlan: vlan.clone(),
                    heard: BTreeMap::new(),
                    due: now,
                    soon: FIRST,
                },
            };
            self.groups.insert(vlan.index, group);
        }
    }

    /// Forgets what is known of a port, whose link has gone up or down, and asks again. Gives the VLANs
    /// that may be affected.
    pub fn link_changed(&mut self, port: PortId, now: Timestamp) -> Vec<VlanIndex> {
        let mut changed = Vec::new();
        for (index, group) in &mut self.groups {
            if let Some(at) = group.position(port) {
                group.heard.retain(|(a, b), _| *a != at && *b != at);
                group.probe_soon(now);
                changed.push(*index);
            }
        }
        changed
    }

    /// A port has heard a frame that says it is a probe, from the MAC address `from`, with the number
    /// `nonce`. Says whether that is news.
    pub fn heard(
        &mut self,
        vlan: VlanIndex,
        at: PortId,
        from: MacAddr,
        nonce: u64,
        now: Timestamp,
    ) -> bool {
        let Some(group) = self.groups.get_mut(&vlan) else {
            return false;
        };
        let number = |epoch| probe::nonce(probe::key(self.seed, group.vlan.encap, epoch), from);
        let epoch = probe::epoch(now);
        if nonce != number(epoch) && nonce != number(epoch.saturating_sub(1)) {
            return false;
        }
        let sender = group.vlan.macs.iter().position(|mac| *mac == from);
        let (Some(sender), Some(at)) = (sender, group.position(at)) else {
            return false;
        };
        self.look.get_or_insert(now + HOLDS);
        sender != at && group.heard.insert((sender, at), now).is_none()
    }

    /// Forgets what was not heard again in time. Gives the VLANs that are affected.
    pub fn expire(&mut self, now: Timestamp) -> Vec<VlanIndex> {
        let mut changed = Vec::new();
        if self.look.is_none_or(|look| now < look) {
            return changed;
        }
        for (index, group) in &mut self.groups {
            let before = group.heard.len();
            group.heard.retain(|_, last| now < *last + HOLDS);
            if group.heard.len() != before {
                changed.push(*index);
            }
        }
        let all = self.groups.values().flat_map(|group| group.heard.values());
        self.look = all.min().map(|oldest| *oldest + HOLDS);
        changed
    }

    /// The next probe that is due, to be sent by every port of its VLAN.
    pub fn poll(&mut self, now: Timestamp) -> Option<Emit> {
        let group = self.groups.values_mut().find(|group| group.due <= now)?;
        let pause = match group.soon.checked_sub(1) {
            Some(left) => {
                group.soon = left;
                AT_FIRST
            }
            None => INTERVAL,
        };
        group.due = now + pause;
        Some(probe::emit(&group.vlan, self.seed, now))
    }

    /// When there is something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = self.groups.values().map(|group| group.due).min();
        [due, self.look].into_iter().flatten().min()
    }

    /// By position among a VLAN's ports, the positions in the same segment as a mask, itself among them;
    /// `None` for a VLAN whose ports speak with one MAC address.
    pub fn together(&self, vlan: VlanIndex) -> Option<Vec<u64>> {
        Some(self.groups.get(&vlan)?.together())
    }
}

#[cfg(test)]
mod tests;
