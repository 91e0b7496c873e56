//! What a device can do for the packet path.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use dpdk_sys as sys;

/// A set of offloads: what a device can do, what is wanted of it, or what is switched on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Offloads(u16);

/// Offload, name, DPDK's receive flag, DPDK's transmit flag.
const TABLE: &[(Offloads, &str, u64, u64)] = &[
    (
        Offloads::VLAN_STRIP,
        "vlan-strip",
        sys::SHIM_RXO_VLAN_STRIP,
        0,
    ),
    (
        Offloads::VLAN_FILTER,
        "vlan-filter",
        sys::SHIM_RXO_VLAN_FILTER,
        0,
    ),
    (
        Offloads::QINQ_STRIP,
        "qinq-strip",
        sys::SHIM_RXO_QINQ_STRIP,
        0,
    ),
    (
        Offloads::RX_IPV4_CHECKSUM,
        "rx-ipv4-checksum",
        sys::SHIM_RXO_IPV4_CKSUM,
        0,
    ),
    (
        Offloads::RX_TCP_CHECKSUM,
        "rx-tcp-checksum",
        sys::SHIM_RXO_TCP_CKSUM,
        0,
    ),
    (
        Offloads::RX_UDP_CHECKSUM,
        "rx-udp-checksum",
        sys::SHIM_RXO_UDP_CKSUM,
        0,
    ),
    (
        Offloads::RX_SCTP_CHECKSUM,
        "rx-sctp-checksum",
        sys::SHIM_RXO_SCTP_CKSUM,
        0,
    ),
    (Offloads::RSS_HASH, "rss-hash", sys::SHIM_RXO_RSS_HASH, 0),
    (
        Offloads::VLAN_INSERT,
        "vlan-insert",
        0,
        sys::SHIM_TXO_VLAN_INSERT,
    ),
    (
        Offloads::QINQ_INSERT,
        "qinq-insert",
        0,
        sys::SHIM_TXO_QINQ_INSERT,
    ),
    (
        Offloads::TX_IPV4_CHECKSUM,
        "tx-ipv4-checksum",
        0,
        sys::SHIM_TXO_IPV4_CKSUM,
    ),
    (
        Offloads::TX_TCP_CHECKSUM,
        "tx-tcp-checksum",
        0,
        sys::SHIM_TXO_TCP_CKSUM,
    ),
    (
        Offloads::TX_UDP_CHECKSUM,
        "tx-udp-checksum",
        0,
        sys::SHIM_TXO_UDP_CKSUM,
    ),
    (
        Offloads::TX_SCTP_CHECKSUM,
        "tx-sctp-checksum",
        0,
        sys::SHIM_TXO_SCTP_CKSUM,
    ),
];

impl Offloads {
    /// None.
    pub const NONE: Self = Self(0);
    /// An 802.1Q tag is taken out of received frames, into [`RxFlags`](crate::RxFlags).
    pub const VLAN_STRIP: Self = Self(1 << 0);
    /// Both tags of a received 802.1ad frame are.
    pub const QINQ_STRIP: Self = Self(1 << 1);
    /// The IPv4 header checksum of received frames is verified.
    pub const RX_IPV4_CHECKSUM: Self = Self(1 << 2);
    /// The TCP checksum of received frames is verified.
    pub const RX_TCP_CHECKSUM: Self = Self(1 << 3);
    /// The UDP checksum of received frames is verified.
    pub const RX_UDP_CHECKSUM: Self = Self(1 << 4);
    /// The SCTP checksum of received frames is verified.
    pub const RX_SCTP_CHECKSUM: Self = Self(1 << 5);
    /// The hash that chose the queue comes with the frame.
    pub const RSS_HASH: Self = Self(1 << 6);
    /// A tag can be inserted into sent frames.
    pub const VLAN_INSERT: Self = Self(1 << 7);
    /// Two tags can be inserted into sent frames.
    pub const QINQ_INSERT: Self = Self(1 << 8);
    /// The IPv4 header checksum of sent frames can be computed.
    pub const TX_IPV4_CHECKSUM: Self = Self(1 << 9);
    /// The TCP checksum of sent frames can be computed.
    pub const TX_TCP_CHECKSUM: Self = Self(1 << 10);
    /// The UDP checksum of sent frames can be computed.
    pub const TX_UDP_CHECKSUM: Self = Self(1 << 11);
    /// The SCTP checksum of sent frames can be computed.
    pub const TX_SCTP_CHECKSUM: Self = Self(1 << 12);
    /// Received frames are filtered by VLAN: see [`EthPort::set_vlan`](crate::EthPort::set_vlan).
    pub const VLAN_FILTER: Self = Self(1 << 13);
    /// All checksums, both ways.
    pub const CHECKSUMS: Self = Self(0b1_1110_0011_1100);
    /// All checksums of sent frames.
    pub const TX_CHECKSUMS: Self = Self(0b1_1110_0000_0000);
    /// All of the above.
    pub const ALL: Self = Self(0x3fff);

    /// Whether all of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of the offloads in the set, such as `vlan-strip`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        TABLE
            .iter()
            .filter(move |row| self.contains(row.0))
            .map(|row| row.1)
    }

    pub(crate) fn from_dpdk(rx: u64, tx: u64) -> Self {
        TABLE
            .iter()
            .filter(|row| rx & row.2 != 0 || tx & row.3 != 0)
            .fold(Self::NONE, |set, row| set | row.0)
    }

    /// DPDK's receive and transmit flags.
    pub(crate) fn to_dpdk(self) -> (u64, u64) {
        TABLE
            .iter()
            .filter(|row| self.contains(row.0))
            .fold((0, 0), |(rx, tx), row| (rx | row.2, tx | row.3))
    }
}

impl BitOr for Offloads {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Offloads {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offloads({self})")
    }
}

/// What the device hashes to spread flows over its receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rss {
    /// Nothing: the device's own way, often all frames to the first queue.
    None,
    /// Addresses and transport ports, as far as the device reads them.
    #[default]
    FiveTuple,
    /// The source address only.
    SourceOnly,
    /// The destination address only.
    DestinationOnly,
}

impl Rss {
    /// The best the device has for this wish, and its flags.
    pub(crate) fn on_device(self, capable: u64) -> (Self, u64) {
        let tuple = sys::SHIM_RSS_IP | sys::SHIM_RSS_TCP | sys::SHIM_RSS_UDP | sys::SHIM_RSS_SCTP;
        let only = match self {
            Self::None => return (Self::None, 0),
            Self::FiveTuple => 0,
            Self::SourceOnly => sys::SHIM_RSS_L3_SRC_ONLY,
            Self::DestinationOnly => sys::SHIM_RSS_L3_DST_ONLY,
        };
        let base = tuple & capable;
        match () {
            () if base == 0 => (Self::None, 0),
            () if only != 0 && capable & only == only => (self, base | only),
            () => (Self::FiveTuple, base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offload_survives_the_way_through_dpdks_flags() {
        for row in TABLE {
            let (rx, tx) = row.0.to_dpdk();
            assert!(rx != 0 || tx != 0, "{}", row.1);
            assert_eq!(Offloads::from_dpdk(rx, tx), row.0, "{}", row.1);
        }
        let all = TABLE.iter().fold(Offloads::NONE, |set, row| set | row.0);
        assert_eq!(all, Offloads::ALL);
    }

    #[test]
    fn the_named_sets_hold_what_their_names_say() {
        assert_eq!(Offloads::CHECKSUMS.names().count(), 8);
        assert!(
            Offloads::CHECKSUMS
                .names()
                .all(|name| name.ends_with("checksum"))
        );
        assert!(
            Offloads::TX_CHECKSUMS
                .names()
                .all(|name| name.starts_with("tx-"))
        );
        assert_eq!(
            (Offloads::VLAN_STRIP | Offloads::VLAN_INSERT).to_string(),
            "vlan-strip vlan-insert"
        );
        assert_eq!(Offloads::NONE.to_string(), "none");
    }

    #[test]
    fn a_device_without_address_only_hashing_falls_back_to_the_tuple() {
        let tuple = sys::SHIM_RSS_IP | sys::SHIM_RSS_TCP;
        assert_eq!(Rss::SourceOnly.on_device(tuple), (Rss::FiveTuple, tuple));
        let both = tuple | sys::SHIM_RSS_L3_SRC_ONLY;
        assert_eq!(Rss::SourceOnly.on_device(both), (Rss::SourceOnly, both));
        assert_eq!(Rss::DestinationOnly.on_device(both).0, Rss::FiveTuple);
        assert_eq!(Rss::FiveTuple.on_device(0), (Rss::None, 0));
    }
}
