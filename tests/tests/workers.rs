//! Several workers: whatever way the devices spread frames over them, both directions of a flow meet
//! one worker, nothing is lost or doubled on the way between them, and none waits for another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::{BTreeMap, BTreeSet};

use conntrack::{Cursor, Direction};
use dataplane::memory::MemoryFrame;
use dataplane::port::Frame;
use dataplane::rig::{Nic, Rig, RigConfig};
use dataplane::verdict::Verdict;
use net::{FlowKey, Layers, PortId, Timestamp};
use proptest::prelude::*;
use tests::scenario::{falsehood, frame, object};

const NOW: Timestamp = Timestamp::from_secs(1);
const NICS: [Nic; 5] = [
    Nic::Tuple,
    Nic::Source,
    Nic::Destination,
    Nic::RoundRobin,
    Nic::OneQueue,
];

/// Virtual servers of both kinds, families and protocols, one of them on a self IP, one that takes
/// anything.
const SERVERS: [&str; 7] = [
    "F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
     ipv6destinationAddress=2001:db8:f::10 destinationPort=80 snat=SRC_TRANS_AUTOMAP",
    "F5SPKIngressTCP plain service=web:80 destinationAddress=203.0.113.11 \
     ipv6destinationAddress=2001:db8:f::11 destinationPort=80",
    "F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 destinationPort=53 \
     snat=SRC_TRANS_AUTOMAP",
    "F5SPKIngressUDP log service=web:53 destinationAddress=203.0.113.11 destinationPort=53",
    "F5SPKIngressTCP own service=web:80 destinationAddress=198.51.100.1 destinationPort=0",
    "F5SPKIngressTCP any service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0",
    "F5SPKIngressTCP anyauto service=web:80 destinationAddress=0.0.0.0/0 destinationPort=443 \
     snat=SRC_TRANS_AUTOMAP",
];

/// How ports and segments belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wiring {
    /// A port for each VLAN.
    Single,
    /// Two for each VLAN, in one segment, as two virtual functions of one card.
    Together,
    /// Two for each VLAN, each in a segment of its own, with its own stations.
    Apart,
}

impl Wiring {
    /// The ports of the clients' and of the members' VLAN.
    fn ports(self) -> [&'static [u8]; 2] {
        match self {
            Self::Single => [&[0], &[1]],
            Self::Together | Self::Apart => [&[0, 1], &[2, 3]],
        }
    }

    /// Where a frame of the clients (0) or members (1) begins: port, tag, from whom to whom. `at` chooses
    /// among the VLAN's ports, and where they are apart among stations.
    fn head(self, side: usize, at: usize) -> String {
        let ports = self.ports()[side];
        let at = at % ports.len();
        let stations = [["client", "client2"], ["b1", "b2"]][side];
        let station = stations[if self == Self::Apart { at } else { 0 }];
        let (port, tag) = (ports[at] + 1, [100, 200][side]);
        format!("1.{port} {tag} {station}>tmm{port}")
    }
}

fn rig(workers: u16, nic: Nic, servers: &[usize], cmp_hash: [&str; 2], seed: u64) -> Rig {
    wired(workers, nic, Wiring::Single, servers, cmp_hash, seed)
}

fn wired(
    workers: u16,
    nic: Nic,
    wiring: Wiring,
    servers: &[usize],
    cmp_hash: [&str; 2],
    seed: u64,
) -> Rig {
    let interfaces = wiring.ports().map(|ports| {
        let names: Vec<String> = ports.iter().map(|at| format!("\"1.{}\"", at + 1)).collect();
        names.join(",")
    });
    let mut rig = Rig::new(&RigConfig {
        ports: 4,
        workers,
        nic,
        seed,
        flow_capacity: 4096,
        ..RigConfig::default()
    });
    let vlans = [
        format!(
            "F5SPKVlan external tag=100 interfaces=[{}] selfip_v4s=[\"192.0.2.1\"] \
             prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash={}",
            interfaces[0], cmp_hash[0]
        ),
        format!(
            "F5SPKVlan internal tag=200 interfaces=[{}] selfip_v4s=[\"198.51.100.1\"] \
             prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64 cmp_hash={}",
            interfaces[1], cmp_hash[1]
        ),
        "Service web 80/TCP 53/UDP".to_owned(),
        "EndpointSlice web TCP 198.51.100.11:8080 198.51.100.12:8080".to_owned(),
        "EndpointSlice web:80/6 TCP [2001:db8:2::11]:8080".to_owned(),
        "EndpointSlice web:53 UDP 198.51.100.11:5353".to_owned(),
    ];
    let servers = servers.iter().map(|at| SERVERS[*at].to_owned());
    let objects: Vec<_> = vlans
        .into_iter()
        .chain(servers)
        .map(|line| object(&line).unwrap())
        .collect();
    rig.apply(&objects).unwrap();
    rig.advance(NOW);
    for state in rig.states() {
        assert_eq!(state.reason(), "Programmed", "{state:?}");
    }
    if wiring == Wiring::Together {
        // What is sent to everybody is heard by the other port too: probes among it.
        for (port, frame, _) in take(&rig) {
            let to_all = frame.octets()[0] & 1 != 0;
            let others = wiring.ports().into_iter().find(|p| p.contains(&port.0));
            for other in others
                .into_iter()
                .flatten()
                .filter(|other| **other != port.0)
            {
                if to_all {
                    rig.send(PortId(*other), frame.clone());
                }
            }
        }
        rig.advance(NOW);
    }
    for (at, line) in [
        (0, "arp who-has 198.51.100.1 tell 198.51.100.11"),
        (1, "arp who-has 198.51.100.1 tell 198.51.100.12"),
        (0, "ns 2001:db8:2::1 from 2001:db8:2::11 to 2001:db8:2::1"),
    ] {
        put(&rig, &format!("{} {line}", wiring.head(1, at)));
    }
    rig.advance(NOW);
    take(&rig);
    rig
}

fn put(rig: &Rig, line: &str) {
    let (port, frame) = frame(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    rig.send(port, frame);
}

/// All frames that left, with the tuple of each.
fn take(rig: &Rig) -> Vec<(PortId, MemoryFrame, Option<FlowKey>)> {
    let mut left = Vec::new();
    for port in (0..4).map(PortId) {
        while let Some(mut frame) = rig.receive(port) {
            assert_eq!(falsehood(rig, port, &frame), None);
            let key = Layers::parse(&frame.packet()).ok().map(|layers| layers.key);
            left.push((port, frame, key));
        }
    }
    left
}

/// The flows of each worker, by original tuple.
fn tables(rig: &Rig) -> Vec<BTreeMap<FlowKey, FlowKey>> {
    let flows = |worker: &dataplane::worker::Worker<_>| {
        let flows = worker.pipeline().flows();
        flows
            .iter_from(Cursor::default(), usize::MAX)
            .0
            .map(|(_, flow)| (flow.original(), flow.reply()))
            .collect()
    };
    rig.workers().iter().map(flows).collect()
}

/// A client's packet: from where, to which virtual server.
#[derive(Debug, Clone)]
struct Opening {
    client: u8,
    port: u16,
    kind: usize,
}

/// Destination by kind; whether it is IPv6, and the protocol.
const KINDS: [(&str, bool, &str); 8] = [
    ("203.0.113.10:80", false, "tcp"),
    ("203.0.113.11:80", false, "tcp"),
    ("203.0.113.10:53", false, "udp"),
    ("203.0.113.11:53", false, "udp"),
    ("[2001:db8:f::10]:80", true, "tcp"),
    ("[2001:db8:f::11]:80", true, "tcp"),
    ("198.51.100.1:7777", false, "tcp"),
    ("8.8.8.8:443", false, "tcp"),
];

impl Opening {
    fn line(&self, segment: &str) -> String {
        self.line_by(Wiring::Single, 0, segment)
    }

    /// As number `count` of its packets: where ports are together, they come by either.
    fn line_by(&self, wiring: Wiring, count: usize, segment: &str) -> String {
        let (server, v6, proto) = KINDS[self.kind];
        let client = if v6 {
            format!(
                "[2001:db8:1::{:x}]:{}",
                u16::from(self.client) + 16,
                self.port
            )
        } else {
            format!("192.0.2.{}:{}", u16::from(self.client) + 2, self.port)
        };
        let rest = if proto == "tcp" { segment } else { "len=20" };
        let at = usize::from(self.client) + if wiring == Wiring::Together { count } else { 0 };
        let head = wiring.head(0, at);
        format!("{head} {proto} {client}>{server} {rest}")
    }
}

/// The answer of a member to a packet it got.
fn answer(key: &FlowKey, segment: &str) -> String {
    answer_by(Wiring::Single, 0, key, segment)
}

/// As number `count` of its packets.
fn answer_by(wiring: Wiring, count: usize, key: &FlowKey, segment: &str) -> String {
    let end = |addr: &net::Addr, port: net::L4Port| {
        if addr.is_v4() {
            format!("{addr}:{port}")
        } else {
            format!("[{addr}]:{port}")
        }
    };
    let back = key.inverted();
    let rest = if key.proto == net::IpProto::TCP {
        segment
    } else {
        "len=30"
    };
    let second = usize::from(back.src == net::Addr::from_v4([198, 51, 100, 12]));
    let at = if wiring == Wiring::Together {
        count
    } else {
        second
    };
    format!(
        "{} {} {}>{} {rest}",
        wiring.head(1, at),
        key.proto,
        end(&back.src, back.sport()),
        end(&back.dst, back.dport())
    )
}

fn cmp_hash() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["DEFAULT", "SRC_ADDR", "DST_ADDR"])
}

fn openings() -> impl Strategy<Value = Vec<Opening>> {
    let one = (0..200u8, 1..=u16::MAX, 0..KINDS.len());
    let one = one.prop_map(|(client, port, kind)| Opening { client, port, kind });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // case OVS-032: a packet that comes twice, by whichever worker, has made one flow.
    #[test]
    fn both_directions_of_every_flow_meet_one_worker_and_nothing_is_lost(
        workers in prop::sample::select(vec![2u16, 3, 4, 8]),
        nic in prop::sample::select(NICS.to_vec()),
        servers in prop::sample::subsequence((0..SERVERS.len()).collect::<Vec<_>>(), 1..=SERVERS.len()),
        hashes in (cmp_hash(), cmp_hash()),
        wiring in prop::sample::select(vec![Wiring::Single, Wiring::Together, Wiring::Apart]),
        seed in 0..4u64,
        openings in openings(),
    ) {
        let mut rig = wired(workers, nic, wiring, &servers, [hashes.0, hashes.1], seed);
        let [clients, members] = wiring.ports();
        let mut met: BTreeMap<FlowKey, Opening> = BTreeMap::new();
        for opening in &openings {
            // Twice, as a retransmission that may come in by another queue.
            for count in 0..2 {
                put(&rig, &opening.line_by(wiring, count, "S seq=100"));
            }
            rig.advance(NOW);
            for (port, _, key) in take(&rig) {
                if members.contains(&port.0) && let Some(key) = key {
                    met.insert(key, opening.clone());
                }
            }
        }
        let opened = tables(&rig);
        for count in 0..3 {
            for (key, opening) in &met {
                put(&rig, &answer_by(wiring, count, key, "S. seq=500 ack=101"));
                rig.advance(NOW);
                let back = take(&rig);
                prop_assert_eq!(back.len(), 1, "{} {:?}", key, back);
                prop_assert!(clients.contains(&back[0].0.0), "{}", key);
                put(&rig, &opening.line_by(wiring, count, ". seq=101 ack=501"));
                rig.advance(NOW);
                let there = take(&rig);
                prop_assert_eq!(there.len(), 1, "{}", key);
                prop_assert_eq!(there[0].2, Some(*key));
            }
        }
        // No packet has opened a second flow, on whichever worker.
        let now = tables(&rig);
        prop_assert_eq!(&now, &opened);
        let mut tuples = BTreeSet::new();
        for (original, reply) in now.iter().flatten() {
            prop_assert!(tuples.insert(*original), "{} twice", original);
            prop_assert!(tuples.insert(*reply), "{} twice", reply);
        }
        prop_assert_eq!(tuples.len(), 2 * met.len());
        let counters = rig.control().counters();
        prop_assert_eq!(counters["handoffs_out_packets"], counters["handoffs_in_packets"]);
        prop_assert_eq!(counters["drop.handoff_full"], 0);
    }

    /// Two virtual functions of one queue for each VLAN, one for each worker: whichever a packet comes
    /// in by, the worker that has its flow sends by its own.
    #[test]
    fn of_ports_in_one_segment_a_worker_sends_by_its_own(
        seed in 0..8u64,
        openings in openings(),
    ) {
        let mut rig = wired(2, Nic::OneQueue, Wiring::Together, &[0, 2], ["DEFAULT"; 2], seed);
        let before = rig.control().counters()["handoffs_out_packets"];
        let mut received = 0;
        let translated = |opening: &&Opening| [0, 2, 4].contains(&opening.kind);
        for (count, opening) in openings.iter().filter(translated).enumerate() {
            put(&rig, &opening.line_by(Wiring::Together, count, "S seq=100"));
            rig.advance(NOW);
            received += 1;
            let left = take(&rig);
            for (port, _, key) in left {
                let Some(key) = key.filter(|_| port.0 >= 2) else { continue };
                let owner = |flows: &BTreeMap<FlowKey, FlowKey>| {
                    flows.values().any(|reply| *reply == key.inverted())
                };
                let worker = tables(&rig).iter().position(owner);
                prop_assert_eq!(worker, Some(usize::from(port.0 % 2)), "{}", key);
            }
        }
        // Each is handed over once at most: to the worker that has its flow.
        let handed = rig.control().counters()["handoffs_out_packets"] - before;
        prop_assert!(handed <= received, "{} of {}", handed, received);
    }

    /// Where the card spreads by the tuple, with the key it was given, a translated flow is met by
    /// its worker in both directions by itself: no frame is handed over at all.
    #[test]
    fn behind_a_card_that_spreads_by_tuples_translated_flows_are_never_handed_over(
        workers in 2..=16u16,
        seed in 0..4u64,
        openings in openings(),
    ) {
        let mut rig = rig(workers, Nic::Tuple, &[0, 2], ["DEFAULT", "DEFAULT"], seed);
        let mut forwarded = 0;
        for opening in openings.iter().filter(|opening| [0, 2, 4].contains(&opening.kind)) {
            put(&rig, &opening.line("S seq=100"));
            rig.advance(NOW);
            for (_, _, key) in take(&rig) {
                put(&rig, &answer(&key.unwrap(), "S. seq=500 ack=101"));
                forwarded += 2;
            }
            rig.advance(NOW);
            prop_assert_eq!(take(&rig).len(), 1);
        }
        let counters = rig.control().counters();
        prop_assert_eq!(counters["handoffs_out_packets"], 0);
        let all = ["opened", "original", "reply"].map(|step| counters[&format!("forwarded.{step}")]);
        prop_assert_eq!(all.iter().sum::<u64>(), forwarded);
    }
}

/// Untranslated flows have one thing in common in both directions, the client's address; `cmp_hash`
/// has the cards spread by it.
#[test]
fn cards_that_hash_the_clients_address_on_both_sides_need_no_handing_over() {
    let count = |source_only: bool| {
        let nic = if source_only { Nic::Source } else { Nic::Tuple };
        let mut rig = rig(4, nic, &[1], ["SRC_ADDR", "DST_ADDR"], 1);
        for client in 0..50 {
            let port = 40_000 + u16::from(client) * 7;
            let opening = Opening {
                client,
                port,
                kind: 1,
            };
            put(&rig, &opening.line("S seq=100"));
        }
        rig.advance(NOW);
        assert_eq!(take(&rig).len(), 50);
        rig.control().counters()["handoffs_out_packets"]
    };
    assert_eq!(count(true), 0);
    assert!(count(false) > 20);
}

#[test]
fn every_worker_gets_its_share_of_the_flows() {
    let mut rig = rig(4, Nic::Tuple, &[0], ["DEFAULT", "DEFAULT"], 9);
    for port in 0..2000 {
        let opening = Opening {
            client: (port % 20) as u8,
            port: 20_000 + port,
            kind: 0,
        };
        put(&rig, &opening.line("S seq=100"));
        rig.advance(NOW);
    }
    for (worker, table) in tables(&rig).iter().enumerate() {
        assert!(
            (350..650).contains(&table.len()),
            "{worker}: {}",
            table.len()
        );
    }
}

#[test]
fn a_worker_that_stands_still_holds_up_nobody_and_what_it_misses_is_counted() {
    let mut rig = rig(2, Nic::OneQueue, &[1], ["DEFAULT", "DEFAULT"], 1);
    // A client whose flows are the second worker's; the first one polls its port.
    let client = (0..200)
        .find(|client| {
            let addr = net::Addr::from_v4([192, 0, 2, client + 2]);
            rig.steering().of_address(&addr) == 1
        })
        .unwrap();
    let opening = Opening {
        client,
        port: 40_000,
        kind: 1,
    };
    let before = rig.control().counters();
    let total = 5000;
    for _ in 0..total {
        put(&rig, &opening.line("S seq=1"));
        // Those of another client are its own, and go on.
        put(
            &rig,
            "1.1 100 client>tmm1 icmp 192.0.2.9>192.0.2.1 type=5 len=1",
        );
    }
    while rig.turn(0, NOW) > 0 {}
    let since = |rig: &Rig, name: &str| rig.control().counters()[name] - before[name];
    assert_eq!(since(&rig, "drop.icmp_ignored"), total);
    let (out, full) = (
        since(&rig, "handoffs_out_packets"),
        since(&rig, "drop.handoff_full"),
    );
    assert!(out >= 64 && full > 0, "{out} {full}");
    assert_eq!(out + full, total);
    assert_eq!(since(&rig, "handoffs_in_packets"), 0);
    // When it goes on, it takes what is there.
    rig.advance(NOW);
    assert_eq!(since(&rig, "handoffs_in_packets"), out);
    assert_eq!(tables(&rig)[1].len(), 1);
}

#[test]
fn a_frame_that_is_handed_over_keeps_what_the_device_said_about_it() {
    for nic in [Nic::OneQueue, Nic::RoundRobin] {
        let mut rig = rig(3, nic, &[0, 1], ["DEFAULT", "DEFAULT"], 2);
        let mut handed = 0;
        for port in 0..60 {
            // The device has taken the tag out; the tag names the VLAN.
            let line = Opening {
                client: 7,
                port: 40_000 + port,
                kind: usize::from(port % 2),
            };
            put(&rig, &line.line("S seq=1").replace(" 100 ", " ~100 "));
            rig.advance_with(NOW, |_, frame, verdict| {
                if let Verdict::Handoff(_) = verdict {
                    assert_eq!(frame.rx.stripped_tci, Some(100));
                    handed += 1;
                }
            });
            let left = take(&rig);
            assert_eq!(left.len(), 1, "{}", line.line(""));
            assert_eq!(left[0].0, PortId(1));
        }
        assert!(handed > 10, "{handed}");
    }
}

/// The direction in which `iter_from` gives tuples must be what the tests above take it for.
#[test]
fn a_flow_in_the_table_translates_as_its_packets_are() {
    let mut rig = rig(2, Nic::RoundRobin, &[0], ["DEFAULT", "DEFAULT"], 1);
    put(
        &rig,
        &Opening {
            client: 1,
            port: 4000,
            kind: 0,
        }
        .line("S seq=1"),
    );
    rig.advance(NOW);
    let key = take(&rig)[0].2.unwrap();
    let flows: Vec<FlowKey> = rig
        .workers()
        .iter()
        .flat_map(|worker| worker.pipeline().flows().iter_from(Cursor::default(), 9).0)
        .map(|(_, flow)| flow.translated(Direction::Original))
        .collect();
    assert_eq!(flows, [key]);
}
