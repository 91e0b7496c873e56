//! Ports that need no kernel: null, ring, pcap and memif.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use std::time::{Duration, Instant};

use common::{Burst, attach, eal, frame, mbuf, open, pool, port, receive, send, tagged};
use dpdk::{
    Error, EthPort, HEADROOM, Mempool, Offloads, PortConfig, Rss, RssTable, RxFlags, RxQueue,
    TxQueue, VdevOptions, free_bulk,
};

#[test]
fn a_null_port_gives_frames_and_swallows_them() {
    let pool = pool("null");
    let (port, mut rx, mut tx) = open("null", &pool);
    assert_eq!(port.driver_name(), "net_null");
    assert!(port.link().unwrap().up);
    let mut burst = Burst::new();
    assert_eq!(rx.rx_burst(&mut burst), 32);
    assert_eq!(rx.rx_burst(&mut burst), 0, "a full burst has no room");
    assert_eq!(pool.in_use(), 32);
    assert!(
        burst
            .iter()
            .all(|mbuf| mbuf.data_len() == 64 && mbuf.nb_segs() == 1)
    );
    assert_eq!(tx.tx_burst(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 32));
    assert!(
        port.xstats()
            .unwrap()
            .contains(&("rx_good_packets".to_owned(), 32))
    );
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap().rx_packets, 0);
}

#[test]
fn what_a_full_queue_does_not_take_stays_with_the_caller_in_order() {
    let pool = pool("ring");
    let (port, mut rx, mut tx) = open("ring:loop", &pool);
    let mut sent = 0_u16;
    let mut burst = Burst::new();
    let left = loop {
        while !burst.is_full() {
            burst.push(mbuf(
                &pool,
                &[&frame(0, 50)[..], &sent.to_be_bytes()].concat(),
            ));
            sent += 1;
        }
        tx.tx_burst(&mut burst);
        if !burst.is_empty() {
            break burst;
        }
    };
    let number = |mbuf: &dpdk::Mbuf| u16::from_be_bytes(mbuf.data()[64..66].try_into().unwrap());
    let first_left = sent - u16::try_from(left.len()).unwrap();
    assert_eq!(
        left.iter().map(number).collect::<Vec<_>>(),
        (first_left..sent).collect::<Vec<_>>()
    );
    let back = receive(&mut rx, usize::from(first_left));
    assert_eq!(
        back.iter().map(number).collect::<Vec<_>>(),
        (0..first_left).collect::<Vec<_>>()
    );
    drop((left, back));
    assert_eq!(pool.in_use(), 0);
    drop((port, rx, tx));
}

#[test]
fn stopping_returns_even_what_nobody_received() {
    let pool = pool("unread");
    let (port, rx, mut tx) = open("ring:unread", &pool);
    send(&mut tx, &pool, &[frame(1, 50), frame(2, 50), frame(3, 50)]);
    assert_eq!(pool.in_use(), 3);
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
    assert_eq!(pool.available(), pool.capacity());
}

#[test]
fn a_capture_goes_from_file_to_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let frames: Vec<_> = (0..40).map(|i| tagged(100, i, 60 + i)).collect();
    let pool = pool("pcap");
    {
        let (_port, _rx, mut tx) = open(&format!("pcap:,{}", path("a")), &pool);
        for part in frames.chunks(32) {
            send(&mut tx, &pool, part);
        }
    }
    {
        let (_port, mut rx, mut tx) = open(&format!("pcap:{},{}", path("a"), path("b")), &pool);
        let mut burst = Burst::new();
        let mut forwarded = 0;
        while rx.rx_burst(&mut burst) > 0 {
            forwarded += tx.tx_burst(&mut burst);
        }
        assert_eq!(forwarded, 40);
    }
    {
        let (_port, mut rx, _tx) = open(&format!("pcap:{}", path("b")), &pool);
        let got = receive(&mut rx, 40);
        assert_eq!(
            got.iter().map(|m| m.data().to_vec()).collect::<Vec<_>>(),
            frames
        );
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_memif_pair_carries_frames_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("m.sock").display().to_string();
    let pool = pool("memif");
    let (server, mut server_rx, mut server_tx) =
        open(&format!("memif:{socket},role=server"), &pool);
    let (client, mut client_rx, mut client_tx) = open(&format!("memif:{socket}"), &pool);
    let until = Instant::now() + Duration::from_secs(10);
    while !(server.link().unwrap().up && client.link().unwrap().up) {
        assert!(Instant::now() < until, "the two ends do not connect");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The client offers the server buffers to send into when it polls.
    assert_eq!(client_rx.rx_burst(&mut Burst::new()), 0);
    for round in 0..8 {
        let there: Vec<_> = (0..32).map(|i| frame(i, 60 + round)).collect();
        send(&mut client_tx, &pool, &there);
        let got = receive(&mut server_rx, 32);
        assert_eq!(
            got.iter().map(|m| m.data().to_vec()).collect::<Vec<_>>(),
            there
        );
        send(&mut server_tx, &pool, &there[..5]);
        assert_eq!(receive(&mut client_rx, 5).len(), 5);
    }
    drop((client, client_rx, client_tx));
    drop((server, server_rx, server_tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_frame_can_be_moved_within_its_buffer_and_no_further() {
    let pool = pool("shape");
    let mut mbuf = mbuf(&pool, &frame(7, 50));
    assert_eq!((mbuf.data_offset(), mbuf.data_len()), (HEADROOM, 64));
    assert_eq!(mbuf.buffer().len(), 2048 + usize::from(HEADROOM));

    // A tag pushed into the headroom, as the packet path does it.
    let start = usize::from(HEADROOM);
    mbuf.buffer_mut().copy_within(start..start + 12, start - 4);
    mbuf.buffer_mut()[start + 8..start + 12].copy_from_slice(&[0x81, 0, 0, 42]);
    mbuf.set_shape(HEADROOM - 4, 68).unwrap();
    assert_eq!(mbuf.data(), tagged(42, 7, 50));
    assert_eq!(mbuf.packet_len(), 68);

    let whole = u16::try_from(mbuf.buffer().len()).unwrap();
    mbuf.set_shape(0, whole).unwrap();
    assert!(mbuf.set_shape(1, whole).is_err());
    assert!(mbuf.set_shape(u16::MAX, u16::MAX).is_err());
    assert_eq!(
        (mbuf.data_offset(), mbuf.data_len()),
        (0, whole),
        "a refused shape changes nothing"
    );
    assert!(mbuf.copy_from(&vec![0; 70_000]).is_err());
    assert!(mbuf.copy_from(&vec![0; 2049]).is_err());
    mbuf.copy_from(&vec![1; 2048]).unwrap();
    assert!(mbuf.linearize());
}

#[test]
fn flags_are_set_read_and_forgotten() {
    let pool = pool("flags");
    let mut mbuf = mbuf(&pool, &frame(0, 50));
    assert_eq!(mbuf.rx_flags(), RxFlags::default());
    mbuf.set_tx_vlan(0x2064);
    assert_eq!(mbuf.vlan_tci(), 0x2064);
    assert_ne!(mbuf.ol_flags(), 0);
    assert!(mbuf.set_tx_checksum(18, 20, dpdk::TxL3::Ipv4, dpdk::TxL4::Tcp));
    assert!(!mbuf.set_tx_checksum(128, 20, dpdk::TxL3::Ipv4, dpdk::TxL4::Tcp));
    assert!(!mbuf.set_tx_checksum(14, 512, dpdk::TxL3::Ipv6, dpdk::TxL4::Udp));
    mbuf.clear_flags();
    assert_eq!(mbuf.ol_flags(), 0);
}

#[test]
fn bulk_allocation_is_all_or_nothing() {
    let pool = pool("bulk");
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 20));
    assert!(!pool.alloc_bulk(&mut burst, 13), "no room for 13 more");
    assert_eq!((burst.len(), pool.in_use()), (20, 20));
    free_bulk(&mut burst);
    assert_eq!((burst.len(), pool.in_use()), (0, 0));

    let mut all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 4095);
    assert!(!pool.alloc_bulk(&mut burst, 1));
    all.truncate(4000);
    assert!(pool.alloc_bulk(&mut burst, 32));
}

#[test]
fn mbufs_freed_by_other_threads_come_back() {
    let pool = pool("threads");
    let workers: Vec<_> = (0..3)
        .map(|i| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let guard = (i > 0).then(|| eal().register_thread().unwrap());
                let id = guard.as_ref().map(dpdk::LcoreGuard::lcore_id);
                for _ in 0..200 {
                    let mut burst = Burst::new();
                    assert!(pool.alloc_bulk(&mut burst, 32));
                    let rest = burst.split_off_half();
                    std::thread::spawn(move || drop(rest)).join().unwrap();
                }
                id
            })
        })
        .collect();
    let ids: Vec<_> = workers
        .into_iter()
        .map(|worker| worker.join().unwrap())
        .collect();
    assert_eq!(ids[0], None);
    assert!(ids[1].is_some() && ids[2].is_some());
    assert_eq!(pool.in_use(), 0);
}

/// Takes the second half of a burst out, so that two threads have parts of it.
trait SplitOffHalf {
    fn split_off_half(&mut self) -> Burst;
}

impl SplitOffHalf for Burst {
    fn split_off_half(&mut self) -> Burst {
        self.drain(self.len() / 2..).collect()
    }
}

#[test]
fn several_queues_are_polled_by_several_threads() {
    let pool = pool("queues");
    let options = VdevOptions {
        queues: 2,
        ..VdevOptions::default()
    };
    let device = eal().attach(&"null".parse().unwrap(), &options).unwrap();
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::default()
    };
    let mut port = EthPort::configure(device, &config, &pool).unwrap();
    port.start().unwrap();
    let (rx, tx) = port.split().unwrap();
    assert_eq!((rx.len(), tx.len()), (2, 2));
    let workers: Vec<_> = rx
        .into_iter()
        .zip(tx)
        .map(|(mut rx, mut tx)| {
            std::thread::spawn(move || {
                let _guard = eal().register_thread().unwrap();
                let mut burst = Burst::new();
                (0..1000)
                    .map(|_| {
                        rx.rx_burst(&mut burst);
                        tx.tx_burst(&mut burst)
                    })
                    .sum::<usize>()
            })
        })
        .collect();
    assert!(
        matches!(port.stop(), Err(Error::PortState { .. }))
            || workers.iter().all(std::thread::JoinHandle::is_finished)
    );
    for worker in workers {
        assert_eq!(worker.join().unwrap(), 32_000);
    }
    port.stop().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_gives_its_queues_out_once_and_only_when_started() {
    let pool = pool("states");
    let mut port = EthPort::configure(attach("null"), &PortConfig::default(), &pool).unwrap();
    assert!(
        port.split()
            .unwrap_err()
            .to_string()
            .contains("is not started")
    );
    port.start().unwrap();
    port.start().unwrap();
    let queues = port.split().unwrap();
    assert!(
        port.split()
            .unwrap_err()
            .to_string()
            .contains("given its queues out")
    );
    assert!(
        port.stop()
            .unwrap_err()
            .to_string()
            .contains("queues are in use")
    );
    drop(queues);
    port.stop().unwrap();
    port.start().unwrap();
    let (mut rx, _tx) = port.split().unwrap();
    assert_eq!(rx.pop().unwrap().rx_burst(&mut Burst::new()), 32);
}

#[test]
fn queues_keep_their_port_alive() {
    let pool = pool("alive");
    let (port, mut rx, tx) = open("null", &pool);
    drop((port, tx));
    assert_eq!(rx.rx_burst(&mut Burst::new()), 32);
}

#[test]
fn a_name_is_free_again_when_its_port_is_gone() {
    let pool = pool("again");
    for _ in 0..3 {
        let (port, _rx, _tx) = open("ring:again", &pool);
        let error = eal()
            .attach(&"ring:again".parse().unwrap(), &VdevOptions::default())
            .unwrap_err();
        assert!(matches!(error, Error::NameInUse { .. }), "{error}");
        drop(port);
    }
}

#[test]
fn offloads_the_device_lacks_are_not_switched_on() {
    let pool = pool("offloads");
    let config = PortConfig {
        offloads: Offloads::ALL,
        ..PortConfig::default()
    };
    let port = EthPort::configure(attach("null"), &config, &pool).unwrap();
    assert_eq!(port.offloads(), port.capabilities());
    assert!(
        !port
            .offloads()
            .intersects(Offloads::VLAN_STRIP | Offloads::VLAN_FILTER)
    );
    assert!(
        !port.set_vlan(net::VlanId::new(100).unwrap(), true).unwrap(),
        "it filters nothing"
    );
    assert!(port.mac().is_ok());
}

#[test]
fn a_mempool_without_missing_mbufs_frees_its_name() {
    for _ in 0..3 {
        let (_port, mut rx, _tx) = open("null", &pool("reused"));
        assert_eq!(rx.rx_burst(&mut Burst::new()), 32);
    }
}

#[test]
fn a_port_restarts_after_its_queues_came_back() {
    let pool = pool("restart");
    let mut port = port("ring:restart", &pool);
    for _ in 0..2 {
        let (mut rx, mut tx) = port.split().unwrap();
        send(&mut tx[0], &pool, &[frame(9, 50)]);
        assert_eq!(receive(&mut rx[0], 1).len(), 1);
        drop((rx, tx));
        port.stop().unwrap();
        port.start().unwrap();
    }
}

#[test]
fn a_memif_server_starts_over_the_socket_of_one_that_died() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let pool = pool("stale");
    let spec = path.display().to_string();
    let (server, _rx, _tx) = open(&format!("memif:{spec},role=server"), &pool);
    let (client, _crx, _ctx) = open(&format!("memif:{spec}"), &pool);
    let until = Instant::now() + Duration::from_secs(10);
    while !(server.link().unwrap().up && client.link().unwrap().up) {
        assert!(Instant::now() < until, "the two ends do not connect");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `net_null` has a key and a table as a card has, though it spreads nothing.
#[test]
fn a_device_is_told_key_and_table_and_seen_to_have_them() {
    let pool = pool("rss");
    let table = RssTable {
        key: std::array::from_fn(|n| u8::try_from(n).unwrap() ^ 0x5a),
        queues: (0..128).map(|n| n % 3).collect(),
    };
    let config = PortConfig {
        rx_queues: 3,
        tx_queues: 3,
        rss_table: Some(table.clone()),
        ..PortConfig::default()
    };
    let options = VdevOptions {
        queues: 3,
        ..VdevOptions::default()
    };
    let device = eal().attach(&"null".parse().unwrap(), &options).unwrap();
    let mut port = EthPort::configure(device, &config, &pool).unwrap();
    assert!(!port.spreads_as_told(), "not before the start");
    port.start().unwrap();
    assert_eq!(port.rss(), Rss::FiveTuple);
    assert!(port.spreads_as_told());
    assert!(!format!("{table:?}").contains("90"), "the key is not shown");
    // A loop hashes nothing, and says so.
    let config = PortConfig {
        rss_table: Some(table),
        ..PortConfig::default()
    };
    let mut ring = EthPort::configure(attach("ring:rss"), &config, &pool).unwrap();
    ring.start().unwrap();
    assert!(!ring.spreads_as_told());
    assert_eq!(ring.set_rss(Rss::SourceOnly).unwrap(), Rss::None);
}

/// A memif port with so many queues each way.
fn memif(
    socket: &str,
    role: &str,
    queues: u16,
    pool: &Mempool,
) -> (EthPort, Vec<RxQueue>, Vec<TxQueue>) {
    let options = VdevOptions {
        queues,
        ..VdevOptions::default()
    };
    let spec = format!("memif:{socket},role={role}").parse().unwrap();
    let config = PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        ..PortConfig::default()
    };
    let device = eal().attach(&spec, &options).unwrap();
    let mut port = EthPort::configure(device, &config, pool).unwrap();
    port.start().unwrap();
    let (rx, tx) = port.split().unwrap();
    (port, rx, tx)
}

fn await_links(ports: [&EthPort; 2]) {
    let until = Instant::now() + Duration::from_secs(10);
    while !ports.iter().all(|port| port.link().unwrap().up) {
        assert!(Instant::now() < until, "the two ends do not connect");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_memif_pair_of_several_queues_carries_frames_on_each() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("m.sock").display().to_string();
    let pool = pool("memifs");
    let (server, mut server_rx, mut server_tx) = memif(&socket, "server", 2, &pool);
    let (client, mut client_rx, mut client_tx) = memif(&socket, "client", 2, &pool);
    await_links([&server, &client]);
    for queue in 0..2 {
        assert_eq!(client_rx[queue].rx_burst(&mut Burst::new()), 0);
        let there = vec![frame(u8::try_from(queue).unwrap(), 60); 5];
        send(&mut client_tx[queue], &pool, &there);
        assert_eq!(receive(&mut server_rx[queue], 5).len(), 5, "queue {queue}");
        send(&mut server_tx[queue], &pool, &there);
        assert_eq!(receive(&mut client_rx[queue], 5).len(), 5, "queue {queue}");
    }
}
