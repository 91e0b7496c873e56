//! How long the slowest bursts take, in quiet and while flows come and go and the configuration is
//! swapped, and while millions of flows end that are due at the same moment.
//!
//! Each turn of 32 frames is timed by itself with the processor's counter. Where the thread was off
//! the CPU meanwhile (the counter went on, its CPU time did not), the turn and the next 64 are left
//! out: another process had the core and its caches. What the host takes from this machine is in the
//! figures, and so are interrupts; a stretch of arithmetic of some microseconds, timed in the same
//! way, shows what those are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use dataplane::pipeline::Pipeline;
use dataplane::port::BURST;
use dataplane::worker::Shared;
use net::Timestamp;

use crate::clock::{Ticks, stolen_ms, thread_cpu_ns};
use crate::harness::Bench;
use crate::row::Sink;
use crate::site::{Layout, Site, Traffic};
use crate::stats::{float, rank, ratio};

/// Flows opened in a second, and ended.
const CHURN: u64 = 100_000;
/// How long a flow that nobody answers lives, seconds.
const OPENING: u64 = 30;
/// After so long all of these are due.
const STORM: Duration = Duration::from_secs(2 * OPENING + 60);
/// Time between two configurations.
const SWAP: Duration = Duration::from_millis(100);
/// Virtual servers of the configuration that is swapped.
const VIRTUAL_SERVERS: u32 = 100;

/// Measures it.
///
/// Errors: a frame that is not forwarded, which would be a mistake here.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    let ticks = Ticks::calibrate();
    floor(sink, ticks)?;
    for flows in sink.sizes(&[65_536, 1_000_000]) {
        one_size(sink, ticks, flows)?;
    }
    Ok(())
}

fn one_size(sink: &mut Sink<'_>, ticks: Ticks, flows: u64) -> Result<(), String> {
    let count = usize::try_from(flows).map_err(|error| error.to_string())?;
    let churning = usize::try_from(CHURN * (OPENING + 2)).map_err(|error| error.to_string())?;
    let layout = Layout {
        virtual_servers: VIRTUAL_SERVERS,
        members: 256,
        ..Layout::for_flows(Traffic::TCP4, count)
    };
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = Arc::new(AtomicBool::new(false));
    let swaps = Arc::new(AtomicU64::new(0));
    let (send, receive) = sync_channel(1);
    let control = std::thread::spawn({
        let (stop, swapping, swaps) =
            (Arc::clone(&stop), Arc::clone(&swapping), Arc::clone(&swaps));
        move || control_side(layout, count + churning, &send, &stop, &swapping, &swaps)
    });
    let measured = receive
        .recv()
        .map_err(|_| "the control side did not start".to_owned())
        .and_then(|ready: Ready| {
            let mut bench = Bench::around(ready.pipeline, layout, ready.now);
            bench.establish(count)?;
            let mut scene = Scene {
                bench,
                shared: ready.shared,
                ticks,
                flows,
            };
            scene.measure(sink, "steady", false)?;
            swapping.store(true, Ordering::Relaxed);
            let before = swaps.load(Ordering::Relaxed);
            scene.measure(sink, "swap", false)?;
            swapping.store(false, Ordering::Relaxed);
            // As many as there are after half a minute of that rate.
            let from = scene.bench.now();
            let to = from + Duration::from_secs(OPENING);
            scene.bench.open_over(CHURN * OPENING, from, to)?;
            scene.measure(sink, "churn", true)?;
            swapping.store(true, Ordering::Relaxed);
            scene.measure(sink, "churn+swap", true)?;
            swapping.store(false, Ordering::Relaxed);
            // What was opened and not answered, three million flows and more, is due at once.
            let waiting = scene.bench.len();
            scene.bench.pass(STORM);
            scene.measure(sink, "storm", false)?;
            let ended = waiting.saturating_sub(scene.bench.len());
            sink.single("storm/ended", flows, "flows", float(ended as u64));
            let done = swaps.load(Ordering::Relaxed) - before;
            sink.single("swaps", flows, "configurations", float(done));
            Ok(())
        });
    stop.store(true, Ordering::Relaxed);
    let ended = control.join().map_err(|_| "the control side panicked")?;
    measured.and(ended)
}

struct Ready {
    pipeline: Pipeline,
    shared: Shared,
    now: Timestamp,
}

/// Programs the network, then swaps the configuration whenever it is asked to.
fn control_side(
    layout: Layout,
    capacity: usize,
    ready: &std::sync::mpsc::SyncSender<Ready>,
    stop: &AtomicBool,
    swapping: &AtomicBool,
    swaps: &AtomicU64,
) -> Result<(), String> {
    let mut site = Site::new(layout)?;
    let sent = ready.send(Ready {
        pipeline: site.pipeline(0, capacity)?,
        shared: site.shared(0)?.clone(),
        now: site.now(),
    });
    if sent.is_err() {
        return Ok(());
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if swapping.load(Ordering::Relaxed) {
            round += 1;
            site.swap(round)?;
            swaps.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(SWAP.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

struct Scene {
    bench: Bench,
    shared: Shared,
    ticks: Ticks,
    flows: u64,
}

impl Scene {
    fn measure(&mut self, sink: &mut Sink<'_>, case: &str, churn: bool) -> Result<(), String> {
        let run_for = Duration::from_secs(sink.effort().seconds);
        let base = self.bench.now();
        let stolen = stolen_ms();
        let start = Instant::now();
        let mut bursts: Vec<u64> = Vec::with_capacity(1 << 22);
        let mut opened = 0;
        let mut watch = Watch::new(self.ticks);
        while start.elapsed() < run_for && bursts.len() < bursts.capacity() {
            let passed = start.elapsed();
            let due = u64::try_from(passed.as_micros()).unwrap_or(0) * CHURN / 1_000_000;
            let mut opens = if churn {
                usize::try_from(due - opened).unwrap_or(0).min(BURST)
            } else {
                0
            };
            let asked = opens;
            let took =
                self.bench
                    .timed_turn(base + passed, &mut opens, Some(&self.shared.publisher))?;
            opened += (asked - opens) as u64;
            bursts.extend(watch.judge(took));
        }
        let stolen = stolen_ms() - stolen;
        let name = format!("{case}/{}", self.flows);
        if churn {
            let per_second = ratio(
                opened * 1000,
                u64::try_from(start.elapsed().as_millis()).unwrap_or(1),
            );
            sink.single(
                format!("{case}/opened"),
                self.flows,
                "flows per second",
                per_second,
            );
        }
        report(
            sink,
            case,
            &name,
            self.flows,
            bursts,
            (watch.left_out, stolen),
        )
    }
}

/// Percentiles of the bursts.
fn report(
    sink: &mut Sink<'_>,
    case: &str,
    name: &str,
    flows: u64,
    mut bursts: Vec<u64>,
    (left_out, stolen): (u64, u64),
) -> Result<(), String> {
    // The first are those of a cold start.
    bursts.drain(..bursts.len().min(1000));
    bursts.sort_unstable();
    let at = |permille| rank(&bursts, permille).map(float).ok_or("no bursts");
    let (p50, p99, p999) = (at(500)?, at(990)?, at(999)?);
    let worst = at(1000)?;
    eprintln!(
        "  {name}: p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} max {worst:.0} ns, {} bursts, {left_out} left out, {stolen} ms stolen",
        bursts.len()
    );
    for (what, value) in [("p50", p50), ("p99", p99), ("p99.9", p999), ("max", worst)] {
        sink.single(format!("{case}/{what}"), flows, "ns per burst", value);
    }
    sink.single(
        format!("{case}/p99.9-of-median"),
        flows,
        "times",
        p999 / p50.max(1.0),
    );
    let share = 100.0 * ratio(left_out, left_out + bursts.len() as u64);
    sink.single(format!("{case}/left-out"), flows, "%", share);
    sink.single(format!("{case}/stolen"), flows, "ms", float(stolen));
    Ok(())
}

/// Bursts that are left out after the thread was off the CPU: what ran meanwhile has taken the caches.
const COLD: u32 = 64;
/// How much the two clocks may differ, ns, without the thread having been off the CPU.
const APART: u64 = 4_000;

/// Notices when the thread lost the CPU to another.
struct Watch {
    ticks: Ticks,
    /// When the last burst ended, by the counter and by the thread's CPU time.
    last: (u64, u64),
    cold: u32,
    left_out: u64,
}

impl Watch {
    fn new(ticks: Ticks) -> Self {
        Self {
            ticks,
            last: (Ticks::now(), thread_cpu_ns()),
            cold: 0,
            left_out: 0,
        }
    }

    /// Nanoseconds of a burst that just ended and took that many ticks; `None` if the thread was off
    /// the CPU in it or shortly before.
    #[inline]
    fn judge(&mut self, took: u64) -> Option<u64> {
        let now = (Ticks::now(), thread_cpu_ns());
        let wall = self.ticks.nanos(now.0.wrapping_sub(self.last.0));
        if wall > now.1 - self.last.1 + APART {
            self.cold = COLD;
        }
        self.last = now;
        if self.cold > 0 {
            self.cold -= 1;
            self.left_out += 1;
            return None;
        }
        Some(self.ticks.nanos(took))
    }
}

/// What the machine itself does to stretches of some microseconds without memory accesses.
fn floor(sink: &mut Sink<'_>, ticks: Ticks) -> Result<(), String> {
    let run_for = Duration::from_secs(sink.effort().seconds);
    let stolen = stolen_ms();
    let start = Instant::now();
    let mut watch = Watch::new(ticks);
    let mut bursts = Vec::with_capacity(1 << 22);
    while start.elapsed() < run_for && bursts.len() < bursts.capacity() {
        let begun = Ticks::now();
        let mut sum = 1u64;
        // A chain of multiplications: three cycles each.
        for i in 0..2500u64 {
            sum = std::hint::black_box(sum.wrapping_mul(i | 1));
        }
        let took = Ticks::now().wrapping_sub(begun);
        bursts.extend(watch.judge(took));
    }
    let stolen = stolen_ms() - stolen;
    report(sink, "floor", "floor", 0, bursts, (watch.left_out, stolen))
}
