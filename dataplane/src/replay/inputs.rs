//! Captures of several ports as one sequence of frames.

use std::io::Read;

use net::{PortId, Timestamp};
use serde::Serialize;

use crate::pcap::{PcapError, Reader, Record};

/// One capture, and the frame of it that comes next.
struct Input<R> {
    port: PortId,
    reader: Reader<R>,
    next: Record,
    /// Whether `next` holds a frame.
    ready: bool,
    /// When `next` arrives: its own time, or that of the frame before it if that is later.
    arrives: Timestamp,
    report: InputReport,
}

/// What was read from a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputReport {
    /// The port whose frames these are.
    pub port: String,
    /// The file.
    pub file: String,
    /// `pcap` or `pcapng`.
    pub format: &'static str,
    /// Whole frames.
    pub frames: u64,
    /// Frames of which the capture kept only the beginning: no device hands those over, so they are
    /// not replayed.
    pub cut_frames: u64,
    /// Frames with a timestamp before that of the frame ahead of them in the file: they arrive right
    /// after it.
    pub late_frames: u64,
    /// Why the rest of the file could not be read.
    pub damage: Option<String>,
}

/// Merges captures by time, then by port, then by position.
///
/// A file is read once, from front to back, and one frame of it is kept: frames of one file keep
/// their order even where their timestamps do not.
pub struct Inputs<R>(Vec<Input<R>>);

impl<R: Read> Inputs<R> {
    /// These captures. Their order does not matter.
    pub fn new(captures: Vec<(PortId, Reader<R>)>) -> Self {
        let mut inputs: Vec<Input<R>> = captures
            .into_iter()
            .map(|(port, reader)| Input {
                port,
                next: Record::default(),
                ready: false,
                arrives: Timestamp::ZERO,
                report: InputReport {
                    port: port.to_string(),
                    file: reader.name().to_owned(),
                    format: reader.format(),
                    frames: 0,
                    cut_frames: 0,
                    late_frames: 0,
                    damage: None,
                },
                reader,
            })
            .collect();
        inputs.sort_by_key(|input| input.port);
        for input in &mut inputs {
            input.read();
        }
        Self(inputs)
    }

    /// Shows the next frame to `take`: its port, when it arrives, and its octets; false at the end
    /// of all captures.
    pub fn next_with<E>(
        &mut self,
        take: impl FnOnce(PortId, Timestamp, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let earliest = self
            .0
            .iter_mut()
            .filter(|input| input.ready)
            // The first of equal ones is taken, which is that of the first port.
            .min_by_key(|input| input.arrives);
        let Some(input) = earliest else {
            return Ok(false);
        };
        take(input.port, input.arrives, &input.next.octets)?;
        input.read();
        Ok(true)
    }

    /// What was read so far.
    pub fn reports(&self) -> Vec<InputReport> {
        self.0.iter().map(|input| input.report.clone()).collect()
    }
}

impl<R: Read> Input<R> {
    /// Reads the next whole frame.
    fn read(&mut self) {
        self.ready = loop {
            match self.reader.next_record(&mut self.next) {
                Ok(true) if self.next.is_cut() => self.report.cut_frames += 1,
                Ok(true) => {
                    if self.next.time < self.arrives {
                        self.report.late_frames += 1;
                    }
                    self.arrives = self.arrives.max(self.next.time);
                    self.report.frames += 1;
                    break true;
                }
                Ok(false) => break false,
                Err(PcapError { offset, cause, .. }) => {
                    self.report.damage = Some(format!("octet {offset}: {cause}"));
                    break false;
                }
            }
        };
    }
}
