//! Through DPDK: tmm's worker and testpmd on the same kind of port with the same frames, in turn.
//!
//! The port is `net_pcap` with `infinite_rx`: the driver has the frames of a capture file in memory
//! and copies them into mbufs, over and over; what is sent is freed. So each packet costs both
//! programs an allocation, a copy, a call into the driver and a free, beside what they do with it.
//! testpmd's `5tswap` swaps MAC addresses, IP addresses and ports; it keeps no flows and changes no
//! checksum or tag.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dataplane::dpdk_port::DpdkPort;
use dataplane::pcap::Writer;
use dataplane::verdict::DropReason;
use dataplane::worker::Worker;
use dpdk::{Eal, EalConfig, EthPort, LogLevel, Mempool, MempoolConfig, PortConfig};
use net::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::thread_cpu_ns;
use crate::frames::{Buffer, Flow, HEADROOM, Kind, Maker};
use crate::harness::Bench;
use crate::row::Sink;
use crate::site::{Layout, Site, Traffic};
use crate::stats::{Summary, float, ratio};

/// A whole number of bursts, so that the flows are opened as they were when the file was made.
const FLOWS: usize = 1024;
/// How often each flow's frames come in the file, after the ones that open them.
const REPEATS: usize = 4;
const MBUFS: u32 = 32_767;
const ROUNDS: usize = 7;
/// How long testpmd may take to start.
const START_TIME: Duration = Duration::from_secs(20);

/// What one run of either program did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// Nanoseconds on the CPU.
    pub cpu_ns: u64,
    /// Nanoseconds by the clock.
    pub wall_ns: u64,
    /// Frames taken in and sent.
    pub packets: u64,
}

fn layout() -> Layout {
    Layout {
        one_arm: true,
        ..Layout::for_flows(Traffic::UDP4, FLOWS)
    }
}

/// Measures it.
///
/// Errors: testpmd that is not there, or frames that were not forwarded.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("tmm-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let outcome = compare(sink, &folder.join("flows.pcap"));
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn compare(sink: &mut Sink<'_>, file: &Path) -> Result<(), String> {
    let frames = write_frames(file)?;
    eprintln!("  {frames} frames of {FLOWS} flows, both directions");
    let seconds = Duration::from_secs(sink.effort().seconds.div_ceil(2));
    let mut columns: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        let ours = run_worker(file, seconds)?;
        let theirs = run_testpmd(file, seconds)?;
        let (ours, theirs) = (
            ratio(ours.cpu_ns, ours.packets),
            ratio(theirs.cpu_ns, theirs.packets),
        );
        eprintln!("  tmm {ours:.1}, testpmd {theirs:.1} ns per packet");
        for (column, value) in columns
            .iter_mut()
            .zip([ours, theirs, 100.0 * theirs / ours])
        {
            column.push(value);
        }
    }
    let cases = [
        ("tmm", "ns per packet"),
        ("testpmd-5tswap", "ns per packet"),
        ("rate-of-testpmd", "%"),
    ];
    for (column, (case, unit)) in columns.iter().zip(cases) {
        let summary = Summary::of(column).ok_or("no rounds")?;
        sink.put(case, FLOWS as u64, unit, summary);
    }
    Ok(())
}

/// Opens the flows once in memory, to learn how they will be translated, and writes the frames that
/// open them, in order, and then those of both directions, in random order.
fn write_frames(file: &Path) -> Result<u64, String> {
    let layout = layout();
    let mut bench = Bench::new(layout, FLOWS)?;
    bench.establish(FLOWS)?;
    let mut in_order = bench.flows().to_vec();
    in_order.sort_unstable_by_key(|flow| flow.client);
    let mut writer = Writer::create(file).map_err(|error| error.to_string())?;
    let mut buffer: Buffer = [0; 256];
    let mut put = |maker: &Maker, flow: Flow| {
        let len = maker.make(&mut buffer, flow);
        writer
            .write(Timestamp::ZERO, &buffer[HEADROOM..HEADROOM + len])
            .map_err(|error| error.to_string())
    };
    let maker = |kind| Maker::new(&layout, kind);
    let (request, reply) = (maker(Kind::Request), maker(Kind::Reply));
    for flow in &in_order {
        put(&request, *flow)?;
    }
    // The one order backwards is another one.
    for _ in 0..REPEATS {
        for (there, back) in bench.flows().iter().zip(bench.flows().iter().rev()) {
            put(&reply, *back)?;
            put(&request, *there)?;
        }
    }
    let frames = writer.frames();
    writer.finish().map_err(|error| error.to_string())?;
    Ok(frames)
}

fn vdev(file: &Path) -> String {
    format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display())
}

/// Runs our worker in a process of its own: DPDK starts once in a process.
fn run_worker(file: &Path, seconds: Duration) -> Result<Run, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .arg("--dpdk-worker")
        .arg(file)
        .args(["--seconds", &seconds.as_secs().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("tmm's worker failed".to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// Our worker on the port, for some seconds: what the process that
/// [`run`] starts does.
///
/// Errors: of DPDK, or frames that were dropped.
pub fn worker(file: &Path, seconds: Duration) -> Result<Run, String> {
    let text = |error: dpdk::Error| error.to_string();
    let site = Site::new(layout())?;
    let shared = site.shared(0)?.clone();
    let eal = Eal::init(&EalConfig {
        program: "tmm-bench".to_owned(),
        memory_mib: Some(256),
        vdevs: vec![vdev(file)],
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })
    .map_err(text)?;
    let pool = Mempool::new(&eal, &MempoolConfig::new("bench", MBUFS)).map_err(text)?;
    let device = eal
        .take_device("net_pcap0")
        .ok_or("there is no net_pcap0")?;
    let mut port = EthPort::configure(device, &PortConfig::default(), &pool).map_err(text)?;
    port.start().map_err(text)?;
    let (mut rx, mut tx) = port.split().map_err(text)?;
    let (rx, tx) = (rx.pop().ok_or("no queue")?, tx.pop().ok_or("no queue")?);
    let guard = eal.register_thread().map_err(text)?;
    let queues = DpdkPort::new(rx, tx, pool);
    let config = site.pipeline_config(0, 65_536)?;
    let mut worker = Worker::new(&config, vec![queues], shared.clone());
    let mut turn_for = |time: Duration| {
        let (start, cpu) = (Instant::now(), thread_cpu_ns());
        let before = shared.counters.ports[0].tx.packets.get();
        while start.elapsed() < time {
            // The clock is read once a turn, as in the real one.
            let now = Timestamp::from_secs(1) + start.elapsed();
            worker.turn(now);
        }
        Run {
            cpu_ns: thread_cpu_ns() - cpu,
            wall_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            packets: shared.counters.ports[0].tx.packets.get() - before,
        }
    };
    turn_for(Duration::from_millis(200));
    let run = turn_for(seconds);
    for reason in DropReason::ALL {
        let dropped = shared.counters.dropped(*reason);
        if dropped > 0 {
            return Err(format!("{dropped} frames were dropped: {reason:?}"));
        }
    }
    let flows = shared.counters.flows.get();
    if flows != FLOWS as u64 {
        return Err(format!("{flows} flows instead of {FLOWS}"));
    }
    drop(worker);
    drop(guard);
    drop(port);
    Ok(run)
}

/// Runs testpmd for some seconds.
fn run_testpmd(file: &Path, seconds: Duration) -> Result<Run, String> {
    let mut child = Command::new("dpdk-testpmd")
        .args(["-l", "0,1", "--no-pci", "--log-level=error"])
        .args(if huge_pages_free() {
            &["--in-memory"][..]
        } else {
            &["--no-huge", "-m", "512", "--no-shconf", "--iova-mode=va"][..]
        })
        .arg(format!("--vdev={}", vdev(file)))
        .args([
            "--",
            "--forward-mode=5tswap",
            "--auto-start",
            "--nb-cores=1",
        ])
        .args(["--burst=32", "--no-mlockall", "--stats-period=0"])
        .arg(format!("--total-num-mbufs={MBUFS}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("dpdk-testpmd: {error}; on Debian, apt-get install dpdk-dev"))?;
    let outcome = drive_testpmd(&mut child, seconds);
    // It ends by itself when all went well.
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

fn drive_testpmd(child: &mut Child, seconds: Duration) -> Result<Run, String> {
    // It forwards when its thread spends time; before that, the thread waits for its orders.
    let begun = Instant::now();
    let schedstat = loop {
        let thread = worker_thread(child.id());
        if let Some(thread) = thread.filter(|thread| on_cpu_ns(thread) > Some(5_000_000)) {
            break thread;
        }
        if begun.elapsed() > START_TIME {
            return Err(format!("testpmd did not start within {START_TIME:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let start = Instant::now();
    std::thread::sleep(seconds);
    // All that the thread did was to forward; the last milliseconds are missing.
    let cpu_ns = on_cpu_ns(&schedstat).ok_or("testpmd's thread is gone")?;
    let wall_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(b"\n");
    }
    let stdout = child.stdout.take().ok_or("no output")?;
    let packets = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let number = line.trim().strip_prefix("TX-packets:")?;
            number.split_whitespace().next()?.parse().ok()
        })
        .ok_or("testpmd did not say what it sent")?;
    Ok(Run {
        cpu_ns,
        wall_ns,
        packets,
    })
}

fn on_cpu_ns(schedstat: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(schedstat).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Where the kernel says how long testpmd's forwarding thread was on a CPU.
fn worker_thread(process: u32) -> Option<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    tasks
        .flatten()
        .map(|task| task.path())
        .find(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.contains("worker"))
        })
        .map(|task| task.join("schedstat"))
}

/// Whether there are pages for either program.
fn huge_pages_free() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .is_some_and(|pages| float(pages) * 2.0 >= 256.0)
}
