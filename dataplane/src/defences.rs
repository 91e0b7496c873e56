//! What all workers share to hold off too much of something: how many connections each client has, and which
//! clients have shown that their addresses are their own.
//!
//! Words that any worker changes with one atomic step: no locks, a fixed size, and nothing is touched unless
//! a virtual server asks for it. They are changed per connection, never per packet.

mod clients;
#[cfg(test)]
mod clients_tests;
mod proofs;

/// What counting is made of. Its own test puts a model checker's here.
mod shared {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};

    use zerocopy::FromZeros;

    /// Words in a bucket.
    pub(super) const WAYS: usize = 16;
    /// Clients there is room for at least.
    pub(super) const LEAST: usize = 1 << 12;
    /// How often a worker tries to count a connection while others change the same words.
    pub(super) const TRIES: usize = 64;

    /// Zero pages, none of which is there before it is touched.
    pub(super) fn zeroes(words: usize) -> Box<[AtomicU64]> {
        <[AtomicU64]>::new_box_zeroed_with_elems(words).unwrap_or_default()
    }
}

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use lb::VirtualServerId;
use net::{Addr, FlowKey, Timestamp};
use siphasher::sip::SipHasher24;

use clients::Clients;
pub use clients::Entered;
use proofs::Proofs;

/// How long a cookie is good for, at least: 2^36 ns, 68 s.
const COOKIE_SHIFT: u32 = 36;

/// What the workers share; made once, when tmm starts.
#[derive(Debug)]
pub struct Defences {
    /// Nobody outside knows it: drawn at random per start.
    key: (u64, u64),
    /// Flows that all workers hold at most.
    flows: usize,
    clients: OnceLock<Clients>,
    proofs: OnceLock<Proofs>,
}

/// A client of a virtual server, by a number that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(u64);

impl Defences {
    /// Nothing is limited yet. `flows`: how many all workers hold at most.
    pub const fn new(seed: u64, flows: usize) -> Self {
        Self {
            key: (seed, seed.rotate_left(32) ^ 0x5bd1_e995_9e37_79b9),
            flows,
            clients: OnceLock::new(),
            proofs: OnceLock::new(),
        }
    }

    /// From now on clients may be counted.
    pub(crate) fn count_clients(&self) {
        self.clients.get_or_init(|| Clients::new(self.flows));
    }

    /// From now on clients may be asked for a proof.
    pub(crate) fn ask_for_proofs(&self) {
        self.proofs.get_or_init(Proofs::new);
    }

    /// Octets that counting the clients of so many flows takes, if each has a client of its own.
    pub const fn octets(flows: usize) -> usize {
        Clients::octets(flows)
    }

    fn hash(&self, what: &impl Hash) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        what.hash(&mut hasher);
        hasher.finish()
    }

    /// The client of a virtual server with the address `addr`.
    pub fn client(&self, virtual_server: VirtualServerId, addr: &Addr) -> Client {
        Client(self.hash(&(virtual_server.index() as u64, addr.octets())))
    }

    /// One connection more of a client, if it has fewer than `limit`.
    pub fn enter(&self, client: Client, limit: u32) -> Entered {
        match self.clients.get() {
            Some(clients) => clients.enter(client.0, limit),
            None => Entered::Full,
        }
    }

    /// One connection fewer of a client that had [`enter`](Self::enter)ed one.
    pub fn leave(&self, client: Client) {
        if let Some(clients) = self.clients.get() {
            clients.leave(client.0);
        }
    }

    /// Connections of a client.
    pub fn connections(&self, client: Client) -> u32 {
        self.clients.get().map_or(0, |clients| clients.of(client.0))
    }

    /// The acknowledgement number, and a sequence number, of the question to whoever sends the SYN `syn` with
    /// the tuple `key`. The answer of somebody who gets it is a reset with that number.
    pub fn question(&self, key: &FlowKey, syn: Syn, now: Timestamp) -> (u32, u32) {
        let (cookie, seq) = self.cookie(key, now.as_nanos() >> COOKIE_SHIFT);
        // A number that the client could take for the answer to its SYN would begin a connection.
        let answers = cookie.wrapping_sub(syn.seq.wrapping_add(1)) <= syn.payload_len;
        (cookie ^ if answers { OTHER } else { 0 }, seq)
    }

    /// Whether a reset with the sequence number `seq` answers a question that was asked lately.
    pub fn is_answer(&self, key: &FlowKey, seq: u32, now: Timestamp) -> bool {
        let slot = now.as_nanos() >> COOKIE_SHIFT;
        [slot, slot.wrapping_sub(1)].into_iter().any(|slot| {
            let (cookie, _) = self.cookie(key, slot);
            (cookie ^ seq) & !OTHER == 0
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "both halves of a hash")]
    fn cookie(&self, key: &FlowKey, slot: u64) -> (u32, u32) {
        let ports = (key.sport().0, key.dport().0);
        let hash = self.hash(&(slot, key.src.octets(), key.dst.octets(), ports));
        (hash as u32, (hash >> 32) as u32)
    }

    /// Remembers that packets from `addr` come from there.
    pub fn remember(&self, addr: &Addr, now: Timestamp) {
        if let Some(proofs) = self.proofs.get() {
            proofs.remember(self.hash(addr.octets()), now);
        }
    }

    /// Whether a client at `addr` has shown within the last minutes that it is there.
    pub fn knows(&self, addr: &Addr, now: Timestamp) -> bool {
        let proofs = self.proofs.get();
        proofs.is_some_and(|proofs| proofs.knows(self.hash(addr.octets()), now))
    }
}

/// Set or not: cookies come in pairs.
const OTHER: u32 = 1 << 31;

/// What a question has to know of a SYN.
#[derive(Debug, Clone, Copy)]
pub struct Syn {
    /// Its sequence number.
    pub seq: u32,
    /// Octets of data with it (RFC 7413).
    pub payload_len: u32,
}

#[cfg(test)]
mod tests {
    use net::{IpProto, L4Port};
    use proptest::prelude::*;

    use super::*;

    fn key(sport: u16) -> FlowKey {
        FlowKey::new(
            Addr::from_v4([192, 0, 2, 7]),
            Addr::from_v4([203, 0, 113, 10]),
            L4Port(sport),
            L4Port(80),
            IpProto::TCP,
        )
    }

    const fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    proptest! {
        #[test]
        fn a_question_is_never_an_answer_to_the_syn_and_its_own_answer_is_known_for_a_minute(
            seq: u32, payload_len in 0..1460_u32, sport: u16, begun in 0..u64::MAX / 2, waits in 0..60_000_000_000_u64,
        ) {
            let defences = Defences::new(begun, 0);
            let syn = Syn { seq, payload_len };
            let (cookie, _) = defences.question(&key(sport), syn, at(begun));
            let acknowledges = cookie.wrapping_sub(seq.wrapping_add(1)) <= payload_len;
            prop_assert!(!acknowledges);
            prop_assert!(defences.is_answer(&key(sport), cookie, at(begun + waits)));
            prop_assert!(!defences.is_answer(&key(sport), cookie.wrapping_add(1), at(begun)));
            prop_assert!(!defences.is_answer(&key(sport.wrapping_add(1)), cookie, at(begun)));
            prop_assert!(!defences.is_answer(&key(sport), cookie, at(begun + (2 << COOKIE_SHIFT))));
        }
    }

    #[test]
    fn there_is_room_for_as_many_clients_as_flows_from_the_first_configuration_on() {
        let flows = 20_000;
        let defences = Defences::new(1, flows);
        defences.count_clients();
        let refused = (0..20_000_u32)
            .map(|n| Addr::from_v4((n + 1).to_be_bytes()))
            .filter(|addr| {
                let client =
                    defences.client(VirtualServerId::from(std::num::NonZeroU32::MIN), addr);
                defences.enter(client, 1) != Entered::Counted
            })
            .count();
        assert!(refused < flows / 1000, "{refused}");
    }

    #[test]
    fn a_number_that_would_acknowledge_the_syn_is_replaced_by_its_twin() {
        let defences = Defences::new(1, 0);
        let syn = |seq| Syn {
            seq,
            payload_len: 0,
        };
        let (cookie, _) = defences.question(&key(1), syn(0), at(0));
        let (twin, _) = defences.question(&key(1), syn(cookie.wrapping_sub(1)), at(0));
        assert_eq!(twin, cookie ^ OTHER);
        assert!(defences.is_answer(&key(1), twin, at(0)));
    }
}
