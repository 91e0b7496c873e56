//! A tmm whose ports allocate nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use config::watch::Hub;
use dataplane::control::{Control, ControlConfig};
use dataplane::pipeline::PipelineConfig;
use dataplane::port::{Burst, Frame, Port};
use dataplane::rig::port_mac;
use dataplane::tables::PortInfo;
use dataplane::worker::Worker;
use lb::snat::PortStripe;
use net::{Packet, PortId, RxMeta, Shape, Timestamp};
use vlan::resolver::ResolverConfig;

use super::calls;

/// A buffer that belongs to the process; letting go of it frees nothing.
pub struct Buffer {
    octets: &'static mut [u8],
    start: usize,
    len: usize,
}

const HEADROOM: usize = 128;

impl Buffer {
    fn new() -> Self {
        Self {
            octets: Box::leak(vec![0; 2048].into_boxed_slice()),
            start: HEADROOM,
            len: 0,
        }
    }

    fn fill(&mut self, octets: &[u8]) {
        self.start = HEADROOM;
        self.len = octets.len();
        self.octets[HEADROOM..HEADROOM + octets.len()].copy_from_slice(octets);
    }
}

impl Frame for Buffer {
    fn packet(&mut self) -> Packet<'_> {
        Packet::new(self.octets, self.start, self.len, RxMeta::default())
    }

    fn set_shape(&mut self, shape: Shape) {
        self.start = shape.start;
        self.len = shape.len;
    }
}

/// A port whose rings have room for all there will be: frames that come, frames that have left, and buffers
/// for frames of tmm's own.
#[derive(Clone)]
pub struct Ring(Rc<RefCell<[VecDeque<Buffer>; 3]>>);

impl Ring {
    fn new() -> Self {
        let ring = || VecDeque::with_capacity(4096);
        let free = (0..1024).map(|_| Buffer::new()).collect();
        Self(Rc::new(RefCell::new([ring(), ring(), free])))
    }

    fn send(&self, octets: &[u8]) {
        let mut buffer = Buffer::new();
        buffer.fill(octets);
        self.0.borrow_mut()[0].push_back(buffer);
    }

    fn sent(&self) -> usize {
        let [_, sent, free] = &mut *self.0.borrow_mut();
        let count = sent.len();
        free.extend(sent.drain(..));
        free.truncate(1024);
        count
    }
}

impl Port for Ring {
    type Frame = Buffer;

    fn rx_burst(&mut self, into: &mut Burst<Buffer>) {
        let rx = &mut self.0.borrow_mut()[0];
        while !into.is_full()
            && let Some(buffer) = rx.pop_front()
        {
            into.push(buffer);
        }
    }

    fn tx_burst(&mut self, frames: &mut Burst<Buffer>) {
        self.0.borrow_mut()[1].extend(frames.drain(..));
    }

    fn frame(&mut self, octets: &[u8]) -> Option<Buffer> {
        let mut buffer = self.0.borrow_mut()[2].pop_front()?;
        buffer.fill(octets);
        Some(buffer)
    }
}

/// tmm with two such ports; members 1 and 2 are known neighbours, 99 is not.
pub struct Bench {
    pub control: Control,
    pub worker: Worker<Ring>,
    ports: [Ring; 2],
    pub now: Timestamp,
}

const OBJECTS: &[&str] = &[
    "F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 \
     selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
    "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24",
    "Service web 80/TCP 53/UDP",
    "EndpointSlice web TCP 198.51.100.11:8080 198.51.100.12:8080",
    "EndpointSlice web:53 UDP 198.51.100.99:5353",
    "F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 destinationPort=80",
    "F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 destinationPort=80 \
     snat=SRC_TRANS_AUTOMAP",
    "F5SPKIngressTCP least service=web:80 destinationAddress=203.0.113.12 destinationPort=80 \
     loadBalancingMethod=LEAST_CONN_MEMBER",
    "F5SPKIngressTCP hash service=web:80 destinationAddress=203.0.113.13 destinationPort=80 \
     loadBalancingMethod=SOURCE_ADDR_HASH",
    "F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 destinationPort=53",
];

impl Bench {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// One with these objects, too.
    pub fn with(more: &[&str]) -> Self {
        let ports: Vec<PortInfo> = (0..2)
            .map(|id| PortInfo {
                id: PortId(id),
                mac: port_mac(PortId(id)),
                mtu: 1600,
                inserts_tag: false,
            })
            .collect();
        let config = ControlConfig {
            replica: 0,
            ports,
            default_mtu: 1500,
            workers: 1,
            flows: 65_536,
            resolver: ResolverConfig::default(),
            batch: Duration::ZERO,
        };
        let (mut control, shared) = Control::with_one_worker(&config, Hub::default());
        let mut session = control.hub().open();
        for line in OBJECTS.iter().chain(more) {
            let object = tests::scenario::object(line).unwrap();
            let event = serde_json::json!({"type": "ADDED", "object": object});
            let line = format!("{event}\n");
            session.feed(control.hub(), line.as_bytes(), &mut Vec::new());
        }
        let pipeline = PipelineConfig {
            worker: 0,
            stripe: PortStripe::whole(),
            flow_capacity: 1024,
            seed: 1,
            hugetlb: false,
            straight_way: true,
            icmp_errors_per_second: dataplane::pipeline::ICMP_ERRORS_PER_SECOND,
        };
        let ports = [Ring::new(), Ring::new()];
        let worker = Worker::new(&pipeline, ports.to_vec(), shared);
        let mut bench = Self {
            control,
            worker,
            ports,
            now: Timestamp::from_secs(1),
        };
        bench.settle();
        for host in [11, 12] {
            bench.send(&format!(
                "1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.{host}"
            ));
        }
        bench.settle();
        bench
    }

    pub fn send(&self, line: &str) {
        let (port, frame) = tests::scenario::frame(line).unwrap();
        self.ports[usize::from(port.0)].send(frame.octets());
    }

    /// Lets both sides work until nothing is left to do; returns how many frames were sent.
    pub fn settle(&mut self) -> usize {
        for _ in 0..20 {
            self.control.poll(self.now);
            self.worker.turn(self.now);
        }
        self.ports.iter().map(Ring::sent).sum()
    }

    /// Calls of the allocator in the turns that take `lines`, and how many frames were sent.
    pub fn turns(&mut self, lines: &[String]) -> (u64, usize) {
        for line in lines {
            self.send(line);
        }
        let now = self.now;
        let worker = &mut self.worker;
        let calls = calls(|| {
            for _ in 0..8 {
                worker.turn(now);
            }
        });
        (calls, self.ports.iter().map(Ring::sent).sum())
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.control.counters()[name]
    }
}

pub fn lines(count: u16, line: impl Fn(u16) -> String) -> Vec<String> {
    (0..count).map(line).collect()
}

pub fn syns(address: u8, first: u16) -> Vec<String> {
    lines(100, |n| {
        let port = first + n;
        format!("1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.{address}:80 S seq=1")
    })
}
