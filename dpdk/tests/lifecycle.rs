//! A whole life: DPDK starts, ports and pools come and go, nothing is left.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use std::time::{Duration, Instant};

use common::{Burst, frame, mbuf};
use dpdk::{
    Eal, EalConfig, Error, EthPort, HugePages, Mempool, MempoolConfig, PortConfig, VdevOptions,
};

#[test]
fn every_mbuf_is_back_before_dpdk_ends() {
    let begin = Instant::now();
    let config = EalConfig {
        program: "dpdk-test".into(),
        hugepages: HugePages::Never,
        memory_mib: Some(64),
        vdevs: vec!["net_null_early".into()],
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    let took = begin.elapsed();
    println!("{} started in {took:?}", dpdk::version());
    // Generous: machines that run tests are busy.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(!eal.uses_hugepages());

    let pool = Mempool::new(&eal, &MempoolConfig::new("life", 1023)).unwrap();
    let before = pool.available();
    assert_eq!(before, pool.capacity());

    let early = eal.take_device("net_null_early").unwrap();
    assert!(
        eal.take_device("net_null_early").is_none(),
        "a device has one owner"
    );
    let looped = eal
        .attach(&"ring:life".parse().unwrap(), &VdevOptions::default())
        .unwrap();
    let mut ports: Vec<_> = [early, looped]
        .into_iter()
        .map(|device| EthPort::configure(device, &PortConfig::default(), &pool).unwrap())
        .collect();
    let mut held = Vec::new();
    for port in &mut ports {
        port.start().unwrap();
        let (mut rx, mut tx) = port.split().unwrap();
        let mut burst: Burst = (0..8).map(|i| mbuf(&pool, &frame(i, 50))).collect();
        tx[0].tx_burst(&mut burst);
        rx[0].rx_burst(&mut burst);
        held.extend(burst);
        let mut unread: Burst = (0..8).map(|i| mbuf(&pool, &frame(i, 50))).collect();
        tx[0].tx_burst(&mut unread);
    }
    assert!(pool.in_use() > 0);
    drop(ports);
    drop(held);
    assert_eq!(pool.available(), before);
    drop((pool, eal));
    assert!(matches!(Eal::init(&config), Err(Error::AlreadyInitialised)));
}
