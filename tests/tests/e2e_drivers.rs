//! The same service over every way to reach the kernel's devices that this machine has.

use std::path::Path;

use tests::lab::resources::{EXTERNAL_SELF, VIP};
use tests::lab::{Driver, Lab, Options, Result, ensure, pattern, url};

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
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(lab.get(&url(virtual_address, "/"))?);
        }
        servers.sort();
        ensure(servers == ["backend-1", "backend-2", "backend-3"], || {
            format!("answered by {servers:?}")
        })?;
        let page = url(virtual_address, "/bytes/10485760");
        let got = lab.shell(&format!("curl -gsSf --max-time 60 {page} | sha256sum"))?;
        ensure(got.starts_with(&pattern::sha256(10 << 20)), || {
            format!("10 MiB arrived as {got}")
        })?;
    }
    let report = lab.lab_client(&["udp", &format!("{}:7", VIP[0]), "--count=9"])?;
    ensure(report["answered"] == 9, || format!("the echoes: {report}"))?;
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
