//! A cluster, a tmm without devices, and what carries the one to the other.

use std::fs::File;
use std::io::Cursor;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::lab::resources;
use tests::served::{Ran, Served, ctl};

use crate::api::{ApiServer, KINDS};

/// How long anything may take to come about: kubectl is slow to start on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A cluster, and a tmm to be fed from it.
pub struct Site {
    /// Ends first, so that whoever watches ends with it.
    pub api: ApiServer,
    pub tmm: Option<Served>,
    pub socket: PathBuf,
    pub directory: TempDir,
}

impl Site {
    /// A cluster with a Service of three endpoints per family, and virtual servers for it.
    pub fn start() -> Self {
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
            tmm: Some(Served::start(&socket)),
            socket,
            directory,
        }
    }

    /// A command that finds the cluster and nothing of the user's own.
    pub fn command(&self, program: &str) -> Command {
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
    pub fn feed(&self, kind: &str, script: &str, options: &[&str]) -> Feed {
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

    pub fn feed_all(&self, script: &str, options: &[&str]) -> Vec<Feed> {
        let feeds = KINDS
            .iter()
            .map(|kind| self.feed(kind.plural, script, options));
        feeds.collect()
    }

    /// The rows of a table; none if tmm is not there.
    pub fn show(&self, table: &str) -> Vec<Value> {
        let args = ["show", table, "--json"].map(str::to_owned);
        let ran = ctl(&self.socket, &args, Box::new(Cursor::new("")));
        serde_json::from_str(&ran.out).unwrap_or_default()
    }

    /// Waits until `done`; with what kubectl has complained of if it does not come about.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
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
    pub fn is_programmed(&self, objects: usize) -> bool {
        let states = self.show("config");
        states.len() == objects && states.iter().all(|row| row["state"] == "Programmed")
    }

    pub fn watches_all(&self) -> bool {
        KINDS.iter().all(|kind| self.api.watches(kind.name) >= 1)
    }

    /// Members that are up, of the virtual server at `port` of an address.
    pub fn members_up(&self, address: &str, port: u16) -> Option<u64> {
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
    pub fn state(&self, name: &str) -> (String, String) {
        let states = self.show("config");
        let found = states.iter().find(|row| row["name"] == name);
        let text = |field| found.and_then(|row| row[field].as_str()).unwrap_or("none");
        (text("state").to_owned(), text("reason").to_owned())
    }
}

/// A kubectl and the feeder it writes to.
pub struct Feed {
    pub kubectl: Group,
    pub feeder: JoinHandle<Ran>,
}

impl Feed {
    /// Kills kubectl; the feeder ends with its input.
    pub fn kill(self) -> Ran {
        drop(self.kubectl);
        self.feeder.join().unwrap()
    }

    /// Waits until kubectl ends by itself.
    pub fn ended(mut self) -> Ran {
        self.kubectl.0.wait().unwrap();
        self.feeder.join().unwrap()
    }
}

/// A process and all it has started, killed with it.
pub struct Group(pub Child);

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
