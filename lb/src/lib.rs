//! Virtual servers, pools, members, selection, and source address translation.
//!
//! What a load balancer decides for the first packet of a flow, and nothing else. From the bottom
//! up:
//!
//! - [`id`]: [`VirtualServerId`], [`PoolId`], [`MemberId`] and the [`Registry`] that hands them
//!   out, stable over configuration changes, so that live flows never move;
//! - [`listen`]: on which VLANs a virtual server listens;
//! - [`virtual_server`]: a [`VirtualServer`] and [`VirtualServers`], the table that finds the one
//!   a packet is for;
//! - [`pool`]: a [`Pool`] of [`Member`]s, with a Maglev table ([`maglev`]) where one is needed;
//! - [`select`]: the [`Selector`], a worker's own state of selection (cursors, connection counts);
//! - [`snat`]: which source ports a worker may translate to ([`PortStripe`]);
//! - [`mapping`]: ports that do not depend on the flow ([`Mappings`]);
//! - [`snat_pool`]: which address of a [`SnatPool`] a client is translated to;
//! - [`toeplitz`]: by which queue a network card hands up the packets of a tuple.
//!
//! Tables are built whole for a configuration generation and never change; only a [`Selector`] is
//! mutable, and it belongs to one worker. Nothing here allocates, locks or reads a clock while it
//! decides. This crate does not know flow tables, bytes of packets, sockets or VLAN tags.
#![forbid(unsafe_code)]

pub mod id;
pub mod listen;
pub mod maglev;
pub mod mapping;
mod mix;
pub mod pool;
pub mod select;
pub mod snat;
pub mod snat_pool;
pub mod toeplitz;
pub mod virtual_server;

pub use id::{MemberId, PoolId, Registry, VirtualServerId};
pub use listen::{Listen, VlanSet};
pub use mapping::{Endpoint, Mappings};
pub use pool::{Member, MemberState, Pool, Pools};
pub use select::Selector;
pub use snat::{PortStripe, StripeError};
pub use snat_pool::{SnatPool, SnatPoolIndex};
pub use virtual_server::{
    ANY_PROTO, DownAction, Filtering, Mapping, Method, Nat, Profile, SctpProfile, Snat, TcpProfile,
    UdpProfile, VirtualServer, VirtualServers,
};
