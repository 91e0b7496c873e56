//! The frames of all scenarios, and every capture at hand, through a tmm that listens on everything: nothing panics, and nothing leaves
//! that smoltcp or tshark calls malformed or whose checksum is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod damage;
#[path = "../replay_support/mod.rs"]
mod replay_support;
mod tmm;
mod tshark;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use corpus::Capture;
use damage::{Numbers, damage};
use dataplane::pcap::Writer;
use tmm::sweep;
use tshark::{HEADERS, tshark_agrees};

/// Where what was sent is kept, to look at what a failure is about.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn no_capture_makes_tmm_panic_or_send_a_malformed_frame() {
    let captures = corpus::all();
    let started = Instant::now();
    let sent = kept("replay-sweep.pcap");
    let mut all = Writer::create(&sent).unwrap();
    let mut wrong = Vec::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for (number, Capture { path, records }) in captures.iter().enumerate() {
        let automap = number % 2 == 1;
        wrong.extend(sweep(path, records, automap, &mut all, &mut totals));
    }
    all.finish().unwrap();
    totals.retain(|_, n| *n > 0);
    eprintln!(
        "{} captures in {:?}: {totals:#?}",
        captures.len(),
        started.elapsed()
    );
    assert!(
        wrong.is_empty(),
        "{} frames:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // The way through is what is tested, not the way out.
    for way in [
        "forwarded.opened",
        "forwarded.original",
        "forwarded.reply",
        "answer.reset_no_flow",
    ] {
        assert!(
            totals.get(way).is_some_and(|n| *n >= 50),
            "{way} is hardly used"
        );
    }
    tshark_agrees(&sent, &HEADERS);
    eprintln!("{:?} in all", started.elapsed());
}

#[test]
fn damaged_captures_make_no_damage() {
    let captures = corpus::all();
    let sent = kept("replay-sweep-damaged.pcap");
    let mut all = Writer::create(&sent).unwrap();
    let mut wrong = Vec::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    // SWEEP_SEED=2 does other damage.
    let seed = std::env::var("SWEEP_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut numbers = Numbers(seed);
    for (number, Capture { path, mut records }) in captures.into_iter().enumerate() {
        // The beginning of each: a flow has to be opened before damage to it is of interest.
        records.truncate(60);
        for record in &mut records {
            if numbers.below(3) == 0 {
                damage(&mut record.octets, &mut numbers);
            }
        }
        let automap = number % 2 == 0;
        wrong.extend(sweep(&path, &records, automap, &mut all, &mut totals));
    }
    all.finish().unwrap();
    assert!(
        wrong.is_empty(),
        "{} frames:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Options of TCP are between the ends: they are passed on as they are.
    let headers: Vec<&str> = HEADERS.into_iter().filter(|name| *name != "tcp").collect();
    tshark_agrees(&sent, &headers);
}
