//! The whole pipeline, nanoseconds per packet: established flows, new flows, drops.

#![allow(missing_docs, clippy::unwrap_used)] // made by macros; a bench that cannot be set up must end

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{Bench, Traffic};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BURST: usize = 32;

fn flow_counts() -> Vec<usize> {
    // 1M flows take a minute to open; BENCH_MAX_FLOWS=100000 leaves them out.
    let max = std::env::var("BENCH_MAX_FLOWS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    [1_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|n| *n <= max)
        .collect()
}

fn name(flows: usize) -> String {
    if flows >= 1_000_000 {
        format!("{}M", flows / 1_000_000)
    } else {
        format!("{}k", flows / 1_000)
    }
}

fn established(c: &mut Criterion) {
    let mut group = c.benchmark_group("established");
    group.throughput(Throughput::Elements(BURST as u64));
    let kinds = [
        ("tcp4", Traffic::TCP4),
        ("udp4", Traffic::UDP4),
        ("tcp6", Traffic::TCP6),
    ];
    for (kind, traffic) in kinds {
        for flows in flow_counts() {
            // The other kinds differ in the code they run, not in the memory they touch.
            if flows == 1_000_000 && traffic != Traffic::TCP4 {
                continue;
            }
            let mut bench = Bench::with_flows(traffic, flows).unwrap();
            let total = bench.frame_count();
            let mut at = 0;
            group.bench_function(BenchmarkId::new(kind, name(flows)), |b| {
                b.iter(|| {
                    let forwarded = bench.established(at);
                    assert_eq!(forwarded, BURST);
                    at = (at + BURST) % total;
                });
            });
        }
    }
    group.finish();
}

fn new_flow(c: &mut Criterion) {
    let mut group = c.benchmark_group("new_flow");
    group.throughput(Throughput::Elements(BURST as u64));
    for (kind, traffic) in [("tcp4", Traffic::TCP4), ("udp4", Traffic::UDP4)] {
        const CAPACITY: usize = 1 << 19;
        let mut bench = Bench::new(traffic, CAPACITY).unwrap();
        let mut opened = 0;
        group.bench_function(kind, |b| {
            b.iter_custom(|bursts| {
                let mut spent = Duration::ZERO;
                for _ in 0..bursts {
                    if opened + BURST > CAPACITY / 2 {
                        bench.expire_all();
                        opened = 0;
                    }
                    let frames = bench.opening_burst();
                    let start = Instant::now();
                    let forwarded = black_box(bench.burst(&frames));
                    spent += start.elapsed();
                    assert_eq!(forwarded, BURST);
                    opened += BURST;
                }
                spent
            });
        });
    }
    group.finish();
}

fn drops(c: &mut Criterion) {
    let mut group = c.benchmark_group("drop");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut bench = Bench::new(Traffic::TCP4, 1024).unwrap();
    let frames: Vec<Vec<u8>> = (0..BURST).map(|_| bench.stray_frame()).collect();
    group.bench_function("unknown_vlan", |b| {
        b.iter(|| assert_eq!(black_box(bench.burst(&frames)), 0));
    });
    group.finish();
}

criterion_group!(benches, established, new_flow, drops);
criterion_main!(benches);
