//! Accounting: what happens to flows, told to a collector by IPFIX over UDP.
//!
//! ```text
//!  worker ─entries─▶ ring (journal) ─▶ exporter's thread ─messages─▶ UDP ─▶ collector
//! ```
//!
//! - [`wire`]: messages as octets; [`template`]: which elements the records have;
//! - [`exporter`]: from entries to messages, pure;
//! - this page: the thread, and the socket that never waits.
//!
//! Nothing of it can hold up a worker: a ring that is full loses entries, a socket that takes nothing loses messages,
//! and both are counted.

pub mod args;
pub mod exporter;
pub mod stats;
pub mod template;
pub mod wire;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use net::Timestamp;
use tracing::{info, warn};

use crate::journal::{Entry, Journal, RING};
use crate::tables::{Publisher, Tables};
use exporter::{Exporter, Names, Options, Outlet, WallClock};
use stats::Stats;

/// How long the thread sleeps when there is nothing to do.
const PAUSE: Duration = Duration::from_millis(20);
/// Complaints of the collector are logged at most this often.
const COMPLAINTS_APART: Duration = Duration::from_mins(1);

/// What the exporter reads.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The journals of the workers.
    pub journals: Vec<Arc<Journal>>,
    /// What is configured, for names.
    pub publisher: Arc<Publisher>,
    /// The zero of the workers' clock.
    pub started: Instant,
}

/// The running export; it ends with this.
#[derive(Debug)]
pub struct Export {
    report: Report,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of the export, for whoever asks.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it goes.
    pub collector: SocketAddr,
    /// What was counted.
    pub stats: Arc<Stats>,
    /// The workers' journals.
    pub journals: Vec<Arc<Journal>>,
}

impl Report {
    /// Entries that found a ring full.
    pub fn lost(&self) -> u64 {
        self.journals.iter().map(|journal| journal.lost()).sum()
    }
}

impl Export {
    /// Starts the exporter's thread.
    ///
    /// Errors: the system gives no socket, or no thread.
    pub fn start(collector: SocketAddr, options: Options, sources: Sources) -> io::Result<Self> {
        let any: SocketAddr = if collector.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(collector)?;
        socket.set_nonblocking(true)?;
        let stats = Arc::new(Stats::default());
        let stop = Arc::new(AtomicBool::new(false));
        let report = Report {
            collector,
            stats: Arc::clone(&stats),
            journals: sources.journals.clone(),
        };
        let (told, flag) = (Mouth::new(socket, collector, stats), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("ipfix".to_owned())
            .spawn(move || run(&sources, options, told, &flag))?;
        info!(%collector, domain = options.domain, "flows are exported by IPFIX");
        Ok(Self {
            report,
            stop,
            thread: Some(thread),
        })
    }

    /// What is known of it.
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

impl Drop for Export {
    /// Sends what is left, and ends.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn run(sources: &Sources, options: Options, mut mouth: Mouth, stop: &AtomicBool) {
    let mut exporter = Exporter::new(options);
    let mut known = Known::default();
    let stats = Arc::clone(&mouth.stats);
    loop {
        // Read before the rings: what was written before it is sent.
        let last = stop.load(Ordering::Acquire);
        let now = sources.started.elapsed();
        let now = Timestamp::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let clock = wall_clock(now);
        let mut send = |message: &[u8]| mouth.send(message);
        let mut out = Outlet {
            now,
            clock,
            stats: &stats,
            send: &mut send,
        };
        for journal in &sources.journals {
            for _ in 0..RING {
                let Some(entry) = journal.pop() else { break };
                if !known.has(&entry) {
                    known.learn(&sources.publisher.newest());
                }
                exporter.take(&entry, &known, &mut out);
            }
        }
        exporter.refresh_templates(&mut out);
        exporter.flush(&mut out);
        if std::mem::take(&mut mouth.refused) {
            exporter.repeat_templates();
        }
        if last {
            return;
        }
        // After the entries, so that the number of one that is gone still names it in them.
        known.learn(&sources.publisher.newest());
        if !sources.journals.iter().any(|journal| journal.is_busy()) {
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// Time as everybody knows it. It is asked each time: the system's clock may be set.
fn wall_clock(now: Timestamp) -> WallClock {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    WallClock {
        zero: wall.saturating_sub(now.as_nanos()),
    }
}

/// Names and tags by their numbers; those that are gone are kept until their number is another's.
#[derive(Debug, Default)]
struct Known {
    generation: u64,
    virtual_servers: Vec<String>,
    tags: Vec<u16>,
}

impl Known {
    fn has(&self, entry: &Entry) -> bool {
        let name = self.virtual_servers.get(entry.virtual_server.index());
        name.is_some_and(|name| !name.is_empty())
    }

    fn learn(&mut self, tables: &Tables) {
        if tables.generation == self.generation {
            return;
        }
        self.generation = tables.generation;
        for server in &tables.virtual_servers {
            put(
                &mut self.virtual_servers,
                server.id.index(),
                server.name.clone(),
            );
        }
        for vlan in &tables.vlans {
            put(&mut self.tags, usize::from(vlan.index.0), vlan.encap.vid());
        }
    }
}

fn put<T: Default>(list: &mut Vec<T>, at: usize, value: T) {
    if at >= list.len() {
        list.resize_with(at + 1, T::default);
    }
    if let Some(place) = list.get_mut(at) {
        *place = value;
    }
}

impl Names for Known {
    fn virtual_server(&self, entry: &Entry) -> &str {
        let name = self.virtual_servers.get(entry.virtual_server.index());
        name.map_or("", String::as_str)
    }

    fn tags(&self, entry: &Entry) -> [u16; 2] {
        let tag = |index: net::VlanIndex| self.tags.get(usize::from(index.0)).copied();
        let [server, client] = entry.vlans.map_or([None; 2], |vlans| vlans.map(tag));
        [client.unwrap_or(0), server.unwrap_or(0)]
    }
}

/// The socket.
struct Mouth {
    socket: UdpSocket,
    collector: SocketAddr,
    stats: Arc<Stats>,
    complained: Option<Instant>,
    /// Whether the collector was away, and so has no templates.
    refused: bool,
    /// Octets of the message that was sent last, should it turn out to be lost; 0 when that was counted.
    before: u64,
}

impl Mouth {
    const fn new(socket: UdpSocket, collector: SocketAddr, stats: Arc<Stats>) -> Self {
        Self {
            socket,
            collector,
            stats,
            complained: None,
            refused: false,
            before: 0,
        }
    }

    /// Sends a message, or counts it as not sent; never waits.
    fn send(&mut self, message: &[u8]) {
        let mut result = self.socket.send(message);
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // That is news about the message before, which is lost; this one was not sent yet.
            self.complain(error);
            self.refused = true;
            self.stats.unsent.add(1);
            self.stats.messages.sub(1);
            self.stats.octets.sub(std::mem::take(&mut self.before));
            result = self.socket.send(message);
        }
        match result {
            Ok(sent) => {
                self.stats.messages.add(1);
                self.stats.octets.add(sent as u64);
                self.before = sent as u64;
            }
            Err(error) => {
                self.complain(&error);
                self.refused = true;
                self.stats.unsent.add(1);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAINTS_APART)
        {
            self.complained = Some(Instant::now());
            let collector = self.collector;
            warn!(
                %collector,
                "records of flows are lost, for the IPFIX collector does not take them ({error}): check that it runs \
                 and listens there"
            );
        }
    }
}
