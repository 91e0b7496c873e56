//! Telling a stopped device how it is to work: at first, and again when it has to be restarted.

use dpdk_sys as sys;

use super::PortConfig;
use super::config::{FRAME_AROUND_MTU, check_mtu, check_queues};
use super::rss::device_key;
use crate::device::{Device, DeviceInfo};
use crate::error::Error;
use crate::mempool::Mempool;
use crate::offload::{Offloads, Rss};
use crate::spec::PortSpec;

/// What became of the wishes.
pub(super) struct SetUp {
    pub(super) offloads: Offloads,
    pub(super) multi_segs: bool,
    pub(super) rss: Rss,
    pub(super) rx_desc: u16,
    pub(super) tx_desc: u16,
}

/// Configures the device and sets its queues up.
pub(super) fn set_up(
    device: &Device,
    info: &DeviceInfo,
    config: &PortConfig,
    pool: &Mempool,
) -> Result<SetUp, Error> {
    check_queues(device, "receive", config.rx_queues, info.max_rx_queues)?;
    check_queues(device, "transmit", config.tx_queues, info.max_tx_queues)?;
    let mtu = check_mtu(device, info, config.mtu)?;

    let offloads = config.offloads & info.capabilities;
    let (mut rx_offloads, mut tx_offloads) = offloads.to_dpdk();
    let frame = u32::from(config.mtu) + FRAME_AROUND_MTU;
    let room = u32::from(pool.data_room());
    if frame > room {
        if info.rx_offload_capa & sys::SHIM_RXO_SCATTER == 0 {
            let port = device.spec().to_string();
            return Err(Error::MbufTooSmall {
                port,
                mtu: config.mtu,
                need: frame,
                have: room,
            });
        }
        rx_offloads |= sys::SHIM_RXO_SCATTER;
    }
    // Chains can come in by one port and go out by another.
    let multi_segs = info.tx_offload_capa & sys::SHIM_TXO_MULTI_SEGS != 0;
    if multi_segs {
        tx_offloads |= sys::SHIM_TXO_MULTI_SEGS;
    }
    let (rss, rss_hf) = match config.rx_queues {
        0 | 1 => (Rss::None, 0),
        _ => config.rss.on_device(info.rss_capa),
    };

    let key = device_key(config, info, rss_hf);
    let conf = sys::shim_port_conf {
        rx_queues: config.rx_queues,
        tx_queues: config.tx_queues,
        mtu,
        rx_offloads,
        tx_offloads,
        rss_hf,
        rss_key: key.as_ref().map_or(std::ptr::null(), Vec::as_ptr),
        rss_key_len: key.as_ref().map_or(0, |_| info.rss_key_len),
        rx_interrupts: u8::from(config.rx_interrupts),
        // Others tell through the kernel interface below them, or not at all.
        event_interrupts: u8::from(matches!(device.spec(), PortSpec::Pci(_))),
    };
    let id = device.id();
    device.call("configuring", || {
        // SAFETY: the port exists, is stopped, and `conf` and the key it points to outlive the
        // call.
        unsafe { sys::shim_port_configure(id, &raw const conf) }
    })?;
    let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
    device.call("choosing the queue lengths", || {
        // SAFETY: the port exists; two integers in and out.
        unsafe { sys::shim_adjust_descriptors(id, &raw mut rx_desc, &raw mut tx_desc) }
    })?;
    let socket = info.socket.map_or(-1, i32::from);
    for queue in 0..config.rx_queues {
        device.call("setting up a receive queue", || {
            // SAFETY: the port exists and has the queue; the pool is kept by the port.
            unsafe { sys::shim_rx_queue_setup(id, queue, rx_desc, socket, rx_offloads, pool.raw()) }
        })?;
    }
    for queue in 0..config.tx_queues {
        device.call("setting up a transmit queue", || {
            // SAFETY: the port exists and has the queue.
            unsafe { sys::shim_tx_queue_setup(id, queue, tx_desc, socket, tx_offloads) }
        })?;
    }
    Ok(SetUp {
        offloads,
        multi_segs,
        rss,
        rx_desc,
        tx_desc,
    })
}
