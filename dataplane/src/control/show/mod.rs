//! The tables an operator can ask for: one function per table, each giving rows of named columns.

/// Builds a row from pairs.
macro_rules! row {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut row = $crate::control::show::Row::new();
        $(row.insert($name.to_owned(), serde_json::json!($value));)*
        row
    }};
}

mod counted;
mod filter;
mod network;
mod service;
mod snat;

use config::FieldError;
use config::client::Show;
use net::{Timestamp, VlanIndex};
use serde_json::{Map, Value};

use super::Control;
use crate::command::{Command, FlowFilter, FlowFlush};
use filter::{filter_rows, flow_filter};
pub(super) use network::segments_of;

/// A row: column names and values, in the order they are shown.
pub type Row = Map<String, Value>;

/// The tables there are, with what each shows.
pub const TABLES: &[(&str, &str)] = &[
    ("ports", "ports: driver, link, MAC address, traffic"),
    ("vlans", "VLANs: tags, ports, MTU"),
    ("self-ips", "addresses that are answered for"),
    (
        "neighbors",
        "MAC addresses of neighbours, and how well they are known",
    ),
    ("routes", "on-link prefixes and static routes"),
    ("virtual-servers", "what listens, and its traffic"),
    ("pools", "pool members: state, connections, traffic"),
    (
        "snat-pools",
        "SNAT pools and automap: addresses, connections, ports refused",
    ),
    ("connections", "tracked flows"),
    (
        "drops",
        "dropped frames by reason; also answers and forwarded frames",
    ),
    (
        "workers",
        "workers: CPU, queues, load, packets, handoffs, flows, lost events",
    ),
    (
        "resolver",
        "what was done to find neighbours and to announce addresses",
    ),
    ("export", "records of flows sent to a collector, and lost"),
    ("config", "objects and how far each has come"),
    (
        "health",
        "whether workers turn (live) and this replica forwards (ready)",
    ),
];

/// What a request for a table needs.
#[derive(Debug)]
pub enum Answered {
    /// These rows.
    Rows(Vec<Row>),
    /// The flows that this filter selects, from every worker.
    Connections(FlowFilter),
}

impl Control {
    /// Answers a request for a table.
    ///
    /// Errors: an unknown table or filter.
    pub fn show(&self, show: &Show, now: Timestamp) -> Result<Answered, Vec<FieldError>> {
        if show.table == "connections" {
            return flow_filter(&show.filter).map(Answered::Connections);
        }
        let rows = match show.table.as_str() {
            "ports" => self.show_ports(),
            "vlans" => self.show_vlans(),
            "self-ips" => self.show_self_ips(now),
            "neighbors" => self.show_neighbors(now),
            "routes" => self.show_routes(),
            "virtual-servers" => self.show_virtual_servers(),
            "pools" => self.show_pools(),
            "snat-pools" => self.show_snat_pools(),
            "drops" => self.show_drops(),
            "workers" => self.show_workers(),
            "resolver" => self.show_resolver(),
            "export" => self.show_export(),
            "config" => self.show_config(),
            "health" => self.show_health(now),
            other => {
                let names: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
                let message = format!("no table \"{other}\"; there are {}", names.join(", "));
                return Err(vec![FieldError::new("table", message)]);
            }
        };
        Ok(Answered::Rows(filter_rows(rows, &show.filter)?))
    }

    /// Has every worker end the connections that a filter selects. Each says how many these were; a worker that
    /// has too much to do lets go of its end of the channel.
    ///
    /// Errors: an unknown filter.
    pub fn flush(
        &self,
        filter: &Row,
    ) -> Result<crossbeam::channel::Receiver<u64>, Vec<FieldError>> {
        let filter = flow_filter(filter)?;
        let (asker, answers) = crossbeam::channel::bounded(self.workers.len());
        for worker in &self.workers {
            let flush = FlowFlush::new(filter.clone(), asker.clone());
            // What there is no room for is dropped, and is missing from the answers.
            drop(worker.commands.push(Command::Flush(flush)));
        }
        Ok(answers)
    }

    pub(super) fn vlan_name(&self, index: VlanIndex) -> String {
        self.tables()
            .vlans
            .get(index)
            .map_or_else(|| "(gone)".to_owned(), |v| v.name.clone())
    }

    fn show_config(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for state in &self.states {
            rows.push(row! {
                "kind": state.key.kind.name(),
                "namespace": state.key.namespace,
                "name": state.key.name,
                "generation": state.generation,
                "state": state.state,
                "reason": state.reason(),
                "message": state.message(),
            });
        }
        rows
    }
}

fn sort(rows: &mut [Row], columns: &[&str]) {
    let key = |row: &Row| -> Vec<String> {
        columns
            .iter()
            .map(|c| row.get(*c).map_or_else(String::new, ToString::to_string))
            .collect()
    };
    rows.sort_by_cached_key(key);
}
