//! A tmm that listens on everything, and what must hold of what it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use dataplane::pcap::{Record, Writer};
use dataplane::replay::{Replay, ReplayConfig, Sink};
use net::emit::{TcpFields, ethernet, ethertype_of, macs, tcp, udp};
use net::header::tcp_flags::{ACK, SYN};
use net::header::{Tcp, view};
use net::{Addr, Encap, Fragment, IpProto, PortId, Timestamp};
use serde_json::{Value, json};

use super::replay_support::{check_frame, layers_of};

const CLIENT_SIDE: PortId = PortId(0);
const SERVER_SIDE: PortId = PortId(1);

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
pub fn sweep(
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
