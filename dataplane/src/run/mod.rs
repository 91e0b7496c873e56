//! `tmm run`: DPDK, ports, workers and the control thread, from start to clean stop.

pub mod args;
pub mod capabilities;
mod cgroup;
mod cpus;
mod deal;
mod drain;
mod filters;
mod groups;
mod hints;
mod idle;
mod lanes;
mod memory_plan;
pub(crate) mod ports;
mod recovery;
mod team;
mod ward;

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use config::Limits;
use config::document::{load, read_path};
use config::watch::Hub;
use lb::snat::PortStripe;
use net::Timestamp;
use serde_json::json;
use thiserror::Error;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use vlan::resolver::ResolverConfig;

use crate::control::server::{Server, SocketError};
use crate::control::show::Row;
use crate::control::{Control, ControlConfig};
use crate::discover::{self, takeover::TakeoverError};
use crate::dpdk_port::{DpdkFrame, DpdkPort};
use crate::handoff::{self, Crew, Handed};
use crate::ipfix::{Export, Sources};
use crate::journal::Journal;
use crate::pipeline::PipelineConfig;
use crate::steer::Steering;
use crate::verdict::DropReason;
use crate::worker::{Shared, Worker};

use drain::Stop;

use args::LogFormat;
pub use args::RunArgs;
use cpus::{Machine, Places};
use idle::Sleepers;
use memory_plan::Plan;
use ports::Ports;
use team::{Member, Team, Terms};

/// How often links are looked at.
const LINK_INTERVAL: Duration = Duration::from_secs(1);
/// Changes of the configuration within this time are taken up together.
const CONFIG_BATCH: Duration = Duration::from_millis(10);

/// Why the start failed. Each says what to do.
#[derive(Debug, Error)]
pub enum RunError {
    /// Of DPDK or a port.
    #[error("{0}{hint}", hint = hints::start_hint(.0))]
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
    /// The ports there are cannot be used, or there are none.
    #[error("{0}")]
    Ports(String),
    /// Interfaces of the pod's.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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
    let refused = |why: &dyn std::fmt::Display| {
        RunError::Usage(format!(
            "--log \"{filter}\": {why}; try info, debug or info,dpdk=debug"
        ))
    };
    // A word alone would be taken for a part of the program, and nothing else were logged.
    let mut words = filter.split(',').map(str::trim);
    let strange = words.find(|word| {
        let bare = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
        bare && word.parse::<LevelFilter>().is_err()
    });
    if let Some(word) = strange {
        return Err(refused(&format!("\"{word}\" is no level")));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| refused(&error))?;
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
    let machine = Machine::here()?;
    let args = &with_workers(args, &machine);
    // Seen from here on, so that a stop during the start is not lost.
    let mut stop = Stop::catch(args.drain)?;
    let seed = random_seed()?;
    let hub = load_config(args)?;
    // Before DPDK: a second tmm is told about the socket without having touched the ports.
    let mut server = match args.socket() {
        Some(path) => Some(Server::open(path, args.config_socket_mode.0)?),
        None => None,
    };
    let steering = Arc::new(Steering::new(args.workers, seed));
    let found = discover::discover(args, &discover::environment::own());
    found.log();
    if let Some(problems) = found.all_problems() {
        return Err(RunError::Ports(problems));
    }
    let choices = found.choices();
    let plan = memory_plan::plan(args, &choices)?;
    let places = cpus::settle(args, &choices, &machine)?;
    let node = cpus::common_node(&places.nodes);
    // Given back on every way out of here.
    let takeover = found.take_over(args)?;
    // Ports of one VLAN are dealt out to workers together, where that is known already.
    let (begin, _) = config::resolve(hub.store(), args.replica().0);
    let (mut ports, queues) = ports::open(args, &choices, &steering, &begin, &plan, node)?;
    let eal = ports.eal();
    let (replica, source) = args.replica();
    let control_config = ControlConfig {
        replica,
        ports: ports.infos(),
        default_mtu: args.default_mtu,
        workers: args.workers,
        flows: usize::try_from(plan.flows).unwrap_or(usize::MAX),
        resolver: ResolverConfig {
            // Of its own: what is chosen by the other one, such as source ports, can be seen from outside.
            seed: random_seed()?,
            ..ResolverConfig::default()
        },
        batch: CONFIG_BATCH,
    };
    let mut control = Control::new(&control_config, hub);
    // Published before the workers start, so that not one frame meets an empty configuration.
    control.poll(Timestamp::ZERO);
    for state in control.states() {
        if state.reason() != "Programmed" {
            warn!(object = %state.key.path(), reason = state.reason(), "{}", state.message());
        }
    }
    let stop_all = stop.flag();
    let cpus = places.workers.clone();
    let sleepers = Sleepers::new(args.workers)?;
    if let Some(server) = &server {
        let watched = server.watch(sleepers.control_alarm());
        watched.map_err(|source| RunError::Io {
            what: "watch an event descriptor",
            source,
        })?;
    }
    let terms = Terms {
        idle: args.idle,
        sleepers: sleepers.clone(),
        started,
        stop: stop.flag(),
        cpus: cpus.clone(),
    };
    let near = Near {
        machine: &machine,
        places: &places,
    };
    let export = export(args, &control, started)?;
    if let Some(export) = &export {
        control.set_export(export.report().clone());
    }
    let members = members(
        args, seed, &steering, &control, &ports, queues, &plan, &near,
    )?;
    let team = Team::start(members, &eal, &terms)?;
    ports.follow(&control.tables());
    let ports = Rc::new(RefCell::new(ports));
    let facts = Rc::clone(&ports);
    control.set_port_facts(Box::new(move |port| facts.borrow().facts(port)));
    let facts = Rc::clone(&ports);
    control.set_worker_facts(Box::new(move |worker| {
        let mut row = Row::new();
        let number = u16::try_from(worker).unwrap_or(u16::MAX);
        let cpu = cpus.get(worker).copied().flatten();
        row.insert("cpu".to_owned(), json!(cpu));
        let numa = cpu.map(|cpu| machine.node(cpu).unwrap_or(0));
        row.insert("numa".to_owned(), json!(numa));
        row.insert("queues".to_owned(), json!(facts.borrow().queues_of(number)));
        row
    }));
    info!(
        ports = ports.borrow().infos().len(),
        workers = args.workers,
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
        &terms,
        &mut stop,
        &team,
    );
    info!("stopping");
    // One that ended by itself takes the others along.
    stop_all.store(true, Ordering::Relaxed);
    sleepers.wake_workers();
    let outcome = team.join();
    // The workers have written down their last.
    drop(export);
    // The control side holds the facts of the ports; the socket goes with the server.
    drop(server);
    drop(control);
    outcome?;
    drop(eal);
    if let Some(ports) = Rc::into_inner(ports) {
        ports.into_inner().close();
    }
    if let Some(takeover) = takeover {
        takeover.give_back();
    }
    info!(after_s = started.elapsed().as_secs(), "stopped");
    Ok(())
}

fn control_loop(
    control: &mut Control,
    mut server: Option<&mut Server>,
    ports: &RefCell<Ports>,
    terms: &Terms,
    stop: &mut Stop,
    team: &Team,
) {
    let (started, sleepers) = (terms.started, &terms.sleepers);
    let workers: Vec<Shared> = control.workers().to_vec();
    let mut links_seen: Option<Instant> = None;
    while !stop.is_due(control, clock(started)) {
        if team.is_short() {
            return;
        }
        let now = clock(started);
        let due = control.next_deadline().map(|at| at.since(now));
        sleepers.control_waits(&workers, due, |timeout| match server.as_mut() {
            Some(server) => server.serve(control, now, timeout),
            None => sleepers.control_wait(timeout),
        });
        // What workers have told may be what other workers wait for, and so may new tables.
        let told = workers.iter().any(|worker| !worker.events.is_empty());
        let generation = control.tables().generation;
        let lines = control.poll(clock(started));
        let all = told || control.tables().generation != generation;
        sleepers.hand_on(&workers, all);
        if let Some(server) = server.as_mut()
            && !lines.is_empty()
        {
            server.deliver(lines);
        }
        let due = links_seen.is_none_or(|at| at.elapsed() >= LINK_INTERVAL);
        let (mut changed, look) = ports.borrow_mut().tend(control.workers(), due);
        ports.borrow_mut().follow(&control.tables());
        if due || look {
            links_seen = Some(Instant::now());
            ports.borrow_mut().look_at_checksums(bad_checksums(control));
            changed.extend(ports.borrow_mut().changed_links());
        }
        for (port, up) in changed {
            control.set_link(port, up, now);
        }
        // They may have been asked to let go of a port.
        sleepers.hand_on(&workers, false);
    }
}

/// Frames dropped for a wrong TCP, UDP or ICMP checksum, by all workers.
fn bad_checksums(control: &Control) -> u64 {
    let dropped = |worker: &Shared| worker.counters.dropped(DropReason::BadTransportChecksum);
    control.workers().iter().map(dropped).sum()
}

/// Where memory is to be.
struct Near<'a> {
    machine: &'a Machine,
    places: &'a Places,
}

impl Near<'_> {
    /// Has `make` touch its memory on the CPU of a worker, so that it is on that worker's node.
    fn make<T>(&self, worker: u16, make: impl FnOnce() -> T) -> Result<T, RunError> {
        let cpu = self.places.workers.get(usize::from(worker)).copied();
        let Some(cpu) = cpu.flatten().filter(|_| self.machine.has_nodes()) else {
            return Ok(make());
        };
        dpdk::pin_to_cpu(cpu)?;
        let made = make();
        dpdk::bind_to_cpus(&self.places.control)?;
        Ok(made)
    }
}

/// The workers, each with its queues and its place among the others.
#[expect(clippy::too_many_arguments, reason = "all that a worker is made of")]
fn members(
    args: &RunArgs,
    seed: u64,
    steering: &Arc<Steering>,
    control: &Control,
    ports: &Ports,
    queues: Vec<Vec<DpdkPort>>,
    plan: &Plan,
    near: &Near,
) -> Result<Vec<Member>, RunError> {
    let crews = Crew::assemble(steering, |worker| ports.senders(worker));
    let flow_capacity = share(plan.flows, args.workers);
    let numbered = (0..args.workers).zip(queues).zip(crews);
    numbered
        .zip(control.workers())
        .map(|(((number, queues), crew), shared)| {
            let pipeline = PipelineConfig {
                worker: number,
                stripe: PortStripe::whole(),
                flow_capacity: usize::try_from(flow_capacity).unwrap_or(usize::MAX),
                seed: seed.wrapping_add(u64::from(number)),
                hugetlb: plan.tables_huge,
                straight_way: true,
                icmp_errors_per_second: args.icmp_errors_per_second,
            };
            let counters = Arc::clone(&shared.counters);
            let mut worker =
                near.make(number, || Worker::new(&pipeline, queues, shared.clone()))?;
            if let Some(journal) = control.journal(number) {
                worker.keep_journal(journal);
            }
            Ok(if args.workers > 1 {
                (worker.with_crew(crew), counters)
            } else {
                (worker, counters)
            })
        })
        .collect()
}

/// The export of flows, if there is to be one.
fn export(args: &RunArgs, control: &Control, started: Instant) -> Result<Option<Export>, RunError> {
    let Some(collector) = &args.ipfix.collector else {
        return Ok(None);
    };
    let collector = collector.resolve().map_err(RunError::Usage)?;
    let refused = |why| {
        RunError::Usage(format!(
            "--ipfix {collector}: {why}: check that this host has an address and a route to there"
        ))
    };
    let timeout = args.ipfix.active_timeout();
    let journals = control.workers().iter();
    let sources = Sources {
        journals: journals.map(|_| Arc::new(Journal::new(timeout))).collect(),
        publisher: control.publisher(),
        started,
    };
    let options = args.ipfix.options(args.replica().0);
    let export = Export::start(collector, options, sources).map_err(refused)?;
    Ok(Some(export))
}

/// The flows that each worker tracks: they are shared out evenly, so the table is.
const fn share(flow_capacity: u32, workers: u16) -> u32 {
    flow_capacity.div_ceil(workers as u32)
}

/// The arguments with the number of workers that `auto` means here; one if that cannot be found out.
pub(crate) fn resolved(args: &RunArgs) -> RunArgs {
    with_workers(args, &Machine::here().unwrap_or_default())
}

/// The arguments, with the number of workers that `auto` means.
fn with_workers(args: &RunArgs, machine: &Machine) -> RunArgs {
    let mut args = args.clone();
    if args.workers == args::AUTO_WORKERS {
        args.workers = cpus::auto_workers(machine, args.cpus.as_ref());
    }
    args
}

/// Memory of the rings between so many workers.
const fn handoff_octets(workers: u16) -> u64 {
    let each = size_of::<Handed<DpdkFrame>>() + size_of::<usize>();
    (handoff::frames_at_most(workers) * each) as u64
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
