//! Plays every scenario under `scenarios/` and compares what happened, to the last counter.
//!
//! With `BLESS=1` in the environment the files are rewritten instead; read the difference before you
//! commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dataplane::verdict::{Answer, DropReason, FlowStep};
use tests::scenario::{Played, play};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn scenarios() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "scn"))
        .collect();
    files.sort();
    files
}

fn played(path: &Path) -> (String, Played) {
    let text = std::fs::read_to_string(path).unwrap();
    let played = play(&text, &folder()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (text, played)
}

/// The first place where two texts differ, with the lines around it.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), actual.lines().collect());
    let same = expected
        .iter()
        .zip(&actual)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |lines: &[&str]| {
        let to = lines.len().min(same + 6);
        lines[same.min(lines.len())..to].join("\n")
    };
    let before = expected[same.saturating_sub(8)..same].join("\n");
    let (wanted, got) = (around(&expected), around(&actual));
    format!(
        "line {}\n{before}\n--- expected\n{wanted}\n--- happened\n{got}\n",
        same + 1
    )
}

#[test]
fn every_scenario_goes_as_it_is_written() {
    let mut wrong = Vec::new();
    let files = scenarios();
    assert!(files.len() > 20, "the scenarios are missing");
    for path in files {
        let (text, played) = played(&path);
        if text == played.transcript {
            continue;
        }
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &played.transcript).unwrap();
        } else {
            let name = path.file_name().unwrap().to_string_lossy();
            wrong.push(format!("{name}, {}", difference(&text, &played.transcript)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What no scenario can reach, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    (
        "drop.no_buffer",
        "memory has a buffer whenever one is asked for; a mempool that runs empty is tested on DPDK",
    ),
    (
        "drop.no_member",
        "a virtual server without a member that may be selected listens nowhere",
    ),
    (
        "drop.fragments_full",
        "takes hundreds of fragments that wait: see the tests of fragments",
    ),
    (
        "drop.handoff_full",
        "takes a worker that stands still: see the tests of several workers",
    ),
    (
        "drop.no_room",
        "memory frames have an mbuf's headroom and room for every answer behind them",
    ),
];

#[test]
fn every_reason_to_drop_every_answer_and_every_step_is_reached_by_a_scenario() {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for path in scenarios() {
        reached.extend(played(&path).1.touched);
    }
    let drops = DropReason::ALL
        .iter()
        .map(|r| format!("drop.{}", r.label()));
    let answers = Answer::ALL.iter().map(|a| format!("answer.{}", a.label()));
    let steps = FlowStep::ALL
        .iter()
        .map(|s| format!("forwarded.{}", s.label()));
    let mut missing = Vec::new();
    for name in drops.chain(answers).chain(steps) {
        let excused = OUT_OF_REACH.iter().any(|(label, _)| *label == name);
        assert!(
            !(excused && reached.contains(&name)),
            "{name} is reached after all: take it off the list"
        );
        if !excused && !reached.contains(&name) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "no scenario reaches {missing:?}");
}

#[test]
fn a_frame_that_is_written_down_reads_as_it_was_sent() {
    // Notation of what tmm sends and of what is sent to it is the same: what left can be sent again.
    let mut count = 0;
    for path in scenarios() {
        for line in played(&path).1.transcript.lines() {
            let Some(frame) = line.strip_prefix("  1.") else {
                continue;
            };
            let unwritable = ["s: ", "listener-report", "is-at", "insert="];
            if unwritable.iter().any(|word| frame.contains(word)) {
                continue;
            }
            let line = format!("1.{frame}");
            let (port, again) =
                tests::scenario::frame(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(tests::scenario::describe(port, &again), line);
            count += 1;
        }
    }
    assert!(count > 100, "{count} frames");
}
