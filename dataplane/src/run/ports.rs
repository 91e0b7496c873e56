//! The ports of `tmm run`: DPDK started, devices opened, links watched, everything given back.

mod care;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::Config;
use dpdk::{
    Eal, EalConfig, EthPort, LogLevel, Mempool, MempoolConfig, Offloads, PortConfig, PortSpec,
    RssTable, VdevOptions,
};
use net::PortId;
use serde_json::json;
use tracing::{debug, info, warn};

use super::RunError;
use super::args::{Idle, PortArg, RunArgs};
use super::deal::{self, Dealer, Kin};
use super::filters::{Filter, Wanted};
use super::groups;
use super::hints::hint;
use super::lanes::{Lanes, spreading, wanted_rss};
use super::memory_plan::{self, Plan};
use super::ward::Ward;
use crate::control::show::Row;
use crate::discover::Choice;
use crate::dpdk_port::{DpdkPort, QueueCounters};
use crate::handoff;
use crate::steer::Steering;
use crate::tables::{PortInfo, Tables};
use crate::trains;

/// Mbufs for a worker's bursts under way, frames that wait for neighbours, and caches, beside the queues'.
const SPARE_MBUFS: u32 = 2048;

/// Everything of DPDK, in the order it must go.
pub struct Ports {
    wards: Vec<Ward>,
    infos: Vec<PortInfo>,
    links: Vec<Option<bool>>,
    filters: Vec<Filter>,
    /// By port, then worker.
    queues: Vec<Vec<Arc<QueueCounters>>>,
    dealer: Dealer,
    /// VLANs of which it was said that few workers poll their ports.
    lopsided: BTreeSet<String>,
    workers: u16,
    descriptors: u16,
    /// The generation of the tables that the filters follow.
    followed: Option<u64>,
    promiscuous: bool,
    /// Idle workers wait for devices.
    interrupts: bool,
    checksums_explained: bool,
    pool: Mempool,
    eal: Eal,
}

/// The pool of packet memory for these ports.
pub fn pool_config(args: &RunArgs, specs: &[PortSpec]) -> MempoolConfig {
    let workers = args.workers;
    let mtu = args.wanted_mtu();
    let data_room = specs
        .iter()
        .map(|spec| spec.data_room(mtu))
        .max()
        .unwrap_or(2048);
    let held: u32 = specs
        .iter()
        .map(|s| s.held_mbufs(workers, args.descriptors, args.descriptors))
        .sum();
    let spare = SPARE_MBUFS * u32::from(workers)
        + u32::try_from(handoff::frames_at_most(workers)).unwrap_or(u32::MAX)
        // Fragments that wait.
        + u32::from(workers) * u32::try_from(trains::PLACES).unwrap_or(u32::MAX);
    MempoolConfig {
        data_room,
        // One less than a power of two wastes the least memory.
        ..MempoolConfig::new(
            "tmm",
            args.mbufs
                .unwrap_or_else(|| (held + spare).next_power_of_two() - 1),
        )
    }
}

/// Memory for packets on these ports, MiB.
pub fn memory_mib(args: &RunArgs, specs: &[PortSpec]) -> u64 {
    memory_plan::eal_mib(pool_config(args, specs).memory_bytes())
}

/// Memory for the rings that these ports share with the kernel, octets.
pub fn rings(args: &RunArgs, choices: &[Choice]) -> u64 {
    let options = VdevOptions {
        mtu: args.wanted_mtu(),
        queues: args.workers,
        descriptors: args.descriptors,
    };
    let ring = |choice: &Choice| choice.all().map(|spec| spec.ring_bytes(&options)).max();
    choices.iter().filter_map(ring).sum()
}

/// Starts DPDK and opens the ports; gives the queues of each worker, by worker and port. Packet memory comes
/// from the NUMA node `node` where it can. `config`: what is configured at the start already, for ports
/// of one VLAN are dealt out to workers together.
pub fn open(
    args: &RunArgs,
    choices: &[Choice],
    steering: &Steering,
    config: &Config,
    plan: &Plan,
    node: Option<u16>,
) -> Result<(Ports, Vec<Vec<DpdkPort>>), RunError> {
    let workers = steering.workers();
    let specs: Vec<PortSpec> = choices.iter().flat_map(Choice::all).cloned().collect();
    let mtu = args.wanted_mtu();
    if let Some(spec) = specs.iter().find(|spec| fixed_queues(spec) > Some(workers)) {
        return Err(RunError::Usage(format!(
            "{spec}: there is a queue for each worker at most, and --workers is {workers}"
        )));
    }
    deal::check(&args.port_workers, choices.len(), workers).map_err(RunError::Usage)?;
    let pool_config = pool_config(args, &specs);
    let eal = Eal::init(&EalConfig {
        program: "tmm".to_owned(),
        memory_mib: Some(plan.eal_mib()),
        hugepages: plan.eal_hugepages(args.hugepages),
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
        hugepages = eal.uses_hugepages(),
        mbufs = pool_config.count,
        "packet memory"
    );
    let pool = on_node(&eal, &pool_config, node)?;
    let mut opened = Ports {
        wards: Vec::new(),
        infos: Vec::new(),
        links: Vec::new(),
        filters: Vec::new(),
        queues: Vec::new(),
        dealer: Dealer::new(workers),
        lopsided: BTreeSet::new(),
        workers,
        descriptors: args.descriptors,
        followed: None,
        promiscuous: args.promiscuous,
        interrupts: args.idle == Idle::Adaptive,
        checksums_explained: false,
        pool,
        eal,
    };
    let mut queues: Vec<Vec<DpdkPort>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, choice) in choices.iter().enumerate() {
        let id = PortId(u8::try_from(index).unwrap_or(u8::MAX));
        let mut wanted = args.port_workers.iter();
        let first = wanted.find(|wanted| wanted.port == id);
        let place = |spec| (Kin::of(id, spec, config), first.map(|first| first.worker));
        let mut spec = &choice.spec;
        let mut lanes = opened.open_port(id, spec, mtu, steering, place(spec));
        if let (Err(error), Some(fallback)) = (&lanes, &choice.fallback) {
            info!(port = %id, "{spec} cannot be had, so it is {fallback}: {error}");
            spec = fallback;
            lanes = opened.open_port(id, spec, mtu, steering, place(spec));
        }
        let lanes = lanes.map_err(|source| RunError::Port {
            port: id.to_string(),
            hint: hint(spec, &source),
            source: Box::new(source),
        })?;
        for (worker, port) in queues.iter_mut().zip(lanes) {
            worker.push(port);
        }
    }
    Ok((opened, queues))
}

/// The pool, on the ports' NUMA node if that has memory. Without huge pages DPDK knows of no nodes, and the
/// kernel places what is touched first.
fn on_node(eal: &Eal, config: &MempoolConfig, node: Option<u16>) -> Result<Mempool, dpdk::Error> {
    if node.is_some() && eal.uses_hugepages() {
        let near = MempoolConfig {
            socket: node,
            ..config.clone()
        };
        match Mempool::new(eal, &near) {
            Ok(pool) => return Ok(pool),
            Err(error) => warn!(
                node,
                %error,
                "packet memory is not on the ports' NUMA node: reserve hugepages there \
                 (/sys/devices/system/node/nodeN/hugepages)"
            ),
        }
    }
    Mempool::new(eal, config)
}

/// The MTU of a port on a kernel interface: what is larger the kernel would not send.
fn mtu_within(asked: u16, interface: Option<u32>) -> u16 {
    let limit = interface.and_then(|mtu| u16::try_from(mtu).ok());
    limit.map_or(asked, |limit| limit.min(asked))
}

/// The specifications by port number; each port once, without a gap.
pub fn in_order(args: &[PortArg]) -> Result<Vec<PortSpec>, RunError> {
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
        steering: &Steering,
        (kin, first): (Kin, Option<u16>),
    ) -> Result<Vec<DpdkPort>, dpdk::Error> {
        let queues = fixed_queues(spec).unwrap_or(self.workers);
        let started = match self.start_port(spec, mtu, queues, steering) {
            // A device without interrupts may refuse to be asked for them.
            Err(error) if self.asks_interrupts(spec) => {
                debug!(port = %id, %error, "tried again without interrupts");
                self.interrupts = false;
                let started = self.start_port(spec, mtu, queues, steering);
                self.interrupts = true;
                started
            }
            started => started,
        };
        let mut port = match started {
            // Some interfaces have no more queues, and their drivers do not say so before.
            Err(error) if queues > 1 && fixed_queues(spec).is_none() => {
                warn!(
                    port = %id,
                    device = %spec,
                    workers = queues,
                    %error,
                    "the device does not start with a queue for each worker, so it is started with one, \
                     which one worker polls: give it more queues (`ethtool -L IF combined N`), or each \
                     VLAN as many such ports (virtual functions) as there are workers"
                );
                self.start_port(spec, mtu, 1, steering)?
            }
            started => started?,
        };
        let (rx, tx) = port.split()?;
        let count = |queues: usize| u16::try_from(queues).unwrap_or(u16::MAX);
        let lanes = self
            .dealer
            .deal(kin, count(rx.len()), count(tx.len()), first);
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
        let spreading = spreading(&port, self.workers);
        info!(
            port = %id,
            device = %spec,
            driver = port.driver_name(),
            mac = %info.mac,
            mtu = info.mtu,
            rx_queues = rx.len(),
            tx_queues = tx.len(),
            offloads = %offloads.join(","),
            "port open"
        );
        if self.workers > 1 {
            info!(port = %id, spreading = spreading.label(), "{}", spreading.text());
        }
        let queues: Vec<DpdkPort> = lanes
            .deal(rx, tx)
            .into_iter()
            .map(|queues| DpdkPort::with_queues(queues.rx, queues.tx, self.pool.clone()))
            .collect();
        let docks = queues.iter().map(DpdkPort::dock).collect();
        self.wards.push(Ward::new(id, port, lanes, docks));
        self.infos.push(info);
        self.links.push(None);
        self.filters.push(Filter::default());
        self.queues
            .push(queues.iter().map(DpdkPort::counters).collect());
        Ok(queues)
    }

    /// Whether the device is asked for interrupts, to wake idle workers. Kernel sockets need none.
    const fn asks_interrupts(&self, spec: &PortSpec) -> bool {
        self.interrupts && matches!(spec, PortSpec::Pci(_) | PortSpec::Tap(_))
    }

    /// A started port with as many queues as the device has, up to `queues` each way.
    fn start_port(
        &self,
        spec: &PortSpec,
        mtu: u16,
        queues: u16,
        steering: &Steering,
    ) -> Result<EthPort, dpdk::Error> {
        let device = self.eal.attach(
            spec,
            &VdevOptions {
                mtu,
                queues,
                descriptors: self.descriptors,
            },
        )?;
        let device_info = device.info()?;
        // The further queues of a card that does not spread frames stay empty: as one of few queues, it is
        // dealt out with its like.
        let useful = match spec {
            PortSpec::Pci(_) if !device_info.spreads() => 1,
            _ => device_info.max_rx_queues,
        };
        let rx_queues = queues.min(useful).max(1);
        let wanted = Offloads::VLAN_INSERT
            | Offloads::VLAN_STRIP
            | Offloads::VLAN_FILTER
            | Offloads::RX_IPV4_CHECKSUM
            | Offloads::RX_TCP_CHECKSUM
            | Offloads::RX_UDP_CHECKSUM;
        let queue_of = |worker: &u16| worker % rx_queues;
        let config = PortConfig {
            rx_queues,
            tx_queues: queues.min(device_info.max_tx_queues).max(1),
            rx_desc: self.descriptors,
            tx_desc: self.descriptors,
            mtu,
            promiscuous: self.promiscuous,
            offloads: wanted,
            rss_table: Some(RssTable {
                key: *steering.key(),
                queues: steering.spread().iter().map(queue_of).collect(),
            }),
            rx_interrupts: self.asks_interrupts(spec),
            ..PortConfig::default()
        };
        let mut port = EthPort::configure(device, &config, &self.pool)?;
        port.start()?;
        Ok(port)
    }

    /// The workers that frames leave by, by port, from `worker`.
    pub fn senders(&self, worker: u16) -> Vec<u16> {
        let sender = |ward: &Ward| ward.lanes().senders.get(usize::from(worker)).copied();
        let senders = self.wards.iter().map(sender);
        senders.map(|sender| sender.unwrap_or(worker)).collect()
    }

    /// The receive queues that a worker polls, such as `1.1:0,1.2:0`.
    pub fn queues_of(&self, worker: u16) -> String {
        let polled = self
            .infos
            .iter()
            .zip(&self.wards)
            .filter_map(|(info, ward)| {
                let queue = ward
                    .lanes()
                    .rx
                    .get(usize::from(worker))
                    .copied()
                    .flatten()?;
                Some(format!("{}:{queue}", info.id))
            });
        polled.collect::<Vec<_>>().join(",")
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
        let Some(ward) = self.wards.get(usize::from(id.0)) else {
            return row;
        };
        row.insert("device".to_owned(), json!(ward.spec().to_string()));
        row.insert("resets".to_owned(), json!(ward.restarts_total()));
        let Some(port) = ward.device() else {
            row.insert("link".to_owned(), json!(ward.trouble()));
            return row;
        };
        let offloads: Vec<&str> = port.offloads().names().collect();
        row.insert("driver".to_owned(), json!(port.driver_name()));
        row.insert("offloads".to_owned(), json!(offloads));
        let word = |up| json!(if up { "up" } else { "down" });
        let seen = self.links.get(usize::from(id.0)).copied().flatten();
        row.insert("link".to_owned(), seen.map_or(json!(null), word));
        // While another port is restarted, a device would answer after seconds, and all would wait.
        if !self.wards.iter().any(Ward::is_away) {
            if let Ok(link) = port.link() {
                row.insert("link".to_owned(), word(link.up));
                row.insert("speedMbps".to_owned(), json!(link.speed_mbps));
            }
            if let Ok(stats) = port.stats() {
                row.insert("rxMissed".to_owned(), json!(stats.rx_missed_packets));
                row.insert("rxErrors".to_owned(), json!(stats.rx_error_packets));
                row.insert("txErrors".to_owned(), json!(stats.tx_error_packets));
                row.insert("rxNoBuffer".to_owned(), json!(stats.rx_nombuf_total));
            }
        }
        row.insert(
            "queues".to_owned(),
            json!(format!(
                "{}/{}",
                port.config().rx_queues,
                port.config().tx_queues
            )),
        );
        row.insert(
            "spreading".to_owned(),
            json!(spreading(port, self.workers).label()),
        );
        if let Some(queues) = self.queues.get(usize::from(id.0)) {
            let sum = |get: fn(&QueueCounters) -> u64| queues.iter().map(|c| get(c)).sum::<u64>();
            row.insert(
                "rxSegmented".to_owned(),
                json!(sum(|c| c.rx_segmented_packets.get())),
            );
            row.insert(
                "txRejected".to_owned(),
                json!(sum(|c| c.tx_rejected_packets.get())),
            );
        }
        row
    }

    /// Has the devices let in what the VLANs of `tables` need, if these are new.
    pub fn follow(&mut self, tables: &Tables) {
        // One that is being restarted is told everything afterwards, and none can be asked meanwhile.
        if self.followed == Some(tables.generation) || self.wards.iter().any(Ward::is_away) {
            return;
        }
        self.followed = Some(tables.generation);
        let lanes: Vec<&Lanes> = self.wards.iter().map(Ward::lanes).collect();
        for (vlan, ports) in deal::lopsided(tables, &lanes, self.workers) {
            if !self.lopsided.contains(&vlan) {
                warn!(
                    %vlan,
                    "all ports of this VLAN are polled by fewer workers than could share them: start \
                     with --port-workers {ports}, or with the VLAN in --config"
                );
                self.lopsided.insert(vlan);
            }
        }
        let ports = self.wards.iter_mut().zip(&self.infos);
        for ((ward, info), filter) in ports.zip(&mut self.filters) {
            // It is told when it is back.
            let Some(device) = ward.device_mut() else {
                continue;
            };
            let wanted = Wanted::of(&tables.vlans, info);
            filter.follow(info.id, device, &wanted, self.promiscuous);
            if self.workers > 1 {
                let rss = wanted_rss(tables, info.id);
                let before = device.rss();
                match device.set_rss(rss) {
                    Ok(now) if now != before => {
                        let spreading = spreading(device, self.workers);
                        info!(port = %info.id, spreading = spreading.label(), "{}", spreading.text());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        debug!(port = %info.id, %error, "cmp_hash stays with the workers");
                    }
                }
            }
            ward.listen(&groups::of_port(tables, info.id));
        }
    }

    /// Says once why packet sockets get frames with wrong checksums, should there be `bad` of them.
    pub fn look_at_checksums(&mut self, bad: u64) {
        if bad == 0 || self.checksums_explained {
            return;
        }
        self.checksums_explained = true;
        let interfaces: Vec<&str> = self
            .wards
            .iter()
            .filter_map(|ward| match ward.spec() {
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
}

/// How many queues a port must have, where the other end says so.
const fn fixed_queues(spec: &PortSpec) -> Option<u16> {
    match spec {
        PortSpec::Memif { queues, .. } => Some(*queues),
        _ => None,
    }
}
