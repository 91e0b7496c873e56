//! Two workers beside one: what they share shows as CPU time per packet.
//!
//! Each worker has a thread, a pipeline and flows of its own, and shares with the other what the
//! workers of one tmm share: tables, neighbours, counters. Beside it, two pipelines of two separate
//! networks, which share nothing but the machine: what is lost there is lost to its memory and its
//! core, not to ours.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use dataplane::port::BURST;

use crate::clock::thread_cpu_ns;
use crate::harness::{Bench, Mix, Work};
use crate::row::Sink;
use crate::site::{Layout, Site, Traffic};
use crate::stats::{Summary, ratio};

/// Flows of each worker.
const FLOWS: [u64; 2] = [1_000, 1_000_000];
/// Rounds of one, two and two apart, in turn.
const ROUNDS: usize = 9;

/// Measures it.
///
/// Errors: a frame that is not forwarded, which would be a mistake here.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    for flows in sink.sizes(&FLOWS) {
        one_size(sink, flows)?;
    }
    Ok(())
}

fn one_size(sink: &mut Sink<'_>, flows: u64) -> Result<(), String> {
    let count = usize::try_from(flows).map_err(|error| error.to_string())?;
    let layout = Layout {
        workers: 2,
        ..Layout::for_flows(Traffic::TCP4, count)
    };
    let site = Site::new(layout)?;
    let alone = Site::new(layout)?;
    let mut sharing = Vec::new();
    for worker in 0..2 {
        sharing.push(established(&site, worker, count)?);
    }
    let mut apart = established(&alone, 1, count)?;
    let round = Duration::from_millis(sink.effort().seconds * 1000 / ROUNDS as u64);
    let mut columns: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        let [first, second] = sharing.as_mut_slice() else {
            return Err("there are not two workers".to_owned());
        };
        let one = measure(&mut [&mut *first], round)?;
        let two = measure(&mut [&mut *first, &mut *second], round)?;
        let unshared = measure(&mut [&mut *first, &mut apart], round)?;
        // Packets per CPU second of both together, over those of the one.
        let times = 2.0 * one / two;
        for (column, value) in columns.iter_mut().zip([one, two, unshared, times]) {
            column.push(value);
        }
    }
    let cases = [
        ("one-worker", "ns per packet"),
        ("two-workers", "ns per packet"),
        ("two-apart", "ns per packet"),
        ("two-of-one", "times"),
    ];
    for (column, (case, unit)) in columns.iter().zip(cases) {
        let summary = Summary::of(column).ok_or("no rounds")?;
        eprintln!("  {case} {flows}: {:.2} {unit}", summary.median);
        sink.put(case, flows, unit, summary);
    }
    Ok(())
}

fn established(site: &Site, worker: u16, flows: usize) -> Result<Bench, String> {
    let mut bench = Bench::at(site, worker, flows)?;
    bench.establish(flows)?;
    Ok(bench)
}

/// CPU nanoseconds per packet of several threads at once, one for each bench, making the frames
/// included.
fn measure(benches: &mut [&mut Bench], round: Duration) -> Result<f64, String> {
    let barrier = Arc::new(Barrier::new(benches.len()));
    let outcomes: Vec<Result<(u64, u64), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = benches
            .iter_mut()
            .map(|bench| {
                let barrier = Arc::clone(&barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let (begun, start) = (Instant::now(), thread_cpu_ns());
                    let mut packets = 0;
                    while begun.elapsed() < round {
                        bench.time_established(Mix::Both, Work::Process, 64)?;
                        packets += 64 * BURST as u64;
                    }
                    Ok((thread_cpu_ns() - start, packets))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a worker panicked".to_owned()))
            })
            .collect()
    });
    let (mut spent, mut packets) = (0, 0);
    for outcome in outcomes {
        let (ns, count) = outcome?;
        spent += ns;
        packets += count;
    }
    Ok(ratio(spent, packets))
}
