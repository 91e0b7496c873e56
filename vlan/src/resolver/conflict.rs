//! Addresses of ours that another station uses too (RFC 5227 section 2.4).

use std::collections::BTreeMap;

use net::{Addr, MacAddr, Timestamp, VlanIndex};

use super::Shared;

/// The most addresses that conflicts are remembered for.
const MAX_CONFLICTS: usize = 1024;

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
}

impl Conflicts {
    /// Records a conflict; says whether to defend the address now. We keep it whatever the other
    /// does, and say so once per interval: two stubborn stations must not flood the link.
    pub(super) fn seen(
        &mut self,
        shared: &mut Shared,
        vlan: VlanIndex,
        addr: Addr,
        mac: MacAddr,
        now: Timestamp,
    ) -> bool {
        if shared.owned.get(vlan, &addr).is_none() {
            shared.counters.refused += 1;
            return false;
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
            return defend;
        }
        if self.by_addr.len() >= MAX_CONFLICTS {
            shared.counters.no_room += 1;
            return false;
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
        true
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
