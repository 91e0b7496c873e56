//! Capture files: pcap and pcapng in, pcap out, one frame at a time.
//!
//! The [`Reader`] takes what capture tools write: classic pcap and pcapng, either byte order,
//! microseconds, nanoseconds or any `if_tsresol`, several sections and interfaces. The [`Writer`]
//! writes classic pcap, little-endian, with nanoseconds, so that the same frames give the same
//! octets on every machine.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

mod ng;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

use net::Timestamp;
use thiserror::Error;

pub use reader::Reader;
pub use writer::Writer;

/// The link type of Ethernet frames (`LINKTYPE_ETHERNET`).
pub const ETHERNET: u32 = 1;

/// The longest frame a capture may hold, octets: what capture tools use as their own bound.
pub const MAX_FRAME: usize = 262_144;

/// One captured frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// When it was captured, since 1970.
    pub time: Timestamp,
    /// The frame without FCS, as much of it as was kept.
    pub octets: Vec<u8>,
    /// Length of the frame on the wire, without FCS.
    pub wire_len: usize,
}

impl Record {
    /// Whether the capture kept only the beginning of the frame (`snaplen`). No device hands such
    /// a frame over.
    pub fn is_cut(&self) -> bool {
        self.octets.len() < self.wire_len
    }
}

/// Why a capture can not be read (further).
#[derive(Debug, Error)]
pub enum Cause {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither pcap nor pcapng.
    #[error("neither a pcap nor a pcapng file")]
    NotACapture,
    /// Not Ethernet.
    #[error("link type {0}, but only Ethernet ({ETHERNET}) can be replayed")]
    LinkType(u32),
    /// The file ends inside a record.
    #[error("the file ends {missing} octets too early")]
    Truncated {
        /// How many octets at least are missing.
        missing: u64,
    },
    /// Two fields contradict each other, or a field has a value it can not have.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// Where a capture can not be read (further), and why. What came before is good.
#[derive(Debug, Error)]
#[error("{file}: octet {offset}: {cause}")]
pub struct PcapError {
    /// Name of the file.
    pub file: String,
    /// Where the record begins that is at fault, octets from the start of the file.
    pub offset: u64,
    /// Why.
    pub cause: Cause,
}

/// Order of the octets in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u16(self, octets: &[u8], at: usize) -> Option<u16> {
        let field = octets.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(*field),
            Self::Little => u16::from_le_bytes(*field),
        })
    }

    fn u32(self, octets: &[u8], at: usize) -> Option<u32> {
        let field = octets.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(*field),
            Self::Little => u32::from_le_bytes(*field),
        })
    }

    fn u64(self, octets: &[u8], at: usize) -> Option<u64> {
        let field = octets.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u64::from_be_bytes(*field),
            Self::Little => u64::from_le_bytes(*field),
        })
    }
}

/// A length or offset of a file as one in memory.
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
