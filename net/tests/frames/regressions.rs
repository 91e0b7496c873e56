//! Frames that a fuzzer once found trouble with, by name.

use std::path::Path;

use crate::differential::compare;

/// Every file under `tests/regressions/frames` is one frame, as the fuzz target `frames` takes it.
#[test]
fn frames_that_once_made_trouble_make_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions/frames");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        // Named first, so that a panic below says which one it is.
        println!("{}", path.display());
        compare(&std::fs::read(&path).unwrap());
    }
}
