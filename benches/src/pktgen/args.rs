//! What `tmm-pktgen` can be told on the command line.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use clap::Parser;
use dpdk::PortSpec;
use net::{MacAddr, VlanId};

use super::addresses::AddressRange;
use super::check::Snat;
use super::client::{Order, Swap};
use super::flows::Proto;
use super::mix::{Mix, RFC2544_SIZES};
use super::options::{
    HugepagesArg, MembersArg, ModeArg, OrderArg, ProtoArg, Ramp, SwapArg, percent, port_range, vlan,
};
use super::search::SearchConfig;
use super::session::Timing;
use super::setup::{Mode, Setup, Side};
use super::units::{self, Rate};

/// Sends traffic through a device under test, checks that every frame comes out as it should, and
/// measures rate, loss and latency.
///
/// It plays clients, who send requests to virtual servers, and pool members, who receive them
/// translated and answer. Both sides run on one thread; give it a CPU of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "tmm-pktgen", version, after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of a command line are what they are"
)]
pub struct CommandLine {
    /// Port of the clients' side: af_packet:IFACE, memif:PATH[,role=server], ring:NAME, pcap:IN,OUT,
    /// pci:ADDRESS, net_… (as for `tmm run`)
    #[arg(long, value_name = "SPEC", help_heading = "Ports")]
    pub client: PortSpec,

    /// Port of the servers' side; by default that of the clients'
    #[arg(long, value_name = "SPEC", help_heading = "Ports")]
    pub server: Option<PortSpec>,

    /// VLAN of the clients; untagged if absent
    #[arg(long, value_name = "VID", value_parser = vlan, help_heading = "Ports")]
    pub client_vlan: Option<VlanId>,

    /// VLAN of the servers; untagged if absent
    #[arg(long, value_name = "VID", value_parser = vlan, help_heading = "Ports")]
    pub server_vlan: Option<VlanId>,

    /// MAC address of the clients; by default the port's
    #[arg(long, value_name = "MAC", help_heading = "Ports")]
    pub client_mac: Option<MacAddr>,

    /// MAC address of the servers; by default the port's
    #[arg(long, value_name = "MAC", help_heading = "Ports")]
    pub server_mac: Option<MacAddr>,

    /// The device's address on the clients' side, asked for by ARP or neighbour discovery
    #[arg(long, value_name = "ADDRESS", help_heading = "Ports")]
    pub gateway: Vec<IpAddr>,

    /// The device's MAC address on the clients' side, if nobody is to be asked
    #[arg(long, value_name = "MAC", help_heading = "Ports")]
    pub gateway_mac: Option<MacAddr>,

    /// The device's MAC address on the servers' side, to check requests against
    #[arg(long, value_name = "MAC", help_heading = "Ports")]
    pub server_gateway_mac: Option<MacAddr>,

    /// Our own address on the clients' side, to ask from; by default the first client's
    #[arg(long, value_name = "ADDRESS", help_heading = "Ports")]
    pub client_address: Vec<AddressRange>,

    /// What the device under test does with frames
    #[arg(
        long,
        value_name = "MODE",
        default_value = "balance",
        help_heading = "Traffic"
    )]
    pub mode: ModeArg,

    /// In mode loop: what the device swaps before it sends a frame back
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "none",
        help_heading = "Traffic"
    )]
    pub swap: SwapArg,

    /// Protocol of all flows
    #[arg(
        long,
        value_name = "PROTOCOL",
        default_value = "udp",
        help_heading = "Traffic"
    )]
    pub protocol: ProtoArg,

    /// Send TCP data without opening connections first
    #[arg(long, help_heading = "Traffic")]
    pub no_handshake: bool,

    /// Virtual server to send to, ADDRESS:PORT; may be repeated
    #[arg(
        long = "to",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        required = true,
        help_heading = "Traffic"
    )]
    pub to: Vec<SocketAddr>,

    /// Pool members, ADDRESS:PORT or FIRST-LAST:PORT; may be repeated
    #[arg(long, value_name = "MEMBERS", value_parser = MembersArg::from_str, value_delimiter = ',', help_heading = "Traffic")]
    pub member: Vec<MembersArg>,

    /// Client addresses: a prefix, FIRST-LAST or one; one range per family
    #[arg(
        long,
        value_name = "RANGE",
        value_delimiter = ',',
        required = true,
        help_heading = "Traffic"
    )]
    pub clients: Vec<AddressRange>,

    /// Client ports
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range, default_value = "1024-65535", help_heading = "Traffic")]
    pub client_ports: RangeInclusive<u16>,

    /// What requests come from: none (the clients), any, or the addresses that are translated to
    #[arg(
        long,
        value_name = "ADDRESSES",
        default_value = "none",
        value_delimiter = ',',
        help_heading = "Traffic"
    )]
    pub snat: Vec<String>,

    /// How many flows
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Traffic",
        value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub flows: u32,

    /// In which order flows send
    #[arg(
        long,
        value_name = "ORDER",
        default_value = "sequential",
        help_heading = "Traffic"
    )]
    pub order: OrderArg,

    /// Frame sizes, tested one after the other: octets with tag and check sequence (64 to 9000), imix,
    /// imix:64x7+594x4+1518x1, genome:aaag (RFC 6985), or rfc2544 for its seven
    #[arg(
        long,
        value_name = "SIZES",
        default_value = "64",
        value_delimiter = ',',
        help_heading = "Traffic"
    )]
    pub size: Vec<String>,

    /// How many hops the device takes off; by default 1, and 0 in mode loop
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    pub hops: Option<u8>,

    /// Let a flow change its member or source address without calling it faulty
    #[arg(long, help_heading = "Traffic")]
    pub allow_moves: bool,

    /// Seed of the random order
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Traffic")]
    pub seed: u64,

    /// How fast: frames per second (10kpps, 1.5Mpps), bits per second on the wire (1Gbps), or max
    #[arg(
        long,
        value_name = "RATE",
        default_value = "max",
        help_heading = "Load"
    )]
    pub rate: Rate,

    /// How long each trial sends
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, help_heading = "Load")]
    pub duration: Duration,

    /// Open and close connections (or ask once, with UDP) instead of sending on open flows; --rate is
    /// in connections per second
    #[arg(long, help_heading = "Load")]
    pub connections: bool,

    /// Search the highest rate without loss (RFC 2544 section 26.1), from --rate downwards
    #[arg(long, conflicts_with = "ramp", help_heading = "Load")]
    pub search: bool,

    /// Rise from one rate to another: FROM:TO:STEPS, a trial each
    #[arg(long, value_name = "RAMP", help_heading = "Load")]
    pub ramp: Option<Ramp>,

    /// After a search, trials at these percentages of the rate found
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', requires = "search", help_heading = "Load",
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub loads: Vec<u8>,

    /// How close the search comes, percent of the rate
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent, help_heading = "Load")]
    pub resolution: f64,

    /// Loss that a trial of the search may have, percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, help_heading = "Load")]
    pub tolerance: f64,

    /// How often the search repeats a trial that had loss before it believes it
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    pub retries: u32,

    /// How fast flows are opened, per second
    #[arg(
        long,
        value_name = "RATE",
        default_value = "100kpps",
        help_heading = "Load"
    )]
    pub open_rate: Rate,

    /// How long frames may take to come back after a trial
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration, help_heading = "Load")]
    pub drain: Duration,

    /// Write the report as JSON, to standard output instead of the text or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write pictures of rate, loss and latency (SVG) into this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub plot: Option<PathBuf>,

    /// Show no progress
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,

    /// What is logged: a level or directives such as info,dpdk=debug
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn,dpdk=error",
        help_heading = "Output"
    )]
    pub log: String,

    /// CPU to run on
    #[arg(long, value_name = "CPU", help_heading = "Machine")]
    pub cpu: Option<usize>,

    /// Whether packet memory comes from hugepages
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Machine"
    )]
    pub hugepages: HugepagesArg,

    /// Frames that may be in memory at once; by default what the queues need
    #[arg(long, value_name = "N", help_heading = "Machine",
        value_parser = clap::value_parser!(u32).range(512..=8_388_607))]
    pub mbufs: Option<u32>,

    /// One more argument for DPDK's EAL; may be repeated
    #[arg(
        long = "eal-arg",
        value_name = "ARG",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub eal_args: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  Through `tmm run` on two memif ports, 1000 UDP flows at 100 kpps for 10 s:
    tmm-pktgen --client memif:/run/a.sock,role=server --client-vlan 100 --gateway 192.0.2.1 \\
      --server memif:/run/b.sock,role=server --server-vlan 200 \\
      --clients 192.0.2.10-192.0.2.60 --to 203.0.113.10:80 \\
      --member 198.51.100.11-198.51.100.13:8080 --snat 198.51.100.1 --rate 100kpps

  Highest rate without loss for the seven sizes of RFC 2544, latency at half and at 90 % of it:
    … --size rfc2544 --search --duration 60s --loads 50,90 --json=out.json --plot plots

  New TCP connections per second:
    … --protocol tcp --connections --flows 100000 --rate 20kcps

  The generator by itself, on a loop in memory:
    tmm-pktgen --client ring:a --mode loop --clients 10.0.0.0/16 --to 203.0.113.10:80 --duration 5s

Exit status: 0 all that came back was right, 1 the test could not be run, 2 bad arguments,
3 faulty frames, 4 nothing came back.";

/// The microseconds of the day's clock; they go round after 71 minutes.
fn microseconds() -> u32 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u32::try_from(since.as_micros() & u128::from(u32::MAX)).unwrap_or(0)
}

impl CommandLine {
    /// The mixes of frame sizes, one per run.
    ///
    /// Errors: a size that is none.
    pub fn mixes(&self) -> Result<Vec<Mix>, String> {
        let mut all = Vec::new();
        for size in &self.size {
            if size == "rfc2544" {
                all.extend(RFC2544_SIZES.map(Mix::fixed));
            } else {
                all.push(size.parse()?);
            }
        }
        Ok(all)
    }

    fn translation(&self) -> Result<Snat, String> {
        match self.snat.as_slice() {
            [one] if one == "none" => Ok(Snat::None),
            [one] if one == "any" => Ok(Snat::Any),
            ranges => ranges
                .iter()
                .map(|range| range.parse())
                .collect::<Result<_, String>>()
                .map(Snat::Addresses),
        }
    }

    /// The test for one mix; `macs` are the ports' own stations.
    ///
    /// Errors: arguments that contradict each other.
    pub fn setup(&self, mix: &Mix, macs: [MacAddr; 2]) -> Result<Setup, String> {
        let mode = match (self.mode, self.swap) {
            (ModeArg::Balance, _) => Mode::Balance,
            (ModeArg::OneWay, _) => Mode::OneWay,
            (ModeArg::Loop, SwapArg::None) => Mode::Loop(Swap::None),
            (ModeArg::Loop, SwapArg::Mac) => Mode::Loop(Swap::Mac),
            (ModeArg::Loop, SwapArg::FiveTuple) => Mode::Loop(Swap::FiveTuple),
        };
        if self.mode != ModeArg::Loop && self.swap != SwapArg::None {
            return Err("--swap is for --mode loop".to_owned());
        }
        if self.mode == ModeArg::Loop && self.server.is_some() {
            return Err("in --mode loop frames come back by the port of --client: leave --server out, or use --mode one-way".to_owned());
        }
        if self.connections && self.mode != ModeArg::Balance {
            return Err("--connections needs members who answer: --mode balance".to_owned());
        }
        Ok(Setup {
            mode,
            proto: match self.protocol {
                ProtoArg::Udp => Proto::Udp,
                ProtoArg::Tcp => Proto::Tcp,
            },
            flows: self.flows,
            order: match self.order {
                OrderArg::Sequential => Order::Sequential,
                OrderArg::Random => Order::Random,
            },
            mix: mix.clone(),
            clients: self.clients.clone(),
            client_ports: self.client_ports.clone(),
            virtual_servers: self.to.clone(),
            members: self.member.iter().flat_map(|m| m.0.clone()).collect(),
            snat: self.translation()?,
            hops: self.hops.unwrap_or(u8::from(self.mode != ModeArg::Loop)),
            handshake: !self.no_handshake,
            client: Side {
                mac: self.client_mac.unwrap_or(macs[0]),
                vlan: self.client_vlan,
                gateways: self.gateway.clone(),
                gateway_mac: self.gateway_mac,
                addresses: self.client_address.clone(),
            },
            server: Side {
                mac: self.server_mac.unwrap_or(macs[1]),
                vlan: self.server_vlan,
                gateways: Vec::new(),
                gateway_mac: self.server_gateway_mac,
                addresses: Vec::new(),
            },
            sticky: !self.allow_moves,
            seed: self.seed,
            first_sequence: microseconds(),
        })
    }

    /// How the session goes about things.
    pub fn timing(&self) -> Timing {
        Timing {
            open_rate: self.open_rate.packets_per_second(64.0),
            drain: self.drain,
            ..Timing::default()
        }
    }

    /// How a search goes for frames of this mean size.
    pub fn search_config(&self, mean_size: f64) -> SearchConfig {
        SearchConfig {
            highest: self.rate.packets_per_second(mean_size),
            resolution: (self.resolution / 100.0).max(1e-4),
            tolerance: self.tolerance / 100.0,
            retries: self.retries,
            ..SearchConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Result<CommandLine, clap::Error> {
        let base = [
            "tmm-pktgen",
            "--client=ring:a",
            "--clients=10.0.0.0/16",
            "--to=203.0.113.10:80",
        ];
        CommandLine::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn lists_and_ranges_are_read() {
        let args = args(&[
            "--member=198.51.100.11-198.51.100.13:8080,[2001:db8::1]:80",
            "--snat=198.51.100.1,2001:db8::5",
            "--size=rfc2544,imix,imix:64x1+1518x1",
            "--ramp=10kpps:100kpps:10",
        ])
        .unwrap();
        assert_eq!(args.mixes().unwrap().len(), 9);
        let setup = args.setup(&Mix::fixed(64), [MacAddr::ZERO; 2]).unwrap();
        assert_eq!(setup.members.len(), 4);
        assert!(setup.snat.allows("198.51.100.1".parse().unwrap()));
        assert!(!setup.snat.allows("198.51.100.2".parse().unwrap()));
        let rates = args.ramp.unwrap().rates(64.0);
        assert_eq!((rates.len(), rates[0]), (10, 10e3));
        assert!((rates[9] - 100e3).abs() < 1e-6);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "--rate=fast",
            "--client-vlan=4095",
            "--client-ports=0-10",
            "--ramp=1:2",
            "--ramp=1kpps:max:4",
            "--loads=50",
            "--loads=0",
            "--flows=0",
            "--duration=1y",
            "--resolution=99",
            "--member=198.51.100.11",
        ] {
            assert!(args(&[bad]).is_err(), "{bad}");
        }
        let refused = |more: &[&str]| {
            let args = args(more).unwrap();
            args.setup(&Mix::fixed(64), [MacAddr::ZERO; 2]).unwrap_err()
        };
        assert!(refused(&["--swap=mac"]).contains("loop"));
        assert!(refused(&["--mode=loop", "--server=ring:b"]).contains("one-way"));
        assert!(refused(&["--mode=one-way", "--connections"]).contains("answer"));
        assert!(args(&["--size=12"]).unwrap().mixes().is_err());
    }
}
