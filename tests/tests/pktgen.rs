//! The generator as a library: traffic through tmm in memory, with every frame verified on both sides.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // its helpers are part of the tests

mod pktgen_support;

use std::time::Duration;

use benches::pktgen::client::{Job, Swap};
use benches::pktgen::flows::Proto;
use benches::pktgen::link::{Burst, Link, MemoryLink};
use benches::pktgen::mix::Mix;
use benches::pktgen::report::{Report, Run, Test, Verdict};
use benches::pktgen::search::SearchConfig;
use benches::pktgen::session::{Session, SessionError, Timing, World};
use benches::pktgen::setup::Mode;
use benches::pktgen::trial::{Order, Trial};
use net::{PortId, Timestamp};
use pktgen_support::{InMemory, rig, session, setup};

fn order(job: Job, rate: f64, millis: u64) -> Order {
    Order {
        phase: "test".to_owned(),
        job,
        rate: Some(rate),
        duration: Duration::from_millis(millis),
    }
}

/// Everything that can go wrong has not, and something happened at all.
fn ensure_flawless(trial: &Trial, samples: &[&[String]], what: &str) {
    assert!(trial.sent > 1000, "{what}: {trial:#?}");
    assert_eq!(
        (trial.received, trial.lost),
        (trial.sent, 0),
        "{what}: {trial:#?}"
    );
    assert_eq!(trial.faulty, 0, "{what}: {samples:#?}");
    for counters in [&trial.client, &trial.server] {
        let odd = counters.duplicates
            + counters.reordered
            + counters.late
            + counters.resets
            + counters.failed
            + counters.icmp;
        assert_eq!(odd, 0, "{what}: {trial:#?}");
    }
}

#[test]
fn every_frame_comes_back_translated_as_it_should() {
    for snat in ["SRC_TRANS_AUTOMAP", "SRC_TRANS_NONE"] {
        for proto in [Proto::Udp, Proto::Tcp] {
            for mix in [Mix::fixed(64), Mix::imix()] {
                let what = format!("{proto} {snat} {mix}");
                let setup = setup(proto, snat, 400, mix);
                let mut session = session(&setup, rig(false, snat));
                let opening = session.open().unwrap();
                assert_eq!(opening.open, 400, "{what}");
                let trial = session.trial(&order(Job::Data, 200_000.0, 20));
                let engine = session.engine();
                let samples = [
                    engine.client().samples().lines(),
                    engine.server().samples().lines(),
                ];
                ensure_flawless(&trial, &samples, &what);
                assert_eq!(trial.server.received, trial.sent, "{what}");
                // A turn there and a turn back.
                assert!(trial.latency.p50_ns >= 2000, "{what}: {:?}", trial.latency);
                if proto == Proto::Tcp {
                    assert_eq!(session.close(), 400, "{what}");
                    assert_eq!(session.engine().client().open_flows(), 0, "{what}");
                }
                // Once more, with other sizes: what is open stays so, what was closed opens again.
                session.engine_mut().set_mix(&Mix::fixed(512));
                assert_eq!(session.open().unwrap().open, 400, "{what}");
                let trial = session.trial(&order(Job::Data, 200_000.0, 20));
                ensure_flawless(&trial, &[], &what);
                assert_eq!(trial.sent_octets, trial.sent * 512, "{what}");
            }
        }
    }
}

#[test]
fn the_smallest_segments_are_verified_too_though_they_have_two_octets_of_payload() {
    let mut setup = setup(Proto::Tcp, "SRC_TRANS_AUTOMAP", 100, Mix::fixed(64));
    setup.virtual_servers.retain(std::net::SocketAddr::is_ipv4);
    let mut session = session(&setup, rig(false, "SRC_TRANS_AUTOMAP"));
    session.open().unwrap();
    let trial = session.trial(&order(Job::Data, 500_000.0, 20));
    ensure_flawless(&trial, &[], "64 octets, tagged TCP");
    assert_eq!(trial.sent_octets, trial.sent * 64);
}

#[test]
fn both_sides_share_a_port_with_two_vlans() {
    let mut setup = setup(Proto::Udp, "SRC_TRANS_AUTOMAP", 100, Mix::fixed(128));
    setup.server.gateway_mac = None;
    let mut session = session(&setup, rig(true, "SRC_TRANS_AUTOMAP"));
    session.open().unwrap();
    let trial = session.trial(&order(Job::Data, 200_000.0, 20));
    ensure_flawless(&trial, &[], "one arm");
}

#[test]
fn connections_are_opened_used_and_closed() {
    for proto in [Proto::Tcp, Proto::Udp] {
        let setup = setup(proto, "SRC_TRANS_AUTOMAP", 20_000, Mix::fixed(128));
        let mut session = session(&setup, rig(false, "SRC_TRANS_AUTOMAP"));
        let trial = session.trial(&order(Job::Connect, 100_000.0, 30));
        assert!(trial.connections);
        ensure_flawless(&trial, &[], "connections");
        assert!((2990..=3001).contains(&trial.sent), "{}", trial.sent);
        assert_eq!(trial.client.opened, trial.sent);
        assert_eq!(trial.latency.samples, trial.sent);
    }
}

#[test]
fn without_a_device_the_session_says_what_is_missing() {
    let nobody = setup(Proto::Udp, "SRC_TRANS_NONE", 10, Mix::fixed(64));
    let engine = |setup: &benches::pktgen::setup::Setup| {
        setup
            .engine(MemoryLink::default(), Some(MemoryLink::default()))
            .unwrap()
    };
    let world = || InMemory {
        step: Duration::from_millis(1),
        ..InMemory::new(rig(false, "SRC_TRANS_NONE"))
    };
    let mut session = Session::new(engine(&nobody), world(), Timing::default(), false);
    assert!(matches!(session.resolve(), Err(SessionError::NoGateway(_))));
    let mut told = nobody.clone();
    told.client.gateway_mac = Some(net::MacAddr([2, 0, 0, 0, 0, 9]));
    let mut session = Session::new(engine(&told), world(), Timing::default(), false);
    session.resolve().unwrap();
    let error = session.open().unwrap_err();
    assert!(error.to_string().starts_with("none of 10 flows"), "{error}");
}

/// A loop that holds few frames and lets out one per so many turns.
struct Slow {
    held: std::rc::Rc<std::cell::RefCell<std::collections::VecDeque<Vec<u8>>>>,
    allowed: std::rc::Rc<std::cell::Cell<usize>>,
}

impl Link for Slow {
    type Frame = Vec<u8>;

    fn receive(&mut self, into: &mut Burst<Vec<u8>>) {
        let mut held = self.held.borrow_mut();
        while !into.is_full() && self.allowed.get() > 0 {
            let Some(frame) = held.pop_front() else { break };
            self.allowed.set(self.allowed.get() - 1);
            into.push(frame);
        }
    }

    fn allocate(&mut self, into: &mut Burst<Vec<u8>>, count: usize) {
        let room = into.remaining_capacity();
        into.extend((0..count.min(room)).map(|_| Vec::new()));
    }

    fn transmit(&mut self, frames: &mut Burst<Vec<u8>>) {
        let mut held = self.held.borrow_mut();
        for frame in frames.drain(..) {
            // What does not fit is lost, as in any switch.
            if held.len() < 256 {
                held.push_back(frame);
            }
        }
    }
}

struct SlowWorld {
    now: Timestamp,
    allowed: std::rc::Rc<std::cell::Cell<usize>>,
    turns: u64,
}

impl World for SlowWorld {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    /// A frame every four turns of a microsecond: 250,000 per second.
    fn between_turns(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        self.turns += 1;
        if self.turns.is_multiple_of(4) {
            self.allowed.set((self.allowed.get() + 1).min(32));
        }
    }
}

#[test]
fn the_search_finds_the_rate_of_a_device_that_is_slow() {
    let mut setup = setup(Proto::Udp, "SRC_TRANS_NONE", 10, Mix::fixed(64));
    setup.mode = Mode::Loop(Swap::None);
    setup.hops = 0;
    setup.client.gateways.clear();
    let allowed = std::rc::Rc::default();
    let link = Slow {
        held: std::rc::Rc::default(),
        allowed: std::rc::Rc::clone(&allowed),
    };
    let engine = setup.engine(link, None).unwrap();
    let world = SlowWorld {
        now: Timestamp::from_secs(1),
        allowed,
        turns: 0,
    };
    let timing = Timing {
        drain: Duration::from_millis(5),
        sample: Duration::from_millis(25),
        ..Timing::default()
    };
    let mut session = Session::new(engine, world, timing, false);
    session.engine_mut().client_mut().declare(true);
    let mut trials = Vec::new();
    let config = SearchConfig {
        highest: Some(2e6),
        ..SearchConfig::default()
    };
    let found = session.search(config, Job::Data, Duration::from_millis(100), |trial| {
        trials.push(trial);
    });
    let rate = found.packets_per_second.unwrap();
    // A trial of 100 ms also fills the 256 places: 25,000 + 256 frames pass.
    assert!((245_000.0..=254_000.0).contains(&rate), "{found:?}");
    assert!(trials.len() < 20);
    assert!(trials.iter().all(|trial| trial.faulty == 0));

    // The same as a report.
    let runs = vec![Run {
        size: "64".to_owned(),
        octets: vec![64],
        mean_octets: 64.0,
        opening: None,
        trials,
        found: Some(found),
    }];
    let report = Report {
        generator: "test".to_owned(),
        dpdk: String::new(),
        test: Test {
            mode: "loop".to_owned(),
            protocol: "udp".to_owned(),
            flows: 10,
            order: "random".to_owned(),
            client_port: "memory".to_owned(),
            server_port: None,
            client_vlan: Some(100),
            server_vlan: None,
            memory: String::new(),
        },
        verdict: Report::judge(&runs, false),
        runs,
        faulty_frames: Vec::new(),
        stopped: false,
    };
    assert_eq!(report.verdict, Verdict::Good);
    assert!(
        report.text().contains("highest rate without loss: 2"),
        "{}",
        report.text()
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["runs"][0]["found"]["packetsPerSecond"], rate);
    let directory = tempfile::tempdir().unwrap();
    let files = benches::pktgen::plot::write(&report, directory.path()).unwrap();
    assert_eq!(files.len(), 3);
    for file in files {
        let svg = std::fs::read_to_string(file).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("polyline"), "{svg}");
    }
}

/// A user who loses patience at a certain time.
struct Impatient(InMemory, Timestamp);

impl World for Impatient {
    fn now(&mut self) -> Timestamp {
        self.0.now()
    }

    fn between_turns(&mut self) {
        self.0.between_turns();
    }

    fn stopped(&mut self) -> bool {
        self.0.now >= self.1
    }
}

#[test]
fn a_stopped_trial_tells_what_it_saw_and_proves_nothing() {
    let setup = setup(Proto::Udp, "SRC_TRANS_AUTOMAP", 50, Mix::fixed(64));
    let rig = rig(false, "SRC_TRANS_AUTOMAP");
    let link = |port| rig.wire(PortId(port)).map(MemoryLink::new);
    let engine = setup.engine(link(0).unwrap(), link(1)).unwrap();
    let mut world = Impatient(InMemory::new(rig), Timestamp::from_secs(1000));
    let begin = world.now();
    let mut session = Session::new(engine, world, Timing::default(), false);
    session.resolve().unwrap();
    session.open().unwrap();
    session.world_mut().1 = session.world_mut().now() + Duration::from_millis(10);
    let mut trials = Vec::new();
    let config = SearchConfig {
        highest: Some(100_000.0),
        ..SearchConfig::default()
    };
    let found = session.search(config, Job::Data, Duration::from_secs(10), |trial| {
        trials.push(trial);
    });
    assert_eq!(found.packets_per_second, None);
    let [trial] = trials.as_slice() else {
        panic!("{} trials", trials.len());
    };
    assert!(trial.stopped && trial.seconds < 0.02, "{trial:#?}");
    assert!(trial.received > 900, "{trial:#?}");
    assert!(session.world_mut().now() > begin);
}

#[test]
fn loss_is_counted_and_told_from_faults() {
    let setup = setup(Proto::Udp, "SRC_TRANS_AUTOMAP", 50, Mix::fixed(64));
    let mut session = session(&setup, rig(false, "SRC_TRANS_AUTOMAP"));
    session.open().unwrap();
    // The wire to the servers takes no more than this many frames at once.
    let wire = session.world_mut().rig.wire(PortId(1)).unwrap().clone();
    wire.limit_tx(Some(0));
    let trial = session.trial(&order(Job::Data, 100_000.0, 5));
    assert_eq!((trial.received, trial.faulty), (0, 0));
    assert_eq!(trial.lost, trial.sent);
    assert_eq!(trial.lost_on_the_way_there, trial.sent);
    assert!((trial.loss - 1.0).abs() < 1e-9);
}
