//! The values that options take, as they are written.

use std::str::FromStr;

use clap::ValueEnum;
use dpdk::PortSpec;
use net::PortId;

use crate::compile::parse_interface;

/// One `--port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortArg {
    /// Which port.
    pub id: PortId,
    /// What it is.
    pub spec: PortSpec,
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, spec) = text
            .split_once('=')
            .ok_or_else(|| "expected PORT=SPEC, such as 1.1=af_packet:eth1".to_owned())?;
        let id = parse_interface(name.trim())
            .ok_or_else(|| format!("\"{name}\" is not a port: they are 1.1, 1.2, … 1.255"))?;
        if spec.contains(",1.") || spec.contains(" 1.") {
            return Err(
                "several ports are separated by \";\", or given with --port each".to_owned(),
            );
        }
        let spec = spec
            .parse()
            .map_err(|error: dpdk::SpecError| error.to_string())?;
        Ok(Self { id, spec })
    }
}

/// A port and the worker that polls it before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortWorker {
    /// The port.
    pub port: PortId,
    /// The worker's number.
    pub worker: u16,
}

impl FromStr for PortWorker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let both = text.split_once('=');
        let read = both.and_then(|(port, worker)| {
            let worker = worker.trim().parse().ok()?;
            parse_interface(port.trim()).map(|port| Self { port, worker })
        });
        read.ok_or_else(|| "expected PORT=WORKER, such as 1.1=0".to_owned())
    }
}

/// Permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
        let mode = mode.filter(|mode| *mode <= 0o777);
        mode.map(Self)
            .ok_or_else(|| "expected permissions in octal, such as 0600".to_owned())
    }
}

/// A list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < 4096);
            let range = match part.split_once('-') {
                Some((from, to)) => number(from).zip(number(to)),
                None => number(part).map(|cpu| (cpu, cpu)),
            };
            let (from, to) = range
                .filter(|(from, to)| from <= to)
                .ok_or_else(|| format!("\"{part}\" is neither a CPU nor a range of CPUs"))?;
            // One that is there twice is one CPU all the same.
            for cpu in from..=to {
                if !cpus.contains(&cpu) {
                    cpus.push(cpu);
                }
            }
        }
        if cpus.is_empty() {
            Err("no CPU in the list".to_owned())
        } else {
            Ok(Self(cpus))
        }
    }
}

/// How the pod's interfaces are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InterfaceDriver {
    /// The fastest that loses nothing
    Auto,
    /// AF_XDP: faster, but does not see tags that the kernel keeps beside a frame
    #[value(name = "af_xdp")]
    AfXdp,
    /// Packet sockets
    #[value(name = "af_packet")]
    AfPacket,
}

/// Whether packet memory comes from hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hugepages {
    /// If enough of them are free
    Auto,
    /// Never
    Never,
    /// Or the start fails
    Required,
}

/// What an idle worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Waits for frames, where the port's driver tells of them, else sleeps: next to no CPU
    Adaptive,
    /// Sleeps for some microseconds at a time
    Sleep,
    /// Always polls: the lowest latency, and a whole CPU
    Spin,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Human,
    /// One JSON object per line
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_their_specification() {
        let port: PortArg = "1.2=af_packet:eth1".parse().unwrap();
        assert_eq!(port.id, PortId(1));
        for bad in [
            "eth1",
            "2.1=null",
            "1.0=null",
            "1.256=null",
            "1.1=nonsense:x",
        ] {
            assert!(bad.parse::<PortArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!("0,2-4".parse(), Ok(CpuList(vec![0, 2, 3, 4])));
        assert_eq!("3,0-3,0".parse(), Ok(CpuList(vec![3, 0, 1, 2])));
        for bad in ["", "a", "3-1", "1-", "99999"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn socket_modes_are_octal() {
        assert_eq!("0600".parse(), Ok(Mode(0o600)));
        assert_eq!("660".parse(), Ok(Mode(0o660)));
        assert!("0o1777".parse::<Mode>().is_err());
        assert!("rw".parse::<Mode>().is_err());
    }
}
