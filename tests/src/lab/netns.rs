//! Network namespaces that go when their owner does.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::time::Duration;

use super::{Failure, Process, Result, ensure};

/// How the name of everything that a lab makes begins; the process and a number follow.
pub const PREFIX: &str = "tmm-e2e-";

/// A network namespace of this test's own, deleted on drop with everything in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// A command that ended by itself, whatever its exit status.
#[derive(Debug)]
pub struct Finished {
    command: String,
    output: Output,
}

impl Finished {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.output.status.success()
    }

    /// Its standard output, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout)
            .trim()
            .to_owned()
    }

    /// Itself if it exited with 0; else a failure that shows all it said.
    pub fn ok(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        let Output {
            status,
            stdout,
            stderr,
        } = &self.output;
        let reason = if status.code() == Some(124) {
            "ran out of time".to_owned()
        } else {
            status.to_string()
        };
        Err(Failure::new(format!(
            "{}: {reason}\n{}{}",
            self.command,
            String::from_utf8_lossy(stdout),
            String::from_utf8_lossy(stderr)
        )))
    }
}

impl Namespace {
    /// Makes `tmm-e2e-PID-LAB-ROLE`, with loopback up, addresses usable at once, and no router
    /// advertisements believed. A `silent` one gets no IPv6 at all on devices made later, so that
    /// the kernel speaks on none of them.
    pub fn new(lab: u32, role: &str, silent: bool) -> Result<Self> {
        static SWEPT: Once = Once::new();
        check_privileges()?;
        SWEPT.call_once(|| {
            sweep();
            drop(leave_to_janitor());
        });
        let name = format!("{PREFIX}{}-{lab}-{role}", std::process::id());
        host("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        let disable = if silent { "echo 1 >disable_ipv6;" } else { "" };
        let script = format!(
            "cd /proc/sys/net/ipv6/conf/default && {disable} echo 0 >accept_dad && echo 0 >accept_ra"
        );
        namespace.run("sh", &["-c", &script])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on the namespace.
    pub fn ip(&self, args: &[&str]) -> Result {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        host("ip", &all).map(drop)
    }

    /// Runs a command inside to its end, which must be a good one and come within 20 s.
    pub fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> Result<Finished> {
        self.try_run(program, args, Duration::from_secs(20))?.ok()
    }

    /// Runs a command inside to its end, good or bad; after `limit` it is killed (exit status 124).
    pub fn try_run(
        &self,
        program: impl AsRef<Path>,
        args: &[&str],
        limit: Duration,
    ) -> Result<Finished> {
        let program = program.as_ref();
        let command = format!("[{}] {} {}", self.name, program.display(), args.join(" "));
        let output = self
            .command(&PathBuf::from("timeout"))
            .arg("--kill-after=2")
            .arg(limit.as_secs_f32().to_string())
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        Ok(Finished { command, output })
    }

    /// Starts a command inside that runs until it is stopped or dropped; its output goes to `log`.
    pub fn spawn(&self, program: &Path, args: &[&str], log: PathBuf) -> Result<Process> {
        let mut command = self.command(program);
        command.args(args);
        Process::spawn(command, log)
    }

    /// A command that will run inside; `ip` and `prlimit` become the program, so its process
    /// is the child itself.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        // A thousand connections want more descriptors than a login shell has.
        command
            .args(["netns", "exec", &self.name, "prlimit", "--nofile=8192:"])
            .arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what test processes that are gone have left: namespaces with all that still runs in
/// them, and directories.
fn sweep() {
    for name in orphans(Path::new("/run/netns")) {
        remove(&name);
    }
    let directories = std::env::temp_dir();
    for name in orphans(&directories) {
        drop(std::fs::remove_dir_all(directories.join(name)));
    }
}

/// Has a process that outlives this one take away what it leaves, however it ends: an interrupt runs no destructors.
/// It knows the end by that of its input, and hears none of the signals meant for this process and its group.
fn leave_to_janitor() -> std::io::Result<()> {
    const SCRIPT: &str = r#"read -r _
for space in /run/netns/"$1"-*; do
    [ -e "$space" ] || continue
    for pid in $(ip netns pids "${space##*/}"); do kill -9 "$pid"; done
    ip netns del "${space##*/}"
done
rm -rf "$2/$1"-*"#;
    let ours = format!("{PREFIX}{}", std::process::id());
    let mut janitor = Command::new("sh")
        .args(["-c", SCRIPT, "janitor", &ours])
        .arg(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    // Open until this process is no more.
    std::mem::forget(janitor.stdin.take());
    Ok(())
}

/// The entries of a directory that belong to a test process that is gone.
fn orphans(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let orphan = |name: &String| {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    names.filter(orphan).collect()
}

fn remove(name: &str) {
    // Processes first: a namespace lives as long as one is inside.
    if let Ok(pids) = host("ip", &["netns", "pids", name]) {
        for pid in pids.text().split_whitespace() {
            drop(host("kill", &["-9", pid]));
        }
    }
    drop(host("ip", &["netns", "del", name]));
}

/// Runs a command outside any namespace of ours.
pub fn host(program: &str, args: &[&str]) -> Result<Finished> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
    Finished {
        command: format!("{program} {}", args.join(" ")),
        output,
    }
    .ok()
}

/// Says what is missing for making namespaces, before anything half works.
fn check_privileges() -> Result {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let root = status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    ensure(root, || {
        "end-to-end tests make network namespaces and TAP devices: run them as root".to_owned()
    })?;
    ensure(Path::new("/dev/net/tun").exists(), || {
        "/dev/net/tun is missing: this kernel or container has no TAP devices".to_owned()
    })
}
