//! Background processes that never outlive the test that started them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, Result, ensure, eventually};

/// How long a process asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A running process; dropping it stops it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output going to the file `log`.
    pub fn spawn(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        // SAFETY: prctl is async-signal-safe and only sets an attribute of the new process: it is
        // killed with the thread that made it, so that an aborted test leaves nothing running.
        unsafe {
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                },
            );
        }
        let child = command
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start {command:?}: {error}")))?;
        Ok(Self { child, log })
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it prints a line that reads `READY`.
    pub fn await_ready(&mut self) -> Result {
        eventually(Duration::from_secs(10), || {
            let output = self.output();
            ensure(output.lines().any(|line| line == "READY"), || {
                format!("not ready; it said:\n{output}")
            })
        })
    }

    /// Fails, with what it printed, if it has ended.
    pub fn check_alive(&mut self) -> Result {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!(
                "it ended ({status}); it said:\n{}",
                self.output()
            ))),
        }
    }

    /// Asks it to stop with SIGTERM and waits; says how it ended and how long that took.
    ///
    /// After 5 s it is killed, which is a failure.
    pub fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        while start.elapsed() < GRACE {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, start.elapsed()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        self.child.wait()?;
        Err(Failure::new(format!(
            "it did not stop within {} s of SIGTERM; it said:\n{}",
            GRACE.as_secs(),
            self.output()
        )))
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM and does not wait.
    pub fn ask_to_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Waits for it to end by itself; says how it ended.
    pub fn await_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(Failure::new(format!(
            "it has not ended within {} s; it said:\n{}",
            limit.as_secs(),
            self.output()
        )))
    }

    /// Halts its thread of that name, and no other, until the answer is dropped by the same thread.
    pub fn halt_thread(&self, name: &str) -> Result<Halted> {
        let tasks = format!("/proc/{}/task", self.id());
        for task in fs::read_dir(&tasks)?.flatten() {
            let is_it = fs::read_to_string(task.path().join("comm"))?.trim() == name;
            let number = task.file_name().to_str().and_then(|text| text.parse().ok());
            if let (true, Some(thread)) = (is_it, number) {
                return Halted::new(thread);
            }
        }
        Err(Failure::new(format!("no thread of it is called {name}")))
    }

    fn signal(&self, signal: libc::c_int) {
        let Ok(pid) = libc::pid_t::try_from(self.child.id()) else {
            return;
        };
        // SAFETY: kill takes integers; the child has not been waited for, so the ID is still its own.
        unsafe { libc::kill(pid, signal) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.stop());
        }
    }
}

/// A thread that stands still until this is dropped.
#[derive(Debug)]
pub struct Halted(libc::pid_t);

impl Halted {
    fn new(thread: libc::pid_t) -> Result<Self> {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: seizing and interrupting take a thread's number and nothing else.
        let halted = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing) == 0
        };
        if !halted {
            return Err(std::io::Error::last_os_error().into());
        }
        let this = Self(thread);
        // SAFETY: waits for a thread that is ours to trace; nothing is written.
        let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        ensure(stopped == thread, || {
            format!(
                "thread {thread} could not be halted: {}",
                std::io::Error::last_os_error()
            )
        })?;
        Ok(this)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: takes a thread's number; one that is gone is an error that nobody minds.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}
