//! The flow table: which flows there are, what state each is in, and when it ends.
//!
//! One [`Table`] belongs to one worker. It has a fixed capacity, allocates nothing after
//! [`Table::new`] (but for a list of the different timeouts in use beyond 1,024), shares nothing and
//! takes no lock. From the bottom up:
//!
//! - `machine`: what is asked of the processor; `memory`: arrays in huge pages; `hash`: of tuples,
//!   keyed; `index`: from a hash to a slot; `shared`: addresses that
//!   IPv6 flows have in common; `deadlines`: when a slot is to be looked at. None of them
//!   knows what a flow is;
//! - [`timeouts`]: how long a flow may stay silent in each state;
//! - [`state`], [`tcp`] and `sctp`: what a packet does to a flow;
//! - [`flow`]: one entry, with both of its tuples and the caller's own data;
//! - [`event`]: why a flow ended;
//! - [`table`]: all of it together.
//!
//! A flow is entered under two tuples: the key of packets in the original direction and the key of
//! packets that come back. Translation is nothing but a reply tuple that is not the original's
//! inverse; see [`FlowRef::translated`].
//!
//! One packet's way through it:
//!
//! ```
//! use conntrack::{NewFlow, Observed, Segment, Table, TableConfig, Timeouts};
//! # use net::{Addr, FlowKey, IpProto, L4Port, Timestamp};
//! # let key = FlowKey::new(Addr::from_v4([10, 0, 0, 1]), Addr::from_v4([203, 0, 113, 10]),
//! #     L4Port(40_000), L4Port(53), IpProto::UDP);
//! # let (seed, now) = (1, Timestamp::ZERO);
//! let mut table = Table::new(TableConfig { capacity: 1024, seed, hugetlb: false });
//!
//! let hash = table.hash(&key);
//! let (id, direction) = match table.lookup_hashed(hash, &key) {
//!     Some(found) => found,
//!     None => {
//!         // Choose a member and a translated tuple that `contains` says is free; enter it last.
//!         let reply = key.inverted();
//!         let timeouts = Timeouts::udp();
//!         table.insert(NewFlow { original: key, reply, timeouts, data: "pool-1" }, now)?;
//!         table.lookup_hashed(hash, &key).unwrap()
//!     }
//! };
//! match table.observe(id, direction, &Segment::datagram(60), now) {
//!     Observed::Accept { .. } => { /* rewrite to `translated(direction)` and send */ }
//!     Observed::Reopen => { /* remove, and treat as a miss */ }
//!     Observed::Invalid(_reason) => { /* drop and count */ }
//! }
//!
//! // Between bursts:
//! let ended = table.expire(now, 64, &mut |flow, reason| println!("{}: {reason}", flow.data()));
//! # assert_eq!((ended, table.len()), (0, 1));
//! # Ok::<(), conntrack::InsertError>(())
//! ```
//!
//! It does not know what a virtual server, a VLAN or a configuration is. It reads no clock and
//! draws no randomness: time and the seed of the hash come in as arguments.
#![deny(unsafe_code)] // but in `memory` and `machine`, which say why

mod deadlines;
pub mod event;
pub mod flow;
mod hash;
mod index;
mod machine;
mod memory;
mod sctp;
mod shared;
pub mod state;
pub mod stats;
pub mod table;
pub mod tcp;
pub mod timeouts;
mod traffic;

pub use event::EndReason;
pub use flow::{Direction, Flow, FlowId, FlowRef};
pub use state::{Invalid, Observed, Segment, State};
pub use stats::Stats;
pub use table::{Cursor, Hashed, Hit, InsertError, NewFlow, Probe, Table, TableConfig};
pub use tcp::TcpSegment;
pub use timeouts::{Timeouts, TimeoutsId};
