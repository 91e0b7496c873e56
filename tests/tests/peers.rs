//! Whole transfers between two real TCP stacks, through a virtual server, over good and bad wires.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::format_push_string,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod peers_support;

use std::net::SocketAddr;
use std::time::Duration;

use peers_support::{Host, Quality, START, World};
use serde_json::Value;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use tests::scenario::object;

const BAD: Quality = Quality {
    lost: 20,
    repeated: 30,
    late: 100,
    longest: Duration::from_millis(20),
};

fn objects(snat: &str) -> Vec<Value> {
    let web = format!(
        "F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
         ipv6destinationAddress=2001:db8:f::10 destinationPort=80 snat={snat}"
    );
    [
        "F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 \
         selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
        "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"198.51.100.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64",
        "Service web 80/TCP",
        "EndpointSlice web TCP 198.51.100.11:8080",
        "EndpointSlice web TCP [2001:db8:2::11]:8080",
        &web,
    ]
    .iter()
    .map(|line| object(line).unwrap())
    .collect()
}

/// Octet `at` of what one side says; the two sides say different things.
fn octet(side: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ (side * 0x55)) as u8
}

/// One end of a connection: says `total` octets, hears as many, and closes.
struct End {
    host: usize,
    handle: SocketHandle,
    total: usize,
    said: usize,
    heard: usize,
    opened: bool,
}

impl End {
    fn new(host: usize, handle: SocketHandle, total: usize) -> Self {
        Self {
            host,
            handle,
            total,
            said: 0,
            heard: 0,
            opened: false,
        }
    }

    fn go_on(&mut self, world: &mut World) {
        let (side, total) = (self.host, self.total);
        let socket = world.hosts[self.host].at(self.handle);
        self.opened |= socket.may_send();
        while socket.can_send() && self.said < total {
            let from = self.said;
            self.said += socket
                .send(|room| {
                    let len = room.len().min(total - from);
                    for (at, place) in room[..len].iter_mut().enumerate() {
                        *place = octet(side, from + at);
                    }
                    (len, len)
                })
                .unwrap();
        }
        while socket.can_recv() {
            let from = self.heard;
            self.heard += socket
                .recv(|data| {
                    for (at, heard) in data.iter().enumerate() {
                        assert_eq!(*heard, octet(1 - side, from + at), "octet {}", from + at);
                    }
                    (data.len(), data.len())
                })
                .unwrap();
        }
    }

    fn is_done(&self, world: &mut World) -> bool {
        let queued = world.hosts[self.host].at(self.handle).send_queue();
        self.opened && self.said == self.total && self.heard == self.total && queued == 0
    }

    /// The client closes first, the server when it hears of it.
    fn close(&self, world: &mut World) {
        let socket = world.hosts[self.host].at(self.handle);
        if socket.may_send() && (self.host == 0 || !socket.may_recv()) {
            socket.close();
        }
    }

    fn is_over(&self, world: &mut World) -> bool {
        let state = world.hosts[self.host].at(self.handle).state();
        self.heard == self.total && matches!(state, State::Closed | State::TimeWait)
    }
}

/// Opens `connections` connections, transfers `total` octets each way on each, closes, and looks
/// whether anything is left. `meddle` may interfere at every step.
fn transfer(
    to: &str,
    snat: &str,
    quality: Quality,
    connections: u16,
    total: usize,
    seed: u64,
    meddle: impl Fn(&mut World, u32),
) -> World {
    let client = Host::new(0, 100, 1, [192, 0, 2, 7], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 7]);
    let server = Host::new(
        1,
        200,
        2,
        [198, 51, 100, 11],
        [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x11],
    );
    let mut world = World::new(&objects(snat), vec![client, server], quality, seed);
    let to: SocketAddr = to.parse().unwrap();
    let mut ends = Vec::new();
    for number in 0..connections {
        let handle = world.hosts[1].listen(8080);
        ends.push(End::new(1, handle, total));
        let handle = world.hosts[0].connect(to, 40_000 + number);
        ends.push(End::new(0, handle, total));
    }
    let limit = START + Duration::from_mins(10);
    let (mut closing, mut steps) = (false, 0);
    while !ends.iter().all(|end| end.is_over(&mut world)) {
        world.step();
        steps += 1;
        meddle(&mut world, steps);
        for end in &mut ends {
            end.go_on(&mut world);
            if closing {
                end.close(&mut world);
            }
        }
        // The stacks used here do not send a FIN again that was lost behind a fast retransmission, so
        // nothing is lost while they close.
        if !closing && ends.iter().all(|end| end.is_done(&mut world)) {
            closing = true;
            world.lose_nothing();
        }
        if world.now >= limit {
            let mut stuck = String::new();
            for end in &ends {
                let state = world.hosts[end.host].at(end.handle).state();
                let (said, heard, host) = (end.said, end.heard, end.host);
                stuck.push_str(&format!(
                    "host {host} {state}: said {said}, heard {heard}\n"
                ));
            }
            panic!("{stuck}{:#?}", world.rig.control().counters());
        }
    }
    // Then silence: nothing is left of it.
    for _ in 0..700 {
        world.now = world.now + Duration::from_secs(1);
        let now = world.now;
        world.rig.advance(now);
    }
    let counters = world.rig.control().counters();
    assert_eq!(counters["flows"], 0);
    assert!(world.rig.worker().pipeline().flows().is_empty());
    assert!(!world.rig.worker().holds_frames());
    assert_eq!(
        counters["flows_opened_total"],
        counters["flows_ended_total"]
    );
    world
}

fn drops(world: &World) -> Vec<String> {
    world
        .rig
        .control()
        .counters()
        .into_iter()
        .filter(|(name, count)| name.starts_with("drop.") && *count != 0)
        .map(|(name, _)| name)
        .collect()
}

const V4: &str = "203.0.113.10:80";
const V6: &str = "[2001:db8:f::10]:80";
const NONE: &str = "SRC_TRANS_NONE";
const AUTOMAP: &str = "SRC_TRANS_AUTOMAP";

#[test]
fn transfers_over_good_wires_arrive_and_nothing_is_dropped() {
    for to in [V4, V6] {
        for snat in [NONE, AUTOMAP] {
            let world = transfer(to, snat, Quality::default(), 4, 64 * 1024, 1, |_, _| ());
            assert_eq!(drops(&world), Vec::<String>::new(), "{to} {snat}");
            let opened = world.rig.control().counters()["flows_opened_total"];
            assert_eq!(opened, 4, "{to} {snat}");
        }
    }
}

/// Over bad wires strays come late; those, and only those, may be dropped.
fn bad(to: &str, snat: &str) {
    for seed in 1..=10 {
        let world = transfer(to, snat, BAD, 3, 256 * 1024, seed, |_, _| ());
        for drop in drops(&world) {
            assert!(
                [
                    "drop.tcp_invalid",
                    "drop.tcp_out_of_window",
                    "drop.reset_without_flow"
                ]
                .contains(&drop.as_str()),
                "{drop}, {to} {snat} seed {seed}"
            );
        }
    }
}

#[test]
fn transfers_over_bad_wires_arrive_intact_over_ipv4() {
    bad(V4, NONE);
}

#[test]
fn transfers_over_bad_wires_arrive_intact_over_ipv4_with_automap() {
    bad(V4, AUTOMAP);
}

#[test]
fn transfers_over_bad_wires_arrive_intact_over_ipv6() {
    bad(V6, NONE);
}

#[test]
fn transfers_over_bad_wires_arrive_intact_over_ipv6_with_automap() {
    bad(V6, AUTOMAP);
}

#[test]
fn a_configuration_that_changes_all_the_time_does_not_disturb_transfers() {
    let other = "EndpointSlice web:80/2 TCP 198.51.100.12:8080";
    let vlan =
        "F5SPKVlan spare tag=300 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24";
    let route = "F5SPKStaticRoute spare destination=10.9.0.0 prefixLen=16 type=gateway \
                 gateway=198.51.100.12";
    let meddle = |world: &mut World, step: u32| {
        // Not before the connections are open, or they would go to the other member.
        if step < 200 || !step.is_multiple_of(16) {
            return;
        }
        let line = [other, vlan, route][(step / 16) as usize % 3];
        let object = object(line).unwrap();
        let result = if (step / 48).is_multiple_of(2) {
            world.rig.apply(&[object])
        } else {
            world.rig.delete(&[object])
        };
        // What is not there cannot be deleted.
        drop(result);
    };
    for (to, snat) in [(V4, NONE), (V6, AUTOMAP)] {
        let world = transfer(to, snat, BAD, 3, 256 * 1024, 5, meddle);
        let generation = world.rig.worker().tables().generation;
        assert!(generation > 20, "{generation} configurations");
    }
}
