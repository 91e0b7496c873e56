//! What is written down of flows, and exported: every flow begins and ends once in the books, with all that passed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conntrack::{EndReason, State};
use dataplane::ipfix::exporter::{Exporter, Names, Options, Outlet, WallClock};
use dataplane::ipfix::stats::Stats;
use dataplane::journal::{Entry, Journal, Kind};
use dataplane::verdict::DropReason;
use net::{FlowKey, Timestamp};
use proptest::prelude::*;
use tests::ipfix::Collector;
use tests::scenario::Stage;

const ACTIVE: Duration = Duration::from_mins(1);

/// A stage whose workers keep journals.
struct Books {
    stage: Stage<'static>,
    journals: Vec<Arc<Journal>>,
    entries: Vec<Entry>,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"))
}

impl Books {
    fn open(rig: &str, room: usize) -> Self {
        let mut stage = Stage::new(folder());
        for line in [
            rig,
            "use base",
            "apply F5SPKIngressTCP auto service=web:80 destinationAddress=203.0.113.11 \
             destinationPort=80 snat=SRC_TRANS_AUTOMAP",
            "publish",
        ] {
            stage.run(line).unwrap();
        }
        let journals = stage.rig().keep_journals(room, ACTIVE);
        Self {
            stage,
            journals,
            entries: Vec::new(),
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let lines = self
            .stage
            .run(line)
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        for journal in &self.journals {
            self.entries.extend(std::iter::from_fn(|| journal.pop()));
        }
        lines
    }

    /// A whole connection: what is sent, to the server and back, in octets of IP.
    fn connection(&mut self, client: &str, server: &str) -> [u64; 2] {
        let line = format!("> 1.1 100 client>tmm1 tcp {client}>{server} S seq=1");
        let sent = self.run(&line);
        let ends = sent.iter().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.first() == Some(&"1.2")).then(|| words[4].to_owned())
        });
        let ends = ends.unwrap_or_else(|| panic!("{line}: {sent:?}"));
        let (source, member) = ends.split_once('>').unwrap();
        for (from_client, segment) in [
            (false, "S. seq=1000 ack=2"),
            (true, ". seq=2 ack=1001"),
            (true, "P. seq=2 ack=1001 len=100"),
            (false, "P. seq=1001 ack=102 len=900"),
            (true, "F. seq=102 ack=1901"),
            (false, "F. seq=1901 ack=103"),
            (true, ". seq=103 ack=1902"),
        ] {
            self.run(&if from_client {
                format!("> 1.1 100 client>tmm1 tcp {client}>{server} {segment}")
            } else {
                format!("> 1.2 200 b1>tmm2 tcp {member}>{source} {segment}")
            });
        }
        let header = if client.starts_with('[') { 60 } else { 40 };
        [5 * header + 100, 3 * header + 900]
    }
}

struct Plain;

impl Names for Plain {
    fn virtual_server(&self, _: &Entry) -> &'static str {
        "default/web"
    }

    fn tags(&self, _: &Entry) -> [u16; 2] {
        [100, 200]
    }
}

const OPTIONS: Options = Options {
    domain: 7,
    message_octets: 1452,
    template_refresh: Duration::from_mins(1),
    flows: true,
    events: true,
    lasting: 1000,
};

/// Has a collector read what an exporter makes of these entries.
fn exported(options: Options, entries: &[Entry]) -> Collector {
    let (mut exporter, mut collector) = (Exporter::new(options), Collector::default());
    let stats = Stats::default();
    for some in entries.chunks(7) {
        let mut send = |message: &[u8]| collector.take(message, options.domain);
        let mut out = Outlet {
            now: some.last().unwrap().at,
            // Ten seconds into 2026.
            clock: WallClock {
                zero: 1_767_225_610_000_000_000,
            },
            stats: &stats,
            send: &mut send,
        };
        for entry in some {
            exporter.take(entry, &Plain, &mut out);
        }
        exporter.flush(&mut out);
    }
    assert_eq!(stats.records.get(), collector.records.len() as u64);
    assert_eq!(stats.templates.get(), collector.templates_seen as u64);
    assert!(collector.longest <= options.message_octets.max(600));
    collector
}

#[test]
fn a_collector_that_is_away_gets_templates_before_the_next_record_and_not_over_and_over() {
    let mut books = Books::open("rig", 1000);
    books.connection("192.0.2.7:40000", "203.0.113.10:80");
    let entry = books.entries.remove(0);
    let (stats, mut exporter) = (Stats::default(), Exporter::new(OPTIONS));
    let mut collector = Collector::default();
    let mut tell = |exporter: &mut Exporter, entry: Option<&Entry>| {
        let mut send = |message: &[u8]| collector.take(message, OPTIONS.domain);
        let mut out = Outlet {
            now: Timestamp::ZERO,
            clock: WallClock { zero: 0 },
            stats: &stats,
            send: &mut send,
        };
        if let Some(entry) = entry {
            exporter.take(entry, &Plain, &mut out);
        }
        exporter.refresh_templates(&mut out);
        exporter.flush(&mut out);
        stats.templates.get()
    };
    let once = tell(&mut exporter, None);
    for _ in 0..100 {
        exporter.repeat_templates();
        assert_eq!(tell(&mut exporter, None), once);
    }
    assert_eq!(tell(&mut exporter, Some(&entry)), 2 * once);
    assert_eq!(tell(&mut exporter, Some(&entry)), 2 * once);
}

// case VPPN-002: of a padded frame, only the IP packet is counted.
#[test]
fn a_connection_is_written_down_with_what_passed_and_why_it_ended() {
    for rig in ["rig", "rig straight=no", "rig workers=4 nic=turns"] {
        let mut books = Books::open(rig, 1000);
        let mut expected: Vec<(FlowKey, [u64; 2])> = Vec::new();
        for (client, server) in [
            ("192.0.2.7:40000", "203.0.113.10:80"),
            ("192.0.2.7:40001", "203.0.113.11:80"),
            ("[2001:db8:1::7]:40002", "[2001:db8:f::10]:80"),
        ] {
            let octets = books.connection(client, server);
            expected.push((books.entries.last().unwrap().original, octets));
        }
        assert_eq!(books.entries.len(), 3, "{rig}");
        assert!(books.entries.iter().all(|e| e.kind == Kind::Opened));
        books.run("wait 200s");
        let mut ended = books.entries.split_off(3);
        ended.sort_by_key(|entry| entry.original.sport());
        assert_eq!(ended.len(), 3);
        for (entry, (original, octets)) in ended.iter().zip(&expected) {
            assert_eq!(entry.kind, Kind::Ended(EndReason::Closed));
            assert_eq!(entry.state, Some(State::TimeWait));
            assert_eq!(entry.original, *original);
            assert_eq!((entry.packets, entry.octets), ([5, 3], *octets), "{rig}");
            assert!(entry.created <= entry.last_seen && entry.last_seen < entry.at);
        }
        let all: Vec<Entry> = books.entries.iter().chain(&ended).copied().collect();
        let read = exported(OPTIONS, &all);
        let kinds: Vec<u16> = read.records.iter().map(|r| r.template).collect();
        assert_eq!(
            kinds,
            [258, 258, 259, 256, 258, 256, 258, 257, 259],
            "{rig}"
        );
        // Created, and deleted.
        let events: Vec<u64> = read
            .records
            .iter()
            .filter(|r| r.has(230))
            .map(|r| r.number(230))
            .collect();
        assert_eq!(events, [4, 4, 1, 5, 5, 2]);
        let flow = &read.records[5];
        assert_eq!(flow.address(8).to_string(), "192.0.2.7");
        assert_eq!(flow.address(12).to_string(), "203.0.113.11");
        assert_eq!(flow.address(225).to_string(), "198.51.100.1");
        assert_eq!(flow.address(226).to_string(), "198.51.100.11");
        assert_eq!(
            (flow.number(7), flow.number(11), flow.number(228)),
            (40_001, 80, 8080)
        );
        assert_eq!(flow.number(227), u64::from(ended[1].reply.dport().0));
        assert_eq!(
            (flow.number(4), flow.number(136), flow.number(239)),
            (6, 3, 1)
        );
        assert_eq!((flow.number(58), flow.number(59)), (100, 200));
        assert_eq!((flow.number(1), flow.number(2)), (300, 5));
        assert_eq!((flow.reverse(1), flow.reverse(2)), (1020, 3));
        assert_eq!(flow.text(96), "default/web");
        let start = ended[1].created.as_nanos() / 1_000_000 + 1_767_225_610_000;
        assert_eq!(flow.number(152), start);
        assert!(flow.number(153) >= start);
        let six = &read.records[7];
        assert_eq!(six.address(27).to_string(), "2001:db8:1::7");
        assert_eq!(six.address(282).to_string(), "2001:db8:2::11");
        assert_eq!((six.number(1), six.reverse(1)), (400, 1080));
    }
}

#[test]
fn each_way_to_end_is_told_by_its_reason() {
    let mut books = Books::open("rig flows=2", 1000);
    let syn =
        |port: u16| format!("> 1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.10:80 S seq=1");
    books.run(&syn(1));
    books.run("> 1.2 200 b1>tmm2 tcp 198.51.100.11:8080>192.0.2.7:1 R. seq=0 ack=2");
    books.run("wait 60s");
    books.run(&syn(2));
    books.run("wait 600s");
    books.run("> 1.1 100 client>tmm1 udp 192.0.2.7:3>203.0.113.10:53 len=9");
    books.run("> 1.2 200 b1>tmm2 udp 198.51.100.11:5353>192.0.2.7:3 len=9");
    books.run("wait 600s");
    for port in 4..7 {
        books.run(&syn(port));
    }
    books.run("wait 1s");
    books.run("delete F5SPKIngressTCP web");
    books.run("> 1.1 100 client>tmm1 tcp 192.0.2.7:6>203.0.113.10:80 . seq=2 ack=1");
    let ended: Vec<(u16, &str, u64)> = books
        .entries
        .iter()
        .filter_map(|entry| match entry.kind {
            Kind::Ended(reason) => {
                let read = exported(OPTIONS, &[*entry]);
                let told = read.records[0].number(136);
                Some((entry.original.sport().0, reason.name(), told))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        ended,
        [
            (1, "reset", 3),
            (2, "unanswered", 1),
            (3, "idle", 1),
            (4, "evicted", 5),
            (6, "removed", 4)
        ]
    );
    // And counted for the virtual server.
    let show = config::client::Show {
        table: "virtual-servers".to_owned(),
        ..Default::default()
    };
    let rows = books
        .stage
        .rig()
        .control()
        .show(&show, Timestamp::ZERO)
        .unwrap();
    assert!(
        format!("{rows:?}").contains("\"endedIdle\": Number(1)"),
        "{rows:?}"
    );
}

#[test]
fn a_flow_that_lasts_is_told_of_each_time_and_the_parts_make_the_whole() {
    let mut books = Books::open("rig flows=1024", 1000);
    books.run("apply F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 destinationPort=80 idleTimeout=300");
    books.run("> 1.1 100 client>tmm1 tcp 192.0.2.7:40000>203.0.113.10:80 S seq=1");
    books.run("> 1.2 200 b1>tmm2 tcp 198.51.100.11:8080>192.0.2.7:40000 S. seq=1000 ack=2");
    books.run("> 1.1 100 client>tmm1 tcp 192.0.2.7:40000>203.0.113.10:80 . seq=2 ack=1001");
    for _ in 0..30 {
        books.run(
            "> 1.1 100 client>tmm1 tcp 192.0.2.7:40000>203.0.113.10:80 P. seq=2 ack=1001 len=10",
        );
        // As often as a worker that is left alone looks.
        for _ in 0..20 {
            books.run("wait 1s");
        }
    }
    let lasted = books
        .entries
        .iter()
        .filter(|e| e.kind == Kind::Lasts)
        .count();
    assert!((8..=10).contains(&lasted), "{lasted} times in 600 s");
    // Silent: nothing more to tell, until it ends.
    books.run("wait 150s");
    let before = books.entries.len();
    books.run("wait 100s");
    assert_eq!(books.entries.len(), before);
    books.run("wait 200s");
    let read = exported(OPTIONS, &books.entries);
    let flows: Vec<_> = read.records.iter().filter(|r| r.template == 256).collect();
    let sum = |element: u16| flows.iter().map(|r| r.number(element)).sum::<u64>();
    assert_eq!((sum(2), sum(1)), (32, 80 + 30 * 50));
    assert_eq!(flows.iter().map(|r| r.reverse(2)).sum::<u64>(), 1);
    let reasons: Vec<u64> = flows.iter().map(|r| r.number(136)).collect();
    let (last, interim) = reasons.split_last().unwrap();
    assert_eq!(*last, 1);
    assert!(interim.iter().all(|reason| *reason == 2) && interim.len() >= lasted);
    // Each begins where the one before ended.
    for pair in flows.windows(2) {
        assert_eq!(pair[0].number(153), pair[1].number(152));
    }
}

#[test]
fn of_more_lasting_flows_than_are_kept_in_mind_the_rest_is_told_of_at_its_end() {
    let mut books = Books::open("rig", 1000);
    for port in 0..3 {
        books.run(&format!(
            "> 1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.10:80 S seq=1"
        ));
    }
    let opened: Vec<Entry> = books.entries.clone();
    let later = |entry: &Entry, kind, packets| Entry {
        kind,
        at: entry.at + Duration::from_secs(100),
        packets: [packets, 0],
        ..*entry
    };
    let mut entries: Vec<Entry> = opened.iter().map(|e| later(e, Kind::Lasts, 5)).collect();
    entries.extend(
        opened
            .iter()
            .map(|e| later(e, Kind::Ended(EndReason::Idle), 9)),
    );
    let options = Options {
        lasting: 2,
        events: false,
        ..OPTIONS
    };
    let read = exported(options, &entries);
    let packets: Vec<u64> = read.records.iter().map(|r| r.number(2)).collect();
    assert_eq!(packets, [5, 5, 4, 4, 9]);
}

#[test]
fn a_full_ring_loses_entries_and_nothing_else() {
    let mut books = Books::open("rig", 4);
    let journal = Arc::clone(&books.journals[0]);
    for port in 1..=10 {
        let line = format!("> 1.1 100 client>tmm1 tcp 192.0.2.7:{port}>203.0.113.10:80 S seq=1");
        // Nobody reads.
        let lines = books.stage.run(&line).unwrap();
        assert!(
            lines.iter().any(|line| line.contains("forwarded.opened 1")),
            "{lines:?}"
        );
    }
    assert!(journal.is_busy());
    assert_eq!(journal.lost(), 6);
    books.run("");
    assert_eq!(books.entries.len(), 4);
}

#[test]
fn refusals_are_told_once_a_second_by_what_they_are() {
    let mut books = Books::open("rig flows=2 stripe=1024-1024", 1000);
    let syn = |port: u16, server: &str| {
        format!("> 1.1 100 client>tmm1 tcp 192.0.2.7:{port}>{server}:80 S seq=1")
    };
    for port in 2000..2010 {
        books.run(&syn(port, "203.0.113.11"));
    }
    books.run("wait 2s");
    books.run(&syn(2010, "203.0.113.11"));
    let refused: Vec<DropReason> = books
        .entries
        .iter()
        .filter_map(|entry| match entry.kind {
            Kind::Refused(reason) => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [DropReason::SnatExhausted; 2]);
    let read = exported(OPTIONS, &books.entries);
    let last = read.records.last().unwrap();
    // NAT ports exhausted.
    assert_eq!(
        (last.template, last.number(230), last.number(4)),
        (262, 12, 6)
    );
    for (reason, template, event) in [
        (DropReason::NoSelfIp, 262, 3),
        (DropReason::NoSnatAddress, 262, 3),
        (DropReason::TableFull, 263, 13),
        (DropReason::NatMappings, 263, 13),
        (DropReason::NoMember, 260, 3),
    ] {
        let entry = Entry {
            kind: Kind::Refused(reason),
            ..*books.entries.last().unwrap()
        };
        let record = exported(OPTIONS, &[entry]).records.remove(0);
        let element = if template == 260 { 233 } else { 230 };
        assert_eq!((record.template, record.number(element)), (template, event));
        if template == 263 {
            let quota = if reason == DropReason::TableFull {
                1
            } else {
                2
            };
            assert_eq!(record.number(466), quota);
        }
    }
}

#[test]
fn a_flow_beyond_a_limit_is_told_of_as_refused() {
    let mut books = Books::open("rig flows=64", 1000);
    books.run("apply F5SPKIngressTCP few service=web:80 destinationAddress=203.0.113.12 destinationPort=80 clientConnectionLimit=1");
    books.run("apply F5SPKIngressTCP few2 service=web:80 destinationAddress=203.0.113.13 destinationPort=80 connectionLimit=1");
    for (server, ports) in [
        ("203.0.113.12", [2000, 2001]),
        ("203.0.113.13", [2002, 2003]),
    ] {
        for port in ports {
            books.run(&format!(
                "> 1.1 100 client>tmm1 tcp 192.0.2.7:{port}>{server}:80 S seq=1"
            ));
        }
    }
    let refused: Vec<Kind> = books
        .entries
        .iter()
        .map(|entry| entry.kind)
        .filter(|kind| matches!(kind, Kind::Refused(_)))
        .collect();
    let reasons = [DropReason::ClientLimit, DropReason::ConnectionLimit];
    assert_eq!(refused, reasons.map(Kind::Refused));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// However small messages are and however often templates are repeated, a collector reads what was written.
    #[test]
    fn every_entry_arrives_whatever_the_size_of_messages(
        octets in 300..1500usize,
        refresh in 1..100u64,
        flows in any::<bool>(),
        events in any::<bool>(),
        kinds in prop::collection::vec((0..5usize, 0..3usize), 1..60),
    ) {
        let mut books = Books::open("rig", 1000);
        for server in ["203.0.113.10:80", "203.0.113.11:80"] {
            books.run(&format!("> 1.1 100 client>tmm1 tcp 192.0.2.7:40000>{server} S seq=1"));
        }
        books.run("> 1.1 100 client>tmm1 udp [2001:db8:1::7]:9>[2001:db8:f::10]:53 len=9");
        let base = std::mem::take(&mut books.entries);
        let entries: Vec<Entry> = kinds.iter().enumerate().map(|(number, (kind, which))| {
            let kind = [
                Kind::Opened,
                Kind::Lasts,
                Kind::Ended(EndReason::Idle),
                Kind::Refused(DropReason::TableFull),
                Kind::Refused(DropReason::NoMember),
            ][*kind];
            let at = base[*which].at + Duration::from_secs(number as u64);
            Entry { kind, at, ..base[*which] }
        }).collect();
        let template_refresh = Duration::from_secs(refresh);
        let options = Options { message_octets: octets, template_refresh, flows, events, ..OPTIONS };
        let read = exported(options, &entries);
        let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &entries {
            let (flow, event) = match entry.kind {
                Kind::Opened | Kind::Refused(_) => (0, 1),
                Kind::Lasts => (1, 0),
                Kind::Ended(_) => (1, 1),
            };
            *expected.entry("flows").or_default() += if flows { flow } else { 0 };
            *expected.entry("events").or_default() += if events { event } else { 0 };
        }
        let flow_records = read.records.iter().filter(|r| r.template <= 257).count();
        prop_assert_eq!(flow_records, expected["flows"]);
        prop_assert_eq!(read.records.len() - flow_records, expected["events"]);
    }
}
