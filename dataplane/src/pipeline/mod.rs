//! One packet's way: a plain function from a burst of frames to a verdict for each.
//!
//! It knows no device, clock, socket or thread: frames and `now` come in, verdicts go out. The same
//! code runs on DPDK queues, in memory (tests, fuzzing, benches) and on capture files. It passes
//! over the burst several times so that the latencies of memory overlap: look at all and
//! ask for the memory of their flows, find where those are, then decide one by one.
//!
//! | file | decides |
//! |---|---|
//! | `decide` | which of the following a frame is for, unless it goes the straight way |
//! | `plain` | packets that go the straight way: of an established flow, nothing special about them |
//! | `local` | frames for ourselves: ARP, neighbour discovery, echo, self IPs |
//! | `open` | packets without a flow: virtual server, member, translation, new flow |
//! | `lease` | source addresses and ports of translated flows |
//! | `hairpin` | packets of clients to each other's translated addresses |
//! | `mapped` | flows of mappings that do not depend on the flow |
//! | `forward` | packets of a flow: state, rewrite, next hop |
//! | `fragments` | fragments: they follow the first of their datagram |
//! | `sctp` | what is said to packets of no association |
//! | `mss` | how large segments may be, where a VLAN says so |
//! | `farewell` | resets to both ends of a flow that was silent for too long |
//! | `limits`, `syn_guard` | whether one more flow is one too many, and whether its client is who it says |
//! | `options` | whether IPv4 options are fit to be passed on |
//! | `related` | ICMP errors of others about packets of a flow |
//! | `books` | nothing: what is counted, and how flows are forgotten |
//! | `errors`, `given_up` | whether a sender is told by ICMP why its packet was not passed on, at once or after it waited |

mod books;
mod decide;
mod errors;
mod farewell;
mod forward;
mod fragments;
mod given_up;
mod hairpin;
mod lease;
mod leg;
mod limits;
mod local;
mod mapped;
mod mss;
mod open;
mod options;
mod plain;
mod random;
mod related;
mod sctp;
mod syn_guard;

use std::sync::Arc;

use arrayvec::ArrayVec;
use conntrack::{Direction, EndReason, FlowId, TableConfig};
use crossbeam::queue::ArrayQueue;
use lb::snat::PortStripe;
use net::{MacAddr, Packet, PortId, Timestamp, VlanIndex};
use vlan::Event;
use vlan::Vlan;
use vlan::neighbor::Neighbors;

use books::{account_end, count_in_both, count_service, service_counters};
use decide::{goes, tcp_segment};
use errors::ErrorLimit;
use farewell::Farewells;
use plain::Look;
use random::Random;

pub use farewell::Farewell;
pub use leg::{FlowData, Leg, NextHop};
pub(crate) use mapped::{has_ports as may_be_mapped, is_mapped};

use crate::command::FlowFlush;
use crate::counters::WorkerCounters;
use crate::egress::Own;
use crate::journal::{Kind, Scribe};
use crate::lasting;
use crate::port::BURST;
use crate::steer::{Asked, Steering};
use crate::tables::Tables;
use crate::trains::{self, Trains};
use crate::verdict::{Round, Verdict};

/// What a pipeline needs besides the tables.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// This worker's number, from 0.
    pub worker: u16,
    /// The source ports this worker may translate to.
    pub stripe: PortStripe,
    /// The most flows this worker tracks.
    pub flow_capacity: usize,
    /// Keys the flow table's hash and the choice of ports; random per start, fixed in a replay.
    pub seed: u64,
    /// Whether the flow table may take memory from the kernel's pool of huge pages.
    pub hugetlb: bool,
    /// Whether plain packets of established flows may take the straight way. It leads where the long one
    /// leads; tests that compare the two close it.
    pub straight_way: bool,
    /// The most ICMP errors of its own that this worker sends in a second; 0 is none.
    pub icmp_errors_per_second: u32,
}

/// ICMP errors of its own that a worker sends in a second, at most, unless told otherwise.
pub const ICMP_ERRORS_PER_SECOND: u32 = 1000;

/// One worker's pipeline: the tables it reads and the state it owns.
pub struct Pipeline {
    tables: Arc<Tables>,
    state: State,
    straight_way: bool,
}

type Flows = conntrack::Table<FlowData>;

/// What one worker owns.
struct State {
    worker: usize,
    flows: Flows,
    selector: lb::Selector,
    /// Clients' ports that are the same towards everybody.
    mappings: lb::Mappings<mapped::Kept>,
    stripe: PortStripe,
    neighbors: Arc<Neighbors>,
    counters: Arc<WorkerCounters>,
    events: Arc<ArrayQueue<Event>>,
    random: Random,
    errors: ErrorLimit,
    steering: Arc<Steering>,
    /// The way to each member as it was found last, by its id; begun anew with each configuration.
    legs: Vec<Leg>,
    /// Who has looked for the flows of the burst in hand.
    asked: Asked,
    /// By which ports the worker sends itself.
    own: Own,
    /// Datagrams in fragments.
    trains: Trains,
    /// By which flow the last packet went that took the long way: the later fragments of a datagram follow.
    went: Option<(FlowId, Direction)>,
    /// Whether the burst in hand is of fragments that have waited.
    waited: bool,
    /// How the burst in hand came round, if it did.
    round: Option<Round>,
    idents: fragments::Idents,
    /// Writes down what happens to flows, if somebody wants to know.
    scribe: Option<Box<Scribe>>,
    farewells: Farewells,
    counted: limits::Counted,
    syn_guard: syn_guard::SynGuard,
    /// What the flow table calls the timeouts of the configuration.
    lasting: lasting::Names,
}

/// A frame on its way through the pipeline.
struct Arrival<'t> {
    now: Timestamp,
    port: PortId,
    vlan: &'t Vlan,
    source_mac: MacAddr,
    /// The hash of the packet's tuple, of IP.
    hash: u64,
    /// It came round: we had sent it to an address of our own.
    round: bool,
}

impl Pipeline {
    /// A pipeline with an empty flow table. Events go to `events`, which the control side empties.
    pub fn new(
        config: &PipelineConfig,
        tables: Arc<Tables>,
        neighbors: Arc<Neighbors>,
        counters: Arc<WorkerCounters>,
        events: Arc<ArrayQueue<Event>>,
    ) -> Self {
        let mut selector = lb::Selector::new(config.worker, config.seed);
        selector.refresh(&tables.pools);
        counters.generation.publish(tables.generation);
        let mut legs = Vec::new();
        forget_legs(&mut legs, &tables);
        Self {
            tables,
            state: State {
                worker: usize::from(config.worker),
                flows: conntrack::Table::new(TableConfig {
                    capacity: config.flow_capacity,
                    seed: config.seed,
                    hugetlb: config.hugetlb,
                }),
                selector,
                mappings: lb::Mappings::new(
                    mappings_for(config.flow_capacity),
                    config.seed ^ 0x6a09_e667_f3bc_c909,
                ),
                stripe: config.stripe,
                neighbors,
                counters,
                events,
                random: Random::new(config.seed ^ 0x9e37_79b9_7f4a_7c15),
                errors: ErrorLimit::new(config.icmp_errors_per_second, config.seed),
                steering: Arc::new(Steering::alone()),
                legs,
                asked: Asked::NOBODY,
                own: Own::default(),
                trains: Trains::default(),
                went: None,
                waited: false,
                round: None,
                idents: fragments::Idents::alone(config.seed),
                scribe: None,
                farewells: Farewells::new(),
                counted: limits::Counted::default(),
                syn_guard: syn_guard::SynGuard::default(),
                lasting: lasting::Names::default(),
            },
            straight_way: config.straight_way,
        }
        .prepared()
    }

    /// Takes note of what of the configuration is kept by the worker.
    fn prepared(mut self) -> Self {
        self.state.prepare(&self.tables);
        self
    }

    /// Makes it one of several that share the flows out as `steering` says.
    ///
    /// `own`: by which ports it sends itself.
    pub fn join(&mut self, steering: Arc<Steering>, own: Own) {
        self.state.idents = fragments::Idents::shared(&steering, self.state.worker);
        self.state.steering = steering;
        self.state.own = own;
    }

    /// Has what happens to flows written down from here on.
    pub fn set_scribe(&mut self, scribe: Scribe) {
        self.state.scribe = Some(Box::new(scribe));
    }

    /// Who writes down what happens to flows, if anybody does.
    pub fn scribe(&self) -> Option<&Scribe> {
        self.state.scribe.as_deref()
    }

    /// By which ports its worker sends itself.
    pub fn own(&self) -> &Own {
        &self.state.own
    }

    /// Says which workers have had the bursts that come now without having their flows, whether they
    /// are fragments that have waited, and how they came round, if they did.
    pub fn set_asked(&mut self, asked: Asked, waited: bool, round: Option<Round>) {
        self.state.asked = asked;
        self.state.waited = waited;
        self.state.round = round;
    }

    /// The datagrams in fragments that are under way.
    pub fn trains(&self) -> &Trains {
        &self.state.trains
    }

    /// The next fragment that waits no longer. To be asked after each burst until there is none.
    pub fn leaving(&mut self) -> Option<trains::Leaving> {
        self.state.trains.leaving()
    }

    /// The tables in use.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Takes newer tables, between two bursts.
    pub fn refresh(&mut self, publisher: &crate::tables::Publisher) {
        if publisher.refresh(&mut self.tables) {
            self.state.selector.refresh(&self.tables.pools);
            forget_legs(&mut self.state.legs, &self.tables);
            self.state.prepare(&self.tables);
            self.state
                .counters
                .generation
                .publish(self.tables.generation);
        }
    }

    /// The flow table, for dumps.
    pub fn flows(&self) -> &conntrack::Table<FlowData> {
        &self.state.flows
    }

    /// How many ports of clients are mapped to the same one towards everybody.
    pub fn mappings(&self) -> usize {
        self.state.mappings.len()
    }

    /// Decides about each frame of a burst, rewriting it in place. Appends one verdict for each of
    /// `packets`, which must not be more than fit into `verdicts`.
    pub fn process(
        &mut self,
        now: Timestamp,
        port: PortId,
        packets: &mut [Packet<'_>],
        verdicts: &mut ArrayVec<Verdict, BURST>,
    ) {
        let Self {
            tables,
            state,
            straight_way,
        } = self;
        if let Some(scribe) = &mut state.scribe {
            scribe.set_now(now);
        }
        let mut looks: ArrayVec<Option<Look>, BURST> = ArrayVec::new();
        if *straight_way && state.round.is_none() {
            state.look(packets, &mut looks);
            state.probe(&mut looks);
        } else {
            looks.extend(packets.iter().map(|_| None));
        }
        let mut last = [None, None];
        for (packet, look) in packets.iter_mut().zip(&looks) {
            let straight = look
                .as_ref()
                .and_then(|look| state.straight(tables, now, port, packet, look, &mut last));
            verdicts.push(match straight {
                Some((out, step)) => Verdict::Transmit(out, step),
                None => state.long_way(tables, now, port, packet, look.as_ref()),
            });
        }
    }

    /// Ends some flows of each flush, and takes those off that are over. Returns how many are not.
    pub fn flush(&mut self, flushes: &mut ArrayVec<FlowFlush, 4>) -> usize {
        let Self { tables, state, .. } = self;
        flushes.retain(|flush| {
            let selected = flush.next(&state.flows, tables);
            for id in selected.iter().flatten() {
                state.end_flow(tables, *id, EndReason::Removed);
            }
            selected.is_some()
        });
        state.counters.flows.set(state.flows.len() as u64);
        flushes.len()
    }

    /// Ends flows whose time has come, at most `budget` of them.
    pub fn expire(&mut self, now: Timestamp, budget: usize) -> usize {
        let Self { tables, state, .. } = self;
        let State {
            flows,
            selector,
            mappings,
            counters,
            worker,
            trains,
            scribe,
            farewells,
            counted,
            ..
        } = state;
        if let Some(scribe) = scribe {
            scribe.set_now(now);
            scribe.look(flows, now);
        }
        let ended = flows.expire(now, budget, &mut |flow, reason| {
            if let Some(client) = counted.client_of(tables, &flow) {
                tables.defences.leave(client);
            }
            if let Some(scribe) = scribe {
                scribe.note(&flow, Kind::Ended(reason));
            }
            let member = flow.data().member;
            if mapped::has_mapping(member) {
                mapped::release(mappings, member, &flow.original(), &flow.reply());
                counters.nat_mappings.set(mappings.len() as u64);
            }
            account_end(tables, selector, counters, *worker, flow.data(), reason);
            farewells.note(tables, counters, &flow, reason);
        });
        counters.flows.set(flows.len() as u64);
        ended + trains.expire(now, budget)
    }
}

impl State {
    /// Takes up a configuration: what holds off too many connections, and how long flows may be silent.
    fn prepare(&mut self, tables: &Tables) {
        self.counted.refresh(tables);
        self.syn_guard.refresh(tables);
        let flows = &mut self.flows;
        self.lasting
            .refresh(&tables.timeouts, |timeouts| flows.timeouts_id(timeouts));
    }

    /// Sends an event to the control thread; a full ring loses it, and a later frame repeats it.
    fn tell(&self, event: Event) {
        // Each packet to an unknown neighbour asks for it; the answers share the ring and go first.
        let asks = matches!(event, Event::Needed { .. });
        if asks && self.events.len() > self.events.capacity() / 2 {
            return;
        }
        if self.events.push(event).is_err() {
            self.counters.events_lost_total.add(1);
        }
    }
}

/// How many mappings a worker has room for that tracks `flows` flows. What a mapping takes is a flow at
/// least, so this many are a quarter of all flows having a port of its own.
pub const fn mappings_for(flows: usize) -> usize {
    let quarter = flows / 4;
    if quarter < 64 {
        64
    } else if quarter > 262_144 {
        262_144
    } else {
        quarter
    }
}

/// The memory of a worker's mappings, octets.
pub const fn mappings_octets(flows: usize) -> usize {
    lb::Mappings::<mapped::Kept>::octets(mappings_for(flows))
}

/// Nothing is known of the ways to members; allocates as many as there are.
fn forget_legs(legs: &mut Vec<Leg>, tables: &Tables) {
    legs.clear();
    let unknown = Leg::new(VlanIndex(0), NextHop::Unresolved);
    legs.resize(tables.member_ways.len(), unknown);
}
