//! What probes are told of a running tmm, and how it ends when it is given time.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::VIP;
use tests::lab::{Failure, Lab, Options, Process, Result, Tmm, ensure, eventually, program, url};

/// What `tmmctl health` says, and its exit code.
fn health(tmm: &Tmm, probe: &str) -> Result<(Value, Option<i32>)> {
    let output = std::process::Command::new(program("tmmctl")?)
        .arg("--socket")
        .arg(tmm.socket())
        .args(["health", probe, "--json"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("tmmctl health {probe}: {error} in {text}")))?;
    Ok((value, output.status.code()))
}

/// Expects a probe to have this exit code, and these reasons not to be well.
fn says(tmm: &Tmm, probe: &str, code: i32, reasons: &[&str]) -> Result {
    let (value, got) = health(tmm, probe)?;
    let checks = value["checks"].as_array().into_iter().flatten();
    let found: Vec<&str> = checks
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["reason"].as_str())
        .collect();
    ensure(got == Some(code) && found == reasons, || {
        format!("tmmctl health {probe} ended with {got:?} and said {value}")
    })
}

fn draining(seconds: u32) -> Options {
    Options {
        tmm: vec![format!("--drain={seconds}")],
        ..Options::default()
    }
}

/// A page that comes in lines, ten a second; begun when this returns.
fn drip(lab: &Lab, lines: u32) -> Result<Process> {
    let page = url(VIP[0], &format!("/drip/{lines}/100"));
    let log = lab.directory().join("drip");
    let transfer = lab
        .client
        .spawn("curl".as_ref(), &["-gsSN", "--max-time", "60", &page], log)?;
    eventually(Duration::from_secs(10), || {
        ensure(!transfer.output().is_empty(), || {
            "the transfer has not begun".to_owned()
        })
    })?;
    Ok(transfer)
}

/// A connection that is made now fails.
fn nobody_new_gets_in(lab: &Lab) -> Result {
    for address in VIP {
        let outcome = lab.curl(&["--connect-timeout", "1", &url(address, "/")]);
        ensure(outcome.is_err(), || {
            format!("{address} took a new connection")
        })?;
    }
    let drops = lab.tmm.show("drops")?;
    let counted = drops.iter().find(|row| row["reason"] == "draining");
    ensure(
        counted.is_some_and(|row| row["packets"].as_u64() > Some(0)),
        || "the dropped connections are not counted".to_owned(),
    )
}

fn ended_well(lab: &mut Lab, limit: Duration) -> Result {
    let status: ExitStatus = lab.tmm.process.await_end(limit)?;
    let said = lab.tmm.process.output();
    ensure(
        status.success() && said.contains("every buffer is back in its pool"),
        || format!("tmm ended with {status}; it said:\n{said}"),
    )
}

#[test]
fn readiness_comes_with_the_configuration_and_goes_with_a_link() -> Result {
    let lab = Lab::start(&Options::default())?;
    says(&lab.tmm, "live", 0, &[])?;
    says(&lab.tmm, "ready", 1, &["NoConfiguration"])?;
    lab.tmm.apply(&tests::lab::resources::everything(
        false,
        None,
        "SRC_TRANS_NONE",
    ))?;
    eventually(Duration::from_secs(10), || says(&lab.tmm, "ready", 0, &[]))?;
    lab.await_virtual_servers(VIP)?;
    lab.set_trunk(2, false)?;
    eventually(Duration::from_secs(10), || {
        says(&lab.tmm, "ready", 1, &["LinkDown"])
    })?;
    says(&lab.tmm, "live", 0, &[])?;
    lab.set_trunk(2, true)?;
    eventually(Duration::from_secs(10), || says(&lab.tmm, "ready", 0, &[]))?;
    lab.await_virtual_servers(VIP)?;
    lab.finish()
}

#[test]
fn a_worker_that_hangs_fails_the_liveness_probe_until_it_goes_on() -> Result {
    let options = Options {
        tmm: vec!["--workers=2".to_owned()],
        ..Options::default()
    };
    let lab = Lab::start(&options)?;
    // Asleep for lack of traffic, both of them: that is no reason.
    std::thread::sleep(Duration::from_secs(6));
    says(&lab.tmm, "live", 0, &[])?;
    let hanging = lab.tmm.process.halt_thread("worker-1")?;
    eventually(Duration::from_secs(20), || {
        says(&lab.tmm, "live", 1, &["Stuck"])
    })?;
    let (value, _) = health(&lab.tmm, "ready")?;
    ensure(value["live"] == false && value["ready"] == false, || {
        format!("ready without being live: {value}")
    })?;
    drop(hanging);
    eventually(Duration::from_secs(10), || says(&lab.tmm, "live", 0, &[]))?;
    lab.finish()
}

#[test]
fn a_drain_lets_a_transfer_end_and_nobody_new_in() -> Result {
    let mut lab = Lab::with_everything(&draining(60), "SRC_TRANS_AUTOMAP")?;
    let mut transfer = drip(&lab, 80)?;
    lab.tmm.process.ask_to_stop();
    eventually(Duration::from_secs(5), || {
        let (value, code) = health(&lab.tmm, "ready")?;
        ensure(
            code == Some(1) && value.to_string().contains("Draining"),
            || format!("not draining: {value}"),
        )
    })?;
    says(&lab.tmm, "live", 0, &[])?;
    nobody_new_gets_in(&lab)?;
    let status = transfer.await_end(Duration::from_mins(1))?;
    let lines = transfer.output().lines().count();
    ensure(status.success() && lines >= 80, || {
        format!("the transfer ended with {status} after {lines} lines")
    })?;
    ended_well(&mut lab, Duration::from_secs(30))?;
    let said = lab.tmm.process.output();
    ensure(said.contains("drained: no flow is left"), || said.clone())?;
    lab.ended()
}

#[test]
fn a_drain_ends_at_its_limit_though_a_transfer_goes_on() -> Result {
    let mut lab = Lab::with_everything(&draining(3), "SRC_TRANS_AUTOMAP")?;
    let _transfer = drip(&lab, 500)?;
    lab.tmm.process.ask_to_stop();
    ended_well(&mut lab, Duration::from_secs(15))?;
    let said = lab.tmm.process.output();
    ensure(said.contains("the time to drain is up"), || said.clone())?;
    lab.ended()
}

#[test]
fn asked_twice_tmm_does_not_wait_for_flows() -> Result {
    let mut lab = Lab::with_everything(&draining(600), "SRC_TRANS_AUTOMAP")?;
    let _transfer = drip(&lab, 500)?;
    lab.tmm.process.ask_to_stop();
    eventually(Duration::from_secs(5), || {
        let said = lab.tmm.process.output();
        ensure(said.contains("draining: no new flows"), || said.clone())
    })?;
    lab.tmm.process.ask_to_stop();
    ended_well(&mut lab, Duration::from_secs(5))?;
    lab.ended()
}
