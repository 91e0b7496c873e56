//! Replays whose outcome is kept: for each scene, what tmm sends, what it says of every frame, and the
//! summary. `UPDATE_GOLDEN=1` writes them anew; what changed is then for the reader of the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "replay_support/mod.rs"]
mod replay_support;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane::pcap::{Reader, Record, Writer};
use dataplane::replay::explain::Step;
use dataplane::replay::inputs::Inputs;
use dataplane::replay::neighbors::NeighborMode;
use dataplane::replay::summary::Summary;
use dataplane::replay::{Replay, ReplayConfig, Sink};
use net::{PortId, Timestamp};
use replay_support::scene::{CLIENT_SIDE, SERVER_SIDE, START, Scene};
use replay_support::{check_frame, layers_of, scenes};
use serde_json::{Value, json};

/// What a replay gave.
struct Outcome {
    /// A capture for each port.
    captures: Vec<Vec<u8>>,
    /// A line for each frame.
    explained: String,
    summary: Summary,
}

struct Recorder {
    writers: Vec<Writer<Vec<u8>>>,
    explained: String,
}

impl Sink for Recorder {
    fn frame(&mut self, port: PortId, at: Timestamp, octets: &[u8]) -> io::Result<()> {
        check_frame(octets).unwrap_or_else(|why| panic!("{at:?} on {port}: {why}"));
        self.writers[usize::from(port.0)].write(at, octets)
    }

    fn wants_steps(&self) -> bool {
        true
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        writeln!(self.explained, "{step}").map_err(io::Error::other)
    }
}

/// Replays captures, in the order given.
fn replay(objects: &[Value], captures: &[(PortId, &[u8])], config: &ReplayConfig) -> Outcome {
    let mut replay = Replay::new(config.clone(), objects).unwrap_or_else(|e| panic!("{e:?}"));
    let open = |(port, octets): &(PortId, &'static [u8])| {
        (*port, Reader::new(format!("{port}.pcap"), *octets).unwrap())
    };
    // Readers own what they read from.
    let captures: Vec<(PortId, &'static [u8])> = captures
        .iter()
        .map(|(port, octets)| (*port, &*Box::leak(octets.to_vec().into_boxed_slice())))
        .collect();
    for (port, mut reader) in captures.iter().map(open) {
        let mut record = Record::default();
        while reader.next_record(&mut record).unwrap() {
            replay.learn(port, &record.octets);
        }
    }
    let mut inputs = Inputs::new(captures.iter().map(open).collect());
    let mut recorder = Recorder {
        writers: (0..config.ports)
            .map(|_| Writer::new(Vec::new()).unwrap())
            .collect(),
        explained: String::new(),
    };
    while inputs
        .next_with(|port, at, octets| replay.frame(port, at, octets, &mut recorder))
        .unwrap()
    {}
    replay.finish(&mut recorder).unwrap();
    let summary = replay.summary(inputs.reports());
    Outcome {
        captures: recorder
            .writers
            .into_iter()
            .map(|w| w.finish().unwrap())
            .collect(),
        explained: recorder.explained,
        summary,
    }
}

/// The captures of a scene, one for each port.
fn captures_of(scene: &Scene) -> [Vec<u8>; 2] {
    [CLIENT_SIDE, SERVER_SIDE].map(|wanted| {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (port, at, octets) in &scene.frames {
            if *port == wanted {
                writer.write(*at, octets).unwrap();
            }
        }
        writer.finish().unwrap()
    })
}

fn golden(scene: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(scene)
        .join(file)
}

/// Compares with what is kept, or keeps it.
fn matches_golden(scene: &str, file: &str, actual: &[u8]) {
    let path = golden(scene, file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if kept != actual {
        let text = |octets: &[u8]| match std::str::from_utf8(octets) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("{} octets that are no text", octets.len()),
        };
        panic!(
            "{scene}/{file} differs; UPDATE_GOLDEN=1 keeps the new one.\nkept:\n{}\nnow:\n{}",
            text(&kept),
            text(actual)
        );
    }
}

#[test]
fn scenes_come_out_as_they_are_kept() {
    for scene in scenes::all() {
        let name = scene.name;
        let [client, server] = captures_of(&scene);
        let config = json!({ "apiVersion": "v1", "kind": "List", "items": scene.objects });
        let config = serde_json::to_string_pretty(&config).unwrap() + "\n";
        matches_golden(name, "config.json", config.as_bytes());
        matches_golden(name, "in-1.1.pcap", &client);
        matches_golden(name, "in-1.2.pcap", &server);
        let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
        let outcome = replay(&scene.objects, &captures, &ReplayConfig::default());
        // The text first: it says most about what is different.
        matches_golden(name, "explain.txt", outcome.explained.as_bytes());
        matches_golden(name, "out-1.1.pcap", &outcome.captures[0]);
        matches_golden(name, "out-1.2.pcap", &outcome.captures[1]);
        let summary = serde_json::to_string_pretty(&outcome.summary).unwrap() + "\n";
        matches_golden(name, "summary.json", summary.as_bytes());
    }
}

#[test]
fn the_same_input_gives_the_same_octets_in_whatever_order_the_ports_are_named() {
    for scene in scenes::all() {
        let [client, server] = captures_of(&scene);
        let config = ReplayConfig {
            seed: 42,
            ..ReplayConfig::default()
        };
        let there = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
        let back = [(SERVER_SIDE, &*server), (CLIENT_SIDE, &*client)];
        let first = replay(&scene.objects, &there, &config);
        let second = replay(&scene.objects, &back, &config);
        assert_eq!(first.captures, second.captures, "{}", scene.name);
        assert_eq!(first.explained, second.explained, "{}", scene.name);
        assert_eq!(first.summary, second.summary, "{}", scene.name);
    }
}

#[test]
fn whole_connections_pass_and_leave_nothing_behind() {
    for scene in scenes::all()
        .into_iter()
        .filter(|scene| scene.name.starts_with("tcp"))
    {
        let [client, server] = captures_of(&scene);
        let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
        // Long enough for every flow to end.
        let config = ReplayConfig {
            settle: Duration::from_hours(1),
            ..ReplayConfig::default()
        };
        let outcome = replay(&scene.objects, &captures, &config);
        let forwarded: u64 = outcome
            .summary
            .forwarded
            .iter()
            .map(|count| count.packets)
            .sum();
        assert_eq!(
            forwarded,
            scene.frames.len() as u64,
            "{}\n{}",
            scene.name,
            outcome.explained
        );
        assert_eq!(outcome.summary.drops, [], "{}", scene.name);
        assert_eq!(outcome.summary.flows_at_end, 0, "{}", scene.name);
        let connections = scene.frames.len() as u64 / 10;
        let ended = outcome.summary.counters["flows_ended_total"];
        assert_eq!(ended, connections, "{}", scene.name);
    }
}

#[test]
fn payloads_pass_unchanged_and_in_order() {
    for scene in scenes::all()
        .into_iter()
        .filter(|scene| scene.name.starts_with("tcp"))
    {
        let [client, server] = captures_of(&scene);
        let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
        let outcome = replay(&scene.objects, &captures, &ReplayConfig::default());
        for (sent, received) in [(&client, 1), (&server, 0)] {
            assert_eq!(
                payload(sent),
                payload(&outcome.captures[received]),
                "{}",
                scene.name
            );
            assert!(!payload(sent).is_empty());
        }
    }
}

/// All TCP payload of a capture.
fn payload(capture: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new("payload", capture).unwrap();
    let mut record = Record::default();
    let mut all = Vec::new();
    while reader.next_record(&mut record).unwrap() {
        let layers = layers_of(&record.octets).unwrap();
        if layers.key.proto == net::IpProto::TCP {
            all.extend_from_slice(&record.octets[layers.payload..layers.end]);
        }
    }
    all
}

#[test]
fn without_answers_of_neighbours_frames_wait_and_are_given_up() {
    let scene = scenes::all().remove(0);
    let [client, _] = captures_of(&scene);
    let config = ReplayConfig {
        neighbors: NeighborMode::None,
        ..ReplayConfig::default()
    };
    let outcome = replay(&scene.objects, &[(CLIENT_SIDE, &*client)], &config);
    assert_eq!(outcome.summary.synthetic_answers, 0);
    // All that was forwarded waited, and the senders of all that waited were told in the end.
    let held = outcome.summary.counters["held_packets"];
    assert!(held > 0);
    assert_eq!(
        outcome.summary.counters["answer.unreachable_host"], held,
        "{}",
        outcome.explained
    );
    // Asked three times, a second apart.
    let asked: Vec<&str> = outcome
        .explained
        .lines()
        .filter(|line| line.contains("who has 198.51.100.11"))
        .collect();
    assert_eq!(asked.len(), 3, "{}", outcome.explained);
    assert!(asked[2].contains(" 2.0"), "{}", asked[2]);
}

#[test]
fn neighbours_answer_with_the_address_that_the_capture_shows() {
    let scene = scenes::all().remove(0);
    let [client, server] = captures_of(&scene);
    let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
    for neighbors in [NeighborMode::Synthetic, NeighborMode::Capture] {
        let config = ReplayConfig {
            neighbors,
            ..ReplayConfig::default()
        };
        let outcome = replay(&scene.objects, &captures, &config);
        assert!(
            outcome
                .explained
                .contains("02:74:6d:6d:00:02 > 02:5e:00:00:00:0b")
        );
    }
    // Without the server's capture nobody knows it.
    let alone = [(CLIENT_SIDE, &*client)];
    let outcome = replay(&scene.objects, &alone, &ReplayConfig::default());
    // Made from the address: 198.51.100.11.
    assert!(
        outcome
            .explained
            .contains("02:74:6d:6d:00:02 > 02:04:c6:33:64:0b")
    );
}

#[test]
fn frames_for_other_stations_are_taken_when_asked_for() {
    let mut scene = scenes::all().remove(0);
    for (_, _, octets) in &mut scene.frames {
        octets[..6].copy_from_slice(&[0x00, 0x1b, 0x21, 0x01, 0x02, 0x03]);
    }
    let [client, server] = captures_of(&scene);
    let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
    let strict = replay(&scene.objects, &captures, &ReplayConfig::default());
    let all = scene.frames.len() as u64;
    assert_eq!(strict.summary.counters["drop.not_for_us"], all);
    let config = ReplayConfig {
        rewrite_mac: true,
        ..ReplayConfig::default()
    };
    let lenient = replay(&scene.objects, &captures, &config);
    assert_eq!(lenient.summary.counters["drop.not_for_us"], 0);
    assert_eq!(
        lenient.summary.verdicts.get("drop"),
        None,
        "{}",
        lenient.explained
    );
}

#[test]
fn a_long_silence_is_replayed_at_once_and_nothing_survives_it() {
    let mut scene = scenes::all().remove(0);
    let last = scene.frames.last().unwrap().clone();
    let year = Duration::from_hours(365 * 24);
    scene.frames.push((last.0, START + year, last.2));
    let [client, server] = captures_of(&scene);
    let captures = [(CLIENT_SIDE, &*client), (SERVER_SIDE, &*server)];
    let started = std::time::Instant::now();
    let outcome = replay(&scene.objects, &captures, &ReplayConfig::default());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(outcome.summary.flows_at_end, 0);
    assert_eq!(outcome.summary.counters["answer.reset_no_flow"], 1);
}
