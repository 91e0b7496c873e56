//! A safe layer over DPDK: EAL, mempools, mbufs, Ethernet ports and queues.
//!
//! ```text
//!  Eal ── attach(PortSpec) ──▶ Device ── configure ──▶ EthPort ── start, split ──▶ RxQueue, TxQueue
//!   └──── Mempool::new ──────────────────────────────────┘              rx_burst ▲      │ tx_burst
//!                                                                                Mbuf ◀─┘
//! ```
//!
//! What the types see to, so that no caller has to:
//!
//! * **One owner per buffer.** A [`Mbuf`] is received, allocated, sent or dropped; a double free
//!   cannot be written down. [`TxQueue::tx_burst`] takes out of a burst what was sent, and the rest
//!   still belongs to the caller.
//! * **One thread per queue.** [`RxQueue`] and [`TxQueue`] are [`Send`], not [`Clone`], and take
//!   `&mut self`. A port cannot be stopped while one of its queues is out.
//! * **Nothing is torn down under a user.** Queues keep their port, ports and pools keep the EAL. The
//!   last holder stops the port, takes its device off the bus and gives the memory back.
//! * **No call into C per packet.** Fields of an mbuf are read in place, at offsets taken from the
//!   installed DPDK's headers; bursts, allocation and release cross the boundary once for many.
//!
//! Errors are found before DPDK is asked where possible, and say what to do ([`Error`]). DPDK's log
//! goes to [`tracing`] under the target `dpdk`.
//!
//! A thread that polls queues should hold an [`LcoreGuard`] ([`Eal::register_thread`]): only threads
//! known to DPDK use the mempools' caches.
//!
//! ```no_run
//! use arrayvec::ArrayVec;
//! use dpdk::{Eal, EalConfig, EthPort, Mbuf, Mempool, MempoolConfig, PortConfig, VdevOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let eal = Eal::init(&EalConfig { program: "echo".into(), ..EalConfig::default() })?;
//! let pool = Mempool::new(&eal, &MempoolConfig::new("frames", 8191))?;
//! let device = eal.attach(&"af_packet:eth1".parse()?, &VdevOptions::default())?;
//! let mut port = EthPort::configure(device, &PortConfig::default(), &pool)?;
//! port.start()?;
//! let (mut rx, mut tx) = port.split()?;
//! let _lcore = eal.register_thread()?;
//! let mut burst = ArrayVec::<Mbuf, 32>::new();
//! loop {
//!     rx[0].rx_burst(&mut burst);
//!     tx[0].tx_burst_or_drop(&mut burst);
//! }
//! # }
//! ```
//!
//! This crate and `dpdk-sys` are the only ones with `unsafe` code; each block says why it is sound.

mod device;
mod eal;
mod error;
mod fanout;
mod log;
mod mbuf;
mod mempool;
mod offload;
mod pci;
mod pmd;
mod port;
mod preflight;
mod queue;
mod spec;
mod thread;
mod wait;
mod wakeup;

pub use device::{Device, DeviceInfo, PortEvents};
pub use eal::{Eal, EalConfig, HugePages, LogLevel};
pub use error::{Error, Excerpt};
pub use mbuf::{ChecksumStatus, HEADROOM, Mbuf, RxFlags, ShapeError, TxL3, TxL4, free_bulk};
pub use mempool::{Mempool, MempoolConfig};
pub use offload::{Offloads, Rss};
pub use pci::{DmaNeeds, PciDevice, PciReport, inspect_pci};
pub use port::{Answer, EthPort, Link, PortConfig, PortStats, RSS_KEY_LEN, RssTable};
pub use queue::{RxQueue, TxQueue};
pub use spec::{MemifRole, PciAddress, PortSpec, SpecError, VdevOptions};
pub use thread::{LcoreGuard, allowed_cpus, bind_to_cpus, pin_to_cpu};
pub use wait::{Alarm, WaitSet, Woken, wait_precisely};

/// Finds out what stands in the way of a port, without DPDK and without touching anything.
///
/// # Errors
/// What is wrong, and what to do about it. For a PCI device, [`inspect_pci`] tells more.
pub fn check_port(spec: &PortSpec) -> Result<(), Error> {
    preflight::check_port(spec, &eal::driver_dir())
}

/// Checks for the capability to change what interfaces are like.
///
/// # Errors
/// [`Error::NoCapability`] without it.
pub fn check_net_admin(what: &str) -> Result<(), Error> {
    preflight::check_net_admin(what)
}

/// How many receive queues a kernel interface uses; `None` if its driver does not say.
pub fn netdev_rx_queues(name: &str) -> Option<u32> {
    preflight::netdev_rx_queues(name)
}

/// Hugepage memory this process could still take, MiB.
pub fn free_hugepage_mib() -> u64 {
    preflight::free_hugepage_mib()
}

/// The DPDK release found at run time, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a pointer to a static string.
    let text = unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) };
    text.to_string_lossy().into_owned()
}
