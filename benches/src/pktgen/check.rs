//! Judging what came back: whether every field of a received frame is what the translation should have
//! made of it.

use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use net::{Addr, MacAddr};
use serde::Serialize;

use super::addresses::AddressRange;
use super::flows::Tuple;
use super::seen::Seen;
use super::stamp::{Format, PATTERN};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What may be wrong with a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: [Self; [$(Kind::$name),*].len()] = [$(Kind::$name),*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The source station is not the gateway's.
    SourceMac = "sourceMac",
    /// The destination station is not ours.
    DestinationMac = "destinationMac",
    /// Another VLAN, or a tag where there should be none.
    Vlan = "vlan",
    /// Another transport protocol than that of the flows.
    Protocol = "protocol",
    /// The hop limit has not gone down by as many hops as there are.
    Ttl = "ttl",
    /// Type of service, traffic class or flow label are not zero, as they were sent.
    Class = "class",
    /// The IPv4 header checksum.
    IpChecksum = "ipChecksum",
    /// The TCP or UDP checksum.
    L4Checksum = "l4Checksum",
    /// Not as long as any frame that was sent.
    Length = "length",
    /// No stamp, or one that goes the other way.
    Stamp = "stamp",
    /// The payload behind the stamp.
    Payload = "payload",
    /// A flow that there is not, or a number that was never sent.
    Flow = "flow",
    /// A wrong source address.
    Source = "source",
    /// A wrong source port.
    SourcePort = "sourcePort",
    /// A wrong destination address.
    Destination = "destination",
    /// A wrong destination port.
    DestinationPort = "destinationPort",
    /// A flow that came with another member, source address or source port before.
    Moved = "moved",
    /// TCP sequence numbers or flags that were not sent.
    Segment = "segment",
    /// Cut off, fragmented, or with lengths that contradict each other.
    Malformed = "malformed",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of [`Kind`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u32);

impl Faults {
    /// Nothing wrong.
    pub const NONE: Self = Self(0);

    /// Adds a kind unless `good`.
    #[inline]
    pub const fn expect(&mut self, good: bool, kind: Kind) {
        self.0 |= (!good as u32) << kind as u8;
    }

    /// Whether nothing is wrong.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this kind is among them.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |k| self.contains(*k))
    }
}

/// How many frames had each fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mismatches([u64; Kind::ALL.len()]);

impl Mismatches {
    /// Counts the faults of one frame.
    pub fn count(&mut self, faults: Faults) {
        for kind in faults.iter() {
            self.0[kind as usize] += 1;
        }
    }

    /// Frames with this fault.
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_sub(before.0[i])))
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    /// Kinds that occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.of(kind)))
            .filter(|(_, count)| *count > 0)
    }
}

impl Serialize for Mismatches {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, count)| (kind.name(), count)))
    }
}

/// What frames on one link must have in common.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// Our own station.
    pub own: MacAddr,
    /// The station they come from; any if not known.
    pub peer: Option<MacAddr>,
    /// VLAN id; 0 is untagged.
    pub vid: u16,
    /// Hops left.
    pub ttl: u8,
}

impl Envelope {
    /// What is wrong around the packet: stations, tag, hop limit, checksums.
    #[inline]
    pub fn check(&self, seen: &Seen, faults: &mut Faults) {
        faults.expect(seen.dst_mac == self.own, Kind::DestinationMac);
        faults.expect(
            self.peer.is_none_or(|peer| peer == seen.src_mac),
            Kind::SourceMac,
        );
        faults.expect(seen.vid == self.vid, Kind::Vlan);
        faults.expect(seen.ttl == self.ttl, Kind::Ttl);
        faults.expect(seen.class == 0, Kind::Class);
        faults.expect(seen.ip_checksum_good, Kind::IpChecksum);
        faults.expect(seen.l4_checksum_good, Kind::L4Checksum);
    }
}

/// Whether the payload behind the stamp is what it was made of.
#[inline]
pub fn payload_intact(payload: &[u8], format: Format) -> bool {
    let from = format.octets();
    payload.get(from..) == PATTERN.get(from..payload.len())
}

/// Whether a packet goes from the virtual server to the client of the flow `tuple`.
#[inline]
pub fn check_reply(seen: &Seen, tuple: &Tuple, faults: &mut Faults) {
    faults.expect(seen.src == tuple.server, Kind::Source);
    faults.expect(seen.sport == tuple.server_port, Kind::SourcePort);
    faults.expect(seen.dst == tuple.client, Kind::Destination);
    faults.expect(seen.dport == tuple.client_port, Kind::DestinationPort);
}

/// What the device under test makes of the source address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snat {
    /// Nothing: the client's own arrives.
    None,
    /// One of these, with any port.
    Addresses(Vec<AddressRange>),
    /// Whatever it likes.
    Any,
}

impl Snat {
    /// Whether an address is one that sources are translated to.
    #[inline]
    pub fn allows(&self, addr: IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::Addresses(ranges) => ranges.iter().any(|r| r.position(addr).is_some()),
            Self::Any => true,
        }
    }
}

/// The members a request may arrive at, sorted for look-up.
#[derive(Debug, Clone, Default)]
pub struct Members(Vec<(Addr, u16)>);

impl Members {
    /// These members.
    pub fn new(members: &[SocketAddr]) -> Self {
        let mut all: Vec<(Addr, u16)> = members.iter().map(|m| (m.ip().into(), m.port())).collect();
        all.sort_unstable();
        Self(all)
    }

    /// What is wrong with a destination.
    #[inline]
    pub fn check(&self, dst: &Addr, port: u16, faults: &mut Faults) {
        if self.0.binary_search(&(*dst, port)).is_err() {
            let known = self.0.iter().any(|(addr, _)| addr == dst);
            faults.expect(known, Kind::Destination);
            faults.expect(!known, Kind::DestinationPort);
        }
    }
}

/// The first faulty frames, decoded for people.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<String>);

/// How many faulty frames are shown.
const SHOWN: usize = 10;
/// Octets of a faulty frame that are shown.
const SHOWN_OCTETS: usize = 96;

impl Samples {
    /// Keeps a frame, if there is room. `side` says who received it.
    #[cold]
    pub fn keep(
        &mut self,
        side: &str,
        faults: Faults,
        frame: &[u8],
        seen: Option<&Seen>,
        expected: Option<&Tuple>,
    ) {
        if self.0.len() >= SHOWN {
            return;
        }
        let names: Vec<&str> = faults.iter().map(Kind::name).collect();
        let mut text = format!("{side}: {}", names.join(", "));
        // Writing to a string does not fail.
        if let Some(seen) = seen {
            let _ = write!(
                text,
                "; {} {} port {} > {} port {}, ttl {}, vlan {}, {} > {}",
                seen.proto,
                seen.src,
                seen.sport,
                seen.dst,
                seen.dport,
                seen.ttl,
                seen.vid,
                seen.src_mac,
                seen.dst_mac,
            );
        }
        if let Some(tuple) = expected {
            let _ = write!(
                text,
                "; of the flow {} port {} > {} port {}",
                tuple.client, tuple.client_port, tuple.server, tuple.server_port
            );
        }
        text.push_str("; ");
        for octet in frame.iter().take(SHOWN_OCTETS) {
            let _ = write!(text, "{octet:02x}");
        }
        if frame.len() > SHOWN_OCTETS {
            let _ = write!(text, "… ({} octets)", frame.len());
        }
        self.0.push(text);
    }

    /// The frames kept.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}
