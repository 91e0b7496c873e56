//! `F5SPKIngressDiameter`: virtual servers for Diameter (RFC 6733), over TCP, SCTP or both. Connections are
//! balanced, not the messages in them.

use super::ingress::{self, Ingress, Place};
use crate::reader::{Fields, Node};
use crate::types::Protocol;

/// The port of Diameter (RFC 6733 section 2.1).
const PORT: u16 = 3868;

const PARTS: [(&str, Protocol); 2] = [
    ("externalTCP", Protocol::Tcp),
    ("externalSCTP", Protocol::Sctp),
];

/// What a proxy of messages has; refused rather than taken to be in force.
const OF_MESSAGES: [&str; 4] = [
    "internalTCP",
    "internalSCTP",
    "externalSession",
    "internalSession",
];

pub(super) fn read(object: &Fields<'_>) -> Option<Vec<Ingress>> {
    ingress::read_with(object, |f| {
        let places = PARTS.map(|(name, protocol)| (f.take(name, read_place), protocol));
        if !PARTS.iter().any(|(name, _)| f.has(name)) {
            f.error_at("externalTCP", "is required, or externalSCTP, or both");
        }
        for name in OF_MESSAGES {
            f.refuse(name);
        }
        let common = ingress::read_common(f, Protocol::Tcp).with_sctp(f);
        let at = |(place, protocol): (Option<Place>, _)| Some(common.at(protocol, place?));
        Some(places.into_iter().filter_map(at).collect::<Vec<_>>())
    })
}

fn read_place(node: &Node<'_>) -> Option<Place> {
    let f = node.object()?;
    let place = ingress::read_place(&f, Some(PORT));
    f.deny_unknown();
    place
}
