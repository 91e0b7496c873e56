//! Identity over configuration generations: the index of everything that has a name, and its counters.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb::{MemberId, PoolId, Registry, VirtualServerId};
use net::{L4Port, VlanIndex};

use crate::counters::{ServiceStats, SnatStats};
use crate::steer::Hashes;
use crate::tables::Tables;

/// What one generation hands to the next: the index of everything that has a name.
#[derive(Debug)]
pub struct Names {
    workers: usize,
    generation: u64,
    vlans: HashMap<String, VlanIndex>,
    registry: Registry,
    virtual_server_stats: Vec<Arc<ServiceStats>>,
    member_stats: Vec<Arc<ServiceStats>>,
    /// The pool of each member, by member id.
    pool_of: Vec<PoolId>,
    /// By the name of the SNAT pool; of automap, without one.
    snat_stats: HashMap<Option<String>, Arc<SnatStats>>,
    /// Whether some virtual server ever left the client's address as it was, and whether some ever
    /// translated it: there may be flows of it still.
    pub(super) ever_untranslated: bool,
    pub(super) ever_translated: bool,
    /// Whether some virtual server ever mapped ports independently of flows.
    pub(super) ever_mapped: bool,
    /// Each `cmp_hash` that some VLAN ever had.
    pub(super) ever_hashed: Hashes,
}

impl Names {
    /// No names yet, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            generation: 0,
            vlans: HashMap::new(),
            registry: Registry::new(),
            virtual_server_stats: Vec::new(),
            member_stats: Vec::new(),
            pool_of: Vec::new(),
            snat_stats: HashMap::new(),
            ever_untranslated: false,
            ever_translated: false,
            ever_mapped: false,
            ever_hashed: Hashes::default(),
        }
    }

    /// Gives back the identities that `tables` do not name and no flow uses. To be called only while
    /// every worker uses `tables`: then no flow to them can be opened any more.
    pub fn forget_unused(&mut self, tables: &Tables) {
        let workers = self.workers;
        let used: HashSet<usize> = tables
            .virtual_servers
            .iter()
            .map(|server| server.id.index())
            .collect();
        forget(&mut self.virtual_server_stats, &used, workers);
        let used: HashSet<usize> = tables
            .pools
            .iter()
            .flat_map(|pool| pool.members().iter().map(|member| member.id.index()))
            .collect();
        forget(&mut self.member_stats, &used, workers);
        // A pool lives as long as one of its members serves a flow.
        let busy_pools: HashSet<PoolId> = self
            .pool_of
            .iter()
            .enumerate()
            .filter(|(member, _)| serves(&self.member_stats, *member))
            .map(|(_, pool)| *pool)
            .collect();
        let (virtual_servers, members) = (&self.virtual_server_stats, &self.member_stats);
        self.registry.retain(
            |id| tables.virtual_servers.get(id).is_some() || serves(virtual_servers, id.index()),
            |id| tables.pools.get(id).is_some() || busy_pools.contains(&id),
            |id| tables.pools.member(id).is_some() || serves(members, id.index()),
        );
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The counters of every virtual server and member, by their ids.
    pub(super) fn stats(&self) -> (Vec<Arc<ServiceStats>>, Vec<Arc<ServiceStats>>) {
        (self.virtual_server_stats.clone(), self.member_stats.clone())
    }

    pub(super) fn virtual_server(&mut self, name: &str) -> VirtualServerId {
        let id = self.registry.virtual_server(name);
        grow(&mut self.virtual_server_stats, id.index(), self.workers);
        id
    }

    pub(super) fn pool(&mut self, name: &str) -> PoolId {
        self.registry.pool(name)
    }

    pub(super) fn member(&mut self, pool: PoolId, addr: IpAddr, port: L4Port) -> MemberId {
        let id = self.registry.member(pool, addr, port);
        grow(&mut self.member_stats, id.index(), self.workers);
        if self.pool_of.len() <= id.index() {
            self.pool_of.resize(id.index() + 1, pool);
        }
        if let Some(slot) = self.pool_of.get_mut(id.index()) {
            *slot = pool;
        }
        id
    }

    /// The counters of automap and of the SNAT pools that there are; those of others are forgotten.
    pub(super) fn snat_stats(
        &mut self,
        pools: &[config::SnatPool],
    ) -> (Arc<SnatStats>, Vec<Arc<SnatStats>>) {
        let names: HashSet<&str> = pools.iter().map(|pool| &*pool.name).collect();
        self.snat_stats
            .retain(|name, _| name.as_deref().is_none_or(|name| names.contains(name)));
        let mut of = |name: Option<&str>| {
            let stats = self.snat_stats.entry(name.map(str::to_owned));
            Arc::clone(stats.or_insert_with(|| Arc::new(SnatStats::new(self.workers))))
        };
        let automap = of(None);
        let pools = pools.iter().map(|pool| of(Some(&pool.name))).collect();
        (automap, pools)
    }

    pub(super) fn vlan(&mut self, name: &str) -> Option<VlanIndex> {
        if let Some(index) = self.vlans.get(name) {
            return Some(*index);
        }
        let next = Some(self.vlans.len()).filter(|next| *next < vlan::MAX_VLANS)?;
        let index = VlanIndex(u16::try_from(next).ok()?);
        self.vlans.insert(name.to_owned(), index);
        Some(index)
    }
}

/// Whether a flow names the virtual server or member.
fn serves(stats: &[Arc<ServiceStats>], index: usize) -> bool {
    stats
        .get(index)
        .is_some_and(|stats| stats.totals().connections != 0)
}

/// A number that is given back may be given to another name: its counters start anew.
fn forget(stats: &mut [Arc<ServiceStats>], used: &HashSet<usize>, workers: usize) {
    for index in 0..stats.len() {
        if !used.contains(&index)
            && !serves(stats, index)
            && let Some(slot) = stats.get_mut(index)
        {
            *slot = Arc::new(ServiceStats::new(workers));
        }
    }
}

fn grow(stats: &mut Vec<Arc<ServiceStats>>, index: usize, workers: usize) {
    while stats.len() <= index {
        stats.push(Arc::new(ServiceStats::new(workers)));
    }
}
