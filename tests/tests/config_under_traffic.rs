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
//!   and an address that its source was translated to is a self IP or in the SNAT pool still;
//!   of a flow out of the cluster, which has no member, the VLAN it began on is an internal one.
//!   A flow of `datagramLoadBalancing` has a member for each datagram, so nothing is said of it.
//! - **No other flow goes astray**: a segment in the middle of a connection reaches the member that it belongs to, or is
//!   refused, or is dropped. It never reaches another member.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conntrack::{Cursor, State};
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
const KINDS: [Kind; 20] = [
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
        ways: &[
            "80/TCP 53/UDP 38412/SCTP 3868/TCP",
            "80/TCP 53/UDP 38412/SCTP 3868/TCP 443/TCP",
            "80/TCP",
        ],
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
            "service=web:80 destinationAddress=0.0.0.0/0 destinationPort=0 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP vlans={\"vlanList\":[\"external\"]}",
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
            "service=web:53 destinationAddress=203.0.113.10 destinationPort=53 idleTimeout=1000000 datagramLoadBalancing=true unrepliedTimeout=9",
            "service=web:53 destinationAddress=203.0.113.10 destinationPort=53 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool connectionLimit=2",
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
    Kind {
        name: "F5SPKSnatpool pool",
        ways: &[
            "addressList=[\"198.51.100.50\",\"192.0.2.50\"]",
            "addressList=[\"198.51.100.50\",\"198.51.100.51\",\"192.0.2.50\",\"192.0.2.51\"]",
            "addressList=[\"198.51.100.51\",\"192.0.2.51\"]",
        ],
    },
    Kind {
        name: "F5SPKIngressTCP pooled",
        ways: &[
            "service=web:80 destinationAddress=203.0.113.12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool",
            "service=web:80 destinationAddress=203.0.113.12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=nobody",
            "service=web:80 destinationAddress=203.0.113.12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP connectionLimit=2 clientConnectionLimit=1",
            "service=web:80 destinationAddress=203.0.113.12 destinationPort=80 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool synProtectionThreshold=1 resetOnTimeout=true looseInitialization=true tcpHandshakeTimeout=1",
        ],
    },
    Kind {
        name: "EndpointSlice web:38412",
        ways: &[
            "SCTP 198.51.100.11:38412",
            "SCTP 198.51.100.11:38412 198.51.100.12:38412",
            "SCTP not-ready 198.51.100.11:38412",
        ],
    },
    Kind {
        name: "F5SPKIngressNGAP amf",
        ways: &[
            "service=web:38412 destinationAddress=203.0.113.20 idleTimeout=1000000",
            "service=web:38412 destinationAddress=203.0.113.20 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP loadBalancingMethod=LEAST_CONN_MEMBER",
            "service=web:38412 destinationAddress=203.0.113.20 idleTimeout=1000000 snat=SRC_TRANS_SNATPOOL snatpool=pool serviceDownAction=REJECT",
        ],
    },
    Kind {
        name: "EndpointSlice web:3868",
        ways: &[
            "TCP 198.51.100.12:3868",
            "TCP 198.51.100.12:3868 198.51.100.13:3868",
        ],
    },
    Kind {
        name: "F5SPKIngressDiameter hss",
        ways: &[
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 idleTimeout=1000000",
            "service=web:3868 externalTCP.destinationAddress=203.0.113.30 idleTimeout=1000000 snat=SRC_TRANS_AUTOMAP loadBalancingMethod=SOURCE_ADDR_HASH",
        ],
    },
    Kind {
        name: "F5SPKEgress away",
        ways: &[
            "snatType=SRC_TRANS_AUTOMAP tcpIdleTimeout=1000000",
            "egressSnatpool=pool tcpIdleTimeout=1000000",
            "egressSnatpool=pool natMapping=ENDPOINT_INDEPENDENT tcpIdleTimeout=1000000",
            "snatType=SRC_TRANS_NONE dualStackEnabled=true tcpIdleTimeout=1000000",
        ],
    },
];

/// A protocol, and what its packets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proto {
    Tcp,
    Udp,
    Sctp,
}

impl Proto {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// What opens a flow.
    const fn opening(self) -> &'static str {
        match self {
            Self::Tcp => "S seq=1",
            Self::Udp => "len=4",
            Self::Sctp => "tag=0 INIT:init=7",
        }
    }

    /// What follows until it is open; the member begins.
    const fn handshake(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["S. seq=1000 ack=2", ". seq=2 ack=1001"],
            Self::Udp => &["len=6"],
            Self::Sctp => &[
                "tag=7 INIT-ACK:init=9",
                "tag=9 COOKIE-ECHO:len=30",
                "tag=7 COOKIE-ACK",
            ],
        }
    }

    /// Data of the client's and of the member's.
    const fn data(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["P. seq=2 ack=1001 len=5", "P. seq=1001 ack=7 len=9"],
            Self::Udp => ["len=5", "len=6"],
            Self::Sctp => ["tag=9 DATA:len=20", "tag=7 DATA:len=24"],
        }
    }

    /// What ends it at once, from either.
    const fn reset(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Tcp => Some(["R. seq=7 ack=1010", "R. seq=1010 ack=7"]),
            Self::Udp => None,
            Self::Sctp => Some(["tag=9 ABORT", "tag=7 ABORT"]),
        }
    }
}

/// Client, what it asks for, and by which protocol. The last one is out of the cluster.
const ASKED: [(&str, &str, Proto); 8] = [
    ("192.0.2.7", "203.0.113.10:80", Proto::Tcp),
    ("192.0.2.8", "203.0.113.11:80", Proto::Tcp),
    ("[2001:db8:1::7]", "[2001:db8:f::10]:80", Proto::Tcp),
    ("192.0.2.9", "203.0.113.10:53", Proto::Udp),
    ("192.0.2.8", "203.0.113.12:80", Proto::Tcp),
    ("192.0.2.10", "203.0.113.20:38412", Proto::Sctp),
    ("192.0.2.10", "203.0.113.30:3868", Proto::Tcp),
    ("198.51.100.11", "192.0.2.77:443", Proto::Tcp),
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
    fn endpoint(&self, flow: &Flow) -> Option<bool> {
        let service = self.way("Service web")?;
        let (port, slices): (_, &[&str]) = match flow.proto {
            Proto::Udp => ("53/UDP", &["EndpointSlice web:53"]),
            Proto::Sctp => ("38412/SCTP", &["EndpointSlice web:38412"]),
            Proto::Tcp if flow.virtual_server.starts_with("F5SPKIngressDiameter") => {
                ("3868/TCP", &["EndpointSlice web:3868"])
            }
            Proto::Tcp => (
                "80/TCP",
                &[
                    "EndpointSlice web",
                    "EndpointSlice web:80/2",
                    "EndpointSlice web:80/6",
                ],
            ),
        };
        if !service.split(' ').any(|word| word == port) {
            return None;
        }
        let listed = slices.iter().filter_map(|slice| {
            let (mut ready, way) = (true, self.way(slice)?);
            way.split(' ').find_map(|word| {
                ready &= word != "not-ready";
                (word == flow.member).then_some(ready)
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
        let sourced = flow.source == flow.client || self.owns(&flow.source);
        let served = if flow.is_outward() {
            self.field("F5SPKVlan internal", "internal") == Some("true")
        } else {
            match self.endpoint(flow) {
                Some(true) => true,
                Some(false) => action.is_empty(),
                None => action.is_empty() && flow.proto == Proto::Tcp,
            }
        };
        wired && sourced && served
    }
}

impl World {
    /// Whether the address of `end` is one that sources are translated to.
    fn owns(&self, end: &str) -> bool {
        let (addr, _) = end.rsplit_once(':').unwrap();
        let quoted = format!("\"{}\"", addr.trim_matches(['[', ']']));
        [
            "F5SPKVlan external",
            "F5SPKVlan internal",
            "F5SPKSnatpool pool",
        ]
        .iter()
        .any(|name| self.way(name).is_some_and(|way| way.contains(&quoted)))
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
    proto: Proto,
    /// Nothing that it needs has changed since it was opened.
    unchanged: bool,
}

impl Flow {
    /// Out of the cluster.
    fn is_outward(&self) -> bool {
        self.virtual_server.starts_with("F5SPKEgress")
    }

    /// The ports and VLANs of the client's side and of the member's, with the stations there.
    fn sides(&self) -> [(&'static str, &'static str); 2] {
        let sides = [("1.1", "100 client>tmm1"), ("1.2", "200 b1>tmm2")];
        if self.is_outward() {
            [sides[1], ("1.1", "100 gw>tmm1")]
        } else {
            sides
        }
    }

    /// The client's packet as it comes, as it must leave, and by which port.
    fn there(&self, what: &str) -> (String, String, &'static str) {
        let (proto, [(port, way), (by, _)]) = (self.proto.name(), self.sides());
        let (client, server) = (&self.client, &self.server);
        let (source, member) = (&self.source, &self.member);
        (
            format!("> {port} {way} {proto} {client}>{server} {what}"),
            format!("{proto} {source}>{member} {what} ttl=63"),
            by,
        )
    }

    /// The member's packet as it comes, as it must leave, and by which port.
    fn back(&self, what: &str) -> (String, String, &'static str) {
        let (proto, [(by, _), (port, way)]) = (self.proto.name(), self.sides());
        let (client, server) = (&self.client, &self.server);
        let (source, member) = (&self.source, &self.member);
        (
            format!("> {port} {way} {proto} {member}>{source} {what}"),
            format!("{proto} {server}>{client} {what} ttl=63"),
            by,
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
        history.run("station gw 1.1 100 192.0.2.77");
        history.run("> 1.1 100 gw>all arp who-has 192.0.2.1 tell 192.0.2.77");
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
                [port @ ("1.1" | "1.2"), _, _, "tcp" | "udp" | "sctp", ..] => {
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
        let (client, server, proto) = ASKED[asked];
        let outward = client.starts_with("198.");
        let client = format!("{client}:{}", 40_000 + port);
        let from = if outward {
            "1.2 200 b1>tmm2"
        } else {
            "1.1 100 client>tmm1"
        };
        let line = format!(
            "> {from} {} {client}>{server} {}",
            proto.name(),
            proto.opening()
        );
        let sent = self.sent(&line);
        // Refused: fine.
        let Some(flow) = self.flow_of(&client, server, proto) else {
            return;
        };
        // Held for somebody who is not there: fine too.
        let (_, leaves, by) = flow.there(proto.opening());
        if !sent.contains(&(by.to_owned(), leaves)) {
            self.settle();
            self.over.insert(key);
            return;
        }
        for (turn, what) in proto.handshake().iter().enumerate() {
            self.must(&if turn % 2 == 0 {
                flow.back(what)
            } else {
                flow.there(what)
            });
        }
        self.flows.insert((asked, port), flow);
    }

    /// The flow of a client, as the tables have it.
    fn flow_of(&mut self, client: &str, server: &str, proto: Proto) -> Option<Flow> {
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
                let kind = KINDS.iter().find(|kind| {
                    let words = kind.name.split_once(' ').unwrap();
                    let serves = ["F5SPKIngress", "F5SPKEgress"];
                    words.1 == name && serves.iter().any(|kind| words.0.starts_with(kind))
                });
                return Some(Flow {
                    client: client.to_owned(),
                    server: server.to_owned(),
                    source: end(&after.src, after.sport()),
                    member: end(&after.dst, after.dport()),
                    virtual_server: kind.unwrap().name.to_owned(),
                    proto,
                    unchanged: flow.state() != State::Datagrams,
                });
            }
        }
        None
    }

    fn must(&mut self, (comes, leaves, by): &(String, String, &str)) {
        let sent = self.sent(comes);
        assert!(
            sent == [((*by).to_owned(), leaves.clone())],
            "{leaves} did not leave by {by} but {sent:?}, after\n{}",
            self.story.join("\n")
        );
    }

    fn talk(&mut self) {
        for (key, flow) in self.flows.clone() {
            let [there, back] = flow.proto.data();
            let (there, back) = (flow.there(there), flow.back(back));
            if flow.unchanged {
                self.must(&there);
                self.must(&back);
                continue;
            }
            // A datagram may open a flow to another member; a segment reaches its own or nobody's.
            for (comes, leaves, by) in [there, back] {
                let right = (by.to_owned(), leaves);
                let sent = self.sent(&comes);
                self.settle();
                for sent in sent {
                    let mut words = sent.1.split(' ').skip(2);
                    let is_reset = match flow.proto {
                        Proto::Tcp => words.next().is_some_and(|flags| flags.starts_with('R')),
                        Proto::Sctp => words.any(|word| word.starts_with("ABORT")),
                        Proto::Udp => true,
                    };
                    assert!(
                        is_reset || sent == right,
                        "{flow:?} {sent:?} after\n{}",
                        self.story.join("\n")
                    );
                }
            }
            // What is left of it is over.
            if let Some([there, back]) = flow.proto.reset() {
                self.sent(&flow.there(there).0);
                self.sent(&flow.back(back).0);
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
    assert_eq!(history.flows.len(), ASKED.len(), "{:?}", history.story);
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
    assert_eq!(history.flows.len(), ASKED.len() - 1);
    // Deleted and created anew before it was taken up.
    history.step(&Step::Recreate(8));
    history.step(&Step::Recreate(4));
    history.step(&Step::Resync);
    assert!(history.flows.values().all(|flow| flow.unchanged));
    history.step(&Step::Talk);
}
