//! The tables an operator can ask for: one function per table, each giving rows of named columns.

mod filter;
mod snat;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::FieldError;
use config::client::Show;
use conntrack::EndReason;
use net::{L4Port, PortId, Timestamp, VlanIndex};
use serde_json::{Map, Value, json};

use super::Control;
use crate::command::{Command, FlowFilter, FlowFlush, FlowRow};
use crate::counters::{Counter, PortCounters, ServiceStats, ServiceTotals, WorkerCounters};
use crate::egress::Segments;
use crate::verdict::{Answer, DropReason, FlowStep};
use filter::{filter_rows, flow_filter};

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

/// Builds a row from pairs.
macro_rules! row {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut row = Row::new();
        $(row.insert($name.to_owned(), json!($value));)*
        row
    }};
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

    fn show_ports(&self) -> Vec<Row> {
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

    fn show_vlans(&self) -> Vec<Row> {
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

    fn show_self_ips(&self, now: Timestamp) -> Vec<Row> {
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

    fn show_neighbors(&self, now: Timestamp) -> Vec<Row> {
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

    fn show_routes(&self) -> Vec<Row> {
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

    fn show_virtual_servers(&self) -> Vec<Row> {
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

    fn show_pools(&self) -> Vec<Row> {
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

    fn sum(&self, get: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers
            .iter()
            .map(|worker| get(&worker.counters).get())
            .sum()
    }

    fn show_drops(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for reason in DropReason::ALL {
            rows.push(row! {
                "kind": "drop",
                "reason": reason.label(),
                "packets": self.sum(|c| &c.drops[reason.index()]),
                "meaning": reason.text(),
            });
        }
        for answer in Answer::ALL {
            rows.push(row! {
                "kind": "answer",
                "reason": answer.label(),
                "packets": self.sum(|c| &c.answers[answer.index()]),
                "meaning": answer.text(),
            });
        }
        for step in FlowStep::ALL {
            rows.push(row! {
                "kind": "forwarded",
                "reason": step.label(),
                "packets": self.sum(|c| &c.forwarded[step.index()]),
                "meaning": step.text(),
            });
        }
        rows.push(row! {
            "kind": "consumed",
            "reason": "consumed",
            "packets": self.sum(|c| &c.consumed_packets),
            "meaning": "told us something and needed no answer",
        });
        rows.push(row! {
            "kind": "consumed",
            "reason": "syn_proof",
            "packets": self.sum(|c| &c.syn_proofs_total),
            "meaning": "of those: a client proved its address, under SYN protection",
        });
        rows
    }

    fn show_workers(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (number, worker) in self.workers.iter().enumerate() {
            let c = &worker.counters;
            let sum = |get: fn(&PortCounters) -> &Counter| -> u64 {
                c.ports.iter().map(|port| get(port).get()).sum()
            };
            let mut row = row! { "worker": number };
            if let Some(facts) = &self.worker_facts {
                row.extend(facts(number));
            }
            let load = self.loads.by_worker.get(number);
            row.extend(row! {
                "loadPercent": load.map_or(0, |(_, load)| percent(*load)),
                "rxPackets": sum(|port| &port.rx.packets),
                "txPackets": sum(|port| &port.tx.packets),
                "handoffsIn": c.handoffs_in_packets.get(),
                "handoffsOut": c.handoffs_out_packets.get(),
                "generation": c.generation.get(),
                "flows": c.flows.get(),
                "flowsOpened": c.flows_opened_total.get(),
                "flowsEnded": c.flows_ended_total.get(),
                "flowsEvicted": c.flows_evicted_total.get(),
                "natMappings": c.nat_mappings.get(),
                "turns": c.turns_total.get(),
                "idleTurns": c.idle_turns_total.get(),
                "heldPackets": c.held_packets.get(),
                "fragmentsWaited": c.fragments_waited_packets.get(),
                "cutPackets": c.cut_packets.get(),
                "fragmentsMade": c.fragments_made_packets.get(),
                "originatedPackets": c.originated_packets.get(),
                "eventsLost": c.events_lost_total.get(),
                "icmpLimited": c.icmp_limited_total.get(),
            });
            rows.push(row);
        }
        rows
    }

    fn show_resolver(&self) -> Vec<Row> {
        let c = self.resolver.counters();
        [
            (
                "solicitations",
                c.solicitations,
                "ARP requests and neighbour solicitations sent",
            ),
            (
                "resolved",
                c.resolved,
                "neighbours whose MAC address became known",
            ),
            ("failed", c.failed, "neighbours that did not answer"),
            (
                "moved",
                c.moved,
                "neighbours that changed their MAC address",
            ),
            (
                "evicted",
                c.evicted,
                "neighbours pushed out to make room for others",
            ),
            (
                "no-room",
                c.no_room,
                "neighbours and conflicts there was no room for",
            ),
            (
                "refused",
                c.refused,
                "findings refused: off-link, ours, not asked for, or on an unknown VLAN",
            ),
            (
                "conflicts",
                c.conflicts,
                "times another station was heard to use an address of ours",
            ),
            (
                "announcements",
                c.announcements,
                "announcements of our addresses, defences included",
            ),
            ("reports", c.reports, "multicast listener reports sent"),
            (
                "delayed",
                self.sendings_delayed,
                "times that frames had to wait since a worker had not sent earlier ones yet",
            ),
            (
                "lost",
                self.commands_lost,
                "frames that a worker had no room for",
            ),
        ]
        .into_iter()
        .map(|(counter, count, meaning)| {
            row! { "counter": counter, "count": count, "meaning": meaning }
        })
        .collect()
    }

    /// Nothing if nothing is exported.
    fn show_export(&self) -> Vec<Row> {
        let Some(report) = &self.export else {
            return Vec::new();
        };
        let s = &report.stats;
        [
            (
                "records",
                s.records.get(),
                "data records made: flows and events",
            ),
            ("templates", s.templates.get(), "template records made"),
            ("messages", s.messages.get(), "messages sent"),
            ("octets", s.octets.get(), "octets of those messages"),
            (
                "lost",
                report.lost(),
                "entries lost since the exporter was behind with taking them",
            ),
            (
                "unsent",
                s.unsent.get(),
                "messages lost since the collector or the network did not take them",
            ),
            (
                "skipped",
                s.skipped.get(),
                "interim records left out since too many flows last long",
            ),
        ]
        .into_iter()
        .map(|(counter, count, meaning)| {
            row! {
                "collector": report.collector.to_string(),
                "counter": counter,
                "count": count,
                "meaning": meaning,
            }
        })
        .collect()
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

    /// All counters of all workers, by name: what tests compare whole.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for reason in DropReason::ALL {
            let name = format!("drop.{}", reason.label());
            all.insert(name, self.sum(|c| &c.drops[reason.index()]));
        }
        for answer in Answer::ALL {
            let name = format!("answer.{}", answer.label());
            all.insert(name, self.sum(|c| &c.answers[answer.index()]));
        }
        for step in FlowStep::ALL {
            let name = format!("forwarded.{}", step.label());
            all.insert(name, self.sum(|c| &c.forwarded[step.index()]));
        }
        for (name, get) in WORKER_COUNTERS {
            all.insert((*name).to_owned(), self.sum(get));
        }
        for (index, port) in self.surroundings.ports.iter().enumerate() {
            for worker in &self.workers {
                if let Some(c) = worker.counters.ports.get(index) {
                    *all.entry(format!("port.{}.rx_packets", port.id))
                        .or_default() += c.rx.packets.get();
                    *all.entry(format!("port.{}.rx_bytes", port.id)).or_default() +=
                        c.rx.bytes.get();
                    *all.entry(format!("port.{}.tx_packets", port.id))
                        .or_default() += c.tx.packets.get();
                    *all.entry(format!("port.{}.tx_bytes", port.id)).or_default() +=
                        c.tx.bytes.get();
                }
            }
        }
        all
    }
}

/// A name and where its counter is.
type Named = (&'static str, fn(&WorkerCounters) -> &Counter);

/// The counters of a worker that are no arrays and do not count turns.
const WORKER_COUNTERS: &[Named] = &[
    ("consumed_packets", |c| &c.consumed_packets),
    ("held_packets", |c| &c.held_packets),
    ("fragments_waited_packets", |c| &c.fragments_waited_packets),
    ("cut_packets", |c| &c.cut_packets),
    ("fragments_made_packets", |c| &c.fragments_made_packets),
    ("handoffs_out_packets", |c| &c.handoffs_out_packets),
    ("handoffs_in_packets", |c| &c.handoffs_in_packets),
    ("originated_packets", |c| &c.originated_packets),
    ("flows", |c| &c.flows),
    ("flows_opened_total", |c| &c.flows_opened_total),
    ("flows_ended_total", |c| &c.flows_ended_total),
    ("flows_evicted_total", |c| &c.flows_evicted_total),
    ("syn_proofs_total", |c| &c.syn_proofs_total),
    ("events_lost_total", |c| &c.events_lost_total),
    ("icmp_limited_total", |c| &c.icmp_limited_total),
];

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

/// A share of one in whole percents.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 100"
)]
fn percent(share: f64) -> u8 {
    (share.clamp(0.0, 1.0) * 100.0).round() as u8
}

/// The ports of each segment, such as `1.1+1.2`.
pub(super) fn segments_of(segments: &Segments) -> Vec<String> {
    let text = |ports: &Vec<PortId>| {
        let names: Vec<String> = ports.iter().map(ToString::to_string).collect();
        names.join("+")
    };
    segments.list().iter().map(text).collect()
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
