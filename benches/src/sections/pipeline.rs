//! The whole packet path, from a parsed frame to one that is ready to be sent.

use std::time::Duration;

use crate::clock::{huge_octets, resident_octets, without_transparent_huge_pages};
use crate::frames::Flow;
use crate::harness::{Bench, EXPIRE_BUDGET, Mix, Work};
use crate::row::Sink;
use crate::site::{Layout, Traffic};
use crate::stats::{Summary, float, ratio};
use dataplane::port::BURST;

/// Flows of the established cases.
const FLOWS: [u64; 5] = [1_000, 65_536, 1_000_000, 8_000_000, 10_000_000];
/// Flows of those that differ in code rather than in memory.
const SOME_FLOWS: [u64; 2] = [1_000, 1_000_000];

/// Measures it.
///
/// Errors: a frame that is not forwarded, which would be a mistake here.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    for flows in sink.sizes(&FLOWS) {
        established(sink, "tcp4", Traffic::TCP4, flows)?;
    }
    for (name, traffic) in &Traffic::ALL[1..] {
        for flows in sink.sizes(&SOME_FLOWS) {
            established(sink, name, *traffic, flows)?;
        }
    }
    let most = sink.effort().max_flows.min(1_000_000);
    for (name, traffic) in &Traffic::ALL {
        new_flows(sink, name, *traffic, most)?;
    }
    drops(sink)?;
    for flows in sink.sizes(&[65_536, 1_000_000]) {
        super::flood::run(sink, flows)?;
    }
    // The last: it holds for the whole process.
    if !without_transparent_huge_pages() {
        return Err("the kernel does not do without transparent huge pages".to_owned());
    }
    for flows in sink.sizes(&[1_000, 1_000_000, 10_000_000]) {
        established(sink, "tcp4-small-pages", Traffic::TCP4, flows)?;
    }
    Ok(())
}

fn established(
    sink: &mut Sink<'_>,
    name: &str,
    traffic: Traffic,
    flows: u64,
) -> Result<(), String> {
    let count = usize::try_from(flows).map_err(|error| error.to_string())?;
    let (before, start) = (resident_octets(), std::time::Instant::now());
    let small_pages = name.ends_with("small-pages");
    let layout = Layout {
        hugetlb: !small_pages,
        ..Layout::for_flows(traffic, count)
    };
    let huge = huge_octets();
    let mut bench = Bench::new(layout, count)?;
    bench.establish(count)?;
    eprintln!("  {name}: {flows} flows set up in {:.1?}", start.elapsed());
    let ours = 2 * flows * size_of::<Flow>() as u64;
    let grown = resident_octets().saturating_sub(before + ours);
    if flows >= 65_536 {
        let case = format!("memory/{name}");
        sink.single(case, flows, "octets per flow", ratio(grown, flows));
        let huge = huge_octets().saturating_sub(huge);
        let share = 100.0 * ratio(huge, grown).min(1.0);
        sink.single(format!("memory-huge/{name}"), flows, "%", share);
    }
    let mixes: &[(&str, Mix)] = if !small_pages && (flows == 1_000_000 || flows == 1_000) {
        &[
            ("", Mix::Both),
            ("/to-server", Mix::Requests),
            ("/to-client", Mix::Replies),
        ]
    } else {
        &[("", Mix::Both)]
    };
    for (suffix, mix) in mixes {
        let bursts = sink.effort().bursts;
        let case = format!("established/{name}{suffix}");
        paired(sink, &case, flows, |work| {
            Ok((
                bench.time_established(*mix, work, bursts)?,
                bursts * BURST as u64,
            ))
        })?;
    }
    Ok(())
}

/// Runs a stretch in turn with and without its work, and puts what it costs in all (gross), what
/// the bench's own part of it is (blank), and the difference (net), in nanoseconds per packet.
/// `stretch` returns nanoseconds and packets.
///
/// Errors: those of `stretch`.
pub fn paired(
    sink: &mut Sink<'_>,
    case: &str,
    size: u64,
    mut stretch: impl FnMut(Work) -> Result<(u64, u64), String>,
) -> Result<(), String> {
    let samples = sink.effort().samples;
    let mut columns: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::with_capacity(samples));
    stretch(Work::Process)?;
    for _ in 0..samples {
        let (spent, packets) = stretch(Work::Process)?;
        let gross = ratio(spent, packets);
        let (spent, packets) = stretch(Work::Blank)?;
        let blank = ratio(spent, packets);
        for (column, value) in columns.iter_mut().zip([gross - blank, gross, blank]) {
            column.push(value);
        }
    }
    for (column, kind) in columns.iter().zip(["net", "gross", "blank"]) {
        let summary = Summary::of(column).ok_or("no samples")?;
        if kind == "net" {
            eprintln!("  {case} {size}: {:.1} ns", summary.median);
        }
        sink.put(format!("{case}/{kind}"), size, "ns per packet", summary);
    }
    Ok(())
}

fn new_flows(sink: &mut Sink<'_>, name: &str, traffic: Traffic, flows: u64) -> Result<(), String> {
    let effort = sink.effort();
    let bursts = effort.bursts.min(256);
    let count = usize::try_from(flows).map_err(|error| error.to_string())?;
    let per_sample = usize::try_from(bursts).unwrap_or(256) * BURST;
    let spare = (effort.samples + 2) * per_sample;
    let layout = Layout {
        // The port that a client's own port is the first try for is rarely taken, as in life.
        members: 128,
        ..Layout::for_flows(traffic, count)
    };
    let mut bench = Bench::new(layout, count + spare)?;
    bench.establish(count)?;
    paired(sink, &format!("new-flow/{name}"), flows, |work| {
        Ok((bench.time_opening(work, bursts)?, bursts * BURST as u64))
    })?;
    if traffic == Traffic::TCP4 {
        // Those that were never answered end first; the others have an hour.
        expiry(sink, "expiry/unanswered", &mut bench, flows, 60)?;
        expiry(sink, "expiry/established", &mut bench, 0, 7200)?;
    }
    Ok(())
}

/// Lets time pass and ends flows until `left` are left. What it costs to look at timers of flows
/// that live on is in the figure of all in all, and in the median only where such timers stand
/// among those of flows that end.
fn expiry(
    sink: &mut Sink<'_>,
    case: &str,
    bench: &mut Bench,
    left: u64,
    seconds: u64,
) -> Result<(), String> {
    bench.pass(Duration::from_secs(seconds));
    let before = bench.len() as u64;
    let mut samples = Vec::new();
    let (mut total, mut in_vain) = (0, 0);
    while bench.len() as u64 > left {
        let (spent, ended) = bench.time_expiry(EXPIRE_BUDGET, 64);
        total += spent;
        in_vain = if ended == 0 { in_vain + 1 } else { 0 };
        if in_vain > 100_000 {
            return Err(format!("{case}: {} flows did not end", bench.len()));
        }
        if ended > 0 && bench.len() as u64 > left {
            samples.push(float(spent) / float(ended));
        }
    }
    let summary = Summary::of(&samples).ok_or("no flow ended")?;
    let all = ratio(total, before - bench.len() as u64);
    eprintln!(
        "  {case} {before}: {:.1} ns, all in all {all:.1}",
        summary.median
    );
    sink.put(case, before, "ns per flow", summary);
    sink.single(format!("{case}/all-in-all"), before, "ns per flow", all);
    Ok(())
}

fn drops(sink: &mut Sink<'_>) -> Result<(), String> {
    let mut bench = Bench::new(Layout::for_flows(Traffic::TCP4, 1024), 1024)?;
    let bursts = sink.effort().bursts;
    paired(sink, "drop/unknown-vlan", 0, |work| {
        let start = crate::clock::thread_cpu_ns();
        for _ in 0..bursts {
            if bench.stray(work) > 0 {
                return Err("a stray frame got through".to_owned());
            }
        }
        Ok((crate::clock::thread_cpu_ns() - start, bursts * BURST as u64))
    })
}
