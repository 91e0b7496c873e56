//! The generator as a program: `tmm-pktgen` against `tmm run`, over shared memory and over packet sockets.
#![allow(clippy::unwrap_used)] // its helpers are part of the tests

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{self, EXTERNAL_SELF, VIP};
use tests::lab::{Failure, Namespace, Result, Tmm, ensure, program};

/// A directory of this test's own, removed when it has passed.
fn directory(name: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("tmm-e2e-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// The arguments for the service that [`resources::everything`] describes.
fn service(snat: &str, protocol: &str) -> Vec<String> {
    let (port, member_port) = if protocol == "udp" {
        (resources::ECHO, resources::BACKEND_ECHO)
    } else {
        (resources::HTTP, resources::BACKEND_HTTP)
    };
    let snat = match snat {
        "SRC_TRANS_NONE" => "none".to_owned(),
        _ => resources::INTERNAL_SELF.join(","),
    };
    [
        format!("--protocol={protocol}"),
        "--client-vlan=100".to_owned(),
        "--server-vlan=200".to_owned(),
        format!("--gateway={}", EXTERNAL_SELF[0]),
        format!("--to={}:{port},[{}]:{port}", VIP[0], VIP[1]),
        format!("--member=198.51.100.11-198.51.100.13:{member_port}"),
        format!("--member=[2001:db8:200::11-2001:db8:200::13]:{member_port}"),
        "--clients=192.0.2.10-192.0.2.59,2001:db8:100::10-2001:db8:100::41".to_owned(),
        format!("--snat={snat}"),
        "--flows=500".to_owned(),
        "--hugepages=never".to_owned(),
    ]
    .to_vec()
}

/// Runs the generator in `namespace`, which must say that all is well; gives its report.
fn generate(namespace: &Namespace, args: &[String], more: &[&str]) -> Result<Value> {
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    all.extend(more);
    all.push("--json");
    let finished = namespace.try_run(program("tmm-pktgen")?, &all, Duration::from_mins(1))?;
    let text = finished.text();
    let Ok(report) = serde_json::from_str(&text) else {
        finished.ok()?;
        return Err(Failure::new(format!("no report but {text:?}")));
    };
    ensure(finished.success(), || format!("{report:#}"))?;
    Ok(report)
}

/// Something came back, and nothing of it was faulty. What is lost is the machine's affair: two processes
/// that poll share its CPUs with whatever else runs.
fn ensure_right(report: &Value) -> Result {
    ensure(report["verdict"] == "good", || format!("{report:#}"))?;
    let trials = report["runs"][0]["trials"].as_array();
    for trial in trials.into_iter().flatten() {
        let count = |name: &str| trial[name].as_u64().unwrap_or(u64::MAX);
        ensure(count("faulty") == 0 && count("received") > 100, || {
            format!("{trial:#}")
        })?;
        ensure(
            trial["client"]["duplicates"] == 0 && trial["client"]["resets"] == 0,
            || format!("{trial:#}"),
        )?;
        let p50 = trial["latency"]["p50Ns"].as_u64().unwrap_or(0);
        ensure(p50 > 100, || format!("{trial:#}"))?;
    }
    Ok(())
}

/// tmm with two memif ports, and the arguments of the generator at their other ends.
fn over_memif(directory: &Path, namespace: &Namespace, snat: &str) -> Result<(Tmm, Vec<String>)> {
    let socket = |side: &str| format!("memif:{}", directory.join(side).display());
    let tmm = Tmm::start(
        namespace,
        &[
            format!("1.1={},role=server", socket("a")),
            format!("1.2={},role=server", socket("b")),
        ],
        &["--hugepages=never".to_owned()],
        directory,
    )?;
    tmm.apply(&resources::everything(false, None, snat))?;
    let ports = vec![
        format!("--client={}", socket("a")),
        format!("--server={}", socket("b")),
    ];
    Ok((tmm, ports))
}

#[test]
fn every_frame_is_right_over_shared_memory() -> Result {
    let directory = directory("pktgen-memif")?;
    let namespace = Namespace::new(90, "pktgen", true)?;
    for snat in ["SRC_TRANS_AUTOMAP", "SRC_TRANS_NONE"] {
        let (mut tmm, ports) = over_memif(&directory, &namespace, snat)?;
        for protocol in ["udp", "tcp"] {
            let mut args = ports.clone();
            args.extend(service(snat, protocol));
            let more = ["--rate=20kpps", "--duration=2s", "--size=imix"];
            let report = generate(&namespace, &args, &more)?;
            ensure_right(&report)?;
            let opened = &report["runs"][0]["opening"]["open"];
            ensure(opened == 500, || format!("{opened} flows opened"))?;
        }
        tmm.stop_cleanly()?;
    }
    drop(std::fs::remove_dir_all(&directory));
    Ok(())
}

#[test]
fn connections_searches_and_pictures_work_over_shared_memory() -> Result {
    let directory = directory("pktgen-search")?;
    let namespace = Namespace::new(91, "pktgen", true)?;
    let snat = "SRC_TRANS_AUTOMAP";
    let (mut tmm, ports) = over_memif(&directory, &namespace, snat)?;
    let mut args = ports;
    args.extend(service(snat, "tcp"));
    let connections = [
        "--connections",
        "--rate=2kcps",
        "--duration=1s",
        "--flows=20000",
    ];
    let without_flows: Vec<String> = args
        .iter()
        .filter(|arg| !arg.starts_with("--flows"))
        .cloned()
        .collect();
    let report = generate(&namespace, &without_flows, &connections)?;
    ensure_right(&report)?;

    let plots = directory.join("plots");
    let plot = format!("--plot={}", plots.display());
    let search = [
        "--search",
        "--rate=20kpps",
        "--duration=500ms",
        "--drain=300ms",
        "--tolerance=20",
        "--resolution=20",
        "--loads=50",
        &plot,
    ];
    let report = generate(&namespace, &args, &search)?;
    ensure_right(&report)?;
    let found = &report["runs"][0]["found"]["packetsPerSecond"];
    ensure(found.as_f64().is_some_and(|rate| rate > 0.0), || {
        format!("{report:#}")
    })?;
    ensure(plots.join("latency.svg").is_file(), || {
        "no picture of the latency".to_owned()
    })?;
    tmm.stop_cleanly()?;
    drop(std::fs::remove_dir_all(&directory));
    Ok(())
}

#[test]
fn every_frame_is_right_over_packet_sockets() -> Result {
    let directory = directory("pktgen-af-packet")?;
    let namespace = Namespace::new(92, "pktgen", true)?;
    for (own, other) in [("ca", "cb"), ("sa", "sb")] {
        namespace.ip(&["link", "add", own, "type", "veth", "peer", "name", other])?;
        for name in [own, other] {
            namespace.ip(&["link", "set", name, "up"])?;
        }
    }
    let snat = "SRC_TRANS_AUTOMAP";
    let mut tmm = Tmm::start(
        &namespace,
        &["1.1=af_packet:cb".to_owned(), "1.2=af_packet:sb".to_owned()],
        &["--hugepages=never".to_owned()],
        &directory,
    )?;
    tmm.apply(&resources::everything(false, None, snat))?;
    let mut args = vec![
        "--client=af_packet:ca".to_owned(),
        "--server=af_packet:sa".to_owned(),
    ];
    args.extend(service(snat, "udp"));
    let more = ["--rate=5kpps", "--duration=2s", "--size=128"];
    let report = generate(&namespace, &args, &more)?;
    ensure_right(&report)?;
    tmm.stop_cleanly()?;
    drop(std::fs::remove_dir_all(&directory));
    Ok(())
}

#[test]
fn mistakes_are_told_before_anything_starts() -> Result {
    let namespace = Namespace::new(93, "pktgen", true)?;
    let base = [
        "--client=ring:a",
        "--clients=10.0.0.0/24",
        "--to=203.0.113.10:80",
    ];
    let said = |more: &[&str]| -> Result<String> {
        let mut args = base.to_vec();
        args.extend(more);
        let log = std::env::temp_dir().join(format!("tmm-e2e-{}-mistake", std::process::id()));
        let mut process = namespace.spawn(&program("tmm-pktgen")?, &args, log.clone())?;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while process.check_alive().is_ok() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = process.output();
        drop(std::fs::remove_file(log));
        Ok(text)
    };
    for (more, wanted) in [
        (["--rate=fast", "--quiet"], "is no rate"),
        (["--size=12", "--quiet"], "is no frame size"),
        (["--quiet", "--duration=1s"], "share a port"),
        (["--server=ring:b", "--member=198.51.100.1:80"], "--gateway"),
        (["--mode=loop", "--flows=60000000"], "combinations"),
        (["--mode=loop", "--server=ring:b"], "--mode one-way"),
    ] {
        let text = said(&more)?;
        ensure(text.contains(wanted), || {
            format!("{more:?}: expected {wanted:?}, but it said {text:?}")
        })?;
    }
    Ok(())
}
