//! A history: what is done, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conntrack::{Cursor, State};
use proptest::prelude::*;
use serde_json::Value;
use tests::scenario::{Stage, object};

use super::flows::{ASKED, Asked, CLIENTS, Flow, OTHERS, OUTSIDE, Passage};
use super::objects::KINDS;
use super::protocols::{Proto, split};
use super::world::{Endpoint, World};

#[derive(Debug, Clone)]
pub enum Step {
    /// A client begins: which, from which port.
    Open(usize, u16),
    /// All flows exchange data.
    Talk,
    /// A client resets its connection: which.
    Close(usize),
    /// Somebody who was never sent to sends to the port of a client that is mapped: which.
    Stranger(usize),
    /// A client sends to the port that another, or it itself, is mapped to: which.
    Hairpin(usize),
    /// Seconds pass.
    Wait(u8),
    /// Objects become another way each, or go (where there is no such way), all at once and in this order.
    Configure(Vec<(usize, usize)>),
    /// An object is deleted, and another of its name created at once.
    Recreate(usize),
    /// The feeder lists everything anew.
    Resync,
}

pub fn step() -> impl Strategy<Value = Step> {
    let change = || (0..KINDS.len(), 0..8usize);
    prop_oneof![
        8 => (0..ASKED.len(), 0..20u16).prop_map(|(asked, port)| Step::Open(asked, port)),
        3 => Just(Step::Talk),
        1 => (0..100usize).prop_map(Step::Close),
        1 => (0..100usize).prop_map(Step::Stranger),
        2 => (0..100usize).prop_map(Step::Hairpin),
        1 => (1..20u8).prop_map(Step::Wait),
        4 => change().prop_map(|one| Step::Configure(vec![one])),
        2 => prop::collection::vec(change(), 2..6).prop_map(Step::Configure),
        1 => (0..KINDS.len()).prop_map(Step::Recreate),
        1 => Just(Step::Resync),
    ]
}

/// A frame that left: by which port, and what it was.
type Sent = (String, String);

pub struct History {
    pub stage: Stage<'static>,
    pub world: World,
    pub flows: BTreeMap<(usize, u16), Flow>,
    /// Whose flow was touched: what is left of it, on whichever side, is not the next one's.
    pub over: BTreeSet<(usize, u16)>,
    uid: u64,
    frames: u16,
    pub story: Vec<String>,
}

impl History {
    pub fn new(workers: usize, nic: &str, straight: bool) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
        let mut history = Self {
            stage: Stage::new(folder),
            world: World::new(),
            flows: BTreeMap::new(),
            over: BTreeSet::new(),
            uid: 0,
            frames: 0,
            story: Vec::new(),
        };
        let straight = if straight { "yes" } else { "no" };
        history.run(&format!(
            "rig flows=512 workers={workers} nic={nic} ports=4 straight={straight}"
        ));
        history.run("use base");
        for kind in 0..KINDS.len() {
            history.give(kind);
        }
        history.run("wait 3s");
        for line in [
            "station client 1.1 100 192.0.2.7 192.0.2.8 192.0.2.9 192.0.2.10 2001:db8:1::7",
            "station client2 1.3 110 192.0.9.7",
            "station gw 1.1 100 192.0.2.77 192.0.2.78 192.0.2.99 2001:db8:1::77 2001:db8:1::99",
            "> 1.1 100 gw>all arp who-has 192.0.2.1 tell 192.0.2.77",
            "> 1.1 100 client>all arp who-has 192.0.2.1 tell 192.0.2.7",
            "> 1.3 110 client2>all arp who-has 192.0.9.1 tell 192.0.9.7",
        ] {
            history.run(line);
        }
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
            let needs = [&flow.virtual_server, flow.from.vlan, flow.to().vlan];
            let refused = needs
                .iter()
                .any(|name| refused.iter().any(|refused| refused == name));
            flow.unchanged &= world.is_unchanged(before, flow) && !refused;
        }
    }

    /// Nothing waits for a neighbour any longer.
    fn settle(&mut self) {
        self.run("wait 5s");
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Open(asked, port) => {
                // Few ports of those who may share mappings, so that they do.
                let port = if ASKED[*asked].outward() {
                    port % 6
                } else {
                    *port
                };
                self.open(*asked, port);
                if let Some(also) = ASKED[*asked].also {
                    self.open(also, port);
                }
            }
            Step::Talk => self.talk(),
            Step::Close(which) => self.close(*which),
            Step::Stranger(which) => self.stranger(*which),
            Step::Hairpin(which) => drop(self.hairpin(*which)),
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

    /// The packets of flows that leave because of `line`.
    pub fn sent(&mut self, line: &str) -> Vec<Sent> {
        self.story.push(line.to_owned());
        let lines = self.run(line);
        let sent = lines.iter().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [
                    port @ ("1.1" | "1.2" | "1.3" | "1.4"),
                    _,
                    _,
                    "tcp" | "udp" | "sctp" | "echo" | "echo-reply" | "icmp" | "piece",
                    ..,
                ] => {
                    // Fragments get another identification.
                    let words = words[3..].iter().copied();
                    let words: Vec<&str> = words.filter(|word| !word.starts_with("fid=")).collect();
                    Some(((*port).to_owned(), words.join(" ")))
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
        let asked = &ASKED[asked];
        let proto = asked.proto;
        let client = format!("{}:{}", asked.client, 40_000 + port);
        let server = match proto {
            Proto::Echo => format!("{}:{}", asked.server, 40_000 + port),
            _ => asked.server.to_owned(),
        };
        let line = format!(
            "> {} {} {}",
            asked.from.port,
            asked.from.way,
            proto.packet(&client, &server, true, proto.opening())
        );
        let sent = self.sent(&line);
        // Refused: fine.
        let Some(flow) = self.flow_of(&client, &server, asked) else {
            return;
        };
        // Held for somebody who is not there: fine too.
        let passage = flow.there(proto.opening());
        if !self.went(&passage, &sent) {
            self.settle();
            self.over.insert(key);
            return;
        }
        if self.is_doubled(&flow) {
            self.over.insert(key);
            return;
        }
        self.is_right(&flow);
        for (turn, what) in proto.handshake().iter().enumerate() {
            self.must(&if turn % 2 == 0 {
                flow.back(what)
            } else {
                flow.there(what)
            });
        }
        self.flows.insert(key, flow);
    }

    /// What must hold of a flow that was opened just now.
    fn is_right(&self, flow: &Flow) {
        let story = || self.story.join("\n");
        if !flow.is_outward() {
            let endpoint = self.world.endpoint(flow);
            assert!(
                endpoint == Some(Endpoint::Ready),
                "{flow:?} has a member that is {endpoint:?}, after\n{}",
                story()
            );
        }
        for other in self.flows.values().filter(|other| other.unchanged) {
            let same = other.proto == flow.proto && other.client == flow.client;
            // By the pool and by automap it has a mapping each.
            let pooled = [other, flow].map(|flow| self.world.is_pooled(&flow.source));
            if other.mapped && flow.mapped && same && pooled[0] == pooled[1] {
                assert!(
                    other.source == flow.source,
                    "{flow:?} and {other:?} are of one mapping, after\n{}",
                    story()
                );
            }
            let taken = other.source == flow.source && other.proto == flow.proto;
            assert!(
                !(other.mapped && taken && !same),
                "{flow:?} has the port of the mapping of {other:?}, after\n{}",
                story()
            );
        }
    }

    /// The flow of a client, as the tables have it.
    fn flow_of(&mut self, client: &str, server: &str, asked: &Asked) -> Option<Flow> {
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
                if !asked.proto.numbers().contains(&key.proto)
                    || end(&key.src, key.sport()) != client
                    || end(&key.dst, key.dport()) != server
                {
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
                let virtual_server = kind.unwrap().name.to_owned();
                let keeps = self.world.keeps(&virtual_server, asked.proto);
                let (mapped, _) = self.world.mapping(&virtual_server);
                return Some(Flow {
                    client: client.to_owned(),
                    server: server.to_owned(),
                    source: end(&after.src, after.sport()),
                    member: end(&after.dst, after.dport()),
                    virtual_server,
                    proto: asked.proto,
                    from: asked.from,
                    mapped: mapped && asked.outward(),
                    unchanged: flow.state() != State::Datagrams && keeps,
                });
            }
        }
        None
    }

    /// Whether what left is what must.
    fn went(&self, passage: &Passage, sent: &[Sent]) -> bool {
        let ports = self.world.ports(passage.by);
        matches!(sent, [(port, left)] if ports.contains(&port.as_str()) && *left == passage.leaves)
    }

    fn must(&mut self, passage: &Passage) {
        let comes = self.by_either_link(&passage.comes);
        let sent = self.sent(&comes);
        assert!(
            self.went(passage, &sent),
            "{} did not leave by {:?} but {sent:?}, after\n{}",
            passage.leaves,
            self.world.ports(passage.by),
            self.story.join("\n")
        );
    }

    /// A frame as it comes: where there are two links, by either.
    fn by_either_link(&mut self, line: &str) -> String {
        self.frames = self.frames.wrapping_add(1);
        let sides = [CLIENTS, OTHERS];
        let side = sides.into_iter().find(|side| {
            line.starts_with(&format!("> {} ", side.port)) && self.world.ports(*side).len() > 1
        });
        match side {
            Some(side) if self.frames.is_multiple_of(2) => line.replacen(side.port, side.second, 1),
            _ => line.to_owned(),
        }
    }

    pub fn talk(&mut self) {
        for (key, flow) in self.flows.clone() {
            let [there, back] = flow.proto.data();
            let passages = [flow.there(there), flow.back(back)];
            if flow.unchanged {
                for passage in passages.iter().chain(&flow.error()) {
                    self.must(passage);
                }
                if flow.proto == Proto::Udp {
                    for piece in flow.in_pieces(self.frames.into()) {
                        self.must(&piece);
                    }
                }
                continue;
            }
            // A datagram may open a flow to another member; a segment reaches its own or nobody's.
            for passage in passages {
                let sent = self.sent(&passage.comes);
                self.settle();
                let datagrams = matches!(flow.proto, Proto::Udp | Proto::Echo);
                for sent in sent.iter().filter(|_| !datagrams) {
                    let words = sent.1.split(' ');
                    let mut rest = words.clone();
                    rest.nth(1);
                    let is_error = words.clone().next() == Some("icmp");
                    assert!(
                        is_error
                            || flow.proto.is_reset(rest)
                            || self.went(&passage, std::slice::from_ref(sent)),
                        "{flow:?} {sent:?} after\n{}",
                        self.story.join("\n")
                    );
                }
            }
            // What is left of it is over.
            if let Some([there, back]) = flow.proto.reset() {
                self.sent(&flow.there(there).comes);
                self.sent(&flow.back(back).comes);
            }
            self.flows.remove(&key);
            self.over.insert(key);
            self.run("wait 10s");
        }
    }

    fn close(&mut self, which: usize) {
        let open = self.flows.iter();
        let mut open = open.filter(|(_, flow)| flow.unchanged && flow.proto.reset().is_some());
        let count = open.clone().count().max(1);
        let Some((key, flow)) = open.nth(which % count) else {
            return;
        };
        let (key, flow) = (*key, flow.clone());
        let ([there, back], reset) = (flow.proto.data(), flow.proto.reset());
        self.must(&flow.there(there));
        self.must(&flow.back(back));
        self.must(&flow.there(reset.unwrap()[0]));
        self.flows.remove(&key);
        // Its tuple is anybody's then.
        self.run("wait 10s");
    }

    /// Only where everybody is let in, somebody is that was never sent to.
    fn stranger(&mut self, which: usize) {
        let mapped = self.flows.values();
        let mut mapped =
            mapped.filter(|flow| flow.mapped && flow.unchanged && flow.proto == Proto::Udp);
        let count = mapped.clone().count().max(1);
        let Some(flow) = mapped.nth(which % count).cloned() else {
            return;
        };
        self.frames = self.frames.wrapping_add(1);
        let addr = if flow.is_v6() {
            "[2001:db8:1::99]"
        } else {
            "192.0.2.99"
        };
        let stranger = format!("{addr}:{}", 1024 + self.frames);
        let packet = |to: &str| Proto::Udp.packet(&stranger, to, true, "len=3");
        let line = format!(
            "> {} {} {}",
            OUTSIDE.port,
            OUTSIDE.way,
            packet(&flow.source)
        );
        let passage = Passage {
            comes: line.clone(),
            leaves: format!("{} ttl=63", packet(&flow.client)),
            by: flow.from,
        };
        if self.world.mapping(&flow.virtual_server) == (true, true) {
            self.must(&passage);
            return;
        }
        let sent = self.sent(&line);
        let client = split(&flow.client).0;
        assert!(
            !sent.iter().any(|(_, left)| left.contains(client)),
            "{sent:?} came from nobody, after\n{}",
            self.story.join("\n")
        );
    }
}
