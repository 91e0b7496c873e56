//! tmm's addresses answer as a host's would: ARP, neighbour discovery and ping, all in user space.

use std::time::Duration;

use tests::lab::resources::{CLIENT, EXTERNAL_SELF, HTTP, INTERNAL_SELF, ON_LINK_VIP, VIP};
use tests::lab::{Lab, Options, Result, ensure, eventually, resources};

fn ping(lab: &Lab, address: &str) -> Result {
    lab.client
        .run("ping", &["-c", "3", "-i", "0.1", "-W", "2", address])
        .map(drop)
}

fn is_silent(lab: &Lab, address: &str) -> Result {
    let ping = lab.client.try_run(
        "ping",
        &["-c", "2", "-i", "0.2", "-w", "1", address],
        Duration::from_secs(10),
    )?;
    ensure(!ping.success(), || {
        format!("{address} answers ping though nothing should be there")
    })
}

#[test]
fn self_ips_and_virtual_addresses_answer_ping() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    for address in EXTERNAL_SELF.iter().chain(&VIP) {
        ping(&lab, address)?;
    }
    // Large ones, too, and from the other VLAN.
    lab.client.run(
        "ping",
        &["-c", "2", "-i", "0.1", "-s", "1400", EXTERNAL_SELF[0]],
    )?;
    for address in INTERNAL_SELF {
        lab.backends[1].run("ping", &["-c", "2", "-i", "0.1", "-W", "2", address])?;
    }
    lab.finish()
}

#[test]
fn arping_finds_the_self_ip_and_an_on_link_virtual_address() -> Result {
    let lab = Lab::start(&Options::default())?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&resources::service([true; 3]))?;
    lab.tmm.apply(&[resources::virtual_server(
        "near",
        HTTP,
        ON_LINK_VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    lab.await_virtual_servers(ON_LINK_VIP)?;
    let mut stations = Vec::new();
    for address in [EXTERNAL_SELF[0], ON_LINK_VIP[0]] {
        let said = lab
            .client
            .run("arping", &["-c", "2", "-w", "3", "-I", "eth0", address])?
            .text();
        let station = said.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        ensure(station.len() == 17, || format!("no station in:\n{said}"))?;
        stations.push(station);
    }
    ensure(stations[0] == stations[1], || {
        format!("one VLAN, two stations: {stations:?}")
    })?;
    // Duplicate address detection: somebody has it.
    let taken = lab.client.try_run(
        "arping",
        &["-D", "-c", "2", "-w", "3", "-I", "eth0", ON_LINK_VIP[0]],
        Duration::from_secs(10),
    )?;
    ensure(!taken.success(), || {
        "duplicate address detection finds nobody".to_owned()
    })?;
    let unowned = lab.client.try_run(
        "arping",
        &["-c", "2", "-w", "1", "-I", "eth0", "192.0.2.200"],
        Duration::from_secs(10),
    )?;
    ensure(!unowned.success(), || {
        "an address nobody owns is answered for".to_owned()
    })?;
    lab.finish()
}

#[test]
fn a_virtual_address_lives_only_while_its_service_has_a_ready_endpoint() -> Result {
    let lab = Lab::start(&Options::default())?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&[resources::virtual_server(
        "near",
        HTTP,
        ON_LINK_VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    eventually(Duration::from_secs(5), || ping(&lab, EXTERNAL_SELF[0]))?;
    for address in ON_LINK_VIP {
        is_silent(&lab, address)?;
    }
    lab.tmm.apply(&resources::service([false, true, false]))?;
    lab.await_virtual_servers(ON_LINK_VIP)?;
    for address in ON_LINK_VIP {
        ping(&lab, address)?;
    }
    lab.tmm.apply(&resources::service([false; 3]))?;
    for address in ON_LINK_VIP {
        eventually(Duration::from_secs(5), || is_silent(&lab, address))?;
    }
    lab.finish()
}

#[test]
fn the_neighbours_tmm_has_learnt_are_the_stations_that_are_there() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    for address in EXTERNAL_SELF {
        ping(&lab, address)?;
    }
    let neighbors = lab.tmm.show("neighbors")?;
    let knows = |address: &str, mac: &str| {
        neighbors
            .iter()
            .any(|row| row["address"] == address && row["mac"] == mac)
    };
    let backend = |number: usize| {
        let mac = format!("02:00:00:00:02:1{number}");
        resources::backend(number)
            .iter()
            .any(|address| knows(address, &mac))
    };
    let found = CLIENT
        .iter()
        .any(|address| knows(address, "02:00:00:00:01:10"))
        && backend(1);
    ensure(found, || {
        format!("the client or backend 1 is missing among {neighbors:?}")
    })?;
    lab.finish()
}

#[test]
fn neighbour_discovery_finds_the_self_ip_and_an_on_link_virtual_address() -> Result {
    let lab = Lab::start(&Options::default())?;
    lab.tmm
        .apply(&resources::everything(false, None, "SRC_TRANS_NONE"))?;
    lab.tmm.apply(&[resources::virtual_server(
        "near",
        HTTP,
        ON_LINK_VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    lab.await_virtual_servers(ON_LINK_VIP)?;
    let ports = lab.tmm.show("ports")?;
    let mac = ports[0]["mac"].as_str().unwrap_or_default();
    for address in [EXTERNAL_SELF[1], ON_LINK_VIP[1]] {
        lab.client
            .run("ip", &["-6", "neigh", "flush", "dev", "eth0"])?;
        ping(&lab, address)?;
        let known = lab
            .client
            .run("ip", &["-6", "neigh", "show", address, "dev", "eth0"])?
            .text();
        ensure(known.contains(mac) && known.contains("router"), || {
            format!("{address} should be a router at {mac}, but is {known}")
        })?;
    }
    lab.finish()
}

#[test]
fn an_address_that_is_taken_is_announced_to_the_vlan() -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut fields = vec!["-l", "-n", "-i", "eth0", "-Y"];
    fields.push("arp.isgratuitous == 1 || (icmpv6.type == 136 && ipv6.dst == ff02::1)");
    fields.extend(["-T", "fields"]);
    fields.extend([
        "-e",
        "arp.src.proto_ipv4",
        "-e",
        "icmpv6.nd.na.target_address",
    ]);
    let log = lab.directory().join("capture");
    let capture = lab.client.spawn("tshark".as_ref(), &fields, log)?;
    eventually(Duration::from_secs(10), || {
        let said = capture.output();
        ensure(said.contains("Capturing on"), || {
            format!("the capture has not begun:\n{said}")
        })
    })?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&resources::service([true; 3]))?;
    lab.tmm.apply(&[resources::virtual_server(
        "near",
        HTTP,
        ON_LINK_VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    eventually(Duration::from_secs(10), || {
        let heard = capture.output();
        for address in EXTERNAL_SELF.iter().chain(&ON_LINK_VIP) {
            let announced = heard.lines().any(|line| line.trim() == *address);
            ensure(announced, || format!("{address} is not among\n{heard}"))?;
        }
        Ok(())
    })?;
    lab.finish()
}
