//! The config socket turn by turn: server and control side in the test's own thread, so that what
//! happens in which order is the test's choice.
#![allow(clippy::unwrap_used)] // its helpers are part of the tests

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use config::watch::Hub;
use crossbeam::channel::{TryRecvError, bounded};
use dataplane::command::{Command, DumpPiece, FlowDump, FlowFilter};
use dataplane::control::server::{Server, SocketError};
use dataplane::control::{Control, ControlConfig};
use dataplane::rig::{Rig, RigConfig};
use net::{PortId, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Bench {
    _directory: TempDir,
    socket: PathBuf,
    server: Server,
    rig: Rig,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("config.sock");
        Self {
            server: Server::open(&socket, 0o600).unwrap(),
            _directory: directory,
            socket,
            rig: Rig::new(&RigConfig::default()),
            now: Timestamp::from_secs(1),
        }
    }

    fn client(&self, requests: &str) -> Client {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client {
            stream,
            ended: false,
        }
    }

    /// Some turns of the server alone: the rest of the control side is busy elsewhere.
    fn serve(&mut self) {
        for _ in 0..20 {
            let timeout = Duration::from_millis(1);
            self.server.serve(self.rig.control_mut(), self.now, timeout);
        }
    }

    fn poll(&mut self) {
        let lines = self.rig.control_mut().poll(self.now);
        self.server.deliver(lines);
    }

    fn turns(&self) -> u64 {
        self.rig.control().workers()[0].counters.turns_total.get()
    }

    fn push(&self, command: Command) {
        let worker = &self.rig.control().workers()[0];
        worker.commands.push(command).unwrap();
    }
}

struct Client {
    stream: UnixStream,
    ended: bool,
}

impl Client {
    /// What has come so far.
    fn lines(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(len) = self.stream.read(&mut piece) {
            self.ended |= len == 0;
            if len == 0 {
                break;
            }
            all.extend_from_slice(&piece[..len]);
        }
        let text = String::from_utf8(all).unwrap();
        let lines = text.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

const CONNECTIONS: &str = "{\"type\":\"SHOW\",\"table\":\"connections\"}\n";

#[test]
fn a_dump_that_finds_no_room_is_refused_and_not_told_as_an_empty_table() {
    let mut bench = Bench::new();
    let mut clients: Vec<Client> = (0..6).map(|_| bench.client(CONNECTIONS)).collect();
    bench.serve();
    bench.rig.advance(bench.now);
    bench.serve();
    let answers: Vec<Vec<Value>> = clients.iter_mut().map(Client::lines).collect();
    for answer in &answers[..4] {
        assert_eq!(answer[..], [json!({"type": "END", "count": 0})]);
    }
    for answer in &answers[4..] {
        assert_eq!(answer.len(), 1, "{answer:?}");
        assert_eq!(answer[0]["type"], "ANSWER");
        let why = answer[0]["errors"][0]["message"].as_str().unwrap();
        assert_eq!(why, "too many dumps are running, try again");
    }
    // There is room again.
    let mut later = bench.client(CONNECTIONS);
    bench.serve();
    bench.rig.advance(bench.now);
    bench.serve();
    assert_eq!(later.lines()[0]["type"], "END");
}

#[test]
fn a_dump_that_finds_the_workers_ring_full_is_refused() {
    let mut bench = Bench::new();
    let ring = bench.rig.control().workers()[0].commands.capacity();
    for _ in 0..ring {
        let frame = [0; 60].into_iter().collect();
        let port = PortId(0);
        bench.push(Command::Send { port, frame });
    }
    let mut client = bench.client(CONNECTIONS);
    bench.serve();
    let answer = client.lines();
    assert!(
        answer[0]["errors"][0]["message"]
            .as_str()
            .unwrap()
            .starts_with("too many dumps"),
        "{answer:?}"
    );
}

#[test]
fn a_dump_that_nobody_reads_keeps_no_worker_busy_and_ends_after_five_seconds() {
    let mut bench = Bench::new();
    let (sender, pieces) = bounded(1);
    sender.send(DumpPiece::End).unwrap();
    let dump = FlowDump::new(0, FlowFilter::default(), bench.now, sender);
    bench.push(Command::Dump(dump));
    let before = bench.turns();
    for _ in 0..50 {
        bench.rig.advance(bench.now);
        bench.now = bench.now + Duration::from_millis(99);
    }
    let turns = bench.turns() - before;
    assert!(turns < 60, "{turns} turns for a dump that cannot get on");
    bench.now = bench.now + Duration::from_millis(50);
    bench.rig.advance(bench.now);
    assert!(pieces.try_recv().is_ok());
    assert_eq!(pieces.try_recv().err(), Some(TryRecvError::Disconnected));
}

#[test]
fn a_client_that_has_sent_all_is_told_the_states_of_what_it_fed() {
    let mut bench = Bench::new();
    let service = json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}});
    let mut client = bench.client(&format!("{service}\n"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    bench.serve();
    let words = |lines: &[Value]| -> Vec<String> {
        let words = lines.iter().map(|line| line["type"].as_str().unwrap());
        words.map(str::to_owned).collect()
    };
    assert_eq!(words(&client.lines()), ["ANSWER"]);
    assert!(!client.ended);
    bench.poll();
    bench.serve();
    assert_eq!(words(&client.lines()), ["STATE"]);
    assert!(client.ended, "and then the connection ends");
    // Who fed nothing waits for nobody.
    let mut asking = bench.client("{\"type\":\"GET\"}\n");
    asking.stream.shutdown(Shutdown::Write).unwrap();
    bench.serve();
    assert_eq!(words(&asking.lines()), ["OBJECT", "END"]);
    assert!(asking.ended);
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = Server::open(&path, 0o600).unwrap();
    let again = Server::open(&path, 0o600);
    assert!(matches!(again.err(), Some(SocketError::InUse(_))));
    // Somebody takes the path over: it is no longer ours to remove.
    std::fs::remove_file(&path).unwrap();
    let second = Server::open(&path, 0o600).unwrap();
    drop(first);
    UnixStream::connect(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_tmm_too_busy_to_accept_is_not_taken_for_one_that_is_gone() {
    use std::os::fd::AsRawFd as _;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config.sock");
    let busy = UnixListener::bind(&path).unwrap();
    // SAFETY: changes how many may wait to be accepted by a socket that we own.
    assert_eq!(unsafe { libc::listen(busy.as_raw_fd(), 0) }, 0);
    let _waits = UnixStream::connect(&path).unwrap();
    let error = Server::open(&path, 0o600).err().unwrap();
    assert!(matches!(error, SocketError::InUse(_)), "{error}");
    assert!(path.exists());
}

#[test]
fn a_path_too_long_for_a_socket_is_told_with_its_limit() {
    let directory = TempDir::new().unwrap();
    let room = 99 - directory.path().as_os_str().len() - 1;
    let path = directory.path().join("x".repeat(room));
    drop(Server::open(&path, 0o600).unwrap());
    let path = directory.path().join("x".repeat(room + 1));
    let error = Server::open(&path, 0o600).err().unwrap().to_string();
    assert!(error.contains("100 octets are too many"), "{error}");
    assert!(error.contains("99 are allowed"), "{error}");
    assert!(error.contains("--config-socket"), "{error}");
}

#[test]
fn questions_for_neighbors_wait_for_room_in_the_workers_ring_and_none_is_lost() {
    let mut bench = Bench::new();
    let vlan = json!({"apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
        "metadata": {"name": "external"},
        "spec": {"name": "external", "tag": 100, "interfaces": ["1.1"],
            "selfip_v4s": ["10.0.0.1"], "prefixlen_v4": 16}});
    bench.rig.apply(&[vlan]).unwrap();
    for _ in 0..10 {
        bench.rig.advance(bench.now);
        bench.now = bench.now + Duration::from_secs(1);
    }
    let wire = |bench: &Bench| std::iter::from_fn(|| bench.rig.receive(PortId(0))).count();
    wire(&bench);
    let vlan = bench
        .rig
        .control()
        .tables()
        .vlans
        .iter()
        .next()
        .unwrap()
        .index;
    for n in 0..2000_u16 {
        let [high, low] = (n + 256).to_be_bytes();
        let addr = net::Addr::from_v4([10, 0, high, low]);
        let worker = &bench.rig.control().workers()[0];
        worker
            .events
            .push(vlan::Event::Needed { vlan, addr })
            .unwrap();
    }
    // The worker is held up for some turns of the control side.
    for _ in 0..10 {
        bench.rig.control_mut().poll(bench.now);
    }
    bench.rig.advance(bench.now);
    assert_eq!(wire(&bench), 2000);
    assert_eq!(bench.rig.control().commands_lost(), 0);
    let mut client = bench.client("{\"type\":\"SHOW\",\"table\":\"resolver\"}\n");
    bench.serve();
    let rows = client.lines();
    let count = |name: &str| {
        let row = rows.iter().find(|line| line["row"]["counter"] == name);
        row.unwrap()["row"]["count"].as_u64().unwrap()
    };
    assert_eq!(count("solicitations"), 2000);
    assert!(count("delayed") > 0);
    assert_eq!(count("lost"), 0);
}

#[test]
fn the_longer_changes_take_to_be_taken_up_the_longer_the_next_ones_are_gathered() {
    let config = ControlConfig {
        replica: 0,
        ports: Vec::new(),
        default_mtu: 1500,
        workers: 1,
        flows: 65_536,
        resolver: vlan::resolver::ResolverConfig::default(),
        batch: Duration::from_nanos(1),
    };
    let mut control = Control::new(&config, Hub::default());
    let feed = |control: &mut Control, name: &str| {
        let line = json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}});
        let mut session = control.hub().open();
        session.feed(control.hub(), format!("{line}\n").as_bytes(), &mut vec![]);
    };
    let start = Timestamp::from_secs(1);
    feed(&mut control, "first");
    control.poll(start);
    assert_eq!(control.states().len(), 1);
    feed(&mut control, "second");
    // Far more than the batch, far less than any compilation takes.
    control.poll(start + Duration::from_nanos(20));
    assert_eq!(control.states().len(), 1);
    let due = control.next_deadline().unwrap();
    assert!(due > start + Duration::from_nanos(20));
    control.poll(due);
    assert_eq!(control.states().len(), 2);
}
