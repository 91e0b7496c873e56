use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::watch::Hub;
use dpdk::{Eal, EalConfig, HugePages, Mempool, MempoolConfig, PortConfig, VdevOptions};
use lb::snat::PortStripe;
use net::Timestamp;
use vlan::resolver::ResolverConfig;

use super::*;
use crate::control::{Control, ControlConfig};
use crate::dpdk_port::DpdkPort;
use crate::pipeline::PipelineConfig;
use crate::tables::PortInfo;
use crate::worker::Worker;

const WORKERS: u16 = 2;

/// A device with a queue for each worker that always has frames to give.
fn device(eal: &Eal, pool: &Mempool) -> EthPort {
    let options = VdevOptions {
        queues: WORKERS,
        ..VdevOptions::default()
    };
    let device = eal.attach(&PortSpec::Null, &options).unwrap();
    let config = PortConfig {
        rx_queues: WORKERS,
        tx_queues: WORKERS,
        ..PortConfig::default()
    };
    let mut port = EthPort::configure(device, &config, pool).unwrap();
    port.start().unwrap();
    port
}

#[test]
fn a_port_under_traffic_is_let_go_restarted_and_taken_up_with_every_buffer_in_its_place() {
    let eal = Eal::init(&EalConfig {
        program: "ward-test".into(),
        hugepages: HugePages::Never,
        memory_mib: Some(128),
        ..EalConfig::default()
    })
    .unwrap();
    let pool = Mempool::new(&eal, &MempoolConfig::new("ward", 4095)).unwrap();
    let mut port = device(&eal, &pool);
    let (rx, tx) = port.split().unwrap();
    let id = PortId(0);
    let lanes = Lanes::new(&(0..WORKERS).collect::<Vec<_>>(), WORKERS, WORKERS);
    let queues: Vec<DpdkPort> = lanes
        .deal(rx, tx)
        .into_iter()
        .map(|queues| DpdkPort::with_queues(queues.rx, queues.tx, pool.clone()))
        .collect();
    let docks = queues.iter().map(DpdkPort::dock).collect();
    let control = Control::new(
        &ControlConfig {
            replica: 0,
            ports: vec![PortInfo {
                id,
                mac: port.mac().unwrap(),
                mtu: 1500,
                inserts_tag: false,
            }],
            default_mtu: 1500,
            workers: WORKERS,
            flows: 2048,
            resolver: ResolverConfig::default(),
            batch: Duration::ZERO,
        },
        Hub::default(),
    );
    let shared = control.workers();
    let mut ward = Ward::new(id, port, lanes, docks);
    let stop = AtomicBool::new(false);
    let received = |shared: &[Shared]| -> Vec<u64> {
        let cells = shared.iter().map(|w| &w.counters.ports[0].rx.packets);
        cells.map(crate::counters::Counter::get).collect()
    };
    std::thread::scope(|scope| {
        for (number, (queues, shared)) in (0..).zip(queues.into_iter().zip(shared)) {
            let (eal, stop) = (&eal, &stop);
            scope.spawn(move || {
                let _lcore = eal.register_thread().unwrap();
                let pipeline = PipelineConfig {
                    worker: number,
                    stripe: PortStripe::whole(),
                    flow_capacity: 1024,
                    seed: 1,
                    hugetlb: false,
                    straight_way: true,
                    icmp_errors_per_second: crate::pipeline::ICMP_ERRORS_PER_SECOND,
                };
                let mut worker = Worker::new(&pipeline, vec![queues], shared.clone());
                while !stop.load(Ordering::Relaxed) {
                    worker.turn(Timestamp::ZERO);
                }
            });
        }
        let until = Instant::now() + Duration::from_mins(1);
        for round in 1..=5 {
            let before = received(shared);
            while received(shared)
                .iter()
                .zip(&before)
                .any(|(now, then)| now <= then)
            {
                assert!(Instant::now() < until, "no frames in round {round}");
            }
            assert!(ward.fall_ill(Symptom::Reset, Instant::now()).down);
            assert_eq!(ward.trouble(), Some("restarting"));
            assert!(ward.device().is_none() && ward.device_mut().is_none());
            let mut change = Change::default();
            while !change.fresh {
                assert!(Instant::now() < until, "round {round} does not end");
                change = ward.tend(shared, Instant::now());
            }
            assert!(ward.is_well() && ward.device().is_some());
            assert_eq!(ward.restarts_total(), round);
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(ward.into_device());
    assert_eq!(pool.in_use(), 0);
}
