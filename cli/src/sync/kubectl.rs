//! kubectl, as far as it is needed: what it is started with, what it has said, how it is ended.
//!
//! Only `--raw` requests are made, so that no discovery, no cache and no home directory is needed,
//! and every kubectl of the last years will do.

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Most of what kubectl complains of that is kept, in octets.
const MAX_COMPLAINT: u64 = 8 * 1024;
/// Longest answer that is taken, in octets: a list of a large cluster.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// Starts kubectls and ends those that still run.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    running: Mutex<Vec<Weak<Mutex<Child>>>>,
    stopped: Mutex<bool>,
}

/// A kubectl that has been started.
pub struct Running {
    child: Arc<Mutex<Child>>,
    pub stdout: ChildStdout,
    complaint: JoinHandle<String>,
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
            running.kill();
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
        let complaint = thread::spawn(move || last_words(stderr));
        let running = Running {
            child,
            stdout,
            complaint,
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
        Handle(Arc::clone(&self.child))
    }

    fn kill(&self) {
        kill(&self.child);
    }

    /// Waits until it has ended; a sentence if it failed.
    pub fn end(self) -> Result<(), String> {
        drop(self.stdout);
        let status = {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            child.wait()
        };
        let complaint = self.complaint.join().unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if complaint.is_empty() => Err(format!("kubectl ended with {status}")),
            Ok(_) => Err(complaint),
            Err(error) => Err(format!("cannot wait for kubectl: {error}")),
        }
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
