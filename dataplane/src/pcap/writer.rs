//! Writing: classic pcap, little-endian, nanoseconds, Ethernet.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use net::Timestamp;

use super::{ETHERNET, MAX_FRAME};

/// Writes frames into one capture.
pub struct Writer<W: Write> {
    output: W,
    frames: u64,
    octets: u64,
}

impl Writer<BufWriter<File>> {
    /// Creates a file, or empties it.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::new(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn new(mut output: W) -> io::Result<Self> {
        let snap_len = u32::try_from(MAX_FRAME).unwrap_or(u32::MAX);
        output.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        // Version 2.4, two fields that are zero by now.
        output.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        output.write_all(&snap_len.to_le_bytes())?;
        output.write_all(&ETHERNET.to_le_bytes())?;
        Ok(Self {
            output,
            frames: 0,
            octets: 0,
        })
    }

    /// Appends a frame. Seconds beyond 2106 do not fit into the format: they saturate.
    pub fn write(&mut self, time: Timestamp, frame: &[u8]) -> io::Result<()> {
        let nanos = time.as_nanos();
        let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        let fraction = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
        let len = u32::try_from(frame.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "frame longer than 4 GiB"))?;
        for field in [seconds, fraction, len, len] {
            self.output.write_all(&field.to_le_bytes())?;
        }
        self.output.write_all(frame)?;
        self.frames += 1;
        self.octets += u64::from(len);
        Ok(())
    }

    /// Frames written.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Octets of the frames written.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Sees that all is written, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}
