//! Links on DPDK: where the generator meets devices.

use std::time::{Duration, Instant};

use dpdk::{
    Eal, EalConfig, EthPort, HEADROOM, HugePages, LogLevel, Mbuf, Mempool, MempoolConfig,
    PortConfig, PortSpec, RxQueue, TxQueue, VdevOptions, free_bulk,
};
use net::MacAddr;

use super::link::{Buffer, Burst, Link};

/// Frames a queue holds in each direction.
const DESCRIPTORS: u16 = 1024;
/// Mbufs for bursts under way and caches, beside the queues'.
const SPARE_MBUFS: u32 = 4096;
/// Memory DPDK needs beside the mempool, MiB.
const EAL_MIB: u64 = 48;

impl Buffer for Mbuf {
    #[inline]
    fn octets(&self) -> &[u8] {
        self.data()
    }

    #[inline]
    fn octets_mut(&mut self) -> &mut [u8] {
        self.data_mut()
    }

    #[inline]
    fn set_len(&mut self, len: usize) -> bool {
        // A received frame becomes an answer where it lies.
        let start = self.data_offset();
        u16::try_from(len).is_ok_and(|len| self.set_shape(start, len).is_ok())
    }
}

/// One queue pair of a port.
pub struct DpdkLink {
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
}

impl Link for DpdkLink {
    type Frame = Mbuf;

    #[inline]
    fn receive(&mut self, into: &mut Burst<Mbuf>) {
        let first = into.len();
        self.rx.rx_burst(into);
        for mbuf in &mut into[first..] {
            if mbuf.ol_flags() == 0 && mbuf.nb_segs() == 1 {
                continue;
            }
            // What does not fit into one buffer is judged by its first part, and so is faulty.
            let _ = mbuf.linearize();
            if let Some(tci) = mbuf.rx_flags().vlan_stripped {
                restore_tag(mbuf, tci);
            }
            mbuf.clear_flags();
        }
    }

    #[inline]
    fn allocate(&mut self, into: &mut Burst<Mbuf>, count: usize) {
        let mut wanted = count.min(into.remaining_capacity());
        // The pool gives all or none.
        while wanted > 0 && !self.pool.alloc_bulk(into, wanted) {
            wanted /= 2;
        }
    }

    #[inline]
    fn transmit(&mut self, frames: &mut Burst<Mbuf>) {
        self.tx.tx_burst(frames);
    }

    #[inline]
    fn release(&mut self, frames: &mut Burst<Mbuf>) {
        free_bulk(frames);
    }
}

/// Puts a tag that the device took out back into the frame.
fn restore_tag(mbuf: &mut Mbuf, tci: u16) {
    let (start, len) = (mbuf.data_offset(), mbuf.data_len());
    if start < 4 || mbuf.set_shape(start - 4, len + 4).is_err() {
        return;
    }
    let frame = mbuf.data_mut();
    if frame.len() >= 16 {
        frame.copy_within(4..16, 0);
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame[14..16].copy_from_slice(&tci.to_be_bytes());
    }
}

/// How ports are opened.
#[derive(Debug, Clone)]
pub struct PortsConfig {
    /// Port of the clients' side.
    pub client: PortSpec,
    /// Port of the servers' side, if it has its own.
    pub server: Option<PortSpec>,
    /// The largest IP packet, octets.
    pub mtu: u16,
    /// Whether packet memory comes from hugepages.
    pub hugepages: HugePages,
    /// Frames in memory; by default what the queues need.
    pub mbufs: Option<u32>,
    /// More arguments for EAL.
    pub eal_args: Vec<String>,
}

/// Ports that are open. The links must go before it.
pub struct Ports {
    devices: Vec<EthPort>,
    eal: Eal,
}

/// Starts DPDK and opens the ports, clients' side first.
///
/// Errors: what DPDK or the port refuses, and why.
pub fn open(config: &PortsConfig) -> Result<(Ports, Vec<DpdkLink>), dpdk::Error> {
    let specs: Vec<&PortSpec> = std::iter::once(&config.client)
        .chain(&config.server)
        .collect();
    let data_room = specs.iter().map(|s| s.data_room(config.mtu)).max();
    let held: u32 = specs
        .iter()
        .map(|s| s.held_mbufs(1, DESCRIPTORS, DESCRIPTORS))
        .sum();
    let count = (held + SPARE_MBUFS).next_power_of_two() - 1;
    let pool_config = MempoolConfig {
        data_room: data_room.unwrap_or(2048),
        ..MempoolConfig::new("pktgen", config.mbufs.unwrap_or(count))
    };
    // Enough with hugepages and without.
    let packets = pool_config.ordinary_bytes();
    let memory_mib = packets.div_ceil(1 << 20) + EAL_MIB;
    let eal = Eal::init(&EalConfig {
        program: "tmm-pktgen".to_owned(),
        memory_mib: u32::try_from(memory_mib).ok(),
        hugepages: config.hugepages,
        pci_allow: specs
            .iter()
            .filter_map(|spec| match spec {
                PortSpec::Pci(address) => Some(*address),
                _ => None,
            })
            .collect(),
        vdevs: Vec::new(),
        cpus: Vec::new(),
        log_level: LogLevel::Notice,
        extra_args: config.eal_args.clone(),
    })?;
    let pool = Mempool::new(&eal, &pool_config)?;
    let mut devices = Vec::new();
    let mut links = Vec::new();
    for spec in specs {
        let options = VdevOptions {
            mtu: config.mtu,
            queues: 1,
            ..VdevOptions::default()
        };
        let device = eal.attach(spec, &options)?;
        let port_config = PortConfig {
            rx_desc: DESCRIPTORS,
            tx_desc: DESCRIPTORS,
            mtu: config.mtu,
            promiscuous: true,
            ..PortConfig::default()
        };
        let mut port = EthPort::configure(device, &port_config, &pool)?;
        port.start()?;
        let (mut rx, mut tx) = port.split()?;
        let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) else {
            return Err(dpdk::Error::BadConfig(format!("{spec} has no queue")));
        };
        links.push(DpdkLink {
            rx,
            tx,
            pool: pool.clone(),
        });
        devices.push(port);
    }
    Ok((Ports { devices, eal }, links))
}

impl Ports {
    /// The station of a port (0 is the clients' side, the last one the servers'). Devices that are only
    /// made for the run have another one in each: they get one of our own making, the same every time,
    /// or the device under test would know the members by one that is gone.
    pub fn mac(&self, index: usize) -> MacAddr {
        let index = index.min(self.devices.len().saturating_sub(1));
        let last = u8::try_from(index).unwrap_or(0) + 1;
        let made_up = MacAddr([0x02, 0x74, 0x67, 0, 0, last]);
        let lasting = |port: &&EthPort| {
            let spec = port.device().spec();
            matches!(spec, PortSpec::Pci(_)) || spec.netdev().is_some()
        };
        self.devices
            .get(index)
            .filter(lasting)
            .and_then(|port| port.mac().ok())
            .filter(|mac| mac.is_station())
            .unwrap_or(made_up)
    }

    /// Whether memory comes from hugepages.
    pub fn uses_hugepages(&self) -> bool {
        self.eal.uses_hugepages()
    }

    /// Waits until all links are up, for a while. Returns whether they are.
    pub fn await_links(&self, limit: Duration, stopped: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        loop {
            // A device that does not tell is taken at its word.
            let up = |port: &EthPort| port.link().map_or(true, |link| link.up);
            if self.devices.iter().all(up) {
                return true;
            }
            if start.elapsed() >= limit || stopped() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const _: () = assert!(HEADROOM >= 4, "a tag must fit in front of a frame");
