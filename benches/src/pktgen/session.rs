//! A test from its beginning to its end: find the gateway, open the flows, run trials, search, close.

use std::time::Duration;

use super::client::Job;
use super::counters::Counters;
use super::engine::Engine;
use super::latency::Latency;
use super::link::Link;
use super::search::{Found, Observation, Probe, Search, SearchConfig};
use super::trial::{Opening, Order, Progress, Sample, Trial};
use super::units::float;
use net::Timestamp;

/// Where a session runs: its clock, and who else has to be let run or told.
pub trait World {
    /// The time; it never goes back.
    fn now(&mut self) -> Timestamp;

    /// Called between turns: lets a device under test run that lives in the same thread.
    fn between_turns(&mut self) {}

    /// Whether the user has asked to stop.
    fn stopped(&mut self) -> bool {
        false
    }

    /// Told once per sample.
    fn progress(&mut self, _progress: &Progress) {}
}

/// How a session goes about things.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Flows opened per second; without it, as fast as the port takes them.
    pub open_rate: Option<f64>,
    /// How often a flow is tried to be opened.
    pub open_attempts: u32,
    /// How long the gateway may take to answer.
    pub resolve: Duration,
    /// How long frames may take to come back after the last was sent.
    pub drain: Duration,
    /// How often progress is told and sampled.
    pub sample: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            open_rate: Some(100_000.0),
            open_attempts: 5,
            resolve: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            sample: Duration::from_secs(1),
        }
    }
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody answered for the gateway.
    #[error(
        "no gateway answered within {} s: is the device up, and are --gateway, --client-vlan and \
         --client right?",
        .0.as_secs_f32()
    )]
    NoGateway(Duration),
    /// No flow could be opened.
    #[error(
        "none of {flows} flows could be opened: {sent} frames were sent, {arrived} came to the servers' \
         side and {resets} resets came back; is the virtual server configured and are its members up?"
    )]
    NothingOpens {
        /// How many were tried.
        flows: u32,
        /// Frames sent.
        sent: u64,
        /// Frames that came to the servers' side.
        arrived: u64,
        /// Resets that came back.
        resets: u64,
    },
}

/// A session: an engine in a world.
pub struct Session<L: Link, W: World> {
    engine: Engine<L>,
    world: W,
    timing: Timing,
    /// Replies are counted by the servers' side, for none come back.
    one_way: bool,
}

impl<L: Link, W: World> Session<L, W> {
    /// A session that has not begun; `one_way` if nothing comes back to the clients' side.
    pub const fn new(engine: Engine<L>, world: W, timing: Timing, one_way: bool) -> Self {
        Self {
            engine,
            world,
            timing,
            one_way,
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine<L> {
        &self.engine
    }

    /// The engine, to be told what to do.
    pub const fn engine_mut(&mut self) -> &mut Engine<L> {
        &mut self.engine
    }

    /// The world.
    pub const fn world_mut(&mut self) -> &mut W {
        &mut self.world
    }

    /// One turn; returns its time.
    #[inline]
    fn turn(&mut self) -> Timestamp {
        let world = &mut self.world;
        let now = self.engine.turn(|| world.now());
        self.world.between_turns();
        now
    }

    /// Turns until `done` says so, for `limit` at most. Returns whether it did.
    fn turn_until(&mut self, limit: Duration, mut done: impl FnMut(&Engine<L>) -> bool) -> bool {
        let start = self.world.now();
        loop {
            if done(&self.engine) {
                return true;
            }
            let now = self.turn();
            if now.since(start) >= limit || self.world.stopped() {
                return done(&self.engine);
            }
        }
    }

    /// Learns the station of the gateway.
    ///
    /// Errors: [`SessionError::NoGateway`].
    pub fn resolve(&mut self) -> Result<(), SessionError> {
        let start = self.world.now();
        while !self.engine.gateway_known() {
            if self.world.now().since(start) >= self.timing.resolve || self.world.stopped() {
                return Err(SessionError::NoGateway(self.timing.resolve));
            }
            self.engine.ask();
            self.turn_until(Duration::from_millis(200), Engine::gateway_known);
        }
        Ok(())
    }

    /// Opens all flows: a handshake each, or a first frame that is answered. Flows that do not answer
    /// are tried again.
    ///
    /// Errors: [`SessionError::NothingOpens`].
    pub fn open(&mut self) -> Result<Opening, SessionError> {
        let before = self.engine.counters();
        let flows = self.engine.client().flow_count();
        if self.engine.client().open_flows() == 0 {
            self.engine.server_mut().forget_flows();
        }
        let wanted = before.0.opened + u64::from(flows - self.engine.client().open_flows());
        let start = self.world.now();
        let mut round_start;
        for _ in 0..self.timing.open_attempts.max(1) {
            round_start = self.world.now();
            let rate = self.timing.open_rate;
            self.engine.client_mut().begin(Job::Open, rate, round_start);
            let mut next_sample = round_start + self.timing.sample;
            let mut last = self.engine.counters().0.opened;
            while !self.engine.client().round_done() && !self.world.stopped() {
                let now = self.turn();
                if now >= next_sample {
                    next_sample = now + self.timing.sample;
                    let opened = self.engine.counters().0.opened;
                    let rate = float(opened - last) / self.timing.sample.as_secs_f64();
                    last = opened;
                    self.tell("opening flows", now.since(start), rate, rate);
                }
            }
            let complete = |engine: &Engine<L>| engine.counters().0.opened >= wanted;
            // The last answers, and what is owed to them.
            let patience = Duration::from_millis(300);
            let all = self.one_way || self.turn_until(patience, complete);
            self.turn_until(patience, |engine| {
                engine.client().round_done() && !engine.has_unsent()
            });
            if all || self.world.stopped() {
                break;
            }
        }
        let now = self.world.now();
        self.engine.client_mut().begin(Job::Idle, Some(1.0), now);
        if self.one_way {
            self.engine.client_mut().declare(true);
        }
        let open = self.engine.client().open_flows();
        let (client, server) = self.engine.counters();
        let (client, server) = (client.since(&before.0), server.since(&before.1));
        if open == 0 {
            return Err(SessionError::NothingOpens {
                flows,
                sent: client.sent + client.control_sent,
                arrived: server.received + server.late + server.control_received,
                resets: client.resets,
            });
        }
        Ok(Opening {
            flows,
            open,
            seconds: now.since(start).as_secs_f64(),
        })
    }

    fn tell(&mut self, phase: &str, elapsed: Duration, sent: f64, received: f64) {
        let (client, server) = self.engine.counters();
        let latency = self.latency().summary();
        self.world.progress(&Progress {
            phase: phase.to_owned(),
            elapsed,
            sent_per_second: sent,
            received_per_second: received,
            outstanding: client.sent.saturating_sub(if self.one_way {
                server.received + server.late
            } else {
                client.received + client.late
            }),
            faulty: client.faulty + server.faulty,
            p50_ns: latency.p50_ns,
            p99_ns: latency.p99_ns,
        });
    }

    const fn latency(&self) -> &Latency {
        if self.one_way {
            self.engine.server().latency()
        } else {
            self.engine.client().latency()
        }
    }

    /// What was sent and came back since `before`.
    fn tally(&self, connections: bool, before: &(Counters, Counters)) -> (u64, u64) {
        let (client, server) = self.engine.counters();
        let (client, server) = (client.since(&before.0), server.since(&before.1));
        if connections {
            (client.started, client.closed)
        } else if self.one_way {
            (client.sent, server.received)
        } else {
            (client.sent, client.received)
        }
    }

    /// Sends for a while and counts what comes back.
    pub fn trial(&mut self, order: &Order) -> Trial {
        let connections = order.job == Job::Connect;
        if connections {
            self.engine.server_mut().let_flows_move();
            self.engine.client_mut().declare(false);
        }
        let before = self.engine.counters();
        let start = self.world.now();
        self.engine.client_mut().begin_trial(start);
        self.engine.server_mut().begin_trial(start);
        self.engine.client_mut().begin(order.job, order.rate, start);
        let mut samples = Vec::new();
        let mut sampled = (start, 0, 0);
        let mut now = start;
        while now.since(start) < order.duration && !self.world.stopped() {
            now = self.turn();
            if now.since(sampled.0) >= self.timing.sample {
                let seconds = now.since(sampled.0).as_secs_f64();
                let (sent, received) = self.tally(connections, &before);
                let rates = (
                    float(sent - sampled.1) / seconds,
                    float(received.saturating_sub(sampled.2)) / seconds,
                );
                sampled = (now, sent, received);
                samples.push(Sample {
                    seconds: now.since(start).as_secs_f64(),
                    sent_per_second: rates.0,
                    received_per_second: rates.1,
                });
                self.tell(&order.phase, now.since(start), rates.0, rates.1);
            }
        }
        let stopped = now.since(start) < order.duration;
        let seconds = now.since(start).as_secs_f64().max(1e-9);
        let not_offered = self.engine.client().forgiven();
        self.engine.client_mut().begin(Job::Idle, Some(1.0), now);
        let one_way = self.one_way;
        self.turn_until(self.timing.drain, |engine| {
            let (client, server) = engine.counters();
            let (client, server) = (client.since(&before.0), server.since(&before.1));
            let back = if connections {
                client.closed + client.failed >= client.started && engine.client().owes_nothing()
            } else if one_way {
                server.received >= client.sent
            } else {
                client.received >= client.sent
            };
            back && !engine.has_unsent()
        });
        let (sent, received) = self.tally(connections, &before);
        if connections {
            let unfinished = self.engine.client().unfinished();
            self.engine.client_mut().give_up(unfinished);
        }
        let (client, server) = self.engine.counters();
        let (client, server) = (client.since(&before.0), server.since(&before.1));
        let lost = sent.saturating_sub(received);
        let arrived = if connections { sent } else { server.received };
        Trial {
            phase: order.phase.clone(),
            connections,
            asked_per_second: order.rate,
            seconds,
            sent,
            sent_per_second: float(sent) / seconds,
            received,
            received_per_second: float(received) / seconds,
            sent_octets: client.sent_octets,
            lost,
            loss: float(lost) / float(sent.max(1)),
            lost_on_the_way_there: if self.engine.is_two_sided() {
                sent.saturating_sub(arrived)
            } else {
                0
            },
            not_offered,
            faulty: client.faulty + server.faulty,
            latency: self.latency().summary(),
            latency_there: self.engine.server().latency().summary(),
            latency_curve: self.latency().curve(),
            client,
            server,
            samples,
            stopped,
        }
    }

    /// Searches the highest rate without loss; each trial takes `duration`. `done` is shown each
    /// trial.
    pub fn search(
        &mut self,
        config: SearchConfig,
        job: Job,
        duration: Duration,
        mut done: impl FnMut(Trial),
    ) -> Found {
        let mut search = Search::new(config);
        while let Some(probe) = search.next() {
            if self.world.stopped() {
                break;
            }
            let rate = match probe {
                Probe::Unlimited => None,
                Probe::Rate(rate) => Some(rate),
            };
            let trial = self.trial(&Order {
                phase: "search".to_owned(),
                job,
                rate,
                duration,
            });
            // A trial cut short proves nothing.
            if !trial.stopped {
                search.record(Observation {
                    offered: trial.sent_per_second,
                    received: trial.received_per_second,
                    loss: if trial.sent == 0 { 1.0 } else { trial.loss },
                });
            }
            done(trial);
        }
        search.found()
    }

    /// Closes what is open, and says how many flows were closed.
    pub fn close(&mut self) -> u64 {
        let before = self.engine.counters().0.closed;
        for _ in 0..self.timing.open_attempts.max(1) {
            let open = self.engine.client().open_flows();
            if open == 0 && self.engine.client().unfinished() == 0 {
                break;
            }
            let now = self.world.now();
            let rate = self.timing.open_rate;
            self.engine.client_mut().begin(Job::Close, rate, now);
            let round = Duration::from_secs(1)
                + Duration::from_secs_f64(rate.map_or(1.0, |r| f64::from(open) / r));
            self.turn_until(round, |engine| engine.client().round_done());
            self.turn_until(Duration::from_millis(300), |engine| {
                engine.client().open_flows() == 0 && engine.client().unfinished() == 0
            });
            self.turn_until(Duration::from_millis(300), |engine| {
                engine.client().round_done() && !engine.has_unsent()
            });
        }
        let now = self.world.now();
        self.engine.client_mut().begin(Job::Idle, Some(1.0), now);
        self.engine.counters().0.closed - before
    }
}
