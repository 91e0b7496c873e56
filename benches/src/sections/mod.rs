//! What is measured, section by section. Each runs in a process of its own, so that none inherits
//! the memory of another.

pub mod dpdk;
mod flood;
pub mod latency;
pub mod pipeline;
pub mod scale;
pub mod table;
pub mod tail;
pub mod workers;

use crate::row::Sink;

/// A section: its name, what it measures, and the function that does.
pub struct Section {
    /// On the command line and in the report.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    /// Puts its figures into the sink.
    pub run: fn(&mut Sink<'_>) -> Result<(), String>,
}

/// All sections, in the order they are run.
pub const ALL: &[Section] = &[
    Section {
        name: "pipeline",
        about: "the whole packet path: established and new flows, the ends of flows, drops, floods, memory",
        run: pipeline::run,
    },
    Section {
        name: "table",
        about: "the flow table by itself, beside hashbrown and DPDK's rte_hash",
        run: table::run,
    },
    Section {
        name: "dpdk",
        about: "tmm's worker through DPDK beside testpmd on the same kind of port",
        run: dpdk::run,
    },
    Section {
        name: "tail",
        about: "the slowest bursts, also while flows come and go and the configuration is swapped",
        run: tail::run,
    },
    Section {
        name: "latency",
        about: "latency under load, connections and new configurations: tmm run beside tmm-pktgen",
        run: latency::run,
    },
    Section {
        name: "scale",
        about: "1 to 100,000 virtual servers, 2 to 10,000 members",
        run: scale::run,
    },
    Section {
        name: "workers",
        about: "two workers beside one, in packets per CPU second",
        run: workers::run,
    },
];
