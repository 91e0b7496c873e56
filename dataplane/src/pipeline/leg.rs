//! What a flow keeps of the slow path's answer: 32 octets.

use lb::{MemberId, VirtualServerId};
use net::{Deltas, MacAddr, VlanIndex};
use vlan::neighbor::NeighborRef;

/// The slow path's answer, kept in the flow and replayed for each of its packets.
#[derive(Debug, Clone, Copy)]
pub struct FlowData {
    /// Towards the server.
    pub original: Leg,
    /// Towards the client.
    pub reply: Leg,
    /// Whose flow this is.
    pub virtual_server: VirtualServerId,
    /// Which member serves it.
    pub member: MemberId,
    /// The configuration this answer was last checked against: the low half of its generation.
    pub stamp: u32,
    /// What the translation towards the server does to checksums; the one towards the client undoes it.
    pub deltas: Deltas,
}

/// Where one direction of a flow leaves: the VLAN and the station, in one word.
///
/// The VLAN is in the upper 16 bits; in the lower 48 the MAC address of a station, or with the bit set
/// that marks group addresses, the number of a neighbour or nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Leg(u64);

/// The station one direction of a flow is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Not looked up yet, or no longer known: the next packet asks again.
    Unresolved,
    /// A neighbour.
    Neighbor(NeighborRef),
    /// Back to the station the flow's first packet came from (`auto_lasthop`).
    LastHop(MacAddr),
}

/// In the lowest bit of a MAC address's first octet: a group's address (IEEE 802-2014 section 8.2).
const GROUP: u64 = 1 << 40;
const BELOW: u32 = 40;
const NOTHING: u64 = GROUP | 1 << 47;

const _: () = assert!(NeighborRef::BITS < 47);

impl Leg {
    /// By `vlan` to `next`. The address of a last hop is a station's.
    #[inline]
    pub const fn new(vlan: VlanIndex, next: NextHop) -> Self {
        let low = match next {
            NextHop::Unresolved => NOTHING,
            NextHop::Neighbor(neighbor) => {
                let bits = neighbor.to_bits();
                let below = bits & ((1 << BELOW) - 1);
                GROUP | below | (bits >> BELOW) << (BELOW + 1)
            }
            NextHop::LastHop(mac) => return Self::last_hop(vlan, mac.to_u64()),
        };
        Self((vlan.0 as u64) << 48 | low)
    }

    /// By `vlan` to the station `mac`, a number: see [`MacAddr::to_u64`].
    #[inline]
    pub const fn last_hop(vlan: VlanIndex, mac: u64) -> Self {
        Self((vlan.0 as u64) << 48 | mac & !GROUP)
    }

    /// The VLAN.
    #[inline]
    pub const fn vlan(self) -> VlanIndex {
        VlanIndex((self.0 >> 48) as u16)
    }

    /// Whether the station is the one that packets came from.
    #[inline]
    pub const fn is_last_hop(self) -> bool {
        self.0 & GROUP == 0
    }

    /// The station.
    #[inline]
    pub const fn next(self) -> NextHop {
        let low = self.0 & ((1 << 48) - 1);
        if low & GROUP == 0 {
            NextHop::LastHop(MacAddr::from_u64(low))
        } else if low == NOTHING {
            NextHop::Unresolved
        } else {
            let below = low & ((1 << BELOW) - 1);
            let above = low >> (BELOW + 1);
            NextHop::Neighbor(NeighborRef::from_bits(above << BELOW | below))
        }
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} by {}",
            format_args!("{:?}", self.next()),
            self.vlan().0
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_data_of_a_flow_fills_its_two_cache_lines() {
        assert_eq!(size_of::<FlowData>(), 32);
        assert_eq!(size_of::<conntrack::Flow<FlowData>>(), 128);
    }

    proptest! {
        #[test]
        fn a_leg_is_what_it_was_made_of(vlan in any::<u16>(), bits in 0..1u64 << NeighborRef::BITS, mac in any::<[u8; 6]>()) {
            let vlan = VlanIndex(vlan);
            let mut mac = mac;
            mac[0] &= !1;
            for next in [
                NextHop::Unresolved,
                NextHop::Neighbor(NeighborRef::from_bits(bits)),
                NextHop::LastHop(MacAddr(mac)),
            ] {
                let leg = Leg::new(vlan, next);
                prop_assert_eq!((leg.vlan(), leg.next()), (vlan, next));
            }
            prop_assert_eq!(NeighborRef::from_bits(bits).to_bits(), bits);
        }
    }
}
