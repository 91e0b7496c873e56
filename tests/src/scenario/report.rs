//! What changed: every counter there is, before and after.

use std::collections::BTreeMap;

use dataplane::counters::ServiceTotals;
use dataplane::rig::Rig;

/// Every counter by name: the pipeline's, and those of virtual servers and members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeMap<String, u64>);

impl Snapshot {
    /// The counters now.
    pub fn of(rig: &Rig) -> Self {
        let mut all = rig.control().counters();
        all.insert("commands_lost".to_owned(), rig.control().commands_lost());
        let tables = rig.control().tables();
        for server in &tables.virtual_servers {
            let name = format!("server {}:{}", server.destination, server.port);
            if let Some(stats) = tables.virtual_server_stats.get(server.id.index()) {
                service(&mut all, &name, &stats.totals());
            }
        }
        for pool in &tables.pools {
            for member in pool.members() {
                let name = format!("member {} {}", member.addr, member.port);
                if let Some(stats) = tables.member_stats.get(member.id.index()) {
                    service(&mut all, &name, &stats.totals());
                }
            }
        }
        Self(all)
    }

    /// The names of counters that are not zero.
    pub fn touched(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, value)| **value != 0)
            .map(|(name, _)| name.as_str())
    }

    /// The value of one counter; 0 if there is none.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What is different in `later`, a line for each port, virtual server and member, and one for all
    /// the rest.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut names: Vec<&String> = self.0.keys().chain(later.0.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (before, after) = (self.get(name), later.get(name));
            if before == after {
                continue;
            }
            let change = i128::from(after) - i128::from(before);
            let (group, name) = grouped(name);
            groups
                .entry(group)
                .or_default()
                .push(format!("{name} {change}"));
        }
        groups
            .into_iter()
            .map(|(group, changes)| format!("+ {group}{}", changes.join(", ")))
            .collect()
    }
}

/// The line a counter belongs to, and its name there.
fn grouped(name: &str) -> (String, String) {
    if let Some(rest) = name.strip_prefix("port.") {
        let (port, what) = rest.rsplit_once('.').unwrap_or((rest, ""));
        return (format!("port {port}: "), what.to_owned());
    }
    match name.split_once(" | ") {
        Some((group, what)) => (format!("{group}: "), what.to_owned()),
        None => (String::new(), name.to_owned()),
    }
}

fn service(all: &mut BTreeMap<String, u64>, name: &str, totals: &ServiceTotals) {
    for (what, value) in [
        ("connections", totals.connections),
        ("connections_total", totals.connections_total),
        ("original_packets", totals.original_packets),
        ("original_bytes", totals.original_bytes),
        ("reply_packets", totals.reply_packets),
        ("reply_bytes", totals.reply_bytes),
    ] {
        *all.entry(format!("{name} | {what}")).or_default() += value;
    }
}
