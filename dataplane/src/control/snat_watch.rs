//! Tells, now and then, which SNAT pool has no port left for a flow or no mapping for a client.

use std::collections::HashMap;
use std::time::Duration;

use net::Timestamp;
use tracing::warn;

use crate::counters::SnatStats;
use crate::tables::Tables;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two warnings about one pool.
const QUIET: Duration = Duration::from_mins(1);

/// What was refused when it was told last.
#[derive(Debug, Default)]
pub(super) struct SnatWatch {
    looked: Option<Timestamp>,
    told: HashMap<String, Told>,
}

#[derive(Debug, Default)]
struct Told {
    exhausted: u64,
    mappings: u64,
    at: Option<Timestamp>,
}

impl SnatWatch {
    /// Looks at the counters of all pools, at most once a second.
    pub(super) fn look(&mut self, tables: &Tables, now: Timestamp) {
        if self.looked.is_some_and(|at| now.since(at) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let pools = &tables.snat.pools;
        self.told
            .retain(|name, _| name.is_empty() || pools.iter().any(|(pool, _)| pool.name() == name));
        self.judge("", "automap", &tables.snat.automap, now);
        for (pool, stats) in pools {
            self.judge(pool.name(), pool.name(), stats, now);
        }
    }

    fn judge(&mut self, key: &str, shown: &str, stats: &SnatStats, now: Timestamp) {
        let exhausted = stats.sum(|c| &c.exhausted_total);
        let mappings = stats.sum(|c| &c.mappings_refused_total);
        if exhausted == 0 && mappings == 0 {
            return;
        }
        if !self.told.contains_key(key) {
            self.told.insert(key.to_owned(), Told::default());
        }
        let Some(told) = self.told.get_mut(key) else {
            return;
        };
        let quiet = told.at.is_some_and(|at| now.since(at) < QUIET);
        if quiet || (told.exhausted, told.mappings) == (exhausted, mappings) {
            return;
        }
        if exhausted != told.exhausted {
            warn!(
                snat_pool = shown,
                refused_flows = exhausted.saturating_sub(told.exhausted),
                "a SNAT pool has no free source port left for new flows; give it more addresses"
            );
        }
        if mappings != told.mappings {
            warn!(
                snat_pool = shown,
                refused_flows = mappings.saturating_sub(told.mappings),
                "clients behind a SNAT pool have as many port mappings as they may"
            );
        }
        *told = Told {
            exhausted,
            mappings,
            at: Some(now),
        };
    }
}
