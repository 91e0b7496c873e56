//! Mbufs may outlive everything they came from.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use common::{Burst, frame, mbuf};
use dpdk::{Eal, EalConfig, EthPort, HugePages, Mempool, MempoolConfig, PortConfig, VdevOptions};

#[test]
fn an_mbuf_is_usable_after_its_port_its_pool_and_dpdk_were_dropped() {
    let config = EalConfig {
        hugepages: HugePages::Never,
        memory_mib: Some(64),
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    let pool = Mempool::new(&eal, &MempoolConfig::new("outlived", 1023)).unwrap();
    let device = eal
        .attach(&"null".parse().unwrap(), &VdevOptions::default())
        .unwrap();
    let mut port = EthPort::configure(device, &PortConfig::default(), &pool).unwrap();
    port.start().unwrap();
    let (mut rx, tx) = port.split().unwrap();
    let mut burst = Burst::new();
    rx[0].rx_burst(&mut burst);
    burst.push_or_replace(mbuf(&pool, &frame(5, 50)));
    drop((rx, tx, port, pool, eal));
    for mbuf in &mut burst {
        mbuf.data_mut().fill(0xaa);
        assert!(mbuf.data().iter().all(|byte| *byte == 0xaa));
    }
    drop(burst);
}

/// Adds an mbuf to a burst that may be full.
trait PushOrReplace {
    fn push_or_replace(&mut self, mbuf: dpdk::Mbuf);
}

impl PushOrReplace for Burst {
    fn push_or_replace(&mut self, mbuf: dpdk::Mbuf) {
        if self.is_full() {
            self.pop();
        }
        self.push(mbuf);
    }
}
