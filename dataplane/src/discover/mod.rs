//! Which ports there are, how each will be driven and why, and everything that stands in the way:
//! found out without starting DPDK and without touching anything.
//!
//! There are three ways to ports. The command line names them, and nothing else is looked at then.
//! Or the environment of a pod does: SR-IOV devices, by [`environment`]. Or the pod's extra
//! interfaces are taken, by [`netdevs`]; these are changed while tmm runs, by [`takeover`]. Devices
//! come first where a pod has both.

pub mod environment;
pub mod netdevs;
pub mod netlink;
mod record;
pub mod report;
mod routes;
pub mod takeover;

use std::path::Path;

use dpdk::{DmaNeeds, PciDevice, PortSpec};
use net::PortId;
use tracing::{info, warn};

use crate::run::args::{Hugepages, InterfaceDriver, RunArgs};
use crate::run::ports;
use environment::{Environment, RESOURCE};
use netlink::{Netdev, Netlink};
use takeover::{Takeover, TakeoverError};

/// The variable that makes ports of a pod's interfaces.
const INTERFACES: &str = "TMM_MAPRES_ADDL_VETHS_ON_DP";

/// What a port will be, and what is tried if that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The port.
    pub spec: PortSpec,
    /// The second choice.
    pub fallback: Option<PortSpec>,
}

impl Choice {
    /// All that it may be.
    pub fn all(&self) -> impl Iterator<Item = &PortSpec> {
        std::iter::once(&self.spec).chain(&self.fallback)
    }
}

/// A port that was found.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub id: PortId,
    /// What it will be.
    pub choice: Choice,
    /// What says so.
    pub source: String,
    /// Why it is driven as it is.
    pub why: String,
    /// DPDK's driver, as far as it can be known.
    pub driver: Option<String>,
    /// The PCI device, if it is one.
    pub pci: Option<PciDevice>,
    /// The kernel's interface, if it is one.
    pub netdev: Option<Netdev>,
    /// What must be mended first.
    pub problems: Vec<String>,
    /// What should be known.
    pub warnings: Vec<String>,
}

/// Everything that was found out.
#[derive(Debug, Default)]
pub struct Discovery {
    /// The ports by number.
    pub ports: Vec<Found>,
    /// Interfaces that will be taken over.
    pub to_take: Vec<Netdev>,
    /// Interfaces that are left alone, each with the reason.
    pub skipped: Vec<(String, &'static str)>,
    /// What is wrong and belongs to no single port.
    pub problems: Vec<String>,
    /// What should be known and belongs to no single port.
    pub warnings: Vec<String>,
    /// Packet memory for these ports, MiB.
    pub memory_mib: u64,
    /// Hugepage memory there is for it, MiB.
    pub free_hugepage_mib: u64,
}

/// Finds the ports for `tmm run` with these arguments.
pub fn discover(args: &RunArgs, environment: &Environment) -> Discovery {
    let mut found = Discovery::default();
    // Without it, interfaces cannot be looked at; who needs them is told below.
    let netdevs = Netlink::open().and_then(|mut netlink| netlink.netdevs());
    if args.ports.is_empty() {
        by_environment(&mut found, args, environment, &netdevs);
    } else {
        as_given(&mut found, args, environment);
    }
    let specs: Vec<PortSpec> = found
        .ports
        .iter()
        .flat_map(|port| port.choice.all().cloned())
        .collect();
    found.memory_mib = ports::memory_mib(args, &specs);
    found.free_hugepage_mib = dpdk::free_hugepage_mib();
    let needs = DmaNeeds {
        memory_mib: found.memory_mib,
        hugepages: args.hugepages != Hugepages::Never,
    };
    for port in &mut found.ports {
        inspect(port, needs, netdevs.as_deref().unwrap_or_default());
    }
    look_at_hugepages(&mut found, args);
    found
}

/// The ports of the command line.
fn as_given(found: &mut Discovery, args: &RunArgs, environment: &Environment) {
    let mut ignored: Vec<&str> = environment
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with(RESOURCE))
        .collect();
    if args.pod_interfaces {
        ignored.push(INTERFACES);
    }
    if !ignored.is_empty() {
        found.warnings.push(format!(
            "the ports are those given with --port (TMM_PORTS); {} counts for nothing then",
            ignored.join(", ")
        ));
    }
    match ports::in_order(&args.ports) {
        Ok(specs) => {
            let numbered = (0..=u8::MAX).zip(specs);
            found.ports = numbered
                .map(|(number, spec)| Found::new(PortId(number), spec, "--port".to_owned()))
                .collect();
        }
        Err(error) => found.problems.push(error.to_string()),
    }
}

/// The ports of the pod.
fn by_environment(
    found: &mut Discovery,
    args: &RunArgs,
    environment: &Environment,
    netdevs: &std::io::Result<Vec<Netdev>>,
) {
    match environment::assign(environment) {
        Ok(assigned) => {
            found.ports = assigned
                .into_iter()
                .map(|port| Found::new(port.id, PortSpec::Pci(port.address), port.source))
                .collect();
        }
        Err(problems) => found.problems = problems,
    }
    if args.pod_interfaces {
        match netdevs {
            Ok(netdevs) => interfaces(found, args, netdevs),
            Err(error) => found.problems.push(format!(
                "the kernel does not tell its interfaces ({error}): is netlink forbidden in this container?"
            )),
        }
    }
    if found.ports.is_empty() && found.problems.is_empty() {
        found.problems.push(if args.pod_interfaces {
            let skipped: Vec<String> = found
                .skipped
                .iter()
                .map(|(name, why)| format!("{name} ({why})"))
                .collect();
            format!(
                "{INTERFACES} is set, but there is no extra interface here, only {}: attach networks to the pod \
                 (the annotation k8s.v1.cni.cncf.io/networks)",
                skipped.join(", ")
            )
        } else {
            format!(
                "there are no ports. Say which, in one of three ways:\n  \
                 --port 1.1=SPEC, once for each (or TMM_PORTS=\"1.1=SPEC;1.2=SPEC\"), such as --port \
                 1.1=af_packet:eth1: `tmm run --help` lists what a port can be\n  \
                 {RESOURCE}1=RESOURCE, {RESOURCE}2=…: SR-IOV devices that the device plugin has given this pod\n  \
                 {INTERFACES}=TRUE (--pod-interfaces): the pod's extra interfaces net1, net2, …, such as macvlans"
            )
        });
    }
}

/// The pod's extra interfaces.
fn interfaces(found: &mut Discovery, args: &RunArgs, netdevs: &[Netdev]) {
    if is_host() {
        found.problems.push(format!(
            "this is the network namespace of the host, and {INTERFACES} takes the addresses of all interfaces but \
             one away: run in a pod without hostNetwork, or name the ports with --port"
        ));
        return;
    }
    // Without them, the pod's own interface might be taken for an extra one.
    let routes = match Netlink::open().and_then(|mut netlink| netlink.routes()) {
        Ok(routes) => routes,
        Err(error) => {
            found.problems.push(format!(
                "the kernel does not tell its routes ({error}): is netlink forbidden in this container?"
            ));
            return;
        }
    };
    let has_default = |netdev: &&Netdev| {
        let mut defaults = routes.iter().filter(|route| netlink::is_default(route));
        defaults.any(|route| netlink::leaves_by(route, netdev.index))
    };
    let defaults: Vec<u32> = netdevs
        .iter()
        .filter(has_default)
        .map(|netdev| netdev.index)
        .collect();
    let taken: Vec<String> = found
        .ports
        .iter()
        .filter_map(|port| match &port.choice.spec {
            PortSpec::Pci(address) => {
                dpdk::inspect_pci(*address, DmaNeeds::default())
                    .device
                    .netdev
            }
            _ => None,
        })
        .collect();
    let selection = netdevs::select(netdevs, &defaults, &taken);
    found.problems.extend(selection.problems);
    found.skipped = selection.skipped;
    for netdev in selection.ports {
        let number = u8::try_from(found.ports.len()).ok();
        let Some(number) = number.filter(|number| *number < u8::MAX) else {
            found
                .problems
                .push("there are more interfaces than ports, 1.1 to 1.255".to_owned());
            return;
        };
        let wanted = u32::from(args.wanted_mtu()).min(netdev.max_mtu.unwrap_or(u32::MAX));
        let xdp = match args.interface_driver {
            InterfaceDriver::Auto => dpdk::check_port(&PortSpec::AfXdp(netdev.name.clone())),
            _ => Ok(()),
        };
        let drive = netdevs::drive(
            &netdev,
            args.interface_driver,
            netdev.mtu.max(wanted),
            dpdk::netdev_rx_queues(&netdev.name).unwrap_or(1),
            args.workers,
            &xdp.map_err(|error| error.to_string()),
        );
        let mut port = Found::new(PortId(number), drive.spec, INTERFACES.to_owned());
        port.choice.fallback = drive.fallback;
        port.why = drive.why;
        if let Err(error) =
            dpdk::check_net_admin(&format!("taking over the interface {}", netdev.name))
        {
            port.problems.push(error.to_string());
        }
        if netdev.passthru {
            port.warnings.push(format!(
                "{} is a macvlan in passthru mode: its parent takes in frames for any address, and no other \
                 interface can share it",
                netdev.name
            ));
        }
        found.ports.push(port);
        found.to_take.push(netdev);
    }
}

/// Whether this is the network namespace the machine has started with: only there, these settings
/// are to be seen.
fn is_host() -> bool {
    Path::new("/proc/sys/net/core/netdev_max_backlog").exists()
}

/// Finds out what a port is and what stands in its way.
fn inspect(port: &mut Found, needs: DmaNeeds, netdevs: &[Netdev]) {
    if let PortSpec::Pci(address) = port.choice.spec {
        let report = dpdk::inspect_pci(address, needs);
        let problems = report.problems.iter().map(ToString::to_string);
        port.problems.extend(problems);
        port.warnings.extend(report.warnings);
        port.why = report.why;
        port.driver.clone_from(&report.device.dpdk_driver);
        let name = report.device.netdev.as_ref();
        port.netdev = name.and_then(|name| netdevs.iter().find(|n| n.name == *name).cloned());
        port.pci = Some(report.device);
        return;
    }
    port.driver = port.choice.spec.driver().map(str::to_owned);
    let failed = dpdk::check_port(&port.choice.spec).err();
    // With a second choice, the first is no must.
    let failed = failed.filter(|_| port.choice.fallback.is_none());
    port.problems.extend(failed.map(|error| error.to_string()));
    if let Some(name) = port.choice.spec.netdev() {
        port.netdev = netdevs.iter().find(|n| n.name == name).cloned();
    }
    let down = port.netdev.as_ref().filter(|netdev| !netdev.up);
    if let Some(netdev) = down.filter(|_| port.source != INTERFACES) {
        port.warnings.push(format!(
            "the interface is down: bring it up with `ip link set {} up`",
            netdev.name
        ));
    }
}

/// Says whether hugepages will be used.
fn look_at_hugepages(found: &mut Discovery, args: &RunArgs) {
    let (need, free) = (found.memory_mib, found.free_hugepage_mib);
    let Some(pages) = (free < need && !found.ports.is_empty()).then(|| need.div_ceil(2)) else {
        return;
    };
    let reserve = format!(
        "`sysctl -w vm.nr_hugepages={pages}`, or `hugepages-2Mi: {}Mi` in the pod's resources",
        pages * 2
    );
    match args.hugepages {
        Hugepages::Required => found.problems.push(format!(
            "{need} MiB of hugepages are required and {free} MiB are free: {reserve}"
        )),
        Hugepages::Auto if found.ports.iter().any(|port| port.pci.is_some()) => {
            found.warnings.push(format!(
                "packet memory takes {need} MiB and {free} MiB of hugepages are free: it will be ordinary memory, \
                 which works, but costs throughput. {reserve}"
            ));
        }
        _ => {}
    }
}

impl Found {
    fn new(id: PortId, spec: PortSpec, source: String) -> Self {
        Self {
            id,
            choice: Choice {
                spec,
                fallback: None,
            },
            source,
            why: "as given".to_owned(),
            driver: None,
            pci: None,
            netdev: None,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Discovery {
    /// What each port will be, by number.
    pub fn choices(&self) -> Vec<Choice> {
        self.ports.iter().map(|port| port.choice.clone()).collect()
    }

    /// All that must be mended before tmm can run, if there is anything.
    pub fn all_problems(&self) -> Option<String> {
        let of_ports = self.ports.iter().flat_map(|port| {
            let named = move |problem| format!("port {}: {problem}", port.id);
            port.problems.iter().map(named)
        });
        let all: Vec<String> = self.problems.iter().cloned().chain(of_ports).collect();
        match all.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!(
                "{} things stand in the way of the ports:\n  {}",
                several.len(),
                several.join("\n  ")
            )),
        }
    }

    /// Says what was found.
    pub fn log(&self) {
        for port in &self.ports {
            info!(port = %port.id, device = %port.choice.spec, from = port.source, why = port.why, "port found");
            for warning in &port.warnings {
                warn!(port = %port.id, "{warning}");
            }
        }
        for (name, why) in &self.skipped {
            info!(interface = name, why, "no port");
        }
        for warning in &self.warnings {
            warn!("{warning}");
        }
    }

    /// Takes the interfaces over that were found for it. What an earlier process has taken and this
    /// one does not want is given back.
    pub fn take_over(&self, args: &RunArgs) -> Result<Option<Takeover>, TakeoverError> {
        let dir = args.state_directory();
        if self.to_take.is_empty() {
            takeover::recover(dir);
            return Ok(None);
        }
        Takeover::begin(&self.to_take, u32::from(args.wanted_mtu()), dir).map(Some)
    }
}
