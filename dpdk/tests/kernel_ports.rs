//! Ports on kernel interfaces: `af_packet`, `af_xdp` and `tap`, in a network namespace of the test's
//! own thread, which ends with it. They are for root alone: others leave them out, and say so.

#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Burst, attach, eal, frame, mbuf, open, pool, receive, send, tagged};
use dpdk::{EthPort, Mempool, MempoolConfig, Offloads, PortConfig, VdevOptions};

/// Moves the calling thread into a new network namespace; false (and a reason) for others than root.
fn own_namespace() -> bool {
    // SAFETY: a plain system call that concerns this thread only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return true;
    }
    let reason = std::io::Error::last_os_error();
    let text = format!("no network namespace can be made ({reason})");
    // SAFETY: asks for a number.
    assert_ne!(unsafe { libc::geteuid() }, 0, "{text}");
    println!("left out: {text}");
    false
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A pair of connected interfaces `tmm-a` and `tmm-b`, quiet but for what the tests send.
fn veth(mtu: u16) {
    run(&format!(
        "ip link add tmm-a mtu {mtu} type veth peer name tmm-b mtu {mtu}"
    ));
    for end in ["tmm-a", "tmm-b"] {
        run(&format!("ip link set {end} addrgenmode none"));
        run(&format!("ip link set {end} up"));
    }
}

fn data(mbufs: &[dpdk::Mbuf]) -> Vec<Vec<u8>> {
    mbufs.iter().map(|mbuf| mbuf.data().to_vec()).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !done() {
        assert!(Instant::now() < until, "{what}: not within 5 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn packet_sockets_carry_plain_and_tagged_frames_both_ways() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let pool = pool("packet");
    let (a, mut a_rx, mut a_tx) = open("af_packet:tmm-a", &pool);
    let (b, mut b_rx, mut b_tx) = open("af_packet:tmm-b", &pool);
    assert_eq!(a.driver_name(), "net_af_packet");
    assert_ne!(a.mac().unwrap(), b.mac().unwrap());
    for seed in 0..20 {
        let frames = [
            frame(seed, 50),
            tagged(100, seed, 60),
            tagged(0xe064, seed, 200),
        ];
        send(&mut a_tx, &pool, &frames);
        let got = receive(&mut b_rx, 3);
        assert_eq!(data(&got), frames);
        send(&mut b_tx, &pool, &frames);
        assert_eq!(data(&receive(&mut a_rx, 3)), frames);
    }
    assert_eq!(a.stats().unwrap().tx_packets, 60);
    drop((a, a_rx, a_tx, b, b_rx, b_tx));
    assert_eq!(pool.in_use(), 0);
}

/// A fragment of an IPv4 datagram, of `len` octets from `at` on.
fn fragment(at: u16, len: u16, more: bool) -> Vec<u8> {
    let mut header = vec![
        0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1,
    ];
    header[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    header[6..8].copy_from_slice(&((at / 8) | (u16::from(more) << 13)).to_be_bytes());
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&folded.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend(header);
    frame.resize(frame.len() + usize::from(len), 0x5a);
    frame
}

#[test]
fn fragments_come_through_a_packet_socket_as_they_are() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let pool = pool("pieces");
    let (_a, mut a_rx, _a_tx) = open("af_packet:tmm-a", &pool);
    let (_b, _b_rx, mut b_tx) = open("af_packet:tmm-b", &pool);
    // The whole datagram would not fit a frame of the ring; of the second one a part never comes.
    let frames = [
        fragment(2960, 1000, false),
        fragment(0, 1480, true),
        fragment(1480, 1480, true),
        fragment(1472, 16, true),
    ];
    send(&mut b_tx, &pool, &frames);
    let (mut got, mut burst) = (Vec::new(), Burst::new());
    wait_until("fragments", || {
        a_rx.rx_burst(&mut burst);
        got.extend(burst.drain(..).filter(|mbuf| mbuf.data()[12..14] == [8, 0]));
        got.len() >= frames.len()
    });
    assert_eq!(data(&got), frames);
}

#[test]
fn tags_are_stripped_and_inserted_by_a_packet_socket_that_can() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let pool = pool("strip");
    let wanted = Offloads::VLAN_STRIP | Offloads::VLAN_INSERT;
    let config = PortConfig {
        offloads: wanted,
        ..PortConfig::default()
    };
    let mut a = EthPort::configure(attach("af_packet:tmm-a"), &config, &pool).unwrap();
    if a.offloads() != wanted {
        println!("skipped: {} only does {}", dpdk::version(), a.offloads());
        return;
    }
    a.start().unwrap();
    let (mut a_rx, mut a_tx) = a.split().unwrap();
    let (_b, mut b_rx, mut b_tx) = open("af_packet:tmm-b", &pool);

    send(&mut b_tx, &pool, &[tagged(0x6064, 1, 50), frame(2, 50)]);
    let got = receive(&mut a_rx[0], 2);
    assert_eq!(data(&got), [frame(1, 50), frame(2, 50)]);
    assert_eq!(got[0].rx_flags().vlan_stripped, Some(0x6064));
    assert_eq!(got[1].rx_flags().vlan_stripped, None);

    let mut burst = Burst::new();
    for mut mbuf in got {
        mbuf.clear_flags();
        mbuf.set_tx_vlan(200);
        burst.push(mbuf);
    }
    assert_eq!(a_tx[0].tx_burst(&mut burst), 2);
    assert_eq!(
        data(&receive(&mut b_rx, 2)),
        [tagged(200, 1, 50), tagged(200, 2, 50)]
    );
}

#[test]
fn jumbo_frames_pass_a_packet_socket_made_for_them() {
    if !own_namespace() {
        return;
    }
    veth(9000);
    let spec = |end: &str| {
        format!("af_packet:{end}")
            .parse::<dpdk::PortSpec>()
            .unwrap()
    };
    let pool = MempoolConfig {
        data_room: spec("tmm-a").data_room(9000),
        ..MempoolConfig::new("jumbo", 1023)
    };
    let pool = Mempool::new(eal(), &pool).unwrap();
    let options = VdevOptions {
        mtu: 9000,
        queues: 1,
        ..VdevOptions::default()
    };
    let config = PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    };
    let mut ports: Vec<_> = ["tmm-a", "tmm-b"]
        .map(|end| {
            EthPort::configure(eal().attach(&spec(end), &options).unwrap(), &config, &pool).unwrap()
        })
        .into_iter()
        .collect();
    for port in &mut ports {
        port.start().unwrap();
    }
    let (_, mut tx) = ports[0].split().unwrap();
    let (mut rx, _) = ports[1].split().unwrap();
    for tag in [&[][..], &[0x81, 0, 0, 100]] {
        let mut big = frame(0, 0);
        big.splice(12..12, tag.iter().copied());
        big.extend((0..9000_u32).map(|i| i.to_le_bytes()[0]));
        send(&mut tx[0], &pool, &[big.clone()]);
        let got = receive(&mut rx[0], 1);
        assert_eq!(got.len(), 1, "{} bytes", big.len());
        assert!(got[0].data() == big, "{} bytes arrive changed", big.len());
    }
}

#[test]
fn the_link_of_a_packet_socket_is_that_of_its_interface() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let pool = pool("link");
    let (a, _rx, _tx) = open("af_packet:tmm-a", &pool);
    wait_until("link up", || a.link().unwrap().up);
    run("ip link set tmm-b down");
    wait_until("link down", || !a.link().unwrap().up);
    run("ip link set tmm-b up");
    wait_until("link up again", || a.link().unwrap().up);
}

#[test]
fn the_mtu_of_the_interface_below_is_known() {
    if !own_namespace() {
        return;
    }
    veth(1400);
    let pool = pool("mtu");
    let (a, _rx, _tx) = open("af_packet:tmm-a", &pool);
    assert_eq!(a.netdev_mtu(), Some(1400));
    run("ip link set tmm-a mtu 3000");
    assert_eq!(a.netdev_mtu(), Some(3000));
    let (loop_, _rx, _tx) = open("ring:mtu", &pool);
    assert_eq!(loop_.netdev_mtu(), None);
}

#[test]
fn several_packet_sockets_share_an_interface() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let pool = pool("fanout");
    let options = VdevOptions {
        queues: 2,
        ..VdevOptions::default()
    };
    let device = eal()
        .attach(&"af_packet:tmm-a".parse().unwrap(), &options)
        .unwrap();
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::default()
    };
    let mut a = EthPort::configure(device, &config, &pool).unwrap();
    a.start().unwrap();
    let (mut rx, mut tx) = a.split().unwrap();
    let (_b, mut b_rx, mut b_tx) = open("af_packet:tmm-b", &pool);
    send(
        &mut b_tx,
        &pool,
        &(0..32).map(|i| frame(i, 50)).collect::<Vec<_>>(),
    );
    let mut burst = dpdk_burst();
    let until = Instant::now() + Duration::from_secs(5);
    while burst.len() < 32 && Instant::now() < until {
        for queue in &mut rx {
            queue.rx_burst(&mut burst);
        }
    }
    assert_eq!(
        burst.len(),
        32,
        "each frame comes once, by one of the queues"
    );
    for queue in &mut tx {
        send(queue, &pool, &[frame(1, 50)]);
    }
    assert_eq!(receive(&mut b_rx, 2).len(), 2);
}

fn dpdk_burst() -> arrayvec::ArrayVec<dpdk::Mbuf, 64> {
    arrayvec::ArrayVec::new()
}

#[test]
fn xdp_sockets_carry_plain_and_tagged_frames_both_ways() {
    if !own_namespace() {
        return;
    }
    veth(1500);
    let spec: dpdk::PortSpec = "af_xdp:tmm-a".parse().unwrap();
    let count = 2 * spec.held_mbufs(1, 1024, 1024) + 255;
    let pool = Mempool::new(eal(), &MempoolConfig::new("xdp", count)).unwrap();
    let (a, mut a_rx, mut a_tx) = open("af_xdp:tmm-a", &pool);
    let (b, mut b_rx, mut b_tx) = open("af_xdp:tmm-b", &pool);
    assert_eq!(a.driver_name(), "net_af_xdp");
    for seed in 0..20 {
        let frames = [frame(seed, 50), tagged(100, seed, 60)];
        send(&mut a_tx, &pool, &frames);
        assert_eq!(data(&receive(&mut b_rx, 2)), frames);
        send(&mut b_tx, &pool, &frames);
        assert_eq!(data(&receive(&mut a_rx, 2)), frames);
    }
    drop((a, a_rx, a_tx, b, b_rx, b_tx));
    // What the kernel was lent is lost, no more.
    assert!(
        pool.in_use() <= 2 * spec.held_mbufs(1, 1024, 1024),
        "{}",
        pool.in_use()
    );
}

#[test]
fn a_tap_interface_appears_answers_and_goes() {
    if !own_namespace() {
        return;
    }
    let pool = pool("tap");
    let spec = "tap:tmm-tap0";
    {
        let (port, mut rx, mut tx) = open(spec, &pool);
        assert_eq!(port.driver_name(), "net_tap");
        run("ip addr add 192.0.2.1/24 dev tmm-tap0");
        run("ip link set tmm-tap0 up");
        let error = eal()
            .attach(&spec.parse().unwrap(), &VdevOptions::default())
            .unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");

        // Who has 192.0.2.1? The kernel does.
        let mut ask = vec![0xff; 6];
        ask.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        ask.extend([
            2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1,
        ]);
        let mut answered = false;
        let mut burst = Burst::new();
        wait_until("ARP answer", || {
            let mut request: Burst = [mbuf(&pool, &ask)].into_iter().collect();
            tx.tx_burst(&mut request);
            rx.rx_burst(&mut burst);
            answered |= burst.drain(..).any(|m| {
                m.data().get(12..14) == Some(&[8, 6]) && m.data().get(20..22) == Some(&[0, 2])
            });
            answered
        });
    }
    assert_eq!(pool.in_use(), 0);
    // A program another test has just started may hold the interface a moment longer.
    let spec = spec.parse().unwrap();
    wait_until("tap interface gone", || {
        eal().attach(&spec, &VdevOptions::default()).is_ok()
    });
}

#[test]
fn checksums_are_computed_and_verified_by_a_port_that_can() {
    if !own_namespace() {
        return;
    }
    let pool = pool("checksum");
    let config = PortConfig {
        offloads: Offloads::CHECKSUMS,
        ..PortConfig::default()
    };
    let mut port = EthPort::configure(attach("tap:tmm-tap1"), &config, &pool).unwrap();
    assert!(
        port.offloads()
            .contains(Offloads::TX_UDP_CHECKSUM | Offloads::TX_IPV4_CHECKSUM)
    );
    port.start().unwrap();
    let (mut rx, mut tx) = port.split().unwrap();
    run("ip addr add 192.0.2.1/24 dev tmm-tap1");
    run("ip link set tmm-tap1 up");
    run("ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev tmm-tap1");
    let socket = std::net::UdpSocket::bind("192.0.2.1:7000").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();

    // 192.0.2.9:9 to 192.0.2.1:7000, with both checksums left out.
    let mut datagram = port.mac().unwrap().0.to_vec();
    datagram.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    datagram.extend([
        0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1,
    ]);
    datagram.extend([0, 9, 0x1b, 0x58, 0, 13, 0, 0]);
    datagram.extend(b"hello");
    let mut buffer = [0; 64];
    wait_until("datagram with computed checksums", || {
        let mut request: Burst = [mbuf(&pool, &datagram)].into_iter().collect();
        assert!(request[0].set_tx_checksum(14, 20, dpdk::TxL3::Ipv4, dpdk::TxL4::Udp));
        tx[0].tx_burst(&mut request);
        matches!(socket.recv_from(&mut buffer), Ok((5, from)) if from.to_string() == "192.0.2.9:9")
    });
    assert_eq!(&buffer[..5], b"hello");

    // The kernel's answer comes with checksums the port has looked at.
    let mut burst = Burst::new();
    wait_until("verified answer", || {
        socket.send_to(b"there", "192.0.2.9:9").unwrap();
        rx[0].rx_burst(&mut burst);
        burst.drain(..).any(|mbuf| {
            mbuf.data().get(23) == Some(&17)
                && mbuf.rx_flags().ip_checksum == dpdk::ChecksumStatus::Good
                && mbuf.rx_flags().l4_checksum == dpdk::ChecksumStatus::Good
        })
    });
    assert_eq!(tx[0].rejected_packets(), 0);
}
