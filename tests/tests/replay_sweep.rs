//! Every capture at hand through a tmm that listens on everything: nothing panics, and nothing leaves
//! that smoltcp or tshark calls malformed or whose checksum is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod replay_support;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use dataplane::pcap::{Reader, Record, Writer};
use dataplane::replay::{Replay, ReplayConfig, Sink};
use net::emit::{TcpFields, ethernet, ethertype_of, macs, tcp, udp};
use net::header::tcp_flags::{ACK, SYN};
use net::header::{Tcp, view};
use net::{Addr, Encap, FlowKey, Fragment, IpProto, L4Port, PortId, Timestamp};
use replay_support::{check_frame, layers_of};
use serde_json::{Value, json};

const CLIENT_SIDE: PortId = PortId(0);
const SERVER_SIDE: PortId = PortId(1);

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

/// The server of the first connection or exchange, by protocol and family.
type Servers = BTreeMap<(IpProto, bool), (IpAddr, u16)>;

fn is_host(addr: &Addr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_link_local() || v4.octets()[0] >= 240)
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

fn survey(records: &[Record]) -> (BTreeSet<Encap>, Servers) {
    let mut encaps = BTreeSet::new();
    let mut servers = Servers::new();
    for record in records {
        let Ok(layers) = layers_of(&record.octets) else {
            continue;
        };
        encaps.insert(layers.encap);
        let key = layers.key;
        let opens = match key.proto {
            IpProto::TCP => layers.tcp_flags & (SYN | ACK) == SYN,
            IpProto::UDP => true,
            _ => false,
        };
        if opens && layers.fragment == Fragment::Whole && key.dport().0 != 0 && is_host(&key.dst) {
            servers
                .entry((key.proto, key.src.is_v4()))
                .or_insert((key.dst.ip(), key.dport().0));
        }
    }
    (encaps, servers)
}

fn vlan(name: &str, encap: Encap, port: &str, number: usize, own: Option<(&str, &str)>) -> Value {
    let mut spec = json!({ "name": name, "interfaces": [port] });
    if encap.vid() != 0 {
        spec["tag"] = json!(encap.vid());
    }
    if encap.service_vid() != 0 {
        spec["outerTag"] = json!(encap.service_vid());
    }
    if let Some((v4, v6)) = own {
        spec["selfip_v4s"] = json!([v4]);
        spec["prefixlen_v4"] = json!(24);
        spec["selfip_v6s"] = json!([v6]);
        spec["prefixlen_v6"] = json!(64);
        spec["internal"] = json!(number == 1);
    }
    json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": { "name": name },
        "spec": spec })
}

/// Listens on every VLAN there is, for every destination; the members are the servers of the capture,
/// so that its own replies are those of the flows.
fn catch_all(encaps: &BTreeSet<Encap>, servers: &Servers, snat: &str) -> Vec<Value> {
    let mut objects = vec![
        vlan(
            "external",
            Encap::UNTAGGED,
            "1.1",
            0,
            Some(("192.0.2.1", "2001:db8:e::1")),
        ),
        vlan(
            "internal",
            Encap::UNTAGGED,
            "1.2",
            1,
            Some(("198.51.100.1", "2001:db8:f::1")),
        ),
    ];
    // A lone service tag and the reserved VID 4095 can not be configured.
    let tagged = encaps
        .iter()
        .filter(|encap| encap.vid() != 0 && encap.vid() < 4095 && encap.service_vid() < 4095);
    for (number, encap) in tagged.enumerate().take(200) {
        objects.push(vlan(&format!("e{number}"), *encap, "1.1", 0, None));
        objects.push(vlan(&format!("i{number}"), *encap, "1.2", 0, None));
    }
    for (family, gateway) in [("0.0.0.0", "198.51.100.254"), ("::", "2001:db8:f::ff")] {
        objects.push(json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKStaticRoute",
            "metadata": { "name": if gateway.contains(char::from(58)) { "default-v6" } else { "default-v4" } },
            "spec": { "destination": family, "prefixLen": 0, "type": "gateway", "gateway": gateway } }));
    }
    for (kind, group, proto, name) in [
        ("F5SPKIngressTCP", "ingresstcp", IpProto::TCP, "TCP"),
        ("F5SPKIngressUDP", "ingressudp", IpProto::UDP, "UDP"),
    ] {
        let service = name.to_lowercase();
        objects.push(
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": service },
            "spec": { "ports": [{ "name": "p", "port": 80, "protocol": name }] } }),
        );
        for (v4, kind, spare) in [
            (true, "IPv4", "198.51.100.11"),
            (false, "IPv6", "2001:db8:f::11"),
        ] {
            let (addr, port) = servers
                .get(&(proto, v4))
                .copied()
                .unwrap_or((spare.parse().unwrap(), 80));
            objects.push(
                json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": { "name": format!("{service}-{}", kind.to_lowercase()),
                    "labels": { "kubernetes.io/service-name": service } },
                "addressType": kind, "ports": [{ "name": "p", "port": port, "protocol": name }],
                "endpoints": [{ "addresses": [addr], "conditions": { "ready": true } }] }),
            );
        }
        objects.push(
            json!({ "apiVersion": format!("{group}.k8s.f5net.com/v1"), "kind": kind,
            "metadata": { "name": service }, "service": { "name": service, "port": 80 },
            "spec": { "destinationAddress": "0.0.0.0/0", "ipv6destinationAddress": "::/0",
                "destinationPort": 0, "snat": snat } }),
        );
    }
    objects
}

/// Checks and keeps what leaves.
struct Wire<'a> {
    file: &'a Path,
    all: &'a mut Writer<io::BufWriter<std::fs::File>>,
    /// What a server on the far side answers; empty if the capture's own server does.
    answers: Option<Vec<Vec<u8>>>,
    wrong: Vec<String>,
}

impl Sink for Wire<'_> {
    fn frame(&mut self, port: PortId, at: Timestamp, octets: &[u8]) -> io::Result<()> {
        if let Err(why) = check_frame(octets) {
            self.wrong
                .push(format!("{}: {at:?} on {port}: {why}", self.file.display()));
        }
        if let Some(answers) = &mut self.answers
            && port == SERVER_SIDE
        {
            answers.extend(server_answer(octets));
        }
        self.all.write(at, octets)
    }

    fn wants_steps(&self) -> bool {
        true
    }

    fn step(&mut self, step: &dataplane::replay::explain::Step) -> io::Result<()> {
        // Explaining must not fail either.
        assert!(!step.to_string().is_empty());
        Ok(())
    }
}

/// What a server answers to a packet that tmm forwarded to it.
fn server_answer(octets: &[u8]) -> Option<Vec<u8>> {
    let layers = layers_of(octets).ok()?;
    let back = layers.key.inverted();
    let packet = match back.proto {
        IpProto::TCP => {
            let sent: &Tcp = view(octets, layers.l4)?;
            let syn = sent.flags & SYN;
            let len = u32::try_from(layers.payload_len()).unwrap() + u32::from(syn != 0);
            let fields = TcpFields {
                seq: sent.ack.get(),
                ack: sent.seq.get().wrapping_add(len),
                flags: syn | ACK,
                window: 8192,
            };
            tcp(&back, fields, &[])
        }
        IpProto::UDP => udp(&back, b"answer"),
        _ => return None,
    };
    let (tmm, server) = macs(octets);
    let kind = ethertype_of(layers.network);
    Some(ethernet(tmm, server, layers.encap, kind, &packet))
}

/// Replays one capture, and the answers of a server where the capture's own would not fit.
fn sweep(
    path: &Path,
    records: &[Record],
    automap: bool,
    all: &mut Writer<io::BufWriter<std::fs::File>>,
    totals: &mut BTreeMap<String, u64>,
) -> Vec<String> {
    let (encaps, servers) = survey(records);
    let snat = if automap {
        "SRC_TRANS_AUTOMAP"
    } else {
        "SRC_TRANS_NONE"
    };
    let config = ReplayConfig {
        flow_capacity: 1024,
        rewrite_mac: true,
        ..ReplayConfig::default()
    };
    let mut replay = Replay::new(config, &catch_all(&encaps, &servers, snat))
        .unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
    let mut wire = Wire {
        file: path,
        all,
        answers: automap.then(Vec::new),
        wrong: Vec::new(),
    };
    for record in records {
        let from_server = layers_of(&record.octets).is_ok_and(|layers| {
            let from = (layers.key.src.ip(), layers.key.sport().0);
            !automap && servers.values().any(|server| *server == from)
        });
        let port = if from_server {
            SERVER_SIDE
        } else {
            CLIENT_SIDE
        };
        replay
            .frame(port, record.time, &record.octets, &mut wire)
            .unwrap();
        for answer in wire
            .answers
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
        {
            replay
                .frame(SERVER_SIDE, record.time, &answer, &mut wire)
                .unwrap();
        }
        // Answers to answers are of no interest.
        if let Some(answers) = &mut wire.answers {
            answers.clear();
        }
    }
    replay.finish(&mut wire).unwrap();
    let wrong = wire.wrong;
    let summary = replay.summary(Vec::new());
    // Every frame is accounted for: it left, was answered, told us something, or was dropped.
    let decided: u64 = summary.verdicts.values().sum();
    assert_eq!(decided, summary.frames, "{}", path.display());
    for (name, n) in summary.counters {
        *totals.entry(name).or_default() += n;
    }
    wrong
}

/// Where what was sent is kept, to look at what a failure is about.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn no_capture_makes_tmm_panic_or_send_a_malformed_frame() {
    let files = captures();
    if files.is_empty() {
        eprintln!("skipped: no captures beside the project");
        return;
    }
    let started = Instant::now();
    let sent = kept("replay-sweep.pcap");
    let mut all = Writer::create(&sent).unwrap();
    let mut wrong = Vec::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for (number, path) in files.iter().enumerate() {
        let automap = number % 2 == 1;
        wrong.extend(sweep(path, &read(path), automap, &mut all, &mut totals));
    }
    all.finish().unwrap();
    totals.retain(|_, n| *n > 0);
    eprintln!(
        "{} captures in {:?}: {totals:#?}",
        files.len(),
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
            totals.get(way).is_some_and(|n| *n > 500),
            "{way} is hardly used"
        );
    }
    tshark_agrees(&sent, &HEADERS);
    eprintln!("{:?} in all", started.elapsed());
}

/// Numbers that look random and are the same on every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Changes a frame in a few places among its headers, cuts it or makes it longer, and makes its
/// checksums right again, so that what is wrong is not found by them.
fn damage(octets: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let reach = octets.len().min(96);
        if reach == 0 {
            return;
        }
        let at = numbers.below(reach);
        octets[at] = match numbers.below(4) {
            0 => 0,
            1 => 0xff,
            2 => octets[at] ^ (1 << numbers.below(8)),
            _ => u8::try_from(numbers.below(256)).unwrap(),
        };
    }
    match numbers.below(8) {
        0 => octets.truncate(numbers.below(octets.len() + 1)),
        1 => octets.resize(octets.len() + numbers.below(64), 0xa5),
        _ => {}
    }
    repair_checksums(octets);
}

/// Sets the checksums of an untagged or tagged IPv4 packet, as far as its headers can be followed.
fn repair_checksums(octets: &mut [u8]) {
    let mut l3 = 14;
    while matches!(octets.get(l3 - 2..l3), Some([0x81, 0] | [0x88, 0xa8])) {
        l3 += 4;
    }
    let Some(packet) = octets.get_mut(l3..) else {
        return;
    };
    let Some(first) = packet.first() else { return };
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < 20 || packet.len() < header_len {
        return;
    }
    packet[10..12].fill(0);
    let sum = net::checksum::of(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    let proto = IpProto(packet[9]);
    let (src, dst) = (
        Addr::from_v4([packet[12], packet[13], packet[14], packet[15]]),
        Addr::from_v4([packet[16], packet[17], packet[18], packet[19]]),
    );
    let Some(segment) = packet.get_mut(header_len..total) else {
        return;
    };
    let field = match proto {
        IpProto::TCP => 16,
        IpProto::UDP => 6,
        IpProto::ICMP => 2,
        _ => return,
    };
    let Some(place) = segment.get_mut(field..field + 2) else {
        return;
    };
    place.fill(0);
    let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), proto);
    let sum = net::emit::transport_checksum(&key, segment);
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn damaged_captures_make_no_damage() {
    let files = captures();
    if files.is_empty() {
        eprintln!("skipped: no captures beside the project");
        return;
    }
    let sent = kept("replay-sweep-damaged.pcap");
    let mut all = Writer::create(&sent).unwrap();
    let mut wrong = Vec::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    // SWEEP_SEED=2 does other damage.
    let seed = std::env::var("SWEEP_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut numbers = Numbers(seed);
    for (number, path) in files.iter().enumerate() {
        let mut records = read(path);
        // The beginning of each: a flow has to be opened before damage to it is of interest.
        records.truncate(60);
        for record in &mut records {
            if numbers.below(3) == 0 {
                damage(&mut record.octets, &mut numbers);
            }
        }
        let automap = number % 2 == 0;
        wrong.extend(sweep(path, &records, automap, &mut all, &mut totals));
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

/// tshark, if it is there, finds neither malformed headers nor wrong checksums. What applications say
/// to each other, and packets inside packets, are theirs: only the outer headers are ours.
fn tshark_agrees(file: &Path, headers: &[&str]) {
    let statuses: Vec<String> = ["ip"]
        .iter()
        .chain(&TRANSPORTS)
        .map(|protocol| format!("{protocol}.checksum.status"))
        .collect();
    let wrong: Vec<String> = statuses
        .iter()
        .map(|status| format!("{status} == 0"))
        .collect();
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file);
    for option in [
        "ip.check_checksum",
        "tcp.check_checksum",
        "udp.check_checksum",
    ] {
        command.args(["-o", &format!("{option}:TRUE")]);
    }
    // Captures follow one another in this file, so neither streams nor fragments belong together.
    for whole in [
        "tcp.desegment_tcp_streams",
        "ip.defragment",
        "ipv6.defragment",
    ] {
        command.args(["-o", &format!("{whole}:FALSE")]);
    }
    command.args(["-Y", &format!("_ws.malformed || {}", wrong.join(" || "))]);
    command.args([
        "-T",
        "fields",
        "-E",
        "occurrence=f",
        "-e",
        "frame.number",
        "-e",
        "frame.protocols",
    ]);
    for status in &statuses {
        command.args(["-e", status]);
    }
    let Ok(output) = command.output() else {
        eprintln!("skipped: tshark is not installed");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let ours = |line: &&str| {
        let mut fields = line.split('\t').skip(1);
        let protocols = fields.next().unwrap_or_default();
        let last = protocols.split(':').rfind(|name| *name != "_ws.malformed");
        let tunnelled = protocols
            .split(':')
            .filter(|name| matches!(*name, "ip" | "ipv6"))
            .count()
            > 1;
        let in_headers = !tunnelled && last.is_some_and(|last| headers.contains(&last));
        // The first IP header, and what is directly behind it.
        let outer = protocols
            .split(':')
            .find_map(|name| TRANSPORTS.iter().position(|transport| *transport == name));
        let statuses: Vec<&str> = fields.collect();
        let bad = |at: usize| statuses.get(at) == Some(&"0");
        in_headers || bad(0) || outer.is_some_and(|at| bad(at + 1))
    };
    let faults: Vec<&str> = text.lines().filter(ours).collect();
    assert!(
        faults.is_empty(),
        "tshark finds fault with\n{}",
        faults.join("\n")
    );
}

/// Protocols whose checksums tmm sets.
const TRANSPORTS: [&str; 4] = ["tcp", "udp", "icmp", "icmpv6"];

/// Protocols that tmm reads or writes.
const HEADERS: [&str; 11] = [
    "eth",
    "ethertype",
    "vlan",
    "ieee8021ad",
    "arp",
    "ip",
    "ipv6",
    "tcp",
    "udp",
    "icmp",
    "icmpv6",
];
