//! The templates: which information elements the records have.

use super::wire::{Field, VARIABLE};

/// The numbers of the elements used, in the registry of IANA.
pub mod element {
    use super::{Field, VARIABLE};

    /// `octetDeltaCount`
    pub const OCTETS: Field = Field::new(1, 8);
    /// `packetDeltaCount`
    pub const PACKETS: Field = Field::new(2, 8);
    /// `protocolIdentifier`
    pub const PROTOCOL: Field = Field::new(4, 1);
    /// `sourceTransportPort`
    pub const SOURCE_PORT: Field = Field::new(7, 2);
    /// `sourceIPv4Address`
    pub const SOURCE_V4: Field = Field::new(8, 4);
    /// `destinationTransportPort`
    pub const DESTINATION_PORT: Field = Field::new(11, 2);
    /// `destinationIPv4Address`
    pub const DESTINATION_V4: Field = Field::new(12, 4);
    /// `sourceIPv6Address`
    pub const SOURCE_V6: Field = Field::new(27, 16);
    /// `destinationIPv6Address`
    pub const DESTINATION_V6: Field = Field::new(28, 16);
    /// `vlanId`
    pub const VLAN: Field = Field::new(58, 2);
    /// `postVlanId`
    pub const POST_VLAN: Field = Field::new(59, 2);
    /// `applicationName`
    pub const APPLICATION: Field = Field::new(96, VARIABLE);
    /// `flowEndReason`
    pub const END_REASON: Field = Field::new(136, 1);
    /// `flowStartMilliseconds`
    pub const START: Field = Field::new(152, 8);
    /// `flowEndMilliseconds`
    pub const END: Field = Field::new(153, 8);
    /// `postNATSourceIPv4Address`
    pub const POST_SOURCE_V4: Field = Field::new(225, 4);
    /// `postNATDestinationIPv4Address`
    pub const POST_DESTINATION_V4: Field = Field::new(226, 4);
    /// `postNAPTSourceTransportPort`
    pub const POST_SOURCE_PORT: Field = Field::new(227, 2);
    /// `postNAPTDestinationTransportPort`
    pub const POST_DESTINATION_PORT: Field = Field::new(228, 2);
    /// `natEvent`
    pub const NAT_EVENT: Field = Field::new(230, 1);
    /// `firewallEvent`
    pub const FIREWALL_EVENT: Field = Field::new(233, 1);
    /// `biflowDirection`
    pub const BIFLOW: Field = Field::new(239, 1);
    /// `postNATSourceIPv6Address`
    pub const POST_SOURCE_V6: Field = Field::new(281, 16);
    /// `postNATDestinationIPv6Address`
    pub const POST_DESTINATION_V6: Field = Field::new(282, 16);
    /// `observationTimeMilliseconds`
    pub const TIME: Field = Field::new(323, 8);
    /// `natQuotaExceededEvent`
    pub const QUOTA: Field = Field::new(466, 4);
}

use element as e;

/// A kind of record, for one family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its number.
    pub id: u16,
    /// Its fields.
    pub fields: &'static [Field],
}

/// The templates of a kind of record for both families: the same fields, but for those of addresses.
macro_rules! families {
    ($(#[$doc:meta])* $v4:ident $id_v4:literal, $v6:ident $id_v6:literal: [$($head:expr),*; $($addr_v4:ident $addr_v6:ident),*; $($tail:expr),*]) => {
        $(#[$doc])*
        pub const $v4: Template = Template {
            id: $id_v4,
            fields: &[$($head,)* $(e::$addr_v4,)* $($tail,)*],
        };

        /// The same of IPv6.
        pub const $v6: Template = Template {
            id: $id_v6,
            fields: &[$($head,)* $(e::$addr_v6,)* $($tail,)*],
        };
    };
}

families! {
    /// What passed of a flow, in both directions (RFC 5103).
    FLOW_V4 256, FLOW_V6 257: [
        e::START, e::END;
        SOURCE_V4 SOURCE_V6, DESTINATION_V4 DESTINATION_V6,
        POST_SOURCE_V4 POST_SOURCE_V6, POST_DESTINATION_V4 POST_DESTINATION_V6;
        e::SOURCE_PORT, e::DESTINATION_PORT, e::POST_SOURCE_PORT, e::POST_DESTINATION_PORT,
        e::PROTOCOL, e::END_REASON, e::BIFLOW, e::VLAN, e::POST_VLAN,
        e::OCTETS, e::PACKETS, e::OCTETS.reversed(), e::PACKETS.reversed(), e::APPLICATION
    ]
}

families! {
    /// A translation began or ended (RFC 8158 section 5.6).
    NAT_V4 258, NAT_V6 259: [
        e::TIME, e::NAT_EVENT;
        SOURCE_V4 SOURCE_V6, DESTINATION_V4 DESTINATION_V6,
        POST_SOURCE_V4 POST_SOURCE_V6, POST_DESTINATION_V4 POST_DESTINATION_V6;
        e::SOURCE_PORT, e::DESTINATION_PORT, e::POST_SOURCE_PORT, e::POST_DESTINATION_PORT,
        e::PROTOCOL, e::APPLICATION
    ]
}

families! {
    /// A flow that is not translated began or ended, or one was denied.
    EVENT_V4 260, EVENT_V6 261: [
        e::TIME, e::FIREWALL_EVENT;
        SOURCE_V4 SOURCE_V6, DESTINATION_V4 DESTINATION_V6;
        e::SOURCE_PORT, e::DESTINATION_PORT, e::PROTOCOL, e::APPLICATION
    ]
}

/// Addresses or ports to translate to are exhausted (RFC 8158 sections 5.6.1 and 5.6.2).
pub const EXHAUSTED: Template = Template {
    id: 262,
    fields: &[e::TIME, e::NAT_EVENT, e::PROTOCOL, e::APPLICATION],
};

/// The table of flows is full (RFC 8158 section 5.6.3).
pub const QUOTA: Template = Template {
    id: 263,
    fields: &[e::TIME, e::NAT_EVENT, e::QUOTA, e::PROTOCOL, e::APPLICATION],
};

/// All there are.
pub const ALL: [Template; 8] = [
    FLOW_V4, FLOW_V6, NAT_V4, NAT_V6, EVENT_V4, EVENT_V6, EXHAUSTED, QUOTA,
];
