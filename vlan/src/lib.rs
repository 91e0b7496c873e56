//! 802.1Q and 802.1ad demux, self IPs, neighbours, and answers for owned addresses.
//!
//! What a station on a link must do, whatever it forwards:
//!
//! - [`table`]: (port, tags) → [`Vlan`], looked up for every frame;
//! - [`owned`]: which addresses are ours on which VLAN;
//! - [`answer`]: ARP, neighbour discovery and echo requests for those addresses, answered in the
//!   packet that asked; what is learned on the way comes back as an [`Event`];
//! - [`neighbor`]: the table of neighbours' MAC addresses, written by one thread and read by every
//!   worker without a lock;
//! - [`resolver`]: the state machine behind that table: it asks, retries, ages and forgets
//!   neighbours, and announces the addresses we take;
//! - [`segment`]: which of several ports in one segment speaks to whom.
//!
//! Workers use the first four per packet; the resolver belongs to the control thread:
//!
//! ```text
//!   worker:   demux ─ answer ──Event──▶ ring ─┐        lookup / mac
//!                                             ▼             ▲
//!   control:                       resolver (on_event, poll) ─ writes ─▶ Neighbors
//!                                             └─ Emit: frames to send
//! ```
//!
//! It does not know flows, virtual servers, drivers, threads or clocks: frames, [`net::Timestamp`]s
//! and seeds come in as arguments.
#![forbid(unsafe_code)]

pub mod answer;
pub mod event;
mod frame;
pub mod neighbor;
pub mod owned;
pub mod resolver;
pub mod segment;
pub mod table;
#[cfg(test)]
mod testing;

pub use answer::{Ignored, Outcome};
pub use event::{Event, How};
pub use neighbor::{NeighborRef, Neighbors, Resolution};
pub use owned::{Owned, Owner};
pub use resolver::{Resolver, ResolverConfig};
pub use table::{AllowedService, MAX_VLANS, SelfIp, Table, TableError, Vlan};
