//! The custom resources, their validation, and the watch-event protocol of the config socket.
//!
//! The way of an object, from bytes to what the dataplane compiles:
//!
//! ```text
//! bytes ─ watch::Session ─ event ─ resource::parse ─ Store ─ resolve ─ Config + ObjectStates
//! file  ─ document::read_path ────────┘                         (whole, by value)
//! ```
//!
//! Nothing here opens a socket, starts a thread or reads a clock (reading files is the one
//! exception, in [`document`]). Every error names the field it is about, every input is bounded,
//! and a wrong object never disturbs another one or its own last good version.
//!
//! ```
//! use config::{Limits, document};
//!
//! let text = "
//! apiVersion: k8s.f5net.com/v1
//! kind: F5SPKVlan
//! metadata: {name: external}
//! spec: {name: external, tag: 100, interfaces: ['1.1'], selfip_v4s: [10.0.0.1], prefixlen_v4: 24}
//! ";
//! let (store, problems) = document::load(&document::read_text("site.yaml", text), Limits::default());
//! assert!(problems.is_empty());
//! let (config, states) = config::resolve(&store, 0);
//! assert_eq!(config.vlans[0].self_ips(0).count(), 1);
//! assert_eq!(states[0].reason(), "Programmed");
//! ```
//!
//! * [`resource`]: one module per kind; extraction and validation of one object.
//! * [`store`]: the last good version of every object.
//! * [`resolve()`]: references followed, conflicts settled: a [`Config`] and a state per object.
//! * [`watch`]: the protocol of the socket as a state machine.
//! * [`document`]: YAML and JSON files.
//! * [`schema`]: the custom resource definitions, made from what the readers of `resource` ask for.
//! * [`client`]: the lines of the protocol as types, shared with the operator's tool.

#![forbid(unsafe_code)]

pub mod client;
pub mod document;
mod error;
mod kind;
mod meta;
mod reader;
pub mod resolve;
pub mod resource;
pub mod schema;
mod sketch;
pub mod store;
mod types;
pub mod watch;

pub use error::FieldError;
pub use kind::{Kind, UNSUPPORTED};
pub use meta::{Metadata, ObjectKey};
pub use resolve::{ObjectState, Reason, ReasonCode, State, resolve};
pub use store::{Change, Limits, Owner, Store, Stored};
pub use types::{
    AllowedProtocol, AllowedService, AutoLasthop, Config, Egress, EgressTimeouts, Encap, LbMethod,
    ListenScope, Monitor, MonitorKind, Nat, NatFiltering, NatMapping, Pool, PoolKey, PoolMember,
    Profile, Protocol, SctpProfile, SelfIp, ServiceDownAction, Snat, SnatPool, SpreadHash,
    StaticRoute, TcpProfile, TrunkHash, VirtualServer, Vlan,
};
