//! Identities that outlive a configuration generation.
//!
//! Flows remember their virtual server and member by id. The [`Registry`] gives a name the same id
//! in every generation, so a flow finds its member again however the pool around it changed. Ids
//! are dense: tables index arrays by them.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use net::L4Port;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        ///
        /// Given by the [`Registry`] alone. `Option` of it is four octets too.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// A small number that no other live id of this kind has; 0 is the first.
            #[inline]
            pub const fn to_u32(self) -> u32 {
                self.0.get() - 1
            }

            /// The place of this id in an array.
            #[inline]
            pub const fn index(self) -> usize {
                self.to_u32() as usize
            }
        }

        impl From<NonZeroU32> for $name {
            fn from(number: NonZeroU32) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.to_u32().fmt(f)
            }
        }
    )* };
}

ids! {
    /// Names a virtual server over configuration generations.
    VirtualServerId
    /// Names a pool over configuration generations.
    PoolId
    /// Names a member of one pool, by address and port, over configuration generations.
    MemberId
}

impl MemberId {
    /// No member of any pool: the flow is [routed](crate::Profile::routed) to its own destination.
    pub const ROUTED: Self = Self(NonZeroU32::MAX);
    /// As [`ROUTED`](Self::ROUTED), and its port is that of a [mapping](crate::mapping).
    pub const MAPPED: Self = Self(NonZeroU32::MIN.saturating_add(u32::MAX - 2));
    /// Opened by somebody else to the port of a mapping.
    pub const ADMITTED: Self = Self(NonZeroU32::MIN.saturating_add(u32::MAX - 3));
}

/// Names to ids of one kind.
#[derive(Clone, Debug)]
struct Names<K, I> {
    ids: HashMap<K, I, RandomState>,
    /// Numbers that were given back.
    free: Vec<NonZeroU32>,
    /// Highest number ever given.
    last: u32,
}

impl<K, I> Default for Names<K, I> {
    fn default() -> Self {
        Self {
            ids: HashMap::default(),
            free: Vec::new(),
            last: 0,
        }
    }
}

impl<K: Eq + Hash, I: Copy + From<NonZeroU32> + Into<NonZeroU32>> Names<K, I> {
    fn insert(&mut self, name: K) -> I {
        let number = self.free.pop().unwrap_or_else(|| {
            // Memory ends long before 2^32 names do.
            self.last = self.last.saturating_add(1);
            NonZeroU32::new(self.last).unwrap_or(NonZeroU32::MIN)
        });
        let id = I::from(number);
        self.ids.insert(name, id);
        id
    }

    fn retain(&mut self, mut keep: impl FnMut(&K, I) -> bool) {
        let free = &mut self.free;
        self.ids.retain(|name, id| {
            let kept = keep(name, *id);
            if !kept {
                free.push((*id).into());
            }
            kept
        });
        // The lowest number goes first, so that the ids in use stay dense.
        free.sort_unstable_by(|a, b| b.cmp(a));
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { $(
        impl From<$name> for NonZeroU32 {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )* };
}

numbers! { VirtualServerId PoolId MemberId }

/// Gives every name its id, the same in each configuration generation.
///
/// An id is never given to a second name unless [`retain`](Self::retain) took it from the first.
/// A clone goes on from where the original stood; ids of two registries must not be mixed.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    virtual_servers: Names<Box<str>, VirtualServerId>,
    pools: Names<Box<str>, PoolId>,
    members: Names<(PoolId, IpAddr, L4Port), MemberId>,
}

impl Registry {
    /// A registry that knows no name.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of the virtual server of this name.
    pub fn virtual_server(&mut self, name: &str) -> VirtualServerId {
        match self.virtual_servers.ids.get(name) {
            Some(id) => *id,
            None => self.virtual_servers.insert(name.into()),
        }
    }

    /// The id of the pool of this name.
    pub fn pool(&mut self, name: &str) -> PoolId {
        match self.pools.ids.get(name) {
            Some(id) => *id,
            None => self.pools.insert(name.into()),
        }
    }

    /// The id of the member of `pool` with this address and port. The same address in two pools is
    /// two members.
    pub fn member(&mut self, pool: PoolId, addr: IpAddr, port: L4Port) -> MemberId {
        let name = (pool, addr, port);
        match self.members.ids.get(&name) {
            Some(id) => *id,
            None => self.members.insert(name),
        }
    }

    /// Takes back the ids for which the caller answers no: those that neither the configuration nor
    /// any flow of any worker names any more. They go to new names, so that a cluster in which
    /// endpoints come and go for years needs no more memory than its busiest hour did. Members of a
    /// pool that goes, go with it.
    pub fn retain(
        &mut self,
        mut virtual_server: impl FnMut(VirtualServerId) -> bool,
        mut pool: impl FnMut(PoolId) -> bool,
        mut member: impl FnMut(MemberId) -> bool,
    ) {
        self.virtual_servers.retain(|_, id| virtual_server(id));
        self.pools.retain(|_, id| pool(id));
        let mut live = vec![false; self.pools.last as usize];
        for id in self.pools.ids.values() {
            if let Some(slot) = live.get_mut(id.index()) {
                *slot = true;
            }
        }
        let lives = |pool: &PoolId| live.get(pool.index()).copied().unwrap_or(false);
        self.members
            .retain(|(pool, _, _), id| lives(pool) && member(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_name_keeps_its_id_and_no_two_names_share_one() {
        let mut r = Registry::new();
        let (web, dns) = (r.pool("web"), r.pool("dns"));
        assert_ne!(web, dns);
        assert_eq!(r.pool("web"), web);
        let a = r.member(web, addr(1), L4Port(80));
        assert_eq!(r.member(web, addr(1), L4Port(80)), a);
        assert_ne!(r.member(web, addr(1), L4Port(81)), a);
        assert_ne!(r.member(dns, addr(1), L4Port(80)), a);
        assert_eq!(r.virtual_server("web").to_u32(), 0);
        assert_eq!(r.virtual_server("dns").to_u32(), 1);
    }

    #[test]
    fn ids_that_were_given_back_are_used_again_lowest_first() {
        let mut r = Registry::new();
        let pool = r.pool("p");
        let ids: Vec<_> = (0..5)
            .map(|n| r.member(pool, addr(n), L4Port(80)))
            .collect();
        r.retain(|_| true, |_| true, |m| m != ids[1] && m != ids[3]);
        assert_eq!(r.member(pool, addr(0), L4Port(80)), ids[0]);
        assert_eq!(r.member(pool, addr(10), L4Port(80)), ids[1]);
        assert_eq!(r.member(pool, addr(11), L4Port(80)), ids[3]);
        assert_eq!(r.member(pool, addr(12), L4Port(80)).to_u32(), 5);
    }

    #[test]
    fn members_go_with_their_pool() {
        let mut r = Registry::new();
        let (web, dns) = (r.pool("web"), r.pool("dns"));
        let in_web = r.member(web, addr(1), L4Port(80));
        let in_dns = r.member(dns, addr(1), L4Port(53));
        r.retain(|_| true, |p| p == dns, |_| true);
        assert_eq!(r.member(dns, addr(1), L4Port(53)), in_dns);
        // The pool's id names another pool now; its members are strangers to the old one's.
        let mail = r.pool("mail");
        assert_eq!(mail, web);
        assert_eq!(r.member(mail, addr(9), L4Port(25)), in_web);
    }

    #[test]
    fn years_of_churn_need_no_more_ids_than_live_at_once() {
        let mut r = Registry::new();
        let pool = r.pool("p");
        let mut highest = 0;
        for n in 0..10_000u32 {
            let id = r.member(pool, IpAddr::from(n.to_be_bytes()), L4Port(80));
            highest = highest.max(id.to_u32());
            r.retain(|_| true, |_| true, |m| m == id);
        }
        assert!(highest <= 1, "{highest}");
    }

    #[test]
    fn an_optional_id_costs_nothing() {
        assert_eq!(size_of::<Option<MemberId>>(), 4);
    }
}
