//! Ports in memory: what tests, fuzzing, benches and replay put frames in and take frames out of.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use net::{Packet, RxMeta, Shape};

use crate::port::{Burst, Frame, Port};

/// Room in front of a frame, as an mbuf has it by default (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;
/// Room behind it: an answer may be longer than its question, though never by more than this.
const TAILROOM: usize = 64;

/// A frame in a vector of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFrame {
    buf: Vec<u8>,
    start: usize,
    len: usize,
    /// What a device would say about it.
    pub rx: RxMeta,
    /// The tag a device would have to insert.
    pub insert_tci: Option<u16>,
}

impl MemoryFrame {
    /// A frame with these octets and room around them.
    pub fn new(octets: &[u8]) -> Self {
        let size = HEADROOM + octets.len() + TAILROOM;
        let mut buf = Vec::with_capacity(size);
        buf.resize(HEADROOM, 0);
        buf.extend_from_slice(octets);
        buf.resize(size, 0);
        Self {
            buf,
            start: HEADROOM,
            len: octets.len(),
            rx: RxMeta::default(),
            insert_tci: None,
        }
    }

    /// The frame's octets.
    pub fn octets(&self) -> &[u8] {
        self.buf
            .get(self.start..self.start + self.len)
            .unwrap_or(&[])
    }
}

impl Frame for MemoryFrame {
    fn packet(&mut self) -> Packet<'_> {
        Packet::new(&mut self.buf, self.start, self.len, self.rx)
    }

    fn set_shape(&mut self, shape: Shape) {
        self.start = shape.start;
        self.len = shape.len;
        self.insert_tci = shape.insert_tci;
    }
}

/// Both directions of a memory port, shared with whoever plays the wire.
#[derive(Debug, Default, Clone)]
pub struct Wire(Rc<RefCell<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    /// From the wire to the worker.
    rx: VecDeque<MemoryFrame>,
    /// From the worker to the wire.
    tx: VecDeque<MemoryFrame>,
    /// How many frames `tx` may hold; the worker keeps the rest.
    tx_limit: Option<usize>,
}

impl Wire {
    /// Puts a frame on the wire towards the worker.
    pub fn send(&self, frame: MemoryFrame) {
        self.0.borrow_mut().rx.push_back(frame);
    }

    /// Takes the next frame the worker sent.
    pub fn receive(&self) -> Option<MemoryFrame> {
        self.0.borrow_mut().tx.pop_front()
    }

    /// Limits how many sent frames wait on the wire, as a full transmit ring does.
    pub fn limit_tx(&self, limit: Option<usize>) {
        self.0.borrow_mut().tx_limit = limit;
    }

    /// Whether frames wait for the worker.
    pub fn has_input(&self) -> bool {
        !self.0.borrow().rx.is_empty()
    }
}

/// The worker's end of a [`Wire`].
#[derive(Debug, Default)]
pub struct MemoryPort(Wire);

impl MemoryPort {
    /// The worker's end of `wire`.
    pub fn new(wire: &Wire) -> Self {
        Self(wire.clone())
    }
}

impl Port for MemoryPort {
    type Frame = MemoryFrame;

    fn rx_burst(&mut self, into: &mut Burst<MemoryFrame>) {
        let mut queues = self.0.0.borrow_mut();
        while !into.is_full() {
            match queues.rx.pop_front() {
                Some(frame) => into.push(frame),
                None => break,
            }
        }
    }

    fn tx_burst(&mut self, frames: &mut Burst<MemoryFrame>) {
        let mut queues = self.0.0.borrow_mut();
        let room = queues
            .tx_limit
            .map_or(frames.len(), |limit| limit.saturating_sub(queues.tx.len()));
        let taken = room.min(frames.len());
        queues.tx.extend(frames.drain(..taken));
    }

    fn frame(&mut self, octets: &[u8]) -> Option<MemoryFrame> {
        Some(MemoryFrame::new(octets))
    }
}
