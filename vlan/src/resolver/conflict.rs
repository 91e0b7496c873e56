//! Addresses of ours that another station uses too (RFC 5227 section 2.4).

use std::collections::BTreeMap;
use std::time::Duration;

use net::{Addr, MacAddr, Timestamp, VlanIndex};

use super::Shared;

/// The most addresses that conflicts are remembered for.
const MAX_CONFLICTS: usize = 1024;

/// How long after the other station was heard last a conflict is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);

/// An address of ours that another station uses too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub vlan: VlanIndex,
    /// The address.
    pub addr: Addr,
    /// The other station, the one heard last.
    pub mac: MacAddr,
    /// How often it was heard.
    pub count: u64,
    /// When it was heard first.
    pub first_seen: Timestamp,
    /// When it was heard last.
    pub last_seen: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    by_addr: BTreeMap<(VlanIndex, Addr), (Conflict, Timestamp)>,
    /// When the first of them may be forgotten; `None` if there is none.
    look: Option<Timestamp>,
}

impl Conflicts {
    /// Records a conflict; gives it if the address is to be defended now. We keep it whatever the
    /// other does, and say so once per interval: two stubborn stations must not flood the link.
    pub(super) fn seen(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        mac: MacAddr,
        now: Timestamp,
    ) -> Option<Conflict> {
        if shared.owned.get(vlan, &addr).is_none() {
            shared.counters.refused += 1;
            return None;
        }
        shared.counters.conflicts += 1;
        let key = (vlan, addr);
        if let Some((conflict, defended)) = self.by_addr.get_mut(&key) {
            conflict.mac = mac;
            conflict.count += 1;
            conflict.last_seen = now;
            let defend = now.since(*defended) >= shared.config.defend_interval;
            if defend {
                *defended = now;
            }
            return defend.then_some(*conflict);
        }
        if self.by_addr.len() >= MAX_CONFLICTS {
            shared.counters.no_room += 1;
            return None;
        }
        let conflict = Conflict {
            vlan,
            addr,
            mac,
            count: 1,
            first_seen: now,
            last_seen: now,
        };
        self.by_addr.insert(key, (conflict, now));
        self.look.get_or_insert(now + REMEMBERED);
        Some(conflict)
    }

    /// Forgets conflicts that are over, as far as one can tell: the other station is silent.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if self.look.is_none_or(|look| now < look) {
            return;
        }
        self.by_addr
            .retain(|_, (conflict, _)| now < conflict.last_seen + REMEMBERED);
        self.look = self
            .by_addr
            .values()
            .map(|(conflict, _)| conflict.last_seen + REMEMBERED)
            .min();
    }

    /// Forgets conflicts over addresses that are no longer ours.
    pub(super) fn retain(&mut self, keep: impl Fn(VlanIndex, Addr) -> bool) {
        self.by_addr.retain(|&(vlan, addr), _| keep(vlan, addr));
    }

    pub(super) fn snapshot(&self) -> Vec<Conflict> {
        self.by_addr
            .values()
            .map(|&(conflict, _)| conflict)
            .collect()
    }
}
