//! The dataplane: ports, workers, the pipeline, tables, counters and the control side.
//!
//! From the bottom up:
//!
//! - [`port`]: what a worker needs of a port; [`memory`] ports for tests, benches and replay;
//! - [`verdict`] and [`counters`]: what is decided, and how it is counted;
//! - [`routes`] and [`tables`]: one immutable snapshot of the configuration, compiled for look-up;
//! - [`egress`]: by which port a frame of a VLAN leaves;
//! - [`compile`]: from the validated configuration to that snapshot;
//! - [`pipeline`]: one packet's way, a pure function over a burst;
//! - [`trains`]: datagrams whose fragments are on their way;
//! - [`worker`]: ports and a pipeline, run to completion; [`command`]: what it can be asked;
//! - [`steer`] and [`handoff`]: which worker a packet belongs to, and how it gets there;
//! - [`journal`] and [`ipfix`]: what happens to flows, written down and exported;
//! - [`bell`]: how who sleeps is woken;
//! - [`control`]: configuration, neighbours, and the socket;
//! - `discover`: which ports there are, and what stands in their way (with DPDK);
//! - [`rig`]: all of it in memory, for replay, tests, fuzzing and benches.

pub mod addresses;
pub mod bell;
pub mod check;
pub mod cli;
pub mod command;
pub mod compile;
pub mod control;
pub mod counters;
pub mod defences;
#[cfg(feature = "dpdk")]
pub mod discover;
#[cfg(feature = "dpdk")]
pub mod dpdk_port;
pub mod egress;
pub mod handoff;
mod hold;
pub mod ipfix;
pub mod journal;
pub mod lasting;
pub mod memory;
#[cfg(feature = "dpdk")]
mod partial;
pub mod pcap;
pub mod pipeline;
pub mod port;
pub mod replay;
pub mod rig;
pub mod routes;
#[cfg(feature = "dpdk")]
pub mod run;
pub mod steer;
pub mod tables;
pub mod trains;
pub mod verdict;
pub mod worker;
