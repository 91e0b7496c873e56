//! The same service over every way to reach the kernel's devices that this machine has.

use std::path::Path;

use serde_json::json;
use tests::lab::resources::{self, EXTERNAL_SELF, HTTP, VIP};
use tests::lab::{Driver, Failure, Lab, Options, Result, ensure, pattern, url};

/// Each backend answers one of three requests, and 10 MiB arrive as they were sent.
fn balanced_and_intact(lab: &Lab, address: &str) -> Result {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(lab.get(&url(address, "/"))?);
    }
    servers.sort();
    ensure(servers == ["backend-1", "backend-2", "backend-3"], || {
        format!("answered by {servers:?}")
    })?;
    let page = url(address, "/bytes/10485760");
    let got = lab.shell(&format!("curl -gsSf --max-time 60 {page} | sha256sum"))?;
    ensure(got.starts_with(&pattern::sha256(10 << 20)), || {
        format!("10 MiB arrived as {got}")
    })
}

/// Ping, balanced requests, a datagram's way, and a transfer: enough to tell that a driver works.
fn smoke(driver: Driver, one_arm: bool) -> Result {
    let lab = Lab::with_everything(
        &Options {
            driver,
            one_arm,
            ..Options::default()
        },
        "SRC_TRANS_AUTOMAP",
    )?;
    for (own, virtual_address) in EXTERNAL_SELF.iter().zip(VIP) {
        lab.client
            .run("ping", &["-c", "2", "-i", "0.1", "-W", "2", own])?;
        balanced_and_intact(&lab, virtual_address)?;
    }
    let report = lab.lab_client(&["udp", &format!("{}:7", VIP[0]), "--count=9"])?;
    ensure(report["answered"] == 9, || format!("the echoes: {report}"))?;
    lab.ensure_no_resets()?;
    lab.finish()
}

#[test]
fn af_packet_carries_the_service() -> Result {
    smoke(Driver::AfPacket, false)
}

#[test]
fn af_xdp_carries_the_service() -> Result {
    // SAFETY: socket and close take integers.
    let present = unsafe {
        let socket = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if socket >= 0 {
            libc::close(socket);
        }
        socket >= 0
    };
    if !present {
        let reason = std::io::Error::last_os_error();
        println!("not tested: this kernel gives no AF_XDP sockets ({reason})");
        return Ok(());
    }
    smoke(Driver::AfXdp, false)
}

#[test]
fn tap_devices_carry_the_service() -> Result {
    if !Path::new("/dev/net/tun").exists() {
        println!("not tested: /dev/net/tun is missing");
        return Ok(());
    }
    smoke(Driver::Tap, true)
}

#[test]
fn two_tmm_in_a_row_carry_the_service_through_shared_memory() -> Result {
    const MIDDLE: [[&str; 2]; 3] = [
        ["10.9.0.1", "2001:db8:9::1"],
        ["10.9.0.2", "2001:db8:9::2"],
        ["10.9.0.100", "2001:db8:9::100"],
    ];
    let middle = |interface: &str, own: [&str; 2]| {
        let mut vlan = resources::vlans(false, None)[0].clone();
        vlan["metadata"]["name"] = "middle".into();
        vlan["spec"]["name"] = "middle".into();
        vlan["spec"]["tag"] = 300.into();
        vlan["spec"]["interfaces"] = json!([interface]);
        vlan["spec"]["selfip_v4s"] = json!([own[0]]);
        vlan["spec"]["selfip_v6s"] = json!([own[1]]);
        vlan
    };
    let lab = Lab::start(&Options {
        driver: Driver::Memif,
        ..Options::default()
    })?;
    let second = lab
        .second
        .as_ref()
        .ok_or_else(|| Failure::new("no second tmm"))?;
    // The second balances over the backends what comes to an address on the VLAN in the middle.
    let [_, internal] = resources::vlans(false, None);
    let mut server = resources::virtual_server("middle", HTTP, MIDDLE[2], "SRC_TRANS_AUTOMAP", 300);
    server["spec"]["vlans"]["vlanList"] = json!(["middle"]);
    second.apply(&[middle("1.1", MIDDLE[1]), internal])?;
    second.apply(&resources::service([true; 3]))?;
    second.apply(&[server])?;
    // The first one's only backend is that address.
    let [external, _] = resources::vlans(false, None);
    lab.tmm.apply(&[external, middle("1.2", MIDDLE[0])])?;
    let mut service = resources::service([true, false, false]);
    for (family, slice) in service[1..].iter_mut().enumerate() {
        slice["endpoints"] =
            json!([{"addresses": [MIDDLE[2][family]], "conditions": {"ready": true}}]);
        slice["ports"][0]["port"] = HTTP.into();
    }
    service[0]["spec"]["ports"][0]["targetPort"] = HTTP.into();
    lab.tmm.apply(&service)?;
    lab.tmm.apply(&[resources::virtual_server(
        "http",
        HTTP,
        VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    lab.await_virtual_servers(VIP)?;
    for address in VIP {
        balanced_and_intact(&lab, address)?;
    }
    let rows = lab.tmm.show("ports")?;
    ensure(rows.iter().any(|row| row["driver"] == "net_memif"), || {
        format!("no shared memory among {rows:?}")
    })?;
    lab.ensure_no_resets()?;
    lab.finish()
}
