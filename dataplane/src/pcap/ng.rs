//! pcapng: sections, interfaces, and the three kinds of packet blocks.
//!
//! Only what a replay needs is read: link type, resolution and offset of times, FCS length. All
//! other blocks and options are passed over, whatever they hold.

use std::io::Read;

use net::Timestamp;

use super::reader::{Source, trim, truncated};
use super::{Cause, ETHERNET, MAX_FRAME, Order, Record, size};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// The longest block that is taken into memory: a frame and its options.
const MAX_BLOCK: usize = MAX_FRAME + 65_536;
/// The most interfaces of a section.
const MAX_INTERFACES: usize = 65_536;

const OPTION_END: u16 = 0;
const OPTION_TSRESOL: u16 = 9;
const OPTION_FCSLEN: u16 = 13;
const OPTION_TSOFFSET: u16 = 14;

/// What a block was.
pub(super) enum Block {
    /// A frame, which is in the record now.
    Frame,
    /// Something else.
    Other,
    /// There is none: the file ends.
    End,
}

/// The state of reading a section.
#[derive(Debug)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
    /// The time of the frame before, for those that have none of their own.
    last: Timestamp,
    body: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: u32,
    /// As `if_tsresol` has it.
    resolution: u8,
    /// Seconds to add to every time.
    offset: i64,
    fcs_len: usize,
    snap_len: usize,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            order: Order::Little,
            interfaces: Vec::new(),
            last: Timestamp::ZERO,
            body: Vec::new(),
        }
    }
}

impl Section {
    /// Reads the section header at the start of the file, whose type has been read.
    pub(super) fn first_header<R: Read>(&mut self, source: &mut Source<R>) -> Result<(), Cause> {
        let mut len = [0; 4];
        source.read_all(&mut len)?;
        self.section(source, len)
    }

    /// Reads one block.
    pub(super) fn block<R: Read>(
        &mut self,
        source: &mut Source<R>,
        record: &mut Record,
    ) -> Result<Block, Cause> {
        let mut head = [0; 8];
        match source.read_up_to(&mut head)? {
            0 => return Ok(Block::End),
            n if n < head.len() => return Err(truncated(head.len() - n)),
            _ => {}
        }
        let kind = self.order.u32(&head, 0).unwrap_or(0);
        if kind == SECTION_HEADER {
            let [.., a, b, c, d] = head;
            self.section(source, [a, b, c, d])?;
            return Ok(Block::Other);
        }
        let len = self.order.u32(&head, 4).unwrap_or(0);
        let body_len = body_len(len)?;
        if !matches!(
            kind,
            INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
        ) {
            source.skip(body_len)?;
            self.trailer(source, len)?;
            return Ok(Block::Other);
        }
        if body_len > MAX_BLOCK {
            return Err(Cause::Damaged("a block longer than any frame"));
        }
        self.body.resize(body_len, 0);
        source.read_all(&mut self.body)?;
        self.trailer(source, len)?;
        match kind {
            INTERFACE => {
                self.interface()?;
                Ok(Block::Other)
            }
            SIMPLE_PACKET => self.simple(record),
            _ => self.packet(kind, record),
        }
    }

    /// A new section: it has a byte order and interfaces of its own.
    fn section<R: Read>(&mut self, source: &mut Source<R>, len: [u8; 4]) -> Result<(), Cause> {
        let mut magic = [0; 4];
        source.read_all(&mut magic)?;
        self.order = match magic {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => return Err(Cause::Damaged("a section without its byte-order magic")),
        };
        let len = self.order.u32(&len, 0).unwrap_or(0);
        if len < 28 {
            return Err(Cause::Damaged("a section header that is too short"));
        }
        let rest = body_len(len)? - magic.len();
        let mut version = [0; 4];
        source.read_all(&mut version)?;
        if self.order.u16(&version, 0) != Some(1) {
            return Err(Cause::Damaged("a pcapng version other than 1"));
        }
        source.skip(rest - version.len())?;
        self.trailer(source, len)?;
        self.interfaces.clear();
        Ok(())
    }

    /// A block ends with its length once more.
    fn trailer<R: Read>(&self, source: &mut Source<R>, len: u32) -> Result<(), Cause> {
        let mut again = [0; 4];
        source.read_all(&mut again)?;
        if self.order.u32(&again, 0) == Some(len) {
            Ok(())
        } else {
            Err(Cause::Damaged("a block whose two lengths differ"))
        }
    }

    fn interface(&mut self) -> Result<(), Cause> {
        let short = Cause::Damaged("an interface description that is too short");
        let (Some(link_type), Some(snap_len)) = (
            self.order.u16(&self.body, 0),
            self.order.u32(&self.body, 4).map(size),
        ) else {
            return Err(short);
        };
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Cause::Damaged("more interfaces than any machine has"));
        }
        let mut interface = Interface {
            link_type: u32::from(link_type),
            resolution: 6,
            offset: 0,
            fcs_len: 0,
            snap_len: if snap_len == 0 { usize::MAX } else { snap_len },
        };
        let mut at = 8;
        // Options may end with their list or with the block.
        while let (Some(code), Some(len)) = (
            self.order.u16(&self.body, at),
            self.order.u16(&self.body, at + 2),
        ) && code != OPTION_END
        {
            let len = usize::from(len);
            let Some(value) = self.body.get(at + 4..at + 4 + len) else {
                return Err(Cause::Damaged("an option longer than its block"));
            };
            match (code, value) {
                (OPTION_TSRESOL, [resolution]) => interface.resolution = *resolution,
                (OPTION_FCSLEN, [fcs_len]) => interface.fcs_len = usize::from(*fcs_len),
                (OPTION_TSOFFSET, _) if len == 8 => {
                    let seconds = self.order.u64(value, 0).unwrap_or(0);
                    interface.offset = seconds.cast_signed();
                }
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// An enhanced packet block, or its obsolete forerunner.
    fn packet(&mut self, kind: u32, record: &mut Record) -> Result<Block, Cause> {
        let (order, body) = (self.order, &self.body);
        let id = if kind == OBSOLETE_PACKET {
            order.u16(body, 0).map(u32::from)
        } else {
            order.u32(body, 0)
        };
        let (Some(id), Some(high), Some(low), Some(kept), Some(on_wire)) = (
            id,
            order.u32(body, 4),
            order.u32(body, 8),
            order.u32(body, 12).map(size),
            order.u32(body, 16).map(size),
        ) else {
            return Err(Cause::Damaged("a packet block that is too short"));
        };
        let interface = self.of(id)?;
        let octets = self.body.get(20..).and_then(|rest| rest.get(..kept));
        fill(record, octets, on_wire, interface.fcs_len)?;
        record.time = interface.time(u64::from(high) << 32 | u64::from(low));
        self.last = record.time;
        Ok(Block::Frame)
    }

    /// A simple packet block: no interface, no time.
    fn simple(&mut self, record: &mut Record) -> Result<Block, Cause> {
        let Some(on_wire) = self.order.u32(&self.body, 0).map(size) else {
            return Err(Cause::Damaged("a packet block that is too short"));
        };
        let interface = self.of(0)?;
        let kept = on_wire.min(interface.snap_len);
        let octets = self.body.get(4..).and_then(|rest| rest.get(..kept));
        fill(record, octets, on_wire, interface.fcs_len)?;
        record.time = self.last;
        Ok(Block::Frame)
    }

    fn of(&self, id: u32) -> Result<Interface, Cause> {
        match self.interfaces.get(size(id)) {
            None => Err(Cause::Damaged(
                "a packet of an interface that is not described",
            )),
            Some(interface) if interface.link_type != ETHERNET => {
                Err(Cause::LinkType(interface.link_type))
            }
            Some(interface) => Ok(*interface),
        }
    }
}

fn fill(
    record: &mut Record,
    octets: Option<&[u8]>,
    on_wire: usize,
    fcs_len: usize,
) -> Result<(), Cause> {
    let Some(octets) = octets else {
        return Err(Cause::Damaged("a packet longer than its block"));
    };
    if octets.len() > MAX_FRAME {
        return Err(Cause::Damaged("a frame longer than any capture holds"));
    }
    record.octets.clear();
    record.octets.extend_from_slice(octets);
    trim(record, on_wire, fcs_len);
    Ok(())
}

/// The length of a block's body, from that of the whole block.
fn body_len(len: u32) -> Result<usize, Cause> {
    if len < 12 || !len.is_multiple_of(4) {
        return Err(Cause::Damaged("a block of an impossible length"));
    }
    Ok(size(len) - 12)
}

impl Interface {
    /// The time that `ticks` stands for; never negative, saturating.
    fn time(&self, ticks: u64) -> Timestamp {
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = u128::from(ticks) * 1_000_000_000;
        let nanos = if self.resolution & 0x80 == 0 {
            // So fine a unit that no 64 bits of it make a nanosecond.
            10_u128
                .checked_pow(exponent)
                .map_or(0, |units| nanos / units)
        } else {
            nanos >> exponent
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let nanos = nanos.saturating_add_signed(offset);
        Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
