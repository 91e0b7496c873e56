//! The clients' side receives: what came back is judged, and moves its flow on.

use net::Timestamp;
use net::header::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::{Client, Due, Swap};
use crate::pktgen::check::{Faults, Kind, check_reply, payload_intact};
use crate::pktgen::flows::{Proto, Tuple};
use crate::pktgen::seen::Seen;
use crate::pktgen::sequence::{Arrival, Phase};
use crate::pktgen::stamp::{self, Direction, Format, from_ticks};
use crate::pktgen::units::FCS;

impl Client {
    /// Frames that are IP but cannot be taken apart.
    #[cold]
    pub(in crate::pktgen) fn malformed(&mut self, frame: &[u8]) {
        let mut faults = Faults::NONE;
        faults.expect(false, Kind::Malformed);
        self.fault(faults, frame, None, None);
    }

    #[cold]
    fn fault(&mut self, faults: Faults, frame: &[u8], seen: Option<&Seen>, tuple: Option<&Tuple>) {
        self.counters.mismatches.count(faults);
        self.counters.faulty += 1;
        self.samples.keep("client", faults, frame, seen, tuple);
    }

    /// Judges a frame that came back.
    #[inline]
    pub fn packet(&mut self, frame: &[u8], seen: &Seen, now: Timestamp) {
        let mut faults = Faults::NONE;
        self.config.envelope.check(seen, &mut faults);
        faults.expect(seen.proto == self.config.proto, Kind::Protocol);
        let as_sent = matches!(self.config.swap, Some(Swap::None | Swap::Mac));

        let len = seen.payload_len();
        let is_control = seen.proto == Proto::Tcp && len == 0;
        let mut stamp = None;
        if !is_control {
            let payload = seen.payload_of(frame);
            let format = Format::of(seen.proto, seen.v4, len);
            let wanted = match self.config.swap {
                None => Direction::Reply,
                Some(_) => Direction::Request,
            };
            stamp = format
                .and_then(|f| stamp::read(f, payload, seen.ident, seen.urgent, now))
                .filter(|stamp| stamp.direction.is_none_or(|d| d == wanted));
            faults.expect(stamp.is_some(), Kind::Stamp);
            let templates = &self.templates[usize::from(!seen.v4)];
            let known = templates.iter().any(|t| t.payload_len() == len);
            faults.expect(known, Kind::Length);
            if let (Some(format), true) = (format, stamp.is_some()) {
                faults.expect(payload_intact(payload, format), Kind::Payload);
            }
        }
        let flow = stamp
            .as_ref()
            .and_then(|stamp| stamp.flow)
            .or_else(|| {
                if as_sent {
                    self.flows.find(&seen.src, seen.sport)
                } else {
                    self.flows.find(&seen.dst, seen.dport)
                }
            })
            .filter(|flow| *flow < self.flows.count());
        let Some(flow) = flow else {
            faults.expect(false, Kind::Flow);
            return self.fault(faults, frame, Some(seen), None);
        };
        let tuple = self.flows.tuple(flow);
        if as_sent {
            faults.expect(seen.src == tuple.client, Kind::Source);
            faults.expect(seen.sport == tuple.client_port, Kind::SourcePort);
            faults.expect(seen.dst == tuple.server, Kind::Destination);
            faults.expect(seen.dport == tuple.server_port, Kind::DestinationPort);
        } else {
            check_reply(seen, &tuple, &mut faults);
        }
        if is_control {
            self.control(flow, seen, now, &mut faults);
        } else if let Some(stamp) = stamp {
            let state = &mut self.states[flow as usize];
            let number = if stamp.flow.is_some() {
                stamp.number
            } else {
                state.whole_number(stamp.number)
            };
            let arrival = state.arrive(number);
            match arrival {
                Arrival::NeverSent => faults.expect(false, Kind::Flow),
                Arrival::Again => self.counters.duplicates += 1,
                Arrival::New | Arrival::Reordered => {
                    self.counters.reordered += u64::from(arrival == Arrival::Reordered);
                    if stamp.at < self.trial_start {
                        self.counters.late += 1;
                    } else {
                        self.counters.received += 1;
                        self.counters.received_octets += frame.len() as u64 + u64::from(FCS);
                        if !self.connecting || self.config.proto == Proto::Udp {
                            let age = now.as_nanos().saturating_sub(stamp.at.as_nanos());
                            self.latency.record(age);
                        }
                    }
                }
            }
            self.replied(flow, seen, len, &mut faults);
        }
        if !faults.is_empty() {
            self.fault(faults, frame, Some(seen), Some(&tuple));
        }
    }

    /// What a reply with data does to its flow.
    #[inline]
    fn replied(&mut self, flow: u32, seen: &Seen, len: usize, faults: &mut Faults) {
        let state = &mut self.states[flow as usize];
        if seen.proto == Proto::Tcp && self.config.swap.is_none() {
            let end = seen.seq.wrapping_add(u32::try_from(len).unwrap_or(0));
            faults.expect(seen.ack == end && seen.flags == PSH | ACK, Kind::Segment);
            if end.wrapping_sub(state.acked) < 1 << 31 {
                state.acked = end;
            }
        }
        match (self.connecting, state.phase, self.config.proto) {
            (true, Phase::Opening, Proto::Udp) => {
                state.phase = Phase::Closed;
                self.counters.opened += 1;
                self.counters.closed += 1;
            }
            (false, Phase::Opening, Proto::Udp) => {
                state.phase = Phase::Open;
                self.counters.opened += 1;
            }
            (true, Phase::Open, Proto::Tcp) => {
                state.phase = Phase::Closing;
                self.outbox.push_back((flow, Due::Fin));
            }
            _ => {}
        }
    }

    /// A TCP segment without data.
    fn control(&mut self, flow: u32, seen: &Seen, now: Timestamp, faults: &mut Faults) {
        self.counters.control_received += 1;
        let state = &mut self.states[flow as usize];
        if seen.flags & RST != 0 {
            self.counters.resets += 1;
            if self.connecting && state.phase != Phase::Closed {
                self.counters.failed += 1;
            }
            state.phase = Phase::Closed;
            return;
        }
        let mine = seen.ack == state.next && seen.ack == seen.seq.wrapping_add(1);
        match (seen.flags & (SYN | FIN), state.phase) {
            (SYN, Phase::Opening) => {
                faults.expect(mine && seen.flags == SYN | ACK, Kind::Segment);
                state.phase = Phase::Open;
                self.counters.opened += 1;
                self.outbox.push_back((flow, Due::Ack));
                if self.connecting {
                    let since = from_ticks(state.since, now).as_nanos();
                    self.latency.record(now.as_nanos() - since);
                    self.outbox.push_back((flow, Due::Request));
                }
            }
            (FIN, Phase::Closing) => {
                faults.expect(mine && seen.flags == FIN | ACK, Kind::Segment);
                state.acked = seen.seq.wrapping_add(1);
                state.phase = Phase::Closed;
                self.counters.closed += 1;
                self.outbox.push_back((flow, Due::Ack));
            }
            // Answers to what was repeated.
            _ => {}
        }
    }
}
