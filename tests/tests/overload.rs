//! Floods, limits and flushes through the whole pipeline: who was there before stays, and every counter adds up.
//!
//! A flood here has a million sources; with `TMM_FLOOD=10000000` in the environment it has ten (`make
//! test-flood`).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conntrack::{Cursor, State};
use dataplane::memory::MemoryFrame;
use dataplane::rig::{Nic, Rig, RigConfig};
use net::packet::RxChecksum;
use net::{Addr, FlowKey, IpProto, L4Port, PortId, Timestamp};
use serde_json::{Map, Value, json};
use tests::scenario::{frame, object};

const EXTERNAL: PortId = PortId(0);
const INTERNAL: PortId = PortId(1);
/// Where the IPv4 header begins behind one tag.
const L3: usize = 18;

fn flood_size() -> u32 {
    std::env::var("TMM_FLOOD").map_or(1_000_000, |size| size.parse().unwrap())
}

fn rig(workers: u16, nic: Nic, flow_capacity: usize, options: &str) -> Rig {
    let mut rig = Rig::new(&RigConfig {
        workers,
        nic,
        flow_capacity,
        ..RigConfig::default()
    });
    let lines = [
        "F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24",
        "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24",
        "Service web 80/TCP 53/UDP",
        "EndpointSlice web TCP 198.51.100.11:8080",
        "EndpointSlice web:53 UDP 198.51.100.11:5353",
    ];
    let mut objects: Vec<Value> = lines.iter().map(|line| object(line).unwrap()).collect();
    for (kind, name, service, port) in [
        ("F5SPKIngressTCP", "web", "web:80", 80),
        ("F5SPKIngressUDP", "dns", "web:53", 53),
    ] {
        // Datagrams have no SYN.
        let options = if port == 53 && options.starts_with("syn") {
            ""
        } else {
            options
        };
        let line = format!(
            "{kind} {name} service={service} destinationAddress=203.0.113.10 destinationPort={port} {options}"
        );
        objects.push(object(&line).unwrap());
    }
    rig.apply(&objects).unwrap();
    rig.advance(at(1));
    // The member is asked for, and answers, when the first frame wants to go there.
    say(&rig, &client_says(0, "S seq=1"));
    rig.advance(at(1));
    say(
        &rig,
        "1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.11",
    );
    rig.advance(at(1));
    drain(&rig);
    rig
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn say(rig: &Rig, line: &str) {
    let (port, frame) = frame(line).unwrap();
    rig.send(port, frame);
}

/// Takes all that left, by port.
fn drain(rig: &Rig) -> [Vec<MemoryFrame>; 2] {
    [EXTERNAL, INTERNAL].map(|port| std::iter::from_fn(|| rig.receive(port)).collect())
}

/// A frame of client `n`, of a few thousand that mean well.
fn client_says(n: u16, segment: &str) -> String {
    let [high, low] = n.to_be_bytes();
    format!("1.1 100 client>tmm1 tcp 192.168.{high}.{low}:40000>203.0.113.10:80 {segment}")
}

fn member_says(n: u16, segment: &str) -> String {
    let [high, low] = n.to_be_bytes();
    format!("1.2 200 b1>tmm2 tcp 198.51.100.11:8080>192.168.{high}.{low}:40000 {segment}")
}

fn client_key(n: u16) -> FlowKey {
    let [high, low] = n.to_be_bytes();
    FlowKey::new(
        Addr::from_v4([192, 168, high, low]),
        Addr::from_v4([203, 0, 113, 10]),
        L4Port(40_000),
        L4Port(80),
        IpProto::TCP,
    )
}

/// Opens connections of `clients`, as far as both ends have said something.
fn establish(rig: &mut Rig, clients: u16, now: Timestamp) {
    for n in 1..=clients {
        for line in [
            client_says(n, "S seq=1000"),
            member_says(n, "S. seq=9000 ack=1001"),
            client_says(n, ". seq=1001 ack=9001"),
        ] {
            say(rig, &line);
            rig.advance(now);
        }
    }
    drain(rig);
}

/// Frames of forged clients, one of each: SYNs and datagrams in turn.
struct Forged {
    syn: MemoryFrame,
    datagram: MemoryFrame,
}

impl Forged {
    fn new() -> Self {
        let made = |line: &str| {
            let (_, mut frame) = frame(line).unwrap();
            // The device has checked it; the address is to be changed.
            frame.rx.l4_checksum = RxChecksum::Good;
            frame.rx.ip_checksum = RxChecksum::Good;
            frame
        };
        Self {
            syn: made("1.1 100 client>tmm1 tcp 10.0.0.1:1025>203.0.113.10:80 S seq=1"),
            datagram: made("1.1 100 client>tmm1 udp 10.0.0.1:1025>203.0.113.10:53 len=1"),
        }
    }

    fn frame(&self, n: u32) -> MemoryFrame {
        let like = if n.is_multiple_of(2) {
            &self.syn
        } else {
            &self.datagram
        };
        let mut octets = like.octets().to_vec();
        let [_, b, c, d] = n.to_be_bytes();
        octets[L3 + 12..L3 + 16].copy_from_slice(&[10, b, c, d]);
        // The header's checksum is not the device's to say in every case.
        octets[L3 + 10..L3 + 12].fill(0);
        let sum: u32 = octets[L3..L3 + 20]
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        octets[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = MemoryFrame::new(&octets);
        frame.rx = like.rx;
        frame
    }
}

fn counters(rig: &Rig) -> BTreeMap<String, u64> {
    rig.control().counters()
}

fn rows(rig: &Rig, table: &str) -> Vec<Value> {
    let show = config::client::Show {
        table: table.to_owned(),
        ..Default::default()
    };
    match rig.control().show(&show, at(1)).unwrap() {
        dataplane::control::show::Answered::Rows(rows) => {
            rows.into_iter().map(Value::Object).collect()
        }
        dataplane::control::show::Answered::Connections(_) => Vec::new(),
    }
}

fn row(rig: &Rig, name: &str) -> Value {
    let rows = rows(rig, "virtual-servers");
    rows.into_iter()
        .find(|row| row["virtualServer"].as_str().unwrap().contains(name))
        .unwrap()
}

fn flows(rig: &Rig) -> Vec<(FlowKey, State)> {
    let mut all = Vec::new();
    for worker in rig.workers() {
        let table = worker.pipeline().flows();
        let (flows, _) = table.iter_from(Cursor::default(), usize::MAX);
        all.extend(flows.map(|(_, flow)| (flow.original(), flow.state())));
    }
    all
}

/// Each established connection is asked to carry data, both ways.
fn all_carry_data(rig: &mut Rig, clients: u16, now: Timestamp) {
    drain(rig);
    for n in 1..=clients {
        say(rig, &client_says(n, "P. seq=1001 ack=9001 len=10"));
        say(rig, &member_says(n, "P. seq=9001 ack=1001 len=20"));
    }
    rig.advance(now);
    let sent = drain(rig).map(|frames| frames.len());
    assert_eq!(sent, [usize::from(clients); 2]);
}

fn flood(workers: u16, nic: Nic) {
    const CLIENTS: u16 = 1000;
    let capacity = 100_000;
    let size = flood_size();
    let mut rig = rig(workers, nic, capacity, "");
    establish(&mut rig, CLIENTS, at(2));
    let before = counters(&rig);
    let forged = Forged::new();
    let begun = Instant::now();
    let mut now = at(2);
    for first in (0..size).step_by(256) {
        for n in first..size.min(first + 256) {
            rig.send(EXTERNAL, forged.frame(n));
        }
        // A million a second.
        now = now + Duration::from_micros(256);
        rig.advance(now);
        drain(&rig);
    }
    let took = begun.elapsed();
    let after = counters(&rig);
    let grown = |name: &str| after[name] - before[name];
    let held = rig.workers().len() * capacity;
    println!(
        "{size} forged sources in {took:?}: opened {}, evicted {}, refused {}",
        grown("flows_opened_total"),
        grown("flows_evicted_total"),
        grown("drop.table_full"),
    );
    // Every frame opened a flow or was counted as refused, and flows are those that were not put out.
    let arrived =
        grown("flows_opened_total") + grown("drop.table_full") + grown("drop.handoff_full");
    assert_eq!(arrived, u64::from(size));
    assert_eq!(
        after["flows"],
        after["flows_opened_total"] - after["flows_ended_total"]
    );
    if u64::from(size) > held as u64 {
        assert!(
            after["flows"] >= held as u64 * 99 / 100,
            "{}",
            after["flows"]
        );
        assert!(grown("flows_evicted_total") > 0);
    }
    // Who was there before is there, one by one, and the oldest of the flood went first.
    let there: BTreeMap<FlowKey, State> = flows(&rig).into_iter().collect();
    for n in 1..=CLIENTS {
        assert_eq!(there.get(&client_key(n)), Some(&State::Established), "{n}");
    }
    let forged_left = there
        .keys()
        .filter(|key| key.src.v4_octets()[0] == 10)
        .map(|key| {
            let [_, b, c, d] = key.src.v4_octets();
            u32::from_be_bytes([0, b, c, d])
        });
    let (mut old, mut young) = (0_u32, 0_u32);
    for n in forged_left {
        let recent = u64::from(size - n) <= 2 * held as u64;
        *(if recent { &mut young } else { &mut old }) += 1;
    }
    assert!(
        old <= young / 20,
        "{old} old ones are left, {young} young ones"
    );
    all_carry_data(&mut rig, CLIENTS, now);
}

// case VPPN-013: at the limit, what is half open gives way, oldest first; established flows never do.
#[test]
fn a_flood_of_forged_syns_and_datagrams_leaves_established_connections_as_they_are() {
    flood(1, Nic::Tuple);
}

#[test]
fn a_flood_over_several_workers_leaves_established_connections_as_they_are() {
    flood(4, Nic::RoundRobin);
}

/// What a client answers to a question is its acknowledgement number.
fn question_of(frame: &MemoryFrame) -> Option<u32> {
    let tcp = &frame.octets()[L3 + 20..];
    (tcp[13] == 0x12).then(|| u32::from_be_bytes(tcp[8..12].try_into().unwrap()))
}

// case LNX-016: a client that has to prove its address gets through to ESTABLISHED, on whichever worker.
#[test]
fn under_a_flood_of_syns_those_who_answer_get_through_and_the_others_cost_no_flow() {
    for (workers, nic) in [(1, Nic::Tuple), (4, Nic::RoundRobin)] {
        let mut rig = rig(workers, nic, 100_000, "synProtectionThreshold=100");
        let forged = Forged::new();
        let size = 20_000;
        let mut now = at(2);
        for n in (0..size).step_by(2) {
            rig.send(EXTERNAL, forged.frame(n));
            if n % 256 == 0 {
                now = now + Duration::from_micros(128);
                rig.advance(now);
                drain(&rig);
            }
        }
        rig.advance(now);
        drain(&rig);
        let seen = counters(&rig);
        // What the threshold lets in, and the one that asked for the member.
        assert!(seen["flows"] <= 110, "{}", seen["flows"]);
        let held_off = seen["answer.syn_challenge"];
        assert!(held_off >= u64::from(size) / 2 - 110, "{held_off}");
        assert_eq!(row(&rig, "web")["challengesTotal"], held_off);
        // Forged answers prove nothing.
        say(&rig, &client_says(7, "R seq=12345"));
        rig.advance(now);
        assert_eq!(counters(&rig)["drop.bad_syn_proof"], 1);
        // Those who mean well are asked, answer, and are let in: all of them, at once from then on.
        for n in 1..=50 {
            say(&rig, &client_says(n, "S seq=1000"));
            rig.advance(now);
            let [answers, _] = drain(&rig);
            let cookie = answers.iter().find_map(question_of).unwrap();
            say(&rig, &client_says(n, &format!("R seq={cookie}")));
            // Two workers may have them: the SYN comes when the answer has been read, as it does in life.
            rig.advance(now);
            say(&rig, &client_says(n, "S seq=1000"));
            rig.advance(now);
            let [_, forwarded] = drain(&rig);
            assert_eq!(forwarded.len(), 1, "{n}");
        }
        let seen = counters(&rig);
        assert_eq!(seen["syn_proofs_total"], 50);
        establish(&mut rig, 50, now);
        all_carry_data(&mut rig, 50, now);
        let open = flows(&rig);
        let established = open
            .iter()
            .filter(|(_, state)| *state == State::Established);
        assert_eq!(established.count(), 50);
        // Known for some minutes, not for ever.
        let again = now + Duration::from_secs(400);
        rig.advance(again);
    }
}

// case OVS-033: the limit holds, over all workers too; what ends gives its place back.
#[test]
fn the_limit_of_a_client_holds_over_all_workers_and_is_exact_however_flows_end() {
    for (workers, nic) in [(1, Nic::Tuple), (4, Nic::RoundRobin)] {
        for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
            let options = format!("clientConnectionLimit=5 snat={snat}");
            let mut rig = rig(workers, nic, 4096, &options);
            let client = "1.1 100 client>tmm1 tcp 192.0.2.77:";
            let opened = |rig: &mut Rig, ports: std::ops::Range<u16>, now| {
                // The member is still there.
                say(
                    rig,
                    "1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.11",
                );
                rig.advance(now);
                let before = counters(rig)["flows_opened_total"];
                for port in ports {
                    say(rig, &format!("{client}{port}>203.0.113.10:80 S seq=1"));
                }
                rig.advance(now);
                counters(rig)["flows_opened_total"] - before
            };
            assert_eq!(opened(&mut rig, 1000..1020, at(2)), 5, "{workers} {snat}");
            assert_eq!(counters(&rig)["answer.reset_client_limit"], 15);
            assert_eq!(row(&rig, "web")["refusedTotal"], 15);
            // Two are reset by their client: they end after five seconds.
            let two: Vec<FlowKey> = flows(&rig)
                .into_iter()
                .map(|(key, _)| key)
                .filter(|key| key.src == Addr::from_v4([192, 0, 2, 77]))
                .take(2)
                .collect();
            for key in &two {
                let port = key.sport().0;
                say(&rig, &format!("{client}{port}>203.0.113.10:80 R seq=2"));
            }
            rig.advance(at(3));
            assert_eq!(opened(&mut rig, 1100..1110, at(4)), 0);
            rig.advance(at(10));
            assert_eq!(opened(&mut rig, 1200..1210, at(10)), 2);
            // Flushed, and idle for too long.
            let answers = flush(&mut rig, &json!({"client": "192.0.2.77"}), at(11));
            assert_eq!(answers, 5);
            assert_eq!(opened(&mut rig, 1300..1310, at(12)), 5);
            rig.advance(at(60));
            rig.advance(at(61));
            assert_eq!(opened(&mut rig, 1400..1410, at(62)), 5);
            rig.advance(at(100));
            // Without the virtual server, none is left and nothing is counted twice.
            rig.advance(at(101));
            assert_eq!(counters(&rig)["flows"], 0);
        }
    }
}

/// Ends flows, and says how many.
fn flush(rig: &mut Rig, filter: &Value, now: Timestamp) -> u64 {
    let filter: Map<String, Value> = filter.as_object().unwrap().clone();
    let answers = rig.control().flush(&filter).unwrap();
    rig.advance(now);
    answers.try_iter().sum()
}

// case OVS-008: all, by the whole tuple, by parts of it: only what matches goes.
// case OVS-042: thousands by a port, without holding up a turn: each looks at 64.
#[test]
fn a_flush_ends_what_its_filter_selects_and_nothing_else() {
    for workers in [1, 4] {
        let mut rig = rig(workers, Nic::Tuple, 20_000, "");
        let forged = Forged::new();
        let all = |rig: &Rig| flows(rig).len();
        let fill = |rig: &mut Rig| {
            flush(rig, &json!({}), at(2));
            assert_eq!(all(rig), 0);
            for n in 0..6000 {
                rig.send(EXTERNAL, forged.frame(n));
            }
            rig.advance(at(2));
            assert_eq!(all(rig), 6000);
        };
        let cases = [
            (json!({}), 6000),
            (json!({"port": 53}), 3000),
            (json!({"protocol": "tcp"}), 3000),
            (json!({"protocol": "sctp"}), 0),
            (json!({"client": "10.0.0.0/24"}), 256),
            (json!({"client": "10.0.1.7"}), 1),
            (json!({"client": "10.0.1.7", "protocol": "tcp"}), 0),
            (
                json!({"client": "10.0.1.7", "destination": "203.0.113.10", "port": 53, "protocol": "udp", "member": "198.51.100.11"}),
                1,
            ),
            (json!({"member": "198.51.100.0/24"}), 6000),
            (json!({"member": "198.51.101.0/24"}), 0),
            (json!({"destination": "203.0.113.0/24"}), 6000),
            (json!({"state": "SYN_SENT"}), 3000),
            (json!({"virtualServer": "default/dns"}), 3000),
        ];
        for (filter, count) in cases {
            fill(&mut rig);
            let kept = |rig: &Rig| -> Vec<FlowKey> {
                flows(rig).into_iter().map(|(key, _)| key).collect()
            };
            assert_eq!(flush(&mut rig, &filter, at(3)), count, "{filter}");
            assert_eq!(all(&rig) as u64, 6000 - count, "{filter}");
            // What is left is what the filter does not select, and its frames still find it.
            if filter == json!({"port": 53}) {
                assert!(kept(&rig).iter().all(|key| key.dport().0 == 80));
                let before = counters(&rig)["forwarded.original"];
                rig.send(EXTERNAL, forged.frame(2));
                rig.advance(at(3));
                assert_eq!(counters(&rig)["forwarded.original"], before + 1);
            }
            let connections: u64 = ["web", "dns"]
                .iter()
                .map(|name| row(&rig, name)["connections"].as_u64().unwrap())
                .sum();
            assert_eq!(connections, 6000 - count);
        }
        let wrong = rig
            .control()
            .flush(json!({"colour": 7}).as_object().unwrap());
        assert!(wrong.unwrap_err()[0].message.contains("no such filter"));
    }
}
