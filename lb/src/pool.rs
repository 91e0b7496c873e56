//! Pools and their members, immutable for a configuration generation.

use std::net::IpAddr;

use net::{Addr, L4Port};

use crate::id::{MemberId, PoolId};
use crate::maglev::Maglev;

/// Whether a member may be given flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemberState {
    /// New flows go to it.
    #[default]
    Up,
    /// No new flows; those it has are kept.
    Draining,
    /// No new flows; what happens to those it has is its virtual server's
    /// [`DownAction`](crate::DownAction).
    Down,
}

/// One member of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity over configuration generations.
    pub id: MemberId,
    /// Where flows are sent.
    pub addr: IpAddr,
    /// The port flows are sent to; 0 = the port the client asked for.
    pub port: L4Port,
    /// Whether it may be given flows.
    pub state: MemberState,
}

/// A pool of members.
#[derive(Clone, Debug)]
pub struct Pool {
    id: PoolId,
    name: String,
    members: Vec<Member>,
    /// Places in `members` of those that are up, ordered by id: an order that neither the order of
    /// the configuration nor the arrival of other members changes.
    up: Vec<u32>,
    maglev: Option<Maglev>,
}

impl Pool {
    /// A pool of `members`, which must have different ids.
    pub fn new(id: PoolId, name: impl Into<String>, members: Vec<Member>) -> Self {
        let mut up: Vec<(MemberId, u32)> = (0u32..)
            .zip(&members)
            .filter(|(_, m)| m.state == MemberState::Up)
            .map(|(place, m)| (m.id, place))
            .collect();
        up.sort_unstable();
        Self {
            id,
            name: name.into(),
            up: up.into_iter().map(|(_, place)| place).collect(),
            members,
            maglev: None,
        }
    }

    /// The same pool with a Maglev table: to be had where a virtual server balances over it by
    /// [`SourceAddressHash`](crate::Method::SourceAddressHash).
    /// Costs nothing for a pool that has one already.
    #[must_use]
    pub fn with_maglev(mut self) -> Self {
        if self.maglev.is_none() {
            self.maglev = Some(Maglev::new(&self.members));
        }
        self
    }

    /// Its identity over configuration generations.
    pub const fn id(&self) -> PoolId {
        self.id
    }

    /// Its name, as shown to the operator.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All members, in the order they were given in.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many members may be given flows.
    #[inline]
    pub fn up_count(&self) -> usize {
        self.up.len()
    }

    /// The `n`-th member that is up, by id.
    #[inline]
    pub(crate) fn up(&self, n: usize) -> Option<&Member> {
        self.members.get(*self.up.get(n)? as usize)
    }

    /// How many of the members that are up have an id of at most `last`.
    pub(crate) fn up_through(&self, last: MemberId) -> usize {
        self.up.partition_point(|place| {
            self.members
                .get(*place as usize)
                .is_some_and(|m| m.id <= last)
        })
    }

    /// The member that the client `src` hashes to. Without a Maglev table this takes time in the
    /// number of members.
    #[inline]
    pub(crate) fn hashed(&self, src: &Addr) -> Option<&Member> {
        match &self.maglev {
            Some(table) => self.members.get(table.lookup(src)?),
            None => self
                .up
                .iter()
                .filter_map(|place| self.members.get(*place as usize))
                .max_by_key(|m| crate::maglev::affinity(m, src)),
        }
    }
}

/// All pools of a configuration generation.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    all: Vec<Pool>,
    /// Places in `all` by id, `u32::MAX` where there is none.
    by_id: Vec<u32>,
    /// Place of the pool and of the member in it, by id.
    by_member: Vec<(u32, u32)>,
}

impl Pools {
    /// The table of `pools`. Pools or members that share an id are a mistake of the caller: the
    /// first is found then.
    pub fn new(pools: Vec<Pool>) -> Self {
        let (mut by_id, mut by_member) = (Vec::new(), Vec::new());
        for (place, pool) in (0u32..).zip(&pools) {
            put(&mut by_id, pool.id.index(), place, u32::MAX);
            for (at, member) in (0u32..).zip(&pool.members) {
                let none = (u32::MAX, u32::MAX);
                put(&mut by_member, member.id.index(), (place, at), none);
            }
        }
        Self {
            all: pools,
            by_id,
            by_member,
        }
    }

    /// The pool with this id, if this generation has it.
    #[inline]
    pub fn get(&self, id: PoolId) -> Option<&Pool> {
        self.all.get(*self.by_id.get(id.index())? as usize)
    }

    /// The member with this id and its pool, if this generation has it.
    #[inline]
    pub fn member(&self, id: MemberId) -> Option<(&Pool, &Member)> {
        let (pool, member) = *self.by_member.get(id.index())?;
        let pool = self.all.get(pool as usize)?;
        Some((pool, pool.members.get(member as usize)?))
    }

    /// All pools, in the order they were given in.
    pub fn iter(&self) -> std::slice::Iter<'_, Pool> {
        self.all.iter()
    }

    /// One more than the highest index of a pool id.
    pub(crate) fn pool_slots(&self) -> usize {
        self.by_id.len()
    }

    /// One more than the highest index of a member id.
    pub(crate) fn member_slots(&self) -> usize {
        self.by_member.len()
    }
}

impl<'a> IntoIterator for &'a Pools {
    type Item = &'a Pool;
    type IntoIter = std::slice::Iter<'a, Pool>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Sets a slot of a table that grows as needed, unless it is taken.
fn put<T: Copy + PartialEq>(table: &mut Vec<T>, at: usize, value: T, none: T) {
    if at >= table.len() {
        table.resize(at + 1, none);
    }
    if let Some(slot) = table.get_mut(at).filter(|slot| **slot == none) {
        *slot = value;
    }
}
