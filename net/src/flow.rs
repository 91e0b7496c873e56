//! The key that names a flow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::addr::L4Port;

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(transparent)]
pub struct IpProto(pub u8);

impl IpProto {
    /// IPv6 hop-by-hop options (RFC 8200).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// DCCP (RFC 4340).
    pub const DCCP: Self = Self(33);
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: Self = Self(136);
}

impl fmt::Display for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.pad("icmp"),
            Self::TCP => f.pad("tcp"),
            Self::UDP => f.pad("udp"),
            Self::ICMPV6 => f.pad("icmpv6"),
            Self::SCTP => f.pad("sctp"),
            Self(n) => f.pad(&n.to_string()),
        }
    }
}

impl fmt::Debug for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for IpProto {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// An IPv4 or IPv6 address in 16 octets; IPv4 is held in its mapped form (RFC 4291 section
/// 2.5.5.2), which no packet may carry on the wire, so the two families never meet.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(transparent)]
pub struct Addr([u8; 16]);

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Addr {
    /// From the four octets of an IPv4 header.
    #[inline]
    pub fn from_v4(octets: [u8; 4]) -> Self {
        let mut a = [0; 16];
        a[..12].copy_from_slice(&MAPPED);
        a[12..].copy_from_slice(&octets);
        Self(a)
    }

    /// From the sixteen octets of an IPv6 header.
    #[inline]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == MAPPED
    }

    /// All sixteen octets.
    #[inline]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last four octets: the IPv4 address, if it is one.
    #[inline]
    pub const fn v4_octets(&self) -> [u8; 4] {
        let a = &self.0;
        [a[12], a[13], a[14], a[15]]
    }

    /// As the standard library has it.
    #[inline]
    pub fn ip(&self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from(self.v4_octets()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::from_v4(a.octets()),
            IpAddr::V6(a) => Self(a.octets()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What names a flow in one direction: addresses, ports (or ICMP echo identifier) and protocol.
///
/// 40 octets without padding, so that it can be hashed and compared as bytes.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Default,
)]
#[repr(C)]
pub struct FlowKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    sport: u16,
    dport: u16,
    /// Upper-layer protocol.
    pub proto: IpProto,
    reserved: [u8; 3],
}

impl FlowKey {
    /// A key from its parts.
    #[inline]
    pub const fn new(src: Addr, dst: Addr, sport: L4Port, dport: L4Port, proto: IpProto) -> Self {
        Self {
            src,
            dst,
            sport: sport.0,
            dport: dport.0,
            proto,
            reserved: [0; 3],
        }
    }

    /// Source port, or the identifier of an ICMP echo.
    #[inline]
    pub const fn sport(&self) -> L4Port {
        L4Port(self.sport)
    }

    /// Destination port, or the identifier of an ICMP echo.
    #[inline]
    pub const fn dport(&self) -> L4Port {
        L4Port(self.dport)
    }

    /// The key of a packet that goes the other way.
    #[inline]
    #[must_use]
    pub const fn inverted(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
            reserved: [0; 3],
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |f: &mut fmt::Formatter<'_>, addr: &Addr, port: u16| {
            if addr.is_v4() {
                write!(f, "{addr}:{port}")
            } else {
                write!(f, "[{addr}]:{port}")
            }
        };
        write!(f, "{} ", self.proto)?;
        side(f, &self.src, self.sport)?;
        f.write_str(" > ")?;
        side(f, &self.dst, self.dport)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_forty_octets_and_inverts_to_its_reply() {
        assert_eq!(size_of::<FlowKey>(), 40);
        let key = FlowKey::new(
            Addr::from_v4([192, 0, 2, 1]),
            Addr::from_v4([203, 0, 113, 10]),
            L4Port(40000),
            L4Port(80),
            IpProto::TCP,
        );
        assert_eq!(key.to_string(), "tcp 192.0.2.1:40000 > 203.0.113.10:80");
        assert_eq!(
            key.inverted().to_string(),
            "tcp 203.0.113.10:80 > 192.0.2.1:40000"
        );
        assert_eq!(key.inverted().inverted(), key);
    }
}
