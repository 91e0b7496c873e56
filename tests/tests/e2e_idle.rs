//! tmm with nothing to do: it takes next to no CPU, and the first frame after a pause is not late.
//!
//! CPU time is the kernel's account of tmm's threads, not the clock, so other load does not count; latency
//! is compared between two tmm, one after the other, on the same machine. What fails is tried again,
//! with the reason printed, for the machine may be busy.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::lab::resources::{CLIENT, EXTERNAL_SELF};
use tests::lab::{Failure, Namespace, Result, Tmm, address, ensure, eventually, link, xdp_sockets};

/// A client and tmm, with a veth pair between them and another that nobody uses.
struct Pair {
    tmm: Tmm,
    client: Namespace,
    inside: Namespace,
    directory: PathBuf,
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn vlan(name: &str, interface: &str, own: &str) -> Value {
    json!({
        "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": name},
        "spec": {"name": name, "interfaces": [interface], "selfip_v4s": [own], "prefixlen_v4": 24},
    })
}

impl Pair {
    fn start(number: u32, driver: &str, idle: &str, more: &[&str]) -> Result<Self> {
        let name = format!("tmm-e2e-{}-idle{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let inside = Namespace::new(number, "tmm", true)?;
        let client = Namespace::new(number, "client", true)?;
        for (here, there) in [("one", "eth0"), ("two", "eth1")] {
            link(&inside, here, &client, there, 1500)?;
        }
        client.ip(&[
            "address",
            "add",
            &format!("{}/24", CLIENT[0]),
            "dev",
            "eth0",
        ])?;
        let ports = [format!("1.1={driver}:one"), format!("1.2={driver}:two")];
        let mut args = vec![format!("--idle={idle}")];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let tmm = Tmm::start(&inside, &ports, &args, &directory)?;
        tmm.apply(&[
            vlan("external", "1.1", EXTERNAL_SELF[0]),
            vlan("internal", "1.2", "198.51.100.1"),
        ])?;
        let pair = Self {
            tmm,
            client,
            inside,
            directory,
        };
        eventually(Duration::from_secs(10), || pair.ping(1, "0.2").map(drop))?;
        Ok(pair)
    }

    /// Round trips of pings to tmm's own address, microseconds, sorted.
    fn ping(&self, count: u32, interval: &str) -> Result<Vec<f64>> {
        let count = count.to_string();
        let args = [
            "-n",
            "-W",
            "1",
            "-c",
            &count,
            "-i",
            interval,
            EXTERNAL_SELF[0],
        ];
        let text = self.client.run("ping", &args)?.text();
        let times = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once("time=")?;
            Some(rest.split(' ').next()?.parse::<f64>().ok()? * 1000.0)
        });
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        ensure(!times.is_empty(), || format!("no answer to pings:\n{text}"))?;
        Ok(times)
    }

    /// CPU time of all threads of tmm so far.
    fn cpu_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.tmm.process.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text
                .split(' ')
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            nanos += first.ok_or_else(|| Failure::new("schedstat does not tell the CPU time"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The share of a core that tmm takes while nothing happens, per cent; tried up to three times.
    fn idles_below(&self, limit: f64, when: &str) -> Result {
        let mut last = 0.0;
        for attempt in 1..=3 {
            // What came before has its sequel: retransmissions, announcements.
            std::thread::sleep(Duration::from_millis(500));
            let (begun, before) = (Instant::now(), self.cpu_time()?);
            std::thread::sleep(Duration::from_secs(3));
            let took = self.cpu_time()?.saturating_sub(before);
            last = 100.0 * took.as_secs_f64() / begun.elapsed().as_secs_f64();
            println!("{when}: {last:.2} % of a core (attempt {attempt})");
            if last < limit {
                return Ok(());
            }
        }
        ensure(false, || {
            format!("{when}: {last:.2} % of a core, three times above {limit} %")
        })
    }

    fn finish(mut self) -> Result {
        self.tmm.stop_cleanly()
    }
}

/// The value below which half of them are, and that of a share.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::MAX)
}

fn idles(driver: &str) -> Result {
    let pair = Pair::start(0, driver, "adaptive", &[])?;
    pair.idles_below(5.0, &format!("idle on {driver}"))?;
    // It is awake at once, and goes to sleep again.
    pair.ping(20, "0.02")?;
    pair.idles_below(5.0, &format!("idle on {driver} again"))?;
    pair.finish()
}

#[test]
fn an_idle_tmm_on_packet_sockets_takes_less_than_a_twentieth_of_a_core() -> Result {
    idles("af_packet")
}

#[test]
fn an_idle_tmm_on_xdp_sockets_takes_less_than_a_twentieth_of_a_core() -> Result {
    if !xdp_sockets() {
        return Ok(());
    }
    idles("af_xdp")
}

#[test]
fn two_idle_workers_take_less_than_a_twentieth_of_a_core_together() -> Result {
    let pair = Pair::start(0, "af_packet", "adaptive", &["--workers=2"])?;
    pair.idles_below(5.0, "two idle workers")?;
    pair.finish()
}

#[test]
fn an_interface_that_is_down_keeps_nobody_busy_and_comes_back() -> Result {
    let pair = Pair::start(0, "af_packet", "adaptive", &[])?;
    pair.inside.ip(&["link", "set", "one", "down"])?;
    pair.idles_below(5.0, "with an interface down")?;
    pair.inside.ip(&["link", "set", "one", "up"])?;
    eventually(Duration::from_secs(10), || pair.ping(1, "0.2").map(drop))?;
    pair.idles_below(5.0, "with the interface up again")?;
    pair.finish()
}

/// One round of the first frame after a pause: (polling, waiting), the median of each, microseconds.
fn compare(driver: &str, round: u32) -> Result<(f64, f64)> {
    let mut medians = [0.0; 2];
    for (at, (idle, median)) in (0..).zip(["spin", "adaptive"].into_iter().zip(&mut medians)) {
        let pair = Pair::start(round * 2 + at, driver, idle, &[])?;
        // Far more than a worker polls in vain lies between two of them.
        let times = pair.ping(150, "0.02")?;
        *median = quantile(&times, 50);
        println!(
            "{driver}, {idle}: first frame after 20 ms answered in {:.0} µs (p50), {:.0} (p90), {:.0} (p99)",
            *median,
            quantile(&times, 90),
            quantile(&times, 99)
        );
        pair.finish()?;
    }
    Ok((medians[0], medians[1]))
}

#[test]
fn the_first_frame_after_a_pause_is_hardly_later_than_to_a_worker_that_polls() -> Result {
    // The goal is 50 µs; naps of the length that would save as much CPU cost 250 on average.
    const MARGIN: f64 = 150.0;
    let mut last = (0.0, 0.0);
    for round in 0..3 {
        last = compare("af_packet", round)?;
        if last.1 <= last.0 + MARGIN {
            return Ok(());
        }
        println!("again: {:.0} µs instead of {:.0}", last.1, last.0);
    }
    ensure(false, || {
        format!(
            "the median is {:.0} µs, and {:.0} with --idle spin",
            last.1, last.0
        )
    })
}

#[test]
fn a_tap_wakes_its_worker_as_well() -> Result {
    let name = format!("tmm-e2e-{}-idletap", std::process::id());
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(&directory)?;
    let inside = Namespace::new(0, "tmm", false)?;
    let mut tmm = Tmm::start(&inside, &["1.1=tap:eth0".to_owned()], &[], &directory)?;
    // The kernel's end has the port's own address at first, and would take no answer from it.
    inside.ip(&["link", "set", "eth0", "address", "02:00:00:00:01:10"])?;
    address(&inside, CLIENT)?;
    inside.ip(&["link", "set", "eth0", "up"])?;
    tmm.apply(&[vlan("external", "1.1", EXTERNAL_SELF[0])])?;
    eventually(Duration::from_secs(10), || {
        inside
            .run("ping", &["-n", "-c", "1", "-W", "1", EXTERNAL_SELF[0]])
            .map(drop)
    })?;
    inside.run(
        "ping",
        &["-n", "-c", "20", "-i", "0.02", "-W", "1", EXTERNAL_SELF[0]],
    )?;
    tmm.stop_cleanly()?;
    drop(fs::remove_dir_all(&directory));
    Ok(())
}
