//! What can be said of the export on the command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exporter::{LASTING_OCTETS, Options};
use crate::journal::Journal;

/// The port of collectors (IANA "ipfix").
const PORT: u16 = 4739;
/// What UDP and IPv6 put around a message, octets.
const AROUND: u16 = 48;
/// The most flows of which is remembered what was told of them while they last.
const LASTING: usize = 262_144;

/// Where records of flows are sent, and which.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Accounting")]
pub struct IpfixArgs {
    /// Sends records of flows to an IPFIX collector, by UDP; the port is 4739 if none is given
    #[arg(long = "ipfix", env = "TMM_IPFIX", value_name = "HOST[:PORT]")]
    pub collector: Option<Collector>,

    /// Which records: flows (what passed, when a flow ends or lasts), events (a flow or its translation begins or
    /// ends, or is refused)
    #[arg(
        long = "ipfix-records",
        env = "TMM_IPFIX_RECORDS",
        value_name = "KIND,…",
        value_delimiter = ',',
        default_values = ["flows", "events"]
    )]
    pub records: Vec<RecordKind>,

    /// The observation domain; by default the replica's index and one
    #[arg(long = "ipfix-domain", env = "TMM_IPFIX_DOMAIN", value_name = "N")]
    pub domain: Option<u32>,

    /// How often a flow that lasts is told of, in seconds; 0 only when it ends
    #[arg(long = "ipfix-active-timeout", env = "TMM_IPFIX_ACTIVE_TIMEOUT", value_name = "SECONDS",
        default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub active_timeout: u32,

    /// How often templates are repeated, in seconds
    #[arg(long = "ipfix-template-refresh", env = "TMM_IPFIX_TEMPLATE_REFRESH", value_name = "SECONDS",
        default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub template_refresh: u32,

    /// The MTU towards the collector, octets: no packet of records is larger
    #[arg(long = "ipfix-mtu", env = "TMM_IPFIX_MTU", value_name = "OCTETS",
        default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..=9000))]
    pub mtu: u16,
}

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordKind {
    /// What passed
    Flows,
    /// What happened
    Events,
}

/// A collector as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected HOST or HOST:PORT, such as 192.0.2.9:4739 or [2001:db8::9]:4739";
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        } else if text.matches(':').count() > 1 {
            (text, None)
        } else {
            text.split_once(':')
                .map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| wrong())?;
        if host.is_empty() || port == 0 {
            return Err(wrong().to_owned());
        }
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

impl Collector {
    /// Its address.
    ///
    /// Errors: why there is none, and what to do.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let Self { host, port } = self;
        let said = |why: String| {
            format!("--ipfix {host}: {why}: check the name, or give the collector's address")
        };
        let mut found = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| said(error.to_string()))?;
        found.next().ok_or_else(|| said("no address".to_owned()))
    }
}

impl IpfixArgs {
    /// How often workers tell of flows that last.
    pub const fn active_timeout(&self) -> Duration {
        Duration::from_secs(self.active_timeout as u64)
    }

    /// What the exporter is told.
    pub fn options(&self, replica: usize) -> Options {
        let of_replica = u32::try_from(replica).unwrap_or(0).saturating_add(1);
        Options {
            domain: self.domain.unwrap_or(of_replica),
            message_octets: usize::from(self.mtu - AROUND),
            template_refresh: Duration::from_secs(u64::from(self.template_refresh)),
            flows: self.records.contains(&RecordKind::Flows),
            events: self.records.contains(&RecordKind::Events),
            lasting: LASTING,
        }
    }

    /// Memory that it takes with so many workers and flows, octets.
    pub fn octets(&self, workers: u16, flows: u32) -> u64 {
        if self.collector.is_none() {
            return 0;
        }
        let lasting = if self.active_timeout == 0 { 0 } else { LASTING };
        let lasting = lasting.min(usize::try_from(flows).unwrap_or(usize::MAX));
        (Journal::octets() * usize::from(workers) + lasting * LASTING_OCTETS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_with_or_without_a_port() {
        for (text, host, port) in [
            ("192.0.2.9", "192.0.2.9", 4739),
            ("192.0.2.9:2055", "192.0.2.9", 2055),
            ("collector.example:9995", "collector.example", 9995),
            ("2001:db8::9", "2001:db8::9", 4739),
            ("[2001:db8::9]", "2001:db8::9", 4739),
            ("[2001:db8::9]:2055", "2001:db8::9", 2055),
        ] {
            let expected = Collector {
                host: host.to_owned(),
                port,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            ":4739",
            "host:",
            "host:port",
            "host:0",
            "[::1",
            "host:70000",
        ] {
            let error = bad.parse::<Collector>().unwrap_err();
            assert!(error.contains("HOST:PORT"), "{bad}");
        }
        let nobody: Collector = "nobody.invalid".parse().unwrap();
        assert!(nobody.resolve().unwrap_err().contains("check the name"));
        let own: Collector = "::1".parse().unwrap();
        assert_eq!(own.resolve().unwrap().to_string(), "[::1]:4739");
    }
}
