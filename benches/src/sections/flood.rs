//! SYNs with forged addresses go on coming while the flow table is full: each takes the place of an older
//! one of its kind.

use crate::clock::thread_cpu_ns;
use crate::harness::{Bench, EXPIRE_BUDGET, Mix, Work};
use crate::row::Sink;
use crate::sections::pipeline::paired;
use crate::site::{Layout, Traffic};
use dataplane::port::BURST;

/// Half of a table of `flows` flows is established connections, the other half nobody has answered. What one more
/// forged SYN costs, and a packet of an established connection between such SYNs.
///
/// Errors: a frame that is not forwarded, or a connection that had to give way.
pub fn run(sink: &mut Sink<'_>, flows: u64) -> Result<(), String> {
    let count = usize::try_from(flows).map_err(|error| error.to_string())?;
    let established = count / 2 / BURST * BURST;
    let spare = count - established;
    let layout = Layout {
        members: 128,
        ..Layout::for_flows(Traffic::TCP4, count)
    };
    let mut bench = Bench::new(layout, count)?;
    bench.establish(established)?;
    for _ in 0..spare.div_ceil(BURST) {
        forged(&mut bench, Work::Process)?;
    }
    if bench.len() != count {
        return Err(format!("{} of {count} flows are there", bench.len()));
    }
    let bursts = sink.effort().bursts.min(256);
    let packets = bursts * BURST as u64;
    paired(sink, "flood/forged-syn", flows, |work| {
        let start = thread_cpu_ns();
        for _ in 0..bursts {
            forged(&mut bench, work)?;
        }
        Ok((thread_cpu_ns() - start, packets))
    })?;
    paired(sink, "flood/established", flows, |work| {
        let mut spent = 0;
        for _ in 0..bursts {
            forged(&mut bench, Work::Process)?;
            spent += bench.time_established(Mix::Both, work, 1)?;
        }
        Ok((spent, packets))
    })
}

/// A burst of forged SYNs, and what a worker does between two bursts.
fn forged(bench: &mut Bench, work: Work) -> Result<(), String> {
    let forwarded = bench.opening(work);
    if work == Work::Blank {
        return Ok(());
    }
    bench.expire(EXPIRE_BUDGET);
    if forwarded == BURST {
        Ok(())
    } else {
        Err(format!("{forwarded} of {BURST} forged SYNs were forwarded"))
    }
}
