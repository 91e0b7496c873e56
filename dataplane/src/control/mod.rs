//! The control side: takes configuration, compiles and publishes it, resolves neighbours, and tells
//! what there is to know. Pure but for what [`server`] does with sockets: time comes in, frames go
//! out through the workers' rings, so a replay and the tests drive it without a thread.

pub mod drain;
pub mod health;
pub mod server;
pub mod show;
mod snat_watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::watch::Hub;
use config::{Config, ObjectKey, ObjectState, ReasonCode};
use crossbeam::queue::ArrayQueue;
use net::{Timestamp, VlanIndex};
use tracing::{info, warn};
use vlan::Event;
use vlan::neighbor::Neighbors;
use vlan::resolver::{Resolver, ResolverConfig};
use vlan::segment::Segments;

use crate::command::Command;
use crate::compile::{CompileError, Names, Surroundings, compile};
use crate::counters::WorkerCounters;
use crate::defences::Defences;
use crate::egress::{Links, Stations};
use crate::ipfix::Report;
use crate::journal::Journal;
use crate::tables::{PortInfo, Publisher, Tables};
use crate::worker::Shared;

/// Events a worker may have under way to the control thread.
const EVENT_RING: usize = 4096;
/// Commands that may be under way to a worker.
const COMMAND_RING: usize = 1024;
/// Frames of the resolver sent per poll at most.
const FRAME_BUDGET: usize = 512;
/// Events taken per poll at most.
const EVENT_BUDGET: usize = 4096;

/// How many times as long as taking up changes took the control side waits for the next ones.
const PAUSE_PER_EFFORT: u32 = 4;

/// What the control side is built from.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Which position of the self IP lists is ours.
    pub replica: usize,
    /// The ports, in attachment order.
    pub ports: Vec<PortInfo>,
    /// MTU of VLANs that name none, octets.
    pub default_mtu: u16,
    /// How many workers there are.
    pub workers: u16,
    /// Flows that all workers together track at most.
    pub flows: usize,
    /// How neighbours are resolved.
    pub resolver: ResolverConfig,
    /// Changes that arrive within this time of the last publication are published together; zero
    /// publishes all at once. With a configuration that takes long to compile, it is longer.
    pub batch: Duration,
}

/// The control side.
pub struct Control {
    hub: Hub,
    replica: usize,
    surroundings: Surroundings,
    batch: Duration,
    names: Names,
    publisher: Arc<Publisher>,
    /// Tables that a worker may still use; freed here, never by a worker.
    retired: Vec<Arc<Tables>>,
    resolver: Resolver,
    /// Which ports are in one segment.
    segments: Segments,
    workers: Vec<Shared>,
    config: Arc<Config>,
    published_at: Option<Timestamp>,
    /// How long it took to take up the last changes.
    effort: Duration,
    /// What could not be programmed, and was logged.
    complaints: BTreeSet<String>,
    /// How often changes were taken up.
    taken_up: u64,
    commands_lost: u64,
    /// How often frames of the resolver had to wait for room in the worker's ring.
    sendings_delayed: u64,
    states: Vec<ObjectState>,
    port_facts: Option<PortFacts>,
    worker_facts: Option<WorkerFacts>,
    loads: Loads,
    export: Option<Report>,
    snat_watch: snat_watch::SnatWatch,
    health: health::Health,
    drain: Option<drain::Drain>,
    /// The tables are to be compiled anew though no object has changed.
    compile_anew: bool,
}

/// What the devices say of a port besides what the tables know: driver, link, their own counters.
pub type PortFacts = Box<dyn Fn(net::PortId) -> show::Row>;

/// What there is to say of a worker besides what it counts: its CPU and queues.
pub type WorkerFacts = Box<dyn Fn(usize) -> show::Row>;

/// Over how long loads are taken.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How busy each worker was lately.
#[derive(Debug, Default)]
struct Loads {
    taken_at: Option<Timestamp>,
    /// By worker: busy nanoseconds when last looked at, and the share of time since the look before that.
    by_worker: Vec<(u64, f64)>,
}

impl Loads {
    fn look(&mut self, workers: &[Shared], now: Timestamp) {
        let passed = match self.taken_at {
            Some(at) if now.since(at) < LOAD_INTERVAL => return,
            Some(at) => now.since(at).as_secs_f64(),
            None => f64::INFINITY,
        };
        self.taken_at = Some(now);
        self.by_worker.resize(workers.len(), (0, 0.0));
        for (worker, (seen, load)) in workers.iter().zip(&mut self.by_worker) {
            let busy = worker.counters.busy_nanos_total.get();
            let lately = Duration::from_nanos(busy.saturating_sub(*seen));
            *load = (lately.as_secs_f64() / passed).min(1.0);
            *seen = busy;
        }
    }
}

impl Control {
    /// A control side with an empty configuration, and what each worker needs of it.
    pub fn new(config: &ControlConfig, hub: Hub) -> Self {
        let surroundings = Surroundings {
            ports: config.ports.clone().into(),
            default_mtu: config.default_mtu,
            links: Links::new(config.ports.len()),
            stations: Stations::default(),
            defences: Arc::new(Defences::new(config.resolver.seed, config.flows)),
            draining: false,
            ceded: BTreeSet::new(),
        };
        let mut names = Names::new(usize::from(config.workers));
        let (tables, _) = compile(&Config::default(), &surroundings, &mut names);
        let publisher = Arc::new(Publisher::new(Arc::new(tables)));
        let resolver = Resolver::new(config.resolver);
        let neighbors: Arc<Neighbors> = Arc::clone(resolver.neighbors());
        let workers = (0..config.workers.max(1))
            .map(|_| share(&publisher, &neighbors, config.ports.len()))
            .collect();
        Self {
            hub,
            replica: config.replica,
            surroundings,
            batch: config.batch,
            names,
            publisher,
            retired: Vec::new(),
            resolver,
            segments: Segments::new(config.resolver.seed),
            workers,
            config: Arc::new(Config::default()),
            published_at: None,
            effort: Duration::ZERO,
            complaints: BTreeSet::new(),
            taken_up: 0,
            commands_lost: 0,
            sendings_delayed: 0,
            states: Vec::new(),
            port_facts: None,
            worker_facts: None,
            loads: Loads::default(),
            export: None,
            snat_watch: snat_watch::SnatWatch::default(),
            health: health::Health::default(),
            drain: None,
            compile_anew: false,
        }
    }

    /// A control side for one worker, and what that worker needs of it.
    pub fn with_one_worker(config: &ControlConfig, hub: Hub) -> (Self, Shared) {
        let mut control = Self::new(
            &ControlConfig {
                workers: 1,
                ..config.clone()
            },
            hub,
        );
        let shared = share(
            &control.publisher,
            control.resolver.neighbors(),
            config.ports.len(),
        );
        control.workers = vec![shared.clone()];
        (control, shared)
    }

    /// Whether frames of the resolver wait to be sent, or events to be taken.
    pub fn has_work(&self) -> bool {
        self.workers
            .iter()
            .any(|w| !w.events.is_empty() || !w.commands.is_empty())
    }

    /// What each worker shares with the control side, by worker number.
    pub fn workers(&self) -> &[Shared] {
        &self.workers
    }

    /// A port's link went up or down. On the way up, the addresses of its VLANs are announced: a
    /// switch may have forgotten where we are.
    pub fn set_link(&mut self, port: net::PortId, up: bool, now: Timestamp) {
        self.surroundings.links.set(port, up);
        let affected = self.segments.link_changed(port, now);
        self.tell_together(&affected);
        if up && self.drain.is_none() {
            for vlan in self
                .tables()
                .vlans
                .iter()
                .filter(|vlan| vlan.ports.contains(&port))
            {
                self.resolver.announce(vlan.index, now);
            }
        }
    }

    /// Says where to ask for facts of ports.
    pub fn set_port_facts(&mut self, facts: PortFacts) {
        self.port_facts = Some(facts);
    }

    /// Says where to ask for facts of workers.
    pub fn set_worker_facts(&mut self, facts: WorkerFacts) {
        self.worker_facts = Some(facts);
    }

    /// Says what to tell of the export of flows.
    pub fn set_export(&mut self, report: Report) {
        self.export = Some(report);
    }

    /// What a worker writes down its flows in, if they are exported.
    pub fn journal(&self, worker: u16) -> Option<Arc<Journal>> {
        let journals = &self.export.as_ref()?.journals;
        journals.get(usize::from(worker)).map(Arc::clone)
    }

    /// Where new tables are to be had.
    pub fn publisher(&self) -> Arc<Publisher> {
        Arc::clone(&self.publisher)
    }

    /// How far each object has come.
    pub fn states(&self) -> &[ObjectState] {
        &self.states
    }

    /// The configuration that was published last.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// After how many takings-up of changes all that was fed so far has been carried out and told.
    fn told_after(&self) -> u64 {
        self.taken_up + u64::from(self.hub.dirty())
    }

    /// The store of objects and the sessions of feeders.
    pub fn hub(&mut self) -> &mut Hub {
        &mut self.hub
    }

    /// The newest tables.
    pub fn tables(&self) -> Arc<Tables> {
        self.publisher.newest()
    }

    /// Commands that did not fit into a worker's ring.
    pub const fn commands_lost(&self) -> u64 {
        self.commands_lost
    }

    /// Does what is due. Returns lines for feeders, each with the number of its session.
    pub fn poll(&mut self, now: Timestamp) -> Vec<(u64, String)> {
        let lines = self.take_configuration(now);
        self.take_events(now);
        let over = self.segments.expire(now);
        self.tell_together(&over);
        self.send_frames(now);
        self.loads.look(&self.workers, now);
        self.snat_watch.look(&self.publisher.newest(), now);
        let generation = self.publisher.newest().generation;
        self.health.look(&self.workers, generation, now);
        self.retired.retain(|tables| Arc::strong_count(tables) > 1);
        lines
    }

    /// When [`poll`](Self::poll) has something to do even if nothing happens until then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let batch = self
            .hub
            .dirty()
            .then(|| self.published_at.unwrap_or_default() + self.pause());
        let (resolver, segments) = (&self.resolver, &self.segments);
        [batch, resolver.next_deadline(), segments.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The time between two publications: a stream of changes to a large configuration must leave
    /// most of the time to everything else. Nothing is put off where nothing is batched: there, the
    /// same input gives the same output whatever the time it takes.
    fn pause(&self) -> Duration {
        if self.batch.is_zero() {
            Duration::ZERO
        } else {
            self.batch.max(self.effort * PAUSE_PER_EFFORT)
        }
    }

    fn take_configuration(&mut self, now: Timestamp) -> Vec<(u64, String)> {
        let waits = self
            .published_at
            .is_some_and(|at| now.since(at) < self.pause() && now >= at);
        if !(self.hub.dirty() || self.compile_anew) || waits {
            return Vec::new();
        }
        let changes = self.hub.take_changes();
        self.taken_up += 1;
        if !changes.objects && !std::mem::take(&mut self.compile_anew) {
            return self.hub.republish();
        }
        let begun = Instant::now();
        let (config, mut states) = config::resolve(self.hub.store(), self.replica);
        self.forget_unused();
        let (tables, errors) = compile(&config, &self.surroundings, &mut self.names);
        hold_back(&config, &errors, &mut states);
        self.compile_anew = false;
        let serves = tables.vlans.iter().any(|vlan| !vlan.self_ips.is_empty());
        self.health.published(serves, now);
        let tables = Arc::new(tables);
        self.resolver.set_vlans(&tables.vlans, &tables.owned, now);
        self.segments.set_vlans(&tables.vlans, now);
        for vlan in &tables.vlans {
            let together = self.segments.together(vlan.index);
            if let (Some(segments), Some(together)) = (tables.segments(vlan.index), together) {
                segments.set(&together);
            }
        }
        info!(
            generation = tables.generation,
            vlans = tables.vlans.len(),
            routes = config.routes.len(),
            virtual_servers = tables.virtual_servers.len(),
            "configuration published"
        );
        let complaints: BTreeSet<String> = errors.iter().map(ToString::to_string).collect();
        for complaint in complaints.difference(&self.complaints) {
            warn!("{complaint}");
        }
        self.complaints = complaints;
        self.retired.push(self.publisher.publish(tables));
        self.config = Arc::new(config);
        self.published_at = Some(now);
        self.states.clone_from(&states);
        let lines = self.hub.publish(states);
        self.effort = begun.elapsed();
        lines
    }

    /// Identities may only be given to new names when every worker has left the tables that name
    /// the old ones.
    fn forget_unused(&mut self) {
        let newest = self.publisher.newest();
        if self
            .workers
            .iter()
            .all(|w| w.counters.generation.acquire() == newest.generation)
        {
            self.names.forget_unused(&newest);
        }
    }

    fn take_events(&mut self, now: Timestamp) {
        let mut conflicts = Vec::new();
        let mut news = BTreeSet::new();
        for worker in &self.workers {
            for _ in 0..EVENT_BUDGET {
                let Some(event) = worker.events.pop() else {
                    break;
                };
                match event {
                    Event::Probed {
                        vlan,
                        at,
                        from,
                        nonce,
                    } => {
                        if self.segments.heard(vlan, at, from, nonce, now) {
                            news.insert(vlan);
                        }
                    }
                    other => conflicts.extend(self.resolver.on_event(other, now)),
                }
            }
        }
        self.tell_together(&Vec::from_iter(news));
        for conflict in conflicts {
            if self.drain.is_some() {
                self.cede(&conflict);
                continue;
            }
            warn!(
                address = %conflict.addr,
                vlan = self.vlan_name(conflict.vlan),
                other_mac = %conflict.mac,
                times_heard = conflict.count,
                "another station uses an address of ours; it is defended"
            );
        }
    }

    /// Has the workers know which ports of these VLANs are in one segment.
    fn tell_together(&self, vlans: &[VlanIndex]) {
        let tables = self.publisher.newest();
        for index in vlans {
            let (Some(segments), Some(together), Some(vlan)) = (
                tables.segments(*index),
                self.segments.together(*index),
                tables.vlans.get(*index),
            ) else {
                continue;
            };
            let before = segments.list();
            segments.set(&together);
            let after = segments.list();
            if after != before {
                info!(
                    vlan = %vlan.name,
                    segments = %show::segments_of(segments).join(" | "),
                    "ports that are in one segment: neighbours are spread over them"
                );
            }
        }
    }

    /// Hands the resolver's frames to the first worker, which sends them as its own.
    fn send_frames(&mut self, now: Timestamp) {
        let Some(worker) = self.workers.first() else {
            return;
        };
        let tables = self.publisher.newest();
        let ports = self.surroundings.ports.len();
        for _ in 0..FRAME_BUDGET {
            // The resolver counts what it hands out as sent: it keeps what there is no room for.
            if worker.commands.capacity() - worker.commands.len() < ports {
                self.sendings_delayed += 1;
                break;
            }
            let emit = self.resolver.poll(now);
            let Some(emit) = emit.or_else(|| self.segments.poll(now)) else {
                break;
            };
            let Some(vlan) = tables.vlans.get(emit.vlan) else {
                continue;
            };
            for port in tables.flood_ports(emit.vlan, emit.spread) {
                // Each port says its own MAC address.
                let Some(frame) = emit.frame(vlan.mac_of(port)) else {
                    continue;
                };
                let command = Command::Send { port, frame };
                if worker.commands.push(command).is_err() {
                    self.commands_lost += 1;
                }
            }
        }
    }
}

fn share(publisher: &Arc<Publisher>, neighbors: &Arc<Neighbors>, ports: usize) -> Shared {
    Shared {
        publisher: Arc::clone(publisher),
        neighbors: Arc::clone(neighbors),
        events: Arc::new(ArrayQueue::new(EVENT_RING)),
        commands: Arc::new(ArrayQueue::new(COMMAND_RING)),
        counters: Arc::new(WorkerCounters::new(ports)),
    }
}

/// Says in the states of objects what could not be programmed in this process.
fn hold_back(config: &Config, errors: &[CompileError], states: &mut [ObjectState]) {
    for error in errors {
        let (vlan, code) = match error {
            CompileError::NoSuchInterface { vlan, .. } => (vlan, ReasonCode::PortNotFound),
            CompileError::MtuTooLarge { vlan, .. } => (vlan, ReasonCode::CapacityExceeded),
            CompileError::Vlan { vlan, .. } => (vlan, ReasonCode::Conflict),
            CompileError::VlanMissing { object, .. } => {
                hold_object(states, object, ReasonCode::VlanNotFound, error);
                continue;
            }
            CompileError::OnLink { object, .. } => {
                hold_object(states, object, ReasonCode::Conflict, error);
                continue;
            }
        };
        if let Some(vlan) = config.vlan(vlan) {
            hold_object(states, &vlan.object, code, error);
        }
    }
}

fn hold_object(
    states: &mut [ObjectState],
    object: &ObjectKey,
    code: ReasonCode,
    error: &CompileError,
) {
    if let Some(state) = states.iter_mut().find(|state| state.key == *object) {
        state.hold_back(code, error.to_string());
    }
}
