//! A tmm without devices behind its config socket, and the operator's tool in the same process: the packet path
//! and the devices are the only things missing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cli::{Io, Terminal};
use dataplane::control::server::Server;
use dataplane::rig::{Rig, RigConfig};
use net::Timestamp;

/// A tmm without devices, served in a thread until it is dropped.
#[derive(Debug)]
pub struct Served {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves one at a socket.
    ///
    /// # Panics
    /// If the socket cannot be made.
    pub fn start(socket: &Path) -> Self {
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

impl Drop for Served {
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

/// What a command of `tmmctl` ended with, and what it wrote.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: u8,
    /// What it wrote to standard output.
    pub out: String,
    /// And to standard error.
    pub err: String,
}

/// Runs `tmmctl` with `args` towards a socket.
///
/// # Panics
/// If it writes what is not UTF-8.
pub fn ctl<A: AsRef<str>>(socket: &Path, args: &[A], stdin: Box<dyn Read + Send>) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io {
        stdin,
        stdout: &mut out,
        stderr: &mut err,
        terminal: Terminal::default(),
    };
    let socket = socket.display().to_string();
    let all = ["tmmctl", "--socket", &socket].into_iter();
    let code = cli::run(all.chain(args.iter().map(AsRef::as_ref)), io);
    Ran {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}
