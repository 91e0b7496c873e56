//! Which member a new flow goes to: a worker's own state of selection.

use net::Addr;

use crate::id::{MemberId, PoolId};
use crate::pool::{Member, Pool, Pools};
use crate::virtual_server::Method;

/// Up to so many members are all looked at for the fewest connections; of more, two drawn at
/// random are, which comes close (Mitzenmacher 2001, "the power of two choices") in constant time.
pub const SCAN_LIMIT: usize = 16;

/// Where the round of a pool stands.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The member chosen last: finds the place again in a pool that has changed.
    last: Option<MemberId>,
    /// The place, among the members that are up, of the one that is next.
    next: u32,
}

/// A worker's state of selection: where the round of each pool stands, and how many connections
/// each member has on this worker. Shared with nobody; outlives configuration generations.
#[derive(Clone, Debug)]
pub struct Selector {
    worker: u16,
    rounds: Vec<Round>,
    connections: Vec<u32>,
    random: u64,
}

impl Selector {
    /// The state of worker number `worker`. Rounds begin at the worker's own number, so that the
    /// workers' first flows do not all meet at the first member. `seed` is a random number.
    pub fn new(worker: u16, seed: u64) -> Self {
        Self {
            worker,
            rounds: Vec::new(),
            connections: Vec::new(),
            random: seed,
        }
    }

    /// Takes up a new configuration generation, between two bursts. This is where memory is
    /// allocated, in proportion to the ids in use; nothing else here does. Rounds go on where they
    /// stood: behind the member chosen last, even if it is gone.
    pub fn refresh(&mut self, pools: &Pools) {
        let slots = self.rounds.len().max(pools.pool_slots());
        self.rounds.resize(slots, Round::default());
        let slots = self.connections.len().max(pools.member_slots());
        self.connections.resize(slots, 0);
        for pool in pools {
            let up = pool.up_count().max(1);
            let next = match self.round(pool.id()).last {
                Some(last) => pool.up_through(last) % up,
                None => usize::from(self.worker) % up,
            };
            if let Some(round) = self.rounds.get_mut(pool.id().index()) {
                round.next = u32::try_from(next).unwrap_or(0);
            }
        }
    }

    /// The member of `pool` that a new flow from `src` goes to; `None` if none is up. Constant
    /// time, but for [`Method::LeastConnections`] over at most [`SCAN_LIMIT`] members and
    /// [`Method::SourceAddressHash`] over a pool without its Maglev table. `pool` must be of the
    /// generation that was taken up last. The caller counts the flow with
    /// [`opened`](Self::opened) once it exists.
    #[inline]
    pub fn select<'p>(&mut self, pool: &'p Pool, method: Method, src: &Addr) -> Option<&'p Member> {
        match method {
            Method::RoundRobin => self.take(pool, self.round(pool.id()).next as usize),
            Method::LeastConnections => self.least_connections(pool),
            Method::SourceAddressHash => pool.hashed(src),
        }
    }

    /// A flow to the member begins.
    #[inline]
    pub fn opened(&mut self, member: MemberId) {
        if let Some(count) = self.connections.get_mut(member.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// A flow to the member ends.
    #[inline]
    pub fn closed(&mut self, member: MemberId) {
        if let Some(count) = self.connections.get_mut(member.index()) {
            *count = count.saturating_sub(1);
        }
    }

    /// Live connections of the member on this worker, whether a pool still has it or not.
    #[inline]
    pub fn connections(&self, member: MemberId) -> u32 {
        self.connections.get(member.index()).copied().unwrap_or(0)
    }

    #[inline]
    fn round(&self, pool: PoolId) -> Round {
        self.rounds.get(pool.index()).copied().unwrap_or_default()
    }

    /// Chooses the `at`-th member that is up, and puts the round behind it.
    #[inline]
    fn take<'p>(&mut self, pool: &'p Pool, at: usize) -> Option<&'p Member> {
        let at = if at < pool.up_count() { at } else { 0 };
        let member = pool.up(at)?;
        if let Some(round) = self.rounds.get_mut(pool.id().index()) {
            let next = if at + 1 < pool.up_count() { at + 1 } else { 0 };
            round.last = Some(member.id);
            round.next = u32::try_from(next).unwrap_or(0);
        }
        Some(member)
    }

    fn least_connections<'p>(&mut self, pool: &'p Pool) -> Option<&'p Member> {
        let up = pool.up_count();
        let load = |at: usize| pool.up(at).map_or(u32::MAX, |m| self.connections(m.id));
        if up <= SCAN_LIMIT {
            // From the round's place on, so that members with equal counts take turns.
            let next = self.round(pool.id()).next as usize;
            let least = (next..up)
                .chain(0..next.min(up))
                .min_by_key(|at| load(*at))?;
            return self.take(pool, least);
        }
        let mut random = self.random;
        let mut draw = |n: usize| {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::mix::reduce(crate::mix::word(random), n)
        };
        let first = draw(up);
        let second = (first + 1 + draw(up - 1)) % up;
        let least = if load(second) < load(first) {
            second
        } else {
            first
        };
        self.random = random;
        pool.up(least)
    }
}
