//! The servers' side: judges requests as the device under test has translated them, and turns each into
//! its reply in place. It keeps no connections: what it answers follows from what it is asked.

use std::sync::Arc;

use net::Timestamp;
use net::header::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::check::{Envelope, Faults, Kind, Members, Samples, Snat, payload_intact};
use super::counters::Counters;
use super::flows::{Flows, Proto};
use super::frame::{Segment, TTL, fold, sum};
use super::latency::Latency;
use super::seen::Seen;
use super::stamp::{self, Direction, Format, REPLY};
use super::units::FCS;

/// How the server side is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What all frames must have in common.
    pub envelope: Envelope,
    /// Protocol of the flows.
    pub proto: Proto,
    /// Where requests may arrive.
    pub members: Members,
    /// What becomes of their sources.
    pub snat: Snat,
    /// Whether a flow keeps its member and source for good.
    pub sticky: bool,
    /// Whether requests are answered.
    pub replies: bool,
    /// Octets of payload that requests may have.
    pub payloads: Vec<usize>,
}

/// The servers' side.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    flows: Arc<Flows>,
    /// What each flow's request looked like the first time; 0 is not seen yet.
    pins: Vec<u32>,
    counters: Counters,
    latency: Latency,
    samples: Samples,
    trial_start: Timestamp,
}

impl Server {
    /// A server for these flows.
    pub fn new(config: ServerConfig, flows: Arc<Flows>) -> Self {
        let pins = if config.sticky {
            flows.count() as usize
        } else {
            0
        };
        Self {
            config,
            flows,
            pins: vec![0; pins],
            counters: Counters::default(),
            latency: Latency::default(),
            samples: Samples::default(),
            trial_start: Timestamp::from_nanos(0),
        }
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted, to add to.
    pub(super) const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Times from the client's port to here.
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// The first faulty frames.
    pub const fn samples(&self) -> &Samples {
        &self.samples
    }

    /// From now on, only frames stamped at or after `start` belong to the trial.
    pub fn begin_trial(&mut self, start: Timestamp) {
        // The shorter stamps are as exact as this.
        self.trial_start = Timestamp::from_nanos(start.as_nanos() & !15);
        self.latency.reset();
    }

    /// From now on flows may come from and go to anywhere, as new connections do.
    pub fn let_flows_move(&mut self) {
        self.pins = Vec::new();
    }

    /// Takes flows for new ones from now on: they may go to other members than before, once.
    pub fn forget_flows(&mut self) {
        self.pins.fill(0);
    }

    /// Requests may have these numbers of octets from now on.
    pub fn set_payloads(&mut self, payloads: Vec<usize>) {
        self.config.payloads = payloads;
    }

    /// Frames that are IP but cannot be taken apart.
    #[cold]
    pub(super) fn malformed(&mut self, frame: &[u8]) {
        let mut faults = Faults::NONE;
        faults.expect(false, Kind::Malformed);
        self.counters.mismatches.count(faults);
        self.counters.faulty += 1;
        self.samples.keep("server", faults, frame, None, None);
    }

    /// Judges a request. Returns whether the frame is its reply now and is to be sent.
    #[inline]
    pub fn packet(&mut self, frame: &mut [u8], seen: &Seen, now: Timestamp) -> bool {
        let mut faults = Faults::NONE;
        let config = &self.config;
        config.envelope.check(seen, &mut faults);
        faults.expect(seen.proto == config.proto, Kind::Protocol);
        config.members.check(&seen.dst, seen.dport, &mut faults);

        let len = seen.payload_len();
        let is_control = seen.proto == Proto::Tcp && len == 0;
        let mut stamp = None;
        let mut flow = None;
        let mut tuple = None;
        if !is_control {
            let payload = seen.payload_of(frame);
            let format = Format::of(seen.proto, seen.v4, len);
            stamp = format
                .and_then(|f| stamp::read(f, payload, seen.ident, seen.urgent, now))
                .filter(|stamp| stamp.direction != Some(Direction::Reply));
            faults.expect(stamp.is_some(), Kind::Stamp);
            faults.expect(config.payloads.contains(&len), Kind::Length);
            if let (Some(format), Some(stamp)) = (format, &stamp) {
                faults.expect(payload_intact(payload, format), Kind::Payload);
                flow = stamp.flow;
            }
        }
        if let Some(number) = flow {
            if number < self.flows.count() {
                tuple = Some(self.flows.tuple(number));
            } else {
                faults.expect(false, Kind::Flow);
                flow = None;
            }
        }
        match (&config.snat, &tuple) {
            (Snat::None, Some(tuple)) => {
                faults.expect(seen.src == tuple.client, Kind::Source);
                faults.expect(seen.sport == tuple.client_port, Kind::SourcePort);
            }
            (Snat::None, None) => {
                let known = self.flows.find(&seen.src, seen.sport);
                faults.expect(known.is_some(), Kind::Source);
                flow = flow.or(known);
            }
            (snat, _) => faults.expect(snat.allows(seen.src.ip()), Kind::Source),
        }
        // What is faulty anyway says nothing of where its flow goes.
        if faults.is_empty()
            && let Some(pin) = flow.and_then(|flow| self.pins.get_mut(flow as usize))
        {
            let now = fingerprint(seen);
            faults.expect(*pin == 0 || *pin == now, Kind::Moved);
            *pin = now;
        }
        if !faults.is_empty() {
            self.counters.mismatches.count(faults);
            self.counters.faulty += 1;
            self.samples
                .keep("server", faults, frame, Some(seen), tuple.as_ref());
        }
        if is_control {
            return self.control(frame, seen);
        }
        let Some(stamp) = stamp else { return false };
        if stamp.at < self.trial_start {
            self.counters.late += 1;
        } else {
            self.counters.received += 1;
            self.counters.received_octets += frame.len() as u64 + u64::from(FCS);
            let age = now.as_nanos().saturating_sub(stamp.at.as_nanos());
            self.latency.record(age);
        }
        if !self.config.replies || !seen.ip_checksum_good || !seen.l4_checksum_good {
            return false;
        }
        let end = u32::try_from(len).unwrap_or(0).wrapping_add(seen.seq);
        reply(frame, seen, end, PSH | ACK);
        self.counters.sent += 1;
        self.counters.sent_octets += frame.len() as u64 + u64::from(FCS);
        true
    }

    /// Answers a TCP segment without data: the handshake and the end.
    fn control(&mut self, frame: &mut [u8], seen: &Seen) -> bool {
        self.counters.control_received += 1;
        if seen.flags & RST != 0 {
            self.counters.resets += 1;
            return false;
        }
        let answer = match seen.flags & (SYN | FIN) {
            SYN => SYN | ACK,
            FIN => FIN | ACK,
            _ => return false,
        };
        if !self.config.replies || !seen.l4_checksum_good || !seen.ip_checksum_good {
            return false;
        }
        reply(frame, seen, seen.seq.wrapping_add(1), answer);
        self.counters.control_sent += 1;
        true
    }
}

/// What must stay the same about the requests of a flow; never 0.
#[inline]
fn fingerprint(seen: &Seen) -> u32 {
    let mut hash = u64::from(seen.sport) << 16 | u64::from(seen.dport);
    for addr in [&seen.src, &seen.dst] {
        for half in addr.octets().as_chunks::<8>().0 {
            hash = (hash ^ u64::from_ne_bytes(*half))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }
    u32::try_from(hash >> 32).unwrap_or(1) | 1
}

/// Turns a request into its reply: stations, addresses and ports change places, the hop limit is renewed,
/// the stamp says that it is a reply. Both directions count the same octets, so a reply begins at the
/// sequence number of its request.
#[inline]
pub(super) fn reply(frame: &mut [u8], seen: &Seen, ack: u32, flags: u8) {
    let segment = Segment {
        seq: seen.seq,
        ack,
        flags,
    };
    if let Some((addresses, _)) = frame.split_first_chunk_mut::<12>() {
        addresses.rotate_left(6);
    }
    let format = Format::of(seen.proto, seen.v4, seen.payload_len());
    let Some((ip, l4)) = frame
        .get_mut(seen.l3..seen.end)
        .and_then(|packet| packet.split_at_mut_checked(seen.l4 - seen.l3))
    else {
        return;
    };
    if let Some(ip) = ip.first_chunk_mut::<20>().filter(|_| seen.v4) {
        ip[8] = TTL;
        ip[10..12].fill(0);
        ip[12..20].rotate_left(4);
        let checksum = !fold(sum(&*ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else if let Some(ip) = ip.first_chunk_mut::<40>() {
        ip[7] = TTL;
        ip[8..40].rotate_left(16);
    }
    if let Some((ports, _)) = l4.split_first_chunk_mut::<4>() {
        ports.rotate_left(2);
    }
    // What the checksum loses and gains: only what is changed and does not merely change places.
    let mut change = 0u64;
    let mut replace = |octets: &mut [u8], new: &[u8]| {
        change += sum(new) + u64::from(!fold(sum(octets)));
        octets.copy_from_slice(new);
    };
    let at = match seen.proto {
        Proto::Udp => 6,
        Proto::Tcp => 16,
    };
    if let Some(header) = l4
        .first_chunk_mut::<20>()
        .filter(|_| seen.proto == Proto::Tcp)
    {
        replace(&mut header[4..8], &segment.seq.to_be_bytes());
        replace(&mut header[8..12], &segment.ack.to_be_bytes());
        let offset = header[12];
        replace(&mut header[12..14], &[offset, segment.flags]);
    }
    if let Some(direction) = format.and_then(Format::direction_at) {
        let place = seen.payload - seen.l4 + direction;
        // A checksum counts words: the octet, and its neighbour in its word.
        let word = place & !1;
        if let Some(octets) = l4.get_mut(word..word + 2) {
            let mut new = [octets[0], octets[1]];
            new[place - word] = REPLY;
            replace(octets, &new);
        }
    }
    if let Some(field) = l4.get_mut(at..at + 2) {
        let old = u16::from_be_bytes([field[0], field[1]]);
        let new = match !fold(u64::from(!old) + change) {
            0 if seen.proto == Proto::Udp => 0xffff,
            checksum => checksum,
        };
        field.copy_from_slice(&new.to_be_bytes());
    }
}
