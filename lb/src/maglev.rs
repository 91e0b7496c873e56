//! Consistent hashing by a lookup table: Maglev (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Each member has its own permutation of the table's places. In turns, each takes the next place
//! of its permutation that is still free, until none is: the shares differ by one place at most, and
//! a member that comes or goes takes or leaves about its share and disturbs few others. The
//! permutation follows from the member's address and port alone, and turns are taken in an order
//! that does too, so every replica builds the same table.

use net::Addr;

use crate::mix;
use crate::pool::{Member, MemberState};

/// Table sizes: primes, each about eight times the one before. Few steps, because a change of
/// size moves every client; each a hundred times the members at least, the ratio at which the paper
/// finds shares within one per cent.
const SIZES: [usize; 5] = [1_021, 8_191, 65_537, 524_287, 4_194_301];

/// Places per member that a table should have.
const PLACES_PER_MEMBER: usize = 100;

/// A lookup table from clients to members.
#[derive(Clone, Debug)]
pub struct Maglev {
    /// Places in the pool's list of members; empty if none is up.
    table: Box<[u32]>,
}

impl Maglev {
    /// The table of those `members` that are up. Its size follows from the number of all members, so
    /// that it stays while some are down. Past 41,943 members the shares get less even; memory ends
    /// at 16 MiB a pool.
    pub fn new(members: &[Member]) -> Self {
        let wanted = members.len().saturating_mul(PLACES_PER_MEMBER);
        let [.., largest] = SIZES;
        let size = SIZES
            .into_iter()
            .find(|size| *size >= wanted)
            .unwrap_or(largest);
        let mut turns: Vec<Turn> = (0u32..)
            .zip(members)
            .filter(|(_, m)| m.state == MemberState::Up)
            .map(|(place, member)| Turn::new(place, member, size))
            .collect();
        if turns.is_empty() {
            return Self {
                table: Box::default(),
            };
        }
        turns.sort_unstable_by_key(|turn| turn.identity);
        let mut table = vec![u32::MAX; size].into_boxed_slice();
        let mut free = size;
        'full: loop {
            for turn in &mut turns {
                if free == 0 {
                    break 'full;
                }
                // Permutations are whole, so a free place is met within one round of it.
                while let Some(slot) = table.get_mut(turn.next(size)) {
                    if *slot == u32::MAX {
                        *slot = turn.place;
                        free -= 1;
                        break;
                    }
                }
            }
        }
        Self { table }
    }

    /// The place in the pool's list of members of the one that serves `src`.
    #[inline]
    pub fn lookup(&self, src: &Addr) -> Option<usize> {
        let at = mix::reduce(mix::addr(src, 0), self.table.len());
        self.table.get(at).map(|place| *place as usize)
    }

    /// How many places the table has; 0 if no member is up.
    pub fn size(&self) -> usize {
        self.table.len()
    }
}

/// One member while a table is filled.
struct Turn {
    place: u32,
    identity: (Addr, u16),
    at: usize,
    skip: usize,
}

impl Turn {
    fn new(place: u32, member: &Member, size: usize) -> Self {
        let addr = Addr::from(member.addr);
        let port = u64::from(member.port.0);
        Self {
            place,
            identity: (addr, member.port.0),
            at: mix::reduce(mix::addr(&addr, mix::word(port)), size),
            // 1..size, coprime to the prime size: the steps visit every place.
            skip: 1 + mix::reduce(mix::addr(&addr, mix::word(port | 1 << 32)), size - 1),
        }
    }

    fn next(&mut self, size: usize) -> usize {
        let at = self.at;
        self.at += self.skip;
        if self.at >= size {
            self.at -= size;
        }
        at
    }
}

/// How much a client belongs to a member (highest random weight: Thaler, Ravishankar 1998).
pub(crate) fn affinity(member: &Member, src: &Addr) -> u64 {
    let member = mix::addr(&Addr::from(member.addr), u64::from(member.port.0));
    mix::addr(src, member)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use net::L4Port;

    use super::*;
    use crate::Registry;

    fn members(count: u32) -> Vec<Member> {
        let mut registry = Registry::new();
        let pool = registry.pool("p");
        let member = |n: u32| {
            let (addr, port) = (IpAddr::from((0x0a01_0000 + n).to_be_bytes()), L4Port(80));
            Member {
                id: registry.member(pool, addr, port),
                addr,
                port,
                state: MemberState::Up,
            }
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn table_sizes_are_primes() {
        for size in SIZES {
            let divisor = (2..=size.isqrt()).find(|d| size % d == 0);
            assert_eq!(divisor, None, "{size}");
        }
    }

    #[test]
    fn every_place_is_taken_and_shares_differ_by_one_at_most() {
        for count in [1, 2, 10, 11, 81, 82, 300] {
            let maglev = Maglev::new(&members(count));
            assert!(maglev.size() >= count as usize * PLACES_PER_MEMBER);
            let mut shares = vec![0u32; count as usize];
            for place in &maglev.table {
                shares[*place as usize] += 1;
            }
            let most = shares.iter().max().unwrap();
            let least = shares.iter().min().unwrap();
            assert!(most - least <= 1, "{count}: {least} to {most}");
        }
    }

    #[test]
    fn the_size_stays_while_members_are_down() {
        let mut some = members(11);
        let whole = Maglev::new(&some).size();
        for member in &mut some[1..] {
            member.state = MemberState::Down;
        }
        assert_eq!(Maglev::new(&some).size(), whole);
        some[0].state = MemberState::Draining;
        assert_eq!(Maglev::new(&some).size(), 0);
        assert_eq!(
            Maglev::new(&some).lookup(&Addr::from_v4([10, 0, 0, 1])),
            None
        );
    }

    #[test]
    fn a_member_listed_twice_gets_two_shares_and_no_endless_loop() {
        let mut twice = members(3);
        twice.push(twice[0]);
        let maglev = Maglev::new(&twice);
        assert!(maglev.table.iter().all(|place| *place < 4));
    }
}
