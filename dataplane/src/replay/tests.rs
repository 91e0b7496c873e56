//! The merging of captures and the answers of neighbours. Whole replays are in the `tests` crate.

use net::{IpPrefix, L4Port};

use super::inputs::Inputs;
use super::neighbors::{answer, mac, question};
use super::*;
use crate::pcap::{Reader, Writer};

fn capture(frames: &[(u64, u8)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for (time, octet) in frames {
        writer
            .write(Timestamp::from_nanos(*time), &[*octet])
            .unwrap();
    }
    writer.finish().unwrap()
}

fn merged(captures: &[(u8, &[(u64, u8)])]) -> Vec<(u8, u64, u8)> {
    let files: Vec<(PortId, Vec<u8>)> = captures
        .iter()
        .map(|(port, frames)| (PortId(*port), capture(frames)))
        .collect();
    let readers = files
        .iter()
        .map(|(port, octets)| (*port, Reader::new("test", &octets[..]).unwrap()));
    let mut inputs = Inputs::new(readers.collect());
    let mut all = Vec::new();
    while inputs
        .next_with(|port, at, octets| {
            all.push((port.0, at.as_nanos(), octets[0]));
            Ok::<_, ()>(())
        })
        .unwrap()
    {}
    all
}

#[test]
fn frames_are_merged_by_time_then_port_then_position() {
    let expected = [
        (0, 1, b'a'),
        (0, 5, b'b'),
        (0, 5, b'c'),
        (1, 5, b'x'),
        (1, 6, b'y'),
        (0, 7, b'd'),
    ];
    let first: &[(u64, u8)] = &[(1, b'a'), (5, b'b'), (5, b'c'), (7, b'd')];
    let second: &[(u64, u8)] = &[(5, b'x'), (6, b'y')];
    assert_eq!(merged(&[(0, first), (1, second)]), expected);
    assert_eq!(merged(&[(1, second), (0, first)]), expected);
}

#[test]
fn a_timestamp_that_goes_back_keeps_its_frame_behind_the_one_before() {
    let first: &[(u64, u8)] = &[(10, b'a'), (2, b'b'), (11, b'c')];
    let second: &[(u64, u8)] = &[(3, b'x')];
    let expected = [(1, 3, b'x'), (0, 10, b'a'), (0, 10, b'b'), (0, 11, b'c')];
    assert_eq!(merged(&[(0, first), (1, second)]), expected);
}

/// Takes what leaves.
#[derive(Default)]
struct Taken(Vec<(PortId, Vec<u8>)>);

impl Sink for Taken {
    fn frame(&mut self, port: PortId, _: Timestamp, octets: &[u8]) -> io::Result<()> {
        self.0.push((port, octets.to_vec()));
        Ok(())
    }
}

#[test]
fn questions_are_told_from_announcements_and_answered_in_kind() {
    let asker = MacAddr([2, 0, 0, 0, 0, 9]);
    let arp = |operation: u8, sender: [u8; 4], target: [u8; 4]| {
        let packet = [
            &[0, 1, 8, 0, 6, 4, 0, operation][..],
            &asker.0,
            &sender,
            &[0; 6],
            &target,
        ]
        .concat();
        net::emit::ethernet(MacAddr([0xff; 6]), asker, Encap::UNTAGGED, 0x0806, &packet)
    };
    let (we, they) = ([192, 0, 2, 1], [192, 0, 2, 7]);
    for silent in [
        arp(1, we, we),
        arp(1, [0; 4], we),
        arp(2, we, they),
        vec![0; 10],
    ] {
        assert_eq!(question(&silent, &mut Vec::new()), None);
    }
    let asked = question(&arp(1, we, they), &mut Vec::new()).unwrap();
    let mac = mac(&asked.target);
    assert_eq!(mac, MacAddr([0x02, 0x04, 192, 0, 2, 7]));
    let reply = answer(&asked, mac);
    // To the asker, from the one asked for: operation 2, sender and target exchanged.
    assert_eq!(net::emit::macs(&reply), (mac, asker));
    assert_eq!(reply[20..22], [0, 2]);
    assert_eq!(reply[22..28], mac.0);
    assert_eq!((&reply[28..32], &reply[38..42]), (&they[..], &we[..]));

    // The same in IPv6: the answer is well formed, and no question itself.
    let (we, they) = ("2001:db8::1", "2001:db8::7");
    let addr = |text: &str| net::Addr::from(text.parse::<IpPrefix>().unwrap().addr());
    let key = net::FlowKey::new(
        addr(we),
        addr(they),
        L4Port(0),
        L4Port(0),
        net::IpProto::ICMPV6,
    );
    let body = *addr(they).octets();
    let packet = net::emit::icmp(&key, 255, 135, 0, [0; 4], &body);
    let frame = net::emit::ethernet(asker, asker, Encap::UNTAGGED, 0x86dd, &packet);
    let asked = question(&frame, &mut Vec::new()).unwrap();
    let reply = answer(&asked, MacAddr([2, 6, 0, 0, 0, 7]));
    let layers = parse(&reply, &mut Vec::new()).unwrap();
    assert_eq!((layers.icmp_type, layers.ttl), (136, 255));
    assert_eq!((layers.key.src, layers.key.dst), (addr(they), addr(we)));
    assert_eq!(question(&reply, &mut Vec::new()), None);
}

#[test]
fn without_a_frame_tmm_only_announces_itself_and_the_clock_runs_as_long_as_asked() {
    let vlan = serde_json::json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
        "metadata": { "name": "external" }, "spec": { "name": "external", "interfaces": ["1.1"],
            "selfip_v4s": ["192.0.2.1"], "prefixlen_v4": 24 } });
    let mut replay = Replay::new(ReplayConfig::default(), &[vlan]).unwrap();
    let mut taken = Taken::default();
    replay.finish(&mut taken).unwrap();
    assert_eq!(replay.now(), Timestamp::from_secs(5));
    let arp = taken.0.iter().filter(|(_, frame)| frame[12..14] == [8, 6]);
    assert_eq!(arp.count(), 3, "announced three times");
    let summary = replay.summary(Vec::new());
    assert_eq!((summary.frames, summary.synthetic_answers), (0, 0));
    assert_eq!(summary.originated, taken.0.len() as u64);
}

#[test]
fn objects_that_are_wrong_are_told_and_nothing_is_replayed() {
    let wrong = serde_json::json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
        "metadata": { "name": "external" }, "spec": { "tag": 5000 } });
    let Err(errors) = Replay::new(ReplayConfig::default(), &[wrong]) else {
        panic!("tag 5000 is accepted");
    };
    assert!(
        errors.iter().any(|error| error.field == "spec.tag"),
        "{errors:?}"
    );
}
