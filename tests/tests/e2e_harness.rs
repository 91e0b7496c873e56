//! The lab itself, without tmm: what the switch and the backends do when nothing stands between.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tests::lab::{
    Namespace, Process, Result, TRUNK_MTU, address, ensure, link, pattern, program, url,
};

const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:100::10"];
const SERVER: [&str; 2] = ["192.0.2.11", "2001:db8:100::11"];

/// A client and a backend, each on an access port of a switch of its own, a tagged trunk between.
struct Wire {
    switches: [Process; 2],
    _server: Process,
    client: Namespace,
    _backend: Namespace,
    trunk: Namespace,
    directory: PathBuf,
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn wire(tags: &str, impairment: &[&str]) -> Result<Wire> {
    let directory = std::env::temp_dir().join(format!("tmm-e2e-{}-wire", std::process::id()));
    fs::create_dir_all(&directory)?;
    let client = Namespace::new(0, "client", false)?;
    let backend = Namespace::new(0, "backend", false)?;
    let trunk = Namespace::new(0, "trunk", true)?;
    link(&trunk, "trunk1", &trunk, "trunk2", TRUNK_MTU)?;
    let switch = |number: u8, station: &Namespace| -> Result<Process> {
        let outside = format!("--trunk=dev=trunk{number}");
        let access = format!("--access=netns={},dev=eth0{tags}", station.name());
        let args = [&[outside.as_str(), &access], impairment].concat();
        let log = directory.join(format!("switch{number}.log"));
        let mut process = trunk.spawn(&program("vlan-switch")?, &args, log)?;
        process.await_ready()?;
        Ok(process)
    };
    let switches = [switch(1, &client)?, switch(2, &backend)?];
    address(&client, CLIENT)?;
    address(&backend, SERVER)?;
    let args = ["--name=backend-1", "--http=[::]:80", "--udp=[::]:7"];
    let mut server = backend.spawn(&program("lab-server")?, &args, directory.join("server.log"))?;
    server.await_ready()?;
    Ok(Wire {
        switches,
        _server: server,
        client,
        _backend: backend,
        trunk,
        directory,
    })
}

fn shell(wire: &Wire, script: &str) -> Result<String> {
    let finished = wire
        .client
        .try_run("bash", &["-c", script], Duration::from_mins(1))?;
    finished.ok().map(|finished| finished.text())
}

fn transfer_is_intact(wire: &Wire, address: &str, len: u64) -> Result {
    let script = format!(
        "curl -gsS {} | sha256sum",
        url(address, &format!("/bytes/{len}"))
    );
    let got = shell(wire, &script)?;
    let want = pattern::sha256(len);
    ensure(got.starts_with(&want), || {
        format!("{len} bytes with hash {want} arrived as {got}")
    })
}

#[test]
fn a_hundred_mebibytes_cross_a_tagged_trunk_intact() -> Result {
    let mut wire = wire(",vlan=100", &[])?;
    for server in SERVER {
        transfer_is_intact(&wire, server, 100 << 20)?;
    }
    for switch in &mut wire.switches {
        let (status, _) = switch.stop()?;
        ensure(status.success(), || {
            format!("the switch ended with {status}")
        })?;
        ensure(!switch.output().contains("received 0,"), || switch.output())?;
    }
    Ok(())
}

#[test]
fn a_thousand_connections_and_large_datagrams_pass_the_switch() -> Result {
    let wire = wire(",vlan=100", &[])?;
    let client = program("lab-client")?;
    for server in ["192.0.2.11", "[2001:db8:100::11]"] {
        wire.client.run(
            &client,
            &["connections", &format!("{server}:80"), "--count=1000"],
        )?;
        wire.client
            .run(&client, &["udp", &format!("{server}:7"), "--size=4000"])?;
    }
    Ok(())
}

#[test]
fn frames_on_the_trunk_carry_the_tags_asked_for() -> Result {
    let wire = wire(",vlan=100,outer=300", &[])?;
    let capture = "timeout 5 tshark -l -n -i trunk1 -c 4 -T fields -e eth.type -e ieee8021ad.id -e vlan.id 2>/dev/null";
    let log = wire.directory.join("capture");
    let capture = wire.trunk.spawn("bash".as_ref(), &["-c", capture], log)?;
    tests::lab::eventually(Duration::from_secs(10), || {
        wire.client
            .run("ping", &["-c", "2", "-i", "0.1", "-W", "1", SERVER[0]])?;
        let seen = capture.output();
        ensure(seen.lines().count() >= 2, || {
            format!("the capture shows only:\n{seen}")
        })
    })?;
    let seen = capture.output();
    for line in seen.lines() {
        ensure(
            line.contains("0x88a8") && line.contains("300") && line.contains("100"),
            || format!("a frame without both tags:\n{seen}"),
        )?;
    }
    // Full-size frames with two tags fit, too.
    transfer_is_intact(&wire, SERVER[1], 1 << 20)
}

#[test]
fn tcp_survives_what_an_impaired_switch_does_to_it() -> Result {
    let mut wire = wire(
        ",vlan=100",
        &["--loss=1", "--duplicate=1", "--reorder=2", "--seed=42"],
    )?;
    for server in SERVER {
        transfer_is_intact(&wire, server, 4 << 20)?;
    }
    wire.switches[0].stop()?;
    let report = wire.switches[0].output();
    let dealt: Vec<u64> = report
        .lines()
        .filter(|line| line.contains("duplicated"))
        .flat_map(|line| line.split([' ', ',']))
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure(
        dealt.len() == 3 && dealt.iter().all(|frames| *frames > 0),
        || format!("not every misfortune came about:\n{report}"),
    )
}

#[test]
fn ports_of_different_vlans_do_not_hear_each_other() -> Result {
    let one = Namespace::new(0, "one", false)?;
    let two = Namespace::new(0, "two", false)?;
    let same = Namespace::new(0, "same", false)?;
    let access = |namespace: &Namespace, vlan: u16| {
        format!("--access=netns={},dev=eth0,vlan={vlan}", namespace.name())
    };
    let args = [access(&one, 100), access(&two, 200), access(&same, 100)];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let log = std::env::temp_dir().join(format!("tmm-e2e-{}-vlans", std::process::id()));
    let mut switch = one.spawn(&program("vlan-switch")?, &args, log.clone())?;
    switch.await_ready()?;
    for (namespace, last) in [(&one, 1), (&two, 2), (&same, 3)] {
        address(
            namespace,
            [&format!("192.0.2.{last}"), &format!("2001:db8::{last}")],
        )?;
    }
    one.run("ping", &["-c", "1", "-W", "2", "192.0.2.3"])?;
    for stranger in ["192.0.2.2", "2001:db8::2"] {
        let ping = one.try_run(
            "ping",
            &["-c", "1", "-w", "1", stranger],
            Duration::from_secs(5),
        )?;
        ensure(!ping.success(), || {
            format!("{stranger} answers across VLANs")
        })?;
    }
    drop(switch);
    drop(fs::remove_file(log));
    Ok(())
}
