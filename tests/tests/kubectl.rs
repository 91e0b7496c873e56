//! A real kubectl as the feeder: it reads a stand-in for the API server of Kubernetes, and what it
//! prints goes through `tmmctl feed` or `tmmctl sync` into the real control side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kubectl_support;

use std::fs::File;
use std::io::Cursor;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cli::{Io, Terminal};
use dataplane::control::server::Server;
use dataplane::rig::{Rig, RigConfig};
use kubectl_support::{ApiServer, KINDS, Kind};
use net::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tests::lab::resources::{self, VIP};

/// How long anything may take to come about: kubectl is slow to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// What kubectl is started with for a kind, `$0`.
const WATCH: &str = "exec kubectl get $0 -A --watch --output-watch-events -o json";
const LIST_AND_WATCH: &str = "kubectl get $0 -A -o json && \
    exec kubectl get $0 -A --watch --output-watch-events -o json";

/// A tmm without devices, served in a thread.
struct Tmm {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tmm {
    fn start(socket: &Path) -> Self {
        let mut server = Server::open(socket, 0o600).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rig = Rig::new(&RigConfig::default());
            let start = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let now = Timestamp::from_secs(1) + start.elapsed();
                server.serve(rig.control_mut(), now, Duration::from_millis(2));
                let lines = rig.control_mut().poll(now);
                server.deliver(lines);
                rig.advance(now);
            }
        });
        let thread = Some(thread);
        Self { stop, thread }
    }
}

impl Drop for Tmm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended
                .unwrap()
                .expect("the control side ends without a panic");
        }
    }
}

/// A cluster, and a tmm to be fed from it.
struct Site {
    /// Ends first, so that whoever watches ends with it.
    api: ApiServer,
    tmm: Option<Tmm>,
    socket: PathBuf,
    directory: TempDir,
}

impl Site {
    /// A cluster with a Service of three endpoints per family, and virtual servers for it.
    fn start() -> Self {
        let version = Command::new("kubectl")
            .args(["version", "--client"])
            .output();
        assert!(
            version.is_ok_and(|version| version.status.success()),
            "there is no working kubectl: make setup installs one"
        );
        let directory = TempDir::new().unwrap();
        let api = ApiServer::start();
        std::fs::write(directory.path().join("kubeconfig"), api.kubeconfig()).unwrap();
        for object in resources::everything(false, None, "SRC_TRANS_AUTOMAP") {
            api.put(&object);
        }
        let route = resources::static_route("default", "0.0.0.0", 0, "192.0.2.254");
        api.put(&route);
        let socket = directory.path().join("config.sock");
        Self {
            api,
            tmm: Some(Tmm::start(&socket)),
            socket,
            directory,
        }
    }

    /// A command that finds the cluster and nothing of the user's own.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let errors = self.directory.path().join("errors");
        let errors = File::options().create(true).append(true).open(errors);
        command
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .env("TMM_CONFIG_SOCKET", &self.socket)
            .current_dir(self.directory.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(errors.unwrap());
        command
    }

    /// What kubectl prints for a kind goes to tmm under the name that kubectl is given.
    fn feed(&self, kind: &str, script: &str, options: &[&str]) -> Feed {
        let mut command = self.command("sh");
        command.args(["-c", script, kind]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdout.take().unwrap();
        let socket = self.socket.clone();
        let mut args = vec!["feed".to_owned(), "--feeder".to_owned(), kind.to_owned()];
        args.extend(options.iter().map(|option| (*option).to_owned()));
        let feeder = std::thread::spawn(move || ctl(&socket, &args, Box::new(input)));
        Feed {
            kubectl: Group(child),
            feeder,
        }
    }

    fn feed_all(&self, script: &str, options: &[&str]) -> Vec<Feed> {
        let feeds = KINDS
            .iter()
            .map(|kind| self.feed(kind.plural, script, options));
        feeds.collect()
    }

    /// The rows of a table; none if tmm is not there.
    fn show(&self, table: &str) -> Vec<Value> {
        let args = ["show", table, "--json"].map(str::to_owned);
        let ran = ctl(&self.socket, &args, Box::new(Cursor::new("")));
        serde_json::from_str(&ran.out).unwrap_or_default()
    }

    /// Waits until `done`; with what kubectl has complained of if it does not come about.
    #[track_caller]
    fn eventually(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > PATIENCE {
                let read = |name| std::fs::read_to_string(self.directory.path().join(name));
                let (errors, log) = (read("errors"), read("sync.log").unwrap_or_default());
                panic!(
                    "not in {PATIENCE:?}: {what}\n{errors:?}\n{log}\n{:#?}\n{:#?}",
                    self.show("config"),
                    self.show("virtual-servers")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All of the cluster's objects are carried out, and nothing else is there.
    fn is_programmed(&self, objects: usize) -> bool {
        let states = self.show("config");
        states.len() == objects && states.iter().all(|row| row["state"] == "Programmed")
    }

    fn watches_all(&self) -> bool {
        KINDS.iter().all(|kind| self.api.watches(kind.name) >= 1)
    }

    /// Members that are up, of the virtual server at `port` of an address.
    fn members_up(&self, address: &str, port: u16) -> Option<u64> {
        let servers = self.show("virtual-servers");
        let mut servers = servers.iter().filter(|row| {
            row["destination"] == address
                && row["port"].to_string().trim_matches('"') == port.to_string()
        });
        let server = servers.next()?;
        let up = server["membersUp"].to_string();
        let up = up.trim_matches('"').parse().unwrap();
        assert_eq!(server["state"], if up == 0 { "down" } else { "up" });
        Some(up)
    }

    /// State and reason of an object.
    fn state(&self, name: &str) -> (String, String) {
        let states = self.show("config");
        let found = states.iter().find(|row| row["name"] == name);
        let text = |field| found.and_then(|row| row[field].as_str()).unwrap_or("none");
        (text("state").to_owned(), text("reason").to_owned())
    }
}

/// A kubectl and the feeder it writes to.
struct Feed {
    kubectl: Group,
    feeder: JoinHandle<Ran>,
}

impl Feed {
    /// Kills kubectl; the feeder ends with its input.
    fn kill(self) -> Ran {
        drop(self.kubectl);
        self.feeder.join().unwrap()
    }

    /// Waits until kubectl ends by itself.
    fn ended(mut self) -> Ran {
        self.kubectl.0.wait().unwrap();
        self.feeder.join().unwrap()
    }
}

/// A process and all it has started, killed with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let kill = format!("kill -s KILL -- -{}", self.0.id());
        let _ = Command::new("sh")
            .args(["-c", &kill])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.wait();
    }
}

#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn ctl(socket: &Path, args: &[String], stdin: Box<dyn std::io::Read + Send>) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io {
        stdin,
        stdout: &mut out,
        stderr: &mut err,
        terminal: Terminal::default(),
    };
    let socket = socket.display().to_string();
    let all = ["tmmctl", "--socket", &socket].map(str::to_owned);
    let code = cli::run(all.into_iter().chain(args.iter().cloned()), io);
    Ran {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// Objects of a whole site.
const ALL: usize = 9;

#[test]
fn a_kubectl_watch_of_each_kind_is_a_working_controller() {
    let site = Site::start();
    let feeds = site.feed_all(WATCH, &[]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    assert_eq!(site.show("virtual-servers").len(), 6);
    for address in VIP {
        assert_eq!(site.members_up(address, 80), Some(3));
    }
    site.eventually("every kind is watched", Site::watches_all);

    let [service, slice, _] = resources::service([true, false, false]);
    site.api.put(&slice);
    site.eventually("two members of a family go down", |site| {
        site.members_up(VIP[0], 80) == Some(1)
    });
    assert_eq!(site.members_up(VIP[1], 80), Some(3));

    site.api.delete("Service", "web");
    let pending = ("Pending".to_owned(), "ServiceNotFound".to_owned());
    site.eventually("the virtual servers wait for their Service", |site| {
        ["http", "iperf", "echo"]
            .iter()
            .all(|name| site.state(name) == pending)
    });
    assert_ne!(site.members_up(VIP[0], 80), Some(1), "nothing listens");
    site.api.put(&service);
    site.eventually("they are back with it", |site| site.is_programmed(ALL));

    let mut wrong = resources::vlans(false, None)[1].clone();
    wrong["spec"]["tag"] = 5000.into();
    site.api.put(&wrong);
    let other = resources::virtual_server(
        "other",
        80,
        ["203.0.113.77", "2001:db8:ffff::77"],
        "SRC_TRANS_NONE",
        60,
    );
    site.api.put(&other);
    site.eventually(
        "what is right is carried out beside what is wrong",
        |site| site.members_up("203.0.113.77", 80) == Some(1),
    );
    for (feed, kind) in feeds.into_iter().zip(&KINDS) {
        let ran = feed.kill();
        let refused = kind.name == "F5SPKVlan";
        assert_eq!(ran.code, u8::from(refused), "{ran:?}");
        assert_eq!(ran.err.contains("spec.tag"), refused, "{ran:?}");
        let lower = kind.name.to_ascii_lowercase();
        // There are objects of some kinds only.
        let has = site.api.has(kind.name);
        assert_eq!(
            ran.out.contains(&format!("{lower}/default/")),
            has,
            "{ran:?}"
        );
    }
    assert_eq!(
        site.show("config").len(),
        ALL + 1,
        "feeders end, what they fed does not"
    );
}

#[test]
fn a_kubectl_that_is_killed_and_comes_back_has_missed_nothing() {
    let site = Site::start();
    let feed = |options: &[&str], script| {
        ["EndpointSlice", "f5-spk-ingresstcp"].map(|kind| site.feed(kind, script, options))
    };
    // Any name that the cluster has a kind by will do.
    for kind in [
        "f5-spk-vlan",
        "F5SPKStaticRoute.v1.k8s.f5net.com",
        "f5-spk-ingressudps",
        "services",
    ] {
        let fed = site.feed(kind, "exec kubectl get $0 -A -o json", &["--complete"]);
        let ran = fed.ended();
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let feeds = feed(&[], WATCH);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    for feed in feeds {
        feed.kill();
    }
    assert!(
        site.is_programmed(ALL),
        "a kubectl that ends removes nothing"
    );

    // While nobody looks, one object changes, one comes and one goes.
    site.api.put(&resources::service([false, false, true])[1]);
    site.api.put(&resources::virtual_server(
        "new",
        80,
        ["203.0.113.77", "2001:db8:ffff::77"],
        "SRC_TRANS_NONE",
        60,
    ));
    site.api.delete("F5SPKIngressTCP", "iperf");
    let feeds = feed(&[], WATCH);
    site.eventually("what has changed and what has come is fed", |site| {
        site.members_up(VIP[0], 80) == Some(1) && site.members_up("203.0.113.77", 80) == Some(1)
    });
    assert_eq!(
        site.members_up(VIP[0], 5201),
        Some(1),
        "a watch alone does not tell what went"
    );
    for feed in feeds {
        feed.kill();
    }

    // A list first tells that as well, and the watch goes on from there.
    let feeds = feed(&["--list-first"], LIST_AND_WATCH);
    site.eventually("what has gone is removed", |site| {
        site.members_up(VIP[0], 5201).is_none() && site.is_programmed(ALL)
    });
    site.eventually("kubectl watches", |site| {
        site.api.watches("F5SPKIngressTCP") == 1 && site.api.watches("EndpointSlice") == 1
    });
    site.api.delete("F5SPKIngressTCP", "new");
    site.eventually("the watch is followed", |site| site.is_programmed(ALL - 1));

    // A server ends every watch at last, and kubectl ends with it.
    site.api.expire_watches();
    for feed in feeds {
        let ran = feed.ended();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.out.contains("earlier sessions removed")
                && ran.err.contains("too old resource version"),
            "{ran:?}"
        );
    }
    assert!(site.is_programmed(ALL - 1));
}

#[test]
fn a_streamed_list_of_the_api_server_needs_no_second_request() {
    let site = Site::start();
    let kind = Kind::of("F5SPKIngressTCP");
    let stream = format!(
        "exec kubectl get --raw '{}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'",
        kind.path()
    );
    let feed = site.feed(kind.name, &stream, &[]);
    site.eventually("the list is fed", |site| site.show("config").len() == 2);
    site.api.end_watches();
    let ran = feed.ended();
    assert_eq!(ran.code, 0, "{ran:?}");
    site.api.delete(kind.name, "iperf");
    let feed = site.feed(kind.name, &stream, &[]);
    site.eventually("what went meanwhile is removed", |site| {
        site.show("config").len() == 1
    });
    site.api.end_watches();
    let ran = feed.ended();
    assert!(ran.out.contains("end of the list; 1 object"), "{ran:?}");
}

#[test]
fn a_watch_of_one_namespace_ends_at_its_time_limit_and_removes_nothing() {
    let site = Site::start();
    let mut elsewhere = resources::service([true; 3])[0].clone();
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    site.api.put(&elsewhere);
    let limited = WATCH.replace("-A", "-n default") + " --request-timeout=3s";
    let ran = site.feed("Service", &limited, &[]).ended();
    let once = ran.out.matches(" accepted\n").count() == 1;
    assert!(
        once && ran.out.starts_with("service/default/web accepted"),
        "{ran:?}"
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(site.is_programmed(1));
}

/// A running `tmmctl sync`.
struct Sync {
    group: Group,
    log: PathBuf,
}

impl Site {
    fn sync(&self, options: &[&str]) -> Sync {
        let tmmctl = tests::lab::program("tmmctl").unwrap();
        let log = self.directory.path().join("sync.log");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = self.command(tmmctl.to_str().unwrap());
        command.arg("sync").args(options).env_remove("POD_NAME");
        command.stderr(out.try_clone().unwrap()).stdout(out);
        let group = Group(command.spawn().unwrap());
        Sync { group, log }
    }

    /// Status and reason of the condition of a custom resource, and the generation it is about.
    fn condition(&self, kind: &str, name: &str) -> Option<(String, String, u64)> {
        let object = self.api.get(kind, name)?;
        let all = object["status"]["conditions"].as_array()?;
        let [condition] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(condition["type"], "Programmed");
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        let generation = condition["observedGeneration"].as_u64().unwrap();
        Some((text("status"), text("reason"), generation))
    }

    /// Every custom resource says that it is programmed.
    fn all_say_programmed(&self) -> bool {
        let custom = [
            ("F5SPKVlan", "external"),
            ("F5SPKVlan", "internal"),
            ("F5SPKIngressTCP", "http"),
            ("F5SPKIngressUDP", "echo"),
        ];
        custom.iter().all(|(kind, name)| {
            let said = self.condition(kind, name);
            said.is_some_and(|(status, reason, _)| (&*status, &*reason) == ("True", "Programmed"))
        })
    }
}

impl Sync {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to end; its exit code and how long it took.
    fn terminate(mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        let kill = format!("kill -s TERM {}", self.group.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        let status = self.group.0.wait().unwrap();
        (status.code(), begin.elapsed())
    }
}

#[test]
fn sync_outlives_watches_and_tmm_and_ends_when_asked() {
    let mut site = Site::start();
    let sync = site.sync(&[]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    site.eventually("every kind is watched", Site::watches_all);

    // The watches end; an object goes before the next ones begin.
    site.api.end_watches();
    site.api.delete("F5SPKIngressTCP", "iperf");
    site.eventually("what went between two watches is removed", |site| {
        site.is_programmed(ALL - 1) && site.show("virtual-servers").len() == 4
    });
    site.api.expire_watches();
    site.eventually(
        "a watch that is too far behind begins anew",
        Site::watches_all,
    );

    // tmm ends, and another one begins with nothing.
    site.tmm = None;
    site.tmm = Some(Tmm::start(&site.socket));
    site.eventually("a new tmm is fed all there is", |site| {
        site.is_programmed(ALL - 1)
    });
    site.eventually(
        "every kind is watched once, and no watch is left that nobody reads",
        |site| KINDS.iter().all(|kind| site.api.watches(kind.name) == 1),
    );
    let log = sync.log();
    assert!(
        log.contains("f5spkvlan/default/external: Programmed"),
        "{log}"
    );
    let (code, took) = sync.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    site.eventually("its kubectls have ended with it", |site| {
        KINDS.iter().all(|kind| site.api.watches(kind.name) == 0)
    });
    assert!(site.is_programmed(ALL - 1), "what was fed stays");
}

#[test]
fn sync_says_in_the_status_what_became_of_each_object_and_says_it_once() {
    let site = Site::start();
    let _sync = site.sync(&[]);
    site.eventually("all say that they are programmed", Site::all_say_programmed);

    // A new generation, which is refused.
    let mut wrong = resources::vlans(false, None)[1].clone();
    wrong["spec"]["tag"] = 5000.into();
    site.api.put(&wrong);
    let name = wrong["metadata"]["name"].as_str().unwrap();
    site.eventually("what is wrong says so", |site| {
        site.condition("F5SPKVlan", name) == Some(("False".to_owned(), "Invalid".to_owned(), 2))
    });
    let object = site.api.get("F5SPKVlan", name).unwrap();
    let message = object["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert_eq!(message, "spec.tag: 5000 is not in 1-4094");

    // What depends on something else says what it waits for.
    site.api.delete("Service", "web");
    site.eventually("a virtual server says what it lacks", |site| {
        let said = site.condition("F5SPKIngressTCP", "http");
        said == Some(("False".to_owned(), "ServiceNotFound".to_owned(), 1))
    });

    // Its own writing comes back by the watch, and is not answered by more of it.
    std::thread::sleep(Duration::from_secs(2));
    let writes = site.api.status_writes();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        site.api.status_writes(),
        writes,
        "nothing is written without need"
    );
    assert!(writes <= 2 * ALL, "{writes}");
}

#[test]
fn sync_of_another_replica_or_without_the_right_to_leaves_the_status_alone() {
    let site = Site::start();
    let sync = site.sync(&["--replica", "1"]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.api.status_writes(), 0);
    assert_eq!(sync.terminate().0, Some(0));

    site.api.set_read_only(true);
    let sync = site.sync(&["--status", "always"]);
    site.eventually("it says that it may not, and what would help", |_| {
        sync.log()
            .contains("the role needs the verb update on the kind's status")
    });
    site.api.set_read_only(false);
    site.eventually("and writes as soon as it may", Site::all_say_programmed);
}

#[test]
fn sync_of_namespaces_takes_theirs_and_no_others() {
    let site = Site::start();
    let mut elsewhere = resources::service([true; 3])[0].clone();
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    site.api.put(&elsewhere);
    let _sync = site.sync(&["-n", "elsewhere", "-n", "nowhere"]);
    site.eventually("the one object is fed", |site| site.is_programmed(1));
    site.eventually("both namespaces are watched", |site| {
        KINDS.iter().all(|kind| site.api.watches(kind.name) == 2)
    });
    assert!(site.is_programmed(1));
}

#[test]
fn sync_without_a_kubectl_says_so_and_goes_on_trying() {
    let site = Site::start();
    let sync = site.sync(&["--kubectl", "/nowhere/kubectl"]);
    site.eventually("it says what it cannot run", |_| {
        sync.log().contains("cannot run /nowhere/kubectl")
    });
    assert_eq!(sync.terminate().0, Some(0));
}
