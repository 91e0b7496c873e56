//! The threads of the workers: where they run, how they start and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};
use dpdk::Eal;
use tracing::debug;

use super::args::Idle;
use super::idle::{Idler, Sleepers};
use super::{RunError, clock};
use crate::counters::WorkerCounters;
use crate::dpdk_port::DpdkPort;
use crate::worker::Worker;

/// A worker and what it counts.
pub type Member = (Worker<DpdkPort>, Arc<WorkerCounters>);

/// How workers run.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What they do when there is nothing to do.
    pub idle: Idle,
    /// Who is woken by whom.
    pub sleepers: Sleepers,
    /// The clock's zero.
    pub started: Instant,
    /// Set when all are to end.
    pub stop: Arc<AtomicBool>,
    /// The CPU of each, by worker; those without one go where the kernel puts them.
    pub cpus: Vec<Option<usize>>,
}

/// The running workers.
#[derive(Debug)]
pub struct Team(Vec<JoinHandle<Result<(), RunError>>>);

impl Team {
    /// Starts all of them, and waits until each has begun.
    ///
    /// Errors: why one could not; the others have ended by then.
    pub fn start(members: Vec<Member>, eal: &Eal, terms: &Terms) -> Result<Self, RunError> {
        let (begun, begins) = bounded(members.len());
        let expected = members.len();
        let mut team = Self(Vec::with_capacity(expected));
        for (number, member) in members.into_iter().enumerate() {
            match spawn(number, member, eal, terms, begun.clone()) {
                Ok(thread) => team.0.push(thread),
                Err(error) => {
                    terms.stop.store(true, Ordering::Relaxed);
                    terms.sleepers.wake_workers();
                    let _ = team.join();
                    return Err(error);
                }
            }
        }
        drop(begun);
        if begins.iter().take(expected).count() < expected {
            // One ended before its first turn, and says why.
            terms.stop.store(true, Ordering::Relaxed);
            return Err(team.join().err().unwrap_or_else(lost));
        }
        Ok(team)
    }

    /// Whether one has ended.
    pub fn is_short(&self) -> bool {
        self.0.iter().any(JoinHandle::is_finished)
    }

    /// Waits until all have ended.
    ///
    /// Errors: the first that one ended with.
    pub fn join(self) -> Result<(), RunError> {
        let ended: Vec<_> = self.0.into_iter().map(JoinHandle::join).collect();
        ended
            .into_iter()
            .try_for_each(|outcome| outcome.unwrap_or_else(|_| Err(lost())))
    }
}

fn lost() -> RunError {
    RunError::Usage(
        "a worker ended unexpectedly, which is a fault of tmm: start it again, and report what the log says \
         before this"
            .to_owned(),
    )
}

fn spawn(
    number: usize,
    (mut worker, counters): Member,
    eal: &Eal,
    terms: &Terms,
    begun: Sender<()>,
) -> Result<JoinHandle<Result<(), RunError>>, RunError> {
    let (eal, terms) = (eal.clone(), terms.clone());
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            if let Some(cpu) = terms.cpus.get(number).copied().flatten() {
                dpdk::pin_to_cpu(cpu)?;
            }
            let guard = eal.register_thread()?;
            debug!(worker = number, lcore = guard.lcore_id(), "worker runs");
            let _ = begun.send(());
            drop(begun);
            let mut idler = Idler::new(
                terms.idle,
                number,
                &mut worker,
                &terms.sleepers,
                terms.started,
            );
            debug!(worker = number, when_idle = idler.waits_for());
            let mut busy_since = None;
            while !terms.stop.load(Ordering::Relaxed) {
                let now = clock(terms.started);
                // The clock is read once per turn: a turn lasts until the next one begins.
                if let Some(since) = busy_since.take() {
                    let nanos = now.since(since).as_nanos();
                    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
                    counters.busy_nanos_total.add(nanos);
                }
                if worker.turn(now) > 0 {
                    busy_since = Some(now);
                    idler.worked(worker.shared(), now);
                } else {
                    idler.idle(&mut worker, now, &terms.stop);
                }
            }
            worker.close_journal();
            // Mbufs go back while this thread is still known to DPDK.
            drop(worker);
            drop(guard);
            Ok(())
        })
        .map_err(|source| RunError::Io {
            what: "start a worker thread",
            source,
        })
}
