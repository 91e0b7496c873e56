//! Reading: what both formats have in common, and classic pcap.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use net::Timestamp;

use super::ng::{Block, Section};
use super::{Cause, ETHERNET, MAX_FRAME, Order, PcapError, Record, size};

/// Octets of a record that is passed over are read in pieces of this size.
const SKIP: usize = 65_536;

/// Reads the frames of one capture, one after the other.
pub struct Reader<R> {
    source: Source<R>,
    format: Format,
    /// Nothing follows an error.
    over: bool,
}

enum Format {
    Classic(Classic),
    Ng(Section),
}

/// What the header of a classic pcap file says.
#[derive(Debug, Clone, Copy)]
struct Classic {
    order: Order,
    /// Nanoseconds in a unit of the fraction.
    unit: u64,
    /// Octets of the frame check sequence at the end of each frame.
    fcs_len: usize,
}

impl Reader<BufReader<File>> {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| PcapError {
            file: name.clone(),
            offset: 0,
            cause: error.into(),
        })?;
        Self::new(name, BufReader::with_capacity(1 << 20, file))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header of `input`; `name` stands in errors. `input` should be buffered.
    pub fn new(name: impl Into<String>, input: R) -> Result<Self, PcapError> {
        let mut source = Source {
            name: name.into(),
            input,
            offset: 0,
            start: 0,
        };
        match read_header(&mut source) {
            Ok(format) => Ok(Self {
                source,
                format,
                over: false,
            }),
            Err(cause) => Err(source.error(cause)),
        }
    }

    /// Reads the next frame into `record`; false at the end.
    ///
    /// Errors: the rest of the file can not be read; every later call says "end".
    pub fn next_record(&mut self, record: &mut Record) -> Result<bool, PcapError> {
        if self.over {
            return Ok(false);
        }
        let read = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.source, record),
            Format::Ng(section) => section.next(&mut self.source, record),
        };
        match read {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.over = true;
                Ok(false)
            }
            Err(cause) => {
                self.over = true;
                Err(self.source.error(cause))
            }
        }
    }

    /// `pcap` or `pcapng`.
    pub fn format(&self) -> &'static str {
        match self.format {
            Format::Classic(_) => "pcap",
            Format::Ng(_) => "pcapng",
        }
    }

    /// Name of the file.
    pub fn name(&self) -> &str {
        &self.source.name
    }
}

fn read_header<R: Read>(source: &mut Source<R>) -> Result<Format, Cause> {
    let mut magic = [0; 4];
    if source.read_up_to(&mut magic)? < magic.len() {
        return Err(Cause::NotACapture);
    }
    let (order, unit) = match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => {
            let mut section = Section::default();
            section.first_header(source)?;
            return Ok(Format::Ng(section));
        }
        [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1000),
        [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1000),
        [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
        [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
        _ => return Err(Cause::NotACapture),
    };
    let mut rest = [0; 20];
    source.read_all(&mut rest)?;
    let link = order.u32(&rest, 16).unwrap_or(0);
    // Bit 26: the upper four bits say how many 16-bit words of FCS each frame ends with.
    let fcs_len = if link & (1 << 26) == 0 {
        0
    } else {
        size(link >> 28) * 2
    };
    if link & 0xffff != ETHERNET {
        return Err(Cause::LinkType(link & 0xffff));
    }
    Ok(Format::Classic(Classic {
        order,
        unit,
        fcs_len,
    }))
}

impl Classic {
    fn next<R: Read>(&self, source: &mut Source<R>, record: &mut Record) -> Result<bool, Cause> {
        source.begin();
        let mut header = [0; 16];
        match source.read_up_to(&mut header)? {
            0 => return Ok(false),
            n if n < header.len() => return Err(truncated(header.len() - n)),
            _ => {}
        }
        let field = |at| self.order.u32(&header, at).unwrap_or(0);
        let (kept, on_wire) = (size(field(8)), size(field(12)));
        if kept > MAX_FRAME {
            return Err(Cause::Damaged("a frame longer than any capture holds"));
        }
        record.time = Timestamp::from_nanos(
            u64::from(field(0)) * 1_000_000_000 + u64::from(field(4)) * self.unit,
        );
        record.octets.resize(kept, 0);
        source.read_all(&mut record.octets)?;
        trim(record, on_wire, self.fcs_len);
        Ok(true)
    }
}

/// Sets the length on the wire and takes the frame check sequence off.
pub(super) fn trim(record: &mut Record, on_wire: usize, fcs_len: usize) {
    // Some tools leave the field empty.
    let on_wire = on_wire.max(record.octets.len());
    record.wire_len = on_wire.saturating_sub(fcs_len);
    record.octets.truncate(record.wire_len);
}

pub(super) fn truncated(missing: usize) -> Cause {
    Cause::Truncated {
        missing: missing as u64,
    }
}

/// The octets of a file, and where we are in it.
pub(super) struct Source<R> {
    name: String,
    input: R,
    offset: u64,
    /// Where the record begins that is being read.
    start: u64,
}

impl<R: Read> Source<R> {
    /// A record begins here.
    pub(super) fn begin(&mut self) {
        self.start = self.offset;
    }

    /// Fills `into` as far as the file goes.
    pub(super) fn read_up_to(&mut self, into: &mut [u8]) -> Result<usize, Cause> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..)
            && !rest.is_empty()
        {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += done as u64;
        Ok(done)
    }

    /// Fills `into`.
    pub(super) fn read_all(&mut self, into: &mut [u8]) -> Result<(), Cause> {
        match self.read_up_to(into)? {
            n if n == into.len() => Ok(()),
            n => Err(truncated(into.len() - n)),
        }
    }

    /// Passes over `len` octets.
    pub(super) fn skip(&mut self, mut len: usize) -> Result<(), Cause> {
        let mut piece = vec![0; len.min(SKIP)];
        while len > 0 {
            let now = len.min(SKIP);
            if let Some(piece) = piece.get_mut(..now) {
                self.read_all(piece)?;
            }
            len -= now;
        }
        Ok(())
    }

    fn error(&self, cause: Cause) -> PcapError {
        PcapError {
            file: self.name.clone(),
            offset: self.start,
            cause,
        }
    }
}

impl Section {
    fn next<R: Read>(
        &mut self,
        source: &mut Source<R>,
        record: &mut Record,
    ) -> Result<bool, Cause> {
        loop {
            source.begin();
            match self.block(source, record)? {
                Block::Frame => return Ok(true),
                Block::Other => {}
                Block::End => return Ok(false),
            }
        }
    }
}
