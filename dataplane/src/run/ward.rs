//! The ports' devices under care: their events and symptoms, and what recovery does to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use dpdk::{Answer, EthPort, PortSpec};
use net::{MacAddr, PortId};
use tracing::{debug, error, info, warn};

use super::lanes::Lanes;
use super::recovery::{News, Outcome, Patient, Recovery, Symptom};
use crate::command::Command;
use crate::dpdk_port::Dock;
use crate::worker::Shared;

/// A device with what comes of its restart.
type Restarted = (EthPort, Result<Answer, dpdk::Error>);

/// One port's device: here, being restarted by a thread of its own, or gone.
#[derive(Debug)]
pub struct Ward {
    id: PortId,
    spec: PortSpec,
    device: Option<EthPort>,
    restart: Option<JoinHandle<Restarted>>,
    lanes: Lanes,
    docks: Vec<Arc<Dock>>,
    recovery: Recovery,
    /// What it was told to take in of multicast.
    groups: BTreeSet<MacAddr>,
}

/// What became of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Its link is to be looked at.
    pub look: bool,
    /// Nothing passes any more.
    pub down: bool,
    /// It was set up anew, and lets in nothing but its own address.
    pub fresh: bool,
}

impl Ward {
    /// A started port whose queues are with the workers of `docks`.
    pub fn new(id: PortId, device: EthPort, lanes: Lanes, docks: Vec<Arc<Dock>>) -> Self {
        Self {
            id,
            spec: device.device().spec().clone(),
            recovery: Recovery::new(Instant::now(), device.probe()),
            device: Some(device),
            restart: None,
            groups: BTreeSet::new(),
            lanes,
            docks,
        }
    }

    /// What the port was opened by.
    pub const fn spec(&self) -> &PortSpec {
        &self.spec
    }

    /// Which queues each worker has.
    pub const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The device, if the port is well. Else it is stopped, or in pieces after a restart that failed, and
    /// must not be asked anything.
    pub fn device(&self) -> Option<&EthPort> {
        self.device.as_ref().filter(|_| self.is_well())
    }

    /// The same, to be changed.
    pub fn device_mut(&mut self) -> Option<&mut EthPort> {
        let well = self.is_well();
        self.device.as_mut().filter(|_| well)
    }

    /// Whether a thread is at work on the device: no other device can be asked anything meanwhile.
    pub const fn is_away(&self) -> bool {
        self.restart.is_some()
    }

    /// Whether frames can pass.
    pub fn is_well(&self) -> bool {
        self.recovery.is_well()
    }

    /// `restarting` or `removed`, for a port that is not well.
    pub fn trouble(&self) -> Option<&'static str> {
        match () {
            () if self.recovery.is_gone() => Some("removed"),
            () if self.recovery.is_well() => None,
            () => Some("restarting"),
        }
    }

    /// How often the port was restarted.
    pub const fn restarts_total(&self) -> u64 {
        self.recovery.restarts_total()
    }

    /// Has the device take in these multicast groups.
    pub fn listen(&mut self, groups: &BTreeSet<MacAddr>) {
        let Some(device) = self.device().filter(|_| self.groups != *groups) else {
            return;
        };
        let list: Vec<MacAddr> = groups.iter().copied().collect();
        match device.set_multicast(&list) {
            Ok(()) => debug!(port = %self.id, groups = list.len(), "multicast groups taken in"),
            Err(error) => warn!(
                port = %self.id,
                %error,
                groups = list.len(),
                "the device does not take in the multicast groups of our IPv6 addresses: neighbours may \
                 not find them. Trust the virtual function (`ip link set PF vf N trust on`)"
            ),
        }
        self.groups.clone_from(groups);
    }

    /// Asks after its health, where the device does not tell.
    pub fn examine(&mut self, now: Instant) -> Change {
        let Some(answer) = self.device().map(EthPort::probe) else {
            return Change::default();
        };
        let symptom = self.recovery.judge(answer);
        symptom.map_or_else(Change::default, |symptom| self.fall_ill(symptom, now))
    }

    /// Hears what the device tells and goes on with what is under way.
    pub fn tend(&mut self, workers: &[Shared], now: Instant) -> Change {
        let mut change = Change::default();
        if let Some(device) = &self.device {
            let events = device.take_events();
            change.look = events.link;
            if events.removed {
                self.recovery.pull_out();
                change.down = true;
            } else if events.reset {
                change.down = self.fall_ill(Symptom::Reset, now).down;
            }
        }
        let Self {
            id,
            device,
            restart,
            lanes,
            docks,
            recovery,
            ..
        } = self;
        let id = *id;
        let mut bed = Bed {
            id,
            device,
            restart,
            lanes,
            docks,
            workers,
        };
        match recovery.poll(&mut bed, now) {
            Some(News::Back(after)) => {
                let (resets, after_ms) = (recovery.restarts_total(), after.as_millis());
                info!(port = %id, after_ms, resets, "the port is back");
                change.look = true;
                change.fresh = true;
                self.groups.clear();
            }
            Some(News::Failed(why)) => {
                warn!(port = %id, why, "the port does not come back yet; it is tried again");
            }
            Some(News::Gone) => {
                change.down = true;
                error!(
                    port = %id,
                    device = %self.spec,
                    "the device was taken away: tmm goes on without this port; start it again when the \
                     device is back"
                );
            }
            Some(News::Parked(_)) | None => {}
        }
        change
    }

    fn fall_ill(&mut self, symptom: Symptom, now: Instant) -> Change {
        let news = self.recovery.fall_ill(symptom, now);
        let down = news.is_some();
        if down {
            warn!(port = %self.id, reason = symptom.text(), "the port is restarted");
        }
        Change {
            down,
            ..Change::default()
        }
    }

    /// The device, to be stopped. Waits for a restart that is under way.
    pub fn into_device(self) -> Option<EthPort> {
        let Self {
            device,
            restart,
            docks,
            ..
        } = self;
        // What lies there belongs to the device.
        drop(docks);
        let restarted = restart.and_then(|thread| thread.join().ok());
        device.or(restarted.map(|(device, _)| device))
    }
}

/// What of a ward its treatment needs.
struct Bed<'w> {
    id: PortId,
    device: &'w mut Option<EthPort>,
    restart: &'w mut Option<JoinHandle<Restarted>>,
    lanes: &'w Lanes,
    docks: &'w [Arc<Dock>],
    workers: &'w [Shared],
}

impl Bed<'_> {
    /// Tells every worker, or none.
    fn tell(&self, command: impl Fn(PortId) -> Command) -> bool {
        let rings = || self.workers.iter().map(|worker| &worker.commands);
        // This thread alone puts commands there, so what is free stays free.
        rings().all(|ring| !ring.is_full())
            && rings().all(|ring| ring.push(command(self.id)).is_ok())
    }
}

impl Patient for Bed<'_> {
    fn park(&mut self) -> bool {
        self.tell(Command::Park)
    }

    fn is_parked(&mut self) -> bool {
        if !self.docks.iter().all(|dock| dock.is_taken()) {
            return false;
        }
        for dock in self.docks {
            drop(dock.take());
        }
        true
    }

    fn restart(&mut self) {
        let Some(mut device) = self.device.take() else {
            return;
        };
        let work = move || {
            let outcome = device.restart().map(|()| device.probe());
            (device, outcome)
        };
        let thread = std::thread::Builder::new().name("restart".to_owned());
        match thread.spawn(work) {
            Ok(thread) => *self.restart = Some(thread),
            // The closure went with the device in it, which closed it.
            Err(error) => error!(port = %self.id, %error, "no thread to restart the port in"),
        }
    }

    fn outcome(&mut self) -> Option<Outcome> {
        let lost = || Outcome::Failed("the device is lost; start tmm again".to_owned());
        match self.restart.take() {
            None => Some(lost()),
            Some(thread) if !thread.is_finished() => {
                *self.restart = Some(thread);
                None
            }
            Some(thread) => Some(match thread.join() {
                Err(_) => lost(),
                Ok((device, outcome)) => {
                    *self.device = Some(device);
                    outcome
                        .map_or_else(|error| Outcome::Failed(error.to_string()), Outcome::Started)
                }
            }),
        }
    }

    fn resume(&mut self) -> bool {
        let Some(device) = self.device.as_mut() else {
            return false;
        };
        match device.split() {
            Ok((rx, tx)) => {
                for (dock, queues) in self.docks.iter().zip(self.lanes.deal(rx, tx)) {
                    dock.put(queues);
                }
            }
            // They are in the docks since the last try.
            Err(dpdk::Error::PortState { .. }) => {}
            Err(_) => return false,
        }
        self.tell(Command::Resume)
    }

    fn remove(&mut self) {
        *self.device = None;
    }
}

#[cfg(test)]
#[path = "ward_tests.rs"]
mod tests;
