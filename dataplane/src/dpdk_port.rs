//! A port on one DPDK queue pair.

use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use dpdk::{ChecksumStatus, Mbuf, Mempool, RxQueue, TxQueue};
use net::{Packet, RxChecksum, RxMeta, Shape};

use crate::counters::Counter;
use crate::partial;
use crate::port::{BURST, Burst, Frame, Port};

/// An mbuf as the pipeline sees it.
pub struct DpdkFrame {
    mbuf: Mbuf,
    rx: RxMeta,
}

impl Frame for DpdkFrame {
    #[inline]
    fn packet(&mut self) -> Packet<'_> {
        let (start, len) = (self.mbuf.data_offset(), self.mbuf.data_len());
        Packet::new(
            self.mbuf.buffer_mut(),
            usize::from(start),
            usize::from(len),
            self.rx,
        )
    }

    #[inline]
    fn set_shape(&mut self, shape: Shape) {
        let start = u16::try_from(shape.start).unwrap_or(u16::MAX);
        let len = u16::try_from(shape.len).unwrap_or(u16::MAX);
        // A shape that the pipeline made lies in the buffer it was given.
        let fits = self.mbuf.set_shape(start, len);
        debug_assert!(fits.is_ok());
        // What the receiving device said is no longer true of the frame.
        self.rx = RxMeta::default();
        self.mbuf.clear_flags();
        if let Some(tci) = shape.insert_tci {
            self.mbuf.set_tx_vlan(tci);
        }
    }
}

/// Frames that a queue pair had to drop by itself, before or after the pipeline; by itself on its cache
/// lines, since it is written for each burst.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct QueueCounters {
    /// Received in several segments that do not fit into one buffer.
    pub rx_segmented_packets: Counter,
    /// Given to the device, which could never have sent them.
    pub tx_rejected_packets: Counter,
}

/// The queues of one worker on one port, out of its hands.
#[derive(Debug, Default)]
pub struct Queues {
    /// To receive by.
    pub rx: Option<RxQueue>,
    /// To send by.
    pub tx: Option<TxQueue>,
}

/// Where a worker leaves its queues of a port when the device must be stopped, and finds new ones.
#[derive(Debug, Default)]
pub struct Dock(Mutex<Option<Queues>>);

impl Dock {
    /// What lies there.
    pub fn take(&self) -> Option<Queues> {
        self.place().take()
    }

    /// Whether queues lie there.
    pub fn is_taken(&self) -> bool {
        self.place().is_some()
    }

    /// Lays queues there.
    pub fn put(&self, queues: Queues) {
        *self.place() = Some(queues);
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Queues>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One receive and one transmit queue of a port, for one worker; or one of them, or none.
pub struct DpdkPort {
    rx: Option<RxQueue>,
    tx: Option<TxQueue>,
    dock: Arc<Dock>,
    parked: bool,
    /// How often its queues have gone or come.
    changes: u64,
    /// By queues that were there before.
    rejected_before: u64,
    pool: Mempool,
    counters: Arc<QueueCounters>,
    received: ArrayVec<Mbuf, BURST>,
    sending: ArrayVec<Mbuf, BURST>,
}

impl DpdkPort {
    /// A port on these queues; frames of our own come from `pool`.
    pub fn new(rx: RxQueue, tx: TxQueue, pool: Mempool) -> Self {
        Self::with_queues(Some(rx), Some(tx), pool)
    }

    /// A port on those queues there are. Without a receive queue nothing comes in; without a transmit
    /// queue nothing can be sent, so the worker must have others do it.
    pub fn with_queues(rx: Option<RxQueue>, tx: Option<TxQueue>, pool: Mempool) -> Self {
        Self {
            rx,
            tx,
            dock: Arc::default(),
            parked: false,
            changes: 0,
            rejected_before: 0,
            pool,
            counters: Arc::default(),
            received: ArrayVec::new(),
            sending: ArrayVec::new(),
        }
    }

    /// The receive queue, to wait for what comes in.
    pub fn rx_queue(&mut self) -> Option<&mut RxQueue> {
        self.rx.as_mut()
    }

    /// How often its queues have gone or come: whoever waits for them has to look again.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// What the queues drop, for whoever shows it.
    pub fn counters(&self) -> Arc<QueueCounters> {
        Arc::clone(&self.counters)
    }

    /// Where the queues go when the port is parked.
    pub fn dock(&self) -> Arc<Dock> {
        Arc::clone(&self.dock)
    }
}

impl Port for DpdkPort {
    type Frame = DpdkFrame;

    #[inline]
    fn rx_burst(&mut self, into: &mut Burst<DpdkFrame>) {
        let Some(rx) = &mut self.rx else { return };
        rx.rx_burst(&mut self.received);
        for mut mbuf in self.received.drain(..) {
            let flags = mbuf.rx_flags();
            let rx = RxMeta {
                stripped_tci: flags.vlan_stripped,
                stripped_service_tci: flags.qinq_stripped,
                ip_checksum: checksum(flags.ip_checksum),
                l4_checksum: checksum(flags.l4_checksum),
            };
            // The pipeline works on one segment: it would take the rest of a longer chain along
            // unseen, with the checksums of all of it.
            if !mbuf.linearize() {
                self.counters.rx_segmented_packets.add(1);
                continue;
            }
            let mut frame = DpdkFrame { mbuf, rx };
            let ip_absent = flags.ip_checksum == ChecksumStatus::Absent;
            let l4_absent = flags.l4_checksum == ChecksumStatus::Absent;
            if ip_absent || l4_absent {
                let mut packet = frame.packet();
                partial::complete(&mut packet, ip_absent, l4_absent);
                frame.rx = packet.rx;
            }
            if into.try_push(frame).is_err() {
                break;
            }
        }
    }

    #[inline]
    fn tx_burst(&mut self, frames: &mut Burst<DpdkFrame>) {
        let Some(tx) = &mut self.tx else { return };
        self.sending
            .extend(frames.drain(..).map(|frame| frame.mbuf));
        tx.tx_burst(&mut self.sending);
        self.counters
            .tx_rejected_packets
            .set(self.rejected_before + tx.rejected_packets());
        // What was not sent goes back to the caller, in order.
        frames.extend(self.sending.drain(..).map(|mbuf| DpdkFrame {
            mbuf,
            rx: RxMeta::default(),
        }));
    }

    fn frame(&mut self, octets: &[u8]) -> Option<DpdkFrame> {
        let mut mbuf = self.pool.alloc()?;
        mbuf.copy_from(octets).ok()?;
        Some(DpdkFrame {
            mbuf,
            rx: RxMeta::default(),
        })
    }

    fn park(&mut self) {
        if self.parked {
            return;
        }
        self.parked = true;
        self.changes += 1;
        self.rejected_before = self.counters.tx_rejected_packets.get();
        self.dock.put(Queues {
            rx: self.rx.take(),
            tx: self.tx.take(),
        });
    }

    fn resume(&mut self) {
        if !self.parked {
            return;
        }
        // Without new queues it stays parked.
        if let Some(Queues { rx, tx }) = self.dock.take() {
            (self.rx, self.tx, self.parked) = (rx, tx, false);
            self.changes += 1;
        }
    }

    fn is_parked(&self) -> bool {
        self.parked
    }
}

const fn checksum(status: ChecksumStatus) -> RxChecksum {
    match status {
        ChecksumStatus::Good => RxChecksum::Good,
        ChecksumStatus::Bad => RxChecksum::Bad,
        // What is absent is filled in before anybody looks.
        ChecksumStatus::Unknown | ChecksumStatus::Absent => RxChecksum::Unknown,
    }
}
