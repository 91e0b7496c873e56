//! How tmm is told to stop: at once, or when the established flows have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::{info, warn};

use super::RunError;
use crate::control::Control;
use crate::control::drain::Drained;

/// How often the log says how many flows are left.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Asked to stop, and how.
#[derive(Debug)]
pub struct Stop {
    at_once: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    limit: Duration,
    told_at: Timestamp,
}

impl Stop {
    /// Catches SIGTERM and SIGINT from here on. SIGTERM drains for `seconds`; if they are 0 it stops at
    /// once, as SIGINT does.
    pub fn catch(seconds: u32) -> Result<Self, RunError> {
        let stop = Self {
            at_once: Arc::default(),
            asked: Arc::default(),
            limit: Duration::from_secs(u64::from(seconds)),
            told_at: Timestamp::ZERO,
        };
        let on_term = if seconds == 0 {
            &stop.at_once
        } else {
            &stop.asked
        };
        for (signal, flag) in [(SIGTERM, on_term), (SIGINT, &stop.at_once)] {
            signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|source| {
                RunError::Io {
                    what: "catch signals",
                    source,
                }
            })?;
        }
        Ok(stop)
    }

    /// Set when everything is to end.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.at_once)
    }

    /// Whether everything is to end now. Begins the drain when it is asked for, and says how far it is.
    pub fn is_due(&mut self, control: &mut Control, now: Timestamp) -> bool {
        if self.at_once.load(Ordering::Relaxed) {
            return true;
        }
        if self.asked.swap(false, Ordering::Relaxed) {
            if control.is_draining() {
                warn!("asked to stop again: not waiting for the flows that are left");
                return true;
            }
            info!(
                limit_s = self.limit.as_secs(),
                "draining: no new flows are taken; tmm stops when those there are have ended"
            );
            control.start_drain(self.limit, now);
            self.told_at = now;
        }
        match control.drained(now) {
            None => false,
            Some(Drained::Empty) => {
                info!("drained: no flow is left");
                true
            }
            Some(Drained::TimeIsUp { flows_left }) => {
                warn!(
                    flows_left,
                    "the time to drain is up; the flows that are left are cut"
                );
                true
            }
            Some(Drained::NotYet { flows_left }) => {
                if now.since(self.told_at) >= PROGRESS_INTERVAL {
                    self.told_at = now;
                    info!(flows_left, "draining");
                }
                false
            }
        }
    }
}
