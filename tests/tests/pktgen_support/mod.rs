//! What the tests of the generator share: tmm in memory as the device under test, and time that passes by
//! turns.
#![allow(dead_code)] // each test file uses its part

use std::net::SocketAddr;
use std::time::Duration;

use benches::pktgen::check::Snat;
use benches::pktgen::client::Order;
use benches::pktgen::flows::Proto;
use benches::pktgen::link::MemoryLink;
use benches::pktgen::mix::Mix;
use benches::pktgen::session::{Session, Timing, World};
use benches::pktgen::setup::{Mode, Setup, Side};
use dataplane::rig::{Rig, RigConfig, port_mac};
use net::{MacAddr, PortId, Timestamp, VlanId};
use tests::lab::resources::{self, BACKEND_ECHO, BACKEND_HTTP, ECHO, HTTP, VIP};

pub const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 1, 0x10]);
pub const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 2, 0x10]);

/// tmm in memory with everything configured.
pub fn rig(one_arm: bool, snat: &str) -> Rig {
    let mut rig = Rig::new(&RigConfig {
        ports: if one_arm { 1 } else { 2 },
        ..RigConfig::default()
    });
    rig.apply(&resources::everything(one_arm, None, snat))
        .unwrap();
    rig.advance(Timestamp::from_secs(1));
    for state in rig.states() {
        assert_eq!(state.reason(), "Programmed", "{state:?}");
    }
    rig
}

/// A device under test in the same thread; each turn takes two microseconds.
pub struct InMemory {
    pub rig: Rig,
    pub now: Timestamp,
    pub step: Duration,
}

impl InMemory {
    pub fn new(rig: Rig) -> Self {
        Self {
            rig,
            now: Timestamp::from_secs(2),
            step: Duration::from_micros(2),
        }
    }
}

impl World for InMemory {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    fn between_turns(&mut self) {
        self.now = self.now + self.step;
        self.rig.advance(self.now);
    }
}

fn side(mac: MacAddr, vlan: u16, gateways: &[&str]) -> Side {
    Side {
        mac,
        vlan: VlanId::new(vlan),
        gateways: gateways.iter().map(|g| g.parse().unwrap()).collect(),
        gateway_mac: None,
        addresses: Vec::new(),
    }
}

/// A test of both families against [`rig`].
pub fn setup(proto: Proto, snat: &str, flows: u32, mix: Mix) -> Setup {
    let (port, member_port) = match proto {
        Proto::Udp => (ECHO, BACKEND_ECHO),
        Proto::Tcp => (HTTP, BACKEND_HTTP),
    };
    let members = (1..=3)
        .flat_map(resources::backend)
        .map(|address| SocketAddr::new(address.parse().unwrap(), member_port))
        .collect();
    let own = resources::INTERNAL_SELF;
    Setup {
        mode: Mode::Balance,
        proto,
        flows,
        order: Order::Random,
        mix,
        clients: vec![
            "192.0.2.10-192.0.2.59".parse().unwrap(),
            "2001:db8:100::10-2001:db8:100::41".parse().unwrap(),
        ],
        client_ports: 1024..=65535,
        virtual_servers: VIP
            .iter()
            .map(|address| SocketAddr::new(address.parse().unwrap(), port))
            .collect(),
        members,
        snat: match snat {
            "SRC_TRANS_NONE" => Snat::None,
            _ => Snat::Addresses(own.iter().map(|a| a.parse().unwrap()).collect()),
        },
        hops: 1,
        handshake: true,
        client: side(CLIENT, 100, &resources::EXTERNAL_SELF[..1]),
        server: Side {
            gateway_mac: Some(port_mac(PortId(1))),
            ..side(SERVER, 200, &[])
        },
        sticky: true,
        seed: 7,
        first_sequence: 0,
    }
}

/// A session of `setup` with `rig` as the device.
pub fn session(setup: &Setup, rig: Rig) -> Session<MemoryLink, InMemory> {
    let link = |port| rig.wire(PortId(port)).map(MemoryLink::new);
    let engine = setup.engine(link(0).unwrap(), link(1)).unwrap();
    let timing = Timing {
        drain: Duration::from_millis(2),
        sample: Duration::from_millis(10),
        ..Timing::default()
    };
    let one_way = setup.mode == Mode::OneWay;
    let mut session = Session::new(engine, InMemory::new(rig), timing, one_way);
    session.resolve().unwrap();
    session
}
