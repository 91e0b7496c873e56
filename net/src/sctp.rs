//! SCTP packets (RFC 9260): what of their chunks connection tracking and checks of form need, and the
//! answer to one that belongs to no association.

use zerocopy::IntoBytes;

use crate::checksum::of;
use crate::crc32c;
use crate::emit::DEFAULT_TTL;
use crate::header::{Ipv4, Ipv6, Sctp, view};
use crate::layers::{Layers, ParseError};
use crate::packet::{NoRoom, Packet};

/// Octets of the common header.
pub const HEADER_LEN: usize = 12;

/// Types of chunks that tracking tells apart (RFC 9260 section 3.2).
pub mod chunk {
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers INIT.
    pub const INIT_ACK: u8 = 2;
    /// Asks whether a path is alive.
    pub const HEARTBEAT: u8 = 4;
    /// Ends the association at once.
    pub const ABORT: u8 = 6;
    /// Begins to end the association.
    pub const SHUTDOWN: u8 = 7;
    /// Answers SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// Answers INIT ACK.
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers COOKIE ECHO.
    pub const COOKIE_ACK: u8 = 11;
    /// Answers SHUTDOWN ACK.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// In ABORT and SHUTDOWN COMPLETE: the tag is the sender's own, for it knows no other.
const T_BIT: u8 = 1;

/// What is in an SCTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chunks {
    /// The verification tag.
    pub vtag: u32,
    /// The initiate tag of an INIT or INIT ACK, else 0.
    pub init_tag: u32,
    /// Types of the chunks, a bit each, as far as [`chunk`] names them.
    kinds: u16,
    /// The first chunk's type.
    pub first: u8,
    /// ABORT or SHUTDOWN COMPLETE carries the sender's own tag (the T bit).
    pub reflected: bool,
}

impl Chunks {
    /// Whether a chunk of that type is in the packet; of the types in [`chunk`].
    #[inline]
    pub const fn has(&self, kind: u8) -> bool {
        kind < 16 && self.kinds >> kind & 1 == 1
    }

    /// Reads the chunks of `segment`, the packet from its common header on.
    ///
    /// Errors: no whole chunk; a length that is no chunk's or leads beyond the packet; INIT, INIT ACK or
    /// SHUTDOWN COMPLETE in company (section 6.10), or the first two too short or without a tag (section
    /// 3.3.2); an INIT with a verification tag, or another packet without one (section 8.5); COOKIE ECHO or
    /// COOKIE ACK behind other chunks (section 5.1).
    pub fn parse(segment: &[u8]) -> Result<Self, ParseError> {
        Self::read(segment, true)
    }

    /// As [`parse`](Self::parse), where the rest of the packet is in other fragments.
    pub fn parse_first_fragment(segment: &[u8]) -> Result<Self, ParseError> {
        Self::read(segment, false)
    }

    fn read(segment: &[u8], whole: bool) -> Result<Self, ParseError> {
        const BAD: ParseError = ParseError::BadTransportHeader;
        let header: &Sctp = view(segment, 0).ok_or(ParseError::TruncatedTransport)?;
        let mut chunks = Self {
            vtag: header.vtag.get(),
            ..Self::default()
        };
        let mut rest = segment.get(HEADER_LEN..).unwrap_or_default();
        let mut count = 0u32;
        while let Some([kind, flags, high, low]) = rest.first_chunk() {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if len < 4 || (whole && len > rest.len()) {
                return Err(BAD);
            }
            match *kind {
                chunk::INIT | chunk::INIT_ACK => {
                    let tag = rest.get(4..20).and_then(|fixed| fixed.first_chunk());
                    let tag = u32::from_be_bytes(*tag.filter(|_| len >= 20).ok_or(BAD)?);
                    if tag == 0 {
                        return Err(BAD);
                    }
                    chunks.init_tag = tag;
                }
                chunk::ABORT | chunk::SHUTDOWN_COMPLETE => {
                    chunks.reflected = flags & T_BIT != 0;
                }
                chunk::COOKIE_ECHO | chunk::COOKIE_ACK if count > 0 => return Err(BAD),
                _ => {}
            }
            if count == 0 {
                chunks.first = *kind;
            }
            if *kind < 16 {
                chunks.kinds |= 1 << kind;
            }
            count += 1;
            // Chunks begin at multiples of four; the last one need not be padded by all senders.
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        let alone = chunks.has(chunk::INIT)
            || chunks.has(chunk::INIT_ACK)
            || chunks.has(chunk::SHUTDOWN_COMPLETE);
        let form = (alone && count > 1)
            || (whole && (count == 0 || !rest.is_empty()))
            || chunks.has(chunk::INIT) != (chunks.vtag == 0);
        if form {
            return Err(BAD);
        }
        Ok(chunks)
    }
}

/// Verifies the form of a whole packet and its checksum. A checksum of zero says that there is none
/// (RFC 9653), which both ends have agreed on; but not beside INIT or COOKIE ECHO, which come before they
/// have.
pub(crate) fn check(segment: &[u8]) -> Result<(), ParseError> {
    let chunks = Chunks::parse(segment)?;
    let opening = chunks.has(chunk::INIT) || chunks.has(chunk::COOKIE_ECHO);
    let none = segment.get(8..HEADER_LEN) == Some(&[0; 4]);
    if crc32c::is_right(segment) || (none && !opening) {
        Ok(())
    } else {
        Err(ParseError::BadTransportChecksum)
    }
}

/// Sets the ports of a packet; the checksum changes with them. What carries none goes on without one.
pub(crate) fn set_ports(segment: &mut [u8], sport: u16, dport: u16) {
    let [a, b] = sport.to_be_bytes();
    let [c, d] = dport.to_be_bytes();
    let new = [a, b, c, d];
    let (Some(old), Some(sum)) = (
        segment.first_chunk::<4>().copied(),
        segment
            .get(8..)
            .and_then(|rest| rest.first_chunk::<4>())
            .copied(),
    ) else {
        return;
    };
    if old == new {
        return;
    }
    let none = sum == [0; 4] && !crc32c::is_right(segment);
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    segment[..4].copy_from_slice(&new);
    if !none {
        segment[8..HEADER_LEN].copy_from_slice(&crc32c::adjust(sum, old, new, len));
    }
}

/// What is said to the sender of a packet that belongs to no association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// ABORT.
    Abort,
    /// SHUTDOWN COMPLETE: the sender waits for it.
    ShutdownComplete,
}

/// How a packet out of the blue is answered (RFC 9260 section 8.4); `None`: not at all.
pub const fn refusal(chunks: &Chunks) -> Option<Refusal> {
    if chunks.has(chunk::ABORT)
        || chunks.has(chunk::SHUTDOWN_COMPLETE)
        || chunks.has(chunk::COOKIE_ACK)
        // "Stale cookie" must not be answered; another error need not.
        || chunks.has(chunk::ERROR)
        // Another path of an association that lives: its end would take the answer for its peer's.
        || chunks.has(chunk::HEARTBEAT)
    {
        return None;
    }
    Some(if chunks.has(chunk::SHUTDOWN_ACK) {
        Refusal::ShutdownComplete
    } else {
        Refusal::Abort
    })
}

/// Turns a packet into the answer `refusal` to it: addresses and ports swapped, one chunk, TTL renewed. The
/// tag is the initiate tag of an INIT, else the one that came, with the T bit (section 8.5.1). The
/// Ethernet header is left to the caller.
pub fn refuse_in_place(
    packet: &mut Packet<'_>,
    layers: &Layers,
    chunks: &Chunks,
    refusal: Refusal,
) -> Result<(), NoRoom> {
    let kind = match refusal {
        Refusal::Abort => chunk::ABORT,
        Refusal::ShutdownComplete => chunk::SHUTDOWN_COMPLETE,
    };
    let (tag, flags) = match chunks.init_tag {
        tag if chunks.has(chunk::INIT) => (tag, 0),
        _ => (chunks.vtag, T_BIT),
    };
    let mut segment = [0; HEADER_LEN + 4];
    segment[..2].copy_from_slice(&layers.key.dport().0.to_be_bytes());
    segment[2..4].copy_from_slice(&layers.key.sport().0.to_be_bytes());
    segment[4..8].copy_from_slice(&tag.to_be_bytes());
    segment[HEADER_LEN..].copy_from_slice(&[kind, flags, 0, 4]);
    if let Some(sum) = crc32c::of(&segment) {
        segment[8..HEADER_LEN].copy_from_slice(&sum);
    }
    let key = layers.key.inverted();
    let mut answer = [0; 40 + HEADER_LEN + 4];
    let len = if key.src.is_v4() {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: 36.into(),
            ident: 0.into(),
            flags_fragment: 0x4000.into(),
            ttl: DEFAULT_TTL,
            proto: key.proto.0,
            checksum: 0.into(),
            src: key.src.v4_octets(),
            dst: key.dst.v4_octets(),
        };
        ip.checksum = of(ip.as_bytes()).into();
        answer[..20].copy_from_slice(ip.as_bytes());
        20
    } else {
        let ip = Ipv6 {
            version_class_flow: 0x6000_0000.into(),
            payload_len: 16.into(),
            next: key.proto.0,
            hop_limit: DEFAULT_TTL,
            src: *key.src.octets(),
            dst: *key.dst.octets(),
        };
        answer[..40].copy_from_slice(ip.as_bytes());
        40
    };
    answer[len..len + segment.len()].copy_from_slice(&segment);
    let answer = &answer[..len + segment.len()];
    packet.set_len(layers.l3 + answer.len())?;
    let room = packet.data_mut().get_mut(layers.l3..).ok_or(NoRoom)?;
    room.copy_from_slice(answer);
    Ok(())
}

#[cfg(test)]
mod tests;
