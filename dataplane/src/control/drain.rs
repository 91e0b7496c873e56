//! The end that gives established flows time: no new flows, until none is left or time is up.
//!
//! New flows are dropped without a word, so that the client's next attempt finds whoever takes over.
//! Our addresses are still answered for, since the flows that go on need that; but they are not
//! defended: from the moment that another station announces one, it is no longer answered for here.

use std::time::Duration;

use crossbeam::channel::{Receiver, TryRecvError, bounded};
use net::Timestamp;
use tracing::info;
use vlan::resolver::Conflict;

use super::Control;
use crate::command::Command;

/// How often the flows that are left are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    until: Timestamp,
    flows_left: Option<u64>,
    counted_at: Option<Timestamp>,
    count: Option<Count>,
}

/// A count under way.
#[derive(Debug)]
struct Count {
    answers: Receiver<u64>,
    missing: usize,
    sum: u64,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Flows are left, or have not been counted yet.
    NotYet {
        /// How many, if they have been counted.
        flows_left: Option<u64>,
    },
    /// No flow is left that is not closed.
    Empty,
    /// The time is up.
    TimeIsUp {
        /// The flows that are cut, if they have been counted.
        flows_left: Option<u64>,
    },
}

impl Drain {
    pub(super) fn sentence(&self, now: Timestamp) -> String {
        let left = self.flows_left.map_or_else(
            || "flows are being counted".to_owned(),
            |flows| format!("flows left: {flows}"),
        );
        let seconds = self.until.since(now).as_secs();
        format!("tmm stops and takes no new flows; {left}, for {seconds} s at most")
    }
}

impl Control {
    /// Takes no new flows from now on, for `limit` at most. Once is enough.
    pub fn start_drain(&mut self, limit: Duration, now: Timestamp) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain {
            until: now + limit,
            flows_left: None,
            counted_at: None,
            count: None,
        });
        self.surroundings.draining = true;
        self.resolver.stop_defending();
        self.compile_anew = true;
    }

    /// Whether [`start_drain`](Self::start_drain) was called.
    pub const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// How far the drain has come; `None` if there is none.
    pub fn drained(&mut self, now: Timestamp) -> Option<Drained> {
        let workers_follow = {
            let newest = self.publisher.newest().generation;
            let follows = |w: &crate::worker::Shared| w.counters.generation.acquire() == newest;
            !self.compile_anew && self.workers.iter().all(follows)
        };
        let drain = self.drain.as_mut()?;
        if let Some(count) = &mut drain.count {
            loop {
                match count.answers.try_recv() {
                    Ok(flows) => {
                        count.sum += flows;
                        count.missing -= 1;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        if count.missing == 0 {
                            drain.flows_left = Some(count.sum);
                        }
                        drain.count = None;
                        break;
                    }
                }
            }
        }
        // Not before the workers know: a flow opened after it was counted would be lost.
        let due = drain
            .counted_at
            .is_none_or(|at| now.since(at) >= COUNT_INTERVAL);
        if workers_follow && due && drain.count.is_none() {
            drain.counted_at = Some(now);
            let (sender, answers) = bounded(self.workers.len());
            let asked = self.workers.iter().map(|worker| {
                let command = Command::CountOpen(sender.clone());
                worker.commands.push(command).is_ok()
            });
            // A count of some workers only is none.
            drain.count =
                (asked.filter(|asked| *asked).count() == self.workers.len()).then_some(Count {
                    missing: self.workers.len(),
                    answers,
                    sum: 0,
                });
        }
        let flows_left = drain.flows_left;
        Some(if flows_left == Some(0) {
            Drained::Empty
        } else if now >= drain.until {
            Drained::TimeIsUp { flows_left }
        } else {
            Drained::NotYet { flows_left }
        })
    }

    /// Another station uses an address of ours while we drain: it has taken over.
    pub(super) fn cede(&mut self, conflict: &Conflict) {
        if self
            .surroundings
            .ceded
            .insert((conflict.vlan, conflict.addr))
        {
            info!(
                address = %conflict.addr,
                vlan = self.vlan_name(conflict.vlan),
                mac = %conflict.mac,
                "another station has taken over an address; it is no longer answered for here"
            );
            self.compile_anew = true;
        }
    }
}
