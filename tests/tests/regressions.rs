//! Whatever a fuzzer once found, by name, at every test run.
//!
//! Each file under `tests/regressions/<target>/` is an input of the fuzz target of that name; what
//! the target checks is compiled in here from `fuzz/src`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

#[path = "../../fuzz/src/config_documents.rs"]
mod config_documents;
#[path = "../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../net/tests/frames/opinions.rs"]
mod opinions;
#[path = "../../fuzz/src/pipeline_history.rs"]
mod pipeline_history;
#[path = "../../fuzz/src/pipeline_packets.rs"]
mod pipeline_packets;

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing under {}", folder.display());
    for file in files {
        // Before the check, so that a panic in it comes behind the name of its file.
        println!("{}", file.display());
        check(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn frames_that_once_made_trouble_make_none() {
    replay("frames", frames::check);
}

#[test]
fn documents_that_once_made_trouble_make_none() {
    replay("config_documents", config_documents::check);
}

#[test]
fn histories_that_once_made_trouble_make_none() {
    replay("pipeline_history", pipeline_history::check);
}

#[test]
fn histories_written_by_hand_get_as_far_as_they_are_meant_to() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/pipeline_history");
    let play = |name: &str| pipeline_history::play(&std::fs::read(folder.join(name)).unwrap());
    assert_eq!(play("connection-from-syn-to-fin"), 1);
    assert!(play("flood-over-a-full-table") > 64);
    assert!(play("configuration-comes-and-goes-under-flows") > 0);
    // Of whoever is sent to, of the sender, and of the sender towards it.
    assert_eq!(play("hairpin-between-two-mappings"), 3);
}
