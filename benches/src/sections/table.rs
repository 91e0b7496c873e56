//! Flow tables by themselves: ours, hashbrown's, DPDK's.

use std::hint::black_box;

use dpdk::{Eal, EalConfig, LogLevel};
use net::{FlowKey, IpProto, L4Port};

use crate::clock::{resident_octets, thread_cpu_ns};
use crate::row::Sink;
use crate::site;
use crate::stats::{Summary, ratio};
use crate::tables::{BATCH, Brown, FlowTable, KeyLength, Ours, Rte};

const FLOWS: [u64; 4] = [1_000, 65_536, 1_000_000, 10_000_000];
/// Batches of one sample.
const BATCHES: u32 = 512;
/// Flows taken out and entered again per sample.
const CHURN: u32 = 2048;
/// Memory of DPDK for its table of ten million flows, MiB.
const EAL_MIB: u32 = 2600;
const EAL_MIB_QUICK: u32 = 256;

/// Measures it.
///
/// Errors: DPDK that cannot be started, or no memory.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    let quick = sink.effort().max_flows < 10_000_000;
    let eal = Eal::init(&EalConfig {
        program: "tmm-bench".to_owned(),
        memory_mib: Some(if quick { EAL_MIB_QUICK } else { EAL_MIB }),
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })
    .map_err(|error| error.to_string())?;
    for flows in sink.sizes(&FLOWS) {
        let count = usize::try_from(flows).map_err(|error| error.to_string())?;
        let n = u32::try_from(flows).map_err(|error| error.to_string())?;
        measure(sink, "tmm", n, || Ok(Ours::new(count)))?;
        measure(sink, "hashbrown", n, || Ok(Brown::new(count)))?;
        for (name, length) in [
            ("rte_hash-40", KeyLength::Long),
            ("rte_hash-16", KeyLength::Short),
        ] {
            // What there is no memory for is left out, and said.
            let table = Rte::new(&eal, &format!("{name}-{flows}"), count, length);
            match table {
                Ok(table) => measure(sink, name, n, || Ok(table))?,
                Err(error) => eprintln!("  {name} {flows}: {error}"),
            }
        }
    }
    Ok(())
}

/// The two tuples of a flow.
#[inline]
fn original(flow: u32) -> FlowKey {
    FlowKey::new(
        site::client_addr(false, flow),
        site::virtual_addr(false, 0),
        L4Port(site::client_port(flow)),
        L4Port(site::SERVICE_PORT),
        IpProto::TCP,
    )
}

#[inline]
fn reply(flow: u32) -> FlowKey {
    // 512 members, and a port of ours towards each.
    #[expect(clippy::cast_possible_truncation, reason = "below 2^15 for 2^24 flows")]
    let sport = 1024 + (flow >> 9) as u16;
    FlowKey::new(
        site::member_addr(false, flow & 0x1ff),
        site::self_addr(false),
        L4Port(site::MEMBER_PORT),
        L4Port(sport),
        IpProto::TCP,
    )
}

/// Numbers below `n` in an order that no cache foresees.
struct Walk {
    state: u32,
    n: u32,
}

impl Walk {
    #[inline]
    fn next(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        // The upper half of the product: a fair share of the range without a division.
        let below = (u64::from(self.state) * u64::from(self.n)) >> 32;
        below as u32
    }
}

fn measure<T: FlowTable>(
    sink: &mut Sink<'_>,
    name: &str,
    n: u32,
    make: impl FnOnce() -> Result<T, String>,
) -> Result<(), String> {
    let flows = u64::from(n);
    let before = resident_octets();
    let mut table = make()?;
    for flow in 0..n {
        if !table.insert(&original(flow), &reply(flow)) {
            return Err(format!("{name}: flow {flow} of {n} cannot be entered"));
        }
    }
    let grown = resident_octets().saturating_sub(before);
    let samples = sink.effort().samples;
    let mut columns: [(&str, Vec<f64>); 4] =
        ["hit", "miss", "remove", "insert"].map(|kind| (kind, Vec::with_capacity(samples)));
    let mut walk = Walk { state: 1, n };
    for _ in 0..samples {
        let blank = look_up(&mut Nothing, &mut walk, 0);
        let hit = look_up(&mut table, &mut walk, 0);
        let miss = look_up(&mut table, &mut walk, n);
        if hit.1 != u64::from(BATCHES) * BATCH as u64 || miss.1 != 0 {
            return Err(format!("{name}: found {} and {}", hit.1, miss.1));
        }
        let (removed, inserted) = churn(&mut table, &mut walk)?;
        let per_key = |ns: u64| ratio(ns.saturating_sub(blank.0), u64::from(BATCHES) * 32);
        let values = [per_key(hit.0), per_key(miss.0), removed, inserted];
        for ((_, column), value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    for (kind, column) in &columns {
        let summary = Summary::of(column).ok_or("no samples")?;
        sink.put(format!("{name}/{kind}"), flows, "ns", summary);
        eprint!("  {name}/{kind} {flows}: {:.1} ns", summary.median);
    }
    eprintln!();
    if n >= 1_000_000 && !name.starts_with("rte") {
        let case = format!("{name}/memory");
        sink.single(case, flows, "octets per flow", ratio(grown, flows));
    }
    Ok(())
}

/// Nanoseconds of a sample of look-ups, and how many keys were found.
fn look_up<T: FlowTable>(table: &mut T, walk: &mut Walk, offset: u32) -> (u64, u64) {
    let mut found = 0;
    let start = thread_cpu_ns();
    for batch in 0..BATCHES {
        let keys: [FlowKey; BATCH] = if batch % 2 == 0 {
            std::array::from_fn(|_| original(walk.next() + offset))
        } else {
            std::array::from_fn(|_| reply(walk.next() + offset))
        };
        found += table.look_up(black_box(&keys)) as u64;
    }
    (thread_cpu_ns() - start, found)
}

/// Nanoseconds per flow of taking some out, and of entering them again.
fn churn<T: FlowTable>(table: &mut T, walk: &mut Walk) -> Result<(f64, f64), String> {
    // All over the table, each flow once: 769 is a prime that does not divide the count.
    let count = CHURN.min(walk.n / 2);
    let stride = walk.n / count;
    let first = walk.next() % stride;
    let flows = || (0..count).map(|i| first + (i * 769 % count) * stride);
    let (mut done, mut time) = (0, [0; 2]);
    let start = thread_cpu_ns();
    for flow in flows() {
        done += u32::from(table.remove(&original(flow), &reply(flow)));
    }
    time[0] = thread_cpu_ns() - start;
    let start = thread_cpu_ns();
    for flow in flows() {
        done += u32::from(table.insert(&original(flow), &reply(flow)));
    }
    time[1] = thread_cpu_ns() - start;
    if done != 2 * count {
        return Err(format!("{done} of {} changes were made", 2 * count));
    }
    Ok((
        ratio(time[0], u64::from(count)),
        ratio(time[1], u64::from(count)),
    ))
}

/// What making the keys costs.
struct Nothing;

impl FlowTable for Nothing {
    fn insert(&mut self, _: &FlowKey, _: &FlowKey) -> bool {
        false
    }

    #[inline]
    fn look_up(&mut self, _: &[FlowKey]) -> usize {
        0
    }

    fn remove(&mut self, _: &FlowKey, _: &FlowKey) -> bool {
        false
    }
}
