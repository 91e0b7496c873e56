//! Sending frames, and handing them to other workers.

use arrayvec::ArrayVec;
use net::PortId;

use super::Worker;
use crate::handoff::Handed;
use crate::port::{Burst, Frame, Port};
use crate::verdict::DropReason;

/// How often a full transmit queue is tried again before its frames are dropped.
const TX_TRIES: usize = 3;

impl<P: Port> Worker<P> {
    /// Sends a frame by a port: itself, or through the worker that can.
    pub(super) fn push(&mut self, port: PortId, frame: P::Frame) {
        if let Some(crew) = &self.crew {
            let sender = crew.sender(port);
            if sender != crew.me() {
                // As a transmit queue, for that is what the ring is here.
                self.hand_over(sender, Handed::Leaving { frame, port }, DropReason::TxFull);
                return;
            }
        }
        self.enqueue(port, frame);
    }

    pub(super) fn hand_over(&self, to: u16, handed: Handed<P::Frame>, full: DropReason) {
        let counters = &self.shared.counters;
        let crew = self.crew.as_ref();
        if crew.is_some_and(|crew| crew.hand_over(to, handed).is_ok()) {
            counters.handoffs_out_packets.add(1);
        } else {
            counters.count_drop(full);
        }
    }

    pub(super) fn enqueue(&mut self, port: PortId, frame: P::Frame) {
        let index = usize::from(port.0);
        if self.tx.get(index).is_some_and(ArrayVec::is_full) {
            self.flush(index);
        }
        match self.tx.get_mut(index) {
            Some(tx) => {
                if tx.try_push(frame).is_err() {
                    self.shared.counters.count_drop(DropReason::TxFull);
                }
            }
            None => self.shared.counters.count_drop(DropReason::PortDown),
        }
    }

    /// Sends what is queued for a port; what the port does not take after some tries is dropped.
    pub(super) fn flush(&mut self, index: usize) {
        let (Some(port), Some(tx)) = (self.ports.get_mut(index), self.tx.get_mut(index)) else {
            return;
        };
        if tx.is_empty() {
            return;
        }
        let bytes = |tx: &mut Burst<P::Frame>| -> usize {
            tx.iter_mut().map(|frame| frame.packet().len()).sum()
        };
        let mut waiting = bytes(tx);
        for _ in 0..TX_TRIES {
            let before = tx.len();
            port.tx_burst(tx);
            let rest = if tx.is_empty() { 0 } else { bytes(tx) };
            if let Some(counters) = self.shared.counters.ports.get(index) {
                counters.tx.packets.add((before - tx.len()) as u64);
                counters.tx.bytes.add((waiting - rest) as u64);
            }
            if tx.is_empty() {
                return;
            }
            waiting = rest;
        }
        let reason = if port.is_parked() {
            DropReason::PortDown
        } else {
            DropReason::TxFull
        };
        for _ in tx.drain(..) {
            self.shared.counters.count_drop(reason);
        }
    }
}
