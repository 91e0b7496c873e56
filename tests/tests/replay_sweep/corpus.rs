//! What is played.

use std::path::{Path, PathBuf};

use dataplane::pcap::{Reader, Record};
use net::Timestamp;

/// What is played: from which file, and its frames.
pub struct Capture {
    pub path: PathBuf,
    pub records: Vec<Record>,
}

/// The frames of every scenario, and every capture beside the project, if there are any.
pub fn all() -> Vec<Capture> {
    let scenarios = scenarios();
    assert!(scenarios.len() > 50, "{} scenarios", scenarios.len());
    let captures = captures();
    eprintln!(
        "frames of {} scenarios and {} captures beside the project",
        scenarios.len(),
        captures.len()
    );
    let captures = captures.into_iter().map(|path| Capture {
        records: read(&path),
        path,
    });
    scenarios.into_iter().chain(captures).collect()
}

/// The frames that come in each scenario, a millisecond apart.
fn scenarios() -> Vec<Capture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let scenarios = paths.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let frames = text.lines().filter_map(|line| {
            let frame = line.strip_prefix("> ").or(line.strip_prefix(">> "))?;
            let (_, frame) = tests::scenario::frame(frame).unwrap();
            Some(frame.octets().to_vec())
        });
        let records = frames.zip(1..).map(|(octets, number)| Record {
            time: Timestamp::from_millis(number),
            wire_len: octets.len(),
            octets,
        });
        Capture {
            records: records.collect(),
            path,
        }
    });
    let scenarios = scenarios.filter(|scenario| !scenario.records.is_empty());
    scenarios.collect()
}

fn captures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures/pcap");
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ext| ext == "pcap" || ext == "pcapng")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> Vec<Record> {
    let mut reader = Reader::open(path).unwrap_or_else(|error| panic!("{error}"));
    let mut records = Vec::new();
    let mut record = Record::default();
    // Some captures are truncated on purpose: what is whole counts.
    while let Ok(true) = reader.next_record(&mut record) {
        if !record.is_cut() {
            records.push(record.clone());
        }
    }
    records
}
