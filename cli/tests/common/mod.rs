//! A tmm that keeps objects as the real one does and shows tables that are written down here, and
//! `tmmctl` run against it in this process.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cli::{Io, Terminal};
use config::client::{Answer, Response, Show};
use config::watch::{Hub, Output};
use config::{FieldError, Limits};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A running one.
pub struct Tmm {
    pub directory: TempDir,
    pub socket: PathBuf,
}

struct Inner {
    hub: Hub,
    clients: HashMap<u64, UnixStream>,
}

impl Tmm {
    /// One that keeps objects and shows tables.
    pub fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            hub: Hub::new(Limits::default()),
            clients: HashMap::new(),
        }));
        Self::serving(move |stream| serve(&inner, stream))
    }

    /// Something else that listens.
    pub fn serving(serve: impl Fn(UnixStream) + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("config.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { directory, socket }
    }

    /// Runs `tmmctl` against it.
    pub fn ctl(&self, args: &[&str], stdin: &str) -> Ran {
        ctl(&self.socket, args, stdin)
    }

    /// A file beside the socket.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn serve(inner: &Mutex<Inner>, mut stream: UnixStream) {
    let mut session = {
        let mut inner = inner.lock().unwrap();
        let session = inner.hub.open();
        let stream = stream.try_clone().unwrap();
        inner.clients.insert(session.id(), stream);
        session
    };
    let mut piece = [0; 4096];
    loop {
        let len = stream.read(&mut piece).unwrap_or(0);
        let mut inner = inner.lock().unwrap();
        let mut outputs = Vec::new();
        if len == 0 {
            session.finish(&mut inner.hub, &mut outputs);
        } else {
            session.feed(&mut inner.hub, &piece[..len], &mut outputs);
        }
        for output in outputs {
            let text = match output {
                Output::Line(line) => line,
                Output::Show(show) => show_table(&show),
                Output::Flush(flush) => {
                    // As many as the filter has letters: enough to see what came through.
                    let count = flush.filter.values().map(|v| v.to_string().len()).sum();
                    Response::End { count, more: None }.to_line()
                }
            };
            let _ = stream.write_all(text.as_bytes());
        }
        let mut lines = Vec::new();
        if inner.hub.take_changes().objects {
            let (_, states) = config::resolve(inner.hub.store(), 0);
            lines.extend(inner.hub.publish(states));
        }
        lines.extend(inner.hub.republish());
        for (to, line) in lines {
            if let Some(client) = inner.clients.get_mut(&to) {
                let _ = client.write_all(line.as_bytes());
            }
        }
        if len == 0 {
            inner.clients.remove(&session.id());
            inner.hub.close(&session);
            return;
        }
    }
}

fn show_table(show: &Show) -> String {
    let Some(rows) = rows(&show.table) else {
        let message = format!("no table \"{}\"; there are ports, drops", show.table);
        return Response::Answer(Answer {
            event: Some("SHOW".to_owned()),
            errors: vec![FieldError::new("table", message)],
            ..Answer::default()
        })
        .to_line();
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let selects = |row: &Map<String, Value>| {
        show.filter.iter().all(|(name, wanted)| {
            row.get(name)
                .is_some_and(|v| text(v).contains(&text(wanted)))
        })
    };
    let rows: Vec<Map<String, Value>> = rows.into_iter().filter(selects).collect();
    let limit = show.limit.unwrap_or(usize::MAX);
    let more = (rows.len() > limit).then(String::new);
    let mut lines = String::new();
    let count = rows.len().min(limit);
    for row in rows.into_iter().take(limit) {
        let table = show.table.clone();
        lines.push_str(&Response::Row { table, row }.to_line());
    }
    lines.push_str(&Response::End { count, more }.to_line());
    lines
}

/// What the tables show.
fn rows(table: &str) -> Option<Vec<Map<String, Value>>> {
    let rows = match table {
        "ports" => json!([
            {"port": "1.1", "mac": "02:74:6d:6d:00:01", "mtu": 9000, "rxPackets": 1_234_567, "rxBytes": 987_654_321,
             "txPackets": 999, "txBytes": 1023, "driver": "net_af_packet", "device": "eth1", "link": "up",
             "speedMbps": 25000, "offloads": ["vlan_strip", "rx_checksum"], "rxMissed": 0, "rxErrors": 0},
            {"port": "1.2", "mac": "02:74:6d:6d:00:02", "mtu": 1500, "rxPackets": 0, "rxBytes": 0,
             "txPackets": 4, "txBytes": 240, "driver": "net_af_packet", "device": "eth2", "link": "down",
             "speedMbps": 0, "offloads": [], "rxMissed": 17, "rxErrors": 0},
        ]),
        "vlans" => json!([
            {"vlan": "external", "tag": "100", "ports": ["1.1"], "mac": "02:74:6d:6d:00:01", "mtu": 1500,
             "internal": false, "autoLasthop": true, "selfIps": ["192.0.2.1/24", "2001:db8:100::1/64"]},
            {"vlan": "untagged", "tag": "untagged", "ports": ["1.1", "1.2"], "mac": "02:74:6d:6d:00:02", "mtu": 9000,
             "internal": true, "autoLasthop": false, "selfIps": []},
        ]),
        "self-ips" => json!([
            {"address": "192.0.2.1", "vlan": "external", "kind": "self-ip", "conflict": null},
            {"address": "203.0.113.10", "vlan": "external", "kind": "virtual", "conflict": "02:00:00:00:00:09"},
        ]),
        "neighbors" => json!([
            {"address": "198.51.100.11", "vlan": "internal", "mac": "02:00:00:00:00:11", "state": "reachable", "confirmedSecondsAgo": 3},
            {"address": "198.51.100.12", "vlan": "internal", "mac": null, "state": "unreachable", "confirmedSecondsAgo": null},
            {"address": "2001:db8:200::13", "vlan": "internal", "mac": null, "state": "incomplete", "confirmedSecondsAgo": 4000},
        ]),
        "routes" => json!([
            {"destination": "0.0.0.0/0", "gateway": "192.0.2.254", "vlan": "external", "kind": "static"},
            {"destination": "192.0.2.0/24", "gateway": null, "vlan": "external", "kind": "on-link"},
        ]),
        "virtual-servers" => json!([
            {"virtualServer": "default/web IPv4", "protocol": "tcp", "destination": "203.0.113.10", "port": 80, "state": "up",
             "members": 3, "membersUp": 2, "snat": "automap", "vlans": ["external"], "connections": 12, "connectionsTotal": 100_000,
             "originalPackets": 1, "originalBytes": 1536, "replyPackets": 2, "replyBytes": 20_971_520},
            {"virtualServer": "default/echo IPv6", "protocol": "udp", "destination": "2001:db8::10", "port": 7, "state": "no VLAN",
             "members": 0, "membersUp": 0, "snat": "none", "vlans": [], "connections": 0, "connectionsTotal": 0,
             "originalPackets": 0, "originalBytes": 0, "replyPackets": 0, "replyBytes": 0},
        ]),
        "pools" => json!([
            {"pool": "default/web:80 TCP IPv4", "member": "198.51.100.11", "port": 8080, "state": "up", "connections": 2,
             "connectionsTotal": 7, "originalPackets": 20, "originalBytes": 2000, "replyPackets": 30, "replyBytes": 30_000},
            {"pool": "default/web:80 TCP IPv4", "member": "198.51.100.12", "port": 8080, "state": "draining", "connections": 1,
             "connectionsTotal": 5, "originalPackets": 10, "originalBytes": 1000, "replyPackets": 10, "replyBytes": 10_000},
        ]),
        "connections" => (0..3)
            .map(|n| {
                json!({"protocol": if n == 2 { "udp" } else { "tcp" }, "client": format!("192.0.2.10:{}", 40000 + n),
                    "destination": "203.0.113.10:80", "source": format!("198.51.100.1:{}", 2000 + n),
                    "member": "198.51.100.11:8080", "state": "ESTABLISHED", "virtualServer": "default/web IPv4",
                    "ageSeconds": 3661, "idleSeconds": n, "originalPackets": 10, "originalBytes": 1000,
                    "replyPackets": 12, "replyBytes": 120_000, "clientVlan": "external", "memberVlan": "internal", "worker": 0})
            })
            .collect(),
        "drops" => json!([
            {"kind": "drop", "reason": "unknown_vlan", "packets": 1200, "meaning": "no VLAN with these tags on this port"},
            {"kind": "drop", "reason": "bad_arp", "packets": 0, "meaning": "malformed ARP packet"},
            {"kind": "answer", "reason": "arp", "packets": 3, "meaning": "answered"},
        ]),
        "workers" => json!([
            {"worker": 0, "cpu": 2, "numa": 0, "queues": "1.1:0,1.2:0", "loadPercent": 73, "rxPackets": 5_000_000,
             "txPackets": 4_999_990, "handoffsIn": 12, "handoffsOut": 7, "generation": 7, "flows": 12, "flowsOpened": 100_012, "flowsEnded": 100_000, "flowsEvicted": 0,
             "turns": 123_456_789, "idleTurns": 123_000_000, "heldPackets": 0, "originatedPackets": 4, "eventsLost": 0},
        ]),
        "config" => json!([
            {"kind": "F5SPKVlan", "namespace": "default", "name": "external", "generation": 3, "state": "Programmed", "reason": "Programmed", "message": ""},
            {"kind": "F5SPKIngressTCP", "namespace": "shop", "name": "web", "generation": 1, "state": "Pending",
             "reason": "ServiceNotFound", "message": "Service \"shop/web\" not found"},
        ]),
        "health" => json!([
            {"probe": "live", "check": "worker 0", "ok": true, "reason": "Turning", "message": "turns"},
            {"probe": "ready", "check": "vlan external", "ok": true, "reason": "Serving", "message": "has a self IP of ours and a link"},
            {"probe": "ready", "check": "vlan internal", "ok": false, "reason": "LinkDown", "message": "no link on 1.2"},
        ]),
        // A table of a later release, with a value that would speak to the terminal.
        "tunnels" => json!([
            {"name": "blue\u{1b}[2J\n", "rxBytes": 4096, "someThing": {"idleSeconds": 61, "ok": true}, "list": [1, 2]},
            {"name": "green", "rxBytes": 0, "extra": 1.5},
        ]),
        "empty" => json!([]),
        _ => return None,
    };
    let rows = rows.as_array().unwrap().iter();
    Some(rows.map(|row| row.as_object().unwrap().clone()).collect())
}

/// What a run of `tmmctl` has done.
#[derive(Debug)]
pub struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.out)?;
        if !self.err.is_empty() {
            write!(f, "--- stderr\n{}", self.err)?;
        }
        write!(f, "--- exit code {}", self.code)
    }
}

impl Ran {
    /// What is said of a path that differs from run to run.
    pub fn without(mut self, path: &Path) -> Self {
        let path = path.display().to_string();
        self.out = self.out.replace(&path, "DIR");
        self.err = self.err.replace(&path, "DIR");
        self
    }
}

/// Runs `tmmctl --socket SOCKET ARGS`.
pub fn ctl(socket: &Path, args: &[&str], stdin: &str) -> Ran {
    let socket = socket.display().to_string();
    let all = ["tmmctl", "--socket", &socket]
        .into_iter()
        .chain(args.iter().copied());
    run(
        all,
        Box::new(Cursor::new(stdin.to_owned())),
        Terminal::default(),
    )
}

/// Runs `tmmctl` with these streams.
pub fn run<'a>(
    args: impl IntoIterator<Item = &'a str>,
    stdin: Box<dyn Read + Send>,
    terminal: Terminal,
) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io {
        stdin,
        stdout: &mut out,
        stderr: &mut err,
        terminal,
    };
    let code = cli::run(args, io);
    Ran {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

pub const VLAN: &str = r#"{"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKVlan","metadata":{"name":"external"},"spec":{"name":"external","tag":100,"interfaces":["1.1"],"selfip_v4s":["192.0.2.1"],"prefixlen_v4":24}}"#;
pub const WAITING: &str = r#"{"apiVersion":"ingresstcp.k8s.f5net.com/v1","kind":"F5SPKIngressTCP","metadata":{"name":"web","namespace":"shop"},"service":{"name":"web","port":80},"spec":{"destinationAddress":"203.0.113.10","destinationPort":80}}"#;
