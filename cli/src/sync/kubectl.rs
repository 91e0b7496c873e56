//! kubectl, as far as it is needed: what it is started with, what it has said, how it is ended.
//!
//! Only `--raw` requests are made, so that no discovery, no cache and no home directory is needed,
//! and every kubectl of the last years will do.

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Most of what kubectl complains of that is kept, in octets.
const MAX_COMPLAINT: u64 = 8 * 1024;
/// Longest answer that is taken, in octets: a list of a large cluster.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;
/// So much longer than it was told to take, and so long after its last word, a kubectl may live.
const GRACE: Duration = Duration::from_secs(5);
/// How long one that has been killed may take to go.
const LAST: Duration = Duration::from_secs(1);

/// Starts kubectls and ends those that still run.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    running: Mutex<Vec<Weak<Mutex<Child>>>>,
    stopped: Mutex<bool>,
}

/// A kubectl that has been started; one that is dropped is ended.
pub struct Running {
    pub stdout: ChildStdout,
    complaint: Receiver<String>,
    process: Process,
}

struct Process {
    child: Arc<Mutex<Child>>,
    /// Whether it took too long, and was killed for that.
    overdue: Arc<AtomicBool>,
    /// Whoever watches over its time goes with this.
    _watched: Sender<()>,
}

impl Kubectl {
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            running: Mutex::default(),
            stopped: Mutex::new(false),
        }
    }

    /// Starts it; errors are sentences.
    pub fn start(&self, args: &[&str], limit: Duration) -> Result<Running, String> {
        self.spawn(args, limit, Stdio::null())
            .map(|(running, _)| running)
    }

    /// Runs it to its end; what it printed, or why it failed.
    pub fn ask(
        &self,
        args: &[&str],
        limit: Duration,
        input: Option<&str>,
    ) -> Result<Vec<u8>, String> {
        let stdin = if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let (mut running, stdin) = self.spawn(args, limit, stdin)?;
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A kubectl that does not want to read says so at its end.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut answer = Vec::new();
        let mut limited = (&mut running.stdout).take(MAX_ANSWER);
        let read = limited.read_to_end(&mut answer);
        if limited.limit() == 0 {
            return Err(format!("its answer is longer than {MAX_ANSWER} octets"));
        }
        running.end()?;
        read.map_err(|error| format!("cannot read from kubectl: {error}"))?;
        Ok(answer)
    }

    fn spawn(
        &self,
        args: &[&str],
        limit: Duration,
        stdin: Stdio,
    ) -> Result<(Running, Option<std::process::ChildStdin>), String> {
        // Held while it is started, so that none is started after all have been ended.
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped {
            return Err("stopping".to_owned());
        }
        let mut child = Command::new(&self.program)
            .args(args)
            .arg(format!("--request-timeout={}s", limit.as_secs().max(1)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!(
                    "cannot run {}: {error} (--kubectl says where it is)",
                    self.program.display()
                )
            })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|child| child.strong_count() > 0);
        running.push(Arc::downgrade(&child));
        drop(running);
        drop(stopped);
        let (stdin, Some(stdout), Some(stderr)) = pipes else {
            return Err("kubectl has no output".to_owned());
        };
        let (tell, complaint) = mpsc::channel();
        thread::spawn(move || tell.send(last_words(stderr)));
        let running = Running {
            stdout,
            complaint,
            process: Process::watch_over(child, limit + GRACE),
        };
        Ok((running, stdin))
    }

    /// Ends all that run, and lets none start.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for child in running.iter().filter_map(Weak::upgrade) {
            kill(&child);
        }
    }
}

impl Running {
    /// What ends it from another thread.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.process.child))
    }

    /// Waits until it has ended; a sentence if it failed.
    pub fn end(self) -> Result<(), String> {
        drop(self.stdout);
        let mut status = wait(&self.process.child, GRACE);
        if matches!(status, Ok(None)) {
            self.process.overdue.store(true, Ordering::Release);
            kill(&self.process.child);
            status = wait(&self.process.child, LAST);
        }
        // Whatever it has started may have its stderr, and live longer.
        let complaint = self.complaint.recv_timeout(LAST).unwrap_or_default();
        if self.process.overdue.load(Ordering::Acquire) {
            let why = if complaint.is_empty() {
                "does the API server answer?"
            } else {
                &complaint
            };
            return Err(format!("kubectl hung and was killed: {why}"));
        }
        match status {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) if complaint.is_empty() => Err(format!("kubectl ended with {status}")),
            Ok(_) => Err(complaint),
            Err(error) => Err(format!("cannot wait for kubectl: {error}")),
        }
    }
}

impl Process {
    /// Sees to it that a child does not live longer than `limit`, however it hangs.
    fn watch_over(child: Arc<Mutex<Child>>, limit: Duration) -> Self {
        let (watched, gone) = mpsc::channel();
        let overdue = Arc::new(AtomicBool::new(false));
        let (of, late) = (Arc::downgrade(&child), Arc::clone(&overdue));
        thread::spawn(move || {
            let end = gone.recv_timeout(limit);
            if let (Err(RecvTimeoutError::Timeout), Some(child)) = (end, of.upgrade()) {
                late.store(true, Ordering::Release);
                kill(&child);
            }
        });
        Self {
            child,
            overdue,
            _watched: watched,
        }
    }
}

/// Nobody else waits for it, and it would stay in the list of processes for ever.
impl Drop for Process {
    fn drop(&mut self) {
        kill(&self.child);
        let _ = wait(&self.child, LAST);
    }
}

/// Ends a kubectl from another thread.
pub struct Handle(Arc<Mutex<Child>>);

impl Handle {
    pub fn kill(&self) {
        kill(&self.0);
    }
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have ended by itself.
    let _ = child.kill();
}

/// How a child has ended; nothing if it has not after so long. The lock is free in between, so
/// that it can be killed meanwhile.
fn wait(child: &Mutex<Child>, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        let status = child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The last line of what kubectl complains of, which says why.
fn last_words(stderr: impl Read) -> String {
    let mut text = Vec::new();
    let mut stderr = stderr.take(MAX_COMPLAINT);
    let _ = stderr.read_to_end(&mut text);
    // The rest is read, so that whoever writes it does not wait for ever.
    let _ = std::io::copy(&mut stderr.into_inner(), &mut std::io::sink());
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().rev().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// A kubectl that writes its number into the file `pid` and then does this.
    fn kubectl(directory: &Path, does: &str) -> Kubectl {
        let program = directory.join("kubectl");
        let pid = directory.join("pid");
        let script = format!("#!/bin/sh\necho $$ >{}\n{does}\n", pid.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Kubectl::new(program)
    }

    /// Whether it is in the list of processes, be it as a zombie.
    fn is_there(directory: &Path) -> bool {
        let pid = fs::read_to_string(directory.join("pid")).unwrap();
        Path::new("/proc").join(pid.trim()).exists()
    }

    fn await_start(directory: &Path) {
        while !fs::read_to_string(directory.join("pid")).is_ok_and(|pid| pid.ends_with('\n')) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_kubectl_that_hangs_is_killed_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kubectl = kubectl(directory.path(), "exec sleep 600");
        let begin = Instant::now();
        let why = kubectl.ask(&[], Duration::from_millis(100), None);
        assert!(why.unwrap_err().contains("hung and was killed"));
        assert!(begin.elapsed() < 3 * GRACE, "{:?}", begin.elapsed());
        assert!(!is_there(directory.path()));
    }

    #[test]
    fn one_that_has_said_all_and_does_not_end_can_be_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let kubectl = kubectl(directory.path(), "exec sleep 600 >/dev/null 2>&1");
        thread::scope(|scope| {
            let asked = scope.spawn(|| kubectl.ask(&[], Duration::from_mins(10), None));
            await_start(directory.path());
            thread::sleep(Duration::from_millis(100));
            let begin = Instant::now();
            kubectl.stop();
            assert!(asked.join().unwrap().is_err());
            assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
        });
        assert!(!is_there(directory.path()));
        let why = kubectl.ask(&[], Duration::from_secs(1), None);
        assert_eq!(why.unwrap_err(), "stopping");
    }

    #[test]
    fn one_that_is_not_read_to_its_end_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kubectl = kubectl(directory.path(), "exec sleep 600");
        let running = kubectl.start(&[], Duration::from_mins(10)).unwrap();
        await_start(directory.path());
        drop(running);
        assert!(!is_there(directory.path()));
    }
}
