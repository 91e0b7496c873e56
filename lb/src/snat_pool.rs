//! SNAT pools: the addresses that clients' addresses are translated to.

use net::Addr;

use crate::mix;

/// A SNAT pool's place in the pools of one configuration generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SnatPoolIndex(pub u16);

/// Addresses to translate to.
///
/// A client is given the same address for all its flows (paired pooling, RFC 4787 REQ-2): the one that
/// the hash of both likes best (Thaler, Ravishankar 1998, "highest random weight"), so an address that
/// comes takes its share from all others and one that goes leaves the other clients where they are.
/// Where it has no port left, the flow is refused rather than given another address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnatPool {
    name: String,
    v4: Vec<Addr>,
    v6: Vec<Addr>,
}

impl SnatPool {
    /// A pool of addresses of either family.
    pub fn new(name: impl Into<String>, addresses: impl IntoIterator<Item = Addr>) -> Self {
        let (v4, v6) = addresses.into_iter().partition(Addr::is_v4);
        Self {
            name: name.into(),
            v4,
            v6,
        }
    }

    /// The operator's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = &Addr> {
        self.v4.iter().chain(&self.v6)
    }

    /// Whether an address is one of its own. The cost grows with their number.
    pub fn has(&self, addr: &Addr) -> bool {
        let all = if addr.is_v4() { &self.v4 } else { &self.v6 };
        all.contains(addr)
    }

    /// The address for a client's flows, of its family; `None` if there is none. The cost grows with the
    /// number of addresses.
    #[inline]
    pub fn address_for(&self, client: &Addr) -> Option<Addr> {
        let all = if client.is_v4() { &self.v4 } else { &self.v6 };
        if let [only] = all[..] {
            return Some(only);
        }
        let client = mix::addr(client, 0);
        let weight = |addr: &&Addr| mix::word(client ^ mix::addr(addr, 1));
        all.iter().max_by_key(weight).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8) -> Addr {
        Addr::from_v4([192, 0, a, b])
    }

    #[test]
    fn a_client_keeps_its_address_and_clients_are_spread_evenly() {
        let pool = SnatPool::new("p", (1..=4).map(|n| v4(2, n)));
        let mut counts = [0u32; 5];
        for n in 0..=255 {
            for net in 10..14 {
                let addr = pool.address_for(&v4(net, n)).unwrap();
                assert_eq!(pool.address_for(&v4(net, n)), Some(addr));
                counts[usize::from(addr.v4_octets()[3])] += 1;
            }
        }
        assert!(
            counts[1..].iter().all(|n| (200..320).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn only_the_clients_of_an_address_that_goes_move() {
        let before = SnatPool::new("p", (1..=4).map(|n| v4(2, n)));
        let after = SnatPool::new("p", [1, 2, 4].map(|n| v4(2, n)));
        for n in 0..=255 {
            let was = before.address_for(&v4(10, n)).unwrap();
            if was != v4(2, 3) {
                assert_eq!(after.address_for(&v4(10, n)), Some(was));
            }
        }
    }

    #[test]
    fn families_do_not_mix_and_an_empty_pool_has_no_address() {
        let six = Addr::from("2001:db8::1".parse::<std::net::IpAddr>().unwrap());
        let pool = SnatPool::new("p", [six, v4(2, 1)]);
        assert_eq!(pool.address_for(&v4(9, 9)), Some(v4(2, 1)));
        assert_eq!(pool.address_for(&six), Some(six));
        assert_eq!(SnatPool::new("p", [six]).address_for(&v4(9, 9)), None);
        assert_eq!(SnatPool::default().address_for(&six), None);
    }
}
