//! tmm in a pod: the pod's extra interfaces become ports, and are what they were afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{
    BACKEND_HTTP, CLIENT, EXTERNAL_SELF, INTERNAL_SELF, VIP, backend, service, virtual_server,
    vlans,
};
use tests::lab::{
    Failure, Namespace, Process, Result, Tmm, address, ensure, eventually, link, program, url,
    xdp_sockets,
};

/// What makes tmm take a pod's interfaces.
const TAKE: &str = "TMM_MAPRES_ADDL_VETHS_ON_DP=TRUE";

/// How the pod's networks are attached.
#[derive(Clone, Copy, PartialEq)]
enum Attached {
    /// Macvlans on two interfaces of the node.
    Macvlan,
    /// One end each of a veth pair.
    Veth,
}

/// A pod with `eth0`, `net1` towards a client and `net2` towards a server, as a CNI leaves it.
struct Pod {
    // Dropped in this order: first what runs, then where it runs.
    _server: Process,
    client: Namespace,
    backend: Namespace,
    inside: Namespace,
    _node: Namespace,
    directory: PathBuf,
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

impl Pod {
    fn new(lab: u32, attached: Attached) -> Result<Self> {
        let name = format!("tmm-e2e-{}-pod{lab}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let node = Namespace::new(lab, "node", true)?;
        let pod = Namespace::new(lab, "pod", false)?;
        let client = Namespace::new(lab, "client", false)?;
        let backend = Namespace::new(lab, "backend", false)?;
        link(&pod, "eth0", &node, "pod", 1500)?;
        pod.ip(&["address", "add", "10.9.0.2/24", "dev", "eth0"])?;
        pod.ip(&["route", "add", "default", "via", "10.9.0.1"])?;
        for (number, peer) in [(1, &client), (2, &backend)] {
            let net = format!("net{number}");
            if attached == Attached::Veth {
                link(&pod, &net, peer, "eth0", 1500)?;
            } else {
                let parent = format!("parent{number}");
                link(&node, &parent, peer, "eth0", 1500)?;
                let add = ["link", "add", "link", &parent, "name", &net];
                let kind = ["netns", pod.name(), "type", "macvlan", "mode", "bridge"];
                node.ip(&[&add[..], &kind[..]].concat())?;
            }
            let mac = format!("02:00:00:00:09:0{number}");
            pod.ip(&["link", "set", &net, "address", &mac])?;
            pod.ip(&["link", "set", &net, "up"])?;
            // A sender on the same machine leaves checksums to a device that is not there.
            let off = ["-K", "eth0", "tx", "off", "tso", "off", "gso", "off"];
            peer.run("ethtool", &off)?;
        }
        // What a CNI may give: two addresses, IPv6, a route, one with a lifetime and no route of its own.
        for add in [
            "192.0.2.50/24 dev net1",
            "192.0.2.51/24 dev net1",
            "2001:db8:100::50/64 dev net1 nodad",
            "198.51.100.50/24 dev net2 valid_lft 3600 preferred_lft 1800 noprefixroute",
        ] {
            let add: Vec<&str> = add.split(' ').collect();
            pod.ip(&[&["address", "add"], &add[..]].concat())?;
        }
        let route = "203.0.113.0/24 via 192.0.2.10 dev net1 metric 7";
        let route: Vec<&str> = route.split(' ').collect();
        pod.ip(&[&["route", "add"], &route[..]].concat())?;

        address(&client, CLIENT)?;
        for (to, by) in [("203.0.113.0/24", 0), ("2001:db8:ffff::/64", 1)] {
            client.ip(&["route", "add", to, "via", EXTERNAL_SELF[by]])?;
        }
        let [v4, v6] = self::backend(1);
        address(&backend, [&v4, &v6])?;
        for gateway in INTERNAL_SELF {
            backend.ip(&["route", "add", "default", "via", gateway])?;
        }
        let http = format!("--http=[::]:{BACKEND_HTTP}");
        let log = directory.join("server.log");
        let mut server = backend.spawn(
            &program("lab-server")?,
            &["--name", "backend-1", &http],
            log,
        )?;
        server.await_ready()?;
        Ok(Self {
            _server: server,
            client,
            backend,
            inside: pod,
            _node: node,
            directory,
        })
    }

    /// Everything about the interfaces that tmm may have touched.
    fn state(&self) -> Result<String> {
        let script = "for i in eth0 net1 net2; do \
             ip -o address show dev $i | sed 's/ *valid_lft.*//'; \
             ip -o link show dev $i | sed 's/ qdisc.*//'; \
             cd /proc/sys/net; \
             grep -H . ipv4/conf/$i/arp_ignore ipv4/conf/$i/forwarding ipv6/conf/$i/disable_ipv6 \
             ipv6/conf/$i/addr_gen_mode; done; ip route; ip -6 route | sort";
        let text = self.inside.run("sh", &["-c", script])?.text();
        Ok(text)
    }

    fn tmm(&self, more: &[&str]) -> Result<Tmm> {
        let more: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
        Tmm::start_in(&self.inside, &[TAKE], &more, 2, &self.directory)
    }

    /// Configures tmm, and waits until a page comes through by IPv4 and IPv6.
    fn await_pages(&self, tmm: &Tmm) -> Result {
        let mut objects = vlans(false, None).to_vec();
        for vlan in &mut objects {
            // The kernel may have no 802.1Q, so the networks are untagged ones.
            vlan["spec"]
                .as_object_mut()
                .and_then(|spec| spec.remove("tag"));
        }
        objects.extend(service([true, false, false]));
        objects.push(virtual_server("http", 80, VIP, "SRC_TRANS_AUTOMAP", 300));
        tmm.apply(&objects)?;
        for address in VIP {
            eventually(Duration::from_secs(10), || {
                let page = url(address, "/");
                let got = self
                    .client
                    .run("curl", &["-gsSf", "--max-time", "5", &page])?;
                ensure(got.text().contains("backend-1"), || got.text())
            })?;
        }
        Ok(())
    }

    /// Fails if an address of the pod's kernel is still there, or is answered for.
    fn ensure_silent(&self) -> Result {
        let script =
            "ip -o address show dev net1; ip -o address show dev net2; ip route show dev net1";
        let left = self.inside.run("sh", &["-c", script])?.text();
        ensure(left.is_empty(), || format!("the kernel still has:\n{left}"))?;
        // Neither the interface's own old address nor that of another interface.
        for old in ["192.0.2.50", "10.9.0.2"] {
            let args = ["-q", "-c1", "-w1", "-I", "eth0", old];
            let limit = Duration::from_secs(5);
            let answered = self.client.try_run("arping", &args, limit)?;
            ensure(!answered.success(), || {
                format!("the kernel answers ARP for {old}")
            })?;
        }
        Ok(())
    }

    fn ensure_as_before(&self, before: &str) -> Result {
        let after = self.state()?;
        ensure(after == before, || {
            format!("the interfaces were\n{before}\nand are\n{after}")
        })
    }

    /// `tmm ports --json` in the pod, and its exit status.
    fn ports(&self, environment: &[&str]) -> Result<(Value, bool)> {
        let tmm = program("tmm")?.display().to_string();
        let mut args = environment.to_vec();
        args.extend([tmm.as_str(), "ports", "--json"]);
        let finished = self.inside.try_run("env", &args, Duration::from_secs(20))?;
        let value = serde_json::from_str(&finished.text())
            .map_err(|error| Failure::new(format!("{error} in {}", finished.text())))?;
        Ok((value, finished.success()))
    }
}

#[test]
fn macvlans_of_a_pod_become_ports_and_are_given_back() -> Result {
    let pod = Pod::new(0, Attached::Macvlan)?;
    let before = pod.state()?;

    // Looked at, and not touched.
    let (found, usable) = pod.ports(&[TAKE])?;
    let ports = found["ports"].as_array().cloned().unwrap_or_default();
    let brief: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{} {} {} {} {} {}",
                port["port"],
                port["device"],
                port["kernelDriver"],
                port["mac"],
                port["mtu"],
                port["link"]
            )
        })
        .collect();
    let wanted = [
        r#""1.1" "af_packet:net1" "macvlan" "02:00:00:00:09:01" 1500 "up""#,
        r#""1.2" "af_packet:net2" "macvlan" "02:00:00:00:09:02" 1500 "up""#,
    ];
    ensure(usable && found["usable"] == true && brief == wanted, || {
        format!("tmm ports found {found:#}")
    })?;
    pod.ensure_as_before(&before)?;

    let mut tmm = pod.tmm(&[])?;
    pod.ensure_silent()?;
    pod.await_pages(&tmm)?;
    pod.ensure_silent()?;
    let log = tmm.process.output();
    ensure(log.contains("192.0.2.50/24,192.0.2.51/24"), || log)?;

    // Nobody gives them back when it is killed; the next one knows what they were like.
    tmm.process.kill()?;
    pod.ensure_silent()?;
    let mut tmm = pod.tmm(&[])?;
    pod.await_pages(&tmm)?;
    tmm.stop_cleanly()?;
    pod.ensure_as_before(&before)
}

#[test]
fn veths_of_a_pod_are_driven_by_the_fastest_that_works() -> Result {
    let pod = Pod::new(1, Attached::Veth)?;
    let before = pod.state()?;
    let mut tmm = pod.tmm(&[])?;
    let wanted = if xdp_sockets() {
        "net_af_xdp"
    } else {
        "net_af_packet"
    };
    for port in tmm.show("ports")? {
        ensure(port["driver"] == wanted, || format!("{wanted}: {port}"))?;
    }
    pod.await_pages(&tmm)?;
    pod.ensure_silent()?;
    tmm.stop_cleanly()?;
    pod.ensure_as_before(&before)?;

    let mut tmm = pod.tmm(&["--interface-driver=af_packet"])?;
    for port in tmm.show("ports")? {
        ensure(port["driver"] == "net_af_packet", || port.to_string())?;
    }
    pod.await_pages(&tmm)?;
    tmm.stop_cleanly()?;
    pod.ensure_as_before(&before)
}

#[test]
fn a_start_that_fails_gives_the_interfaces_back() -> Result {
    let pod = Pod::new(2, Attached::Macvlan)?;
    let before = pod.state()?;
    let tmm = program("tmm")?.display().to_string();
    let limit = Duration::from_secs(20);
    let args = [
        TAKE,
        &tmm,
        "run",
        "--config-socket=none",
        "--eal-arg=--nonsense",
    ];
    let finished = pod.inside.try_run("env", &args, limit)?;
    ensure(!finished.success(), || "it has started".to_owned())?;
    pod.ensure_as_before(&before)?;

    // Killed, and then wanted in another way: the interfaces go back all the same.
    let mut first = pod.tmm(&[])?;
    first.process.kill()?;
    pod.ensure_silent()?;
    let null = ["--port=1.1=null".to_owned()];
    let mut second = Tmm::start_in(&pod.inside, &[], &null, 1, &pod.directory)?;
    pod.ensure_as_before(&before)?;
    second.stop_cleanly()
}

#[test]
fn two_tmm_do_not_take_the_same_interfaces() -> Result {
    let pod = Pod::new(3, Attached::Veth)?;
    let before = pod.state()?;
    let mut first = pod.tmm(&[])?;
    let during = pod.state()?;
    let tmm = program("tmm")?.display().to_string();
    let args = [TAKE, &tmm, "run", "--config-socket=none"];
    let finished = pod.inside.try_run("env", &args, Duration::from_secs(20))?;
    let said = finished.ok().err().map(|failure| failure.to_string());
    let said = said.unwrap_or_default();
    ensure(said.contains("another tmm has taken over"), || said.clone())?;
    ensure(pod.state()? == during, || {
        "it has changed something".to_owned()
    })?;
    first.stop_cleanly()?;
    pod.ensure_as_before(&before)
}

#[test]
fn interfaces_are_taken_where_settings_of_the_kernel_are_read_only() -> Result {
    let pod = Pod::new(4, Attached::Macvlan)?;
    let before = pod.state()?;
    // As in a container that is not privileged.
    let tmm = program("tmm")?.display().to_string();
    let socket = pod.directory.join("config.sock").display().to_string();
    let script = format!(
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
         exec env {TAKE} {tmm} run --config-socket {socket}"
    );
    let log = pod.directory.join("tmm.log");
    let mut process = pod.inside.spawn(Path::new("sh"), &["-c", &script], log)?;
    eventually(Duration::from_secs(20), || {
        process.check_alive()?;
        let said = process.output();
        ensure(said.contains("tmm is ready"), || said)
    })?;
    let said = process.output();
    ensure(said.contains("/proc/sys cannot be written to"), || said)?;
    pod.ensure_silent()?;
    process.stop()?;
    pod.ensure_as_before(&before)
}

#[test]
fn what_stands_in_the_way_is_told_all_at_once() -> Result {
    let pod = Pod::new(5, Attached::Veth)?;
    let said = |value: &Value| value["problems"][0].as_str().unwrap_or_default().to_owned();
    let (none, usable) = pod.ports(&[])?;
    for way in [
        "--port 1.1=SPEC",
        "OPENSHIFT_VFIO_RESOURCE_1",
        "TMM_MAPRES_ADDL_VETHS_ON_DP",
    ] {
        ensure(!usable && said(&none).contains(way), || none.to_string())?;
    }
    let devices = [
        "OPENSHIFT_VFIO_RESOURCE_1=one",
        "OPENSHIFT_VFIO_RESOURCE_2=two",
        "PCIDEVICE_OPENSHIFT_IO_ONE=0000:ff:1f.7",
        "PCIDEVICE_OPENSHIFT_IO_TWO=0000:ff:1f.6",
    ];
    let (found, usable) = pod.ports(&devices)?;
    for index in 0..2 {
        let problem = found["ports"][index]["problems"][0].to_string();
        ensure(
            !usable && problem.contains("there is no PCI device"),
            || found.to_string(),
        )?;
    }
    let tmm = program("tmm")?.display().to_string();
    let mut args = devices.to_vec();
    args.extend([tmm.as_str(), "run", "--config-socket=none"]);
    let run = pod.inside.try_run("env", &args, Duration::from_secs(20))?;
    let failure = run.ok().err().map(|failure| failure.to_string());
    let failure = failure.unwrap_or_default();
    for part in [
        "2 things stand in the way",
        "port 1.1: there is no PCI",
        "port 1.2: there is",
    ] {
        ensure(failure.contains(part), || failure.clone())?;
    }
    // Given ports win, and it is said that others do not count.
    let mut given = devices.to_vec();
    given.push("TMM_PORTS=1.1=null");
    let (found, usable) = pod.ports(&given)?;
    let warning = found["warnings"][0].to_string();
    let told = usable && warning.contains("OPENSHIFT_VFIO_RESOURCE_1, OPENSHIFT_VFIO_RESOURCE_2");
    ensure(told, || found.to_string())?;

    // Without the capability, it is named.
    let copy = pod.directory.join("tmm").display().to_string();
    fs::copy(&tmm, &copy)?;
    let args = [
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--clear-groups",
        "--reuid=65534",
        "env",
        TAKE,
        &copy,
        "ports",
    ];
    let weak = pod
        .inside
        .try_run("setpriv", &args, Duration::from_secs(20))?;
    let text = weak.text();
    ensure(!weak.success() && text.contains("cap_net_admin"), || text)?;
    // The host's own interfaces are not a pod's.
    let host = std::process::Command::new(&tmm)
        .args(["ports", "--pod-interfaces"])
        .output()?;
    let text = String::from_utf8_lossy(&host.stdout).into_owned();
    let host_namespace = Path::new("/proc/sys/net/core/netdev_max_backlog").exists();
    ensure(
        !host_namespace || text.contains("network namespace of the host"),
        || text,
    )?;
    let _ = &pod.backend;
    Ok(())
}
