//! What a frame says about itself, so that it can be judged wherever it turns up.
//!
//! | format | payload | where |
//! |---|---|---|
//! | full | 24 octets or more | magic, direction, flow, number in the flow, nanoseconds |
//! | compact | 14 to 23 | marker, direction, flow, number, time in 16 ns (wraps after 68 s) |
//! | bare | TCP over IPv4 with 2 to 13 | time in the IPv4 identification and two octets of payload, number in the unused urgent pointer; the flow is known by its ports only |
//!
//! The bare format exists for one case: a tagged TCP segment in a frame of 64 octets has room for
//! two octets of payload.

use net::Timestamp;

use super::flows::Proto;

const MAGIC: [u8; 4] = *b"tmmp";
const MARKER: u8 = 0xb7;

/// Octets of payload the formats need.
const FULL: usize = 24;
const COMPACT: usize = 14;
const BARE: usize = 2;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a client to a virtual server.
    Request,
    /// Back from a pool member.
    Reply,
}

impl Direction {
    const fn octet(self) -> u8 {
        match self {
            Self::Request => 0x51,
            Self::Reply => 0xa2,
        }
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0x51 => Some(Self::Request),
            0xa2 => Some(Self::Reply),
            _ => None,
        }
    }
}

/// How a frame carries its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// All of it in the payload.
    Full,
    /// All of it in the payload, shorter.
    Compact,
    /// In header fields of TCP over IPv4.
    Bare,
}

impl Format {
    /// The format of a payload of `len` octets; `None` when there is room for none.
    #[inline]
    pub const fn of(proto: Proto, v4: bool, len: usize) -> Option<Self> {
        if len >= FULL {
            Some(Self::Full)
        } else if len >= COMPACT {
            Some(Self::Compact)
        } else if len >= BARE && v4 && matches!(proto, Proto::Tcp) {
            Some(Self::Bare)
        } else {
            None
        }
    }

    /// The least payload that can carry a stamp, octets.
    pub const fn least_payload(proto: Proto, v4: bool) -> usize {
        if v4 && matches!(proto, Proto::Tcp) {
            BARE
        } else {
            COMPACT
        }
    }

    /// Octets the stamp takes at the start of the payload.
    #[inline]
    pub const fn octets(self) -> usize {
        match self {
            Self::Full => FULL,
            Self::Compact => COMPACT,
            Self::Bare => BARE,
        }
    }

    /// Where in the payload the direction is, if it is there.
    pub const fn direction_at(self) -> Option<usize> {
        match self {
            Self::Full => Some(4),
            Self::Compact => Some(1),
            Self::Bare => None,
        }
    }
}

/// The octet that says a frame is a reply: what a server writes at [`Format::direction_at`].
pub const REPLY: u8 = Direction::Reply.octet();

/// What is stamped on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which way it goes; a bare stamp does not say.
    pub direction: Option<Direction>,
    /// Which flow it belongs to; a bare stamp does not say.
    pub flow: Option<u32>,
    /// Its number in the flow; the lower half of it in a bare stamp.
    pub number: u32,
    /// When it was made.
    pub at: Timestamp,
}

/// Time in units of 16 ns, as the shorter formats have it; the upper bits are cut off.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "meant to wrap")]
pub const fn ticks(at: Timestamp) -> u32 {
    (at.as_nanos() >> 4) as u32
}

/// The time a few seconds before `now` whose [`ticks`] are these.
#[inline]
pub const fn from_ticks(ticks_then: u32, now: Timestamp) -> Timestamp {
    let ago = ticks(now).wrapping_sub(ticks_then);
    Timestamp::from_nanos((now.as_nanos() & !15).saturating_sub((ago as u64) << 4))
}

/// Writes the part of a stamp that lies in the payload, which must have room for the format.
#[inline]
pub fn write(
    format: Format,
    direction: Direction,
    flow: u32,
    number: u32,
    at: Timestamp,
    out: &mut [u8],
) {
    match format {
        Format::Full => {
            if let Some(out) = out.first_chunk_mut::<FULL>() {
                out[..4].copy_from_slice(&MAGIC);
                out[4..8].copy_from_slice(&[direction.octet(), 1, 0, 0]);
                out[8..12].copy_from_slice(&flow.to_be_bytes());
                out[12..16].copy_from_slice(&number.to_be_bytes());
                out[16..].copy_from_slice(&at.as_nanos().to_be_bytes());
            }
        }
        Format::Compact => {
            if let Some(out) = out.first_chunk_mut::<COMPACT>() {
                out[..2].copy_from_slice(&[MARKER, direction.octet()]);
                out[2..6].copy_from_slice(&flow.to_be_bytes());
                out[6..10].copy_from_slice(&number.to_be_bytes());
                out[10..].copy_from_slice(&ticks(at).to_be_bytes());
            }
        }
        Format::Bare => {
            if let Some(out) = out.first_chunk_mut::<BARE>() {
                let [.., c, d] = ticks(at).to_be_bytes();
                *out = [c, d];
            }
        }
    }
}

/// Reads a stamp from a payload of the format; `ident` and `urgent` are the header fields of a bare one.
/// `None`: not one of ours.
#[inline]
pub fn read(
    format: Format,
    payload: &[u8],
    ident: u16,
    urgent: u16,
    now: Timestamp,
) -> Option<Stamp> {
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
    match format {
        Format::Full => {
            let bytes = payload.first_chunk::<FULL>()?;
            if bytes[..4] != MAGIC || bytes[5] != 1 {
                return None;
            }
            Some(Stamp {
                direction: Some(Direction::from_octet(bytes[4])?),
                flow: Some(word(&bytes[8..12])?),
                number: word(&bytes[12..16])?,
                at: Timestamp::from_nanos(u64::from_be_bytes(*bytes[16..].first_chunk::<8>()?)),
            })
        }
        Format::Compact => {
            let bytes = payload.first_chunk::<COMPACT>()?;
            if bytes[0] != MARKER {
                return None;
            }
            Some(Stamp {
                direction: Some(Direction::from_octet(bytes[1])?),
                flow: Some(word(&bytes[2..6])?),
                number: word(&bytes[6..10])?,
                at: from_ticks(word(&bytes[10..])?, now),
            })
        }
        Format::Bare => {
            let bytes = payload.first_chunk::<BARE>()?;
            let low = u16::from_be_bytes(*bytes);
            Some(Stamp {
                direction: None,
                flow: None,
                number: u32::from(urgent),
                at: from_ticks(u32::from(ident) << 16 | u32::from(low), now),
            })
        }
    }
}

/// The fields of the headers that carry a bare stamp: IPv4 identification and TCP urgent pointer.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of the numbers")]
pub const fn bare_fields(number: u32, at: Timestamp) -> (u16, u16) {
    ((ticks(at) >> 16) as u16, number as u16)
}

/// What payloads are filled with behind the stamp: every octet depends on its place, so that octets
/// which are moved or lost show.
pub const PATTERN: [u8; 9216] = pattern();

#[expect(clippy::cast_possible_truncation, reason = "the lower octet is meant")]
const fn pattern() -> [u8; 9216] {
    let mut out = [0; 9216];
    let mut at = 0;
    while at < out.len() {
        out[at] = (at ^ (at >> 8) ^ 0x5a) as u8;
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_is_read_as_it_was_written(
            flow in any::<u32>(), number in any::<u32>(), at in 0u64..1 << 60, age in 0u64..60_000_000_000,
        ) {
            let (at, now) = (Timestamp::from_nanos(at), Timestamp::from_nanos(at + age));
            for format in [Format::Full, Format::Compact, Format::Bare] {
                let mut payload = [0; 24];
                write(format, Direction::Request, flow, number, at, &mut payload);
                let (ident, urgent) = bare_fields(number, at);
                let stamp = read(format, &payload, ident, urgent, now).unwrap();
                if format == Format::Full {
                    prop_assert_eq!(stamp.at, at);
                } else {
                    // To 16 ns.
                    prop_assert!(at.as_nanos().abs_diff(stamp.at.as_nanos()) < 32);
                }
                if format == Format::Bare {
                    prop_assert_eq!(stamp.number, number & 0xffff);
                } else {
                    prop_assert_eq!((stamp.flow, stamp.number), (Some(flow), number));
                    prop_assert_eq!(stamp.direction, Some(Direction::Request));
                }
            }
        }
    }

    #[test]
    fn foreign_payloads_carry_no_stamp() {
        let now = Timestamp::from_secs(1);
        assert_eq!(read(Format::Full, &[0; 64], 0, 0, now), None);
        assert_eq!(read(Format::Compact, &[0; 14], 0, 0, now), None);
        assert_eq!(read(Format::Full, &[0; 3], 0, 0, now), None);
        assert_eq!(Format::of(Proto::Udp, true, 13), None);
        assert_eq!(Format::of(Proto::Tcp, false, 13), None);
        assert_eq!(Format::of(Proto::Tcp, true, 2), Some(Format::Bare));
    }
}
