//! What is said to and learnt from a port, and the checks of the former.

use crate::device::{Device, DeviceInfo};
use crate::error::Error;
use crate::offload::{Offloads, Rss};
use crate::spec::PortSpec;

/// How a port is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues, at least 1.
    pub rx_queues: u16,
    /// Transmit queues, at least 1.
    pub tx_queues: u16,
    /// Frames a receive queue holds; rounded to what the device takes.
    pub rx_desc: u16,
    /// Frames a transmit queue holds; rounded likewise.
    pub tx_desc: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Take in frames for any MAC address.
    pub promiscuous: bool,
    /// Take in frames for any multicast group (ARP and neighbour discovery need theirs).
    pub all_multicast: bool,
    /// Offloads to switch on if the device has them.
    pub offloads: Offloads,
    /// How flows are spread over several receive queues.
    pub rss: Rss,
    /// By which key and table the device is to do so; `None` leaves it to the driver.
    pub rss_table: Option<RssTable>,
    /// Whether receive queues shall be able to [wake a thread](crate::RxQueue::wakeup) by an interrupt.
    /// A device that cannot may refuse to start.
    pub rx_interrupts: bool,
}

/// Octets of the key of a device's hash: what two IPv6 addresses and two ports need.
pub const RSS_KEY_LEN: usize = 40;

/// How the device's hash leads to a receive queue.
#[derive(Clone, PartialEq, Eq)]
pub struct RssTable {
    /// The key of the (Toeplitz) hash.
    pub key: [u8; RSS_KEY_LEN],
    /// The queue for each value of the hash's low bits: a power of two of them, repeated over the
    /// device's own table.
    pub queues: Vec<u16>,
}

impl std::fmt::Debug for RssTable {
    /// Without the key, which nobody should learn from a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RssTable")
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl Default for PortConfig {
    /// One queue each way, 1024 descriptors, MTU 1500, all multicast groups, no offloads.
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: 1500,
            promiscuous: false,
            all_multicast: true,
            offloads: Offloads::NONE,
            rss: Rss::default(),
            rss_table: None,
            rx_interrupts: false,
        }
    }
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Frames can pass.
    pub up: bool,
    /// Speed in Mbit/s, where the device knows it.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// What a device has counted since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost for want of a free descriptor.
    pub rx_missed_packets: u64,
    /// Frames received damaged.
    pub rx_error_packets: u64,
    /// Frames that could not be sent.
    pub tx_error_packets: u64,
    /// Times the mempool had no mbuf to receive into.
    pub rx_nombuf_total: u64,
}

/// Ethernet header and two tags, in bytes.
pub(super) const FRAME_AROUND_MTU: u32 = 14 + 8;

pub(super) fn check_queues(
    device: &Device,
    direction: &'static str,
    asked: u16,
    have: u16,
) -> Result<(), Error> {
    let port = device.spec().to_string();
    if asked == 0 {
        return Err(Error::BadConfig(format!(
            "the port {port} needs at least one {direction} queue"
        )));
    }
    if asked > have {
        return Err(Error::TooManyQueues {
            port,
            direction,
            have,
            asked,
        });
    }
    Ok(())
}

/// The MTU to tell the driver.
pub(super) fn check_mtu(device: &Device, info: &DeviceInfo, mtu: u16) -> Result<u32, Error> {
    let asked = u32::from(mtu);
    // This driver claims standard frames only, but takes whatever fits its ring, which was made for
    // the MTU; what the kernel interface passes is its own matter.
    if matches!(device.spec(), PortSpec::AfPacket(_)) {
        return Ok(asked.clamp(info.min_mtu, info.max_mtu.max(info.min_mtu)));
    }
    if asked < info.min_mtu || asked > info.max_mtu {
        let port = device.spec().to_string();
        return Err(Error::MtuOutOfRange {
            port,
            mtu,
            min: info.min_mtu,
            max: info.max_mtu,
        });
    }
    Ok(asked)
}
