//! What a reader asks for, noted instead of read: the source of the schemas.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// The form of a string, for the error of whoever writes it wrongly and for the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// Anything.
    Any,
    /// Anything but nothing.
    Filled,
    /// An address of either family.
    Ip,
    /// An IPv4 address that can be a host's.
    Ipv4Host,
    /// An IPv6 address that can be a host's.
    Ipv6Host,
    /// An address of either family that can be a host's.
    IpHost,
    /// What a virtual server listens on: an IPv4 address or subnet.
    Ipv4Destination,
    /// What a virtual server listens on: an IPv6 address or subnet.
    Ipv6Destination,
    /// A VLAN's name.
    VlanName,
    /// A port of tmm: `1.1`.
    Interface,
    /// The name of a Service's port.
    PortName,
    /// A protocol of the port lockdown, in letters of any case.
    LockdownProtocol,
}

impl Text {
    /// As an error names it.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Any | Self::Filled => "a string",
            Self::Ipv4Host => "an IPv4 address",
            Self::Ipv6Host => "an IPv6 address",
            Self::Ip | Self::IpHost => "an IP address",
            Self::Ipv4Destination => "an IPv4 address or subnet",
            Self::Ipv6Destination => "an IPv6 address or subnet",
            Self::VlanName => "a VLAN name",
            Self::Interface => "an interface",
            Self::PortName => "the name of a Service port",
            Self::LockdownProtocol => "a protocol",
        }
    }
}

/// What is asked of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A string.
    Text(Text),
    /// `true` or `false`.
    Boolean,
    /// An integer from the first to the second.
    Integer(i64, i64),
    /// An integer in a range, or a string.
    IntegerOrText(i64, i64, Text),
    /// One of these words.
    OneOf(Vec<&'static str>),
    /// A list of at least and at most so many.
    List(usize, usize),
    /// An object.
    Object,
    /// Something that has a meaning and is not carried out yet.
    Refused,
    /// What the schema says of it, where it can say little.
    As(serde_json::Value),
}

/// What was noted of one place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Path, with `[]` for the items of a list.
    pub(crate) path: String,
    pub(crate) shape: Shape,
}

/// All that was noted, in the order in which it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    places: RefCell<Vec<Place>>,
    required: RefCell<BTreeMap<String, Vec<&'static str>>>,
    closed: RefCell<Vec<String>>,
}

impl Sketch {
    pub(crate) fn note(&self, path: &str, shape: Shape) {
        self.places.borrow_mut().push(Place {
            path: path.to_owned(),
            shape,
        });
    }

    pub(crate) fn require(&self, path: &str, field: &'static str) {
        let mut required = self.required.borrow_mut();
        required.entry(path.to_owned()).or_default().push(field);
    }

    pub(crate) fn close(&self, path: &str) {
        self.closed.borrow_mut().push(path.to_owned());
    }

    /// The places, parents before children.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.places.borrow().clone()
    }

    /// The fields that the object at a path must have.
    pub(crate) fn required(&self, path: &str) -> Vec<&'static str> {
        self.required
            .borrow()
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    /// Whether the object at a path may have no other fields.
    pub(crate) fn is_closed(&self, path: &str) -> bool {
        self.closed.borrow().iter().any(|closed| closed == path)
    }
}
