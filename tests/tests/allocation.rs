//! Nothing is allocated or freed per burst: an allocator that counts, and a port that has all its
//! buffers before the first frame.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
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

thread_local! {
    /// Calls of the allocator by this thread while it is watched.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: everything is left to the system's allocator; counting touches a cell that needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` called the allocator.
fn calls(f: impl FnOnce()) -> u64 {
    CALLS.with(|calls| calls.set(Some(0)));
    f();
    CALLS.with(Cell::take).unwrap()
}

/// A buffer that belongs to the process; letting go of it frees nothing.
struct Buffer {
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

/// A port whose rings have room for all there will be.
#[derive(Clone)]
struct Ring(Rc<RefCell<[VecDeque<Buffer>; 2]>>);

impl Ring {
    fn new() -> Self {
        let ring = || VecDeque::with_capacity(4096);
        Self(Rc::new(RefCell::new([ring(), ring()])))
    }

    fn send(&self, octets: &[u8]) {
        let mut buffer = Buffer::new();
        buffer.fill(octets);
        self.0.borrow_mut()[0].push_back(buffer);
    }

    fn sent(&self) -> usize {
        self.0.borrow_mut()[1].drain(..).count()
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
        let mut buffer = Buffer::new();
        buffer.fill(octets);
        Some(buffer)
    }
}

/// tmm with two such ports; members 1 and 2 are known neighbours, 99 is not.
struct Bench {
    control: Control,
    worker: Worker<Ring>,
    ports: [Ring; 2],
    now: Timestamp,
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
    fn new() -> Self {
        let ports: Vec<PortInfo> = (0..2)
            .map(|id| PortInfo {
                id: PortId(id),
                mac: port_mac(PortId(id)),
                mtu: 1500,
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
        for line in OBJECTS {
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

    fn send(&self, line: &str) {
        let (port, frame) = tests::scenario::frame(line).unwrap();
        self.ports[usize::from(port.0)].send(frame.octets());
    }

    /// Lets both sides work until nothing is left to do; returns how many frames were sent.
    fn settle(&mut self) -> usize {
        for _ in 0..20 {
            self.control.poll(self.now);
            self.worker.turn(self.now);
        }
        self.ports.iter().map(Ring::sent).sum()
    }

    /// Calls of the allocator in the turns that take `lines`, and how many frames were sent.
    fn turns(&mut self, lines: &[String]) -> (u64, usize) {
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

    fn counter(&self, name: &str) -> u64 {
        self.control.counters()[name]
    }
}

fn lines(count: u16, line: impl Fn(u16) -> String) -> Vec<String> {
    (0..count).map(line).collect()
}

fn syns(address: u8, first: u16) -> Vec<String> {
    lines(100, |n| {
        let port = first + n;
        format!("1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.{address}:80 S seq=1")
    })
}

#[test]
fn the_allocator_of_this_test_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
    assert_eq!(calls(|| ()), 0);
}

#[test]
fn new_flows_cost_no_allocation_however_they_are_balanced_and_translated() {
    let mut bench = Bench::new();
    for address in 10..=13 {
        // Members' connections of this virtual server are counted for the first time.
        let port = 20_000 + u16::from(address) * 1000;
        bench.turns(&syns(address, port)[..4]);
        assert_eq!(
            bench.turns(&syns(address, port + 10)),
            (0, 100),
            "{address}"
        );
    }
    assert_eq!(bench.counter("flows"), 4 * 104);
}

#[test]
fn established_flows_cost_no_allocation() {
    let mut bench = Bench::new();
    bench.turns(&syns(10, 40_000));
    let back = |n: u16, flags: &str| {
        let port = 40_000 + n;
        let member = 11 + n % 2;
        format!("1.2 200 b1>tmm2 tcp 198.51.100.{member}:8080>192.0.2.7:{port} {flags}")
    };
    let forth = |n: u16, flags: &str| {
        let port = 40_000 + n;
        format!("1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.10:80 {flags}")
    };
    bench.turns(&lines(100, |n| back(n, "S. seq=9 ack=2")));
    bench.turns(&lines(100, |n| forth(n, ". seq=2 ack=10")));
    assert_eq!(
        bench.turns(&lines(100, |n| forth(n, "P. seq=2 ack=10 len=900"))),
        (0, 100)
    );
    assert_eq!(
        bench.turns(&lines(100, |n| back(n, "P. seq=10 ack=902 len=900"))),
        (0, 100)
    );
    // And their end.
    assert_eq!(
        bench.turns(&lines(100, |n| forth(n, "R. seq=902 ack=910"))),
        (0, 100)
    );
    bench.now = bench.now + Duration::from_secs(10);
    assert_eq!(bench.turns(&[]), (0, 0));
    assert_eq!(bench.counter("flows"), 0, "all have ended in those turns");
}

#[test]
fn a_full_table_costs_no_allocation() {
    let mut bench = Bench::new();
    for first in (10_000..20_000).step_by(100) {
        bench.turns(&syns(10, first));
    }
    assert_eq!(bench.counter("flows"), 1024);
    assert_eq!(bench.turns(&syns(11, 40_000)).0, 0);
    assert_eq!(bench.counter("flows"), 1024);
}

#[test]
fn drops_and_answers_cost_no_allocation() {
    let mut bench = Bench::new();
    for (line, answered) in [
        (
            "1.1 101 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 S",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 S badsum",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:81 S",
            false,
        ),
        (
            "1.1 100 client>tmm1 udp 192.0.2.7:1>203.0.113.10:53 frag=0+7",
            false,
        ),
        (
            "1.1 100 client>tmm1 tcp 192.0.2.7:1>203.0.113.10:80 . seq=1 ack=2",
            true,
        ),
        (
            "1.1 100 client>all arp who-has 192.0.2.1 tell 192.0.2.7",
            true,
        ),
        (
            "1.1 100 client>33:33:ff:00:00:01 ns 2001:db8:1::1 from 2001:db8:1::7 to ff02::1:ff00:1",
            true,
        ),
        ("1.1 100 client>tmm1 echo 192.0.2.7>192.0.2.1 len=56", true),
        (
            "1.1 100 client>all arp 192.0.2.1 is-at client tell 192.0.2.1",
            false,
        ),
    ] {
        let many = lines(100, |_| line.to_owned());
        let sent = if answered { 100 } else { 0 };
        assert_eq!(bench.turns(&many), (0, sent), "{line}");
        bench.settle();
    }
}

#[test]
fn fragments_cost_no_allocation_whether_they_wait_or_not() {
    let mut bench = Bench::new();
    let part = |n: u16, part: &str| {
        let client = format!("192.0.2.{}:5000", 50 + n % 100);
        let fid = n / 100;
        format!("1.1 100 client>tmm1 udp {client}>203.0.113.10:53 len=1000 frag={part} fid={fid}")
    };
    // A member that is known has these.
    let parts = ["504+504", "0+504"];
    bench.turns(&lines(100, |n| part(n, parts[1])));
    bench.settle();
    for round in 1..4u16 {
        for which in parts {
            let (calls, _) = bench.turns(&lines(100, |n| part(round * 100 + n, which)));
            assert_eq!(calls, 0, "{which}");
        }
    }
    assert_eq!(bench.counter("fragments_waited_packets"), 300);
    // Given up.
    let alone = lines(400, |n| part(n, parts[0]).replace("fid=", "fid=9"));
    assert_eq!(bench.turns(&alone), (0, 0));
    bench.now = bench.now + Duration::from_mins(1);
    let (calls, _) = bench.turns(&[]);
    assert_eq!(calls, 0);
}

#[test]
fn frames_that_wait_for_a_neighbor_cost_no_allocation() {
    let mut bench = Bench::new();
    let line = |n: u16| format!("1.1 100 client>tmm1 udp 192.0.2.7:{n}>203.0.113.10:53 len=9");
    assert_eq!(bench.turns(&lines(100, |n| line(1000 + n))), (0, 0));
    assert_eq!(bench.counter("held_packets"), 16);
    bench.settle();
    bench.send("1.2 200 b2>tmm2 arp 198.51.100.99 is-at b2 tell 198.51.100.1");
    bench.worker.turn(bench.now);
    bench.control.poll(bench.now);
    assert_eq!(bench.turns(&[]), (0, 16), "they leave when it is known");
}
