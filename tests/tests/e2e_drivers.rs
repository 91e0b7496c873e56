//! The same service over every way to reach the kernel's devices that this machine has.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use serde_json::json;
use tests::lab::resources::{self, EXTERNAL_SELF, HTTP, VIP};
use tests::lab::{
    Driver, Failure, Lab, Options, Process, Result, ensure, eventually, pattern, program, url,
    xdp_sockets,
};

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
    intact(lab, address)
}

fn intact(lab: &Lab, address: &str) -> Result {
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
    if xdp_sockets() {
        smoke(Driver::AfXdp, false)?;
    }
    Ok(())
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
    two_in_a_row(1, 1)
}

#[test]
fn shared_memory_can_have_a_queue_for_each_worker() -> Result {
    two_in_a_row(2, 2)
}

#[test]
fn workers_can_share_one_queue_of_shared_memory() -> Result {
    two_in_a_row(2, 1)
}

fn two_in_a_row(workers: usize, queues: u16) -> Result {
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
        queues,
        tmm: vec![format!("--workers={workers}")],
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
        if workers == 1 {
            balanced_and_intact(&lab, address)?;
        } else {
            // Each worker goes round the members by itself.
            intact(&lab, address)?;
        }
    }
    let rows = lab.tmm.show("ports")?;
    ensure(rows.iter().any(|row| row["driver"] == "net_memif"), || {
        format!("no shared memory among {rows:?}")
    })?;
    for tmm in [&lab.tmm, second] {
        let rows = tmm.show("workers")?;
        let handed = |column| tmm.total("workers", column);
        ensure(
            rows.len() == workers && handed("handoffsIn")? == handed("handoffsOut")?,
            || format!("{rows:?}"),
        )?;
    }
    lab.ensure_no_resets()?;
    lab.finish()
}

/// An Ethernet frame of VLAN 100 from the client's station.
fn from_the_client(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend(CLIENT_MAC);
    frame.extend([0x81, 0x00, 0, 100]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0x10];

#[test]
fn captures_can_be_ports() -> Result {
    let directory = std::env::temp_dir().join(format!("tmm-e2e-{}-captures", std::process::id()));
    fs::create_dir_all(&directory)?;
    let outcome = answers_a_capture(&directory);
    drop(fs::remove_dir_all(&directory));
    outcome
}

fn answers_a_capture(directory: &Path) -> Result {
    let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
    // Who has 192.0.2.1? Tell 192.0.2.10.
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(CLIENT_MAC);
    arp.extend([192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    let question = from_the_client([0xff; 6], 0x0806, &arp);
    let mut writer = PcapWriter::new(fs::File::create(&input)?)?;
    writer.write_packet(&PcapPacket::new(
        Duration::from_secs(1),
        u32::try_from(question.len())?,
        &question,
    ))?;
    drop(writer);
    let vlan = resources::vlans(false, None)[0].to_string();
    fs::write(directory.join("vlan.json"), vlan)?;

    let mut command = Command::new(program("tmm")?);
    command
        .arg("run")
        .arg(format!(
            "--port=1.1=pcap:{},{}",
            input.display(),
            output.display()
        ))
        .arg("--config-socket=none")
        .arg("--config")
        .arg(directory.join("vlan.json"));
    let mut process = Process::spawn(command, directory.join("tmm.log"))?;
    eventually(Duration::from_secs(10), || {
        process.check_alive()?;
        let said = process.output();
        ensure(said.contains("tmm is ready"), || said.clone())
    })?;
    // The worker takes the only frame in its first turn; what it sent is written by the end.
    std::thread::sleep(Duration::from_millis(300));
    let (status, _) = process.stop()?;
    ensure(status.success(), || process.output())?;

    let mut reader = PcapReader::new(fs::File::open(&output)?)?;
    let mut answered = 0;
    while let Some(packet) = reader.next_packet() {
        let frame = packet?.data.to_vec();
        let reply = frame.len() >= 46
            && frame[..6] == CLIENT_MAC
            && frame[12..18] == [0x81, 0x00, 0, 100, 0x08, 0x06]
            && frame[24..26] == [0, 2]
            && frame[32..36] == [192, 0, 2, 1];
        answered += usize::from(reply);
    }
    ensure(answered == 1, || {
        format!("{answered} answers to one question in {}", output.display())
    })
}
