//! Latency and rates of the real thing: `tmm run` and `tmm-pktgen`, two processes on two memif links.
//!
//! Both poll, so this needs two CPUs that nothing else wants, and times are of the clock: on a
//! machine that is shared, the tails say more of the machine than of tmm.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::row::Sink;
use crate::site::{self, Layout, Traffic};
use crate::stats::Summary;

const MEMBERS: u32 = 8;
/// Percent of the highest rate that latency is measured at.
const LOADS: [u8; 2] = [50, 90];
/// Loss that a trial of the search may have, percent: the machine takes the CPU away now and then.
const TOLERANCE: &str = "0.5";
/// How long tmm may take to start.
const START_TIME: Duration = Duration::from_secs(20);
/// How long the generator may take.
const TEST_TIME: Duration = Duration::from_secs(90);
/// Time between two configurations.
const SWAP: Duration = Duration::from_millis(100);

/// Measures it.
///
/// Errors: programs that are missing, or frames that came back wrong.
pub fn run(sink: &mut Sink<'_>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("tmm-latency-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let outcome = measure(sink, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn measure(sink: &mut Sink<'_>, folder: &Path) -> Result<(), String> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("two CPUs are needed".to_owned());
    }
    let seconds = sink.effort().seconds.div_ceil(2);
    let duration = format!("--duration={seconds}s");
    let (layout, tcp) = (layout(Traffic::UDP4), layout(Traffic::TCP4));
    let _tmm = Tmm::start(folder, &[&layout, &tcp])?;
    let mut search = arguments(folder, "udp", 1000);
    search.extend(words(&[
        "--search",
        "--resolution=5",
        "--tolerance",
        TOLERANCE,
        &duration,
    ]));
    search.push(format!("--loads={},{}", LOADS[0], LOADS[1]));
    let report = generate(&search)?;
    let run = &report["runs"][0];
    let highest = run["found"]["packetsPerSecond"]
        .as_f64()
        .ok_or("no rate was found at which frames come back")?;
    let limited = run["found"]["limitedByGenerator"] == true;
    let case = if limited {
        "highest-rate/udp4 (the generator's limit)"
    } else {
        "highest-rate/udp4"
    };
    eprintln!("  {case}: {highest:.0} requests per second, each answered");
    sink.single(case, 0, "requests per second, answered", highest);
    let trials: Vec<&Value> = run["trials"].as_array().into_iter().flatten().collect();
    let loads = &trials[trials.len().saturating_sub(LOADS.len())..];
    for (percent, trial) in LOADS.iter().zip(loads) {
        put_trial(sink, &format!("load-{percent}"), trial)?;
    }

    // Half of that rate again, while the configuration changes ten times a second.
    let mut steady = arguments(folder, "udp", 1000);
    steady.extend(words(&[
        &format!("--rate={:.0}pps", highest / 2.0),
        &duration,
    ]));
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| swap(folder, &layout, &stop));
        let report = generate(&steady);
        stop.store(true, Ordering::Relaxed);
        let swaps = swapper.join().map_err(|_| "the feeder panicked")??;
        sink.single("swaps", 0, "configurations", crate::stats::float(swaps));
        report
    })?;
    put_trial(sink, "load-50-swap", &report["runs"][0]["trials"][0])?;

    let mut connections = arguments(folder, "tcp", 200_000);
    connections.extend(words(&["--connections", "--rate=max", &duration]));
    let report = generate(&connections)?;
    let trial = &report["runs"][0]["trials"][0];
    let rate = trial["receivedPerSecond"]
        .as_f64()
        .ok_or("no connections")?;
    eprintln!("  {rate:.0} connections per second");
    sink.single("connections/tcp4", 0, "per second", rate);
    Ok(())
}

/// Percentiles and loss of a trial.
fn put_trial(sink: &mut Sink<'_>, case: &str, trial: &Value) -> Result<(), String> {
    let rate = trial["sentPerSecond"].as_f64().ok_or("no trial")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate in frames per second"
    )]
    let rate = rate.max(0.0) as u64;
    let latency = &trial["latency"];
    for (name, field) in [
        ("p50", "p50Ns"),
        ("p99", "p99Ns"),
        ("p99.9", "p999Ns"),
        ("max", "maxNs"),
    ] {
        let ns = latency[field].as_f64().ok_or("no latency")?;
        sink.put(
            format!("{case}/{name}"),
            rate,
            "µs",
            Summary::single(ns / 1000.0),
        );
    }
    let loss = trial["loss"].as_f64().unwrap_or(0.0);
    sink.single(format!("{case}/loss"), rate, "%", loss * 100.0);
    eprintln!("  {case}: {rate} per second, {latency}");
    Ok(())
}

fn layout(traffic: Traffic) -> Layout {
    Layout {
        members: MEMBERS,
        ..Layout::for_flows(traffic, 1)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What the generator must know of the network.
fn arguments(folder: &Path, protocol: &str, flows: u32) -> Vec<String> {
    let socket = |side: &str| format!("memif:{}", folder.join(side).display());
    let member = |number| site::member_addr(false, number);
    let mut all = words(&[
        "--quiet",
        "--json",
        "--client-vlan=100",
        "--server-vlan=200",
        "--gateway=192.0.2.1",
        "--clients=192.0.2.10-192.0.2.250",
        "--order=random",
        "--log=error",
        "--drain=300ms",
    ]);
    all.push(format!("--client={}", socket("a")));
    all.push(format!("--server={}", socket("b")));
    all.push(format!("--protocol={protocol}"));
    all.push(format!("--flows={flows}"));
    all.push(format!(
        "--to={}:{}",
        site::virtual_addr(false, 0),
        site::SERVICE_PORT
    ));
    all.push(format!(
        "--member={}-{}:{}",
        member(0),
        member(MEMBERS - 1),
        site::MEMBER_PORT
    ));
    all.push(format!("--snat={}", site::self_addr(false)));
    all.push("--cpu=1".to_owned());
    all
}

/// A program that is built beside this one.
fn beside(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = own.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "{} is missing: make bench builds it",
            path.display()
        ))
    }
}

/// Runs the generator; it must say that all that came back was right.
fn generate(arguments: &[String]) -> Result<Value, String> {
    let mut child = Command::new(beside("tmm-pktgen")?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("tmm-pktgen: {error}"))?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(stdout));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if begun.elapsed() > TEST_TIME {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("tmm-pktgen took over {TEST_TIME:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = reader
        .join()
        .map_err(|_| "lost its output")?
        .map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("tmm-pktgen ended with {status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("tmm-pktgen's report: {error}"))
}

/// `tmm run` on two memif links; ended when it is dropped.
struct Tmm(Child);

impl Tmm {
    fn start(folder: &Path, layouts: &[&Layout]) -> Result<Self, String> {
        let port = |name: &str, side: &str| {
            format!(
                "--port={name}=memif:{},role=server",
                folder.join(side).display()
            )
        };
        let log = std::fs::File::create(folder.join("tmm.log")).map_err(|e| e.to_string())?;
        let child = Command::new(beside("tmm")?)
            .arg("run")
            .args([port("1.1", "a"), port("1.2", "b")])
            .arg("--config-socket")
            .arg(folder.join("config.sock"))
            .args(["--cpus=0", "--idle=spin"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("tmm: {error}"))?;
        let mut tmm = Self(child);
        let begun = Instant::now();
        let mut objects = Vec::new();
        for layout in layouts {
            for object in site::objects(layout) {
                objects.push(json!({ "type": "ADDED", "object": object }));
            }
        }
        while let Err(why) = feed(folder, &objects) {
            let ended = tmm.0.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > START_TIME {
                let log = std::fs::read_to_string(folder.join("tmm.log")).unwrap_or_default();
                return Err(format!("tmm did not start: {why}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(300));
        Ok(tmm)
    }
}

impl Drop for Tmm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hands objects to tmm and waits until each is accepted.
fn feed(folder: &Path, events: &[Value]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut socket = UnixStream::connect(folder.join("config.sock")).map_err(text)?;
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(text)?;
    for event in events {
        writeln!(socket, "{event}").map_err(text)?;
    }
    let mut answers = 0;
    for line in BufReader::new(socket).lines() {
        let line = line.map_err(text)?;
        if line.contains("\"accepted\":false") {
            return Err(line);
        }
        answers += usize::from(line.contains("\"accepted\":true"));
        if answers == events.len() {
            return Ok(());
        }
    }
    Err("tmm hung up".to_owned())
}

/// Changes the virtual server until it is told to stop. Returns how often.
fn swap(folder: &Path, layout: &Layout, stop: &AtomicBool) -> Result<u64, String> {
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut changed = *layout;
        changed.idle += Duration::from_secs(1 + swaps % 2);
        let object = site::virtual_server(&changed, 0);
        feed(folder, &[json!({ "type": "MODIFIED", "object": object })])?;
        swaps += 1;
        std::thread::sleep(SWAP.saturating_sub(begun.elapsed()));
    }
    Ok(swaps)
}
