//! Ports, VLANs, the addresses on them, neighbours and routes.

use std::collections::{BTreeMap, BTreeSet};

use net::{PortId, Timestamp};

use super::{Control, Row, sort};
use crate::counters::{Counter, PortCounters};
use crate::egress::Segments;

impl Control {
    pub(super) fn show_ports(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for port in self.surroundings.ports.iter() {
            let index = usize::from(port.id.0);
            let sum = |get: fn(&PortCounters) -> &Counter| -> u64 {
                let cells = self
                    .workers
                    .iter()
                    .filter_map(|w| w.counters.ports.get(index));
                cells.map(|c| get(c).get()).sum()
            };
            let mut row = row! {
                "port": port.id.to_string(),
                "mac": port.mac,
                "together": self.together(port.id),
                "mtu": port.mtu,
                "rxPackets": sum(|c| &c.rx.packets),
                "rxBytes": sum(|c| &c.rx.bytes),
                "txPackets": sum(|c| &c.tx.packets),
                "txBytes": sum(|c| &c.tx.bytes),
            };
            if let Some(facts) = self.port_facts.as_ref().map(|facts| facts(port.id)) {
                row.extend(facts);
            }
            rows.push(row);
        }
        rows
    }

    /// The ports that are in one segment with this one, on whichever VLAN.
    fn together(&self, port: PortId) -> BTreeSet<String> {
        let tables = self.tables();
        let mut together = BTreeSet::new();
        for vlan in &tables.vlans {
            let groups = tables.segments(vlan.index).map(Segments::list);
            let group = groups.and_then(|g| g.into_iter().find(|group| group.contains(&port)));
            let others = group.into_iter().flatten().filter(|other| *other != port);
            together.extend(others.map(|other| other.to_string()));
        }
        together
    }

    pub(super) fn show_vlans(&self) -> Vec<Row> {
        let tables = self.tables();
        let mut rows: Vec<Row> = tables
            .vlans
            .iter()
            .map(|vlan| {
                let self_ips: Vec<String> = vlan
                    .self_ips
                    .iter()
                    .map(|own| format!("{}/{}", own.addr, own.prefix.prefix_len()))
                    .collect();
                let ports: Vec<String> = vlan.ports.iter().map(ToString::to_string).collect();
                row! {
                    "vlan": vlan.name,
                    "tag": vlan.encap,
                    "ports": ports,
                    "mac": vlan.mac,
                    "segments": tables.segments(vlan.index).map(segments_of),
                    "mtu": vlan.mtu,
                    "internal": vlan.internal,
                    "autoLasthop": vlan.auto_lasthop,
                    "mssClamp": vlan.mss_clamp,
                    "selfIps": self_ips,
                }
            })
            .collect();
        sort(&mut rows, &["vlan"]);
        rows
    }

    pub(super) fn show_self_ips(&self, now: Timestamp) -> Vec<Row> {
        let tables = self.tables();
        let conflicts: BTreeMap<_, _> = self
            .resolver
            .conflicts()
            .into_iter()
            .map(|conflict| ((conflict.vlan, conflict.addr), conflict))
            .collect();
        let mut rows: Vec<Row> = tables
            .owned
            .iter()
            .map(|(vlan, addr, owner)| {
                let conflict = conflicts.get(&(vlan, addr));
                row! {
                    "address": addr.to_string(),
                    "vlan": self.vlan_name(vlan),
                    "kind": match owner {
                        vlan::Owner::SelfIp => "self-ip",
                        vlan::Owner::Virtual => "virtual",
                        vlan::Owner::SnatPool => "snat-pool",
                    },
                    "conflict": conflict.map(|c| c.mac.to_string()),
                    "conflictSinceSeconds": conflict.map(|c| now.since(c.first_seen).as_secs()),
                }
            })
            .collect();
        sort(&mut rows, &["kind", "vlan", "address"]);
        rows
    }

    pub(super) fn show_neighbors(&self, now: Timestamp) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .resolver
            .snapshot()
            .into_iter()
            .map(|neighbor| {
                row! {
                    "address": neighbor.addr.to_string(),
                    "vlan": self.vlan_name(neighbor.vlan),
                    "mac": neighbor.mac,
                    "state": neighbor.state.name(),
                    "confirmedSecondsAgo": neighbor.confirmed.map(|at| now.since(at).as_secs()),
                }
            })
            .collect();
        sort(&mut rows, &["vlan", "address"]);
        rows
    }

    pub(super) fn show_routes(&self) -> Vec<Row> {
        let tables = self.tables();
        let mut rows: Vec<Row> = tables
            .routes
            .iter()
            .map(|(prefix, route)| {
                row! {
                    "destination": prefix,
                    "gateway": route.gateway,
                    "vlan": self.vlan_name(route.vlan),
                    "kind": if route.gateway.is_some() { "static" } else { "on-link" },
                }
            })
            .collect();
        sort(&mut rows, &["destination"]);
        rows
    }
}

/// The ports of each segment, such as `1.1+1.2`.
pub(in crate::control) fn segments_of(segments: &Segments) -> Vec<String> {
    let text = |ports: &Vec<PortId>| {
        let names: Vec<String> = ports.iter().map(ToString::to_string).collect();
        names.join("+")
    };
    segments.list().iter().map(text).collect()
}
