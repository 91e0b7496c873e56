//! Ethernet ports: set up, started, watched and stopped.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;
use net::{MacAddr, VlanId};

use crate::device::{Device, DeviceInfo};
use crate::error::Error;
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::offload::{Offloads, Rss};
use crate::preflight;
use crate::queue::{RxQueue, TxQueue};
use crate::spec::PortSpec;
use crate::wakeup::{self, Wakeup};

mod config;
mod restart;
mod rss;
mod set_up;

use config::check_mtu;
pub use config::{Link, PortConfig, PortStats, RSS_KEY_LEN, RssTable};
pub use restart::Answer;

/// What a port's queues own together.
pub(crate) struct PortInner {
    /// Before the pool: closing the device gives its mbufs back.
    pub(crate) device: Device,
    pub(crate) offloads: Offloads,
    pub(crate) multi_segs: bool,
    started: AtomicBool,
    rx_queues: u16,
    /// The device allocates from it.
    pool: Mempool,
}

/// An Ethernet port: a device with its queues.
///
/// Dropping it, and the queues it gave out, stops the port, closes the device and gives every mbuf
/// it holds back to its pool.
pub struct EthPort {
    /// Before the port, whose sockets they may be: by receive queue, until the queues are given out.
    wakeups: Vec<Wakeup>,
    inner: Arc<PortInner>,
    info: DeviceInfo,
    config: PortConfig,
    /// The address that the device had at first, by which the neighbours know the port.
    first_mac: Option<MacAddr>,
    rss: Rss,
    /// Whether the device was seen to have the key and table it was told, and hashes ports.
    spreads_as_told: bool,
    split: bool,
}

impl EthPort {
    /// Sets a device up as a port whose queues receive into `pool`.
    ///
    /// Offloads and RSS are switched on as far as the device has them; [`offloads`](Self::offloads)
    /// and [`rss`](Self::rss) tell what became of the wishes.
    ///
    /// # Errors
    /// [`Error::TooManyQueues`], [`Error::MtuOutOfRange`], [`Error::MbufTooSmall`], or
    /// [`Error::Port`] with what DPDK logged. The device is closed then.
    pub fn configure(device: Device, config: &PortConfig, pool: &Mempool) -> Result<Self, Error> {
        let info = device.info()?;
        let set_up = set_up::set_up(&device, &info, config, pool)?;
        if matches!(device.spec(), PortSpec::AfXdp(_)) {
            pool.expect_losses();
        }
        let config = PortConfig {
            rx_desc: set_up.rx_desc,
            tx_desc: set_up.tx_desc,
            ..config.clone()
        };
        let rss = set_up.rss;
        let inner = Arc::new(PortInner {
            device,
            offloads: set_up.offloads,
            multi_segs: set_up.multi_segs,
            started: AtomicBool::new(false),
            rx_queues: config.rx_queues,
            pool: pool.clone(),
        });
        let mut port = Self {
            wakeups: Vec::new(),
            inner,
            info,
            config,
            first_mac: None,
            rss,
            spreads_as_told: false,
            split: false,
        };
        port.first_mac = port.mac().ok();
        Ok(port)
    }

    /// Starts the port: frames are received from now on. Starting a started port does nothing.
    ///
    /// # Errors
    /// [`Error::Port`] when the device does not start.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.inner.started.load(Ordering::Acquire) {
            return Ok(());
        }
        let id = self.id();
        self.device().call("starting", || {
            // SAFETY: the port exists and is set up.
            unsafe { sys::rte_eth_dev_start(id) }
        })?;
        self.inner.started.store(true, Ordering::Release);
        self.wakeups = wakeup::of_port(
            self.device(),
            self.device().files_before(),
            self.config.rx_queues,
            self.config.rx_interrupts,
        );
        self.spread_as_told();
        if self.config.all_multicast && self.takes_all_groups() {
            let result = self.best_effort("taking in all multicast", || {
                // SAFETY: the port exists.
                unsafe { sys::rte_eth_allmulticast_enable(id) }
            });
            // A virtual function may be refused it, and still get the groups it needs.
            if let Err(error) = result {
                tracing::warn!(%error, "neighbour discovery may not reach this port");
            }
        }
        if self.config.promiscuous {
            self.set_promiscuous(true)?;
        }
        Ok(())
    }

    /// Stops the port. Some drivers (`af_packet`) cannot be started again afterwards.
    ///
    /// # Errors
    /// [`Error::PortState`] while a queue is still held; [`Error::Port`] when the device does not
    /// stop.
    pub fn stop(&mut self) -> Result<(), Error> {
        // Queues poll the device without a lock, so none may be left.
        let Some(inner) = Arc::get_mut(&mut self.inner) else {
            return Err(self.state_error("cannot be stopped while its queues are in use"));
        };
        self.split = false;
        inner.stop()
    }

    /// Gives the queues out: once, after the start.
    ///
    /// # Errors
    /// [`Error::PortState`] when the port is not started, or its queues were given out already.
    pub fn split(&mut self) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        if !self.inner.started.load(Ordering::Acquire) {
            return Err(self.state_error("is not started"));
        }
        if self.split {
            return Err(self.state_error("has given its queues out already"));
        }
        self.split = true;
        let mut wakeups = std::mem::take(&mut self.wakeups).into_iter();
        let rx = (0..self.config.rx_queues)
            .map(|q| RxQueue::new(Arc::clone(&self.inner), q, wakeups.next()))
            .collect();
        let tx = (0..self.config.tx_queues)
            .map(|q| TxQueue::new(Arc::clone(&self.inner), q))
            .collect();
        Ok((rx, tx))
    }

    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.device().id()
    }

    /// The device: its name and specification.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// What the device is and can do.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// How the port is set up, with the queue lengths the device took.
    pub fn config(&self) -> &PortConfig {
        &self.config
    }

    /// Name of the driver, such as `net_iavf`.
    pub fn driver_name(&self) -> &str {
        &self.info.driver
    }

    /// Offloads the device has.
    pub fn capabilities(&self) -> Offloads {
        self.info.capabilities
    }

    /// Offloads that are switched on.
    pub fn offloads(&self) -> Offloads {
        self.inner.offloads
    }

    /// How flows are spread over the receive queues.
    pub fn rss(&self) -> Rss {
        self.rss
    }

    /// The device's MAC address.
    ///
    /// # Errors
    /// [`Error::Port`] when the device has none.
    pub fn mac(&self) -> Result<MacAddr, Error> {
        let mut mac = [0; 6];
        self.device().call("reading the MAC address", || {
            // SAFETY: the port exists; six bytes out.
            unsafe { sys::shim_mac(self.id(), mac.as_mut_ptr()) }
        })?;
        Ok(MacAddr(mac))
    }

    /// MTU of the kernel interface below the port, in bytes: what is larger it does not send. `None`
    /// for a port that is no such interface, or makes its own.
    pub fn netdev_mtu(&self) -> Option<u32> {
        match self.device().spec() {
            PortSpec::AfPacket(netdev) | PortSpec::AfXdp(netdev) => preflight::netdev_mtu(netdev),
            _ => None,
        }
    }

    /// The state of the link, without waiting for it.
    ///
    /// # Errors
    /// [`Error::Port`] when the device does not tell.
    pub fn link(&self) -> Result<Link, Error> {
        let mut raw = sys::shim_link::default();
        self.device().call("reading the link state", || {
            // SAFETY: the port exists; one structure out.
            unsafe { sys::shim_link(self.id(), &raw mut raw) }
        })?;
        let mut up = raw.up != 0;
        // These drivers call the link up once started, whatever the interface below says.
        if let PortSpec::AfPacket(netdev) | PortSpec::AfXdp(netdev) = self.device().spec() {
            up &= preflight::netdev_is_running(netdev).unwrap_or(true);
        }
        let known = raw.speed_mbps != 0 && raw.speed_mbps != u32::MAX;
        Ok(Link {
            up,
            speed_mbps: known.then_some(raw.speed_mbps),
            full_duplex: raw.full_duplex != 0,
        })
    }

    /// What the device has counted.
    ///
    /// # Errors
    /// [`Error::Port`] when the device does not tell.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let mut raw = sys::shim_stats::default();
        self.device().call("reading the counters", || {
            // SAFETY: the port exists; one structure out.
            unsafe { sys::shim_stats(self.id(), &raw mut raw) }
        })?;
        Ok(PortStats {
            rx_packets: raw.rx_packets,
            tx_packets: raw.tx_packets,
            rx_bytes: raw.rx_bytes,
            tx_bytes: raw.tx_bytes,
            rx_missed_packets: raw.rx_missed,
            rx_error_packets: raw.rx_errors,
            tx_error_packets: raw.tx_errors,
            rx_nombuf_total: raw.rx_nombuf,
        })
    }

    /// Everything the driver counts, by its own names.
    ///
    /// # Errors
    /// [`Error::Port`] when the device does not tell.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut raw: Vec<sys::shim_xstat> = Vec::new();
        let mut have = 0;
        let id = self.id();
        for _ in 0..2 {
            self.device().call("reading the extended counters", || {
                let room = u32::try_from(raw.len()).unwrap_or(0);
                // SAFETY: the port exists; at most `room` structures are written to as many slots.
                have = unsafe { sys::shim_xstats(id, raw.as_mut_ptr(), room) };
                have
            })?;
            let count = usize::try_from(have).unwrap_or(0);
            raw.resize(count, sys::shim_xstat::default());
        }
        let text = |name: &[std::ffi::c_char]| {
            let bytes: Vec<u8> = name.iter().map(|c| c.to_ne_bytes()[0]).collect();
            CStr::from_bytes_until_nul(&bytes)
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        Ok(raw
            .iter()
            .map(|x| (text(&x.name), x.value))
            .filter(|x| !x.0.is_empty())
            .collect())
    }

    /// Sets the device's counters to zero.
    ///
    /// # Errors
    /// [`Error::Port`] when the device cannot.
    pub fn reset_stats(&self) -> Result<(), Error> {
        let id = self.id();
        self.device().call("resetting the counters", || {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_stats_reset(id) }
        })
    }

    /// Changes the MTU, in bytes. Most NICs do it only while the port is stopped.
    ///
    /// # Errors
    /// [`Error::MtuOutOfRange`], or [`Error::Port`] when the device refuses.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        let on_device = check_mtu(self.device(), &self.info, mtu)?;
        let (id, on_device) = (self.id(), u16::try_from(on_device).unwrap_or(mtu));
        self.device().call("setting the MTU", || {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_dev_set_mtu(id, on_device) }
        })?;
        self.config.mtu = mtu;
        Ok(())
    }

    /// Takes in frames for any MAC address, or stops doing so. Devices that always do, do.
    ///
    /// # Errors
    /// [`Error::Port`] when the device refuses.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        let id = self.id();
        self.best_effort("changing the promiscuous mode", || {
            // SAFETY: the port exists.
            unsafe {
                if on {
                    sys::rte_eth_promiscuous_enable(id)
                } else {
                    sys::rte_eth_promiscuous_disable(id)
                }
            }
        })
    }

    /// Takes in frames for one more MAC address besides the device's own; for one it takes in
    /// already, does nothing.
    ///
    /// # Errors
    /// [`Error::Port`] when the device has no such filter or no room in it, or refuses, as a virtual
    /// function may be. The way out is [`set_promiscuous`](Self::set_promiscuous).
    pub fn add_mac(&self, mac: MacAddr) -> Result<(), Error> {
        let id = self.id();
        self.device().call("adding a MAC address", || {
            // SAFETY: the port exists; six bytes in.
            unsafe { sys::shim_mac_add(id, mac.0.as_ptr()) }
        })
    }

    /// Takes in frames for a MAC address no longer; for one it never took in, does nothing.
    ///
    /// # Errors
    /// [`Error::Port`] when the device refuses, or the address is its own.
    pub fn remove_mac(&self, mac: MacAddr) -> Result<(), Error> {
        let id = self.id();
        self.device().call("removing a MAC address", || {
            // SAFETY: the port exists; six bytes in.
            unsafe { sys::shim_mac_remove(id, mac.0.as_ptr()) }
        })
    }

    /// Takes in frames for these multicast groups (Ethernet addresses), in place of those before. Devices
    /// without a list of groups are not asked.
    ///
    /// # Errors
    /// [`Error::Port`] when the device refuses, as when there are too many.
    pub fn set_multicast(&self, groups: &[MacAddr]) -> Result<(), Error> {
        let octets: Vec<u8> = groups.iter().flat_map(|group| group.0).collect();
        let (id, count) = (self.id(), u32::try_from(groups.len()).unwrap_or(0));
        self.best_effort("setting the multicast groups", || {
            // SAFETY: the port exists; `count` addresses of six octets in.
            unsafe { sys::shim_multicast_set(id, octets.as_ptr(), count) }
        })
    }

    /// Lets frames of a VLAN in, or no longer. Returns whether the device filters at all: one that
    /// does not, or has [`Offloads::VLAN_FILTER`] switched off, lets every frame in.
    ///
    /// Virtual functions usually drop tagged frames until their VLAN is let in.
    ///
    /// # Errors
    /// [`Error::Port`] when the device refuses, as a virtual function may be.
    pub fn set_vlan(&self, vlan: VlanId, on: bool) -> Result<bool, Error> {
        if !self.offloads().contains(Offloads::VLAN_FILTER) {
            return Ok(false);
        }
        let id = self.id();
        self.device().call("filtering by VLAN", || {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_dev_vlan_filter(id, vlan.get(), i32::from(on)) }
        })?;
        Ok(true)
    }

    /// Runs a call that devices without the feature answer with "not supported".
    fn best_effort(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> i32,
    ) -> Result<(), Error> {
        match self.device().call(operation, call) {
            Err(error) if error.is_unsupported() => {
                tracing::debug!(port = %self.device().spec(), operation, "not supported");
                Ok(())
            }
            result => result,
        }
    }

    fn state_error(&self, why: &'static str) -> Error {
        Error::PortState {
            port: self.device().spec().to_string(),
            why,
        }
    }
}

impl PortInner {
    fn stop(&mut self) -> Result<(), Error> {
        if !self.started.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.drain_loop();
        let id = self.device.id();
        self.device.call("stopping", || {
            // SAFETY: the port exists, and no queue is left that could poll it.
            unsafe { sys::rte_eth_dev_stop(id) }
        })
    }

    /// A loop keeps what was sent and not received yet, and its driver does not free it.
    fn drain_loop(&mut self) {
        if !matches!(self.device.spec(), PortSpec::Ring(_)) {
            return;
        }
        let mut burst = arrayvec::ArrayVec::<Mbuf, 64>::new();
        for queue in 0..self.rx_queues {
            while crate::queue::receive(&self.device, queue, &mut burst) > 0 {
                crate::mbuf::free_bulk(&mut burst);
            }
        }
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "a port did not stop cleanly");
        }
    }
}

impl fmt::Debug for EthPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthPort")
            .field("spec", self.device().spec())
            .field("id", &self.id())
            .field("config", &self.config)
            .field("offloads", &self.offloads())
            .finish_non_exhaustive()
    }
}
