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

use crate::command::{Command, DumpStep, FlowDump, FlowFlush};
use crate::counters::WorkerCounters;
use crate::egress::Own;
use crate::handoff::{Crew, Handed};
use crate::hold::{HoldQueue, Released};
use crate::journal::{Journal, Scribe};
use crate::pipeline::{Pipeline, PipelineConfig};
use crate::port::{BURST, Burst, Frame, Port};
use crate::steer::Asked;
use crate::tables::{Publisher, Tables};
use crate::verdict::{Answer, DropReason, Round, Verdict, Whose};
use crate::worker::fragments::Waiting;
use crate::worker::hairpin::Turned;

/// Flows ended per turn at most: housekeeping must not hold up the next burst. Under load there are some
/// hundred thousand turns a second.
pub const EXPIRE_BUDGET: usize = 16;
/// Resets sent per turn at most: to both ends of the flows that end in one.
const FAREWELL_BUDGET: usize = 2 * EXPIRE_BUDGET;
/// Commands taken per turn at most.
const COMMAND_BUDGET: usize = 32;
/// Flows told per turn and dump.
const DUMP_BUDGET: usize = 256;
/// Frames taken over from each other worker per turn at most: one who is flooded with them still gets
/// to its own ports.
const TAKE_BUDGET: usize = 2 * BURST;
/// How long a worker may be left alone that waits for somebody: for a neighbour, or the reader of a dump.
const SOON: Duration = Duration::from_millis(1);
/// How often a full transmit queue is tried again before its frames are dropped.
const TX_TRIES: usize = 3;
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

    /// Sends a frame by a port: itself, or through the worker that can.
    fn push(&mut self, port: PortId, frame: P::Frame) {
        if let Some(crew) = &self.crew {
            let sender = crew.sender(port);
            if sender != crew.me() {
                // As a transmit queue, for that is what the ring is here.
                self.hand_over(sender, Handed::Leaving { frame, port }, DropReason::TxFull);
                return;
            }
        }
        self.enqueue(port, frame);
    }

    fn hand_over(&self, to: u16, handed: Handed<P::Frame>, full: DropReason) {
        let counters = &self.shared.counters;
        let crew = self.crew.as_ref();
        if crew.is_some_and(|crew| crew.hand_over(to, handed).is_ok()) {
            counters.handoffs_out_packets.add(1);
        } else {
            counters.count_drop(full);
        }
    }

    fn enqueue(&mut self, port: PortId, frame: P::Frame) {
        let index = usize::from(port.0);
        if self.tx.get(index).is_some_and(ArrayVec::is_full) {
            self.flush(index);
        }
        match self.tx.get_mut(index) {
            Some(tx) => {
                if tx.try_push(frame).is_err() {
                    self.shared.counters.count_drop(DropReason::TxFull);
                }
            }
            None => self.shared.counters.count_drop(DropReason::PortDown),
        }
    }

    /// Sends what is queued for a port; what the port does not take after some tries is dropped.
    fn flush(&mut self, index: usize) {
        let (Some(port), Some(tx)) = (self.ports.get_mut(index), self.tx.get_mut(index)) else {
            return;
        };
        if tx.is_empty() {
            return;
        }
        let bytes = |tx: &mut Burst<P::Frame>| -> usize {
            tx.iter_mut().map(|frame| frame.packet().len()).sum()
        };
        let mut waiting = bytes(tx);
        for _ in 0..TX_TRIES {
            let before = tx.len();
            port.tx_burst(tx);
            let rest = if tx.is_empty() { 0 } else { bytes(tx) };
            if let Some(counters) = self.shared.counters.ports.get(index) {
                counters.tx.packets.add((before - tx.len()) as u64);
                counters.tx.bytes.add((waiting - rest) as u64);
            }
            if tx.is_empty() {
                return;
            }
            waiting = rest;
        }
        let reason = if port.is_parked() {
            DropReason::PortDown
        } else {
            DropReason::TxFull
        };
        for _ in tx.drain(..) {
            self.shared.counters.count_drop(reason);
        }
    }

    fn keep_house(&mut self, now: Timestamp) -> usize {
        // Whoever has more to end must not sleep over it.
        let ended = self.pipeline.expire(now, EXPIRE_BUDGET);
        let mut busy = if ended < EXPIRE_BUDGET { 0 } else { ended };
        self.take_up(now);
        if self.pipeline.has_farewells() {
            busy += self.say_farewell(now);
        }
        if !self.shared.commands.is_empty() {
            busy += self.obey();
        }
        if !self.dumps.is_empty() {
            busy += self.dump(now);
        }
        if !self.flushes.is_empty() {
            busy += self.pipeline.flush(&mut self.flushes);
        }
        busy
    }

    /// Sends resets for connections that were silent for too long.
    fn say_farewell(&mut self, now: Timestamp) -> usize {
        let counters = Arc::clone(&self.shared.counters);
        let mut said = 0;
        while said < FAREWELL_BUDGET
            && let Some(farewell) = self.pipeline.next_farewell()
        {
            said += 1;
            let port = self.ports.first_mut();
            let Some(mut frame) = port.and_then(|port| port.frame(&farewell.octets())) else {
                counters.count_drop(DropReason::NoBuffer);
                continue;
            };
            let mut packet = frame.packet();
            let verdict = self.pipeline.send_farewell(&farewell, &mut packet);
            let shape = packet.shape();
            frame.set_shape(shape);
            match verdict {
                Verdict::Transmit(port, _) => self.push(port, frame),
                Verdict::Hairpin(vlan, _) => {
                    self.send_round(Origin::OURSELVES, vlan, frame);
                    self.turn_round(now, &mut |_, _, _| {});
                }
                Verdict::Hold(held, _) if self.waiting.push(frame, held, None, now) => {
                    counters.held_packets.add(1);
                }
                Verdict::Drop(reason) => {
                    counters.count_drop(reason);
                    continue;
                }
                _ => {
                    counters.count_drop(DropReason::HoldFull);
                    continue;
                }
            }
            counters.answers[Answer::ResetTimeout.index()].add(1);
        }
        said
    }

    fn obey(&mut self) -> usize {
        let mut done = 0;
        while done < COMMAND_BUDGET
            && let Some(command) = self.shared.commands.pop()
        {
            done += 1;
            match command {
                Command::Send { port, frame } => {
                    let made = self
                        .ports
                        .get_mut(usize::from(port.0))
                        .and_then(|port| port.frame(&frame));
                    match made {
                        Some(frame) => {
                            self.shared.counters.originated_packets.add(1);
                            self.push(port, frame);
                        }
                        None => self.shared.counters.count_drop(DropReason::NoBuffer),
                    }
                }
                Command::Dump(dump) => {
                    if let Err(full) = self.dumps.try_push(dump) {
                        full.element().refuse();
                    }
                }
                // One that there is no room for is dropped, and with it its asker's channel.
                Command::Flush(flush) => drop(self.flushes.try_push(flush)),
                Command::CountOpen(asker) => {
                    // One answer for each worker fits; nobody may be listening any more.
                    let _ = asker.try_send(self.pipeline.flows().open());
                }
                Command::Park(port) => {
                    if let Some(port) = self.ports.get_mut(usize::from(port.0)) {
                        port.park();
                    }
                }
                Command::Resume(port) => {
                    if let Some(port) = self.ports.get_mut(usize::from(port.0)) {
                        port.resume();
                    }
                }
            }
        }
        done
    }

    /// Sends frames whose neighbour is known by now, and drops those that waited in vain.
    fn release(&mut self, now: Timestamp) -> usize {
        let (mut moved, mut at) = (0, 0);
        loop {
            let ways = (&**self.pipeline.tables(), self.pipeline.own());
            let neighbors = &self.shared.neighbors;
            let Some(released) = self.waiting.release(&mut at, now, neighbors, ways) else {
                return moved;
            };
            moved += 1;
            match released {
                Released::Send(frame, port, step, Some(cut)) => {
                    self.push_cut(port, frame, cut, step);
                }
                Released::Send(frame, port, step, None) => {
                    if let Some(step) = step {
                        self.shared.counters.forwarded[step.index()].add(1);
                    }
                    self.push(port, frame);
                }
                Released::Drop(frame, whose, reason) => self.give_up(now, frame, whose, reason),
            }
        }
    }

    /// A frame waited in vain: it is dropped, or becomes the error that says so.
    #[cold]
    fn give_up(
        &mut self,
        now: Timestamp,
        mut frame: P::Frame,
        whose: Option<Whose>,
        reason: DropReason,
    ) {
        let mut packet = frame.packet();
        let verdict = self.pipeline.give_up(now, &mut packet, whose, reason);
        let shape = packet.shape();
        match verdict {
            Verdict::Reply(port, answer) => {
                frame.set_shape(shape);
                self.shared.counters.answers[answer.index()].add(1);
                self.push(port, frame);
            }
            _ => self.shared.counters.count_drop(reason),
        }
    }

    /// Tells a piece of the flow table to each who asked for it; never waits for them. Returns how
    /// many got on: a worker is not busy for those who do not take what they asked for.
    fn dump(&mut self, now: Timestamp) -> usize {
        let flows = self.pipeline.flows();
        let mut moved = 0;
        self.dumps.retain(|dump| {
            let step = dump.tell(flows, self.pipeline.tables(), DUMP_BUDGET, now);
            moved += usize::from(step == DumpStep::Moved);
            step != DumpStep::Over
        });
        moved
    }

    /// The tables this worker uses.
    pub fn tables(&self) -> &Arc<Tables> {
        self.pipeline.tables()
    }
}
