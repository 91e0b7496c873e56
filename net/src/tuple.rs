//! A flow's addresses, ports and protocol as they lie on the wire: what is loaded, compared and
//! stored a word at a time.

use crate::addr::L4Port;
use crate::flow::{Addr, FlowKey, IpProto};

/// The tuple of packets in one direction, of either family.
///
/// Words are in memory order: source address first, then destination; source port, then destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuple {
    /// IPv4.
    V4 {
        /// Both addresses.
        addrs: u64,
        /// Both ports.
        ports: u32,
        /// The protocol.
        proto: IpProto,
    },
    /// IPv6.
    V6 {
        /// Both addresses.
        addrs: [u64; 4],
        /// Both ports.
        ports: u32,
        /// The protocol.
        proto: IpProto,
    },
}

/// IPv4 addresses of packets that go the other way.
#[inline]
#[must_use]
pub const fn swap_v4(addrs: u64) -> u64 {
    addrs.rotate_left(32)
}

/// IPv6 addresses of packets that go the other way.
#[inline]
#[must_use]
pub const fn swap_v6(addrs: [u64; 4]) -> [u64; 4] {
    [addrs[2], addrs[3], addrs[0], addrs[1]]
}

/// Ports of packets that go the other way.
#[inline]
#[must_use]
pub const fn swap_ports(ports: u32) -> u32 {
    ports.rotate_left(16)
}

impl Tuple {
    /// The tuple of packets that go the other way.
    #[inline]
    #[must_use]
    pub const fn inverted(&self) -> Self {
        match *self {
            Self::V4 {
                addrs,
                ports,
                proto,
            } => Self::V4 {
                addrs: swap_v4(addrs),
                ports: swap_ports(ports),
                proto,
            },
            Self::V6 {
                addrs,
                ports,
                proto,
            } => Self::V6 {
                addrs: swap_v6(addrs),
                ports: swap_ports(ports),
                proto,
            },
        }
    }

    /// With another destination port.
    #[inline]
    #[must_use]
    pub fn with_dport(mut self, dport: L4Port) -> Self {
        let ports = match &mut self {
            Self::V4 { ports, .. } | Self::V6 { ports, .. } => ports,
        };
        let [a, b, ..] = ports.to_ne_bytes();
        let [c, d] = dport.0.to_be_bytes();
        *ports = u32::from_ne_bytes([a, b, c, d]);
        self
    }

    /// Whether both are of one family.
    #[inline]
    pub const fn is_of_family(&self, other: &Self) -> bool {
        matches!(self, Self::V4 { .. }) == matches!(other, Self::V4 { .. })
    }

    /// Both ports.
    #[inline]
    pub const fn ports(&self) -> u32 {
        match self {
            Self::V4 { ports, .. } | Self::V6 { ports, .. } => *ports,
        }
    }

    /// The protocol.
    #[inline]
    pub const fn proto(&self) -> IpProto {
        match self {
            Self::V4 { proto, .. } | Self::V6 { proto, .. } => *proto,
        }
    }
}

impl From<&FlowKey> for Tuple {
    #[inline]
    #[expect(clippy::many_single_char_names, reason = "octets of an address")]
    fn from(key: &FlowKey) -> Self {
        let [a, b] = key.sport().0.to_be_bytes();
        let [c, d] = key.dport().0.to_be_bytes();
        let (ports, proto) = (u32::from_ne_bytes([a, b, c, d]), key.proto);
        if key.src.is_v4() {
            let ([a, b, c, d], [e, f, g, h]) = (key.src.v4_octets(), key.dst.v4_octets());
            let addrs = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            Self::V4 {
                addrs,
                ports,
                proto,
            }
        } else {
            let ([a, b], [c, d]) = (words(&key.src), words(&key.dst));
            Self::V6 {
                addrs: [a, b, c, d],
                ports,
                proto,
            }
        }
    }
}

impl From<FlowKey> for Tuple {
    #[inline]
    fn from(key: FlowKey) -> Self {
        Self::from(&key)
    }
}

impl From<Tuple> for FlowKey {
    #[inline]
    #[expect(clippy::many_single_char_names, reason = "octets of an address")]
    fn from(tuple: Tuple) -> Self {
        let [a, b, c, d] = tuple.ports().to_ne_bytes();
        let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (src, dst) = match tuple {
            Tuple::V4 { addrs, .. } => {
                let [a, b, c, d, e, f, g, h] = addrs.to_ne_bytes();
                (Addr::from_v4([a, b, c, d]), Addr::from_v4([e, f, g, h]))
            }
            Tuple::V6 {
                addrs: [a, b, c, d],
                ..
            } => (addr([a, b]), addr([c, d])),
        };
        Self::new(src, dst, L4Port(sport), L4Port(dport), tuple.proto())
    }
}

#[inline]
fn words(addr: &Addr) -> [u64; 2] {
    zerocopy::transmute!(*addr.octets())
}

#[inline]
fn addr(words: [u64; 2]) -> Addr {
    Addr::from_v6(zerocopy::transmute!(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_its_key_and_inverts_with_it() {
        let v4 = FlowKey::new(
            Addr::from_v4([192, 0, 2, 1]),
            Addr::from_v4([203, 0, 113, 10]),
            L4Port(40000),
            L4Port(80),
            IpProto::TCP,
        );
        let address = |n| {
            Addr::from_v6(std::array::from_fn(|i| {
                u8::try_from(i).unwrap_or(0).wrapping_mul(7) + n
            }))
        };
        let v6 = FlowKey::new(
            address(1),
            address(100),
            L4Port(1),
            L4Port(65535),
            IpProto::UDP,
        );
        for key in [v4, v6] {
            let tuple = Tuple::from(&key);
            assert_eq!(FlowKey::from(tuple), key);
            assert_eq!(FlowKey::from(tuple.inverted()), key.inverted());
            assert_eq!(tuple.inverted().inverted(), tuple);
            let other = FlowKey::new(key.src, key.dst, key.sport(), L4Port(4660), key.proto);
            assert_eq!(tuple.with_dport(L4Port(4660)), Tuple::from(&other));
            assert_eq!(tuple.is_of_family(&Tuple::from(&v4)), key.src.is_v4());
        }
    }
}
