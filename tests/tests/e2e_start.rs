//! How tmm starts, how it does not, and how it ends.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tests::lab::resources::VIP;
use tests::lab::{
    Failure, Lab, Namespace, Options, Result, TRUNK_MTU, ensure, eventually, link, program, url,
    xdp_sockets,
};

/// A directory of a test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tmm-e2e-{}-start{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs `tmm run` with `args` for at most 10 s, as `wrapper` has it.
fn run(wrapper: &[&str], args: &[impl AsRef<OsStr>]) -> Result<Output> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=2", "10"]).args(wrapper);
    command.arg(program("tmm")?).arg("run").args(args);
    Ok(command.output()?)
}

/// Expects the start to fail with a last word in which each of `wanted` occurs.
fn refuses(wrapper: &[&str], args: &[&str], wanted: &[&str]) -> Result {
    let output = run(wrapper, args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status;
    ensure(matches!(status.code(), Some(1 | 2)), || {
        format!("tmm run {} ended with {status}:\n{said}", args.join(" "))
    })?;
    for words in wanted {
        ensure(said.contains(words), || {
            format!(
                "tmm run {} does not say \"{words}\":\n{said}",
                args.join(" ")
            )
        })?;
    }
    ensure(!said.contains("panicked"), || said.clone())
}

/// Refuses this port, on a tmm without socket.
fn refuses_port(port: &str, wanted: &[&str]) -> Result {
    let port = format!("--port=1.1={port}");
    refuses(&[], &[&port, "--config-socket=none"], wanted)
}

#[test]
fn a_port_that_cannot_be_had_is_named_with_what_to_do() -> Result {
    refuses_port(
        "af_packet:tmm-nosuch",
        &["tmm: port 1.1: ", "no network interface \"tmm-nosuch\""],
    )?;
    refuses_port("af_xdp:tmm-nosuch", &["no network interface"])?;
    refuses_port(
        "pcap:/nonexistent/in.pcap,",
        &["/nonexistent/in.pcap is missing"],
    )?;
    refuses_port(
        "memif:/nonexistent/memif,role=server",
        &["/nonexistent is missing"],
    )?;
    let scratch = Scratch::new()?;
    refuses_port(
        &format!("memif:{},role=client", scratch.path("memif")),
        &["A memif client needs its server"],
    )?;
    refuses_port(
        "pci:0000:ff:1f.7",
        &["no PCI device 0000:ff:1f.7", "lspci -D"],
    )
}

#[test]
fn xdp_on_an_interface_of_jumbo_frames_fails_with_a_hint() -> Result {
    if !xdp_sockets() {
        return Ok(());
    }
    let namespace = Namespace::new(0, "jumbo", true)?;
    link(&namespace, "one", &namespace, "two", TRUNK_MTU)?;
    let inside = ["ip", "netns", "exec", namespace.name()];
    refuses(
        &inside,
        &["--port=1.1=af_xdp:one", "--config-socket=none"],
        &["port 1.1: ", "set the MTU of the interface"],
    )
}

#[test]
fn a_pci_device_with_a_kernel_driver_is_left_alone() -> Result {
    // Whatever device this machine has: nothing is bound or unbound by the attempt.
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten();
    let bound = devices.flatten().find_map(|device| {
        let driver = fs::read_link(device.path().join("driver")).ok()?;
        let driver = driver.file_name()?.to_str()?.to_owned();
        let ours = driver.starts_with("vfio") || driver.starts_with("uio") || driver == "igb_uio";
        let address = device.file_name().into_string().ok()?;
        (!ours).then_some((address, driver))
    });
    let Some((address, driver)) = bound else {
        println!("not tested: no PCI device of this machine has a kernel driver");
        return Ok(());
    };
    refuses_port(&format!("pci:{address}"), &[&address, &driver])?;
    let still = fs::read_link(format!("/sys/bus/pci/devices/{address}/driver"));
    ensure(still.is_ok_and(|path| path.ends_with(&driver)), || {
        format!("{address} has lost its driver {driver}")
    })
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() -> Result {
    refuses(&[], &[], &["--port"])?;
    refuses_port("nonsense:x", &["\"nonsense:x\" is no port", "af_packet:"])?;
    let twice = ["--port=1.1=null", "--port=1.1=null"];
    refuses(&[], &twice, &["port 1.1 is given twice"])?;
    let gap = ["--port=1.2=null"];
    refuses(&[], &gap, &["port 1.2 is given, but not port 1.1"])?;
    let log = ["--port=1.1=null", "--log=[[", "--config-socket=none"];
    refuses(&[], &log, &["--log"])?;
    let log = ["--port=1.1=null", "--log=inof", "--config-socket=none"];
    refuses(&[], &log, &["--log", "\"inof\" is no level"])
}

#[test]
fn without_the_capability_a_port_needs_its_name_is_told() -> Result {
    let nobody = [
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--clear-groups",
        "--reuid=65534",
    ];
    // A copy where nobody may read: the build may be in a place of root's own.
    let scratch = Scratch::new()?;
    let copy = scratch.path("tmm");
    fs::copy(program("tmm")?, &copy)?;
    for (port, capability) in [
        ("af_packet:lo", "cap_net_raw"),
        ("tap:tmm-nobody", "cap_net_admin"),
    ] {
        let port = format!("--port=1.1={port}");
        let mut command = Command::new("timeout");
        command.arg("10").args(nobody).arg(&copy);
        let output = command
            .args(["run", &port, "--config-socket=none"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure(
            output.status.code() == Some(1)
                && said.contains(capability)
                && said.contains("run as root"),
            || format!("without {capability}: {} and\n{said}", output.status),
        )?;
    }
    Ok(())
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() -> Result {
    let scratch = Scratch::new()?;
    let file = scratch.path("wrong.yaml");
    let document = "apiVersion: k8s.f5net.com/v1\nkind: F5SPKVlan\nmetadata: {name: a}\n\
                    spec: {name: a, tag: 5000, interfaces: [\"1.1\"]}\n";
    fs::write(&file, document)?;
    let null = "--port=1.1=null";
    let none = "--config-socket=none";
    refuses(
        &[],
        &[null, none, "--config", &file],
        &[&file, "F5SPKVlan default/a", "spec.tag: 5000"],
    )?;
    fs::write(&file, "spec: [")?;
    refuses(&[], &[null, none, "--config", &file], &[&file])?;
    let missing = scratch.path("missing.yaml");
    refuses(&[], &[null, none, "--config", &missing], &[&missing])?;
    refuses(
        &[],
        &[null, "--config-socket=/proc/no/such"],
        &["/proc/no/such"],
    )
}

#[test]
fn a_second_tmm_is_told_that_the_socket_is_taken() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    let socket = lab.tmm.socket().display().to_string();
    refuses(
        &[],
        &["--port=1.1=null", "--config-socket", &socket],
        &[&socket, "another process already listens"],
    )?;
    // The first one has not noticed.
    lab.get(&url(VIP[0], "/"))?;
    lab.tmm.show("ports")?;
    lab.finish()
}

#[test]
fn tmm_starts_within_two_seconds_without_hugepages() -> Result {
    let lab = Lab::start(&Options {
        tmm: vec!["--hugepages=never".to_owned()],
        ..Options::default()
    })?;
    let took = lab.tmm.start_time;
    println!(
        "without hugepages tmm answers after {} ms",
        took.as_millis()
    );
    // The goal is 2 s; a busy machine gets some slack.
    ensure(took < Duration::from_secs(5), || {
        format!("tmm needed {} s to start", took.as_secs_f32())
    })?;
    lab.finish()
}

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Hugepages reserved for a test, given back on drop.
struct Reserved(u64);

impl Reserved {
    fn count() -> Result<u64> {
        fs::read_to_string(NR_HUGEPAGES)?
            .trim()
            .parse()
            .map_err(|error| Failure::new(format!("{NR_HUGEPAGES}: {error}")))
    }

    /// This many more than there were, or the reason why not.
    fn more(pages: u64) -> Result<Self> {
        let before = Self::count()?;
        let reserved = Self(before);
        fs::write(NR_HUGEPAGES, (before + pages).to_string())?;
        let got = Self::count()?;
        ensure(got >= before + pages, || {
            format!("the kernel gave {} of {pages} hugepages", got - before)
        })?;
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        drop(fs::write(NR_HUGEPAGES, self.0.to_string()));
    }
}

#[test]
fn tmm_runs_on_hugepages_if_there_are_and_says_so_if_not() -> Result {
    let required = vec!["--hugepages=required".to_owned()];
    if Path::new(NR_HUGEPAGES).exists() && Reserved::count()? == 0 {
        refuses(
            &[],
            &["--port=1.1=null", "--config-socket=none", &required[0]],
            &["MiB of hugepages are required", "vm.nr_hugepages"],
        )?;
    }
    let _reserved = match Reserved::more(96) {
        Ok(reserved) => reserved,
        Err(reason) => {
            println!("not tested with hugepages: {reason}");
            return Ok(());
        }
    };
    let options = Options {
        tmm: required,
        ..Options::default()
    };
    let lab = Lab::with_everything(&options, "SRC_TRANS_AUTOMAP")?;
    let took = lab.tmm.start_time;
    println!("with hugepages tmm answers after {} ms", took.as_millis());
    ensure(lab.tmm.process.output().contains("hugepages=true"), || {
        format!(
            "the log does not mention them:\n{}",
            lab.tmm.process.output()
        )
    })?;
    for address in VIP {
        lab.get(&url(address, "/"))?;
    }
    lab.finish()
}

#[test]
fn tmm_killed_in_the_middle_starts_again_on_the_same_socket() -> Result {
    let options = Options::default();
    let mut lab = Lab::with_everything(&options, "SRC_TRANS_NONE")?;
    lab.kill_and_restart_tmm()?;
    ensure(lab.tmm.show("virtual-servers")?.is_empty(), || {
        "a new tmm has configuration nobody gave it".to_owned()
    })?;
    let objects = tests::lab::resources::everything(false, None, "SRC_TRANS_NONE");
    lab.tmm.apply(&objects)?;
    lab.await_virtual_servers(VIP)?;
    lab.finish()
}

#[test]
fn tmm_stops_in_the_middle_of_traffic_with_every_buffer_back() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    let received = || lab.tmm.total("ports", "rxPackets");
    let before = received()?;
    let mut downloads = Vec::new();
    for (number, address) in VIP.iter().enumerate() {
        let page = url(address, "/bytes/100000000000");
        let log = lab.directory().join(format!("download{number}"));
        let args = ["-gsS", "-o", "/dev/null", &page];
        downloads.push(lab.client.spawn("curl".as_ref(), &args, log)?);
    }
    eventually(Duration::from_secs(10), || {
        let seen = received()? - before;
        ensure(seen > 5000, || format!("only {seen} frames so far"))
    })?;
    for download in &mut downloads {
        download.check_alive()?;
    }
    lab.finish()
}
