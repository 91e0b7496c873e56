//! Which worker a packet belongs to.
//!
//! Each worker has a flow table of its own, so all packets of a flow must meet one worker, in both
//! directions, whatever the devices do. The answer is a function of the packet and the
//! configuration alone, the same on every worker:
//!
//! | packet | its worker |
//! |---|---|
//! | to a virtual server that translates the client's address | by the hash of its tuple, or of one address if the VLAN's `cmp_hash` says so |
//! | to a virtual server that does not | by the hash of the client's address, all that both directions have in common |
//! | to a self IP or an address of a SNAT pool, from a member | by the hash of its tuple: the source port was chosen so that this is the flow's worker |
//! | to anybody else | by the hash of that address: a reply to a client whose address was not translated |
//!
//! The hash is that of the network cards ([`lb::toeplitz`]), with the key and the table of queues that
//! they are given at the start: where a card spreads over as many queues as there are workers,
//! packets come in at their worker by themselves. Elsewhere, the worker that gets them hands them
//! over. A packet whose flow is in the table of the worker that got it never comes here.
//!
//! Two questions have no single answer: whether a packet to a subnet or to anywhere that some virtual
//! server takes is a reply all the same; and where a flow is that was opened before the virtual
//! server's translation or mapping, or the VLAN's `cmp_hash` was changed. There, the workers that may have the flow
//! are asked in turn before the last one opens a flow or refuses the packet. A packet says who has been
//! asked, so it never goes round.

use config::SpreadHash;
use lb::toeplitz::{KEY_LEN, Toeplitz};
use lb::{Snat, VirtualServer};
use net::{Addr, FlowKey, IpProto, L4Port};

/// Places in the table that leads from a hash to a worker, as cards have it: a power of two.
pub const SPREAD_LEN: usize = 128;
/// The most workers: each has a bit in [`Asked`].
pub const MAX_WORKERS: u16 = 64;

/// How packets are spread over the workers; the same for all of them, fixed from start to end.
#[derive(Debug)]
pub struct Steering {
    workers: u16,
    toeplitz: Toeplitz,
    spread: [u16; SPREAD_LEN],
}

impl Steering {
    /// Everything belongs to the one worker there is.
    pub fn alone() -> Self {
        Self::new(1, 0)
    }

    /// For `workers` workers, 1 to [`MAX_WORKERS`] (what is outside is brought inside), with a key
    /// made from `seed`.
    pub fn new(workers: u16, seed: u64) -> Self {
        let workers = workers.clamp(1, MAX_WORKERS);
        let mut spread = [0; SPREAD_LEN];
        for (worker, place) in (0..workers).cycle().zip(&mut spread) {
            *place = worker;
        }
        let mut steering = Self {
            workers,
            toeplitz: Toeplitz::new([0; KEY_LEN]),
            spread,
        };
        // Some keys would leave a worker without source ports, or give it no client of a subnet.
        let mut state = seed;
        while workers > 1 && !steering.reaches_all() {
            steering.toeplitz = Toeplitz::new(random_key(&mut state));
        }
        steering
    }

    /// How many workers there are.
    pub const fn workers(&self) -> u16 {
        self.workers
    }

    /// The key for devices that spread by it.
    pub const fn key(&self) -> &[u8; KEY_LEN] {
        self.toeplitz.key()
    }

    /// The worker for each value of a hash's low bits, for devices: repeated, it makes their table of queues.
    pub const fn spread(&self) -> &[u16; SPREAD_LEN] {
        &self.spread
    }

    /// The worker of a packet by its addresses and ports.
    #[inline]
    pub fn of_tuple(&self, key: &FlowKey) -> u16 {
        self.place(self.toeplitz.tuple(key))
    }

    /// The worker of a packet by one of its addresses.
    #[inline]
    pub fn of_address(&self, addr: &Addr) -> u16 {
        self.place(self.toeplitz.address(addr))
    }

    /// The worker that sees all fragments of the datagrams from `src` to `dst`, whichever has their
    /// flows: the one that devices bring them to which hash addresses alone.
    #[inline]
    pub fn of_fragments(&self, src: &Addr, dst: &Addr) -> u16 {
        self.place(self.toeplitz.addresses(src, dst))
    }

    /// The worker of a client's port, or of the port that it is mapped to towards everybody: such ports are
    /// dealt out in turn.
    #[inline]
    pub const fn of_port(&self, port: L4Port) -> u16 {
        port.0 % self.workers
    }

    /// Which destination ports bring the replies `from` a member `to` a self IP to `worker`.
    #[inline]
    pub fn ports_to(&self, worker: u16, reply: &FlowKey) -> impl Fn(&L4Port) -> bool + '_ {
        let (v4, alone) = (reply.dst.is_v4(), self.workers == 1);
        let base = FlowKey::new(reply.src, reply.dst, reply.sport(), L4Port(0), reply.proto);
        let base = if alone { 0 } else { self.toeplitz.tuple(&base) };
        move |port| alone || self.place(base ^ self.toeplitz.destination_port(v4, *port)) == worker
    }

    #[inline]
    const fn place(&self, hash: u32) -> u16 {
        self.spread[hash as usize % SPREAD_LEN]
    }

    /// Whether ports, and the last octets of addresses, reach all workers evenly, in both families.
    fn reaches_all(&self) -> bool {
        [true, false].into_iter().all(|v4| {
            let addr = |low: u16| {
                let [high, low] = low.to_be_bytes();
                if v4 {
                    Addr::from_v4([10, 0, high, low])
                } else {
                    let mut octets = [0; 16];
                    octets[14..].copy_from_slice(&[high, low]);
                    Addr::from_v6(octets)
                }
            };
            let from = |port| FlowKey::new(addr(1), addr(2), L4Port(port), L4Port(0), IpProto::TCP);
            self.is_even(u16::MAX, |port| {
                self.place(self.toeplitz.destination_port(v4, L4Port(port)))
            }) && self.is_even(u16::MAX, |port| self.of_tuple(&from(port)))
                && self.is_even(u16::MAX, |low| self.of_address(&addr(low)))
                && (self.workers > 16 || self.is_even(255, |low| self.of_address(&addr(low))))
        })
    }

    /// Whether the inputs `0..=last` fall to the workers evenly enough: to each between half and twice
    /// its share.
    fn is_even(&self, last: u16, worker: impl Fn(u16) -> u16) -> bool {
        let mut counts = [0u32; MAX_WORKERS as usize];
        for input in 0..=last {
            if let Some(count) = counts.get_mut(usize::from(worker(input))) {
                *count += 1;
            }
        }
        let share = (u32::from(last) + 1) / u32::from(self.workers);
        counts
            .iter()
            .take(usize::from(self.workers))
            .all(|count| (share / 2..=share * 2).contains(count))
    }
}

/// The next key of a sequence (SplitMix64: Steele, Lea, Flood 2014).
fn random_key(state: &mut u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    for octets in key.chunks_exact_mut(8) {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = *state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        octets.copy_from_slice(&(word ^ (word >> 31)).to_be_bytes());
    }
    key
}

/// The workers that have looked for a packet's flow and do not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked(u64);

impl Asked {
    /// Nobody: the packet comes from a device.
    pub const NOBODY: Self = Self(0);

    /// These and `worker`.
    #[must_use]
    pub const fn and(self, worker: u16) -> Self {
        Self(self.0 | 1 << (worker % MAX_WORKERS))
    }

    /// Whether `worker` has been asked.
    pub const fn has(self, worker: u16) -> bool {
        self.0 >> (worker % MAX_WORKERS) & 1 == 1
    }
}

/// What of the configuration decides whose a packet is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// `cmp_hash` by VLAN index.
    pub by_vlan: Vec<SpreadHash>,
    /// Some virtual server leaves the client's address as it is, or did: its flows may live on.
    pub untranslated: bool,
    /// Some virtual server translates it, or did.
    pub translated: bool,
    /// Some virtual server maps ports independently of flows, or did.
    pub mapped: bool,
    /// Each `cmp_hash` that some VLAN has, or had.
    pub hashes: Hashes,
}

/// Some ways to choose a worker for a packet whose source is translated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashes {
    /// By the tuple.
    pub tuple: bool,
    /// By the source address.
    pub source: bool,
    /// By the destination address.
    pub destination: bool,
}

impl Hashes {
    /// Adds one.
    pub const fn insert(&mut self, hash: SpreadHash) {
        match hash {
            SpreadHash::Default => self.tuple = true,
            SpreadHash::SrcAddr => self.source = true,
            SpreadHash::DstAddr => self.destination = true,
        }
    }
}

impl Spread {
    /// `cmp_hash` of a VLAN.
    #[inline]
    pub fn of_vlan(&self, vlan: net::VlanIndex) -> SpreadHash {
        self.by_vlan
            .get(usize::from(vlan.0))
            .copied()
            .unwrap_or_default()
    }
}

/// A packet that has no flow on the worker that asks.
#[derive(Debug, Clone, Copy)]
pub struct Question<'t> {
    /// Its addresses and ports.
    pub key: &'t FlowKey,
    /// `cmp_hash` of the VLAN it came by.
    pub cmp_hash: SpreadHash,
    /// The virtual server that listens there, or would if it had a ready member.
    pub server: Option<&'t VirtualServer>,
    /// Whether its destination is a self IP, or an address of a SNAT pool.
    pub to_self_ip: bool,
}

/// Whether a virtual server maps ports independently of flows.
fn is_mapped(server: &VirtualServer) -> bool {
    server.profile.routed && server.profile.nat.mapping == lb::Mapping::EndpointIndependent
}

/// Whether flows of a protocol that are translated belong to a worker by the server's address: those of
/// protocols without ports that could be chosen so that replies come back.
fn by_remote(proto: IpProto) -> bool {
    let chosen = [
        IpProto::TCP,
        IpProto::UDP,
        IpProto::SCTP,
        IpProto::ICMP,
        IpProto::ICMPV6,
    ];
    !chosen.contains(&proto)
}

/// The workers to ask, in order; the last one decides.
pub type Itinerary = arrayvec::ArrayVec<u16, 8>;

impl Steering {
    /// Who may have the packet's flow, and at the end who is to open it. Empty: whoever has the
    /// packet may deal with it.
    pub fn itinerary(&self, spread: &Spread, question: &Question<'_>) -> Itinerary {
        let mut way = Itinerary::new();
        let key = question.key;
        let Some(server) = question.server else {
            if question.to_self_ip {
                // Below are the ports of services, which no reply comes to.
                if by_remote(key.proto) && spread.translated {
                    way.push(self.of_address(&key.src));
                } else if spread.translated && key.dport().0 >= 1024 {
                    way.push(self.of_tuple(key));
                    let owner = self.of_port(key.dport());
                    if spread.mapped && !way.contains(&owner) {
                        way.push(owner);
                    }
                }
            } else if spread.untranslated {
                way.push(self.of_address(&key.dst));
            }
            return way;
        };
        let by_client = self.of_address(&key.src);
        let by_hash = |hash| match hash {
            SpreadHash::Default => self.of_tuple(key),
            SpreadHash::SrcAddr => by_client,
            SpreadHash::DstAddr => self.of_address(&key.dst),
        };
        let decides = match server.snat {
            Snat::None => by_client,
            // Nothing of the reply can be chosen: both directions go by what they have in common.
            _ if by_remote(key.proto) && server.profile.routed => self.of_address(&key.dst),
            // The port that a client's is mapped to is of the same worker.
            _ if is_mapped(server) => self.of_port(key.sport()),
            Snat::Automap | Snat::Pool(_) => by_hash(question.cmp_hash),
        };
        // Hairpin: most often of a flow that its sender has opened, which goes before the replies that it may be
        // as well.
        let is_hairpin = question.to_self_ip && !server.destination.is_host();
        if is_hairpin {
            way.push(decides);
        }
        let mut ask = |worker| {
            if worker != decides && !way.contains(&worker) {
                way.push(worker);
            }
        };
        if is_hairpin {
            ask(self.of_tuple(key));
            if spread.mapped {
                ask(self.of_port(key.dport()));
            }
        }
        if !server.destination.is_host() && spread.untranslated {
            ask(self.of_address(&key.dst));
        }
        // A packet that opens a flow too: what is left of one with the same tuple, from before a change, would
        // take the rest of it for its own.
        if spread.untranslated {
            ask(by_client);
        }
        // A client's flows of a mapping, whatever its egress does now.
        if spread.mapped && !by_remote(key.proto) {
            ask(self.of_port(key.sport()));
        }
        let Hashes {
            tuple,
            source,
            destination,
        } = spread.hashes;
        let had = [
            (tuple, SpreadHash::Default),
            (source, SpreadHash::SrcAddr),
            (destination, SpreadHash::DstAddr),
        ];
        for (_, hash) in had.iter().filter(|(had, _)| spread.translated && *had) {
            ask(by_hash(*hash));
        }
        way.push(decides);
        way
    }

    /// The worker to hand a packet to that `me` has no flow for, if any: the next that was not
    /// asked, then the one who decides.
    #[inline]
    pub fn elsewhere(
        &self,
        spread: &Spread,
        question: &Question<'_>,
        me: u16,
        asked: Asked,
    ) -> Option<u16> {
        // Sent back to a worker that was asked before, it is there to be dealt with.
        if self.workers == 1 || asked.has(me) {
            return None;
        }
        let asked = asked.and(me);
        let way = self.itinerary(spread, question);
        let decides = *way.last()?;
        way.into_iter()
            .find(|worker| !asked.has(*worker))
            .or((decides != me).then_some(decides))
    }
}

#[cfg(test)]
mod tests;
