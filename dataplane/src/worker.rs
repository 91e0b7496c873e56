//! A worker: takes bursts from its ports, runs the pipeline, sends, and keeps house.

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use net::{PortId, Timestamp};
use vlan::Event;
use vlan::neighbor::Neighbors;

mod fragments;
mod hairpin;
mod housekeeping;
mod sending;

use crate::command::{Command, FlowDump, FlowFlush};
use crate::counters::WorkerCounters;
use crate::egress::Own;
use crate::handoff::{Crew, Handed};
use crate::hold::HoldQueue;
use crate::journal::{Journal, Scribe};
use crate::pipeline::{Pipeline, PipelineConfig};
use crate::port::{BURST, Burst, Frame, Port};
use crate::steer::Asked;
use crate::tables::{Publisher, Tables};
use crate::verdict::{DropReason, Round, Verdict};
use crate::worker::fragments::Waiting;
use crate::worker::hairpin::Turned;

/// Flows ended per turn at most: housekeeping must not hold up the next burst. Under load there are some
/// hundred thousand turns a second.
pub const EXPIRE_BUDGET: usize = 16;
/// Frames taken over from each other worker per turn at most: one who is flooded with them still gets
/// to its own ports.
const TAKE_BUDGET: usize = 2 * BURST;
/// How long a worker may be left alone that waits for somebody: for a neighbour, or the reader of a dump.
const SOON: Duration = Duration::from_millis(1);
/// How long a worker that ends waits for the reader of its journal at most.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a worker shares with the control thread.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The newest tables.
    pub publisher: Arc<Publisher>,
    /// MAC addresses of neighbours.
    pub neighbors: Arc<Neighbors>,
    /// From the worker.
    pub events: Arc<ArrayQueue<Event>>,
    /// To the worker.
    pub commands: Arc<ArrayQueue<Command>>,
    /// What the worker counts.
    pub counters: Arc<WorkerCounters>,
}

/// One worker on its queue of every port.
pub struct Worker<P: Port> {
    ports: Vec<P>,
    tx: Vec<Burst<P::Frame>>,
    waiting: HoldQueue<P::Frame>,
    /// Fragments that wait for the first of their datagram.
    fragments: Waiting<P::Frame>,
    /// Frames of the burst in hand that come round.
    turned: Turned<P::Frame>,
    pipeline: Pipeline,
    shared: Shared,
    dumps: ArrayVec<FlowDump, 4>,
    flushes: ArrayVec<FlowFlush, 4>,
    /// `None` for a worker that is alone.
    crew: Option<Crew<P::Frame>>,
}

/// Where frames come from that go through the pipeline together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin {
    port: PortId,
    asked: Asked,
    /// They are fragments that have waited here.
    waited: bool,
    /// How they came round, if they did.
    round: Option<Round>,
}

impl<P: Port> Worker<P> {
    /// A worker on `ports`, in attachment order.
    pub fn new(config: &PipelineConfig, ports: Vec<P>, shared: Shared) -> Self {
        let pipeline = Pipeline::new(
            config,
            shared.publisher.newest(),
            Arc::clone(&shared.neighbors),
            Arc::clone(&shared.counters),
            Arc::clone(&shared.events),
        );
        Self {
            tx: ports.iter().map(|_| Burst::new()).collect(),
            ports,
            waiting: HoldQueue::new(),
            fragments: Waiting::new(),
            turned: Turned::new(),
            pipeline,
            shared,
            dumps: ArrayVec::new(),
            flushes: ArrayVec::new(),
            crew: None,
        }
    }

    /// Makes it one of several workers, with which it shares the flows.
    #[must_use]
    pub fn with_crew(mut self, crew: Crew<P::Frame>) -> Self {
        let ports = (0..self.ports.len()).map(|port| PortId(u8::try_from(port).unwrap_or(u8::MAX)));
        let own = Own::new(ports.map(|port| crew.sender(port) == crew.me()));
        self.pipeline.join(Arc::clone(crew.steering()), own);
        self.crew = Some(crew);
        self
    }

    /// Has what happens to its flows written down.
    pub fn keep_journal(&mut self, journal: Arc<Journal>) {
        self.pipeline.set_scribe(Scribe::new(journal));
    }

    /// It ends, and its flows with it: that is written down, if anything is.
    pub fn close_journal(&self) {
        if let Some(scribe) = self.pipeline.scribe() {
            scribe.close(self.pipeline.flows(), FAREWELL);
        }
    }

    /// One turn: a burst from each port, and some housekeeping. Returns how many frames were
    /// received or sent on behalf of others; 0 means idle. `seen` is shown each frame with its
    /// verdict, after the rewrite.
    pub fn turn_with(
        &mut self,
        now: Timestamp,
        mut seen: impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) -> usize {
        self.pipeline.refresh(&self.shared.publisher);
        // First: what waited goes before what comes in now.
        let mut busy = if self.waiting.is_empty() {
            0
        } else {
            self.release(now)
        };
        if self.crew.is_some() {
            busy += self.take_over(now, &mut seen);
        }
        for index in 0..self.ports.len() {
            busy += self.burst(now, index, &mut seen);
        }
        busy += self.keep_house(now);
        for index in 0..self.ports.len() {
            self.flush(index);
        }
        self.shared.counters.turns_total.add(1);
        if busy == 0 {
            self.shared.counters.idle_turns_total.add(1);
        }
        busy
    }

    /// [`turn_with`](Self::turn_with) nobody watching.
    #[inline]
    pub fn turn(&mut self, now: Timestamp) -> usize {
        self.turn_with(now, |_, _, _| {})
    }

    /// The pipeline, for dumps and tests.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Whether frames wait for neighbours.
    pub fn holds_frames(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is something to take that others have put there: commands, or frames handed over.
    pub fn has_input(&self) -> bool {
        !self.shared.commands.is_empty() || self.crew.as_ref().is_some_and(Crew::has_input)
    }

    /// How long it may be left alone from `now` on if nothing comes in: zero if a turn has something
    /// to do at once.
    pub fn patience(&self, now: Timestamp) -> Duration {
        if self.has_input() {
            return Duration::ZERO;
        }
        if !(self.waiting.is_empty() && self.dumps.is_empty()) {
            return SOON;
        }
        let flows = self.pipeline.flows();
        let look = self.pipeline.scribe().and_then(|s| s.next_look(flows));
        let trains = self.pipeline.trains().next_expiry();
        let next = flows
            .next_expiry(now)
            .into_iter()
            .chain(trains)
            .chain(look)
            .min();
        next.map_or(Duration::MAX, |at| {
            Duration::from_nanos(at.as_nanos().saturating_sub(now.as_nanos()))
        })
    }

    /// What it shares with the control thread.
    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Its queues, by port.
    pub fn ports_mut(&mut self) -> &mut [P] {
        &mut self.ports
    }

    /// The ports, to be stopped: the worker is over, and the frames it held are given back.
    pub fn into_ports(mut self) -> Vec<P> {
        self.waiting.clear();
        self.fragments.clear();
        self.turned.clear();
        self.tx.clear();
        self.ports
    }

    fn burst(
        &mut self,
        now: Timestamp,
        index: usize,
        seen: &mut impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) -> usize {
        let mut frames: Burst<P::Frame> = Burst::new();
        if let Some(port) = self.ports.get_mut(index) {
            port.rx_burst(&mut frames);
        }
        if frames.is_empty() {
            return 0;
        }
        let origin = Origin {
            port: PortId(u8::try_from(index).unwrap_or(u8::MAX)),
            asked: Asked::NOBODY,
            waited: false,
            round: None,
        };
        let received = frames.len();
        let bytes = self.process(now, origin, frames, seen);
        if let Some(counters) = self.shared.counters.ports.get(index) {
            counters.rx.packets.add(received as u64);
            counters.rx.bytes.add(bytes as u64);
        }
        received
    }

    /// Takes the frames that other workers have handed over, in bursts of one origin.
    fn take_over(
        &mut self,
        now: Timestamp,
        seen: &mut impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) -> usize {
        let crew = self.crew.as_ref();
        let Some((me, workers)) = crew.map(|crew| (crew.me(), crew.steering().workers())) else {
            return 0;
        };
        let mut taken = 0;
        for from in (0..workers).filter(|from| *from != me) {
            let mut burst: Burst<P::Frame> = Burst::new();
            let mut burst_origin = None;
            for _ in 0..TAKE_BUDGET {
                let Some(handed) = self.crew.as_ref().and_then(|crew| crew.take(from)) else {
                    break;
                };
                taken += 1;
                let (frame, origin) = match handed {
                    Handed::Arrived {
                        frame,
                        port,
                        asked,
                        round,
                    } => {
                        let origin = Origin {
                            port,
                            asked,
                            waited: false,
                            round,
                        };
                        (frame, origin)
                    }
                    Handed::Leaving { frame, port } => {
                        self.enqueue(port, frame);
                        continue;
                    }
                };
                if let Some(earlier) = burst_origin
                    && (earlier != origin || burst.is_full())
                {
                    let full = std::mem::replace(&mut burst, Burst::new());
                    self.process(now, earlier, full, seen);
                }
                burst_origin = Some(origin);
                burst.push(frame);
            }
            if let Some(origin) = burst_origin {
                self.process(now, origin, burst, seen);
            }
        }
        self.shared.counters.handoffs_in_packets.add(taken as u64);
        taken
    }

    /// Has the pipeline decide about frames of one origin, and does what it says. Returns how many
    /// octets they had as they came.
    fn process(
        &mut self,
        now: Timestamp,
        origin: Origin,
        frames: Burst<P::Frame>,
        seen: &mut impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) -> usize {
        let bytes = self.pass(now, origin, frames, seen);
        if !self.turned.is_empty() {
            self.turn_round(now, seen);
        }
        // What waited goes on before anything else comes.
        if !origin.waited {
            self.take_up(now);
        }
        bytes
    }

    /// One pass through the pipeline.
    #[inline]
    fn pass(
        &mut self,
        now: Timestamp,
        origin: Origin,
        mut frames: Burst<P::Frame>,
        seen: &mut impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) -> usize {
        let mut verdicts: ArrayVec<Verdict, BURST> = ArrayVec::new();
        let mut shapes: ArrayVec<net::Shape, BURST> = ArrayVec::new();
        let bytes;
        {
            let mut packets: ArrayVec<net::Packet<'_>, BURST> =
                frames.iter_mut().map(Frame::packet).collect();
            bytes = packets.iter().map(net::Packet::len).sum();
            self.pipeline
                .set_asked(origin.asked, origin.waited, origin.round);
            self.pipeline
                .process(now, origin.port, &mut packets, &mut verdicts);
            shapes.extend(packets.iter().map(net::Packet::shape));
        }
        for ((mut frame, verdict), shape) in frames.into_iter().zip(&verdicts).zip(&shapes) {
            // What is handed over goes on as it came, with all that the device said about it.
            if !matches!(
                verdict,
                Verdict::Handoff(_) | Verdict::Gather(_) | Verdict::Wait(_)
            ) {
                frame.set_shape(*shape);
            }
            seen(origin.port, &mut frame, verdict);
            self.carry_out(now, origin, frame, verdict);
        }
        bytes
    }

    #[inline]
    fn carry_out(&mut self, now: Timestamp, origin: Origin, frame: P::Frame, verdict: &Verdict) {
        let counters = &self.shared.counters;
        match *verdict {
            Verdict::Transmit(port, step) => {
                counters.forwarded[step.index()].add(1);
                self.push(port, frame);
            }
            Verdict::Reply(port, answer) => {
                counters.answers[answer.index()].add(1);
                self.push(port, frame);
            }
            Verdict::Hold(held, step) => {
                if self.waiting.push(frame, held, Some(step), now) {
                    counters.held_packets.add(1);
                } else {
                    counters.count_drop(DropReason::HoldFull);
                }
            }
            Verdict::Handoff(to) => {
                let asked = self.crew.as_ref().map(|crew| origin.asked.and(crew.me()));
                let handed = Handed::Arrived {
                    frame,
                    port: origin.port,
                    asked: asked.unwrap_or_default(),
                    round: origin.round,
                };
                self.hand_over(to, handed, DropReason::HandoffFull);
            }
            Verdict::Cut(port, step, cut) => self.push_cut(port, frame, cut, Some(step)),
            Verdict::Gather(to) => {
                let handed = Handed::Arrived {
                    frame,
                    port: origin.port,
                    asked: origin.asked,
                    round: origin.round,
                };
                self.hand_over(to, handed, DropReason::HandoffFull);
            }
            Verdict::Hairpin(vlan, _) => self.send_round(origin, vlan, frame),
            Verdict::Wait(place) => self.put_aside(place, frame, origin),
            Verdict::Consumed => counters.consumed_packets.add(1),
            Verdict::Drop(reason) => counters.count_drop(reason),
        }
    }

    /// The tables this worker uses.
    pub fn tables(&self) -> &Arc<Tables> {
        self.pipeline.tables()
    }
}
