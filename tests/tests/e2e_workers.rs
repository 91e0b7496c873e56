//! Several workers, with real clients and servers, on every kind of port: connections are spread over
//! the workers, both directions of each meet one of them, and frames that come in elsewhere are
//! handed over.

use std::path::Path;

use serde_json::Value;
use tests::lab::resources::VIP;
use tests::lab::{Driver, Lab, Options, Result, ensure, pattern, url, xdp_sockets};

const BYTES: u64 = 4 << 20;

fn with_workers(driver: Driver, workers: u16) -> Options {
    Options {
        driver,
        tmm: vec![format!("--workers={workers}")],
        ..Options::default()
    }
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or(0)
}

/// Many connections by both families, with files both ways; then everything must be accounted for.
fn serves(options: &Options, workers: usize, snat: &str) -> Result {
    let lab = Lab::with_everything(options, snat)?;
    let file = lab.directory().join("transfer").display().to_string();
    for address in VIP {
        for _ in 0..20 {
            lab.get(&url(address, "/"))?;
        }
        let (down, up) = (
            url(address, &format!("/bytes/{BYTES}")),
            url(address, "/upload"),
        );
        let want = pattern::sha256(BYTES);
        let hash = lab.shell(&format!(
            "curl -gsSf --max-time 20 -o {file} {down}; sha256sum <{file}"
        ))?;
        ensure(hash.starts_with(&want), || {
            format!("a file from {address} arrived damaged")
        })?;
        let hash = lab.curl(&["--max-time", "20", "-T", &file, &up])?;
        ensure(hash == want, || {
            format!("a file to {address} arrived damaged")
        })?;
    }
    lab.ensure_no_resets()?;
    let rows = lab.tmm.show("workers")?;
    ensure(rows.len() == workers, || format!("{rows:?}"))?;
    let sum = |column| rows.iter().map(|row| number(row, column)).sum::<u64>();
    // One client address is all there is: untranslated, it is one worker's.
    let busy = rows.iter().filter(|row| number(row, "flowsOpened") > 0);
    let expected = if snat == "SRC_TRANS_AUTOMAP" {
        workers
    } else {
        1
    };
    ensure(busy.count() >= expected, || {
        format!("workers open no connections: {rows:?}")
    })?;
    ensure(sum("handoffsIn") == sum("handoffsOut"), || {
        format!("frames are lost on the way between workers: {rows:?}")
    })?;
    let lost: Vec<Value> = lab
        .tmm
        .show("drops")?
        .into_iter()
        .filter(|row| ["handoff_full", "tx_full"].contains(&row["reason"].as_str().unwrap_or("")))
        .filter(|row| number(row, "packets") > 0)
        .collect();
    ensure(lost.is_empty(), || format!("{lost:?}"))?;
    lab.finish()
}

#[test]
fn two_workers_on_packet_sockets_translate() -> Result {
    serves(&with_workers(Driver::AfPacket, 2), 2, "SRC_TRANS_AUTOMAP")
}

#[test]
fn three_workers_on_packet_sockets_leave_the_clients_address() -> Result {
    serves(&with_workers(Driver::AfPacket, 3), 3, "SRC_TRANS_NONE")
}

#[test]
fn two_workers_on_taps_translate() -> Result {
    if !Path::new("/dev/net/tun").exists() {
        println!("not tested: /dev/net/tun is missing");
        return Ok(());
    }
    serves(&with_workers(Driver::Tap, 2), 2, "SRC_TRANS_AUTOMAP")
}

#[test]
fn two_workers_on_xdp_sockets_of_one_queue_leave_the_clients_address() -> Result {
    if !xdp_sockets() {
        return Ok(());
    }
    serves(&with_workers(Driver::AfXdp, 2), 2, "SRC_TRANS_NONE")
}
