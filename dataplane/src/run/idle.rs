//! What workers and the control thread do when there is nothing to do, and how they are woken.
//!
//! A worker polls as long as there is something, and a little longer. Then it waits: for a frame at any
//! of its ports, for somebody who has put work there (a command, a frame handed over), or for the time at
//! which flows may be due. While it polls nothing is attached to sockets or devices, so waiting costs
//! nothing where it does not happen. Where a port's driver tells nobody of frames (memif, and devices
//! DPDK has no interrupt of), the worker sleeps for short times instead.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use dpdk::{Alarm, RxQueue, WaitSet, Woken};
use net::Timestamp;
use tracing::warn;

use super::args::Idle;
use super::{RunError, clock};
use crate::bell::Bell;
use crate::dpdk_port::DpdkPort;
use crate::worker::{Shared, Worker};

/// How long a worker goes on polling in vain: a wait and its end cost some ten microseconds, so what
/// comes again sooner than this is not worth one.
const SPIN: Duration = Duration::from_micros(200);
/// The longest wait. Nothing depends on its end: it bounds what a wake-up that got lost can do.
const LONGEST: Duration = Duration::from_millis(100);
/// The longest wait for a device that has not been seen to wake anybody yet.
const ON_TRIAL: Duration = Duration::from_millis(1);
/// Waits in a row that ended without a wake-up though frames had come in, after which a device is not
/// relied on.
const STRIKES: u32 = 3;
/// The shortest and longest sleep where nothing wakes the worker: an eighth of the time since the last
/// frame, between these.
const NAP: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(500));
/// Idle turns before a worker that shall only sleep begins to, and for how long.
const IDLE_TURNS: u32 = 2_000;
const IDLE_SLEEP: Duration = Duration::from_micros(20);
/// Before a wait that ended with an error is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(1);
/// The control thread's waits: at most, and at least where something is due that is not its own to hasten.
const CONTROL_WAIT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A thread that others may have to wake.
#[derive(Debug)]
pub struct Sleeper {
    bell: CachePadded<Bell>,
    alarm: Alarm,
}

impl Sleeper {
    fn new() -> Result<Arc<Self>, RunError> {
        let alarm = Alarm::new().map_err(|source| RunError::Io {
            what: "make an event descriptor",
            source,
        })?;
        let bell = CachePadded::new(Bell::new());
        Ok(Arc::new(Self { bell, alarm }))
    }

    /// Wakes it if it sleeps: after work was put where it looks for it.
    #[inline]
    pub fn wake(&self) {
        if self.bell.must_ring() {
            self.alarm.raise();
        }
    }
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Sleepers {
    control: Arc<Sleeper>,
    workers: Vec<Arc<Sleeper>>,
}

impl Sleepers {
    /// For so many workers and the control thread.
    ///
    /// Errors: too few file descriptors.
    pub fn new(workers: u16) -> Result<Self, RunError> {
        Ok(Self {
            control: Sleeper::new()?,
            workers: (0..workers)
                .map(|_| Sleeper::new())
                .collect::<Result<_, _>>()?,
        })
    }

    /// Wakes every worker.
    pub fn wake_workers(&self) {
        self.workers.iter().for_each(|worker| worker.wake());
    }

    /// What the control thread must watch besides its own clients.
    pub fn control_alarm(&self) -> RawFd {
        self.control.alarm.as_raw_fd()
    }

    /// Has the control thread wait with `wait` for at most the time it is given, unless there is
    /// something to do.
    pub fn control_waits(
        &self,
        workers: &[Shared],
        due_in: Option<Duration>,
        wait: impl FnOnce(Duration),
    ) {
        self.control.bell.lie_down();
        let timeout = if workers.iter().any(|worker| !worker.events.is_empty()) {
            Duration::ZERO
        } else if workers.iter().any(|worker| !worker.commands.is_empty()) {
            // Frames may wait for room there.
            CONTROL_WAIT.0
        } else {
            due_in.map_or(CONTROL_WAIT.1, |due| {
                due.clamp(CONTROL_WAIT.0, CONTROL_WAIT.1)
            })
        };
        wait(timeout);
        if self.control.bell.rise() {
            self.control.alarm.lower();
        }
    }

    /// Waits where there is nothing else that the control thread waits for.
    pub fn control_wait(&self, timeout: Duration) {
        let mut set = WaitSet::new();
        set.add(self.control_alarm());
        set.wait(timeout);
    }

    /// Wakes the workers that there are commands for; all of them if `all`.
    pub fn hand_on(&self, workers: &[Shared], all: bool) {
        for (sleeper, shared) in self.workers.iter().zip(workers) {
            if all || !shared.commands.is_empty() {
                sleeper.wake();
            }
        }
    }
}

/// Whether interrupts can be relied on: a device may promise what it, or what it is attached to, does not keep.
#[derive(Debug, Default)]
struct Trial {
    /// Some queues wake by interrupts.
    interrupts: bool,
    /// One was seen to come.
    proved: bool,
    /// The last wait ended without a wake-up.
    timed_out: bool,
    strikes: u32,
}

/// What one worker does with its idle turns.
pub struct Idler {
    how: Idle,
    number: usize,
    sleepers: Sleepers,
    set: WaitSet,
    /// Of its ports' queues, when it was last found out what to wait for.
    changes: u64,
    /// Every receive queue wakes.
    all_wake: bool,
    trial: Trial,
    /// When there was something to do last.
    busy_at: Timestamp,
    idle_turns: u32,
    handed_out: u64,
    started: Instant,
}

impl Idler {
    /// Of the worker `number`. Its thread calls this, and all that follows.
    pub fn new(
        how: Idle,
        number: usize,
        worker: &mut Worker<DpdkPort>,
        sleepers: &Sleepers,
        started: Instant,
    ) -> Self {
        if how == Idle::Adaptive {
            dpdk::wait_precisely();
        }
        let mut idler = Self {
            how,
            number,
            sleepers: sleepers.clone(),
            set: WaitSet::new(),
            changes: 0,
            all_wake: true,
            trial: Trial::default(),
            busy_at: clock(started),
            idle_turns: 0,
            handed_out: 0,
            started,
        };
        idler.gather(worker);
        idler
    }

    /// Finds out what there is to wait for.
    fn gather(&mut self, worker: &mut Worker<DpdkPort>) {
        self.set = WaitSet::new();
        if let Some(sleeper) = self.sleepers.workers.get(self.number) {
            self.set.add(sleeper.alarm.as_raw_fd());
        }
        (self.all_wake, self.trial.interrupts) = (true, false);
        for queue in queues(worker) {
            match queue.wakeup() {
                Some(fd) => self.set.add(fd),
                None => self.all_wake &= !queue.may_receive(),
            }
            self.trial.interrupts |= queue.has_interrupt();
        }
        // A device that was not to be relied on before is not now.
        self.all_wake &= !(self.trial.interrupts && self.trial.strikes >= STRIKES);
    }

    /// How it waits, for the operator.
    pub const fn waits_for(&self) -> &'static str {
        match self.how {
            Idle::Spin => "polls always",
            Idle::Sleep => "sleeps",
            Idle::Adaptive if self.all_wake => "waits for frames",
            Idle::Adaptive => "sleeps, as a port has no wake-up",
        }
    }

    /// After a turn that found something to do: wakes those whom it has given work.
    #[inline]
    pub fn worked(&mut self, shared: &Shared, now: Timestamp) {
        self.busy_at = now;
        self.idle_turns = 0;
        if self.trial.timed_out {
            self.trial.timed_out = false;
            self.strike();
        }
        let handed_out = shared.counters.handoffs_out_packets.get();
        if handed_out != self.handed_out {
            self.handed_out = handed_out;
            for (number, sleeper) in self.sleepers.workers.iter().enumerate() {
                if number != self.number {
                    sleeper.wake();
                }
            }
        }
        if !shared.events.is_empty() {
            self.sleepers.control.wake();
        }
    }

    #[cold]
    fn strike(&mut self) {
        self.trial.strikes += 1;
        if self.trial.interrupts && self.all_wake && self.trial.strikes >= STRIKES {
            self.all_wake = false;
            warn!(
                worker = self.number,
                "frames came in without the interrupt that a port promised: the worker sleeps for short \
                 times instead of waiting for it. --idle spin saves the sleeps' delay"
            );
        }
    }

    /// After a turn that found nothing to do.
    #[inline]
    pub fn idle(&mut self, worker: &mut Worker<DpdkPort>, now: Timestamp, stop: &AtomicBool) {
        match self.how {
            Idle::Spin => {}
            Idle::Sleep => {
                self.idle_turns = self.idle_turns.saturating_add(1);
                if self.idle_turns > IDLE_TURNS {
                    std::thread::sleep(IDLE_SLEEP);
                }
            }
            Idle::Adaptive => {
                if now.since(self.busy_at) >= SPIN {
                    self.wait(worker, now, stop);
                }
            }
        }
    }

    #[cold]
    fn wait(&mut self, worker: &mut Worker<DpdkPort>, now: Timestamp, stop: &AtomicBool) {
        self.trial.timed_out = false;
        // A port that was restarted has other queues.
        let changes = worker.ports_mut().iter().map(DpdkPort::changes).sum();
        if self.changes != changes {
            self.changes = changes;
            self.gather(worker);
        }
        let patience = worker.patience(now);
        let Some(sleeper) = self.sleepers.workers.get(self.number).map(Arc::clone) else {
            return;
        };
        if patience.is_zero() {
            return;
        }
        let mut timeout = if !self.all_wake {
            (now.since(self.busy_at) / 8).clamp(NAP.0, NAP.1)
        } else if self.trial.interrupts && !self.trial.proved {
            ON_TRIAL
        } else {
            LONGEST
        };
        sleeper.bell.lie_down();
        if worker.has_input() || stop.load(Ordering::Relaxed) {
            sleeper.bell.rise();
            return;
        }
        if self.trial.interrupts && self.all_wake {
            if !queues(worker).all(RxQueue::arm) {
                timeout = timeout.min(NAP.1);
            }
            // What came in before they were armed raises no interrupt.
            let now = clock(self.started);
            if worker.turn(now) > 0 {
                queues(worker).for_each(RxQueue::disarm);
                sleeper.bell.rise();
                self.worked(worker.shared(), now);
                return;
            }
        }
        let woken = self.set.wait(timeout.min(patience));
        let rung = sleeper.bell.rise();
        if rung || woken == Woken::Ready {
            sleeper.alarm.lower();
        }
        if self.trial.interrupts && self.all_wake {
            queues(worker).for_each(RxQueue::disarm);
        }
        match woken {
            Woken::Ready => {
                if self.all_wake {
                    self.trial.strikes = 0;
                }
                self.trial.proved |= !rung;
            }
            Woken::Timeout => self.trial.timed_out = self.trial.interrupts && !rung,
            Woken::Failed => std::thread::sleep(AFTER_FAILURE),
        }
    }
}

fn queues(worker: &mut Worker<DpdkPort>) -> impl Iterator<Item = &mut RxQueue> {
    worker.ports_mut().iter_mut().filter_map(DpdkPort::rx_queue)
}
