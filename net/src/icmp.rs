//! ICMP and ICMPv6 errors: ours, made in place of the packet they are about ([`error_in_place`]),
//! and those of others, whose quoted packet is translated as the flow it belongs to
//! ([`Quote`]).

mod quote;

pub use quote::{Quote, QuoteError};

use crate::addr::MacAddr;
use crate::checksum::{Sum, of, pseudo_header};
use crate::emit::{DEFAULT_TTL, macs};
use crate::flow::{Addr, IpProto};
use crate::header::{Icmp, Ipv4, Ipv6, view_mut};
use crate::layers::{Fragment, Layers, Network};
use crate::packet::{NoRoom, Packet};

/// Longest IPv4 error, octets of the IP packet (RFC 1812 section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Longest IPv6 error, octets of the IP packet (RFC 4443 section 2.4 (c)).
const LONGEST_V6: usize = 1280;
/// Precedence of errors: internetwork control (RFC 1812 section 4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;

/// What an error of our own says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// TTL or hop limit used up on the way.
    TimeExceeded,
    /// Larger than the MTU of the link it would leave by, octets (RFC 1191 section 4, RFC 8201).
    TooBig {
        /// That MTU.
        mtu: u16,
    },
    /// No route to the destination.
    NoRoute,
    /// The next hop does not answer.
    HostUnreachable,
    /// Nothing listens on the port.
    PortUnreachable,
    /// Nothing here speaks the protocol. Over IPv6 the octet that names it is pointed at.
    ProtocolUnreachable,
    /// An option that must be understood is not (RFC 8200 section 4.2). IPv6 only.
    UnknownOption {
        /// Its place in the packet, octets from the start of the IPv6 header.
        pointer: u32,
    },
}

impl Error {
    /// Type, code and the four octets behind the checksum, in the family of `layers`.
    fn fields(self, frame: &[u8], layers: &Layers) -> (u8, u8, u32) {
        if layers.network == Network::Ipv4 {
            match self {
                Self::TimeExceeded => (11, 0, 0),
                Self::TooBig { mtu } => (3, 4, u32::from(mtu)),
                Self::NoRoute => (3, 0, 0),
                Self::HostUnreachable => (3, 1, 0),
                Self::PortUnreachable => (3, 3, 0),
                Self::ProtocolUnreachable => (3, 2, 0),
                Self::UnknownOption { pointer } => (12, 0, pointer << 24),
            }
        } else {
            match self {
                Self::TimeExceeded => (3, 0, 0),
                Self::TooBig { mtu } => (2, 0, u32::from(mtu)),
                Self::NoRoute => (1, 0, 0),
                Self::HostUnreachable => (1, 3, 0),
                Self::PortUnreachable => (1, 4, 0),
                Self::ProtocolUnreachable => (4, 1, next_header_at(frame, layers)),
                Self::UnknownOption { pointer } => (4, 2, pointer),
            }
        }
    }
}

/// Where the octet is that names the transport protocol, from the start of the IPv6 header.
fn next_header_at(frame: &[u8], layers: &Layers) -> u32 {
    let (mut named_at, mut at) = (layers.l3 + 6, layers.l3 + 40);
    // The parser has checked that the headers lie within the packet.
    while at < layers.l4 {
        let next = frame.get(named_at).copied().unwrap_or_default();
        let len = frame.get(at + 1).copied().map_or(0, usize::from);
        named_at = at;
        at += extension_len(next, len);
    }
    u32::try_from(named_at - layers.l3).unwrap_or(0)
}

/// Octets of the IPv6 extension header of kind `next` whose length field is `len`.
pub const fn extension_len(next: u8, len: usize) -> usize {
    match next {
        44 => 8,
        51 => (len + 2) * 4,
        _ => (len + 1) * 8,
    }
}

/// Whether a packet is an ICMP error, a redirect, or of a type that may be one: nothing that an error may
/// be sent about (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
pub fn is_error(layers: &Layers) -> bool {
    match (layers.network, layers.key.proto) {
        // The queries and their answers are known.
        (Network::Ipv4, IpProto::ICMP) => !matches!(layers.icmp_type, 0 | 8..=10 | 13..=18),
        (Network::Ipv6, IpProto::ICMPV6) => layers.icmp_type < 128 || layers.icmp_type == 137,
        _ => false,
    }
}

/// Whether a packet is an ICMP error that concerns whoever sent what it quotes: unreachable, too big, time
/// exceeded, parameter problem. (Source quench is deprecated, RFC 6633; a redirect is for the link alone.)
#[inline]
pub fn concerns_a_flow(layers: &Layers) -> bool {
    match layers.key.proto {
        IpProto::ICMP if layers.network == Network::Ipv4 => {
            matches!(layers.icmp_type, 3 | 11 | 12)
        }
        IpProto::ICMPV6 if layers.network == Network::Ipv6 => {
            matches!(layers.icmp_type, 1..=4)
        }
        _ => false,
    }
}

/// Whether the packet, as it came in, is one that an error may be sent about: not an error itself, not a
/// later fragment, sent by one station to one station (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
pub fn may_be_told_of(packet: &Packet<'_>, layers: &Layers) -> bool {
    let (source, destination): (MacAddr, MacAddr) = macs(packet.data());
    layers.is_ip()
        && !is_error(layers)
        && layers.fragment != Fragment::Later
        && !source.is_group()
        && !destination.is_group()
        && is_one_host(&layers.key.src)
        && is_one_host(&layers.key.dst)
}

/// Whether an address can be that of one station, as far as the address alone says.
fn is_one_host(addr: &Addr) -> bool {
    if addr.is_v4() {
        !matches!(addr.v4_octets(), [0 | 127 | 224..=255, ..])
    } else {
        let octets = addr.octets();
        octets[0] != 0xff && octets[..15] != [0; 15]
    }
}

/// Turns a packet into the error about it, from our address `source`, in place: headers are put in front of as
/// much of the packet as the error may quote. The packet must be as it came in. What is left begins with
/// the IP header; the Ethernet header is left to the caller.
///
/// # Errors
/// The buffer has no room for the headers, or `source` is of the other family; the packet is as it was.
pub fn error_in_place(
    packet: &mut Packet<'_>,
    layers: &Layers,
    error: Error,
    source: &Addr,
) -> Result<(), NoRoom> {
    let v4 = layers.network == Network::Ipv4;
    if !layers.is_ip() || source.is_v4() != v4 {
        return Err(NoRoom);
    }
    let (kind, code, rest) = error.fields(packet.data(), layers);
    let (ip_len, longest) = if v4 {
        (20, LONGEST_V4)
    } else {
        (40, LONGEST_V6)
    };
    let quoted_len = (layers.end - layers.l3).min(longest - ip_len - 8);
    let quoted = packet.data().get(layers.l3..layers.l3 + quoted_len);
    let quoted = quoted.ok_or(NoRoom)?;
    let message_len = u16::try_from(8 + quoted_len).map_err(|_| NoRoom)?;
    let mut headers = [0; 48];
    let headers = headers.get_mut(..ip_len + 8).ok_or(NoRoom)?;
    let icmp: &mut Icmp = view_mut(headers, ip_len).ok_or(NoRoom)?;
    (icmp.kind, icmp.code) = (kind, code);
    let [a, b, c, d] = rest.to_be_bytes();
    icmp.ident = u16::from_be_bytes([a, b]).into();
    icmp.seq = u16::from_be_bytes([c, d]).into();
    let to = &layers.key.src;
    let over = if v4 {
        Sum::ZERO
    } else {
        pseudo_header(source.ip(), to.ip(), IpProto::ICMPV6.0, message_len)
    };
    // The quoted packet comes last: its length alone may be odd.
    let message = headers.get(ip_len..).ok_or(NoRoom)?;
    let sum = over.add(message).add(quoted).checksum();
    let icmp: &mut Icmp = view_mut(headers, ip_len).ok_or(NoRoom)?;
    icmp.checksum = sum.into();
    if v4 {
        let ip: &mut Ipv4 = view_mut(headers, 0).ok_or(NoRoom)?;
        ip.version_ihl = 0x45;
        ip.tos = PRECEDENCE;
        ip.total_len = (20 + message_len).into();
        ip.flags_fragment = 0x4000.into();
        ip.ttl = DEFAULT_TTL;
        ip.proto = IpProto::ICMP.0;
        (ip.src, ip.dst) = (source.v4_octets(), to.v4_octets());
        let sum = of(headers.get(..20).ok_or(NoRoom)?);
        let ip: &mut Ipv4 = view_mut(headers, 0).ok_or(NoRoom)?;
        ip.checksum = sum.into();
    } else {
        let ip: &mut Ipv6 = view_mut(headers, 0).ok_or(NoRoom)?;
        ip.version_class_flow = (0x6000_0000 | u32::from(PRECEDENCE) << 20).into();
        ip.payload_len = message_len.into();
        ip.next = IpProto::ICMPV6.0;
        ip.hop_limit = DEFAULT_TTL;
        (ip.src, ip.dst) = (*source.octets(), *to.octets());
    }
    packet.put_before(layers.l3, headers)?;
    packet.cut(headers.len() + quoted_len);
    Ok(())
}

#[cfg(test)]
mod tests;
