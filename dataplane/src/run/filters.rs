//! What the devices let in, kept in step with the tables: VLANs where a device filters by them (a
//! virtual function drops every other tagged frame), and the MAC address of the LAG that a port is a
//! link of, where it is another port's.

use std::collections::BTreeSet;

use dpdk::EthPort;
use net::{MacAddr, PortId, VlanId};
use tracing::{debug, info, warn};
use vlan::Vlan;

use crate::tables::PortInfo;

/// What a device can be asked to let in.
pub trait Intake {
    /// See [`EthPort::set_vlan`].
    fn set_vlan(&mut self, vlan: VlanId, on: bool) -> Result<bool, dpdk::Error>;
    /// See [`EthPort::add_mac`].
    fn add_mac(&mut self, mac: MacAddr) -> Result<(), dpdk::Error>;
    /// See [`EthPort::remove_mac`].
    fn remove_mac(&mut self, mac: MacAddr) -> Result<(), dpdk::Error>;
    /// See [`EthPort::set_promiscuous`].
    fn set_promiscuous(&mut self, on: bool) -> Result<(), dpdk::Error>;
}

impl Intake for EthPort {
    fn set_vlan(&mut self, vlan: VlanId, on: bool) -> Result<bool, dpdk::Error> {
        Self::set_vlan(self, vlan, on)
    }

    fn add_mac(&mut self, mac: MacAddr) -> Result<(), dpdk::Error> {
        Self::add_mac(self, mac)
    }

    fn remove_mac(&mut self, mac: MacAddr) -> Result<(), dpdk::Error> {
        Self::remove_mac(self, mac)
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), dpdk::Error> {
        Self::set_promiscuous(self, on)
    }
}

/// What the VLANs on a port need it to let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Tags; of a stack the outer one, which is the one devices look at.
    vlans: BTreeSet<VlanId>,
    /// Addresses other than the port's own.
    macs: BTreeSet<MacAddr>,
}

impl Wanted {
    /// What the `vlans` on `port` need.
    pub fn of<'v>(vlans: impl IntoIterator<Item = &'v Vlan>, port: &PortInfo) -> Self {
        let mut wanted = Self::default();
        for vlan in vlans.into_iter().filter(|v| v.ports.contains(&port.id)) {
            let outer = match vlan.encap.service_vid() {
                0 => vlan.encap.vid(),
                service => service,
            };
            wanted.vlans.extend(VlanId::new(outer));
            let ours = vlan.mac_of(port.id);
            if ours != port.mac {
                wanted.macs.insert(ours);
            }
        }
        wanted
    }
}

/// What one device has been told. Refusals are logged once each and asked again with every
/// configuration, since whoever owns the physical function may have changed their mind.
#[derive(Debug, Default)]
pub struct Filter {
    let_in: Wanted,
    refused: Wanted,
    /// Some address was refused, so the device takes in all.
    promiscuous: bool,
}

impl Filter {
    /// Tells the device of the differences. `always_promiscuous`: it takes in all addresses anyway.
    pub fn follow(
        &mut self,
        port: PortId,
        device: &mut impl Intake,
        wanted: &Wanted,
        always_promiscuous: bool,
    ) {
        if self.let_in == *wanted && self.refused == Wanted::default() {
            return;
        }
        self.follow_vlans(port, device, wanted);
        self.follow_macs(port, device, wanted);
        let promiscuous = !self.refused.macs.is_empty() && !always_promiscuous;
        if promiscuous != self.promiscuous {
            match device.set_promiscuous(promiscuous) {
                Ok(()) if promiscuous => info!(
                    %port,
                    "the port takes in frames for any MAC address, as it has no filter for that of \
                     its LAG"
                ),
                Ok(()) => info!(%port, "the port takes in frames for its own MAC addresses only"),
                Err(error) => warn!(
                    %port,
                    %error,
                    "the port may not take in frames for the MAC address of its LAG: trust the virtual \
                     function (`ip link set PF vf N trust on`), or set bonded: false in the VLAN, with \
                     which each port has its own address"
                ),
            }
            // A refusal is not asked again before the need ends.
            self.promiscuous = promiscuous;
        }
    }

    fn follow_vlans(&mut self, port: PortId, device: &mut impl Intake, wanted: &Wanted) {
        self.refused
            .vlans
            .retain(|vlan| wanted.vlans.contains(vlan));
        let gone: Vec<VlanId> = self
            .let_in
            .vlans
            .difference(&wanted.vlans)
            .copied()
            .collect();
        // First, as a device's table may be small.
        for vlan in gone {
            if let Err(error) = device.set_vlan(vlan, false) {
                debug!(%port, %vlan, %error, "VLAN stays let in");
            }
            self.let_in.vlans.remove(&vlan);
        }
        for vlan in wanted.vlans.difference(&self.let_in.vlans.clone()) {
            match device.set_vlan(*vlan, true) {
                Ok(filters) => {
                    if filters {
                        debug!(%port, %vlan, "VLAN let in");
                    }
                    self.let_in.vlans.insert(*vlan);
                    self.refused.vlans.remove(vlan);
                }
                Err(error) if self.refused.vlans.insert(*vlan) => warn!(
                    %port,
                    %vlan,
                    %error,
                    "the device does not let the VLAN in, so its frames may be lost: allow it at \
                     the physical function (`ip link set PF vf N trust on`, or the VLANs of the \
                     function's network)"
                ),
                Err(error) => debug!(%port, %vlan, %error, "VLAN still refused"),
            }
        }
    }

    fn follow_macs(&mut self, port: PortId, device: &mut impl Intake, wanted: &Wanted) {
        self.refused.macs.retain(|mac| wanted.macs.contains(mac));
        let gone: Vec<MacAddr> = self.let_in.macs.difference(&wanted.macs).copied().collect();
        for mac in gone {
            if let Err(error) = device.remove_mac(mac) {
                debug!(%port, %mac, %error, "MAC address stays let in");
            }
            self.let_in.macs.remove(&mac);
        }
        for mac in wanted.macs.difference(&self.let_in.macs.clone()) {
            match device.add_mac(*mac) {
                Ok(()) => {
                    debug!(%port, %mac, "MAC address let in");
                    self.let_in.macs.insert(*mac);
                    self.refused.macs.remove(mac);
                }
                Err(error) => {
                    debug!(%port, %mac, %error, "MAC address refused");
                    self.refused.macs.insert(*mac);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
