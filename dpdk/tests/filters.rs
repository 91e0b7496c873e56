//! What a port takes in besides frames to its own address: further MAC addresses and VLANs.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use common::{attach, pool, port};
use dpdk::{Error, EthPort, Offloads, PortConfig};
use net::{MacAddr, VlanId};

const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

#[test]
fn a_device_without_address_filter_says_so() {
    let pool = pool("mac-refused");
    let port = port("null", &pool);
    let error = port.add_mac(OTHER).unwrap_err();
    let Error::Port { operation, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*operation, "adding a MAC address");
}

#[test]
fn a_device_without_vlan_filter_lets_every_vlan_in() {
    let pool = pool("vlans");
    let device = attach("ring:vlan");
    let config = PortConfig {
        offloads: Offloads::VLAN_FILTER,
        ..PortConfig::default()
    };
    let port = EthPort::configure(device, &config, &pool).unwrap();
    assert!(!port.set_vlan(VlanId::new(100).unwrap(), true).unwrap());
}

#[test]
fn an_address_is_taken_once_and_one_too_many_is_refused() {
    let pool = pool("macs");
    let port = port("ring:macs", &pool);
    // A loop has room for one address and none of its own.
    let only = MacAddr([2, 0, 0, 0, 0, 1]);
    port.add_mac(only).unwrap();
    port.add_mac(only).unwrap();
    assert_eq!(port.mac().unwrap(), only);
    let error = port.add_mac(OTHER).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    port.remove_mac(OTHER).unwrap();
    let error = port.remove_mac(only).unwrap_err();
    assert!(error.to_string().contains("default MAC"), "{error}");
}
