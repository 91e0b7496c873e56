//! The catalogue of cases, `tests/cases.tsv`: what the test suites of Linux, Open vSwitch, VPP and others ask of
//! connection tracking, translation and balancing, in our words. Each case is named by a test here, or ARCHITECTURE
//! says why not.
//!
//! A scenario names a case by a line `# case OVS-006: what it shows here`, a test in Rust by a comment
//! `// case OVS-006: …`. The tables under "Cases out of scope" in ARCHITECTURE.md have the ids in their first column.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The headings of the two tables in ARCHITECTURE.md.
const OUT: &str = "### Out of scope";
const PARTLY: &str = "### Covered in part";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The ids of the catalogue, each once.
fn catalogue() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("tests/cases.tsv")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("id\tarea\tcase"));
    let mut ids = BTreeSet::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, area, case] = fields.as_slice() else {
            panic!("not three columns: {line}");
        };
        assert!(!area.is_empty() && !case.is_empty(), "{line}");
        assert!(ids.insert((*id).to_owned()), "{id} is there twice");
    }
    ids
}

/// All files under `dir` with this extension, but for what is built.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() {
            if !(name.starts_with('.') || name == "target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// Where a case is tested: by id, the places that name it.
type Places = BTreeMap<String, Vec<String>>;

/// The cases that the comments of a file name. A comment may name several before the colon.
fn named(path: &Path, mark: &str, places: &mut Places) {
    let text = fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix(mark) else {
            continue;
        };
        let at = format!("{}:{}", path.display(), number + 1);
        let (ids, what) = rest
            .split_once(':')
            .unwrap_or_else(|| panic!("{at}: expected \"{mark}ID: what it shows\""));
        assert!(!what.trim().is_empty(), "{at}: what does it show?");
        for id in ids.split([' ', ',']).filter(|id| !id.is_empty()) {
            places.entry(id.to_owned()).or_default().push(at.clone());
        }
    }
}

/// All cases that tests name.
fn tested() -> Places {
    let mut places = Places::new();
    for (extension, mark) in [("scn", "# case "), ("rs", "// case ")] {
        let mut found = Vec::new();
        files(&root(), extension, &mut found);
        assert!(!found.is_empty());
        for path in found {
            named(&path, mark, &mut places);
        }
    }
    places
}

/// The ids in the first column of the table under a heading of ARCHITECTURE.md.
fn listed(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert_eq!(lines.next(), Some(heading), "the heading is missing");
    let mut ids = BTreeSet::new();
    for line in lines.take_while(|line| !line.starts_with('#')) {
        let Some(row) = line.strip_prefix('|') else {
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').collect();
        let [first, reason] = cells.as_slice() else {
            panic!("not two columns: {line}");
        };
        let is_head = first.trim() == "cases" || first.trim().starts_with("--");
        if is_head {
            continue;
        }
        assert!(!reason.trim().is_empty(), "{line}: why?");
        for id in first.split([' ', ',']).filter(|id| !id.is_empty()) {
            assert!(ids.insert(id.to_owned()), "{id} is listed twice");
        }
    }
    ids
}

#[test]
fn every_case_that_is_named_is_in_the_catalogue() {
    let ids = catalogue();
    for (id, places) in tested() {
        assert!(ids.contains(&id), "{id} is no case: {places:?}");
    }
    for heading in [OUT, PARTLY] {
        for id in listed(heading) {
            assert!(ids.contains(&id), "{id} under \"{heading}\" is no case");
        }
    }
}

#[test]
fn a_case_out_of_scope_has_no_test_and_one_covered_in_part_has() {
    let tested = tested();
    let (out, partly) = (listed(OUT), listed(PARTLY));
    for id in &out {
        assert_eq!(tested.get(id), None, "{id} is said to be out of scope");
        assert!(!partly.contains(id), "{id} is in both tables");
    }
    for id in &partly {
        assert!(
            tested.contains_key(id),
            "{id} is said to be covered in part"
        );
    }
}

#[test]
fn every_case_is_tested_or_said_to_be_out_of_scope() {
    let (tested, out) = (tested(), listed(OUT));
    let missing: Vec<String> = catalogue()
        .into_iter()
        .filter(|id| !(tested.contains_key(id) || out.contains(id)))
        .collect();
    assert!(
        missing.is_empty(),
        "{} cases are neither: {missing:?}",
        missing.len()
    );
}
