//! Real worker threads on capture files, one for each queue: a card that spreads frames without regard
//! to flows.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use net::{FlowKey, Layers, Packet, RxMeta};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use tests::lab::{Process, Result, ensure, eventually, program};
use tests::scenario::{frame, object};

/// Untranslated, so that a client's address names its worker.
const OBJECTS: [&str; 5] = [
    "F5SPKVlan external tag=100 interfaces=[\"1.1\"] selfip_v4s=[\"192.0.2.1\"] prefixlen_v4=24",
    "F5SPKVlan internal tag=200 interfaces=[\"1.2\"] selfip_v4s=[\"198.51.100.1\"] prefixlen_v4=24",
    "Service web 80/TCP",
    "EndpointSlice web TCP 198.51.100.11:8080",
    "F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 destinationPort=80",
];

/// What the driver of capture files gives its first port.
const PCAP_MAC: [u8; 6] = [2, b'p', b'c', b'a', b'p', 0];

/// Frames that may wait for the member's MAC address on one worker are few.
const CLIENTS: u8 = 14;

fn write(path: &Path, lines: &[String]) {
    let mut writer = PcapWriter::new(fs::File::create(path).unwrap()).unwrap();
    for line in lines {
        let (_, mut memory) = frame(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        // To whatever MAC address the port has: captures have none of their own.
        let mut octets = dataplane::port::Frame::packet(&mut memory).data().to_vec();
        if octets[0] & 1 == 0 {
            octets[..6].copy_from_slice(&PCAP_MAC);
        }
        let len = u32::try_from(octets.len()).unwrap();
        let packet = PcapPacket::new(Duration::from_secs(1), len, &octets);
        writer.write_packet(&packet).unwrap();
    }
}

/// How often each tuple is in a capture.
fn tuples(path: &Path) -> BTreeMap<FlowKey, usize> {
    let mut found = BTreeMap::new();
    let mut reader = PcapReader::new(fs::File::open(path).unwrap()).unwrap();
    while let Some(packet) = reader.next_packet() {
        let mut octets = packet.unwrap().data.to_vec();
        let len = octets.len();
        let packet = Packet::new(&mut octets, 0, len, RxMeta::default());
        if let Ok(layers) = Layers::parse(&packet)
            && layers.key.proto == net::IpProto::TCP
        {
            *found.entry(layers.key).or_default() += 1;
        }
    }
    found
}

#[test]
fn a_clients_frames_leave_by_one_worker_whichever_queues_they_come_in_by() -> Result {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    // Each client's frame is in both queues.
    let syn = |n: u8| {
        format!(
            "1.1 100 client>tmm1 tcp 192.0.2.{}:40000>203.0.113.10:80 S seq=1",
            10 + n
        )
    };
    for queue in ["in0", "in1"] {
        write(&path(queue), &(0..CLIENTS / 2).map(syn).collect::<Vec<_>>());
    }
    let arp = "1.2 200 b1>all arp who-has 198.51.100.1 tell 198.51.100.11".to_owned();
    write(&path("arp0"), &[arp]);
    write(&path("arp1"), &[]);
    let objects: Vec<String> = OBJECTS.map(|line| object(line).unwrap().to_string()).into();
    fs::write(path("objects.yaml"), objects.join("\n---\n"))?;

    let port = |n: u8, input: &str, output: &str| {
        let files = |key: &str, name: &str| {
            let file = |queue| format!(",{key}={}", path(&format!("{name}{queue}")).display());
            [file(0), file(1)].concat()
        };
        let (rx, tx) = (files("rx_pcap", input), files("tx_pcap", output));
        format!("--port=1.{n}=net_pcap{n}{rx}{tx}")
    };
    let mut command = Command::new(program("tmm")?);
    command
        .args([
            "run",
            "--workers=2",
            "--config-socket=none",
            "--promiscuous",
        ])
        .args([port(1, "in", "back"), port(2, "arp", "out")])
        .arg("--config")
        .arg(path("objects.yaml"));
    let mut process = Process::spawn(command, path("tmm.log"))?;
    eventually(Duration::from_secs(20), || {
        process.check_alive()?;
        let said = process.output();
        ensure(said.contains("tmm is ready"), || said.clone())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let (status, _) = process.stop()?;
    ensure(status.success(), || process.output())?;
    ensure(
        process
            .output()
            .contains("every buffer is back in its pool"),
        || process.output(),
    )?;

    let out = [tuples(&path("out0")), tuples(&path("out1"))];
    let all: usize = out.iter().map(BTreeMap::len).sum();
    assert_eq!(
        all,
        usize::from(CLIENTS / 2),
        "{out:?}\n{}",
        process.output()
    );
    // Both copies of each left by the same worker.
    assert!(
        out.iter().flat_map(BTreeMap::values).all(|n| *n == 2),
        "{out:?}"
    );
    Ok(())
}
