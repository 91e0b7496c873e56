//! Bringing a port back that its device, or the physical function behind it, has let down.

use std::sync::Arc;

use dpdk_sys as sys;
use net::MacAddr;

use super::{EthPort, set_up};
use crate::device::PortEvents;
use crate::error::Error;
use crate::spec::PortSpec;

/// Drivers that never tell of a reset of the physical function: their virtual function looks up and
/// is deaf.
const SILENT: &[&str] = &["net_e1000_igb_vf"];

/// What the physical function said to a harmless question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers.
    Yes,
    /// It refuses, as it does after it was reset, and as it does when it has a VLAN of its own for the
    /// function.
    Refused,
    /// Nothing, within about a second.
    Silent,
    /// The driver tells of resets by itself, so nothing was asked.
    NotAsked,
}

impl EthPort {
    /// Whether the device takes in all multicast besides the groups of its list. The igb function takes in
    /// either, and where it is emulated the list alone works.
    pub(super) fn takes_all_groups(&self) -> bool {
        !SILENT.contains(&self.driver_name())
    }

    /// What the device has told since it was last asked.
    pub fn take_events(&self) -> PortEvents {
        self.device().take_events()
    }

    /// Asks the physical function something harmless, where the driver would not tell that it was
    /// reset. Takes far less than a millisecond if all is well, and up to a second if not.
    pub fn probe(&self) -> Answer {
        if !SILENT.contains(&self.driver_name()) {
            return Answer::NotAsked;
        }
        let id = self.id();
        let asked = self.device().call("asking the physical function", || {
            // SAFETY: the port exists.
            unsafe { sys::shim_probe(id) }
        });
        match asked {
            Ok(()) => Answer::Yes,
            Err(Error::Port { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                Answer::Refused
            }
            Err(_) => Answer::Silent,
        }
    }

    /// Stops the port, has the driver reset the device if it can, sets everything up as it was and
    /// starts it again: queues, MTU, MAC address, promiscuity, spreading. What was set afterwards
    /// (VLANs and further addresses that are let in) is the caller's to set again. The queues are
    /// given out anew by [`split`](Self::split).
    ///
    /// After an error the port is stopped, and may be restarted later; nothing else may be asked of it
    /// until that has gone well.
    ///
    /// # Errors
    /// [`Error::PortState`] while a queue is still held; [`Error::Port`] when the device is not reset, as
    /// long as its physical function is down, or does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop()?;
        if matches!(self.device().spec(), PortSpec::Pci(_)) {
            let id = self.id();
            let reset = self.device().call("resetting", || {
                // SAFETY: the port exists, and no queue is left that could poll it.
                unsafe { sys::rte_eth_dev_reset(id) }
            });
            match reset {
                Ok(()) => {}
                // Not every driver has one.
                Err(error) if error.is_unsupported() => {
                    tracing::debug!(%error, "started again without a reset of the device");
                }
                // Of a device that was taken apart and not put together again nothing may be asked,
                // not even its address, but the same again.
                Err(error) => return Err(error),
            }
        }
        let Some(inner) = Arc::get_mut(&mut self.inner) else {
            return Err(self.state_error("cannot be restarted while its queues are in use"));
        };
        let made = set_up::set_up(&inner.device, &self.info, &self.config, &inner.pool)?;
        inner.offloads = made.offloads;
        inner.multi_segs = made.multi_segs;
        self.rss = made.rss;
        self.start()?;
        match self.first_mac {
            Some(mac) => self.keep_mac(mac),
            None => Ok(()),
        }
    }

    /// The neighbours know the port by this address: it must not get another one.
    fn keep_mac(&self, mac: MacAddr) -> Result<(), Error> {
        if self.mac()? == mac {
            return Ok(());
        }
        let id = self.id();
        self.device().call("setting its MAC address again", || {
            // SAFETY: the port exists; six bytes in.
            unsafe { sys::shim_mac_set(id, mac.0.as_ptr()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Eal, EalConfig, HugePages, Mempool, MempoolConfig, PortConfig, VdevOptions};

    #[test]
    fn a_port_keeps_its_first_address_whatever_a_restart_that_failed_has_left() {
        let eal = Eal::init(&EalConfig {
            program: "restart-test".into(),
            hugepages: HugePages::Never,
            memory_mib: Some(64),
            ..EalConfig::default()
        })
        .unwrap();
        let pool = Mempool::new(&eal, &MempoolConfig::new("restart", 1023)).unwrap();
        let device = eal.attach(&PortSpec::Null, &VdevOptions::default());
        let mut port = EthPort::configure(device.unwrap(), &PortConfig::default(), &pool).unwrap();
        port.start().unwrap();
        let first = port.mac().unwrap();
        // As drivers make one up when the physical function gives them none.
        let made_up = MacAddr([2, 9, 9, 9, 9, 9]);
        port.keep_mac(made_up).unwrap();
        assert_eq!(port.mac().unwrap(), made_up);
        port.restart().unwrap();
        assert_eq!(port.mac().unwrap(), first);
    }
}
