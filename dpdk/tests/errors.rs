//! What a failing start tells the operator.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use common::{attach, eal, open, pool};
use dpdk::{
    Eal, EalConfig, Error, EthPort, Mempool, MempoolConfig, PortConfig, PortSpec, VdevOptions,
};

fn attach_error(spec: &str) -> String {
    let spec: PortSpec = spec.parse().unwrap();
    eal()
        .attach(&spec, &VdevOptions::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_missing_interface_is_named() {
    for kind in ["af_packet", "af_xdp"] {
        let error = attach_error(&format!("{kind}:tmm-none"));
        assert!(
            error.contains("no network interface \"tmm-none\""),
            "{error}"
        );
    }
}

#[test]
fn a_missing_pci_device_is_named() {
    let error = attach_error("pci:ffff:1f:1f.7");
    assert!(error.contains("no PCI device ffff:1f:1f.7"), "{error}");
    let config = EalConfig {
        pci_allow: vec!["ffff:1f:1f.7".parse().unwrap()],
        ..EalConfig::default()
    };
    assert!(matches!(Eal::init(&config), Err(Error::NoSuchPciDevice(_))));
}

#[test]
fn missing_files_are_named() {
    let error = attach_error("pcap:/nonexistent/in.pcap");
    assert!(error.contains("/nonexistent/in.pcap is missing"), "{error}");
    let error = attach_error("pcap:,/nonexistent/out.pcap");
    assert!(error.contains("/nonexistent is missing"), "{error}");
    let error = attach_error("memif:/nonexistent/m.sock");
    assert!(error.contains("/nonexistent is missing"), "{error}");
}

#[test]
fn a_failing_driver_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.pcap");
    std::fs::write(&path, "this is no capture").unwrap();
    let error = attach_error(&format!("pcap:{}", path.display()));
    assert!(
        error.contains("could not be opened") && error.contains("DPDK says:"),
        "{error}"
    );
    assert!(error.contains("broken.pcap"), "{error}");
}

#[test]
fn an_unknown_driver_is_an_error() {
    let error = attach_error("net_nonsense0");
    assert!(
        error.contains("net_nonsense0 could not be opened"),
        "{error}"
    );
}

#[test]
fn a_wrong_driver_argument_is_an_error() {
    let error = attach_error("net_null_bad,nonsense=1");
    assert!(error.contains("could not be opened"), "{error}");
}

#[test]
fn dpdk_starts_only_once() {
    eal();
    assert!(matches!(
        Eal::init(&EalConfig::default()),
        Err(Error::AlreadyInitialised)
    ));
}

#[test]
fn too_many_queues_are_refused_with_the_number_there_are() {
    let pool = pool("q");
    let folder = tempfile::tempdir().unwrap();
    let device = attach(&format!("pcap:,{}", folder.path().join("o").display()));
    let config = PortConfig {
        tx_queues: 9,
        ..PortConfig::default()
    };
    let error = EthPort::configure(device, &config, &pool).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooManyQueues {
                have: 1,
                asked: 9,
                ..
            }
        ),
        "{error}"
    );
    let config = PortConfig {
        rx_queues: 0,
        ..PortConfig::default()
    };
    let error = EthPort::configure(attach("null"), &config, &pool)
        .unwrap_err()
        .to_string();
    assert!(error.contains("at least one receive queue"), "{error}");
}

#[test]
fn a_pool_too_small_for_the_mtu_is_refused() {
    let pool = pool("small");
    let config = PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    };
    let error = EthPort::configure(attach("null"), &config, &pool)
        .unwrap_err()
        .to_string();
    assert!(error.contains("9022") && error.contains("2048"), "{error}");
    let config = PortConfig {
        mtu: 10,
        ..PortConfig::default()
    };
    let error = EthPort::configure(attach("null"), &config, &pool).unwrap_err();
    assert!(matches!(error, Error::MtuOutOfRange { .. }), "{error}");
}

#[test]
fn impossible_pools_are_refused() {
    let error = |config: &MempoolConfig| Mempool::new(eal(), config).unwrap_err().to_string();
    let fine = MempoolConfig::new("p", 1023);
    let with = |change: fn(&mut MempoolConfig)| {
        let mut config = fine.clone();
        change(&mut config);
        error(&config)
    };
    assert!(with(|c| c.name.clear()).contains("1 to 24 bytes"));
    assert!(with(|c| c.name = "n".repeat(25)).contains("1 to 24 bytes"));
    assert!(with(|c| c.name = "a\0b".into()).contains("NUL"));
    assert!(with(|c| c.count = 0).contains("at least one"));
    assert!(with(|c| c.cache = 513).contains("exceeds 512"));
    assert!(with(|c| c.count = 100).contains("two thirds"));
    assert!(with(|c| c.data_room = u16::MAX).contains("65535"));
    let error = with(|c| c.count = 1 << 20);
    assert!(error.contains("more memory"), "{error}");
    let _held = Mempool::new(eal(), &fine).unwrap();
    let error = with(|_| ());
    assert!(error.contains("the name is taken"), "{error}");
    Mempool::new(
        eal(),
        &MempoolConfig {
            name: "n".repeat(24),
            ..fine.clone()
        },
    )
    .unwrap();
}

#[test]
fn a_second_memif_server_on_a_link_is_refused() {
    let pool = pool("memif2");
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("memif:{},role=server", folder.path().join("s").display());
    let _first = open(&spec, &pool);
    let error = attach_error(&spec);
    assert!(error.contains("could not be opened"), "{error}");
}
