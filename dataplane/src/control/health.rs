//! Whether the workers turn (*live*) and whether this replica forwards (*ready*).
//!
//! Live: every worker has turned lately. One that sleeps while idle turns too, several times a second. What is
//! not live does not get well by itself: it is to be started anew.
//!
//! Ready: live, and
//!
//! - there is a VLAN on which a self IP of this replica is programmed,
//! - no VLAN has self IPs for others only (*standby*: a part of the traffic would end here),
//! - of each VLAN with a self IP of ours, one port at least has a link,
//! - the workers use the newest configuration,
//! - the first self IP is there for [`SETTLE`], so that what was fed with it is there as well, and our
//!   addresses have been announced,
//! - nobody asked for an end ([`drain`](super::drain)).
//!
//! Not asked is whether pools have members that are up: a replica that answers for no virtual
//! server forwards all the same as soon as there is one, and would be no better for being started anew.

use std::time::Duration;

use net::{PortId, Timestamp};
use serde::Serialize;

use super::Control;
use super::show::Row;
use crate::worker::Shared;

/// A worker that has not turned for this long is stuck. Turns take microseconds, and sleeps a fraction of a second.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long workers may use an older configuration than the newest.
pub const BEHIND_AFTER: Duration = Duration::from_secs(2);

/// From the first self IP to readiness.
pub const SETTLE: Duration = Duration::from_secs(2);

/// How often the workers are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Workers turn.
    Live,
    /// This replica forwards.
    Ready,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to.
    pub probe: Probe,
    /// What was looked at, such as `worker 0`.
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// How it is, in one word that does not change.
    pub reason: &'static str,
    /// How it is, in a sentence.
    pub message: String,
}

/// What has been seen of the workers.
#[derive(Debug, Default)]
pub(super) struct Health {
    looked_at: Option<Timestamp>,
    pulses: Vec<Pulse>,
    /// Since when there is a self IP of ours.
    serving_since: Option<Timestamp>,
}

/// What has been seen of one worker.
#[derive(Debug, Default, Clone, Copy)]
struct Pulse {
    turns: u64,
    /// For how long it has not turned.
    still: Duration,
    /// For how long it has not used the newest configuration.
    behind: Duration,
}

impl Health {
    /// Looks at the workers, if it is time to. Only time in which this is called is counted: where the
    /// whole process stood still, no worker is to blame.
    pub(super) fn look(&mut self, workers: &[Shared], generation: u64, now: Timestamp) {
        let passed = match self.looked_at {
            Some(at) if now.since(at) < LOOK_INTERVAL => return,
            Some(at) => now.since(at).min(2 * LOOK_INTERVAL),
            None => Duration::ZERO,
        };
        self.looked_at = Some(now);
        self.pulses.resize(workers.len(), Pulse::default());
        for (worker, pulse) in workers.iter().zip(&mut self.pulses) {
            let turns = worker.counters.turns_total.get();
            pulse.still = if turns == pulse.turns {
                pulse.still + passed
            } else {
                Duration::ZERO
            };
            pulse.turns = turns;
            pulse.behind = if worker.counters.generation.get() == generation {
                Duration::ZERO
            } else {
                pulse.behind + passed
            };
        }
    }

    /// A configuration has been published, with self IPs of ours or without.
    pub(super) fn published(&mut self, serves: bool, now: Timestamp) {
        self.serving_since = match (serves, self.serving_since) {
            (true, None) => Some(now),
            (true, since) => since,
            (false, _) => None,
        };
    }
}

impl Control {
    /// Everything that was looked at, what is wrong among it.
    pub fn health(&self, now: Timestamp) -> Vec<Check> {
        let mut checks = Vec::new();
        for (number, pulse) in self.health.pulses.iter().enumerate() {
            checks.push(live(number, pulse.still));
        }
        self.check_vlans(&mut checks);
        if let Some(since) = self.health.serving_since
            && now.since(since) < SETTLE
        {
            let message = format!(
                "the first self IP has been there for {} ms; ready after {} ms",
                now.since(since).as_millis(),
                SETTLE.as_millis()
            );
            checks.push(unready("start", "Starting", message));
        }
        for (number, pulse) in self.health.pulses.iter().enumerate() {
            if pulse.behind >= BEHIND_AFTER {
                let message = format!(
                    "has not taken up the newest configuration for {} s",
                    pulse.behind.as_secs()
                );
                checks.push(unready(&format!("worker {number}"), "Behind", message));
            }
        }
        if let Some(drain) = &self.drain {
            checks.push(unready("drain", "Draining", drain.sentence(now)));
        }
        checks
    }

    pub(super) fn show_health(&self, now: Timestamp) -> Vec<Row> {
        let rows = self.health(now).into_iter().map(|check| {
            let row = serde_json::to_value(check).unwrap_or_default();
            row.as_object().cloned().unwrap_or_default()
        });
        rows.collect()
    }

    fn check_vlans(&self, checks: &mut Vec<Check>) {
        if self.config.vlans.is_empty() {
            let message =
                "no VLAN is configured yet: feed F5SPKVlan resources (tmmctl apply, tmmctl feed)";
            checks.push(unready(
                "configuration",
                "NoConfiguration",
                message.to_owned(),
            ));
            return;
        }
        let tables = self.tables();
        let mut serves = false;
        for wanted in &self.config.vlans {
            let check = format!("vlan {}", wanted.name);
            let vlan = tables.vlans.iter().find(|vlan| vlan.name == wanted.name);
            let Some(vlan) = vlan else {
                let message = "could not be programmed; tmmctl get vlan -A says why".to_owned();
                checks.push(unready(&check, "NotProgrammed", message));
                continue;
            };
            if vlan.self_ips.is_empty() {
                // One that has none for anybody is no reason to stand by.
                if wanted.subnets().next().is_some() {
                    let message = format!(
                        "has no self IP for replica {}: it stands by; list one address for each replica",
                        self.replica
                    );
                    checks.push(unready(&check, "Standby", message));
                }
                continue;
            }
            serves = true;
            let down = |port: &&PortId| !self.surroundings.links.is_up(**port);
            let dead: Vec<String> = vlan
                .ports
                .iter()
                .filter(down)
                .map(ToString::to_string)
                .collect();
            checks.push(match dead.len() {
                n if n == vlan.ports.len() => unready(
                    &check,
                    "LinkDown",
                    format!("no link on {}", dead.join(", ")),
                ),
                0 => ready(
                    &check,
                    "Serving",
                    "has a self IP of ours and a link".to_owned(),
                ),
                _ => ready(
                    &check,
                    "Serving",
                    format!(
                        "has a self IP of ours and a link, but none on {}",
                        dead.join(", ")
                    ),
                ),
            });
        }
        if !serves
            && checks
                .iter()
                .all(|check| check.probe == Probe::Live || check.ok)
        {
            let message =
                "no VLAN has a self IP for anybody: set selfip_v4s or selfip_v6s".to_owned();
            checks.push(unready("configuration", "NoSelfIp", message));
        }
    }
}

fn live(worker: usize, still: Duration) -> Check {
    let ok = still < STUCK_AFTER;
    Check {
        probe: Probe::Live,
        check: format!("worker {worker}"),
        ok,
        reason: if ok { "Turning" } else { "Stuck" },
        message: if ok {
            "turns".to_owned()
        } else {
            format!(
                "has not turned for {} s: tmm is to be started anew",
                still.as_secs()
            )
        },
    }
}

fn ready(check: &str, reason: &'static str, message: String) -> Check {
    Check {
        probe: Probe::Ready,
        check: check.to_owned(),
        ok: true,
        reason,
        message,
    }
}

fn unready(check: &str, reason: &'static str, message: String) -> Check {
    Check {
        ok: false,
        ..ready(check, reason, message)
    }
}
