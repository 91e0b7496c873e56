//! What many virtual servers and members cost: packets, new flows, and the configuration itself.

use std::time::Instant;

use dataplane::port::BURST;

use super::pipeline::paired;
use crate::harness::{Bench, Mix};
use crate::row::Sink;
use crate::site::{Layout, Site, Traffic};
use crate::stats::float;

const VIRTUAL_SERVERS: [u64; 4] = [1, 100, 10_000, 100_000];
const MEMBERS: [u64; 4] = [2, 100, 1_000, 10_000];
/// Flows of the established cases: they fit into the cache, so that what is added shows.
const FLOWS: usize = 65_536;

/// Measures it.
///
/// Errors: a frame that is not forwarded, which would be a mistake here.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    // The names of objects take more memory than flows do: the same limit will do.
    for size in sink.sizes(&VIRTUAL_SERVERS) {
        let virtual_servers = u32::try_from(size).map_err(|error| error.to_string())?;
        one(
            sink,
            "virtual-servers",
            size,
            Layout {
                virtual_servers,
                ..Layout::for_flows(Traffic::TCP4, FLOWS)
            },
        )?;
    }
    for size in sink.sizes(&MEMBERS) {
        let members = u32::try_from(size).map_err(|error| error.to_string())?;
        one(
            sink,
            "members",
            size,
            Layout {
                members,
                ..Layout::for_flows(Traffic::TCP4, FLOWS)
            },
        )?;
    }
    Ok(())
}

fn one(sink: &mut Sink<'_>, what: &str, size: u64, layout: Layout) -> Result<(), String> {
    let effort = sink.effort();
    let bursts = effort.bursts.min(64);
    let spare = (effort.samples + 2) * usize::try_from(bursts).unwrap_or(64) * BURST;
    // With two members, our one address has ports for 129,024 flows in all.
    let flows = if layout.members == 2 { 16_384 } else { FLOWS };
    let spare = spare.min(if layout.members == 2 { 32_768 } else { spare });
    let start = Instant::now();
    let mut site = Site::new(layout)?;
    let load = start.elapsed();
    let mut bench = Bench::at(&site, 0, flows + spare)?;
    bench.establish(flows)?;
    paired(sink, &format!("{what}/established"), size, |work| {
        Ok((
            bench.time_established(Mix::Both, work, effort.bursts)?,
            effort.bursts * BURST as u64,
        ))
    })?;
    let bursts = u64::try_from(spare / BURST / (effort.samples + 2)).unwrap_or(1);
    paired(sink, &format!("{what}/new-flow"), size, |work| {
        Ok((bench.time_opening(work, bursts)?, bursts * BURST as u64))
    })?;
    let start = Instant::now();
    let swaps = 3;
    for round in 1..=swaps {
        site.swap(round)?;
    }
    let swap = start.elapsed().as_secs_f64() * 1000.0 / float(swaps);
    let load = load.as_secs_f64() * 1000.0;
    eprintln!("  {what} {size}: configuration {load:.0} ms, one change {swap:.1} ms");
    sink.single(format!("{what}/load"), size, "ms", load);
    sink.single(format!("{what}/change"), size, "ms", swap);
    Ok(())
}
