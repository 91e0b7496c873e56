//! What the benchmarks share, from the bottom up:
//!
//! - [`clock`] and [`stats`]: CPU time, and what is said of samples;
//! - [`site`]: a network with virtual servers and members, and the control side that programmed it;
//! - [`frames`]: frames made from eight octets a flow;
//! - [`harness`]: a pipeline with any number of flows, timed with and without its work.
//!
//! There is no port in it: frames are made in buffers that are in the cache, as a device would
//! leave them, and making them is timed by itself.

pub mod clock;
pub mod frames;
pub mod harness;
pub mod site;
pub mod stats;
pub mod tables;
pub mod parts;
pub mod pktgen;
pub mod row;
pub mod sections;
