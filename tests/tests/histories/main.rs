//! Random histories of connections, noise, time and configuration: whatever happens around it, an
//! established connection keeps its member and its port, and every frame is counted once.
#![allow(clippy::unwrap_used, clippy::panic)]

mod orders;
mod parts;

use std::collections::BTreeMap;
use std::path::Path;

use dataplane::worker::Worker;
use parts::{BASE, NOISE, PARTS, SERVERS, VLANS, Wiring};
use proptest::prelude::*;
use tests::scenario::Stage;

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

/// A connection as its two ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    client: String,
    server: String,
    /// What the member sees as its client, and the member itself.
    source: String,
    member: String,
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
        let c = connection;
        let line = format!(
            "> 1.1 100 client>tmm1 tcp {}>{} {segment}",
            c.client, c.server
        );
        self.reaches(&line, "1.2", format!("{}>{}", c.source, c.member), segment);
    }

    /// A segment of the member must reach the client from the address it connected to.
    fn member_says(&mut self, connection: &Connection, segment: &str) {
        let c = connection;
        let line = format!("> 1.2 200 b1>tmm2 tcp {}>{} {segment}", c.member, c.source);
        self.reaches(&line, "1.1", format!("{}>{}", c.server, c.client), segment);
    }

    /// What comes in must leave by `port`, between the ends that are given, and nothing else.
    fn reaches(&mut self, line: &str, port: &str, ends: String, segment: &str) {
        let expected = (port.to_owned(), ends, format!("{segment} ttl=63"));
        assert_eq!(self.segments(line), [expected], "{line}");
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
