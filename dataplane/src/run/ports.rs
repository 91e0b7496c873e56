//! The ports of `tmm run`: DPDK started, devices opened, links watched, everything given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use dpdk::{
    Eal, EalConfig, EthPort, HugePages, LogLevel, MemifRole, Mempool, MempoolConfig, Offloads,
    PortConfig, PortSpec, VdevOptions,
};
use net::PortId;
use serde_json::json;
use tracing::{info, warn};

use super::RunError;
use super::args::{Hugepages, PortArg, RunArgs};
use super::filters::{Filter, Wanted};
use crate::control::show::Row;
use crate::dpdk_port::{DpdkPort, QueueCounters};
use crate::tables::{PortInfo, Tables};

/// Frames a queue holds in each direction.
const DESCRIPTORS: u16 = 1024;
/// Mbufs for bursts under way, frames that wait for neighbours, and caches, beside the queues'.
const SPARE_MBUFS: u32 = 2048;
/// Memory DPDK needs beside the mempool, MiB.
const EAL_MIB: u64 = 48;

/// Everything of DPDK, in the order it must go.
pub struct Ports {
    devices: Vec<EthPort>,
    infos: Vec<PortInfo>,
    links: Vec<Option<bool>>,
    filters: Vec<Filter>,
    queues: Vec<Arc<QueueCounters>>,
    /// The generation of the tables that the filters follow.
    followed: Option<u64>,
    promiscuous: bool,
    checksums_explained: bool,
    pool: Mempool,
    eal: Eal,
}

/// Starts DPDK and opens the ports; gives the queues for the one worker.
pub fn open(args: &RunArgs) -> Result<(Ports, Vec<DpdkPort>), RunError> {
    let specs = in_order(&args.ports)?;
    let mtu = args
        .port_mtu
        .unwrap_or(args.default_mtu)
        .max(args.default_mtu);
    let data_room = specs
        .iter()
        .map(|spec| spec.data_room(mtu))
        .max()
        .unwrap_or(2048);
    let held: u32 = specs
        .iter()
        .map(|s| s.held_mbufs(1, DESCRIPTORS, DESCRIPTORS))
        .sum();
    let pool_config = MempoolConfig {
        data_room,
        // One less than a power of two wastes the least memory.
        ..MempoolConfig::new(
            "tmm",
            args.mbufs
                .unwrap_or_else(|| (held + SPARE_MBUFS).next_power_of_two() - 1),
        )
    };
    let memory_mib = pool_config.memory_bytes().div_ceil(1 << 20) + EAL_MIB;
    let eal = Eal::init(&EalConfig {
        program: "tmm".to_owned(),
        memory_mib: u32::try_from(memory_mib).ok(),
        hugepages: match args.hugepages {
            Hugepages::Auto => HugePages::Auto,
            Hugepages::Never => HugePages::Never,
            Hugepages::Required => HugePages::Required,
        },
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
        extra_args: args.eal_args.clone(),
    })?;
    info!(
        memory_mib,
        hugepages = eal.uses_hugepages(),
        mbufs = pool_config.count,
        "packet memory"
    );
    let pool = Mempool::new(&eal, &pool_config)?;
    let mut opened = Ports {
        devices: Vec::new(),
        infos: Vec::new(),
        links: Vec::new(),
        filters: Vec::new(),
        queues: Vec::new(),
        followed: None,
        promiscuous: args.promiscuous,
        checksums_explained: false,
        pool,
        eal,
    };
    let mut queues = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let id = PortId(u8::try_from(index).unwrap_or(u8::MAX));
        let queue = opened
            .open_port(id, spec, mtu)
            .map_err(|source| RunError::Port {
                port: id.to_string(),
                hint: hint(spec, &source),
                source: Box::new(source),
            })?;
        queues.push(queue);
    }
    Ok((opened, queues))
}

/// What to do about an error of DPDK's own that names no cause.
fn hint(spec: &PortSpec, error: &dpdk::Error) -> &'static str {
    match (spec, error) {
        (
            PortSpec::AfXdp(_),
            dpdk::Error::Port {
                operation: "setting up a receive queue",
                ..
            },
        ) => {
            ". XDP must fit a frame into a page: set the MTU of the interface, and of both ends of \
             a veth pair, to 3000 octets or less, or use af_packet"
        }
        (
            PortSpec::Memif {
                role: MemifRole::Client,
                ..
            },
            dpdk::Error::Port {
                operation: "starting",
                ..
            },
        ) => ". A memif client needs its server: start the process with role=server first",
        (PortSpec::Raw(_), dpdk::Error::Attach { .. }) => {
            ". DPDK takes this for a virtual device: is the driver's name right, are its arguments, \
             and is its plugin (librte_net_….so) installed?"
        }
        _ => "",
    }
}

/// The MTU of a port on a kernel interface: what is larger the kernel would not send.
fn mtu_within(asked: u16, interface: Option<u32>) -> u16 {
    let limit = interface.and_then(|mtu| u16::try_from(mtu).ok());
    limit.map_or(asked, |limit| limit.min(asked))
}

/// What to do about an error at the start that is no port's and names no cause.
pub fn start_hint(error: &dpdk::Error) -> &'static str {
    match error {
        dpdk::Error::EalInit { .. } => {
            "; an --eal-arg may be wrong, `--hugepages never` starts without hugepages, and `--log \
             debug` shows all that DPDK says"
        }
        dpdk::Error::NoHugepages { .. } => " (`--hugepages auto` or `never`)",
        dpdk::Error::Mempool { .. } => {
            "; --mbufs asks for fewer, a smaller --port-mtu for smaller ones"
        }
        dpdk::Error::Pin { .. } => "; --cpus (PAL_CPU_SET) says which CPUs the workers take",
        _ => "",
    }
}

/// The specifications by port number; each port once, without a gap.
fn in_order(args: &[PortArg]) -> Result<Vec<PortSpec>, RunError> {
    let mut by_id: BTreeMap<PortId, PortSpec> = BTreeMap::new();
    for arg in args {
        if by_id.insert(arg.id, arg.spec.clone()).is_some() {
            let message = format!(
                "port {} is given twice: give each port a number of its own",
                arg.id
            );
            return Err(RunError::Usage(message));
        }
    }
    for (id, spec) in &by_id {
        let same = by_id
            .iter()
            .find(|(other, twin)| *other < id && *twin == spec);
        if let Some((other, _)) = same.filter(|_| *spec != PortSpec::Null) {
            return Err(RunError::Usage(format!(
                "ports {other} and {id} are both {spec}: every frame would come in twice"
            )));
        }
    }
    for (index, id) in by_id.keys().enumerate() {
        if usize::from(id.0) != index {
            let missing = PortId(u8::try_from(index).unwrap_or(u8::MAX));
            return Err(RunError::Usage(format!(
                "port {id} is given, but not port {missing}: they are numbered 1.1, 1.2, … without gaps"
            )));
        }
    }
    Ok(by_id.into_values().collect())
}

impl Ports {
    fn open_port(
        &mut self,
        id: PortId,
        spec: &PortSpec,
        mtu: u16,
    ) -> Result<DpdkPort, dpdk::Error> {
        let device = self.eal.attach(spec, &VdevOptions { mtu, queues: 1 })?;
        let wanted = Offloads::VLAN_INSERT
            | Offloads::VLAN_STRIP
            | Offloads::VLAN_FILTER
            | Offloads::RX_IPV4_CHECKSUM
            | Offloads::RX_TCP_CHECKSUM
            | Offloads::RX_UDP_CHECKSUM;
        let config = PortConfig {
            rx_desc: DESCRIPTORS,
            tx_desc: DESCRIPTORS,
            mtu,
            promiscuous: self.promiscuous,
            offloads: wanted,
            ..PortConfig::default()
        };
        let mut port = EthPort::configure(device, &config, &self.pool)?;
        port.start()?;
        let (mut rx, mut tx) = port.split()?;
        let (rx, tx) = (rx.pop(), tx.pop());
        let info = PortInfo {
            id,
            mac: port.mac()?,
            mtu: mtu_within(mtu, port.netdev_mtu()),
            inserts_tag: port.offloads().contains(Offloads::VLAN_INSERT),
        };
        if info.mtu < mtu {
            let interface = spec.netdev().unwrap_or_default();
            warn!(
                port = %id,
                interface,
                mtu = info.mtu,
                "the interface's MTU limits that of the VLANs on this port: \
                 `ip link set {interface} mtu {mtu}` and start again"
            );
        }
        let offloads: Vec<&str> = port.offloads().names().collect();
        info!(
            port = %id,
            device = %spec,
            driver = port.driver_name(),
            mac = %info.mac,
            mtu = info.mtu,
            offloads = %offloads.join(","),
            "port open"
        );
        let queue = match (rx, tx) {
            (Some(rx), Some(tx)) => DpdkPort::new(rx, tx, self.pool.clone()),
            _ => {
                return Err(dpdk::Error::BadConfig(format!(
                    "the port {spec} has no queue"
                )));
            }
        };
        self.devices.push(port);
        self.infos.push(info);
        self.links.push(None);
        self.filters.push(Filter::default());
        self.queues.push(queue.counters());
        Ok(queue)
    }

    /// DPDK.
    pub fn eal(&self) -> Eal {
        self.eal.clone()
    }

    /// What the tables must know of the ports.
    pub fn infos(&self) -> Vec<PortInfo> {
        self.infos.clone()
    }

    /// What a device says of itself, for `tmmctl show ports`.
    pub fn facts(&self, id: PortId) -> Row {
        let mut row = Row::new();
        let Some(port) = self.devices.get(usize::from(id.0)) else {
            return row;
        };
        let offloads: Vec<&str> = port.offloads().names().collect();
        row.insert("device".to_owned(), json!(port.device().spec().to_string()));
        row.insert("driver".to_owned(), json!(port.driver_name()));
        row.insert("offloads".to_owned(), json!(offloads));
        if let Ok(link) = port.link() {
            row.insert(
                "link".to_owned(),
                json!(if link.up { "up" } else { "down" }),
            );
            row.insert("speedMbps".to_owned(), json!(link.speed_mbps));
        }
        if let Ok(stats) = port.stats() {
            row.insert("rxMissed".to_owned(), json!(stats.rx_missed_packets));
            row.insert("rxErrors".to_owned(), json!(stats.rx_error_packets));
            row.insert("txErrors".to_owned(), json!(stats.tx_error_packets));
            row.insert("rxNoBuffer".to_owned(), json!(stats.rx_nombuf_total));
        }
        if let Some(queue) = self.queues.get(usize::from(id.0)) {
            row.insert(
                "rxSegmented".to_owned(),
                json!(queue.rx_segmented_packets.get()),
            );
            row.insert(
                "txRejected".to_owned(),
                json!(queue.tx_rejected_packets.get()),
            );
        }
        row
    }

    /// Has the devices let in what the VLANs of `tables` need, if these are new.
    pub fn follow(&mut self, tables: &Tables) {
        if self.followed == Some(tables.generation) {
            return;
        }
        self.followed = Some(tables.generation);
        let ports = self.devices.iter_mut().zip(&self.infos);
        for ((device, info), filter) in ports.zip(&mut self.filters) {
            let wanted = Wanted::of(&tables.vlans, info);
            filter.follow(info.id, device, &wanted, self.promiscuous);
        }
    }

    /// Says once why packet sockets get frames with wrong checksums, should there be `bad` of them.
    pub fn look_at_checksums(&mut self, bad: u64) {
        if bad == 0 || self.checksums_explained {
            return;
        }
        self.checksums_explained = true;
        let interfaces: Vec<&str> = self
            .devices
            .iter()
            .filter_map(|device| match device.device().spec() {
                PortSpec::AfPacket(interface) => Some(interface.as_str()),
                _ => None,
            })
            .collect();
        if !interfaces.is_empty() {
            warn!(
                frames = bad,
                interfaces = %interfaces.join(","),
                "frames with wrong TCP, UDP or ICMP checksums are dropped. A sender on this machine \
                 leaves them to the device, which a packet socket is not: switch that off at the \
                 other end of the veth pair, `ethtool -K PEER tx off tso off gso off`"
            );
        }
    }

    /// The links that have gone up or down since it was last asked.
    pub fn changed_links(&mut self) -> Vec<(PortId, bool)> {
        let mut changed = Vec::new();
        let seen = self.infos.iter().zip(&mut self.links);
        for (port, (info, seen)) in self.devices.iter().zip(seen) {
            let Ok(link) = port.link() else { continue };
            if *seen != Some(link.up) {
                if link.up {
                    info!(port = %info.id, speed_mbps = link.speed_mbps, "link up");
                } else {
                    warn!(port = %info.id, "link down");
                }
                *seen = Some(link.up);
                changed.push((info.id, link.up));
            }
        }
        changed
    }

    /// Stops and closes the ports, and says if a buffer is missing.
    pub fn close(self) {
        let Self {
            devices, pool, eal, ..
        } = self;
        let lost: u32 = devices.iter().map(lost_mbufs).sum();
        for mut port in devices {
            if let Err(error) = port.stop() {
                warn!(%error, "port not stopped");
            }
        }
        let missing = pool.in_use();
        if missing == 0 {
            info!("every buffer is back in its pool");
        } else if missing <= lost {
            info!(
                lent = missing,
                "every buffer is back in its pool but those lent to the kernel, which the driver \
                 net_af_xdp does not take back"
            );
        } else {
            warn!(missing, "buffers are missing from the pool");
        }
        drop(pool);
        drop(eal);
    }
}

/// Buffers a port may keep when it closes, which is a shortcoming of one driver.
fn lost_mbufs(port: &EthPort) -> u32 {
    let spec = port.device().spec();
    match spec {
        // The fill ring is lent out whole before the first frame, and as much again on the way.
        PortSpec::AfXdp(_) => 2 * spec.held_mbufs(1, DESCRIPTORS, DESCRIPTORS),
        _ => 0,
    }
}
