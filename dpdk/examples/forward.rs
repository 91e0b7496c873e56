//! Forwards frames from one port to another, or back by the same port, with their MAC addresses
//! swapped, and tells what it cost.
//!
//! ```text
//! forward null null 2
//! forward pcap:in.pcap pcap:,out.pcap 1
//! VLAN=100 forward pci:0000:01:10.0 pci:0000:01:10.0 10
//! ```
//! The third argument is how many seconds to run. Hugepages are used when `HUGE` is set, and needed
//! for a PCI device; `VLAN` lets a VLAN in on ports that filter, with tags stripped and inserted by
//! the device.

use std::error::Error;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk::{
    Eal, EalConfig, EthPort, HugePages, Mbuf, Mempool, MempoolConfig, Offloads, PortConfig,
    PortSpec, VdevOptions, free_bulk,
};
use net::VlanId;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, seconds] = arguments.as_slice() else {
        return Err("usage: forward FROM TO SECONDS".into());
    };
    let mut specs: Vec<PortSpec> = vec![from.parse()?, to.parse()?];
    if specs[0] == specs[1] && specs[0] != PortSpec::Null {
        specs.pop();
    }
    let duration = Duration::from_secs(seconds.parse()?);
    let vlan = match std::env::var("VLAN") {
        Ok(text) => Some(VlanId::new(text.parse()?).ok_or("VLAN must be 1 to 4094")?),
        Err(_) => None,
    };

    let pci = |spec: &PortSpec| {
        if let PortSpec::Pci(address) = spec {
            Some(*address)
        } else {
            None
        }
    };
    let huge = std::env::var_os("HUGE").is_some();
    let begin = Instant::now();
    let eal = Eal::init(&EalConfig {
        program: "forward".into(),
        hugepages: if huge {
            HugePages::Required
        } else {
            HugePages::Never
        },
        memory_mib: Some(128),
        pci_allow: specs.iter().filter_map(pci).collect(),
        ..EalConfig::default()
    })?;
    println!("{} started in {:?}", dpdk::version(), begin.elapsed());
    let pool = Mempool::new(&eal, &MempoolConfig::new("forward", 16_383))?;
    let mut ports = Vec::new();
    for spec in &specs {
        ports.push(open(&eal, spec, &pool, vlan)?);
    }
    let mut queues = Vec::new();
    for port in &mut ports {
        let (mut rx, mut tx) = port.split()?;
        queues.push((rx.remove(0), tx.remove(0)));
    }

    let (mut packets, mut dropped, mut turns) = (0_u64, 0_u64, 0_u64);
    let (input, output) = (0, queues.len() - 1);
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    let begin = Instant::now();
    while turns % 1024 != 0 || begin.elapsed() < duration {
        turns += 1;
        packets += queues[input].0.rx_burst(&mut burst) as u64;
        for mbuf in &mut burst {
            turn_around(mbuf);
        }
        queues[output].1.tx_burst(&mut burst);
        dropped += burst.len() as u64;
        free_bulk(&mut burst);
    }
    let nanoseconds = begin.elapsed().as_nanos() / u128::from(packets.max(1));
    println!("{packets} packets, {dropped} dropped, {nanoseconds} ns per packet, {turns} turns");
    for port in &ports {
        println!("{}: {:?}", port.device().spec(), port.stats()?);
    }
    drop((queues, ports));
    println!(
        "{} of {} mbufs missing at the end",
        pool.in_use(),
        pool.capacity()
    );
    Ok(())
}

fn open(
    eal: &Eal,
    spec: &PortSpec,
    pool: &Mempool,
    vlan: Option<VlanId>,
) -> Result<EthPort, dpdk::Error> {
    let device = eal.attach(spec, &VdevOptions::default())?;
    let tags = Offloads::VLAN_FILTER | Offloads::VLAN_STRIP | Offloads::VLAN_INSERT;
    let config = PortConfig {
        offloads: if vlan.is_some() { tags } else { Offloads::NONE },
        ..PortConfig::default()
    };
    let mut port = EthPort::configure(device, &config, pool)?;
    port.start()?;
    if let Some(vlan) = vlan {
        println!("{spec}: filters VLANs: {}", port.set_vlan(vlan, true)?);
    }
    println!(
        "{spec}: {} {} {:?}, can: {}, does: {}",
        port.driver_name(),
        port.mac()?,
        port.link()?,
        port.capabilities(),
        port.offloads()
    );
    Ok(port)
}

/// Swaps the MAC addresses and has a tag the device took out put in again.
fn turn_around(mbuf: &mut Mbuf) {
    let tag = mbuf.rx_flags().vlan_stripped;
    mbuf.clear_flags();
    if let Some(tci) = tag {
        mbuf.set_tx_vlan(tci);
    }
    if let Some((addresses, _)) = mbuf.data_mut().split_first_chunk_mut::<12>() {
        addresses.rotate_left(6);
    }
}
