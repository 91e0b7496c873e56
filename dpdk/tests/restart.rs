//! A port is stopped, set up anew and started again, as after a reset of the device behind it.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use common::{Burst, eal, frame, mbuf, pool, port, receive, send};
use dpdk::{Answer, Error, EthPort, PortConfig, PortEvents};

#[test]
fn a_port_cannot_be_restarted_under_its_queues_and_works_afterwards() {
    let pool = pool("restart");
    let mut port = port("ring:restart", &pool);
    for round in 0..3 {
        let (mut rx, mut tx) = port.split().unwrap();
        send(&mut tx[0], &pool, &[frame(round, 40), frame(round, 41)]);
        assert_eq!(receive(&mut rx[0], 2).len(), 2);
        // Left in the device, which must give it back.
        let mut unread: Burst = (0..8).map(|i| mbuf(&pool, &frame(i, 50))).collect();
        tx[0].tx_burst(&mut unread);
        let error = port.restart().unwrap_err();
        assert!(matches!(error, Error::PortState { .. }), "{error}");
        drop(rx);
        port.restart().unwrap_err();
        drop(tx);
        port.restart().unwrap();
        assert_eq!(pool.in_use(), 0, "round {round}");
    }
    let (mac, mtu) = (port.mac().unwrap(), port.config().mtu);
    port.restart().unwrap();
    assert_eq!((port.mac().unwrap(), port.config().mtu), (mac, mtu));
}

#[test]
fn a_device_that_tells_nothing_and_needs_no_question_is_left_alone() {
    let pool = pool("quiet");
    let device = eal()
        .attach(&"null".parse().unwrap(), &dpdk::VdevOptions::default())
        .unwrap();
    let mut port = EthPort::configure(device, &PortConfig::default(), &pool).unwrap();
    port.start().unwrap();
    assert_eq!(port.take_events(), PortEvents::default());
    assert_eq!(port.probe(), Answer::NotAsked);
}
