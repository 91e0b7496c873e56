//! The scenes whose outcome is kept in `tests/golden`.

use std::time::Duration;

use net::emit::{TcpFields, ethernet, tcp, udp};
use net::header::tcp_flags::{ACK, RST, SYN};
use net::{Encap, FlowKey, IpProto, MacAddr};

use super::scene::{CLIENT_MAC, CLIENT_SIDE, SERVER_SIDE, Scene, key, vid, virtual_server};
use dataplane::rig::port_mac;

const BROADCAST: MacAddr = MacAddr([0xff; 6]);

pub fn all() -> Vec<Scene> {
    vec![
        tcp_automap(),
        tcp_v6(),
        qinq(),
        udp_idle(),
        reachability(),
        errors(),
    ]
}

fn tagged() -> (Encap, Encap) {
    (Encap::tagged(vid(100)), Encap::tagged(vid(200)))
}

/// Two connections over IPv4, the member sees tmm's own address.
fn tcp_automap() -> Scene {
    let (client, server) = tagged();
    let mut scene = Scene::new("tcp-automap", client, server).with(virtual_server(
        "TCP",
        80,
        8080,
        "SRC_TRANS_AUTOMAP",
        60,
    ));
    for sport in [40_000, 40_001] {
        let asks = key(IpProto::TCP, ("192.0.2.7", sport), ("203.0.113.10", 80));
        let answers = key(
            IpProto::TCP,
            ("198.51.100.11", 8080),
            ("198.51.100.1", sport),
        );
        scene.connection(asks, answers);
    }
    scene
}

/// A connection over IPv6, the member sees the client.
fn tcp_v6() -> Scene {
    let (client, server) = tagged();
    let mut scene = Scene::new("tcp-v6", client, server).with(virtual_server(
        "TCP",
        80,
        8080,
        "SRC_TRANS_NONE",
        60,
    ));
    let asks = key(
        IpProto::TCP,
        ("2001:db8:100::7", 40_000),
        ("2001:db8:ffff::10", 80),
    );
    let answers = key(
        IpProto::TCP,
        ("2001:db8:200::11", 8080),
        ("2001:db8:100::7", 40_000),
    );
    scene.connection(asks, answers);
    scene
}

/// Clients behind two tags, servers behind none.
fn qinq() -> Scene {
    let mut scene = Scene::new("qinq", Encap::stacked(vid(7), vid(100)), Encap::UNTAGGED)
        .with(virtual_server("UDP", 53, 5353, "SRC_TRANS_NONE", 30))
        .with(virtual_server("TCP", 80, 8080, "SRC_TRANS_NONE", 60));
    let asks = key(IpProto::TCP, ("192.0.2.7", 40_000), ("203.0.113.10", 80));
    let answers = key(IpProto::TCP, ("198.51.100.11", 8080), ("192.0.2.7", 40_000));
    scene.connection(asks, answers);
    for (from, to, member) in [
        ("192.0.2.7", "203.0.113.10", "198.51.100.11"),
        ("2001:db8:100::7", "2001:db8:ffff::10", "2001:db8:200::11"),
    ] {
        let asks = key(IpProto::UDP, (from, 5000), (to, 53));
        let answers = key(IpProto::UDP, (member, 5353), (from, 5000));
        scene.udp(CLIENT_SIDE, &asks, b"question");
        scene.udp(SERVER_SIDE, &answers, b"answer");
    }
    scene
}

/// A flow that ends by silence: the answer that comes too late has no flow any more.
fn udp_idle() -> Scene {
    let (client, server) = tagged();
    let mut scene = Scene::new("udp-idle", client, server).with(virtual_server(
        "UDP",
        53,
        5353,
        "SRC_TRANS_AUTOMAP",
        5,
    ));
    let asks = key(IpProto::UDP, ("192.0.2.7", 5000), ("203.0.113.10", 53));
    let answers = key(
        IpProto::UDP,
        ("198.51.100.11", 5353),
        ("198.51.100.1", 5000),
    );
    scene.udp(CLIENT_SIDE, &asks, b"question");
    scene.wait(Duration::from_secs(4));
    scene.udp(SERVER_SIDE, &answers, b"in time");
    scene.wait(Duration::from_secs(7));
    scene.udp(SERVER_SIDE, &answers, b"too late");
    scene.udp(CLIENT_SIDE, &asks, b"again");
    scene
}

/// ARP, neighbour discovery and ping, for addresses that are ours and that are not.
fn reachability() -> Scene {
    let (client, server) = tagged();
    let mut scene = Scene::new("reachability", client, server).with(virtual_server(
        "TCP",
        80,
        8080,
        "SRC_TRANS_NONE",
        60,
    ));
    for target in ["192.0.2.1", "203.0.113.10", "192.0.2.99"] {
        scene.arp(1, "192.0.2.7", target, BROADCAST);
    }
    // Somebody takes the self IP: it is defended.
    scene.arp(2, "192.0.2.1", "192.0.2.1", BROADCAST);
    for target in ["2001:db8:100::1", "2001:db8:ffff::10", "2001:db8:100::99"] {
        scene.solicit("2001:db8:100::7", target);
    }
    for target in ["192.0.2.1", "203.0.113.10", "203.0.113.99"] {
        scene.ping("192.0.2.7", target);
    }
    for target in ["2001:db8:100::1", "2001:db8:ffff::10", "2001:db8:ffff::99"] {
        scene.ping("2001:db8:100::7", target);
    }
    scene
}

/// What is refused or dropped, each for its own reason.
fn errors() -> Scene {
    let (client, server) = tagged();
    let mut scene = Scene::new("errors", client, server).with(virtual_server(
        "TCP",
        80,
        8080,
        "SRC_TRANS_NONE",
        60,
    ));
    let web = key(IpProto::TCP, ("192.0.2.7", 40_000), ("203.0.113.10", 80));
    let segment = |key: &FlowKey, flags| {
        let fields = TcpFields {
            seq: 1,
            ack: if flags & ACK == 0 { 0 } else { 77 },
            flags,
            window: 1000,
        };
        tcp(key, fields, b"")
    };
    let syn = segment(&web, SYN);
    // No flow: a reset for a segment, silence for a reset.
    scene.packet(CLIENT_SIDE, &segment(&web, ACK));
    scene.packet(CLIENT_SIDE, &segment(&web, RST));
    // Nobody listens.
    let closed = key(IpProto::TCP, ("192.0.2.7", 40_000), ("203.0.113.10", 81));
    scene.packet(CLIENT_SIDE, &segment(&closed, SYN));
    let own = key(IpProto::TCP, ("192.0.2.7", 40_000), ("192.0.2.1", 22));
    scene.packet(CLIENT_SIDE, &segment(&own, SYN));
    // Another VLAN, another station, a group, no protocol of ours.
    let (mac, to) = (CLIENT_MAC, port_mac(CLIENT_SIDE));
    let elsewhere = Encap::tagged(vid(999));
    scene.raw(CLIENT_SIDE, ethernet(to, mac, elsewhere, 0x0800, &syn));
    scene.frame(CLIENT_SIDE, MacAddr([2, 0, 0, 0, 0, 0x99]), 0x0800, &syn);
    let group = key(IpProto::UDP, ("192.0.2.7", 5353), ("224.0.0.251", 5353));
    scene.frame(
        CLIENT_SIDE,
        MacAddr([1, 0, 0x5e, 0, 0, 251]),
        0x0800,
        &udp(&group, b"who?"),
    );
    scene.frame(CLIENT_SIDE, to, 0x88cc, &[0; 46]);
    // A segment to a broadcast address in a unicast frame gets no answer.
    let everybody = key(IpProto::TCP, ("192.0.2.7", 40_000), ("255.255.255.255", 80));
    scene.packet(CLIENT_SIDE, &segment(&everybody, ACK));
    // Damage: each octet that is changed here breaks one check.
    let damaged = |at: usize, to: u8| {
        let mut packet = syn.clone();
        packet[at] = to;
        packet
    };
    scene.packet(CLIENT_SIDE, &damaged(10, 0xff));
    scene.packet(CLIENT_SIDE, &damaged(36, 0xff));
    scene.packet(CLIENT_SIDE, &damaged(0, 0x44));
    scene.packet(CLIENT_SIDE, &syn[..16]);
    scene.frame(CLIENT_SIDE, to, 0x8100, &[]);
    // The last hop, a fragment, a source that can not be: with a right header checksum each.
    let adjusted = |change: fn(&mut [u8])| {
        let mut packet = syn.clone();
        change(&mut packet);
        packet[10..12].fill(0);
        let sum = net::checksum::of(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    scene.packet(CLIENT_SIDE, &adjusted(|ip| ip[8] = 1));
    scene.packet(CLIENT_SIDE, &adjusted(|ip| ip[6] = 0x20));
    scene.packet(CLIENT_SIDE, &adjusted(|ip| ip[12] = 127));
    // The server's side knows no such flow either.
    let stray = key(IpProto::TCP, ("198.51.100.11", 8080), ("192.0.2.7", 40_000));
    scene.packet(SERVER_SIDE, &segment(&stray, SYN | ACK));
    scene
}
