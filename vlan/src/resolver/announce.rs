//! Announcing the addresses we own: ARP announcements (RFC 5227 section 3), unsolicited neighbour
//! advertisements (RFC 4861 section 7.2.6), and reports that we listen to the groups of our IPv6
//! addresses (RFC 3810): a switch that snoops on those would otherwise keep solicitations from us.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use net::{Addr, MacAddr, Timestamp, VlanIndex};

use super::{Emit, ResolverConfig, Shared};
use crate::frame::{
    ADVERTISEMENT, ALL_MLDV2, ALL_NODES, ARP_REQUEST, ArpFields, Body, MODE_IS_EXCLUDE, NdFields,
    OVERRIDE, ROUTER, ReportFields, TARGET_LINK_LAYER, TO_EXCLUDE_MODE, solicited_node,
};
use crate::owned::Owned;
use crate::segment::spread;
use crate::table::Vlan;

/// What is told. Of what is due at once, groups come first: the answers to an announcement need
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// We listen to this group from now on.
    Joined(Ipv6Addr),
    /// We listen to this group, since somebody asks.
    Listening(Ipv6Addr),
    /// This address is at our MAC address.
    Address(Addr),
}

type Key = (VlanIndex, Subject);

/// One subject on its way to being known.
#[derive(Debug, Clone, Copy)]
struct Pending {
    left: u8,
    due: Timestamp,
}

/// The announcements still to be made; a few for each address owned, at most.
#[derive(Debug)]
pub(super) struct Announcements {
    pace: Pace,
    pending: BTreeMap<Key, Pending>,
    due: BTreeSet<(Timestamp, Key)>,
    /// When a query for this group, or for all, was last answered.
    queried: BTreeMap<(VlanIndex, Option<Ipv6Addr>), Timestamp>,
}

/// How many frames per second, and how many at once: a configuration may make a million addresses
/// ours in one go, and neither the link nor its stations must drown in them.
#[derive(Debug)]
struct Pace {
    /// Between two frames.
    interval: Duration,
    /// How far `next` may be ahead: what a burst takes.
    ahead: Duration,
    /// When the next frame would be due if frames were sent one by one.
    next: Timestamp,
}

impl Pace {
    fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            interval,
            ahead: interval * burst.saturating_sub(1),
            next: Timestamp::ZERO,
        }
    }

    /// When a frame may be sent.
    fn opens(&self) -> Timestamp {
        let ahead = u64::try_from(self.ahead.as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_nanos(self.next.as_nanos().saturating_sub(ahead))
    }

    fn sent(&mut self, now: Timestamp) {
        self.next = self.next.max(now) + self.interval;
    }
}

impl Announcements {
    pub(super) fn new(config: &ResolverConfig) -> Self {
        Self {
            pace: Pace::new(config.announce_rate, config.announce_burst),
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            queried: BTreeMap::new(),
        }
    }

    /// Announces `addr` from now on, as often as configured. A VLAN's link-local address is made of
    /// its MAC address and comes with it: nobody had it before, but its group is needed as soon as
    /// the VLAN has another IPv6 address.
    pub(super) fn add(&mut self, shared: &Shared, vlan: VlanIndex, addr: Addr, now: Timestamp) {
        let Some(link_local) = shared.vlans.get(&vlan).map(Vlan::link_local) else {
            return;
        };
        if addr.ip() == link_local {
            return;
        }
        let times = shared.config.announcements;
        self.set((vlan, Subject::Address(addr)), times, now);
        if let IpAddr::V6(addr) = addr.ip() {
            for member in [addr, link_local] {
                let group = solicited_node(member);
                self.set((vlan, Subject::Joined(group)), times, now);
            }
        }
    }

    /// Announces `addr` once more, unless it is being announced anyway.
    pub(super) fn defend(&mut self, vlan: VlanIndex, addr: Addr, now: Timestamp) {
        self.once((vlan, Subject::Address(addr)), now);
    }

    /// Tells who asks which groups we listen to. The same query twice in quick succession is
    /// answered once.
    pub(super) fn queried(
        &mut self,
        shared: &Shared,
        vlan: VlanIndex,
        group: Option<Addr>,
        now: Timestamp,
    ) {
        let Some(link_local) = shared.vlans.get(&vlan).map(Vlan::link_local) else {
            return;
        };
        // Without an IPv6 address of our own, nobody speaks IPv6 to us.
        let members = || owned_v6(&shared.owned, vlan);
        if members().all(|addr| addr == link_local) {
            return;
        }
        let asked = match group.map(|group| group.ip()) {
            None => None,
            Some(IpAddr::V6(group)) if members().any(|a| solicited_node(a) == group) => Some(group),
            Some(_) => return,
        };
        let last = self.queried.get(&(vlan, asked));
        if last.is_some_and(|&last| now.since(last) < shared.config.announce_interval) {
            return;
        }
        self.queried.insert((vlan, asked), now);
        for listening in members().map(solicited_node) {
            if asked.is_none_or(|asked| asked == listening) {
                self.once((vlan, Subject::Listening(listening)), now);
            }
        }
    }

    fn once(&mut self, key: Key, now: Timestamp) {
        if !self.pending.contains_key(&key) {
            self.set(key, 1, now);
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
    pub(super) fn retain(&mut self, owned: &Owned) {
        let groups: BTreeSet<_> = owned
            .iter()
            .filter_map(|(vlan, addr, _)| match addr.ip() {
                IpAddr::V6(addr) => Some((vlan, solicited_node(addr))),
                IpAddr::V4(_) => None,
            })
            .collect();
        let keep = |&(vlan, subject): &Key| match subject {
            Subject::Address(addr) => owned.get(vlan, &addr).is_some(),
            Subject::Joined(group) | Subject::Listening(group) => groups.contains(&(vlan, group)),
        };
        self.pending.retain(|key, _| keep(key));
        self.due.retain(|(_, key)| keep(key));
        self.queried.retain(|&(vlan, group), _| match group {
            Some(group) => groups.contains(&(vlan, group)),
            None => owned.addresses(vlan).next().is_some(),
        });
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let due = self.due.first().map(|&(due, _)| due);
        due.map(|due| due.max(self.pace.opens()))
    }

    pub(super) fn poll(&mut self, shared: &mut Shared, now: Timestamp) -> Option<Emit> {
        while let Some(&(due, key)) = self.due.first() {
            if due.max(self.pace.opens()) > now {
                break;
            }
            let left = self.pending.get(&key).map_or(0, |p| p.left);
            let next = now + shared.config.announce_interval;
            self.set(key, left.saturating_sub(1), next);
            let (vlan, subject) = key;
            if let Some(emit) = shared.vlans.get(&vlan).map(|v| announcement(v, subject)) {
                let counters = &mut shared.counters;
                match subject {
                    Subject::Address(_) => counters.announcements += 1,
                    Subject::Joined(_) | Subject::Listening(_) => counters.reports += 1,
                }
                self.pace.sent(now);
                return Some(emit);
            }
        }
        None
    }
}

fn owned_v6(owned: &Owned, vlan: VlanIndex) -> impl Iterator<Item = Ipv6Addr> + '_ {
    owned
        .addresses(vlan)
        .filter_map(|(addr, _)| match addr.ip() {
            IpAddr::V6(addr) => Some(addr),
            IpAddr::V4(_) => None,
        })
}

/// The frame that tells everybody on the VLAN.
fn announcement(vlan: &Vlan, subject: Subject) -> Emit {
    let report = |record, group| {
        let fields = ReportFields {
            record,
            src: vlan.link_local(),
            group,
        };
        let to = MacAddr::ipv6_multicast(ALL_MLDV2);
        // Each port needs the group: a switch looks at ports, not at stations.
        Emit::new(vlan, Body::Report(fields), to, None)
    };
    match subject {
        Subject::Joined(group) => report(TO_EXCLUDE_MODE, group),
        Subject::Listening(group) => report(MODE_IS_EXCLUDE, group),
        Subject::Address(addr) => {
            let (body, to) = match addr.ip() {
                IpAddr::V4(addr) => (
                    Body::Arp(ArpFields {
                        oper: ARP_REQUEST,
                        sender: addr,
                        target: (MacAddr::ZERO, addr),
                    }),
                    MacAddr::BROADCAST,
                ),
                IpAddr::V6(addr) => (
                    Body::Nd(NdFields {
                        kind: ADVERTISEMENT,
                        flags: ROUTER | OVERRIDE,
                        src: addr,
                        dst: ALL_NODES,
                        target: addr,
                        option: TARGET_LINK_LAYER,
                    }),
                    MacAddr::ipv6_multicast(ALL_NODES),
                ),
            };
            Emit::new(vlan, body, to, Some(spread(&addr, &addr)))
        }
    }
}
