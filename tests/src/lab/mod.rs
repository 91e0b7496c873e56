//! The lab: network namespaces, a switch, backends and tmm itself, for end-to-end tests.
//!
//! ```text
//!   client ── VLAN 100 ──┐                       ┌── VLAN 200 ── backend 1
//!  192.0.2.10            switch ══ trunks ══ tmm │               backend 2
//!  2001:db8:100::10      └───────────────────────┘               backend 3
//! ```
//!
//! The switch runs in user space, since the kernel may have no 802.1Q. Everything a lab makes goes
//! with it, also when a test panics; what a killed test left behind, the next lab removes.

mod netns;
pub mod pattern;
mod process;
pub mod resources;
mod tmm;
mod topology;

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub use netns::{Finished, Namespace};
pub use process::{Halted, Process};
pub use tmm::Tmm;
pub use topology::{Driver, Lab, Options, TRUNK_MTU, address, link, url};

/// Why a step of the lab failed, in words.
pub struct Failure(String);

impl Failure {
    /// A failure that reads like `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Test runners print a test's error with Debug; it shall read like a message.
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(text)
    }
}

/// What every step of the lab returns.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Fails with `message` unless `condition` holds.
pub fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result {
    if condition {
        Ok(())
    } else {
        Err(Failure(message()))
    }
}

/// Tries `attempt` until it succeeds; after `limit` its last error is the answer.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) if Instant::now() >= deadline => {
                return Err(Failure(format!(
                    "still after {} s: {failure}",
                    limit.as_secs_f32()
                )));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Where a program of this workspace is: `TMM_BIN` or `TMMCTL_BIN` for these two if set, else the
/// directory the running test was built into.
pub fn program(name: &str) -> Result<PathBuf> {
    let variable = format!("{}_BIN", name.to_ascii_uppercase().replace('-', "_"));
    if let Some(path) = std::env::var_os(&variable) {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let built = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    built.ok_or_else(|| {
        Failure(format!(
            "{name} is not built beside {}: run cargo build --workspace --bins, or set {variable}",
            test.display()
        ))
    })
}

/// Whether this kernel gives `AF_XDP` sockets; prints why not.
pub fn xdp_sockets() -> bool {
    // SAFETY: socket and close take integers.
    let present = unsafe {
        let socket = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if socket >= 0 {
            libc::close(socket);
        }
        socket >= 0
    };
    if !present {
        let reason = std::io::Error::last_os_error();
        println!("not tested: this kernel gives no AF_XDP sockets ({reason})");
    }
    present
}
