//! What the pipeline decides about a frame.

use conntrack::{Direction, FlowId};
use net::{MacAddr, ParseError, PortId, VlanIndex};
use vlan::neighbor::NeighborRef;

/// Declares an enumeration whose values are counted: a stable index, a name for scripts
/// (`snake_case`, never changed once released) and a sentence for people.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $label:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $text] $variant,)* }

        impl $name {
            /// Every value, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Position in [`ALL`](Self::ALL).
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Name for scripts.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Meaning, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

counted! {
    /// Why a frame was dropped. Each has a counter; no frame disappears without one.
    DropReason {
        TruncatedEthernet "truncated_ethernet" "frame shorter than its Ethernet header",
        TooManyTags "too_many_tags" "more than two VLAN tags",
        BadSourceMac "bad_source_mac" "source MAC is not a station's",
        TruncatedNetwork "truncated_network" "network header cut off",
        BadIpHeader "bad_ip_header" "malformed IP header",
        BadIpChecksum "bad_ip_checksum" "wrong IPv4 header checksum",
        BadExtensionHeader "bad_extension_header" "malformed IPv6 extension headers",
        MartianAddress "martian_address" "address that must not be on the wire",
        TruncatedTransport "truncated_transport" "transport header cut off",
        BadTransportHeader "bad_transport_header" "malformed transport header",
        BadTransportChecksum "bad_transport_checksum" "wrong TCP, UDP, SCTP or ICMP checksum",
        UnknownVlan "unknown_vlan" "no VLAN with these tags on this port",
        NotForUs "not_for_us" "destination MAC is another station's",
        UnknownEthertype "unknown_ethertype" "neither ARP, IPv4 nor IPv6",
        BadArp "bad_arp" "malformed ARP packet",
        ArpIgnored "arp_ignored" "ARP that is not about an address owned here",
        BadNeighborDiscovery "bad_neighbor_discovery" "malformed neighbour discovery packet (RFC 4861 section 7)",
        NeighborDiscoveryIgnored "neighbor_discovery_ignored" "neighbour discovery that is not about an address owned here",
        Fragment "fragment" "fragment of a datagram whose first fragment was not forwarded, or cannot be translated by itself",
        BadFragment "bad_fragment" "fragment whose place or length is impossible (RFC 791, RFC 8200 section 4.5)",
        FragmentOverlap "fragment_overlap" "fragment of a datagram whose fragments overlap (RFC 5722)",
        FragmentDuplicate "fragment_duplicate" "fragment that has come before",
        FragmentTimeout "fragment_timeout" "fragment that waited for the first of its datagram in vain",
        FragmentsFull "fragments_full" "fragment displaced by others: too many wait, or too many datagrams are in fragments",
        Multicast "multicast" "destination is a multicast or broadcast group",
        IcmpIgnored "icmp_ignored" "ICMP other than an echo request to an owned address",
        IcmpUnmatched "icmp_unmatched" "ICMP error about a packet of no known flow",
        IcmpInvalid "icmp_invalid" "ICMP error about what its flow cannot have sent, or with a malformed quotation",
        NoVirtualServer "no_virtual_server" "no virtual server listens on this destination",
        PortLockdown "port_lockdown" "self IP does not allow this service",
        NoListener "no_listener" "allowed on the self IP, but nothing listens there",
        BadSynProof "bad_syn_proof" "TCP reset that answers no question asked under SYN protection",
        ResetWithoutFlow "reset_without_flow" "TCP reset for no flow",
        TcpInvalid "tcp_invalid" "TCP segment that does not fit its flow's state",
        TcpOutOfWindow "tcp_out_of_window" "TCP segment beyond the window of its receiver, or which acknowledges what was not sent",
        SctpInvalid "sctp_invalid" "SCTP packet with a tag that is not its association's, or ahead of its handshake",
        SctpNoAssociation "sctp_no_association" "SCTP packet that opens no association, has none, and must not be answered",
        NoMember "no_member" "the pool has no member that may be selected",
        NoRoute "no_route" "no route to the next hop",
        NoSelfIp "no_self_ip" "automap, but the VLAN towards the member has no self IP of this family",
        SnatExhausted "snat_exhausted" "no free port on the translated source address towards this member",
        NoSnatAddress "no_snat_address" "the SNAT pool has no address of this family, or does not exist",
        SnatUnsolicited "snat_unsolicited" "to an address of a SNAT pool, but nothing was sent from there",
        NatMappings "nat_mappings" "the client, or the worker, has as many mappings of ports as it may",
        TupleInUse "tuple_in_use" "the reply of this flow could not be told from another flow's",
        ConnectionLimit "connection_limit" "the virtual server has as many connections as it may have",
        ClientLimit "client_limit" "the client has as many connections to this virtual server as it may have",
        TableFull "table_full" "the flow table is full of established flows",
        Draining "draining" "tmm is about to stop and takes no new flows",
        FlowGone "flow_gone" "the flow's virtual server or member is gone",
        TtlExceeded "ttl_exceeded" "time to live used up",
        MtuExceeded "mtu_exceeded" "larger than the MTU of the VLAN it would leave by",
        NeighborUnreachable "neighbor_unreachable" "the next hop does not answer",
        HoldFull "hold_full" "too many frames already wait for neighbours",
        NoRoom "no_room" "no room in the buffer for the new header",
        HandoffFull "handoff_full" "the worker whose flow it is was behind with taking frames over",
        NoBuffer "no_buffer" "no buffer free for a frame of our own",
        PortDown "port_down" "no port of the VLAN has a link, or it is being restarted",
        TxFull "tx_full" "the port's transmit queue stayed full; also counted as forwarded or answered",
    }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::TruncatedEthernet => Self::TruncatedEthernet,
            ParseError::TooManyTags => Self::TooManyTags,
            ParseError::BadSourceMac => Self::BadSourceMac,
            ParseError::TruncatedNetwork => Self::TruncatedNetwork,
            ParseError::BadIpHeader => Self::BadIpHeader,
            ParseError::BadIpChecksum => Self::BadIpChecksum,
            ParseError::BadExtensionHeader => Self::BadExtensionHeader,
            ParseError::MartianAddress => Self::MartianAddress,
            ParseError::TruncatedTransport => Self::TruncatedTransport,
            ParseError::BadTransportHeader => Self::BadTransportHeader,
            ParseError::BadTransportChecksum => Self::BadTransportChecksum,
        }
    }
}

counted! {
    /// What an answer says that the dataplane gives by itself.
    Answer {
        Arp "arp_reply" "ARP reply for an owned address",
        NeighborAdvertisement "neighbor_advertisement" "neighbour advertisement for an owned address",
        Echo "echo_reply" "ICMP echo reply from an owned address",
        ResetNoFlow "reset_no_flow" "TCP reset to a segment that is no SYN and has no flow",
        ResetNoListener "reset_no_listener" "TCP reset: allowed on the self IP, but nothing listens there",
        ResetTimeout "reset_timeout" "TCP reset to an end of a connection that was silent for too long",
        ResetFlowGone "reset_flow_gone" "TCP reset: the flow's virtual server or member is gone",
        TimeExceeded "time_exceeded" "ICMP error: time to live used up here",
        PacketTooBig "packet_too_big" "ICMP error: larger than the MTU of the VLAN it would leave by",
        UnreachableRoute "unreachable_route" "ICMP error: no route to the destination",
        UnreachableHost "unreachable_host" "ICMP error: the next hop does not answer",
        UnreachablePort "unreachable_port" "ICMP error: nothing listens on the port, or what did is gone",
        UnreachableProtocol "unreachable_protocol" "ICMP error: nothing here speaks the protocol",
        UnknownOption "unknown_option" "ICMPv6 error: an option that must be understood is not",
        AbortNoAssociation "abort_no_association" "SCTP abort (or shutdown complete) to a packet that opens no association and has none",
        AbortNoListener "abort_no_listener" "SCTP abort: allowed on the self IP, but nothing listens there",
        AbortFlowGone "abort_flow_gone" "SCTP abort: the association's virtual server or member is gone",
        ResetConnectionLimit "reset_connection_limit" "TCP reset: the virtual server has as many connections as it may have",
        ResetClientLimit "reset_client_limit" "TCP reset: the client has as many connections to this virtual server as it may have",
        SynChallenge "syn_challenge" "SYN answered with a question that only a client at its own address can answer",
    }
}

counted! {
    /// How a forwarded frame met its flow.
    FlowStep {
        Opened "opened" "opened a new flow",
        Original "original" "client's side of a known flow",
        Reply "reply" "server's side of a known flow",
        Related "related" "ICMP error about a packet of a known flow",
    }
}

/// Where a frame goes that waits for its next hop's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Where the VLAN's frames leave once the neighbour is known.
    pub vlan: VlanIndex,
    /// The neighbour, if the table already had room for it.
    pub neighbor: Option<NeighborRef>,
    /// Its address.
    pub next_hop: net::Addr,
    /// Hash of the frame's flow, which chooses its link of a LAG.
    pub flow_hash: u64,
    /// Where the network header begins in the frame.
    pub l3: u16,
    /// Ethertype of that header.
    pub ethertype: u16,
    /// Whose packet it is, if its sender may be told that it was given up.
    pub whose: Option<Whose>,
}

/// Whose a packet is that was translated already: its flow, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// Its flow, and which way it goes.
    pub flow: (FlowId, Direction),
    /// The VLAN and the port that it came in by.
    pub came: (VlanIndex, PortId),
    /// The station that it came from.
    pub from: MacAddr,
}

/// How a frame came round that we had sent to an address of our own (hairpin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// The VLAN that it counts as come in by.
    pub vlan: VlanIndex,
    /// How often: what it was sent for may be answered once, by way of ourselves again.
    pub times: u8,
}

impl Round {
    /// The most times that a frame comes round: out to another's address, and an answer back.
    pub const MOST: u8 = 2;
}

/// How a frame that is too long for its VLAN is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where the network header begins.
    pub l3: u16,
    /// The longest IP packet, octets.
    pub mtu: u16,
    /// The tag that the device must insert.
    pub insert_tci: Option<u16>,
}

/// The pipeline's decision about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded: leaves by this port as it now is.
    Transmit(PortId, FlowStep),
    /// Forwarded: leaves by this port in fragments.
    Cut(PortId, FlowStep, Cut),
    /// Became an answer of our own: leaves by this port.
    Reply(PortId, Answer),
    /// Forwarded, but its next hop's MAC address is not known yet.
    Hold(Held, FlowStep),
    /// Hairpin: translated, and for an address that clients are translated to. It is taken again, as if it had come
    /// in by this VLAN.
    Hairpin(VlanIndex, FlowStep),
    /// Its flow is, or would be, another worker's: handed over as it came in.
    Handoff(u16),
    /// A fragment: handed as it came in to the worker that sees all of its datagram.
    Gather(u16),
    /// A fragment that came before the first of its datagram: waits in this place.
    Wait(u16),
    /// Consumed: it told us something and needs no answer.
    Consumed,
    /// Dropped.
    Drop(DropReason),
}
