//! Forwards frames between two ports with their MAC addresses swapped, and tells what it cost.
//!
//! ```text
//! forward null null 2
//! forward pcap:in.pcap pcap:,out.pcap 1
//! ```
//! The third argument is how many seconds to run. Without hugepages unless `HUGE` is set.

use std::error::Error;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk::{
    Eal, EalConfig, EthPort, HugePages, Mbuf, Mempool, MempoolConfig, PortConfig, PortSpec,
    VdevOptions, free_bulk,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, seconds] = arguments.as_slice() else {
        return Err("usage: forward FROM TO SECONDS".into());
    };
    let (from, to): (PortSpec, PortSpec) = (from.parse()?, to.parse()?);
    let duration = Duration::from_secs(seconds.parse()?);

    let huge = std::env::var_os("HUGE").is_some();
    let eal = Eal::init(&EalConfig {
        program: "forward".into(),
        hugepages: if huge {
            HugePages::Required
        } else {
            HugePages::Never
        },
        memory_mib: Some(128),
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(&eal, &MempoolConfig::new("forward", 16_383))?;
    let open = |spec: &PortSpec| -> Result<EthPort, dpdk::Error> {
        let device = eal.attach(spec, &VdevOptions::default())?;
        let mut port = EthPort::configure(device, &PortConfig::default(), &pool)?;
        port.start()?;
        println!(
            "{spec}: {} {} {:?}",
            port.driver_name(),
            port.mac()?,
            port.link()?
        );
        Ok(port)
    };
    let (mut input, mut output) = (open(&from)?, open(&to)?);
    let ((mut rx, _), (_, mut tx)) = (input.split()?, output.split()?);

    let (mut packets, mut dropped, mut turns) = (0_u64, 0_u64, 0_u64);
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    let begin = Instant::now();
    while turns % 1024 != 0 || begin.elapsed() < duration {
        turns += 1;
        packets += rx[0].rx_burst(&mut burst) as u64;
        for mbuf in &mut burst {
            if let Some((addresses, _)) = mbuf.data_mut().split_first_chunk_mut::<12>() {
                addresses.rotate_left(6);
            }
        }
        tx[0].tx_burst(&mut burst);
        dropped += burst.len() as u64;
        free_bulk(&mut burst);
    }
    let nanoseconds = begin.elapsed().as_nanos() / u128::from(packets.max(1));
    println!("{packets} packets, {dropped} dropped, {nanoseconds} ns per packet, {turns} turns");
    Ok(())
}
