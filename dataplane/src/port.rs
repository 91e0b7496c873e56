//! What a worker needs of a port, whatever moves the frames: a NIC queue, memory or a capture file.

use arrayvec::ArrayVec;
use net::{Packet, Shape};

/// The most frames taken from or given to a port at once.
pub const BURST: usize = 32;

/// Frames on their way through a worker.
pub type Burst<F> = ArrayVec<F, BURST>;

/// One owned frame; dropping it gives its buffer back.
pub trait Frame {
    /// The frame as the pipeline sees it.
    fn packet(&mut self) -> Packet<'_>;

    /// Records what the pipeline made of it.
    fn set_shape(&mut self, shape: Shape);
}

/// One queue pair of a port, owned by one worker.
pub trait Port {
    /// How this port holds a frame.
    type Frame: Frame;

    /// Appends received frames to `into`, as many as are there and fit.
    fn rx_burst(&mut self, into: &mut Burst<Self::Frame>);

    /// Sends from the front of `frames`; what was taken is no longer in it, the rest still belongs to
    /// the caller.
    fn tx_burst(&mut self, frames: &mut Burst<Self::Frame>);

    /// A new frame with these octets, or `None` if no buffer is free or they do not fit.
    fn frame(&mut self, octets: &[u8]) -> Option<Self::Frame>;

    /// Lets go of the device, so that it can be stopped. Until [`resume`](Self::resume), nothing comes
    /// in and nothing is taken. Ports without a device do nothing.
    fn park(&mut self) {}

    /// Takes the device up again.
    fn resume(&mut self) {}

    /// Whether the device is let go of.
    fn is_parked(&self) -> bool {
        false
    }
}
