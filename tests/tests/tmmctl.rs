//! The operator's tool against the real control side and config socket, in one process: the packet
//! path and the devices are the only things missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::format_collect)]

use std::io::{BufRead as _, BufReader, Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane::control::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::lab::resources::{self, VIP};
use tests::served::{Ran, Served, ctl};

/// A tmm without devices, and where it is.
struct Tmm {
    _served: Served,
    directory: TempDir,
    socket: PathBuf,
}

impl Tmm {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("config.sock");
        Self {
            _served: Served::start(&socket),
            directory,
            socket,
        }
    }

    fn ctl(&self, args: &[&str], stdin: &str) -> Ran {
        ctl(&self.socket, args, Box::new(Cursor::new(stdin.to_owned())))
    }

    /// The rows of a table.
    fn show(&self, table: &str) -> Vec<Value> {
        let ran = self.ctl(&["show", table, "--json"], "");
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let ran = self.ctl(&["get", "-A", "-o", "name"], "");
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().map(str::to_owned).collect()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        stream
    }
}

fn yaml(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

fn event(word: &str, object: &Value) -> Value {
    json!({"type": word, "object": object})
}

fn service(name: &str, padding: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {"padding": "x".repeat(padding)}},
        "spec": {"ports": [{"port": 80}]}})
}

#[test]
fn a_whole_site_is_applied_shown_listed_and_deleted() {
    let tmm = Tmm::start();
    let site = resources::everything(false, None, "SRC_TRANS_AUTOMAP");
    let ran = tmm.ctl(&["apply", "-f", "-"], &yaml(&site));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out.lines().count(), site.len(), "{}", ran.out);
    for line in ran.out.lines() {
        assert!(line.ends_with(" accepted: Programmed"), "{line}");
    }
    assert_eq!(tmm.show("vlans").len(), 2);
    assert_eq!(tmm.show("virtual-servers").len(), 6);
    assert_eq!(tmm.show("config").len(), site.len());
    assert!(
        tmm.show("pools")
            .iter()
            .all(|member| member["state"] == "up")
    );
    assert!(tmm.show("connections").is_empty());
    let at = format!("destination={}", VIP[0]);
    let some = tmm.ctl(&["show", "virtual-servers", "--filter", &at, "--count"], "");
    assert_eq!(some.out, "3\n");
    // Every table can be drawn from what the real control side gives.
    for table in tmm.ctl(&["show"], "").out.lines().skip(1) {
        let name = table.split_whitespace().next().unwrap();
        let shown = tmm.ctl(&["show", name, "--wide"], "");
        assert_eq!(shown.code, 0, "{name}: {shown:?}");
    }
    let kept = tmm.ctl(&["get", "-A", "-o", "yaml"], "");
    let again = tmm.ctl(&["apply", "-f", "-"], &kept.out);
    assert_eq!(again.code, 0, "{again:?}");
    let ran = tmm.ctl(&["delete", "-f", "-"], &yaml(&site));
    assert_eq!(
        (ran.code, ran.out.lines().count()),
        (0, site.len()),
        "{ran:?}"
    );
    assert!(tmm.names().is_empty());
}

#[test]
fn tmmctl_knows_every_table_and_filter_of_tmm() {
    let tmm = Tmm::start();
    let listed = tmm.ctl(&["show"], "").out;
    let listed: Vec<&str> = listed
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let tables = dataplane::control::show::TABLES;
    let known: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, known);
    for filter in [
        ["--client", "192.0.2.1"],
        ["--member", "2001:db8::1"],
        ["--virtual-server", "default/web"],
        ["--state", "established"],
        ["--protocol", "udp"],
        ["--port", "80"],
        ["--destination", "203.0.113.10"],
    ] {
        let args = ["show", "connections", filter[0], filter[1]];
        let ran = tmm.ctl(&args, "");
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (0, "no connections that match\n")
        );
    }
    let ran = tmm.ctl(&["show", "connections", "--client", "nobody"], "");
    assert!(
        ran.code == 1 && ran.err.contains("filter.client"),
        "{ran:?}"
    );
}

#[test]
fn a_virtual_server_is_pending_until_its_service_has_an_endpoint() {
    let tmm = Tmm::start();
    let server = resources::virtual_server("http", 80, VIP, "SRC_TRANS_NONE", 300);
    let waiting = tmm.ctl(&["apply", "-f", "-"], &server.to_string());
    assert_eq!(waiting.code, 0, "{waiting:?}");
    assert!(waiting.out.contains("accepted: Pending: "), "{waiting:?}");
    // In one go, the one that waits first: what is told is how it has ended.
    let mut all = vec![server];
    all.extend(resources::vlans(false, None));
    all.extend(resources::service([true, false, false]));
    let ran = tmm.ctl(&["apply", "-f", "-"], &yaml(&all));
    assert!(!ran.out.contains("Pending"), "{ran:?}");
}

#[test]
fn a_wrong_version_leaves_the_last_good_one_and_the_others_alone() {
    let tmm = Tmm::start();
    let [vlan, other] = resources::vlans(false, None);
    assert_eq!(tmm.ctl(&["apply", "-f", "-"], &vlan.to_string()).code, 0);
    let mut wrong = vlan.clone();
    wrong["spec"]["tag"] = 5000.into();
    wrong["spec"]["mtu"] = "big".into();
    let ran = tmm.ctl(&["apply", "-f", "-"], &yaml(&[wrong.clone(), other]));
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("spec.tag") && ran.err.contains("spec.mtu"),
        "{ran:?}"
    );
    let vlans = tmm.show("vlans");
    assert_eq!((vlans.len(), &vlans[0]["tag"]), (2, &json!("100")));
    assert_eq!(
        tmm.ctl(&["validate", "-f", "-"], &wrong.to_string()).code,
        1
    );
}

#[test]
fn what_is_applied_again_is_told_again_at_once() {
    let tmm = Tmm::start();
    // More than the control side takes in one turn, so that it publishes in the middle.
    let many: Vec<Value> = (0..60).map(|n| service(&format!("s{n}"), 8000)).collect();
    for _ in 0..5 {
        let start = Instant::now();
        let ran = tmm.ctl(&["apply", "-f", "-", "--wait", "20s"], &yaml(&many));
        assert_eq!(
            ran.out.matches(" accepted: Programmed\n").count(),
            60,
            "{ran:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "a state was waited for in vain"
        );
    }
}

#[test]
fn what_kubectl_prints_is_a_working_controller() {
    let tmm = Tmm::start();
    let site = resources::everything(false, None, "SRC_TRANS_NONE");
    // kubectl indents by four and puts nothing between the events but a line end.
    let printed: String = site
        .iter()
        .map(|object| {
            let text = serde_json::to_string_pretty(&event("ADDED", object)).unwrap();
            text.replace("  ", "    ") + "\n"
        })
        .collect();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let socket = tmm.socket.clone();
    let feeder = std::thread::spawn(move || ctl(&socket, &["feed"], Box::new(reader)));
    writer.write_all(printed.as_bytes()).unwrap();
    eventually(|| tmm.show("virtual-servers").len() == 6);
    // Everything is followed, while the stream is open.
    let gone = event("DELETED", &site[5]);
    writeln!(writer, "{gone:#}").unwrap();
    eventually(|| tmm.show("virtual-servers").len() == 4);
    drop(writer);
    let ran = feeder.join().unwrap();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(
        ran.out.contains("f5spkvlan/default/external: Programmed"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("f5spkingresstcp/default/http deleted"),
        "{}",
        ran.out
    );
    // The feeder has ended; what it fed has not.
    assert_eq!(tmm.names().len(), site.len() - 1);
}

#[test]
fn two_feeders_and_an_operator_keep_out_of_each_others_way() {
    let tmm = Tmm::start();
    let list = |names: &[&str]| -> String {
        let items: Vec<Value> = names.iter().map(|name| service(name, 0)).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    };
    let sync = |feeder: &str, names: &[&str]| {
        let ran = tmm.ctl(&["feed", "--complete", "--feeder", feeder], &list(names));
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    sync("east", &["a", "b"]);
    sync("west", &["c"]);
    assert_eq!(
        tmm.ctl(&["apply", "-f", "-"], &service("mine", 0).to_string())
            .code,
        0
    );
    sync("east", &["b"]);
    sync("west", &["c", "d"]);
    let kept = ["b", "c", "d", "mine"].map(|name| format!("service/default/{name}"));
    assert_eq!(tmm.names(), kept);
}

#[test]
fn a_feeder_that_dies_in_its_list_removes_nothing() {
    let tmm = Tmm::start();
    let all: String = ["a", "b", "c"]
        .iter()
        .map(|name| event("ADDED", &service(name, 0)).to_string() + "\n")
        .collect();
    assert_eq!(tmm.ctl(&["feed"], &all).code, 0);
    let half = all.get(..all.len() / 2).unwrap();
    for args in [&["feed"][..], &["feed", "--complete"]] {
        let ran = tmm.ctl(args, half);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("the object does not end"), "{ran:?}");
        assert_eq!(tmm.names().len(), 3);
    }
}

#[test]
fn half_lines_binary_and_huge_lines_are_answered_and_survived() {
    let tmm = Tmm::start();
    let good = event("ADDED", &service("good", 0)).to_string();
    let noise: Vec<u8> = (0..50_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let huge = format!(
        "{{\"type\":\"ADDED\",\"object\":\"{}\"}}",
        "x".repeat(9 << 20)
    );
    let brackets = "[".repeat(200_000);
    let inputs: [&[u8]; 4] = [
        b"{\"type\":\"ADDED\",\"obj",
        &noise,
        huge.as_bytes(),
        brackets.as_bytes(),
    ];
    for input in inputs {
        let stream = tmm.connect();
        let mut writer = stream.try_clone().unwrap();
        let all = [input, b"\n", good.as_bytes(), b"\n"].concat();
        let sender = std::thread::spawn(move || {
            let _ = writer.write_all(&all);
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let answers: Vec<Value> = BufReader::new(stream)
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        sender.join().unwrap();
        let accepted = |answer: &&Value| answer["accepted"] == true;
        let refused = |answer: &&Value| answer["accepted"] == false;
        assert!(answers.iter().any(|answer| refused(&answer)), "{answers:?}");
        assert_eq!(
            answers.iter().filter(accepted).count(),
            1,
            "what is good is still taken"
        );
    }
    assert_eq!(tmm.names(), ["service/default/good"]);
}

#[test]
fn more_clients_than_there_is_room_for_are_told_so_and_room_is_made_again() {
    let tmm = Tmm::start();
    let clients: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut stream = tmm.connect();
            stream
                .write_all(b"{\"type\":\"SHOW\",\"table\":\"vlans\"}\n")
                .unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut line)
                .unwrap();
            assert!(line.contains("END"), "{line}");
            stream
        })
        .collect();
    for args in [
        &["show", "vlans"][..],
        &["get"],
        &["apply", "-f", "-"],
        &["feed"],
    ] {
        let ran = tmm.ctl(args, &service("a", 0).to_string());
        assert_eq!(ran.code, 1);
        assert_eq!(
            ran.err, "tmmctl: too many clients: 64 at once\n",
            "{args:?}"
        );
    }
    drop(clients);
    eventually(|| tmm.ctl(&["get"], "").code == 0);
}

/// Octets of memory this process has in use.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_client_that_asks_much_and_reads_nothing_takes_little_memory_and_disturbs_nobody() {
    let tmm = Tmm::start();
    let many: Vec<Value> = (0..400).map(|n| service(&format!("s{n}"), 8000)).collect();
    assert_eq!(
        tmm.ctl(&["apply", "-f", "-", "--wait=0"], &yaml(&many))
            .code,
        0
    );
    let before = resident();
    for request in [
        "{\"type\":\"GET\"}\n",
        "{\"type\":\"SHOW\",\"table\":\"config\"}\n",
    ] {
        let count = 300;
        let mut stream = tmm.connect();
        stream.write_all(request.repeat(count).as_bytes()).unwrap();
        for _ in 0..10 {
            // Answered although the other one is not done.
            assert_eq!(tmm.show("workers").len(), 1);
        }
        let more = resident().saturating_sub(before) >> 20;
        assert!(more < 256, "{more} MiB for a client that does not read");
        // Nothing is lost: it reads at last.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let ends = BufReader::new(stream)
            .lines()
            .filter(|line| line.as_ref().unwrap().starts_with("{\"type\":\"END\""))
            .count();
        assert_eq!(ends, count);
    }
}

#[test]
fn requests_that_are_short_to_ask_and_long_to_answer_do_not_stall_the_control_side() {
    let tmm = Tmm::start();
    let many: Vec<Value> = (0..400).map(|n| service(&format!("s{n}"), 8000)).collect();
    let ran = tmm.ctl(&["apply", "-f", "-", "--wait=0"], &yaml(&many));
    assert_eq!(ran.code, 0);
    eventually(|| tmm.show("config").len() == 400);
    // Nothing matches: all objects are looked at, and nothing has to be read before the next.
    let request = "{\"type\":\"SHOW\",\"table\":\"config\",\"filter\":{\"name\":\"none\"}}\n";
    let turns = |tmm: &Tmm| tmm.show("workers")[0]["turns"].as_u64().unwrap();
    let busy: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = tmm.connect();
            stream.write_all(request.repeat(700).as_bytes()).unwrap();
            stream
        })
        .collect();
    let before = turns(&tmm);
    let ends = busy.into_iter().map(|stream| {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        BufReader::new(stream).lines().count()
    });
    assert_eq!(ends.sum::<usize>(), 8 * 700);
    let passed = turns(&tmm) - before;
    assert!(passed > 50, "only {passed} turns for 5600 requests");
}

#[test]
fn many_operators_at_once_are_all_served() {
    let tmm = Tmm::start();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..24)
            .map(|n| {
                let tmm = &tmm;
                scope.spawn(move || {
                    let object = service(&format!("s{n}"), 100).to_string();
                    let ran = tmm.ctl(&["apply", "-f", "-"], &object);
                    assert_eq!(
                        ran.out,
                        format!("service/default/s{n} accepted: Programmed\n")
                    );
                    tmm.show("config").len()
                })
            })
            .collect();
        for run in runs {
            assert!(run.join().unwrap() >= 1);
        }
    });
    assert_eq!(tmm.names().len(), 24);
}

#[test]
fn a_second_tmm_and_a_file_in_the_way_are_told_apart() {
    let tmm = Tmm::start();
    let error = Server::open(&tmm.socket, 0o600).err().unwrap().to_string();
    assert!(error.contains("another process already listens"), "{error}");
    let file = tmm.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Server::open(&file, 0o600).err().unwrap().to_string();
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

fn eventually(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it did not come about"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
