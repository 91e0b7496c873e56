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
