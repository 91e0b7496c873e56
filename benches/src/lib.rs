//! What the benchmarks share, from the bottom up:
//!
//! - [`clock`] and [`stats`]: CPU time, and what is said of samples;
//! - [`site`]: a network with virtual servers and members, and the control side that programmed it;
//! - [`frames`]: frames made from eight octets a flow;
//! - [`harness`]: a pipeline with any number of flows, timed with and without its work;
//! - [`tables`]: our flow table and others behind one trait; [`parts`]: pieces of the packet path;
//! - [`sections`]: what is measured; [`row`]: one figure of it; [`report`]: what is said of them;
//! - [`huge`]: huge pages for as long as a run takes;
//! - [`pktgen`]: the traffic generator.
//!
//! There is no port in the harness: frames are made in buffers that are in the cache, as a device
//! would leave them, and making them is timed by itself.

pub mod clock;
pub mod frames;
pub mod harness;
pub mod huge;
pub mod parts;
pub mod pktgen;
pub mod report;
pub mod row;
pub mod sections;
pub mod site;
pub mod stats;
pub mod tables;
