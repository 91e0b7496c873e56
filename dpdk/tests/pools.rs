//! What a pool is said to take is what it takes.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

use dpdk::{Eal, EalConfig, HugePages, Mempool, MempoolConfig};

/// What DPDK has beside its pools, MiB.
const EAL_MIB: u64 = 48;

/// Starts DPDK with ordinary memory for one pool, and makes it.
fn fits(config: &MempoolConfig) {
    let mib = config.ordinary_bytes().div_ceil(1 << 20) + EAL_MIB;
    let eal = Eal::init(&EalConfig {
        memory_mib: u32::try_from(mib).ok(),
        hugepages: HugePages::Never,
        ..EalConfig::default()
    })
    .unwrap();
    Mempool::new(&eal, config).unwrap();
}

#[test]
fn many_buffers_without_hugepages_fit_into_what_they_are_said_to_take() {
    let config = MempoolConfig::new("many", 65_535);
    assert!(config.memory_bytes() + (EAL_MIB << 20) < 65_535 * 4096);
    fits(&config);
}

#[test]
fn large_buffers_without_hugepages_fit_as_well() {
    fits(&MempoolConfig {
        data_room: 9216,
        ..MempoolConfig::new("large", 16_383)
    });
}
