//! Some of our addresses, about which each new flow asks whether it comes from or goes to one of them. Nearly none
//! does, so most are told by a bit.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use net::Addr;

/// Words of the filter: 1,024 bits are enough for some hundred addresses, and right for any number.
const WORDS: usize = 16;

/// A set of addresses. Only the configuration puts any in, so that the hash needs no secret.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    all: HashSet<Addr, FixedState>,
    /// The bit of each address is set.
    filter: [u64; WORDS],
}

/// The word and bit of an address.
#[inline]
fn place(addr: &Addr) -> (usize, u64) {
    let [high, low] = addr.octets().as_chunks::<8>().0 else {
        return (0, 1);
    };
    // The lower half of an address tells more, and is most of an IPv4 one.
    let word = u64::from_ne_bytes(*high).rotate_left(32) ^ u64::from_ne_bytes(*low);
    let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = usize::try_from(mixed >> 60).unwrap_or(0);
    (at % WORDS, 1 << (mixed >> 54 & 63))
}

impl Addresses {
    /// Whether an address is among them.
    #[inline]
    pub fn contains(&self, addr: &Addr) -> bool {
        let (word, bit) = place(addr);
        self.filter[word] & bit != 0 && self.all.contains(addr)
    }

    /// Adds an address.
    pub fn insert(&mut self, addr: Addr) {
        let (word, bit) = place(&addr);
        self.filter[word] |= bit;
        self.all.insert(addr);
    }

    /// All of them, in no order.
    pub fn iter(&self) -> hashbrown::hash_set::Iter<'_, Addr> {
        self.all.iter()
    }

    /// Takes out those for which `keep` answers no.
    pub fn retain(&mut self, keep: impl FnMut(&Addr) -> bool) {
        self.all.retain(keep);
    }
}

impl FromIterator<Addr> for Addresses {
    fn from_iter<T: IntoIterator<Item = Addr>>(addrs: T) -> Self {
        let mut all = Self::default();
        addrs.into_iter().for_each(|addr| all.insert(addr));
        all
    }
}

impl<'a> Extend<&'a Addr> for Addresses {
    fn extend<T: IntoIterator<Item = &'a Addr>>(&mut self, addrs: T) {
        addrs.into_iter().for_each(|addr| self.insert(*addr));
    }
}

impl<'a> IntoIterator for &'a Addresses {
    type Item = &'a Addr;
    type IntoIter = hashbrown::hash_set::Iter<'a, Addr>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_in_are_found_and_no_others_however_many_they_are() {
        let addr = |n: u16| {
            let [a, b] = n.to_be_bytes();
            match n % 3 {
                0 => Addr::from_v4([192, 0, a, b]),
                1 => Addr::from_v6([0x20, 1, 0xd, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                _ => Addr::from_v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b]),
            }
        };
        for count in [0, 1, 5, 100, 5000] {
            let mut some: Addresses = (0..count).map(addr).collect();
            for n in 0..10_000 {
                assert_eq!(some.contains(&addr(n)), n < count, "{n} of {count}");
            }
            some.retain(|other| *other != addr(0));
            assert!(!some.contains(&addr(0)));
            let mut all: Addresses = [addr(0)].into_iter().collect();
            all.extend(&some);
            assert_eq!(all.iter().count(), usize::from(count.max(1)));
        }
    }
}
