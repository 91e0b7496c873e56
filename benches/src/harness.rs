//! A pipeline, buffers for one burst, and the flows that frames are made for.

use std::hint::black_box;
use std::time::Duration;

use arrayvec::ArrayVec;
use dataplane::pipeline::Pipeline;
use dataplane::port::BURST;
use dataplane::tables::Publisher;
use dataplane::verdict::Verdict;
pub use dataplane::worker::EXPIRE_BUDGET;
use net::{Layers, Packet, PortId, RxMeta, Timestamp};

use crate::clock::{Ticks, thread_cpu_ns};
use crate::frames::{Buffer, Flow, HEADROOM, Kind, Maker};
use crate::site::{self, Layout, Site, Traffic};

/// How much time passes between two bursts, as the pipeline sees it.
const BURST_TIME: Duration = Duration::from_micros(2);

/// Which frames of established flows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// A burst from the clients, then one from the servers, and so on.
    Both,
    /// From the clients alone.
    Requests,
    /// From the servers alone.
    Replies,
}

/// What happens to the frames of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The pipeline decides about them.
    Process,
    /// Nothing: what is left is the cost of making them.
    Blank,
}

/// A pipeline and its flows.
pub struct Bench {
    pipeline: Pipeline,
    layout: Layout,
    buffers: Vec<Buffer>,
    verdicts: ArrayVec<Verdict, BURST>,
    makers: [Maker; 4],
    now: Timestamp,
    next_client: u32,
    /// The same flows in two random orders, so that a request and its reply do not come together.
    requests: Vec<Flow>,
    replies: Vec<Flow>,
    at: usize,
    turn: bool,
    counting: bool,
}

impl Bench {
    /// A pipeline with room for `capacity` flows and none in it, in the network of `layout`.
    ///
    /// Errors: a configuration that is refused, which would be a mistake here.
    pub fn new(layout: Layout, capacity: usize) -> Result<Self, String> {
        Self::at(&Site::new(layout)?, 0, capacity)
    }

    /// A pipeline of one of the workers of `site`, with room for `capacity` flows.
    ///
    /// Errors: no worker of that number.
    pub fn at(site: &Site, worker: u16, capacity: usize) -> Result<Self, String> {
        let pipeline = site.pipeline(worker, capacity)?;
        Ok(Self::around(pipeline, *site.layout(), site.now()))
    }

    /// As [`new`](Self::new), with a pipeline whose control side is elsewhere.
    pub fn around(pipeline: Pipeline, layout: Layout, now: Timestamp) -> Self {
        let maker = |kind| Maker::new(&layout, kind);
        Self {
            pipeline,
            layout,
            buffers: vec![[0; 256]; BURST],
            verdicts: ArrayVec::new(),
            makers: [
                maker(Kind::Opening),
                maker(Kind::Answer),
                maker(Kind::Request),
                maker(Kind::Reply),
            ],
            now,
            next_client: 0,
            requests: Vec::new(),
            replies: Vec::new(),
            at: 0,
            turn: false,
            counting: false,
        }
    }

    /// A pipeline with `flows` established flows and room for `spare` more.
    ///
    /// Errors: a frame that is not forwarded, which would be a mistake here.
    pub fn with_flows(traffic: Traffic, flows: usize, spare: usize) -> Result<Self, String> {
        let mut bench = Self::new(Layout::for_flows(traffic, flows), flows + spare)?;
        bench.establish(flows)?;
        Ok(bench)
    }

    /// Opens flows and completes their handshakes; they join those that frames are made for.
    ///
    /// Errors: a frame that is not forwarded, which would be a mistake here.
    pub fn establish(&mut self, flows: usize) -> Result<(), String> {
        self.requests.reserve_exact(flows);
        self.replies.reserve_exact(flows);
        let mut left = flows;
        while left > 0 {
            let count = left.min(BURST);
            left -= count;
            let opened = self.open_some(count)?;
            self.send_all(Kind::Answer, &opened)?;
            self.send_all(Kind::Request, &opened)?;
            self.requests.extend(&opened);
            self.replies.extend(&opened);
        }
        shuffle(&mut self.requests, 0x1234_5678_9abc_def1);
        shuffle(&mut self.replies, 0x0fed_cba9_8765_4321);
        Ok(())
    }

    /// Opens up to a burst of flows, and finds out how they are translated.
    fn open_some(&mut self, count: usize) -> Result<ArrayVec<Flow, BURST>, String> {
        let v6 = self.layout.traffic.v6;
        let mut flows: ArrayVec<Flow, BURST> = (0..count).map(|_| self.next_flow()).collect();
        let Self {
            pipeline,
            buffers,
            verdicts,
            makers,
            now,
            ..
        } = self;
        let maker = &makers[Kind::Opening as usize];
        let mut packets = make(maker, buffers, &flows);
        verdicts.clear();
        pipeline.process(*now, PortId(0), &mut packets, verdicts);
        for ((flow, packet), verdict) in flows.iter_mut().zip(&packets).zip(verdicts.iter()) {
            if !matches!(verdict, Verdict::Transmit(..)) {
                return Err(format!("opening flow {}: {verdict:?}", flow.client));
            }
            let layers = Layers::parse(packet).map_err(|error| error.to_string())?;
            flow.sport = layers.key.sport().0;
            flow.member = u16::try_from(site::member_number(&layers.key.dst)).unwrap_or(u16::MAX);
            let expected = site::member_addr(v6, u32::from(flow.member));
            if layers.key.dst != expected {
                return Err(format!("a flow went to {}", layers.key.dst));
            }
        }
        self.now = self.now + BURST_TIME;
        Ok(flows)
    }

    /// Sends one frame of each flow.
    ///
    /// Errors: a frame that is not forwarded.
    pub fn send_all(&mut self, kind: Kind, flows: &[Flow]) -> Result<(), String> {
        for some in flows.chunks(BURST) {
            if self.burst(kind, some, Work::Process) != some.len() {
                let why = self.verdicts.iter().find(|verdict| !forwards(verdict));
                return Err(format!("{kind:?}: {why:?}"));
            }
        }
        Ok(())
    }

    /// One burst of up to 32 frames, by the port they belong to. Returns how many were forwarded.
    #[inline]
    fn burst(&mut self, kind: Kind, flows: &[Flow], work: Work) -> usize {
        let port = PortId(u8::from(!kind.from_client() && !self.layout.one_arm));
        let Self {
            pipeline,
            buffers,
            verdicts,
            makers,
            now,
            counting,
            ..
        } = self;
        let mut packets = make(&makers[kind as usize], buffers, flows);
        verdicts.clear();
        *now = *now + BURST_TIME;
        match work {
            Work::Process if *counting => counted(pipeline, *now, port, &mut packets, verdicts),
            Work::Process => pipeline.process(*now, port, &mut packets, verdicts),
            Work::Blank => {
                black_box(&mut packets);
            }
        }
        verdicts.iter().filter(|verdict| forwards(verdict)).count()
    }

    /// A burst of established flows. Returns how many frames were forwarded: 32, or all flows if
    /// there are fewer; with [`Work::Blank`], none.
    #[inline]
    pub fn established(&mut self, mix: Mix, work: Work) -> usize {
        let requests = match mix {
            Mix::Both => self.turn,
            Mix::Requests => true,
            Mix::Replies => false,
        };
        self.turn = !self.turn;
        let order = if requests {
            &self.requests
        } else {
            &self.replies
        };
        if self.at + BURST > order.len() {
            self.at = 0;
        }
        let to = (self.at + BURST).min(order.len());
        let mut flows: ArrayVec<Flow, BURST> = ArrayVec::new();
        flows.extend(order[self.at..to].iter().copied());
        // The other direction takes the same place of its own order.
        if mix != Mix::Both || self.turn {
            self.at = to;
        }
        let kind = if requests { Kind::Request } else { Kind::Reply };
        self.burst(kind, &flows, work)
    }

    /// CPU nanoseconds of that many bursts of established flows.
    ///
    /// Errors: a frame that is not forwarded.
    pub fn time_established(&mut self, mix: Mix, work: Work, bursts: u64) -> Result<u64, String> {
        let full = BURST.min(self.requests.len()) as u64;
        let mut forwarded = 0;
        let start = thread_cpu_ns();
        for _ in 0..bursts {
            forwarded += self.established(mix, work) as u64;
        }
        let spent = thread_cpu_ns() - start;
        expect_all(work, forwarded, bursts * full)?;
        Ok(spent)
    }

    /// CPU nanoseconds of that many bursts that open 32 flows each.
    ///
    /// Errors: a frame that is not forwarded.
    pub fn time_opening(&mut self, work: Work, bursts: u64) -> Result<u64, String> {
        let mut forwarded = 0;
        let start = thread_cpu_ns();
        for _ in 0..bursts {
            forwarded += self.opening(work) as u64;
        }
        let spent = thread_cpu_ns() - start;
        expect_all(work, forwarded, bursts * BURST as u64)?;
        Ok(spent)
    }

    /// A burst that opens 32 flows. Returns how many frames were forwarded.
    #[inline]
    pub fn opening(&mut self, work: Work) -> usize {
        let first = self.next_client;
        let flows: ArrayVec<Flow, BURST> = (0..BURST).map(|_| self.next_flow()).collect();
        if work == Work::Blank {
            // They have not been opened, so the next ones may be the same.
            self.next_client = first;
        }
        self.burst(Kind::Opening, &flows, work)
    }

    /// A turn of a worker at the time `now`, without ports: newer tables are taken, a burst of
    /// established flows is decided about, `opens` of its frames open flows instead if it comes
    /// from the clients, and flows whose time has come end. Returns the ticks it took; making the
    /// frames is outside. `opens` is set to what is left of it.
    ///
    /// Errors: a frame that is not forwarded.
    #[inline]
    pub fn timed_turn(
        &mut self,
        now: Timestamp,
        opens: &mut usize,
        publisher: Option<&Publisher>,
    ) -> Result<u64, String> {
        let from_clients = self.turn;
        self.turn = !self.turn;
        let opening = if from_clients { (*opens).min(BURST) } else { 0 };
        *opens -= opening;
        let mut flows: ArrayVec<Flow, BURST> = (0..opening).map(|_| self.next_flow()).collect();
        let order = if from_clients {
            &self.requests
        } else {
            &self.replies
        };
        if self.at + BURST > order.len() {
            self.at = 0;
        }
        flows.extend(order[self.at..].iter().take(BURST - opening).copied());
        if !from_clients {
            self.at += BURST;
        }
        self.now = now;
        let Self {
            pipeline,
            buffers,
            verdicts,
            makers,
            ..
        } = self;
        let (new, old) = flows.split_at(opening);
        let (front, back) = buffers.split_at_mut(opening);
        let kind = if from_clients {
            Kind::Request
        } else {
            Kind::Reply
        };
        let mut packets = make(&makers[Kind::Opening as usize], front, new);
        packets.extend(make(&makers[kind as usize], back, old));
        verdicts.clear();
        let port = PortId(u8::from(!from_clients && !self.layout.one_arm));
        let start = Ticks::now();
        if let Some(publisher) = publisher {
            pipeline.refresh(publisher);
        }
        pipeline.process(now, port, &mut packets, verdicts);
        pipeline.expire(now, EXPIRE_BUDGET);
        let ticks = Ticks::now().wrapping_sub(start);
        match verdicts.iter().find(|verdict| !forwards(verdict)) {
            Some(verdict) => Err(format!("{kind:?}: {verdict:?}")),
            None => Ok(ticks),
        }
    }

    /// Opens flows that nobody answers, in the time from `from` to `to`; their frames are not made
    /// again.
    ///
    /// Errors: a frame that is not forwarded.
    pub fn open_over(&mut self, flows: u64, from: Timestamp, to: Timestamp) -> Result<(), String> {
        let bursts = flows.div_ceil(BURST as u64);
        let nanos = to.as_nanos() - from.as_nanos();
        for burst in 0..bursts {
            self.now = Timestamp::from_nanos(from.as_nanos() + nanos / bursts * burst);
            if self.opening(Work::Process) != BURST {
                return Err(format!("opening: {:?}", self.verdicts.first()));
            }
            self.pipeline.expire(self.now, EXPIRE_BUDGET);
        }
        Ok(())
    }

    /// A burst of frames that belong to no VLAN. Returns how many were forwarded: none.
    #[inline]
    pub fn stray(&mut self, work: Work) -> usize {
        let Self {
            pipeline,
            buffers,
            verdicts,
            makers,
            now,
            counting,
            ..
        } = self;
        for buffer in buffers.iter_mut() {
            makers[Kind::Request as usize].make(buffer, Flow::default());
            buffer[HEADROOM + 14..HEADROOM + 16].copy_from_slice(&300u16.to_be_bytes());
        }
        let len = makers[Kind::Request as usize].len();
        let mut packets: ArrayVec<Packet<'_>, BURST> = buffers
            .iter_mut()
            .map(|buffer| Packet::new(buffer, HEADROOM, len, RxMeta::default()))
            .collect();
        verdicts.clear();
        match work {
            Work::Process if *counting => {
                counted(pipeline, *now, PortId(0), &mut packets, verdicts);
            }
            Work::Process => pipeline.process(*now, PortId(0), &mut packets, verdicts),
            Work::Blank => {
                black_box(&mut packets);
            }
        }
        verdicts.iter().filter(|verdict| forwards(verdict)).count()
    }

    /// From now on, the pipeline is called through [`counted`] and [`expire_counted`].
    pub const fn start_counting(&mut self) {
        self.counting = true;
    }

    /// Ends up to `budget` flows whose time has come. Returns how many ended.
    #[inline]
    pub fn expire(&mut self, budget: usize) -> usize {
        if self.counting {
            expire_counted(&mut self.pipeline, self.now, budget)
        } else {
            self.pipeline.expire(self.now, budget)
        }
    }

    /// Lets time pass, as seen by the pipeline.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// CPU nanoseconds, and how many flows ended, of `calls` calls that each end up to `budget`.
    pub fn time_expiry(&mut self, budget: usize, calls: usize) -> (u64, u64) {
        let mut ended = 0;
        let start = thread_cpu_ns();
        for _ in 0..calls {
            ended += self.expire(budget) as u64;
        }
        (thread_cpu_ns() - start, ended)
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.pipeline.flows().len()
    }

    /// Whether there is no flow in the table.
    pub fn is_empty(&self) -> bool {
        self.pipeline.flows().is_empty()
    }

    /// The pipeline, to be called in another way.
    pub const fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// The time, as the pipeline sees it.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The flows that frames are made for, in the order of their requests.
    pub fn flows(&self) -> &[Flow] {
        &self.requests
    }

    fn next_flow(&mut self) -> Flow {
        let client = self.next_client;
        self.next_client += 1;
        Flow {
            client,
            ..Flow::default()
        }
    }
}

/// The stretch whose instructions are counted: valgrind is told to collect inside this function.
#[inline(never)]
pub fn counted(
    pipeline: &mut Pipeline,
    now: Timestamp,
    port: PortId,
    packets: &mut [Packet<'_>],
    verdicts: &mut ArrayVec<Verdict, BURST>,
) {
    pipeline.process(now, port, packets, verdicts);
}

/// As [`counted`], of the ends of flows.
#[inline(never)]
pub fn expire_counted(pipeline: &mut Pipeline, now: Timestamp, budget: usize) -> usize {
    pipeline.expire(now, budget)
}

#[inline]
fn make<'b>(
    maker: &Maker,
    buffers: &'b mut [Buffer],
    flows: &[Flow],
) -> ArrayVec<Packet<'b>, BURST> {
    let mut packets = ArrayVec::new();
    for (buffer, flow) in buffers.iter_mut().zip(flows) {
        let len = maker.make(buffer, *flow);
        packets.push(Packet::new(buffer, HEADROOM, len, RxMeta::default()));
    }
    packets
}

const fn forwards(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Transmit(..))
}

fn expect_all(work: Work, forwarded: u64, expected: u64) -> Result<(), String> {
    match work {
        Work::Process if forwarded != expected => {
            Err(format!("{forwarded} of {expected} frames were forwarded"))
        }
        _ => Ok(()),
    }
}

/// Fisher and Yates, with a fixed seed (xorshift64): the same order every time.
fn shuffle(flows: &mut [Flow], seed: u64) {
    let mut random = seed;
    for at in (1..flows.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random % (at as u64 + 1)).unwrap_or(0);
        flows.swap(at, other);
    }
}

#[cfg(test)]
#[path = "harness_tests.rs"]
mod tests;
