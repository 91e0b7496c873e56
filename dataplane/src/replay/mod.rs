//! Replay: captured frames through the same control side, worker and pipeline as live ones.
//!
//! The capture is the clock. Frames of all ports are merged by timestamp (then by port, then by
//! position); before each one, everything that tmm does by itself at its own times happens at
//! those times: retries, announcements, expiry. After the last frame the clock runs on for
//! [`ReplayConfig::settle`], so that what was under way comes to its end. Nothing else goes in, so
//! the same captures, configuration and seed give the same frames out, octet for octet.
//!
//! In a capture nobody answers our questions for neighbours; [`neighbors`] does instead. Its answers
//! are not counted as frames of the capture.
//!
//! | file | does |
//! |---|---|
//! | [`inputs`] | merges captures by time |
//! | [`neighbors`] | answers ARP and neighbour solicitations |
//! | [`explain`] | says what became of each frame, and why |
//! | [`summary`] | says what became of all of them |
//! | [`args`] | is the command `tmm replay` |

pub mod args;
pub mod explain;
pub mod inputs;
pub mod neighbors;
pub mod summary;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use config::FieldError;
use net::{Encap, Layers, MacAddr, Packet, PortId, RxMeta, Timestamp};
use serde_json::Value;

use crate::memory::MemoryFrame;
use crate::rig::{Rig, RigConfig, port_mac};
use crate::verdict::Verdict;
use explain::Step;
use neighbors::{Directory, NeighborMode};

/// Times at which tmm does something by itself that are kept between two frames; beyond, the clock
/// jumps. Months of silence in a capture must not take minutes to replay.
const MAX_DEADLINES: usize = 100_000;
/// Questions and answers at one time; more would be a mistake here.
const MAX_ROUNDS: usize = 64;
/// Flows that ended are looked for this often, in time of the capture.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// The sender of frames that have none.
const SOMEBODY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);

/// How a replay is done.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// How many ports there are, from 1.1 on.
    pub ports: u8,
    /// Keys every hash and random choice.
    pub seed: u64,
    /// Which position of the self IP lists is ours, from 0.
    pub replica: usize,
    /// The most flows tracked.
    pub flow_capacity: usize,
    /// MTU of VLANs that name none, octets.
    pub default_mtu: u16,
    /// Who answers for neighbours.
    pub neighbors: NeighborMode,
    /// Unicast frames get the MAC address of the VLAN they arrive on as their destination; those
    /// without a sender, as loopback devices have them, get one.
    pub rewrite_mac: bool,
    /// How long the clock runs on after the last frame. Unanswered questions fail after 3 s, frames
    /// that wait for them are given up after 4 s.
    pub settle: Duration,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            ports: 2,
            seed: 1,
            replica: 0,
            flow_capacity: 65_536,
            default_mtu: 1500,
            neighbors: NeighborMode::Synthetic,
            rewrite_mac: false,
            settle: Duration::from_secs(5),
        }
    }
}

/// What a replay hands out as it goes.
pub trait Sink {
    /// A frame left by a port.
    fn frame(&mut self, port: PortId, at: Timestamp, octets: &[u8]) -> io::Result<()>;

    /// Whether [`step`](Self::step) is of interest; finding it out takes time.
    fn wants_steps(&self) -> bool {
        false
    }

    /// What became of a frame, or what tmm sent by itself.
    fn step(&mut self, step: &Step) -> io::Result<()> {
        let _ = step;
        Ok(())
    }
}

/// A tmm that is fed from captures.
pub struct Replay {
    config: ReplayConfig,
    rig: Rig,
    directory: Directory,
    tally: Tally,
    start: Option<Timestamp>,
    now: Timestamp,
    swept: Timestamp,
    scratch: Vec<u8>,
}

/// What is counted besides what the worker counts.
#[derive(Debug, Default)]
struct Tally {
    /// Frames of the captures, and their octets, by port.
    received: BTreeMap<PortId, (u64, u64)>,
    /// Frames sent, and their octets, by port.
    sent: BTreeMap<PortId, (u64, u64)>,
    /// First decisions about frames of the captures.
    verdicts: BTreeMap<&'static str, u64>,
    /// Answers given on behalf of neighbours.
    synthetic: u64,
    /// What those answers added to the worker's counters, by name.
    discount: BTreeMap<String, u64>,
    /// Frames that came too late to be in order.
    late: u64,
}

/// A frame, what was decided about it, and what it was made into.
struct Seen {
    port: PortId,
    verdict: Verdict,
    after: Vec<u8>,
}

impl Replay {
    /// A tmm with this configuration, before its first frame.
    ///
    /// Errors: what is wrong with the objects.
    pub fn new(config: ReplayConfig, objects: &[Value]) -> Result<Self, Vec<FieldError>> {
        let mut rig = Rig::new(&RigConfig {
            ports: config.ports,
            replica: config.replica,
            flow_capacity: config.flow_capacity,
            seed: config.seed,
            default_mtu: config.default_mtu,
            ..RigConfig::default()
        });
        rig.apply(objects)?;
        Ok(Self {
            config,
            rig,
            directory: Directory::default(),
            tally: Tally::default(),
            start: None,
            now: Timestamp::ZERO,
            swept: Timestamp::ZERO,
            scratch: Vec::new(),
        })
    }

    /// Learns from a frame which MAC address its sender has. To be done with all frames before the
    /// first one is replayed, so that an answer does not depend on when it was seen.
    pub fn learn(&mut self, port: PortId, frame: &[u8]) {
        if self.config.neighbors != NeighborMode::None {
            self.directory.learn(port, frame, &mut self.scratch);
        }
    }

    /// Starts the clock: the configuration is published, and tmm announces its addresses. The first
    /// frame does it, if nobody did before.
    pub fn start(&mut self, at: Timestamp, sink: &mut impl Sink) -> io::Result<()> {
        if self.start.is_none() {
            self.start = Some(at);
            self.now = at;
            self.swept = at;
            self.run_at(at, None, sink)?;
        }
        Ok(())
    }

    /// Replays one frame that arrives at `at`, or right after the one before if that is earlier.
    pub fn frame(
        &mut self,
        port: PortId,
        at: Timestamp,
        octets: &[u8],
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        self.start(at, sink)?;
        if at < self.now {
            self.tally.late += 1;
        }
        self.advance_to(at.max(self.now), sink)?;
        let (packets, bytes) = self.tally.received.entry(port).or_default();
        *packets += 1;
        *bytes += octets.len() as u64;
        let readdressed = self
            .config
            .rewrite_mac
            .then(|| self.readdressed(port, octets));
        let octets = readdressed.as_deref().unwrap_or(octets);
        self.run_at(self.now, Some((port, octets)), sink)
    }

    /// Lets the clock run on for [`ReplayConfig::settle`].
    pub fn finish(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        self.start(Timestamp::ZERO, sink)?;
        self.advance_to(self.now + self.config.settle, sink)
    }

    /// What the replay runs on.
    pub fn rig(&self) -> &Rig {
        &self.rig
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Lets everything happen that is due until `at`, at its own time.
    fn advance_to(&mut self, at: Timestamp, sink: &mut impl Sink) -> io::Result<()> {
        for _ in 0..MAX_DEADLINES {
            match self.rig.next_deadline() {
                Some(due) if due > self.now && due < at => self.pass(due, sink)?,
                _ => break,
            }
        }
        if at > self.now {
            self.pass(at, sink)?;
        }
        Ok(())
    }

    /// Sets the clock, and does what is due.
    fn pass(&mut self, at: Timestamp, sink: &mut impl Sink) -> io::Result<()> {
        self.now = at;
        self.run_at(at, None, sink)?;
        if at.since(self.swept) >= SWEEP_EVERY {
            self.swept = at;
            // The worker ends a bounded number of flows per turn, so as not to hold up frames.
            for _ in 0..=self.rig.worker().pipeline().flows().len() / crate::worker::EXPIRE_BUDGET {
                self.rig.advance(at);
            }
        }
        Ok(())
    }

    /// Runs the rig at one time: with a frame of the capture, if there is one, and with the answers
    /// of neighbours until nobody asks any more.
    fn run_at(
        &mut self,
        at: Timestamp,
        frame: Option<(PortId, &[u8])>,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        let watched = sink.wants_steps();
        let mut seen = Vec::new();
        if let Some((port, octets)) = frame {
            self.rig.send(port, MemoryFrame::new(octets));
        }
        let verdicts = &mut self.tally.verdicts;
        self.rig.advance_with(at, |port, frame, verdict| {
            *verdicts.entry(explain::verdict_name(verdict)).or_default() += 1;
            if watched {
                seen.push(Seen {
                    port,
                    verdict: *verdict,
                    after: frame.octets().to_vec(),
                });
            }
        });
        if let Some((_, octets)) = frame {
            for seen in &seen {
                let step = explain::frame(self, octets, seen);
                sink.step(&step)?;
            }
        }
        // What left because of the frame itself has been explained.
        let mut explained: Vec<(PortId, &[u8])> = seen
            .iter()
            .filter_map(|seen| match seen.verdict {
                Verdict::Transmit(port, _) | Verdict::Reply(port, _) => {
                    Some((port, seen.after.as_slice()))
                }
                _ => None,
            })
            .collect();
        for _ in 0..MAX_ROUNDS {
            let answers = self.collect(at, watched, &mut explained, sink)?;
            if answers.is_empty() {
                break;
            }
            self.answer(at, answers);
        }
        Ok(())
    }

    /// Takes what tmm sent. Gives the answers of neighbours to it.
    fn collect(
        &mut self,
        at: Timestamp,
        watched: bool,
        explained: &mut Vec<(PortId, &[u8])>,
        sink: &mut impl Sink,
    ) -> io::Result<Vec<(PortId, Vec<u8>)>> {
        let mut answers = Vec::new();
        for port in (0..self.config.ports).map(PortId) {
            while let Some(frame) = self.rig.receive(port) {
                let octets = frame.octets();
                let (packets, bytes) = self.tally.sent.entry(port).or_default();
                *packets += 1;
                *bytes += octets.len() as u64;
                sink.frame(port, at, octets)?;
                if watched {
                    let known = explained.iter().position(|known| *known == (port, octets));
                    if let Some(known) = known {
                        explained.remove(known);
                    } else {
                        sink.step(&explain::sent(self, port, octets))?;
                    }
                }
                let question = neighbors::question(octets, &mut self.scratch);
                if let Some(question) = question
                    && let Some(mac) = self.mac_of(port, &question)
                {
                    answers.push((port, neighbors::answer(&question, mac)));
                }
            }
        }
        Ok(answers)
    }

    /// The MAC address that a neighbour answers with, if it does.
    fn mac_of(&self, port: PortId, question: &neighbors::Question) -> Option<MacAddr> {
        let tables = self.rig.control().tables();
        let vlan = tables.vlans.demux(port, question.encap)?;
        // A question leaves by every port of the VLAN; one answer is enough.
        if vlan.ports.first() != Some(&port)
            || tables.owned.get(vlan.index, &question.target).is_some()
        {
            return None;
        }
        let known = vlan
            .ports
            .iter()
            .find_map(|port| self.directory.get(*port, vlan.encap, &question.target));
        match self.config.neighbors {
            NeighborMode::None => None,
            NeighborMode::Capture => known,
            NeighborMode::Synthetic => {
                Some(known.unwrap_or_else(|| neighbors::mac(&question.target)))
            }
        }
    }

    /// Puts answers of neighbours on the wire; what they add to counters is not the capture's doing.
    fn answer(&mut self, at: Timestamp, answers: Vec<(PortId, Vec<u8>)>) {
        let discount = &mut self.tally.discount;
        let mut add = |name: String, n: u64| *discount.entry(name).or_default() += n;
        for (port, octets) in answers {
            self.tally.synthetic += 1;
            add(format!("port.{port}.rx_packets"), 1);
            add(format!("port.{port}.rx_bytes"), octets.len() as u64);
            self.rig.send(port, MemoryFrame::new(&octets));
        }
        self.rig.advance_with(at, |_, _, verdict| match verdict {
            Verdict::Consumed => add("consumed_packets".to_owned(), 1),
            Verdict::Drop(reason) => add(format!("drop.{}", reason.label()), 1),
            Verdict::Reply(_, answer) => add(format!("answer.{}", answer.label()), 1),
            Verdict::Transmit(..)
            | Verdict::Cut(..)
            | Verdict::Hold(..)
            | Verdict::Hairpin(..)
            | Verdict::Handoff(_)
            | Verdict::Gather(_)
            | Verdict::Wait(_) => {}
        });
    }

    /// The frame as if it had been sent to us.
    fn readdressed(&self, port: PortId, octets: &[u8]) -> Vec<u8> {
        let mut frame = octets.to_vec();
        let encap = parse(octets, &mut Vec::new()).map_or(Encap::UNTAGGED, |layers| layers.encap);
        let tables = self.rig.control().tables();
        let mac = tables
            .vlans
            .demux(port, encap)
            .map_or(port_mac(port), |vlan| vlan.mac_of(port));
        if let Some(destination) = frame.first_chunk_mut::<6>()
            && !MacAddr(*destination).is_group()
        {
            *destination = mac.0;
        }
        if let Some(source) = frame.get_mut(6..12)
            && source == MacAddr::ZERO.0
        {
            source.copy_from_slice(&SOMEBODY.0);
        }
        frame
    }
}

/// The headers of a frame that is not ours to change.
fn parse(octets: &[u8], scratch: &mut Vec<u8>) -> Result<Layers, net::ParseError> {
    scratch.clear();
    scratch.extend_from_slice(octets);
    let len = scratch.len();
    Layers::parse(&Packet::new(scratch, 0, len, RxMeta::default()))
}
