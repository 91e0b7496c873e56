//! Configuration under traffic: whatever is created, changed, deleted and created anew, in whatever order, while
//! connections are open.
//!
//! What must hold, after each configuration that is taken up, for each flow whose packets come:
//!
//! - **An unchanged flow goes on**: to the same member, from the same source address and port, without a reset. A flow
//!   is unchanged as long as, in every configuration since it was opened,
//!   its virtual server is there (the same object of the same protocol; its other fields may change) and has not lost
//!   its destination to an older one (which its state says),
//!   its member is an endpoint of its Service, and a ready one unless `serviceDownAction` is `NONE`
//!   (of a TCP flow with `NONE`, the member may go altogether: it is left to its ends),
//!   the VLANs of its client and of its member have the tags and interfaces that they had,
//!   and a self IP that its source was translated to is a self IP still.
//! - **No other flow goes astray**: a segment in the middle of a connection reaches the member that it belongs to, or is
//!   refused, or is dropped. It never reaches another member.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conntrack::Cursor;
use proptest::prelude::*;
use serde_json::Value;
use tests::scenario::{Stage, object};

/// An object, and the ways it may be. The first is how it begins; `-` begins without it.
struct Kind {
    name: &'static str,
    ways: &'static [&'static str],
}

/// To try another kind of object, add it here with the ways it may be; if flows depend on it, say how in
/// [`World::is_unchanged`].
const KINDS: [Kind; 13] = [
    Kind {
        name: "F5SPKVlan external",
        ways: &[
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 mtu=1600",
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.33\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::33\"] prefixlen_v6=64",
            "tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64 cmp_hash=SRC_ADDR allowed_services=[{\"protocol\":\"tcp\",\"port\":22}]",
            "tag=101 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:1::1\"] prefixlen_v6=64",
        ],
    },
    Kind {
        name: "F5SPKVlan internal",
        ways: &[
            "tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64",
            "tag=200 interfaces=[\"1.2\"] internal=false selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64 cmp_hash=DST_ADDR mtu=9000",
            "tag=200 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.2\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::2\"] prefixlen_v6=64",
            "tag=201 interfaces=[\"1.2\"] internal=true selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24 selfip_v6s=[\"2001:db8:2::1\"] prefixlen_v6=64",
        ],
    },
    Kind {
        name: "F5SPKVlan spare",
        ways: &[
            "-",
            "tag=300 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
            // The tag of another: a conflict, which the younger one loses.
            "tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"10.3.0.1\"] prefixlen_v4=24",
        ],
    },
    Kind {
        name: "Service web",
        ways: &["80/TCP 53/UDP", "80/TCP 53/UDP 443/TCP", "80/TCP"],
    },
    Kind {
        name: "EndpointSlice web",
        ways: &[
            "TCP 198.51.100.11:8080",
            "TCP not-ready 198.51.100.11:8080",
            "TCP 198.51.100.11:8080 198.51.100.12:8080",
            "TCP 198.51.100.12:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:80/2",
        ways: &[
            "-",
            "TCP 198.51.100.12:8080 198.51.100.13:8080",
            "TCP 198.51.100.11:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:80/6",
        ways: &[
            "TCP [2001:db8:2::11]:8080",
            "TCP [2001:db8:2::12]:8080 [2001:db8:2::11]:8080",
        ],
    },
    Kind {
        name: "EndpointSlice web:53",
        ways: &[
            "UDP 198.51.100.11:5353",
            "UDP 198.51.100.11:5353 198.51.100.12:5353",
            "UDP 198.51.100.12:5353",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP web",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 loadBalancingMethod=SOURCE_ADDR_HASH snat=SRC_TRANS_AUTOMAP",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 vlans={\"vlanList\":[\"external\"]} serviceDownAction=REJECT",
            "service=web:80 destinationAddress=203.0.113.10 ipv6destinationAddress=2001:db8:f::10 destinationPort=80 idleTimeout=1000000 serviceDownAction=RESELECT loadBalancingMethod=LEAST_CONN_MEMBER",
            "service=web:80 destinationAddress=203.0.113.0/24 ipv6destinationAddress=2001:db8:f::10 destinationPort=0 idleTimeout=1000000 serviceDownAction=DROP",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP auto",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000",
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP serviceDownAction=REJECT vlans={\"vlanList\":[\"external\"]}",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP other",
        ways: &[
            "-",
            "service=web:80 destinationAddress=203.0.113.0/24 destinationPort=0 idleTimeout=1000000",
            "service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
            // What another listens to already.
            "service=web:80 destinationAddress=203.0.113.11 destinationPort=80 idleTimeout=1000000",
        ],
    },
    Kind {
        name: "F5SPKIngressUDP dns",
        ways: &[
            "service=web:53 destinationAddress=203.0.113.10 destinationPort=53 idleTimeout=1000000",
            "service=web:53 destinationAddress=203.0.113.10 destinationPort=53 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP",
            "service=web:53 destinationAddress=203.0.113.10 destinationPort=53 idleTimeout=1000000 serviceDownAction=RESELECT",
        ],
    },
    Kind {
        name: "F5SPKStaticRoute far",
        ways: &[
            "-",
            "destination=10.9.0.0 prefixLen=16 type=gateway gateway=198.51.100.12",
            "destination=10.9.0.0 prefixLen=16 type=gateway gateway=192.0.2.254",
            "destination=10.0.0.0 prefixLen=8 type=gateway gateway=198.51.100.13",
        ],
    },
];

/// Client, what it asks for, and by which protocol.
const ASKED: [(&str, &str, bool); 4] = [
    ("192.0.2.7", "203.0.113.10:80", false),
    ("192.0.2.8", "203.0.113.11:80", false),
    ("[2001:db8:1::7]", "[2001:db8:f::10]:80", false),
    ("192.0.2.9", "203.0.113.10:53", true),
];

#[derive(Debug, Clone)]
enum Step {
    /// A client begins: which, from which port.
    Open(usize, u16),
    /// All flows exchange data.
    Talk,
    /// Seconds pass.
    Wait(u8),
    /// Objects become another way each, or go (where there is no such way), all at once and in this order.
    Configure(Vec<(usize, usize)>),
    /// An object is deleted, and another of its name created at once.
    Recreate(usize),
    /// The feeder lists everything anew.
    Resync,
}

fn step() -> impl Strategy<Value = Step> {
    let change = || (0..KINDS.len(), 0..6usize);
    prop_oneof![
        5 => (0..ASKED.len(), 0..40u16).prop_map(|(asked, port)| Step::Open(asked, port)),
        3 => Just(Step::Talk),
        1 => (1..20u8).prop_map(Step::Wait),
        4 => change().prop_map(|one| Step::Configure(vec![one])),
        2 => prop::collection::vec(change(), 2..6).prop_map(Step::Configure),
        1 => (0..KINDS.len()).prop_map(Step::Recreate),
        1 => Just(Step::Resync),
    ]
}

/// What is configured now: by object, which of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World([Option<usize>; KINDS.len()]);

impl World {
    fn new() -> Self {
        Self(std::array::from_fn(|kind| {
            (KINDS[kind].ways[0] != "-").then_some(0)
        }))
    }

    /// How the object of that name is.
    fn way(&self, name: &str) -> Option<&'static str> {
        let kind = KINDS.iter().position(|kind| kind.name == name).unwrap();
        self.0[kind].map(|way| KINDS[kind].ways[way])
    }

    /// The value of a field of an object, empty if it says nothing; `None` if there is no such object.
    fn field(&self, name: &str, key: &str) -> Option<&'static str> {
        let mut words = self.way(name)?.split(' ');
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some(found.unwrap_or(""))
    }

    /// Whether a member is an endpoint, and whether it is a ready one.
    fn endpoint(&self, member: &str, udp: bool) -> Option<bool> {
        let service = self.way("Service web")?;
        let tcp = [
            "EndpointSlice web",
            "EndpointSlice web:80/2",
            "EndpointSlice web:80/6",
        ];
        let (port, slices) = if udp {
            ("53/UDP", &["EndpointSlice web:53"][..])
        } else {
            ("80/TCP", &tcp[..])
        };
        if !service.split(' ').any(|word| word == port) {
            return None;
        }
        let listed = slices.iter().filter_map(|slice| {
            let (mut ready, way) = (true, self.way(slice)?);
            way.split(' ').find_map(|word| {
                ready &= word != "not-ready";
                (word == member).then_some(ready)
            })
        });
        listed.reduce(|one, other| one || other)
    }

    /// Whether what the flow needs is as it was.
    fn is_unchanged(&self, before: &Self, flow: &Flow) -> bool {
        let server = flow.virtual_server.as_str();
        let Some(action) = self.field(server, "serviceDownAction") else {
            return false;
        };
        // An object whose destination is another's now serves something else.
        let same = |name: &str, key: &str| self.field(name, key) == before.field(name, key);
        if !(same(server, "destinationAddress") && same(server, "destinationPort")) {
            return false;
        }
        let wired = ["F5SPKVlan external", "F5SPKVlan internal"]
            .iter()
            .all(|vlan| self.way(vlan).is_some() && same(vlan, "tag") && same(vlan, "interfaces"));
        let sourced = flow.source == flow.client
            || (same("F5SPKVlan internal", "selfip_v4s")
                && same("F5SPKVlan internal", "selfip_v6s"));
        let served = match (self.endpoint(&flow.member, flow.udp), action) {
            (Some(true), _) => true,
            (Some(false), action) => action.is_empty(),
            (None, action) => action.is_empty() && !flow.udp,
        };
        wired && sourced && served
    }
}

/// A flow as its two ends see it.
#[derive(Debug, Clone)]
struct Flow {
    client: String,
    server: String,
    source: String,
    member: String,
    virtual_server: String,
    udp: bool,
    /// Nothing that it needs has changed since it was opened.
    unchanged: bool,
}

impl Flow {
    /// The client's packet, as it comes and as it must leave.
    fn there(&self, what: &str) -> (String, String) {
        let proto = if self.udp { "udp" } else { "tcp" };
        let (client, server) = (&self.client, &self.server);
        let (source, member) = (&self.source, &self.member);
        (
            format!("> 1.1 100 client>tmm1 {proto} {client}>{server} {what}"),
            format!("{proto} {source}>{member} {what} ttl=63"),
        )
    }

    /// The member's packet, as it comes and as it must leave.
    fn back(&self, what: &str) -> (String, String) {
        let proto = if self.udp { "udp" } else { "tcp" };
        let (client, server) = (&self.client, &self.server);
        let (source, member) = (&self.source, &self.member);
        (
            format!("> 1.2 200 b1>tmm2 {proto} {member}>{source} {what}"),
            format!("{proto} {server}>{client} {what} ttl=63"),
        )
    }
}

struct History {
    stage: Stage<'static>,
    world: World,
    flows: BTreeMap<(usize, u16), Flow>,
    /// Whose flow was touched: what is left of it, on whichever side, is not the next one's.
    over: BTreeSet<(usize, u16)>,
    uid: u64,
    story: Vec<String>,
}

impl History {
    fn new(workers: usize, nic: &str) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
        let mut history = Self {
            stage: Stage::new(folder),
            world: World::new(),
            flows: BTreeMap::new(),
            over: BTreeSet::new(),
            uid: 0,
            story: Vec::new(),
        };
        history.run(&format!("rig flows=512 workers={workers} nic={nic}"));
        history.run("use base");
        for kind in 0..KINDS.len() {
            history.give(kind);
        }
        history.run("wait 3s");
        history
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let lines = self
            .stage
            .run(line)
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let lies: Vec<&String> = lines.iter().filter(|line| line.contains("! ")).collect();
        assert!(lies.is_empty(), "{line}: {lies:?}");
        lines
    }

    /// Tells of an object as it is in this world, or that it is gone. Every version is of another uid.
    fn give(&mut self, kind: usize) {
        let (name, way) = (KINDS[kind].name, self.world.0[kind]);
        let ways = KINDS[kind].ways;
        let line = format!("{name} {}", ways[way.unwrap_or(ways.len() - 1)]);
        let mut value: Value = object(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
        self.uid += 1;
        value["metadata"]["uid"] = format!("uid-{}", self.uid).into();
        value["metadata"]["generation"] = self.uid.into();
        self.story.push(match way {
            Some(_) => format!("apply {line}"),
            None => format!("delete {name}"),
        });
        let rig = self.stage.rig();
        let done = match way {
            Some(_) => rig.apply(&[value]),
            None => rig.delete(&[value]),
        };
        done.unwrap_or_else(|e| panic!("{line}: {e:?}"));
    }

    fn publish(&mut self, before: &World) {
        self.run("publish");
        let states = self.stage.rig().states().iter();
        let refused: Vec<String> = states
            .filter(|state| state.reason() == "Conflict")
            .map(|state| format!("{} {}", state.key.kind.name(), state.key.name))
            .collect();
        let world = &self.world;
        for flow in self.flows.values_mut() {
            flow.unchanged &= world.is_unchanged(before, flow);
            flow.unchanged &= !refused.contains(&flow.virtual_server);
        }
    }

    /// Nothing waits for a neighbour any longer.
    fn settle(&mut self) {
        self.run("wait 5s");
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open(asked, port) => self.open(*asked, *port),
            Step::Talk => self.talk(),
            Step::Wait(seconds) => {
                self.run(&format!("wait {seconds}s"));
            }
            Step::Configure(changes) => {
                let before = self.world.clone();
                for (kind, way) in changes {
                    let ways = KINDS[*kind].ways;
                    self.world.0[*kind] = (*way < ways.len() && ways[*way] != "-").then_some(*way);
                    self.give(*kind);
                }
                // What was another way in between was never taken up.
                self.publish(&before);
            }
            Step::Recreate(kind) => {
                let before = self.world.clone();
                self.world.0[*kind] = None;
                self.give(*kind);
                self.world = before.clone();
                if self.world.0[*kind].is_some() {
                    self.give(*kind);
                }
                self.publish(&before);
            }
            Step::Resync => {
                let before = self.world.clone();
                for kind in (0..KINDS.len()).rev() {
                    self.give(kind);
                }
                self.publish(&before);
            }
        }
    }

    /// The TCP segments and datagrams that leave because of `line`.
    fn sent(&mut self, line: &str) -> Vec<(String, String)> {
        self.story.push(line.to_owned());
        let lines = self.run(line);
        let sent = lines.iter().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [port @ ("1.1" | "1.2"), _, _, rest @ ("tcp" | "udp"), ..] => {
                    let _ = rest;
                    Some(((*port).to_owned(), words[3..].join(" ")))
                }
                _ => None,
            }
        });
        sent.collect()
    }

    fn open(&mut self, asked: usize, port: u16) {
        let key = (asked, port);
        if self.flows.contains_key(&key) || self.over.contains(&key) {
            return;
        }
        let (client, server, udp) = ASKED[asked];
        let client = format!("{client}:{}", 40_000 + port);
        let (proto, what) = if udp {
            ("udp", "len=4")
        } else {
            ("tcp", "S seq=1")
        };
        let line = format!("> 1.1 100 client>tmm1 {proto} {client}>{server} {what}");
        let sent = self.sent(&line);
        // Refused: fine.
        let Some(flow) = self.flow_of(&client, server, udp) else {
            return;
        };
        // Held for somebody who is not there: fine too.
        if !sent.contains(&("1.2".to_owned(), flow.there(what).1)) {
            self.settle();
            self.over.insert(key);
            return;
        }
        if udp {
            self.must(&flow.back("len=6"), "1.1");
        } else {
            self.must(&flow.back("S. seq=1000 ack=2"), "1.1");
            self.must(&flow.there(". seq=2 ack=1001"), "1.2");
        }
        self.flows.insert((asked, port), flow);
    }

    /// The flow of a client, as the tables have it.
    fn flow_of(&mut self, client: &str, server: &str, udp: bool) -> Option<Flow> {
        let end = |addr: &net::Addr, port: net::L4Port| {
            if addr.is_v4() {
                format!("{addr}:{port}")
            } else {
                format!("[{addr}]:{port}")
            }
        };
        let rig = self.stage.rig();
        for worker in rig.workers() {
            let (pipeline, tables) = (worker.pipeline(), worker.tables());
            for (_, flow) in pipeline.flows().iter_from(Cursor::default(), usize::MAX).0 {
                let (key, after) = (flow.original(), flow.reply().inverted());
                if end(&key.src, key.sport()) != client || end(&key.dst, key.dport()) != server {
                    continue;
                }
                // default/NAME FAMILY
                let listening = tables.virtual_servers.get(flow.data().virtual_server)?;
                let name = listening.name.split(['/', ' ']).nth(1).unwrap();
                let kind = if udp { "UDP" } else { "TCP" };
                return Some(Flow {
                    client: client.to_owned(),
                    server: server.to_owned(),
                    source: end(&after.src, after.sport()),
                    member: end(&after.dst, after.dport()),
                    virtual_server: format!("F5SPKIngress{kind} {name}"),
                    udp,
                    unchanged: true,
                });
            }
        }
        None
    }

    fn must(&mut self, (comes, leaves): &(String, String), by: &str) {
        let sent = self.sent(comes);
        assert!(
            sent == [(by.to_owned(), leaves.clone())],
            "{leaves} did not leave by {by} but {sent:?}, after\n{}",
            self.story.join("\n")
        );
    }

    fn talk(&mut self) {
        for (key, flow) in self.flows.clone() {
            let (there, back) = if flow.udp {
                (flow.there("len=5"), flow.back("len=6"))
            } else {
                (
                    flow.there("P. seq=2 ack=1001 len=5"),
                    flow.back("P. seq=1001 ack=7 len=9"),
                )
            };
            if flow.unchanged {
                self.must(&there, "1.2");
                self.must(&back, "1.1");
                continue;
            }
            // A datagram may open a flow to another member; a segment reaches its own or nobody's.
            for (by, packet) in [("1.2", &there), ("1.1", &back)] {
                let sent = self.sent(&packet.0);
                self.settle();
                for sent in sent {
                    let is_reset = sent
                        .1
                        .split(' ')
                        .nth(2)
                        .is_some_and(|flags| flags.starts_with('R'));
                    let right = sent == (by.to_owned(), packet.1.clone());
                    assert!(
                        flow.udp || is_reset || right,
                        "{flow:?} {sent:?} after\n{}",
                        self.story.join("\n")
                    );
                }
            }
            // What is left of it is over.
            if !flow.udp {
                self.sent(&flow.there("R. seq=7 ack=1010").0);
                self.sent(&flow.back("R. seq=1010 ack=7").0);
            }
            self.flows.remove(&key);
            self.over.insert(key);
            self.run("wait 10s");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flow_of_an_unchanged_virtual_server_and_member_is_ever_touched(
        workers in prop_oneof![2 => Just(1), 1 => Just(2), 2 => Just(4)],
        nic in prop::sample::select(vec!["tuple", "source", "destination", "turns", "one-queue"]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut history = History::new(workers, nic);
        for step in &steps {
            history.step(step);
        }
        history.talk();
    }
}

/// The property must have something to say: flows are opened, go on, and are touched.
#[test]
fn histories_have_flows_of_all_sorts() {
    let mut history = History::new(1, "tuple");
    for asked in 0..ASKED.len() {
        history.step(&Step::Open(asked, 1));
    }
    assert_eq!(history.flows.len(), 4, "{:?}", history.story);
    history.step(&Step::Talk);
    // Fields of the virtual server change, and its members: all go on.
    history.step(&Step::Configure(vec![
        (8, 1),
        (9, 1),
        (4, 2),
        (0, 3),
        (12, 1),
    ]));
    assert!(history.flows.values().all(|flow| flow.unchanged));
    history.step(&Step::Talk);
    // A virtual server goes, and comes back: its flow is touched, and no other.
    history.step(&Step::Configure(vec![(9, 9)]));
    history.step(&Step::Configure(vec![(9, 0)]));
    let touched: Vec<_> = history
        .flows
        .iter()
        .filter(|(_, flow)| !flow.unchanged)
        .collect();
    assert_eq!(touched.len(), 1, "{touched:?}");
    history.step(&Step::Talk);
    assert_eq!(history.flows.len(), 3);
    // Deleted and created anew before it was taken up.
    history.step(&Step::Recreate(8));
    history.step(&Step::Recreate(4));
    history.step(&Step::Resync);
    assert!(history.flows.values().all(|flow| flow.unchanged));
    history.step(&Step::Talk);
}
