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

/// What passed of a flow, in both directions (RFC 5103).
pub const FLOW_V4: Template = Template {
    id: 256,
    fields: &[
        e::START,
        e::END,
        e::SOURCE_V4,
        e::DESTINATION_V4,
        e::POST_SOURCE_V4,
        e::POST_DESTINATION_V4,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::POST_SOURCE_PORT,
        e::POST_DESTINATION_PORT,
        e::PROTOCOL,
        e::END_REASON,
        e::BIFLOW,
        e::VLAN,
        e::POST_VLAN,
        e::OCTETS,
        e::PACKETS,
        e::OCTETS.reversed(),
        e::PACKETS.reversed(),
        e::APPLICATION,
    ],
};

/// The same of IPv6.
pub const FLOW_V6: Template = Template {
    id: 257,
    fields: &[
        e::START,
        e::END,
        e::SOURCE_V6,
        e::DESTINATION_V6,
        e::POST_SOURCE_V6,
        e::POST_DESTINATION_V6,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::POST_SOURCE_PORT,
        e::POST_DESTINATION_PORT,
        e::PROTOCOL,
        e::END_REASON,
        e::BIFLOW,
        e::VLAN,
        e::POST_VLAN,
        e::OCTETS,
        e::PACKETS,
        e::OCTETS.reversed(),
        e::PACKETS.reversed(),
        e::APPLICATION,
    ],
};

/// A translation began or ended (RFC 8158 section 5.6).
pub const NAT_V4: Template = Template {
    id: 258,
    fields: &[
        e::TIME,
        e::NAT_EVENT,
        e::SOURCE_V4,
        e::DESTINATION_V4,
        e::POST_SOURCE_V4,
        e::POST_DESTINATION_V4,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::POST_SOURCE_PORT,
        e::POST_DESTINATION_PORT,
        e::PROTOCOL,
        e::APPLICATION,
    ],
};

/// The same of IPv6.
pub const NAT_V6: Template = Template {
    id: 259,
    fields: &[
        e::TIME,
        e::NAT_EVENT,
        e::SOURCE_V6,
        e::DESTINATION_V6,
        e::POST_SOURCE_V6,
        e::POST_DESTINATION_V6,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::POST_SOURCE_PORT,
        e::POST_DESTINATION_PORT,
        e::PROTOCOL,
        e::APPLICATION,
    ],
};

/// A flow that is not translated began or ended, or one was denied.
pub const EVENT_V4: Template = Template {
    id: 260,
    fields: &[
        e::TIME,
        e::FIREWALL_EVENT,
        e::SOURCE_V4,
        e::DESTINATION_V4,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::PROTOCOL,
        e::APPLICATION,
    ],
};

/// The same of IPv6.
pub const EVENT_V6: Template = Template {
    id: 261,
    fields: &[
        e::TIME,
        e::FIREWALL_EVENT,
        e::SOURCE_V6,
        e::DESTINATION_V6,
        e::SOURCE_PORT,
        e::DESTINATION_PORT,
        e::PROTOCOL,
        e::APPLICATION,
    ],
};

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
