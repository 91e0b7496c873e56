//! What a flow keeps of the slow path's answer: 32 octets.

use lb::{MemberId, VirtualServerId};
use net::{Deltas, MacAddr, VlanIndex};
use vlan::neighbor::NeighborRef;

use crate::tables::Tables;

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
    /// The configuration this answer was last checked against, as [`Tables::stamp`] has it; the highest bit is
    /// set where an end of the flow is reached by hairpin, so that none of its packets go the straight way.
    pub stamp: u32,
    /// What the translation towards the server does to checksums; the one towards the client undoes it.
    pub deltas: Deltas,
}

/// The bit of a stamp that says that an end of the flow is reached by hairpin.
const HAIRPIN: u32 = 1 << 31;

const _: () = assert!(Tables::STAMP_BITS & HAIRPIN == 0);

impl FlowData {
    /// Whether the answer was checked against these tables.
    #[inline]
    pub const fn is_current(&self, tables: &Tables) -> bool {
        self.stamp & !HAIRPIN == tables.stamp()
    }

    /// The stamp of a flow that leaves by these legs.
    #[inline]
    pub const fn stamp_of(tables: &Tables, original: Leg, reply: Leg) -> u32 {
        let is_hairpin = original.is_round() || reply.is_round();
        tables.stamp() | if is_hairpin { HAIRPIN } else { 0 }
    }

    /// Stamps it. What was a hairpin stays one.
    #[inline]
    pub const fn stamp_with(&mut self, tables: &Tables) {
        self.stamp = Self::stamp_of(tables, self.original, self.reply) | self.stamp & HAIRPIN;
    }

    /// Whether an end of the flow is reached by hairpin: its packets come and go by way of ourselves.
    #[inline]
    pub const fn is_hairpin(&self) -> bool {
        self.stamp & HAIRPIN != 0
    }
}

/// Where one direction of a flow leaves: the VLAN and the station, in one word.
///
/// The VLAN is in the upper 16 bits but for the highest; in the lower 48 is the MAC address of a
/// station or, where the highest bit of all is set, the number of a neighbour or nothing.
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
    /// Ourselves: the address is one that clients are translated to.
    Round,
}

/// Not a station's MAC address.
const OTHER: u64 = 1 << 63;
const LOW: u64 = (1 << 48) - 1;
const NOTHING: u64 = 1 << 47;
/// Beside [`NOTHING`]: it is we.
const ROUND: u64 = NOTHING | 1;

const _: () = assert!(NeighborRef::BITS < 47);
// An index of a VLAN has fifteen bits.
const _: () = assert!(vlan::MAX_VLANS <= 1 << 15);

impl Leg {
    /// By `vlan` to `next`. The address of a last hop is a station's.
    #[inline]
    pub const fn new(vlan: VlanIndex, next: NextHop) -> Self {
        let low = match next {
            NextHop::Unresolved => OTHER | NOTHING,
            NextHop::Neighbor(neighbor) => OTHER | neighbor.to_bits(),
            NextHop::LastHop(mac) => return Self::last_hop(vlan, mac.to_u64()),
            NextHop::Round => OTHER | ROUND,
        };
        Self((vlan.0 as u64) << 48 & !OTHER | low)
    }

    /// By `vlan` to the station `mac`, a number: see [`MacAddr::to_u64`].
    #[inline]
    pub const fn last_hop(vlan: VlanIndex, mac: u64) -> Self {
        Self((vlan.0 as u64) << 48 & !OTHER | mac & LOW)
    }

    /// The VLAN.
    #[inline]
    pub const fn vlan(self) -> VlanIndex {
        VlanIndex((self.0 >> 48) as u16 & 0x7fff)
    }

    /// Whether the station is the one that packets came from.
    #[inline]
    pub const fn is_last_hop(self) -> bool {
        self.0 & OTHER == 0
    }

    /// Whether it leads to ourselves.
    #[inline]
    pub const fn is_round(self) -> bool {
        self.0 & (OTHER | LOW) == OTHER | ROUND
    }

    /// The station.
    #[inline]
    pub const fn next(self) -> NextHop {
        if self.is_last_hop() {
            NextHop::LastHop(MacAddr::from_u64(self.0))
        } else if self.0 & NOTHING != 0 {
            if self.is_round() {
                NextHop::Round
            } else {
                NextHop::Unresolved
            }
        } else {
            NextHop::Neighbor(NeighborRef::from_bits(self.0 & LOW))
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
        fn a_leg_is_what_it_was_made_of(vlan in 0..1u16 << 15, bits in 0..1u64 << NeighborRef::BITS, mac in any::<[u8; 6]>()) {
            let vlan = VlanIndex(vlan);
            for next in [
                NextHop::Unresolved,
                NextHop::Neighbor(NeighborRef::from_bits(bits)),
                NextHop::LastHop(MacAddr(mac)),
                NextHop::Round,
            ] {
                let leg = Leg::new(vlan, next);
                prop_assert_eq!((leg.vlan(), leg.next()), (vlan, next));
                prop_assert_eq!(leg.is_round(), next == NextHop::Round);
            }
            prop_assert_eq!(NeighborRef::from_bits(bits).to_bits(), bits);
        }
    }
}
