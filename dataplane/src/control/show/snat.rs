//! SNAT pools.

use lb::{Snat, SnatPoolIndex};
use serde_json::json;

use super::Row;
use crate::control::Control;
use crate::counters::{SnatCounters, SnatStats};

impl Control {
    /// What a virtual server translates clients' addresses to.
    pub(super) fn snat_name(&self, snat: Snat) -> String {
        match snat {
            Snat::None => "none".to_owned(),
            Snat::Automap => "automap".to_owned(),
            Snat::Pool(index) => self.tables().snat.pool(index).map_or_else(
                || "(no such pool)".to_owned(),
                |pool| format!("pool {}", pool.name()),
            ),
        }
    }

    pub(super) fn show_snat_pools(&self) -> Vec<Row> {
        let tables = self.tables();
        let connections = |snat: Snat| -> u64 {
            let servers = tables.virtual_servers.iter();
            let of_pool = servers.filter(|server| server.snat == snat);
            let stats = of_pool.filter_map(|s| tables.virtual_server_stats.get(s.id.index()));
            stats.map(|stats| stats.totals().connections).sum()
        };
        let row = |name: &str, addresses: Vec<String>, snat: Snat, stats: &SnatStats| {
            let sum = |get: fn(&SnatCounters) -> &crate::counters::Counter| stats.sum(get);
            let mut row = Row::new();
            let mut put = |name: &str, value| row.insert(name.to_owned(), value);
            put("snatPool", json!(name));
            put("addresses", json!(addresses));
            put("connections", json!(connections(snat)));
            put("exhausted", json!(sum(|c| &c.exhausted_total)));
            put("mappingsRefused", json!(sum(|c| &c.mappings_refused_total)));
            row
        };
        let pools = (0u16..).zip(&tables.snat.pools);
        let mut rows: Vec<Row> = pools
            .map(|(index, (pool, stats))| {
                let addresses = pool.addresses().map(ToString::to_string).collect();
                let snat = Snat::Pool(SnatPoolIndex(index));
                row(pool.name(), addresses, snat, stats)
            })
            .collect();
        rows.push(row(
            "(automap)",
            Vec::new(),
            Snat::Automap,
            &tables.snat.automap,
        ));
        rows
    }
}
