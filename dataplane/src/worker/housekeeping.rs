//! What a worker does between bursts, a bounded piece at a time.

use std::sync::Arc;

use net::Timestamp;

use super::{EXPIRE_BUDGET, Worker};
use crate::command::{Command, DumpStep};
use crate::hold::Released;
use crate::port::{Frame, Port};
use crate::verdict::{Answer, DropReason, Verdict, Whose};

/// Resets sent per turn at most: to both ends of the flows that end in one.
const FAREWELL_BUDGET: usize = 2 * EXPIRE_BUDGET;
/// Commands taken per turn at most.
const COMMAND_BUDGET: usize = 32;
/// Flows told per turn and dump.
const DUMP_BUDGET: usize = 256;

impl<P: Port> Worker<P> {
    pub(super) fn keep_house(&mut self, now: Timestamp) -> usize {
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
    pub(super) fn say_farewell(&mut self, now: Timestamp) -> usize {
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
                Verdict::Hairpin(vlan, _) => self.send_ours_round(now, vlan, frame),
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

    pub(super) fn obey(&mut self) -> usize {
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
    pub(super) fn release(&mut self, now: Timestamp) -> usize {
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
    pub(super) fn give_up(
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
            Verdict::Hairpin(vlan, _) => {
                frame.set_shape(shape);
                self.send_ours_round(now, vlan, frame);
            }
            _ => self.shared.counters.count_drop(reason),
        }
    }

    /// Tells a piece of the flow table to each who asked for it; never waits for them. Returns how
    /// many got on: a worker is not busy for those who do not take what they asked for.
    pub(super) fn dump(&mut self, now: Timestamp) -> usize {
        let flows = self.pipeline.flows();
        let mut moved = 0;
        self.dumps.retain(|dump| {
            let step = dump.tell(flows, self.pipeline.tables(), DUMP_BUDGET, now);
            moved += usize::from(step == DumpStep::Moved);
            step != DumpStep::Over
        });
        moved
    }
}
