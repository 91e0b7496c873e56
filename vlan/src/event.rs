//! What workers tell the control thread about neighbours.

use net::{Addr, MacAddr, PortId, VlanIndex};

/// How a neighbour's MAC address came to be known: what decides how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// An ARP reply addressed to us.
    ArpReply,
    /// An ARP request for an address of ours: its sender will want an answer (RFC 826).
    ArpRequest,
    /// ARP that nobody asked for: an announcement, or a request for somebody else.
    ArpUnsolicited,
    /// The source link-layer option of a neighbour solicitation for an address of ours
    /// (RFC 4861 section 7.2.3).
    Solicitation,
    /// The target link-layer option of a neighbour advertisement (RFC 4861 section 7.2.5).
    Advertisement {
        /// The S flag: claims to answer a solicitation.
        solicited: bool,
        /// The O flag: may replace another MAC address.
        overrides: bool,
    },
}

/// One finding of a worker about a neighbour or an address of ours, small enough for a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A packet waits for the MAC address of this neighbour.
    Needed {
        /// Where it is wanted.
        vlan: VlanIndex,
        /// The next hop.
        addr: Addr,
    },
    /// A frame says which MAC address a neighbour has.
    Learned {
        /// Where it was heard.
        vlan: VlanIndex,
        /// The neighbour's address.
        addr: Addr,
        /// Its MAC address.
        mac: MacAddr,
        /// What kind of frame said so.
        how: How,
    },
    /// The neighbour was heard from in a way that proves that it receives what we send (RFC 4861
    /// section 7.3.1): an acknowledgement of new data, or a solicited advertisement without a MAC.
    Confirmed {
        /// Where it is.
        vlan: VlanIndex,
        /// The neighbour's address.
        addr: Addr,
    },
    /// A router or switch asks which multicast groups are listened to (RFC 3810 section 5.1).
    Queried {
        /// Where it asks.
        vlan: VlanIndex,
        /// The group; `None` asks for all.
        group: Option<Addr>,
    },
    /// A frame says that it is a probe of a port of ours that was heard at another.
    Probed {
        /// Where.
        vlan: VlanIndex,
        /// The port that heard it.
        at: PortId,
        /// The MAC address it came from.
        from: MacAddr,
        /// The number by which it is known to be ours.
        nonce: u64,
    },
    /// Another station uses an address of ours (RFC 5227 section 2.4, RFC 4862 section 5.4).
    Conflict {
        /// Where it was heard.
        vlan: VlanIndex,
        /// Our address.
        addr: Addr,
        /// The other station.
        mac: MacAddr,
    },
}

const _: () = assert!(size_of::<Event>() <= 32);
