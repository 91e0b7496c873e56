//! What is measured, section by section. Each runs in a process of its own, so that none inherits
//! the memory of another.

pub mod pipeline;
pub mod table;

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
        about: "the whole packet path: established and new flows, the ends of flows, drops, memory",
        run: pipeline::run,
    },
    Section {
        name: "table",
        about: "the flow table by itself, beside hashbrown and DPDK's rte_hash",
        run: table::run,
    },
];
