//! A whole tmm in memory: the control side, workers and memory ports, with the caller as clock and
//! wire. One thread runs the workers in turn. What replay, scenario tests, fuzzing and benches run; only the devices and threads are
//! missing.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use config::watch::{Hub, Output};
use config::{FieldError, ObjectState};
use lb::snat::PortStripe;
use net::{FlowKey, IpProto, Layers, MacAddr, Packet, PortId, Timestamp};
use serde_json::Value;
use vlan::resolver::ResolverConfig;

use crate::control::{Control, ControlConfig};
use crate::handoff::Crew;
use crate::journal::Journal;
use crate::memory::{MemoryFrame, MemoryPort, Wire};
use crate::pipeline::PipelineConfig;
use crate::steer::Steering;
use crate::tables::PortInfo;
use crate::verdict::Verdict;
use crate::worker::Worker;

/// How a rig is built.
#[derive(Debug, Clone)]
pub struct RigConfig {
    /// How many ports; port 1.n has the MAC address 02:74:6d:6d:00:0n.
    pub ports: u8,
    /// Which position of the self IP lists is ours.
    pub replica: usize,
    /// The most flows tracked.
    pub flow_capacity: usize,
    /// Keys every hash and random choice: the same seed and input give the same output.
    pub seed: u64,
    /// MTU of VLANs that name none, octets.
    pub default_mtu: u16,
    /// How many workers share the flows.
    pub workers: u16,
    /// How the ports spread frames over them.
    pub nic: Nic,
    /// See [`PipelineConfig::straight_way`].
    pub straight_way: bool,
    /// See [`PipelineConfig::icmp_errors_per_second`].
    pub icmp_errors_per_second: u32,
}

/// How a port spreads the frames it receives over its queues, one for each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nic {
    /// By the hash of addresses and ports, with the key it was given; what has no ports goes to the
    /// first queue.
    Tuple,
    /// By the hash of the source address.
    Source,
    /// By the hash of the destination address.
    Destination,
    /// One frame to each queue in turn: the worst there is.
    RoundRobin,
    /// It has but one queue in each direction: that of worker number "port modulo workers".
    OneQueue,
}

impl Default for RigConfig {
    fn default() -> Self {
        Self {
            ports: 2,
            replica: 0,
            flow_capacity: 65_536,
            seed: 1,
            default_mtu: 1500,
            workers: 1,
            nic: Nic::Tuple,
            straight_way: true,
            icmp_errors_per_second: crate::pipeline::ICMP_ERRORS_PER_SECOND,
        }
    }
}

/// Control side, workers and wires.
pub struct Rig {
    control: Control,
    workers: Vec<Worker<MemoryPort>>,
    /// By port, then worker.
    wires: Vec<Vec<Wire>>,
    steering: Arc<Steering>,
    nic: Nic,
    /// Frames sent so far.
    sent: Cell<usize>,
}

/// The MAC address of a rig's port.
pub const fn port_mac(port: PortId) -> MacAddr {
    MacAddr([0x02, 0x74, 0x6d, 0x6d, 0x00, port.0.wrapping_add(1)])
}

impl Rig {
    /// A rig without configuration.
    pub fn new(config: &RigConfig) -> Self {
        Self::with_stripe(config, PortStripe::whole())
    }

    /// A rig that translates to the source ports of `stripe`.
    pub fn with_stripe(config: &RigConfig, stripe: PortStripe) -> Self {
        let ports: Vec<PortInfo> = (0..config.ports)
            .map(|id| PortInfo {
                id: PortId(id),
                mac: port_mac(PortId(id)),
                mtu: 9000,
                inserts_tag: false,
            })
            .collect();
        let workers = config.workers.max(1);
        let control_config = ControlConfig {
            replica: config.replica,
            ports,
            default_mtu: config.default_mtu,
            workers,
            flows: config.flow_capacity * usize::from(workers),
            resolver: ResolverConfig {
                seed: config.seed,
                ..ResolverConfig::default()
            },
            batch: Duration::ZERO,
        };
        let control = Control::new(&control_config, Hub::default());
        let wires: Vec<Vec<Wire>> = (0..config.ports)
            .map(|_| (0..workers).map(|_| Wire::default()).collect())
            .collect();
        let steering = Arc::new(Steering::new(workers, config.seed));
        let senders = |me| {
            let one_queue = config.nic == Nic::OneQueue;
            let sender = |port| {
                if one_queue {
                    u16::from(port) % workers
                } else {
                    me
                }
            };
            (0..config.ports).map(sender).collect()
        };
        let crews = Crew::assemble(&steering, senders);
        let workers = (0..workers)
            .zip(crews)
            .zip(control.workers())
            .map(|((number, crew), shared)| {
                let pipeline = PipelineConfig {
                    worker: number,
                    stripe,
                    flow_capacity: config.flow_capacity,
                    seed: config.seed.wrapping_add(u64::from(number)),
                    hugetlb: false,
                    straight_way: config.straight_way,
                    icmp_errors_per_second: config.icmp_errors_per_second,
                };
                let queues = wires
                    .iter()
                    .filter_map(|queues| queues.get(usize::from(number)));
                let ports = queues.map(MemoryPort::new).collect();
                let worker = Worker::new(&pipeline, ports, shared.clone());
                if workers > 1 {
                    worker.with_crew(crew)
                } else {
                    worker
                }
            })
            .collect();
        Self {
            control,
            workers,
            wires,
            steering,
            nic: config.nic,
            sent: Cell::new(0),
        }
    }

    /// Applies objects, as `tmmctl apply` does. Nothing is published before the next
    /// [`advance`](Self::advance).
    ///
    /// Errors: what is wrong with the objects; those without error are applied all the same.
    pub fn apply(&mut self, objects: &[Value]) -> Result<(), Vec<FieldError>> {
        self.events(objects, "ADDED")
    }

    /// Deletes objects.
    ///
    /// Errors: as [`apply`](Self::apply).
    pub fn delete(&mut self, objects: &[Value]) -> Result<(), Vec<FieldError>> {
        self.events(objects, "DELETED")
    }

    fn events(&mut self, objects: &[Value], kind: &str) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        let hub = self.control.hub();
        let mut session = hub.open();
        for object in objects {
            let event = serde_json::json!({ "type": kind, "object": object });
            let mut out = Vec::new();
            session.feed(hub, format!("{event}\n").as_bytes(), &mut out);
            for output in out {
                if let Output::Line(line) = output
                    && let Ok(config::client::Response::Answer(answer)) =
                        serde_json::from_str(&line)
                {
                    errors.extend(answer.errors);
                }
            }
        }
        hub.close(&session);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Puts a frame on the wire of a port, to be taken by the next [`advance`](Self::advance).
    pub fn send(&self, port: PortId, frame: MemoryFrame) {
        let queue = self.queue(port, &frame);
        let wires = self.wires.get(usize::from(port.0));
        if let Some(wire) = wires.and_then(|queues| queues.get(queue)) {
            wire.send(frame);
        }
    }

    /// Which queue the device would put a frame into.
    fn queue(&self, port: PortId, frame: &MemoryFrame) -> usize {
        let workers = self.workers.len();
        let sent = self.sent.replace(self.sent.get().wrapping_add(1));
        let by_key = |worker: &dyn Fn(&FlowKey) -> u16| {
            let mut octets = frame.octets().to_vec();
            let len = octets.len();
            match Layers::parse(&Packet::new(&mut octets, 0, len, frame.rx)) {
                Ok(layers) if matches!(layers.key.proto, IpProto::TCP | IpProto::UDP) => {
                    usize::from(worker(&layers.key))
                }
                _ => 0,
            }
        };
        match self.nic {
            _ if workers == 1 => 0,
            Nic::Tuple => by_key(&|key| self.steering.of_tuple(key)),
            Nic::Source => by_key(&|key| self.steering.of_address(&key.src)),
            Nic::Destination => by_key(&|key| self.steering.of_address(&key.dst)),
            Nic::RoundRobin => sent % workers,
            Nic::OneQueue => usize::from(port.0) % workers,
        }
    }

    /// Takes the next frame that left by a port, those of the first worker first.
    pub fn receive(&self, port: PortId) -> Option<MemoryFrame> {
        let queues = self.wires.get(usize::from(port.0))?;
        queues.iter().find_map(Wire::receive)
    }

    /// The first worker's wire of a port.
    pub fn wire(&self, port: PortId) -> Option<&Wire> {
        self.wires.get(usize::from(port.0))?.first()
    }

    /// Runs control side and workers at the time `now` until none of them has anything to do.
    pub fn advance(&mut self, now: Timestamp) {
        self.advance_with(now, |_, _, _| {});
    }

    /// [`advance`](Self::advance); `seen` is shown each frame with its verdict, after the rewrite.
    pub fn advance_with(
        &mut self,
        now: Timestamp,
        mut seen: impl FnMut(PortId, &mut MemoryFrame, &Verdict),
    ) {
        // Frames lead to events, events to questions, questions to frames: a few rounds settle it. The
        // bound is against a mistake here, not against the input, which is finite.
        for _ in 0..10_000 {
            self.control.poll(now);
            let mut busy = 0;
            for worker in &mut self.workers {
                busy += worker.turn_with(now, &mut seen);
            }
            let input = self.wires.iter().flatten().any(Wire::has_input);
            if busy == 0 && !input && !self.control.has_work() {
                break;
            }
        }
    }

    /// One turn of one worker alone, as if the others stood still.
    pub fn turn(&mut self, worker: usize, now: Timestamp) -> usize {
        let worker = self.workers.get_mut(worker);
        worker.map_or(0, |worker| worker.turn(now))
    }

    /// The earliest time at which something happens by itself: a retry, an announcement, an expiry
    /// is not among them (flows end when time is [`advance`](Self::advance)d past them).
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.control.next_deadline()
    }

    /// The control side.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The control side, to feed it.
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    /// The first worker.
    ///
    /// # Panics
    /// Never: there is one at least.
    pub fn worker(&self) -> &Worker<MemoryPort> {
        &self.workers[0]
    }

    /// All workers.
    pub fn workers(&self) -> &[Worker<MemoryPort>] {
        &self.workers
    }

    /// Has the workers write down what happens to their flows, `room` entries each; flows that last are told of
    /// each `active_timeout`.
    pub fn keep_journals(&mut self, room: usize, active_timeout: Duration) -> Vec<Arc<Journal>> {
        let keep = |worker: &mut Worker<MemoryPort>| {
            let journal = Arc::new(Journal::with_room(room, active_timeout));
            worker.keep_journal(Arc::clone(&journal));
            journal
        };
        self.workers.iter_mut().map(keep).collect()
    }

    /// Which worker each packet belongs to.
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// How far each object has come.
    pub fn states(&self) -> &[ObjectState] {
        self.control.states()
    }
}
