//! A flood of SYNs from forged addresses, and real clients that still get through.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tests::lab::resources::{HTTP, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, pattern, resources, url};

/// SYNs of the flood: it ends by itself.
const FLOOD: &str = "200000";

/// The lab with SYN protection, above so many new connections a second.
fn protected(threshold: u32) -> Result<Lab> {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    let mut server = resources::virtual_server("http", HTTP, VIP, "SRC_TRANS_NONE", 300);
    server["spec"]["synProtectionThreshold"] = json!(threshold);
    lab.tmm.apply(&[server])?;
    Ok(lab)
}

/// Floods the virtual server until it has sent all, or for ten seconds.
fn flood(lab: &Lab, done: &dyn Fn() -> Result) -> Result {
    let log = lab.directory().join("hping3.log");
    let target = VIP[0];
    let port = HTTP.to_string();
    let args = [
        "10",
        "hping3",
        "-q",
        "-S",
        "-p",
        &port,
        "--rand-source",
        "-i",
        "u20",
        "-c",
        FLOOD,
        target,
    ];
    let mut hping = lab.client.spawn(Path::new("timeout"), &args, log)?;
    thread::sleep(Duration::from_millis(500));
    let result = done();
    let _ = hping.stop();
    result
}

fn answers(lab: &Lab, name: &str) -> Result<u64> {
    let rows = lab.tmm.show("drops")?;
    let row = rows.iter().find(|row| row["reason"] == name);
    Ok(row.and_then(|row| row["packets"].as_u64()).unwrap_or(0))
}

#[test]
fn clients_get_through_a_flood_of_forged_syns() -> Result {
    let lab = protected(20)?;
    flood(&lab, &|| {
        for _ in 0..5 {
            lab.curl(&["--max-time", "8", "-o", "/dev/null", &url(VIP[0], "/")])?;
        }
        Ok(())
    })?;
    let (challenges, proofs) = (answers(&lab, "syn_challenge")?, answers(&lab, "syn_proof")?);
    ensure(challenges > 1000, || {
        format!("the flood was answered with {challenges} questions only")
    })?;
    ensure(proofs >= 1, || {
        "no client has proved its address".to_owned()
    })?;
    // Forged sources took no more than the threshold gives them.
    let opened = lab.tmm.total("workers", "flowsOpened")?;
    ensure(opened < 20 * 14 + 50, || {
        format!("{opened} flows were opened in some ten seconds at 20 per second")
    })?;
    println!("{challenges} questions, {proofs} proofs, {opened} flows opened");
    lab.finish()
}

#[test]
fn a_transfer_goes_on_through_a_flood_of_forged_syns() -> Result {
    const LEN: u64 = 20 << 20;
    let lab = protected(20)?;
    let page = url(VIP[0], &format!("/bytes/{LEN}"));
    let got = thread::scope(|scope| {
        let script = format!("curl -gsSf --limit-rate 10M --max-time 60 {page} | sha256sum");
        let lab = &lab;
        let transfer = scope.spawn(move || lab.shell(&script));
        thread::sleep(Duration::from_millis(300));
        flood(lab, &|| {
            lab.curl(&["--max-time", "8", "-o", "/dev/null", &url(VIP[0], "/")])
                .map(drop)
        })?;
        transfer
            .join()
            .map_err(|_| Failure::new("the transfer panicked"))?
    })?;
    let want = pattern::sha256(LEN);
    ensure(got.starts_with(&want), || {
        format!("{LEN} bytes with hash {want} arrived as {got}")
    })?;
    lab.finish()
}

#[test]
fn connections_are_ended_by_command() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    let target = format!("{}:{HTTP}", VIP[0]);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let args = [
                "connections",
                &target,
                "--count=20",
                "--hold-ms=4000",
                "--timeout=3",
            ];
            lab.lab_client(&args)
        });
        thread::sleep(Duration::from_secs(2));
        let other = lab.tmm.ctl(&["flush", "--client", "192.0.2.200"], "")?;
        ensure(other.trim() == "0 connections ended", || other.clone())?;
        let all = lab.tmm.ctl(
            &[
                "flush",
                "--destination",
                VIP[0],
                "--state",
                "ESTABLISHED",
                "--json",
            ],
            "",
        )?;
        ensure(all.trim() == "{\"ended\":20}", || all.clone())?;
        let report = client
            .join()
            .map_err(|_| Failure::new("the client panicked"))??;
        // Their next segments met no flow, and were reset.
        ensure(report["answered"] == 0, || {
            format!("served all the same: {report}")
        })
    })?;
    lab.get(&url(VIP[0], "/"))?;
    lab.finish()
}
