//! What `tmm run` can be told, on the command line or by environment variables.

mod values;

use std::path::{Path, PathBuf};

use clap::Args;

use super::memory_plan::MOST_FLOWS;
use crate::ipfix::args::IpfixArgs;

pub use values::{CpuList, Hugepages, Idle, InterfaceDriver, LogFormat, Mode, PortArg, PortWorker};

/// Starts the dataplane on its ports and keeps it running until SIGTERM or SIGINT.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Port specifications:
  af_packet:eth1             a kernel interface, by packet socket: works everywhere
  af_xdp:eth1                a kernel interface, by AF_XDP: faster, needs driver support
  tap:name                   a new kernel interface of that name
  memif:/path[,role=server]  shared memory with another process (VPP, another DPDK); with
                             ,queues=N if both ends have N queues
  pcap:in.pcap,out.pcap      capture files; either may be left out
  null, ring:name            nothing, and a loop: for tests
  pci:0000:3b:02.0           a NIC or SR-IOV virtual function bound to vfio-pci
  net_…                      any DPDK virtual device, as DPDK writes it

Example:
  tmm run --port 1.1=af_packet:eth1 --port 1.2=af_packet:eth2 --config resources.yaml")]
pub struct RunArgs {
    /// A port and what it is, such as 1.1=af_packet:eth1; once for each port, from 1.1 on (in
    /// TMM_PORTS, separated by ";"). Without it, the ports are those of the pod: SR-IOV devices by
    /// OPENSHIFT_VFIO_RESOURCE_1, …_2, …, and interfaces by --pod-interfaces
    #[arg(
        long = "port",
        value_name = "1.N=SPEC",
        env = "TMM_PORTS",
        value_delimiter = ';'
    )]
    pub ports: Vec<PortArg>,

    /// Take the pod's extra kernel interfaces (net1, net2, …: macvlan, veth) as ports 1.1, 1.2, …;
    /// their addresses come back at the end
    #[arg(long, env = "TMM_MAPRES_ADDL_VETHS_ON_DP", value_parser = truth)]
    pub pod_interfaces: bool,

    /// How the pod's interfaces are driven
    #[arg(
        long,
        env = "TMM_INTERFACE_DRIVER",
        value_name = "DRIVER",
        default_value = "auto"
    )]
    pub interface_driver: InterfaceDriver,

    /// How many workers share the flows, each on a CPU and on queues of its own; "auto" is one for each
    /// CPU given
    #[arg(long, env = "TMM_WORKERS", value_name = "N", default_value = "1", value_parser = workers)]
    pub workers: u16,

    /// Which worker polls a port that has one queue, such as 1.1=0,1.2=1; by default ports of the same
    /// VLANs, if the configuration of the start says so, else of the same physical function, are dealt out
    #[arg(
        long,
        env = "TMM_PORT_WORKERS",
        value_name = "1.N=WORKER,…",
        value_delimiter = ','
    )]
    pub port_workers: Vec<PortWorker>,

    /// Unix socket that takes configuration and answers tmmctl; "none" for none
    #[arg(
        long,
        env = "TMM_CONFIG_SOCKET",
        value_name = "PATH",
        default_value = "/run/tmm/config.sock"
    )]
    pub config_socket: PathBuf,

    /// Permissions of that socket, in octal
    #[arg(
        long,
        env = "TMM_CONFIG_SOCKET_MODE",
        value_name = "MODE",
        default_value = "0600"
    )]
    pub config_socket_mode: Mode,

    /// Files or directories of custom resources to start with (separated by ",")
    #[arg(long = "config", env = "TMM_CONFIG", value_name = "FILE", value_delimiter = ',', num_args = 1..)]
    pub config: Vec<PathBuf>,

    /// Which position of each list of self IPs is ours, from 0; by default the number at the end of
    /// POD_NAME, else 0
    #[arg(long, env = "TMM_REPLICA", value_name = "N")]
    pub replica: Option<usize>,

    /// Name of the pod, whose ordinal is the replica
    #[arg(long, env = "POD_NAME", value_name = "NAME", hide = true)]
    pub pod_name: Option<String>,

    /// MTU of VLANs that name none, octets
    #[arg(long, env = "TMM_DEFAULT_MTU", value_name = "OCTETS", default_value_t = 1500,
        value_parser = clap::value_parser!(u16).range(1280..=9000))]
    pub default_mtu: u16,

    /// MTU of the ports, octets: no VLAN's can be larger. By default that of the VLANs that name none
    #[arg(long, env = "TMM_PORT_MTU", value_name = "OCTETS",
        value_parser = clap::value_parser!(u16).range(1280..=9000))]
    pub port_mtu: Option<u16>,

    /// The most flows tracked, by all workers together: 16 to 16777216; "auto" is what the hugepages
    /// given to the container hold, else 262144
    #[arg(long, env = "TMM_FLOW_CAPACITY", value_name = "N", default_value = "auto",
        value_parser = flow_capacity)]
    pub flow_capacity: u32,

    /// ICMP errors that each worker sends of its own, at most, a second: a tenth of it to one
    /// neighbourhood of addresses (IPv4 /24, IPv6 /64); 0 is none
    #[arg(long, env = "TMM_ICMP_ERRORS_PER_SECOND", value_name = "N",
        default_value_t = crate::pipeline::ICMP_ERRORS_PER_SECOND,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub icmp_errors_per_second: u32,

    /// Frames each queue of a port holds
    #[arg(long, env = "TMM_DESCRIPTORS", value_name = "N", default_value_t = 1024,
        value_parser = clap::value_parser!(u16).range(64..=8192))]
    pub descriptors: u16,

    /// Whether packet memory comes from hugepages
    #[arg(
        long,
        env = "TMM_HUGEPAGES",
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub hugepages: Hugepages,

    /// Frames that may be in memory at once; by default what the ports' queues need
    #[arg(long, env = "TMM_MBUFS", value_name = "N",
        value_parser = clap::value_parser!(u32).range(512..=8_388_607))]
    pub mbufs: Option<u32>,

    /// CPUs of the workers, such as 2 or 0,2 or 2-3; by default those given to the container, and on a
    /// whole machine the kernel chooses
    #[arg(long, env = "PAL_CPU_SET", value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// What a worker does that finds no frames for a while
    #[arg(long, env = "TMM_IDLE", value_name = "HOW", default_value = "adaptive")]
    pub idle: Idle,

    /// How long SIGTERM waits for established flows to end, in seconds; no new ones are taken meanwhile. A
    /// second SIGTERM, or SIGINT, stops at once; 0 stops at once always
    #[arg(long, env = "TMM_DRAIN", value_name = "SECONDS", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub drain: u32,

    /// Take in frames for any MAC address
    #[arg(long, env = "TMM_PROMISCUOUS", value_parser = truth)]
    pub promiscuous: bool,

    /// What is told to a collector
    #[command(flatten)]
    pub ipfix: IpfixArgs,

    /// What is logged: a level (error, warn, info, debug, trace) or directives such as info,dpdk=debug
    #[arg(long, env = "TMM_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How it is logged
    #[arg(
        long,
        env = "TMM_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "human"
    )]
    pub log_format: LogFormat,

    /// One more argument for DPDK's EAL; may be repeated (in TMM_EAL_ARGS, separated by blanks)
    #[arg(
        long = "eal-arg",
        env = "TMM_EAL_ARGS",
        value_name = "ARG",
        value_delimiter = ' ',
        allow_hyphen_values = true
    )]
    pub eal_args: Vec<String>,
}

/// The most workers.
pub const MOST_WORKERS: u16 = 64;
/// `--workers auto` and `--flow-capacity auto`, until it is known what that is.
pub const AUTO_WORKERS: u16 = 0;
/// See [`AUTO_WORKERS`].
pub const AUTO_FLOWS: u32 = 0;

/// Yes or no, as environment variables say it.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" | "1" => Ok(true),
        "false" | "no" | "off" | "n" | "f" | "0" => Ok(false),
        _ => Err("expected TRUE or FALSE".to_owned()),
    }
}

fn workers(text: &str) -> Result<u16, String> {
    if text == "auto" {
        return Ok(AUTO_WORKERS);
    }
    let number = text.parse().ok();
    number
        .filter(|number| (1..=MOST_WORKERS).contains(number))
        .ok_or_else(|| format!("expected 1 to {MOST_WORKERS}, or auto"))
}

fn flow_capacity(text: &str) -> Result<u32, String> {
    if text == "auto" {
        return Ok(AUTO_FLOWS);
    }
    let number = text.parse().ok();
    number
        .filter(|number| (16..=MOST_FLOWS).contains(number))
        .ok_or_else(|| format!("expected 16 to {MOST_FLOWS}, or auto"))
}

impl RunArgs {
    /// The replica index and where it comes from: given, or the ordinal of the pod's name
    /// (StatefulSet), or 0.
    pub fn replica(&self) -> (usize, ReplicaSource) {
        match (self.replica, self.pod_name.as_deref()) {
            (Some(given), _) => (given, ReplicaSource::Given),
            (None, Some(name)) => ordinal(name)
                .map_or((0, ReplicaSource::PodWithoutOrdinal), |n| {
                    (n, ReplicaSource::PodName)
                }),
            (None, None) => (0, ReplicaSource::Default),
        }
    }

    /// The MTU the ports shall have, octets.
    pub fn wanted_mtu(&self) -> u16 {
        self.port_mtu
            .unwrap_or(self.default_mtu)
            .max(self.default_mtu)
    }

    /// Where what must outlive the process is kept: beside the config socket.
    pub fn state_directory(&self) -> &Path {
        let beside = self.socket().and_then(|socket| socket.parent());
        let beside = beside.filter(|dir| !dir.as_os_str().is_empty());
        beside.unwrap_or(Path::new("/run/tmm"))
    }

    /// The path of the config socket, if there is to be one.
    pub fn socket(&self) -> Option<&PathBuf> {
        let none =
            self.config_socket.as_os_str().is_empty() || self.config_socket.as_os_str() == "none";
        (!none).then_some(&self.config_socket)
    }
}

/// Where the replica index comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaSource {
    /// `--replica` or `TMM_REPLICA`.
    Given,
    /// The ordinal at the end of `POD_NAME`.
    PodName,
    /// `POD_NAME` is set but ends in no ordinal, as a Deployment's do not.
    PodWithoutOrdinal,
    /// Neither is set.
    Default,
}

impl ReplicaSource {
    /// For the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Given => "as given",
            Self::PodName => "the ordinal at the end of POD_NAME",
            Self::PodWithoutOrdinal => {
                "POD_NAME ends in no ordinal of a StatefulSet; --replica says which"
            }
            Self::Default => "the default; --replica says otherwise",
        }
    }
}

/// The ordinal at the end of the name of a `StatefulSet`'s pod. The random suffix of a Deployment's pod may
/// be all digits too, but has five of them; so no ordinal has more than three.
fn ordinal(pod_name: &str) -> Option<usize> {
    let (_, digits) = pod_name.rsplit_once('-')?;
    // Ordinals are written without leading zeros.
    let plain = digits.bytes().all(|b| b.is_ascii_digit())
        && digits.len() <= 3
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statefulset_pod_has_an_ordinal() {
        assert_eq!(ordinal("tmm-0"), Some(0));
        assert_eq!(ordinal("f5-tmm-12"), Some(12));
        assert_eq!(ordinal("tmm-999"), Some(999));
        for other in [
            "tmm",
            "0",
            "tmm-",
            "tmm-a1",
            "tmm-+1",
            "tmm-00",
            "tmm-01",
            "tmm-1000",
            "tmm-5d4f7c8b9-24567",
            "tmm-5d4f7c8b9-x2k4p",
        ] {
            assert_eq!(ordinal(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_given_comes_before_the_name_of_the_pod() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            run: RunArgs,
        }
        let mut line = Line::try_parse_from(["tmm", "--port", "1.1=null"]).unwrap();
        let mut replica = |given: Option<usize>, pod: Option<&str>| {
            line.run.replica = given;
            line.run.pod_name = pod.map(str::to_owned);
            line.run.replica()
        };
        assert_eq!(replica(Some(2), Some("tmm-1")), (2, ReplicaSource::Given));
        assert_eq!(replica(None, Some("tmm-1")), (1, ReplicaSource::PodName));
        assert_eq!(
            replica(None, Some("tmm-5d4f7c8b9-24567")),
            (0, ReplicaSource::PodWithoutOrdinal)
        );
        assert_eq!(replica(None, None), (0, ReplicaSource::Default));
    }

    #[test]
    fn automatic_numbers_are_told_from_numbers_out_of_range() {
        assert_eq!((workers("auto"), workers("64")), (Ok(AUTO_WORKERS), Ok(64)));
        assert_eq!(flow_capacity("auto"), Ok(AUTO_FLOWS));
        assert_eq!(flow_capacity("16777216"), Ok(MOST_FLOWS));
        for bad in ["0", "65", "-1", "many", ""] {
            assert!(workers(bad).is_err(), "{bad}");
        }
        for bad in ["0", "15", "16777217", "1e6"] {
            assert!(flow_capacity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn yes_and_no_are_read_as_people_write_them() {
        assert_eq!(
            [truth("TRUE"), truth("1"), truth("on")],
            [Ok(true), Ok(true), Ok(true)]
        );
        assert_eq!([truth("False"), truth("0")], [Ok(false), Ok(false)]);
        assert!(truth("maybe").unwrap_err().contains("TRUE or FALSE"));
    }
}
