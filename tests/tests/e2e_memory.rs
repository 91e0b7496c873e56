//! What tmm takes of memory is what it said it would, and a start that memory has no room for is refused.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use net::emit::{ethernet, udp};
use net::{Encap, FlowKey, IpProto, L4Port, MacAddr, VlanId};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use serde_json::json;
use tests::lab::{Failure, Namespace, Process, Result, Tmm, ensure, eventually, link, program};

const FLOWS: u32 = 1_000_000;
const GOAL_KIB: u64 = 256 << 10;
/// The address of the first port on a capture file.
const PCAP_MAC: MacAddr = MacAddr([0x02, 0x70, 0x63, 0x61, 0x70, 0x00]);

/// A directory and, where the machine lets us, a control group of a test's own.
struct Scratch {
    directory: PathBuf,
    group: Option<PathBuf>,
}

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let name = format!("tmm-e2e-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            group: None,
        })
    }

    /// Puts what this test starts from now on into a group with a memory limit. Says why if it cannot.
    fn limit(&mut self, mib: u64) -> Result<bool> {
        let groups = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (root, file) in groups {
            let group = Path::new(root).join(self.directory.file_name().unwrap_or_default());
            if !Path::new(root).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
                continue;
            }
            self.group = Some(group.clone());
            if fs::write(group.join(file), (mib << 20).to_string()).is_ok() {
                fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
                return Ok(true);
            }
            drop(fs::remove_dir(&group));
        }
        println!("not tested with a memory limit: this machine lets us make no control group");
        Ok(false)
    }

    /// Leaves the group.
    fn leave(&mut self) {
        if let Some(group) = self.group.take() {
            if let Some(root) = group.parent() {
                drop(fs::write(
                    root.join("cgroup.procs"),
                    std::process::id().to_string(),
                ));
            }
            drop(fs::remove_dir(group));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.leave();
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Huge pages reserved for a test, given back on drop.
struct HugePages(String);

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl HugePages {
    fn reserve(pages: u64) -> Option<Self> {
        let before = fs::read_to_string(POOL).ok()?;
        let wanted = before.trim().parse::<u64>().ok()? + pages;
        let reserved = Self(before);
        fs::write(POOL, wanted.to_string()).ok()?;
        let got = fs::read_to_string(POOL).ok()?.trim().parse::<u64>().ok()?;
        (got >= wanted).then_some(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        drop(fs::write(POOL, self.0.trim()));
    }
}

fn objects() -> Vec<serde_json::Value> {
    let vlan = |name: &str, tag: u16, interface: &str, own: &str| {
        json!({
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": name},
            "spec": {"name": name, "tag": tag, "interfaces": [interface], "selfip_v4s": [own],
                     "prefixlen_v4": 24},
        })
    };
    vec![
        vlan("external", 100, "1.3", "192.0.2.1"),
        vlan("internal", 200, "1.2", "198.51.100.1"),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "sink"},
            "spec": {"ports": [{"name": "udp", "protocol": "UDP", "port": 9, "targetPort": 9}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "sink", "labels": {"kubernetes.io/service-name": "sink"}},
            "addressType": "IPv4",
            "ports": [{"name": "udp", "protocol": "UDP", "port": 9}],
            "endpoints": [{"addresses": ["198.51.100.11"], "conditions": {"ready": true}}],
        }),
        json!({
            "apiVersion": "ingressudp.k8s.f5net.com/v1", "kind": "F5SPKIngressUDP",
            "metadata": {"name": "sink"}, "service": {"name": "sink", "port": 9},
            "spec": {"destinationAddress": "203.0.113.10", "destinationPort": 9,
                     "snat": "SRC_TRANS_NONE", "idleTimeout": 600},
        }),
    ]
}

/// A capture of one datagram for each of so many flows.
fn write_capture(path: &Path, flows: u32) -> Result {
    let mut writer = PcapWriter::new(std::io::BufWriter::new(fs::File::create(path)?))?;
    let vid = VlanId::new(100).ok_or_else(|| Failure::new("100 is a VLAN"))?;
    let encap = Encap::tagged(vid);
    for number in 0..flows {
        let [_, high, low, _] = number.to_be_bytes();
        let source = IpAddr::from([10, 1, high, low]);
        let key = FlowKey::new(
            source.into(),
            IpAddr::from([203, 0, 113, 10]).into(),
            L4Port(1024 + u16::try_from(number & 0xff)?),
            L4Port(9),
            IpProto::UDP,
        );
        let frame = ethernet(
            PCAP_MAC,
            MacAddr([2, 0, 0, 0, 1, 0x10]),
            encap,
            0x0800,
            &udp(&key, &[]),
        );
        let length = u32::try_from(frame.len())?;
        writer.write_packet(&PcapPacket::new(Duration::ZERO, length, &frame))?;
    }
    Ok(())
}

/// Resident memory, and huge pages, KiB.
fn taken(process: &Process) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
    };
    Ok((
        line("VmRSS:").unwrap_or(u64::MAX / 2),
        line("HugetlbPages:").unwrap_or(0),
    ))
}

/// A million flows with two ports on packet sockets; all that tmm takes fits into the goal.
fn a_million_flows(hugepages: &str) -> Result {
    let mut scratch = Scratch::new(hugepages)?;
    let capture = scratch.directory.join("in.pcap");
    write_capture(&capture, FLOWS)?;
    let config = scratch.directory.join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects()});
    fs::write(&config, list.to_string())?;
    let inside = Namespace::new(0, "tmm", true)?;
    for number in ["1", "2"] {
        link(
            &inside,
            &format!("port{number}"),
            &inside,
            &format!("far{number}"),
            1500,
        )?;
    }
    scratch.limit(300)?;
    let ports = [
        "1.1=af_packet:port1".to_owned(),
        "1.2=af_packet:port2".to_owned(),
        format!("1.3=pcap:{},", capture.display()),
    ];
    let args = [
        format!("--flow-capacity={FLOWS}"),
        format!("--hugepages={hugepages}"),
        format!("--config={}", config.display()),
    ];
    let mut tmm = Tmm::start(&inside, &ports, &args, &scratch.directory)?;
    let said = tmm.process.output();
    let shows_plan = said.contains("memory plan") && said.contains("in all");
    ensure(shows_plan, || {
        format!("the plan is not in the log:\n{said}")
    })?;
    eventually(Duration::from_secs(100), || {
        let flows = tmm.total("workers", "flows")?;
        ensure(flows >= u64::from(FLOWS) * 99 / 100, || {
            format!("{flows} flows so far")
        })
    })
    .map_err(|failure| {
        let drops = tmm.show("drops").unwrap_or_default();
        Failure::new(format!("{failure}; {drops:?}"))
    })?;
    let (resident, huge) = taken(&tmm.process)?;
    println!(
        "hugepages {hugepages}: {FLOWS} flows, two ports: {} MiB resident and {} MiB of huge pages",
        resident >> 10,
        huge >> 10
    );
    ensure(resident + huge <= GOAL_KIB, || {
        format!("{resident} KiB resident and {huge} KiB of huge pages are more than {GOAL_KIB}")
    })?;
    if hugepages == "auto" {
        ensure(huge > 150 << 10, || {
            format!("only {huge} KiB are huge pages")
        })?;
    }
    tmm.stop_cleanly()
}

#[test]
fn a_million_flows_and_two_ports_fit_into_256_mib_without_hugepages() -> Result {
    a_million_flows("never")
}

#[test]
fn a_million_flows_and_two_ports_fit_into_256_mib_with_hugepages() -> Result {
    let Some(_reserved) = HugePages::reserve(140) else {
        println!("not tested with hugepages: the kernel gives none");
        return Ok(());
    };
    a_million_flows("auto")
}

/// Runs `tmm run` to its end, which must be a refusal; gives what it said.
fn refused(args: &[&str]) -> Result<String> {
    let output = Command::new("timeout")
        .args(["--kill-after=2", "20"])
        .arg(program("tmm")?)
        .args(["run", "--port=1.1=null", "--config-socket=none"])
        .args(args)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1), || {
        format!("{}:\n{said}", output.status)
    })?;
    Ok(said)
}

#[test]
fn what_the_container_has_no_memory_for_is_refused_with_the_sum() -> Result {
    let mut scratch = Scratch::new("refused")?;
    if !scratch.limit(160)? {
        return Ok(());
    }
    let said = refused(&["--flow-capacity=1000000", "--hugepages=never"])?;
    scratch.leave();
    for words in [
        "tmm: not enough memory: ",
        "of the container's limit of 160 MiB",
        "--flow-capacity ",
        "flow tables (ordinary)",
        "in all",
    ] {
        ensure(said.contains(words), || {
            format!("{words:?} is not in:\n{said}")
        })?;
    }
    Ok(())
}

#[test]
fn what_the_machine_has_no_memory_for_is_refused_too() -> Result {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    // Buffers of 9 KiB: eight million of them take some 80 GiB.
    if available.is_none_or(|kib| kib > 70 << 20) {
        println!("not tested: this machine has memory for anything");
        return Ok(());
    }
    let said = refused(&["--mbufs=8388607", "--default-mtu=9000", "--hugepages=never"])?;
    ensure(
        said.contains("not enough memory") && said.contains("packet buffers"),
        || said.clone(),
    )
}
