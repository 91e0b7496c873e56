//! ARP, neighbour discovery and echo for the addresses we own, answered in the packet that asked.
//!
//! Each function takes a parsed packet that came in on `vlan` and says what became of it. After a
//! reply the packet is a whole frame, ready to leave by the port it came from, with its tags in it;
//! the [`Layers`](net::Layers) it was parsed to no longer describe it. Nothing is allocated.

mod arp;
mod echo;
mod nd;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use arp::handle_arp;
pub use echo::{handle_echo, handle_echo_fragment};
pub use nd::handle_icmpv6_nd;

use crate::event::Event;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is now the answer: send it by the port it came from.
    Reply,
    /// No answer, but something to tell the resolver.
    Event(Event),
    /// Both.
    ReplyAndEvent(Event),
    /// Neither.
    Ignore(Ignored),
}

/// Why a packet was neither answered nor learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Ignored {
    /// Not of the kind this function answers.
    #[error("not of this kind")]
    OtherKind,
    /// Cut off, or fields that contradict each other or the protocol.
    #[error("malformed")]
    Malformed,
    /// ARP for other than IPv4 over Ethernet, or an operation that is neither request nor reply.
    #[error("ARP of an unknown kind")]
    UnknownArp,
    /// Neighbour discovery that may have crossed a router: the hop limit is not 255 (RFC 4861
    /// section 7.1), or it is fragmented or hides behind extension headers (RFC 6980 section 5).
    #[error("neighbour discovery from off-link")]
    OffLink,
    /// For an address that is not ours.
    #[error("for another station")]
    NotOurs,
    /// Our own frame, come back.
    #[error("our own frame, come back")]
    Own,
    /// From an address that must not be answered.
    #[error("from an address that must not be answered")]
    BadSource,
    /// Router solicitation or advertisement, or redirect: routes come from the configuration.
    #[error("router discovery or redirect")]
    RouterDiscovery,
    /// Nothing in it that is news.
    #[error("nothing to learn")]
    NothingNew,
    /// A fragment of an echo request.
    #[error("fragmented echo request")]
    Fragment,
    /// No room in the packet's buffer for the answer.
    #[error("no room for the answer")]
    NoRoom,
}

impl Ignored {
    /// All reasons, for counters.
    pub const ALL: [Self; 11] = [
        Self::OtherKind,
        Self::Malformed,
        Self::UnknownArp,
        Self::OffLink,
        Self::NotOurs,
        Self::Own,
        Self::BadSource,
        Self::RouterDiscovery,
        Self::NothingNew,
        Self::Fragment,
        Self::NoRoom,
    ];
}
