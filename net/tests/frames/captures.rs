//! Real traffic, where it is to be had: public captures beside the project's folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use net::{Fragment, IpProto, Network, ParseError};
use pcap_file::pcap::PcapReader;

use crate::build::{checked, parse, parse_with};
use crate::opinions::compare;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.join("index.jsonl").is_file() {
        Some(folder)
    } else {
        println!("skipped: no captures at {}", folder.display());
        None
    }
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// What is counted of a capture, by the names of its index.
#[derive(Default, Debug)]
struct Seen {
    counts: BTreeMap<&'static str, u64>,
    /// Frames that are refused for what they are not allowed to be, rather than for being damaged.
    refused: u64,
}

impl Seen {
    fn of(frames: &[Vec<u8>]) -> Self {
        let mut seen = Self::default();
        for frame in frames {
            // Checksums are wrong in many captures, taken before a device filled them in.
            let Ok(layers) = parse_with(frame, checked()) else {
                seen.refused += 1;
                continue;
            };
            let mut count = |name| *seen.counts.entry(name).or_default() += 1;
            match layers.network {
                Network::Arp => count("arp"),
                Network::Ipv4 => count("ip4"),
                Network::Ipv6 => count("ip6"),
                Network::Other(_) => continue,
            }
            if layers.fragment != Fragment::Later {
                match layers.key.proto {
                    IpProto::TCP => count("tcp"),
                    IpProto::UDP => count("udp"),
                    IpProto::SCTP => count("sctp"),
                    _ => {}
                }
            }
        }
        seen
    }
}

#[test]
fn captures_are_counted_as_their_index_counts_them() {
    let Some(folder) = folder() else { return };
    let index = std::fs::read_to_string(folder.join("index.jsonl")).unwrap();
    let (mut files, mut exact) = (0, 0);
    for line in index.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let counts = entry["counts"].as_object().unwrap();
        let damaged = counts.keys().any(|name| {
            name.starts_with("m_") && !name.ends_with("cksum")
                || name.ends_with("_snap")
                || name == "ip4_totlen0"
        });
        // Of tunnels, the index counts the packets inside as well.
        let tags = entry["tags"].as_array().unwrap();
        if damaged || tags.iter().any(|tag| tag == "tunnel") {
            continue;
        }
        let name = entry["file"].as_str().unwrap();
        let seen = Seen::of(&frames(&folder.join(name)));
        files += 1;
        exact += u32::from(seen.refused == 0);
        for protocol in ["arp", "ip4", "ip6", "tcp", "udp", "sctp"] {
            let theirs = counts.get(protocol).map_or(0, |n| n.as_u64().unwrap());
            let ours = seen.counts.get(protocol).copied().unwrap_or(0);
            assert!(
                ours <= theirs && theirs <= ours + seen.refused,
                "{name}: {protocol} {ours}, its index {theirs}, refused {}",
                seen.refused
            );
        }
    }
    println!("{files} captures counted, {exact} of them without a refused frame");
    assert!(files > 850 && exact > 700, "{files} {exact}");
}

#[test]
fn captures_are_read_as_the_others_read_them() {
    let Some(folder) = folder() else { return };
    let mut pending = vec![folder.join("pcap")];
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut files = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        if path.extension().is_none_or(|kind| kind != "pcap") {
            continue;
        }
        println!("{}", path.display());
        files += 1;
        for frame in frames(&path) {
            compare(&frame);
            let outcome = match parse(&frame) {
                Ok(_) => "accepted".to_owned(),
                Err(reason) => format!("{reason:?}"),
            };
            *reasons.entry(outcome).or_default() += 1;
        }
    }
    println!("{files} captures: {reasons:#?}");
    assert!(files > 1000);
    assert!(reasons.contains_key(&format!("{:?}", ParseError::BadIpHeader)));
}
