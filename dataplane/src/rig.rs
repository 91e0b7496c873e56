//! A whole tmm in memory: the control side, one worker and memory ports, with the caller as clock and
//! wire. What replay, scenario tests, fuzzing and benches run; only the devices and threads are
//! missing.

use config::watch::{Hub, Output};
use config::{FieldError, ObjectState};
use lb::snat::PortStripe;
use net::{MacAddr, PortId, Timestamp};
use serde_json::Value;
use vlan::resolver::ResolverConfig;

use crate::control::{Control, ControlConfig};
use crate::memory::{MemoryFrame, MemoryPort, Wire};
use crate::pipeline::PipelineConfig;
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
}

impl Default for RigConfig {
    fn default() -> Self {
        Self {
            ports: 2,
            replica: 0,
            flow_capacity: 65_536,
            seed: 1,
            default_mtu: 1500,
        }
    }
}

/// Control side, worker and wires.
pub struct Rig {
    control: Control,
    worker: Worker<MemoryPort>,
    wires: Vec<Wire>,
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
        let control_config = ControlConfig {
            replica: config.replica,
            ports,
            default_mtu: config.default_mtu,
            workers: 1,
            resolver: ResolverConfig {
                seed: config.seed,
                ..ResolverConfig::default()
            },
            batch: std::time::Duration::ZERO,
        };
        let (control, shared) = Control::with_one_worker(&control_config, Hub::default());
        let wires: Vec<Wire> = (0..config.ports).map(|_| Wire::default()).collect();
        let pipeline = PipelineConfig {
            worker: 0,
            stripe,
            flow_capacity: config.flow_capacity,
            seed: config.seed,
        };
        let ports = wires.iter().map(MemoryPort::new).collect();
        let worker = Worker::new(&pipeline, ports, shared);
        Self {
            control,
            worker,
            wires,
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
        if let Some(wire) = self.wires.get(usize::from(port.0)) {
            wire.send(frame);
        }
    }

    /// Takes the next frame that left by a port.
    pub fn receive(&self, port: PortId) -> Option<MemoryFrame> {
        self.wires.get(usize::from(port.0))?.receive()
    }

    /// The wire of a port.
    pub fn wire(&self, port: PortId) -> Option<&Wire> {
        self.wires.get(usize::from(port.0))
    }

    /// Runs control side and worker at the time `now` until neither has anything to do.
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
            let busy = self.worker.turn_with(now, &mut seen);
            if busy == 0 && !self.wires.iter().any(Wire::has_input) && !self.control.has_work() {
                break;
            }
        }
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

    /// The worker.
    pub fn worker(&self) -> &Worker<MemoryPort> {
        &self.worker
    }

    /// How far each object has come.
    pub fn states(&self) -> &[ObjectState] {
        self.control.states()
    }
}
