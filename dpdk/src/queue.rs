//! A port's queues: where frames come in and go out.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use crate::device::Device;
use crate::mbuf::{Mbuf, free_bulk};
use crate::port::PortInner;
use crate::spec::PortSpec;
use crate::wakeup::Wakeup;

/// A receive queue. It keeps its port; one thread at a time polls it.
pub struct RxQueue {
    /// Before the port, whose socket it may be.
    wakeup: Option<Wakeup>,
    port: Arc<PortInner>,
    queue: u16,
}

/// A transmit queue. It keeps its port; one thread at a time sends on it.
pub struct TxQueue {
    port: Arc<PortInner>,
    queue: u16,
    /// The driver wants to see frames with offload requests before it gets them.
    prepare: bool,
    rejected_packets: u64,
}

/// Receives into the free room of `burst`; the caller vouches for being the queue's only user.
#[inline]
pub(crate) fn receive<const N: usize>(
    device: &Device,
    queue: u16,
    burst: &mut ArrayVec<Mbuf, N>,
) -> usize {
    let len = burst.len();
    let room = u16::try_from(burst.remaining_capacity()).unwrap_or(u16::MAX);
    // SAFETY: the device is set up and has the queue. `Mbuf` is a transparent non-null pointer, so
    // the slots behind `len` take up to `room` of them, each an mbuf that is ours from now on.
    unsafe {
        let slots = burst.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
        let received = usize::from(sys::shim_rx_burst(device.id(), queue, slots, room));
        burst.set_len(len + received);
        received
    }
}

impl RxQueue {
    pub(crate) fn new(port: Arc<PortInner>, queue: u16, wakeup: Option<Wakeup>) -> Self {
        Self {
            wakeup,
            port,
            queue,
        }
    }

    /// What to wait for instead of polling: readable when something has come in. `None` where nothing
    /// tells.
    pub fn wakeup(&self) -> Option<RawFd> {
        self.wakeup.as_ref().map(Wakeup::fd)
    }

    /// Whether frames may come in by themselves at any time. From a loop and a file they do not: there,
    /// nothing has to tell.
    pub fn may_receive(&self) -> bool {
        !matches!(
            self.port.device.spec(),
            PortSpec::Ring(_) | PortSpec::Pcap { .. }
        )
    }

    /// Whether a wake-up comes by an interrupt, which has to be asked for by [`arm`](Self::arm).
    pub fn has_interrupt(&self) -> bool {
        self.wakeup.as_ref().is_some_and(Wakeup::is_interrupt)
    }

    /// Asks for a wake-up. Poll once more afterwards, before waiting: what came in before may not cause
    /// one. Returns whether the device will.
    pub fn arm(&mut self) -> bool {
        match &self.wakeup {
            None => false,
            Some(Wakeup::Level(_)) => true,
            Some(_) => {
                // SAFETY: the device is set up and has the queue, which is this thread's alone.
                unsafe { sys::rte_eth_dev_rx_intr_enable(self.port.device.id(), self.queue) == 0 }
            }
        }
    }

    /// Wants no wake-up any more, and takes note of one that came.
    pub fn disarm(&mut self) {
        let Some(wakeup) = &self.wakeup else { return };
        if wakeup.is_interrupt() {
            // SAFETY: as above.
            unsafe { sys::rte_eth_dev_rx_intr_disable(self.port.device.id(), self.queue) };
            wakeup.take();
        }
    }

    /// Appends what has come in to `burst`, up to its free room. Returns how many frames; 0 is
    /// usual. Never waits. Leave room for 8 frames at least: vectorised drivers give nothing for less.
    #[inline]
    pub fn rx_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        receive(&self.port.device, self.queue, burst)
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.port.device.id()
    }

    /// The queue's number in its port.
    pub fn queue_id(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    pub(crate) fn new(port: Arc<PortInner>, queue: u16) -> Self {
        let prepare = port.offloads.intersects(crate::Offloads::TX_CHECKSUMS);
        Self {
            port,
            queue,
            prepare,
            rejected_packets: 0,
        }
    }

    /// Sends from the front of `burst` what the device takes, and removes exactly that. Returns how
    /// many frames left the burst; what remains is the caller's, in order.
    ///
    /// A frame the device can never send (offloads it refuses, a chain it does not do and that does
    /// not fit one mbuf) is dropped and counted in [`rejected_packets`](Self::rejected_packets),
    /// or it would block the queue for good.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let before = burst.len();
        if !self.port.multi_segs {
            self.flatten(burst);
        }
        let mut ready = u16::try_from(burst.len()).unwrap_or(u16::MAX);
        if self.prepare {
            ready = self.prepare(burst, ready);
        }
        let len = burst.len();
        // SAFETY: the device is set up and has the queue, `ready` is at most the burst's length, and
        // the mbufs are ours. The driver takes the first `sent`; the rest is moved to the front, so
        // that each mbuf has one owner again before anything can unwind.
        unsafe {
            let first = burst.as_mut_ptr();
            let sent = usize::from(sys::shim_tx_burst(
                self.port.device.id(),
                self.queue,
                first.cast::<*mut sys::rte_mbuf>(),
                ready,
            ));
            if sent < len {
                std::ptr::copy(first.add(sent), first, len - sent);
            }
            burst.set_len(len - sent);
        }
        before - burst.len()
    }

    /// Lets the driver fill in what its checksum offloads need. Returns how many frames from the
    /// front may be sent.
    fn prepare<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>, ready: u16) -> u16 {
        // SAFETY: as in `tx_burst`; the driver reads and writes the frames and takes none.
        let good = unsafe {
            let first = burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            sys::shim_tx_prepare(self.port.device.id(), self.queue, first, ready)
        };
        if good < ready {
            drop(burst.remove(usize::from(good)));
            self.rejected_packets += 1;
        }
        good
    }

    /// For a device that does not do chains: makes one segment of each, or drops it.
    fn flatten<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) {
        if burst.iter().all(|mbuf| mbuf.nb_segs() == 1) {
            return;
        }
        let before = burst.len();
        burst.retain(Mbuf::linearize);
        self.rejected_packets += (before - burst.len()) as u64;
    }

    /// Sends what it can of `burst` and drops the rest. Returns how many were dropped.
    #[inline]
    pub fn tx_burst_or_drop<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        self.tx_burst(burst);
        let dropped = burst.len();
        free_bulk(burst);
        dropped
    }

    /// Offloads that may be asked for on this queue.
    pub fn offloads(&self) -> crate::Offloads {
        self.port.offloads
    }

    /// Frames dropped because the device could never have sent them.
    pub fn rejected_packets(&self) -> u64 {
        self.rejected_packets
    }

    /// The port's number.
    pub fn port_id(&self) -> u16 {
        self.port.device.id()
    }

    /// The queue's number in its port.
    pub fn queue_id(&self) -> u16 {
        self.queue
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RxQueue({}, {})", self.port.device.spec(), self.queue)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({}, {})", self.port.device.spec(), self.queue)
    }
}
