//! `tmm run`: DPDK, ports, workers and the control thread, from start to clean stop.

pub mod args;
mod filters;
mod ports;

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use config::Limits;
use config::document::{load, read_path};
use config::watch::Hub;
use crossbeam::channel::{Sender, bounded};
use dpdk::Eal;
use lb::snat::PortStripe;
use net::Timestamp;
use thiserror::Error;
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;
use vlan::resolver::ResolverConfig;

use crate::control::server::{Server, SocketError};
use crate::control::{Control, ControlConfig};
use crate::dpdk_port::DpdkPort;
use crate::pipeline::PipelineConfig;
use crate::verdict::DropReason;
use crate::worker::{Shared, Worker};

pub use args::RunArgs;
use args::{Idle, LogFormat};
use ports::Ports;

/// How long the control thread sleeps at most: what workers tell it waits this long.
const CONTROL_TURN: Duration = Duration::from_millis(1);
/// How often links are looked at.
const LINK_INTERVAL: Duration = Duration::from_secs(1);
/// Idle turns before a worker begins to sleep, and how long it then sleeps.
const IDLE_TURNS: u32 = 2_000;
const IDLE_SLEEP: Duration = Duration::from_micros(20);
/// Changes of the configuration within this time are taken up together.
const CONFIG_BATCH: Duration = Duration::from_millis(10);

/// Why the start failed. Each says what to do.
#[derive(Debug, Error)]
pub enum RunError {
    /// Of DPDK or a port.
    #[error("{0}{hint}", hint = ports::start_hint(.0))]
    Dpdk(#[from] dpdk::Error),
    /// A port of the command line.
    #[error("port {port}: {source}{hint}")]
    Port {
        /// Its name.
        port: String,
        /// What is wrong.
        source: Box<dpdk::Error>,
        /// What to do about it, where the error itself does not say.
        hint: &'static str,
    },
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// Of the config socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file given with --config.
    #[error("{0}")]
    Config(String),
    /// Of the operating system.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Standard error as a place for the log that is allowed to fail: a full disk or a collector that went
/// away must not end the dataplane.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sets up logging to standard error.
///
/// Errors: a filter that cannot be read.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), RunError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        RunError::Usage(format!(
            "--log \"{filter}\": {error}; try info, debug or info,dpdk=debug"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(std::io::stderr().is_terminal());
    let set = match format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| RunError::Usage(format!("logging: {error}")))
}

/// Runs until SIGTERM or SIGINT.
///
/// Errors: why the start failed; nothing is left behind then.
pub fn run(args: &RunArgs) -> Result<(), RunError> {
    let started = Instant::now();
    if args.workers > 1 {
        return Err(RunError::Usage(
            "--workers: more than one worker is not supported yet; start one tmm for each \
             port pair, or use --workers 1"
                .to_owned(),
        ));
    }
    check_memory(args.flow_capacity)?;
    // Seen from here on, so that a stop during the start is not lost.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|source| RunError::Io {
            what: "catch signals",
            source,
        })?;
    }
    let seed = random_seed()?;
    let hub = load_config(args)?;
    // Before DPDK: a second tmm is told about the socket without having touched the ports.
    let mut server = match args.socket() {
        Some(path) => Some(Server::open(path, args.config_socket_mode.0)?),
        None => None,
    };
    let (mut ports, queues) = ports::open(args)?;
    let eal = ports.eal();
    let (replica, source) = args.replica();
    let control_config = ControlConfig {
        replica,
        ports: ports.infos(),
        default_mtu: args.default_mtu,
        workers: 1,
        resolver: ResolverConfig {
            seed,
            ..ResolverConfig::default()
        },
        batch: CONFIG_BATCH,
    };
    let (mut control, shared) = Control::with_one_worker(&control_config, hub);
    // Published before the worker starts, so that not one frame meets an empty configuration.
    control.poll(Timestamp::ZERO);
    for state in control.states() {
        if state.reason() != "Programmed" {
            warn!(object = %state.key.path(), reason = state.reason(), "{}", state.message());
        }
    }
    let pipeline = PipelineConfig {
        worker: 0,
        stripe: PortStripe::whole(),
        flow_capacity: usize::try_from(args.flow_capacity).unwrap_or(usize::MAX),
        seed,
        hugetlb: args.hugepages != args::Hugepages::Never,
    };
    let worker = Worker::new(&pipeline, queues, shared);
    let cpu = args.cpus.as_ref().and_then(|list| list.0.first().copied());
    let (running, runs) = bounded(1);
    let worker = spawn_worker(
        worker,
        &eal,
        cpu,
        args.idle,
        started,
        Arc::clone(&stop),
        running,
    )?;
    if runs.recv().is_err() {
        // It ended before its first turn, and says why.
        return worker.join().unwrap_or_else(|_| Err(worker_lost()));
    }
    ports.follow(&control.tables());
    let ports = Rc::new(RefCell::new(ports));
    let facts = Rc::clone(&ports);
    control.set_port_facts(Box::new(move |port| facts.borrow().facts(port)));
    info!(
        ports = args.ports.len(),
        replica,
        replica_is = source.text(),
        hugepages = eal.uses_hugepages(),
        dpdk = %dpdk::version(),
        after_ms = started.elapsed().as_millis(),
        "tmm is ready"
    );
    control_loop(
        &mut control,
        server.as_mut(),
        &ports,
        started,
        &stop,
        &worker,
    );
    info!("stopping");
    let outcome = worker.join();
    // The control side holds the facts of the ports; the socket goes with the server.
    drop(server);
    drop(control);
    let Ok(outcome) = outcome else {
        return Err(worker_lost());
    };
    outcome?;
    drop(eal);
    if let Some(ports) = Rc::into_inner(ports) {
        ports.into_inner().close();
    }
    info!(after_s = started.elapsed().as_secs(), "stopped");
    Ok(())
}

fn control_loop(
    control: &mut Control,
    mut server: Option<&mut Server>,
    ports: &RefCell<Ports>,
    started: Instant,
    stop: &AtomicBool,
    worker: &JoinHandle<Result<(), RunError>>,
) {
    let mut links_seen: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        if worker.is_finished() {
            return;
        }
        let now = clock(started);
        match server.as_mut() {
            Some(server) => server.serve(control, now, CONTROL_TURN),
            None => std::thread::sleep(CONTROL_TURN),
        }
        let lines = control.poll(clock(started));
        if let Some(server) = server.as_mut()
            && !lines.is_empty()
        {
            server.deliver(lines);
        }
        ports.borrow_mut().follow(&control.tables());
        if links_seen.is_none_or(|at| at.elapsed() >= LINK_INTERVAL) {
            links_seen = Some(Instant::now());
            ports.borrow_mut().look_at_checksums(bad_checksums(control));
            for (port, up) in ports.borrow_mut().changed_links() {
                control.set_link(port, up, now);
            }
        }
    }
}

/// Frames dropped for a wrong TCP, UDP or ICMP checksum, by all workers.
fn bad_checksums(control: &Control) -> u64 {
    let dropped = |worker: &Shared| worker.counters.dropped(DropReason::BadTransportChecksum);
    control.workers().iter().map(dropped).sum()
}

fn spawn_worker(
    mut worker: Worker<DpdkPort>,
    eal: &Eal,
    cpu: Option<usize>,
    idle: Idle,
    started: Instant,
    stop: Arc<AtomicBool>,
    running: Sender<()>,
) -> Result<JoinHandle<Result<(), RunError>>, RunError> {
    let eal = eal.clone();
    std::thread::Builder::new()
        .name("worker-0".to_owned())
        .spawn(move || {
            if let Some(cpu) = cpu {
                dpdk::pin_to_cpu(cpu)?;
            }
            let guard = eal.register_thread()?;
            debug!(lcore = guard.lcore_id(), "worker runs");
            let _ = running.send(());
            let mut idle_turns = 0u32;
            while !stop.load(Ordering::Relaxed) {
                if worker.turn(clock(started)) > 0 {
                    idle_turns = 0;
                } else if idle == Idle::Sleep {
                    idle_turns = idle_turns.saturating_add(1);
                    if idle_turns > IDLE_TURNS {
                        std::thread::sleep(IDLE_SLEEP);
                    }
                }
            }
            // Mbufs go back while this thread is still known to DPDK.
            drop(worker);
            drop(guard);
            Ok(())
        })
        .map_err(|source| RunError::Io {
            what: "start a worker thread",
            source,
        })
}

/// Refuses a flow table that memory has no room for, instead of being ended by the kernel later.
fn check_memory(flow_capacity: u32) -> Result<(), RunError> {
    /// A flow with its links and its share of the index.
    const FLOW_OCTETS: u64 = 320;
    let need_mib = (u64::from(flow_capacity) * FLOW_OCTETS) >> 20;
    let available_mib = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
        });
    match available_mib {
        Some(available_mib) if need_mib > available_mib => Err(RunError::Usage(format!(
            "--flow-capacity {flow_capacity} needs about {need_mib} MiB and {available_mib} MiB are \
             available: ask for fewer flows"
        ))),
        _ => Ok(()),
    }
}

fn worker_lost() -> RunError {
    RunError::Usage("a worker ended unexpectedly".to_owned())
}

fn clock(started: Instant) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// A number nobody can foresee, to key the hash tables with.
fn random_seed() -> Result<u64, RunError> {
    use std::io::Read;
    let mut octets = [0u8; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut octets))
        .map_err(|source| RunError::Io {
            what: "read /dev/urandom",
            source,
        })?;
    let time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(u64::from_ne_bytes(octets) ^ u64::from(time.subsec_nanos()))
}

/// Reads the files given with `--config`; all of their errors at once.
fn load_config(args: &RunArgs) -> Result<Hub, RunError> {
    let mut documents = Vec::new();
    for path in &args.config {
        documents.extend(read_path(path).map_err(|error| RunError::Config(error.to_string()))?);
    }
    let (store, problems) = load(&documents, Limits::default());
    if problems.is_empty() {
        return Ok(Hub::with_store(store));
    }
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(RunError::Config(all.join("\n")))
}
