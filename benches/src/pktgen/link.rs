//! What the generator needs of a port, whatever moves the frames.

use arrayvec::ArrayVec;
use dataplane::memory::{MemoryFrame, Wire};

/// The most frames moved at once.
pub const BURST: usize = 32;

/// Frames on their way.
pub type Burst<F> = ArrayVec<F, BURST>;

/// A frame's buffer; dropping it gives it back.
pub trait Buffer {
    /// The frame, with its tag in it.
    fn octets(&self) -> &[u8];
    /// The frame, to be changed in place.
    fn octets_mut(&mut self) -> &mut [u8];
    /// Makes the frame `len` octets long; what they are is undefined. Returns whether it fits.
    fn set_len(&mut self, len: usize) -> bool;
}

/// One queue pair of a port.
pub trait Link {
    /// How this link holds a frame.
    type Frame: Buffer;

    /// Appends received frames, as many as are there and fit.
    fn receive(&mut self, into: &mut Burst<Self::Frame>);

    /// Appends up to `count` buffers for new frames.
    fn allocate(&mut self, into: &mut Burst<Self::Frame>, count: usize);

    /// Sends from the front of `frames`; what was not taken stays in it.
    fn transmit(&mut self, frames: &mut Burst<Self::Frame>);

    /// Gives all buffers back.
    fn release(&mut self, frames: &mut Burst<Self::Frame>) {
        frames.clear();
    }
}

/// A frame in a vector of its own.
impl Buffer for Vec<u8> {
    fn octets(&self) -> &[u8] {
        self
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        self
    }

    fn set_len(&mut self, len: usize) -> bool {
        self.resize(len, 0);
        true
    }
}

/// The far end of a [`Wire`]: what the worker at its other end receives, this link sends.
#[derive(Debug, Clone, Default)]
pub struct MemoryLink(Wire);

impl MemoryLink {
    /// The far end of `wire`.
    pub fn new(wire: &Wire) -> Self {
        Self(wire.clone())
    }
}

impl Link for MemoryLink {
    type Frame = Vec<u8>;

    fn receive(&mut self, into: &mut Burst<Vec<u8>>) {
        while !into.is_full() {
            match self.0.receive() {
                Some(frame) => into.push(frame.octets().to_vec()),
                None => break,
            }
        }
    }

    fn allocate(&mut self, into: &mut Burst<Vec<u8>>, count: usize) {
        let room = into.remaining_capacity();
        into.extend((0..count.min(room)).map(|_| Vec::new()));
    }

    fn transmit(&mut self, frames: &mut Burst<Vec<u8>>) {
        for frame in frames.drain(..) {
            self.0.send(MemoryFrame::new(&frame));
        }
    }
}
