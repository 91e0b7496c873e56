//! Virtual servers, pool members and the connections to them.

use std::sync::Arc;

use conntrack::EndReason;
use net::L4Port;
use serde_json::json;

use super::{Control, Row, sort};
use crate::command::FlowRow;
use crate::counters::{ServiceStats, ServiceTotals};

impl Control {
    pub(super) fn show_virtual_servers(&self) -> Vec<Row> {
        let tables = self.tables();
        let mut rows = Vec::new();
        for server in &tables.virtual_servers {
            let pool = tables.pools.get(server.pool);
            let up = pool.map_or(0, lb::Pool::up_count);
            let listens = tables
                .vlans
                .iter()
                .any(|vlan| server.listen.hears(vlan.index));
            let vlans: Vec<String> = tables
                .vlans
                .iter()
                .filter(|vlan| server.listen.hears(vlan.index))
                .map(|vlan| vlan.name.clone())
                .collect();
            let mut row = row! {
                "virtualServer": server.name,
                "protocol": if server.proto == lb::ANY_PROTO {
                    "any".to_owned()
                } else {
                    server.proto.to_string()
                },
                "destination": if server.destination.is_host() {
                    server.destination.addr().to_string()
                } else {
                    server.destination.to_string()
                },
                "port": server.port,
                "state": if up == 0 && !server.profile.routed { "down" } else if listens { "up" } else { "no VLAN" },
                "members": pool.map_or(0, |pool| pool.members().len()),
                "membersUp": up,
                "snat": self.snat_name(server.snat),
                "vlans": vlans,
            };
            let stats = tables.virtual_server_stats.get(server.id.index());
            row.extend(service_row(
                stats.map(|stats| stats.totals()).unwrap_or_default(),
            ));
            row.extend(limits_row(&server.profile, stats));
            rows.push(row);
        }
        rows
    }

    pub(super) fn show_pools(&self) -> Vec<Row> {
        let tables = self.tables();
        let mut rows = Vec::new();
        for pool in &tables.pools {
            for member in pool.members() {
                let mut row = row! {
                    "pool": pool.name(),
                    "member": member.addr,
                    "port": member.port,
                    "state": format!("{:?}", member.state).to_lowercase(),
                };
                let stats = tables.member_stats.get(member.id.index());
                row.extend(service_row(
                    stats.map(|stats| stats.totals()).unwrap_or_default(),
                ));
                rows.push(row);
            }
        }
        sort(&mut rows, &["pool"]);
        rows
    }

    /// A flow as a row.
    pub fn flow_row(&self, flow: &FlowRow) -> Row {
        let translated = flow.reply.inverted();
        let end = |addr: &net::Addr, port: L4Port| {
            if addr.is_v4() {
                format!("{addr}:{port}")
            } else {
                format!("[{addr}]:{port}")
            }
        };
        row! {
            "protocol": flow.original.proto,
            "client": end(&flow.original.src, flow.original.sport()),
            "destination": end(&flow.original.dst, flow.original.dport()),
            "source": end(&translated.src, translated.sport()),
            "member": end(&translated.dst, translated.dport()),
            "state": flow.state,
            "virtualServer": flow.virtual_server,
            "ageSeconds": flow.age.as_secs(),
            "idleSeconds": flow.idle.as_secs(),
            "originalPackets": flow.original_traffic.0,
            "originalBytes": flow.original_traffic.1,
            "replyPackets": flow.reply_traffic.0,
            "replyBytes": flow.reply_traffic.1,
            "clientVlan": self.vlan_name(flow.vlans.1),
            "memberVlan": self.vlan_name(flow.vlans.0),
            "worker": flow.worker,
        }
    }
}

/// The limits that a virtual server has, and what they have held off.
fn limits_row(profile: &lb::Profile, stats: Option<&Arc<ServiceStats>>) -> Row {
    let (refused, challenges) = stats.map(|stats| stats.held_off()).unwrap_or_default();
    let mut row = Row::new();
    let limits = [
        ("connectionLimit", profile.connection_limit),
        ("clientConnectionLimit", profile.client_limit),
        ("synProtectionThreshold", profile.syn_threshold),
    ];
    for (name, limit) in limits {
        if limit > 0 {
            row.insert(name.to_owned(), json!(limit));
        }
    }
    if profile.connection_limit > 0 || profile.client_limit > 0 || refused > 0 {
        row.insert("refusedTotal".to_owned(), json!(refused));
    }
    if profile.syn_threshold > 0 || challenges > 0 {
        row.insert("challengesTotal".to_owned(), json!(challenges));
    }
    row
}

fn service_row(totals: ServiceTotals) -> Row {
    let mut row = row! {
        "connections": totals.connections,
        "connectionsTotal": totals.connections_total,
        "originalPackets": totals.original_packets,
        "originalBytes": totals.original_bytes,
        "replyPackets": totals.reply_packets,
        "replyBytes": totals.reply_bytes,
    };
    for (reason, count) in EndReason::ALL.iter().zip(totals.ended) {
        row.insert(ended_column(*reason), json!(count));
    }
    row
}

/// Such as `endedIdle`.
fn ended_column(reason: EndReason) -> String {
    let mut column = "ended".to_owned();
    let mut letters = reason.name().chars();
    column.extend(letters.next().map(|first| first.to_ascii_uppercase()));
    column.extend(letters);
    column
}
