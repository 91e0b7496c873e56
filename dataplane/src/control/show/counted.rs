//! What is counted: drops, workers, the resolver, the export of flows.

use std::collections::BTreeMap;

use super::{Control, Row};
use crate::counters::{Counter, PortCounters, WorkerCounters};
use crate::verdict::{Answer, DropReason, FlowStep};

impl Control {
    fn sum(&self, get: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers
            .iter()
            .map(|worker| get(&worker.counters).get())
            .sum()
    }

    pub(super) fn show_drops(&self) -> Vec<Row> {
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

    pub(super) fn show_workers(&self) -> Vec<Row> {
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
                "hairpinPackets": c.hairpin_packets.get(),
                "originatedPackets": c.originated_packets.get(),
                "eventsLost": c.events_lost_total.get(),
                "icmpLimited": c.icmp_limited_total.get(),
            });
            rows.push(row);
        }
        rows
    }

    pub(super) fn show_resolver(&self) -> Vec<Row> {
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
    pub(super) fn show_export(&self) -> Vec<Row> {
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
    ("hairpin_packets", |c| &c.hairpin_packets),
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

/// A share of one in whole percents.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 100"
)]
fn percent(share: f64) -> u8 {
    (share.clamp(0.0, 1.0) * 100.0).round() as u8
}
