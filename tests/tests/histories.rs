//! Random histories of connections, noise, time and configuration: whatever happens around it, an
//! established connection keeps its member and its port, and every frame is counted once.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dataplane::rig::{Rig, RigConfig};
use dataplane::worker::Worker;
use net::Timestamp;
use proptest::prelude::*;
use tests::scenario::{Stage, object};

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    /// A client connects: to which virtual server, from which port.
    Open(usize, u16),
    /// All connections exchange data.
    Talk,
    /// One of the connections is reset by its client.
    Reset(usize),
    /// A frame that belongs to nothing, or pretends to.
    Noise(usize, u16),
    /// Seconds pass.
    Wait(u8),
    /// A part of the configuration is the one way, or the other.
    Configure(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..SERVERS.len(), 0..40u16).prop_map(|(server, port)| Step::Open(server, port)),
        2 => Just(Step::Talk),
        1 => (0..100usize).prop_map(Step::Reset),
        4 => (0..NOISE.len(), any::<u16>()).prop_map(|(kind, number)| Step::Noise(kind, number)),
        2 => (1..40u8).prop_map(Step::Wait),
        4 => (0..PARTS.len(), any::<bool>()).prop_map(|(part, on)| Step::Configure(part, on)),
    ]
}

/// Client and virtual server.
const SERVERS: [(&str, &str); 3] = [
    ("192.0.2.7", "203.0.113.10:80"),
    ("192.0.2.8", "203.0.113.11:80"),
    ("[2001:db8:1::7]", "[2001:db8:f::10]:80"),
];

/// What is configured to begin with. Nothing ends because nobody speaks.
const BASE: &[&str] = &[
    "use base",
    "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
     ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
    "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 destinationPort=80 \
     idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
    "publish",
];

/// The VLANs of the beginning, for wirings with more ports.
const VLANS: [&str; 2] = [
    "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
     prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
    "apply F5SPKVlan internal tag=200 interfaces=[\"1.2\"] internal=true \
     selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] \
     prefixlen_v6=64",
];

/// Parts of the configuration and the two ways each may be. None of them may move a connection.
const PARTS: [(&str, &str); 12] = [
    (
        "apply EndpointSlice web:80/2 TCP 198.51.100.12:8080 198.51.100.13:8080",
        "delete EndpointSlice web:80/2 TCP 198.51.100.12:8080",
    ),
    (
        "apply EndpointSlice web:80/2 TCP [2001:db8:2::12]:8080",
        "delete EndpointSlice web:80/2 TCP [2001:db8:2::12]:8080",
    ),
    (
        "apply EndpointSlice web TCP 198.51.100.11:8080",
        "apply EndpointSlice web TCP not-ready 198.51.100.11:8080",
    ),
    (
        "apply F5SPKVlan spare tag=300 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
        "delete F5SPKVlan spare",
    ),
    (
        "apply F5SPKStaticRoute spare destination=10.9.0.0 prefixLen=16 type=gateway \
         gateway=198.51.100.12",
        "delete F5SPKStaticRoute spare",
    ),
    (
        "apply F5SPKIngressTCP other service=web:80 destinationAddress=203.0.113.0/24 \
         destinationPort=0",
        "delete F5SPKIngressTCP other",
    ),
    (
        "apply F5SPKIngressTCP wild service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0",
        "delete F5SPKIngressTCP wild",
    ),
    (
        "apply F5SPKIngressUDP dns service=web:53 destinationAddress=203.0.113.10 \
         destinationPort=53 snat=SRC_TRANS_AUTOMAP",
        "delete F5SPKIngressUDP dns",
    ),
    (
        "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
         ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 \
         loadBalancingMethod=SOURCE_ADDR_HASH snat=SRC_TRANS_AUTOMAP",
        "apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 \
         ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
    ),
    (
        "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 \
         destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP \
         loadBalancingMethod=LEAST_CONN_MEMBER",
        "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 \
         destinationPort=80 idleTimeout=1000000 vlans={\"vlanList\":[\"external\"]}",
    ),
    (
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 \
         allowed_services=[{\"protocol\":\"tcp\",\"port\":22}]",
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 mtu=1600",
    ),
    (
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=SRC_ADDR",
        "apply F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] \
         prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=DST_ADDR",
    ),
];

/// Frames of no connection; `N` is a number.
const NOISE: [&str; 14] = [
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.11:80 S seq=1",
    "1.1 100 client2>tmm1 udp 192.0.2.99:N>203.0.113.10:53 len=9",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 . seq=1 ack=N",
    // A blind attacker guesses tuples, not sequence numbers.
    "1.1 100 client2>tmm1 tcp 192.0.2.7:40003>203.0.113.10:80 R seq=77N",
    "1.2 200 b2>tmm2 tcp 198.51.100.11:8080>192.0.2.7:40003 R seq=77N",
    "1.2 200 b2>tmm2 tcp 198.51.100.11:8080>198.51.100.1:N S seq=1",
    "1.1 100 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1 badsum",
    "1.1 100 client2>tmm1 echo 192.0.2.99>203.0.113.10 id=N",
    "1.1 100 client2>all arp who-has 203.0.113.10 tell 192.0.2.99",
    "1.2 200 b3>all arp who-has 198.51.100.77 tell 198.51.100.1",
    "1.1 101 client2>tmm1 tcp 192.0.2.99:N>203.0.113.10:80 S seq=1",
    "1.1 100 client2>tmm1 udp 192.0.2.99:N>203.0.113.10:53 len=9 frag=first",
    "1.2 200 b1>tmm2 udp 198.51.100.11:5353>192.0.2.99:N len=3",
];

/// A connection as its two ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    client: String,
    server: String,
    /// What the member sees as its client, and the member itself.
    source: String,
    member: String,
}

/// How ports and segments belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wiring {
    /// A port for each VLAN.
    Single,
    /// Two for each VLAN, in one segment.
    Together,
    /// Two for each VLAN, in segments of their own; there is nobody in the other ones.
    Apart,
}

impl Wiring {
    /// A line of the configuration as it is with these ports.
    fn configuration(self, line: &str) -> String {
        if self == Self::Single {
            return line.to_owned();
        }
        line.replace("[\"1.1\"]", "[\"1.1\",\"1.3\"]")
            .replace("[\"1.2\"]", "[\"1.2\",\"1.4\"]")
    }

    /// A frame as it arrives, number `count`: where there are two ports, by either.
    fn frame(self, line: &str, count: usize) -> String {
        if self != Self::Together || count.is_multiple_of(2) {
            return line.to_owned();
        }
        line.replacen("1.1 1", "1.3 1", 1)
            .replacen("1.2 2", "1.4 2", 1)
            .replacen(">tmm1 ", ">tmm3 ", 1)
            .replacen(">tmm2 ", ">tmm4 ", 1)
    }

    /// The VLAN's first port instead of the one a frame left by.
    fn first(self, port: &str) -> &str {
        match port {
            "1.3" if self == Self::Together => "1.1",
            "1.4" if self == Self::Together => "1.2",
            port => port,
        }
    }
}

struct History<'a> {
    stage: Stage<'a>,
    wiring: Wiring,
    frames: usize,
    open: BTreeMap<(usize, u16), Connection>,
}

impl History<'_> {
    fn run(&mut self, line: &str) -> Vec<String> {
        let line = &if line.starts_with('>') {
            self.frames += 1;
            self.wiring.frame(line, self.frames)
        } else {
            self.wiring.configuration(line)
        };
        let lines = self
            .stage
            .run(line)
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let lies: Vec<&String> = lines.iter().filter(|line| line.contains("! ")).collect();
        assert!(lies.is_empty(), "{line}: {lies:?}");
        self.books_are_right();
        lines
    }

    /// The TCP segments that left because of `line`: port, addresses and the rest.
    fn segments(&mut self, line: &str) -> Vec<(String, String, String)> {
        let wiring = self.wiring;
        self.run(line)
            .iter()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    [port, _, _, "tcp", ends, rest @ ..] => {
                        let port = wiring.first(port).to_owned();
                        Some((port, (*ends).to_owned(), rest.join(" ")))
                    }
                    _ => None,
                }
            })
            .collect()
    }

    fn open(&mut self, server: usize, port: u16) {
        if self.open.contains_key(&(server, port)) {
            return;
        }
        let (client, address) = SERVERS[server];
        let client = format!("{client}:{}", 40_000 + port);
        let syn = format!("> 1.1 100 client>tmm1 tcp {client}>{address} S seq=1");
        // Refused if there is no member, no room, or no way to tell it from another: fine.
        let Some((_, ends, _)) = self
            .segments(&syn)
            .into_iter()
            .find(|(out, ..)| out == "1.2")
        else {
            return;
        };
        let (source, member) = ends.split_once('>').unwrap();
        let connection = Connection {
            client,
            server: address.to_owned(),
            source: source.to_owned(),
            member: member.to_owned(),
        };
        self.member_says(&connection, "S. seq=1000 ack=2");
        self.client_says(&connection, ". seq=2 ack=1001");
        self.open.insert((server, port), connection);
    }

    /// A segment of the client must reach the member from the address it knows.
    fn client_says(&mut self, connection: &Connection, segment: &str) {
        let Connection {
            client,
            server,
            source,
            member,
        } = connection;
        let line = format!("> 1.1 100 client>tmm1 tcp {client}>{server} {segment}");
        let left = self.segments(&line);
        let expected = (
            "1.2".to_owned(),
            format!("{source}>{member}"),
            format!("{segment} ttl=63"),
        );
        assert_eq!(left, [expected], "{line}");
    }

    /// A segment of the member must reach the client from the address it connected to.
    fn member_says(&mut self, connection: &Connection, segment: &str) {
        let Connection {
            client,
            server,
            source,
            member,
        } = connection;
        let line = format!("> 1.2 200 b1>tmm2 tcp {member}>{source} {segment}");
        let left = self.segments(&line);
        let expected = (
            "1.1".to_owned(),
            format!("{server}>{client}"),
            format!("{segment} ttl=63"),
        );
        assert_eq!(left, [expected], "{line}");
    }

    fn talk(&mut self) {
        for connection in self.open.clone().into_values() {
            self.exchange(&connection);
        }
    }

    fn exchange(&mut self, connection: &Connection) {
        self.client_says(connection, "P. seq=2 ack=1001 len=5");
        self.member_says(connection, "P. seq=1001 ack=7 len=9");
    }

    fn reset(&mut self, connection: &Connection) {
        self.exchange(connection);
        self.client_says(connection, "R. seq=7 ack=1010");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open(server, port) => self.open(server, port),
            Step::Talk => self.talk(),
            Step::Reset(which) => {
                let key = self
                    .open
                    .keys()
                    .nth(which % self.open.len().max(1))
                    .copied();
                if let Some(connection) = key.and_then(|key| self.open.remove(&key)) {
                    self.reset(&connection);
                }
            }
            Step::Noise(kind, number) => {
                let frame = NOISE[kind].replace('N', &number.max(1).to_string());
                self.run(&format!("> {frame}"));
            }
            Step::Wait(seconds) => {
                self.run(&format!("wait {seconds}s"));
            }
            Step::Configure(part, on) => {
                let (one, other) = PARTS[part];
                self.run(if on { one } else { other });
                self.run("publish");
            }
        }
    }

    /// Each frame that came is counted as what became of it, and each that left as why.
    fn books_are_right(&mut self) {
        let rig = self.stage.rig();
        let tables = rig.workers().iter().map(|w| w.pipeline().flows().len());
        let table = tables.sum::<usize>() as u64;
        let held = rig.workers().iter().any(Worker::holds_frames);
        let counters = rig.control().counters();
        assert_eq!(
            counters["handoffs_out_packets"],
            counters["handoffs_in_packets"]
        );
        let sum = |what: &str| -> u64 {
            let named = counters.iter().filter(|(name, _)| name.contains(what));
            named.map(|(_, count)| count).sum()
        };
        let (forwarded, answered) = (sum("forwarded."), sum("answer."));
        let later = ["drop.tx_full", "drop.no_buffer"].map(|name| counters[name]);
        let dropped = sum("drop.") - later[0] - later[1];
        let done = forwarded + answered + dropped + counters["consumed_packets"];
        let received = sum(".rx_packets");
        if held {
            let most = 256 * rig.workers().len() as u64;
            assert!((1..=most).contains(&(received - done)), "{counters:#?}");
        } else {
            assert_eq!(received, done, "{counters:#?}");
        }
        let sent = forwarded + answered + counters["originated_packets"] - later[0];
        assert_eq!(sum(".tx_packets"), sent, "{counters:#?}");
        assert_eq!(counters["flows"], table);
        let ended = counters["flows_ended_total"];
        assert_eq!(counters["flows_opened_total"] - ended, table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connections_stay_where_they_are_whatever_happens_around_them(
        workers in prop_oneof![3 => Just(1), 1 => Just(2), 2 => Just(3), 1 => Just(8)],
        nic in prop::sample::select(vec!["tuple", "source", "destination", "turns", "one-queue"]),
        wiring in prop::sample::select(vec![Wiring::Single, Wiring::Together, Wiring::Apart]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        play(workers, nic, wiring, &steps);
    }
}

/// Lets a history happen to some workers behind cards of a kind.
fn play(workers: usize, nic: &str, wiring: Wiring, steps: &[Step]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut history = History {
        stage: Stage::new(&folder),
        wiring,
        frames: 0,
        open: BTreeMap::new(),
    };
    let ports = if wiring == Wiring::Single { 2 } else { 4 };
    let rig = format!("rig flows=48 workers={workers} nic={nic} ports={ports}");
    history.stage.run(&rig).unwrap();
    if wiring == Wiring::Together {
        history.stage.run("join 1.1 1.3").unwrap();
        history.stage.run("join 1.2 1.4").unwrap();
    }
    for line in BASE {
        history.stage.run(line).unwrap();
    }
    if wiring != Wiring::Single {
        for line in VLANS {
            history.run(line);
        }
        history.run("wait 3s");
        // Everybody is heard once more.
        for line in [
            "> 1.1 100 client>all arp who-has 192.0.2.1 tell 192.0.2.7",
            "> 1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.11",
            "> 1.2 200 b2>all arp who-has 198.51.100.1 tell 198.51.100.12",
            "> 1.2 200 b3>all arp who-has 198.51.100.1 tell 198.51.100.13",
        ] {
            history.run(line);
        }
    }
    for step in steps {
        history.step(step);
    }
    history.talk();
    // Each is there once, and nothing is left once they are reset and the rest is given up.
    for connection in std::mem::take(&mut history.open).into_values() {
        history.reset(&connection);
    }
    history.run("wait 70s");
    for worker in history.stage.rig().workers() {
        assert!(worker.pipeline().flows().is_empty());
        assert!(!worker.holds_frames());
    }
}

#[test]
fn what_is_left_of_a_connection_does_not_take_the_next_ones_segments() {
    // The virtual server no longer translates, so the same tuple belongs to another worker.
    let (automap, plain) = (Step::Configure(9, true), Step::Configure(9, false));
    for port in 0..16 {
        for nic in ["tuple", "source", "destination", "turns", "one-queue"] {
            let steps = [
                automap.clone(),
                Step::Open(1, port),
                Step::Reset(0),
                plain.clone(),
                Step::Open(1, port),
                Step::Talk,
                Step::Reset(0),
                automap.clone(),
                Step::Open(1, port),
            ];
            play(3, nic, Wiring::Single, &steps);
        }
    }
}

/// Objects that contradict and need each other; `#n`, `#m` and `#k` are small numbers.
const OBJECTS: [&str; 9] = [
    "F5SPKVlan v#n tag=10#m interfaces=[\"1.#k\"] selfip_v4s=[\"10.#m.0.#k\"] prefixlen_v4=24",
    "F5SPKVlan v#n interfaces=[\"1.#k\",\"1.4\"] selfip_v4s=[\"10.#n.0.#m\"] prefixlen_v4=16",
    "F5SPKVlan v#n tag=10#m outerTag=10#k interfaces=[\"1.#m\"] selfip_v6s=[\"2001:db8:#m::#k\"] \
     prefixlen_v6=64 internal=true",
    "Service s#n 80/TCP 53/UDP",
    "EndpointSlice s#n TCP 10.#m.0.1#k:8080",
    "EndpointSlice s#n:53 UDP 10.#m.0.1#k:53",
    "F5SPKStaticRoute r#n destination=10.9.#m.0 prefixLen=24 type=gateway gateway=10.#k.0.9",
    "F5SPKIngressTCP i#n service=s#m:80 destinationAddress=203.0.113.#k destinationPort=80 \
     snat=SRC_TRANS_AUTOMAP vlans={\"vlanList\":[\"v#m\"]}",
    "F5SPKIngressUDP i#n service=s#m:53 destinationAddress=203.0.112.0/2#k destinationPort=0",
];

fn objects() -> impl Strategy<Value = BTreeMap<(usize, u8), String>> {
    let object = (0..OBJECTS.len(), 1..4u8, 1..4u8, 1..4u8);
    prop::collection::vec(object, 0..20).prop_map(|chosen| {
        let line = |(kind, n, m, k): (usize, u8, u8, u8)| {
            let mut line = OBJECTS[kind].to_owned();
            for (mark, number) in [("#n", n), ("#m", m), ("#k", k)] {
                line = line.replace(mark, &number.to_string());
            }
            // The first three kinds and the two of slices are each one kind with one name.
            let group = [0, 0, 0, 1, 2, 3, 4, 5, 6][kind];
            ((group, n), line)
        };
        chosen.into_iter().map(line).collect()
    })
}

/// How far each object comes when they arrive in this order, all at once or one after the other.
fn outcome<'l>(
    lines: impl Iterator<Item = &'l String>,
    one_by_one: bool,
) -> BTreeMap<String, String> {
    let mut rig = Rig::new(&RigConfig::default());
    let mut now = Timestamp::from_secs(1);
    for line in lines {
        rig.apply(&[object(line).unwrap()]).unwrap();
        if one_by_one {
            now = now + Duration::from_millis(10);
            rig.advance(now);
        }
    }
    rig.advance(now);
    let states = rig.states().iter();
    states
        .map(|state| {
            (
                state.key.to_string(),
                format!("{} {}", state.reason(), state.message()),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_objects_in_any_order_come_as_far_as_in_any_other(lines in objects()) {
        let forth = outcome(lines.values(), false);
        prop_assert_eq!(forth.len(), lines.len());
        prop_assert_eq!(&outcome(lines.values().rev(), false), &forth);
        prop_assert_eq!(&outcome(lines.values().rev(), true), &forth);
    }
}
