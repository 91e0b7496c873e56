//! What the tests of real DPDK ports share.
#![allow(dead_code)] // each test file uses its part

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk::{
    Device, Eal, EalConfig, EthPort, HugePages, Mbuf, Mempool, MempoolConfig, PortConfig, RxQueue,
    TxQueue, VdevOptions,
};

pub type Burst = ArrayVec<Mbuf, 32>;

/// DPDK, without hugepages, once for all tests of the process.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig {
            program: "dpdk-test".into(),
            hugepages: HugePages::Never,
            memory_mib: Some(256),
            ..EalConfig::default()
        };
        Eal::init(&config).unwrap()
    })
}

pub fn pool(name: &str) -> Mempool {
    Mempool::new(eal(), &MempoolConfig::new(name, 4095)).unwrap()
}

pub fn attach(spec: &str) -> Device {
    eal()
        .attach(&spec.parse().unwrap(), &VdevOptions::default())
        .unwrap()
}

pub fn port(spec: &str, pool: &Mempool) -> EthPort {
    let mut port = EthPort::configure(attach(spec), &PortConfig::default(), pool).unwrap();
    port.start().unwrap();
    port
}

/// A started port with one queue each way.
pub fn open(spec: &str, pool: &Mempool) -> (EthPort, RxQueue, TxQueue) {
    let mut port = port(spec, pool);
    let (mut rx, mut tx) = port.split().unwrap();
    (port, rx.pop().unwrap(), tx.pop().unwrap())
}

/// A broadcast frame of an experimental protocol with `len` bytes of payload, counted up from `seed`.
pub fn frame(seed: u8, len: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend((0..len).map(|i| seed.wrapping_add(i)));
    frame
}

/// The same with an 802.1Q tag.
pub fn tagged(tci: u16, seed: u8, len: u8) -> Vec<u8> {
    let mut frame = frame(seed, len);
    let [high, low] = tci.to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

pub fn mbuf(pool: &Mempool, frame: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.copy_from(frame).unwrap();
    mbuf
}

pub fn send(tx: &mut TxQueue, pool: &Mempool, frames: &[Vec<u8>]) {
    let mut burst: Burst = frames.iter().map(|frame| mbuf(pool, frame)).collect();
    let until = Instant::now() + Duration::from_secs(5);
    while !burst.is_empty() {
        tx.tx_burst(&mut burst);
        assert!(
            Instant::now() < until,
            "{} frames are not taken",
            burst.len()
        );
    }
}

/// Receives until `enough` frames of the experimental protocol (tagged or not) are there, for 5 s at
/// most. Kernel interfaces also deliver what the kernel says of its own accord.
pub fn receive(rx: &mut RxQueue, enough: usize) -> Vec<Mbuf> {
    let mut frames = Vec::new();
    let mut burst = Burst::new();
    let until = Instant::now() + Duration::from_secs(5);
    while frames.len() < enough && Instant::now() < until {
        rx.rx_burst(&mut burst);
        frames.extend(burst.drain(..).filter(|mbuf| {
            let data = mbuf.data();
            let kind = if data.get(12..14) == Some(&[0x81, 0]) {
                data.get(16..18)
            } else {
                data.get(12..14)
            };
            kind == Some(&[0x88, 0xb5])
        }));
    }
    frames
}
