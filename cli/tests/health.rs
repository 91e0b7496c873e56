//! `tmmctl health`.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::time::{Duration, Instant};

use common::Tmm;
use insta::assert_snapshot;

#[test]
fn a_replica_that_lives_but_does_not_forward_says_why_in_both_forms() {
    let tmm = Tmm::start();
    let mut all = String::new();
    for args in [
        &["health"][..],
        &["health", "live"],
        &["health", "ready"],
        &["health", "live", "--json"],
        &["health", "ready", "--json"],
    ] {
        let said = tmm.ctl(args, "");
        all = format!("{all}# {}\n{said}\n\n", args.join(" "));
    }
    assert_snapshot!(all);
}

#[test]
fn no_tmm_is_no_in_both_forms() {
    let tmm = Tmm::start();
    let nowhere = tmm.directory.path().join("nowhere.sock");
    let said = common::ctl(&nowhere, &["health", "live"], "");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("is tmm running?"), "{said}");
    let said = common::ctl(&nowhere, &["health", "live", "--json"], "");
    assert_eq!(said.code, 1);
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["live"], false);
    assert_eq!(value["ready"], false);
    assert_eq!(value["checks"][0]["reason"], "NoAnswer");
}

#[test]
fn a_tmm_that_hangs_is_not_waited_for_longer_than_a_probe_may_take() {
    let tmm = Tmm::serving(|mut stream| {
        // Reads and never answers.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let begun = Instant::now();
    let said = tmm.ctl(&["health", "live"], "");
    let took = begun.elapsed();
    assert_eq!(said.code, 1);
    assert!(said.err.contains("has not answered"), "{said}");
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
    let begun = Instant::now();
    tmm.ctl(&["health", "live", "--timeout", "100ms"], "");
    assert!(begun.elapsed() < Duration::from_millis(1900));
}

#[test]
fn what_is_asked_must_be_known() {
    let tmm = Tmm::start();
    assert_eq!(tmm.ctl(&["health", "happy"], "").code, 2);
}
