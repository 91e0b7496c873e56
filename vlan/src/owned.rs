//! Which addresses are ours.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use net::{Addr, VlanIndex};

use crate::table::Table;

/// Why an address is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A self IP, or the link-local address of a VLAN.
    SelfIp,
    /// The address of a live virtual server.
    Virtual,
    /// An address of a SNAT pool.
    SnatPool,
}

/// An address on a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(VlanIndex, Addr);

impl Hash for Place {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A few words cost less than octets and their number: each new flow asks.
        let [a, b] = self.1.octets().as_chunks::<8>().0 else {
            return;
        };
        state.write_u64(u64::from_ne_bytes(*a));
        state.write_u64(u64::from_ne_bytes(*b));
        state.write_u16(self.0.0);
    }
}

/// The addresses we own, per VLAN: those that ARP, neighbour discovery and echo are answered for.
///
/// A virtual server for a whole prefix owns no address: traffic comes to it by a route, and
/// answering ARP for all of a prefix would hijack it.
#[derive(Debug, Clone, Default)]
pub struct Owned {
    /// Only the configuration puts keys in, so that the hash needs no secret.
    owners: HashMap<Place, Owner, FixedState>,
    by_vlan: BTreeMap<VlanIndex, Vec<Addr>>,
}

impl Owned {
    /// Nothing is owned.
    pub fn new() -> Self {
        Self::default()
    }

    /// The self IPs and link-local addresses of `table`; virtual addresses are added by
    /// [`insert`](Self::insert).
    pub fn of_table(table: &Table) -> Self {
        let mut owned = Self::new();
        for vlan in table {
            for ip in &vlan.self_ips {
                owned.insert(vlan.index, ip.addr, Owner::SelfIp);
            }
            owned.insert(vlan.index, vlan.link_local(), Owner::SelfIp);
        }
        owned
    }

    /// Takes an address on a VLAN. One that is taken already keeps its owner, except that a self IP
    /// stays or becomes one: the VLAN speaks from it.
    pub fn insert(&mut self, vlan: VlanIndex, addr: impl Into<std::net::IpAddr>, owner: Owner) {
        let addr = Addr::from(addr.into());
        match self.owners.entry(Place(vlan, addr)) {
            hashbrown::hash_map::Entry::Occupied(mut entry) => {
                let kept = (*entry.get()).min(owner);
                entry.insert(kept);
            }
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(owner);
                self.by_vlan.entry(vlan).or_default().push(addr);
            }
        }
    }

    /// Gives an address on a VLAN up.
    pub fn remove(&mut self, vlan: VlanIndex, addr: &Addr) {
        self.owners.remove(&Place(vlan, *addr));
        if let Some(addrs) = self.by_vlan.get_mut(&vlan) {
            addrs.retain(|other| other != addr);
        }
    }

    /// Whose address this is on this VLAN, if it is ours.
    #[inline]
    pub fn get(&self, vlan: VlanIndex, addr: &Addr) -> Option<Owner> {
        self.owners.get(&Place(vlan, *addr)).copied()
    }

    /// All addresses, by VLAN and in the order they were taken.
    pub fn iter(&self) -> impl Iterator<Item = (VlanIndex, Addr, Owner)> + '_ {
        self.by_vlan
            .iter()
            .flat_map(|(&vlan, addrs)| addrs.iter().map(move |&addr| (vlan, addr)))
            .filter_map(|(vlan, addr)| Some((vlan, addr, self.get(vlan, &addr)?)))
    }

    /// The addresses on one VLAN, in the order they were taken.
    pub fn addresses(&self, vlan: VlanIndex) -> impl Iterator<Item = (Addr, Owner)> + '_ {
        self.by_vlan
            .get(&vlan)
            .into_iter()
            .flatten()
            .filter_map(move |&addr| Some((addr, self.get(vlan, &addr)?)))
    }

    /// How many addresses are owned, counted once per VLAN.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether nothing is owned.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EXTERNAL, vlan};

    #[test]
    fn a_self_ip_is_owned_on_its_own_vlan_only() {
        let mut other = vlan(2, 200);
        other.self_ips.clear();
        let table = Table::new(vec![vlan(1, 100), other]).unwrap();
        let owned = Owned::of_table(&table);
        let addr = Addr::from_v4([192, 0, 2, 1]);
        assert_eq!(owned.get(EXTERNAL, &addr), Some(Owner::SelfIp));
        assert_eq!(owned.get(VlanIndex(2), &addr), None);
        let link_local = Addr::from(std::net::IpAddr::from(
            table.get(EXTERNAL).unwrap().link_local(),
        ));
        assert_eq!(link_local.to_string(), "fe80::5eff:fe00:101");
        assert_eq!(owned.get(EXTERNAL, &link_local), Some(Owner::SelfIp));
    }

    #[test]
    fn an_address_owned_twice_is_counted_once_and_stays_a_self_ip() {
        let mut owned = Owned::new();
        let ip: std::net::IpAddr = "192.0.2.10".parse().unwrap();
        let addr = Addr::from(ip);
        owned.insert(EXTERNAL, ip, Owner::Virtual);
        assert_eq!(owned.get(EXTERNAL, &addr), Some(Owner::Virtual));
        owned.insert(EXTERNAL, ip, Owner::SelfIp);
        owned.insert(EXTERNAL, ip, Owner::Virtual);
        owned.insert(VlanIndex(9), ip, Owner::Virtual);
        assert_eq!(owned.len(), 2);
        assert_eq!(
            owned.iter().collect::<Vec<_>>(),
            [
                (EXTERNAL, addr, Owner::SelfIp),
                (VlanIndex(9), addr, Owner::Virtual)
            ]
        );
        assert_eq!(
            owned.addresses(EXTERNAL).collect::<Vec<_>>(),
            [(addr, Owner::SelfIp)]
        );
        assert_eq!(owned.addresses(VlanIndex(3)).count(), 0);
    }
}
