//! Frames as bytes: header views, packets, flow keys, checksums, addresses and time.
//!
//! The lowest room of the house: everything here is a pure function of bytes. From the bottom up:
//!
//! - [`addr`] and [`time`]: values that are valid by construction ([`MacAddr`], [`VlanId`],
//!   [`IpPrefix`], [`L4Port`], [`Timestamp`]);
//! - [`checksum`]: the Internet checksum, whole and incremental (RFC 1071, RFC 1624);
//! - [`mod@crc32c`]: SCTP's checksum, whole and incremental (RFC 9260);
//! - [`packet`]: a [`Packet`], one frame borrowed from whoever owns its buffer, with room in front;
//! - [`tag`]: 802.1Q and 802.1ad tags, in the frame or stripped into metadata by a driver;
//! - [`layers`]: [`Layers`], where each header of a frame begins, found once per packet;
//! - [`plain`]: the same for frames of the usual kind, at a glance: [`Plain`];
//! - [`flow`]: the [`FlowKey`] of a packet;
//! - [`mod@tuple`]: a [`Tuple`], the same as words in wire order, for the flow table;
//! - [`rewrite`]: setting addresses and ports in place while the checksums stay right;
//! - [`fragment`]: which part of which datagram a fragment is, and cutting packets into fragments;
//! - [`sctp`]: what the chunks of an SCTP packet are;
//! - [`tcp_options`]: the options of a TCP header, read, and the MSS lowered;
//! - [`emit`]: frames written from nothing (ARP, NDP, ICMP, TCP, UDP);
//! - [`icmp`]: errors of our own, made in place, and the quoted packets of other stations' errors.
//!
//! It does not know who owns a buffer, what time it is, or what the configuration says.
#![forbid(unsafe_code)]

pub mod addr;
pub mod checksum;
pub mod crc32c;
pub mod emit;
pub mod flow;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod layers;
pub mod packet;
pub mod plain;
pub mod rewrite;
pub mod sctp;
pub mod tag;
pub mod tcp_options;
pub mod time;
pub mod tuple;

pub use addr::{AddrError, IpPrefix, L4Port, MacAddr, PortId, VlanId, VlanIndex};
pub use flow::{Addr, FlowKey, IpProto};
pub use layers::{Fragment, Layers, Network, ParseError};
pub use packet::{EthernetHeader, NoRoom, Packet, RxChecksum, RxMeta, Shape};
pub use plain::Plain;
pub use rewrite::{Deltas, Rewrite, RewriteError};
pub use tag::Encap;
pub use time::Timestamp;
pub use tuple::Tuple;
