//! A device DPDK has opened, before it is a port.

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::EalInner;
use crate::error::{Error, Excerpt, os_error};
use crate::log;
use crate::offload::Offloads;
use crate::spec::PortSpec;
use crate::wakeup::OpenFiles;

/// An opened device; it becomes a port by [`EthPort::configure`](crate::EthPort::configure).
/// Dropping it closes the device and takes it off its bus.
#[derive(Debug)]
pub struct Device {
    eal: Arc<EalInner>,
    id: u16,
    name: String,
    spec: PortSpec,
    /// The files that were open before it was made.
    before: OpenFiles,
}

/// What a device has told of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortEvents {
    /// The link went up or down.
    pub link: bool,
    /// The device was reset from outside, as virtual functions are with their physical one: it needs
    /// a [`restart`](crate::EthPort::restart).
    pub reset: bool,
    /// The device is gone, or the kernel wants it back.
    pub removed: bool,
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// DPDK's name of the driver, such as `net_iavf`.
    pub driver: String,
    /// Receive queues at most.
    pub max_rx_queues: u16,
    /// Transmit queues at most.
    pub max_tx_queues: u16,
    /// The smallest MTU, in bytes.
    pub min_mtu: u32,
    /// The largest MTU, in bytes.
    pub max_mtu: u32,
    /// Offloads it has.
    pub capabilities: Offloads,
    /// NUMA node it is attached to, where it has one.
    pub socket: Option<u16>,
    pub(crate) rx_offload_capa: u64,
    pub(crate) tx_offload_capa: u64,
    pub(crate) rss_capa: u64,
    pub(crate) rss_key_len: u8,
}

impl DeviceInfo {
    /// Whether the device can spread frames over several receive queues. A virtual function may have
    /// queues and still receive all by the first.
    pub const fn spreads(&self) -> bool {
        self.rss_capa != 0
    }
}

impl Device {
    pub(crate) fn new(
        eal: Arc<EalInner>,
        id: u16,
        name: String,
        spec: PortSpec,
        before: OpenFiles,
    ) -> Self {
        let device = Self {
            eal,
            id,
            name,
            spec,
            before,
        };
        let bus_name = device.bus_name();
        let watched = device.call("watching", || {
            // SAFETY: the port exists; the name outlives the call, which copies it.
            unsafe { sys::shim_events_watch(id, as_pointer(bus_name.as_ref())) }
        });
        if let Err(error) = watched {
            tracing::debug!(%error, "events of the device are not seen");
        }
        device
    }

    /// The name by which the bus tells that the device is being taken away.
    fn bus_name(&self) -> Option<CString> {
        let PortSpec::Pci(_) = self.spec else {
            return None;
        };
        CString::new(self.name.as_str()).ok()
    }

    /// What the device has told since it was last asked.
    pub(crate) fn take_events(&self) -> PortEvents {
        // SAFETY: takes and returns integers.
        let told = unsafe { sys::shim_events_take(self.id) };
        PortEvents {
            link: told & sys::SHIM_EVENT_LINK != 0,
            reset: told & sys::SHIM_EVENT_RESET != 0,
            removed: told & sys::SHIM_EVENT_REMOVED != 0,
        }
    }

    pub(crate) fn files_before(&self) -> &OpenFiles {
        &self.before
    }

    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// DPDK's name of the device, such as `net_af_packet0` or a PCI address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was opened by.
    pub fn spec(&self) -> &PortSpec {
        &self.spec
    }

    /// What it is and can do.
    ///
    /// # Errors
    /// [`Error::Port`] when the driver does not tell.
    pub fn info(&self) -> Result<DeviceInfo, Error> {
        let mut raw = sys::shim_device_info::default();
        self.call("reading the capabilities", || {
            // SAFETY: the port exists as long as `self`; one structure out.
            unsafe { sys::shim_device_info(self.id, &raw mut raw) }
        })?;
        let driver = if raw.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: a static C string of the driver's.
            unsafe { CStr::from_ptr(raw.driver_name) }
                .to_string_lossy()
                .into_owned()
        };
        // SAFETY: the port exists as long as `self`.
        let socket = unsafe { sys::shim_device_socket(self.id) };
        // What a driver that names no limits means: an Ethernet header and the CRC around the MTU.
        let has_max = raw.max_mtu < u32::from(u16::MAX) && raw.max_mtu < raw.max_rx_pktlen;
        let max_mtu = if has_max {
            raw.max_mtu
        } else {
            raw.max_rx_pktlen.saturating_sub(18)
        };
        Ok(DeviceInfo {
            driver,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            min_mtu: raw.min_mtu,
            max_mtu: max_mtu.min(u32::from(u16::MAX)),
            capabilities: Offloads::from_dpdk(raw.rx_offload_capa, raw.tx_offload_capa),
            socket: u16::try_from(socket).ok(),
            rx_offload_capa: raw.rx_offload_capa,
            tx_offload_capa: raw.tx_offload_capa,
            rss_capa: raw.rss_capa,
            rss_key_len: raw.hash_key_size,
        })
    }

    /// Runs a control call that returns 0 or a negative error number.
    pub(crate) fn call(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> i32,
    ) -> Result<(), Error> {
        let (code, lines) = log::capture(call);
        if code < 0 {
            return Err(Error::Port {
                port: self.spec.to_string(),
                operation,
                source: os_error(code),
                log: Excerpt::of(&lines),
            });
        }
        log::replay(&lines);
        Ok(())
    }
}

fn as_pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

impl Drop for Device {
    fn drop(&mut self) {
        let bus_name = self.bus_name();
        // SAFETY: the port exists; the name outlives the call.
        unsafe { sys::shim_events_unwatch(self.id, as_pointer(bus_name.as_ref())) };
        let result = self.call("closing", || {
            // In the same step, as the number may be given out again at once.
            self.eal.disclaim(self.id);
            // SAFETY: the port exists, and nothing else refers to it: a `Device` is owned once, and
            // a port's queues own it together.
            unsafe { sys::shim_device_remove(self.id) }
        });
        if let Err(error) = result {
            tracing::warn!(%error, "a device was not closed cleanly");
        }
    }
}
