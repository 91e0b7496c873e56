//! Addresses and identifiers whose values are valid by construction.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Why a textual or numeric address was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddrError {
    /// Not six colon-separated hexadecimal octets.
    #[error("\"{0}\" is not a MAC address (expected aa:bb:cc:dd:ee:ff)")]
    Mac(String),
    /// Outside 1–4094 (IEEE 802.1Q 9.6: 0 is the priority tag, 4095 is reserved).
    #[error("{0} is not a VLAN id (expected 1-4094)")]
    Vlan(u32),
    /// Not `address/length`.
    #[error("\"{0}\" is not an IP prefix (expected address/length)")]
    Prefix(String),
    /// Longer than the address family allows.
    #[error("prefix length {len} is longer than {max}")]
    PrefixLen {
        /// The length that was asked for.
        len: u8,
        /// 32 for IPv4, 128 for IPv6.
        max: u8,
    },
}

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, never a valid station address.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this can be the address of one station: neither group nor zero.
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// The group address an IPv6 multicast packet is sent to (RFC 2464 section 7).
    pub const fn ipv6_multicast(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }

    /// The address in the low 48 bits of a word, for atomic cells.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        // In two pieces that are read at once; octet by octet would be three times the work.
        let m = self.0;
        let high = u32::from_be_bytes([m[0], m[1], m[2], m[3]]);
        (high as u64) << 16 | u16::from_be_bytes([m[4], m[5]]) as u64
    }

    /// The inverse of [`to_u64`](Self::to_u64); the upper 16 bits are ignored.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "taken apart")]
    pub const fn from_u64(word: u64) -> Self {
        let (h, l) = (
            ((word >> 16) as u32).to_be_bytes(),
            (word as u16).to_be_bytes(),
        );
        Self([h[0], h[1], h[2], h[3], l[0], l[1]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let refuse = || AddrError::Mac(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            Err(refuse())
        } else {
            Ok(Self(octets))
        }
    }
}

impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// An 802.1Q VLAN identifier, 1–4094.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(transparent)]
pub struct VlanId(u16);

impl VlanId {
    /// The identifier, or `None` outside 1–4094.
    pub const fn new(vid: u16) -> Option<Self> {
        if vid >= 1 && vid <= 4094 {
            Some(Self(vid))
        } else {
            None
        }
    }

    /// 1–4094.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = AddrError;

    fn try_from(vid: u16) -> Result<Self, AddrError> {
        Self::new(vid).ok_or(AddrError::Vlan(u32::from(vid)))
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transport port (TCP, UDP, SCTP), or the identifier of an ICMP echo.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub struct L4Port(pub u16);

impl fmt::Display for L4Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IPv4 or IPv6 prefix with its host bits cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// The prefix of `len` bits that `addr` lies in.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, AddrError> {
        let max = if addr.is_ipv4() { 32 } else { 128 };
        if len > max {
            return Err(AddrError::PrefixLen { len, max });
        }
        Ok(Self {
            addr: mask(addr, len),
            len,
        })
    }

    /// The prefix that holds just `addr`.
    pub const fn host(addr: IpAddr) -> Self {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, len }
    }

    /// The lowest address of the prefix.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Length in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Whether the prefix is one address.
    pub const fn is_host(&self) -> bool {
        self.len == if self.addr.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `addr` is of the same family and lies in the prefix.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && mask(addr, self.len) == self.addr
    }
}

/// `addr` with all but the first `len` bits cleared.
fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(len.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & mask).into()
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(len.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for IpPrefix {
    type Err = AddrError;

    /// `address/length`, or a bare address for a prefix of one.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let refuse = || AddrError::Prefix(text.to_owned());
        match text.split_once('/') {
            Some((addr, len)) => {
                let addr = addr.parse().map_err(|_| refuse())?;
                Self::new(addr, len.parse().map_err(|_| refuse())?)
            }
            None => Ok(Self::host(text.parse().map_err(|_| refuse())?)),
        }
    }
}

impl serde::Serialize for IpPrefix {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The 16-bit index of a VLAN in the tables of one configuration; also names a VLAN where its
/// tag must not be known (listening scopes, neighbours).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(transparent)]
pub struct VlanIndex(pub u16);

/// The index of a port, in attachment order: interface 1.1 is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(transparent)]
pub struct PortId(pub u8);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", u16::from(self.0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_parsed_strictly_and_shown_canonically() {
        let mac: MacAddr = "02:00:5e:AB:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:ab:00:01");
        assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
        for bad in [
            "",
            "02:00:5e:ab:00",
            "02:00:5e:ab:00:01:02",
            "2:0:5e:ab:0:1",
            "02-00-5e-ab-00-01",
            "02:00:5e:ab:00:+1",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn vlan_ids_stop_at_the_reserved_values() {
        assert!(VlanId::new(0).is_none() && VlanId::new(4095).is_none());
        assert_eq!(VlanId::new(1).unwrap().get(), 1);
        assert_eq!(VlanId::new(4094).unwrap().get(), 4094);
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        let p: IpPrefix = "10.1.2.3/8".parse().unwrap();
        assert_eq!(p.to_string(), "10.0.0.0/8");
        assert!(p.contains("10.255.0.1".parse().unwrap()));
        assert!(!p.contains("11.0.0.1".parse().unwrap()));
        assert!(!p.contains("::a00:1".parse().unwrap()));
        let all: IpPrefix = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("1.2.3.4".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<IpPrefix>().is_err());
        assert!("10.0.0.0/".parse::<IpPrefix>().is_err());
        assert!("1.1.1.1".parse::<IpPrefix>().unwrap().is_host());
    }
}
