//! Announcing the addresses we own: ARP announcements (RFC 5227 section 3) and unsolicited
//! neighbour advertisements (RFC 4861 section 7.2.6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{Addr, MacAddr, Timestamp, VlanIndex};

use super::{Emit, Shared};
use crate::frame::{
    ADVERTISEMENT, ALL_NODES, ARP_REQUEST, ArpFields, Body, Frame, NdFields, OVERRIDE, ROUTER,
    TARGET_LINK_LAYER,
};
use crate::table::Vlan;

type Key = (VlanIndex, Addr);

/// One address on its way to being known.
#[derive(Debug, Clone, Copy)]
struct Pending {
    left: u8,
    due: Timestamp,
}

/// The announcements still to be made; as many as addresses owned, at most.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    pending: BTreeMap<Key, Pending>,
    due: BTreeSet<(Timestamp, Key)>,
}

impl Announcements {
    /// Announces `addr` from now on, as often as configured. A VLAN's link-local address is made of
    /// its MAC address and comes with it: nobody had it before.
    pub(super) fn add(&mut self, shared: &Shared, vlan: VlanIndex, addr: Addr, now: Timestamp) {
        let derived = shared
            .vlans
            .get(&vlan)
            .is_none_or(|v| addr.ip() == v.link_local());
        if !derived {
            self.set((vlan, addr), shared.config.announcements, now);
        }
    }

    /// Announces `addr` once more, unless it is being announced anyway.
    pub(super) fn defend(&mut self, vlan: VlanIndex, addr: Addr, now: Timestamp) {
        if !self.pending.contains_key(&(vlan, addr)) {
            self.set((vlan, addr), 1, now);
        }
    }

    fn set(&mut self, key: Key, left: u8, due: Timestamp) {
        if let Some(old) = self.pending.remove(&key) {
            self.due.remove(&(old.due, key));
        }
        if left > 0 {
            self.pending.insert(key, Pending { left, due });
            self.due.insert((due, key));
        }
    }

    /// Forgets what is no longer to be announced.
    pub(super) fn retain(&mut self, keep: impl Fn(VlanIndex, Addr) -> bool) {
        self.pending.retain(|&(vlan, addr), _| keep(vlan, addr));
        self.due.retain(|&(_, (vlan, addr))| keep(vlan, addr));
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|&(due, _)| due)
    }

    pub(super) fn poll(&mut self, shared: &mut Shared, now: Timestamp) -> Option<Emit> {
        while let Some(&(due, key)) = self.due.first() {
            if due > now {
                break;
            }
            let left = self.pending.get(&key).map_or(0, |p| p.left);
            let next = now + shared.config.announce_interval;
            self.set(key, left.saturating_sub(1), next);
            let (vlan, addr) = key;
            let frame = shared
                .vlans
                .get(&vlan)
                .and_then(|vlan| announcement(vlan, addr));
            if let Some(frame) = frame {
                shared.counters.announcements += 1;
                return Some(Emit { vlan, frame });
            }
        }
        None
    }
}

/// The frame that tells everybody on the VLAN that `addr` is at our MAC address.
fn announcement(vlan: &Vlan, addr: Addr) -> Option<Frame> {
    match addr.ip() {
        IpAddr::V4(addr) => Body::Arp(ArpFields {
            oper: ARP_REQUEST,
            sender: (vlan.mac, addr),
            target: (MacAddr::ZERO, addr),
        })
        .frame(MacAddr::BROADCAST, vlan),
        IpAddr::V6(addr) => Body::Nd(NdFields {
            kind: ADVERTISEMENT,
            flags: ROUTER | OVERRIDE,
            src: addr,
            dst: ALL_NODES,
            target: addr,
            option: (TARGET_LINK_LAYER, vlan.mac),
        })
        .frame(MacAddr::ipv6_multicast(ALL_NODES), vlan),
    }
}
