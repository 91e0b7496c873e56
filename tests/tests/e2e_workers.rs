//! Several workers, with real clients and servers, on every kind of port: connections are spread over
//! the workers, both directions of each meet one of them, and frames that come in elsewhere are
//! handed over.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::VIP;
use tests::lab::{Driver, Lab, Options, Result, ensure, eventually, pattern, url, xdp_sockets};

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
    transfers(&lab, workers, snat)?;
    lab.finish()
}

/// The same in a lab that goes on afterwards.
fn transfers(lab: &Lab, workers: usize, snat: &str) -> Result {
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
    ensure(lost.is_empty(), || format!("{lost:?}"))
}

#[test]
fn two_workers_on_packet_sockets_translate() -> Result {
    serves(&with_workers(Driver::AfPacket, 2), 2, "SRC_TRANS_AUTOMAP")
}

#[test]
fn three_workers_on_packet_sockets_leave_the_clients_address() -> Result {
    serves(&with_workers(Driver::AfPacket, 3), 3, "SRC_TRANS_NONE")
}

/// As with two virtual functions for each VLAN, without RSS, without a second MAC address and without
/// promiscuity: the ports of a VLAN find each other, each worker has one of them and sends by it.
#[test]
fn two_workers_on_two_ports_of_one_queue_for_each_vlan_translate() -> Result {
    let options = Options {
        pairs: true,
        ..with_workers(Driver::AfPacket, 2)
    };
    let lab = Lab::with_everything(&options, "SRC_TRANS_AUTOMAP")?;
    eventually(Duration::from_secs(5), || {
        let vlans = lab.tmm.show("vlans")?;
        let segments: Vec<String> = vlans
            .iter()
            .map(|row| row["segments"].to_string())
            .collect();
        ensure(segments == [r#"["1.1+1.2"]"#, r#"["1.3+1.4"]"#], || {
            format!("{segments:?}")
        })
    })?;
    transfers(&lab, 2, "SRC_TRANS_AUTOMAP")?;
    let queues: Vec<Value> = lab.tmm.show("workers")?;
    let queues: Vec<&str> = queues
        .iter()
        .filter_map(|row| row["queues"].as_str())
        .collect();
    ensure(queues == ["1.1:0,1.3:0", "1.2:0,1.4:0"], || {
        format!("{queues:?}")
    })?;
    let ports = lab.tmm.show("ports")?;
    ensure(
        ports.iter().all(|row| number(row, "txPackets") > 100),
        || format!("one of the ports is not sent by: {ports:?}"),
    )?;
    // Each station has heard one MAC address of ours for each address, and what we have of them does not
    // contradict itself: nobody was taken for a conflict.
    let conflicts = lab.tmm.show("self-ips")?;
    ensure(
        conflicts.iter().all(|row| row["conflict"].is_null()),
        || format!("{conflicts:?}"),
    )?;
    lab.finish()
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
