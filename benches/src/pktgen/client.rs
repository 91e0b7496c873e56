//! The clients' side: decides which frame is sent next, and judges what comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use net::Timestamp;
use net::header::tcp_flags::{ACK, FIN, PSH, SYN};

use super::check::{Envelope, Samples};
use super::counters::Counters;
use super::flows::{Flows, Proto};
use super::frame::{Ethernet, Segment, Template};
use super::latency::Latency;
use super::link::{BURST, Buffer, Burst, Link};
use super::mix::Mix;
use super::pace::Pacer;
use super::sequence::{FlowState, Phase};
use super::stamp::{from_ticks, ticks};
use super::units::FCS;

mod receive;

/// What becomes of frames that a device sends back by the port they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Nothing: a loop.
    None,
    /// Ethernet addresses change places.
    Mac,
    /// So do IP addresses and ports.
    FiveTuple,
}

/// In which order flows send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Sequential,
    /// At random, each equally often in the long run.
    Random,
}

/// How the client side is set up.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Our station, the gateway's, and the tag.
    pub ethernet: Ethernet,
    /// What all frames that come back must have in common.
    pub envelope: Envelope,
    /// Protocol of the flows.
    pub proto: Proto,
    /// What comes back is what was sent, changed so; `None`: it is a server's reply.
    pub swap: Option<Swap>,
    /// Whether TCP connections are opened before data is sent.
    pub handshake: bool,
    /// Order of the flows.
    pub order: Order,
    /// Seed of what is random.
    pub seed: u64,
    /// Where TCP sequence numbers begin.
    pub first_sequence: u32,
}

/// What the clients do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Answer only.
    Idle,
    /// Open what is not open yet, each flow once.
    Open,
    /// Send data on open flows.
    Data,
    /// Open connections, send one request on each and close them.
    Connect,
    /// Close what is open, each flow once.
    Close,
}

/// What is to be sent in answer to something.
#[derive(Debug, Clone, Copy)]
enum Due {
    Ack,
    Request,
    Fin,
}

/// Answers that may wait before nothing more is received.
const OUTBOX: usize = 1024;
/// How long a connection may take before its flow is used for another one, in nanoseconds.
const GIVE_UP: u64 = 1_000_000_000;

/// The clients' side.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    flows: Arc<Flows>,
    /// By family (IPv4 first), then by position in the mix.
    templates: [Vec<Template>; 2],
    control: [Template; 2],
    states: Vec<FlowState>,
    job: Job,
    /// The last job was [`Job::Connect`]: what it began is brought to its end.
    connecting: bool,
    pacer: Pacer,
    cursor: u32,
    position: usize,
    random: u64,
    outbox: VecDeque<(u32, Due)>,
    counters: Counters,
    latency: Latency,
    samples: Samples,
    trial_start: Timestamp,
}

impl Client {
    /// Clients of these flows.
    pub fn new(config: ClientConfig, flows: Arc<Flows>, mix: &Mix) -> Self {
        let mut states = vec![FlowState::default(); flows.count() as usize];
        for (flow, state) in (0u32..).zip(&mut states) {
            // Each flow's sequence numbers begin somewhere else.
            let offset = flow.wrapping_mul(0x9e37_79b9);
            state.next = config.first_sequence.wrapping_add(offset);
        }
        let random = config.seed | 1;
        let mut client = Self {
            templates: [Vec::new(), Vec::new()],
            control: [true, false].map(|v4| Template::control(&config.ethernet, v4)),
            config,
            flows,
            states,
            job: Job::Idle,
            connecting: false,
            pacer: Pacer::new(Some(1.0), Timestamp::from_nanos(0)),
            cursor: 0,
            position: 0,
            random,
            outbox: VecDeque::with_capacity(OUTBOX + 2 * BURST),
            counters: Counters::default(),
            latency: Latency::default(),
            samples: Samples::default(),
            trial_start: Timestamp::from_nanos(0),
        };
        client.set_mix(mix);
        client
    }

    /// Sends frames of other sizes from now on.
    pub fn set_mix(&mut self, mix: &Mix) {
        let (ethernet, proto) = (self.config.ethernet, self.config.proto);
        self.templates = [true, false].map(|v4| {
            mix.pattern()
                .iter()
                .map(|size| Template::data(&ethernet, proto, v4, *size))
                .collect()
        });
        self.position = 0;
    }

    /// Learns the gateway's station.
    pub fn set_gateway(&mut self, gateway: net::MacAddr, mix: &Mix) {
        self.config.ethernet.peer = gateway;
        match self.config.swap {
            Some(Swap::None) => self.config.envelope.own = gateway,
            _ => self.config.envelope.peer = Some(gateway),
        }
        let ethernet = self.config.ethernet;
        self.control = [true, false].map(|v4| Template::control(&ethernet, v4));
        self.set_mix(mix);
    }

    /// Octets of payload that requests may have.
    pub fn payloads(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self
            .templates
            .iter()
            .flatten()
            .map(Template::payload_len)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The mean size of the frames that are really sent, octets with the check sequence.
    pub fn mean_size(&self) -> f64 {
        let (mut sum, mut count) = (0, 0);
        for family in &self.templates {
            if let Some(first) = family.first()
                && self.flows.has_family(first.is_v4())
            {
                sum += family.iter().map(|t| t.frame_len() as u64).sum::<u64>();
                count += family.len() as u64;
            }
        }
        super::units::float(sum) / super::units::float(count.max(1)) + f64::from(FCS)
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted, to add to.
    pub(super) const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Round trips, or times to open a connection while [`Job::Connect`].
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// The first faulty frames.
    pub const fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Frames that were due and will not be made up for.
    pub const fn forgiven(&self) -> u64 {
        self.pacer.forgiven()
    }

    /// What is being done.
    pub const fn job(&self) -> Job {
        self.job
    }

    /// Begins a job at `rate` frames (or connections) per second; `None` is as fast as possible.
    pub fn begin(&mut self, job: Job, rate: Option<f64>, now: Timestamp) {
        self.job = job;
        if job != Job::Idle {
            self.connecting = job == Job::Connect;
        }
        self.pacer = Pacer::new(rate, now);
        if matches!(job, Job::Open | Job::Close) {
            self.cursor = 0;
        }
    }

    /// From now on, only frames stamped at or after `start` belong to the trial.
    pub fn begin_trial(&mut self, start: Timestamp) {
        // The shorter stamps are as exact as this.
        self.trial_start = Timestamp::from_nanos(start.as_nanos() & !15);
        self.latency.reset();
    }

    /// Whether [`Job::Open`] or [`Job::Close`] has been through all flows.
    pub fn round_done(&self) -> bool {
        self.cursor >= self.flows.count() && self.outbox.is_empty()
    }

    /// Whether everything that is owed in answer has been sent.
    pub fn owes_nothing(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Flows that are open.
    pub fn open_flows(&self) -> u32 {
        let open = self.states.iter().filter(|s| s.phase == Phase::Open);
        u32::try_from(open.count()).unwrap_or(u32::MAX)
    }

    /// Flows that there are.
    pub fn flow_count(&self) -> u32 {
        self.flows.count()
    }

    /// Takes the connections that are on their way for failed.
    pub(super) fn give_up(&mut self, unfinished: u64) {
        self.counters.failed += unfinished;
        self.declare(false);
    }

    /// Connections on their way.
    pub fn unfinished(&self) -> u64 {
        let busy = |s: &&FlowState| !matches!(s.phase, Phase::Closed | Phase::Open);
        self.states.iter().filter(busy).count() as u64
    }

    /// Takes every flow for open or not, without saying so to anybody.
    pub fn declare(&mut self, open: bool) {
        let phase = if open { Phase::Open } else { Phase::Closed };
        for state in &mut self.states {
            state.phase = phase;
        }
    }

    /// Whether there is room for the answers to another burst.
    pub fn may_receive(&self) -> bool {
        self.outbox.len() < OUTBOX
    }

    /// Appends the frames that are due at `now`.
    pub fn produce<L: Link>(&mut self, now: Timestamp, link: &mut L, out: &mut Burst<L::Frame>) {
        if !self.outbox.is_empty() {
            let wanted = self.outbox.len().min(out.remaining_capacity());
            let first = out.len();
            link.allocate(out, wanted);
            for frame in &mut out[first..] {
                if let Some((flow, due)) = self.outbox.pop_front() {
                    self.answer(flow, due, now, frame);
                }
            }
        }
        let room = out.remaining_capacity();
        if self.job == Job::Idle || room == 0 {
            return;
        }
        let due = self.pacer.due(now, room);
        if due == 0 {
            return;
        }
        // First all flows are chosen, so that the loads of their states overlap.
        let mut chosen = Burst::<u32>::new();
        while chosen.len() < due {
            match self.choose(now) {
                Some(flow) => chosen.push(flow),
                None => break,
            }
        }
        let first = out.len();
        link.allocate(out, chosen.len());
        let made = out.len() - first;
        self.counters.no_buffer += (chosen.len() - made) as u64;
        for (flow, frame) in chosen.iter().zip(&mut out[first..]) {
            self.send(*flow, now, frame);
        }
        self.pacer.give_back(due - made);
    }

    /// The next flow that has something to send.
    #[inline]
    fn choose(&mut self, now: Timestamp) -> Option<u32> {
        let count = self.flows.count();
        match self.job {
            Job::Idle => None,
            Job::Open => self.next_in(|phase| phase != Phase::Open),
            Job::Close => self.next_in(|phase| matches!(phase, Phase::Open | Phase::Closing)),
            Job::Data => {
                // Where flows could not be opened, others take their turn.
                for _ in 0..64 {
                    let flow = match self.config.order {
                        Order::Sequential => self.advance(count),
                        Order::Random => self.draw(count),
                    };
                    if self.states[flow as usize].phase == Phase::Open {
                        return Some(flow);
                    }
                }
                None
            }
            Job::Connect => {
                let flow = self.advance(count);
                let state = &mut self.states[flow as usize];
                if state.phase != Phase::Closed {
                    let since = from_ticks(state.since, now).as_nanos();
                    if now.as_nanos() - since < GIVE_UP {
                        self.counters.starved += 1;
                        return None;
                    }
                    self.counters.failed += 1;
                    state.phase = Phase::Closed;
                }
                // Chosen again within the burst, it would be taken for new.
                state.since = ticks(now);
                state.phase = Phase::Opening;
                self.counters.started += 1;
                Some(flow)
            }
        }
    }

    fn next_in(&mut self, wanted: impl Fn(Phase) -> bool) -> Option<u32> {
        while let Some(state) = self.states.get(self.cursor as usize) {
            let flow = self.cursor;
            self.cursor += 1;
            if wanted(state.phase) {
                return Some(flow);
            }
        }
        None
    }

    #[inline]
    const fn advance(&mut self, count: u32) -> u32 {
        let flow = if self.cursor >= count { 0 } else { self.cursor };
        self.cursor = flow + 1;
        flow
    }

    #[inline]
    fn draw(&mut self, count: u32) -> u32 {
        // xorshift64 (Marsaglia), scaled to the range by its upper half.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let scaled = (self.random >> 32) * u64::from(count);
        u32::try_from(scaled >> 32).unwrap_or(0)
    }

    /// Writes the frame that the job has for a flow.
    #[inline]
    fn send<B: Buffer>(&mut self, flow: u32, now: Timestamp, frame: &mut B) {
        let with_handshake = self.config.proto == Proto::Tcp && self.config.handshake;
        match self.job {
            Job::Open | Job::Connect if with_handshake => {
                let state = &mut self.states[flow as usize];
                if state.phase != Phase::Opening || self.job == Job::Connect {
                    // A new connection begins behind all numbers of the one before; a
                    // repeated SYN is the same again.
                    state.open(now);
                }
                let segment = Segment {
                    seq: state.next.wrapping_sub(1),
                    ack: 0,
                    flags: SYN,
                };
                self.bare(flow, segment, frame);
            }
            Job::Close if with_handshake => {
                let state = &mut self.states[flow as usize];
                if state.phase == Phase::Open {
                    state.phase = Phase::Closing;
                    state.next = state.next.wrapping_add(1);
                }
                let segment = Segment {
                    seq: state.next.wrapping_sub(1),
                    ack: state.acked,
                    flags: FIN | ACK,
                };
                self.bare(flow, segment, frame);
            }
            Job::Open => {
                let state = &mut self.states[flow as usize];
                state.phase = Phase::Opening;
                state.since = ticks(now);
                self.request(flow, now, frame);
            }
            Job::Idle | Job::Data | Job::Connect | Job::Close => self.request(flow, now, frame),
        }
    }

    /// Writes a frame that is owed in answer.
    fn answer<B: Buffer>(&mut self, flow: u32, due: Due, now: Timestamp, frame: &mut B) {
        let state = &mut self.states[flow as usize];
        let mut segment = Segment {
            seq: state.next,
            ack: state.acked,
            flags: ACK,
        };
        match due {
            Due::Request => return self.request(flow, now, frame),
            Due::Ack => {}
            Due::Fin => {
                segment.flags = FIN | ACK;
                state.next = state.next.wrapping_add(1);
            }
        }
        self.bare(flow, segment, frame);
    }

    /// A TCP segment without data.
    fn bare<B: Buffer>(&mut self, flow: u32, segment: Segment, frame: &mut B) {
        let tuple = self.flows.tuple(flow);
        let template = &self.control[usize::from(!tuple.v4)];
        if frame.set_len(template.frame_len()) {
            let at = Timestamp::from_nanos(0);
            template.fill(frame.octets_mut(), &tuple, flow, 0, at, segment);
        }
        self.counters.control_sent += 1;
    }

    /// A stamped frame.
    #[inline]
    fn request<B: Buffer>(&mut self, flow: u32, now: Timestamp, frame: &mut B) {
        let tuple = self.flows.tuple(flow);
        let templates = &self.templates[usize::from(!tuple.v4)];
        let Some(template) = templates.get(self.position) else {
            return;
        };
        self.position += 1;
        if self.position >= templates.len() {
            self.position = 0;
        }
        let state = &mut self.states[flow as usize];
        let segment = Segment {
            seq: state.next,
            ack: state.acked,
            flags: PSH | ACK,
        };
        if frame.set_len(template.frame_len()) {
            let octets = frame.octets_mut();
            template.fill(octets, &tuple, flow, state.sent, now, segment);
        }
        state.sent = state.sent.wrapping_add(1);
        let len = u32::try_from(template.payload_len()).unwrap_or(0);
        state.next = state.next.wrapping_add(len);
        self.counters.sent += 1;
        self.counters.sent_octets += template.frame_len() as u64 + u64::from(FCS);
    }
}
