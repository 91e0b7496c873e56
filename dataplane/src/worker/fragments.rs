//! Fragments in a worker's hands: those that wait for the first of their datagram, and packets that are
//! cut because they are too long for the VLAN they leave by.

use arrayvec::ArrayVec;
use net::fragment::Cutter;
use net::{PortId, Shape, Timestamp};

use super::{Origin, Worker};
use crate::port::{BURST, Burst, Frame, Port};
use crate::trains::{Leaving, PLACES};
use crate::verdict::{Cut, DropReason, FlowStep};

/// Fragments that one packet is cut into at most.
const CUT_INTO: usize = 64;
/// Room for a fragment to be written; larger ones make it grow once.
const SCRATCH: usize = 9216;

/// Frames that wait, in the places that the pipeline deals out.
pub(super) struct Waiting<F> {
    places: Vec<Option<(F, Origin)>>,
    scratch: Vec<u8>,
}

impl<F> Waiting<F> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::with_capacity(PLACES),
            scratch: Vec::with_capacity(SCRATCH),
        }
    }

    /// Gives all frames back to their ports' pools.
    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// Puts a frame into a place; gives the one that was there.
    fn put(&mut self, place: u16, frame: F, origin: Origin) -> Option<F> {
        let place = usize::from(place);
        while self.places.len() <= place {
            self.places.push(None);
        }
        let room = self.places.get_mut(place)?;
        room.replace((frame, origin)).map(|(frame, _)| frame)
    }

    fn take(&mut self, place: u16) -> Option<(F, Origin)> {
        self.places.get_mut(usize::from(place))?.take()
    }
}

impl<P: Port> Worker<P> {
    /// Keeps a fragment until the pipeline lets it go.
    pub(super) fn put_aside(&mut self, place: u16, frame: P::Frame, origin: Origin) {
        let counters = &self.shared.counters;
        counters.fragments_waited_packets.add(1);
        if self.fragments.put(place, frame, origin).is_some() {
            counters.count_drop(DropReason::FragmentsFull);
        }
    }

    /// Takes up the fragments that wait no longer, in order, in bursts of one origin.
    #[inline]
    pub(super) fn take_up(&mut self, now: Timestamp) {
        if self.pipeline.trains().has_leaving() {
            self.take_up_all(now);
        }
    }

    #[cold]
    fn take_up_all(&mut self, now: Timestamp) {
        let mut burst: Burst<P::Frame> = Burst::new();
        let mut burst_origin = None;
        while let Some(leaving) = self.pipeline.leaving() {
            match leaving {
                Leaving::Dropped(place, reason) => {
                    if self.fragments.take(place).is_some() {
                        self.shared.counters.count_drop(reason);
                    }
                }
                Leaving::Again(place) => {
                    let Some((frame, mut origin)) = self.fragments.take(place) else {
                        continue;
                    };
                    origin.waited = true;
                    if let Some(earlier) = burst_origin
                        && (earlier != origin || burst.len() == BURST)
                    {
                        let full = std::mem::replace(&mut burst, Burst::new());
                        self.process(now, earlier, full, &mut |_, _, _| {});
                    }
                    burst_origin = Some(origin);
                    burst.push(frame);
                }
            }
        }
        if let Some(origin) = burst_origin {
            self.process(now, origin, burst, &mut |_, _, _| {});
        }
    }

    /// Sends a packet in fragments: all of them, or none if there are too many or not enough buffers. It is
    /// counted here, as forwarded or as dropped.
    pub(super) fn push_cut(
        &mut self,
        port: PortId,
        mut frame: P::Frame,
        cut: Cut,
        step: Option<FlowStep>,
    ) {
        let counters = &self.shared.counters;
        let packet = frame.packet();
        let octets = packet.data();
        let Some(mut cutter) = Cutter::new(octets, usize::from(cut.l3), usize::from(cut.mtu))
        else {
            counters.count_drop(DropReason::MtuExceeded);
            return;
        };
        let Some(maker) = self.ports.get_mut(usize::from(port.0)) else {
            counters.count_drop(DropReason::PortDown);
            return;
        };
        let mut pieces: ArrayVec<P::Frame, CUT_INTO> = ArrayVec::new();
        while cutter.next(octets, &mut self.fragments.scratch) {
            if pieces.is_full() {
                counters.count_drop(DropReason::MtuExceeded);
                return;
            }
            let Some(mut piece) = maker.frame(&self.fragments.scratch) else {
                counters.count_drop(DropReason::NoBuffer);
                return;
            };
            let shape = piece.packet().shape();
            piece.set_shape(Shape {
                insert_tci: cut.insert_tci,
                ..shape
            });
            pieces.push(piece);
        }
        if let Some(step) = step {
            counters.forwarded[step.index()].add(1);
        }
        counters.cut_packets.add(1);
        counters.fragments_made_packets.add(pieces.len() as u64);
        for piece in pieces {
            self.push(port, piece);
        }
    }
}
